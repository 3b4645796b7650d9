"""The model: its file, its trees against LightGBM's own predictions, and its choice against all choices."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.content import describe, features
from curate.stages.extract.content import model as models
from curate.stages.extract.content.segment import cut
from curate.stages.extract.dom import parse
from curate.stages.extract.training import fit

PAGE = (
    "<title>A closed harbour</title><nav><a href=/>Home</a></nav><main><h1>A closed harbour</h1>"
    + "<p>The harbour was closed at noon, because the wind had turned and no pilot would go out to the ships.</p>" * 4
    + "</main><footer>Copyright</footer>"
)


def described(source: str = PAGE) -> features.Described:
    tree = parse(source.encode())
    return features.describe_page(tree, cut(tree))


# --- trees ------------------------------------------------------------------------------------------------------------


def boosted(matrix: np.ndarray, labels: np.ndarray, rounds: int = 20, **parameters: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    settings = {"objective": "cross_entropy", "num_leaves": 15, "min_data_in_leaf": 2, "verbosity": -1, "seed": 1,
                "num_threads": 1, "deterministic": True, "force_col_wise": True} | parameters  # fmt: skip
    return lightgbm.train(settings, lightgbm.Dataset(matrix, label=labels), rounds)


def flat(booster: Any, manner: int) -> models.Trees:
    return fit.flat(booster.dump_model()["tree_info"], manner)


def with_manner(matrix: np.ndarray, manner: np.ndarray | float = 0) -> np.ndarray:
    return np.concatenate([matrix, np.broadcast_to(manner, len(matrix)).reshape(-1, 1).astype(np.float32)], axis=1)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_trees_predict_what_lightgbm_predicts(scale: float) -> None:
    draw = np.random.default_rng(1)
    matrix = (draw.normal(size=(800, 6)) * scale).astype(np.float32)
    matrix[draw.random(matrix.shape) < 0.2] = 0
    labels = (draw.random(800) < (matrix[:, 0] * matrix[:, 1] > 0)).astype(np.float32)
    booster = boosted(with_manner(matrix), labels)
    trees = flat(booster, 6)
    fresh = (draw.normal(size=(2000, 6)) * scale).astype(np.float32)
    for rows in (matrix, fresh, np.zeros((1, 6), np.float32), np.full((1, 6), -0.0, np.float32)):
        np.testing.assert_allclose(trees(rows), booster.predict(with_manner(rows)), atol=1e-6)
    assert trees(matrix).std() > 0.1
    assert trees(matrix).dtype == np.float32


@settings(deadline=None, max_examples=20)
@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 3))
def test_values_next_to_one_another_are_told_apart_as_by_lightgbm(value: float, steps: int) -> None:
    """A threshold between two adjacent float32 is none of them."""
    low = np.float32(value)
    high = low
    for _ in range(steps):
        high = np.nextafter(high, np.float32(np.inf))
    matrix = np.repeat(np.array([[low], [high]], np.float32), 30, axis=0)
    booster = boosted(with_manner(matrix), np.repeat([0.0, 1.0], 30).astype(np.float32), rounds=5)
    trees = flat(booster, 1)
    around = np.array([low, high, np.nextafter(low, high), np.nextafter(low, np.float32(-np.inf))], np.float32).reshape(
        -1, 1
    )
    np.testing.assert_allclose(trees(around), booster.predict(with_manner(around)), atol=1e-6)


def test_the_trees_are_those_of_manner_0() -> None:
    draw = np.random.default_rng(2)
    matrix, manner = draw.normal(size=(1000, 3)).astype(np.float32), draw.integers(0, 5, 1000)
    labels = np.where(manner == 0, matrix[:, 0] > 0, np.where(manner < 3, matrix[:, 0] <= 0, matrix[:, 1] > 0))
    booster = boosted(with_manner(matrix, manner), labels.astype(np.float32), rounds=40)
    trees = flat(booster, 3)
    np.testing.assert_allclose(trees(matrix), booster.predict(with_manner(matrix, 0)), atol=1e-6)
    assert np.abs(booster.predict(with_manner(matrix, 1)) - trees(matrix)).max() > 0.5
    assert trees.feature.max() < 3


def test_a_tree_that_divides_by_manner_alone_is_one_leaf() -> None:
    draw = np.random.default_rng(3)
    manner = draw.integers(0, 2, 200)
    booster = boosted(with_manner(np.zeros((200, 1), np.float32), manner), manner.astype(np.float32), rounds=3)
    trees = flat(booster, 1)
    assert trees.depth.tolist() == [0, 0, 0]
    assert len(trees.value) == 3
    np.testing.assert_allclose(trees(np.zeros((4, 1), np.float32)), booster.predict(np.zeros((4, 2))), atol=1e-6)


def test_trees_of_labels_that_are_all_alike_predict_them() -> None:
    booster = boosted(np.zeros((50, 2), np.float32), np.full(50, 0.25, np.float32), rounds=2)
    np.testing.assert_allclose(
        flat(booster, 1)(np.zeros((3, 1), np.float32)), booster.predict(np.zeros((3, 2))), atol=1e-6
    )


# --- the choice -------------------------------------------------------------------------------------------------------


def expected_f1(keep: np.ndarray, probabilities: np.ndarray, words: np.ndarray) -> float:
    """Twice the words expected to be right, by the words kept and those expected to be content."""
    right = float((probabilities * words)[keep].sum())
    return 2 * right / (float(words[keep].sum()) + float((probabilities * words).sum())) if keep.any() else 0.0


def allowed(probabilities: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The blocks that may be kept: the likely ones; where there are none, all blocks of a page with any prose."""
    likely = probabilities.astype(np.float64) >= models.LEAST
    prose = (words >= models.PROSE) & (probabilities.astype(np.float64) >= models.FAINT)
    return np.ones_like(likely) if prose.any() and not likely.any() else likely


