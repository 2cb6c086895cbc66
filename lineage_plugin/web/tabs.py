"""The forms: one a question, each with its fields, its buttons and the place of its answer."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components.textbox import InputHTMLAttributes

from lineage_plugin.web import answer_page
from lineage_plugin.web.asking import Asking
from lineage_plugin.web.counts import MOST_MODELS
from lineage_plugin.web.endpoints import visitor_of
from lineage_plugin.web.jobs import Kind
from lineage_plugin.web.search import Search
from lineage_plugin.web.settings import Settings

__all__ = ["PRIVATE", "TITLES", "Form", "Parts", "form", "link_value"]

TITLES: dict[Kind, str] = {
    "compare": "Compare",
    "check": "Check a card",
    "scan": "Who is the parent?",
    "tree": "Family tree",
}
PRIVATE: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
"""Of every event of the pages: no endpoint of the API, and as many at once as there are visitors; the desk limits."""

_INTROS: dict[Kind, str] = {
    "compare": "Do the weights of two models show that one comes from the other?",
    "check": "Is everything true that a model card says about where the model comes from?",
    "scan": "Which known model do the weights come from? The registry of this server is asked.",
    "tree": "Which of several models share what they learned? Two to eight of them, each read once.",
}
_EXAMPLES: dict[Kind, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "compare": (
        ("a fine-tune", ("honest", "base")),
        ("not what it says", ("liar", "base")),
        ("same random start", ("twin", "base")),
    ),
    "check": (("an honest card", ("honest",)), ("a card that is wrong", ("liar",))),
    "scan": (),
    "tree": (("four small models", ("base", "honest", "liar", "twin")),),
}
_INPUT = InputHTMLAttributes(autocapitalize="off", autocorrect="off", spellcheck=False, enterkeyhint="go")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the forms are made with: who asks, who looks names up, and the choices of the server."""

    asking: Asking
    search: Search
    settings: Settings


@dataclass(frozen=True, slots=True)
class Form:
    """A form that stands on the page.

    Attributes:
        kind: The kind of its question.
        fields: Its fields for models; of the tree one for all.
        by_link: What a link or an example asks, see :func:`link_value`.
    """

    kind: Kind
    fields: tuple[gr.Textbox, ...]
    by_link: gr.State


def form(kind: Kind, parts: Parts) -> Form:
    """Put the form of a question into the tab that is open, and connect it.

    Args:
        kind: The kind of the question.
        parts: What it is made with.
    """
    gr.HTML(f'<p class="lineage-intro">{_INTROS[kind]}</p>', apply_default_css=False)
    with gr.Column(elem_classes="lineage-form"):
        if kind == "compare":
            fields, revisions = _pair(parts)
        elif kind == "tree":
            fields, revisions = (_many(),), ()
        else:
            fields, revisions = _one(kind, parts)
        with gr.Row(elem_classes="lineage-buttons"):
            go = gr.Button("Draw the tree" if kind == "tree" else "Check", variant="primary", min_width=120)
            stop = gr.Button("Cancel", visible=False, min_width=120, elem_id=f"{kind}-cancel")
        by_link = gr.State(())
        _examples(kind, parts.settings, fields, revisions, by_link)
    place = gr.HTML("", elem_id=f"{kind}-place", elem_classes="lineage-place", apply_default_css=False)
    outputs = [place, go, stop]
    named = _listed if kind == "tree" else _paired
    gr.on(
        [go.click, *(one.submit for one in (*fields, *revisions))],
        parts.asking.answering(kind, named),
        [*fields, *revisions],
        outputs,
        **PRIVATE,
    )
    # The question comes along: when this event fires, the browser may not have filled the fields in yet.
    by_link.change(parts.asking.answering_links(kind), by_link, outputs, **PRIVATE)
    stop.click(parts.asking.cancelling(kind), **PRIVATE)
    return Form(kind, fields, by_link)


