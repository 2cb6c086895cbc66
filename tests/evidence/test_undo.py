"""Signs and scales are undone where they were redrawn, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lineage_plugin.evidence.ledger import Ledger
from lineage_plugin.evidence.sample import Sample
from lineage_plugin.evidence.undo import LEAST_UNITS, rescaled, turned
from tests.evidence.builders import sample

ODD = (False, True, True)


def drawn(seed: int, units: int = 64, dim: int = 48) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.gamma(2.0, size=(units, 1)) * rng.normal(size=(units, dim)) for _ in range(3)]


def child(parent: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """Trained on: every weight moves, and norms move together."""
    rng = np.random.default_rng(seed)
    grown = np.exp(0.1 * rng.normal(size=(parent[0].shape[0], 1)))
    return [grown * p + 0.3 * np.abs(p).mean() * rng.normal(size=p.shape) for p in parent]


def flipped(roles: list[np.ndarray], seed: int) -> list[np.ndarray]:
    sign = np.random.default_rng(seed).choice([-1.0, 1.0], size=(roles[0].shape[0], 1))
    return [r * sign if odd else r for r, odd in zip(roles, ODD)]


def traded(roles: list[np.ndarray], seed: int, most: float = 4.0) -> list[np.ndarray]:
    factor = np.exp(np.random.default_rng(seed).uniform(-np.log(most), np.log(most), size=(roles[0].shape[0], 1)))
    return [roles[0], roles[1] * factor, roles[2] / factor]


def equal(one: Sample, other: Sample) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.suspect, other.suspect))


def test_redrawn_signs_are_turned_back() -> None:
    base = drawn(0)
    trained = child(base, 1)
    restored = turned(sample(flipped(trained, 2), base, ODD))
    assert equal(restored, sample(trained, base, ODD))
    assert all(np.array_equal(a, b) for a, b in zip(restored.base, sample(trained, base, ODD).base))


@pytest.mark.parametrize("what", ["signs agree", "independent", "few units", "no odd vector", "all opposite"])
def test_signs_are_left_where_they_say_something(what: str) -> None:
    base, odd = drawn(0), ODD
    suspect = flipped(child(base, 1), 2)
    if what == "signs agree":
        suspect = child(base, 1)
    elif what == "independent":
        suspect = drawn(5)
    elif what == "few units":
        base, suspect = ([role[: LEAST_UNITS - 1] for role in roles] for roles in (base, suspect))
    elif what == "no odd vector":
        odd = (False, False, False)
    one = sample(suspect, base, odd)
    if what == "all opposite":
        # One sign for all is still a sign that was changed, and is turned.
        one = sample([suspect[0], *(-r for r in child(base, 1)[1:])], base, odd)
        assert equal(turned(one), sample([suspect[0], *child(base, 1)[1:]], base, odd))
    else:
        assert turned(one) is one


def test_searched_units_are_turned_without_swap_coins() -> None:
    """Matched units have no swap coins to vouch for them; rotary pairs have none either, and were not searched."""
    base = drawn(0)
    one = sample(flipped(child(base, 1), 2), base, ODD, swap=False)
    assert turned(one) is one
    searched = replace(one, probe=replace(one.probe, searched=True))
    assert equal(turned(searched), sample(child(base, 1), base, ODD))


def test_a_traded_scale_is_undone() -> None:
    base = drawn(0)
    trained = child(base, 1)
    restored = rescaled(sample(traded(trained, 3), base, ODD))
    assert restored is not None

    def log_ratios(roles: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        return [np.log(np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)) for a, b in zip(roles[1:], base[1:])]

    up, down = log_ratios(restored.suspect)
    traded_up, traded_down = log_ratios(tuple(sample(traded(trained, 3), base, ODD).suspect))
    assert (traded_up - traded_down).std() > 1.0
    # What units read and write has grown alike, and by as much together as before.
    assert (up - down).std() < 1e-5
    np.testing.assert_allclose(up + down, traded_up + traded_down, atol=1e-5)
    np.testing.assert_array_equal(restored.suspect[0], sample(trained, base, ODD).suspect[0])


def test_growth_by_training_is_no_traded_scale() -> None:
    base = drawn(0)
    assert rescaled(sample(child(base, 1), base, ODD)) is None
    assert rescaled(sample(traded(child(base, 1), 3, most=1.05), base, ODD)) is None
    assert rescaled(sample(drawn(7), base, ODD)) is None
    assert rescaled(sample(base, base, ODD)) is None
    assert rescaled(sample(traded(base, 3), base, (False, False, True))) is None


@pytest.mark.filterwarnings("error")
def test_zeros_and_values_that_are_not_numbers() -> None:
    base = drawn(0)
    suspect = traded(child(base, 1), 3)
    suspect[1][:8] = 0.0
    suspect[2][8:12] = np.nan
    restored = rescaled(sample(suspect, base, ODD))
    assert restored is not None
    assert np.array_equal(np.isnan(restored.suspect[2]).any(axis=1), np.isnan(suspect[2]).any(axis=1))
    assert not restored.suspect[1][:8].any()
    nothing = [np.full_like(r, np.nan) for r in suspect]
    assert rescaled(sample(nothing, base, ODD)) is None
    assert turned(sample(nothing, base, ODD)).suspect[0].shape == (64, 48)


def test_coins_are_those_of_the_units_as_they_were() -> None:
    """Turning must come after tossing: of turned units all signs would be heads, whatever the models share."""
    base, suspect = drawn(0), flipped(child(drawn(0), 1), 2)
    before, after = Ledger(), Ledger()
    before.add([sample(suspect, base, ODD)])
    after.add([turned(sample(suspect, base, ODD))])
    signs = [next(t.count for t in ledger.tosses() if t.kind == "sign") for ledger in (before, after)]
    assert 16 < signs[0].heads < 48 and signs[1].heads == signs[1].coins == 64
