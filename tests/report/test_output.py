"""Where reports go: streams of every encoding, terminals, pipes that close, files that are whole or not there."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lineage_plugin.errors import UsageError
from lineage_plugin.report import render
from lineage_plugin.report.output import check_output, publish, wants_color
from tests.report import samples

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")

SCRIPT = """
import sys
from lineage_plugin.cli import guarded
from lineage_plugin.report.output import publish
from tests.report import samples
sys.stdout.reconfigure(errors="replace")
sys.exit(guarded(lambda: publish([samples.{sample}()], format={format!r}, output={output!r}) or 7))
"""


def start(
    sample: str = "derived", format: str = "text", output: str | None = None, **environment: str
) -> subprocess.Popen[bytes]:
    script = SCRIPT.format(sample=sample, format=format, output=output)
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING")}
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def published(**options: str) -> tuple[bytes, bytes, int]:
    process = start(**options)
    out, err = process.communicate(timeout=60)
    return out, err, process.returncode


def test_a_pipe_gets_the_report_without_colours_80_columns_wide() -> None:
    out, err, code = published(PYTHONIOENCODING="utf-8")
    assert (err, code) == (b"", 7)
    assert out.decode().replace("\r\n", "\n") == render(samples.derived(), "text", width=80)


def test_columns_sets_the_width_and_force_color_colours() -> None:
    out, _, _ = published(PYTHONIOENCODING="utf-8", COLUMNS="100", FORCE_COLOR="1")
    assert out.decode().replace("\r\n", "\n") == render(samples.derived(), "text", width=100, color=True)


def test_no_color_wins_over_force_color() -> None:
    out, _, _ = published(FORCE_COLOR="1", NO_COLOR="1")
    assert b"\x1b" not in out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1"])
def test_any_output_encoding_works(encoding: str) -> None:
    out, err, code = published(sample="hostile", PYTHONIOENCODING=encoding)
    assert (err, code) == (b"", 7)
    assert b"PASS: " in out
    expected = render(samples.hostile(), "text", width=80, unicode=False)
    assert out.decode(encoding).replace("\r\n", "\n") == expected


def test_json_does_not_depend_on_the_encoding() -> None:
    texts = {published(sample="hostile", format="json", PYTHONIOENCODING=e)[0] for e in ("ascii", "utf-8", "cp1252")}
    assert len(texts) == 1


@POSIX
def test_a_reader_that_leaves_early_is_no_error() -> None:
    process = start()
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 7
    process.stderr.close()


@POSIX
def test_a_closed_standard_output_is_no_error() -> None:
    script = SCRIPT.format(sample="derived", format="text", output=None).replace("sys.stdout.reconfigure", "str")
    run = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, script], cwd=ROOT, stderr=subprocess.PIPE, check=False
    )
    assert (run.stderr, run.returncode) == (b"", 7)


@POSIX
def test_a_terminal_gets_colours_and_its_own_width() -> None:
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 97, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(sample="derived", format="text", output=None)],
        cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"},
        stdout=slave,
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:  # Linux reports the end of a terminal as an error
        pass
    finally:
        os.close(master)
    assert process.wait(60) == 7
    assert shown.decode().replace("\r\n", "\n") == render(samples.derived(), "text", width=97, color=True)


@pytest.mark.parametrize(
    ("environment", "terminal", "color"),
    [
        ({}, False, False),
        ({"TERM": "xterm", "WT_SESSION": "1"}, True, True),
        ({"TERM": "dumb", "WT_SESSION": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "", "WT_SESSION": "1"}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_when_to_colour(
    environment: dict[str, str], terminal: bool, color: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_color(Stream()) is color


def test_a_file_gets_the_report_in_utf_8_without_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    target = tmp_path / "report.txt"
    publish([samples.hostile()], format="text", output=str(target))
    assert target.read_bytes().decode("utf-8") == render(samples.hostile(), "text", width=100)
    assert list(tmp_path.iterdir()) == [target]


def test_a_dash_is_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    publish([samples.derived()], format="json", output="-")
    assert capsys.readouterr().out == render(samples.derived(), "json")


@POSIX
def test_the_mode_of_a_file_is_kept_and_that_of_a_new_one_is_the_usual(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("x")
    old.chmod(0o640)
    mask = os.umask(0o027)
    try:
        for path in (old, new):
            publish([samples.derived()], format="json", output=str(path))
    finally:
        os.umask(mask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@POSIX
def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("x")
    link.symlink_to(target)
    publish([samples.derived()], format="json", output=str(link))
    assert link.is_symlink()
    assert target.read_text().startswith("{")


@POSIX
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    publish([samples.derived()], format="json", output=str(pipe))
    reader.join(30)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert received == [render(samples.derived(), "json").encode()]


@POSIX
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    script = limit + SCRIPT.format(sample="derived", format="json", output=str(target))
    run = subprocess.run([sys.executable, "-B", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.startswith("lineage: error: --output ")
    assert run.stderr.count("\n") == 1
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_bad_places_are_refused_before_any_work(tmp_path: Path) -> None:
    for bad in ("", str(tmp_path), str(tmp_path / "missing" / "r.json")):
        with pytest.raises(UsageError, match="--output"):
            check_output(bad)
    for good in ("-", str(tmp_path / "r.json"), "r.json"):
        check_output(good)


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "README.md", "config.json", "adapter_config.json", "model.safetensors.index.json", "x.gguf"],
)
def test_a_report_never_takes_the_place_of_a_model(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"what took weeks")
    with pytest.raises(UsageError, match="would overwrite a file of a model"):
        check_output(str(tmp_path / name))


@pytest.mark.parametrize("name", ["report.json", "lineage.sarif", "notes.md", "lineage.fingerprint.safetensors"])
def test_a_report_may_take_the_place_of_an_older_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    check_output(str(tmp_path / name))
