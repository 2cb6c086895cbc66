"""PyTorch files: what is read is what torch reads, and nothing of a file runs."""

from __future__ import annotations

import copyreg
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint
import torch.package
from safetensors.torch import save_file

from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.ledger import Ledger
from lineage_plugin.checkpoint.local import LocalSource, open_local
from lineage_plugin.checkpoint.pickles.archive import data_starts, read_archive
from lineage_plugin.checkpoint.pickles.names_allowed import ALLOWED
from lineage_plugin.checkpoint.stored import StoredCheckpoint
from lineage_plugin.checkpoint.transport import Patience
from lineage_plugin.checkpoint.types import Checkpoint, FileInfo, Selection
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsafeCheckpoint, UnsupportedEncoding
from tests.checkpoint.builders import expected, random_selections
from tests.checkpoint.formats.torch_samples import SAMPLES, TYPES, training, views, weights
from tests.hub import LocalHub

ID = "owner/name"


def saved(folder: Path, value: object, name: str = "pytorch_model.bin", **more: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(value, folder / name, **more)  # type: ignore[arg-type]
    return folder


def written(path: Path, pickled: bytes, **members: bytes) -> Path:
    """An archive by the writer of torch around any pickle; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in {"data.pkl": pickled, "byteorder": b"little", **members}.items():
        writer.write_record(name.replace("__", "/"), data, len(data))
    writer.write_end_of_file()
    return path.parent


def rebuilt(path: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def check(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor], seed: int = 0) -> None:
    """Compare everything that can be decoded with what torch loads, whole and in parts."""
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        info = checkpoint.tensors[name]
        assert info.shape == tuple(tensor.shape)
        if not tensor.dtype.is_floating_point or tensor.dtype == torch.float8_e8m0fnu:
            continue
        if not info.size:
            assert checkpoint.read([Selection(name)])[0].size == 0
            continue
        for selection in random_selections({name: tensor}, seed):
            (found,) = checkpoint.read([selection])
            np.testing.assert_array_equal(found, expected(tensor.detach(), selection), err_msg=str(selection))


# What torch reads -----------------------------------------------------------------------------------------------------


def test_the_names_allowed_are_those_of_torch() -> None:
    assert set(torch._weights_only_unpickler._get_allowed_globals()) == ALLOWED


@pytest.mark.parametrize("name", ["single", "types", "views"])
def test_state_dicts_are_read_as_torch_loads_them(tmp_path: Path, name: str) -> None:
    SAMPLES[name](tmp_path)
    (file,) = (path for path in tmp_path.iterdir() if path.suffix != ".json")
    checkpoint = open_local(tmp_path)
    assert checkpoint.format == "pytorch"
    assert any("pickle" in note for note in checkpoint.notes)
    for seed in range(3):
        check(checkpoint, rebuilt(file), seed)
    check(open_local(file), rebuilt(file))


def test_every_type_has_the_name_safetensors_gives_it(tmp_path: Path) -> None:
    tensors = {str(kind): torch.zeros(2, 3).to(kind) for kind in TYPES}
    tensors["plain"] = torch.ones(50, 50)
    saved(tmp_path / "pickled", tensors)
    (tmp_path / "plain").mkdir()
    save_file(tensors, tmp_path / "plain" / "model.safetensors")
    pickled, plain = open_local(tmp_path / "pickled").tensors, open_local(tmp_path / "plain").tensors
    assert {name: info.dtype for name, info in pickled.items()} == {name: info.dtype for name, info in plain.items()}


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    SAMPLES["sharded"](tmp_path)
    checkpoint = open_local(tmp_path)
    assert len(checkpoint.weight_files) == 3
    check(checkpoint, weights(torch.bfloat16))
    check(open_local(tmp_path / "pytorch_model.bin.index.json"), weights(torch.bfloat16))
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    check(open_local(tmp_path), weights(torch.bfloat16))
    (tmp_path / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(UnreadableCheckpoint, match=r"00002-of-00003\.bin' is missing"):
        open_local(tmp_path)


def test_safetensors_come_first(tmp_path: Path) -> None:
    saved(tmp_path, {"w": torch.zeros(2)})
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    checkpoint = open_local(tmp_path)
    assert checkpoint.format == "safetensors" and checkpoint.read([Selection("w")])[0].sum() == 2


@pytest.mark.parametrize("turned", [False, True])
def test_few_rows_or_columns_cost_few_bytes(tmp_path: Path, turned: bool) -> None:
    tensor = torch.randn(300, 200)
    saved(tmp_path, {"w": tensor.t() if turned else tensor, "slice": tensor[:, 50:150], "late": tensor[17:, 180:]})
    checkpoint = open_local(tmp_path)
    for name, view in rebuilt(tmp_path / "pytorch_model.bin").items():
        opened = checkpoint.cost().tensor_bytes
        some = Selection(name, np.array([1, 4, 9]), np.array([0, 3, 7]))
        np.testing.assert_array_equal(checkpoint.read([some])[0], expected(view, some))
        assert checkpoint.cost().tensor_bytes - opened <= 4 * 9


def test_types_of_computed_tensors(tmp_path: Path) -> None:
    saved(tmp_path, views())
    tensors = open_local(tmp_path).tensors
    assert (tensors["k.weight"].dtype, tensors["k.weight"].nbytes) == ("BF16", 120)
    assert (tensors["fused.turned"].dtype, tensors["turned.ints"].dtype) == ("BF16", "I64")


def test_archives_of_other_writers(tmp_path: Path) -> None:
    """Unpacked and packed again, by Python and with another alignment."""
    saved(tmp_path / "a", weights())
    with zipfile.ZipFile(tmp_path / "a" / "pytorch_model.bin") as old:
        (tmp_path / "b").mkdir()
        with zipfile.ZipFile(tmp_path / "b" / "model.bin", "w") as new:
            for name in old.namelist():
                if not name.endswith(("version", "id", "alignment")):
                    new.writestr(name, old.read(name))
    check(open_local(tmp_path / "b"), weights())
    with torch.utils.serialization.config.patch("save.storage_alignment", 4096):
        saved(tmp_path / "c", weights())
    check(open_local(tmp_path / "c"), weights())
    torch.serialization.set_crc32_options(False)
    try:
        saved(tmp_path / "d", weights())
    finally:
        torch.serialization.set_crc32_options(True)
    check(open_local(tmp_path / "d"), weights())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("seed", range(4))
def test_what_is_read_from_a_damaged_pickle_is_what_torch_reads(tmp_path: Path, seed: int) -> None:
    """A file that shows one thing here and another to its users would be worth forging."""
    rng = random.Random(seed)
    saved(tmp_path, views() if seed % 2 else weights())
    path = tmp_path / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        members = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickled, alike = members.pop("data.pkl"), 0
    members = {name: data for name, data in members.items() if name.startswith("data/")}
    for _ in range(200):
        damaged = bytearray(pickled)
        for _ in range(rng.choice((1, 1, 2))):
            place = rng.randrange(len(damaged))
            damaged[place] = rng.choice(
                (damaged[place] ^ 1 << rng.randrange(8), rng.choice(pickled), rng.randrange(256))
            )
        written(path, bytes(damaged), **{name.replace("/", "__"): data for name, data in members.items()})
        try:
            checkpoint = open_local(tmp_path)
        except InputError:
            continue
        try:
            theirs = rebuilt(path)
        except (RuntimeError, TypeError, ValueError):
            continue  # what nobody can load deceives nobody
        alike += 1
        for name in checkpoint.tensors:
            if theirs[name].dtype.is_floating_point and theirs[name].numel():
                (found,) = checkpoint.read([Selection(name)])
                np.testing.assert_array_equal(found, expected(theirs[name].detach(), Selection(name)))
    assert alike > 10


# Which tensors are the weights ---------------------------------------------------------------------------------------

A, B = torch.ones(2, 3), torch.full((2, 3), 2.0)
STATES: dict[str, tuple[object, set[str]]] = {
    "a state dict": ({"a": A, "b.c": B}, {"a", "b.c"}),
    "an ordered one": (OrderedDict(a=A), {"a"}),
    "of a module": (
        torch.nn.BatchNorm1d(3).state_dict(),
        {"weight", "bias", *(f"running_{n}" for n in ("mean", "var")), "num_batches_tracked"},
    ),
    "of parameters": ({"a": torch.nn.Parameter(A), "b": torch.nn.Parameter(B, requires_grad=False)}, {"a", "b"}),
    "under state_dict": ({"state_dict": {"a": A}, "epoch": 3, "best": 0.5, "arch": "x"}, {"a"}),
    "under model": ({"model": {"a": A}, "optimizer": {"state": {0: {"exp_avg": B}}}, "args": {"lr": 1.0}}, {"a"}),
    "twice under": ({"model": {"state_dict": {"a": A}}}, {"a"}),
    "under a name of its own": ({"my_net": {"a": A}, "optim": {"b": B}}, {"a"}),
    "beside an average": ({"params": {"a": A}, "params_ema": {"a": B}}, {"a"}),
    "beside averages of parts": ({"enc": {"a": A}, "dec": {"a": B}, "enc_ema": {"a": B}}, {"enc.a", "dec.a"}),
    "an average alone": ({"params_ema": {"a": A}}, {"a"}),
    "nested by module": (
        {"model": {"language": {"embedding": {"a": A}, "layers": [{"w": A}, {"w": B}]}}},
        {"language.embedding.a", "language.layers.0.w", "language.layers.1.w"},
    ),
    "two models": ({"generator": {"a": A}, "discriminator": {"a": B}}, {"generator.a", "discriminator.a"}),
    "a step counted in a tensor": ({"global_step": torch.tensor(3), "state_dict": {"a": A}}, {"a"}),
    "data parallel": ({"module.a": A, "module.b": B}, {"a", "b"}),
    "wrapped twice": ({"module.module._orig_mod.a": A, "module.module._orig_mod.b": B}, {"a", "b"}),
    "a module called module": ({"module.a": A, "b": B}, {"module.a", "b"}),
    "an embedding": ({"string_to_param": {"*": A}, "name": "x"}, {"*"}),
}


@pytest.mark.parametrize("name", STATES)
def test_the_weights_are_found(tmp_path: Path, name: str) -> None:
    value, names = STATES[name]
    checkpoint = open_local(saved(tmp_path, value))
    assert set(checkpoint.tensors) == names
    if "a" in names:
        assert checkpoint.read([Selection("a")])[0].tolist() == A.tolist()


def test_a_training_checkpoint(tmp_path: Path) -> None:
    SAMPLES["training"](tmp_path)
    checkpoint = open_local(tmp_path)
    check(checkpoint, training()["state_dict"])  # type: ignore[arg-type]
    assert "The weights are those under 'state_dict'." in checkpoint.notes


def test_what_wrappers_put_into_names(tmp_path: Path) -> None:
    SAMPLES["parallel"](tmp_path)
    checkpoint = open_local(tmp_path)
    check(checkpoint, weights())
    assert sum("was taken" in note for note in checkpoint.notes) == 2


NO_STATES: dict[str, tuple[object, str]] = {
    "a bare tensor": (A, "no named tensors"),
    "tensors without names": ([A, B], "no named tensors"),
    "nothing": ({}, "no named tensors"),
    "only a number": (3, "no named tensors"),
    "only an optimizer": ({"optimizer": {"state": {0: {"exp_avg": B}}}}, "no named tensors"),
    "one name twice": ({"a.b": A, "a": {"b": B}}, "two tensors called 'a.b'"),
    "an unprintable name": ({"a\x1b[31m": A}, "unprintable"),
    "a name that is too long": ({"a" * 2000: A}, "too long a name"),
    "a sparse tensor": ({"a": A, "s": A.to_sparse()}, "'s' is a sparse tensor"),
    "a quantised tensor": (
        lambda: {"q": torch.quantize_per_tensor(A, 0.1, 0, torch.qint8)},
        "'q' is a quantised tensor of torch",
    ),
    "a tensor without data": ({"m": torch.empty(2, device="meta")}, "'m' is a tensor without data"),
    "a conjugate": ({"c": torch.ones(2, dtype=torch.complex64).conj()}, "'c' is a tensor of conjugate"),
    "a type without a name": ({"c": torch.ones(2, dtype=torch.complex128)}, "'c' is stored as ComplexDouble"),
    "a much expanded number": ({"e": torch.ones(1).expand(1 << 13, 1 << 13)}, "larger than the file|repeats"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_STATES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_holds_no_weights(tmp_path: Path, name: str) -> None:
    value, phrase = NO_STATES[name]
    value = value() if callable(value) else value
    with pytest.raises(InputError, match=phrase) as caught:
        open_local(saved(tmp_path, value))
    assert str(caught.value).isprintable() and not isinstance(caught.value, UnsafeCheckpoint)


class Subclass(torch.Tensor):
    """A tensor of a class of its own."""


def test_subclasses_of_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpoint, match="Subclass"):
        open_local(saved(tmp_path, {"s": torch.ones(2).as_subclass(Subclass)}))


# What would run ------------------------------------------------------------------------------------------------------


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


class Armed:
    """Makes a folder when its state is set."""

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["marker"]).mkdir()


def armed(marker: Path) -> Armed:
    made = Armed.__new__(Armed)
    made.__dict__["marker"] = str(marker)
    return made


LIVE: dict[str, Callable[[Path], object]] = {
    "a system call": lambda marker: Evil(os.mkdir, str(marker)),
    "a shell": lambda marker: Evil(os.system, f"mkdir '{marker}'"),
    "eval": lambda marker: Evil(eval, f"__import__('os').mkdir({str(marker)!r})"),
    "exec": lambda marker: Evil(exec, f"import os; os.mkdir({str(marker)!r})"),
    "a method fetched by getattr": lambda marker: Evil(Path.mkdir, marker),
    "a state": armed,
    "nested in the weights": lambda marker: {"w": A, "layers": [{"x": (1, Evil(os.mkdir, str(marker)))}]},
    "in an optimizer": lambda marker: {"state_dict": {"w": A}, "optimizer": {"x": Evil(os.mkdir, str(marker))}},
    "as a key": lambda marker: {Evil(os.mkdir, str(marker)): 1, "w": A},
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", LIVE)
def test_nothing_runs(tmp_path: Path, name: str, protocol: int) -> None:
    marker = tmp_path / "marker"
    folder = saved(tmp_path / "model", LIVE[name](marker), pickle_protocol=protocol)
    with pytest.raises(UnsafeCheckpoint, match="sandbox") as caught:
        open_local(folder)
    assert not marker.exists() and str(caught.value).isprintable()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert not marker.exists()
    # It is no dud: this is what a loader that trusts the file does.
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert marker.exists()


copyreg.add_extension("os", "mkdir", 0x7F)
RAW: dict[str, Callable[[str], bytes]] = {
    "INST": lambda path: f"(S'{path}'\nios\nmkdir\n.".encode(),
    "OBJ": lambda path: f"(cos\nmkdir\nS'{path}'\no.".encode(),
    "EXT1": lambda path: b"\x82\x7f" + f"(S'{path}'\ntR.".encode(),
    "STACK_GLOBAL": lambda path: f"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(S'{path}'\ntR.".encode("latin1"),
    "dots in a name": lambda path: f"\x80\x04\x8c\x08tempfile\x8c\x09_os.mkdir\x93(S'{path}'\ntR.".encode("latin1"),
    "GLOBAL": lambda path: f"cposix\nmkdir\n(S'{path}'\ntR.".encode(),
    "behind weights": lambda path: b"\x80\x02}q\x00X\x01\x00\x00\x00wK\x01s0" + f"cos\nmkdir\n(S'{path}'\ntR.".encode(),
    "behind the memo": lambda path: f"cos\nmkdir\nq\x07\x30h\x07(S'{path}'\ntR.".encode(),
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("place", ["data.pkl", "legacy"])
def test_no_opcode_runs(tmp_path: Path, name: str, place: str) -> None:
    marker = tmp_path / "marker"
    pickled = RAW[name](str(marker))
    path = tmp_path / "model" / "weights.pt"
    if place == "data.pkl":
        written(path, pickled)
    else:
        path.parent.mkdir()
        path.write_bytes(b"\x80\x02" + pickled)
    with pytest.raises(UnsafeCheckpoint):
        open_local(tmp_path / "model")
    assert not marker.exists()
    pickle.loads(pickled)
    assert marker.exists()


NOT_ALLOWED: dict[str, bytes] = {
    "a name of torch that is not on the list": b"ctorch.hub\nload\n)R.",
    "a name inside one on the list": b"ctorch\nos.system\n)R.",
    "a call of text": b"X\x02\x00\x00\x00os)R.",
    "a call of what a call made": b"ccollections\nOrderedDict\n)R)R.",
    "an object of text": b"X\x02\x00\x00\x00os)\x81.",
    "a state of a dict": b"}}b.",
    "a state of a list": b"]}b.",
    "an item of a list": b"]K\x00K\x01s.",
    "an item of a name": b"ccollections\nOrderedDict\nK\x00K\x01s.",
    "items of a tuple": b")(K\x00K\x01u.",
    "an addition to a tuple": b")K\x01a.",
    "additions to a set": b"\x8f(K\x01\x90.",
    "a frozen set": b"(K\x01\x91.",
    "a named id": b"Pstorage\n.",
    "a frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
    "a long number": b"\x8b\xff\xff\xff\x7f1.",
    "a long text": b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
    "bytes": b"B\xff\xff\xff\x7fa.",
    "a number in digits": b"I" + b"9" * 100_000 + b"\n.",
    "a bytearray of protocol 5": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a buffer": b"\x97.",
}


@pytest.mark.parametrize("name", NOT_ALLOWED)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_what_torch_does_not_allow_is_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path / "w.pt", NOT_ALLOWED[name])
    with pytest.raises(UnsafeCheckpoint, match="torch does not allow") as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever torch raises
        torch.load(tmp_path / "w.pt", weights_only=True)


def nested(depth: int) -> bytes:
    """A tuple of twice a tuple of twice ..., whose hash takes 2^depth steps."""
    return b")" + b"".join(
        b"r" + n.to_bytes(4, "little") + b"j" + n.to_bytes(4, "little") + b"\x86" for n in range(depth)
    )


def colliding(count: int) -> bytes:
    """Integers that all have the hash 0."""
    modulus = (1 << 61) - 1
    return b"".join(b"\x8a\x0c" + (n * modulus).to_bytes(12, "little") + b"N" for n in range(count))


TORCH = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"
)
"""The beginning of a tensor: a storage of six numbers."""
FAN = b"}q\x00" + b"".join(
    b"}q%c(" % n + b"".join(b"K%ch%c" % (key, n - 1) for key in range(10)) + b"u" for n in range(1, 12)
)
"""A dict that holds another ten times, which holds another ten times, and so on."""


def tensor(numbers: bytes) -> bytes:
    return b"}X\x01\x00\x00\x00w" + TORCH + numbers + b"\x89NtRs."


BOMBS: dict[str, bytes] = {
    "nested tuples as a key": b"}" + nested(200) + b"Ns.",
    "keys that collide": b"}(" + colliding(50_000) + b"u.",
    "lists in lists": b"(" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "tuples in tuples": b")" + b"\x85" * 300_000 + b".",
    "marks": b"(" * 300_000 + b".",
    "one dict at many places": b"}X\x05\x00\x00\x00model" + FAN + b"s.",
    "a dict in itself": b"}q\x00X\x05\x00\x00\x00modelh\x00s.",
    "a list in itself, often": b"}X\x05\x00\x00\x00model]q\x00(" + b"h\x00" * 100 + b"es.",
    "more opcodes than any model has": b"N" + b"q\x00" * 2_000_000 + b".",
    "an array of a terabyte": b"cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "a tensor of a terabyte": b"ctorch\nTensor\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R.",
    "a shape beyond 64 bits": tensor(b"K\x00\x8a\xff" + b"\x7f" * 255 + b"\x85K\x01\x85"),
    "an empty shape": tensor(b"K\x00\x8a\x07" + b"\x7f" * 7 + b"K\x00\x86K\x01K\x01\x86"),
    "a shape larger than the file": tensor(b"K\x00J\x00\x00\x00\x40\x85K\x00\x85"),
    "nothing at all": b"",
    "no end": b"}",
    "an empty stack": b".",
    "a missing memo": b"h\x00.",
    "something behind the end": b"}.}.",
    "text that is cut off": b"X\xff\xff\xff\xffa.",
    "text that is no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "a wrong call": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "a tensor of text": b"ctorch._utils\n_rebuild_parameter\n(X\x01\x00\x00\x00a\x88NtR.",
    "a storage that is none": b"(X\x07\x00\x00\x00storageX\x01\x00\x00\x00aX\x01\x00\x00\x000NK\x01tQ.",
    "an id that is no storage": b"(X\x06\x00\x00\x00modulectorch\nFloatStorage\nX\x01\x00\x00\x000NK\x01tQ.",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_blow_up_are_one_line(tmp_path: Path, name: str) -> None:
    written(tmp_path / "w.pt", BOMBS[name], data__0=bytes(24))
    with pytest.raises(UnreadableCheckpoint) as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_tensors_must_lie_inside_their_storage(tmp_path: Path) -> None:
    def view(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], count: int = 6, key: bytes = b"0") -> bytes:
        def numbers(values: tuple[int, ...]) -> bytes:
            return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"

        head = TORCH.replace(b"\x000X", b"\x00" + key + b"X").replace(b"K\x06", b"K" + bytes([count]))
        return (
            b"}X\x01\x00\x00\x00w"
            + head
            + b"J"
            + struct.pack("<i", offset)
            + numbers(shape)
            + numbers(strides)
            + b"\x89NtRs."
        )

    def opened(pickled: bytes) -> StoredCheckpoint:
        return open_local(written(tmp_path / "w.pt", pickled, data__0=np.arange(6, dtype="<f4").tobytes()))

    assert opened(view(0, (2, 3), (3, 1))).read([Selection("w")])[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert opened(view(1, (2, 2), (1, 3))).read([Selection("w")])[0].tolist() == [[1, 4], [2, 5]]
    wrong = {
        "behind the end": (view(1, (2, 3), (3, 1)), view(0, (2, 3), (4, 1)), view(0, (7,), (1,)), view(6, (), ())),
        "damaged": (view(-1, (2,), (1,)), view(0, (-1,), (1,)), view(0, (2,), (-1,)), view(0, (2,), (1, 1))),
        "not in the archive": (view(0, (7,), (1,), 7), view(0, (1,), (1,), 1, b"1"), view(0, (1,), (1,), 1, b".")),
    }
    for phrase, pickles in wrong.items():
        for pickled in pickles:
            with pytest.raises(UnreadableCheckpoint, match=phrase):
                opened(pickled)


# Other files ---------------------------------------------------------------------------------------------------------


class Linear(torch.nn.Module):
    """Something to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w


def packaged(path: Path) -> None:
    with torch.package.PackageExporter(path) as exporter:
        exporter.save_source_string("net", "value = 1")
        exporter.save_pickle("model", "model.pkl", {"w": A})


OTHERS: dict[str, tuple[Callable[[Path], object], type[InputError], str]] = {
    "before 1.6": (
        lambda path: torch.save({"w": A}, path, _use_new_zipfile_serialization=False),
        UnsafeCheckpoint,
        r"before version 1.6.*torch.load\('w.pt', map_location='cpu', weights_only=True\).*save_file",
    ),
    "a plain pickle": (lambda path: path.write_bytes(pickle.dumps({"w": [1]})), UnsafeCheckpoint, "plain pickle"),
    "TorchScript": (
        lambda path: torch.jit.script(Linear()).save(str(path)),
        UnsafeCheckpoint,
        r"TorchScript.*torch.jit.load\(FILE\).state_dict\(\)",
    ),
    "torch.package": (packaged, UnsafeCheckpoint, "torch.package"),
    "a module": (
        lambda path: torch.save(Linear(), path),
        UnsafeCheckpoint,
        r"names '.*test_torch.Linear'.*save_pretrained",
    ),
    "another archive": (lambda path: zipfile.ZipFile(path, "w").writestr("a/b", "c"), UnreadableCheckpoint, "data.pkl"),
    "a pointer": (
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
        UnreadableCheckpoint,
        "git lfs pull",
    ),
    "llama.cpp": (lambda path: path.write_bytes(b"lmggabcd"), UnsupportedEncoding, "llama.cpp"),
    "nothing": (lambda path: path.write_bytes(b""), UnreadableCheckpoint, "empty"),
    "noise": (lambda path: path.write_bytes(bytes(range(256))), UnreadableCheckpoint, "not a PyTorch checkpoint"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_other_files_are_named(tmp_path: Path, hub: LocalHub, name: str) -> None:
    write, kind, phrase = OTHERS[name]
    folder = hub.root / ID
    folder.mkdir(parents=True)
    write(folder / "w.pt")
    for opened in (lambda: open_local(folder), lambda: online(hub)):
        with pytest.raises(kind, match=phrase) as caught:
            opened()
        assert type(caught.value) is kind and str(caught.value).isprintable()


def test_the_conversion_that_is_named_works(tmp_path: Path) -> None:
    saved(tmp_path, {"w": A, "tied": A, "t": B.t()}, "w.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeCheckpoint) as caught:
        open_local(tmp_path)
    command = caught.value.remedy.partition("python -c ")[2].rstrip(".").strip('"')
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(command)
    finally:
        os.chdir(before)
    check(open_local(tmp_path), {"w": A, "tied": A, "t": B.t()})


@pytest.mark.parametrize("name", ["'); import os; os.system('x') #.bin", "$(x).bin", "a b.bin", "-x.bin", "`x`.bin"])
def test_names_of_files_are_not_put_into_commands(tmp_path: Path, name: str) -> None:
    saved(tmp_path, {"w": A}, name, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeCheckpoint) as caught:
        open_local(tmp_path)
    assert "torch.load('FILE'" in caught.value.remedy and name not in caught.value.remedy


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_distributed_checkpoints_are_named(tmp_path: Path) -> None:
    torch.distributed.checkpoint.save({"w": A}, checkpoint_id=tmp_path, no_dist=True)
    assert list(tmp_path.glob("*.distcp"))
    with pytest.raises(UnsupportedEncoding, match="dcp_to_torch"):
        open_local(tmp_path)


def test_files_beside_weights_do_not_count(tmp_path: Path) -> None:
    saved(tmp_path, {"w": A}, "net.pt")
    for name in (
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state_0.pth",
        "openvino_model.bin",
        "vocab.pt",
    ):
        (tmp_path / name).write_bytes(b"\x80\x02.")
    assert open_local(tmp_path).weight_files == ("net.pt",)


def test_two_snapshots_are_not_joined(tmp_path: Path) -> None:
    saved(tmp_path, {"w": A}, "epoch1.ckpt")
    saved(tmp_path, {"w": B}, "epoch2.ckpt")
    with pytest.raises(UnreadableCheckpoint, match="both hold 'w'"):
        open_local(tmp_path)
    assert open_local(tmp_path / "epoch2.ckpt").read([Selection("w")])[0].tolist() == B.tolist()


def test_slices_of_tensors_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        saved(tmp_path, {"layers.0.attention.wq.weight": A}, f"consolidated.{number:02d}.pth")
    with pytest.raises(UnsupportedEncoding, match="tensor parallel"):
        open_local(tmp_path)


# Archives that lie ---------------------------------------------------------------------------------------------------


def local_headers(data: bytes) -> list[tuple[int, int, int]]:
    """Position of each local header, length of its name and of its extra field."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        places = [info.header_offset for info in archive.infolist()]
    return [(place, *struct.unpack_from("<2H", data, place + 26)) for place in places]


def shifted(data: bytes) -> bytes:
    """The same archive, the data of every storage beginning eight bytes earlier, as its local header tells."""
    changed = bytearray(data)
    for place, name, extra in local_headers(data):
        if b"/data/" in data[place + 30 : place + 30 + name] and extra > 12:
            struct.pack_into("<H", changed, place + 28, extra - 8)
    return bytes(changed)


def directory(data: bytes) -> int:
    return data.index(b"PK\x01\x02")


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new) and old in data
    return data.replace(old, new)


FORGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda d: d[:-1], "truncated"),
    "something behind the end": (lambda d: d + b"\0", "truncated, or goes on behind its end"),
    "a comment": (lambda d: d[:-2] + b"\1\0x", "truncated, or goes on"),
    "something before the beginning": (lambda d: b"PK\3\4" + bytes(60) + d, "contradicts itself"),
    "a directory elsewhere": (lambda d: patched(d, len(d) - 6, struct.pack("<L", 5)), "contradicts itself"),
    "more members than there are": (lambda d: patched(d, len(d) - 14, b"\x63\0\x63\0"), "contradicts|damaged"),
    "several disks": (lambda d: patched(d, len(d) - 18, b"\1\0"), "contradicts itself"),
    "a member twice": (lambda d: renamed(d, b"/data/1", b"/data/0"), "twice"),
    "two folders": (lambda d: patched(d, directory(d) + 46, b"X"), "several folders"),
    "a compressed member": (lambda d: patched(d, directory(d) + 10, b"\x08\0"), "compressed"),
    "an encrypted member": (lambda d: patched(d, directory(d) + 8, b"\1\0"), "compressed"),
    "a size that is another": (lambda d: patched(d, directory(d) + 20, b"\7\0\0\0"), "contradicts itself"),
    "sizes that overlap": (lambda d: patched(d, directory(d) + 20, b"\0\0\1\0\0\0\1\0"), "overlap"),
    "a header elsewhere": (lambda d: patched(d, directory(d) + 42, b"\4\0\0\0"), "overlap, or lie outside"),
    "another name in the local header": (lambda d: patched(d, local_headers(d)[0][0] + 30, b"X"), "contradicts"),
    "a compressed local header": (lambda d: patched(d, 8, b"\x08"), "contradicts"),
    "no local header": (lambda d: patched(d, local_headers(d)[4][0], b"QK"), "not where the directory"),
    "a local header too long": (lambda d: patched(d, 28, b"\xff\xff"), "contradicts"),
    "a name that is no text": (lambda d: patched(d, directory(d) + 46, b"\xff"), "is no name"),
    "big-endian numbers": (lambda d: d.replace(b"little", b"BIGEND"), "little-endian"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_archives_that_contradict_themselves(tmp_path: Path, name: str) -> None:
    forge, phrase = FORGED[name]
    path = saved(tmp_path, weights()) / "pytorch_model.bin"
    path.write_bytes(forge(path.read_bytes()))
    with pytest.raises(InputError, match=phrase) as caught:
        open_local(tmp_path)
    assert str(caught.value).isprintable()


def test_members_are_told_apart_by_more_than_case(tmp_path: Path) -> None:
    written(tmp_path / "w.pt", pickle.dumps({}, 2), data__a=b"1", data__A=b"2")
    with pytest.raises(UnreadableCheckpoint, match="twice"):
        open_local(tmp_path)


def test_the_local_headers_count_as_for_torch(tmp_path: Path) -> None:
    path = saved(tmp_path, {f"w{n}": torch.randn(3, 4) for n in range(6)}) / "pytorch_model.bin"
    original = rebuilt(path)
    path.write_bytes(shifted(path.read_bytes()))
    moved = rebuilt(path)
    assert any(not torch.equal(moved[name], original[name]) for name in moved)
    check(open_local(tmp_path), moved)


class Distant:
    """A local file read as if it were far away: where data begin is not looked up but told from the directory."""

    def __init__(self, path: Path) -> None:
        info = FileInfo(path.name, path.stat().st_size)
        self.near = LocalSource(str(path), path.parent, {path.name: info}, Ledger(""))
        self.local, self.files, self.ledger, self.bytes = False, self.near.files, self.near.ledger, self.near.bytes


def test_where_data_begin_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A sparse file of torch with sizes and positions of more than 32 bits."""
    tensors = {"first": torch.ones(5), "large": torch.empty(1 << 32, dtype=torch.uint8), "none": torch.ones(0)}
    tensors |= {f"t{n}": torch.ones(n) for n in range(1, 20)}
    with torch.serialization.skip_data():
        path = saved(tmp_path, tensors) / "pytorch_model.bin"
    source = Distant(path)
    archive = read_archive(source, path.name, where=path.name)  # type: ignore[arg-type]
    storages = [member for member in archive.members if member.startswith("data/")]
    told = data_starts(source, archive, storages, 64)  # type: ignore[arg-type]
    assert told == data_starts(source.near, archive, storages, 64)
    assert len(told) == len(tensors) and max(told.values()) > 1 << 32
    with path.open("r+b") as file:
        file.seek(told["data/21"])
        file.write(np.arange(19, dtype="<f4").tobytes())
    assert open_local(tmp_path).read([Selection("t19")])[0].reshape(-1).tolist() == list(range(19))


# Over the Hub --------------------------------------------------------------------------------------------------------


def online(hub: LocalHub) -> StoredCheckpoint:
    return open_hub(ID, endpoint=hub.endpoint, patience=Patience(base=0.001))


def test_the_hub_is_asked_for_little(hub: LocalHub) -> None:
    tensors = {f"layers.{n}.weight": torch.randn(40, 8192) for n in range(12)}
    folder = saved(hub.root / ID, tensors)
    size = (folder / "pytorch_model.bin").stat().st_size
    checkpoint = online(hub)
    opened = checkpoint.cost()
    # The repository, the redirect and the end of the file, the pickle, four local headers.
    assert opened.requests == hub.log.requests() == 8
    assert opened.bytes_read - opened.tensor_bytes < 8192 and opened.bytes_read < 80_000 < size // 100
    rows = [Selection(name, np.array([3, 30])) for name in tensors]
    for selection, found in zip(rows, checkpoint.read(rows)):
        np.testing.assert_array_equal(found, expected(tensors[selection.tensor], selection))
    assert checkpoint.cost().requests - opened.requests == 2 * len(rows)
    assert checkpoint.cost().bytes_read - opened.bytes_read == 2 * 32768 * len(rows)
    assert checkpoint.cost().bytes_read == hub.log.sent(port="cdn")


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_over_the_hub(hub: LocalHub, name: str) -> None:
    folder = hub.root / ID
    folder.mkdir(parents=True)
    SAMPLES[name](folder)
    there, here = online(hub), open_local(folder)
    assert there.tensors == here.tensors and there.notes == here.notes
    floats = [Selection(n) for n, info in here.tensors.items() if info.dtype in ("F32", "BF16", "F16")]
    for ours, theirs in zip(here.read(floats), there.read(floats)):
        np.testing.assert_array_equal(ours, theirs)


def test_large_directories_over_the_hub(hub: LocalHub) -> None:
    tensors = {f"layers.{n}.weight.with.a.long.name": torch.full((40,), float(n)) for n in range(1200)}
    saved(hub.root / ID, tensors)
    checkpoint = online(hub)
    assert checkpoint.cost().requests <= 10
    assert checkpoint.read([Selection("layers.700.weight.with.a.long.name")])[0].mean() == 700


def test_data_that_lie_elsewhere_are_found_out_over_the_hub(hub: LocalHub) -> None:
    folder = saved(hub.root / ID, {f"w{n}": torch.randn(200, 300) for n in range(6)})
    online(hub)
    path = folder / "pytorch_model.bin"
    path.write_bytes(shifted(path.read_bytes()))
    with pytest.raises(UnreadableCheckpoint, match="elsewhere than torch puts them"):
        online(hub)


def test_archives_of_other_writers_over_the_hub(hub: LocalHub) -> None:
    folder = saved(hub.root / ID, tensors := {f"w{n}": torch.randn(200, 300) for n in range(6)})
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    check(online(hub), tensors)


def test_a_model_is_found_behind_its_index_over_the_hub(hub: LocalHub) -> None:
    folder = hub.root / ID
    folder.mkdir(parents=True)
    SAMPLES["sharded"](folder)
    index = json.loads((folder / "pytorch_model.bin.index.json").read_text())
    index["weight_map"]["gone"] = "pytorch_model-00001-of-00003.bin"
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UnreadableCheckpoint, match="promises the tensor 'gone'"):
        online(hub)
