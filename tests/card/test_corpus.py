"""Every card of the corpus, through both parsers, gives exactly the expected bases and findings."""

from __future__ import annotations

import pytest
import yaml

from lineage_plugin.card import Located, read_card, read_front_matter
from lineage_plugin.findings import CODES
from tests.card.corpus import CASES, Case


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of PyYAML's two parsers reads the cards."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML was built without libyaml")
    return str(request.param)


def test_corpus_is_a_corpus() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert len(names) >= 45


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_card(case: Case, parser: str) -> None:
    declaration, findings = read_card(case.content)

    assert tuple((b.id, b.revision, b.line) for b in declaration.bases) == case.bases
    assert tuple((f.code, f.level, f.line) for f in findings) == case.findings
    assert declaration.relation == case.relation
    assert declaration.effective_relation == case.effective
    if case.says:
        assert any(case.says in finding.message for finding in findings), [f.message for f in findings]
    for finding in findings:
        assert finding.file == "README.md"
        assert finding.code in CODES
        for text in (finding.message, finding.help):
            assert text.isprintable(), text
            assert len(text) < 320
            assert "::" not in text
            text.encode("utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lines_exist(case: Case) -> None:
    """A finding points at a line that the file has."""
    if case.content is None:
        return
    text = case.content if isinstance(case.content, str) else case.content.decode("utf-8", "replace")
    last = len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    _, findings = read_card(case.content)
    assert all(finding.line is None or 1 <= finding.line <= last for finding in findings)


@pytest.mark.parametrize(
    ("name", "relation"),
    [
        ("Finetune", "finetune"),
        ("fine-tuned", "finetune"),
        ("LoRA", "adapter"),
        ("merged", "merge"),
        ("quantised", "quantized"),
        ("GGUF", "quantized"),
    ],
)
def test_nearest_relation_is_suggested(name: str, relation: str) -> None:
    _, findings = read_card(f"---\nlicense: mit\nbase_model: o/n@v1\nbase_model_relation: {name}\n---\n")
    assert [finding.code for finding in findings] == ["LIN203"]
    assert findings[0].help.startswith(f"Did you mean {relation}?")


def test_no_suggestion_for_something_else() -> None:
    _, findings = read_card("---\nlicense: mit\nbase_model: o/n@v1\nbase_model_relation: xyzzy\n---\n")
    assert findings[0].help == "Use one of adapter, finetune, merge, quantized."


def test_other_values_are_read() -> None:
    declaration, _ = read_card(
        "---\nlicense: [mit, apache-2.0]\nlibrary_name: transformers\nnew_version: o/next\n---\n", file="CARD.md"
    )
    assert (declaration.license, declaration.library_name, declaration.new_version) == (
        "mit, apache-2.0",
        "transformers",
        "o/next",
    )
    assert (declaration.file, declaration.line) == (None, None)


def test_display_values_are_inert() -> None:
    declaration, _ = read_card('---\nlicense: "mit\\e[31m\\n::error::"\nlibrary_name: "' + "x" * 5000 + '"\n---\n')
    assert declaration.license == "mit : :error: :"
    assert len(declaration.library_name or "") == 120


def test_position_of_the_declaration() -> None:
    declaration, findings = read_card("---\nlicense: mit\nbase_model:\n\n- o/n\n---\n", file="docs/CARD.md")
    assert (declaration.file, declaration.line) == ("docs/CARD.md", 3)
    assert (declaration.bases[0].file, declaration.bases[0].line, declaration.bases[0].column) == ("docs/CARD.md", 5, 3)
    assert [(f.file, f.line) for f in findings] == [("docs/CARD.md", 5)]


def test_kinds_and_columns(parser: str) -> None:
    front = read_front_matter("---\na: [x, 1, 2.5, yes, 2024-01-01, null, {k: 'v'}]\n---\n")
    value = front.get("a")
    assert isinstance(value, Located)
    assert [(item.kind, item.column) for item in value.items] == [
        ("string", 5),
        ("number", 8),
        ("number", 11),
        ("boolean", 16),
        ("date", 21),
        ("null", 33),
        ("mapping", 39),
    ]
    assert value.items[1].value == "1"
    assert [(e.key.text, e.value.text, e.value.column) for e in value.items[6].entries] == [("k", "v", 43)]


def test_values_are_immutable_and_hashable() -> None:
    front = read_front_matter("---\na: {b: [c]}\nbase_model: 3\n---\n")
    declaration, findings = read_card("---\na: {b: [c]}\nbase_model: 3\n---\n")
    assert len({front, declaration, *findings}) == 2 + len(findings)
    with pytest.raises(AttributeError):
        front.line = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        declaration.relation = "merge"  # type: ignore[misc]
