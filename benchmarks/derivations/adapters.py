"""Low-rank adaptation: an update of small rank trained on frozen weights, then merged into them (Hu et al. 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils import parametrize

from benchmarks.training import Recipe, Result, train

__all__ = ["adapt"]


class _LowRank(torch.nn.Module):
    """``W + B A`` with ``B`` zero at first."""

    def __init__(self, shape: torch.Size, rank: int) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.randn(rank, shape[1]) / shape[1] ** 0.5)
        self.b = torch.nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.b @ self.a


def adapt(model: Any, recipe: Recipe, rank: int) -> Result:
    """Train low-rank updates of all matrices of the blocks and merge them, in place.

    Args:
        model: A transformers model, float32.
        recipe: How.
        rank: Rank of each update.

    Returns:
        What was reached.
    """
    model.requires_grad_(False)
    adapted = [
        module
        for name, module in model.named_modules()
        if any(part.isdigit() for part in name.split(".")) and getattr(module, "weight", None) is not None
    ]
    adapted = [module for module in adapted if module.weight.ndim == 2]
    for module in adapted:
        parametrize.register_parametrization(module, "weight", _LowRank(module.weight.shape, rank))
        module.parametrizations.weight.original.requires_grad_(False)
    result = train(model, recipe)
    for module in adapted:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    model.requires_grad_(True)
    return result
