"""The HTML report: what it says, that names cannot break out of it, and how it behaves in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage_plugin.api import check
from lineage_plugin.findings import CODES, finding
from lineage_plugin.judge.types import Declared, LayerEvidence, Report
from lineage_plugin.report import html_report, parents, phrases, render, render_all, searched
from tests.browser import chromium, opened
from tests.report import samples

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
VOID = {"meta", "br"}
SHAPES = {"svg", "title", "desc", "rect", "line", "text", "circle", "path", "polyline"}
ELEMENTS = SHAPES | {
    *("html", "head", "meta", "style", "body", "header", "main", "footer", "nav", "article", "section", "div", "span"),
    *("p", "a", "h1", "h2", "h3", "h4", "ol", "ul", "li", "dl", "dt", "dd", "figure", "figcaption", "strong", "br"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "code", "pre"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope", "tabindex", "role"),
    *("aria-label", "aria-labelledby", "aria-hidden", "viewbox", "x", "y", "width", "height", "x1", "x2", "y1", "y2"),
    *("cx", "cy", "r", "d", "points", "transform", "fill-opacity", "stroke-opacity", "stroke-width"),
}


class Page(HTMLParser):
    """The elements, links and visible words of a page; refuses what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.stack:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def headings(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.elements if re.fullmatch("h[1-6]", tag)]


def harmless(page: Page) -> None:
    """No element or attribute that the template does not have, and no link but to the documentation and the Hub."""
    for tag, attributes in page.elements:
        assert tag in ELEMENTS
        assert set(attributes) <= ATTRIBUTES, (tag, attributes)
        link = attributes.get("href")
        if link is not None:
            assert re.match(r"#model-\d+$|https://(github\.com/lineage-plugin|huggingface\.co)/[!-~]+$", link)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("sample", samples.ALL)
def test_every_sample_is_well_formed_and_harmless(sample: Any) -> None:
    text = render(sample(), "html")
    assert text.isascii() and text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    page = Page(text)
    harmless(page)
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))


@pytest.mark.parametrize("sample", [one for one in samples.ALL if one is not samples.hostile])
def test_the_sentences_are_those_of_the_other_formats(sample: Any) -> None:
    report = sample()
    said = Page(render(report, "html")).text
    expected = [phrases.summary(report)]
    for one in report.comparisons:
        expected += [phrases.coins(one.evidence, calibrated=one.calibrated is not None)] if one.evidence.coins else []
        expected += [phrases.kept(one), phrases.descent(one), phrases.curve(one), searched.calibrated(one), *one.limits]
        expected += [searched.stages(one.evidence), searched.changes(one), searched.relabelled(one)]
        expected += [phrases.cost(one.suspect_cost, one.base_cost), phrases.relation(one, declared=True)[1]]
    if report.merge is not None:
        expected += [parents.merge_summary(report.merge), parents.merge_ancestor(report.merge), parents.ESTIMATE]
    if report.closest is not None:
        expected += [parents.answer(report.closest), parents.candidates_legend(report.closest)]
    for one in report.findings:
        expected += [one.message, one.help, one.code]
    for sentence in expected:
        assert sentence in said


def test_only_its_own_style_sheet_is_allowed() -> None:
    text = render(samples.derived(), "html")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src &#39;none&#39;; style-src &#39;sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<script|<link|<img|url\(|@import|\bstyle=|\bon[a-z]+=", text)


def test_codes_link_to_their_page_and_suggestions_can_be_copied() -> None:
    one = finding("LIN201", "No base is declared", suggestion=("base_model: <owner/name>", "base_model_relation: x"))
    text = render(samples.report(findings=(one,)), "html")
    assert f'<a href="{CODES["LIN201"].help_uri}">LIN201</a>' in text
    assert ">base_model: &lt;owner/name&gt;\nbase_model_relation: x</pre>" in text


def test_only_models_of_the_hub_are_linked() -> None:
    revision = "0123456789" * 4
    report = replace(samples.derived(), suspect=samples.model("zoo/atlas-docs", revision=revision))
    assert f'<a href="https://huggingface.co/zoo/atlas-docs/tree/{revision}">zoo/atlas-docs</a>' in render(
        report, "html"
    )
    assert "huggingface.co" not in render(samples.derived(), "html")


