"""Several relatives at once: the weights of a merge, and which member of a family is the parent.

Each base is first compared by itself; what follows here is about their differences, which one comparison cannot see.
All of it is estimation with intervals, no exact evidence.

A model may be known by several names: a folder given with ``--base`` stands for the id that a card declares. Here each
model has one name that no other of the run has, and claims of cards are translated into these names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lineage_plugin.adapters import is_adapter
from lineage_plugin.anatomy import analyse
from lineage_plugin.card import BaseClaim, Declaration, read_card
from lineage_plugin.checkpoint import Checkpoint, Cost, open_checkpoint
from lineage_plugin.errors import HubError, InputError, UsageError
from lineage_plugin.evidence.closest import ClosestParent, closest_parent
from lineage_plugin.evidence.family_read import Member
from lineage_plugin.evidence.parents import MergeFit, merge_weights
from lineage_plugin.findings import Finding
from lineage_plugin.judge.parents import (
    closest_findings,
    closest_of,
    common_ancestor,
    merge_findings,
    merge_of,
    without_trace,
)
from lineage_plugin.judge.types import Closest, Comparison, Merge
from lineage_plugin.options import Options
from lineage_plugin.text import one_line

__all__ = ["Relatives", "weigh_relatives"]

_T = TypeVar("_T", MergeFit, ClosestParent)

CARD_LIMIT = 1 << 20
PRESENT = 0.05
"""Lower end of a weight's interval from which a parent is part of a merge."""
UNEXPLAINED = 0.2
"""A suspect is a merge of k parents if they leave at most this part of 1/k unexplained. Siblings look like mixtures of
each other that leave about 1/k (measured, trained far on similar text: 0.6/k and more)."""
DROPPED = 0.2
"""Where elements were dropped, much stays unexplained: then every parent needs a weight above this one."""


@dataclass(frozen=True, slots=True)
class Relatives:
    """What the relatives show together.

    Attributes:
        merge: The suspect as a combination of its parents; None for fewer than two.
        closest: The closest parent among the candidates; None when there were no candidates.
        comparisons: The comparisons, of kind ``merge`` where several parents have weight.
        findings: LIN105 and LIN106.
        cost: What reading the candidates and the ancestor cost, and reading the bases once more.
    """

    merge: Merge | None
    closest: Closest | None
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    cost: Cost


def weigh_relatives(
    suspect: Checkpoint,
    bases: Sequence[Checkpoint],
    comparisons: Sequence[Comparison],
    declaration: Declaration,
    options: Options,
    *,
    candidates: Sequence[str] = (),
    ancestor: str | None = None,
) -> Relatives:
    """Weigh several parents against each other.

    Args:
        suspect: The suspect.
        bases: The bases that were compared.
        comparisons: One a base, in the same order.
        declaration: What the card declares.
        options: Choices of the run.
        candidates: Further members of the family, paths or ids.
        ancestor: The common ancestor, a path or id; None: what the parents' own cards agree on.

    Returns:
        Weights, closest parent and what they mean.

    Raises:
        UsageError: When a candidate or the ancestor does not exist, or is the suspect itself.
        InputError: When one of them cannot be read.
        HubError: When the Hub does not deliver one that was asked for.
    """
    wanted = [candidates] if isinstance(candidates, str) else list(dict.fromkeys(candidates))
    before = [base.cost() for base in bases]
    # What was asked for must exist, whether or not there is anything to weigh it against.
    opened = [open_checkpoint(name, options=options) for name in wanted]
    models = _distinct(bases, opened)
    origin = None if ancestor is None else _origin(ancestor, models, opened, options)
    for checkpoint in opened:
        if _same(checkpoint, suspect):
            raise UsageError(f"{one_line(checkpoint.id, 200)}: the model cannot be its own candidate or ancestor")
    if (len(bases) < 2 and not wanted) or is_adapter(suspect):
        return Relatives(None, None, tuple(comparisons), (), _cost(opened))
    if not all(_in_place(comparison) for comparison in comparisons):
        # Differences are taken unit by unit; where those were moved they would say that nothing is left.
        return Relatives(None, None, tuple(_not_weighed(found) for found in comparisons), (), _cost(opened))
    family = _Family(suspect, models, origin, options)
    declared = _in_names(declaration, bases, family.members)
    merge, closest, found, results = None, None, list[Finding](), tuple(comparisons)
    if len(bases) > 1 and any(_is_shared(comparison, options.bar) for comparison in comparisons):
        members = family.members[: len(bases)]
        named = [
            replace(comparison, base=replace(comparison.base, id=member.id))
            for comparison, member in zip(comparisons, members, strict=True)
        ]
        fit = family.measured(members, lambda o: merge_weights(family.suspect, members, o, seed=options.seed))
        merge = merge_of(fit)
        gone = without_trace(fit, named)
        if len(declared.bases) > 1:
            claims = {claim.id for claim in declared.bases}
            findings = merge_findings(fit, declared, named)
            found.extend(finding for name, finding in zip(gone, findings, strict=True) if name in claims)
        results = _merged(comparisons, named, fit, gone)
    if wanted:
        everyone = family.members
        standing = family.measured(everyone, lambda o: closest_parent(family.suspect, everyone, o, seed=options.seed))
        closest = closest_of(standing)
        found.extend(closest_findings(standing, declared))
    cost = _cost([*opened, *(model for model in family.found.values() if model is not None)])
    for base, spent in zip(bases, before, strict=True):
        # The size of the bases is counted where they were compared.
        cost = cost + replace(base.cost().since(spent), bytes_total=0)
    return Relatives(merge, closest, results, tuple(found), cost)


