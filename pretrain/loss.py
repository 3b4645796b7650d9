"""The losses: next-token and masked cross-entropy, in nats, without ever holding the logits whole.

The head's product, the softmax and their gradients are computed chunk by chunk of the predictions, backward inside forward:
a chunk's logits are turned into its gradient in place and forgotten. So nothing is computed twice, and memory for logits
is `chunk * vocabulary` numbers whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.pretrain.model import Transformer

IGNORE = -100
"""A target that stands for nothing: neither predicted nor counted."""

CHUNK = 8192

Errors = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


def errors_of(logits: Tensor, targets: Tensor, z_loss: float) -> tuple[Tensor, Tensor, Tensor]:
    """(nats (n,), penalty (n,), the gradient of their sum by the logits (n, vocabulary) in the logits' type).

    0 where the target is IGNORE. The penalty is z_loss * log(normaliser)^2 (PaLM, Chowdhery et al. 2022, section 5). Logits
    of 32 bits are overwritten by the gradient.
    """
    counted = targets != IGNORE
    chosen = targets.clamp(min=0)[:, None].long()
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # One exponential an entry: softmax = exp(x - top) / sum, log(normaliser) = top + log(sum).
    top = wide.amax(dim=-1, keepdim=True)
    target = wide.gather(1, chosen)[:, 0]
    gradient = wide.sub_(top).exp_()
    total = gradient.sum(dim=-1)
    log_normaliser = top[:, 0] + total.log()
    nats = (log_normaliser - target) * counted
    penalty = z_loss * log_normaliser.square() * counted
    # d nats = softmax - onehot, d penalty = 2 z log(normaliser) softmax
    gradient.mul_((counted * (1 + 2 * z_loss * log_normaliser) / total)[:, None])
    if torch.compiler.is_compiling():  # fused; scatter_add_ would first write the whole gradient out in 32 bits
        here = torch.arange(logits.size(1), device=logits.device) == chosen
        gradient = gradient - (here & counted[:, None]).to(gradient.dtype)
    else:
        gradient.scatter_add_(1, chosen, -counted[:, None].to(gradient.dtype))
    return nats, penalty, gradient.to(logits.dtype)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float, chunk: int, errors: Errors
    ) -> tuple[Tensor, Tensor]:
        matrix = weight.to(hidden.dtype)
        total = torch.zeros((), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))
        nats, objective = total.clone(), total.clone()
        to_hidden = torch.empty_like(hidden)
        to_weight: Tensor | None = None
        for begin in range(0, len(hidden), chunk):
            part = slice(begin, begin + chunk)
            found, penalty, gradient = errors(F.linear(hidden[part], matrix), targets[part], z_loss)
            nats += found.sum()
            objective += found.sum() + penalty.sum()
            torch.mm(gradient, matrix, out=to_hidden[part])
            to_weight = _added(to_weight, gradient.t(), hidden[part], weight.dtype)
        assert to_weight is not None, "no predictions"
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.mark_non_differentiable(nats)
        return objective, nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_weight = ctx.saved_tensors
        factor = gradients[0]
        return to_hidden * factor.to(to_hidden.dtype), to_weight * factor.to(to_weight.dtype), None, None, None, None


def _added(total: Tensor | None, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """total + left @ right; products of narrower types are added up in `dtype`."""
    if total is None:
        return (left @ right).to(dtype)
    return total.addmm_(left, right) if left.dtype == dtype else total.add_(left @ right)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    z_loss: float = 0.0,
    chunk: int = CHUNK,
    errors: Errors = errors_of,
) -> tuple[Tensor, Tensor]:
    """(objective, nats), both summed over the targets that are not IGNORE: scalars, float32.

    Cross-entropy of softmax(hidden @ weight.T), to which the objective adds the penalty (`errors_of`). Only the objective
    has a gradient. hidden (n, width) in the type of the activations, weight (vocabulary, width), targets (n,).
    """
    found: tuple[Tensor, Tensor] = _LinearCrossEntropy.apply(hidden, weight, targets, z_loss, chunk, errors)
    return found


@torch.no_grad()
def token_nats(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int = CHUNK) -> Tensor:
    """Nats of each target, (n,), 0 where it is IGNORE; shapes as in `linear_cross_entropy`, no gradient."""
    matrix = weight.to(hidden.dtype)
    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    return torch.cat(
        [
            F.cross_entropy(F.linear(part, matrix).float(), target.long(), ignore_index=IGNORE, reduction="none")
            for part, target in parts
        ]
    )


def gather(hidden: Tensor, positions: Tensor | None) -> Tensor:
    """Hidden states (batch, length, width) at positions (batch, k), or all: (predictions, width)."""
    if positions is not None:
        hidden = hidden.gather(1, positions[:, :, None].long().expand(-1, -1, hidden.size(-1)))
    return hidden.flatten(0, 1)


@torch.no_grad()
def predict(model: Transformer, inputs: Tensor, targets: Tensor, positions: Tensor | None = None) -> Tensor:
    """Nats of every target, of the shape of `targets`; shapes as in `Objective`."""
    hidden = gather(model.hidden(inputs), positions)
    return token_nats(hidden, model.head_weight, targets.flatten()).view_as(targets)


class Objective(nn.Module):
    """The model with its loss: what is called in training, and what is wrapped to train on several devices."""

    def __init__(self, model: Transformer, z_loss: float = 0.0, chunk: int = CHUNK, compiled: bool = False) -> None:
        super().__init__()
        self.model = model
        self.z_loss = z_loss
        self.chunk = chunk
        self.errors: Errors = torch.compile(errors_of, dynamic=False) if compiled else errors_of
        self.trunk = torch.compile(model.trunk, dynamic=False, fullgraph=True) if compiled else model.trunk

    def forward(self, inputs: Tensor, targets: Tensor, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(objective, nats) summed over all that is predicted (`linear_cross_entropy`).

        inputs (batch, length). Causal: targets (batch, length), the token that follows each input. Masked: positions and
        targets (batch, k); hidden states are gathered at the k positions first, so the head runs on these alone.
        """
        hidden = gather(self.trunk(inputs, *self.model.rotation(inputs.size(1), inputs.device)), positions)
        return linear_cross_entropy(
            hidden, self.model.head_weight, targets.flatten(), self.z_loss, self.chunk, self.errors
        )
