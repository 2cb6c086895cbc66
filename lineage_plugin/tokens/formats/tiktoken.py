"""Tiktoken's file: one token a line, its bytes in base64 and its rank, which is its row."""

from __future__ import annotations

import base64
import binascii

from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.spelling import PIECE, Entry
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, row_number

__all__ = ["decoded", "looks_like", "parse"]

_LONGEST_NUMBER = 10


def looks_like(data: bytes) -> bool:
    """Say whether a file is of this format: by its first line, for files that share a name with another format."""
    token, _, rank = data[:4096].split(b"\n", 1)[0].strip().partition(b" ")
    return bool(token) and rank.isdigit() and all(byte < 0x80 for byte in token)


def parse(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a tiktoken file. Special tokens are not in it: they stand in the code that uses it.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not such a file.
    """
    if data.count(b"\n") > MOST_TOKENS:
        raise UnreadableCheckpoint(where, "it has too many tokens")
    entries = []
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        token, _, rank = line.strip().partition(b" ")
        if not rank.isdigit() or len(rank) > _LONGEST_NUMBER:
            raise UnreadableCheckpoint(where, "a line is not a token and its rank", "Get the file again.")
        entries.append(Entry(decoded(token, where), row_number(int(rank), where), PIECE))
    return entries


def decoded(text: bytes, where: str) -> bytes:
    """Return what base64 stands for.

    Raises:
        UnreadableCheckpoint: When it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableCheckpoint(where, "a token is not base64", "Get the file again.") from None
