"""Linear classifiers over hashed word n-grams: trained in seconds, two megabytes on disk, a few microseconds a page.

A text's features are its word n-grams (`ngrams.py`) that the model knows; a feature's value is
(1 + ln count) * idf ** power, and a text's features have unit length. One weight a feature and label, kept as int8
with a scale a feature. With `shape`, the parts of `heuristic_prose` count beside them: how long the text is and how much of
it is sentences, which n-grams of unit length cannot say. On disk: safetensors, the settings as JSON in its header.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, StrictBool

from curate.classifiers import tensor_file
from curate.classifiers.heuristics import PROSE_PARTS, prose_parts
from curate.classifiers.model import (
    Classifier,
    Examples,
    Floats,
    Goal,
    Kind,
    Output,
    Settings,
    finite,
    folds_of,
    goal,
    read_settings,
    sigmoid,
    softmax,
    write,
)
from curate.classifiers.ngrams import (
    TOKENS,
    Bytes,
    Hashes,
    Offsets,
    feature_hashes,
    find_slot,
    ngrams,
    slots,
    utf8_views,
)
from curate.pipeline.errors import CurateError

FORMAT = "curate.linear/1"
_TENSORS: dict[str, tuple[type[np.generic], int]] = {
    "hashes": (np.uint32, 1),
    "idf": (np.float32, 1),
    "scale": (np.float32, 1),
    "weights": (np.int8, 2),
    "bias": (np.float32, 1),
}
_SHAPE = {"shape": (np.float32, 2)}


class LinearSettings(Settings):
    """What a linear model is trained with; `order`, `max_bytes`, `strip_latex` and `shape` are needed to apply it, too."""

    order: int = Field(default=1, ge=1, le=5)
    """Word 1…order-grams."""
    max_bytes: int = Field(default=20_000, ge=1, le=1 << 30)
    """Bytes of a text that are looked at."""
    strip_latex: StrictBool = False
    """Formulas and LaTeX commands are taken out before anything else."""
    shape: StrictBool = False
    """The three parts of `heuristic_prose` are features, too: sentences, letters, length."""
    idf_power: float = Field(default=1.6, ge=0, le=10)
    """Tried on the topics: 1 gives .740, 1.3 .748, 1.6 .754, 2 .753."""
    min_documents: int = Field(default=2, ge=1)
    """A feature stands in at least so many training texts."""
    max_features: int = Field(default=150_000, ge=1)
    """The most frequent ones stay."""
    cost: float = Field(default=0.5, gt=0)
    """C of the support vector machine that learns labels."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty of the ridge regression that learns targets."""


class Linear(Classifier):
    """A linear classifier in memory: label kind with several labels, score kind with one weight a feature.

    A score is the probability of the one label, or, where the model learned numbers, an estimate on their scale.
    """

    kind: Kind = "linear"

    def __init__(self, meta: dict[str, Any], tensors: dict[str, npt.NDArray[Any]], fingerprint: str) -> None:
        self.meta = meta
        self.name, self.version = str(meta["name"]), str(meta["version"])
        self.labels = tuple(meta["labels"])
        self.output: Output = "label" if len(self.labels) > 1 else "score"
        self.scale = tensor_file.check_scale(meta)
        self.fingerprint = fingerprint
        self._settings = read_settings(LinearSettings, meta["settings"])
        self._slope, self._shift = float(meta["slope"]), float(meta["shift"])
        self._tensors = tensors
        self._slots = slots(tensors["hashes"])

    def margins(self, texts: pa.Array) -> npt.NDArray[np.float64]:
        """The machines' raw answers, shape texts x labels (or x 1)."""
        data, starts, ends = utf8_views(texts)
        out = np.zeros((len(starts), len(self._tensors["bias"])), np.float32)
        settings, tensors = self._settings, self._tensors
        _margins(
            data, starts, ends, settings.order, settings.max_bytes, settings.strip_latex, self._slots, tensors["hashes"],
            tensors["idf"], tensors["scale"], tensors["weights"], tensors["bias"], out,
        )  # fmt: skip
        margins = out.astype(np.float64)
        if settings.shape:  # part by part: how a matrix product is rounded depends on how many texts there are
            for part, weights in zip(prose_parts(texts).T, tensors["shape"], strict=True):
                margins += part[:, None] * weights
        return margins

    def values(self, texts: pa.Array) -> Floats:
        margins = finite(self.margins(texts) * self._slope + self._shift, self.name)
        if self.output == "label":
            return softmax(margins)
        return sigmoid(margins[:, 0]) if self.labels else margins[:, 0].clip(*self.scale).astype(np.float32)

    def save(self, path: Path | str) -> None:
        write(path, tensor_file.pack(self.meta, self._tensors))


