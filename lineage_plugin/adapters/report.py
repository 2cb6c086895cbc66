"""From a prepared pair to the comparison that a report shows, and to what it cannot show."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lineage_plugin.adapters.fits import Fit
from lineage_plugin.adapters.magnitudes import FOLLOWS, MagnitudeCoins
from lineage_plugin.adapters.prepare import Prepared
from lineage_plugin.adapters.products import APART, COPY, REMIXED
from lineage_plugin.adapters.settings import CONFIG_FILE
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.judge.types import (
    Comparison,
    Direction,
    Evidence,
    GroupEvidence,
    Inheritance,
    Interval,
    ModelSummary,
)
from lineage_plugin.options import DEFAULT_BAR
from lineage_plugin.text import one_line

__all__ = ["limits_of", "settle", "without_coins"]

_BARE: Final = (
    "This adapter ({method}) holds no weights of its base: that it fits is no proof that it was made from it, and no "
    "coin can be tossed. It fits every model of these shapes."
)
_SAVED: Final = (
    "Coins were tossed on the tensors that the adapter brings whole; its factors say nothing about the base."
)
_MAGNITUDES: Final = (
    "Magnitudes of a DoRA adapter start as the norms of the base's rows. Exact coins show that they follow them; that "
    "no twin of the base from its seed has these norms is calibrated on small models."
)
_REMIXED: Final = (
    "Rank components were compared one by one: a copy whose components were mixed by a matrix (resized or extracted "
    "anew) is not recognised by them."
)
_ONE_SEED: Final = (
    "Adapters trained apart from one seed on like data share what they learned, and are not told from continued "
    "training."
)
_BASE_IS_ADAPTER: Final = (
    "Compare the model with the adapter's own base, or with base and adapter merged (the update is W + s B A)."
)
_SAID: Final = 8
"""Misfits that are listed."""
_PROMPTS: Final = frozenset(
    {"CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"}
)


def without_coins(
    prepared: Prepared, base: ModelSummary, costs: tuple[Cost, Cost], bar: float = DEFAULT_BAR
) -> Comparison:
    """Return the comparison of a pair of which the usual stages read nothing (``prepared.models`` is None).

    Args:
        prepared: The pair.
        base: The base as the report names it.
        costs: What reading each of them cost.
        bar: Decimal logarithm of the e-value from which dependence is claimed.

    Returns:
        The comparison, settled.
    """
    bare = Comparison(
        base=base,
        relation="inconclusive",
        kind=None,
        summary="",
        evidence=Evidence(0.0, 0, 0, exact=True),
        kept=Interval(None, None, None),
        inheritance=Inheritance(None, None, None),
        direction=Direction("unclear", None, None),
        layers=(),
        limits=(),
        suspect_cost=costs[0],
        base_cost=costs[1],
    )
    return settle(prepared, bare, bar)


def settle(prepared: Prepared, found: Comparison, bar: float = DEFAULT_BAR) -> Comparison:
    """Return a comparison with what is particular to adapters.

    Args:
        prepared: The pair.
        found: The comparison of ``prepared.models``, made as for any two models.
        bar: Decimal logarithm of the e-value from which dependence is claimed.

    Returns:
        The comparison. A misfit makes it ``unrelated``, the shapes in its summary; what an adapter cannot prove is
        ``inconclusive``, its kind ``adapter``, and its limits say so.
    """
    found = replace(found, limits=tuple(dict.fromkeys((*found.limits, *limits_of(prepared)))))
    if prepared.mode == "base-is-adapter":
        summary = "this base is an adapter: a model made with it descends from the adapter's own base"
        return replace(found, relation="inconclusive", kind=None, summary=summary)
    if prepared.mode == "adapters":
        return _adapters(prepared, found, bar)
    fit = prepared.fit or Fit(0, 0)
    if fit.refuted:
        said = [f"Does not fit: {misfit.why}." for misfit in fit.misfits[:_SAID]]
        if fit.misfits[_SAID:]:
            said.append(f"Nor do {len(fit.misfits) - _SAID} others.")
        return replace(found, relation="unrelated", kind=None, summary=fit.summary(), limits=(*said, *found.limits))
    # What the values look like says nothing here: an adapter is no copy of the whole.
    found = replace(found, kind="adapter", changes=tuple(_changes(fit)))
    if prepared.mode == "saved":
        found = _saved(found, fit, bar)
        if found.relation != "inconclusive" or not prepared.magnitudes.coins:
            return found
    return _with_magnitudes(found, fit, prepared.magnitudes, bar)


def _changes(fit: Fit) -> list[str]:
    said = []
    if fit.vocabulary is not None:
        said.append(f"a vocabulary of {fit.vocabulary[0]:,} rows against the base's {fit.vocabulary[1]:,}")
    if fit.added:
        more = f" and {len(fit.added) - 1} more" if fit.added[1:] else ""
        said.append(f"tensors that the base does not have: {one_line(fit.added[0], 80)}{more}")
    return said


def _saved(found: Comparison, fit: Fit, bar: float) -> Comparison:
    """Judge tensors saved whole: what the coins say of them holds, but embeddings alone show no descent."""
    if found.relation in ("derived", "shared-init", "identical", "unrelated"):
        return replace(found, summary=f"of what it brings whole, {found.summary}; {fit.summary()}")
    if found.evidence.log10_e >= bar:
        found = replace(found, summary="the token tables that it brings whole share the base's channels")
    elif not found.layers and any(stage.coins for stage in found.evidence.stages):
        found = replace(found, summary="the token tables that it brings whole show no trace of the base's channels")
    return replace(found, relation="inconclusive", summary=f"{found.summary}; {fit.summary()}")


def _with_magnitudes(found: Comparison, fit: Fit, coins: MagnitudeCoins, bar: float) -> Comparison:
    """Judge an adapter that brings nothing whole: by its magnitudes, if it has any."""
    if not coins.coins:
        return replace(found, relation="inconclusive", summary=f"{fit.summary()}, which proves nothing by itself")
    group = GroupEvidence("magnitude swap", coins.coins, coins.heads, coins.log10_e)
    evidence = Evidence(coins.log10_e, coins.coins, coins.heads, exact=True, groups=(group,))
    near = "" if coins.correlation is None else f" (correlation {coins.correlation:.2f})"
    found = replace(found, evidence=evidence)
    if coins.log10_e < bar:
        few = f"its {coins.coins} magnitude coins are too few, or say too little, for the bar{near}"
        summary = few if coins.log10_e > 0 else f"its magnitudes show no trace of the norms of the base's rows{near}"
        return replace(found, relation="inconclusive", summary=f"{summary}; {fit.summary()}")
    summary = f"its magnitudes follow the norms of the base's rows{near}; {fit.summary()}"
    close = coins.low is not None and coins.low > FOLLOWS
    return replace(found, relation="derived" if close else "inconclusive", summary=summary)


def _adapters(prepared: Prepared, found: Comparison, bar: float) -> Comparison:
    """Judge two adapters: their coins are exact, but descent is not told from one seed as it is with whole models."""
    seen = prepared.products
    # Slope, contrast and direction are calibrated on whole models; factors that start at zero have another law.
    unknown = Inheritance(None, None, None), Direction("unclear", None, None)
    found = replace(found, kind=None, changes=(), inheritance=unknown[0], direction=unknown[1])
    if seen is None or not seen.modules:
        return replace(found, relation="inconclusive", summary=f"no rank component could be compared; {found.summary}")
    if seen.ordered:
        why = "the components of both adapters are ordered by a decomposition, so their places say nothing"
        return replace(found, relation="inconclusive", summary=why)
    alike = "" if seen.learned is None else f" (cosine of what was learned: {seen.learned:.2f})"
    if found.evidence.log10_e >= bar:
        if seen.learned is not None and seen.learned >= COPY:
            why = f"the adapters share what they learned{alike}"
            return replace(found, relation="derived", kind="adapter", summary=why)
        shares = [share for share in (seen.on_base, seen.on_suspect) if share is not None]
        if shares and max(shares) < APART:
            why = f"the adapters share a random start, but not what was learned{alike}"
            return replace(found, relation="shared-init", summary=why)
        why = f"the adapters are dependent: continued training, or one seed on like data{alike}"
        return replace(found, relation="inconclusive", summary=why)
    if found.relation == "unrelated" and seen.product is not None and seen.product >= REMIXED:
        why = f"no component is shared, but the updates are alike (cosine {seen.product:.2f}): re-mixed, or like data"
        return replace(found, relation="inconclusive", summary=why)
    return found


def limits_of(prepared: Prepared) -> tuple[str, ...]:
    """Return plain sentences about what a comparison with an adapter rests on and cannot show.

    Args:
        prepared: The pair.
    """
    said: list[str] = []
    method = prepared.settings.method or next(iter(sorted(prepared.parts.methods)), "")
    if prepared.mode == "adapters":
        said += [_REMIXED, _ONE_SEED]
    elif prepared.mode == "base-is-adapter":
        said.append(_BASE_IS_ADAPTER)
    elif prepared.mode == "saved":
        said.append(_SAVED)
    elif not prepared.magnitudes.coins and not (prepared.fit is not None and prepared.fit.refuted):
        said.append(_BARE.format(method=one_line(method, 30) or "of unknown type"))
    if prepared.magnitudes.coins:
        said.append(_MAGNITUDES)
    if method in _PROMPTS:
        said.append(f"An adapter of type {method} is virtual tokens; no more than their width can be checked.")
    elif method not in ("", "LORA", "ADALORA"):
        said.append(
            f"Of an adapter of type {one_line(method, 30)} names and sizes were checked, as far as they are known."
        )
    if prepared.fit is not None:
        said += prepared.fit.notes
    said += [f"{CONFIG_FILE}: {problem}." for problem in prepared.settings.problems]
    return tuple(dict.fromkeys(said))
