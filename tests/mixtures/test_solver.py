from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mix_models import Known, log_linear, natural
from scipy.optimize import minimize

from curate.mixtures.forms import Convex, Floats
from curate.mixtures.objective import Problem, certify
from curate.mixtures.polytope import Polytope
from curate.mixtures.solver import Solution, intervals, solve
from curate.pipeline.errors import UsageError

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
AGGREGATES = ["mean", "worst", "worst-change"]


def objective(model: Known, prior: Floats, kl: float, aggregate: str, mixture: Floats) -> float:
    """The objective as its definition says it, one term at a time."""
    form, total = model.form_, 0.0
    values, before = [], []
    for task in range(len(form.constant)):
        for values_of, point in ((values, mixture), (before, prior)):
            inner = sum(float(form.slope[task, j]) * float(point[j]) for j in range(len(point)))
            grown = form.scale[task] * np.exp(inner) if form.exponential else inner
            values_of.append(float(form.constant[task] + grown))
    if aggregate == "mean":
        total = sum(values) / len(values)
    elif aggregate == "worst":
        total = max(values)
    else:
        total = max(after - was for after, was in zip(values, before, strict=True))
    return total + kl * sum(float(p * np.log(p / q)) for p, q in zip(mixture, prior, strict=True) if p > 0)


def check(model: Known, solution: Solution, upper: Floats, kl: float, aggregate: str) -> None:
    """Constraints, the objective's definition, and the conditions of Karush, Kuhn and Tucker from the multipliers given."""
    p, prior, proof = solution.weights, solution.prior, solution.certificate
    assert proof is not None and solution.method == "exact"
    assert abs(p.sum() - 1) <= 1e-9 and p.min() >= 0 and (p - upper).max() <= 1e-9
    assert solution.objective == pytest.approx(objective(model, prior, kl, aggregate, p), rel=1e-9, abs=1e-12)
    assert proof.tasks.min() >= 0 and proof.tasks.sum() == pytest.approx(1)
    assert proof.lower.min() >= 0 and proof.upper.min() >= 0
    form = model.form_
    grown = form.scale * np.exp(form.slope @ p) if form.exponential else np.ones(len(form.constant))
    slope = (proof.tasks * grown) @ form.slope
    inside = (p > 1e-12) & (upper > 0)
    stationary = slope + kl * (np.log(np.where(inside, p, 1) / np.where(inside, prior, 1)) + 1) * (kl > 0) + proof.price
    assert np.abs(stationary - proof.lower + proof.upper)[inside].max() < 1e-7 * max(1, np.abs(slope).max())
    assert (proof.lower * p)[inside].max() < 1e-6 and (proof.upper * (upper - p))[inside].max() < 1e-6
    assert solution.residual is not None and solution.residual < 1e-5
    assert proof.gap <= 1e-7 * max(1.0, abs(solution.objective))


