"""YAML into located values, without trusting it.

The parser's events, not its loaded values, are the input: nothing is constructed from tags, nesting is not recursion,
an alias costs its expanded size before it is followed, and a number stays the text it was written as. PyYAML's bindings
to libyaml are used where they exist, its pure Python parser elsewhere: some ten times slower, and it refuses a tab
between a key and its value, which libyaml reads.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

import yaml
from yaml.resolver import Resolver

from lineage_plugin.card.located import LINE_BREAK, Entry, Kind, Lines, Located, Problem
from lineage_plugin.findings import Level
from lineage_plugin.text import one_line

__all__ = ["MAX_DEPTH", "MAX_NODES", "MAX_PROBLEMS", "ODD_BREAK", "Refused", "events", "read_yaml"]

MAX_NODES: Final = 50_000
"""Largest number of values, each alias counted with all that it stands for."""
MAX_DEPTH: Final = 64
"""Deepest nesting; evaluation results need about 8."""
MAX_PROBLEMS: Final = 20
"""Problems listed before the rest is left out."""

ODD_BREAK: Final = re.compile("[\x85\u2028\u2029]")
"""Ends a line in YAML 1.1, which Python reads, and not in YAML 1.2, which the Hub reads."""

_BEGINS: Final = re.compile(r"[ \t]*(?:#|-[ \t]|[^\r\n]{1,200}?:(?:[ \t\r\n]|\Z))")
"""What is a key, an item or a comment where a line begins, and text where none does."""

_YAML: Final = "tag:yaml.org,2002:"
_KINDS: Final[dict[str, Kind]] = {
    f"{_YAML}str": "string",
    f"{_YAML}int": "number",
    f"{_YAML}float": "number",
    f"{_YAML}bool": "boolean",
    f"{_YAML}timestamp": "date",
    f"{_YAML}null": "null",
    f"{_YAML}seq": "list",
    f"{_YAML}map": "mapping",
}
_VISIBLE: Final = re.compile(r"\S")
_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Refused(Exception):
    """The block cannot be read; carries the reason to the one place that answers."""

    def __init__(self, message: str, position: tuple[int, int], help: str = "") -> None:
        self.problem = Problem(message, *position, help=help)
        super().__init__(message)


def read_yaml(
    block: str, offset: int, lines: Lines, problems: list[Problem], *, what: str = "the front matter"
) -> tuple[Entry, ...]:
    """Parse one YAML document into the entries of its top-level mapping.

    Args:
        block: The document, such as the text between the fences of a card.
        offset: Where it begins in the file.
        lines: The positions of the file.
        problems: What is wrong and does not keep the rest from being read; added to.
        what: What the document is, for messages.

    Returns:
        The entries; none for an empty document.

    Raises:
        Refused: When it cannot be read, or means more than plain values.
    """
    bad = _NOT_YAML.search(block)
    if bad is not None:
        code = ord(bad[0])
        found = "bytes that are not UTF-8" if 0xDC80 <= code <= 0xDCFF else f"the character U+{code:04X}"
        raise Refused(
            f"{what} contains {found}",
            lines.at(offset + bad.start()),
            "Save it as UTF-8 text without controls.",
        )
    builder = _Builder(offset, lines, problems, what)
    try:
        for event in events(block):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # An error at the end of the block is an error of its last line, not of the fence below.
        index = min(mark.index, max(len(block.rstrip()) - 1, 0)) if mark else 0
        reason = one_line(error.problem or error.context or "syntax error")
        if "\\t" in reason or block[index : index + 1] == "\t":
            reason = "a tab stands where YAML needs spaces"
        raise Refused(
            f"{what} is not valid YAML: {reason}",
            lines.at(offset + index),
            "Quote values that contain a colon or begin with a special character; indent with spaces.",
        ) from None
    except yaml.YAMLError as error:
        raise Refused(f"{what} is not valid YAML: {one_line(error)}", lines.at(offset)) from None
    builder.report_odd_breaks(block)
    root = builder.root
    if root is None or root.kind == "null":
        return ()
    if root.kind != "mapping":
        raise Refused(
            f"{what} is a {root.kind}, not keys with values",
            (root.line, root.column),
            "Write it as lines of `key: value`.",
        )
    return root.entries


def events(block: str) -> Iterator[Any]:
    """Yield the parser's events one by one; both parsers stream, so a refused block is not parsed to its end."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.parse(block, Loader=loader)


class _Frame:
    """A list or mapping that is still open."""

    __slots__ = ("anchor", "before", "items", "kind", "merges", "position")

    def __init__(self, kind: Kind, position: tuple[int, int], anchor: str | None, before: int) -> None:
        self.kind = kind
        self.position = position
        self.anchor = anchor
        self.before = before
        self.items: list[Located] = []
        self.merges: set[int] = set()


