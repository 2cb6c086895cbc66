"""Which pairs the zoo holds, and what is true of each.

=================== ==============================================================================================
group               pairs
=================== ==============================================================================================
derived             a changed model against every model that it descends from
roots               base against its children, and the children against each other
shared-init         twins: the same initial weights, other order, data, optimiser, decay or length
shared-init-changed a changed model against a twin of its base
unrelated           every two seeds of one family: same config, same data
unrelated-changed   a changed model against a model of its base's family and shape, but of another seed
unrelated-family    models of different families and seeds
adopted             pairs of :mod:`benchmarks.train_lab`, of another size
=================== ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

__all__ = ["candidates", "pairs"]

Record = Mapping[str, Any]


def pairs(records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """All pairs of the models that there are.

    Args:
        records: What is known of each model, by name (see :mod:`benchmarks.evidence_lab`).

    Returns:
        For each pair ``suspect``, ``base``, ``relation``, ``kind`` (the one meant; None when not derived), ``kinds``
        (all that are right), ``group``, ``family``, ``derivation``, ``stage`` and ``truth``:

        * ``layers``: for each of the suspect's blocks the base's, or None,
        * ``share``: share of the base's block weights that is left, by structure,
        * ``kept``: the same times the coefficient of the weights after further training on those before,
        * ``weight`` and ``fitted``, for merges: see :mod:`benchmarks.derivations.merging`.
    """
    found = [*_derived(records), *_roots(records), *_twins(records), *_seeds(records), *_changed(records)]
    return [*found, *_families(records), *_adopted(records)]


def candidates(records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Questions for the closest parent: a suspect, the family's members, and the one it was made of."""
    found = []
    for name, record in records.items():
        # A merge lies between its parents, and none is the closest in the sense of the question.
        if record["role"] != "derived" or record["closest"] is None or record["kinds"][0] == "merge":
            continue
        family = record["family"]
        members = [m for m in (f"{family}-base", f"{family}-child-docs", f"{family}-child-other") if m in records]
        question = {"suspect": name, "candidates": members, "closest": record["closest"]}
        found.append(question | {"ancestor": f"{family}-base", "stage": record["stage"]})
    return found


def _pair(suspect: str, base: str, relation: str, group: str, record: Record, **more: Any) -> dict[str, Any]:
    plain = {"suspect": suspect, "base": base, "relation": relation, "kind": None, "kinds": []}
    return plain | {"group": group, "family": record["family"], "derivation": None, "stage": None, "truth": {}} | more


def _derived(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    for name, record in records.items():
        if record["role"] != "derived":
            continue
        for base, truth in record["bases"].items():
            kinds = record["kinds"]
            yield _pair(
                name,
                base,
                "derived",
                "derived",
                record,
                kind=kinds[0],
                kinds=kinds,
                derivation=record["derivation"],
                stage=record["stage"],
                truth=dict(truth),
            )


def _roots(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    finetune = {"kind": "finetune", "kinds": ["finetune"]}
    for name, record in records.items():
        if record["role"] == "child":
            layers = {"layers": list(range(record["depth"])), "share": 1.0}
            yield _pair(name, record["parent"], "derived", "roots", record, truth=layers, **finetune)
    children = [(name, r) for name, r in records.items() if r["role"] == "child"]
    for (one, a), (two, b) in combinations(children, 2):
        if a["parent"] == b["parent"]:
            yield _pair(two, one, "derived", "roots", a, note="siblings", **finetune)


def _twins(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    drawn = [(name, r) for name, r in records.items() if r.get("initial") is not None]
    for (one, a), (two, b) in combinations(drawn, 2):
        if a["family"] == b["family"] and a["initial"] == b["initial"]:
            twin, base = (one, two) if a["role"] == "twin" and b["role"] != "twin" else (two, one)
            yield _pair(twin, base, "shared-init", "shared-init", a)
    for name, record in records.items():
        twin = f"{record['family']}-base-twin"
        if twin not in records:
            continue
        if record["role"] == "child" or (record["role"] == "derived" and _shows(record)):
            more = {"derivation": record.get("derivation"), "stage": record.get("stage")}
            yield _pair(name, twin, "shared-init", "shared-init-changed", record, **more)


def _shows(record: Record) -> bool:
    """Whether a changed model descends from the base alone, so that a stranger to the base is one to it."""
    return all(base != f"{record['family']}-other" for base in record["bases"])


def _seeds(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    for role in (("seed",), ("base", "other")):
        drawn = [(name, r) for name, r in records.items() if r["role"] in role]
        for (one, a), (two, b) in combinations(drawn, 2):
            if a["family"] == b["family"]:
                yield _pair(two, one, "unrelated", "unrelated", a)


def _changed(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    for name, record in records.items():
        other = f"{record['family']}-other"
        if record["role"] == "derived" and _shows(record) and other in records:
            more = {"derivation": record["derivation"], "stage": record["stage"]}
            yield _pair(name, other, "unrelated", "unrelated-changed", record, **more)


def _families(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    # Never two of one seed: their initial weights agree wherever shapes do.
    for one, a in records.items():
        for two, b in records.items():
            if a["role"] == "base" and b["role"] == "other" and a["family"] != b["family"]:
                yield _pair(two, one, "unrelated", "unrelated-family", b)


def _adopted(records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
    for name, record in records.items():
        for pair in record.get("pairs", ()):
            kinds = {"kind": pair["kind"], "kinds": [pair["kind"]] if pair["kind"] else []}
            yield _pair(name, pair["base"], pair["relation"], "adopted", record, **kinds)
