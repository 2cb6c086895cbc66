"""Trees of really trained models, from folders and from the local Hub."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import lineage_plugin
from benchmarks.derivations.layouts import Model, read_model
from benchmarks.scrubs import scrub
from lineage_plugin import Options, UsageError, tree
from lineage_plugin.family import words
from lineage_plugin.family.grow import MOST_MODELS, exit_code
from lineage_plugin.family.types import Family, Tree
from lineage_plugin.fingerprint.cache import cache_folder
from tests.family.kit import EXAMPLES, NAMES, adapter, copy, example, tuned
from tests.hub import LocalHub


def named(family: Family) -> list[set[str]]:
    """The families by the last parts of the names."""
    return [{Path(family.models[at].name).name for at in one.members} for one in family.trees]


def joined(family: Family, one: Tree) -> set[frozenset[str]]:
    names = [Path(member.name).name for member in family.models]
    return {frozenset((names[branch.outer], names[branch.inner])) for branch in one.branches}


@pytest.fixture(scope="module")
def four() -> Family:
    return tree([example(name) for name in NAMES])


def test_the_examples(four: Family) -> None:
    relations = {
        frozenset(Path(four.models[at].name).name for at in (link.suspect, link.base)): link.relation
        for link in four.links
    }
    assert relations == {
        frozenset(("base", "honest")): "derived",
        frozenset(("base", "liar")): "unrelated",
        frozenset(("base", "twin")): "shared-init",
        frozenset(("honest", "liar")): "unrelated",
        frozenset(("honest", "twin")): "shared-init",
        frozenset(("liar", "twin")): "unrelated",
    }
    assert named(four) == [{"base", "honest"}]
    assert (four.trees[0].start, four.trees[0].rooted) == (0, "declared")
    assert four.starts == ((0, 1, 3),)
    assert [(one.model, one.base, one.standing) for one in four.claims] == [
        (1, 0, "supported"),
        (2, 0, "contradicted"),
        (3, 0, "contradicted"),
    ]
    assert [(found.code, found.level) for found in four.findings] == [("LIN101", "error"), ("LIN107", "error")]
    assert exit_code(four) == 1
    # A card is contradicted by the weights; the other pairs are compared by fingerprints.
    by_weights = {frozenset((link.suspect, link.base)) for link in four.links if link.by == "weights"}
    assert by_weights == {frozenset((0, 2)), frozenset((0, 3))}
    # Three cards name the base, so that three pairs might have been tested twice.
    assert (four.pairs, four.tests, four.unread) == (6, 9, 0)
    assert four.cost.bytes_read > 0


def test_every_e_value_is_divided_by_the_tests_of_the_tree(four: Family) -> None:
    # Two tests for the one pair, nine for the six.
    alone = tree([example("base"), example("honest")]).links[0]
    among = four.link(0, 1)
    assert among is not None
    assert among.evidence.log10_e == pytest.approx(alone.evidence.log10_e - math.log10(4.5), abs=1e-9)
    assert (among.evidence.coins, among.cosine) == (alone.evidence.coins, alone.cosine)


def test_the_order_of_the_models_changes_no_number(four: Family) -> None:
    back = tree([example(name) for name in reversed(NAMES)])

    def numbers(family: Family) -> list[object]:
        return sorted(
            (family.models[one.suspect].name, family.models[one.base].name, one.relation, one.evidence.log10_e)
            for one in family.links
        )

    assert numbers(back) == numbers(four)
    assert named(back) == named(four)


def test_copies_doubles_and_renamed_folders(tmp_path: Path) -> None:
    copied = copy("base", tmp_path / "renamed", card="---\nlicense: mit\n---\n")
    (tmp_path / "again").symlink_to(copied)
    models = [example("base"), str(copied), example("honest"), str(tmp_path / "again"), example("base")]
    family = tree(models)
    assert [Path(member.name).name for member in family.models] == ["base", "renamed", "honest"]
    assert sum("shown once" in limit for limit in family.limits) == 2
    link = family.link(0, 1)
    assert link is not None
    assert (link.relation, link.cosine, link.evidence.coins) == ("identical", 1.0, 0)
    assert named(family) == [{"base", "renamed", "honest"}]
    # The copy is the same model: its number of pairs still counts, and the root is the one that the card names.
    assert (family.pairs, family.tests, link.by, link.changes) == (3, 4, "digests", ())
    assert (family.pairs, family.trees[0].start, family.trees[0].rooted) == (3, 0, "declared")
    assert exit_code(family) == 0


def test_another_configuration_of_the_same_files_is_said(tmp_path: Path) -> None:
    changed = copy("base", tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text(encoding="utf-8"))
    (changed / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}), encoding="utf-8")
    family = tree([example("base"), str(changed)])
    assert [link.relation for link in family.links] == ["identical"]
    assert family.links[0].changes == ("config.json differs from the base's in rope_theta",)
    assert family.links[0].evidence.log10_e == 0
    assert any("config.json differs from that of" in note for note in words.notes(family, 1, 0))


@pytest.fixture(scope="module")
def disguised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The examples with their units and heads in another order, which no fingerprint looks for."""
    folder = tmp_path_factory.mktemp("disguised")
    for name in ("honest", "liar"):
        model = read_model(EXAMPLES / name)
        tensors = scrub(model.tensors, model.config, ("permute",), seed=1)
        moved = Model({key: np.asarray(array, np.float32) for key, array in tensors.items()}, model.config)
        moved.write(folder / name)
        (folder / name / "README.md").write_text("---\nbase_model: examples/base\n---\n", encoding="utf-8")
    return {name: str(folder / name) for name in ("honest", "liar")}