PROBABILITIES = st.lists(
    st.tuples(st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.45, 0.5, 1.0]), st.integers(1, 200)),
    max_size=12,
)


@settings(deadline=None)
@given(PROBABILITIES)
def test_the_choice_is_the_best_of_all_thresholds(blocks: list[tuple[float, int]]) -> None:
    probabilities = np.array([each[0] for each in blocks], np.float32)
    words = np.array([each[1] for each in blocks], np.float32)
    keep, confidence = models.choose(probabilities, words)
    floor = allowed(probabilities, words)
    choices = [(probabilities >= threshold) & floor for threshold in (2.0, *probabilities)]
    best = max(expected_f1(choice, probabilities, words) for choice in choices)
    assert confidence == pytest.approx(best, abs=1e-5)
    assert expected_f1(keep, probabilities, words) == pytest.approx(best, abs=1e-5)
    assert not keep[~floor].any()
    assert not keep.any() or not (probabilities[~keep] > probabilities[keep].min()).any()


@settings(deadline=None)
@given(PROBABILITIES.filter(lambda blocks: len(blocks) <= 8))
def test_no_set_of_likely_blocks_promises_more(blocks: list[tuple[float, int]]) -> None:
    probabilities = np.array([each[0] for each in blocks], np.float32)
    words = np.array([each[1] for each in blocks], np.float32)
    _, confidence = models.choose(probabilities, words)
    likely = np.flatnonzero(allowed(probabilities, words))
    for number in range(1 << len(likely)):
        keep = np.zeros(len(blocks), np.bool_)
        keep[[place for at, place in enumerate(likely) if number >> at & 1]] = True
        assert expected_f1(keep, probabilities, words) <= confidence + 1e-5


