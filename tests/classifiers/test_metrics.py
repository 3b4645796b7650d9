"""Precision, recall, areas, calibration and correlation are scikit-learn's and SciPy's; thresholds keep what they promise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from curate.classifiers import metrics

Rows = tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64], npt.NDArray[np.float64]]
TARGETS = st.floats(0, 1)


@st.composite
def rows(draw: st.DrawFn, both: bool = True) -> Rows:
    """Truth, scores with many ties (or all the same) and weights."""
    size = draw(st.integers(2, 40))
    wanted = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    if both:
        wanted[:2] = True, False
    levels = draw(st.integers(1, 30))
    scores = np.array(draw(st.lists(st.integers(0, levels - 1), min_size=size, max_size=size))) / 30
    weights = draw(
        st.one_of(
            st.just([1.0] * size),
            st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 7.0]), min_size=size, max_size=size),
        )
    )
    return wanted, scores, np.array(weights)


@given(rows())
def test_areas_are_the_reference_librarys(given: Rows) -> None:
    wanted, scores, weights = given
    cuts = metrics.rank(wanted, scores).cut(weights)
    assert cuts.roc_area() == pytest.approx(oracle.roc_auc_score(wanted, scores, sample_weight=weights))
    assert cuts.pr_area() == pytest.approx(oracle.average_precision_score(wanted, scores, sample_weight=weights))


@given(rows())
def test_the_curves_are_the_reference_librarys(given: Rows) -> None:
    wanted, scores, weights = given
    cuts = metrics.rank(wanted, scores).cut(weights)
    precision, recall, thresholds = oracle.precision_recall_curve(wanted, scores, sample_weight=weights)
    assert cuts.thresholds[::-1] == pytest.approx(thresholds)
    assert cuts.precision[::-1] == pytest.approx(precision[:-1])
    assert cuts.recall[::-1] == pytest.approx(recall[:-1])
    rate, recall, _ = oracle.roc_curve(wanted, scores, sample_weight=weights, drop_intermediate=False)
    assert cuts.false_rate == pytest.approx(rate[1:])
    assert cuts.recall == pytest.approx(recall[1:])


@given(rows(), st.integers(-5, 35))
def test_what_a_threshold_gives_is_what_its_rows_give(given: Rows, step: int) -> None:
    wanted, scores, weights = given
    threshold = step / 30
    found, kept = metrics.rank(wanted, scores).cut(weights).at(threshold), scores >= threshold
    assert found["kept"] == pytest.approx(weights[kept].sum() / weights.sum())
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(wanted, kept, sample_weight=weights))
    assert found["recall"] == pytest.approx(oracle.recall_score(wanted, kept, sample_weight=weights))
    assert found["f1"] == pytest.approx(oracle.f1_score(wanted, kept, sample_weight=weights))
    if kept.any():
        assert found["precision"] == pytest.approx(oracle.precision_score(wanted, kept, sample_weight=weights))
    else:
        assert math.isnan(found["precision"])


@given(rows())
def test_a_weight_counts_as_so_many_copies_of_a_row(given: Rows) -> None:
    wanted, scores, weights = given
    whole = np.ceil(weights)
    copies = np.repeat(np.arange(len(wanted)), whole.astype(int))
    weighed, copied = (
        metrics.rank(wanted, scores).cut(whole),
        metrics.rank(wanted[copies], scores[copies]).cut(),
    )
    assert weighed.roc_area() == pytest.approx(copied.roc_area())
    assert weighed.pr_area() == pytest.approx(copied.pr_area())
    assert metrics.spearman(scores, wanted, whole) == pytest.approx(
        metrics.spearman(scores[copies], wanted[copies], np.ones(len(copies))), nan_ok=True
    )


def test_one_class_alone_has_no_area() -> None:
    for wanted in ([True, True], [False, False]):
        assert math.isnan(metrics.rank(wanted, [0.1, 0.2]).cut().roc_area())
    assert math.isnan(metrics.rank([False, False], [0.1, 0.2]).cut().pr_area())


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        metrics.rank([True, False], [0.5, math.nan])


# --- thresholds -------------------------------------------------------------------------------------------------------


def given_by(given: Rows, threshold: float) -> dict[str, float]:
    """By the definitions, row by row."""
    wanted, scores, weights = given
    kept = scores >= threshold
    every, right = weights[kept].sum(), weights[kept & wanted].sum()
    return {
        "precision": right / every if every else -1.0,
        "recall": right / weights[wanted].sum(),
        "kept": every / weights.sum(),
    }


@given(rows(), TARGETS)
def test_a_threshold_for_precision_is_the_lowest_that_reaches_it(given: Rows, target: float) -> None:
    wanted, scores, weights = given
    found = metrics.threshold_for(metrics.rank(wanted, scores).cut(weights), "precision", target)
    reaching = [score for score in np.unique(scores) if given_by(given, score)["precision"] >= target]
    assert (found is None) == (not reaching)
    if found is not None:
        assert (scores >= found).sum() == (scores >= min(reaching)).sum()


@given(rows(), TARGETS)
def test_a_threshold_for_recall_is_the_highest_that_reaches_it(given: Rows, target: float) -> None:
    wanted, scores, weights = given
    found = metrics.threshold_for(metrics.rank(wanted, scores).cut(weights), "recall", target)
    reaching = [score for score in np.unique(scores) if given_by(given, score)["recall"] >= target]
    assert found is not None
    assert (scores >= found).sum() == (scores >= max(reaching)).sum()


@given(rows(), TARGETS)
def test_a_threshold_for_a_share_keeps_the_most_that_is_no_more(given: Rows, target: float) -> None:
    wanted, scores, weights = given
    found = metrics.threshold_for(metrics.rank(wanted, scores).cut(weights), "kept", target)
    within = [score for score in np.unique(scores) if given_by(given, score)["kept"] <= target]
    assert (found is None) == (not within)
    if found is not None:
        assert (scores >= found).sum() == (scores >= min(within)).sum()


def test_a_threshold_has_no_more_digits_than_it_needs() -> None:
    cuts = metrics.rank([True, True, False], [0.8734521, 0.8710111, 0.2]).cut()
    assert metrics.threshold_for(cuts, "kept", 0.4) == 0.873
    assert metrics.threshold_for(cuts, "kept", 0.7) in (0.5, 0.8)


# --- probabilities, labels, numbers -----------------------------------------------------------------------------------


@given(rows())
def test_the_reliability_diagram_is_the_reference_librarys(given: Rows) -> None:
    wanted, scores, _ = given
    found = metrics.reliability(scores, wanted, np.ones(len(scores)))
    outcome, mean = calibration_curve(wanted, scores, n_bins=10, strategy="uniform")
    assert [each.outcome for each in found] == pytest.approx(outcome)
    assert [each.score for each in found] == pytest.approx(mean)
    assert sum(each.weight for each in found) == len(scores)


@given(rows())
def test_calibration_error_and_brier_score_follow_their_definitions(given: Rows) -> None:
    wanted, scores, weights = given
    places = np.clip(np.ceil(np.round(scores * 10, 9)), 1, 10)
    expected = 0.0
    for place in np.unique(places):
        inside = places == place
        gap = np.average(scores[inside], weights=weights[inside]) - np.average(wanted[inside], weights=weights[inside])
        expected += weights[inside].sum() / weights.sum() * abs(gap)
    assert metrics.calibration_error(metrics.reliability(scores, wanted, weights)) == pytest.approx(expected)
    assert metrics.brier(scores, wanted, weights) == pytest.approx(
        oracle.brier_score_loss(wanted, scores, sample_weight=weights)
    )


@given(st.integers(2, 5), st.data())
def test_confusion_and_scores_by_label_are_the_reference_librarys(labels: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 30))
    wanted, given = (
        np.array(data.draw(st.lists(st.integers(0, labels - 1), min_size=size, max_size=size))) for _ in "ab"
    )
    weights = np.array(data.draw(st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=size, max_size=size)))
    matrix = metrics.confusion(wanted, given, labels, weights)
    every = list(range(labels))
    assert matrix == pytest.approx(oracle.confusion_matrix(wanted, given, labels=every, sample_weight=weights))
    found = metrics.label_scores(matrix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, support = oracle.precision_recall_fscore_support(
            wanted, given, labels=every, sample_weight=weights, zero_division=np.nan
        )
        macro = oracle.f1_score(wanted, given, average="macro", sample_weight=weights)
    assert found.support == pytest.approx(support)
    assert found.precision == pytest.approx(precision, nan_ok=True)
    assert found.recall == pytest.approx(recall, nan_ok=True)
    assert found.f1 == pytest.approx(f1, nan_ok=True)
    assert found.macro_f1 == pytest.approx(macro)
    assert found.accuracy == pytest.approx(oracle.accuracy_score(wanted, given, sample_weight=weights))


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=40))
def test_rank_correlation_is_the_reference_librarys(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs, float).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = spearmanr(first, second).statistic
    assert metrics.spearman(first, second, np.ones(len(pairs))) == pytest.approx(expected, nan_ok=True, abs=1e-9)


@given(rows())
def test_distances_are_the_reference_librarys(given: Rows) -> None:
    targets, scores, weights = given
    numbers = targets.astype(float) * 3
    assert metrics.mean_absolute_error(scores, numbers, weights) == pytest.approx(
        oracle.mean_absolute_error(numbers, scores, sample_weight=weights)
    )
    assert metrics.root_mean_square_error(scores, numbers, weights) == pytest.approx(
        oracle.root_mean_squared_error(numbers, scores, sample_weight=weights)
    )


# --- intervals --------------------------------------------------------------------------------------------------------


def test_intervals_are_wider_where_pages_of_a_site_are_alike() -> None:
    chance = np.random.default_rng(0)
    right = (chance.random(40) < 0.7).repeat(25).astype(float)  # a site is right as a whole, or wrong

    def width(groups: npt.NDArray[np.int64]) -> float:
        found = metrics.bootstrap(lambda w: {"share": float(w @ right / w.sum())}, groups, np.ones(1000), 200)
        return found["share"][1] - found["share"][0]

    by_site, by_page = width(np.arange(40).repeat(25)), width(np.arange(1000))
    assert by_site == pytest.approx(2 * 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 40), rel=0.25)
    assert by_site > 3 * by_page


def test_one_site_alone_has_no_interval() -> None:
    assert metrics.bootstrap(lambda w: {"sum": w.sum()}, np.zeros(5, np.int64), np.ones(5), 10) == {}


def test_a_threshold_parts_the_same_scores_once_it_is_rounded_as_scores_are_kept() -> None:
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    for lower, upper in ((low, high), (np.float32(0), np.float32(1e-45)), (np.float32(0.1), np.float32(0.9))):
        cuts = metrics.rank(np.array([True, False]), np.array([upper, lower])).cut()
        found = metrics.threshold_for(cuts, "precision", 1.0)
        assert found is not None
        assert lower < np.float32(found) <= upper
