"""Checks the models in a tree of files that is about to leave this machine.

The tree is what the repository will look like: new files, and those of the repository that say something about them.
Every new weight file is read by some check, for a loader may take any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.open import open_checkpoint
from lineage_plugin.errors import LineageError
from lineage_plugin.findings import Finding
from lineage_plugin.hooks.rules import Rules
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options, Progress
from lineage_plugin.outcome import Outcome, ask, code_of, gravest_first, options_under
from lineage_plugin.policy.find import find_policy
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import exit_code
from lineage_plugin.targets import CARD, Target, changed_models

__all__ = ["SHARD", "Memory", "Tree", "judge"]

SHARD = re.compile(r"(?P<start>.*-)\d{5,6}(?P<end>-of-(?P<count>\d{5,6})\.[A-Za-z0-9_]+)\Z")
"""Name of a shard: what it has in common with the others of its set, and how many these are."""


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a repository as they will be.

    Attributes:
        top: Where they lie.
        name: The repository: ``owner/name``.
        on_hub: Whether that is an id on the Hub, and no mere name.
        new: The files that are new or changed, relative to ``top``, with forward slashes.
        weights: Those of them that are weights, by name or by their first bytes.
        folder: The folder of the user's that they were taken from, whose layout they have; None when there is none.
        digests: sha256 of the files as far as known, by their names.
        came_from: Folders of the user's that the new files were taken from.
    """

    top: Path
    name: str
    new: frozenset[str]
    weights: frozenset[str]
    folder: Path | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    came_from: frozenset[Path] = frozenset()
    on_hub: bool = True


class Memory(Protocol):
    """What remembers answers."""

    def recall(self, tree: Tree, target: Target, policy: Policy | None, options: Options) -> Report | None:
        """Return the report on a target, named relative to the tree, when nothing it depends on has changed."""

    def keep(self, tree: Tree, target: Target, policy: Policy | None, options: Options, report: Report) -> None:
        """Keep a report."""


def judge(
    tree: Tree, rules: Rules, *, memory: Memory | None = None, progress: Progress | None = None
) -> tuple[Outcome, ...]:
    """Check every model of which something is new.

    Args:
        tree: The files.
        rules: What they are held against.
        memory: What remembers answers; None: nothing does.
        progress: Called while reading.

    Returns:
        An outcome a model, the gravest first; none when nothing new is about a model. Names of files are those in the
        user's folder, or in the repository. Nothing that is wrong with a file or a server raises.
    """
    targets, extra = _targets(tree)
    # A folder that another one's card speaks for may be a part of that model, such as a layer put on top of it.
    parts = [*extra, *(target for target in targets if target.card is not None)]
    found = [
        replace(_outcome(tree, target, rules, memory, progress), extra=target in parts) for target in (*targets, *extra)
    ]
    return tuple(gravest_first(found))


def _targets(tree: Tree) -> tuple[list[Target], list[Target]]:
    """Return the models of which something is new, and the new weight files that their checks leave aside."""
    found: list[Target] = []
    covered: set[str] = set()
    for target in changed_models(tree.top, tree.new):
        where = PurePosixPath(target.name)
        if (tree.top / where).is_file():
            continue
        if not any(PurePosixPath(name).is_relative_to(where) for name in tree.weights):
            if f"{_prefix(where)}{CARD}" not in tree.new:
                continue
            # The card alone: what the repository has beside it was checked when it came.
            target = replace(target, how="lint")
        elif _holds_part_of_a_set(tree, where):
            # Sent piece by piece, from a disk that does not hold them all: each is checked by itself.
            continue
        found.append(target)
        covered.update(_read_by(tree.top, target))
    # Also one of a name that no format has, and one that nothing says how to load.
    extra = [
        Target(f"./{name}" if name[0] in "~-" else name, card=_card_of(tree.top, PurePosixPath(name)))
        for name in sorted(tree.weights - covered)
    ]
    return found, extra


