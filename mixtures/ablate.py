"""Two mixes compared by what the same small model learns of each: is the difference beyond noise?

Pure arrays, no models: of every measure (a task, a held-out text) each run gives one value an item (a question, a document).

Two noises stand between two means. Runs that differ in their seed alone differ, and so do items: others of the same kind would
have given another difference. A difference counts where it is beyond the first (Welch 1947: the spread of runs may differ
between the sides) and also beyond both together, at a level that Holm's step-down (1979) shares out over the measures of a
family.

Runs are not paired by seed. A seed gives both sides the same first weights, but windows of different text in an order of its
own. What is shared makes the test cautious, never rash; a paired one would see more only from about four seeds on (at a
correlation of .5 between sides: t is 4.3 instead of 12.7 with two seeds, and half of the degrees of freedom are lost).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESULT = "ablation/ablation.json"
TEXTS, TASKS, ACCURACY, BUCKETS = "held-out text", "tasks", "accuracy", "buckets"
"""Families: bits per byte of the mixes' held-out text, and of the tasks' gold answers; the tasks' accuracy (their own main
one); bits per byte of the text by bucket."""
BETTER, WORSE, WITHIN_NOISE = "better", "worse", "within noise"
POWER = 0.8
"""How often the smallest difference that could be shown would be shown (Cohen 1988)."""
_GRID = 4_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Measure:
    """What all runs of both sides were asked alike."""

    name: str
    """As in `arc_easy/rc_5shot`; of a bucket its name."""
    family: str
    """Measures of one kind: the level is shared out within it."""
    higher_is_better: bool = False


@dataclass(frozen=True)
class Comparison:
    """The second side against the first, by one measure."""

    measure: Measure
    first: tuple[float, ...]
    """The mean over items of each run, in the order of seeds."""
    second: tuple[float, ...]
    items: int
    difference: float
    """Mean of the second minus mean of the first."""
    low: float
    """Interval of the difference at `1 - level`, not widened for the other measures: the wider one of the two tests'."""
    high: float
    p: float
    """The larger one of the two tests' two-sided p values."""
    p_runs: float
    """Welch's test over runs: other seeds, these very items."""
    p_items: float
    """The test with both noises: other seeds and other items of the kind. As `p_runs` where there is one item."""
    error_runs: float
    """Standard error of the difference from the spread of runs."""
    error: float
    """Standard error from runs and items."""
    degrees: float
    """Degrees of freedom of the test that decided `p`."""
    level: float
    p_holm: float = math.nan
    """`p` after Holm's correction over the family."""
    verdict: str = ""
    """Of the second side: BETTER, WORSE or WITHIN_NOISE; empty before `judge`."""
    detectable: float = math.nan
    """The smallest true difference that so many runs as noisy as these would show in POWER of all cases, in this family."""

    def to_json(self) -> dict[str, Any]:
        """Flat, without NaN: what could not be known is null."""
        found = asdict(self.measure) | {name: value for name, value in asdict(self).items() if name != "measure"}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in found.items()
        }


@dataclass(frozen=True)
class _Noise:
    """A variance of the difference and how well it is known."""

    variance: float
    degrees: float

    @property
    def error(self) -> float:
        return math.sqrt(self.variance)


