"""The pictures: what is drawn where, and in which words it is told."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from lineage_plugin.judge.types import Candidate, Inheritance, Interval, LayerEvidence, MergeParent
from lineage_plugin.report import drawing
from tests.report import samples

TOP, BOTTOM, LEFT, RIGHT = 14.0, 150.0, 44.0, 352.0


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("role") == "img"
    assert [child.tag for child in root[:2]] == ["title", "desc"]
    assert all(child.text for child in root[:2])
    return root


def of_class(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if kind in (one.get("class") or "").split()]


def number(one: ElementTree.Element, name: str) -> float:
    return float(one.get(name, "nan"))


def title(one: ElementTree.Element) -> str:
    return one.findtext("title") or ""


@pytest.mark.parametrize("coins", [1, 2, 3, 4, 7, 8, 9, 10, 64, 101, 256, 999, 3072, 50_001, 1_000_000])
def test_the_band_is_that_of_the_binomial_distribution(coins: int) -> None:
    low, high = drawing.chance_band(coins)
    assert low == binom.ppf(0.005, coins, 0.5)
    assert high == coins - low
    assert binom.cdf(low - 1, coins, 0.5) <= 0.005 and binom.sf(high, coins, 0.5) <= 0.005
    assert binom.cdf(high, coins, 0.5) - binom.cdf(low - 1, coins, 0.5) >= 0.99


@given(st.integers(1, 5000), st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_the_band_for_any_number_of_coins(coins: int, level: float) -> None:
    low, high = drawing.chance_band(coins, level)
    assert low + high == coins
    tail = (1 - level) / 2
    assert binom.cdf(low, coins, 0.5) >= tail - 1e-12
    assert binom.cdf(low - 1, coins, 0.5) < tail + 1e-12


def test_no_coins_have_no_band() -> None:
    assert drawing.chance_band(0) == (0, 0)


def test_columns_reach_from_one_half_to_the_share_of_heads() -> None:
    shares = [1.0, 0.5, 0.0, 0.75]
    root = parsed(drawing.coins_by_layer(samples.layers(shares, coins=200)))
    step = (RIGHT - LEFT) / 4
    columns = sorted(of_class(root, "heads") + of_class(root, "chance"), key=lambda one: number(one, "x"))
    for place, (share, column) in enumerate(zip(shares, columns, strict=True)):
        ends = sorted(BOTTOM - (BOTTOM - TOP) * end for end in (share, 0.5))
        assert number(column, "y") == pytest.approx(ends[0], abs=0.01)
        assert number(column, "height") == pytest.approx(max(1.2, ends[1] - ends[0]), abs=0.01)
        assert number(column, "x") + number(column, "width") / 2 == pytest.approx(LEFT + (place + 0.5) * step, abs=0.02)
    assert [column.get("class") for column in columns] == ["heads", "chance", "heads", "heads"]
    assert title(columns[3]).startswith("layer 3: 150 of 200 heads; chance gives 82 to 118")
    for band in of_class(root, "band"):
        assert number(band, "y") == pytest.approx(BOTTOM - (BOTTOM - TOP) * 118 / 200, abs=0.01)
        assert number(band, "height") == pytest.approx((BOTTOM - TOP) * 36 / 200, abs=0.01)
    assert "In 3 of 4 layers" in (root.findtext("desc") or "")


def test_a_layer_without_coins_has_a_mark_and_no_column() -> None:
    root = parsed(drawing.coins_by_layer(samples.upscaled().comparisons[0].layers))
    assert len(of_class(root, "heads")) == 5
    assert len(of_class(root, "mark")) == 4
    assert drawing.coins_by_layer([LayerEvidence("0", "0", 0, 0, 0.5)]) == ""


def cell(root: ElementTree.Element) -> tuple[float, float]:
    """Width and height of a cell, from the frame and the words of the description."""
    (frame,) = of_class(root, "frame")
    return number(frame, "width"), number(frame, "height")


def centre(one: ElementTree.Element) -> tuple[float, float]:
    if one.tag == "circle":
        return number(one, "cx"), number(one, "cy")
    values = [float(value) for value in re.findall(r"-?[\d.]+", one.get("d", ""))]
    return (max(values[::2]) + min(values[::2])) / 2, (max(values[1::2]) + min(values[1::2])) / 2


def positions(layers: Sequence[LayerEvidence], columns: int) -> list[tuple[str, int, float]]:
    """Read the map back: the shape, the suspect's layer and the column of every mark."""
    root = parsed(drawing.layer_map(layers))
    width, height = cell(root)
    across, down = width / columns, height / len(layers)
    marks = [one for kind in ("dot", "ring", "diamond", "cross") for one in of_class(root, kind)]
    found = []
    for mark in marks:
        x, y = centre(mark)
        column = (x - LEFT) / across - 0.5
        found.append((mark.get("class") or "", round((y - 34.0) / down - 0.5), round(column, 1)))
    return sorted(found, key=lambda one: one[1])


