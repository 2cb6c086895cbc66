"""How a string is written in YAML so that every reader takes it for the same string.

Readers differ: YAML 1.1, which Python reads, takes ``no`` for a boolean and ``1_000`` for a number; YAML 1.2, which the
Hub's pages read, takes ``12345e7`` for a number, and a commit hash may look like that. Whatever one of them could take
for something else is put in quotes.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml
from yaml.resolver import Resolver

from lineage_plugin.errors import LineageError

__all__ = ["CannotRewrite", "written"]

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./+@\- ]*[A-Za-z0-9_./+@\-])?")
_NUMBER: Final = re.compile(r"[0-9._]+(?:e[-+]?[0-9_]*)?|0[xob][0-9a-f_]+", re.IGNORECASE)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]")
_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", ".nan", ".inf", "inf"})
_RESOLVER: Final[Any] = Resolver()


class CannotRewrite(LineageError):
    """A change of a card's front matter is not made; the message says why, in one line."""


def written(value: str, style: str = "") -> str:
    """Write a string as a YAML scalar on one line.

    Args:
        value: The string.
        style: The quotes that it should have: ``'``, ``"``, or anything else for none unless they are needed.

    Returns:
        Its text in the file.

    Raises:
        CannotRewrite: When it holds what does not belong on a line.
    """
    if not value.isprintable():
        raise CannotRewrite("the new value holds line breaks, controls or invisible characters")
    if style == "'":
        return "'" + value.replace("'", "''") + "'"
    if style == '"' or not _is_plain(value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value


def _is_plain(value: str) -> bool:
    """Return whether a string is itself without quotes, inside of brackets as well."""
    if not _PLAIN.fullmatch(value) or value.startswith("...") or value.lower() in _WORDS:
        return False
    if _NUMBER.fullmatch(value) or _DATE.match(value):
        return False
    return bool(_RESOLVER.resolve(yaml.ScalarNode, value, (True, False)) == "tag:yaml.org,2002:str")
