"""Addresses on the Hub: of the Hub that was asked, without a login, and never of another place."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lineage_plugin.judge.types import Report
from lineage_plugin.report import hub, render
from tests.report import samples

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def published(address: str) -> Report:
    report = samples.derived()
    base = replace(report.comparisons[0].base, id="acme/base", revision=COMMIT)
    suspect = replace(report.suspect, id="acme/child", revision=COMMIT)
    return replace(report, suspect=suspect, comparisons=(replace(report.comparisons[0], base=base),), hub=address)


@pytest.mark.parametrize("address", ["https://hub.example/", "https://user:secret@hub.example"])
def test_links_lead_to_the_hub_that_was_asked(address: str) -> None:
    report = published(address)
    page = f"https://hub.example/acme/base/tree/{COMMIT}"
    assert page in render(report, "html")
    bom = json.loads(render(report, "cyclonedx"))
    (ancestor,) = bom["metadata"]["component"]["pedigree"]["ancestors"]
    assert page in {reference["url"] for reference in ancestor["externalReferences"]}
    assert "repository_url=https" in ancestor["purl"] and "hub.example" in ancestor["purl"]
    (run,) = json.loads(render(report, "sarif"))["runs"]
    assert run["originalUriBaseIds"]["HUB"]["uri"] == "https://hub.example/"
    assert all("secret" not in render(report, format) for format in ("html", "cyclonedx", "sarif", "json", "predicate"))


def test_of_the_public_hub_a_name_is_enough() -> None:
    bom = json.loads(render(published("https://huggingface.co"), "cyclonedx"))
    assert bom["metadata"]["component"]["purl"] == f"pkg:huggingface/acme/child@{COMMIT}"


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("a b/README.md", "a%20b/README.md"),
        ("../../x", "x"),
        ("", "README.md"),
        ("?q#f", "%3Fq%23f"),
        ("//evil/x", "evil/x"),
    ],
)
def test_a_path_never_leads_elsewhere(file: str, path: str) -> None:
    assert hub.quoted(file) == path


@pytest.mark.parametrize(
    ("id", "found"), [("a/b", "a/b"), ("a/b/c.gguf", "a/b"), ("b", None), ("../b", None), ("/a/b", None)]
)
def test_what_has_the_form_of_a_repository(id: str, found: str | None) -> None:
    assert hub.repository_of(samples.model(id)) == found
