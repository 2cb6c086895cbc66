"""What a conversion is, and what all of them need: reading a model, and saving it with other tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["LINEAR", "Conversion", "State", "config_of", "replaced", "save", "state_of"]

State = dict[str, "torch.Tensor"]

LINEAR = ("llama", "mistral", "qwen2", "qwen3")
"""Models whose layers are linear ones with transformers' names, one tensor a matrix."""
_BESIDE = ("config.json", "tokenizer.json", "README.md")


@dataclass(frozen=True, slots=True)
class Conversion:
    """A format and how it is written.

    Attributes:
        name: Name of the format and its settings.
        writer: The library that makes the bytes, or ``by hand``.
        write: Writes the model in one folder into another, which is there.
        quantised: Whether it has fewer levels than 16 bits.
        needs: Modules that the writer imports.
        models: Values of ``model_type`` that it takes; empty for all.
    """

    name: str
    writer: str
    write: Callable[[Path, Path], None]
    quantised: bool = False
    needs: tuple[str, ...] = ("torch",)
    models: tuple[str, ...] = ()

    def __call__(self, source: Path, target: Path) -> Path:
        """Convert a model.

        Args:
            source: Its folder.
            target: Folder to write into; made where it is missing.

        Returns:
            ``target``.
        """
        target.mkdir(parents=True, exist_ok=True)
        for name in _BESIDE:
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        self.write(source, target)
        return target

    def fits(self, source: Path) -> bool:
        """Return whether the model in a folder can be written in this format."""
        return not self.models or config_of(source).get("model_type") in self.models

    def missing(self) -> tuple[str, ...]:
        """Return the modules that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


def config_of(source: Path) -> dict[str, Any]:
    """Return the configuration of a model."""
    found: dict[str, Any] = json.loads((source / "config.json").read_text())
    return found


def state_of(source: Path) -> State:
    """Return the tensors of a model."""
    from safetensors.torch import load_file

    return dict(load_file(source / "model.safetensors"))


def save(target: Path, tensors: Mapping[str, torch.Tensor], **config: object) -> None:
    """Write one file, and put settings into ``config.json``."""
    from safetensors.torch import save_file

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, target / "model.safetensors", metadata={"format": "pt"})
    (target / "config.json").write_text(json.dumps({**config_of(target), **config}))


def _is_linear(name: str) -> bool:
    return name.endswith("_proj.weight")


def replaced(source: Path, pack: Callable[[str, torch.Tensor], State]) -> State:
    """Return the state of a model with each linear layer but the head packed; names of parts are given in full."""
    found: State = {}
    for name, tensor in state_of(source).items():
        found |= pack(name, tensor) if _is_linear(name) else {name: tensor}
    return found
