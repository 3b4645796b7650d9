"""What a mixture is solved for, and the proof that a solution is one.

minimise  A(f_1(p), …, f_k(p)) + kl * KL(p ‖ prior)   over a `Polytope`

f_i is the predicted bits per byte of task i, KL is in nats (0 log 0 = 0), and A is one of

    mean          the weighted mean
    worst         the largest: the task that is predicted worst, in bits per byte
    worst-change  the largest change against the natural mixture, f_i(p) - f_i(prior): no task pays for the others
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from curate.mixtures.forms import Floats
from curate.mixtures.polytope import Polytope, tilt
from curate.pipeline.errors import UsageError, nearest

Aggregate = Literal["mean", "worst", "worst-change"]
SMALLEST = 1e-300
"""Shares in logarithms: a share that is 0 counts as this."""


def aggregate_of(aggregate: str, importance: Floats, predicted: Floats, offset: Floats) -> Floats:
    """A(f - offset) (the mean: A(f)); shapes: (n, tasks) -> (n,), (tasks,) -> ()."""
    if aggregate == "mean":
        return np.asarray(predicted @ importance)
    return np.asarray((predicted - offset)[..., importance > 0].max(axis=-1))


@dataclass(frozen=True, eq=False)
class Problem:
    """One programme. `prior` (domains,) sums to 1; `importance` (tasks,) are the weights of the mean, which sum to 1, or, for
    the worst, 1 where a task counts and 0 where not; `offset` (tasks,) is what is taken off before the worst is sought."""

    polytope: Polytope
    prior: Floats
    kl: float
    aggregate: Aggregate
    importance: Floats
    offset: Floats

    def aggregated(self, predicted: Floats) -> Floats:
        """A(f) of predictions; shapes: (n, tasks) -> (n,), (tasks,) -> ()."""
        return aggregate_of(self.aggregate, self.importance, predicted, self.offset)

    def divergence(self, mixtures: Floats) -> Floats:
        """KL(p ‖ prior) in nats; shapes: (n, domains) -> (n,), (domains,) -> (). Infinite where the prior has nothing."""
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(mixtures > 0, mixtures * np.log(mixtures / self.prior), 0.0)
        return np.asarray(terms.sum(axis=-1))

    def value(self, mixtures: Floats, predicted: Floats) -> Floats:
        """The objective; shapes: (n, domains) and (n, tasks) -> (n,), or (domains,) and (tasks,) -> ()."""
        total = self.aggregated(predicted)
        return total + self.kl * self.divergence(mixtures) if self.kl else total

    def cheapest(self, slope: Floats, kl: float) -> Floats:
        """The mixture of the polytope that minimises slope·p + kl * KL(p ‖ prior); shapes: (domains,)."""
        lower, upper = self.polytope.lower, self.polytope.upper
        if kl > 0:
            with np.errstate(divide="ignore"):
                return tilt(np.log(self.prior) - slope / kl, lower, upper)
        order = np.argsort(slope, kind="stable")
        room = (upper - lower)[order]
        shares = lower.copy()
        shares[order] += np.clip((1.0 - lower.sum()) - (np.cumsum(room) - room), 0.0, room)
        return shares


@dataclass(frozen=True, eq=False)
class Certificate:
    """Multipliers of a mixture p, and how far p and they are from the conditions of Karush, Kuhn and Tucker.

    With g = sum_i tasks_i ∇f_i(p) + kl (log(p / prior) + 1) and r = g + price, a mixture is optimal if r = lower - upper,
    where `lower` >= 0 is 0 unless a share is at its lower bound, and `upper` >= 0 is 0 unless it is at its upper bound.
    """

    price: float
    """What one unit of share costs, in bits per byte: the multiplier of sum p = 1."""
    tasks: Floats
    """How much each task counts (tasks,): its weight, or, for the worst, its multiplier; they sum to 1."""
    lower: Floats
    """What the objective would gain were the lower bound of a domain one unit lower (domains,): max(r, 0)."""
    upper: Floats
    """What it would gain were the upper bound one unit higher (domains,): max(-r, 0)."""
    residual: float
    """max |p - clip(p - r / unit, lower bound, upper bound)|, |sum p - 1|, and for the worst max_i min(tasks_i, A - f_i): 0
    where p is optimal (the natural residual of the KKT system; Facchinei & Pang 2003, 1.5). `unit` is the steepest slope
    |sum_i tasks_i ∇f_i(p)| of a domain, or 1 if that is less."""
    gap: float
    """The objective at p is no more than this above the best there is, in bits per byte: by convexity, what the minimum of
    sum_i tasks_i (f_i(p) + ∇f_i(p)·(q - p)) + kl KL(q ‖ prior) over all mixtures q lies below it."""


def certify(problem: Problem, mixture: Floats, tasks: Floats, predicted: Floats, gradient: Floats) -> Certificate:
    """The certificate of a mixture, for multipliers of the tasks and their `gradient` (tasks, domains) at the mixture."""
    polytope = problem.polytope
    slope = tasks @ gradient
    moving = polytope.upper > polytope.lower
    full = slope + problem.kl * log_ratio(problem, mixture) + problem.kl if problem.kl else slope
    p, low, high = mixture[moving], polytope.lower[moving], polytope.upper[moving]
    unit = max(1.0, float(np.abs(slope[moving]).max(initial=0.0)))
    price = _price(p, full[moving], low, high, unit)
    off = np.abs(p - np.clip(p - (full[moving] + price) / unit, low, high)).max(initial=0.0)
    outside = np.maximum(polytope.lower - mixture, mixture - polytope.upper).max(initial=0.0)
    residual = max(float(off), float(outside), abs(float(mixture.sum()) - 1.0))
    value, bound = float(problem.value(mixture, predicted)), float(tasks @ (predicted - problem.offset))
    if problem.aggregate != "mean":
        counted = problem.importance > 0
        below = problem.aggregated(predicted) - (predicted - problem.offset)
        residual = max(residual, float(np.minimum(tasks, below)[counted].max()))
    best = problem.cheapest(slope, problem.kl)
    bound += float(slope @ (best - mixture)) + (problem.kl * float(problem.divergence(best)) if problem.kl else 0.0)
    # A fixed domain has multipliers too: what the tasks would gain (the KL term's slope at 0 says nothing).
    rest = np.where(moving, full, slope) + price
    return Certificate(price, tasks, np.maximum(rest, 0.0), np.maximum(-rest, 0.0), residual, max(value - bound, 0.0))


def log_ratio(problem: Problem, mixture: Floats) -> Floats:
    """log(p / prior), 0 where the prior has nothing; shapes: (domains,)."""
    prior = problem.prior
    return np.where(prior > 0, np.log(np.maximum(mixture, SMALLEST)) - np.log(np.maximum(prior, SMALLEST)), 0.0)


def _price(p: Floats, slope: Floats, low: Floats, high: Floats, unit: float) -> float:
    """The multiplier of sum p = 1 for which the residual is smallest: where its largest and its smallest part cancel.

    Of several, the one at which the share farthest from its bounds is stationary.
    """
    if not len(p):
        return 0.0
    ends = []
    for side in (-1, 1):
        begin, end = -float(slope.max()) - unit, -float(slope.min()) + unit
        for _ in range(200):
            price = (begin + end) / 2
            parts = p - np.clip(p - (slope + price) / unit, low, high)
            if not begin < price < end:
                break
            both = parts.max() + parts.min()
            begin, end = (price, end) if both < 0 or (both == 0 and side > 0) else (begin, price)
        ends.append((begin + end) / 2)
    freest = int(np.argmax(np.minimum(p - low, high - p)))
    return float(np.clip(-slope[freest], ends[0], max(ends)))


def importances(tasks: Sequence[str], given: object, aggregate: str) -> Floats:
    """`Problem.importance` of task weights by name, in the order of `tasks`, or None for all alike; shape: (tasks,).

    Raises UsageError for unknown tasks, weights that are negative or all 0, and, for the worst, weights that differ.
    """
    if aggregate not in get_args(Aggregate):
        raise UsageError(f"solve: no aggregate is called {aggregate!r}{nearest(aggregate, get_args(Aggregate))}")
    values = np.ones(len(tasks)) if given is None else by_name("task_weights", given, tasks)
    if not values.sum() > 0:
        raise UsageError("solve: all task weights are 0: nothing is left to solve for")
    if aggregate == "mean":
        return values / values.sum()
    chosen = values[values > 0]
    if (chosen != chosen[0]).any():
        raise UsageError(
            f"solve: for aggregate {aggregate!r} a task weight chooses a task or leaves it out (0): give equal ones"
        )
    return (values > 0).astype(np.float64)


def by_name(what: str, given: object, names: Sequence[str]) -> Floats:
    """Numbers >= 0 as an array in the order of `names`, from an array or from a mapping (names left out have 0).

    Raises UsageError for unknown names, another length, and numbers that are negative or not a number.
    """
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise UsageError(
                    f"solve: {what} names {name!r}, which the model does not have{nearest(str(name), tuple(names))}"
                )
        given = [given.get(name, 0.0) for name in names]
    try:
        values = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"solve: {what} is no array of numbers and no mapping of names to numbers") from None
    if values.shape != (len(names),):
        raise UsageError(
            f"solve: {what} has shape {values.shape}, the model has {len(names)}: {', '.join(names[:6])} …"
        )
    for index in np.flatnonzero(~(values >= 0)).tolist():
        raise UsageError(f"solve: {what} of {names[index]!r} is {values[index]}: numbers >= 0 are asked for")
    return values
