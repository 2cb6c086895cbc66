"""Folders and files on this machine: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lineage_plugin.checkpoint import Checkpoint, Selection, open_checkpoint
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import (
    BudgetExceeded,
    InputError,
    UnreadableCheckpoint,
    UnsafeCheckpoint,
    UnsupportedEncoding,
    UsageError,
)
from lineage_plugin.options import Options

from .builders import (
    TORCH_DTYPES,
    entry,
    expected,
    file_bytes,
    random_selections,
    random_tensors,
    write_sharded,
    write_single,
)

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 24\n"
GOOD = file_bytes({"w": entry([2, 3], 0, 24)}, bytes(24))


def same(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], seed: int) -> None:
    selections = list(random_selections(tensors, seed))
    for selection, found in zip(selections, checkpoint.read(selections), strict=True):
        want = expected(tensors[selection.tensor], selection)
        assert found.dtype == np.float32
        assert found.shape == want.shape
        np.testing.assert_array_equal(found, want)


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("dtype", TORCH_DTYPES)
def test_round_trip(tmp_path: Path, dtype: str, sharded: bool) -> None:
    tensors = random_tensors(3, dtype)
    folder = (write_sharded if sharded else write_single)(tmp_path / "model", tensors)
    checkpoint = open_checkpoint(str(folder), options=Options(offline=True))
    assert (checkpoint.local, checkpoint.format, checkpoint.revision) == (True, "safetensors", None)
    assert {n: t.shape for n, t in checkpoint.tensors.items()} == {n: tuple(t.shape) for n, t in tensors.items()}
    assert len(checkpoint.weight_files) == (3 if sharded else 1)
    for seed in range(5):
        same(checkpoint, tensors, seed)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F16", "BF16"])
def test_every_bit_pattern_is_decoded_as_torch_does(tmp_path: Path, dtype: str) -> None:
    bits = (
        torch.arange(256).to(torch.uint8) if dtype.startswith("F8") else torch.arange(-(2**15), 2**15).to(torch.int16)
    )
    stored = bits.view(TORCH_DTYPES[dtype])
    save_file({"w": stored}, tmp_path / "model.safetensors")
    (found,) = open_local(tmp_path).read([Selection("w")])
    np.testing.assert_array_equal(found[:, 0], stored.to(torch.float32).numpy())
    assert np.isnan(found).any()


def test_f64_is_rounded_to_nearest_and_overflows_to_infinity(tmp_path: Path) -> None:
    values = [1.0 + 2**-25, 1 / 3, 1e300, -1e300, 1e-300, float("nan"), float("-inf")]
    save_file({"w": torch.tensor(values, dtype=torch.float64)}, tmp_path / "model.safetensors")
    (found,) = open_local(tmp_path).read([Selection("w")])
    want = torch.tensor(values, dtype=torch.float64).to(torch.float32).numpy()
    np.testing.assert_array_equal(found[:, 0], want)
    assert np.isinf(found[2, 0])


def test_scalars_empty_tensors_and_odd_offsets(tmp_path: Path) -> None:
    """A byte before it puts the BF16 tensor on an odd address, which the format allows."""
    values = torch.arange(6, dtype=torch.bfloat16)
    header = {
        "flag": entry([1], 0, 1, "BOOL"),
        "w": entry([2, 3], 1, 13, "BF16"),
        "s": entry([], 13, 17),
        "e": entry([0, 4], 17, 17),
        "f": entry([4, 0], 17, 17),
    }
    data = b"\1" + values.view(torch.uint8).numpy().tobytes() + np.float32(7).tobytes()
    (tmp_path / "model.safetensors").write_bytes(file_bytes(json.dumps(header) + " ", data))
    checkpoint = open_local(tmp_path)
    assert checkpoint.tensors["w"].offset % 2 == 1
    w, row, s, e, f = checkpoint.read(
        [Selection("w"), Selection("w", rows=np.array([1])), Selection("s"), Selection("e"), Selection("f")]
    )
    np.testing.assert_array_equal(w, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(row, [[3, 4, 5]])
    np.testing.assert_array_equal(s, [[7]])
    assert (e.shape, f.shape) == ((0, 4), (4, 0))
    assert checkpoint.read([]) == []


def test_results_are_the_callers_own(tmp_path: Path) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(4, 4)})
    checkpoint = open_local(folder)
    (first,) = checkpoint.read([Selection("w")])
    first[:] = 9
    (second,) = checkpoint.read([Selection("w")])
    np.testing.assert_array_equal(second, 1)


@pytest.mark.parametrize("dtype", ["I8", "U8", "I64", "BOOL", "F8_E8M0", "C64"])
def test_other_types_are_listed_but_not_decoded(tmp_path: Path, dtype: str) -> None:
    size = {"I64": 8, "C64": 8}.get(dtype, 1)
    header = {"q": entry([4], 0, 4 * size, dtype), "w": entry([1], 4 * size, 4 * size + 4)}
    (tmp_path / "model.safetensors").write_bytes(file_bytes(header, bytes(4 * size + 4)))
    checkpoint = open_local(tmp_path)
    assert checkpoint.tensors["q"].shape == (4,)
    assert checkpoint.read([Selection("w")])[0].shape == (1, 1)
    before = checkpoint.cost().bytes_read
    with pytest.raises(UnsupportedEncoding, match=dtype) as caught:
        checkpoint.read([Selection("w"), Selection("q")])
    assert "model.safetensors" in str(caught.value)
    assert checkpoint.cost().bytes_read == before


@pytest.mark.parametrize(
    "selection",
    [
        Selection("w", rows=np.array([4])),
        Selection("w", rows=np.array([-1])),
        Selection("w", rows=np.array([1, 1])),
        Selection("w", rows=np.array([2, 1])),
        Selection("w", rows=np.array([0.5])),
        Selection("w", rows=np.array([[0]])),
        Selection("w", columns=np.array([0, 6])),
        Selection("w", width=5),
        Selection("w", width=0),
    ],
)
def test_selections_outside_the_tensor_are_mistakes_of_the_caller(tmp_path: Path, selection: Selection) -> None:
    checkpoint = open_local(write_single(tmp_path, {"w": torch.ones(4, 6)}))
    with pytest.raises(ValueError, match="w: "):
        checkpoint.read([selection])


def test_cost_counts_headers_and_elements(tmp_path: Path) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(64, 32, dtype=torch.bfloat16), "v": torch.ones(8)})
    path = folder / "model.safetensors"
    checkpoint = open_local(folder)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    opened = checkpoint.cost()
    assert (opened.bytes_read, opened.tensor_bytes, opened.requests) == (header, 0, 0)
    assert opened.bytes_total == path.stat().st_size
    checkpoint.read([Selection("w", rows=np.array([1, 5])), Selection("w", columns=np.array([3])), Selection("v")])
    cost = checkpoint.cost()
    assert cost.tensor_bytes == 2 * 32 * 2 + 64 * 2 + 8 * 4
    assert cost.bytes_read == header + cost.tensor_bytes
    assert cost.seconds > opened.seconds > 0


def test_budget_stops_before_reading(tmp_path: Path) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(64, 32)})
    header = open_local(folder).cost().bytes_read
    checkpoint = open_checkpoint(str(folder), options=Options(budget=header + 10 * 128))
    checkpoint.read([Selection("w", rows=np.arange(9))])
    with pytest.raises(BudgetExceeded) as caught:
        checkpoint.read([Selection("w", rows=np.arange(2))])
    assert str(header + 1280) in str(caught.value)
    checkpoint.read([Selection("w", rows=np.arange(1))])
    assert checkpoint.cost().bytes_read == header + 1280
    with pytest.raises(BudgetExceeded):
        open_local(folder, budget=header - 1)


def test_digests_are_computed_on_request_and_kept(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path, random_tensors(4), 2)
    checkpoint = open_local(folder, budget=10_000)
    assert checkpoint.digests() == {}
    want = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in checkpoint.weight_files}
    before = checkpoint.cost()
    assert checkpoint.digests(compute=True) == want
    spent = checkpoint.cost()
    assert spent.bytes_read - before.bytes_read == spent.bytes_total
    assert spent.tensor_bytes == before.tensor_bytes
    assert checkpoint.digests() == want
    assert checkpoint.digests(compute=True) == want
    assert checkpoint.cost().bytes_read == spent.bytes_read


def test_config_and_texts(tmp_path: Path) -> None:
    folder = write_single(tmp_path / "m", {"w": torch.ones(2)})
    assert open_local(folder).config == {}
    (folder / "config.json").write_text('\ufeff{"hidden_size": 2, "limit": [0.0, Infinity]}', encoding="utf-8")
    (folder / "README.md").write_bytes(b"caf\xc3\xa9 \xff" + b"x" * 100)
    (folder / "sub").mkdir()
    (folder / "sub" / "deep.txt").write_text("deep")
    (tmp_path / "secret.txt").write_text("secret")
    checkpoint = open_local(folder)
    assert checkpoint.config["hidden_size"] == 2
    assert checkpoint.text("README.md", 6) == "café "
    assert checkpoint.text("README.md", 7) == "café \N{REPLACEMENT CHARACTER}"
    assert checkpoint.data("README.md", 7) == b"caf\xc3\xa9 \xff"
    assert checkpoint.data("missing.txt") is checkpoint.data("../secret.txt") is None
    assert checkpoint.text("missing.txt") is None
    assert checkpoint.text("../secret.txt") is None
    assert checkpoint.text(str(tmp_path / "secret.txt")) is None
    assert checkpoint.text("sub/deep.txt") == "deep"
    assert set(checkpoint.files) == {"README.md", "config.json", "model.safetensors", "sub/deep.txt"}


@pytest.mark.parametrize("config", ["{", "[1]", "[" * 100_000, "\x00", '{"a": ' + "1" * 5000 + "}"])
def test_bad_config_is_one_line(tmp_path: Path, config: str) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(2)})
    (folder / "config.json").write_text(config)
    with pytest.raises(UnreadableCheckpoint, match=r"config\.json") as caught:
        _ = open_local(folder).config
    assert str(caught.value).isprintable()


# What counts as weights ----------------------------------------------------------------------------------------------


def names(folder: Path) -> tuple[str, ...]:
    return open_local(folder).weight_files


def test_standard_names_come_first(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path, {"a": torch.ones(2), "b": torch.ones(2)}, 2)
    save_file({"other": torch.ones(2)}, folder / "consolidated.safetensors")
    save_file({"lora": torch.ones(2)}, folder / "adapter_model.safetensors")
    assert set(open_local(folder).tensors) == {"a", "b"}
    save_file({"whole": torch.ones(2)}, folder / "model.safetensors")
    assert set(open_local(folder).tensors) == {"whole"}


def test_unusual_names_are_found(tmp_path: Path) -> None:
    save_file({"lora": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    assert names(tmp_path) == ("adapter_model.safetensors",)
    save_file({"a": torch.ones(2)}, tmp_path / "diffusion.safetensors")
    save_file({"o": torch.ones(2)}, tmp_path / "optimizer.safetensors")
    assert names(tmp_path) == ("diffusion.safetensors",)
    save_file({"b": torch.ones(2)}, tmp_path / "second.safetensors")
    assert set(open_local(tmp_path).tensors) == {"a", "b"}
    save_file({"a": torch.ones(3)}, tmp_path / "third.safetensors")
    with pytest.raises(UnreadableCheckpoint, match="both hold 'a'"):
        open_local(tmp_path)
    assert open_local(tmp_path / "third.safetensors").tensors["a"].shape == (3,)


def test_an_index_of_another_name_is_used_when_it_is_the_only_one(tmp_path: Path) -> None:
    write_sharded(tmp_path, {"a": torch.ones(2), "b": torch.ones(2)}, 2)
    (tmp_path / "model.safetensors.index.json").rename(tmp_path / "diffusion.safetensors.index.json")
    assert len(names(tmp_path)) == 2


def test_a_file_or_an_index_by_itself(tmp_path: Path) -> None:
    folder = write_sharded(tmp_path, random_tensors(5), 3)
    (folder / "config.json").write_text('{"x": 1}')
    whole = open_local(folder / "model.safetensors.index.json")
    assert set(whole.tensors) == set(random_tensors(5))
    part = open_local(folder / "model-00002-of-00003.safetensors")
    assert part.weight_files == ("model-00002-of-00003.safetensors",)
    assert part.config == {"x": 1}
    blob = folder / ("0" * 64)
    blob.write_bytes(GOOD)
    assert list(open_local(blob).tensors) == ["w"]


def test_the_hub_cache_with_its_links_is_read(tmp_path: Path) -> None:
    """snapshots/<commit>/file -> ../../blobs/<digest>, for weights and for texts."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / ("0" * 40)
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aa").write_bytes(GOOD)
    (blobs / "bb").write_text("# card")
    (snapshot / "model.safetensors").symlink_to("../../blobs/aa")
    (snapshot / "README.md").symlink_to("../../blobs/bb")
    checkpoint = open_local(snapshot)
    assert checkpoint.read([Selection("w")])[0].shape == (2, 3)
    assert checkpoint.text("README.md") == "# card"


