"""Exact quantiles by group and weight: against the definition, by whole numbers, and against a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.classifiers.quantiles import LEVELS, WANTED, Boundaries, keys_of, merged, narrow, scores_of, spread

Piece = tuple[Sequence[str], npt.NDArray[np.float32], npt.NDArray[np.int64]]
FLOATS = st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0, 0.5, 1.0, 0.1])


def boundaries(pieces: Callable[[], Iterable[Piece]], parts: Sequence[int], most: list[int] | None = None) -> pa.Table:
    """As the stage does it: a histogram a piece, all of them together, level by level."""
    wanted = None
    for level in range(LEVELS):
        histograms = (
            spread("quality", pa.array(groups, pa.string()), scores, weights, level, wanted)
            for groups, scores, weights in pieces()
        )
        histogram = merged(histograms)
        if most is not None:
            most.append(histogram.num_rows)
        wanted = narrow(histogram, {"quality": parts}, level, wanted)
    assert wanted is not None
    return wanted


def by_definition(groups: Sequence[str], scores: Sequence[float], weights: Sequence[int], parts: int) -> list[int]:
    """How many of n parts of its group's weight lie wholly below each score, in whole numbers."""
    found = []
    for group, score in zip(groups, scores, strict=True):
        own = [(s, w) for g, s, w in zip(groups, scores, weights, strict=True) if g == group]
        found.append(parts * sum(w for s, w in own if s < score) // sum(w for _, w in own))
    return found


@settings(max_examples=50, deadline=None)
@given(
    pages=st.lists(st.tuples(st.sampled_from("ab"), FLOATS, st.integers(1, 10**12)), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    parts=st.sampled_from([4, 20, 100]),
)
def test_each_score_lies_where_the_definition_says_however_the_data_is_cut(
    pages: list[tuple[str, float, int]], cuts: list[int], parts: int
) -> None:
    groups, scores, weights = (list(column) for column in zip(*pages, strict=True))
    ends = sorted({0, len(pages), *(min(cut, len(pages)) for cut in cuts)})

    def pieces() -> Iterator[Piece]:
        for start, stop in pairwise(ends):
            yield groups[start:stop], np.array(scores[start:stop], np.float32), np.array(weights[start:stop], np.int64)

    found = Boundaries(boundaries(pieces, [parts])).below(
        "quality", parts, pa.array(groups, pa.string()), np.array(scores, np.float32)
    )
    assert found.to_pylist() == by_definition(groups, scores, weights, parts)


def test_boundaries_are_those_of_a_sort_and_the_order_of_the_pieces_changes_nothing() -> None:
    random = np.random.default_rng(7)
    scores = random.beta(2, 5, 50_000).astype(np.float32)
    weights = random.integers(1, 30_000, len(scores))
    groups = random.choice(["art", "law", "sport"], len(scores), p=[0.6, 0.3, 0.1])

    def pieces(order: Iterable[int]) -> Callable[[], Iterator[Piece]]:
        def found() -> Iterator[Piece]:
            for start in order:
                part = slice(start, start + 1000)
                yield groups[part].tolist(), scores[part], weights[part]

        return found

    starts = range(0, len(scores), 1000)
    table = boundaries(pieces(starts), [20, 100])
    assert table.equals(boundaries(pieces(list(reversed(starts))), [20, 100]))
    assert table.schema == WANTED
    for name in ("art", "law", "sport"):
        own = np.flatnonzero(groups == name)
        own = own[np.argsort(scores[own], kind="stable")]
        sums = np.cumsum(weights[own])
        reaches = [-(-number * int(sums[-1]) // 20) for number in range(1, 20)]
        expected = scores[own][np.searchsorted(sums, reaches)]
        rows = [row for row in table.to_pylist() if row["group"] == name and row["parts"] == 20]
        assert [row["number"] for row in rows] == list(range(1, 20))
        assert np.array([row["score"] for row in rows], np.float32).tolist() == expected.tolist()


def test_each_vigintile_has_a_twentieth_of_the_tokens_where_no_page_is_large() -> None:
    random = np.random.default_rng(1)
    scores = random.random(100_000, np.float32)
    weights = random.integers(1, 2_000, len(scores))
    groups = ["all"] * len(scores)
    found = Boundaries(boundaries(lambda: [(groups, scores, weights)], [20])).below(
        "quality", 20, pa.array(groups), scores
    )
    shares = np.bincount(found.to_numpy(), weights) / weights.sum()
    assert len(shares) == 20
    assert np.abs(shares - 0.05).max() < 2 * 2_000 / weights.sum()


def test_what_is_held_does_not_grow_with_the_data() -> None:
    """Sixty shards of a narrow distribution, the worst for histograms: the rows after each pass stay within the bound."""

    def pieces() -> Iterator[Piece]:
        for number in range(60):
            random = np.random.default_rng(number)
            scores = (0.5 + random.random(5_000) / 256).astype(np.float32)
            yield ["all"] * len(scores), scores, random.integers(1, 100, len(scores))

    held: list[int] = []
    boundaries(pieces, [20], held)
    assert held[0] <= 3
    assert max(held[1:]) <= 19 * 256
    assert held[2] > 256  # the last pass does look at several buckets


def test_equal_scores_are_in_one_part_and_the_parts_after_them_are_empty() -> None:
    scores = np.array([0.0] * 70 + [0.25, 0.5, 1.0] * 10, np.float32)
    groups, ones = ["all"] * len(scores), np.ones(len(scores), np.int64)
    found = Boundaries(boundaries(lambda: [(groups, scores, ones)], [20])).below(
        "quality", 20, pa.array(groups), scores
    )
    assert sorted(set(zip(scores.tolist(), found.to_pylist(), strict=True))) == [(0, 0), (0.25, 14), (0.5, 16), (1, 18)]


def test_a_page_without_a_score_has_no_part_and_counts_nowhere() -> None:
    scores = np.array([0.1, np.nan, 0.2], np.float32)
    pieces = [(["a", "a", "a"], scores, np.array([1, 10**9, 1]))]
    found = Boundaries(boundaries(lambda: pieces, [4])).below("quality", 4, pa.array(["a"] * 3), scores)
    assert found.to_pylist() == [0, None, 2]


def test_no_data_has_no_boundaries() -> None:
    assert boundaries(lambda: [], [20]).num_rows == 0


@given(scores=st.lists(FLOATS, min_size=2, max_size=50))
def test_keys_have_the_order_of_the_scores_and_give_them_back(scores: list[float]) -> None:
    values = np.array(scores, np.float32)
    keys = keys_of(values)
    assert (keys[:, None] < keys).tolist() == (values[:, None] < values).tolist()
    assert (keys[:, None] == keys).tolist() == (values[:, None] == values).tolist()
    assert (scores_of(keys) == values).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.float32(1e-45), -np.float32(1e-45), np.finfo(np.float32).max])
def test_scores_at_the_ends_of_the_type_have_a_place(value: Any) -> None:
    scores = np.array([0.5, value, -0.5, 0.0], np.float32)
    groups, ones = ["a"] * 4, np.ones(4, np.int64)
    found = Boundaries(boundaries(lambda: [(groups, scores, ones)], [4])).below("quality", 4, pa.array(groups), scores)
    assert found.to_pylist() == np.argsort(np.argsort(scores)).tolist()
