"""The pictures: what is drawn where, and in which words it is told."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
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
    # Too few heads are no evidence: they look like chance.
    assert [column.get("class") for column in columns] == ["heads", "chance", "chance", "heads"]
    low, high = drawing.chance_band(200, 0.9975)
    assert (low, high) == (79, 121)
    assert title(columns[3]).startswith("layer 3: 150 of 200 heads; chance gives 79 to 121")
    for band in of_class(root, "band"):
        assert number(band, "y") == pytest.approx(BOTTOM - (BOTTOM - TOP) * high / 200, abs=0.01)
        assert number(band, "height") == pytest.approx((BOTTOM - TOP) * (high - low) / 200, abs=0.01)
    assert root.findtext("desc") == (
        "450 of 800 coins came up heads. In 2 of 4 layers the share of heads lies above the band in which chance keeps "
        "all layers with a probability of at least 99%, in 1 below it."
    )


def tossed(coins: Sequence[int], heads: Sequence[int]) -> list[LayerEvidence]:
    return [
        LayerEvidence(str(i), str(i), all_, up, 0.01) for i, (all_, up) in enumerate(zip(coins, heads, strict=True))
    ]


@pytest.mark.parametrize("coins", [[256] * 6, [64, 100, 1000, 3], [448] * 80, [512] * 126, [16] * 320, [9]])
def test_chance_keeps_all_layers_in_their_bands_together(coins: list[int]) -> None:
    bands = drawing.joint_bands(tossed(coins, coins))
    inside = [
        float(binom.cdf(high, n, 0.5) - binom.cdf(low - 1, n, 0.5)) for n, (low, high) in zip(coins, bands, strict=True)
    ]
    assert math.prod(inside) >= 0.99
    # The next smaller bands would not do: no layer's is wider than its share of the 1% asks for.
    for n, (low, _) in zip(coins, bands, strict=True):
        assert binom.cdf(low, n, 0.5) >= 0.005 / len(coins) > binom.cdf(low - 1, n, 0.5)


def test_independent_models_are_blue_in_at_most_one_report_in_a_hundred() -> None:
    rng = np.random.default_rng(3)
    reports = 4000
    heads = rng.binomial(448, 0.5, size=(reports, 80))
    low, high = drawing.joint_bands(tossed([448] * 80, [0] * 80))[0]
    assert ((heads < low) | (heads > high)).any(axis=1).mean() <= 0.01
    alone = drawing.chance_band(448)
    assert ((heads < alone[0]) | (heads > alone[1])).any(axis=1).mean() > 0.4  # what each layer's own band would do
    row = next(row for row in heads if ((row < alone[0]) | (row > alone[1])).any() and row.max() <= high)
    root = parsed(drawing.coins_by_layer(tossed([448] * 80, row.tolist())))
    assert not of_class(root, "heads") and len(of_class(root, "chance")) == 80


def test_layers_without_coins_do_not_widen_the_bands_of_others() -> None:
    assert drawing.joint_bands(tossed([256, 0, 256], [256, 0, 256])) == [
        drawing.chance_band(256, 0.995),
        (0, 0),
        drawing.chance_band(256, 0.995),
    ]


def test_a_layer_without_coins_has_a_mark_and_no_column() -> None:
    root = parsed(drawing.coins_by_layer(samples.upscaled().comparisons[0].layers))
    assert len(of_class(root, "heads")) == 5
    marks = of_class(root, "mark")
    assert len(marks) == 4
    # On the axis: at one half they would pass for layers at chance.
    assert {number(mark, "cy") for mark in marks} == {BOTTOM}
    assert title(marks[0]) == "layer 4: no coins"
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


def test_layers_that_were_not_read_are_not_called_missing() -> None:
    read = [layer for layer in samples.layers([1.0] * 6) if layer.suspect not in ("1", "4")]
    root = parsed(drawing.layer_map(read))
    assert len(of_class(root, "unread")) == 2 and not of_class(root, "missing")
    said = root.findtext("desc") or ""
    assert said.endswith("2 layers of the base without a partner among the layers that were read.")


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
    root = parsed(drawing.layer_map(samples.layers([1.0, 0.75, 0.625])))
    assert [number(one, "fill-opacity") for one in of_class(root, "dot")] == pytest.approx([1.0, 0.62, 0.44], abs=0.01)


def test_a_layer_at_chance_has_no_trace_and_no_dot() -> None:
    layers = samples.layers([1.0, 1.0, 0.5, 1.0, 0.2])
    root = parsed(drawing.layer_map(layers))
    assert len(of_class(root, "dot")) == 3
    assert [title(one).split(",")[:2] for one in of_class(root, "empty")] == [
        ["layer 2: layer 2 of the base", " no trace of it"],
        ["layer 4: layer 4 of the base", " no trace of it"],
    ]
    assert root.findtext("desc") == "Layers of the model: 3 in place; 2 without a trace of the base."


def test_too_few_coins_to_leave_the_band_tell_nothing() -> None:
    layers = [*samples.layers([1.0, 1.0]), LayerEvidence("2", "2", 7, 7, 0.9), LayerEvidence("3", "3", 7, 3, 0.9)]
    root = parsed(drawing.layer_map(layers))
    assert len(of_class(root, "diamond")) == 2 and not of_class(root, "empty")
    assert root.findtext("desc") == "Layers of the model: 2 in place; 2 with too few coins to tell."


def test_models_without_a_trace_of_each_other_have_no_map() -> None:
    layers = samples.unrelated().comparisons[0].layers
    assert drawing.coins_by_layer(layers)
    assert drawing.layer_map(layers) == ""


def test_where_the_coins_are_silent_by_design_the_map_shows_cosines() -> None:
    layers = [LayerEvidence(str(i), str(i), 256, 128, cosine) for i, cosine in enumerate((0.96, 0.5, 0.0))]
    assert drawing.layer_map(layers) == ""
    root = parsed(drawing.layer_map(layers, by_cosine=True))
    assert [number(one, "fill-opacity") for one in of_class(root, "dot")] == pytest.approx([0.97, 0.62, 0.25], abs=0.01)
    assert root.findtext("desc") == "Layers of the model: 3 in place."


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
    assert (root.findtext("desc") or "").endswith("1.50 along the strongest, 0.00 along the faintest; 1 is all.")


def test_the_two_points_of_a_fingerprint_are_bars_without_a_line_between_them() -> None:
    root = parsed(drawing.inheritance_curve(Inheritance(0.2, 0.1, 0.3, ((0.0625, 0.3), (0.5625, 0.9)))))
    assert not of_class(root, "step") and not of_class(root, "dot")
    bars = of_class(root, "part")
    edge = LEFT + (RIGHT - LEFT) * 0.125  # the strongest eighth
    assert [number(bar, "x") for bar in bars] == pytest.approx([LEFT + 1, edge + 1], abs=0.01)
    assert [number(bar, "x") + number(bar, "width") for bar in bars] == pytest.approx([edge - 1, RIGHT - 1], abs=0.02)
    assert [number(bar, "height") for bar in bars] == pytest.approx(
        [(BOTTOM - TOP) * kept / 1.2 for kept in (0.3, 0.9)], abs=0.01
    )
    assert [one.text for one in of_class(root, "value")] == ["0.30", "0.90"]
    assert (root.findtext("desc") or "").endswith("0.30 along the strongest, 0.90 along the others; 1 is all.")


@pytest.mark.parametrize("curve", [(), ((0.5, 1.0),), ((0.5, 1.0), (0.5, 0.9)), ((0.1, math.nan), (0.5, math.inf))])
def test_a_curve_that_is_none_is_not_drawn(curve: tuple[tuple[float, float], ...]) -> None:
    assert drawing.inheritance_curve(Inheritance(None, None, None, curve)) == ""


def kept(share: Interval) -> str:
    return drawing.kept_share(share, "How much of the base is kept", "About half.")


def test_whiskers_end_where_the_interval_does() -> None:
    root = parsed(kept(Interval(0.5, 0.25, 0.75)))
    (bar,) = of_class(root, "heads")
    scale = drawing.shapes.WIDTH - 32
    assert (number(bar, "x"), number(bar, "width")) == pytest.approx((16, scale * 0.5), abs=0.01)
    whisker = of_class(root, "whisker")[0].get("d", "")
    assert [float(value) for value in re.findall(r"[MH]([\d.]+)", whisker)] == pytest.approx(
        [16 + scale * 0.25, 16 + scale * 0.75], abs=0.01
    )
    assert not of_class(root, "arrow")
    assert (root.findtext("title"), root.findtext("desc")) == ("How much of the base is kept", "About half.")
    assert kept(samples.NOT_ESTIMATED) == ""
    assert not of_class(parsed(kept(Interval(0.5, None, None))), "whisker")


@pytest.mark.parametrize(("low", "high"), [(-0.0103, 0.0049), (1.0385, 1.0447), (-2.0, 2.5)])
def test_the_axis_reaches_as_far_as_what_is_known(low: float, high: float) -> None:
    root = parsed(kept(Interval((low + high) / 2, low, high)))
    assert not of_class(root, "arrow")
    line = [float(value) for value in re.findall(r"[MH]([\d.]+)", of_class(root, "whisker")[0].get("d", ""))]
    left, right = min(low, 0.0), max(high, 1.0)
    scale = (drawing.shapes.WIDTH - 32) / (right - left)
    assert line == pytest.approx([16 + (low - left) * scale, 16 + (high - left) * scale], abs=0.01)


def test_what_is_not_determined_has_no_bar_and_its_interval_goes_on_beyond_the_picture() -> None:
    parents = (
        MergeParent("a/b", 0.5, -4.0, 5.0),
        MergeParent("c/d", 0.7, 0.6, 0.8),
        MergeParent("e/f", 0.5, None, None),
        MergeParent("g/h", 0.5, 0.25, 9.0),
    )
    root = parsed(drawing.estimates(parents, "Weights"))
    (bar,) = of_class(root, "heads")
    assert number(bar, "width") == pytest.approx(0.7 * 328, abs=0.01)  # wide intervals do not shrink the others
    assert [one.text for one in of_class(root, "value")] == ["not determined"] * 3
    tips = [float(re.findall(r"L([\d.]+)", one.get("d", ""))[0]) for one in of_class(root, "arrow")]
    assert tips == [16, 344, 344]
    caps = [one.get("d", "") for one in of_class(root, "whisker") if "V" in one.get("d", "")]
    assert len(caps) == 3  # two of c/d, the left one of g/h
    assert caps[2].startswith(f"M{16 + 0.25 * 328:g} ")
    assert root.findtext("desc") == (
        "Estimates: a/b not determined; c/d 0.70; e/f not determined; g/h not determined. The thin lines are 95% "
        "intervals."
    )


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
    for svg in (
        drawing.coins_by_layer(layers),
        drawing.layer_map(layers),
        drawing.layer_map(layers, by_cosine=True),
    ):
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
