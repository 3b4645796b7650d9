"""Validation: loss and bits per byte, over all and by bucket, language and snapshot."""

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

GROUPS = {"buckets": "bucket", "languages": "language", "snapshots": "snapshot"}
"""What validation is divided by: names in the scores, and the columns of the index."""


class Documents:
    """Documents to be scored, one after another."""

    eos: int
    tokens: int
    bytes: Int64
    """UTF-8 bytes of each."""
    ends: Int64
    """Where each ends among the tokens."""

    def ids(self) -> Int64:
        """All ids, shape (tokens,)."""
        raise NotImplementedError

    def ends_document(self, ids: Int64) -> npt.NDArray[np.bool_]:
        """True for the end-of-text token that closes a document, which stands for no text; shape (tokens,)."""
        last = np.zeros(self.tokens, dtype=bool)
        last[self.ends - 1] = True
        return last & (ids == self.eos)


class Held(Documents):
    """The validation documents that are scored: whole ones, from the beginning, up to about `limit` tokens.

    Holds their index in memory: a few numbers a document.
    """

    def __init__(self, tokens: TokenSet, limit: int) -> None:
        counts, sizes = [], []
        groups: dict[str, list[str]] = {name: [] for name in GROUPS}
        total = 0
        for batch in tokens.index(["tokens", "bytes", *GROUPS.values()]):
            missing = [""] * batch.num_rows
            row = dict.fromkeys(GROUPS.values(), missing) | batch.to_pydict()
            own = zip(*(row[column] for column in GROUPS.values()), strict=True)
            for count, size, names in zip(row["tokens"], row["bytes"], own, strict=True):
                if total >= limit:
                    break
                counts.append(count)
                sizes.append(size)
                for group, name in zip(GROUPS, names, strict=True):
                    groups[group].append(name or "")
                total += count
        self.set = tokens
        self.eos = tokens.eos
        self.tokens = total
        self.bytes = np.asarray(sizes, dtype=np.int64)
        self.ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        self.groups = {group: _numbered(names) for group, names in groups.items()}
        """The names in each of GROUPS, sorted, and each document's number among them."""

    def ids(self) -> Int64:
        """All ids, shape (tokens,)."""
        return self.set.window(0, self.tokens).astype(np.int64)


def _numbered(names: list[str]) -> tuple[list[str], Int64]:
    different = sorted(set(names))
    place = {name: number for number, name in enumerate(different)}
    return different, np.asarray([place[name] for name in names], dtype=np.int64)


def causal_rows(ids: Int64, eos: int, length: int, rows: int) -> Iterator[Rows]:
    """Every token as a target exactly once, in windows of `length`; the first is predicted from an end-of-text token.

    All batches have one shape, at most (rows, length): the last is filled up with targets that are IGNORE.
    """
    rows = max(1, min(rows, -(-len(ids) // length)))
    inputs = np.concatenate([[eos], ids[:-1]])
    for begin in range(0, len(ids), length * rows):
        part = slice(begin, begin + length * rows)
        missing = (0, length * rows - len(ids[part]))
        offsets = np.pad(np.arange(len(ids))[part], missing).reshape(rows, length)
        targets = np.pad(ids[part], missing, constant_values=IGNORE).reshape(rows, length)
        yield offsets, Batch(np.pad(inputs[part], missing, constant_values=eos).reshape(rows, length), targets)


def masked_rows(ids: Int64, length: int, rows: int, masking: Masking, seed: int) -> Iterator[Rows]:
    """Whole windows with some tokens masked, the same ones each time; a rest shorter than a window is left out.

    All batches have one shape, as in `causal_rows`.
    """
    length = min(length, len(ids))
    starts = np.arange(0, len(ids) - length + 1, length)
    rows = max(1, min(rows, len(starts)))
    for begin in range(0, len(starts), rows):
        part = starts[begin : begin + rows]
        batch = corrupted(ids[part[:, None] + np.arange(length)], masking, [int(start) for start in part], seed)
        assert batch.positions is not None
        missing = ((0, rows - len(part)), (0, 0))
        targets = np.pad(batch.targets, missing, constant_values=IGNORE)
        positions = np.pad(batch.positions, missing)
        offsets = np.pad(part[:, None] + batch.positions, missing)
        yield offsets, Batch(np.pad(batch.inputs, missing, mode="edge"), targets, positions)


def evaluate(
    model: Transformer, held: Held, *, length: int, rows: int, masking: Masking | None, seed: int
) -> dict[str, Any]:
    """Validation `loss` (mean nats a predicted token) and, for a causal model, `bits_per_byte`: in all and by each of GROUPS.

    Bits per byte: nats of all tokens of text / ln 2 / their UTF-8 bytes as counted in the index. The end-of-text tokens
    are part of the loss and, as they stand for no bytes, not of the bits per byte. A masked model predicts some tokens
    only, and these knowing what follows, so it has no bits per byte: None. What nothing is known of (languages, in a mix
    without them) is not divided by: an empty dictionary.
    """
    sums = document_sums(model, held, length=length, rows=rows, masking=masking, seed=seed)
    scores = _scores(sums.sum(axis=1), masking is None)
    for group, (names, number) in held.groups.items():
        each = np.stack([np.bincount(number, row, len(names)) for row in sums], axis=1)
        known = zip(names, each, strict=True) if any(names) else ()
        scores[group] = {name: _scores(row, masking is None) for name, row in known if row[1]}
    return scores


@torch.no_grad()
def document_sums(
    model: Transformer, held: Documents, *, length: int, rows: int, masking: Masking | None, seed: int
) -> npt.NDArray[np.float64]:
    """What the scores of `evaluate` are made of, (4, documents): nats, predicted tokens, nats of text alone, bytes."""
    ids = held.ids()
    text = ~held.ends_document(ids)
    device = model.embedding.weight.device
    documents = len(held.bytes)
    nats, count, text_nats = np.zeros(documents), np.zeros(documents, dtype=np.int64), np.zeros(documents)
    if masking is None:
        stream = causal_rows(ids, held.eos, length, rows)
    else:
        stream = masked_rows(ids, length, rows, masking, seed)
    model.eval()
    for offsets, batch in stream:
        positions = None if batch.positions is None else torch.from_numpy(batch.positions).to(device)
        inputs, targets = torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.targets).to(device)
        found = predict(model, inputs, targets, positions)
        counted = batch.targets != IGNORE
        value, offset = found.double().cpu().numpy()[counted], offsets[counted]
        own = np.searchsorted(held.ends, offset, side="right")
        nats += np.bincount(own, value, documents)
        count += np.bincount(own, minlength=documents)
        text_nats += np.bincount(own, value * text[offset], documents)
    model.train()
    return np.stack([nats, count, text_nats, held.bytes])


def _scores(sums: npt.NDArray[np.float64], causal: bool) -> dict[str, Any]:
    nats, count, text_nats, size = sums.tolist()
    return {
        "loss": nats / count if count else None,
        "bits_per_byte": bits_per_byte(text_nats, int(size)) if causal and size else None,
        "tokens": int(count),
        "bytes": int(size),
    }


def bits_per_byte(nats: float, size: int) -> float:
    """Nats of a text over `size` UTF-8 bytes -> bits a byte."""
    return nats / math.log(2) / size
