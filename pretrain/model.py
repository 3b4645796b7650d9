"""The model: Llama's decoder (Touvron et al. 2023), causal or, for the masked objective, looking both ways.

RMSNorm before each part, rotary positions, SwiGLU, grouped-query attention, no biases. Weights are float32; activations
have `dtype`, to which each layer casts its weight as it is used: there is no autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curate.pretrain.config import Training


@dataclass(frozen=True)
class ModelShape:
    """Everything that decides the shapes of the weights and what is computed with them."""

    vocab_size: int
    """Rows of the embedding: the tokenizer's ids, rounded up."""
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
    def of(cls, config: Training, vocab_size: int) -> ModelShape:
        """The shape that a configuration asks for with a tokenizer of `vocab_size` ids."""
        return cls(
            vocab_size=-(-vocab_size // config.vocab_multiple) * config.vocab_multiple,
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            ffn=config.ffn,
            tied=config.tied,
            causal=config.objective == "causal",
            rope_theta=config.rope_theta,
        )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def block_parameters(self) -> int:
        """Parameters that are neither embedding nor head."""
        attention = self.width * self.head_width * 2 * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.width * self.ffn + 2 * self.width) + self.width

    def flops_per_token(self, length: int) -> float:
        """Floating-point operations of a training step, forward and backward, a token, in sequences of `length`.

        6 N + 12 layers * width * length, N being the parameters of all products, the head's among them and the embedding's
        not (PaLM, Chowdhery et al. 2022, appendix B): the usual basis of MFU, which counts a causal product whole.
        """
        products = self.block_parameters - (2 * self.layers + 1) * self.width + self.vocab_size * self.width
        return 6.0 * products + 12.0 * self.layers * self.width * length


FP8_MAX = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def _to_fp8(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x in 8 bits, the factor that gives it back): one scale a tensor, from its largest magnitude."""
    scale = x.abs().max().float().clamp(min=1e-12) / FP8_MAX[dtype]
    return (x / scale.to(x.dtype)).to(dtype), scale


class _Fp8Linear(torch.autograd.Function):
    """x @ w.T with all three products in 8 bits: E4M3 for values, E5M2 for gradients (Micikevicius et al. 2022)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        (a, a_scale), (b, b_scale) = _to_fp8(x, torch.float8_e4m3fn), _to_fp8(w, torch.float8_e4m3fn)
        return torch._scaled_mm(a, b.t(), a_scale, b_scale, out_dtype=x.dtype, use_fast_accum=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        g, g_scale = _to_fp8(gradients[0], torch.float8_e5m2)
        a, a_scale = _to_fp8(x, torch.float8_e4m3fn)
        b, b_scale = _to_fp8(w, torch.float8_e4m3fn)
        # The second factor has to lie column by column.
        to_x = torch._scaled_mm(g, b.t().contiguous().t(), g_scale, b_scale, out_dtype=x.dtype)
        to_w = torch._scaled_mm(g.t().contiguous(), a.t().contiguous().t(), g_scale, a_scale, out_dtype=x.dtype)
        return to_x, to_w


class Linear(nn.Linear):
    """A matrix without bias, cast to the input's type when used; `fp8`: the products in 8 bits, if 16 divides every side."""

    def __init__(self, inputs: int, outputs: int, fp8: bool = False) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.fp8 = fp8 and inputs % 16 == outputs % 16 == 0

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if (
            not self.fp8 or x.shape[:-1].numel() % 16
        ):  # generating and scoring have all lengths, training has not (config)
            return F.linear(x, weight)
        product: Tensor = _Fp8Linear.apply(x.flatten(0, -2), weight)
        return product.view(*x.shape[:-1], -1)


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


class KeyValues:
    """What one block has computed of the tokens read so far, with room for `capacity` of them: for generating text."""

    def __init__(self, shape: ModelShape, rows: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self._room = torch.empty((2, rows, shape.kv_heads, capacity, shape.head_width), dtype=dtype, device=device)
        self.used = 0

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all tokens, these last; shapes (rows, kv_heads, tokens, head_width)."""
        begin, self.used = self.used, self.used + keys.size(2)
        self._room[0, :, :, begin : self.used] = keys
        self._room[1, :, :, begin : self.used] = values
        return self._room[0, :, :, : self.used], self._room[1, :, :, : self.used]


class Attention(nn.Module):
    def __init__(self, shape: ModelShape, fp8: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.causal = shape.heads, shape.kv_heads, shape.causal
        self.head_width = shape.head_width
        self.qkv = Linear(shape.width, (shape.heads + 2 * shape.kv_heads) * self.head_width, fp8)
        self.out = Linear(shape.heads * self.head_width, shape.width, fp8)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None, memory: KeyValues | None = None
    ) -> Tensor:
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, -1, self.head_width).transpose(1, 2)
        q, k, v = heads.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if memory is not None:
            k, v = memory.add(k, v)
        causal = self.causal and mask is None
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=self.kv_heads != self.heads)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x)), gate and up as one matrix."""

    def __init__(self, shape: ModelShape, fp8: bool) -> None:
        super().__init__()
        self.gate_up = Linear(shape.width, 2 * shape.ffn, fp8)
        self.down = Linear(shape.ffn, shape.width, fp8)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, shape: ModelShape, fp8: bool) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(shape.width, shape.norm_eps)
        self.attention = Attention(shape, fp8)
        self.ffn_norm = RMSNorm(shape.width, shape.norm_eps)
        self.ffn = FeedForward(shape, fp8)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None, memory: KeyValues | None = None
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, memory)
        return x + self.ffn(self.ffn_norm(x))


class Transformer(nn.Module):
    """Token ids (batch, length) -> logits (batch, length, vocabulary).

    Training calls `hidden` and leaves the head to the loss, which needs it only where something is predicted.
    """

    def __init__(self, shape: ModelShape, dtype: torch.dtype = torch.float32, fp8: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.dtype = dtype
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape, fp8) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.head = None if shape.tied else Linear(shape.width, shape.vocab_size)
        self._rotations: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @property
    def head_weight(self) -> Tensor:
        """The matrix from hidden states to logits, (vocabulary, width)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states, normalised: (batch, length, width) in `dtype`."""
        return self.trunk(tokens, *self.rotation(tokens.size(1), tokens.device))

    def trunk(
        self,
        tokens: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        memory: Sequence[KeyValues | None] | None = None,
    ) -> Tensor:
        """`hidden` with its rotary table given: what torch.compile makes one graph of.

        `mask` says which tokens each sees, (batch, 1, length or 1, all tokens), in place of the objective's own rule; with
        `memory`, one a block, the tokens follow those read before.
        """
        x = self.embedding(tokens).to(self.dtype)
        for block, kept in zip(self.blocks, memory or [None] * len(self.blocks), strict=True):
            x = block(x, cos, sin, mask, kept)
        return self.norm(x)

    def rotation(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The rotary table for sequences of `length`: the beginning of the longest that was computed."""
        if device not in self._rotations or len(self._rotations[device][0]) < length:
            self._rotations[device] = rotary_table(length, self.shape.head_width, self.shape.rope_theta, device)
        cos, sin = self._rotations[device]
        return cos[:length], sin[:length]

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
        return {"all": every, "without_embeddings": self.shape.block_parameters}
