"""The commands from end to end, on a checkpoint of a tiny model: finetune, generate, predict, export."""

from __future__ import annotations

import io
import json
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from small_models import labelled, spelt, write_checkpoint, write_rows

from curate.pipeline.cli import main
from curate.pipeline.workspace import Workspace

FAST = ["--device", "cpu", "--epochs", "1", "--batch-size", "16"]


@dataclass
class Done:
    stdout: str
    stderr: str


def run(*arguments, code=0, text=None):
    with patch.object(sys, "__stdout__", io.StringIO()) as machine:  # where --json goes, whatever click captures
        done = CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)
    assert done.exit_code == code, (done.output, done.exception)
    return Done(done.stdout + machine.getvalue(), done.stderr)


def results(done):
    return [line for line in map(json.loads, done.stdout.splitlines()) if line["event"] == "result"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    write_checkpoint(Workspace(folder / "w"))
    write_checkpoint(Workspace(folder / "masked"), objective="masked")
    write_rows(folder / "pairs.jsonl", spelt(40))
    write_rows(folder / "labels.jsonl", [*labelled(40), {"text": "", "label": "rain"}])
    return folder


def test_outputs_are_learnt_written_and_exported(place, tmp_path):
    done = run(
        "finetune", place / "pairs.jsonl", "-w", place / "w", "--name", "qa", "--template", "{input}: {output}", *FAST
    )
    assert "40 rows, 40 used" in done.stderr
    assert "whole outputs right" in done.stdout
    assert f"next: curate generate PROMPT --workspace {place / 'w'} --checkpoint qa" in done.stdout
    asked = ["generate", "001 y", "-w", place / "w", "--count", "5", "--json"]
    (tuned,) = results(run(*asked, "--checkpoint", "qa"))
    assert (tuned["input"], tuned["prompt"]) == ("001 y", "001 y:")
    assert tuned["tokens"] <= 5
    assert tuned["text"] in (tuned["output"], f" {tuned['output']}")
    assert results(run(*asked, "--checkpoint", "qa", "--raw"))[0]["prompt"] == "001 y"
    assert results(run(*asked))[0]["prompt"] == "001 y"
    (facts,) = results(run("export", "-w", place / "w", "--checkpoint", "qa", "-o", tmp_path / "hf", "--json"))
    assert facts["architecture"] == "LlamaForCausalLM"
    assert "| template | `{input}: {output}` |" in (tmp_path / "hf" / "README.md").read_text()
    again = run("export", "-w", place / "w", "-o", tmp_path / "hf", code=2)
    assert "not an empty folder" in again.stderr


def test_labels_are_learnt_given_and_exported(place, tmp_path):
    tune = ["finetune", place / "labels.jsonl", "-w", place / "w", "--name", "topics", "--label", "label", *FAST]
    (result,) = results(run(*tune, "--train", "head", "--json"))
    assert result["data"]["left_out"] == {"no text": 1}
    assert result["validation"].keys() >= {"accuracy", "macro_f1", "majority_accuracy", "majority_macro_f1"}
    assert "the label most often learnt" in run(*tune, "--name", "other").stdout
    rows = ["predict", place / "labels.jsonl", "-w", place / "w", "--checkpoint", "topics"]
    done = run(*rows, "--scores")
    printed = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(printed) == 41
    assert "1 left out: no text (labels.jsonl:41)" in done.stderr
    (facts,) = results(run(*rows, "-o", tmp_path / "out.jsonl", "--json"))
    assert (facts["rows"], facts["used"]) == (41, 40)
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["label"] for line in written] == [line["label"] for line in printed]
    (facts,) = results(run("export", "-w", place / "w", "--checkpoint", "topics", "-o", tmp_path / "hf", "--json"))
    assert facts["architecture"] == "LlamaForSequenceClassification"


def test_prompts_come_from_arguments_files_and_standard_input_alike(place, tmp_path):
    asked = ["generate", "-w", place / "w", "--count", "8", "--json", "--seed", "5"]
    (wanted,) = results(run(*asked, "the sea"))
    (tmp_path / "prompt.txt").write_text("the sea\n")
    assert results(run(*asked, "--prompt-file", tmp_path / "prompt.txt")) == [wanted]
    assert results(run(*asked, text="the sea\n")) == [wanted]
    rows = write_rows(tmp_path / "prompts.jsonl", [{"prompt": "the sea"}, {"input": "a"}])
    both = results(run(*asked, "--prompt-file", rows))
    assert [facts["prompt"] for facts in both] == ["the sea", "a"]
    assert both[0] == wanted
    assert both == results(run(*asked, "the sea", "a", "--batch-size", "1"))
    assert "give prompts or --prompt-file" in run(*asked, "a", "--prompt-file", rows, code=2).stdout
    broken = write_rows(tmp_path / "broken.jsonl", [{"prompt": "a"}, {"text": "b"}])
    assert "broken.jsonl:2: no text in 'prompt' or 'input'" in run(*asked, "--prompt-file", broken, code=2).stdout


