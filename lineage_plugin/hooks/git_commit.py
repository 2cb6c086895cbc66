"""The files of a commit, laid out in a folder: what a push sends, whatever the working tree or the index holds.

Git is run without hooks, pagers, file system monitors and external diffs, and sees no replaced objects, since a push
sends the true ones. Of large files that the commit has as Git LFS pointers (those of Xet storage are the same), the
bytes are taken from git-lfs's own store, else from the working tree where they have the digest that the pointer
states. A pointer whose bytes are not on this machine stays one: :mod:`lineage_plugin.checkpoint.pointers` says what
becomes of it.

The commit may come from a stranger: nothing is written outside the folder, and no link in it leads out.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, cast

from lineage_plugin.checkpoint.formats import is_weight_file
from lineage_plugin.checkpoint.pointers import parse_pointer
from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.digests import Digests
from lineage_plugin.targets import LARGEST, describes
from lineage_plugin.text import one_line

__all__ = ["Entry", "LaidOut", "Repository", "lay_out", "run_git"]

_KEPT = re.compile(
    r"GIT_(DIR|WORK_TREE|COMMON_DIR|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|CEILING_DIRECTORIES|EXEC_PATH|CONFIG.*"
    r"|DISCOVERY_ACROSS_FILESYSTEM|SSH.*|ASKPASS|TERMINAL_PROMPT)\Z"
)
"""Variables of git that say where the repository is and how its remote is reached; no others are handed on."""
_LINK, _SUBMODULE = "120000", "160000"
_SHORTEST = 100
"""Bytes below which a file of any name is neither weights nor a pointer."""
_POINTER = 1 << 10
"""Bytes of a file that are looked at first; a pointer has fewer."""
_CHUNK = 1 << 20


def run_git(*arguments: str, folder: Path | None = None, hooks: bool = False) -> bytes | None:
    """Run git and return its output; None when it fails.

    Args:
        arguments: Its arguments.
        folder: Where to run it; the current folder by default.
        hooks: Whether it may look at where hooks are.

    Raises:
        UsageError: When there is no git.
    """
    try:
        done = subprocess.run(  # noqa: S603
            _command(arguments, hooks=hooks), cwd=folder, env=_environment(), capture_output=True, check=False
        )
    except OSError as error:
        raise UsageError(f"git cannot be run ({error.strerror or type(error).__name__}): install it") from error
    return None if done.returncode else done.stdout


def _command(arguments: Iterable[str], *, hooks: bool = False) -> list[str]:
    command = ["git", "--no-pager", "-c", "core.fsmonitor=false"]
    if not hooks:
        command += ["-c", f"core.hooksPath={os.devnull}"]
    return [*command, *arguments]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or _KEPT.match(name)}
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1", "LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a commit.

    Attributes:
        mode: Six digits, as git lists them.
        id: The object that holds its content.
    """

    mode: str
    id: str


@dataclass(frozen=True, eq=False)
class Repository:
    """The repository that is pushed from.

    Attributes:
        top: Its working tree; None when it has none.
        store: Where git-lfs keeps large files.
    """

    top: Path | None
    store: Path

    @classmethod
    def here(cls) -> Repository:
        """Return the repository of the current folder, or the one that a hook is told of.

        Raises:
            UsageError: When there is none.
        """
        common = run_git("rev-parse", "--git-common-dir")
        if common is None:
            raise UsageError("this is no git repository, or git does not trust it")
        git = Path(os.fsdecode(common).rstrip("\n")).resolve()
        top = run_git("rev-parse", "--show-toplevel")
        stored = run_git("config", "--path", "--get", "lfs.storage")
        store = git / os.fsdecode(stored or b"lfs").rstrip("\n")
        return cls(None if not top else Path(os.fsdecode(top).rstrip("\n")), store / "objects")

    def files(self, commit: str) -> dict[str, Entry]:
        """Return the files of a commit; submodules are none.

        Raises:
            UsageError: When there is no such commit.
        """
        listed = run_git("ls-tree", "-r", "-z", "--full-tree", commit)
        if listed is None:
            raise UsageError(f"{commit}: git has no files for it")
        found: dict[str, Entry] = {}
        for line in listed.split(b"\0")[:-1]:
            about, _, name = line.partition(b"\t")
            mode, _, id = about.decode("ascii").split(" ")
            if mode != _SUBMODULE:
                _enter(found, name, Entry(mode, id))
        return found

    def differences(self, before: str, after: str) -> dict[str, Entry] | None:
        """Return the files of a commit that another one has not; None when one of them is not on this machine."""
        found = run_git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", before, after, "--")
        if found is None:
            return None
        fields = found.split(b"\0")
        changed: dict[str, Entry] = {}
        for about, name in zip(fields[:-1:2], fields[1::2], strict=True):
            _, mode, _, id, status = about.decode("ascii").split(" ")
            if status != "D" and mode != _SUBMODULE:
                _enter(changed, name, Entry(mode, id))
        return changed

    def large_file(self, name: str, oid: str, size: int) -> Path | None:
        """Return where the bytes are that a pointer stands for; None when they are not on this machine."""
        stored = self.store / oid[:2] / oid[2:4] / oid
        if stored.is_file() and stored.stat().st_size == size:
            return stored
        if self.top is None:
            return None
        own = self.top / name
        if not own.is_symlink() and own.is_file() and own.stat().st_size == size:
            return own if Digests().of([own])[own] == oid else None
        return None


