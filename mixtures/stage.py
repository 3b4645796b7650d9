"""The stage `mix`: tokenizer, tokens, buckets, allocation, packing, summary; each step from files to files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import accumulate, groupby
from pathlib import Path

from curate.mixtures.config import MixConfig, read_weights
from curate.mixtures.export_steps import EXPORT_STEPS, text_formats
from curate.pipeline.config import digest
from curate.pipeline.errors import UsageError
from curate.pipeline.stage import Done, File, Planning, Stage, Step, Task

FILE_BYTES = 32
"""Size of the record that `allocate` writes for each output file: the plan of `gather` counts them."""
GROUP_BYTES = 512 << 20
"""Tokens that one task of `scatter` cuts up, in bytes, unless one shard has more."""
TOKENIZER = "mix/tokenizer.json"
BUCKETS = "mix/buckets.json"
"""What each bucket holds, exactly (`count.count`)."""
SUMMARY = "mix/tokens.json"
MIX_MANIFEST = "mix/manifest.parquet"
_OVERSAMPLE = 4
"""Documents are larger than their share of a compressed file, by a factor that differs: a margin, the sample is cut later."""


def _plan_sample(planning: Planning) -> list[Task]:
    """A task a shard, drawing documents to train the tokenizer on; none where one is given."""
    if not planning.shards:
        raise UsageError("mix: there are no documents: run `curate run all` first")
    config: MixConfig = planning.config
    if isinstance(config.weights, str):
        _weights(config)  # refused now, before any work
    if config.tokenizer.path is not None:
        return []
    total = sum(shard.file.size for shard in planning.shards)
    share = min(1.0, _OVERSAMPLE * config.tokenizer.sample_bytes / max(total, 1))
    return [
        Task(
            planning.stage,
            planning.step,
            shard.key,
            inputs={"docs": (shard.file,)},
            outputs={"sample": f"mix/steps/sample/{shard.key}.parquet"},
            params={"share": share},
        )
        for shard in planning.shards
    ]


def _plan_tokenizer(planning: Planning) -> list[Task]:
    given = planning.config.tokenizer.path
    adopted = next((shard.params.get("tokenizer") for shard in planning.shards), None)
    inputs: dict[str, tuple[File, ...]]
    if adopted is not None:
        inputs = {"given": (adopted,)}
    elif given is not None:
        inputs = {"given": (_given(given),)}
    else:
        inputs = {"samples": tuple(done.outputs["sample"] for done in planning.before["sample"])}
    memory = (512 << 20) + 16 * sum(file.size for files in inputs.values() for file in files)
    return [Task(planning.stage, planning.step, "tokenizer", inputs, {"tokenizer": TOKENIZER}, memory=memory)]


def _plan_tokenize(planning: Planning) -> list[Task]:
    """A task a shard: token ids of every document, and what is known of each without them."""
    (tokenizer,) = planning.before["tokenizer"]
    return [
        Task(
            planning.stage,
            planning.step,
            shard.key,
            inputs={"docs": (shard.file,), "tokenizer": (tokenizer.outputs["tokenizer"],)},
            outputs={
                "tokens": f"mix/steps/tokenize/{shard.key}.bin",
                "index": f"mix/steps/tokenize/{shard.key}.parquet",
            },
        )
        for shard in planning.shards
    ]


def _tokenised(planning: Planning, name: str) -> dict[str, File]:
    """The file of that name (`tokens`, `index`) of every shard, by its key: of this stage's own step, or adopted (`pool`)."""
    own = {done.key: done.outputs[name] for done in planning.before.get("tokenize", ())}
    return {shard.key: own[shard.key] if own else shard.params[name] for shard in planning.shards}


def _sources(planning: Planning, name: str) -> tuple[File, ...]:
    """The file of that name of every shard, in the order of `index` and of `buckets` alike: sorted by key."""
    if name in ("tokens", "index"):
        return tuple(file for _, file in sorted(_tokenised(planning, name).items()))
    named = {done.key: done.outputs[name] for done in planning.before["buckets"]}
    return tuple(named[key] for key in sorted(shard.key for shard in planning.shards))


def _plan_buckets(planning: Planning) -> list[Task]:
    """A task a shard: the bucket of every document, by its columns, beside the tokenised index."""
    index = _tokenised(planning, "index")
    return [
        Task(
            planning.stage,
            planning.step,
            shard.key,
            inputs={"docs": (shard.file,), "index": (index[shard.key],)},
            outputs={
                "buckets": f"mix/steps/buckets/{shard.key}.parquet",
                "counts": f"mix/steps/buckets/{shard.key}.json",
            },
        )
        for shard in planning.shards
    ]


