"""The policy that holds, setting by setting, and where each comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from lineage_plugin.findings import CODES
from lineage_plugin.options import DEFAULT_BAR
from lineage_plugin.policy.load import load_preset
from lineage_plugin.policy.matching import matches, names_of
from lineage_plugin.policy.types import Exemption, Policy

__all__ = ["LeftOut", "PolicyView", "Setting", "ShownException", "view_of"]

Value = float | int | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting that holds.

    Attributes:
        name: As the file calls it; of a level the code.
        value: Its value; None for the plan's own budget, and where any base is allowed.
        source: Who says so: the policy file, its preset, or nobody.
        line: Line of the policy file, when it is the file that says so.
    """

    name: str
    value: Value
    source: Literal["file", "preset", "default"]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class ShownException:
    """An exception of the policy.

    Attributes:
        exemption: The exception.
        days_left: Days after today on which it still holds; negative when it has expired.
        about_model: Whether it is about the model; None when no model was named.
    """

    exemption: Exemption
    days_left: int
    about_model: bool | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the file says and is not used, and the line it stands on, if it is the file's own."""

    what: str
    line: int | None


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy as it holds for a model.

    Attributes:
        model: The model that was asked about, if any.
        policy: The policy; None when there is no file, so that the defaults hold.
        settings: What holds, but for levels and exceptions.
        levels: The level of every code.
        exceptions: The exceptions.
        left_out: What is not used, since the file came with the model and nobody named it.
    """

    model: str | None
    policy: Policy | None
    settings: tuple[Setting, ...]
    levels: tuple[Setting, ...]
    exceptions: tuple[ShownException, ...]
    left_out: tuple[LeftOut, ...]


def view_of(policy: Policy | None, model: str | None, today: date) -> PolicyView:
    """Return what holds.

    Args:
        policy: The policy as it was named or found; None when there is none.
        model: What the user typed for the model; None: no model in particular.
        today: The day that exceptions are measured by.

    Raises:
        UsageError: When the model is none.
    """
    held = policy or Policy()
    names = None if model is None else names_of(model, held.file)
    return PolicyView(
        model=model,
        policy=policy,
        settings=tuple(_settings(held)),
        levels=tuple(_setting(held, f"levels.{code}", held.levels.get(code, CODES[code].level)) for code in CODES),
        exceptions=tuple(_exceptions(held, names, today)),
        left_out=tuple(_left_out(held)),
    )


def _settings(policy: Policy) -> Iterator[Setting]:
    yield _setting(policy, "bar", DEFAULT_BAR if policy.bar is None else policy.bar)
    yield _setting(policy, "budget", policy.budget)
    yield _setting(policy, "fail-on", policy.fail_on or "error")
    yield _setting(policy, "undecided", policy.undecided)
    yield _setting(policy, "ignore-comments", policy.ignore_comments)
    yield _setting(policy, "bases.allow", policy.allow)


def _setting(policy: Policy, path: str, value: Value) -> Setting:
    """Return a setting with its source, by its path in the file."""
    name = path.removeprefix("levels.")
    if name in {what.partition(":")[0] for what in policy.ignored}:
        return Setting(name, value, "default")
    if path in policy.places:
        return Setting(name, value, "file", policy.places[path][0])
    in_preset = policy.preset is not None and path in load_preset(policy.preset).places
    return Setting(name, value, "preset" if in_preset else "default")


def _exceptions(policy: Policy, names: Sequence[str] | None, today: date) -> Iterator[ShownException]:
    for one in policy.exceptions:
        about = None if names is None else any(matches(one.model, name) for name in names)
        yield ShownException(one, (one.expires - today).days, about)


def _left_out(policy: Policy) -> Iterator[LeftOut]:
    for what in policy.ignored:
        name = what.partition(":")[0]
        place = policy.places.get(f"levels.{name}" if name in CODES else name)
        yield LeftOut(what, None if place is None else place[0])
