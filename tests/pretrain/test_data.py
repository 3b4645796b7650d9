"""Batches are a function of seed and step; masks have BERT's statistics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixes import write_mix

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.data import Batches, Masking, key, permute
from curate.pretrain.loss import IGNORE
from curate.pretrain.tokens import TokenSet


def counting(folder, tokens):
    """A set whose token n is n, so that a batch shows where it was read."""
    workspace = Workspace(folder)
    write_mix(workspace, [(range(begin, min(begin + 7, tokens)), 7, "b") for begin in range(0, tokens, 7)], eos=0)
    return TokenSet(workspace)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**40))
def test_the_order_of_an_epoch_is_a_permutation(size, seed):
    order = permute(np.arange(size), size, key(seed))
    assert np.array_equal(np.sort(order), np.arange(size))


def test_the_permutation_of_a_huge_range_is_computed_for_single_places():
    places = np.arange(10**15, 10**15 + 1000)
    order = permute(places, 10**16, key("x"))
    assert len(set(order.tolist())) == 1000
    assert order.min() >= 0
    assert order.max() < 10**16


def test_the_order_looks_random_and_differs_between_seeds():
    size = 4096
    orders = [permute(np.arange(size), size, key("order", seed)) for seed in range(20)]
    for order in orders:
        # Correlation of place and value under a random permutation: standard deviation 1 / sqrt(size - 1) = 0.0156.
        assert abs(np.corrcoef(np.arange(size), order)[0, 1]) < 5 / np.sqrt(size)
    agree = np.mean([orders[0] == other for other in orders[1:]])
    assert agree < 0.01


def test_an_epoch_reads_every_window_once_and_the_next_in_another_order(tmp_path):
    data = Batches(counting(tmp_path, 201), length=10, batch_size=4, seed=3)
    assert data.windows == 20
    epochs = [np.concatenate([data.starts(step) for step in range(5 * e, 5 * e + 5)]) for e in range(2)]
    for starts in epochs:
        assert sorted(starts.tolist()) == list(range(0, 200, 10))
    assert epochs[0].tolist() != epochs[1].tolist()


def test_tokens_left_over_by_the_windows_are_read_in_some_epoch(tmp_path):
    data = Batches(counting(tmp_path, 209), length=50, batch_size=4, seed=0)
    read = {int(token) for step in range(80) for token in data.batch(step).targets.flatten()}
    assert {207, 208} <= read
    assert max(read) == 208


def test_a_batch_that_spans_two_epochs_holds_the_end_of_one_and_the_beginning_of_the_next(tmp_path):
    tokens = counting(tmp_path, 101)
    one, three = (Batches(tokens, length=10, batch_size=size, seed=1) for size in (1, 3))
    single = [int(one.starts(step)[0]) for step in range(12)]
    assert three.starts(3).tolist() == single[9:12]


def test_targets_are_the_tokens_that_follow(tmp_path):
    batch = Batches(counting(tmp_path, 201), length=10, batch_size=4, seed=3).batch(2)
    assert batch.inputs.shape == batch.targets.shape == (4, 10)
    assert np.array_equal(batch.targets, batch.inputs + 1)


@pytest.mark.parametrize("masking", [None, Masking(257, 256, (256,), 0.3)])
def test_rows_of_a_batch_do_not_depend_on_how_it_is_divided(tmp_path, masking):
    data = Batches(counting(tmp_path, 201), length=10, batch_size=6, seed=3, masking=masking)
    whole = data.batch(4)
    parts = [data.batch(4, slice(begin, begin + 2)) for begin in (0, 2, 4)]
    for name in ("inputs", "targets") + (("positions",) if masking else ()):
        assert np.array_equal(getattr(whole, name), np.concatenate([getattr(part, name) for part in parts]))


def test_a_mix_smaller_than_a_sequence_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match=r"has 50 tokens, less than one sequence of 50.*sequence_length"):
        Batches(counting(tmp_path, 50), length=50, batch_size=1, seed=0)


def test_of_the_chosen_tokens_80_percent_are_hidden_10_exchanged_10_left():
    masking = Masking(mask=1000, vocab_size=1000, special=(0,), fraction=0.15)
    random = np.random.default_rng(0)
    tokens = np.arange(1, 1001) % 1000
    fates = np.zeros(3)
    chosen = 0
    for _ in range(300):
        inputs, positions, targets = masking.corrupt(tokens, random)
        assert np.array_equal(targets, tokens[positions])
        untouched = np.setdiff1d(np.arange(1000), positions)
        assert np.array_equal(inputs[untouched], tokens[untouched])
        seen = inputs[positions]
        fates += [(seen == 1000).sum(), ((seen != 1000) & (seen != targets)).sum(), (seen == targets).sum()]
        chosen += len(set(positions.tolist()))
    assert chosen == 300 * 150
    # A drawn token is by chance the old one once in 1,000; the shares' standard error is below 0.002.
    assert fates / chosen == pytest.approx([0.8, 0.0999, 0.1001], abs=0.008)


@given(
    tokens=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_special_tokens_are_never_chosen_and_shapes_never_change(tokens, fraction, seed):
    masking = Masking(mask=21, vocab_size=21, special=(0, 1), fraction=fraction)
    ids = np.array(tokens, dtype=np.int64)
    inputs, positions, targets = masking.corrupt(ids, np.random.default_rng(seed))
    assert len(inputs) == len(ids)
    assert len(positions) == len(targets) == masking.chosen(len(ids))
    real = targets != IGNORE
    assert not np.isin(targets[real], [0, 1]).any()
    assert real.sum() == min(masking.chosen(len(ids)), int((ids > 1).sum()))
    assert np.array_equal(inputs[ids < 2], ids[ids < 2])


def test_the_documents_of_a_batch_are_named_by_snapshot_and_id(tmp_path):
    data = Batches(counting(tmp_path, 71), length=10, batch_size=1, seed=0)
    start = int(data.starts(5)[0])
    expected = [f"S tokens-{number}" for number in range(start // 7, (start + 10) // 7 + 1)]
    assert data.documents(5) == expected
