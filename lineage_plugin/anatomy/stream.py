"""The residual stream of a transformer: where its channels are stored and which gains stand between.

Every block reads the stream through a normalisation and adds to it. Exchanging two channels in everything that touches
the stream, norms and embeddings included, changes nothing; nor does flipping the sign of one, where the normalisation
divides by the root mean square and subtracts no mean (a stored norm bias, or a mean, breaks the sign). That holds only
if nothing fixed is added to the stream, such as sinusoidal positions, and only if all that stands in a block is known.
RMSNorm and LayerNorm without bias leave the same names and shapes, so the model type has to be known, too. In any doubt
there is no :class:`~lineage_plugin.anatomy.types.Stream`.

With the gain g of a norm moved into the maps behind it (``W diag(g)``), a root-mean-square norm commutes with every
rotation of the stream (Ashkboos et al. 2024, arXiv:2401.15024). A gain that stands *behind* a block's output
(``writes``) cannot be moved: with such post-norms channels may change places and signs, but not be rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lineage_plugin.anatomy.layouts import Task
from lineage_plugin.anatomy.stacks import Layer, is_float
from lineage_plugin.anatomy.types import Gain, Stream
from lineage_plugin.checkpoint.types import TensorInfo

__all__ = ["READS", "WRITES", "Norms", "StreamLayout", "find_stream"]

READS = frozenset({"gate", "up", "fc1", "q", "k", "v"})
"""Roles whose vectors run over the stream that they read."""
WRITES = frozenset({"down", "fc2", "o"})
"""Roles whose vectors run over the stream that they write."""

_ATTENTION = frozenset({"value", "query-key"})
_MLP = frozenset({"mlp", "experts"})


@dataclass(frozen=True, slots=True)
class Norms:
    """The normalisations of a block, by the names of their modules.

    Attributes:
        kind: ``rms`` or ``layer``.
        attention: The norm whose output attention reads; None when it reads the stream as it is.
        mlp: The same for the MLP and its experts.
        after_attention: The norm between the output of attention and the stream.
        after_mlp: The same for the MLP and its experts.
        plus_one: Whether the gain is one plus what is stored.
        bias: Whether the norms store a bias.
        gains: Whether they store gains at all.
        foldable: Whether the gains of ``attention`` and ``mlp`` act on nothing but what is read: False when the stream
            itself has been through the norm, as in post-LN blocks.
    """

    kind: Literal["rms", "layer"]
    attention: str | None = None
    mlp: str | None = None
    after_attention: str | None = None
    after_mlp: str | None = None
    plus_one: bool = False
    bias: bool = False
    gains: bool = True
    foldable: bool = True

    def modules(self) -> frozenset[str]:
        """Return the names of the norms of a block."""
        found = (self.attention, self.mlp, self.after_attention, self.after_mlp)
        return frozenset(name for name in found if name is not None)


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """Where a family keeps what touches the stream.

    Attributes:
        embedding: Module of the token embeddings, below any of the stack's parent modules.
        blocks: Modules that may stand directly in a layer beside the norms; with any other there is no stream.
        norms: Says which norms a stack has; None when that is not known or something fixed is added to the stream.
        unembedding: Module of the output projection; a second name where libraries differ; empty without one.
        final: Module of the norm behind the last layer, if any.
        symmetry: What its channels may do, for the documentation.
    """

    embedding: str
    blocks: frozenset[str]
    norms: Callable[[Task], Norms | None]
    unembedding: tuple[str, ...] = ()
    final: str | None = None
    symmetry: str = "swap"


def find_stream(layout: StreamLayout, task: Task, tensors: Mapping[str, TensorInfo]) -> Stream | None:
    """Describe the residual stream of a stack whose groups have been found.

    Args:
        layout: Where the family keeps it.
        task: The finished analysis of the stack.
        tensors: All tensors of the checkpoint by name.

    Returns:
        The stream, or None when any tensor of it is missing, doubled, of an unexpected shape, or not accounted for.
    """
    norms = layout.norms(task)
    if norms is None or task.width < 2 or not _complete(task):
        return None
    search = _Search(tensors, task.stack.prefix, task.width, norms)
    embedding = search.table(layout.embedding)
    final = None if layout.final is None else search.final(layout.final)
    if embedding is None or (layout.final is not None and norms.gains and final is None):
        return None
    if not all(_known(layer, layout, norms, task.width) for layer in task.stack.layers):
        return None
    before, after = _gains(task, norms)
    return Stream(
        width=task.width,
        embedding=embedding,
        unembedding=search.table(*layout.unembedding),
        norm=norms.kind,
        swap=True,
        reads=before,
        writes=after,
        final=final,
    )


def _complete(task: Task) -> bool:
    """Return whether every layer has units of attention and of an MLP: what is left out might hide something."""
    found: dict[int, set[str]] = {}
    for group in task.groups:
        found.setdefault(group.layer, set()).add(group.name)
    return all(
        "value" in names and names & _MLP
        for names in (found.get(task.number(layer), set()) for layer in task.stack.layers)
    )


def _known(layer: Layer, layout: StreamLayout, norms: Norms, width: int) -> bool:
    """Return whether a layer holds its norms as expected, and nothing that is not accounted for."""
    children = frozenset(name.split(".", 1)[0] for name in layer.tensors)
    if not children <= layout.blocks | frozenset(name.split(".", 1)[0] for name in norms.modules()):
        return False
    return all(_is_norm(layer.tensors, name, width, norms) for name in norms.modules())


def _is_norm(tensors: Mapping[str, TensorInfo], module: str, width: int, norms: Norms) -> bool:
    """Return whether a norm stores exactly the gain and bias that it should."""
    for leaf, expected in (("weight", norms.gains), ("bias", norms.bias)):
        info = tensors.get(f"{module}.{leaf}")
        if (info is not None) != expected:
            return False
        if info is not None and (info.shape != (width,) or not is_float(info)):
            return False
    return True


def _gains(task: Task, norms: Norms) -> tuple[dict[tuple[str, int, int], Gain], dict[tuple[str, int, int], Gain]]:
    before: dict[tuple[str, int, int], Gain] = {}
    after: dict[tuple[str, int, int], Gain] = {}
    if not norms.gains or not norms.foldable:
        return before, after
    indices = {task.number(layer): layer.index for layer in task.stack.layers}
    for group in task.groups:
        attention = group.name in _ATTENTION
        places = (
            (before, norms.attention if attention else norms.mlp),
            (after, norms.after_attention if attention else norms.after_mlp),
        )
        for gains, module in places:
            if module is not None:
                name = f"{task.stack.prefix}.{indices[group.layer]}.{module}.weight"
                gains[group.key] = Gain(name, norms.plus_one)
    return before, after


@dataclass(frozen=True, eq=False, slots=True)
class _Search:
    """Looks for tensors beside a stack: below its parent module, the parent of that, and so on."""

    tensors: Mapping[str, TensorInfo]
    prefix: str
    width: int
    norms: Norms

    def table(self, *modules: str) -> str | None:
        """Return the only tensor of these modules, when it has one row per token, or None."""
        names = [f"{parent}{module}.weight" for parent in self._parents() for module in modules]
        found = [self.tensors[name] for name in names if name in self.tensors]
        if len(found) != 1 or len(found[0].shape) != 2 or found[0].shape[1] != self.width or not is_float(found[0]):
            return None
        return found[0].name

    def final(self, module: str) -> Gain | None:
        """Return the gain of the only norm of this name, or None."""
        found = [parent for parent in self._parents() if f"{parent}{module}.weight" in self.tensors]
        if len(found) != 1 or not _is_norm(self.tensors, found[0] + module, self.width, self.norms):
            return None
        return Gain(f"{found[0]}{module}.weight", self.norms.plus_one)

    def _parents(self) -> Iterator[str]:
        parts = self.prefix.split(".")[:-1]
        for count in range(len(parts), -1, -1):
            yield "".join(part + "." for part in parts[:count])
