"""From two fingerprints to the evidence: stages and their weights, channels, unknown graphs, and the null."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats

from lineage_plugin.checkpoint import open_checkpoint
from lineage_plugin.evidence.escalate import WEIGHTS
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.pair import StageCoins
from lineage_plugin.fingerprint.compare import compare_fingerprints
from lineage_plugin.fingerprint.make import fingerprint_of
from lineage_plugin.fingerprint.sketch import sketch
from lineage_plugin.fingerprint.types import Fingerprint, Shelf, StreamSketch
from lineage_plugin.options import Options
from tests.fingerprint.enumeration import all_flips, wreath
from tests.fingerprint.synthetic import bit_strip, fingerprint, relabelled, shelf

FAIR = pytest.approx(1.0, abs=1e-9)
OPTIONS = Options()


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def gated(rng: np.random.Generator, layers: int, units: int, size: int = 2, **given: object) -> Shelf:
    strips = [bit_strip(role, draw(rng, layers, units, size)) for role in ("gate", "up")]
    return shelf(strips, **given)  # type: ignore[arg-type]


def stages(suspect: Fingerprint, base: Fingerprint) -> dict[str, StageCoins]:
    return {stage.name: stage for stage in compare_fingerprints(suspect, base, OPTIONS).stages}


# --- the channels of the residual stream ------------------------------------------------------------------------------


def stream(rng: np.random.Generator, channels: int = 16, **given: object) -> StreamSketch:
    fixed = {"width": channels, "rows": 512, "first": 448, "flip": True, "swap": True} | given
    return StreamSketch(bits=draw(rng, channels, 4), usable=np.ones(channels, bool), **fixed)  # type: ignore[arg-type]


def moved(part: StreamSketch, order: np.ndarray, flips: np.ndarray | int = 0) -> StreamSketch:
    bits = part.bits[order] ^ np.broadcast_to(np.asarray(flips, np.uint8), order.shape)[:, None]
    return replace(part, bits=bits, usable=part.usable[order])


def channels(suspect: StreamSketch, base: StreamSketch) -> StageCoins | None:
    return stages(fingerprint(stream=suspect), fingerprint(stream=base)).get("channels")


@pytest.mark.parametrize("flip", [True, False])
def test_channels_are_jointly_fair(flip: bool) -> None:
    """All exchanges and flips of four channels; without free signs the exchanges alone."""
    rng = np.random.default_rng(0)
    for usable in ([True] * 4, [True, True, False, True]):
        suspect, base = (stream(rng, 4, flip=flip) for _ in range(2))
        base = replace(base, usable=np.array(usable))
        values = []
        for order in wreath(4):
            for flips in all_flips(4) if flip else [0]:
                stage = channels(suspect, moved(base, order, flips))
                values.append(1.0 if stage is None else 10**stage.log10_e)
        assert np.mean(values) == FAIR


def test_channels_are_tossed_only_where_they_mean_the_same_and_nothing_fixes_them() -> None:
    rng = np.random.default_rng(1)
    base = stream(rng)
    both = channels(base, base)
    assert both is not None and (both.count.coins, both.count.heads) == (31, 31)
    for changed in ({"width": 17}, {"first": 0}, {"swap": False, "flip": False}):
        assert channels(replace(base, **changed), base) is None and channels(base, replace(base, **changed)) is None  # type: ignore[arg-type]
    # Sorted channels have signs only; channels under LayerNorm places only.
    for changed, coins in (({"swap": False}, 16), ({"flip": False}, 15)):
        for pair in ((replace(base, **changed), base), (base, replace(base, **changed))):  # type: ignore[arg-type]
            stage = channels(*pair)
            assert stage is not None and stage.count.coins == coins
    rounded = replace(base, quantised=True)
    assert channels(rounded, base) is not None and channels(base, rounded) is not None
    assert channels(rounded, rounded) is None
    # Where the models differ in the number of bits or channels, on what both have.
    fewer = replace(base, bits=base.bits[:8, :2], usable=base.usable[:8])
    stage = channels(fewer, base)
    assert stage is not None and stage.count.coins == 15


def tied_rows(rng: np.random.Generator, width: int) -> np.ndarray:
    """Embeddings of 512 tokens, which independent models set apart alike: frequent from rare ones, and so on."""
    meaning = np.random.default_rng(99).standard_normal((512, 48)) * 3 * np.exp(-0.1 * np.arange(48))
    noise = 0.3 * rng.standard_normal((512, width))
    return (meaning @ rng.standard_normal((48, width)) / np.sqrt(48) + noise).astype(np.float32)


def llama(folder: Path, embedding: np.ndarray, **layers: np.ndarray) -> Fingerprint:
    """The fingerprint of a checkpoint of one dense layer with this embedding."""
    rng, width = np.random.default_rng(5), embedding.shape[1]
    tensors = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": rng.standard_normal(embedding.shape, dtype=np.float32),
        "model.norm.weight": np.ones(width, np.float32),
    }
    shapes = {"self_attn.q_proj": (16, width), "self_attn.k_proj": (16, width), "self_attn.v_proj": (16, width)}
    shapes |= {"self_attn.o_proj": (width, 16), "mlp.gate_proj": (32, width), "mlp.up_proj": (32, width)}
    shapes |= {"mlp.down_proj": (width, 32), "input_layernorm": (width,), "post_attention_layernorm": (width,)}
    for name, shape in shapes.items():
        tensors[f"model.layers.0.{name}.weight"] = rng.standard_normal(shape, dtype=np.float32)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": width,
        "num_hidden_layers": 1,
    }
    config |= {"num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32}
    return written(folder, tensors | layers, config | {"vocab_size": embedding.shape[0]})


def written(folder: Path, tensors: Mapping[str, np.ndarray], config: Mapping[str, object]) -> Fingerprint:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return fingerprint_of(open_checkpoint(str(folder), options=Options()))


def stream_of(found: Fingerprint) -> StreamSketch:
    assert found.stream is not None
    return found.stream


def test_the_mean_over_tokens_and_the_sketch_follow_exchanges_and_flips(tmp_path: Path) -> None:
    """From the checkpoint on: relabel the columns of the embedding, and bits and masks are relabelled, to the last."""
    rng = np.random.default_rng(2)
    embedding = tied_rows(rng, 48)
    embedding[:, 5], embedding[:, 20], embedding[3, 30] = 0.25, 0.0, np.nan
    embedding[:, 40] = np.float32(1e-42) * rng.integers(-3, 4, 512)  # denormal
    embedding[:, 41] *= np.float32(50)  # as some channels of trained models are
    plain = stream_of(llama(tmp_path / "plain", embedding))
    assert plain.swap and plain.flip and plain.first == 448
    assert np.flatnonzero(~plain.usable).tolist() == [5, 20]  # the NaN is in another row
    order = np.concatenate([16 * at + rng.permutation(16) for at in range(3)])
    sign = rng.choice(np.float32([-1, 1]), 48)
    other = stream_of(llama(tmp_path / "moved", embedding[:, order] * sign))
    usable = plain.usable[order]
    assert np.array_equal(other.usable, usable)
    flips = np.where(sign < 0, 255, 0).astype(np.uint8)[:, None]
    assert np.array_equal(other.bits[usable], (plain.bits[order] ^ flips)[usable])


def in_principal_axes(embedding: np.ndarray) -> np.ndarray:
    """Rotate the stream so that its channels are principal components, the largest first: a layout of pruning tools."""
    return (embedding @ np.linalg.svd(embedding, full_matrices=False)[2].T).astype(np.float32)


def test_sorted_channels_are_not_exchanged(tmp_path: Path) -> None:
    """Largest components first: channel 0 is frequency in all models, whoever trained them."""
    rng = np.random.default_rng(3)
    coins = heads = 0
    for _ in range(10):
        one, other = (
            stream_of(llama(tmp_path / name, in_principal_axes(tied_rows(rng, 96)))) for name in ("one", "other")
        )
        assert not one.swap and not other.swap and one.flip
        fair = channels(one, other)
        assert fair is not None and fair.count.coins <= 96 and fair.log10_e < 3
        # What would be said if they were.
        broken = channels(*(replace(part, swap=True) for part in (one, other)))
        assert broken is not None
        coins, heads = coins + broken.count.coins - fair.count.coins, heads + broken.count.heads - fair.count.heads
    assert stats.binomtest(heads, coins, alternative="greater").pvalue < 1e-3


def test_channels_that_a_widened_model_holds_twice_have_one_coin(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    narrow = rng.standard_normal((512, 24)).astype(np.float32)
    doubled = stream_of(llama(tmp_path / "doubled", np.repeat(narrow, 2, axis=1)))
    assert doubled.usable.tolist() == [True, False] * 24
    apart = np.concatenate([narrow, narrow + np.float32(0.1) * rng.standard_normal((512, 24))], axis=1)
    assert stream_of(llama(tmp_path / "apart", apart.astype(np.float32))).usable.tolist() == [True] * 24 + [False] * 24
    # Independent channels along few common directions are no repeats.
    assert stream_of(llama(tmp_path / "tied", tied_rows(rng, 48))).usable.all()


# --- experts made of one MLP ------------------------------------------------------------------------------------------


def mixtral(folder: Path, rng: np.random.Generator, copies: bool) -> Fingerprint:
    width, units, layers = 48, 32, 2
    dense = llama(folder / "dense", rng.standard_normal((512, width)).astype(np.float32))
    assert dense.layers == 1
    tensors = {"model.embed_tokens.weight": rng.standard_normal((512, width))}
    for layer in range(layers):
        own = {
            name: rng.standard_normal(shape)
            for name, shape in (("w1", (units, width)), ("w3", (units, width)), ("w2", (width, units)))
        }
        for name, shape in (("q", (16, width)), ("k", (16, width)), ("v", (16, width)), ("o", (width, 16))):
            tensors[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = rng.standard_normal(shape)
        tensors[f"model.layers.{layer}.block_sparse_moe.gate.weight"] = rng.standard_normal((4, width))
        for expert in range(4):
            for name, value in own.items():
                change = 0.3 * rng.standard_normal(value.shape)
                tensors[f"model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}.weight"] = (
                    value + change if copies else rng.standard_normal(value.shape)
                )
    config = {"model_type": "mixtral", "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 1}
    config |= {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": units, "num_local_experts": 4}
    return written(folder, {name: value.astype(np.float32) for name, value in tensors.items()}, config)


@pytest.mark.parametrize("copies", [True, False])
def test_experts_made_of_one_mlp_share_their_coins(tmp_path: Path, copies: bool) -> None:
    found = mixtral(tmp_path, np.random.default_rng(6), copies)
    experts = {part.part: part for part in found.shelves if part.kind == "experts"}
    assert sorted(experts) == [0, 1] and not experts[0].clone.any()
    assert experts[1].clone.all() if copies else not experts[1].clone.any()
    assert experts[1].repeats.tolist() == [0, 1]
    groups = {group.name: group.count.coins for group in compare_fingerprints(found, found, OPTIONS).groups}
    assert groups["experts sign"] == 32 * 2 * (1 if copies else 2)


def test_coins_of_copied_experts_would_be_counted_twice() -> None:
    """All relabellings of the MLP that both experts were made of, against a suspect that was made so, too."""
    rng = np.random.default_rng(7)

    def upcycled(part: Shelf, clone: bool) -> Fingerprint:
        second = replace(part, part=1, clone=np.full_like(part.clone, clone))
        return fingerprint(replace(part, kind="experts"), replace(second, kind="experts"))

    suspect, base = gated(rng, 1, 4), gated(rng, 1, 4)
    means = []
    for clone in (True, False):
        values = [
            10 ** stages(upcycled(suspect, clone), upcycled(relabelled(base, order, flips), clone))["identity"].log10_e
            for order in wreath(4)
            for flips in all_flips(4)
        ]
        means.append(np.mean(values))
    assert means[0] == FAIR
    assert means[1] > 1.5


# --- stages and weights -----------------------------------------------------------------------------------------------


def test_the_evidence_is_the_weighted_average_of_the_stages() -> None:
    rng = np.random.default_rng(8)
    suspect = fingerprint(gated(rng, 6, 64), stream=stream(rng, 64))
    base = fingerprint(gated(rng, 6, 64), stream=stream(rng, 64))
    found = compare_fingerprints(suspect, base, OPTIONS)
    assert [stage.name for stage in found.stages] == ["identity", "layers", "channels"]
    assert [stage.weight for stage in found.stages] == pytest.approx([WEIGHTS[s.name] for s in found.stages])
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    # What did not run, or found no coins, counts as zero: the weights of what is left are not raised.
    expected = sum(stage.weight * 10**stage.log10_e for stage in found.stages if stage.count.coins)
    assert 10**found.log10_e == pytest.approx(expected)
    # Where the stored order decides, no more is looked at, and its weight is its price.
    same = compare_fingerprints(base, base, OPTIONS)
    assert [stage.name for stage in same.stages] == ["identity"] and same.count.heads == same.count.coins
    assert same.log10_e == pytest.approx(log10_e_value(same.count.heads, same.count.coins) + np.log10(0.9))
    alone = compare_fingerprints(*(replace(part, shelves=()) for part in (suspect, base)), OPTIONS)
    assert [stage.name for stage in alone.stages] == ["channels"]
    rest = WEIGHTS["layers"] + WEIGHTS["units"] + WEIGHTS["channels"] + WEIGHTS["basis"]
    assert alone.stages[0].weight == pytest.approx(WEIGHTS["channels"] / rest)


def test_groups_and_layers_add_up_to_the_coins() -> None:
    rng = np.random.default_rng(9)
    one, other = (
        fingerprint(gated(rng, 3, 40), shelf([bit_strip("v", draw(rng, 3, 32, 2))], kind="value", block=16))
        for _ in range(2)
    )
    found = compare_fingerprints(one, other, OPTIONS)
    assert [group.name for group in found.groups] == ["mlp sign", "mlp swap", "value sign", "value swap"]
    for part in ("groups", "layers"):
        rows: Sequence[object] = getattr(found, part)
        assert sum(row.count.coins for row in rows) == found.count.coins  # type: ignore[attr-defined]
        assert sum(row.count.heads for row in rows) == found.count.heads  # type: ignore[attr-defined]
    assert [(row.suspect, row.base) for row in found.layers] == [("0", "0"), ("1", "1"), ("2", "2")]


# --- unknown graphs ---------------------------------------------------------------------------------------------------


def unknown(rng: np.random.Generator, layers: int, share: np.ndarray | None = None, seed: int = 0) -> Fingerprint:
    bits = draw(rng, layers, 64, 4)
    if share is not None:
        bits = np.where(np.random.default_rng(seed).random((layers, 1, 1)) < 0.5, share, bits)
    names = [f"conv{at}.weight" for at in range(layers)]
    part = shelf([bit_strip("weight", bits)], kind="channels", block=2, names=names)
    return fingerprint(part, family="unknown", exact=False)


def test_tensors_of_an_unknown_graph_are_averaged_and_never_pooled() -> None:
    rng = np.random.default_rng(10)
    base = unknown(rng, 6)
    suspect = unknown(rng, 6, base.shelves[0].strips[0].bits)
    found = compare_fingerprints(suspect, base, OPTIONS)
    assert not found.exact and [stage.name for stage in found.stages] == ["identity"]
    values = [10 ** log10_e_value(row.count.heads, row.count.coins) for row in found.layers]
    assert found.layers[0].suspect == "conv0.weight" and len(values) == 6
    assert 10**found.log10_e == pytest.approx(np.mean(values))
    # Units change places with their neighbour only.
    assert all(row.count.coins <= 32 for row in found.layers)
    # Another number of tensors, or other shapes: nothing can be said.
    assert compare_fingerprints(unknown(rng, 5), base, OPTIONS).count.coins == 0
    wider = fingerprint(replace(base.shelves[0], units=128), family="unknown", exact=False)
    assert compare_fingerprints(wider, base, OPTIONS).count.coins == 0
    assert compare_fingerprints(replace(base, family="llama", exact=True), base, OPTIONS).count.coins == 0


def test_tensors_that_hang_together_do_not_inflate_the_average() -> None:
    """Skips make one relabelling act on many tensors: pooled, six copies of one draw would count six times."""
    rng = np.random.default_rng(11)
    averaged, pooled = [], []
    one, other = (np.repeat(draw(rng, 1, 64, 4), 6, axis=0) for _ in range(2))
    names = [f"conv{at}.weight" for at in range(6)]
    for _ in range(300):
        order = (np.arange(64).reshape(-1, 2) ^ (rng.random((32, 1)) < 0.5)).ravel()
        sides = [
            fingerprint(
                shelf([bit_strip("weight", bits)], kind="channels", block=2, names=names), family="unknown", exact=False
            )
            for bits in (one, other[:, order])
        ]
        found = compare_fingerprints(sides[0], sides[1], OPTIONS)
        averaged.append(min(10**found.log10_e, 50.0))
        pooled.append(min(10 ** log10_e_value(found.count.heads, found.count.coins), 50.0))
    assert np.mean(averaged) < 1 + 4 * np.std(averaged) / np.sqrt(300)
    assert np.mean(pooled) > 2


# --- the null ---------------------------------------------------------------------------------------------------------


def independent(rng: np.random.Generator) -> Callable[[], Fingerprint]:
    """Weights of one model, heavy in their tails and alike in all units, labelled anew at each call."""
    common = rng.standard_normal(24)
    roles = {role: (rng.standard_t(2, (5, 48, 24)) + 2 * common).astype(np.float32) for role in ("gate", "up", "v")}
    embedding = tied_rows(rng, 48)[:64].T

    def labelled() -> Fingerprint:
        parts = []
        for kind, names, block in (("mlp", ("gate", "up"), 48), ("value", ("v",), 16)):
            key = rng.random((5, 48)) + np.arange(48) // block
            order, sign = np.argsort(key, axis=1)[:, :, None], rng.choice(np.float32([-1, 1]), (5, 48, 1))
            strips = []
            for role in names:
                values = np.take_along_axis(roles[role], order, axis=1) * (1 if role == "gate" else sign)
                strips.append(bit_strip(role, np.stack([sketch(layer, 16)[0] for layer in values])))
            parts.append(shelf(strips, kind=kind, block=block))
        columns = embedding[rng.permutation(48)] * rng.choice(np.float32([-1, 1]), (48, 1))
        bits, usable = sketch(columns - columns.mean(axis=1, keepdims=True), 32)
        given = {"width": 48, "rows": 512, "first": 448, "flip": True, "swap": True}
        return fingerprint(*parts, stream=StreamSketch(bits=bits, usable=usable, **given))  # type: ignore[arg-type]

    return labelled


def test_independent_models_are_fair_through_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages as they are, but that every layer finds some partner."""
    monkeypatch.setattr("lineage_plugin.fingerprint.align.LEAST_SCORE", 0.2)
    rng = np.random.default_rng(12)
    suspect, base = independent(rng), independent(rng)()
    counts: dict[str, list[tuple[int, int]]] = {"identity": [], "layers": [], "channels": []}
    e_values = []
    for _ in range(150):
        found = compare_fingerprints(suspect(), base, OPTIONS)
        e_values.append(10**found.log10_e)
        for stage in found.stages:
            counts[stage.name].append((stage.count.coins, stage.count.heads))
    for name, pairs in counts.items():
        coins, heads = np.array([pair for pair in pairs if pair[0]]).T
        assert coins.shape[0] > 100, name
        p = stats.binom.sf(heads, coins, 0.5) + rng.random(heads.shape[0]) * stats.binom.pmf(heads, coins, 0.5)
        assert stats.kstest(p, "uniform").pvalue > 1e-3, name
        assert abs(heads.sum() - coins.sum() / 2) < 4 * np.sqrt(coins.sum() / 4), name
    assert np.mean(np.minimum(e_values, 20.0)) < 1.3
