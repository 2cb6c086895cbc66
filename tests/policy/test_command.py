"""Policies from the command line and from Python, on really trained checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lineage_plugin import Options, Policy, check, compare, lint, load_policy
from lineage_plugin.cli import main
from lineage_plugin.policy.load import load_preset
from lineage_plugin.policy.presets import PRESETS
from lineage_plugin.report.json_report import schema
from lineage_plugin.report.places import place

EXAMPLES = Path(__file__).parents[2] / "examples"

EXCEPTION = """\
version: 1
exceptions:
  - model: liar
    codes: [LIN101]
    reason: trained before the lab kept its cards
    expires: {day}
"""
FOREVER, OVER = EXCEPTION.format(day="9999-12-31"), EXCEPTION.format(day="2020-01-01")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with copies of the examples."""
    for name in ("base", "honest", "liar"):
        shutil.copytree(EXAMPLES / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def policy(content: str, path: str = ".lineage.yml") -> None:
    Path(path).write_text(content, encoding="utf-8")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main([*arguments, "--format", "json"])
    printed = capsys.readouterr()
    assert printed.err == ""
    document: dict[str, Any] = json.loads(printed.out)
    jsonschema.Draft202012Validator(schema()).validate(document)
    return code, document


LIAR = ("check", "liar", "--base", "base")


def test_an_exception_lets_a_model_pass_in_the_open(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *LIAR)[0] == 1
    policy(FOREVER)
    code, document = run(capsys, *LIAR)
    assert (code, document["verdict"]) == (0, "pass")
    assert document["settings"]["policy"] == {
        "file": ".lineage.yml",
        "off": [],
        "excepted": [
            {"code": "LIN101", "reason": "trained before the lab kept its cards", "expires": "9999-12-31"},
        ],
        "levels": [],
        "fail_on": None,
        "undecided": "undecided",
        "ignored": [],
        "preset": None,
        "denied": [],
    }
    (note,) = (found for found in document["findings"] if found["code"] == "LIN101")
    assert note["level"] == "note"
    assert "(excepted until 9999-12-31 by the policy: trained before the lab kept its cards)" in note["message"]
    # The sentence says what the weights say.
    assert "no trace of base" in document["summary"]
    assert main([*LIAR]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Policy .lineage.yml: excepted LIN101 until 9999-12-31 (trained before the lab kept its cards)" in text


def test_an_exception_ends(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy(OVER)
    code, document = run(capsys, *LIAR)
    assert (code, document["verdict"]) == (1, "fail")
    assert [found["code"] for found in document["findings"] if found["level"] != "note"] == ["LIN101", "LIN402"]
    (expired,) = (found for found in document["findings"] if found["code"] == "LIN402")
    line = Path(".lineage.yml").read_text(encoding="utf-8").splitlines()[expired["line"] - 1]
    assert expired["file"] == ".lineage.yml" and "model:" in line
    report = check("liar", bases=["base"], policy=load_policy(".lineage.yml"))
    assert {place(report, found.file) for found in report.findings} == {".lineage.yml", "liar/README.md"}


def test_a_publisher_cannot_excuse_himself(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy("fail-on: never\nlevels: {LIN101: off}\nbar: 999999\n" + FOREVER, "liar/.lineage.yml")
    code, document = run(capsys, *LIAR)
    assert (code, document["verdict"], document["settings"]["bar"]) == (1, "fail", 9)
    assert document["settings"]["policy"]["ignored"] == ["bar", "fail-on: never", "LIN101: off", "exceptions"]
    # Whoever names the file takes it for his own.
    code, document = run(capsys, *LIAR, "--policy", "liar/.lineage.yml")
    assert (code, document["settings"]["bar"], document["settings"]["policy"]["off"]) == (0, 999999, ["LIN101"])


def test_the_policy_beside_a_model_makes_it_stricter(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy("version: 1\nlevels: {LIN201: error}\nbases: {allow: [acme/*]}\n", "honest/.lineage.yml")
    code, document = run(capsys, "check", "honest", "--base", "base")
    assert (code, document["verdict"]) == (1, "fail")
    (found,) = (one for one in document["findings"] if one["code"] == "LIN401")
    assert (found["level"], found["file"], found["line"]) == ("error", "README.md", 7)
    assert document["summary"] == "honest: the policy does not allow examples/base as a base."


def test_options_come_before_the_policy(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy("version: 1\nbar: 12\nbudget: 64MB\nfail-on: note\n")
    honest = ("check", "honest", "--base", "base")
    code, document = run(capsys, *honest)
    assert (code, document["settings"]["bar"], document["settings"]["budget"]) == (1, 12, 64_000_000)
    code, document = run(capsys, *honest, "--bar", "8", "--budget", "32MB", "--fail-on", "error")
    assert (code, document["settings"]["bar"], document["settings"]["budget"]) == (0, 8, 32_000_000)


@pytest.mark.parametrize(("undecided", "code"), [("pass", 0), ("fail", 1), ("undecided", 3)])
def test_what_undecided_means(undecided: str, code: int, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy(f"version: 1\nundecided: {undecided}\n")
    answer, document = run(capsys, "check", "honest", "--offline")
    assert (answer, document["verdict"]) == (code, "undecided")


@pytest.mark.parametrize("level", ["off", "note"])
def test_unread_weights_never_pass(level: str, models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("honest/model.safetensors").write_bytes(b"\xff" * 64)
    policy(f"version: 1\nlevels: {{LIN302: {level}}}\n")
    code, document = run(capsys, "check", "honest", "--base", "base")
    assert (code, document["verdict"]) == (3, "undecided")


def test_compare_and_lint_have_it_too(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy("version: 1\nlevels: {LIN201: error, LIN205: off}\n", "rules.yml")
    code, document = run(capsys, "lint", "base", "--policy", "rules.yml")
    assert (code, document["verdict"]) == (1, "fail")
    code, document = run(capsys, "lint", "honest/README.md", "--policy", "rules.yml")
    assert (code, document["settings"]["policy"]["off"]) == (0, ["LIN205"])
    code, document = run(capsys, "compare", "honest", "base", "--policy", "rules.yml")
    assert (code, document["settings"]["policy"]["file"]) == (0, "rules.yml")


def test_scan_has_it_and_says_what_it_found_all_the_same(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "add", "base", "--registry", "known"]) == 0
    Path("honest/README.md").unlink()
    capsys.readouterr()
    scan = ("scan", "honest", "--registry", "known")
    assert run(capsys, *scan)[0] == 1
    policy("version: 1\nlevels: {LIN102: off}\n")
    code, document = run(capsys, *scan)
    assert (code, document["findings"], document["settings"]["policy"]["off"]) == (0, [], ["LIN102"])
    assert "shares learned weights with base" in document["summary"]
    policy("version: 1\nlevels: {LIN102: warning}\n")
    code, document = run(capsys, *scan)
    assert (code, [found["level"] for found in document["findings"]]) == (0, ["warning"])
    assert "shares learned weights with base" in document["summary"] and "as its base" not in document["summary"]


@pytest.mark.parametrize("command", [LIAR, ("lint", "liar"), ("compare", "liar", "base"), ("scan", "liar")])
def test_a_wrong_policy_is_one_line_and_code_2(
    command: tuple[str, ...], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy("version: 1\nfail_on: error\n", "p.yml")
    assert main([*command, "--policy", "p.yml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == 'lineage: error: p.yml:2: the policy has no "fail_on"; did you mean fail-on?\n'


def test_python_looks_for_no_file_and_takes_a_value(models: Path) -> None:
    policy(FOREVER)
    assert check("liar", bases=["base"]).verdict == "fail"
    assert check("liar", bases=["base"], policy=load_policy(".lineage.yml")).verdict == "pass"
    strict = Policy(bar=11, levels={"LIN201": "error"})
    assert lint("base", policy=strict).verdict == "fail"
    assert compare("honest", "base", policy=strict).settings.bar == 11
    assert compare("honest", "base", policy=strict, options=Options()).settings.bar == 9


def test_a_fingerprint_is_called_what_its_file_is_called(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A fingerprint may claim any id; exceptions are about the name that the user typed."""
    Path("prints").mkdir()
    assert main(["fingerprint", "liar", "-o", "prints/claims.safetensors", "--name", "acme/excused"]) == 0
    capsys.readouterr()
    policy(FOREVER.replace("model: liar", "model: acme/excused"))
    assert run(capsys, "check", "prints/claims.safetensors", "--base", "base")[0] == 1
    policy(FOREVER.replace("model: liar", "model: prints/*"))
    assert run(capsys, "check", "prints/claims.safetensors", "--base", "base")[0] == 0


def test_the_editors_find_the_schema_where_the_page_says() -> None:
    from lineage_plugin._links import HOME

    page = (EXAMPLES.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    path = "lineage_plugin/policy/lineage-policy-1.schema.json"
    assert f"# yaml-language-server: $schema={HOME}/raw/main/{path}\n" in page
    assert (EXAMPLES.parent / path).is_file()


def test_the_policy_of_the_page_is_one(tmp_path: Path) -> None:
    page = (EXAMPLES.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    block = page.partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "p.yml").write_text(block, encoding="utf-8")
    assert load_policy(tmp_path / "p.yml").exceptions[0].model == "acme/legacy-*"


def test_the_page_says_what_the_presets_do() -> None:
    page = (EXAMPLES.parent / "docs" / "policy.md").read_text(encoding="utf-8")
    for level, row in (("error", "errors besides"), ("warning", "warnings besides")):
        (line,) = (line for line in page.splitlines() if line.startswith(f"| {row}"))
        said = [code for code, stated in load_preset("strict").levels.items() if stated == level]
        assert line.split("|")[3].strip() == ", ".join(sorted(said))
    for name in PRESETS:
        assert f"[`{name}`](../lineage_plugin/policy/presets/{name}.yml)" in page


def test_a_comment_in_a_card_counts_as_far_as_the_policy_takes_it(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = Path("honest/README.md")
    text = card.read_text(encoding="utf-8")
    line = "base_model: examples/base"
    assert line in text
    card.write_text(text.replace(line, f"{line}  # lineage: ignore[LIN205] it never changes"), encoding="utf-8")

    def unpinned() -> tuple[int, str, str | None]:
        code, document = run(capsys, "lint", "honest")
        (found,) = (one for one in document["findings"] if one["code"] == "LIN205")
        return code, found["level"], found["ignored"]

    policy("version: 1\nlevels: {LIN205: error}\n")
    assert unpinned() == (0, "note", "it never changes")
    policy("version: 1\nlevels: {LIN205: error}\nignore-comments: deny\n")
    assert unpinned() == (1, "error", None)
    assert main(["lint", "honest"]) == 1
    assert "took no comment that ignores LIN205" in " ".join(capsys.readouterr().out.split())


def test_the_strict_preset_from_the_command_line(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "init", "--preset", "strict", "--quiet"]) == 0
    code, document = run(capsys, "check", "honest", "--base", "base")
    used = document["settings"]["policy"]
    assert (code, used["preset"], used["file"]) == (1, "strict", ".lineage.yml")
    assert {"code": "LIN205", "was": "note", "now": "error"} in used["levels"]
    assert document["comparisons"][0]["relation"] == "derived"
