"""What PyTorch calls the weights of Flax and Keras models of transformers.

The rules are those by which transformers itself converted (modeling_flax_pytorch_utils.py and
modeling_tf_pytorch_utils.py of transformers 4.57, the last line of releases with Flax and TensorFlow).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lineage_plugin.checkpoint.foreign.arranged import torch_axes

__all__ = ["flax_name", "flax_paths", "keras_name", "keras_paths"]

_FLAX = {"kernel": "weight", "scale": "weight", "embedding": "weight", "mean": "running_mean", "var": "running_var"}
_KERAS = {
    **{"kernel": "weight", "embeddings": "weight", "gamma": "weight", "beta": "bias"},
    **{"pointwise_kernel": "pointwise.weight", "depthwise_kernel": "depthwise.weight"},
    **{"moving_mean": "running_mean", "moving_variance": "running_var"},
}
_COLLECTIONS = frozenset({"params", "batch_stats"})
_TRAINING = frozenset({"opt_state", "step", "optimizer_weights", "top_level_model_weights"})
_SCOPE = re.compile(r"^[^/]*___([^/]*)\Z")
_LONGEST = 2048


def flax_paths(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the module path of each parameter: without the names of collections, training state left out."""
    kept = [path for path in paths if path[0] not in _TRAINING]
    wrapped = any(path[0] == "params" for path in kept)
    return {path: path[1:] if wrapped and len(path) > 1 and path[0] in _COLLECTIONS else path for path in kept}


def flax_name(path: Sequence[str], rank: int) -> tuple[str, tuple[int, ...]]:
    """Return the name in PyTorch, and the stored axis for each of its axes there.

    Args:
        path: Module path and name of the parameter.
        rank: Its number of axes.
    """
    axes = torch_axes(rank) if path[-1] == "kernel" else tuple(range(rank))
    return ".".join((*path[:-1], _FLAX.get(path[-1], path[-1]))), axes


def keras_paths(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the variable path of each dataset of a Keras file, without what only the file adds.

    A file of one piece has a group for each layer, which holds variables under their full name; that begins with the
    name of the model. A file of several pieces has the variables alone, without the name of the model.
    """
    kept = [path for path in paths if path[0] not in _TRAINING]
    bare = {path: path[1:] if path[0] == "model_weights" and len(path) > 1 else path for path in kept}
    models = {path[1] for path in bare.values() if len(path) > 2}
    model = models.pop() if len(models) == 1 else ""
    if model.startswith("tf"):
        # The group of a layer, the name of the model, and what is left is the variable.
        return {path: rest[2 if len(rest) > 2 else 1 :] or rest for path, rest in bare.items()}
    # Other Keras models repeat the name of the layer.
    return {path: rest[1:] if len(rest) > 2 and rest[0] == rest[1] else rest for path, rest in bare.items()}


def keras_name(path: Sequence[str], rank: int) -> tuple[str, tuple[int, ...]]:
    """Return the name in PyTorch, and the stored axis for each of its axes there.

    Args:
        path: Variable path, such as ``("bert", "encoder", "layer_._0", "output", "dense", "kernel:0")``.
        rank: Its number of axes.
    """
    parts: list[str] = []
    for part in "/".join(path).removesuffix(":0")[:_LONGEST].split("/"):
        match = _SCOPE.match(part)
        # 'a___b' stands for b, 'layer_._0' for layer.0.
        parts += (match[1] if match else part).split("_._")
    parts = [part for part in parts if part]
    last = parts[-1] if parts else ""
    axes = torch_axes(rank) if last.endswith("kernel") else tuple(range(rank))
    return ".".join((*parts[:-1], _KERAS.get(last, last))), axes
