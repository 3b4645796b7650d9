"""The model: Llama's decoder (Touvron et al. 2023), causal or, for the masked objective, looking both ways.

RMSNorm before each part, rotary positions, SwiGLU, grouped-query attention, no biases. Weights are float32; activations
have `dtype`, to which each layer casts its weight as it is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.pretrain.config import PretrainConfig


@dataclass(frozen=True)
class ModelShape:
    """Everything that decides the shapes of the weights and what is computed with them."""

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool = True
    causal: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6

    @classmethod
    def of(cls, config: PretrainConfig, vocab_size: int) -> ModelShape:
        """The shape that a resolved configuration asks for."""
        assert config.layers and config.width and config.heads and config.kv_heads and config.ffn, "resolve it first"
        return cls(
            vocab_size=vocab_size,
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            ffn=config.ffn,
            tied=config.tied,
            causal=config.objective == "causal",
            rope_theta=config.rope_theta,
        )


class Linear(nn.Linear):
    """A matrix without bias, cast to the input's type when used."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * gain over the last dimension, computed in float32 (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.size(-1),), self.weight, self.eps).to(x.dtype)


def rotary_table(length: int, width: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of position * theta^(-2i / width), each of shape (length, width / 2), float32 (Su et al. 2021)."""
    frequency = theta ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    angle = torch.arange(length, dtype=torch.float64, device=device)[:, None] * frequency
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + width / 2) of the last dimension, Llama's layout in Hugging Face; x: (..., length, width)."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.causal = shape.heads, shape.kv_heads, shape.causal
        self.head_width = shape.width // shape.heads
        self.qkv = Linear(shape.width, (shape.heads + 2 * shape.kv_heads) * self.head_width)
        self.out = Linear(shape.heads * self.head_width, shape.width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, self.head_width).transpose(1, 2)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=self.kv_heads != self.heads)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x)), gate and up as one matrix."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_up = Linear(shape.width, 2 * shape.ffn)
        self.down = Linear(shape.ffn, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape)
        self.ffn_norm = RMSNorm(shape.width, shape.norm_eps)
        self.ffn = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        return x + self.ffn(self.ffn_norm(x))


class Transformer(nn.Module):
    """Token ids (batch, length) -> logits (batch, length, vocabulary).

    Training calls `hidden` and leaves the head to the loss, which needs it only where something is predicted.
    """

    def __init__(self, shape: ModelShape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.head = None if shape.tied else Linear(shape.width, shape.vocab_size)

    @property
    def head_weight(self) -> Tensor:
        """The matrix from hidden states to logits, (vocabulary, width)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states, normalised: (batch, length, width) in `dtype`."""
        head_width = self.shape.width // self.shape.heads
        cos, sin = rotary_table(tokens.size(1), head_width, self.shape.rope_theta, tokens.device)
        x = self.embedding(tokens).to(self.dtype)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.hidden(tokens)
        return F.linear(hidden, self.head_weight.to(hidden.dtype))

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Normal(0, 0.02), the matrices that write to the residual stream divided by sqrt(2 * layers) (GPT-2); gains 1.

        Drawn on the CPU in the order of names, so the same on every device.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
                continue
            deviation = 0.02
            if name.endswith(("out.weight", "down.weight")):
                deviation /= math.sqrt(2 * self.shape.layers)
            drawn = torch.empty(parameter.shape).normal_(0.0, deviation, generator=generator)
            parameter.copy_(drawn)

    def count_parameters(self) -> dict[str, int]:
        """All parameters, and those that are neither embedding nor head."""
        every = sum(parameter.numel() for parameter in self.parameters())
        outside = self.embedding.weight.numel() + (0 if self.head is None else self.head.weight.numel())
        return {"all": every, "without_embeddings": every - outside}
