"""From runs to weights: the fit, the solve and what may be said of the answer, as `solution.json` holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curate.mixtures.ground import Ground
from curate.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    from curate.mixtures.regression import Model
    from curate.mixtures.runs import Runs
    from curate.mixtures.solver import Solution

Floats = npt.NDArray[np.float64]
FOLDS = 5
TWO_SIDED = 1.96
"""Standard errors on each side of an interval of 95 %."""


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
    """The runs with the columns that count, every loss there; and what was left out, in words.

    `measure` is loss, bits_per_byte, task (bits per byte of the gold answer) or any prefix of columns; `chosen` names
    columns or what follows their first `/`. Raises UsageError where nothing is left.
    """
    from dataclasses import replace

    found, notes = runs.select(measure), []
    if chosen:
        found = _only(found, chosen)
    there = np.isfinite(found.losses)
    kept = there.any(axis=0)
    if not kept.all():
        absent = [name for name, some in zip(found.tasks, kept, strict=True) if not some]
        notes.append(f"not measured in any run, left out: {', '.join(absent[:6])}{' …' if len(absent) > 6 else ''}")
    whole = there[:, kept].all(axis=1)
    if not whole.all():
        notes.append(
            f"{int((~whole).sum())} of {len(whole)} runs have no {measure.replace('_', ' ')}, and are left out"
        )
    rows = np.flatnonzero(whole)
    if len(rows) < 3 or not kept.any():
        raise UsageError(f"{len(rows)} runs have a {measure.replace('_', ' ')}: that is too few to fit anything to")
    return replace(
        found,
        weights=found.weights[rows],
        losses=found.losses[rows][:, kept],
        tasks=tuple(name for name, some in zip(found.tasks, kept, strict=True) if some),
        names=tuple(found.names[row] for row in rows),
        kinds=tuple(found.kinds[row] for row in rows),
        seeds=tuple(found.seeds[row] for row in rows),
    ), notes


def _only(runs: Runs, chosen: Sequence[str]) -> Runs:
    from dataclasses import replace

    short = {name.split("/", 1)[-1]: name for name in runs.tasks}
    places = []
    for name in chosen:
        whole = name if name in runs.tasks else short.get(name)
        if whole is None:
            raise UsageError(f"--tasks: the runs have no {name!r}{nearest(name, (*runs.tasks, *short))}")
        places.append(runs.tasks.index(whole))
    return replace(runs, tasks=tuple(runs.tasks[place] for place in places), losses=runs.losses[:, places])


def solution(runs: Runs, ground: Ground, question: Question, measure: str) -> tuple[dict[str, Any], dict[str, float]]:
    """`solution.json` (see `docs/mixtures.md`), and the weights by domain with a frozen mix taken apart.

    `runs` are those of `measured`. The fit uses the runs of mixtures and the replicates alike; their spread says how noisy
    one run is.
    """
    from curate.mixtures.regression import fit
    from curate.mixtures.solver import intervals, solve

    model = fit(runs.weights, runs.losses, question.kind, domains=runs.domains, tasks=runs.tasks, seed=question.seed)
    budget = float(question.budget) if question.budget is not None else 1.0
    given = {
        "max_repeats": question.max_repeats, "kl": question.kl, "aggregate": question.aggregate, "floors": question.floors,
        "caps": question.caps, "seed": question.seed,
    }  # fmt: skip
    answer = solve(model, ground.prior, ground.available, budget, **given)
    bounds = None
    if question.bootstrap:
        bounds = intervals(model, ground.prior, ground.available, budget, samples=question.bootstrap, **given)
    domains = _domains(ground, answer, bounds, question)
    facts = {
        "schema_version": 1, "measure": measure, "budget": question.budget, "max_repeats": question.max_repeats,
        "kl": question.kl, "aggregate": question.aggregate, "bootstrap": question.bootstrap, "seed": question.seed,
        "runs": len(runs.names), "replicates": sum(kind == "replicate" for kind in runs.kinds),
        "kind": model.kind, "method": answer.method, "objective": answer.objective, "residual": answer.residual,
        "frozen": None if ground.frozen is None else {"name": ground.frozen[0], "weights": dict(ground.frozen[1])},
        "domains": domains,
        "tasks": _tasks(runs, answer, bounds),
        "choice": _plain(model.report),
        "held_out": _held_out(runs, model.kind, question.seed),
        "notes": list(ground.notes),
    }  # fmt: skip
    weights = ground.expand(dict(zip(ground.domains, answer.weights.tolist(), strict=True)))
    return facts, {name: weight for name, weight in weights.items() if weight > 0}


def _domains(ground: Ground, answer: Solution, bounds: Any, question: Question) -> dict[str, Any]:
    """By domain: natural and solved share with its interval, tokens, repeats, and what binds."""
    binding: dict[str, list[str]] = {}
    for item in answer.binding:
        binding.setdefault(item.domain, []).append(item.constraint)
    found = {}
    for place, name in enumerate(ground.domains):
        share, tokens = float(answer.weights[place]), float(ground.available[place])
        known = math.isfinite(tokens) and question.budget is not None
        low, high = (None, None) if bounds is None else (float(side[place]) for side in bounds.weights)
        found[name] = {
            "natural": float(ground.prior[place]), "solved": share, "low": low, "high": high,
            "available": int(tokens) if math.isfinite(tokens) else None,
            "repeats": share * (question.budget or 0) / tokens if known and tokens > 0 else None,
            "binding": binding.get(name, []),
        }  # fmt: skip
    return found


def _tasks(runs: Runs, answer: Solution, bounds: Any) -> dict[str, Any]:
    """By task: the prediction for the natural mixture and for the solved one, and the gain, which is what it falls by.

    `verdict`: `better` or `worse` where the interval of the gain is on one side of 0 and two runs would show it against their
    own noise, else `within noise`; `noise` is the standard deviation of one run, of the replicates.
    """
    noise = _noise(runs)
    found = {}
    for place, name in enumerate(runs.tasks):
        natural, predicted = float(answer.natural[place]), float(answer.predicted[place])
        low, high = (None, None) if bounds is None else (float(side[place]) for side in bounds.gains)
        one = None if noise is None else float(noise[place])
        gain = natural - predicted
        found[name] = {
            "natural": natural, "predicted": predicted, "gain": gain, "low": low, "high": high, "noise": one,
            "verdict": verdict(gain, low, high, one),
        }  # fmt: skip
    return found


def verdict(gain: float, low: float | None, high: float | None, noise: float | None) -> str:
    """`better`, `worse` or `within noise`; `not known` where there is neither an interval nor the noise of a run."""
    if low is None and noise is None:
        return "not known"
    certain = low is None or high is None or low > 0 or high < 0
    shows = noise is None or abs(gain) > TWO_SIDED * math.sqrt(2) * noise
    return ("better" if gain > 0 else "worse") if certain and shows else "within noise"


def _noise(runs: Runs) -> Floats | None:
    """Standard deviation of a run by task, from the replicates (one mixture, several seeds); None with fewer than two."""
    rows = [place for place, kind in enumerate(runs.kinds) if kind == "replicate"]
    if len(rows) < 2:
        return None
    spread: Floats = runs.losses[rows].std(axis=0, ddof=1)
    return spread


def _held_out(runs: Runs, kind: str, seed: int) -> dict[str, Any] | None:
    """The mean over tasks of each run as measured, and as predicted by a fit to the other folds' runs; None for few runs."""
    from curate.mixtures.regression import fit

    mean = runs.losses.mean(axis=1)
    if len(mean) < 2 * FOLDS:
        return None
    order = np.random.default_rng(seed).permutation(len(mean))
    predicted = np.empty(len(mean))
    for fold in range(FOLDS):
        out = order[fold::FOLDS]
        rest = np.setdiff1d(order, out)
        model: Model = fit(runs.weights[rest], mean[rest], kind, domains=runs.domains, seed=seed)
        predicted[out] = model.predict(runs.weights[out])
    error = predicted - mean
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, mean)]
    return {
        "measured": mean.tolist(), "predicted": predicted.tolist(), "kinds": list(runs.kinds),
        "spearman": float(np.corrcoef(*ranks)[0, 1]), "rmse": float(np.sqrt((error**2).mean())),
    }  # fmt: skip


def _plain(value: Any) -> Any:
    """A report as JSON can hold it."""
    from dataclasses import asdict, is_dataclass

    if hasattr(value, "to_json"):
        return value.to_json()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
