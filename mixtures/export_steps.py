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


def _plan_card(planning: Planning) -> list[Task]:
    if "datasets" not in planning.config.export:
        return []
    inputs = {"mix": _mix(planning), **_written(planning, "parquet")}
    return [Task(planning.stage, planning.step, "card", inputs, {"card": "mix/exports/parquet/README.md"})]


def _plan_exports(planning: Planning) -> list[Task]:
    """One task, always: it also takes away what was exported of another mix."""
    config: MixConfig = planning.config
    inputs = {"mix": _mix(planning)}
    for kind in ("megatron", *SUFFIXES):
        inputs |= _written(planning, kind)
    if planning.before["card"]:
        inputs["card"] = (planning.before["card"][0].outputs["card"],)
    rows = {
        kind: sum(done.counts["kept"] for done in planning.before["texts"] if done.key.startswith(f"{kind}/"))
        for kind in text_formats(config)
    }
    of = digest([inputs["mix"][0].fingerprint, sorted(shard.file.fingerprint for shard in planning.shards)])
    return [Task(planning.stage, planning.step, "mix", inputs, {"exports": EXPORTS}, {"of": of, "rows": rows})]


def _written(planning: Planning, kind: str) -> dict[str, tuple[File, ...]]:
    """The files of one format by part, `parquet/train` and so on, in the order of the mix; parts without files are left out."""
    step = "megatron" if kind == "megatron" else "texts"
    names = {done.key: file for done in planning.before[step] for file in done.outputs.values()}
    found: dict[str, list[File]] = {}
    for done in _packed(planning):
        folder = done.key.partition("/")[0]
        key = done.key if kind == "megatron" else f"{kind}/{_name(done)}"
        if key in names:
            found.setdefault(f"{kind}/{PARTS[folder]}", []).append(names[key])
    return {name: tuple(files) for name, files in found.items()}


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
    Step("card", "curate.mixtures.exports:card", _plan_card, reads=("tokenizer",)),
    Step("exports", "curate.mixtures.exports:exports", _plan_exports, reads=("export",)),
)
"""What follows `finish`. Their identity is that of what they read: another `mix.export` writes what is not there yet."""
