"""The pictures of the pages in the documentation: ``python -m tests.web.images`` makes them anew."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.browser import chromium
from tests.web.pages import site_of, visit

IMAGES = Path(__file__).parents[2] / "docs" / "images"
COMPARE, TREE, PHONE = {"width": 1180, "height": 1790}, {"width": 1180, "height": 1250}, {"width": 390, "height": 844}


def main() -> None:
    """Ask as a visitor does, and take the pictures."""
    with tempfile.TemporaryDirectory() as root:
        os.environ["LINEAGE_CACHE"] = f"{root}/cache"
        with site_of(Path(root) / "hub") as site, chromium() as browser:
            for name, query, context in (
                ("space-compare", "?suspect=zoo/honest&base=zoo/base", {"viewport": COMPARE}),
                ("space-phone", "?suspect=zoo/twin&base=zoo/base", {"viewport": PHONE, "color_scheme": "dark"}),
                ("space-tree", "?tree=zoo/base,zoo/honest,zoo/liar,zoo/twin", {"viewport": TREE}),
            ):
                with visit(browser, site, **context) as one:
                    one.open(query)
                    one.settled()
                    one.page.wait_for_timeout(1500)  # the answer comes into view
                    if name != "space-phone":
                        one.page.evaluate("scrollTo(0, 0)")
                        one.page.wait_for_timeout(500)
                    one.page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
