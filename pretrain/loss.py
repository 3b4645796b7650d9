"""The losses: next-token and masked cross-entropy, in nats."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.pretrain.model import Transformer

IGNORE = -100
"""A target that stands for nothing: neither predicted nor counted."""


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of softmax(hidden @ weight.T), computed in float32.

    hidden (n, width), weight (vocabulary, width), targets (n,). Gives (nats, penalty), each (n,) and 0 where the target is
    IGNORE; the penalty is z_loss * log(normaliser)^2 (PaLM, Chowdhery et al. 2022, section 5).
    """
    logits = F.linear(hidden, weight.to(hidden.dtype)).float()
    nats = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="none")
    if not z_loss:
        return nats, torch.zeros_like(nats)
    return nats, z_loss * logits.logsumexp(dim=-1).square() * (targets != IGNORE)


def predict(
    model: Transformer, inputs: Tensor, targets: Tensor, positions: Tensor | None = None, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """(nats, penalty) of every target, each of the shape of `targets`.

    inputs (batch, length). Causal: targets (batch, length), the token that follows each input. Masked: positions and
    targets (batch, k); hidden states are gathered at the k positions first, so the head runs on these alone.
    """
    hidden = model.hidden(inputs)
    if positions is not None:
        hidden = hidden.gather(1, positions[:, :, None].expand(-1, -1, hidden.size(-1)))
    nats, penalty = linear_cross_entropy(hidden.flatten(0, 1), model.head_weight, targets.flatten(), z_loss)
    return nats.view_as(targets), penalty.view_as(targets)
