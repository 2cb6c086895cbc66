"""What the families have in common: adding the groups of a layer, or saying why they are left out.

Exactness rests on knowing the whole graph around a unit. Three checks guard it for attention, on the stack as a whole,
because what one layer does can depend on another: the model type is one whose code has been read; the attention holds
no module that is not accounted for; no layer lacks keys or values (it might borrow another layer's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lineage_plugin.anatomy.attention import (
    Heads,
    QueryKeyNorm,
    heads_of,
    query_key_groups,
    value_group,
)
from lineage_plugin.anatomy.channels import Channels, IndexPool, columns, rows
from lineage_plugin.anatomy.mlp import neurons
from lineage_plugin.anatomy.notes import Notes
from lineage_plugin.anatomy.rotary import rotary_of
from lineage_plugin.anatomy.settings import Settings, plain
from lineage_plugin.anatomy.stacks import Layer, Stack
from lineage_plugin.anatomy.types import UnitGroup

__all__ = ["GATED", "AttentionNames", "Task"]

GATED = frozenset({"up", "down"})
"""Roles of a gated neuron that its sign flip negates."""

_ATTENTION = "value and query-key"


@dataclass(frozen=True, slots=True)
class AttentionNames:
    """Names of separate projections inside a layer.

    Attributes:
        q: Module of the query projection, such as ``self_attn.q_proj``.
        k: The same for keys.
        v: The same for values.
        o: The same for the output.
        parent: The module that holds them and nothing unknown.
        known: All modules that may stand directly below ``parent``.
    """

    q: str
    k: str
    v: str
    o: str
    parent: str
    known: frozenset[str]


@dataclass(eq=False)
class Task:
    """The analysis of one stack: its context and the groups found so far.

    Attributes:
        stack: The layers.
        settings: The configuration of the stack.
        pool: Where index arrays come from.
        notes: Collects what is left out.
        offset: Added to the layers' own numbers, so that two stacks of one model do not collide.
        types: Model types whose attention is known to be what the names say.
        width: Size of the residual stream; 0 until the first map that reads it is seen.
        groups: The groups found.
    """

    stack: Stack
    settings: Settings
    pool: IndexPool
    notes: Notes
    offset: int
    types: frozenset[str]
    width: int = 0
    groups: list[UnitGroup] = field(default_factory=list)
    _obstacles: dict[AttentionNames, str | None] = field(default_factory=dict)

    def number(self, layer: Layer) -> int:
        """Return the number of a layer in the whole model."""
        return layer.index + self.offset

    def leave_out(self, what: str, layer: Layer, why: str) -> None:
        """Note that units of a layer were left out."""
        self.notes.leave_out(what, self.number(layer), why)

    def reads_residual(self, channels: Channels) -> bool:
        """Return whether the channels' weights run over the residual stream; the first ones asked about define it."""
        self.width = self.width or channels.length
        return channels.length == self.width

    def mlp(
        self,
        layer: Layer,
        *maps: Channels,
        odd: frozenset[str] = frozenset(),
        name: str = "mlp",
        part: int = 0,
    ) -> None:
        """Add the neurons between the given maps, each seen from the side of the neurons."""
        self.reads_residual(maps[0])
        group = neurons(self.pool, self.number(layer), maps, self.width, odd=odd, name=name, part=part)
        if isinstance(group, str):
            self.leave_out(name, layer, group)
        else:
            self.groups.append(group)

    def dense_mlp(self, layer: Layer, fc1: str, fc2: str) -> bool:
        """Add the neurons of an MLP without a gate, torch ``Linear`` layout; return whether it is there."""
        first, second = layer.matrix(fc1 + ".weight"), layer.matrix(fc2 + ".weight")
        if first is None or second is None:
            return False
        self.mlp(layer, rows("fc1", first), columns("fc2", second))
        return True

    def knows_type(self, layer: Layer) -> bool:
        """Return whether the model type is one whose attention is known; note it when not."""
        model_type = self.settings.model_type
        if model_type in self.types:
            return True
        named = f"model type '{plain(model_type)}' is not known" if model_type else "no model type is configured"
        self.leave_out(_ATTENTION, layer, f"{named}, so its attention may differ from what the names suggest")
        return False

    def separate_attention(
        self,
        layer: Layer,
        names: AttentionNames,
        heads: tuple[str, ...],
        *,
        rotary: bool = False,
        positions: str | None = None,
        part: int = 0,
    ) -> None:
        """Add the units of attention with one matrix each for query, key, value and output.

        Args:
            layer: The layer.
            names: The modules.
            heads: Settings that hold the number of query heads.
            rotary: Whether positions enter by rotary embeddings.
            positions: Why query and key are not plain inner products, or None when they are.
            part: Part number of the groups.
        """
        weights = [layer.matrix(name + ".weight") for name in (names.q, names.k, names.v, names.o)]
        if weights[0] is None and not layer.modules(names.parent):
            return
        if any(info is None for info in weights):
            self.leave_out(_ATTENTION, layer, "its attention has other tensors than the known layouts")
            return
        obstacle = self._obstacle(names)
        if obstacle is not None:
            self.leave_out(_ATTENTION, layer, obstacle)
            return
        if not self.knows_type(layer):
            return
        q, k, v, o = (info for info in weights if info is not None)
        self.attention(
            layer, rows("q", q), rows("k", k), rows("v", v), columns("o", o), heads,
            rotary=rotary, positions=positions, norm=_norm_shapes(layer, names.parent), part=part,
        )  # fmt: skip

    def attention(
        self,
        layer: Layer,
        q: Channels,
        k: Channels,
        v: Channels,
        o: Channels,
        names: tuple[str, ...],
        *,
        rotary: bool = False,
        positions: str | None = None,
        norm: Mapping[str, tuple[int, ...]] | None = None,
        part: int = 0,
    ) -> None:
        """Add the units of attention whose projections are given; arguments as for :meth:`separate_attention`."""
        shared = norm.get("q_norm") if norm else None
        # A gain vector as long as all query channels is one per channel; a shorter one is one per channel of a head.
        size = shared[0] if shared and len(shared) == 1 and shared[0] < q.count else None
        heads = heads_of(self.settings, q.count, k.count, v.count, o.count, names=names, head_size=size)
        residual = self.reads_residual(q) and o.length == self.width and k.length == v.length
        if isinstance(heads, Heads) and (not residual or (not part and k.length != self.width)):
            heads = "the shapes of its tensors do not fit together"
        if isinstance(heads, str):
            self.leave_out(_ATTENTION, layer, heads)
            return
        number = self.number(layer)
        self.groups.append(value_group(self.pool, number, heads, v, o, part=part))
        kind = _norm_kind(norm or {}, q.count, k.count, heads.size)
        turn = rotary_of(self.settings, heads.size) if rotary else None
        why = positions or (turn if isinstance(turn, str) else None)
        if kind is None:
            why = "its query and key normalisation is not of a known kind"
        if why is not None or kind is None or isinstance(turn, str):
            self.leave_out("query-key", layer, why or "")
            return
        self.groups.extend(query_key_groups(self.pool, number, heads, q, k, rotary=turn, norm=kind, part=part))

    def _obstacle(self, names: AttentionNames) -> str | None:
        """Say why no attention of the stack can be trusted to be what its names suggest, or None."""
        if names not in self._obstacles:
            self._obstacles[names] = _obstacle(self.stack, names)
        return self._obstacles[names]


def _obstacle(stack: Stack, names: AttentionNames) -> str | None:
    for layer in stack.layers:
        found = layer.modules(names.parent)
        unknown = sorted(found - names.known)
        if unknown:
            return f"the attention holds a module that is not known: '{plain(unknown[0])}'"
        if names.q + ".weight" in layer.tensors and not all(
            name + ".weight" in layer.tensors for name in (names.k, names.v)
        ):
            return "a layer without keys or values of its own may share another layer's"
    return None


def _norm_shapes(layer: Layer, parent: str) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for module in ("q_norm", "k_norm"):
        info = layer.tensors.get(f"{parent}.{module}.weight")
        if info is not None:
            shapes[module] = info.shape
        if f"{parent}.{module}.bias" in layer.tensors:
            # A bias means LayerNorm, whose subtracted mean is not even in the sign of a channel.
            shapes[module] = ()
    return shapes


def _norm_kind(shapes: Mapping[str, tuple[int, ...]], q: int, k: int, size: int) -> QueryKeyNorm | None:
    if not shapes:
        return "none"
    found = (shapes.get("q_norm"), shapes.get("k_norm"))
    if found == ((size,), (size,)):
        return "shared"
    return "own" if found == ((q,), (k,)) else None
