"""One interface for all kinds: settings, examples, and what every trained classifier keeps."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import classifiers
from curate.classifiers import load
from curate.classifiers.kinds import KINDS, fit, settings
from curate.classifiers.model import Examples
from curate.pipeline.errors import CurateError, UsageError

WORDS = {"good": "reference explains theorem history", "bad": "casino bonus click shop"}
QUICK: dict[str, dict[str, Any]] = {
    "linear": {},
    "fasttext": {"dim": 4, "bucket": 100, "epoch": 20, "min_count": 1},
}


def pages(numbers: bool = False) -> Examples:
    examples, chance = Examples(), np.random.default_rng(0)
    for row in range(60):
        label = sorted(WORDS)[row % 2]
        text = " ".join(chance.choice(WORDS[label].split(), 8))
        examples.add(text, float(row % 2) * 5 if numbers else label, f"site{row % 20}.org", kept_out=row >= 50)
    return examples


@pytest.mark.parametrize("kind", QUICK)
def test_a_kind_learns_saves_and_loads_through_the_same_calls(kind: str, tmp_path: Path) -> None:
    examples = pages()
    model = fit(kind, examples.part(kept_out=False), QUICK[kind], name="mine", version="4")
    path = tmp_path / "mine.model"
    model.save(path)
    back = load(str(path))
    assert (back.name, back.version, back.kind, back.output, back.scale) == ("mine", "4", kind, "label", (0.0, 1.0))
    assert back.fingerprint == model.fingerprint
    unseen = examples.part(kept_out=True)
    assert back.predict(unseen.array)[0].to_pylist() == unseen.labels
    assert [each.name for each in tmp_path.iterdir()] == ["mine.model"]


@pytest.mark.parametrize("kind", QUICK)
def test_numbers_are_learned_as_a_score_on_their_scale(kind: str, tmp_path: Path) -> None:
    examples = pages(numbers=True)
    model = fit(kind, examples.part(kept_out=False), QUICK[kind], name="edu", version="1")
    model.save(tmp_path / "edu")
    back = load(str(tmp_path / "edu"))
    unseen = examples.part(kept_out=True)
    scores = np.asarray(back.predict(unseen.array))
    assert (back.output, back.scale, back.labels) == ("score", (0.0, 5.0), ())
    assert np.abs(scores - np.array(unseen.targets)).max() < 1.5
    assert (scores >= 0).all() and (scores <= 5).all()


def test_ridge_regression_over_words_is_what_scikit_learn_gives() -> None:
    """With unit weights on words of equal rarity, against scikit-learn's own features."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import Ridge

    texts = ["oven oven judge", "judge goal", "goal oven", "oven", "judge", "goal"] * 3
    targets = [3.0, 1.0, 2.0, 5.0, 0.0, 1.0] * 3
    model = fit("linear", Examples(texts, targets=targets), {"idf_power": 0.0, "ridge": 0.7}, name="r", version="1")
    words = ("oven", "judge", "goal")
    rows = np.array([[1 + np.log(n) if (n := text.split().count(word)) else 0.0 for word in words] for text in texts])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = Ridge(alpha=0.7, solver="cholesky").fit(rows, targets).predict(rows)
    np.testing.assert_allclose(model.values(Examples(texts).array), expected.clip(0, 5), atol=0.02)  # int8 weights


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_setting_is_answered_with_the_nearest_and_a_wrong_one_with_its_name(kind: str) -> None:
    with pytest.raises(UsageError, match=f"{kind}: no setting 'sed'; did you mean 'seed'"):
        settings(kind, {"sed": 1})
    with pytest.raises(UsageError, match=f"{kind}: seed: "):
        settings(kind, {"seed": "many"})
    assert settings(kind).seed == 0


