"""The seed list: what it must hold, what is refused, and the page that shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lineage_plugin.checkpoint.names import is_model_id
from lineage_plugin.errors import InputError
from lineage_plugin.fingerprint.seed import SeedEntry, read_seed, seed_entries, seed_table

ROOT = Path(__file__).parents[2]
FILE = ROOT / "lineage_plugin" / "fingerprint" / "seed" / "bases.jsonl"
PAGE = ROOT / "docs" / "bases.md"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def line(**changed: object) -> str:
    return json.dumps({"id": "owner/name", "commit": None, "family": "GPT-2", "gated": None, **changed})


def test_the_list_is_whole() -> None:
    entries = seed_entries()
    assert len(entries) == len(FILE.read_text(encoding="utf-8").splitlines())
    assert 300 <= len(entries) <= 500
    assert all(is_model_id(entry.id) for entry in entries)
    assert len({entry.id.lower() for entry in entries}) == len(entries)
    assert [(e.family, e.id) for e in entries] == sorted((e.family, e.id) for e in entries)
    assert seed_entries() is entries


def test_no_commit_without_its_source() -> None:
    pinned = [entry for entry in seed_entries() if entry.commit is not None]
    assert len(pinned) >= 200
    assert len({entry.commit for entry in pinned}) == len(pinned), "two repositories do not share a commit"
    for entry in seed_entries():
        assert bool(entry.source) == (entry.commit is not None), entry.id
        assert entry.source in ("", "cache paths") or re.fullmatch(r"[\w.-]+(/[\w.-]+){2,}", entry.source), entry.id


@pytest.mark.parametrize(
    "id",
    ["openai-community/gpt2", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-7B", "google-bert/bert-base-uncased"],
)
def test_everyones_bases_are_in_it(id: str) -> None:
    (entry,) = [entry for entry in seed_entries() if entry.id == id]
    assert entry.commit is not None


def test_a_line_becomes_an_entry() -> None:
    text = "\n".join(
        (line(), line(id="owner/other", commit=COMMIT, gated=True, note="mirror", source="owner/repository/file.py"))
    )
    assert read_seed(text) == (
        SeedEntry("owner/name", None, "GPT-2", None),
        SeedEntry("owner/other", COMMIT, "GPT-2", True, "mirror", "owner/repository/file.py"),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an object"),
        ('{"id": "owner/name"}', "not an object"),
        (line(weights="x"), "not an object"),
        (line(id="name"), "owner/name"),
        (line(id="owner/../name"), "owner/name"),
        (line(id="owner/name\n"), "owner/name"),
        (line(id=7), "owner/name"),
        (line(commit="main", source="cache paths"), "40 hexadecimal"),
        (line(commit=COMMIT.upper(), source="cache paths"), "40 hexadecimal"),
        (line(commit=COMMIT + "\n", source="cache paths"), "40 hexadecimal"),
        (line(commit=7), "40 hexadecimal"),
        (line(commit=COMMIT), "needs its source"),
        (line(source="cache paths"), "needs its source"),
        (line(gated="yes"), "gated"),
        (line(gated=1), "gated"),
        (line(family=""), "family"),
        (line(family="a | b"), "family"),
        (line(note="two\nlines"), "note"),
        (line(note="\x1b[31m"), "note"),
        (line(note="x" * 121), "note"),
        (line(commit=COMMIT, source=[]), "source"),
    ],
)
def test_a_damaged_line_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)) as refused:
        read_seed(f"{line(id='first/one', family='A')}\n{text}\n\n")
    assert str(refused.value).startswith("bases.jsonl line 2: ") and "\n" not in str(refused.value)


def test_doubles_and_disorder_are_refused() -> None:
    with pytest.raises(InputError, match="line 2: OWNER/Name stands here twice"):
        read_seed(f"{line()}\n{line(id='OWNER/Name', family='Z')}")
    with pytest.raises(InputError, match=r"line 2: owner/a is out of order"):
        read_seed(f"{line(id='owner/b')}\n{line(id='owner/a')}")
    with pytest.raises(InputError, match=r"line 2: owner/b is out of order"):
        read_seed(f"{line(id='owner/a', family='B')}\n{line(id='owner/b', family='A')}")


def test_the_page_holds_the_table_of_the_list() -> None:
    page = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- table: python -m lineage_plugin.fingerprint.seed -->\n", "<!-- end of table -->"
    assert page.split(start)[1].split(end)[0] == seed_table(), "python -m lineage_plugin.fingerprint.seed"


def test_the_table_has_every_model_under_its_family() -> None:
    counts, *families = re.split(r"^### ", seed_table(), flags=re.MULTILINE)
    assert counts.startswith(f"{len(seed_entries())} models of {len(families)} families: ")
    shown = [
        (family.partition("\n")[0], id) for family in families for id in re.findall(r"^\| `(.+?)` \|", family, re.M)
    ]
    assert shown == [(entry.family, entry.id) for entry in seed_entries()]


def test_importing_the_package_does_not_read_the_list() -> None:
    code = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == 'open' else None)\n"
        "import lineage_plugin, lineage_plugin.fingerprint.seed as seed\n"
        "read = lambda: any(name.endswith('bases.jsonl') for name in opened)\n"
        "before = read(); seed.seed_entries(); print(before, read())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "False True\n", done.stderr
