"""LoRA layout: the low-rank factors of adapters.

An adapter adds ``s B A`` to the weight of a module, with ``A [r, in]`` and ``B [out, r]`` (Hu et al. 2021,
arXiv:2106.09685). The r *rank components*, a row of A with the column of B behind it, are summed, so they may change
places, and the sign of both may be flipped: neither the product nor anything computed from it (DoRA's column norms,
arXiv:2402.09353) changes. The usual start, A random and B zero, has the same law after such a relabelling, and
optimisers that treat elements alike, or matrices up to rotations, train the relabelled adapter as they would have
trained the other. A component's vectors run over channels of the base, which are not relabelled, so the components of
each module are relabelled by themselves, and coins of all modules are jointly fair.

Every invertible r x r matrix M gives the same product, too (``B M^-1``, ``M A``). It is no use here: the start is
invariant to relabelling, not to M, and a copy that was re-mixed in this way is not recognised.

Starts that are computed from the base's weights or from data (PiSSA, OLoRA, EVA, CorDA, LoftQ, LoRA-GA, KaSA) order the
components by what they mean, in every adapter in the same way: then there are no units.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.anatomy.families import Family
from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, Stack, is_float
from lineage_plugin.anatomy.types import UnitGroup, Vectors
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["FAMILY"]

IntArray = NDArray[np.int64]

_FACTOR = re.compile(
    r"(?P<path>.+)\.(?P<kind>lora_(?:embedding_)?)(?P<side>[AB])(?:\.(?!weight\Z)[^.]+)?(?:\.weight)?\Z"
)
_BESIDE = re.compile(r".+\.lora_(?:magnitude_vector|E|[AB])(?:\.[^.]+)*\Z")
_RANDOM = frozenset({"gaussian", "orthogonal"})
_LEAST_RANK = 2


def _claims(stack: Stack) -> bool:
    """Claim stacks of nothing but factors: beside full weights they are not what the layer is made of."""
    names = [name for layer in stack.layers for name in layer.tensors]
    return any(_FACTOR.match(name) for name in names) and all(_FACTOR.match(n) or _BESIDE.match(n) for n in names)


def _analyse(task: Task, layer: Layer) -> None:
    found: dict[str, dict[str, TensorInfo]] = {}
    for name, info in layer.tensors.items():
        match = _FACTOR.match(name)
        if match is not None:
            found.setdefault(match["path"], {})[match["side"]] = info
    obstacle = _obstacle(task)
    for path, factors in sorted(found.items()):
        why = obstacle or _add(task, layer, path, factors)
        if why is not None:
            task.leave_out("lora", layer, why)


def _obstacle(task: Task) -> str | None:
    """Say why no component of the adapter may be exchanged, or None."""
    settings = task.settings
    start = settings.text("init_lora_weights")
    if start is not None and start.lower() not in _RANDOM:
        return "they start from the base's weights or from data, so their order means something"
    if any(settings.claims(name) for name in ("kasa_config", "corda_config", "eva_config", "lora_ga_config")):
        return "they start from the base's weights or from data, so their order means something"
    if settings.claims("use_bdlora"):
        return "the factors are block-diagonal"
    return None


def _add(task: Task, layer: Layer, path: str, factors: dict[str, TensorInfo]) -> str | None:
    """Add the components of one module; return why there are none, or None."""
    down, up = factors.get("A"), factors.get("B")
    if down is None or up is None:
        return "one of the two factors is missing"
    if len(down.shape) < 2 or len(up.shape) < 2 or not is_float(down) or not is_float(up):
        return "the factors are no matrices"
    rank, outputs = down.shape[0], up.shape[0]
    if up.size != outputs * rank:
        return "the shapes of its factors do not fit together"
    if rank < _LEAST_RANK:
        return "a single component has no other to change places with"
    experts = _experts(task, rank)
    if experts is None:
        return "the number of experts that share the factors is not known"
    size, where = rank // experts, down.file
    lines = task.pool.get(("lines", 0, 1, rank), rank, 1, lambda: np.arange(rank, dtype=np.int64)[:, None], where)
    across = task.pool.get(("by expert", experts, size), rank, 1, lambda: _by_expert(experts, size), where)
    vectors = (
        Vectors("lora_A", down.name, 0, lines, down.size // rank, None, odd=True),
        Vectors("lora_B", up.name, 1, across, rank, (0, outputs), odd=True),
    )
    block = task.pool.labels(rank, size, where)
    # Adapters of different reach have different modules: the number of a module must not depend on the others.
    part = zlib.crc32(path.encode("utf-8", "replace"))
    task.groups.append(UnitGroup("lora", task.number(layer), True, block, vectors, part))
    return None


def _experts(task: Task, rank: int) -> int | None:
    """Return how many experts share the factors of a module: 1 unless whole parameters are adapted."""
    settings = task.settings
    if not settings.claims("target_parameters"):
        return 1
    size = settings.integer("r")
    if size is None or rank % size or settings.claims("rank_pattern"):
        return None
    return rank // size


def _by_expert(experts: int, size: int) -> IntArray:
    """Return the column of B that belongs to each row of A.

    PEFT (``ParamWrapper``) reads the rows of A as ``[experts, rank]`` and the columns of B as ``[rank, experts]``.
    """
    index: IntArray = np.arange(experts * size, dtype=np.int64).reshape(size, experts).T.reshape(-1, 1)
    return index


FAMILY = Family(
    name="lora",
    claims=_claims,
    analyse=_analyse,
    types=frozenset(),
    rank=2,
    every_stack=True,
    models="Adapters compared with adapters: LoRA, rsLoRA, DoRA, AdaLoRA",
    units=(("lora", "swap, flip"),),
    notes="One group a module: its rank components. A copy whose components were mixed by a matrix is not recognised.",
)