def compare(
    measure: Measure, first: Floats, second: Floats, weights: Floats | None = None, *, level: float = 0.05
) -> Comparison:
    """One measure of two sides, not yet judged. `first` and `second`: (runs, items), two runs at least; `weights`: (items,).

    A run's value is the weighted mean over its items: questions count alike (no weights), documents by their bytes. Where all
    runs and all items show the very same difference, as few right and wrong answers may, its error is not 0 but that which one
    more item without a difference would make.
    Raises ValueError for fewer than two runs of a side, other items on one side than on the other, or values that are not
    finite.
    """
    first, second = (np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (first, second))
    if min(len(first), len(second)) < 2:
        raise ValueError(f"{measure.name}: {len(first)} and {len(second)} runs: noise needs two of each side at least")
    if first.shape[1] != second.shape[1] or not first.shape[1]:
        raise ValueError(f"{measure.name}: {first.shape[1]} items on one side, {second.shape[1]} on the other")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"{measure.name}: a value is not finite")
    share = np.ones(first.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    means = first @ share, second @ share
    difference = float(means[1].mean() - means[0].mean())
    if abs(difference) <= _ROUNDING * max(float(np.abs(side).max()) for side in means):
        difference = 0.0
    runs = _runs_noise(*means)
    both = _both_noise(runs, first, second, share)
    if not both.variance:
        both = _Noise((difference / (len(share) + 1)) ** 2, max(1, len(share) - 1))
    p_runs, p_items = _p(difference, runs), _p(difference, both)
    deciding = runs if p_runs >= p_items else both
    reach = max(_reach(noise, level) for noise in (runs, both))
    return Comparison(
        measure, tuple(means[0].tolist()), tuple(means[1].tolist()), first.shape[1], difference,
        difference - reach, difference + reach, max(p_runs, p_items), p_runs, p_items, runs.error, both.error,
        deciding.degrees, level,
    )  # fmt: skip


def judge(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The same in their order with `p_holm`, `verdict` and `detectable`: every family is corrected by itself."""
    found = list(comparisons)
    for family in {item.measure.family for item in comparisons}:
        own = [number for number, item in enumerate(comparisons) if item.measure.family == family]
        for number, p in zip(own, holm([comparisons[number].p for number in own]), strict=True):
            item = comparisons[number]
            found[number] = replace(item, p_holm=p, verdict=_verdict(item, p), detectable=_detectable(item, len(own)))
    return found


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for being the smallest of several (Holm 1979), in the order given."""
    order = sorted(range(len(values)), key=lambda number: values[number])
    found, reached = [0.0] * len(values), 0.0
    for rank, number in enumerate(order):
        reached = max(reached, min(1.0, (len(values) - rank) * values[number]))
        found[number] = reached
    return found


def needed(runs: int, measures: int = 1, level: float = 0.05) -> float:
    """By how many standard deviations of a run two sides of so many runs must differ to count, with equal spreads and no
    noise of items; `measures`: how many share the level."""
    from scipy import stats

    return float(stats.t.isf(level / measures / 2, 2 * runs - 2)) * math.sqrt(2 / runs)


def _runs_noise(first: Floats, second: Floats) -> _Noise:
    """Welch 1947, with the degrees of freedom of Satterthwaite 1946."""
    own = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1) for side in (first, second)]
    return _summed(own)


def _both_noise(runs: _Noise, first: Floats, second: Floats, share: Floats) -> _Noise:
    """Runs and items crossed: the variance of the difference of means by moments (Cornfield and Tukey 1956).

    The spread of runs and the spread of items both hold the part in which a run goes its own way on an item; it is taken off
    once. The mean being a ratio (weights are bytes), deviations of items are linearised.
    """
    count = len(share)
    if count < 2:
        return runs
    scaled = share * count
    by_item = second.mean(axis=0) - first.mean(axis=0)
    items = float(np.sum((scaled * (by_item - by_item @ share)) ** 2)) / (count * (count - 1))
    crossed, freedom = [], []
    for side in (first, second):
        rest = scaled * (side - side.mean(axis=0) - (side @ share)[:, None] + (side @ share).mean())
        freedom.append((len(side) - 1) * (count - 1))
        crossed.append(float(np.sum(rest**2)) / freedom[-1] / (len(side) * count))
    mixed = sum(crossed)
    own = [(float(np.var(side @ share, ddof=1)) / len(side), len(side) - 1) for side in (first, second)]
    if runs.variance < mixed:  # by chance: it cannot be so
        own = list(zip(crossed, freedom, strict=True))
    more = max(items - mixed, 0.0)
    return _summed([*own, (more, count - 1)] if more else own)


def _summed(parts: Sequence[tuple[float, int]]) -> _Noise:
    """A sum of independent variances, each known with so many degrees of freedom."""
    variance = sum(value for value, _ in parts)
    if not variance:
        return _Noise(0.0, float(sum(degrees for _, degrees in parts)))
    return _Noise(variance, 1 / sum((value / variance) ** 2 / degrees for value, degrees in parts))


def _p(difference: float, noise: _Noise) -> float:
    from scipy import stats

    if not noise.variance:
        return 1.0 if not difference else 0.0
    return float(2 * stats.t.sf(abs(difference) / noise.error, noise.degrees))


def _reach(noise: _Noise, level: float) -> float:
    """Half of the interval's width."""
    from scipy import stats

    return float(stats.t.isf(level / 2, noise.degrees)) * noise.error


def _verdict(item: Comparison, p: float) -> str:
    if p > item.level or not item.difference:
        return WITHIN_NOISE
    return BETTER if (item.difference > 0) == item.measure.higher_is_better else WORSE


def _detectable(item: Comparison, measures: int) -> float:
    """Where the power of the deciding test, at Holm's first and strictest level, reaches POWER."""
    from scipy import stats

    error = item.error_runs if item.p_runs >= item.p_items else item.error
    limit = float(stats.t.isf(item.level / measures / 2, item.degrees))
    # Power of Student's test, averaged over what the estimated spread may be: (Z + shift) / sqrt(chi2 / degrees) > limit.
    spread = np.sqrt(stats.chi2.ppf((np.arange(_GRID) + 0.5) / _GRID, item.degrees) / item.degrees)
    low, high = 0.0, 20.0 + 5 * limit
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if np.mean(stats.norm.sf(limit * spread - middle)) >= POWER else (middle, high)
    return high * error
