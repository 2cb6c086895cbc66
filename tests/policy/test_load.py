"""The file: what is read, what is refused in one line with its place, and that the schema for editors agrees."""

from __future__ import annotations

import os
import re
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
from lineage_plugin.policy.load import MAX_SIZE, schema
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
    ("version: 1\n\nzzz: 1", ':3: the policy has no "zzz"; there are version, bar,'),
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
        ["pass", "fail", "undecided", "64MB", "1 GiB", "0kB", "2027-03-31", "2027-02-30", "acme/*", "a/b/c"]
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
KEYS = ("bar", "budget", "fail-on", "undecided", "levels", "bases", "exceptions", "other")


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
