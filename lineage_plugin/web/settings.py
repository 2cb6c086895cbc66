"""What whoever runs the pages chooses; a Space chooses by environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lineage_plugin.errors import UsageError
from lineage_plugin.policy.size import size_in_bytes
from lineage_plugin.shelf import cache_folder

__all__ = ["Settings", "from_environment"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices of one server; immutable.

    Attributes:
        models: Models that the server offers itself, by name: folders on its disk. Nothing else there can be named.
        registry: Folder of the registry of known models; None: there is none, and no tab for it.
        endpoint: Address of the Hub; None: ``HF_ENDPOINT`` or the public one.
        token: Token that is used where the visitor has none: that of whoever runs the server on his own machine. None
            on a Space: a visitor must not read with the Space's rights.
        on_space: Whether this is a Space: visitors can then sign in, and are told apart by the proxy's header.
        offline: Whether the Hub is never asked: only the models that the server offers can be named then.
        address: Where the pages are reached, for links to share; empty: as the visitor's browser has it.
        at_once: Checks at work at once.
        waiting: Checks that may wait.
        per_visitor: Checks of one visitor that are at work or wait.
        seconds: Longest that one check may take, from its beginning.
        bytes: Most bytes of weight files that one check may read, over all models.
        memory: Most bytes of memory that one check may use; 0: no limit.
        cache: Folder of the answers that are kept; None: none are.
        cache_bytes: Bytes that they may take.
    """

    models: Mapping[str, Path] = field(default_factory=dict)
    registry: str | None = None
    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    on_space: bool = False
    offline: bool = False
    address: str = ""
    at_once: int = 2
    waiting: int = 40
    per_visitor: int = 3
    seconds: float = 180.0
    bytes: int = 256 << 20
    memory: int = 1 << 30
    cache: Path | None = None
    cache_bytes: int = 256 << 20


def from_environment(models: Mapping[str, Path] | None = None) -> Settings:
    """Return what the environment of a Space chooses.

    ``LINEAGE_SPACE_AT_ONCE``, ``_WAITING``, ``_PER_VISITOR``, ``_SECONDS``, ``_BYTES`` (such as 256MB), ``_MEMORY``
    and ``_CACHE`` (a size) override the defaults; ``LINEAGE_REGISTRY`` names a registry.

    Args:
        models: Models that the server offers itself.

    Raises:
        UsageError: When a value is none.
    """
    default = Settings()
    return Settings(
        models=dict(models or {}),
        registry=os.environ.get("LINEAGE_REGISTRY") or None,
        on_space=bool(os.environ.get("SPACE_ID")),
        address=_address(os.environ.get("SPACE_ID", "")),
        at_once=_count("AT_ONCE", default.at_once),
        waiting=_count("WAITING", default.waiting),
        per_visitor=_count("PER_VISITOR", default.per_visitor),
        seconds=float(_count("SECONDS", int(default.seconds))),
        bytes=_size("BYTES", default.bytes),
        memory=_size("MEMORY", default.memory),
        cache=cache_folder() / "answers",
        cache_bytes=_size("CACHE", default.cache_bytes),
    )


def _address(space: str) -> str:
    return f"https://huggingface.co/spaces/{space}" if space else ""


def _count(name: str, default: int) -> int:
    value = os.environ.get(f"LINEAGE_SPACE_{name}", "")
    if not value:
        return default
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:9]) <= 100_000):
        raise UsageError(f"LINEAGE_SPACE_{name} must be a whole number from 1 to 100000, not {value[:40]!r}")
    return int(value)


def _size(name: str, default: int) -> int:
    value = os.environ.get(f"LINEAGE_SPACE_{name}", "")
    if not value:
        return default
    size = size_in_bytes(value)
    if size is None:
        raise UsageError(f"LINEAGE_SPACE_{name} must be a size such as 256MB, not {value[:40]!r}")
    return size
