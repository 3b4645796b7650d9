"""The linear kind: what it computes, what it writes, and what it refuses."""

from __future__ import annotations

import json
import math
import pickle
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.classifiers import linear, load, tensor_file
from curate.classifiers.heuristics import prose_parts
from curate.classifiers.model import Examples
from curate.classifiers.ngrams import ngrams
from curate.pipeline.errors import CurateError

VOCABULARY = {
    "cooking": ("oven", "butter", "flour", "bake", "stir", "recipe", "sugar", "dough"),
    "football": ("goal", "match", "league", "striker", "penalty", "referee", "stadium", "coach"),
    "law": ("court", "judge", "appeal", "statute", "lawyer", "verdict", "trial", "clause"),
}


def pages(count: int = 150, seed: int = 0) -> Examples:
    chance = np.random.default_rng(seed)
    labels = [sorted(VOCABULARY)[row % 3] for row in range(count)]
    texts = [" ".join(chance.choice(VOCABULARY[label], 12)) + " the of and" for label in labels]
    return Examples(texts, labels, [f"site{row % 25}.org" for row in range(count)])


def trained(examples: Examples, name: str = "desk", **settings: Any) -> linear.Linear:
    return linear.fit(examples, linear.LinearSettings(**settings), name=name, version="1")


@pytest.fixture(scope="module")
def model() -> linear.Linear:
    return trained(pages(), order=2)


@pytest.fixture(scope="module")
def detector() -> linear.Linear:
    return trained(pages(), name="law", positive="law")


@pytest.fixture
def saved(model: linear.Linear, tmp_path: Path) -> Path:
    model.save(tmp_path / "desk.safetensors")
    return tmp_path / "desk.safetensors"


def test_pages_it_has_not_seen_get_their_label(model: linear.Linear) -> None:
    unseen = pages(seed=1)
    found, scores = model.predict(unseen.array)
    assert found.to_pylist() == unseen.labels
    assert scores.type == pa.float32()
    assert all(1 / 3 < score <= 1 for score in scores.to_pylist())


def test_a_model_of_one_label_gives_its_probability_alone(detector: linear.Linear) -> None:
    unseen = pages(seed=1)
    scores = detector.predict(unseen.array)
    assert detector.output == "score"
    assert [score > 0.5 for score in scores.to_pylist()] == [label == "law" for label in unseen.labels]


def test_two_labels_are_told_apart_like_many() -> None:
    examples = pages()
    examples.labels = ["law" if label == "law" else "other" for label in examples.labels]
    model = trained(examples)
    assert model.labels == ("law", "other")
    assert model.predict(examples.array)[0].to_pylist() == examples.labels


def test_margins_are_those_of_the_definition(model: linear.Linear) -> None:
    """unit vector of (1 + ln count) * idf over known n-grams, times the weights, plus the bias."""
    text = "judge judge verdict oven unknownword the the the"
    found, _ = ngrams(pa.array([text]), order=2, max_bytes=20_000)
    tensors = model._tensors
    place = {value: row for row, value in enumerate(tensors["hashes"].tolist())}
    values = {
        place[gram]: (1 + math.log(count)) * tensors["idf"][place[gram]]
        for gram, count in Counter(found.tolist()).items()
        if gram in place
    }
    length = math.sqrt(sum(value**2 for value in values.values()))
    weights = tensors["weights"].astype(float) * tensors["scale"][:, None]
    expected = sum(value / length * weights[row] for row, value in values.items()) + tensors["bias"]
    np.testing.assert_allclose(model.margins(pa.array([text]))[0], expected, rtol=1e-4, atol=1e-5)


def test_probabilities_of_all_labels_sum_to_one(model: linear.Linear) -> None:
    values = model.values(pages(seed=2).array)
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)


def test_the_same_pages_train_the_same_bytes(model: linear.Linear, saved: Path, tmp_path: Path) -> None:
    trained(pages(), order=2).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_a_saved_model_is_loaded_as_it_was(model: linear.Linear, saved: Path) -> None:
    back = load(str(saved))
    texts = pages(seed=3).array
    assert (back.name, back.version, back.kind, back.fingerprint) == ("desk", "1", "linear", model.fingerprint)
    assert back.predict(texts)[1].equals(model.predict(texts)[1])


