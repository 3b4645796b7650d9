"""The mixture that a fitted regression calls best, under a budget of tokens and a cap on repeats.

Olmix (arXiv 2602.12237): minimise predicted bits per byte + kl * KL(p ‖ prior) such that p_j <= max_repeats * N_j / budget.
Exact, and with a certificate, where the regression is convex (ridge, log-linear); else by search (`search.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from curate.mixtures.conic import minimise
from curate.mixtures.forms import Floats, Predictor
from curate.mixtures.objective import Aggregate, Certificate, Problem, aggregate_of, by_name, certify, importances
from curate.mixtures.polytope import polytope
from curate.mixtures.search import predictions, search, smooth
from curate.mixtures.threads import one_thread
from curate.pipeline.errors import CurateError, UsageError

Constraint = Literal["repeats", "cap", "floor", "zero"]
Numbers = Floats | Mapping[str, float]
_AT = 1e-6
"""A share is at a bound if it is this near to it, as a share of the bound."""
_RESAMPLED_CANDIDATES = 5_000
LARGEST_GAP = 1e-6
"""A gap, as a share of the objective (of 1 where that is less), above which a solution is said to be uncertain."""


@dataclass(frozen=True)
class Binding:
    """A bound that a share stands at."""

    domain: str
    constraint: Constraint
    """`repeats`: as often as its tokens allow; `cap`, `floor`: the user's; `zero`: nothing of it is taken, because it has no
    tokens or no prior share or, where kl is 0, because the solver wants none."""
    bound: float
    multiplier: float | None
    """What the objective would gain, in bits per byte per unit of share, were the bound wider; of a domain that may have no
    share, what the predictions alone would. None where the model gives no slope (trees)."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("domain", "constraint", "bound", "multiplier")}


@dataclass(frozen=True, eq=False)
class Solution:
    """A mixture and what is predicted of it. Shapes: m domains, k tasks; predictions in the unit of the runs' losses."""

    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    weights: Floats
    """(m,): sums to 1, keeps every bound."""
    prior: Floats
    """(m,): the natural mixture, summing to 1."""
    predicted: Floats
    """(k,)"""
    natural: Floats
    """(k,): predicted at the prior."""
    objective: float
    """Aggregate of `predicted`, plus kl times `divergence`."""
    divergence: float
    """KL(weights ‖ prior), nats."""
    binding: tuple[Binding, ...]
    residual: float | None
    """`Certificate.residual`, where the solution is exact."""
    method: Literal["exact", "search"]
    certificate: Certificate | None
    """The multipliers, and `gap`: by how much the objective may be above the best there is."""
    warnings: tuple[str, ...] = ()
    """What must be known before the mixture is used: an exact solve whose gap is above LARGEST_GAP."""

    @property
    def mixture(self) -> dict[str, float]:
        """The weights by domain, those above 0."""
        return {name: share for name, share in zip(self.domains, self.weights.tolist(), strict=True) if share > 0}

    def to_json(self) -> dict[str, Any]:
        """Everything, by name of domain and task."""
        by_domain = {"weights": self.weights, "prior": self.prior}
        by_task = {"predicted": self.predicted, "natural": self.natural}
        found: dict[str, Any] = {
            key: dict(zip(self.domains, value.tolist(), strict=True)) for key, value in by_domain.items()
        }
        found |= {key: dict(zip(self.tasks, value.tolist(), strict=True)) for key, value in by_task.items()}
        proof = self.certificate
        return found | {
            "objective": self.objective,
            "divergence": self.divergence,
            "binding": [item.to_json() for item in self.binding],
            "residual": self.residual,
            "gap": None if proof is None or self.method == "search" else proof.gap,
            "price": None if proof is None else proof.price,
            "task_multipliers": None if proof is None else dict(zip(self.tasks, proof.tasks.tolist(), strict=True)),
            "method": self.method,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class Intervals:
    """What the runs leave open: percentile intervals of a bootstrap over runs, each (low, high).

    `weights` (m,): of the mixture solved for anew from each resample. The others (k,) are of one and the same mixture, the
    solution, so that no gain is one of having chosen by the same noise: `predicted`, `natural` (the prior's) and `gains`,
    natural - predicted, above 0 where the solution is better. `gain` is that of the objective.

    They know the noise of runs, not what the form of the regression misses, and the mixture was chosen by the same runs: with
    few runs they hold the truth less often than `level` says (`solution.widened` adds the error on runs left out).
    """

    weights: tuple[Floats, Floats]
    predicted: tuple[Floats, Floats]
    natural: tuple[Floats, Floats]
    gains: tuple[Floats, Floats]
    gain: tuple[float, float]
    samples: int
    level: float
    uncertain: int = 0
    """Resamples whose solve has a warning."""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "samples": self.samples,
            "level": self.level,
            "gain": list(self.gain),
            "uncertain": self.uncertain,
        }
        for name in ("weights", "predicted", "natural", "gains"):
            low, high = getattr(self, name)
            found[name] = {"low": low.tolist(), "high": high.tolist()}
        return found