def _in_place(found: Comparison) -> bool:
    """Whether units and layers of a relative stand where the suspect's stand."""
    return found.scrubbed is None and all(row.base in (None, row.suspect) for row in found.layers)


def _not_weighed(found: Comparison) -> Comparison:
    said = "Relatives were not weighed against each other: units or layers stand in other places than in a base."
    return replace(found, limits=(*found.limits, said))


def _cost(checkpoints: Sequence[Checkpoint]) -> Cost:
    cost = Cost()
    for checkpoint in checkpoints:
        cost = cost + checkpoint.cost()
    return cost


def _is_shared(comparison: Comparison, bar: float) -> bool:
    return comparison.relation in ("identical", "derived", "shared-init") or comparison.evidence.log10_e >= bar


def _merged(
    comparisons: Sequence[Comparison], named: Sequence[Comparison], fit: MergeFit, gone: Sequence[str]
) -> tuple[Comparison, ...]:
    """Return the comparisons, those with parents of a merge as such."""
    dropped = fit.structure == "sparse"
    least = DROPPED if dropped else PRESENT
    present = {
        parent.id
        for parent in fit.parents
        if parent.id not in gone and parent.weight.low is not None and parent.weight.low > least
    }
    explained = fit.unexplained is not None and fit.unexplained <= UNEXPLAINED / len(fit.parents)
    if len(present) < 2 or not (explained or dropped):
        return tuple(comparisons)
    return tuple(
        _as_merge(found, len(present)) if known.base.id in present and found.relation == "derived" else found
        for found, known in zip(comparisons, named, strict=True)
    )


def _as_merge(found: Comparison, parents: int) -> Comparison:
    # By itself each comparison took what the others explain for further training.
    changes = found.changes[:-1] if found.kind == "finetune" else found.changes
    # A mean of several models is nearer to their ancestor than each of them: that says nothing about who came first.
    direction = replace(found.direction, indication="unclear")
    return replace(found, kind="merge", direction=direction, changes=(f"weights of {parents} parents", *changes))


class _Family:
    """The models under names of their own, and their common ancestor, looked for when it is needed."""

    def __init__(
        self, suspect: Checkpoint, models: Sequence[Checkpoint], origin: Checkpoint | None, options: Options
    ) -> None:
        everyone = [*models, *([] if origin is None or origin in models else [origin])]
        names = _distinct_names(everyone)
        members = [_member(checkpoint, name) for checkpoint, name in zip(everyone, names, strict=True)]
        self.suspect = _member(suspect, suspect.id)
        self.members = members[: len(models)]
        self.found: dict[str, Checkpoint | None] = {}
        self._origin = None if origin is None else members[everyone.index(origin)]
        self._options = options

    def measured(self, members: Sequence[Member], measure: Callable[[Member | None], _T]) -> _T:
        """Measure with the common ancestor, and without it where only cards named it and it is of no use."""
        if self._origin is not None:
            return measure(self._origin)
        helper = self._from_cards(members)
        if helper is not None:
            try:
                result = measure(helper)
                if _is_measured(result):
                    return result
            except (HubError, InputError):
                pass  # a model that only a stranger's card named; what else failed fails again
        return measure(None)

    def _from_cards(self, members: Sequence[Member]) -> Member | None:
        """Return the model on which all cards of the members build, as far as it can be had."""
        cards = {member.id: _translated(_card(member.checkpoint), members) for member in members}
        name = common_ancestor(cards)
        known = next((member for member in members if member.id == name), None)
        local = all(member.checkpoint.local for member in members)
        if known is not None or name is None or self._options.offline or local:
            return known
        if name not in self.found:
            self.found[name] = self._fetched(name)
        opened = self.found[name]
        if opened is None or _same(opened, self.suspect.checkpoint):
            return None
        same = next((member for member in members if _same(member.checkpoint, opened)), None)
        try:
            return same or _member(opened, name)
        except InputError:
            return None

    def _fetched(self, name: str) -> Checkpoint | None:
        """Open what a stranger's card names: on the Hub, never as a path; it is a help, not a need."""
        from lineage_plugin.checkpoint.hub import open_hub

        options = self._options
        try:
            return open_hub(name, None, token=options.token, endpoint=options.endpoint, budget=options.budget)
        except (HubError, InputError, UsageError):
            return None


