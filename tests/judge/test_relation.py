"""Which relation a body of evidence supports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lineage_plugin.evidence.effects import MatrixEffect
from lineage_plugin.evidence.evalue import log10_e_value
from lineage_plugin.evidence.gather import PairEvidence
from lineage_plugin.evidence.inheritance import Curve, Descent
from lineage_plugin.evidence.ledger import CoinCount
from lineage_plugin.judge.relation import ancestor_of, is_decided, relation_of

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


WAY_BACK = statistics((0.85, 0.95), (0.3, 0.5))  # a descendant that went far, in the place of the ancestor


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
        ((0.4, 0.5), (0.95, 1.1), "inconclusive"),  # ternary weights of a descendant: measured 0.45 and 1.02
        ((0.9, 1.1), (0.85, 0.94), "inconclusive"),  # short twins: measured 0.93 and 0.92
        (None, (0.3, 0.5), "shared-init"),
        (None, (0.9, 1.0), "inconclusive"),
        (None, None, "inconclusive"),
        ((0.5, 0.9), (0.9, 1.0), "inconclusive"),
        ((0.82, 0.97), (0.3, 0.5), "shared-init"),  # the same in GPT-2: measured slopes of twins reach 0.95
        ((1.02, 1.07), (0.5, 0.64), "inconclusive"),  # siblings far from their base: measured 1.05 and 0.60
        ((0.9, 1.1), (0.7, 1.3), "inconclusive"),
    ],
)
def test_dependent_models(
    slope: tuple[float, float] | None, contrast: tuple[float, float] | None, expected: str
) -> None:
    evidence = replace(HEADS, descent=statistics(slope, contrast), ascent=WAY_BACK)
    assert relation(evidence) == expected


@pytest.mark.parametrize(
    ("there", "contrast", "back"),
    [
        ((0.89, 1.13), (1.16, 1.45), (0.33, 0.41)),  # measured: twins of models stopped after 100 and 300 steps
        ((1.05, 1.31), (0.81, 1.06), (0.44, 0.52)),
        ((1.04, 1.81), (0.93, 1.26), (0.43, 0.51)),
        ((0.88, 1.65), (0.81, 0.99), (0.54, 0.65)),
    ],
)
def test_a_twin_of_a_hardly_trained_model_is_not_its_descendant(
    there: tuple[float, float], contrast: tuple[float, float], back: tuple[float, float]
) -> None:
    down, up = statistics(there, contrast), statistics(back, (0.1, 0.4))
    whole, part = MatrixEffect(0.95, 0.94, 0.96), MatrixEffect(0.4, 0.39, 0.41)
    one = replace(HEADS, descent=down, ascent=up, kept=whole, reverse=part)
    other = replace(HEADS, descent=up, ascent=down, kept=part, reverse=whole)
    assert relation_of(one, 9.0) == (
        "inconclusive",
        "the models are dependent, but the base has learned too little to tell descent from a shared initialisation",
    )
    assert ancestor_of(one) is None
    assert relation(other) in ("inconclusive", "shared-init")
    assert "the suspect has learned too little" in relation_of(other, 9.0)[1] or relation(other) == "shared-init"
    assert ancestor_of(other) is None


def test_descent_needs_a_measured_way_back() -> None:
    evidence = replace(HEADS, descent=statistics((0.9, 1.1), (0.95, 1.05)))
    assert relation(evidence) == "inconclusive"
    assert relation(replace(evidence, ascent=WAY_BACK)) == "derived"


def test_descent_is_found_with_either_model_as_the_ancestor() -> None:
    down, up = statistics((0.6, 0.7), (0.2, 0.3)), statistics((0.95, 1.1), (1.0, 1.2))
    larger, smaller = MatrixEffect(0.9, 0.89, 0.91), MatrixEffect(0.3, 0.29, 0.31)
    turned = replace(HEADS, descent=down, ascent=up, kept=smaller, reverse=larger)
    assert relation(turned) == "derived"
    assert ancestor_of(turned) == "suspect"
    straight = replace(HEADS, descent=up, ascent=down, kept=larger, reverse=smaller)
    assert relation(straight) == "derived"
    assert ancestor_of(straight) == "base"


def test_a_refuted_likelier_ancestor_is_a_veto() -> None:
    """Noise on a twin: the noisy one contains the other nearly whole, so that only the unlikelier way looks steep."""
    down, up = statistics((0.5, 0.6), (0.3, 0.4)), statistics((1.9, 2.3), (1.1, 1.4))
    noisy = replace(
        HEADS, descent=down, ascent=up, kept=MatrixEffect(0.5, 0.4, 0.6), reverse=MatrixEffect(0.2, 0.1, 0.3)
    )
    assert relation(noisy) == "inconclusive"
    assert ancestor_of(noisy) is None
    assert relation(replace(noisy, ascent=statistics((0.5, 0.7), (0.3, 0.4)))) == "shared-init"


def test_silence_is_unrelated_only_when_every_layer_was_read_and_the_rest_ruled_out() -> None:
    assert relation(SILENT) == "unrelated"
    assert relation(replace(SILENT, complete=False)) == "inconclusive"
    assert relation(replace(SILENT, kept=MatrixEffect(0.0, -0.2, 0.2))) == "inconclusive"
    assert relation(replace(SILENT, kept=MatrixEffect(None, None, None))) == "inconclusive"


def test_nothing_is_claimed_between_silence_and_the_bar() -> None:
    assert relation(replace(SILENT, log10_e=5.0)) == "inconclusive"
    assert (
        relation_of(replace(HEADS, log10_e=5.0, descent=statistics((0.9, 1.1), None), ascent=WAY_BACK), 4.0)[0]
        == "derived"
    )


def test_structures_that_differ_are_named_and_not_compared() -> None:
    evidence = PairEvidence(mismatch="depth differs: 6 layers against 8")
    found, reason = relation_of(evidence, 9.0)
    assert found == "inconclusive"
    assert "depth differs: 6 layers against 8" in reason


def test_no_coins() -> None:
    assert relation_of(PairEvidence(), 9.0) == ("inconclusive", "no unit could be compared")


def test_reading_goes_on_until_a_relation_stands() -> None:
    assert is_decided(SILENT, 9.0)
    assert not is_decided(replace(SILENT, complete=False), 9.0)
    derived = replace(HEADS, descent=statistics((0.9, 1.1), None), ascent=WAY_BACK, complete=False)
    assert is_decided(derived, 9.0)
    # The mean over the tensors of an unknown graph is an e-value only once all of them were read.
    assert not is_decided(replace(derived, exact=False), 9.0)
    assert is_decided(replace(derived, exact=False, complete=True), 9.0)
