"""Which tensors of a PyTorch checkpoint are the weights.

``torch.save`` writes what it is given. Mostly that is the state dict itself; training programs put it beside the
state of the optimizer, under a name that each chooses for itself, with a moving average of it, or nested by module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from lineage_plugin.checkpoint.names import is_printable_name, shown
from lineage_plugin.checkpoint.pickles.values import Strange, View
from lineage_plugin.errors import UnreadableCheckpoint

__all__ = ["Weights", "find_weights", "unwrap_names"]

_MAX_TENSORS = 1 << 16
_MAX_VISITS = 1_500_000
_DEEPEST = 16
_BESIDE = 16
"""Tensors beside the weights may hold as many numbers, or one for so many of the weights."""
_NAMED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
"""Where training programs put the weights (Lightning, plain PyTorch, fairseq and Megatron, DeepSpeed, ...)."""
_NOT_WEIGHTS = re.compile(
    r"optim|sched|scaler|rng|random_state|callbacks|loops|hyper_?param|native_amp|metric|history"
    r"|^(amp|args|config|cfg|opt|loss(es)?|train_state|extra_state|epoch|step|global_step)$",
    re.IGNORECASE,
)
_AVERAGED = re.compile(r"(^|_)(ema|swa|shadow|averaged?|teacher)(_|$)", re.IGNORECASE)
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What ``torch.compile``, FSDP and activation checkpointing put into names."""
_PARALLEL = "module."
"""What ``DataParallel`` puts before all names."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in one file.

    Attributes:
        tensors: The tensors by name.
        notes: Plain sentences about what was chosen.
    """

    tensors: Mapping[str, View | Strange]
    notes: tuple[str, ...]


