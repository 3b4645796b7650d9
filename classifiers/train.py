"""Trains and measures the models that ship: the same data and versions give the same bytes.

    python -m curate.classifiers.train NAME --data DIR --output classifiers/models/NAME.safetensors

NAME is topic, math, quality or edu; DIR holds the archives that `datasets.py` names. Writes the model and, beside it, a JSON
with its SHA-256, labels and scores (of sites and books kept out of training); prints the scores. Needs scikit-learn.
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

from curate.classifiers import datasets, linear, weak
from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.heuristics import heuristic_lesson, heuristic_prose
from curate.classifiers.model import Classifier, Examples, folds_of
from curate.pipeline.errors import CurateError

Scores = dict[str, float]
Report = Callable[[str], None]
Values = npt.NDArray[np.float64]

VERSIONS = {"topic": "1", "math": "1", "quality": "1", "edu": "1"}
DESCRIPTIONS = {
    "topic": "one of WebOrganizer's 24 topics of English web pages",
    "math": "0–1, probability that an English text is mathematics, judged by its words without LaTeX",
    "quality": "0–1, how far an English text is reference or explanation in written prose",
    "edu": "0–5, how much an English text teaches; from 2.5 on it keeps as much of the web as FineWeb-Edu",
}


def topic(data: Path, report: Report) -> tuple[linear.Linear, Scores]:
    """One of WebOrganizer's 24 topics; scores on sites kept out of training."""
    settings = linear.LinearSettings()
    examples = datasets.topics(data)
    kept_out = examples.part(kept_out=True)
    model = _fit("topic", examples.part(kept_out=False), settings)
    scores = {"texts_kept_out": float(len(kept_out)), **accuracy(model, kept_out)}
    report(f"kept-out sites: {scores}")
    # Every other fifth of the sites in turn, by a model that has not seen it: how sure the numbers above are.
    folds = folds_of(examples.groups)
    turns = []
    for number in range(KEPT_OUT_FOLD):
        turn = _fit("topic", examples.take(folds != number), settings)
        turns.append(accuracy(turn, examples.take(folds == number)))
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
    scores = {"texts_kept_out": float(len(kept_out)), **detection(model, kept_out)}
    report(f"kept-out sites and books: {scores}")
    for source in ("calculus", "/problems/", "tex/"):
        unseen = np.array(
            [source in group and label == "math" for group, label in zip(trained.groups, trained.labels, strict=True)]
        )
        judged = trained.take(unseen)
        for row in kept_out.rows():
            if row[1] == "other":
                judged.add(*row)
        found = detection(_fit("math", trained.take(~unseen), settings), judged)
        scores[f"roc_area_never_seen_{source.strip('/')}"] = found["roc_area"]
        report(f"trained without {source}: {found}")
    pages = datasets.math_pages(data)
    scores["texts_math_pages"] = float(len(pages))
    scores["roc_area_math_pages"] = detection(model, pages)["roc_area"]
    problems = np.asarray(model.values(pa.array(datasets.word_problems(data))))
    scores["word_problems_above_half"] = round(float((problems > 0.5).mean()), 4)
    return model, scores


def quality(data: Path, report: Report) -> tuple[linear.Linear, Scores]:
    """How far a page is reference or explanation in prose; scores on sites kept out of training and on people's judgements."""
    settings = linear.LinearSettings(order=2, idf_power=1, min_documents=3, ridge=0.5, shape=True)
    examples = datasets.quality(data)
    # From 0, the least that a page of unseen sites gets, to 1, the greatest: hardly any two pages are equal.
    least, greatest = np.quantile(_unseen("quality", examples, settings), [0, 1])
    slope = 1 / (greatest - least)
    model = _fit("quality", examples.part(kept_out=False), settings)
    model = linear.rescaled(model, round(slope, 5), round(-slope * least, 5), (0.0, 1.0))
    kept_out = np.array(examples.kept_out)
    pages = datasets.web_pages(data)
    grades = np.array([weak.QUALITY[row["format"]] for row in pages])[kept_out]
    web = datasets.on_the_web(pages)[kept_out]
    texts = examples.part(kept_out=True).array
    scores: Scores = {"texts_kept_out": float(len(texts))}
    judged = datasets.human_quality(data)
    kept = np.array(judged.labels) == "keep"
    for name, judge in (("", model.values), ("_heuristic_prose", heuristic_prose), ("_length", _length)):
        values = judge(texts)
        scores[f"roc_area_reference_or_web{name}"] = _area(grades == 1, values, web)
        scores[f"roc_area_prose_or_neither{name}"] = _area(grades > 0, values, web)
        scores[f"roc_area_people_kept{name}"] = _area(kept, judge(judged.array))
    report(f"kept-out sites: {scores}")
    return model, scores


