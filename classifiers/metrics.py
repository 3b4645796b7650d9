"""How good scores are, by the definitions: plain arrays in, numbers out.

Every function takes weights, which count as so many copies of a row; NaN stands where a definition has no value (no row of a
class, nothing kept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


def divided(above: Any, below: Any) -> Values:
    """above / below, NaN where below is 0."""
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


# --- one class against the rest ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Scores put in order once, for as many weightings as are asked of them."""

    order: Places
    ends: Places
    """The last place, in order, of each distinct score, the highest first."""
    scores: Values
    """The distinct scores, the highest first."""
    wanted: Bools
    """In order."""

    def cut(self, weights: Values | None = None) -> Cuts:
        """What each distinct score keeps as a threshold; `weights` are by row."""
        shares = np.ones(len(self.order)) if weights is None else weights[self.order]
        true = np.cumsum(shares * self.wanted)[self.ends]
        every = np.cumsum(shares)[self.ends]
        return Cuts(self.scores, true, every - true)


def rank(wanted: npt.ArrayLike, scores: npt.ArrayLike) -> Ranking:
    """The scores in falling order. ValueError for a score that is NaN."""
    target, values = np.asarray(wanted, bool), np.asarray(scores, float)
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    ends = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(ordered) else np.zeros(0, np.int64)
    return Ranking(order, ends, ordered[ends], target[order])


@dataclass(frozen=True)
class Cuts:
    """For each threshold, the highest first, the weight of rows with that score or more: wanted ones and others."""

    thresholds: Values
    true: Values
    false: Values

    @property
    def positives(self) -> float:
        return float(self.true[-1]) if len(self.true) else 0.0

    @property
    def negatives(self) -> float:
        return float(self.false[-1]) if len(self.false) else 0.0

    @property
    def precision(self) -> Values:
        """Wanted rows that are kept / rows kept."""
        return divided(self.true, self.true + self.false)

    @property
    def recall(self) -> Values:
        """Wanted rows that are kept / wanted rows."""
        return divided(self.true, self.positives)

    @property
    def false_rate(self) -> Values:
        """Other rows that are kept / other rows."""
        return divided(self.false, self.negatives)

    @property
    def f1(self) -> Values:
        """Harmonic mean of precision and recall: 2 TP / (kept + wanted)."""
        return divided(2 * self.true, self.true + self.false + self.positives)

    @property
    def kept(self) -> Values:
        """Rows kept / rows."""
        return divided(self.true + self.false, self.positives + self.negatives)

    @property
    def accuracy(self) -> Values:
        """Rows on the right side of the threshold / rows."""
        return divided(self.true + self.negatives - self.false, self.positives + self.negatives)

    def roc_area(self) -> float:
        """The chance that a wanted row scores higher than another, ties counted half; the area under the ROC curve."""
        true, false = np.r_[0.0, self.true], np.r_[0.0, self.false]
        area = (np.diff(false) * (true[1:] + true[:-1]) / 2).sum()
        return float(divided(area, self.positives * self.negatives))

    def pr_area(self) -> float:
        """Average precision: the sum over thresholds of precision times the gain of recall (no interpolation)."""
        if not self.positives:
            return float("nan")
        return float((np.diff(np.r_[0.0, self.recall]) * np.nan_to_num(self.precision)).sum())

    def at(self, threshold: float) -> dict[str, float]:
        """What a threshold gives: precision, recall, F1, share kept, accuracy, false-positive rate."""
        place = int(np.searchsorted(-self.thresholds, -threshold, side="right")) - 1
        if place >= 0:
            one = Cuts(self.thresholds[place:], self.true[place:], self.false[place:])
        else:  # nothing is kept
            one = Cuts(np.r_[threshold, 0.0], np.r_[0.0, self.positives], np.r_[0.0, self.negatives])
        names = ("precision", "recall", "f1", "kept", "accuracy", "false_rate")
        return {"threshold": float(threshold), **{name: float(getattr(one, name)[0]) for name in names}}


def threshold_for(cuts: Cuts, goal: str, target: float) -> float | None:
    """The threshold that meets a target; None where none does.

    `precision`: the lowest with at least that precision. `recall`: the highest with at least that recall. `kept`: the
    lowest that keeps no more than that share. The number given is the shortest that keeps just the same rows.
    """
    if goal == "precision":
        places = np.flatnonzero(np.nan_to_num(cuts.precision, nan=-1.0) >= target)
        place = places[-1] if len(places) else None
    elif goal == "recall":
        places = np.flatnonzero(np.nan_to_num(cuts.recall, nan=-1.0) >= target)
        place = places[0] if len(places) else None
    elif goal == "kept":
        places = np.flatnonzero(np.nan_to_num(cuts.kept, nan=2.0) <= target)
        place = places[-1] if len(places) else None
    else:
        raise ValueError(f"no target {goal!r}")
    return None if place is None else shortest(cuts.thresholds, int(place))


def shortest(thresholds: Values, place: int) -> float:
    """The number with the fewest digits that is at most thresholds[place] and above the next lower one."""
    high = float(thresholds[place])
    low = float(thresholds[place + 1]) if place + 1 < len(thresholds) else -np.inf
    for digits in range(1, 17):
        for number in (float(f"{high:.{digits}g}"), float(f"{(high + max(low, high - abs(high))) / 2:.{digits}g}")):
            # bounds are compared as float32, as scores are kept: rounded to one it must part the same rows
            if low < number <= high and np.float32(number) > low:
                return number
    return high


