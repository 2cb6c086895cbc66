"""The pages: a tab for each question, what the answers mean, what is kept and sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import jinja2

from lineage_plugin._links import DOCS, HOME
from lineage_plugin._version import __version__
from lineage_plugin.web import endpoints, share
from lineage_plugin.web.asking import Asking
from lineage_plugin.web.jobs import Kind
from lineage_plugin.web.look import launch_options, static
from lineage_plugin.web.oauth import may_sign_in
from lineage_plugin.web.search import Search
from lineage_plugin.web.settings import Settings
from lineage_plugin.web.tabs import PRIVATE, TITLES, Form, Parts, form, link_value

if TYPE_CHECKING:
    from lineage_plugin.web.desk import Desk
    from lineage_plugin.web.guard import Listeners

__all__ = ["build", "launch_options"]

_HOUR = 3600
"""Seconds; nothing of these pages makes files, but gradio may."""


def build(settings: Settings, desk: Desk, listeners: Listeners | None = None) -> gr.Blocks:
    """Build the pages and the endpoints; they are served by ``launch(**launch_options())``.

    Args:
        settings: Choices of the server.
        desk: Where questions are answered.
        listeners: Which pages listen, where somebody knows.
    """
    parts = Parts(Asking(desk, settings, listeners), Search(settings), settings)
    kinds: list[Kind] = ["compare", "check", *(["scan"] if settings.registry else []), "tree"]  # type: ignore[list-item]
    ui: gr.Blocks
    title = "Lineage: where does a model come from?"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(_HOUR, _HOUR)) as ui:
        gr.HTML(static("head.html"), apply_default_css=False)
        if may_sign_in(settings):
            with gr.Row(elem_classes="lineage-buttons"):
                gr.LoginButton("Sign in to ask about gated models", size="sm", variant="secondary", min_width=200)
        forms = []
        with gr.Tabs() as tabs:
            for kind in kinds:
                with gr.Tab(TITLES[kind], id=kind):
                    forms.append(form(kind, parts))
        with gr.Accordion("How to read the answer", open=False, elem_classes="lineage-fold"):
            gr.HTML(_written("reading.html", docs=DOCS), apply_default_css=False)
        gr.HTML(
            _written("foot.html", docs=DOCS, home=HOME, version=__version__, on_space=may_sign_in(settings)),
            apply_default_css=False,
        )
        fields = [field for one in forms for field in one.fields]
        ui.load(_by_link(forms), None, [tabs, *fields, *(one.by_link for one in forms)], **PRIVATE)
        endpoints.add(desk, settings)
    return ui


def _by_link(forms: Sequence[Form]) -> Callable[..., Any]:
    """Return the function that fills the form in that the address of the page asks for."""

    def filled(request: gr.Request) -> list[Any]:
        asked = share.read_query(dict(request.query_params))
        chosen = next((one for one in forms if asked is not None and one.kind == asked.kind), None)
        if asked is None or chosen is None:
            return [gr.skip()] * (1 + sum(len(one.fields) + 1 for one in forms))
        texts = asked.texts if asked.kind != "tree" else ("\n".join(asked.texts),)
        values = [texts[number] if one is chosen else gr.skip() for one in forms for number in range(len(one.fields))]
        whole = all(asked.texts)
        starts = [link_value(asked.texts) if one is chosen and whole else gr.skip() for one in forms]
        return [gr.Tabs(selected=chosen.kind), *values, *starts]

    return filled


def _written(name: str, **values: object) -> str:
    page = jinja2.Template(static(name), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return str(page.render(values))
