"""The training loop: `pretrain` runs it from the newest checkpoint to the end, evaluates, and writes the result."""

from __future__ import annotations

import gc
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.evaluate import evaluate
from curate.pretrain.loader import Loaded, Loader
from curate.pretrain.log import LOG, RunLog, read_log
from curate.pretrain.loss import Objective
from curate.pretrain.meter import Meter
from curate.pretrain.optim import learning_rate
from curate.pretrain.run import Progress, Run
from curate.pretrain.sample import text_sample

RESULT = "pretrain/result.json"


class Stopped(CurateError):
    """A signal asked the run to stop; a checkpoint was saved first."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, checkpoint saved: run again to go on"
        )
        self.exit_code = 128 + number


def pretrain(
    workspace: Workspace, config: PretrainConfig, *, progress: Progress, restart: bool = False
) -> dict[str, Any]:
    """Trains on the workspace's mix and gives what it writes to `pretrain/result.json`.

    Goes on from the newest complete checkpoint; gives the result at once where the run is finished already. `restart`
    removes an earlier run first. `progress` receives dictionaries with `event` (start, step, validation, checkpoint,
    warning, sample, done), `line` (for people) and the event's own numbers.

    Raises UsageError where there is no mix, it is too small or the checkpoints belong to another run; CurateError where
    the loss is not finite, naming the documents; Stopped after SIGTERM or SIGINT, DiskFull where there is no space.
    """
    run = Run.open(workspace, config, progress)
    if restart:
        run.remove()
    run.resume()
    finished = workspace.read_json(RESULT) if run.step == run.steps else None
    if finished is not None and finished.get("config") == run.state["config"]:
        progress({"event": "done", "line": f"pretrain was complete already, after {run.steps:,} steps"} | finished)
        return dict(finished)
    with RunLog(workspace, run.step) as log:
        train(run, log)
        result = _conclude(run, log)
    return result


def train(run: Run, log: RunLog) -> None:
    """Runs the steps that are left. Losses are read back from the device every `log_every` steps, not at each."""
    config, model = run.config, run.model
    _announce(run)
    meter = Meter(run, log)
    with Loader(run) as loader, _attention(run), _no_garbage_collection(), _signals() as asked:
        while run.step < run.steps:
            batch, waited = loader.next()
            lr = learning_rate(run.step, run.steps, config)
            loss = forward_backward(run.objective, batch, config.micro_batch)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)
            for optimizer in run.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            meter.add(run.step + 1, loss, norm, lr, waited)
            run.step += 1

            last, stop = run.step == run.steps, bool(asked)
            evaluating = run.held is not None and (last or (config.eval_every and run.step % config.eval_every == 0))
            saving = last or stop or run.step % config.checkpoint_every == 0
            if evaluating or saving or run.step % config.log_every == 0:
                meter.flush()
            if evaluating:
                log.write(validate(run))
                meter.restart()
            if saving:
                run.save(log)
                meter.restart()
            if stop and not last:
                raise Stopped(asked[0], run.step)


def forward_backward(objective: Objective, batch: Loaded, micro_batch: int | None) -> Tensor:
    """Adds the gradient of the batch's mean objective to the parameters and gives its mean loss in nats, a scalar.

    Every pass is weighed by what it predicts, so the gradient does not depend on how the batch is divided.
    """
    total = torch.zeros((), device=batch.inputs.device)
    rows = len(batch.inputs)
    for begin in range(0, rows, micro_batch or rows):
        part = slice(begin, begin + (micro_batch or rows))
        positions = None if batch.positions is None else batch.positions[part]
        loss, nats = objective(batch.inputs[part], batch.targets[part], positions)
        (loss / batch.predicted).backward()
        total += nats / batch.predicted
    return total


ATTENTION = {
    "auto": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "math": [SDPBackend.MATH],
}
"""Kernels of attention by `PretrainConfig.attention`, tried in this order. cuDNN's is as fast as FlashAttention 3 on Hopper;
older GPUs have Flash first."""


@contextmanager
def _attention(run: Run) -> Iterator[None]:
    if run.device.type != "cuda":
        yield
        return
    kernels = list(ATTENTION[run.config.attention])
    if run.config.attention == "auto" and torch.cuda.get_device_capability(run.device) < (9, 0):
        kernels.remove(SDPBackend.CUDNN_ATTENTION)
    with sdpa_kernel(kernels, set_priority=True):
        yield


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The collector would look through every object of PyTorch again and again: tens of milliseconds at a time."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def validate(run: Run) -> dict[str, Any]:
    """Scores the validation documents, reports, and gives the line for the log."""
    assert run.held is not None
    run.held_scores = evaluate(
        run.model,
        run.held,
        length=run.config.sequence_length,
        rows=run.config.micro_batch,
        masking=run.masking,
        seed=run.config.seed,
    )
    loss, bits = run.held_scores["loss"], run.held_scores["bits_per_byte"]
    entry = {"step": run.step, "validation": {"loss": loss, "bits_per_byte": bits}}
    shown = "" if bits is None else f", {bits:.3f} bits per byte"
    line = f"validation after step {run.step:,}: loss {loss:.4f}{shown}"
    run.progress({"event": "validation", "line": line} | entry)
    return entry


def _conclude(run: Run, log: RunLog) -> dict[str, Any]:
    """Validation (if the last step's is not at hand), the text sample and the result."""
    from tokenizers import Tokenizer

    config = run.config
    if run.held is not None and not run.held_scores:
        validate(run)  # resumed after the last step: the log has this validation already
    log.sync()
    sample = text_sample(
        run.model,
        Tokenizer.from_str(run.tokenizer.decode()),
        run.held.set if run.held is not None else run.data.tokens,
        prompt=config.sample_prompt,
        count=config.sample_tokens,
        length=config.sequence_length,
        seed=config.seed,
        temperature=config.temperature,
        masking=run.masking,
    )
    if sample:
        run.progress({"event": "sample", "line": f"sample: {sample['text']}"} | sample)
    losses = [entry["loss"] for entry in read_log(run.workspace) if "loss" in entry]
    tail = losses[-max(1, len(losses) // 20) :]
    result = {
        "schema_version": 1,
        "config": run.state["config"],
        "model": run.state["model"],
        "data": run.state["data"],
        "parameters": run.model.count_parameters(),
        "steps": run.steps,
        "tokens": run.steps * run.data.batch_size * run.data.length,
        "epochs": run.epochs,
        "first_train_loss": losses[0] if losses else None,
        "train_loss": sum(tail) / len(tail) if tail else None,
        "validation": run.held_scores or None,
        "checkpoint": run.checkpoint,
        "log": LOG,
        "sample": sample,
    }
    run.workspace.write_json(RESULT, result)
    run.progress({"event": "done", "line": _summary(result)} | result)
    return result


def _announce(run: Run) -> None:
    config, counts = run.config, run.model.count_parameters()
    begin = f"going on from {run.checkpoint}" if run.checkpoint else "from the beginning"
    line = (
        f"pretrain {config.size} ({config.objective}): {counts['all'] / 1e6:.1f}M parameters, "
        f"{counts['without_embeddings'] / 1e6:.1f}M without embeddings; {run.steps:,} steps of "
        f"{run.data.batch_size} x {run.data.length} tokens, {run.epochs:.2f} epochs, on {run.device.type}; {begin}"
    )
    run.progress({"event": "start", "line": line, "step": run.step, "steps": run.steps, "parameters": counts})


def _summary(result: dict[str, Any]) -> str:
    parts = [f"pretrain is done: {result['steps']:,} steps, {result['tokens']:,} tokens"]
    if result["train_loss"] is not None:
        parts.append(f"training loss {result['first_train_loss']:.3f} -> {result['train_loss']:.3f}")
    if result["validation"]:
        parts.append(f"validation loss {result['validation']['loss']:.3f}")
        if result["validation"]["bits_per_byte"] is not None:
            parts.append(f"{result['validation']['bits_per_byte']:.3f} bits per byte")
    return f"{', '.join(parts)}; checkpoint {result['checkpoint']}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that fills with the SIGTERM and SIGINT received; a second one ends the process at once, unsaved."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
