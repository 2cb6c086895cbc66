"""The webhook, by a real HTTP client against a really launched server, and what it writes on the local Hub."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from huggingface_hub import HfApi

from lineage_plugin.errors import HubUnreachable, UsageError
from lineage_plugin.judge.types import Report
from lineage_plugin.web import bot as bots
from lineage_plugin.web import discussion
from lineage_plugin.web.bot import PATH, Bot, Event, attach
from lineage_plugin.web.jobs import Job
from lineage_plugin.web.settings import Settings
from tests.hub import OUTSIDER, TOKEN
from tests.web import served
from tests.web.served import EXAMPLES, SECRET, silent, wait


class Site(served.Site):
    """The server under test, as the Hub and its users see it."""

    @property
    def owner(self) -> HfApi:
        """The owner of the models."""
        return HfApi(endpoint=self.hub.endpoint, token=TOKEN)

    def post(self, body: Any, secret: str | None = SECRET) -> httpx.Response:
        """Post an event, or raw bytes, as the Hub does."""
        headers = {"Content-Type": "application/json"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = {**headers, **({} if secret is None else {"X-Webhook-Secret": secret.encode()})}
        return httpx.post(self.url + PATH, content=content, headers=raw, timeout=30.0)  # type: ignore[arg-type]

    def model(self, name: str, example: str) -> str:
        """Put an example on the Hub as ``acme/name``."""
        shutil.copytree(EXAMPLES / example, self.hub.root / "acme" / name)
        return f"acme/{name}"

    def comments(self, repo: str) -> list[list[str]]:
        """The comments of every discussion of a repository."""
        return [thread.comments() for thread in self.hub.discussions.of(repo)]


@pytest.fixture
def site(shared_site: served.Site) -> Site:
    return Site(shared_site.hub, shared_site.desk, shared_site.settings, shared_site.url)


def event(repo: str, commit: str | None = None, **changes: Any) -> dict[str, Any]:
    """An event as the Hub sends it (https://huggingface.co/docs/hub/webhooks), of a push to main."""
    found: dict[str, Any] = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": "model",
            "name": repo,
            "id": "6366c000a2abcdf2fd69a080",
            "private": False,
            "url": {"web": f"https://huggingface.co/{repo}", "api": f"https://huggingface.co/api/models/{repo}"},
            "headSha": commit or "0" * 40,
            "tags": [],
            "owner": {"id": "61d2000c3c2083e1c08af22d"},
        },
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "1" * 40, "newSha": commit or "0" * 40}],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3},
    }
    for place, value in changes.items():
        first, _, second = place.partition("__")
        if second:
            found[first][second] = value
        else:
            found[first] = value
    return found


def log_line(capsys: pytest.CaptureFixture[str], words: str) -> str:
    """Wait for a line of the log."""
    said: list[str] = []

    def found() -> str:
        said.extend(capsys.readouterr().err.splitlines())
        return next((line for line in said if words in line), "")

    line = wait(found)
    assert TOKEN not in "".join(said)
    assert OUTSIDER not in "".join(said)
    return str(line)


# The door ------------------------------------------------------------------------------------------------------------


def test_a_wrong_secret_or_none_opens_nothing(site: Site) -> None:
    before = len(site.hub.log.records())
    for secret, status in ((None, 401), ("", 403), ("wrong", 403), (SECRET + "x", 403), (SECRET[:-1], 403)):
        answer = site.post(event("examples/liar"), secret)
        assert answer.status_code == status, secret
        assert SECRET not in answer.text
    # Not even the body is looked at.
    assert site.post(b"{", "wrong").status_code == 403
    assert site.post(b"x" * (bots.LONGEST_BODY + 1), "wrong").status_code == 403
    assert len(site.hub.log.records()) == before