@one_thread
def solve(
    model: Predictor,
    prior: Numbers,
    available: Numbers,
    budget: float,
    max_repeats: float = 4,
    kl: float = 0.05,
    *,
    aggregate: Aggregate = "mean",
    task_weights: Numbers | None = None,
    floors: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
    seed: int = 0,
    candidates: int | None = None,
) -> Solution:
    """The mixture that minimises the aggregate of predictions + kl * KL(p ‖ prior) (see `objective`).

    `prior` (shares; made to sum to 1) and `available` (tokens; infinity where they do not bind) by domain: arrays in the order
    of `model.domains`, or by name (0 where left out). A domain without tokens or without a prior share gets none. `budget`:
    tokens of the mix; no domain gives more than `max_repeats` times its tokens. `task_weights`: of the mean; for the worst, 0
    leaves a task out. `floors`, `caps`: shares by name. `seed` and `candidates` are for the search only.
    Raises UsageError where no mixture keeps the bounds, saying which bind and what is possible.
    """
    start = _natural(model, prior)
    problem = _problem(model, start, available, budget, max_repeats, kl, aggregate, task_weights, floors, caps)
    natural = predictions(model, start)[0]
    form = model.form
    if form is not None and bool((form.scale >= 0).all() if form.exponential else True):
        weights, certificate = minimise(form, problem)
        return _solution(model, problem, weights, natural, certificate, "exact")
    weights = search(model, problem, candidates, seed)
    return _solution(model, problem, weights, natural, _local(model, problem, weights), "search")


@one_thread
def intervals(
    model: Predictor,
    prior: Numbers,
    available: Numbers,
    budget: float,
    max_repeats: float = 4,
    kl: float = 0.05,
    *,
    solution: Solution | None = None,
    samples: int = 100,
    level: float = 0.95,
    seed: int = 0,
    candidates: int | None = None,
    **given: Any,
) -> Intervals:
    """How sure a solution is: `samples` models fitted to runs drawn with replacement, each solved as `solve` was (`given`).

    `solution` is the one that gains are of (None: it is solved for). Memory: samples x (domains + 2 tasks) numbers. Searches
    draw 5,000 candidates a resample unless `candidates` says otherwise.
    """
    if samples < 1 or not 0 < level < 1:
        raise UsageError(f"intervals: {samples} samples at level {level}: at least 1, between 0 and 1")
    settings: dict[str, Any] = {"max_repeats": max_repeats, "kl": kl, **given}
    if solution is None:
        solution = solve(model, prior, available, budget, seed=seed, candidates=candidates, **settings)
    both = np.stack([solution.weights, solution.prior])
    fewer = candidates or _RESAMPLED_CANDIDATES
    weights, told, uncertain = [], [], 0
    for number, resampled in enumerate(model.resample(samples, seed)):
        again = solve(resampled, prior, available, budget, seed=seed + number, candidates=fewer, **settings)
        weights.append(again.weights)
        uncertain += bool(again.warnings)
        told.append(predictions(resampled, both))
    solved, natural = np.array(told)[:, 0], np.array(told)[:, 1]
    aggregate = settings.get("aggregate", "mean")
    importance = importances(model.tasks, settings.get("task_weights"), aggregate)
    offset = natural if aggregate == "worst-change" else np.zeros_like(natural)
    before, after = (aggregate_of(aggregate, importance, values, offset) for values in (natural, solved))
    low, high = _percentiles(before - after, level)
    return Intervals(
        weights=_percentiles(np.array(weights), level),
        predicted=_percentiles(solved, level),
        natural=_percentiles(natural, level),
        gains=_percentiles(natural - solved, level),
        gain=(float(low), float(high)),
        samples=len(told),
        level=level,
        uncertain=uncertain,
    )


