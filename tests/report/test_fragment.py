"""The article of a report in somebody else's page: the same answer, with care, and without clashes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lineage_plugin.judge.types import Declared
from lineage_plugin.report import cautions, html_report, outline, phrases
from tests.report import samples
from tests.report.test_html_report import Page, harmless


@pytest.mark.parametrize("sample", samples.ALL)
def test_an_article_fits_below_a_heading_of_the_page(sample: Any) -> None:
    text = html_report.fragment(sample())
    assert text.isascii() and text.startswith('<div class="lineage-report">\n<article')
    page = Page(text)
    harmless(page)
    assert page.headings[0] == 2 and 1 not in page.headings
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))


def test_several_articles_share_no_id() -> None:
    harmless(Page("".join(html_report.fragment(sample(), anchor=f"one-{at}") for at, sample in enumerate(samples.ALL))))


def test_what_is_not_shown_comes_before_the_tables() -> None:
    text = html_report.fragment(samples.derived())
    order = ['class="caution"', "How the coins fell", "Layer against layer", "What was learned", "is kept</figcaption>"]
    order += [
        "<dt>Read</dt>",
        "Limits</h4>",
        "What this does not show</h4>",
        "Coins by kind</summary>",
        "Numbers by layer",
    ]
    assert [text.index(one) for one in order] == sorted(text.index(one) for one in order)
    assert text.count("<table>") == text.count("<details>") == 2


@pytest.mark.parametrize("sample", [samples.identical, samples.derived, samples.twin, samples.unrelated])
def test_a_pair_is_told_with_care(sample: Any) -> None:
    report = replace(
        sample(), command="compare", findings=(), declared=Declared((), None, None, None, None), verdict="pass"
    )
    assert outline.is_pair(report)
    said = Page(html_report.fragment(report)).text
    assert phrases.summary(report) in said
    assert cautions.caution(report) in said
    for sentence in cautions.not_shown(report.comparisons[0]):
        assert sentence in said
    assert "copied" not in said and "stolen" not in said


def test_a_failed_check_is_no_accusation() -> None:
    assert "honest mistake" in html_report.fragment(samples.unrelated())


def test_no_rule_reaches_beyond_the_article() -> None:
    depth, outside = 0, []
    for line in re.sub(r"/\*.*?\*/", "", html_report.sheet(), flags=re.DOTALL).splitlines():
        if depth == 0 and line.strip():
            outside.append(line)
        depth += line.count("{") - line.count("}")
    assert depth == 0
    assert set(outside) == {".lineage-report {"}
