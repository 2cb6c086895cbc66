"""The pages as a visitor has them: a local Hub, a really launched server, a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from lineage_plugin.web.app import build, launch_options
from lineage_plugin.web.desk import Desk
from lineage_plugin.web.serve import offered
from lineage_plugin.web.settings import Settings
from tests.hub import LocalHub

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["EVIL", "EXAMPLES", "Site", "Visit", "site_of", "visit"]

EXAMPLES = Path(__file__).parents[2] / "examples"
EVIL = "<img src=x onerror=alert(1)><script>alert(1)</script>**b** [l](javascript:alert(1)) {{7*7}} ${alert(1)} `x`"
_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


@dataclass
class Site:
    """What is served."""

    hub: LocalHub
    desk: Desk
    url: str


@contextmanager
def site_of(root: Path) -> Iterator[Site]:
    """Serve the example models as ``zoo/...``, one that is gated, and one whose every word is hostile."""
    for name in ("base", "honest", "liar", "twin"):
        shutil.copytree(EXAMPLES / name, root / "zoo" / name)
        card = root / "zoo" / name / "README.md"
        card.write_text(card.read_text().replace("examples/", "zoo/"))
    shutil.copytree(EXAMPLES / "honest", root / "zoo" / "locked")
    _hostile(root / "zoo" / "hostile")
    with LocalHub(root) as hub:
        hub.faults.gated.add("zoo/locked")
        settings = Settings(models=offered(EXAMPLES), endpoint=hub.endpoint)
        with Desk(settings) as desk:
            ui = build(settings, desk)
            try:
                ui.launch(
                    **launch_options(),
                    prevent_thread_lock=True,
                    quiet=True,
                    ssr_mode=False,
                    share=False,
                    mcp_server=True,
                    run_history=False,
                )
                yield Site(hub, desk, str(ui.local_url))
            finally:
                ui.close(verbose=False)


def _hostile(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(
        f"---\nlicense: '{EVIL}'\nbase_model:\n- zoo/base\n- '{EVIL}'\nbase_model_relation: '{EVIL}'\n"
        f"tags: ['{EVIL}']\n---\n# {EVIL}\n\n<iframe src='javascript:alert(1)'></iframe>\n{EVIL}\n"
    )
    (folder / "config.json").write_text('{"model_type": "x", "architectures": ["<script>alert(1)</script>"]}')
    random = np.random.default_rng(0)
    save_file(
        {f"{EVIL}.{number}.weight": random.standard_normal((64, 64)).astype("float32") for number in range(4)},
        folder / "model.safetensors",
    )


@dataclass
class Visit:
    """A page that a visitor has open, what it asked for and what went wrong."""

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> None:
        """Open the pages, and wait until they can be used."""
        self.page.goto(self.url + query)
        self.page.wait_for_selector('input[list$="-offers"]', state="attached")

    def tab(self, name: str) -> None:
        """Choose a tab."""
        self.page.get_by_role("tab", name=name).click()

    def place(self) -> Any:
        """What stands below the form that is open."""
        return self.page.locator(".lineage-place:visible").locator(
            ":is(.lineage-answer, .lineage-failed):not([data-old])"
        )

    def settled(self) -> str:
        """Wait for the answer, or why there is none, and return its words."""
        self.place().wait_for(timeout=60_000)
        return str(self.place().inner_text())

    def compare(self, suspect: str, base: str) -> str:
        """Compare two models."""
        self.page.evaluate(
            "document.querySelectorAll('.lineage-answer, .lineage-failed').forEach(one => one.dataset.old = '')"
        )
        self.page.fill("#compare-suspect input", suspect)
        self.page.fill("#compare-base input", base)
        self.page.get_by_role("button", name="Check", exact=True).click()
        return self.settled()

    def serious(self, *, colours: bool = False) -> list[tuple[str, str]]:
        """What axe finds serious or critical; in all, or in the colours alone."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page, options=_COLOURS if colours else {}).response["violations"]
        return [
            (one["id"], node["html"][:200])
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


@contextmanager
def visit(browser: Browser, site: Site, **context: Any) -> Iterator[Visit]:
    """Come as a new visitor: ``viewport``, ``color_scheme`` and so on."""
    with browser.new_context(**context) as fresh:
        one = Visit(fresh.new_page(), site.url)
        one.page.on("request", lambda request: one.requests.append(request.url))
        one.page.on("pageerror", lambda error: one.errors.append(str(error)))
        one.page.on("dialog", lambda dialog: (one.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        one.page.on("console", lambda said: one.errors.append(said.text) if said.type == "error" else None)
        yield one
        elsewhere = [url for url in one.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert not (one.errors or elsewhere), (one.errors, elsewhere)
