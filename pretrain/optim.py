"""The optimiser and the schedule of its learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn

from curate.pretrain.config import PretrainConfig


def make_optimizer(model: nn.Module, config: PretrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with weight decay on matrices and embeddings only."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    grouped = [id(p) for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert sorted(grouped) == sorted(map(id, parameters)), "every parameter belongs to exactly one group"
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)


def learning_rate(step: int, steps: int, config: PretrainConfig) -> float:
    """The learning rate of a step (the first is 0) in a run of `steps`.

    Warm-up reaches the top at its last step; the decay ends at `min_lr * lr` with the last step of the run.
    """
    assert config.lr is not None, "resolve it first"
    top, end = config.lr, config.lr * config.min_lr
    warmup = min(steps // 10, 2000) if config.warmup is None else min(config.warmup, steps)
    if step < warmup:
        return top * (step + 1) / warmup
    begin = max(warmup, steps - round(config.decay * steps)) if config.schedule == "wsd" else warmup
    if step < begin:
        return top
    done = (step - begin + 1) / (steps - begin)
    if config.schedule == "cosine":
        return end + (top - end) * (1 + math.cos(math.pi * done)) / 2
    return top + (end - top) * done
