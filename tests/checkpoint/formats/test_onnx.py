"""ONNX files by both exporters of torch, against the models they were exported from; local and over the Hub."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import nn

from lineage_plugin.checkpoint import Selection
from lineage_plugin.checkpoint.formats import onnx as module
from lineage_plugin.checkpoint.hub import open_hub
from lineage_plugin.checkpoint.local import open_local
from lineage_plugin.errors import InputError, UnreadableCheckpoint, UnsupportedEncoding
from tests.hub import LocalHub

from .onnx_samples import SAMPLES, Tiny, built, export, quantised
from .reading import agrees


def weights(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in three forms: by TorchScript, by torch.export, and that with its weights beside."""
    folder = tmp_path_factory.mktemp("onnx")
    for name in ("scripted", "exported", "beside"):
        (folder / name).mkdir()
    export(Tiny(), folder / "scripted" / "model.onnx", dynamo=False)
    export(Tiny(), folder / "exported" / "model.onnx", dynamo=True)
    export(Tiny(), folder / "beside" / "model.onnx", dynamo=True, inside=False)
    return folder


@pytest.mark.parametrize("kind", ["scripted", "exported", "beside"])
def test_exports_have_the_weights_of_the_model(exports: Path, kind: str) -> None:
    """Under their names in PyTorch, and turned back: the exporters store linear weights transposed and unnamed."""
    graph = onnx.load(exports / kind / "model.onnx", load_external_data=False).graph
    assert "model.layers.0.mlp.up_proj.weight" not in {tensor.name for tensor in graph.initializer}
    checkpoint = open_local(exports / kind)
    assert checkpoint.format == "onnx" and checkpoint.metadata["producer"] == "pytorch"
    agrees(checkpoint, weights(Tiny()))


def test_conv1d_of_gpt2_stays_as_it_is(tmp_path: Path) -> None:
    """Its weight is [in, out] in PyTorch, too, and goes into the product under its own name."""

    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(8, 4)
            self.weight, self.bias = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.addmm(self.bias, self.wte(ids)[0], self.weight)

    torch.manual_seed(0)
    model = nn.Sequential(Conv1D())
    export(model, tmp_path / "model.onnx", dynamo=False)
    agrees(open_local(tmp_path), weights(model))


def test_a_shared_matrix_has_both_names(tmp_path: Path) -> None:
    model = Tiny()
    model.lm_head.weight = model.model.embed_tokens.weight
    export(model, tmp_path / "model.onnx", dynamo=False)
    agrees(open_local(tmp_path), weights(model))


def test_names_of_the_model_builder(tmp_path: Path) -> None:
    expected = built(tmp_path / "model.onnx")
    agrees(open_local(tmp_path), expected)


def test_branches_and_forms_of_numbers(tmp_path: Path) -> None:
    SAMPLES["branches"](tmp_path)
    checkpoint = open_local(tmp_path)
    agrees(
        checkpoint,
        {
            "model.layers.0.mlp.up_proj.weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
            "layer.scale": np.array([0.5, 1.5]),
            "layer.wide": np.array([0.25, 3.0]),
            "layer.brain": np.array([1.0, 2.0]),
        },
    )
    assert "layer.half" not in checkpoint.tensors
    assert any("1 constants" in note for note in checkpoint.notes)


def test_the_unquantised_file_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    built(tmp_path / "onnx" / "model.onnx")
    quantised(tmp_path / "onnx" / "model_quantized.onnx")
    checkpoint = open_local(tmp_path)
    assert checkpoint.weight_files == ("onnx/model.onnx",)
    assert checkpoint.notes == ("Other ONNX files are left aside: 'onnx/model_quantized.onnx'.",)


def test_quantised_graphs_are_refused_by_name(tmp_path: Path) -> None:
    quantised(tmp_path / "model_quantized.onnx")
    with pytest.raises(UnsupportedEncoding, match=r"1 DequantizeLinear"):
        open_local(tmp_path)
    (tmp_path / "onnx").mkdir()
    built(tmp_path / "onnx" / "model.onnx")
    quantised(tmp_path / "onnx" / "model.onnx.old")
    (tmp_path / "model_quantized.onnx").rename(tmp_path / "other_quantized.onnx")
    with pytest.raises(UnsupportedEncoding, match=r"Give 'onnx/model\.onnx'"):
        open_local(tmp_path)


def test_several_files_of_one_rank(tmp_path: Path) -> None:
    built(tmp_path / "a.onnx")
    built(tmp_path / "b.onnx")
    with pytest.raises(UnreadableCheckpoint, match="which of 2 ONNX files"):
        open_local(tmp_path)
    assert open_local(tmp_path / "b.onnx").tensors


# Weights beside -----------------------------------------------------------------------------------------------------


