"""The numbers in sentences: rounded to the cautious side, never capped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage_plugin.checkpoint.types import Cost
from lineage_plugin.judge.types import Direction, Evidence, Interval
from lineage_plugin.report import phrases
from tests.report import samples


@pytest.mark.parametrize(
    ("log10_e", "said"),
    [
        (459.89, "10^459.8"),
        (1e6, "10^1000000.0"),
        (6.0, "10^6.0"),
        (5.5, "316,227"),
        (2.0, "100"),
        (math.log10(31.9), "31"),
        (math.log10(3.19), "3.1"),
        (0.0, "1.0"),
        (math.log10(0.0379), "0.037"),
        (-7.01, "10^-7.1"),
    ],
)
def test_e_values_are_rounded_down(log10_e: float, said: str) -> None:
    assert phrases.e_value(log10_e) == said


@given(st.floats(-3.9, 5.9))
def test_an_e_value_is_never_overstated(log10_e: float) -> None:
    said = float(phrases.e_value(log10_e).replace(",", ""))
    assert said <= 10**log10_e * (1 + 1e-12)
    assert said >= 10**log10_e * 0.9 - 1e-9


@pytest.mark.parametrize("log10_e", [459.8, 31.0, 9.0, 2.0, 0.5, 0.0, -0.5, -7.0])
def test_a_coins_sentence_bounds_and_never_equates(log10_e: float) -> None:
    said = phrases.coins(Evidence(log10_e, 100, 60, True))
    assert (
        "fair coin if the models were independent (trained from different random starts); 60 came up heads (60.0%)"
        in said
    )
    assert ("at most 1 in" in said) == (log10_e > 0)
    assert ("no evidence against independence" in said) == (log10_e <= 0)
    assert "p =" not in said
    assert "p=0" not in said


def test_one_coin_is_not_plural() -> None:
    assert phrases.coins(Evidence(0.3, 1, 1, True)).startswith("1 comparison, each")


@pytest.mark.parametrize(
    ("share", "toward", "said"),
    [
        (0.012, "up", "1.2%"),
        (0.01201, "up", "1.3%"),
        (0.98129, "down", "98.1%"),
        (0.98129, "nearest", "98.1%"),
        (0.99999, "down", "99.9%"),
        (1.02, "nearest", "102.0%"),
        (-0.01, "down", "0.0%"),
        (0.00001, "up", "0.1%"),
    ],
)
def test_percentages(share: float, toward: str, said: str) -> None:
    assert phrases.percent(share, toward=toward) == said


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (141_107_412_992, "141.1 GB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_sizes(octets: int, said: str) -> None:
    assert phrases.size(octets) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (999, "999"), (1000, "1.0k"), (3_184_640, "3.2M"), (70_553_706_496, "71B")]
)
def test_parameters(number: int, said: str) -> None:
    assert phrases.parameters(number) == said


def test_cost_names_requests_only_when_there_were_any() -> None:
    disk, net = Cost(1000, 900, 10_000, 0, 0.1), Cost(2000, 900, 10_000, 12, 1.4)
    assert "no network requests" in phrases.cost(disk, disk)
    assert phrases.cost(disk, net) == (
        "3.0 kB of 20.0 kB of weight files (15.0%); suspect 1.0 kB, base 2.0 kB; 12 requests; 1.5 s."
    )
    assert phrases.cost(Cost(), Cost(bytes_total=5, requests=1)).startswith("Nothing of 5 bytes of weight files")


@pytest.mark.parametrize("indication", ["suspect-from-base", "base-from-suspect", "siblings", "unclear"])
def test_a_direction_always_carries_its_caveat(indication: str) -> None:
    said = phrases.direction(Direction(indication, 0.98, 0.86))  # type: ignore[arg-type]
    assert "An indication, not evidence" in said
    assert "suspect on base 0.98, of base on suspect 0.86" in said


def test_no_direction_without_both_coefficients() -> None:
    assert phrases.direction(Direction("suspect-from-base", 0.98, None)) == ""
    assert phrases.direction(Direction("suspect-from-base", math.nan, 0.5)) == ""


@pytest.mark.parametrize(("raw", "said"), [("a", "a."), ("a.", "a."), ("a?", "a?"), ("", ""), ("\x1b[2J", "")])
def test_a_sentence_ends(raw: str, said: str) -> None:
    assert phrases.sentence(raw) == said


def test_bytes_read_twice_are_not_a_share_above_everything() -> None:
    once = Cost(800, 700, 500, 0, 0.0)
    assert phrases.cost(once, once).startswith("1.6 kB of 1.0 kB of weight files, parts of them more than once; ")


def test_a_base_that_was_amplified_is_not_called_exactly_all() -> None:
    said = phrases.kept(samples.comparison(kept=Interval(1.04, 1.02, 1.06)))
    assert said.startswith(
        "All of the base is still present in the weights compared, 1.04 times (95% interval 1.02 to 1.06;"
    )
    assert phrases.kept(samples.comparison(kept=Interval(0.995, 0.98, 1.01))) == (
        "About 99.5% of the base is still present in the weights compared (95% interval 98.0% to 101.0%)."
    )
