"""A small model to serve, and reading it as the library itself does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import numpy as np
from huggingface_hub import get_session, hf_hub_url
from safetensors.numpy import save_file

from .server import LocalHub

__all__ = ["ID", "WEIGHTS", "contents", "digest", "fill", "get", "head", "url"]

ID = "acme/base"
WEIGHTS = "model.safetensors"


def fill(folder: Path, seed: int = 0) -> Path:
    """Write a small model: card, config, subfolder and weights."""
    (folder / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model: acme/root\n---\n# A model\n")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "sub" / "notes.txt").write_text("notes")
    values = np.random.default_rng(seed).standard_normal((40, 50)).astype("float32")
    save_file({"a.weight": values, "b.weight": values[:3]}, folder / WEIGHTS)
    return folder


def digest(path: Path | str) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def contents(folder: Path | str) -> dict[str, bytes]:
    """Return every file of a folder."""
    folder = Path(folder)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def url(hub: LocalHub, file: str = WEIGHTS, revision: str = "main") -> str:
    """Return the address of a file of the model ``ID``."""
    return hf_hub_url(ID, file, revision=revision, endpoint=hub.endpoint)


def get(hub: LocalHub, range_: str | None = None, file: str = WEIGHTS, **headers: str) -> httpx2.Response:
    """Read a file: a plain GET, with a range if one is given, that follows the redirect."""
    if range_:
        headers["Range"] = range_
    return get_session().get(url(hub, file), headers=headers)


def head(address: str) -> httpx2.Response:
    """Ask for the headers of an address itself, not of where it redirects to."""
    return get_session().head(address, follow_redirects=False)