class _Builder:
    """Turns parser events into located values, with an explicit stack."""

    def __init__(self, offset: int, lines: Lines, problems: list[Problem], what: str) -> None:
        self.root: Located | None = None
        self._offset = offset
        self._lines = lines
        self._problems = problems
        self._what = what
        self._resolver: Any = Resolver()
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Located, int] | None] = {}
        self._nodes = 0
        self._documents = 0
        self._quoted: list[tuple[int, int]] = []

    def take(self, event: Any) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._count(1, event)
            self._scalar(event)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._count(1, event)
            self._open(event)
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise Refused(f"{self._what} holds more than one YAML document", self._position(event))

    def _position(self, event: Any) -> tuple[int, int]:
        return self._lines.at(self._offset + event.start_mark.index)

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise Refused(f"{self._what} stands for more than {MAX_NODES:,} values", self._position(event))

    def _tag(self, event: Any) -> str | None:
        """Return an explicit tag, refusing those that mean more than a plain value."""
        tag: str | None = event.tag
        if tag is None or tag == "!":
            return None
        if tag not in _KINDS:
            shown = one_line(tag.replace(_YAML, "!!"))
            raise Refused(f"{self._what} uses the YAML tag {shown}", self._position(event), "Write a plain value.")
        return tag

    def report_odd_breaks(self, block: str) -> None:
        """Report what ends a line for some readers alone; within quotes it ends nothing."""
        ends = [end for _, end in self._quoted]
        for found in ODD_BREAK.finditer(block):
            quoted = bisect_right(ends, found.start())
            if quoted < len(ends) and self._quoted[quoted][0] < found.start():
                continue
            if len(self._problems) > MAX_PROBLEMS:
                return
            what = f"the character U+{ord(found[0]):04X}, which ends a line for Python and not for the Hub"
            position = self._lines.at(self._offset + found.start())
            help_ = "Remove the character, which is invisible: what follows it may be read as another value."
            level: Level = "error" if _BEGINS.match(block, found.end()) else "warning"
            self._problems.append(Problem(f"{self._what} contains {what}", *position, level, help_))

    def _scalar(self, event: Any) -> None:
        if event.style in ("'", '"'):
            self._quoted.append((event.start_mark.index, event.end_mark.index))
        tag = self._tag(event) or self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        kind = _KINDS.get(tag, "string")
        if kind in ("list", "mapping"):
            raise Refused(f"a single value is tagged as a {kind}", self._position(event), "Write a plain value.")
        if tag == f"{_YAML}merge" and self._stack:
            self._stack[-1].merges.add(len(self._stack[-1].items))
        value = None if kind == "null" else event.value
        self._add(Located(value, kind, *self._text_position(event)), event.anchor, 1)

    def _text_position(self, event: Any) -> tuple[int, int]:
        """Return where a scalar's text begins: for a block scalar below its ``|`` or ``>``."""
        if event.style not in ("|", ">") or not event.value.strip():
            return self._position(event)
        start = self._offset + event.start_mark.index
        header = LINE_BREAK.search(self._lines.text, start)
        text = _VISIBLE.search(self._lines.text, header.end()) if header else None
        return self._lines.at(text.start() if text else start)

    def _open(self, event: Any) -> None:
        self._tag(event)
        if len(self._stack) >= MAX_DEPTH:
            raise Refused(f"{self._what} is nested more than {MAX_DEPTH} levels deep", self._position(event))
        kind: Kind = "list" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
        if event.anchor is not None:
            # Open until its end is seen; an alias to it before that would contain itself.
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(kind, self._position(event), event.anchor, self._nodes - 1))

    def _close(self) -> None:
        frame = self._stack.pop()
        value = tuple(frame.items) if frame.kind == "list" else self._pairs(frame)
        self._add(Located(value, frame.kind, *frame.position), frame.anchor, self._nodes - frame.before)

    def _alias(self, event: Any) -> None:
        known = self._anchors.get(event.anchor)
        if known is None:
            inside = event.anchor in self._anchors
            what = "refers to itself" if inside else "is not defined above"
            raise Refused(f"the YAML alias *{one_line(event.anchor, 40)} {what}", self._position(event))
        target, nodes = known
        self._count(nodes, event)
        self._add(Located(target.value, target.kind, *self._position(event)), None, nodes)

    def _add(self, located: Located, anchor: str | None, nodes: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (located, nodes)
        if self._stack:
            self._stack[-1].items.append(located)
        else:
            self.root = located

    def _pairs(self, frame: _Frame) -> tuple[Entry, ...]:
        """Pair keys with values; report keys that are not plain or appear twice."""
        entries: list[Entry] = []
        seen: dict[str, int] = {}
        for index in range(0, len(frame.items), 2):
            key, value = frame.items[index : index + 2]
            if key.kind in ("list", "mapping"):
                what = f"a {key.kind} stands where a key is expected"
                self._report(
                    what, key, "Quote values that begin with { or [; template markers {{ }} must be filled in."
                )
                continue
            if index in frame.merges:
                self._report("the YAML merge key << is not followed", key, "Write the keys out.")
                continue
            name = key.text or ""
            if name in seen and len(self._problems) <= MAX_PROBLEMS:
                what = f'the key "{one_line(name, 40)}" is repeated (first on line {seen[name]}); the last one is used'
                self._report(what, key, "Keep one of them: the Hub refuses repeated keys.")
            seen.setdefault(name, key.line)
            entries.append(Entry(key, value))
        return tuple(entries)

    def _report(self, message: str, where: Located, help_: str) -> None:
        # One more than is listed, to know where the list was cut.
        if len(self._problems) <= MAX_PROBLEMS:
            self._problems.append(Problem(message, where.line, where.column, help=help_))
