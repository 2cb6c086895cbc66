"""Changes of front matter: what is asked for, and not a byte more."""

# Cases and strategies, one a line.
# ruff: noqa: E501

from __future__ import annotations

import re

import pytest
import yaml

from lineage_plugin.card.rewrite import CannotRewrite, Rewritten, rewrite
from lineage_plugin.card.written import written
from lineage_plugin.fixes import Change, RemoveItem, RenameKey, SetItem, SetKey, TrimFence
from tests.card.corpus import HASH

KEY = "base_model"
PINS = "base_model_revision"


def to_bytes(card: str | bytes) -> bytes:
    return card.encode("utf-8", "surrogatepass") if isinstance(card, str) else card


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of PyYAML's two parsers reads the cards: their marks are not the same."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")


def one(*rows: str) -> str:
    return "\n".join(["---", *rows, "---", ""])


# Before, the change, after, the lines.
CHANGES: list[tuple[str, Change, str, tuple[int, ...]]] = [
    # Scalars keep their quotes, where they are, and what stands behind them.
    (one("base_model: a/b  # x"), SetKey(KEY, "n/m"), one("base_model: n/m  # x"), (2,)),
    (one("base_model: 'a/b'"), SetKey(KEY, "it's"), one("base_model: 'it''s'"), (2,)),
    (one('base_model: "a\\x2fb"'), SetItem(KEY, 0, 'a\\"b'), one('base_model: "a\\\\\\"b"'), (2,)),
    (one("base_model:", "  a/b # x"), SetKey(KEY, "n/m"), one("base_model:", "  n/m # x"), (3,)),
    (one('base_model: "a', '  b" # x', "y: z"), SetKey(KEY, "n/m"), one('base_model: "n/m" # x', "y: z"), (2, 3)),
    (one("base_model: >-  # c", "", "  a/b", "", "x: y"), SetKey(KEY, "n/m"), one("base_model: n/m  # c", "", "x: y"), (2, 3, 4)),
    (one("base_model: |", "  # text", "# no text"), SetKey(KEY, "n/m"), one("base_model: n/m", "# no text"), (2, 3)),
    (one("base_model: | # c"), SetKey(KEY, "n/m"), one("base_model: n/m # c"), (2,)),
    (one("base_model:", "x: y"), SetKey(KEY, "n/m"), one("base_model: n/m", "x: y"), (2,)),
    (one("base_model:  # none yet"), SetKey(KEY, "n/m"), one("base_model: n/m  # none yet"), (2,)),
    (one("base_model: ~"), SetKey(KEY, "null"), one('base_model: "null"'), (2,)),
    (one("base_model: &a"), SetKey(KEY, "n/m"), one("base_model: &a n/m"), (2,)),
    (one("base_model: &a !!str 1 # x"), SetKey(KEY, "n/m"), one("base_model: &a !!str n/m # x"), (2,)),
    (one("? base_model", ": a/b"), SetKey(KEY, "n/m"), one("? base_model", ": n/m"), (3,)),
    (one("base_model: a/b", "base_model: c/d"), SetKey(KEY, "n/m"), one("base_model: a/b", "base_model: n/m"), (3,)),
    (one("title: 模型 🤗", "base_model: a/b # 模型"), SetKey(KEY, "n/é"), one("title: 模型 🤗", 'base_model: "n/é" # 模型'), (3,)),
    (one("x: y #c\u2028base_model: a/b\x85"), SetKey(KEY, "n/m"), one("x: y #c\u2028base_model: n/m\x85"), (2,)),
    (one("base_model: 1234567"), SetKey(KEY, "1234567"), one('base_model: "1234567"'), (2,)),
    (one("base_model: a/b"), SetKey(KEY, "a/b"), one("base_model: a/b"), ()),
    # A list for one value, and the other way round.
    (one("base_model: 'a/b, c/d' # x"), SetKey(KEY, ("a/b", "c/d")), one("base_model: [a/b, c/d] # x"), (2,)),
    (one("base_model: [a/b, c/d] # x"), SetKey(KEY, "n/m"), one("base_model: n/m # x"), (2,)),
    (one("base_model: # x", "x: y"), SetKey(KEY, ("1e5", "b")), one('base_model: ["1e5", b] # x', "x: y"), (2,)),
    (one("base_model:", "- a/b", "- c/d # x", "y: z"), SetKey(KEY, "n/m"), one("base_model: n/m # x", "y: z"), (2, 3, 4)),
    (one("base_model:", "  name: a/b", "y: z"), SetKey(KEY, "n/m"), one("base_model: n/m", "y: z"), (2, 3)),
    # Lists.
    (one("base_model: [a/b, 'c/d']"), SetItem(KEY, 1, "n/m"), one("base_model: [a/b, 'n/m']"), (2,)),
    (one("base_model:", "- a/b # x", "-"), SetItem(KEY, 1, "n/m"), one("base_model:", "- a/b # x", "- n/m"), (4,)),
    (one("x: [null, 'b']"), SetKey("x", ("a", "c")), one("x: [a, 'c']"), (2,)),
    (one("x: [1, 'b']"), SetKey("x", ("1", "b")), one("x: [\"1\", 'b']"), (2,)),
    (one("x:", "  - a # x", "  - b"), SetKey("x", ("a", "c")), one("x:", "  - a # x", "  - c"), (4,)),
    (one("x:", "  - a", "  - b # x"), SetKey("x", ("a", "c", "d")), one("x:", "  - a", "  - c", "  - d # x"), (3, 4)),
    (one("x: [a]"), SetKey("x", ()), one("x: []"), (2,)),
    (one("x: [a, b, c]"), RemoveItem("x", 0), one("x: [b, c]"), (2,)),
    (one("x: [a, b, c]"), RemoveItem("x", 2), one("x: [a, b]"), (2,)),
    (one("x: [", "  a, # one", "  b b,", "  c # three", "]"), RemoveItem("x", 1), one("x: [", "  a, # one", "  c # three", "]"), (4,)),
    (one("x: [", "  a, # one", "  b", "]"), RemoveItem("x", 1), one("x: [", "  a, # one", "]"), (4,)),
    (one("x: [a,", "  b]"), RemoveItem("x", 1), one("x: [a]"), (2, 3)),
    (one("x: [ a", "  , b ]"), RemoveItem("x", 0), one("x: [ b ]"), (2, 3)),
    (one("x:", "- a", "# of c", "- b", "- c # c"), RemoveItem("x", 1), one("x:", "- a", "# of c", "- c # c"), (5,)),
    (one("x:", "- a", "-", "- c"), RemoveItem("x", 1), one("x:", "- a", "- c"), (4,)),
    (one("x:", "- a", "- {b: c,", "   d: e}"), RemoveItem("x", 1), one("x:", "- a"), (4, 5)),
    (one("x:", "- a", "- b: c", "  d: e", "y: z"), RemoveItem("x", 1), one("x:", "- a", "y: z"), (4, 5)),
    # New keys.
    (one("base_model: a/b # x", "y: z"), SetKey(PINS, "v1", after=KEY), one("base_model: a/b # x", "base_model_revision: v1", "y: z"), (2,)),
    (one("y: z", "# end"), SetKey("x", "v1", after="no"), one("y: z", "# end", "x: v1"), (3,)),
    (one("base_model:", "- a/b", "- c/d", "# y", "y: z"), SetKey("x", "v", after=KEY), one("base_model:", "- a/b", "- c/d", "x: v", "# y", "y: z"), (4,)),
    (one("y: |", "  text"), SetKey("x", "v"), one("y: |", "  text", "x: v"), (3,)),
    (one("y: |+", "  text", ""), SetKey("x", "v"), one("y: |+", "  text", "", "x: v"), (4,)),
    (one("y:", "  - a"), SetKey("x", ("b", "c d")), one("y:", "  - a", "x:", "  - b", "  - c d"), (3,)),
    (one(" y: z"), SetKey("x", ("b", "c")), one(" y: z", " x:", " - b", " - c"), (2,)),
    (one("{y: z,", "  # x", " }"), SetKey("x", "v"), one("{y: z, x: v,", "  # x", " }"), (2,)),
    (one("{}"), SetKey("x", ("a", "b")), one("{x: [a, b]}"), (2,)),
    ("---\n---\n# T", SetKey("x", "v"), "---\nx: v\n---\n# T", (1,)),
    ("---\n\n---\n# T", SetKey("x", "v"), "---\nx: v\n---\n# T", (2,)),
    ("---\n# c\n---", SetKey("x", "v"), "---\n# c\nx: v\n---", (2,)),
    ("", SetKey("x", "v"), "---\nx: v\n---\n", (0,)),
    ("\ufeff# T\r\n\n", SetKey("x", ("a", "b")), "\ufeff---\r\nx:\r\n- a\r\n- b\r\n---\r\n# T\r\n\n", (0,)),
    ("\ufeff---\r\ny: z\r\n---\r\n# T\n", SetKey("x", "v"), "\ufeff---\r\ny: z\r\nx: v\r\n---\r\n# T\n", (2,)),
    ("---\ry: z\r---\rT", SetKey("x", "v"), "---\ry: z\rx: v\r---\rT", (2,)),
    ("---\ny: z\r\nb: c\r---\nT", SetKey("x", "v", after="y"), "---\ny: z\r\nx: v\r\nb: c\r---\nT", (2,)),
    # Names and the fence.
    (one("'Base_Model' : a/b # x", "y: z"), RenameKey("Base_Model", KEY), one("'base_model' : a/b # x", "y: z"), (2,)),
    (one("base-model:", "- a/b"), RenameKey("base-model", KEY), one("base_model:", "- a/b"), (2,)),
    ("\n--- \t\r\nx: y\n---\n", TrimFence(), "\n---\r\nx: y\n---\n", (2,)),
    ("\ufeff--- \n---", TrimFence(), "\ufeff---\n---", (1,)),
    (one("x: y"), TrimFence(), one("x: y"), ()),
]  # fmt: skip


