"""``lineage serve`` before it serves: what it offers, and what it refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lineage_plugin.cli import main
from lineage_plugin.errors import UsageError
from lineage_plugin.web.asked import asked
from lineage_plugin.web.serve import offered
from lineage_plugin.web.settings import Settings, from_environment

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_models_are_offered_by_names_that_no_id_has() -> None:
    found = offered(EXAMPLES)
    assert found == {f"examples:{name}": EXAMPLES / name for name in ("base", "honest", "liar", "twin")}
    for name in found:
        assert asked(name, settings=Settings(models=found)) == name


def test_a_model_that_is_the_folder_itself_and_odd_names(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "base", tmp_path / "top" / "a\x1b[31m")
    shutil.copytree(EXAMPLES / "base", tmp_path / "top" / "deep" / "er")
    shutil.copytree(EXAMPLES / "base", tmp_path / "top" / "a, b")  # a link could not name it
    (tmp_path / "top" / "deep" / "out").symlink_to(EXAMPLES)
    assert offered(tmp_path / "top") == {"top:deep/er": tmp_path / "top" / "deep" / "er"}


def test_a_folder_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["serve", "--models", str(tmp_path / "nowhere")]) == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1"])
def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main(["serve", f"--port={port}"]) == 2
    assert "is no port" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
    error = capsys.readouterr().err
    assert "is not free on 127.0.0.1" in error
    assert "Traceback" not in error


def test_without_gradio_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['gradio'] = None; from lineage_plugin.cli import main; sys.exit(main(['serve']))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "pip install 'lineage-plugin[space]'" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_space_chooses_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "acme/lineage")
    monkeypatch.setenv("LINEAGE_SPACE_SECONDS", "60")
    monkeypatch.setenv("LINEAGE_SPACE_BYTES", "64MB")
    monkeypatch.setenv("HF_TOKEN", "hf_secretOfTheSpace")
    found = from_environment()
    assert (found.on_space, found.seconds, found.bytes) == (True, 60.0, 64_000_000)
    assert found.address == "https://huggingface.co/spaces/acme/lineage"
    assert found.token is None, "a visitor must not read with the Space's rights"
    assert "hf_" not in repr(found)


@pytest.mark.parametrize(
    ("name", "value"), [("SECONDS", "soon"), ("AT_ONCE", "0"), ("WAITING", "1e3"), ("BYTES", "many"), ("MEMORY", "0")]
)
def test_values_that_are_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LINEAGE_SPACE_{name}", value)
    with pytest.raises(UsageError, match=f"LINEAGE_SPACE_{name}"):
        from_environment()
