"""The picture of the layers as a map: what moved, what was repeated, what is new."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from lineage_plugin.judge.types import LayerEvidence
from lineage_plugin.report import render
from lineage_plugin.report.picture import MAX_RUNS, Bar, picture
from tests.report import samples

Row = tuple[int, "int | None"]


def lines(rows: list[Row], width: int = 66, *, unicode: bool = False) -> list[Bar]:
    return picture(samples.mapped(rows), width=width, unicode=unicode)


def runs(rows: list[Row], *, unicode: bool = False) -> str:
    """Return the map that is written under a strip; empty without one."""
    lead = "Model ← base: " if unicode else "Model <- base: "
    found = [line.note for line in lines(rows, unicode=unicode) if line.note.startswith(lead)]
    return found[0].removeprefix(lead).removesuffix(".") if found else ""


def expand(written: str) -> list[tuple[int, int | None, bool]]:
    """Read a map back: suspect's layer, base's layer, whether it stood before."""
    found: list[tuple[int, int | None, bool]] = []
    for run in written.split(", "):
        match = re.fullmatch(r"(\d+)(?:-(\d+))? (?:new|<- (\d+)(?:-(\d+))?( \(again\))?)", run)
        assert match, run
        first, last, base, base_last, again = match.groups()
        length = int(last or first) - int(first) + 1
        if base is not None:
            assert int(base_last or base) - int(base) + 1 == length, run
        for step in range(length):
            found.append((int(first) + step, None if base is None else int(base) + step, bool(again)))
    return found


def test_a_moved_layer_names_both_sides_and_the_legend_explains_it() -> None:
    found = lines([(0, 0), (1, 3), (2, 4)])
    assert [bar.label for bar in found[:3]] == ["layer 0", "layer 1 <- 3", "layer 2 <- 4"]
    assert "1 <- 3: layer 1 corresponds to layer 3 of the base." in found[-1].note
    assert "corresponds" not in lines([(0, 0), (1, 1)])[-1].note


def test_a_repeated_layer_is_not_called_untested() -> None:
    found = lines([(0, 0), (1, 1), (2, 0), (3, 1)])
    assert [bar.note for bar in found[2:4]] == [
        "repeats layer 0 of the base  cos 0.96",
        "repeats layer 1 of the base  cos 0.96",
    ]
    assert [bool(bar.bar) for bar in found[:4]] == [True, True, False, False]


def test_a_layer_without_coins_whose_base_layer_was_not_seen_is_untested() -> None:
    bare = (LayerEvidence("0", "0", 0, 0, 0.5), LayerEvidence("1", "0", 64, 64, 0.5))
    assert [bar.note for bar in picture(bare, width=66, unicode=True)[:2]] == [
        "not tested  cos 0.50",
        "64/64 heads  cos 0.50",
    ]


def test_a_new_layer_has_neither_bar_nor_cosine() -> None:
    found = lines([(0, 0), (1, None)])
    assert found[1] == Bar("layer 1", "", "new: no layer of the base")


def test_a_map_is_drawn_in_unicode_and_in_ascii() -> None:
    shown = render(samples.upscaled(), "text", width=100)
    plain = render(samples.upscaled(), "text", width=100, unicode=False)
    assert "layer 4 ← 1 " in shown
    assert "layer 4 <- 1 " in plain
    assert plain.isascii()
    for rendered in (shown, plain):
        assert rendered.count("repeats layer") == 3
        assert rendered.count("new: no layer of the base") == 1
        assert "not tested" not in rendered


def test_runs_as_in_the_example() -> None:
    rows: list[Row] = [(i, i) for i in range(6)] + [(i, i - 4) for i in range(6, 10)] + [(10, None)]
    rows += [(i, i - 5) for i in range(11, 20)]
    assert runs(rows) == "0-5 <- 0-5, 6-9 <- 2-5 (again), 10 new, 11-19 <- 6-14"
    assert runs(rows, unicode=True).startswith("0-5 ← 0-5, 6-9 ← 2-5 (again), 10 new")


def test_80_layers_scaled_up_to_120() -> None:
    layers = samples.deep().comparisons[0].layers
    found = picture(layers, width=66, unicode=False)
    strips = [bar for bar in found if bar.bar]
    assert [bar.label for bar in strips] == ["0-35", "36-71", "72-107", "108-119"]
    signs = "".join(bar.bar for bar in strips)
    assert signs == "#" * 60 + "r" * 40 + "#" * 20
    assert [bar.note for bar in found if bar.note.startswith("Model")] == [
        "Model <- base: 0-59 <- 0-59, 60-99 <- 20-59 (again), 100-119 <- 60-79."
    ]
    assert "r: repeats a layer of the base" in found[-1].note
    assert "n: new" not in found[-1].note
    # Repeats have no coins, which is no reason to point at them.
    assert not any("below the others" in bar.note for bar in found)


def test_layers_in_place_have_no_map() -> None:
    assert runs([(i, i) for i in range(30)]) == ""


def test_layers_that_were_left_out_break_a_run() -> None:
    assert runs([(2 * i, i) for i in range(20)]).startswith("0 <- 0, 2 <- 1, 4 <- 2, ")


def test_words_stand_beside_the_label_where_there_is_no_room_for_a_bar() -> None:
    narrow, wide = (render(samples.upscaled(), "text", width=width).split("\n") for width in (40, 100))
    assert " " * 14 + "7      new: no layer of" in narrow
    assert " " * 14 + "layer 7" + " " * (6 + 24 + 2) + "new: no layer of the base" in wide


def test_a_strip_marks_what_is_new_or_untested() -> None:
    rows: list[Row] = [(i, i if i < 20 else None) for i in range(22)]
    found = picture(
        (*samples.mapped(rows), LayerEvidence("22", "20", 0, 0, 0.1)),
        width=66,
        unicode=True,
    )
    assert found[0].bar == "█" * 20 + "nn?"
    assert "n: new, no layer of the base" in found[-1].note
    assert "?: not tested" in found[-1].note


def test_a_scrambled_map_is_cut() -> None:
    said = runs([(i, 199 - i) for i in range(200)])
    assert said.count(" <- ") == MAX_RUNS
    assert said.endswith(f"and {200 - MAX_RUNS} more runs; the JSON report lists all")


@given(st.lists(st.one_of(st.none(), st.integers(0, 12)), min_size=17, max_size=40))
def test_the_runs_say_exactly_which_layer_became_which(bases: list[int | None]) -> None:
    rows: list[Row] = list(enumerate(bases))
    said = runs(rows)
    cut = " more runs" in said
    found = expand(said.partition(", and ")[0])
    assert cut or len(found) == len(rows)
    before: set[int] = set()
    for (mine, base), (layer, other, again) in zip(rows, found, strict=False):
        assert (layer, other) == (mine, base)
        assert again == (base in before)
        before |= set() if base is None else {base}


def test_numbers_survive_where_the_word_layer_does_not_fit() -> None:
    found = lines([(0, 0), (1, 0), (12, 11)], 20)
    assert [bar.label for bar in found[:3]] == ["0", "1 <- 0", "12 <- 11"]


def test_many_tensor_names_with_new_ones_show_those_that_were_tested() -> None:
    tested = [LayerEvidence(f"t{i}.w", f"t{i}.w", 200, 100 + i, 0.1) for i in range(12)]
    new = [LayerEvidence(f"adapter{i}.w", None, 0, 0, 0.0) for i in range(50)]
    found = picture([*new, *tested], width=66, unicode=True)
    assert sum("/200 heads" in bar.note for bar in found) == 10
    assert "of 62; the JSON report lists all" in found[-1].note
    alone = picture(new, width=66, unicode=True)
    assert sum("new: no layer of the base" in bar.note for bar in alone) == 10


NAMES = st.one_of(
    st.integers(0, 30).map(str),
    st.text(max_size=12),
    st.sampled_from(["", "²", "٣", "-1", "1e3", "9" * 5000, "\x1b[2J", "0", "00", " 1", "1\n"]),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.builds(
            LayerEvidence,
            NAMES,
            st.one_of(st.none(), NAMES),
            st.just(8),
            st.integers(0, 8),
            st.floats(allow_nan=True),
        )
        | st.builds(LayerEvidence, NAMES, st.one_of(st.none(), NAMES), st.just(0), st.just(0), st.just(0.5)),
        max_size=24,
    ),
    st.integers(26, 96),
    st.booleans(),
)
def test_any_layers_are_drawn(layers: list[LayerEvidence], width: int, unicode: bool) -> None:
    found = picture(layers, width=width, unicode=unicode)
    assert bool(found) == bool(layers)
    for bar in found:
        assert len(bar.bar) <= 40
        assert (bar.label + bar.bar + bar.note).isprintable()


@pytest.mark.parametrize("width", [40, 52, 80, 110])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_map_fits(width: int, unicode: bool) -> None:
    for sample in (samples.upscaled(), samples.deep(), samples.hostile()):
        rendered = render(sample, "text", width=width, unicode=unicode)
        assert all(cell_len(line) <= width for line in rendered.split("\n"))
