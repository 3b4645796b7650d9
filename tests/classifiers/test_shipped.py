"""The models that ship: found by name, small, whole, described, and as good as their cards say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate import classifiers
from curate.classifiers import datasets, load
from curate.classifiers.model import fold, site
from curate.pipeline.errors import CurateError, UsageError
from support import shared_data

MODELS = Path(classifiers.__file__).parent / "models"
SHIPPED = ("edu", "math", "quality", "topic")

PAGES = {
    "food_and_dining": "Preheat the oven to 180 degrees. Mix the flour, butter and sugar, then bake the cookies with garlic.",
    "sports_and_fitness": "The striker scored twice in the second half as the team won the league match. The coach was glad.",
    "religion": "The pastor spoke of faith and prayer, and how Jesus and the apostles taught the church to worship God.",
    "travel_and_tourism": "The hotel is near the beach. Visitors book guided tours of the old town; flights are cheap.",
    "software_development": "The function returns a pointer, so the compiler warns. Clone the git repository, debug the class.",
}
MATHEMATICS = (
    "Suppose that every bounded linear operator on the space is compact. By the previous theorem the sequence converges, so "
    "the map is continuous and its kernel is finite dimensional. The proof follows by induction."
)
LESSON = (
    "Photosynthesis is the process by which plants turn light into chemical energy. It takes place in the chloroplasts of the "
    "cell, which hold a green pigment called chlorophyll. The pigment absorbs red and blue light. In the first stage, water is "
    "split, and oxygen is released. In the second stage, known as the Calvin cycle, carbon dioxide is built into sugar, which "
    "the plant stores as starch. For example, a leaf that is kept in the dark for two days has no starch left, because it has "
    "been used up in respiration. Scientists have studied how temperature changes the rate of the reaction. "
) * 3
SHOP = (
    "Add to cart\nFree shipping on orders over $50\nSale\nBlue shirt $19.99\nRed shirt $24.99\nSign in\nContact us\n"
    * 6
)
HOSTILE = [
    "",
    " ",
    "\0" * 1_000,
    "a" * 300_000,
    "\\" * 50_000,
    "$" * 50_000,
    "\\begin{align}" * 5_000,
    "𝒳" * 5_000,
    "‮" * 99,
    None,
]


@pytest.mark.parametrize("topic", PAGES)
def test_a_plain_page_gets_its_topic(topic: str) -> None:
    labels, scores = load("topic").predict(pa.array([PAGES[topic]]))
    assert labels.to_pylist() == [topic]
    assert 0.2 < scores[0].as_py() <= 1


def test_mathematics_is_told_from_other_text_by_its_words_alone() -> None:
    scores = load("math").predict(pa.array([MATHEMATICS, *PAGES.values()])).to_pylist()
    assert scores[0] > 0.8
    assert max(scores[1:]) < 0.2


@pytest.mark.parametrize("name", ["quality", "edu"])
def test_an_explanation_is_worth_more_than_a_shop(name: str) -> None:
    lesson, blog, shop = load(name).predict(pa.array([LESSON, PAGES["travel_and_tourism"], SHOP])).to_pylist()
    low, high = load(name).scale
    assert low <= shop < blog < lesson <= high


def test_a_page_that_teaches_reaches_three_after_rounding() -> None:
    lesson, shop = load("edu").predict(pa.array([LESSON, SHOP])).to_pylist()
    assert lesson >= 2.5 > 1 > shop


def test_more_of_the_same_explanation_is_better() -> None:
    short, long = load("quality").predict(pa.array([LESSON[:120], LESSON])).to_pylist()
    assert short < long


def test_latex_itself_says_nothing_to_the_mathematics_model() -> None:
    page = PAGES["food_and_dining"]
    plain, decorated = load("math").predict(
        pa.array([page, page + r" $\frac{a}{b}$ \[ \int \alpha \] \begin{align} x &= 1 \end{align}"])
    )
    assert plain.as_py() == pytest.approx(decorated.as_py(), abs=1e-6)


@pytest.mark.parametrize("name", [*SHIPPED, "heuristic_prose", "heuristic_lesson"])
def test_hostile_texts_get_finite_answers_whatever_stands_beside_them(name: str) -> None:
    texts = pa.array([*HOSTILE, *PAGES.values()], pa.string())
    model = load(name)
    answer = model.predict(texts)
    scores = answer if model.output == "score" else answer[1]
    assert scores.null_count == 0
    assert np.isfinite(scores).all()
    alone = [model.predict(texts.slice(row, 1)) for row in range(len(texts))]
    assert scores.to_pylist() == [(one if model.output == "score" else one[1])[0].as_py() for one in alone]
    empty = model.predict(pa.array([], pa.string()))
    assert len(empty if model.output == "score" else empty[0]) == 0


def test_broken_utf8_is_a_text_like_any_other() -> None:
    texts = pa.array([b"\xff\xfe\x80 bread \xe2\x82", b"\xf0"], pa.binary()).view(pa.string())
    for name in classifiers.names():
        answer = load(name).predict(texts)
        assert np.isfinite(answer[1] if isinstance(answer, tuple) else answer).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_small_and_whole_and_its_card_states_its_measured_scores(name: str) -> None:
    data = (MODELS / f"{name}.safetensors").read_bytes()
    about = json.loads((MODELS / f"{name}.json").read_text())
    card = classifiers.card(name)
    assert len(data) <= 5_000_000
    assert hashlib.sha256(data).hexdigest() == about["sha256"] == load(name).fingerprint
    for measure, value in about["scores"].items():
        assert f"| `{measure}` | {value:g} |" in card
    for heading in ("Data", "Licence", "Date", "Command", "Scores"):
        assert f"## {heading}" in card


def test_a_shipped_model_that_was_tampered_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    about = classifiers._shipped()["math"]
    monkeypatch.setattr(classifiers, "_shipped", lambda: {"math": about | {"sha256": "0" * 64}})
    with pytest.raises(CurateError, match="not the file that was shipped"):
        load("math")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no classifier named 'topics'; did you mean 'topic'"):
        load("topics")
    with pytest.raises(UsageError, match=r"no model file nowhere/model\.bin"):
        load("nowhere/model.bin")
    with pytest.raises(UsageError, match="no label 'helth'; did you mean 'health'"):
        load("topic#helth")
    with pytest.raises(UsageError, match="gives a score"):
        load("heuristic_prose#good")


def test_every_name_is_listed_loads_and_has_a_card() -> None:
    assert classifiers.names() == ("edu", "heuristic_lesson", "heuristic_prose", "math", "quality", "topic")
    for reference in classifiers.list_models():
        model = load(reference.source)
        assert (model.kind, model.output, model.version, model.fingerprint, model.scale) == (
            reference.kind, reference.output, reference.version, reference.fingerprint, reference.scale,
        )  # fmt: skip
        assert model is load(reference.source)
        assert classifiers.card(reference.source).startswith(f"# {reference.source}")


def test_knowing_the_names_loads_nothing_heavy() -> None:
    heavy = "('numba', 'numpy', 'fasttext', 'sklearn')"
    code = (
        f"import sys; from curate.classifiers import list_models; list_models(); print(set({heavy}) & set(sys.modules))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


def test_no_code_in_the_room_can_unpickle() -> None:
    for path in [*MODELS.parent.rglob("*.py")]:
        lines = [
            line for line in path.read_text().splitlines() if "Never pickle" not in line and "never pickle" not in line
        ]
        source = "\n".join(lines)
        for word in ("pickle", "joblib", "marshal", "allow_pickle", "torch.load", "shelve"):
            assert word not in source, (path, word)


def test_pages_of_a_site_are_on_one_side_of_a_split() -> None:
    assert site("https://www.shop.example.co.uk/a?b") == site("http://example.co.uk:80/") == "example.co.uk"
    assert site("http://blog.example.com/x") == "example.com"
    assert site("http://[::bad") == ""
    assert {fold(f"site{number}") for number in range(100)} == set(range(5))


def test_topics_of_sites_kept_out_of_training_are_told_as_well_as_the_card_says() -> None:
    pages = datasets.topics(shared_data("topics.tar.xz").parent).part(kept_out=True)
    labels, _ = load("topic").predict(pages.array)
    right = np.array([found == label for found, label in zip(labels.to_pylist(), pages.labels, strict=True)])
    scores = json.loads((MODELS / "topic.json").read_text())["scores"]
    assert round(float(right.mean()), 4) == scores["accuracy"] >= 0.72
    assert right[np.array(pages.confidence) >= 0.9].mean() >= 0.82


def test_real_pages_with_mathematics_are_told_from_pages_with_code() -> None:
    pages = datasets.math_pages(shared_data("pages-math-code.tar.xz").parent)
    scores = np.asarray(load("math").predict(pages.array))
    wanted = np.array([label == "math" for label in pages.labels])
    assert scores[wanted].min() > scores[~wanted].max()


def test_the_quality_model_follows_people_better_than_length_does() -> None:
    judged = datasets.human_quality(shared_data("quality-labels.tar.xz").parent)
    kept = np.array(judged.labels) == "keep"

    def area(values: object) -> float:
        scores = np.asarray(values, float)
        return float(
            (scores[kept][:, None] > scores[~kept]).mean() + (scores[kept][:, None] == scores[~kept]).mean() / 2
        )

    stated = json.loads((MODELS / "quality.json").read_text())["scores"]
    found = area(load("quality").predict(judged.array))
    assert found == pytest.approx(stated["roc_area_people_kept"], abs=1e-3)
    assert found > max(0.7, area([len(text) for text in judged.texts]))


def test_the_edu_model_keeps_about_as_much_of_the_web_as_fineweb_edu() -> None:
    pages = datasets.web_pages(shared_data("topics.tar.xz").parent)
    unseen = np.array([fold(site(row["url"])) == datasets.KEPT_OUT_FOLD for row in pages])
    tokens = (datasets.on_the_web(pages) * [len(row["text"]) for row in pages])[unseen]
    scores = np.asarray(load("edu").predict(pa.array([row["text"] for row in pages]).filter(pa.array(unseen))))
    shares = {threshold: tokens[scores >= threshold - 0.5].sum() / tokens.sum() for threshold in (2, 3)}
    assert 0.3 < shares[2] < 0.45
    assert 0.06 < shares[3] < 0.12
