"""Run the tool over the zoo of changed models and print what it gets right, kind by kind, with exact intervals.

    python -m benchmarks.kinds_table LAB                                  # all pairs, then the tables
    python -m benchmarks.kinds_table LAB --groups unrelated shared-init   # some groups of pairs
    python -m benchmarks.kinds_table LAB --kinds upscaled vocab-renewed --families llama gpt2
    python -m benchmarks.kinds_table LAB --tables                         # tables of what was run before, nothing more

Answers are appended to ``LAB/answers.jsonl`` (``--answers`` for another file), one JSON object a pair; a pair that is
there already is not run again, so that a run can be stopped and continued. Delete the file after changing the tool.
Pairs are described in :mod:`benchmarks.derivations.pairs`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from lineage_plugin import compare
from lineage_plugin.errors import LineageError
from lineage_plugin.judge.types import Comparison

__all__ = ["layer_accuracy", "main", "share"]

GROUPS = (
    "derived",
    "roots",
    "shared-init",
    "shared-init-changed",
    "unrelated",
    "unrelated-changed",
    "unrelated-family",
    "adopted",
)
QUESTIONS = ("merges", "parents")
RIGHT = ("derived", "identical")
WORTH = 0.3
"""Kept share above which every kind is to be recognised."""

Pair = dict[str, Any]
Answer = dict[str, Any]


def share(hits: int, trials: int) -> str:
    """A share with its exact (Clopper-Pearson) 95% interval, in per cent."""
    if trials == 0:
        return "-"
    found = stats.binomtest(hits, trials).proportion_ci(method="exact")
    return f"{hits}/{trials} ({100 * found.low:.1f} to {100 * found.high:.1f}%)"


def layer_accuracy(truth: Sequence[int | None], rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Count the suspect's blocks whose base block is reported rightly.

    Args:
        truth: For each suspect block the base block, or None for one that is not the base's.
        rows: Reported layers: ``suspect`` and ``base`` names (None for no base block), ``coins`` and ``heads``.

    Returns:
        Right blocks and all blocks. A block that is not reported counts as said to be new, and so does one whose own
        coins are at chance while other blocks' are not. A block without coins of its own (a repeat: its coins are
        counted once) is taken at its word, and so are all when no block has coins that speak, as after a scrub.
    """

    def speaks(row: Mapping[str, Any]) -> bool:
        # Three standard deviations of fair coins.
        return bool(row["heads"] - row["coins"] / 2 > 1.5 * math.sqrt(row["coins"] + 1))

    silent = not any(map(speaks, rows))
    said: dict[str, tuple[float, str | None]] = {}
    for row in rows:
        found = row["base"] if silent or row["coins"] == 0 or speaks(row) else None
        excess = row["heads"] - row["coins"] / 2
        # Of several reports on one block the loudest counts.
        if row["suspect"] not in said or excess > said[row["suspect"]][0]:
            said[row["suspect"]] = (excess, found)
    names = [said.get(str(number), (0.0, None))[1] for number in range(len(truth))]
    right = sum((name or None) == (None if b is None else str(b)) for name, b in zip(names, truth, strict=True))
    return right, len(truth)


def _answer(folder: Path, pair: Pair) -> Answer:
    """Ask the tool about one pair."""
    started = time.perf_counter()
    key = {"suspect": pair["suspect"], "base": pair["base"], "question": "pair"}
    try:
        found = compare(str(folder / pair["suspect"]), str(folder / pair["base"])).comparisons[0]
    except LineageError as error:
        return key | {"relation": "error", "error": str(error), "seconds": time.perf_counter() - started}
    return key | _plain(found) | {"seconds": round(time.perf_counter() - started, 2)}


def _plain(found: Comparison) -> Answer:
    """What of a comparison the tables need."""
    calibrated = found.calibrated
    return {
        "relation": found.relation,
        "kind": found.kind,
        "summary": found.summary,
        "log10_e": found.evidence.log10_e,
        "exact": found.evidence.exact,
        "coins": found.evidence.coins,
        "heads": found.evidence.heads,
        "kept": found.kept.estimate,
        "slope": [found.inheritance.slope, found.inheritance.low, found.inheritance.high],
        "contrast": found.inheritance.contrast.estimate,
        "direction": found.direction.indication,
        "scrubbed": None if found.scrubbed is None else str(found.scrubbed),
        "calibrated": None if calibrated is None else str(calibrated),
        "changes": list(getattr(found, "changes", ())),
        "layers": [{"suspect": r.suspect, "base": r.base, "coins": r.coins, "heads": r.heads} for r in found.layers],
    }


