"""Whether an adapter can have been made for a base: modules, shapes, depth, vocabulary. Headers are enough.

An adapter that changes a module which the base does not have, or one of other sizes, was not made for it: a misfit is
proof. The reverse is not: models of one size fit each other's adapters.

Nothing may be called a misfit that is a matter of spelling. The names of an adapter are those of the model in memory;
files may have others (composites with another prefix, experts stored one by one), so modules are looked for by their
place in their layer as well, and what cannot be found for such a reason is left open. A weight may stand the other way
round (``Conv1D``). Another number of tokens is what resizing a vocabulary does, and is said, not held against it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from lineage_plugin.adapters.modules import AdaptedModule, Parts, SavedTensor
from lineage_plugin.adapters.settings import AdapterSettings
from lineage_plugin.checkpoint.types import TensorInfo
from lineage_plugin.text import one_line

__all__ = ["Fit", "Misfit", "fits", "locate_saved", "weight_of"]

Shape = tuple[int, ...]

_LAYER: Final = re.compile(
    r"(?:^|\.)(?P<tail>(?:layers|layer|h|blocks|block)\.(?P<index>0|[1-9][0-9]{0,5})\.)", re.ASCII
)
_TOKENS: Final = frozenset({"embed_tokens", "wte", "word_embeddings", "embed_in", "lm_head", "embed_out", "embedding"})
_CONVERTED: Final = frozenset({"experts", "expert", "block_sparse_moe", "gate", "router", "mixer", "moe"})
"""Modules whose names in files are not those in memory."""
_KNOWN_LEAVES: Final = re.compile(
    r"\.(?:q_proj|k_proj|v_proj|o_proj|qkv_proj|gate_proj|up_proj|down_proj|gate_up_proj|c_attn|c_proj|c_fc|query|key|"
    r"value|query_key_value|q_lin|k_lin|fc1|fc2|dense|dense_h_to_4h|to_q|to_k|out_proj|Wqkv)\.weight\Z"
)
"""Names that show that a base is stored under the names of transformers or diffusers."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A module of the adapter that the base does not have, or has in other sizes.

    Attributes:
        module: Its path.
        adapter: ``[out, in]``, as far as the adapter tells; 0 for what it does not.
        base: Shape of the base's weight, or None when there is no such module.
        why: What is wrong, as a phrase with both shapes.
    """

    module: str
    adapter: Shape
    base: Shape | None
    why: str


@dataclass(frozen=True, slots=True)
class Fit:
    """How an adapter fits a base.

    Attributes:
        modules: Adapted modules.
        fitting: How many of them exist in the base in sizes that agree.
        misfits: Those, and saved tensors, that prove that the adapter was not made for this base.
        open: Those that could not be found in the files for reasons of naming.
        saved: Tensors saved whole that the base has in the same shape.
        added: Tensors saved whole that the base has not, such as the head of a classifier.
        vocabulary: Rows of the adapter's token tables and of the base's, where they differ.
        notes: Plain sentences about what was assumed.
    """

    modules: int
    fitting: int
    misfits: tuple[Misfit, ...] = ()
    open: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    vocabulary: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def refuted(self) -> bool:
        """Whether something proves that the adapter was not made for the base."""
        return bool(self.misfits)

    def summary(self) -> str:
        """Return a phrase that says how it fits."""
        if self.misfits:
            more = f" (and {len(self.misfits) - 1} more)" if self.misfits[1:] else ""
            return f"the adapter does not fit it: {self.misfits[0].why}{more}"
        if not self.modules and not self.saved:
            return "the adapter holds nothing whose shape could be held against it"
        said = []
        if self.modules:
            said.append(f"{self.fitting} of {self.modules} adapted modules fit it in name and shape")
        if self.saved:
            count = len(self.saved)
            said.append("1 saved tensor has its shape" if count == 1 else f"{count} saved tensors have its shapes")
        return " and ".join(said)


def fits(
    parts: Parts,
    settings: AdapterSettings | None,
    tensors: Mapping[str, TensorInfo],
    config: Mapping[str, object] | None = None,
) -> Fit:
    """Hold an adapter against the headers of a base.

    Args:
        parts: The adapter.
        settings: What it claims; for the order of replicated layers, stored orientation and virtual tokens.
        tensors: The base's tensors by name.
        config: The base's ``config.json``; only its width is used, for virtual tokens.

    Returns:
        The outcome.
    """
    settings = settings or AdapterSettings()
    base = _Base(tensors, settings)
    misfits: list[Misfit] = []
    unknown: list[str] = []
    notes: list[str] = []
    tokens: list[tuple[int, int]] = []
    fitting = 0
    for module in parts.modules:
        verdict = base.module(module, tokens)
        if verdict is None:
            fitting += 1
        elif isinstance(verdict, Misfit):
            misfits.append(verdict)
        else:
            unknown.append(module.path)
    saved: list[str] = []
    added: list[str] = []
    for entry in parts.saved:
        verdict = base.saved(entry, tokens)
        if isinstance(verdict, Misfit):
            misfits.append(verdict)
        else:
            (saved if verdict is None else added).append(entry.name)
    misfits.extend(base.prompts(parts, config or {}))
    vocabulary = next((pair for pair in tokens if pair[0] != pair[1]), None)
    if vocabulary is not None:
        notes.append(
            f"The adapter was made for a vocabulary of {vocabulary[0]:,} rows, and the base has {vocabulary[1]:,}: the "
            "base was resized first, or it is another one of the same width."
        )
    if unknown:
        notes.append(f"{len(unknown)} adapted modules were not found under the names of the base's files.")
    if settings.replication:
        notes.append("The adapter repeats layers of the base (layer_replication); each was held against its original.")
    return Fit(
        len(parts.modules),
        fitting,
        tuple(misfits),
        tuple(unknown),
        tuple(saved),
        tuple(added),
        vocabulary,
        tuple(notes),
    )


def weight_of(module: AdaptedModule, settings: AdapterSettings, tensors: Mapping[str, TensorInfo]) -> TensorInfo | None:
    """Return the tensor of the base that a module's adapter changes, or None when it is not certain."""
    return _Base(tensors, settings).weight(module)


