"""What is valid in a policy and has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.policy.load import load_preset
from lineage_plugin.policy.types import Exemption, Policy
from lineage_plugin.text import quoted

__all__ = ["Remark", "remarks"]


@dataclass(frozen=True, slots=True)
class Remark:
    """Something without effect: where it stands (from 1), and what it is."""

    line: int
    column: int
    message: str


def remarks(policy: Policy, today: date) -> tuple[Remark, ...]:
    """Return what a policy says to no effect, in the order of the file.

    Args:
        policy: The policy, as it was read from its file.
        today: The day that exceptions are measured by.
    """
    found = [
        *_said_by_preset(policy),
        *_allowed(policy),
        *(found for index, one in enumerate(policy.exceptions) for found in _exception(policy, index, one, today)),
    ]
    places = ((*policy.places.get(path, (1, 1)), message) for path, message in found)
    return tuple(sorted((Remark(*place) for place in places), key=lambda one: (one.line, one.column)))


def _said_by_preset(policy: Policy) -> Iterator[tuple[str, str]]:
    if policy.preset is None:
        return
    preset = load_preset(policy.preset)
    both = [path for path in policy.places if path in preset.places and path not in ("version", "levels")]
    for path in both:
        _, _, code = path.partition("levels.")
        field = path.replace("-", "_")
        same = policy.levels[code] == preset.levels[code] if code else getattr(policy, field) == getattr(preset, field)
        if same:
            yield path, f"{code or path} is what the preset {policy.preset} says anyway"


def _allowed(policy: Policy) -> Iterator[tuple[str, str]]:
    patterns = policy.allow or ()
    if patterns and policy.levels.get("LIN401") == "off":
        yield "bases.allow", "LIN401 is off, so that any base may be declared"
    for index, pattern in enumerate(patterns):
        path = f"bases.allow.{index}"
        if pattern in patterns[:index]:
            yield path, f"{quoted(pattern)} stands there twice"
        elif not any(is_model_id(pattern.replace("*", some).replace("?", "a")) for some in ("a", "")):
            yield path, f"{quoted(pattern)} fits nothing: there are no such ids on the Hub"
        elif "/" not in pattern and not is_model_id(pattern):
            yield (
                path,
                f"{quoted(pattern)} fits only ids without an owner, such as gpt2; write {quoted(pattern + '/*')}",
            )


def _exception(policy: Policy, index: int, one: Exemption, today: date) -> Iterator[tuple[str, str]]:
    path = f"exceptions.{index}"
    if one.expires < today:
        yield f"{path}.expires", f"expired on {one.expires.isoformat()}: remove the exception, or decide anew"
    for place, code in enumerate(one.codes):
        if policy.levels.get(code) == "off":
            yield f"{path}.codes.{place}", f"{code} is off, so that there is nothing to excuse"
        elif code in one.codes[:place]:
            yield f"{path}.codes.{place}", f"{code} stands there twice"
    why = _fits_nothing(one.model)
    if why:
        yield f"{path}.model", f"{quoted(one.model)} fits nothing: {why}"


def _fits_nothing(pattern: str) -> str:
    """Return why a pattern fits no name of a model; empty when it may fit one."""
    parts = pattern.split("/")
    up = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    if pattern.startswith(("/", "~")):
        return "folders are written as seen from the folder of this file"
    if "" in parts:
        return "a name neither ends in a slash nor has two in a row"
    if "." in parts and pattern != ".":
        return 'leave out "./"'
    if ".." in parts[up:]:
        return 'write the path without "name/.."'
    if "\\" in pattern:
        return "folders are written with /"
    if "@" in parts[-1] and is_model_id("/".join(parts).partition("@")[0]):
        return "a model of the Hub is named without its revision"
    return ""
