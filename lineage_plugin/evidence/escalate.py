"""Looking further where the stored order shows nothing: layers, channels, units, basis.

Each stage runs only if the ones before did not decide, and each undoes more: layers that moved; the channels of the
residual stream, compared by themselves; units that were relabelled; a stream that was permuted or rotated. Every stage
searches only among what the symmetry behind its coins does not change, so each stage's e-value is valid by itself. They
look at the same weights, so they are not multiplied: the evidence is their *weighted average*, with weights fixed
before any weight is read, which is an e-value under any dependence (Vovk & Wang 2021, doi:10.1214/20-AOS2020). A stage
that does not run counts as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lineage_plugin.errors import BudgetExceeded
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.facts import KIND_NAMES, SILENT_COINS, facts_of, is_silent, silent_kinds
from lineage_plugin.evidence.frame import Frame, frame_of
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.matched import calibrate_stage, values_are_mixed
from lineage_plugin.evidence.models import Models
from lineage_plugin.evidence.pair import NO_COINS, GroupCoins, LayerCoins, PairEvidence, StageCoins
from lineage_plugin.evidence.pairing import kind
from lineage_plugin.evidence.stage_layers import LayerStage, align_by_layer
from lineage_plugin.evidence.stage_stream import find_basis, shared_tokens, toss_channels
from lineage_plugin.evidence.stage_units import UnitStage, align_by_unit, matching_bytes
from lineage_plugin.evidence.tally import Tally
from lineage_plugin.options import Options, Progress
from lineage_plugin.tokens import TokenMatch

__all__ = ["LOUD", "NEAR", "WEIGHTS", "escalate", "identity_weight", "stage_weights"]

_T = TypeVar("_T")

WEIGHTS: Mapping[str, float] = {"identity": 0.9, "layers": 0.04, "channels": 0.02, "units": 0.02, "basis": 0.02}
"""Weight of each stage in the average: what is usual costs least."""
REMOTE_BYTES = 8 << 20
"""Bytes of a model on the Hub that one stage that needs whole matrices may read without being asked to."""
LOUD = 3.0
"""``log10 E`` from which the coins of a kind are loud; below 0 they are silent."""
NEAR = 0.2
"""Median cosine of the layers below which a pairing hardly describes what is shared, and others are looked for."""
ALIKE = 0.5
"""Mean cosine of matched units from which signs at chance mean that they were flipped."""
MOVED = 0.1
"""Share of neighbours that changed their order from which units count as re-ordered."""


def escalate(
    models: Models,
    identity: PairEvidence,
    tally: Tally | None,
    options: Options,
    progress: Progress | None = None,
) -> PairEvidence:
    """Run the stages that are needed, and weigh what all of them have shown.

    Args:
        models: Suspect and base.
        identity: What the stored order has shown.
        tally: The tally of the stored order; None where nothing could be compared.
        options: Bar, seed, budget, exhaustiveness.
        progress: Called while a stage works.

    Returns:
        The evidence, its e-value the weighted average, described by the pairing that explains most.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    run = _Run(models, options, progress, identity, tally)
    if not models.exact:
        return run.result()
    if not run.dependent or _has_gaps(identity):
        run.layers()
    if not run.settled or silent_kinds(run.best):
        run.channels()
        run.units()
    if not run.settled:
        run.basis()
    return run.result()


def _has_gaps(found: PairEvidence) -> bool:
    """Whether the stored order leaves layers unexplained."""
    silent = any(is_silent(row) for row in found.layers)
    return silent or (found.mismatch or "").startswith("depth")


def _explains(found: PairEvidence) -> tuple[int, float]:
    """Return how many layers of the suspect show the base, and how loud the coins are."""
    return sum(row.cosine >= NEAR for row in found.layers), found.log10_e


