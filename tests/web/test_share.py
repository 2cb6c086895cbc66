"""What visitors take away: links that ask again, citations, badges that accuse nobody."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.judge.types import Declared, Evidence, Report
from lineage_plugin.report import cautions
from lineage_plugin.web import share
from lineage_plugin.web.jobs import Answer, Job, Kind
from tests.report import samples

PAIR = Job("compare", ("zoo/atlas-docs", "zoo/atlas"))
COMMIT = "0123456789" * 4
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}/[A-Za-z0-9._-]{1,20}(@[A-Za-z0-9%._-]{1,20})?\Z")


def answer(report: Report, job: Job = PAIR) -> Answer:
    return Answer(job, report)


def pair(sample: Any) -> Report:
    return replace(
        sample(), command="compare", findings=(), declared=Declared((), None, None, None, None), verdict="pass"
    )


@given(st.sampled_from(["compare", "check", "scan", "tree"]), st.lists(names, min_size=2, max_size=8, unique=True))
def test_a_link_asks_the_same_question(kind: Kind, models: list[str]) -> None:
    job = Job(kind, tuple(models[: {"compare": 2, "check": 1, "scan": 1, "tree": 8}[kind]]))
    link = share.query(job)
    assert link.isascii() and not re.search(r"[\s\"'<>]", link)
    asked = share.read_query(dict(parse_qsl(link[1:])))
    assert asked is not None
    assert (asked.kind, asked.texts) == (job.kind, job.models)


def test_half_a_link_fills_half_a_form() -> None:
    assert share.read_query({"base": "a/b"}) == share.Asked("compare", ("", "a/b"))
    assert share.read_query({"__theme": "dark"}) is None
    found = share.read_query({"model": "x" * 1_000_000})
    assert found is not None and len(found.texts[0]) == 2000


def test_files_are_called_after_the_model() -> None:
    assert share.file_name(PAIR, "html") == "lineage-zoo-atlas-docs-zoo-atlas.html"
    assert share.file_name(Job("tree", ("examples:base", "a/b")), "json") == "lineage-tree-examples-base.json"
    assert share.file_name(Job("check", ('../..\\"x@main',)), "json") == "lineage-x.json"


def test_a_citation_names_models_commits_date_version_value_and_command() -> None:
    report = replace(pair(samples.derived), suspect=samples.model("zoo/atlas_docs", revision=COMMIT))
    said = share.citation(answer(report))
    for part in (
        "zoo/atlas_docs",
        "zoo/atlas",
        COMMIT,
        "E-value",
        "lineage compare",
        "lineage-plugin",
        report.created[:10],
    ):
        assert part in said.text
    assert said.text.endswith(cautions.caution(report))
    assert "zoo/atlas\\_docs" in said.bibtex and COMMIT in said.bibtex
    assert not re.search(r"(?<!\\)[_%&#$]", said.bibtex.replace("howpublished", "").split("note", 1)[1])
    assert said.bibtex.count("{") == said.bibtex.count("}")


@pytest.mark.parametrize(
    ("sample", "repeats"),
    [
        (samples.derived, "This repeats the answer and its numbers: lineage check zoo/"),
        (samples.closer, "This repeats the numbers: lineage check "),
        (samples.found, "With the same registry this repeats the numbers: lineage scan "),
    ],
)
def test_a_citation_says_what_its_command_repeats(sample: Any, repeats: str) -> None:
    said = share.citation(answer(sample(), Job("check", ("zoo/x",))))
    assert repeats in said.text and repeats.split(":")[0] in said.bibtex


def test_equal_files_and_untossed_coins_have_no_e_value() -> None:
    assert "E-value" not in share.citation(answer(samples.identical())).text
    untossed = replace(samples.inconclusive().comparisons[0], evidence=Evidence(0.0, 0, 0, True))
    assert "E-value" not in share.citation(answer(samples.report(untossed))).text


def test_what_rests_on_calibrated_evidence_is_not_cited_by_its_coins() -> None:
    weak = samples.comparison(evidence=replace(samples.comparison().evidence, log10_e=1.3))
    for report in (samples.disguised(), samples.report(weak)):
        said = share.citation(answer(report)).text
        assert "zoo/atlas rests on calibrated evidence, not on exact coins." in said
        assert "E-value" not in said
    assert "E-value" in share.citation(answer(samples.derived())).text


def test_a_badge_says_what_the_weights_show() -> None:
    made = share.badge(answer(pair(samples.derived)), "https://here/?suspect=a")
    found = re.fullmatch(r'\[!\[([^\]]*)\]\((\S+) "([^"]*)"\)\]\(https://here/\?suspect=a\)', made)
    assert found is not None
    assert "not evidence by itself" in found[1] and "Not evidence by itself" in found[3]
    parts = urlsplit(found[2])
    assert parts.netloc == "img.shields.io"
    assert unquote(parts.path) == "/badge/weights-share_learned_weights_with_zoo/atlas-blue"


def test_no_badge_accuses() -> None:
    for report in (samples.unrelated(), samples.twin(), samples.inconclusive(), pair(samples.inconclusive)):
        assert share.badge(answer(report), "x") == ""
    assert share.badge(answer(samples.derived(), Job("scan", ("a/b",))), "x") == ""
    assert "_no_descent_shown" in share.badge(answer(pair(samples.twin)), "x")
    assert "no_relation" in share.badge(answer(pair(samples.unrelated)), "x")  # nobody declared one


def test_a_name_does_not_leave_its_badge() -> None:
    one = replace(pair(samples.derived).comparisons[0], base=samples.model('a"](x)/b-_[<img>'))
    made = share.badge(answer(replace(pair(samples.derived), comparisons=(one,))), "https://here/")
    alt, rest = made.removeprefix("[![").split("](https://img.shields.io/", 1)
    assert "\\]" in alt and not re.search(r"(?<!\\)[\]\[<>]", alt)
    assert not re.search(r"[\s\"<>\[\]()]", rest.split(' "Not', 1)[0])


@pytest.mark.parametrize("sample", samples.ALL)
def test_every_report_can_be_cited(sample: Any) -> None:
    said = share.citation(answer(sample(), Job("check", ("zoo/x",))))
    assert "\n" not in said.text and said.bibtex.startswith("@misc{lineage-")
