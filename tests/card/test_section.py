"""The section of a card: put in, replaced and removed, and not a byte of the author's touched."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from lineage_plugin.card import read_card
from lineage_plugin.card.section import with_section
from lineage_plugin.errors import UsageError
from tests.card.corpus import CASES, Case
from tests.report.test_markup import rendered

SECTION = "## Lineage\n\n- derived\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n```bash\nlineage check .\n```\n"
OTHER = "## Lineage\n\nSomething else."
BEGIN = b'<!-- lineage:begin - written by "lineage upload --write-card", what is edited in here is lost -->'
END = b"<!-- lineage:end -->"
WHOLE = b"\n".join((BEGIN, b"", SECTION.rstrip("\n").encode(), b"", END))

PIECES = (
    *("\n", "\r\n", "\r", "\n\n", "\ufeff", "\0", "\u2028", "\x85", "\x0c", " ", "  ", "    ", "\t", "é", "a"),
    *("---", "--- ", "base_model: o/n", "base_model: [", "- ", "1. ", "> ", "# x", "***", "\\", "|"),
    *("```", "````", "~~~", "```md", "` ``` `", "<!--", "-->", "<pre>", "</pre>", "<?", "?>", "<![CDATA[", "<!X", ">"),
    *(BEGIN.decode(), END.decode(), "<!-- lineage:begin", "<!-- lineage:ending -->", "    <!-- lineage:end -->"),
)
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=24).map("".join)
fronted = texts.map(lambda text: f"---\nbase_model: o/n\nx: '{text}'\n---\n{text}")
cards = st.one_of(
    texts.map(lambda text: text.encode("utf-8", "surrogatepass")),
    fronted.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.lists(st.sampled_from([piece.encode() for piece in PIECES] + [b"\xff", b"\xc3"]), max_size=20).map(b"".join),
)
sections = st.sampled_from([SECTION, OTHER])


def put(card: bytes, section: str | None = SECTION) -> bytes:
    """Return the card with the section; what is refused is no case of the property at hand."""
    try:
        return with_section(card, section)
    except UsageError as refused:
        said = str(refused)
    assert said.isprintable()
    assume(False)
    raise AssertionError


def bare(card: bytes) -> bytes:
    """Return a card that has no section yet."""
    return put(card, None)


@settings(max_examples=300, deadline=None)
@given(cards, sections)
@example(b"a\nb\r", SECTION)
@example(b"\xef\xbb\xbf", SECTION)
@example(b"- ```\n  code", SECTION)
@example(b"<pre>", SECTION)
@example(b"---", SECTION)
def test_twice_is_once(card: bytes, section: str) -> None:
    once = put(card, section)
    assert with_section(once, section) == once


@settings(max_examples=300, deadline=None)
@given(cards)
@example(b"")
@example(b"\n")
@example(b"a\r\nb\r")
@example(b"a\r\rb\nc\r\n\r\n")
@example(b"a")
def test_what_was_put_at_the_end_can_be_taken_out(card: bytes) -> None:
    original = bare(card)
    written = put(original)
    assert with_section(written, None) == original
    assert with_section(put(written, OTHER), None) == original
    assert with_section(original, None) == original


@settings(max_examples=200, deadline=None)
@given(cards)
def test_all_bytes_before_an_added_section_stay(card: bytes) -> None:
    original = bare(card)
    written = put(original)
    assert written.startswith(original)
    added = written[len(original) :]
    assert re.fullmatch(
        rb"[\r\n]{0,4}" + re.escape(BEGIN) + rb".*" + re.escape(END) + rb"[\r\n]{0,2}", added, re.DOTALL
    )
    assert bool(original) == added.startswith((b"\r", b"\n"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(cards, cards)
def test_a_section_is_replaced_where_it_stands(before: bytes, after: bytes) -> None:
    # Not front matter, which might go on behind the section.
    before, after = bare(before.replace(b"---", b"***")), bare(after)
    before += b"" if not before or before.endswith((b"\r", b"\n")) else b"\n"
    put(before)  # no block of code is open
    card = before + BEGIN + b"\nold\n" + END + b"\n" + after
    written = put(card)
    assert b"\nold\n" not in written
    assert written.startswith(before + BEGIN)
    assert written.endswith(END + b"\n" + after)


@settings(max_examples=300, deadline=None)
@given(cards)
@example(b"---\nbase_model: o/n\n---")
@example(b"---\nbase_model: o/n")
@example(b"\n---")
@example(b"\n---\r\nbase_model: o/n\r\n---\r")
def test_the_front_matter_reads_the_same(card: bytes) -> None:
    original = bare(card)
    assume(original.decode("utf-8", "replace").removeprefix("\ufeff").strip())  # a blank card is not blank any more
    assert read_card(put(original)) == read_card(original)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_corpus_reads_the_same(case: Case) -> None:
    # Large ones take seconds and are read no differently.
    if case.content is None or len(case.content) > 1 << 20:
        return
    card = case.content.encode("utf-8", "surrogatepass") if isinstance(case.content, str) else case.content
    if card[:2] in (b"\xff\xfe", b"\xfe\xff") or card.startswith(b"version https://git-lfs"):
        with pytest.raises(UsageError, match=r"UTF-16|LFS pointer"):
            with_section(card, SECTION)
        return
    written = with_section(card, SECTION)
    assert with_section(written, SECTION) == written
    assert with_section(written, None) == card
    assert written.startswith(card)
    if card.decode("utf-8", "replace").removeprefix("\ufeff").strip():  # a blank card is not blank any more
        assert read_card(written) == read_card(card)


@pytest.mark.parametrize(
    ("card", "written"),
    [
        (b"", WHOLE + b"\n"),
        (b"# M\n", b"# M\n\n" + WHOLE + b"\n"),
        (b"# M", b"# M\n\n" + WHOLE),
        (b"a\r\nb\r\nc\n", b"a\r\nb\r\nc\n\r\n" + WHOLE.replace(b"\n", b"\r\n") + b"\r\n"),
        (b"a\rb\r", b"a\rb\r\r" + WHOLE.replace(b"\n", b"\r") + b"\r"),
        (b"\xef\xbb\xbfa\xff\0\n", b"\xef\xbb\xbfa\xff\0\n\n" + WHOLE + b"\n"),
    ],
)
def test_where_and_how_a_section_is_written(card: bytes, written: bytes) -> None:
    assert with_section(card, SECTION) == written


@pytest.mark.parametrize(
    "card",
    [
        b"```\n" + WHOLE.replace(b"```", b"~~~") + b"\n```\n",
        b"~~~~ md\n" + WHOLE + b"\n~~~\n~~~~~ \n",
        b"   ```\n" + BEGIN + b"\n   ```\n",
        b"text\n\n" + b"".join(b"    " + line + b"\n" for line in WHOLE.split(b"\n")),
        b"\t" + BEGIN + b"\n",
        b"> " + BEGIN + b"\n",
        b"- ```\n  " + BEGIN + b"\n  ```\n",
        b"The mark " + BEGIN + b" begins it.\n",
        b"---\na: |\n  x\n" + BEGIN + b"\n---\n",
        b"---\n" + BEGIN + b"\n" + END + b"\n--- \ntext\n",
        b"<!-- lineage:begins -->\n<!-- lineage:end-of-it -->\n",
    ],
)
def test_marks_in_code_and_front_matter_are_text(card: bytes) -> None:
    assert with_section(card, None) == card
    written = with_section(card, SECTION)
    assert written == card + b"\n" + WHOLE + b"\n"
    assert with_section(written, OTHER).startswith(card)
    assert with_section(written, None) == card


@pytest.mark.parametrize(
    "before",
    [
        b"- item\n  ```python\n  x\n  ```\n\n",
        b"1. ```\n   code\n   ```\n\n",
        b"- ```\n  never closed\n\n",
        b"10. x\n    ```\n    y\n    ```\n",
        b"<!-- draft\n```\n-->\n",
        b"<pre>\n```\n</pre>\n",
        b"```inline``` code\n",
        b"~~~\n```\n~~~\n",
        b"````\n```\n````\n",
        b"- x\n  ```\nleft\n    ```\n",
        b"- x\n# Title\n  ```\n  code\n  ```\n",
    ],
)
def test_code_that_has_ended_hides_no_section(before: bytes) -> None:
    card = before + BEGIN + b"\nold\n" + END + b"\nafter\n"
    assert f"\n{BEGIN.decode()}" in rendered(card.decode())  # the parser that GitHub renders with agrees
    assert with_section(card, SECTION) == before + WHOLE + b"\nafter\n"
    assert with_section(before, SECTION) == before + b"\n" + WHOLE + b"\n"


def test_text_that_was_added_around_a_section_stays() -> None:
    written = with_section(b"one", SECTION) + b"\n\ntwo\n"
    assert with_section(written, OTHER).replace(OTHER.encode(), SECTION.rstrip().encode()) == written
    assert with_section(written, None) == b"one\n\ntwo\n"
    assert with_section(b"\xef\xbb\xbf" + WHOLE + b"\n", None) == b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"a\n" + BEGIN + b"\nb\n", "line 2: the mark lineage:begin has no lineage:end"),
        (b"a\n" + END + b"\nb\n", "line 2: the mark lineage:end has no lineage:begin"),
        (END + b"\r" + BEGIN + b"\r\n", "line 1: the mark lineage:end has no lineage:begin"),
        (WHOLE + b"\n\n" + WHOLE, "line 17: the mark lineage:begin begins a second section; the first is in line 1"),
        (BEGIN + b"\n" + WHOLE, "line 1: the mark lineage:begin has no lineage:end before line 2"),
        (WHOLE + b"\n" + END, "line 16: the mark lineage:end has no lineage:begin"),
        (BEGIN + b" text\n" + END, "line 1: the mark lineage:begin is not a comment on a line of its own"),
        (b"x\n<!-- lineage:begin\n-->\n" + END, "line 2: the mark lineage:begin is not a comment"),
        (BEGIN + b"\n```\n" + END + b"\n", "line 1: the mark lineage:begin has no lineage:end"),
    ],
)
def test_damaged_marks_are_refused(card: bytes, said: str) -> None:
    for section in (SECTION, None):
        with pytest.raises(UsageError) as refused:
            with_section(card, section)
        assert said in str(refused.value)
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (b"a\n```\nb\n", "line 2: the block of code"),
        ("# Model\n".encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "LFS pointer"),
    ],
)
def test_what_text_would_damage_is_refused(card: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        with_section(card, SECTION)
    assert with_section(card, None) == card


@pytest.mark.parametrize("section", [f"a\n{BEGIN.decode()}", f"{END.decode()}\nb", "a\n---\nb", "```\nopen"])
def test_a_section_that_would_not_be_found_again_is_an_error(section: str) -> None:
    with pytest.raises(ValueError, match="the section holds"):
        with_section(b"", section)


def test_large_cards_are_cheap() -> None:
    start = time.process_time()
    for piece in (b"`", b"\n", b"\r\n", b"- ", b"\t", b"<!--", b"~~~a\n", b"- ```\n", b"1. ", b" ", b"<!-- lineage:x"):
        card = piece * (1_000_000 // len(piece)) + b"`\n"
        try:
            written = with_section(card, SECTION)
        except UsageError:
            continue
        assert with_section(written, None) == card
    assert time.process_time() - start < 20


def test_the_line_ends_are_those_of_the_author() -> None:
    card = b"a\r\n\r\n" + WHOLE + b"\r\n"
    assert with_section(card, SECTION) == b"a\r\n\r\n" + WHOLE.replace(b"\n", b"\r\n") + b"\r\n"


def test_html_that_is_open_before_the_section_ends_at_its_mark() -> None:
    section = "```bash\nrun 'a?>'\n```"
    once = with_section(b"<?open\n", section)
    assert with_section(once, section) == once
    assert with_section(once, None) == b"<?open\n"
