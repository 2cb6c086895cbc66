"""The text of a card while changes are made in it."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import yaml

from lineage_plugin.card.expected import Expected
from lineage_plugin.card.front_matter import Block, find_block
from lineage_plugin.card.located import Lines
from lineage_plugin.card.spans import Node, Tree, read_tree
from lineage_plugin.card.written import CannotRewrite
from lineage_plugin.fixes import RemoveItem, SetItem, SetKey

__all__ = ["NO_FIT", "Draft"]

NO_FIT: Final = "the front matter is written in a way that it does not fit into"


class Draft:
    """The text of a card while it is changed.

    What is put into it is gathered, and done to the text when a change needs to see it: reading the text again for each
    of many changes would take time without end.

    Attributes:
        text: The text, without a byte order mark, and without what was put since it was read last.
        expected: What it should say.
        block: Where its front matter stands.
    """

    def __init__(self, text: str, expected: Expected) -> None:
        self.text = text
        self.expected = expected
        self.block = find_block(text)
        self._tree: Tree | None = None
        self._items: dict[str, list[Node]] = {}
        self._changed: dict[str, set[int | None]] = {}
        self._old = self._now = Lines(text)
        self._cut: set[int] = set()
        self._waiting: list[tuple[int, int, str]] = []
        self._made: list[tuple[list[int], list[tuple[int, int, int]]]] = []
        self._lines: set[int] = set()

    @property
    def lines(self) -> tuple[int, ...]:
        """The lines of the old text that were touched."""
        return tuple(sorted(self._lines))

    @property
    def waits(self) -> bool:
        """Whether anything was put that is not in the text yet."""
        return bool(self._waiting)

    def tree(self, block: Block) -> Tree:
        """Return the values of the text.

        Raises:
            CannotRewrite: When it cannot be read any more.
        """
        if self._tree is None:
            try:
                self._tree = read_tree(self.text, block)
            except yaml.YAMLError:
                raise CannotRewrite(NO_FIT) from None
        return self._tree

    def put(self, start: int, end: int, new: str) -> None:
        """Replace what stands between two characters."""
        first, last = self._origin(start), self._origin(max(start, end - 1))
        self._lines |= set(range(self._old.at(first)[0], self._old.at(last)[0] + 1))
        self._waiting.append((start, end, new))
        if not new:
            self._cut |= {self.line_start(start), self.line_start(max(start, end - 1))}

    def put_block(self, new: str) -> None:
        """Put front matter above the first line."""
        self._lines.add(0)
        self._waiting.append((0, 0, new))

    def settle(self) -> None:
        """Do to the text what was put."""
        if not self._waiting:
            return
        edits: list[tuple[int, int, str]] = []
        # Removals may overlap: of items beside each other each takes a comma.
        for start, end, new in sorted(self._waiting):
            if edits and start < edits[-1][1]:
                if new or edits[-1][2]:
                    raise CannotRewrite(NO_FIT)
                edits[-1] = edits[-1][0], max(end, edits[-1][1]), ""
            else:
                edits.append((start, end, new))
        pieces: list[str] = []
        starts: list[int] = []
        at = length = 0
        for start, end, new in edits:
            starts.append(length + start - at)
            pieces += [self.text[at:start], new]
            at, length = end, starts[-1] + len(new)
        self.text = "".join([*pieces, self.text[at:]])
        self._made.append((starts, [(start, end, len(new)) for start, end, new in edits]))
        self.block = find_block(self.text)
        self._now = Lines(self.text)
        self._waiting, self._tree = [], None
        self._items.clear()
        self._changed.clear()
        self._cut.clear()

    def _origin(self, index: int) -> int:
        """Return which character of the old text stands at one of this, or where that was put."""
        for starts, edits in reversed(self._made):
            place = bisect_right(starts, index) - 1
            if place >= 0:
                start, end, length = edits[place]
                index = max(index - starts[place] - length + end, end) if index >= starts[place] + length else start
        return index

    def sees(self, change: SetKey | SetItem | RemoveItem, item: Node | None = None) -> bool:
        """Note a change of a value, or of an item of it; return False where the text does not show an earlier one."""
        earlier = self._changed.setdefault(change.key, set())
        if id(item) in earlier or (item is None and earlier):
            return False
        earlier.add(None if item is None else id(item))
        return True

    def is_set(self, key: str) -> bool:
        """Return whether a key was given a value that the text does not show yet."""
        return None in self._changed.get(key, ())

    def items(self, key: str, value: Node) -> list[Node]:
        """Return the items that are left of a list."""
        return self._items.setdefault(key, list(value.children))

    def is_cut(self, start: int) -> bool:
        """Return whether something is removed from a line, given by its first character, that the text still shows."""
        return start in self._cut

    def line_start(self, index: int) -> int:
        """Return where the line of a character begins."""
        return self._now.around(index)[0]

    def line_end(self, index: int) -> tuple[int, int]:
        """Return where the line of a character ends, before its break and behind it."""
        return self._now.around(index)[1:]

    def blanks_before(self, index: int) -> str:
        """Return the indentation of a line up to a character; empty when more than blanks stand there."""
        before = self.text[self.line_start(index) : index]
        return before if not before.strip(" \t") else ""