def _enter(found: dict[str, Entry], name: bytes, entry: Entry) -> None:
    text = os.fsdecode(name)
    if text in found:
        raise UsageError(f"'{one_line(text, 200)}': the commit has two files of one name")
    found[text] = entry


@dataclass(frozen=True, eq=False)
class LaidOut:
    """What was laid out.

    Attributes:
        weights: Names of the changed files that are weights, by name or by their first bytes.
        digests: sha256 of the files, by name.
    """

    weights: frozenset[str]
    digests: Mapping[str, str]


@dataclass(eq=False)
class _Layer:
    """Puts files in place."""

    repository: Repository
    top: Path
    entries: Mapping[str, Entry]
    digests: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, data: IO[bytes], size: int) -> bytes:
        """Put a file in its place, and return its first bytes: those of the large file where it is a pointer."""
        target = self._place(name)
        first = data.read(min(size, _POINTER))
        pointer = parse_pointer(first) if size <= _POINTER else None
        source = None if pointer is None else self.repository.large_file(name, *pointer)
        if pointer is not None:
            self.digests[name] = pointer[0]
        if source is not None and describes(name) and source.stat().st_size <= LARGEST:
            # A check follows links of weights, and of nothing else.
            shutil.copyfile(source, target)
        elif source is not None:
            target.symlink_to(source)
        else:
            digest = hashlib.sha256(first)
            with target.open("xb") as file:
                file.write(first)
                for piece in _pieces(data, size - len(first)):
                    file.write(piece)
                    digest.update(piece)
            self.digests.setdefault(name, digest.hexdigest())
            return first
        with source.open("rb") as file:
            return file.read(_POINTER)

    def drop_unless_small(self, name: str) -> None:
        """Remove a file that was looked at for its first bytes alone: no weights, no card and no configuration."""
        place = self.top / name
        if not describes(name) or place.is_symlink() or place.stat().st_size > LARGEST:
            place.unlink()

    def link(self, name: str, data: bytes) -> None:
        """Put a link in its place; one that leads out becomes what a system without links has, a file that says where.

        Everything else is in place by now, in true folders. So a path that climbs at its beginning only, and not beyond
        the top, stays inside, whatever links it meets.
        """
        text = os.fsdecode(data)
        parts = PurePosixPath(text).parts
        climbs = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
        inside = ".." not in parts[climbs:] and climbs <= len(PurePosixPath(name).parent.parts)
        target = self._place(name)
        if text and "\0" not in text and not text.startswith("/") and inside:
            target.symlink_to(text)
        else:
            target.write_bytes(data)

    def _place(self, name: str) -> Path:
        path = PurePosixPath(name)
        if path.is_absolute() or any(part in ("", ".", "..") or part.lower() == ".git" for part in name.split("/")):
            raise UsageError(f"'{one_line(name, 200)}' is no name for a file in a repository")
        target = self.top / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"'{one_line(name, 200)}': the commit has a file and a folder of one name") from error
        if os.path.lexists(target):
            raise UsageError(f"'{one_line(name, 200)}': the commit has two files of one name, as this system sees it")
        return target


