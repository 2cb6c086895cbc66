"""LINEAGE_GATE: programs that know nothing of this package are held, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hooks.conftest import EXAMPLES, LFS, REPO, Site
from tests.hub import TOKEN

HF = Path(sys.executable).with_name("hf")
ON = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def run(site: Site, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program against the Hub, as the way of uploading that the site is about has it."""
    xet = {} if site.hub.upload_mode == "regular" else {"HF_HUB_DISABLE_XET": "1"}
    environment = os.environ | ON | xet | {"HF_ENDPOINT": site.hub.endpoint} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_hf_upload_is_held(site: Site) -> None:
    done = run(site, str(HF), "upload", REPO, str(EXAMPLES / "liar"), LINEAGE_GATE="strict")
    assert done.returncode == 1
    assert "lineage: error: upload to me/model blocked, no weights were sent" in done.stderr
    assert "LIN101" in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    site.assert_nothing_left()


def test_hf_upload_of_one_file_is_held(site: Site) -> None:
    weights = str(EXAMPLES / "liar" / "model.safetensors")
    assert run(site, str(HF), "upload", REPO, weights, LINEAGE_GATE="1").returncode == 1
    site.assert_nothing_left()


def test_an_honest_model_goes(site: Site) -> None:
    done = run(site, str(HF), "upload", REPO, str(EXAMPLES / "honest"), LINEAGE_GATE="strict")
    assert done.returncode == 0, done.stderr
    site.assert_arrived(EXAMPLES / "honest")


@LFS
def test_warnings_let_it_go(site: Site) -> None:
    done = run(site, str(HF), "upload", REPO, str(EXAMPLES / "liar"), LINEAGE_GATE="warn")
    assert done.returncode == 0
    assert "would be blocked" in done.stderr and "LIN101" in done.stderr
    site.assert_arrived(EXAMPLES / "liar")


@LFS
@pytest.mark.parametrize("value", ["", "off", "0"])
def test_nothing_is_held_without(site: Site, value: str) -> None:
    assert run(site, str(HF), "upload", REPO, str(EXAMPLES / "liar"), LINEAGE_GATE=value).returncode == 0
    site.assert_arrived(EXAMPLES / "liar")


@LFS
def test_a_gate_that_is_none_lets_nothing_go(site: Site) -> None:
    done = run(site, str(HF), "upload", REPO, str(EXAMPLES / "honest"), LINEAGE_GATE="strickt")
    assert done.returncode == 1
    assert done.stderr == "lineage: error: LINEAGE_GATE=strickt: strict, warn or off\n"
    site.assert_nothing_left()


@LFS
def test_a_gate_that_cannot_be_loaded_lets_nothing_go(site: Site, tmp_path: Path) -> None:
    # A package of that name that comes first stands for a broken installation.
    (tmp_path / "lineage_plugin" / "hooks").mkdir(parents=True)
    (tmp_path / "lineage_plugin" / "__init__.py").write_text("")
    (tmp_path / "lineage_plugin" / "hooks" / "__init__.py").write_text("")
    source = Path(__file__).parents[2] / "lineage_plugin" / "hooks" / "startup.py"
    (tmp_path / "lineage_plugin" / "hooks" / "startup.py").write_bytes(source.read_bytes())
    done = run(site, str(HF), "upload", REPO, str(EXAMPLES / "honest"), LINEAGE_GATE="strict", PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    site.assert_nothing_left()


def test_python_starts_as_before_and_loads_nothing() -> None:
    code = "import sys; print(sorted(n for n in sys.modules if n.startswith(('lineage_plugin', 'huggingface_hub'))))"
    loaded = {}
    for value in ("", "strict"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"LINEAGE_GATE": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        loaded[value] = done.stdout.strip()
    # What fails here is printed, and Python goes on without a gate: so nothing that can fail is loaded yet.
    small = ["lineage_plugin", "lineage_plugin._version", "lineage_plugin.hooks", "lineage_plugin.hooks.startup"]
    assert loaded == {"": "[]", "strict": str(small)}


def test_the_client_is_loaded_as_it_would_be() -> None:
    code = (
        "import huggingface_hub, importlib.resources as r, inspect; from lineage_plugin.hooks import gates; "
        "print(gates(), (r.files('huggingface_hub') / 'py.typed').is_file(), "
        "'HfApi' in inspect.getsource(huggingface_hub), huggingface_hub.__spec__.name)"
    )
    environment = os.environ | {"LINEAGE_GATE": "warn"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "(Gate(warn),) True True huggingface_hub\n"


def test_another_error_keeps_its_traceback() -> None:
    environment = os.environ | {"LINEAGE_GATE": "strict"}
    done = subprocess.run(
        [sys.executable, "-c", "import huggingface_hub; 1 / 0"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError" in done.stderr


@LFS
def test_an_upload_without_weights_waits_for_no_check(site: Site, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing about a model")
    started = time.perf_counter()
    done = run(site, str(HF), "upload", REPO, str(tmp_path / "notes.txt"), LINEAGE_GATE="strict")
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 60
    assert [record.path for record in site.hub.log if "examples" in record.path] == []
