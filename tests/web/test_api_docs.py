"""What docs/api.md and docs/webhook.md tell the reader to type, typed: word for word but for the address."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.web.served import SECRET, Site

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def url(shared_site: Site) -> str:
    return shared_site.url


def blocks(page: str, language: str, url: str) -> list[str]:
    """The code blocks of a page, with the address of the server under test."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.+?)^```", text, flags=re.DOTALL | re.MULTILINE)
    for address in ("http://127.0.0.1:7860", "https://OWNER-NAME.hf.space"):
        found = [block.replace(address, url) for block in found]
    return found


def shell(command: str, **more: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_of_the_api_page_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for code in blocks("api.md", "python", url):
        exec(code, {})
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[-1]] == ["derived", "unrelated"]
    assert lines[1].startswith("fail - ")


def test_the_curl_commands_of_the_api_page_run(url: str) -> None:
    commands = [
        line[2:] for line in "".join(blocks("api.md", "console", url)).splitlines() if line.startswith("$ curl")
    ]
    asking, waiting = commands
    event = json.loads(shell(asking))["event_id"]
    answer = shell(waiting.replace("EVENT_ID", event))
    *_, last = [line for line in answer.splitlines() if line.startswith("data: ")]
    assert json.loads(last.removeprefix("data: "))[0]["comparisons"][0]["relation"] == "derived"


def test_the_configurations_of_the_api_page_are_json(url: str) -> None:
    found = [json.loads(block) for block in blocks("api.md", "json", url)]
    assert len(found) == 3
    assert all(f"{url}/gradio_api/mcp/" in json.dumps(one) for one in found)


def test_the_curl_command_of_the_webhook_page_says_what_it_should(url: str) -> None:
    (block,) = blocks("webhook.md", "console", url)
    command, shown = block.splitlines()
    assert shell(command[2:], WEBHOOK_SECRET=SECRET).strip() == shown == "400"
    assert shell(command[2:], WEBHOOK_SECRET="another").strip() == "403"
