"""Whole runs: they learn, they stop and go on bitwise, they say what is wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mixes import text_mix
from safetensors import safe_open

from curate.pipeline.errors import CurateError, DiskFull, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain import checkpoint as checkpoints
from curate.pretrain.config import PretrainConfig
from curate.pretrain.data import Batch, Masking, corrupted
from curate.pretrain.loader import Loaded
from curate.pretrain.log import RunLog, read_log
from curate.pretrain.loss import Objective
from curate.pretrain.meter import MEASURED
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import make_optimizers
from curate.pretrain.run import Run
from curate.pretrain.train import Stopped, forward_backward, pretrain

SMALL = {
    "layers": 2, "width": 32, "heads": 2, "ffn": 64, "sequence_length": 32, "batch_size": 4, "micro_batch": 2,
    "steps": 20, "checkpoint_every": 6, "eval_every": 8, "log_every": 1, "sample_tokens": 12, "device": "cpu",
}  # fmt: skip


def config(**changes):
    return PretrainConfig(**(SMALL | changes))


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path / "w")
    text_mix(place)
    return place


def run(workspace, **changes):
    return pretrain(workspace, config(**changes), progress=lambda event: None)


def learnt(workspace):
    """What of the log does not depend on how fast the machine is."""
    return [{key: value for key, value in entry.items() if key not in MEASURED} for entry in read_log(workspace)]


def weights(workspace, step=20):
    found = {}
    for name in ("model.safetensors", "optimizer.safetensors"):
        with workspace.open(f"{checkpoints.FOLDER}/{step:08d}/{name}") as stream:
            found[name] = stream.read()
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    place = Workspace(tmp_path_factory.mktemp("undisturbed"))
    text_mix(place)
    result = run(place)
    return place, result


DRIVER = """
import json, os, signal, sys
from curate.pipeline.workspace import Workspace
from curate.pretrain import checkpoint
from curate.pretrain.config import PretrainConfig
from curate.pretrain.train import pretrain
import torch
torch.set_num_threads(1)
root, settings, kill_event, kill_count = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])
seen = 0
def count(kind):
    global seen
    seen += kind == kill_event
    if kind == kill_event and seen == kill_count:
        os.kill(os.getpid(), getattr(signal, sys.argv[5]))
create = Workspace.create
def counted(self, name):
    count("file")
    return create(self, name)
