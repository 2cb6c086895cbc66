"""A report as plain values, and back without loss.

The report for other programs (:mod:`lineage_plugin.report.json_report`) makes texts harmless and writes null for a
number that is not finite, so a report cannot be had back from it. :func:`to_plain` keeps everything, for this program's
own use: a dataclass becomes a dict of all its fields, a tuple a list, and a number that is not finite one of the words
``nan``, ``inf`` and ``-inf``, since JSON has no such numbers. The types of :mod:`lineage_plugin.judge.types` say
what is what; whatever does not fit them to the letter is refused.

Example:
    >>> import json
    >>> from_plain(json.loads(json.dumps(to_plain(report), allow_nan=False))) == report
    True
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lineage_plugin.judge.types import Report
from lineage_plugin.report import FailOn

__all__ = ["from_plain", "plain_of", "to_plain", "value_of"]

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_plain(report: Report) -> dict[str, Any]:
    """Return a report as dicts, lists, strings, finite numbers, booleans and None.

    Args:
        report: The report.

    Returns:
        What :func:`from_plain` makes the report of again, also after a way through JSON text.

    Raises:
        ValueError: When a field of the report holds what its type does not allow.
    """
    plain: dict[str, Any] = plain_of(Report, report, "report")
    return plain


def from_plain(data: object) -> Report:
    """Return the report that :func:`to_plain` made the data of.

    Args:
        data: The data; nothing is taken for granted about it.

    Returns:
        The report, equal to the first one (a NaN is a NaN again, though no NaN equals another).

    Raises:
        ValueError: When a field is missing, unknown or of another type; the message says which.
    """
    report: Report = value_of(Report, data, "report")
    return report


def plain_of(kind: Any, value: Any, where: str) -> Any:
    """Return a value of any type that reports are made of as :func:`to_plain` does a report.

    Args:
        kind: Its type.
        value: The value.
        where: What an error calls it.

    Raises:
        ValueError: When it holds what its type does not allow.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if (hints := _hints(kind)) is not None:
        if type(value) is not kind:
            raise _misfit(value, where)
        return {name: plain_of(hint, getattr(value, name), f"{where}.{name}") for name, hint in hints.items()}
    if origin is tuple:
        if not isinstance(value, tuple):
            raise _misfit(value, where)
        return [plain_of(hint, one, f"{where}[{i}]") for i, (hint, one) in enumerate(_items(arguments, value, where))]
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _misfit(value, where)
        return {_text(key, where): plain_of(arguments[1], one, f"{where}[{key!r}]") for key, one in value.items()}
    if origin in (Union, types.UnionType):
        return None if value is None else _fitting(arguments, lambda one: plain_of(one, value, where))
    if kind is float:
        # Also one of numpy's, which is written as the number that it is.
        if isinstance(value, Real) and not isinstance(value, bool | Integral):
            number = float(value)
            return number if math.isfinite(number) else repr(number)
        return _integer(value, where)
    return _integer(value, where) if kind is int else _simple(kind, value, where)


def value_of(kind: Any, data: Any, where: str) -> Any:
    """Return the value that :func:`plain_of` made the data of.

    Args:
        kind: Its type.
        data: The data; nothing is taken for granted about it.
        where: What an error calls it.

    Raises:
        ValueError: When a field is missing, unknown or of another type.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if (hints := _hints(kind)) is not None:
        if not isinstance(data, dict):
            raise _misfit(data, where)
        if data.keys() != hints.keys():
            odd = sorted(str(name) for name in data.keys() ^ hints.keys())
            raise ValueError(f"{where}: fields are missing or unknown: {', '.join(odd)[:200]}")
        return kind(**{name: value_of(hint, data[name], f"{where}.{name}") for name, hint in hints.items()})
    if origin is tuple:
        if not isinstance(data, list):
            raise _misfit(data, where)
        items = enumerate(_items(arguments, data, where))
        return tuple(value_of(hint, one, f"{where}[{i}]") for i, (hint, one) in items)
    if origin is Mapping:
        if not isinstance(data, dict):
            raise _misfit(data, where)
        return {_text(key, where): value_of(arguments[1], one, f"{where}[{key!r}]") for key, one in data.items()}
    if origin in (Union, types.UnionType):
        return None if data is None else _fitting(arguments, lambda one: value_of(one, data, where))
    if kind is float:
        if isinstance(data, str) and data in _NOT_FINITE:
            return _NOT_FINITE[data]
        if type(data) is float and math.isfinite(data):
            return data
    if kind in (float, int):
        if type(data) is not int:
            raise _misfit(data, where)
        return data
    return _simple(kind, data, where)


@cache
def _hints(kind: Any) -> dict[str, Any] | None:
    """Return the types of a dataclass's fields; None for what is no dataclass."""
    if not is_dataclass(kind):
        return None
    # Those modules import FailOn for type checkers only.
    hints = get_type_hints(kind, localns={"FailOn": FailOn})
    return {field.name: hints[field.name] for field in fields(kind)}


def _items(arguments: tuple[Any, ...], values: Any, where: str) -> list[tuple[Any, Any]]:
    if arguments[1:] == (...,):
        return [(arguments[0], value) for value in values]
    if len(values) != len(arguments):
        raise ValueError(f"{where}: {len(arguments)} values belong here, not {len(values)}")
    return list(zip(arguments, values, strict=True))


def _fitting(arguments: tuple[Any, ...], make: Callable[[Any], Any]) -> Any:
    """Return what is made by the first type of a union that fits; no two of them have the same fields."""
    *others, last = (argument for argument in arguments if argument is not type(None))
    for kind in others:
        with contextlib.suppress(ValueError):
            return make(kind)
    return make(last)


def _integer(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _misfit(value, where)
    return int(value)


def _text(value: Any, where: str) -> str:
    if type(value) is not str:
        raise _misfit(value, where)
    return value


def _simple(kind: Any, value: Any, where: str) -> Any:
    """Check a text, a truth value or one of a few words."""
    if kind is str:
        return _text(value, where)
    if kind is bool:
        if type(value) is not bool:
            raise _misfit(value, where)
        return value
    if get_origin(kind) is not Literal:
        raise TypeError(f"{where}: no way is known to keep {kind!r}")
    if type(value) is not str or value not in get_args(kind):
        raise _misfit(value, where)
    return value


def _misfit(value: Any, where: str) -> ValueError:
    return ValueError(f"{where}: this cannot be a {type(value).__name__} ({repr(value)[:80]})")