def _plan_count(planning: Planning) -> list[Task]:
    inputs = {"counts": _sources(planning, "counts")}
    memory = (512 << 20) + 8 * sum(file.size for file in inputs["counts"])
    return [
        Task(planning.stage, planning.step, "count", inputs, {"buckets": BUCKETS}, {"pool": _pool(planning)}, memory)
    ]


def _pool(planning: Planning) -> str:
    """Identity of all that may be drawn from: `status.mix_is_behind` compares that of the mix with that of the counts."""
    return digest([[file.fingerprint for file in _sources(planning, name)] for name in ("tokens", "index")])


def _plan_allocate(planning: Planning) -> list[Task]:
    """One task over the indices of all shards: it decides everything, and moves nothing."""
    config: MixConfig = planning.config
    outputs = {
        "routes": "mix/steps/allocate/routes.bin",
        "starts": "mix/steps/allocate/starts.bin",
        "training": "mix/steps/allocate/training.bin",
        "validation": "mix/steps/allocate/validation.bin",
        "summary": "mix/steps/allocate/summary.json",
        "manifest": MIX_MANIFEST,
    }
    inputs = {name: _sources(planning, name) for name in ("index", "buckets")}
    params = {"weights": _weights(config), "pool": _pool(planning)}
    return [Task(planning.stage, planning.step, "allocate", inputs, outputs, params, _allocate_memory(planning))]


def _allocate_memory(planning: Planning) -> int:
    """Bytes that `allocate` needs: about 64 a document of the pool and 40 a copy in the mix, by the counts of `buckets`.

    Copies are estimated by what the budget is of the pool, with as much again for weights that prefer short documents.
    """
    config: MixConfig = planning.config
    documents = sum(int(done.counts["records"]) for done in planning.before["buckets"])
    tokens = (
        sum(file.size for file in _sources(planning, "tokens")) // 4
    )  # at least: ids of two bytes are twice as many
    times = 1.0 if config.budget is None else min(config.max_repeats, 2 * config.budget / max(tokens, 1))
    return (512 << 20) + 64 * documents + int(40 * documents * times)


