"""What a user of the library gives `predict`: any Arrow array of texts, and what comes back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate import classifiers
from curate.classifiers import embedding, load

TEXTS = [
    "The striker scored a goal.",
    None,
    "",
    "Bake the bread in the oven.",
    "∫ f dx\n\nProof. Let x be a real number.",
]
PLAIN = pa.array(TEXTS, pa.string())
FORMS = {
    "large_string": pa.array(TEXTS, pa.large_string()),
    "sliced": pa.array(["before", *TEXTS, "after"], pa.string()).slice(1, len(TEXTS)),
    "sliced large_string": pa.array(["before", *TEXTS, None], pa.large_string()).slice(1, len(TEXTS)),
    "chunked": pa.chunked_array([TEXTS[:2], [], TEXTS[2:]], pa.string()),
    "sliced chunked": pa.chunked_array([["before", *TEXTS[:2]], TEXTS[2:]], pa.string()).slice(1),
    "dictionary": PLAIN.dictionary_encode(),
    "list": TEXTS,
}


def columns(answer: pa.Array | tuple[pa.Array, pa.Array]) -> list[pa.Array]:
    return list(answer) if isinstance(answer, tuple) else [answer]


@pytest.mark.parametrize("name", classifiers.names())
def test_the_same_texts_get_the_same_answers_in_any_form_of_array(name: str) -> None:
    model = load(name)
    expected = [column.to_pylist() for column in columns(model.predict(PLAIN))]
    for form, texts in FORMS.items():
        found = columns(model.predict(texts))
        assert [column.to_pylist() for column in found] == expected, form
        assert [column.null_count for column in found] == [0] * len(found)
    assert [column[1] == column[2] for column in expected] == [True] * len(expected)  # null counts as empty


@pytest.mark.parametrize("name", ["topic", "quality", "heuristic_prose"])
def test_one_string_is_not_taken_for_a_list_of_letters(name: str) -> None:
    with pytest.raises(TypeError, match="one string was given"):
        load(name).predict("The striker scored a goal.")


@pytest.mark.parametrize("name", classifiers.names())
def test_no_texts_and_texts_of_no_type_get_answers_of_the_same_types(name: str) -> None:
    model = load(name)
    types = [pa.string(), pa.float32()] if model.output == "label" else [pa.float32()]
    for texts in (pa.array([], pa.string()), pa.nulls(2), pa.chunked_array([], pa.string()), PLAIN.slice(5)):
        found = columns(model.predict(texts))
        assert [(column.type, len(column)) for column in found] == [(kind, len(texts)) for kind in types]
    assert isinstance(model.predict(PLAIN), tuple) == (model.output == "label")


def test_an_encoder_reads_the_same_texts_from_any_form_of_array() -> None:
    expected = ["" if text is None else text for text in TEXTS]
    for form, texts in FORMS.items():
        assert embedding._strings(texts) == expected, form
    assert embedding._strings(pa.nulls(2)) == ["", ""]
    assert embedding._strings(pa.array([b"\xff bread"], pa.binary()).view(pa.string())) == ["\ufffd bread"]


def test_weights_of_a_head_too_large_to_add_up_are_refused() -> None:
    about = {"name": "n", "version": "1", "labels": []}
    tensors = {"weights": np.full((2, 1), 3e38, np.float32), "bias": np.full(1, np.inf, np.float32)}
    model = embedding.Embedding(about, tensors, None, "")  # type: ignore[arg-type]
    with pytest.raises(classifiers.CurateError, match="too large to add up"):
        model.apply(np.ones((1, 2), np.float32))
