"""The conservative path, rule by rule: what it takes, and what it must not take."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lineage_plugin.anatomy import Anatomy, UnitGroup, analyse
from tests.anatomy.relabel import info, infos, random_permutation

Shapes = dict[str, tuple[int, ...]]


def run(shapes: Shapes, config: dict[str, object] | None = None) -> Anatomy:
    return analyse(infos(shapes), config or {})


def taken(shapes: Shapes, config: dict[str, object] | None = None) -> list[str]:
    return [group.vectors[0].tensor for group in run(shapes, config).groups]


CHAIN: Shapes = {"a.weight": (32, 20), "b.weight": (24, 32), "c.weight": (12, 24)}


def test_groups_of_an_unknown_graph_are_per_tensor_and_not_exact() -> None:
    anatomy = run(CHAIN)
    assert (anatomy.family, anatomy.exact, anatomy.layers) == ("unknown", False, 2)
    for number, group in enumerate(anatomy.groups):
        (vectors,) = group.vectors
        assert group.key == ("channels", number, 0)
        assert (group.swap, group.flip, vectors.odd) == (True, False, False)
    assert "not known" in anatomy.limits[0]
    assert "1 weight tensor was left out: its" in anatomy.limits[1]


def test_only_axes_that_another_tensor_reads_are_hidden() -> None:
    assert taken(CHAIN) == ["a.weight", "b.weight"]
    assert taken({"a.weight": (32, 20), "b.weight": (24, 31)}) == []
    assert taken({"a.weight": (32, 32)}) == [], "a tensor does not make its own output hidden"


def test_flattened_convolution_kernels_read_a_multiple() -> None:
    assert taken({"conv1.weight": (32, 27), "conv2.weight": (40, 32 * 9)}) == ["conv1.weight"]
    assert taken({"conv1.weight": (32, 27), "conv2.weight": (40, 32 * 6)}) == []
    assert taken({"conv1.weight": (32, 27), "dense2.weight": (40, 32 * 9)}) == []


def test_convolution_kernels() -> None:
    anatomy = run({"x1.weight": (32, 3, 5, 5), "x2.weight": (40, 32, 3, 3)})
    (vectors,) = anatomy.groups[0].vectors
    assert (vectors.tensor, vectors.axis, vectors.width, vectors.span) == ("x1.weight", 0, 75, None)


MEANINGS = [
    "embed",
    "tok_embeddings",
    "vocab_proj",
    "token_mixer",
    "pos_net",
    "position_bias",
    "head",
    "lm_head",
    "cls",
]
MEANINGS += ["classifier", "output", "logits", "score", "scores", "pixelOut", "labels"]


@pytest.mark.parametrize("name", MEANINGS)
def test_names_that_mark_a_meaning(name: str) -> None:
    shapes: Shapes = {f"{name}.weight": (32, 20), "next.weight": (24, 32)}
    assert taken(shapes) == []
    assert taken({"ahead.weight": (32, 20), "next.weight": (24, 32)}) == ["ahead.weight"]


@pytest.mark.parametrize(
    "name", ["q_proj", "attn.key", "to_k", "query", "qkv", "c_attn", "in_proj", "gate_up", "w12", "wq"]
)
def test_queries_keys_and_fused_projections_are_not_taken(name: str) -> None:
    assert taken({f"{name}.weight": (32, 20), "next.weight": (24, 32)}) == []
    assert taken({"v_proj.weight": (32, 20), "next.weight": (24, 32)}) == ["v_proj.weight"]


@pytest.mark.parametrize(
    "config",
    [
        {"vocab_size": 32},
        {"num_labels": 32},
        {"num_mel_bins": 32},
        {"id2label": {str(i): "x" for i in range(32)}},
        {"text_config": {"vocab_size": 32}},
    ],
)
def test_sizes_that_mark_a_meaning(config: dict[str, object]) -> None:
    assert taken(CHAIN, config) == ["b.weight"]


def test_the_rows_of_an_embedding_table_mark_their_number() -> None:
    assert taken(CHAIN | {"word_embedding.weight": (32, 8)}) == ["b.weight"]
    assert taken(CHAIN | {"word_embedding.weight": (33, 8)}) == ["a.weight", "b.weight"]


@pytest.mark.parametrize(
    "config", [{"vocab_size": "32"}, {"vocab_size": True}, {"id2label": 3}, {"num_labels": [32]}, {1: 2}]
)
def test_hostile_configurations_mark_nothing(config: dict[str, object]) -> None:
    assert taken(CHAIN, config) == ["a.weight", "b.weight"]


@pytest.mark.parametrize(("size", "expected"), [(1, []), (4, []), (5, ["a.weight"])])
def test_tiny_axes_are_not_hidden(size: int, expected: list[str]) -> None:
    assert taken({"a.weight": (size, 20), "b.weight": (24, size)}) == expected


def test_the_output_axis_is_that_of_the_bias() -> None:
    shapes: Shapes = {"a.weight": (20, 32), "a.bias": (32,), "b.weight": (32, 24), "b.bias": (24,)}
    (vectors,) = run(shapes).groups[0].vectors
    assert (vectors.tensor, vectors.axis, vectors.width, vectors.span) == ("a.weight", 1, 32, (0, 20))


def test_the_output_axis_of_a_kernel_is_the_last() -> None:
    assert taken({"a.kernel": (20, 32), "b.kernel": (32, 24)}) == ["a.kernel"]
    assert taken({"a.kernel": (32, 20), "b.kernel": (24, 33)}) == []
    anatomy = run({"a.kernel": (3, 3, 8, 32), "b.kernel": (3, 3, 32, 24)})
    (vectors,) = anatomy.groups[0].vectors
    assert (vectors.axis, vectors.width, vectors.span) == (1, 32, (0, 72))


def test_without_name_or_bias_the_output_axis_is_not_guessed() -> None:
    assert taken({"a.W": (32, 20), "b.weight": (24, 32)}) == []
    assert taken({"a.W": (32, 20), "a.bias": (32,), "b.weight": (24, 32)}) == ["a.W"]


def test_transposed_convolutions_are_left_out() -> None:
    assert taken({"up1.weight": (32, 24, 4, 4), "up1.bias": (24,), "x.weight": (8, 32)}) == []
    assert taken({"deconv.weight": (32, 24, 4, 4), "x.weight": (8, 32)}) == []


def test_the_gates_of_a_cell_are_one_unit() -> None:
    shapes: Shapes = {"rnn.kernel": (20, 512), "rnn.recurrent_kernel": (128, 512), "rnn.bias": (1024,)}
    anatomy = run(shapes)
    (group,) = anatomy.groups
    (vectors,) = group.vectors
    assert (vectors.tensor, vectors.axis, group.units) == ("rnn.kernel", 1, 128)
    assert vectors.index[5].tolist() == [5, 133, 261, 389]
    assert taken(shapes | {"rnn.recurrent_kernel": (100, 512)}) == []
    assert taken({"rnn.recurrent_kernel": (128, 512), "x.weight": (4, 512)}) == []


def test_torch_cells() -> None:
    shapes: Shapes = {"gru.weight_ih_l0": (96, 20), "gru.weight_hh_l0": (96, 32), "gru.bias_ih_l0": (96,)}
    (group,) = run(shapes).groups
    assert (group.units, group.vectors[0].index[1].tolist()) == (32, [1, 33, 65])
    assert taken(shapes | {"gru.weight_hh_l0": (96, 16)}) == []


def test_neighbours_are_paired() -> None:
    group = run({"a.weight": (8, 20), "b.weight": (24, 8)}).groups[0]
    assert group.block.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("units", [5, 6, 9, 10, 15, 18, 21, 30, 36, 44, 63, 100])
def test_pairs_do_not_straddle_equal_blocks(units: int) -> None:
    group = run({"a.weight": (units, 20), "b.weight": (24, units)}).groups[0]
    for parts in range(2, 9):
        if units % parts == 0 and units // parts >= 5:
            block_of = np.arange(units) // (units // parts)
            for label in np.unique(group.block):
                assert len(set(block_of[group.block == label].tolist())) == 1
    sizes = np.unique(group.block, return_counts=True)[1]
    assert set(sizes.tolist()) <= {1, 2}
    assert (sizes == 2).sum() >= units // 2 - 7


def test_packed_tensors_and_scalars_are_left_out() -> None:
    tensors = infos(CHAIN) | {"a.weight": info("a.weight", 32, 20, dtype="U8"), "s.weight": info("s.weight")}
    assert [g.vectors[0].tensor for g in analyse(tensors, {}).groups] == ["b.weight"]


def test_tensors_are_numbered_in_natural_order() -> None:
    shapes: Shapes = {f"conv{i}.weight": (32, 32, 3, 3) for i in (10, 9, 1, 2)}
    assert taken(shapes) == [f"conv{i}.weight" for i in (1, 2, 9, 10)]


def lines_of(tensor: torch.Tensor, group: UnitGroup, order: np.ndarray) -> torch.Tensor:
    """Rows of a torch tensor rearranged so that unit i takes the place of unit ``order[i]``, all its gates with it."""
    index = group.vectors[0].index
    changed = tensor.clone()
    changed[torch.from_numpy(index.copy())] = tensor[index[order]]
    return changed


def test_swapping_the_units_of_a_cell_is_a_symmetry() -> None:
    torch.manual_seed(3)
    net = torch.nn.LSTM(12, 16, num_layers=2, batch_first=True, dtype=torch.float64)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    group = run({f"lstm.{name}": tuple(value.shape) for name, value in state.items()}).groups[0]
    assert group.vectors[0].tensor == "lstm.weight_ih_l0"
    order = random_permutation(group, np.random.default_rng(0))
    assert not np.array_equal(order, np.arange(16))
    x = torch.randn(3, 6, 12, dtype=torch.float64)
    before = net(x)[0]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        state[name] = lines_of(state[name], group, order)
    state["weight_hh_l0"] = state["weight_hh_l0"][:, order]
    state["weight_ih_l1"] = state["weight_ih_l1"][:, order]
    net.load_state_dict(state)
    assert torch.allclose(net(x)[0], before, atol=1e-12)


def test_swapping_the_channels_of_a_convolution_is_a_symmetry() -> None:
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 2, 3)).double()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    (group,) = run({f"net.{name}": tuple(value.shape) for name, value in state.items()}).groups
    order = random_permutation(group, np.random.default_rng(0))
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    before = net(x)
    state["0.weight"], state["0.bias"] = (lines_of(state[name], group, order) for name in ("0.weight", "0.bias"))
    state["2.weight"] = state["2.weight"][:, order]
    net.load_state_dict(state)
    assert torch.allclose(net(x), before, atol=1e-12)
    state["2.weight"] = state["2.weight"][:, order[::-1].copy()]
    net.load_state_dict(state)
    assert not torch.allclose(net(x), before, atol=1e-3)
