"""The Space as it is pushed: the folder that ``scripts/space`` puts together, run by itself."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx2
import psutil
import pytest
import yaml
from gradio_client import Client

from tests.hub import LocalHub

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
SECRET = "the secret of the webhook"


def front_matter() -> dict[str, object]:
    text = (ROOT / "space" / "README.md").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text.split("---")[1]))


def requirement(line: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9_-]+)(?:\[[^\]]*\])?(.*)", line)
    assert match is not None, line
    return match[1].lower().replace("-", "_"), match[2]


def test_the_requirements_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["registry"], *extras["space"]]
    lines = (ROOT / "space" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    given = dict(requirement(line) for line in lines if line and not line.startswith("#"))
    # gradio comes with the version that the front matter names.
    assert given == {name: bound for name, bound in map(requirement, wanted) if name != "gradio"}


def test_the_front_matter_is_what_the_hub_asks_for() -> None:
    said = front_matter()
    assert (said["sdk"], said["app_file"], said["hf_oauth"]) == ("gradio", "app.py", True)
    assert said["hf_oauth_scopes"] == ["gated-repos"], "no more than the pages need"
    assert len(str(said["short_description"])) <= 60
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {said["colorFrom"], said["colorTo"]} <= colours
    tested = version("gradio").split(".")[:2]
    assert str(said["sdk_version"]).split(".")[:2] == tested, "the version that the tests run with"


@dataclass(frozen=True)
class Running:
    """A server that was started."""

    address: str
    process: subprocess.Popen[str]
    hub: LocalHub


@contextlib.contextmanager
def started(command: list[str], folder: Path, hub: LocalHub, **environment: str) -> Iterator[Running]:
    """Start a server of the pages on a free port and wait until it answers."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("GRADIO_", "SPACE_", "LINEAGE_S"))
    }
    environment = {**clean, "HF_ENDPOINT": hub.endpoint, "LINEAGE_CACHE": str(folder / "cache"), **environment}
    output = folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file, text=True)
    try:
        for _ in range(600):
            match = re.search(r"http://[\d.]+:\d+", output.read_text())
            if match is not None:
                with contextlib.suppress(httpx2.HTTPError):
                    if httpx2.get(match[0]).status_code == 200:
                        break
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        else:
            pytest.fail(f"no answer in a minute: {output.read_text()}")
        yield Running(match[0], process, hub)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def ended(running: Running, number: signal.Signals) -> int:
    """End a server by a signal; nothing that it started may be left."""
    family = psutil.Process(running.process.pid).children(recursive=True)
    assert family, "answers are worked out in processes of their own"
    running.process.send_signal(number)
    code = running.process.wait(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    return code


def guarded(address: str) -> None:
    """A server that asks with its user's token answers to this machine's own pages only, and stores nothing."""
    port = address.rpartition(":")[2]
    call = f"{address}/gradio_api/call/compare"
    question = {"data": ["examples/twin", "examples:base"]}
    ours = {"origin": f"http://localhost:{port}", "host": f"localhost:{port}"}
    assert httpx2.post(call, json=question, headers=ours).status_code == 200
    for foreign in (
        {"host": f"evil.example:{port}"},
        {"host": f"evil.example:{port}", "origin": f"http://evil.example:{port}"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:3000", "host": f"localhost:{port}"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": f"127.0.0.1.evil.example:{port}"},
    ):
        assert httpx2.post(call, json=question, headers=foreign).status_code == 403, foreign
    assert httpx2.post(f"{address}/gradio_api/upload", files={"files": b"x"}).status_code == 404
    assert httpx2.get(f"{address}/gradio_api/file=/etc/passwd").status_code == 404
    assert httpx2.get(f"{address}/gradio_api/dev/reload").status_code == 404
    file = {"path": "http://evil.example/x", "url": "http://evil.example/x", "meta": {"_type": "gradio.FileData"}}
    for body in ({"data": [file, "a/b"]}, {"data": [[["a/b"], [file]]]}, {"suspect": file, "base": "a/b"}):
        assert httpx2.post(call, json=body).status_code == 400, body
    assert httpx2.post(call, content=b" " * (65 << 10)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b" " * (1 << 16)

    with contextlib.suppress(httpx2.HTTPError):
        assert httpx2.post(call, content=endless()).status_code >= 400


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    root = tmp_path_factory.mktemp("hub")
    shutil.copytree(ROOT / "examples", root / "examples")
    with LocalHub(root) as hub:
        hub.faults.gated.add("examples/twin")
        yield hub


def test_what_is_pushed_runs_by_itself(served: LocalHub, tmp_path: Path) -> None:
    folder = tmp_path / "space"
    for _ in range(2):  # a second time brings an older one up to date
        subprocess.run([ROOT / "scripts" / "space", folder], check=True, capture_output=True)
    secrets = {
        "SPACE_ID": "acme/lineage",
        "SYSTEM": "spaces",
        "WEBHOOK_SECRET": SECRET,
        "HF_TOKEN": "hf_localHubOwner",
        "OAUTH_CLIENT_ID": "id",
        "OAUTH_CLIENT_SECRET": "secret",
        "OAUTH_SCOPES": "openid profile gated-repos",
        "OPENID_PROVIDER_URL": served.endpoint,
        "GRADIO_SERVER_NAME": "127.0.0.1",
    }
    with started([sys.executable, "app.py"], folder, served, **secrets) as running:
        client = Client(running.address, verbose=False)
        report = client.predict("examples/honest", "examples/base", api_name="/compare")
        assert report["comparisons"][0]["relation"] == "derived"
        offline = client.predict("examples:liar", "examples:base", api_name="/compare")
        assert offline["comparisons"][0]["relation"] == "unrelated"
        assert str(folder) not in str(offline), "where things lie on the server is nobody's business"
        with pytest.raises(Exception, match="gated"):
            # The Space's own token may read it; its visitors may not.
            client.predict("examples/twin", "examples/base", api_name="/compare")
        hook = f"{running.address}/webhooks/lineage"
        assert httpx2.post(hook, json={}, headers={"x-webhook-secret": "wrong"}).status_code == 403
        assert httpx2.post(f"{running.address}/gradio_api/upload", files={"files": b"x"}).status_code == 404
        as_proxied = httpx2.get(running.address, headers={"host": "acme-lineage.hf.space"})
        assert as_proxied.status_code == 200
        assert "https://huggingface.co" in as_proxied.headers["content-security-policy"], "the Hub shows it in a frame"
        assert ended(running, signal.SIGTERM) == 0
    said = (folder / "output.txt").read_text()
    assert "hf_localHubOwner" not in said
    assert SECRET not in said


def test_serve_reads_with_the_users_token_and_ends_by_ctrl_c(served: LocalHub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lineage_plugin", "serve", "--models", str(ROOT / "examples")]
    with started(command, tmp_path, served, HF_TOKEN="hf_localHubOwner", PYTHONPATH=str(ROOT)) as running:
        client = Client(running.address, verbose=False)
        report = client.predict("examples/twin", "examples:base", api_name="/compare")
        assert report["comparisons"][0]["relation"] == "shared-init"
        assert httpx2.post(f"{running.address}/webhooks/lineage", json={}).status_code in (404, 405)
        guarded(running.address)
        assert ended(running, signal.SIGINT) == 0