def test_nothing_is_chosen_of_nothing() -> None:
    keep, confidence = models.choose(np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert (len(keep), confidence) == (0, 0)


def test_a_sure_page_is_kept_whole_and_a_hopeless_one_not_at_all() -> None:
    words = np.array([9, 10, 11], np.float32)
    keep, confidence = models.choose(np.ones(3, np.float32), words)
    assert keep.all() and confidence == pytest.approx(1)
    keep, confidence = models.choose(np.full(3, models.LEAST - 0.01, np.float32), words)
    assert not keep.any() and confidence == 0


def test_a_page_with_a_line_of_prose_is_not_left_with_nothing() -> None:
    probabilities = np.array([0.05, 0.3, 0.02], np.float32)
    assert models.choose(probabilities, np.array([5, 20, 5], np.float32))[0].tolist() == [False, True, False]
    assert not models.choose(probabilities, np.array([5, models.PROSE - 1, 5], np.float32))[0].any()


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> models.Model:
    """A model of random weights, its trees grown on noise."""
    draw = np.random.default_rng(5)
    weights = models.rounded(draw.normal(size=describe.SLOTS).astype(np.float32))
    noise = [draw.normal(size=(300, width)).astype(np.float32) * 3 for width in (len(features.NAMES), page_width())]
    first, second = (
        flat(boosted(with_manner(rows), draw.random(300).astype(np.float32), rounds=8), rows.shape[1]) for rows in noise
    )
    return models.Model(weights, first, second, {"pages": "1"})


def page_width() -> int:
    return len(features.CONTEXT_NAMES) + len(features.NAMES)


def test_a_model_read_back_gives_the_same_probabilities(model: models.Model, tmp_path: Path) -> None:
    models.save(tmp_path / "model.safetensors", model)
    found = models.load(tmp_path / "model.safetensors")
    page = described()
    assert np.array_equal(found.probabilities(page), model.probabilities(page))
    assert len(np.unique(model.probabilities(page))) > 1
    assert np.array_equal(found.weights, model.weights)
    assert found.meta["pages"] == "1"


def test_the_same_model_is_the_same_bytes(model: models.Model, tmp_path: Path) -> None:
    for name in ("one", "two"):
        models.save(tmp_path / name, model)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_file_is_for_all_to_read(model: models.Model, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        models.save(tmp_path / "model.safetensors", model)
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_the_file_is_safetensors(model: models.Model, tmp_path: Path) -> None:
    """Eight bytes of length, JSON of that length, numbers: nothing that runs."""
    path = tmp_path / "model.safetensors"
    models.save(path, model)
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    assert set(header) > {"weights.scaled", "first.threshold", "second.value", "__metadata__"}
    assert (
        max(each["data_offsets"][1] for name, each in header.items() if name != "__metadata__") == len(raw) - 8 - size
    )


@pytest.mark.parametrize("name", ["NAMES", "CONTEXT_NAMES"])
def test_a_model_for_other_features_is_refused(
    model: models.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(features, name, [*getattr(features, name), "another"])
    models.save(path, model)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"model\.safetensors is a model for other features: train it again"):
        models.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "0"}, {"format": "1", "features": "[]"}])
def test_another_safetensors_file_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"other\.safetensors is a model for other features"):
        models.load(tmp_path / "other.safetensors")


def test_a_model_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        models.load(tmp_path / "none.safetensors")


# --- the model that comes with curate ---------------------------------------------------------------------------------


def test_the_model_of_this_version_is_small_and_fits_its_features() -> None:
    assert models.FILE.stat().st_size < 1_000_000
    assert models.load().meta["format"] == str(models.FORMAT)


def test_the_probabilities_are_one_a_block_between_0_and_1() -> None:
    page = described()
    found = models.load().probabilities(page)
    assert found.shape == (len(page.blocks),)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert models.load().probabilities(described("")).shape == (0,)


def test_the_title_paragraphs_of_an_article_are_likelier_than_its_menu() -> None:
    nav, *article, footer = models.load().probabilities(described()).tolist()
    assert min(article) > 0.5 > max(nav, footer)


def test_a_line_of_signs_counts_as_half_a_word() -> None:
    assert models.words_of(described("<p>one two<p>***")).tolist() == [2, 0.5]
