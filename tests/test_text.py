"""Foreign text comes out as one short, visible, inert line."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.text import one_line, quoted


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("owner/name", "owner/name"),
        ("", ""),
        ("  a \t b\r\nc\u2028d\u2029e\x85f\x0bg\x0ch\x1ci  ", "a b c d e f g h i"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3mred\x1b[K\x1b[2J\x1b[1;1H", "red"),
        ("\x1b]0;window title\x07text", "text"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cGFzdGU=\x9ctext", "text"),
        ("\x9b31mred\x9d0;title\x9ctext", "redtext"),
        ("\x1bPdevice control\x1b\\text", "text"),
        ("\x1b(Btext\x1b7\x1b8\x1bc", "text"),
        ("\x1b]unterminated", "unterminated"),
        ("\x1b\x1b[31m[31mx", "[31mx"),
        ("a\x00b\x08c\x7fd\x80e", "abcde"),
        ("\u202eeman/renwo\u202c\u2066x\u2069\u200e\u200f\u061c", "eman/renwox"),
        ("a\u200bb\u200cc\u200dd\u2060e\ufefff\u00adg", "abcdefg"),
        ("a\u3164b\u115fc\u1160d\uffa0e\u2800f\u034fg\ufe0fh\u180ei", "abcdefghi"),
        ("a\U000e0041\U000e0020b", "ab"),
        ("a\ud800b\udfffc\udc80", "abc"),
        ("a\ue000\ufffeb\U0010ffffc", "abc"),
        ("模型 é 🤗 ñ", "模型 é 🤗 ñ"),
        ("::error file=x,line=1::text", ": :error file=x,line=1: :text"),
        ("a ::set-output name=x::y", "a : :set-output name=x: :y"),
        (":\u200b:error:\x1b[0m:x", ": :error: :x"),
        (":::x", ": : :x"),
        ("x ##[error]y #\u200b#[set-env]", "x ## [error]y ## [set-env]"),
        ("key hf_abcdefghijklmnop!", "key hf_***!"),
        ("https://user:secret@example.org/x", "https://***@example.org/x"),
        ("ghp_abcdefghijklmnop1234", "ghp_***"),
        ("hf_short", "hf_short"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (bytearray(b"ab\n"), "ab"),
        (None, "None"),
        (3.5, "3.5"),
        (["a\n", 1], "['a\\n', 1]"),
    ],
)
def test_examples(value: object, expected: str) -> None:
    assert one_line(value) == expected


def test_limit() -> None:
    assert one_line("x" * 80) == "x" * 80
    assert one_line("x" * 81) == "x" * 79 + "…"
    assert one_line("ab cd", 4) == "ab…"
    assert one_line("abc", 1) == "…"
    assert one_line("abc", 0) == "…"
    assert one_line("a" * 10_000_000, 10) == "a" * 9 + "…"
    assert one_line("\u200b" * 10_000_000) == "…"
    # What is left of a long text after cleaning is still marked as cut.
    assert one_line("ab" + "\x00" * 10_000_000 + "cd") == "ab…"


def test_hostile_objects() -> None:
    class Raises:
        def __str__(self) -> str:
            raise RuntimeError("\x1b[31m")

    class NotText:
        def __str__(self) -> str:
            return 3  # type: ignore[return-value]

    class Sly(str):
        def __getitem__(self, key: object) -> str:
            return "\x1b[31m\n"

        def __str__(self) -> str:
            return "\x1b[31m\n"

    assert one_line(10**5000) == "<int>"
    assert one_line(Raises()) == "<Raises>"
    assert one_line(NotText()) == "<NotText>"
    assert one_line(Sly("plain")) == "plain"


def test_quoted() -> None:
    assert quoted("a\nb") == '"a b"'
    assert quoted("x" * 100, 10) == '"' + "x" * 9 + '…"'


pieces = st.sampled_from(
    [
        "\x1b",
        "[",
        "]",
        "31m",
        "\x9b",
        "\x9d",
        "\x9c",
        "\x07",
        "\\",
        ":",
        "::",
        "#",
        "##[",
        "\n",
        "\u2028",
        "\u200b",
        "\u202e",
        *("\ud800", " ", "a", "/", "@", "://", "hf_", "abcdefgh", "é", "\ufe0f", "\x00", "P", "_", "^"),
    ]
)


@settings(max_examples=1000, deadline=None)
@given(st.text() | st.lists(pieces, max_size=40).map("".join) | st.binary(), st.integers(-2, 100))
@example("::" * 50, 80)
@example("a" * 78 + "::", 80)
def test_always_one_inert_line(value: str | bytes, limit: int) -> None:
    text = one_line(value, limit)
    assert len(text) <= max(1, limit)
    assert len(text.splitlines()) <= 1
    assert text == text.strip()
    assert "::" not in text
    assert "##[" not in text
    assert "  " not in text
    text.encode("utf-8")
    assert text.isprintable()


@settings(max_examples=300, deadline=None)
@given(st.text() | st.lists(pieces, max_size=40).map("".join))
def test_cleaning_twice_changes_nothing(value: str) -> None:
    once = one_line(value, 10_000)
    assert one_line(once, 10_000) == once
