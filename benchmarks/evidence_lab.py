"""Build the zoo of changed models: roots trained from scratch, and every kind of derivation of them.

Run from the root of the repository, with the ``dev`` extra installed::

    python -m benchmarks.evidence_lab OUT                         # everything, hours of one core
    python -m benchmarks.evidence_lab OUT --families llama --parts raw tuned --derivations upscaled vocab-renewed

Every model is a folder ``OUT/<name>`` with bfloat16 safetensors, a config and a
``tokenizer.json``. ``OUT/lab3.json`` lists the finished models with what is true of each, and the pairs; it is
rewritten after each model, so that others can start early, and nothing finished is built again.

Each derivation comes as made (``<family>-<derivation>-raw``) and after further training (``<family>-<derivation>``),
since a change that breaks a model is always trained on, and training blurs what it changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging

from benchmarks.derivations.adapters import adapt
from benchmarks.derivations.layouts import LAYOUTS, Model, read_model
from benchmarks.derivations.pairs import candidates, pairs
from benchmarks.derivations.roots import FAMILIES, Root, build, roots
from benchmarks.derivations.vocabulary import BYTES, encoder
from benchmarks.derive import DERIVATIONS, Derivation, Derived, Sources
from benchmarks.training import Recipe, Result, evaluate, train

__all__ = ["Lab", "main"]

INDEX = "lab3.json"
PARTS = ("roots", "raw", "tuned", "twins", "seeds")
PREFIXES = tuple(layout.prefix for layout in LAYOUTS.values())
ROLES = ("base", "other", "child_docs", "child_other")
FURTHER = Recipe("other", 401, 100, lr=1e-3, batch=4, length=64)
"""Training after a change; longer where the change is as deep as a new vocabulary."""
LONGER = {"vocab-renewed": 180, "vocab-depth": 180, "stream-pruned": 150}


class Lab:
    """A folder of models and its index."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        index = folder / INDEX
        self.records: dict[str, dict[str, Any]] = json.loads(index.read_text())["records"] if index.exists() else {}

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Note a finished model and rewrite the index."""
        index = self.folder / INDEX
        # Read again: another process may have added to it meanwhile.
        self.records |= json.loads(index.read_text())["records"] if index.exists() else {}
        self.records[name] = record
        lab = {"models": sorted(self.records), "pairs": pairs(self.records), "parents": candidates(self.records)}
        lab |= {"records": self.records}
        # Replaced in one step: somebody may be reading it.
        partial = self.folder / f"{INDEX}.{os.getpid()}"
        partial.write_text(json.dumps(lab, indent=1) + "\n")
        partial.replace(index)
        shown = f"loss {record['loss']:.3f}" if record.get("loss") is not None else "not run"
        print(f"{name}: {shown}, {record.get('seconds', 0):.0f} s", flush=True)

    def load(self, name: str) -> Any:
        """A finished model in float32, as transformers reads it."""
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / name, dtype=torch.float32)

    def save(self, model: Any, name: str) -> None:
        """Write bfloat16 weights and the config."""
        model.to(torch.bfloat16).save_pretrained(self.folder / name)
        (self.folder / name / "generation_config.json").unlink(missing_ok=True)
        BYTES.write(self.folder / name)

    def sources(self, family: str) -> Sources:
        """The roots that derivations of a family start from."""
        return Sources(*(read_model(self.folder / _named(family, role)) for role in ROLES))


def _named(family: str, role: str) -> str:
    """Folder of a role of :class:`~benchmarks.derive.Sources`."""
    return f"{family}-{role.replace('_', '-')}"


def _root(lab: Lab, root: Root) -> None:
    """Train one root."""
    # As in the wild, a fine-tune starts from the published bfloat16 weights.
    model = lab.load(root.parent) if root.parent else build(root)
    result = train(model, root.recipe)
    lab.save(model, root.name)
    record = {
        "family": root.family,
        "role": root.role,
        "parent": root.parent,
        "initial": None if root.parent else [root.width, root.seed],
        "depth": model.config.num_hidden_layers,
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": asdict(root.recipe),
        **{k: round(v, 4) for k, v in asdict(result).items()},
    }
    lab.add(root.name, record)


def _train_roots(lab: Lab, families: list[str], stage: int) -> None:
    """Train the roots of one stage that are missing, family by family."""
    for family in families:
        for at, root in roots(family):
            if at == stage and root.name not in lab.records:
                _root(lab, root)


def _numbers(result: Result, encoded: bool) -> dict[str, float | None]:
    """What was reached; a loss per token is not comparable with one per byte."""
    numbers: dict[str, float | None] = {k: round(v, 4) for k, v in asdict(result).items()}
    return numbers | {"unigram": None} if encoded else numbers


def _coefficient(after: Model, before: Model) -> float:
    """Least-squares coefficient of the matrices of all blocks on what they were before training."""
    inner = outer = 0.0
    for name, start in before.tensors.items():
        if start.ndim == 2 and name.startswith(PREFIXES):
            inner += float(np.vdot(start, after.tensors[name]))
            outer += float(np.vdot(start, start))
    return inner / outer


def _record(family: str, entry: Derivation, stage: str, derived: Derived, coefficient: float) -> dict[str, Any]:
    """What the index says of a changed model."""
    bases: dict[str, dict[str, Any]] = {}
    for role, layers in derived.layers.items():
        share = derived.share[role]
        truth: dict[str, Any] = {"layers": layers, "share": round(share, 4), "kept": round(share * coefficient, 4)}
        for of in ("weights", "fitted"):
            if role in (weights := derived.truth.get(of, {})):
                truth[of.removesuffix("s")] = weights[role]
        bases[_named(family, role)] = truth
    return {
        "family": family,
        "role": "derived",
        "derivation": entry.name,
        "stage": stage,
        "kinds": _kinds(entry, stage),
        "closest": entry.closest and _named(family, entry.closest),
        "depth": derived.model.config.get("num_hidden_layers", derived.model.config.get("n_layer")),
        "bases": bases,
        "truth": dict(derived.truth),
        "parameters": sum(a.size for a in derived.model.tensors.values()),
    }


def _trained(lab: Lab, family: str, entry: Derivation, folder: Path) -> tuple[Derived, Result]:
    """Make what is made by training: fine-tunes and adapters."""
    assert entry.recipe is not None and entry.closest is not None
    model = lab.load(_named(family, entry.closest))
    torch.manual_seed(entry.recipe.order)
    result = adapt(model, entry.recipe, entry.rank) if entry.rank else train(model, entry.recipe)
    lab.save(model, folder.name)
    made = read_model(folder)
    roles = dict.fromkeys(("base", entry.closest))
    layers = list(range(made.size("depth")))
    return Derived(made, dict.fromkeys(roles, layers), dict.fromkeys(roles, 1.0)), result


def _make(lab: Lab, family: str, entry: Derivation) -> None:
    """Make one derivation as it is, before any further training."""
    name = f"{family}-{entry.name}-raw"
    if not entry.raw or name in lab.records:
        return
    folder = lab.folder / name
    if entry.make is None:
        derived, result = _trained(lab, family, entry, folder)
        lab.add(name, _record(family, entry, "raw", derived, 1.0) | _numbers(result, False))
        return
    derived = _derived(lab, family, entry)
    derived.model.write(folder)
    derived.tokens.write(folder)
    encode = None if derived.tokens == BYTES else encoder(folder)
    loss = evaluate(lab.load(name), FURTHER.data, batches=4, encode=encode)
    record = _record(family, entry, "raw", derived, 1.0)
    lab.add(name, record | {"loss": round(loss, 4), "unigram": None, "seconds": 0.0})


def _derived(lab: Lab, family: str, entry: Derivation) -> Derived:
    """Apply a derivation to the family's roots; the same each time."""
    assert entry.make is not None
    # A seed of its own for each kind, so that adding one changes no other.
    return entry.make(lab.sources(family), np.random.default_rng([7, zlib.crc32(entry.name.encode())]))


