"""What docs/tree.md shows is what the commands print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8")


def test_the_output_in_the_page_is_what_the_command_prints() -> None:
    shown = re.findall(r"```text\n\$ lineage (tree [^\n]+)\n(.+?)```\n\nExit code (\d)", PAGE, flags=re.DOTALL)
    assert shown
    for command, output, code in shown:
        done = subprocess.run(
            [sys.executable, "-m", "lineage_plugin", *command.split()],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={"COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        )
        assert done.stdout.strip().splitlines() == output.strip().splitlines()
        assert done.returncode == int(code)


def test_the_python_example_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.stdout == "[['examples/base', 'examples/honest']]\n", done.stderr
    assert "<svg" in (tmp_path / "tree.html").read_text(encoding="utf-8")
