"""For every format: does the relation come out right, and what does it cost?

Takes four models of one family (base, child, a twin that shares the random start with the base, an unrelated one),
writes the last three in every format of ``benchmarks.conversions`` that fits them, and compares each with the base as
it is, from the folder and over a Hub on this machine. Then quantised models are compared with quantised ones, and
copies of the base with fine-tunes of it. Every answer that is not the expected one is marked with ``(!)`` and listed at
the end. Run as ``python -m benchmarks.formats [--models FOLDER] [--ready FOLDER ...]``.

``--ready`` takes folders of models that heavier writers made of the same four: a model belongs to the one whose name
ends with the first word of its own (``docs-w4a16`` was made of ``atlas-docs``).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
    os.environ.pop(_name, None)
os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

from benchmarks.conversions import CONVERSIONS, Conversion  # noqa: E402
from lineage_plugin.api import compare  # noqa: E402
from lineage_plugin.errors import LineageError, UnsupportedEncoding  # noqa: E402
from lineage_plugin.judge.types import Comparison  # noqa: E402
from lineage_plugin.options import Options  # noqa: E402
from tests.hub import LocalHub  # noqa: E402

ROLES = ("base", "child", "twin", "other")
FAMILIES = (
    ("base", "honest", "twin", "liar"),
    ("atlas", "atlas-docs", "atlas-twin", "boreas"),
)
"""Names of the four models in folders that are known."""
EXPECTED = {
    "base": {"derived", "identical"},
    "child": {"derived"},
    "twin": {"shared-init", "inconclusive"},
    "other": {"unrelated"},
}
SCHEMES = (
    ("GGUF Q4_0", "GGUF Q4_0"),
    ("bitsandbytes NF4 double", "bitsandbytes NF4 double"),
    ("GPTQ 4 bits", "GPTQ 4 bits"),
    ("GGUF Q8_0", "GGUF Q8_0"),
    ("GGUF Q4_0", "bitsandbytes NF4 double"),
    ("AWQ 4 bits", "GPTQ 4 bits act-order"),
    ("compressed-tensors W4A16", "GGUF Q8_0"),
    ("MLX 8 bits", "bitsandbytes FP4"),
)
"""Formats of the suspect and of the base."""


@dataclass(frozen=True)
class Answer:
    """What a comparison said, or why there was none."""

    comparison: Comparison | None
    error: str = ""

    @property
    def relation(self) -> str:
        """The relation, or what went wrong."""
        return self.comparison.relation if self.comparison else self.error

    @property
    def kind(self) -> str:
        """The kind, or a dash."""
        return (self.comparison.kind or "-") if self.comparison else "-"

    @property
    def evidence(self) -> str:
        """The decimal logarithm of the e-value."""
        return f"{self.comparison.evidence.log10_e:.0f}" if self.comparison else "-"

    @property
    def megabytes(self) -> str:
        """What was read of the suspect."""
        return f"{self.comparison.suspect_cost.bytes_read / 1e6:.2f}" if self.comparison else "-"

    @property
    def requests(self) -> str:
        """Requests for the suspect."""
        return f"{self.comparison.suspect_cost.requests}" if self.comparison else "-"

    @property
    def said(self) -> str:
        """What was done to the values, in words."""
        return "; ".join(self.comparison.changes) if self.comparison else "-"


@dataclass
class Answers:
    """Compares, and remembers what was not expected."""

    endpoint: str
    unexpected: list[str] = field(default_factory=list)

    def ask(self, suspect: str, base: str) -> Answer:
        """Compare two models, given as folders or as names on the Hub."""
        try:
            return Answer(compare(suspect, base, options=Options(endpoint=self.endpoint)).comparisons[0])
        except UnsupportedEncoding as error:
            return Answer(None, f"refused: {error}")
        except LineageError as error:
            return Answer(None, f"error: {error}")
        except Exception as error:  # a defect: the table goes on without it
            return Answer(None, f"CRASH: {type(error).__name__}: {error}")

    def mark(self, shown: str, right: bool, what: str) -> str:
        """Return a cell, marked when it is not right."""
        if not right:
            self.unexpected.append(f"{what}: {shown}")
        return shown.partition(":")[0] if right else f"{shown.partition(':')[0]} (!)"


def family(folder: Path, names: Sequence[str] | None) -> dict[str, Path]:
    """Return the four models of a folder by role; raises SystemExit when they are not there."""
    known = [names] if names else [*FAMILIES]
    for four in known:
        found = {role: folder / name for role, name in zip(ROLES, four, strict=True)}
        if all((path / "config.json").is_file() for path in found.values()):
            return found
    raise SystemExit(f"{folder}: there are no {' or '.join('/'.join(four) for four in known)}; name them with --names")


def main() -> None:
    """Convert, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[1] / "examples"
    parser.add_argument("--models", type=Path, default=default, metavar="FOLDER", help="default: examples")
    parser.add_argument("--names", nargs=4, metavar=("BASE", "CHILD", "TWIN", "OTHER"), help="the models in it")
    parser.add_argument("--ready", nargs="*", type=Path, default=[], metavar="FOLDER", help="converted models")
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="formats whose name has such a word")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    models = family(arguments.models, arguments.names)
    with tempfile.TemporaryDirectory() as scratch, LocalHub(scratch, mounts={"zoo/base": models["base"]}) as hub:
        answers = Answers(hub.endpoint)
        root = Path(scratch)
        chosen = [c for c in CONVERSIONS.values() if _wanted(c.name, arguments.only)]
        fitting = [c for c in chosen if c.fits(models["base"]) and not c.missing()]
        for conversion in (c for c in chosen if c not in fitting):
            lacking = ", ".join(conversion.missing())
            print(f"left out: {conversion.name} ({f'needs {lacking}' if lacking else 'not for this architecture'})")
        print(f"\nAgainst {models['base'].name} as it is:\n")
        _against_the_base(answers, root, models, fitting, [*_ready(arguments.ready, models)])
        made = Made(root, models)
        print("\nQuantised against quantised:\n")
        _both(answers, made, {c.name for c in fitting if c.quantised})
        print(f"\nA copy and a fine-tune of {models['base'].name}:\n")
        _copies(answers, made, [c.name for c in fitting])
        print(f"\nNot as expected: {len(answers.unexpected)}")
        for line in answers.unexpected:
            print(f"* {line}")


