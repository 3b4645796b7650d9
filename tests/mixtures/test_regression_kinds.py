"""Each kind of regression against a reference library, finite differences, or a truth it must find again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import spearmanr

from curate.mixtures import gaussian
from curate.mixtures.fitted import groups
from curate.mixtures.gaussian import OFFSET, ROOT, evidence, fit_gaussian
from curate.mixtures.loglinear import DELTA, LogLinear, _Problem, fit_loglinear
from curate.mixtures.ridge import GRID, fit_ridge

Floats = npt.NDArray[np.float64]


def mixtures(runs: int, domains: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(domains, 0.7), runs)


def noisy(weights: Floats, tasks: int, noise: float, seed: int = 1) -> Floats:
    """c + exp(slope·p) with a little noise, one column a task."""
    random = np.random.default_rng(seed)
    slope = random.normal(0, 2, (tasks, weights.shape[1]))
    return 1.5 + np.exp(weights @ slope.T) + noise * random.normal(size=(len(weights), tasks))


def test_ridge_is_scikit_learns_at_the_penalty_that_its_leave_one_out_takes() -> None:
    from sklearn.linear_model import Ridge, RidgeCV

    weights, losses = mixtures(40, 6), noisy(mixtures(40, 6), 3, 0.1)
    ours = fit_ridge(weights, losses)
    centred = weights - weights.mean(axis=0)
    alphas = GRID * (centred**2).sum() / 6
    for task in range(3):
        chosen = RidgeCV(alphas, scoring="neg_mean_squared_error").fit(weights, losses[:, task])
        theirs = Ridge(chosen.alpha_).fit(weights, losses[:, task])
        assert ours.penalty[task] == pytest.approx(chosen.alpha_)
        np.testing.assert_allclose(ours.predict(weights)[:, task], theirs.predict(weights), atol=1e-9)


def test_a_process_with_given_scales_is_scikit_learns() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    weights, losses = mixtures(30, 4), noisy(mixtures(30, 4), 2, 0.05)
    ours = fit_gaussian(weights, losses)
    x = (weights / ours.share + OFFSET) ** ROOT - OFFSET**ROOT
    asked = mixtures(7, 4, seed=9)
    for task in range(2):
        kernel = (
            ConstantKernel(ours.signal[task]) * Matern(ours.length[task], nu=2.5)
            + ConstantKernel(1.0)
            + WhiteKernel(ours.noise[task])
        )
        theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=gaussian._JITTER)
        theirs.fit(x, (np.log(losses[:, task]) - ours.middle[task]) / ours.deviation[task])
        mean, sd = theirs.predict((asked / ours.share + OFFSET) ** ROOT - OFFSET**ROOT, return_std=True)
        sd = sd * ours.deviation[task]
        median = np.exp(mean * ours.deviation[task] + ours.middle[task])
        np.testing.assert_allclose(ours.predict(asked)[:, task], median, rtol=1e-6)
        np.testing.assert_allclose(
            ours.spread(asked)[:, task], median * np.exp(sd**2 / 2) * np.sqrt(np.expm1(sd**2)), rtol=1e-4
        )


def test_the_evidence_has_the_gradient_that_finite_differences_have() -> None:
    x, z = np.random.default_rng(0).normal(size=(25, 3)), np.random.default_rng(1).normal(size=25)
    at = np.array([0.3, 0.9, -0.2, 0.1, -1.5])
    numeric = approx_fprime(at, lambda logs: evidence(logs, x, z)[0], 1e-6)
    np.testing.assert_allclose(evidence(at, x, z)[1], numeric, rtol=1e-4, atol=1e-4)


def test_the_log_linear_objective_has_the_gradient_that_finite_differences_have() -> None:
    weights = mixtures(30, 4)
    losses = noisy(weights, 1, 0.3)[:, 0]
    problem = _Problem(weights, (losses - losses.mean()) / losses.std())
    at = np.array([-1.5, 0.2, 0.5, -1.0, 0.3, 0.8])
    numeric = approx_fprime(at, lambda values: problem.value(values, 1e-3)[0], 1e-7)
    np.testing.assert_allclose(problem.value(at, 1e-3)[1], numeric, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fitter", [fit_ridge, fit_loglinear, fit_gaussian])
def test_predictions_have_the_gradient_that_finite_differences_have(fitter: Any) -> None:
    weights = mixtures(40, 5)
    losses = noisy(weights, 2, 0.02)
    losses[:, 1] -= 5.0  # not all positive: no logarithms
    model, at = fitter(weights, losses), np.array([0.3, 0.05, 0.25, 0.15, 0.25])
    steps = [
        (model.predict((at + step)[None]) - model.predict((at - step)[None]))[0] / 2e-6 for step in np.eye(5) * 1e-6
    ]
    np.testing.assert_allclose(model.gradient(at), np.array(steps).T, rtol=1e-4, atol=1e-5)


def test_log_linear_finds_the_truth_again() -> None:
    weights, random = mixtures(80, 5), np.random.default_rng(3)
    slope = random.normal(0, 2, (2, 5))
    fitted = fit_loglinear(weights, np.array([2.0, -1.0]) + np.exp(weights @ slope.T))
    unseen = mixtures(50, 5, seed=4)
    np.testing.assert_allclose(fitted.predict(unseen), np.array([2.0, -1.0]) + np.exp(unseen @ slope.T), atol=0.02)
    np.testing.assert_allclose(fitted.constant, [2.0, -1.0], atol=0.05)


def test_runs_gone_wrong_move_a_log_linear_fit_little() -> None:
    weights = mixtures(80, 5)
    clean = noisy(weights, 1, 0.0)
    spoilt = clean.copy()
    spoilt[:4] += 20 * clean.std()
    good, bad = fit_loglinear(weights, clean), fit_loglinear(weights, spoilt)
    assert spearmanr(bad.predict(weights[4:])[:, 0], good.predict(weights[4:])[:, 0]).statistic > 0.98


def test_a_log_linear_fit_is_no_worse_than_the_truth_by_its_own_measure() -> None:
    weights = mixtures(60, 4)
    slope = np.array([1.0, -2.0, 0.5, 0.0])
    losses = 1 + np.exp(weights @ slope) + 0.05 * np.random.default_rng(5).normal(size=60)
    fitted = fit_loglinear(weights, losses[:, None])

    def huber(predicted: Floats) -> float:
        rest = np.abs(predicted - losses) / losses.std()
        return float(np.where(rest <= DELTA, rest**2 / 2, DELTA * (rest - DELTA / 2)).mean())

    assert huber(fitted.predict(weights)[:, 0]) <= huber(1 + np.exp(weights @ slope)) + 1e-4


def test_a_task_that_depends_linearly_is_all_but_linear_to_the_log_linear_form() -> None:
    weights = mixtures(60, 4)
    slope = np.array([1.0, -2.0, 0.5, 0.0])
    fitted = fit_loglinear(weights, (3 + weights @ slope)[:, None])
    assert isinstance(fitted, LogLinear)
    np.testing.assert_allclose(fitted.predict(weights)[:, 0], 3 + weights @ slope, atol=0.15)


def test_trees_are_those_of_lightgbms_own_regressor() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    from curate.mixtures.trees import RATE, fit_trees

    weights = mixtures(220, 5)
    losses = noisy(weights, 1, 0.02)
    ours = fit_trees(weights, losses)
    z = (losses[:, 0] - losses.mean()) / losses.std()
    theirs = lightgbm.LGBMRegressor(
        n_estimators=ours.count[0], learning_rate=RATE, random_state=0, n_jobs=1, deterministic=True,
        force_row_wise=True, verbosity=-1,
    ).fit(weights, z)  # fmt: skip
    expected = losses.mean() + losses.std() * theirs.predict(weights)
    np.testing.assert_allclose(ours.predict(weights)[:, 0], expected, atol=1e-6)
    with pytest.raises(NotImplementedError, match="steps"):
        ours.gradient(weights[0])


@pytest.mark.parametrize("fitter", [fit_ridge, fit_loglinear, fit_gaussian])
def test_a_task_is_fitted_as_if_it_were_alone_on_the_runs_that_measured_it(fitter: Any) -> None:
    weights, losses = mixtures(40, 4), noisy(mixtures(40, 4), 2, 0.05)
    losses[::3, 1] = np.nan
    there = np.isfinite(losses[:, 1])
    together, alone = fitter(weights, losses), fitter(weights[there], losses[there, 1:])
    if fitter is fit_gaussian:  # its domains are scaled by all runs
        np.testing.assert_allclose(together.predict(weights)[:, 1], alone.predict(weights)[:, 0], rtol=0.05)
    else:
        np.testing.assert_allclose(together.predict(weights)[:, 1], alone.predict(weights)[:, 0], rtol=1e-6)


def test_groups_hold_every_task_once() -> None:
    losses = np.array([[1.0, np.nan, 2.0], [1.0, 3.0, np.nan], [1.0, 3.0, 2.0]])
    found = {tuple(tasks.tolist()): tuple(runs.tolist()) for runs, tasks in groups(losses)}
    assert found == {(0,): (0, 1, 2), (1,): (1, 2), (2,): (0, 2)}


@pytest.mark.parametrize("fitter", [fit_ridge, fit_loglinear, fit_gaussian])
def test_hundreds_of_domains_on_few_runs_are_predicted_within_reason(fitter: Any) -> None:
    weights = np.random.default_rng(0).dirichlet(np.full(480, 0.05), 100)
    slope = np.random.default_rng(1).normal(0, 2, 480)
    losses = (1 + np.exp(weights @ slope))[:, None]
    model = fitter(weights[:60], losses[:60])
    predicted = model.predict(weights[60:])
    assert np.isfinite(predicted).all()
    assert losses.min() - 3 < predicted.min() and predicted.max() < losses.max() + 3
    error = np.sqrt(np.mean((predicted - losses[60:]) ** 2))
    assert error < 1.2 * losses[60:].std()  # hardly worse than knowing the mean alone


@pytest.mark.parametrize("fitter", [fit_ridge, fit_loglinear, fit_gaussian])
def test_a_task_that_never_changes_is_predicted_as_it_is(fitter: Any) -> None:
    weights = mixtures(20, 3)
    weights[:, 2] = 0  # a domain that no run had
    weights /= weights.sum(axis=1, keepdims=True)
    model = fitter(weights, np.full((20, 1), 2.5))
    np.testing.assert_allclose(model.predict(np.full((1, 3), 1 / 3)), 2.5, atol=1e-3)
