"""``lineage lint`` as its users meet it: many cards, repairs, explanations, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lineage_plugin.checkpoint import transport
from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.cli import main
from lineage_plugin.errors import LineageError
from lineage_plugin.explain import explain
from lineage_plugin.linting.lint import lint
from lineage_plugin.linting.walk import cards_of
from lineage_plugin.report.json_report import schema, to_dict
from tests.hub import LocalHub
from tests.hub.samples import contents

HASH = "5a0bd8b1e0e0f5b7d4f6a1c9b2e3d4f5a6b7c8d9"
HONEST = ("license: mit", f"base_model: o/n@{HASH}")
ADDRESS = ("license: mit", f"base_model: https://huggingface.co/o/n/tree/{HASH}")  # a note, and fixable
UNKNOWN = (*HONEST, "base_model_relation: remix")  # a warning, and nothing to repair
BROKEN = ("license: mit", "base_model: /home/me/model")  # an error


def card(path: Path, lines: tuple[str, ...] = HONEST) -> Path:
    """Write a card with this front matter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["---", *lines, "---", "# A model", ""]), encoding="utf-8")
    return path


class Run:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str | Path) -> int:
        code = main(["lint", *map(str, arguments)])
        self.out, self.err = self._capsys.readouterr()
        return code

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The reports that were written as JSON."""
        document = json.loads(self.out)
        reports: list[dict[str, Any]] = document.get("reports", [document])
        for report in reports:
            jsonschema.Draft202012Validator(schema()).validate(report)
        return reports

    @property
    def found(self) -> list[list[str]]:
        """The codes of the findings of each report."""
        return [[finding["code"] for finding in document["findings"]] for document in self.documents]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


# Which cards are meant.


def test_several_cards_are_reported_in_their_order_and_each_once(run: Run, tmp_path: Path) -> None:
    a, b, c = (card(tmp_path / name, lines) for name, lines in (("a.md", ADDRESS), ("b.md", UNKNOWN), ("c.md", HONEST)))
    assert run(b, a, c, b, "--format", "json") == 0
    assert [document["suspect"]["id"] for document in run.documents] == [str(b), str(a), str(c)]
    assert run.found == [["LIN203"], ["LIN207"], []]
    assert run.err == ""
    assert run(b, a, c, "--fail-on", "warning") == 1
    assert run(a, c, "--fail-on", "warning") == 0
    assert run(a, c, "--fail-on", "note") == 1
    assert run(a, card(tmp_path / "d.md", BROKEN)) == 1
    assert run(a, tmp_path / "d.md", "--fail-on", "never") == 0


def test_the_text_of_many_is_one_list_of_findings(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("a", ADDRESS), ("b", UNKNOWN), ("c", HONEST), ("d", HONEST)):
        card(Path(name) / "README.md", lines)
    assert run("a", "b", "c", "d") == 0
    rows = run.out.splitlines()
    assert [row.split(" LIN")[0] for row in rows if " LIN" in row] == ["a/README.md:3:13:", "b/README.md:4:22:"]
    assert rows[-2:] == ["4 cards, 2 without findings.", "1 warning, 1 note, 1 fixable with --fix."]
    assert run("c", "d") == 0
    assert run.out.splitlines() == [
        "  Licences    2 bases of unknown licence, with which none was compared.",
        "",
        "2 cards, 2 without findings.",
    ]
    # One card by itself has the headline of every other report.
    assert run("c") == 0
    assert run.out.splitlines()[-1] == "No findings." and "cards" not in run.out


@pytest.mark.parametrize("format", ["github", "html", "markdown", "sarif"])
def test_every_format_takes_many(run: Run, tmp_path: Path, format: str) -> None:
    places = [card(tmp_path / name / "README.md", UNKNOWN) for name in ("first", "second")]
    assert run(*places, "--format", format) == 0
    for name in ("first", "second"):
        assert name in run.out
    assert run.out.count("LIN203") >= 2


def test_folders_of_models(run: Run, tmp_path: Path) -> None:
    for name in ("b/x", "a/y", "a/x"):
        card(tmp_path / name / "README.md", UNKNOWN)
    card(tmp_path / ".cache" / "README.md")
    card(tmp_path / "a" / "notes.md")
    (tmp_path / "a" / "README.md").write_text("# What is in here\n")
    (tmp_path / "uncarded").mkdir()
    (tmp_path / "uncarded" / "model.safetensors").write_bytes(b"")
    models = [str(tmp_path / name) for name in ("a/x", "a/y", "b/x", "uncarded")]
    assert cards_of([str(tmp_path)]) == tuple(models)
    assert run(tmp_path, "--format", "json") == 0
    assert run.found == [["LIN203"], ["LIN203"], ["LIN203"], ["LIN201"]]
    assert run(tmp_path, tmp_path / "a", tmp_path / "b" / "x" / "README.md", "--format", "json") == 0
    assert [document["suspect"]["id"] for document in run.documents] == models


def test_a_model_stands_for_itself(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "README.md", UNKNOWN)
    card(tmp_path / "docs" / "README.md", BROKEN)
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "o/n"}')
    assert cards_of([str(tmp_path)]) == (str(tmp_path),)
    assert run(tmp_path, "--format", "json") == 0
    assert run.found == [["LIN203"]]


def test_the_current_folder_is_linted_when_nothing_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card(tmp_path / "README.md", UNKNOWN)
    monkeypatch.chdir(tmp_path)
    assert run("--format", "json", "--fail-on", "warning") == 1
    assert run.found == [["LIN203"]]


def test_folders_of_cards(run: Run, tmp_path: Path) -> None:
    cards = [card(tmp_path / name, UNKNOWN) for name in ("b.md", "a.MD", "deeper/c.md", "deeper/d.md")]
    (tmp_path / "notes.txt").write_text("---\nbase_model: 3\n---\n")
    card(tmp_path / ".git" / "x.md")
    assert set(cards_of([str(tmp_path)])) == {str(path) for path in cards}
    # What lies beside one of many cards is not of its model.
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert run(tmp_path, "--format", "json", "--fail-on", "warning") == 1
    assert run.found == [["LIN203"]] * 4


def test_an_empty_folder_is_a_model_without_a_card(run: Run, tmp_path: Path) -> None:
    assert cards_of([str(tmp_path)]) == (str(tmp_path),)
    assert run(tmp_path, "--format", "json") == 0
    ((finding,),) = (document["findings"] for document in run.documents)
    assert (finding["code"], finding["line"]) == ("LIN201", None) and "there is no README.md" in finding["message"]


def test_ids_stay_ids() -> None:
    assert cards_of(["owner/name", "owner/name@v1", "owner/name", "gpt2"]) == ("owner/name", "owner/name@v1", "gpt2")


# Usage errors.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{a}", "{b}", "--name", "o/m"), "--name is the id of one model, and there are 2 cards"),
        (("{folder}", "--name", "o/m"), "there are 2 cards"),
        (("{a}", "--format", "predicate"), "--format predicate"),
        (("{a}", "--diff", "--format", "json"), "--diff"),
        (("{a}", "--diff", "--output", "{folder}/x.txt"), "--diff"),
        (("{a}", "--policy", "{folder}/none.yml"), "none.yml"),
        (("{a}", "--hub", "--offline"), "offline"),
        (("owner/name", "--offline"), "owner/name"),
        (("{folder}/none.md",), "none.md"),
        (("--explain", "LIN999"), "LIN999"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(run: Run, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    names = {"folder": tmp_path, "a": card(tmp_path / "a.md"), "b": card(tmp_path / "b.md")}
    assert run(*(argument.format(**names) for argument in arguments)) == 2
    assert run.out == ""
    assert run.err.startswith("lineage: error: ") and run.err.count("\n") == 1 and says in run.err


def test_the_name_of_one_model(run: Run, tmp_path: Path) -> None:
    place = card(tmp_path / "README.md", ("license: mit", "base_model: o/n", "base_model_revision: v1"))
    assert run(place, "--name", "o/n", "--format", "json") == 1
    assert run.found == [["LIN208"]]
    assert run(place, place, "--name", "o/other") == 0


# Cards that cannot be read.


def test_a_card_that_cannot_be_read_leaves_the_others_reported(run: Run, tmp_path: Path) -> None:
    outside = card(tmp_path / "outside.md", BROKEN)
    inside = tmp_path / "models"
    first, last = (card(inside / name / "README.md", UNKNOWN) for name in ("a", "c"))
    (inside / "b").mkdir()
    (inside / "b" / "README.md").symlink_to(outside)
    assert run(inside, "--format", "json") == 2
    assert [document["suspect"]["id"] for document in run.documents] == [str(first.parent), str(last.parent)]
    assert run.err.startswith("lineage: error: ") and run.err.count("\n") == 1
    assert "README.md" in run.err and "/home/me/model" not in run.out + run.err
    # What is certain to be wrong comes before what could not be found out.
    assert run(inside, "--fail-on", "warning") == 1
    assert run(first, tmp_path / "none.md", last, "--format", "json") == 2
    assert run.found == [["LIN203"], ["LIN203"]] and "none.md" in run.err


def test_a_report_goes_to_a_file(run: Run, tmp_path: Path) -> None:
    places = [card(tmp_path / name, UNKNOWN) for name in ("a.md", "b.md")]
    target = tmp_path / "report.json"
    assert run(*places, "--format", "json", "--output", target) == 0
    assert run.out == "" and len(json.loads(target.read_text())["reports"]) == 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".json"}


# Repairs.


def test_a_diff_shows_what_a_fix_makes(run: Run, tmp_path: Path) -> None:
    broken, honest = card(tmp_path / "README.md", ADDRESS), card(tmp_path / "other" / "README.md")
    before = contents(tmp_path)
    assert run(broken, honest, "--diff") == 1
    diff = run.out
    assert f"-base_model: https://huggingface.co/o/n/tree/{HASH}\n" in diff and "\n+base_model: o/n" in diff
    assert diff.startswith(f"--- {broken.as_posix()}\n") and "other" not in diff
    assert run.err == "--fix would make 1 repair in 1 card.\n"
    assert contents(tmp_path) == before

    assert run(broken, honest, "--fix", "--format", "json") == 0
    assert run.found == [[], []]
    assert run.err.startswith(f"{broken}: LIN207 ") and run.err.count("\n") == 1
    after = broken.read_text()
    assert f"o/n@{HASH}" in after or f"base_model_revision: {HASH}" in after
    assert honest.read_bytes() == before["other/README.md"]

    # The diff is a patch that makes the same card.
    broken.write_bytes(before["README.md"])
    if shutil.which("patch"):
        subprocess.run(["patch", "-s", str(broken)], input=diff.encode(), check=True, cwd=tmp_path)
        assert broken.read_text() == after
    else:
        assert run(broken, "--fix") == 0
    assert run(broken, honest, "--diff") == 0
    assert (run.out, run.err) == ("", "There is nothing to repair.\n")
    assert run(broken, "--diff", "--quiet") == 0 and run.err == ""


def test_a_fix_reports_what_is_left(run: Run, tmp_path: Path) -> None:
    lines = ("license: Apache 2.0", f"base_model: o/n@{HASH}", "base_model_relation: remix")
    place = card(tmp_path / "README.md", lines)
    assert run(place, "--fix", "--fail-on", "warning", "--format", "json") == 1
    assert run.found == [["LIN203"]]
    assert "LIN206" in run.err and "license: apache-2.0\n" in place.read_text()
    stamp = place.stat().st_mtime_ns
    assert run(place, "--fix", "--quiet") == 0
    assert run.err == "" and place.stat().st_mtime_ns == stamp


def test_exit_codes_of_a_diff_with_unreadable_cards(run: Run, tmp_path: Path) -> None:
    address, none = card(tmp_path / "a.md", ADDRESS), tmp_path / "none.md"
    assert run(none, address, "--diff") == 1
    assert "none.md" in run.err and "-base_model: https" in run.out
    assert run(none, card(tmp_path / "b.md"), "--diff") == 2
    assert run(none, address, "--fix") == 2
    assert f"o/n/tree/{HASH}" not in address.read_text()


def test_what_somebody_decided_to_leave_is_not_repaired(run: Run, tmp_path: Path) -> None:
    ignoring = (ADDRESS[0], f"{ADDRESS[1]}  # lineage: ignore[LIN207] the site links here")
    place = card(tmp_path / "README.md", ignoring)
    assert run(place, "--diff") == 0
    policy = tmp_path / "policy.yml"
    policy.write_text("version: 1\nlevels:\n  LIN207: off\n")
    assert run(card(tmp_path / "other.md", ADDRESS), "--diff", "--policy", policy) == 0
    assert run(tmp_path / "other.md", "--fix", "--policy", policy) == 0
    assert "https://" in (tmp_path / "other.md").read_text()


def test_a_policy_may_deny_comments_to_repairs_too(run: Run, tmp_path: Path) -> None:
    place = card(tmp_path / "README.md", (ADDRESS[0], f"{ADDRESS[1]}  # lineage: ignore[LIN207] the site links here"))
    policy = tmp_path / "policy.yml"
    policy.write_text("version: 1\nignore-comments: deny\n")
    assert run(place, "--diff", "--policy", policy) == 1


# Explanations.


def test_explain_prints_the_page_of_a_code(run: Run) -> None:
    assert run("--explain", "LIN206") == 0
    assert run.out == explain("LIN206", color=False, width=80) and "LIN206" in run.out and run.err == ""


# Many cards at once.


def test_many_cards_get_the_same_answers_from_several_processes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = (HONEST, ADDRESS, UNKNOWN, BROKEN, ("license: apache-2.0", "base_model: meta-llama/Llama-3.1-8B"))
    for number in range(130):
        card(tmp_path / f"models/{number:03d}/README.md", kinds[number % 5])
    (tmp_path / "models/130").mkdir()
    (tmp_path / "models/130/README.md").symlink_to(card(tmp_path / "outside.md"))
    started: list[int | None] = []

    class Counted(ProcessPoolExecutor):
        def __init__(self, workers: int | None = None, **options: Any) -> None:
            started.append(workers)
            super().__init__(workers, **options)

    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", Counted)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert run(tmp_path / "models", "--format", "json") == 1
    assert started == [2]
    found = json.loads(run.out)["reports"]
    assert run.err.count("\n") == 1 and "README.md" in run.err
    expected = [to_dict(lint(place)) for place in cards_of([str(tmp_path / "models")])[:-1]]
    assert len(found) == len(expected) == 130
    for document in (*found, *expected):
        for field in ("created", "cost"):
            del document[field]
    assert found == json.loads(json.dumps(expected))
    with pytest.raises(LineageError):
        lint(str(tmp_path / "models" / "130" / "README.md"))


# What is imported.


def test_lint_imports_neither_numpy_nor_the_hub_client(tmp_path: Path) -> None:
    """Reading small files must not wait for what reads weights and speaks to servers."""
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "o/n"}')
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    place = card(tmp_path / "README.md", ("license: Apache 2.0", "base_model: meta-llama/Llama-3.1-8B"))
    script = (
        "import sys\nfrom lineage_plugin.cli import main\n"
        f"for more in ([], ['--format', 'json'], ['--diff'], ['--fix']): main(['lint', {str(place)!r}, *more])\n"
        "heavy = 'numpy huggingface_hub torch safetensors httpx httpx2 ml_dtypes'.split()\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]", done.stderr
    assert "LIN206" in done.stdout and "license: apache-2.0" in place.read_text()


# Over a Hub.


def test_a_model_on_the_hub_and_its_bases(run: Run, hub: LocalHub) -> None:
    for name, lines in (
        ("me/model", ("license: mit", "base_model: acme/base", "base_model_relation: finetune")),
        ("acme/base", ("license: cc-by-nc-4.0", "base_model: acme/root", "new_version: acme/next")),
        ("acme/root", ("license: mit",)),
    ):
        folder = hub.create(name)
        card(folder / "README.md", lines)
        (folder / "model.safetensors").write_bytes(bytes(100_000))
    assert run("me/model", "--endpoint", hub.endpoint, "--format", "json") == 1
    (document,) = run.documents
    assert document["suspect"]["revision"] == hub.commit_id("me/model")
    assert [(f["code"], f["level"], f["file"], f["line"]) for f in document["findings"]] == [
        ("LIN206", "error", "README.md", 2),
        ("LIN205", "note", "README.md", 3),
        ("LIN209", "note", "README.md", 3),
    ]
    outcomes = [(one["model"], one["licence"], one["known_by"], one["outcome"]) for one in document["licences"]]
    assert outcomes == [
        ("acme/base", "cc-by-nc-4.0", "the Hub", "incompatible"),
        ("acme/root", "mit", "the Hub", "compatible"),
    ]
    assert document["cost"]["requests"] == hub.log.requests() and document["cost"]["tensor_bytes"] == 0
    assert hub.log.records(path="*.safetensors") == []
    assert run("me/model", "--endpoint", hub.endpoint, "--diff") == 1
    assert f"+base_model_revision: {hub.commit_id('acme/base')}\n" in run.out and "+++ me/model" in run.out
    assert run("me/model", "--endpoint", hub.endpoint, "--fix") == 2
    assert "--fix changes cards on this machine" in run.err and run.err.count("\n") == 1
    assert run("me/model", "me/none", "--endpoint", hub.endpoint, "--format", "json") == 1
    assert len(run.documents) == 1 and "me/none" in run.err


def test_a_card_on_this_machine_asks_the_hub_only_when_told_to(run: Run, hub: LocalHub, tmp_path: Path) -> None:
    card(hub.create("acme/base") / "README.md", ("license: mit",))
    place = card(tmp_path / "mine" / "README.md", ("license: mit", "base_model: [acme/base, acme/gone]"))
    assert run(place, "--endpoint", hub.endpoint, "--format", "json") == 0
    assert (run.found, hub.log.requests()) == ([["LIN205", "LIN205"]], 0)
    assert {one["licence"] for one in run.documents[0]["licences"]} <= {None}
    assert run(place, "--endpoint", hub.endpoint, "--hub", "--format", "json") == 1
    assert "LIN202" in run.found[0] and hub.log.requests() == 2
    licences = {one["model"]: (one["licence"], one["outcome"]) for one in run.documents[0]["licences"]}
    assert licences["acme/base"] == ("mit", "compatible") and licences.get("acme/gone", (None,))[0] is None


def test_a_repair_with_the_word_of_the_hub(run: Run, hub: LocalHub, tmp_path: Path) -> None:
    card(hub.create("acme/base") / "README.md", ("license: mit",))
    place = card(tmp_path / "mine" / "README.md", ("license: mit", "base_model: acme/base"))
    assert run(place, "--endpoint", hub.endpoint, "--hub", "--fix", "--format", "json") == 0
    assert run.found == [[]]
    assert f"base_model_revision: {hub.commit_id('acme/base')}\n" in place.read_text()


def test_a_hub_that_is_not_there_is_4(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "Patience", lambda: Patience(tries=1))
    place = card(tmp_path / "README.md")
    assert run(place, "--hub", "--endpoint", "http://127.0.0.1:9", "--format", "json") == 4
    assert run.out == "" and run.err.startswith("lineage: error: ") and run.err.count("\n") == 1


# What reviews found.


def test_a_diff_changes_nothing_whatever_else_is_asked_for(run: Run, tmp_path: Path) -> None:
    place = card(tmp_path / "README.md", ADDRESS)
    before = place.read_bytes()
    assert run(place, "--fix", "--diff") == 1
    assert place.read_bytes() == before and "+base_model: o/n" in run.out
    assert run(place, "--diff", "--format", "json") == 2 and "--diff prints a diff" in run.err


def test_folders_of_any_depth_do_not_end_the_run(run: Run, tmp_path: Path) -> None:
    card(tmp_path / "m" / "README.md", UNKNOWN)
    deep = tmp_path / "deep"
    # Short enough for one call; the walk is what must not recurse.
    for _ in range(3):
        deep = deep.joinpath(*["d"] * 400)
        deep.mkdir(parents=True)
    try:
        assert run(tmp_path, "--format", "json") == 0
        assert [codes for codes in run.found if "LIN203" in codes]
    finally:
        # By hand: what clears temporary folders away recurses.
        while deep != tmp_path:
            deep.rmdir()
            deep = deep.parent


def test_the_order_of_bases_does_not_change_what_their_licences_ask_for(run: Run, tmp_path: Path) -> None:
    bases = ("google/gemma-2-9b", "meta-llama/Llama-3.1-8B")
    said = []
    for number, order in enumerate((bases, bases[::-1])):
        folder = tmp_path / str(number)
        card(folder / "README.md", ("license: gemma", f"base_model: [{', '.join(order)}]"))
        (folder / "model.safetensors").write_bytes(b"")
        run(folder, "--format", "json")
        (report,) = run.documents
        said.append(sorted(f["message"] for f in report["findings"] if f["code"] == "LIN206"))
    assert said[0] == said[1] and any("Notice" in message for message in said[0])


def test_a_mistyped_path_asks_nobody(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    card(tmp_path / "models" / "m1" / "README.md")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    for typed in ("models/zz", "nothere", ""):
        assert run(typed) == 2, typed
    (tmp_path / "config.json").write_text("{}")
    assert run("config.json") == 2 and "no model card" in run.err