def _plan_scatter(planning: Planning) -> list[Task]:
    """A task a group of shards that follow each other, of about GROUP_BYTES of tokens: it cuts them up by output file."""
    (allocated,) = planning.before["allocate"]
    sources = {name: _sources(planning, name) for name in ("tokens", "index", "buckets")}
    shared = {name: (allocated.outputs[name],) for name in ("routes", "starts")}
    shared["tokenizer"] = (planning.before["tokenizer"][0].outputs["tokenizer"],)
    files = sum(allocated.outputs[name].size for name in ("training", "validation")) // FILE_BYTES
    ends = accumulate(file.size for file in sources["tokens"])
    groups = groupby(range(len(sources["tokens"])), key=[end // GROUP_BYTES for end in ends].__getitem__)
    return [
        Task(
            planning.stage,
            planning.step,
            f"{number:05d}",
            inputs=shared | {name: tuple(each[index] for index in members) for name, each in sources.items()},
            outputs={name: f"mix/steps/scatter/{number:05d}.{name}" for name in ("runs", "sections")},
            params={"first": members[0], "files": files},
            memory=(512 << 20) + min(1 << 30, 4 * sum(sources["tokens"][index].size for index in members)),
        )
        for number, members in enumerate(list(indices) for _, indices in groups)
    ]


def _plan_gather(planning: Planning) -> list[Task]:
    """A task an output file, of the training part and of the validation part: as many as `allocate` wrote records."""
    (allocated,) = planning.before["allocate"]
    scattered = planning.before["scatter"]
    inputs = {
        "files": (allocated.outputs["training"], allocated.outputs["validation"]),
        "runs": _outputs(scattered, "runs"),
        "sections": _outputs(scattered, "sections"),
        "tokenizer": (planning.before["tokenizer"][0].outputs["tokenizer"],),
    }
    held = min(planning.config.shard_tokens * 4, sum(file.size for file in inputs["runs"]))
    numbers = [files.size // FILE_BYTES for files in inputs["files"]]
    return [
        Task(
            planning.stage,
            planning.step,
            f"{folder}/{number:05d}",
            inputs,
            {"tokens": f"mix/{folder}/{number:05d}.bin", "index": f"mix/{folder}/{number:05d}.idx.parquet"},
            {"part": part, "number": number, "file": part * numbers[0] + number, "files": sum(numbers)},
            memory=(768 << 20) + held + held // 4,
        )
        for part, folder in enumerate(("tokens", "validation"))
        for number in range(numbers[part])
    ]


def _plan_finish(planning: Planning) -> list[Task]:
    (allocated,) = planning.before["allocate"]
    packed = planning.before["gather"]
    inputs = {
        "summary": (allocated.outputs["summary"],),
        "tokens": _outputs(packed, "tokens"),
        "index": _outputs(packed, "index"),
        "tokenizer": (planning.before["tokenizer"][0].outputs["tokenizer"],),
    }
    return [Task(planning.stage, planning.step, "mix", inputs, {"summary": SUMMARY})]


def _outputs(done: tuple[Done, ...], name: str) -> tuple[File, ...]:
    return tuple(item.outputs[name] for item in done)


def _weights(config: MixConfig) -> dict[str, float] | None:
    """The weights, read here where the file is: a worker elsewhere gets the numbers."""
    if not isinstance(config.weights, str):
        return config.weights
    try:
        return read_weights(config.weights)
    except ValueError as error:
        raise UsageError(f"mix.weights: {error}") from None


def _given(path: str) -> File:
    """The given tokenizer as an input, by its content."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as stream:
            data: bytes = stream.read()
    except (OSError, ValueError, ImportError) as error:
        raise UsageError(f"mix.tokenizer.path: cannot read {path}: {error}") from None
    return File(_absolute(path), hashlib.sha256(data).hexdigest(), len(data), external=True)


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).absolute())


def _disk(config: MixConfig, size: int) -> float:
    """Bytes that a mix of documents of `size` bytes, compressed, takes: of prose, 0.65 tokens a byte and 1.6 bytes a token.

    Every token of the pool is there once, every token of the mix twice (scattered, and in its output file), each with a
    tenth for the index; texts are there once scattered and once a format.
    """
    width = 2 if config.tokenizer.path is None and config.tokenizer.vocab_size <= 1 << 16 else 4
    pool = 0.65 * size
    drawn = pool if config.budget is None else min(config.budget, config.max_repeats * pool)
    formats = len(text_formats(config))
    return 1.1 * width * (pool + 2 * drawn) + 1.6 * drawn * (formats + (formats > 0))


STAGE = Stage(
    name="mix",
    version=4,
    config=MixConfig,
    steps=(
        Step("sample", "curate.mixtures.encode:sample", _plan_sample, reads=("tokenizer",)),
        Step("tokenizer", "curate.mixtures.encode:tokenizer", _plan_tokenizer, reads=("tokenizer",)),
        Step("tokenize", "curate.mixtures.encode:tokenize", _plan_tokenize, reads=("tokenizer",)),
        Step("buckets", "curate.mixtures.count:buckets", _plan_buckets, reads=("by", "bins", "validation")),
        Step("count", "curate.mixtures.count:count", _plan_count, reads=("by", "bins", "validation")),
        Step(
            "allocate",
            "curate.mixtures.decide:allocate",
            _plan_allocate,
            record_bearing=True,
            reads=(
                *("budget", "weights", "upsample", "by", "bins", "max_repeats"),
                *("validation", "validation_tokens", "shard_tokens", "layout"),
            ),
        ),
        Step("scatter", "curate.mixtures.scatter:scatter", _plan_scatter, reads=("tokenizer",)),
        Step("gather", "curate.mixtures.materialise:gather", _plan_gather, reads=("tokenizer",)),
        Step("finish", "curate.mixtures.materialise:finish", _plan_finish, reads=("tokenizer", "layout")),
        *EXPORT_STEPS,
    ),
    after="classify",
    disk=_disk,
    seeded=True,
)

POOL = replace(STAGE, steps=tuple(step for step in STAGE.steps if step.name not in ("sample", "tokenize")))
"""The same stage over tokens that another workspace holds: its shards come from `pool.pool_shards`, and nothing is
tokenised again. It runs in a workspace of its own (`W/swarm`), where it leaves a whole `mix/` with the tokenizer beside it:

    runner.run(POOL, pool_shards(Workspace(W)))      # recipe: W's, with mix.layout, mix.budget and mix.by as wanted
"""
