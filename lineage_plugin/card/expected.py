"""What front matter says, as plain data, and what it should say after a change."""

from __future__ import annotations

from dataclasses import dataclass

from lineage_plugin.card.front_matter import FrontMatter
from lineage_plugin.card.located import Kind, Located
from lineage_plugin.card.written import CannotRewrite
from lineage_plugin.fixes import RemoveItem, RenameKey, SetItem, SetKey
from lineage_plugin.text import quoted

__all__ = ["Expected", "Value", "expected_of"]

Value = tuple[Kind, object]
"""A kind with the text of a scalar, None, the values of a list, or the pairs of a mapping."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The keys and values of front matter, in their order."""

    entries: tuple[tuple[Value, Value], ...] = ()

    def after(self, change: SetKey | RenameKey | SetItem | RemoveItem) -> Expected:
        """Return what the front matter should say after a change.

        Args:
            change: The change; one of a repeated key is one of the last, which is the one that counts.

        Raises:
            CannotRewrite: When what is to be changed is not there, or the new name is taken.
        """
        if isinstance(change, RenameKey):
            return self._renamed(change)
        index = self._find(change.key)
        if isinstance(change, SetKey):
            value = _wanted(change.value)
            if index is not None:
                return self._with(index, value)
            below = self._find(change.after)
            where = len(self.entries) if below is None else below + 1
            key: Value = ("string", change.key)
            return Expected((*self.entries[:where], (key, value), *self.entries[where:]))
        if index is None:
            raise CannotRewrite(f"there is no {change.key} in the front matter")
        kind, old = self.entries[index][1]
        items = list(old) if isinstance(old, tuple) and kind == "list" else None
        if kind == "mapping" or change.index not in range(1 if items is None else len(items)):
            raise CannotRewrite(f"{change.key} has no entry {change.index + 1}")
        if isinstance(change, SetItem):
            if items is None:
                return self._with(index, ("string", change.value))
            items[change.index] = ("string", change.value)
        else:
            if items is None or len(items) < 2:
                raise CannotRewrite(f"{change.key} is no list with other entries")
            del items[change.index]
        return self._with(index, ("list", tuple(items)))

    def _find(self, key: str | None) -> int | None:
        """Return the place of a key, the last one if it is repeated."""
        found = [index for index, (name, _) in enumerate(self.entries) if name[1] == key and key is not None]
        return found[-1] if found else None

    def _with(self, index: int, value: Value) -> Expected:
        return Expected((*self.entries[:index], (self.entries[index][0], value), *self.entries[index + 1 :]))

    def _renamed(self, change: RenameKey) -> Expected:
        index = self._find(change.old)
        if index is None:
            raise CannotRewrite(f"there is no key {quoted(change.old, 60)} in the front matter")
        if self._find(change.new) is not None:
            raise CannotRewrite(f"there is a key {quoted(change.new, 60)} already")
        if sum(name[1] == change.old for name, _ in self.entries) > 1:
            raise CannotRewrite(f"the key {quoted(change.old, 60)} is repeated")
        name: Value = ("string", change.new)
        return Expected((*self.entries[:index], (name, self.entries[index][1]), *self.entries[index + 1 :]))


def expected_of(front: FrontMatter) -> Expected:
    """Return what front matter says."""
    return Expected(tuple((_plain(entry.key), _plain(entry.value)) for entry in front.entries))


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
