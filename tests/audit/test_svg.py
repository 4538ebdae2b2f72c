"""Drawings: positions, places of labels, bins, thinned curves."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bap_jax.audit.svg import axis, bars, curves, histogram, marks
from bap_jax.audit.svg.axis import Axis
from bap_jax.audit.svg.curves import Level, Series
from bap_jax.audit.svg.histogram import Marked
from bap_jax.audit.svg.slope import spread


def test_text_and_attributes_are_escaped():
    drawn = marks.text(10, 5, "<b>&", "a\"b'")
    assert "&lt;b&gt;&amp;" in drawn and "<b>" not in drawn
    assert 'class="a&#34;b&#39;"' in drawn


def test_a_bar_may_be_given_from_either_end():
    assert marks.bar(20, 50, 0, 5, "x") == marks.bar(50, 20, 0, 5, "x")


@pytest.mark.parametrize(("words", "shown"), [("abc", "abc"), ("abcd", "ab…"), ("a cd", "a…")])
def test_long_words_are_shortened(words, shown):
    assert marks.shorten(words, 3) == shown


def test_positions_along_an_axis():
    assert Axis(-1, 3).at(0) == 25
    assert Axis(-1, 3).at(99) == 100


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(2, 8))
def test_ticks_are_round_few_and_within(low, width, most):
    along = Axis(low, low + width)
    ticks = along.ticks(most)
    assert len(ticks) <= most + 1
    assert all(along.low - 1e-6 <= tick <= along.high + 1e-6 for tick in ticks)
    steps = {f"{b - a:.6g}" for a, b in itertools.pairwise(ticks)}
    assert len(steps) <= 1
    assert all(float(step) / 10 ** np.floor(np.log10(float(step))) < 5.1 for step in steps)


def test_an_axis_around_one_value_has_a_width():
    along = axis.spanning([0.0, 0.0])
    assert along.low < 0 < along.high


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (-0.5, "−0.5"),
        (1234.5, "1,234"),
        (20000, "20,000"),
        (1e-5, "1e−5"),
        (2e7, "2e7"),
    ],
)
def test_numbers_along_an_axis(value, words):
    assert axis.label(value) == words


def test_one_point_is_not_points():
    assert ">1 point<" in axis.scale(Axis(-0.011, 0.0101), unit=" points")
    assert ">2 points<" in axis.scale(Axis(-0.011, 0.0201), unit=" points")


@given(st.lists(st.floats(0, 300), min_size=1, max_size=12))
def test_labels_are_apart_in_order_and_within(wanted):
    places = spread(wanted, 18, 0, 300)
    assert min(places) >= -1e-6 and max(places) <= 300 + 1e-6
    ordered = sorted(zip(wanted, places, strict=True))
    assert all(b[1] - a[1] >= 18 - 1e-6 for a, b in itertools.pairwise(sorted(ordered, key=_last)))
    assert all(a[1] <= b[1] for a, b in itertools.pairwise(ordered) if a[0] < b[0])


def _last(pair):
    return pair[1]


def test_labels_with_room_stay_where_they_are_and_others_move_evenly():
    assert spread([10, 100, 200], 18, 0, 300) == [10, 100, 200]
    assert spread([100, 100, 100], 18, 0, 300) == pytest.approx([82, 100, 118])


@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=80), st.floats(-0.2, 0.2))
def test_bins_hold_every_value_and_divide_at_the_mark(values, mark):
    values = np.array(values)
    found = histogram.bins(values, [Marked(mark, "", "")])
    assert found.counts.sum() == len(values)
    beyond = found.counts[found.edges[:-1] >= mark - 1e-9].sum()
    assert (values >= mark + 2e-9).sum() <= beyond <= (values >= mark - 2e-9).sum()


def test_a_long_curve_keeps_its_extremes():
    values = np.sin(np.arange(10_000) / 500)
    values[4321] = 9.0
    thin = curves.thinned(Series("a", np.arange(10_000), values))
    assert len(thin.steps) <= 400
    assert thin.values.max() == 9.0 and thin.values.min() == pytest.approx(-1, abs=1e-4)
    assert thin.steps[0] == 0 and thin.steps[-1] == 9_999


def test_values_that_cannot_be_drawn_leave_a_gap():
    series = [Series("a", np.arange(5), np.array([1, 2, np.nan, 4, 5.0]))]
    drawn = curves.draw_curves(series, "f", "title").drawing
    path = re.search(r'<path d="([^"]*)"', drawn)
    assert path and path[1].count("M") == 2 and "nan" not in drawn


def test_a_level_is_within_the_drawing():
    series = [Series("a", np.arange(4), np.array([0.0, 1, 10, 100]))]
    assert curves._axes(series, [Level(200.0, "bound")])[1].high > 200
    figure = curves.draw_curves(series, "f", "title", levels=[Level(200.0, "bound")])
    assert 'class="tolerance"' in figure.drawing


def test_no_words_lie_on_curves():
    """What a level is stands in the key, and the numbers of the heights left of the plot."""
    series = [Series("a", np.arange(4), np.array([0.0, 1, 10, 100]))]
    figure = curves.draw_curves(series, "f", "title", levels=[Level(0.0, "bound")])
    assert "bound" not in figure.drawing
    assert [key.words for key in figure.key] == ["a", "bound"]
    assert 'class="tolerance"' in figure.key[-1].sample
    heights = re.findall(r'<text x="(-\d+)"[^>]*text-anchor="end"[^>]*>([^<]*)<', figure.drawing)
    assert [words for _, words in heights] == ["0", "50", "100"]


def test_many_curves_are_grey_but_for_the_highest():
    series = [Series(f"s{i}", np.arange(3), np.full(3, float(i))) for i in range(30)]
    figure = curves.draw_curves(series, "f", "Violations")
    assert figure.drawing.count('class="curve quiet"') == 24
    assert [key.words for key in figure.key][:2] == ["s29", "s28"]
    assert figure.key[-1].words == "the other 24"
    assert figure.table.columns == ("Step", "s29", "s28", "s27", "s26", "s25", "s24")
    assert "Ends highest: s29 at 29; lowest: s0 at 0." in figure.alt


def test_a_curve_of_one_step_is_drawn():
    drawn = curves.draw_curves([Series("a", np.array([3]), np.array([0.5]))], "f", "t").drawing
    assert "nan" not in drawn and "h1" in drawn


def test_bars_say_their_share():
    layers = [bars.Bar("conv1", 0.5, 1200), bars.Bar("dense", 0.98, 36_864)]
    figure = bars.draw_bars(layers, "f", "Sparsity of each layer", thing="weight")
    assert [row.value for row in figure.rows] == ["50.0\xa0% of 1,200", "98.0\xa0% of 36,864"]
    assert 'width="98%"' in figure.rows[1].strip
    assert figure.table.columns[2] == "Weights"
    assert "Largest: dense" in figure.alt
