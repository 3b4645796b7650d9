"""The statistics of an ablation are the textbook's, and keep what they promise in simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curate.mixtures.ablate import BETTER, WITHIN_NOISE, WORSE, Comparison, Measure, compare, holm, judge, needed

BITS = Measure("arc", "tasks")
ACCURACY = Measure("arc", "accuracy", higher_is_better=True)


def runs(count: int, items: int, *, seed: int, noise: float = 0.1, own: float = 0.3, shift: float = 0.0) -> np.ndarray:
    """Values of runs that share their items' difficulty: (runs, items)."""
    difficulty = np.random.default_rng(99).normal(1.0, 0.5, items)
    random = np.random.default_rng(seed)
    return difficulty + shift + random.normal(0, noise, (count, 1)) + random.normal(0, own, (count, items))


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (2, 5), (8, 4)])
def test_over_runs_it_is_welchs_test(counts: tuple[int, int]) -> None:
    first, second = runs(counts[0], 40, seed=1), runs(counts[1], 40, seed=2, shift=0.2, noise=0.3)
    found = compare(BITS, first, second)
    expected = stats.ttest_ind(second.mean(axis=1), first.mean(axis=1), equal_var=False)
    assert found.p_runs == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.difference == pytest.approx(second.mean() - first.mean())
    assert found.first == pytest.approx(first.mean(axis=1))
    assert found.p == max(found.p_runs, found.p_items)
    alone = compare(BITS, first.mean(axis=1, keepdims=True), second.mean(axis=1, keepdims=True))
    interval = expected.confidence_interval(0.95)
    assert (alone.low, alone.high) == pytest.approx((interval.low, interval.high))
    assert alone.degrees == pytest.approx(expected.df)


def test_noise_of_items_is_that_of_paired_questions_where_runs_are_all_alike() -> None:
    """Runs without noise of their own: what is left is the paired t test over questions."""
    random = np.random.default_rng(3)
    first, second = random.normal(0, 1, 60), random.normal(0.3, 1, 60)
    found = compare(BITS, np.stack([first, first, first]), np.stack([second, second]))
    expected = stats.ttest_rel(second, first)
    assert found.p_runs == pytest.approx(0.0, abs=1e-12)
    assert found.p == found.p_items == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_error_of_both_noises_is_the_true_one() -> None:
    """Crossed random effects with known variances: the estimate is unbiased, the true spread of differences is it."""
    random = np.random.default_rng(5)
    count, items, seed_noise, true, own = 4, 80, 0.05, 0.5, 0.8
    estimates, differences = [], []
    for _ in range(250):
        first = random.normal(0, seed_noise, (count, 1)) + random.normal(0, own, (count, items))
        second = random.normal(0, seed_noise, (count, 1)) + random.normal(0, own, (count, items))
        second = second + random.normal(0, true, items)
        found = compare(BITS, first, second)
        estimates.append(found.error**2)
        differences.append(found.difference)
    expected = 2 * seed_noise**2 / count + true**2 / items + 2 * own**2 / (count * items)
    assert np.mean(estimates) == pytest.approx(expected, rel=0.1)
    assert np.var(differences) == pytest.approx(expected, rel=0.25)


def test_documents_count_by_their_bytes() -> None:
    first, second = runs(3, 12, seed=1), runs(3, 12, seed=2)
    sizes = np.arange(1.0, 13.0) * 100
    found = compare(BITS, first, second, sizes)
    assert found.first == pytest.approx((first * sizes).sum(axis=1) / sizes.sum())
    same = compare(BITS, first, second, np.full(12, 7.0))
    plain = compare(BITS, first, second)
    assert (same.p, same.low, same.error) == pytest.approx((plain.p, plain.low, plain.error))
    # The error of a ratio over items that are drawn: the spread of its bootstrap.
    steady = [np.tile(side.mean(axis=0), (2, 1)) for side in (first, second)]
    random = np.random.default_rng(0)
    drawn = random.integers(0, 12, (20_000, 12))
    change = (steady[1] - steady[0])[0]
    spread = np.std((change[drawn] * sizes[drawn]).sum(axis=1) / sizes[drawn].sum(axis=1))
    assert compare(BITS, *steady, sizes).error == pytest.approx(spread * math.sqrt(12 / 11), rel=0.1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=100, deadline=None)
