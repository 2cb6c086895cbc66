"""The folder of small files that the caches lie in."""

from __future__ import annotations

from pathlib import Path

from lineage_plugin.shelf import Shelf

KEY = "ab" * 32


def test_what_is_larger_than_allowed_is_neither_kept_nor_read(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ".bin", limit=1000, largest=10)
    shelf.put(KEY, b"x" * 11)
    assert not list(tmp_path.iterdir())
    shelf.put(KEY, b"x" * 10)
    assert shelf.get(KEY) == b"x" * 10
    (tmp_path / "ab" / f"{KEY}.bin").write_bytes(b"x" * 11)
    assert shelf.get(KEY) is None