def find_weights(value: object, *, where: str) -> Weights:
    """Choose the weights among what a file holds.

    A dict with a key that training programs use for the weights stands for what is under it, unless it holds more
    numbers itself; one with a single part that holds tensors, for this part. Moving averages count when there is
    nothing else; the state of the optimizer never does. What is nested is named with dots, as state dicts are.

    Args:
        value: What the pickle describes.
        where: The file, for messages.

    Raises:
        UnreadableCheckpoint: When there are no named tensors, or two of one name.
    """
    notes: list[str] = []
    budget = [_MAX_VISITS]
    named = False
    for _ in range(_DEEPEST):
        if not isinstance(value, dict):
            break
        parts = _parts(value, budget, where)
        own = _own(value)
        key = _chosen(parts, own, named)
        rival = next((name for name in _NAMED if parts.get(name, 0) > 0), None)
        # Counters and the like may lie beside the weights; another set of weights may not.
        if rival is not None and own > max(_BESIDE, parts[rival] // _BESIDE):
            raise UnreadableCheckpoint(
                where,
                f"there are tensors at the top and under '{rival}': not clear which are the weights",
                "Save the weights alone, best as safetensors.",
            )
        if key is None:
            value, averages = _without(value, parts)
            notes += [f"The averages under '{shown(average, 60)}' are left aside." for average in averages[:4]]
            break
        named = named or key in _NAMED
        notes.append(f"The weights are those under '{shown(key, 60)}'.")
        value = value[key]
    tensors: dict[str, View | Strange] = {}
    for name, tensor in _flat(value, "", _DEEPEST, budget, where) if isinstance(value, dict) else ():
        if name in tensors:
            raise UnreadableCheckpoint(where, f"there are two tensors called '{shown(name, 120)}'")
        if not is_printable_name(name):
            raise UnreadableCheckpoint(
                where, f"tensor '{shown(name, 120)}' has unprintable characters in its name, or too long a name"
            )
        tensors[name] = tensor
        if len(tensors) > _MAX_TENSORS:
            raise UnreadableCheckpoint(where, f"there are more than {_MAX_TENSORS} tensors")
    if not tensors:
        raise UnreadableCheckpoint(
            where, "it holds no named tensors", "Give a file that holds the state dict of a model."
        )
    return Weights(tensors, tuple(notes))


def _parts(value: Mapping[object, object], budget: list[int], where: str) -> dict[str, int]:
    """Return the parts that hold tensors and may be weights, and how many numbers are in each."""
    parts: dict[str, int] = {}
    for key, part in value.items():
        if isinstance(key, str) and isinstance(part, dict | list | tuple) and not _NOT_WEIGHTS.search(key):
            numbers = _numbers(part, _DEEPEST, budget, where)
            if numbers is not None:
                parts[key] = numbers
    return parts


def _own(value: Mapping[object, object]) -> int:
    """Return how many numbers the tensors have that lie directly in a dict, -1 when there are none."""
    sizes = [_count(tensor) for key, tensor in value.items() if isinstance(key, str) and _is_tensor(tensor)]
    return sum(sizes) if sizes else -1


def _chosen(parts: Mapping[str, int], own: int, named: bool) -> str | None:
    """Return the key under which the weights are, None when they are here."""
    for key in _NAMED:
        if parts.get(key, -1) > own:
            return key
    if named or own >= 0:
        return None
    plain = [key for key in parts if not _AVERAGED.search(key)]
    if len(plain) > 1:
        return None
    return max(plain or parts, key=lambda key: parts[key], default=None)


def _without(value: Mapping[object, object], parts: Mapping[str, int]) -> tuple[dict[object, object], list[str]]:
    """Return a dict without the parts that are no weights, and without averages of others, which are named, too."""
    plain = [key for key in parts if not _AVERAGED.search(key)]
    kept = set(plain or parts)
    left = {key: part for key, part in value.items() if key in kept or _is_tensor(part)}
    return left, [key for key in parts if key not in kept]


def _is_tensor(value: object) -> bool:
    return isinstance(value, View | Strange)


def _count(tensor: object) -> int:
    return prod(tensor.shape) if isinstance(tensor, View) else 0


def _children(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield from ((str(key), part) for key, part in value.items() if isinstance(key, str | int))
    elif isinstance(value, list | tuple):
        yield from ((str(place), part) for place, part in enumerate(value))


def _numbers(value: object, depth: int, budget: list[int], where: str) -> int | None:
    """Return how many numbers the tensors in a value have together, None when there are none."""
    total: int | None = None
    for _, part in _children(value):
        _visit(budget, where)
        found = _count(part) if _is_tensor(part) else _numbers(part, depth - 1, budget, where) if depth else None
        if found is not None:
            total = found if total is None else total + found
    return total


def _flat(
    value: object, prefix: str, depth: int, budget: list[int], where: str
) -> Iterator[tuple[str, View | Strange]]:
    """Walk over all tensors of a value; their names are the keys on the way, joined with dots."""
    for key, part in _children(value):
        _visit(budget, where)
        if isinstance(part, View | Strange):
            yield prefix + key, part
        elif depth and isinstance(part, dict | list | tuple):
            yield from _flat(part, f"{prefix}{key}.", depth - 1, budget, where)


def _visit(budget: list[int], where: str) -> None:
    """Count a step; what refers to itself, or to one thing many times, would have no end."""
    budget[0] -= 1
    if budget[0] < 0:
        raise UnreadableCheckpoint(where, "its pickle is nested beyond measure", "Save the state dict alone.")


def unwrap_names(names: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Take out of the names of tensors what wrappers of modules have put there.

    Args:
        names: All names of a checkpoint.

    Returns:
        The plain name of each, and sentences about what was taken out; the names as they are where plain ones would
        coincide.
    """
    plain = {name: name for name in names}
    notes: list[str] = []
    for wrapper in _WRAPPERS:
        changed = {name: short.replace(wrapper, "") for name, short in plain.items()}
        if changed != plain and len(set(changed.values())) == len(names) and all(changed.values()):
            plain = changed
            notes.append(f"'{wrapper}' was taken out of the names.")
    cut = 0
    while plain and all(len(name) > cut and name.startswith(_PARALLEL, cut) for name in plain.values()):
        cut += len(_PARALLEL)
    if cut and all(len(name) > cut for name in plain.values()):
        plain = {name: short[cut:] for name, short in plain.items()}
        notes.append(f"'{_PARALLEL}' was taken from the beginning of all names.")
    return plain, tuple(notes)