def test_holm_rejects_what_its_step_down_rejects(values: list[float]) -> None:
    """Holm 1979: smallest first, each against the level over how many are left, until one is not below it."""
    level = 0.05
    rejected = set()
    for rank, number in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        if values[number] > level / (len(values) - rank):
            break
        rejected.add(number)
    found = holm(values)
    near = {n for n, value in enumerate(found) if abs(value - level) < 1e-12}
    assert {n for n, value in enumerate(found) if value <= level} - near == rejected - near
    assert all(value <= adjusted <= 1 for value, adjusted in zip(values, found, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def judged(shift: float, measure: Measure, count: int = 5) -> Comparison:
    return judge([compare(measure, runs(count, 100, seed=1), runs(count, 100, seed=2, shift=shift))])[0]


def test_a_planted_difference_is_found_and_named_by_its_direction() -> None:
    assert judged(-1.0, BITS).verdict == BETTER
    assert judged(+1.0, BITS).verdict == WORSE
    assert judged(+1.0, ACCURACY).verdict == BETTER
    assert judged(0.0, BITS).verdict == WITHIN_NOISE


def test_each_family_is_corrected_by_itself() -> None:
    tasks = [
        compare(Measure(f"t{n}", "tasks"), runs(3, 50, seed=2 * n), runs(3, 50, seed=2 * n + 1, shift=n / 10))
        for n in range(4)
    ]
    alone = compare(Measure("text", "text"), runs(3, 50, seed=50), runs(3, 50, seed=51))
    found = judge([*tasks[:2], alone, *tasks[2:]])
    assert found[2].p_holm == alone.p
    assert [found[n].p_holm for n in (0, 1, 3, 4)] == pytest.approx(holm([item.p for item in tasks]))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_of_identical_mixes_no_more_are_called_different_than_the_level(count: int, binary: bool) -> None:
    """The share of false alarms over a family of three tasks, with noise of runs, of items and of runs on items."""
    random = np.random.default_rng(11)
    alarms, trials = 0, 100
    for _ in range(trials):
        family = []
        for task in range(3):
            difficulty = random.normal(0, 1, 60)
            sides = [
                difficulty + random.normal(0, 0.1, (count, 1)) + random.normal(0, 0.4, (count, 60)) for _ in range(2)
            ]
            if binary:
                sides = [(side > 0).astype(float) for side in sides]
            family.append(compare(Measure(str(task), "tasks"), *sides))
        alarms += min(holm([item.p for item in family])) <= 0.05
    assert alarms <= stats.binom.isf(0.001, trials, 0.05)


def test_identical_runs_differ_in_nothing() -> None:
    same = runs(3, 30, seed=1)
    (found,) = judge([compare(BITS, same, same)])
    assert (found.difference, found.p_holm, found.verdict) == (0.0, 1.0, WITHIN_NOISE)
    constant = np.ones((2, 5))
    (found,) = judge([compare(BITS, constant, constant)])
    assert (found.p, found.low, found.high, found.detectable) == (1.0, 0.0, 0.0, 0.0)


def test_the_smallest_difference_that_would_show_shows_in_four_of_five() -> None:
    """Simulated with Student's test of equal spreads, whose degrees of freedom are those of the estimate."""
    count, random = 4, np.random.default_rng(2)
    first, second = (side - side.mean() for side in (runs(count, 1, seed=6), runs(count, 1, seed=7)))
    second = second * np.std(first, ddof=1) / np.std(second, ddof=1)
    (found,) = judge([compare(BITS, first, second)])
    assert found.degrees == pytest.approx(2 * count - 2)
    spread = float(np.std(first, ddof=1))
    drawn = random.normal(0, spread, (20_000, 2, count)) + np.array([0, found.detectable])[:, None]
    power = np.mean(stats.ttest_ind(drawn[:, 0], drawn[:, 1], axis=1).pvalue <= 0.05)
    assert power == pytest.approx(0.8, abs=0.02)


def test_how_weak_few_runs_are_is_the_table_of_students_t() -> None:
    assert needed(2) == pytest.approx(4.303, abs=0.001)  # t(.975, 2) * sqrt(2 / 2)
    assert needed(3) == pytest.approx(2.776 * math.sqrt(2 / 3), abs=0.001)
    assert needed(2, 5) == pytest.approx(9.925, abs=0.001)  # t(.995, 2)


def test_a_few_answers_that_are_all_right_are_no_certainty() -> None:
    """Two questions, all wrong on one side and all right on the other: the paired t test with one more question, a tie."""
    few = compare(ACCURACY, np.zeros((3, 2)), np.ones((3, 2)))
    assert few.p == pytest.approx(2 * stats.t.sf(3, 1))
    assert few.low < 0 < few.high
    assert compare(ACCURACY, np.zeros((3, 50)), np.ones((3, 50))).p < 1e-6


def test_what_cannot_be_compared_is_refused() -> None:
    two = runs(2, 5, seed=1)
    with pytest.raises(ValueError, match="1 and 2 runs"):
        compare(BITS, two[:1], two)
    with pytest.raises(ValueError, match="5 items on one side, 4"):
        compare(BITS, two, two[:, :4])
    with pytest.raises(ValueError, match="not finite"):
        compare(BITS, two, np.full((2, 5), np.nan))


def test_a_comparison_is_json() -> None:
    one = compare(BITS, runs(2, 3, seed=1), runs(2, 3, seed=2))
    read = json.loads(json.dumps(one.to_json(), allow_nan=False))
    assert read["name"] == "arc"
    assert read["p_holm"] is None
    assert read["family"] == "tasks"
    assert len(read["first"]) == 2
