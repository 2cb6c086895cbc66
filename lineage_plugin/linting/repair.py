r"""Repairs of a card: made together, made again until nothing is left, and written back.

>>> from lineage_plugin.card import read_card
>>> card = b"---\nbase_model: https://huggingface.co/owner/name\n---\n"
>>> fixed(lambda text: read_card(text)[1], card).card
b'---\nbase_model: owner/name\n---\n'
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from lineage_plugin.card.front_matter import MAX_SIZE
from lineage_plugin.card.rewrite import CannotRewrite, rewrite
from lineage_plugin.errors import UsageError
from lineage_plugin.findings import Finding
from lineage_plugin.fixes import Change, RemoveItem, RenameKey, SetItem, TrimFence
from lineage_plugin.text import one_line

__all__ = [
    "MAX_BYTES",
    "MAX_PASSES",
    "MAX_REPAIRS",
    "Repaired",
    "fixed",
    "repair",
    "write_back",
]

MAX_PASSES: Final = 20
"""Passes after which repairs are given up. A pass leaves only those that an earlier one of it stands in the way of."""
MAX_REPAIRS: Final = 1000
"""Most repairs of a card; more are left for another run."""
MAX_BYTES: Final = 2 << 20
"""Bytes that are read to repair a card, those of each try, before the rest is left: a few seconds of work."""
_DEFECT: Final = "the repair does not last, which is a defect of lineage: please report it"


@dataclass(frozen=True, slots=True)
class Repaired:
    """A card after repairs.

    Attributes:
        card: Its bytes.
        applied: The findings that were repaired, in their order.
        refused: Those whose repair cannot be made, and why. Where a limit is met, the first of those that are left.
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
    return _Pass(card, _Left()).over(findings)


@dataclass(slots=True)
class _Left:
    """What may still be done for a card."""

    repairs: int = MAX_REPAIRS
    size: int = MAX_BYTES

    def read(self, card: bytes) -> None:
        """Count a card that is read."""
        self.size -= min(len(card), MAX_SIZE)

    @property
    def nothing(self) -> bool:
        return self.size <= 0 or self.repairs <= 0


class _Claimed:
    """What the repairs of a pass change."""

    def __init__(self, made: Iterable[Finding] = ()) -> None:
        self._fixes: set[tuple[Change, ...]] = set()
        self._keys: set[str] = set()
        self._items: dict[str, set[int]] = {}
        self._removed: dict[str, list[int]] = {}
        self._trimmed = False
        for found in made:
            self.add(_changes(found))

    def holds(self, changes: tuple[Change, ...]) -> bool:
        """Return whether the same changes are among them."""
        return changes in self._fixes

    def collide(self, change: Change) -> bool:
        """Return whether a change is about what they change."""
        if isinstance(change, TrimFence):
            return self._trimmed
        if isinstance(change, (SetItem, RemoveItem)):
            return change.key in self._keys or change.index in self._items.get(change.key, ())
        return any(key in self._keys or key in self._items for key in _keys(change))

    def add(self, changes: tuple[Change, ...]) -> None:
        """Take changes that are made."""
        self._fixes.add(changes)
        for change in changes:
            if isinstance(change, TrimFence):
                self._trimmed = True
            elif isinstance(change, (SetItem, RemoveItem)):
                self._items.setdefault(change.key, set()).add(change.index)
                if isinstance(change, RemoveItem):
                    insort(self._removed.setdefault(change.key, []), change.index)
            else:
                self._keys |= _keys(change)

    def moved(self, change: Change) -> Change:
        """Return a change of a list's item as it is after they have removed items before it."""
        if not isinstance(change, (SetItem, RemoveItem)):
            return change
        return replace(change, index=change.index - bisect_left(self._removed.get(change.key, ()), change.index))


def _keys(change: Change) -> set[str]:
    if isinstance(change, TrimFence):
        return set()
    return {change.old, change.new} if isinstance(change, RenameKey) else {change.key}


def _changes(found: Finding) -> tuple[Change, ...]:
    return () if found.fix is None else found.fix.changes