def test_weights_may_be_links_but_texts_may_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "weights").write_bytes(GOOD)
    (tmp_path / "disk" / "environ").write_text("HF_TOKEN=hf_secret")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").symlink_to(tmp_path / "disk" / "weights")
    (model / "README.md").symlink_to(tmp_path / "disk" / "environ")
    (model / "real.md").write_text("real")
    (model / "NOTES.md").symlink_to("real.md")
    checkpoint = open_local(model)
    assert checkpoint.read([Selection("w")])[0].shape == (2, 3)
    assert checkpoint.text("NOTES.md") == "real"
    with pytest.raises(UnreadableCheckpoint, match="leads out") as caught:
        checkpoint.text("README.md")
    assert "hf_secret" not in str(caught.value)


# What is refused -----------------------------------------------------------------------------------------------------


def index(weight_map: object, **more: object) -> str:
    return json.dumps({"metadata": {}, "weight_map": weight_map, **more})


SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
FOLDERS: dict[str, tuple[dict[str, bytes | str], type[InputError], str]] = {
    "an empty folder": ({}, UnreadableCheckpoint, "empty"),
    "no weights": ({"README.md": "# hi", "config.json": "{}"}, UnreadableCheckpoint, "no weights"),
    "a PyTorch file that is cut off": ({"pytorch_model.bin": b"PK\x03\x04"}, UnreadableCheckpoint, "truncated"),
    "sharded PyTorch files without a map": (
        {"pytorch_model.bin.index.json": "{}"},
        UnreadableCheckpoint,
        "no weight_map",
    ),
    "an empty .pt": ({"model.pt": b""}, UnreadableCheckpoint, "empty"),
    "a bare pickle as .pth": ({"weights.pth": b"\x80\x02."}, UnsafeCheckpoint, "runs code"),
    "a bare pickle as .ckpt": ({"v1.ckpt": b"\x80\x04."}, UnsafeCheckpoint, "runs code"),
    "only training state": ({"training_args.bin": b"", "optimizer.pt": b""}, UnreadableCheckpoint, "no weights"),
    "a GGUF file that is cut off": ({"model-q4.gguf": b"GGUF"}, UnreadableCheckpoint, "beyond the end"),
    "weights one folder down": ({"transformer/model.safetensors": GOOD}, UnreadableCheckpoint, "transformer/model"),
    "an LFS pointer": ({"model.safetensors": POINTER}, UnreadableCheckpoint, "git lfs pull"),
    "a shard that is an LFS pointer": ({INDEX: index({"w": SHARD}), SHARD: POINTER}, UnreadableCheckpoint, "git lfs"),
    "a renamed pickle": ({"model.safetensors": b"PK\x03\x04" + bytes(100)}, UnsafeCheckpoint, "pickle"),
    "an empty file": ({"model.safetensors": b""}, UnreadableCheckpoint, "0 bytes"),
    "a truncated file": ({"model.safetensors": GOOD[:-5]}, UnreadableCheckpoint, "truncated"),
    "a truncated header": ({"model.safetensors": GOOD[:30]}, UnreadableCheckpoint, "does not fit"),
    "an index that is no JSON": ({INDEX: "weights"}, UnreadableCheckpoint, "not valid JSON"),
    "an index that is a list": ({INDEX: "[]"}, UnreadableCheckpoint, "not a JSON object"),
    "an index without a map": ({INDEX: "{}"}, UnreadableCheckpoint, "weight_map"),
    "an index with an empty map": ({INDEX: index({})}, UnreadableCheckpoint, "weight_map"),
    "an index whose map is a list": ({INDEX: index(["w"])}, UnreadableCheckpoint, "weight_map"),
    "an index with numbers for files": ({INDEX: index({"w": 1})}, UnreadableCheckpoint, "file name"),
    "an index that names a tensor twice": (
        {INDEX: f'{{"weight_map": {{"w": "{SHARD}", "w": "other.safetensors"}}}}', SHARD: GOOD},
        UnreadableCheckpoint,
        "twice",
    ),
    "an index that is nested deeply": ({INDEX: '{"weight_map":' * 9000}, UnreadableCheckpoint, "too many values"),
    "an index with an unprintable tensor": ({INDEX: index({"\x1b]0;": SHARD}), SHARD: GOOD}, InputError, "tensor name"),
    "a missing shard": ({INDEX: index({"w": SHARD, "v": "b.safetensors"}), SHARD: GOOD}, InputError, "missing"),
    "a shard above the folder": ({INDEX: index({"w": "../model.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard far above": ({INDEX: index({"w": "a/../../x.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard by absolute path": ({INDEX: index({"w": "/etc/x.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard on a drive": ({INDEX: index({"w": "C:x.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard with backslashes": ({INDEX: index({"w": "..\\x.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard with a line break": ({INDEX: index({"w": "a\nb.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard with a NUL": ({INDEX: index({"w": "a\0.safetensors"})}, UnreadableCheckpoint, "plain name"),
    "a shard that is a pickle": ({INDEX: index({"w": "model.bin"}), "model.bin": b""}, InputError, "plain name"),
    "a promised tensor that is not there": ({INDEX: index({"w": SHARD, "x": SHARD}), SHARD: GOOD}, InputError, "'x'"),
    "a tensor in another shard than promised": (
        {
            INDEX: index({"w": "b.safetensors", "v": SHARD}),
            SHARD: GOOD,
            "b.safetensors": file_bytes({"v": entry([1], 0, 4)}, bytes(4)),
        },
        UnreadableCheckpoint,
        "promises",
    ),
    "one tensor in two shards": (
        {INDEX: index({"w": SHARD, "v": "b.safetensors"}), SHARD: GOOD, "b.safetensors": GOOD},
        UnreadableCheckpoint,
        "both hold 'w'",
    ),
    "numbered shards with a gap": (
        {SHARD.replace("01-of-00002", "01-of-00003"): GOOD, SHARD.replace("01-of-00002", "03-of-00003"): GOOD},
        UnreadableCheckpoint,
        "00002-of-00003",
    ),
    "a hundred loose files": ({f"{i}.safetensors": GOOD for i in range(100)}, UnreadableCheckpoint, "no index"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_bad_folder_is_one_clear_line(tmp_path: Path, name: str) -> None:
    files, kind, phrase = FOLDERS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    for file, content in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        open_checkpoint(str(folder), options=Options())
    message = str(caught.value)
    assert isinstance(caught.value, kind)
    assert caught.value.code == kind.code
    assert message.startswith(str(folder))
    assert phrase in message
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "loop", "nowhere", "unreadable"])
@pytest.mark.parametrize("place", ["model.safetensors", SHARD])
def test_special_files_are_refused_without_waiting(tmp_path: Path, kind: str, place: str) -> None:
    path = tmp_path / place
    if place == SHARD:
        (tmp_path / INDEX).write_text(index({"w": SHARD}))
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "nowhere":
            path.symlink_to("nowhere")
        case _:
            path.write_bytes(GOOD)
            path.chmod(0)
            if os.access(path, os.R_OK):
                pytest.skip("this user may read everything")
    with pytest.raises(InputError, match=place) as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable()
    if kind != "unreadable":
        with pytest.raises((InputError, UsageError)):
            open_checkpoint(str(path), options=Options(offline=True))


def test_texts_that_are_pipes_are_refused(tmp_path: Path) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(2)})
    os.mkfifo(folder / "README.md")
    with pytest.raises(InputError, match="regular"):
        open_local(folder).text("README.md")


def test_a_file_that_changes_after_opening_is_noticed(tmp_path: Path) -> None:
    folder = write_single(tmp_path, {"w": torch.ones(4, 4)})
    checkpoint = open_local(folder)
    save_file({"v": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(UnreadableCheckpoint, match="changed"):
        checkpoint.read([Selection("w")])
    with pytest.raises(UnreadableCheckpoint, match="changed"):
        checkpoint.digests(compute=True)


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "x.gguf", "m.safetensors", "w"])
def test_any_bytes_by_themselves_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=name):
        open_local(tmp_path / name)


def test_a_hostile_folder_name_stays_on_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "evil\n::error::\x1b[31m\udcff"
    folder.mkdir()
    with pytest.raises(UnreadableCheckpoint) as caught:
        open_local(folder)
    assert str(caught.value).isprintable()
    str(caught.value).encode()


def test_a_walk_in_the_wrong_place_ends(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(30):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "x").write_text("")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("")
    (tmp_path / "model.safetensors").write_bytes(GOOD)
    assert set(open_local(tmp_path).files) == {"model.safetensors"}


def test_large_columns_do_not_touch_the_whole_tensor(tmp_path: Path) -> None:
    """A sparse file of 64 GB: reading a few rows and columns of it needs neither the disk nor the memory."""
    rows, columns = 1 << 22, 1 << 12
    header = file_bytes({"w": entry([rows, columns], 0, 4 * rows * columns)})
    path = tmp_path / "model.safetensors"
    try:
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + 4 * rows * columns)
            file.seek(len(header) + 4 * (7 * columns + 5))
            file.write(np.float32(3).tobytes())
    except OSError:
        pytest.skip("no sparse files here")
    checkpoint = open_local(tmp_path)
    picks = Selection("w", rows=np.array([7, rows - 1]), columns=np.array([5, 4000]))
    np.testing.assert_array_equal(checkpoint.read([picks])[0], [[3, 0], [0, 0]])
    assert checkpoint.cost().tensor_bytes == 16


# Imports -------------------------------------------------------------------------------------------------------------


def test_local_reading_imports_no_client_and_no_torch(tmp_path: Path) -> None:
    write_single(tmp_path, {"w": torch.ones(2)})
    code = (
        "import sys\n"
        "from lineage_plugin.checkpoint import Selection, open_checkpoint\n"
        "from lineage_plugin.options import Options\n"
        f"open_checkpoint({str(tmp_path)!r}, options=Options()).read([Selection('w')])\n"
        "print(sorted({'torch', 'huggingface_hub', 'httpx', 'httpx2', 'safetensors', 'ml_dtypes'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
