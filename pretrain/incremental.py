"""A causal model read one token after another, keeping keys and values of what it has read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from curate.pretrain.model import Transformer, rotate


class Incremental:
    """Reads `rows` sequences in step; each call computes the new tokens only.

    Of the past, it sees at most `length` tokens and at least half as many: when it is full, it reads the last half again.
    The same calls in the same process give the same bits: an encoder and a decoder agree.
    """

    def __init__(self, model: Transformer, rows: int, length: int) -> None:
        if not model.shape.causal:
            raise ValueError("a model that looks both ways is not read token by token")
        shape, device = model.shape, model.embedding.weight.device
        self.model = model
        self.length = max(2, length)
        self._seen = torch.empty((rows, 0), dtype=torch.long, device=device)
        size = (rows, shape.kv_heads, self.length, shape.head_width)
        self._past = [
            (torch.empty(size, dtype=model.dtype, device=device), torch.empty(size, dtype=model.dtype, device=device))
            for _ in model.blocks
        ]

    @torch.no_grad()
    def read(self, tokens: Tensor) -> Tensor:
        """The hidden state after these tokens, (rows, width); tokens (rows, n), at first any n up to `length`, then 1."""
        if self._seen.size(1) + tokens.size(1) > self.length:
            tokens = torch.cat((self._seen[:, -(self.length // 2) :], tokens), dim=1)
            self._seen = self._seen[:, :0]
        begin = self._seen.size(1)
        if begin and tokens.size(1) > 1:
            raise ValueError("after the first tokens, one at a time")
        self._seen = torch.cat((self._seen, tokens), dim=1)
        return self._forward(tokens, begin)

    def _forward(self, tokens: Tensor, begin: int) -> Tensor:
        model = self.model
        rows, count = tokens.shape
        end = begin + count
        cos, sin = (table[begin:end] for table in model.rotation(self.length, tokens.device))
        x = model.embedding(tokens).to(model.dtype)
        for block, (keys, values) in zip(model.blocks, self._past, strict=True):
            attention = block.attention
            heads = attention.qkv(block.attention_norm(x)).view(rows, count, -1, attention.head_width).transpose(1, 2)
            q, k, v = heads.split((attention.heads, attention.kv_heads, attention.kv_heads), dim=1)
            keys[:, :, begin:end], values[:, :, begin:end] = rotate(k, cos, sin), v
            grouped = attention.heads != attention.kv_heads
            y = F.scaled_dot_product_attention(
                rotate(q, cos, sin), keys[:, :, :end], values[:, :, :end], is_causal=begin == 0, enable_gqa=grouped
            )
            x = x + attention.out(y.transpose(1, 2).reshape(rows, count, -1))
            x = x + block.ffn(block.ffn_norm(x))
        return model.norm(x)[:, -1]
