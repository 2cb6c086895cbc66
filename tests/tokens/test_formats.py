"""Reading vocabularies: every format against what its own library says, one form for all, and files that lie."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.tokens import read_vocabulary
from lineage_plugin.tokens.formats import FORMATS, plain, sentencepiece, tekken, tiktoken, tokenizer_json
from lineage_plugin.tokens.read import LARGEST_FILE
from lineage_plugin.tokens.spelling import byte_level
from lineage_plugin.tokens.vocabulary import MOST_TOKENS, collect
from tests.tokens import builders
from tests.tokens.builders import model

TEXT = ["the cat sat on the mat, naïve café 猫 the cat", "the theory of cats\n\tand other things " * 3]


def byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens(["added token"])
    return tokenizer


def test_byte_level_bpe_spells_what_the_library_decodes(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    found = read_vocabulary(model(tmp_path / "m", {"tokenizer.json": tokenizer.to_str().encode()}))
    assert found is not None and found.file == "tokenizer.json"
    assert len(found) == tokenizer.get_vocab_size()
    assert found.rows[b"<|endoftext|>"] == 0 and found.rows[b"added token"] == tokenizer.token_to_id("added token")
    for text, row in found.rows.items():
        if tokenizer.id_to_token(row) != "<|endoftext|>":
            assert tokenizer.decode([row]).encode() == text or b"\xef\xbf\xbd" in tokenizer.decode([row]).encode()
    # A text is the concatenation of its tokens, to the byte.
    rows = {row: text for text, row in found.rows.items()}
    assert b"".join(rows[row] for row in tokenizer.encode(TEXT[0]).ids) == TEXT[0].encode()


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece", "wordlevel"])
def test_other_models_of_the_library(tmp_path: Path, kind: str) -> None:
    special = ["[UNK]"]
    if kind in ("unigram", "bpe"):
        unigram = kind == "unigram"
        tokenizer = Tokenizer(models.Unigram() if unigram else models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer = (trainers.UnigramTrainer if unigram else trainers.BpeTrainer)(vocab_size=80, special_tokens=special)
        expected = {" the": "▁the"} if unigram else {" the": "▁the", "c": "c"}
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=special)
        expected = {" the": "the", "e": "##e", "[UNK]": "[UNK]"}
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=special)
        expected = {"the": "the", "cats": "cats"}
    tokenizer.train_from_iterator(TEXT, trainer)
    found = read_vocabulary(model(tmp_path / "m", {"tokenizer.json": tokenizer.to_str().encode()}))
    assert found is not None
    assert {text: found.rows[text.encode()] for text in expected} == {
        text: tokenizer.token_to_id(piece) for text, piece in expected.items()
    }
    assert sorted(found.rows.values()) == sorted(tokenizer.get_vocab().values())


def test_one_token_is_spelled_alike_by_all_formats(tmp_path: Path) -> None:
    lines = b"\n".join(base64.b64encode(token) + b" %d" % row for row, token in enumerate([b" the", b"ing", b"\n"]))
    tekken_file = {
        "config": {"default_num_special_tokens": 2, "default_vocab_size": 5},
        "vocab": [
            {"rank": row, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
            for row, token in enumerate([b" the", b"ing", b"\n", b"beyond"])
        ],
        "special_tokens": [{"rank": 0, "token_str": "<unk>", "is_control": True}],
    }
    unigram = {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁the", -1.5], ["ing", -2.0], ["<0x0A>", -9.0]]}
    pieces = [("<unk>", 2), ("▁the", 1), ("ing", 1), ("<0x0A>", 6)]
    files = {
        "tokenizer.json": json.dumps({"model": unigram}).encode(),
        "tekken.json": json.dumps(tekken_file).encode(),
        "qwen.tiktoken": lines,
        "tiktoken.model": lines,
        "tokenizer.model": builders.sentencepiece(pieces),
        "spiece.model": builders.sentencepiece(pieces),
        "vocab.json": '{"Ġthe": 0, "ing": 1, "Ċ": 2}'.encode(),
        "vocab.txt": b"[PAD]\nthe\n##ing\n",
    }
    for name, content in files.items():
        found = read_vocabulary(model(tmp_path / name, {name: content}))
        assert found is not None and found.file == name
        assert {b" the", b"ing"} <= found.rows.keys(), name
        assert (b"\n" in found.rows) == (name != "vocab.txt")
        assert (b"beyond" in found.rows) is False
    assert read_vocabulary(model(tmp_path / "none", {"merges.txt": b""})) is None
    rows = {
        name: {e.spelled: e.row for e in form.parse(files[name], name)}
        for form in FORMATS
        for name in files
        if form.find([name])
    }
    assert rows["tekken.json"] == {b" the": 2, b"ing": 3, b"\n": 4, b"<unk>": 0}
    assert rows["vocab.txt"] == {b"[PAD]": 0, b" the": 1, b"ing": 2}
    # Llama 3 ships tiktoken's format under sentencepiece's name.
    assert sentencepiece.parse(lines, "f") == tiktoken.parse(lines, "f")


def test_added_tokens_beside_the_vocabulary(tmp_path: Path) -> None:
    files = {"vocab.json": '{"Ġthe": 0, "a": 1, "<x>": 2}'.encode(), "added_tokens.json": b'{"<x>": 2, "<new one>": 3}'}
    found = read_vocabulary(model(tmp_path / "m", files))
    assert found is not None and found.rows == {b" the": 0, b"a": 1, b"<x>": 2, b"<new one>": 3}


def test_tokens_that_spell_the_same() -> None:
    """A piece outranks a byte; two pieces of one spelling are both left out."""
    parsed = sentencepiece.parse(builders.sentencepiece([("A", 1), ("<0x41>", 6), ("<0x42>", 6), ("<0x43>", 1)]), "f")
    assert collect("f", parsed).rows == {b"A": 0, b"B": 2, b"<0x43>": 3}
    twice = [byte_level("Ġa", 0), byte_level("Ġa", 1), byte_level("b", 2)]
    assert collect("f", twice).rows == {b"b": 2}
    assert collect("f", [byte_level("a", 4), byte_level("a", 4)]).rows == {b"a": 4}
    lone = tokenizer_json.parse(b'{"model": {"vocab": {"\\ud800": 0, "": 1}}}', "f")
    assert list(collect("f", lone).rows.values()) == [0]


HOSTILE_JSON = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{" * 100_000,
    b'{"model": ' + b"[" * 100_000,
    b'{"model": 3}',
    b'{"model": {}}',
    b'{"model": {"vocab": 3}}',
    b'{"model": {"vocab": {"a": -1}}}',
    b'{"model": {"vocab": {"a": true}}}',
    b'{"model": {"vocab": {"a": 1.0}}}',
    b'{"model": {"vocab": {"a": NaN}}}',
    b'{"model": {"vocab": {"a": "0"}}}',
    b'{"model": {"vocab": {"a": %d}}}' % MOST_TOKENS,
    b'{"model": {"vocab": {"a": 1' + b"0" * 5000 + b"}}}",
    b'{"model": {"vocab": {"a": 1, "a": 2}}}',
    b'{"model": {"vocab": [3]}}',
    b'{"model": {"vocab": [[]]}}',
    b'{"model": {"vocab": {}}, "added_tokens": 3}',
    b'{"model": {"vocab": {}}, "added_tokens": [3]}',
    b'{"model": {"vocab": {}}, "added_tokens": [{"content": "a"}]}',
    b'{"model": {"vocab": {}}, "added_tokens": [{"content": "a", "id": -5}]}',
]


@pytest.mark.parametrize("content", HOSTILE_JSON)
def test_damaged_tokenizers_are_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("tokenizer.json", "tekken.json"):
        with pytest.raises(UnreadableCheckpoint) as caught:
            read_vocabulary(model(tmp_path / name.replace(".", "-"), {name: content}))
        assert name in str(caught.value) and "\n" not in str(caught.value)


GOOD_PIECE = builders.sentencepiece([("a", 1)])


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (plain.parse_json, b"[1]"),
        (plain.parse_json, b'{"a": -1}'),
        (plain.parse_json, b'{"a": {"b": 1}}'),
        (plain.parse_lines, b"\xff\n"),
        (plain.parse_lines, b"\n" * (MOST_TOKENS + 1)),
        (tiktoken.parse, b"YQ== 0\nYQ==\n"),
        (tiktoken.parse, b"Y 0\n"),
        (tiktoken.parse, b"YQ== -1\n"),
        (tiktoken.parse, b"YQ== " + b"9" * 5000),
        (tiktoken.parse, b"\n" * (MOST_TOKENS + 1)),
        (
            tekken.parse,
            b'{"config": {"default_num_special_tokens": 1, "default_vocab_size": 2}, "vocab": [{"rank": 0}]}',
        ),
        (tekken.parse, b'{"config": {"default_num_special_tokens": -1, "default_vocab_size": 2}, "vocab": []}'),
        (sentencepiece.parse, b""),
        (sentencepiece.parse, GOOD_PIECE[:-1]),
        (sentencepiece.parse, b"\x0a"),
        (sentencepiece.parse, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (sentencepiece.parse, b"\x0a" + b"\xff" * 20),
        (sentencepiece.parse, b"\x0b\x0c"),
        (sentencepiece.parse, b"\x08\x01"),
        (sentencepiece.parse, b"\x00\x01"),
        (sentencepiece.parse, builders.field(1, builders.field(1, b"\xff"))),
        (sentencepiece.parse, builders.field(2, b"no pieces")),
    ],
)
def test_other_damaged_files_are_one_line(parse: object, content: bytes) -> None:
    assert callable(parse)
    with pytest.raises(UnreadableCheckpoint) as caught:
        parse(content, "the-file")
    assert str(caught.value).startswith("the-file: ") and "\n" not in str(caught.value)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: GOOD_PIECE + tail))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (sentencepiece.parse, tiktoken.parse, plain.parse_json, plain.parse_lines, tokenizer_json.parse):
        try:
            entries = parse(data, "f")
        except UnreadableCheckpoint:
            continue
        assert all(0 <= entry.row < MOST_TOKENS for entry in entries)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    checkpoint = model(tmp_path / "m", {"vocab.txt": b""})
    with (tmp_path / "m" / "vocab.txt").open("r+b") as handle:
        handle.truncate(LARGEST_FILE + 1)  # sparse: takes no room
    reopened = model(tmp_path / "n", {})
    (tmp_path / "m" / "vocab.txt").rename(tmp_path / "n" / "vocab.txt")
    from lineage_plugin.checkpoint import open_checkpoint
    from lineage_plugin.options import Options

    with pytest.raises(UnreadableCheckpoint, match="over the limit"):
        read_vocabulary(open_checkpoint(str(tmp_path / "n"), options=Options()))
    # It was there when the model was opened, and is gone now.
    with pytest.raises(UnreadableCheckpoint, match="is gone"):
        read_vocabulary(checkpoint)
    assert read_vocabulary(reopened) is None