def _wanted(name: str, words: Sequence[str]) -> bool:
    return not words or any(word.lower() in name.lower() for word in words)


@dataclass(frozen=True)
class Made:
    """Converted models below a folder, made when they are first asked for: ``FORMAT/ROLE``, an id on the Hub."""

    root: Path
    models: dict[str, Path]

    def id(self, conversion: Conversion, role: str) -> str:
        """Return the id of a model in a format."""
        id = f"{conversion.name.lower().replace(' ', '-').replace('.', '')}/{role}"
        if not (self.root / id).is_dir():
            conversion(self.models[role], self.root / id)
        return id

    def path(self, conversion: Conversion, role: str) -> str:
        """Return the folder of a model in a format."""
        return str(self.root / self.id(conversion, role))


@dataclass(frozen=True)
class Entry:
    """A format in the table: its models by role, as a function that makes them, or a folder."""

    name: str
    writer: str
    quantised: bool | None
    locate: dict[str, Callable[[], str]]


def _ready(folders: Sequence[Path], models: dict[str, Path]) -> Iterator[Entry]:
    """Yield what other writers made, by format."""
    for folder in folders:
        found: dict[str, dict[str, Path]] = {}
        for path in sorted(path for path in folder.iterdir() if path.is_dir()):
            word, _, name = path.name.partition("-")
            role = next((role for role in ROLES if models[role].name.endswith(word)), None)
            if role is None or not name or not any(path.glob("*.*")):
                continue
            found.setdefault(name, {})[role] = path
        for name, by_role in found.items():
            yield Entry(name, f"ready: {folder.name}", None, {r: (lambda p=p: str(p)) for r, p in by_role.items()})


def _against_the_base(
    answers: Answers, root: Path, models: dict[str, Path], fitting: Sequence[Conversion], ready: Sequence[Entry]
) -> None:
    """Print the main table."""
    made = Made(root, models)
    print(
        "| format | writer | derived: relation | kind | log10 E | suspect MB local / Hub (of) | requests | "
        "twin | unrelated | suspect MB local / Hub |\n|" + "---|" * 10
    )
    entries = [
        Entry(c.name, c.writer, c.quantised, {r: (lambda c=c, r=r: made.path(c, r)) for r in ROLES[1:]})
        for c in fitting
    ]
    for entry in [*entries, *ready]:
        print(_row(answers, root, models, entry), flush=True)