def locate_saved(entry: SavedTensor, settings: AdapterSettings, tensors: Mapping[str, TensorInfo]) -> TensorInfo | None:
    """Return the tensor of the base in whose place a saved tensor stands, or None when there is none of its shape."""
    return next(
        (c for c in _Base(tensors, settings).candidates(entry.name) if _same(entry.info.shape, c.shape)),
        None,
    )


class _Base:
    """The base's tensors, found by exact name or by their place in a layer."""

    def __init__(self, tensors: Mapping[str, TensorInfo], settings: AdapterSettings) -> None:
        self._tensors = tensors
        self._settings = settings
        self._layers = [i for start, stop in settings.replication for i in range(start, stop)]

    @cached_property
    def _by_tail(self) -> dict[str, list[TensorInfo]]:
        found: dict[str, list[TensorInfo]] = {}
        for name, info in self._tensors.items():
            found.setdefault(_tail(name), []).append(info)
        return found

    @cached_property
    def _places(self) -> dict[str, set[int]]:
        """For each name inside a layer, the layers that have it."""
        found: dict[str, set[int]] = {}
        for name in self._tensors:
            match = _LAYER.search(name)
            if match is not None:
                found.setdefault(name[match.end() :], set()).add(int(match["index"]))
        return found

    @cached_property
    def _usual_names(self) -> bool:
        return any(_KNOWN_LEAVES.search(name) for name in self._tensors)

    def candidates(self, name: str) -> list[TensorInfo]:
        """Return the tensors that a name may mean: of that name, or in that place of a layer."""
        name = self._original(name)
        exact = self._tensors.get(name)
        if exact is not None:
            return [exact]
        found = self._by_tail.get(_tail(name), [])
        if not found and name.split(".")[-2:-1] and name.split(".")[-2] in ("lm_head", "embed_out"):
            # A tied output projection is not stored.
            return [i for n, i in self._tensors.items() if n.endswith(".weight") and n.split(".")[-2] in _TOKENS]
        return found

    def weight(self, module: AdaptedModule) -> TensorInfo | None:
        """Return the one weight whose sizes a module's adapter has, or None."""
        found = [info for info in self._weights(module) if _sizes_agree(module, info.shape)]
        return found[0] if len(found) == 1 else None

    def module(self, module: AdaptedModule, tokens: list[tuple[int, int]]) -> Misfit | str | None:
        """Return None when a module fits, why it does not, or "" when that is open."""
        weights = self._weights(module)
        if not weights:
            return self._missing(module.path, (module.outputs or 0, *(module.inputs or (0,))))
        if any(_sizes_agree(module, info.shape) for info in weights):
            return None
        if module.path.rpartition(".")[2] in _TOKENS:
            for info in weights:
                pair = _vocabulary(module, info.shape)
                if pair is not None:
                    tokens.append(pair)
                    return None
        if any(len(info.shape) < 2 or info.dtype.startswith(("I", "U")) for info in weights):
            return ""  # Packed numbers have the shape of the packing.
        return _shape_misfit(module, weights[0])

    def saved(self, entry: SavedTensor, tokens: list[tuple[int, int]]) -> Misfit | str | None:
        """The same for a tensor saved whole; "" when the base has none of this name."""
        found, shape = self.candidates(entry.name), entry.info.shape
        if not found:
            match = _LAYER.search(entry.name)
            verdict = self._missing(entry.name.rpartition(".")[0], shape, ".weight") if match else ""
            return verdict if isinstance(verdict, Misfit) else ""
        if any(_same(shape, info.shape) for info in found):
            return None
        for info in found:
            if len(shape) == 2 == len(info.shape) and shape[1] == info.shape[1] and _is_table(entry.name):
                tokens.append((shape[0], info.shape[0]))
                return None
        if any(len(info.shape) < len(shape) or info.dtype.startswith(("I", "U")) for info in found):
            return ""
        name = one_line(entry.name, 120)
        why = f"{name} is {_shown(shape)} in the adapter and {_shown(found[0].shape)} in the base"
        return Misfit(entry.name, shape, found[0].shape, why)

    def prompts(self, parts: Parts, config: Mapping[str, object]) -> Iterator[Misfit]:
        """Yield virtual tokens of another width than the base's."""
        width = config.get("hidden_size", config.get("n_embd", config.get("d_model")))
        if not isinstance(width, int) or isinstance(width, bool) or width <= 0:
            return
        if self._settings.method in ("PREFIX_TUNING", "CARTRIDGE"):
            return  # Keys and values of all layers side by side.
        for info in parts.prompts:
            if info.name.endswith("prompt_embeddings") and len(info.shape) == 2 and info.shape[1] != width:
                why = f"its virtual tokens have a width of {info.shape[1]}, and the base has {width}"
                yield Misfit("prompt_embeddings", info.shape, (width,), why)

    def _weights(self, module: AdaptedModule) -> list[TensorInfo]:
        found = self.candidates(module.path + ".weight")
        if found:
            return found
        # Whole parameters are adapted under the name of the module that holds them.
        start = self._original(module.path) + "."
        names = [p.rpartition(".")[2] for p in self._settings.parameters]
        return [self._tensors[start + name] for name in dict.fromkeys(names) if start + name in self._tensors]

    def _original(self, name: str) -> str:
        """Return the name in the base for a layer that the adapter repeats."""
        match = _LAYER.search(name) if self._layers else None
        if match is None or int(match["index"]) >= len(self._layers):
            return name
        return f"{name[: match.start('index')]}{self._layers[int(match['index'])]}{name[match.end('index') :]}"

    def _missing(self, path: str, shape: Shape, leaf: str = ".weight") -> Misfit | str:
        """Say whether the lack of a module is proof, or may be a matter of names."""
        name = self._original(path)
        match = _LAYER.search(name + ".")
        if match is not None and not _CONVERTED & set(path.split(".")):
            inside = name[match.end() :]
            layers = self._places.get(inside + leaf) or self._places.get(inside)
            if layers:
                why = f"it changes {one_line(path, 120)}, and the base has that in layers up to {max(layers)} only"
                return "" if int(match["index"]) <= max(layers) else Misfit(path, shape, None, why)
            if self._usual_names:
                return Misfit(path, shape, None, f"it changes {one_line(path, 120)}, which the base does not have")
        return ""


