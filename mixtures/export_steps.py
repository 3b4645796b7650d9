"""The plans of the steps that export a mix: Megatron-LM's indices, texts in two passes, the card and the list of it all."""

from __future__ import annotations

from itertools import pairwise

from curate.mixtures.config import MixConfig
from curate.pipeline.config import digest
from curate.pipeline.stage import Done, File, Planning, Step, Task

EXPORTS = "mix/exports.json"
"""What the mix was exported to: files, sums, checksums."""
PARTS = {"tokens": "train", "validation": "validation"}
"""Folders of token files, and what the parts are called in what is exported."""
SUFFIXES = {"jsonl": "jsonl.zst", "parquet": "parquet"}


def text_formats(config: MixConfig) -> list[str]:
    """The formats in which texts are written: `datasets` is Parquet with a card."""
    names = ["parquet" if name == "datasets" else name for name in config.export]
    return sorted(set(names) & set(SUFFIXES))


def _plan_megatron(planning: Planning) -> list[Task]:
    """A task an output file."""
    if "megatron" not in planning.config.export:
        return []
    return [
        Task(
            planning.stage,
            planning.step,
            done.key,
            inputs={"tokens": (done.outputs["tokens"],), "index": (done.outputs["index"],), "mix": _mix(planning)},
            outputs={"idx": f"mix/{done.key}.idx"},
        )
        for done in _packed(planning)
    ]


def _plan_scatter(planning: Planning) -> list[Task]:
    """A task a group of shards, the groups being those of the tokens."""
    if not text_formats(planning.config):
        return []
    docs = [shard.file for shard in sorted(planning.shards, key=lambda shard: shard.key)]
    (allocated,) = planning.before["allocate"]
    firsts = sorted(done.params["first"] for done in planning.before["scatter"])
    routes = {name: (allocated.outputs[name],) for name in ("routes", "starts")}
    return [
        Task(
            planning.stage,
            planning.step,
            f"{number:05d}",
            inputs=routes | {"docs": tuple(docs[first:end])},
            outputs={
                "texts": f"mix/steps/scatter-texts/{number:05d}.arrows",
                "pieces": f"mix/steps/scatter-texts/{number:05d}.parquet",
            },
            params={"first": first},
            memory=2 << 30,
        )
        for number, (first, end) in enumerate(pairwise([*firsts, len(docs)]))
    ]


def _plan_texts(planning: Planning) -> list[Task]:
    """A task an output file and format."""
    config: MixConfig = planning.config
    (allocated,) = planning.before["allocate"]
    scattered = planning.before["scatter-texts"]
    pieces = {name: tuple(done.outputs[name] for done in scattered) for name in ("texts", "pieces")}
    return [
        Task(
            planning.stage,
            planning.step,
            f"{kind}/{_name(done)}",
            inputs={
                **pieces,
                "files": (allocated.outputs["training"], allocated.outputs["validation"]),
                "tokens": (done.outputs["tokens"],),
                "index": (done.outputs["index"],),
                "tokenizer": (planning.before["tokenizer"][0].outputs["tokenizer"],),
                "mix": _mix(planning),
            },
            outputs={"texts": f"mix/exports/{kind}/{_name(done)}.{SUFFIXES[kind]}"},
            params={"format": kind, **{name: done.params[name] for name in ("part", "number", "file")}},
            memory=(1 << 30) + 8 * done.outputs["tokens"].size,
        )
        for kind in text_formats(config)
        for done in _packed(planning)
    ]


def _plan_exports(planning: Planning) -> list[Task]:
    """One task, always: it also takes away what was exported of another mix."""
    config: MixConfig = planning.config
    written = {
        f"{kind}/{part}": tuple(
            file
            for step in ("megatron", "texts")
            for done in planning.before[step]
            for file in done.outputs.values()
            if _is_of(file, kind, folder)
        )
        for kind in ("megatron", *SUFFIXES)
        for folder, part in PARTS.items()
    }
    inputs = {"mix": _mix(planning), **{name: files for name, files in written.items() if files}}
    outputs = {"exports": EXPORTS}
    if "datasets" in config.export:
        outputs["card"] = "mix/exports/parquet/README.md"
    rows = {kind: sum(done.counts["kept"] for done in planning.before["texts"] if done.key.startswith(f"{kind}/"))
            for kind in text_formats(config)}  # fmt: skip
    of = digest([inputs["mix"][0].fingerprint, sorted(shard.file.fingerprint for shard in planning.shards)])
    return [Task(planning.stage, planning.step, "mix", inputs, outputs, {"of": of, "rows": rows})]


def _is_of(file: File, kind: str, folder: str) -> bool:
    begins = f"mix/{folder}/" if kind == "megatron" else f"mix/exports/{kind}/{PARTS[folder]}/"
    return file.path.startswith(begins)


def _packed(planning: Planning) -> list[Done]:
    """The output files in the order of the mix: training, then validation."""
    return sorted(planning.before["gather"], key=lambda done: int(done.params["file"]))


def _name(done: Done) -> str:
    folder, _, number = done.key.partition("/")
    return f"{PARTS[folder]}/{number}"


def _mix(planning: Planning) -> tuple[File, ...]:
    (finished,) = planning.before["finish"]
    return (finished.outputs["summary"],)


EXPORT_STEPS = (
    Step("megatron", "curate.mixtures.megatron:index", _plan_megatron, reads=("tokenizer",)),
    Step("scatter-texts", "curate.mixtures.texts:scatter", _plan_scatter, reads=("tokenizer",)),
    Step("texts", "curate.mixtures.texts:write", _plan_texts, reads=("tokenizer",)),
    Step("exports", "curate.mixtures.exports:exports", _plan_exports, reads=("export",)),
)
"""What follows `finish`. Their identity is that of what they read: another `mix.export` writes what is not there yet."""