def test_a_file_that_was_overwritten_is_loaded_again(
    model: linear.Linear, detector: linear.Linear, saved: Path
) -> None:
    assert load(str(saved)).output == "label"
    detector.save(saved)
    assert load(str(saved)).output == "score"


def test_the_probability_of_one_label_is_a_score(model: linear.Linear, saved: Path) -> None:
    texts = pages(seed=3).array
    chosen = load(f"{saved}#law")
    assert chosen.output == "score"
    assert chosen.fingerprint != model.fingerprint
    np.testing.assert_array_equal(chosen.predict(texts), model.values(texts)[:, model.labels.index("law")])
    with pytest.raises(CurateError, match="no label 'lew'; did you mean 'law'"):
        load(f"{saved}#lew")


def test_training_with_one_site_alone_is_refused() -> None:
    examples = pages(30)
    examples.groups = ["one.org"] * 30
    with pytest.raises(CurateError, match=r"30 texts of 1 groups \(sites\) are too few"):
        trained(examples)


FOREIGN = {
    "empty": b"",
    "text": b"this is no model at all\n",
    "pickle": pickle.dumps({"weights": [1, 2, 3]}),
    "zip": b"PK\x03\x04" + bytes(100),
    "huge header": struct.pack("<Q", 1 << 60) + b"{" + bytes(100),
    "nested header": struct.pack("<Q", 100_000) + b"{" + b"[" * 99_999,
    "other tensors": None,
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_gives_one_clear_error(case: str, tmp_path: Path) -> None:
    from safetensors.numpy import save

    data = FOREIGN[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"layer": np.zeros(3, np.float32)}, {"format": "pt"}) if data is None else data)
    with pytest.raises(CurateError, match=r"model\.safetensors is no usable model: .+") as caught:
        load(str(path))
    assert "\n" not in str(caught.value)