def _tune(lab: Lab, family: str, entry: Derivation) -> None:
    """Train one derivation further; a fine-tune is nothing but that."""
    raw, name = f"{family}-{entry.name}-raw", f"{family}-{entry.name}"
    if not entry.tuned or name in lab.records:
        return
    if not entry.raw:
        derived, result = _trained(lab, family, entry, lab.folder / name)
        start = read_model(lab.folder / _named(family, entry.closest or "base"))
        coefficient = _coefficient(derived.model, start)
        lab.add(name, _record(family, entry, "tuned", derived, coefficient) | _numbers(result, False))
        return
    if raw not in lab.records:
        return
    folder, model = lab.folder / raw, lab.load(raw)
    record = lab.records[raw]
    encode = encoder(folder) if entry.name.startswith("vocab-") else None
    recipe = replace(FURTHER, steps=LONGER.get(entry.name, FURTHER.steps))
    if entry.kinds[0] == "merge":
        # Neither parent's data: training on those would move the merge towards one of them, and its weights with it.
        recipe = replace(recipe, data="code")
    result = train(model, recipe, encode)
    lab.save(model, name)
    shutil.copy(folder / "tokenizer.json", lab.folder / name / "tokenizer.json")
    coefficient = _coefficient(read_model(lab.folder / name), read_model(folder))
    bases = {base: truth | {"kept": round(truth["share"] * coefficient, 4)} for base, truth in record["bases"].items()}
    changed = {"stage": "tuned", "bases": bases, "kinds": _kinds(entry, "tuned")}
    lab.add(name, {**record, **changed, **_numbers(result, encode is not None)})


