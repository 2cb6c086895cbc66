"""Matching the token rows of two models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, Vocabulary

__all__ = ["TokenMatch", "match_tokens", "read_rows"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

ASSUMED: Final = (
    "A tokenizer was not read for both models: rows of equal number were assumed to stand for the same token."
)


@dataclass(frozen=True, eq=False, slots=True)
class TokenMatch:
    """Rows of two embeddings that stand for the same token.

    Attributes:
        suspect: ``[n]`` rows of the suspect, each at most once.
        base: ``[n]`` rows of the base, increasing.
        assumed: What was assumed instead of read, as a sentence; None when the tokens were matched by their spelling.
    """

    suspect: IntArray
    base: IntArray
    assumed: str | None = None

    def __len__(self) -> int:
        return int(self.base.shape[0])


def match_tokens(suspect: Vocabulary | None, base: Vocabulary | None, rows_suspect: int, rows_base: int) -> TokenMatch:
    """Match the rows of two embeddings by what their tokens spell.

    Args:
        suspect: Vocabulary of one model, or None when it is not known.
        base: Vocabulary of the other.
        rows_suspect: Rows of its embedding; tokens beyond have none.
        rows_base: Rows of the other's.

    Returns:
        All tokens that both have. When a vocabulary is not known, rows of equal number, and a sentence that says so.
    """
    if suspect is None or base is None:
        rows = np.arange(max(0, min(rows_suspect, rows_base, MOST_TOKENS)), dtype=np.int64)
        return TokenMatch(rows, rows, ASSUMED)
    common = suspect.rows.keys() & base.rows.keys()
    pairs = np.array([(suspect.rows[token], base.rows[token]) for token in common], dtype=np.int64).reshape(-1, 2)
    pairs = pairs[(pairs[:, 0] < rows_suspect) & (pairs[:, 1] < rows_base)]
    # Two spellings can share a row; the order makes the choice among them the same in every run.
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    for side in (0, 1):
        pairs = pairs[np.sort(np.unique(pairs[:, side], return_index=True)[1])]
    pairs = pairs[np.argsort(pairs[:, 1])]
    return TokenMatch(np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]))


def read_rows(checkpoint: Checkpoint, tensor: str, rows: IntArray) -> FloatArray:
    """Read rows of an embedding, in any order.

    Args:
        checkpoint: The model.
        tensor: Name of its embedding, ``[tokens, width]``.
        rows: ``[n]`` row numbers.

    Returns:
        ``[n, width]``.

    Raises:
        InputError: When the file cannot be read or decoded.
        HubError: When the Hub does not deliver.
    """
    along, place = np.unique(rows, return_inverse=True)
    (block,) = checkpoint.read([Selection(tensor, along)])
    return block[place]
