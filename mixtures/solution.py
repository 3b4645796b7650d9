"""From runs to weights: the fit, the solve and what may be said of the answer, as `solution.json` holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curate.mixtures.ground import Ground
from curate.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from curate.mixtures.regression import Model
    from curate.mixtures.runs import Runs
    from curate.mixtures.solver import Intervals, Solution

Floats = npt.NDArray[np.float64]
LEAST_DRAWN = 10
"""Mixtures of runs with every loss, below which no chart of predictions is made."""
BEYOND = 0.05
"""How much more of a domain than any run had, as a share of that, a mixture may have without a warning."""
LEVEL = 0.95
"""Of intervals, and of what is called more than noise."""


@dataclass(frozen=True)
class Question:
    """What is asked of the runs."""

    budget: int | None = None
    """Tokens; None where nothing is scarce."""
    kind: str = "auto"
    max_repeats: float = 4.0
    kl: float = 0.05
    aggregate: str = "mean"
    floors: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    bootstrap: int = 50
    seed: int = 0


def measured(runs: Runs, measure: str, chosen: Sequence[str] = ()) -> tuple[Runs, list[str]]:
    """The runs and the columns that count; and what was left out, in words.

    `measure` is loss, bits_per_byte, task (bits per byte of the gold answer) or what else columns begin with; `chosen` names
    columns or what follows their first `/`. Runs without any loss are left out (they diverged), and tasks that too few
    runs measured. Raises UsageError where nothing is left.
    """
    from curate.mixtures.regression import LEAST_RUNS

    found, notes = runs.select(measure), []
    if chosen:
        found = _only(found, chosen)
    there = np.isfinite(found.losses)
    rows = np.flatnonzero(there.any(axis=1))
    if len(rows) < len(there):
        notes.append(
            f"{len(there) - len(rows)} of {len(there)} runs have no {_words(measure)} (they diverged?): left out"
        )
    kept = np.flatnonzero(there[rows].sum(axis=0) >= LEAST_RUNS)
    if not len(kept):
        raise UsageError(
            f"{len(rows)} runs have a {_words(measure)}, {LEAST_RUNS} at least are needed to fit anything to: train more "
            "(`curate mix swarm --runs N`)"
        )
    absent = [name for place, name in enumerate(found.tasks) if place not in kept]
    if absent:
        notes.append(
            f"measured in fewer than {LEAST_RUNS} runs, left out: {', '.join(absent[:6])}{' …' * (len(absent) > 6)}"
        )
    return found.take(rows).measuring(kept), notes


def _words(measure: str) -> str:
    return measure.replace("_", " ")


def _only(runs: Runs, chosen: Sequence[str]) -> Runs:
    short = {name.split("/", 1)[-1]: name for name in runs.tasks}
    places = []
    for name in chosen:
        whole = name if name in runs.tasks else short.get(name)
        if whole is None:
            raise UsageError(f"--tasks: the runs have no {name!r}{nearest(name, (*runs.tasks, *short))}")
        places.append(runs.tasks.index(whole))
    return runs.measuring(places)


def solution(runs: Runs, ground: Ground, question: Question, measure: str) -> tuple[dict[str, Any], dict[str, float]]:
    """`solution.json` (see `docs/mixtures.md`), and the weights by domain with a frozen mix taken apart.

    `runs` are those of `measured`. The fit uses the runs of mixtures and the replicates alike; their spread says how noisy
    one run is.
    """
    from curate.mixtures.polytope import polytope
    from curate.mixtures.regression import fit
    from curate.mixtures.solver import intervals, solve

    budget = float(question.budget) if question.budget is not None else 1.0
    limits = question.max_repeats, question.floors, question.caps
    polytope(
        ground.domains, ground.prior, ground.available, budget, *limits
    )  # refuses before the fit, which takes longer
    model = fit(runs.weights, runs.losses, question.kind, domains=runs.domains, tasks=runs.tasks, seed=question.seed)
    given: dict[str, Any] = {
        "max_repeats": question.max_repeats, "kl": question.kl, "aggregate": question.aggregate, "floors": question.floors,
        "caps": question.caps, "seed": question.seed,
    }  # fmt: skip
    answer = solve(model, ground.prior, ground.available, budget, **given)
    bounds = None
    if question.bootstrap:
        bounds = intervals(
            model, ground.prior, ground.available, budget, solution=answer, samples=question.bootstrap, **given
        )
    domains = _domains(ground, answer, bounds, question)
    left_out = _left_out(model, question.seed)
    facts = {
        "schema_version": 1, "measure": measure, "budget": question.budget, "max_repeats": question.max_repeats,
        "kl": question.kl, "aggregate": question.aggregate, "bootstrap": question.bootstrap, "seed": question.seed,
        "runs": len(runs.names), "replicates": sum(kind == "replicate" for kind in runs.kinds),
        "kind": model.kind, "method": answer.method, "objective": answer.objective, "residual": answer.residual,
        "gap": answer.certificate.gap if answer.certificate is not None and answer.method == "exact" else None,
        "warnings": [*answer.warnings, *_uncertain(bounds), *_beyond(runs, answer)],
        "frozen": None if ground.frozen is None else {"name": ground.frozen[0], "weights": dict(ground.frozen[1])},
        "domains": domains,
        "tasks": _tasks(runs, answer, bounds, left_out),
        "choice": _finite(model.report.to_json()) | {"lines": model.report.lines()},
        "held_out": None if left_out is None else _held_out(runs, *left_out),
        "notes": list(ground.notes),
    }  # fmt: skip
    weights = ground.expand(dict(zip(ground.domains, answer.weights.tolist(), strict=True)))
    return facts, {name: weight for name, weight in weights.items() if weight > 0}


def _uncertain(bounds: Intervals | None) -> list[str]:
    if bounds is None or not bounds.uncertain:
        return []
    return [
        f"of {bounds.samples} resamples of the runs {bounds.uncertain} could not be solved to a proof: "
        "the intervals of the shares are rough"
    ]


def _beyond(runs: Runs, answer: Solution) -> list[str]:
    """What of the mixture no run has tried."""
    most = runs.weights.max(axis=0)
    found = []
    for place in np.flatnonzero(answer.weights > most * (1 + BEYOND)).tolist():
        name = answer.domains[place]
        found.append(
            f"{name} is {answer.weights[place]:.1%} of this mixture, and at most {most[place]:.1%} of any run's: what is "
            f"predicted there is extrapolated. Train runs with more of it, or keep within them (--cap {name}={most[place]:.3f})"
        )
    return found


def _domains(ground: Ground, answer: Solution, bounds: Intervals | None, question: Question) -> dict[str, Any]:
    """By domain: natural and solved share with its interval, tokens, repeats, and what binds."""
    binding: dict[str, list[Any]] = {}
    for item in answer.binding:
        binding.setdefault(item.domain, []).append(item)
    found = {}
    for place, name in enumerate(ground.domains):
        share, tokens = float(answer.weights[place]), float(ground.available[place])
        known = math.isfinite(tokens) and question.budget is not None
        low, high = (None, None) if bounds is None else (float(side[place]) for side in bounds.weights)
        found[name] = {
            "natural": float(ground.prior[place]), "solved": share, "low": low, "high": high,
            "available": int(tokens) if math.isfinite(tokens) else None,
            "repeats": share * (question.budget or 0) / tokens if known and tokens > 0 else None,
            "binding": [item.constraint for item in binding.get(name, [])],
            "multipliers": [item.multiplier for item in binding.get(name, [])],
        }  # fmt: skip
    return found


def _tasks(
    runs: Runs, answer: Solution, bounds: Intervals | None, left_out: tuple[Floats, Floats] | None
) -> dict[str, Any]:
    """By task: the prediction for the natural mixture and for the solved one, and the gain, which is what it falls by.

    The interval is that of the bootstrap, widened by what the form of the regression misses (`widened`).

    `verdict`: `better` or `worse` where the interval of the gain is on one side of 0 and two runs would show it against their
    own noise, else `within noise`; `noise` is the standard deviation of one run, of the replicates.
    """
    from curate.mixtures.tasks import noise_of

    found, noises = {}, noise_of(runs)
    missed = np.zeros(len(runs.tasks)) if left_out is None else _typical(left_out[1] - left_out[0])
    for place, name in enumerate(runs.tasks):
        natural, predicted = float(answer.natural[place]), float(answer.predicted[place])
        noise, freedom = noises[place]
        gain = natural - predicted
        low, high = None, None
        if bounds is not None:
            low, high = (float(side[place]) for side in bounds.gains)
            low, high = widened(gain, low, high, float(missed[place]), noise or 0.0)
        found[name] = {
            "natural": natural, "predicted": predicted, "gain": gain, "low": low, "high": high, "noise": noise,
            "verdict": verdict(gain, low, high, noise, freedom),
        }  # fmt: skip
    return found


def widened(gain: float, low: float, high: float, error: float, noise: float) -> tuple[float, float]:
    """The interval of a gain, a bootstrap's, with what no resampling of the runs can tell: what the regression's form misses.

    That is the typical error of predictions of runs left out, less the noise of a run, in squares; a gain has it twice, at the
    natural mixture and at the solved one. The two parts are added in squares, on either side of the gain.
    """
    missed = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(2 * max(error**2 - noise**2, 0.0))
    return gain - math.hypot(max(gain - low, 0.0), missed), gain + math.hypot(max(high - gain, 0.0), missed)


def verdict(gain: float, low: float | None, high: float | None, noise: float | None, freedom: int = 1) -> str:
    """`better`, `worse` or `within noise`; `not known` where there is neither an interval nor the noise of a run.

    Beyond noise is a gain whose interval leaves out 0, both as percentiles of the bootstrap and mirrored at the gain (they
    differ where resampled fits are biased; Davison and Hinkley 1997, 5.2), and that is larger than the difference of two
    runs of one mixture in 95 % of cases (t distribution: the noise is that of a few replicates, with `freedom` degrees of it).
    """
    if low is None and noise is None:
        return "not known"
    certain = True
    if low is not None and high is not None:
        certain = min(low, 2 * gain - high) > 0 or max(high, 2 * gain - low) < 0
    shows = noise is None or abs(gain) > _widest(freedom) * noise
    return ("better" if gain > 0 else "worse") if certain and shows else "within noise"


def _widest(freedom: int) -> float:
    """By how many standard deviations of a run two runs of one mixture differ at most, in LEVEL of cases."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, max(freedom, 1))) * math.sqrt(2)