class _Pass:
    """Repairs of what one lint of a card has found."""

    def __init__(self, card: bytes, left: _Left) -> None:
        self._card = card
        self._left = left
        self._made: list[Finding] = []
        self._refused: dict[int, str] = {}

    def over(self, findings: Sequence[Finding]) -> Repaired:
        """Make the repairs of findings."""
        waiting = [found for found in findings if found.fix is not None and found.ignored is None]
        over: list[Finding] = []
        while waiting:
            batch, collided = self._without_collisions(waiting)
            over += batch[max(self._left.repairs, 0) :]
            before = len(self._refused)
            self._make(batch[: max(self._left.repairs, 0)], over)
            # What stands in the way of nothing any more may go where a repair was refused.
            waiting = collided if len(self._refused) > before and not over else []
        claimed = _Claimed(self._made)
        applied = tuple(found for found in findings if found.ignored is None and claimed.holds(_changes(found)))
        refused = [(found, self._refused[id(found)]) for found in findings if id(found) in self._refused]
        if over:
            refused.append((over[0], _left_over(len(over), self._left)))
        return Repaired(self._card, applied, tuple(refused))

    def _without_collisions(self, findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
        """Return the findings whose repairs can be made together, and those that have to wait for them."""
        claimed = _Claimed(self._made)
        batch: list[Finding] = []
        waiting: list[Finding] = []
        for found in findings:
            changes = _changes(found)
            if any(claimed.collide(change) for change in changes):
                waiting.append(found)
            else:
                claimed.add(changes)
                batch.append(found)
        return batch, waiting

    def _make(self, batch: Sequence[Finding], over: list[Finding]) -> None:
        """Make repairs together; where that cannot be, those of each half, and so on."""
        parts = [batch]
        while parts:
            part = parts.pop()
            if not part:
                continue
            if self._left.nothing:
                over += part
                continue
            claimed = _Claimed(self._made)
            changes: list[Change] = []
            for found in part:
                changes += map(claimed.moved, _changes(found))
                claimed.add(_changes(found))
            self._left.read(self._card)
            why = _DEFECT
            try:
                rewritten = rewrite(self._card, changes)
            except CannotRewrite as error:
                why = str(error)
            else:
                if not rewritten.idle or (len(part) == 1 and rewritten.card != self._card):
                    self._card = rewritten.card
                    self._made += part
                    self._left.repairs -= len(part)
                    continue
            if len(part) == 1:
                self._refused[id(part[0])] = why
                continue
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]


def _left_over(count: int, left: _Left) -> str:
    rest = f"this repair and {count - 1:,} others are" if count > 1 else "this repair is"
    most = f"{MAX_REPAIRS:,} repairs are made of a card" if left.repairs <= 0 else "the card takes too long to repair"
    return f"{most}, and {rest} left: run again"


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
    left = _Left()
    seen = {card}
    for _ in range(MAX_PASSES):
        left.read(card)
        done = _Pass(card, left).over(lint(card))
        if done.card == card:
            return Repaired(card, applied, done.refused)
        if done.card in seen:
            return Repaired(card, applied, (*done.refused, *((found, _DEFECT) for found in done.applied)))
        seen.add(done.card)
        card, applied = done.card, (*applied, *done.applied)
    last = _Pass(card, left).over(lint(card))
    many = f"{MAX_PASSES} passes over the card did not do: run again, and report it should that not help"
    return Repaired(card, applied, (*last.refused, *((found, many) for found in last.applied)))


def write_back(path: Path, old: bytes, new: bytes) -> None:
    """Write a card where it was read, whole or not at all, and with the permissions that it has.

    Args:
        path: The card; a link is followed where it stays inside of the folder.
        old: What was read.
        new: What is to be written.

    Raises:
        UsageError: When it is no file of its folder, larger than what is read of a card, not what was read any more, or
            cannot be written.
    """
    from lineage_plugin.linting.place import CARD_LIMIT
    from lineage_plugin.report.output import write_file

    where = one_line(path, 200)
    try:
        target, home = path.resolve(strict=True), path.parent.resolve(strict=True)
        # Snapshots in the cache of the Hub link to files that are shared, and named by what they hold.
        if not target.is_relative_to(home):
            raise UsageError(f"{where}: this is a link that leads out of its folder, and is not written to")
        if not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{where}: this is not a regular file")
        if len(old) >= CARD_LIMIT and target.stat().st_size > CARD_LIMIT:
            raise UsageError(
                f"{where}: this is larger than {CARD_LIMIT >> 20} MiB, too large for a card to be repaired"
            )
        if not os.access(target, os.W_OK):
            raise UsageError(f"{where}: writing it is not permitted")
        if target.read_bytes() != old:
            raise UsageError(f"{where}: the file changed since it was read. Run again.")
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{where}: it cannot be written ({one_line(getattr(error, 'strerror', '') or error)})"
        ) from error
    write_file(target, new, "the card")
