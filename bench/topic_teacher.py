"""A slow teacher of the topics, and what a fast student keeps of it.

Three judges see a page: its words (the linear kind), the pieces of its URL (a support vector machine), and a sentence
encoder's vector of its beginning (logistic regression). Their answers are added up with weights found on out-of-fold
answers of the sites that are trained on. The student is the linear kind again, taught by the teacher's out-of-fold answers
alone: what it lacks beside the teacher is what distillation loses.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.optimize import minimize
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from curate.classifiers import datasets, encoders, linear
from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.model import Examples, folds_of, softmax

ENCODER, MAX_TOKENS = "minilm-int8", 256
JUDGES = ("words", "url", "encoder")
Margins = npt.NDArray[np.float64]


@dataclass
class Pages:
    """Labelled pages as the judges see them."""

    examples: Examples
    urls: list[str]
    vectors: npt.NDArray[np.float32]

    def take(self, rows: npt.NDArray[np.bool_]) -> Pages:
        urls = [self.urls[row] for row in np.flatnonzero(rows).tolist()]
        return Pages(self.examples.take(rows), urls, self.vectors[rows])


def measure(data: Path, console: Console, vectors: Path | None = None) -> dict[str, Any]:
    """Share of right topics on sites kept out: the teacher, each judge alone, the student; seconds of CPU but for
    the encoder's.

    `vectors` is a file for the encoder's vectors, which take most of the time: read if it is there, else written.
    """
    examples = datasets.topics(data)
    examples.weights = examples.confidence
    urls = [
        " ".join(re.findall(r"[a-z0-9]+", row["url"].partition("://")[2].lower())) for row in datasets.web_pages(data)
    ]
    vectors_of_all, started = kept_vectors(vectors, examples.texts), time.process_time()
    pages, folds = Pages(examples, urls, vectors_of_all), folds_of(examples.groups)
    trained, kept_out = pages.take(folds != KEPT_OUT_FOLD), pages.take(folds == KEPT_OUT_FOLD)
    labels = sorted(set(examples.labels))
    inner = folds_of(trained.examples.groups)
    unseen = np.zeros((len(JUDGES), len(inner), len(labels)))
    for number in range(KEPT_OUT_FOLD):
        unseen[:, inner == number] = _margins(trained.take(inner != number), trained.take(inner == number))
        console.print(f"teacher: fold {number}")
    weights = _weights(unseen, np.array([labels.index(label) for label in trained.examples.labels]))
    judged = _margins(trained, kept_out)
    found = {
        **_accuracy(_together(judged, weights), labels, kept_out.examples),
        "out_of_fold": _accuracy(_together(unseen, weights), labels, trained.examples),
        "weights": dict(zip(JUDGES, weights.round(2).tolist(), strict=True)),
        "alone": {
            name: _accuracy(margins, labels, kept_out.examples) for name, margins in zip(JUDGES, judged, strict=True)
        },
    }
    taught = softmax(_together(unseen, weights))
    lesson = Examples(
        trained.examples.texts, [labels[place] for place in taught.argmax(axis=1)], trained.examples.groups,
        weights=taught.max(axis=1).tolist(),
    )  # fmt: skip
    student = linear.fit(lesson, linear.LinearSettings(), name="student", version="0")
    found["student_of_the_teacher"] = _accuracy(student.margins(kept_out.examples.array), labels, kept_out.examples)
    return {**found, "seconds": round(time.process_time() - started)}


def encode(texts: Sequence[str], encoder: str = ENCODER) -> npt.NDArray[np.float32]:
    """A sentence encoder's vector of each text's first MAX_TOKENS tokens; CurateError where it is not installed."""
    files = encoders.find(encoder)
    opened = encoders.open_encoder(encoder, MAX_TOKENS, encoders.default_pooling(files), files.fingerprint)
    return opened.encode(texts)


def kept_vectors(path: Path | None, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The vectors from a file that an earlier run left, or anew, and then into that file."""
    if path is not None and path.is_file():
        vectors: npt.NDArray[np.float32] = np.load(path)
        if len(vectors) == len(texts):
            return vectors
    vectors = encode(texts)
    if path is not None:
        np.save(path, vectors)
    return vectors


def _margins(seen: Pages, unseen: Pages) -> Margins:
    """What each judge, trained on some pages, says of others, shape judges x pages x labels (sorted)."""
    words = linear.fit(seen.examples, linear.LinearSettings(), name="words", version="0")
    url = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=2, sublinear_tf=True),
        LinearSVC(C=0.3, random_state=0),
    )
    encoder = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=400))
    url.fit(seen.urls, seen.examples.labels)
    encoder.fit(seen.vectors, seen.examples.labels, logisticregression__sample_weight=seen.examples.weights)
    return np.stack(
        [
            words.margins(unseen.examples.array),
            url.decision_function(unseen.urls),
            encoder.predict_log_proba(unseen.vectors),
        ]
    )


def _together(margins: Margins, weights: npt.NDArray[np.float64]) -> Margins:
    return np.tensordot(weights, margins, axes=1)


def _weights(margins: Margins, target: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """What each judge counts: the least log loss."""

    def loss(logs: npt.NDArray[np.float64]) -> float:
        shares = softmax(_together(margins, np.exp(logs)))[np.arange(len(target)), target]
        return float(-np.log(np.maximum(shares, 1e-12)).mean())

    found = minimize(loss, np.zeros(len(margins)), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6})
    weights: npt.NDArray[np.float64] = np.exp(found.x)
    return weights


def _accuracy(margins: Margins, labels: list[str], examples: Examples) -> dict[str, float]:
    right = np.array(labels)[margins.argmax(axis=1)] == np.array(examples.labels)
    sure = np.array(examples.confidence) >= 0.9
    return {"accuracy": round(float(right.mean()), 4), "accuracy_sure_labels": round(float(right[sure].mean()), 4)}
