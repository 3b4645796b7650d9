"""The Bloom filter keeps its promise: no member forgotten, strangers at the rate of the formula, whatever its size."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.dedup.bloom import Bloom, bits_needed, false_positive_rate, probes_needed, seen_before


def hashes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64, endpoint=False)


@pytest.mark.parametrize(
    ("count", "error", "bits", "probes"), [(1_000_000, 0.01, 9_585_059, 7), (1000, 1e-6, 28_756, 20)]
)
def test_the_size_is_that_of_the_textbook(count: int, error: float, bits: int, probes: int) -> None:
    assert bits_needed(count, error) == bits
    assert probes_needed(bits, count) == probes
    assert math.isclose(false_positive_rate(bits, probes, count), error, rel_tol=0.05)


@pytest.mark.parametrize("error", [0.1, 0.01, 0.001])
@pytest.mark.parametrize("count", [50_000, 43_693])
def test_strangers_are_taken_for_members_as_often_as_the_formula_says(count: int, error: float) -> None:
    bloom = Bloom(count, error)
    bloom.add(hashes(count, 1))
    strangers = hashes(400_000, 2)
    found = int(bloom.contains(strangers).sum())
    expected = len(strangers) * false_positive_rate(bloom.bits, bloom.probes, count)
    assert abs(found - expected) < 5 * math.sqrt(expected) + 0.03 * expected


@pytest.mark.parametrize(("count", "error"), [(10, 0.01), (50, 0.001), (200, 0.001)])
def test_a_small_filter_errs_no_more_often_than_it_says(count: int, error: float) -> None:
    """Probes that are a step apart would meet: 1.3 to 4 times as often."""
    strangers, found = 20_000, 0
    for seed in range(100):
        bloom = Bloom(count, error)
        bloom.add(hashes(count, seed))
        found += int(bloom.contains(hashes(strangers, 1000 + seed)).sum())
    assert 0.85 < found / (100 * strangers) / error < 1.15


def test_beyond_its_count_it_errs_more_often_as_the_formula_says() -> None:
    bloom = Bloom(20_000, 0.01)
    bloom.add(hashes(40_000, 1))
    found = int(bloom.contains(hashes(100_000, 2)).sum())
    assert found == pytest.approx(100_000 * false_positive_rate(bloom.bits, bloom.probes, 40_000), rel=0.05)
    assert 0.15 < found / 100_000 < 0.17


@pytest.mark.parametrize("bits", [2**20, 2**20 - 1, 10**6, 3 * 2**18])
def test_fifty_different_texts_are_fifty_texts_whatever_the_number_of_bits(bits: int) -> None:
    bloom = Bloom(bits // 10, 0.01)
    bloom.bits = bits
    bloom._set = np.zeros(bits // 8 + 1, np.uint8)
    texts = pa.array([f"this is text number {'abcdefghijklmnopqrstuvwxyz'[n // 2]} {'xy'[n % 2]}" for n in range(50)])
    assert not seen_before(texts, bloom).any()
    assert seen_before(texts, bloom).all()


def test_all_bits_are_used() -> None:
    bloom = Bloom(10_000, 0.01)
    bloom.add(hashes(10_000, 3))
    bits = np.unpackbits(bloom._set, bitorder="little")[: bloom.bits]
    expected = 1 - math.exp(-bloom.probes * 10_000 / bloom.bits)
    assert all(abs(part.mean() - expected) < 0.03 for part in np.array_split(bits, 10))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1), st.integers(1, 20))
def test_no_member_is_forgotten(members: list[tuple[int, int]], count: int) -> None:
    bloom = Bloom(count, 0.01)
    bloom.add(np.array(members, np.uint64))
    assert bloom.contains(np.array(members, np.uint64)).all()
    assert all(member in bloom for member in members)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["One text", "one  TEXT!", "another", "", "?!", "a third"])), st.integers(0, 10))
def test_the_first_of_equal_texts_in_their_order_is_new_however_they_are_batched(texts: list[str], at: int) -> None:
    normal = [text.lower().replace("  ", " ").strip("?!") for text in texts]
    expected = [bool(text) and text in normal[:number] for number, text in enumerate(normal)]
    bloom = Bloom(1000, 1e-9)
    parts = [seen_before(pa.array(part, pa.string()), bloom) for part in (texts[:at], texts[at:])]
    assert np.concatenate(parts).tolist() == expected


def test_limits_without_sense_are_refused() -> None:
    for count, error in ((0, 0.1), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match="error between 0 and 1"):
            Bloom(count, error)
    with pytest.raises(ValueError, match="shape"):
        Bloom(10, 0.1).add(np.zeros(4, np.uint64))
