"""What stands below a form: nothing that a stranger says becomes markup."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage_plugin.judge.types import Declared
from lineage_plugin.web import answer_page
from lineage_plugin.web.jobs import Answer, Failed, Job, Update
from lineage_plugin.web.settings import Settings
from tests.report import samples
from tests.report.test_html_report import ELEMENTS, Page

texts = st.text(max_size=80) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=x>', "{{ 7*7 }}", "${alert(1)}", "</pre>", "javascript:x", "`"]
)
OURS = {"button", "progress", "section", "datalist", "option", "small"}
"""Elements of these pages that no report has."""


def elements(text: str) -> list[str]:
    """The elements of a page, in order."""
    return [tag for tag, _ in Page(text).elements]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts, texts)
def test_no_text_breaks_out(one: str, two: str) -> None:
    job, plain = Job("compare", (one, two)), Job("compare", ("a/b", "c/d"))
    empty = answer_page.progress(plain, Update("x"))
    assert elements(answer_page.progress(job, Update(one))) == elements(empty)
    assert elements(answer_page.failure(Failed("missing", one), job)) == elements(
        answer_page.failure(Failed("missing", "x"), plain)
    )
    assert elements(answer_page.offers("field", (one, two))) == ["datalist", "option", "option"]
    assert elements(answer_page.note(f"x{one}")) == ["p"]


@pytest.mark.parametrize("sample", [samples.hostile, samples.derived, samples.no_base])
def test_an_answer_holds_no_element_of_others(sample: Any) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    report = replace(sample(), summary=evil, created=evil)
    page = Page(answer_page.answered(Answer(Job("compare", (evil, evil)), report), Settings(address="https://here")))
    for tag, attributes in page.elements:
        assert tag in ELEMENTS | OURS
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        link = attributes.get("href")
        assert link is None or re.match(r"#|data:(application/json|text/html);base64,|https://", link)


def test_progress_is_told_in_words_and_numbers() -> None:
    job = Job("compare", ("a/b", "c/d"))
    said = Page(answer_page.progress(job, Update("reading layers", 12, 32, 3_400_000, 17, 2048, 2040, 4.2))).text
    for part in ("Comparing a/b with c/d", "12 of 32", "3.4 MB", "17", "2,048", "2,040", "99.6%", "4 s"):
        assert part in said
    assert "2 questions before this one" in Page(answer_page.progress(job, Update("waiting", ahead=2))).text
    assert "Asking the Hub" in Page(answer_page.progress(job, Update("asking the Hub"))).text
    assert 'value="12" max="32"' in answer_page.progress(job, Update("reading layers", 12, 32))
    assert "value=" not in answer_page.progress(job, Update("reading layers"))


def test_a_failure_is_an_alert_and_a_cancelled_question_is_none() -> None:
    assert 'role="alert"' in answer_page.failure(Failed("missing", "There is none."))
    assert 'role="status"' in answer_page.failure(Failed("cancelled", "It was cancelled."))


def test_files_are_in_the_page_itself() -> None:
    page = answer_page.answered(Answer(Job("compare", ("a/b", "c/d")), samples.pair(), kept=True), Settings())
    found = re.findall(r'download="([^"]*)" href="data:([a-z/]*);base64,([^"]*)"', page)
    assert [(name, mime) for name, mime, _ in found] == [
        ("lineage-a-b-c-d.json", "application/json"),
        ("lineage-a-b-c-d.html", "text/html"),
    ]
    assert json.loads(base64.b64decode(found[0][2]))["schema"] == "lineage-report/1"
    assert base64.b64decode(found[1][2]).startswith(b"<!DOCTYPE html>")
    assert "Answered before, for the same commits: on 2026-11-21, 18:32 UTC." in page


def test_a_shared_start_is_never_said_to_be_no_descent() -> None:
    # It may be an early checkpoint.
    pair = Job("compare", ("zoo/atlas-twin", "zoo/atlas"))
    bare = Declared((), None, None, None, None)
    report = replace(samples.twin(), command="compare", findings=(), declared=bare, verdict="pass")
    shown = Page(answer_page.answered(Answer(pair, report), Settings(address="https://here"))).text
    reading = resources.files("lineage_plugin.web").joinpath("static/reading.html").read_text(encoding="utf-8")
    for said in (shown, reading):
        assert "No descent is shown" in said and "early checkpoint" in said
        assert not re.search("not descent|were trained apart|share only", said)