Workspace.create = counted
pretrain(Workspace(root), PretrainConfig(**settings), progress=lambda event: count(event["event"]))
"""


def disturb(workspace, event, count, number="SIGKILL", **changes):
    """Runs the trainer in a process that is killed at the n-th step reported, or the n-th file begun."""
    arguments = [workspace.root, json.dumps(SMALL | changes), event, str(count), number]
    return subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=False)


def agrees(workspace, undisturbed):
    """The run in `workspace` learnt, wrote and logged exactly what the undisturbed one did."""
    place, result = undisturbed
    assert learnt(workspace) == learnt(place)
    assert weights(workspace) == weights(place)
    assert workspace.read_json("pretrain/result.json") == result


# Of files: 1 the log; 2 to 5 those of the first checkpoint (weights, moments, tokenizer, marker), 6 to 9 of the second.
@pytest.mark.parametrize(("event", "count"), [("step", 9), ("file", 8)])
def test_a_run_that_was_killed_goes_on_with_bitwise_the_same_losses(workspace, undisturbed, event, count):
    killed = disturb(workspace, event, count)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoints.list_checkpoints(workspace) == [f"{checkpoints.FOLDER}/00000006"]
    run(workspace)
    agrees(workspace, undisturbed)


VARIANTS = {
    "adamw": (5, {}),
    "muon": (2, {"optimizer": "muon"}),
    "masked": (2, {"objective": "masked", "optimizer": "adam", "kv_heads": 1, "tied": False}),
}
"""How often each is killed, and its settings."""


def test_runs_killed_at_random_moments_still_end_the_same(tmp_path):
    draw = np.random.default_rng(int.from_bytes(os.urandom(4)))
    plan = {}
    for name, (times, settings) in VARIANTS.items():
        for disturbed in (True, False):
            place = Workspace(tmp_path / name / ("killed" if disturbed else "undisturbed"))
            text_mix(place)
            kills = [[str(draw.choice(["step", "file"])), int(draw.integers(1, 9))] for _ in range(times)]
            plan[place.root] = (SMALL | settings | {"checkpoint_every": 3}, kills if disturbed else [])
    program = Path(__file__).with_name("killed_often.py")
    done = subprocess.run([sys.executable, str(program), json.dumps(plan)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    for name in VARIANTS:
        killed, undisturbed = (Workspace(tmp_path / name / kind) for kind in ("killed", "undisturbed"))
        codes = [code for *_, code, _ in story[killed.root]]
        assert codes[-1] == 0, done.stderr
        assert set(codes[:-1]) <= {-signal.SIGKILL, 0}
        assert codes[0] == -signal.SIGKILL
        agrees(killed, (undisturbed, undisturbed.read_json("pretrain/result.json")))


def test_sigterm_to_the_command_saves_a_checkpoint_and_exits_143(workspace):
    settings = [f"--set=pretrain.{name}={value}" for name, value in (SMALL | {"steps": 100_000}).items()]
    command = [sys.executable, "-m", "curate.pipeline.cli", "pretrain", "-w", workspace.root, *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step"):
            process.terminate()
            break
    said = process.stderr.read()
    assert process.wait() == 143
    step = checkpoints.read_checkpoint(workspace, checkpoints.list_checkpoints(workspace)[-1]).step
    assert said.endswith(f"error: stopped by SIGTERM after step {step}, checkpoint saved: run again to go on\n")


def test_sigterm_saves_a_checkpoint_and_the_run_goes_on_from_it(workspace, undisturbed):
    killed = disturb(workspace, "step", 9, "SIGTERM")
    assert killed.returncode == 1
    assert "stopped by SIGTERM after step 10, checkpoint saved" in killed.stderr
    assert checkpoints.list_checkpoints(workspace)[-1] == f"{checkpoints.FOLDER}/00000010"
    run(workspace)
    agrees(workspace, undisturbed)


def test_a_stop_in_the_middle_has_the_signals_exit_code_and_gives_the_handlers_back(workspace):
    before = signal.getsignal(signal.SIGTERM)

    def progress(event):
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        pretrain(workspace, config(), progress=progress)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_result_says_what_was_trained_and_how_well(undisturbed):
    place, result = undisturbed
    assert result == place.read_json("pretrain/result.json")
    assert (result["steps"], result["tokens"]) == (20, 20 * 4 * 32)
    assert result["train_loss"] < result["first_train_loss"] < math.log(320) + 0.2
    assert 0 < result["validation"]["bits_per_byte"] < 8.2
    assert set(result["validation"]["buckets"]) == {"sea", "land"}
    assert result["parameters"]["all"] - result["parameters"]["without_embeddings"] == 320 * 32
    assert place.exists(f"{result['checkpoint']}/state.json")
    assert result["sample"]["text"]
    assert "device" not in result["config"]


def test_the_log_has_every_step_once_and_the_validations(undisturbed):
    place, result = undisturbed
    entries = read_log(place)
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 21))
    validations = [entry for entry in entries if "validation" in entry]
    assert [entry["step"] for entry in validations] == [8, 16, 20]
    assert validations[-1]["validation"]["loss"] == result["validation"]["loss"]


def test_a_finished_run_is_not_run_again(undisturbed):
    place, result = undisturbed
    events = []
    before = weights(place)
    assert pretrain(place, config(), progress=events.append) == result
    assert [event["event"] for event in events] == ["done"]
    assert weights(place) == before


def test_only_the_newest_checkpoints_are_kept_and_nothing_of_the_others(undisturbed):
    place, _ = undisturbed
    assert [name[-2:] for name in checkpoints.list_checkpoints(place)] == ["18", "20"]
    folders = {name.split("/")[2] for name in place.list("pretrain/checkpoints")}
    assert folders == {"00000018", "00000020"}


def test_a_checkpoint_is_safetensors_and_json_and_can_be_used_alone(undisturbed):
    place, result = undisturbed
    files = sorted(name.rpartition("/")[2] for name in place.list(result["checkpoint"]))
    assert files == ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"]
    with safe_open(place.path(f"{result['checkpoint']}/optimizer.safetensors"), "pt") as moments:
        assert "blocks.0.attention.qkv.weight.exp_avg" in moments.keys()  # noqa: SIM118 (not a mapping)
    found = checkpoints.read_checkpoint(place, result["checkpoint"])
    model = checkpoints.load_model(place, found)
    assert model(torch.zeros(1, 5, dtype=torch.long)).shape == (1, 5, 320)


def test_another_setting_is_refused_by_name_unless_it_does_not_change_the_learning(workspace):
    run(workspace, steps=6)
    with pytest.raises(
        UsageError, match=r"pretrain\.lr was 0\.003, now 0\.001; pretrain\.steps was 6, now 20"
    ) as refused:
        run(workspace, lr=0.001)
    assert "keep" not in str(refused.value)
    run(workspace, steps=6, keep=1, checkpoint_every=2, log_every=5, micro_batch=4)


def test_another_mix_is_refused_and_a_restart_begins_anew(workspace, undisturbed):
    text_mix(workspace, count=50)
    run(workspace, steps=6)
    text_mix(workspace)
    with pytest.raises(UsageError, match="the mix's sha256 was"):
        run(workspace, steps=6)
    pretrain(workspace, config(), progress=lambda event: None, restart=True)
    agrees(workspace, undisturbed)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(workspace, undisturbed):
    run(workspace)
    with open(workspace.path(f"{checkpoints.FOLDER}/00000020/model.safetensors"), "r+b") as stream:  # noqa: PTH123
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x7f")
    workspace.remove("pretrain/result.json")
    events = []
    pretrain(workspace, config(), progress=events.append)
    assert "is damaged" in events[0]["line"]
    assert "going on from pretrain/checkpoints/00000018" in events[1]["line"]
    agrees(workspace, undisturbed)


def test_a_log_that_runs_ahead_or_is_torn_is_cut_back_to_the_checkpoint(workspace):
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.5}, {"step": 3, "loss": 2.0}]
    torn = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b'{"step": 2, "lo'
    workspace.write_bytes("pretrain/log.jsonl", torn)
    with RunLog(workspace, 2) as log:
        log.write({"step": 3, "loss": 1.0})
    assert [entry["loss"] for entry in read_log(workspace)] == [3.0, 2.5, 1.0]


def test_a_workspace_that_is_not_local_gives_the_same_run(tmp_path, monkeypatch, undisturbed):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = Workspace(f"memory://{tmp_path.name}-train")
    text_mix(remote)

    def fail(event):
        if event["event"] == "step" and event["step"] == 9:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        pretrain(remote, config(), progress=fail)
    assert read_log(remote)[-1]["step"] == 6
    run(remote)
    agrees(remote, undisturbed)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_documents(workspace):
    events = []
    # In bfloat16 such a rate blows the weights up within a few steps.
    with pytest.raises(
        CurateError, match=r"step \d+: the (loss|gradient's norm) is (nan|inf); documents .*S tokens-\d+"
    ) as stop:
        pretrain(workspace, config(lr=1.0, clip=0, weight_decay=1e30, warmup=0), progress=events.append)
    found = workspace.read_json("pretrain/stopped.json")
    assert f"step {found['step']}:" in str(stop.value)
    assert found["documents"]
    assert all(entry["step"] < found["step"] for entry in read_log(workspace))
    saved = [checkpoints.read_checkpoint(workspace, name).step for name in checkpoints.list_checkpoints(workspace)]
    assert all(step < found["step"] for step in saved)


def test_a_gpu_without_room_is_told_what_to_set(workspace, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("curate.pretrain.train.step", full)
    with pytest.raises(CurateError, match=r"at 2 sequences a pass: set pretrain\.micro_batch lower, .*2\.00 GiB"):
        run(workspace)


def test_passes_of_a_step_are_equally_large():
    sizes = []

    def objective(inputs, targets, positions):
        sizes.append(len(inputs))
        return torch.zeros((), requires_grad=True), torch.zeros(())

    rows = torch.zeros((10, 3), dtype=torch.int32)
    for most in (4, 5, 9, 10):
        forward_backward(objective, Loaded(rows, rows, None, 30), most)
    assert sizes == [4, 4, 2, 5, 5, 5, 5, 10]


def test_a_full_disk_while_saving_leaves_the_last_checkpoint_good(workspace, undisturbed, monkeypatch):
    create = Workspace.create

    def full(self, name):
        if name.endswith("00000012/optimizer.safetensors"):
            raise DiskFull("no space left")
        return create(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "create", full)
        with pytest.raises(DiskFull):
            run(workspace)
    assert checkpoints.list_checkpoints(workspace) == [f"{checkpoints.FOLDER}/00000006"]
    run(workspace)
    agrees(workspace, undisturbed)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_model_overfits_one_batch(objective):
    chosen = config(objective=objective, lr=0.01, weight_decay=0.0, width=64).resolved()
    model = Transformer(ModelShape.of(chosen, 61))
    model.init_weights(0)
    (optimizer,) = make_optimizers(model, chosen)
    random = np.random.default_rng(0)
    read = random.integers(0, 60, (4, 25))
    read[:, 0] = [0, 1, 2, 3]  # sequences that begin differently: nothing is left to guess
    batch = Batch(read[:, :-1], read[:, 1:]) if objective == "causal" else corrupted(read, Masking(60, 60), range(4), 0)
    loaded, losses = Loaded.of(batch, torch.device("cpu")), []
    for _ in range(100):
        losses.append(forward_backward(Objective(model), loaded, None).item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[0] == pytest.approx(math.log(61), abs=0.3)
    assert losses[-1] < 0.05


def test_a_masked_run_learns_goes_on_and_shows_what_it_filled_in(workspace):
    settings = {"objective": "masked", "mask_fraction": 0.3, "steps": 60, "lr": 0.01, "kv_heads": 1, "tied": False}
    with pytest.raises(UsageError, match="objective was causal, now masked"):
        run(workspace, steps=6)
        run(workspace, **settings)
    result = pretrain(workspace, config(**settings), progress=lambda event: None, restart=True)
    assert result["model"]["vocab_size"] == 320, "258, with the mask, in rows of 64"
    assert result["train_loss"] < result["first_train_loss"] - 1
    assert result["validation"]["bits_per_byte"] is None
    assert "[MASK]" in result["sample"]["masked"]


def test_steps_come_from_steps_tokens_or_epochs(workspace):
    def steps(**changes):
        return Run.open(workspace, config(**({"steps": None} | changes)), lambda event: None)

    assert steps(steps=7).steps == 7
    assert steps(tokens=1000).steps == math.ceil(1000 / 128)
    twice = steps(epochs=2)
    assert twice.steps == round(2 * twice.data.windows / 4)
    assert twice.epochs == pytest.approx(2, abs=0.05)


def test_a_mix_without_validation_trains_all_the_same(tmp_path):
    place = Workspace(tmp_path)
    text_mix(place, held_out=0)
    assert run(place, steps=3)["validation"] is None


def test_what_is_missing_is_said_before_anything_is_written(tmp_path, workspace):
    empty = Workspace(tmp_path / "empty")
    with pytest.raises(UsageError, match="curate mix"):
        run(empty)
    assert not empty.exists("pretrain")
    workspace.write_bytes("mix/tokenizer.json", b"{}")
    with pytest.raises(CurateError, match="not the tokenizer that made the tokens"):
        run(workspace)


def test_a_tokenizer_that_is_gone_is_named_with_its_workspace(tmp_path, workspace):
    (tmp_path / "w/mix/tokenizer.json").unlink()
    with pytest.raises(CurateError) as caught:
        run(workspace)
    assert str(caught.value) == f"mix/tokenizer.json is missing from {tmp_path}/w: run `curate mix` again"
