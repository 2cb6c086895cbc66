"""The API, by the real Python client and by plain HTTP, on a really launched server."""

from __future__ import annotations

import asyncio
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.context import LocalContext
from gradio_client import Client
from gradio_client.exceptions import AppError
from starlette.requests import Request

from lineage_plugin.web.endpoints import _is_gone, visitor_of
from lineage_plugin.web.settings import Settings
from tests.hub import TOKEN
from tests.web.served import EXAMPLES, Site, wait


@pytest.fixture(scope="module")
def site(shared_site: Site) -> Site:
    return shared_site


@pytest.fixture(scope="module")
def client(shared_site: Site) -> Client:
    return Client(shared_site.url, verbose=False, analytics_enabled=False)


def test_the_api_says_what_it_takes_and_returns(client: Client) -> None:
    described = client.view_api(print_info=False, return_format="dict")
    assert isinstance(described, dict)
    found = described["named_endpoints"]
    assert set(found) == {"/compare", "/check", "/scan", "/tree"}
    for name, endpoint in found.items():
        assert endpoint["description"].endswith("."), name
        assert "Args" not in endpoint["description"]
        assert [one["python_type"]["type"] for one in endpoint["returns"]] == ["dict(str, Any)"], endpoint["returns"]
        # No parameter takes a token, and none is asked for.
        assert "oauth_token" not in endpoint
    types = {
        name: [(p["parameter_name"], p["python_type"]["type"]) for p in found[name]["parameters"]] for name in found
    }
    assert types == {
        "/compare": [("suspect", "str"), ("base", "str")],
        "/check": [("model", "str")],
        "/scan": [("model", "str")],
        "/tree": [("models", "list[str]")],
    }
    for word in ("derived", "shared-init", "unrelated", "inconclusive", "no probability"):
        assert word in found["/compare"]["description"]


def test_compare_and_check_return_the_report(site: Site, client: Client) -> None:
    derived = client.predict("examples/honest", "examples/base", api_name="/compare")
    assert derived["schema"] == "lineage-report/1"
    assert derived["comparisons"][0]["relation"] == "derived"
    checked = client.predict(model=" https://huggingface.co/examples/liar ", api_name="/check")
    assert checked["verdict"] == "fail"
    assert checked["suspect"]["revision"] == site.hub.commit_id("examples/liar")


def test_tree_returns_the_family(client: Client) -> None:
    family = client.predict(["examples/base", "examples/honest", "examples/liar"], api_name="/tree")
    text = json.dumps(family)
    for name in ("base", "honest", "liar"):
        assert f'"examples/{name}"' in text
    assert family["schema"] == "lineage-tree/1"


def test_plain_http_gets_the_same(site: Site) -> None:
    told = httpx.post(f"{site.url}/gradio_api/call/compare", json={"data": ["examples/liar", "examples/base"]})
    answer = httpx.get(f"{site.url}/gradio_api/call/compare/{told.json()['event_id']}", timeout=60.0)
    kind, data = [line for line in answer.text.splitlines() if line][-2:]
    assert kind == "event: complete"
    (report,) = json.loads(data.removeprefix("data: "))
    assert report["comparisons"][0]["relation"] == "unrelated"


