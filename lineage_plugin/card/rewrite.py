r"""Changes of a card's front matter, made in its text.

    >>> from lineage_plugin.fixes import SetKey
    >>> card = b"---\r\nbase_model: 'a/b'  # ours\r\n---\r\n"
    >>> rewrite(card, [SetKey("base_model", "c/d")]).card
    b"---\r\nbase_model: 'c/d'  # ours\r\n---\r\n"

Nothing is dumped anew: comments, order, quotes, indentation, line ends, a byte order mark, a missing last line break
and bytes that are not UTF-8 outside of the front matter stay as they are, and so does every line that is not named in
the answer. The new card is then read, and what it says compared with what it should say: a change that cannot be made
so is not made.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from lineage_plugin.card.draft import NO_FIT, Draft
from lineage_plugin.card.expected import expected_of
from lineage_plugin.card.front_matter import MAX_SIZE, Block, FrontMatter, find_block, read_front_matter
from lineage_plugin.card.located import LINE_BREAK
from lineage_plugin.card.spans import Node, Tree, read_tree
from lineage_plugin.card.written import CannotRewrite, written
from lineage_plugin.fixes import Change, RemoveItem, RenameKey, SetItem, SetKey, TrimFence
from lineage_plugin.text import quoted

__all__ = ["CannotRewrite", "Rewritten", "rewrite"]

_INDICATOR: Final = re.compile(r"[ \t]*:")
_DASH: Final = re.compile(r"[ \t]*-[ \t]*")
_ITEM_ALONE: Final = re.compile(r"[ \t]*x+(?:[ \t]*[\r\n]+[ \t]*x+)*[ \t]*(?P<comma>,?)[ \t]*")
_BLOCK_HEADER: Final = re.compile(r"[|>][-+0-9]*")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A card after changes.

    Attributes:
        card: Its bytes.
        lines: The lines of the old card that were changed or removed, and those after which something was put; from 1,
            ascending. 0 stands for a block put above the first line.
        idle: Which of the changes, from 0, asked for what is there already.
    """

    card: bytes
    lines: tuple[int, ...]
    idle: tuple[int, ...] = field(default=(), compare=False)


def rewrite(card: bytes, changes: Sequence[Change]) -> Rewritten:
    """Make changes in the front matter of a card, all of them or none.

    Each change is made in what the ones before it left, but the time grows with the card and the number of changes
    alone where those are of items or of values that are there. One that asks for what is there already changes nothing.

    Args:
        card: The bytes of the card; empty for none.
        changes: The changes.

    Returns:
        The new card, and which lines differ.

    Raises:
        CannotRewrite: When a change cannot be made without risk to anything else in the card.
    """
    front = read_front_matter(card)
    if not front.readable:
        raise CannotRewrite(front.problems[-1].message)
    # What is not looked at when a card is read is not looked at here; bad bytes survive as lone surrogates.
    text, rest = card[:MAX_SIZE].decode("utf-8", "surrogateescape"), card[MAX_SIZE:]
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    old = text.removeprefix(mark)
    draft = Draft(old, expected_of(_read(old, find_block(old))))
    idle = tuple(index for index, change in enumerate(changes) if not _make(draft, change))
    draft.settle()
    if not draft.lines:
        return Rewritten(card, (), idle)
    try:
        new = (mark + draft.text).encode("utf-8", "surrogateescape") + rest
    except UnicodeEncodeError:
        raise CannotRewrite("the new value holds characters that cannot be encoded") from None
    _verify(draft, old, front, new)
    return Rewritten(new, draft.lines, idle)


def _make(draft: Draft, change: Change) -> bool:
    """Make a change; say whether it changes anything."""
    if isinstance(change, TrimFence):
        draft.settle()
        block = draft.block
        if block is None or block.blank[0] == block.blank[1]:
            return False
        draft.put(*block.blank, "")
        draft.settle()
        return True
    if not draft.expected.make(change):
        return False
    try:
        _write(draft, change)
    except CannotRewrite:
        if not draft.waits:
            raise
        # What stands in its way may be gone.
        draft.settle()
        _write(draft, change)
    return True


def _write(draft: Draft, change: SetKey | RenameKey | SetItem | RemoveItem) -> None:
    """Make a change that is one in the text."""
    if isinstance(change, RenameKey):
        draft.settle()
    block = draft.block
    if block is None:
        if not isinstance(change, SetKey):
            raise CannotRewrite("the card has no front matter")
        _put_block(draft, change)
        draft.settle()
        return
    tree = draft.tree(block)
    if isinstance(change, RenameKey):
        _rename(draft, tree, change)
        draft.settle()
        return
    found = tree.entry(change.key)
    if found is None:
        if not isinstance(change, SetKey) or draft.waits:
            raise CannotRewrite(NO_FIT)
        _add_key(draft, tree, block, change)
        draft.settle()
    elif draft.is_set(change.key):
        raise CannotRewrite(NO_FIT)
    elif isinstance(change, SetKey):
        _set_key(draft, tree, *found, change)
    elif isinstance(change, SetItem):
        _set_item(draft, tree, found[1], change)
    else:
        _remove_item(draft, tree, found[1], change)


