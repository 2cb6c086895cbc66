"""Digests of local files: right ones, and no file read twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lineage_plugin.errors import UnreadableCheckpoint
from lineage_plugin.hooks import digests as module
from lineage_plugin.hooks.digests import Digests, unchanged

POSIX = pytest.mark.skipif(os.name == "nt", reason="of POSIX systems")
CHUNK = 1 << 20
SLOW = 192 << 20
"""Bytes that take longer to hash than one tick of the progress."""


class Reading:
    """A progress callback that notes what is read."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        self.calls.append((stage, done, total))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stamps of this machine are finer than two seconds; tests need not wait that long."""
    monkeypatch.setattr(module, "_GRANULE", 50 * 10**6)


def settle() -> None:
    time.sleep(0.08)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def was_read(cache: Path, *paths: Path) -> bool:
    """Hash files and say whether any was read; the digests must be right."""
    reading = Reading()
    assert Digests(cache).of(paths, reading) == {path: sha256(path) for path in paths}
    return bool(reading.calls)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


# Hashing -------------------------------------------------------------------------------------------------------------


def test_digests_are_right(tmp_path: Path) -> None:
    sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5]
    paths = [write(tmp_path / f"{size}", os.urandom(size)) for size in sizes]
    reading = Reading()
    found = Digests(tmp_path / "cache").of([*paths, paths[0]], reading)
    assert found == {path: sha256(path) for path in paths}
    assert list(found) == paths
    assert reading.calls[-1] == ("hashing files", sum(sizes), sum(sizes))


def test_no_files_no_digests(tmp_path: Path) -> None:
    assert Digests(tmp_path / "cache").of([]) == {}
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("quick")
def test_links_are_followed(tmp_path: Path) -> None:
    """Snapshots of the Hub's cache are links to blobs: one file under two names is read once."""
    blob = write(tmp_path / "blob", b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    settle()
    assert was_read(tmp_path / "cache", link)
    assert not was_read(tmp_path / "cache", blob, link)


def refused(path: Path) -> str:
    with pytest.raises(UnreadableCheckpoint) as caught:
        Digests(path.parent / "cache").of([path])
    assert str(path) in str(caught.value)
    return caught.value.problem


@POSIX
@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zeros").symlink_to("/dev/zero")
    assert refused(tmp_path / "missing") == "there is no such file"
    for name in ("pipe", "folder", "zeros"):
        assert refused(tmp_path / name) == "this is not a regular file"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="of Linux")
def test_a_file_with_more_in_it_than_it_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCheckpoint, match="changed while it was read"):
        Digests(tmp_path).of([Path("/proc/self/status")])


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")


