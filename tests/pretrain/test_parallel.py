"""Several processes learn what one does, share errors, survive the loss of one, and go on in another number."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import ranks_worker
import torch
from mixes import text_mix

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain import checkpoint as checkpoints
from curate.pretrain.config import PretrainConfig
from curate.pretrain.data import Batch, Batches, Masking
from curate.pretrain.loader import filled
from curate.pretrain.log import read_log
from curate.pretrain.loss import IGNORE
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.parallel import ALONE, Agreement, Ranks, open_ranks, shards
from curate.pretrain.tokens import TokenSet
from curate.pretrain.train import pretrain

SMALL = {
    "layers": 2, "width": 32, "heads": 2, "ffn": 64, "sequence_length": 32, "batch_size": 5, "micro_batch": 2,
    "optimizer": "muon", "steps": 90, "checkpoint_every": 20, "eval_every": 30, "log_every": 1, "sample_tokens": 4,
    "device": "cpu",
}  # fmt: skip


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_processes_learn_what_one_does_however_unequal_their_rows(tmp_path):
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            [sys.executable, ranks_worker.__file__, str(tmp_path / "found.json")],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    found = json.loads((tmp_path / "found.json").read_text())
    alone = [ranks_worker.learn(case, "auto") for case in ranks_worker.CASES]
    for together, one in zip(found, alone * 2, strict=True):
        for name in one:
            np.testing.assert_allclose(together[name], one[name], rtol=2e-5)


def test_accumulation_does_not_change_what_is_learnt():
    case = ranks_worker.CASES[0]
    whole, parts = (ranks_worker.learn(case | {"micro_batch": size}, "auto") for size in (5, 1))
    np.testing.assert_allclose(whole["losses"], parts["losses"], rtol=1e-5)


def torchrun(workspace, **changes):
    settings = [f"--set=pretrain.{name}={value}" for name, value in (SMALL | changes).items()]
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(),
            "--monitor-interval", "0.1", "-m", "curate.pipeline.cli", "pretrain", "-w", workspace.root, *settings,
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def children(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(int(number) for number in listed)


def wait_for(condition, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not condition():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("alone"))
    text_mix(place)
    pretrain(place, PretrainConfig(**SMALL), progress=lambda event: None)
    return losses(place)


def losses(workspace):
    return [entry["loss"] for entry in read_log(workspace) if "loss" in entry]


ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")


@ONLY_LINUX
@pytest.mark.parametrize("first", ["ddp", pytest.param("fsdp", marks=pytest.mark.slow)])
def test_a_run_that_lost_a_process_then_was_stopped_goes_on_sharded_or_not_and_alone(tmp_path, undisturbed, first):
    place = Workspace(tmp_path)
    text_mix(place)
    process = torchrun(place, parallel=first)
    wait_for(lambda: checkpoints.list_checkpoints(place), process)
    os.kill(children(process)[1], signal.SIGKILL)
    said = process.communicate()[0]
    assert process.returncode == 1
    assert "another process of this run is gone" in said or "stopped: the same command" in said
    kept = checkpoints.list_checkpoints(place)[-1]
    assert len(losses(place)) < 90, "it was to be killed before the end"

    process = torchrun(place, parallel="fsdp" if first == "ddp" else "ddp")
    begun = checkpoints.read_checkpoint(place, kept).step
    wait_for(lambda: begun < len(losses(place)) < begun + 10, process)
    process.terminate()
    said = process.communicate()[0]
    stopped = checkpoints.read_checkpoint(place, checkpoints.list_checkpoints(place)[-1]).step
    assert f"going on from {kept}" in said
    assert f"error: stopped by SIGTERM after step {stopped}, checkpoint saved" in said
    assert said.count("checkpoint saved") == 1, "the first process says it, not the others"

    pretrain(place, PretrainConfig(**SMALL), progress=lambda event: None)
    np.testing.assert_allclose(losses(place), undisturbed, rtol=1e-3)


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with open_ranks() as ranks:
        assert ranks is ALONE
        assert ranks.on_first(lambda: 3) == ranks.broadcast(3) == 3
        assert Agreement(ranks)(15) == 15
        assert not torch.distributed.is_initialized()


def test_every_row_belongs_to_one_process():
    rows = [Ranks(rank, 3).rows(8) for rank in range(3)]
    assert [number for part in rows for number in range(8)[part]] == list(range(8))
    with pytest.raises(UsageError, match="3 processes cannot share batches of 2 sequences"):
        Ranks(0, 3).rows(2)


def test_rows_that_are_added_predict_nothing():
    batch = Batch(np.ones((2, 4), np.int64), np.ones((2, 3), np.int64), np.ones((2, 3), np.int64))
    more = filled(batch, 4)
    assert more.inputs.shape == (4, 4)
    assert more.positions.shape == more.targets.shape == (4, 3)
    assert more.predicted == batch.predicted == 6
    assert (more.targets[2:] == IGNORE).all()
    assert filled(batch, 2) is batch


@pytest.mark.parametrize("special", [(), tuple(range(200))])
def test_what_a_whole_step_predicts_is_known_without_making_it(tmp_path, special):
    place = Workspace(tmp_path)
    text_mix(place)
    for masking in (None, Masking(257, 257, special, 0.9)):
        data = Batches(TokenSet(place), length=32, batch_size=4, seed=0, masking=masking)
        assert [data.predicted(step) for step in range(3)] == [data.batch(step).predicted for step in range(3)]


def test_large_models_are_sharded():
    config = PretrainConfig(size="tiny").resolved()
    with torch.device("meta"):
        small = Transformer(ModelShape.of(config, 100))
        large = Transformer(ModelShape.of(PretrainConfig(size="1.3B", layers=24).resolved(), 50_000))
    assert not shards(config, small, Ranks(0, 2))
    assert shards(config, large, Ranks(0, 2))
    assert not shards(config, large, ALONE)
    assert shards(PretrainConfig(parallel="fsdp").resolved(), small, Ranks(0, 2))
    assert not shards(PretrainConfig(parallel="ddp").resolved(), large, Ranks(0, 2))
