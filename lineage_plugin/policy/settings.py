"""From the located values of a policy file to a :class:`~lineage_plugin.policy.types.Policy`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast, get_args

from lineage_plugin.card.located import Entry, Located
from lineage_plugin.judge.types import Verdict
from lineage_plugin.policy.presets import PRESETS
from lineage_plugin.policy.types import Exemption, IgnoreComments, LevelOrOff, Policy
from lineage_plugin.policy.values import Reader
from lineage_plugin.report import FailOn

__all__ = ["places_of", "policy_of"]

_KEYS: Final = (
    "version",
    "preset",
    "bar",
    "budget",
    "fail-on",
    "undecided",
    "ignore-comments",
    "levels",
    "bases",
    "exceptions",
)
_EXCEPTION_KEYS: Final = ("model", "codes", "reason", "expires")

_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


def policy_of(root: Located, reader: Reader, name: str, preset: Callable[[str], Policy]) -> Policy:
    """Return what a file says, over what its preset says.

    Args:
        root: The file's mapping.
        reader: Of the file. Where it gathers problems and found some, the policy lacks what is wrong.
        name: The file.
        preset: Returns the preset of a name.

    Raises:
        Wrong: For what is not as it must be, unless problems are gathered.
    """
    found = reader.mapping(root, "the policy", _KEYS, needs=("version",))

    def stated(key: str, read: Callable[[Located], _Value]) -> _Value | None:
        return _stated(found, key, reader, read)

    def word(key: str, choices: Sequence[str]) -> str | None:
        return stated(key, lambda value: reader.word(value, key, choices))

    stated("version", reader.version)
    chosen = word("preset", PRESETS)
    below = Policy() if chosen is None else preset(chosen)
    return Policy(
        file=Path(name).as_posix(),
        bar=stated("bar", reader.bar) or below.bar,
        budget=stated("budget", lambda value: reader.size(value, "budget")) or below.budget,
        fail_on=cast("FailOn | None", word("fail-on", get_args(FailOn))) or below.fail_on,
        undecided=cast("Verdict | None", word("undecided", get_args(Verdict))) or below.undecided,
        levels={**below.levels, **(stated("levels", lambda value: _levels(value, reader)) or {})},
        allow=stated("bases", lambda value: _allow(value, reader)) or below.allow,
        exceptions=stated("exceptions", lambda value: _exceptions(value, reader)) or (),
        preset=chosen,
        ignore_comments=cast("IgnoreComments | None", word("ignore-comments", get_args(IgnoreComments)))
        or below.ignore_comments,
    )


def _stated(found: Mapping[str, Located], key: str, reader: Reader, read: Callable[[Located], _Value]) -> _Value | None:
    """Return the value of a key; None when there is none, or none that is right."""
    return reader.attempt(lambda: read(found[key])) if key in found else None


def _each(reader: Reader, read: Callable[[_Item], _Value | None], items: Iterable[_Item]) -> Iterator[_Value]:
    """Yield what is read of each item; what is wrong and gathered is passed over."""
    for item in items:
        value = reader.attempt(partial(read, item))
        if value is not None:
            yield value


def _levels(value: Located, reader: Reader) -> dict[str, LevelOrOff]:
    def level(entry: Entry) -> tuple[str, LevelOrOff]:
        code = reader.code(entry.key)
        return code, cast(LevelOrOff, reader.word(entry.value, f"the level of {code}", get_args(LevelOrOff)))

    return dict(_each(reader, level, reader.entries(value, "levels")))


def _allow(value: Located, reader: Reader) -> tuple[str, ...]:
    patterns = reader.mapping(value, "bases", ("allow",), needs=("allow",)).get("allow")
    return () if patterns is None else tuple(_each(reader, reader.base, reader.items(patterns, "bases.allow")))


def _exceptions(value: Located, reader: Reader) -> tuple[Exemption, ...]:
    return tuple(_each(reader, lambda item: _exemption(item, reader), reader.items(value, "exceptions")))


def _exemption(value: Located, reader: Reader) -> Exemption | None:
    found = reader.mapping(value, "an exception", _EXCEPTION_KEYS, needs=_EXCEPTION_KEYS)
    model = _stated(found, "model", reader, lambda value: reader.pattern(value, "the model of an exception"))
    codes = _stated(
        found, "codes", reader, lambda value: tuple(_each(reader, reader.code, reader.items(value, "codes")))
    )
    reason = _stated(found, "reason", reader, reader.reason)
    expires = _stated(found, "expires", reader, lambda value: reader.day(value, "expires"))
    if model is None or codes is None or reason is None or expires is None:
        return None
    return Exemption(model, codes, reason, expires, value.line)


def places_of(value: Located, name: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield where everything in a valid policy stands, by path: an entry at its key, an item of a list at itself."""
    children = [(entry.key.text or "", entry.key, entry.value) for entry in value.entries]
    children += [(str(index), item, item) for index, item in enumerate(value.items)]
    for key, where, below in children:
        path = f"{name}.{key}" if name else key
        yield path, (where.line, where.column)
        yield from places_of(below, path)