def test_the_command_repeats_the_run() -> None:
    said = Page(render(samples.derived(), "html")).text
    assert "lineage check zoo/atlas-docs --base zoo/atlas --seed 0 --bar 9" in said
    assert "lineage compare zoo/atlas-docs zoo/atlas --seed 0" in Page(render(samples.pair(), "html")).text
    odd = replace(
        samples.derived(), folder="my models/$(x)", settings=replace(samples.derived().settings, exhaustive=True)
    )
    assert (
        "lineage check 'my models/$(x)' --base zoo/atlas --seed 0 --bar 9 --exhaustive"
        in Page(render(odd, "html")).text
    )
    assert "lineage check" not in Page(render(samples.no_base(), "html")).text


def test_several_models_have_a_table_of_contents() -> None:
    page = Page(render_all([sample() for sample in samples.ALL], "html"))
    harmless(page)
    anchors = {attributes.get("id") for _, attributes in page.elements}
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a" and attributes["href"][0] == "#"]
    assert links == [f"#model-{number}" for number in range(1, len(samples.ALL) + 1)]
    assert {link[1:] for link in links} <= anchors
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:]))


def test_no_models_make_a_page() -> None:
    assert "0 models" in Page(render_all([], "html")).text


texts = st.text(max_size=60) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=x>',
        "{{ 7*7 }}",
        "{% raw %}",
        "</style>",
        "javascript:x",
        "&lt;",
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts, texts, texts)
def test_no_text_breaks_out(one: str, two: str, three: str) -> None:
    found = samples.comparison(
        base=samples.model(one, revision=two),
        layers=(LayerEvidence(one, two, 4, 4, 0.5), LayerEvidence(three, None, 0, 0, 0.0)),
        limits=(one, two),
        changes=(three,),
    )
    report = samples.report(
        found,
        suspect=samples.model(two, architecture=one, revision="0" * 40),
        declared=Declared((one,), two, three, one, 1),
        findings=(finding("LIN201", one, file=two, help=three, suggestion=(one, two)),),
        summary=three,
        folder=two,
        created=one,
    )
    harmless(Page(render(report, "html")))


def test_names_are_not_taken_for_templates() -> None:
    report = replace(samples.derived(), summary="{{ 7 * 7 }} {% include 'x' %} <b>")
    assert "{{ 7 * 7 }} {% include &#39;x&#39; %} &lt;b&gt;" in render(report, "html")


# In a real browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


def real(name: str) -> Report:
    return check(str(EXAMPLES / name), bases=[str(EXAMPLES / "base")])


REPORTS = {
    **{sample.__name__: sample for sample in samples.ALL},
    **{f"example {name}": lambda name=name: real(name) for name in ("honest", "liar", "twin")},
    "all": lambda: [sample() for sample in samples.ALL],
}


@pytest.fixture(scope="module", params=REPORTS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = REPORTS[request.param]()
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(html_report.render_all(report if isinstance(report, list) else [report]), encoding="ascii")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_alone_and_fits_every_screen(browser: Browser, file: Path, scheme: str) -> None:
    with opened(browser, file, color_scheme=scheme) as found:
        for width in (360, 768, 1280):
            found.page.set_viewport_size({"width": width, "height": 900})
            found.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        assert found.page.evaluate("getComputedStyle(document.body).maxWidth") != "none"  # the style sheet was let in
        assert found.requests == [file.as_uri()]
        assert found.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, file: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    # The page forbids scripts; axe is one.
    with opened(browser, file, color_scheme=scheme, bypass_csp=True) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        violations = axe.Axe().run(found.page).response["violations"]
    bad = [(one["id"], one["nodes"][0]["html"][:200]) for one in violations if one["impact"] in ("serious", "critical")]
    assert bad == []


def test_it_prints(browser: Browser, file: Path) -> None:
    with opened(browser, file, color_scheme="dark") as found:
        printed = found.page.pdf(prefer_css_page_size=True)
        found.page.emulate_media(media="print")
        assert found.page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"  # dark ink
    assert printed.startswith(b"%PDF") and len(printed) > 5000