def test_a_model_cut_anywhere_gives_one_clear_error(saved: Path) -> None:
    data = saved.read_bytes()
    for size in sorted({*range(0, 40), *range(40, len(data), max(len(data) // 60, 1)), len(data) - 1}):
        saved.write_bytes(data[:size])
        with pytest.raises(CurateError, match="no usable model"):
            load(str(saved))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_model_is_refused_or_still_gives_numbers(
    saved: Path, model: linear.Linear, hits: list[tuple[float, int]]
) -> None:
    model.save(saved)
    data = bytearray(saved.read_bytes())
    for place, byte in hits:
        data[int(place**3 * len(data))] = byte
    try:
        damaged = linear.load(saved, bytes(data))
    except CurateError as error:
        assert "no usable model" in str(error)
    else:
        values = damaged.values(pa.array(["judge oven goal", ""]))
        assert not np.isnan(values).any()


def test_weights_too_large_to_add_up_are_refused_and_not_answered_with_nonsense(
    model: linear.Linear, tmp_path: Path
) -> None:
    path, texts = tmp_path / "m.safetensors", pa.array(["judge oven goal"])
    large = np.full_like(model._tensors["scale"], 3e38)
    path.write_bytes(tensor_file.pack(model.meta, model._tensors | {"scale": large}))
    with pytest.raises(CurateError, match="too large to add up"):
        load(str(path)).predict(texts)


def test_a_model_without_any_column_of_weights_is_refused(model: linear.Linear, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    none = {"weights": model._tensors["weights"][:, :0], "bias": np.zeros(0, np.float32)}
    path.write_bytes(tensor_file.pack(model.meta | {"labels": []}, model._tensors | none))
    with pytest.raises(CurateError, match="labels do not fit"):
        load(str(path))


@pytest.mark.parametrize("scale", [[0, 10**400], [0, 1e39], [-1e308, 1e308], [1, 1], [0, float("nan")], ["0", 1], 5])
def test_a_scale_that_no_score_can_have_is_refused(model: linear.Linear, tmp_path: Path, scale: object) -> None:
    with pytest.raises(CurateError, match="no usable model"):
        load(str(changed(model, tmp_path / "m.safetensors", scale=scale)))


def changed(model: linear.Linear, path: Path, **meta: object) -> Path:
    path.write_bytes(tensor_file.pack(model.meta | meta, model._tensors))
    return path


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"format": "curate.linear/9"}, "curate.linear/9"),
        ({"labels": ["cooking"]}, "labels do not fit"),
        ({"labels": ["cooking", "cooking", "law"]}, "labels do not fit"),
        ({"slope": float("nan")}, "not finite"),
        ({"slope": float("inf")}, "not finite"),
        ({"name": ""}, "no name"),
        ({"settings": {"order": 1 << 40}}, "order: Input should be less"),
        ({"settings": {"rder": 1}}, "rder"),
        ({"tokens": 99}, "tokens 99"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    model: linear.Linear, tmp_path: Path, meta: dict[str, object], message: str
) -> None:
    with pytest.raises(CurateError, match=message):
        load(str(changed(model, tmp_path / "m.safetensors", **meta)))


def test_nothing_but_names_and_numbers_is_in_a_model_file(saved: Path) -> None:
    """The header is JSON, the rest arrays: nothing in it can be run."""
    data = saved.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {value["dtype"] for name, value in header.items() if name != "__metadata__"} <= {"U32", "F32", "I8"}


def essays() -> Examples:
    """Texts of the same words: a target of 1 for those in long sentences, 0 for short lines."""
    chance = np.random.default_rng(0)
    words = ("stone", "river", "letter", "window", "garden", "winter")
    examples = Examples()
    for row in range(80):
        drawn = list(chance.choice(words, 60))
        long = row % 2 == 0
        text = " ".join(drawn) + "." if long else "\n".join(" ".join(drawn[at : at + 3]) for at in range(0, 60, 3))
        examples.add(text, float(long), f"site{row}.org")
    return examples


def test_the_shape_of_a_text_is_told_when_it_counts(tmp_path: Path) -> None:
    examples = essays()
    blind, seeing = trained(examples), trained(examples, shape=True)
    long = np.array(examples.targets) == 1
    assert np.ptp(blind.values(examples.array)) < 0.9
    found = seeing.values(examples.array)
    assert found[long].min() > 0.8 > 0.2 > found[~long].max()
    seeing.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(str(tmp_path / "m.safetensors")).values(examples.array), found)


def test_the_shape_counts_as_the_parts_of_the_prose_heuristic() -> None:
    examples = essays()
    model = trained(examples, shape=True)
    weights = model._tensors.pop("shape")
    model._tensors["shape"] = np.zeros_like(weights)
    without = model.margins(examples.array)
    model._tensors["shape"] = weights
    np.testing.assert_allclose(
        model.margins(examples.array) - without, prose_parts(examples.array) @ weights, rtol=1e-5, atol=1e-6
    )


def test_a_model_whose_shape_is_missing_or_of_another_size_is_refused(tmp_path: Path) -> None:
    model, path = trained(essays(), shape=True), tmp_path / "m.safetensors"
    plain = {name: array for name, array in model._tensors.items() if name != "shape"}
    for tensors in (
        plain,
        plain | {"shape": np.zeros((2, 1), np.float32)},
        plain | {"shape": np.full((3, 1), np.nan, "f4")},
    ):
        path.write_bytes(tensor_file.pack(model.meta, tensors))
        with pytest.raises(CurateError, match="no usable model"):
            load(str(path))


def test_a_regression_can_be_given_another_scale(tmp_path: Path) -> None:
    examples = essays()
    model = trained(examples, shape=True)
    other = linear.rescaled(model, 10.0, -2.0, (0.0, 5.0))
    np.testing.assert_allclose(
        other.values(examples.array), (model.margins(examples.array)[:, 0] * 10 - 2).clip(0, 5), rtol=1e-5
    )
    assert (other.scale, other.fingerprint == model.fingerprint) == ((0.0, 5.0), False)
    other.save(tmp_path / "m.safetensors")
    assert load(str(tmp_path / "m.safetensors")).fingerprint == other.fingerprint
