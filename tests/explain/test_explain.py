"""The pages of the finding codes: complete, readable in a terminal and in Markdown, and true about what is fixable."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.card.beside import Beside
from lineage_plugin.card.hub_models import HubModel
from lineage_plugin.card.rules.registry import explains
from lineage_plugin.errors import UsageError
from lineage_plugin.explain import explain, index, markdown, page, pages
from lineage_plugin.explain.__main__ import files, main
from lineage_plugin.explain.pages import Part, _page
from lineage_plugin.findings import CODES, Rule, nearest_code
from tests.card import corpus


def test_every_code_has_a_page_that_says_something() -> None:
    assert [found.code for found in pages()] == list(CODES)
    for found in pages():
        rule = CODES[found.code]
        assert (found.title, found.level, found.uri) == (rule.title, rule.level, rule.help_uri), found.code
        assert re.fullmatch(r"(Report|Note)s \S.{10,150}\.", found.what), found
        assert found.why or found.details, found.code
        if found.code.startswith("LIN2"):
            assert found.why and found.example, found.code
        else:
            assert found.do or found.code == "LIN304", found.code


def test_no_mark_of_a_docstring_is_left_on_a_page() -> None:
    for found in pages():
        text = markdown(found)
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        assert "``" not in prose and "::" not in prose and ":func:" not in prose, found.code
        assert not re.search(r"^(Why|Fix|Do|Args|Returns|Example|Repair):", prose, flags=re.MULTILINE), found.code
        assert text.count("```") % 2 == 0 and text.startswith(f"# {found.code} {found.title}\n\n*{found.level}*")
        assert max(len(line) for line in prose.splitlines()) <= 120 and text.endswith("\n") and text[-2] != "\n"


RULE = Rule("LIN250", "a title", "note")
TEXT = """Report a thing
    of two lines.

    First of ``two`` words, see :func:`~a.b`.

    Say it like this::

        # so

        # and so

    Why: because it is
    so.

    Example::

        a: 1

        b:
          - 2

    Repair::

        a: 2

    After ``a``.

    Fix: sets `a` to 2.

    Args:
        x: No part of it.
    """


def test_a_text_is_taken_apart() -> None:
    found = _page(RULE, TEXT)
    assert found.what == "Reports a thing of two lines."
    assert found.details == (
        Part("", "First of `two` words, see `a.b`."),
        Part("", "Say it like this:"),
        Part("", "# so\n\n# and so", True),
    )
    assert found.why == "Because it is so."
    assert found.example == "a: 1\n\nb:\n  - 2"
    assert found.repair == "a: 2"
    assert found.more == (Part("", "After `a`."),)
    assert (found.fix, found.fixable, found.do) == ("Sets `a` to 2.", True, "")
    assert not _page(RULE, TEXT.replace("Fix: s", "S")).fixable


def test_a_code_is_explained_once() -> None:
    with pytest.raises(ValueError, match="explained already"):
        explains("LIN213")
    with pytest.raises(ValueError, match="not a finding code"):
        explains("LIN999")


def test_fixable_are_the_codes_of_which_there_is_a_repair() -> None:
    moved = {"o/n": HubModel("o/n", "found", id="o/m", commit="0" * 40)}
    adapter = Beside(
        files=("README.md", "adapter_config.json"), relation="adapter", relation_file="adapter_config.json"
    )
    readings = [
        read_card("---\nbase-model: o/n\nlicense: Apache 2.0\n---\n"),
        read_card("---\nbase_model: https://huggingface.co/o/n\nbase_model_relation: fine-tuned\n---\n"),
        read_card("---\nbase_model: o/n\nlicense: mit\n---\n", hub=moved),
        read_card("---\nbase_model: o/n\nbase_model_relation: finetune\n---\n", beside=adapter),
        *(
            read_card(case.content)
            for case in corpus.CASES
            if isinstance(case.content, str) and len(case.content) < 5000
        ),
    ]
    repaired = {found.code for _, findings in readings for found in findings if found.fix is not None}
    assert repaired == {found.code for found in pages() if found.fixable}


def test_the_terminal_shows_all_of_a_page() -> None:
    text = explain("lin205", width=60)
    found = page("LIN205")
    assert text.splitlines()[0] == "LIN205 base not pinned to a revision (note, fixable)"
    flat = " ".join(text.split())
    for part in (found.what, found.why, *(part.text for part in (*found.details, *found.more)), found.fix, found.uri):
        assert part in flat
    assert f"    {found.example.splitlines()[0]}\n" in text
    assert max(len(line) for line in text.splitlines() if "://" not in line and not line.startswith(" ")) <= 60
    assert "\x1b" not in text
    colored = explain("LIN205", color=True, width=60)
    assert colored.startswith("\x1b[1mLIN205") and re.sub(r"\x1b\[\d+m", "", colored) == text


def test_links_of_a_terminal_are_addresses() -> None:
    text = explain("LIN107")
    assert "the method (https://" in " ".join(text.split()) and "](" not in text


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("LIN215", "LIN215 is no finding code; did you mean LIN2"),
        ("LIN25", "did you mean LIN2"),
        ("E501", "E501 is no finding code; docs/findings.md lists them"),
        ("", "nothing is no finding code"),
        ("\x1b[31m::error::\nx" + "y" * 99, ": :error: :"),
    ],
)
def test_an_unknown_code_gets_one_line(wrong: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain(wrong)
    assert says in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 120


def test_the_nearest_code_is_one() -> None:
    assert nearest_code("lin101 ") == "LIN101" and nearest_code("LIN2O5") in CODES and nearest_code("zzz") is None


def test_the_index_keeps_an_anchor_for_every_code() -> None:
    text = index(pages())
    assert re.findall(r'\| <a id="(lin\d{3})"></a>', text) == [code.lower() for code in CODES]
    (row,) = [line for line in text.splitlines() if 'id="lin101"' in line]
    assert row == '| <a id="lin101"></a>[LIN101](rules/LIN101.md) | base not supported by the weights | error |  |'
    assert re.search(r"LIN205.*\| note \| yes \|\n", text)


def test_the_command_writes_the_pages_and_removes_old_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "LIN999.md").write_text("old")
    assert main([str(tmp_path)]) == 0
    written = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.md")}
    assert written == files()
    assert main([]) == 2 and "usage" in capsys.readouterr().err


def test_a_page_costs_no_heavy_import() -> None:
    heavy = "('numpy', 'rich', 'huggingface_hub', 'torch', 'jinja2')"
    script = (
        "import sys; from lineage_plugin.explain import explain; explain('LIN205'); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
