"""Labels told from gold text: cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.training.labels import label

FIRST = "The harbour was closed at noon because the wind had turned."
SECOND = "No pilot would go out to the ships that lay before the bar."
THIRD = "By the evening forty of them were waiting for a calmer sea."
GOLD = "\n\n".join([FIRST, SECOND, THIRD])


def labels(*blocks: str, gold: str = GOLD) -> list[float]:
    return [round(float(value), 4) for value in label(blocks, gold)]


def test_blocks_of_the_gold_are_1_and_others_0() -> None:
    assert labels("Home page of the harbour news", FIRST, SECOND, THIRD, "Read what others had to say") == [
        0,
        1,
        1,
        1,
        0,
    ]


def test_a_page_that_is_its_gold_is_kept_whole() -> None:
    assert labels(*GOLD.split("\n\n")) == [1, 1, 1]
    assert labels(GOLD) == [1]


def test_a_block_that_holds_more_than_the_gold_has_the_share_of_its_ngrams() -> None:
    gold = "one two three four five six"
    assert labels("one two three four five six seven eight", gold=gold) == [round(3 / 5, 4)]
    assert labels("one two three four x six", gold=gold) == [round(1 / 3, 4)]


def test_punctuation_and_white_space_are_no_words() -> None:
    assert labels("one, two — three\nfour (five)", gold="One? one two three. Four! one two three four five") == [1]


def test_upper_case_is_another_word() -> None:
    assert labels("ONE TWO THREE FOUR", gold="one two three four") == [0]


def test_a_text_that_stands_once_in_the_gold_is_consumed_by_the_first_block() -> None:
    assert labels(FIRST, FIRST, SECOND) == [1, 0, 1]
    assert labels(FIRST, FIRST, FIRST, gold=f"{FIRST}\n\n{SECOND}\n\n{FIRST}") == [1, 1, 0]


def test_a_short_block_is_kept_where_it_stands_between_the_same_neighbours() -> None:
    gold = f"{FIRST}\n\nThe bar\n\n{SECOND}"
    assert labels(FIRST, "The bar", SECOND, gold=gold) == [1, 1, 1]
    assert labels(FIRST, "The sea", SECOND, gold=gold) == [1, 0, 1]


def test_a_short_block_far_from_its_place_in_the_gold_is_not_kept() -> None:
    """A menu that names what the article names."""
    gold = f"{FIRST}\n\nThe bar\n\n{SECOND}"
    menu = [f"Menu entry number {at} of many in here" for at in range(20)]
    assert labels("The bar", *menu, FIRST, SECOND, gold=gold) == [0] * 21 + [1, 1]
    assert labels(FIRST, SECOND, *menu, "The bar", gold=gold) == [1, 1] + [0] * 21


def test_a_short_title_right_before_the_article_is_kept() -> None:
    assert labels("Wind", FIRST, SECOND, gold=f"Wind\n\n{FIRST}\n\n{SECOND}") == [1, 1, 1]


def test_a_block_without_a_word_goes_with_the_block_before_it() -> None:
    assert labels("***", FIRST, "* * *", "Something else that nobody ever wrote", "***") == [0, 1, 1, 0, 0]


def test_nothing_is_kept_of_an_empty_gold_and_nothing_labelled_of_an_empty_page() -> None:
    assert labels(FIRST, "short", "***", gold="") == [0, 0, 0]
    found = label([], GOLD)
    assert (found.shape, found.dtype) == ((0,), np.float32)


@pytest.mark.parametrize("gold", ["one two three", "one"])
def test_a_gold_of_fewer_than_four_words_labels_nothing(gold: str) -> None:
    """There is nothing to place the blocks by."""
    assert labels("one two three", "one", gold=gold) == [0, 0]


WORDS = st.lists(st.sampled_from("a b c d e . \n".split(" ")), max_size=30).map(" ".join)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=8), WORDS)
def test_labels_lie_between_0_and_1(blocks: list[str], gold: str) -> None:
    found = label(blocks, gold)
    assert found.shape == (len(blocks),)
    assert ((found >= 0) & (found <= 1)).all()


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9).map(str), min_size=4, max_size=20).map(" ".join), max_size=6))
def test_blocks_that_make_up_the_gold_are_all_kept(blocks: list[str]) -> None:
    assert label(blocks, "\n".join(blocks)).tolist() == [1] * len(blocks)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3).map(str), min_size=4, max_size=12).map(" ".join), max_size=6), WORDS)
def test_no_more_ngrams_are_found_than_the_gold_has(blocks: list[str], gold: str) -> None:
    gold += " 0 1 2 3 0 1 2 3"
    hits = sum(
        value * (len(block.split()) - 3) for value, block in zip(label(blocks, gold).tolist(), blocks, strict=True)
    )
    assert hits <= max(0, len([word for word in gold.split() if word.isalnum()]) - 3) + 1e-4
