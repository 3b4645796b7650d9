"""What `solution.json` says of an answer, and what of it is printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.mixtures import solver
from curate.mixtures.design import design
from curate.mixtures.ground import Ground
from curate.mixtures.runs import Runs
from curate.mixtures.solution import Question, solution, widened
from curate.mixtures.solution_lines import solution_lines

WEIGHTS = np.random.default_rng(0).dirichlet([6.0, 3, 3], 20)
LOSSES = 2 - WEIGHTS[:, :1] + 0.001 * np.random.default_rng(1).normal(size=(20, 1))
RUNS = Runs(("a", "b", "c"), WEIGHTS, ("loss/x",), LOSSES, tuple(map(str, range(20))), ("design",) * 20, (0,) * 20)
GROUND = Ground(("a", "b", "c"), np.array([0.5, 0.25, 0.25]), np.full(3, np.inf))


def lines(question: Question) -> str:
    return "\n".join(solution_lines(solution(RUNS, GROUND, question, "loss")[0]))


def test_a_share_that_no_run_had_is_said_to_be_extrapolated() -> None:
    most = WEIGHTS[:, 0].max()
    told = lines(Question(kind="ridge", bootstrap=0))
    assert f"warning: a is 100.0% of this mixture, and at most {most:.1%} of any run's" in told
    assert f"--cap a={most:.3f}" in told
    assert "warning" not in lines(Question(kind="ridge", bootstrap=0, caps={"a": float(most)}))


def test_an_answer_without_a_proof_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    certify = solver.minimise

    def unproven(*given):  # type: ignore[no-untyped-def]
        mixture, certificate = certify(*given)
        return mixture, replace(certificate, gap=0.25)

    monkeypatch.setattr(solver, "minimise", unproven)
    told = lines(Question(kind="ridge", bootstrap=2, caps={"a": 0.5}))
    assert "warning: this mixture is not proven to be the best" in told
    assert "may be 0.25 above the lowest" in told
    assert "of 2 resamples of the runs 2 could not be solved to a proof" in told


def test_what_the_fit_misses_on_runs_left_out_widens_the_interval_of_a_gain() -> None:
    assert widened(0.1, 0.08, 0.13, error=0.0, noise=0.01) == pytest.approx((0.08, 0.13))
    assert widened(0.1, 0.08, 0.13, error=0.01, noise=0.01) == pytest.approx((0.08, 0.13))
    missed = 1.959964 * np.sqrt(2 * (0.02**2 - 0.01**2))
    low, high = widened(0.1, 0.08, 0.13, error=0.02, noise=0.01)
    assert (0.1 - low, high - 0.1) == pytest.approx((np.hypot(0.02, missed), np.hypot(0.03, missed)))


@pytest.mark.slow
def test_intervals_of_gains_hold_the_truth_about_as_often_as_they_say() -> None:
    """A truth that no regression has the form of, 18 mixtures and 4 replicates of five domains."""
    inside = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        prior = random.dirichlet(np.full(5, 3.0))
        height, others = random.uniform(0.15, 0.5, 5), np.eye(5) + random.uniform(0, 0.15, (5, 5))
        weights = np.vstack([np.tile(prior, (4, 1)), design(prior, 18, sparse=False, seed=seed)])
        names = tuple("abcde")

        def truth(mixtures: np.ndarray, height: np.ndarray = height, others: np.ndarray = others) -> np.ndarray:
            return 1.8 + height * (mixtures @ others.T + 0.02) ** -0.25

        losses = truth(weights) + random.normal(0, 0.006, (22, 5))
        kinds = ("replicate",) * 4 + ("design",) * 18
        tasks = tuple(f"loss/{name}" for name in names)
        runs = Runs(names, weights, tasks, losses, tuple(map(str, range(22))), kinds, (*range(4), *(0,) * 18))
        facts, solved = solution(runs, Ground(names, prior, np.full(5, np.inf)), Question(kind="log-linear"), "loss")
        gains = truth(prior[None])[0] - truth(np.array([solved[name] for name in names])[None])[0]
        rows = [facts["tasks"][task] for task in tasks]
        inside += [row["low"] <= gain <= row["high"] for row, gain in zip(rows, gains, strict=True)]
    assert np.mean(inside) >= 0.9
