"""What of evaluation items stands in texts, against the definition in plain Python."""

from __future__ import annotations

import math
import random
from collections import Counter

import pyarrow as pa
import pytest
from decontaminate_oracle import QUESTION, config_of, grams_of, index_of, words_of
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import CurateError
from curate.stages.decontaminate.index import Index, build
from curate.stages.decontaminate.matching import find, merged
from curate.stages.decontaminate.sets import Item

LETTERS = st.sampled_from("aAbÀà1٣ςΣ \n.,-'’$\u00ad\u0301你好กำ한ﬁ\U0001f600\u200d_İ")
TEXTS = st.lists(
    st.text(LETTERS, max_size=60) | st.lists(st.sampled_from("one two 3 Drei cinq,"), max_size=20).map("".join)
)
WORDS = "alpha beta gamma delta epsilon zeta eta theta iota kappa 7 12 naïve".split()


def expected(texts: list[str], items: list[Item], config) -> dict[tuple[int, int], tuple[int, float]]:  # type: ignore[no-untyped-def]
    """(text, item): different n-grams found, and their share of the item's weight."""
    grams = [
        set().union(*(grams_of([word for word, _, _ in words_of(text)], config) for text in item.texts))
        for item in items
    ]
    having = Counter(gram for found in grams for gram in found)
    grams = [{gram for gram in found if having[gram] <= config.most_items} for found in grams]

    def weight(gram: tuple[str, ...]) -> float:
        return 1.0 if config.weight == "equal" else math.log(1 + len(items) / having[gram])

    answer = {}
    for row, text in enumerate(texts):
        words = [word for word, _, _ in words_of(text)]
        held = {tuple(words[at : at + size]) for size in range(5, 14) for at in range(len(words) - size + 1)}
        for number, wanted in enumerate(grams):
            if both := wanted & held:
                answer[row, number] = (len(both), sum(map(weight, both)) / sum(map(weight, wanted)))
    return answer


def answered(texts: list[str], index: Index) -> dict[tuple[int, int], tuple[int, float]]:
    found = find(pa.array(texts, pa.string()), index)
    rows = zip(found.text.tolist(), found.item.tolist(), found.grams.tolist(), found.share.tolist(), strict=True)
    return {(text, item): (grams, pytest.approx(share)) for text, item, grams, share in rows}


@pytest.mark.parametrize("ngram", [8, 13])
@pytest.mark.parametrize("weight", ["equal", "idf"])
def test_what_is_found_is_what_the_definition_says(ngram: int, weight: str) -> None:
    draw = random.Random(7)
    sentence = lambda low, high: " ".join(draw.choices(WORDS, k=draw.randint(low, high)))  # noqa: E731
    items = [Item("set", str(number), (sentence(1, 30), sentence(1, 12))) for number in range(60)]
    config = config_of(ngram=ngram, weight=weight, most_items=2, different=3, shortest=6 if ngram == 8 else 8)
    texts = []
    for _ in range(80):
        parts = [
            draw.choice(draw.choice(items).texts).upper() if draw.random() < 0.6 else sentence(1, 9) for _ in range(5)
        ]
        texts.append(draw.choice([" ", ", ", "\n"]).join(parts))
    found = answered(texts, index_of(items, config))
    assert found == expected(texts, items, config)
    assert len(found) > 50


@settings(max_examples=150)
@given(TEXTS, TEXTS, st.booleans())
def test_any_characters_are_words_as_the_definition_has_them(texts: list[str], wanted: list[str], whole: bool) -> None:
    config = config_of(ngram=8, shortest=5, different=0, most_items=1000)
    items = [
        Item("set", str(number), (text,)) for number, text in enumerate(dict.fromkeys([*wanted, "a b c d e f g h"]))
    ]
    texts = [*texts, *wanted] if whole else texts
    assert answered(texts, index_of(items, config)) == expected(texts, items, config)


def test_case_accents_punctuation_and_line_breaks_do_not_hide_an_item() -> None:
    config = config_of()
    index = index_of([Item("gsm8k", "0", (QUESTION,))], config)
    changed = (
        "– NATÁLIA sold “clips” to 48\nof her friends (in April);\u00a0and then she sold half\tas many clips in may"
    )
    assert find(pa.array([changed]), index).share.tolist() == [1.0]


def test_other_numbers_are_another_question() -> None:
    index = index_of([Item("gsm8k", "0", (QUESTION,))], config_of())
    assert not len(find(pa.array([QUESTION.replace("48", "49").replace("half", "twice")]), index))


def test_the_hits_say_where_the_words_stand() -> None:
    index = index_of([Item("gsm8k", "0", (QUESTION,))], config_of())
    text = f"Früher … {QUESTION} Später."
    found = find(pa.array([None, "x", text]), index)
    _, start, stop = found.hits.of(2, found.item)
    ((low, high),) = merged(start, stop)
    assert text.encode()[low:high].decode() == QUESTION.rstrip(".")


def test_a_short_field_is_looked_for_whole_and_a_shorter_one_not_at_all() -> None:
    ten, seven = "one fine day in the middle of the dark night", "two dead boys got up to fight"
    index = index_of([Item("verse", "1", (ten, seven))], config_of())
    found = find(pa.array([f"So {ten}, they say", ten[4:], f"{seven} again"]), index)
    assert found.text.tolist() == [0]
    assert index.items["grams"].tolist() == [1]


def test_page_numbers_are_no_match() -> None:
    count = " ".join(map(str, range(1, 30)))
    index = index_of(
        [Item("math", "1", (count, "how many of these many numbers can be divided by three or by seven"))], config_of()
    )
    assert not len(find(pa.array([f"Page {count} next"]), index))


def test_an_ngram_of_many_items_is_boilerplate() -> None:
    prompt = "which one of the following statements is the most likely to be true about the"
    items = [Item("quiz", str(number), (f"{prompt} {'abcdefghijk'[number]}{number}",)) for number in range(11)]
    texts = pa.array([f"Quiz: {prompt} weather"])
    assert not len(find(texts, index_of(items, config_of(most_items=10))))
    assert len(find(texts, index_of(items, config_of(most_items=11)))) == 11


def test_equal_items_of_a_set_count_once() -> None:
    index = index_of(
        [Item("a", "0", (QUESTION,)), Item("a", "1", (QUESTION,)), Item("b", "0", (QUESTION,))], config_of()
    )
    assert list(zip(index.items["set"], index.items["id"], strict=True)) == [("a", "0"), ("b", "0")]


def test_the_same_items_give_the_same_tables() -> None:
    items = [Item("a", str(number), (f"{QUESTION} {number}",)) for number in range(5)]
    assert build(items, config_of()) == build(iter(items), config_of())


def test_a_set_without_anything_to_look_for_is_an_error() -> None:
    with pytest.raises(CurateError, match="nothing to look for"):
        build([Item("a", "0", ("too short",))], config_of())


def test_a_text_of_one_item_over_and_over_is_found_however_often() -> None:
    index = index_of([Item("a", "0", (QUESTION,))], config_of())
    found = find(pa.array([f"{QUESTION} " * 2000, "x", QUESTION]), index)
    assert found.text.tolist() == [0, 2]
    assert found.grams[1] == index.items["grams"][0]
    assert len(found.hits.of(0, found.item)[0]) > 10_000