def load(path: Path | str, data: bytes | None = None) -> Linear:
    """A model from its file (or from the file's bytes); CurateError if it is corrupted, truncated or something else."""
    meta, tensors, data = tensor_file.unpack(path, data, _check)
    return Linear(meta, tensors, hashlib.sha256(data).hexdigest())


def rescaled(model: Linear, slope: float, shift: float, scale: tuple[float, float]) -> Linear:
    """A regression whose answers are `slope` times the model's, plus `shift`, and lie in `scale`."""
    meta = model.meta | {"slope": slope, "shift": shift, "scale": list(scale)}
    return Linear(meta, model._tensors, hashlib.sha256(tensor_file.pack(meta, model._tensors)).hexdigest())


def _check(meta: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> None:
    if meta["format"] != FORMAT or meta["tokens"] != TOKENS:
        raise ValueError(
            f"format {meta['format']!r}, tokens {meta['tokens']!r}: this version reads {FORMAT!r}, tokens {TOKENS}"
        )
    settings = read_settings(LinearSettings, meta["settings"])
    tensor_file.check_arrays(tensors, _TENSORS | (_SHAPE if settings.shape else {}))
    count, width = tensors["weights"].shape
    if (
        not count
        or {len(tensors[name]) for name in ("hashes", "idf", "scale")} != {count}
        or len(tensors["bias"]) != width
        or (settings.shape and tensors["shape"].shape != (PROSE_PARTS, width))
    ):
        raise ValueError("its arrays do not fit together")
    if not (np.diff(tensors["hashes"].astype(np.int64)) > 0).all():
        raise ValueError("its features are not in order")
    if meta["labels"] or width != 1:  # without a label it learned numbers
        tensor_file.check_labels(meta, width)
    tensor_file.check_scale(meta)
    tensor_file.check_name(meta)
    if not (np.isfinite(float(meta["slope"])) and np.isfinite(float(meta["shift"]))):
        raise ValueError("it holds numbers that are not finite")


# --- applying ---------------------------------------------------------------------------------------------------------


@numba.njit(cache=True, nogil=True)
def _margins(
    data: Bytes, starts: Offsets, ends: Offsets, order: int, max_bytes: int, strip: bool, table: npt.NDArray[np.int32],
    hashes: Hashes, idf: Floats, scale: Floats, weights: npt.NDArray[np.int8], bias: Floats, out: Floats,
) -> None:  # fmt: skip
    longest = 0
    for text in range(len(starts)):
        longest = max(longest, min(ends[text] - starts[text], max_bytes))
    tokens, buffer = np.empty(longest, np.uint64), np.empty(longest, np.uint8)
    grams, seen = np.empty(longest * order, np.uint32), np.empty(longest * order, np.int32)
    counts = np.zeros(len(hashes), np.int32)
    for text in range(len(starts)):
        end = min(ends[text], starts[text] + max_bytes)
        distinct = 0
        for gram in range(feature_hashes(data, starts[text], end, order, strip, buffer, tokens, grams)):
            feature = find_slot(grams[gram], hashes, table)
            if feature >= 0:
                if counts[feature] == 0:
                    seen[distinct] = feature
                    distinct += 1
                counts[feature] += 1
        length = np.float32(0)
        for each in range(distinct):
            feature = seen[each]
            weight = np.float32(1 + np.log(np.float64(counts[feature]))) * idf[feature]
            counts[feature] = 0
            length += weight * weight
            weight *= scale[feature]
            for label in range(weights.shape[1]):
                out[text, label] += weight * weights[feature, label]
        unit = np.float32(1) / np.sqrt(length) if length > 0 else np.float32(0)
        for label in range(weights.shape[1]):
            out[text, label] = out[text, label] * unit + bias[label]


# --- training ---------------------------------------------------------------------------------------------------------


def fit(examples: Examples, settings: LinearSettings, *, name: str, version: str) -> Linear:
    """Trains a model; the same input gives the same bytes.

    Probabilities are fitted on texts of groups (sites) that a first model has not seen. Needs scikit-learn; CurateError
    where it is missing.
    """
    wanted = goal(examples, settings.positive)
    meta = {"format": FORMAT, "tokens": TOKENS, "name": name, "version": version, "labels": list(wanted.labels),
            "scale": list(wanted.scale), "settings": settings.model_dump(), "slope": 1.0, "shift": 0.0}  # fmt: skip
    texts, target, weights = examples.array, wanted.target, examples.weighting
    if not wanted.regression:
        held = folds_of([f"calibration {group}" for group in examples.grouping]) == 0  # a split of its own
        held &= np.isin(target, target[~held])  # a label that would be gone from the others is not held out
        if not held.any() or len(set(target[~held])) < 2:
            raise CurateError(
                f"cannot train {name}: {len(texts):,} texts of {len(set(examples.grouping)):,} groups (sites) are too few to "
                "keep some out for the probabilities"
            )
        seen = texts.filter(pa.array(~held))
        first = Linear(meta, _train(seen, target[~held], weights[~held], settings, wanted), "")
        meta["slope"], meta["shift"] = _calibrate(first.margins(texts.filter(pa.array(held))), target[held])
    tensors = _train(texts, target, weights, settings, wanted)
    return Linear(meta, tensors, hashlib.sha256(tensor_file.pack(meta, tensors)).hexdigest())


def _train(
    texts: pa.Array,
    target: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    settings: LinearSettings,
    goal: Goal,
) -> dict[str, npt.NDArray[Any]]:
    try:
        from scipy import sparse
        from sklearn.linear_model import Ridge
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise CurateError("training needs scikit-learn: pip install scikit-learn") from error
    matrix, hashes, idf = _features(texts, settings)
    if settings.shape:
        matrix = sparse.hstack([matrix, sparse.csr_matrix(prose_parts(texts))]).tocsr()
    if goal.regression:
        machine = Ridge(alpha=settings.ridge, solver="sparse_cg", tol=1e-6, random_state=settings.seed)
    else:
        machine = LinearSVC(C=settings.cost, random_state=settings.seed)
    machine.fit(matrix, target, sample_weight=weights)
    coefficients, bias = np.atleast_2d(machine.coef_), np.atleast_1d(machine.intercept_)
    if goal.output == "label" and len(coefficients) == 1:  # for two classes there is one machine, the second's
        coefficients, bias = np.vstack([-coefficients, coefficients]), np.concatenate([-bias, bias])
    rows = np.ascontiguousarray(coefficients.T[: len(hashes)])
    shape = {"shape": coefficients.T[len(hashes) :].astype(np.float32)} if settings.shape else {}
    scale = (np.abs(rows).max(axis=1) / 127).astype(np.float32)
    steps = np.rint(rows / np.where(scale > 0, scale, 1)[:, None]).clip(-127, 127).astype(np.int8)
    return {
        "hashes": hashes,
        "idf": idf,
        "scale": scale,
        "weights": steps,
        "bias": bias.astype(np.float32),
        **shape,
    }


def _features(texts: pa.Array, settings: LinearSettings) -> tuple[Any, Hashes, Floats]:
    """The matrix of the training texts, and the features' hashes and idf."""
    from scipy import sparse

    grams, edges = ngrams(texts, order=settings.order, max_bytes=settings.max_bytes, strip_latex=settings.strip_latex)
    hashes, columns = np.unique(grams, return_inverse=True)
    rows = np.repeat(np.arange(len(texts)), np.diff(edges))
    matrix = sparse.csr_matrix((np.ones(len(grams)), (rows, columns)), shape=(len(texts), len(hashes)))
    matrix.sum_duplicates()
    documents = np.bincount(matrix.indices, minlength=len(hashes))
    enough = np.flatnonzero(documents >= settings.min_documents)
    chosen = np.sort(enough[np.argsort(-documents[enough], kind="stable")[: settings.max_features]])
    matrix = matrix[:, chosen].tocsr()
    idf = ((np.log((1 + len(texts)) / (1 + documents[chosen])) + 1) ** settings.idf_power).astype(np.float32)
    matrix.data = (1 + np.log(matrix.data)) * idf[matrix.indices]
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix).tocsr(), hashes[chosen], idf


def _calibrate(margins: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Slope and shift that make the margins' softmax (or sigmoid: Platt 1999) fit best, by log loss."""
    from scipy.optimize import minimize

    places = target.astype(np.int64)

    def loss(point: npt.NDArray[np.float64]) -> float:
        scaled = margins * np.exp(point[0]) + point[1]
        shares = (
            softmax(scaled)[np.arange(len(target)), places]
            if margins.shape[1] > 1
            else sigmoid(scaled[:, 0] * (2 * target - 1))
        )
        return float(-np.log(np.maximum(shares.astype(np.float64), 1e-12)).mean())

    best = minimize(loss, np.array([1.0, 0.0]), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7})
    return round(float(np.exp(best.x[0])), 5), round(float(best.x[1]), 5) if margins.shape[1] == 1 else 0.0
