"""The proof of the residual stream: relabelling, folding and rotating it as described leaves real outputs unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from transformers import AutoModel

from lineage_plugin.anatomy import READS, WRITES, Anatomy, Gain, Stream, analyse
from tests.anatomy.models import TINY, Checkpoint, in_memory, saved
from tests.anatomy.relabel import Tensors, describe, read
from tests.anatomy.test_analyse import CONFIG, Shapes, run

Turn = Callable[[np.ndarray], np.ndarray]

LAYER = {
    "olmo", "starcoder2", "nemotron", "stablelm", "cohere", "cohere2", "phimoe", "gpt_neox", "gpt2", "opt", "bert",
    "roberta", "xlm-roberta", "camembert", "ernie", "data2vec-text", "distilbert",
}  # fmt: skip
POST = {"gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4", "glm4", "flex_olmo"}
# Electra's embeddings are narrower than its stream; the others have two streams, no token table, or fixed positions.
NONE = {"electra"} | {name for name, tiny in TINY.items() if tiny.family in ("vit", "clip", "fairseq")} - {"opt"}
RMS = set(TINY) - LAYER - NONE
STREAMS = sorted(RMS | LAYER)
# Models compute these norms in float32 even where everything else is float64.
CLOSE = 5e-6

_ROWS = re.compile(
    r"(embeddings|embed_tokens|embed_in|embed_out|embed_positions|wte|wpe|lm_head|mlp\.gate|mlp\.router"
    r"|block_sparse_moe\.gate|shared_expert_gate)\.weight$"
)
_ROUTER = re.compile(r"(mlp\.gate|mlp\.router|block_sparse_moe\.gate|shared_expert_gate)\.weight$")


@cache
def untied(name: str) -> Checkpoint:
    """The model as it is in memory, but with tied embeddings once, as they are in files."""
    held = in_memory(name)
    tied = {
        key
        for key in ("lm_head.weight", "output_projection.weight")
        if key in held.tensors and bool(held.config.get("tie_word_embeddings", True))
    }

    def outputs(changed: Tensors) -> np.ndarray:
        if not tied:
            return held.outputs(changed)
        (embedding,) = (key for key in changed if key.endswith(("embed_tokens.weight", "wte.weight")))
        return held.outputs(changed | dict.fromkeys(tied, changed[embedding]))

    return Checkpoint({key: t for key, t in held.tensors.items() if key not in tied}, held.config, outputs)


@cache
def anatomy_of(name: str) -> tuple[Checkpoint, Anatomy, np.ndarray]:
    checkpoint = untied(name)
    anatomy = analyse(describe(checkpoint.tensors), checkpoint.config)
    return checkpoint, anatomy, checkpoint.outputs(checkpoint.tensors)


def stream_of(name: str) -> Stream:
    stream = anatomy_of(name)[1].stream
    assert stream is not None
    return stream


def is_norm(name: str, tensor: np.ndarray, width: int) -> bool:
    found = re.search(r"norm|ln_", name, re.IGNORECASE) and not re.search(r"[qk]_norm", name)
    return bool(found) and tensor.shape == (width,)


def turn_stream(tensors: Tensors, anatomy: Anatomy, turn: Turn, gains: Turn | None = None) -> Tensors:
    """Apply a linear map to everything on the stream, and ``gains`` to the gains of its norms."""
    changed = dict(tensors)
    for group in anatomy.groups:
        for v in group.vectors:
            assert (v.role in READS) != (v.role in WRITES)
            matrix = changed[v.tensor].reshape(-1, v.width).copy()
            lines = matrix if v.axis == 0 else matrix.T
            lines[v.index, slice(*(v.span or (None,)))] = turn(read(changed, v))
            changed[v.tensor] = matrix.reshape(tensors[v.tensor].shape)
    written = {v.tensor for group in anatomy.groups for v in group.vectors if v.role in WRITES}
    biases = {name.removesuffix("weight") + "bias" for name in written} | {name + "_bias" for name in written}
    for name, tensor in tensors.items():
        if name in biases or (_ROWS.search(name) and tensor.shape[-1] == anatomy.width):
            changed[name] = turn(tensor)
        elif is_norm(name, tensor, anatomy.width):
            changed[name] = turn(tensor) if name.endswith("bias") or gains is None else gains(tensor)
    return changed


def fold(tensors: Tensors, anatomy: Anatomy) -> Tensors:
    """Move the gains that can be moved into what reads behind them, and make the others constant."""
    stream = anatomy.stream
    assert stream is not None
    changed = dict(tensors)

    def value(gain: Gain) -> np.ndarray:
        return tensors[gain.tensor] + gain.plus_one

    for group in anatomy.groups:
        if group.key in stream.reads:
            for v in group.vectors:
                if v.role in READS:
                    matrix = changed[v.tensor].reshape(-1, v.width).copy()
                    lines = matrix if v.axis == 0 else matrix.T
                    lines[v.index, slice(*(v.span or (None,)))] *= value(stream.reads[group.key])
                    changed[v.tensor] = matrix.reshape(tensors[v.tensor].shape)
    for name in tensors:
        if _ROUTER.search(name):
            layer = re.match(r".*layers\.\d+\.", name).group()  # type: ignore[union-attr]
            behind = [g for key, g in stream.reads.items() if key[0] in ("mlp", "experts") and layer in g.tensor]
            if behind:
                changed[name] = changed[name] * value(behind[0])
    moved = list(stream.reads.values())
    if stream.unembedding is not None and stream.final is not None:
        changed[stream.unembedding] = changed[stream.unembedding] * value(stream.final)
        moved.append(stream.final)
    for gain in moved:
        changed[gain.tensor] = np.full(stream.width, 1.0 - gain.plus_one)
        bias = gain.tensor.removesuffix("weight") + "bias"
        if bias in tensors:
            changed[bias] = tensors[bias] / value(gain)
    return changed


def flatten(tensors: Tensors, stream: Stream) -> Tensors:
    """Make the gains constant that cannot be moved: those behind blocks, and the last one of tied embeddings."""
    constant = list(stream.writes.values())
    if stream.unembedding is None and stream.final is not None:
        constant.append(stream.final)
    return tensors | {gain.tensor: np.full(stream.width, 1.3) for gain in constant}


def difference(name: str, tensors: Tensors, before: np.ndarray, turn: Turn) -> float:
    """Distance of the outputs from those of before; hidden states are outputs that turn with the stream."""
    expected = turn(before) if TINY[name].auto is AutoModel else before
    return float(np.abs(untied(name).outputs(tensors) - expected).max() / np.abs(before).max())


def test_which_models_have_a_stream() -> None:
    for name in TINY:
        stream = anatomy_of(name)[1].stream
        assert (stream is None) == (name in NONE), name
        if stream is not None:
            assert stream.norm == ("layer" if name in LAYER else "rms"), name
            assert stream.swap
            assert stream.flip == (name in RMS)
            assert bool(stream.writes) == (name in POST), name


def test_gains_stand_where_they_should() -> None:
    for name in STREAMS:
        checkpoint, anatomy, _ = anatomy_of(name)
        stream = stream_of(name)
        assert stream.width == anatomy.width == 32
        for gain in [*stream.reads.values(), *stream.writes.values(), *([stream.final] if stream.final else [])]:
            assert checkpoint.tensors[gain.tensor].shape == (32,)
            assert gain.plus_one == (name in ("gemma", "gemma2", "gemma3_text", "vaultgemma", "nemotron"))
        keys = {group.key for group in anatomy.groups}
        gainless = TINY[name].family == "bert" or name == "olmo"
        after_only = name in ("olmo2", "olmo3", "exaone4", "flex_olmo")
        assert set(stream.reads) == (set() if gainless or after_only else keys), name
        assert set(stream.writes) == (keys if name in POST else set()), name
        assert (stream.final is None) == gainless, name


def test_the_ends_of_the_stream() -> None:
    assert stream_of("llama").embedding == "model.embed_tokens.weight"
    assert stream_of("llama").unembedding == "lm_head.weight"
    assert stream_of("llama tied").unembedding is None
    for checkpoint in (saved("gpt_neox"), in_memory("gpt_neox")):
        stream = analyse(describe(checkpoint.tensors), checkpoint.config).stream
        assert stream is not None
        assert stream.unembedding in checkpoint.tensors
    assert stream_of("gpt2").embedding == "transformer.wte.weight"
    assert stream_of("bert").embedding == "embeddings.word_embeddings.weight"
    assert stream_of("gemma").reads["mlp", 1, 0] == Gain("model.layers.1.post_attention_layernorm.weight", True)
    assert stream_of("gemma2").reads["mlp", 1, 0] == Gain("model.layers.1.pre_feedforward_layernorm.weight", True)
    assert stream_of("gemma2").writes["value", 0, 0] == Gain("model.layers.0.post_attention_layernorm.weight", True)
    assert stream_of("cohere").reads["mlp", 0, 0] == Gain("model.layers.0.input_layernorm.weight")


@pytest.mark.parametrize("name", STREAMS)
def test_channels_may_change_places_and_signs(name: str) -> None:
    checkpoint, anatomy, before = anatomy_of(name)
    rng = np.random.default_rng(3)
    order = rng.permutation(anatomy.width)
    sign = rng.choice([-1.0, 1.0], anatomy.width) if stream_of(name).flip else np.ones(anatomy.width)
    changed = turn_stream(checkpoint.tensors, anatomy, lambda x: x[..., order] * sign, lambda x: x[..., order])
    assert before.std() > 1e-3
    assert difference(name, changed, before, lambda x: x[..., order] * sign) < CLOSE
    assert not np.allclose(changed[stream_of(name).embedding], checkpoint.tensors[stream_of(name).embedding])


@pytest.mark.parametrize("name", sorted(LAYER))
def test_a_norm_with_a_mean_forbids_flips(name: str) -> None:
    checkpoint, anatomy, before = anatomy_of(name)
    sign = np.where(np.arange(32) % 3, 1.0, -1.0)
    changed = turn_stream(checkpoint.tensors, anatomy, lambda x: x * sign, lambda x: x)
    assert difference(name, changed, before, lambda x: x * sign) > 1e-4


@pytest.mark.parametrize("name", STREAMS)
def test_moved_gains_allow_rotations(name: str) -> None:
    """Any rotation of the stream for root-mean-square norms; for others the gains can be moved all the same."""
    checkpoint, anatomy, before = anatomy_of(name)
    stream = stream_of(name)
    tensors = flatten(checkpoint.tensors, stream)
    before = checkpoint.outputs(tensors)
    folded = fold(tensors, anatomy)
    if stream.norm == "layer":
        assert difference(name, folded, before, lambda x: x) < CLOSE
    else:
        rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((32, 32)))[0]

        def turn(x: np.ndarray) -> np.ndarray:
            return x @ rotation.T

        assert difference(name, turn_stream(folded, anatomy, turn, lambda x: x), before, turn) < CLOSE


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_rotations_without_moving_gains_change_the_outputs(name: str) -> None:
    checkpoint, anatomy, before = anatomy_of(name)
    rotation = np.linalg.qr(np.random.default_rng(4).standard_normal((32, 32)))[0]
    changed = turn_stream(checkpoint.tensors, anatomy, lambda x: x @ rotation.T, lambda x: x)
    assert difference(name, changed, before, lambda x: x) > 1e-4


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe", "qwen2_moe"])
def test_single_experts_read_the_same_gains_as_stacked_ones(name: str) -> None:
    single, stacked = saved(name), in_memory(name)
    assert set(single.tensors) != set(stacked.tensors)
    one, two = (analyse(describe(c.tensors), c.config).stream for c in (single, stacked))
    assert one is not None
    assert two is not None
    assert dict(one.reads) == dict(two.reads)
    assert (one.embedding, one.unembedding, one.final) == (two.embedding, two.unembedding, two.final)


def whole(prefix: str = "model.", head: str = "lm_head.weight") -> Shapes:
    shapes: Shapes = {f"{prefix}embed_tokens.weight": (100, 32), head: (100, 32), f"{prefix}norm.weight": (32,)}
    for layer in (0, 1):
        at = f"{prefix}layers.{layer}."
        shapes |= {f"{at}{name}_layernorm.weight": (32,) for name in ("input", "post_attention")}
        shapes |= {f"{at}self_attn.{name}_proj.weight": (16 if name in "kv" else 32, 32) for name in "qkvo"}
        shapes |= {f"{at}mlp.{name}_proj.weight": (48, 32) for name in ("gate", "up")}
        shapes[f"{at}mlp.down_proj.weight"] = (32, 48)
    return shapes


@pytest.mark.parametrize(
    ("prefix", "head"),
    [
        ("", "lm_head.weight"),
        ("model.", "lm_head.weight"),
        ("language_model.model.", "language_model.lm_head.weight"),
        ("model.language_model.", "lm_head.weight"),
    ],
)
def test_any_prefix(prefix: str, head: str) -> None:
    stream = run(whole(prefix, head)).stream
    assert stream is not None
    assert (stream.embedding, stream.unembedding) == (f"{prefix}embed_tokens.weight", head)
    assert stream.final == Gain(f"{prefix}norm.weight")


@pytest.mark.parametrize(
    "extra",
    [
        {"model.layers.1.input_layernorm.bias": (32,)},
        {"model.norm.bias": (32,)},
        {"model.layers.1.input_layernorm.weight": (31,)},
        {"model.layers.1.input_layernorm.weight": (32, 1)},
        {"model.layers.0.adapter.weight": (32, 32)},
        {"model.layers.0.pre_feedforward_layernorm.weight": (32,)},
        {"model.layers.0.self_attn.lambda.weight": (32,)},
        {"embed_tokens.weight": (7, 32)},
        {"embed_tokens.weight": (7, 3)},
        {"model.embed_tokens.weight": (100, 16)},
        {"model.embed_tokens.weight": (0, 32)},
        {"norm.weight": (32,)},
    ],
)
def test_what_does_not_fit_leaves_no_stream(extra: Shapes) -> None:
    assert run(whole()).stream is not None
    assert run(whole() | extra).stream is None


@pytest.mark.parametrize(
    "missing",
    ["model.embed_tokens.weight", "model.norm.weight", "model.layers.0.input_layernorm.weight",
     "model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.v_proj.weight"],
)  # fmt: skip
def test_what_is_missing_leaves_no_stream(missing: str) -> None:
    shapes = whole()
    del shapes[missing]
    assert run(shapes).stream is None


@pytest.mark.parametrize("model_type", ["brandnew", "", "olmo2", "gemma2", "cohere", "starcoder2", None, 7])
def test_types_that_do_not_fit_leave_no_stream(model_type: object) -> None:
    assert run(whole(), CONFIG | {"model_type": model_type}).stream is None


def test_without_configuration_there_is_no_stream() -> None:
    assert run(whole(), {}).stream is None


@pytest.mark.parametrize("value", [True, 1, "no", None])
def test_fixed_positions_leave_no_stream(value: object) -> None:
    checkpoint = saved("distilbert")
    stream = analyse(describe(checkpoint.tensors), checkpoint.config | {"sinusoidal_pos_embds": value}).stream
    assert stream is None


@pytest.mark.parametrize("value", [False, 0, "yes"])
def test_norms_behind_the_blocks_of_opt_leave_no_stream(value: object) -> None:
    checkpoint = saved("opt")
    assert analyse(describe(checkpoint.tensors), checkpoint.config | {"do_layer_norm_before": value}).stream is None


def test_parallel_blocks_share_a_norm() -> None:
    checkpoint = saved("stablelm")
    parallel = {key: tensor for key, tensor in checkpoint.tensors.items() if "post_attention" not in key}
    stream = analyse(describe(parallel), checkpoint.config | {"use_parallel_residual": True}).stream
    assert stream is not None
    assert stream.reads["mlp", 1, 0] == Gain("model.layers.1.input_layernorm.weight")