def beside(folder: Path, **changes: str) -> None:
    """Write a graph whose one matrix lies in another file."""
    tensor = TensorProto(name="layer.weight", data_type=TensorProto.FLOAT, dims=[3, 4])
    tensor.data_location = TensorProto.EXTERNAL
    place = {"location": "model.onnx_data", "offset": "8", "length": "48", **changes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph([], "g", [], [], [tensor])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (folder / "model.onnx_data").write_bytes(bytes(8) + np.arange(12, dtype="<f4").tobytes())


def test_weights_beside_a_file_that_is_given(tmp_path: Path) -> None:
    beside(tmp_path)
    for place in (tmp_path, tmp_path / "model.onnx"):
        checkpoint = open_local(place)
        agrees(checkpoint, {"layer.weight": np.arange(12, dtype=np.float32).reshape(3, 4)})
        assert checkpoint.weight_files == ("model.onnx", "model.onnx_data")
        assert checkpoint.cost().bytes_total == sum(p.stat().st_size for p in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"location": "../model.onnx_data"}, "no plain name"),
        ({"location": "/etc/passwd"}, "no plain name"),
        ({"location": ""}, "no plain name"),
        ({"location": "absent"}, "missing"),
        ({"offset": "9"}, "does not fit its place"),
        ({"offset": "-8"}, "do not fit its shape"),
        ({"offset": "9" * 30}, "do not fit its shape"),
        ({"length": "44"}, "does not fit its place"),
    ],
)
def test_weights_beside_that_are_not_there(tmp_path: Path, changes: dict[str, str], problem: str) -> None:
    beside(tmp_path, **changes)
    with pytest.raises(UnreadableCheckpoint, match=problem):
        open_local(tmp_path)


# Over the Hub -------------------------------------------------------------------------------------------------------


def test_over_the_hub_the_rows_are_fetched_from_the_file_beside(hub: LocalHub) -> None:
    folder = hub.root / "owner/name"
    folder.mkdir(parents=True)

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Embedding(64, 8192)
            self.head = nn.Linear(8192, 16, bias=False)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.embed(ids))

    model = Wide()
    export(model, folder / "model.onnx", dynamo=True, inside=False)
    checkpoint = open_hub("owner/name", endpoint=hub.endpoint)
    graph = (folder / "model.onnx").stat().st_size
    assert checkpoint.cost().bytes_read == graph
    rows = np.array([2, 40])
    found = checkpoint.read([Selection("embed.weight", rows=rows), Selection("head.weight", columns=rows)])
    np.testing.assert_array_equal(found[0], model.embed.weight.detach().numpy()[rows])
    np.testing.assert_array_equal(found[1], model.head.weight.detach().numpy()[:, rows])
    # Rows near each other come at once.
    assert checkpoint.cost().bytes_read <= graph + 2 * (8192 + 16) * 4 + 4096
    assert checkpoint.cost().bytes_total > 2_000_000


def test_large_graphs_are_not_fetched(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = hub.root / "owner/name"
    folder.mkdir(parents=True)
    built(folder / "model.onnx")
    expected = open_local(folder)
    found = open_hub("owner/name", endpoint=hub.endpoint)
    assert found.tensors == expected.tensors
    monkeypatch.setattr(module, "_LARGEST_REMOTE", 100)
    with pytest.raises(UnsupportedEncoding, match="hf download owner/name"):
        open_hub("owner/name", endpoint=hub.endpoint)


# Hostile files ------------------------------------------------------------------------------------------------------


def sized(number: int, content: bytes) -> bytes:
    size, head = len(content), b""
    while size >= 0x80:
        head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + head + bytes([size]) + content


def nested(depth: int) -> bytes:
    """Graphs in branches of ``If`` nodes, each in the one before."""
    graph = b""
    for _ in range(depth):
        graph = sized(1, sized(4, b"If") + sized(5, sized(6, graph)))
    return sized(7, graph)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no intact|holds no graph|beyond"),
        (b"\x00" * 50, "a field does not fit|what is no field"),
        (b"\xff" * 50, "a number has no end"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a field does not fit its message"),
        (sized(2, b"x"), "holds no graph"),
        (sized(7, b"") * 2, "two graphs"),
        (nested(50), "nested too deeply"),
        (sized(7, sized(5, b"\x08\x02\x10\x01")), "no name or type"),
        (sized(7, sized(5, b"\x08" + b"\xff" * 9 + b"\x01\x10\x01" + sized(8, b"a"))), "has no shape"),
        (sized(7, sized(5, b"\x08\x02" * 30 + b"\x10\x01" + sized(8, b"a"))), "has no shape"),
        (sized(7, sized(5, b"\x08\x03\x10\x01" + sized(8, b"a") + sized(9, bytes(8)))), "do not fit its shape"),
        (sized(7, sized(5, b"\x08\x02\x10\x01" + sized(8, b"a") + sized(9, bytes(8))) * 2), "twice"),
        (sized(7, b"\x08\x01" * 1_100_000), "too many fields"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError, match=problem):
        open_local(tmp_path)


def test_huge_shapes_allocate_nothing(tmp_path: Path) -> None:
    """A constant without data, of 2^62 elements, in a form of its own."""
    huge = b"\x08" + b"\x80" * 8 + b"\x40\x10\x01" + sized(8, b"a")
    good = b"\x08\x02\x10\x01" + sized(8, b"b") + sized(9, bytes(8))
    (tmp_path / "model.onnx").write_bytes(sized(7, sized(5, huge) + sized(5, good)))
    checkpoint = open_local(tmp_path)
    assert list(checkpoint.tensors) == ["b"]


def test_names_that_no_terminal_should_see(tmp_path: Path) -> None:
    """The node's name is as hostile as any, and would become the tensor's."""
    tensor = helper.make_tensor("onnx::MatMul_1", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    good = helper.make_tensor("b.weight", TensorProto.FLOAT, [1], [1.0])
    node = helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["y"], "/a\x1b[31m/MatMul")
    graph = helper.make_graph([node], "g", [], [], [tensor, good])
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert list(open_local(tmp_path).tensors) == ["b.weight"]