def _merges(folder: Path, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Callable[[], Answer]]]:
    """Questions for the weights of merges: the pairs with a parent that has one, by suspect."""
    suspects: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if "weight" in pair["truth"]:
            suspects[pair["suspect"]].append(pair)
    for suspect, parents in suspects.items():
        truth = {p["base"]: p["truth"]["fitted" if p["derivation"] == "merge-ties" else "weight"] for p in parents}
        question = {**parents[0], "base": None, "question": "merges", "truth": {"weights": truth}}
        ancestor = f"{parents[0]['family']}-base"

        def ask(suspect: str = suspect, bases: Sequence[str] = tuple(truth), ancestor: str = ancestor) -> Answer:
            # Imported late: the table of relations works without them.
            from lineage_plugin.evidence.parents import merge_weights

            fit = merge_weights(
                _member(folder, suspect), [_member(folder, b) for b in bases], _member(folder, ancestor)
            )
            weights = {p.id: [p.weight.estimate, p.weight.low, p.weight.high] for p in fit.parents if p.id != ancestor}
            return {"weights": weights, "style": fit.style, "unexplained": fit.unexplained, "reason": fit.reason}

        yield question, ask


def _parents(folder: Path, lab: Mapping[str, Any]) -> Iterator[tuple[Pair, Callable[[], Answer]]]:
    """Questions for the closest parent."""
    for row in lab["parents"]:
        record = lab["records"][row["suspect"]]
        question = {**row, "base": None, "question": "parents", "group": "derived", "family": record["family"]}
        question |= {"derivation": record["derivation"], "stage": record["stage"]}

        def ask(row: Mapping[str, Any] = row) -> Answer:
            from lineage_plugin.evidence.closest import closest_parent

            members = [_member(folder, name) for name in row["candidates"]]
            ancestor = next((m for m in members if m.id == row["ancestor"]), None)
            found = closest_parent(_member(folder, row["suspect"]), members, ancestor)
            return {"choice": found.choice, "between": list(found.between), "reason": found.reason}

        yield question, ask