def test_an_honest_child_in_another_order_is_not_accused(disguised: dict[str, str]) -> None:
    family = tree([example("base"), disguised["honest"], disguised["liar"]])
    assert [(one.model, one.standing) for one in family.claims] == [(1, "supported"), (2, "contradicted")]
    assert named(family) == [{"base", "honest"}]
    link = family.link(0, 1)
    assert link is not None
    assert (link.by, link.relation, link.evidence.exact) == ("weights", "derived", True)
    assert link.cosine == pytest.approx(0.95, abs=0.03)
    assert (family.trees[0].start, family.trees[0].rooted) == (0, "declared")
    assert [(found.code, Path(found.file or "").parent.name) for found in family.findings] == [("LIN101", "liar")]
    assert any("were compared by the weights" in limit for limit in family.limits)


def test_fingerprint_files_alone_accuse_nobody(tmp_path: Path, disguised: dict[str, str]) -> None:
    file = tmp_path / "base.safetensors"
    file.write_bytes(lineage_plugin.fingerprint_model(example("base"), name="examples/base"))
    models = [str(file), example("honest"), disguised["honest"], example("liar"), example("twin")]
    family = tree(models)
    assert [one.standing for one in family.claims] == ["supported", *["undecided"] * 3]
    assert {one.reason for one in family.claims[1:]} == {"only fingerprints are at hand; weights may show more"}
    assert (family.findings, exit_code(family)) == ((), 3)
    assert (family.pairs, family.tests) == (10, 10)
    assert "weights" not in {link.by for link in family.links}


def test_the_budget_holds_for_both_looks() -> None:
    family = tree([example("base"), example("liar")], options=Options(budget=1_000_000))
    assert all(member.cost.bytes_read <= 1_000_000 for member in family.models)
    assert (family.claims[0].standing, family.findings, exit_code(family)) == ("undecided", (), 3)
    assert "the byte budget ended" in family.claims[0].reason


def test_weights_that_cannot_be_read_any_more_leave_the_claim_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    said: list[tuple[str, int, int]] = []
    with LocalHub(EXAMPLES.parent, mounts={f"examples/{name}": EXAMPLES / name for name in ("base", "liar")}) as hub:
        monkeypatch.chdir(tmp_path)

        def progress(*step: str | int) -> None:
            said.append(step)  # type: ignore[arg-type]
            if step[0] == "comparing declared bases by their weights":
                hub.faults.missing(times=None, repo="examples/base")

        options = Options(endpoint=hub.endpoint)
        family = tree(["examples/base", "examples/liar"], options=options, progress=progress)
    assert (family.claims[0].standing, family.unread, family.tests) == ("undecided", 1, 2)
    assert family.claims[0].reason.startswith("the weights could not be compared: ")
    assert family.links[0].by == "fingerprints"
    assert (family.findings, exit_code(family)) == ((), 3)
    assert said[-1] == ("comparing declared bases by their weights", 1, 1)


