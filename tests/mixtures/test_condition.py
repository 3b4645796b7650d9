from __future__ import annotations

import numpy as np
import pytest
from mix_models import Known, log_linear, natural

from curate.mixtures.condition import Condensed, Frozen, condense
from curate.mixtures.solver import solve
from curate.pipeline.errors import UsageError

REAL = ("d0", "d1", "d2", "d3", "d4", "d5")
TOKENS = np.array([100.0, 50, 10, 200, 70, 30])


def frozen_two() -> Condensed:
    return condense(
        REAL,
        natural(6, 1),
        TOKENS,
        [Frozen("old", {"d0": 3, "d2": 1}), Frozen("older", {"d3": 0.5, "d4": 0.5, "d5": 0})],
    )


def test_a_frozen_mix_is_one_domain_with_the_tokens_of_its_scarcest_part() -> None:
    made = frozen_two()
    assert made.domains == ("d1", "old", "older")
    assert made.available.tolist() == [50.0, 40.0, 140.0]  # 10 / (1/4), 70 / (1/2)
    prior = natural(6, 1)
    np.testing.assert_allclose(made.prior, [prior[1], prior[0] + prior[2], prior[3:].sum()])
    np.testing.assert_allclose(made.expand(np.array([0.2, 0.4, 0.4])), [0.3, 0.2, 0.1, 0.2, 0.2, 0.0])


def test_condensing_undoes_expanding_and_says_how_far_other_runs_depart() -> None:
    made = frozen_two()
    inner = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    np.testing.assert_allclose(made.condense(made.expand(inner)), inner)
    np.testing.assert_allclose(made.departure(made.expand(inner)), 0.0, atol=1e-15)
    assert made.departure(np.array([[0.0, 0, 1, 0, 0, 0]])) == pytest.approx([0.75])


@pytest.mark.parametrize("convex", [True, False])
def test_a_model_of_real_domains_is_solved_along_the_frozen_proportions(convex: bool) -> None:
    model, made = Known(log_linear(6, 3, 8).form_, convex=convex, noise=0.1), frozen_two()
    seen = made.predictor(model)
    found = solve(seen, made.prior, made.available, 100.0, max_repeats=1)
    whole = made.expand(found.weights)
    assert (whole * 100 <= TOKENS + 1e-6).all()
    np.testing.assert_allclose(model.predict(whole), found.predicted)
    grid = np.random.default_rng(1).dirichlet(np.ones(3), 3000)
    kept = grid[(grid * 100 <= made.available).all(axis=1)]
    worse = [float(model.predict(made.expand(p)).mean() + 0.05 * (p * np.log(p / made.prior)).sum()) for p in kept]
    assert found.objective <= min(worse) + 1e-9
    assert [again.domains for again in seen.resample(2, 0)] == [made.domains] * 2


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        ([Frozen("old", {"d9": 1})], "no domain 'd9'"),
        ([Frozen("old", {"d0": 0})], "weighs nothing"),
        ([Frozen("old", {"d0": -1})], "numbers >= 0"),
        ([Frozen("d1", {"d0": 1})], "another domain has this name"),
        ([Frozen("a", {"d0": 1}), Frozen("b", {"d0": 1})], "in two frozen mixes, 'a' and 'b'"),
    ],
)
def test_what_cannot_be_frozen_is_said(frozen: list[Frozen], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        condense(REAL, natural(6, 1), TOKENS, frozen)
