"""``lineage policy init``, ``show`` and ``validate``, from the command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lineage_plugin import Policy, load_policy
from lineage_plugin.cli import main
from lineage_plugin.findings import CODES
from lineage_plugin.policy.load import schema
from lineage_plugin.policy.presets import PRESETS
from lineage_plugin.policy.remarks import remarks
from lineage_plugin.policy.start import starter, write_new

TODAY = datetime.now(timezone.utc).date()
POLICY = f"""\
version: 1
preset: strict
bar: 12.5
levels: {{LIN205: note, LIN201: off}}
bases:
  allow: [acme/*, meta-llama/Llama-3*]
exceptions:
  - model: models/old-*
    codes: [LIN101, LIN103]
    reason: "a reason: with #, \\"quotes\\" and \N{LATIN SMALL LETTER U WITH DIAERESIS}"
    expires: {TODAY + timedelta(days=10)}
  - model: acme/gone
    codes: [LIN106]
    reason: r
    expires: 2020-01-01
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["policy", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = run(capsys, "show", *arguments, "--format", "json")
    assert (code, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


# init


@pytest.mark.parametrize("preset", PRESETS)
def test_init_writes_a_file_that_changes_nothing_but_the_preset(
    preset: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, "init", "--preset", preset)
    assert (code, err) == (0, "")
    assert f"Wrote .lineage.yml with the preset {preset}." in out and "lineage policy show" in out
    assert load_policy(".lineage.yml").preset == preset
    text = Path(".lineage.yml").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))
    assert set(yaml.safe_load(text)) == {"version", "preset"}
    assert text.startswith("# yaml-language-server: $schema=")
    assert os.listdir() == [".lineage.yml"]  # noqa: PTH208
    assert run(capsys, "validate") == (0, ".lineage.yml: valid\n", "")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_line_of_it_is_right_when_it_is_used(preset: str, here: Path) -> None:
    text = re.sub(r"^#(?=[a-z]|  )", "", starter(preset, TODAY), flags=re.MULTILINE)
    Path("p.yml").write_text(text, encoding="utf-8")
    policy = load_policy("p.yml")
    assert set(yaml.safe_load(text)) == set(schema()["properties"])
    assert policy.exceptions[0].expires > TODAY
    # What it shows is what holds: the settings say nothing new.
    said = {remark.message for remark in remarks(policy, TODAY)}
    assert said == {
        f"{key} is what the preset {preset} says anyway" for key in ("fail-on", "undecided", "ignore-comments")
    }


def test_the_settings_of_the_file_are_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in schema()["properties"] if key not in ("version", "bases"))


@pytest.mark.parametrize("what", ["file", "folder", "broken link"])
def test_init_writes_over_nothing(what: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / ".lineage.yml"
    if what == "file":
        path.write_text("version: 1\nbar: 12\n")
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(here / "gone")
    code, out, err = run(capsys, "init")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"lineage: error: \.lineage\.yml: is there already, and nothing was changed; [^\n]+\n", err)
    assert os.listdir() == [".lineage.yml"]  # noqa: PTH208
    assert what != "file" or path.read_text() == "version: 1\nbar: 12\n"
    assert not (here / "gone").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / ".lineage.yml"
    linked = os.link

    def late(source: Any, target: Any) -> None:
        path.write_text("theirs")
        linked(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(Exception, match="is there already"):
        write_new(path, "ours")
    assert path.read_text() == "theirs"
    assert os.listdir() == [".lineage.yml"]  # noqa: PTH208


def test_a_file_system_without_links_is_written_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_new(here / "p.yml", "ours\n")
    assert (here / "p.yml").read_bytes() == b"ours\n"
    assert os.listdir() == ["p.yml"]  # noqa: PTH208


def test_init_into_another_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text("{}")
    code, out, _ = run(capsys, "init", "--folder", "model")
    assert code == 0 and "looks like the folder of a model" in out and "--policy .lineage.yml" in out
    assert (here / "model" / ".lineage.yml").is_file()
    assert run(capsys, "init", "--folder", "none")[0::2] == (
        2,
        "lineage: error: --folder none: there is no such folder\n",
    )
    (here / "quiet").mkdir()
    assert run(capsys, "init", "--folder", "quiet", "--quiet") == (0, "", "")


# show


def test_show_says_where_everything_comes_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(".lineage.yml").write_text(POLICY, encoding="utf-8")
    view = shown(capsys)
    assert (view["schema"], view["model"], view["file"], view["preset"], view["stricter_only"]) == (
        "lineage-policy-view/1",
        None,
        ".lineage.yml",
        "strict",
        False,
    )
    assert view["settings"] == {
        "bar": {"value": 12.5, "source": "file", "line": 3},
        "budget": {"value": None, "source": "default", "line": None},
        "fail-on": {"value": "error", "source": "preset", "line": None},
        "undecided": {"value": "fail", "source": "preset", "line": None},
        "ignore-comments": {"value": "deny", "source": "preset", "line": None},
        "bases.allow": {"value": ["acme/*", "meta-llama/Llama-3*"], "source": "file", "line": 6},
    }
    assert list(view["levels"]) == list(CODES)
    assert view["levels"]["LIN205"] == {"value": "note", "source": "file", "line": 4}
    assert view["levels"]["LIN301"] == {"value": "error", "source": "preset", "line": None}
    assert view["levels"]["LIN101"] == {"value": "error", "source": "default", "line": None}
    first, second = view["exceptions"]
    assert (first["days_left"], first["about_model"], first["line"]) == (10, None, 8)
    assert second["days_left"] < 0
    text = run(capsys, "show")[1]
    assert "Policy  .lineage.yml (preset strict)\n" in text
    assert re.search(r"^LIN205 +note +\.lineage\.yml:4 +base not pinned", text, re.MULTILINE)
    assert re.search(r"^undecided +fail +preset strict$", text, re.MULTILINE)
    assert f"of models/old-*: until {TODAY + timedelta(days=10)}, 10 days left (.lineage.yml:8)" in text
    assert "LIN106 of acme/gone: expired on 2020-01-01 (.lineage.yml:12)" in text
    assert "Left out" not in text


def test_show_without_a_file_shows_the_defaults(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    view = shown(capsys, "owner/name")
    assert (view["file"], view["preset"]) == (None, None)
    assert {level["source"] for level in (*view["levels"].values(), *view["settings"].values())} == {"default"}
    assert {code: level["value"] for code, level in view["levels"].items()} == {c: r.level for c, r in CODES.items()}
    assert "there is no policy file for owner/name; the defaults hold" in run(capsys, "show", "owner/name")[1]


def test_show_says_what_is_left_out_of_a_policy_that_came_with_the_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "theirs").mkdir()
    (here / "theirs" / ".lineage.yml").write_text(f"{POLICY}fail-on: never\n", encoding="utf-8")
    view = shown(capsys, "theirs")
    assert (view["model"], view["file"], view["stricter_only"]) == ("theirs", "theirs/.lineage.yml", True)
    assert view["left_out"] == [
        {"what": "bar", "line": 3},
        {"what": "fail-on: never", "line": 16},
        {"what": "LIN201: off", "line": 4},
        {"what": "exceptions", "line": 7},
    ]
    assert view["settings"]["bar"] == {"value": 9.0, "source": "default", "line": None}
    assert view["settings"]["fail-on"] == {"value": "error", "source": "default", "line": None}
    assert view["levels"]["LIN201"] == {"value": "warning", "source": "default", "line": None}
    assert view["exceptions"] == []
    text = run(capsys, "show", "theirs")[1]
    assert "it came with the model, so it can only make a check stricter" in text
    assert "nobody named it with --policy:\n  bar (theirs/.lineage.yml:3)\n" in text
    # Here no file holds; named, that one holds whole.
    assert shown(capsys)["file"] is None
    named = shown(capsys, "theirs", "--policy", "theirs/.lineage.yml")
    assert (named["left_out"], named["settings"]["bar"]["value"]) == ([], 12.5)


def test_show_says_which_exceptions_are_about_the_model(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "models" / "old-1").mkdir(parents=True)
    Path(".lineage.yml").write_text(POLICY, encoding="utf-8")
    about = [
        [one["about_model"] for one in shown(capsys, model)["exceptions"]] for model in ("models/old-1", "acme/gone")
    ]
    assert about == [[True, False], [False, True]]
    assert "not about acme/gone" in run(capsys, "show", "acme/gone")[1]


@pytest.mark.parametrize("preset", ["solo", "strict", None])
def test_the_policy_written_out_is_the_same_policy(
    preset: str | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = POLICY.replace("preset: strict", "" if preset is None else f"preset: {preset}")
    Path(".lineage.yml").write_text(content, encoding="utf-8")
    code, out, _ = run(capsys, "show", "--format", "yaml")
    assert code == 0
    Path("flat.yml").write_text(out, encoding="utf-8")
    flat, whole = load_policy("flat.yml"), load_policy(".lineage.yml")

    def meaning(policy: Policy) -> Policy:
        exceptions = tuple(replace(one, line=0) for one in policy.exceptions)
        return replace(policy, file="", preset=None, exceptions=exceptions)

    assert meaning(flat) == meaning(whole)
    jsonschema.Draft202012Validator(schema()).validate(
        json.loads(json.dumps(yaml.safe_load(re.sub(r": off\b", ": 'off'", out)), default=str))
    )
    assert "preset:" not in yaml.safe_load(out)


def test_the_defaults_written_out_are_a_policy_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yml").write_text(run(capsys, "show", "--format", "yaml")[1], encoding="utf-8")
    assert load_policy("p.yml") == Policy(file="p.yml")


@pytest.mark.parametrize("format", ["text", "json", "yaml"])
def test_show_obeys_nothing_in_the_file(format: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = POLICY.replace('"a reason: with', '"\\e[31m\\n::error::x\\u202e')
    Path("a\n::error::b.yml").write_text(hostile, encoding="utf-8")
    code, out, _ = run(capsys, "show", "acme/gone", "--policy", "a\n::error::b.yml", "--format", format)
    assert code == 0
    assert "::error" not in out and "\x1b" not in out and "\u202e" not in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "no such/thing at all"), "is neither a file nor a model id"),
        (("show", "https://x/y"), "is an address"),
        (("show", "--policy", "none.yml"), "none.yml: the policy cannot be read: there is no such file"),
        (("show", "--policy", "bad.yml"), 'bad.yml:1: version is "3"'),
        (("validate",), "there is no .lineage.yml here; name a file, or write one with 'lineage policy init'"),
        (("init", "--preset", "lax"), "invalid choice"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.yml").write_text("version: 3\n")
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1


# validate


def test_validate_tells_all_that_is_wrong_with_its_place(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yml").write_text("version: 1\nfail_on: error\nlevels: {LIN201: fatal}\n")
    Path("good.yml").write_text("version: 1\n")
    code, out, err = run(capsys, "validate", "bad.yml", "good.yml", "none.yml")
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        'bad.yml:2:1: error: the policy has no "fail_on"; did you mean fail-on?',
        'bad.yml:3:18: error: the level of LIN201 is "fatal"; there are error, warning, note, off',
        "good.yml: valid",
        "none.yml: the policy cannot be read: there is no such file",
    ]
    assert run(capsys, "validate", "good.yml", "--quiet") == (0, "", "")


def test_what_has_no_effect_is_a_warning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.yml").write_text(
        "version: 1\npreset: strict\nundecided: fail\n"
        "levels: {LIN205: error, LIN203: note, LIN201: off, LIN401: off}\n"
        "bases: {allow: [acme/*, '*', a/-*, acme/*, gpt2, 'acme*', '*/*-*']}\n"
        "exceptions:\n- {model: ./old, codes: [LIN201, LIN101, LIN101], reason: r, expires: 2020-01-01}\n"
        "- {model: '*/*', codes: [LIN104], reason: r, expires: 9999-12-31}\n"
    )
    code, out, err = run(capsys, "validate", "p.yml")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "p.yml:3:1: warning: undecided is what the preset strict says anyway",
        "p.yml:4:10: warning: LIN205 is what the preset strict says anyway",
        "p.yml:5:9: warning: LIN401 is off, so that any base may be declared",
        'p.yml:5:25: warning: "*" fits only ids without an owner, such as gpt2; write "*/*"',
        'p.yml:5:30: warning: "a/-*" fits nothing: there are no such ids on the Hub',
        'p.yml:5:36: warning: "acme/*" stands there twice',
        'p.yml:5:50: warning: "acme*" fits only ids without an owner, such as gpt2; write "acme*/*"',
        'p.yml:7:4: warning: "./old" fits nothing: leave out "./"',
        "p.yml:7:26: warning: LIN201 is off, so that there is nothing to excuse",
        "p.yml:7:42: warning: LIN101 stands there twice",
        "p.yml:7:62: warning: expired on 2020-01-01: remove the exception, or decide anew",
        "p.yml: valid, 11 warnings",
    ]


