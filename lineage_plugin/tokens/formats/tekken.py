"""``tekken.json``, the tokenizer file of Mistral's newer models: base64 tokens after a block of special ones."""

from __future__ import annotations

from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.formats.tiktoken import decoded
from lineage_plugin.tokens.spelling import ADDED, PIECE, Entry, literal
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, row_number

__all__ = ["parse"]


def parse(data: bytes, where: str) -> list[Entry]:
    """Return the tokens of a ``tekken.json``.

    The special tokens have the first rows; the row of any other is its rank plus their number, as far as the size of
    the vocabulary that the file declares.

    Args:
        data: The file.
        where: The file, for messages.

    Returns:
        The tokens.

    Raises:
        UnreadableCheckpoint: When it is not such a file.
    """
    document = load_object(data, where=where, what="tokenizer", values=MOST_TOKENS, containers=MOST_TOKENS // 2)
    config, vocab, special = document.get("config"), document.get("vocab"), document.get("special_tokens")
    if not isinstance(config, dict) or not isinstance(vocab, list):
        raise UnreadableCheckpoint(where, "this is not a tokenizer: it has no vocabulary", "Get the file again.")
    first = row_number(config.get("default_num_special_tokens"), where)
    end = row_number(config.get("default_vocab_size"), where)
    entries = []
    for token in vocab:
        if not isinstance(token, dict) or not isinstance(text := token.get("token_bytes"), str):
            raise UnreadableCheckpoint(where, "this is not a tokenizer: a token has no bytes", "Get the file again.")
        row = first + row_number(token.get("rank"), where)
        if row < end:
            entries.append(Entry(decoded(text.encode("utf-8", errors="replace"), where), row, PIECE))
    for token in special if isinstance(special, list) else []:
        if isinstance(token, dict) and isinstance(name := token.get("token_str"), str):
            row = row_number(token.get("rank"), where)
            if row < first:
                entries.append(literal(name, row)._replace(rank=ADDED))
    return entries
