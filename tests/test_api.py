"""The pipeline on really trained checkpoints, from folders and from the local Hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lineage_plugin
from benchmarks.synthetic import Shape, write
from lineage_plugin import HubDenied, HubNotFound, InputError, Options, UsageError, check, compare, lint
from lineage_plugin.judge.types import Report
from tests.hub import LocalHub

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = Shape(layers=6, width=1024, units=2816, heads=8, kv_heads=2, vocabulary=512)


def codes(report: Report) -> list[str]:
    return [found.code for found in report.findings if found.level != "note"]


def example(name: str) -> str:
    return str(EXAMPLES / name)


def altered(folder: Path, name: str, change) -> str:  # type: ignore[no-untyped-def]
    """A copy of the honest example whose tensors went through ``change``."""
    target = folder / name
    shutil.copytree(EXAMPLES / "honest", target)
    tensors = load_file(target / "model.safetensors")
    save_file(change(tensors), target / "model.safetensors")
    return str(target)


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suspect", "verdict", "relation", "expected"),
    [
        ("honest", "pass", "derived", []),
        ("twin", "fail", "shared-init", ["LIN107"]),
        ("liar", "fail", "unrelated", ["LIN101"]),
        ("base", "pass", "identical", ["LIN201", "LIN104"]),
    ],
)
def test_examples(suspect: str, verdict: str, relation: str, expected: list[str]) -> None:
    report = check(example(suspect), bases=[example("base")])
    assert (report.verdict, report.comparisons[0].relation, codes(report)) == (verdict, relation, expected)
    evidence = report.comparisons[0].evidence
    if relation == "unrelated":
        assert evidence.log10_e < 3
    if relation in ("derived", "shared-init"):
        assert evidence.log10_e > 100
        assert evidence.exact


def test_compare_looks_at_no_card() -> None:
    report = compare(example("liar"), example("base"))
    assert report.declared.bases == ()
    assert report.comparisons[0].relation == "unrelated"
    assert report.findings == ()


def test_a_model_without_a_base_passes_with_a_warning() -> None:
    report = check(example("base"))
    assert (report.verdict, codes(report), report.comparisons) == ("pass", ["LIN201"], ())
    assert "declares no base" in report.summary


def test_kept_share_and_direction_of_the_honest_example() -> None:
    comparison = compare(example("honest"), example("base")).comparisons[0]
    assert comparison.kept.low is not None
    assert 0.9 < comparison.kept.low <= comparison.kept.high <= 1.05  # type: ignore[operator]
    assert comparison.inheritance.low > 0.75  # type: ignore[operator]
    assert len(comparison.inheritance.curve) == 10
    assert comparison.direction.indication in ("suspect-from-base", "unclear")


def test_the_answer_does_not_depend_on_the_seed() -> None:
    for name, relation in (("honest", "derived"), ("twin", "shared-init"), ("liar", "unrelated")):
        for seed in range(3):
            assert (
                compare(example(name), example("base"), options=Options(seed=seed)).comparisons[0].relation == relation
            )


def test_exhaustive_reads_every_unit() -> None:
    sampled = compare(example("liar"), example("base")).comparisons[0]
    report = compare(example("liar"), example("base"), options=Options(exhaustive=True))
    whole = report.comparisons[0]
    assert whole.relation == "unrelated"
    # 4 layers of 256 gated neurons, 2 value heads of 16 or so, and rotary pairs: all of them.
    assert whole.evidence.coins >= sampled.evidence.coins >= 4 * (128 + 256)
    assert whole.suspect_cost.tensor_bytes >= sampled.suspect_cost.tensor_bytes
    assert set(report.suspect.sha256) == {"model.safetensors"}


def test_one_layer_replaced_is_partial_and_named(tmp_path: Path) -> None:
    other = load_file(EXAMPLES / "liar" / "model.safetensors")
    path = altered(tmp_path, "partial", lambda t: {k: other[k] if ".layers.2." in k else v for k, v in t.items()})
    comparison = compare(path, example("base")).comparisons[0]
    assert (comparison.relation, comparison.kind) == ("derived", "partial")
    assert any("layers without a trace of the base: 2" in change for change in comparison.changes)
    report = check(path, bases=[example("base")])
    assert codes(report) == ["LIN109"]
    assert "consistent in part" in report.summary


def test_a_float8_copy_is_quantized(tmp_path: Path) -> None:
    path = altered(
        tmp_path, "fp8", lambda t: {k: v.astype(ml_dtypes.float8_e4m3fn) if v.ndim == 2 else v for k, v in t.items()}
    )
    report = check(path, bases=[example("base")])
    assert (report.comparisons[0].relation, report.comparisons[0].kind) == ("derived", "quantized")
    assert codes(report) == ["LIN103"]


def test_a_dropped_layer_is_recognised(tmp_path: Path) -> None:
    path = altered(tmp_path, "shallow", lambda t: {k: v for k, v in t.items() if ".layers.3." not in k})
    config = json.loads((Path(path) / "config.json").read_text())
    (Path(path) / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    report = check(path, bases=[example("base")])
    comparison = report.comparisons[0]
    assert (report.verdict, comparison.relation, comparison.kind) == ("pass", "derived", "pruned")
    assert comparison.evidence.exact
    assert any("3 layers against the base's 4" in change for change in comparison.changes)
    assert [(row.suspect, row.base) for row in comparison.layers] == [("0", "0"), ("1", "1"), ("2", "2")]


def test_relabelled_copies_are_told_as_far_as_theory_allows(tmp_path: Path) -> None:
    """Flipped units: sign coins are blind, swap coins are not (method, evasion table)."""
    rng = np.random.default_rng(0)

    def flip(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        changed = dict(tensors)
        for layer in range(4):
            name = f"model.layers.{layer}.mlp"
            sign = rng.choice([-1.0, 1.0], tensors[f"{name}.up_proj.weight"].shape[0])
            changed[f"{name}.up_proj.weight"] = (tensors[f"{name}.up_proj.weight"] * sign[:, None]).astype(
                ml_dtypes.bfloat16
            )
            changed[f"{name}.down_proj.weight"] = (tensors[f"{name}.down_proj.weight"] * sign[None, :]).astype(
                ml_dtypes.bfloat16
            )
        return changed

    groups = {
        g.name: g for g in compare(altered(tmp_path, "flipped", flip), example("base")).comparisons[0].evidence.groups
    }
    assert groups["mlp swap"].heads > 0.9 * groups["mlp swap"].coins
    assert groups["mlp sign"].log10_e < 3


def test_values_that_are_not_numbers_do_not_decide(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {k: np.full_like(v, np.nan) if v.ndim == 2 else v for k, v in tensors.items()}

    report = compare(altered(tmp_path, "nan", spoil), example("base"))
    assert report.comparisons[0].relation == "inconclusive"
    json.dumps(lineage_plugin.render(report, "json"))


def test_weights_that_cannot_be_read_are_findings(tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (pickled / "README.md").write_text("---\nlicense: mit\nbase_model: a/b\n---\n")
    report = check(str(pickled))
    assert (report.verdict, codes(report), report.declared.bases) == ("fail", ["LIN301"], ("a/b",))
    broken = tmp_path / "broken"
    shutil.copytree(EXAMPLES / "honest", broken)
    (broken / "model.safetensors").write_bytes(b"\xff" * 64)
    assert codes(check(str(broken), bases=[example("base")])) == ["LIN302"]
    with pytest.raises(InputError):
        check(example("honest"), bases=[str(broken)])


def test_wrong_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        check("./no/such/folder")
    with pytest.raises(UsageError, match="addresses are not opened"):
        check("https://example.com/model")


def test_a_card_given_elsewhere(tmp_path: Path) -> None:
    card = tmp_path / "CARD.md"
    card.write_text("---\nlicense: mit\nbase_model: examples/base\nbase_model_relation: finetuned\n---\n")
    report = check(example("honest"), bases=[example("base")], card=str(card))
    assert codes(report) == ["LIN203"]
    assert report.findings[-1].file == str(card) or report.findings[0].file == str(card)
    with pytest.raises(UsageError, match="cannot be read"):
        check(example("honest"), bases=[example("base")], card=str(tmp_path / "none.md"))


def test_a_base_given_instead_of_the_declared_one_is_named(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(EXAMPLES / "base", copy)
    report = check(example("honest"), bases=str(copy))  # one base needs no list
    (note,) = [found for found in report.findings if found.code == "LIN202"]
    assert (note.level, note.line) == ("note", 7)
    assert "examples/base was not fetched" in note.message
    assert report.verdict == "pass"


def test_a_base_that_the_card_does_not_name_points_at_no_line() -> None:
    report = check(example("honest"), bases=[example("base"), example("liar"), example("base")])
    assert [c.relation for c in report.comparisons] == ["derived", "unrelated"]
    (found,) = [found for found in report.findings if found.code == "LIN101"]
    assert (found.file, found.line, found.help) == (None, None, "")


def test_the_reverse_direction_is_not_called_a_base() -> None:
    report = compare(example("base"), example("honest"))
    assert report.comparisons[0].relation == "derived"
    assert report.comparisons[0].direction.indication == "base-from-suspect"
    assert "looks like its ancestor" in report.summary


def test_a_budget_of_the_caller_is_no_fault_of_the_model() -> None:
    with pytest.raises(lineage_plugin.BudgetExceeded):
        check(example("honest"), bases=[example("base")], options=Options(budget=100))


def test_other_weight_files_are_named(tmp_path: Path) -> None:
    path = Path(altered(tmp_path, "two", lambda tensors: tensors))
    shutil.copy(EXAMPLES / "liar" / "model.safetensors", path / "other.safetensors")
    limits = compare(str(path), example("base")).comparisons[0].limits
    assert any("not looked at: other.safetensors" in limit for limit in limits)


def test_offline_names_what_was_not_looked_up() -> None:
    report = check(example("honest"), options=Options(offline=True))
    assert (report.verdict, codes(report)) == ("undecided", ["LIN202"])
    assert report.comparisons == ()


def test_lint_reads_the_card_alone(tmp_path: Path) -> None:
    assert codes(lint(example("liar"))) == []
    assert codes(lint(example("base"))) == ["LIN201"]
    card = tmp_path / "README.md"
    card.write_text("---\nbase_model: [\n---\n")
    assert codes(lint(str(card))) == ["LIN207"]
    with pytest.raises(UsageError, match="no such file"):
        lint(str(tmp_path / "nothing"))


# --- the local Hub --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models larger than what is read whole: 6 layers of 1,024, two shards."""
    root = tmp_path_factory.mktemp("large")
    for role in ("base", "child", "twin", "other"):
        card = "---\nbase_model: synthetic/base\nbase_model_relation: finetune\n---\n"
        write(root / "synthetic" / role, role, SMALL, card=None if role == "base" else card)
    return root


