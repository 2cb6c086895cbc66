"""How the pages look: a theme of system fonts in the colours of the reports, style sheets and the script of the page.

Nothing is fetched from elsewhere: gradio's own themes name fonts, which this one does not.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from gradio.themes import Base, Color
from gradio.themes.utils.sizes import radius_md, spacing_md, text_md

from lineage_plugin.report import html_report

__all__ = ["launch_options", "static"]

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
_LETTERS = ("ui-monospace", "Menlo", "Consolas", "Liberation Mono", "monospace")
_BLUE = Color(
    "#eef4fb",
    "#d9e7f7",
    "#b7d2f0",
    "#8cc0f7",
    "#78b4f5",
    "#2f74c0",
    "#1a56a0",
    "#174b8c",
    "#133d72",
    "#0f2f58",
    "#0b2342",
)
_GREY = Color(
    "#f7f8fa",
    "#f4f6f9",
    "#d5dae2",
    "#c3cad4",
    "#a9b4c3",
    "#66707f",
    "#525c6b",
    "#3b4554",
    "#1b222c",
    "#14191f",
    "#0f1317",
)


def static(name: str) -> str:
    """Return a file of ``web/static``."""
    return resources.files(__package__).joinpath("static").joinpath(name).read_text(encoding="utf-8")


def launch_options() -> dict[str, Any]:
    """Return what ``Blocks.launch`` takes about the looks of the pages."""
    styles = f"{static('app.css')}{html_report.sheet()}"
    # In the head instead of in ``css``, whose every selector gradio rewrites.
    return {
        "theme": _theme(),
        "head": f"<style>\n{styles}</style>\n<script>\n{static('app.js')}</script>\n",
        "footer_links": [],
    }


def _theme() -> Base:
    theme = Base(
        primary_hue=_BLUE,
        secondary_hue=_BLUE,
        neutral_hue=_GREY,
        spacing_size=spacing_md,
        radius_size=radius_md,
        text_size=text_md,
        font=_FONTS,
        font_mono=_LETTERS,
    )
    both = {
        "body_background_fill": ("#ffffff", "#14191f"),
        "body_text_color": ("#1d2430", "#e7ebf1"),
        "body_text_color_subdued": ("#525c6b", "#a9b4c3"),
        "background_fill_primary": ("#ffffff", "#14191f"),
        "background_fill_secondary": ("#f4f6f9", "#1b222c"),
        "block_background_fill": ("#ffffff", "#14191f"),
        "block_border_color": ("#d5dae2", "#3b4554"),
        "border_color_primary": ("#d5dae2", "#3b4554"),
        "block_label_text_color": ("#1d2430", "#e7ebf1"),
        "block_title_text_color": ("#1d2430", "#e7ebf1"),
        "block_info_text_color": ("#525c6b", "#a9b4c3"),
        "input_background_fill": ("#ffffff", "#10151a"),
        "input_background_fill_focus": ("#ffffff", "#10151a"),
        # 3 to 1 against the page, so that a field is seen as one.
        "input_border_color": ("#7b8492", "#7f8b9b"),
        "input_border_color_focus": ("#1a56a0", "#8cc0f7"),
        "input_placeholder_color": ("#66707f", "#98a3b3"),
        "button_primary_background_fill": ("#1a56a0", "#8cc0f7"),
        "button_primary_background_fill_hover": ("#174b8c", "#b7d2f0"),
        "button_primary_text_color": ("#ffffff", "#10151a"),
        "button_primary_text_color_hover": ("#ffffff", "#10151a"),
        "button_secondary_background_fill": ("#f4f6f9", "#1b222c"),
        "button_secondary_background_fill_hover": ("#e6e9ee", "#2f3947"),
        "button_secondary_text_color": ("#1d2430", "#e7ebf1"),
        "button_secondary_border_color": ("#c3cad4", "#3b4554"),
        "color_accent": ("#1a56a0", None),
        "color_accent_soft": ("#eef4fb", "#1b222c"),
        "link_text_color": ("#1a56a0", "#8cc0f7"),
        "accordion_text_color": ("#1d2430", "#e7ebf1"),
    }
    values = {
        "input_border_width": "1px",
        "button_border_width": "1px",
        "block_border_width": "0px",
        "block_padding": "0.25rem 0",
    }
    for name, (light, dark) in both.items():
        values[name] = light
        if dark is not None:
            values[f"{name}_dark"] = dark
    return theme.set(**values)
