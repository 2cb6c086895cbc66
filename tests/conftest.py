"""Shared fixtures. The Hub client reads its settings at import: they are made harmless here, before anything else."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOME = tempfile.mkdtemp(prefix="lineage-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)
os.environ.pop("LINEAGE_REGISTRY", None)
os.environ |= {"HF_HOME": _HOME, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
os.environ["LINEAGE_CACHE"] = f"{_HOME}/lineage"

from tests.hub import LocalHub  # noqa: E402


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A started local Hub over the empty folder ``hub.root``; the test fails if the server itself stumbled."""
    root = tmp_path / "hub"
    root.mkdir()
    with LocalHub(root) as server:
        yield server
    assert server.errors == []
