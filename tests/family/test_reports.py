"""What the formats of a tree say, and what strangers cannot make them say."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import jsonschema
import pytest

from lineage_plugin import UsageError
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.family import words
from lineage_plugin.family.drawing import picture
from lineage_plugin.family.grow import exit_code
from lineage_plugin.family.page import fragment
from lineage_plugin.family.plain import from_plain, to_plain
from lineage_plugin.family.report import formats, json_report, render
from lineage_plugin.family.trees import families, same_starts
from lineage_plugin.family.types import Family
from lineage_plugin.findings import finding
from tests.family.kit import claim, link, member

EVIL = "a/\x1b[31m<script>alert(1)</script>::error::|`@all` ](http://x.y)\u202e"


def family(*, name: str = "owner/model") -> Family:
    """Two families that a common start joins, a copy, an adapter, one that was not read, one that stands alone."""
    models = [member(f"{name}-{at}") for at in range(9)]
    models[6] = replace(models[6], state="adapter", origin=None, reason="no fingerprint", declares=("a/m0", EVIL))
    models[7] = replace(models[7], state="not read", origin=None, reason=f"{name}: damaged", exit_code=2)
    models[1] = replace(models[1], declares=("a/m0",))
    links = (
        link(1, 0, 0.95, direction="suspect-from-base"),
        link(2, 1, 1.0, "identical"),
        link(2, 0, 0.9),
        link(4, 3, 0.8, direction="siblings"),
        link(3, 0, 0.4, "shared-init", summary="the models share a common start, but not what the base learned"),
        link(5, 4, None, "inconclusive", summary="different layouts, and no unit could be compared"),
        link(8, 0, 0.01, "unrelated", summary="the coins fall as they would for independent models"),
    )
    claims = (claim(1, 0), claim(6, 0, "not tested"), claim(8, 0, "contradicted"))
    trees = families(9, links, claims)
    return Family(
        created="2026-11-22T17:00:00+00:00",
        models=tuple(models),
        links=links,
        claims=claims,
        trees=trees,
        starts=same_starts(9, links, trees),
        findings=(finding("LIN101", f"{name}: the weights do not support it", file="README.md", line=3, help=name),),
        pairs=21,
        tests=23,
        limits=(name,),
    )


@pytest.mark.parametrize("format", formats())
def test_every_format_names_every_model_and_says_the_bound(format: str) -> None:
    text = render(family(), format, width=110)
    assert text.endswith("\n")
    for at in range(9):
        assert f"owner/model-{at}" in text
    assert "10^-9" in text or format == "json"
    assert "LIN101" in text


@pytest.mark.parametrize("format", formats())
def test_hostile_names_stay_text(format: str) -> None:
    text = render(family(name=EVIL), format, color=False, width=100)
    assert "\x1b" not in text and "\u202e" not in text
    assert format == "json" or "::error" not in text
    if format == "html":
        assert "<script" not in text
    if format == "markdown":
        # Outside code spans nothing of the name is left.
        bare = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
        assert "<script" not in bare and "](http" not in bare and "@all" not in bare


def test_unknown_formats() -> None:
    assert formats() == ("html", "json", "markdown", "text")
    with pytest.raises(UsageError, match="no format 'sarif'"):
        render(family(), "sarif")


def test_json_fits_its_schema() -> None:
    schema = json_report.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("owner/model", EVIL + "\ud800"):
        data = json.loads(render(family(name=name), "json"))
        jsonschema.Draft202012Validator(schema).validate(data)
    assert (data["exit_code"], data["pairs"], data["tests"], data["trees"][0]["rooted"]) == (1, 21, 23, "declared")
    odd = family()
    numbers = replace(odd.links[0], cosine=float("nan"), evidence=replace(odd.links[0].evidence, log10_e=float("inf")))
    data = json.loads(render(replace(odd, links=(numbers, *odd.links[1:])), "json"))
    assert data["links"][0]["cosine"] is None


def test_plain_values_come_back_whole() -> None:
    before = family(name=EVIL)
    data = json.loads(json.dumps(to_plain(before), allow_nan=False))
    assert from_plain(data) == before
    for path, value in ((("pairs",), "21"), (("models", 0, "state"), "sold"), (("trees", 0, "start"), 9), (("x",), 1)):
        spoilt = json.loads(json.dumps(data))
        place = spoilt
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(ValueError, match="family"):
            from_plain(spoilt)


@pytest.mark.parametrize(
    ("pairs", "tests", "says"),
    [
        (0, 0, "No pair was compared."),
        (1, 1, "1 pair compared; every e-value is divided by that number."),
        (1, 2, "1 pair compared, as a card names the base, by the weights if fingerprints do not show descent; every"),
        (
            6,
            9,
            "6 pairs compared, 3 of them, where a card names the base, by the weights if fingerprints do not show "
            "descent; every e-value is divided by 9, the number of tests that there may be.",
        ),
    ],
)
def test_the_bound_names_the_tests(pairs: int, tests: int, says: str) -> None:
    assert words.bound(replace(family(), pairs=pairs, tests=tests)).startswith(says)


def test_what_is_read_twice_is_not_said_to_be_a_part() -> None:
    assert words.cost(replace(family(), cost=Cost(10_000_000, 0, 20_000_000))) == "10.0 MB of 20.0 MB of weight files."
    said = "20.0 MB of 10.0 MB of weight files, parts of them more than once."
    assert words.cost(replace(family(), cost=Cost(20_000_000, 0, 10_000_000))) == said


@pytest.mark.parametrize("format", ["html", "markdown", "text"])
def test_another_configuration_beside_equal_files_is_said(format: str) -> None:
    before = family()
    changes = ("config.json differs from the base's in rope_theta",)
    links = tuple(replace(one, changes=changes) if one.relation == "identical" else one for one in before.links)
    shown = html.unescape(render(replace(before, links=links), format, width=110)).replace("`", "").replace("\\", "")
    assert "config.json differs from that of owner/model-1 in rope_theta" in shown


def test_a_link_below_the_bar_is_said_to_rest_on_calibrated_evidence() -> None:
    before = family()
    weak = replace(before.links[0], evidence=replace(before.links[0].evidence, log10_e=-2.3, exact=False))
    for format in ("html", "markdown", "text"):
        shown = render(replace(before, links=(weak, *before.links[1:])), format, width=110)
        assert "calibrated evidence" in shown and "10^-2.3" not in shown
        assert "calibrated evidence" not in render(before, format)


def test_the_text_draws_the_tree_in_lines_or_in_ascii() -> None:
    drawn = render(family(), "text", width=110)
    assert "  owner/model-0" in drawn
    assert "├─ owner/model-1  cosine 0.950, e-value 10^50.0" in drawn
    assert "│  └─ owner/model-2  same files" in drawn
    assert "└─ owner/model-4" in drawn
    assert "┄  owner/model-6  declared, not tested" in drawn
    assert "declares a/m0, here owner/model-0: contradicted by the weights" in drawn
    assert "indication, no evidence: comes from owner/model-0" in drawn
    assert "No root" in drawn
    assert "owner/model-5 and owner/model-4: different layouts" in drawn
    plain = render(family(), "text", unicode=False)
    assert plain.isascii()
    assert "|- owner/model-1" in plain
    assert "\x1b[" in render(family(), "text", color=True)


class _Balance(HTMLParser):
    """Counts that every element is closed, and keeps what could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.odd: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "rect", "line", "circle", "polyline", "path"):
            self.open.append(tag)
        self.odd += [f"{tag} {name}" for name, _ in attrs if name.startswith("on") or name in ("src", "style")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "circle", "polyline", "path"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("name", ["owner/model", EVIL])
def test_the_page_is_closed_and_allows_its_own_style_sheet_only(name: str) -> None:
    page = render(family(name=name), "html")
    assert page.isascii()
    seen = _Balance()
    seen.feed(page)
    assert (seen.open, seen.odd) == ([], [])
    (sheet,) = re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    part = fragment(family(name=name))
    assert part.startswith('<div class="lineage-report">') and part.isascii()
    assert "<h1" not in part and "<h2" in part


def test_a_tree_is_told_with_care() -> None:
    for shown in (fragment, lambda family: render(family, "html")):
        (said,) = re.findall(r'class="sentence">.*\n<p class="caution">(.*)</p>', shown(family()))
        assert "does not say which came from which" in said
        assert "honest mistake" in said and "Ask before you accuse." in said
    calm = replace(family(), claims=(), findings=())
    assert "honest mistake" not in fragment(calm)
    assert "distillation" in words.caution(replace(calm, trees=()))


def test_commits_in_running_text_are_as_short_as_in_the_drawing() -> None:
    commit = "6ba99f4e" * 5
    said = f"zoo/liar@{commit}: the weights do not support zoo/base@{commit} as the base"
    page = fragment(replace(family(), findings=(finding("LIN101", said, help=said),), limits=(said,)))
    assert commit not in page
    assert page.count("zoo/liar: the weights do not support zoo/base as") == 3
    # Two commits of one model are told apart.
    twice = tuple(replace(one, name=f"zoo/base@{at:040d}") for at, one in enumerate(family().models))
    page = fragment(replace(family(), models=twice, limits=(said,)))
    assert f"zoo/liar@{commit[:12]}: the weights do not support zoo/base@{commit[:12]} as" in page


def test_a_commit_stands_in_the_details_and_not_in_the_name() -> None:
    commit = "6ba99f4e" * 5
    before = family()
    first = replace(before.models[0], name=f"zoo/base@{commit}", model=replace(before.models[0].model, revision=commit))
    page = fragment(replace(before, models=(first, *before.models[1:])))
    assert "zoo/base@" not in page and page.count(f"commit {commit[:12]}") == 1


def test_what_is_contradicted_is_named_first() -> None:
    said = words.summary(family())
    assert said.startswith("The card of owner/model-8 names owner/model-0; the weights do not support that. 9 models: ")
    assert "2 families, of 3 and 2; 2 in no family; families share a random start; " in said
    many = replace(family(), claims=tuple(claim(at, 0, "contradicted") for at in range(3, 8)))
    assert "owner/model-5 names owner/model-0 and 2 further cards name other models; the" in words.summary(many)


def test_layouts_that_cannot_be_compared_are_no_headline() -> None:
    calm = replace(family(), claims=(), findings=(), models=tuple(replace(one, exit_code=0) for one in family().models))
    untossed = replace(calm.links[5], evidence=replace(calm.links[5].evidence, coins=0, heads=0))
    limited = replace(calm, links=(*calm.links[:5], untossed, calm.links[6]))
    assert exit_code(calm) == exit_code(limited) == 3
    assert "Not everything is decided</p>" in fragment(calm) and "Not everything" not in fragment(limited)
    assert "1 pair that cannot be compared" in words.summary(limited)
    unsettled = replace(limited, claims=(claim(5, 4, "undecided"),))
    assert "Not everything is decided</p>" in fragment(unsettled)
    assert "1 declared base not decided" in words.summary(unsettled) and "pair" not in words.summary(unsettled)


def test_a_tree_says_how_it_is_repeated() -> None:
    command = words.command(family())
    assert command.startswith("lineage tree owner/model-0 owner/model-1 ") and command.endswith(" --seed 0 --bar 9")
    assert f'<pre tabindex="0" aria-label="Command">{command}</pre>' in fragment(family())
    offered = (member("examples:base"), *family().models[1:])
    assert words.command(replace(family(), models=offered)) == ""


@pytest.mark.parametrize("name", ["owner/model", EVIL, "x" * 400])
def test_the_picture_says_in_words_what_it_shows(name: str) -> None:
    root = ElementTree.fromstring(picture(family(name=name)))
    said = root.findtext("desc") or ""
    assert (root.findtext("title"), root.get("role")) == ("Family tree by weights", "img")
    assert "is nearest to" in said and "Common random start" in said
    if name == "owner/model":
        assert "owner/model-1 is nearest to owner/model-0 (cosine 0.950" in said
    kinds = {element.get("class") for element in root.iter()}
    assert {"step", "half", "heads", "dot", "ring", "diamond", "cross"} <= kinds
    width = float((root.get("viewBox") or "").split()[2])
    for text in root.iter("text"):
        assert float(text.get("x", 0)) + 5 * len(text.text or "") < width + 60


def test_no_sentence_calls_a_branch_a_parent() -> None:
    for format in formats():
        text = render(family(), format).lower()
        assert "child of" not in text and "copied from" not in text and "p = 0" not in text
        assert "probability that" not in text


def test_sixty_four_models_are_drawn() -> None:
    models = tuple(member(f"m/{at}") for at in range(64))
    links = tuple(link(at + 1, at) for at in range(63))
    chain = Family("2026-11-22T17:00:00+00:00", models, links, trees=families(64, links, ()), pairs=2016, tests=2016)
    for format in formats():
        assert "m/63" in render(chain, format)
    places = [float(x) for x in re.findall(r'<circle class="dot" cx="([\d.]+)"', picture(chain))]
    assert max(places) < 200
