"""Changes of front matter of all kinds: no byte outside of the named lines, no other value and no comment changes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.card import FrontMatter, Located, read_front_matter
from lineage_plugin.card.rewrite import CannotRewrite, Rewritten, rewrite
from lineage_plugin.fixes import Change, RemoveItem, RenameKey, SetItem, SetKey, TrimFence
from tests.card.corpus import CASES, Case

KEY = "base_model"
PINS = "base_model_revision"


ids = st.sampled_from(["a/b", "owner/name", "c-d/e.f_g", "1e10", "no", "12345", "模/型"])
plain_rows = st.sampled_from(
    [
        "license: mit",
        "tags: [a, 'b', \"c\"]",
        "tags:@- a@-   b",
        "tags:@  - a@  # about b@  - b",
        "about: |@  text # no comment@@  more",
        "about: >+@  text@@",
        "t: '模型 # no comment'",
        "long: one@  two  # C@",
        "m:@  k: &anchor v@  l: {a: b, c: [d]}",
        "d: 2024-01-01",
        "n: 1_000 # C",
        "",
        "# C",
        " # C indented",
        'q: "a\\"b: # c"   # C it\'s',
        "e:  # C",
        "? x@: y # C",
        "tab:\tz",
        "b:\u2028  x",
        "<<: {z: w}",
    ]
)


@st.composite
def entries(draw: st.DrawFn, key: str) -> str:
    """An entry with one value or a list, in some style."""
    words = [draw(st.sampled_from(["{}", "'{}'", '"{}"'])).format(draw(ids)) for _ in range(draw(st.integers(1, 4)))]
    anchor = draw(st.sampled_from(["", "", "", "&used ", "&free ", "!!str "]))
    comment = draw(st.sampled_from(["", "", "  # C", " # C 'x' [y]"]))
    style = draw(st.sampled_from(["one", "below", "folded", "block", "indented", "flow", "rows", "null"]))
    if style == "one":
        return f"{key}: {anchor}{words[0]}{comment}"
    if style == "null":
        return f"{key}:{comment}"
    if style == "below":
        return f"{key}:{comment}@   {words[0]}{comment}"
    if style == "folded":
        return f"{key}: >-{comment}@  a/b@"
    if style == "flow":
        return f"{key}: [{', '.join(words)}]{comment}"
    if style == "rows":
        return "@".join(
            [f"{key}: [{comment}", *(f"  {word},{comment if i else ''}" for i, word in enumerate(words)), " ]"]
        )
    lines = [f"{'  ' if style == 'indented' else ''}- {word}" for word in words]
    lines[-1] += comment
    if draw(st.booleans()):
        lines.insert(1, "   # C")
    if draw(st.booleans()):
        lines.append("-" if style == "block" else "  -")
    return "@".join([f"{key}:{comment}", *lines])


@st.composite
def cards(draw: st.DrawFn) -> bytes:
    """A card that may well be readable."""
    rows = draw(st.lists(plain_rows, max_size=4, unique=True))
    for key in draw(st.sampled_from([(), (KEY,), (KEY,), (KEY, PINS), (KEY, KEY), ("Base_Model",)])):
        rows.insert(draw(st.integers(0, len(rows))), draw(entries(key)))
    for anchor in ("used", "anchor"):
        if any(f"&{anchor}" in row for row in rows) and draw(st.booleans()):
            rows.append(f"see {anchor}: *{anchor}")
    rows += draw(st.sampled_from([[], [], [], [], ["..."], ["\t"]]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    text = end.join(
        ["---" + draw(st.sampled_from(["", "", " ", "\t"])), *(r for row in rows for r in row.split("@")), "---"]
    )
    number = iter(range(1000))
    for name in ("&used ", "&free "):  # PyYAML refuses an anchor that is there twice
        head, anchor, rest = text.partition(name)
        text = head + anchor + rest.replace(name, "")
    text = re.sub(r"# C", lambda _: f"# C{next(number)}", text)
    if draw(st.booleans()):  # line ends of several kinds
        text = re.sub(r"\r\n|\r|\n", lambda found: "\n" if next(number) % 3 else found[0], text)
    head = draw(st.sampled_from(["", "", "\ufeff", "\n", " \r\n"]))
    body = draw(st.sampled_from([b"", b"\n", b"\r\n# T\xff\n---\nx: y\n---\n", b"\n\xef\xbb\xbf# C text"]))
    return (head + text).encode() + body


@st.composite
def changes(draw: st.DrawFn, card: bytes) -> Change:
    """A change that may well be possible."""
    there = [key for key in (KEY, PINS, "tags", "Base_Model") if f"{key}:".encode() in card] or [KEY]
    key = draw(st.sampled_from(there))
    wanted = draw(st.sampled_from([SetKey, SetKey, SetItem, RemoveItem, RenameKey, TrimFence]))
    if wanted is SetKey:
        key = draw(st.sampled_from([*there, "new", "license"]))
        value = draw(ids | st.lists(ids, max_size=4).map(tuple))
        return SetKey(key, value, draw(st.sampled_from([None, *there, "about"])))
    if wanted is SetItem:
        return SetItem(key, draw(st.sampled_from([0, 0, 1, 2])), draw(ids))
    if wanted is RemoveItem:
        return RemoveItem(key, draw(st.integers(0, 2)))
    return TrimFence() if wanted is TrimFence else RenameKey(key, draw(ids))


changed_cards = cards().flatmap(lambda card: st.tuples(st.just(card), changes(card)))


def rewritten(card: bytes, wanted: Iterable[Change]) -> Rewritten | None:
    """Return what comes of the changes; None when they are refused."""
    try:
        return rewrite(card, list(wanted))
    except CannotRewrite as refused:
        said = str(refused)
    assert said.isprintable()
    return None


def unnamed(card: bytes, done: Rewritten) -> re.Pattern[bytes]:
    """What matches all cards that differ in the named lines at most."""
    rows = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", card)
    pattern = [b"" if number in done.lines else re.escape(row) for number, row in enumerate(rows, 1)]
    return re.compile(b"(?s:.*?)".join(_between(pattern)))


def _between(pieces: list[bytes]) -> list[bytes]:
    """Join neighbours, and keep one empty piece for each run of them."""
    joined = [b""]
    for empty, run in groupby(pieces, key=lambda piece: not piece):
        if empty:
            joined.append(b"")
        else:
            joined[-1] += b"".join(run)
    return joined


def plain(value: Located) -> Any:
    if value.kind == "list":
        return [plain(item) for item in value.items]
    if value.kind == "mapping":
        return [(entry.key.value, plain(entry.value)) for entry in value.entries]
    # A line break at the end of the last block scalar depends on whether something follows.
    return value.kind, value.text.rstrip("\n") if value.text else value.value


def keys_of(change: Change) -> set[str]:
    if isinstance(change, TrimFence):
        return set()
    return {change.old, change.new} if isinstance(change, RenameKey) else {change.key}


def others(front: FrontMatter, change: Change) -> list[Any]:
    return [(e.key.value, plain(e.value)) for e in front.entries if e.key.value not in keys_of(change)]


@settings(max_examples=200, deadline=None)
@given(changed_cards)
@example((b"---\nx: |\n  a\n---\n", SetKey("y", "z")))
def test_nothing_else_changes(case: tuple[bytes, Change]) -> None:
    card, change = case
    done = rewritten(card, [change])
    if done is None:
        return
    old, new = read_front_matter(card), read_front_matter(done.card)
    assert new.readable
    # Lines that are not named are there still, in their order and to the byte; in place of the others stands anything.
    if 0 in done.lines:
        mark = b"\xef\xbb\xbf" if card.startswith(b"\xef\xbb\xbf") else b""
        assert done.card.endswith(card.removeprefix(mark))
        assert done.card.startswith(mark + b"---")
    else:
        assert unnamed(card, done).fullmatch(done.card)
    comments = rb"# C\d+"
    assert re.findall(comments, done.card) == re.findall(comments, card)
    # Values, as this package reads them and as PyYAML does.
    assert others(new, change) == others(old, change)
    if isinstance(change, SetKey):
        wanted: Any = ("string", change.value)
        if isinstance(change.value, tuple):
            wanted = [("string", item) for item in change.value]
        value = new.get(change.key)
        assert value is not None
        assert plain(value) == wanted
    text = re.match(rb"(?s)\s*---[ \t]*(.*?)(?:\r\n|\r|\n)---", done.card.removeprefix(b"\xef\xbb\xbf"))
    assert text is not None
    loaded = yaml.load(text[1].decode(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if isinstance(change, SetItem):
        found = loaded[change.key]
        assert (found[change.index] if isinstance(found, list) else found) == change.value
    # What is there already is not changed.
    if isinstance(change, (SetKey, SetItem, TrimFence)):
        assert rewrite(done.card, [change]) == Rewritten(done.card, ())


@settings(max_examples=60, deadline=None)
@given(cards().flatmap(lambda card: st.tuples(st.just(card), st.lists(changes(card), min_size=2, max_size=4))))
def test_several_changes_are_one_after_the_other(case: tuple[bytes, list[Change]]) -> None:
    card, wanted = case
    done = rewritten(card, wanted)
    step: Rewritten | None = Rewritten(card, ())
    for change in wanted:
        step = rewritten(step.card, [change]) if step is not None else None
    if done is None or step is None:
        # Only the numbers of problems may differ on the way.
        return
    assert done.card == step.card
    assert 0 in done.lines or unnamed(card, done).fullmatch(done.card)


@st.composite
def many_items(draw: st.DrawFn) -> tuple[bytes, list[Change]]:
    """A list in one of its forms, and changes of its items."""
    count = draw(st.integers(2, 9))
    items = [
        draw(st.sampled_from(["a/b", "'a'", '"x y"', "1", "k # c" if number else "k", "''"])) for number in range(count)
    ]
    form = draw(st.sampled_from(["- {}\n", ", ", ",\n  ", " ,\n"]))
    items = [item if form == "- {}\n" else item.removesuffix(" # c") for item in items]
    block = form == "- {}\n"
    text = (
        "\n" + "".join(map(form.format, items))
        if block
        else f" [{form.join(items)}{draw(st.sampled_from(['', ',']))}]\n"
    )
    wanted: list[Change] = []
    for _ in range(draw(st.integers(1, count + 2))):
        index = draw(st.integers(0, max(count - 1, 0)))
        if draw(st.booleans()):
            wanted.append(SetItem(KEY, index, draw(st.sampled_from(["n/m", "no", "a, b", "a/b"]))))
        else:
            wanted.append(RemoveItem(KEY, index))
            count -= 1
    return f"---\nx: y\n{KEY}:{text}z: w\n---\n".encode(), wanted


@settings(max_examples=60, deadline=None)
@given(many_items())
def test_many_changes_of_items_are_one_after_the_other(case: tuple[bytes, list[Change]]) -> None:
    card, wanted = case
    done = rewritten(card, wanted)
    step: Rewritten | None = Rewritten(card, ())
    for change in wanted:
        step = rewritten(step.card, [change]) if step is not None else None
    if done is None or step is None or b",\n" not in card:
        assert (done and done.card) == (step and step.card)
    # Items beside each other leave other line breaks behind than one after the other.
    elif done.card != step.card:
        assert [plain(entry.value) for entry in read_front_matter(done.card).entries] == [
            plain(entry.value) for entry in read_front_matter(step.card).entries
        ]


TOKENS = st.sampled_from(
    [
        *(
            "---",
            "...",
            "\n",
            "\n\n",
            "\r\n",
            "\r",
            "  ",
            " ",
            "- ",
            "? ",
            ": ",
            ":",
            ", ",
            "[",
            "]",
            "{",
            "}",
            "|",
            ">-",
        ),
        *(
            "&a ",
            "*a",
            "!!str ",
            "!!seq ",
            "!<x> ",
            "<<: ",
            "# ",
            "'",
            '"',
            "\\",
            "%",
            "@",
            "\ufeff",
            "\u2028",
            "\x85",
            "é",
        ),
        *("base_model", "base_model: ", "base_model:\n- ", "tags: [", "license: ", "owner/name", "null", "1e5", "\0"),
    ]
)
hostile = st.one_of(
    st.binary(max_size=60),
    st.lists(TOKENS, max_size=24).map(lambda parts: ("---\n" + "".join(parts) + "\n---\n").encode()),
    st.text(max_size=40).map(lambda text: f"---\nbase_model: {text}\n---\n".encode("utf-8", "surrogatepass")),
)


@settings(max_examples=150, deadline=None)
@given(hostile, changes(b"base_model: tags:"))
def test_hostile_bytes_are_rewritten_or_refused(card: bytes, change: Change) -> None:
    done = rewritten(card, [change])
    if done is not None:
        assert others(read_front_matter(done.card), change) == others(read_front_matter(card), change)


def as_bytes(card: str | bytes) -> bytes:
    return card.encode("utf-8", "surrogatepass") if isinstance(card, str) else card


SMALL = [case for case in CASES if case.content is not None and len(case.content) < 50_000]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_the_corpus_is_rewritten_or_refused(case: Case) -> None:
    assert case.content is not None
    card = as_bytes(case.content)
    for change in (
        SetKey(KEY, "n/m"),
        SetKey("new", ("x", "y"), after=KEY),
        SetItem(KEY, 0, "n/m"),
        RemoveItem(KEY, 1),
    ):
        done = rewritten(card, [change])
        if done is None:
            assert (
                not read_front_matter(card).readable
                or isinstance(change, (SetItem, RemoveItem))
                or "&" in str(case.content)
            )
            continue
        assert others(read_front_matter(done.card), change) == others(read_front_matter(card), change)


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
def test_large_cards_are_cheap() -> None:
    start = time.process_time()
    for case in CASES:
        if case.name in ("very long id", "huge number", "two megabytes of line ends", "deep flow lists"):
            assert case.content is not None
            rewritten(as_bytes(case.content), [SetKey(KEY, "n/m"), SetKey("new", "v")])
    assert time.process_time() - start < 2.0


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("text", ["\n" + "- a/b\n" * 2000, f" [{', '.join(['a/b'] * 2000)}]\n"])
def test_many_changes_are_cheap(text: str) -> None:
    card = f"---\n{KEY}:{text}tags: [{'x, ' * 8000}]\n---\n".encode()
    wanted = [SetItem(KEY, index, f"n/m{index}") for index in range(1000)]
    start = time.process_time()
    done = rewrite(card, [*wanted, *(RemoveItem(KEY, 1000) for _ in range(999))])
    assert time.process_time() - start < 2.0
    assert done.card.count(b"n/m") == 1000
    assert done.card.count(b"a/b") == 1
