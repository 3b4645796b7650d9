"""Fine-tuning learns what it is shown, stops and goes on bitwise, touches only what it is told to, and counts every row."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_models import labelled, spelt, write_checkpoint, write_rows

from curate.classifiers.rows import Columns
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.classifier import Classifier
from curate.pretrain.examples import (
    Example,
    ExampleBatches,
    Rejected,
    Row,
    Template,
    collate,
    encode_output,
    read_rows,
    split,
)
from curate.pretrain.finetune import FinetuneConfig, finetune, score_labels, score_outputs
from curate.pretrain.log import read_log
from curate.pretrain.loss import IGNORE
from curate.pretrain.model import ModelShape
from curate.pretrain.predict import predict_rows
from curate.pretrain.train import Stopped
from curate.pretrain.trained import open_trained
from curate.pretrain.write import Writing, write

OUTPUTS = {"task": "outputs", "columns": {"input": "input", "output": "output"}}
LABELS = {"task": "labels", "columns": {"text": "text", "label": "label"}}
FAST = {"device": "cpu", "batch_size": 8, "log_every": 1}


def tune(workspace, name, rows, progress=lambda event: None, restart=False, **settings):
    config = FinetuneConfig(**(FAST | settings))
    return finetune(workspace, name, [rows], config, progress=progress, restart=restart)


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path / "w")
    write_checkpoint(place)
    return place


def folder(workspace, name, step):
    return workspace.path(f"pretrain/finetune/{name}/checkpoints/{step:08d}")


# --- it learns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_a_classifier_learns_labels_that_stand_in_the_text(tmp_path, objective):
    workspace = Workspace(tmp_path / "w")
    write_checkpoint(workspace, objective=objective)
    rows = write_rows(tmp_path / "rows.jsonl", labelled(150))
    result = tune(workspace, "topics", rows, epochs=4, lr=4e-3, validation=0.2, **LABELS)
    scores = result["validation"]
    assert scores["rows"] == 30
    assert scores["accuracy"] == scores["macro_f1"] == 1.0
    assert 0.2 < scores["majority_accuracy"] < 0.5
    assert scores["majority_macro_f1"] < 0.25
    assert result["before"]["accuracy"] < 0.7
    found = list(
        predict_rows(open_trained(workspace, "topics"), [rows], Columns(optional=frozenset({"id"})), Rejected())
    )
    assert [line["label"] for line in found] == [row["label"] for row in labelled(150)]
    assert all(0.5 < line["score"] <= 1 for line in found)


def test_a_model_learns_to_write_the_output_and_the_template_is_kept_with_it(workspace, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", spelt(120))
    result = tune(workspace, "spell", rows, epochs=8, lr=4e-3, template="in {input} out {output}", **OUTPUTS)
    assert result["before"]["exact"] == 0.0
    assert result["validation"]["exact"] == result["validation"]["token_accuracy"] == 1.0
    trained = open_trained(workspace, "spell")
    form = Template(trained.finetune["template"])
    written = write(trained, [form.prompt("500 y"), form.prompt("501 z")], Writing(count=8))
    assert [(facts["text"], facts["finish"]) for facts in written] == [(" yyy", "end"), (" zzz", "end")]


def test_only_the_head_learns_if_only_the_head_shall(workspace, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", labelled(60))
    result = tune(workspace, "probe", rows, epochs=4, train="head", **LABELS)
    before = load_file(workspace.path("pretrain/checkpoints/00000007/model.safetensors"))
    after = load_file(f"{folder(workspace, 'probe', result['steps'])}/model.safetensors")
    assert set(after) - set(before) == {"classifier.score.weight"}
    assert all(after[name].equal(value) for name, value in before.items())
    drawn = Classifier(ModelShape(**open_trained(workspace).checkpoint.state["model"]), 3)
    drawn.init_head(0)
    assert not after["classifier.score.weight"].equal(drawn.classifier.score.weight)
    assert result["parameters_learning"] == 3 * 32
    moments = load_file(f"{folder(workspace, 'probe', result['steps'])}/optimizer.safetensors")
    assert {name.rpartition(".")[0] for name in moments} == {"classifier.score.weight"}
    everything = tune(workspace, "all", rows, epochs=1, **LABELS)
    tuned = load_file(f"{folder(workspace, 'all', everything['steps'])}/model.safetensors")
    assert not any(tuned[name].equal(value) for name, value in before.items())


# --- it goes on -------------------------------------------------------------------------------------------------------

DRIVER = """
import json, os, signal, sys
import torch
from curate.pipeline.workspace import Workspace
from curate.pretrain.finetune import FinetuneConfig, finetune
torch.set_num_threads(1)
root, rows, settings = sys.argv[1:4]
def progress(event):
    if event["event"] == "step" and event["step"] == 9:
        os.kill(os.getpid(), signal.SIGKILL)