def test_few_shot_examples_stand_before_the_prompt_and_the_answer_ends_where_the_next_would_begin(place, tmp_path):
    shots = write_rows(tmp_path / "shots.jsonl", [{"input": "a", "output": "b"}, {"input": "c", "output": "d"}])
    asked = ["generate", "e", "-w", place / "w", "--examples", shots, "--count", "6"]
    (facts,) = results(run(*asked, "--json"))
    assert facts["prompt"] == "a\nb\n\nc\nd\n\ne\n"
    assert "\n\n" not in facts["text"]
    (facts,) = results(run(*asked, "--json", "--template", "Q: {input}\\nA: {output}"))
    assert facts["prompt"] == "Q: a\nA: b\n\nQ: c\nA: d\n\nQ: e\nA:"
    assert run(*asked, "--show-prompt").stdout.startswith("a\nb\n\nc\nd\n\ne\n")
    long = write_rows(tmp_path / "long.jsonl", [{"input": "a" * 40, "output": "b" * 40}])
    done = run("generate", "e", "-w", place / "w", "--examples", long, "--count", "6")
    assert "note: the model reads 64 tokens: of the prompt, the first 21 are not seen" in done.stderr
    assert "leave out --template and --examples" in run(*asked, "--raw", code=2).stderr


def test_a_masked_model_fills_masks_and_says_so_where_there_are_none(place, tmp_path):
    (facts,) = results(run("generate", "the [MASK] a", "-w", place / "masked", "--json"))
    assert len(facts["masks"]) == 1
    assert "  mask 1: " in run("generate", "the [MASK] a", "-w", place / "masked").stdout
    assert "write [MASK] in the prompt" in run("generate", "the sea", "-w", place / "masked", code=2).stderr
    (facts,) = results(run("export", "-w", place / "masked", "-o", tmp_path / "hf", "--dtype", "bfloat16", "--json"))
    assert (facts["architecture"], facts["dtype"]) == ("EuroBertForMaskedLM", "bfloat16")
    assert (facts["pipeline"], facts["prompt"]) == ("fill-mask", "Some [MASK] text")


def test_the_command_that_export_names_runs(place, tmp_path):
    pytest.importorskip("transformers")
    for name in ("w", "masked"):
        done = run("export", "-w", place / name, "-o", tmp_path / name)
        program = shlex.split(done.stdout.partition("next: python -c ")[2])[0]
        assert f'pipeline("{"fill-mask" if name == "masked" else "text-generation"}"' in program
        with redirect_stdout(io.StringIO()) as printed:
            exec(program)
        assert printed.getvalue().startswith("[{")


def test_options_that_do_not_go_together_are_refused(place, tmp_path):
    tune = ["finetune", place / "labels.jsonl", "-w", place / "w", "--name", "x"]
    assert "the same column, 'text'" in run(*tune, "--label", "text", code=2).stderr
    assert "not a number" in run(*tune, "--label", "label", "--warmup", "nan", code=2).stderr
    assert "not a number" in run("generate", "a", "-w", place / "w", "--temperature", "inf", code=2).stderr
    assert "--stop needs a text" in run("generate", "a", "-w", place / "w", "--stop", "", code=2).stderr
    for more in (["--stop", "b"], ["--template", "{input}{output}"]):
        done = run("generate", "[MASK]", "-w", place / "masked", *more, code=2)
        assert "a masked model fills in words: leave out" in done.stderr
    assert "leave out --input and --output" in run(*tune, "--label", "label", "--input", "text", code=2).stderr
    assert "--text goes with --label" in run(*tune, "--text", "text", code=2).stderr
    assert "--template goes with inputs" in run(*tune, "--label", "l", "--template", "{input}{output}", code=2).stderr
    assert "a learning rate lies above 0" in run(*tune, "--label", "label", "--lr", "3", code=2).stderr
    assert "no column 'output'" in run(*tune, "--input", "text", code=2).stderr
    assert "run `curate pretrain` first" in run("generate", "a", "-w", tmp_path, code=2).stderr
    assert (
        "no checkpoint 'y'"
        in run("export", "-w", place / "w", "--checkpoint", "y", "-o", tmp_path / "o", code=2).stderr
    )
