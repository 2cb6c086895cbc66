"""The predicate: its schema, the JSON report it is a part of, and the statement that signers make of it."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement

from lineage_plugin import Options, check, compare, fingerprint_model
from lineage_plugin.findings import finding
from lineage_plugin.judge.types import Declared, Evidence, Interval, Report
from lineage_plugin.report import render, render_all
from lineage_plugin.report.json_report import to_dict
from lineage_plugin.report.predicate_report import LIMITS, PREDICATE_TYPE, schema
from tests.report import samples

ROOT = Path(__file__).parents[2]
VALIDATOR = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())


def predicate_of(*reports: Report) -> dict[str, Any]:
    document = json.loads(render_all(reports, "predicate"))
    VALIDATOR.validate(document)
    return dict(document)


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("make", samples.ALL)
def test_every_kind_of_report_satisfies_the_schema(make: Callable[[], Report]) -> None:
    predicate_of(make())


def test_one_model_and_several_have_one_shape() -> None:
    one = json.loads(render(samples.derived(), "predicate"))
    many = predicate_of(*(make() for make in samples.ALL))
    assert list(one) == list(many) == ["tool", "models", "limits"]
    assert [len(one["models"]), len(many["models"])] == [1, len(samples.ALL)]
    assert many["models"][0] == one["models"][0]
    assert predicate_of()["models"] == []


def within(part: Any, whole: Any, path: str = "") -> None:
    """Assert that a value is the other one, or holds some of its fields."""
    if isinstance(part, dict) and isinstance(whole, dict):
        for name, value in part.items():
            assert name in whole, f"{path}.{name}"
            within(value, whole[name], f"{path}.{name}")
    elif isinstance(part, list) and isinstance(whole, list):
        assert len(part) == len(whole), path
        for number, value in enumerate(part):
            within(value, whole[number], f"{path}.{number}")
    else:
        assert part == whole, path


@pytest.mark.parametrize("make", samples.ALL)
def test_it_says_what_the_json_report_says_under_the_same_names(make: Callable[[], Report]) -> None:
    (model,) = predicate_of(make())["models"]
    if model["verdict"] is None:
        assert make is samples.pair
        del model["verdict"]
    within(model, to_dict(make()))


def test_it_holds_the_answer() -> None:
    (model,) = predicate_of(samples.unrelated())["models"]
    assert model["suspect"] == {"id": "zoo/draco", "revision": None, "sha256": {"model.safetensors": "ab" * 32}}
    assert model["verdict"] == "fail"
    assert model["findings"][0] == {
        "code": "LIN101",
        "level": "error",
        "message": "The declared base zoo/atlas is not supported by the weights: 1,520 of 3,072 coins came up heads",
    }
    (one,) = model["comparisons"]
    assert one["relation"] == "unrelated"
    assert one["evidence"] == {"log10_e": -1.43, "coins": 3072, "heads": 1520, "exact": True}
    assert one["calibrated"] is None
    assert model["settings"]["bar"] == 9
    hidden = predicate_of(samples.disguised())["models"][0]["comparisons"][0]
    assert hidden["calibrated"] == {"log10_value": 168.35, "pairs": 276, "models": 24}


def test_what_it_does_not_show_is_part_of_it() -> None:
    limits = predicate_of(samples.derived())["limits"]
    assert limits == list(LIMITS)
    said = " ".join(limits)
    assert "derived and shared-init are always told apart by calibrated statistics" in said
    assert "identified by its revision or its sha256, never by its id" in said
    assert "it makes no answer right" in said and "distillation" in said and "is none" in said


@pytest.mark.parametrize(("suspect", "relation"), [("liar", "unrelated"), ("honest", "derived"), ("base", "identical")])
def test_a_pair_of_which_nothing_was_claimed_has_not_passed(suspect: str, relation: str) -> None:
    report = compare(str(ROOT / "examples" / suspect), str(ROOT / "examples/base"))
    assert report.verdict == "pass"
    (model,) = predicate_of(report)["models"]
    assert (model["verdict"], model["comparisons"][0]["relation"]) == (None, relation)


def test_a_model_that_declares_nothing_passes_without_a_comparison() -> None:
    (model,) = predicate_of(check(str(ROOT / "examples/base")))["models"]
    assert (model["verdict"], model["comparisons"]) == ("pass", [])


def files_of(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


@pytest.mark.parametrize("suspect", ["honest", "liar", "base"])
def test_a_base_is_known_by_its_digests_whatever_its_folder_is_called(
    suspect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path("meta-llama/Llama-3-8B")
    shutil.copytree(ROOT / "examples/base", named)
    shutil.copytree(ROOT / "examples" / suspect, "mine")
    read = []
    for options in (Options(digests=True), Options()):
        reports = check("mine", bases=[str(named)], options=options), compare("mine", str(named), options=options)
        known = files_of(named) if options.digests or suspect == "base" else {}  # a copy is told by its digests
        for report in reports:
            (one,) = predicate_of(report)["models"][0]["comparisons"]
            assert one["base"] == {"id": str(named), "revision": None, "sha256": known}
        read.append([report.comparisons[0].base_cost.bytes_read for report in reports])
    assert read[0] == read[1], "hashing is no part of what the comparison read"


def test_a_base_has_digests_beside_a_fingerprint_of_the_suspect(tmp_path: Path) -> None:
    (tmp_path / "mine.lineage").write_bytes(fingerprint_model(str(ROOT / "examples/honest")))
    base = ROOT / "examples/base"
    report = compare(str(tmp_path / "mine.lineage"), str(base), options=Options(digests=True))
    assert dict(report.comparisons[0].base.sha256) == files_of(base)


@pytest.mark.parametrize("liar", [False, True])
def test_the_statement_that_a_signer_makes_of_it_is_valid(liar: bool) -> None:
    """What actions/attest does: name and sha256 of the file under subject-path, predicate-type, predicate-path."""
    file = ROOT / "examples" / ("liar" if liar else "honest") / "model.safetensors"
    report = check(str(file.parent), bases=[str(ROOT / "examples/base")])
    predicate = json.loads(render(report, "predicate"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    subject = ResourceDescriptor(name=file.name, digest={"sha256": digest})
    statement = Statement([subject.pb], PREDICATE_TYPE, predicate)
    statement.validate()
    signed = json.loads(json_format.MessageToJson(statement.pb))
    assert signed["_type"] == "https://in-toto.io/Statement/v1"
    assert signed["predicateType"] == PREDICATE_TYPE
    assert signed["subject"] == [{"name": "model.safetensors", "digest": {"sha256": digest}}]
    # Signers keep numbers as they keep all JSON numbers; the predicate that comes out is the one that went in.
    assert signed["predicate"] == predicate
    VALIDATOR.validate(signed["predicate"])
    assert signed["predicate"]["models"][0]["verdict"] == ("fail" if liar else "pass")


def test_a_statement_without_a_digest_would_be_refused() -> None:
    predicate = predicate_of(samples.derived())
    with pytest.raises(ValueError, match="digest"):
        Statement([ResourceDescriptor(name="f").pb], PREDICATE_TYPE, predicate).validate()


def test_the_type_is_the_page_that_describes_it() -> None:
    page, _, version = PREDICATE_TYPE.partition("#")
    text = (ROOT / "docs" / page.rpartition("/")[2]).read_text(encoding="utf-8")
    assert PREDICATE_TYPE in text
    assert f'<a id="{version}"></a>' in text


def test_the_example_of_the_page_is_what_the_command_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (shown,) = (
        part.partition("```")[0] for part in Path("docs/predicate.md").read_text("utf-8").split("```json\n")[1:]
    )

    def rounded(text: str) -> Any:
        return json.loads(text, parse_float=lambda digits: round(float(digits), 6))

    statement = rounded(shown)
    assert statement["predicateType"] == PREDICATE_TYPE
    digest = hashlib.sha256(Path("examples/liar/model.safetensors").read_bytes()).hexdigest()
    assert statement["subject"] == [{"name": "model.safetensors", "digest": {"sha256": digest}}]
    VALIDATOR.validate(statement["predicate"])
    fresh = rounded(render(check("examples/liar", bases=["examples/base"], options=Options(digests=True)), "predicate"))
    for predicate in (fresh, statement["predicate"]):
        del predicate["tool"], predicate["models"][0]["created"]
    assert statement["predicate"] == fresh


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict) and "sha256" not in path:
            yield (*path, key)
        yield from _paths(inner, (*path, key))


def test_every_field_is_required_and_no_other_is_allowed() -> None:
    document = predicate_of(samples.disguised(), samples.unrelated())
    paths = list(_paths(document))
    assert len(paths) > 60
    for path in paths:
        for spoil in ("missing", "other"):
            wrong = copy.deepcopy(document)
            target = wrong
            for part in path[:-1]:
                target = target[part]
            if spoil == "missing":
                del target[path[-1]]
            else:
                target[f"{path[-1]}_"] = 1
            assert not VALIDATOR.is_valid(wrong), (path, spoil)


def test_the_text_is_ascii_without_controls() -> None:
    text = render(samples.hostile(), "predicate")
    assert all(character == "\n" or " " <= character <= "~" for character in text)
    assert "http://x" in text  # nothing was lost: a program still sees what the card said


@settings(deadline=None)
@given(st.text(), st.floats(allow_nan=True), st.one_of(st.none(), st.text()))
def test_any_text_and_number_gives_a_valid_predicate(text: str, number: float, maybe: str | None) -> None:
    model = samples.model(text, revision=maybe, sha256={text: "0" * 64})
    one = samples.comparison(base=model, kept=Interval(number, None, number), limits=(text,), part=text)
    predicate = predicate_of(
        samples.report(
            one,
            suspect=model,
            declared=Declared((text,), maybe, maybe, maybe, None),
            findings=(finding("LIN203", text, file=maybe),),
            summary=text,
        )
    )
    Statement([ResourceDescriptor(name="f", digest={"sha256": "0" * 64}).pb], PREDICATE_TYPE, predicate).validate()


def test_numbers_that_are_not_finite_become_null() -> None:
    bad = samples.comparison(
        kept=Interval(float("nan"), float("-inf"), float("inf")), evidence=Evidence(1.0, 4, 4, True)
    )
    assert set(predicate_of(samples.report(bad))["models"][0]["comparisons"][0]["kept"].values()) == {None}