def test_an_unchanged_order_is_the_diagonal() -> None:
    found = positions(samples.layers([1.0] * 6), 6)
    assert [(kind, mine, round(base)) for kind, mine, base in found] == [("dot", i, i) for i in range(6)]


def test_moved_repeated_new_and_missing_layers_have_shapes_of_their_own() -> None:
    layers = samples.upscaled().comparisons[0].layers
    found = positions(layers, 6)
    assert [(kind, mine) for kind, mine, _ in found] == [
        *[("dot", 0), ("dot", 1), ("dot", 2), ("dot", 3), ("ring", 4), ("ring", 5), ("ring", 6), ("cross", 7)],
        ("dot", 8),
    ]
    assert [round(base) for kind, _, base in found if kind != "cross"] == [0, 1, 2, 3, 1, 2, 3, 5]
    root = parsed(drawing.layer_map(layers))
    (missing,) = of_class(root, "missing")
    assert number(missing, "x") == pytest.approx(LEFT + 4 * cell(root)[0] / 6, abs=0.02)
    said = root.findtext("desc") or ""
    assert said == (
        "Layers of the model: 4 in place; 1 at another place; 3 repeated from a layer of the base; 1 new, in no layer "
        "of the base; 1 layer of the base missing."
    )


def test_the_map_of_a_deep_model_is_read_back_exactly() -> None:
    layers = samples.deep().comparisons[0].layers
    found = positions(layers, 80)
    assert [round(base) for _, _, base in found] == [i if i < 60 else i - 40 for i in range(120)]
    assert [kind for kind, _, _ in found] == ["dot"] * 60 + ["ring"] * 40 + ["dot"] * 20


def test_layers_known_by_name_stand_in_the_order_of_their_names() -> None:
    names = [f"encoder.block.{i}.conv.weight" for i in range(5)]
    layers = [LayerEvidence(name, name, 64, 64, 0.9) for name in names]
    assert [round(base) for _, _, base in positions(layers, 5)] == list(range(5))
    root = parsed(drawing.layer_map(layers))
    assert [one.text for one in of_class(root, "tick")] == ["1", "2", "3", "4", "5"] * 2


def test_the_more_heads_the_darker() -> None:
    root = parsed(drawing.layer_map(samples.layers([1.0, 0.75, 0.5, 0.2])))
    assert [number(one, "fill-opacity") for one in of_class(root, "dot")] == pytest.approx(
        [1.0, 0.62, 0.25, 0.25], abs=0.01
    )


@pytest.mark.parametrize("most", [drawing.MOST_LAYERS, drawing.MOST_LAYERS + 40])
def test_very_many_layers_are_cut_and_counted(most: int) -> None:
    root = parsed(drawing.layer_map(samples.layers([1.0] * most)))
    assert len(of_class(root, "dot")) == drawing.MOST_LAYERS
    assert ("40 further layers not drawn" in (root.findtext("desc") or "")) == (most > drawing.MOST_LAYERS)
    assert not of_class(root, "missing")


