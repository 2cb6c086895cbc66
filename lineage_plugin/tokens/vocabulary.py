"""A vocabulary: which row a token has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.spelling import Entry

__all__ = ["MOST_TOKENS", "Vocabulary", "collect", "row_number"]

MOST_TOKENS: Final = 1 << 22
"""Most tokens of a vocabulary, and the end of its rows: four times the largest that is known."""

_SHARED: Final = -1


@dataclass(frozen=True, eq=False, slots=True)
class Vocabulary:
    """Tokens by their canonical bytes.

    Attributes:
        file: The file it was read from.
        rows: Row of each token; tokens whose spelling is not their own are left out.
    """

    file: str
    rows: Mapping[bytes, int]

    def __len__(self) -> int:
        return len(self.rows)


def row_number(value: object, where: str) -> int:
    """Return a row number of a tokenizer file.

    Raises:
        UnreadableCheckpoint: When it is no integer, negative or beyond all vocabularies.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MOST_TOKENS:
        raise UnreadableCheckpoint(where, "a token has no valid number", "Get the file again.")
    return value


def collect(file: str, entries: Iterable[Entry]) -> Vocabulary:
    """Make a vocabulary of tokens, each spelling once.

    Of two tokens that spell the same, the one of higher rank keeps the spelling; of equal ones neither does, since
    nothing says which is meant.

    Args:
        file: The file they come from.
        entries: The tokens.

    Returns:
        The vocabulary.
    """
    best: dict[bytes, tuple[int, int]] = {}
    for spelled, row, rank in entries:
        known = best.get(spelled)
        if known is None or rank > known[0]:
            best[spelled] = (rank, row)
        elif rank == known[0] and row != known[1]:
            best[spelled] = (rank, _SHARED)
    return Vocabulary(file, MappingProxyType({text: row for text, (_, row) in best.items() if text and row != _SHARED}))
