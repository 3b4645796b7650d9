"""The model card that stands beside an exported model."""

from __future__ import annotations

from typing import Any

from curate.pipeline.workspace import Workspace
from curate.pretrain.log import LOG, read_log
from curate.pretrain.trained import Trained


def model_card(workspace: Workspace, trained: Trained, config: dict[str, Any], dtype: str) -> str:
    """Markdown: what the model is, what it was trained on, how good it is, how to load it."""
    shape, state = trained.model.shape, trained.checkpoint.state
    counts = trained.model.count_parameters()
    scores = validation(workspace, trained)
    facts = {
        "class": f"`{config['architectures'][0]}`",
        "preset": trained.config.size,
        "objective": trained.config.objective,
        "parameters": f"{counts['all']:,}, {counts['without_embeddings']:,} of them neither embedding nor head",
        "layers, width, heads, keys' heads, inner width": ", ".join(
            f"{value:,}" for value in (shape.layers, shape.width, shape.heads, shape.kv_heads, shape.ffn)
        ),
        "vocabulary": f"{trained.vocab_size:,} (rows of the embedding: {shape.vocab_size:,})",
        "sequence length": f"{trained.length:,}",
        "weights": dtype,
        "optimiser steps": f"{trained.checkpoint.step:,}",
        **_training(trained),
        **{f"validation {name.replace('_', ' ')}": f"{value:.4f}" for name, value in scores.items()},
        "SHA-256 of the checkpoint": f"`{state['files']['model.safetensors']['sha256']}`",
    }
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    header = "---\nlibrary_name: transformers\n" + f"pipeline_tag: {pipeline_tag(trained)}\n---\n\n"
    return f"{header}# {_title(trained)}\n\n| | |\n|---|---|\n{rows}\n\n## Use\n\n{_use(trained, config)}"


def validation(workspace: Workspace, trained: Trained) -> dict[str, float]:
    """The last validation of the checkpoint's run up to its step; empty where there is none."""
    run = trained.checkpoint.name.rpartition("/checkpoints/")[0]
    name = LOG if run == "pretrain" else f"{run}/log.jsonl"
    found: dict[str, float] = {}
    for entry in read_log(workspace, name):
        if "validation" in entry and entry["step"] <= trained.checkpoint.step:
            found = {key: value for key, value in entry["validation"].items() if isinstance(value, float)}
    return found


def _training(trained: Trained) -> dict[str, str]:
    """What it learnt from."""
    state, tuned = trained.checkpoint.state, trained.finetune
    if tuned:
        found = {
            "fine-tuned on": f"{tuned['rows']:,} rows ({tuned['task']})",
            "SHA-256 of the rows": f"`{tuned['sha256']}`",
            "begun from the weights": f"`{tuned['weights']}`",
        }
        if "template" in tuned:
            found["template"] = "`" + tuned["template"].replace("\n", "\\n") + "`"
        return found | ({"labels": ", ".join(tuned["labels"])} if "labels" in tuned else {})
    a_step = trained.config.batch_size * trained.config.sequence_length
    return {
        "tokens of training": f"{trained.checkpoint.step * a_step:,}",
        "tokens in the mix": f"{state['data']['tokens']:,}",
        "SHA-256 of the mix": f"`{state['data']['sha256']}`",
    }


def _cell(value: str) -> str:
    """Labels and templates may hold what would end a table's cell."""
    return " ".join(value.replace("|", "\\|").split())


def _title(trained: Trained) -> str:
    name = trained.checkpoint.name.split("/")
    return name[2] if trained.finetune else f"{trained.config.size}, {trained.config.objective}"


def pipeline_tag(trained: Trained) -> str:
    """What `transformers.pipeline` calls the task."""
    if trained.task == "labels":
        return "text-classification"
    return "text-generation" if trained.model.shape.causal else "fill-mask"


def _use(trained: Trained, config: dict[str, Any]) -> str:
    kind = config["architectures"][0]
    lines = [
        "```python",
        f"from transformers import AutoTokenizer, {kind}",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        f'model = {kind}.from_pretrained("FOLDER")',
        "```",
        "",
    ]
    end = trained.tokenizer.id_to_token(trained.eos)
    lines.append(
        f"Documents were separated by `{end}`, with which a text begins: it is the tokenizer's `bos_token`, `eos_token` and "
        + (
            "`pad_token`, and the tokenizer puts it in front."
            if trained.task == "labels"
            else "`pad_token`. The tokenizer adds nothing."
        )
    )
    lines.append(
        "Special tokens in a text are read as such; `split_special_tokens=True` reads them as plain text, as in training."
    )
    if trained.vocab_size < trained.model.shape.vocab_size and trained.model.shape.causal and trained.task != "labels":
        lines.append(f"Ids from {trained.vocab_size:,} on stand for nothing; `generation_config.json` suppresses them.")
    return "\n".join(lines) + "\n"