def test_the_curve_passes_through_its_points() -> None:
    root = parsed(drawing.inheritance_curve(Inheritance(0.9, 0.8, 1.0, ((0.0625, 1.5), (0.5, 1.0), (0.9375, 0.0)))))
    x = [LEFT + (RIGHT - LEFT) * share for share in (0.0625, 0.5, 0.9375)]
    y = [BOTTOM - (BOTTOM - TOP) * kept / 1.65 for kept in (1.5, 1.0, 0.0)]
    dots = of_class(root, "dot")
    assert [number(dot, "cx") for dot in dots] == pytest.approx(x, abs=0.01)
    assert [number(dot, "cy") for dot in dots] == pytest.approx(y, abs=0.01)
    (half,) = of_class(root, "half")
    assert number(half, "y1") == pytest.approx(y[1], abs=0.01)
    assert [one.text for one in of_class(root, "value")] == ["1.50", "0.00"]


@pytest.mark.parametrize("curve", [(), ((0.5, 1.0),), ((0.5, 1.0), (0.5, 0.9)), ((0.1, math.nan), (0.5, math.inf))])
def test_a_curve_that_is_none_is_not_drawn(curve: tuple[tuple[float, float], ...]) -> None:
    assert drawing.inheritance_curve(Inheritance(None, None, None, curve)) == ""


def test_whiskers_end_where_the_interval_does() -> None:
    root = parsed(drawing.kept_share(Interval(0.5, 0.25, 0.75)))
    (bar,) = of_class(root, "heads")
    scale = drawing.WIDTH - 32
    assert (number(bar, "x"), number(bar, "width")) == pytest.approx((16, scale * 0.5), abs=0.01)
    whisker = of_class(root, "whisker")[0].get("d", "")
    assert [float(value) for value in re.findall(r"[MH]([\d.]+)", whisker)] == pytest.approx(
        [16 + scale * 0.25, 16 + scale * 0.75], abs=0.01
    )
    assert root.findtext("desc") == "Estimate 50.0% of the base, 95% interval 25.0% to 75.0%."
    assert drawing.kept_share(samples.NOT_ESTIMATED) == ""
    assert not of_class(parsed(drawing.kept_share(Interval(0.5, None, None))), "whisker")


def test_weights_are_drawn_to_scale() -> None:
    parents = (
        MergeParent("a/b", 0.3, 0.2, 0.4),
        MergeParent("c/d", 0.7, 0.6, 0.8),
        MergeParent("e/f", None, None, None),
    )
    root = parsed(drawing.estimates(parents, "Weights"))
    assert [number(bar, "width") for bar in of_class(root, "heads")] == pytest.approx([0.3 * 328, 0.7 * 328], abs=0.01)
    assert [one.text for one in of_class(root, "label")] == ["a/b", "c/d"]
    assert drawing.estimates((MergeParent("a", math.nan, None, None), Candidate("b", 1e300, None, None)), "x") == ""


texts = st.text(max_size=40) | st.sampled_from(
    [samples.HOSTILE, "<script>", '"><svg onload=x>', "&amp;", "]]>", "9" * 5000]
)
floats = st.floats()


@given(
    st.lists(
        st.builds(LayerEvidence, texts, texts | st.none(), st.integers(0, 50), st.integers(0, 50), floats), max_size=12
    )
)
def test_any_layers_make_well_formed_pictures(layers: list[LayerEvidence]) -> None:
    for svg in (drawing.coins_by_layer(layers), drawing.layer_map(layers)):
        if svg:
            root = parsed(svg)
            assert {one.tag for one in root.iter()} <= {
                "svg",
                "title",
                "desc",
                "rect",
                "line",
                "text",
                "circle",
                "path",
            }
            assert not re.search(r"nan|inf", " ".join(v for one in root.iter() for k, v in one.items() if k != "class"))


@given(st.lists(st.builds(MergeParent, texts, floats | st.none(), floats | st.none(), floats | st.none()), max_size=20))
def test_any_estimates_make_well_formed_pictures(parents: list[MergeParent]) -> None:
    svg = drawing.estimates(parents, "Weights")
    if svg:
        assert not re.search(r"nan|inf", " ".join(v for one in parsed(svg).iter() for v in one.attrib.values()))
