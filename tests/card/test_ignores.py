"""Ignore comments: what they are about, what they may not touch, and that none is silent."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.card import ignores, read_card, read_front_matter
from lineage_plugin.card.ignores import MAX_IGNORES, Ignore, apply_ignores, read_ignores
from lineage_plugin.findings import Finding, finding
from lineage_plugin.judge.verdict import verdict_of

WHY = "we know"


def ignores_of(text: str) -> tuple[Ignore, ...]:
    return read_ignores(text, read_front_matter(text))


def found_in(*lines: str, codes: tuple[str, ...] = ("LIN203", "LIN205", "LIN213")) -> list[Finding]:
    _, findings = read_card("\n".join(["---", *lines, "---", "# Model", ""]))
    return [found for found in findings if found.code in codes]


def state(findings: list[Finding]) -> list[tuple[str, str, str | None]]:
    return [(found.code, found.level, found.ignored) for found in findings]


def test_a_comment_at_the_end_of_a_line_is_about_that_line() -> None:
    (found,) = found_in(f"base_model: o/n  # lineage: ignore[LIN205] {WHY}")
    assert (found.level, found.ignored, found.ignored_level) == ("note", WHY, "note")
    # The base is on the line below.
    below = found_in(f"base_model:  # lineage: ignore[LIN205] {WHY}", "- o/n")
    assert state(below) == [("LIN213", "warning", None), ("LIN205", "note", None)]
    assert "LIN205 is on line 3" in below[0].help and (below[0].line, below[0].column) == (2, 14)


def test_a_comment_on_its_own_line_is_about_the_entry_below_with_all_of_its_value() -> None:
    found = found_in(
        f"# lineage: ignore[LIN205] {WHY}", "", "# else", "base_model:", "- o/n", "", "- p/q", "license: mit"
    )
    assert state(found) == [("LIN205", "note", WHY)] * 2
    second = found_in("base_model:", "- o/n", f"# lineage: ignore[LIN205] {WHY}", "- p/q", "- r/s")
    assert state(second) == [("LIN205", "note", None), ("LIN205", "note", WHY), ("LIN205", "note", None)]
    before = found_in("base_model: o/n", f"# lineage: ignore[LIN205] {WHY}", "base_model_relation: merge")
    assert [found.code for found in before if not found.ignored] == ["LIN205", "LIN213"]


def test_a_comment_for_the_file_is_about_all_of_the_card_and_errors_become_notes_that_say_so() -> None:
    (warned,) = found_in("base_model_relation: tuned", f"# lineage: ignore-file[LIN203] {WHY}", codes=("LIN203",))
    assert (warned.level, warned.ignored, warned.ignored_level) == ("note", WHY, "warning")
    _, findings = read_card(f"---\nlicense: mit\n# lineage: ignore-file[LIN201] {WHY}\n---\n")
    assert [(f.code, f.level, f.ignored_level) for f in findings if f.code == "LIN201"] == [
        ("LIN201", "note", "warning")
    ]
    assert not [f for f in findings if f.code == "LIN213"]


def test_one_comment_may_name_several_codes_in_any_case() -> None:
    found = found_in(
        f"# lineage:ignore [ lin205 ,LIN203,] - {WHY}",
        "base_model: o/n",
        "# lineage: ignore[LIN203] x",
        "base_model_relation: tuned",
    )
    assert state(found) == [("LIN213", "warning", None), ("LIN205", "note", WHY), ("LIN203", "note", "x")]
    assert "LIN203" in found[0].message


@pytest.mark.parametrize(
    "lines",
    [
        ("summary: |", f"  # lineage: ignore-file[LIN205] {WHY}"),
        ("summary: >-", "  text", "", f"  # lineage: ignore-file[LIN205] {WHY}"),
        (f'summary: "# lineage: ignore-file[LIN205] {WHY}"',),
        ('summary: "a', f'  # lineage: ignore-file[LIN205] {WHY}"'),
        (f"summary: 'it''s # lineage: ignore-file[LIN205] {WHY}'",),
        (f"summary: a#lineage:ignore-file[LIN205] {WHY}",),
        (f"# Lineage: ignore-file[LIN205] {WHY}",),
        (f"# lineage: ignored-file[LIN205] {WHY}",),
        ("# lineage: descends from o/m",),
    ],
)
def test_text_that_only_looks_like_a_comment_ignores_nothing(lines: tuple[str, ...]) -> None:
    assert state(found_in("base_model: o/n", *lines)) == [("LIN205", "note", None)]


def test_the_text_of_the_card_holds_no_comments() -> None:
    _, findings = read_card(f"---\nbase_model: o/n\n---\n# lineage: ignore-file[LIN205] {WHY}\n")
    assert [found.ignored for found in findings if found.code == "LIN205"] == [None]


@pytest.mark.parametrize(
    "lines",
    [
        (f"summary: |  # lineage: ignore-file[LIN205] {WHY}", "  text"),
        ("summary: |", "  text", f"# lineage: ignore-file[LIN205] {WHY}"),
        ("summary: plain", "  text", f"  # lineage: ignore-file[LIN205] {WHY}"),
        (f"tags: [a,  # lineage: ignore-file[LIN205] {WHY}", "  b]"),
        (f"#lineage:ignore-file[LIN205]: {WHY}",),
    ],
)
def test_a_comment_is_one_wherever_yaml_has_it(lines: tuple[str, ...]) -> None:
    assert state(found_in("base_model: o/n", *lines)) == [("LIN205", "note", WHY)]


LINES = ["a: 1", "- x", "b: |", "  text", "'q", "x'", '"', "c: [d", "]", "# k", " # lineage: ignore[LIN205] r"]


@given(st.lists(st.sampled_from(LINES), max_size=8))
def test_comments_are_those_that_the_parser_leaves_out(lines: list[str]) -> None:
    block = "\n".join(lines)
    text = f"---\n{block}\n---\n"
    front_matter = read_front_matter(text)
    found = read_ignores(text, front_matter)
    if not front_matter.readable:
        assert found == ()
        return
    # The text of a real comment can go without a change of any value.
    written = text.split("\n")
    for one in found:
        written[one.line - 1] = written[one.line - 1][: one.column]
    blanked = read_front_matter("\n".join(written))
    assert blanked.readable
    assert yaml.safe_load(block) == yaml.safe_load("\n".join(written[1:-2]))
    values = [event.value for event in yaml.parse(block, yaml.SafeLoader) if isinstance(event, yaml.ScalarEvent)]
    assert len(found) + str(values).count("# lineage: ignore") == block.count("# lineage: ignore")


@pytest.mark.parametrize(
    ("comment", "says", "helps"),
    [
        ("ignore[LIN205]", "gives no reason", "behind the bracket"),
        (f"ignore[LIN250] {WHY}", "names LIN250, which is no finding code", "Did you mean LIN2"),
        (f"ignore[LIN101] {WHY}", "LIN101 may not be ignored in a card", "policy"),
        (f"ignore[LIN213] {WHY}", "LIN213 may not be ignored", "policy"),
        (f"ignore[] {WHY}", "names no finding code", "ignore[LIN205]"),
        ("ignore LIN205 because", "names no finding code", "ignore[LIN205]"),
        (f"ignore-line[LIN205] {WHY}", "names no finding code", "ignore[LIN205]"),
        (f"ignore[LIN203] {WHY}", "no LIN203 on this line to ignore", "Remove"),
        (f"ignore-file[LIN203] {WHY}", "no LIN203 in this card to ignore", "Remove"),
    ],
)
def test_a_comment_without_effect_is_said_where_it_stands(comment: str, says: str, helps: str) -> None:
    found = found_in(f"base_model: o/n # lineage: {comment}")
    said = [one for one in found if one.code == "LIN213"]
    assert [(one.level, one.line, one.column) for one in said] == [("warning", 2, 17)]
    assert says in said[0].message and helps in said[0].help
    assert [one.ignored for one in found if one.code == "LIN205"] == [None]


def test_what_was_not_looked_into_is_not_said_to_be_nothing() -> None:
    told = found_in(f"base_model: o/n # lineage: ignore[LIN205, LIN209, LIN210, LIN202] {WHY}")
    assert state(told) == [("LIN205", "note", WHY)]
    (one,) = ignores_of(f"---\nbase_model: o/n # lineage: ignore[LIN209] {WHY}\n---\n")
    assert [found.code for found in apply_ignores((), [one], file="README.md")] == ["LIN213"]
    assert apply_ignores((), [one], file="README.md", untold={"LIN209"}) == ()


def test_no_error_that_leaves_the_base_unknown_may_be_ignored() -> None:
    (one,) = ignores_of(f"---\nbase_model: o/n # lineage: ignore[LIN202, LIN207, LIN206] {WHY}\n---\n")
    given = [finding(code, "m", file="README.md", line=2, level="error") for code in ("LIN202", "LIN207", "LIN206")]
    left = apply_ignores(given, [one], file="README.md")
    assert [(f.code, f.level) for f in left[:3]] == [("LIN202", "error"), ("LIN207", "error"), ("LIN206", "note")]
    assert [f.message for f in left[3:]] == ["an error LIN202 may not be ignored", "an error LIN207 may not be ignored"]


def test_what_may_not_be_ignored_is_said_whatever_else_is_not_known() -> None:
    (one,) = ignores_of(f"---\nbase_model: o/n # lineage: ignore[LIN202] {WHY}\n---\n")
    gone = finding("LIN202", "m", file="README.md", line=2)
    assert len(apply_ignores([gone], [one], file="README.md", untold={"LIN202"})) == 2
    elsewhere = finding("LIN202", "m", file="README.md", line=9)
    assert len(apply_ignores([elsewhere], [one], file="README.md", untold={"LIN202"})) == 1


def test_a_finding_in_another_file_is_not_the_cards_to_ignore() -> None:
    (one,) = ignores_of(f"---\na: b # lineage: ignore-file[LIN205] {WHY}\n---\n")
    other = finding("LIN205", "m", file="adapter_config.json", line=2)
    assert [f.code for f in apply_ignores([other], [one], file="README.md")] == ["LIN205", "LIN213"]


def test_the_narrowest_comment_gives_the_reason() -> None:
    found = found_in("# lineage: ignore-file[LIN205] all", "base_model: o/n # lineage: ignore[LIN205] this")
    assert state(found) == [("LIN205", "note", "this")]


def test_an_ignored_doubt_still_leaves_the_verdict_undecided() -> None:
    (one,) = ignores_of(f"---\nbase_model: o/n # lineage: ignore[LIN202] {WHY}\n---\n")
    (doubt,) = apply_ignores(
        [finding("LIN202", "m", file="README.md", line=2, level="warning")], [one], file="README.md"
    )
    assert doubt.level == "note" and doubt.ignored_level == "warning"
    assert verdict_of([doubt], []) == "undecided"
    assert verdict_of([], [], [doubt]) == "undecided"


def test_reasons_are_fit_to_print() -> None:
    (one,) = ignores_of(f"---\na: b # lineage: ignore[LIN205] \u202e::error::x {'y' * 500}\n---\n")
    assert one.reason.startswith(": :error: :x yyy") and len(one.reason) == 300


def test_hostile_cards_cost_little_and_say_little() -> None:
    many = "".join(f"k{n}: v # lineage: ignore[LIN2{n % 99:02}] x\n" for n in range(9_000))
    began = time.process_time()
    found = [f for f in read_card(f"---\n{many}---\n")[1] if f.code == "LIN213"]
    assert 0 < len(found) <= MAX_IGNORES
    one = f"---\na: b # lineage: ignore[{'LIN999,' * 60_000}] {'x' * 9000}\n---\n"
    assert len([f for f in read_card(one)[1] if f.code == "LIN213"]) == 1
    deep = f"---\na: {'[' * 60}{']' * 60}\n{'# lineage: ignore[' * 20_000}\n---\n"
    read_card(deep)
    assert time.process_time() - began < 3


def test_a_card_without_the_word_is_not_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(*_: object, **__: object) -> None:
        raise AssertionError("scanned")

    monkeypatch.setattr(ignores, "read_tree", scan)
    read_card("---\nbase_model: o/n # ignore[LIN205] x\n---\nlineage: this one\n")
    with pytest.raises(AssertionError):
        read_card("---\nbase_model: o/n # lineage: ignore[LIN205] x\n---\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_do(end: str) -> None:
    text = end.join(
        ["---", 'x: "é\u2028y"', "", f"  # lineage: ignore[LIN205] {WHY}", "base_model:", "- o/n", "---", ""]
    )
    (one,) = ignores_of(text)
    assert (one.line, one.column, one.scope, one.first, one.last, one.reason) == (4, 3, "entry", 5, 6, WHY)


def test_a_value_used_twice_is_where_it_was_written() -> None:
    found = found_in("x: &a", "- o/n", f"# lineage: ignore[LIN205] {WHY}", "base_model: *a", "y: *a", "z: 1")
    (one,) = [f for f in found if f.code == "LIN205"]
    assert one.line == 3 and one.ignored is None
    assert [f.code for f in found if f.code == "LIN213"] == ["LIN213"]
