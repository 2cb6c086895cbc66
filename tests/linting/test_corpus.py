"""Every card of the corpus gives exactly the findings that were written down for it, and honest cards no alarm."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import fields

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.card.gather import gather
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.findings import CODES
from tests.linting.cases import CORPUS, Case, cases, differences

BY_NAME = pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
PIN = "base_model_revision: 5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9"


@BY_NAME
def test_findings(case: Case) -> None:
    missing, unexpected = differences(case.labels, case.lint())
    assert not missing and not unexpected, f"{case.about}\nmissing: {missing}\nunexpected: {unexpected}"


def test_honest_cards_get_no_alarm() -> None:
    honest = [case for case in cases() if case.honest]
    assert len(honest) >= 80
    alarms = {case.name: [found for found in case.lint() if found.alarm] for case in honest}
    assert {name: found for name, found in alarms.items() if found} == {}


def test_corpus_is_a_corpus() -> None:
    """Labels that contradict themselves measure nothing."""
    assert len(cases()) >= 170
    assert {case.name.split("/")[0] for case in cases()} == {"honest", "bases", "licences", "files", "hub", "form"}
    assert [case.name for case in cases() if case.card is None] == ["form/no-card"]
    told = {field.name for field in fields(HubModel)}
    for case in cases():
        assert case.honest or case.labels, case.name
        assert not case.honest or not [label for label in case.labels if label.alarm], case.name
        assert case.about and not set(case.neighbours) & set(case.unwritten), case.name
        assert case.hub is None or all({f.name for f in fields(model)} == told for model in case.hub.values())
        for label in case.labels:
            assert label.code in CODES and label.level in ("error", "warning", "note"), (case.name, label)
    # Every code of cards is expected somewhere.
    assert {label.code for case in cases() for label in case.labels} == {c for c in CODES if c.startswith("LIN2")}


def test_bytes_survive_git() -> None:
    """Line ends and marks of byte order are what some cases are about."""
    assert (CORPUS / ".gitattributes").read_text() == "* -text\n"
    contents = {case.name: case.card for case in cases()}
    assert contents["form/crlf"].count(b"\r\n") == contents["form/crlf"].count(b"\n") > 3
    assert b"\n" not in contents["form/cr-only"] and b"\r" in contents["form/cr-only"]
    assert contents["form/bom"].startswith(b"\xef\xbb\xbf---")
    assert contents["form/utf16"][:2] in (b"\xff\xfe", b"\xfe\xff")


@BY_NAME
def test_places_exist_and_texts_can_be_shown(case: Case) -> None:
    for found in case.findings():
        assert all(text.isprintable() and "::" not in text for text in (found.message, found.help))
        if found.line is None:
            continue
        assert found.file is not None
        content = (case.folder / found.file).read_bytes().decode("utf-8-sig", "replace")
        lines = re.split(r"\r\n|\r|\n", content)
        assert 1 <= found.line <= len(lines), found
        assert found.column is None or 1 <= found.column <= len(lines[found.line - 1]) + 1, found


def front(*lines: str, body: str = "# Model\n") -> str:
    return "\n".join(["---", *lines, "---", body])


def _laughs() -> str:
    rows = [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    return front("a: &a [x, x, x, x, x, x, x, x, x]", *rows, "base_model: o/n")


GOOD = ("license: mit", "base_model: o/n", PIN, "base_model_relation: finetune")
MONSTERS: dict[str, tuple[Callable[[], str | bytes], list[str]]] = {
    "2 MB of text": (lambda: front(*GOOD, body="word " * 400_000), []),
    "2 MB in one line": (lambda: front(*GOOD, body="[" * 2_000_000), []),
    "2 MB of generated sentences": (
        lambda: front(*GOOD, body="This model is a fine-tuned version of [o/n](https://huggingface.co/o/n)\n" * 28_000),
        [],
    ),
    "2 MB of begun sentences": (lambda: front(*GOOD, body="This model is a fine-tuned version of " * 54_000), []),
    "2 MB of begun blocks": (lambda: front(*GOOD, body="```yaml\nmodels:\n- model: " * 80_000), []),
    "100,000 blocks": (lambda: front(*GOOD, body="```yaml\na: 1\n```\n" * 100_000), []),
    "a bomb in a recipe": (
        lambda: front(*GOOD, body=f"```yaml\nmerge_method: linear\n{_laughs()}\n```\n"),
        [],
    ),
    "billion laughs": (_laughs, ["LIN207"]),
    "100,000 keys": (lambda: front(*(f"k{i}: v" for i in range(100_000))), ["LIN207"]),
    "one key 100,000 times": (lambda: front(*["tags: [a]"] * 40_000), ["LIN207"]),
    "deep lists": (lambda: front("x: " + "[" * 100_000), ["LIN207"]),
    "deep mappings": (lambda: front("x: " + "{a: " * 50_000), ["LIN207"]),
    "front matter of 2 MB": (lambda: front("x: " + "y" * 2_000_000, "base_model: o/n"), ["LIN207"]),
    "one huge line": (lambda: front(*GOOD, "x: " + "y" * 400_000), []),
    "100,000 comments": (lambda: front(*GOOD, *["# lineage: ignore[LIN2"] * 16_000), []),
    "thousands of ignores": (
        lambda: front("license: mit", "base_model: o/n", *["# lineage: ignore-file[LIN205] why"] * 10_000),
        ["LIN205"],
    ),
    "null bytes": (lambda: b"\0" * 2_000_000, ["LIN207"]),
    "line ends": (lambda: b"\r\n" * 1_000_000, ["LIN201"]),
    "brackets to fill in": (lambda: front(*GOOD, body="- **License:** [More Information Needed\n" * 50_000), []),
    "braces to fill in": (lambda: front(*GOOD, body="- **License:** {{ " * 100_000), []),
}


@pytest.mark.parametrize("name", MONSTERS)
def test_monsters_are_answered_in_two_seconds_of_work(name: str) -> None:
    make, codes = MONSTERS[name]
    card = make()
    started = time.process_time()
    text = card if isinstance(card, str) else card.decode("utf-8", "surrogateescape")
    beside = gather(lambda file, limit: None, ("README.md", "model.safetensors"), text=text)
    found = {finding.code for finding in read_card(card, beside=beside)[1]}
    assert time.process_time() - started < 2
    assert set(codes) <= found
    if not codes:
        assert not {code for code in found if code in ("LIN201", "LIN204", "LIN205", "LIN206", "LIN207")}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b'{"a":' * 100_000),
        ("config.json", b'{"_name_or_path": "' + b"x/" * 1_000_000 + b'"}'),
        ("config.json", b'{"vocab_size": ' + b"9" * 1_000_000 + b"}"),
        ("tokenizer_config.json", b'{"added_tokens_decoder": {' + b'"7": {},' * 200_000 + b'"8": {}}}'),
        ("mergekit_config.yml", _laughs().strip("-\n").encode()),
        ("mergekit_config.yml", b"merge_method: linear\nmodels:\n" + b"- model: o/n\n" * 80_000),
        ("mergekit_config.yml", b"models: " + b"[" * 1_000_000),
        ("adapter_config.json", b"[" * 1_000_000),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:24].decode(),
)
def test_monsters_beside_a_card(file: str, content: bytes) -> None:
    card = front(*GOOD)
    started = time.process_time()
    beside = gather(lambda name, limit: content if name == file else None, ("README.md", file), text=card)
    read_card(card, adapter_config=content if file.startswith("adapter") else None, beside=beside)
    assert time.process_time() - started < 2
