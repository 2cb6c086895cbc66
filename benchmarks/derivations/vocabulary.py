"""Vocabulary: token rows redrawn, re-ordered and added, with the tokenizer file that says what each row stands for.

All models here read bytes. A new vocabulary is the 256 bytes and merges of them, learned from the text as byte-pair
encoding does; its ``tokenizer.json`` is what the ``tokenizers`` library writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from benchmarks.derivations.layouts import Array, Model
from benchmarks.training import ByteArray, text

__all__ = ["BYTES", "Tokens", "encoder", "extended", "redrawn", "renewed", "reordered"]

SAMPLE = 200_000
"""Characters that merges are learned from."""
ENCODED = 600_000
"""Bytes of text that are tokenised for training."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A byte-level vocabulary.

    Attributes:
        strings: The token of each row, in the byte-to-character alphabet of GPT-2.
        merges: Pairs that are merged, first learned first.
    """

    strings: tuple[str, ...]
    merges: tuple[tuple[str, str], ...] = ()

    def write(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        vocabulary = {string: row for row, string in enumerate(self.strings)}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=list(self.merges)))
        level: Any = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=bool(self.merges))
        tokenizer.pre_tokenizer = level
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        tokenizer.save(str(folder / "tokenizer.json"))


def _alphabet() -> tuple[str, ...]:
    """Character of each byte: printable ones their own, the rest from 256 on (Radford et al. 2019)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = Tokens(_alphabet())
"""Row of each byte is the byte: the vocabulary of all roots."""


@cache
def _learned(count: int) -> tuple[tuple[str, str], ...]:
    """The first merges that byte-pair encoding learns from the text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=256 + count, initial_alphabet=list(BYTES.strings), show_progress=False
    )
    sample = bytes(text("code")[:SAMPLE]).decode("utf-8", "replace")
    tokenizer.train_from_iterator(sample.splitlines(), trainer)
    return tuple((str(one), str(two)) for one, two in json.loads(tokenizer.to_str())["model"]["merges"])


def encoder(folder: Path) -> Callable[[ByteArray], NDArray[np.int64]]:
    """How the text becomes rows of a model, by its tokenizer file.

    Args:
        folder: Model folder with a ``tokenizer.json``.

    Returns:
        Function from bytes to row numbers; it reads at most :data:`ENCODED` bytes.
    """
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))

    def encode(data: ByteArray) -> NDArray[np.int64]:
        read = bytes(data[:ENCODED]).decode("utf-8", "replace")
        lines = tokenizer.encode_batch(read.splitlines(keepends=True))
        return np.array([row for line in lines for row in line.ids], np.int64)

    return encode


def _rows(model: Model, sources: NDArray[np.int64], rng: np.random.Generator) -> Model:
    """A model whose token rows are those of ``sources``, or drawn anew where it is negative."""
    made: dict[str, Array] = {}
    for name, axes in model.layout.outside.items():
        if axes[0] == "token":
            drawn = 0.02 * rng.standard_normal((len(sources), model.size("width")), dtype=np.float32)
            made[name] = np.where(sources[:, None] >= 0, model.tensors[name][np.maximum(sources, 0)], drawn)
    changed = model.with_tensors(made)
    return Model(changed.tensors, dict(changed.config) | {"vocab_size": len(sources)})


def redrawn(model: Model, rng: np.random.Generator) -> tuple[Model, Tokens]:
    """Half of the rows drawn anew; every row stands for what it stood for."""
    sources = np.arange(256)
    sources[rng.permutation(256)[:128]] = -1
    return _rows(model, sources, rng), BYTES


def reordered(model: Model, rng: np.random.Generator) -> tuple[Model, Tokens]:
    """All rows kept, in another order; only the tokenizer says which is which."""
    order = rng.permutation(256)
    return _rows(model, order, rng), Tokens(tuple(BYTES.strings[row] for row in order))


def extended(model: Model, rng: np.random.Generator, count: int = 64) -> tuple[Model, Tokens]:
    """New rows for merges, behind the old ones."""
    merges = _learned(count)
    sources = np.concatenate([np.arange(256), np.full(len(merges), -1)])
    return _rows(model, sources, rng), Tokens((*BYTES.strings, *(a + b for a, b in merges)), merges)


def renewed(model: Model, rng: np.random.Generator, count: int = 256) -> tuple[Model, Tokens]:
    """Another tokenizer: old and new tokens, half and half, in any order."""
    merges = _learned(count)
    strings = (*BYTES.strings, *(a + b for a, b in merges))
    order = rng.permutation(len(strings))
    sources = np.where(order < 256, order, -1)
    return _rows(model, sources, rng), Tokens(tuple(strings[row] for row in order), merges)
