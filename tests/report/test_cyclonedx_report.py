"""The ML-BOM: the official schema, and that nothing the evidence refutes is ever called an ancestor."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from packageurl import PackageURL

from lineage_plugin import check, compare
from lineage_plugin.findings import finding
from lineage_plugin.judge.types import (
    Declared,
    Direction,
    Evidence,
    Excepted,
    Interval,
    PolicyUse,
    Report,
    Settings,
)
from lineage_plugin.report import render, render_all
from tests.report import samples

ROOT = Path(__file__).parents[2]
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def bom_of(*reports: Report) -> dict[str, Any]:
    text = render_all(reports, "cyclonedx")
    problem = VALIDATOR.validate_str(text)
    assert problem is None, problem
    assert text == render_all(reports, "cyclonedx"), "not the same bytes"
    return dict(json.loads(text))


def subject_of(report: Report) -> dict[str, Any]:
    return dict(bom_of(report)["metadata"]["component"])


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in component["properties"]}


def names(components: Sequence[dict[str, Any]]) -> list[str]:
    return [properties(one)["lineage:id"] for one in components]


@pytest.mark.parametrize("make", samples.ALL)
def test_every_kind_of_report_satisfies_the_official_schema(make: Callable[[], Report]) -> None:
    document = bom_of(make())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"]["type"] == "machine-learning-model"


def test_the_schema_can_refuse() -> None:
    document = bom_of(samples.derived())
    document["metadata"]["component"]["pedigree"]["parents"] = []
    assert VALIDATOR.validate_str(json.dumps(document)) is not None


def test_the_library_reads_it_back() -> None:
    document = bom_of(samples.derived())
    document["metadata"]["component"].pop("modelCard")  # which the library does not know
    read: Bom = Bom.from_json(document)  # type: ignore[attr-defined]
    assert read.metadata.component is not None and read.metadata.component.pedigree is not None
    assert [one.name for one in read.metadata.component.pedigree.ancestors] == ["zoo/atlas"]


def test_a_base_that_the_weights_support_is_an_ancestor_with_its_evidence() -> None:
    subject = subject_of(samples.derived())
    (ancestor,) = subject["pedigree"]["ancestors"]
    facts = properties(ancestor)
    assert facts["lineage:id"] == "zoo/atlas"
    assert facts["lineage:relation"] == "derived"
    assert (facts["lineage:log10_e"], facts["lineage:coins"], facts["lineage:heads"]) == ("459.83", "1536", "1536")
    assert (facts["lineage:exact"], facts["lineage:calibrated"], facts["lineage:kind"]) == ("true", "false", "finetune")
    assert facts["lineage:kept"] == "0.9812"
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert "1,536 came up heads" in subject["pedigree"]["notes"]
    assert "copied from" not in json.dumps(subject)


@pytest.mark.parametrize("make", [samples.unrelated, samples.twin, samples.inconclusive, samples.searched])
def test_what_the_evidence_does_not_support_is_no_ancestor(make: Callable[[], Report]) -> None:
    report = make()
    subject = subject_of(report)
    assert "ancestors" not in subject["pedigree"] and "variants" not in subject["pedigree"]
    facts = properties(subject)
    assert facts["lineage:compared:1:base"] == "zoo/atlas"
    assert facts["lineage:compared:1:relation"] == report.comparisons[0].relation
    assert not any("ancestor" in name for name in facts), "a name must not refute what is open"
    assert facts["lineage:declared:base"] == "zoo/atlas"
    assert subject["pedigree"]["notes"].startswith("zoo/atlas: ")


UNDECLARED = Declared((), None, None, None, None)


def test_a_declared_copy_has_an_ancestor_and_no_coins_in_its_notes() -> None:
    subject = subject_of(samples.identical())
    assert names(subject["pedigree"]["ancestors"]) == ["zoo/atlas"]
    assert "coin" not in subject["pedigree"]["notes"]


def test_a_copy_of_what_nobody_declared_is_no_descendant_of_it() -> None:
    pedigree = subject_of(replace(samples.identical(), declared=UNDECLARED))["pedigree"]
    assert "ancestors" not in pedigree
    assert names(pedigree["variants"]) == ["zoo/atlas"]


def test_no_model_is_its_own_ancestor() -> None:
    base = str(ROOT / "examples/base")
    pedigree = subject_of(check(base, bases=[base]))["pedigree"]
    assert "ancestors" not in pedigree
    assert names(pedigree["variants"]) == [base]


@pytest.mark.parametrize(
    ("declared", "indication", "row"),
    [
        (("zoo/atlas",), "suspect-from-base", "ancestors"),
        (("zoo/atlas",), "unclear", "ancestors"),
        (("zoo/atlas@v1",), "unclear", "ancestors"),
        (("zoo/atlas",), "siblings", "variants"),
        (("zoo/atlas",), "base-from-suspect", "variants"),
        (("zoo/other",), "suspect-from-base", "ancestors"),
        (("zoo/other",), "unclear", "variants"),
        ((), "unclear", "variants"),
        (("zoo/other",), "siblings", "variants"),
    ],
)
def test_an_ancestor_is_declared_or_indicated(declared: tuple[str, ...], indication: Any, row: str) -> None:
    one = samples.comparison(direction=Direction(indication, 0.9, 0.9))
    pedigree = subject_of(samples.report(one, declared=Declared(declared, None, None, "README.md", 1)))["pedigree"]
    assert [name for name in ("ancestors", "variants") if name in pedigree] == [row]


@pytest.mark.parametrize("indication", ["base-from-suspect", "siblings"])
def test_a_relative_that_does_not_look_like_the_parent_is_a_variant(indication: Any) -> None:
    turned = samples.report(samples.comparison(direction=Direction(indication, 0.6, 0.97)))
    pedigree = subject_of(turned)["pedigree"]
    assert "ancestors" not in pedigree
    assert names(pedigree["variants"]) == ["zoo/atlas"]


def weighed(low: float, high: float, **fields: object) -> Report:
    """A merge in which the second parent has a weight."""
    first, second, rest = samples.merged_from().parents
    other = replace(second, weight=(low + high) / 2, low=low, high=high)
    return replace(samples.merged(), merge=samples.merged_from(parents=(first, other, rest), **fields))


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [
        (0.6997, 0.7002, True),
        (-0.001, 0.002, False),
        (-0.3, -0.2, True),
        (0.001, 0.01, True),
        (-0.05, 0.3, True),
        (-4.0, 5.0, True),
    ],
)
def test_a_merge_has_all_its_parents_but_the_one_that_left_no_trace(low: float, high: float, holds: bool) -> None:
    pedigree = subject_of(weighed(low, high))["pedigree"]
    found = {row: set(names(pedigree.get(row, ()))) for row in ("ancestors", "variants")}
    silent = set() if holds else {"zoo/atlas-chat"}
    assert found == {"ancestors": {"zoo/atlas-docs", "zoo/atlas-chat"} - silent, "variants": silent}


def test_a_policy_moves_no_parent() -> None:
    """The weights say that a parent left no trace, whether or not a finding is left that says so."""
    report = weighed(-0.001, 0.002)
    said = finding("LIN106", "zoo/atlas-chat adds nothing to the merge that the other parents lack: weight 0.00")
    silenced = Settings(policy=PolicyUse("p.yml", off=("LIN106",)))
    loud, quiet = (subject_of(replace(report, findings=(said,))), subject_of(replace(report, settings=silenced)))
    assert names(loud["pedigree"]["variants"]) == names(quiet["pedigree"]["variants"]) == ["zoo/atlas-chat"]
    # Nor is a finding enough, where the weights say otherwise.
    assert "variants" not in subject_of(replace(samples.merged(), findings=(said,)))["pedigree"]


def test_the_common_ancestor_of_a_merge_stays_an_ancestor() -> None:
    one = samples.comparison(base=samples.model("zoo/atlas"), kind="merge", direction=Direction("unclear", 0.9, 0.9))
    card = Declared(("zoo/atlas-docs", "zoo/atlas-chat", "zoo/atlas"), "merge", None, "README.md", 3)
    report = replace(samples.merged(), comparisons=(*samples.merged().comparisons, one), declared=card)
    assert "zoo/atlas" in names(subject_of(report)["pedigree"]["ancestors"])


def test_a_policy_is_mentioned() -> None:
    used = PolicyUse("p.yml", off=("LIN101",), excepted=(Excepted("LIN107", "old", "2999-01-01"),))
    facts = properties(subject_of(samples.report(samples.comparison(), settings=Settings(policy=used))))
    assert facts["lineage:policy"] == "p.yml: left out LIN101; excepted LIN107 until 2999-01-01 (old)"
    assert "lineage:policy" not in properties(subject_of(samples.derived()))


def test_a_pair_of_which_nothing_was_claimed_has_not_passed() -> None:
    pair = compare(str(ROOT / "examples/liar"), str(ROOT / "examples/base"))
    assert "lineage:verdict" not in properties(subject_of(pair))
    assert properties(subject_of(samples.derived()))["lineage:verdict"] == "pass"


def test_the_notes_say_what_was_assumed() -> None:
    notes = subject_of(samples.derived())["pedigree"]["notes"]
    assert "Token embeddings and the language-model head were not compared." in notes.splitlines()[0]
    assert "always told apart by calibrated statistics" in notes
    assert "always told apart" not in subject_of(samples.no_base()).get("pedigree", {}).get("notes", "")


def test_a_declared_base_that_was_not_compared_is_said_to_be() -> None:
    report = replace(samples.no_base(), declared=Declared(("gone/base",), None, None, "README.md", 2))
    subject = subject_of(report)
    assert subject["pedigree"] == {"notes": "gone/base: declared, and not compared."}


def test_models_of_the_hub_have_a_purl_at_the_commit() -> None:
    report = samples.report(
        samples.comparison(base=samples.model("Org/Base.V1", revision=COMMIT)),
        suspect=samples.model("Org/Mine/x.gguf", revision=COMMIT),
    )
    subject = subject_of(report)
    purl = PackageURL.from_string(subject["purl"])
    assert (purl.type, purl.namespace, purl.name, purl.version) == ("huggingface", "Org", "Mine", COMMIT)
    assert (subject["group"], subject["name"], subject["version"]) == ("Org", "Mine", COMMIT)
    assert {one["type"]: one["url"] for one in subject["externalReferences"]} == {
        "distribution": f"https://huggingface.co/Org/Mine/tree/{COMMIT}",
        "model-card": f"https://huggingface.co/Org/Mine/blob/{COMMIT}/README.md",
    }
    assert subject["pedigree"]["ancestors"][0]["purl"] == f"pkg:huggingface/Org/Base.V1@{COMMIT}"


def test_folders_that_look_like_ids_have_none() -> None:
    subject = subject_of(replace(samples.derived(), folder="zoo/atlas-docs"))
    assert "purl" not in subject and "externalReferences" not in subject
    assert "purl" not in subject["pedigree"]["ancestors"][0]
    assert subject["name"] == "zoo/atlas-docs"


def test_several_files_are_parts_with_their_own_digest() -> None:
    digests = {f"model-{i}.safetensors": f"{i:064x}" for i in range(3)}
    subject = subject_of(samples.report(suspect=samples.model("a/b", sha256={**digests, "bad": "no digest"})))
    assert "hashes" not in subject
    found = {part["name"]: part["hashes"][0]["content"] for part in subject["components"]}
    assert found == digests
    assert {part["type"] for part in subject["components"]} == {"file"}


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("apache-2.0", {"license": {"id": "Apache-2.0", "acknowledgement": "declared"}}),
        ("llama3.1", {"license": {"name": "llama3.1", "acknowledgement": "declared"}}),
        ("MIT AND (", {"license": {"name": "MIT AND (", "acknowledgement": "declared"}}),
    ],
)
def test_a_licence_is_written_as_declared(declared: str, written: dict[str, Any]) -> None:
    subject = subject_of(samples.report(declared=Declared((), None, declared, "README.md", 1)))
    assert subject["licenses"] == [written]


def test_the_model_card_names_the_architecture() -> None:
    assert subject_of(samples.derived())["modelCard"] == {"modelParameters": {"modelArchitecture": "llama"}}


def test_the_findings_and_the_settings_are_there() -> None:
    subject = subject_of(samples.unrelated())
    said = [one["value"] for one in subject["properties"] if one["name"] == "lineage:finding"]
    assert any(text.startswith("LIN101 error: ") for text in said) and len(said) == 2
    facts = properties(subject)
    assert (facts["lineage:bar"], facts["lineage:seed"], facts["lineage:verdict"]) == ("9", "0", "fail")
    assert "lineage:budget" not in facts


def test_the_serial_number_is_that_of_the_content() -> None:
    first, other = bom_of(samples.derived()), bom_of(samples.unrelated())
    assert first["serialNumber"] != other["serialNumber"]
    assert first["metadata"]["timestamp"] == samples.CREATED
    again = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tests.report import samples; from lineage_plugin.report import render;"
            "print(render(samples.merged(), 'cyclonedx'), end='')",
        ],
        cwd=ROOT,
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout == render(samples.merged(), "cyclonedx")


@pytest.mark.parametrize("number", [0, 2, len(samples.ALL)])
def test_several_models_are_components_of_one_document(number: int) -> None:
    reports = [make() for make in samples.ALL[:number]]
    document = bom_of(*reports)
    assert [one["bom-ref"] for one in document.get("components", ())] == sorted(
        one["bom-ref"] for one in document.get("components", ())
    ) or len(document["components"]) == number
    assert len(document.get("components", ())) == number
    assert "component" not in document["metadata"]


def test_a_real_model_and_a_real_liar() -> None:
    honest, liar = (
        check(str(ROOT / "examples" / name), bases=[str(ROOT / "examples/base")]) for name in ("honest", "liar")
    )
    assert len(subject_of(honest)["pedigree"]["ancestors"]) == 1
    assert "ancestors" not in subject_of(liar)["pedigree"]


def test_the_library_is_asked_for_in_one_line_when_it_is_missing() -> None:
    script = (
        "import sys; sys.modules['cyclonedx.model'] = None\n"
        "from tests.report import samples\nfrom lineage_plugin.errors import UsageError\n"
        "from lineage_plugin.report import render\n"
        "try: render(samples.derived(), 'cyclonedx')\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert "pip install 'lineage-plugin[sbom]'" in done.stdout


def _strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [value] if isinstance(value, str) else []


def test_nothing_a_stranger_wrote_is_obeyed() -> None:
    used = PolicyUse(samples.HOSTILE, excepted=(Excepted("LIN203", samples.HOSTILE, "2999-01-01"),))
    for text in _strings(bom_of(replace(samples.hostile(), settings=Settings(policy=used)))):
        assert not any(unicodedata.category(sign) in ("Cc", "Cf", "Cs") for sign in text if sign != "\n"), text
        assert "::" not in text and "##[" not in text


@settings(deadline=None, max_examples=30)  # the schema is large
@given(st.text(), st.one_of(st.none(), st.text()), st.floats(allow_nan=True))
def test_any_text_and_number_gives_a_valid_document(text: str, maybe: str | None, number: float) -> None:
    model = samples.model(text, revision=maybe, architecture=maybe, format=maybe, sha256={text: "0" * 64, "b": text})
    one = samples.comparison(
        base=model,
        evidence=Evidence(number, 4, 2, True),
        kept=Interval(number, number, None),
        summary=text,
        part=text,
    )
    report = samples.report(
        *(one, replace(one, relation="unrelated")),
        suspect=model,
        declared=Declared((text,), maybe, maybe, maybe, 1),
        findings=(finding("LIN106", text),),
        summary=text,
    )
    bom_of(report)
