"""Reports that are kept: the same one comes back, for seven days, and nothing else does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lineage_plugin import __version__
from lineage_plugin.hooks import kept as module
from lineage_plugin.hooks.kept import LONGEST, MAX_FILE, KeptReports, key_of
from lineage_plugin.judge.types import Report
from tests.report import samples

POSIX = pytest.mark.skipif(os.name == "nt", reason="of POSIX systems")
KEY = key_of({"suspect": {"model.safetensors": "ab" * 32}})


def lines(file: Path) -> tuple[dict[str, object], bytes]:
    head, body = file.read_bytes().split(b"\n")
    return json.loads(head), body


def rewrite(file: Path, body: bytes | None = None, **fields: object) -> None:
    """Write a file whose digest is right."""
    head, old = lines(file)
    body = old if body is None else body
    head |= fields
    head["sha256"] = hashlib.sha256(f"{head['key']}\n{head['kept']}\n".encode() + body).hexdigest()
    file.write_bytes(json.dumps(head, sort_keys=True, separators=(",", ":")).encode() + b"\n" + body)


def put(folder: Path, report: Report | None = None, key: str = KEY) -> Path:
    KeptReports(folder).put(key, report or samples.derived())
    return folder / "reports" / key[:2] / f"{key}.json"


# Keys ----------------------------------------------------------------------------------------------------------------


def test_the_order_of_names_does_not_matter() -> None:
    one = key_of({"bar": 9.0, "bases": {"a": "1", "b": None}, "files": ("x", "y")})
    assert one == key_of({"files": ["x", "y"], "bases": {"b": None, "a": "1"}, "bar": 9.0})
    assert len(one) == 64 and set(one) <= set("0123456789abcdef")


def test_everything_else_does() -> None:
    parts = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": True},
        {"a": None},
        {"b": 1},
        {"a": [1, 2]},
        {"a": [2, 1]},
        {"a": "\udcff"},
    ]
    assert len({key_of(one) for one in parts}) == len(parts)


def test_another_version_makes_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    one = key_of({"a": 1})
    monkeypatch.setattr(module, "__version__", __version__ + ".1")
    assert key_of({"a": 1}) != one


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError), ({1}, TypeError)])
def test_what_has_no_one_way_of_writing_makes_no_key(value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        key_of({"a": value})


# There and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [*samples.ALL, samples.linted], ids=lambda sample: sample.__name__)
def test_samples_come_back(tmp_path: Path, sample: Callable[[], Report]) -> None:
    report = sample()
    put(tmp_path, report)
    assert repr(KeptReports(tmp_path).get(KEY)) == repr(report)


def test_nothing_is_there_at_first(tmp_path: Path) -> None:
    kept = KeptReports(tmp_path)
    assert kept.get(KEY) is None
    kept.put(KEY, samples.derived())
    assert kept.get(key_of({})) is None


def test_the_last_report_counts(tmp_path: Path) -> None:
    put(tmp_path, samples.derived())
    file = put(tmp_path, samples.unrelated())
    assert KeptReports(tmp_path).get(KEY) == samples.unrelated()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def test_another_process_finds_it(tmp_path: Path) -> None:
    put(tmp_path)
    code = (
        "import sys; from pathlib import Path; from lineage_plugin.hooks.kept import KeptReports;"
        "print(KeptReports(Path(sys.argv[1])).get(sys.argv[2]).verdict)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), KEY], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("pass\n", "")


def test_the_user_s_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path))
    KeptReports().put(KEY, samples.derived())
    assert KeptReports(tmp_path).get(KEY) == samples.derived()


# No answer -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "found"),
    [(0, True), (LONGEST - 60, True), (LONGEST + 60, False), (-3600, False), (10**400, False)],
    ids=["new", "almost", "over", "of the future", "of all time"],
)
def test_seven_days(tmp_path: Path, age: int, found: bool) -> None:
    file = put(tmp_path)
    rewrite(file, kept=int(time.time()) - age)
    # When it was last used does not make it younger.
    os.utime(file)
    assert (KeptReports(tmp_path).get(KEY) is not None) == found


@pytest.mark.parametrize("kept", [None, "1", 1e9, True, [], float("nan")])
def test_a_time_that_is_none(tmp_path: Path, kept: object) -> None:
    file = put(tmp_path)
    rewrite(file, kept=kept)
    assert KeptReports(tmp_path).get(KEY) is None


def test_a_report_under_another_name_is_a_miss(tmp_path: Path) -> None:
    other = key_of({"suspect": "another"})
    file = put(tmp_path)
    (tmp_path / "reports" / other[:2]).mkdir(exist_ok=True)
    file.replace(tmp_path / "reports" / other[:2] / f"{other}.json")
    assert KeptReports(tmp_path).get(other) is None


def test_no_damaged_byte_goes_unseen(tmp_path: Path) -> None:
    file = put(tmp_path)
    data = file.read_bytes()
    kept = KeptReports(tmp_path)
    for i in [*range(0, 260), *range(260, len(data), 37)]:
        file.write_bytes(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        assert kept.get(KEY) is None, i
        if i % 7 == 0:
            file.write_bytes(data[:i])
            assert kept.get(KEY) is None, i
    file.write_bytes(data + b"\n")
    assert kept.get(KEY) is None
    file.write_bytes(data)
    assert kept.get(KEY) == samples.derived()


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"null", b"[" * 100_000, b"1" * 100_000, b"\xff", b'{"created": NaN}'],
    ids=["nothing", "empty", "null", "deep", "long number", "no text", "NaN"],
)
def test_a_report_that_is_none_is_a_miss(tmp_path: Path, body: bytes) -> None:
    file = put(tmp_path)
    rewrite(file, body)
    assert KeptReports(tmp_path).get(KEY) is None


def test_a_report_with_another_field_is_a_miss(tmp_path: Path) -> None:
    file = put(tmp_path)
    report = json.loads(lines(file)[1])
    rewrite(file, json.dumps(report).encode())
    assert KeptReports(tmp_path).get(KEY) == samples.derived()
    rewrite(file, json.dumps({**report, "new": 1}).encode())
    assert KeptReports(tmp_path).get(KEY) is None


@pytest.mark.parametrize("head", [b"[]", b"null", b"[" * 100_000, b"", b"nonsense", b'{"kept": 1' + b"0" * 5000 + b"}"])
def test_a_first_line_that_is_none_is_a_miss(tmp_path: Path, head: bytes) -> None:
    file = put(tmp_path)
    file.write_bytes(head + b"\n" + lines(file)[1])
    assert KeptReports(tmp_path).get(KEY) is None


@POSIX
@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["pipe", "folder", "large", "dangling link", "link to zeros"])
def test_whatever_lies_in_its_place(tmp_path: Path, what: str) -> None:
    file = put(tmp_path)
    data = file.read_bytes()
    file.unlink()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what == "large":
        file.write_bytes(data + b" " * MAX_FILE)
    else:
        file.symlink_to("/dev/zero" if what == "link to zeros" else tmp_path / "nowhere")
    assert KeptReports(tmp_path).get(KEY) is None
    put(tmp_path)
    assert (KeptReports(tmp_path).get(KEY) is not None) == (what != "folder")
    assert not list(tmp_path.rglob("*.tmp"))


@POSIX
@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere", "file"])
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    put(tmp_path / place)
    assert KeptReports(tmp_path / place).get(KEY) is None


def test_what_could_not_be_read_again_is_not_kept(tmp_path: Path) -> None:
    put(tmp_path, replace(samples.derived(), verdict="perhaps"))  # type: ignore[arg-type]
    put(tmp_path, replace(samples.derived(), summary="x" * MAX_FILE))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_folder_keeps_to_its_limit(tmp_path: Path) -> None:
    keys = [key_of({"n": n}) for n in range(6)]
    size = put(tmp_path, key=keys[0]).stat().st_size
    mine = tmp_path / "reports" / "ab" / "notes.json"
    mine.parent.mkdir(exist_ok=True)
    mine.write_bytes(b"x" * size)
    kept = KeptReports(tmp_path, limit=3 * size)
    for key in keys:
        kept.put(key, samples.derived())
        assert kept.get(keys[0]) is not None  # used each time, so it stays
        time.sleep(0.02)
    assert [kept.get(key) is not None for key in keys].count(True) == 3
    assert kept.get(keys[-1]) is not None
    assert mine.is_file()
