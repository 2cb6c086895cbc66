"""Which pairs the zoo of changed models holds, and how answers about them are counted."""

import pytest
from scipy import stats

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.derivations.pairs import candidates, pairs
from benchmarks.kinds_table import layer_accuracy, share


def root(role, seed, parent=None):
    return {"family": "llama", "role": role, "parent": parent, "initial": None if parent else [96, seed], "depth": 2}


def changed(name, bases, closest="llama-base", kinds=("pruned",)):
    truth = {base: {"layers": [0, 1], "share": 1.0, "kept": 0.9} for base in bases}
    record = {"family": "llama", "role": "derived", "derivation": name, "stage": "raw", "kinds": list(kinds)}
    return record | {"closest": closest, "bases": truth}


RECORDS = {
    "llama-base": root("base", 1),
    "llama-other": root("other", 2),
    "llama-child-docs": root("child", 1, "llama-base"),
    "llama-child-other": root("child", 1, "llama-base"),
    "llama-base-twin": root("twin", 1),
    "llama-seed01": root("seed", 1) | {"initial": [64, 1]},
    "llama-seed02": root("seed", 2) | {"initial": [64, 2]},
    "llama-cut-raw": changed("cut", ["llama-base"]),
    "llama-graft-raw": changed("graft", ["llama-base", "llama-other"]),
    "llama-mix-raw": changed("mix", ["llama-child-docs", "llama-child-other"], "llama-child-docs", ("merge",)),
}


def found(relation):
    return {(p["suspect"], p["base"]) for p in pairs(RECORDS) if p["relation"] == relation}


def test_every_pair_is_listed_once_with_one_relation():
    listed = [(p["suspect"], p["base"]) for p in pairs(RECORDS)]
    assert len(listed) == len(set(listed))
    assert len({frozenset(pair) for pair in listed}) == len(listed)
    assert {name for pair in listed for name in pair} <= set(RECORDS)


def test_relations():
    assert found("unrelated") == {
        ("llama-seed02", "llama-seed01"),
        ("llama-other", "llama-base"),
        ("llama-cut-raw", "llama-other"),
        ("llama-mix-raw", "llama-other"),
    }
    assert ("llama-graft-raw", "llama-other") in found("derived")
    assert ("llama-base-twin", "llama-base") in found("shared-init")
    assert ("llama-cut-raw", "llama-base-twin") in found("shared-init")
    assert ("llama-child-other", "llama-child-docs") in found("derived")


def test_a_merge_has_no_closest_parent():
    assert {question["suspect"] for question in candidates(RECORDS)} == {"llama-cut-raw", "llama-graft-raw"}


def layer(suspect, base, coins, heads):
    return {"suspect": suspect, "base": base, "coins": coins, "heads": heads}


def test_layers_are_right_by_name_and_by_heads():
    rows = [layer("0", "0", 100, 100), layer("1", "2", 100, 90), layer("2", "1", 100, 52)]
    assert layer_accuracy([0, 1, None], rows) == (2, 3)
    assert layer_accuracy([0, 2, 1], rows) == (2, 3)
    # Of two reports on one block the louder one counts, and a block that is not reported is said to be new.
    assert layer_accuracy([1, None], [layer("0", "2", 50, 30), layer("0", "1", 50, 50)]) == (2, 2)
    assert layer_accuracy([None, 0], [layer("0", None, 0, 0), layer("1", "0", 9, 9)]) == (2, 2)


def test_repeats_and_scrubbed_layers_are_taken_at_their_word():
    rows = [layer("0", "0", 100, 100), layer("1", "0", 0, 0)]
    assert layer_accuracy([0, 0], rows) == (2, 2)
    assert layer_accuracy([0, 1], rows) == (1, 2)
    assert layer_accuracy([0, 1], [layer("0", "0", 100, 49), layer("1", "1", 100, 52)]) == (2, 2)


def test_share_is_clopper_pearson():
    low, high = (stats.beta.ppf(q, a, b) for q, a, b in ((0.025, 7, 4), (0.975, 8, 3)))
    assert share(7, 10) == f"7/10 ({100 * low:.1f} to {100 * high:.1f}%)"
    assert share(0, 0) == "-"