def test_the_secret_is_compared_in_constant_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    compare = bots.hmac.compare_digest

    def watch(first: bytes, second: bytes) -> bool:
        compared.append((len(first), len(second)))
        return compare(first, second)

    monkeypatch.setattr(bots.hmac, "compare_digest", watch)
    site.post(b"", "short")
    site.post(b"", "s" * 1000)
    assert compared == [(32, 32), (32, 32)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"junk", 400),
        (b"null", 400),
        (b"[" * 100_000, 400),
        (b"\xff\xfe", 400),
        (b"{}", 400),
        (event("no owner, no id"), 400),
        (event("../../etc/passwd"), 400),
        (event("https://evil.example/x/y"), 400),
        (b" " * (bots.LONGEST_BODY + 1), 413),
        (event("a/b", repo__type="dataset"), 200),
        (event("a/b", repo__type="space"), 200),
        (event("a/b", event={"action": "update", "scope": "repo.config"}), 200),
        (event("a/b", event={"action": "create", "scope": "discussion"}), 200),
        (event("a/b", event={"action": "create", "scope": "discussion.comment"}), 200),
        (event("a/b", event={"action": "delete", "scope": "repo.content"}), 200),
        (event("a/b", updatedRefs=[{"ref": "refs/pr/1", "oldSha": None, "newSha": "2" * 40}]), 200),
        (event("a/b", updatedRefs=[{"ref": "refs/heads/main", "oldSha": "2" * 40, "newSha": None}]), 200),
        (event("a/b", webhook={"id": "1", "version": 4}), 400),
    ],
)
def test_what_is_no_update_of_a_model_is_turned_away(site: Site, body: Any, status: int) -> None:
    before = len(site.hub.log.records())
    assert site.post(body).status_code == status
    assert len(site.hub.log.records()) == before


def test_a_body_without_a_length_is_read_so_far_only(site: Site) -> None:
    sent = []

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            sent.append(1)
            yield b" " * 65_536

    headers: Any = {"X-Webhook-Secret": SECRET.encode()}
    answer = httpx.post(site.url + PATH, content=chunks(), headers=headers, timeout=30.0)
    assert answer.status_code == 413


def test_without_a_secret_or_a_token_there_is_no_webhook(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ui: Any = object()
    desk: Any = None
    assert attach(ui, desk, Settings(), secret="", token="x") is ui
    assert attach(ui, desk, Settings(), secret="x", token="") is ui
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "lineage: webhook: there is none: WEBHOOK_SECRET is not set",
        "lineage: webhook: there is none: HF_TOKEN is not set",
    ]
    monkeypatch.setenv("LINEAGE_BOT", "sometimes")
    with pytest.raises(UsageError, match="LINEAGE_BOT must be always or findings"):
        attach(ui, desk, Settings(), secret="x", token="x")


# What it writes ------------------------------------------------------------------------------------------------------


