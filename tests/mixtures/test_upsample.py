from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from curate.mixtures.upsample import POWERS, Curve, fit_curve, largest_ratio, spread
from curate.pipeline.errors import UsageError

SETTINGS = settings(max_examples=150, deadline=None)
VIGINTILES = np.linspace(0, 1, 21)


def value(curve: Curve, x: float) -> float:
    """The report's formula, as it stands there."""
    if x < curve.a:
        return 0.0
    return curve.scale * (x - curve.a) ** curve.p * math.exp(curve.rate * (x - curve.a))


def integral(curve: Curve, low: float, high: float) -> float:
    """Of the formula, by adaptive quadrature that knows where it starts."""
    low = max(low, curve.a)
    return quad(lambda x: value(curve, x), low, high, epsabs=1e-12, epsrel=1e-12, limit=200)[0] if high > low else 0.0


@pytest.mark.parametrize(
    ("ratio", "p", "rate", "scale", "top"),
    [  # OLMo 3's solver run on its constants
        (0.5, 2.000, 2.000, 2.753, 2.882),
        (1.0, 2.000, 2.000, 5.506, 5.764),
        (1.5, 2.000, 0.124, 19.70, 7),
        (2.0, 1.162, 0.123, 12.402, 7),
        (3.0, 0.324, 0.303, 7.036, 7),
        (4.0, 0.010, 0.145, 6.477, 7),
    ],
)
def test_a_curve_is_that_of_the_reference(ratio: float, p: float, rate: float, scale: float, top: float) -> None:
    curve = fit_curve(ratio)
    found = [curve.p, curve.rate, curve.scale, curve.top]
    assert found == pytest.approx([p, rate, scale, top], abs=0.0006)
    assert curve.a == 0.4
    assert not curve.lowered


def test_the_rates_of_vigintiles_are_those_of_the_reference() -> None:
    rates = fit_curve(1.0).rates(VIGINTILES)
    kept = [0, 0.04, 0.11, 0.24, 0.44, 0.73, 1.12, 1.65, 2.34, 3.22, 4.35, 5.76]
    assert rates[:8].tolist() == [0.0] * 8
    assert rates[8:].tolist() == pytest.approx(kept, abs=0.0051)


def test_a_ratio_beyond_the_reference_lowers_the_floor_as_little_as_does() -> None:
    curve = fit_curve(4.2)
    assert curve.lowered
    assert curve.asked == 0.4
    assert 0 < curve.a < 0.4
    assert curve.top == pytest.approx(7)
    assert fit_curve(4.2, a=curve.a - 1e-9).a == curve.a - 1e-9
    assert fit_curve(4.2, a=curve.a + 1e-6).lowered


def test_the_largest_ratio_is_where_the_floor_begins_to_fall() -> None:
    edge = largest_ratio()
    assert 4.1 < edge < 4.2
    assert not fit_curve(edge - 1e-9).lowered
    assert fit_curve(edge + 1e-6).lowered


def test_the_whole_pool_at_the_cap_is_the_last_that_is_possible() -> None:
    curve = fit_curve(7.0)
    assert curve.rates(VIGINTILES) == pytest.approx(np.full(20, 7.0))
    with pytest.raises(UsageError, match="at most 7 times is possible"):
        fit_curve(7.001)


@pytest.mark.parametrize("wrong", [{"a": 1.0}, {"a": -0.1}, {"b": 0.0}, {"most": 0.0}, {"most": math.inf}])
def test_constants_that_make_no_curve_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="floor in"):
        fit_curve(1.0, **wrong)


@pytest.mark.parametrize("ratio", [-1.0, math.nan, math.inf])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError):
        fit_curve(ratio)


@pytest.mark.parametrize("edges", [[0.0], [0.5, 0.4], [-0.1, 1], [0, 1.1], [0, math.nan]])
def test_edges_that_are_no_percentiles_are_refused(edges: list[float]) -> None:
    with pytest.raises(UsageError, match="edges"):
        fit_curve(1.0).rates(edges)


