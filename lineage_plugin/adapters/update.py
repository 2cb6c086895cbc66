"""The update that an adapter makes to a weight.

==========  =====================================================================
LoRA        ``s B A`` with ``s = alpha / r`` (arXiv:2106.09685)
rsLoRA      the same with ``s = alpha / sqrt(r)`` (arXiv:2312.03732)
DoRA        ``m (W + s B A) / |W + s B A| - W``, norms by row (arXiv:2402.09353)
embeddings  ``s (B A)^T``
==========  =====================================================================

Rows are read one by one: the update of a few output channels costs their rows of B and all of A.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.adapters.modules import AdaptedModule
from lineage_plugin.adapters.settings import AdapterSettings
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.types import Checkpoint, Selection
from lineage_plugin.errors import UnsupportedEncoding

__all__ = ["effective_update"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def effective_update(
    adapter: Checkpoint,
    module: AdaptedModule,
    settings: AdapterSettings,
    rows: IntArray | None = None,
    *,
    weight: FloatArray | None = None,
) -> FloatArray:
    """Return what an adapter adds to some rows of a weight.

    Args:
        adapter: The adapter.
        module: One of its modules.
        settings: Its configuration.
        rows: Output channels, of embeddings tokens, strictly increasing; None for all.
        weight: ``[rows, inputs]`` the base's weight for these rows, which DoRA needs.

    Returns:
        ``[rows, inputs]`` float32, ``[tokens, width]`` for embeddings: the base's weight as ``Linear`` stores it. With
        ``fan_in_fan_out`` the base stores the transpose.

    Raises:
        UnsupportedEncoding: When the update is not that of plain matrices, or its scale is not known.
        InputError: When a file cannot be read.
    """
    prefix = "lora_embedding_" if module.embedding else "lora_"
    down, up = (module.parts.get(f"{prefix}{side}") for side in "AB")
    scale = settings.scale_of(module.path, module.rank or 0)
    experts = bool(settings.parameters) and settings.rank_of(module.path) != module.rank
    magnitude = module.parts.get("lora_magnitude_vector")
    where = f"{shown(adapter.id)}: {shown(module.path, 120)}"
    if down is None or up is None or not len(down.shape) == 2 == len(up.shape):
        raise UnsupportedEncoding(where, "this adapter is no product of two matrices", "Merge it with PEFT first.")
    if experts or module.method != "LORA" or module.problem or settings.values.get("use_bdlora"):
        raise UnsupportedEncoding(where, "this adapter is no product of two matrices", "Merge it with PEFT first.")
    if scale is None:
        raise UnsupportedEncoding(where, "adapter_config.json does not say how the update is scaled")
    if magnitude is not None and (weight is None or module.embedding):
        raise UnsupportedEncoding(where, "the update depends on the base's weights (DoRA)", "Merge it with PEFT first.")
    if module.embedding:
        a, b = adapter.read([Selection(down.name, columns=rows), Selection(up.name)])
        return np.ascontiguousarray((a.T @ b.T) * np.float32(scale))
    a, b = adapter.read([Selection(down.name), Selection(up.name, rows=rows)])
    update: FloatArray = (b @ a) * np.float32(scale)
    if magnitude is None or weight is None:
        return update
    (size,) = adapter.read([Selection(magnitude.name, rows=rows)])
    changed = weight + update
    norm = np.linalg.norm(changed, axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(norm > 0, size.reshape(-1, 1) / norm, 1.0).astype(np.float32) * changed - weight
