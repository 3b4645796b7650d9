from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.mixtures.allocate import Cut, Pool, arrange, draw, fill, shards, targets, weigh
from curate.pipeline.errors import UsageError

SETTINGS = settings(max_examples=150, deadline=None)


@st.composite
def pools(draw_value: st.DrawFn) -> Pool:
    """Pools of 1 to 200 documents in 1 to 5 buckets, some of them long."""
    count = draw_value(st.integers(1, 200))
    buckets = draw_value(st.integers(1, 5))
    random = np.random.default_rng(draw_value(st.integers(0, 2**32)))
    longest = draw_value(st.sampled_from([1, 2, 30, 5000]))
    return Pool(
        random.integers(1, longest + 1, count).astype(np.int32),
        random.integers(0, buckets, count).astype(np.int32),
        random.integers(0, 2**64, count, dtype=np.uint64),
        tuple(f"bucket{number}" for number in range(buckets)),
    )


@st.composite
def mixes(draw_value: st.DrawFn) -> tuple[Pool, list[int], int]:
    """A pool, tokens wanted from each bucket that the cap allows, and the cap."""
    pool = draw_value(pools())
    cap = draw_value(st.integers(1, 6))
    wanted = [draw_value(st.integers(0, cap * size)) for size in pool.sizes()]
    return pool, wanted, cap


def taken_of(pool: Pool, repeats: np.ndarray, cut: Cut | None) -> np.ndarray:
    """Tokens of the mix by bucket, counted one document at a time."""
    sums = np.zeros(len(pool.names), np.int64)
    for document, times in enumerate(repeats.tolist()):
        sums[pool.bucket[document]] += int(times) * int(pool.tokens[document])
    if cut is not None:
        sums[pool.bucket[cut.document]] += cut.tokens - int(pool.tokens[cut.document])
    return sums


@SETTINGS
@given(mixes())
def test_a_mix_has_exactly_the_tokens_wanted_and_no_document_above_the_cap(mix: tuple[Pool, list[int], int]) -> None:
    pool, wanted, cap = mix
    repeats, cut = draw(pool, wanted)
    assert taken_of(pool, repeats, cut).sum() == sum(wanted)
    assert repeats.max() <= cap
    if cut is not None:
        assert 0 < cut.tokens < pool.tokens[cut.document]


@SETTINGS
@given(mixes())
def test_a_bucket_misses_its_share_by_less_than_its_own_documents_and_one_more(
    mix: tuple[Pool, list[int], int],
) -> None:
    pool, wanted, _ = mix
    repeats, cut = draw(pool, wanted)
    longest = [int(pool.tokens[pool.bucket == index].max(initial=0)) for index in range(len(pool.names))]
    for index, (have, want) in enumerate(zip(taken_of(pool, repeats, cut), wanted, strict=True)):
        assert have > want - max(longest[index], 1)
        assert have - want <= max(longest)


@SETTINGS
@given(mixes())
def test_within_a_bucket_repeats_differ_by_one_at_most_and_unwanted_buckets_stay_out(
    mix: tuple[Pool, list[int], int],
) -> None:
    pool, wanted, _ = mix
    repeats, _ = draw(pool, wanted)
    for index, want in enumerate(wanted):
        own = repeats[pool.bucket == index]
        if len(own):
            assert own.max() - own.min() <= 1
        if want == 0:
            assert not own.any()


@SETTINGS
@given(mixes(), st.integers(0, 2**32))
def test_the_mix_is_the_same_whatever_the_order_of_the_documents(mix: tuple[Pool, list[int], int], seed: int) -> None:
    pool, wanted, _ = mix
    shuffle = np.random.default_rng(seed).permutation(len(pool.tokens))
    other = Pool(pool.tokens[shuffle], pool.bucket[shuffle], pool.key[shuffle], pool.names)
    results = []
    for each in (pool, other):
        repeats, cut = draw(each, wanted)
        which, copy = arrange(each.key, repeats, cut)
        results.append((each.key[which].tolist(), copy.tolist(), cut and (each.key[cut.document], cut.tokens)))
    assert results[0] == results[1]


@SETTINGS
@given(mixes())
def test_the_order_holds_each_document_as_often_as_drawn_with_its_copies_numbered_and_the_cut_one_last(
    mix: tuple[Pool, list[int], int],
) -> None:
    pool, wanted, _ = mix
    repeats, cut = draw(pool, wanted)
    which, copy = arrange(pool.key, repeats, cut)
    assert np.array_equal(np.bincount(which, minlength=len(pool.tokens)), repeats)
    seen: dict[int, int] = defaultdict(int)
    for document, number in zip(which.tolist(), copy.tolist(), strict=True):
        assert number == seen[document]
        seen[document] += 1
    if cut is not None:
        assert which[-1] == cut.document


@pytest.mark.parametrize("times", [2, 3, 4, 7])
def test_copies_of_one_document_lie_far_apart(times: int) -> None:
    random = np.random.default_rng(times)
    key = random.integers(0, 2**64, 2000, dtype=np.uint64)
    repeats = random.integers(1, times + 1, len(key)).astype(np.int16)
    which, _ = arrange(key, repeats, Cut(int(np.argmax(repeats)), 1))
    places: dict[int, list[int]] = defaultdict(list)
    for place, document in enumerate(which.tolist()):
        places[document].append(place)
    gaps = {
        document: np.diff(where).min() * repeats[document] / len(which)
        for document, where in places.items()
        if len(where) > 1
    }
    assert min(gaps.values()) > 0.4


