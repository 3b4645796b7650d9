"""Fine-tuning: a trained model learns to give an output to an input, or a label to a text.

It is a training run like any other, with the loop, the log and the checkpoints of pretraining, in a folder of its own:

    pretrain/finetune/<name>/checkpoints/<step>/…   as in pretraining; `state.json` has `finetune`: task, template, labels …
                             log.jsonl              the validation before the first step is its first line
                             rejected.jsonl         every row that was not used or not used whole: place, reason
                             result.json            the scores beside those of the model before, or of the majority's label
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from curate.classifiers import metrics
from curate.pipeline.config import Strict
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.classifier import Classifier, LabelObjective, chances
from curate.pretrain.config import Training
from curate.pretrain.data import Int64
from curate.pretrain.examples import (
    Example,
    ExampleBatches,
    Rejected,
    Row,
    Template,
    collate,
    encode_output,
    encode_text,
    read_rows,
    split,
)
from curate.pretrain.log import RunLog, read_log
from curate.pretrain.loss import IGNORE, Objective
from curate.pretrain.model import Transformer
from curate.pretrain.optim import make_optimizers
from curate.pretrain.run import Progress, Run
from curate.pretrain.trackers import check_trackers, open_trackers
from curate.pretrain.train import train, validate
from curate.pretrain.trained import FINETUNED, Trained, open_trained

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")
CHUNK = 4096
"""Predictions whose logits exist at one time in validation."""


class FinetuneConfig(Strict):
    """How a model is fine-tuned."""

    task: Literal["outputs", "labels"]
    """`outputs`: (input, output) rows, the loss on the outputs alone; `labels`: (text, label) rows and a new head."""
    checkpoint: str | None = None
    """What to begin from (`trained.find_checkpoint`); the newest of pretraining where empty."""
    columns: dict[str, str]
    """Columns of the rows: of input and output, or of text and label."""
    template: str = Template().text
    """How an input and an output become one text (`Template`); for outputs."""
    train: Literal["head", "all"] = "all"
    """All weights learn, or only the head that gives the labels."""
    epochs: int = Field(default=3, ge=1, le=10_000)
    lr: float | None = Field(default=None, gt=0, le=1)
    """Highest learning rate; where empty a tenth of the pretraining's, and 1e-3 where only the head learns."""
    warmup: float = Field(default=0.1, ge=0, le=1)
    """Part of the steps in which the learning rate rises; then it falls to 0 on a line."""
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, ge=0)
    batch_size: int = Field(default=32, ge=1)
    """Rows in a step at most."""
    batch_tokens: int = Field(default=16_384, ge=1)
    """Tokens in a step at most, with what rows are filled up with."""
    max_length: int | None = Field(default=None, ge=8)
    """Tokens of a row at most; what the model was trained on where empty, and never more."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Part of the distinct inputs or texts that is held out to score."""
    seed: int = Field(default=0, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list)
    """Where the log is shown as well, as in pretraining."""
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)
    keep: int = Field(default=1, ge=1)


