"""Spikes stop a run and name the documents; noise and the fall of the loss at the beginning do not."""

from __future__ import annotations

import numpy as np
import pytest
from mixes import text_mix

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.guard import FEWEST, MARGIN, WINDOW, Guard
from curate.pretrain.log import read_log
from curate.pretrain.run import Run


def opened(tmp_path, **changes):
    place = Workspace(tmp_path)
    text_mix(place, count=30)
    small = {"layers": 1, "width": 16, "heads": 2, "ffn": 16, "sequence_length": 32, "batch_size": 2, "device": "cpu"}
    return Run.open(place, PretrainConfig(**small | changes), lambda event: None)


def fed(run, losses):
    guard = Guard(run)
    for number, loss in enumerate(losses, 1):
        guard.check(number, float(loss), 1.0)
    return guard


def test_a_spike_stops_the_run_and_names_the_documents_of_its_batch(tmp_path):
    run = opened(tmp_path)
    losses = 3 + 0.05 * np.random.default_rng(0).standard_normal(80)
    guard = fed(run, losses)
    guard.check(81, 3.9, 1.0)  # less than the margin
    with pytest.raises(
        CurateError, match=r"step 82: the loss is 5\.000, against 3\.\d+ in the 81 steps before: a spike"
    ):
        guard.check(82, 5.0, 1.0)
    assert run.workspace.read_json("pretrain/stopped.json")["documents"] == run.data.documents(81)


def test_a_spike_is_far_above_the_deviations_and_the_margin(tmp_path):
    run = opened(tmp_path, spike=10)
    losses = [3.0, 3.2] * 40  # median absolute deviation .1: the limit is 3.1 + 10 * .14826
    fed(run, [*losses, 4.58])
    with pytest.raises(CurateError, match="spike"):
        fed(run, [*losses, 4.6])
    even = [3.0] * 60
    fed(run, [*even, 3.0 + MARGIN])
    with pytest.raises(CurateError, match="spike"):
        fed(run, [*even, 3.01 + MARGIN])


def test_the_beginning_of_a_run_and_a_slow_rise_are_no_spikes(tmp_path):
    run = opened(tmp_path)
    fed(run, [*np.linspace(11, 3, FEWEST - 1), 12.0])
    fed(run, 3 + 2 * np.exp(-np.arange(500) / 50) + 0.2 * np.random.default_rng(1).standard_normal(500))
    fed(run, 3 + np.arange(1000) / 300)


def test_zero_never_stops_but_what_is_not_finite_does(tmp_path):
    run = opened(tmp_path, spike=0)
    guard = fed(run, [*[3.0] * 100, 1e6])
    with pytest.raises(CurateError, match="step 102: the loss is nan"):
        guard.check(102, float("nan"), 1.0)
    with pytest.raises(CurateError, match="step 102: the gradient's norm is inf"):
        guard.check(102, 3.0, float("inf"))


def test_after_a_resume_it_knows_the_losses_before(tmp_path):
    run = opened(tmp_path)
    lines = "".join(f'{{"step": {step}, "loss": {step / 100}}}\n' for step in range(1, 301))
    run.workspace.write_bytes("pretrain/log.jsonl", lines.encode())
    run.step = 250
    assert list(Guard(run).recent) == [step / 100 for step in range(250 - WINDOW + 1, 251)]
    assert len(read_log(run.workspace)) == 300
