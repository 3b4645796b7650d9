"""A mixture is index arithmetic: exact shares, every window once before any repeats, any step at once."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
from bucket_mixes import bucket_mix
from hypothesis import given, settings
from hypothesis import strategies as st
from mixes import text_mix

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.data import Batches, Masking, Mixture, apportion, count_steps, open_data
from curate.pretrain.tokens import TokenSet

LENGTH = 10


class Laid:
    """Where buckets lie, and no tokens: ranges in a seeded order, with a gap that belongs to another bucket between them."""

    def __init__(self, sizes: dict[str, list[int]]) -> None:
        self.ranges: dict[str, list[tuple[int, int]]] = {name: [] for name in sizes}
        self.tokens = 5
        for turn in range(max(map(len, sizes.values()))):
            for name, own in sizes.items():
                if turn < len(own):
                    self.ranges[name].append((self.tokens, self.tokens + own[turn]))
                    self.tokens += own[turn] + 3

    def buckets(self) -> dict[str, list[tuple[int, int]]]:
        return self.ranges


@st.composite
def mixtures(draw: st.DrawFn, whole: bool = False) -> tuple[Laid, Mixture, dict[str, float]]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6, unique=True))
    size = st.integers(1, 20).map(lambda n: n * LENGTH + 1) if whole else st.integers(LENGTH + 1, 20 * LENGTH)
    sizes = {name: draw(st.lists(size, min_size=1, max_size=3 if name > "d" else 1)) for name in names}
    weights = {name: draw(st.floats(0, 5, allow_subnormal=False)) for name in names}
    if not any(weights.values()):
        weights[names[0]] = 1.0
    laid = Laid(sizes)
    mixture = Mixture(
        cast(TokenSet, laid),
        weights,
        length=LENGTH,
        batch_size=draw(st.integers(1, 9)),
        steps=draw(st.integers(1, 40)),
        seed=draw(st.integers(0, 2**32)),
    )
    return laid, mixture, weights


def bucket_of(laid: Laid, start: int) -> str:
    """The bucket that holds a window whole, its last target too; KeyError where none does."""
    for name, ranges in laid.ranges.items():
        for begin, end in ranges:
            if begin <= start and start + LENGTH + 1 <= end:
                return name
    raise KeyError(start)


@settings(max_examples=150, deadline=None)
@given(mixtures())
def test_over_the_run_each_bucket_has_its_share_to_within_one_window(
    made: tuple[Laid, Mixture, dict[str, float]],
) -> None:
    laid, mixture, weights = made
    total = mixture.steps * mixture.batch_size
    found = Counter(
        bucket_of(laid, int(start)) for step in range(mixture.steps) for start in mixture.starts(step).tolist()
    )
    assert sum(found.values()) == total
    for name, weight in weights.items():
        assert abs(found[name] - total * weight / sum(weights.values())) < 1 + 1e-9 * total
        assert found[name] == round(mixture.passes.get(name, 0) * dict(_windows(mixture)).get(name, 1))


def _windows(mixture: Mixture) -> list[tuple[str, int]]:
    return [(lane.name, lane.windows) for lane in mixture.lanes]


@settings(max_examples=150, deadline=None)
@given(mixtures(whole=True))
def test_every_window_of_a_bucket_comes_once_before_any_comes_again(
    made: tuple[Laid, Mixture, dict[str, float]],
) -> None:
    laid, mixture, _ = made
    read = {
        name: dict.fromkeys((start for begin, end in laid.ranges[name] for start in range(begin, end - 1, LENGTH)), 0)
        for name, _ in _windows(mixture)
    }
    for step in range(mixture.steps):
        for start in mixture.starts(step).tolist():
            read[bucket_of(laid, start)][start] += 1
        for times in read.values():
            assert max(times.values()) - min(times.values()) <= 1


def test_windows_of_a_bucket_begin_elsewhere_in_each_epoch_so_that_every_token_is_read() -> None:
    laid = Laid({"a": [3 * LENGTH + 7], "b": [50]})
    mixture = Mixture(cast(TokenSet, laid), {"a": 1}, length=LENGTH, batch_size=3, steps=60, seed=0)
    ((begin, end),) = laid.ranges["a"]
    read = {int(start) + place for step in range(60) for start in mixture.starts(step) for place in range(LENGTH + 1)}
    assert read == set(range(begin, end))


@settings(max_examples=60, deadline=None)
@given(mixtures())
def test_a_part_of_the_run_is_close_to_the_shares_too(made: tuple[Laid, Mixture, dict[str, float]]) -> None:
    _, mixture, _ = made
    share = mixture.counts / mixture.counts.sum()
    done = np.zeros(len(share))
    for step in range(mixture.steps):
        before, here = mixture.composition(step)
        assert np.array_equal(before, done)
        assert here.sum() == mixture.batch_size
        assert (here >= 0).all()
        # Each of log2(steps) halvings rounds by less than one.
        assert (np.abs(here - share * mixture.batch_size) < 2).all()
        done += here
        assert (np.abs(done - share * (step + 1) * mixture.batch_size) < 1 + np.log2(mixture.steps)).all()
    assert np.array_equal(done, mixture.counts)


@settings(max_examples=60, deadline=None)
@given(mixtures(), st.data())
def test_any_step_is_the_same_whatever_was_asked_before(
    made: tuple[Laid, Mixture, dict[str, float]], data: st.DataObject
) -> None:
    laid, mixture, weights = made
    steps = data.draw(st.lists(st.integers(0, mixture.steps - 1), min_size=1, max_size=5))
    again = Mixture(
        cast(TokenSet, laid),
        {name: weight * 4 for name, weight in reversed(weights.items())},
        length=LENGTH,
        batch_size=mixture.batch_size,
        steps=mixture.steps,
        seed=mixture.seed,
    )
    for step in steps:
        assert np.array_equal(mixture.starts(step), again.starts(step))


def test_rounding_is_unbiased_a_rare_bucket_falls_into_each_step_equally_often() -> None:
    laid = Laid({"common": [50 * LENGTH], "rare": [20 * LENGTH]})
    found = np.zeros(16)
    for seed in range(640):
        mixture = Mixture(
            cast(TokenSet, laid), {"common": 15, "rare": 1}, length=LENGTH, batch_size=1, steps=16, seed=seed
        )
        found += [mixture.composition(step)[1][1] for step in range(16)]
    assert found.sum() == 640
    # 40 a step expected, standard deviation 6.1
    assert found.min() > 10 and found.max() < 70


@given(
    weights=st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=20).filter(any),
    total=st.integers(0, 10**12),
)
def test_largest_remainders_sum_to_the_total_and_are_within_one_of_the_shares(weights: list[float], total: int) -> None:
    counts = apportion(weights, total)
    assert counts.sum() == total
    for count, weight in zip(counts.tolist(), weights, strict=True):
        assert abs(count - total * weight / sum(weights)) <= 1 + 1e-6 * total


def test_a_run_of_a_trillion_tokens_over_480_buckets_begins_at_any_step_at_once() -> None:
    laid = Laid({f"topic/{number:03d}": [10**9 + number] for number in range(480)})
    weights = {name: 1.0 + number for number, name in enumerate(laid.ranges)}
    mixture = Mixture(cast(TokenSet, laid), weights, length=1024, batch_size=512, steps=2_000_000, seed=1)
    starts = mixture.starts(1_999_999)
    assert len(set(starts.tolist())) == 512
    before, here = mixture.composition(1_999_999)
    assert np.array_equal(before + here, mixture.counts)


# With real files


def numbered(folder: Any, documents: int = 12, shards: int = 1) -> TokenSet:
    """Three buckets of documents of 7 tokens: token n of the set is n."""
    workspace = Workspace(folder)
    each = documents * 7
    buckets = {
        name: [range(place * each + begin, place * each + begin + 7) for begin in range(0, each, 7)]
        for place, name in enumerate(("one", "three", "two"))
    }
    bucket_mix(workspace, buckets, shards=shards, eos=0)
    return TokenSet(workspace)


def test_a_sets_buckets_are_ranges_of_its_tokens_joined_over_shards(tmp_path: Any) -> None:
    tokens = numbered(tmp_path, shards=3)
    assert len(tokens.shards) == 9
    assert tokens.buckets() == {"one": [(0, 84)], "three": [(84, 168)], "two": [(168, 252)]}


@pytest.mark.parametrize("masking", [None, Masking(257, 256, (256,), 0.3)])
def test_rows_of_a_mixtures_batch_do_not_depend_on_how_it_is_divided(tmp_path: Any, masking: Masking | None) -> None:
    data = Mixture(
        numbered(tmp_path), {"one": 1, "two": 2}, length=LENGTH, batch_size=6, steps=9, seed=3, masking=masking
    )
    whole = data.batch(4)
    parts = [data.batch(4, slice(begin, begin + 2)) for begin in (0, 2, 4)]
    for name in ("inputs", "targets") + (("positions",) if masking else ()):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))
    if masking is None:
        assert np.array_equal(whole.targets, whole.inputs + 1)
        assert not ((whole.targets >= 84) & (whole.targets < 168)).any()
    assert {name.split()[0] for name in data.documents(4)} == {"S"}


def test_a_configuration_with_a_mixture_gives_a_mixture_and_its_epochs_count_the_buckets_named(tmp_path: Any) -> None:
    tokens = numbered(tmp_path)
    asked = {"sequence_length": LENGTH, "batch_size": 2, "epochs": 2}
    config = PretrainConfig.model_validate(asked | {"mixture": {"one": 3, "two": 1, "three": 0}}).resolved()
    data = open_data(config, tokens, None)
    assert isinstance(data, Mixture)
    assert data.windows == 16
    assert data.steps == count_steps(config, data.windows) == 16
    assert data.passes == {"one": 3.0, "two": 1.0}
    plain = open_data(PretrainConfig.model_validate(asked).resolved(), tokens, None)
    assert type(plain) is Batches


@pytest.mark.parametrize(
    ("weights", "options", "says"),
    [
        ({"won": 1}, {}, "no bucket 'won'; did you mean 'two'"),
        (
            {"one": 3, "two": 1},
            {"max_repeats": 2},
            r"240 tokens goes through .*max_repeats = 2 times: one \(wants 180 tokens, has 80: 2.25 times\)\. .*at most 210",
        ),
        ({"one": 1}, {"length": 100}, "bucket 'one' has 84 tokens, less than one sequence of 100"),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_the_numbers(
    tmp_path: Any, weights: dict[str, float], options: dict[str, Any], says: str
) -> None:
    tokens = numbered(tmp_path)
    with pytest.raises(UsageError, match=says):
        Mixture(tokens, weights, **({"length": LENGTH, "batch_size": 2, "steps": 12, "seed": 0} | options))


def test_a_mix_that_is_not_packed_by_bucket_is_refused_with_what_to_do(tmp_path: Any) -> None:
    workspace = Workspace(tmp_path)
    text_mix(workspace)
    with pytest.raises(UsageError, match=r"not packed by bucket.*mix\.layout=by-bucket"):
        Mixture(TokenSet(workspace), {"sea": 1}, length=8, batch_size=1, steps=1, seed=0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mixture": {"a": -1, "b": 2}}, "weight of 'a' must be"),
        ({"mixture": {"a": 0}}, "no bucket has a weight"),
        ({"mixture": {}}, "no bucket has a weight"),
        ({"mixture": {"a": float("inf")}}, "weight of 'a' must be"),
        ({"max_repeats": 2}, "give mixture"),
    ],
)
def test_wrong_weights_are_refused_with_the_configuration(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PretrainConfig.model_validate(wrong)
