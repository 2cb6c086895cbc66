"""The quantisation schemes, one module each.

A quantised matrix is stored as several tensors: packed levels, scales, zero points. Every module of this package whose
name does not begin with an underscore defines ``SCHEME``, which recognises such tensors and puts one
:class:`~lineage_plugin.checkpoint.derived.Derived` in their place, under the name and in the shape that the matrix had
before. Adding a scheme is adding a module.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from lineage_plugin.checkpoint.derived import Derived
from lineage_plugin.checkpoint.dtypes import storage_dtype, stored_values
from lineage_plugin.checkpoint.formats import Row
from lineage_plugin.checkpoint.matrix import block
from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.source import Source
from lineage_plugin.checkpoint.stored import Opened, read_config
from lineage_plugin.checkpoint.types import Selection, TensorInfo
from lineage_plugin.errors import UnreadableCheckpoint, UnsupportedEncoding

__all__ = ["Packed", "Scheme", "Unpacked", "schemes", "unpack"]

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})
_NAMES = ("quantization_config", "compression_config", "quantization")
_TEXT = ("text_config", "llm_config", "language_config")
_BESIDE = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Where writers put the settings when not into ``config.json``."""
_LARGEST_SETTINGS = 1 << 20


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """What a scheme is given.

    Attributes:
        where: The model, for messages.
        tensors: The stored tensors by name; those that another scheme has taken are left out.
        config: ``config.json``, not trusted.
        settings: What the model says about its quantisation, not trusted; empty when it says nothing.
        read: Reads parts of stored tensors: floats come as float32, whole numbers as they are. For the few small
            tensors without which shapes are not known.
    """

    where: str
    tensors: Mapping[str, TensorInfo]
    config: Mapping[str, object]
    settings: Mapping[str, object]
    read: Callable[[Sequence[Selection]], list[NDArray[np.generic]]]


@dataclass(frozen=True, eq=False, slots=True)
class Unpacked:
    """What a scheme found.

    Attributes:
        derived: The matrices by name.
        hidden: The stored tensors that they are made of.
        notes: Plain sentences about what was assumed.
    """

    derived: Mapping[str, Derived]
    hidden: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Scheme:
    """A quantisation scheme.

    Attributes:
        name: What it is called.
        methods: Values of ``quant_method`` that stand for it.
        unpack: Finds its tensors; None when there are none. Must not raise for tensors that are not its own.
        rows: What it reads, for the documentation.
        rank: Schemes of lower rank look first.
    """

    name: str
    methods: frozenset[str]
    unpack: Callable[[Packed], Unpacked | None]
    rows: tuple[Row, ...] = field(default=())
    rank: int = 0


@cache
def schemes() -> tuple[Scheme, ...]:
    """Return all schemes, those of lower rank first."""
    found: list[Scheme] = []
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found.append(importlib.import_module(f"{__name__}.{module.name}").SCHEME)
    return tuple(sorted(found, key=lambda scheme: (scheme.rank, scheme.name)))


def unpack(source: Source, opened: Opened) -> Opened:
    """Put the matrices in the place of the packed tensors that a checkpoint holds.

    Args:
        source: Where the checkpoint is.
        opened: What its format found.

    Returns:
        The same with derived tensors; unchanged when everything is stored as plain numbers.

    Raises:
        UnsupportedEncoding: When it is quantised in a way that is not decoded.
        UnreadableCheckpoint: When the packed tensors contradict each other.
        HubError: When the Hub does not deliver.
    """
    left = {name: info for name, info in opened.tensors.items() if name not in opened.hidden}
    if all(info.dtype in _PLAIN for info in left.values()):
        return opened
    config = read_config(source) if opened.config is None else opened.config
    settings = _settings(source, config)
    derived, hidden, notes = dict(opened.derived), set(opened.hidden), list(opened.notes)

    def read(selections: Sequence[Selection]) -> list[NDArray[np.generic]]:
        blocks = [block(selection, opened.tensors[selection.tensor]) for selection in selections]
        kinds = [storage_dtype(b.info, f"{source.where}/{shown(b.info.file)}", whole=True) for b in blocks]
        raw = source.gather(blocks, kinds)
        return [stored_values(values, b.info.dtype) for values, b in zip(raw, blocks, strict=True)]

    for scheme in schemes():
        found = scheme.unpack(Packed(source.where, left, config, settings, read))
        if found is not None:
            for name in found.derived:
                if name in derived or (name in left and name not in found.hidden):
                    # Loaders take one of them, and not all the same one.
                    problem = f"'{shown(name, 120)}' is there twice, once packed and once not"
                    raise UnreadableCheckpoint(source.where, problem, "Remove one of the two.")
            derived.update(found.derived)
            hidden |= found.hidden
            notes += found.notes
            left = {name: info for name, info in left.items() if name not in found.hidden}
    _refuse(source.where, left, settings)
    if not settings and len(derived) > len(opened.derived):
        notes.append(
            "No configuration says that the weights are quantised; a loader that goes by it reads other numbers."
        )
    return replace(opened, derived=derived, hidden=frozenset(hidden), config=config, notes=tuple(notes))


def _settings(source: Source, config: Mapping[str, object]) -> Mapping[str, object]:
    # Models of images and text may say it of their text model alone.
    sections = (config, *(part for name in _TEXT if isinstance(part := config.get(name), Mapping)))
    for section in sections:
        for name in _NAMES:
            settings = section.get(name)
            if isinstance(settings, Mapping):
                return settings
    for name in _BESIDE:
        data = source.data(name, _LARGEST_SETTINGS) if name in source.files else None
        try:
            document = json.loads(data) if data is not None else None
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            return document
    return {}


def _refuse(where: str, left: Mapping[str, TensorInfo], settings: Mapping[str, object]) -> None:
    """Refuse a model most of whose bytes are whole numbers that no scheme explains."""
    total = sum(info.nbytes for info in left.values())
    whole = [t for t in left.values() if t.dtype not in _PLAIN and not t.dtype.startswith("F8_E") and len(t.shape) > 1]
    packed = [info for info in whole if prod(info.shape) > 1]
    if not packed or 2 * sum(info.nbytes for info in packed) < total:
        return
    method = settings.get("quant_method")
    named = f"in the scheme '{shown(method, 40)}'" if isinstance(method, str) else "in a scheme that is not known"
    raise UnsupportedEncoding(
        where,
        f"the weights are quantised {named} ('{shown(packed[0].name, 80)}' is stored as {packed[0].dtype})",
        f"Known are {', '.join(scheme.name for scheme in schemes())}. Give the weights in one of them, or unquantised.",
    )
