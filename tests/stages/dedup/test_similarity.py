"""The Jaccard similarity counted, against sets of tuples in Python."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.dedup.normalise import normalised_batches
from curate.stages.dedup.similarity import ShingleSets, jaccard, shingle_sets

WORDS = st.lists(st.sampled_from(["a", "bb", "long" * 5, "日", "日本"]), max_size=12)


def sets_of(texts: list[str], ngram: int, characters: bool = False) -> ShingleSets:
    (batch,) = normalised_batches(pa.array(texts))
    return shingle_sets(batch, ngram, "characters" if characters else "words")


def by_definition(one: list[str], other: list[str], ngram: int) -> float:
    sets = [
        {tuple(words[at : at + ngram]) for at in range(max(1, len(words) - ngram + 1))} if words else set()
        for words in (one, other)
    ]
    union = len(sets[0] | sets[1])
    return len(sets[0] & sets[1]) / union if union else 0.0


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5), st.integers(1, 4))
def test_it_is_the_share_of_common_shingles(texts: list[list[str]], ngram: int) -> None:
    sets = sets_of([" ".join(words) for words in texts], ngram)
    split = [[part for word in words for part in (word if "日" in word else [word])] for words in texts]
    pairs = [(i, j) for i in range(len(texts)) for j in range(len(texts))]
    found = jaccard(sets, [i for i, _ in pairs], sets, [j for _, j in pairs])
    assert found.tolist() == [by_definition(split[i], split[j], ngram) for i, j in pairs]


@settings(max_examples=100, deadline=None)
@given(st.text("abc é", max_size=15), st.text("abc é", max_size=15), st.integers(1, 4))
def test_characters_are_code_points_of_the_normalised_text(one: str, other: str, ngram: int) -> None:
    (batch,) = normalised_batches(pa.array([one, other]))
    texts = [list(batch[index].decode()) for index in range(2)]
    sets = sets_of([one, other], ngram, characters=True)
    assert jaccard(sets, [0], sets, [1]).tolist() == [by_definition(*texts, ngram)]


def test_texts_without_words_are_alike_to_nothing() -> None:
    sets = sets_of(["", " .,", "a"], 5)
    assert jaccard(sets, [0, 0, 0], sets, [0, 1, 2]).tolist() == [0, 0, 0]


def test_sets_of_two_batches_are_compared() -> None:
    one, other = sets_of(["a b c d e f"], 5), sets_of(["x", "a b c d e g"], 5)
    assert jaccard(one, [0, 0], other, [0, 1]).tolist() == [0, 1 / 3]


def test_the_lowest_hashes_are_a_sample_of_the_set() -> None:
    sets = sets_of([" ".join(f"{a}{b}" for a in "abcdefgh" for b in "klmnop"), "a b"], 5)
    hashes, offsets = sets.lowest(10)
    assert offsets.tolist() == [0, 10, 11]
    first = sets.hashes[: sets.offsets[1]]
    assert len(set(first.tolist())) == 44
    assert hashes[:10].tolist() == [value >> 32 for value in sorted(first.tolist())[:10]]


def test_rows_that_are_not_there_are_refused() -> None:
    sets = sets_of(["a"], 5)
    with pytest.raises(IndexError, match="rows are 0 to 0"):
        jaccard(sets, [1], sets, [0])
    with pytest.raises(ValueError, match="as many rows"):
        jaccard(sets, [0, 0], sets, [0])
    assert jaccard(sets, np.zeros(0, np.int64), sets, np.zeros(0, np.int64)).shape == (0,)
