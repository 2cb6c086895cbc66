"""Repairs of malformed front matter: what is meant for certain, and nothing that is not."""

# Cases and strategies, one a line.
# ruff: noqa: E501

from __future__ import annotations

import re
from collections import Counter

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.linting.repair import fixed, repair
from tests.card.corpus import CASES, Case

SMALL = [case for case in CASES if case.content is not None and len(case.content) < 50_000]


def one(*rows: str) -> str:
    return "\n".join(["---", *rows, "---", ""])


def seen(card: bytes) -> list[tuple[str, str, str]]:
    """The findings of a card, without where they are: entries move when others go."""
    return [(f.code, f.level, re.sub(r"line \d+", "line", f.message)) for f in read_card(card)[1]]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_each_repair_of_the_corpus_removes_its_finding_and_makes_none(case: Case) -> None:
    assert case.content is not None
    content = case.content
    card = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    findings = [found for found in read_card(card)[1] if found.code == "LIN207"]
    for found in findings:
        if found.fix is None:
            continue
        done = repair(card, [found])
        assert done.applied == (found,), done.refused
        before, after = Counter(seen(card)), Counter(seen(done.card))
        # A base that can be read now may be seen not to be pinned, or to have a licence.
        assert {code for code, _, _ in after - before} <= {"LIN205", "LIN206"}
        assert any(code == "LIN207" for code, _, _ in before - after)


def codes(*rows: str) -> list[str]:
    return [f.fix.title if f.fix else "" for f in read_card(one(*rows))[1] if f.code == "LIN207"]


ADDRESS = "https://huggingface.co/o/n"
REPAIRED = [
    ([f"base_model: {ADDRESS}"], ["base_model: o/n"]),
    ([f"base_model: {ADDRESS}/tree/main"], ["base_model: o/n"]),
    ([f"base_model: '{ADDRESS}/tree/v1'  # x", "y: z"], ["base_model: 'o/n'  # x", "base_model_revision: v1", "y: z"]),
    ([f"base_model: {ADDRESS}/tree/1e5"], ["base_model: o/n", 'base_model_revision: "1e5"']),
    ([f"base_model: [{ADDRESS}/tree/v1]", "base_model_revision:"], ["base_model: [o/n]", "base_model_revision: v1"]),
    ([f"base_model: {ADDRESS}/tree/v1", "base_model_revision: v1"], ["base_model: o/n", "base_model_revision: v1"]),
    ([f"base_model: [{ADDRESS}, a/b]", "base_model_revision: [v1, v2]"], ["base_model: [o/n, a/b]", "base_model_revision: [v1, v2]"]),
    (["base_model:", "- a/b", f"- {ADDRESS}", "- a/b", "-", "- o/n"], ["base_model:", "- a/b", "- o/n"]),
    (["base_model: [a/b, c/d, a/b]", "base_model_revision: [v1, v2, v1]"], ["base_model: [a/b, c/d]", "base_model_revision: [v1, v2]"]),
    (["base_model: [null, c/d, '']"], ["base_model: [c/d]"]),
    (["base_model: a/b, c/d; a/b # x"], ["base_model: [a/b, c/d] # x"]),
    (["base_model: a/b a/b"], ["base_model: a/b"]),
    (["base_model: [a/b c/d]"], ["base_model: [a/b, c/d]"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), REPAIRED)
def test_what_is_meant_for_certain_is_repaired(before: list[str], after: list[str]) -> None:
    done = fixed(lambda card: read_card(card)[1], one(*before).encode())
    assert done.card.decode() == one(*after)
    assert done.refused == ()
    assert "" not in codes(*before)


@pytest.mark.parametrize(
    "rows",
    [
        # A revision that would be lost, or go to another base.
        [f"base_model: [{ADDRESS}/tree/v1, a/b]"],
        [f"base_model: {ADDRESS}/tree/v1", "base_model_revision: {a: b}"],
        ["base_model: [a/b, '', c/d]", "base_model_revision: [v1, v2]"],
        ["base_model: a/b c/d", "base_model_revision: v1"],
        # What would be left is nothing, or no model.
        ["base_model: ['', null]"],
        ["base_model: https://huggingface.co/none"],
        ["base_model: n/a n/a"],
    ],
)
def test_what_is_not_certain_is_left(rows: list[str]) -> None:
    assert set(codes(*rows)) == {""}


def test_findings_of_malformed_front_matter_have_columns() -> None:
    (found,) = [f for f in read_card(one("base_model: [a/b, 'a/b']"))[1] if f.code == "LIN207"]
    assert (found.line, found.column) == (2, 19)
