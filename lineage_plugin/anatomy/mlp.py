"""Units of multi-layer perceptrons: dense, gated and experts.

A neuron is an incoming weight vector (two when gated) and an outgoing one; neurons of one layer may change places. The
output of a gated neuron is ``activation(gate) * up``, odd in ``up``: the sign of ``up`` and ``down`` may be flipped
together, that of the gate may not. Biases of the neuron move with it and are left out of its vectors, which costs
nothing: any function of part of a unit still gives a fair coin.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage_plugin.anatomy.channels import Channels, IndexPool
from lineage_plugin.anatomy.types import UnitGroup

__all__ = ["neurons"]


def neurons(
    pool: IndexPool,
    layer: int,
    maps: Sequence[Channels],
    width: int,
    *,
    odd: frozenset[str] = frozenset(),
    name: str = "mlp",
    part: int = 0,
) -> UnitGroup | str:
    """Make the group of the neurons of one layer or expert.

    Args:
        pool: Where index arrays come from.
        layer: Index of the layer.
        maps: The maps into and out of the neurons, each seen from the side of the neurons.
        width: Size of the residual stream.
        odd: Roles that a sign flip negates; empty when the neurons have no sign symmetry.
        name: ``mlp`` or ``experts``.
        part: Index of the expert.

    Returns:
        The group, or the reason why there is none.
    """
    count = maps[0].count
    if any(m.count != count or m.length != width for m in maps) or count < 2:
        return "the shapes of its tensors do not fit together"
    return UnitGroup(
        name=name,
        layer=layer,
        swap=True,
        block=pool.labels(count, count, maps[0].tensor.file),
        vectors=tuple(m.vectors(pool.lines(m), odd=m.role in odd) for m in maps),
        part=part,
    )
