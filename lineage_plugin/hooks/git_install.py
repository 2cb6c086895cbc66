"""Puts the pre-push hook into a git repository, and takes it out again.

A hook that is there already, such as that of git-lfs, is kept beside ours as ``pre-push.before-lineage`` and run by it
after a pass, with the same arguments and the same standard input. Ours has to be first: git-lfs sends its files in its
own hook. A digest in the second line tells ours, so what somebody else wrote or changed is never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks.git_commit import run_git
from lineage_plugin.report.output import write_file
from lineage_plugin.text import one_line

__all__ = ["Status", "install", "status", "uninstall"]

_NAME = "pre-push"
_KEPT = "pre-push.before-lineage"
_LEGACY = "pre-push.legacy"
"""Where pre-commit puts the hook that it finds; it runs it."""
_FIRST = b"#!/bin/sh\n# lineage pre-push hook 1 "
_MARK = re.compile(re.escape(_FIRST) + rb"(?P<digest>[0-9a-f]{64})\n")
_CIRCLE = "{}: pre-commit and lineage's hook call each other; remove this file, then run `lineage hook install`"
_LARGEST = 1 << 20

_SCRIPT = """\
# Checks the models that a push would send, before anything is sent. Written by 'lineage hook install', which changes
# its options, too; 'lineage hook uninstall' removes it. The hook that was here before is pre-push.before-lineage.
python={python}
before=$(dirname -- "$0")/{kept}
refs=$(cat && echo .)
refs=${{refs%.}}
if ! [ -x "$python" ]; then
  remove="rm '$0'"
  [ -e "$before" ] && remove="mv '$before' '$0'"
  echo "lineage: error: $python is gone: nothing was checked, nothing is pushed. Run 'lineage hook install'" \\
    "again, or remove the hook: $remove" >&2
  exit 2
fi
# The current folder is the repository: nothing is imported from it.
printf %s "$refs" | "$python" -c '
import sys
sys.path[:] = filter(None, sys.path)
try:
    from lineage_plugin.cli import main
except ImportError as error:
    print(f"lineage: error: {{error}}: nothing was checked and nothing is pushed: install lineage-plugin for",
          sys.executable, "again, or use git push --no-verify", file=sys.stderr)
    sys.exit(2)
sys.exit(main())
' hook run pre-push {options}-- "$@" || exit $?
if [ -e "$before" ]; then
  [ -x "$before" ] || exit 0
  printf %s "$refs" | "$before" "$@"
  exit $?
fi
# git-lfs puts no hook of its own beside another: without it a push would send pointers, and not what they stand for.
if git config --get filter.lfs.clean >/dev/null && command -v git-lfs >/dev/null 2>&1; then
  printf %s "$refs" | git lfs pre-push "$@"
fi
"""


@dataclass(frozen=True, slots=True)
class Status:
    """How it stands with the hook.

    Attributes:
        installed: Whether a push is checked.
        said: What to tell the user.
    """

    installed: bool
    said: str


@dataclass(frozen=True, slots=True)
class _Place:
    """The hooks of a repository.

    Attributes:
        folder: Where they are.
        shared: Whether ``core.hooksPath`` put them there.
    """

    folder: Path
    shared: bool

    @property
    def hook(self) -> Path:
        return self.folder / _NAME

    @property
    def kept(self) -> Path:
        return self.folder / _KEPT


def install(folder: Path, options: Sequence[str] = ()) -> str:
    """Install the hook, or change its options.

    Args:
        folder: The repository, or a folder in its working tree.
        options: Options of ``lineage hook run pre-push``.

    Returns:
        What was done, for the user.

    Raises:
        UsageError: When there is no repository, or what stands in the way is not understood.
    """
    place = _place(folder)
    script = _script(options)
    found = _kind(place.hook)
    if _in_circle(place):
        raise UsageError(_CIRCLE.format(place.folder / _LEGACY))
    if _kind(place.folder / _LEGACY) in ("ours", "changed"):
        raise UsageError(
            f"{place.folder / _LEGACY}: pre-commit runs lineage's hook already; use `pre-commit uninstall` first"
        )
    if found == "changed":
        raise UsageError(
            f"{place.hook}: lineage's hook was changed by hand; move your lines elsewhere and remove it first"
        )
    if found == "none" and _there(place.kept):
        raise UsageError(f"{place.kept}: no hook runs this one; rename it to {_NAME}, or remove it, first")
    if found == "other":
        _check_script(place.hook)
        if not _there(place.kept):
            place.folder.mkdir(parents=True, exist_ok=True)
            return _keep(place, script)
        if _kind(place.kept) != "other" or place.kept.read_bytes() != place.hook.read_bytes():
            raise UsageError(
                f"{place.hook}: is another hook than {place.kept}; make one of the two, and remove the other"
            )
        # As `git lfs update --force` leaves it: the same hook twice.
    _write(place, script)
    return _installed(place)


def uninstall(folder: Path) -> str:
    """Remove the hook, and put the one that was there before back.

    Args:
        folder: As for :func:`install`.

    Returns:
        What was done, for the user.

    Raises:
        UsageError: When there is no repository, or the hook is not as it was written.
    """
    place = _place(folder)
    found = _kind(place.hook)
    if found == "changed":
        raise UsageError(f"{place.hook}: lineage's hook was changed by hand; remove it by hand")
    if found != "ours":
        if _there(place.kept):
            raise UsageError(f"{place.hook}: is no hook of lineage; the one from before it is still {place.kept}")
        return f"{place.hook}: there is no hook of lineage"
    try:
        if _there(place.kept):
            place.kept.replace(place.hook)
            return f"{place.hook}: is what it was before lineage"
        place.hook.unlink()
    except OSError as error:
        raise _unwritable(place, error) from error
    return f"{place.hook}: removed"


def status(folder: Path) -> Status:
    """Say whether a push from a repository is checked.

    Args:
        folder: As for :func:`install`.

    Raises:
        UsageError: When there is no repository.
    """
    place = _place(folder)
    found = _kind(place.hook)
    if found == "ours":
        python = shlex.split(_text(place.hook).split("\npython=", 1)[1].split("\n", 1)[0])[0]
        if not os.access(python, os.X_OK):
            return Status(
                False, f"{place.hook}: its Python is gone ({python}), so every push is stopped; install it again"
            )
        return Status(True, _installed(place))
    if _in_circle(place):
        return Status(False, _CIRCLE.format(place.folder / _LEGACY))
    if _kind(place.folder / _LEGACY) == "ours":
        return Status(True, f"{place.folder / _LEGACY}: installed; pre-commit runs it first")
    if found == "changed":
        return Status(False, f"{place.hook}: lineage's hook was changed by hand")
    if _there(place.kept):
        return Status(
            False, f"{place.hook}: another hook took the place of lineage's; `lineage hook install` says what to do"
        )
    return Status(False, f"{place.hook}: not installed" + (", there is another hook" if found == "other" else ""))


def _in_circle(place: _Place) -> bool:
    """Return whether pre-commit was installed below lineage's hook, and then above it again."""
    paths = (place.hook, place.kept)
    found = [path.read_bytes() for path in paths if _kind(path) == "other" and path.is_file()]
    return _kind(place.folder / _LEGACY) == "ours" and len(found) == 2 and found[0] == found[1]


