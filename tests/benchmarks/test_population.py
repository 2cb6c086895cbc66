"""The synthetic population against what it stands for: sketches of real vectors, and codes of whole fingerprints."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.population import KINDS, SHAPES, Model, descendant, ends_of, fingerprint_of, founder, layers_of
from lineage_plugin.fingerprint.code import search_code
from lineage_plugin.fingerprint.file import read_fingerprint, to_bytes
from lineage_plugin.fingerprint.sketch import sketch


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_bits_of_descendants_agree_as_sketches_of_vectors_do(kept: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((256, 1024)).astype(np.float32)
    y = kept * x + np.sqrt(1 - kept**2) * rng.standard_normal(x.shape).astype(np.float32)
    vectors = 1 - np.unpackbits(sketch(x, 64)[0] ^ sketch(y, 64)[0]).mean()
    base = founder(1, SHAPES[0])
    child = descendant(2, base, "fine-tuned", kept)
    a, b = (fingerprint_of(model).shelves[0].strips[0].bits for model in (base, child))
    drawn = 1 - np.unpackbits(a ^ b).mean()
    law = 1 - np.arccos(kept) / np.pi
    # Five standard deviations of 16,384 and of 131,072 independent bits.
    assert abs(vectors - law) < 5 * 0.5 / np.sqrt(256 * 64)
    assert abs(drawn - law) < 5 * 0.5 / np.sqrt(16 * 256 * 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4], SHAPES[8]], ids=lambda shape: shape.name)
def test_codes_of_ends_are_those_of_whole_fingerprints(kind: str, shape) -> None:  # type: ignore[no-untyped-def]
    model: Model = founder(1, shape)
    for number in (2, 3):
        model = descendant(number, model, kind, 0.7)
        code = search_code(fingerprint_of(model))
        assert np.array_equal(search_code(ends_of(model)), code)
        assert np.array_equal(search_code(layers_of(model)), code)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_fingerprints_are_valid(shape) -> None:  # type: ignore[no-untyped-def]
    data = to_bytes(fingerprint_of(descendant(2, founder(1, shape), "quantised", 0.99)))
    assert to_bytes(read_fingerprint(data, "here")) == data
