"""The mixture solver at the size of topic x quality: 480 buckets, 50 tasks, a random but realistic log-linear fit.

What is measured: seconds of `solve`, its objective beside those of 100,000 sampled mixtures that keep all constraints, how far
constraints are missed, the KKT residual and the gap of its certificate; for the mean, the worst task and no KL term, and for
fewer and more buckets. A bootstrap of 50. JSON: bench/results/mix_solver.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.mixtures.forms import Convex, Floats
from curate.mixtures.objective import Problem
from curate.mixtures.polytope import polytope
from curate.mixtures.search import candidates
from curate.mixtures.solver import intervals, solve

RESULTS = Path(__file__).parent / "results" / "mix_solver.json"
SAMPLED = 100_000
BUDGET = 2e12


@dataclass(frozen=True, eq=False)
class Fit:
    """A log-linear fit whose slopes share eight causes (topics alike help tasks alike), as after a swarm."""

    form: Convex
    spread: float

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(f"bucket{number}" for number in range(self.form.slope.shape[1]))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(f"task{number}" for number in range(self.form.slope.shape[0]))

    def predict(self, weights: Floats) -> Floats:
        return self.form.predict(weights)

    def gradient(self, mixture: Floats) -> Floats:
        return self.form.gradient(mixture)

    def resample(self, samples: int, seed: int) -> Iterator[Fit]:
        """Fits whose slopes differ by noise: the time of fitting is not what this measures."""
        for number in range(samples):
            noise = self.spread * np.random.default_rng([seed, number]).normal(size=self.form.slope.shape)
            form = Convex(self.form.constant, self.form.scale, self.form.slope + noise, True)
            yield Fit(form, self.spread)


def case(domains: int, tasks: int, seed: int = 0) -> tuple[Fit, Floats, Floats]:
    """(fit, prior, tokens by bucket)."""
    random = np.random.default_rng([domains, tasks, seed])
    prior = random.lognormal(0.0, 1.5, domains)
    prior /= prior.sum()
    causes, effects = random.normal(size=(8, domains)), random.normal(size=(tasks, 8)) / np.sqrt(8)
    slope = 0.7 * effects @ causes + 0.5 * random.normal(size=(tasks, domains))
    form = Convex(random.uniform(0.3, 0.6, tasks), random.uniform(0.3, 0.8, tasks), slope, True)
    return Fit(form, 0.2), prior, prior * 1e12 * random.lognormal(0.0, 0.3, domains)


def measure(domains: int, tasks: int, kl: float, aggregate: Any, sampled: int) -> dict[str, Any]:
    fit, prior, tokens = case(domains, tasks)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = solve(fit, prior, tokens, BUDGET, kl=kl, aggregate=aggregate)
        seconds.append(time.perf_counter() - began)
    upper = np.minimum(1.0, 4 * tokens / BUDGET)
    off = max(abs(found.weights.sum() - 1), (found.weights - upper).max(), -found.weights.min())
    offset = found.natural if aggregate == "worst-change" else np.zeros(tasks)
    importance = np.full(tasks, 1 / tasks) if aggregate == "mean" else np.ones(tasks)
    problem = Problem(polytope(fit.domains, prior, tokens, BUDGET, 4), prior, kl, aggregate, importance, offset)
    best = np.inf
    for block, first in enumerate(range(0, sampled, 5000)):
        drawn = candidates(problem, min(5000, sampled - first), block)
        best = min(best, float(problem.value(drawn, fit.predict(drawn)).min()))
    nearby = replace(problem, prior=np.maximum(found.weights, 1e-12) / np.maximum(found.weights, 1e-12).sum())
    around = float(problem.value(drawn := candidates(nearby, 5000, 1), fit.predict(drawn)).min())
    assert found.certificate is not None
    row = {
        "domains": domains, "tasks": tasks, "kl": kl, "aggregate": aggregate, "seconds": round(float(np.median(seconds)), 3),
        "objective": found.objective, "best_of_sampled": best, "sampled": sampled,
        "best_of_5000_around_it": around,
        "natural": float(problem.aggregated(found.natural)), "constraints_off": float(off), "kkt_residual": found.residual,
        "gap": found.certificate.gap, "binding": len(found.binding),
    }  # fmt: skip
    print(
        f"{domains} buckets, {tasks} tasks, kl {kl:g}, {aggregate}: {row['seconds']} s; objective {found.objective:.6f}, best "
        f"of {sampled:,} sampled {best:.6f}, around it {around:.6f}, natural {row['natural']:.6f}; "
        f"constraints within {off:.1e}, KKT residual {found.residual:.1e}, gap {found.certificate.gap:.1e}; "
        f"{len(found.binding)} bind",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sampled", type=int, default=SAMPLED)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = [
        measure(480, 50, kl, aggregate, given.sampled if aggregate == "mean" else given.sampled // 5)
        for kl in (0.05, 0.0)
        for aggregate in ("mean", "worst", "worst-change")
    ]
    rows += [measure(domains, 50, 0.05, "mean", given.sampled // 20) for domains in (24, 2000)]
    fit, prior, tokens = case(480, 50)
    began = time.perf_counter()
    bounds = intervals(fit, prior, tokens, BUDGET, samples=50)
    took = time.perf_counter() - began
    print(f"bootstrap of 50 at 480 buckets, 50 tasks, without the fits: {took:.1f} s")
    boot = {"samples": bounds.samples, "seconds": round(took, 2), "gain": list(bounds.gain)}
    given.out.write_text(json.dumps({"budget_tokens": BUDGET, "solves": rows, "bootstrap": boot}, indent=1) + "\n")


if __name__ == "__main__":
    main()