@dataclass(eq=False)
class _Run:
    """The stages that ran so far."""

    models: Models
    options: Options
    progress: Progress | None
    best: PairEvidence
    tally: Tally | None
    stages: list[StageCoins] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    shape: tuple[LayerStage | UnitStage, Frame | None] | None = None
    matched: tuple[UnitStage, Frame | None] | None = None
    stream: tuple[float, CoinCount, tuple[GroupCoins, ...]] | None = None
    tokens: TokenMatch | None = None
    looked_up: bool = False
    cut_short: bool = False

    def __post_init__(self) -> None:
        self._identity = self.best
        self._weights = _weights(self.models, bool(self.best.count.coins))
        if self.best.count.coins:
            self._add("identity", self.best.count, self.best.log10_e)

    @property
    def log10_e(self) -> float:
        """The weighted average so far."""
        tossed = [stage for stage in self.stages if stage.count.coins]
        return log10_mean([s.log10_e for s in tossed], [s.weight for s in tossed]) if tossed else 0.0

    @property
    def dependent(self) -> bool:
        """Whether the coins reach the bar."""
        return self.log10_e >= self.options.bar

    @property
    def settled(self) -> bool:
        """Whether a pairing was found that describes what is shared."""
        near = sorted(row.cosine for row in self.best.layers)
        loud = self.dependent and self.best.log10_e >= self.options.bar
        # Groups of a few units can be loud together with none of them large enough to be described: then no row is.
        return loud and bool(near) and near[len(near) // 2] >= NEAR

    def layers(self) -> None:
        """Align layers in the stored order of the units."""
        self._report("aligning layers")
        found = self._try(lambda: align_by_layer(self.models, self.options))
        if found is not None:
            self._take(found, None, "layers")

    def channels(self) -> None:
        """Toss the coins of the channels of the residual stream."""
        self._report("comparing channels")
        tokens = self._tokens()
        if tokens is None:
            return
        ways = self._try(lambda: toss_channels(self.models, tokens, self.options)) or ()
        for way in ways:
            if way.count.coins or len(ways) == 1:
                kinds = tuple(
                    GroupCoins(f"stream {toss.kind}", toss.count, log10_e_value(toss.count.heads, toss.count.coins))
                    for toss in way.tosses()
                )
                self._add("channels", way.count, way.log10_e, 1 / len(ways))
                if self.stream is None or way.log10_e > self.stream[0]:
                    self.stream = (way.log10_e, way.count, kinds)

    def units(self) -> None:
        """Match units in the stored basis."""
        if not self._affordable(matching_bytes(self.models), "Relabelled units were not looked for"):
            return
        found = self._try(lambda: align_by_unit(self.models, self.options, None, self._counter("matching units")))
        if found is not None:
            self._take(found, None, "units")

    def basis(self) -> None:
        """Recover the basis of the residual stream, and look at layers and units in it."""
        streams = (self.models.suspect_anatomy.stream, self.models.base_anatomy.stream)
        if streams[0] is None or streams[1] is None:
            return
        need = 3 * max(stream.width for stream in streams if stream is not None) ** 2
        if not self._affordable(need, "A changed basis of the residual stream was not looked for"):
            return
        self._report("recovering the basis")
        tokens = self._tokens()
        if tokens is None:
            return
        basis = self._try(lambda: find_basis(self.models, tokens, self.options))
        if basis is None or basis.kind == "identity":
            return
        frame = self._try(lambda: frame_of(basis, self.models.sides))
        if frame is None:
            return
        self._report("aligning layers")
        layers = self._try(lambda: align_by_layer(self.models, self.options, frame))
        if layers is not None:
            self._take(layers, frame, "basis", 0.5)
        if not self.settled and self._affordable(matching_bytes(self.models), "Relabelled units were not looked for"):
            count = self._counter("matching units")
            units = self._try(lambda: align_by_unit(self.models, self.options, frame, count))
            if units is not None:
                self._take(units, frame, "basis", 0.5)

    def result(self) -> PairEvidence:
        """Weigh all stages and describe what is shared."""
        dependent, calibrated = self.dependent, None
        if self.matched is not None and not self.settled:
            matched, frame = self.matched
            calibrated = self._try(
                lambda: calibrate_stage(self.models, matched, frame, self.options, self._counter("comparing units"))
            )
        claimed = dependent or (calibrated is not None and calibrated.log10_calibrated >= self.options.bar)
        best = self.best
        if claimed and best.log10_e < self.options.bar and self.matched is not None:
            # Channels or calibrated evidence made the claim; matched units show what is shared.
            self.shape = self.matched
        tally = self.tally
        if claimed and self.shape is not None:
            stage, frame = self.shape
            best, tally = self._described(stage), stage.tally
            self.relabelled.extend(_relabelled(stage, frame, best))
        elif claimed:
            self.relabelled.extend(_flipped(best))
        if claimed:
            self.relabelled.extend(
                f"{KIND_NAMES[name]} were rescaled" for name in sorted(tally.rescaled if tally else ())
            )
            self.relabelled.extend(self._mixed(best))
        kinds = silent_kinds(best)
        loud = self.stream is not None and self.stream[0] >= self.options.bar
        if dependent and self.stream is not None and loud and best.log10_e < self.options.bar:
            # The claim is that of the channels, so theirs are the coins that are shown.
            best = replace(best, count=self.stream[1], groups=self.stream[2])
        alike = bool(best.layers) and any(row.base is not None and row.cosine >= NEAR for row in best.layers)
        best = replace(
            best,
            log10_e=self.log10_e if self.stages else best.log10_e,
            exact=best.exact and (dependent or not claimed),
            mismatch=self._identity.mismatch,
            complete=self._identity.complete or best.complete,
            stages=tuple(self.stages),
            relabelled=tuple(dict.fromkeys(self.relabelled)) if claimed else (),
            calibrated=calibrated,
            embeddings_only=dependent
            and loud
            and not alike
            and self._identity.complete
            and self._identity.log10_e < LOUD,
            cut_short=self._identity.cut_short or self.cut_short,
            limits=tuple(dict.fromkeys((*self._identity.limits, *best.limits, *self.skipped, *self._left_out(best)))),
        )
        if not claimed:
            return best
        return replace(best, facts=facts_of(self.models, best, kinds, tally.stored if tally else ()))

    def _left_out(self, found: PairEvidence) -> list[str]:
        """Say which kinds of unit both models have that were not compared."""
        both = [{kind(group) for group in anatomy.groups} for _, anatomy in self.models.sides]
        compared = {group.name.rsplit(" ", 1)[0] for group in (*found.groups, *self._identity.groups)}
        compared |= {"mlp"} if "experts" in compared else set()
        missing = [KIND_NAMES[name] for name in ("mlp", "value") if name in both[0] & both[1] and name not in compared]
        if not missing or not self.models.exact:
            return []
        why = f" ({self._identity.mismatch})" if self._identity.mismatch else ""
        return [f"Not compared: {' and '.join(missing)}{why}."]

    def _mixed(self, found: PairEvidence) -> list[str]:
        """Say whether value channels that share nothing one by one do the same head by head."""
        if "value" not in silent_kinds(found):
            return []
        frame = self.shape[1] if self.shape is not None else None
        pairs = [(row.suspect, row.base) for row in found.layers if row.base is not None and row.cosine >= NEAR]
        stage = self.matched[0] if self.matched is not None else None
        near = 0.0 if stage is None else stage.nearness.get("value", 0.0)
        mixed = self._try(lambda: values_are_mixed(self.models, pairs[:4], frame, near))
        return ["value channels were mixed inside their heads"] if mixed else []

    def _take(self, stage: LayerStage | UnitStage, frame: Frame | None, name: str, share: float = 1.0) -> None:
        """Weigh a stage, and let it describe the pair if it explains more than the ones before."""
        evidence = stage.tally.evidence(self.options, complete=True, describe=False)
        self._add(name, evidence.count, evidence.log10_e, share)
        if isinstance(stage, UnitStage) and stage.samples:
            self.matched = (stage, frame)
        if evidence.log10_e >= self.options.bar and _explains(evidence) > _explains(self.best):
            self.best, self.shape = evidence, (stage, frame)

    def _described(self, stage: LayerStage | UnitStage) -> PairEvidence:
        found = stage.tally.evidence(self.options, complete=True, describe=True)
        layers = found.layers
        if stage.layers is not None:
            known = {row.suspect for row in layers}
            alone = (str(stage.suspect_layers[i]) for i in stage.layers.inserted)
            layers += tuple(LayerCoins(layer, None, NO_COINS, 0.0) for layer in alone if layer not in known)
            layers = tuple(sorted(layers, key=lambda row: int(row.suspect)))
        moved = None if stage.layers is None or stage.layers.identity else stage.layers
        return replace(found, layers=layers, layer_map=moved, limits=stage.tally.limits())

    def _add(self, name: str, count: CoinCount, log10_e: float, share: float = 1.0) -> None:
        self.stages.append(StageCoins(name, self._weights[name] * share, count, log10_e))

    def _tokens(self) -> TokenMatch | None:
        """Return the tokens that both models have, looked up once."""
        if not self.looked_up:
            self.looked_up = True
            self.tokens = self._try(lambda: shared_tokens(self.models, exhaustive=self.options.exhaustive))
            if self.tokens is None and all(anatomy.stream for _, anatomy in self.models.sides):
                self.skipped.append(
                    "The residual streams were not compared: the tokenizers differ, and are read over the Hub with "
                    "--exhaustive only."
                )
        return self.tokens

    def _affordable(self, need: int, skipped: str) -> bool:
        """Whether a stage may read so many bytes of each model; if not, say so."""
        budget = self.options.budget
        if budget is not None:
            allowed = self.models.spent + need <= budget
        else:
            allowed = self.models.local or self.options.exhaustive or need <= REMOTE_BYTES
        if not allowed:
            megabytes = max(need / 1e6, 0.1)
            self.skipped.append(
                f"{skipped}: that would read about {megabytes:.1f} MB of each model (allow more with --budget)."
            )
        return allowed

    def _try(self, step: Callable[[], _T | None]) -> _T | None:
        """Run a step of a stage; a budget that ends leaves the stage out."""
        try:
            return step()
        except BudgetExceeded:
            self.cut_short = True
            return None

    def _report(self, what: str) -> None:
        if self.progress is not None:
            self.progress(what, 0, 1)

    def _counter(self, what: str) -> Callable[[int, int], None] | None:
        progress = self.progress
        return None if progress is None else (lambda done, total: progress(what, done, total))


def identity_weight(models: Models) -> float:
    """Return the weight of what is compared in the stored order."""
    return _weights(models, True)["identity"]


def _weights(models: Models, identity: bool) -> dict[str, float]:
    streams = (models.suspect_anatomy.stream, models.base_anatomy.stream)
    return stage_weights(identity=identity, exact=models.exact, streams=None not in streams)


def stage_weights(*, identity: bool, exact: bool, streams: bool) -> dict[str, float]:
    """Return the weights of the stages that the structure of two models allows; nothing read from weights enters.

    Args:
        identity: Whether units are compared in the stored order.
        exact: Whether both graphs are known.
        streams: Whether both residual streams are.

    Returns:
        Weights that sum to one.
    """
    allowed = {"identity"} if identity else set()
    if exact:
        allowed |= {"layers", "units"}
        if streams:
            allowed |= {"channels", "basis"}
    total = sum(WEIGHTS[name] for name in allowed)
    return {name: WEIGHTS[name] / total for name in allowed}


def _flipped(found: PairEvidence) -> list[str]:
    """Say which units had their signs redrawn: exchanging them shows dependence, their signs nothing."""
    values = {group.name: group for group in found.groups}
    said = []
    for name, what in KIND_NAMES.items():
        swap, sign = values.get(f"{name} swap"), values.get(f"{name} sign")
        if swap is None or sign is None or sign.count.coins < SILENT_COINS:
            continue
        if swap.log10_e >= LOUD and sign.log10_e < 0:
            said.append(f"the signs of {what} were flipped")
    return said


def _relabelled(stage: LayerStage | UnitStage, frame: Frame | None, found: PairEvidence) -> list[str]:
    said = [] if frame is None else [frame.basis.describe()]
    if isinstance(stage, UnitStage):
        said += [f"{KIND_NAMES[name]} stand in another order" for name, share in stage.moved.items() if share > MOVED]
        signs = {group.name: group for group in found.groups}
        for name, near in stage.nearness.items():
            sign = signs.get(f"{name} sign")
            if sign is not None and sign.count.coins >= SILENT_COINS and sign.log10_e < 0 and near >= ALIKE:
                said.append(f"the signs of {KIND_NAMES[name]} were flipped")
    return said + _flipped(found)
