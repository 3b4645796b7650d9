"""Judges a classifier on labelled texts: what `curate classifier evaluate` prints and draws.

    judged = gather(model, rows, question(model))           # judged.py
    result = measure(judged, goals={"precision": 0.9})      # plain numbers, ready for JSON

Definitions: `metrics.py`. Intervals hold 95 % of the values that come when sites are drawn anew (bootstrap), for pages of one
site resemble each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from curate.classifiers import metrics
from curate.classifiers.judged import Judged, Question
from curate.classifiers.metrics import Bools, Places, Values
from curate.pipeline.errors import CurateError

Numbers = dict[str, float]

POINTS = 200
"""Points of a curve at most."""
SURE = 0.9
"""Labels whose own confidence is at least this are measured apart, too."""
DRAWS = 200
MIN_PAGES = 10
MOST_SITES = 1_000
OTHER = "(not known to the model)"


class Ruler:
    """The numbers of a judgement under any weights, so that the bootstrap and the parts by site cost little."""

    def __init__(self, judged: Judged, at: float | None = None) -> None:
        self.judged, self.asked = judged, judged.asked
        self.scores = judged.scores()
        self.hits: Bools
        if self.asked.kind == "regression":
            assert at is not None
            self.hits = judged.wanted >= at
        elif self.asked.kind == "labels":
            self.hits = judged.given() == judged.wanted
        else:
            self.hits = judged.wanted > 0
        self.ranking = metrics.rank(self.hits, self.scores)

    def overall(self, weights: Values) -> Numbers:
        """What needs no threshold."""
        judged, cuts = self.judged, self.ranking.cut(weights)
        if self.asked.kind == "regression":
            return {
                "mean_absolute_error": metrics.mean_absolute_error(self.scores, judged.wanted, weights),
                "root_mean_square_error": metrics.root_mean_square_error(self.scores, judged.wanted, weights),
                "spearman": metrics.spearman(self.scores, judged.wanted, weights),
            }
        found: Numbers = {}
        if self.asked.kind == "labels":
            known = metrics.label_scores(self.confusion(weights))
            found = {"accuracy": known.accuracy, "macro_f1": known.macro_f1}
        else:
            found = {"roc_area": cuts.roc_area(), "pr_area": cuts.pr_area()}
        if self.asked.probability:
            found["calibration_error"] = metrics.calibration_error(self.reliability(weights))
            found["brier"] = metrics.brier(self.scores, self.hits, weights)
        sure = weights * (judged.confidence >= SURE)
        if sure.any() and (judged.confidence < 1).any():
            name, value = (
                ("accuracy", float(metrics.divided(sure @ self.hits, sure.sum())))
                if self.asked.kind == "labels"
                else ("roc_area", self.ranking.cut(sure).roc_area())
            )
            found[f"{name}_sure_labels"] = value
        return found

    def confusion(self, weights: Values) -> Values:
        """By label; the last row is of labels that the model does not know."""
        labels = len(self.asked.labels)
        own = np.where(self.judged.wanted < 0, labels, self.judged.wanted).astype(np.int64)
        return metrics.confusion(own, self.judged.given(), labels + 1, weights)

    def reliability(self, weights: Values) -> list[metrics.Bin]:
        outcome = self.judged.wanted if self.asked.kind == "regression" else self.hits
        return metrics.reliability(self.scores, outcome, weights, self.asked.scale)

    def part(self, rows: Places, threshold: float) -> dict[str, Any]:
        """A language's or a site's numbers."""
        weights = self.judged.weights[rows]
        hits, scores = self.hits[rows], self.scores[rows]
        found: dict[str, Any] = {"pages": len(rows)}
        if self.asked.kind == "regression":
            gaps = scores - self.judged.wanted[rows]
            found["mean_absolute_error"] = float(np.average(np.abs(gaps), weights=weights))
            found["mean_error"] = float(np.average(gaps, weights=weights))
        elif self.asked.kind == "labels":
            found["accuracy"] = float(np.average(hits, weights=weights))
        else:
            cuts = metrics.rank(hits, scores).cut(weights)
            at = cuts.at(threshold)
            found["positives"] = int(hits.sum())
            found |= {name: at[name] for name in ("accuracy", "precision", "recall", "f1", "kept")}
            found["roc_area"] = cuts.roc_area()
        return found


def measure(
    judged: Judged, *, goals: Mapping[str, float] | None = None, threshold: float | None = None,
    at: Sequence[float] = (), min_pages: int = MIN_PAGES, draws: int = DRAWS, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Everything that is printed and drawn, as plain numbers (None where a number has no definition).

    `goals`: thresholds to look for, by `precision`, `recall` or `kept`. `threshold`: the one that parts and the confusion
    are measured at; otherwise the first goal's, one half for probabilities, else that of the best F1. `at`: from which
    numbers on a page of a regression counts as wanted. Sites and languages of fewer than `min_pages` pages are not listed.
    """
    asked, weights = judged.asked, judged.weights
    levels = list(at) or _levels(judged) if asked.kind == "regression" else []
    main = levels[len(levels) // 2] if levels and not at else (levels[0] if levels else None)
    ruler = Ruler(judged, main)
    cuts = ruler.ranking.cut(weights)
    chosen = [_chosen(cuts, goal, target) for goal, target in (goals or {}).items()]
    if threshold is None:
        threshold = next((each["threshold"] for each in chosen if each["threshold"] is not None), None)
    if threshold is None:
        threshold = 0.5 if asked.probability else main if main is not None else metrics.best_f1(cuts)
    thresholds = {each["threshold"] for each in chosen if each["threshold"] is not None} | {threshold}

    def numbers(drawn: Values) -> Numbers:
        found, kept = ruler.overall(drawn), ruler.ranking.cut(drawn)
        for each in thresholds:
            found |= {f"{name} {each!r}": value for name, value in kept.at(each).items() if name != "threshold"}
        return found

    values = numbers(weights)
    spans = metrics.bootstrap(numbers, judged.site, weights, draws, seed)

    def with_span(name: str, key: str) -> dict[str, Any]:
        low, high = spans.get(key, (None, None))
        return {"name": name, "value": values[key], "low": low, "high": high}

    names = ("precision", "recall", "f1", "kept") + (("accuracy",) if asked.kind == "binary" else ())

    def gives(each: float) -> list[dict[str, Any]]:
        return [with_span(name, f"{name} {each!r}") for name in names]

    result: dict[str, Any] = {
        "model": judged.about,
        "asked": {"kind": asked.kind, "positive": asked.positive, "labels": list(asked.labels),
                  "scale": list(asked.scale), "probability": asked.probability, "from": main},
        "pages": len(judged), "sites": len(judged.sites), "bootstrap_draws": draws if spans else 0,
        "pages_per_second": judged.speed,
        "scores": [with_span(name, name) for name in values if " " not in name],
        "threshold": {"threshold": threshold, "gives": gives(threshold)},
        "chosen": [each | {"gives": gives(each["threshold"]) if each["threshold"] is not None else []} for each in chosen],
        "curves": _curves(cuts),
        "histogram": _histogram(ruler, weights),
        "reliability": [vars(each) for each in ruler.reliability(weights)],
        "levels": [_level(judged, each) for each in levels],
        "by_language": _by(ruler, judged.languages, judged.language, threshold, min_pages, worst=False),
        "by_site": _by(ruler, judged.sites, judged.site, threshold, min_pages, worst=True),
    }  # fmt: skip
    result |= _labels(ruler, weights) if asked.kind == "labels" else {"confusion": _two_by_two(cuts, threshold, asked)}
    return plain(result)


def _chosen(cuts: metrics.Cuts, goal: str, target: float) -> dict[str, Any]:
    found = metrics.threshold_for(cuts, goal, target)
    best = None if goal != "precision" or not len(cuts.thresholds) else float(np.nanmax(cuts.precision))
    return {"goal": goal, "target": target, "threshold": found, "best": best if found is None else None}


def _levels(judged: Judged) -> list[float]:
    """From where on a page may count as wanted: each of the few values that targets have, else their quartiles."""
    values = np.unique(judged.wanted)
    if len(values) < 2:
        raise CurateError(f"all {len(judged)} pages have one number, {values[0]:g}: nothing to tell apart")
    if len(values) > 11:
        values = np.unique(np.quantile(judged.wanted, [0.0, 0.25, 0.5, 0.75], method="higher"))
    return [float(value) for value in values if value > judged.wanted.min()]


def _level(judged: Judged, level: float) -> dict[str, Any]:
    cuts = metrics.rank(judged.wanted >= level, judged.scores()).cut(judged.weights)
    found = cuts.at(level)
    share = float(metrics.divided(cuts.positives, cuts.positives + cuts.negatives))
    names = ("precision", "recall", "f1", "kept")
    return {"from": level, "share": share, "roc_area": cuts.roc_area(), "pr_area": cuts.pr_area()} | {
        name: found[name] for name in names
    }


def _curves(cuts: metrics.Cuts) -> dict[str, Any]:
    """Some of the thresholds, spread evenly over ranks, recall and false positives, with what each gives."""
    last = len(cuts.thresholds) - 1
    steps = np.linspace(0, 1, POINTS // 3)
    places = [np.rint(steps * last).astype(np.int64)]
    places += [np.searchsorted(column, steps * column[-1]).clip(0, last) for column in (cuts.true, cuts.false)]
    chosen = np.unique(np.concatenate(places))
    names = ("thresholds", "precision", "recall", "f1", "kept", "false_rate")
    return {name: getattr(cuts, name)[chosen].tolist() for name in names}


def _histogram(ruler: Ruler, weights: Values, bins: int = 20) -> dict[str, Any]:
    """How many of the wanted pages and of the others get which score."""
    low, high = ruler.asked.scale
    edges = np.linspace(low, high, bins + 1)
    found = {"edges": edges.tolist()}
    for name, rows in (("wanted", ruler.hits), ("others", ~ruler.hits)):
        counts, _ = np.histogram(ruler.scores[rows].clip(low, high), edges, weights=weights[rows])
        found[name] = counts.tolist()
    return found


def _labels(ruler: Ruler, weights: Values) -> dict[str, Any]:
    """The confusion matrix, and each label against the rest."""
    judged, labels = ruler.judged, ruler.asked.labels
    matrix = ruler.confusion(weights)
    scores = metrics.label_scores(matrix)
    rows = []
    for place, label in enumerate(labels):
        cuts = metrics.rank(judged.wanted == place, judged.values[:, place]).cut(weights)
        rows.append(
            {"label": label, "pages": scores.support[place], "given": scores.given[place],
             "precision": scores.precision[place], "recall": scores.recall[place], "f1": scores.f1[place],
             "roc_area": cuts.roc_area(), "pr_area": cuts.pr_area()}
        )  # fmt: skip
    unknown = [OTHER] if matrix[-1].any() else []
    counts = matrix[: len(labels) + len(unknown), : len(labels)]
    return {
        "labels": rows,
        "confusion": {"rows": [*labels, *unknown], "columns": list(labels), "counts": counts.tolist()},
    }


def _two_by_two(cuts: metrics.Cuts, threshold: float, asked: Question) -> dict[str, Any]:
    found = cuts.at(threshold)
    recall, rate = np.nan_to_num(found["recall"]), np.nan_to_num(found["false_rate"])
    own = asked.positive or "wanted"
    return {
        "rows": [own, "others"],
        "columns": ["kept", "not kept"],
        "counts": [
            [recall * cuts.positives, (1 - recall) * cuts.positives],
            [rate * cuts.negatives, (1 - rate) * cuts.negatives],
        ],
    }


def _by(
    ruler: Ruler, names: tuple[str, ...], places: Places, threshold: float, min_pages: int, *, worst: bool
) -> dict[str, Any]:
    """Rows by language (most pages first) or by site (worst first), and how many are too small to be listed."""
    often = np.bincount(places, minlength=len(names))
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(often)
    found = []
    told = names != ("",)  # of the language, say, nothing may be known
    for number in np.flatnonzero((often >= min_pages) & (often > 0) & told).tolist():
        rows = order[ends[number] - often[number] : ends[number]]
        found.append({"name": names[number] or "(none)", **ruler.part(rows, threshold)})
    if worst:
        error = ruler.asked.kind == "regression"
        found.sort(
            key=lambda row: (-row["mean_absolute_error"] if error else row["accuracy"], -row["pages"], row["name"])
        )
    else:
        found.sort(key=lambda row: (-row["pages"], row["name"]))
    few = int(((often < min_pages) & (often > 0) & told).sum())
    return {
        "rows": found[:MOST_SITES],
        "more": max(0, len(found) - MOST_SITES),
        "too_few_pages": few,
        "least": min_pages,
    }


def plain(value: Any) -> Any:
    """For JSON: Python's own numbers, None for NaN."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
