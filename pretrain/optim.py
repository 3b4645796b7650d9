"""The optimisers and the schedule of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from curate.pretrain.config import Training
from curate.pretrain.model import Transformer
from curate.pretrain.parallel import full, spread_like

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """An approximation of U V^T of each matrix U S V^T of a stack (count, rows, columns), singular values .5 to 1.5.

    Five steps of a quintic Newton-Schulz iteration (Jordan et al. 2024, "Muon"), in the stack's type.
    """
    a, b, c = NEWTON_SCHULZ
    tall = stack.size(-2) > stack.size(-1)
    x = stack.mT if tall else stack
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024), with decoupled weight decay (Liu et al. 2025, "Muon is scalable").

    A step is lr * .2 * sqrt(max(rows, columns)) * `orthogonalise`(Nesterov's momentum): its root mean square is that of an
    AdamW step, so the learning rate and the weight decay are AdamW's. `parts`: rows of the matrices that a merged parameter
    is made of, each orthogonalised alone. Matrices of one shape are orthogonalised together.
    """

    def __init__(
        self,
        matrices: Iterable[tuple[nn.Parameter, Sequence[int]]],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.bfloat16,
        compiled: bool = False,
    ) -> None:
        listed = list(matrices)
        self._parts = {parameter: tuple(rows) for parameter, rows in listed}
        self._dtype = dtype
        self._orthogonalise = torch.compile(orthogonalise, dynamic=False) if compiled else orthogonalise
        super().__init__(
            [parameter for parameter, _ in listed], {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        assert closure is None, "not evaluated again"
        for group in self.param_groups:
            pieces: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            spread: list[tuple[Tensor, Tensor]] = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update, target = full(parameter.grad.lerp(momentum, group["momentum"])), parameter
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                if hasattr(parameter, "placements"):
                    # Every process gathers the whole update, and keeps its part of what is made of it.
                    target = torch.zeros_like(update)
                    spread.append((parameter, target))
                rows = self._parts[parameter]
                for weight, piece in zip(target.split(rows), update.split(rows), strict=True):
                    pieces.setdefault(piece.shape, []).append((weight, piece))
            for shape, found in pieces.items():
                updates = self._orthogonalise(torch.stack([piece for _, piece in found]).to(self._dtype))
                size = 0.2 * math.sqrt(max(shape))
                for (weight, _), update in zip(found, updates, strict=True):
                    weight.add_(update.to(weight.dtype), alpha=-group["lr"] * size)
            for parameter, change in spread:
                parameter.add_(spread_like(change, parameter))


class BertAdam(torch.optim.Optimizer):
    """Adam as BERT's code has it: no bias correction, weight decay apart from the moments (Devlin et al. 2019)."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        assert closure is None, "not evaluated again"
        for group in self.param_groups:
            found = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not found:
                continue
            for parameter in found:
                if not self.state[parameter]:
                    self.state[parameter] = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            gradients = [parameter.grad for parameter in found]
            first = [self.state[parameter]["exp_avg"] for parameter in found]
            second = [self.state[parameter]["exp_avg_sq"] for parameter in found]
            one, two = group["betas"]
            torch._foreach_lerp_(first, gradients, 1 - one)
            torch._foreach_mul_(second, two)
            torch._foreach_addcmul_(second, gradients, gradients, 1 - two)
            below = torch._foreach_sqrt(second)
            torch._foreach_add_(below, group["eps"])
            update = torch._foreach_div(first, below)
            torch._foreach_add_(update, found, alpha=group["weight_decay"])
            torch._foreach_add_(found, update, alpha=-group["lr"])


def make_optimizers(model: Transformer, config: Training, compiled: bool = False) -> list[torch.optim.Optimizer]:
    """The optimisers that `config` asks for; every parameter that learns is in exactly one group of one of them.

    Weight decay falls on matrices and embeddings only. With Muon, AdamW has the embedding, the head and the gains.
    """
    betas = (config.beta1, config.beta2)
    matrices = _matrices(model) if config.optimizer == "muon" else []
    taken = {id(parameter) for parameter, _ in matrices}
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rest = [parameter for parameter in learning if id(parameter) not in taken]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer]
    if config.optimizer == "adam":
        found = [BertAdam(groups, lr=config.lr, betas=betas, eps=config.eps)]
    else:
        found = [torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=True)]
    if matrices:
        on_gpu = model.embedding.weight.device.type == "cuda"
        found.append(
            Muon(
                matrices,
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                dtype=torch.bfloat16 if on_gpu else torch.float32,
                compiled=compiled,
            )
        )
    grouped = [id(p) for optimizer in found for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, learning)), "every parameter belongs to exactly one group"
    return found


def _matrices(model: Transformer) -> list[tuple[nn.Parameter, list[int]]]:
    """The matrices of the blocks, with the rows of those that are merged: queries, keys, values; gate, up."""
    shape = model.shape
    q, k = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    merged = {"qkv": [q, k, k], "gate_up": [shape.ffn, shape.ffn]}
    return [
        (parameter, merged.get(name.split(".")[-2], [parameter.size(0)]))
        for name, parameter in model.blocks.named_parameters()
        if parameter.ndim == 2 and parameter.requires_grad
    ]


def learning_rate(step: int, steps: int, config: Training) -> float:
    """The learning rate of a step (the first is 0) in a run of `steps`.

    Warm-up reaches the top at its last step; the decay ends at `min_lr * lr` with the last step of the run.
    """
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
