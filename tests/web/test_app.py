"""How the pages are built: what is public, what needs a sign-in, what is fetched from elsewhere (nothing)."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from lineage_plugin.web.app import build, launch_options
from lineage_plugin.web.desk import Desk
from lineage_plugin.web.settings import Settings

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


@pytest.fixture(scope="module")
def desk() -> Any:
    """No desk, since nothing is asked here."""
    return None


@pytest.fixture(scope="module")
def plain(desk: Desk) -> gr.Blocks:
    """The pages without a choice."""
    return build(Settings(), desk)


def functions(ui: gr.Blocks) -> list[Any]:
    return [one for one in ui.fns.values() if one.fn is not None]


def test_only_the_endpoints_are_public(plain: gr.Blocks) -> None:
    public = {one.api_name for one in functions(plain) if one.api_visibility == "public"}
    assert public == {"compare", "check", "tree"}
    assert len(functions(plain)) > 10


def test_no_event_waits_for_another_visitor(plain: gr.Blocks) -> None:
    assert {one.concurrency_limit for one in functions(plain)} == {None}


def test_the_registry_has_a_tab_only_where_there_is_one(plain: gr.Blocks, desk: Desk) -> None:
    def tabs(ui: gr.Blocks) -> list[str]:
        return [one.label for one in ui.blocks.values() if isinstance(one, gr.Tab)]

    assert tabs(plain) == ["Compare", "Check a card", "Family tree"]
    assert tabs(build(Settings(registry="somewhere"), desk)) == [
        "Compare",
        "Check a card",
        "Who is the parent?",
        "Family tree",
    ]


def test_tokens_are_asked_for_on_a_space_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(settings: Settings) -> tuple[bool, bool]:
        ui = build(settings, desk)
        signed = any("signed_in" in inspect.signature(one.fn).parameters for one in functions(ui))
        return signed, any(isinstance(one, gr.LoginButton) for one in ui.blocks.values())

    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    assert asked(Settings()) == (False, False)
    monkeypatch.setenv("SPACE_ID", "owner/name")
    monkeypatch.setenv("SYSTEM", "spaces")
    for name in ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH_SCOPES", "OPENID_PROVIDER_URL"):
        monkeypatch.setattr(f"gradio.oauth.{name}", "x")  # read when gradio is imported
    assert asked(Settings(on_space=True)) == (True, True)


def test_examples_are_those_that_the_server_has(desk: Desk) -> None:
    def buttons(*names: str) -> set[str]:
        settings = Settings(models={f"examples:{name}": EXAMPLES / name for name in names})
        return {str(one.value) for one in build(settings, desk).blocks.values() if isinstance(one, gr.Button)}

    examples = {"a fine-tune", "not what it says", "same random start", "an honest card", "a card that is wrong"}
    assert not buttons() & examples
    assert buttons("base", "honest") & examples == {"a fine-tune", "an honest card"}
    assert buttons("base", "honest", "liar", "twin") >= examples


def test_nothing_comes_from_elsewhere() -> None:
    options = launch_options()
    theme = options["theme"]
    assert not theme._stylesheets
    assert not re.search(r"url\(|@import|https?://(?!huggingface\.co\")", options["head"])