@pytest.mark.parametrize("exponential", [True, False])
@pytest.mark.parametrize("kl", [0.05, 0.0])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_exact_solution_is_that_of_slsqp_and_satisfies_the_kkt_conditions(
    aggregate: Any, kl: float, exponential: bool
) -> None:
    model, prior = log_linear(6, 4, 1, exponential=exponential), natural(6, 1)
    tokens, budget = prior * 1000, 1500.0
    upper = np.minimum(1.0, 4 * tokens / budget)
    found = solve(model, prior, tokens, budget, kl=kl, aggregate=aggregate)
    check(model, found, upper, kl, aggregate)

    tasks = len(model.tasks)
    offset = model.predict(prior) if aggregate == "worst-change" else np.zeros(tasks)

    def value(x: Floats) -> float:
        divergence = float((x[:6] * np.log(np.maximum(x[:6], 1e-12) / prior)).sum())
        return (float(model.predict(x[:6]).mean()) if aggregate == "mean" else float(x[6])) + kl * divergence

    rows: list[dict[str, Any]] = [{"type": "eq", "fun": lambda x: x[:6].sum() - 1}]
    if aggregate != "mean":
        rows.append({"type": "ineq", "fun": lambda x: x[6] - (model.predict(x[:6]) - offset)})
    start = np.append(prior, (model.predict(prior) - offset).max())
    bounds = [(0.0, high) for high in upper] + [(None, None)]
    other = minimize(
        value, start, method="SLSQP", bounds=bounds, constraints=rows, options={"ftol": 1e-12, "maxiter": 500}
    )
    assert found.objective <= other.fun + 1e-9
    assert found.objective == pytest.approx(other.fun, abs=1e-6)
    assert np.abs(found.weights - other.x[:6]).max() < 2e-3


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_no_mixture_of_a_fine_grid_of_three_domains_is_better(aggregate: Any) -> None:
    model, prior = log_linear(3, 5, 7), np.array([0.5, 0.3, 0.2])
    found = solve(model, prior, np.array([90.0, 20, 40]), 100, max_repeats=1, aggregate=aggregate, floors={"d2": 0.1})
    first, second = np.meshgrid(np.linspace(0, 0.9, 181), np.linspace(0, 0.2, 41))
    grid = np.stack([first, second, 1 - first - second], axis=-1).reshape(-1, 3)
    grid = grid[(grid[:, 2] >= 0.1 - 1e-12) & (grid[:, 2] <= 0.4 + 1e-12)]
    values = [objective(model, prior, 0.05, aggregate, mixture) for mixture in grid]
    assert found.objective <= min(values) + 1e-12
    assert found.objective == pytest.approx(min(values), abs=1e-3)
    assert np.abs(grid[int(np.argmin(values))] - found.weights).max() < 0.03


def test_with_linear_predictions_and_no_bounds_the_mixture_is_the_tilted_prior() -> None:
    model, prior = log_linear(40, 3, 2, exponential=False), natural(40, 2, spread=8.0)
    found = solve(model, prior, np.full(40, 1e15), 1)
    slope = model.form_.slope.mean(axis=0)
    tilted = prior * np.exp(-(slope - slope.min()) / 0.05)
    np.testing.assert_allclose(found.weights, tilted / tilted.sum(), rtol=1e-9)


@SETTINGS
@given(
    st.sampled_from([1, 2, 3, 9, 40]),
    st.sampled_from([1, 2, 12]),
    st.sampled_from([0.0, 0.1, 1.0, 6.0]),
    st.sampled_from([0.0, 1e-3, 0.05, 10.0]),
    st.sampled_from(AGGREGATES),
    st.booleans(),
    st.sampled_from([0.1, 1.0, 4.0]),
    st.sampled_from([1e-9, 0.1, 1.0, 3.9, 4.0]),
    st.integers(0, 10_000),
)
def test_hard_numbers_are_solved_to_a_certificate(
    domains: int, tasks: int, steepness: float, kl: float, aggregate: Any, exponential: bool, spread: float,
    scarcity: float, seed: int,
) -> None:  # fmt: skip
    model = log_linear(domains, tasks, seed, steepness=steepness, exponential=exponential)
    if domains > 2:
        model.form_.slope[:, 1] = model.form_.slope[:, 0]
    prior, tokens = natural(domains, seed, spread), natural(domains, seed + 1, spread) * 1e9
    budget = scarcity * float(tokens.sum())
    found = solve(model, prior, tokens, budget, kl=kl, aggregate=aggregate)
    check(model, found, np.minimum(1.0, 4 * tokens / budget) * (1 + 1e-9), kl, aggregate)


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("seed", range(6))
def test_slopes_of_fifty_are_solved_to_a_certificate(seed: int, aggregate: Any) -> None:
    random = np.random.default_rng(seed)
    domains, tasks = int(random.integers(2, 13)), int(random.integers(1, 7))
    slope = random.choice([-50.0, 50.0, 0.0], size=(tasks, domains))
    model, prior = Known(Convex(np.zeros(tasks), np.full(tasks, 0.5), slope, True)), natural(domains, seed)
    found = solve(model, prior, prior * 1e9, 2e9, kl=(0.001, 0.05)[seed % 2], aggregate=aggregate)
    assert found.certificate is not None and found.certificate.gap <= 1e-7 * max(1.0, found.objective)
    assert not found.warnings


