"""The swarm of a mix: a small model a mixture, over one pool packed by domain, to one table of results.

    W/<swarm>/                   a workspace of its own
        design.json              what is weighed, and every run, before the first of them begins
        mix/                     the pool, packed by domain: W's tokens, none made again
        swarm/runs/*.json        a finished run each (`pretrain.swarm`)
        results.parquet          all finished runs of the design (`runs`)

Every part may be stopped at any moment: what has finished is a file, and is not done again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.mixtures.domains import counted
from curate.mixtures.pool import pool_shards
from curate.mixtures.regression import LEAST_RUNS
from curate.mixtures.runs import Runs, write_runs
from curate.mixtures.stage import POOL
from curate.mixtures.swarm_config import SwarmConfig
from curate.mixtures.swarm_design import SwarmDesign, by_domain, decide, domain_columns, keep_design, listed, pool_sizes
from curate.pipeline.engines import Engine
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.lock import driver_lock
from curate.pipeline.progress import Display, duration, number_of
from curate.pipeline.recipe import Recipe
from curate.pipeline.runner import open_runner, raise_if_incomplete
from curate.pipeline.tables import grid
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.tokens import TokenSet

RESULTS = "results.parquet"
RECIPE = "recipe.yaml"

LITTLE = 2_000
"""Held-out tokens of a domain, below which its loss is warned of: some pages."""

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Cluster:
    """Where runs go on Ray: `address` as `--address`, at most so many `workers`, `attempts` at a run whose worker dies."""

    address: str | None
    workers: int | None
    attempts: int


def plan_swarm(
    workspace: Workspace,
    swarm: Workspace,
    recipe: Recipe,
    engine: Callable[[], Engine],
    display: Display,
    frozen: Mapping[str, float] | None = None,
) -> SwarmDesign:
    """Counts what there is of each domain, exactly, and decides the design; nothing is packed or trained.

    `workspace` must be tokenised (`Runner.run(STAGE, …, until="count")`). Raises UsageError as `swarm_design.decide` does.
    """
    config: SwarmConfig = recipe.section("swarm")
    by = domain_columns(config, recipe.section("mix"))
    _run_pool(workspace, swarm, _pool_recipe(recipe, by), engine, display, until="count")
    table = counted(swarm)
    assert table is not None
    found = {name: size for name, size in table.buckets.items() if size.documents or size.held_out}
    if frozen is not None:
        frozen = by_domain(frozen, counted(workspace), recipe.section("mix"), by)
    return decide(config, recipe.section("mix"), found, recipe.head.seed, frozen)


def pack_pool(
    workspace: Workspace,
    swarm: Workspace,
    recipe: Recipe,
    design: SwarmDesign,
    engine: Callable[[], Engine],
    display: Display,
) -> None:
    """Packs the pool by domain, as much of each as a run may ask for; says in `design.json` what it is for."""
    config: SwarmConfig = recipe.section("swarm")
    keep_design(swarm, design)
    sizes = pool_sizes(config, design.buckets)
    pool = _pool_recipe(recipe, domain_columns(config, recipe.section("mix")), sizes)
    swarm.write_bytes(RECIPE, pool.to_yaml().encode())
    _run_pool(workspace, swarm, pool, engine, display)


def train_swarm(
    swarm: Workspace, config: SwarmConfig, design: SwarmDesign, *, progress: Progress, cluster: Cluster | None = None
) -> Runs:
    """Trains the runs that are missing, here or on a cluster, and gives the results, which it writes after every one.

    `progress` receives dictionaries with `event`, `line` and, of a run, its row. Raises UsageError where a domain's loss could
    not be measured or a run cannot be, before the first one; CurateError for runs that cannot be done.
    """
    from curate.pretrain.swarm import run_event, run_many, run_names, swarm_configs

    for line in _refuse_unmeasured(swarm, config.proxy.eval_tokens, design):
        progress({"event": "note", "line": line})
    configs = swarm_configs(config.proxy, design.mixtures(), design.seeds)
    with driver_lock(swarm):
        results = Results(swarm, design, run_names(swarm, configs))
        results.write()
        missing = results.missing()
        began = time.monotonic()

        def show(event: dict[str, Any]) -> None:
            if event["event"] == "run":
                results.add(event["number"], event)
                results.write()
                left = len(results.missing())
                seconds = (time.monotonic() - began) / (len(missing) - left) * left
                told = {"run": design.names[event["number"]], "seconds_left": round(seconds, 1)}
                event = event | told
                event["line"] += f", {duration(seconds)} left" if left else ""
            progress(event)

        if cluster is None:
            _hint(progress)
            run_many(swarm, configs, progress=show, curves=False)
        elif missing:
            done = len(configs) - len(missing)
            line = f"swarm: {len(configs)} runs, {done} of them done before"
            progress({"event": "start", "line": line, "runs": len(configs), "done": done})

            def finished(number: int) -> None:
                row = swarm.read_json(results.files[number])
                if row is None:
                    raise CurateError(f"{results.files[number]} is not in the workspace: can every node reach it?")
                count = len(configs) - len(results.missing()) + 1
                row.pop("losses")
                show(run_event(row, count, len(configs)) | {"number": number})

            _on_cluster(swarm, configs, results, cluster, config, progress, finished)
        results.read()  # a run that is asked for twice was told of once
        return results.write()


def _hint(progress: Progress) -> None:
    import torch

    if (gpus := torch.cuda.device_count()) > 1:
        progress({"event": "note", "line": f"one of {gpus} GPUs is used: --engine ray trains on all of them"})


def _on_cluster(
    swarm: Workspace,
    configs: list[PretrainConfig],
    results: Results,
    cluster: Cluster,
    config: SwarmConfig,
    progress: Progress,
    finished: Callable[[int], None],
) -> None:
    from curate.mixtures.swarm_ray import train_on_ray

    first: dict[str, int] = {}
    for number in results.missing():
        first.setdefault(results.files[number], number)
    jobs = [(number, configs[number], file) for file, number in first.items()]
    train_on_ray(
        swarm, jobs, gpus=config.gpus, attempts=cluster.attempts,
        workers=cluster.workers, address=cluster.address, progress=progress, finished=finished,
    )  # fmt: skip


class Results:
    """The rows of a design's finished runs, without their loss curves."""

    def __init__(self, swarm: Workspace, design: SwarmDesign, files: list[str]) -> None:
        self.files = files
        """The file of each run."""
        self._swarm = swarm
        self._design = design
        self._rows: dict[int, dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Takes up what has finished, whoever finished it."""
        there = set(self._swarm.list(self.files[0].rpartition("/")[0], ".json"))
        for number in self.missing():
            if self.files[number] in there and (row := self._swarm.read_json(self.files[number])) is not None:
                self.add(number, row)

    def missing(self) -> list[int]:
        """Runs that have not finished, by number."""
        return [number for number in range(len(self.files)) if number not in self._rows]

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Takes a run's row."""
        held, buckets = row["validation"] or {}, self._design.buckets
        scores = {
            f"{measure}/{name}": found[measure]
            for measure in ("loss", "bits_per_byte")
            for name, found in held.get("buckets", {}).items()
            if name in buckets
        }
        for name, found in (row.get("tasks") or {}).items():
            scores[f"task/{name}"] = found["bits_per_byte"]
            if found["primary"] != "bits_per_byte":
                scores[f"accuracy/{name}"] = found[found["primary"]]
        self._rows[number] = {
            "scores": scores, "tokens": row["tokens"], "parameters": row["parameters"]["all"],
            "seconds": round(sum(row["seconds"].values()), 3), "diverged": row["diverged"] is not None,
        }  # fmt: skip

    def runs(self) -> Runs:
        """What has finished, in the order of the design."""
        design, order = self._design, sorted(self._rows)
        tasks = tuple(sorted({name for row in self._rows.values() for name in row["scores"]}, key=_by_measure))
        losses = [[self._rows[number]["scores"].get(name, math.nan) for name in tasks] for number in order]
        return Runs(
            domains=design.domains,
            weights=design.weights[order],
            tasks=tasks,
            losses=np.array(losses, np.float64).reshape(len(order), len(tasks)),
            names=tuple(design.names[number] for number in order),
            kinds=tuple(design.kinds[number] for number in order),
            seeds=tuple(design.seeds[number] for number in order),
        )

    def write(self) -> Runs:
        """Writes `results.parquet` anew, whole."""
        runs = self.runs()
        extra = {
            name: [self._rows[number][name] for number in sorted(self._rows)]
            for name in ("tokens", "parameters", "seconds", "diverged")
        }
        with self._swarm.create(RESULTS) as output:
            write_runs(output, runs, **extra)
        return runs


def _by_measure(name: str) -> tuple[int, str]:
    measure = name.partition("/")[0]
    return ("loss", "bits_per_byte", "task", "accuracy").index(measure), name


def measured_tokens(swarm: Workspace, limit: int) -> tuple[dict[str, int], dict[str, int]]:
    """By domain: tokens that a validation must read to come upon its first document held out, and how many are of it where
    validation reads up to about `limit` (`evaluate.Held`)."""
    reached, needed, read = 0, dict[str, int](), dict[str, int]()
    for batch in TokenSet(swarm, "validation").index(["tokens", "bucket"]):
        for tokens, bucket in zip(batch.column("tokens").to_pylist(), batch.column("bucket").to_pylist(), strict=True):
            needed.setdefault(bucket, reached + 1)
            if reached < limit:
                read[bucket] = read.get(bucket, 0) + tokens
            reached += tokens
    return needed, read


def _refuse_unmeasured(swarm: Workspace, eval_tokens: int, design: SwarmDesign) -> list[str]:
    """Warnings of domains that are measured on LITTLE; UsageError where validation reads no document of some, naming them."""
    needed, read = measured_tokens(swarm, eval_tokens)
    absent = [name for name in design.buckets if name not in needed]
    if absent:
        raise UsageError(
            f"no held-out document of {listed(absent)} is written: set mix.validation_tokens or mix.validation higher, or "
            "leave these domains out with swarm.exclude"
        )
    late = [name for name in design.buckets if needed[name] > eval_tokens]
    if late:
        raise UsageError(
            f"the first {eval_tokens:,} held-out tokens have none of {listed(late)}, so that the loss there cannot be "
            f"measured: set swarm.proxy.eval_tokens to {max(needed[name] for name in late)} at least, or leave these "
            "domains out with swarm.exclude"
        )
    little = [f"{name} ({read[name]:,})" for name in design.buckets if read[name] < LITTLE]
    if not little:
        return []
    cut = any(size.held_out > read[name] for name, size in design.buckets.items() if read[name] < LITTLE)
    more = "swarm.proxy.eval_tokens, or " * cut + "mix.validation or mix.validation_tokens"
    return [
        f"warning: few held-out tokens are read of {listed(little)}: the loss there says little, and the mixtures are judged "
        f"by it as by any other. Set {more} higher, or leave these domains out with swarm.exclude"
    ]


def _pool_recipe(recipe: Recipe, by: list[str], sizes: Mapping[str, int] | None = None) -> Recipe:
    """The recipe of the pool: W's, but for what is drawn and how it lies."""
    mix = recipe.section("mix")
    drawn = None if sizes is None else {name: float(tokens) for name, tokens in sizes.items()}
    changed = {
        "by": by, "bins": {name: edges for name, edges in mix.bins.items() if name in by}, "weights": drawn,
        "budget": None if sizes is None else sum(sizes.values()), "max_repeats": 1, "layout": "by-bucket",
        "upsample": None, "export": [],
    }  # fmt: skip
    fields = type(mix).model_fields
    given = mix.model_dump() | {name: value for name, value in changed.items() if name in fields}
    return Recipe(recipe.head, {**recipe.sections, "mix": type(mix).model_validate(given)})


def _run_pool(
    workspace: Workspace,
    swarm: Workspace,
    recipe: Recipe,
    engine: Callable[[], Engine],
    display: Display,
    until: str | None = None,
) -> None:
    shards = pool_shards(workspace)
    with open_runner(swarm, recipe, engine, display) as runner:
        result = runner.run(POOL, shards, until)
    raise_if_incomplete([result], [])


def plan_lines(config: SwarmConfig, design: SwarmDesign, most: int = 20) -> list[str]:
    """The design for a terminal: the domains, the runs, what they come to."""
    runs, tokens = len(design.names), config.run_tokens
    low, high = design.weights.min(axis=0), design.weights.max(axis=0)
    rows = [
        [
            design.domains[place], f"{int(design.available[place]):,}", f"{design.prior[place]:.2%}",
            f"{low[place]:.1%} to {high[place]:.1%}",
        ]
        for place in np.argsort(-design.prior, kind="stable")[:most]
    ]  # fmt: skip
    lines = grid(("domain", "tokens", "natural", "tried"), rows, left=(0, 3))
    if len(design.domains) > most:
        lines.append(f"and {number_of(len(design.domains) - most, 'more domain')}")
    copies = design.kinds.count("replicate")
    sparse = "sparse" if design.facts["sparse"] else "dense"
    lines += [
        f"{runs} runs: {runs - copies} mixtures ({design.facts['sampling']}, {sparse}) and {copies} replicates of the "
        "natural one",
        f"each {config.proxy.size} on {tokens:,} tokens, {runs * tokens:,} in all; pool: "
        f"{sum(pool_sizes(config, design.buckets).values()):,} tokens",
    ]
    if runs < LEAST_RUNS:
        lines.append(
            f"warning: {LEAST_RUNS} runs at least are needed to solve: give --runs {LEAST_RUNS - copies}, or more"
        )
    return lines


def seconds_a_run(swarm: Workspace) -> float | None:
    """How long the finished runs took on average, whatever design they were of; None where there are none."""
    names = swarm.list("swarm/runs", ".json")[:20]
    rows = [row for name in names if (row := swarm.read_json(name)) is not None]
    return sum(sum(row["seconds"].values()) for row in rows) / len(rows) if rows else None


def flops_a_run(swarm: Workspace, config: SwarmConfig, eos: str | None) -> tuple[int, float]:
    """(parameters, floating-point operations) of a run with the tokenizer at hand (`ModelShape.flops_per_token`)."""
    from curate.mixtures.tokenizer import DocumentTokenizer
    from curate.pretrain.model import ModelShape

    with swarm.open("mix/tokenizer.json") as stream:
        encoder = DocumentTokenizer(stream.read(), eos)
    proxy = config.proxy.resolved()
    shape = ModelShape.of(proxy, encoder.vocab_size)
    parameters = shape.block_parameters + shape.vocab_size * shape.width * (1 if shape.tied else 2)
    return parameters, shape.flops_per_token(proxy.sequence_length) * config.run_tokens