def test_declared_bases_are_fetched_from_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where examples/base is no folder
    with LocalHub(
        EXAMPLES.parent, mounts={f"examples/{n}": EXAMPLES / n for n in ("base", "honest", "liar", "twin")}
    ) as hub:
        options = Options(endpoint=hub.endpoint)
        for name, expected in (("honest", []), ("liar", ["LIN101"]), ("twin", ["LIN107"])):
            report = check(f"examples/{name}", options=options)
            assert codes(report) == expected
            assert report.suspect.revision == hub.commit_id(f"examples/{name}", "main")
        # A card names models of the Hub, whatever folders lie in the current one.
        monkeypatch.chdir(EXAMPLES.parent)
        local = check(example("honest"), options=options)
        assert local.comparisons[0].base.revision is not None
        assert hub.log.leaks() == []


@pytest.mark.parametrize(("role", "relation"), [("child", "derived"), ("twin", "shared-init"), ("other", "unrelated")])
def test_reading_over_the_network_is_cheap_and_right(large: Path, role: str, relation: str) -> None:
    with LocalHub(large) as hub:
        report = check(f"synthetic/{role}", options=Options(endpoint=hub.endpoint))
        comparison = report.comparisons[0]
        assert comparison.relation == relation
        for cost, repo in ((comparison.suspect_cost, f"synthetic/{role}"), (comparison.base_cost, "synthetic/base")):
            assert cost.requests == hub.log.requests(repo)
            assert cost.tensor_bytes < cost.bytes_total / 8
            if relation == "derived":
                assert cost.tensor_bytes <= 2_000_000
                assert cost.requests <= 24
        read = {row.base for row in comparison.layers}
        assert (read == {str(i) for i in range(6)}) == (relation == "unrelated") or relation != "unrelated"