curves = st.builds(
    lambda share, a, b, most: fit_curve(share * most, a=a, b=b, most=most),
    st.floats(0, 1),
    st.floats(0, 0.95),
    st.floats(0.01, 1),
    st.floats(0.1, 20),
)


@SETTINGS
@given(curves, st.lists(st.floats(0, 1), max_size=30))
def test_rates_rise_and_their_mean_is_the_ratio(curve: Curve, inner: list[float]) -> None:
    edges = np.array([0.0, *sorted(inner), 1.0])
    rates = curve.rates(edges)
    assert rates @ np.diff(edges) == pytest.approx(curve.ratio, rel=1e-9, abs=1e-12)
    assert np.all(np.diff(rates) >= -1e-9 * (1 + rates[:-1]))
    assert curve.top <= curve.most * (1 + 1e-9)


@settings(max_examples=40, deadline=None)
@given(curves, st.floats(0, 1), st.floats(0, 1))
def test_a_rate_is_the_mean_of_the_formula_over_its_bucket(curve: Curve, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assume(high - low > 1e-3)
    assert curve.rates([low, high])[0] == pytest.approx(integral(curve, low, high) / (high - low), rel=1e-6, abs=1e-9)


def test_a_bucket_of_hardly_any_width_has_the_value_there() -> None:
    curve = fit_curve(2.0)
    for width in (0.0, 1e-15, 1e-9):
        assert curve.rates([0.7, 0.7 + width])[0] == pytest.approx(value(curve, 0.7), rel=1e-6)
    assert curve.rates([0.2, 0.2]).tolist() == [0.0]
    assert curve([0.2, 0.7]).tolist() == pytest.approx([0.0, value(curve, 0.7)])


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 4.1), st.floats(0.0, 0.4))
def test_no_steeper_curve_is_possible(ratio: float, a: float) -> None:
    """The reference solver written plainly, with adaptive quadrature."""
    curve = fit_curve(ratio, a=a)
    assume(not curve.lowered)

    def top(p: float, rate: float) -> float:
        shape = Curve(ratio, a, p, rate, 1.0, 0.05, 7.0, a)
        return integral(shape, 0.95, 1.0) / 0.05 * ratio / integral(shape, 0.0, 1.0)

    assert top(curve.p, curve.rate) <= 7 + 1e-6
    steeper = POWERS[curve.p + 1e-9 < POWERS]
    assert not len(steeper) or top(float(steeper[0]), 0.0) > 7 - 1e-6
    assert curve.rate == 2.0 or top(curve.p, curve.rate + 1e-3) > 7 - 1e-6


# Shares of buckets


def test_a_group_is_spread_by_its_curve() -> None:
    sizes = np.full((2, 20), 1_000)
    found = spread([0.75, 0.25], sizes, 40_000, max_repeats=7)
    assert found.notes == ()
    assert found.repeats[0] == pytest.approx(fit_curve(1.5).rates(VIGINTILES))
    assert found.repeats[1] == pytest.approx(fit_curve(0.5).rates(VIGINTILES))
    assert found.shares.sum(axis=1) == pytest.approx([0.75, 0.25])
    assert found.shares * 40_000 == pytest.approx(found.repeats * 1_000)


def test_percentiles_are_by_tokens_not_by_buckets() -> None:
    found = spread([1.0], [[6_000, 3_000, 1_000]], 10_000, max_repeats=7)
    assert found.repeats[0] == pytest.approx(fit_curve(1.0).rates([0, 0.6, 0.9, 1.0]))


def test_a_floor_that_had_to_be_lowered_is_said() -> None:
    found = spread([1.0], np.full((1, 20), 10), 840, max_repeats=7, names=["science"])
    assert len(found.notes) == 1
    assert "science: 4.200 times" in found.notes[0]
    assert "at most 4.160 times" in found.notes[0]
    assert "the floor is 0.394" in found.notes[0]


