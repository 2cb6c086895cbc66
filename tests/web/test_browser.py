"""The pages in a real browser, against a real server and the local Hub. Every visit also asserts that no request left
for anywhere else, no dialog opened and no error was logged."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium
from tests.web.pages import Site, Visit, site_of, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_of(tmp_path_factory.mktemp("hub")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def visitor(browser: Browser, site: Site) -> Iterator[Visit]:
    with visit(browser, site) as found:
        found.open()
        yield found


def fits(one: Visit) -> bool:
    return bool(one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_answers_and_refusals_in_plain_words(visitor: Visit, tmp_path: Path) -> None:
    page = visitor.page
    said = visitor.compare("zoo/honest", "https://huggingface.co/zoo/base")
    assert "zoo/honest is consistent with zoo/base as its base" in said and "One may be made from the other" in said
    assert page.url.endswith("?suspect=zoo/honest&base=zoo/base")
    assert "The answer is there." in page.inner_text("#lineage-said")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download JSON").click()
    assert download.value.suggested_filename == "lineage-zoo-honest-zoo-base.json"
    assert json.loads(Path(download.value.path()).read_text())["comparisons"][0]["relation"] == "derived"

    said = visitor.compare("zoo/liar", "zoo/base")
    assert "shows no trace of zoo/base" in said and "distillation" in said and "liar" in said
    said = visitor.compare("zoo/twin", "zoo/base")
    assert "common start" in said and "No descent is shown" in said

    said = visitor.compare("zoo/locked", "zoo/base")
    assert "That model may not be read" in said and "gated" in said
    said = visitor.compare("zoo/nowhere", "zoo/base")
    assert "There is no such model" in said and "zoo/nowhere" in said
    said = visitor.compare("/etc/passwd", "zoo/base")
    assert "That cannot be asked" in said
    assert page.locator(".lineage-place:visible [role=alert]").count() == 1
    assert page.locator(".toast-wrap .error, .toast-body").count() == 0  # gradio's own pop-up


HOSTILE = {
    "?suspect=%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&base=zoo/base": "That cannot be asked",
    "?model=zoo/hostile": "onerror",  # shown as text
    "?suspect=zoo/hostile&base=zoo/hostile": "zoo/hostile",
    "?tree=zoo/hostile,zoo/base": "zoo/hostile",
}


def test_nothing_hostile_becomes_part_of_the_page(browser: Browser, site: Site) -> None:
    foreign = ".lineage-place :is(script, img, iframe, object, embed, form, input, style)"
    for query, said in HOSTILE.items():
        with visit(browser, site) as one:
            one.open(query)
            assert said in one.settled()
            if "suspect=zoo" in query:
                one.page.get_by_role("button", name="Fill in the base").click()
                one.page.get_by_text("The card declares zoo/base.").wait_for()  # the other is no id
            assert one.page.locator(foreign).count() == 0
            attributes = one.page.evaluate(
                "[...document.querySelectorAll('.lineage-place *')].flatMap(one => [...one.attributes])"
                ".map(one => `${one.name}=${one.value}`)"
            )
            assert [one for one in attributes if re.match(r"on|\w+=\s*javascript:", one)] == []


@pytest.fixture
def slow(site: Site) -> Iterator[None]:
    site.hub.latency = 0.4
    yield
    site.hub.latency = 0.0


def test_cancel_gives_the_place_back_and_says_so(visitor: Visit, site: Site, slow: None) -> None:
    page = visitor.page
    site.hub.latency = 3.0  # axe takes its time
    page.fill("#compare-suspect input", "zoo/twin")
    page.fill("#compare-base input", "zoo/liar")
    page.get_by_role("button", name="Check", exact=True).press("Enter")
    cancel = page.get_by_role("button", name="Cancel")
    cancel.wait_for()
    page.wait_for_function("document.activeElement.id === 'compare-cancel'")  # where the keyboard goes on
    assert not page.get_by_role("button", name="Check", exact=True).is_visible()
    for dark in (False, True):
        page.evaluate("dark => document.body.classList.toggle('dark', dark)", dark)
        page.wait_for_timeout(300)  # the colours of buttons change gradually
        assert visitor.serious(colours=dark) == []
    assert "Comparing zoo/twin with zoo/liar" in page.inner_text(".lineage-running")
    page.keyboard.press("Enter")
    assert "Cancelled" in visitor.settled()
    assert page.get_by_role("button", name="Check", exact=True).is_visible() and not cancel.is_visible()
    page.wait_for_function("document.activeElement.matches('.lineage-failed')")
    free(site)


def free(site: Site) -> None:
    """Wait until nothing is at work."""
    until = time.monotonic() + 20
    while site.desk._open():
        assert time.monotonic() < until, "the place is not free"
        time.sleep(0.05)


def test_what_is_asked_next_takes_the_place_of_what_runs(visitor: Visit, site: Site) -> None:
    page = visitor.page
    site.hub.latency = 3.0
    try:
        page.fill("#compare-suspect input", "zoo/twin")
        page.fill("#compare-base input", "zoo/liar")
        page.press("#compare-base input", "Enter")
        page.locator(".lineage-running").wait_for()
        page.get_by_role("button", name="not what it says").click()
        page.get_by_text("examples:liar shows no trace of examples:base").first.wait_for()
        free(site)
        assert page.get_by_role("button", name="Check", exact=True).is_visible()
    finally:
        site.hub.latency = 0.0


def test_numbers_grow_and_whoever_leaves_gives_his_place_back(browser: Browser, site: Site, slow: None) -> None:
    with visit(browser, site) as one:
        one.open("?suspect=zoo/base&base=zoo/honest")
        one.page.wait_for_function(  # bytes arrive while it runs
            "/Weights read\\s+[1-9]/.test(document.querySelector('.lineage-running')?.innerText || '')"
        )
        assert site.desk._open() != []
    free(site)


def test_a_keyboard_is_enough(visitor: Visit) -> None:
    page = visitor.page
    page.locator("body").press("Tab")
    reached = []
    for _ in range(12):
        reached.append(
            page.evaluate(
                "document.activeElement.textContent.trim() || document.activeElement.closest('label')?.innerText.trim()"
            )
        )
        if page.evaluate("document.activeElement.matches('#compare-suspect input')"):
            break
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches('#compare-suspect input')"), reached
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.type("examples:twin")
    page.keyboard.press("Tab")
    page.keyboard.type("examples:base")
    page.keyboard.press("Enter")
    assert "common start" in visitor.settled()
    copy = page.get_by_role("button", name="Copy link")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copy.focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"{visitor.url}?suspect=examples:twin&base=examples:base"
    page.locator("summary", has_text="Badge").focus()
    page.keyboard.press("Enter")
    badge = page.locator("[id$=share-badge]").inner_text()
    assert badge.startswith("[![weights: share a start with") and badge.endswith(f"]({page.url})")


def test_the_declared_base_is_filled_in_and_names_are_offered(visitor: Visit, site: Site) -> None:
    page = visitor.page
    page.locator("#compare-suspect input").press_sequentially("zoo/hon", delay=20)
    page.wait_for_selector('#compare-suspect-offers option[value="zoo/honest"]', state="attached")
    page.fill("#compare-suspect input", "zoo/honest")
    page.get_by_role("button", name="Fill in the base").click()
    page.get_by_text("The card declares zoo/base.").wait_for()
    assert page.input_value("#compare-base input") == "zoo/base"
    (site.hub.create("zoo/merge") / "README.md").write_text("---\nbase_model: [zoo/base, zoo/liar]\n---\n")
    page.fill("#compare-suspect input", "zoo/merge")
    page.get_by_role("button", name="Fill in the base").click()
    page.get_by_role("radio", name="zoo/liar").check()
    page.wait_for_function("document.querySelector('#compare-base input').value === 'zoo/liar'")
    assert "declares 2 bases" in page.inner_text(".lineage-note")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_and_axe(browser: Browser, site: Site, scheme: str) -> None:
    with visit(browser, site, viewport=PHONE, color_scheme=scheme) as one:
        one.open()
        page, dark = one.page, scheme == "dark"
        paper = "rgb(20, 25, 31)" if dark else "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('gradio-app, body')).backgroundColor") == paper
        page.get_by_role("button", name="How to read the answer").click()
        page.get_by_role("button", name="Revisions").click()
        assert one.serious(colours=dark) == [] and fits(one)
        page.get_by_role("button", name="a fine-tune").click()
        assert "is consistent with" in one.settled()
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert one.serious(colours=dark) == [] and fits(one)
        assert page.evaluate("getComputedStyle(document.querySelector('.lineage-report')).backgroundColor") == paper
        levels = page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4,h5')].filter(e => e.checkVisibility()).map(e => +e.tagName[1])"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
        one.tab("Family tree")
        page.get_by_role("button", name="four small models").click()
        assert "Common random start" in one.settled()
        assert page.input_value("#tree-models textarea").count(":") == 4
        assert one.serious(colours=dark) == [] and fits(one)
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id).filter(Boolean)")
        assert len(ids) == len(set(ids))
