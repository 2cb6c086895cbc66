"""Ignore comments: what a card's author has seen and accepts.

A comment in the front matter, with the codes it is about and the reason::

    base_model: owner/name  # lineage: ignore[LIN205] the base is not published any more
    # lineage: ignore[LIN203, LIN210] the words of our own catalogue
    base_model_relation: distilled
    # lineage: ignore-file[LIN206] the licence is under negotiation

At the end of a line it is about the findings of that line; on a line of its own about the entry below it, a key or an
item of a list with all of its value; ``ignore-file`` about the whole card. What is ignored stays a finding, as a note
with the reason.

Only comments as YAML has them count: a ``#`` within a value is text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Literal

from lineage_plugin.card.front_matter import MAX_SIZE, FrontMatter, find_block
from lineage_plugin.card.located import Lines, Located
from lineage_plugin.card.rules.ignores import without_effect
from lineage_plugin.card.spans import read_tree
from lineage_plugin.card.yaml_values import ODD_BREAK
from lineage_plugin.findings import CODES, Finding, nearest_code
from lineage_plugin.text import one_line

__all__ = ["MAX_IGNORES", "Ignore", "apply_ignores", "read_ignores"]

MAX_IGNORES: Final = 100
"""Most ignore comments read of one card."""
MAX_CODES: Final = 50
"""Most codes read of one comment."""
MAX_REASON: Final = 300

Scope = Literal["line", "entry", "file"]

_WORD: Final = "lineage:"
_COMMENT: Final = re.compile(r"(?<=[ \t\r\n])#[ \t]*lineage:[ \t]*ignore\b(?P<rest>[^\r\n]*)")
_PARTS: Final = re.compile(r"(?P<file>-file)?[ \t]*\[(?P<codes>[^\]]*)\][ \t]*[-:]?(?P<reason>.*)")
_NEVER_ERRORS: Final = frozenset({"LIN202", "LIN207"})
"""Codes of which an error means that the declaration or the base is not known."""
_NARROWEST_FIRST: Final[tuple[Scope, ...]] = ("line", "entry", "file")


@dataclass(frozen=True, slots=True)
class Ignore:
    """An ignore comment.

    Attributes:
        codes: The codes that it names, in capitals and without repetitions, known or not; empty when it names none.
        reason: Why, fit to print; empty when it gives none.
        line: Its line in the card, from 1.
        column: Where its ``#`` stands in that line, from 1.
        scope: What it is about.
        first: The first line whose findings it is about.
        last: The last one; before ``first`` when there is none.
    """

    codes: tuple[str, ...]
    reason: str
    line: int
    column: int
    scope: Scope
    first: int
    last: int


def read_ignores(text: str, front_matter: FrontMatter) -> tuple[Ignore, ...]:
    """Read the ignore comments of a card.

    Args:
        text: The text of the card.
        front_matter: Its front matter; of one that cannot be read no comment counts.

    Returns:
        The comments, in their order, at most :data:`MAX_IGNORES`.
    """
    if not front_matter.readable or front_matter.line is None or text.find(_WORD, 0, MAX_SIZE) < 0:
        return ()
    text = text[:MAX_SIZE].removeprefix("\ufeff")
    place = find_block(text)
    if place is None or _WORD not in text[place.start : place.end]:
        return ()
    # Values are masked: what is left of "#" begins a comment.
    masked, lines = read_tree(text, place).masked, Lines(text[: place.end])
    # Behind a character that ends a line for some readers alone, one's comment is another's value.
    odd = ODD_BREAK.search(masked, place.start)
    end = odd.start() if odd is not None else place.end
    units = sorted(_units(front_matter))
    last = lines.at(place.end)[0]
    found: list[Ignore] = []
    for comment in islice(_COMMENT.finditer(masked, place.start, end), MAX_IGNORES):
        line, column = lines.at(comment.start())
        alone = not text[comment.start() - column + 1 : comment.start()].strip()
        found.append(_ignore(comment["rest"], (line, column), alone, units, last))
    return tuple(found)


def apply_ignores(
    findings: Sequence[Finding], ignores: Sequence[Ignore], *, file: str, untold: Collection[str] = ()
) -> tuple[Finding, ...]:
    """Make notes of the findings that comments in the card ignore.

    Args:
        findings: What the rules found.
        ignores: The comments.
        file: Name of the card: findings in other files are not its to ignore.
        untold: Codes of which more may be found by one who knows more, such as the Hub: that nothing is there to ignore
            is not said of them.

    Returns:
        The findings in their order, ignored ones as notes; then one for each comment, or code of it,
        without effect.
    """
    if not ignores:
        return tuple(findings)
    usable = [one for one in ignores if one.reason]
    usable.sort(key=lambda one: _NARROWEST_FIRST.index(one.scope))
    used: set[tuple[int, str]] = set()
    result: list[Finding] = []
    for found in findings:
        about = [
            one for one in usable if found.code in one.codes and _covers(one, found, file) and _may_be_ignored(found)
        ]
        used.update((id(one), found.code) for one in about)
        if about and found.ignored is None:
            found = replace(found, level="note", ignored=about[0].reason, ignored_level=found.level)
        result.append(found)
    for one in ignores:
        result += _complaints(one, findings, file, {code for place, code in used if place == id(one)} | set(untold))
    return tuple(result)


def _units(front_matter: FrontMatter) -> Iterator[tuple[int, int, int]]:
    """Yield line, column and depth of every entry and every item of a list."""
    waiting: list[tuple[Located, int]] = []
    for entry in front_matter.entries:
        yield entry.key.line, entry.key.column, 0
        waiting.append((entry.value, 1))
    while waiting:
        value, depth = waiting.pop()
        inside = [(item, item) for item in value.items] + [(entry.key, entry.value) for entry in value.entries]
        for head, inner in inside:
            # What an alias stands for was written further up.
            if (head.line, head.column) >= (value.line, value.column):
                yield head.line, head.column, depth
                waiting.append((inner, depth + 1))


def _ignore(
    comment: str, position: tuple[int, int], alone: bool, units: Sequence[tuple[int, int, int]], last: int
) -> Ignore:
    """Read what stands behind ``ignore``, at a place of the card; ``alone`` says whether nothing is before it."""
    line, column = position
    parts = _PARTS.match(comment)
    codes = "" if parts is None else parts["codes"]
    reason = "" if parts is None else one_line(parts["reason"], MAX_REASON)
    named = tuple(dict.fromkeys(one_line(code, 20).upper() for code in codes.split(",")[:MAX_CODES] if code.strip()))
    scope: Scope = "entry" if alone else "line"
    first, end = line, line
    if parts is not None and parts["file"]:
        scope, first, end = "file", 1, last
    elif scope == "entry":
        first, end = line + 1, _end_of_unit_below(line, units, last)
    return Ignore(named, reason, line, column, scope, first, end)


def _end_of_unit_below(line: int, units: Sequence[tuple[int, int, int]], last: int) -> int:
    """Return the last line of the first entry or item below a line; the line itself when there is none."""
    below = bisect_right(units, (line + 1,))
    if below == len(units):
        return line
    own, _, depth = units[below]
    following = (other for other, _, deep in units[below + 1 :] if deep <= depth)
    return max(own, next(following, last + 1) - 1)


def _covers(one: Ignore, found: Finding, file: str) -> bool:
    if found.file != file:
        return False
    return one.scope == "file" or (found.line is not None and one.first <= found.line <= one.last)


def _may_be_ignored(found: Finding) -> bool:
    return _is_of_cards(found.code) and not (found.code in _NEVER_ERRORS and found.level == "error")


def _is_of_cards(code: str) -> bool:
    return code in CODES and code.startswith("LIN2") and code != "LIN213"


def _complaints(one: Ignore, findings: Sequence[Finding], file: str, settled: Collection[str]) -> Iterator[Finding]:
    """Say what of a comment has no effect; ``settled`` are codes of which nothing is to be said."""

    def complain(what: str, help: str) -> Finding:
        return without_effect(what, help, file=file, line=one.line, column=one.column)

    known = [code for code in one.codes if _is_of_cards(code)]
    if not one.codes:
        yield complain("the ignore comment names no finding code", "Write `# lineage: ignore[LIN205] reason`.")
        return
    for code in [code for code in one.codes if code not in known][:3]:
        if code in CODES:
            why = "An ignore comment is about findings on the card (LIN2xx); a policy decides about others."
            yield complain(f"{code} may not be ignored in a card", why)
        else:
            near = nearest_code(code)
            meant = f"Did you mean {near}?" if near else "docs/findings.md lists the codes."
            yield complain(f"the ignore comment names {code}, which is no finding code", meant)
    if not one.reason:
        if known:
            why = "Write it behind the bracket; whoever reads the report is shown it."
            yield complain(f"the ignore comment for {', '.join(known)} gives no reason and is not used", why)
        return
    where = {"line": "on this line", "entry": "in the entry below it", "file": "in this card"}[one.scope]
    for code in known:
        alike = [found for found in findings if found.code == code and found.file == file]
        if any(_covers(one, found, file) and not _may_be_ignored(found) for found in alike):
            yield complain(f"an error {code} may not be ignored", "Repair it.")
        elif code in settled:
            continue
        elif alike:
            help_ = "A comment at the end of a line is about that line; on a line of its own about the entry below it."
            yield complain(f"no {code} {where} to ignore", f"{help_} {code} is on line {alike[0].line}.")
        else:
            yield complain(f"no {code} {where} to ignore", "Remove the comment.")
