"""Finding and reading the tokenizer of a checkpoint."""

from __future__ import annotations

from typing import Final

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.strictjson import load_object
from lineage_plugin.checkpoint.types import Checkpoint
from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens.formats import FORMATS
from lineage_plugin.tokens.formats.tokenizer_json import tokens_of
from lineage_plugin.tokens.spelling import ADDED, Entry, literal
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, Vocabulary, collect

__all__ = ["LARGEST_FILE", "read_vocabulary", "same_tokenizer"]

LARGEST_FILE: Final = 64 << 20
"""Bytes of the largest tokenizer file that is read, about twice the largest that is known."""

_ADDED_FILE: Final = "added_tokens.json"


def read_vocabulary(checkpoint: Checkpoint) -> Vocabulary | None:
    """Read which row each token of a model has.

    Over the Hub this costs the size of the tokenizer, often several megabytes: ask :func:`same_tokenizer` first.

    Args:
        checkpoint: The model.

    Returns:
        The vocabulary, or None when no tokenizer file of a format that is read lies beside the weights.

    Raises:
        UnreadableCheckpoint: When the file is damaged, is not what its name says, or is larger than 64 MiB.
        HubError: When the Hub does not deliver.
    """
    for form in FORMATS:
        for name in form.find(checkpoint.files):
            entries = form.parse(_content(checkpoint, name), _where(checkpoint, name))
            if not form.complete:
                entries += _added(checkpoint, {entry.row for entry in entries})
            return collect(name, entries)
    return None


def same_tokenizer(suspect: Checkpoint, base: Checkpoint) -> bool | None:
    """Say whether two models ship the same tokenizer, from sizes and digests of files; nothing is read.

    Digests decide where both are known. Equal sizes to the byte are taken for equal files, which two vocabularies that
    differ practically never are.

    Args:
        suspect: One model.
        base: The other.

    Returns:
        True when a file that holds the vocabulary is the same in both; False when both have such files of one name but
        none is the same (the vocabulary may still be: settings are stored in the same file); None when there is
        nothing to compare.
    """
    answer: bool | None = None
    for form in FORMATS:
        ours, theirs = form.find(suspect.files), form.find(base.files)
        for name in ours:
            if name not in theirs:
                continue
            one, other = suspect.files[name], base.files[name]
            if one.sha256 is not None and other.sha256 is not None:
                same = one.sha256 == other.sha256
            else:
                same = one.size == other.size
            if same:
                return True
            answer = False
    return answer


def _content(checkpoint: Checkpoint, name: str) -> bytes:
    if checkpoint.files[name].size > LARGEST_FILE:
        raise UnreadableCheckpoint(_where(checkpoint, name), f"a tokenizer over the limit of {LARGEST_FILE} bytes")
    data = checkpoint.data(name, LARGEST_FILE)
    if data is None:
        raise UnreadableCheckpoint(_where(checkpoint, name), "the file is gone", "Run again when it is complete.")
    return data


def _added(checkpoint: Checkpoint, taken: set[int]) -> list[Entry]:
    """Read the tokens that were added to a vocabulary whose file does not hold them; ``taken`` rows are not theirs."""
    if _ADDED_FILE not in checkpoint.files:
        return []
    where = _where(checkpoint, _ADDED_FILE)
    data = _content(checkpoint, _ADDED_FILE)
    document = load_object(data, where=where, what="list of added tokens", values=MOST_TOKENS, containers=16)
    return [literal(text, row)._replace(rank=ADDED) for text, row in tokens_of(document, where) if row not in taken]


def _where(checkpoint: Checkpoint, name: str) -> str:
    return f"{shown(checkpoint.id)}/{shown(name)}"