def test_a_group_that_asks_for_more_than_it_has_is_capped_and_the_rest_goes_to_the_others() -> None:
    sizes = np.stack([np.full(20, 10), np.full(20, 1_000), np.full(20, 1_000)])
    found = spread([0.5, 0.3, 0.2], sizes, 10_000, max_repeats=4, names=["small", "large", "other"])
    assert found.groups == pytest.approx([0.08, 0.92 * 0.6, 0.92 * 0.4])
    assert found.repeats[0] == pytest.approx(np.full(20, 4.0))
    assert "small: its share is capped at 8.0000% (asked: 50.0000%)" in found.notes[0]


def test_an_overfull_group_can_be_an_error() -> None:
    sizes = [[100, 100], [1_000, 1_000]]
    with pytest.raises(
        UsageError, match=r"the groups that are weighed have 2,200, each at most 4 times.*a \(needs 1,000"
    ):
        spread([0.5, 0.5], sizes, 2_000, max_repeats=4, names=["a", "b"], overfull="error")


def test_too_few_tokens_in_the_groups_that_are_weighed_is_an_error() -> None:
    with pytest.raises(
        UsageError, match=r"have 200, each at most 4 times. Groups that bind: a \(needs 1,000, has 200\)"
    ):
        spread([1.0, 0.0], [[100, 100], [9_000, 9_000]], 1_000, max_repeats=4, names=["a", "b"])


def test_the_whole_pool_times_the_cap_can_be_spread() -> None:
    sizes = np.array([[7, 1, 3], [2, 5, 0]])
    found = spread(sizes.sum(axis=1), sizes, 4 * 18, max_repeats=4)
    assert found.repeats == pytest.approx(np.array([[4, 4, 4], [4, 4, 0]]))
    assert found.shares.sum() == pytest.approx(1)


def test_a_narrow_best_bucket_is_cut_to_the_cap_and_the_others_are_raised() -> None:
    percentiles = np.full((1, 100), 10)
    found = spread([1.0], percentiles, 2_000, max_repeats=4)
    assert "3 buckets of the best quality cut to 4 repeats" in found.notes[-1]
    assert found.repeats.max() == 4
    assert found.shares.sum() == pytest.approx(1)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_shares_are_those_asked_for_and_nothing_is_above_its_cap(data: st.DataObject) -> None:
    groups, ranks = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 25))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sizes = random.integers(0, data.draw(st.sampled_from([2, 50, 10**9])), (groups, ranks))
    weights = random.dirichlet(np.full(groups, data.draw(st.sampled_from([0.2, 5.0]))))
    max_repeats = data.draw(st.sampled_from([1, 2, 4, 10]))
    cap = min(max_repeats, 7)
    total = cap * int(sizes[weights > 0].sum())
    assume(total >= 1)
    budget = max(1, int(total * data.draw(st.floats(0, 1))))
    found = spread(weights, sizes, budget, max_repeats=max_repeats)
    assert found.shares.sum() == pytest.approx(1, abs=1e-9)
    assert np.all(found.repeats <= max_repeats)
    assert np.all(found.shares * budget <= max_repeats * sizes * (1 + 1e-9))
    assert found.shares.sum(axis=1) == pytest.approx(found.groups, abs=1e-9)
    for row, size in zip(found.repeats, sizes, strict=True):
        assert np.all(np.diff(row[size > 0]) >= -1e-9)
    fits = weights * budget <= cap * sizes.sum(axis=1)
    assert np.all(found.groups[fits] >= weights[fits] - 1e-9)
    if fits.all():
        assert found.groups == pytest.approx(weights)


@pytest.mark.parametrize(
    ("weights", "sizes"), [([1, 1], [[1]]), ([-1], [[1]]), ([0], [[1]]), ([1], [[-1]]), ([math.nan], [[1]]), ([1], [1])]
)
def test_what_are_no_weights_or_tokens_is_refused(weights: list[float], sizes: list[list[int]]) -> None:
    with pytest.raises(UsageError):
        spread(weights, sizes, 10, max_repeats=4)
