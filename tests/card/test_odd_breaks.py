"""Characters that end a line in YAML 1.1, which Python reads, and not in YAML 1.2, which the Hub reads."""

from __future__ import annotations

import pytest

from lineage_plugin.card import read_card, read_front_matter
from lineage_plugin.card.ignores import read_ignores
from lineage_plugin.card.yaml_values import MAX_PROBLEMS

ODD = ["\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("odd", ODD)
def test_what_two_readers_read_differently_is_an_error(odd: str) -> None:
    _, findings = read_card(f"---\nlicense: mit # {odd}base_model: a/b\n---\n")
    (one,) = [found for found in findings if found.code == "LIN207"]
    assert (one.level, one.line, one.column) == ("error", 2, 16)
    assert f"U+{ord(odd):04X}" in one.message
    assert one.message.isprintable()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("value", ["a{} b", "|\n  a{}\n  b", ">-\n  a{}  b", "a # b{}", "[a, b{}]", "x\nb{}: c"])
def test_it_is_found_in_values_and_comments(odd: str, value: str) -> None:
    front = read_front_matter("---\r\n'q': \"y\"\r\nx: " + value.format(odd) + "\nz: 'w'\n---\n")
    level = "error" if value.endswith(": c") else "warning"  # another key, for one of the two readers
    assert [(one.level, one.fix) for one in front.problems] == [(level, None)]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("value", ["'a{} b'", '"a{}b"', "[x, 'a{}', y]", "&a 'b{}'"])
def test_within_quotes_it_ends_nothing(odd: str, value: str) -> None:
    assert read_front_matter(f"---\nw: 'v'\nx: {value.format(odd)} # c\nz: 'w'\n---\n# T{odd}\n").problems == ()


def test_so_many_are_listed() -> None:
    front = read_front_matter("---\nx: " + "a\u2028 " * 5000 + "\n---\n")
    assert len(front.problems) == MAX_PROBLEMS + 1
    assert front.problems[-1].message == "further problems are not listed"


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "text",
    [
        "x: |\n  a{} # lineage: ignore-file[LIN206] known\nz: w\n",
        "x: |\n  a{}\n # lineage: ignore-file[LIN206] known\n",
        "x: y # c{} # lineage: ignore-file[LIN206] known\n",
        "x: y # c{}\nz: w # lineage: ignore-file[LIN206] known\n",
    ],
)
def test_no_comment_behind_it_counts(odd: str, text: str) -> None:
    card = f"---\n{text.format(odd)}---\n"
    assert read_ignores(card, read_front_matter(card)) == ()
    plain = card.replace(odd, "'") if "|" not in text else "---\nz: w # lineage: ignore-file[LIN206] known\n---\n"
    assert len(read_ignores(plain, read_front_matter(plain))) == 1


def test_a_comment_before_it_or_behind_quotes_counts() -> None:
    for text in (
        "x: y # lineage: ignore-file[LIN206] known\u2028\n",
        'x: "\u2028" # lineage: ignore-file[LIN206] known\n',
    ):
        card = f"---\n{text}---\n"
        (one,) = read_ignores(card, read_front_matter(card))
        assert (one.codes, one.reason) == (("LIN206",), "known")