def _row(answers: Answers, root: Path, models: dict[str, Path], entry: Entry) -> str:
    cells: dict[str, str] = {}
    costs: dict[str, str] = {}
    child: Answer | None = None
    total = 0
    for role in ROLES[1:]:
        if role not in entry.locate:
            cells[role] = costs[role] = "-"
            continue
        try:
            path = entry.locate[role]()
        except Exception as error:  # a writer that fails is worth a line, and no more
            cells[role] = answers.mark(f"no model: {error!r}"[:300], False, f"{entry.name}, {role}")
            costs[role] = "-"
            continue
        local = answers.ask(path, str(models["base"]))
        remote = answers.ask(_published(root, Path(path)), "zoo/base")
        if role == "child":
            child, total = local, local.comparison.suspect_cost.bytes_total if local.comparison else 0
        shown = []
        for where, answer in (("local", local), ("Hub", remote)):
            right = answer.relation in EXPECTED[role] or (where == "Hub" and answer.relation.startswith("refused"))
            shown.append(answers.mark(answer.relation, right, f"{entry.name}, {role}, {where}"))
        cells[role] = shown[0] if len(set(shown)) == 1 else " / ".join(shown)
        costs[role] = f"{local.megabytes} / {remote.megabytes}"
        if role == "child":
            kinds = []
            for where, answer in (("local", local), ("Hub", remote)):
                wanted = {"quantized"} if entry.quantised in (True, None) else {"finetune", "-"}
                right = answer.comparison is None or answer.kind in wanted
                kinds.append(answers.mark(answer.kind, right, f"{entry.name}, kind, {where} ({answer.said})"))
            cells["kind"] = kinds[0] if len(set(kinds)) == 1 or kinds[1] == "-" else " / ".join(kinds)
            cells["requests"] = remote.requests
    evidence = child.evidence if child else "-"
    return (
        f"| {entry.name} | {entry.writer} | {cells['child']} | {cells.get('kind', '-')} | {evidence} | "
        f"{costs['child']} ({total / 1e6:.2f}) | {cells.get('requests', '-')} | {cells['twin']} | {cells['other']} | "
        f"{costs['other']} |"
    )


def _published(root: Path, path: Path) -> str:
    """Return the id of a folder on the Hub; folders elsewhere are linked into it file by file."""
    if root in path.parents:
        return path.relative_to(root).as_posix()
    id = f"ready/{path.parent.name}-{path.name}"
    if not (root / id).exists():
        (root / id).mkdir(parents=True)
        for file in (file for file in path.iterdir() if file.is_file()):
            (root / id / file.name).write_bytes(file.read_bytes())
    return id


def _both(answers: Answers, made: Made, names: set[str]) -> None:
    """Print the table of quantised models against quantised ones; a copy is the base itself in the suspect's format."""
    print("| suspect | base | child | kind | said | log10 E | twin | unrelated | copy | kind | said |\n|" + "---|" * 11)
    for mine, theirs in SCHEMES:
        if not {mine, theirs} <= names:
            continue
        suspect, base = CONVERSIONS[mine], CONVERSIONS[theirs]
        found = {role: answers.ask(made.path(suspect, role), made.path(base, "base")) for role in ROLES}
        cells = {
            role: answers.mark(answer.relation, answer.relation in EXPECTED[role], f"{mine} on {theirs}, {role}")
            for role, answer in found.items()
        }
        child, copy = found["child"], found["base"]
        print(
            f"| {mine} | {theirs} | {cells['child']} | {child.kind} | {child.said} | {child.evidence} | "
            f"{cells['twin']} | {cells['other']} | {cells['base']} | {copy.kind} | {copy.said} |",
            flush=True,
        )


def _copies(answers: Answers, made: Made, names: Sequence[str]) -> None:
    """Print what a copy of the base and a fine-tune of it, each in every format, are taken for."""
    base = str(made.models["base"])
    print("| format | copy: relation | kind | said | fine-tune: kind | said |\n|" + "---|" * 6)
    for name in names:
        conversion = CONVERSIONS[name]
        copy, child = (answers.ask(made.path(conversion, role), base) for role in ("base", "child"))
        wanted = {"quantized"} if conversion.quantised else {"-"}
        relation = answers.mark(copy.relation, copy.relation in ("derived", "identical"), f"{name}, copy")
        kind = answers.mark(copy.kind, copy.kind in wanted, f"{name}, kind of the copy ({copy.said})")
        print(f"| {name} | {relation} | {kind} | {copy.said} | {child.kind} | {child.said} |", flush=True)


if __name__ == "__main__":
    main()