def _percentiles(values: Floats, level: float) -> tuple[Floats, Floats]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def _natural(model: Predictor, prior: Numbers) -> Floats:
    shares = by_name("prior", prior, model.domains)
    if not 0 < shares.sum() < math.inf:
        raise UsageError("solve: the prior's shares sum to 0 (or to infinity): nothing to begin with")
    return np.asarray(shares / shares.sum())


def _problem(
    model: Predictor,
    prior: Floats,
    available: Numbers,
    budget: float,
    max_repeats: float,
    kl: float,
    aggregate: Aggregate,
    task_weights: Numbers | None,
    floors: Mapping[str, float] | None,
    caps: Mapping[str, float] | None,
) -> Problem:
    for name, value, least in (
        ("budget", budget, "more than 0"),
        ("max_repeats", max_repeats, "more than 0"),
        ("kl", kl, "0 or more"),
    ):
        if not isinstance(value, int | float | np.number):
            raise UsageError(f"solve: {name} is {value!r}: give a number that is {least}")
        if not (math.isfinite(value) and value >= 0 and (value > 0 or name == "kl")):
            raise UsageError(f"solve: {name} is {value}: give a number that is {least}")
    tokens = by_name("available", available, model.domains)
    importance = importances(model.tasks, task_weights, aggregate)
    natural = predictions(model, prior)[0]
    if not np.isfinite(natural).all():
        raise CurateError(
            "solve: the regression predicts numbers that are not finite: look at the runs' losses, and fit again"
        )
    offset = natural if aggregate == "worst-change" else np.zeros_like(natural)
    shape = polytope(model.domains, prior, tokens, budget, max_repeats, floors, caps)
    return Problem(shape, prior, float(kl), aggregate, importance, offset)


def _solution(
    model: Predictor,
    problem: Problem,
    weights: Floats,
    natural: Floats,
    certificate: Certificate | None,
    method: Literal["exact", "search"],
) -> Solution:
    predicted = predictions(model, weights)[0]
    objective = float(problem.value(weights, predicted))
    return Solution(
        domains=model.domains,
        tasks=model.tasks,
        weights=weights,
        prior=problem.prior,
        predicted=predicted,
        natural=natural,
        objective=objective,
        divergence=float(problem.divergence(weights)),
        binding=_binding(problem, weights, certificate),
        residual=certificate.residual if certificate is not None and method == "exact" else None,
        method=method,
        certificate=certificate,
        warnings=_warnings(objective, certificate) if certificate is not None and method == "exact" else (),
    )


def _warnings(objective: float, certificate: Certificate) -> tuple[str, ...]:
    if certificate.gap <= LARGEST_GAP * max(1.0, abs(objective)):
        return ()
    return (
        f"this mixture is not proven to be the best: its objective, {objective:.6g}, may be {certificate.gap:.2g} above the "
        "lowest. The regression predicts losses that differ by many orders of magnitude: look at the runs, ask for another "
        "kind of regression, or raise kl",
    )


def _local(model: Predictor, problem: Problem, weights: Floats) -> Certificate | None:
    """Multipliers at a mixture that was searched for, where the model is smooth. They hold nearby and prove nothing: no gap."""
    if not smooth(model, weights):
        return None
    predicted = predictions(model, weights)[0]
    tasks = problem.importance
    if problem.aggregate != "mean":
        counted = np.where(tasks > 0, predicted - problem.offset, -np.inf)
        tasks = (np.arange(len(tasks)) == counted.argmax()).astype(np.float64)
    return replace(certify(problem, weights, tasks, predicted, model.gradient(weights)), gap=math.inf)


def _binding(problem: Problem, weights: Floats, certificate: Certificate | None) -> tuple[Binding, ...]:
    """The bounds at which shares stand, those that cost most first."""
    polytope, found = problem.polytope, []
    for index, name in enumerate(polytope.domains):
        low, high, share = (float(values[index]) for values in (polytope.lower, polytope.upper, weights))
        gains = (
            (None, None) if certificate is None else (float(certificate.lower[index]), float(certificate.upper[index]))
        )
        if high <= 0.0:
            found.append(Binding(name, "zero", 0.0, gains[1]))
        elif share >= high * (1 - _AT) and (high < 1.0 or polytope.capped[index]) and gains[1] != 0.0:
            found.append(Binding(name, "cap" if polytope.capped[index] else "repeats", high, gains[1]))
        elif share <= low * (1 + _AT) and gains[0] != 0.0:
            found.append(Binding(name, "floor" if low > 0 else "zero", low, gains[0]))
    return tuple(sorted(found, key=lambda item: (item.constraint == "zero", -(item.multiplier or 0.0))))