def _kinds(entry: Derivation, stage: str) -> list[str]:
    """What the tool may call it: training on blurs grids, ranks and mixtures into a fine-tune."""
    blurred = stage == "tuned" and entry.kinds[0] in ("quantized", "adapter", "merge")
    return list(dict.fromkeys([*entry.kinds, "finetune"] if blurred else entry.kinds))


def _derive_all(lab: Lab, families: list[str], names: list[str], *, tuned: bool) -> None:
    """Make the derivations that are missing, kind by kind."""
    for name in names:
        for family in families:
            entry = DERIVATIONS[name]
            if family not in entry.families or any(_named(family, role) not in lab.records for role in ROLES):
                continue
            try:
                (_tune if tuned else _make)(lab, family, entry)
            except ValueError as error:
                print(f"{family}-{name}: left out: {error}", file=sys.stderr, flush=True)


def _adopt(lab: Lab, source: Path) -> None:
    """Take over models of :mod:`benchmarks.train_lab` by links; hardly trained ones are left out."""
    theirs = json.loads((source / "lab.json").read_text())

    def there(name: str) -> bool:
        return name in theirs["records"] and (source / name / "model.safetensors").is_file() and "stub" not in name

    for name, known in theirs["records"].items():
        if not there(name):
            continue
        link = lab.folder / f"{source.name}-{name}"
        if not link.exists():
            link.symlink_to((source / name).resolve())
        pairs_of = [
            {"base": f"{source.name}-{base}", "relation": pair["relation"], "kind": pair["kind"]}
            for pair in theirs["pairs"]
            if pair["suspect"].split("/")[-1] == name and there(base := pair["base"].split("/")[-1])
        ]
        lab.add(link.name, {**known, "role": "adopted", "initial": None, "pairs": pairs_of})


def main(argv: list[str] | None = None) -> int:
    """Build what is asked for and missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--derivations", nargs="+", choices=tuple(DERIVATIONS), default=list(DERIVATIONS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--adopt", type=Path, metavar="LAB", help="take over models of benchmarks.train_lab, and stop")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    lab = Lab(options.out)
    if options.adopt:
        _adopt(lab, options.adopt)
        return 0
    stages = {"roots": 0, "twins": 1, "seeds": 2}
    for part in sorted(options.parts, key=PARTS.index):
        if part in stages:
            _train_roots(lab, options.families, stages[part])
        else:
            _derive_all(lab, options.families, options.derivations, tuned=part == "tuned")
    return 0


if __name__ == "__main__":
    sys.exit(main())
