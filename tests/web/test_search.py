"""Names while somebody types, and the bases that a card declares, on the local Hub."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from lineage_plugin.checkpoint.transport import client_errors
from lineage_plugin.web import search as search_module
from lineage_plugin.web.jobs import Failed
from lineage_plugin.web.search import Search, declared_bases
from lineage_plugin.web.settings import Settings
from tests.hub import TOKEN, LocalHub
from tests.web.served import silent

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"


def card(hub: LocalHub, name: str, text: str) -> None:
    (hub.create(name) / "README.md").write_text(text)


def test_names_are_offered_and_kept(hub: LocalHub) -> None:
    for name in ("zoo/atlas", "zoo/atlas-docs", "zoo/draco"):
        card(hub, name, "# x\n")
    now = 0.0
    search = Search(Settings(endpoint=hub.endpoint, models={"examples:atlas": EXAMPLES}), clock=lambda: now)
    assert asyncio.run(search("ATLAS ", "me")) == ("examples:atlas", "zoo/atlas", "zoo/atlas-docs")
    hub.stop()
    assert asyncio.run(search("atlas", "me")) == ("examples:atlas", "zoo/atlas", "zoo/atlas-docs")  # without the Hub
    now = 3600.0
    assert asyncio.run(search("atlas", "me")) == ("examples:atlas",)  # a Hub that is away is no failure


@pytest.mark.parametrize("typed", ["", "zo", "https://huggingface.co/zoo/atlas"])
def test_the_hub_is_not_asked_for_what_finds_nothing(hub: LocalHub, typed: str) -> None:
    card(hub, "zoo/atlas", "# x\n")
    assert asyncio.run(Search(Settings(endpoint=hub.endpoint))(typed, "me")) == ()
    assert not list(hub.log)


def test_declared_bases(hub: LocalHub) -> None:
    settings = Settings(
        endpoint=hub.endpoint, models={f"examples:{name}": EXAMPLES / name for name in ("base", "honest")}
    )
    card(hub, "zoo/one", "---\nbase_model: zoo/atlas\n---\n")
    card(hub, "zoo/two", '---\nbase_model: [zoo/atlas, "<script>alert(1)</script>", /etc/passwd, zoo/draco]\n---\n')
    card(hub, "zoo/none", "# x\n")
    assert declared_bases("zoo/one", "", settings) == ["zoo/atlas"]
    assert declared_bases(f"zoo/one@{hub.commit_id('zoo/one')}", "", settings) == ["zoo/atlas"]
    assert declared_bases("zoo/two", "main", settings) == ["zoo/atlas", "zoo/draco"]
    assert declared_bases("zoo/none", "", settings) == []
    assert declared_bases("examples:honest", "", settings) == ["examples:base"]


def test_what_has_no_card_is_said_in_words(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    card(hub, "zoo/mine", "---\nbase_model: zoo/atlas\n---\n")
    hub.faults.private.add("zoo/mine")
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # that of whoever runs the server
    settings = Settings(endpoint=hub.endpoint)
    for typed, why in (("zoo/nothing", "missing"), ("zoo/mine", "missing"), ("/etc/passwd", "usage"), ("", "usage")):
        with pytest.raises(Failed) as failed:
            declared_bases(typed, "", settings)
        assert failed.value.why == why
    assert declared_bases("zoo/mine", "", settings, TOKEN) == ["zoo/atlas"]
    hub.stop()
    with pytest.raises(Failed) as failed:
        declared_bases("zoo/one", "", settings)
    assert failed.value.why == "unreachable"


def test_offline_the_hub_is_not_asked(hub: LocalHub) -> None:
    card(hub, "zoo/atlas", "---\nbase_model: zoo/draco\n---\n")
    models = {f"examples:{name}": EXAMPLES / name for name in ("base", "honest")}
    settings = Settings(endpoint=hub.endpoint, offline=True, models=models)
    assert asyncio.run(Search(settings)("atlas", "me")) == ()
    assert asyncio.run(Search(settings)("honest", "me")) == ("examples:honest",)
    assert declared_bases("examples:honest", "", settings) == ["examples:base"]
    with pytest.raises(Failed, match="does not ask the Hub"):
        declared_bases("zoo/atlas", "", settings)
    assert not list(hub.log)


def test_a_hub_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "PATIENCE", 0.2)
    with silent() as endpoint, pytest.raises(Failed) as failed:
        declared_bases("zoo/atlas", "", Settings(endpoint=endpoint))
    assert failed.value.why == "unreachable"


def test_the_http_library_may_have_another_name(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    card(hub, "zoo/one", "---\nbase_model: zoo/atlas\n---\n")
    declared_bases("zoo/one", "", Settings(endpoint=hub.endpoint))
    client_errors()
    for name in ("httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, name, None)
    assert declared_bases("zoo/one", "", Settings(endpoint=hub.endpoint)) == ["zoo/atlas"]
