"""What every classifier is, whatever its kind, and what it learns from. Never pickle: a model file runs no code."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, ValidationError

from curate.pipeline.config import Strict
from curate.pipeline.errors import CurateError, nearest

Kind = Literal["linear", "fasttext", "embedding", "heuristic"]
Output = Literal["label", "score"]
Floats = npt.NDArray[np.float32]


class Settings(Strict):
    """What every kind that can be trained is set by; each kind adds its own fields."""

    positive: str | None = None
    """Give the probability of this label alone, as a score; null: name one of all labels."""
    seed: int = Field(default=0, ge=0, lt=1 << 31)


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(kind: type[AnySettings], given: Mapping[str, Any]) -> AnySettings:
    """A kind's settings; ValueError in one line for an unknown key, with the nearest, or a wrong value."""
    for key in given:
        if key not in kind.model_fields:
            raise ValueError(f"no setting {key!r}{nearest(str(key), tuple(kind.model_fields))}")
    try:
        return kind(**given)
    except ValidationError as error:
        found = error.errors()[0]
        place = ".".join(str(part) for part in found["loc"])
        raise ValueError(f"{place + ': ' if place else ''}{found['msg']}") from None


class Classifier(ABC):
    """A classifier, ready to predict.

    `name` and `version` say which one it is, `kind` how it works, `output` what it gives: `label` (one of `labels`, with its
    probability) or `score` (a number from `scale[0]` to `scale[1]`; a probability unless the model learned numbers).
    `fingerprint` is the SHA-256 (hex) of everything that can change an answer: the model file, which names an encoder by
    its weights' SHA-256, or a heuristic's name and version.
    """

    name: str
    version: str
    kind: Kind
    output: Output
    fingerprint: str
    labels: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.0, 1.0)

    @abstractmethod
    def values(self, texts: pa.Array) -> Floats:
        """One row a text. Label kinds: the probability of each of `labels` (shape texts x labels); score kinds: shape texts."""

    @abstractmethod
    def save(self, path: Path | str) -> None:
        """Writes the model's file, whole or not at all; the same model gives the same bytes, and `load` reads it."""

    def best(self, values: Floats) -> npt.NDArray[np.int64]:
        """For label kinds: the place among `labels` of the one that each row of `values` gives."""
        found: npt.NDArray[np.int64] = values.argmax(axis=1)
        return found

    def predict(self, texts: pa.Array) -> tuple[pa.Array, pa.Array] | pa.Array:
        """(labels, scores) for label kinds (strings, float32); scores alone for score kinds. A null text counts as empty.

        Never NaN and never null, for any text, of any size, in any bytes. Equal texts get equal answers in any batch.
        """
        values = self.values(texts)
        if self.output == "score":
            return pa.array(values, pa.float32())
        if not len(values):
            return pa.array([], pa.string()), pa.array([], pa.float32())
        best = self.best(values)
        labels = pa.array(self.labels, pa.string()).take(pa.array(best))
        return labels, pa.array(values[np.arange(len(best)), best], pa.float32())


class ProbabilityOf(Classifier):
    """The probability of one label of a label classifier, as a score: `load("topic#health")`."""

    output: Output = "score"

    def __init__(self, inner: Classifier, label: str) -> None:
        if inner.output != "label":
            raise CurateError(f"classifier {inner.name} gives a score, no labels: leave out '#{label}'")
        if label not in inner.labels:
            raise CurateError(f"classifier {inner.name} has no label {label!r}{nearest(label, inner.labels)}")
        self.name = f"{inner.name}#{label}"
        self.version, self.kind = inner.version, inner.kind
        self.fingerprint = hashlib.sha256(f"{inner.fingerprint}#{label}".encode()).hexdigest()
        self._inner, self._column = inner, inner.labels.index(label)

    def values(self, texts: pa.Array) -> Floats:
        return np.ascontiguousarray(self._inner.values(texts)[:, self._column])

    def save(self, path: Path | str) -> None:
        raise CurateError(f"{self.name} is one label of a model: save the model itself")


# --- what it learns from ----------------------------------------------------------------------------------------------


