"""The initialisers of an ONNX file, and the nodes that use them.

Source of the field numbers: onnx/onnx.proto of github.com/onnx/onnx.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod

from lineage_plugin.checkpoint.foreign.protobuf import Fields, signed
from lineage_plugin.checkpoint.foreign.window import Window
from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["External", "Graph", "Initialiser", "Use", "read_graph"]

_MODEL_PRODUCER, _MODEL_GRAPH = 2, 7
_GRAPH_NODE, _GRAPH_INITIALISER = 1, 5
_NODE_INPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_PROPERTIES = 1, 3, 4, 5, 9
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 3, 6, 11
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 10, 13, 14

_TYPES = {
    **{1: "F32", 2: "U8", 3: "I8", 4: "U16", 5: "I16", 6: "I32", 7: "I64", 9: "BOOL", 10: "F16", 11: "F64"},
    **{12: "U32", 13: "U64", 16: "BF16", 17: "F8_E4M3", 19: "F8_E5M2"},
}
_BITS = {
    **{"F32": 32, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "I32": 32, "I64": 64, "BOOL": 8, "F16": 16, "F64": 64},
    **{"U32": 32, "U64": 64, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8},
}
_PACKED = frozenset({21, 22, 23, 25, 26})
"""Types of two or four bits."""
_DEEPEST = 8
_MOST_INITIALISERS = 1 << 16
_MOST_NODES = 1 << 17
_HIGHEST_RANK = 16
_USES = {"MatMul": 1, "Gemm": 1, "Gather": 0}
"""Operators that tell what a matrix is for, and the input that it is."""
_WITH_GRAPHS = frozenset({"If", "Loop", "Scan"})
_QUANTISED = frozenset(
    {
        *("MatMulNBits", "MatMulBnb4", "DequantizeLinear", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat"),
        *("DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QGemm", "QAttention", "QMoE", "GatherBlockQuantized"),
        *("QLinearConv", "ConvInteger", "FusedMatMulNBits"),
    }
)
_SCOPES = "pkg.torch.onnx.name_scopes"
_QUOTED = re.compile(r"'([^']*)'")
_SCRIPTED = re.compile(r"^(?:/[^/]+)+\Z")


@dataclass(frozen=True, slots=True)
class External:
    """Where data lie outside the file; nothing of it is checked."""

    location: str
    offset: int
    length: int | None


@dataclass(frozen=True, slots=True)
class Initialiser:
    """A constant tensor of a graph.

    Attributes:
        name: Its name.
        shape: Its shape.
        dtype: Name of its type; empty for types of less than a byte and those that are not numbers.
        nbytes: Bytes that a tensor of this shape and type takes.
        offset: Where they begin in this file; -1 when they are elsewhere or in a form of their own.
        external: Where they are otherwise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    offset: int = -1
    external: External | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """A node that uses a constant matrix.

    Attributes:
        operator: ``MatMul``, ``Gemm`` or ``Gather``.
        tensor: The constant.
        module: The PyTorch module that the node was made from, as far as it says; else empty.
        turned: Whether the matrix is ``[in, out]``.
    """

    operator: str
    tensor: str
    module: str
    turned: bool


@dataclass(slots=True)
class Graph:
    """What matters of an ONNX file."""

    producer: str = ""
    initialisers: dict[str, Initialiser] = field(default_factory=dict)
    uses: list[Use] = field(default_factory=list)
    quantised: dict[str, int] = field(default_factory=dict)