def _place(folder: Path) -> _Place:
    if not folder.is_dir():
        raise UsageError(f"{one_line(str(folder), 200)}: there is no such folder")
    top = run_git("rev-parse", "--show-toplevel", folder=folder) or run_git(
        "rev-parse", "--absolute-git-dir", folder=folder
    )
    if not top:
        raise UsageError(f"{one_line(str(folder), 200)}: this is no git repository, or git does not trust it")
    home = Path(os.fsdecode(top).rstrip("\n"))
    path = run_git("rev-parse", "--git-path", "hooks", folder=home, hooks=True)
    if not path:
        raise UsageError(f"{home}: git does not say where its hooks are")
    hooks = home / os.fsdecode(path).rstrip("\n")
    if _there(hooks) and not hooks.is_dir():
        raise UsageError(
            f"{hooks}: hooks are switched off here, for this is no folder; see `git config core.hooksPath`"
        )
    return _Place(hooks, bool(run_git("config", "--get", "core.hooksPath", folder=home, hooks=True)))


def _script(options: Sequence[str]) -> bytes:
    if not sys.executable:
        raise UsageError("this Python does not know where it is, so no hook can call it")
    said = "".join(f"{shlex.quote(option)} " for option in options)
    body = os.fsencode(_SCRIPT.format(python=shlex.quote(sys.executable), kept=_KEPT, options=said))
    return _FIRST + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _kind(path: Path) -> Literal["none", "ours", "changed", "other"]:
    if not _there(path):
        return "none"
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST:
        return "other"
    data = path.read_bytes()
    match = _MARK.match(data)
    if match is None:
        return "other"
    same = hashlib.sha256(data[match.end() :]).hexdigest().encode() == match["digest"]
    return "ours" if same else "changed"


def _check_script(hook: Path) -> None:
    """Refuse to move what may be more than a script."""
    said = f"{hook}: is in the way and no script, so it is left alone; remove it, or call lineage from it"
    if not hook.is_file() or hook.stat().st_size > _LARGEST:
        raise UsageError(said)
    data = hook.read_bytes()
    if not data.startswith(b"#!") or b"\0" in data:
        raise UsageError(said)


def _keep(place: _Place, script: bytes) -> str:
    """Move a hook aside, and write ours in its place."""
    try:
        place.hook.rename(place.kept)
    except OSError as error:
        raise _unwritable(place, error) from error
    try:
        _write(place, script)
    except UsageError:
        place.kept.replace(place.hook)
        raise
    return _installed(place)


def _write(place: _Place, script: bytes) -> None:
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        temporary = place.folder / f"{_NAME}.lineage-{os.getpid()}"
        write_file(temporary, script)
        temporary.chmod(temporary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        temporary.replace(place.hook)
    except OSError as error:
        raise _unwritable(place, error) from error


def _unwritable(place: _Place, error: OSError) -> UsageError:
    return UsageError(f"{place.folder}: cannot be written to ({error.strerror or type(error).__name__})")


def _installed(place: _Place) -> str:
    said = f"{place.hook}: installed"
    if _there(place.kept):
        said += f"; {_KEPT} runs after it"
    if place.shared:
        said += "; core.hooksPath is set, so it serves every repository that has its hooks there"
    return said


def _there(path: Path) -> bool:
    return os.path.lexists(path)


def _text(path: Path) -> str:
    return os.fsdecode(path.read_bytes())
