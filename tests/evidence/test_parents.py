"""Merge weights and the closest parent, against recipes and independent computations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy import stats

from benchmarks.parents import member, merged
from lineage_plugin.evidence.closest import closest_parent, contrasts
from lineage_plugin.evidence.combination import combine, t95
from lineage_plugin.evidence.family_read import Block, family_mismatch, read_family
from lineage_plugin.evidence.moments import moments
from lineage_plugin.evidence.parents import MergeFit, fit_merge, merge_weights

LAYERS, WIDTH, INNER = 4, 64, 96
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 32,
}
Weights = dict[str, np.ndarray]


def shapes(layers: int = LAYERS) -> Mapping[str, tuple[int, int]]:
    found = {"model.embed_tokens.weight": (32, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        found |= {f"{at}.mlp.gate_proj.weight": (INNER, WIDTH), f"{at}.mlp.up_proj.weight": (INNER, WIDTH)}
        found |= {f"{at}.mlp.down_proj.weight": (WIDTH, INNER), f"{at}.self_attn.q_proj.weight": (64, WIDTH)}
        found |= {f"{at}.self_attn.k_proj.weight": (32, WIDTH), f"{at}.self_attn.v_proj.weight": (32, WIDTH)}
        found |= {f"{at}.self_attn.o_proj.weight": (WIDTH, 64)}
    return found


def rounded(weights: Mapping[str, np.ndarray], dtype: type = ml_dtypes.bfloat16) -> Weights:
    return {name: value.astype(dtype).astype(np.float64) for name, value in weights.items()}


def drawn(seed: int, like: Weights | None = None, drift: float = 1.0, layers: int = LAYERS) -> Weights:
    """A random model, or a step of relative length ``drift`` away from one; on the grid of bfloat16."""
    rng = np.random.default_rng(seed)
    start = like or {name: np.zeros(shape) for name, shape in shapes(layers).items()}
    return rounded({name: value + drift * 0.05 * rng.normal(size=value.shape) for name, value in start.items()})


class Folder:
    """Writes models and opens them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, name: str, weights: Weights, dtype: type = ml_dtypes.bfloat16, **config: int):
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        save_file({n: np.ascontiguousarray(v.astype(dtype)) for n, v in weights.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(CONFIG | config))
        return member(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def values(fit: MergeFit) -> list[float]:
    return [np.nan if p.weight.estimate is None else p.weight.estimate for p in fit.parents]


ANCESTOR = drawn(1)
ONE, TWO, THREE = (drawn(seed, ANCESTOR, drift) for seed, drift in ((2, 0.3), (3, 0.6), (4, 0.4)))


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("style", "named"), [("linear", "linear"), ("slerp", "slerp"), ("dare", "dare")])
def test_weights_are_those_of_the_recipe(folder: Folder, style: str, named: str, known: bool) -> None:
    models = [folder("one", ONE), folder("two", TWO)]
    suspect = folder("merge", merged(style, [ONE, TWO], ANCESTOR, (0.3, 0.7)))
    fit = merge_weights(suspect, models, folder("base", ANCESTOR) if known else None)
    assert [p.id for p in fit.parents] == ["one", "two", *(["base"] if known else [])]
    np.testing.assert_allclose(values(fit)[:2], (0.3, 0.7), atol=0.02)
    if known or style != "dare":
        assert fit.style == named
        assert fit.structure == ("sparse" if style == "dare" else "rounding")
    # Every layer on its own says the same, less exactly.
    for parent, truth in zip(fit.parents, (0.3, 0.7)):
        assert [layer for layer, _ in parent.layers] == list(range(LAYERS))
        np.testing.assert_allclose([effect.estimate for _, effect in parent.layers], truth, atol=0.06)


def test_ties_is_told_from_dare_by_what_was_dropped(folder: Folder) -> None:
    suspect = folder("merge", merged("ties", [ONE, TWO], ANCESTOR, (0.5, 0.5)))
    fit = merge_weights(suspect, [folder("one", ONE), folder("two", TWO)], folder("base", ANCESTOR))
    assert (fit.style, fit.structure) == ("ties", "sparse")
    # Elements that both parents' smaller half holds: a quarter.
    assert fit.still == pytest.approx(0.25, abs=0.03)


def test_fit_is_least_squares_over_all_elements(folder: Folder) -> None:
    noise = np.random.default_rng(9)
    mixed = {n: 1.02 * (ANCESTOR[n] + 0.4 * (ONE[n] - ANCESTOR[n]) + 0.9 * (TWO[n] - ANCESTOR[n])) for n in ANCESTOR}
    mixed = {n: (v + 0.01 * noise.normal(size=v.shape)).astype(np.float32).astype(np.float64) for n, v in mixed.items()}
    members = [folder("suspect", mixed, np.float32), folder("one", ONE), folder("two", TWO), folder("base", ANCESTOR)]
    fit = merge_weights(members[0], members[1:3], members[3])
    # The same from the files, at once: each matrix in units of the parents' differences.
    left, right = [], []
    for block in read_family(members, seed=0):
        s, p, q, a = (row.ravel().astype(np.float64) for row in block.values)
        use = np.maximum(np.abs(p - a), np.abs(q - a)) > 0
        unit = np.sqrt(((p - a) ** 2 + (q - a) ** 2)[use].sum() / use.sum())
        left.append(np.stack([p - a, q - a, a], axis=1)[use] / unit)
        right.append((s - a)[use] / unit)
    c = np.linalg.lstsq(np.concatenate(left), np.concatenate(right), rcond=None)[0]
    np.testing.assert_allclose(values(fit)[:2], c[:2] / (1 + c[2]), rtol=2e-4)
    assert fit.scale.estimate == pytest.approx(1 + c[2], rel=1e-4)
    assert fit.structure == "dense" and fit.style is None


def test_weights_do_not_depend_on_which_model_is_the_reference(folder: Folder) -> None:
    suspect = folder("merge", merged("linear", [ONE, TWO, THREE], ANCESTOR, (0.2, 0.5, 0.3)))
    models = {"one": folder("one", ONE), "two": folder("two", TWO), "three": folder("three", THREE)}
    for order in (("one", "two", "three"), ("three", "one", "two"), ("two", "three", "one")):
        fit = merge_weights(suspect, [models[name] for name in order])
        found = dict(zip(order, values(fit)))
        assert found == pytest.approx({"one": 0.2, "two": 0.5, "three": 0.3}, abs=2e-3)


def test_an_ancestor_that_is_a_parent_has_what_the_others_leave(folder: Folder) -> None:
    suspect = folder("merge", merged("linear", [ANCESTOR, TWO], ANCESTOR, (0.75, 0.25)))
    base = folder("base", ANCESTOR)
    fit = merge_weights(suspect, [base, folder("two", TWO)], base)
    assert [p.id for p in fit.parents] == ["base", "two"] and fit.ancestor == "base"
    np.testing.assert_allclose(values(fit), (0.75, 0.25), atol=2e-3)


@pytest.mark.parametrize("drift", [1e-3, 3e-3])
def test_small_moves_are_weighed_where_rounding_leaves_them_visible(folder: Folder, drift: float) -> None:
    one, two = drawn(2, ANCESTOR, drift), drawn(3, ANCESTOR, drift)
    mixed = rounded(merged("linear", [one, two], ANCESTOR, (0.3, 0.7)))
    fit = merge_weights(folder("merge", mixed), [folder("one", one), folder("two", two)], folder("base", ANCESTOR))
    np.testing.assert_allclose(values(fit)[:2], (0.3, 0.7), atol=0.02)
    assert fit.structure == "rounding" and fit.resolved < 0.1
    # Without the choice of elements the answer would be wrong, not merely noisy.
    d = np.stack([np.concatenate([(m[n] - ANCESTOR[n]).ravel() for n in ANCESTOR]) for m in (mixed, one, two)])
    naive = np.linalg.lstsq(d[1:].T, d[0], rcond=None)[0]
    assert abs(naive[0] - 0.3) > 0.05


def test_a_parent_without_trace_has_a_narrow_interval_at_zero(folder: Folder) -> None:
    suspect = folder("merge", merged("linear", [ONE, TWO], ANCESTOR, (0.4, 0.6)))
    fit = merge_weights(
        suspect, [folder(n, w) for n, w in (("one", ONE), ("two", TWO), ("three", THREE))], folder("base", ANCESTOR)
    )
    third = fit.parents[2].weight
    assert third.low is not None and third.high is not None
    assert -0.01 < third.low <= 0.0 <= third.high < 0.01


def test_what_is_left_shows_an_undeclared_parent_and_an_adapter(folder: Folder) -> None:
    models = [folder("one", ONE), folder("two", TWO)]
    base = folder("base", ANCESTOR)
    three = merged("linear", [ONE, TWO, THREE], ANCESTOR, (0.3, 0.4, 0.3))
    fit = merge_weights(folder("three-way", three), models, base)
    assert fit.structure == "dense" and fit.unexplained is not None and fit.unexplained > 0.05
    rng = np.random.default_rng(5)
    two = merged("linear", [ONE, TWO], ANCESTOR, (0.5, 0.5))
    lora = {n: 0.02 * rng.normal(size=(v.shape[0], 4)) @ rng.normal(size=(4, v.shape[1])) for n, v in two.items()}
    adapted = added(two, lora)
    assert merge_weights(folder("adapted", adapted), models, base).structure == "low-rank"


def test_weights_that_differ_between_layers_are_called_uneven(folder: Folder) -> None:
    parts = {t: merged("linear", [ONE, TWO], ANCESTOR, (1 - t, t)) for t in (0.2, 0.8)}
    mixed = {n: parts[0.2 if ".0." in n or ".1." in n else 0.8][n] for n in ANCESTOR}
    fit = merge_weights(folder("merge", mixed), [folder("one", ONE), folder("two", TWO)], folder("base", ANCESTOR))
    assert fit.uneven and fit.structure == "rounding"
    np.testing.assert_allclose([e.estimate for _, e in fit.parents[1].layers], (0.2, 0.2, 0.8, 0.8), atol=5e-3)
    low, high = fit.parents[1].weight.low, fit.parents[1].weight.high
    assert low is not None and high is not None and low < 0.5 < high


def test_nothing_is_said_where_the_parents_cannot_be_told_apart(folder: Folder) -> None:
    suspect, one, copy = folder("s", TWO), folder("one", ONE), folder("copy", ONE)
    base = folder("base", ANCESTOR)
    alike = merge_weights(suspect, [one, copy], base)
    assert alike.reason == "one and copy hold the same weights"
    assert all(p.weight.estimate is None for p in alike.parents)
    blend = {n: 0.5 * ONE[n] + 0.5 * TWO[n] for n in ONE}
    spanned = merge_weights(
        suspect,
        [folder("one", ONE, np.float64), folder("two", TWO, np.float64), folder("blend", blend, np.float64)],
        folder("base64", ANCESTOR, np.float64),
    )
    assert spanned.reason is not None
    near = {n: v.copy() for n, v in ANCESTOR.items()}
    near["model.layers.0.mlp.up_proj.weight"][0, 0] += 1.0
    assert "too few steps" in str(merge_weights(suspect, [folder("near", near)], base).reason)
    assert merge_weights(suspect, [one]).reason is not None


def test_nearly_equal_parents_give_wide_intervals_that_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(60):
        a = rng.normal(size=(32, 64))
        d = 0.3 * rng.normal(size=(32, 64))
        models = [a + d + 1e-3 * rng.normal(size=d.shape) for _ in range(2)]
        s = a + 0.3 * (models[0] - a) + 0.7 * (models[1] - a) + 0.02 * rng.normal(size=d.shape)
        block = Block(0, "mlp", "up", np.stack([s, *models, a]).astype(np.float32))
        weight = fit_merge([moments(block)], ["one", "two", "base"], ancestor=True).parents[0].weight
        assert weight.low is not None and weight.high is not None and weight.high - weight.low > 0.3
        held.append(weight.low <= 0.3 <= weight.high)
    assert np.mean(held) > 0.8


@pytest.mark.parametrize("uneven", [0.0, 0.2])
def test_intervals_cover_the_truth(uneven: float) -> None:
    """Coverage of nominal 95%, with equal weights in all matrices and with weights that scatter around the truth."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(400):
        grams = []
        for _ in range(12):
            d, r = rng.normal(size=(2, 16, 40)), rng.normal(size=(16, 40))
            w = np.array([0.3, 0.5]) + uneven * rng.normal(size=2)
            noise = rng.normal(size=(16, 40)) * rng.uniform(0.2, 2.0, size=(16, 1))
            basis = np.stack([np.tensordot(w, d, axes=1) + noise, *d, r]).transpose(1, 0, 2)
            grams.append(basis @ basis.transpose(0, 2, 1))
        effect = combine(grams)[0]
        assert effect.low is not None and effect.high is not None
        held += effect.low <= 0.3 <= effect.high
    # The wider of two valid intervals covers at least as often as either.
    assert stats.binomtest(held, 400, 0.95, alternative="less").pvalue > 1e-3
    assert held < 400


@pytest.mark.parametrize("freedom", [3, 4, 7, 20, 200])
def test_students_t(freedom: int) -> None:
    assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_reading_is_limited_and_spread(folder: Folder) -> None:
    models = [folder(n, w) for n, w in (("s", ONE), ("one", TWO), ("base", ANCESTOR))]
    limit = 60_000
    blocks = list(read_family(models, seed=0, limit=limit))
    assert {block.layer for block in blocks} == set(range(LAYERS))
    for model in models:
        assert model.checkpoint.cost().tensor_bytes <= limit
    again = list(read_family(models, seed=0, limit=limit))
    assert all(np.array_equal(a.values, b.values) for a, b in zip(blocks, again))
    # What does not fit into the limit costs layers, not units.
    few = list(read_family(models, seed=0, limit=limit, least=32))
    assert len({block.layer for block in few}) < LAYERS and min(block.values.shape[1] for block in few) >= 16


def test_broken_values_leave_their_units_out(folder: Folder) -> None:
    broken = {n: v.copy() for n, v in ONE.items()}
    broken["model.layers.1.mlp.up_proj.weight"][:10] = np.nan
    broken["model.layers.2.mlp.up_proj.weight"][:] = np.inf
    mixed = merged("linear", [ONE, TWO], ANCESTOR, (0.3, 0.7))
    models = [folder("s", mixed), folder("one", broken), folder("two", TWO)]
    fit = merge_weights(models[0], models[1:], folder("base", ANCESTOR))
    np.testing.assert_allclose(values(fit)[:2], (0.3, 0.7), atol=2e-3)
    hollow = {n: np.full_like(v, np.nan) for n, v in ONE.items()}
    empty = merge_weights(models[0], [folder("hollow", hollow), models[2]], folder("base", ANCESTOR))
    assert empty.reason is not None and empty.unexplained is None


def test_other_structures_are_named(folder: Folder) -> None:
    short = folder("short", drawn(8, layers=2), num_hidden_layers=2)
    models = [folder("s", ONE), folder("two", TWO), short]
    assert "short" in str(family_mismatch(models))
    fit = merge_weights(models[0], models[1:])
    assert "depth" in str(fit.reason)


def shared_update(seed: int, strength: float) -> Weights:
    """A direction in which every training moves: a few strong directions of each matrix, the same for all."""
    rng = np.random.default_rng(seed)
    return {
        n: strength * 0.05 * rng.normal(size=(s[0], 6)) @ rng.normal(size=(6, s[1])) / np.sqrt(6)
        for n, s in shapes().items()
    }


def added(*models: Weights) -> Weights:
    return {n: sum(m[n] for m in models) for n in models[0]}


def own(seed: int, strength: float) -> Weights:
    rng = np.random.default_rng(seed)
    return {n: strength * 0.05 * rng.normal(size=s) for n, s in shapes().items()}


CHILD = rounded(added(ANCESTOR, shared_update(50, 0.4), own(51, 0.2)))


def standing(found, name: str):
    return next(s for s in found.standings if s.id == name)


def test_a_descendant_is_told_from_a_sibling_that_moved_alike(folder: Folder) -> None:
    base, child = folder("base", ANCESTOR), folder("child", CHILD)
    grandchild = folder("grandchild", added(CHILD, shared_update(50, 0.2), own(61, 0.3)))
    sibling = folder("sibling", added(ANCESTOR, shared_update(50, 0.4), own(62, 0.3)))
    down = closest_parent(grandchild, [base, child], base)
    assert down.choice == "child"
    beside = closest_parent(sibling, [base, child], base)
    assert beside.choice in ("base", None)
    # On the whole the sibling's coefficient is large; along the weakest directions it is gone.
    weight, weakest = standing(beside, "child").weight, standing(beside, "child").weakest
    assert weight.low is not None and weight.low > 0.5
    assert weakest.high is not None and weakest.high < 0.4


def test_the_base_is_chosen_where_the_candidates_share_nothing_with_the_suspect(folder: Folder) -> None:
    base, child = folder("base", ANCESTOR), folder("child", CHILD)
    found = closest_parent(folder("s", added(ANCESTOR, own(70, 0.3))), [base, child], base)
    assert found.choice == "base"
    # Not known as the ancestor it is contained whole, too: nothing in the suspect comes from the child.
    assert closest_parent(folder("s", added(ANCESTOR, own(70, 0.1))), [base, child]).choice == "base"


def test_weight_decay_does_not_hide_the_parent(folder: Folder) -> None:
    base, child = folder("base", ANCESTOR), folder("child", CHILD)
    shrunk = {n: 0.7 * v for n, v in added(CHILD, own(71, 0.1)).items()}
    found = closest_parent(folder("s", shrunk), [base, child], base)
    assert found.choice == "child"


def test_a_merge_lies_between_its_parents(folder: Folder) -> None:
    base, one, two = folder("base", ANCESTOR), folder("one", ONE), folder("two", TWO)
    found = closest_parent(folder("s", merged("linear", [ONE, TWO], ANCESTOR, (0.5, 0.5))), [one, two], base)
    assert found.choice is None and found.between == ("one", "two")
    half = closest_parent(folder("h", merged("linear", [ANCESTOR, ONE], ANCESTOR, (0.5, 0.5))), [base, one], base)
    assert half.choice is None and set(half.between) == {"one", "base"}


def test_a_stranger_has_no_parent_here(folder: Folder) -> None:
    found = closest_parent(folder("s", drawn(99)), [folder("child", CHILD)], folder("base", ANCESTOR))
    assert found.choice is None and "no trace" in found.reason


def test_one_candidate_or_another_structure_is_no_choice(folder: Folder) -> None:
    child = folder("child", CHILD)
    assert closest_parent(child, [folder("base", ANCESTOR)]).choice is None
    short = folder("short", drawn(8, layers=2), num_hidden_layers=2)
    found = closest_parent(child, [folder("base", ANCESTOR), short])
    assert found.choice is None and "depth" in found.reason


def test_the_weakest_coefficient_of_a_descendant_is_unbiased() -> None:
    """Directions are chosen on other columns than they are measured on: noise alone does not lower the coefficient."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(150):
        a, d = rng.normal(size=(2, 32, 128))
        s = a + d + 1.0 * rng.normal(size=d.shape)
        found.append(contrasts(Block(0, "mlp", "up", np.stack([s, a + d, a]).astype(np.float32)))[0, 1])
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 1.0) < 4 * error < 0.1
    # Chosen and measured on the same columns it would be far below 1.
    both = []
    for _ in range(20):
        a, d = rng.normal(size=(2, 32, 128))
        u = d + 1.0 * rng.normal(size=d.shape)
        both.append(weakest_on_the_same(u, d))
    assert np.mean(both) < 0.8


def weakest_on_the_same(update: np.ndarray, apart: np.ndarray) -> float:
    metric, cross = apart @ apart.T, apart @ update.T
    inverse = np.linalg.inv(np.linalg.cholesky(metric))
    return float(np.linalg.eigvalsh(inverse @ (cross + cross.T) / 2 @ inverse.T)[:8].mean())


def test_contrasts_of_a_pair_answer_each_other() -> None:
    rng = np.random.default_rng(4)
    a, d, e = rng.normal(size=(3, 32, 64))
    models: Sequence[np.ndarray] = (a + 0.5 * d + 0.2 * e, a + d, a)
    forth = contrasts(Block(0, "mlp", "up", np.stack(models).astype(np.float32)))
    back = contrasts(Block(0, "mlp", "up", np.stack([models[0], models[2], models[1]]).astype(np.float32)))
    np.testing.assert_allclose(forth, back[::-1, ::-1], atol=0.02)
    assert np.isnan(forth[0, 0])
    few = contrasts(Block(0, "mlp", "up", np.stack(models)[:, :8].astype(np.float32)))
    assert np.isnan(few).all()
