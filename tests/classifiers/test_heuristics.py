"""The heuristics, against numbers worked out by hand from their docstrings."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.classifiers import load
from curate.classifiers.heuristics import PHRASES

SENTENCE = "This line has more than eight words, and it ends in a full stop."


def prose(*texts: str) -> list[float]:
    return load("heuristic_prose").predict(pa.array(texts, pa.string())).to_pylist()


def lesson(*texts: str) -> list[float]:
    return load("heuristic_lesson").predict(pa.array(texts, pa.string())).to_pylist()


def test_prose_is_the_mean_of_its_three_shares() -> None:
    menu = "Home"
    text = f"{SENTENCE}\n{menu}\n{SENTENCE}"
    sentences = 2 * len(SENTENCE) / (2 * len(SENTENCE) + len(menu))
    words = len(text.split())
    length = math.log(words / 20) / math.log(500 / 20)
    assert prose(text)[0] == pytest.approx((sentences + 1 + length) / 3, abs=1e-6)


def test_a_closing_quote_does_not_unmake_a_sentence_and_a_comma_does() -> None:
    spoken, listed = prose(SENTENCE[:-1] + ".”", SENTENCE[:-1] + ",")
    assert spoken == pytest.approx(prose(SENTENCE)[0], abs=1e-3)
    assert listed == pytest.approx(spoken - 1 / 3, abs=1e-3)


def test_a_line_of_fewer_than_eight_words_is_no_sentence() -> None:
    seven, eight = "One two three four five six seven.", "One two three four five six seven eight."
    assert prose(seven)[0] == pytest.approx(1 / 3, abs=1e-6)
    assert prose(eight)[0] == pytest.approx(2 / 3, abs=1e-6)


def test_empty_and_null_texts_score_nothing() -> None:
    assert prose("", " \n\n ") == [0, 0]
    assert load("heuristic_prose").predict(pa.array([None], pa.string())).to_pylist() == [0]


def test_a_long_text_cut_inside_a_line_is_judged_by_its_whole_lines() -> None:
    assert prose((SENTENCE + "\n") * 1_000 + "x" * 50_000)[0] == pytest.approx(1, abs=1e-3)


def test_a_lesson_scores_above_a_shop_and_a_menu() -> None:
    taught = (
        "Photosynthesis is the process by which plants store energy. For example, cells use light because it carries energy. "
        "In this lesson, students learn a definition and answer questions, such as which gas is used."
    ) * 4
    shop = (
        "Buy now with free delivery. Add to cart and use the discount coupon at checkout for our best price on sale today. "
        * 4
    )
    assert lesson(taught)[0] > 3 > 2 > lesson(shop)[0] > lesson("Home | Login | Cart")[0]


def test_every_phrase_is_counted_once_in_one_group() -> None:
    listed = [phrase for group in PHRASES.values() for phrase in group]
    assert len(listed) == len(set(listed))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=200), max_size=4))
def test_scores_stay_on_their_scales(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    assert all(0 <= score <= 1 for score in prose(*texts))
    assert all(0 <= score <= 5 for score in lesson(*texts))


def test_a_heuristic_is_named_as_one() -> None:
    for name in ("heuristic_prose", "heuristic_lesson"):
        assert load(name).kind == "heuristic"
        assert np.isfinite(load(name).predict(pa.array(["x " * 10]))).all()
