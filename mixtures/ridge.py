"""Ridge regression: loss = c + slope·p, the slopes penalised, the penalty chosen by leave-one-out error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.mixtures.fitted import groups, numbers
from curate.mixtures.forms import Convex, Floats

GRID = np.logspace(-6, 3, 37)
"""Penalties that are tried, as multiples of what an average direction of the mixtures varies over the runs."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """Minimises sum (y - c - slope·p)^2 + penalty |slope|^2 for each task (Hoerl & Kennard 1970).

    Shapes: `constant` (k,), `slope` (k, m), `penalty` (k,).
    """

    constant: Floats
    slope: Floats
    penalty: Floats

    kind = "ridge"

    @property
    def form(self) -> Convex:
        return Convex(self.constant, np.ones_like(self.constant), self.slope, exponential=False)

    def predict(self, weights: Floats) -> Floats:
        return self.form.predict(weights)

    def gradient(self, mixture: Floats) -> Floats:
        return self.slope.copy()

    def spread(self, weights: Floats) -> None:
        return None

    def again(self, weights: Floats, losses: Floats) -> Ridge:
        return fit_ridge(weights, losses, penalty=self.penalty)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name).tolist() for name in ("constant", "slope", "penalty")}


def fit_ridge(weights: Floats, losses: Floats, *, penalty: Floats | None = None) -> Ridge:
    """Fits (n, m) mixtures to (n, k) losses, NaN where not measured.

    `penalty` (k,); where it is None that of GRID with the least leave-one-out error is taken, task by task (the closed form
    of Golub, Heath & Wahba 1979).
    """
    tasks, domains = losses.shape[1], weights.shape[1]
    constant, slope, chosen = np.zeros(tasks), np.zeros((tasks, domains)), np.zeros(tasks)
    for runs, which in groups(losses):
        centre = weights[runs].mean(axis=0)
        y = losses[np.ix_(runs, which)]
        left, sizes, right = np.linalg.svd(weights[runs] - centre, full_matrices=False)
        left, sizes, right = left[:, sizes > 1e-10], sizes[sizes > 1e-10], right[sizes > 1e-10]
        along = left.T @ (y - y.mean(axis=0))
        chosen[which] = _choose(left, sizes, along, y, domains) if penalty is None else penalty[which]
        shrunk = along * (sizes[:, None] / (sizes[:, None] ** 2 + chosen[which]))
        slope[which] = shrunk.T @ right
        constant[which] = y.mean(axis=0) - slope[which] @ centre
    return Ridge(constant, slope, chosen)


def read_ridge(given: Mapping[str, Any], tasks: int, domains: int) -> Ridge:
    """A `Ridge` from `to_json`; UsageError where it is damaged."""
    return Ridge(
        numbers(given, "constant", (tasks,)), numbers(given, "slope", (tasks, domains)), numbers(given, "penalty", (tasks,))
    )  # fmt: skip


def _choose(left: Floats, sizes: Floats, along: Floats, y: Floats, domains: int) -> Floats:
    """The penalty of least leave-one-out error, a task; shapes: (n, r), (r,), (r, t), (n, t) -> (t,)."""
    penalties = GRID * max(float((sizes**2).sum()) / domains, 1e-12)
    errors = np.empty((len(penalties), y.shape[1]))
    residual = y - y.mean(axis=0)
    for place, penalty in enumerate(penalties):
        kept = sizes**2 / (sizes**2 + penalty)
        leverage = 1 / len(y) + left**2 @ kept
        rest = residual - left @ (kept[:, None] * along)
        errors[place] = ((rest / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2).mean(axis=0)
    chosen: Floats = penalties[errors.argmin(axis=0)]
    return chosen
