"""Trains and measures the models that ship: the same data and versions give the same bytes.

    python -m curate.classifiers.train topic --data DIR --output classifiers/models/topic.safetensors
    python -m curate.classifiers.train math  --data DIR --output classifiers/models/math.safetensors

DIR holds the archives that `datasets.py` names. Writes the model and, beside it, a JSON with its SHA-256, labels and scores
(of sites and books kept out of training); prints the scores. Needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.classifiers import datasets, linear
from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.model import Examples, folds_of
from curate.pipeline.errors import CurateError

Scores = dict[str, float]
Report = Callable[[str], None]


def topic(data: Path, report: Report) -> tuple[linear.Linear, Scores]:
    """One of WebOrganizer's 24 topics; scores on sites kept out of training."""
    settings = linear.LinearSettings()
    examples = datasets.topics(data)
    kept_out = examples.part(kept_out=True)
    model = _fit("topic", examples.part(kept_out=False), settings)
    scores = {"texts_kept_out": float(len(kept_out.texts)), **_accuracy(model, kept_out)}
    report(f"kept-out sites: {scores}")
    # Every other fifth of the sites in turn, by a model that has not seen it: how sure the numbers above are.
    folds = folds_of(examples.groups)
    turns = []
    for number in range(KEPT_OUT_FOLD):
        seen, unseen = _split(examples, folds != number)
        turns.append(_accuracy(_fit("topic", seen, settings), unseen))
        report(f"fifth {number}: {turns[-1]}")
    for name in turns[0]:
        scores[f"{name}_other_fifths"] = round(float(np.mean([turn[name] for turn in turns])), 4)
    return model, scores


def math(data: Path, report: Report) -> tuple[linear.Linear, Scores]:
    """The probability that a text is mathematics, seen without its LaTeX; scores on sites and books kept out of training."""
    settings = linear.LinearSettings(strip_latex=True, positive="math")
    examples = datasets.mathematics(data)
    kept_out, trained = examples.part(kept_out=True), examples.part(kept_out=False)
    model = _fit("math", trained, settings)
    scores = {"texts_kept_out": float(len(kept_out.texts)), **_detection(model, kept_out)}
    report(f"kept-out sites and books: {scores}")
    for source in ("calculus", "/problems/", "tex/"):
        without = np.array(
            [
                not (source in group and label == "math")
                for group, label in zip(trained.groups, trained.labels, strict=True)
            ]
        )
        seen, unseen = _split(trained, without)
        others = [row for row in kept_out.rows() if row[1] == "other"]
        for row in others:
            unseen.add(*row)
        found = _detection(_fit("math", seen, settings), unseen)
        scores[f"roc_area_never_seen_{source.strip('/')}"] = found["roc_area"]
        report(f"trained without {source}: {found}")
    pages = datasets.math_pages(data)
    scores["texts_math_pages"] = float(len(pages.texts))
    scores["roc_area_math_pages"] = _detection(model, pages)["roc_area"]
    problems = np.asarray(model.values(pa.array(datasets.word_problems(data))))
    scores["word_problems_above_half"] = round(float((problems > 0.5).mean()), 4)
    return model, scores


DESCRIPTIONS = {
    "topic": "one of WebOrganizer's 24 topics of English web pages",
    "math": "0–1, probability that an English text is mathematics, judged by its words without LaTeX",
}
TRAINERS = {"topic": topic, "math": math}
VERSION = "1"


def _fit(name: str, examples: Examples, settings: linear.LinearSettings) -> linear.Linear:
    return linear.fit(examples, settings, name=name, version=VERSION)


def _split(examples: Examples, mask: npt.NDArray[np.bool_]) -> tuple[Examples, Examples]:
    seen, unseen = Examples(), Examples()
    for row, chosen in zip(examples.rows(), mask, strict=True):
        (seen if chosen else unseen).add(*row)
    return seen, unseen


def _accuracy(model: linear.Linear, examples: Examples) -> Scores:
    """Share of right labels; the same where the label's own confidence is .9 or more; mean probability given."""
    labels, shares = model.predict(examples.array)
    right = np.array([a == b for a, b in zip(labels.to_pylist(), examples.labels, strict=True)])
    sure = np.array(examples.confidence) >= 0.9
    found = {
        "accuracy": right.mean(),
        "accuracy_sure_labels": right[sure].mean(),
        "mean_probability": np.asarray(shares).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def _detection(model: linear.Linear, examples: Examples) -> Scores:
    """Area under the ROC curve; recall and false-positive rate above one half."""
    from sklearn.metrics import roc_auc_score

    shares = model.values(examples.array)
    wanted = np.array([label == "math" for label in examples.labels])
    found = {
        "roc_area": roc_auc_score(wanted, shares),
        "recall_at_half": (shares[wanted] > 0.5).mean(),
        "false_positive_rate_at_half": (shares[~wanted] > 0.5).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m curate.classifiers.train", description="Train and measure a shipped model."
    )
    parser.add_argument("name", choices=sorted(TRAINERS))
    parser.add_argument("--data", type=Path, required=True, help="folder with the archives of labelled texts")
    parser.add_argument("--output", type=Path, required=True, help="the model's file, *.safetensors")
    given = parser.parse_args(arguments)
    try:
        model, scores = TRAINERS[given.name](given.data, lambda line: print(line, flush=True))
    except CurateError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    given.output.parent.mkdir(parents=True, exist_ok=True)
    model.save(given.output)
    about: dict[str, Any] = {
        "kind": model.kind, "output": model.output, "version": model.version, "sha256": model.fingerprint,
        "labels": list(model.labels), "description": DESCRIPTIONS[given.name], "scores": scores,
    }  # fmt: skip
    given.output.with_suffix(".json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{given.output}: {given.output.stat().st_size:,} bytes, SHA-256 {model.fingerprint}")
    for name, value in scores.items():
        print(f"| {name} | {value:g} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
