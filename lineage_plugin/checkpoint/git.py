"""Where a git clone comes from, read from the files in ``.git``.

No git is run: a hostile ``.git/config`` can name programs (``core.fsmonitor``, ``core.sshCommand``) that git starts by
itself. Read are ``HEAD``, ``refs``, ``packed-refs`` and the ``url`` of remotes (gitrepository-layout(5),
git-config(5)); ``include`` and ``insteadOf`` are not followed, and refs in the reftable format are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lineage_plugin.checkpoint.files import opened
from lineage_plugin.checkpoint.names import is_plain_path
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Clone", "find_clone"]

_SMALL = 1 << 12
_LARGEST_CONFIG = 1 << 20
_LARGEST_PACKED = 64 << 20
_DEEPEST = 64
"""Folders above the model that are looked at."""
_LINKS = 5
_COMMIT = re.compile(r"^[0-9a-f]{40}\Z")
_SECTION = re.compile(r'^\[\s*([A-Za-z0-9.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]', re.DOTALL)
_ENTRY = re.compile(r"^([A-Za-z][A-Za-z0-9-]*)\s*(?:=\s*(.*))?\Z", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}


@dataclass(frozen=True, slots=True)
class Clone:
    """A git working tree.

    Attributes:
        folder: Where its files are.
        commits: The commit that is checked out, then the one of the remote that its branch was last seen to have;
            fewer when they are not known or the same.
        url: Address of the remote, or None.
    """

    folder: Path
    commits: tuple[str, ...]
    url: str | None


def find_clone(folder: Path) -> Clone | None:
    """Find the git working tree that a folder is part of.

    Args:
        folder: An existing folder.

    Returns:
        The clone; None when there is none, or its files are not what git writes.
    """
    place = Path(os.path.abspath(folder))  # noqa: PTH100  # resolve() would follow links out of the clone
    for top in (place, *list(place.parents)[:_DEEPEST]):
        if os.path.lexists(top / ".git"):
            return _read_clone(top)
    return None


def _read_clone(top: Path) -> Clone | None:
    git = top / ".git"
    if not git.is_dir():
        # A worktree or a submodule: a file that says where the folder is.
        pointer = _text(git, _SMALL)
        if pointer is None or not pointer.startswith("gitdir: "):
            return None
        git = top / pointer.removeprefix("gitdir: ").rstrip("\r\n")
    common = _text(git / "commondir", _SMALL)
    shared = git if common is None else git / common.rstrip("\r\n")
    head = _text(git / "HEAD", _SMALL)
    config = _text(shared / "config", _LARGEST_CONFIG)
    if head is None or config is None:
        return None
    branch = head.removeprefix("ref: ").strip() if head.startswith("ref: ") else None
    values = dict(_entries(config))
    remote = _remote(values, branch)
    wanted = [head.strip() if branch is None else _commit(git, shared, branch)]
    if remote is not None:
        if branch is not None and branch.startswith("refs/heads/"):
            merged = values.get(("branch", branch.removeprefix("refs/heads/"), "merge"), branch)
            wanted.append(_commit(git, shared, f"refs/remotes/{remote}/{merged.removeprefix('refs/heads/')}"))
        wanted.append(_commit(git, shared, f"refs/remotes/{remote}/HEAD"))
    commits = [commit for commit in wanted if commit is not None and _COMMIT.match(commit)]
    url = values.get(("remote", remote, "url")) if remote is not None else None
    return Clone(top, tuple(dict.fromkeys(commits)), url)


def _remote(values: dict[tuple[str, str, str], str], branch: str | None) -> str | None:
    """Return the remote of a branch: the one it is set to follow, ``origin``, or the only one."""
    named = list(dict.fromkeys(name for section, name, key in values if (section, key) == ("remote", "url")))
    followed = values.get(("branch", branch.removeprefix("refs/heads/"), "remote")) if branch is not None else None
    for name in (followed, "origin"):
        if name in named:
            return name
    return named[0] if len(named) == 1 else None


def _commit(git: Path, shared: Path, ref: str) -> str | None:
    """Follow a ref to a commit."""
    for _ in range(_LINKS):
        if not ref.startswith("refs/") or not is_plain_path(ref):
            return None
        content = next((text for place in (git, shared) if (text := _text(place / ref, _SMALL)) is not None), None)
        if content is None:
            return _packed(shared, ref)
        if not content.startswith("ref: "):
            return content.strip()
        ref = content.removeprefix("ref: ").strip()
    return None


def _packed(shared: Path, ref: str) -> str | None:
    """Look a ref up among those that git has packed into one file."""
    packed = _text(shared / "packed-refs", _LARGEST_PACKED)
    match = re.search(rf"^([0-9a-f]{{40}}) {re.escape(ref)}$", packed or "", re.MULTILINE)
    return match[1] if match is not None else None


def _entries(config: str) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Parse a configuration into ``(section, subsection, key)`` and value; what is malformed is passed over."""
    section, subsection = "", ""
    # A backslash at the end of a line continues the value on the next.
    for raw in re.sub(r"\\\r?\n", "", config).splitlines():
        line = raw.strip()
        match = _SECTION.match(line)
        if match is not None:
            section, subsection = match[1].lower(), re.sub(r"\\(.)", r"\1", match[2] or "")
            line = line[match.end() :].strip()
        if not line or line[0] in "#;":
            continue
        entry = _ENTRY.match(line)
        if entry is not None and section:
            yield (section, subsection, entry[1].lower()), _value(entry[2] or "")


def _value(raw: str) -> str:
    """Undo quotes and escapes of a value, and drop a comment behind it."""
    pieces: list[str] = []
    kept, quoted, characters = 0, False, iter(raw)
    for character in characters:
        if character == '"':
            quoted = not quoted
            kept = len(pieces)
            continue
        if character == "\\":
            character = next(characters, "")
            pieces.append(_ESCAPES.get(character, character))
        elif character in "#;" and not quoted:
            break
        else:
            pieces.append(character)
        if quoted or not character.isspace():
            kept = len(pieces)
    return "".join(pieces[:kept])


def _text(path: Path, limit: int) -> str | None:
    """Return a small text file, or None when it is none, is larger, or cannot be read."""
    try:
        if not os.path.lexists(path):
            return None
        with opened(path) as (descriptor, stamp):
            if stamp.size > limit:
                return None
            pieces = []
            while piece := os.read(descriptor, 1 << 20):
                pieces.append(piece)
            return b"".join(pieces)[:limit].decode("utf-8", errors="replace")
    except (UnreadableCheckpoint, ValueError):
        return None
