"""The values that the evidence about a pair of models is made of."""

from __future__ import annotations

from dataclasses import dataclass

from lineage_plugin.evidence.calibrated import Calibrated
from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.inheritance import Descent
from lineage_plugin.evidence.layers import LayerMap
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.traits import Facts

__all__ = ["NO_COINS", "GroupCoins", "LayerCoins", "PairEvidence", "StageCoins"]


@dataclass(frozen=True, slots=True)
class GroupCoins:
    """Coins of one kind, such as ``mlp swap``."""

    name: str
    count: CoinCount
    log10_e: float


@dataclass(frozen=True, slots=True)
class LayerCoins:
    """Coins and cosine of one layer of the suspect.

    Attributes:
        suspect: The suspect's layer.
        base: The base's layer it was set against; None when there is none.
        count: Coins of the base's layer; counted at the first layer of the suspect that it was set against.
        cosine: Cosine of the pair differences.
    """

    suspect: str
    base: str | None
    count: CoinCount
    cosine: float


@dataclass(frozen=True, slots=True)
class StageCoins:
    """What one stage of the escalation contributes to the weighted average of e-values.

    Attributes:
        name: ``identity``, ``layers``, ``channels``, ``units`` or ``basis``.
        weight: Its weight; the weights of all stages that could run sum to one.
        count: Coins and heads.
        log10_e: Decimal logarithm of the stage's own e-value.
    """

    name: str
    weight: float
    count: CoinCount
    log10_e: float


NO_COINS = CoinCount()
UNKNOWN = MatrixEffect(None, None, None)
NO_DESCENT = Descent()


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """What reading two models has shown.

    Attributes:
        log10_e: Decimal logarithm of the e-value of all coins: the weighted average over the stages.
        count: Coins and heads of the pairing that the other numbers describe.
        exact: Whether the coins are jointly fair under the null by symmetry alone.
        groups: The coins by kind.
        layers: The coins by layer.
        kept: Coefficient of the suspect on the base.
        reverse: Coefficient of the base on the suspect.
        descent: Slope and curve with the base in the place of the ancestor; unknown below the bar.
        ascent: The same with the suspect in that place.
        direction: Indication of who came first.
        mismatch: How the structures differ, or None.
        complete: Whether every layer was read.
        cut_short: Whether the byte budget ended before the answer stood.
        equal: Whether every value read is the same in both models.
        limits: Plain sentences about what was assumed, merged or left out.
        stages: What each stage of the escalation contributed; empty before the first ended.
        layer_map: Which layer became which; None when the layers correspond by number.
        relabelled: How units or channels were relabelled or transformed, as far as it was undone: plain phrases.
        calibrated: Evidence that is not exact, for models whose labels have all been redrawn; None when not needed.
        embeddings_only: Whether the coins of the residual stream made the claim and no unit shows a trace.
        facts: What decides the kind of derivation; None when nothing is shared.
    """

    log10_e: float = 0.0
    count: CoinCount = NO_COINS
    exact: bool = True
    groups: tuple[GroupCoins, ...] = ()
    layers: tuple[LayerCoins, ...] = ()
    kept: MatrixEffect = UNKNOWN
    reverse: MatrixEffect = UNKNOWN
    descent: Descent = NO_DESCENT
    ascent: Descent = NO_DESCENT
    direction: str = "unclear"
    mismatch: str | None = None
    complete: bool = False
    cut_short: bool = False
    equal: bool = False
    limits: tuple[str, ...] = ()
    stages: tuple[StageCoins, ...] = ()
    layer_map: LayerMap | None = None
    relabelled: tuple[str, ...] = ()
    calibrated: Calibrated | None = None
    embeddings_only: bool = False
    facts: Facts | None = None
