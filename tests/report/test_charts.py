"""Charts are drawn to scale, numbers read as a person expects."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report import words
from curate.report.charts import (
    Bar,
    FunnelStep,
    Histogram,
    Series,
    Threshold,
    bars,
    funnel,
    histogram,
    line,
    log_ticks,
    nice_ticks,
)  # fmt: skip
from curate.report.results import POINTS, averaged
from curate.report.scan import Column
from curate.report.sections import limits_in_words, outermost, scale, trimmed


def rects(svg: str, kind: str) -> list[tuple[float, float, float, float]]:
    pattern = rf'<rect class="{kind}" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"'
    return [tuple(map(float, found)) for found in re.findall(pattern, svg)]  # type: ignore[misc]


def test_bars_are_as_long_as_their_values() -> None:
    drawn = rects(bars([Bar("a", 400), Bar("b", 100)], head="what"), "mark")
    assert drawn[0][2] == pytest.approx(4 * drawn[1][2])


def test_bars_show_counts_and_shares_of_the_whole() -> None:
    chart = bars([Bar("a", 1500)], head="what", whole=6000)
    assert ">1,500<" in chart and ">25.0%<" in chart


def test_funnel_parts_add_up_to_the_records() -> None:
    chart = funnel([FunnelStep("extract", 1000, 700, 100), FunnelStep("filter", 700, 350)])
    (kept, kept2), (lost, lost2), (aside,) = (rects(chart, kind) for kind in ("mark", "lost", "aside"))
    assert (kept[2], lost[2], aside[2]) == (70, 20, 10)
    assert (kept2[2], lost2[2]) == (35, 35)
    assert (kept[0], lost[0], aside[0]) == (0, 70, 90)


def test_histogram_columns_are_as_high_as_their_counts() -> None:
    chart = histogram(Histogram((0.0, 1.0, 2.0, 3.0), (10, 0, 40)), title="t", unit="u")
    low, high = rects(chart, "mark")
    assert high[3] == pytest.approx(4 * low[3], rel=0.01)


@pytest.mark.parametrize(("fails", "left"), [("below", True), ("above", False)])
def test_the_failing_side_of_a_threshold_is_shaded(fails: str, left: bool) -> None:
    chart = histogram(Histogram((0.0, 1.0, 2.0), (1, 1)), title="t", unit="u", thresholds=[Threshold(1.0, fails)])
    (shade,) = rects(chart, "fails")
    (limit,) = (float(x) for x in re.findall(r'class="limit" x1="([\d.]+)"', chart))
    assert (shade[0] + shade[2] if left else shade[0]) == pytest.approx(limit, abs=0.06)


def test_a_logarithmic_histogram_gives_each_decade_the_same_width() -> None:
    chart = histogram(Histogram((1.0, 10.0, 100.0, 1000.0), (5, 5, 5), log=True), title="t", unit="u")
    widths = [rect[2] for rect in rects(chart, "mark")]
    assert widths[0] == pytest.approx(widths[1]) == pytest.approx(widths[2])


def test_a_line_goes_down_where_the_loss_does() -> None:
    chart = line([Series("loss", ((1, 9.0), (2, 5.0), (3, 4.0)))], title="t", x_label="x", y_label="y")
    (path,) = re.findall(r'points="([^"]+)"', chart)
    ys = [float(point.split(",")[1]) for point in path.split()]
    assert ys == sorted(ys)  # in SVG, down is larger


def test_lines_of_one_point_or_none_or_of_infinite_values_are_drawn_or_left_out() -> None:
    assert line([], title="t", x_label="x", y_label="y") == ""
    assert "circle" in line([Series("loss", ((1, 2.0),))], title="t", x_label="x", y_label="y")
    assert "nan" not in line([Series("loss", ((1, math.nan), (2, 3.0), (3, 2.0)))], title="t", x_label="x", y_label="y")


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.integers(1, 10))
def test_ticks_cover_the_range_in_even_steps(a: float, b: float, wanted: int) -> None:
    low, high = min(a, b), max(a, b)
    if high - low < 1e-6 * max(abs(high), abs(low), 1):
        return
    ticks = nice_ticks(low, high, wanted)
    slack = (high - low) * 1e-6
    assert ticks[0] <= low + slack and ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= wanted + 3


@given(st.floats(1e-3, 1e6), st.floats(1.2, 1e6))
def test_logarithmic_ticks_lie_inside(low: float, ratio: float) -> None:
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in log_ticks(low, low * ratio))


@given(
    st.floats(-1e6, 1e6, width=32), st.floats(0, 1e6, width=32), st.sampled_from(["FLOAT", "INT32"]),
    st.lists(st.floats(-1e4, 1e4, width=32), max_size=2),
)  # fmt: skip
def test_a_histogram_covers_its_column_and_its_limits(low: float, span: float, kind: str, limits: list[float]) -> None:
    if kind == "INT32":
        low, span = float(int(low)), float(int(span))
    edges, log = scale(Column(low, low + span, kind=kind), limits)
    assert np.all(np.diff(edges) > 0) and len(edges) <= 130
    highest = max([low + span, *limits])
    assert edges[-1] >= highest - 1e-6 * abs(highest) - 1e-6
    assert log or edges[0] <= min([low, *limits]) + 1e-6
    assert not log or edges[0] > 0


def test_thresholds_that_differ_by_language_are_given_as_a_range() -> None:
    by_language = [("max", 10.0), ("max", 2.7), ("max", 15.0), ("min", 3.0), ("min", 4.6), ("min", 3.4)]
    assert sorted(outermost(by_language)) == [("max", 2.7), ("max", 15.0), ("min", 3.0), ("min", 4.6)]
    assert limits_in_words(by_language) == "min 3 to 4.6, max 2.7 to 15"
    assert limits_in_words([("max", 10.0), ("min", 3.0)]) == "min 3, max 10"
    assert limits_in_words([("is", 0.0)]) == "is false"
    assert limits_in_words([]) == ""


def test_empty_ends_of_a_logarithmic_histogram_are_cut_and_nothing_else() -> None:
    edges, counts = np.geomspace(1, 1e8, 9), np.array([0, 0, 0, 5, 0, 7, 0, 0])
    cut = trimmed(edges, counts)
    assert sum(cut.counts) == 12
    assert len(cut.edges) == len(cut.counts) + 1 == 6


def test_long_curves_are_averaged_to_the_same_mean() -> None:
    points = [(float(step), math.sin(step)) for step in range(4000)]
    short = averaged(points)
    assert len(short) == POINTS and short[-1][0] == 3999
    assert np.mean([y for _, y in short]) == pytest.approx(np.mean([y for _, y in points]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (950, "950"),
        (9999, "9,999"),
        (12_345, "12.3k"),
        (1_234_567, "1.23M"),
        (4.5e10, "45B"),
        (7.1e12, "7.1T"),
    ],
)
def test_compact_numbers(value: float, shown: str) -> None:
    assert words.compact(value) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [(1, 8, "12.5%"), (0, 5, "0.0%"), (1, 10**6, "<0.1%"), (999_999, 10**6, ">99.9%"), (5, 5, "100.0%"), (0, 0, "–")],
)
def test_shares_never_claim_none_or_all_when_it_is_not(part: int, whole: int, shown: str) -> None:
    assert words.share(part, whole) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.2, "0.2"),
        (0.30000001192, "0.3"),
        (50.0, "50"),
        (1e-7, "1.00e-07"),
        (123456.78, "123,456.8"),
        (None, "–"),
        (math.inf, "∞"),
    ],
)
def test_measured_values(value: float | None, shown: str) -> None:
    assert words.measured(value) == shown
