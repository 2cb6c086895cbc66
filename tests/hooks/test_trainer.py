"""A real Trainer with the callback, pushing to the local Hub."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

from lineage_plugin.api import compare
from lineage_plugin.errors import UploadBlocked, UsageError
from lineage_plugin.fingerprint.file import FILE
from lineage_plugin.hooks import LineageCallback, gates
from tests.hooks.conftest import EXAMPLES, LFS, REPO, Site
from tests.hub import TOKEN, LocalHub

_ROWS = [{"input_ids": torch.arange(32) + row, "labels": torch.arange(32) + row} for row in range(16)]


@pytest.fixture(autouse=True)
def client_of_this_test(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library keeps one client for everything."""
    monkeypatch.setattr("transformers.utils.hub._hf_api", HfApi(endpoint=hub.endpoint))


def trainer(start: Path, out: Path, callback: LineageCallback, strategy: str = "end") -> Trainer:
    arguments = TrainingArguments(
        str(out),
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=2,
        learning_rate=1e-4,
        push_to_hub=True,
        hub_model_id=REPO,
        hub_token=TOKEN,
        hub_strategy=strategy,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    model = LlamaForCausalLM.from_pretrained(start)
    return Trainer(model, arguments, train_dataset=_ROWS, callbacks=[callback])


def test_a_fine_tune_of_the_declared_base_is_pushed(site: Site, tmp_path: Path) -> None:
    callback = LineageCallback()
    run = trainer(EXAMPLES / "base", tmp_path / "out", callback)
    run.train()
    try:
        run.push_to_hub(finetuned_from="examples/base")
        assert gates() != ()
    finally:
        callback.remove()
    sent = site.files()
    assert {"README.md", "config.json", "model.safetensors"} <= sent.keys()
    assert sent["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
    assert b"base_model: examples/base" in sent["README.md"]


def test_another_model_under_that_card_is_not(site: Site, tmp_path: Path) -> None:
    callback = LineageCallback()
    run = trainer(EXAMPLES / "liar", tmp_path / "out", callback)
    run.train()
    try:
        with pytest.raises(UploadBlocked, match="LIN101"):
            run.push_to_hub(finetuned_from="examples/base")
    finally:
        callback.remove()
    site.assert_nothing_left()


def test_a_push_during_the_training_is_blocked_and_the_training_goes_on(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(EXAMPLES / "liar" / "README.md", tmp_path / "out")
    callback = LineageCallback()
    run = trainer(EXAMPLES / "liar", tmp_path / "out", callback, "every_save")
    try:
        with caplog.at_level(logging.ERROR, "lineage_plugin"):
            done = run.train()
            run._finish_current_push()
            callback.on_train_end(run.args, run.state, run.control)
    finally:
        callback.remove()
    assert done.global_step == 2
    assert "upload to me/model blocked, no weights were sent" in caplog.text
    site.assert_nothing_left()


@LFS
def test_warnings_let_it_go(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = LineageCallback(mode="warn", fingerprint=False)
    run = trainer(EXAMPLES / "liar", tmp_path / "out", callback)
    run.train()
    try:
        run.push_to_hub(finetuned_from="examples/base")
    finally:
        callback.remove()
    assert "would be blocked" in caplog.text
    assert "model.safetensors" in site.files()
    assert list((tmp_path / "out").rglob(FILE)) == []


@LFS
def test_a_checkpoint_has_its_fingerprint(site: Site, tmp_path: Path) -> None:
    # A fingerprint holds little of each layer: one layer is not enough for it.
    base = Path(__file__).parents[2] / "examples" / "base"
    trainer(base, tmp_path / "out", LineageCallback()).train()
    folders = sorted((tmp_path / "out").glob("checkpoint-*"))
    assert [folder.name for folder in folders] == ["checkpoint-1", "checkpoint-2"]
    for folder in folders:
        report = compare(str(folder / FILE), str(base))
        assert report.comparisons[0].relation == "derived"
    assert gates() == ()


@LFS
def test_a_fingerprint_that_cannot_be_written_ends_no_training(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = LineageCallback()
    run = trainer(EXAMPLES / "base", tmp_path / "out", callback)
    run.state.global_step = 7
    callback.on_save(run.args, run.state, run.control)
    assert "no fingerprint of" in caplog.text and "checkpoint-7" in caplog.text


def test_what_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="no mode of the gate"):
        LineageCallback(mode="loose")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no reason"):
        LineageCallback(override="yes")
