"""The worker process by itself: what it writes, when it ends, and what it knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lineage_plugin.web.jobs import Answer, Failed, Job, Update
from lineage_plugin.web.process import bare_environment
from lineage_plugin.web.settings import Settings
from lineage_plugin.web.wire import READY, message_of, question_line, read_message, read_question

EXAMPLES = Path(__file__).parents[2] / "examples"
SETTINGS = Settings(models={f"examples:{name}": EXAMPLES / name for name in ("base", "honest")})
JOB = Job("compare", ("examples:honest", "examples:base"))
_NOISY = """
import os, sys
import lineage_plugin.api as api
from lineage_plugin.web import worker
compare = api.compare
def noisy(*arguments, **named):
    print("a library prints"), sys.__stdout__.write("and so"), os.write(1, b"and below"), os.system("echo and beside")
    return compare(*arguments, **named)
api.compare = noisy
worker.main()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def make(*command: str) -> subprocess.Popen[bytes]:
        arguments = command or ("-m", "lineage_plugin.web.worker")
        pipe = subprocess.PIPE
        environment = bare_environment(os.environ)
        process = subprocess.Popen([sys.executable, *arguments], stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        started.append(process)
        return process

    yield make
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_nothing_but_messages_is_written_whatever_prints(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = start("-c", _NOISY)
    written, errors = _until_answered(process, question_line(JOB, SETTINGS, None))
    lines = written.splitlines(keepends=True)
    assert lines[0] == READY
    said = [read_message(line, JOB) for line in lines[1:]]
    assert all(isinstance(one, Update) for one in said[:-1])
    assert isinstance(said[-1], Answer)
    assert b"a library prints" in errors and b"and below" in errors and b"and beside" in errors


def _until_answered(process: subprocess.Popen[bytes], question: bytes) -> tuple[bytes, bytes]:
    """Ask and end the input after the answer."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(question)
    process.stdin.flush()
    written = b""
    while b'"answer"' not in written and b'"failed"' not in written:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        written += line
    process.stdin.close()
    assert process.wait(20) == 0
    return written, process.stderr.read()


def test_it_ends_with_its_input_whatever_it_is_doing(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    busy = "import lineage_plugin.api as api\nfrom lineage_plugin.web import worker\n"
    busy += "def endless(*a, **b):\n    while True: pass\napi.compare = endless\nworker.main()\n"
    process = start("-c", busy)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(question_line(JOB, SETTINGS, None))
    process.stdin.flush()
    assert process.stdout.readline() == READY
    assert b"update" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(20) == 0


def test_memory_is_limited(start: Callable[..., subprocess.Popen[bytes]]) -> None:
    greedy = "import lineage_plugin.api as api\nfrom lineage_plugin.web import worker\n"
    greedy += "api.compare = lambda *a, **b: [bytearray(1 << 20) for _ in range(4096)]\nworker.main()\n"
    settings = Settings(models=SETTINGS.models, memory=512 << 20)
    written, _ = _until_answered(start("-c", greedy), question_line(JOB, settings, None))
    said = read_message(written.splitlines(keepends=True)[-1], JOB)
    assert isinstance(said, Failed)
    assert said.why == "limit"


def test_a_question_crosses_without_loss_and_says_no_more_than_needed() -> None:
    settings = Settings(
        models={**SETTINGS.models, "other:one": Path("/other")}, token="hf_theServersOwn", on_space=True
    )
    line = question_line(JOB, settings, "hf_theVisitors")
    assert b"hf_theServersOwn" not in line and b"/other" not in line
    job, crossed, token = read_question(line)
    assert (job, token) == (JOB, "hf_theVisitors")
    assert crossed.models == SETTINGS.models
    assert (crossed.bytes, crossed.memory, crossed.on_space) == (settings.bytes, settings.memory, True)
    assert crossed.token is None


def test_what_a_worker_says_is_held_against_what_it_may_say() -> None:
    update = Update("reading layers", 1, 4, 5_000_000, 12, 400, 390, 0.0, 0)
    assert read_message(message_of(update), JOB) == update
    failed = read_message(message_of(Failed("missing", "There is none.")), JOB)
    assert isinstance(failed, Failed) and (failed.why, failed.message) == ("missing", "There is none.")
    for value in (
        *(1, None, [], "update", {}, {"update": 1}, {"update": {}}, {"update": {"stage": 1}}, {"answer": {}}),
        {"update": {"stage": "x" * 1000}},
        {"update": {"stage": "x", "bytes_read": -1}},
        {"update": {"stage": "x", "bytes_read": "1"}},
        {"update": {"stage": "x", "other": 1}},
        {"answer": {}, "kept": False},
        {"failed": "odd", "message": "x"},
        {"failed": "missing", "message": 1},
        {"failed": [], "message": "x"},
    ):
        with pytest.raises(ValueError, match=r"\S"):
            read_message(json.dumps(value).encode(), JOB)
    for line in (b"", b"garbage", b"\xff", b"[" * 100_000):
        with pytest.raises(ValueError, match=r"\S"):
            read_message(line, JOB)


def test_the_environment_of_a_worker_holds_no_secret() -> None:
    secrets = dict.fromkeys(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WEBHOOK_SECRET", "OAUTH_CLIENT_SECRET"), "x")
    secrets |= dict.fromkeys(("HF_TOKEN_PATH", "AWS_SECRET_ACCESS_KEY", "openai_api_key", "DB_PASSWORD"), "x")
    secrets |= {"ODD": "Bearer hf_abcdefghijkl", "DATABASE": "postgres://me:word@host/db"}
    harmless = {"PATH": "/bin", "HOME": "/home/me", "HF_HOME": "/cache", "https_proxy": "http://me:word@proxy:3128"}
    bare = bare_environment({**secrets, **harmless})
    assert not secrets.keys() & bare.keys()
    assert harmless.items() <= bare.items()
    assert bare["HF_HUB_DISABLE_IMPLICIT_TOKEN"] == "1"
