"""TensorBoard and Weights & Biases get what the log gets, each step once; a missing package is named."""

from __future__ import annotations

import json
import sys

import pytest
from mixes import text_mix
from small_models import spelt, write_checkpoint, write_rows

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.finetune import FinetuneConfig, finetune
from curate.pretrain.log import read_log
from curate.pretrain.trackers import check_trackers, scalars
from curate.pretrain.train import pretrain

SMALL = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 16, "sequence_length": 16, "batch_size": 2, "steps": 9, "log_every": 1,
    "checkpoint_every": 4, "eval_every": 4, "eval_tokens": 200, "sample_tokens": 0, "device": "cpu",
}  # fmt: skip


class Cut(Exception):
    """The process is gone."""


def run(workspace, *, stop_after=None, **changes):
    def progress(event):
        if event["event"] == "step" and event["step"] == stop_after:
            raise Cut

    return pretrain(workspace, PretrainConfig(**(SMALL | changes)), progress=progress)


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path / "w")
    text_mix(place)
    return place


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def assert_agrees(folder, workspace):
    """Every number of the log is there, at its step, once."""
    found = events(folder)
    assert set(found.Tags()["scalars"]) >= {"loss", "lr", "tokens_per_second", "data_wait", "validation/bits_per_byte"}
    for name in ("loss", "validation/loss", "validation/buckets/sea/loss"):
        logged = {entry["step"]: scalars(entry)[name] for entry in read_log(workspace) if name in scalars(entry)}
        shown = found.Scalars(name)
        assert [event.step for event in shown] == sorted(logged)
        assert [event.value for event in shown] == pytest.approx([logged[event.step] for event in shown], rel=1e-6)


def test_tensorboard_has_every_step_once_after_a_run_was_cut_off_between_checkpoints(workspace, tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(Cut):
        run(workspace, stop_after=7, trackers=["tensorboard"])
    assert read_log(workspace)[-1]["step"] == 7
    run(workspace, trackers=["tensorboard"])
    assert_agrees(tmp_path / "w/pretrain/tensorboard", workspace)


def test_tensorboards_files_come_to_a_workspace_that_is_not_local(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = Workspace(f"memory://{tmp_path.name}-trackers")
    text_mix(remote)
    with pytest.raises(Cut):
        run(remote, stop_after=7, trackers=["tensorboard"])
    run(remote, trackers=["tensorboard"])
    (tmp_path / "copy").mkdir()
    for name in remote.list("pretrain/tensorboard"):
        with remote.open(name) as stream:
            (tmp_path / "copy" / name.rpartition("/")[2]).write_bytes(stream.read())
    assert_agrees(tmp_path / "copy", remote)


class FakeRun:
    def __init__(self, calls, **options):
        self.calls = calls
        calls.append(("init", options["id"], options["resume"]))

    def log(self, values, step):
        self.calls.append(("log", step, values))

    def finish(self, exit_code):
        self.calls.append(("finish", exit_code))


def test_wandb_goes_on_with_the_same_run_and_sends_no_step_twice(workspace, monkeypatch):
    wandb, calls = pytest.importorskip("wandb"), []
    monkeypatch.setattr(wandb, "init", lambda **options: FakeRun(calls, **options))
    with pytest.raises(Cut):
        run(workspace, stop_after=7, trackers=["wandb"])
    run(workspace, trackers=["wandb"])
    starts = [call for call in calls if call[0] == "init"]
    assert len(starts) == 2 and starts[0] == starts[1] == ("init", starts[0][1], "allow")
    losses = [(step, values["loss"]) for kind, step, values in (c for c in calls if c[0] == "log") if "loss" in values]
    assert losses == [(entry["step"], entry["loss"]) for entry in read_log(workspace) if "loss" in entry]
    assert [call[1] for call in calls if call[0] == "finish"] == [1, 0]


def test_wandb_is_told_the_validation_before_the_first_step_of_fine_tuning(tmp_path, monkeypatch):
    wandb, calls = pytest.importorskip("wandb"), []
    monkeypatch.setattr(wandb, "init", lambda **options: FakeRun(calls, **options))
    place, name = tuned(tmp_path, ["wandb"])
    logged = read_log(place, f"{name}/log.jsonl")
    assert logged[0]["step"] == 0 and "validation" in logged[0]
    assert [call[1:] for call in calls if call[0] == "log"] == [(entry["step"], scalars(entry)) for entry in logged]
    assert place.exists(f"{name}/wandb.json") and not place.exists("pretrain/wandb.json")


def test_tensorboard_shows_a_fine_tuning_run_from_its_own_folder(tmp_path):
    pytest.importorskip("tensorboard")
    place, name = tuned(tmp_path, ["tensorboard"])
    shown = events(place.path(f"{name}/tensorboard")).Scalars("validation/exact")
    assert [event.step for event in shown] == [
        e["step"] for e in read_log(place, f"{name}/log.jsonl") if "validation" in e
    ]


def tuned(tmp_path, trackers):
    place = Workspace(tmp_path / "tuned")
    write_checkpoint(place)
    rows = write_rows(tmp_path / "rows.jsonl", spelt(24))
    columns = {"input": "input", "output": "output"}
    config = FinetuneConfig(
        task="outputs", columns=columns, device="cpu", batch_size=8, epochs=2, log_every=1, trackers=trackers
    )
    finetune(place, "qa", [rows], config, progress=lambda event: None)
    return place, "pretrain/finetune/qa"


@pytest.mark.slow
def test_wandb_offline_writes_into_the_workspace(workspace, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(workspace, trackers=["wandb"])
    assert list((tmp_path / "w/pretrain/wandb").glob("offline-run-*/*.wandb"))
    assert json.loads((tmp_path / "w/pretrain/wandb.json").read_text())["id"]


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_an_error_that_names_the_extra_and_nothing_is_removed(workspace, monkeypatch, name):
    run(workspace)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"pip install 'curate-web\[{name}\]'"):
        pretrain(workspace, PretrainConfig(**SMALL, trackers=[name]), progress=lambda event: None, restart=True)
    assert workspace.exists("pretrain/result.json")


def test_without_trackers_nothing_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    check_trackers([])


def test_trackers_do_not_change_what_is_learnt(workspace):
    pytest.importorskip("tensorboard")
    run(workspace)
    run(workspace, trackers=["tensorboard"])  # a finished run: refused if the setting belonged to it


def test_the_numbers_of_a_line_are_named_by_their_path():
    entry = {
        "step": 3,
        "loss": 1,
        "done": True,
        "validation": {"loss": 2.0, "bits_per_byte": None, "buckets": {"a/b": {"loss": 4.0}}},
    }
    assert scalars(entry) == {"loss": 1.0, "validation/loss": 2.0, "validation/buckets/a/b/loss": 4.0}
