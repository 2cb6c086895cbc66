"""The workflows of README and docs/ci.md, run as they are written there."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from lineage_plugin.report.predicate_report import PREDICATE_TYPE
from tests.action.runner import ACTION, ROOT, Run, Runner
from tests.action.server import REPOSITORY, TOKEN, GitHubServer
from tests.hub import TOKEN as HUB_TOKEN
from tests.hub import LocalHub

(SARIF_SCHEMA,) = (ROOT / "tests" / "report" / "schemas").glob("sarif-*.json")
PAGES = ("README.md", "docs/ci.md")
BLOCK = re.compile(r"^```yaml\n# \.github/workflows/(\S+)\n(.+?)^```$", re.MULTILINE | re.DOTALL)
WORKFLOWS = {
    f"{page}:{name}": text
    for page in PAGES
    for name, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    if ACTION in text
}


@pytest.fixture
def served(hub: LocalHub) -> LocalHub:
    """A Hub with the base that the examples declare, and models by the ids that the page uses."""
    shutil.copytree(ROOT / "examples" / "base", hub.root / "examples" / "base")
    for name in ("my-model", "my-model-chat"):
        shutil.copytree(ROOT / "examples" / "honest", hub.root / "my-org" / name)
    return hub


def change(runner: Runner, *models: str) -> dict[str, object]:
    """Change the cards of models on a branch, and return the event of its pull request."""
    before = runner.commit("first")
    for model in models:
        card = runner.repository / "models" / model / "README.md"
        card.write_text(card.read_text(encoding="utf-8") + "\nMore.\n", encoding="utf-8")
    ends = {"base": {"sha": before}, "head": {"sha": runner.commit("second"), "repo": {"full_name": REPOSITORY}}}
    return {"pull_request": {"number": 7, **ends}}


def run(runner: Runner, hub: LocalHub, name: str, **options: object) -> Run:
    variables = {"HF_ENDPOINT": hub.endpoint, "RECORDS": str(runner.folder / "records")}
    variables |= options.pop("environment", {})  # type: ignore[arg-type]
    return runner.run(WORKFLOWS[name], environment=variables, **options)  # type: ignore[arg-type]


def test_every_workflow_of_the_pages_is_run_here() -> None:
    run_here = set(re.findall(r'"((?:README|docs/ci)\.md:[a-z-]+\.yml)"', Path(__file__).read_text(encoding="utf-8")))
    assert run_here == set(WORKFLOWS)


@pytest.mark.parametrize("name", ["README.md:lineage.yml", "docs/ci.md:lineage.yml"])
def test_a_pull_request_is_answered(runner: Runner, served: LocalHub, github: GitHubServer, name: str) -> None:
    payload = change(runner, "honest", "liar")
    github_is = {"GITHUB_API_URL": github.address, "GITHUB_REPOSITORY": REPOSITORY}
    done = run(
        runner,
        served,
        name,
        event="pull_request",
        payload=payload,
        environment=github_is,
        secrets={"GITHUB_TOKEN": TOKEN},
    )
    assert not done.ok and done.outputs["verdict"] == "fail"
    assert {place["file"] for kind, place, _ in done.annotations if kind == "error" and "file" in place} == {
        "models/liar/README.md"
    }
    (comment,) = github.comments
    assert "models/honest" in comment["body"] and "models/twin" not in comment["body"]
    assert len(yaml.safe_load(WORKFLOWS["README.md:lineage.yml"])) == 3
    assert WORKFLOWS["README.md:lineage.yml"].count("\n") == 8


@pytest.mark.parametrize(("model", "uploaded"), [("honest", True), ("liar", False)])
def test_what_was_trained_is_uploaded_only_if_it_passes(
    runner: Runner, served: LocalHub, model: str, uploaded: bool
) -> None:
    rules = f"train:\n\tcp -r models/{model} out\nupload:\n\ttouch {runner.folder}/uploaded\n"
    (runner.repository / "Makefile").write_text(rules)
    runner.commit()
    done = run(runner, served, "docs/ci.md:train.yml")
    assert done.ok == uploaded == (runner.folder / "uploaded").exists(), done.log


def test_a_published_model_is_checked_every_night(runner: Runner, served: LocalHub) -> None:
    runner.commit()
    done = run(runner, served, "docs/ci.md:nightly.yml", event="schedule", secrets={"HF_TOKEN": HUB_TOKEN})
    assert done.ok, done.log
    assert done.outputs["verdict"] == "pass" and "my-org/my-model" in done.summary
    asked = [record for record in served.log.records(repo="my-org/my-model") if record.port == "hub"]
    assert asked and all(record.has_authorization for record in asked)


def test_many_models_have_a_job_each(runner: Runner, served: LocalHub) -> None:
    runner.commit()
    done = run(runner, served, "docs/ci.md:models.yml")
    assert done.ok and all(f"`my-org/{name}`" in done.summary for name in ("my-model", "my-model-chat"))


def test_findings_go_to_code_scanning(runner: Runner, served: LocalHub) -> None:
    payload = change(runner, "liar")
    done = run(
        runner,
        served,
        "docs/ci.md:code-scanning.yml",
        event="pull_request",
        payload=payload,
        environment={"GITHUB_REPOSITORY": REPOSITORY},
    )
    assert not done.ok
    log = json.loads((runner.folder / "records" / "SARIF").read_text(encoding="utf-8"))
    jsonschema.validate(log, json.loads(SARIF_SCHEMA.read_text(encoding="utf-8")))
    results = {result["ruleId"]: result for result in log["runs"][0]["results"]}
    where = results["LIN101"]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "models/liar/README.md" and where["region"]["startLine"] == 7


def test_the_answer_is_attested(runner: Runner, served: LocalHub) -> None:
    shutil.copytree(runner.repository / "models" / "honest", runner.repository / "model")
    runner.commit()
    done = run(runner, served, "docs/ci.md:attest.yml", event="push")
    assert done.ok, done.log
    records = runner.folder / "records"
    assert (records / "TYPE").read_text() == PREDICATE_TYPE
    predicate = json.loads((records / "PREDICATE").read_text(encoding="utf-8"))
    (model,) = predicate["models"]
    assert list(model["suspect"]["sha256"]) == ["model.safetensors"]
