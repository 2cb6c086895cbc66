r"""Repairs of a card: made one after the other, made again until nothing is left, shown, and written back.

>>> from lineage_plugin.card import read_card
>>> card = b"---\nbase_model: https://huggingface.co/owner/name\n---\n"
>>> repaired = fixed(lambda text: read_card(text)[1], card)
>>> print(unified_diff(card, repaired.card, "README.md"), end="")
--- README.md
+++ README.md
@@ -1,3 +1,3 @@
 ---
-base_model: https://huggingface.co/owner/name
+base_model: owner/name
 ---
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Final

from lineage_plugin.card.located import LINE_BREAK
from lineage_plugin.card.rewrite import CannotRewrite, rewrite
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding
from lineage_plugin.fixes import Change, RemoveItem, RenameKey, SetItem, TrimFence
from lineage_plugin.text import one_line

__all__ = ["MAX_PASSES", "Repaired", "colored", "fixed", "repair", "unified_diff", "write_back"]

MAX_PASSES: Final = 20
"""Passes after which repairs are given up. A pass leaves only those that an earlier one of it stands in the way of."""
_CONTEXT: Final = 3
_DEFECT: Final = "the repair does not last, which is a defect of lineage: please report it"
_COLORS: Final = {"---": "1", "+++": "1", "@@ ": "36", "-": "31", "+": "32"}
# A runner takes a line for a command that begins with two colons, whatever blanks stand before them.
_COMMAND: Final = re.compile(r"^(\s*:):|##\[")


@dataclass(frozen=True, slots=True)
class Repaired:
    """A card after repairs.

    Attributes:
        card: Its bytes.
        applied: The findings that were repaired, in their order.
        refused: Those whose repair cannot be made, and why.
    """

    card: bytes
    applied: tuple[Finding, ...] = ()
    refused: tuple[tuple[Finding, str], ...] = ()


def repair(card: bytes, findings: Sequence[Finding]) -> Repaired:
    """Repair the findings of a card, as far as the repairs do not stand in each other's way.

    A repair of a key that an earlier one has changed is left out: whether it is still needed, another lint says. One
    that is the same as an earlier one counts as made. What a comment in the card ignores is not repaired.

    Args:
        card: The card.
        findings: What was found in it.

    Returns:
        The new card, what was repaired, and what cannot be.
    """
    applied: list[Finding] = []
    refused: list[tuple[Finding, str]] = []
    made: list[tuple[Change, ...]] = []
    for found in findings:
        fix = found.fix
        if fix is None or found.ignored is not None:
            continue
        if fix.changes in made:
            applied.append(found)
            continue
        done = [change for one in made for change in one]
        if any(_collide(new, old) for new in fix.changes for old in done):
            continue
        try:
            rewritten = rewrite(card, [_moved(change, done) for change in fix.changes])
        except CannotRewrite as error:
            refused.append((found, str(error)))
            continue
        if rewritten.card == card:
            refused.append((found, _DEFECT))
            continue
        card = rewritten.card
        made.append(fix.changes)
        applied.append(found)
    return Repaired(card, tuple(applied), tuple(refused))


def _collide(new: Change, old: Change) -> bool:
    """Return whether a change is about what an earlier one has changed."""
    if isinstance(new, TrimFence) or isinstance(old, TrimFence):
        return new == old
    if isinstance(new, (SetItem, RemoveItem)) and isinstance(old, (SetItem, RemoveItem)):
        return (new.key, new.index) == (old.key, old.index)
    return bool(_keys(new) & _keys(old))


def _keys(change: Change) -> set[str]:
    if isinstance(change, TrimFence):
        return set()
    return {change.old, change.new} if isinstance(change, RenameKey) else {change.key}


def _moved(change: Change, done: Sequence[Change]) -> Change:
    """Return a change of a list's item as it is after earlier ones have removed items before it."""
    if not isinstance(change, (SetItem, RemoveItem)):
        return change
    gone = sum(isinstance(one, RemoveItem) and one.key == change.key and one.index < change.index for one in done)
    return replace(change, index=change.index - gone)


def fixed(lint: Callable[[bytes], Sequence[Finding]], card: bytes) -> Repaired:
    """Lint a card and repair it, again and again until there is nothing left to repair.

    Args:
        lint: What finds the findings of a card.
        card: The card.

    Returns:
        The last card, all that was repaired, and what cannot be. A repair that does not last, so that its finding comes
        back, is among the latter.
    """
    applied: tuple[Finding, ...] = ()
    seen = {card}
    for _ in range(MAX_PASSES):
        done = repair(card, lint(card))
        if done.card == card:
            return Repaired(card, applied, done.refused)
        if done.card in seen:
            break
        seen.add(done.card)
        card, applied = done.card, (*applied, *done.applied)
    else:
        done = repair(card, lint(card))
    return Repaired(card, applied, (*done.refused, *((found, _DEFECT) for found in done.applied)))


