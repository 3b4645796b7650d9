from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mix_models import Known, log_linear, natural

from curate.mixtures.forms import Floats
from curate.mixtures.solver import solve


@pytest.mark.parametrize("aggregate", ["mean", "worst-change"])
def test_descent_finds_what_the_exact_solve_finds(aggregate: Any) -> None:
    model, prior = log_linear(8, 5, 2), natural(8, 2)
    given: dict[str, Any] = {"aggregate": aggregate, "floors": {"d1": 0.05}, "candidates": 200}
    exact = solve(model, prior, prior * 1000, 1500.0, **given)
    found = solve(Known(model.form_, convex=False), prior, prior * 1000, 1500.0, **given)
    assert found.method == "search" and found.residual is None
    assert exact.objective - 1e-9 <= found.objective <= exact.objective + (1e-7 if aggregate == "mean" else 1e-3)
    assert abs(found.weights.sum() - 1) < 1e-9 and found.weights[1] >= 0.05 - 1e-9


def test_without_a_slope_the_mean_of_the_best_candidates_is_near_the_optimum_and_seeded() -> None:
    model, prior = log_linear(5, 4, 3), natural(5, 3)
    steps = Known(model.form_, convex=False, steps=True)
    exact = solve(model, prior, prior * 1000, 1500.0)
    found, again = (solve(steps, prior, prior * 1000, 1500.0, candidates=20_000, seed=1) for _ in range(2))
    assert found.weights.tolist() == again.weights.tolist()
    gained = exact.natural.mean() - exact.objective
    assert exact.objective <= found.objective <= exact.objective + 0.2 * gained
    assert all(item.multiplier is None for item in found.binding)


class _Spike(Known):
    """Best exactly at the prior: whatever is drawn is worse."""

    def predict(self, weights: Floats) -> Floats:
        far = np.abs(np.atleast_2d(weights) - natural(6, 1)).sum(axis=1, keepdims=True)
        return np.asarray(1.0 + far**0.25 + np.zeros((1, len(self.tasks))))


def test_the_search_is_never_worse_than_the_prior() -> None:
    prior = natural(6, 1)
    model = _Spike(log_linear(6, 2, 1).form_, convex=False, steps=True)
    found = solve(model, prior, prior * 1000, 100.0, candidates=500)
    assert found.objective <= 1.0 + 1e-3
