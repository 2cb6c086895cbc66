"""The lineage section of a model card: what it says, how it is read, and that nothing in it can leave it."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage_plugin._links import DOCS
from lineage_plugin.api import check
from lineage_plugin.arguments import parser
from lineage_plugin.card.section import with_section
from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.judge.types import Report
from lineage_plugin.options import Options
from lineage_plugin.report import phrases
from lineage_plugin.report.card_section import card_section
from tests.hub import LocalHub
from tests.report import samples
from tests.report.test_markup import Page, attacks, rendered

COMMIT = "5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9"
EXAMPLES = Path(__file__).parents[2] / "examples"
ELEMENTS = {"h2", "p", "ul", "li", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "pre", "a"}
MARKS = ("<!-- lineage:end -->", "\n<!-- lineage:end -->\n", "<!-- lineage:begin -->", "-->", "<!--", "</code></pre>")


def section_of(report: Report) -> str:
    written = card_section(report)
    assert written is not None
    return written


def pinned(name: str = "zoo/atlas", revision: str = COMMIT) -> Report:
    return samples.report(samples.comparison(base=samples.model(name, revision=revision)))


def page_of(report: Report) -> Page:
    """Return the page of a card that ends in the section; nothing else may be in it."""
    card = with_section(b"", section_of(report)).decode()
    page = Page(rendered(card))
    assert {*page.elements} <= ELEMENTS, {*page.elements} - ELEMENTS
    assert [comment.split(" - ")[0].strip() for comment in page.other] == ["lineage:begin", "lineage:end"]
    assert page.links == [f"{DOCS}/method.md"]
    assert page.references() == []
    assert not page.open
    assert page.elements.count("h2") == page.elements.count("table") == page.elements.count("pre") == 1
    assert page.rows == [6] * (1 + len(report.comparisons))
    return page


def flat(page: Page) -> str:
    return " ".join(page.text.split())


def command_of(report: Report) -> list[str]:
    """Return the words of the command as a shell reads them."""
    (block,) = re.findall(r"^`{3,}bash\n(.*?)^`{3,}$", section_of(report), re.DOTALL | re.MULTILINE)
    return shlex.split(block.replace("\\\n", ""))


@pytest.mark.parametrize("make", [make for make in samples.ALL if make is not samples.no_base])
def test_one_table_one_heading_and_nothing_raw(make: Callable[[], Report]) -> None:
    page_of(make())


def test_nothing_compared_is_no_section() -> None:
    assert card_section(samples.no_base()) is None


@pytest.mark.parametrize(
    "make", [make for make in samples.ALL if make not in (samples.no_base, samples.hostile, samples.merged)]
)
def test_the_sentences_are_those_of_the_reports(make: Callable[[], Report]) -> None:
    report = make()
    (one,) = report.comparisons[:1]
    said = flat(page_of(report))
    assert phrases.relation(one, declared=False)[1] in said
    assert phrases.UNSEEN in said
    if one.relation != "identical":
        assert phrases.coins(one.evidence, calibrated=one.calibrated is not None) in said
    assert ("calibrated statistics" in said) == (one.relation in ("derived", "shared-init"))


def test_a_base_of_the_hub_is_named_with_its_commit() -> None:
    report = pinned()
    written = section_of(report)
    assert f"- **`zoo/atlas`** at commit `{COMMIT[:12]}`: derived (fine-tuned): " in written
    assert (
        "| `zoo/atlas` | `5a0bd8b1e0e0` | derived (fine-tuned) | 1,536/1,536 | 459.8 | 98.1% (97.9% to 98.3%) |"
        in written
    )
    assert command_of(report)[:5] == ["lineage", "check", ".", "--base", f"zoo/atlas@{COMMIT}"]


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("gpt2", f"gpt2@{COMMIT}"),
        ("zoo/atlas/unet", f"zoo/atlas@{COMMIT}/unet/"),
        ("zoo/atlas/q4/model.gguf", f"zoo/atlas@{COMMIT}/q4/model.gguf"),
    ],
)
def test_the_command_names_what_was_compared(name: str, ref: str) -> None:
    assert command_of(pinned(name))[4] == ref


def test_the_command_has_the_settings_and_is_one_of_ours() -> None:
    chosen = replace(samples.report().settings, bar=6.5, seed=7, exhaustive=True, budget=5_000_000, fingerprints="off")
    words = command_of(replace(pinned(), settings=chosen))
    found = parser().parse_args(words[1:])
    assert (found.bar, found.seed, found.exhaustive, found.budget, found.fingerprints) == (
        6.5,
        7,
        True,
        5_000_000,
        "off",
    )
    assert (found.model, found.base) == (".", [f"zoo/atlas@{COMMIT}"])
    plain = command_of(pinned())
    assert plain[5:] == ["--bar", "9", "--seed", "0"]


@pytest.mark.parametrize(
    "place", ["/home/someone/models/the base", "../models/the base", "C:\\Users\\someone\\the base", "models/the base/"]
)
def test_of_a_local_base_only_the_folder_is_named(place: str) -> None:
    report = replace(samples.report(samples.comparison(base=samples.model(place))), folder="/home/someone/x", card="/y")
    written = section_of(report)
    assert "**`the base`** (a local copy): derived" in written
    assert "| `the base` | a local copy |" in written
    assert command_of(report)[4] == "path/to/the base"
    assert not re.search(r"someone|models/|Users|zoo|/y", written)


@pytest.mark.parametrize("place", [".", "..", "/", "\u200b"])
def test_a_folder_without_a_name_is_called_base(place: str) -> None:
    assert "**`base`** (a local copy)" in section_of(samples.report(samples.comparison(base=samples.model(place))))


def test_nothing_that_changes_from_run_to_run_is_said() -> None:
    report = pinned()
    (one,) = report.comparisons
    cost = Cost(1, 2, 3, 4, 5.6)
    other = replace(
        report,
        created="2027-01-01T00:00:00+00:00",
        cost=cost,
        suspect=replace(report.suspect, id="other/name", revision=COMMIT),
        comparisons=(replace(one, suspect_cost=cost, base_cost=cost),),
        hub="http://127.0.0.1:1",
        folder="/somewhere",
    )
    assert section_of(other) == section_of(report)


def test_digests_are_listed_or_summed_up(tmp_path: Path) -> None:
    def with_files(number: int) -> Report:
        names = [f"model-{i:05}-of-{number:05}.safetensors" for i in range(1, number + 1)]
        for name in names:
            (tmp_path / name).write_text(name)
        digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in reversed(names)}
        return replace(pinned(), suspect=samples.model("zoo/x", sha256={**digests, "odd": "no digest"}))

    few = with_files(4)
    for name, digest in few.suspect.sha256.items():
        assert (f"- `{name}`: `{digest}`" in section_of(few)) == (name != "odd")
    many = section_of(with_files(30))
    assert "30 weight files, `model-00001-of-00030.safetensors` to `model-00030-of-00030.safetensors`" in many
    if shutil.which("sha256sum"):
        command = "LC_ALL=C sha256sum model-*-of-00030.safetensors | sha256sum"
        printed = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert printed.stdout.split()[0] in many
    assert "sha256" not in section_of(replace(pinned(), suspect=samples.model("zoo/x", sha256={})))


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
@pytest.mark.parametrize(
    "name", ["$(touch x)", "`touch x`", "'; touch x; '", '"$HOME"', "a b\\", "-x", "a\n touch x", "*"]
)
def test_a_shell_obeys_nothing_in_the_command(name: str, tmp_path: Path) -> None:
    report = samples.report(samples.comparison(base=samples.model(name)))
    (block,) = re.findall(r"^`{3,}bash\n(.*?)^`{3,}$", section_of(report), re.DOTALL | re.MULTILINE)
    script = f"lineage() {{ printf '%s\\n' \"$@\"; }}\n{block}"
    ran = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    words = ran.stdout.split("\n")[:-1]
    assert words == command_of(report)[1:]
    assert words[3].startswith("path/to/")
    assert not [*tmp_path.iterdir()]


def test_many_bases_are_cut_and_counted() -> None:
    report = samples.report(*[samples.comparison(base=samples.model(f"zoo/b{i}", revision=COMMIT)) for i in range(40)])
    written = section_of(report)
    assert "compared with those of 40 others" in written
    assert "- 24 more are not shown." in written
    assert written.count("| `zoo/b") == written.count("- **`zoo/b") == written.count("--base ") == 16


def test_a_hostile_report_stays_in_its_section() -> None:
    report = samples.hostile()
    card = with_section(b"# Mine\n", section_of(report))
    assert with_section(card, None) == b"# Mine\n"
    assert with_section(card, section_of(report)) == card


@settings(max_examples=150, deadline=None)
@given(attacks() | st.lists(st.sampled_from(MARKS) | attacks(), max_size=4).map("".join), st.booleans())
def test_no_name_leaves_the_section(name: str, on_hub: bool) -> None:
    revision = name if on_hub else None
    one = samples.comparison(
        base=samples.model(name, revision=revision, sha256={name: "ab" * 32}), summary=name, kind=name, part=name
    )
    report = samples.report(one, suspect=samples.model(name, sha256={name: "ab" * 32}))
    page_of(report)
    written = section_of(report)
    for card in (b"", b"# Mine\r\n", b"<pre>\n", b"<!-- x"):
        once = with_section(card, written)
        assert with_section(once, written) == once
        assert with_section(once, None) == card
    words = command_of(report)
    assert len(words) == 9
    assert words[:4] == ["lineage", "check", ".", "--base"]


def test_the_whole_circle_with_real_models(tmp_path: Path) -> None:
    """Check, write, check again: the same bytes, in whatever folder the models are."""
    for place in ("one", "two"):
        shutil.copytree(EXAMPLES / "honest", tmp_path / place / "honest")
        shutil.copytree(EXAMPLES / "base", tmp_path / place / "base")
    options = Options(digests=True)
    seen = []
    for place in ("one", "two"):
        card = tmp_path / place / "honest" / "README.md"
        original = card.read_bytes()
        for _ in range(2):
            report = check(str(tmp_path / place / "honest"), bases=[str(tmp_path / place / "base")], options=options)
            section = section_of(report)
            card.write_bytes(with_section(card.read_bytes(), section))
            seen.append(card.read_bytes())
        assert str(tmp_path) not in section
        assert "1,792/1,792" in section
        assert hashlib.sha256((EXAMPLES / "honest" / "model.safetensors").read_bytes()).hexdigest() in section
        assert with_section(card.read_bytes(), None) == original
    assert len({*seen}) == 1


def test_the_same_section_from_a_folder_and_from_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "base", hub.root / "examples" / "base")
    shutil.copytree(EXAMPLES / "honest", hub.root / "examples" / "honest")
    folder = shutil.copytree(EXAMPLES / "honest", tmp_path / "honest")
    options = Options(endpoint=hub.endpoint, digests=True, fingerprints="off")
    here = check(str(folder), bases=["examples/base@main"], options=options)
    there = check("examples/honest", bases=["examples/base@main"], options=options)
    assert section_of(here) == section_of(there)
    commit = here.comparisons[0].base.revision
    assert commit is not None
    assert f"`examples/base`** at commit `{commit[:12]}`" in section_of(here)
    assert f"examples/base@{commit}" in command_of(here)