def best_f1(cuts: Cuts) -> float:
    """The threshold of the greatest F1, the highest of several."""
    return shortest(cuts.thresholds, int(np.nanargmax(np.nan_to_num(cuts.f1, nan=-1.0))))


# --- probabilities ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bin:
    """Rows whose score lies above `low` (the first: from it) and up to `high`: their weight, mean score and mean outcome."""

    low: float
    high: float
    weight: float
    score: float
    outcome: float


def reliability(
    scores: npt.ArrayLike,
    outcome: npt.ArrayLike,
    weights: Values,
    scale: tuple[float, float] = (0.0, 1.0),
    bins: int = 10,
) -> list[Bin]:
    """The reliability diagram: bins of equal width over the scale; those without rows are left out."""
    values, truth = np.asarray(scores, float), np.asarray(outcome, float)
    edges = np.linspace(*scale, bins + 1)
    places = np.searchsorted(edges[1:-1], values)
    weight = np.bincount(places, weights, bins)
    score = divided(np.bincount(places, weights * values, bins), weight)
    mean = divided(np.bincount(places, weights * truth, bins), weight)
    return [
        Bin(float(edges[place]), float(edges[place + 1]), float(weight[place]), float(score[place]), float(mean[place]))
        for place in range(bins)
        if weight[place] > 0
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: |mean score - mean outcome| of each bin, weighed by its rows (Naeini et al. 2015)."""
    whole = sum(each.weight for each in bins)
    return sum(each.weight * abs(each.score - each.outcome) for each in bins) / whole if whole else float("nan")


def brier(scores: npt.ArrayLike, outcome: npt.ArrayLike, weights: Values) -> float:
    """Mean squared difference of probability and outcome."""
    gaps = (np.asarray(scores, float) - np.asarray(outcome, float)) ** 2
    return float(divided((weights * gaps).sum(), weights.sum()))


# --- several labels ---------------------------------------------------------------------------------------------------


def confusion(wanted: Places, given: Places, labels: int, weights: Values) -> Values:
    """Weight of rows by their own label (row) and the one given (column)."""
    cells = np.bincount(wanted * labels + given, weights, labels * labels).astype(np.float64)
    return cells.reshape(labels, labels)


@dataclass(frozen=True)
class LabelScores:
    """Of each label: how much of it there is, how much was given, precision, recall, F1 (0 where nothing was right)."""

    support: Values
    given: Values
    precision: Values
    recall: Values
    f1: Values
    accuracy: float
    macro_f1: float
    """The mean of F1 over the labels that stand in the data or were given."""


def label_scores(matrix: Values) -> LabelScores:
    """From a confusion matrix."""
    right, support, given = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = divided(2 * right, support + given)
    there = support + given > 0
    macro = float(f1[there].mean()) if there.any() else float("nan")
    accuracy = float(divided(right.sum(), matrix.sum()))
    return LabelScores(support, given, divided(right, given), divided(right, support), f1, accuracy, macro)


# --- numbers ----------------------------------------------------------------------------------------------------------


def mid_ranks(values: Values, weights: Values) -> Values:
    """The rank of each value, ties at the mean of theirs; a weight counts as so many rows."""
    _, places = np.unique(values, return_inverse=True)
    weight = np.bincount(places, weights)
    return (np.cumsum(weight) - (weight - 1) / 2)[places]


def correlation(first: Values, second: Values, weights: Values) -> float:
    """Pearson's; NaN where one of them does not vary."""
    counted = weights > 0
    if not counted.any() or any(np.ptp(each[counted]) == 0 for each in (first, second)):
        return float("nan")
    share = weights / weights.sum()
    first, second = first - share @ first, second - share @ second
    return float(share @ (first * second) / np.sqrt((share @ first**2) * (share @ second**2)))


def spearman(first: npt.ArrayLike, second: npt.ArrayLike, weights: Values) -> float:
    """Pearson's correlation of the mid-ranks."""
    ranks = [mid_ranks(np.asarray(each, float), weights) for each in (first, second)]
    return correlation(ranks[0], ranks[1], weights)


def mean_absolute_error(scores: npt.ArrayLike, targets: npt.ArrayLike, weights: Values) -> float:
    gaps = np.abs(np.asarray(scores, float) - np.asarray(targets, float))
    return float(divided((weights * gaps).sum(), weights.sum()))


def root_mean_square_error(scores: npt.ArrayLike, targets: npt.ArrayLike, weights: Values) -> float:
    return float(np.sqrt(brier(scores, targets, weights)))


# --- how sure the numbers are -----------------------------------------------------------------------------------------


def bootstrap(
    measure: Any, groups: Places, weights: Values, times: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Between which numbers 95 % of the measures lie when groups (sites) are drawn anew, with replacement.

    `measure` takes weights by row and gives numbers by name; `groups` numbers each row's group from 0. Empty where there
    are fewer than two groups; a measure that has no value in a draw is left out of that draw.
    """
    count = int(groups.max()) + 1 if len(groups) else 0
    if count < 2:
        return {}
    chance = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(times):
        often = np.bincount(chance.integers(count, size=count), minlength=count)
        for name, value in measure(weights * often[groups]).items():
            drawn.setdefault(name, []).append(value)
    found = {}
    for name, values in drawn.items():
        finite = np.array(values)[np.isfinite(values)]
        if len(finite) >= times / 2:
            low, high = np.quantile(finite, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found
