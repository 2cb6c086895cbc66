"""What the docs say must be so: codes, links, commands, the API example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lineage_plugin._links import DOCS
from lineage_plugin.explain.__main__ import files
from lineage_plugin.findings import CODES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def test_the_pages_of_the_finding_codes_are_those_of_the_package() -> None:
    kept = {
        name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in files() if (ROOT / "docs" / name).is_file()
    }
    assert kept == files(), "run python -m lineage_plugin.explain docs"
    names = {f"rules/{path.name}" for path in (ROOT / "docs" / "rules").iterdir()}
    assert names == {f"rules/{code}.md" for code in CODES}


def test_addresses_of_codes_lead_to_their_pages() -> None:
    for rule in CODES.values():
        assert (ROOT / "docs" / rule.help_uri.removeprefix(f"{DOCS}/")).is_file(), rule.code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "@@" not in text
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_python_example_of_the_readme_runs() -> None:
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "pass derived\n", done.stderr


def test_the_output_in_the_readme_is_what_the_command_prints() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        r"```text\n\$ lineage check examples/liar --base examples/base\n(.+?)```", readme, flags=re.DOTALL
    )
    command = [sys.executable, "-m", "lineage_plugin", "check", "examples/liar", "--base", "examples/base"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 1

    def steady(text: str) -> list[str]:
        return [line.rstrip() for line in re.sub(r"(less than )?\d+\.\d s\b", "N s", text).strip().splitlines()]

    assert steady(shown) == steady(done.stdout)


def test_every_command_of_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"^(?:\$ )?lineage (\w+)", readme, flags=re.MULTILINE))
    assert {"check", "compare", "lint"} <= commands
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "lineage_plugin", command, "--help"], cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0, command
