"""A student is measured on sites it has not seen; a teacher is asked about a text once."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import cohen_kappa_score

from curate.classifiers.distil import Answers, agreement, ask, distil
from curate.classifiers.labelled import Row
from curate.classifiers.model import Classifier, Floats
from curate.pipeline.errors import CurateError, UsageError


class Counter(Classifier):
    """A teacher that knows a text by its first word and counts what it was asked."""

    name, version, kind, fingerprint = "counter", "1", "linear", "f" * 64

    def __init__(self, labels: tuple[str, ...] = ("bread", "stone")) -> None:
        self.labels, self.output, self.asked = labels, "label" if len(labels) > 1 else "score", 0

    def values(self, texts: pa.Array) -> Floats:
        self.asked += len(texts)
        shares = np.array([0.9 if text.startswith("bread") else 0.2 for text in texts.to_pylist()], np.float32)
        return np.stack([shares, 1 - shares], axis=1) if self.output == "label" else shares

    def save(self, path: Path | str) -> None:
        raise NotImplementedError


class Stopped(Counter):
    """A teacher that dies at its second batch."""

    def values(self, texts: pa.Array) -> Floats:
        if self.asked >= 50:
            raise CurateError("stopped")
        return super().values(texts)


def rows(count: int = 120, sites: int = 30) -> list[Row]:
    return [
        Row(f"{['bread', 'stone'][number % 2]} and more of it {number}", "", f"site{number % sites}.com", "", 1.0, 1.0)
        for number in range(count)
    ]


def learned(teacher: Classifier, answers: Path | None = None) -> Any:
    return distil(teacher, "linear", rows(), {"min_documents": 1}, name="s", version="1", answers=answers)


def test_a_student_of_labels_is_one_of_labels_and_of_scores_one_of_scores() -> None:
    of_labels, of_scores = learned(Counter()), learned(Counter(("bread",)))
    texts = pa.array(["bread and butter", "stone and sand"])
    assert of_labels.student.predict(texts)[0].to_pylist() == ["bread", "stone"]
    high, low = of_scores.student.predict(texts).to_pylist()
    assert high > 0.6 > 0.4 > low
    assert of_labels.report["agreement"] == {"same_label": 1.0, "kappa": 1.0}
    assert of_labels.report["gold"] is None


def test_agreement_follows_the_definitions() -> None:
    chance, one, other = np.random.default_rng(0), Counter(tuple("abc")), Counter(tuple("abc"))
    taught, given = (chance.random((200, 3)).astype(np.float32) for _ in range(2))
    given[:120] = taught[:120]
    found = agreement(one, other, taught, given)
    assert found["same_label"] == pytest.approx(np.mean(taught.argmax(1) == given.argmax(1)))
    assert found["kappa"] == pytest.approx(cohen_kappa_score(taught.argmax(1), given.argmax(1)))
    scores = agreement(Counter(("a",)), Counter(("a",)), taught[:, 0], given[:, 0])
    top = [set(np.argsort(-values)[:20]) for values in (taught[:, 0], given[:, 0])]
    assert scores["same_highest_tenth"] == len(top[0] & top[1]) / 20


def test_a_student_that_never_gives_a_label_is_compared_by_name() -> None:
    taught = np.eye(3, dtype=np.float32)
    found = agreement(
        Counter(tuple("abc")), Counter(tuple("bc")), taught, np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    )
    assert found["same_label"] == pytest.approx(2 / 3)


def test_a_teacher_is_asked_about_a_text_once(tmp_path: Path) -> None:
    file, first, second = tmp_path / "answers.jsonl", Counter(), Counter()
    one, two = learned(first, file), learned(second, file)
    assert (first.asked, second.asked) == (120, 0)
    assert one.student.fingerprint == two.student.fingerprint
    assert two.report["speed"]["teacher"] is None


def test_answers_survive_a_teacher_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.classifiers.rows.BATCH", 50)
    file, whole = tmp_path / "answers.jsonl", Counter()
    with pytest.raises(CurateError, match="stopped"):
        learned(Stopped(), file)
    with file.open("a") as stream:
        stream.write('{"text": "cut o')
    values, _ = ask(whole, rows(), answers=Answers(file, whole))
    assert whole.asked == 70
    assert values == pytest.approx(Counter().values(pa.array([row.text for row in rows()])))
    assert len(file.read_text().splitlines()) == 121


def test_equal_pages_are_asked_about_once(tmp_path: Path) -> None:
    teacher, many = Counter(), [row for row in rows() for _ in range(10)]  # of more than one batch
    values, _ = ask(teacher, many, answers=Answers(tmp_path / "answers.jsonl", teacher))
    assert teacher.asked == len({row.text for row in many}) < len(many)
    assert values.tolist() == Counter().values(pa.array([row.text for row in many])).tolist()
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == teacher.asked + 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"teacher": "0" * 64, "labels": ["bread", "stone"]}) + "\n", "another teacher's"),
        (json.dumps({"teacher": "0" * 64, "labels": []}) + '\n{"text": "x", "value": 0.5}\n', "another teacher's"),
        ("hello\n", "no teacher's answers"),
        (
            json.dumps({"teacher": "f" * 64, "labels": ["bread", "stone"]}) + '\n{"text": "x", "value": [1]}\n',
            "no teacher's answers",
        ),
        ("[" * 100_000 + "\n", "no teacher's answers"),
    ],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=said):
        Answers(file, Counter())
    assert file.read_text() == content


class SlowToStart(Counter):
    """Takes long over its first call, as what compiles or loads something then."""

    def values(self, texts: pa.Array) -> Floats:
        time.sleep(0.001 * len(texts) if self.asked else 0.5)
        return super().values(texts)


def test_what_a_first_call_costs_is_no_speed() -> None:
    _, speed = ask(SlowToStart(), rows())
    assert 300 < speed < 1_000
    assert np.isnan(ask(SlowToStart(), rows(count=1))[1])


def test_wrong_settings_are_refused_before_the_teacher_works() -> None:
    teacher = Counter()
    with pytest.raises(UsageError, match="did you mean 'order'"):
        distil(teacher, "linear", rows(), {"ordr": 1}, name="s", version="1")
    with pytest.raises(CurateError, match="pages of more sites"):
        distil(teacher, "linear", rows(sites=1), name="s", version="1")
    assert teacher.asked == 0


def test_pages_of_the_sites_kept_out_teach_nothing() -> None:
    changed = [replace(row, text="stone " + row.text[::-1]) if row.kept_out else row for row in rows()]
    students = [
        distil(Counter(), "linear", each, {"min_documents": 1}, name="s", version="1").student
        for each in (rows(), changed)
    ]
    assert students[0].fingerprint == students[1].fingerprint
