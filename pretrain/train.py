"""The training loop: `pretrain` runs it from the newest checkpoint to the end, evaluates, and writes the result."""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.data import Batch, Int64
from curate.pretrain.evaluate import evaluate
from curate.pretrain.log import LOG, RunLog, read_log
from curate.pretrain.loss import Objective
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


@dataclass(frozen=True)
class Loaded:
    """A batch on the device (`data.Batch`); `predicted`: targets that count in the whole of the step, at least 1."""

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None
    predicted: int

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> Loaded:
        """Copies to the device without waiting for it: 32 bits an id, from pinned memory."""

        def moved(array: Int64) -> Tensor:
            tensor = torch.from_numpy(array.astype(np.int32))
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

        positions = None if batch.positions is None else moved(batch.positions)
        return cls(moved(batch.inputs), moved(batch.targets), positions, max(1, batch.predicted))


class Loader:
    """The batches from a run's step on, each made in a thread while the device works on the one before."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = run.step
        self._thread = ThreadPoolExecutor(1, "loader")
        self._ahead = self._thread.submit(self._load, self._step)

    def next(self) -> tuple[Loaded, float]:
        """The next batch, and the seconds for which it was waited."""
        begin = time.perf_counter()
        batch = self._ahead.result()
        waited = time.perf_counter() - begin
        self._step += 1
        self._ahead = self._thread.submit(self._load, self._step)
        return batch, waited

    def _load(self, step: int) -> Loaded:
        return Loaded.of(self._run.data.batch(step), self._run.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)


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


class Meter:
    """Gathers what the steps measured, and every so often reads it back, checks, logs and reports it."""

    def __init__(self, run: Run, log: RunLog) -> None:
        self.run = run
        self.log = log
        self.pending: list[tuple[int, float, float]] = []
        self.losses: list[Tensor] = []
        self.begin = time.perf_counter()

    def add(self, step: int, loss: Tensor, norm: Tensor, lr: float, waited: float) -> None:
        self.pending.append((step, lr, waited))
        self.losses += [loss, norm.to(loss.dtype)]

    def restart(self) -> None:
        """Time from here on counts: what went before was not training."""
        self.begin = time.perf_counter()

    def flush(self) -> None:
        """CurateError where a loss or a gradient is not finite, naming the step and the documents of its batch."""
        if not self.pending:
            return
        values = torch.stack(self.losses).tolist()
        seconds = max(time.perf_counter() - self.begin, 1e-9)
        data, config = self.run.data, self.run.config
        a_step = data.batch_size * data.length
        rate = a_step * len(self.pending) / seconds
        wait = sum(waited for _, _, waited in self.pending) / seconds
        for (step, lr, _), loss, norm in zip(self.pending, values[::2], values[1::2], strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._stop(step, loss, norm)
            entry = {"step": step, "tokens": step * a_step, "loss": loss, "grad_norm": norm, "lr": lr}
            self.log.write(entry | {"tokens_per_second": round(rate, 1), "data_wait": round(min(wait, 1.0), 4)})
        if step % config.log_every == 0 or step == self.run.steps:
            line = f"step {step:,}/{self.run.steps:,}: loss {loss:.4f}, lr {lr:.2e}, {rate:,.0f} tokens/s"
            self.run.progress(
                {"event": "step", "line": line, "steps": self.run.steps, "tokens_per_second": rate} | entry
            )
        self.pending, self.losses = [], []
        self.restart()

    def _stop(self, step: int, loss: float, norm: float) -> None:
        documents = self.run.data.documents(step - 1)
        name = "pretrain/stopped.json"
        self.run.workspace.write_json(
            name, {"step": step, "loss": str(loss), "grad_norm": str(norm), "documents": documents}
        )
        shown = ", ".join(documents[:5]) + (
            f" and {len(documents) - 5} more (all in {name})" if len(documents) > 5 else ""
        )
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        raise CurateError(
            f"step {step}: {what}; documents of its batch: {shown}. Nothing later than {self.run.checkpoint or 'step 0'} "
            "was saved: try a lower pretrain.lr or float32, or look at these documents"
        )


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