def lay_out(repository: Repository, commit: str, changed: Mapping[str, Entry], top: Path) -> LaidOut | None:
    """Lay the files of a commit out that a check of the changed ones may look at.

    Args:
        repository: The repository.
        commit: The commit.
        changed: Those of its files that are new to the remote.
        top: An empty folder.

    Returns:
        What was laid out; None when no changed file is about a model.

    Raises:
        UsageError: When an object is missing, or a name is none that a repository may have.
    """
    sizes = dict(_sizes({entry.id for entry in changed.values()}))
    layer = _Layer(repository, top, changed)
    wanted = {name: entry for name, entry in changed.items() if _matters(name, entry, sizes[entry.id])}
    firsts = dict(_put_all(layer, wanted))
    weights = frozenset(name for name, first in firsts.items() if _is_weights(name, first))
    for name in firsts.keys() - weights:
        layer.drop_unless_small(name)
    weights |= {name for name, entry in changed.items() if entry.mode == _LINK and is_weight_file(name)}
    if not weights and not any(map(describes, changed)):
        return None
    others = {name: entry for name, entry in repository.files(commit).items() if name not in changed}
    sizes = dict(_sizes({entry.id for name, entry in others.items() if is_weight_file(name) or describes(name)}))
    wanted = {}
    for name, entry in others.items():
        if entry.mode == _LINK or entry.id not in sizes:
            continue
        if is_weight_file(name) and not weights and sizes[entry.id] > _POINTER:
            # That it is there decides what the folder is; only a card is linted, so nobody reads it.
            layer._place(name).touch()
        elif is_weight_file(name) or sizes[entry.id] <= LARGEST:
            wanted[name] = entry
    for name, _ in _put_all(layer, wanted):
        if not is_weight_file(name):
            layer.drop_unless_small(name)
    links = {name: entry for name, entry in (others | dict(changed)).items() if entry.mode == _LINK}
    for name, data in _small(links):
        layer.link(name, data)
    return LaidOut(weights, layer.digests)


def _is_weights(name: str, first: bytes) -> bool:
    if is_weight_file(name):
        return True
    if b"\0" not in first:
        # Text, as git tells it; every format of weights has a zero early on.
        return False
    # Imported late, since a push of text alone should cost nothing.
    from lineage_plugin.hooks.staged import looks_like_weights

    return looks_like_weights(name, first)


def _matters(name: str, entry: Entry, size: int) -> bool:
    if entry.mode == _LINK:
        return False
    return is_weight_file(name) or describes(name) or size >= _SHORTEST


def _put_all(layer: _Layer, wanted: Mapping[str, Entry]) -> Iterator[tuple[str, bytes]]:
    for name, data, size in _contents(wanted):
        yield name, layer.put(name, data, size)


def _small(wanted: Mapping[str, Entry]) -> Iterator[tuple[str, bytes]]:
    for name, data, size in _contents(wanted):
        yield name, b"".join(_pieces(data, size))


def _sizes(ids: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the sizes of objects."""
    wanted = sorted(ids)
    with _cat_file("--batch-check", wanted) as stream:
        for id in wanted:
            yield id, _size(stream.readline(), id)


def _contents(wanted: Mapping[str, Entry]) -> Iterator[tuple[str, IO[bytes], int]]:
    """Yield files, each with a stream that stands at its content, and the size; all of it is to be read."""
    with _cat_file("--batch", [entry.id for entry in wanted.values()]) as stream:
        for name, entry in wanted.items():
            yield name, stream, _size(stream.readline(), entry.id)
            stream.read(1)


def _size(line: bytes, id: str) -> int:
    parts = line.split()
    if len(parts) != 3 or parts[0] != id.encode() or parts[1] != b"blob":
        raise UsageError(f"git does not have the object {id}: fetch it, or run `git fsck`")
    return int(parts[2])


@contextmanager
def _cat_file(how: str, ids: Iterable[str]) -> Iterator[IO[bytes]]:
    """Run ``git cat-file`` over objects, and yield its output."""
    # From a file: what is written to a pipe waits for what is read from the other.
    with tempfile.TemporaryFile() as wanted:
        wanted.write("".join(f"{id}\n" for id in ids).encode())
        wanted.seek(0)
        with subprocess.Popen(  # noqa: S603
            _command(["cat-file", "--buffer", how]),
            env=_environment(),
            stdin=wanted,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                yield cast(IO[bytes], process.stdout)
            finally:
                process.kill()


def _pieces(data: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0:
        piece = data.read(min(size, _CHUNK))
        if not piece:
            raise UsageError("git stopped in the middle of a file: run `git fsck`")
        size -= len(piece)
        yield piece