def _holds_part_of_a_set(tree: Tree, folder: PurePosixPath) -> bool:
    """Return whether new shards in a folder lack others of their set, and no index there says where these are."""
    names = [entry.name for entry in (tree.top / folder).iterdir()]
    if any(name.endswith(".index.json") for name in names):
        return False
    new = [SHARD.match(name) for name in names if f"{_prefix(folder)}{name}" in tree.weights]
    return any(
        sum(name.startswith(one["start"]) and name.endswith(one["end"]) for name in names) < int(one["count"])
        for one in new
        if one is not None
    )


def _prefix(folder: PurePosixPath) -> str:
    return "" if folder == PurePosixPath() else f"{folder}/"


def _read_by(top: Path, target: Target) -> Iterator[str]:
    """Yield the weight files that a check of a target reads."""
    if target.how == "lint":
        return
    place = top / target.name
    if place.is_file():
        yield PurePosixPath(target.name).as_posix()
        return
    try:
        files = open_checkpoint(str(place), options=Options(offline=True)).weight_files
    except LineageError:
        # The check says what is wrong with them.
        yield from (f"{_prefix(PurePosixPath(target.name))}{file}" for file in _weight_files(place))
        return
    yield from (f"{_prefix(PurePosixPath(target.name))}{name}" for name in files)


def _weight_files(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_file() and is_weight_file(entry.name)]


def _card_of(top: Path, file: PurePosixPath) -> str | None:
    """Return the nearest card at or above a file."""
    return next((f"{_prefix(above)}{CARD}" for above in file.parents if (top / above / CARD).is_file()), None)


def _outcome(tree: Tree, target: Target, rules: Rules, memory: Memory | None, progress: Progress | None) -> Outcome:
    where = PurePosixPath(target.name)
    name = f"{tree.name}/{_prefix(where)}".rstrip("/")
    home = tree.folder or tree.top
    try:
        # A policy is looked for where the user keeps the model, not where it was laid out.
        beside = None if target.card is None else str(home / target.card)
        policy = rules.policy if rules.policy is not None else find_policy(str(home / where), beside, tree.came_from)
        options = options_under(policy, rules.options)
        kept = None if memory is None else memory.recall(tree, target, policy, options)
    except LineageError as error:
        return Outcome(replace(target, name=name), code_of(error), None, str(error))
    if kept is not None:
        return Outcome(replace(target, name=name), exit_code(kept, rules.fail_on), kept)
    found = ask(
        _laid_out(tree, target),
        policy=policy,
        bases=rules.bases,
        options=options,
        fail_on=rules.fail_on,
        name=name,
        hub_id=tree.name if tree.on_hub else "",
        # The repository may have more than what was laid out.
        partial=True,
        progress=progress,
    )
    found = _placed(found, tree, target, name)
    if memory is not None and found.report is not None:
        memory.keep(tree, target, policy, options, found.report)
    return found


def _laid_out(tree: Tree, target: Target) -> Target:
    card = None if target.card is None else str(tree.top / target.card)
    return replace(target, name=str(tree.top / target.name), card=card)


def _placed(found: Outcome, tree: Tree, target: Target, name: str) -> Outcome:
    """Name files as the user knows them, where they lie in his folder or in the repository, and add their digests."""
    laid, shown = str(tree.top), tree.name if tree.folder is None else str(tree.folder)

    def plain(text: str) -> str:
        return text.replace(laid, shown)

    report = found.report
    if report is not None:
        prefix = _prefix(PurePosixPath(target.name)) if (tree.top / target.name).is_dir() else ""
        digests = {n.removeprefix(prefix): tree.digests[n] for n in _read_by(tree.top, target) if n in tree.digests}
        report = replace(
            report,
            suspect=replace(report.suspect, sha256=digests or report.suspect.sha256),
            folder=None if report.folder is None or tree.folder is None else plain(report.folder),
            card=None if report.card is None else plain(report.card),
            declared=replace(report.declared, file=report.declared.file and plain(report.declared.file)),
            summary=plain(report.summary),
            findings=tuple(_finding(finding, plain) for finding in report.findings),
        )
    return replace(found, target=replace(found.target, name=name), report=report, problem=plain(found.problem))


def _finding(found: Finding, plain: Callable[[str], str]) -> Finding:
    file = None if found.file is None else plain(found.file)
    return replace(found, file=file, message=plain(found.message), help=plain(found.help))
