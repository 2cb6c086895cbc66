"""Answers that are kept on disk, so that the same question about the same commits is answered at once.

What is kept was read without a token, so that it is nobody's secret, and says with what commits it holds. It is an
answer only while the Hub still names these commits, and for a day at most: what the Hub says of a model besides its
files, such as whether it is gated, may change without a commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lineage_plugin.hooks.kept import key_of
from lineage_plugin.shelf import Shelf

if TYPE_CHECKING:
    from pathlib import Path

    from lineage_plugin.family.types import Family
    from lineage_plugin.judge.types import Report
    from lineage_plugin.web.jobs import Kind

__all__ = ["Answers", "Kept", "key_of", "plain", "read"]

SCHEMA = "lineage-kept-answer/1"
LONGEST = 86_400
"""Seconds for which an answer is one."""
MAX_FILE = 8 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer and what it rests on.

    Attributes:
        result: The report; for ``tree`` the family.
        rests: Id, revision that is asked for (None: the default branch) and commit of every further model that the
            answer depends on, and that its key does not name.
    """

    result: Report | Family
    rests: tuple[tuple[str, str | None, str], ...] = ()


class Answers:
    """A folder of answers.

    Args:
        folder: The folder; made when something is kept.
        limit: Bytes that it may hold.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._shelf = Shelf(folder, ".json", limit, MAX_FILE)

    def get(self, key: str, kind: Kind) -> Kept | None:
        """Return what was kept under a key; None when there is nothing, it is too old, damaged or of another kind."""
        head, _, body = (self._shelf.get(key) or b"").partition(b"\n")
        try:
            said = json.loads(head)
            if not isinstance(said, dict) or type(kept := said.get("kept")) is not int:
                return None
            # Kept in the future: the clock was set back since, so that nobody knows how old it is.
            if head != _head(key, kept, body) or not 0 <= int(time.time()) - kept <= LONGEST:
                return None
            data = json.loads(body)
            rests = tuple((str(id), None if rev is None else str(rev), str(at)) for id, rev, at in data["rests"])
            found = Kept(read(kind, data["result"]), rests)
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        self._shelf.used(key)
        return found

    def put(self, key: str, kept: Kept) -> None:
        """Keep an answer; a folder that cannot be written to is no error."""
        # What could not be read again is not kept.
        with contextlib.suppress(ValueError):
            body = _canonical({"rests": [list(rest) for rest in kept.rests], "result": plain(kept.result)})
            self._shelf.put(key, _head(key, int(time.time()), body) + b"\n" + body)


def plain(result: Report | Family) -> Any:
    """Return what a question is answered with as plain values, fit for JSON without loss."""
    from lineage_plugin.judge.types import Report

    if isinstance(result, Report):
        from lineage_plugin.judge.plain import to_plain

        return to_plain(result)
    from lineage_plugin.family.plain import to_plain as family_to_plain

    return family_to_plain(result)


def read(kind: Kind, data: object) -> Report | Family:
    """Return what :func:`plain` made the data of.

    Raises:
        ValueError: When the data are of something else.
    """
    if kind == "tree":
        from lineage_plugin.family.plain import from_plain as family_from_plain

        return family_from_plain(data)
    from lineage_plugin.judge.plain import from_plain

    return from_plain(data)


def _head(key: str, kept: int, body: bytes) -> bytes:
    """Return the first line of a file: whose answer it is, since when it is kept, and the digest of it all."""
    digest = hashlib.sha256(f"{key}\n{kept}\n".encode() + body).hexdigest()
    return _canonical({"schema": SCHEMA, "key": key, "kept": kept, "sha256": digest})


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