def unified_diff(old: bytes, new: bytes, name: str) -> str:
    r"""Show what differs between two cards.

    Characters that a terminal or a CI runner would obey, or that nobody sees, are shown as escapes such as ``\x1b``;
    so are carriage returns where the two cards have line ends of several kinds. Without any of these it is a patch.

    Args:
        old: The old card.
        new: The new card.
        name: Its path.

    Returns:
        The lines of the diff, each ended; empty when nothing differs.
    """
    before, after = _rows(old), _rows(new)
    kinds = {_line_break(row) for row in (*before, *after)} - {""}
    # Cards are long and changes few: what is the same at both ends is not compared.
    head = _common(before, after, min(len(before), len(after)))
    tail = _common(before[::-1], after[::-1], min(len(before), len(after)) - head)
    first, last = max(head - _CONTEXT, 0), max(tail - _CONTEXT, 0)
    before, after = before[first : len(before) - last], after[first : len(after) - last]
    said: list[str] = []
    for group in SequenceMatcher(None, before, after).get_grouped_opcodes(_CONTEXT):
        (_, a, _, c, _), (_, _, b, _, d) = group[0], group[-1]
        said.append(f"@@ -{_range(first + a, b - a)} +{_range(first + c, d - c)} @@\n")
        for tag, i, j, k, m in group:
            pairs = [(" ", before[i:j])] if tag == "equal" else [("-", before[i:j]), ("+", after[k:m])]
            said += [line for sign, rows in pairs for row in rows for line in _shown(sign, row, len(kinds) > 1)]
    title = one_line(name, 300)
    return "".join([f"--- {title}\n", f"+++ {title}\n", *said]) if said else ""


def _rows(card: bytes) -> list[str]:
    """Return the lines of a card with their breaks."""
    text = card.decode("utf-8", "surrogateescape")
    ends = [found.end() for found in LINE_BREAK.finditer(text)]
    starts = [0, *ends]
    rows = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return rows if rows[-1] else rows[:-1]


def _line_break(row: str) -> str:
    return row[len(row.rstrip("\r\n")) :]


def _common(one: Sequence[str], other: Sequence[str], most: int) -> int:
    """Return how many rows are the same at the beginning."""
    return next((index for index in range(most) if one[index] != other[index]), most)


def _range(start: int, length: int) -> str:
    """Write a range of lines as diffs do: an empty one is that behind a line."""
    return f"{start + 1}" if length == 1 else f"{start + (length > 0)},{length}"


def _shown(sign: str, row: str, mixed: bool) -> Iterator[str]:
    """Yield a line of a diff, fit to print."""
    line_break = _line_break(row)
    text = row.rstrip("\r\n") + (line_break if mixed and line_break != "\n" else "")
    visible = "".join(c if c.isprintable() or c == "\t" else _escape(c) for c in text)
    visible = _COMMAND.sub(lambda found: f"{found[1]}\\x3a" if found[1] else "##\\x5b", visible)
    yield f"{sign}{visible}\n"
    if not line_break:
        yield "\\ No newline at end of file\n"


def _escape(character: str) -> str:
    code = ord(character)
    if character in "\r\n":
        return "\\r" if character == "\r" else "\\n"
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is not UTF-8
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def colored(diff: str) -> str:
    """Return a diff with the colours of a terminal."""
    lines = []
    for line in diff.splitlines():
        color = next((code for start, code in _COLORS.items() if line.startswith(start)), None)
        lines.append(line if color is None else f"\x1b[{color}m{line}\x1b[0m")
    return "".join(f"{line}\n" for line in lines)


def write_back(path: Path, old: bytes, new: bytes) -> None:
    """Write a card where it was read, whole or not at all, and with the permissions that it has.

    Args:
        path: The card; a link is followed where it stays inside of the folder.
        old: What was read.
        new: What is to be written.

    Raises:
        UsageError: When it is no file of its folder, not what was read any more, or cannot be written.
    """
    from lineage_plugin.report.output import write_file

    where = one_line(path, 200)
    try:
        target, home = path.resolve(strict=True), path.parent.resolve(strict=True)
        # Snapshots in the cache of the Hub link to files that are shared, and named by what they hold.
        if not target.is_relative_to(home):
            raise UsageError(f"{where}: this is a link that leads out of its folder, and is not written to")
        if not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{where}: this is not a regular file")
        if not os.access(target, os.W_OK):
            raise UsageError(f"{where}: writing it is not permitted")
        if target.read_bytes() != old:
            raise UsageError(f"{where}: the file changed since it was read. Run again.")
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{where}: it cannot be written ({one_line(getattr(error, 'strerror', '') or error)})"
        ) from error
    write_file(target, new, "the card")
