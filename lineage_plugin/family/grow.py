"""From the names of models to their family: open, compare all pairs, hold the cards against them, choose the trees."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.errors import UsageError
from lineage_plugin.family.claims import claims_among, declared_bases, findings_of
from lineage_plugin.family.members import Opened, open_members
from lineage_plugin.family.pairs import all_links
from lineage_plugin.family.trees import families, same_starts
from lineage_plugin.family.types import Family, Link
from lineage_plugin.fingerprint.compare import NOT_SEARCHED
from lineage_plugin.judge.types import PUBLIC_HUB, Settings
from lineage_plugin.options import DEFAULT_BAR, Options, Progress
from lineage_plugin.report.phrases import UNSEEN, plural
from lineage_plugin.text import one_line

__all__ = ["MOST_MODELS", "exit_code", "tree"]

MOST_MODELS = 64
"""Models of a tree: 2,016 pairs."""

_LINES = "A line joins models that are nearest by weights; it does not say that one is the parent of the other."

_TOLD_APART = (
    "Dependence is claimed by coins. That models share learned weights, and not only a random start, is told by a "
    "calibrated statistic; who came first is an indication only."
)
_ASSUMED = (
    "Of models of an unknown layout the coins are fair under assumptions (docs/method.md), not by symmetry alone."
)
_BY_WEIGHTS = (
    "compared by the weights, as in a check, since a card names the base and fingerprints did not show descent; how "
    "near the others are is told by fingerprints."
)
_CALIBRATED = (
    "A link by calibrated evidence has no exact coin left to rest on. It is held against the same bar, but that this "
    "evidence is as rare as it says was measured on models and is no theorem (docs/method.md)."
)

_OF_MERGES = (
    "Who came first is not told of a merge: it lies between its parents, and looks like what each of them comes from."
)


def tree(models: Sequence[str], *, options: Options | None = None, progress: Progress | None = None) -> Family:
    """Find how several models are related, and choose a family tree.

    Every model is opened once; its fingerprint is made, or taken from the user's cache (with ``fingerprints`` "off" the
    cache is neither asked nor filled). All pairs are compared by fingerprints, and those in which a card names the base
    and fingerprints do not show descent by the weights, too, as in a check. Each e-value is divided by the number of
    tests that there may be, so that the probability of *any* false link in the whole tree, were the models independent,
    is at most 10^-``bar`` (:mod:`lineage_plugin.family.pairs`).

    Args:
        models: 2 to 64 local folders or files, ``owner/name[@revision]``, or fingerprint files.
        options: Choices of the run; ``exhaustive`` and ``digests`` mean nothing here.
        progress: Called while models are read and pairs compared.

    Returns:
        The family. A model that cannot be read is in it, with the reason; so is an adapter, which cannot be tested.

    Raises:
        UsageError: When there are fewer than 2 models or more than 64.
    """
    options = options or Options()
    given = [models] if isinstance(models, str) else list(models)
    if not 2 <= len(given) <= MOST_MODELS:
        raise UsageError(f"a tree is of 2 to {MOST_MODELS} models, not of {len(given)}")
    opened, again = open_members(given, options, progress)
    named = declared_bases(opened)
    declared: dict[frozenset[int], int] = {}
    for model, base, _ in named:
        declared.setdefault(frozenset((model, base)), base)
    found = all_links(opened, declared, options, progress)
    links, hidden = _without_direction(opened, found.links)
    claims = claims_among(opened, named, links, found.unread)
    trees = families(len(opened), links, claims)
    members = tuple(one.counted() for one in opened)
    return Family(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        models=members,
        links=links,
        claims=claims,
        trees=trees,
        starts=same_starts(len(opened), links, trees),
        findings=findings_of(opened, claims, links),
        pairs=len(links),
        tests=found.tests,
        unread=len(found.unread),
        limits=(*_limits(opened, again, links, options), *([_OF_MERGES] if hidden else [])),
        cost=sum((member.cost for member in members), Cost()),
        settings=Settings(bar=options.bar, seed=options.seed, budget=options.budget, fingerprints=options.fingerprints),
        hub=_hub(opened, options),
    )


def exit_code(family: Family) -> int:
    """Return the exit code that a family stands for.

    Returns:
        1 when the weights refute a base that is declared among the models; else 2 or 4 when a model could not be read
        (for its files, or for the Hub); else 3 when it is open how two models are related that no family joins, or
        whether the weights support a declaration; else 0.
    """
    if any(finding.level == "error" for finding in family.findings):
        return 1
    codes = {member.exit_code for member in family.models}
    for code in (2, 4):
        if code in codes:
            return code
    open_pairs = (
        link
        for link in family.links
        if link.relation == "inconclusive"
        and (family.tree_of(link.suspect) is None or family.tree_of(link.suspect) != family.tree_of(link.base))
    )
    undecided = (claim for claim in family.claims if claim.standing == "undecided")
    return 3 if any(True for _ in itertools.chain(open_pairs, undecided)) else 0


def _without_direction(opened: Sequence[Opened], links: Sequence[Link]) -> tuple[tuple[Link, ...], bool]:
    """Take the direction from the links of merges; return the links, and whether one was taken.

    A merge is about the mean of its parents, and nearer to what they have in common than any of them. By coefficients
    that is the mark of an ancestor.
    """
    told = [
        replace(link, direction="unclear") if opened[link.suspect].merge or opened[link.base].merge else link
        for link in links
    ]
    return tuple(told), any(one.direction != other.direction for one, other in zip(told, links, strict=True))


def _limits(opened: Sequence[Opened], again: Sequence[str], links: Sequence[Link], options: Options) -> tuple[str, ...]:
    said = [_LINES] if links else []
    if any(link.by == "fingerprints" for link in links):
        said.append(NOT_SEARCHED)
    twice = sum(link.by == "weights" for link in links)
    if twice:
        said.append(f"{plural(twice, 'pair')} {'was' if twice == 1 else 'were'} {_BY_WEIGHTS}")
    if links:
        said.append(UNSEEN)
    claimed = [link for link in links if link.relation in ("derived", "shared-init")]
    if claimed:
        said.append(_TOLD_APART)
    inexact = [link.evidence.log10_e >= options.bar for link in claimed if not link.evidence.exact]
    if any(inexact):
        said.append(_ASSUMED)
    if not all(inexact):
        said.append(_CALIBRATED)
    if options.bar != DEFAULT_BAR:
        said.append(f"Dependence was claimed from an e-value of 10^{options.bar:g} on, not from 10^{DEFAULT_BAR:g}.")
    said += again
    for one in opened:
        said += one.notes
    return (*dict.fromkeys(said), *_of_fingerprints(opened))


def _of_fingerprints(opened: Sequence[Opened]) -> list[str]:
    """Return what fingerprints say of themselves, each sentence once; anybody can have written those of files."""
    names: dict[str, list[str]] = {}
    for one in opened:
        for limit in () if one.fingerprint is None else one.fingerprint.limits:
            names.setdefault(limit, []).append(one_line(one.member.name, 80))
    return [
        f"Fingerprint of {', '.join(of[:3])}{f' and {len(of) - 3} more' if len(of) > 3 else ''}: {limit}"
        for limit, of in names.items()
    ]


def _hub(opened: Sequence[Opened], options: Options) -> str:
    if all(one.checkpoint is None or one.checkpoint.local for one in opened):
        return PUBLIC_HUB
    from lineage_plugin.checkpoint.hub import endpoint_of

    return endpoint_of(options.endpoint)
