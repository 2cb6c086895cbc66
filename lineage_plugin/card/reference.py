"""How a card names a model of the Hub: ``owner/name``, and the forms that mean the same.

The rules for ids are those of the Hub: letters, digits, ``-``, ``_`` and ``.``, at most 96 characters a part, no part
beginning or ending in ``-`` or ``.``, no ``--``, no ``..``. Canonical models of old (``gpt2``) have no owner. Besides
plain ids, ``owner/name@revision`` and web addresses of the Hub are understood. Everything else is rejected with a
reason: an id becomes part of URLs and paths later on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from lineage_plugin.findings import Level

__all__ = ["Reference", "Rejection", "parse_reference", "parse_revision"]

MAX_LENGTH: Final = 512
_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,94}[A-Za-z0-9_])?")
_REVISION: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.+/\-]{0,126}[A-Za-z0-9_+])?")
_HUB: Final = re.compile(
    r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)|(?:www\.)?(?:huggingface\.co|hf\.co)|hf:/)/(?P<path>[^?#]*)",
    re.IGNORECASE,
)
_VIEWS: Final = frozenset({"tree", "blob", "resolve", "raw", "commit"})
_NOT_MODELS: Final = frozenset({"api", "blog", "buckets", "collections", "datasets", "docs", "papers", "spaces"})
_PLACEHOLDERS: Final = frozenset(
    {
        "-",
        "?",
        "n/a",
        "na",
        "nan",
        "nil",
        "none",
        "null",
        "tbd",
        "todo",
        "undefined",
        "unknown",
        "more information needed",
    }
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A model of the Hub as a card names it.

    Attributes:
        id: ``owner/name``, or ``name`` for a canonical model.
        revision: Branch, tag or commit written with it, or None.
        address: Whether it was written as a web address.
    """

    id: str
    revision: str | None = None
    address: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a text names no model of the Hub.

    Attributes:
        reason: Continues a sentence that quotes the text, such as ``is a local path``.
        help: What to write instead.
        level: ``error``, or ``warning`` when the text does not even mean to name a model.
        ids: The ids in it, when the text holds several.
    """

    reason: str
    help: str = "Write the id as owner/name: letters, digits, - _ and . only."
    level: Level = "error"
    ids: tuple[str, ...] = ()


def parse_reference(text: str) -> Reference | Rejection:
    """Read what a card gives as the name of a model.

    Args:
        text: The value, of any content and length.

    Returns:
        The reference, or the reason why it is none.
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return Rejection(f"is too long for a model id ({len(text):,} characters)")
    if text.lower() in _PLACEHOLDERS:
        help_ = "Write the id as owner/name, or remove the key if there is no base model."
        return Rejection("is a placeholder", help_, "warning")
    address = _HUB.match(text)
    if address:
        return _from_address(address["path"])
    if "://" in text or text.lower().startswith(("www.", "file:")):
        return Rejection("is an address outside the Hub", "Write the Hub id of the model as owner/name.")
    if _is_local_path(text):
        return Rejection("is a local path that nobody else can resolve", "Write the Hub id of the model as owner/name.")
    pieces = re.split(r"[,;\s]+", text)
    if len(pieces) > 1 and all("/" in piece and _is_id(piece) for piece in pieces):
        return Rejection("holds several model ids", "Write them as a list, one id a line.", ids=tuple(pieces))
    if not text.isprintable():
        return Rejection("holds line breaks, controls or invisible characters")
    name, separator, revision = text.partition("@")
    if name.count("/") > 1:
        return Rejection("has more parts than owner/name")
    if not _is_id(name):
        return Rejection("is not a model id")
    if not separator:
        return Reference(name)
    pinned = parse_revision(revision)
    if pinned is None:
        return Rejection("has no usable revision after the @", "Write the commit hash, or leave the @ out.")
    return Reference(name, pinned)


def parse_revision(text: str) -> str | None:
    """Return a branch, tag or commit name if the text can be one, else None."""
    text = text.strip()
    if len(text) > MAX_LENGTH or not _REVISION.fullmatch(text):
        return None
    if ".." in text or "//" in text or "/." in text or text.endswith(".lock"):
        return None
    return text


def _from_address(path: str) -> Reference | Rejection:
    """Read the path of a Hub address: ``owner/name``, with a view of some revision behind it or not."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0].lower() in _NOT_MODELS:
        return Rejection("is an address of the Hub, but not of a model")
    # A canonical model has its view in second place: gpt2/tree/main.
    length = 1 if len(parts) == 1 or (len(parts) > 2 and parts[1] in _VIEWS) else 2
    name, _, revision = "/".join(parts[:length]).partition("@")
    if not revision and len(parts) > length + 1 and parts[length] in _VIEWS:
        revision = unquote(parts[length + 1])
    if not _is_id(name):
        return Rejection("is an address of the Hub, but not of a model")
    return Reference(name, parse_revision(revision) if revision else None, address=True)


def _is_local_path(text: str) -> bool:
    if text.startswith(("/", "./", "../", "~", "$")) or "\\" in text or text in (".", ".."):
        return True
    return re.match(r"[A-Za-z]:", text) is not None  # a drive letter


def _is_id(text: str) -> bool:
    parts = text.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
        return False
    return "--" not in text and ".." not in text and not text.endswith(".git")
