"""What a policy makes of findings, of the verdict and of the exit code."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from lineage_plugin.card import read_card
from lineage_plugin.card.declaration import Declaration
from lineage_plugin.findings import Finding, Level, finding
from lineage_plugin.judge.types import Excepted, LevelChange, PolicyUse, Settings, Verdict
from lineage_plugin.judge.verdict import verdict_of
from lineage_plugin.policy.apply import apply_policy, options_of
from lineage_plugin.policy.matching import matches, names_of
from lineage_plugin.policy.trust import only_stricter
from lineage_plugin.policy.types import Exemption, Policy
from lineage_plugin.policy.words import policy_line
from lineage_plugin.report import FailOn, exit_code, render
from tests.report import samples

LAST_DAY = date(2027, 3, 31)
NO_BASE = finding("LIN101", "the weights do not support a/b as the base", file="README.md", line=3)
UNPINNED = finding("LIN205", "a/b is not pinned")
LEGACY = Exemption("acme/legacy-*", ("LIN101",), "before the cards", LAST_DAY, 7)


def applied(
    policy: Policy, *findings: Finding, model: str = "acme/legacy-1", today: date = LAST_DAY, card: str = ""
) -> tuple[list[tuple[str, Level]], PolicyUse, list[str]]:
    declaration = read_card(card)[0] if card else Declaration()
    found, use = apply_policy(policy, model, declaration, findings, today=today)
    return [(one.code, one.level) for one in found], use, [one.message for one in found]


# Levels.


def test_levels_are_changed_and_the_change_is_on_record() -> None:
    levels, use, _ = applied(Policy(levels={"LIN205": "error", "LIN101": "note"}), NO_BASE, UNPINNED, UNPINNED)
    assert levels == [("LIN101", "note"), ("LIN205", "error"), ("LIN205", "error")]
    assert use.levels == (LevelChange("LIN101", "error", "note"), LevelChange("LIN205", "note", "error"))


def test_off_leaves_findings_out_and_says_which() -> None:
    levels, use, _ = applied(Policy(levels={"LIN205": "off", "LIN201": "off"}), NO_BASE, UNPINNED)
    assert levels == [("LIN101", "error")]
    assert use.off == ("LIN205",)


def test_a_remark_under_a_code_of_warnings_stays_a_remark() -> None:
    indication = finding("LIN103", "looks like the descendant (an indication)", level="note")
    mismatch = finding("LIN103", "declared as quantized")
    levels, _, _ = applied(Policy(levels={"LIN103": "error"}), indication, mismatch)
    assert levels == [("LIN103", "note"), ("LIN103", "error")]
    assert applied(Policy(levels={"LIN103": "off"}), indication)[0] == []


def test_a_milder_finding_of_a_code_is_raised_with_it() -> None:
    read_with_care = finding("LIN301", "the weights are a pickle", level="warning")
    assert applied(Policy(levels={"LIN301": "error"}), read_with_care)[0] == [("LIN301", "error")]


# Exceptions.


def test_an_exception_makes_a_note_that_says_why_and_until_when() -> None:
    levels, use, messages = applied(Policy(exceptions=(LEGACY,)), NO_BASE, UNPINNED)
    assert levels == [("LIN101", "note"), ("LIN205", "note")]
    assert messages[0] == f"{NO_BASE.message} (excepted until 2027-03-31 by the policy: before the cards)"
    assert use.excepted == (Excepted("LIN101", "before the cards", "2027-03-31"),)


def test_the_day_after_it_no_longer_holds_and_says_so() -> None:
    levels, use, messages = applied(Policy(exceptions=(LEGACY,)), NO_BASE, today=date(2027, 4, 1))
    assert levels == [("LIN101", "error"), ("LIN402", "warning")]
    assert use.excepted == ()
    assert messages[1] == "the exception for LIN101 expired on 2027-03-31 (before the cards)"


def test_an_exception_is_for_its_models_and_codes_only() -> None:
    for model in ("acme/other", "acme-legacy/legacy-1", "Acme/legacy-1"):
        levels, use, _ = applied(Policy(exceptions=(LEGACY,)), NO_BASE, model=model)
        assert (levels, use.excepted) == ([("LIN101", "error")], ())
        assert applied(Policy(exceptions=(LEGACY,)), model=model, today=date(2028, 1, 1))[0] == []
    twin = finding("LIN107", "shares a common start")
    assert applied(Policy(exceptions=(LEGACY,)), twin)[0] == [("LIN107", "error")]


def test_a_second_exception_may_follow_an_expired_one() -> None:
    again = Exemption("acme/*", ("LIN101",), "once more", date(2027, 12, 31), 12)
    levels, _, _ = applied(Policy(exceptions=(LEGACY, again)), NO_BASE, today=date(2027, 6, 1))
    assert levels == [("LIN101", "note"), ("LIN402", "warning")]


def test_off_comes_before_an_exception_and_an_exception_before_a_level() -> None:
    both = Policy(levels={"LIN101": "off", "LIN205": "error"}, exceptions=(LEGACY,))
    assert applied(both, NO_BASE)[:2] == ([], PolicyUse(".lineage.yml", off=("LIN101",)))
    pinned = Exemption("*/*", ("LIN205",), "later", LAST_DAY, 1)
    assert applied(Policy(levels={"LIN205": "error"}, exceptions=(pinned,)), UNPINNED)[0] == [("LIN205", "note")]


# Allowed bases.


def test_a_base_outside_the_allowed_ones_is_an_error_at_its_line() -> None:
    card = "---\nbase_model:\n- acme/base\n- evil/acme\n---\n"
    declaration = read_card(card)[0]
    found, _ = apply_policy(Policy(allow=("acme/*",)), "m/m", declaration, (), today=LAST_DAY)
    assert [(one.code, one.level, one.file, one.line) for one in found] == [("LIN401", "error", "README.md", 4)]
    assert "evil/acme" in found[0].message and "acme/*" in found[0].help
    assert apply_policy(Policy(allow=("acme/*", "evil/a*")), "m/m", declaration, ())[0] == ()
    assert apply_policy(Policy(), "m/m", declaration, ())[0] == ()


def test_the_base_in_adapter_config_must_be_allowed_too() -> None:
    config = '{"base_model_name_or_path": "evil/base", "peft_type": "LORA"}'
    declaration = read_card("---\nbase_model: acme/base\n---\n", adapter_config=config)[0]
    found, _ = apply_policy(Policy(allow=("acme/*",)), "m/m", declaration, ())
    assert [(one.code, one.file) for one in found] == [("LIN401", "adapter_config.json")]


def test_a_base_may_be_excepted_like_anything_else() -> None:
    legacy = Exemption("*/*", ("LIN401",), "under review", LAST_DAY, 1)
    card = "---\nbase_model: evil/base\n---\n"
    assert applied(Policy(allow=("acme/*",), exceptions=(legacy,)), card=card)[0] == [("LIN401", "note")]


# Verdict and exit code.


@pytest.mark.parametrize("code", ["LIN202", "LIN207", "LIN301", "LIN302", "LIN303"])
@pytest.mark.parametrize("level", ["off", "note", "warning"])
def test_a_policy_cannot_say_that_the_unread_was_compared(code: str, level: Level) -> None:
    judged = (finding(code, "could not be read", level="error"),)
    findings, _ = apply_policy(Policy(levels={code: level}), "m/m", Declaration(), judged)
    assert verdict_of(judged, [], judged) == "fail"
    assert verdict_of(findings, [], judged) == "undecided"


def test_an_exception_does_not_make_evidence_either() -> None:
    judged = (finding("LIN202", "declared base a/b not found"),)
    gone = Exemption("*/*", ("LIN202",), "it was deleted", LAST_DAY, 1)
    findings, _ = apply_policy(Policy(exceptions=(gone,)), "m/m", Declaration(), judged, today=LAST_DAY)
    assert verdict_of(findings, [], judged) == "undecided"


def test_what_the_weights_refute_may_be_excused() -> None:
    findings, _ = apply_policy(Policy(exceptions=(LEGACY,)), "acme/legacy-1", Declaration(), (NO_BASE,), today=LAST_DAY)
    assert verdict_of(findings, [], (NO_BASE,)) == "pass"


@pytest.mark.parametrize(
    ("verdict", "level", "policy_says", "given", "undecided", "code"),
    [
        ("undecided", None, None, None, "undecided", 3),
        ("undecided", None, None, None, "pass", 0),
        ("undecided", None, None, None, "fail", 1),
        ("undecided", None, "never", None, "fail", 1),
        ("undecided", "error", None, None, "pass", 1),
        ("pass", "warning", "warning", None, "fail", 1),
        ("pass", "warning", "warning", "error", "fail", 0),
        ("fail", "error", "never", None, "undecided", 0),
        ("fail", "error", "never", "error", "undecided", 1),
    ],
)
def test_exit_codes_follow_the_policy_where_nothing_else_is_given(
    verdict: Verdict,
    level: Level | None,
    policy_says: FailOn | None,
    given: FailOn | None,
    undecided: Verdict,
    code: int,
) -> None:
    found = () if level is None else (Finding("LIN101", level, "m"),)
    use = PolicyUse("p.yml", fail_on=policy_says, undecided=undecided)
    report = samples.report(verdict=verdict, findings=found, settings=Settings(policy=use))
    assert exit_code(report, given) == code
    assert report.verdict == verdict


def test_bar_and_budget_are_options() -> None:
    assert (options_of(None).bar, options_of(Policy()).bar, options_of(Policy(bar=12)).bar) == (9, 9, 12)
    assert (options_of(Policy()).budget, options_of(Policy(budget=5)).budget) == (None, 5)


# Comments in a card that ignore findings.

IGNORED = replace(
    finding("LIN201", "no base is declared", file="README.md", line=1, level="note"),
    ignored="trained from scratch",
    ignored_level="warning",
)


def test_a_comment_may_ignore_a_finding_whatever_its_level() -> None:
    for policy in (Policy(), Policy(levels={"LIN201": "error"}), only_stricter(Policy(levels={"LIN201": "error"}))):
        found, use = apply_policy(policy, "m/m", Declaration(), (IGNORED,))
        assert found == (IGNORED,)
        assert (use.levels, use.denied) == ((), ())
    assert applied(Policy(levels={"LIN201": "off"}), IGNORED)[:2] == ([], PolicyUse(".lineage.yml", off=("LIN201",)))


def test_an_exception_says_nothing_of_what_a_comment_ignores() -> None:
    twice = Exemption("m/*", ("LIN201",), "a base model", LAST_DAY, 1)
    found, use = apply_policy(Policy(exceptions=(twice,)), "m/m", Declaration(), (IGNORED,), today=LAST_DAY)
    assert (found, use.excepted) == ((IGNORED,), ())


def test_a_policy_may_take_no_such_comment() -> None:
    deny = Policy(ignore_comments="deny")
    found, use = apply_policy(deny, "m/m", Declaration(), (IGNORED, UNPINNED))
    assert found == (replace(IGNORED, level="warning", ignored=None, ignored_level=None), UNPINNED)
    assert (use.denied, use.levels) == (("LIN201",), ())
    assert policy_line(use) == ".lineage.yml: took no comment that ignores LIN201"


def test_without_the_comment_the_rest_of_the_policy_counts() -> None:
    deny = Policy(ignore_comments="deny", levels={"LIN201": "error"})
    levels, use, _ = applied(deny, IGNORED, IGNORED)
    assert levels == [("LIN201", "error")] * 2
    assert (use.denied, use.levels) == (("LIN201",), (LevelChange("LIN201", "warning", "error"),))
    excused = Exemption("acme/*", ("LIN201",), "a base model", LAST_DAY, 1)
    levels, use, _ = applied(replace(deny, exceptions=(excused,)), IGNORED)
    assert (levels, [one.code for one in use.excepted]) == ([("LIN201", "note")], ["LIN201"])
    off, use, _ = applied(replace(deny, levels={"LIN201": "off"}), IGNORED)
    assert (off, use.off, use.denied) == ([], ("LIN201",), ())


def test_a_finding_without_its_level_has_that_of_its_code() -> None:
    unknown = replace(IGNORED, ignored_level=None)
    assert applied(Policy(ignore_comments="deny"), unknown)[0] == [("LIN201", "warning")]


def test_a_policy_that_came_with_the_model_may_refuse_comments() -> None:
    strict = only_stricter(Policy(ignore_comments="deny"))
    assert (strict.ignore_comments, strict.ignored) == ("deny", ())
    assert applied(strict, IGNORED)[0] == [("LIN201", "warning")]


# A policy that nobody named.


LOOSE = Policy(
    bar=3,
    budget=1,
    fail_on="never",
    undecided="pass",
    levels={"LIN101": "off", "LIN107": "note", "LIN205": "error", "LIN201": "error"},
    allow=("acme/*",),
    exceptions=(LEGACY,),
)


def test_a_policy_that_came_with_the_model_can_only_be_stricter() -> None:
    strict = only_stricter(LOOSE)
    assert strict == Policy(
        levels={"LIN205": "error", "LIN201": "error"},
        allow=("acme/*",),
        stricter_only=True,
        ignored=("bar", "budget", "fail-on: never", "undecided: pass", "LIN101: off", "LIN107: note", "exceptions"),
    )
    assert only_stricter(Policy(fail_on="note", undecided="fail")).ignored == ()
    levels, use, _ = applied(strict, NO_BASE, UNPINNED)
    assert levels == [("LIN101", "error"), ("LIN205", "error")]
    assert use.ignored == strict.ignored


def test_it_lowers_no_finding_that_stands_above_its_code() -> None:
    raised = finding("LIN205", "not pinned", level="error")
    assert applied(only_stricter(Policy(levels={"LIN205": "warning"})), raised)[0] == [("LIN205", "error")]
    assert applied(Policy(levels={"LIN205": "warning"}), raised)[0] == [("LIN205", "warning")]


@pytest.mark.parametrize("code", ["LIN101", "LIN102", "LIN105", "LIN202", "LIN304"])
@pytest.mark.parametrize("level", ["off", "note", "warning", "error"])
@pytest.mark.parametrize("was", ["note", "warning", "error"])
def test_no_level_of_it_ever_lowers_one(code: str, level: Level, was: Level) -> None:
    rank = {"note": 0, "warning": 1, "error": 2}
    ((_, now),) = applied(only_stricter(Policy(levels={code: level})), finding(code, "m", level=was))[0]
    assert rank[now] >= rank[was]


# Patterns and names.


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("acme/base-7b", "acme/base-7b", True),
        ("acme/*", "acme/base-7b", True),
        ("acme/base-?b", "acme/base-7b", True),
        ("*/*", "acme/base", True),
        ("gpt2", "gpt2", True),
        ("acme*", "acme/base", False),
        ("acme*", "acme-mirror/base", False),
        ("*", "acme/base", False),
        ("acme/*", "evil/acme/base", False),
        ("acme/[b]ase", "acme/base", False),
        ("models/[b]ase", "models/[b]ase", True),
        ("ACME/*", "acme/base", False),
        ("acme/base", "acme/base-7b", False),
    ],
)
def test_patterns(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) == fits


@pytest.mark.timeout(5)
def test_a_pattern_costs_no_time() -> None:
    assert not matches("*a" * 99 + "b", "a" * 5000)


def test_a_folder_is_named_by_its_path_from_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "old").mkdir(parents=True)
    (tmp_path / "models" / "old" / "w.safetensors").touch()
    policy = str(tmp_path / ".lineage.yml")
    assert names_of(str(tmp_path / "models" / "old"), policy) == ("models/old",)
    monkeypatch.chdir(tmp_path / "models")
    for name in ("old", "./old/", "../models/old"):
        assert names_of(name, policy) == ("models/old",)
    assert names_of("old/w.safetensors", "../.lineage.yml") == ("models/old/w.safetensors", "models/old")
    monkeypatch.chdir("old")
    assert names_of(".", "../../.lineage.yml") == ("models/old",)
    assert names_of(".", ".lineage.yml") == (".",)


def test_a_model_of_the_hub_is_named_by_its_id() -> None:
    assert names_of("acme/legacy-1@main", "p.yml") == ("acme/legacy-1",)
    assert names_of("acme/legacy-1/q4.gguf", "p.yml") == ("acme/legacy-1", "acme/legacy-1/q4.gguf")


# Words.


def test_the_line_says_all_that_was_done() -> None:
    use = PolicyUse(
        "p.yml",
        off=("LIN201", "LIN205"),
        excepted=(Excepted("LIN101", "before the cards", "2027-03-31"),),
        levels=(LevelChange("LIN107", "error", "note"),),
        fail_on="warning",
        undecided="pass",
        ignored=("bar", "exceptions"),
        preset="strict",
        denied=("LIN203", "LIN204"),
    )
    assert policy_line(use) == (
        "p.yml (preset strict): left out LIN201, LIN205; took no comment that ignores LIN203, LIN204; excepted LIN101 "
        "until 2027-03-31 (before the cards); made the error LIN107 a note; fails on a warning; undecided counts as "
        "passed; not used, since the file came with the model and nobody named it with --policy: bar, exceptions"
    )
    assert policy_line(PolicyUse("p.yml")) == "p.yml: changed no finding here"
    assert policy_line(None) == ""


def test_the_text_report_has_the_line_and_obeys_none_of_it() -> None:
    use = PolicyUse(samples.HOSTILE, excepted=(Excepted("LIN101", samples.HOSTILE, "2027-03-31"),))
    text = render(samples.report(settings=Settings(policy=use)), "text", width=100)
    assert "  Policy      red [bold]rich[/bold]" in text
    assert "\x1b" not in text and "::error" not in text
    assert "Policy" not in render(samples.report(), "text")
