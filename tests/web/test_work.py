"""One question, answered in this process: commits are pinned, answers kept while they hold, errors plain words."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lineage_plugin import Options, compare
from lineage_plugin.cli import main
from lineage_plugin.errors import HubError, HubNotFound, HubUnreachable
from lineage_plugin.judge.types import Report
from lineage_plugin.web.failures import failed_of
from lineage_plugin.web.jobs import Answer, Failed, Job, Kind, Update
from lineage_plugin.web.settings import Settings
from lineage_plugin.web.work import answer_job
from tests.hub import OUTSIDER, TOKEN, LocalHub

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def settings(hub: LocalHub, tmp_path: Path) -> Settings:
    for name in ("base", "honest", "liar", "twin"):
        shutil.copytree(EXAMPLES / name, hub.root / "examples" / name)
    offered = {f"examples:{name}": EXAMPLES / name for name in ("base", "honest", "liar")}
    return Settings(models=offered, endpoint=hub.endpoint, cache=tmp_path / "answers")


def answer(settings: Settings, kind: Kind, *models: str, token: str | None = None) -> Answer:
    return answer_job(Job(kind, models), settings, token, lambda update: None)


def report(settings: Settings, kind: Kind, *models: str, token: str | None = None) -> Report:
    found = answer(settings, kind, *models, token=token).result
    assert isinstance(found, Report)
    return found


def failure(settings: Settings, kind: Kind, *models: str, token: str | None = None) -> Failed:
    with pytest.raises(Failed) as failed:
        answer(settings, kind, *models, token=token)
    return failed.value


# Answers ------------------------------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_package_at_the_commits_of_now(settings: Settings, hub: LocalHub) -> None:
    found = report(settings, "compare", "examples/honest", "examples/base")
    plain = compare(
        str(EXAMPLES / "honest"), str(EXAMPLES / "base"), options=Options(fingerprints="off", endpoint=hub.endpoint)
    )
    assert found.comparisons[0].evidence == plain.comparisons[0].evidence
    assert (found.suspect.id, found.suspect.revision) == ("examples/honest", hub.commit_id("examples/honest"))
    base = found.comparisons[0].base
    assert (base.id, base.revision) == ("examples/base", hub.commit_id("examples/base"))
    assert found.folder is None


def test_a_model_is_compared_with_itself(settings: Settings) -> None:
    assert report(settings, "compare", "examples/base", "examples/base").comparisons[0].relation == "identical"


def test_a_check_asks_the_hub_about_the_bases(settings: Settings) -> None:
    found = report(settings, "check", "examples/liar")
    assert found.verdict == "fail"
    assert "LIN101" in {finding.code for finding in found.findings}
    assert [link.model for link in found.chain] == ["examples/base"], "the Hub was asked"


def test_a_family_tree_is_kept_unless_a_model_could_not_be_read(settings: Settings, hub: LocalHub) -> None:
    models = ("examples/base", "examples/honest", "examples:liar")
    first, second = (answer(settings, "tree", *models) for _ in range(2))
    assert not isinstance(first.result, Report) and len(first.result.trees) == 1
    assert [first.result.models[at].model.id for at in first.result.trees[0].members] == list(models[:2])
    assert (first.kept, second.kept, second.result == first.result) == (False, True, True)
    assert str(EXAMPLES) not in repr(first)
    hub.faults.gated.add("examples/twin")
    for _ in range(2):
        found = answer(settings, "tree", "examples/base", "examples/twin")
        assert not found.kept and not isinstance(found.result, Report)
        assert [member.state for member in found.result.models] == ["tested", "not read"]
    # One that is not there takes the others along no more than one that is gated.
    found = answer(settings, "tree", "examples/base", "no/where", "examples/honest")
    assert not found.kept and not isinstance(found.result, Report)
    assert [member.state for member in found.result.models] == ["tested", "not read", "tested"]
    assert len(found.result.trees) == 1


def test_models_that_are_offered_need_no_hub_and_do_not_show_where_they_are(settings: Settings, hub: LocalHub) -> None:
    here = Path.cwd()
    for name, verdict in (("honest", "pass"), ("liar", "fail")):
        found = report(settings, "check", f"examples:{name}")
        assert found.verdict == verdict
        assert found.suspect.id == f"examples:{name}"
        assert str(EXAMPLES) not in repr(found)
    found = report(settings, "compare", "examples:honest", "examples:base")
    assert found.comparisons[0].relation == "derived"
    assert str(EXAMPLES) not in repr(found)
    assert len(hub.log) == 0
    assert Path.cwd() == here


def test_a_scan_is_kept_until_the_registry_changes(settings: Settings, tmp_path: Path) -> None:
    known = tmp_path / "known"
    for name in ("base", "liar"):
        shutil.copytree(EXAMPLES / name, tmp_path / name / "acme" / name)
    settings = replace(settings, registry=str(known))
    assert main(["registry", "build", str(tmp_path / "base"), "--registry", str(known), "--quiet"]) == 0
    first, second = (answer(settings, "scan", "examples/honest") for _ in range(2))
    assert isinstance(first.result, Report)
    assert [comparison.base.id for comparison in first.result.comparisons] == ["acme/base"]
    assert (first.kept, second.kept) == (False, True)
    assert main(["registry", "build", str(tmp_path / "liar"), "--registry", str(known), "--quiet"]) == 0
    assert not answer(settings, "scan", "examples/honest").kept


def test_a_model_may_be_offered_inside_another(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "honest", tmp_path / "all" / "a")
    shutil.copytree(EXAMPLES / "base", tmp_path / "all" / "a" / "b")
    offered = {f"all:{name}": tmp_path / "all" / name for name in ("a", "a/b")}
    for models in (("all:a", "all:a/b"), ("all:a/b", "all:a")):
        found = report(replace(settings, models=offered), "compare", *models)
        assert found.comparisons[0].relation == "derived"
    assert sorted(path.name for path in (tmp_path / "all" / "a" / "b").iterdir()) == sorted(
        path.name for path in (EXAMPLES / "base").iterdir()
    ), "nothing was put there"


def test_a_folder_of_the_name_of_an_id_is_not_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES / "liar", tmp_path / "examples" / "honest")
    shutil.copytree(EXAMPLES / "liar", tmp_path / "no" / "where")
    monkeypatch.chdir(tmp_path)
    assert report(settings, "compare", "examples/honest", "examples/base").comparisons[0].relation == "derived"
    assert failure(settings, "check", "no/where").why == "missing"


def test_the_last_update_has_the_numbers_of_the_report(settings: Settings) -> None:
    updates: list[Update] = []
    found = answer_job(Job("compare", ("examples/honest", "examples/base")), settings, None, updates.append).result
    assert isinstance(found, Report)
    last, evidence = updates[-1], found.comparisons[0].evidence
    assert (last.bytes_read, last.coins, last.heads) == (found.cost.bytes_read, evidence.coins, evidence.heads)
    grown = [(update.bytes_read, update.requests) for update in updates]
    assert grown == sorted(grown)


# What is kept -------------------------------------------------------------------------------------------------------


def test_an_answer_is_kept_until_a_model_changes(settings: Settings, hub: LocalHub) -> None:
    pair = ("examples/honest", "examples/base")
    first = answer(settings, "compare", *pair)
    hub.log.clear()
    second = answer(settings, "compare", *pair)
    assert (first.kept, second.kept) == (False, True)
    assert second.result == first.result
    assert hub.log.requests() == 2, "a request for the commit of each model"
    assert not answer(settings, "compare", *pair[::-1]).kept, "another question"
    (hub.root / "examples" / "base" / "NOTES.txt").write_text("new")
    assert not answer(settings, "compare", *pair).kept
    assert answer(settings, "compare", *pair).kept
    assert answer(settings, "compare", pair[0], f"{pair[1]}@{hub.commit_id(pair[1])}").kept, "the same commit"


def test_a_check_is_kept_until_a_base_changes(settings: Settings, hub: LocalHub) -> None:
    first = answer(settings, "check", "examples/honest")
    second = answer(settings, "check", "examples/honest")
    assert (first.kept, second.kept, second.result == first.result) == (False, True, True)
    (hub.root / "examples" / "base" / "NOTES.txt").write_text("new")
    third = answer(settings, "check", "examples/honest")
    assert not third.kept
    assert isinstance(third.result, Report)
    assert third.result.comparisons[0].base.revision == hub.commit_id("examples/base")


def test_a_base_that_is_pinned_stays_while_its_repository_goes_on(settings: Settings, hub: LocalHub) -> None:
    pinned = hub.add_revision("examples/base", "v1", EXAMPLES / "base")
    card = hub.root / "examples" / "honest" / "README.md"
    card.write_text(card.read_text().replace("base_model: examples/base", "base_model: examples/base@v1"))
    (hub.root / "examples" / "base" / "NOTES.txt").write_text("new")
    found = answer(settings, "check", "examples/honest")
    assert isinstance(found.result, Report)
    assert found.result.comparisons[0].base.revision == pinned
    (hub.root / "examples" / "base" / "NOTES.txt").write_text("newer")
    assert answer(settings, "check", "examples/honest").kept
    hub.add_revision("examples/base", "v1", EXAMPLES / "twin")
    assert not answer(settings, "check", "examples/honest").kept, "the tag has moved"


def test_what_may_be_otherwise_next_time_is_not_kept(settings: Settings, hub: LocalHub) -> None:
    hub.faults.gated.add("examples/base")
    found = answer(settings, "check", "examples/honest")
    assert isinstance(found.result, Report)
    assert "LIN202" in {finding.code for finding in found.result.findings}
    assert not answer(settings, "check", "examples/honest").kept
    hub.faults.clear()
    found = answer(settings, "check", "examples/honest")
    assert isinstance(found.result, Report)
    assert found.result.verdict == "pass"


def test_what_a_token_opened_is_not_kept(settings: Settings, hub: LocalHub) -> None:
    pair = ("examples/base", "examples/base")
    hub.faults.gated.add("examples/base")
    assert not answer(settings, "compare", *pair, token=TOKEN).kept
    assert not answer(settings, "compare", *pair, token=TOKEN).kept
    assert settings.cache is not None and not list(settings.cache.rglob("*.json"))
    assert failure(settings, "compare", *pair).why == "denied"
    hub.faults.clear()
    answer(settings, "compare", *pair)
    assert not answer(settings, "compare", *pair, token=TOKEN).kept, "nor looked for"


def test_a_model_that_became_private_is_no_longer_answered_for(settings: Settings, hub: LocalHub) -> None:
    answer(settings, "compare", "examples/honest", "examples/base")
    hub.faults.private.add("examples/honest")
    assert failure(settings, "compare", "examples/honest", "examples/base").why == "missing"


def test_an_offered_model_is_known_by_its_files(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "honest", tmp_path / "mine")
    settings = replace(settings, models={**settings.models, "my:model": tmp_path / "mine"})
    assert not answer(settings, "compare", "my:model", "examples/base").kept
    assert answer(settings, "compare", "my:model", "examples/base").kept
    shutil.copytree(EXAMPLES / "liar", tmp_path / "mine", dirs_exist_ok=True)
    found = answer(settings, "compare", "my:model", "examples/base")
    assert not found.kept
    assert isinstance(found.result, Report)
    assert found.result.comparisons[0].relation == "unrelated"


# No answer ----------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_said_plainly(settings: Settings) -> None:
    missing = failure(settings, "compare", "examples/nowhere", "examples/base")
    assert (missing.why, missing.message) == (
        "missing",
        "There is no model examples/nowhere on the Hub, or it is private.",
    )
    assert failure(replace(settings, on_space=True), "check", "examples/nowhere").message.endswith("sign in here.")
    revision = failure(settings, "check", "examples/base@v9")
    assert revision.why == "missing"
    assert "there is no revision 'v9'" in revision.message


@pytest.mark.parametrize(
    ("on_space", "token", "way"),
    [
        (True, None, "accept its licence at {page}, then sign in here."),
        (True, OUTSIDER, "accept its licence at {page}, then sign in here with that account."),
        (False, OUTSIDER, "accept its licence at {page} with the account that this server asks the Hub with"),
        (False, None, "this server asks the Hub without an account."),
    ],
)
def test_a_gated_model_needs_its_licence_and_an_account(
    settings: Settings, hub: LocalHub, on_space: bool, token: str | None, way: str
) -> None:
    hub.faults.gated.add("examples/honest")
    denied = failure(replace(settings, on_space=on_space), "check", "examples/honest", token=token)
    assert denied.why == "denied"
    assert denied.message.startswith("The model examples/honest is gated: ")
    assert way.format(page=f"{hub.endpoint}/examples/honest") in denied.message


def test_a_token_that_the_hub_refuses_is_not_shown(settings: Settings) -> None:
    for on_space, what in ((True, "this sign-in"), (False, "the token that this server asks with")):
        denied = failure(replace(settings, on_space=on_space), "check", "examples/honest", token="hf_noSuchTokenAtAll")
        assert denied.why == "denied"
        assert what in denied.message and "noSuchToken" not in denied.message


def test_a_damaged_file_is_named(settings: Settings, hub: LocalHub) -> None:
    (hub.root / "examples" / "liar" / "model.safetensors").write_bytes(b"\xff" * 64)
    unreadable = failure(settings, "compare", "examples/liar", "examples/base")
    assert unreadable.why == "unreadable"
    assert "examples/liar" in unreadable.message and "model.safetensors" in unreadable.message


def test_a_hub_that_does_not_answer(settings: Settings, hub: LocalHub) -> None:
    hub.faults.rate_limit(None, retry_after=0)
    limited = failure(settings, "compare", "examples/liar", "examples/base")
    assert limited.why == "unreachable"
    assert "(HTTP 429)" in limited.message
    elsewhere = replace(settings, endpoint="http://user:secret@hub.example")
    for error in (
        HubNotFound("a/b", "there is no file"),
        HubUnreachable("a/b", "no connection"),
        HubError("a/b", "odd"),
    ):
        failed = failed_of(error, elsewhere, None)
        assert "a/b" in failed.message and error.problem in failed.message
        assert "secret" not in failed.message


def test_more_bytes_than_one_check_may_read(settings: Settings) -> None:
    limit = failure(replace(settings, bytes=1000), "compare", "examples/liar", "examples/base")
    assert limit.why == "limit"
    assert "--" not in limit.message


def test_questions_that_are_none(settings: Settings) -> None:
    assert failure(settings, "compare", "examples/base").message == "Name 2 models, not 1."
    assert failure(settings, "tree", *["a/b"] * 9).message == "Name 2 to 8 models, not 9."
    assert failure(settings, "check", "/etc").why == "usage"
    assert failure(settings, "scan", "examples/base").why == "usage"
    assert failure(settings, "burn", "examples/base").why == "usage"  # type: ignore[arg-type]
    registry = failure(replace(settings, registry="/no/such/registry"), "scan", "examples/base")
    assert "/no/such" not in registry.message


def test_a_defect_is_told_to_the_log_and_not_to_the_visitor(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*arguments: object, **named: object) -> None:
        raise RuntimeError(f"the inside of it, with {TOKEN} and hf_anotherTokenHere")

    monkeypatch.setattr("lineage_plugin.api.compare", defect)
    failed = failure(settings, "compare", "examples/liar", "examples/base", token=TOKEN)
    assert failed.why == "defect"
    assert "inside" not in failed.message
    written = capsys.readouterr().err
    assert "RuntimeError: the inside of it" in written
    assert TOKEN not in written and "anotherToken" not in written
