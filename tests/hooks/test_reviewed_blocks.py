"""What is blocked, what is said of it, and what is let go: no lie for its name, nothing honest for its company."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from safetensors.numpy import save_file
from safetensors.torch import load_file
from safetensors.torch import save_file as save_tensors

from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.cli import main
from lineage_plugin.errors import UploadBlocked
from lineage_plugin.hooks import check_before_upload, digests, install_gate, preflight
from lineage_plugin.options import Options
from tests.hooks.conftest import EXAMPLES, LFS, REPO, WEIGHTS, Site, blocked, exchange
from tests.hub import TOKEN

pytestmark = LFS

CARD = "README.md"
GARBAGE = b"\x10\0\0\0\0\0\0\0{garbagegarbage!!"
"""As a file of safetensors begins, and then no header."""
LOOSE = "version: 1\nfail-on: never\n"


def send(api: HfApi, folder: Path | str, **arguments: Any) -> Any:
    return api.upload_folder(repo_id=REPO, folder_path=folder, **arguments)


def check(site: Site, folder: Path) -> Any:
    return check_before_upload(folder, REPO, options=Options(endpoint=site.hub.endpoint, token=TOKEN))


# What decided ---------------------------------------------------------------------------------------------------------


def test_the_report_of_a_block_is_the_one_that_decided(site: Site, honest: Path) -> None:
    second = Path(shutil.copytree(honest, honest / "second"))
    (second / WEIGHTS).write_bytes(GARBAGE)
    error = blocked(lambda: check(site, honest))
    # The other model passed: its report is there, and does not stand for the block.
    assert "pass" in [report.verdict for report in error.reports]
    assert error.report is not None and "LIN302" in {found.code for found in error.report.findings}
    assert "me/model/second" in error.reasons[0]


def test_no_report_stands_for_a_model_that_has_none(site: Site, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What decides is a file that changes; the model that was there had passed."""
    judge = preflight.judge

    def late(*given: Any, **named: Any) -> Any:
        found = judge(*given, **named)
        exchange(honest)
        return found

    monkeypatch.setattr(preflight, "judge", late)
    error = blocked(lambda: check(site, honest), 2)
    assert "changed while it was checked" in str(error)
    assert error.report is None and [report.verdict for report in error.reports] == ["pass"]


def test_a_file_that_changes_while_it_is_hashed(site: Site, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests.FileStamp, "fits", lambda self, other: False)
    error = blocked(lambda: check(site, honest), 2)
    # Named as it is there, not in the folder that it was laid out in for the check.
    names = tuple(f"{REPO}: {path.name}: " for path in honest.iterdir())
    assert error.reasons[0].startswith(names) and "changed while" in error.reasons[0]


def test_of_two_models_the_lying_one_decides(site: Site, honest: Path, liar: Path) -> None:
    shutil.copytree(liar, honest / "another")
    error = blocked(lambda: check(site, honest))
    assert error.report is not None and error.report.verdict == "fail"
    assert {report.verdict for report in error.reports} == {"pass", "fail"}


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", ["rng_state_0.safetensors", "training_args.bin", "part-1"])
def test_what_an_index_calls_shards_is_weights(
    site: Site, guarded: Callable[..., HfApi], liar: Path, shard: str
) -> None:
    """Loaders take whatever the index names."""
    tensors = load_file(liar / WEIGHTS)
    (liar / WEIGHTS).unlink()
    if shard.endswith(".safetensors"):
        save_tensors(tensors, liar / shard, metadata={"format": "pt"})
        index = "model.safetensors.index.json"
    else:
        torch.save(tensors, liar / shard, _use_new_zipfile_serialization=shard != "part-1", pickle_protocol=4)
        index = "pytorch_model.bin.index.json"
    (liar / index).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tensors, shard)}))
    api = guarded()
    with pytest.raises(UploadBlocked):
        send(api, liar)
    site.assert_nothing_left()


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take")
@pytest.mark.parametrize("name", ["a:b.txt", "Screenshot at 10.00.00\u202fAM.png", "new\nline.txt", "\u200bzero.txt"])
def test_odd_names_of_harmless_files(site: Site, guarded: Callable[..., HfApi], honest: Path, name: str) -> None:
    (honest / name).write_bytes(b"harmless")
    send(guarded(), honest)
    site.assert_arrived(honest)


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take")
def test_names_that_the_hub_may_refuse_are_its_own_affair(site: Site, honest: Path) -> None:
    (honest / "a\\b.txt").write_bytes(b"harmless")
    assert check(site, honest).reports[0].verdict == "pass"


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take")
def test_an_odd_name_of_weights(site: Site, guarded: Callable[..., HfApi], liar: Path) -> None:
    (liar / WEIGHTS).rename(liar / "a\\b.safetensors")
    api = guarded()
    with pytest.raises(Exception, match="is no name for a file of a model"):
        send(api, liar)
    site.assert_nothing_left()


