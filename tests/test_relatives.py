"""Several relatives at once, from end to end: merges, closest parents, and the ancestor that nobody named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lineage_plugin import HubNotFound, Options, UsageError, check
from lineage_plugin.card import Declaration, read_card
from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.cli import main
from lineage_plugin.judge.types import Merge, Report
from lineage_plugin.relatives import Relatives, weigh_relatives
from lineage_plugin.report.json_report import schema
from tests.hub import LocalHub
from tests.report import samples

EXAMPLES = Path(__file__).parents[1] / "examples"
BASE, HONEST, LIAR = (str(EXAMPLES / name) for name in ("base", "honest", "liar"))

Weights = dict[str, np.ndarray]


def example(name: str) -> Weights:
    return {k: v.astype(np.float32) for k, v in load_file(EXAMPLES / name / "model.safetensors").items()}


def trained(start: Weights, seed: int, size: float = 0.3, rank: int = 8) -> Weights:
    """What training leaves: every matrix moved, in a few strong directions and a little everywhere."""
    random = np.random.default_rng(seed)
    result = {}
    for name, tensor in start.items():
        moved = np.zeros_like(tensor)
        if tensor.ndim == 2:
            rows, columns = tensor.shape
            low = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns)) / rank**0.5
            moved = size * tensor.std() * (low + random.standard_normal(tensor.shape)) / 2**0.5
        result[name] = (tensor + moved).astype(np.float32)
    return result


def mean(*parts: tuple[float, Weights]) -> Weights:
    return {name: sum(weight * tensors[name] for weight, tensors in parts) for name in parts[0][1]}  # type: ignore[misc]


def spherical(one: Weights, two: Weights, place: float) -> Weights:
    """Spherical interpolation tensor by tensor, as merge tools do it."""
    result = {}
    for name in one:
        a, b = one[name].astype(np.float64), two[name].astype(np.float64)
        angle = np.arccos(np.clip((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), -1, 1))
        if angle < 1e-4:
            result[name] = one[name]
            continue
        parts = np.sin((1 - place) * angle) * a + np.sin(place * angle) * b
        result[name] = (parts / np.sin(angle)).astype(np.float32)
    return result


def write(folder: Path, tensors: Weights, *bases: str, relation: str = "") -> str:
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLES / "base" / "config.json", folder)
    save_file({k: v.astype(ml_dtypes.bfloat16) for k, v in tensors.items()}, folder / "model.safetensors")
    card(folder, *bases, relation=relation)
    return str(folder)


def card(folder: Path, *bases: str, relation: str = "") -> None:
    lines = ["license: apache-2.0", "base_model:", *(f"- {base}" for base in bases)]
    lines += [f"base_model_relation: {relation}"] if relation else []
    (folder / "README.md").write_text("---\n" + "\n".join(lines) + "\n---\n" if bases else "# A model\n")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Children of the example base, merges of them, and a grandchild. Every folder is ``me/<name>``."""
    root = tmp_path_factory.mktemp("zoo")
    base, honest = example("base"), example("honest")
    other = trained(base, 1)
    parents = ("examples/honest", "me/other")
    write(root / "me/other", other, "examples/base")
    write(root / "me/third", trained(base, 3), "examples/base")
    write(root / "me/grand", trained(honest, 2), "examples/base", relation="finetune")
    write(root / "me/linear", mean((0.3, honest), (0.7, other)), *parents, relation="merge")
    write(root / "me/slerp", spherical(honest, other, 0.7), *parents, relation="merge")
    write(root / "me/arithmetic", mean((-0.2, base), (0.6, honest), (0.6, other)), *parents)
    write(root / "me/half", mean((0.5, honest), (0.5, other)), "examples/honest")
    write(root / "me/alone", trained(honest, 4, size=0.1), "examples/honest", "examples/liar", relation="merge")
    return root / "me"


def codes(report: Report | Relatives) -> list[str]:
    return [found.code for found in report.findings if found.level != "note"]


def weights(merge: Merge | None) -> dict[str, float]:
    assert merge is not None
    for parent in merge.parents:
        assert parent.weight is not None and parent.low is not None and parent.high is not None
        assert parent.low <= parent.weight <= parent.high
    return {Path(parent.id).name: parent.weight for parent in merge.parents if parent.weight is not None}


def near(expected: Mapping[str, float], within: float) -> object:
    return pytest.approx(expected, abs=within)


