"""A visitor's own token: whom it is taken from, what it opens, and that it is left nowhere."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import itsdangerous
import pytest
from starlette.requests import Request

from lineage_plugin.web.oauth import may_sign_in, token_of
from lineage_plugin.web.settings import Settings
from tests.hub import TOKEN, LocalHub
from tests.web.served import mounts

ROOT = Path(__file__).parents[2]
CLIENT_SECRET = "the secret of the Space"
SPACE = Settings(on_space=True)
SIGNED_IN = gr.OAuthToken(token=TOKEN, scope="gated-repos", expires_at=0)


def request(**headers: str) -> gr.Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": raw, "path": "/", "query_string": b""}
    return gr.Request(request=Request(scope))  # type: ignore[arg-type]


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("OAUTH_CLIENT_ID", "an id")
    monkeypatch.setenv("SPACE_HOST", "acme-lineage.hf.space,lineage.example")


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin", "origin": "https://acme-lineage.hf.space"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://evil.example"}, False),
        ({"sec_fetch_site": "same-site", "origin": "https://evil-lineage.hf.space"}, False),
        ({"origin": "https://acme-lineage.hf.space"}, True),
        ({"origin": "https://lineage.example"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "https://acme-lineage.hf.space.evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://own.example", "host": "own.example"}, True),
    ],
)
def test_a_token_is_taken_from_our_own_pages_only(headers: dict[str, str], taken: bool) -> None:
    assert token_of(SIGNED_IN, request(**headers), SPACE) == (TOKEN if taken else None)


@pytest.mark.usefixtures("space")
def test_without_signing_in_there_is_none() -> None:
    assert token_of(None, request(), SPACE) is None
    assert token_of(gr.OAuthToken(token="", scope="", expires_at=0), request(), SPACE) is None
    assert token_of(SIGNED_IN, None, SPACE) is None


def test_off_a_space_nobody_signs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "an id")
    assert not may_sign_in(SPACE)
    monkeypatch.setenv("SYSTEM", "spaces")
    assert may_sign_in(SPACE)
    assert token_of(SIGNED_IN, request(), Settings()) is None


class Form:
    """The running form."""

    def __init__(self, process: subprocess.Popen[str], hub: LocalHub, url: str, cache: Path) -> None:
        self.process, self.hub, self.url, self.cache = process, hub, url, cache

    def verdict(self, model: str, **headers: str) -> str:
        """Fill in the form and return all that comes back, with the headers."""
        with httpx.Client(base_url=self.url, headers=headers, timeout=60.0) as client:
            told = client.post("/gradio_api/call/verdict", json={"data": [model]})
            answer = client.get(f"/gradio_api/call/verdict/{told.json()['event_id']}")
        return f"{told.headers}{told.text}{answer.headers}{answer.text}"


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Form]:
    root, cache = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("cache")
    with LocalHub(root, mounts=mounts()) as hub:
        oauth = {
            "SYSTEM": "spaces",
            "SPACE_ID": "acme/lineage",
            "OAUTH_CLIENT_ID": "an id",
            "OAUTH_CLIENT_SECRET": CLIENT_SECRET,
            "OAUTH_SCOPES": "openid profile gated-repos",
            "OPENID_PROVIDER_URL": hub.endpoint,
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        command = [sys.executable, "-m", "tests.web.signing_in", hub.endpoint, str(cache)]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **oauth},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = next((line.split()[1] for line in lines if line.startswith("ready ")), "")
            assert url, "it did not start"
            try:
                yield Form(process, hub, url, cache)
            finally:
                process.kill()
        assert hub.errors == []


def cookie(token: str, **more: object) -> str:
    """The cookie that gradio gives a visitor who has signed in."""
    profile = {"sub": "1", "name": "V", "preferred_username": "v", "profile": "https://x", "picture": "https://x"}
    info = {
        "access_token": token,
        "scope": "gated-repos",
        "expires_at": time.time() + 3600,
        "userinfo": profile,
        **more,
    }
    key = hashlib.sha256(f"{CLIENT_SECRET}-v4".encode()).hexdigest()
    data = base64.b64encode(json.dumps({"oauth_info": info}).encode())
    return f"session={itsdangerous.TimestampSigner(key).sign(data).decode()}"


def test_the_token_reads_for_one_question_and_is_left_nowhere(form: Form) -> None:
    form.hub.faults.gated.add("examples/liar")
    anonymous = form.verdict("examples/liar")
    assert "denied: " in anonymous
    signed_in = form.verdict("examples/liar", cookie=cookie(TOKEN))
    assert '["fail"]' in signed_in
    assert any(record.has_authorization for record in form.hub.log.records())
    # The next visitor gets nothing of it, and neither does another site in the same browser, nor an old cookie.
    assert form.verdict("examples/liar").partition("event: ")[2] == anonymous.partition("event: ")[2]
    elsewhere = form.verdict("examples/liar", cookie=cookie(TOKEN), **{"sec-fetch-site": "cross-site"})
    assert "denied: " in elsewhere
    assert "denied: " in form.verdict("examples/liar", cookie=cookie(TOKEN, expires_at=1))
    assert '["pass"]' in form.verdict("examples/honest")
    assert form.process.stdin is not None
    assert form.process.stdout is not None
    form.process.stdin.close()
    written = form.process.stdout.read()
    kept = b"".join(path.read_bytes() for path in form.cache.rglob("*") if path.is_file())
    assert kept  # of the question without a token
    assert b"examples/liar" not in kept
    for place in (anonymous, signed_in, elsewhere, written, kept.decode("latin-1")):
        assert TOKEN not in place
    assert "Traceback" not in written
