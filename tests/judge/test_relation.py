"""Which relation a body of evidence supports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.gather import PairEvidence
from lineage_plugin.evidence.inheritance import Curve, Descent
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.judge.relation import is_decided, relation_of

SILENT = PairEvidence(
    log10_e=log10_e_value(1520, 3072),
    count=CoinCount(3072, 1520),
    kept=MatrixEffect(0.0, -0.01, 0.01),
    complete=True,
)
HEADS = replace(
    SILENT, log10_e=log10_e_value(3072, 3072), count=CoinCount(3072, 3072), kept=MatrixEffect(0.9, 0.89, 0.91)
)


def statistics(slope: tuple[float, float] | None, contrast: tuple[float, float] | None) -> Descent:
    curve = Curve((), sum(contrast) / 2, *contrast) if contrast else Curve()
    return Descent(sum(slope) / 2, *slope, curve) if slope else Descent(curve=curve)


def relation(evidence: PairEvidence) -> str:
    return relation_of(evidence, 9.0)[0]


@pytest.mark.parametrize(
    ("slope", "contrast", "expected"),
    [
        ((0.9, 1.1), (0.95, 1.05), "derived"),
        ((0.9, 1.1), None, "derived"),
        ((1.6, 2.2), (1.2, 1.5), "derived"),
        ((0.1, 0.3), (0.1, 0.2), "shared-init"),
        ((0.1, 0.3), None, "shared-init"),
        ((0.2, 0.5), (0.8, 1.0), "shared-init"),  # convolutions: nothing of the start is left anywhere
        ((0.5, 0.9), (0.3, 0.5), "shared-init"),  # busy units are busy in both runs; the contrast tells
        (None, (0.3, 0.5), "shared-init"),
        (None, (0.9, 1.0), "inconclusive"),
        (None, None, "inconclusive"),
        ((0.5, 0.9), (0.9, 1.0), "inconclusive"),
        ((0.9, 1.1), (0.3, 0.5), "shared-init"),  # the same in GPT-2: measured slopes of twins reach 0.95
        ((0.9, 1.1), (0.7, 1.3), "inconclusive"),
    ],
)
def test_dependent_models(
    slope: tuple[float, float] | None, contrast: tuple[float, float] | None, expected: str
) -> None:
    evidence = replace(HEADS, descent=statistics(slope, contrast), ascent=statistics((0.1, 0.2), (0.1, 0.2)))
    assert relation(evidence) == expected


def test_descent_is_found_with_either_model_as_the_ancestor() -> None:
    down, up = statistics((0.1, 0.3), (0.2, 0.3)), statistics((0.95, 1.1), (1.0, 1.2))
    assert relation(replace(HEADS, descent=down, ascent=up)) == "derived"
    assert relation(replace(HEADS, descent=up, ascent=down)) == "derived"


def test_silence_is_unrelated_only_when_every_layer_was_read_and_the_rest_ruled_out() -> None:
    assert relation(SILENT) == "unrelated"
    assert relation(replace(SILENT, complete=False)) == "inconclusive"
    assert relation(replace(SILENT, kept=MatrixEffect(0.0, -0.2, 0.2))) == "inconclusive"
    assert relation(replace(SILENT, kept=MatrixEffect(None, None, None))) == "inconclusive"


def test_nothing_is_claimed_between_silence_and_the_bar() -> None:
    assert relation(replace(SILENT, log10_e=5.0)) == "inconclusive"
    assert relation_of(replace(HEADS, log10_e=5.0, descent=statistics((0.9, 1.1), None)), 4.0)[0] == "derived"


def test_structures_that_differ_are_named_and_not_compared() -> None:
    evidence = PairEvidence(mismatch="depth differs: 6 layers against 8")
    found, reason = relation_of(evidence, 9.0)
    assert found == "inconclusive"
    assert "depth differs: 6 layers against 8" in reason


def test_no_coins() -> None:
    assert relation_of(PairEvidence(), 9.0) == ("inconclusive", "there are no comparable units")


def test_reading_goes_on_until_a_relation_stands() -> None:
    assert is_decided(SILENT, 9.0)
    assert not is_decided(replace(SILENT, complete=False), 9.0)
    derived = replace(HEADS, descent=statistics((0.9, 1.1), None), complete=False)
    assert is_decided(derived, 9.0)
    # The mean over the tensors of an unknown graph is an e-value only once all of them were read.
    assert not is_decided(replace(derived, exact=False), 9.0)
    assert is_decided(replace(derived, exact=False, complete=True), 9.0)
