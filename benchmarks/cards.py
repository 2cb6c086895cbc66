"""How right and how fast the card linter is: precision, recall and false alarms on the corpus, cards a second.

The corpus is ``tests/linting/corpus``: model folders whose findings were written down by hand. Counted are pairs of
code and line in a case, alarms (errors and warnings) and notes apart: an alarm that should be a note is a false alarm
and a missed note. For the speed the corpus is repeated in a temporary folder, weights as empty files, and linted
offline by the real command in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.linting.cases import CARD, Case, Label, cases

_CODES = (0, 1)  # clean, or findings: both are answers


@dataclass
class Counts:
    """Pairs of code and line: expected and found, found only, expected only."""

    right: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def add(self, expected: Iterable[Label], found: Iterable[Label]) -> None:
        """Count the findings of a case."""
        wanted, told = Counter(map(_pair, expected)), Counter(map(_pair, found))
        for pairs, into in ((wanted & told, self.right), (told - wanted, self.false), (wanted - told, self.missed)):
            for (code, _, _), number in pairs.items():
                into[code] += number

    def row(self, code: str | None = None) -> str:
        """Return the cells of one code, or of all."""
        right, false, missed = (
            sum(counter.values()) if code is None else counter[code]
            for counter in (self.right, self.false, self.missed)
        )
        precision, recall = _share(right, right + false), _share(right, right + missed)
        return f"{right + missed} | {right} | {false} | {missed} | {precision} | {recall} |"


def _pair(label: Label) -> tuple[str, str, int | None]:
    return label.code, label.file, label.line


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def main() -> None:
    """Lint the corpus, count, then time the command."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cards", type=int, default=10_000, help="cards of the timed run (default 10,000; 0: none)")
    arguments.add_argument("--runs", type=int, default=9, help="runs of a single lint (default 9)")
    options = arguments.parse_args()
    accuracy()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.cards:
            print(many(folder / "many", options.cards), flush=True)
        single(folder / "one", options.runs)


def accuracy() -> None:
    """Print what was found of what was expected."""
    alarms, notes = Counts(), Counts()
    honest = [case for case in cases() if case.honest]
    alarmed = Counter[str]()
    for case in cases():
        found = case.lint()
        for counts, alarm in ((alarms, True), (notes, False)):
            counts.add(
                (label for label in case.labels if label.alarm is alarm), (one for one in found if one.alarm is alarm)
            )
        if case.honest:
            alarmed[case.name] += sum(one.alarm for one in found)
    alarmed = +alarmed
    print(f"{len(cases())} cards, {len(honest)} of them honest\n")
    print("| findings | expected | right | false | missed | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for name, counts in (("alarms", alarms), ("notes", notes)):
        print(f"| **all {name}** | {counts.row()}")
        for code in sorted({*counts.right, *counts.false, *counts.missed}):
            print(f"| {code} {name} | {counts.row(code)}")
    print(f"\nFalse alarms on honest cards: {alarmed.total()} on {len(alarmed)} of {len(honest)} cards", end="")
    print("".join(f"\n  {name}: {number}" for name, number in alarmed.items()) or ".", end="\n\n", flush=True)


def write(case: Case, folder: Path) -> None:
    """Write a case as a model folder; what is there by name only becomes an empty file."""
    folder.mkdir(parents=True)
    card = case.card
    if card is not None:
        (folder / CARD).write_bytes(card)
    for name in (*case.neighbours, *case.unwritten):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((case.folder / name).read_bytes() if name in case.neighbours else b"")


def many(folder: Path, number: int) -> str:
    """Lint many cards in one command; return a sentence."""
    have = [case for case in cases() if case.card is not None]
    for i in range(number):
        write(have[i % len(have)], folder / f"{i // 500:03d}" / f"model-{i:05d}")
    seconds, processor, lines = lint(folder)
    cores = os.cpu_count() or 1
    return (
        f"{number:,} cards offline by one command: {seconds:.1f} s, {number / seconds:,.0f} cards/s"
        f" ({processor:.1f} s of processor time on {cores} core{'' if cores == 1 else 's'}, {lines:,} lines of report)"
    )


def single(folder: Path, runs: int) -> None:
    """Print how long one lint takes from start to end, beside the start of Python."""
    case = next(case for case in cases() if case.name == "honest/peft-filled")
    write(case, folder)
    start, whole, busy = [], [], []
    for _ in range(runs):  # alternating: both see the same machine
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        start.append(time.perf_counter() - started)
        seconds, processor, _ = lint(folder)
        whole.append(seconds)
        busy.append(processor)
    one, python = statistics.median(whole), statistics.median(start)
    print(f"one card, start to end: {one:.3f} s (median of {runs}; {min(whole):.3f} to {max(whole):.3f}), ", end="")
    print(
        f"{statistics.median(busy):.3f} s of processor time; python -c pass: {python:.3f} s; ratio {one / python:.1f}"
    )


def lint(folder: Path) -> tuple[float, float, int]:
    """Run the command; return its seconds, those of the processor, and the lines it printed."""
    before, started = os.times(), time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-m", "lineage_plugin", "lint", str(folder), "--offline"], capture_output=True, text=True
    )
    seconds, after = time.perf_counter() - started, os.times()
    if run.returncode not in _CODES or "Traceback" in run.stderr:
        sys.exit(f"the command failed ({run.returncode}): {run.stderr[-2000:]}")
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, processor, run.stdout.count("\n")


if __name__ == "__main__":
    main()
