"""What the calls of a pickle would have made, described by inert values.

Sources: the functions ``_rebuild_*`` of ``torch/_utils.py``, ``torch/_tensor.py`` and the loading of storages in
``torch/serialization.py`` (torch 2.13). Where a call would change a tensor in a way that the description does not
show, it is a :class:`~.values.Strange` tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

from lineage_plugin.checkpoint.pickles.names_allowed import DTYPES, STORAGES
from lineage_plugin.checkpoint.pickles.values import Inert, Name, Ordered, Storage, Strange, View

__all__ = ["as_key", "call", "create", "persistent"]

_MAX_RANK = 64
_LARGEST = 1 << 63
_PLAIN_CLASSES = ("torch.Tensor", "torch.nn.parameter.Parameter")
_REPLACING = frozenset({"data", "real", "imag", "grad", "names"})
"""Attributes of a tensor that are no mere remark on it."""
_DISTINCT = 1 << 60
"""Integers below it have a hash of their own; of larger ones a file may hold thousands with the same."""


def as_key(key: object) -> object:
    """Return what stands for the key of a dict: text and small integers for themselves, all else for nothing.

    The hash of nested tuples takes exponential time, and large numbers can be chosen such that they all collide.

    Raises:
        TypeError: When it can be no key.
    """
    if isinstance(key, str) or key is None or (isinstance(key, int) and -_DISTINCT < key < _DISTINCT):
        return key
    if isinstance(key, dict | list):
        raise TypeError("not hashable")
    return Inert()


def call(function: str, arguments: tuple[object, ...]) -> object:
    """Return what a call makes.

    Args:
        function: An allowed name.
        arguments: What it is called with.

    Raises:
        ValueError, TypeError: When the function does not take them.
    """
    made = _CALLS.get(function)
    if made is not None:
        return made(*arguments)
    if function in DTYPES or function in STORAGES or function.startswith("torch.per_"):
        raise TypeError("not a function")
    # Devices, layouts, bytes, sets and the like.
    return Strange("a tensor without a storage") if function.endswith("Tensor") else Inert()


def create(kind: str, arguments: tuple[object, ...]) -> object:
    """Return what the creation of an object without its initialisation makes.

    Args:
        kind: An allowed name.
        arguments: What it is created with.

    Raises:
        ValueError, TypeError: When that is not possible.
    """
    if kind in ("collections.OrderedDict", "collections.Counter"):
        return Ordered()
    if kind == "torch.nn.parameter.Parameter":
        return _tensor(*arguments[:1])
    return call(kind, arguments)


def persistent(pid: object, known: MutableMapping[str, object]) -> Storage:
    """Return the storage that a persistent id stands for: ``("storage", class, key, location, elements)``.

    Args:
        pid: The id.
        known: The storages so far, by key. torch reads a storage once, as what it was first called.

    Raises:
        ValueError, TypeError: When it is none, or contradicts an earlier one of the same key.
    """
    if not isinstance(pid, tuple):
        raise TypeError("not an id of a storage")
    tag, kind, key, _, count = pid
    if tag != "storage" or not isinstance(kind, Name) or kind.path not in STORAGES or not isinstance(key, str):
        raise TypeError("not an id of a storage")
    storage = Storage(key, kind.path, _count(count))
    if known.setdefault(key, storage) != storage:
        raise ValueError("a storage is called two things")
    return storage


def _ordered(items: object = ()) -> Ordered:
    if isinstance(items, Mapping):
        return Ordered(items)
    if not isinstance(items, list | tuple):
        raise TypeError("not pairs")
    made = Ordered()
    for pair in items:
        if not isinstance(pair, list | tuple):
            raise TypeError("not pairs")
        key, value = pair
        made[as_key(key)] = value
    return made


def _size(extents: object = ()) -> tuple[object, ...]:
    if not isinstance(extents, list | tuple):
        raise TypeError("not extents")
    return tuple(extents)


def _rebuild(storage: object, offset: object, shape: object, strides: object) -> View:
    if not isinstance(storage, Storage):
        raise TypeError("not a storage")
    dtype = "uint8" if storage.kind.endswith("UntypedStorage") else storage.kind.rpartition(".")[2][: -len("Storage")]
    return _view(storage, dtype, STORAGES[storage.kind], offset, shape, strides)


def _rebuild_v2(
    storage: object, offset: object, shape: object, strides: object, grad: object, hooks: object, marks: object = None
) -> object:
    if not isinstance(grad, bool):
        raise TypeError("not a switch")
    view = _rebuild(storage, offset, shape, strides)
    return Strange("a tensor of conjugate or negated numbers") if marks else view


def _rebuild_v3(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    grad: object,
    hooks: object,
    dtype: object,
    marks: object = None,
) -> object:
    if not isinstance(storage, Storage) or not isinstance(grad, bool):
        raise TypeError("not a storage and a switch")
    if not isinstance(dtype, Name) or dtype.path not in DTYPES:
        raise TypeError("not a type")
    view = _view(storage, dtype.path.removeprefix("torch."), DTYPES[dtype.path], offset, shape, strides)
    return Strange("a tensor of conjugate or negated numbers") if marks else view


def _view(storage: Storage, dtype: str, code: str | None, offset: object, shape: object, strides: object) -> View:
    extents, steps = _counts(shape), _counts(strides)
    if len(extents) != len(steps) or len(extents) > _MAX_RANK:
        raise ValueError("shape and strides differ")
    return View(storage, dtype, code, _count(offset), extents, steps)


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError("not extents")
    return tuple(_count(value) for value in values)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise ValueError("not a count")
    return value


def _tensor(data: object) -> View | Strange:
    if not isinstance(data, View | Strange):
        raise TypeError("not a tensor")
    return data


def _parameter(data: object, grad: object = True, hooks: object = None) -> View | Strange:
    return _tensor(data)


def _parameter_with_state(data: object, grad: object, hooks: object, state: object) -> View | Strange:
    return _with_state(_tensor(data), state)


def _typed(function: object, kind: object, arguments: object, state: object) -> object:
    if not isinstance(function, Name) or not isinstance(kind, Name) or not isinstance(arguments, tuple):
        raise TypeError("not a tensor")
    made = _tensor(call(function.path, arguments))
    if kind.path not in _PLAIN_CLASSES:
        return Strange(f"a tensor of the class {kind.path}")
    return _with_state(made, state)


def _with_state(made: View | Strange, state: object) -> View | Strange:
    """Return a tensor that is given attributes; Megatron notes there how it is split."""
    parts = state if isinstance(state, tuple) else (state,)
    for part in parts:
        if part and not (isinstance(part, dict) and all(_is_remark(key) for key in part)):
            return Strange("a tensor with a state of its own")
    return made


def _is_remark(attribute: object) -> bool:
    return isinstance(attribute, str) and attribute not in _REPLACING and not attribute.startswith("__")


def _from_cpu(data: object, dtype: object, device: object, grad: object) -> View | Strange:
    made = _tensor(data)
    same = isinstance(made, View) and isinstance(dtype, Name) and DTYPES.get(dtype.path) == made.code
    return made if same else Strange("a tensor that is converted when it is loaded")


def _strange(kind: str) -> Callable[..., Strange]:
    def make(*arguments: object) -> Strange:
        return Strange(kind)

    return make


_CALLS: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter_with_state,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _from_cpu,
    "torch._utils._rebuild_device_tensor_from_numpy": _strange("a tensor that is stored as a numpy array"),
    "torch._utils._rebuild_qtensor": _strange("a quantised tensor of torch"),
    "torch._utils._rebuild_sparse_tensor": _strange("a sparse tensor"),
    "torch._utils._rebuild_nested_tensor": _strange("a nested tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _strange("a tensor without data (of the device `meta`)"),
    "torch._utils._rebuild_wrapper_subclass": _strange("a tensor of a class of its own"),
    "torch.nn.parameter.Parameter": _parameter,
}
