"""DoRA magnitudes: the one part of an adapter that does carry a proof of its base.

DoRA (Liu et al. 2024, arXiv:2402.09353) keeps a magnitude for each output channel. It starts as the norm of the row of
the base's weight and is trained on from there. Units of the base may change places, and nothing of an adapter trained
on an independent model knows their labels, so for two exchangeable rows i, j with norms n of the base

    D = (m_i - m_j) (n_i - n_j)

is negated when i and j change places in the base: a fair coin under independence (``docs/method.md``), and heads where
the magnitudes are the norms, little changed. A unit's rows in several weights (gate and up) are one unit: their D are
added up and tossed once, since one exchange moves them all. Units of different groups have coins of their own.

Heads say that the adapter depends on this base or on a relative; how closely the magnitudes follow tells which. The
spread of a trained model's norms is mostly learned. Correlation of the logarithms of row norms, measured on pairs of
small trained models in seven layouts: base and child 0.77 to 0.97 (11 pairs), twins of one seed 0.00 to 0.54 (12, the
largest in GPT-2 and Llama layout), models of independent origin -0.03 to 0.04 (9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.adapters.fits import weight_of
from lineage_plugin.adapters.modules import AdaptedModule, parts_of
from lineage_plugin.adapters.settings import AdapterSettings
from lineage_plugin.anatomy.types import Anatomy, UnitGroup
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.evidence.coins import draw_pairs
from lineage_plugin.evidence.evalue import log10_e_value

__all__ = ["FOLLOWS", "NO_COINS", "MagnitudeCoins", "magnitude_coins"]

Float64Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

FOLLOWS = 0.65
"""Correlation that the whole interval must exceed for descent: between the measured twins and children."""
MOST_PAIRS = 32
"""Pairs of a group: each costs two whole rows of the base."""
HUB_PAIRS = 8
"""The same over the Hub, neighbours in the file."""
MOST_GROUPS = 64
"""Groups that are looked at, spread over the depth."""
ENOUGH = 512
"""Coins after which no more rows are read."""


@dataclass(frozen=True, slots=True)
class MagnitudeCoins:
    """Coins of DoRA magnitudes against the norms of the base's rows.

    Attributes:
        coins: Number of coins.
        heads: Number of heads.
        log10_e: Decimal logarithm of the e-value.
        ratio: Median magnitude over norm: 1 where the magnitudes never moved; None without coins.
        correlation: Correlation of the logarithms of magnitude and norm inside groups; None without coins.
        low: Lower end of its 95% interval (Fisher's transformation, one degree of freedom a unit).
        high: Upper end.
        groups: Groups of units that were looked at.
    """

    coins: int = 0
    heads: int = 0
    log10_e: float = 0.0
    ratio: float | None = None
    correlation: float | None = None
    low: float | None = None
    high: float | None = None
    groups: int = 0


NO_COINS = MagnitudeCoins()


def magnitude_coins(
    adapter: Checkpoint, settings: AdapterSettings, base: Checkpoint, anatomy: Anatomy, *, seed: int = 0
) -> MagnitudeCoins:
    """Toss the coins of an adapter's magnitudes.

    Args:
        adapter: The adapter.
        settings: Its configuration.
        base: The base.
        anatomy: The base's anatomy; its graph must be known.
        seed: Seed of the draw of pairs.

    Returns:
        The coins; none when the adapter keeps no magnitudes of exchangeable rows.

    Raises:
        InputError: When a file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    found = _magnitudes(adapter, settings, base)
    if not found or not anatomy.exact:
        return NO_COINS
    groups = [(group, roles) for group in anatomy.groups if (roles := _rows_with(group, found))]
    groups = groups[:: max(1, -(-len(groups) // MOST_GROUPS))]
    coins = heads = done = units = 0
    rows: list[Float64Array] = []
    for group, roles in groups:
        if coins >= ENOUGH:
            break
        statistic, logs = _statistics(adapter, base, found, group, roles, seed)
        usable = np.isfinite(statistic) & (statistic != 0)
        coins, heads, done = coins + int(usable.sum()), heads + int((statistic[usable] > 0).sum()), done + 1
        units += 2 * int(usable.sum())
        rows.extend(logs)
    if not coins:
        return NO_COINS
    size, norm = np.concatenate([pair[0] for pair in rows]), np.concatenate([pair[1] for pair in rows])
    centred = [pair - pair.mean(axis=1, keepdims=True) for pair in rows if pair.shape[1]]
    x, y = np.concatenate(centred, axis=1)
    energy = float(np.sqrt((x * x).sum() * (y * y).sum()))
    correlation = float((x * y).sum()) / energy if energy > 0 else 0.0
    z, half = np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12)), 1.96 / np.sqrt(max(units - 3 - done, 1))
    return MagnitudeCoins(
        coins,
        heads,
        log10_e_value(heads, coins),
        float(np.exp(np.median(size - norm))),
        correlation,
        float(np.tanh(z - half)),
        float(np.tanh(z + half)),
        done,
    )


def _magnitudes(adapter: Checkpoint, settings: AdapterSettings, base: Checkpoint) -> dict[str, AdaptedModule]:
    """Return the modules with a magnitude for each row of a weight of the base, by that weight."""
    found = {}
    for module in parts_of(adapter.tensors).modules:
        magnitude = module.parts.get("lora_magnitude_vector")
        if magnitude is None or module.embedding or settings.transposed or settings.replication:
            continue
        info = weight_of(module, settings, base.tensors)
        if info is not None and len(info.shape) == 2 and magnitude.size == info.shape[0]:
            found[info.name] = module
    return found


def _rows_with(group: UnitGroup, found: dict[str, AdaptedModule]) -> tuple[str, ...]:
    """Return the roles of a group whose units are whole rows that have a magnitude."""
    if not group.swap:
        return ()
    return tuple(
        vectors.role
        for vectors in group.vectors
        if vectors.axis == 0 and vectors.span is None and vectors.index.shape[1] == 1 and vectors.tensor in found
    )


def _statistics(
    adapter: Checkpoint,
    base: Checkpoint,
    found: dict[str, AdaptedModule],
    group: UnitGroup,
    roles: Sequence[str],
    seed: int,
) -> tuple[Float64Array, list[Float64Array]]:
    """Return D for each pair of units, and for each role ``[2, rows]`` logarithms of magnitudes and norms."""
    local = base.local and adapter.local
    pairs = draw_pairs(group.block, [seed & 0xFFFFFFFF, 0xD0, group.units])[: MOST_PAIRS if local else HUB_PAIRS]
    units = np.unique(pairs)
    at = np.searchsorted(units, pairs)
    total = np.zeros(pairs.shape[0])
    logs = []
    for role in roles:
        vectors = group.by_role[role]
        rows = vectors.index[units, 0]
        order = np.argsort(rows)
        tensor = found[vectors.tensor].parts["lora_magnitude_vector"].name
        (weight,) = base.read([Selection(vectors.tensor, rows[order])])
        (magnitude,) = adapter.read([Selection(tensor, rows[order], width=1)])
        norm, size = np.empty(rows.shape[0]), np.empty(rows.shape[0])
        with np.errstate(all="ignore"):
            norm[order] = np.sqrt(np.einsum("ui,ui->u", weight, weight, dtype=np.float64))
            size[order] = magnitude.reshape(-1)
            # In units of the role's own scale, so that none outweighs the others.
            scale = float(np.mean(norm)) * float(np.mean(np.abs(size)))
            i, j = at[:, 0], at[:, 1]
            total += (size[i] - size[j]) * (norm[i] - norm[j]) / (scale if scale > 0 else 1.0)
            both = np.log(np.stack([np.abs(size), norm]))
            logs.append(both[:, np.isfinite(both).all(axis=0)])
    return total, logs
