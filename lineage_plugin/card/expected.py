"""What front matter says, as plain data, and what it should say after a change."""

from __future__ import annotations

from collections.abc import Iterable

from lineage_plugin.card.front_matter import FrontMatter
from lineage_plugin.card.located import Kind, Located
from lineage_plugin.card.written import CannotRewrite
from lineage_plugin.fixes import RemoveItem, RenameKey, SetItem, SetKey
from lineage_plugin.text import quoted

__all__ = ["Expected", "Value", "expected_of"]

Value = tuple[Kind, object]
"""A kind with the text of a scalar, None, the values of a list, or the pairs of a mapping."""


class Expected:
    """The keys and values of front matter, in their order; changes are made in it, each in little time."""

    def __init__(self, entries: Iterable[tuple[Value, Value]] = ()) -> None:
        self._entries = list(entries)
        self._places = self._find_all()
        self._open: dict[int, list[Value]] = {}  # the items of lists that were changed, by the place of the entry

    @property
    def entries(self) -> tuple[tuple[Value, Value], ...]:
        """The keys and values."""
        self._close()
        return tuple(self._entries)

    def make(self, change: SetKey | RenameKey | SetItem | RemoveItem) -> bool:
        """Make a change of what the front matter should say.

        Args:
            change: The change; one of a repeated key is one of the last, which is the one that counts.

        Returns:
            Whether it changes anything.

        Raises:
            CannotRewrite: When what is to be changed is not there, or the new name is taken.
        """
        if isinstance(change, RenameKey):
            return self._rename(change)
        index = self._find(change.key)
        if isinstance(change, SetKey):
            return self._set(index, change)
        if index is None:
            raise CannotRewrite(f"there is no {change.key} in the front matter")
        kind, old = self._entries[index][1]
        items = self._open.get(index)
        if items is None and kind == "list" and isinstance(old, tuple):
            items = self._open[index] = list(old)
        if kind == "mapping" or change.index not in range(1 if items is None else len(items)):
            raise CannotRewrite(f"{change.key} has no entry {change.index + 1}")
        if isinstance(change, RemoveItem):
            if items is None or len(items) < 2:
                raise CannotRewrite(f"{change.key} is no list with other entries")
            del items[change.index]
            return True
        value: Value = ("string", change.value)
        if items is None:
            return self._put(index, value)
        changed = items[change.index] != value
        items[change.index] = value
        return changed

    def _find(self, key: str | None) -> int | None:
        """Return the place of a key, the last one if it is repeated."""
        return None if key is None or key not in self._places else self._places[key][-1]

    def _find_all(self) -> dict[object, list[int]]:
        places: dict[object, list[int]] = {}
        for index, ((_, name), _) in enumerate(self._entries):
            places.setdefault(name, []).append(index)
        return places

    def _close(self) -> None:
        for index, items in self._open.items():
            self._entries[index] = (self._entries[index][0], ("list", tuple(items)))
        self._open.clear()

    def _put(self, index: int, value: Value) -> bool:
        self._close()
        key, old = self._entries[index]
        self._entries[index] = (key, value)
        return old != value

    def _set(self, index: int | None, change: SetKey) -> bool:
        value = _wanted(change.value)
        if index is not None:
            return self._put(index, value)
        self._close()
        below = self._find(change.after)
        where = len(self._entries) if below is None else below + 1
        self._entries.insert(where, (("string", change.key), value))
        self._places = self._find_all()
        return True

    def _rename(self, change: RenameKey) -> bool:
        index = self._find(change.old)
        if index is None:
            raise CannotRewrite(f"there is no key {quoted(change.old, 60)} in the front matter")
        if self._find(change.new) is not None:
            raise CannotRewrite(f"there is a key {quoted(change.new, 60)} already")
        if len(self._places[change.old]) > 1:
            raise CannotRewrite(f"the key {quoted(change.old, 60)} is repeated")
        self._close()
        self._entries[index] = (("string", change.new), self._entries[index][1])
        self._places = self._find_all()
        return True


def expected_of(front: FrontMatter) -> Expected:
    """Return what front matter says."""
    return Expected((_plain(entry.key), _plain(entry.value)) for entry in front.entries)


def _plain(value: Located) -> Value:
    if value.kind == "list":
        return value.kind, tuple(_plain(item) for item in value.items)
    if value.kind == "mapping":
        return value.kind, tuple((_plain(entry.key), _plain(entry.value)) for entry in value.entries)
    return value.kind, value.text


def _wanted(value: str | tuple[str, ...]) -> Value:
    if isinstance(value, str):
        return "string", value
    return "list", tuple(("string", item) for item in value)