@pytest.mark.parametrize(("before", "change", "after", "lines"), CHANGES)
def test_exactly_what_is_asked_for(
    before: str, change: Change, after: str, lines: tuple[int, ...], parser: None
) -> None:
    card, body = before.encode(), b"M\xfcller \xff\r\n" if before.endswith("\n") and before else b""
    assert rewrite(card + body, [change]) == Rewritten(after.encode() + body, lines)


REFUSED: list[tuple[str | bytes, Change, str]] = [
    (one("x: &a o/n", "base_model: *a"), SetKey(KEY, "n/m"), "is a YAML alias"),
    (one("x: &a [o/n, b]", "base_model: *a"), SetItem(KEY, 0, "n/m"), "is a YAML alias"),
    (one("x: &a [o/n, b]", "base_model: *a"), RemoveItem(KEY, 0), "is a YAML alias"),
    (one("x: &a o/n", "base_model: [b, *a]"), SetItem(KEY, 1, "n/m"), "is a YAML alias"),
    (one("base_model: &a o/n", "x: *a"), SetKey(KEY, "n/m"), "used elsewhere"),
    (one("base_model: &a [o/n, b]", "x: *a"), SetItem(KEY, 1, "n/m"), "used elsewhere"),
    (one("base_model: [&a o/n, b]", "x: *a"), RemoveItem(KEY, 0), "used elsewhere"),
    (one("x: &a base-model", "*a : o/n"), RenameKey("base-model", KEY), "YAML alias"),
    (one("base_model: !!str o/n"), SetKey(KEY, ("a", "b")), "YAML tag"),
    (one("base_model: !!int 3"), SetKey(KEY, "x"), "more of the front matter"),
    (one("x:", "- a", "- b # c"), RemoveItem("x", 1), "a comment"),
    (one("x:", "- - a", "  - b", "- c # c"), RemoveItem("x", 1), "a comment"),
    (one("x: [", "  a, # one", "  b, # two", "]"), RemoveItem("x", 1), "a comment"),
    (one("x: [", "  a, # one", "  b, # two", "]"), SetKey("x", "v"), "comments"),
    (one("x: # why", "- a", "- b"), SetKey("x", "v"), "comments"),
    (one("x: [a]"), RemoveItem("x", 0), "no list with other entries"),
    (one("x: a"), RemoveItem("x", 0), "no list with other entries"),
    (one("x: [a, b]"), RemoveItem("x", 2), "has no entry 3"),
    (one("x: [a, b]"), SetItem("x", -1, "c"), "has no entry 0"),
    (one("x: {a: b}"), SetItem("x", 0, "c"), "has no entry 1"),
    (one("x: [[a], b]"), SetItem("x", 0, "c"), "is a list"),
    (one("x: a"), SetItem("y", 0, "c"), "there is no y"),
    (one("x: a"), RenameKey("y", "z"), 'no key "y"'),
    (one("x: a", "y: b"), RenameKey("x", "y"), "already"),
    (one("x: a", "x: b"), RenameKey("x", "y"), "is repeated"),
    (one("x: a"), SetKey("x", "a\nb: c"), "line breaks"),
    (one("x: a"), SetKey("y", "\ud800"), "invisible"),
    (one("x: a"), SetKey("x\u202e", "b"), "invisible"),
    ("# T", RenameKey("x", "y"), "no key"),
    ("---\nx: y", SetKey("x", "z"), "not closed"),
    (one("x: [y"), SetKey("x", "z"), "not valid YAML"),
    (one("- x"), SetKey("x", "z"), "is a list"),
    (one("x: y").encode("utf-16"), SetKey("x", "z"), "UTF-16"),
    ("version https://git-lfs.github.com/spec/v1\noid x\n", SetKey("x", "z"), "LFS"),
    (b"\0\1\2", SetKey("x", "z"), "not UTF-8"),
    (one("x: " + "y" * 600_000), SetKey("x", "z"), "exceeds 512 KiB"),
    (one("x: " + "y" * 524_200), SetKey("z", "z" * 200), "does not fit"),
    (one("x: é", "y: z").encode("latin-1"), SetKey("y", "a"), "not UTF-8"),
]


