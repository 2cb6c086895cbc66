"""A few hundred damaged folders of every target, and everything that damage has found before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzzing.mutate import mutate
from tests.fuzzing.targets import find_target, target_names
from tests.fuzzing.worker import Runner, attempt

MUTATIONS = 300
FINDINGS = Path(__file__).parent / "findings"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Runner(tmp_path_factory.mktemp("findings")) as runner:
        yield runner


@pytest.mark.parametrize("target", target_names())
def test_damaged_folders_are_read_or_refused_in_one_line(runner: Runner, target: str) -> None:
    result = runner.run(target, MUTATIONS, seed=1)
    if result.skipped:
        pytest.skip(result.skipped)
    assert result.samples > 0 and result.mutations == MUTATIONS
    assert not result.findings, "\n\n".join(f"{finding.folder}\n{finding.text}" for finding in result.findings)


def kept() -> list[Path]:
    return sorted(folder for target in FINDINGS.glob("*") if target.is_dir() for folder in target.iterdir())


@pytest.mark.parametrize("folder", kept(), ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_what_was_found_once_is_refused_or_read(folder: Path) -> None:
    """``findings/TARGET/NAME/`` holds a damaged folder that once broke the parser; it may be read or refused now."""
    attempt(find_target(folder.parent.name), folder, "finding")


# The harness itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["crash", "hang", "memory", "error", "message"])
def test_accidents_are_found(case: str) -> None:
    """Each kind of accident, made on purpose in the process that works, becomes a finding; the work goes on."""
    with Runner(longest=0.3) as runner:
        result = runner.run(f"accident-{case}", 40)
    assert result.mutations == 40 and result.opened > 0
    (finding,) = result.findings
    expected = {"crash": "SIGSEGV", "hang": "too long", "memory": "MemoryError", "error": "ZeroDivisionError"}
    assert finding.place.startswith(expected.get(case, "AssertionError")), finding


def test_mutations_depend_on_the_seed_alone() -> None:
    files = {"a.json": b'{"a": [1, 2, {"b": "c"}]}', "w.bin": bytes(range(256)) * 8}
    made = [mutate(files, {}, random.Random(f"7/{n}")) for n in range(200)]
    assert made == [mutate(files, {}, random.Random(f"7/{n}")) for n in range(200)]
    changed = [name for damaged in made for name, data in damaged.items() if data != files[name]]
    assert len(changed) > 150 and set(changed) == set(files)
