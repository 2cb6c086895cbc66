"""Adapters through the whole pipeline: `check` on real PEFT saves, from folders and from a Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from lineage_plugin import check
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options
from lineage_plugin.report.json_report import to_dict
from tests.adapters.builders import adapt, llama, saved
from tests.hub import LocalHub

TARGETS = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def carded(folder: Path, base: str) -> Path:
    (folder / "README.md").write_text(f"---\nbase_model: {base}\nbase_model_relation: adapter\n---\n")
    return folder


def codes(report: Report) -> list[str]:
    return sorted({found.code for found in report.findings} - {"LIN205"})


def test_a_lora_that_fits_proves_nothing_and_says_so(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path / "base")
    adapt(llama(), tmp_path / "lora", name="owner/base", **TARGETS)
    report = check(str(carded(tmp_path / "lora", "owner/base")), bases=[str(base)])
    (found,) = report.comparisons
    assert (found.relation, found.kind, report.verdict) == ("inconclusive", "adapter", "undecided")
    assert found.evidence.coins == 0 and "proves nothing" in found.summary
    assert any("no proof that it was made from it" in limit for limit in found.limits)
    assert "LIN101" not in codes(report)
    (told,) = [f for f in report.findings if f.code == "LIN304"]
    assert told.level == "note" and "exit code 3" in told.help
    # Headers alone tell what fits.
    assert report.cost.tensor_bytes == 0
    assert to_dict(report)["verdict"] == "undecided"


def test_a_lora_that_does_not_fit_refutes_the_base(tmp_path: Path) -> None:
    base = saved(llama(hidden_size=48), tmp_path / "base")
    adapt(llama(), tmp_path / "lora", name="owner/base", **TARGETS)
    report = check(str(carded(tmp_path / "lora", "owner/base")), bases=[str(base)])
    (found,) = report.comparisons
    assert (found.relation, report.verdict) == ("unrelated", "fail")
    (refuted,) = [f for f in report.findings if f.code == "LIN101"]
    assert refuted.level == "error" and "48" in refuted.message and "32" in refuted.message


def test_another_base_in_the_configuration_is_told(tmp_path: Path) -> None:
    base = saved(llama(), tmp_path / "base")
    adapt(llama(), tmp_path / "lora", name="owner/elsewhere", **TARGETS)
    report = check(str(carded(tmp_path / "lora", "owner/base")), bases=[str(base)])
    assert "LIN204" in codes(report)


def test_a_layer_saved_whole_is_tossed_for(tmp_path: Path) -> None:
    base = saved(llama(intermediate_size=512), tmp_path / "base")
    adapt(
        llama(intermediate_size=512),
        tmp_path / "same",
        name="owner/base",
        modules_to_save=["mlp"],
        target_modules=["q_proj"],
    )
    adapt(
        llama(7, intermediate_size=512),
        tmp_path / "other",
        name="owner/base",
        modules_to_save=["mlp"],
        target_modules=["q_proj"],
    )
    for name, dependent in (("same", True), ("other", False)):
        report = check(str(carded(tmp_path / name, "owner/base")), bases=[str(base)])
        (found,) = report.comparisons
        assert (found.evidence.log10_e > 9) is dependent, name
        assert found.relation == "unrelated" or dependent


@pytest.fixture
def hub(tmp_path: Path) -> LocalHub:
    return LocalHub(tmp_path / "hub")


def test_over_the_hub_only_headers_are_read(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub:
        saved(llama(), tmp_path / "hub" / "owner" / "base")
        adapt(llama(), tmp_path / "hub" / "owner" / "lora", name="owner/base", **TARGETS)
        carded(tmp_path / "hub" / "owner" / "lora", "owner/base")
        monkeypatch.chdir(tmp_path)
        report = check("owner/lora", options=Options(endpoint=hub.endpoint))
    (found,) = report.comparisons
    assert (found.base.id, found.relation, found.kind) == ("owner/base", "inconclusive", "adapter")
    assert report.cost.requests < 12
