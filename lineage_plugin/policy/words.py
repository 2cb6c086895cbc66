"""What a policy did to a report, in one line for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from lineage_plugin.judge.types import PolicyUse
from lineage_plugin.text import one_line

__all__ = ["policy_line", "together"]

_T = TypeVar("_T")
_COUNTS_AS = {"pass": "undecided counts as passed", "fail": "undecided counts as failed"}


def together(uses: Iterable[PolicyUse | None]) -> tuple[PolicyUse, ...]:
    """Return what each policy file did to several reports, as if it had been one."""
    found: dict[str, PolicyUse] = {}
    for use in uses:
        if use is not None:
            known = found.setdefault(use.file, use)
            found[use.file] = replace(
                known,
                off=_joined(known.off, use.off),
                excepted=_joined(known.excepted, use.excepted),
                levels=_joined(known.levels, use.levels),
                ignored=_joined(known.ignored, use.ignored),
                denied=_joined(known.denied, use.denied),
            )
    return tuple(found.values())


def _joined(one: tuple[_T, ...], other: tuple[_T, ...]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys((*one, *other)))


def policy_line(use: PolicyUse | None) -> str:
    """Return which policy file was used, what it silenced and changed, and what of it was not used.

    Args:
        use: Of the report's settings.

    Returns:
        Plain text of one line; empty when there was no policy.
    """
    if use is None:
        return ""
    preset = "" if use.preset is None else f" (preset {one_line(use.preset, 40)})"
    return f"{one_line(use.file, 160)}{preset}: {'; '.join(_parts(use)) or 'changed no finding here'}"


def _parts(use: PolicyUse) -> Iterator[str]:
    if use.off:
        yield f"left out {', '.join(use.off)}"
    if use.denied:
        yield f"took no comment that ignores {', '.join(use.denied)}"
    for one in use.excepted:
        yield f"excepted {one.code} until {one.expires} ({one_line(one.reason, 300)})"
    for change in use.levels:
        yield f"made the {change.was} {change.code} {_article(change.now)}"
    if use.fail_on is not None:
        yield "nothing fails" if use.fail_on == "never" else f"fails on {_article(use.fail_on)}"
    if use.undecided in _COUNTS_AS:
        yield _COUNTS_AS[use.undecided]
    if use.ignored:
        left = ", ".join(one_line(name, 60) for name in use.ignored)
        yield f"not used, since the file came with the model and nobody named it with --policy: {left}"


def _article(level: str) -> str:
    return f"an {level}" if level == "error" else f"a {level}"
