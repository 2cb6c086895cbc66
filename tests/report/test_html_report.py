"""The HTML report: what it says, that names cannot break out of it, and how it behaves in a real browser."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage_plugin.api import check
from lineage_plugin.arguments import parser
from lineage_plugin.cli import main
from lineage_plugin.findings import CODES, Finding, finding
from lineage_plugin.judge.types import (
    ChainLink,
    Declared,
    GroupEvidence,
    Interval,
    LayerEvidence,
    LicenceOutcome,
    MergeParent,
    PolicyUse,
    Report,
)
from lineage_plugin.policy.load import load_policy
from lineage_plugin.report import drawing, html_report, outline, parents, phrases, render, render_all, searched
from tests.browser import Opened, chromium, opened
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


def command(report: Report) -> tuple[str, str]:
    """The command of a page, and what the page says that it repeats."""
    text = render(report, "html")
    found = re.findall(r'aria-label="Command[^>]*>([^<]*)</pre>\n<p class="soft">([^<]*)</p>', text)
    return (unescape(found[0][0]), found[0][1]) if found else ("", "")


def test_the_command_repeats_the_run() -> None:
    derived = samples.derived()
    said, repeats = command(derived)
    assert said == "lineage check zoo/atlas-docs --base zoo/atlas --seed 0 --bar 9"
    assert "so is the verdict" in repeats
    pair = replace(samples.pair(), command="compare")
    assert command(pair)[0] == "lineage compare zoo/atlas-docs zoo/atlas --seed 0 --bar 9"
    suspect = replace(derived.suspect, id="my models/$(x)")
    odd = replace(derived, suspect=suspect, folder=suspect.id, settings=replace(derived.settings, exhaustive=True))
    assert command(odd)[0] == "lineage check 'my models/$(x)' --base zoo/atlas --seed 0 --bar 9 --exhaustive"
    assert command(samples.no_base()) == ("", "")


@pytest.mark.parametrize("sample", [samples.found, samples.not_found])
def test_a_scan_is_repeated_with_the_same_registry(sample: Any) -> None:
    said, repeats = command(sample())
    assert said == "lineage scan zoo/atlas-docs --registry REGISTRY --seed 0 --bar 9"
    assert "REGISTRY stands for the registry" in repeats and "verdict" not in repeats
    assert parser().parse_args(shlex.split(said)[1:]).registry == "REGISTRY"


def test_models_that_a_server_offers_itself_have_no_command() -> None:
    pair = samples.derived()
    own = replace(pair, suspect=replace(pair.suspect, id="examples:honest", revision=None))
    assert command(own)[0] == ""
    here = replace(pair, suspect=replace(pair.suspect, id=r"C:\models\honest", revision=None))
    assert command(here)[0] != ""


def test_a_check_of_an_undeclared_base_is_repeated_as_a_check() -> None:
    undeclared = replace(samples.unrelated(), declared=Declared((), None, None, None, None))
    assert command(undeclared)[0].startswith("lineage check zoo/draco --base zoo/atlas ")


def test_a_policy_is_named_unless_nobody_named_it() -> None:
    derived = samples.derived()
    for policy, ends in (
        (PolicyUse("our policy.yml", off=("LIN101",)), "--bar 9 --policy 'our policy.yml'"),
        (PolicyUse("zoo/.lineage.yml", ignored=("levels.LIN101",)), "--bar 9"),  # named, it would count whole
    ):
        report = replace(derived, settings=replace(derived.settings, policy=policy))
        assert command(report)[0].endswith(ends)


@pytest.mark.parametrize("sample", [samples.closer, samples.merged])
def test_what_the_report_does_not_hold_is_said_to_be_missing_from_the_command(sample: Any) -> None:
    assert "repeats the numbers, not the verdict" in command(sample())[1]


def test_what_was_asked_of_the_hub_besides_is_not_repeated() -> None:
    chain = replace(samples.derived(), chain=(ChainLink("zoo/atlas", ("zoo/stem",)),))
    licence = LicenceOutcome("zoo/atlas", None, "mit", "the Hub", "compatible", "it allows this", None)
    for report in (chain, replace(samples.derived(), licences=(licence,))):
        assert "repeats the numbers, not the verdict" in command(report)[1]


@pytest.mark.parametrize("policy", ["", "version: 1\nlevels:\n  LIN101: off\n"])
@pytest.mark.parametrize("name", ["honest", "liar"])
def test_the_command_gives_the_same_report_again(name: str, policy: str, tmp_path: Path) -> None:
    file = tmp_path / "our policy.yml"
    file.write_text(policy)
    model, base = str(EXAMPLES / name), str(EXAMPLES / "base")
    report = check(model, bases=[base], policy=load_policy(str(file)) if policy else None)
    words = shlex.split(command(report)[0])
    output = tmp_path / "again.json"
    main([*words[1:], "--format", "json", "--output", str(output)])
    again, first = json.loads(output.read_text()), json.loads(render(report, "json"))
    assert words[0] == "lineage"
    assert (again["verdict"], again["findings"]) == (first["verdict"], first["findings"])
    assert [one["evidence"] for one in again["comparisons"]] == [one["evidence"] for one in first["comparisons"]]


@pytest.mark.parametrize("sample", samples.ALL)
def test_the_banner_says_what_the_other_formats_say(sample: Any) -> None:
    report = sample()
    kind, word = outline.banner(report)
    assert outline.headline(report).kind == kind
    (shown,) = re.findall(
        r'<div class="verdict (\w+)">\n<p class="word"><span[^>]*>[^<]*</span> ([^<]*)</p>', render(report, "html")
    )
    assert (shown[0], shown[1].upper()) == (kind, word)


def test_a_pass_by_policy_is_not_shown_as_a_pass() -> None:
    derived = samples.derived()
    policy = PolicyUse("p.yml", off=("LIN101",))
    text = render(replace(derived, settings=replace(derived.settings, policy=policy)), "html")
    assert '<div class="verdict note">' in text and "Pass under the policy</p>" in text


def words_of(report: Report) -> str:
    """The headline of a page."""
    (shown,) = re.findall(r'<p class="word"><span[^>]*>[^<]*</span> ([^<]*)</p>', render(report, "html"))
    return str(shown)


def test_what_could_not_be_read_fails_nobody() -> None:
    unopened = Finding("LIN202", "error", "the declared base could not be opened")
    report = replace(samples.derived(), comparisons=(), findings=(unopened,), verdict="fail")
    text = render(report, "html")
    assert words_of(report) == "Nothing compared" and '<div class="verdict note">' in text
    assert "This says nothing about the weights: a declared base could not be opened." in text
    assert "Ask before you accuse" not in text
    assert "FAIL: " in render(report, "text") and '"verdict": "fail"' in render(report, "json")
    # A contradiction beside it stays one.
    wrong = replace(report, findings=(unopened, Finding("LIN101", "error", "the weights do not support it")))
    assert words_of(wrong) == "Fail" and "Ask before you accuse" in render(wrong, "html")


def test_a_pass_names_its_warnings() -> None:
    warnings = tuple(Finding("LIN203", "warning", f"odd {at}") for at in range(3))
    report = replace(samples.derived(), findings=warnings)
    assert words_of(report) == "Pass, with 3 warnings"
    assert "there are 3 warnings to read below" in render(report, "html")
    assert "PASS: " in render(report, "text")


def test_a_pair_is_named_by_both_and_never_called_unrelated() -> None:
    report = replace(
        samples.unrelated(),
        command="compare",
        findings=(),
        verdict="pass",
        declared=Declared((), None, None, None, None),
    )
    text = render(report, "html")
    both = f"{report.suspect.id} and {report.comparisons[0].base.id}"
    assert words_of(report) == "No relation found" and f'class="name">{both}</h1>' in text
    assert '"relation": "unrelated"' in render(report, "json")


def figures(report: Report) -> dict[str, str]:
    """The words of each picture of a page, by its caption."""
    found = re.findall(
        r'<figcaption>([^<]*)</figcaption>\n<svg.*?<desc>([^<]*)</desc>.*?</svg>\n<p class="key">([^<]*)</p>',
        render(report, "html"),
    )
    return {caption: f"{unescape(told)} | {unescape(key)}" for caption, told, key in found}


COINS, MAP = "How the coins fell, layer by layer", "Layer against layer"


def test_the_keys_say_what_blue_and_grey_are() -> None:
    said = figures(samples.derived())[COINS]
    assert "Blue: above the band, more heads than chance gives. " in f"{said} "
    assert "Grey" not in said
    assert "all layers with a probability of at least 99%" in said
    silent = figures(samples.unrelated())[COINS]
    assert "Grey: not above it." in silent and "Blue" not in silent


def test_coins_that_need_assumptions_say_so() -> None:
    one = samples.comparison()
    report = samples.report(replace(one, evidence=replace(one.evidence, exact=False)))
    assert "more heads than chance gives, if the assumptions under Limits hold." in figures(report)[COINS]


def test_a_shared_start_is_not_shown_as_a_part_of_the_base() -> None:
    said = figures(samples.twin())
    assert "A shared random start alone gives full bars." in said[COINS]
    assert "A shared random start alone gives full dots." in said[MAP]
    assert "How much of the common start both still have" in said
    assert "How much of the base is kept" not in render(samples.twin(), "html")
    assert "shared random start" not in str(figures(samples.derived()))


def test_unrelated_models_have_no_map_and_no_share_that_is_kept() -> None:
    said = figures(samples.unrelated())
    assert set(said) == {COINS, "How much could remain at most"}
    assert "Its right end is the most that could remain." in said["How much could remain at most"]
    blue = replace(samples.unrelated().comparisons[0], layers=samples.layers([1.0] * 6))
    assert MAP not in figures(samples.report(blue))


def test_a_disguised_copy_does_not_rest_on_its_coins() -> None:
    one = samples.disguised().comparisons[0]
    report = samples.report(replace(one, layers=tuple(replace(layer, heads=128) for layer in one.layers)))
    said = figures(report)
    assert said[COINS].endswith("The answer does not rest on these coins.")
    assert "6 in place" in said[MAP] and "the fuller its colour the larger the cosine." in said[MAP]
    assert "does not rest on these coins" not in str(figures(samples.relabelled()))


def test_the_picture_of_what_is_kept_says_what_the_sentence_says() -> None:
    amplified = samples.comparison(kept=Interval(1.0416, 1.0385, 1.0447))
    (told,) = (said for name, said in figures(samples.report(amplified)).items() if "kept" in name)
    assert "1.04 times" in told and "1.03 to 1.05" in told and "100.0%" not in told


def test_the_band_of_a_layer_is_the_same_in_the_table() -> None:
    low, high = drawing.joint_bands(samples.layers([1.0] * 6))[0]
    assert f"<td>{low} to {high}</td>" in render(samples.derived(), "html")
    assert f"<td>{' to '.join(map(str, drawing.chance_band(256)))}</td>" not in render(samples.derived(), "html")


def test_almost_all_heads_are_not_all() -> None:
    evidence = replace(samples.comparison().evidence, groups=(GroupEvidence("mlp swap", 5000, 4999, 1000.0),))
    text = render(samples.report(samples.comparison(evidence=evidence)), "html")
    assert "<td>99.9%</td>" in text and "<td>100.0%</td>" not in text


def test_estimates_have_a_key() -> None:
    report = samples.merged()
    assert "95% interval" in figures(report)["Weight of each parent"]
    vague = samples.merged_from(parents=(MergeParent("a/b", 0.5, -4.0, 5.0), MergeParent("c/d", 0.7, 0.6, 0.8)))
    assert "An arrowhead: the interval goes on" in figures(replace(report, merge=vague))["Weight of each parent"]


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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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
    # Each of the samples has a page of its own above; here it is about what several have in common.
    "several": lambda: [sample() for sample in (samples.merged, samples.unrelated, samples.no_base, samples.hostile)],
}


@pytest.fixture(scope="module", params=REPORTS)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = REPORTS[request.param]()
    path = tmp_path_factory.mktemp("html") / "report.html"
    path.write_text(html_report.render_all(report if isinstance(report, list) else [report]), encoding="ascii")
    return path


@pytest.fixture(scope="module")
def shown(browser: Browser, file: Path) -> Iterator[Opened]:
    """A page that several tests look at; each sets what it depends on."""
    with opened(browser, file) as found:
        yield found


def test_it_opens_alone_and_fits_every_screen(shown: Opened, file: Path) -> None:
    page = shown.page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for scheme, width in itertools.product(("light", "dark"), (360, 768, 1280)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).maxWidth") != "none"  # the style sheet was let in
    assert shown.requests == [file.as_uri()]
    assert shown.errors == []


# The two differ in their colours alone.
AXE: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}},
}


def test_axe_finds_nothing_serious(browser: Browser, file: Path) -> None:
    from axe_playwright_python import sync_playwright as axe

    # The page forbids scripts; axe is one.
    with opened(browser, file, bypass_csp=True) as found:
        found.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        violations, shown = [], []
        for scheme, options in AXE.items():
            found.page.emulate_media(color_scheme=scheme)
            shown.append(found.page.evaluate("getComputedStyle(document.body).color"))
            violations += axe.Axe().run(found.page, options=options).response["violations"]
    assert shown[0] != shown[1]
    bad = [(one["id"], one["nodes"][0]["html"][:200]) for one in violations if one["impact"] in ("serious", "critical")]
    assert bad == []


def test_it_prints(shown: Opened) -> None:
    page = shown.page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    page.emulate_media(color_scheme="dark")
    printed = page.pdf(prefer_css_page_size=True)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"  # dark ink
    for one in page.query_selector_all("details"):
        assert one.query_selector("table").evaluate("table => table.checkVisibility({contentVisibilityAuto: true})")
        assert one.bounding_box()["height"] > one.query_selector("table").bounding_box()["height"] > 20
    assert printed.startswith(b"%PDF") and len(printed) > 5000