def _is_measured(result: MergeFit | ClosestParent) -> bool:
    if isinstance(result, MergeFit):
        return result.reason is None
    return any(standing.weight.estimate is not None for standing in result.standings)


def _member(checkpoint: Checkpoint, name: str) -> Member:
    return Member(name, checkpoint, analyse(checkpoint.tensors, checkpoint.config))


def _distinct(bases: Sequence[Checkpoint], candidates: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return all bases, and the candidates that are not among them already."""
    models = list(bases)
    for candidate in candidates:
        if not any(_same(candidate, model) for model in models):
            models.append(candidate)
    return models


def _origin(name: str, models: Sequence[Checkpoint], opened: list[Checkpoint], options: Options) -> Checkpoint:
    """Return the ancestor that was named: one of the models, or one that is opened, and added to ``opened``."""
    known = next((model for model in models if model.id == name), None)
    if known is not None:
        return known
    opened.append(open_checkpoint(name, options=options))
    return next((model for model in models if _same(model, opened[-1])), opened[-1])


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    """Return whether two are the same folder, or the same repository at the same commit."""
    if one.local != other.local:
        return False
    if one.local:
        return _path(one).resolve() == _path(other).resolve()
    return (one.id, one.revision) == (other.id, other.revision)


def _path(checkpoint: Checkpoint) -> Path:
    return Path(checkpoint.id).expanduser()


def _distinct_names(models: Sequence[Checkpoint]) -> list[str]:
    """Return one name a model: its id, with the commit where several are revisions of one repository."""
    count = Counter(model.id for model in models)
    names = [
        f"{model.id}@{model.revision[:12]}" if count[model.id] > 1 and model.revision else model.id for model in models
    ]
    return [name if names.count(name) == 1 else f"{name} ({number + 1})" for number, name in enumerate(names)]


def _card(checkpoint: Checkpoint) -> Declaration:
    """Return what a relative declares; nothing where its card cannot be read."""
    try:
        return read_card(checkpoint.text("README.md", CARD_LIMIT), file="README.md")[0]
    except (HubError, InputError):
        return Declaration()


def _called(checkpoint: Checkpoint) -> str:
    """Return how a card calls the model: its id; for a folder, what its place says where that is ``owner/name``."""
    if not checkpoint.local:
        return checkpoint.id
    parts = _path(checkpoint).absolute().parts
    for part in parts[:-2]:
        kind, *rest = part.split("--")
        if kind == "models" and rest and parts[-2] == "snapshots":  # the cache of the Hub's client
            return "/".join(rest)
    return "/".join(parts[-2:])


def _translated(declaration: Declaration, members: Sequence[Member]) -> Declaration:
    """Return a declaration with members named as the run names them."""
    called = [_called(member.checkpoint) for member in members]
    names = {name: member.id for name, member in zip(called, members, strict=True) if called.count(name) == 1}
    return replace(
        declaration, bases=tuple(replace(claim, id=names.get(claim.id, claim.id)) for claim in declaration.bases)
    )


def _in_names(declaration: Declaration, bases: Sequence[Checkpoint], members: Sequence[Member]) -> Declaration:
    """Return what the suspect declares of its family, in the names of the run.

    Folders given in place of what is declared are taken for it, as long as there are no more of them than claims. Which
    of several claims one of them stands for is not known, so a finding about it points at ``base_model`` as a whole.
    """
    claims = {claim.id: claim for claim in declaration.bases}
    found: dict[str, BaseClaim] = {}
    for member in members:
        claim = claims.get(member.checkpoint.id) or claims.get(_called(member.checkpoint))
        if claim is not None:
            exact = claim.id == member.checkpoint.id
            found[member.id] = claim if exact else _somewhere(claim, declaration)
    taken = {claim.id for claim in found.values()}
    left = [claim for claim in declaration.bases if claim.id not in taken]
    if len(bases) <= len(declaration.bases):
        for member in members[: len(bases)]:
            if member.id not in found and left:
                found[member.id] = _somewhere(left.pop(0), declaration)
    return replace(declaration, bases=tuple(replace(claim, id=name) for name, claim in found.items()))


def _somewhere(claim: BaseClaim, declaration: Declaration) -> BaseClaim:
    return replace(claim, file=declaration.file or claim.file, line=declaration.line, column=None)
