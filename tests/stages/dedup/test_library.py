"""`deduplicate` on texts in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.stages.dedup import deduplicate

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


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        deduplicate(["x"], bands=0)
