"""The peer of bench/pretrain.py: the same model written the plain way, as nanoGPT trains it.

Separate linear layers (queries, keys, values, gate, up), `F.scaled_dot_product_attention`, whole logits into
`F.cross_entropy`, one `torch.optim.AdamW`, random crops from a memory-mapped file made in the loop. Llama's block, so the
parameters are those of `curate.pretrain.model` and the losses of equal weights are equal.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.pretrain.model import ModelShape, Transformer, rotary_table


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return x * torch.cat((cos, cos), -1) + torch.cat((-b, a), -1) * torch.cat((sin, sin), -1)


class PlainBlock(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        inner = shape.heads * shape.head_width
        self.norm1 = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.q, self.k, self.v = (nn.Linear(shape.width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, shape.width, bias=False)
        self.norm2 = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.gate, self.up = (nn.Linear(shape.width, shape.ffn, bias=False) for _ in range(2))
        self.down = nn.Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        h = self.norm1(x)
        heads = [
            part(h).view(batch, length, self.shape.heads, self.shape.head_width).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        ]
        q, k = rotated(heads[0], cos, sin), rotated(heads[1], cos, sin)
        y = F.scaled_dot_product_attention(q, k, heads[2], is_causal=True)
        x = x + self.out(y.transpose(1, 2).contiguous().view(batch, length, -1))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class PlainModel(nn.Module):
    """Token ids (batch, length) and targets -> mean loss in nats."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)
        self.head.weight = self.embedding.weight
        self.rotary: tuple[Tensor, Tensor] | None = None

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        if self.rotary is None or len(self.rotary[0]) != tokens.size(1):
            self.rotary = rotary_table(tokens.size(1), self.shape.head_width, self.shape.rope_theta, tokens.device)
        cos, sin = self.rotary
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.flatten())

    @torch.no_grad()
    def take(self, other: Transformer) -> None:
        """The weights of our model."""
        assert other.shape.tied and other.shape.heads == other.shape.kv_heads
        self.embedding.weight.copy_(other.embedding.weight)
        self.norm.weight.copy_(other.norm.weight)
        for ours, theirs in zip(other.blocks, self.blocks, strict=True):
            for part, weight in zip((theirs.q, theirs.k, theirs.v), ours.attention.qkv.weight.chunk(3), strict=True):
                part.weight.copy_(weight)
            for part, weight in zip((theirs.gate, theirs.up), ours.ffn.gate_up.weight.chunk(2), strict=True):
                part.weight.copy_(weight)
            theirs.out.weight.copy_(ours.attention.out.weight)
            theirs.down.weight.copy_(ours.ffn.down.weight)
            theirs.norm1.weight.copy_(ours.attention_norm.weight)
            theirs.norm2.weight.copy_(ours.ffn_norm.weight)


class PlainLoop:
    """A model with its optimiser and data; `step` trains on one batch."""

    def __init__(self, shape: ModelShape, file: str, *, length: int, rows: int, lr: float = 1e-3) -> None:
        self.model = PlainModel(shape)
        self.data = np.memmap(file, dtype=np.uint16, mode="r")
        self.length, self.rows = length, rows
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        rest = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))

    def batch(self) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(self.data) - self.length, (self.rows,)).tolist()
        inputs = [torch.from_numpy(self.data[i : i + self.length].astype(np.int64)) for i in starts]
        targets = [torch.from_numpy(self.data[i + 1 : i + 1 + self.length].astype(np.int64)) for i in starts]
        return torch.stack(inputs), torch.stack(targets)

    def step(self) -> float:
        """The batch's loss, read at each step."""
        loss = self.model(*self.batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()
