"""What becomes of pages that hold items of evaluation sets."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from decontaminate_oracle import QUESTION, config_of, index_of

from curate.stages.decontaminate.decide import Decided, decide
from curate.stages.decontaminate.sets import Item

ANSWER = "In April she sold forty eight clips and in May half of them, which makes seventy two clips in all."
ITEMS = [
    Item("gsm8k", "0", (QUESTION, ANSWER)),
    Item(
        "arc",
        "Mercury_7",
        ("Juan and LaKeisha roll a few objects down a ramp to see which of them rolls the farthest",),
    ),
]
PLAIN = "Nothing of this stands in any set. " * 20


def decided(texts: list[str | None], **settings: Any) -> Decided:
    config = config_of(**settings)
    return decide(pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string())}), index_of(ITEMS, config), config)


def test_a_page_with_a_question_is_dropped_and_told_by_set_and_item() -> None:
    text = f"Ünsere {QUESTION}"
    found = decided([PLAIN, text, None, ""])
    assert found.kept.tolist() == [True, False, True, True]
    (page,) = found.dropped
    assert page.row == 1
    assert page.detail == "gsm8k item 0: 8 of its 16 n-grams"
    assert page.share == pytest.approx(0.5)
    (span,) = page.spans
    assert text[span["start"] : span["stop"]] == QUESTION.rstrip(".")
    assert span["kind"] == "gsm8k"


def test_columns_say_what_was_found_whether_or_not_it_is_too_much() -> None:
    found = decided([PLAIN, f"{PLAIN}{QUESTION}"], min_share=0.8)
    assert found.kept.all()
    assert found.batch.column("contamination").to_pylist() == [0.0, pytest.approx(0.5)]
    assert found.batch.column("contaminated_by").to_pylist() == [None, "gsm8k:0"]
    assert found.batch.column("contaminated_spans").to_pylist() == [None, None]


@pytest.mark.parametrize(("share", "kept"), [(0.0, False), (0.5, False), (0.51, True)])
def test_the_share_of_the_item_decides(share: float, kept: bool) -> None:
    assert decided([f"{PLAIN}{QUESTION}"], min_share=share).kept.tolist() == [kept]


def test_a_page_with_the_whole_item_has_all_of_its_share() -> None:
    (page,) = decided([f"Question: {QUESTION}\nAnswer: {ANSWER}"], min_share=1.0).dropped
    assert page.share == 1.0


@pytest.mark.parametrize(("matches", "kept"), [(8, False), (9, True)])
def test_the_number_of_matches_decides(matches: int, kept: bool) -> None:
    assert decided([f"{PLAIN}{QUESTION}"], min_matches=matches).kept.tolist() == [kept]


def test_an_item_of_fewer_ngrams_than_asked_for_must_be_there_whole() -> None:
    assert decided([ITEMS[1].texts[0]], min_matches=50).kept.tolist() == [False]


def test_a_marked_page_stays_as_it_is_and_says_where() -> None:
    text = f"{PLAIN}{QUESTION}"
    found = decided([text], action="mark")
    assert found.kept.all()
    assert found.batch.column("text").to_pylist() == [text]
    ((span,),) = found.batch.column("contaminated_spans").to_pylist()
    assert text[span["start"] : span["stop"]] == QUESTION.rstrip(".")


def test_a_cut_page_loses_the_question_and_so_many_characters_around_it() -> None:
    before, after = "b" * 300, "a" * 300
    found = decided([f"{before} {QUESTION} {after}"], action="cut", around=50, least_chars=100)
    assert found.batch.column("text").to_pylist() == [f"{before[:251]}\n\n{after[:252]}"]
    assert found.cut_chars == 300 + 300 + 2 + len(QUESTION) - (251 + 252 + 2)
    assert not found.dropped


def test_a_cut_page_of_which_too_little_is_left_is_dropped() -> None:
    found = decided([f"{'b' * 300} {QUESTION} {'a' * 300}"], action="cut", around=200, least_chars=200)
    assert found.kept.tolist() == [False]
    assert found.dropped[0].spans


def test_a_page_that_would_be_cut_too_often_is_dropped() -> None:
    text = "".join(f"{'b' * 500} {QUESTION} " for _ in range(3))
    assert decided([text], action="cut", most_cuts=3).kept.tolist() == [True]
    assert decided([text], action="cut", most_cuts=2).kept.tolist() == [False]


def test_the_worst_of_several_items_is_named_and_all_are_counted() -> None:
    (page,) = decided([f"{QUESTION} {PLAIN} {ITEMS[1].texts[0]}"]).dropped
    assert page.detail == "arc item Mercury_7: 6 of its 6 n-grams; and 1 more"
    assert [span["kind"] for span in page.spans] == ["gsm8k", "arc"]


def test_a_page_of_nothing_but_questions_has_a_bounded_ledger_row() -> None:
    (page,) = decided([f"{QUESTION} next " * 3000]).dropped
    assert len(page.spans) == 1000