def edu(data: Path, report: Report) -> tuple[linear.Linear, Scores]:
    """How much a page teaches, on a scale whose 2 and 3 keep as much of the web as FineWeb-Edu's; scores on kept-out sites.

    As there, 3 is what is rounded to it: 2.5 and more.
    """
    settings = linear.LinearSettings(order=2, idf_power=1, min_documents=3, ridge=1)
    examples = datasets.education(data)
    pages, folds = datasets.web_pages(data), folds_of(examples.groups)
    tokens = datasets.on_the_web(pages) * np.array([len(row["text"]) for row in pages])
    kept_out, unseen = folds == KEPT_OUT_FOLD, _unseen("edu", examples, settings)
    two, three = (_weighted_quantile(unseen, tokens[~kept_out], 1 - weak.FINEWEB_EDU[at]) for at in (2.0, 3.0))
    slope = 1 / (three - two)  # a score is rounded, so 2 and 3 begin at 1.5 and 2.5
    model = linear.rescaled(
        _fit("edu", examples.part(kept_out=False), settings), round(slope, 5), round(1.5 - slope * two, 5), (0.0, 5.0)
    )
    report(f"slope and shift: {model.meta['slope']}, {model.meta['shift']}")
    teaches = np.array(examples.targets)[kept_out] >= 2.4
    web, books = datasets.on_the_web(pages)[kept_out], datasets.textbooks(data)
    texts = examples.part(kept_out=True).array
    scores: Scores = {"texts_kept_out": float(len(texts))}
    values = model.values(texts)
    for threshold in weak.FINEWEB_EDU:
        scores[f"tokens_kept_at_{threshold:g}"] = _share(values >= threshold - 0.5, tokens[kept_out])
    scores["teaching_pages_kept_at_3"] = _share((values >= 2.5)[teaches], web[teaches])
    scores["textbook_pieces_kept_at_3"] = round(float((model.values(books.array) >= 2.5).mean()), 4)
    for name, judge in (("", model.values), ("_heuristic_lesson", heuristic_lesson)):
        values = judge(texts)
        scores[f"roc_area_teaching_or_web{name}"] = _area(teaches, values, web)
        for book in sorted(set(books.labels)):
            pieces = judge(books.take(np.array(books.labels) == book).array)
            scores[f"roc_area_{book.replace('-', '_')}_or_web{name}"] = _area(
                np.arange(len(pieces) + len(values)) < len(pieces),
                np.concatenate([pieces, values]),
                np.concatenate([np.ones(len(pieces)), web]),
            )
    report(f"kept-out sites: {scores}")
    return model, scores


TRAINERS = {"topic": topic, "math": math, "quality": quality, "edu": edu}


def _fit(name: str, examples: Examples, settings: linear.LinearSettings) -> linear.Linear:
    return linear.fit(examples, settings, name=name, version=VERSIONS[name])


def _unseen(name: str, examples: Examples, settings: linear.LinearSettings) -> Values:
    """What each text that is trained on gets from a model that has not seen its site: four fifths, each in turn."""
    examples = examples.part(kept_out=False)
    folds, values = folds_of(examples.groups), np.zeros(len(examples))
    for number in range(KEPT_OUT_FOLD):
        turn = _fit(name, examples.take(folds != number), settings)
        values[folds == number] = turn.margins(examples.take(folds == number).array)[:, 0]
    return values


def accuracy(model: Classifier, examples: Examples) -> Scores:
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


def detection(model: Classifier, examples: Examples) -> Scores:
    """Area under the ROC curve; recall and false-positive rate above one half."""
    shares = model.values(examples.array)
    wanted = np.array([label == "math" for label in examples.labels])
    found = {
        "roc_area": _area(wanted, shares),
        "recall_at_half": (shares[wanted] > 0.5).mean(),
        "false_positive_rate_at_half": (shares[~wanted] > 0.5).mean(),
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def _area(wanted: npt.NDArray[np.bool_], values: Any, weights: Values | None = None) -> float:
    """Area under the ROC curve; `weights` are what each text counts."""
    from sklearn.metrics import roc_auc_score

    return round(float(roc_auc_score(wanted, values, sample_weight=weights)), 4)


def _length(texts: pa.Array) -> Values:
    return np.array([len(text.as_py()) for text in texts], float)


def _share(chosen: npt.NDArray[np.bool_], weights: Values) -> float:
    return round(float(weights[chosen].sum() / weights.sum()), 4)


def _weighted_quantile(values: Values, weights: Values, share: float) -> float:
    """The value below which `share` of the weight lies."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, share)])


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
        "labels": list(model.labels), "scale": list(model.scale), "description": DESCRIPTIONS[given.name],
        "scores": scores,
    }  # fmt: skip
    given.output.with_suffix(".json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{given.output}: {given.output.stat().st_size:,} bytes, SHA-256 {model.fingerprint}")
    for name, value in scores.items():
        print(f"| `{name}` | {value:g} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