def finetune(
    workspace: Workspace, name: str, files: Sequence[str], config: FinetuneConfig, *, progress: Progress, restart: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Fine-tunes a checkpoint on the rows of JSONL or Parquet files, and gives what it writes to `result.json`.

    Goes on from the run's newest checkpoint, exactly as if it had not stopped; `restart` removes an earlier run of that name
    first. Raises UsageError for a column, file, checkpoint or setting that does not fit or belongs to another run; CurateError
    where no row can be used or the loss is not finite; Stopped after SIGTERM or SIGINT.
    """
    if not NAME.match(name):
        raise UsageError(f"name {name!r}: letters, digits, `.`, `_` and `-`, beginning with a letter")
    check_trackers(config.trackers)
    base = open_trained(workspace, config.checkpoint, config.device)
    base.compute_as_trained()
    _refuse(base, config)
    material = _read(base, files, config)
    run = _run(workspace, name, base, material, config, progress)
    if restart:
        run.remove()
    run.resume()
    result = f"{run.folder}/result.json"
    finished = workspace.read_json(result) if run.step == run.steps else None
    if finished is not None and finished.get("finetune") == run.state["finetune"]:
        progress({"event": "done", "line": f"finetune {name} was complete already"} | finished)
        return dict(finished)
    lines = [f"finetune {name} ({config.task}): from {base.checkpoint.name}", *material.rejected.lines()]
    lines.append(f"{len(material.train):,} rows to learn from, {len(material.held):,} held out; {run.steps:,} steps")
    progress({"event": "start", "line": "\n".join(lines), "step": run.step, "steps": run.steps}
             | material.rejected.counts())  # fmt: skip
    _write_rejected(workspace, f"{run.folder}/rejected.jsonl", material.rejected)
    with RunLog(workspace, run.step, f"{run.folder}/log.jsonl") as log:
        names = config.trackers
        log.trackers = open_trackers(workspace, run.folder, names, step=run.step, seen=log.seen, facts=run.state)
        if run.validates and not read_log(workspace, f"{run.folder}/log.jsonl"):
            log.write(validate(run))
        train(run, log)
        if run.validates and not run.held_scores:
            validate(run)  # resumed after the last step
        log.sync()
    found = _result(run, name, base, material)
    workspace.write_json(result, found)
    progress({"event": "done", "line": "\n".join(result_lines(found))} | found)
    return found


@dataclass(frozen=True)
class _Material:
    train: list[Example]
    held: list[Example]
    labels: list[str]
    rejected: Rejected
    identity: dict[str, Any]


def _refuse(base: Trained, config: FinetuneConfig) -> None:
    if base.task == "labels":
        raise UsageError(f"{base.checkpoint.name} is a classifier: begin from a model that was pretrained")
    if config.task == "outputs":
        if not base.model.shape.causal:
            raise UsageError(
                "a masked model cannot write outputs: pretrain one with pretrain.objective=causal, or give it labels"
            )
        if config.train == "head":
            raise UsageError("--train head goes with labels: outputs are written by the whole model")


def _read(base: Trained, files: Sequence[str], config: FinetuneConfig) -> _Material:
    """Reads, splits and encodes the rows."""
    rejected = Rejected()
    rows = list(read_rows(files, config.columns, rejected))
    if not rows:
        raise CurateError("no row can be used: " + "; ".join(rejected.lines()))
    first, second = ("input", "output") if config.task == "outputs" else ("text", "label")
    held = split([row.values[first] for row in rows], config.validation, config.seed)
    labels: list[str] = []
    if config.task == "labels":
        labels = sorted({row.values["label"] for row, out in zip(rows, held, strict=True) if not out})
        if len(labels) < 2:
            raise UsageError(f"the rows to learn from have one label only, {labels[0]!r}: there must be two or more")
    length = min(config.max_length or base.length, base.length)
    examples = [_encode(row, base, config, labels, length, rejected) for row in rows]
    digest = hashlib.sha256()
    for row, out in zip(rows, held, strict=True):
        digest.update(json.dumps([row.values[first], row.values[second], out]).encode())
    return _Material(
        [example for example, out in zip(examples, held, strict=True) if not out],
        [example for example, out in zip(examples, held, strict=True) if out],
        labels,
        rejected,
        {"rows": len(rows), "sha256": digest.hexdigest(), "length": length},
    )


def _encode(
    row: Row, base: Trained, config: FinetuneConfig, labels: list[str], length: int, rejected: Rejected
) -> Example:
    if config.task == "outputs":
        return encode_output(row, Template.of(config.template), base.encode, base.eos, length, rejected)
    ids = encode_text(row.values["text"], row.place, base.encode, base.eos, length, rejected)
    label = row.values["label"]
    return Example(row.place, ids, label=labels.index(label) if label in labels else -1)


def _write_rejected(workspace: Workspace, name: str, rejected: Rejected) -> None:
    rows = [
        (place, reason) for group in (rejected.left_out, rejected.cut) for reason in group for place in group[reason]
    ]
    lines = "".join(json.dumps({"row": place, "reason": reason}) + "\n" for place, reason in rows)
    workspace.write_bytes(name, lines.encode())


# --- the run ----------------------------------------------------------------------------------------------------------


def _run(
    workspace: Workspace, name: str, base: Trained, material: _Material, config: FinetuneConfig, progress: Progress
) -> Run:
    """A run of pretraining's loop over the examples."""
    data = ExampleBatches(
        material.train, task=config.task, seed=config.seed, pad=base.eos, batch_size=config.batch_size,
        batch_tokens=config.batch_tokens,
    )  # fmt: skip
    steps = data.steps(config.epochs)
    training = _training(base.config, config, steps, data.windows)
    model = base.model
    if config.task == "labels":
        model = _classifier(base, len(material.labels), config)
    objective = LabelObjective(model) if isinstance(model, Classifier) else Objective(model, chunk=training.loss_chunk)
    chosen = {
        key: getattr(config, key)
        for key in ("task", "train", "template", "epochs", "batch_size", "batch_tokens", "seed")
    }
    if config.task == "labels":
        chosen = {key: value for key, value in chosen.items() if key != "template"} | {"labels": material.labels}
    weights = base.checkpoint.state["files"]["model.safetensors"]["sha256"]
    state = {key: base.checkpoint.state[key] for key in ("model", "vocabulary")} | {
        "config": training.learning(),
        "data": {},
        "finetune": chosen | material.identity | {"weights": weights},
    }
    run = Run(
        workspace=workspace, config=training, progress=progress, device=model.embedding.weight.device, data=data,
        held=None, tokenizer=base.tokenizer_json, masking=None, model=model, objective=objective,
        optimizers=make_optimizers(model, training), steps=steps, state=state, folder=f"{FINETUNED}/{name}",
    )  # fmt: skip
    if material.held:
        run.scorer = _scorer(model, material, base.eos, config)
    return run


def _training(base: Training, config: FinetuneConfig, steps: int, steps_an_epoch: int) -> Training:
    """The base's configuration with what fine-tuning decides. Shapes change with each batch, so nothing is compiled."""
    lr = config.lr or (1e-3 if config.train == "head" else base.lr / 10)
    changes = {
        "steps": steps, "tokens": None, "epochs": None, "mixture": None, "max_repeats": None, "batch_size": config.batch_size,
        "micro_batch": config.batch_size, "optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "lr": lr,
        "weight_decay": config.weight_decay, "schedule": "linear", "min_lr": 0.0, "warmup": round(config.warmup * steps),
        "clip": config.clip, "z_loss": 0.0, "seed": config.seed, "device": config.device,
        "dtype": "float32" if base.dtype == "float32" else "auto",
        "compile": "off", "log_every": config.log_every, "eval_every": steps_an_epoch,
        "checkpoint_every": config.checkpoint_every, "keep": config.keep, "spike": 0.0, "trackers": config.trackers,
    }  # fmt: skip
    return Training.model_validate(base.model_dump() | changes)


def _classifier(base: Trained, labels: int, config: FinetuneConfig) -> Classifier:
    """The base's weights with a new head."""
    model = Classifier(base.model.shape, labels, base.model.dtype)
    model.load_state_dict(base.model.state_dict(), strict=False)
    model.init_head(config.seed)
    model.to(base.model.embedding.weight.device)
    if config.train == "head":
        model.train_only_head()
    return model


# --- scores -----------------------------------------------------------------------------------------------------------


def _scorer(model: Transformer, material: _Material, pad: int, config: FinetuneConfig) -> Callable[[], dict[str, Any]]:
    order = sorted(material.held, key=lambda example: len(example.ids))
    parts: list[list[Example]] = [[]]
    for example in order:
        if len(parts[-1]) == config.batch_size or len(example.ids) * (len(parts[-1]) + 1) > config.batch_tokens:
            parts.append([])
        parts[-1].append(example)
    parts = [part for part in parts if part]

    def score() -> dict[str, Any]:
        if isinstance(model, Classifier):
            return score_labels(model, parts, pad, len(material.labels), material.train)
        return score_outputs(model, parts, pad)

    return score


@torch.no_grad()
def score_outputs(model: Transformer, parts: Sequence[Sequence[Example]], pad: int) -> dict[str, Any]:
    """Of held-out rows: `loss` (mean nats a token of output), `token_accuracy` (the likeliest token, given those before it,
    is the right one) and `exact` (all of a row are: what greedy decoding writes is the output)."""
    nats, right, tokens, exact, rows = 0.0, 0, 0, 0, 0
    device = model.embedding.weight.device
    for part in parts:
        batch = collate(part, "outputs", pad)
        targets = torch.from_numpy(batch.targets).to(device)
        inside = targets != IGNORE
        hidden = model.hidden(torch.from_numpy(batch.inputs).to(device))[inside]
        found, hits = _judged(hidden, model.head_weight, targets[inside])
        nats, right, tokens = nats + found, right + int(hits.sum()), tokens + len(hits)
        whole = torch.zeros_like(inside)
        whole[inside] = ~hits
        exact, rows = exact + int((~whole.any(dim=1)).sum()), rows + len(part)
    return {
        "loss": nats / tokens, "bits_per_byte": None, "token_accuracy": right / tokens, "exact": exact / rows,
        "rows": rows, "tokens": tokens,
    }  # fmt: skip


def _judged(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """(sum of nats, whether the likeliest id is the target) of predictions (n, width)."""
    nats, hits = 0.0, []
    for part, wanted in zip(hidden.split(CHUNK), targets.split(CHUNK), strict=True):
        logits = F.linear(part, weight.to(part.dtype)).float()
        nats += float(F.cross_entropy(logits, wanted, reduction="sum"))
        hits.append(logits.argmax(dim=-1) == wanted)
    return nats, torch.cat(hits)


def score_labels(
    model: Classifier, parts: Sequence[Sequence[Example]], pad: int, labels: int, learnt: Sequence[Example]
) -> dict[str, Any]:
    """Of held-out rows: mean nats, accuracy and macro F1, beside those of always giving the label most often learnt.

    A label that was not learnt counts as wrong, and is left out of the loss.
    """
    device = model.embedding.weight.device
    wanted, given, nats = [], [], []
    for part in parts:
        batch = collate(part, "labels", pad)
        assert batch.positions is not None
        lengths = torch.from_numpy(batch.positions[:, 0]).to(device)
        found = chances(model, torch.from_numpy(batch.inputs).to(device), lengths).numpy()
        label = batch.targets[:, 0]
        wanted.append(label)
        given.append(found.argmax(axis=1))
        nats.append(-np.log(np.maximum(found[label >= 0, label[label >= 0]], 1e-30)))
    target, losses = np.concatenate(wanted), np.concatenate(nats)
    usual = Counter(example.label for example in learnt).most_common(1)[0][0]
    scores, plain = (
        _label_scores(target, guess, labels) for guess in (np.concatenate(given), np.full_like(target, usual))
    )
    return {
        "loss": float(losses.mean()) if len(losses) else None, "bits_per_byte": None, **scores,
        **{f"majority_{name}": value for name, value in plain.items()}, "rows": len(target),
    }  # fmt: skip


def _label_scores(wanted: Int64, given: Int64, labels: int) -> dict[str, float]:
    own = np.where(wanted < 0, labels, wanted)
    found = metrics.label_scores(metrics.confusion(own, given, labels + 1, np.ones(len(own))))
    return {"accuracy": found.accuracy, "macro_f1": found.macro_f1}


def _result(run: Run, name: str, base: Trained, material: _Material) -> dict[str, Any]:
    log = read_log(run.workspace, f"{run.folder}/log.jsonl")
    losses = [entry["loss"] for entry in log if "loss" in entry]
    before = next((entry["validation"] for entry in log if entry["step"] == 0), None)
    learning = sum(parameter.numel() for parameter in run.model.parameters() if parameter.requires_grad)
    return {
        "schema_version": 1,
        "name": name,
        "base": base.checkpoint.name,
        "config": run.state["config"],
        "finetune": run.state["finetune"],
        "data": material.rejected.counts() | {"train": len(material.train), "validation": len(material.held)},
        "parameters_learning": learning,
        "steps": run.steps,
        "first_train_loss": losses[0] if losses else None,
        "train_loss": losses[-1] if losses else None,
        "before": before,
        "validation": run.held_scores or None,
        "checkpoint": run.checkpoint,
        "log": f"{run.folder}/log.jsonl",
    }


def result_lines(result: dict[str, Any]) -> list[str]:
    """A result for a person."""
    lines = [f"finetune {result['name']} is done: {result['steps']:,} steps; checkpoint {result['checkpoint']}"]
    scores, before = result["validation"], result["before"] or {}
    if scores is None:
        return [*lines, "nothing was held out, so there is no score: --validation 0.1 holds out a tenth"]
    if "accuracy" in scores:
        lines.append(f"on {scores['rows']:,} held-out rows{'':9}accuracy   macro F1")
        lines.append(f"  this model{'':20}{scores['accuracy']:9.4f}  {scores['macro_f1']:9.4f}")
        lines.append(f"  the label most often learnt{'':3}{scores['majority_accuracy']:9.4f}"
                     f"  {scores['majority_macro_f1']:9.4f}")  # fmt: skip
    else:
        lines.append(f"on {scores['rows']:,} held-out rows{'':9}loss   token accuracy   whole outputs right")
        for label, found in (("before", before), ("after", scores)):
            if found:
                lines.append(
                    f"  {label:10}{'':13}{found['loss']:9.4f}  {found['token_accuracy']:15.4f}  {found['exact']:20.4f}"
                )
    return lines
