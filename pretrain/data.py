"""Batches: a pure function of (seed, step), whatever happened before and however many processes train.

The tokens are cut into windows; an epoch visits each window once, in an order given by a keyed permutation that is computed
for single indices. So nothing is shuffled or stored, a mixture of any size starts at once, and resuming costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError, nearest
from curate.pretrain.config import Training
from curate.pretrain.loss import IGNORE
from curate.pretrain.tokens import TokenSet

Int64 = npt.NDArray[np.int64]

ROUNDS = 8


def key(*parts: int | str) -> Int64:
    """Numbers that depend on all parts and look random: eight 64-bit words, the same on every machine."""
    return np.frombuffer(hashlib.sha512(repr(parts).encode()).digest(), dtype="<i8")


def permute(index: Int64, size: int | Int64, words: Int64) -> Int64:
    """Where a keyed permutation of range(size) sends these indices, all within it.

    `size` and `words` (last axis: a key's words) may differ between the indices. A Feistel network of ROUNDS rounds over the
    next power of four, walked until the value lies inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains",
    method 2): less than four rounds of it on average.
    """
    value = np.array(index).astype(np.uint64)
    bits = [max(1, (max(end - 1, 1).bit_length() + 1) // 2) for end in np.ravel(size).tolist()]
    half = np.broadcast_to(np.array(bits, np.uint64).reshape(np.shape(size)), value.shape)
    sizes = np.broadcast_to(np.asarray(size).astype(np.uint64), value.shape)
    keys = np.broadcast_to(words.view(np.uint64), (*value.shape, words.shape[-1]))
    outside = np.ones(value.shape, dtype=bool)
    while outside.any():
        middle, own = half[outside], keys[outside]
        low = (np.uint64(1) << middle) - np.uint64(1)
        left, right = value[outside] >> middle, value[outside] & low
        for number in range(ROUNDS):
            left, right = right, left ^ (_scramble(right + own[:, number]) & low)
        value[outside] = (left << middle) | right
        outside = value >= sizes
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

    def predicted(self, sequences: Int64) -> int:
        """How many tokens of some sequences, (count, length), are chosen: fewer where too few may be."""
        free = (~np.isin(sequences, self.special)).sum(axis=1)
        return int(np.minimum(free, self.chosen(sequences.shape[1])).sum())

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

    def predicted(self, step: int) -> int:
        """Targets that count in the whole batch of a step, without making it."""
        if self.masking is None:
            return self.batch_size * self.length
        read = np.stack([self.tokens.window(int(start), self.span) for start in self.starts(step)])
        return self.masking.predicted(read.astype(np.int64))

    def documents(self, step: int) -> list[str]:
        """`snapshot id` of every document in the batch of a step."""
        return [f"{item.snapshot} {item.id}" for item in self.tokens.documents_in(self.starts(step), self.span)]


class Mixture(Batches):
    """The training data of a run of `steps` steps in which each bucket has its share, over a mix packed by bucket.

    The run's windows are given to the buckets by largest remainder, so the shares are exact over the run; halving the run
    again and again, with seeded and unbiased rounding, gives each step whole numbers that are within about one of its
    shares. A bucket's windows are taken in a permuted order, all of them once before any comes again. Nothing is prepared or
    stored, and any step is found in time that grows with the logarithm of the run. `weights`: at least 0, any scale.

    Raises UsageError where the mix is not packed by bucket, has no such bucket, a bucket is shorter than a sequence, or is
    gone through more than `max_repeats` times.
    """

    def __init__(
        self,
        tokens: TokenSet,
        weights: Mapping[str, float],
        *,
        length: int,
        batch_size: int,
        steps: int,
        seed: int,
        masking: Masking | None = None,
        max_repeats: float | None = None,
    ) -> None:
        super().__init__(tokens, length=length, batch_size=batch_size, seed=seed, masking=masking)
        self.steps = steps
        self.lanes = _lanes(tokens, weights, length, self.span)
        self.windows = sum(lane.windows for lane in self.lanes)
        """Windows in the buckets that have a share."""
        self.counts = apportion([weights[lane.name] for lane in self.lanes], steps * batch_size)
        """Windows that each of `lanes` gives to the run."""
        if max_repeats is not None:
            self._refuse_above(max_repeats)

    @property
    def passes(self) -> dict[str, float]:
        """How often the run goes through each bucket that has a share."""
        return {lane.name: count / lane.windows for lane, count in zip(self.lanes, self.counts.tolist(), strict=True)}

    def composition(self, step: int) -> tuple[Int64, Int64]:
        """Windows of each of `lanes` before a step and in it. After the last step the run begins again."""
        again, inside = divmod(step, self.steps)
        before, here = again * self.counts, self.counts.copy()
        first, steps = 0, self.steps
        while steps > 1:
            half = steps // 2
            part = _portion(here, half, steps, key("split", self.seed, again, first, steps))
            if inside < first + half:
                here, steps = part, half
            else:
                before, here = before + part, here - part
                first, steps = first + half, steps - half
        return before, here

    def starts(self, step: int) -> Int64:
        """The first token of every window of a step, shape (batch_size,)."""
        before, here = self.composition(step)
        lane = np.repeat(np.arange(len(here)), here)
        rank = np.arange(self.batch_size) + np.repeat(before - (np.cumsum(here) - here), here)
        rows = permute(np.arange(self.batch_size), self.batch_size, key("rows", self.seed, step))
        return self._places(lane[rows], rank[rows])

    def _places(self, lane: Int64, rank: Int64) -> Int64:
        """Where the windows lie that are number `rank` of their bucket in the run."""
        sizes = np.array([item.windows for item in self.lanes], dtype=np.int64)[lane]
        epoch, inside = np.divmod(rank, sizes)
        kinds, which = np.unique(np.stack([lane, epoch]), axis=1, return_inverse=True)
        which = which.reshape(-1)
        named = [(self.lanes[number], int(turn)) for number, turn in kinds.T]
        words = np.stack([key("bucket", self.seed, item.name, turn) for item, turn in named])
        window = permute(inside, sizes, words[which])
        found = np.empty_like(window)
        for kind, (item, turn) in enumerate(named):
            own = which == kind
            found[own] = item.places(window[own], self.length, key("shift", self.seed, item.name, turn))
        return found

    def _refuse_above(self, most: float) -> None:
        pairs = list(zip(self.lanes, self.counts.tolist(), strict=True))
        above = [
            f"{lane.name} (wants {count * self.length:,} tokens, has {lane.windows * self.length:,}: "
            f"{count / lane.windows:.2f} times)"
            for lane, count in pairs
            if count > most * lane.windows
        ]
        if not above:
            return
        total = int(self.counts.sum())
        possible = min(int(most * lane.windows * total / count) for lane, count in pairs if count)
        listed = ", ".join(above[:8]) + (f" and {len(above) - 8} more" if len(above) > 8 else "")
        raise UsageError(
            f"pretrain.mixture: a run of {total * self.length:,} tokens goes through some buckets more than "
            f"pretrain.max_repeats = {most:g} times: {listed}. With these weights at most {possible * self.length:,} "
            "tokens are possible: train on fewer, raise pretrain.max_repeats or weigh these buckets less"
        )


@dataclass(frozen=True)
class Lane:
    """The windows of one bucket: they never reach beyond it."""

    name: str
    begins: Int64
    """The first token of each of its ranges."""
    upto: Int64
    """Windows in the ranges up to and with each."""
    spare: Int64
    """Tokens that each range has beyond its windows."""

    @property
    def windows(self) -> int:
        return int(self.upto[-1])

    def places(self, window: Int64, length: int, words: Int64) -> Int64:
        """The first tokens of windows by number; `words`: by how much they are shifted, as in `Batches.starts`."""
        own = np.searchsorted(self.upto, window, side="right")
        earlier = np.concatenate([[0], self.upto[:-1]])
        shift = (words.view(np.uint64)[0] % (self.spare + 1).astype(np.uint64)).astype(np.int64)
        return self.begins[own] + (window - earlier[own]) * length + shift[own]


def _lanes(tokens: TokenSet, weights: Mapping[str, float], length: int, span: int) -> list[Lane]:
    """The buckets with a weight above 0, by name."""
    ranges = tokens.buckets()
    for name in weights:
        if name not in ranges:
            raise UsageError(f"pretrain.mixture: the mix has no bucket {name!r}{nearest(name, tuple(ranges))}")
    found = []
    for name in sorted(name for name, weight in weights.items() if weight > 0):
        edges = np.array(ranges[name], dtype=np.int64).reshape(-1, 2)
        sizes = np.diff(edges, axis=1)[:, 0]
        windows = np.maximum(sizes - (span - length), 0) // length
        if not windows.sum():
            raise UsageError(
                f"pretrain.mixture: bucket {name!r} has {int(sizes.sum()):,} tokens, less than one sequence of {length}: "
                "give it no weight, make a larger mix or set pretrain.sequence_length lower"
            )
        kept = windows > 0
        spare = sizes - (span - length) - windows * length
        found.append(Lane(name, edges[kept, 0], np.cumsum(windows[kept]), spare[kept]))
    return found


def apportion(weights: Sequence[float], total: int) -> Int64:
    """Whole numbers in proportion to the weights that sum to `total`: the largest remainders are rounded up."""
    exact = [Fraction(weight) for weight in weights]
    wanted = [total * weight / sum(exact) for weight in exact]
    counts = [int(value) for value in wanted]
    by_rest = sorted(range(len(counts)), key=lambda index: (counts[index] - wanted[index], index))
    for index in by_rest[: total - sum(counts)]:
        counts[index] += 1
    return np.array(counts, dtype=np.int64)


def _portion(counts: Int64, part: int, whole: int, words: Int64) -> Int64:
    """Of `counts` (summing to a multiple of `whole`) the share part / whole, each rounded up or down, their sum exact.

    Which are rounded up is drawn by systematic sampling (Madow 1949): each as often as its fraction says.
    """
    floors, rest = np.divmod(counts * part, whole)
    drawn = words.view(np.uint64)
    order = np.argsort(_scramble(np.arange(len(counts), dtype=np.uint64) + drawn[0]), kind="stable")
    reached = np.cumsum(rest[order]) + int(drawn[1] % np.uint64(whole))
    floors[order] += np.diff(reached // whole, prepend=0)
    return floors


def open_data(config: Training, tokens: TokenSet, masking: Masking | None) -> Batches:
    """The training data that a configuration asks for: the whole mix, or a mixture of its buckets."""
    length, batch_size, seed = config.sequence_length, config.batch_size, config.seed
    if config.mixture is None:
        return Batches(tokens, length=length, batch_size=batch_size, seed=seed, masking=masking)
    lanes = _lanes(tokens, config.mixture, length, length if masking else length + 1)
    steps = count_steps(config, sum(lane.windows for lane in lanes))
    return Mixture(
        tokens, config.mixture, length=length, batch_size=batch_size, steps=steps, seed=seed, masking=masking,
        max_repeats=config.max_repeats,
    )  # fmt: skip


def count_steps(config: Training, windows: int) -> int:
    """Optimiser steps of a resolved configuration on data of so many windows, at least one."""
    if config.steps is not None:
        return config.steps
    if config.tokens is not None:
        return -(-config.tokens // (config.batch_size * config.sequence_length))
    assert config.epochs is not None
    return max(1, round(config.epochs * windows / config.batch_size))


def corrupted(sequences: Int64, masking: Masking, numbers: Sequence[int], seed: int) -> Batch:
    """A masked batch; each sequence's mask depends on the seed and on its number in the run alone."""
    parts = []
    for sequence, number in zip(sequences, numbers, strict=True):
        random = np.random.Generator(np.random.Philox(key=key("mask", seed, number)[:2].view(np.uint64)))
        parts.append(masking.corrupt(sequence, random))
    inputs, positions, targets = (np.stack(part) for part in zip(*parts, strict=True))
    return Batch(inputs, targets, positions)
