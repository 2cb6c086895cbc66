"""Tiny ONNX folders by both exporters of torch, and graphs of the onnx library for what other writers make."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

__all__ = ["SAMPLES", "Tiny", "built", "export", "quantised"]


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class _Mlp(nn.Module):
    def __init__(self, width: int, units: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, units, bias=False)
        self.up_proj = nn.Linear(width, units, bias=False)
        self.down_proj = nn.Linear(units, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_layernorm = _Norm(width)
        self.mlp = _Mlp(width, 2 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.input_layernorm(x)) + self.dense(x)


class _Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(12, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(2))
        self.norm = _Norm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Tiny(nn.Module):
    """Linear layers with and without bias, norms and an embedding, under the names of a llama."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = _Model(width)
        self.lm_head = nn.Linear(width, 12, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.lm_head(self.model(ids))


def export(model: nn.Module, file: Path, *, dynamo: bool, inside: bool = True) -> None:
    """Export a model that takes token ids."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        more = {"external_data": not inside} if dynamo else {}
        torch.onnx.export(
            model.eval(), (torch.arange(5)[None],), str(file), dynamo=dynamo, input_names=["ids"], verbose=False, **more
        )


def _scripted(folder: Path) -> None:
    export(Tiny(), folder / "model.onnx", dynamo=False)


def _exported(folder: Path) -> None:
    """In the folder that optimum and transformers.js use, weights in a file beside."""
    (folder / "onnx").mkdir()
    export(Tiny(), folder / "onnx" / "model.onnx", dynamo=True, inside=False)


def built(file: Path) -> dict[str, np.ndarray]:
    """Write a graph as the model builder of onnxruntime-genai names things; return its weights as PyTorch has them.

    By hand, from src/python/py/models/builder.py of github.com/microsoft/onnxruntime-genai (``make_matmul_float``,
    ``make_layernorm``).
    """
    rng = np.random.default_rng(0)
    embed, query, norm, head = (rng.normal(size=s).astype(np.float16) for s in ((6, 4), (3, 4), (4,), (6, 4)))
    constants = {
        "model.embed_tokens.weight": embed,
        "model.layers.0.attn.q_proj.MatMul.weight": np.ascontiguousarray(query.T),
        "model.layers.1.final_norm_layernorm.weight": norm,
        "lm_head.MatMul.weight": np.ascontiguousarray(head.T),
    }
    nodes = [
        helper.make_node("Gather", ["model.embed_tokens.weight", "ids"], ["x"], "/model/embed_tokens/Gather"),
        helper.make_node(
            "MatMul", ["x", "model.layers.0.attn.q_proj.MatMul.weight"], ["y"], "/model/layers.0/attn/q_proj/MatMul"
        ),
        helper.make_node("Mul", ["x", "model.layers.1.final_norm_layernorm.weight"], ["z"], "/model/norm/Mul"),
        helper.make_node("MatMul", ["z", "lm_head.MatMul.weight"], ["logits"], "/lm_head/MatMul"),
    ]
    _save(nodes, constants, file)
    return {
        "model.embed_tokens.weight": embed,
        "model.layers.0.self_attn.q_proj.weight": query,
        "model.norm.weight": norm,
        "lm_head.weight": head,
    }


def _built(folder: Path) -> None:
    built(folder / "model.onnx")


def quantised(file: Path) -> None:
    """Write a graph with a matrix of int8, as dynamic quantisation by onnxruntime leaves it; by hand."""
    constants = {
        "w_quantized": np.arange(64, dtype=np.int8).reshape(8, 8),
        "w_scale": np.array(0.1, np.float32),
        "w_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_quantized", "w_scale", "w_zero"], ["w"], "/layer/DequantizeLinear"),
        helper.make_node("MatMul", ["ids", "w"], ["logits"], "/layer/MatMul"),
    ]
    _save(nodes, constants, file)


def _branches(folder: Path) -> None:
    """A merged decoder has its nodes in the branches of an ``If``; with numbers in every form that onnx has."""
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(3, 4), "onnx::MatMul_7")
    typed = [
        weight,
        helper.make_tensor("layer.scale", TensorProto.FLOAT, [2], [0.5, 1.5]),
        helper.make_tensor("layer.wide", TensorProto.DOUBLE, [2], [0.25, 3.0]),
        helper.make_tensor("layer.half", TensorProto.FLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor(
            "layer.brain", TensorProto.BFLOAT16, [2], np.array([0x3F80, 0x4000], np.uint16).tobytes(), raw=True
        ),
        helper.make_tensor("shape", TensorProto.INT64, [1], [4]),
    ]
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    node = helper.make_node("MatMul", ["ids", "onnx::MatMul_7"], ["logits"], "/model/layers.0/mlp/up_proj/MatMul")
    branch = helper.make_graph([node], "branch", [], [out])
    nodes = [helper.make_node("If", ["use_cache"], ["logits"], "optimum::if", then_branch=branch, else_branch=branch)]
    graph = helper.make_graph(nodes, "merged", [], [out], initializer=typed)
    onnx.save(helper.make_model(graph, producer_name="optimum-onnx"), folder / "decoder_model_merged.onnx")


def _save(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], file: Path) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 5])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [ids], [logits], tensors)), file)


SAMPLES: dict[str, Callable[[Path], None]] = {
    "scripted": _scripted,
    "exported": _exported,
    "built": _built,
    "branches": _branches,
}