def _member(folder: Path, name: str) -> Any:
    """A model as the questions about families take it."""
    from lineage_plugin.anatomy import analyse
    from lineage_plugin.checkpoint import open_checkpoint
    from lineage_plugin.evidence.family_read import Member
    from lineage_plugin.options import Options

    checkpoint = open_checkpoint(str(folder / name), options=Options())
    return Member(name, checkpoint, analyse(checkpoint.tensors, checkpoint.config))


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which pairs are wanted."""

    groups: Sequence[str]
    kinds: Sequence[str] | None
    families: Sequence[str] | None
    stages: Sequence[str] | None

    def __call__(self, pair: Pair) -> bool:
        wanted = pair["group"] in self.groups
        wanted &= self.kinds is None or pair["derivation"] in self.kinds
        wanted &= self.families is None or pair["family"] in self.families
        return wanted and (self.stages is None or pair["stage"] in self.stages)


def _run(folder: Path, lab: Mapping[str, Any], wanted: _Filter, questions: Sequence[str], answers: Path) -> None:
    """Ask what was not asked before."""
    known = {(a["suspect"], a["base"], a["question"]) for a in _read(answers)}
    tasks: list[tuple[Pair, Callable[[], Answer]]] = []
    for pair in lab["pairs"]:
        tasks.append(({**pair, "question": "pair"}, lambda pair=pair: _answer(folder, pair)))  # type: ignore[misc]
    if "merges" in questions:
        tasks.extend(_merges(folder, lab["pairs"]))
    if "parents" in questions:
        tasks.extend(_parents(folder, lab))
    tasks = [t for t in tasks if wanted(t[0]) and (t[0]["suspect"], t[0]["base"], t[0]["question"]) not in known]
    with answers.open("a") as stream:
        for number, (pair, ask) in enumerate(tasks, 1):
            try:
                answer = ask()
            except Exception as error:  # a crash of the tool is an answer too, and a bad one
                answer = {"relation": "crash", "error": f"{type(error).__name__}: {error}"}
            line = {"suspect": pair["suspect"], "base": pair["base"], "question": pair["question"]} | answer
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            shown = answer.get("relation") or answer.get("choice") or answer.get("weights") or answer.get("reason")
            print(f"[{number}/{len(tasks)}] {pair['suspect']} {pair['base'] or ''}: {shown}", file=sys.stderr)


def _read(answers: Path) -> list[Answer]:
    return [json.loads(line) for line in answers.read_text().splitlines()] if answers.exists() else []


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    print(f"\n## {title}\n")
    print(_row(*head))
    print(_row(*["---"] * len(head)))
    for row in rows:
        print(_row(*row))


def _kinds(asked: Sequence[tuple[Pair, Answer]]) -> None:
    """Recall, kind, layers and kept share, derivation by derivation."""
    groups: dict[tuple[str, str], list[tuple[Pair, Answer]]] = defaultdict(list)
    for pair, answer in asked:
        if pair["group"] == "derived":
            groups[pair["derivation"], pair["stage"]].append((pair, answer))
    rows, worth, hits = [], 0, 0
    for (derivation, stage), members in groups.items():
        right = [(p, a) for p, a in members if a["relation"] in RIGHT]
        large = [(p, a) for p, a in members if p["truth"]["kept"] > WORTH]
        worth += len(large)
        hits += sum(a["relation"] in RIGHT for _, a in large)
        named = [(p, a) for p, a in right if a["relation"] == "derived"]
        counts = [_layers(p, a) for p, a in right if a.get("layers")]
        layers = share(sum(c[0] for c in counts), sum(c[1] for c in counts))
        kept = [p["truth"]["kept"] for p, _ in members]
        said = [a["kept"] for _, a in members if a.get("kept") is not None]
        rows.append(
            (
                derivation,
                stage,
                share(len(right), len(members)),
                sum(a["relation"] == "inconclusive" for _, a in members),
                sum(a["relation"] in RIGHT and a.get("exact", False) for _, a in members),
                share(sum(_named(p, a["kind"]) for p, a in named), len(named)),
                layers,
                f"{min(kept):.2f} to {max(kept):.2f}",
                f"{min(said):.2f} to {max(said):.2f}" if said else "-",
            )
        )
    head = ("derivation", "stage", "derived said", "open", "exact", "kind right", "layers right", "kept", "kept said")
    _table("Derived pairs", head, rows)
    print(f"\nkept share above {WORTH}: derived said of {share(hits, worth)}")


def _named(pair: Pair, kind: str | None) -> bool:
    """Whether the kind is right. Where no block was touched (new tokens, another order), none is right too."""
    return kind in pair["kinds"] or (kind is None and pair["stage"] == "raw" and "finetune" in pair["kinds"])


def _layers(pair: Pair, answer: Answer) -> tuple[int, int]:
    truth = pair["truth"].get("layers")
    return (0, 0) if truth is None else layer_accuracy(truth, answer["layers"])


def _others(asked: Sequence[tuple[Pair, Answer]]) -> None:
    """False claims, confusion with shared initial weights, and the adopted pairs."""
    rows = []
    for group in GROUPS:
        for truth in ("derived", "shared-init", "unrelated"):
            members = [a for p, a in asked if p["group"] == group and p["relation"] == truth]
            if group == "derived" or not members:
                continue
            counts = {r: sum(a["relation"] == r for a in members) for r in ("shared-init", "unrelated", "inconclusive")}
            derived = sum(a["relation"] in RIGHT for a in members)
            failed = len(members) - derived - sum(counts.values())
            # What must never be said: dependence of independent models, descent of twins, independence of kin.
            false = {
                "unrelated": derived + counts["shared-init"],
                "shared-init": derived,
                "derived": counts["shared-init"] + counts["unrelated"],
            }[truth]
            loudest = max((a["log10_e"] for a in members if "log10_e" in a), default=math.nan)
            false_claims = share(false, len(members))
            rows.append((group, truth, false_claims, derived, *counts.values(), failed, f"{loudest:.1f}"))
    head = (
        "group",
        "truth",
        "false claims",
        "derived",
        "shared-init",
        "unrelated",
        "open",
        "failed",
        "largest log10 E",
    )
    _table("Other pairs", head, rows)


def _weights(asked: Sequence[tuple[Pair, Answer]]) -> None:
    """Errors of merge weights."""
    groups: dict[tuple[str, str], list[tuple[Pair, Answer]]] = defaultdict(list)
    for pair, answer in asked:
        groups[pair["derivation"], pair["stage"]].append((pair, answer))
    rows = []
    for (derivation, stage), members in groups.items():
        errors, inside = [], 0
        for pair, answer in members:
            for parent, weight in pair["truth"]["weights"].items():
                estimate, low, high = answer.get("weights", {}).get(parent, (None, None, None))
                if estimate is not None:
                    errors.append(abs(estimate - weight))
                    inside += low is not None and low <= weight <= high
        largest = f"{max(errors):.3f}" if errors else "-"
        mean = f"{sum(errors) / len(errors):.3f}" if errors else "-"
        asked_for = sum(len(p["truth"]["weights"]) for p, _ in members)
        rows.append((derivation, stage, f"{len(errors)}/{asked_for}", mean, largest, share(inside, len(errors))))
    head = ("merge", "stage", "weights given", "mean error", "largest error", "inside the interval")
    _table("Merge weights", head, rows)


def _closest(asked: Sequence[tuple[Pair, Answer]]) -> None:
    """Choice of the closest parent."""
    groups: dict[tuple[str, str], list[tuple[Pair, Answer]]] = defaultdict(list)
    for pair, answer in asked:
        groups[pair["derivation"], pair["stage"]].append((pair, answer))
    rows = []
    for (derivation, stage), members in groups.items():
        chosen = [(p, a) for p, a in members if a.get("choice") is not None]
        right = sum(a["choice"] == p["closest"] for p, a in chosen)
        # Between two members: said of merges, and right where the closest parent is one of the two.
        between = sum(bool(a.get("between")) for _, a in members)
        left = len(members) - len(chosen)
        rows.append((derivation, stage, share(right, len(chosen)), left, between))
    head = ("derivation", "stage", "right where chosen", "left open", "of these said to be between two")
    _table("Closest parent", head, rows)


def main(argv: list[str] | None = None) -> int:
    """Ask, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lab", type=Path, metavar="LAB", help="folder that benchmarks.evidence_lab built")
    parser.add_argument("--groups", "--pairs", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP")
    parser.add_argument("--kinds", nargs="+", metavar="DERIVATION")
    parser.add_argument("--families", nargs="+", metavar="FAMILY")
    parser.add_argument("--stages", nargs="+", choices=("raw", "tuned"))
    parser.add_argument("--questions", nargs="*", choices=QUESTIONS, default=QUESTIONS, help="besides the relations")
    parser.add_argument("--answers", type=Path, metavar="FILE")
    parser.add_argument("--tables", action="store_true", help="print tables only")
    options = parser.parse_args(argv)
    lab = json.loads((options.lab / "lab3.json").read_text())
    answers = options.answers or options.lab / "answers.jsonl"
    wanted = _Filter(options.groups, options.kinds, options.families, options.stages)
    if not options.tables:
        _run(options.lab, lab, wanted, options.questions, answers)
    known = {(a["suspect"], a["base"], a["question"]): a for a in _read(answers)}

    def asked(questions: Iterable[Pair], question: str) -> list[tuple[Pair, Answer]]:
        found = [(q, known.get((q["suspect"], q["base"], question))) for q in questions if wanted(q)]
        return [(q, a) for q, a in found if a is not None]

    pairs = asked(lab["pairs"], "pair")
    seconds = sum(a.get("seconds", 0) for _, a in pairs)
    print(f"# {len(pairs)} pairs of {options.lab.name}, {seconds:.0f} s")
    _kinds(pairs)
    _others(pairs)
    _weights(asked([q for q, _ in _merges(options.lab, lab["pairs"])], "merges"))
    _closest(asked([q for q, _ in _parents(options.lab, lab)], "parents"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
