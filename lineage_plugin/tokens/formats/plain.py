"""``vocab.json`` and ``vocab.txt``: the vocabulary alone, as an object or one token a line."""

from __future__ import annotations

from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.formats.tokenizer_json import tokens_of
from lineage_plugin.tokens.spelling import Entry, guess_spelling
from lineage_plugin.tokens.vocabulary import MOST_TOKENS

__all__ = ["parse_json", "parse_lines"]


def parse_json(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a ``vocab.json``; how they are spelled follows from their marks.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not an object from tokens to numbers.
    """
    document = load_object(data, where=where, what="vocabulary", values=MOST_TOKENS, containers=16)
    pieces = list(tokens_of(document, where))
    spell = guess_spelling(piece for piece, _ in pieces)
    return [spell(piece, row) for piece, row in pieces]


def parse_lines(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a ``vocab.txt``; a token's number is that of its line.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not UTF-8 text, or too long.
    """
    if data.count(b"\n") > MOST_TOKENS:
        raise UnreadableCheckpoint(where, "it has too many tokens")
    try:
        lines = data.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise UnreadableCheckpoint(where, "the vocabulary is not UTF-8 text", "Get the file again.") from None
    pieces = [line.removesuffix("\r") for line in lines]
    spell = guess_spelling(pieces)
    return [spell(piece, row) for row, piece in enumerate(pieces) if piece]