@pytest.mark.parametrize(("card", "change", "why"), REFUSED)
def test_what_cannot_be_changed_safely_is_refused(card: str | bytes, change: Change, why: str) -> None:
    with pytest.raises(CannotRewrite, match=re.escape(why)) as refused:
        rewrite(to_bytes(card), [change])
    assert str(refused.value).isprintable()


def test_changes_are_made_together_or_not_at_all() -> None:
    card = one("x: [a, b]", "y: z").encode()
    both = rewrite(card, [RemoveItem("x", 0), SetKey(KEY, "n/m", after="x"), SetKey(PINS, "v1", after=KEY)])
    assert both == Rewritten(one("x: [b]", "base_model: n/m", "base_model_revision: v1", "y: z").encode(), (2,))
    with pytest.raises(CannotRewrite):
        rewrite(card, [SetKey("y", "a"), RemoveItem("y", 0)])
    assert rewrite(card, []) == Rewritten(card, ())


def test_lines_are_those_of_the_old_card() -> None:
    card = one("a: b", "x:", "- 1", "- 2", "- 3", "y: z", "c: d").encode()
    changes = [SetKey("n", ("1", "2"), after="a"), RemoveItem("x", 1), SetKey("y", "w"), SetKey("last", "v")]
    assert rewrite(card, changes).lines == (2, 5, 7, 8)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "no",
            "Yes",
            "on",
            "OFF",
            "y",
            "N",
            "true",
            "null",
            "~",
            "",
            " ",
            "a ",
            " a",
            "1",
            "-1",
            "+1",
            "1_000",
            "0x1f",
        ),
        *("0o17", "0b1", "1.5", ".5", "1e10", "12345e7", "1e+3", "1.e5", ".inf", "-.inf", ".NaN", "1:30", "190:20:30"),
        *("2024-01-01", "2024-1-1", "2024-01-01 10:00:00", "...", "---", "-", "- a", "?", ": a", "a: b", "a:", "a #b"),
        *("#a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "[a", "a]", "{a", "a}", "a,b", "'a", '"a', "a'b", 'a"b'),
        *(
            "<<",
            "=",
            "\\",
            "a\\n",
            "é",
            "模型",
            "a\u200d"[:1],
            "apache-2.0",
            "owner/name",
            "gpt2",
            HASH,
            "5e1",
            "1" * 40,
        ),
    ],
)
def test_values_are_what_they_were_meant_to_be(value: str) -> None:
    for text in (written(value), written(value, "'"), written(value, '"')):
        for document in (f"x: {text}", f"x: [{text}]", f"{{x: {text}, y: z}}", f"x:\n- {text} # c"):
            assert yaml.safe_load(document)["x"] in (value, [value])
    # Numbers as YAML 1.2 knows them.
    text = written(value)
    assert not re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+", text)


def test_what_needs_no_quotes_has_none() -> None:
    for value in ("owner/name", "gpt2", HASH, "apache-2.0", "v1.0", "llama3.1", "refs/pr/1", "mit", "adapter", "a b"):
        assert written(value) == value
