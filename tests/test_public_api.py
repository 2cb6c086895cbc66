"""What others depend on: names, exit codes, start-up."""

from __future__ import annotations

import subprocess
import sys

import lineage_plugin
from lineage_plugin import errors

PUBLIC = {
    "BudgetExceeded",
    "Comparison",
    "Evidence",
    "Finding",
    "HubDenied",
    "HubError",
    "HubNotFound",
    "HubUnreachable",
    "InputError",
    "LineageError",
    "Options",
    "Policy",
    "Report",
    "UnreadableCheckpoint",
    "UnsafeCheckpoint",
    "UnsupportedEncoding",
    "UploadBlocked",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "fingerprint_model",
    "lint",
    "load_policy",
    "render",
    "scan",
    "tree",
}


def test_public_names_are_pinned() -> None:
    assert set(lineage_plugin.__all__) == PUBLIC == set(dir(lineage_plugin))
    assert all(getattr(lineage_plugin, name) is not None for name in PUBLIC)


def test_every_error_is_public_and_in_the_one_tree() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, lineage_plugin.LineageError)
        assert getattr(lineage_plugin, name) is error
        assert error.exit_code in (2, 4)


def test_the_main_path_imports_no_torch() -> None:
    code = (
        "import sys; from lineage_plugin import compare; compare('examples/liar', 'examples/base');"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    from pathlib import Path

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0