# Policies -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loose(liar: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The liar with a policy that came with it, as the current folder."""
    (liar / ".lineage.yml").write_text(LOOSE)
    monkeypatch.chdir(liar)
    return liar


@pytest.mark.parametrize("place", [None, "v1"])
def test_a_policy_that_came_with_the_model(
    site: Site, guarded: Callable[..., HfApi], loose: Path, place: str | None
) -> None:
    api = guarded()
    blocked(lambda: send(api, ".", path_in_repo=place))
    site.assert_nothing_left()


def test_a_policy_above_weights_in_a_subfolder(site: Site, guarded: Callable[..., HfApi], loose: Path) -> None:
    (loose / "fp32").mkdir()
    for name in (WEIGHTS, "config.json"):
        (loose / name).rename(loose / "fp32" / name)
    api = guarded()
    blocked(lambda: send(api, "."))
    site.assert_nothing_left()


def test_a_policy_and_an_open_file(site: Site, guarded: Callable[..., HfApi], loose: Path) -> None:
    (site.folder() / CARD).write_bytes((loose / CARD).read_bytes())
    api = guarded()
    with Path(WEIGHTS).open("rb") as file:
        blocked(lambda: api.upload_file(repo_id=REPO, path_or_fileobj=file, path_in_repo=WEIGHTS))
    assert site.weight_bytes() == 0 and site.commits() == 0


# What cannot be looked at ---------------------------------------------------------------------------------------------


def silent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the repository be written to, and not be read."""
    monkeypatch.setattr(Patience, "pause", lambda self, failures, asked: 0.0)
    (site.folder() / CARD).write_bytes((EXAMPLES / "honest" / CARD).read_bytes())
    for path in (f"/api/models/{REPO}", f"/api/models/{REPO}/revision/*", f"/api/models/{REPO}/tree/*"):
        site.hub.faults.server_errors(None, status=500, path=path)


def one_file(api: HfApi) -> Any:
    weights = EXAMPLES / "honest" / WEIGHTS
    return api.upload_file(repo_id=REPO, path_or_fileobj=weights, path_in_repo=WEIGHTS)


def test_a_repository_that_cannot_be_read(
    site: Site, guarded: Callable[..., HfApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(site, monkeypatch)
    api = guarded()
    blocked(lambda: one_file(api), 4)
    assert WEIGHTS not in site.files()


def test_an_override_where_the_repository_cannot_be_read(
    site: Site, guarded: Callable[..., HfApi], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent(site, monkeypatch)
    one_file(guarded(override="the Hub is down for reading"))
    assert WEIGHTS in site.files()
    assert "down for reading" in (tmp_path / "cache/overrides.jsonl").read_text()


def test_a_warning_where_the_repository_cannot_be_read(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silent(site, monkeypatch)
    with install_gate(mode="warn"):
        one_file(site.api())
    assert WEIGHTS in site.files()
    assert "would be blocked" in caplog.text


# Company --------------------------------------------------------------------------------------------------------------


def openvino(folder: Path) -> None:
    (folder / "openvino_model.bin").write_bytes(np.random.default_rng(0).bytes(4000))
    (folder / "openvino_model.xml").write_text("<net/>")


def value_head(folder: Path) -> None:
    save_file({"v_head.summary.weight": np.zeros((1, 96), np.float32)}, folder / "value_head.safetensors")


def predictor(folder: Path) -> None:
    save_file({"mtp.weight": np.zeros((96, 96), np.float32)}, folder / "mtp.safetensors")


def optimizer(folder: Path) -> None:
    torch.save({"optimizer_state_dict": {"a": torch.zeros(3)}}, folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt")


def dense(folder: Path) -> None:
    """As sentence-transformers saves a layer after the model."""
    kinds = {"": "Transformer", "2_Dense": "Dense"}
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense/config.json").write_text(json.dumps({"in_features": 96, "out_features": 32}))
    save_file({"linear.weight": np.zeros((32, 96), np.float32)}, folder / "2_Dense/model.safetensors")


def graph(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "onnx/model.onnx").write_bytes(b"\x08\x07" + bytes(200))


@pytest.mark.parametrize("company", [openvino, value_head, predictor, optimizer, dense, graph])
def test_an_honest_model_in_company(
    site: Site,
    guarded: Callable[..., HfApi],
    honest: Path,
    company: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lineage_plugin")
    company(honest)
    send(guarded(), honest)
    site.assert_arrived(honest)
    said = [record.getMessage() for record in caplog.records if record.name == "lineage_plugin"]
    # State of a training is no model; of everything else it is said that nothing was compared.
    assert any(line.startswith("UNCHECKED: ") for line in said) == (company is not optimizer), said
    assert any(line.startswith("PASS: ") for line in said), said


def test_a_lying_file_in_honest_company(site: Site, guarded: Callable[..., HfApi], honest: Path, liar: Path) -> None:
    shutil.copy(liar / WEIGHTS, honest / "second.safetensors")
    api = guarded()
    blocked(lambda: send(api, honest))
    site.assert_nothing_left()


@pytest.mark.parametrize("name", [WEIGHTS, "other.safetensors"])
def test_an_unreadable_file_alone(site: Site, guarded: Callable[..., HfApi], honest: Path, name: str) -> None:
    (honest / WEIGHTS).unlink()
    (honest / name).write_bytes(GARBAGE)
    api = guarded()
    with pytest.raises(UploadBlocked):
        send(api, honest)
    site.assert_nothing_left()


def test_an_adapter_without_its_base_goes(
    site: Site, guarded: Callable[..., HfApi], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At most it can be shown to fit its base: nothing would settle that doubt."""
    pytest.importorskip("peft")
    from tests.adapters.builders import adapt, llama, reconfigure, saved

    caplog.set_level(logging.INFO, "lineage_plugin")
    saved(llama(), site.hub.root / "me/small")
    folder = tmp_path / "lora"
    adapt(llama(), folder, r=4, target_modules=["q_proj", "v_proj"])
    reconfigure(folder, base_model_name_or_path="me/small")
    (folder / CARD).write_text("---\nbase_model: me/small\nlibrary_name: peft\n---\n# An adapter\n")
    send(guarded(), folder)
    site.assert_arrived(folder)
    assert "UNCHECKED: " in caplog.text


