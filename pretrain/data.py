"""Batches: a pure function of (seed, step), whatever happened before and however many processes train.

The tokens are cut into windows; an epoch visits each window once, in an order given by a keyed permutation that is computed
for single indices. So nothing is shuffled or stored, a mixture of any size starts at once, and resuming costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError
from curate.pretrain.loss import IGNORE
from curate.pretrain.tokens import TokenSet

Int64 = npt.NDArray[np.int64]

ROUNDS = 8


def key(*parts: int | str) -> Int64:
    """Numbers that depend on all parts and look random: eight 64-bit words, the same on every machine."""
    return np.frombuffer(hashlib.sha512(repr(parts).encode()).digest(), dtype="<i8")


def permute(index: Int64, size: int, words: Int64) -> Int64:
    """Where a keyed permutation of range(size) sends these indices, all within it.

    A Feistel network of ROUNDS rounds over the next power of four, walked until the value lies inside (Black and Rogaway
    2002, "Ciphers with arbitrary finite domains", method 2): less than four rounds of it on average.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    value = np.asarray(index).astype(np.uint64)
    keys = words.view(np.uint64)
    outside = np.ones(value.shape, dtype=bool)
    while outside.any():
        left, right = value[outside] >> half, value[outside] & low
        for word in keys[:ROUNDS]:
            left, right = right, left ^ (_scramble(right + word) & low)
        value[outside] = (left << half) | right
        outside = value >= size
    return value.astype(np.int64)


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Masking:
    """BERT's corruption (Devlin et al. 2019, A.1): of the chosen tokens 80 % hidden, 10 % exchanged, 10 % left."""

    mask: int
    """The id that hides a token."""
    vocab_size: int
    """Exchanged tokens are drawn from range(vocab_size)."""
    special: tuple[int, ...] = ()
    """Ids that are never chosen."""
    fraction: float = 0.15

    def chosen(self, length: int) -> int:
        """How many tokens of a sequence are chosen: the same for each, so that shapes never change."""
        return max(1, round(self.fraction * length))

    def corrupt(self, tokens: Int64, random: np.random.Generator) -> tuple[Int64, Int64, Int64]:
        """(inputs, positions, targets) of one sequence; where too few tokens may be chosen, the rest are IGNORE at 0."""
        count = self.chosen(len(tokens))
        positions = np.zeros(count, dtype=np.int64)
        targets = np.full(count, IGNORE, dtype=np.int64)
        free = np.flatnonzero(~np.isin(tokens, self.special))
        at = np.sort(random.permutation(free)[:count])
        positions[: len(at)], targets[: len(at)] = at, tokens[at]
        fate = random.random(len(at))
        drawn = random.integers(0, self.vocab_size, len(at))
        inputs = tokens.copy()
        inputs[at] = np.where(fate < 0.8, self.mask, np.where(fate < 0.9, drawn, tokens[at]))
        return inputs, positions, targets


@dataclass(frozen=True)
class Batch:
    """Sequences of one step. `positions` is None for the causal objective (see `loss.predict` for the shapes)."""

    inputs: Int64
    targets: Int64
    positions: Int64 | None = None

    @property
    def predicted(self) -> int:
        """Targets that count."""
        return int((self.targets != IGNORE).sum())


class Batches:
    """The training data of a run."""

    def __init__(
        self, tokens: TokenSet, *, length: int, batch_size: int, seed: int, masking: Masking | None = None
    ) -> None:
        self.tokens = tokens
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.masking = masking
        self.span = length if masking else length + 1
        """Tokens that a window reads: a causal one also needs the token after its last input."""
        self.windows = (tokens.tokens - (self.span - length)) // length
        """Windows in an epoch."""
        if self.windows < 1:
            raise UsageError(
                f"the mix has {tokens.tokens} tokens, less than one sequence of {length}: make a larger mix "
                f"(`curate mix --budget …`) or set pretrain.sequence_length lower"
            )

    def starts(self, step: int) -> Int64:
        """The first token of every window of a step, shape (batch_size,)."""
        number = np.arange(step * self.batch_size, (step + 1) * self.batch_size, dtype=np.int64)
        found = np.empty_like(number)
        spare = self.tokens.tokens - (self.span - self.length) - self.windows * self.length
        for epoch in np.unique(number // self.windows):
            inside = number // self.windows == epoch
            order = permute(number[inside] % self.windows, self.windows, key("order", self.seed, int(epoch)))
            # Windows begin elsewhere in each epoch, so that the tokens left over at the end have their turn as well.
            shift = int(key("shift", self.seed, int(epoch)).view(np.uint64)[0] % np.uint64(spare + 1))
            found[inside] = order * self.length + shift
        return found

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step, or some rows of it (those of one process, say)."""
        starts = self.starts(step)[rows]
        read = np.stack([self.tokens.window(int(start), self.span) for start in starts]).astype(np.int64)
        if self.masking is None:
            return Batch(read[:, :-1], read[:, 1:])
        numbers = np.arange(step * self.batch_size, (step + 1) * self.batch_size)[rows]
        return corrupted(read, self.masking, [int(number) for number in numbers], self.seed)

    def documents(self, step: int) -> list[str]:
        """`snapshot id` of every document in the batch of a step."""
        return [f"{item.snapshot} {item.id}" for item in self.tokens.documents_in(self.starts(step), self.span)]


def corrupted(sequences: Int64, masking: Masking, numbers: Sequence[int], seed: int) -> Batch:
    """A masked batch; each sequence's mask depends on the seed and on its number in the run alone."""
    parts = []
    for sequence, number in zip(sequences, numbers, strict=True):
        random = np.random.Generator(np.random.Philox(key=key("mask", seed, number)[:2].view(np.uint64)))
        parts.append(masking.corrupt(sequence, random))
    inputs, positions, targets = (np.stack(part) for part in zip(*parts, strict=True))
    return Batch(inputs, targets, positions)
