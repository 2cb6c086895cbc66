"""The page on the registry, followed word for word, and what scans and checks say of models whose origin is known."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lineage_plugin import Options, Report, UsageError, check, fingerprint_model, render, scan
from lineage_plugin.cli import main, parser
from lineage_plugin.report.json_report import schema

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "registry.md").read_text(encoding="utf-8")


# --- the page -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    command: str
    code: int
    out: str
    said: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> list[Done]:
    """Every command of the page, run by a shell in a folder with the examples, one after the other."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(EXAMPLES, folder / "clone" / "examples")
    (folder / "bin").mkdir()
    program = folder / "bin" / "lineage"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lineage_plugin "$@"\n')
    program.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")},
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "LINEAGE_CACHE": str(folder / "cache"),
        "COLUMNS": "120",
    }
    found = []
    for command in [line for block in blocks("bash") for line in block.splitlines()]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder / "clone",
            env=environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        found.append(Done(command, done.returncode, done.stdout, done.stderr))
    return found


def starting(followed: list[Done], words: str) -> list[Done]:
    found = [done for done in followed if done.command.startswith(words)]
    assert found, words
    return found


pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def test_the_page_leads_from_nothing_to_a_card_that_passes(followed: list[Done]) -> None:
    (added,), (listed,) = starting(followed, "lineage registry add"), starting(followed, "lineage registry list")
    assert added.code == 0 and "1 added" in added.said
    assert listed.code == 0 and listed.out.startswith("acme/base ")
    before, after = starting(followed, "lineage scan")
    assert before.code == 1 and before.out.startswith("DERIVED: ")
    (checked, printed) = starting(followed, "lineage check")
    assert checked.code == 0 and checked.out.startswith("✓ PASS")
    assert set(re.findall(r"LIN\d{3}", checked.out)) == {"LIN202", "LIN205"}
    assert after.code == 0 and after.out.startswith("DERIVED: ") and "LIN" not in after.out
    assert "Declared base acme/base" in after.out
    # With its fingerprint in the place of the base, the same card passes, too.
    assert printed.code == 0 and printed.out.startswith("✓ PASS") and "fingerprint file" in printed.out
    failed = [done for done in followed if done.code and done is not before]
    assert not failed, failed


def test_the_page_shows_what_the_scan_prints(followed: list[Done]) -> None:
    (shown,) = blocks("text")
    assert "LIN102" in shown
    assert shown in starting(followed, "lineage scan")[0].out


def test_the_lines_that_are_pasted_are_those_suggested(followed: list[Done]) -> None:
    suggested = re.findall(r"^ {8}(base_model\w*: \S+)$", starting(followed, "lineage scan")[0].out, re.MULTILINE)
    assert suggested == ["base_model: acme/base", "base_model_relation: finetune"]
    bare, pasted = (shlex.split(done.command)[2].split("\\n") for done in starting(followed, "printf"))
    assert [line for line in pasted if line not in bare] == suggested


def test_the_commands_in_the_table_exist() -> None:
    named = re.findall(r"`(lineage registry \w+[^`]*)`", PAGE)
    named += [f"lineage registry {rest}" for rest in re.findall(r", `(\w+(?: [^`]+)?)`(?=[^|\n]* \|)", PAGE)]
    actions = set()
    for command in named:
        words = re.sub(r"\[[^\]]*\]|\.\.\.", "", command).split()[1:]
        args = parser().parse_args(words)
        actions.add(args.action)
    assert actions == {
        *("add", "build", "list", "stats", "verify", "remove", "compact", "export", "import", "merge", "push", "pull")
    }


# --- models whose origin is known ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "cache"))