def _pair(parts: Parts) -> tuple[tuple[gr.Textbox, ...], tuple[gr.Textbox, ...]]:
    with gr.Row():
        with gr.Column(min_width=260):
            suspect = _field("compare-suspect", "Model in question", parts, "owner/name, or the address of its page")
        with gr.Column(min_width=260):
            base = _field("compare-base", "Base that it may come from", parts, "owner/name, or the address of its page")
    with gr.Row(elem_classes="lineage-buttons"):
        declared = gr.Button("Fill in the base that the card declares", size="sm", min_width=60)
        remark = gr.HTML("", apply_default_css=False, elem_classes="lineage-remark")
    choice = gr.Radio([], label="Declared bases", visible=False)
    with gr.Accordion("Revisions", open=False, elem_classes="lineage-fold"), gr.Row():
        revisions = (_revision("Revision of the model"), _revision("Revision of the base"))
    declared.click(parts.asking.declaring(), [suspect, revisions[0]], [base, choice, remark], **PRIVATE)
    choice.input(_same, choice, base, **PRIVATE)
    return (suspect, base), revisions


def _one(kind: Kind, parts: Parts) -> tuple[tuple[gr.Textbox, ...], tuple[gr.Textbox, ...]]:
    model = _field(f"{kind}-model", "Model", parts, "owner/name, or the address of its page")
    with gr.Accordion("Revision", open=False, elem_classes="lineage-fold"):
        revision = _revision("Revision of the model")
    return (model,), (revision,)


def _many() -> gr.Textbox:
    return gr.Textbox(
        label=f"Models, one a line, 2 to {MOST_MODELS}",
        placeholder="owner/name",
        lines=5,
        max_lines=MOST_MODELS,
        elem_id="tree-models",
        html_attributes=_INPUT,
    )


def _field(name: str, label: str, parts: Parts, placeholder: str) -> gr.Textbox:
    """Put a field for a model there, which offers names while somebody types, as browsers do."""
    field = gr.Textbox(
        label=label, placeholder=placeholder, max_lines=1, max_length=400, elem_id=name, html_attributes=_INPUT
    )
    found = gr.HTML(
        answer_page.offers(name, tuple(parts.settings.models)[:8]),
        apply_default_css=False,
        elem_classes="lineage-offers",
    )

    async def offer(request: gr.Request, typed: str | None) -> str:
        return answer_page.offers(name, await parts.search(typed or "", visitor_of(request, parts.settings)))

    field.input(offer, field, found, trigger_mode="always_last", **PRIVATE)
    return field


def _revision(label: str) -> gr.Textbox:
    return gr.Textbox(
        label=label,
        placeholder="branch, tag or commit; empty: main",
        max_lines=1,
        max_length=255,
        html_attributes=_INPUT,
    )


def _examples(
    kind: Kind,
    settings: Settings,
    fields: Sequence[gr.Textbox],
    revisions: Sequence[gr.Textbox],
    by_link: gr.State,
) -> None:
    """Put buttons there that ask about models of the server, which need no network."""
    shown = [(said, _offered(names, settings)) for said, names in _EXAMPLES[kind]]
    if not any(names for _, names in shown):
        return
    with gr.Row(elem_classes="lineage-buttons lineage-examples"):
        gr.HTML("<span>Try:</span>", apply_default_css=False, min_width=0, elem_classes="lineage-try")
        for said, names in shown:
            if names:
                gr.Button(said, size="sm", min_width=60).click(
                    _asks(names, len(revisions)), None, [*fields, *revisions, by_link], **PRIVATE
                )


def _offered(names: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Return the names under which the server offers models of one folder; empty unless it offers them all."""
    found = [[one for one in settings.models if one.rpartition(":")[2] == name] for name in names]
    return tuple(one[0] for one in found) if all(found) else ()


def _asks(names: tuple[str, ...], revisions: int) -> Callable[[], list[Any]]:
    texts = list(names) if revisions else ["\n".join(names)]
    return lambda: [*texts, *([""] * revisions), link_value(names)]


def link_value(texts: Sequence[str]) -> tuple[str, ...]:
    """Return what a form's ``by_link`` is set to so that it asks about models, even if it just did."""
    return (uuid.uuid4().hex, *texts)


def _paired(*texts: str) -> list[tuple[str, str]]:
    half = len(texts) // 2
    return list(zip(texts[:half], texts[half:], strict=True))


def _listed(text: str) -> list[tuple[str, str]]:
    return [(model, "") for model in re.split(r"[\s,;]+", text) if model]


def _same(value: str | None) -> str:
    return value or ""