# --- merges -------------------------------------------------------------------------------------------------------


def test_a_linear_merge_gets_the_weights_of_its_recipe(zoo: Path) -> None:
    report = check(str(zoo / "linear"), bases=[HONEST, str(zoo / "other")], ancestor=BASE)
    assert weights(report.merge) == near({"honest": 0.3, "other": 0.7, "base": 0.0}, 0.002)
    assert report.merge is not None
    assert (report.merge.ancestor, report.merge.structure, report.merge.style) == (BASE, "rounding", "linear")
    layers = report.merge.parents[1].layers
    assert [layer for layer, _ in layers] == ["0", "1", "2", "3"]
    assert all(weight.estimate == pytest.approx(0.7, abs=0.01) for _, weight in layers)
    assert "layer to layer" not in report.merge.summary
    assert [(c.relation, c.kind) for c in report.comparisons] == [("derived", "merge")] * 2
    assert all(c.changes[0] == "weights of 2 parents" for c in report.comparisons)
    assert (report.verdict, codes(report)) == ("pass", [])
    # A mean is nearer to the ancestor than its parents, whoever came first.
    assert {c.direction.indication for c in report.comparisons} == {"unclear"}
    assert report.closest is None


def test_a_spherical_merge_is_known_by_its_scale(zoo: Path) -> None:
    report = check(str(zoo / "slerp"), bases=[HONEST, str(zoo / "other")])
    assert weights(report.merge) == near({"honest": 0.3, "other": 0.7}, 0.005)
    assert report.merge is not None
    assert (report.merge.style, report.merge.ancestor) == ("slerp", None)
    low = report.merge.scale.low
    assert low is not None
    assert low > 1.001


def relatives(suspect: Path, bases: list[str], declaration: Declaration | None = None, **named: object) -> Relatives:
    """Weigh without tossing a coin: the bases are taken for derived."""
    options = named.pop("options", Options())
    assert isinstance(options, Options)
    opened = [open_checkpoint(base, options=options) for base in bases]
    found = [samples.comparison(base=samples.model(base), relation="derived") for base in bases]
    model = open_checkpoint(str(suspect), options=options)
    return weigh_relatives(model, opened, found, declaration or Declaration(), options, **named)  # type: ignore[arg-type]


def test_an_ancestor_among_the_folders_is_known_from_their_cards(zoo: Path) -> None:
    found = relatives(zoo / "arithmetic", [BASE, HONEST, str(zoo / "other")])
    assert found.merge is not None
    assert found.merge.ancestor == BASE
    assert weights(found.merge) == near({"base": -0.2, "honest": 0.6, "other": 0.6}, 0.005)
    assert codes(found) == []
    # ... and named in another way it is still the same folder.
    again = relatives(zoo / "arithmetic", [BASE, HONEST, str(zoo / "other")], ancestor=f"{EXAMPLES}/../examples/base/")
    assert again.merge == found.merge


def test_a_declared_parent_without_trace_is_said_once(zoo: Path) -> None:
    report = check(str(zoo / "alone"), bases=[HONEST, LIAR])
    assert [c.relation for c in report.comparisons] == ["derived", "unrelated"]
    assert codes(report) == ["LIN106"]
    (found,) = [found for found in report.findings if found.code == "LIN106"]
    assert found.message.startswith(f"{LIAR} left no trace in the merge: weight ")
    assert (found.file, found.line) == ("README.md", 3)
    assert report.comparisons[0].kind != "merge"
    assert weights(report.merge)["liar"] == pytest.approx(0.0, abs=0.01)


def test_without_a_declared_merge_nothing_is_missing_from_it(zoo: Path) -> None:
    report = check(str(EXAMPLES / "honest"), bases=[BASE, LIAR])
    assert codes(report) == ["LIN101"]
    assert weights(report.merge) == near({"base": 1.0, "liar": 0.0}, 0.01)


def test_a_sibling_is_no_merge(zoo: Path) -> None:
    siblings = [HONEST, str(zoo / "other")]
    alone = relatives(zoo / "third", siblings)
    assert alone.merge is not None
    assert alone.merge.unexplained is not None
    assert alone.merge.unexplained > 0.5
    assert {c.kind for c in alone.comparisons} == {"finetune"}
    known = relatives(zoo / "third", siblings, ancestor=BASE)
    assert weights(known.merge) == near({"honest": 0.0, "other": 0.0, "base": 1.0}, 0.02)
    assert {c.kind for c in known.comparisons} == {"finetune"}
    # Nor is a child of one of the two, the other being its ancestor.
    assert {c.kind for c in relatives(zoo / "third", [BASE, HONEST], ancestor=BASE).comparisons} == {"finetune"}
    # The same test lets true merges pass.
    assert {c.kind for c in relatives(zoo / "linear", siblings).comparisons} == {"merge"}


