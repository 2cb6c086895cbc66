"""Inputs: what they may be, and what is said when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from action.inputs import MAX_MODELS, Inputs, read_inputs
from lineage_plugin.errors import UsageError
from lineage_plugin.report import formats

ACTION = yaml.safe_load((Path(__file__).parents[2] / "action.yml").read_text(encoding="utf-8"))


def test_nothing_given_is_what_action_yml_says() -> None:
    stated = {name: value["default"] for name, value in ACTION["inputs"].items() if "default" in value}
    given = {f"INPUT_{name.upper().replace('-', '_')}": value for name, value in stated.items()}
    assert read_inputs({}) == read_inputs(given) == Inputs()


def test_every_input_travels_by_environment_and_no_other_way() -> None:
    steps = ACTION["runs"]["steps"]
    passed = {name for step in steps for name in step.get("env", {}) if name.startswith("INPUT_")}
    assert passed == {f"INPUT_{name.upper().replace('-', '_')}" for name in ACTION["inputs"]}
    assert not any("${{" in step["run"] for step in steps if "run" in step)


def test_every_output_is_set_by_the_step_that_checks() -> None:
    stated = {name: value["value"] for name, value in ACTION["outputs"].items()}
    assert stated == {name: f"${{{{ steps.check.outputs.{name} }}}}" for name in stated}
    assert list(stated) == ["verdict", "relation", "log10-e", "findings", "report", "sarif", "predicate"]


def test_every_format_is_named() -> None:
    assert all(name in ACTION["inputs"]["format"]["description"] for name in formats())


def test_lists_are_lines_without_blanks_repeats_and_comments() -> None:
    found = read_inputs({"INPUT_MODEL": " models/a \n\n# an old one\nacme/b@main\nmodels/a\r\n"})
    assert found.models == ("models/a", "acme/b@main")


def test_everything_is_read() -> None:
    found = read_inputs(
        {
            "INPUT_MODEL": "a/b",
            "INPUT_BASE": "c/d\ne/f",
            "INPUT_CARD": "CARD.md",
            "INPUT_POLICY": "p.yml",
            "INPUT_FAIL_ON": "warning",
            "INPUT_FORMAT": "sarif",
            "INPUT_BUDGET": "64MB",
            "INPUT_HF_TOKEN": "hf_secret",
            "INPUT_ENDPOINT": "http://127.0.0.1:1",
            "INPUT_COMMENT": "findings",
            "INPUT_SARIF_FILE": "s",
            "INPUT_REPORT_FILE": "r",
            "INPUT_PREDICATE_FILE": "p",
        }
    )
    assert found == Inputs(
        models=("a/b",),
        bases=("c/d", "e/f"),
        card="CARD.md",
        policy="p.yml",
        fail_on="warning",
        format="sarif",
        budget=64_000_000,
        token="hf_secret",
        endpoint="http://127.0.0.1:1",
        comment="findings",
        report_file="r",
        sarif_file="s",
        predicate_file="p",
    )
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"INPUT_FAIL_ON": "errors"}, "input fail-on: 'errors' is not one of error, warning, note, never"),
        ({"INPUT_FORMAT": "xml"}, "input format: 'xml'"),
        ({"INPUT_COMMENT": "yes"}, "input comment: 'yes' is not one of true, findings, false"),
        ({"INPUT_BUDGET": "a lot"}, "input budget: 'a lot' is not a size"),
        ({"INPUT_BASE": "a/b"}, "input base: goes with exactly one model"),
        ({"INPUT_MODEL": "a/b\nc/d", "INPUT_BASE": "e/f"}, "input base: goes with exactly one model"),
        ({"INPUT_MODEL": "a/b\nc/d", "INPUT_CARD": "x"}, "input card: goes with exactly one model"),
        ({"INPUT_CARD": "a\nb"}, "input card: must be a single line"),
        ({"INPUT_MODEL": "a\0b"}, "input model: must be a single line"),
        ({"INPUT_MODEL": "--output=/etc/passwd"}, "input model: '--output=/etc/passwd' is neither"),
        ({"INPUT_MODEL": "\n".join(f"a/m{n}" for n in range(MAX_MODELS + 1))}, "split them over a matrix"),
        ({"INPUT_FAIL_ON": "::error::\x1b[31mx"}, "input fail-on"),
    ],
)
def test_wrong_inputs_are_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError) as error:
        read_inputs(given)
    assert said in str(error.value) and "\x1b" not in str(error.value) and "::" not in str(error.value)
