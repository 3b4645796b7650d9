"""Steps on batches that predict unequally much in each row; as a program, in each of the processes that train together."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from curate.pretrain.config import PretrainConfig
from curate.pretrain.data import Batch
from curate.pretrain.loader import Loaded, filled
from curate.pretrain.loss import IGNORE, Objective
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import make_optimizers
from curate.pretrain.parallel import ALONE, Ranks, full, open_ranks, wrap
from curate.pretrain.train import step

ROWS, LENGTH, STEPS = 5, 12, 4
CASES = [
    {"optimizer": "adamw", "objective": "causal", "micro_batch": 2, "clip": 0.0},
    {"optimizer": "adam", "objective": "masked", "micro_batch": 1, "z_loss": 0.01},
    {"optimizer": "muon", "objective": "causal", "micro_batch": 5, "tied": False, "kv_heads": 1},
]


def batch(number: int, masked: bool) -> Batch:
    """Whole rows of it predict nothing, others everything."""
    random = np.random.default_rng(number)
    inputs = random.integers(0, 50, (ROWS, LENGTH))
    count = 4 if masked else LENGTH
    targets = random.integers(0, 50, (ROWS, count))
    targets[random.random((ROWS, count)) < random.permutation([0.0, 0.3, 0.6, 0.9, 1.0])[:, None]] = IGNORE
    positions = random.integers(0, LENGTH, (ROWS, count)) if masked else None
    return Batch(inputs, targets, positions)


def learn(case: dict[str, Any], parallel: str, ranks: Ranks = ALONE) -> dict[str, list[float]]:
    """Losses, norms of the gradient and, at the end, the sum of squares of each parameter."""
    config = PretrainConfig(
        layers=2, width=16, heads=2, ffn=24, batch_size=ROWS, sequence_length=LENGTH, lr=0.01, parallel=parallel, **case
    ).resolved()
    model = Transformer(ModelShape.of(config, 50))
    model.init_weights(0)
    objective = wrap(Objective(model, config.z_loss, 7), config, ranks)
    run: Any = SimpleNamespace(
        config=config, model=model, objective=objective, ranks=ranks, step=0, steps=STEPS,
        optimizers=make_optimizers(model, config), rows_a_pass=config.rows_a_pass(on_gpu=False),
    )  # fmt: skip
    losses, norms = [], []
    for number in range(STEPS):
        whole = batch(number, config.objective == "masked")
        rows = ranks.rows(ROWS)
        mine = Batch(
            whole.inputs[rows], whole.targets[rows], None if whole.positions is None else whole.positions[rows]
        )
        mine = filled(mine, -(-ROWS // ranks.world))
        loss, norm = step(run, Loaded.of(mine, torch.device("cpu"), whole.predicted))
        losses.append(loss.item())
        norms.append(norm.item())
    squares = [full(parameter.detach()).square().sum().item() for parameter in model.parameters()]
    return {"losses": losses, "norms": norms, "squares": squares}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with open_ranks("cpu") as together:
        found = [learn(case, parallel, together) for parallel in ("ddp", "fsdp") for case in CASES]
        if together.first:
            Path(sys.argv[1]).write_text(json.dumps(found))
