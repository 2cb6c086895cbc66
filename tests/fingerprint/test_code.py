"""What a search code holds, byte by byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.population import SHAPES, descendant, fingerprint_of, founder
from lineage_plugin.fingerprint.code import CODE_BYTES, code_units, search_code
from lineage_plugin.fingerprint.types import Fingerprint, Shelf

MODEL = fingerprint_of(founder(1, SHAPES[0]))


def shelf(fingerprint: Fingerprint, kind: str) -> Shelf:
    return next(shelf for shelf in fingerprint.shelves if shelf.kind == kind)


def with_shelves(*shelves: Shelf) -> Fingerprint:
    return replace(MODEL, shelves=shelves)


def cut(found: Shelf, layers: list[int]) -> Shelf:
    """Some layers of a shelf, numbered anew."""
    strips = tuple(
        replace(strip, bits=strip.bits[layers], energy=strip.energy[layers], step=strip.step[layers])
        for strip in found.strips
    )
    return replace(
        found,
        layers=tuple(range(len(layers))),
        strips=strips,
        usable=found.usable[layers],
        clone=found.clone[layers],
        repeats=np.arange(len(layers)),
    )


def test_the_layout_is_the_documented_one() -> None:
    code = search_code(MODEL)
    assert code.shape == (CODE_BYTES,) == (512,) and code.dtype == np.uint8
    for start, kind, role in ((0, "mlp", "up"), (192, "value", "v")):
        bits = next(s for s in shelf(MODEL, kind).strips if s.role == role).bits
        for place, layer in enumerate([0, 1, 2, 3, 4, 5, -1, -2, -3, -4, -5, -6]):
            held = code[start + 16 * place : start + 16 * (place + 1)].reshape(8, 2)
            assert np.array_equal(held, bits[layer, :8, :2]), (kind, layer)
    assert MODEL.stream is not None
    assert np.array_equal(code[384:].reshape(64, 2), MODEL.stream.bits[:64, :2])


def test_a_code_is_the_same_however_much_more_the_fingerprint_holds() -> None:
    for found in (shelf(MODEL, "mlp"), shelf(MODEL, "value")):
        less = replace(
            found,
            strips=tuple(replace(strip, bits=strip.bits[:, :8, :4]) for strip in found.strips[:1]),
            usable=found.usable[:, :8],
            clone=found.clone[:, :8],
        )
        held = code_units(with_shelves(less))
        whole = code_units(with_shelves(found))
        assert np.array_equal(held.neurons, whole.neurons) and np.array_equal(held.values, whole.values)


@pytest.mark.parametrize(("layers", "front", "back"), [(2, 2, 0), (6, 6, 0), (8, 6, 2), (12, 6, 6), (32, 6, 6)])
def test_no_layer_is_named_twice(layers: int, front: int, back: int) -> None:
    code = search_code(with_shelves(cut(shelf(MODEL, "mlp"), list(range(layers)))))
    held = code[:192].reshape(2, 6, 16).any(axis=2)
    assert held[0].tolist() == [place < front for place in range(6)]
    assert held[1].tolist() == [place < back for place in range(6)]


def test_what_a_model_lacks_is_zero() -> None:
    found = shelf(MODEL, "mlp")
    usable = found.usable.copy()
    usable[0, 3] = False
    assert MODEL.stream is not None
    alive = MODEL.stream.usable.copy()
    alive[5] = False
    whole = search_code(MODEL)
    code = search_code(
        replace(MODEL, shelves=(replace(found, usable=usable),), stream=replace(MODEL.stream, usable=alive))
    )
    assert not code[6:8].any() and np.array_equal(code[:6], whole[:6]) and np.array_equal(code[8:192], whole[8:192])
    assert not code[192:384].any()
    assert not code[394:396].any() and np.array_equal(code[396:], whole[396:])
    assert not search_code(replace(MODEL, shelves=(), stream=None)).any()


def test_the_leading_role_does_not_depend_on_the_order_of_roles_or_shelves() -> None:
    turned = [replace(found, strips=found.strips[::-1]) for found in MODEL.shelves[::-1]]
    assert np.array_equal(search_code(with_shelves(*turned)), search_code(MODEL))


def test_the_first_expert_stands_where_the_dense_mlp_stood() -> None:
    dense = founder(1, SHAPES[0])
    experts = fingerprint_of(descendant(2, dense, "experts", 1.0))
    first = shelf(experts, "experts")
    second = replace(first, part=1, strips=tuple(replace(s, bits=~s.bits) for s in first.strips))
    code = search_code(replace(experts, shelves=(second, *experts.shelves)))
    assert np.array_equal(code, search_code(MODEL))


def test_layers_of_several_forms_are_one_stack() -> None:
    whole = shelf(MODEL, "mlp")
    # As where each layer has an MLP of its own width.
    alone = [replace(cut(whole, [at]), layers=(at,), units=whole.units + at) for at in range(32)]
    assert np.array_equal(search_code(with_shelves(*alone)), search_code(with_shelves(whole)))


def test_vectors_with_too_few_bits_are_left_out() -> None:
    found = shelf(MODEL, "value")
    tiny = replace(found, strips=tuple(replace(strip, bits=strip.bits[:, :, :1]) for strip in found.strips))
    assert not search_code(replace(MODEL, shelves=(tiny,), stream=None)).any()
