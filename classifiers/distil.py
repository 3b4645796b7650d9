"""Distillation: a slow teacher says what it thinks of many pages, a fast student learns to say the same.

    done = distil(load("teacher.safetensors"), "fasttext", rows, {"dim": 64}, name="topic", version="1")
    done.student.save("topic.bin")
    done.report                 # what was lost, on sites that the student has not seen

A teacher of labels teaches the label that it gives, weighed by the probability that it gives it; a teacher of scores (a
probability, a grade) teaches the score itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.classifiers import evaluate, judged, kinds, metrics
from curate.classifiers.labelled import Row
from curate.classifiers.model import Classifier, Examples, Floats
from curate.classifiers.rows import batches
from curate.pipeline.errors import CurateError, UsageError

TOP = 0.1
"""The share of pages on whose choice teacher and student are compared."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Distilled:
    """The student, and what it lost: numbers for JSON."""

    student: Classifier
    report: dict[str, Any]


def distil(
    teacher: Classifier, student_kind: str, rows: Sequence[Row], settings: Mapping[str, Any] | None = None, *,
    name: str, version: str, positive: str | None = None, progress: Progress = lambda done, whole: None,
    answers: Path | None = None,
) -> Distilled:  # fmt: skip
    """Lets the teacher label the rows, trains a student of that kind on those of sites not kept out, measures on the others.

    Where rows have labels of their own ("" and NaN are none), teacher and student are both judged by these; `positive` names
    the one that a score stands for. `answers`: a file that keeps the teacher's answers (`Answers`). CurateError where there is
    nothing to learn from or nothing kept out to measure on.
    """
    kinds.settings(student_kind, settings)  # before hours of work
    kept_out = np.array([row.kept_out for row in rows], bool)
    if kept_out.all() or not kept_out.any():
        raise CurateError(
            f"{len(rows):,} pages, {int(kept_out.sum()):,} of them of sites kept out: the student needs pages to learn "
            "from and others to be measured on; give pages of more sites"
        )
    kept = None if answers is None else Answers(answers, teacher)
    values, teacher_speed = ask(teacher, rows, progress, kept)
    student = kinds.fit(student_kind, _lesson(teacher, rows, values, kept_out), settings, name=name, version=version)
    unseen = [row for row, out in zip(rows, kept_out, strict=True) if out]
    learned, student_speed = ask(student, unseen)
    report = {
        "teacher": judged.describe(teacher), "student": judged.describe(student), "pages": len(rows),
        "trained_on": int((~kept_out).sum()), "kept_out": len(unseen),
        "agreement": agreement(teacher, student, values[kept_out], learned),
        "speed": {"teacher": teacher_speed, "student": student_speed},
        "gold": _gold(teacher, student, unseen, values[kept_out], learned, positive),
    }  # fmt: skip
    return Distilled(student, evaluate.plain(report))


def ask(
    model: Classifier,
    rows: Sequence[Row],
    progress: Progress = lambda done, whole: None,
    answers: Answers | None = None,
) -> tuple[Floats, float]:
    """What the model says of every row, and pages a second (NaN where every answer was there already)."""
    values, done, timed = [], 0, judged.Timed(model)
    for batch in batches(rows, lambda row: len(row.text)):
        known = [None if answers is None else answers.of(row.text) for row in batch]
        new = list(dict.fromkeys(row.text for row, value in zip(batch, known, strict=True) if value is None))
        if new:
            found = timed.values(pa.array(new, pa.large_string()))
            if answers is not None:
                answers.keep(new, found)
            fresh = dict(zip(new, found, strict=True))
            known = [fresh[row.text] if value is None else value for row, value in zip(batch, known, strict=True)]
        values.append(np.stack([np.asarray(value, np.float32) for value in known]))
        done += len(batch)
        progress(done, len(rows))
    return np.concatenate(values), timed.speed