def test_a_merge_of_dropped_differences_is_one_although_much_is_left(zoo: Path, tmp_path: Path) -> None:
    """DARE: of each parent's differences from the base a random half, doubled."""
    base, random = example("base"), np.random.default_rng(5)
    result = {name: tensor.copy() for name, tensor in base.items()}
    for parent in (example("honest"), trained(base, 1)):
        for name, tensor in parent.items():
            result[name] += 0.5 * 2.0 * (random.random(tensor.shape) < 0.5) * (tensor - base[name])
    write(tmp_path / "me/dare", result)
    found = relatives(tmp_path / "me/dare", [HONEST, str(zoo / "other")], ancestor=BASE)
    assert found.merge is not None
    assert (found.merge.structure, found.merge.style) == ("sparse", "dare")
    assert found.merge.unexplained is not None and found.merge.unexplained > 0.2
    assert weights(found.merge) == near({"honest": 0.5, "other": 0.5, "base": 0.0}, 0.03)
    assert {c.kind for c in found.comparisons} == {"merge"}


def test_one_base_alone_has_no_weights(zoo: Path) -> None:
    found = relatives(zoo / "grand", [BASE])
    assert (found.merge, found.closest, found.findings, found.cost.bytes_read) == (None, None, (), 0)


def test_a_parent_of_another_structure_leaves_the_weights_open(zoo: Path, tmp_path: Path) -> None:
    narrow = narrowed(tmp_path / "narrow")
    found = relatives(zoo / "linear", [HONEST, narrow])
    assert found.merge is not None
    assert [parent.weight for parent in found.merge.parents] == [None, None]
    assert "could not be estimated" in found.merge.summary
    assert codes(found) == []