def test_the_order_of_the_mix_is_a_shuffle_and_not_the_order_of_drawing() -> None:
    random = np.random.default_rng(5)
    key = random.integers(0, 2**64, 4000, dtype=np.uint64)
    pool = Pool(np.full(len(key), 10, np.int32), (np.arange(len(key)) % 2).astype(np.int32), key, ("a", "b"))
    repeats, cut = draw(pool, [5_000, 35_000])
    which, copy = arrange(key, repeats, cut)
    place = np.arange(len(which))
    assert abs(np.corrcoef(place, key[which].astype(np.float64))[0, 1]) < 0.05
    assert abs(np.corrcoef(place, which)[0, 1]) < 0.05
    for part in np.array_split(pool.bucket[which], 8):  # every eighth of the mix has the mixture of the whole
        assert (part == 0).mean() == pytest.approx(1 / 8, abs=0.06)
    first = [set(which[copy == number].tolist()) for number in (0, 1)]
    assert first[1] <= first[0]


@given(pools(), st.integers(0, 10_000))
def test_filling_takes_documents_in_order_and_leaves_none_that_fits(pool: Pool, room: int) -> None:
    tokens = pool.tokens.astype(np.int64)
    chosen = fill(tokens, room)
    expected, left = [], room
    for position, size in enumerate(tokens.tolist()):  # the definition, one document after another
        if size <= left:
            expected.append(position)
            left -= size
    assert chosen.tolist() == expected


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(1, 5), st.data())
def test_proportional_targets_sum_to_the_budget_and_are_within_a_token_of_their_share(
    sizes: list[int], cap: int, data: st.DataObject
) -> None:
    total = sum(sizes)
    if not total:
        return
    budget = data.draw(st.integers(1, cap * total))
    names = [f"b{number}" for number in range(len(sizes))]
    wanted = targets(names, sizes, weigh(names, sizes, None), budget, cap)
    assert sum(wanted) == budget
    for want, size in zip(wanted, sizes, strict=True):
        assert want <= cap * size
        assert abs(want - Fraction(size, total) * budget) < len(sizes)
    if budget == cap * total:
        assert wanted == [cap * size for size in sizes]


def test_weights_are_normalised_and_buckets_not_named_get_nothing() -> None:
    shares = weigh(["a", "b", "c"], [100, 100, 100], {"a": 3, "c": 1})
    assert shares == [Fraction(3, 4), 0, Fraction(1, 4)]
    assert targets(["a", "b", "c"], [100, 100, 100], shares, 40, 1) == [30, 0, 10]


def test_a_weight_of_an_unknown_bucket_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="'sciense'; did you mean 'science'"):
        weigh(["science", "sport"], [1, 1], {"sciense": 1})


def test_too_small_a_pool_says_what_there_is_and_which_buckets_bind() -> None:
    names, sizes = ["big", "small"], [1_000_000, 1_000]
    with pytest.raises(UsageError) as caught:
        targets(names, sizes, weigh(names, sizes, {"big": 1, "small": 1}), 100_000, 4)
    message = str(caught.value)
    assert "it has 1,001,000" in message and "at most 4 times" in message
    assert "small (needs 50,000, has 1,000)" in message and "big (" not in message
    assert "at most 8,000 tokens are possible" in message
    assert sum(targets(names, sizes, weigh(names, sizes, {"big": 1, "small": 1}), 8_000, 4)) == 8_000


def test_one_token_more_than_the_pool_times_the_cap_is_refused() -> None:
    names, sizes = ["a", "b"], [70, 30]
    shares = weigh(names, sizes, None)
    assert targets(names, sizes, shares, 400, 4) == [280, 120]
    with pytest.raises(UsageError, match="too small"):
        targets(names, sizes, shares, 401, 4)


def test_a_small_budget_is_refused_too_and_never_met_by_buckets_without_weight() -> None:
    names, sizes = ["a", *(f"b{number}" for number in range(20))], [1] + [100] * 20
    with pytest.raises(UsageError, match=r"Buckets that bind: a \(needs 10, has 1\).* at most 4 tokens are possible"):
        targets(names, sizes, weigh(names, sizes, {"a": 1}), 10, 4)
    assert targets(names, sizes, weigh(names, sizes, {"a": 1}), 4, 4) == [4] + [0] * 20


def test_weights_a_solver_put_on_the_cap_to_within_rounding_are_accepted() -> None:
    names, sizes = ["a", "b"], [100_000, 10_000_000]
    budget = 1_000_000
    wanted = targets(names, sizes, weigh(names, sizes, {"a": 0.4 + 3e-7, "b": 0.6 - 3e-7}), budget, 4)
    assert wanted == [400_000, 600_000]


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 1000))
def test_output_files_are_cut_between_documents_and_lose_none(tokens: list[int], size: int) -> None:
    edges = shards(np.array(tokens, np.int64), size)
    assert edges[0] == 0 and edges[-1] == len(tokens)
    sums = [sum(tokens[a:b]) for a, b in pairwise(edges)]
    assert all(0 < each < size + max(tokens) for each in sums)
