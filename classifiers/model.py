"""What every classifier is, whatever its kind, and how a file becomes one. Never pickle: a model file runs no code."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.pipeline.errors import CurateError, nearest

Kind = Literal["linear", "fasttext", "heuristic"]
Output = Literal["label", "score"]
Floats = npt.NDArray[np.float32]


class Classifier(ABC):
    """A loaded classifier.

    `name` and `version` say which one it is, `kind` how it works, `output` what it gives: `label` (one of `labels`, with its
    probability) or `score` (a number). `fingerprint` is the SHA-256 (hex) of everything that can change an answer: the
    model file, or a heuristic's name and version.
    """

    name: str
    version: str
    kind: Kind
    output: Output
    fingerprint: str
    labels: tuple[str, ...] = ()

    @abstractmethod
    def values(self, texts: pa.Array) -> Floats:
        """One row a text. Label kinds: the probability of each of `labels` (shape texts x labels); score kinds: shape texts."""

    def predict(self, texts: pa.Array) -> tuple[pa.Array, pa.Array] | pa.Array:
        """(labels, scores) for label kinds (strings, float32); scores alone for score kinds. A null text counts as empty.

        Never NaN and never null, for any text, of any size, in any bytes. Equal texts get equal answers in any batch.
        """
        values = self.values(texts)
        if self.output == "score":
            return pa.array(values, pa.float32())
        if not len(values):
            return pa.array([], pa.string()), pa.array([], pa.float32())
        best = values.argmax(axis=1)
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


def refuse(path: Path | str, why: str) -> CurateError:
    """The one error for a model file that cannot be used."""
    return CurateError(f"{path} is no usable model: {why}; fetch or train it again")


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
