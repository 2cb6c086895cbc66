"""From a policy file to a :class:`~lineage_plugin.policy.types.Policy`.

The file is read as the front matter of a card is (:mod:`~lineage_plugin.card.yaml_values`): by position, without
constructing anything, within limits. Unlike a card, which strangers write and which is reported on, a policy that is
not exactly right is refused: half a policy would be no policy.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, Final, cast, get_args

from lineage_plugin.card.located import Lines, Located, Problem
from lineage_plugin.card.yaml_values import Refused, read_yaml
from lineage_plugin.checkpoint.files import opened, read_exactly
from lineage_plugin.errors import UnreadableCheckpoint, UsageError
from lineage_plugin.judge.types import Verdict
from lineage_plugin.policy.types import Exemption, LevelOrOff, Policy
from lineage_plugin.policy.values import Reader
from lineage_plugin.report import FailOn
from lineage_plugin.text import one_line

__all__ = ["MAX_SIZE", "load_policy", "schema"]

MAX_SIZE: Final = 256 * 1024
"""Largest policy file read, in bytes: more than a thousand exceptions."""

_KEYS = ("version", "bar", "budget", "fail-on", "undecided", "levels", "bases", "exceptions")
_EXCEPTION_KEYS = ("model", "codes", "reason", "expires")


def load_policy(path: str | Path) -> Policy:
    """Read a policy file.

    Args:
        path: The file; YAML, described in ``docs/policy.md``.

    Returns:
        The policy, to be given to :func:`lineage_plugin.check` and its siblings.

    Raises:
        UsageError: When there is no such file, or anything in it is not as it must be; names file and line.
    """
    name = str(path)
    try:
        with opened(Path(path)) as (descriptor, _):
            data = read_exactly(descriptor, 0, MAX_SIZE + 1)
    except UnreadableCheckpoint as error:
        raise UsageError(f"{one_line(name, 160)}: the policy cannot be read: {error.problem}") from None
    if len(data) > MAX_SIZE:
        raise UsageError(f"{one_line(name, 160)}: a policy has at most {MAX_SIZE // 1024} KiB")
    return _policy(_read(data, Reader(name)), name)


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file, as editors use it."""
    text = resources.files(__package__).joinpath("lineage-policy-1.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _read(data: bytes, reader: Reader) -> tuple[Located, Reader]:
    """Return the file's mapping, with positions."""
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    problems: list[Problem] = []
    try:
        entries = read_yaml(text, 0, Lines(text), problems)
    except Refused as refused:
        raise reader.wrong(refused.problem.line, _said(refused.problem)) from None
    if problems:
        raise reader.wrong(problems[0].line, _said(problems[0]))
    return Located(entries, "mapping", 1, 1), reader


def _said(problem: Problem) -> str:
    """Return a problem in the words of a policy: the YAML reader speaks of cards, which it reads on in spite of it."""
    message = problem.message.removesuffix("; the last one is used")
    front_matter = "the front matter "
    return f"the policy {message.removeprefix(front_matter)}" if message.startswith(front_matter) else message


def _policy(read: tuple[Located, Reader], name: str) -> Policy:
    root, reader = read
    found = reader.mapping(root, "the policy", _KEYS, needs=("version",))
    reader.version(found["version"])
    return Policy(
        file=Path(name).as_posix(),
        bar=reader.bar(found["bar"]) if "bar" in found else None,
        budget=reader.size(found["budget"], "budget") if "budget" in found else None,
        fail_on=cast(FailOn, reader.word(found["fail-on"], "fail-on", get_args(FailOn)))
        if "fail-on" in found
        else None,
        undecided=cast(Verdict, reader.word(found["undecided"], "undecided", get_args(Verdict)))
        if "undecided" in found
        else "undecided",
        levels=_levels(found["levels"], reader) if "levels" in found else {},
        allow=_allow(found["bases"], reader) if "bases" in found else None,
        exceptions=tuple(_exemption(item, reader) for item in reader.items(found["exceptions"], "exceptions"))
        if "exceptions" in found
        else (),
    )


def _levels(value: Located, reader: Reader) -> dict[str, LevelOrOff]:
    levels: dict[str, LevelOrOff] = {}
    for entry in reader.entries(value, "levels"):
        code = reader.code(entry.key)
        levels[code] = cast(LevelOrOff, reader.word(entry.value, f"the level of {code}", get_args(LevelOrOff)))
    return levels


def _allow(value: Located, reader: Reader) -> tuple[str, ...]:
    patterns = reader.mapping(value, "bases", ("allow",), needs=("allow",))["allow"]
    return tuple(reader.base(item) for item in reader.items(patterns, "bases.allow"))


def _exemption(value: Located, reader: Reader) -> Exemption:
    found = reader.mapping(value, "an exception", _EXCEPTION_KEYS, needs=_EXCEPTION_KEYS)
    return Exemption(
        model=reader.pattern(found["model"], "the model of an exception"),
        codes=tuple(reader.code(item) for item in reader.items(found["codes"], "codes")),
        reason=reader.reason(found["reason"]),
        expires=reader.day(found["expires"], "expires"),
        line=value.line,
    )
