"""Unit alignment against brute force and linear assignment, and the fairness of the coins after it."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment

from benchmarks.alignment import ODD, Layer, mixture, mlp_layers, relabelled, unit_null
from lineage_plugin.evidence import units as module
from lineage_plugin.evidence.coins import sign_statistics
from lineage_plugin.evidence.units import match_units, nearest, normalised, relatedness

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def base() -> list[Layer]:
    return mlp_layers(EXAMPLES / "base")


@pytest.fixture(scope="module")
def child() -> list[Layer]:
    return mlp_layers(EXAMPLES / "honest")


@pytest.fixture(scope="module")
def other() -> list[Layer]:
    return mlp_layers(EXAMPLES / "liar")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BASE_TILE", 7)
    monkeypatch.setattr(module, "SUSPECT_TILE", 5)


def similarities(suspect: Layer, base: Layer, odd: tuple[bool, ...]) -> np.ndarray:
    """The definition, in float64: ``[m, n]``."""
    signed, flipped = 0.0, 0.0
    for a, b, is_odd in zip(suspect, base, odd, strict=True):
        x, y = (part.astype(np.float64) for part in (a, b))
        cosine = (y / np.linalg.norm(y, axis=1)[:, None]) @ (x / np.linalg.norm(x, axis=1)[:, None]).T
        signed, flipped = signed + (not is_odd) * cosine, flipped + is_odd * cosine
    return (signed + np.abs(flipped)) / len(odd)


def greedy(similarity: np.ndarray) -> np.ndarray:
    """Assignment by falling similarity, one entry after the other."""
    partner = np.full(similarity.shape[0], -1)
    taken: set[int] = set()
    for flat in np.argsort(-similarity, axis=None):
        row, column = divmod(int(flat), similarity.shape[1])
        if partner[row] < 0 and column not in taken:
            partner[row] = column
            taken.add(column)
    return partner


def permuted(layer: Layer, rng: np.random.Generator, kept: int | None = None) -> tuple[Layer, np.ndarray]:
    """Permute and flip units; the order says which unit stands in each row."""
    order = rng.permutation(layer[0].shape[0])[:kept]
    sign = rng.choice(np.float32([-1, 1]), size=(order.shape[0], 1))
    return tuple(part[order] * (sign if odd else 1) for part, odd in zip(layer, ODD, strict=True)), order


@pytest.mark.parametrize("odd", [(False,), (True,), (False, True, True)])
@pytest.mark.parametrize(("n", "m"), [(23, 23), (9, 31), (31, 9), (1, 4), (4, 1)])
def test_nearest_is_what_the_definition_says(odd: tuple[bool, ...], n: int, m: int, small_tiles: None) -> None:
    rng = np.random.default_rng(n * m)
    suspect = tuple(rng.normal(size=(n, 6)).astype(np.float32) for _ in odd)
    base = tuple(rng.normal(size=(m, 6)).astype(np.float32) for _ in odd)
    table = similarities(suspect, base, odd)
    found = nearest(suspect, base, even=odd)
    best = table.argmax(axis=1)
    assert found.suspect.tolist() == best.tolist()
    np.testing.assert_allclose(found.similarity, table.max(axis=1), atol=1e-6)
    for row in range(m):
        np.testing.assert_allclose(found.second[row], np.delete(table[row], best[row]).max(initial=-np.inf), atol=1e-6)
        rival = np.delete(table[:, best[row]], row).max(initial=-np.inf)
        np.testing.assert_allclose(found.rival[row], rival, atol=1e-6)
        assert found.mutual[row] == (table[:, best[row]].argmax() == row)


def test_one_array_is_one_role() -> None:
    rng = np.random.default_rng(3)
    suspect, base = rng.normal(size=(2, 20, 5)).astype(np.float32)
    for even in (False, True):
        one, listed = nearest(suspect, base, even=even), nearest([suspect], [base], even=[even])
        assert one.suspect.tolist() == listed.suspect.tolist()
    signed, unsigned = nearest(suspect, base, even=False), nearest(suspect, base, even=True)
    assert signed.suspect.tolist() != unsigned.suspect.tolist()


def test_units_without_direction_never_match(small_tiles: None) -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=(12, 6)).astype(np.float32)
    suspect = base.copy()
    suspect[2], suspect[3, 1], base[5], base[6, 0] = 0.0, np.nan, 0.0, np.inf
    found = match_units(suspect, base, even=True, least=-np.inf)
    assert set(found.suspect[found.suspect >= 0]).isdisjoint({2, 3})
    assert found.suspect[5] == found.suspect[6] == -1
    clean = [row for row in range(12) if row not in (2, 3, 5, 6)]
    assert found.suspect[clean].tolist() == clean
    assert match_units(np.zeros((3, 6)), base, even=False).base_rows.shape == (0,)
    assert match_units(np.empty((0, 6)), base, even=False).base_rows.shape == (0,)
    assert match_units(suspect, np.empty((0, 6)), even=False).suspect.shape == (0,)


def test_a_pad_in_one_role_is_no_unit() -> None:
    rng = np.random.default_rng(5)
    gate, up = rng.normal(size=(2, 8, 5)).astype(np.float32)
    up[3] = 0.0
    found = match_units([gate, up], [gate, up], even=[False, True], least=-np.inf)
    assert found.suspect.tolist() == [0, 1, 2, -1, 4, 5, 6, 7]


def test_huge_tiny_and_coarse_values_are_compared_by_direction() -> None:
    rng = np.random.default_rng(6)
    base = rng.normal(size=(16, 8)).astype(np.float32)
    order = rng.permutation(16)
    scale = np.resize(np.float32([1e36, 1e-38, 1.0, 1e-20]), 16)[:, None]
    for suspect in (base * scale, base.astype(ml_dtypes.bfloat16), base.astype(np.float64) * 1e30):
        assert order[match_units(suspect[order], base, even=True).suspect].tolist() == list(range(16))
    unit, usable = normalised(base * scale)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, rtol=1e-3)
    assert usable.all()


def test_clones_are_matched_once_each() -> None:
    rng = np.random.default_rng(7)
    base = np.repeat(rng.normal(size=(5, 6)).astype(np.float32), 2, axis=0)
    found = match_units(base, base, even=False, least=-np.inf)
    assert sorted(found.suspect.tolist()) == list(range(10))
    assert (found.suspect // 2).tolist() == (np.arange(10) // 2).tolist()


@pytest.mark.parametrize("shape", [(30, 30), (18, 30), (30, 18)])
def test_matching_is_the_greedy_assignment(shape: tuple[int, int], small_tiles: None) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        suspect = tuple(rng.normal(size=(shape[0], 8)).astype(np.float32) for _ in ODD)
        base = tuple(rng.normal(size=(shape[1], 8)).astype(np.float32) for _ in ODD)
        table = similarities(suspect, base, ODD)
        found = match_units(suspect, base, even=ODD, least=-np.inf)
        rows, columns = linear_sum_assignment(-table)
        got = found.base_rows
        assert found.suspect[got].tolist() == greedy(table)[got].tolist()
        assert got.shape[0] >= 0.9 * min(shape)
        assert table[got, found.suspect[got]].sum() > 0.85 * table[rows, columns].sum()
        # Only those that lead their whole row are kept by default, and the margin says by how much.
        kept = match_units(suspect, base, even=ODD)
        assert (table.argmax(axis=1)[kept.base_rows] == kept.suspect_rows).all()
        assert set(kept.base_rows) == set(np.flatnonzero(found.margin >= 0))


def test_relabelled_weights_are_matched_as_by_linear_assignment(base: list[Layer], child: list[Layer]) -> None:
    rng = np.random.default_rng(8)
    for mine, theirs in zip(child, base, strict=True):
        suspect, order = permuted(mine, rng)
        for roles in ((0,), (1,), (0, 1, 2)):
            parts = [suspect[r] for r in roles], [theirs[r] for r in roles]
            odd = tuple(ODD[r] for r in roles)
            found = match_units(*parts, even=odd)
            assert found.suspect.tolist() == linear_sum_assignment(-similarities(*parts, odd))[1].tolist()
            assert (order[found.suspect] == np.arange(order.shape[0])).all()
            assert found.dominant > 0.95


def test_faint_copies_need_all_roles_and_leave_out_leftovers(base: list[Layer], other: list[Layer]) -> None:
    suspect, order = permuted(mixture(base[1], other[1], 0.3), np.random.default_rng(9))
    right = {}
    for roles in ((0,), (0, 1, 2)):
        parts = [suspect[r] for r in roles], [base[1][r] for r in roles]
        found = match_units(*parts, even=[ODD[r] for r in roles])
        full = match_units(*parts, even=[ODD[r] for r in roles], least=-np.inf)
        assert np.mean(order[found.suspect_rows] == found.base_rows) >= np.mean(order[full.suspect] == np.arange(256))
        right[roles] = (order[found.suspect_rows] == found.base_rows).sum()
    assert right[0, 1, 2] > 1.5 * right[(0,)]


@pytest.mark.parametrize("pruned", ["suspect", "base"])
def test_pruned_widths_are_matched_injectively(base: list[Layer], child: list[Layer], pruned: str) -> None:
    rng = np.random.default_rng(10)
    suspect, order = permuted(child[0], rng, 100 if pruned == "suspect" else None)
    theirs, kept = base[0], np.arange(256)
    if pruned == "base":
        kept = np.sort(rng.permutation(256)[:100])
        theirs = tuple(part[kept] for part in theirs)
    found = match_units(suspect, theirs, even=ODD)
    assert len(set(found.suspect_rows)) == len(found.suspect_rows)
    truth = [(row, int(np.flatnonzero(order == unit)[0])) for row, unit in enumerate(kept) if unit in order]
    matched = set(zip(found.base_rows.tolist(), found.suspect_rows.tolist(), strict=True))
    assert len(truth) == 100
    assert set(truth) <= matched
    assert found.dominant > 0.9


def test_independent_units_do_not_dominate(base: list[Layer], other: list[Layer]) -> None:
    dominant = [match_units(other[i], base[j], even=ODD).dominant for i, j in np.ndindex(4, 4)]
    assert max(dominant) < 0.1


def test_the_matching_does_not_see_signs(base: list[Layer], other: list[Layer]) -> None:
    rng = np.random.default_rng(11)
    sign = rng.choice(np.float32([-1, 1]), size=(256, 1))
    for roles in ((1,), (0, 1, 2)):
        odd = [ODD[r] for r in roles]
        mine, theirs = [other[2][r] for r in roles], [base[1][r] for r in roles]
        flipped = [part * (sign if o else 1) for part, o in zip(theirs, odd, strict=True)]
        one, two = match_units(mine, theirs, even=odd), match_units(mine, flipped, even=odd)
        assert one.suspect.tolist() == two.suspect.tolist()
        assert one.similarity.tolist() == two.similarity.tolist()
        rows = one.base_rows
        coins = [
            sign_statistics([other[2][1][one.suspect_rows]], [up[rows]], [True])
            for up in (base[1][1], base[1][1] * sign)
        ]
        np.testing.assert_allclose(coins[0], coins[1] * sign[rows, 0])


def test_relatedness_tells_relabelled_copies_from_all_others(
    base: list[Layer], child: list[Layer], other: list[Layer]
) -> None:
    rng = np.random.default_rng(12)
    related, apart = [], []
    for i, j in np.ndindex(4, 4):
        for suspects, together in ((child, True), (other, False)):
            score = relatedness(relabelled(suspects[i], rng), base[j], even=ODD, sample=64, seed=i)
            (related if together and i == j else apart).append(score)
    assert min(related) > 5 * max(apart)
    assert abs(np.mean(apart)) < 1
    assert max(apart) < 3
    faint = relatedness(relabelled(mixture(base[1], other[1], 0.3), rng), base[1], even=ODD, sample=64, seed=1)
    assert faint > 2 * max(apart)


def test_relatedness_does_not_depend_on_the_order_of_the_suspect(base: list[Layer], child: list[Layer]) -> None:
    one = relatedness(child[0], base[0], even=ODD, sample=32, seed=5)
    two = relatedness(relabelled(child[0], np.random.default_rng(13)), base[0], even=ODD, sample=32, seed=5)
    assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.parametrize("law", ["normal", "laplace", "student"])
def test_relatedness_is_about_0_whatever_the_law(law: str) -> None:
    rng = np.random.default_rng(14)
    draw = {"normal": rng.normal, "laplace": rng.laplace, "student": lambda size: rng.standard_t(4, size=size)}[law]
    scores = []
    for seed in range(100):
        suspect, theirs = draw(size=(300, 32)), draw(size=(100, 32))
        scores.append(relatedness(suspect, theirs, even=True, sample=64, seed=seed))
    assert abs(np.mean(scores)) < 1.0
    assert np.std(scores) < 1.5


def test_relatedness_of_too_little_is_0() -> None:
    rng = np.random.default_rng(15)
    assert relatedness(rng.normal(size=(5, 4)), rng.normal(size=(50, 4)), even=True, sample=9, seed=0) == 0.0
    assert relatedness(np.zeros((50, 4)), rng.normal(size=(50, 4)), even=True, sample=9, seed=0) == 0.0
    assert relatedness(np.empty((0, 4)), rng.normal(size=(50, 4)), even=True, sample=9, seed=0) == 0.0
    assert relatedness(np.ones((50, 4)), np.ones((50, 4)), even=False, sample=9, seed=0) == 0.0


def test_wrong_shapes_are_refused() -> None:
    a, b = np.ones((4, 3), np.float32), np.ones((4, 5), np.float32)
    for suspect, theirs, even in (
        (a, b, True),
        ([a, a], [a], True),
        ([a], [a], [True, False]),
        ([], [], []),
        ([a, b], [a, b[:2]], True),
        (a[0], a[0], True),
    ):
        with pytest.raises(ValueError, match=r"arrays|shapes|units"):
            nearest(suspect, theirs, even=even)


def test_torch_and_numpy_give_the_same_products() -> None:
    torch = pytest.importorskip("torch")
    left, right = np.random.default_rng(16).normal(size=(2, 40, 30)).astype(np.float32)
    np.testing.assert_allclose(module.torch_product(torch, "cpu", left, right), module.product(left, right), atol=1e-5)


def test_sign_coins_are_fair_after_the_search(base: list[Layer], other: list[Layer]) -> None:
    """A small version of `python -m benchmarks.alignment null`."""
    tosses = unit_null([(other, base)], 120, 40, 1, signed=False)
    assert tosses.coins.sum() > 1000
    assert tosses.uniform() > 1e-3
    assert stats.binomtest(int(tosses.heads.sum()), int(tosses.coins.sum())).pvalue > 1e-3
    capped = np.minimum(tosses.e_values, 100.0)
    assert capped.mean() < 1 + 4 * capped.std(ddof=1) / np.sqrt(capped.shape[0])


def test_a_search_that_sees_signs_spoils_the_coins(base: list[Layer], other: list[Layer]) -> None:
    """The test above would notice: a match chosen for its signed cosine has a positive one."""
    tosses = unit_null([(other, base)], 20, 40, 1, signed=True)
    assert np.minimum(tosses.e_values, 100.0).mean() > 10