def test_losses_that_differ_by_many_orders_are_said_not_to_be_solved_and_the_natural_mixture_is_no_better() -> None:
    random = np.random.default_rng(203)
    slope = random.choice([-100.0, 100.0, 0.0], size=(12, 3))
    model, prior = Known(Convex(np.full(12, 0.4), np.full(12, 0.5), slope, True)), natural(3, 203)
    found = solve(model, prior, np.full(3, 1e9), 1, kl=0.001, aggregate="worst-change")
    assert found.certificate is not None and found.certificate.gap > 1e-6
    assert found.objective <= objective(model, prior, 0.001, "worst-change", prior)
    assert "not proven to be the best" in found.warnings[0]
    assert found.to_json()["warnings"] == [found.warnings[0]]


@pytest.mark.parametrize("kl", [0.05, 0.0])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_gap_of_any_mixture_reaches_down_to_the_best_there_is(aggregate: Any, kl: float) -> None:
    model, prior = log_linear(6, 4, 1, steepness=3.0), natural(6, 1)
    upper = np.minimum(1.0, 4 * prior * 1000 / 1500)
    shape = Polytope(model.domains, np.zeros(6), upper, np.zeros(6, np.bool_), np.zeros(6, np.bool_))
    before = model.predict(prior) if aggregate == "worst-change" else np.zeros(4)
    importance = np.full(4, 0.25) if aggregate == "mean" else np.ones(4)
    problem = Problem(shape, prior, kl, aggregate, importance, before)
    lowest = objective(
        model, prior, kl, aggregate, solve(model, prior, prior * 1000, 1500, kl=kl, aggregate=aggregate).weights
    )
    random = np.random.default_rng(3)
    for mixture in shape.project(random.dirichlet(np.ones(6), 50)):
        tasks = importance if aggregate == "mean" else random.dirichlet(np.ones(4))
        proof = certify(problem, mixture, tasks, model.predict(mixture), model.gradient(mixture))
        assert objective(model, prior, kl, aggregate, mixture) - proof.gap <= lowest + 1e-12
        assert proof.gap > 0 and proof.residual > 0


def test_what_binds_is_named_with_what_it_costs() -> None:
    model, prior = log_linear(8, 4, 3, steepness=3.0), natural(8, 3)
    tokens = prior * 1000
    given: dict[str, Any] = {"floors": {"d0": 0.2}, "caps": {"d3": 0.02}, "kl": 0.005}
    found = solve(model, prior, tokens, 2000, **given)
    binding = {item.domain: item for item in found.binding}
    assert "repeats" in {item.constraint for item in found.binding}
    assert binding["d3"].constraint == "cap" and binding["d0"].constraint in ("floor", "repeats")
    item, step = next(item for item in found.binding if item.constraint == "repeats"), 1e-5
    index = found.domains.index(item.domain)
    more = tokens.copy()
    more[index] += step * 2000 / 4
    gained = found.objective - solve(model, prior, more, 2000, **given).objective
    assert item.multiplier == pytest.approx(gained / step, rel=1e-2)


def test_domains_without_tokens_or_prior_share_get_nothing_and_it_is_said() -> None:
    model = log_linear(4, 2, 5)
    found = solve(model, {"d0": 3, "d1": 1, "d2": 1}, {"d0": 100, "d1": 100, "d3": 100}, 100)
    assert found.weights[2] == 0 and found.weights[3] == 0
    assert {item.domain for item in found.binding if item.constraint == "zero"} == {"d2", "d3"}
    assert json.loads(json.dumps(found.to_json()))["weights"]["d0"] == found.weights[0]


