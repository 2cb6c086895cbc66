"""Addresses on the Hub, for reports that link or name models by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit

from lineage_plugin.card.reference import Reference, parse_reference

if TYPE_CHECKING:
    from lineage_plugin.judge.types import ModelSummary

__all__ = ["address", "quoted", "repository_of", "server"]

_LONGEST_PATH = 1000


class _OfHub(Protocol):
    """A result that knows the Hub that its ids are of."""

    @property
    def hub(self) -> str: ...


def repository_of(model: ModelSummary) -> str | None:
    """Return the repository that an id names, ``owner/name``; None when it has not the form of one.

    Whether it *is* one of the Hub the caller has to know: a relative path looks the same.
    """
    found = parse_reference("/".join(model.id.split("/")[:2]))
    return found.id if isinstance(found, Reference) and found.id.count("/") == 1 else None


def server(report: _OfHub) -> str:
    """Return the address of the Hub that the ids of a report are of, without a login."""
    parts = urlsplit(report.hub)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def address(report: _OfHub, repository: str, revision: str | None, *, file: str | None = None) -> str:
    """Return the page of a file, or of all files, at a revision of a repository."""
    at = quoted(revision or "main")
    return f"{server(report)}/{quoted(repository)}/{f'blob/{at}/{quoted(file)}' if file else f'tree/{at}'}"


def quoted(path: str) -> str:
    """Return a path percent-encoded, without segments that lead elsewhere; a segment never looks like a scheme."""
    parts = [part for part in path[:_LONGEST_PATH].split("/") if part not in ("", ".", "..")]
    return "/".join(quote(part, safe="", errors="replace") for part in parts) or "README.md"