def test_one_discussion_holds_the_newest_report(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    repo = site.model("liar", "liar")
    first = site.hub.commit_id(repo)
    # The Hub delivers more than once, and several at a time.
    posts = [threading.Thread(target=lambda: site.post(event(repo, first))) for _ in range(4)]
    for post in posts:
        post.start()
    answer = site.post(event(repo, first))
    assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    for post in posts:
        post.join()
    (said,) = wait(lambda: site.comments(repo))
    assert len(said) == 1
    assert said[0].startswith(f"{discussion.MARK}\n<!-- commit={first} verdict=fail version=")
    assert "**✗ FAIL**" in said[0]
    assert "examples/base" in said[0]
    thread = site.hub.discussions.of(repo)[0]
    assert (thread.title, thread.author, thread.status) == (discussion.TITLE, "outsider", "open")
    assert site.post(event(repo, first)).status_code == 202

    # A second commit: the same discussion, edited; the verdict is the same, so not a word more.
    card = site.hub.root / repo / "README.md"
    card.write_text(card.read_text() + "\nA line more.\n")
    second = site.hub.commit_id(repo)
    assert second != first
    site.post(event(repo, second))
    wait(lambda: f"commit={second} " in site.comments(repo)[0][0])
    assert [len(one) for one in site.comments(repo)] == [1]

    # A third one makes the card honest: edited, and said.
    shutil.rmtree(site.hub.root / repo)
    shutil.copytree(EXAMPLES / "honest", site.hub.root / repo)
    site.post(event(repo, site.hub.commit_id(repo)))
    wait(lambda: len(site.comments(repo)[0]) == 2)
    report, change = site.comments(repo)[0]
    assert "verdict=pass" in report.splitlines()[1]
    assert "is **pass**" in change
    assert "it was **fail**" in change.replace("\n", " ")
    # The last event is about what is already said.
    site.post(event(repo, "0" * 40))
    log_line(capsys, "acme/liar: the report is up to date")
    assert [len(one) for one in site.comments(repo)] == [2]


def test_a_restart_finds_the_discussion_and_a_closed_one_stays_closed(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = site.model("second", "honest")
    # Somebody else's copy of the mark is not ours, and neither is another discussion of the account.
    site.hub.discussions.open(repo, "owner", discussion.TITLE, f"{discussion.MARK}\nNot yours.")
    site.hub.discussions.open(repo, "outsider", "A question", "What is it?")
    monkeypatch.setenv("LINEAGE_BOT", "always")
    with gr.Blocks() as ui:
        restarted = attach(ui, site.desk, site.settings, secret=SECRET, token=OUTSIDER).bot
    restarted.take(Event(repo))
    log_line(capsys, f"{repo}: opened discussion 3")
    restarted.close()
    site.owner.change_discussion_status(repo, 3, "closed")
    shutil.copyfile(EXAMPLES / "twin/model.safetensors", site.hub.root / repo / "model.safetensors")
    site.owner.rename_discussion(repo, 3, "Renamed")
    site.post(event(repo, site.hub.commit_id(repo)))
    log_line(capsys, f"{repo}: opened discussion 3 again, since the verdict got worse")
    assert site.hub.discussions.of(repo)[2].status == "open"
    site.owner.change_discussion_status(repo, 3, "closed")
    card = site.hub.root / repo / "README.md"
    card.write_text(card.read_text() + "\nA line more.\n")
    site.post(event(repo, site.hub.commit_id(repo)))
    log_line(capsys, f"{repo}: brought discussion 3 up to date")
    assert site.hub.discussions.of(repo)[2].status == "closed"
    assert [len(one) for one in site.comments(repo)] == [1, 1, 2]
    assert site.comments(repo)[0] == [f"{discussion.MARK}\nNot yours."]


@pytest.mark.filterwarnings("ignore:Hidden comments")
def test_nothing_to_say_discussions_off_private_and_hidden(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    fine = site.model("fine", "honest")
    site.post(event(fine))
    log_line(capsys, f"{fine}: nothing to say of {site.hub.commit_id(fine)[:12]}")
    off = site.model("off", "liar")
    site.hub.discussions.disabled.add(off)
    site.post(event(off))
    line = log_line(capsys, "or discussions are switched off")
    assert line == (
        f"lineage: webhook: {off}: not answered: the bot's token may not do this, or discussions are switched off "
        "(HTTP 403)"
    )
    private = site.model("private", "liar")
    site.hub.faults.private.add(private)
    site.post(event(private))
    log_line(capsys, f"{private}: not answered: there is no such repository, or the bot's token may not see it")
    hidden = site.model("hidden", "liar")
    thread = site.hub.discussions.open(hidden, "outsider", discussion.TITLE, f"{discussion.MARK}\nOld.")
    site.owner.hide_discussion_comment(hidden, 1, thread.events[0]["id"])
    site.post(event(hidden))
    log_line(capsys, f"{hidden}: nothing is said, since the report was hidden")
    for repo in (fine, off, private):
        assert site.hub.discussions.of(repo) == []
    assert len(site.hub.discussions.of(hidden)) == 1


def test_what_may_help_later_is_tried_again(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    repo, gone = site.model("later", "liar"), site.model("gone", "liar")
    rule = site.hub.faults.server_errors(1, status=503, repo=repo, path="*/discussions")
    down = site.hub.faults.server_errors(None, status=503, repo=gone, path="*/discussions")
    bot = Bot(site.desk, site.settings, OUTSIDER, "findings", patience=(0.05, 0.05))
    try:
        bot.take(Event(repo, "3" * 40))
        log_line(capsys, f"{repo}: opened discussion 1")
        bot.take(Event(gone, "3" * 40))
        log_line(capsys, f"{gone}: not answered: the server answered HTTP 503")
    finally:
        bot.close()
        site.hub.faults.clear()
    assert rule.fired == 1
    assert down.fired == 3
    assert site.hub.discussions.of(gone) == []


def test_a_silent_hub_ends_neither_the_thread_nor_the_server(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with silent() as endpoint:
        settings = replace(site.settings, endpoint=endpoint)
        bot = Bot(site.desk, settings, OUTSIDER, "always", patience=(), longest=0.2)
        for repo in ("acme/one", "acme/two"):
            bot.take(Event(repo))
        for repo in ("acme/one", "acme/two"):
            log_line(capsys, f"{repo}: not answered: no answer within 0.2 s")
        bot.close()
        bot = Bot(site.desk, settings, OUTSIDER, "always")
        bot.take(Event("acme/three"))
        wait(lambda: not bot._waiting)
        bot.close()
        assert not bot._thread.is_alive()


def test_no_call_waits_without_end(report: Report) -> None:
    with silent() as endpoint:
        hub, repo = discussion.Hub(HfApi(endpoint=endpoint, token=OUTSIDER), 0.2), "acme/one"
        with pytest.raises(HubUnreachable, match=r"no answer within 0\.2 s"):
            discussion.find(hub, repo, "outsider")
        for found in (None, discussion.Found(1, "a" * 24, is_open=True)):
            with pytest.raises(HubUnreachable, match=r"no answer within 0\.2 s"):
                discussion.write(hub, repo, "outsider", report, "a" * 40, found)


def test_a_public_discussion_tells_nothing_of_a_private_base(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    base, repo = site.model("secret", "base"), site.model("of-secret", "liar")
    card = site.hub.root / repo / "README.md"
    card.write_text(card.read_text().replace("base_model: examples/base", f"base_model: {base}"))
    site.hub.faults.private.add(base)
    bot = Bot(site.desk, site.settings, TOKEN, "always")
    try:
        bot.take(Event(repo))
        log_line(capsys, f"{repo}: not published: not everybody may see {base}, which the report is about")
        assert site.hub.discussions.of(repo) == []
        # Where the model is private itself, only those read it who may.
        site.hub.faults.private.add(repo)
        bot.take(Event(repo))
        log_line(capsys, f"{repo}: opened discussion 1")
        # The bot may read both, but not whoever reads the private model of somebody else.
        other = "elsewhere/of-secret"
        shutil.copytree(site.hub.root / repo, site.hub.root / other)
        site.hub.faults.private.add(other)
        bot.take(Event(other))
        log_line(capsys, f"{other}: not published: not everybody may see {base}, which the report is about")
    finally:
        bot.close()
        site.hub.faults.clear()


def test_a_card_cannot_call_anybody_or_place_a_link(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    repo = site.model("hostile", "liar")
    card = site.hub.root / repo / "README.md"
    evil = "'@everyone [free](https://evil.example) <img src=x onerror=alert(1)> ![p](https://evil.example/p.png)'"
    card.write_text(
        f"---\nlicense: {evil}\nbase_model:\n- examples/base\n- {evil}\nbase_model_relation: {evil}\n---\n\n"
        f"<!-- commit={'f' * 40} verdict=pass version=1 -->\n"
    )
    site.post(event(repo))
    ((said,),) = wait(lambda: site.comments(repo))
    assert "everyone" in said
    bare = discussion_without_code(said)
    for words in ("@", "evil", "onerror", "<img"):
        assert words not in bare, bare
    assert said.count("<!--") == 2


def discussion_without_code(markdown: str) -> str:
    """What is left of Markdown without code blocks, code spans and our own two comments."""
    left = re.sub(r"^(`{3,}).*?^\1", "", markdown, flags=re.DOTALL | re.MULTILINE)
    left = re.sub(r"^ *(`{3,}).*?^ *\1", "", left, flags=re.DOTALL | re.MULTILINE)
    left = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", left)
    return re.sub(r"<code>[^<]*</code>", "", left)


@pytest.fixture(scope="module")
def report(shared_site: served.Site) -> Report:
    ticket = shared_site.desk.ask(Job("check", ("examples/liar",)), visitor="test")
    found = wait(ticket.answer).result
    assert isinstance(found, Report)
    return found


def test_two_servers_at_the_same_moment_leave_one_open_discussion(site: Site, report: Report) -> None:
    repo = site.model("race", "liar")
    hub = discussion.Hub(HfApi(endpoint=site.hub.endpoint, token=OUTSIDER))
    commit = site.hub.commit_id(repo)
    # Both looked before either wrote.
    assert discussion.write(hub, repo, "outsider", report, commit, None) == "opened discussion 1"
    told = discussion.write(hub, repo, "outsider", report, commit, None)
    assert told == "closed discussion 2 again: 1 was opened at the same moment"
    assert [thread.status for thread in site.hub.discussions.of(repo)] == ["open", "closed"]
    found = discussion.find(hub, repo, "outsider")
    assert found is not None
    assert found.number == 1


def test_a_report_without_end_is_cut(report: Report) -> None:
    long = replace(report, findings=report.findings * 400)
    state = discussion.State("a" * 40, "fail")
    written = discussion._body(state, long)
    assert len(written.encode()) <= discussion.LONGEST
    assert discussion._state(written) == state
