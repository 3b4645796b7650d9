"""Verified links and clusters that are taken apart, against plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.minhash import band_keys, sign_hashes
from curate.stages.dedup.stage import STAGE
from curate.stages.dedup.verify import RECENT, REPRESENTATIVES, Pages, linked, verified


def by_shingles(sets: Sequence[set[int]], keys: Sequence[Sequence[int]], limit: int = 4096) -> Pages:
    lowest = [sorted(one)[:limit] for one in sets]
    ends = np.cumsum([0, *map(len, lowest)])
    return Pages(
        np.array(keys, np.uint64).reshape(len(sets), -1),
        None,
        np.array([value for one in lowest for value in one], np.uint32),
        np.column_stack([ends[:-1], ends[1:]]),
        np.full(len(sets), limit),
    )


def by_sketch(sketches: np.ndarray, keys: Sequence[Sequence[int]]) -> Pages:
    return Pages(np.array(keys, np.uint64).reshape(len(sketches), -1), sketches.astype(np.uint8))


def similarity(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def leaders(
    sets: Sequence[set[int]], keys: Sequence[Sequence[int]], threshold: float, most: int, recent: int
) -> list[int]:
    """By definition: in each bucket a page is linked to every leader that it is like; one that is like none leads too, or,
    where there are as many as may be, is linked to the nearest that it is like of the last ones that do not lead."""
    labels = list(range(len(sets)))
    for band in range(len(keys[0])):
        for key in {its[band] for its in keys}:
            led: list[int] = []
            others: list[int] = []
            for page in (n for n, its in enumerate(keys) if its[band] == key):
                near = others[::-1][:recent]
                alike, late = (
                    [n for n in among if labels[n] == labels[page] or similarity(sets[n], sets[page]) >= threshold]
                    for among in (led, near)
                )
                alike = alike or late[:1]
                if alike or len(led) == most:
                    others.append(page)
                else:
                    led.append(page)
                together = {labels[n] for n in [page, *alike]}
                labels = [min(together) if label in together else label for label in labels]
    return labels


def removed_by_all_pairs(sets: Sequence[set[int]], keys: np.ndarray) -> int:
    """Pages that are not the first of their cluster, where every two that share a key are compared at .8."""
    labels = list(range(len(sets)))
    for one in range(len(sets)):
        for other in np.flatnonzero((keys[one + 1 :] == keys[one]).any(axis=1)) + one + 1:
            if labels[one] != labels[other] and similarity(sets[one], sets[other]) >= 0.8:
                labels = [labels[one] if label == labels[other] else label for label in labels]
    return len(sets) - len(set(labels))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 12), min_size=1), st.tuples(st.integers(0, 2), st.integers(3, 5))),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from([0.2, 0.5, 0.75, 1.0]),
    st.integers(1, 4),
    st.integers(0, 3),
)
@example([({1, 2, 3}, (0, 3)), ({1, 2, 3, 4}, (0, 4))], 0.75, 1, 0)
@example([({n}, (0, n)) for n in (1, 2, 3, 4, 2, 3, 4)], 1.0, 1, 3)
def test_pages_are_linked_where_they_share_a_key_and_the_jaccard_similarity_reaches_the_threshold(
    pages: list[tuple[set[int], tuple[int, int]]], threshold: float, most: int, recent: int
) -> None:
    sets, keys = [one for one, _ in pages], [its for _, its in pages]
    expected = leaders(sets, keys, threshold, most, recent)
    assert linked(by_shingles(sets, keys), threshold, most, recent).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.tuples(*[st.integers(0, 4)] * 2)), min_size=1, max_size=12),
    st.sampled_from(["shingles", "sketch"]),
)
@example([(0, (1, 0)), (0, (2, 1)), (1, (1, 1))], "sketch")
def test_newest_first_takes_a_page_only_for_pages_of_its_snapshot_and_later_ones(
    given: list[tuple[int, tuple[int, int]]], by: str
) -> None:
    """A page stays where, among the pages as new as it or newer, it is linked to none that is newer nor to one before it."""
    ages, keys = zip(*sorted(given, key=lambda page: page[0]), strict=True)
    count = len(ages)
    if by == "shingles":
        pages = by_shingles([{n} for n in range(count)], keys)
    else:
        pages = by_sketch(np.random.default_rng(0).integers(0, 256, (count, 8)), keys)
    labels = linked(replace(pages, snapshots=np.array(ages, np.int32)), 0.0).tolist()
    for page in range(count):
        reached, waiting = {page}, [page]
        while waiting:
            one = waiting.pop()
            near = [
                n
                for n in range(count)
                if ages[n] <= ages[page]
                and set(zip((0, 1), keys[n], strict=True)) & set(zip((0, 1), keys[one], strict=True))
            ]
            waiting += [n for n in near if n not in reached]
            reached |= set(near)
        assert (labels[page] == page) == (min(reached) == page)
        assert labels[page] in reached
        assert labels[labels[page]] == labels[page]


def test_newest_first_an_older_page_goes_for_the_first_newer_one_that_it_is_like() -> None:
    base = set(range(100))
    newest = [base - set(range(12)), base - set(range(50, 62)), set(range(200, 300))]  # .79 alike
    sets = [*newest, base, set(range(200, 310)), base | {100}, set(range(400, 500))]
    pages = by_shingles(sets, [[1]] * len(sets))
    assert linked(pages, 0.85).tolist() == [0, 0, 2, 0, 2, 0, 6]
    apart = replace(pages, snapshots=np.array([0, 0, 0, 1, 1, 2, 2], np.int32))
    assert linked(apart, 0.85).tolist() == [0, 1, 2, 0, 2, 0, 6]
    assert linked(apart.take(np.array([1, 2, 3, 6])), 0.85).tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize(("threshold", "together"), [(0.75, True), (0.85, False)])
def test_of_texts_with_many_shingles_a_sample_is_compared(threshold: float, together: bool) -> None:
    rng = np.random.default_rng(5)
    drawn = rng.choice(2**32, 90_000, replace=False).tolist()
    sets = [set(drawn[:80_000]), set(drawn[:70_000]) | set(drawn[80_000:])]
    sets[1] -= set(drawn[70_000 - 1111 : 70_000])  # 68,889 / 90,000 shared
    true = similarity(*sets)
    assert 0.76 < true < 0.78
    labels = linked(by_shingles(sets, [[1], [1]], limit=2000), threshold)
    assert (labels[1] == 0) == together


@pytest.mark.parametrize(("equal", "together"), [(89, False), (90, True), (112, True)])
def test_signatures_are_compared_by_the_estimate_of_their_sketches(equal: int, together: bool) -> None:
    # of 112 values of 8 bits, 1 in 256 agrees by chance: 90 give (90 / 112 - 1 / 256) / (1 - 1 / 256) = .8028, 89 .7939
    sketches = np.zeros((2, 112), np.uint8)
    sketches[1, equal:] = 1
    assert (linked(by_sketch(sketches, [[1], [1]]), 0.8)[1] == 0) == together


def test_what_fails_against_the_first_of_a_bucket_is_compared_with_the_next_up_to_a_number() -> None:
    kinds = [{10 * kind + value for value in range(9)} for kind in range(4)]
    pages = by_shingles([kinds[n % 4] | {100 + n} for n in range(12)], [[7]] * 12)
    for most in (1, 2, 3, 4):
        expected = [n % 4 if n % 4 < most else n for n in range(12)]
        assert linked(pages, 0.7, representatives=most, recent=0).tolist() == expected


def test_of_clusters_near_the_threshold_few_removals_are_lost_to_the_bound_on_comparisons() -> None:
    """40 clusters of 30 pages of 200 shingles, alike by .75 to .85, against every two pages of a bucket compared at .8."""
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(40):
        own, alike = rng.integers(0, 2**64, 200, np.uint64), rng.uniform(0.75, 0.85)
        share = np.sqrt(2 * alike / (1 + alike))
        sets += [np.where(rng.random(200) < share, own, rng.integers(0, 2**64, 200, np.uint64)) for _ in range(30)]
    keys = band_keys(sign_hashes(np.concatenate(sets), np.arange(len(sets) + 1) * 200, 112, 1), 14, 8)
    pages = by_shingles([set((one >> np.uint64(32)).tolist()) for one in sets], keys.tolist())
    every = removed_by_all_pairs([set(one.tolist()) for one in sets], keys)
    lost = [
        1 - (linked(pages, 0.8, *bounds) != np.arange(len(sets))).sum() / every
        for bounds in ((REPRESENTATIVES, RECENT), (1, 0))
    ]
    assert 0 <= lost[0] < 0.02 < 0.05 < lost[1]


def test_of_a_bucket_of_pages_at_the_threshold_the_last_ones_are_compared_too() -> None:
    """25 buckets of 40 pages of 200 shingles, alike by .73 to .87, that share one key each, compared at .8."""
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(25):
        own = rng.integers(0, 2**32, 200, np.uint32)
        for alike in rng.uniform(0.73, 0.87, 40):
            share = np.sqrt(2 * alike / (1 + alike))
            sets.append(set(np.where(rng.random(200) < share, own, rng.integers(0, 2**32, 200, np.uint32)).tolist()))
    keys = np.arange(len(sets))[:, None] // 40
    every = removed_by_all_pairs(sets, keys)
    lost = [
        1 - (linked(by_shingles(sets, keys.tolist()), 0.8, *bounds) != np.arange(len(sets))).sum() / every
        for bounds in ((REPRESENTATIVES, RECENT), (REPRESENTATIVES, 0))
    ]
    assert 0 <= lost[0] < 0.05 < 0.1 < lost[1]


def test_a_bucket_of_many_different_pages_is_no_matter_of_all_pairs() -> None:
    # 3 * 10^10 pairs would take an hour
    sketches = np.random.default_rng(0).integers(0, 256, (250_000, 64), np.uint8)
    assert (linked(by_sketch(sketches, [[1]] * 250_000), 0.7) == np.arange(250_000)).all()


def test_a_cluster_that_is_too_large_is_linked_again_at_a_stricter_threshold_or_left_alone() -> None:
    base = set(range(1000, 1100))
    loose = [base - {1000 + n} - set(range(1010, 1010 + 20 * (n % 3))) for n in range(6)]  # by threes alike
    chain = [set(range(n, n + 100)) for n in range(40)]  # each with .98 of the one before
    small = [{1, 2, 3, 4}, {1, 2, 3, 4, 5}]
    sets = [*loose, *chain, *small]
    keys = [[0]] * 6 + [[n // 2] for n in range(2, 42)] + [[100]] * 2
    keys = [[one[0], one[0] if len(sets) - 2 <= n or n < 6 else (n + 1) // 2 + 200] for n, one in enumerate(keys)]
    clusters = np.array([0] * 6 + [6] * 40 + [46] * 2)
    config = DedupConfig(max_cluster=5, verify="jaccard", verify_threshold=0.7)
    labels, figures = verified(by_shingles(sets, keys), clusters, config)
    assert labels[46:].tolist() == [46, 46]
    assert labels[6:46].tolist() == list(range(6, 46))  # alike from link to link at .85 too: nothing is taken
    strict = linked(by_shingles(loose, keys[:6]), 0.85)
    assert labels[:6].tolist() == strict.tolist()
    assert strict.tolist() == [0, 1, 2, 0, 1, 2]
    assert (figures.texts, figures.clusters, figures.largest) == (48, 3, 40)
    assert (figures.too_large, figures.too_large_texts) == (2, 46)
    assert (figures.left_alone, figures.left_alone_texts) == (1, 40)


def test_without_verification_only_what_is_too_large_is_looked_at() -> None:
    sets = [{n} for n in range(6)]
    clusters = np.array([0, 0, 2, 2, 2, 2])
    labels, figures = verified(by_shingles(sets, [[1]] * 2 + [[2]] * 4), clusters, DedupConfig(max_cluster=3))
    assert labels.tolist() == [0, 0, 2, 3, 4, 5]
    assert (figures.too_large, figures.left_alone) == (1, 0)


def test_the_threshold_is_the_one_given_or_intended_or_where_the_curve_is_steepest() -> None:
    assert DedupConfig().verified_from == pytest.approx((1 / 14) ** (1 / 8))
    assert DedupConfig(minhash={"threshold": 0.8}).verified_from == 0.8
    config = DedupConfig(minhash={"threshold": 0.8}, verify_threshold=0.9)
    assert (config.verified_from, config.strict_from) == (0.9, pytest.approx(0.95))


@pytest.mark.parametrize("wrong", [{"verify": "signature"}, {"max_cluster": 1000}])
def test_nothing_can_be_verified_without_signatures(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"minhash\.enabled"):
        DedupConfig.model_validate({"minhash": {"enabled": False}} | wrong)


def test_another_keep_rule_or_verification_goes_on_from_the_signatures_and_links_there_are() -> None:
    one = DedupConfig()
    other = DedupConfig(keep="longest", verify="jaccard", verify_threshold=0.9, max_cluster=99)
    again = [step.name for step in STAGE.steps if one.fingerprint(step.reads) != other.fingerprint(step.reads)]
    assert next(name for name in again if name != "url_copies") == "members"  # without `url` that step has no task
    without = DedupConfig(exact=False)
    again = [step.name for step in STAGE.steps if one.fingerprint(step.reads) != without.fingerprint(step.reads)]
    assert "signatures" not in again
    assert "bands" in again