def test_a_chain_and_siblings_of_an_absent_parent(tmp_path: Path) -> None:
    middle = tuned(EXAMPLES / "honest", tmp_path / "middle", 0.15, 1)
    last = tuned(middle, tmp_path / "last", 0.15, 2)
    sibling = tuned(EXAMPLES / "honest", tmp_path / "sibling", 0.15, 3)
    family = tree([str(path) for path in (last, EXAMPLES / "honest", sibling, middle)])
    expected = {frozenset(p) for p in (("honest", "middle"), ("middle", "last"), ("honest", "sibling"))}
    assert joined(family, family.trees[0]) == expected
    absent = tree([str(sibling), str(last), str(middle)])
    assert joined(absent, absent.trees[0]) == {frozenset(("middle", "last")), frozenset(("middle", "sibling"))}


def test_who_came_first_is_not_told_of_a_merge(tmp_path: Path) -> None:
    parents = [load_file(EXAMPLES / name / "model.safetensors") for name in ("base", "honest")]
    merge = tuned(EXAMPLES / "base", tmp_path / "merge", 0.0, 3, of="examples/honest")
    mean = {
        name: ((tensor.astype(np.float32) + parents[1][name].astype(np.float32)) / 2).astype(tensor.dtype)
        for name, tensor in parents[0].items()
    }
    save_file(mean, merge / "model.safetensors")
    given = [example("base"), example("honest"), str(merge)]
    # By coefficients it looks like what its parent comes from.
    assert [found.code for found in tree(given).findings] == ["LIN103"]
    for card in ("base_model: [examples/base, examples/honest]", "base_model: x/y\nbase_model_relation: merge"):
        (merge / "README.md").write_text(f"---\n{card}\n---\n")
        family = tree(given)
        assert {link.direction for link in family.links if 2 in (link.suspect, link.base)} == {"unclear"}
        assert family.findings == () and (family.trees[0].start, family.trees[0].rooted) == (0, "declared")
        assert any("not told of a merge" in limit for limit in family.limits)


