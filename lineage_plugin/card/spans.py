"""Where the values of front matter stand, to the character.

:mod:`lineage_plugin.card.yaml_values` says what a card's values are. To change one of them in the text, where it begins
and ends has to be known as well, what it is written in, and where there are comments. The parser's events and their
marks tell.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

from lineage_plugin.card.front_matter import Block
from lineage_plugin.card.yaml_values import events

__all__ = ["Node", "Tree", "read_tree"]

_PROPERTIES: Final = re.compile(r"(?:(?:&[^\s,\[\]{}]+|!<[^>\s]*>|![^\s,\[\]{}]*)(?:[ \t]+|(?=[\r\n,\]}]|\Z)))*")
_BLOCK_HEADER: Final = re.compile(r"[|>][-+0-9]*")
_COMMENT: Final = re.compile("#[^\r\n\x85\u2028\u2029]*")
_SEEN: Final = re.compile(r"[^\r\n]")
_SEEN_BARE: Final = re.compile("[^\r\n\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Node:
    """A value, or a key, where it stands.

    Attributes:
        kind: What it is; an alias is one whatever it stands for.
        start: Its first character; of a value with an anchor or a tag, that of those.
        inner: The first character behind anchor and tag.
        end: Behind its last character; a value that is left out begins and ends where it would stand.
        text: The text of a scalar, and of an alias the text of the scalar that it stands for.
        style: How it is written: ``'``, ``"``, ``|``, ``>`` or nothing for scalars; of lists and mappings ``[`` if in
            brackets or braces, else nothing.
        anchor: Its anchor, or the one that an alias refers to.
        tagged: Whether it has a tag.
        children: The items of a list; the keys and values of a mapping in turn.
    """

    kind: Literal["scalar", "alias", "list", "mapping"]
    start: int
    inner: int
    end: int
    text: str | None = None
    style: str = ""
    anchor: str | None = None
    tagged: bool = False
    children: tuple[Node, ...] = ()

    @property
    def is_block(self) -> bool:
        """Whether it is a list or a mapping of one item a line."""
        return self.kind in ("list", "mapping") and not self.style

    def walk(self) -> Iterator[Node]:
        """Yield it and all that is in it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Tree:
    """The values of front matter where they stand.

    Attributes:
        root: The top-level mapping, or None when there are no values.
        aliases: The anchors that aliases refer to.
        masked: The text up to the end of the front matter, with an ``x`` for every character of a scalar: what is left
            of ``#``, ``,`` and ``-`` belongs to comments and to YAML. U+0085, U+2028 and U+2029 are left outside of
            quotes, as they end a line in YAML 1.1.
        comments: Where its comments begin and end, ascending.
        keys: Which child of ``root`` is a key, the last one if it is repeated.
    """

    root: Node | None
    aliases: frozenset[str]
    masked: str
    comments: tuple[tuple[int, int], ...]
    keys: Mapping[str | None, int]

    def entry(self, key: str) -> tuple[Node, Node] | None:
        """Return the nodes of a top-level key and its value, the last ones if it is repeated, or None."""
        index = self.keys.get(key)
        if self.root is None or index is None:
            return None
        return self.root.children[index], self.root.children[index + 1]

    def is_shared(self, node: Node) -> bool:
        """Return whether an alias elsewhere may stand for the node, or for something in it."""
        return bool(self.aliases) and any(one.kind != "alias" and one.anchor in self.aliases for one in node.walk())

    def has_comment(self, start: int, end: int) -> bool:
        """Return whether there is a comment, or a part of one, between two characters."""
        index = bisect_right(self.comments, start, key=lambda comment: comment[1])
        return index < len(self.comments) and self.comments[index][0] < end


def read_tree(text: str, block: Block) -> Tree:
    """Find the values of front matter that :func:`~lineage_plugin.card.front_matter.read_front_matter` reads.

    Args:
        text: The text of the card, without a byte order mark.
        block: Where the front matter stands in it.

    Raises:
        yaml.YAMLError: When it is not valid YAML.
    """
    builder = _Builder(text, block.start)
    for event in events(text[block.start : block.end]):
        builder.take(event)
    root = builder.root if builder.root is not None and builder.root.kind == "mapping" else None
    masked = _masked(text[: block.end], builder.scalars)
    return Tree(
        root,
        frozenset(builder.aliases),
        masked,
        tuple(comment.span() for comment in _COMMENT.finditer(masked, block.start)),
        {} if root is None else {key.text: 2 * index for index, key in enumerate(root.children[::2])},
    )


class _Builder:
    """Turns parser events into nodes."""

    def __init__(self, text: str, offset: int) -> None:
        self.root: Node | None = None
        self.aliases: set[str] = set()
        self.scalars: list[tuple[int, int]] = []
        self._text = text
        self._offset = offset
        self._stack: list[tuple[Any, list[Node]]] = []
        self._anchored: dict[str, str | None] = {}

    def take(self, event: Any) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event))
        elif isinstance(event, yaml.AliasEvent):
            anchor = event.anchor or ""
            self.aliases.add(anchor)
            start, end = self._span(event)
            self._add(Node("alias", start, start, end, self._anchored.get(anchor), anchor=anchor))
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._stack.append((event, []))
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._close(event)

    def _span(self, event: Any) -> tuple[int, int]:
        return self._offset + event.start_mark.index, self._offset + event.end_mark.index

    def _inner(self, event: Any) -> int:
        start: int = self._offset + event.start_mark.index
        found = _PROPERTIES.match(self._text, start) if event.anchor or event.tag else None
        return found.end() if found else start

    def _scalar(self, event: Any) -> Node:
        start, end = self._span(event)
        inner = min(self._inner(event), end)
        style = event.style or ""
        header = _BLOCK_HEADER.match(self._text, inner) if style in ("|", ">") else None
        if header is None:
            self.scalars.append((inner, end))
        else:
            # Its end is behind the blank lines that follow it. What is behind the header may be a comment.
            end = max(header.end(), inner + len(self._text[inner:end].rstrip(" \t\r\n")))
            content = self._text.find("\n", inner, end), self._text.find("\r", inner, end)
            below = min((index for index in content if index >= 0), default=end)
            if below == end:
                end = header.end()  # nothing but a header, and what may be a comment
            self.scalars += [(inner, header.end()), (below, end)] if below < end else [(inner, end)]
        if event.anchor is not None:
            self._anchored[event.anchor] = event.value
        return Node("scalar", start, inner, end, event.value, style, event.anchor, event.tag is not None)

    def _close(self, event: Any) -> None:
        opened, children = self._stack.pop()
        in_brackets = bool(opened.flow_style)
        start = self._offset + opened.start_mark.index
        inner = self._inner(opened)
        # The end of a block is marked where the next thing begins.
        end = self._span(event)[1] if in_brackets else max((child.end for child in children), default=inner)
        kind: Literal["list", "mapping"] = "list" if isinstance(opened, yaml.SequenceStartEvent) else "mapping"
        style = "[" if in_brackets else ""
        tagged = opened.tag is not None
        self._add(Node(kind, start, inner, end, None, style, opened.anchor, tagged, tuple(children)))

    def _add(self, node: Node) -> None:
        if self._stack:
            self._stack[-1][1].append(node)
        else:
            self.root = node


def _masked(text: str, scalars: list[tuple[int, int]]) -> str:
    pieces: list[str] = []
    last = 0
    for start, end in scalars:
        seen = _SEEN if text.startswith(("'", '"'), start) else _SEEN_BARE
        pieces += [text[last:start], seen.sub("x", text[start:end])]
        last = max(last, end)
    return "".join([*pieces, text[last:]])
