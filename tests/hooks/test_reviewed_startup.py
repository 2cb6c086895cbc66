"""A gate is there when it was asked for: before the client is loaded, after it was removed, and in every thread."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd

from lineage_plugin.errors import UsageError
from lineage_plugin.hooks import LineageApi, install_gate
from lineage_plugin.hooks.operations import Operations
from lineage_plugin.options import Options
from tests.hooks.conftest import LFS, REPO, Site, blocked


def python(code: str, gate: str) -> str:
    environment = os.environ | {"LINEAGE_GATE": gate}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_to_look_for_the_client_does_not_use_the_gate_up() -> None:
    # As transformers and accelerate do, to see which packages there are.
    code = (
        "import importlib.util as u; print(u.find_spec('huggingface_hub') is not None); "
        "u.find_spec('huggingface_hub'); "
        "import huggingface_hub; from lineage_plugin.hooks import gates; print(gates())"
    )
    assert python(code, "strict") == "True\n(Gate(strict),)\n"


def test_an_import_that_failed_fails_again() -> None:
    code = """
for _ in range(3):
    try:
        import huggingface_hub
    except Exception as error:
        print(error)
    else:
        print("imported")
"""
    assert python(code, "stric") == "LINEAGE_GATE=stric: strict, warn or off\n" * 3


def test_a_gate_goes_up_once_the_mistake_is_mended() -> None:
    code = """
import os
try:
    import huggingface_hub
except Exception:
    os.environ["LINEAGE_GATE"] = "strict"
import huggingface_hub
from lineage_plugin.hooks import gates
print(gates())
"""
    assert python(code, "stric") == "(Gate(strict),)\n"


def test_the_collector_may_run_at_any_moment() -> None:
    """Operations in cycles die while another one is noted, in a thread that has the lock."""
    operations = Operations()
    operations.watch()

    def failing() -> None:
        batch = [CommitOperationAdd(f"{number}.txt", b"x") for number in range(5)]
        try:
            raise ValueError
        except ValueError as error:
            # The frame refers to the error, whose traceback refers to the frame: only the collector ends this.
            kept = error
        assert batch and kept

    def many() -> None:
        for _ in range(40):
            failing()

    threads = [threading.Thread(target=many, daemon=True) for _ in range(2)]
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(1)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
    assert not any(thread.is_alive() for thread in threads)
    gc.collect()
    operations.copies()
    assert operations._alive() == [] and operations._noted == {}
    operations.forget()


@LFS
def test_a_gate_that_was_removed_guards_again(site: Site, liar: Path) -> None:
    gate = install_gate()
    gate.remove()
    assert not gate.installed
    for _ in range(2):
        with gate:
            assert gate.installed
            blocked(lambda: site.api().upload_folder(repo_id=REPO, folder_path=liar))
        assert not gate.installed
    site.assert_nothing_left()


def test_an_offline_check_of_an_upload_is_refused() -> None:
    # Offline, nobody knows what the card of the repository says.
    with pytest.raises(UsageError, match="leave out offline"):
        install_gate(options=Options(offline=True))
    with pytest.raises(UsageError, match="leave out offline"):
        LineageApi(options=Options(offline=True))