class Answers:
    """A teacher's answers by text, kept in a file page by page, so that no page is asked about twice.

    JSONL: a line on the teacher, then a line a text with the SHA-256 of the text and the teacher's probabilities or score.
    UsageError for a file of another teacher or of something else; a last line that was cut off is passed over.
    """

    def __init__(self, path: Path, teacher: Classifier) -> None:
        self._path, self._known = path, dict[str, Any]()
        self._width = len(teacher.labels) if teacher.output == "label" else 0
        head = {"teacher": teacher.fingerprint, "labels": list(teacher.labels)}
        if not path.exists() or not path.stat().st_size:
            with path.open("w", encoding="utf-8") as stream:
                stream.write(json.dumps(head) + "\n")
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        try:
            first, *rest = (json.loads(line) for line in whole.splitlines())
            other = {*first} == {*head} and first != head
            self._known = {} if other else {each["text"]: self._checked(each["value"]) for each in rest}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{path} holds no teacher's answers: name another file") from None
        if other or first != head:
            whose = "another" if other else "no"
            raise UsageError(f"{path} holds {whose} teacher's answers: name another file")
        if len(whole) < len(data):
            with path.open("r+b") as writable:
                writable.truncate(len(whole))

    def _checked(self, value: Any) -> Any:
        found = np.array(value, np.float32)
        if found.shape != ((self._width,) if self._width else ()) or not np.isfinite(found).all():
            raise ValueError(value)
        return found

    def of(self, text: str) -> Any:
        return self._known.get(_key(text))

    def keep(self, texts: Sequence[str], values: Floats) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            for text, value in zip(texts, values, strict=True):
                numbers = [float(str(each)) for each in value] if self._width else float(str(value))
                stream.write(json.dumps({"text": _key(text), "value": numbers}) + "\n")
                self._known[_key(text)] = value


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _lesson(teacher: Classifier, rows: Sequence[Row], values: Floats, kept_out: Any) -> Examples:
    """What the student learns from."""
    examples = Examples()
    given = teacher.best(values) if teacher.output == "label" else None
    for place in np.flatnonzero(~kept_out).tolist():
        row = rows[place]
        if given is not None:
            best = int(given[place])
            share = float(values[place, best])
            examples.add(row.text, teacher.labels[best], row.group, confidence=share, weight=row.weight * share)
        else:
            examples.add(row.text, float(values[place]), row.group, weight=row.weight)
    return examples


def agreement(teacher: Classifier, student: Classifier, taught: Floats, learned: Floats) -> dict[str, float]:
    """How alike their answers are. Labels: the share that is the same, and Cohen's kappa. Scores: correlation of ranks, mean
    distance, and the share of the teacher's highest tenth that is in the student's."""
    ones = np.ones(len(taught))
    if teacher.output == "label":
        names = {label: place for place, label in enumerate(teacher.labels)}
        given = np.array([names[student.labels[place]] for place in student.best(learned)])
        matrix = metrics.confusion(teacher.best(taught), given, len(names), ones)
        same = float(np.trace(matrix) / len(taught))
        chance = float(matrix.sum(axis=0) @ matrix.sum(axis=1) / len(taught) ** 2)
        return {"same_label": same, "kappa": float(metrics.divided(same - chance, 1 - chance))}
    most = max(1, round(TOP * len(taught)))
    tops = [set(np.argsort(-values, kind="stable")[:most].tolist()) for values in (taught, learned)]
    return {
        "spearman": metrics.spearman(taught, learned, ones),
        "mean_distance": metrics.mean_absolute_error(taught, learned, ones),
        "same_highest_tenth": len(tops[0] & tops[1]) / most,
    }


def _gold(
    teacher: Classifier, student: Classifier, rows: Sequence[Row], taught: Floats, learned: Floats, positive: str | None
) -> dict[str, Any] | None:
    """Both judged by the rows' own labels; None where there are none."""
    labelled = np.array([row.label != "" and row.label == row.label for row in rows], bool)
    if not labelled.any():
        return None
    chosen = [replace(row, text="") for row, there in zip(rows, labelled, strict=True) if there]
    asked = judged.question(teacher, positive)
    found: dict[str, Any] = {"pages": len(chosen)}
    for who, model, values in (("teacher", teacher, taught), ("student", student, learned)):
        own = asked if model is teacher else judged.question(model, asked.positive or None)
        said = judged.assemble(model, chosen, values[labelled], own)
        ruler = evaluate.Ruler(said, float(np.median(said.wanted)) if own.kind == "regression" else None)
        found[who] = ruler.overall(said.weights)
    return found


def flat(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's numbers under one name each, for the card."""
    found = {"texts_kept_out": report["kept_out"], **report["agreement"]}
    for who in ("teacher", "student"):
        if report["gold"]:
            found |= {f"{name}_{who}": value for name, value in report["gold"][who].items()}
        found[f"pages_per_second_{who}"] = report["speed"][who]
    return found
