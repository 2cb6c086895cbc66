"""The check before an upload: what is about to go is laid out, hashed, judged, and cleared or blocked.

A clearance is for bytes, not for names: it holds the sha256 of every weight file and card that was looked at. What is
sent is held against it (:mod:`lineage_plugin.hooks.watch`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.local import BESIDE
from lineage_plugin.errors import HubNotFound, LineageError, UnreadableCheckpoint, UploadBlocked
from lineage_plugin.hooks.blocking import blocking, reason_of, remedy_of
from lineage_plugin.hooks.digests import Digests, FileStamp, unchanged
from lineage_plugin.hooks.journal import record
from lineage_plugin.hooks.judge import SHARD, judge
from lineage_plugin.hooks.memory import Remembering
from lineage_plugin.hooks.rules import Rules
from lineage_plugin.hooks.said import LOG
from lineage_plugin.hooks.staged import Staged, StagedFile, laid_out
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options, Progress
from lineage_plugin.outcome import Outcome, ask, code_of, options_under
from lineage_plugin.outcome import gravest_first as gravest_outcomes_first
from lineage_plugin.policy.find import find_policy
from lineage_plugin.targets import CARD, LARGEST, Target
from lineage_plugin.text import one_line

__all__ = ["Cleared", "Destination", "clear", "examine"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an upload goes.

    Attributes:
        repo: ``owner/name``.
        revision: Branch; None for the default one.
        deleted: Files, and folders with a slash at the end, that the same commit deletes.
    """

    repo: str
    revision: str | None = None
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Cleared:
    """What was looked at, and may go.

    Attributes:
        repo: Where to.
        outcomes: What was found, the gravest first; none when nothing is about a model.
        digests: sha256 of the new weight files and cards by their names in the repository, and of shards beside them.
        places: Where local weights among them lie, and in which state they were.
        reason: Why they go although something was found; None when nothing was, or it is only said.
    """

    repo: str
    outcomes: tuple[Outcome, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, tuple[Path, FileStamp]] = field(default_factory=dict)
    reason: str | None = None

    def covers(self, file: StagedFile) -> bool:
        """Return whether the bytes that a file has now are among those that were looked at."""
        known = self.places.get(file.name)
        if known is not None and isinstance(file.content, Path) and unchanged(file.content, known[1]):
            return True
        return file.sha256() in self.digests.values()

    def covers_all(self, files: Mapping[str, StagedFile]) -> bool:
        """Return whether files were looked at as they go: all at once, and with the cards they were held against."""
        cards = {name for name in self.digests if PurePosixPath(name).name == CARD}
        return cards <= files.keys() and all(map(self.covers, files.values()))

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports, the gravest first."""
        return tuple(outcome.report for outcome in self.outcomes if outcome.report is not None)


def clear(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    *,
    earlier: Mapping[str, Path | None] | None = None,
    progress: Progress | None = None,
) -> Cleared:
    """Look at what is about to be uploaded, and block it where the rules say so.

    Args:
        staged: The files.
        destination: Where they go.
        rules: What they are held against.
        earlier: Weights that this process has sent there before, by their names, and where they lie, None for nowhere
            on this machine: a card that comes after them is held against them.
        progress: Called while reading.

    Returns:
        The clearance; an override that was needed is recorded.

    Raises:
        UploadBlocked: When something is found, cannot be read or cannot be decided, the Hub is not reached, or a file
            changes meanwhile: what was not checked does not go.
    """
    found = examine(staged, destination, rules, earlier=earlier, progress=progress)
    grave = blocking(found.outcomes)
    if not grave:
        return found
    why = "\n".join(f"  {reason_of(outcome)}" for outcome in grave)
    if rules.override is not None:
        record(destination.repo, rules.override, found.outcomes, found.digests)
        LOG.warning("upload to %s goes on, for this reason: %s\n%s", destination.repo, rules.override, why)
        return replace(found, reason=rules.override)
    if rules.warn_only:
        LOG.warning("upload to %s would be blocked\n%s", destination.repo, why)
        return found
    raise UploadBlocked(
        destination.repo,
        [reason_of(outcome) for outcome in grave],
        found.reports,
        report=grave[0].report,
        exit_code=grave[0].code,
        remedy=remedy_of(grave[0]),
    )


def examine(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    *,
    earlier: Mapping[str, Path | None] | None = None,
    progress: Progress | None = None,
) -> Cleared:
    """Look at what is about to be uploaded; nothing is blocked.

    Args:
        staged: The files.
        destination: Where they go.
        rules: What they are held against.
        earlier: As for :func:`clear`.
        progress: Called while reading.

    Returns:
        What was found. Nothing that is wrong with a file or a server raises.
    """
    if not staged.weights and not staged.cards:
        return Cleared(destination.repo)
    if staged.gone and staged.cards and not rules.bases:
        problem = f"{one_line(min(staged.gone), 200)}: was sent ahead of its card, which it cannot be held against now"
        outcome = Outcome(Target(destination.repo), 2, None, f"{problem}. Send the card first, or give bases=.")
        return Cleared(destination.repo, (outcome,), {name: staged.files[name].sha256() for name in staged.cards})
    try:
        before = {name: path for name, path in (earlier or {}).items() if staged.cards and name not in staged.files}
        sent = {name: path for name, path in before.items() if path is not None and path.is_file()}
        beside: dict[str, Path | bytes] = {**dict(_siblings(staged)), **sent}
        own = _cards_beside(staged)
        theirs = _from_repository(staged, destination, rules.options, beside)
        # What the repository says, and what the user is about to say, may be two things: both have to be true.
        differ = [name for name, path in own.items() if name in theirs and theirs[name] != path.read_bytes()]
        ways: list[dict[str, Path | bytes]] = [{**theirs, **own}, *([theirs] if differ else [])]
        found = [_examine(staged, destination, rules, beside | way, frozenset(sent), progress) for way in ways]
        if before.keys() - sent.keys() and CARD in staged.files:
            # Their bytes are gone here, as those of a temporary folder; the Hub has them.
            found.append(_on_hub(staged, destination, rules, progress))
    except (LineageError, OSError) as error:
        # Who lets it go all the same lets these bytes go.
        with suppress(LineageError, OSError):
            digests = {name: file.sha256() for name, file in staged.counted.items()}
            return Cleared(destination.repo, (_failed(destination, error),), digests)
        return Cleared(destination.repo, (_failed(destination, error),))
    outcomes = gravest_outcomes_first(outcome for one in found for outcome in one.outcomes)
    return replace(found[0], outcomes=tuple(outcomes))


def _failed(destination: Destination, error: LineageError | OSError) -> Outcome:
    if isinstance(error, LineageError):
        return Outcome(Target(destination.repo), code_of(error), None, str(error))
    what = f"{error.filename}: " if error.filename else ""
    return Outcome(Target(destination.repo), 2, None, f"{what}{error.strerror or type(error).__name__}")


def _on_hub(staged: Staged, destination: Destination, rules: Rules, progress: Progress | None) -> Cleared:
    """Hold a card against the weights that the repository has."""
    ref = destination.repo if destination.revision is None else f"{destination.repo}@{destination.revision}"
    with laid_out(staged, destination.repo, {}) as (tree, _):
        card = tree.top / CARD
        policy = rules.policy if rules.policy is not None else find_policy(ref, str(card))
        options = options_under(policy, rules.options)
        found = ask(
            Target(ref, "check", str(card)),
            policy=policy,
            bases=rules.bases,
            options=options,
            fail_on=rules.fail_on,
            partial=True,
            progress=progress,
        )
    if found.report is not None:
        # The card is the one that goes there.
        plain = tuple(replace(f, file=f.file and f.file.replace(str(card), CARD)) for f in found.report.findings)
        declared = replace(found.report.declared, file=CARD)
        found = replace(found, report=replace(found.report, findings=plain, declared=declared, card=None))
    return Cleared(destination.repo, (replace(found, problem=found.problem.replace(str(card), CARD)),))


def _examine(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    beside: Mapping[str, Path | bytes],
    sent: frozenset[str],
    progress: Progress | None,
) -> Cleared:
    digests = Digests()
    with laid_out(staged, destination.repo, beside) as (tree, names):
        # What is hashed is what is judged: copies of small files, and weights themselves, behind links.
        paths = {name: tree.top / name for name in sorted(names)}
        try:
            known = digests.of(list(paths.values()), progress)
        except UnreadableCheckpoint as error:
            # Nobody knows the folder that it is laid out in.
            where = error.where.replace(f"{tree.top}{os.sep}", "")
            raise UnreadableCheckpoint(where, error.problem, error.remedy) from error
        by_name = {name: known[path] for name, path in paths.items()}
        tree = replace(tree, new=tree.new | sent, weights=tree.weights | sent, digests=by_name)
        outcomes = judge(tree, rules, memory=Remembering(digests, rules.bases), progress=progress)
        stamps = {name: digests.stamp(path) for name, path in paths.items()}
        changed = [name for name, path in paths.items() if not stamps[name].fits(FileStamp.of(path))]
        if changed:
            problem = f"{one_line(changed[0], 200)}: the file changed while it was checked. Run again."
            outcomes = (Outcome(Target(destination.repo), 2, None, problem), *outcomes)
        links = {name: path.readlink() for name, path in paths.items() if path.is_symlink()}
    goes = [name for name in by_name if name in tree.weights or name in staged.cards or name in links]
    return Cleared(
        destination.repo,
        outcomes,
        {name: by_name[name] for name in goes},
        {name: (links[name], stamps[name]) for name in goes if name in links},
    )


def _cards_beside(staged: Staged) -> dict[str, Path]:
    """Return the cards that lie beside weights on this machine and are not uploaded with them."""
    found: dict[str, Path] = {}
    for name in staged.weights:
        content = staged.files[name].content
        folder = PurePosixPath(name).parent
        if isinstance(content, Path) and str(folder / CARD) not in staged.files and content.name == Path(name).name:
            card = content.parent / CARD
            if card.is_file():
                found[str(folder / CARD)] = card
    return found


def _siblings(staged: Staged) -> Iterator[tuple[str, Path]]:
    """Yield the other shards that lie beside a shard on this machine, and their index: one check is of all.

    Where some are not there, each is checked by itself.
    """
    for name in staged.weights:
        match, file = SHARD.match(name), staged.files[name]
        if match is None or not isinstance(file.content, Path):
            continue
        prefix, folder = name[: name.rfind("/") + 1], file.content.parent
        beside = {prefix + path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        shards = {
            other
            for other in staged.files.keys() | beside.keys()
            if other.startswith(match["start"]) and other.endswith(match["end"]) and is_weight_file(other)
        }
        if len(shards) < int(match["count"]):
            continue
        for other, path in beside.items():
            if other not in staged.files and (other in shards or other.endswith(".index.json")):
                yield other, path


def _from_repository(
    staged: Staged, destination: Destination, options: Options, beside: Mapping[str, Path | bytes]
) -> dict[str, Path | bytes]:
    """Return the small files that the repository has beside the new ones: weights alone are held against its card."""
    there = staged.files.keys() | beside.keys()
    folders = {PurePosixPath(name).parent for name in staged.weights}
    cards = {PurePosixPath(name).parent for name in staged.cards}
    wanted = {str(folder / name) for folder in folders for name in BESIDE if not _has(there, folder)}
    if folders and CARD not in there:
        wanted |= {str(above / CARD) for folder in folders for above in (folder, *folder.parents)}
    wanted |= {str(folder / "adapter_config.json") for folder in cards - folders}
    wanted = {name for name in wanted - there if not _is_deleted(name, destination.deleted)}
    if not wanted or options.offline:
        return {}
    from lineage_plugin.checkpoint.hub import connect

    ledger = Ledger(destination.repo, None)
    try:
        source = connect(
            destination.repo, destination.revision, token=options.token, endpoint=options.endpoint, ledger=ledger
        )
    except HubNotFound:
        # It is made by this upload.
        return {}
    found = {
        name: source.data(name, LARGEST)
        for name in sorted(wanted & source.files.keys())
        if source.files[name].size <= LARGEST
    }
    return {name: data for name, data in found.items() if data is not None}


def _has(names: Sequence[str] | set[str], folder: PurePosixPath) -> bool:
    """Return whether a folder of the upload is a model of its own: with a card and a configuration."""
    return str(folder / CARD) in names and str(folder / "config.json") in names


def _is_deleted(name: str, deleted: Sequence[str]) -> bool:
    return any(name == one or (one.endswith("/") and name.startswith(one)) for one in deleted)
