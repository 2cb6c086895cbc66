"""The check before an upload: what is about to go is laid out, hashed, judged, and cleared or blocked.

A clearance is for bytes, not for names: it holds the sha256 of every weight file and card that was looked at. What is
sent is held against it (:mod:`lineage_plugin.hooks.watch`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.local import BESIDE
from lineage_plugin.errors import HubNotFound, LineageError, UploadBlocked
from lineage_plugin.findings import gravest_first
from lineage_plugin.hooks.digests import Digests, FileStamp
from lineage_plugin.hooks.journal import OVERRIDE, record
from lineage_plugin.hooks.judge import judge
from lineage_plugin.hooks.memory import Remembering
from lineage_plugin.hooks.rules import Rules
from lineage_plugin.hooks.staged import Staged, laid_out
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options, Progress
from lineage_plugin.outcome import ExitCode, Outcome, code_of
from lineage_plugin.outcome import gravest_first as gravest_outcomes_first
from lineage_plugin.report.phrases import summary
from lineage_plugin.targets import CARD, Target
from lineage_plugin.text import one_line

__all__ = ["Cleared", "Destination", "clear", "examine"]

_LOG = logging.getLogger("lineage_plugin")
_SHARD = re.compile(r"(.*-)\d{5,6}(-of-\d{5,6}\.[A-Za-z0-9_]+)\Z")
_LARGEST_BESIDE = 64 << 20
_SHOWN = 3
"""Findings of a model that the message of a blocked upload names."""


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
        places: Where the local files among them lie, and in which state they were.
        reason: Why they go although something was found; None when nothing was, or it is only said.
    """

    repo: str
    outcomes: tuple[Outcome, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, tuple[Path, FileStamp]] = field(default_factory=dict)
    reason: str | None = None

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports, the gravest first."""
        return tuple(outcome.report for outcome in self.outcomes if outcome.report is not None)


def clear(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    *,
    earlier: Mapping[str, Path] | None = None,
    progress: Progress | None = None,
) -> Cleared:
    """Look at what is about to be uploaded, and block it where the rules say so.

    Args:
        staged: The files.
        destination: Where they go.
        rules: What they are held against.
        earlier: Weights that this process has sent there before, by their names, and where they lie: a card that comes
            after them is held against them.
        progress: Called while reading.

    Returns:
        The clearance; an override that was needed is recorded.

    Raises:
        UploadBlocked: When something is found, cannot be read or cannot be decided, the Hub is not reached, or a file
            changes meanwhile: what was not checked does not go.
    """
    found = examine(staged, destination, rules, earlier=earlier, progress=progress)
    grave = [outcome for outcome in found.outcomes if outcome.code != 0]
    if not grave:
        for report in found.reports:
            compared = bool(report.comparisons) or report.command == "lint"
            _LOG.log(logging.INFO if compared else logging.WARNING, "%s", summary(report))
        return found
    why = "\n".join(f"  {_reason(outcome)}" for outcome in grave)
    if rules.override is not None:
        record(destination.repo, rules.override, found.outcomes, found.digests)
        _LOG.warning("upload to %s goes on, for this reason: %s\n%s", destination.repo, rules.override, why)
        return replace(found, reason=rules.override)
    if rules.warn_only:
        _LOG.warning("upload to %s would be blocked\n%s", destination.repo, why)
        return found
    raise UploadBlocked(
        destination.repo,
        [_reason(outcome) for outcome in grave],
        found.reports,
        exit_code=grave[0].code,
        remedy=_REMEDIES.get(grave[0].code, _OVERRIDE),
    )


_OVERRIDE = f"To upload all the same, say why: the reason is recorded ({OVERRIDE}='...', or override=)."
_REMEDIES: dict[ExitCode, str] = {
    1: f"Correct the model card or the weights. {_OVERRIDE}",
    3: f"It could not be decided. {_OVERRIDE}",
    4: f"What could not be found out is not let go: run it again. {_OVERRIDE}",
}


def examine(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    *,
    earlier: Mapping[str, Path] | None = None,
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
    if not staged.weights and not _cards(staged):
        return Cleared(destination.repo)
    try:
        sent = {} if staged.weights else {name: path for name, path in (earlier or {}).items() if path.is_file()}
        beside: dict[str, Path | bytes] = {**dict(_siblings(staged)), **sent}
        own = _cards_beside(staged)
        theirs = _from_repository(staged, destination, rules.options, beside)
        # What the repository says, and what the user is about to say, may be two things: both have to be true.
        ways = [theirs | own, *([theirs] if own.keys() & theirs.keys() else [])]
        found = [_examine(staged, destination, rules, beside | way, frozenset(sent), progress) for way in ways]
    except (LineageError, OSError) as error:
        code = code_of(error) if isinstance(error, LineageError) else 2
        said = (
            str(error) if isinstance(error, LineageError) else f"{error.filename or 'disk'}: {error.strerror or error}"
        )
        return Cleared(destination.repo, (Outcome(Target(destination.repo), code, None, said),))
    outcomes = gravest_outcomes_first(outcome for one in found for outcome in one.outcomes)
    return replace(found[0], outcomes=tuple(outcomes))


def _cards(staged: Staged) -> frozenset[str]:
    return frozenset(name for name in staged.files if PurePosixPath(name).name == CARD)


def _examine(
    staged: Staged,
    destination: Destination,
    rules: Rules,
    beside: Mapping[str, Path | bytes],
    sent: frozenset[str],
    progress: Progress | None,
) -> Cleared:
    digests = Digests()
    with laid_out(staged, destination.repo, beside) as (tree, places):
        places |= {name: path for name, path in beside.items() if isinstance(path, Path)}
        known = digests.of(list(dict.fromkeys(places.values())), progress)
        by_name = {name: known[path] for name, path in places.items()}
        fetched = {name: tree.top / name for name, data in beside.items() if isinstance(data, bytes)}
        theirs = digests.of(list(fetched.values()))
        by_name |= {name: theirs[path] for name, path in fetched.items()}
        tree = replace(tree, new=tree.new | sent, weights=tree.weights | sent, digests=by_name)
        outcomes = judge(tree, rules, memory=Remembering(digests, rules.bases), progress=progress)
        # What was judged is what was hashed.
        changed = [path for path in places.values() if not digests.stamp(path).fits(FileStamp.of(path))]
        if changed:
            problem = f"{one_line(str(changed[0]), 200)}: the file changed while it was checked. Run again."
            outcomes = (Outcome(Target(destination.repo), 2, None, problem), *outcomes)
    goes = [name for name in places if name in tree.weights or name in _cards(staged) or is_weight_file(name)]
    return Cleared(
        destination.repo,
        outcomes,
        {name: by_name[name] for name in sorted(goes)},
        {name: (places[name], digests.stamp(places[name])) for name in goes},
    )


def _cards_beside(staged: Staged) -> dict[str, Path | bytes]:
    """Return the cards that lie beside weights on this machine and are not uploaded with them."""
    found: dict[str, Path | bytes] = {}
    for name in staged.weights:
        content = staged.files[name].content
        folder = PurePosixPath(name).parent
        if isinstance(content, Path) and str(folder / CARD) not in staged.files and content.name == Path(name).name:
            card = content.parent / CARD
            if card.is_file():
                found[str(folder / CARD)] = card
    return found


def _siblings(staged: Staged) -> Iterator[tuple[str, Path]]:
    """Yield the other shards that lie beside a shard on this machine, and their index: one check is of all."""
    for name in staged.weights:
        match, file = _SHARD.match(name), staged.files[name]
        if match is None or not isinstance(file.content, Path):
            continue
        prefix, folder = name.rpartition("/")[0], file.content.parent
        start, end = (part.rpartition("/")[2] for part in match.groups())
        for path in sorted(folder.iterdir()):
            shard = path.name.startswith(start) and path.name.endswith(end) and is_weight_file(path.name)
            if (shard or path.name.endswith(".index.json")) and path.is_file():
                other = f"{prefix}/{path.name}".lstrip("/")
                if other not in staged.files:
                    yield other, path


def _from_repository(
    staged: Staged, destination: Destination, options: Options, beside: Mapping[str, Path | bytes]
) -> dict[str, Path | bytes]:
    """Return the small files that the repository has beside the new ones: weights alone are held against its card."""
    there = staged.files.keys() | beside.keys()
    folders = {PurePosixPath(name).parent for name in staged.weights}
    cards = {PurePosixPath(name).parent for name in staged.files if PurePosixPath(name).name == CARD}
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
        name: source.data(name, _LARGEST_BESIDE)
        for name in sorted(wanted & source.files.keys())
        if source.files[name].size <= _LARGEST_BESIDE
    }
    return {name: data for name, data in found.items() if data is not None}


def _has(names: Sequence[str] | set[str], folder: PurePosixPath) -> bool:
    """Return whether a folder of the upload is a model of its own: with a card and a configuration."""
    return str(folder / CARD) in names and str(folder / "config.json") in names


def _is_deleted(name: str, deleted: Sequence[str]) -> bool:
    return any(name == one or (one.endswith("/") and name.startswith(one)) for one in deleted)


def _reason(outcome: Outcome) -> str:
    """Say in a line why a model is not let go."""
    report, name = outcome.report, one_line(outcome.target.name, 200)
    if report is None:
        return f"{name}: {one_line(outcome.problem, 500)}"
    grave = [found for found in gravest_first(report.findings) if found.level != "note"]
    if not grave:
        return summary(report)
    said = [
        f"{found.code} {one_line(found.message, 300)}" + (f" ({_where(found.file, found.line)})" if found.file else "")
        for found in grave[:_SHOWN]
    ]
    more = f"; and {len(grave) - _SHOWN} more" if len(grave) > _SHOWN else ""
    return f"{name}: {'; '.join(said)}{more}"


def _where(file: str, line: int | None) -> str:
    return one_line(file, 200) + (f":{line}" if line is not None else "")