@pytest.mark.parametrize(
    ("pattern", "warned"),
    [
        ("acme/legacy-*", False),
        ("models/old", False),
        (".", False),
        ("../other/*", False),
        ("../..", False),
        ("acme/model/q4.gguf", False),
        ("v1.0", False),
        ("./models/old", True),
        ("models/./old", True),
        ("models/../old", True),
        ("/home/me/model", True),
        ("~/model", True),
        ("models/old/", True),
        ("models//old", True),
        ("https://huggingface.co/acme/x", True),
        ("models\\old", True),
        ("acme/model@main", True),
    ],
)
def test_patterns_that_fit_nothing(pattern: str, warned: bool, here: Path) -> None:
    entry = {"model": pattern, "codes": ["LIN101"], "reason": "r", "expires": "9999-12-31"}
    Path("p.yml").write_text(json.dumps({"version": 1, "exceptions": [entry]}))
    found = remarks(load_policy("p.yml"), date(2026, 1, 1))
    assert [("fits nothing" in one.message, one.line > 0) for one in found] == [(True, True)] * warned


def test_validate_obeys_nothing_in_names_and_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("::error::.yml").write_text('"::error::\\e[31m": 1\n')
    code, out, _ = run(capsys, "validate", "::error::.yml", "\x1b[31m::warning::")
    assert code == 2 and out.count("\n") == 3
    assert "::" not in out and "\x1b" not in out
