"""`deduplicate` on texts in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.stages.dedup import deduplicate

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONG = "the quick brown fox jumps over the lazy dog and runs away into the dark and quiet forest of the north "


def test_each_text_is_given_the_first_of_its_copies() -> None:
    texts = [
        "alone in the world",
        LONG * 3,
        "",
        LONG.upper() * 3,
        None,
        "ALONE, in the world!",
        "...",
        LONG * 3 + "end",
    ]
    found = deduplicate(texts)
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1, 2, 1, 4, 0, 6, 1]


def test_texts_of_arrow_and_across_batches_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word {chr(97 + n % 3)}" for n in range(30)]
    expected = [n % 3 for n in range(30)]
    assert deduplicate(pa.array(texts)).tolist() == expected
    monkeypatch.setattr("curate.stages.dedup.normalise.NORMALISED_BYTES", 16)
    assert deduplicate(pa.chunked_array([texts[:7], texts[7:]])).tolist() == expected


def test_nothing_gives_nothing() -> None:
    assert deduplicate([]).tolist() == []


def test_more_bands_of_fewer_rows_find_pages_less_alike() -> None:
    words = [f"{a}{b}" for a in "abcdefghijkl" for b in "mnopqrstuvwx"]
    other = list(words)
    other[::12] = ["changed" + word for word in words[::12]]
    texts = [" ".join(words), " ".join(other)]  # Jaccard about .43
    assert deduplicate(texts, bands=1, rows=64).tolist() == [0, 1]
    assert deduplicate(texts, bands=64, rows=1).tolist() == [0, 0]


def overlapping(groups: int, shares: Sequence[float], size: int = 200) -> list[str]:
    """For each group a text of `size` words, and texts that begin with a share of its words and end with their own."""
    words = map("".join, itertools.product(LETTERS, repeat=4))
    texts = []
    for _ in range(groups):
        first = list(itertools.islice(words, size))
        texts.append(" ".join(first))
        for share in shares:
            cut = round(size * share)
            texts.append(" ".join([*first[:cut], *itertools.islice(words, size - cut)]))
    return texts


def true_similarity(one: str, other: str) -> float:
    sets = [{tuple(words[at : at + 5]) for at in range(len(words) - 4)} for words in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_with_verify_only_texts_that_are_as_alike_are_linked() -> None:
    texts = overlapping(30, [0.95, 0.8])
    assert true_similarity(texts[0], texts[1]) > 0.8 > 0.7 > true_similarity(texts[0], texts[2])
    loose = deduplicate(texts, bands=60, rows=2)
    assert loose.tolist() == [n - n % 3 for n in range(90)]
    assert deduplicate(texts, bands=60, rows=2, verify=0.8).tolist() == [n - (n % 3 == 1) for n in range(90)]
    assert deduplicate(texts, bands=60, rows=2, verify=1.0).tolist() == list(range(90))


def test_exact_copies_need_no_verification() -> None:
    texts = ["Few words.", LONG, "few WORDS", LONG + "!", ""]
    assert deduplicate(texts, verify=1.0).tolist() == [0, 1, 0, 1, 4]


def test_where_nothing_shares_a_band_there_is_nothing_to_verify() -> None:
    assert deduplicate([], verify=0.5).tolist() == []
    assert deduplicate(["one text of some words here", "and quite another text than that", ""], verify=0.5).tolist() == [
        0, 1, 2,
    ]  # fmt: skip


def test_copies_are_linked_through_the_one_that_is_compared() -> None:
    base, near, _ = overlapping(1, [0.95, 0.5])
    other = deduplicate([base, base.upper(), near, near + "."], bands=60, rows=2, verify=0.8)
    assert other.tolist() == [0, 0, 0, 0]


def test_characters_find_texts_whose_words_differ() -> None:
    words = [f"{a}word{b}" for a in "abcdefgh" for b in "ijklmnop"]
    misspelt = ["x" + word[1:] if n % 5 == 0 else word for n, word in enumerate(words)]
    texts = [" ".join(words), " ".join(misspelt)]
    assert deduplicate(texts, bands=20, rows=4).tolist() == [0, 1]
    assert deduplicate(texts, bands=20, rows=4, ngram_of="characters").tolist() == [0, 0]


def test_64_bits_give_the_same_copies() -> None:
    texts = overlapping(10, [0.97])
    assert deduplicate(texts, hash_bits=64).tolist() == [n - n % 2 for n in range(20)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bands": 0}, "at least 1"), ({"verify": 0}, "above 0"), ({"verify": 1.5}, "at most 1"),
        ({"ngram_of": "letters"}, "'words' or 'characters'"), ({"hash_bits": 16}, "32 or 64"), ({"seed": -1}, "from 0"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        deduplicate(["x"], **wrong)