class _Reader:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.fields = Fields(window)
        self.graph = Graph()
        self.nodes = 0

    def model(self) -> Graph:
        found = False
        for number, begin, end in self.fields.of(0, self.window.size):
            if number == _MODEL_PRODUCER and end > begin:
                self.graph.producer = self.fields.text(begin, end, 100)
            elif number == _MODEL_GRAPH and end >= begin:
                if found:
                    raise self.window.damaged("it holds two graphs")
                found = True
                self.read(begin, end, 0)
        if not found:
            raise self.window.damaged("it holds no graph")
        return self.graph

    def read(self, start: int, stop: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise self.window.damaged("graphs are nested too deeply")
        for number, begin, end in self.fields.of(start, stop):
            if end < 0:
                continue
            if number == _GRAPH_NODE:
                self.node(begin, end, depth)
            elif number == _GRAPH_INITIALISER:
                self.initialiser(begin, end)

    def node(self, start: int, stop: int, depth: int) -> None:
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise self.window.damaged(f"it holds more than {_MOST_NODES} nodes")
        inputs: list[tuple[int, int]] = []
        attributes: list[tuple[int, int]] = []
        properties: list[tuple[int, int]] = []
        operator = name = ""
        for number, begin, end in self.fields.of(start, stop):
            if end < 0:
                continue
            if number == _NODE_INPUT:
                inputs.append((begin, end))
            elif number == _NODE_NAME:
                name = self.fields.text(begin, end)
            elif number == _NODE_OPERATOR:
                operator = self.fields.text(begin, end, 64)
            elif number == _NODE_ATTRIBUTE:
                attributes.append((begin, end))
            elif number == _NODE_PROPERTIES:
                properties.append((begin, end))
        if operator in _QUANTISED:
            self.graph.quantised[operator] = self.graph.quantised.get(operator, 0) + 1
        if operator in _WITH_GRAPHS:
            for begin, end in attributes:
                self.inner(begin, end, depth)
        if operator in _USES and len(inputs) > _USES[operator]:
            tensor = self.fields.text(*inputs[_USES[operator]])
            turned = operator == "MatMul" or (operator == "Gemm" and not self.transposed(attributes))
            self.graph.uses.append(Use(operator, tensor, self.module(name, properties), turned))

    def inner(self, start: int, stop: int, depth: int) -> None:
        for number, begin, end in self.fields.of(start, stop):
            if number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) and end >= 0:
                self.read(begin, end, depth + 1)

    def transposed(self, attributes: list[tuple[int, int]]) -> bool:
        """Return the attribute ``transB`` of Gemm."""
        for start, stop in attributes:
            name, value = "", 0
            for number, begin, end in self.fields.of(start, stop):
                if number == _ATTRIBUTE_NAME and end >= 0:
                    name = self.fields.text(begin, end, 16)
                elif number == _ATTRIBUTE_INTEGER and end < 0:
                    value = begin
            if name == "transB":
                return value != 0
        return False

    def module(self, name: str, properties: list[tuple[int, int]]) -> str:
        """Return the module that a node was made from.

        The exporter by torch.export writes the scopes into the node's properties, the one by TorchScript makes the
        node's name of them: ``/model/layers.0/mlp/up_proj/MatMul``.
        """
        for start, stop in properties:
            pair = {}
            for number, begin, end in self.fields.of(start, stop):
                if number in (1, 2) and end >= 0:
                    pair[number] = (begin, end)
            if len(pair) == 2 and self.fields.text(*pair[1], 64) == _SCOPES:
                scopes = _QUOTED.findall(self.fields.text(*pair[2], 8192))
                return scopes[-2] if len(scopes) > 1 else ""
        if _SCRIPTED.match(name):
            return ".".join(name[1:].split("/")[:-1])
        return ""

    def initialiser(self, start: int, stop: int) -> None:
        dims: list[int] = []
        kind = name = external = None
        data: dict[int, tuple[int, int]] = {}
        entries: list[tuple[int, int]] = []
        for number, begin, end in self.fields.of(start, stop):
            if number == _DIMS:
                dims += [begin] if end < 0 else self.fields.numbers(begin, end)
            elif number == _TYPE and end < 0:
                kind = begin
            elif number == _NAME and end >= 0:
                name = self.fields.text(begin, end, 2048)
            elif number in (_FLOATS, _RAW, _DOUBLES) and end >= 0:
                if number in data:
                    data[-1] = (begin, end)  # Numbers in several stretches: not read.
                data[number] = (begin, end)
            elif number == _EXTERNAL and end >= 0:
                entries.append((begin, end))
            elif number == _LOCATION and end < 0:
                external = begin
        if name is None or kind is None or not is_printable_name(name):
            raise self.window.damaged("an initialiser has no name or type")
        if len(dims) > _HIGHEST_RANK or any(signed(extent) < 0 for extent in dims):
            raise self.window.damaged(f"'{shown(name, 120)}' has no shape")
        if name in self.graph.initialisers:
            raise self.window.damaged(f"it holds '{shown(name, 120)}' twice")
        if len(self.graph.initialisers) >= _MOST_INITIALISERS:
            raise self.window.damaged(f"it holds more than {_MOST_INITIALISERS} initialisers")
        self.graph.initialisers[name] = self._placed(name, tuple(dims), kind, data, entries if external == 1 else None)

    def _placed(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: int,
        data: dict[int, tuple[int, int]],
        entries: list[tuple[int, int]] | None,
    ) -> Initialiser:
        dtype = _TYPES.get(kind, "")
        bits = _BITS[dtype] if dtype else 4 if kind in _PACKED else 0
        nbytes = (prod(shape) * bits + 7) // 8
        if entries is not None:
            return Initialiser(name, shape, dtype, nbytes, external=self._external(entries, name))
        stretch = data.get(_RAW) or (
            data.get(_FLOATS) if dtype == "F32" else data.get(_DOUBLES) if dtype == "F64" else None
        )
        if stretch is None or not dtype:
            # In a form of its own: nothing but the larger types of whole numbers and small constants.
            return Initialiser(name, shape, dtype, nbytes if nbytes <= self.window.size else 0)
        if -1 in data or stretch[1] - stretch[0] != nbytes:
            raise self._unfit(name)
        return Initialiser(name, shape, dtype, nbytes, stretch[0])

    def _external(self, entries: list[tuple[int, int]], name: str) -> External:
        pairs: dict[str, str] = {}
        for start, stop in entries:
            key = value = ""
            for number, begin, end in self.fields.of(start, stop):
                if number == 1 and end >= 0:
                    key = self.fields.text(begin, end, 64)
                elif number == 2 and end >= 0:
                    value = self.fields.text(begin, end)
            pairs[key] = value
        numbers = {key: pairs[key] for key in ("offset", "length") if key in pairs}
        if any(not re.fullmatch(r"[0-9]{1,19}", value) for value in numbers.values()):
            raise self._unfit(name)
        length = int(numbers["length"]) if "length" in numbers else None
        return External(pairs.get("location", ""), int(numbers.get("offset", "0")), length)

    def _unfit(self, name: str) -> UnreadableCheckpoint:
        return self.window.damaged(f"the numbers of '{shown(name, 120)}' do not fit its shape")


def read_graph(window: Window) -> Graph:
    """Read the constants of an ONNX file and who uses them.

    Raises:
        UnreadableCheckpoint: When it is no ONNX file, or damaged.
    """
    return _Reader(window).model()
