"""How well each kind of regression predicts runs that it has not seen, and which kind is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.stats import rankdata

from curate.mixtures.fitted import Fitted, Rows, groups
from curate.mixtures.forms import Floats
from curate.mixtures.threads import one_thread
from curate.pipeline.errors import UsageError

FOLDS = 5
SAMPLES = 200
"""Bootstrap samples of the runs, of which intervals and standard errors are made."""
PREFERRED = ("log-linear", "ridge", "gp", "trees")
"""Within one standard error of the best, the first of these is taken: those with an exact solution before those without, and
the one that carries over to other scales before all."""
Fitter = Callable[[Floats, Floats, int], Fitted]


@dataclass(frozen=True)
class Score:
    """A statistic of the runs left out: its value, and the 2.5th and 97.5th percentile of it over resampled runs."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class KindScore:
    """How one kind predicts the runs left out: Spearman's rank correlation and root mean square error (in the unit of the
    losses), mean over the tasks and by task. A task whose predictions or losses do not differ has the correlation 0."""

    spearman: Score
    rmse: Score
    spearman_by_task: dict[str, Score]
    rmse_by_task: dict[str, Score]


@dataclass(frozen=True)
class Report:
    """Why a model is of the kind it is. `kinds` has those that were cross-validated; `left_out` why others were not."""

    chosen: str
    why: str
    runs: int
    folds: int = 0
    repeats: int = 0
    kinds: dict[str, KindScore] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For a terminal: a line a kind, the best first, then the reason."""
        ranked = sorted(self.kinds.items(), key=lambda item: -item[1].spearman.value)
        told = [
            f"{name:10} Spearman {score.spearman.value:.4f} ({score.spearman.low:.4f} to {score.spearman.high:.4f}), "
            f"error {score.rmse.value:.4f} ({score.rmse.low:.4f} to {score.rmse.high:.4f})"
            for name, score in ranked
        ]
        told += [f"{name:10} left out: {reason}" for name, reason in self.left_out.items()]
        if self.chosen in self.kinds and self.kinds[self.chosen].spearman.low <= 0:
            told.append(
                f"caution: {self.chosen} ranks runs left out no better than chance may: what is solved from it means little. "
                "More runs, larger proxies or more telling tasks are needed"
            )
        return [*told, self.why]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_report(given: Any) -> Report:
    """A `Report` from `to_json`; UsageError where it is damaged."""
    try:
        kinds = {
            str(name): KindScore(
                Score(**score["spearman"]), Score(**score["rmse"]),
                {str(task): Score(**value) for task, value in score["spearman_by_task"].items()},
                {str(task): Score(**value) for task, value in score["rmse_by_task"].items()},
            )
            for name, score in given["kinds"].items()
        }  # fmt: skip
        return Report(**(dict(given) | {"kinds": kinds, "left_out": dict(given["left_out"])}))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise UsageError(f"model: its report is damaged ({error}): fit again") from None


def repeats_for(runs: int, tasks: int) -> int:
    """How often the runs are cut into folds: twice where so few losses are measured that one cut would decide too much."""
    return 1 if runs * tasks >= 500 else 2


def mixtures_of(weights: Floats) -> Rows:
    """The number of each run's mixture, in the order in which they come first; shapes: (runs, domains) -> (runs,)."""
    _, first, which = np.unique(np.round(weights, 9), axis=0, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[which.ravel()]


@one_thread
def left_out_predictions(weights: Floats, losses: Floats, fitter: Fitter, seed: int) -> Floats:
    """Each run's losses, predicted by a fit to the other folds; shape (repeats, runs, tasks).

    Every choice a kind makes (penalties, length scales, number of trees) is made anew in every fold. Runs of one mixture
    (replicates) are in one fold: a fit that has seen the one would know the other.
    """
    alike = mixtures_of(weights)
    found = np.full((repeats_for(*losses.shape), *losses.shape), np.nan)
    for repeat in range(len(found)):
        fold = (np.random.default_rng([seed, repeat]).permutation(int(alike.max()) + 1) % FOLDS)[alike]
        for number in range(FOLDS):
            seen = fold != number
            found[repeat, ~seen] = fitter(weights[seen], losses[seen], seed).predict(weights[~seen])
    return found


def compare(
    losses: Floats, predicted: Mapping[str, Floats], tasks: Sequence[str], left_out: Mapping[str, str], seed: int
) -> Report:
    """Scores every kind by its predictions of the runs left out (`left_out_predictions`), and chooses one for all tasks.

    That with the highest mean Spearman over the tasks, then the least error; but the first of PREFERRED whose mean Spearman
    is within one standard error of it (of the difference, over SAMPLES of runs drawn with replacement).
    """
    measured = list(groups(losses))
    statistics = {name: _statistics(losses, values, measured) for name, values in predicted.items()}
    drawn: dict[str, Floats] = {name: np.empty((SAMPLES, 2, losses.shape[1])) for name in predicted}
    random = np.random.default_rng([seed, SAMPLES])
    for sample in range(SAMPLES):
        rows = random.integers(0, len(losses), len(losses))
        again = list(groups(losses[rows]))
        for name, values in predicted.items():
            drawn[name][sample] = _statistics(losses[rows], values[:, rows], again)
    kinds = {name: _scores(statistics[name], drawn[name], tasks) for name in predicted}
    best = min(kinds, key=lambda name: (-kinds[name].spearman.value, kinds[name].rmse.value))
    of_best = np.nanmean(drawn[best][:, 0], axis=1)
    near = {}
    for name, score in kinds.items():
        error = float(np.std(np.nanmean(drawn[name][:, 0], axis=1) - of_best, ddof=1))
        if kinds[best].spearman.value - score.spearman.value <= error:
            near[name] = error
    chosen = next((name for name in PREFERRED if name in near), best)
    return Report(
        chosen, _why(chosen, best, kinds, near), len(losses), FOLDS, repeats_for(*losses.shape), kinds, dict(left_out)
    )  # fmt: skip


def _why(chosen: str, best: str, kinds: Mapping[str, KindScore], near: Mapping[str, float]) -> str:
    value = kinds[best].spearman.value
    if chosen == best:
        told = f"{chosen}: it ranks runs left out best (Spearman {value:.4f})"
        if set(PREFERRED[: PREFERRED.index(chosen)]) & set(kinds):
            told += ", and no kind that is preferred comes within one standard error"
    else:
        told = (
            f"{chosen}: Spearman {kinds[chosen].spearman.value:.4f} is within one standard error ({near[chosen]:.4f}) of the "
            f"best, {best} ({value:.4f}), and it is preferred ({', '.join(PREFERRED)}: exact solution first)"
        )
    if chosen != "log-linear":
        told += ". Where the answer is carried to a much larger model, log-linear is advised: kind='log-linear'"
    return told


def _statistics(losses: Floats, predicted: Floats, measured: Iterable[tuple[Rows, Rows]]) -> Floats:
    """Spearman and RMSE, means over the repeats; shapes: (n, k), (repeats, n, k) -> (2, k). NaN without three runs."""
    found = np.full((2, losses.shape[1]), np.nan)
    for runs, tasks in measured:
        if len(runs) < 3:
            continue
        block = np.ix_(runs, tasks)
        y = losses[block]
        ranks = _standard_ranks(y)
        repeats = [each[block] for each in predicted]
        found[0, tasks] = np.mean([(ranks * _standard_ranks(each)).sum(axis=0) for each in repeats], axis=0)
        found[1, tasks] = np.mean([np.sqrt(((each - y) ** 2).mean(axis=0)) for each in repeats], axis=0)
    return found


def _standard_ranks(values: Floats) -> Floats:
    """Ranks by column, of mean 0 and length 1 (0 where all are equal): their products sum to Spearman's correlation."""
    ranks = rankdata(values, axis=0)
    ranks = ranks - ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    standard: Floats = ranks / np.where(length > 0, length, 1.0)
    return standard


def _scores(values: Floats, drawn: Floats, tasks: Sequence[str]) -> KindScore:
    """Shapes: (2, k), (samples, 2, k)."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    means = np.nanmean(drawn, axis=2)
    mean_low, mean_high = np.percentile(means, [2.5, 97.5], axis=0)
    mean = values.mean(axis=1)

    def whole(which: int) -> Score:
        return Score(float(mean[which]), float(mean_low[which]), float(mean_high[which]))

    def by_task(which: int) -> dict[str, Score]:
        rows = zip(tasks, values[which].tolist(), low[which].tolist(), high[which].tolist(), strict=True)
        return {task: Score(value, least, most) for task, value, least, most in rows}

    return KindScore(whole(0), whole(1), by_task(0), by_task(1))
