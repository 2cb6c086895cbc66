"""The lint of one card in its place: what beside it is read, what the Hub is asked, and what the report says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lineage_plugin import api
from lineage_plugin.errors import HubNotFound, UnreadableCheckpoint, UsageError
from lineage_plugin.findings import Finding
from lineage_plugin.judge.types import Report
from lineage_plugin.linting.lint import lint, prepare
from lineage_plugin.linting.place import CARD_LIMIT, place_of
from lineage_plugin.options import Options
from lineage_plugin.policy.types import Policy
from lineage_plugin.report import render
from tests.hub import OUTSIDER, TOKEN, LocalHub

HASH = "5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9"
LLAMA = "meta-llama/Llama-3.1-8B"


def write(path: Path, *lines: str, body: str = "# A model\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["---", *lines, "---", body]), encoding="utf-8")
    return path


def honest(path: Path, base: str = f"o/n@{HASH}") -> Path:
    return write(path, "license: mit", f"base_model: {base}")


def codes(report: Report) -> list[tuple[str, str, str | None, int | None]]:
    return [(found.code, found.level, found.file, found.line) for found in report.findings]


def test_it_is_the_function_of_the_package() -> None:
    assert api.lint is lint


def test_a_report_of_a_lint(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "license: mit", "base_model: a/b@v1", "base_model_relation: remix")
    report = lint(str(card))
    assert (report.command, report.comparisons, report.verdict) == ("lint", (), "pass")
    assert (report.suspect.id, report.suspect.revision, report.suspect.format) == (str(card), None, None)
    assert (report.declared.bases, report.declared.file, report.declared.line) == (("a/b",), "README.md", 3)
    assert codes(report) == [("LIN203", "warning", "README.md", 4)]
    assert (report.cost.requests, report.cost.bytes_read) == (0, 0)


def test_a_folder_and_its_card_get_the_same_findings(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "license: mit", "base_model: a/b@v1", "base_model_relation: finetune")
    (tmp_path / "adapter_config.json").write_text('{\n "base_model_name_or_path": "c/d"\n}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no weights are read")
    folder, card = lint(str(tmp_path)), lint(str(tmp_path / "README.md"))
    assert folder.findings == card.findings
    assert codes(folder) == [
        ("LIN210", "warning", "README.md", 4),
        ("LIN204", "warning", "adapter_config.json", 2),
    ]


def test_what_lies_beside_one_of_many_cards_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "c/d"}')
    card = honest(tmp_path / "first.md", "a/b@v1")
    assert [found[0] for found in codes(lint(str(card)))] == ["LIN210", "LIN204"]
    honest(tmp_path / "second.md")
    assert codes(lint(str(card))) == []
    # A README.md is the card of the folder, whatever else lies there.
    assert [found[0] for found in codes(lint(str(honest(tmp_path / "README.md", "a/b@v1"))))] == ["LIN210", "LIN204"]


def test_the_files_of_a_model_without_a_card_are_read(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "c/d", "revision": "v1"}')
    report = lint(str(tmp_path))
    assert report.declared.bases == ("c/d",)
    assert codes(report) == [("LIN201", "note", "README.md", None)]


def test_the_name_of_a_local_model(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "license: mit", "base_model: me/model@v1")
    assert codes(lint(str(card))) == []
    assert codes(lint(str(card), name="ME/Model")) == [("LIN208", "error", "README.md", 3)]
    assert lint(str(card), name="me/model").verdict == "fail"


def test_a_downloaded_model_is_known_by_the_folders_around_it(tmp_path: Path) -> None:
    lines = ("license: mit", "base_model: me/model@v1")
    inside = tmp_path / "models--me--model" / "snapshots" / HASH
    for place in (write(inside / "README.md", *lines), inside):
        assert codes(lint(str(place))) == [("LIN208", "error", "README.md", 3)]
    for other in ("datasets--me--model/snapshots", "models--me--model/elsewhere"):
        assert codes(lint(str(write(tmp_path / other / HASH / "README.md", *lines)))) == []


def test_a_policy_decides_on_levels(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "license: mit", "base_model: a/b@v1", "base_model_relation: remix")
    report = lint(str(card), policy=Policy(levels={"LIN203": "error"}))
    assert codes(report) == [("LIN203", "error", "README.md", 4)] and report.verdict == "fail"
    assert codes(lint(str(card), policy=Policy(levels={"LIN203": "off"}))) == []


def test_licences_of_well_known_models_are_told_without_the_hub(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "license: apache-2.0", f"base_model: {LLAMA}@v1")
    (outcome,) = lint(str(card)).licences
    assert (outcome.model, outcome.licence, outcome.known_by) == (LLAMA, "llama3.1", "its id")
    assert outcome.outcome == "incompatible" and outcome.source and outcome.duties
    # Those of others are not known here, and nothing is made up.
    (other,) = lint(str(honest(tmp_path / "other" / "README.md"))).licences or (None,)
    assert other is None or (other.licence is None and "not known" in other.reason)
    assert lint(str(write(tmp_path / "scratch" / "README.md", "license: mit"))).licences == ()


def test_a_prepared_lint_judges_other_cards_in_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "o/n"}')
    prepared = prepare(str(honest(tmp_path / "README.md", "a/b@v1")), options=Options())

    def found(card: bytes | None) -> list[Finding]:
        return list(prepared.findings(card))

    assert [one.code for one in found(prepared.place.card)] == ["LIN210", "LIN204"]
    repaired = b"---\nlicense: mit\nbase_model: o/n@v1\nbase_model_relation: adapter\n---\n"
    assert found(repaired) == []
    assert [one.code for one in found(None)] == ["LIN201", "LIN205"]
    assert found(b"\xff\xfe\x00") and found(b"")


# What cannot be read.


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    outside = honest(tmp_path / "outside.md")
    model = tmp_path / "model"
    model.mkdir()
    (model / "README.md").symlink_to(outside)
    for place in (model, model / "README.md"):
        with pytest.raises(UnreadableCheckpoint, match=r"README\.md"):
            lint(str(place))


def test_links_of_a_file_beside_the_card_are_not_followed_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"base_model_name_or_path": "secret/model"}')
    model = tmp_path / "model"
    honest(model / "README.md")
    (model / "adapter_config.json").symlink_to(secret)
    try:
        said = [found.message for found in lint(str(model)).findings]
    except UnreadableCheckpoint as error:
        said = [str(error)]
    assert said and not [text for text in said if "secret/model" in text]


def test_a_card_is_read_up_to_a_limit(tmp_path: Path) -> None:
    card = honest(tmp_path / "README.md")
    with card.open("ab") as file:
        file.truncate(CARD_LIMIT + 1000)
    assert len(place_of(str(card), options=Options()).card or b"") == CARD_LIMIT
    assert codes(lint(str(card))) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_no_card(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "README.md")
    with pytest.raises(UsageError, match=r"README\.md"):
        lint(str(tmp_path / "README.md"))
    assert [code for code, *_ in codes(lint(str(tmp_path)))] == ["LIN201"]


@pytest.mark.parametrize("place", ["none.md", "./none", "/nowhere/at/all/README.md", ""])
def test_what_is_not_there_is_an_error_and_asks_no_server(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, HubNotFound)):
        lint(place, options=Options(endpoint="http://127.0.0.1:9"))


# Over a Hub.


def test_a_model_on_the_hub_is_asked_about_its_bases(hub: LocalHub) -> None:
    base = write(hub.create("acme/base") / "README.md", "license: cc-by-nc-4.0", "base_model: acme/root").parent
    (base / "config.json").write_text(json.dumps({"model_type": "llama"}))
    folder = hub.create("me/model")
    write(folder / "README.md", "license: mit", "base_model: acme/base", "base_model_relation: finetune")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(bytes(1 << 20))
    report = lint("me/model", options=Options(endpoint=hub.endpoint))
    assert (report.suspect.id, report.suspect.revision) == ("me/model", hub.commit_id("me/model"))
    found = codes(report)
    assert ("LIN206", "error", "README.md", 2) in found and ("LIN205", "note", "README.md", 3) in found
    assert [(code, level) for code, level, *_ in found if code == "LIN211"] == [("LIN211", "warning")]
    assert [(one.model, one.licence, one.known_by) for one in report.licences] == [
        ("acme/base", "cc-by-nc-4.0", "the Hub")
    ]
    assert [(link.model, link.bases) for link in report.chain] == [("acme/base", ("acme/root",))]
    assert "Chain       • acme/base declares acme/root" in render(report)
    assert report.cost.requests == hub.log.requests() and report.cost.bytes_read < 10_000
    assert hub.log.records(path="*.safetensors") == []
    # A revision of it has the card of that revision.
    old = lint(f"me/model@{hub.commit_id('me/model')}", options=Options(endpoint=hub.endpoint))
    assert codes(old) == found
    with pytest.raises(HubNotFound):
        lint("me/model@nowhere", options=Options(endpoint=hub.endpoint))


def test_a_model_on_the_hub_without_a_card(hub: LocalHub) -> None:
    (hub.create("me/model") / "config.json").write_text("{}")
    report = lint("me/model", options=Options(endpoint=hub.endpoint))
    assert codes(report) == [("LIN201", "warning", "README.md", None)]
    assert report.licences == ()


def test_the_hub_is_asked_with_the_token_that_was_given(hub: LocalHub, tmp_path: Path) -> None:
    write(hub.create("acme/base") / "README.md", "license: mit")
    hub.faults.private.add("acme/base")
    card = honest(tmp_path / "README.md", "acme/base")

    def levels(token: str | None) -> list[tuple[str, str]]:
        report = lint(str(card), hub=True, options=Options(endpoint=hub.endpoint, token=token))
        assert TOKEN not in repr(report) and OUTSIDER not in repr(report)
        return [(found.code, found.level) for found in report.findings]

    assert ("LIN202", "error") in levels(OUTSIDER)
    assert levels(TOKEN) == [("LIN205", "note")]
    assert hub.log.leaks() == []


def test_offline_asks_nobody(hub: LocalHub, tmp_path: Path) -> None:
    card = honest(tmp_path / "README.md", "acme/base")
    offline = Options(endpoint=hub.endpoint, offline=True)
    assert codes(lint(str(card), options=offline)) == [("LIN205", "note", "README.md", 3)]
    for place, ask in ((str(card), True), ("acme/base", False)):
        with pytest.raises(UsageError):
            lint(place, hub=ask, options=offline)
    assert hub.log.requests() == 0


# A part of a model, as the gate before an upload sees it.


def test_what_is_not_there_says_nothing_of_a_part_of_a_model(tmp_path: Path) -> None:
    card = write(tmp_path / "README.md", "license: apache-2.0", "base_model: black-forest-labs/FLUX.1-dev")
    assert next(f.level for f in lint(str(card)).findings if f.code == "LIN206") == "error"
    # It may be an adapter, whose file is in the repository already.
    assert {f.level for f in lint(str(card), partial=True).findings if f.code == "LIN206"} == {"warning"}
    told = write(
        tmp_path / "told" / "README.md",
        "license: apache-2.0",
        "base_model: black-forest-labs/FLUX.1-dev",
        "base_model_relation: finetune",
    )
    assert "error" in {f.level for f in lint(str(told), partial=True).findings}
    other = write(tmp_path / "other" / "README.md", "license: other", "license_name: acme-terms", "base_model: a/b")
    assert "LIN206" in {f.code for f in lint(str(other)).findings}
    assert "LIN206" not in {f.code for f in lint(str(other), partial=True).findings}
    ignored = write(
        tmp_path / "ignored" / "README.md", "license: mit", "base_model: a/b  # lineage: ignore[LIN210] so it is"
    )
    assert "LIN213" in {f.code for f in lint(str(ignored)).findings}
    assert "LIN213" not in {f.code for f in lint(str(ignored), partial=True).findings}


def test_a_name_that_is_no_id_of_the_hub_is_held_to_nothing(tmp_path: Path) -> None:
    card = write(
        tmp_path / "README.md", "license: llama3.1", "base_model: meta-llama/Llama-3.1-8B", "# Built with Llama"
    )
    itself = "meta-llama/Llama-3.1-8B"
    assert "LIN208" in {f.code for f in lint(str(card), name=itself).findings}
    report = lint(str(card), name=itself, hub_id="")
    assert report.suspect.id == itself and "LIN208" not in {f.code for f in report.findings}
    messages = [f.message for f in lint(str(card), name="me/sub", hub_id="me/Llama-x").findings]
    assert not any("does not begin" in message for message in messages)
