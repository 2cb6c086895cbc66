"""Anatomy: from tensor names and shapes to groups of exchangeable units.

Under the hypothesis that two models were trained from independent random weights, the labels of hidden units say
nothing: neuron 7 of one model has no more to do with neuron 7 of the other than with neuron 8. Which labels are free in
this sense, and which stored numbers belong to one label, depends on the architecture. :func:`analyse` works it out:

>>> anatomy = analyse(checkpoint.tensors, checkpoint.config)  # doctest: +SKIP
>>> [(group.name, group.units, group.swap, group.flip) for group in anatomy.groups[:3]]  # doctest: +SKIP
[('value', 64, True, True), ('query-key', 32, False, True), ('mlp', 512, True, True)]

Only symmetries of the function that the network computes are used, and only where the graph is known; what is not
certain is left out, and said.
"""

from lineage_plugin.anatomy.analyse import analyse, families_of, parts_of
from lineage_plugin.anatomy.compare import (
    comparable,
    expert_slice,
    pooled_units,
    shared_roles,
    structure_mismatch,
)
from lineage_plugin.anatomy.stream import READS, WRITES
from lineage_plugin.anatomy.types import Anatomy, Gain, Stream, UnitGroup, Vectors

__all__ = [
    "READS",
    "WRITES",
    "Anatomy",
    "Gain",
    "Stream",
    "UnitGroup",
    "Vectors",
    "analyse",
    "comparable",
    "expert_slice",
    "families_of",
    "parts_of",
    "pooled_units",
    "shared_roles",
    "structure_mismatch",
]
