"""`curate pretrain` on a Ray cluster: a process that is killed is replaced, and the losses are those of a run alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mixes import text_mix

from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.log import read_log
from curate.pretrain.train import pretrain

SMALL = {
    "layers": 2, "width": 32, "heads": 2, "ffn": 64, "sequence_length": 32, "batch_size": 4, "micro_batch": 2,
    "steps": 300, "checkpoint_every": 20, "eval_every": 0, "log_every": 1, "sample_tokens": 4, "device": "cpu",
}  # fmt: skip


def losses(workspace):
    return [entry["loss"] for entry in read_log(workspace) if "loss" in entry]


def training_processes(address):
    """Ray Train's worker processes of the cluster at this address."""
    port = address.rpartition(":")[2].encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"RayTrainWorker" in (entry / "cmdline").read_bytes():
                parent = Path(
                    f"/proc/{(entry / 'stat').read_text().rpartition(')')[2].split()[1]}/cmdline"
                ).read_bytes()
                if b":" + port in parent:
                    found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_killed_process_on_a_cluster_is_replaced_and_nothing_is_learnt_otherwise(tmp_path, ray_address):
    pytest.importorskip("ray.train")
    alone, place = Workspace(tmp_path / "alone"), Workspace(tmp_path / "cluster")
    for workspace in (alone, place):
        text_mix(workspace)
    pretrain(alone, PretrainConfig(**SMALL), progress=lambda event: None)
    settings = [f"--set=pretrain.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "curate.pipeline.cli", "pretrain", "-w", place.root, "--address", ray_address]
    process = subprocess.Popen(
        [*command, "--workers", "2", *settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    deadline = time.monotonic() + 200
    while len(losses(place)) < 25 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "".join(said)
    os.kill(training_processes(ray_address)[0], signal.SIGKILL)
    assert len(losses(place)) < 300, "it was to be killed before the end"
    reader.join()
    text = "".join(said)
    assert process.wait() == 0, text
    assert "going on from pretrain/checkpoints/" in text
    np.testing.assert_allclose(losses(place), losses(alone), rtol=1e-3)
