"""What `solution.json` says of an answer, and what of it is printed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from curate.mixtures import solver
from curate.mixtures.ground import Ground
from curate.mixtures.runs import Runs
from curate.mixtures.solution import Question, solution
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