def _rename(draft: Draft, tree: Tree, change: RenameKey) -> None:
    found = tree.entry(change.old)
    if found is None or found[0].kind != "scalar" or tree.is_shared(found[0]):
        raise CannotRewrite(f"the key {quoted(change.old)} is part of a YAML alias")
    _put_scalar(draft, found[0], written(change.new, found[0].style))


def _put_block(draft: Draft, change: SetKey) -> None:
    found = LINE_BREAK.search(draft.text)
    line_break = found[0] if found else "\n"
    rows = ["---", *_rows(change, ""), "---", ""]
    draft.put_block(line_break.join(rows))


def _rows(change: SetKey, indentation: str) -> list[str]:
    """Write an entry as lines."""
    key = written(change.key)
    if isinstance(change.value, str) or not change.value:
        return [f"{key}: {_inline(change.value)}"]
    return [f"{key}:", *(f"{indentation}- {written(item)}" for item in change.value)]


def _inline(value: str | tuple[str, ...], style: str = "") -> str:
    """Write a value on one line."""
    return written(value, style) if isinstance(value, str) else f"[{', '.join(map(written, value))}]"


def _add_key(draft: Draft, tree: Tree, block: Block, change: SetKey) -> None:
    root = tree.root
    neighbour = None if change.after is None else tree.entry(change.after)
    if root is not None and root.style:
        # Braces around everything.
        if root.children:
            end = (neighbour[1] if neighbour else root.children[-1]).end
            draft.put(end, end, f", {written(change.key)}: {_inline(change.value)}")
        else:
            draft.put(root.inner + 1, root.inner + 1, f"{written(change.key)}: {_inline(change.value)}")
        return
    where = block.end if neighbour is None else draft.line_end(neighbour[1].end)[0]
    line_break = draft.text[slice(*draft.line_end(where))]
    indentation = "" if root is None else draft.blanks_before(root.start)
    rows = _rows(change, _list_indentation(draft, root)[len(indentation) :])
    new = "".join(f"{line_break}{indentation}{row}" for row in rows)
    if not draft.text[block.start : block.end].strip() and draft.line_start(where) == where:
        new = new[len(line_break) :]  # fills the blank line of an empty block
    draft.put(where, where, new)


def _list_indentation(draft: Draft, root: Node | None) -> str:
    """Return the indentation that the card's first list has; of none, that of the keys."""
    if root is None:
        return ""
    lists = (node for node in root.children[1::2] if node.kind == "list" and node.is_block and node.start == node.inner)
    return draft.blanks_before(next(lists, root).start)


def _set_key(draft: Draft, tree: Tree, key: Node, value: Node, change: SetKey) -> None:
    if not draft.sees(change):
        raise CannotRewrite(NO_FIT)
    _refuse_alias(tree, value, change.key)
    new = change.value
    if value.tagged and (value.kind == "scalar") != isinstance(new, str):
        raise CannotRewrite(f"the value of {change.key} has a YAML tag")
    if value.kind == "list" and isinstance(new, tuple) and len(new) == len(value.children):
        items = [
            (node, text)
            for node, text in zip(value.children, new, strict=True)
            # What is not in quotes may be a number of the same text.
            if node.text != text or not (node.style or draft.text[node.inner : node.end] == written(text))
        ]
        if all(node.kind == "scalar" for node, _ in items):
            for node, put in [(node, written(text, node.style)) for node, text in items]:
                _put_scalar(draft, node, put)
            return
    if value.kind == "scalar":
        _put_scalar(draft, value, _inline(new, value.style))
        return
    if tree.has_comment(value.inner, value.end):
        raise CannotRewrite(f"comments stand inside the value of {change.key}, and would be lost")
    if not value.is_block:
        draft.put(value.inner, value.end, _inline(new))
        return
    if value.kind == "list" and isinstance(new, tuple) and new:
        line_break = draft.text[slice(*draft.line_end(value.start))] or "\n"
        between = line_break + draft.blanks_before(value.inner)
        draft.put(value.inner, value.end, between.join(f"- {written(item)}" for item in new))
        return
    indicator = _INDICATOR.match(draft.text, key.end)
    if indicator is None or tree.has_comment(indicator.end(), value.end):
        raise CannotRewrite(f"the value of {change.key} is written over several lines, with comments or a ? before it")
    draft.put(indicator.end(), value.end, f" {_inline(new)}")


