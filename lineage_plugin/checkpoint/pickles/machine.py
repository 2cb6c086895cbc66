"""The stack machine of pickles, without anything to call.

Its opcodes are those that torch accepts with ``weights_only=True`` (``torch._weights_only_unpickler``), with the same
meaning (``pickletools`` documents each); every other opcode, ``INST``, ``OBJ``, ``STACK_GLOBAL``, ``EXT1``, ``PERSID``
and the frames of protocol 4 among them, is refused. A name is a :class:`~.values.Name` and stays one; a call makes the
value that :mod:`~.calls` describes, or is refused.

What a few bytes can grow into is bounded: the number of opcodes, of which each makes one small object, and what may be
the key of a dict.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from lineage_plugin.checkpoint.names import shown
from lineage_plugin.checkpoint.pickles.calls import as_key, call, create, persistent
from lineage_plugin.checkpoint.pickles.names_allowed import ALLOWED
from lineage_plugin.checkpoint.pickles.values import Inert, Name, Ordered, View
from lineage_plugin.errors import UnreadableCheckpoint, UnsafeCheckpoint

__all__ = ["MAX_PICKLE", "interpret"]

MAX_PICKLE = 32 << 20
"""Largest pickle in bytes; that of a model of 1,000 tensors has 150 KB."""
_MAX_STEPS = 2_000_000
"""Most opcodes; a tensor takes about 35."""
_LONGEST_TEXT = 1 << 16
"""Longer texts are no names and are not kept."""
_LONGEST_GLOBAL = 1024

_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")
_DOUBLE = struct.Struct(">d")

_ASK = (
    "Save the weights alone: model.save_pretrained(FOLDER), or a state dict as safetensors. Convert a stranger's file "
    "only in a sandbox, for torch would run what it holds."
)
_AGAIN = "Get the file again, or save it again with torch.save."


class _Damaged(Exception):
    """The pickle breaks its own rules."""


def interpret(data: bytes, *, where: str) -> object:
    """Interpret the pickle of a PyTorch checkpoint.

    Args:
        data: The pickle.
        where: The file, for messages.

    Returns:
        What it describes, made of inert values.

    Raises:
        UnsafeCheckpoint: When it does what torch does not allow the pickles of weights.
        UnreadableCheckpoint: When it is damaged or too large.
    """
    try:
        return _Machine(data, where).run()
    except (_Damaged, IndexError, KeyError, struct.error, UnicodeError, TypeError, ValueError, OverflowError):
        raise UnreadableCheckpoint(where, "its pickle is damaged", _AGAIN) from None


class _Machine:
    """The state of the machine: what is left of the program, the stack, the stacks below it and the memo."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.where = where
        self.at = 0
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.storages: dict[str, object] = {}

    def run(self) -> object:
        data, steps = self.data, _STEPS
        for _ in range(_MAX_STEPS):
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                if self.at != len(data):
                    raise _Damaged
                return self.stack.pop()
            step = steps.get(code)
            if step is None:
                raise self.refused(f"uses the opcode 0x{code:02x}")
            step(self)
        raise UnreadableCheckpoint(
            self.where, f"its pickle has more than {_MAX_STEPS} opcodes", "Save the state dict alone."
        )

    def refused(self, what: str) -> UnsafeCheckpoint:
        return UnsafeCheckpoint(self.where, f"its pickle {what}, which torch does not allow for weights", _ASK)

    def take(self, size: int) -> bytes:
        stop = self.at + size
        taken = self.data[self.at : stop]
        if len(taken) != size:
            raise _Damaged
        self.at = stop
        return taken

    def line(self) -> str:
        stop = self.data.find(b"\n", self.at, self.at + _LONGEST_GLOBAL)
        if stop < 0:
            raise _Damaged
        text = self.data[self.at : stop].decode("utf-8")
        self.at = stop + 1
        return text

    def marked(self) -> list[object]:
        """Return what was pushed since the last mark, and go back to the stack below."""
        items = self.stack
        self.stack = self.below.pop()
        return items


# Opcodes, one function each. A missing operand is an IndexError of the stack, which `interpret` turns into a message.


def _global(m: _Machine) -> None:
    module = m.line()
    # Protocol 2 writes the names of Python 2.
    path = f"{'builtins' if module == '__builtin__' else module}.{m.line()}"
    if path not in ALLOWED:
        raise m.refused(f"names '{shown(path, 120)}'")
    m.stack.append(Name(path))


def _reduce(m: _Machine) -> None:
    arguments = m.stack.pop()
    function = m.stack[-1]
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise m.refused("calls something that is no function")
    m.stack[-1] = call(function.path, arguments)