@pytest.mark.parametrize(
    ("endpoint", "arguments", "said"),
    [
        ("/compare", ["", "examples/base"], "No model is named"),
        ("/compare", ["../../etc/passwd", "examples/base"], "is no model of the Hub"),
        ("/compare", ["/etc/passwd", "examples/base"], "is no model of the Hub"),
        ("/compare", ["http://169.254.169.254/latest/x", "examples/base"], "is no address of a model on the Hub"),
        ("/compare", ["examples/honest", "examples/missing"], "examples/missing"),
        ("/compare", [{"path": "/etc/passwd"}, "examples/base"], "Models are named by text"),
        ("/check", ["x" * 5000], "too long"),
        ("/tree", [["examples/base"] * 9], "Name 2 to 8 models, not 9."),
        ("/tree", [["examples/base"]], "Name 2 to 8 models, not 1."),
        ("/tree", ["examples/base"], "Models are named by text"),
        ("/tree", [["examples/base", ["examples/liar"]]], "Models are named by text"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(
    client: Client, capfd: pytest.CaptureFixture[str], endpoint: str, arguments: list[Any], said: str
) -> None:
    with pytest.raises(AppError) as error:
        client.predict(*arguments, api_name=endpoint)
    message = str(error.value.message)
    assert said in message
    assert "\n" not in message
    assert "Traceback" not in message
    assert "Traceback" not in "".join(capfd.readouterr())


def test_whoever_cancels_or_goes_away_frees_the_place(site: Site, client: Client) -> None:
    site.hub.latency = 30.0
    try:
        job = client.submit("examples/honest@main", "examples/base", api_name="/compare")
        wait(site.busy)
        job.cancel()
        wait(lambda: not site.busy(), 10)
        told = httpx.post(f"{site.url}/gradio_api/call/compare", json={"data": ["examples/twin", "examples/base"]})
        with httpx.stream("GET", f"{site.url}/gradio_api/call/compare/{told.json()['event_id']}", timeout=30.0):
            wait(site.busy)
        # Sooner than the desk gives up whom it does not see, since this one is looked after.
        wait(lambda: not site.busy(), 14)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{site.url}/gradio_api/run/check", json={"data": ["examples/twin"]}, timeout=0.5)
        wait(lambda: not site.busy(), 14)
    finally:
        site.hub.latency = 0.0


@pytest.mark.parametrize("data", [[], ["examples/honest"], [None], {}])
def test_a_hand_made_event_leaves_no_traceback(site: Site, capfd: pytest.CaptureFixture[str], data: Any) -> None:
    told = httpx.post(f"{site.url}/gradio_api/call/compare", json={"data": data})
    if told.status_code == 200:
        answer = httpx.get(f"{site.url}/gradio_api/call/compare/{told.json()['event_id']}", timeout=60.0)
        assert "event: error" in answer.text
        assert "These values cannot be used" in answer.text
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("queue", [None, object()])
def test_another_gradio_may_keep_its_queue_elsewhere(queue: object) -> None:
    class Blocks:
        _queue = queue

    async def asked() -> bool:
        LocalContext.event_id.set("an event")
        LocalContext.blocks.set(Blocks())  # type: ignore[arg-type]
        return await _is_gone(None)

    assert not asyncio.run(asked())


def test_twenty_at_once_get_each_his_own(site: Site, client: Client) -> None:
    asked = [("honest", "derived"), ("liar", "unrelated"), ("base", "identical"), ("twin", "shared-init")] * 5

    clients = [client, Client(site.url, verbose=False, analytics_enabled=False)]

    def ask(number: int) -> tuple[str, str]:
        name = asked[number][0]
        report = clients[number // 4 % 2].predict(f"examples/{name}", "examples/base", api_name="/compare")
        return report["suspect"]["id"], report["comparisons"][0]["relation"]

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers == [(f"examples/{name}", relation) for name, relation in asked]


def test_a_token_that_a_caller_sends_is_not_taken(site: Site) -> None:
    shutil.copytree(EXAMPLES / "liar", site.hub.root / "acme" / "gated")
    site.hub.faults.gated.add("acme/gated")
    site.hub.log.clear()
    try:
        client = Client(site.url, verbose=False, analytics_enabled=False, oauth_token=TOKEN, token=TOKEN)
        with pytest.raises(AppError) as error:
            client.predict("acme/gated", "examples/base", api_name="/compare")
        assert "gated" in str(error.value)
        told = httpx.post(
            f"{site.url}/gradio_api/call/v2/check", json={"model": "acme/gated", "oauth_token": TOKEN}, timeout=30.0
        )
        answer = httpx.get(f"{site.url}/gradio_api/call/check/{told.json()['event_id']}", timeout=60.0)
        assert "event: error" in answer.text
        assert TOKEN not in answer.text
        assert not any(record.has_authorization for record in site.hub.log.records())
    finally:
        site.hub.faults.gated.clear()


# Who asks ------------------------------------------------------------------------------------------------------------


def request(peer: str, *forwarded: str) -> gr.Request:
    """A request from a peer, with headers of proxies."""
    headers = [(b"x-forwarded-for", one.encode()) for one in forwarded]
    scope = {"type": "http", "client": (peer, 1234), "headers": headers, "path": "/", "query_string": b""}
    return gr.Request(request=Request(scope))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("peer", "forwarded", "visitor"),
    [
        ("10.20.0.1", [], "10.20.0.1"),
        ("10.20.0.1", ["1.2.3.4"], "1.2.3.4"),
        # What a visitor puts in front is not believed: the platform's own hops are private and stand behind.
        ("10.20.0.1", ["9.9.9.9, 8.8.8.8, 1.2.3.4"], "1.2.3.4"),
        ("10.20.0.1", ["9.9.9.9, 1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        ("10.20.0.1", ["9.9.9.9", "1.2.3.4"], "1.2.3.4"),
        ("10.20.0.1", ["junk, 127.0.0.1"], "10.20.0.1"),
        ("10.20.0.1", [", ".join(["9.9.9.9"] * 5000) + ", 1.2.3.4"], "1.2.3.4"),
        ("10.20.0.1", ["2a02:8071:1:2:3:4:5:6"], "2a02:8071:1:2::/64"),
        ("10.20.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
    ],
)
def test_a_visitor_of_a_space_is_whom_its_proxy_saw(peer: str, forwarded: list[str], visitor: str) -> None:
    assert visitor_of(request(peer, *forwarded), Settings(on_space=True)) == visitor


def test_elsewhere_a_visitor_is_the_other_end() -> None:
    assert visitor_of(request("192.168.1.5", "1.2.3.4"), Settings()) == "192.168.1.5"
    assert visitor_of(request("fe80::1", "1.2.3.4"), Settings()) == "fe80::/64"
    assert visitor_of(request("a name"), Settings()) == "unknown"
    assert visitor_of(None, Settings()) == "unknown"
