from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.mixtures.polytope import polytope, tilt


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([0.1, 3.0, 300.0, 1e5]),
    st.sampled_from([1.0, 1.001, 5.0]),
    st.integers(0, 10_000),
)
def test_a_tilted_mixture_keeps_sum_and_bounds_and_is_one_exponential_between_them(
    domains: int, spread: float, room: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    upper = random.dirichlet(np.ones(domains)) * room
    upper = np.minimum(upper + max(0.0, 1.0 - np.minimum(upper, 1.0).sum()), 1.0)
    lower = upper * random.uniform(0, 1, domains) * (0.9 / max(upper.sum(), 1.0))
    logs = random.normal(size=domains) * spread
    found = tilt(logs, lower, upper)
    assert abs(found.sum() - 1.0) < 1e-12
    assert (found >= lower - 1e-15).all() and (found <= upper + 1e-15).all()
    free = (found > lower + 1e-9) & (found < upper - 1e-9)
    if free.sum() > 1:
        assert np.ptp(np.log(found[free]) - logs[free]) < 1e-5 * max(1.0, spread)


def test_mixtures_that_are_allowed_stay_as_they_are() -> None:
    shape = polytope(["a", "b", "c"], np.ones(3) / 3, np.array([10.0, 10, 0]), 10, 1, caps={"a": 0.7})
    assert shape.upper.tolist() == [0.7, 1.0, 0.0] and shape.capped.tolist() == [True, False, False]
    np.testing.assert_allclose(shape.project(np.array([0.6, 0.4, 0.0])), [0.6, 0.4, 0.0], rtol=1e-14)
    np.testing.assert_allclose(
        shape.project(np.array([[0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])), [[0.7, 0.3, 0], [0.5, 0.5, 0]]
    )
    assert shape.contains(np.array([0.7, 0.3, 0.0])) and not shape.contains(np.array([0.8, 0.2, 0.0]))


def test_a_budget_of_all_tokens_and_repeats_leaves_one_mixture() -> None:
    tokens = np.random.default_rng(0).integers(1, 10**9, 480).astype(float)
    shape = polytope([str(number) for number in range(480)], tokens / tokens.sum(), tokens, 4 * float(tokens.sum()), 4)
    assert shape.project(np.ones(480)) == pytest.approx(tokens / tokens.sum(), rel=1e-9)