def test_a_pool_that_is_too_small_says_how_many_tokens_there_are_and_which_caps_bind() -> None:
    model, prior = log_linear(3, 2, 5), np.full(3, 1 / 3)
    tokens = np.array([100.0, 200, 1000])
    with pytest.raises(UsageError, match=r"1,300 tokens, each of which may be taken 4 times.*At most 5,200 tokens"):
        solve(model, prior, tokens, 6000)
    with pytest.raises(UsageError, match=r"caps that bind: d2 \(at most 0\.5\).*At most 2,400 tokens are possible"):
        solve(model, prior, tokens, 3000, caps={"d2": 0.5})
    assert solve(model, prior, tokens, 2400, caps={"d2": 0.5}).weights == pytest.approx([1 / 6, 1 / 3, 0.5])
    assert solve(model, prior, tokens, 5200).weights == pytest.approx(tokens / 1300)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"floors": {"d0": 0.7, "d1": 0.4}}, r"floors sum to 1\.1"),
        ({"floors": {"d0": 0.5}, "caps": {"d0": 0.4}}, r"floor of 'd0' is 0\.5, but its cap is 0\.4"),
        ({"floors": {"d0": 0.9}, "max_repeats": 1}, r"its 100 tokens allow 0\.5 of this budget"),
        ({"caps": {"d0": 0.1, "d1": 0.2, "d2": 0.3}}, r"caps sum to 0\.6, less than 1"),
        ({"caps": {"d9": 0.1}}, r"names 'd9'.*did you mean"),
        ({"floors": {"d0": float("nan")}}, "between 0 and 1"),
        ({"kl": -1}, "kl is -1"),
        ({"kl": "x"}, "kl is 'x': give a number"),
        ({"task_weights": "t0"}, "no array of numbers"),
        ({"floors": [0.1, 0, 0]}, "floors are a mapping"),
        ({"max_repeats": 0}, "max_repeats is 0"),
        ({"aggregate": "meen"}, "did you mean 'mean'"),
        ({"task_weights": {"t0": 0, "t1": 0}}, "all task weights are 0"),
        ({"task_weights": {"t0": 1, "t1": 2}, "aggregate": "worst"}, "give equal ones"),
    ],
)
def test_what_cannot_be_is_said(given_: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        solve(log_linear(3, 2, 5), np.full(3, 1 / 3), np.full(3, 100.0), 200, **given_)


def test_task_weights_choose_what_counts() -> None:
    model, prior, tokens = log_linear(5, 3, 9), natural(5, 9), np.full(5, 1e9)
    one = Known(Convex(*(value[1:2] for value in (model.form_.constant, model.form_.scale, model.form_.slope)), True))
    for aggregate in ("mean", "worst"):
        chosen = solve(model, prior, tokens, 1, aggregate=aggregate, task_weights={"t1": 2.0})  # type: ignore[arg-type]
        np.testing.assert_allclose(chosen.weights, solve(one, prior, tokens, 1).weights, rtol=1e-6)


def test_intervals_widen_with_the_noise_of_the_runs_and_are_of_one_mixture() -> None:
    model, prior, tokens = log_linear(6, 3, 4), natural(6, 4), np.full(6, 1e3)
    certain = intervals(model, prior, tokens, 2000.0, samples=3)
    assert np.ptp(np.stack(certain.gains), axis=0).max() == 0 and np.ptp(certain.gain) == 0
    noisy = Known(model.form_, noise=0.3)
    found = intervals(noisy, prior, tokens, 2000.0, samples=30, aggregate="worst")
    assert found.weights[0].shape == (6,) and (found.weights[0] <= found.weights[1]).all()
    solution = solve(noisy, prior, tokens, 2000.0, aggregate="worst")
    gains = [again.predict(prior) - again.predict(solution.weights) for again in noisy.resample(30, 0)]
    np.testing.assert_allclose(found.gains, np.quantile(gains, [0.025, 0.975], axis=0))
    assert json.loads(json.dumps(found.to_json()))["samples"] == 30