finetune(Workspace(root), "x", [rows], FinetuneConfig(**json.loads(settings)), progress=progress)
"""


def learnt(place):
    entries = read_log(place, "pretrain/finetune/x/log.jsonl")
    return [{key: entry.get(key) for key in ("step", "loss", "grad_norm", "validation")} for entry in entries]


def agrees(ours, theirs, step):
    """Both runs learnt and wrote exactly the same."""
    assert learnt(ours) == learnt(theirs)
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (load_file(f"{folder(place, 'x', step)}/{name}") for place in (ours, theirs))
        assert one.keys() == other.keys()
        assert all(one[key].equal(value) for key, value in other.items())


def two(tmp_path, rows):
    """Two workspaces with the same checkpoint, and the rows."""
    places = Workspace(tmp_path / "u"), Workspace(tmp_path / "d")
    for place in places:
        write_checkpoint(place)
    return *places, write_rows(tmp_path / "rows.jsonl", rows)


STOPPING = {"epochs": 2, "checkpoint_every": 4, "lr": 1e-3}


@pytest.mark.parametrize(("task", "rows"), [(OUTPUTS, spelt(60)), (LABELS, labelled(60))])
def test_a_run_that_was_stopped_goes_on_with_bitwise_the_same_losses(tmp_path, task, rows):
    undisturbed, disturbed, file = two(tmp_path, rows)
    result = tune(undisturbed, "x", file, **STOPPING, **task)

    def stop(event):
        if event["event"] == "step" and event["step"] == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    def fail(event):
        if event["event"] == "step" and event["step"] == 2:
            raise ConnectionError

    with pytest.raises(ConnectionError):  # before the first checkpoint
        tune(disturbed, "x", file, fail, **STOPPING, **task)
    with pytest.raises(Stopped, match="checkpoint saved: run again to go on"):
        tune(disturbed, "x", file, stop, **STOPPING, **task)
    assert 8 <= open_trained(disturbed, "x").checkpoint.step < result["steps"]
    assert tune(disturbed, "x", file, **STOPPING, **task) == result
    agrees(disturbed, undisturbed, result["steps"])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_bitwise_the_same_losses(tmp_path):
    undisturbed, disturbed, file = two(tmp_path, labelled(60))
    settings = FAST | LABELS | STOPPING
    result = tune(undisturbed, "x", file, **settings)
    arguments = [sys.executable, "-c", DRIVER, disturbed.root, file, json.dumps(settings)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert open_trained(disturbed, "x").checkpoint.step == 8
    assert tune(disturbed, "x", file, **settings) == result
    agrees(disturbed, undisturbed, result["steps"])


def test_other_rows_another_base_or_another_setting_are_refused_by_name_until_a_restart(workspace, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", labelled(40))
    first = tune(workspace, "x", rows, epochs=1, **LABELS)
    assert tune(workspace, "x", rows, epochs=1, **LABELS) == first
    with pytest.raises(UsageError, match="finetune's train was all, now head"):
        tune(workspace, "x", rows, epochs=1, train="head", **LABELS)
    other = write_rows(tmp_path / "other.jsonl", labelled(41))
    with pytest.raises(UsageError, match=r"finetune's rows was 40, now 41; finetune's sha256 was"):
        tune(workspace, "x", other, epochs=1, **LABELS)
    assert tune(workspace, "x", other, epochs=1, restart=True, **LABELS)["finetune"]["rows"] == 41
    assert open_trained(workspace).checkpoint.step == 7, "the pretraining run is still there"


def test_what_does_not_fit_is_refused_with_what_to_do(workspace, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", labelled(30))
    pairs = write_rows(tmp_path / "pairs.jsonl", spelt(30))
    with pytest.raises(UsageError, match="--train head goes with labels"):
        tune(workspace, "x", pairs, train="head", **OUTPUTS)
    with pytest.raises(UsageError, match="no column 'output' in any row"):
        tune(workspace, "x", rows, task="outputs", columns={"input": "text", "output": "output"})
    with pytest.raises(UsageError, match="beginning with a letter"):
        tune(workspace, "../x", rows, **LABELS)
    one = write_rows(tmp_path / "one.jsonl", labelled(30)[::3])
    with pytest.raises(UsageError, match="one label only, 'rain'"):
        tune(workspace, "x", one, **LABELS)
    tune(workspace, "x", rows, epochs=1, **LABELS)
    with pytest.raises(UsageError, match="is a classifier: begin from a model that was pretrained"):
        tune(workspace, "y", rows, checkpoint="x", **LABELS)
    with pytest.raises(UsageError, match="is a classifier and writes nothing: use `curate predict`"):
        write(open_trained(workspace, "x"), ["a"], Writing())
    with pytest.raises(UsageError, match="is no classifier: make one with `curate finetune --label"):
        list(predict_rows(open_trained(workspace), [rows], Columns(), Rejected()))
    masked = Workspace(tmp_path / "m")
    write_checkpoint(masked, objective="masked")
    with pytest.raises(UsageError, match="a masked model cannot write outputs"):
        tune(masked, "x", pairs, **OUTPUTS)


# --- rows -------------------------------------------------------------------------------------------------------------

BAD = [
    {"text": "a sea", "label": "x"},
    "{not json",
    '["a", "list"]',
    {"text": "   ", "label": "x"},
    {"label": "x"},
    {"text": "b sea", "label": None},
    {"text": "c sea", "label": 1.0},
    {"text": 5, "label": True},
    {"text": "long " * 40, "label": "x"},
    {"text": ["d"], "label": "x"},
]


def test_every_row_is_used_cut_or_left_out_with_its_reason_and_place(workspace, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", BAD + labelled(20))
    events = []
    result = tune(workspace, "x", file, events.append, epochs=1, **LABELS)
    data = result["data"]
    assert data["rows"] == 30 == data["used"] + sum(data["left_out"].values())
    assert data["left_out"] == {
        "a line that is no JSON": 1, "a line that is no JSON object": 1, "no label": 1, "no text": 3,
    }  # fmt: skip
    assert data["cut"] == {"cut at the end: longer than 63 tokens": 1}
    assert data["train"] + data["validation"] == 24
    with workspace.open("pretrain/finetune/x/rejected.jsonl") as stream:
        named = {entry["row"]: entry["reason"] for entry in map(json.loads, stream)}
    assert named["rows.jsonl:2"] == "a line that is no JSON"
    assert sorted(named) == sorted(f"rows.jsonl:{number}" for number in (2, 3, 4, 5, 6, 9, 10))
    assert "3 left out: no text (rows.jsonl:4, rows.jsonl:5, rows.jsonl:10)" in events[0]["line"]


def test_where_no_row_can_be_used_the_reasons_are_said(workspace, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", [{"text": "", "label": "a"}, {"text": "x", "label": ""}])
    with pytest.raises(CurateError, match=r"no row can be used: .*1 left out: no label \(rows.jsonl:2\)"):
        tune(workspace, "x", file, **LABELS)


def test_predictions_have_a_row_for_every_row_in_order(workspace, tmp_path):
    tune(workspace, "x", write_rows(tmp_path / "rows.jsonl", labelled(40)), epochs=1, **LABELS)
    file = write_rows(
        tmp_path / "in.jsonl", [{"id": "a", "text": "rain"}, "{", {"id": "c", "text": ""}, {"text": "x" * 99}]
    )
    rejected = Rejected()
    columns = Columns(id="id", optional=frozenset({"id"}))
    found = list(predict_rows(open_trained(workspace, "x"), [file], columns, rejected, every=True))
    assert [line.get("id") or line["row"] for line in found] == ["a", "in.jsonl:2", "c", "in.jsonl:4"]
    assert [line.get("problem") for line in found] == [None, "a line that is no JSON", "no text", None]
    for line in (found[0], found[3]):
        assert sum(line["scores"].values()) == pytest.approx(1, abs=1e-5)
        assert line["score"] == max(line["scores"].values()) == line["scores"][line["label"]]
    assert rejected.counts()["left_out"] == {"a line that is no JSON": 1, "no text": 1}
    assert rejected.counts()["cut"] == {"cut at the end: longer than 63 tokens": 1}


# --- tokens -----------------------------------------------------------------------------------------------------------


def codes(text: str) -> list[int]:
    return [ord(character) for character in text]


def test_the_loss_is_on_the_output_and_its_end_alone():
    row = Row("f:1", {"input": "ab", "output": "cd"})
    example = encode_output(row, Template.of("{input} => {output}"), codes, 0, 64, Rejected())
    assert example.ids.tolist() == [0, *codes("ab =>"), *codes(" cd"), 0]
    batch = collate([example], "outputs", 0)
    assert batch.inputs[0, :9].tolist() == [0, *codes("ab => cd")]
    assert batch.targets[0, :9].tolist() == [IGNORE] * 5 + [*codes(" cd"), 0]
    assert (batch.targets[0, 9:] == IGNORE).all()


def test_of_what_is_too_long_the_inputs_beginning_goes_first_and_both_are_counted():
    rejected = Rejected()
    form = Template.of("{input}>{output}")
    long_input = encode_output(Row("f:1", {"input": "abcdefgh", "output": "xy"}), form, codes, 0, 8, rejected)
    long_output = encode_output(Row("f:2", {"input": "ab", "output": "stuvwxyz"}), form, codes, 0, 8, rejected)
    assert long_input.ids.tolist() == [0, *codes("efgh>xy"), 0]
    assert long_output.ids.tolist() == [0, *codes("stuvwxyz")]
    assert rejected.counts()["cut"] == {
        "cut at the input's beginning: longer than 8 tokens": 1, "cut: the output is longer than 7 tokens": 1,
    }  # fmt: skip


def test_a_template_without_its_parts_is_refused_and_a_value_with_braces_is_not():
    for text in ("{input}", "{output}{input}", "{input}{output}{output}", ""):
        with pytest.raises(UsageError, match="it must hold"):
            Template.of(text)
    form = Template.of(r"Q: {input}\nA: {output}.")
    assert form.whole("{output} {x}", "{input}") == "Q: {output} {x}\nA: {input}."
    assert form.before("q") == "Q: q\nA:"
    assert form.output(form.answer("x y")) == "x y"
    assert form.prompt("q", [("1", "2")]) == "Q: 1\nA: 2.\n\nQ: q\nA:"


@given(
    st.lists(st.integers(2, 70), min_size=1, max_size=120), st.integers(1, 9), st.integers(20, 200), st.integers(0, 3)
)
def test_an_epoch_visits_each_row_once_in_batches_within_bounds(sizes, rows, tokens, seed):
    examples = [Example(str(number), np.arange(size), begin=1) for number, size in enumerate(sizes)]

    def made():
        return ExampleBatches(examples, task="outputs", seed=seed, pad=0, batch_size=rows, batch_tokens=tokens)

    data = made()
    ends = [0, *(data.steps(epoch) for epoch in (1, 2, 3))]
    for first, last in itertools.pairwise(ends):
        seen = [int(number) for step in range(first, last) for number in data.chosen(step)]
        assert sorted(seen) == list(range(len(sizes)))
    if len(sizes) > 20:
        orders = [[list(data.chosen(step)) for step in range(*span)] for span in itertools.pairwise(ends)]
        assert orders[0] != orders[1]
    for step in range(ends[1]):
        shape = data.batch(step).inputs.shape
        assert len(data.documents(step)) == shape[0] <= rows
        assert shape[0] == 1 or shape[0] * shape[1] <= tokens + 8 * shape[0]
    again = made()
    last = ends[-1] - 1
    assert again.chosen(last).tolist() == data.chosen(last).tolist()
    assert again.chosen(0).tolist() == data.chosen(0).tolist()


@given(st.lists(st.text(max_size=3), min_size=2, max_size=60), st.floats(0, 0.9), st.integers(0, 5))
def test_equal_texts_are_held_out_together_and_something_is_left_to_learn(texts, fraction, seed):
    held = split(texts, fraction, seed)
    sides = {text: {out for other, out in zip(texts, held, strict=True) if other == text} for text in texts}
    assert all(len(side) == 1 for side in sides.values())
    assert not all(held)
    count = sum(True in side for side in sides.values())
    assert count == (0 if not fraction else min(max(1, round(fraction * len(sides))), len(sides) - 1))
    assert split(texts[::-1], fraction, seed) == held[::-1]


def test_columns_of_any_name_are_read_and_numbers_are_texts(tmp_path):
    file = write_rows(tmp_path / "r.jsonl", [{"q": {"text": "a"}, "a": 7}, {"q": {"text": ""}, "a": 1}])
    rejected = Rejected()
    rows = list(read_rows([file], {"input": "q.text", "output": "a"}, rejected))
    assert [row.values for row in rows] == [{"input": "a", "output": "7"}]
    assert rejected.left_out == {"no input": ["r.jsonl:2"]}


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_outputs_are_those_of_each_row_alone(workspace):
    model = open_trained(workspace).model
    draw = np.random.default_rng(0)
    examples = [Example("", draw.integers(0, 256, size), begin=int(draw.integers(1, 5))) for size in (6, 9, 17, 30)]
    found = score_outputs(model, [examples[:3], examples[3:]], pad=256)
    nats, right, exact = [], [], 0
    for example in examples:
        logits = model(torch.from_numpy(example.ids[None, :-1]))[0, example.begin - 1 :]
        wanted = torch.from_numpy(example.ids[example.begin :])
        nats.append(torch.nn.functional.cross_entropy(logits, wanted, reduction="none").detach())
        hits = logits.argmax(-1) == wanted
        right.append(hits)
        exact += bool(hits.all())
    assert found["loss"] == pytest.approx(float(torch.cat(nats).mean()), rel=1e-5)
    assert found["token_accuracy"] == pytest.approx(float(torch.cat(right).float().mean()))
    assert found["exact"] == exact / 4


def test_a_label_that_was_not_learnt_counts_as_wrong():
    model = Classifier(ModelShape(64, layers=1, width=8, heads=2, kv_heads=2, ffn=8), 2)
    model.init_weights(0)
    with torch.no_grad():
        model.classifier.score.weight.zero_()  # the first label, always
    held = [Example("", np.array([1, 2]), label=label) for label in (0, 0, 1, -1)]
    learnt = [Example("", np.array([1]), label=label) for label in (1, 1, 0)]
    found = score_labels(model, [held], 0, 2, learnt)
    assert (found["accuracy"], found["majority_accuracy"]) == (0.5, 0.25)
    assert found["macro_f1"] == pytest.approx((2 * 2 / 6 + 0 + 0) / 3)
    assert found["loss"] == pytest.approx(np.log(2))


@pytest.mark.parametrize("causal", [True, False])
def test_what_fills_a_row_up_changes_nothing(causal):
    model = Classifier(ModelShape(64, layers=2, width=16, heads=2, kv_heads=2, ffn=16, causal=causal), 3)
    model.init_weights(0)
    model.init_head(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0)
        rows = [torch.tensor([[5, 6, 7]]), torch.tensor([[9] * 8]), torch.tensor([[1]])]
        alone = torch.cat([model.classify(row, torch.tensor([row.size(1)])) for row in rows])
        filled = torch.full((3, 16), 63)
        for place, row in enumerate(rows):
            filled[place, : row.size(1)] = row
        together = model.classify(filled, torch.tensor([3, 8, 1]))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert alone.std() > 0.1
