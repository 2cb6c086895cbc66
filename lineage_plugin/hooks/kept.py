"""Reports on checks, kept on disk, so that a model that has not changed is answered at once.

A report is kept under a key made of everything that the answer depends on: the digests of the suspect's files, the
commits of its bases, the options, the policy. One thing is in no key: what the Hub says of the bases themselves, such
as their own bases, may change at any time. So what was kept longer ago than seven days is no answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lineage_plugin._version import __version__
from lineage_plugin.shelf import Shelf, cache_folder

if TYPE_CHECKING:
    from lineage_plugin.judge.types import Report

__all__ = ["KeptReports", "key_of"]

SCHEMA = "lineage-kept-report/1"
LONGEST = 7 * 86_400
"""Seconds for which a report is an answer."""
DEFAULT_LIMIT = 64 << 20
"""Bytes that the folder may hold: some thousand reports."""
MAX_FILE = 8 << 20


def key_of(parts: Mapping[str, object]) -> str:
    """Return the key of a check.

    Args:
        parts: What the answer depends on, by name: dicts with text as keys, lists, tuples, texts, finite numbers,
            booleans and None. The order of names does not matter, that of lists does.

    Returns:
        The sha256, in hex, of the parts and this program's version as canonical JSON.

    Raises:
        TypeError: When a part is none of these.
        ValueError: When a number is not finite.
    """
    return hashlib.sha256(_canonical({"tool": __version__, "parts": dict(parts)})).hexdigest()


class KeptReports:
    """A folder of reports.

    Args:
        folder: The folder; None for the user's cache folder.
        limit: Bytes that it may hold.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT) -> None:
        self._shelf = Shelf((folder or cache_folder()) / "reports", ".json", limit, MAX_FILE)

    def get(self, key: str) -> Report | None:
        """Return the report that was kept under a key; None when there is none, it is too old or damaged."""
        from lineage_plugin.judge.plain import from_plain

        head, _, body = (self._shelf.get(key) or b"").partition(b"\n")
        try:
            said = json.loads(head)
            if not isinstance(said, dict) or type(kept := said.get("kept")) is not int:
                return None
            # Kept in the future: the clock was set back since, so that nobody knows how old it is.
            if head != _head(key, kept, body) or not 0 <= int(time.time()) - kept <= LONGEST:
                return None
            report = from_plain(json.loads(body))
        except (ValueError, RecursionError):
            return None
        self._shelf.used(key)
        return report

    def put(self, key: str, report: Report) -> None:
        """Keep a report; a folder that cannot be written to is no error."""
        from lineage_plugin.judge.plain import to_plain

        # What could not be read again is not kept.
        with contextlib.suppress(ValueError):
            body = _canonical(to_plain(report))
            self._shelf.put(key, _head(key, int(time.time()), body) + b"\n" + body)


def _head(key: str, kept: int, body: bytes) -> bytes:
    """Return the first line of a file: whose report it is, since when it is kept, and the digest of it all."""
    digest = hashlib.sha256(f"{key}\n{kept}\n".encode() + body).hexdigest()
    return _canonical({"schema": SCHEMA, "key": key, "kept": kept, "sha256": digest})


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
