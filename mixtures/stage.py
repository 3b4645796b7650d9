"""The stage `mix`: tokenizer, tokens, allocation, packing, summary; each step from files to files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from curate.mixtures.config import MixConfig, read_weights
from curate.pipeline.errors import UsageError
from curate.pipeline.stage import Done, File, Planning, Stage, Step, Task

FILE_BYTES = 32
"""Size of the record that `allocate` writes for each output file: the plan of `pack` counts them."""
TOKENIZER = "mix/tokenizer.json"
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
    inputs: dict[str, tuple[File, ...]]
    if given is not None:
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


def _plan_allocate(planning: Planning) -> list[Task]:
    """One task over the indices of all shards: it decides everything, and moves nothing."""
    config: MixConfig = planning.config
    outputs = {
        "order": "mix/steps/allocate/order.bin",
        "training": "mix/steps/allocate/training.bin",
        "validation": "mix/steps/allocate/validation.bin",
        "summary": "mix/steps/allocate/summary.json",
        "manifest": MIX_MANIFEST,
    }
    inputs = {"index": _outputs(planning.before["tokenize"], "index")}
    return [
        Task(planning.stage, planning.step, "allocate", inputs, outputs, {"weights": _weights(config)}, memory=8 << 30)
    ]


def _plan_pack(planning: Planning) -> list[Task]:
    """A task an output file, of the training part and of the validation part: as many as `allocate` wrote records."""
    (allocated,) = planning.before["allocate"]
    sources = planning.before["tokenize"]
    inputs = {
        "order": (allocated.outputs["order"],),
        "files": (allocated.outputs["training"], allocated.outputs["validation"]),
        "tokens": _outputs(sources, "tokens"),
        "index": _outputs(sources, "index"),
        "tokenizer": (planning.before["tokenizer"][0].outputs["tokenizer"],),
    }
    held = sum(file.size for file in inputs["tokens"]) * planning.config.max_repeats
    memory = (512 << 20) + 4 * min(planning.config.shard_tokens * 2, held)
    return [
        Task(
            planning.stage,
            planning.step,
            f"{folder}/{number:05d}",
            inputs,
            {"tokens": f"mix/{folder}/{number:05d}.bin", "index": f"mix/{folder}/{number:05d}.idx.parquet"},
            {"part": part, "number": number},
            memory,
        )
        for part, (folder, files) in enumerate(zip(("tokens", "validation"), inputs["files"], strict=True))
        for number in range(files.size // FILE_BYTES)
    ]


def _plan_finish(planning: Planning) -> list[Task]:
    (allocated,) = planning.before["allocate"]
    packed = planning.before["pack"]
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


STAGE = Stage(
    name="mix",
    version=3,
    config=MixConfig,
    steps=(
        Step("sample", "curate.mixtures.encode:sample", _plan_sample, reads=("tokenizer",)),
        Step("tokenizer", "curate.mixtures.encode:tokenizer", _plan_tokenizer, reads=("tokenizer",)),
        Step("tokenize", "curate.mixtures.encode:tokenize", _plan_tokenize, reads=("tokenizer", "by", "bins")),
        Step(
            "allocate",
            "curate.mixtures.decide:allocate",
            _plan_allocate,
            record_bearing=True,
            reads=("budget", "weights", "max_repeats", "validation", "validation_tokens", "shard_tokens", "layout"),
        ),
        Step("pack", "curate.mixtures.materialise:pack", _plan_pack, reads=("tokenizer",)),
        Step("finish", "curate.mixtures.materialise:finish", _plan_finish, reads=("tokenizer", "layout")),
    ),
    after="classify",
    disk=2.0,
    seeded=True,
)