def _tail(name: str) -> str:
    """Return a name from its layer on; of tensors outside of layers the last two parts."""
    match = _LAYER.search(name)
    return name[match.start("tail") :] if match is not None else ".".join(name.split(".")[-2:])


def _sizes_agree(module: AdaptedModule, shape: Shape) -> bool:
    """Say whether a weight has the sizes that an adapter asks for, either way round."""
    if module.width is not None:
        return module.width in shape
    if len(shape) == 3 and module.rank is not None and module.inputs is not None:
        # Stacked experts [experts, a, b]: the rank of the factors is that of all experts together.
        pair = (module.outputs, *module.inputs)
        return module.rank % shape[0] == 0 and pair in (shape[1:], shape[:0:-1])
    ways = [shape, shape[::-1]] if len(shape) == 2 else [shape]
    return any(
        (module.outputs in (None, way[0])) and (module.inputs is None or module.inputs == way[1:]) for way in ways
    )


def _vocabulary(module: AdaptedModule, shape: Shape) -> tuple[int, int] | None:
    """Return the rows of a token table that an adapter asks for, and those of the base, when only they differ."""
    if len(shape) != 2 or module.inputs is None or module.outputs is None or len(module.inputs) != 1:
        return None
    rows, width = (module.inputs[0], module.outputs) if module.embedding else (module.outputs, module.inputs[0])
    return (rows, shape[0]) if width == shape[1] else None


def _shape_misfit(module: AdaptedModule, weight: TensorInfo) -> Misfit:
    mine = (module.outputs or 0, *(module.inputs or (0,)))
    said = []
    if module.width is not None:
        said.append(f"a width of {module.width}")
    if module.outputs is not None:
        said.append(f"{module.outputs} outputs")
    if module.inputs is not None:
        said.append(f"{_shown(module.inputs)} inputs")
    path, asked = one_line(module.path, 120), " and ".join(said)
    why = f"{path} has {asked} in the adapter and is {_shown(weight.shape)} in the base"
    return Misfit(module.path, mine, weight.shape, why)


def _same(one: Shape, other: Shape) -> bool:
    return one == other


def _is_table(name: str) -> bool:
    return name.split(".")[-2:-1] != [] and name.split(".")[-2] in _TOKENS


def _shown(shape: Shape) -> str:
    return "x".join(str(extent) for extent in shape) or "a single number"
