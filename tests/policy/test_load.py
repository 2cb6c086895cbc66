"""The file: what is read, what is refused in one line with its place, and that the schema for editors agrees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin import Policy, UsageError, load_policy
from lineage_plugin.findings import CODES
from lineage_plugin.options import DEFAULT_BAR
from lineage_plugin.policy.load import MAX_SIZE, inspect_policy, schema
from lineage_plugin.policy.types import Exemption

WHOLE = """\
# yaml-language-server: $schema=...
version: 1
bar: 12.5
budget: 64MB
fail-on: warning
undecided: fail
levels: {LIN205: error, LIN201: off}
bases:
  allow: [acme/*, meta-llama/Llama-3*]
exceptions:
  - model: acme/legacy-*
    codes: [LIN101, LIN106]
    reason: trained before the lab kept its cards
    expires: 2027-03-31
"""

EXCEPTION = "{model: a/b, codes: [LIN101], reason: r, expires: 2027-03-31}"

GOOD = (
    "version: 1",
    "---\nversion: 1\n",
    WHOLE,
    "version: 1\nbar: 2",
    "version: 1\nbudget: 4000000",
    "version: 1\nbudget: .5 GiB",
    "version: 1\nfail-on: never\nundecided: pass",
    "version: 1\nlevels: {}",
    "version: 1\npreset: solo",
    "version: 1\npreset: strict\nignore-comments: allow",
    "version: 1\nignore-comments: 'deny'",
    'version: 1\nlevels: {LIN201: "off", LIN101: note}',
    "version: 1\nbases: {allow: [gpt2, 'a?/*']}",
    f"version: 1\nexceptions: [{EXCEPTION}]",
    "version: 1\nexceptions: [{model: ./my models, codes: [LIN101], reason: r, expires: '2027-03-31'}]",
)

# What stands in the file, and what the error must say, its line first.
BAD = (
    ("", ":1: the policy lacks"),
    ("bar: 9", ":1: the policy lacks"),
    ("version: 2", ':1: version is "2"'),
    ("version: '1'", ":1: version"),
    ("version: [1]", ":1: version is a list"),
    ("- version: 1", ":1: the policy is a list, not keys with values"),
    ("version", ":1: the policy is a string"),
    ("version: 1\nfail_on: error", ':2: the policy has no "fail_on"; did you mean fail-on?'),
    ("version: 1\n\nzzz: 1", ':3: the policy has no "zzz"; there are version, preset,'),
    ("version: 1\nbar: 1.5", ':2: bar is "1.5"'),
    ("version: 1\nbar: 1000000", ":2: bar"),
    ("version: 1\nbar: .inf", ":2: bar"),
    ("version: 1\nbar: '9'", ":2: bar"),
    ("version: 1\nbar: true", ":2: bar"),
    ("version: 1\nbar:", ":2: bar is empty"),
    ("version: 1\nbudget: much", ':2: budget is "much", not a size such as 64MB'),
    ("version: 1\nbudget: 0MB", ":2: budget"),
    ("version: 1\nbudget: 0", ":2: budget"),
    ("version: 1\nbudget: -5", ":2: budget"),
    ("version: 1\nbudget: [64MB]", ":2: budget is a list"),
    ("version: 1\nfail-on: errors", ':2: fail-on is "errors"; did you mean error?'),
    ("version: 1\nundecided: 3", ':2: undecided is "3"; there are pass, fail, undecided'),
    ("version: 1\npreset: strikt", ':2: preset is "strikt"; did you mean strict?'),
    ("version: 1\npreset: ../strict", ":2: preset"),
    ("version: 1\npreset: [strict]", ":2: preset is a list"),
    ("version: 1\npreset:", ":2: preset is empty"),
    ("version: 1\nignore-comments: no", ':2: ignore-comments is "no"; there are allow, deny'),
    ("version: 1\nignore_comments: deny", ':2: the policy has no "ignore_comments"; did you mean ignore-comments?'),
    ("version: 1\nlevels:", ":2: levels is empty"),
    ("version: 1\nlevels: [LIN201]", ":2: levels is a list"),
    ("version: 1\nlevels:\n  LIN999: off", ':3: there is no finding code "LIN999"'),
    ("version: 1\nlevels:\n  lin205: off", ':3: there is no finding code "lin205"; did you mean LIN205?'),
    ("version: 1\nlevels:\n  LIN201: no", ':3: the level of LIN201 is "no"'),
    ("version: 1\nlevels:\n  LIN201: fatal", ":3: the level of LIN201"),
    ("version: 1\nbases: {}", ':2: bases lacks "allow"'),
    ("version: 1\nbases: {deny: [a/b]}", ':2: bases has no "deny"'),
    ("version: 1\nbases: {allow: []}", ":2: bases.allow is an empty list"),
    ("version: 1\nbases: {allow: acme/*}", ':2: bases.allow is "acme/*", not a list'),
    ("version: 1\nbases:\n  allow:\n  - a/b/c", ':4: "a/b/c" is no pattern of model ids'),
    ("version: 1\nbases: {allow: [https://x/y]}", ":2: "),
    ("version: 1\nbases: {allow: [1]}", ":2: "),
    ("version: 1\nexceptions: {}", ":2: exceptions is an empty mapping"),
    ("version: 1\nexceptions: []", ":2: exceptions is an empty list"),
    ("version: 1\nexceptions:\n- LIN101", ':3: an exception is "LIN101"'),
    (
        "version: 1\nexceptions:\n- model: a/b\n  codes: [LIN101]\n  expires: 2027-03-31",
        ':3: an exception lacks "reason"',
    ),
    ("version: 1\nexceptions:\n- model: a/b\n  codes: [LIN101]\n  reason: r", ':3: an exception lacks "expires"'),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('model', 'modle')}]", 'has no "modle"; did you mean model?'),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('[LIN101]', '[]')}]", ":2: codes is an empty list"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('LIN101', 'LIN1')}]", ":2: there is no finding code"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('reason: r', 'reason: null')}]", ":2: reason is empty"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('reason: r', 'reason: 7')}]", ":2: reason"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('reason: r', 'reason: ' + 301 * 'r')}]", ":2: reason"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('2027-03-31', '31.03.2027')}]", ":2: expires"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('2027-03-31', '2027-3-31')}]", ":2: expires"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('2027-03-31', '2027-02-29')}]", ":2: expires"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('2027-03-31', '2027-03-31T00:00:00Z')}]", ":2: expires"),
    (f"version: 1\nexceptions: [{EXCEPTION.replace('2027-03-31', 'never')}]", ":2: expires"),
)

# What only a reader of the text can refuse: a schema sees loaded values, or none at all.
BOMB = b"a: &a [1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (letter, letter, b",".join([b"*%c" % (letter - 1)] * 9)) for letter in b"bcdefgh"
)
UNREADABLE = (
    (b"version: 1\nbar: 9\nbar: 10", ':3: the key "bar" is repeated (first on line 2)'),
    (b"version: 1\nlevels: {LIN201: off, LIN201: error}", ':2: the key "LIN201" is repeated'),
    (b"version: 1\nlevels: &l {LIN201: off}\n<<: *l", ":3: the YAML merge key << is not followed"),
    (b"version: 1\n? [a]\n: b", ":2: a list stands where a key is expected"),
    (b"version: 1\nbar: !!python/object/apply:os.system ['true']", ":2: the policy uses the YAML tag"),
    (b"version: 1\n---\nversion: 1", ":2: the policy holds more than one YAML document"),
    (b"version: 1\nbar: [", ":2: the policy is not valid YAML"),
    (b"version: 1\nbar: \xff", ":2: the policy contains bytes that are not UTF-8"),
    (b"version: 1\nbar: \x1b[31m", ":2: the policy contains the character U+001B"),
    ("version: 1".encode("utf-16"), ":1: the policy contains"),
    (b"version: 1\nbar: *x", ":2: the YAML alias *x is not defined above"),
    (b"version: 1\nbar: " + b"[" * 100, ":2: the policy is nested more than 64 levels deep"),
    (BOMB, "the policy stands for more than 50,000 values"),
)


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / ".lineage.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    return message


def test_every_setting_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    reason = "trained before the lab kept its cards"
    assert load_policy(path) == Policy(
        file=path.as_posix(),
        bar=12.5,
        budget=64_000_000,
        fail_on="warning",
        undecided="fail",
        levels={"LIN205": "error", "LIN201": "off"},
        allow=("acme/*", "meta-llama/Llama-3*"),
        exceptions=(Exemption("acme/legacy-*", ("LIN101", "LIN106"), reason, date(2027, 3, 31), 11),),
    )


def test_an_empty_policy_changes_nothing(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, "\ufeffversion: 1\r\n")) == Policy(file=(tmp_path / ".lineage.yml").as_posix())


@pytest.mark.parametrize(("content", "says"), BAD)
def test_what_is_not_exactly_right_is_refused_at_its_line(content: str, says: str, tmp_path: Path) -> None:
    message = refusal(written(tmp_path, content))
    assert says in message
    assert re.search(r"\.lineage\.yml:\d+: ", message)


@pytest.mark.parametrize(("content", "says"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_is_no_plain_yaml_is_refused_at_its_line(content: bytes, says: str, tmp_path: Path) -> None:
    message = refusal(written(tmp_path, content))
    assert says in message
    assert "front matter" not in message and "last one is used" not in message


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: there is no such file" in refusal(tmp_path / "none.yml")
    assert "not a regular file" in refusal(tmp_path)
    assert "at most 256 KiB" in refusal(written(tmp_path, b"version: 1\n" + b"#" * MAX_SIZE))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in refusal(tmp_path / "pipe")  # and nobody waits for a writer


def test_errors_do_not_obey_the_file(tmp_path: Path) -> None:
    for content in ('version: "::error::x\\e[31m"', 'version: 1\n"\\e]0;t\\a::error::": 1'):
        message = refusal(written(tmp_path, content))
        assert "::error" not in message


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_any_bytes_are_a_policy_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    refusal(written(tmp_path_factory.mktemp("policy"), b"version: 1\nbar: 1\n" + data))


def test_a_reason_is_made_inert(tmp_path: Path) -> None:
    hostile = EXCEPTION.replace("reason: r", 'reason: "a\\n::error::b\\e[31m"')
    (exemption,) = load_policy(written(tmp_path, f"version: 1\nexceptions: [{hostile}]")).exceptions
    assert exemption.reason == "a : :error: :b"


class _Core(yaml.SafeLoader):
    """YAML 1.2, as editors have it: ``off`` is a word, a date is text."""


_Core.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("int", "float", "null")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))


def agrees(content: str) -> bool:
    value: Any = yaml.load(content, Loader=_Core)
    validator = jsonschema.Draft202012Validator(schema(), format_checker=jsonschema.FormatChecker())
    return bool(validator.is_valid(value))


@pytest.mark.parametrize("content", GOOD)
def test_schema_and_reader_accept_the_same(content: str, tmp_path: Path) -> None:
    load_policy(written(tmp_path, content))
    assert agrees(content)


@pytest.mark.parametrize("content", [content for content, _ in BAD])
def test_schema_and_reader_refuse_the_same(content: str) -> None:
    assert not agrees(content)


VALUES = st.one_of(
    st.sampled_from([1, 2, 9, 2.5, 0, -1, 10**6, 10**7, True, False, None, "error", "warning", "note", "never", "off"]),
    st.sampled_from(
        [
            "pass",
            "fail",
            "undecided",
            "solo",
            "strict",
            "allow",
            "deny",
            "64MB",
            "1 GiB",
            "0kB",
            "2027-03-31",
            "2027-02-30",
            "acme/*",
            "a/b/c",
        ]
    ),
    st.sampled_from(["", " ", "LIN101", "LIN000", "a reason"]),
)
NODES = st.recursive(
    VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["allow", "LIN101", "LIN205", "LIN000", "x"]), inner, max_size=2),
        st.fixed_dictionaries(
            {
                "model": st.sampled_from(["acme/*", ""]),
                "codes": st.sampled_from([["LIN101"], ["LIN000"], []]),
                "reason": inner,
                "expires": st.sampled_from(["2027-03-31", "2027-02-30", "soon"]),
            }
        ),
    ),
    max_leaves=6,
)
KEYS = ("preset", "bar", "budget", "fail-on", "undecided", "ignore-comments", "levels", "bases", "exceptions", "other")


@given(st.dictionaries(st.sampled_from(KEYS), NODES, max_size=3))
def test_schema_and_reader_agree_on_anything(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> None:
    content = yaml.safe_dump({"version": 1, **settings}, default_style=None)
    path = written(tmp_path_factory.mktemp("policy"), content)
    try:
        load_policy(path)
        accepted = True
    except UsageError:
        accepted = False
    assert accepted == agrees(content), content


def test_the_schema_is_one_and_knows_every_code() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    assert schema()["$defs"]["code"]["enum"] == list(CODES)
    levels = schema()["properties"]["levels"]["properties"]
    assert {code: level["default"] for code, level in levels.items()} == {c: rule.level for c, rule in CODES.items()}
    assert [level["description"].lower() for level in levels.values()] == [
        f"{r.title}.".lower() for r in CODES.values()
    ]


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _parts(inner)


def test_editors_are_told_what_every_setting_and_every_word_means() -> None:
    for name, setting in schema()["properties"].items():
        assert setting["description"].endswith("."), name
    choices = [part for part in _parts(schema()) if "enum" in part]
    assert len(choices) == 6
    for part in choices:
        assert len(part["enumDescriptions"]) == len(part["enum"]) and all(part["enumDescriptions"])
    defaults = {name: part["default"] for name, part in schema()["properties"].items() if "default" in part}
    kept = Policy()
    assert defaults == {
        "version": 1,
        "preset": "solo",
        "bar": DEFAULT_BAR,
        "fail-on": "error",
        "undecided": kept.undecided,
        "ignore-comments": kept.ignore_comments,
    }


# Reading on after what is wrong.


def test_all_that_is_wrong_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    content = """\
version: 2
fail_on: error
bar: 1
bar: 1
levels: {LIN999: off, LIN201: fatal, LIN205: note}
bases:
  allow: [a/b/c, acme/*]
exceptions:
  - model: acme/*
    codes: [LIN1, LIN101]
    reason: 7
    modle: x
  - 3
"""
    policy, problems = inspect_policy(written(tmp_path, content))
    assert policy is None
    assert [(wrong.line, wrong.column, wrong.problem.partition(";")[0]) for wrong in problems] == [
        (1, 10, 'version is "2", but the version of policies read here is 1'),
        (2, 1, 'the policy has no "fail_on"'),
        (4, 1, 'the key "bar" is repeated (first on line 3)'),
        (4, 6, 'bar is "1", not a number from 2 (an e-value of 100) to 999999'),
        (5, 10, 'there is no finding code "LIN999"'),
        (5, 31, 'the level of LIN201 is "fatal"'),
        (7, 11, '"a/b/c" is no pattern of model ids such as acme/* or acme/base-7b'),
        (9, 5, 'an exception lacks "expires"'),
        (10, 13, 'there is no finding code "LIN1"'),
        (11, 13, 'reason is "7", not a text of 1 to 300 characters'),
        (12, 5, 'an exception has no "modle"'),
        (13, 5, 'an exception is "3", not keys with values'),
    ]


@pytest.mark.parametrize("content", [content for content, _ in (*BAD, *UNREADABLE)], ids=range(len(BAD + UNREADABLE)))
def test_the_first_problem_is_among_all_of_them(content: str | bytes, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    policy, problems = inspect_policy(path)
    assert policy is None
    assert refusal(path) in [str(wrong) for wrong in problems]


@pytest.mark.parametrize("content", GOOD)
def test_where_nothing_is_wrong_the_policy_is_the_same(content: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    assert inspect_policy(path) == (load_policy(path), ())


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
def test_any_bytes_have_problems_of_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = written(tmp_path_factory.mktemp("policy"), b"version: 1\nbar: 1\n" + data)
    policy, problems = inspect_policy(path)
    assert policy is None and problems
    assert all(str(wrong).isprintable() and wrong.line >= 1 and wrong.column >= 1 for wrong in problems)


@pytest.mark.timeout(20)
def test_a_bomb_of_aliases_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    bomb = f"version: 1\nlevels: &l {{{'k' * 50_000}: 1}}\nexceptions: [{', '.join(['*l'] * 15_000)}]\n"
    policy, problems = inspect_policy(written(tmp_path, bomb))
    assert policy is None
    assert all(len(str(wrong)) < 500 for wrong in problems)


def test_a_policy_remembers_where_it_says_what(tmp_path: Path) -> None:
    places = load_policy(written(tmp_path, WHOLE)).places
    assert places["bar"] == (3, 1)
    assert places["levels.LIN201"] == (7, 25)
    assert places["bases.allow.1"] == (9, 19)
    assert places["exceptions.0.codes.1"] == (12, 21)
