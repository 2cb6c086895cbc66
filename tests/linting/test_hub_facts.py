"""What the Hub says of declared bases: the real client against the local Hub, and against servers that lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lineage_plugin.card import BaseClaim, Declaration, declare, read_card, read_front_matter
from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.errors import HubUnreachable, UsageError
from lineage_plugin.linting.hub_facts import DEEPEST, MOST_MODELS, HubAnswers, ask_hub
from lineage_plugin.options import Options
from tests.checkpoint.scripted import Answer, ScriptedServer, scripted
from tests.hub import LocalHub
from tests.hub.server import OUTSIDER, TOKEN

QUICK = Patience(tries=3, base=0.01, cap=0.05)
SHA = "a" * 40
ABSENT = "0" * 40


def put(hub: LocalHub, id: str, card: str | None = "license: mit\n", **files: str) -> Path:
    """Put a model on the Hub: its front matter, and other files by name, a dot written as two underscores."""
    folder = hub.create(id)
    if card is not None:
        (folder / "README.md").write_text(f"---\n{card}---\n# A model\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def declaring(card: str) -> Declaration:
    return declare(read_front_matter(f"---\n{card}---\n"))


def ask(hub: LocalHub | ScriptedServer, card: str, name: str | None = None, token: str | None = None) -> HubAnswers:
    endpoint = hub.endpoint if isinstance(hub, LocalHub) else hub.address
    return ask_hub(declaring(card), options=Options(endpoint=endpoint, token=token), name=name, patience=QUICK)


def codes(hub: LocalHub, card: str, name: str | None = None) -> list[tuple[str, str]]:
    """Return codes and levels of what the rules make of the answers; that of the licences apart."""
    answers = ask(hub, card, name)
    _, findings = read_card(f"---\n{card}---\n", name=name, hub=answers.models)
    return [(found.code, found.level) for found in findings if found.code in ("LIN202", "LIN205", "LIN208", "LIN209")]


def test_the_facts_of_a_base_take_one_request(hub: LocalHub) -> None:
    card = (
        "license: other\nlicense_name: acme-terms\nlicense_link: LICENSE.md\nbase_model: [acme/root, acme/root]\n"
        "base_model_relation: finetune\nnew_version: acme/base-2\n"
    )
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 9}
    put(hub, "acme/base", card, config__json=json.dumps(config), model__safetensors="x" * 100_000)
    put(hub, "acme/root", None)
    answers = ask(hub, "base_model: acme/base\n")
    base, root = answers.models["acme/base"], answers.models["acme/root"]
    assert list(answers.models) == ["acme/base", "acme/root"]
    assert (base.state, base.id, base.commit) == ("found", "acme/base", hub.commit_id("acme/base"))
    assert (base.licence, base.licence_name, base.licence_link) == ("other", "acme-terms", "LICENSE.md")
    assert (base.bases, base.relation, base.new_version) == (("acme/root",), "finetune", "acme/base-2")
    assert base.config == {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert (base.gated, base.revisions) == (False, {})
    assert (root.state, root.bases, root.licence, root.config) == ("found", (), None, {})
    assert answers.cost.requests == hub.log.requests() == 2
    assert (answers.cost.bytes_read, hub.log.requests(port="cdn")) == (0, 0)
    assert answers.cost.seconds > 0
    assert hub.log.sent() < 3000


def test_a_card_without_bases_asks_nothing(hub: LocalHub) -> None:
    answers = ask(hub, "license: mit\n")
    assert (dict(answers.models), answers.cost.requests, hub.log.requests()) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("text", "bases", "licence"),
    [
        # The Hub's reader stops at the repeated key; this one keeps the last.
        ("---\nlicense: mit\nlicense: gpl\nbase_model: acme/root\n  x: 1\n---\n", (), None),
        ("\n\n---\nlicense: mit\nbase_model: acme/root\n---\n", ("acme/root",), "mit"),
        ("# No front matter\n", (), None),
        ("", (), None),
    ],
)
def test_a_card_that_the_hub_made_nothing_of_is_read(
    hub: LocalHub, text: str, bases: tuple[str, ...], licence: str | None
) -> None:
    put(hub, "acme/base", None, README__md=text)
    put(hub, "acme/root", None)
    hub.redirect_small = True
    told = ask(hub, "base_model: acme/base\n").models["acme/base"]
    assert (told.bases, told.licence) == (bases, licence)
    assert hub.log.records(repo="acme/base", path="*/README.md")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("---\nlicense: mit\nbase_model: [acme/root\n---\n", "cannot be read"),
        ("\n---\nlicense: mit\nx: " + "y" * 70_000 + "\n---\n", "cannot be read"),
        (" \n" * 40_000 + "---\nlicense: mit\n---\n", "too long"),
    ],
)
def test_a_card_that_cannot_be_read_may_state_a_licence(hub: LocalHub, text: str, why: str) -> None:
    put(hub, "acme/base", None, README__md=text)
    told = ask(hub, "base_model: acme/base\n").models["acme/base"]
    assert (told.state, told.licence) == ("found", None) and why in told.problem
    card = "---\nlicense: mit\nbase_model: acme/base\n---\n"
    assert "LIN206" not in {found.code for found in read_card(card, hub={"acme/base": told})[1]}


def test_a_card_that_is_not_delivered_may_state_a_licence(hub: LocalHub) -> None:
    put(hub, "acme/base", None, README__md="\n---\nlicense: mit\n---\n")
    hub.faults.gated.add("acme/base")
    told = ask(hub, "base_model: acme/base\n").models["acme/base"]
    assert told.state == "found" and told.problem == "its card was not read: the Hub answered HTTP 401"
    assert ask(hub, "base_model: acme/base\n", token=TOKEN).models["acme/base"].problem == ""


@pytest.mark.parametrize(
    ("licence", "garbled"), [("{a: mit}", True), ("[[mit]]", True), ("3", True), ("", False), ("[]", False)]
)
def test_a_licence_that_is_no_text_is_not_none(hub: LocalHub, licence: str, garbled: bool) -> None:
    put(hub, "acme/base", f"license: {licence}\n")
    told = ask(hub, "base_model: acme/base\n").models["acme/base"]
    assert (told.state, told.licence, bool(told.problem)) == ("found", None, garbled)


def test_the_card_of_a_gated_base_stays_unread(hub: LocalHub) -> None:
    put(hub, "acme/base", None, README__md="\n---\nbase_model: acme/root\n---\n")
    hub.faults.gated.add("acme/base")
    told = ask(hub, "base_model: acme/base\n").models["acme/base"]
    assert (told.state, told.gated, told.bases) == ("found", True, ())
    told = ask(hub, "base_model: acme/base\n", token=TOKEN).models["acme/base"]
    assert (told.gated, told.bases) == (True, ("acme/root",))
    assert codes(hub, f"base_model: acme/base\nbase_model_revision: {told.commit}\n") == [("LIN202", "note")]


def test_bases_that_are_not_there(hub: LocalHub) -> None:
    put(hub, "acme/private")
    put(hub, "acme/closed")
    hub.faults.private.add("acme/private")
    hub.faults.server_errors(None, status=403, repo="acme/closed")
    card = "base_model: [acme/gone, acme/private, acme/closed]\n"
    for token in (None, OUTSIDER):
        answers = ask(hub, card, token=token)
        assert [(model.asked, model.state) for model in answers.models.values()] == [
            ("acme/gone", "missing"),
            ("acme/private", "missing"),
            ("acme/closed", "denied"),
        ]
        assert all(model.problem and model.id == "" for model in answers.models.values())
        assert answers.cost.requests == 3
    assert ask(hub, card, token=TOKEN).models["acme/private"].state == "found"
    assert (
        codes(hub, card) == [("LIN205", "note"), ("LIN202", "error")] * 3
        or codes(hub, card).count(("LIN202", "error")) == 3
    )
    wrong = ask(hub, card, token="hf_thisTokenIsNoneOfTheHub")
    assert {model.state for model in wrong.models.values()} == {"denied"}
    assert "does not accept the token" in wrong.models["acme/gone"].problem
    assert "hf_this" not in repr(wrong)


def test_a_renamed_base_is_followed(hub: LocalHub) -> None:
    put(hub, "acme/new", "base_model: Acme/Root\n")
    put(hub, "acme/root")
    hub.renamed |= {"acme/old": "acme/new", "Acme/Root": "acme/root", "gpt9": "acme/root"}
    answers = ask(hub, "base_model: acme/old\n")
    assert {asked: model.id for asked, model in answers.models.items()} == {
        "acme/old": "acme/new",
        "Acme/Root": "acme/root",
        "acme/new": "acme/new",
        "acme/root": "acme/root",
    }
    assert answers.models["acme/new"].commit == answers.models["acme/old"].commit
    assert answers.cost.requests == hub.log.requests() == 4
    assert [record.status for record in hub.log.records()].count(307) == 2
    pinned = f"base_model: acme/old\nbase_model_revision: {answers.models['acme/old'].commit}\n"
    assert codes(hub, pinned) == [("LIN202", "warning")]
    assert codes(hub, f"base_model: gpt9@{hub.commit_id('acme/root')}\n") == [("LIN202", "note")]
    assert codes(hub, f"base_model: Acme/Root@{hub.commit_id('acme/root')}\n") == [("LIN202", "note")]


def test_each_model_is_asked_for_once(hub: LocalHub) -> None:
    for id, base in (("a/one", "a/two"), ("a/two", "[a/three, A/One]"), ("a/three", "[a/one, a/two]")):
        put(hub, id, f"base_model: {base}\n")
    answers = ask(hub, "base_model: [a/one, a/three, A/ONE]\n", name="me/mine")
    assert set(answers.models) == {"a/one", "a/three", "A/ONE", "a/two", "A/One"}
    assert (answers.models["A/One"].asked, answers.models["A/One"].id) == ("A/One", "a/one")
    assert sorted(record.repo.lower() for record in hub.log) == ["a/one", "a/three", "a/two", "me/mine"]


def test_a_chain_of_three_and_the_circle_it_may_run_in(hub: LocalHub) -> None:
    put(hub, "a/one", "base_model: a/two\n")
    put(hub, "a/two", "base_model: a/three\n")
    root = put(hub, "a/three", "new_version: a/four\n")
    card = f"base_model: a/one\nbase_model_revision: {hub.commit_id('a/one')}\n"
    answers = ask(hub, card, name="me/mine")
    assert list(answers.models) == ["a/one", "a/two", "a/three"]
    assert answers.cost.requests == 4
    assert codes(hub, card, "me/mine") == []
    (root / "README.md").write_text("---\nbase_model: Me/Mine\n---\n")
    assert codes(hub, card, "me/mine") == [("LIN208", "error")]
    (root / "README.md").write_text("---\nbase_model: a/two\n---\n")
    assert codes(hub, card, "me/mine") == [("LIN208", "note")]


def test_the_model_itself_is_known_by_the_name_that_it_has_now(hub: LocalHub) -> None:
    put(hub, "me/new", "base_model: other/unseen\n")
    hub.renamed["me/old"] = "me/new"
    answers = ask(hub, "base_model: me/new\n", name="me/old")
    # What its card on the Hub declares does not matter: this is the card now.
    assert set(answers.models) == {"me/new", "me/old"}
    assert codes(hub, f"base_model: me/new@{hub.commit_id('me/new')}\n", "me/old") == [("LIN208", "note")]
    assert ("LIN208", "error") in codes(hub, "base_model: me/new\n", "me/old")
    hub.log.clear()
    assert not ask(hub, "license: mit\n", name="me/new").models
    assert not hub.log.records()
    for name in ("not there/at all", "../../etc", "me/nothing", "https://huggingface.co/me/new", ""):
        assert list(ask(hub, "base_model: me/new\n", name=name).models) == ["me/new", "other/unseen"]


def test_pinned_revisions(hub: LocalHub, tmp_path: Path) -> None:
    put(hub, "acme/base")
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "README.md").write_text("before")
    before, head = hub.add_revision("acme/base", "v1", tmp_path / "v1"), hub.commit_id("acme/base")

    def told(*pins: str) -> tuple[Mapping[str, str | None], int]:
        claims = tuple(BaseClaim("acme/base", pin, "README.md", 2) for pin in pins)
        answers = ask_hub(Declaration(bases=claims), options=Options(endpoint=hub.endpoint), patience=QUICK)
        return answers.models["acme/base"].revisions, answers.cost.requests

    assert told(head, "main") == ({head: head, "main": head}, 1)
    assert told("v1", before) == ({"v1": before, before: before}, 3)
    assert told("v2", ABSENT, head[:7]) == ({"v2": None, ABSENT: None, head[:7]: None}, 4)
    assert codes(hub, f"base_model: acme/base\nbase_model_revision: {ABSENT}\n") == [("LIN202", "error")]
    hub.faults.server_errors(None, status=403, path="*/revision/*")
    assert told("v1") == ({}, 2)
    assert codes(hub, "base_model: acme/base@v1\n") == []


def test_failures_that_pass(hub: LocalHub) -> None:
    put(hub, "acme/base", "base_model: acme/root\n")
    put(hub, "acme/root")
    hub.faults.rate_limit(1, repo="acme/base")
    hub.faults.server_errors(2, status=502, repo="acme/root")
    hub.faults.drop(1, keep=None, after=1, repo="acme/base")
    answers = ask(hub, "base_model: acme/base\n")
    assert [model.state for model in answers.models.values()] == ["found", "found"]
    assert answers.cost.requests == hub.log.requests() == 6


def test_failures_that_stay(hub: LocalHub) -> None:
    put(hub, "acme/base", "base_model: [acme/root, acme/other]\n")
    put(hub, "acme/root")
    put(hub, "acme/other")
    hub.faults.server_errors(None, repo="acme/root")
    with pytest.raises(HubUnreachable, match="acme/root: the server answered HTTP 503") as caught:
        ask(hub, "base_model: acme/base\n")
    assert caught.value.exit_code == 4


def test_no_network() -> None:
    declaration = declaring("base_model: acme/base\n")
    with pytest.raises(HubUnreachable, match="acme/base: no connection"):
        ask_hub(declaration, options=Options(endpoint="http://127.0.0.1:9"), patience=Patience(tries=1))
    with pytest.raises(UsageError, match="offline"):
        ask_hub(declaration, options=Options(offline=True))


def test_the_token_stays_with_the_hub(hub: LocalHub) -> None:
    with scripted(lambda path, headers: (200, {}, json.dumps({"sha": SHA, "id": "else/where"}).encode())) as other:
        redirect: Answer = (307, {"Location": f"{other.address}/api/models/else/where"}, b"")
        with scripted(lambda path, headers: redirect) as server:
            model = ask(server, "base_model: acme/base\n", token="hf_secret").models["acme/base"]
            assert server.seen[0][1]["authorization"] == "Bearer hf_secret"
        assert model.id == "else/where"
        assert "authorization" not in other.seen[0][1]


# Servers that lie ---------------------------------------------------------------------------------------------------

HOSTILE: dict[str, object] = {
    "wrong types": {"id": 7, "gated": 3, "cardData": [1], "config": "x", "siblings": {"rfilename": "README.md"}},
    "wrong types inside": {
        "id": ["a/b"],
        "gated": None,
        "siblings": [None, 7, {"rfilename": None}],
        "cardData": {
            "base_model": 7,
            "license": {"a": [{}]},
            "license_name": 8,
            "license_link": [],
            "new_version": True,
            "base_model_relation": ["adapter"],
        },
        "config": {"model_type": 3, "architectures": "Llama"},
    },
    "numbers for bases": {"cardData": {"base_model": [1, 2.5, None, True, {"a": 1}, [["x"]], 1e308]}},
    "ids that climb": {
        "id": "../../api/whoami-v2",
        "cardData": {
            "base_model": [
                "../../etc",
                "a/../b",
                "/etc/passwd",
                "a/b/c",
                "a/b?x=1",
                "a/b#c",
                "a b/c",
                "a/b\n",
                "a\0/b",
            ],
            "new_version": "../../..",
        },
    },
    "controls": {
        "cardData": {
            "license": "mit\x1b[31m\n::error::x\u202e",
            "license_name": "\x1b]0;title\x07",
            "license_link": "javascript:\r\nx" * 100,
        },
        "config": {"model_type": "a\x1b[2J\u200bb", "architectures": ["\x07", 3, "X\nY", "Z" * 9999]},
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_found_and_harmless(name: str) -> None:
    body = json.dumps({"sha": SHA, "id": "acme/base", **HOSTILE[name]}).encode()  # type: ignore[dict-item]
    with scripted(lambda path, headers: (200, {}, body)) as server:
        answers = ask(server, "base_model: acme/base\n")
        assert all(path.startswith("/api/models/") for path, _ in server.seen)
    told = answers.models["acme/base"]
    assert (told.state, told.id, told.commit, told.gated) == ("found", "acme/base", SHA, False)
    assert told.bases in ((), ("a/b",))  # "a/b" and a line break is read as cards are: blanks around it do not count
    assert (told.relation, told.new_version) == (None, None)
    for text in (told.licence, told.licence_name, told.licence_link, *told.config.values()):
        for line in text if isinstance(text, list) else [text]:
            assert line is None or (isinstance(line, str) and line.isprintable() and 0 < len(line) <= 200)
            assert line is None or "::" not in line
    _, findings = read_card("---\nbase_model: acme/base\n---\n", hub=answers.models)
    assert all(found.message.isprintable() for found in findings)


UNUSABLE: dict[str, bytes] = {
    "nothing": b"",
    "a web page": b"<!DOCTYPE html>",
    "a list": b"[]",
    "no commit": b"{}",
    "a commit that is none": b'{"sha": "main"}',
    "a key twice": b'{"sha": 1, "sha": 2}',
    "nested": b'{"a":' * 100_000,
    "too many values": b'{"sha":[' + b"{}," * 1_000_000 + b"{}]}",
    "huge": b'{"sha": "' + b"x" * (17 << 20) + b'"}',
    "a number of 10,000 digits": b'{"sha": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_answer_that_cannot_be_used_is_unknown(name: str) -> None:
    with scripted(lambda path, headers: (200, {}, UNUSABLE[name])) as server:
        answers = ask(server, "base_model: acme/base\n")
    told = answers.models["acme/base"]
    assert (told.state, told.id, told.commit) == ("unknown", "", None)
    assert told.problem.isprintable() and len(told.problem) < 200
    _, findings = read_card("---\nbase_model: acme/base@v1\n---\n", hub=answers.models)
    assert [(found.code, found.level) for found in findings if found.code == "LIN202"] == [("LIN202", "warning")]


def test_of_an_endless_card_the_beginning_is_read() -> None:
    sent: list[int] = []

    def script(path: str, headers: Mapping[str, str]) -> Answer:
        if path.startswith("/api/"):
            return 200, {}, json.dumps({"sha": SHA, "siblings": [{"rfilename": "README.md"}]}).encode()
        assert path == f"/acme/base/resolve/{SHA}/README.md"
        sent.append(32 << 20)
        front = b"---\nlicense: mit\n---\n" if "authorization" in headers else b"---\nlicense: mit\n"
        return 200, {}, front + b"x: y\n" * ((32 << 20) // 5)

    with scripted(script) as server:
        assert ask(server, "base_model: acme/base\n").models["acme/base"].licence is None
        assert ask(server, "base_model: acme/base\n", token="hf_any").models["acme/base"].licence == "mit"
    assert len(sent) == 2


def test_an_endless_family_is_cut_off() -> None:
    def many(path: str, headers: Mapping[str, str]) -> Answer:
        own = path.removeprefix("/api/models/").partition("?")[0].replace("/", "-")[-40:]
        bases = [f"x/{own}-{index}" for index in range(20)]
        return 200, {}, json.dumps({"sha": SHA, "cardData": {"base_model": bases}}).encode()

    with scripted(many) as server:
        answers = ask(server, "base_model: acme/base\n")
        assert answers.cost.requests == len(server.seen) == len(answers.models) == MOST_MODELS


def test_an_endless_chain_is_cut_off() -> None:
    def next_one(path: str, headers: Mapping[str, str]) -> Answer:
        number = int(path.removeprefix("/api/models/x/m").partition("?")[0])
        return 200, {}, json.dumps({"sha": SHA, "cardData": {"base_model": f"x/m{number + 1}"}}).encode()

    with scripted(next_one) as server:
        assert len(ask(server, "base_model: x/m0\n").models) == len(server.seen) == DEEPEST
