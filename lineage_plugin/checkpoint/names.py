"""Names that come from outside: how they are shown, and which file names are plain.

File names, tensor names and ids are chosen by whoever made the model. Shown raw they could break a one-line message or
drive the terminal; joined to a folder raw they could leave it.
"""

from __future__ import annotations

import re

from lineage_plugin.text import one_line

__all__ = ["in_command", "is_model_id", "is_plain_path", "is_printable_name", "shown"]

_LONGEST_NAME = 1024
# The Hub's own rules: letters, digits, '-', '_' and '.'; none of '-' and '.' at an end; neither '--' nor '..'.
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_ID = re.compile(rf"^(?:{_PART}/)?{_PART}\Z")
_HARMLESS = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,79}\Z", re.ASCII)
_DRIVE = re.compile(r"^[A-Za-z]:")


def shown(name: object, limit: int = 200) -> str:
    """Return a name as it may stand in a one-line message.

    Args:
        name: Any text from outside; other objects are converted.
        limit: Longest result.

    Returns:
        What :func:`lineage_plugin.text.one_line` lets pass; of longer names the middle is left out, since the end of a
        path says most.
    """
    text = str(name)
    if len(text) > limit:
        text = f"{text[: limit // 2 - 2]}...{text[-(limit // 2 - 2) :]}"
    return one_line(text, limit)


def in_command(name: str, placeholder: str) -> str:
    """Return a name as it may stand in a command, or else a placeholder.

    Commands in messages are copied to shells: a name from outside could close the quotes around it, or be taken for an
    option.
    """
    return name if _HARMLESS.match(name) else placeholder


def is_printable_name(name: str) -> bool:
    """Return whether a tensor name consists of printable characters and is no longer than any real one."""
    return len(name) <= _LONGEST_NAME and name.isprintable()


def is_model_id(text: str) -> bool:
    """Return whether a text can be the id of a model on the Hub: ``owner/name``, or ``name`` of the oldest models."""
    return bool(_ID.match(text)) and "--" not in text and ".." not in text and not text.endswith(".git")


def is_plain_path(name: str) -> bool:
    """Return whether a file name is relative, stays inside its folder and means the same on every system.

    Args:
        name: File name with forward slashes, as an index or a server gives it.
    """
    if not name or not is_printable_name(name) or "\\" in name or _DRIVE.match(name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))
