"""What the solver asks of a regression: predictions, and for the convex ones their formula."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Convex:
    """Predictions by formula: task i at the mixture p has `constant_i + scale_i * exp(slope_i·p)`, or, where `exponential`
    is False, `constant_i + slope_i·p` (then `scale` is not read).

    Shapes: `constant` (tasks,), `scale` (tasks,) >= 0, so that every task is convex in p, `slope` (tasks, domains).
    """

    constant: Floats
    scale: Floats
    slope: Floats
    exponential: bool

    def predict(self, weights: Floats) -> Floats:
        """Predictions for mixtures; shapes: (n, domains) -> (n, tasks)."""
        linear = np.asarray(weights, np.float64) @ self.slope.T
        return self.constant + (self.scale * np.exp(linear) if self.exponential else linear)

    def gradient(self, mixture: Floats) -> Floats:
        """What one unit of a domain adds to a task, at a mixture; shapes: (domains,) -> (tasks, domains)."""
        if not self.exponential:
            return self.slope.copy()
        growth: Floats = (self.scale * np.exp(self.slope @ mixture))[:, None] * self.slope
        return growth


class Predictor(Protocol):
    """What a fitted model must have to be solved for: `regression.Model` does."""

    @property
    def domains(self) -> tuple[str, ...]: ...

    @property
    def tasks(self) -> tuple[str, ...]: ...

    @property
    def form(self) -> Convex | None:
        """The formula where there is a convex one; None sends the solver to search."""

    def predict(self, weights: Floats) -> Floats:
        """(n, domains) -> (n, tasks), or (n,) for a model of one unnamed task."""

    def gradient(self, mixture: Floats) -> Floats:
        """(domains,) -> (tasks, domains); raises NotImplementedError where predictions are steps (trees)."""

    def resample(self, samples: int, seed: int) -> Iterator[Predictor]:
        """The model fitted again to runs drawn with replacement, `samples` times; settings are kept."""
