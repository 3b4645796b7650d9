"""Checkpoints of small models with random weights, written as a run writes them, and rows to adapt them to."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mixes import byte_tokenizer

from curate.pipeline.workspace import Workspace
from curate.pretrain.checkpoint import FOLDER, save_checkpoint
from curate.pretrain.config import PretrainConfig
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import make_optimizers

SHAPE = {"layers": 2, "width": 32, "heads": 4, "ffn": 48}
LENGTH = 64


def write_checkpoint(
    workspace: Workspace, *, tokenizer: Any = None, eos: int = 256, mask: int | None = None, step: int = 7,
    folder: str = FOLDER, large: float = 6.0, **settings: Any,
) -> Transformer:  # fmt: skip
    """A checkpoint of an untrained model with weights large enough that its logits differ; gives the model."""
    tokenizer = tokenizer or byte_tokenizer()
    size = tokenizer.get_vocab_size()
    if settings.get("objective") == "masked" and mask is None:
        mask = size
    config = PretrainConfig(**(SHAPE | {"sequence_length": LENGTH, "batch_size": 4, "lr": 0.03} | settings)).resolved()
    model = Transformer(ModelShape.of(config, max(size, (mask or 0) + 1)))
    model.init_weights(3)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(large)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.1)
    state = {
        "config": config.learning(),
        "model": asdict(model.shape),
        "data": {"sha256": "0" * 64, "tokens": 1000},
        "vocabulary": {"size": size, "eos": eos, "mask": mask},
    }
    save_checkpoint(workspace, step, model, make_optimizers(model, config), state, tokenizer.to_str().encode(), folder)
    return model.eval()


def write_rows(path: Path, rows: list[Any]) -> str:
    """JSONL; strings are written as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def labelled(count: int) -> list[dict[str, str]]:
    """Texts whose label stands in them: anyone who reads can tell them apart."""
    words = ("rain", "walls", "stars")
    return [
        {"text": f"{number} {'ab'[number % 2] * 3} {words[number % 3]} {number}", "label": words[number % 3]}
        for number in range(count)
    ]


def spelt(count: int) -> list[dict[str, str]]:
    """Inputs whose output is their last letter, three times."""
    return [{"input": f"{number:03d} {'xyz'[number % 3]}", "output": "xyz"[number % 3] * 3} for number in range(count)]
