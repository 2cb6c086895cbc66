"""``tokenizer.json``, the file of the tokenizers library: one JSON object with a model and the added tokens."""

from __future__ import annotations

from collections.abc import Iterator

from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.spelling import (
    ADDED,
    Entry,
    Spelling,
    byte_level,
    guess_spelling,
    literal,
    sentence_piece,
    word_piece,
)
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, row_number

__all__ = ["parse", "tokens_of"]


def parse(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a ``tokenizer.json``: models BPE, Unigram, WordPiece and WordLevel, and added tokens.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not such a file.
    """
    # Besides the tokens there are their merges, two strings each.
    document = load_object(data, where=where, what="tokenizer", values=MOST_TOKENS, containers=MOST_TOKENS // 2)
    model = document.get("model")
    if not isinstance(model, dict):
        raise _malformed(where, "it has no model")
    vocab = model.get("vocab")
    pieces = list(tokens_of(vocab, where) if isinstance(vocab, dict) else _unigram(vocab, where))
    spell = _spelling(document, model, pieces)
    entries = [spell(piece, row) for piece, row in pieces]
    # What was added may be listed among the pieces as well; its spelling there stands.
    taken = {row for _, row in pieces}
    entries += [entry for entry in _added(document.get("added_tokens"), where) if entry.row not in taken]
    return entries


def tokens_of(vocab: dict[str, object], where: str) -> Iterator[tuple[str, int]]:
    """Yield the pieces and rows of an object from token to number.

    Raises:
        UnreadableCheckpoint: When a number is none.
    """
    if len(vocab) > MOST_TOKENS:
        raise _malformed(where, "it has too many tokens")
    for piece, number in vocab.items():
        yield piece, row_number(number, where)


def _unigram(vocab: object, where: str) -> Iterator[tuple[str, int]]:
    if not isinstance(vocab, list) or len(vocab) > MOST_TOKENS:
        raise _malformed(where, "its model has no vocabulary")
    for row, pair in enumerate(vocab):
        if not isinstance(pair, list) or not pair or not isinstance(pair[0], str):
            raise _malformed(where, "its vocabulary is not a list of pieces and scores")
        yield pair[0], row


def _added(added: object, where: str) -> Iterator[Entry]:
    if added is None:
        return
    if not isinstance(added, list):
        raise _malformed(where, "its added tokens are not a list")
    for token in added:
        if not isinstance(token, dict) or not isinstance(content := token.get("content"), str):
            raise _malformed(where, "an added token has no content")
        yield literal(content, row_number(token.get("id"), where))._replace(rank=ADDED)


def _spelling(document: dict[str, object], model: dict[str, object], pieces: list[tuple[str, int]]) -> Spelling:
    kind = model.get("type")
    if kind == "Unigram":
        return sentence_piece
    if kind == "WordPiece":
        # Another prefix than the usual one is rare, and then its tokens meet only those of its own kind.
        return word_piece if model.get("continuing_subword_prefix", "##") == "##" else literal
    if kind == "WordLevel":
        return literal
    if "ByteLevel" in _steps(document.get("pre_tokenizer")) | _steps(document.get("decoder")):
        return byte_level
    return guess_spelling(piece for piece, _ in pieces)


def _steps(stage: object) -> set[str]:
    """Name the steps of a pre-tokenizer or decoder, which may be a sequence of some."""
    if not isinstance(stage, dict):
        return set()
    steps = [stage]
    for name in ("pretokenizers", "decoders"):
        inner = stage.get(name)
        if isinstance(inner, list):
            steps += [step for step in inner if isinstance(step, dict)]
    return {kind for step in steps if isinstance(kind := step.get("type"), str)}


def _malformed(where: str, problem: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(where, f"this is not a tokenizer: {problem}", "Get the file again.")
