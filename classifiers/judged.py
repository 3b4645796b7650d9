"""What is asked of a classifier, and what it said of labelled pages: the ground that `evaluate.measure` stands on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.classifiers.labelled import Row
from curate.classifiers.metrics import Places, Values, divided
from curate.classifiers.model import Classifier, Floats
from curate.classifiers.rows import batches
from curate.pipeline.errors import CurateError, UsageError, nearest

Asked = Literal["binary", "labels", "regression"]


@dataclass(frozen=True)
class Question:
    """What is asked of a classifier.

    `binary`: how well its score tells pages labelled `positive` from all others. `labels`: how often its label is the page's.
    `regression`: how near its score is to the page's number.
    """

    kind: Asked
    positive: str = ""
    labels: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.0, 1.0)
    probability: bool = False
    """Whether the score is meant to be a probability."""


def question(model: Classifier, positive: str | None = None) -> Question:
    """What can be asked of the model: by `positive` about one label, otherwise by what it gives.

    A model of two labels is asked about the second. UsageError for a label that it does not have.
    """
    if model.output == "label":
        if positive is None and len(model.labels) != 2:
            return Question("labels", labels=model.labels, probability=True)
        positive = model.labels[1] if positive is None else positive
        if positive not in model.labels:
            raise UsageError(
                f"--positive: {model.name} has no label {positive!r}{nearest(positive, tuple(model.labels))}"
            )
        return Question("binary", positive, probability=True)
    own = model.labels[0] if model.labels else model.name.partition("#")[2]
    if own or positive is not None:
        return Question("binary", positive or own, scale=model.scale, probability=bool(own))
    return Question("regression", scale=model.scale)


@dataclass
class Judged:
    """Labelled pages and what a classifier said of each: one row a page."""

    asked: Question
    wanted: Values
    """1 for the positive label and 0 for others; the place of the label, -1 for one unknown to the model; the number."""
    values: Floats
    """Scores, or probabilities by label."""
    sites: tuple[str, ...]
    site: Places
    languages: tuple[str, ...]
    language: Places
    weights: Values
    confidence: Values
    speed: float = float("nan")
    """Pages a second; NaN where that was not measured."""
    about: dict[str, Any] = field(default_factory=dict)
    chosen: Places | None = None
    """The place of the label that the model gives each page; None: that of the greatest probability."""

    def __len__(self) -> int:
        return len(self.wanted)

    def scores(self) -> Values:
        """The number that a threshold is laid on: the score, or the given label's probability."""
        return (self.values.max(axis=1) if self.asked.kind == "labels" else self.values).astype(float)

    def given(self) -> Places:
        return self.values.argmax(axis=1) if self.chosen is None else self.chosen


def gather(model: Classifier, rows: Iterable[Row], asked: Question) -> Judged:
    """Asks the classifier about every row, batch by batch; no text is kept.

    CurateError where there is no row, or none (or nothing but) of the label that is asked about.
    """
    marks: list[Row] = []
    values: list[Floats] = []
    timed = Timed(model)
    for batch in batches(rows, lambda row: len(row.text)):
        values.append(timed.values(pa.array([row.text for row in batch], pa.large_string())))
        marks += [replace(row, text="") for row in batch]
    if not marks:
        raise CurateError("no page to judge on")
    return assemble(model, marks, np.concatenate(values), asked, timed.speed)


class Timed:
    """A classifier and how fast it answers, without its first text: what a first call costs (kernels, memory) is no speed."""

    def __init__(self, model: Classifier) -> None:
        self._model, self._asked, self._seconds, self._warm = model, 0, 0.0, False

    def values(self, texts: pa.Array) -> Floats:
        first = [] if self._warm else [self._model.values(texts.slice(0, 1))]
        self._warm, rest = True, texts.slice(len(first))
        if not len(rest):
            return first[0] if first else self._model.values(rest)
        started = time.perf_counter()
        found = self._model.values(rest)
        self._seconds += time.perf_counter() - started
        self._asked += len(rest)
        return np.concatenate([*first, found])

    @property
    def speed(self) -> float:
        """Pages a second; NaN where no second text was asked about."""
        return float(divided(self._asked, self._seconds))


def assemble(
    model: Classifier, rows: Sequence[Row], values: Floats, asked: Question, speed: float = float("nan")
) -> Judged:
    """A judgement from what the model said of each row; rows of weight 0 do not count."""
    if asked.kind != "regression":
        _check(asked, {str(row.label) for row in rows})
    weights = np.array([row.weight for row in rows])
    counted = weights > 0
    if not counted.any():
        raise CurateError("all weights are 0")
    rows, values = [row for row, there in zip(rows, counted, strict=True) if there], values[counted]
    if not np.isfinite(values).all():
        raise CurateError(f"{model.name} gives scores that are no numbers")
    if model.output == "label" and asked.kind == "binary":
        values = values[:, model.labels.index(asked.positive)]
    places = {label: place for place, label in enumerate(asked.labels)}
    if asked.kind == "regression":
        wanted = [float(row.label) for row in rows]
    elif asked.kind == "binary":
        wanted = [float(row.label == asked.positive) for row in rows]
    else:
        wanted = [places.get(str(row.label), -1) for row in rows]
    sites, site = _numbered([row.group for row in rows])
    languages, language = _numbered([row.language for row in rows])
    return Judged(
        asked, np.array(wanted, float), values, sites, site, languages, language, weights[counted],
        np.array([row.confidence for row in rows]), speed, describe(model),
        model.best(values) if asked.kind == "labels" else None,
    )  # fmt: skip


def describe(model: Classifier) -> dict[str, Any]:
    """The model, for JSON."""
    return {
        "name": model.name, "version": model.version, "kind": model.kind, "output": model.output,
        "labels": list(model.labels), "scale": list(model.scale), "fingerprint": model.fingerprint,
    }  # fmt: skip


def _check(asked: Question, labels: set[str]) -> None:
    if asked.kind == "binary" and (asked.positive not in labels or len(labels) < 2):
        shown = ", ".join(sorted(map(repr, islice(sorted(labels), 8))))
        if asked.positive not in labels:
            raise CurateError(
                f"no page has the label {asked.positive!r}{nearest(asked.positive, labels)} (the pages have {shown}; "
                "--positive names the label that the score stands for)"
            )
        raise CurateError(f"all pages have one label, {shown}: nothing to tell apart")
    if asked.kind == "labels" and not labels & set(asked.labels):
        some = min(labels)
        raise CurateError(f"the model knows none of the pages' labels: {some!r}{nearest(some, set(asked.labels))}")


def _numbered(names: Sequence[str]) -> tuple[tuple[str, ...], Places]:
    found = sorted(set(names))
    place = {name: number for number, name in enumerate(found)}
    return tuple(found), np.array([place[name] for name in names], np.int64)
