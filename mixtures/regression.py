"""Regression: from mixtures that were tried and the losses they gave to the losses of any mixture.

    model = fit(weights, losses)            # (runs, domains), (runs,) or (runs, tasks)
    model.predict(weights)
    model.report.lines()                    # how good each kind is on runs left out, and why one was taken
    fit(weights, losses, kind="log-linear") # advised where the answer is carried to a much larger model

Kinds: `ridge` (linear), `log-linear` (c + exp(slope·p), Olmix), `gp` (a Gaussian process), `trees` (LightGBM, RegMix). Within
one scale the Gaussian process ranks mixtures best; the log-linear form is convex, so that it is solved exactly, and carries
over to larger models best (on RegMix's runs from 1M to 1B parameters: Spearman .985 against .958).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mixtures import trees
from curate.mixtures.fitted import Fitted, numbers
from curate.mixtures.forms import Convex, Floats
from curate.mixtures.gaussian import fit_gaussian, read_gaussian
from curate.mixtures.loglinear import fit_loglinear, read_loglinear
from curate.mixtures.ridge import fit_ridge, read_ridge
from curate.mixtures.threads import one_thread
from curate.mixtures.validation import Fitter, Report, compare, left_out_predictions, mixtures_of, read_report
from curate.pipeline.errors import UsageError, nearest

__all__ = ["KINDS", "LEAST_RUNS", "Convex", "Model", "Report", "check_mixtures", "fit", "model_from_json"]

LEAST_RUNS = 9
"""Different mixtures for which a task must have been measured: the swarm that is advised for two domains, 3 (m + 1)."""
ROUNDING = 0.01
"""How far the shares of a run may be from summing to 1 (RegMix's are rounded); they are divided by their sum."""
KINDS: dict[str, Fitter] = {
    "ridge": lambda weights, losses, seed: fit_ridge(weights, losses),
    "log-linear": lambda weights, losses, seed: fit_loglinear(weights, losses),
    "gp": lambda weights, losses, seed: fit_gaussian(weights, losses, seed=seed),
    "trees": lambda weights, losses, seed: trees.fit_trees(weights, losses, seed=seed),
}
_SCHEMA = 1


@dataclass(frozen=True, eq=False)
class Model:
    """A regression fitted to k tasks of mixtures of m domains. `fit` makes one.

    `weights` (runs, m) and `losses` (runs, k; NaN where not measured) are what it was fitted to; `single` says that losses
    came as (runs,), so that predictions do too.
    """

    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    weights: Floats
    losses: Floats
    fitted: Fitted
    report: Report
    single: bool = False

    @property
    def kind(self) -> str:
        """`ridge`, `log-linear`, `gp` or `trees`, for all tasks."""
        return self.fitted.kind

    @property
    def form(self) -> Convex | None:
        """The formula of a convex kind (ridge, log-linear), else None."""
        return self.fitted.form

    def predict(self, weights: npt.ArrayLike) -> Floats:
        """Losses of mixtures; shapes: (n, m) -> (n, k), or (n,) where losses came as (runs,). One mixture (m,) loses the
        first axis. Mixtures are taken as they are, not made to sum to 1. UsageError for another shape, negative shares or
        numbers that are not finite."""
        given = np.asarray(weights, np.float64)
        found = self.fitted.predict(self._checked(given))
        found = found[:, 0] if self.single else found
        return found if given.ndim == 2 else np.asarray(found[0])

    def spread(self, weights: npt.ArrayLike) -> Floats | None:
        """Standard deviation of what one new run of a mixture would show (the noise of a run is in it), shaped as `predict`;
        None where the kind does not know it: only `gp` does."""
        given = np.asarray(weights, np.float64)
        found = self.fitted.spread(self._checked(given))
        if found is None:
            return None
        found = found[:, 0] if self.single else found
        return found if given.ndim == 2 else np.asarray(found[0])

    def gradient(self, mixture: npt.ArrayLike) -> Floats:
        """What one unit of a domain adds to a task, at a mixture; shapes: (m,) -> (k, m), (1, m) where losses came as (runs,).

        Raises NotImplementedError for trees, whose predictions are steps.
        """
        return self.fitted.gradient(self._checked(np.asarray(mixture, np.float64))[0])

    def resample(self, samples: int, seed: int = 0) -> Iterator[Model]:
        """The model fitted again to runs drawn with replacement, `samples` times (Efron 1979); penalties, length scales and
        numbers of trees are kept. A task of which a draw has not one run keeps the losses it has."""
        random = np.random.default_rng(seed)
        measured = np.isfinite(self.losses)
        for _ in range(samples):
            rows = random.integers(0, len(self.weights), len(self.weights))
            weights, losses = self.weights[rows], self.losses[rows]
            for task in np.flatnonzero(~measured[rows].any(axis=0)):
                row = int(random.choice(np.flatnonzero(measured[:, task])))
                weights = np.vstack([weights, self.weights[row]])
                losses = np.vstack([losses, np.where(np.arange(losses.shape[1]) == task, self.losses[row], np.nan)])
            yield replace(self, weights=weights, losses=losses, fitted=self.fitted.again(weights, losses))

    def to_json(self) -> str:
        """The model with its runs and its report, as JSON text: `model_from_json` has it back."""
        found = {
            "schema_version": _SCHEMA, "kind": self.kind, "single": self.single, "domains": self.domains,
            "tasks": self.tasks, "weights": self.weights.tolist(),
            "losses": [[None if np.isnan(loss) else loss for loss in run] for run in self.losses.tolist()],
            "fitted": self.fitted.to_json(), "report": self.report.to_json(),
        }  # fmt: skip
        return json.dumps(found, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Model:
        """`model_from_json`."""
        return model_from_json(text)

    def _checked(self, given: Floats) -> Floats:
        return check_mixtures(np.atleast_2d(given), len(self.domains), "predict")


@one_thread
def fit(
    weights: npt.ArrayLike,
    losses: npt.ArrayLike,
    kind: str = "auto",
    *,
    domains: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
    validate: bool = True,
) -> Model:
    """Fits mixtures (runs, domains) to losses (runs,) or (runs, tasks), less is better, one fit a task.

    A loss that is NaN was not measured: the run is left out for that task. `kind` "auto" takes the kind that ranks runs left
    out best by cross-validation (`validation.compare`; trees only where LightGBM is installed, and not where they would take
    hours: `trees.TOO_LARGE`). Any other kind is cross-validated too, for the report, unless `validate` is False. The same
    seed gives the same model.

    Raises UsageError for shapes that do not match, shares that are negative or do not sum to 1 (within ROUNDING), losses that
    are infinite, fewer than LEAST_RUNS mixtures of a task, and unknown kinds; CurateError for trees without LightGBM.
    """
    if kind != "auto" and kind not in KINDS:
        raise UsageError(f"fit: no kind of regression is called {kind!r}{nearest(str(kind), ('auto', *KINDS))}")
    if kind == "auto" and not validate:
        raise UsageError("fit: kind='auto' chooses by cross-validation: name a kind, or leave validate=True")
    mixtures, measured, single = _checked_runs(weights, losses)
    domains = _names(domains, mixtures.shape[1], "domain")
    tasks = _names(tasks, measured.shape[1], "task")
    _check_tasks(mixtures, measured, tasks)
    left_out = _left_out(mixtures.size * measured.shape[1]) if kind == "auto" else {}
    asked = [name for name in KINDS if name not in left_out] if kind == "auto" else [kind]
    if validate:
        predicted = {name: left_out_predictions(mixtures, measured, KINDS[name], seed) for name in asked}
        report = compare(measured, predicted, tasks, left_out, seed)
    else:
        report = Report(kind, f"{kind}: asked for, not validated", len(mixtures))
    if kind != "auto" and validate:
        score = report.kinds[kind].spearman.value
        report = replace(report, why=f"{kind}: asked for (Spearman on runs left out {score:.4f})")
    fitted = KINDS[report.chosen](mixtures, measured, seed)
    return Model(domains, tasks, mixtures, measured, fitted, report, single)


def model_from_json(text: str | bytes) -> Model:
    """A model that `Model.to_json` wrote; it predicts the same, bit for bit.

    Raises UsageError where the text is no JSON or not such a model, CurateError for trees without LightGBM.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"model: this is no JSON ({error})") from None
    if not isinstance(given, dict) or given.get("schema_version") != _SCHEMA:
        raise UsageError(f"model: this is no regression that `to_json` wrote (schema_version {_SCHEMA}): fit again")
    domains, tasks = _listed(given, "domains"), _listed(given, "tasks")
    single, rows, kept = given.get("single"), given.get("weights"), given.get("fitted")
    if not isinstance(single, bool) or not isinstance(rows, list) or not rows or not isinstance(kept, dict):
        raise UsageError("model: 'single', 'weights' or 'fitted' is missing or damaged: fit again")
    if single and len(tasks) != 1:
        raise UsageError(f"model: 'single' with {len(tasks)} tasks")
    weights = check_mixtures(numbers(given, "weights", (len(rows), len(domains))), len(domains), "model")
    losses = numbers(given, "losses", (len(rows), len(tasks)), missing=True)
    fitted = _read(given.get("kind"), kept, weights, losses)
    return Model(domains, tasks, weights, losses, fitted, read_report(given.get("report")), single)


def check_mixtures(weights: Floats, domains: int, where: str) -> Floats:
    """Mixtures (n, domains), shares a rounding error below 0 set to 0; UsageError where they are none."""
    if weights.ndim != 2 or weights.shape[1] != domains:
        raise UsageError(f"{where}: mixtures have shape {weights.shape}, not (n, {domains}), a share for each domain")
    if not np.isfinite(weights).all():
        raise UsageError(f"{where}: shares must be finite numbers")
    if (weights < -1e-6).any():
        raise UsageError(f"{where}: shares must not be negative ({weights.min():g} is there)")
    return np.maximum(weights, 0.0)


def _read(kind: object, given: Mapping[str, Any], weights: Floats, losses: Floats) -> Fitted:
    tasks, domains = losses.shape[1], weights.shape[1]
    readers: dict[object, Callable[[], Fitted]] = {
        "ridge": lambda: read_ridge(given, tasks, domains),
        "log-linear": lambda: read_loglinear(given, tasks, domains),
        "gp": lambda: read_gaussian(given, weights, losses),
        "trees": lambda: trees.read_trees(given, tasks, domains),
    }
    if not isinstance(kind, str) or kind not in readers:
        raise UsageError(f"model: no kind of regression is called {kind!r}{nearest(str(kind), tuple(KINDS))}")
    return readers[kind]()


def _left_out(size: int) -> dict[str, str]:
    """Kinds that take no part in the choice, and why; `size`: runs x domains x tasks."""
    if not trees.available():
        return {"trees": trees.MISSING}
    if size > trees.TOO_LARGE:
        return {
            "trees": f"slow with so many runs, domains and tasks ({size:,} > {trees.TOO_LARGE:,}): ask for kind='trees'"
        }
    return {}


def _checked_runs(weights: npt.ArrayLike, losses: npt.ArrayLike) -> tuple[Floats, Floats, bool]:
    """(mixtures that sum to 1, losses (runs, tasks), whether losses came as (runs,))."""
    try:
        mixtures, measured = np.array(weights, np.float64), np.array(losses, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"fit: weights and losses must be arrays of numbers ({error})") from None
    single = measured.ndim == 1
    measured = measured[:, None] if single else measured
    if (
        mixtures.ndim != 2
        or measured.ndim != 2
        or len(mixtures) != len(measured)
        or not mixtures.size
        or not measured.size
    ):
        raise UsageError(
            f"fit: weights have shape {mixtures.shape} and losses {np.shape(losses)}: give (runs, domains), and (runs,) or "
            "(runs, tasks)"
        )
    mixtures = check_mixtures(mixtures, mixtures.shape[1], "fit")
    sums = mixtures.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > ROUNDING)
    if len(off):
        raise UsageError(f"fit: the shares of run {off[0]} sum to {sums[off[0]]:.4g}, not 1 ({len(off)} such runs)")
    if np.isinf(measured).any():
        run, task = np.argwhere(np.isinf(measured))[0]
        raise UsageError(f"fit: the loss of run {run}, task {task} is infinite: give NaN where a run has none")
    return mixtures / sums[:, None], measured, single


def _check_tasks(weights: Floats, losses: Floats, tasks: Sequence[str]) -> None:
    alike = mixtures_of(weights)
    counts = np.array([len(np.unique(alike[rows])) for rows in np.isfinite(losses).T])
    few = int(counts.argmin())
    if counts[few] < LEAST_RUNS:
        raise UsageError(
            f"fit: task {tasks[few]!r} was measured for {counts[few]} different mixtures, {LEAST_RUNS} at least are needed: "
            "add runs or leave the task out"
        )


def _names(given: Sequence[str] | None, count: int, what: str) -> tuple[str, ...]:
    names = tuple(f"{what} {number + 1}" for number in range(count)) if given is None else tuple(map(str, given))
    if len(names) != count:
        raise UsageError(f"fit: {len(names)} names of {what}s for {count} columns")
    if len(set(names)) < count:
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"fit: two {what}s are called {twice!r}")
    return names


def _listed(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = given.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"model: {key!r} is no list of names")
    return _names(names, len(names), key.removesuffix("s"))
