"""Whatever a card holds, values come out, in time, and the line numbers are those of the file."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage_plugin.card import BaseClaim, Declaration, Located, read_card, read_front_matter
from lineage_plugin.findings import Finding
from tests.card.corpus import CASES, GOOD, Case

TOKENS = (
    *(
        "---",
        "...",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "  ",
        "\t",
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
        "!!int ",
        "!x ",
        "<<: ",
        "# ",
        "'",
        '"',
        "\\",
        "%",
        "@",
        "`",
        "\ufeff",
        "\u2028",
        "\x00",
        "é",
    ),
    *("base_model", "base_model: ", "base_model_relation: ", "base_model_revision: ", "license: ", "new_version: "),
    *("owner/name", "gpt2", "https://hf.co/o/n", "./x", "null", "3", "1e5", "yes", "finetune", "merge", "::error::"),
)
cards = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200),
    st.lists(st.sampled_from(TOKENS), max_size=40).map(lambda parts: "---\n" + "".join(parts) + "\n---\n"),
    st.lists(st.sampled_from(TOKENS), max_size=40).map(lambda parts: ("---\n" + "".join(parts) + "\n---\n").encode()),
    st.text(max_size=100).map(lambda text: f"---\nbase_model: {text}\n---\n"),
)
configs = st.one_of(
    st.none(),
    st.text(max_size=100),
    st.binary(max_size=100),
    st.text(max_size=60).map(lambda text: f'{{"base_model_name_or_path": "{text}"}}'),
)


@settings(max_examples=600, deadline=None)
@given(cards, configs)
@example("---\nbase_model: {? [a]: b}\n---\n", '{"base_model_name_or_path": "a/b", "revision": 3}')
def test_only_values_come_out(card: str | bytes, config: str | bytes | None) -> None:
    declaration, findings = read_card(card, adapter_config=config)
    assert isinstance(declaration, Declaration)
    assert all(isinstance(claim, BaseClaim) for claim in declaration.bases)
    assert all(isinstance(finding, Finding) for finding in findings)
    for claim in declaration.bases:
        assert re.fullmatch(r"([\w.-]{1,96}/)?[\w.-]{1,96}", claim.id, re.ASCII)
        assert claim.revision is None or re.fullmatch(r"[\w.+/-]+", claim.revision, re.ASCII)
        assert ".." not in claim.id + (claim.revision or "")
    for finding in findings:
        for text in (finding.message, finding.help):
            assert text.isprintable()
            assert "::" not in text


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.content and len(case.content) > 50_000], ids=lambda c: c.name
)
def test_large_cards_are_cheap(case: Case) -> None:
    start = time.process_time()
    read_card(case.content)
    assert time.process_time() - start < 2.0


def test_large_adapter_configurations_are_cheap() -> None:
    start = time.process_time()
    for config in (
        "[" * 900_000,
        '{"r": ' + "9" * 900_000 + "}",
        '{"base_model_name_or_path": "' + "a" * 900_000 + '"}',
        '"base_model_name_or_path":' * 30_000,
        '{"x": ' * 100_000,
    ):
        read_card(None, adapter_config=config)
    assert time.process_time() - start < 2.0


ids = st.from_regex(r"[a-z]{1,8}/[A-Za-z][a-z0-9_.]{0,8}[a-z]", fullmatch=True).filter(lambda text: ".." not in text)
filler = st.sampled_from(
    [
        "license: mit",
        "",
        "# base_model: x/y",
        "tags: [a, b]",
        "tags:@- a@- b",
        "about: |@  base_model: z/z@  more",
        "t: 模型",
    ]
)


@st.composite
def written_cards(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A card with bases in some style, and its bases."""
    bases = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    quote = draw(st.sampled_from(["", "'", '"']))
    words = [f"{quote}{base}{quote}" for base in bases]
    style = draw(st.sampled_from(["block", "indented", "flow", "rows", "comments"]))
    if len(bases) == 1 and draw(st.booleans()):
        lines = [f"base_model:   {words[0]}"] if draw(st.booleans()) else ["base_model:", f"   {words[0]}"]
    elif style == "flow":
        lines = ["base_model: [" + ", ".join(words) + "]"]
    elif style == "rows":
        lines = ["base_model: [", *(f"  {word}," for word in words), "  ]"]
    else:
        indent = "" if style == "block" else "  "
        lines = ["base_model:", *(f"{indent}- {word}" for word in words)]
        if style == "comments":
            lines.insert(1, "")
            lines.insert(2, "  # here they are")
    before = draw(st.lists(filler, max_size=4, unique=True))
    after = [
        line for line in draw(st.lists(filler, max_size=2, unique=True)) if line not in before and "tags" not in line
    ]
    if sum("tags" in line for line in before) > 1:
        before = [line for line in before if "tags" not in line]
    rows = [row for line in (*before, *lines, *after) for row in line.split("@")]
    head = "\ufeff" if draw(st.booleans()) else ""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    blank = [""] * draw(st.integers(0, 2))
    return head + end.join([*blank, "---", *rows, "---", "# Model", "base_model: body/text", ""]), bases


@settings(max_examples=300, deadline=None)
@given(written_cards())
def test_lines_point_at_the_values(written: tuple[str, list[str]]) -> None:
    text, bases = written
    declaration, findings = read_card(text)
    assert [claim.id for claim in declaration.bases] == bases
    rows = re.split(r"\r\n|\r|\n", text.removeprefix("\ufeff"))
    for claim in declaration.bases:
        assert claim.line is not None
        assert claim.column is not None
        assert rows[claim.line - 1][claim.column - 1 :].lstrip("'\"").startswith(claim.id)
    fence = rows.index("---") + 1
    expected = [] if "license: mit" in rows else [("LIN206", fence)]
    expected += [("LIN205", claim.line or 0) for claim in declaration.bases]
    assert [(f.code, f.line) for f in findings] == expected
    assert declaration.line is not None
    assert rows[declaration.line - 1].startswith("base_model:")


def plain(value: Located) -> Any:
    """The Python value that a loader would make, for strings, null, lists and mappings."""
    if value.kind == "list":
        return [plain(item) for item in value.items]
    if value.kind == "mapping":
        return {entry.key.text: plain(entry.value) for entry in value.entries}
    return value.value


trees = st.recursive(
    st.none() | st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=6), trees, max_size=5), st.booleans(), st.booleans())
def test_reads_what_pyyaml_writes(tree: dict[str, Any], unicode: bool, flow: bool) -> None:
    text = yaml.safe_dump(tree, allow_unicode=unicode, default_flow_style=flow, sort_keys=False)
    front = read_front_matter("---\n" + text + "---\n")
    assert front.problems == ()
    assert {entry.key.text: plain(entry.value) for entry in front.entries} == yaml.safe_load(text)


# The client knows a lone carriage return before the closing fence, not behind it.
@pytest.mark.parametrize(
    "case", [c for c in GOOD if isinstance(c.content, str) and c.name != "old line ends"], ids=lambda c: c.name
)
def test_agrees_with_the_hub_client(case: Case) -> None:
    """huggingface_hub reads the same bases from the same text."""
    assert isinstance(case.content, str)
    value = ModelCard(case.content.removeprefix("\ufeff")).data.base_model
    names = [str(name).strip().partition("@")[0] for name in (value if isinstance(value, list) else [value])]
    assert names == [id_ for id_, _, _ in case.bases]
