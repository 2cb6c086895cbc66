"""The Markdown report: what it must say, how GitHub's parser reads it, and what is left when room is short."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin._links import DOCS
from lineage_plugin.api import check
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import CODES, finding
from lineage_plugin.judge.types import Declared, LayerEvidence, Report
from lineage_plugin.report import parents, phrases, render, render_all
from lineage_plugin.report import searched as searched_for
from lineage_plugin.report.markdown_report import fit
from lineage_plugin.text import one_line
from tests.report import samples
from tests.report.test_markup import NASTY, Page, attacks, rendered

ELEMENTS = {
    *("blockquote", "p", "strong", "br", "sub", "a", "code", "pre", "h2"),
    *("table", "thead", "tbody", "tr", "th", "td", "ul", "li", "details", "summary"),
}
LINKS = {f"{DOCS}/method.md", *(rule.help_uri for rule in CODES.values())}


def markdown(report: Report, **options: bool) -> str:
    return render(report, "markdown", **options)


def page_of(written: str, reports: list[Report]) -> Page:
    """Return the page; nothing may be in it but what this format writes."""
    page = Page(rendered(written))
    assert {*page.elements} <= ELEMENTS, {*page.elements} - ELEMENTS
    assert {*page.links} <= LINKS
    assert {(tag, name) for tag, name, _ in page.attributes} <= {
        ("a", "href"),
        ("td", "align"),
        ("th", "align"),
        ("pre", "lang"),
        ("code", "class"),
    }
    assert {value for tag, name, value in page.attributes if tag == "code"} <= {"language-text", "language-yaml"}
    assert not page.other
    assert not page.open
    assert page.references() == []
    assert page.elements.count("details") == page.elements.count("summary")
    tables = [*([[4] * (len(reports) + 1)] if len(reports) != 1 and reports else [])]
    tables += [[6] * (len(report.comparisons) + 1) for report in reports if report.comparisons]
    assert page.rows == [width for table in tables for width in table]
    assert page.elements.count("table") == len(tables)
    assert page.elements.count("h2") == (len(reports) if len(reports) > 1 else 0)
    assert page.elements.count("blockquote") == len(reports)
    return page


def flat(page: Page) -> str:
    return " ".join(page.text.split())


@pytest.mark.parametrize("make", samples.ALL)
def test_nothing_but_our_markup_is_in_a_page(make: Callable[[], Report]) -> None:
    report = make()
    page = page_of(markdown(report), [report])
    bars = 0 if report.merge is None else 1
    folded = len(report.comparisons) + bars + (report.closest is not None)
    assert page.elements.count("details") == folded


def test_several_models_share_a_page() -> None:
    reports = [make() for make in samples.ALL]
    written = render_all(reports, "markdown")
    page = page_of(written, reports)
    assert written.index("| Verdict | Model |") == 0
    assert written.count("<sub>") == 1
    assert flat(page).count("zoo/draco") >= 2


def test_no_model_is_said_to_be_none() -> None:
    assert "No model was checked." in flat(page_of(render_all([], "markdown"), []))


@pytest.mark.parametrize("make", [make for make in samples.ALL if make is not samples.hostile])
def test_the_sentences_are_those_of_the_other_formats(make: Callable[[], Report]) -> None:
    report = make()
    said = flat(page_of(markdown(report), [report]))
    sentences = [phrases.summary(report)]
    for one in report.comparisons:
        sentences += [phrases.kept(one), phrases.descent(one), phrases.curve(one), searched_for.changes(one)]
        sentences += [searched_for.relabelled(one), searched_for.calibrated(one), searched_for.stages(one.evidence)]
        sentences += [searched_for.searched(one), searched_for.part(one), *one.limits]
        sentences += [phrases.cost(one.suspect_cost, one.base_cost), phrases.unread(one, report.settings)]
        if one.relation != "identical":
            sentences.append(phrases.coins(one.evidence, calibrated=one.calibrated is not None))
        if one.relation == "derived":
            sentences.append(phrases.direction(one.direction))
        if one.relation == "unrelated":
            sentences.append(phrases.UNSEEN)
    if report.merge:
        sentences += [parents.merge_summary(report.merge), parents.merge_ancestor(report.merge)]
    if report.closest:
        sentences += [parents.answer(report.closest), parents.candidates_legend(report.closest)]
    sentences += [text for finding in report.findings for text in (finding.message, finding.help)]
    for sentence in filter(None, sentences):
        assert sentence in said


@pytest.mark.parametrize(
    ("make", "alert", "tag"),
    [
        (samples.derived, "TIP", "✓ PASS"),
        (samples.unrelated, "CAUTION", "✗ FAIL"),
        (samples.inconclusive, "WARNING", "? UNDECIDED"),
        (samples.pair, "NOTE", "DERIVED"),
    ],
)
def test_the_verdict_comes_first(make: Callable[[], Report], alert: str, tag: str) -> None:
    report = make()
    lines = markdown(report).split("\n")
    assert lines[:2] == [f"> [!{alert}]", f"> **{tag}**: {phrases.summary(report)}"]
    assert markdown(report, unicode=False).isascii()


def test_the_table_has_the_numbers() -> None:
    written = markdown(samples.unrelated())
    row = "| `zoo/atlas` | no relation found | -1.5 | 1,520/3,072 | at most 1.2% | 1.9 MB of 12.7 MB |"
    assert row in written.split("\n")
    assert "calibrated" in next(line for line in markdown(samples.disguised()).split("\n") if "| `zoo/atlas`" in line)
    assert "| identical | no coins | no coins | all |" in markdown(samples.identical())


def test_findings_are_linked_placed_and_ready_to_paste() -> None:
    one = finding("LIN201", "No base", file="README.md", line=1, help="Add it.", suggestion=("base_model:", "  - a/b"))
    written = markdown(replace(samples.no_base(), findings=(one,), folder="some/model"))
    assert f"- ! **warning** [LIN201]({CODES['LIN201'].help_uri}) `some/model/README.md:1`: No base\n" in written
    assert "\n  Help: Add it.\n\n  ```yaml\n  base_model:\n    - a/b\n  ```\n" in written
    assert "base_model:\n  - a/b\n" in Page(rendered(written)).text


def attacked(value: str) -> Report:
    """A report in which a stranger chose every name and sentence."""
    one = samples.comparison(
        base=samples.model(value, revision=value, format=value, architecture=value),
        summary=value,
        kind=value,
        limits=(value,),
        changes=(value,),
        part=value,
        layers=(LayerEvidence(value, value, 8, 8, 0.5),),
    )
    found = finding("LIN302", value, file=value, line=3, help=value, suggestion=(value, f"  {value}"))
    return samples.report(
        one,
        suspect=samples.model(value, revision=value, format=value, architecture=value),
        declared=Declared((value,), value, value, value, 3),
        findings=(found,),
        summary=value,
        merge=samples.merged_from(summary=value, ancestor=value),
        closest=samples.closest_of(id=value, reason=value, ancestor=value),
        folder=value,
    )


@pytest.mark.parametrize("value", NASTY)
def test_strangers_cannot_add_anything(value: str) -> None:
    page_of(markdown(attacked(value)), [attacked(value)])


@settings(max_examples=40, deadline=None)
@given(attacks(), attacks())
def test_strangers_cannot_add_anything_whatever_they_write(one: str, two: str) -> None:
    reports = [attacked(one), attacked(two)]
    page = page_of(render_all(reports, "markdown"), reports)
    for value in (one, two):
        assert (one_line(value, 200) or "unnamed") in page.text


def many(number: int) -> list[Report]:
    return [(samples.unrelated() if i % 4 == 3 else samples.derived()) for i in range(number)]


def test_what_fits_is_written_in_full() -> None:
    reports = many(3)
    assert fit(reports, 1_048_576) == render_all(reports, "markdown")


def test_what_does_not_fit_is_left_out_whole_and_said() -> None:
    reports = many(6)
    full = len(render_all(reports, "markdown").encode())
    said = []
    for limit in range(full, 500, -199):
        written = fit(reports, limit)
        assert len(written.encode()) <= limit
        shown = written.count("\n## ")
        page = Page(rendered(written))
        assert {*page.elements} <= ELEMENTS
        assert not page.open
        assert written.count("```") % 2 == 0
        if limit < full:
            assert "The JSON report has all." in written
        if 0 < shown < 6:
            assert f"{6 - shown} model" in written
            assert page.rows.count(4) == shown + 1
        said.append((len(written), shown))
    lengths = [length for length, _ in said]
    assert lengths == sorted(lengths, reverse=True)
    assert {*range(7)} <= {shown for _, shown in said}


def test_the_forms_follow_each_other() -> None:
    reports = many(4)
    full = len(fit(reports, 10**7).encode())
    short = fit(reports, full - 1)
    assert "```text" not in short
    assert short.count("<details>") == 1  # of the model that fails
    tables = fit(reports, len(short.encode()) - 1)
    assert "<details>" not in tables
    assert "**error** [LIN101]" in tables
    first = fit(reports, len(tables.encode()) - 1)
    assert "Not shown for want of room: 1 model (1 fail)." in first


def test_one_report_too_large_keeps_its_verdict() -> None:
    found = tuple(finding("LIN302", "x" * 500, file="model.safetensors") for _ in range(500))
    report = replace(samples.unrelated(), findings=found)
    written = fit([report], 65_536)
    assert written.startswith("> [!CAUTION]")
    assert "and the findings" in written
    assert fit([report], 200) == "Not shown for want of room: 1 model (1 fail). The JSON report has all.\n"
    with pytest.raises(UsageError, match="20 bytes"):
        fit([report], 20)


def test_bytes_are_counted_not_characters() -> None:
    reports = many(3)
    written = render_all(reports, "markdown")
    assert len(written) < len(written.encode())
    assert "Not all is shown" in fit(reports, len(written))


@settings(max_examples=30, deadline=None)
@given(attacks(), st.integers(600, 40_000))
def test_strangers_cannot_make_it_longer(value: str, limit: int) -> None:
    written = fit([attacked(value)] * 3, limit)
    assert len(written.encode()) <= limit
    assert Page(rendered(written)).references() == []


@pytest.mark.parametrize(
    ("name", "verdict", "relation"),
    [
        ("honest", "PASS", "derived"),
        ("liar", "FAIL", "no relation found"),
        ("twin", "FAIL", "shared initialisation only"),
    ],
)
def test_real_reports(name: str, verdict: str, relation: str) -> None:
    report = check(f"examples/{name}", bases=["examples/base"])
    page = page_of(markdown(report), [report])
    said = flat(page)
    assert f"{verdict}: " in said[:40]
    assert re.search(rf"Read examples/base {relation}", said)
    assert "layer 0" in said


def test_nothing_read_is_no_division() -> None:
    report = samples.report(samples.comparison(suspect_cost=Cost(), base_cost=Cost()))
    assert "0 bytes of 0 bytes" in markdown(report)