# Size -----------------------------------------------------------------------------------------------------------------


def test_small_files_beside_a_model_are_not_read(site: Site, honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []
    hashing = digests.Digests.of

    def noting(self: digests.Digests, paths: list[Path], *more: Any) -> dict[Path, str]:
        hashed.extend(paths)
        return hashing(self, paths, *more)

    monkeypatch.setattr(digests.Digests, "of", noting)
    check(site, honest)
    few = len(hashed)
    (honest / "texts").mkdir()
    for number in range(1000):
        (honest / f"texts/{number}.txt").write_text(str(number))
    hashed.clear()
    started = time.perf_counter()
    check(site, honest)
    assert len(hashed) == few
    assert time.perf_counter() - started < 10


# Cards that nobody takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    [
        "---\nbase_model: examples/base\n---\n# A model\n".encode("utf-16"),
        b"---\nbase_model: [\n---\n# A model\n",
        b"---\nbase_model: examples/base\xff\n---\n# A model\n",
    ],
    ids=["utf-16", "no YAML", "no UTF-8"],
)
@pytest.mark.parametrize("reason", [None, "a card of an older tool, to be mended later"])
def test_lineage_upload_of_a_card_that_cannot_be_read(
    site: Site, honest: Path, card: bytes, reason: str | None, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (honest / CARD).write_bytes(card)
    override = ["--override", reason] if reason is not None else []
    code = main(["upload", "--endpoint", site.hub.endpoint, REPO, str(honest), "--quiet", *override])
    said = capfd.readouterr().err
    assert "Traceback" not in said and TOKEN not in said
    if reason is None:
        assert code == 1 and "LIN207" in said
    else:
        # The Hub, or its client, does not take it either.
        assert code == 2, said
        assert said.count("\n") == 1 and said.startswith(f"lineage: error: {REPO}: ")
        assert ("metadata" in said) if card.endswith(b"[\n---\n# A model\n") else ("not UTF-8 text" in said)
    site.assert_nothing_left()