def test_what_cannot_be_read_is_a_node_and_the_rest_stands(tmp_path: Path) -> None:
    broken = copy("base", tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\xff" * 100)
    family = tree([example("base"), str(broken), example("honest"), "./nowhere"], options=Options(offline=True))
    assert [member.state for member in family.models] == ["tested", "not read", "tested", "not read"]
    assert "no such file" in family.models[3].reason
    assert "model.safetensors" in family.models[1].reason
    assert named(family) == [{"base", "honest"}]
    assert (family.pairs, exit_code(family)) == (1, 2)


def test_models_that_cannot_be_compared_are_open(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_file({"x.weight": np.random.default_rng(0).random((64, 32), np.float32)}, other / "model.safetensors")
    family = tree([example("base"), str(other)])
    assert [link.relation for link in family.links] == ["inconclusive"]
    assert family.links[0].cosine is None
    assert exit_code(family) == 3


def test_an_adapter_is_a_node_below_the_base_that_it_names(tmp_path: Path) -> None:
    lora = adapter(tmp_path / "lora", "examples/base")
    family = tree([str(lora), example("base"), example("honest")])
    assert family.models[0].state == "adapter"
    assert next((c.model, c.base, c.standing, c.file) for c in family.claims) == (
        0,
        1,
        "not tested",
        "adapter_config.json",
    )
    assert family.pairs == 1
    assert exit_code(family) == 0


def test_a_fingerprint_file_stands_for_a_model_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "base.safetensors"
    file.write_bytes(lineage_plugin.fingerprint_model(example("base"), name="examples/base"))
    family = tree([str(file), example("honest")])
    assert family.models[0].origin == "file"
    assert named(family) == [{"base.safetensors", "honest"}]
    assert (family.claims[0].standing, family.claims[0].by_name) == ("supported", True)
    assert any("word of who made it" in limit for limit in family.limits)


@pytest.mark.parametrize("count", [0, 1, MOST_MODELS + 1])
def test_too_few_and_too_many(count: int) -> None:
    with pytest.raises(UsageError, match="2 to 64"):
        tree([example("base")] * count)


def test_from_the_hub_with_commits_and_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    mounts = {f"examples/{name}": EXAMPLES / name for name in NAMES}
    with LocalHub(EXAMPLES.parent, mounts=mounts) as hub:
        first = hub.commit_id("examples/honest")
        other = tuned(EXAMPLES / "honest", tmp_path / "other", 0.15, 1, of="examples/base")
        hub.add_revision("examples/honest", "v2", other)
        ids = ["examples/base", f"examples/honest@{first}", "examples/honest@v2", "examples/honest@main", "examples/no"]
        options = Options(endpoint=hub.endpoint)
        # What lies in the current folder is not what an id means.
        monkeypatch.chdir(tmp_path)
        family = tree(ids, options=options)
        # main is the commit that was given already.
        assert [member.name for member in family.models] == [*ids[:3], ids[4]]
        assert family.models[1].model.revision != family.models[2].model.revision
        assert all(claim.base == 0 and claim.standing == "supported" for claim in family.claims)
        assert [member.origin for member in family.models] == ["weights"] * 3 + [None]
        assert joined(family, family.trees[0]) == {
            frozenset(("base", f"honest@{first}")),
            frozenset((f"honest@{first}", "honest@v2")),
        }
        assert (family.hub, exit_code(family)) == (hub.endpoint, 2)
        again = tree(ids[:3], options=options)
        assert {member.origin for member in again.models} == {"cache"}
        assert again.cost.bytes_read < family.cost.bytes_read / 4
        assert [link.evidence for link in again.links] == [
            link.evidence for link in tree(ids[:3], options=options).links
        ]
        assert hub.log.leaks() == []


def test_fingerprints_off_neither_asks_nor_fills_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    mounts = {f"examples/{name}": EXAMPLES / name for name in NAMES}
    with LocalHub(EXAMPLES.parent, mounts=mounts) as hub:
        monkeypatch.chdir(tmp_path)
        off = Options(endpoint=hub.endpoint, fingerprints="off")
        ids = ["examples/base", "examples/honest"]
        first = tree(ids, options=off)
        kept = list((cache_folder() / "fingerprints").glob("**/*.safetensors"))
        assert kept == []
        tree(ids, options=Options(endpoint=hub.endpoint))
        assert len(list((cache_folder() / "fingerprints").glob("**/*.safetensors"))) == 2
        again = tree(ids, options=off)
        assert {member.origin for member in (*first.models, *again.models)} == {"weights"}
        assert again.links == first.links


def test_a_fingerprint_that_a_repository_ships_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    forged = copy("liar", tmp_path / "forged")
    (forged / "lineage.fingerprint.safetensors").write_bytes(lineage_plugin.fingerprint_model(example("honest")))
    with LocalHub(EXAMPLES.parent, mounts={"a/forged": forged, "examples/base": EXAMPLES / "base"}) as hub:
        monkeypatch.chdir(tmp_path)
        family = tree(["a/forged", "examples/base"], options=Options(endpoint=hub.endpoint))
    assert [link.relation for link in family.links] == ["unrelated"]


def test_another_commit_than_the_declared_one_refutes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))
    pinned = f"---\nbase_model: examples/base\nbase_model_revision: {'a' * 40}\n---\n"
    other = copy("liar", tmp_path / "pinned", card=pinned)
    with LocalHub(EXAMPLES.parent, mounts={"examples/base": EXAMPLES / "base"}) as hub:
        monkeypatch.chdir(tmp_path)
        family = tree([str(other), "examples/base"], options=Options(endpoint=hub.endpoint))
    assert (family.claims[0].standing, family.claims[0].other_commit) == ("undecided", "a" * 40)
    assert family.findings == ()
    assert exit_code(family) == 3


def test_progress_is_told() -> None:
    said: list[tuple[str, int, int]] = []
    tree([example("base"), example("honest")], progress=lambda *step: said.append(step))
    assert ("opening models", 2, 2) in said
    assert said[-1] == ("comparing pairs", 1, 1)


def test_independent_checkpoints_make_no_family(tmp_path: Path) -> None:
    models = []
    for seed in range(8):
        # Two of them declare the first, which fingerprints do not show: they are looked at twice.
        card = f"---\nbase_model: {tmp_path.name}/m0\n---\n" if seed in (1, 2) else "---\nlicense: mit\n---\n"
        folder = copy("base", tmp_path / f"m{seed}", card=card)
        tensors = load_file(folder / "model.safetensors")
        rng = np.random.default_rng(seed)
        drawn = {
            name: (rng.standard_normal(one.shape, np.float32) * 0.02).astype(one.dtype) if one.ndim == 2 else one
            for name, one in tensors.items()
        }
        save_file(drawn, folder / "model.safetensors")
        models.append(str(folder))
    family = tree(models, options=Options(bar=2.0))
    assert (family.pairs, family.tests, family.trees, family.starts) == (28, 30, (), ())
    assert [one.standing for one in family.claims] == ["contradicted"] * 2
    assert {link.relation for link in family.links} == {"unrelated"}
    # Coins were tossed, and their e-values are what independent coins give: below one, on average, before division.
    assert min(link.evidence.coins for link in family.links) > 1000
    assert sum(30 * 10**link.evidence.log10_e for link in family.links) / 28 < 3
