"""Names, shapes and configurations: prefixes, gaps, what is inferred, what is left out, and hostile input."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from lineage_plugin.anatomy import Anatomy, analyse
from lineage_plugin.errors import UnreadableCheckpoint
from tests.anatomy.relabel import info, infos

Shapes = dict[str, tuple[int, ...]]
CONFIG: dict[str, object] = {
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def llama(prefix: str = "model.", layers: tuple[int, ...] = (0, 1), *, norm: int = 0, width: int = 32) -> Shapes:
    shapes: Shapes = {f"{prefix}embed_tokens.weight": (100, width), "lm_head.weight": (100, width)}
    for layer in layers:
        at = f"{prefix}layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (32, width),
            f"{at}self_attn.k_proj.weight": (16, width),
            f"{at}self_attn.v_proj.weight": (16, width),
            f"{at}self_attn.o_proj.weight": (width, 32),
            f"{at}mlp.gate_proj.weight": (48, width),
            f"{at}mlp.up_proj.weight": (48, width),
            f"{at}mlp.down_proj.weight": (width, 48),
            f"{at}input_layernorm.weight": (width,),
        }
        if norm:
            shapes |= {f"{at}self_attn.{kind}_norm.weight": (norm,) for kind in "qk"}
    return shapes


def run(shapes: Shapes, config: dict[str, object] | None = None) -> Anatomy:
    return analyse(infos(shapes), CONFIG if config is None else config)


def names(anatomy: Anatomy) -> set[str]:
    return {group.name for group in anatomy.groups}


def said(anatomy: Anatomy, text: str) -> bool:
    return any(text in limit for limit in anatomy.limits)


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "language_model.model.", "model.language_model.", "module.model.", "base_model.model.model."],
)
def test_any_prefix_is_accepted(prefix: str) -> None:
    anatomy = run(llama(prefix))
    assert (anatomy.family, anatomy.exact, anatomy.layers, anatomy.width) == ("llama", True, 2, 32)
    assert [group.key for group in anatomy.groups] == [
        (name, layer, 0) for layer in (0, 1) for name in ("value", "query-key", "mlp")
    ]
    assert anatomy.limits == ()


def test_the_indices_of_grouped_query_attention() -> None:
    value, pairs, mlp = run(llama(layers=(0,))).groups
    v, o = value.vectors
    assert value.block.tolist() == [0] * 8 + [1] * 8
    assert v.index.tolist() == [[i] for i in range(16)]
    assert o.index[3].tolist() == [3, 11]  # query heads 0 and 1 read key-value head 0
    assert o.index[9].tolist() == [17, 25]
    assert (o.axis, o.span) == (1, (0, 32))
    q, k = pairs.vectors
    assert (pairs.swap, pairs.flip, pairs.units) == (False, True, 8)
    assert q.index[1].tolist() == [1, 5, 9, 13]
    assert k.index[5].tolist() == [9, 13]
    assert [(w.role, w.axis, w.odd) for w in mlp.vectors] == [("gate", 0, False), ("up", 0, True), ("down", 1, True)]
    assert all(w.index.dtype == np.int64 for group in (value, pairs, mlp) for w in group.vectors)


def test_interleaved_rotary_pairs_are_neighbours() -> None:
    pairs = run(llama(layers=(0,)), CONFIG | {"model_type": "cohere"}).groups[1]
    assert pairs.vectors[1].index.tolist()[:4] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_missing_layers_are_said() -> None:
    anatomy = run(llama(layers=(0, 1, 4)))
    assert anatomy.layers == 3
    assert {group.layer for group in anatomy.groups} == {0, 1, 4}
    assert said(anatomy, "2 of 5 layers under model.layers are missing")


def test_a_layer_that_lacks_a_tensor_is_left_out_alone() -> None:
    shapes = llama()
    del shapes["model.layers.1.mlp.up_proj.weight"]
    anatomy = run(shapes)
    assert ("mlp", 0, 0) in {group.key for group in anatomy.groups}
    assert ("mlp", 1, 0) not in {group.key for group in anatomy.groups}
    assert said(anatomy, "mlp units of layer 1 left out")


def test_keys_and_values_borrowed_from_another_layer_rule_out_attention() -> None:
    shapes = llama()
    del shapes["model.layers.1.self_attn.k_proj.weight"], shapes["model.layers.1.self_attn.v_proj.weight"]
    assert names(run(shapes)) == {"mlp"}


@pytest.mark.parametrize("module", ["gate", "lambda_q1", "q_proj_lora", "distance_embedding"])
def test_an_unknown_module_in_the_attention_of_one_layer_rules_out_attention(module: str) -> None:
    anatomy = run(llama() | {f"model.layers.1.self_attn.{module}.weight": (4, 32)})
    assert names(anatomy) == {"mlp"}
    assert said(anatomy, f"'{module}'")


def test_an_unknown_module_in_the_mlp_rules_out_its_neurons() -> None:
    anatomy = run(llama() | {"model.layers.1.mlp.hadamard.weight": (48,)})
    assert [group.layer for group in anatomy.groups if group.name == "mlp"] == [0]


def test_latent_attention_leaves_the_neurons() -> None:
    shapes = {name: shape for name, shape in llama().items() if "self_attn" not in name}
    for layer in (0, 1):
        shapes[f"model.layers.{layer}.self_attn.kv_a_proj_with_mqa.weight"] = (12, 32)
        shapes[f"model.layers.{layer}.self_attn.o_proj.weight"] = (32, 32)
    anatomy = run(shapes, {"model_type": "deepseek_v3"})
    assert names(anatomy) == {"mlp"}
    assert anatomy.exact


def test_without_configuration_only_the_neurons_remain() -> None:
    anatomy = run(llama(), {})
    assert names(anatomy) == {"mlp"}
    assert said(anatomy, "no model type is configured")


def test_without_head_counts_attention_is_left_out() -> None:
    anatomy = run(llama(), {"model_type": "llama"})
    assert names(anatomy) == {"mlp"}
    assert said(anatomy, "does not give the number of heads")


def test_the_gains_of_query_norms_tell_the_head_size() -> None:
    inferred = run(llama(norm=8), {"model_type": "qwen3"})
    assert names(inferred) == {"value", "query-key", "mlp"}
    configured = run(llama(norm=8), CONFIG | {"model_type": "qwen3"})
    assert [g.block.tolist() for g in inferred.groups] == [g.block.tolist() for g in configured.groups]


def test_an_unknown_model_type_keeps_only_what_names_tell() -> None:
    anatomy = run(llama(), CONFIG | {"model_type": "brandnew"})
    assert names(anatomy) == {"mlp"}
    assert said(anatomy, "model type 'brandnew' is not known")


@pytest.mark.parametrize(
    "change",
    [
        {"self_attn.q_norm.weight": (4, 8), "self_attn.k_norm.weight": (2, 8)},
        {"self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (8,), "self_attn.q_norm.bias": (8,)},
        {"self_attn.q_norm.weight": (8,)},
        {"self_attn.q_norm.weight": (32,), "self_attn.k_norm.weight": (8,)},
    ],
)
def test_an_unfamiliar_query_norm_rules_out_query_key_units(change: Shapes) -> None:
    anatomy = run(llama(layers=(0,)) | {f"model.layers.0.{name}": shape for name, shape in change.items()})
    assert names(anatomy) == {"value", "mlp"}


@pytest.mark.parametrize(
    "value", [True, -4, 0, 3, 5, 1 << 40, 10**400, 4.0, math.nan, "4", "four", [4], {"a": 4}, b"4"]
)
@pytest.mark.parametrize("key", ["num_attention_heads", "num_key_value_heads", "head_dim"])
def test_absurd_head_counts_never_pass(key: str, value: object) -> None:
    trusted = run(llama())
    anatomy = run(llama(), CONFIG | {key: value})
    if names(anatomy) == {"mlp"}:
        assert said(anatomy, "number of attention heads") or said(anatomy, "number of heads")
    else:
        # Of the wrong type: ignored, and the other numbers determine the same structure.
        assert type(value) is not int or value <= 0 or value >= 1 << 31
        assert [g.block.tolist() for g in anatomy.groups] == [g.block.tolist() for g in trusted.groups]


@pytest.mark.parametrize("claims", [(8, 2, 4), (2, 2, 16), (4, 4, 8), (4, 2, 4), (32, 16, 2)])
def test_head_counts_that_contradict_the_shapes_or_each_other(claims: tuple[int, int, int]) -> None:
    config = CONFIG | dict(zip(("num_attention_heads", "num_key_value_heads", "head_dim"), claims, strict=True))
    fits = claims[0] * claims[2] == 32 and claims[1] * claims[2] == 16
    assert (names(run(llama(), config)) == {"mlp"}) == (not fits)


@pytest.mark.parametrize("model_type", [None, 7, ["llama"], {}, "", "LLAMA\x1b[31m\n::error::" + "x" * 5000])
def test_model_types_of_any_kind(model_type: object) -> None:
    anatomy = run(llama(), CONFIG | {"model_type": model_type})
    assert names(anatomy) == {"mlp"}
    for limit in anatomy.limits:
        assert limit.isprintable()
        assert limit.isascii()
        assert len(limit) < 250


@pytest.mark.parametrize(
    "section", [{"rope_parameters": x} for x in (None, 5, "x", [], {}, {"a": {"b": 1}}, {"a": None})]
)
def test_rotary_sections_of_any_kind(section: dict[str, object]) -> None:
    assert names(run(llama(), CONFIG | section)) == {"value", "query-key", "mlp"}


@pytest.mark.parametrize("share", [0, -1, 2, "half", True, math.nan, math.inf, [0.5], 0.01])
def test_rotary_shares_of_any_kind(share: object) -> None:
    anatomy = run(llama(), CONFIG | {"model_type": "stablelm", "partial_rotary_factor": share})
    assert names(anatomy) == {"value", "mlp"}


def test_a_rotary_share_that_the_architecture_does_not_have() -> None:
    assert names(run(llama(), CONFIG | {"partial_rotary_factor": 0.5})) == {"value", "mlp"}
    assert names(run(llama(), CONFIG | {"partial_rotary_factor": 1.0})) == {"value", "query-key", "mlp"}


def test_rotary_shares_that_contradict_each_other() -> None:
    config = CONFIG | {
        "model_type": "stablelm",
        "partial_rotary_factor": 0.5,
        "rope_parameters": {"partial_rotary_factor": 0.25},
    }
    assert "query-key" not in names(run(llama(), config))


def test_relative_positions_in_bert_rule_out_query_key_units() -> None:
    at = "bert.encoder.layer.0."
    shapes: Shapes = {f"{at}attention.self.{name}.weight": (32, 32) for name in ("query", "key", "value")}
    shapes |= {f"{at}attention.output.dense.weight": (32, 32)}
    shapes |= {f"{at}intermediate.dense.weight": (40, 32), f"{at}output.dense.weight": (32, 40)}
    config: dict[str, object] = {"model_type": "bert", "num_attention_heads": 4}
    assert names(run(shapes, config)) == {"mlp", "value", "query-key"}
    assert names(run(shapes, config | {"position_embedding_type": "absolute"})) == {"mlp", "value", "query-key"}
    for kind in ("relative_key", "rotary"):
        assert names(run(shapes, config | {"position_embedding_type": kind})) == {"mlp", "value"}
    shapes[f"{at}attention.self.distance_embedding.weight"] = (63, 8)
    assert names(run(shapes, config)) == {"mlp"}


def test_a_composite_is_represented_by_its_language_model() -> None:
    shapes = llama("language_model.model.")
    for layer in range(30):  # larger than the language model
        at = f"vision_tower.vision_model.encoder.layers.{layer}."
        shapes |= {f"{at}self_attn.{name}.weight": (64, 64) for name in ("q_proj", "k_proj", "v_proj", "out_proj")}
        shapes |= {f"{at}mlp.fc1.weight": (99, 64), f"{at}mlp.fc2.weight": (64, 99)}
    vision = {"model_type": "clip_vision_model", "num_attention_heads": 16}
    anatomy = run(shapes, {"model_type": "llava", "text_config": CONFIG, "vision_config": vision})
    assert (anatomy.family, anatomy.layers, anatomy.width) == ("llama", 2, 32)
    assert names(anatomy) == {"value", "query-key", "mlp"}
    assert said(anatomy, "vision_tower.vision_model.encoder.layers are not used")
    assert names(run(shapes, CONFIG | {"text_config": {"model_type": "llama"}})) == {"mlp"}


def test_both_encoders_of_a_pair_are_numbered_apart() -> None:
    shapes: Shapes = {}
    for side, width in (("text_model", 32), ("vision_model", 64)):
        for layer in range(2):
            at = f"{side}.encoder.layers.{layer}."
            shapes |= {f"{at}self_attn.{n}.weight": (width, width) for n in ("q_proj", "k_proj", "v_proj", "out_proj")}
            shapes |= {f"{at}mlp.fc1.weight": (99, width), f"{at}mlp.fc2.weight": (width, 99)}
    sections = {
        f"{side}_config": {"model_type": f"clip_{side}_model", "num_attention_heads": 4} for side in ("text", "vision")
    }
    anatomy = run(shapes, {"model_type": "clip", **sections})
    assert {group.layer for group in anatomy.groups} == {0, 1, 2, 3}
    assert said(anatomy, "vision_model.encoder.layers are layers 2-3")


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "BOOL", "X"])
def test_packed_weights_are_not_read_as_numbers(dtype: str) -> None:
    tensors = {name: info(name, *shape, dtype=dtype) for name, shape in llama().items()}
    assert analyse(tensors, CONFIG).groups == ()


@pytest.mark.parametrize("change", [(0, 32), (48,), (), (48, 32, 1), (48, 31), (47, 32), (1, 32)])
def test_shapes_that_do_not_fit(change: tuple[int, ...]) -> None:
    anatomy = run(llama(layers=(0,)) | {"model.layers.0.mlp.up_proj.weight": change})
    assert names(anatomy) == {"value", "query-key"}
    assert said(anatomy, "mlp units of layer 0 left out")


def memory_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_huge_shapes_are_refused_before_anything_is_allocated() -> None:
    huge = 1 << 40
    shapes = llama(layers=(0,)) | {
        "model.layers.0.mlp.gate_proj.weight": (huge, 32),
        "model.layers.0.mlp.up_proj.weight": (huge, 32),
        "model.layers.0.mlp.down_proj.weight": (32, huge),
    }

    def refused() -> None:
        with pytest.raises(UnreadableCheckpoint, match=r"^model\.safetensors: declares 1099511627776 hidden units"):
            run(shapes)

    assert memory_of(refused) < 1 << 20


def test_many_different_huge_layers_are_refused_together() -> None:
    shapes: Shapes = {}
    for layer in range(64):
        units = (1 << 22) + layer
        at = f"layers.{layer}.mlp."
        shapes |= {f"{at}gate_proj.weight": (units, 8), f"{at}up_proj.weight": (units, 8)}
        shapes[f"{at}down_proj.weight"] = (8, units)
    with pytest.raises(UnreadableCheckpoint):
        run(shapes)


def test_huge_attention_is_refused() -> None:
    side = 1 << 33
    shapes = {f"layers.0.self_attn.{n}_proj.weight": (side, 8) for n in "qkv"} | {
        "layers.0.self_attn.o_proj.weight": (8, side)
    }
    with pytest.raises(UnreadableCheckpoint):
        run(shapes, {"model_type": "llama", "num_attention_heads": 1 << 28})


def test_an_absurd_number_of_stacked_experts_is_left_out() -> None:
    shapes = llama(layers=(0,))
    shapes = {name: shape for name, shape in shapes.items() if ".mlp." not in name}
    shapes["model.layers.0.mlp.experts.gate_up_proj"] = (1 << 24, 2, 32)
    shapes["model.layers.0.mlp.experts.down_proj"] = (1 << 24, 32, 1)
    anatomy = run(shapes, CONFIG | {"model_type": "mixtral"})
    assert names(anatomy) == {"value", "query-key"}


def test_layers_of_a_large_model_share_their_index_arrays() -> None:
    shapes: Shapes = {}
    for layer in range(126):
        at = f"model.layers.{layer}."
        shapes |= {f"{at}self_attn.q_proj.weight": (16384, 16384), f"{at}self_attn.k_proj.weight": (1024, 16384)}
        shapes |= {f"{at}self_attn.v_proj.weight": (1024, 16384), f"{at}self_attn.o_proj.weight": (16384, 16384)}
        shapes |= {f"{at}mlp.gate_proj.weight": (53248, 16384), f"{at}mlp.up_proj.weight": (53248, 16384)}
        shapes |= {f"{at}mlp.down_proj.weight": (16384, 53248)}
    tensors = infos(shapes)
    config: dict[str, object] = {"model_type": "llama", "num_attention_heads": 128, "num_key_value_heads": 8}
    assert memory_of(lambda: analyse(tensors, config)) < 16 << 20
    anatomy = analyse(tensors, config)
    assert len(anatomy.groups) == 3 * 126
    with pytest.raises(ValueError, match="read-only"):
        anatomy.groups[0].block[0] = 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "layers.",
        "layers.0",
        "layers.0.",
        "layers.99999999999999999999.mlp.up_proj.weight",
        "layers.٣.x",
        "layers.01.mlp.up_proj.weight",
        "h..0",
        "x" * 100_000,
        "layers." * 20_000 + "0.q",
        "\x00\x1b[2J.layers.0.x",
    ],
)
def test_tensor_names_of_any_kind(name: str) -> None:
    anatomy = run(llama() | {name: (32, 32)})
    assert names(anatomy) == {"value", "query-key", "mlp"}
    assert all(limit.isprintable() and len(limit) < 250 for limit in anatomy.limits)


def test_limits_stay_short_however_many_layers_differ() -> None:
    shapes: Shapes = {}
    for layer in range(0, 4000, 2):
        shapes |= {f"layers.{layer}.mlp.up_proj.weight": (9, 8), f"layers.{layer}.mlp.gate_proj.weight": (9 + layer, 8)}
        shapes[f"layers.{layer}.mlp.down_proj.weight"] = (8, 9)
    anatomy = run(shapes)
    assert sum(map(len, anatomy.limits)) < 2000


def test_nothing_at_all() -> None:
    anatomy = run({}, {})
    assert (anatomy.family, anatomy.exact, anatomy.layers, anatomy.groups) == ("unknown", False, 0, ())