@dataclass
class Examples:
    """Texts with what a classifier shall say of them, column by column.

    Either `labels` or `targets` (numbers, for a regression) is filled. `groups` are what a split keeps together: sites,
    books. `confidence` (0–1) is how sure the label is: for measuring. `weights` (0 or more) are how much a text counts in
    training. `kept_out` are never trained on. A column that nobody filled is empty.
    """

    texts: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    kept_out: list[bool] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def add(
        self, text: str, label: str | float, group: str = "", kept_out: bool = False, confidence: float = 1.0,
        weight: float = 1.0,
    ) -> None:  # fmt: skip
        """One more example; a label that is a number is a target."""
        self.texts.append(text)
        if isinstance(label, str):
            self.labels.append(label)
        else:
            self.targets.append(float(label))
        self.groups.append(group)
        self.kept_out.append(kept_out)
        self.confidence.append(confidence)
        self.weights.append(weight)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Examples:
        """The examples at these places, or where a mask is true."""
        places = np.flatnonzero(rows) if np.asarray(rows).dtype == bool else np.asarray(rows, np.int64)

        def chosen(column: list[Any]) -> list[Any]:
            return [column[place] for place in places.tolist()] if column else []

        return Examples(**{name: chosen(column) for name, column in vars(self).items()})

    def part(self, kept_out: bool) -> Examples:
        """The examples that are kept out of training, or the others."""
        return self.take(np.array(self.kept_out, bool) == kept_out)

    def rows(self) -> Iterator[tuple[str, str, str, bool, float]]:
        """(text, label, group, kept_out, confidence) of each."""
        yield from zip(self.texts, self.labels, self.groups, self.kept_out, self.confidence, strict=True)

    @property
    def array(self) -> pa.Array:
        """The texts as Arrow has them."""
        return pa.array(self.texts, pa.large_string())

    @property
    def grouping(self) -> list[str]:
        """What a split keeps together: the groups; a text without one stands for itself."""
        return [group or str(row) for row, group in enumerate(self.groups or [""] * len(self.texts))]

    @property
    def weighting(self) -> npt.NDArray[np.float64]:
        """The weight of each text; 1 where none were given."""
        return np.array(self.weights, float) if self.weights else np.ones(len(self.texts))

    def check(self) -> None:
        """CurateError if nothing can be learned from these: columns that do not fit, one label alone, no numbers."""
        if bool(self.labels) == bool(self.targets):
            raise CurateError("examples need labels or targets: one of the two, and not both")
        for name, column in vars(self).items():
            if column and len(column) != len(self.texts):
                raise CurateError(f"{len(self.texts)} texts, but {len(column)} {name}")
        if not all(isinstance(text, str) for text in self.texts):
            raise CurateError("examples: every text must be a string; leave out what has none")
        if self.labels and len(set(self.labels)) < 2:
            raise CurateError(
                f"all {len(self.texts)} examples have one label, {self.labels[0]!r}: nothing to tell apart"
            )
        if self.targets and (not np.isfinite(self.targets).all() or min(self.targets) == max(self.targets)):
            raise CurateError("targets must be finite and not all the same")
        if self.weights and not (np.isfinite(self.weights).all() and min(self.weights) >= 0 < max(self.weights)):
            raise CurateError("weights must be finite, none below 0, and not all 0")


@dataclass(frozen=True)
class Goal:
    """What a kind is to learn, in the numbers that its solver takes."""

    labels: tuple[str, ...]
    """The labels in order; for one label's probability that one; for a regression none."""
    target: npt.NDArray[np.float64]
    """The label's number; 1 for the positive label and 0 for others; a regression's targets."""
    output: Output
    scale: tuple[float, float]

    @property
    def regression(self) -> bool:
        return not self.labels


def goal(examples: Examples, positive: str | None) -> Goal:
    """What the examples ask for; CurateError where they cannot be learned from or have no such label."""
    examples.check()
    if examples.targets:
        if positive is not None:
            raise CurateError(f"positive: {positive!r} names a label, but the examples have numbers")
        return Goal((), np.array(examples.targets), "score", (min(examples.targets), max(examples.targets)))
    names = tuple(sorted(set(examples.labels)))
    if positive is None:
        return Goal(names, np.array([names.index(label) for label in examples.labels], float), "label", (0.0, 1.0))
    if positive not in names:
        raise CurateError(f"positive: no example has the label {positive!r}{nearest(positive, names)}")
    return Goal((positive,), np.array([float(label == positive) for label in examples.labels]), "score", (0.0, 1.0))


# --- helpers of all kinds ---------------------------------------------------------------------------------------------


def refuse(path: Path | str, why: str) -> CurateError:
    """The one error for a model file that cannot be used."""
    return CurateError(f"{path} is no usable model: {why}; fetch or train it again")


def write(path: Path | str, data: bytes) -> None:
    """Writes a model's file under its name when it is whole; CurateError where that cannot be done."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CurateError(f"cannot write model {path}: {error.strerror}") from error


def finite(margins: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """The margins; CurateError where the model's weights are too large to add up."""
    if not np.isfinite(margins).all():
        raise refuse(name, "its weights are too large to add up")
    return margins


def softmax(margins: npt.NDArray[np.float64]) -> Floats:
    """Probabilities of each row, summing to one."""
    grown = np.exp(margins - margins.max(axis=1, keepdims=True))
    shares: Floats = (grown / grown.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def sigmoid(margins: npt.NDArray[np.float64]) -> Floats:
    """1 / (1 + e^-x), without overflow."""
    shares: Floats = (0.5 * (1 + np.tanh(margins / 2))).astype(np.float32)
    return shares


def site(url: str) -> str:
    """The registered domain of a URL, near enough to keep a site's pages on one side of a split; `` where it has no host."""
    from urllib.parse import urlsplit

    try:
        host = (urlsplit(url).hostname or "").lower().strip(".")
    except ValueError:
        return ""
    parts = host.split(".")
    country = (
        len(parts) > 2
        and len(parts[-1]) == 2
        and parts[-2] in ("ac", "co", "com", "edu", "gov", "ne", "net", "or", "org")
    )
    return ".".join(parts[-3:] if country else parts[-2:])


def fold(group: str, folds: int = 5) -> int:
    """The part (0 … folds - 1) of a split in which all of a group (a site, a book) lies."""
    return int(hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest(), 16) % folds


def folds_of(groups: Sequence[str], folds: int = 5) -> npt.NDArray[np.int64]:
    """`fold` of each group."""
    return np.array([fold(group, folds) for group in groups], np.int64)