def _newobj(m: _Machine) -> None:
    arguments, kind = m.stack.pop(), m.stack.pop()
    if not isinstance(kind, Name) or not isinstance(arguments, tuple):
        raise m.refused("makes an object of something that is no class")
    m.stack.append(create(kind.path, arguments))


def _build(m: _Machine) -> None:
    m.stack.pop()
    built = m.stack[-1]
    # The attributes of an OrderedDict hold versions of modules. A tensor that is given a state would become another.
    if not isinstance(built, Ordered):
        kind = "tensor" if isinstance(built, View) else "object"
        raise m.refused(f"changes the state of a finished {kind}")


def _persistent(m: _Machine) -> None:
    m.stack.append(persistent(m.stack.pop(), m.storages))


def _append(m: _Machine) -> None:
    item = m.stack.pop()
    _a_list(m).append(item)


def _appends(m: _Machine) -> None:
    items = m.marked()
    _a_list(m).extend(items)


def _a_list(m: _Machine) -> list[object]:
    found = m.stack[-1]
    if not isinstance(found, list):
        raise m.refused("appends to something that is no list")
    return found


def _set_item(m: _Machine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    _assign(m, [key, value])


def _set_items(m: _Machine) -> None:
    _assign(m, m.marked())


def _assign(m: _Machine, items: list[object]) -> None:
    found = m.stack[-1]
    if not isinstance(found, dict):
        raise m.refused("sets items of something that is no dict")
    if len(items) % 2:
        raise _Damaged
    for key, value in zip(items[::2], items[1::2], strict=True):
        found[as_key(key)] = value


def _mark(m: _Machine) -> None:
    m.below.append(m.stack)
    m.stack = []


def _tuple(m: _Machine) -> None:
    items = m.marked()
    m.stack.append(tuple(items))


def _tuple_of(size: int) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        if len(m.stack) < size:
            raise _Damaged
        m.stack[-size:] = [tuple(m.stack[-size:])]

    return step


def _push(value: object) -> Callable[[_Machine], None]:
    def step(m: _Machine) -> None:
        m.stack.append(value)

    return step


def _text(size: int, m: _Machine) -> None:
    raw = m.take(size)
    m.stack.append(raw.decode("utf-8", "surrogatepass") if size <= _LONGEST_TEXT else Inert())


def _unicode(m: _Machine) -> None:
    _text(_UINT32.unpack(m.take(4))[0], m)


def _short_string(m: _Machine) -> None:
    _text(m.take(1)[0], m)


def _int1(m: _Machine) -> None:
    m.stack.append(m.data[m.at])
    m.at += 1


def _int2(m: _Machine) -> None:
    m.stack.append(int.from_bytes(m.take(2), "little"))


def _int4(m: _Machine) -> None:
    m.stack.append(_INT32.unpack(m.take(4))[0])


def _long(m: _Machine) -> None:
    m.stack.append(int.from_bytes(m.take(m.take(1)[0]), "little", signed=True))


def _float(m: _Machine) -> None:
    m.stack.append(_DOUBLE.unpack(m.take(8))[0])


def _get1(m: _Machine) -> None:
    m.stack.append(m.memo[m.data[m.at]])
    m.at += 1


def _get4(m: _Machine) -> None:
    m.stack.append(m.memo[_UINT32.unpack(m.take(4))[0]])


def _put1(m: _Machine) -> None:
    m.memo[m.data[m.at]] = m.stack[-1]
    m.at += 1


def _put4(m: _Machine) -> None:
    m.memo[_UINT32.unpack(m.take(4))[0]] = m.stack[-1]


def _empty_list(m: _Machine) -> None:
    m.stack.append([])


def _empty_dict(m: _Machine) -> None:
    m.stack.append({})


def _protocol(m: _Machine) -> None:
    m.at += 1


_STOP: Final = ord(".")
_STEPS: Final[dict[int, Callable[[_Machine], None]]] = {
    **{ord("c"): _global, ord("R"): _reduce, 0x81: _newobj, ord("b"): _build, ord("Q"): _persistent},
    **{ord("a"): _append, ord("e"): _appends, ord("s"): _set_item, ord("u"): _set_items},
    **{ord("("): _mark, ord("t"): _tuple, 0x85: _tuple_of(1), 0x86: _tuple_of(2), 0x87: _tuple_of(3)},
    **{ord(")"): _push(()), ord("N"): _push(None), 0x88: _push(True), 0x89: _push(False), 0x8F: _push(Inert())},
    **{ord("]"): _empty_list, ord("}"): _empty_dict, ord("X"): _unicode, ord("U"): _short_string},
    **{ord("K"): _int1, ord("M"): _int2, ord("J"): _int4, 0x8A: _long, ord("G"): _float},
    **{ord("h"): _get1, ord("j"): _get4, ord("q"): _put1, ord("r"): _put4, 0x80: _protocol},
}