def _left_out(model: Model, seed: int) -> tuple[Floats, Floats] | None:
    """Losses as measured, and as predicted by fits to other runs (cross-validation); shapes (runs, tasks), NaN
    for runs without every loss. None where the others are of too few mixtures."""
    from curate.mixtures.regression import KINDS
    from curate.mixtures.validation import left_out_predictions, mixtures_of

    whole = np.asarray(np.isfinite(model.losses).all(axis=1))
    if len(np.unique(mixtures_of(model.weights[whole]))) < LEAST_DRAWN:
        return None
    predicted = left_out_predictions(model.weights[whole], model.losses[whole], KINDS[model.kind], seed)[0]
    measured, told = np.full_like(model.losses, np.nan), np.full_like(model.losses, np.nan)
    measured[whole], told[whole] = model.losses[whole], predicted
    return measured, told


def _typical(errors: Floats) -> Floats:
    """The typical size of errors by task, from their median: mixtures at the edge, where no fit is good, do not set it. (runs,
    tasks) -> (tasks,); a standard deviation where errors are normal."""
    return np.asarray(np.nanmedian(np.abs(errors), axis=0) / NormalDist().inv_cdf(0.75))


def _held_out(runs: Runs, losses: Floats, predictions: Floats) -> dict[str, Any]:
    """The mean over tasks of each run as measured, and as predicted by a fit to other runs."""
    from scipy.stats import spearmanr

    whole = np.asarray(np.isfinite(losses).all(axis=1))
    measured, predicted = losses[whole].mean(axis=1), predictions[whole].mean(axis=1)
    return {
        "measured": measured.tolist(), "predicted": predicted.tolist(),
        "kinds": [kind for kind, kept in zip(runs.kinds, whole.tolist(), strict=True) if kept],
        "spearman": float(spearmanr(measured, predicted).statistic),
        "rmse": float(np.sqrt(((predicted - measured) ** 2).mean())),
    }  # fmt: skip


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
