"""What PyTorch calls the constants of an ONNX file.

Exporters keep the names of parameters that they leave as they are. The weight of a linear layer without bias becomes
the second factor of a matrix product: it is turned, and loses its name (``onnx::MatMul_263`` by TorchScript,
``val_108`` by torch.export). The node that multiplies by it still says which module it was made from. The model builder
of onnxruntime-genai turns it too, and names it after the node: ``model.layers.0.mlp.up_proj.MatMul.weight``.
"""

from __future__ import annotations

import re

from lineage_plugin.checkpoint.foreign.onnx_graph import Graph
from lineage_plugin.checkpoint.names import is_printable_name

__all__ = ["anonymous", "torch_names"]

_ANONYMOUS = re.compile(r"^(?:onnx::\w+|val_\d+|\d+|t_\d+|transpose_\d+|permute_\d+|_tensor_constant\d+)\Z")
_BUILDER = re.compile(r"^(?P<module>.+)\.MatMul\.weight\Z")
_FINAL_NORM = re.compile(r"^model\.layers\.\d+\.final_norm_layernorm\.(?P<last>\w+)\Z")


def anonymous(name: str) -> bool:
    """Return whether a name was given by an exporter and says nothing."""
    return bool(_ANONYMOUS.match(name))


def torch_names(graph: Graph) -> dict[str, tuple[str, bool]]:
    """Return for each name in PyTorch the constant that holds it, and whether that is turned.

    Constants that nobody can name are left out; a constant that two modules share has two names.
    """
    found: dict[str, tuple[str, bool]] = {}
    builder = any(_BUILDER.match(name) for name in graph.initialisers)
    for name, held in graph.initialisers.items():
        if not anonymous(name):
            match = _BUILDER.match(name) if builder and len(held.shape) == 2 else None
            if match:
                found[_built(match["module"]) + ".weight"] = (name, True)
            else:
                found[_built(name) if builder else name] = (name, False)
    candidates: dict[str, set[tuple[str, bool]]] = {}
    for use in graph.uses:
        used = graph.initialisers.get(use.tensor)
        if used is None or not use.module or len(used.shape) != 2:
            continue
        # A matrix with a name of its own is as PyTorch has it, whatever the product does with it.
        turned = use.turned and anonymous(use.tensor)
        if turned or use.operator == "Gather" or anonymous(use.tensor):
            candidates.setdefault(f"{use.module}.weight", set()).add((use.tensor, turned))
    for name, held_by in candidates.items():
        if name not in found and len(held_by) == 1:
            found[name] = held_by.pop()
    return {name: held for name, held in found.items() if is_printable_name(name)}


def _built(name: str) -> str:
    """Return the name in transformers of a parameter that the model builder of onnxruntime-genai named."""
    match = _FINAL_NORM.match(name)
    if match:
        return f"model.norm.{match['last']}"
    return name.replace(".attn.", ".self_attn.")
