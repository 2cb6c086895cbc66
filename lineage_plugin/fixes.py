"""What would repair a finding: changes of a card's front matter, said by meaning and not by bytes.

A rule that knows the repair gives its finding a :class:`Fix`. :mod:`lineage_plugin.card.rewrite` makes the changes in
the text of the card, in the lines that they name and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Change", "Fix", "RemoveItem", "RenameKey", "SetItem", "SetKey", "TrimFence"]


@dataclass(frozen=True, slots=True)
class SetKey:
    """Give a top-level key a value; the key is added when it is not there.

    Attributes:
        key: The key.
        value: A string, or strings for a list.
        after: The key below whose entry a new one is placed; None, or one that is not there: at the end of the block.
    """

    key: str
    value: str | tuple[str, ...]
    after: str | None = None


@dataclass(frozen=True, slots=True)
class RenameKey:
    """Rename a top-level key; nothing may be called by the new name yet."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class SetItem:
    """Replace one item of a top-level list; of a single value, item 0 is the value itself."""

    key: str
    index: int
    value: str


@dataclass(frozen=True, slots=True)
class RemoveItem:
    """Remove one item of a top-level list, which has others."""

    key: str
    index: int


@dataclass(frozen=True, slots=True)
class TrimFence:
    """Remove the blanks behind the dashes that open the front matter."""


Change = SetKey | RenameKey | SetItem | RemoveItem | TrimFence


@dataclass(frozen=True, slots=True)
class Fix:
    """The repair of a finding.

    Attributes:
        title: What it does, as an instruction without a full stop, such as ``Set base_model_relation to adapter``.
        changes: The changes of the card's front matter, made together or not at all.
    """

    title: str
    changes: tuple[Change, ...]