def test_from_a_folder_against_the_hub(large: Path) -> None:
    with LocalHub(large) as hub:
        report = compare(str(large / "synthetic" / "child"), "synthetic/base", options=Options(endpoint=hub.endpoint))
    assert report.comparisons[0].relation == "derived"
    assert report.comparisons[0].suspect_cost.requests == 0


def test_identical_files_are_known_from_digests() -> None:
    mounts = {"a/copy": EXAMPLES / "base", "a/base": EXAMPLES / "base"}
    with LocalHub(EXAMPLES.parent, mounts=mounts, lfs_threshold=1000) as hub:
        report = compare("a/copy", "a/base", options=Options(endpoint=hub.endpoint))
    comparison = report.comparisons[0]
    assert comparison.relation == "identical"
    # The header and what came with it; no tensor was asked for.
    assert comparison.suspect_cost.bytes_read <= 64 * 1024
    assert comparison.suspect_cost.requests <= 4
    assert comparison.evidence.coins == 0


@pytest.mark.parametrize(("budget", "relation"), [(60_000, "inconclusive"), (600_000, "unrelated")])
def test_a_budget_is_obeyed(large: Path, budget: int, relation: str) -> None:
    with LocalHub(large) as hub:
        options = Options(endpoint=hub.endpoint, budget=budget)
        comparison = compare("synthetic/other", "synthetic/base", options=options).comparisons[0]
    assert comparison.relation == relation
    assert comparison.suspect_cost.bytes_read <= budget
    assert comparison.base_cost.bytes_read <= budget
    assert any("budget ended" in limit for limit in comparison.limits) == (relation == "inconclusive")