def overwrite_and_set_back(path: Path) -> None:
    status = path.stat()
    overwrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange(path: Path) -> None:
    other = sparse(path.with_name("other"), path.stat().st_size)
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    other.replace(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def grow_on(path: Path) -> None:
    os.truncate(path, 1 << 40)


def point_elsewhere(path: Path) -> None:
    """Nothing about the file that was opened changes, but its name is another's now."""
    other = sparse(path.with_name("other"), path.stat().st_size)
    path.with_name("link").symlink_to(other)
    path.with_name("link").replace(path)


CHANGES = [overwrite, overwrite_and_set_back, exchange, append, shorten]


@POSIX
@pytest.mark.usefixtures("quick")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("change", [*CHANGES, grow_on, point_elsewhere])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = tmp_path / "model.safetensors"
    path.symlink_to(sparse(tmp_path / "blob", SLOW))
    if change is exchange:
        (tmp_path / "blob").replace(path)
    settle()
    before = path.stat()

    def meddle(stage: str, done: int, total: int) -> None:
        now = path.stat()
        if done > 0 and (now.st_ino, now.st_ctime_ns) == (before.st_ino, before.st_ctime_ns):
            assert done < total, "the machine is too fast for this test"
            change(path)

    digests = Digests(tmp_path / "cache")
    with pytest.raises(UnreadableCheckpoint, match="the file changed while it was read"):
        digests.of([path], meddle)
    with pytest.raises(KeyError):
        digests.stamp(path)
    if change is grow_on:
        os.truncate(path, SLOW)
    settle()
    reading = Reading()
    digests.of([path], reading)
    assert reading.calls, "a digest was kept"


@pytest.mark.usefixtures("quick")
@pytest.mark.timeout(20)
def test_an_interruption_ends_the_reading_and_keeps_what_was_done(tmp_path: Path) -> None:
    small = write(tmp_path / "small", b"small")
    large = [sparse(tmp_path / f"{i}", 1 << 40) for i in range(3)]
    settle()

    def interrupt(stage: str, done: int, total: int) -> None:
        if done > 64 * CHUNK:
            raise KeyboardInterrupt

    digests = Digests(tmp_path / "cache")
    assert digests.of([small]) == {small: sha256(small)}
    with pytest.raises(KeyboardInterrupt):
        digests.of([small, *large], interrupt)
    assert not was_read(tmp_path / "cache", small)


@pytest.mark.usefixtures("quick")
@pytest.mark.timeout(20)
def test_an_error_ends_the_reading_of_the_others(tmp_path: Path) -> None:
    large = sparse(tmp_path / "large", 1 << 40)
    with pytest.raises(UnreadableCheckpoint, match="no such file"):
        Digests(tmp_path / "cache").of([large, tmp_path / "missing"])


# Not reading twice ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
def test_a_file_is_read_once(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}", os.urandom(1000)) for i in range(3)]
    settle()
    assert was_read(tmp_path / "cache", *paths)
    assert not was_read(tmp_path / "cache", *paths)
    fresh = write(tmp_path / "fresh", b"x" * 10)
    reading = Reading()
    Digests(tmp_path / "cache").of([*paths, fresh], reading)
    assert reading.calls[-1] == ("hashing files", 10, 10)


@POSIX
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_is_read_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = write(tmp_path / "model.safetensors", os.urandom(5000))
    settle()
    digests = Digests(tmp_path / "cache")
    digests.of([path])
    stamp = digests.stamp(path)
    assert unchanged(path, stamp)
    change(path)
    assert not unchanged(path, stamp)
    assert was_read(tmp_path / "cache", path)
    settle()
    was_read(tmp_path / "cache", path)
    assert not was_read(tmp_path / "cache", path)


@pytest.mark.usefixtures("quick")
def test_a_file_that_is_gone_is_not_unchanged(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", b"x")
    settle()
    digests = Digests(tmp_path / "cache")
    digests.of([path])
    path.unlink()
    assert not unchanged(path, digests.stamp(path))


def test_a_digest_of_a_file_that_changed_only_just_is_not_kept(tmp_path: Path) -> None:
    """Written, hashed and written again within a tick of the file system's clock, a file has the same stamp."""
    path = tmp_path / "model.safetensors"
    for i in range(50):
        write(path, bytes([i]) * 100)
        assert was_read(tmp_path / "cache", path)
    digests = Digests(tmp_path / "cache")
    digests.of([path])
    assert not unchanged(path, digests.stamp(path))


def test_a_digest_is_kept_after_two_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", b"x")
    ahead = write(tmp_path / "ahead", b"x")
    os.utime(ahead, ns=(0, time.time_ns() + 10**12))
    assert was_read(tmp_path / "cache", path, ahead)
    time.sleep(2.1)
    assert was_read(tmp_path / "cache", path, ahead)
    assert not was_read(tmp_path / "cache", path)
    assert was_read(tmp_path / "cache", ahead), "a change within this tick of the future would not be seen"


@pytest.mark.usefixtures("quick")
def test_those_not_asked_for_longest_go_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}", bytes([i])) for i in range(5)]
    settle()
    for path in paths[:4]:
        Digests(tmp_path / "cache", limit=3).of([path])
    assert was_read(tmp_path / "cache", paths[0])
    assert not was_read(tmp_path / "cache", *paths[1:4])


@pytest.mark.usefixtures("quick")
def test_use_is_noted_once_a_day(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}", bytes([i])) for i in range(4)]
    settle()
    Digests(tmp_path / "cache").of(paths[:3])
    with sqlite3.connect(tmp_path / "cache" / "digests.sqlite") as database:
        database.execute("UPDATE digests_1 SET used = used - ?", (2 * module._DAY,))
        oldest = f"{paths[0].stat().st_dev}:{paths[0].stat().st_ino}"
        assert database.execute("UPDATE digests_1 SET used = 0 WHERE file = ?", (oldest,)).rowcount == 1
    assert not was_read(tmp_path / "cache", paths[0])
    Digests(tmp_path / "cache", limit=2).of(paths[3:])
    assert not was_read(tmp_path / "cache", paths[0], paths[3])
    assert was_read(tmp_path / "cache", paths[1])


HASH = """
import sys
from pathlib import Path
from lineage_plugin.hooks.digests import Digests
for _ in range(10):
    for path in sys.argv[2:]:
        print(Digests(Path(sys.argv[1])).of([Path(path)])[Path(path)])
"""


@pytest.mark.usefixtures("quick")
def test_several_processes_at_once(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}", os.urandom(100)) for i in range(8)]
    time.sleep(2.1)  # the other processes know of no shorter time
    command = [sys.executable, "-c", HASH, str(tmp_path / "cache"), *map(str, paths)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert err == "" and process.returncode == 0
        assert out.split() == [sha256(path) for path in paths] * 10
    assert not was_read(tmp_path / "cache", *paths)
    assert not list((tmp_path / "cache").glob("*.damaged"))


# A database that cannot be used --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("damage", ["garbage", "cut short", "zeros inside", "foreign journal"])
def test_a_damaged_database_is_begun_anew(tmp_path: Path, damage: str) -> None:
    paths = [write(tmp_path / f"{i}", bytes([i])) for i in range(200)]
    settle()
    assert was_read(tmp_path / "cache", *paths)
    file = tmp_path / "cache" / "digests.sqlite"
    data = file.read_bytes()
    if damage == "foreign journal":
        file.with_name("digests.sqlite-journal").write_bytes(os.urandom(5000))
    elif damage == "garbage":
        file.write_bytes(b"nonsense" * 1000)
    else:
        file.write_bytes(data[:5000] if damage == "cut short" else data[:4096] + bytes(len(data) - 4096))
    was_read(tmp_path / "cache", *paths)
    was_read(tmp_path / "cache", *paths)
    assert not was_read(tmp_path / "cache", *paths)


@POSIX
@pytest.mark.usefixtures("quick")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["folder", "pipe", "dangling link", "zeros", "another's table"])
def test_whatever_lies_in_its_place(tmp_path: Path, what: str) -> None:
    file = tmp_path / "cache" / "digests.sqlite"
    file.parent.mkdir()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "dangling link":
        file.symlink_to(tmp_path / "nowhere" / "at all")
    elif what == "zeros":
        file.symlink_to("/dev/zero")
    else:
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE digests_1 (path TEXT)")
    path = write(tmp_path / "model.safetensors", b"x")
    settle()
    was_read(tmp_path / "cache", path)
    was_read(tmp_path / "cache", path)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "change", ["sha256 = 'abc'", "sha256 = x'00'", "sha256 = x'ff'", "used = 'never'", "used = -1", "state = x'ff'"]
)
def test_rows_that_make_no_sense_are_passed_over(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "model.safetensors", b"x")
    settle()
    was_read(tmp_path / "cache", path)
    with sqlite3.connect(tmp_path / "cache" / "digests.sqlite") as database:
        database.execute(f"UPDATE digests_1 SET {change}")
    was_read(tmp_path / "cache", path)
    assert not was_read(tmp_path / "cache", path)


@POSIX
@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere", "file"])
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, place: str) -> None:
    path = write(tmp_path / "file", b"x")
    assert was_read(tmp_path / place, path)


@pytest.mark.usefixtures("quick")
def test_a_database_that_another_program_holds_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    path = write(tmp_path / "model.safetensors", b"x")
    settle()
    was_read(tmp_path / "cache", path)
    database = sqlite3.connect(tmp_path / "cache" / "digests.sqlite", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    assert was_read(tmp_path / "cache", path)
    database.close()
    assert not was_read(tmp_path / "cache", path)
    assert not list((tmp_path / "cache").glob("*.damaged"))


def test_the_user_s_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRANULE", 0)
    monkeypatch.setenv("LINEAGE_CACHE", str(tmp_path / "mine"))
    path = write(tmp_path / "model.safetensors", b"x")
    settle()
    Digests().of([path])
    assert (tmp_path / "mine" / "digests.sqlite").is_file()
