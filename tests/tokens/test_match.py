"""Matching rows of two vocabularies, and saying without reading whether two tokenizers are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lineage_plugin.checkpoint import Checkpoint, FileInfo, Selection
from lineage_plugin.tokens import Vocabulary, match_tokens, read_rows, read_vocabulary, same_tokenizer
from tests.tokens.builders import model


def vocabulary(**rows: int) -> Vocabulary:
    return Vocabulary("f", {text.encode(): row for text, row in rows.items()})


def test_common_tokens_are_matched_by_spelling() -> None:
    match = match_tokens(vocabulary(a=5, b=0, c=9, d=2), vocabulary(d=7, a=1, x=3, c=2), 9, 8)
    # c has row 9, which the suspect's embedding does not hold.
    assert (match.suspect.tolist(), match.base.tolist(), match.assumed) == ([5, 2], [1, 7], None)
    assert len(match) == 2
    assert len(match_tokens(vocabulary(a=0), vocabulary(b=0), 5, 5)) == 0


def test_rows_are_used_once() -> None:
    match = match_tokens(vocabulary(a=1, b=1, c=2), vocabulary(a=3, b=4, c=4), 9, 9)
    assert len(set(match.suspect.tolist())) == len(match) == len(set(match.base.tolist()))
    assert (match.suspect.tolist(), match.base.tolist()) == ([1, 2], [3, 4])


@pytest.mark.parametrize("known", [0, 1])
def test_without_a_vocabulary_the_order_is_assumed_and_said(known: int) -> None:
    given = [None, None]
    given[known] = vocabulary(a=3)  # type: ignore[call-overload]
    match = match_tokens(*given, 5, 7)
    assert match.suspect.tolist() == match.base.tolist() == [0, 1, 2, 3, 4]
    assert match.assumed is not None and match.assumed.endswith(".") and "\n" not in match.assumed
    assert len(match_tokens(None, None, 10**15, 10**15)) < 10**7


def test_rows_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    checkpoint = model(tmp_path / "m", {}, rows=20)
    (whole,) = checkpoint.read([Selection("embed")])
    rows = np.array([7, 3, 3, 19, 0])
    assert (read_rows(checkpoint, "embed", rows) == whole[rows]).all()


def test_a_changed_vocabulary_does_not_matter(tmp_path: Path) -> None:
    """The rows of one model are another's in another order; reading both tokenizers finds which is which."""
    pieces = ["Ġthe", "Ġcat", "s", "Ċ", "ing", "Ġof"]
    order = [3, 5, 0, 1, 4, 2]
    files = [
        {
            "tokenizer.json": json.dumps(
                {"model": {"type": "BPE", "vocab": {piece: row for row, piece in rows}}}
            ).encode()
        }
        for rows in (list(enumerate(pieces)), [(row, pieces[old]) for row, old in enumerate(order)])
    ]
    one, other = (model(tmp_path / str(i), files[i], rows=6) for i in range(2))
    match = match_tokens(read_vocabulary(one), read_vocabulary(other), 6, 6)
    assert match.suspect.tolist() == order and match.base.tolist() == [0, 1, 2, 3, 4, 5]


def test_same_tokenizer_by_size(tmp_path: Path) -> None:
    def opened(name: str, files: dict[str, bytes]) -> Checkpoint:
        return model(tmp_path / name, files)

    one = opened("a", {"tokenizer.json": b"x" * 10, "vocab.json": b"y"})
    assert same_tokenizer(one, opened("b", {"tokenizer.json": b"z" * 10})) is True
    assert same_tokenizer(one, opened("c", {"tokenizer.json": b"x" * 11})) is False
    assert same_tokenizer(one, opened("d", {"tokenizer.json": b"x" * 11, "vocab.json": b"z"})) is True
    assert same_tokenizer(one, opened("e", {"vocab.txt": b"x"})) is None
    assert same_tokenizer(one, opened("f", {"tokenizer_config.json": b"x"})) is None


def test_digests_outweigh_sizes(tmp_path: Path) -> None:
    models = [model(tmp_path / name, {"tokenizer.json": b"x" * 10}) for name in "ab"]
    assert same_tokenizer(*models) is True
    for checkpoint, digest in zip(models, ("0" * 64, "1" * 64)):
        info: FileInfo = replace(checkpoint.files["tokenizer.json"], sha256=digest)
        checkpoint._source.files = {**checkpoint.files, "tokenizer.json": info}
    assert same_tokenizer(*models) is False