def _refuse_alias(tree: Tree, value: Node, key: str) -> None:
    if value.kind == "alias":
        raise CannotRewrite(f"the value of {key} is a YAML alias, which stands for what is written elsewhere")
    if tree.is_shared(value):
        raise CannotRewrite(f"the value of {key} has a YAML anchor, and is used elsewhere too")


def _set_item(draft: Draft, tree: Tree, value: Node, change: SetItem) -> None:
    node = value
    if value.kind == "list":
        if value.anchor in tree.aliases:
            _refuse_alias(tree, value, change.key)
        node = draft.items(change.key, value)[change.index]
    if not draft.sees(change, node):
        raise CannotRewrite(NO_FIT)
    _refuse_alias(tree, node, change.key)
    if node.kind != "scalar":
        raise CannotRewrite(f"entry {change.index + 1} of {change.key} is a {node.kind}, not one value")
    _put_scalar(draft, node, written(change.value, node.style))


def _put_scalar(draft: Draft, node: Node, new: str) -> None:
    """Replace a scalar, or put one where it is left out."""
    start, end = node.inner, node.end
    header = _BLOCK_HEADER.match(draft.text, start) if node.style in ("|", ">") else None
    if header is not None:
        end = header.end()
        below = draft.line_end(end)[0]  # what is behind the header may be a comment
        if below < node.end:
            draft.put(below, node.end, "")
    blank = " " if start == end and not draft.text[max(start - 1, 0) : start].isspace() else ""
    draft.put(start, end, blank + new)


def _remove_item(draft: Draft, tree: Tree, value: Node, change: RemoveItem) -> None:
    if value.anchor in tree.aliases:
        _refuse_alias(tree, value, change.key)
    items, index = draft.items(change.key, value), change.index
    item = items[index]
    if not draft.sees(change, item):
        raise CannotRewrite(NO_FIT)
    if tree.is_shared(item):
        _refuse_alias(tree, item, change.key)
    draft.put(*_without(draft, tree, value, items, index, change.key), "")
    del items[index]


def _without(draft: Draft, tree: Tree, value: Node, items: Sequence[Node], index: int, key: str) -> tuple[int, int]:
    """Return what is to be removed with an item of a list: its line, or a comma."""
    item = items[index]
    first, (last, behind) = draft.line_start(item.start), draft.line_end(item.end)
    if value.is_block:
        if not _DASH.fullmatch(draft.text, first, item.start) or draft.text[item.end : last].strip(" \t"):
            raise CannotRewrite(f"something else, such as a comment, stands in the line of entry {index + 1}")
        return first, behind
    alone = None if draft.is_cut(first) else _ITEM_ALONE.fullmatch(tree.masked, first, last)
    if alone is not None and (alone["comma"] or index == len(items) - 1) and value.start < first and last < value.end:
        return first, behind
    if index and not tree.has_comment(items[index - 1].end, item.end):
        return items[index - 1].end, item.end
    if index + 1 < len(items) and not tree.has_comment(item.start, items[index + 1].start):
        return item.start, items[index + 1].start
    raise CannotRewrite(f"a comment stands beside entry {index + 1} of {key}, and would be lost")


def _read(text: str, block: Block | None) -> FrontMatter:
    """Read front matter as if its last line ended with a line break.

    The break before the closing line is not part of the YAML. A key put there ends the text of a block scalar with one.
    """
    if block is None:
        return FrontMatter()
    return read_front_matter(f"{text[: block.end]}\n{text[block.end : block.closed]}")


def _comments(text: str, block: Block | None) -> list[str]:
    return [] if block is None else [text[slice(*comment)] for comment in read_tree(text, block).comments]


def _verify(draft: Draft, old: str, front: FrontMatter, new: bytes) -> None:
    """Refuse a new card that does not say what it should, or that lost anything that is not a value."""
    before, after = find_block(old), find_block(draft.text)
    said = read_front_matter(new)
    if after is None or not said.readable or len(said.problems) > len(front.problems):
        raise CannotRewrite(NO_FIT)
    if expected_of(_read(draft.text, after)).entries != draft.expected.entries:
        raise CannotRewrite("it would change more of the front matter than it should, or not what it should")
    if before is None:
        kept = draft.text.endswith(old)
    else:
        kept = old[: before.blank[0]] == draft.text[: after.blank[0]] and old[before.end :] == draft.text[after.end :]
    if not kept or _comments(old, before) != _comments(draft.text, after):
        raise CannotRewrite("it would lose a comment, or text outside of the front matter")
