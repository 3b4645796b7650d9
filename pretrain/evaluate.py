"""Validation: loss and bits per byte, over all and by bucket; a text sample."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from curate.pretrain.data import Batch, Int64, Masking, corrupted
from curate.pretrain.loss import IGNORE, predict
from curate.pretrain.model import Transformer
from curate.pretrain.tokens import TokenSet

Rows = tuple[Int64, Batch]
"""Offsets in the set of what each target predicts (shape of the targets), and the batch."""


class Held:
    """The validation documents that are scored: whole ones, from the beginning, up to about `limit` tokens.

    Holds their index in memory: a few numbers a document.
    """

    def __init__(self, tokens: TokenSet, limit: int) -> None:
        counts, sizes, buckets = [], [], []
        total = 0
        for batch in tokens.index(["tokens", "bytes", "bucket"]):
            row = batch.to_pydict()
            for count, size, bucket in zip(row["tokens"], row["bytes"], row["bucket"], strict=True):
                if total >= limit:
                    break
                counts.append(count)
                sizes.append(size)
                buckets.append(bucket or "")
                total += count
        self.set = tokens
        self.tokens = total
        self.bytes = np.asarray(sizes, dtype=np.int64)
        self.ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self.names = sorted(set(buckets))
        place = {name: number for number, name in enumerate(self.names)}
        self.bucket = np.asarray([place[name] for name in buckets], dtype=np.int64)

    def ids(self) -> Int64:
        """All ids, shape (tokens,)."""
        return self.set.window(0, self.tokens).astype(np.int64)

    def ends_document(self, ids: Int64) -> npt.NDArray[np.bool_]:
        """True for the end-of-text token that closes a document, which stands for no text; shape (tokens,)."""
        last = np.zeros(self.tokens, dtype=bool)
        last[self.ends - 1] = True
        return last & (ids == self.set.eos)


def causal_rows(ids: Int64, eos: int, length: int, rows: int) -> Iterator[Rows]:
    """Every token as a target exactly once, in windows of `length`; the first is predicted from an end-of-text token."""
    inputs = np.concatenate([[eos], ids[:-1]])
    for begin in range(0, len(ids), length * rows):
        part = slice(begin, begin + length * rows)
        targets, sources, offsets = ids[part], inputs[part], np.arange(len(ids))[part]
        missing = -len(targets) % length
        if missing:
            targets = np.concatenate([targets, np.full(missing, IGNORE)])
            sources = np.concatenate([sources, np.full(missing, eos)])
            offsets = np.concatenate([offsets, np.zeros(missing, dtype=np.int64)])
        yield offsets.reshape(-1, length), Batch(sources.reshape(-1, length), targets.reshape(-1, length))


def masked_rows(ids: Int64, length: int, rows: int, masking: Masking, seed: int) -> Iterator[Rows]:
    """Whole windows with some tokens masked, the same ones each time; a rest shorter than a window is left out."""
    length = min(length, len(ids))
    starts = np.arange(0, len(ids) - length + 1, length)
    for begin in range(0, len(starts), rows):
        part = starts[begin : begin + rows]
        batch = corrupted(ids[part[:, None] + np.arange(length)], masking, [int(start) for start in part], seed)
        assert batch.positions is not None
        yield part[:, None] + batch.positions, batch


@torch.no_grad()
def evaluate(
    model: Transformer, held: Held, *, length: int, rows: int, masking: Masking | None, seed: int
) -> dict[str, Any]:
    """Validation `loss` (mean nats a predicted token) and, for a causal model, `bits_per_byte`, in all and by bucket.

    Bits per byte: nats of all tokens of text / ln 2 / their UTF-8 bytes as counted in the index. The end-of-text tokens
    are part of the loss and, as they stand for no bytes, not of the bits per byte. A masked model predicts some tokens
    only, and these knowing what follows, so it has no bits per byte: None.
    """
    ids = held.ids()
    text = ~held.ends_document(ids)
    device = model.embedding.weight.device
    groups = len(held.names)
    nats, count, text_nats = np.zeros(groups), np.zeros(groups, dtype=np.int64), np.zeros(groups)
    causal = masking is None
    if masking is None:
        stream = causal_rows(ids, held.set.eos, length, rows)
    else:
        stream = masked_rows(ids, length, rows, masking, seed)
    model.eval()
    for offsets, batch in stream:
        positions = None if batch.positions is None else torch.from_numpy(batch.positions).to(device)
        inputs, targets = torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.targets).to(device)
        found = predict(model, inputs, targets, positions)
        counted = batch.targets != IGNORE
        value, offset = found.double().cpu().numpy()[counted], offsets[counted]
        group = held.bucket[np.searchsorted(held.ends, offset, side="right")]
        nats += np.bincount(group, value, groups)
        count += np.bincount(group, minlength=groups)
        text_nats += np.bincount(group, value * text[offset], groups)
    model.train()
    size = np.bincount(held.bucket, held.bytes, groups)
    buckets = {
        name: _scores(nats[i], count[i], text_nats[i], size[i], causal) for i, name in enumerate(held.names) if count[i]
    }
    return _scores(nats.sum(), count.sum(), text_nats.sum(), size.sum(), causal) | {"buckets": buckets}


def _scores(nats: float, count: int, text_nats: float, size: float, causal: bool) -> dict[str, Any]:
    return {
        "loss": float(nats / count) if count else None,
        "bits_per_byte": bits_per_byte(float(text_nats), int(size)) if causal and size else None,
        "tokens": int(count),
        "bytes": int(size),
    }


def bits_per_byte(nats: float, size: int) -> float:
    """Nats of a text over `size` UTF-8 bytes -> bits a byte."""
    return nats / math.log(2) / size