def test_a_kind_that_there_is_not_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no kind of classifier named 'fastext'; did you mean 'fasttext'"):
        fit("fastext", pages(), name="x", version="1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": []}, "labels or targets"),
        ({"targets": [1.0] * 60}, "labels or targets"),
        ({"labels": ["good"] * 60}, "one label, 'good'"),
        ({"labels": ["good"] * 59}, "60 texts, but 59 labels"),
        ({"labels": [], "targets": [float("nan")] * 60}, "finite"),
        ({"labels": [], "targets": [2.0] * 60}, "not all the same"),
        ({"weights": [-1.0] * 60}, "none below 0"),
        ({"weights": [0.0] * 60}, "not all 0"),
    ],
)
def test_examples_that_nothing_can_be_learned_from_are_refused(change: dict[str, Any], message: str) -> None:
    examples = pages()
    for name, column in change.items():
        setattr(examples, name, column)
    for kind in KINDS:
        with pytest.raises(CurateError, match=message):
            fit(kind, examples, name="x", version="1")


def test_a_positive_label_that_no_example_has_is_answered_with_the_nearest() -> None:
    with pytest.raises(CurateError, match="no example has the label 'god'; did you mean 'good'"):
        fit("linear", pages(), {"positive": "god"}, name="x", version="1")


def test_examples_are_taken_by_place_mask_and_part_with_all_their_columns() -> None:
    examples = pages()
    assert len(examples.part(kept_out=True)) == 10
    chosen = examples.take([3, 1])
    assert (chosen.texts, chosen.groups) == ([examples.texts[3], examples.texts[1]], ["site3.org", "site1.org"])
    assert examples.take(np.array([False] * 59 + [True])).texts == examples.texts[59:]
    assert pages(numbers=True).take([1]).targets == [5.0]


def test_a_model_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    model = fit("linear", pages(), name="x", version="1")
    with pytest.raises(CurateError, match="cannot write model"):
        model.save(tmp_path / "nowhere" / "x.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CurateError, match="cannot write model"):
        model.save(tmp_path / "folder")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_the_example_in_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "classifiers.md").read_text("utf-8")
    (tmp_path / "example.py").write_text(page.split("```python\n")[1].split("```")[0], "utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")
    assert "garden" in capsys.readouterr().out


def test_the_package_itself_names_what_training_takes() -> None:
    assert (classifiers.fit, classifiers.Examples) == (fit, Examples)
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        classifiers.train  # noqa: B018


@pytest.mark.parametrize("groups", [[], [""] * 60])
def test_texts_of_no_site_are_each_on_their_own(groups: list[str]) -> None:
    texts = ["An orchard of apple trees in bloom.", "The train to the coast leaves at nine."] * 30
    model = fit("linear", Examples(texts, ["garden", "travel"] * 30, groups), name="m", version="1")
    assert model.predict(pa.array(["Trees in bloom."]))[0].to_pylist() == ["garden"]


def test_a_label_that_stands_in_one_site_alone_can_be_learned_wherever_that_falls() -> None:
    words = {"garden": "orchard apple trees", "travel": "train coast station", "rare": "quasar pulsar nebula"}
    for number in range(12):  # one of these sites is what the probabilities are fitted on
        examples = Examples()
        for row in range(40):
            for label in ("garden", "travel"):
                examples.add(f"{words[label]} {row}", label, f"site{row}.org")
        for _ in range(3):
            examples.add(words["rare"], "rare", f"rare{number}.org")
        model = fit("linear", examples, {"min_documents": 1}, name="m", version="1")
        assert model.predict(pa.array(["quasar nebula"]))[0].to_pylist() == ["rare"]


def test_examples_that_are_too_few_for_probabilities_say_how_many_there_are() -> None:
    examples = Examples(["a b", "c d"], ["x", "y"], ["one.org", "one.org"])
    with pytest.raises(CurateError, match=r"2 texts of 1 groups \(sites\) are too few"):
        fit("linear", examples, {"min_documents": 1}, name="m", version="1")


def test_a_text_that_is_none_is_refused_before_any_work() -> None:
    with pytest.raises(CurateError, match="every text must be a string"):
        fit("linear", Examples(["a", None], ["x", "y"]), name="m", version="1")  # type: ignore[list-item]
