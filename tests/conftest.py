"""Shared fixtures. The Hub client reads its settings at import: they are made harmless here, before anything else."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

_HOME = tempfile.mkdtemp(prefix="lineage-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)
os.environ.pop("LINEAGE_REGISTRY", None)
os.environ |= {"HF_HOME": _HOME, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
os.environ["LINEAGE_CACHE"] = f"{_HOME}/lineage"

from lineage_plugin.evidence import facts  # noqa: E402
from lineage_plugin.evidence.grid import Grid, grid  # noqa: E402
from tests.hub import LocalHub  # noqa: E402

_GRIDS: dict[tuple[str, tuple[int, ...], str], Grid | None] = {}


def _grid_once(rows: np.ndarray, dtype: str) -> Grid | None:
    """The grid of a matrix, worked out once for the same bytes; tests of grids call the function itself."""
    key = (hashlib.sha256(np.ascontiguousarray(rows)).hexdigest(), rows.shape, f"{rows.dtype} {dtype}")
    if key not in _GRIDS:
        _GRIDS[key] = grid(rows, dtype)
    return _GRIDS[key]


@pytest.fixture(scope="session", autouse=True)
def grids_once() -> Iterator[None]:
    """The same few examples are checked in hundreds of tests, and half of each check is looking for their grids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "grid", _grid_once)
        yield


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    """A started local Hub over the empty folder ``hub.root``; the test fails if the server itself stumbled."""
    root = tmp_path / "hub"
    root.mkdir()
    with LocalHub(root) as server:
        yield server
    assert server.errors == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the pages, whose tests wait for servers and a browser: at the end a core would be without work."""
    items.sort(key=lambda item: "tests/web/" not in item.path.as_posix())
