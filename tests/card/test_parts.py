"""Adapter configurations, references, the finding of LIN202, the registry of rules, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin.card import (
    BaseClaim,
    Card,
    Reference,
    Rejection,
    base_not_found,
    claims_of_weights,
    parse_reference,
    parse_revision,
    read_card,
    rule,
    rules,
)
from lineage_plugin.findings import CODES, Finding

CONFIG = '{{\n  "peft_type": "LORA",\n  "base_model_name_or_path": {name},\n  "revision": {revision}\n}}\n'


def config(name: str, revision: str = "null") -> str:
    return CONFIG.format(name=name, revision=revision)


def test_adapter_stands_in_for_a_silent_card() -> None:
    declaration, findings = read_card("---\nlicense: mit\n---\n", adapter_config=config('"o/n"', '"abcdef0"'))
    assert declaration.bases == (BaseClaim("o/n", "abcdef0", "adapter_config.json", 3, 30),)
    assert (declaration.file, declaration.line) == ("adapter_config.json", 3)
    assert (declaration.relation, declaration.effective_relation) == (None, "adapter")
    assert [(f.code, f.level, f.file, f.line) for f in findings] == [("LIN201", "note", "README.md", 1)]
    assert "o/n" in findings[0].message
    assert "adapter_config.json" in findings[0].message


def test_adapter_stands_in_for_a_missing_card() -> None:
    declaration, findings = read_card(None, adapter_config=config('"o/n"').encode())
    assert [claim.id for claim in declaration.bases] == ["o/n"]
    assert [(f.code, f.level, f.file, f.line) for f in findings] == [
        ("LIN201", "note", "README.md", None),
        ("LIN205", "note", "adapter_config.json", 3),
    ]
    assert "adapter_config.json" in findings[1].help


def test_card_comes_before_the_adapter() -> None:
    declaration, findings = read_card("---\nbase_model: a/b@v1\nlicense: mit\n---\n", adapter_config=config('"o/n"'))
    assert [claim.id for claim in declaration.bases] == ["a/b"]
    assert declaration.adapter == BaseClaim("o/n", None, "adapter_config.json", 3, 30)
    assert declaration.effective_relation == "adapter"
    (found,) = findings
    assert (found.code, found.level, found.file, found.line) == ("LIN204", "warning", "adapter_config.json", 3)
    assert "o/n" in found.message and "a/b" in found.message


def test_a_claim_of_the_weights_is_a_note_at_the_line_of_the_card() -> None:
    metadata: dict[str, object] = {
        "general.base_model.count": 3,
        "general.base_model.0.repo_url": "https://huggingface.co/O/N",
        "general.base_model.1.repo_url": "https://elsewhere.example/a/b",
        "general.base_model.2.repo_url": 7,
        "general.base_model.3.repo_url": "https://huggingface.co/not/counted",
    }
    stated = claims_of_weights(metadata, "m.gguf")
    assert stated == (BaseClaim("O/N", None, "m.gguf", None),)
    card = "---\nlicense: mit\nbase_model: a/b@v1\n---\n"
    _, (found,) = read_card(card, stated=stated)
    assert (found.code, found.level, found.file, found.line) == ("LIN204", "note", "README.md", 3)
    assert "m.gguf" in found.message
    # Ids are compared as the Hub does, without regard to case; and a silent card contradicts nothing.
    assert read_card(card.replace("a/b", "o/n"), stated=stated)[1] == ()
    assert [f.code for f in read_card("---\nlicense: mit\n---\n", stated=stated)[1]] == ["LIN201"]


def test_a_base_that_reads_like_a_copy_of_the_declared_one_is_a_note() -> None:
    for named, level in (("unsloth/N-bnb-4bit", "note"), ("x/N", "note"), ("x/N-Instruct", "warning")):
        _, (found,) = read_card("---\nbase_model: o/n@v1\nlicense: mit\n---\n", adapter_config=config(f'"{named}"'))
        assert (found.code, found.level) == ("LIN204", level)


@pytest.mark.parametrize("count", [True, -1, 0, None, "1", 1.0])
def test_a_count_that_is_no_count_claims_nothing(count: object) -> None:
    metadata = {"general.base_model.count": count, "general.base_model.0.repo_url": "https://huggingface.co/o/n"}
    assert claims_of_weights(metadata, "m.gguf") == ()


def test_adapter_pins_the_base_that_both_name() -> None:
    card = "---\nbase_model: [o/n, a/b@v1]\nlicense: mit\n---\n"
    declaration, findings = read_card(card, adapter_config=config('"o/n"', '"v2"'))
    assert [(claim.id, claim.revision, claim.file) for claim in declaration.bases] == [
        ("o/n", "v2", "README.md"),
        ("a/b", "v1", "README.md"),
    ]
    assert findings == ()


@pytest.mark.parametrize(
    ("content", "level", "line", "says"),
    [
        (config('"/home/user/model"'), "note", 3, "local path"),
        (config('"../model"'), "note", 3, "local path"),
        (config("17"), "warning", 3, "not text"),
        (config('["o/n"]'), "warning", 3, "not text"),
        ("{", "warning", None, "not valid JSON"),
        ("", "warning", None, "not valid JSON"),
        ("[1]", "warning", None, "not a JSON object"),
        ("[" * 200_000, "warning", None, "not valid JSON"),
        (b"\xff\xfe{}", "warning", None, "not valid JSON"),
        (b"\x80PKL", "warning", None, "not valid JSON"),
        (" " * (1 << 20) + "{}", "warning", None, "too large"),
        (config('"x\\u001b[31m\\n::error::y"'), "note", 3, "x : :error: :y"),
    ],
)
def test_unusable_adapter_configurations(content: str | bytes, level: str, line: int | None, says: str) -> None:
    declaration, findings = read_card("---\nbase_model: a/b@v1\nlicense: mit\n---\n", adapter_config=content)
    assert [claim.id for claim in declaration.bases] == ["a/b"]
    assert declaration.adapter is None
    assert declaration.is_adapter
    assert [(f.code, f.level, f.file, f.line) for f in findings] == [("LIN207", level, "adapter_config.json", line)]
    assert says in findings[0].message
    assert findings[0].message.isprintable()


@pytest.mark.parametrize("content", [config("null"), config('""'), "{}"])
def test_adapter_configurations_that_name_nothing(content: str) -> None:
    declaration, findings = read_card("---\nbase_model: a/b@v1\nlicense: mit\n---\n", adapter_config=content)
    assert declaration.adapter is None
    assert findings == ()


def test_the_place_of_an_adapter_is_that_of_the_last_value() -> None:
    rows = (
        '{"base_model_name_or_path": "a/a",',
        '"note": "\\"base_model_name_or_path\\": ",',
        '"base_model_name_or_path":',
        '"b/b"}',
    )
    content = "\r\n".join(rows)
    declaration, _ = read_card(None, adapter_config=content)
    assert [(claim.id, claim.line, claim.column) for claim in declaration.bases] == [("b/b", 4, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o/n", Reference("o/n")),
        (" gpt2\n", Reference("gpt2")),
        ("o/n@refs/pr/3", Reference("o/n", "refs/pr/3")),
        ("http://www.huggingface.co/o/n/blob/v1.0/config.json", Reference("o/n", "v1.0", True)),
        ("HTTPS://HUGGINGFACE.CO/o/n", Reference("o/n", None, True)),
        ("https://huggingface.co/o/n/", Reference("o/n", None, True)),
        ("https://huggingface.co/o/n/discussions/4", Reference("o/n", None, True)),
        ("https://huggingface.co/o/n/tree/refs%2Fpr%2F3", Reference("o/n", "refs/pr/3", True)),
        ("https://huggingface.co/o/n/tree/..%2F..%2Fx", Reference("o/n", None, True)),
        ("hf://o/n@v2", Reference("o/n", "v2", True)),
    ],
)
def test_references(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "/",
        "a/",
        "/a",
        "a//b",
        "-a/b",
        "a/b.",
        "a..b",
        "a/b/c",
        "a b",
        "~/x",
        "$HOME/x",
        "file:///x",
        "@v1",
        "https://huggingface.co/",
        "https://huggingface.co",
        "https://[::1/x",
        "https://huggingface.co/o/n/../../x/../y z",
        "https://huggingface.co:443/o/n",
        "https://user@huggingface.co/o/n",
        "//huggingface.co/o/n",
        "o/n@",
        "o/n@-x",
        "o/n@a b",
    ],
)
def test_rejected_references(text: str) -> None:
    result = parse_reference(text)
    if text.endswith("y z"):  # only the first two parts of an address are an id
        assert result == Reference("o/n", None, True)
    else:
        assert isinstance(result, Rejection)
        assert result.reason


@settings(max_examples=400, deadline=None)
@given(st.text(st.sampled_from("aZ09_.-/é "), max_size=12) | st.text(max_size=20))
def test_ids_are_those_of_the_hub_client(text: str) -> None:
    """What is accepted as a plain id, huggingface_hub accepts too, and the other way round."""
    result = parse_reference(text)
    ours = isinstance(result, Reference) and result.id == text and not result.address
    placeholder = isinstance(result, Rejection) and "placeholder" in result.reason
    try:
        validate_repo_id(text)
        theirs = True
    except HFValidationError:
        theirs = False
    assert ours == theirs or placeholder


@pytest.mark.parametrize("text", ["main", "v1.0", "refs/pr/1", "5a0bd8b1", "release/2024-01", "v1.0+cu121"])
def test_revisions(text: str) -> None:
    assert parse_revision(text) == text


@pytest.mark.parametrize(
    "text", ["", " ", "-x", "/x", "x/", "a..b", "a//b", "a/.b", "a.lock", "a b", "a\nb", "é", "x" * 600, "%2e"]
)
def test_rejected_revisions(text: str) -> None:
    assert parse_revision(text) is None


def test_base_not_found_points_at_the_claim() -> None:
    claim = BaseClaim("o/n", "v1", "README.md", 7, 3)
    finding = base_not_found(claim, "no such repository\n::error::x")
    assert (finding.code, finding.level, finding.file, finding.line) == ("LIN202", "error", "README.md", 7)
    assert finding.message == "declared base o/n@v1 cannot be opened: no such repository : :error: :x"
    assert base_not_found(claim).message == "declared base o/n@v1 cannot be opened"


def test_every_rule_is_documented() -> None:
    registered = rules()
    # LIN213 is about the findings of the others and no rule by itself.
    assert list(registered) == [code for code in CODES if code.startswith("LIN2") and code != "LIN213"]
    for code, function in registered.items():
        assert code in CODES
        text = function.__doc__ or ""
        assert "Why:" in text
        assert "Example::" in text
        assert "Repair::" in text


def test_registry_refuses_unknown_and_taken_codes() -> None:
    with pytest.raises(ValueError, match="not a finding code"):
        rule("LIN999")
    with pytest.raises(ValueError, match="has a rule already"):
        rule("LIN201")

    def nothing(card: Card) -> Iterator[Finding]:
        return iter(())

    assert nothing not in rules().values()
    with pytest.raises(TypeError):
        rules()["LIN101"] = nothing  # type: ignore[index]


def test_importing_is_light() -> None:
    heavy = "huggingface_hub numpy rich torch safetensors httpx requests"
    code = f"import sys, lineage_plugin.card; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
