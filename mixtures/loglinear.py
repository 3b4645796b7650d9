"""Log-linear regression: loss = c + exp(slope·p), the form of Olmix (arXiv 2602.12237): convex, and the one to carry answers
to a larger scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from curate.mixtures.fitted import numbers, scale_of
from curate.mixtures.forms import Convex, Floats
from curate.pipeline.errors import UsageError

DELTA = 0.5
"""Where Huber's loss turns linear, in standard deviations of a task's losses. Olmix's is .02 bits per byte, whatever the task
spreads; of .02, .1 and .5 deviations the last was best by cross-validation, for 30 to 512 runs of RegMix."""
PENALTIES = np.logspace(-8, -2, 7)
"""Penalties of the slopes that are tried, the weakest first."""
FLOORS = (0.3, 0.03, 3.0)
"""Where the searches begin: c this many standard deviations below the least loss of the runs."""
LOWEST = 10.0
"""c is at most this many standard deviations below the least loss: there the form is all but linear, and further down L-BFGS
wanders along a valley."""
_MOST = 30.0


@dataclass(frozen=True, eq=False)
class LogLinear:
    """Shapes: `constant` and `scale` (k,), `slope` (k, m), `penalty` (k,). The scale is that of the losses, so that slopes of
    tasks can be compared: constant + scale * exp(slope·p)."""

    constant: Floats
    scale: Floats
    slope: Floats
    penalty: Floats

    kind = "log-linear"

    @property
    def form(self) -> Convex:
        return Convex(self.constant, self.scale, self.slope, exponential=True)

    def predict(self, weights: Floats) -> Floats:
        return self.form.predict(weights)

    def gradient(self, mixture: Floats) -> Floats:
        return self.form.gradient(mixture)

    def spread(self, weights: Floats) -> None:
        return None

    def again(self, weights: Floats, losses: Floats) -> LogLinear:
        return fit_loglinear(weights, losses, before=self)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("constant", "scale", "slope", "penalty")}


def fit_loglinear(weights: Floats, losses: Floats, *, before: LogLinear | None = None) -> LogLinear:
    """Fits (n, m) mixtures to (n, k) losses, NaN where not measured.

    Each task on its own: the mean Huber loss of standardised losses plus penalty/2 times the squared slopes about their
    mean, by L-BFGS from several beginnings. The penalty is that of PENALTIES with the least leave-one-out loss (one Newton step
    from the fit), or that of `before`, whose fit the search then begins with.
    """
    tasks, domains = losses.shape[1], weights.shape[1]
    constant, scale, penalties = np.zeros(tasks), np.zeros(tasks), np.zeros(tasks)
    slope = np.zeros((tasks, domains))
    for task in range(tasks):
        runs = np.isfinite(losses[:, task])
        y = losses[runs, task]
        middle, spread = float(y.mean()), float(scale_of(y))
        problem = _Problem(weights[runs], (y - middle) / spread)
        if before is None:
            values, penalties[task] = problem.search()
        else:
            penalties[task] = before.penalty[task]
            values = problem.resume(before, task, middle, spread)
        steep = values[2:]
        slope[task] = steep + (values[1] - steep @ problem.centre)
        constant[task], scale[task] = middle + spread * values[0], spread
    return LogLinear(constant, scale, slope, penalties)


def read_loglinear(given: Mapping[str, Any], tasks: int, domains: int) -> LogLinear:
    """A `LogLinear` from `to_json`; UsageError where it is damaged."""
    one = (tasks,)
    scale = numbers(given, "scale", one)
    if (scale < 0).any():
        raise UsageError("model: 'scale' is negative: the tasks would not be convex")
    slope = numbers(given, "slope", (tasks, domains))
    return LogLinear(numbers(given, "constant", one), scale, slope, numbers(given, "penalty", one))


class _Problem:
    """One task: z ~ c + exp(b + a·x), x the mixture less the runs' mean. Parameters (c, b, a), shape (2 + m,)."""

    def __init__(self, weights: Floats, z: Floats) -> None:
        self.centre = weights.mean(axis=0)
        self.x, self.z = weights - self.centre, z
        self.gram = self.x.T @ self.x / len(z)

    def search(self) -> tuple[Floats, float]:
        """(parameters, penalty): the best penalty of searches from the first beginning; there, the best of all beginnings."""
        found = [self._minimise(penalty, self._begin(FLOORS[0])) for penalty in PENALTIES]
        errors = [self._left_out(values, penalty) for (values, _), penalty in zip(found, PENALTIES, strict=True)]
        best = int(np.argmin(errors))
        tried = [found[best], *(self._minimise(PENALTIES[best], self._begin(floor)) for floor in FLOORS[1:])]
        return min(tried, key=lambda each: each[1])[0], float(PENALTIES[best])

    def resume(self, before: LogLinear, task: int, middle: float, spread: float) -> Floats:
        """Parameters, from an earlier fit of the task to other runs."""
        steep = before.slope[task]
        start = np.concatenate(
            [
                [(before.constant[task] - middle) / spread],
                [steep @ self.centre + np.log(max(before.scale[task], 1e-300) / spread)],
                steep - steep.mean(),
            ]
        )
        return self._minimise(before.penalty[task], start)[0]

    def _begin(self, floor: float) -> Floats:
        """c fixed, the rest by least squares on log(z - c)."""
        c = self.z.min() - floor
        logs = np.log(self.z - c)
        firm = self.gram + 1e-3 * max(np.trace(self.gram) / len(self.gram), 1e-12) * np.eye(len(self.gram))
        steep = np.linalg.solve(firm, self.x.T @ (logs - logs.mean()) / len(logs))
        return np.concatenate([[c, logs.mean()], steep])

    def value(self, values: Floats, penalty: float) -> tuple[float, Floats]:
        """The objective and its gradient."""
        growth, rest = self._parts(values)
        size = np.abs(rest)
        loss = np.where(size <= DELTA, 0.5 * rest**2, DELTA * (size - 0.5 * DELTA)).mean()
        pull = np.clip(rest, -DELTA, DELTA) / len(rest)
        along = pull * growth
        steep = values[2:]
        slope = np.concatenate([[pull.sum(), along.sum()], self.x.T @ along + penalty * steep])
        return float(loss + 0.5 * penalty * steep @ steep), slope

    def _parts(self, values: Floats) -> tuple[Floats, Floats]:
        growth = np.exp(np.minimum(values[1] + self.x @ values[2:], _MOST))
        return growth, values[0] + growth - self.z

    def _minimise(self, penalty: float, start: Floats) -> tuple[Floats, float]:
        """L-BFGS in coordinates in which the mixtures vary alike in all directions: ten times fewer steps."""
        root = np.linalg.cholesky(self.gram + (penalty + 1e-9) * np.eye(len(self.gram)))
        back = np.linalg.inv(root).T

        def turned(values: Floats) -> tuple[float, Floats]:
            loss, slope = self.value(np.concatenate([values[:2], back @ values[2:]]), penalty)
            slope[2:] = back.T @ slope[2:]
            return loss, slope

        begin = np.concatenate([start[:2], root.T @ start[2:]])
        lowest = float(self.z.min()) - LOWEST
        begin[0] = max(begin[0], lowest)
        bounds = [(lowest, None)] + [(None, None)] * (len(begin) - 1)
        found = minimize(
            turned, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200, "ftol": 1e-7}
        )
        return np.concatenate([found.x[:2], back @ found.x[2:]]), float(found.fun)

    def _left_out(self, values: Floats, penalty: float) -> float:
        """Mean Huber loss of each run, predicted without it: r / (1 - h), h its leverage in the linearised fit."""
        growth, rest = self._parts(values)
        moves = np.column_stack([np.ones_like(growth), growth, growth[:, None] * self.x])
        inside = np.minimum(1.0, DELTA / np.maximum(np.abs(rest), 1e-12))
        firm = np.full(len(values), penalty * len(rest))
        firm[:2] = 1e-9
        curved = (moves * inside[:, None]).T @ moves + np.diag(firm + 1e-10)
        solved = cho_solve(cho_factor(curved, lower=True), moves.T)
        leverage = inside * np.einsum("ij,ji->i", moves, solved)
        out = np.abs(rest) / np.maximum(1 - leverage, 1e-3)
        return float(np.where(out <= DELTA, 0.5 * out**2, DELTA * (out - 0.5 * DELTA)).mean())
