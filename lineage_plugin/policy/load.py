"""From a policy file to a :class:`~lineage_plugin.policy.types.Policy`.

The file is read as the front matter of a card is (:mod:`~lineage_plugin.card.yaml_values`): by position, without
constructing anything, within limits. Unlike a card, which strangers write and which is reported on, a policy that is
not exactly right is refused: half a policy would be no policy.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from lineage_plugin.card.located import Lines, Located, Problem
from lineage_plugin.card.yaml_values import Refused, read_yaml
from lineage_plugin.checkpoint.files import opened, read_exactly
from lineage_plugin.errors import UnreadableCheckpoint, UsageError
from lineage_plugin.policy.presets import preset_text
from lineage_plugin.policy.settings import places_of, policy_of
from lineage_plugin.policy.types import Policy
from lineage_plugin.policy.values import Reader, Wrong
from lineage_plugin.text import one_line

__all__ = ["MAX_SIZE", "inspect_policy", "load_policy", "load_preset", "schema"]

MAX_SIZE: Final = 256 * 1024
"""Largest policy file read, in bytes: more than a thousand exceptions."""


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
    return _policy(_content(name), name, Reader(name))


@cache
def load_preset(name: str) -> Policy:
    """Return a preset as a policy.

    Args:
        name: One of :data:`~lineage_plugin.policy.presets.PRESETS`.
    """
    called = f"preset {name}"
    return _policy(preset_text(name).encode(), called, Reader(called))


def inspect_policy(path: str | Path) -> tuple[Policy | None, tuple[Wrong, ...]]:
    """Read a policy file for all that is wrong with it.

    Args:
        path: The file.

    Returns:
        The policy, None when it is none; and what is wrong, in the order of the file.

    Raises:
        UsageError: When there is no such file, or it cannot be read.
    """
    name = str(path)
    content = _content(name)
    problems: list[Wrong] = []
    reader = Reader(name, problems)
    policy = reader.attempt(lambda: _policy(content, name, reader))
    if not problems:
        return policy, ()
    return None, tuple(sorted(problems, key=lambda wrong: (wrong.line, wrong.column)))


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file, as editors use it."""
    text = resources.files(__package__).joinpath("lineage-policy-1.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _content(name: str) -> bytes:
    try:
        with opened(Path(name)) as (descriptor, _):
            data = read_exactly(descriptor, 0, MAX_SIZE + 1)
    except UnreadableCheckpoint as error:
        raise UsageError(f"{one_line(name, 160)}: the policy cannot be read: {error.problem}") from None
    if len(data) > MAX_SIZE:
        raise UsageError(f"{one_line(name, 160)}: a policy has at most {MAX_SIZE // 1024} KiB")
    return data


def _policy(data: bytes, name: str, reader: Reader) -> Policy:
    root = _read(data, reader)
    policy = policy_of(root, reader, name, load_preset)
    return replace(policy, places=dict(places_of(root))) if reader.satisfied else policy


def _read(data: bytes, reader: Reader) -> Located:
    """Return the file's mapping, with positions."""
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    problems: list[Problem] = []
    try:
        entries = read_yaml(text, 0, Lines(text), problems, what="the policy")
    except Refused as refused:
        raise reader.wrong(refused.problem, refused.problem.message) from None
    for problem in problems:
        # Of a policy nothing is used then, whichever key is the last.
        reader.report(problem, problem.message.removesuffix("; the last one is used"))
    return Located(entries, "mapping", 1, 1)
