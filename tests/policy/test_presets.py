"""The presets: what they say, what they do to findings, and that they are trusted no more than a file."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
import yaml

from lineage_plugin import Policy, load_policy
from lineage_plugin.card.declaration import Declaration
from lineage_plugin.findings import CODES, finding
from lineage_plugin.judge.types import Settings
from lineage_plugin.policy.apply import apply_policy
from lineage_plugin.policy.find import find_policy
from lineage_plugin.policy.load import load_preset, schema
from lineage_plugin.policy.presets import PRESETS, preset_text
from lineage_plugin.policy.trust import only_stricter
from lineage_plugin.policy.types import SEVERITY
from lineage_plugin.report import exit_code
from tests.report import samples

STRICT = load_preset("strict")


def loaded(folder: Path, content: str) -> Policy:
    path = folder / "p.yml"
    path.write_text(content, encoding="utf-8")
    return load_policy(path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_policy_file_with_a_reason_for_each_line(name: str) -> None:
    text = preset_text(name)
    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))
    lines = text.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"[a-z-]+: ", line):
            assert above.startswith("# "), line
        if line.startswith("  LIN"):
            assert re.search(r" # \w.{20}", line), line
    assert all(len(line) <= 140 for line in lines)
    assert all(code in CODES for code in re.findall(r"LIN\d{3}", text))


def test_solo_is_what_holds_without_a_file(tmp_path: Path) -> None:
    solo = loaded(tmp_path, "version: 1\npreset: solo\n")
    assert replace(solo, preset=None, fail_on=None) == Policy(file=solo.file)
    assert solo.fail_on == "error"
    every = [finding(code, "m", level=level) for code in CODES for level in ("error", "warning", "note")]
    found, use = apply_policy(solo, "m/m", Declaration(), every)
    assert (list(found), use.levels, use.off) == (every, (), ())
    for verdict in ("pass", "fail", "undecided"):
        for some in ((), (every[0],), (every[1],)):
            report = samples.report(verdict=verdict, findings=some)
            assert exit_code(replace(report, settings=Settings(policy=use))) == exit_code(report)


def test_strict_lowers_nothing() -> None:
    assert all(SEVERITY[level] >= SEVERITY[CODES[code].level] for code, level in STRICT.levels.items())
    assert only_stricter(STRICT) == replace(STRICT, stricter_only=True)
    assert (STRICT.fail_on, STRICT.undecided, STRICT.ignore_comments) == ("error", "fail", "deny")
    assert (STRICT.bar, STRICT.budget, STRICT.allow, STRICT.exceptions) == (None, None, None, ())


def test_strict_decides_about_every_code() -> None:
    """A code that is added must be given a level here, or a reason why it is left."""
    errors = {code for code, rule in CODES.items() if rule.level == "error"}
    assert set(re.findall(r"LIN\d{3}", preset_text("strict"))) | errors == set(CODES)


@pytest.mark.parametrize("code", ["LIN201", "LIN203", "LIN205", "LIN206", "LIN210", "LIN301"])
def test_strict_fails_what_is_advice_otherwise(code: str, tmp_path: Path) -> None:
    policy = loaded(tmp_path, "version: 1\npreset: strict\n")
    advice = finding(code, "m", level="note" if CODES[code].level == "note" else "warning")
    for given, fails in ((None, 0), (policy, 1)):
        found, use = ((advice,), None) if given is None else apply_policy(given, "m/m", Declaration(), (advice,))
        assert exit_code(samples.report(findings=tuple(found), settings=Settings(policy=use))) == fails


def test_strict_takes_no_comment_and_no_undecided_verdict(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "version: 1\npreset: strict\n")
    excused = replace(finding("LIN201", "m", level="note"), ignored="because", ignored_level="warning")
    found, use = apply_policy(policy, "m/m", Declaration(), (excused,))
    assert [(one.level, one.ignored) for one in found] == [("error", None)]
    assert (use.preset, use.denied) == ("strict", ("LIN201",))
    assert exit_code(samples.report(verdict="undecided", findings=(), settings=Settings(policy=use))) == 1


def test_what_an_open_question_for_a_lawyer_is_stays_a_note() -> None:
    found, _ = apply_policy(STRICT, "m/m", Declaration(), (finding("LIN206", "ask a lawyer", level="note"),))
    assert found[0].level == "note"


def test_the_file_comes_before_its_preset(tmp_path: Path) -> None:
    policy = loaded(
        tmp_path,
        "version: 1\nlevels: {LIN205: note, LIN201: off, LIN104: error}\nundecided: undecided\nfail-on: warning\n"
        "ignore-comments: allow\npreset: strict\nbar: 12\n",
    )
    assert dict(policy.levels) == {**STRICT.levels, "LIN205": "note", "LIN201": "off", "LIN104": "error"}
    assert (policy.undecided, policy.fail_on, policy.ignore_comments) == ("undecided", "warning", "allow")
    assert (policy.bar, policy.preset) == (12, "strict")


def test_a_preset_beside_the_model_can_only_make_it_stricter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "theirs"
    model.mkdir()
    content = (
        "version: 1\npreset: strict\nlevels: {LIN301: off, LIN101: note, LIN205: note}\n"
        "undecided: pass\nignore-comments: allow\nfail-on: never\n"
    )
    (model / ".lineage.yml").write_text(content, encoding="utf-8")
    policy = find_policy("theirs")
    assert policy is not None and policy.stricter_only
    assert policy.ignored == ("fail-on: never", "undecided: pass", "LIN301: off", "LIN101: note")
    assert {"LIN301", "LIN101"}.isdisjoint(policy.levels)
    assert policy.levels["LIN201"] == "error"
    # Nothing in it is looser than no file at all.
    for code, rule in CODES.items():
        for level in ("note", "warning", "error"):
            before = finding(code, "m", level=level)
            ((after,), _) = apply_policy(policy, "theirs", Declaration(), (before,))
            assert SEVERITY[after.level] >= SEVERITY[before.level], rule
    assert (policy.fail_on, policy.undecided, policy.ignore_comments) == (None, "undecided", "allow")


def test_the_preset_is_part_of_what_the_hooks_remember(tmp_path: Path) -> None:
    """Kept reports are found again by the ``repr`` of the policy, in which places have no part."""
    plain, strict = (loaded(tmp_path, f"version: 1\n{more}") for more in ("", "preset: strict\n"))
    assert repr(plain) != repr(strict)
    assert repr(loaded(tmp_path, "\n\nversion: 1\n")) == repr(plain)
    assert repr(loaded(tmp_path, "version: 1\nignore-comments: deny\n")) != repr(plain)
