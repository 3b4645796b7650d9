"""The solve for predictions without a convex formula: seeded candidates, then descent where predictions are smooth.

Trees: the mean of the best 100 of 100,000 candidates, as RegMix (arXiv 2407.01492) does; single best ones are flukes of
steps. Smooth models (a Gaussian process): proximal descent from the best candidates. Never worse than the natural mixture
brought within the bounds.
"""

from __future__ import annotations

import math

import numpy as np

from curate.mixtures.forms import Floats, Predictor
from curate.mixtures.objective import Problem, log_ratio
from curate.mixtures.polytope import tilt

CANDIDATES = 100_000
SMOOTH_CANDIDATES = 4_000
BEST = 100
_BLOCK = 4096
"""Candidates at a time: memory is this times the domains."""
_STARTS, _STEPS = 4, 200
_PROGRESS = 1e-9
"""Bits per byte below which a step counts for nothing."""
_WIDEST, _NARROWEST = 0.5, 100.0
"""Strengths of the Dirichlet distributions around the prior, the second a domain: single domains, to shares within a tenth."""


def predictions(model: Predictor, mixtures: Floats) -> Floats:
    """What a model predicts, one column a task also where it has one only; shapes: (n, domains) -> (n, tasks)."""
    predicted = np.asarray(model.predict(np.atleast_2d(mixtures)), np.float64)
    return predicted.reshape(len(predicted), -1)


def smooth(model: Predictor, mixture: Floats) -> bool:
    """Whether the model gives a gradient."""
    try:
        model.gradient(mixture)
    except NotImplementedError:
        return False
    return True


def candidates(problem: Problem, count: int, seed: int) -> Floats:
    """Feasible mixtures: Dirichlet around the prior in strengths from wide to narrow, projected; shape: (count, domains)."""
    random = np.random.default_rng([seed, count])
    usable = np.flatnonzero(problem.polytope.upper > 0)
    centre = problem.prior[usable] / problem.prior[usable].sum() if len(usable) else problem.prior[usable]
    strengths = np.exp(random.uniform(math.log(_WIDEST), math.log(_NARROWEST * max(len(usable), 2)), count))
    # log of Gamma(a): Gamma(a + 1) * U^(1 / a), for shapes so small that Gamma(a) itself would be 0.
    shape = np.maximum(strengths[:, None] * centre, 1e-12)
    logs = np.full((count, len(problem.prior)), -np.inf)
    logs[:, usable] = np.log(random.standard_gamma(shape + 1.0)) + np.log(1.0 - random.random(shape.shape)) / shape
    return tilt(logs, problem.polytope.lower, problem.polytope.upper)


def search(model: Predictor, problem: Problem, count: int | None, seed: int) -> Floats:
    """The mixture found; `count` candidates are drawn (None: 100,000, or 4,000 where the model is smooth)."""
    start = problem.polytope.project(problem.prior)
    graded = smooth(model, start)
    total = count or (SMOOTH_CANDIDATES if graded else CANDIDATES)
    best, values = np.empty((0, len(start))), np.empty(0)
    for block, first in enumerate(range(0, total, _BLOCK)):
        drawn = candidates(problem, min(_BLOCK, total - first), seed * 1_000_003 + block)
        best = np.concatenate([best, drawn])
        values = np.concatenate([values, problem.value(drawn, predictions(model, drawn))])
        order = np.argsort(values, kind="stable")[:BEST]
        best, values = best[order], values[order]
    if graded:
        found = [_descend(model, problem, mixture) for mixture in [start, *best[:_STARTS]]]
    else:
        few = max(1, min(BEST, total // 1000))
        found = [problem.polytope.project(best[:few].mean(axis=0))]
    natural = _value(model, problem, start)
    found.sort(key=lambda mixture: _value(model, problem, mixture))
    if _value(model, problem, found[0]) <= natural:
        return found[0]
    return best[0] if values[0] < natural else start


def _value(model: Predictor, problem: Problem, mixture: Floats) -> float:
    return float(problem.value(mixture, predictions(model, mixture)[0]))


def _descend(model: Predictor, problem: Problem, mixture: Floats) -> Floats:
    """Descent by Bregman steps: each minimises the tasks' slope + kl KL(q ‖ prior) + KL(q ‖ p) / rate over the polytope.

    The worst task is smoothed, first much and then little (log-sum-exp), so that its slope does not jump.
    """
    best, lowest = mixture, _value(model, problem, mixture)
    sharps = [None] if problem.aggregate == "mean" else [30.0, 300.0, 3000.0]
    for sharp in sharps:
        here, value, rate = best, _smoothed(model, problem, best, sharp), 1.0
        for _ in range(_STEPS):
            slope = _tasks(problem, predictions(model, here)[0], sharp) @ model.gradient(here)
            stepped, found, rate = _step(model, problem, here, value, slope, rate, sharp)
            if not found < value - _PROGRESS:
                break
            here, value, rate = stepped, found, rate * 2.0
        reached = _value(model, problem, here)
        if reached < lowest:
            best, lowest = here, reached
    return best


def _step(
    model: Predictor, problem: Problem, here: Floats, value: float, slope: Floats, rate: float, sharp: float | None
) -> tuple[Floats, float, float]:
    """(mixture, objective, rate): the first step, of rates halved again and again, that goes down; else the last."""
    with np.errstate(divide="ignore"):
        prior = np.log(problem.prior)
    ratio = log_ratio(problem, here)
    for _ in range(40):
        logs = prior + (ratio / rate - slope) / (problem.kl + 1.0 / rate)
        stepped = tilt(logs, problem.polytope.lower, problem.polytope.upper)
        found = _smoothed(model, problem, stepped, sharp)
        if found < value:
            break
        rate /= 2.0
    return stepped, found, rate


def _tasks(problem: Problem, predicted: Floats, sharp: float | None) -> Floats:
    """How much each task counts in the slope of the (smoothed) aggregate; shape: (tasks,)."""
    if sharp is None:
        return problem.importance
    change = np.where(problem.importance > 0, predicted - problem.offset, -np.inf)
    weights = np.exp(sharp * (change - change.max()))
    return np.asarray(weights / weights.sum())


def _smoothed(model: Predictor, problem: Problem, mixture: Floats, sharp: float | None) -> float:
    predicted = predictions(model, mixture)[0]
    value = float(problem.value(mixture, predicted))
    if sharp is None:
        return value
    change = np.where(problem.importance > 0, predicted - problem.offset, -np.inf)
    return value + float(np.log(np.exp(sharp * (change - change.max())).sum()) / sharp)