def test_declared_bases_that_cannot_be_opened_are_findings(tmp_path: Path) -> None:
    for name in ("gone", "gated"):
        folder = tmp_path / "me" / name
        shutil.copytree(EXAMPLES / "honest", folder)
        (folder / "README.md").write_text(f"---\nlicense: mit\nbase_model: other/{name}\n---\n")
    shutil.copytree(EXAMPLES / "base", tmp_path / "other" / "gated")
    with LocalHub(tmp_path) as hub:
        hub.faults.gated.add("other/gated")
        options = Options(endpoint=hub.endpoint)
        for name in ("gone", "gated"):
            report = check(f"me/{name}", options=options)
            assert (report.verdict, codes(report)) == ("fail", ["LIN202"])
            (found,) = [f for f in report.findings if f.code == "LIN202"]
            assert (found.file, found.line) == ("README.md", 3)
        with pytest.raises(HubDenied):
            compare("me/gone", "other/gated", options=options)
        with pytest.raises(HubNotFound):
            compare("me/gone", "other/none", options=options)


def test_a_kind_that_is_passed_over_on_the_hub_stops_no_search(tmp_path: Path) -> None:
    """GPT-2 has query and key channels that may be swapped; over the Hub they are not worth their requests."""
    width, layers = 128, 4
    for seed, name in ((1, "base"), (2, "other")):
        rng = np.random.default_rng(seed)
        shapes = {"wte.weight": (512, width), "wpe.weight": (64, width)}
        for layer in range(layers):
            shapes |= {
                f"h.{layer}.attn.c_attn.weight": (width, 3 * width),
                f"h.{layer}.attn.c_proj.weight": (width, width),
                f"h.{layer}.mlp.c_fc.weight": (width, 4 * width),
                f"h.{layer}.mlp.c_proj.weight": (4 * width, width),
            }
        folder = tmp_path / "gpt2" / name
        folder.mkdir(parents=True)
        save_file(
            {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()},
            folder / "model.safetensors",
        )
        config = {"model_type": "gpt2", "n_head": 4, "n_embd": width, "n_layer": layers}
        (folder / "config.json").write_text(json.dumps(config))
    with LocalHub(tmp_path) as hub:
        options = Options(endpoint=hub.endpoint)
        comparison = compare("gpt2/other", "gpt2/base", options=options).comparisons[0]
    assert comparison.relation == "unrelated"
    assert {stage.name for stage in comparison.evidence.stages} >= {"identity", "layers"}


# --- asking the Hub besides -----------------------------------------------------------------------------------------


@pytest.fixture
def served(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """The examples on the local Hub, seen from a folder in which their ids are no paths."""
    shutil.copytree(EXAMPLES, hub.root / "examples")
    monkeypatch.chdir(hub.root.parent)
    return hub


def test_a_check_that_asks_the_hub_says_what_a_lint_says(served: LocalHub) -> None:
    shutil.copytree(EXAMPLES / "honest", served.root / "me" / "honest")  # an owner's own licences are not judged
    card = served.root / "examples" / "base" / "README.md"
    card.write_text(card.read_text().replace("license: apache-2.0", "license: cc-by-nc-4.0"))
    options = Options(endpoint=served.endpoint)
    plain = check("me/honest", options=options)
    asked = check("me/honest", hub=True, options=options)
    linted = lint("me/honest", hub=True, options=options)
    assert plain.comparisons[0].evidence == asked.comparisons[0].evidence
    assert (asked.chain, asked.licences) == (linted.chain, linted.licences)
    assert asked.chain and asked.licences and not plain.chain
    assert [f for f in asked.findings if f.code == "LIN206"] == [f for f in linted.findings if f.code == "LIN206"] != []
    assert asked.cost.requests > plain.cost.requests


@pytest.mark.parametrize("state", ["missing", "gated"])
def test_a_base_that_cannot_be_read_is_said_once(served: LocalHub, state: str) -> None:
    if state == "missing":
        shutil.rmtree(served.root / "examples" / "base")
    else:
        served.faults.gated.add("examples/base")
    report = check("examples/honest", hub=True, options=Options(endpoint=served.endpoint))
    assert codes(report).count("LIN202") == 1
    assert report.verdict == "fail"


def test_a_model_without_readable_weights_is_still_asked_about(served: LocalHub) -> None:
    (served.root / "examples" / "honest" / "model.safetensors").write_bytes(b"no tensors")
    report = check("examples/honest", hub=True, options=Options(endpoint=served.endpoint))
    assert "LIN302" in codes(report)
    assert report.chain
