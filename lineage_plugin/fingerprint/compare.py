"""From two fingerprints to the evidence about the pair: the stages that need no weights.

Stored order first, then moved layers, then the channels of the residual stream; their e-values are weighed as those of
weights are (:mod:`lineage_plugin.evidence.escalate`), the stages that would need weights counting as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.evidence.direction import indicate_direction
from lineage_plugin.evidence.effects import Differences, ratio_interval
from lineage_plugin.evidence.escalate import LOUD, NEAR, stage_weights
from lineage_plugin.evidence.evalue import log10_e_value, log10_mean
from lineage_plugin.evidence.facts import is_silent
from lineage_plugin.evidence.inheritance import Descent
from lineage_plugin.evidence.layers import LayerMap
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.evidence.pair import NO_COINS, GroupCoins, LayerCoins, PairEvidence, StageCoins
from lineage_plugin.evidence.tally import SHARED_SCORE
from lineage_plugin.evidence.traits import Facts
from lineage_plugin.fingerprint.align import ShelfPair, find_layers, pair_shelves, same_layers
from lineage_plugin.fingerprint.coins import LayerTosses, agreement, toss_signs, toss_swaps
from lineage_plugin.fingerprint.shared import Moments, Products, descent, pair_moments, products
from lineage_plugin.fingerprint.types import Fingerprint, Strip
from lineage_plugin.options import Options

__all__ = ["NOT_SEARCHED", "compare_fingerprints"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_Name = tuple[str, str]
"""A layer of the suspect, and the layer of the base that it is set against."""

NOT_SEARCHED = (
    "Fingerprints were compared: units in another order, and a changed basis of the residual stream, are not looked "
    "for, and the kind of derivation is told by the structure alone. The weights show more."
)
_SAME_ROWS = "Token rows of equal number were assumed to stand for the same token."


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    """What one way of setting layers against each other has shown."""

    count: CoinCount
    log10_e: float
    groups: tuple[GroupCoins, ...]
    layers: tuple[LayerCoins, ...]
    moments: tuple[Moments, ...]
    rows: tuple[Products, ...]
    chosen: tuple[BoolArray, ...]
    strips: tuple[tuple[tuple[Strip, IntArray], tuple[Strip, IntArray]], ...]


def compare_fingerprints(suspect: Fingerprint, base: Fingerprint, options: Options) -> PairEvidence:
    """Weigh the evidence that two fingerprints hold.

    Args:
        suspect: The suspect's fingerprint.
        base: The base's.
        options: Bar and seed.

    Returns:
        The evidence. Its coins are exact in the sense of ``docs/method.md``, on the units that both fingerprints hold.
    """
    exact = suspect.exact and base.exact
    mismatch = _mismatch(suspect, base)
    pairs = pair_shelves(suspect, base) if exact or mismatch is None else ()
    identity = _toss(same_layers(pairs), exact)
    streams = suspect.stream is not None and base.stream is not None
    weights = stage_weights(identity=bool(identity.count.coins), exact=exact, streams=streams)
    stages = [_stage("identity", weights, identity.count, identity.log10_e)] if identity.count.coins else []
    best, layer_map = identity, None
    if exact and pairs and (_weighed(stages) < options.bar or _has_gaps(identity, suspect, base)):
        moved, found_map = _toss_moved(pairs)
        stages.append(_stage("layers", weights, moved.count, moved.log10_e))
        if moved.log10_e >= options.bar and _explains(moved) > _explains(identity):
            best, layer_map = moved, None if found_map.identity else found_map
    stream = _channels(suspect, base) if exact and _weighed(stages) < options.bar else None
    if stream is not None:
        stages.append(_stage("channels", weights, stream.count, stream.log10_e))
    log10_e = _weighed(stages)
    loud = stream is not None and stream.log10_e >= options.bar
    if stream is not None and loud and best.log10_e < options.bar:
        best = replace(best, count=stream.count, groups=stream.groups)
    return _described(
        PairEvidence(
            log10_e=log10_e,
            count=best.count,
            exact=exact,
            groups=best.groups,
            layers=best.layers,
            mismatch=mismatch,
            complete=True,
            limits=_limits(suspect, base, stream is not None),
            stages=tuple(stages),
            layer_map=layer_map,
            embeddings_only=loud
            and log10_e >= options.bar
            and not any(row.cosine >= NEAR for row in best.layers)
            and identity.log10_e < LOUD,
        ),
        best,
        suspect,
        base,
        options,
    )


def _described(
    found: PairEvidence, best: _Found, suspect: Fingerprint, base: Fingerprint, options: Options
) -> PairEvidence:
    """Add what is shared, and how; what is not shared has nothing to describe."""
    cross, own, other = (
        np.concatenate([getattr(part, side)[part.usable] for part in best.moments] or [np.zeros(0)])
        for side in ("cross", "suspect", "base")
    )
    kept, reverse = ratio_interval(cross, other), ratio_interval(cross, own)
    found = replace(found, kept=kept, reverse=reverse)
    if found.log10_e < options.bar:
        return found
    forward = backward = Descent()
    if best.rows:
        forward = descent(best.rows, best.chosen, [strips[1] for strips in best.strips], options.seed)
        exchanged = [row.exchanged() for row in best.rows]
        backward = descent(exchanged, best.chosen, [strips[0] for strips in best.strips], options.seed)
    return replace(
        found,
        descent=forward,
        ascent=backward,
        direction=indicate_direction(_differences(best), kept.estimate, reverse.estimate),
        facts=_facts(found, suspect, base),
    )


def _toss(pairs: Sequence[ShelfPair], exact: bool) -> _Found:
    """Toss all coins of some layers that are set against each other, and measure what they share."""
    counts: dict[str, list[CoinCount]] = {}
    by_layer: dict[_Name, CoinCount] = {}
    nearness: dict[_Name, tuple[float, int]] = {}
    moments: list[Moments] = []
    rows, chosen, strips = [], [], []
    for pair in pairs:
        names = [_layer_names(pair, at, of) for at, of in zip(pair.mine, pair.theirs, strict=True)]
        agreements = [_agreement(pair, mine, theirs) for mine, theirs in pair.strips]
        for kind, tossed in _coins(pair, agreements):
            for name, coins, heads in zip(names, tossed.coins.tolist(), tossed.heads.tolist(), strict=True):
                count = CoinCount(coins, heads)
                counts.setdefault(f"{pair.base.kind} {kind}", []).append(count)
                by_layer[name] = by_layer.get(name, NO_COINS) + count
        if not pair.base.swap:
            continue
        sides = [((mine, pair.mine), (theirs, pair.theirs)) for mine, theirs in pair.strips]
        found = [products(of, _bits(*pair.strips[at]), *sides[at]) for at, of in enumerate(agreements)]
        of_pair = [pair_moments(product, pair.block) for product in found]
        for part in of_pair:
            for name, cosine, weight in zip(names, *(of.tolist() for of in part.layer_cosines()), strict=True):
                before = nearness.get(name, (0.0, 0))
                nearness[name] = (before[0] + weight * cosine, before[1] + weight)
        moments += of_pair
        rows += found
        strips += sides
        chosen += [_shares(of_pair)] * len(sides)
    return _Found(
        count=sum(by_layer.values(), NO_COINS),
        log10_e=_weigh(list(by_layer.values()), exact),
        groups=tuple(GroupCoins(name, sum(of, NO_COINS), _weigh(of, exact)) for name, of in sorted(counts.items())),
        layers=tuple(
            LayerCoins(*name, by_layer[name], total / weight if (weight := nearness.get(name, (0, 0))[1]) else 0.0)
            for name in sorted(by_layer, key=lambda name: _order(name[0]))
            for total in (nearness.get(name, (0.0, 0))[0],)
        ),
        moments=tuple(moments),
        rows=tuple(rows),
        chosen=tuple(chosen),
        strips=tuple(strips),
    )


def _bits(mine: Strip, theirs: Strip) -> int:
    """Return the bits that both hold of a vector."""
    return 8 * int(min(mine.bits.shape[2], theirs.bits.shape[2]))


def _agreement(pair: ShelfPair, mine: Strip, theirs: Strip) -> IntArray:
    size = _bits(mine, theirs) // 8
    return agreement(mine.bits[pair.mine, : pair.units, :size], theirs.bits[pair.theirs, : pair.units, :size])


def _coins(pair: ShelfPair, agreements: Sequence[IntArray]) -> list[tuple[str, LayerTosses]]:
    """Toss swap coins and sign coins; roles with fewer bits count as much as the others."""
    most = max(_bits(a, b) for a, b in pair.strips)
    plain = odd = np.zeros_like(agreements[0])
    for found, (a, b) in zip(agreements, pair.strips, strict=True):
        scaled = found * (most // _bits(a, b))
        plain, odd = (plain, odd + scaled) if a.odd else (plain + scaled, odd)
    tossed, usable, repeats = [], pair.usable, pair.repeats
    if pair.swaps:
        # A flip negates all odd vectors of a unit at once, so their sum is what may enter by its magnitude.
        fresh = usable & (np.arange(pair.units) >= pair.fresh)
        tossed.append(("swap", toss_swaps(plain + np.abs(odd), fresh, pair.block, repeats)))
    if pair.signs and any(strip.odd for strip, _ in pair.strips):
        same = np.diagonal(odd, axis1=-2, axis2=-1).reshape(odd.shape[0], -1)
        tossed.append(("sign", toss_signs(same[:, : pair.units], usable, repeats)))
    return tossed


def _toss_moved(pairs: Sequence[ShelfPair]) -> tuple[_Found, LayerMap]:
    matched, layers, mine, _ = find_layers(pairs)
    found = _toss(matched, exact=True)
    known = {row.suspect for row in found.layers}
    alone = tuple(LayerCoins(str(mine[at]), None, NO_COINS, 0.0) for at in layers.inserted)
    rows = (*found.layers, *(row for row in alone if row.suspect not in known))
    return replace(found, layers=tuple(sorted(rows, key=lambda row: _order(row.suspect)))), layers


def _channels(suspect: Fingerprint, base: Fingerprint) -> _Found | None:
    """Toss the coins of the channels of the residual stream; None where there are none."""
    mine, theirs = suspect.stream, base.stream
    if mine is None or theirs is None or mine.width != theirs.width or mine.first != theirs.first:
        return None
    swap, flip = mine.swap and theirs.swap, mine.flip and theirs.flip
    if not (swap or flip) or (mine.quantised and theirs.quantised):
        return None
    count, size = (min(mine.bits.shape[axis], theirs.bits.shape[axis]) for axis in (0, 1))
    found = agreement(mine.bits[None, :count, :size], theirs.bits[None, :count, :size])
    usable, alone = (mine.usable[:count] & theirs.usable[:count])[None], np.zeros(1, dtype=np.int64)
    tossed = [("swap", toss_swaps(np.abs(found) if flip else found, usable, count, alone))] if swap else []
    if flip:
        same = np.diagonal(found, axis1=-2, axis2=-1).reshape(1, -1)[:, :count]
        tossed.append(("sign", toss_signs(same, usable, alone)))
    counts = {f"stream {kind}": CoinCount(int(t.coins[0]), int(t.heads[0])) for kind, t in tossed}
    total = sum(counts.values(), NO_COINS)
    groups = tuple(GroupCoins(name, c, log10_e_value(c.heads, c.coins)) for name, c in counts.items())
    return _Found(total, log10_e_value(total.heads, total.coins), groups, (), (), (), (), ())


def _weigh(counts: Sequence[CoinCount], exact: bool) -> float:
    """Return ``log10 E`` of all coins together; for an unknown graph the mean over its tensors."""
    if exact or not counts:
        total = sum(counts, NO_COINS)
        return log10_e_value(total.heads, total.coins)
    return log10_mean([log10_e_value(count.heads, count.coins) for count in counts])


def _stage(name: str, weights: dict[str, float], count: CoinCount, log10_e: float) -> StageCoins:
    return StageCoins(name, weights[name], count, log10_e)


def _weighed(stages: Sequence[StageCoins]) -> float:
    tossed = [stage for stage in stages if stage.count.coins]
    return log10_mean([s.log10_e for s in tossed], [s.weight for s in tossed]) if tossed else 0.0


def _shares(roles: Sequence[Moments]) -> BoolArray:
    """Say of each layer whether the shared energy of its group stands out; see :mod:`lineage_plugin.evidence.tally`."""
    near = np.stack([part.cosines() for part in roles])
    square = np.sqrt((near**2).sum(axis=2))
    scores = np.where(square > 0, near.sum(axis=2) / np.where(square > 0, square, 1.0), 0.0)
    counted = (square > 0).sum(axis=0)
    most = np.where(square > 0, np.sqrt((near != 0).sum(axis=2)), 0.0).sum(axis=0)
    root = np.sqrt(np.maximum(counted, 1))
    shares: BoolArray = (counted > 0) & (scores.sum(axis=0) / root > np.minimum(SHARED_SCORE, 0.75 * most / root))
    return shares


def _differences(found: _Found) -> list[Differences]:
    """Return the moments of each layer and role summed up, which is all that the direction is told by."""
    sums = [np.stack([part.cross, part.suspect, part.base]).sum(axis=2) for part in found.moments]
    return [Differences(0, 0, *(row[:, None])) for part in sums for row in part.T]


def _has_gaps(found: _Found, suspect: Fingerprint, base: Fingerprint) -> bool:
    return suspect.layers != base.layers or any(is_silent(row) for row in found.layers)


def _explains(found: _Found) -> tuple[int, float]:
    return sum(row.cosine >= NEAR for row in found.layers), found.log10_e


def _layer_names(pair: ShelfPair, at: int, of: int) -> tuple[str, str]:
    if pair.suspect.names and pair.base.names:
        return pair.suspect.names[at], pair.base.names[of]
    return str(pair.suspect.layers[at]), str(pair.base.layers[of])


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _mismatch(suspect: Fingerprint, base: Fingerprint) -> str | None:
    """Say how the structures differ, as :func:`lineage_plugin.anatomy.compare.structure_mismatch` does."""
    if suspect.family != base.family:
        return f"different layouts ({suspect.family} against {base.family})"
    if suspect.family == "unknown":
        if suspect.layers != base.layers:
            return f"different numbers of usable tensors: {suspect.layers} against {base.layers}"
        forms = [[(s.form, s.layers) for s in side.shelves] for side in (suspect, base)]
        return None if forms[0] == forms[1] else "shapes of the usable tensors differ"
    if suspect.layers != base.layers:
        return f"depth differs: {suspect.layers} layers against {base.layers}"
    if suspect.width != base.width:
        return f"width differs: {suspect.width} against {base.width}"
    units = [{s.kind: s.units for s in side.shelves} for side in (suspect, base)]
    for kind, what in (("mlp", "MLP width"), ("experts", "expert width"), ("value", "attention heads")):
        if kind in units[0] and kind in units[1] and units[0][kind] != units[1][kind]:
            return f"{what} differ{'' if kind == 'value' else 's'}: {units[0][kind]} units against {units[1][kind]}"
    return None


def _limits(suspect: Fingerprint, base: Fingerprint, tokens: bool) -> tuple[str, ...]:
    sides = (("base", base), ("suspect", suspect))
    # Anybody can have written them, so they never stand as this program's own words.
    said = [f"The {name}'s fingerprint says: {limit}" for name, side in sides for limit in side.limits]
    said.append(NOT_SEARCHED)
    if tokens:
        said.append(_SAME_ROWS)
    return tuple(dict.fromkeys(said))


def _facts(found: PairEvidence, suspect: Fingerprint, base: Fingerprint) -> Facts | None:
    """Return what the structure says about the kind of derivation; None where it says nothing."""
    packings = [{s.packing for shelf in side.shelves for s in shelf.strips} - {""} for side in (suspect, base)]
    layers = found.layer_map
    facts = Facts(
        compared=1,
        experts_from_dense=_has_experts(suspect) and not _has_experts(base),
        layers=suspect.layers,
        base_layers=base.layers,
        repeated=0 if layers is None else len(layers.repeated),
        dropped=0 if layers is None else len(layers.dropped),
        without_trace=tuple(row.suspect for row in found.layers if row.base is None or is_silent(row)),
        narrow_dtype=", ".join(sorted(packings[0] - packings[1])) or None,
        base_narrow_dtype=", ".join(sorted(packings[1])) or None,
    )
    said = facts.experts_from_dense or facts.without_trace or facts.narrow_dtype or facts.layers != facts.base_layers
    return facts if said else None


def _has_experts(side: Fingerprint) -> bool:
    return any(shelf.kind == "experts" for shelf in side.shelves)
