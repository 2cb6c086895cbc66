"""One form for the tokens of all tokenizers: the bytes of the text that they stand for.

The same token is written in many ways: ``Ġthe`` by byte-level BPE, ``▁the`` by sentencepiece, ``the`` (with ``##`` for
a continuation) by WordPiece, and as bytes in base64 by tiktoken. The canonical form is those bytes, a leading space
included: ``b" the"``.

Two rows of one tokenizer may spell the same bytes: a byte-fallback piece ``<0x41>`` and the piece ``A``. The rank says
which of them keeps the spelling (:func:`lineage_plugin.tokens.vocabulary.collect`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

__all__ = [
    "ADDED",
    "BYTE",
    "PIECE",
    "Entry",
    "Spelling",
    "byte_level",
    "guess_spelling",
    "literal",
    "sentence_piece",
    "word_piece",
]

BYTE: Final = 0
"""Rank of a byte-fallback piece: gives way to all others."""
ADDED: Final = 1
"""Rank of a token that was added to the vocabulary."""
PIECE: Final = 2
"""Rank of a piece of the vocabulary."""


class Entry(NamedTuple):
    """A token: its canonical bytes, its row, and its rank among tokens that spell the same."""

    spelled: bytes
    row: int
    rank: int


Spelling = Callable[[str, int], Entry]
"""Turns a piece and its row into an entry."""

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BRACKETED = re.compile(r"\[[^\[\]]+\]")
_META = "\u2581"


def _byte_alphabet() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable Latin-1 stands for itself, the other bytes for U+0100 and on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    alphabet = {chr(byte): byte for byte in shown}
    alphabet.update({chr(0x100 + place): byte for place, byte in enumerate(hidden)})
    return alphabet


_ALPHABET: Final = _byte_alphabet()


def _encoded(text: str) -> bytes:
    # JSON can hold half a surrogate pair; it must not end the reading, and spells nothing that another token spells.
    return text.encode("utf-8", errors="surrogatepass")


def literal(piece: str, row: int) -> Entry:
    """Spell a piece as it is written: added tokens, word-level vocabularies."""
    return Entry(_encoded(piece), row, PIECE)


def byte_level(piece: str, row: int) -> Entry:
    """Spell a piece of byte-level BPE (GPT-2, Llama 3, Qwen); one with other characters was added, and is literal."""
    try:
        return Entry(bytes([_ALPHABET[character] for character in piece]), row, PIECE)
    except KeyError:
        return Entry(_encoded(piece), row, ADDED)


def sentence_piece(piece: str, row: int) -> Entry:
    """Spell a piece of sentencepiece (Llama 2, Gemma, T5): U+2581 is a space, ``<0x0A>`` a byte."""
    if found := _BYTE_PIECE.fullmatch(piece):
        return Entry(bytes([int(found[1], 16)]), row, BYTE)
    return Entry(_encoded(piece.replace(_META, " ")), row, PIECE)


def word_piece(piece: str, row: int) -> Entry:
    """Spell a piece of WordPiece (BERT): ``##`` continues a word, ``[CLS]`` is no text, anything else begins one."""
    if _BRACKETED.fullmatch(piece):
        return Entry(_encoded(piece), row, PIECE)
    if piece.startswith("##") and len(piece) > 2:
        return Entry(_encoded(piece[2:]), row, PIECE)
    return Entry(_encoded(" " + piece), row, PIECE)


def guess_spelling(pieces: Iterable[str]) -> Spelling:
    """Say how a vocabulary is spelled when nothing declares it: by the marks that its pieces begin with.

    Args:
        pieces: All pieces.

    Returns:
        The spelling; literal when there are no marks.
    """
    marks: dict[str, int] = {"\u0120": 0, _META: 0, "##": 0}
    for piece in pieces:
        for mark in marks:
            if piece.startswith(mark):
                marks[mark] += 1
    mark = max(marks, key=lambda name: marks[name])
    if not marks[mark]:
        return literal
    return {"\u0120": byte_level, _META: sentence_piece, "##": word_piece}[mark]