def register(folder: Path, **models: Path) -> str:
    """Make a registry of models, called ``acme/NAME``."""
    for name, model in models.items():
        assert main(["registry", "add", str(model), "--name", f"acme/{name}", "--registry", str(folder)]) == 0
    return str(folder)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registry of the base alone."""
    return register(tmp_path_factory.mktemp("known") / "bases.lineage", base=EXAMPLES / "base")


def card(base: str | None) -> str:
    declared = f"base_model: {base}\nbase_model_relation: finetune\n" if base else ""
    return f"---\nlicense: apache-2.0\n{declared}---\n# A model\n"


def model(folder: Path, example: str, text: str) -> Path:
    """An example model under another card."""
    shutil.copytree(EXAMPLES / example, folder / example)
    (folder / example / "README.md").write_text(text, encoding="utf-8")
    return folder / example


def pasted(readme: Path, suggestion: tuple[str, ...]) -> None:
    """Do with a card what the report says: paste the lines into its front matter, in the place of what is there."""
    lines = [
        line
        for line in readme.read_text(encoding="utf-8").splitlines()
        if not re.match(r"base_model(_relation)?:", line)
    ]
    at = 1 if lines and lines[0] == "---" else 0
    assert (suggestion[0] == "---") is (at == 0)
    readme.write_text("\n".join([*lines[:at], *suggestion, *lines[at:]]) + "\n", encoding="utf-8")


def codes(report: Report) -> list[str]:
    return [found.code for found in report.findings]


def valid(report: Report) -> Report:
    jsonschema.validate(json.loads(render(report, format="json")), schema())
    return report


@pytest.mark.parametrize(
    ("text", "help"),
    [
        (card(None), "add this to the front matter"),
        (card("acme/elsewhere"), "replace base_model in the front matter"),
        ("# A model\n\nNobody said where it is from.\n", "add this to the front matter"),
    ],
    ids=["no base", "another base", "no front matter"],
)
def test_a_scan_finds_the_base_and_its_lines_make_the_card_pass(
    tmp_path: Path, known: str, text: str, help: str
) -> None:
    mine = model(tmp_path, "honest", text)
    report = valid(scan(str(mine), registry=known))
    assert report.verdict == "fail" and codes(report) == ["LIN102"]
    assert [(c.base.id, c.relation) for c in report.comparisons] == [("acme/base", "derived")]
    (found,) = report.findings
    assert "acme/base" in found.message and help in (found.help or "")
    assert [line for line in found.suggestion if line != "---"] == [
        "base_model: acme/base",
        "base_model_relation: finetune",
    ]
    pasted(mine / "README.md", found.suggestion)
    report = valid(scan(str(mine), registry=known))
    assert report.verdict == "pass" and report.findings == ()
    assert [c.base.id for c in report.comparisons] == ["acme/base"]
    assert check(str(mine), bases=[str(EXAMPLES / "base")], registry=known).verdict == "pass"


def test_a_check_finds_what_a_scan_finds_and_only_when_it_is_asked(
    tmp_path: Path, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = str(model(tmp_path, "honest", card(None)))
    report = valid(check(mine, registry=known))
    assert report.verdict == "fail" and codes(report) == ["LIN201", "LIN102"]
    scanned = scan(mine, registry=known)
    assert [c.evidence for c in report.comparisons] == [c.evidence for c in scanned.comparisons] != []
    monkeypatch.setenv("LINEAGE_REGISTRY", known)
    assert codes(check(mine)) == ["LIN201"]
    assert codes(scan(mine)) == ["LIN102"]


def test_a_wrong_base_is_refuted_and_the_right_one_named(tmp_path: Path, known: str) -> None:
    mine = model(tmp_path, "honest", card("acme/stranger"))
    report = valid(check(str(mine), bases=[str(EXAMPLES / "liar")], registry=known))
    assert report.verdict == "fail" and {"LIN101", "LIN102"} <= set(codes(report))
    (found,) = [found for found in report.findings if found.code == "LIN102"]
    assert found.line == 3 and "replace" in (found.help or "")
    assert found.suggestion == ("base_model: acme/base", "base_model_relation: finetune")


def test_a_shared_start_is_shown_and_no_base(tmp_path: Path, known: str) -> None:
    mine = str(model(tmp_path, "twin", card(None)))
    for report in (valid(scan(mine, registry=known)), valid(check(mine, registry=known))):
        assert [(c.base.id, c.relation) for c in report.comparisons] == [("acme/base", "shared-init")]
        assert report.verdict == "pass" and "LIN102" not in codes(report)
    report = check(str(EXAMPLES / "twin"), bases=[str(EXAMPLES / "base")], registry=known)
    assert report.verdict == "fail" and "LIN107" in codes(report) and "LIN102" not in codes(report)


def test_of_an_unrelated_model_nothing_is_found(tmp_path: Path, known: str) -> None:
    mine = str(model(tmp_path, "liar", card(None)))
    report = valid(scan(mine, registry=known))
    assert report.verdict == "pass" and report.findings == () and report.comparisons == ()
    assert "no relative" in report.summary
    assert codes(check(mine, registry=known)) == ["LIN201"]
    report = check(str(EXAMPLES / "liar"), bases=[str(EXAMPLES / "base")], registry=known)
    assert "LIN101" in codes(report) and "LIN102" not in codes(report)


def test_the_evidence_is_divided_by_the_size_of_the_registry(tmp_path: Path, known: str) -> None:
    mine = str(model(tmp_path, "honest", card(None)))
    larger = register(tmp_path / "larger", base=EXAMPLES / "base", liar=EXAMPLES / "liar", twin=EXAMPLES / "twin")
    found = [scan(mine, registry=registry).comparisons[0] for registry in (known, larger)]
    assert {one.base.id for one in found} == {"acme/base"}
    assert found[0].evidence.log10_e - found[1].evidence.log10_e == pytest.approx(math.log10(3))
    assert any("registry of 3 models" in limit for limit in found[1].limits)
    assert any("registry of 1 model." in limit for limit in found[0].limits)


def test_a_model_is_not_its_own_base(tmp_path: Path, known: str) -> None:
    print_ = tmp_path / "base.fingerprint"
    print_.write_bytes(fingerprint_model(str(EXAMPLES / "base"), name="acme/base"))
    report = valid(scan(str(print_), registry=known))
    assert report.comparisons == () and report.verdict == "pass"


# --- a line of descent --------------------------------------------------------------------------------------------


def continued(source: Path, target: Path, seed: int, text: str) -> Path:
    """A model with the weights of another one and as much again, for what further training adds to them."""
    shutil.copytree(source, target)
    (target / "README.md").write_text(text, encoding="utf-8")
    rng = np.random.default_rng(seed)
    changed = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        values = tensor.astype(np.float32)
        if values.ndim == 2:
            values += 0.4 * values.std() * rng.standard_normal(values.shape, dtype=np.float32)
        changed[name] = values.astype(tensor.dtype)
    save_file(changed, target / "model.safetensors")
    return target


@dataclass(frozen=True)
class Line:
    """Base, child, two grandchildren by it, and registries of some of them."""

    child: Path
    mine: Path
    sibling: Path
    parents: str
    siblings: str


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    folder = tmp_path_factory.mktemp("line")
    base = EXAMPLES / "base"
    child = continued(base, folder / "child", 1, card("acme/base"))
    mine = continued(child, folder / "mine", 2, card("acme/base"))
    sibling = continued(child, folder / "sibling", 3, card("acme/child"))
    return Line(
        child,
        mine,
        sibling,
        register(folder / "parents", base=base, child=child),
        register(folder / "siblings", base=base, sibling=sibling),
    )


def test_the_nearer_parent_is_named(line: Line) -> None:
    report = valid(check(str(line.mine), bases=[str(EXAMPLES / "base")], registry=line.parents))
    (found,) = [found for found in report.findings if found.code == "LIN105"]
    assert found.level == "warning" and found.line == 3 and "acme/child is a closer parent" in found.message
    assert "estimate" in found.message and "LIN102" not in codes(report)
    assert report.verdict == "pass"


def test_of_two_ancestors_the_nearer_one_is_suggested(tmp_path: Path, line: Line) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(line.mine, mine)
    (mine / "README.md").write_text(card(None), encoding="utf-8")
    report = valid(scan(str(mine), registry=line.parents))
    assert [c.base.id for c in report.comparisons] == ["acme/child", "acme/base"]
    (found,) = report.findings
    assert found.code == "LIN102" and found.suggestion[0] == "base_model: acme/child"


def test_neither_a_sibling_nor_a_child_is_called_a_nearer_parent(line: Line) -> None:
    base = str(EXAMPLES / "base")
    for suspect, registry in ((line.mine, line.siblings), (line.child, line.siblings), (line.child, line.parents)):
        report = check(str(suspect), bases=[base], registry=registry)
        assert report.verdict == "pass" and not {"LIN102", "LIN105"} & set(codes(report)), (suspect, registry)
        assert scan(str(suspect), registry=registry).findings == ()


# --- misuse -------------------------------------------------------------------------------------------------------


def test_weights_are_no_list_of_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(EXAMPLES / "base" / "model.safetensors")
    assert main(["registry", "build", weights, "--registry", str(tmp_path / "new"), "--offline"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no list of ids" in said


def test_a_commit_that_is_cut_short_is_explained(
    tmp_path: Path, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = str(shutil.copytree(known, tmp_path / "copy"))
    main(["registry", "list", "--json", "--registry", registry])
    (entry,) = json.loads(capsys.readouterr().out)
    assert main(["registry", "remove", f"acme/base@{entry['commit'][:12]}", "--registry", registry]) == 1
    assert "in full" in capsys.readouterr().err
    assert main(["registry", "remove", f"acme/base@{entry['commit']}", "--registry", registry]) == 0


def test_without_a_registry_the_message_says_how_to_make_one(tmp_path: Path) -> None:
    for call in (scan, check):
        with pytest.raises(UsageError, match=r"there is no registry.*lineage registry build"):
            call(str(EXAMPLES / "honest"), registry=str(tmp_path / "nothing"), options=Options(offline=True))


def test_a_build_that_is_stopped_says_that_nothing_is_lost(tmp_path: Path) -> None:
    for number in range(20):
        shutil.copytree(EXAMPLES / "base", tmp_path / "models" / "acme" / f"m{number}")
    command = ["registry", "build", str(tmp_path / "models"), "--registry", str(tmp_path / "known"), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lineage_plugin", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "known").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 130 and said == (
        "stopped; what was added is kept, and the same command goes on from there\n"
    )
    assert main(command) == 0