def narrowed(folder: Path) -> str:
    """A model of two layers."""
    path = write(
        folder, {k: v for k, v in example("base").items() if not k.startswith(("model.layers.2", "model.layers.3"))}
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    return path


# --- closest parent -----------------------------------------------------------------------------------------------


def test_a_candidate_that_is_closer_than_the_declared_base(zoo: Path) -> None:
    report = check(str(zoo / "grand"), bases=[BASE], candidates=[HONEST, str(zoo / "other")])
    assert report.closest is not None
    assert (report.closest.id, report.closest.ancestor) == (HONEST, BASE)  # the cards of both name the base
    assert [Path(one.id).name for one in report.closest.candidates] == ["honest", "other", "base"]
    chosen = report.closest.candidates[0]
    assert chosen.low is not None and chosen.low > 0.9
    assert report.closest.candidates[1].high is not None and report.closest.candidates[1].high < 0.1
    assert codes(report) == ["LIN105"]
    (found,) = [found for found in report.findings if found.code == "LIN105"]
    assert (found.level, found.file, found.line) == ("warning", "README.md", 3)
    assert report.verdict == "pass"
    assert report.merge is None


@pytest.mark.parametrize("ancestor", [None, BASE])
def test_the_declared_base_may_be_the_closest(zoo: Path, ancestor: str | None) -> None:
    text = (zoo / "third" / "README.md").read_text()
    declaration, _ = read_card(text)
    candidates = [HONEST, str(zoo / "other")]
    found = relatives(zoo / "third", [BASE], declaration, candidates=candidates, ancestor=ancestor)
    assert found.closest is not None
    assert found.closest.id == BASE
    assert found.findings == ()


def test_a_suspect_between_two_is_a_note(zoo: Path) -> None:
    declaration, _ = read_card((zoo / "half" / "README.md").read_text())
    found = relatives(zoo / "half", [HONEST], declaration, candidates=[str(zoo / "other")], ancestor=BASE)
    assert found.closest is not None
    assert found.closest.id is None
    assert {Path(name).name for name in found.closest.between} == {"honest", "other"}
    (note,) = found.findings
    assert (note.code, note.level) == ("LIN105", "note")
    assert "other is not declared" in note.message


def test_a_candidate_is_found_although_the_declared_base_is_wrong(zoo: Path) -> None:
    declaration, _ = read_card("---\nbase_model: examples/liar\n---\n")
    options = Options()
    opened = open_checkpoint(LIAR, options=options)
    unrelated = samples.unrelated().comparisons[0]
    suspect = open_checkpoint(str(zoo / "grand"), options=options)
    found = weigh_relatives(suspect, [opened], [unrelated], declaration, options, candidates=[BASE, HONEST])
    assert found.closest is not None
    assert found.closest.id == HONEST
    assert codes(found) == ["LIN105"]
    stranger = open_checkpoint(LIAR, options=options)
    none = weigh_relatives(stranger, [], [], declaration, options, candidates=[BASE, HONEST])
    assert none.closest is not None
    assert none.closest.id is None
    assert none.findings == ()


def test_a_model_named_twice_is_one_candidate(zoo: Path) -> None:
    again = [HONEST, f"{HONEST}/", str(EXAMPLES / ".." / "examples" / "honest"), f"{BASE}/"]
    found = relatives(zoo / "grand", [BASE], candidates=again, ancestor=BASE)
    assert found.closest is not None
    assert [Path(one.id).name for one in found.closest.candidates] == ["honest", "base"]
    assert found.closest.id == HONEST
    assert relatives(zoo / "grand", [BASE], candidates=HONEST).closest is not None  # one needs no list


def test_copies_of_one_model_in_different_places_cannot_be_told_apart(zoo: Path, tmp_path: Path) -> None:
    shutil.copytree(HONEST, tmp_path / "copy")
    found = relatives(zoo / "grand", [BASE], candidates=[HONEST, str(tmp_path / "copy")])
    assert found.closest is not None
    assert found.closest.id is None
    assert "hold the same weights" in found.closest.reason


@pytest.mark.parametrize("bases", [[], [LIAR], [BASE]])
def test_what_was_asked_for_must_exist(zoo: Path, bases: list[str]) -> None:
    for place in ("./no/such/model", str(zoo / "grand")):
        expected = "no such file or folder" if "such" in place else "its own candidate or ancestor"
        with pytest.raises(UsageError, match=expected):
            relatives(zoo / "grand", bases, candidates=[place])
        with pytest.raises(UsageError, match=expected):
            relatives(zoo / "grand", bases, ancestor=place)


def test_reading_relatives_is_in_the_cost(zoo: Path) -> None:
    size = {name: Path(name, "model.safetensors").stat().st_size for name in (BASE, HONEST, str(zoo / "grand"))}
    found = relatives(zoo / "grand", [BASE], candidates=[HONEST])
    # The header and the units of the candidate, the units of the base once more; the suspect counts for itself.
    assert found.cost.bytes_total == size[HONEST]
    assert found.cost.tensor_bytes > size[HONEST]
    assert found.cost.tensor_bytes < size[HONEST] + size[BASE]
    plain = check(str(zoo / "grand"), bases=[BASE])
    report = check(str(zoo / "grand"), bases=[BASE], candidates=[HONEST])
    assert plain.cost.bytes_total == size[BASE] + size[str(zoo / "grand")]
    assert report.cost.bytes_total == plain.cost.bytes_total + size[HONEST]
    assert report.cost.tensor_bytes > plain.cost.tensor_bytes + found.cost.tensor_bytes
    assert report.comparisons[0].base_cost.tensor_bytes == plain.comparisons[0].base_cost.tensor_bytes


# --- the Hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(zoo: Path) -> dict[str, Path]:
    return {f"examples/{name}": EXAMPLES / name for name in ("base", "honest", "liar")} | {
        f"me/{folder.name}": folder for folder in zoo.iterdir()
    }


def test_on_the_hub_the_ancestor_is_found_without_being_told(tmp_path: Path, served: dict[str, Path]) -> None:
    with LocalHub(tmp_path, mounts=served) as hub:
        report = check("me/linear", options=Options(endpoint=hub.endpoint))
        requests = sum(hub.log.requests(name) for name in served)
    assert report.merge is not None
    assert report.merge.ancestor == "examples/base"
    assert weights(report.merge) == near({"honest": 0.3, "other": 0.7, "base": 0.0}, 0.005)
    assert [c.kind for c in report.comparisons] == ["merge", "merge"]
    assert codes(report) == []
    assert report.cost.requests == requests  # the ancestor's, too


@pytest.mark.parametrize("named", ["me/nothing", "me/gated", "me/linear", "me/narrow", "me/copy", "me/pickle"])
def test_an_ancestor_that_is_of_no_use_does_no_harm(zoo: Path, tmp_path: Path, named: str) -> None:
    """The parents' cards name what does not exist, may not be read, is the suspect, another structure, a parent."""
    root = tmp_path / "hub" / "me"
    for name, source in {"one": HONEST, "two": zoo / "other", "linear": zoo / "linear", "copy": HONEST}.items():
        shutil.copytree(source, root / name)
    narrowed(root / "narrow")
    shutil.copytree(BASE, root / "gated")
    (root / "pickle").mkdir()
    (root / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    for name in ("one", "two"):
        card(root / name, named)
    with LocalHub(root.parent) as hub:
        hub.faults.gated.add("me/gated")
        options = Options(endpoint=hub.endpoint)
        found = relatives_on(options, "me/linear", "me/one", "me/two")
    assert found.merge is not None
    assert found.merge.ancestor is None
    assert weights(found.merge) == near({"one": 0.3, "two": 0.7}, 0.005)


def relatives_on(options: Options, suspect: str, *bases: str, **named: object) -> Relatives:
    opened = [open_checkpoint(base, options=options) for base in bases]
    found = [samples.comparison(base=samples.model(base), relation="derived") for base in bases]
    return weigh_relatives(open_checkpoint(suspect, options=options), opened, found, Declaration(), options, **named)  # type: ignore[arg-type]


def test_a_candidate_or_ancestor_that_the_hub_lacks_is_an_error(tmp_path: Path, served: dict[str, Path]) -> None:
    with LocalHub(tmp_path, mounts=served) as hub:
        options = Options(endpoint=hub.endpoint)
        for asked in ({"candidates": ["me/nothing"]}, {"ancestor": "me/nothing"}):
            with pytest.raises(HubNotFound, match="me/nothing"):
                relatives_on(options, "me/grand", "examples/base", **asked)


def test_two_revisions_of_one_repository_are_two_candidates(zoo: Path, tmp_path: Path) -> None:
    root = tmp_path / "hub"
    shutil.copytree(zoo / "grand", root / "me/grand")
    shutil.copytree(BASE, root / "me/base")
    shutil.copytree(HONEST, root / "me/model")
    with LocalHub(root) as hub:
        options = Options(endpoint=hub.endpoint)
        before = hub.commit_id("me/model", "main")
        after = hub.add_revision("me/model", "second", zoo / "other")
        both = [f"me/model@{before}", f"me/model@{after}"]
        found = relatives_on(options, "me/grand", "me/base", candidates=both, ancestor="me/base")
    assert found.closest is not None
    assert {one.id for one in found.closest.candidates} == {f"me/model@{c[:12]}" for c in (before, after)} | {"me/base"}
    assert found.closest.id == f"me/model@{before[:12]}"


# --- the command line ---------------------------------------------------------------------------------------------


def test_help_says_what_candidates_and_ancestors_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--candidate MODEL another member of the family: is it a closer parent than the declared base?" in said
    assert "--ancestor MODEL the model that the parents of a merge, or all candidates, descend from" in said
    assert main(["compare", "--help"]) == 0
    assert "--candidate" not in capsys.readouterr().out


def test_a_closer_candidate_is_a_warning_on_the_command_line(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", str(zoo / "grand"), "--base", BASE, "--candidate", HONEST, "--ancestor", BASE, "--quiet"]
    assert main([*command, "--fail-on", "warning"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Closest parent (an estimate, not exact evidence)" in said
    assert "README.md:3: LIN105 [warning]" in said
    assert "1 warning" in said


def test_a_merge_on_the_command_line(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bases = ["--base", HONEST, "--base", str(zoo / "other"), "--ancestor", BASE]
    assert main(["check", str(zoo / "linear"), *bases, "--quiet", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schema())
    assert [round(parent["weight"], 2) for parent in document["merge"]["parents"]] == [0.3, 0.7, 0.0]
    assert [len(parent["layers"]) for parent in document["merge"]["parents"]] == [4, 4, 4]


def test_a_missing_candidate_is_bad_usage(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--candidate", "--ancestor"):
        assert main(["check", str(zoo / "grand"), "--offline", option, "./no/such/model"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert "no such file or folder" in printed.err
