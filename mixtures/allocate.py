"""Which documents go into the mix, how often and in which order: exactly the budget, never above the cap.

Pure functions over arrays of one number a document. What they decide depends on the documents' keys and not on the order
in which they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mixtures.hashing import JITTER, SHUFFLE, SPACE, UInt64, remix
from curate.pipeline.errors import UsageError, nearest

Ints = npt.NDArray[np.int64]
_BLOCK = 1 << 20
SLACK = 1e-6
"""Share of the budget by which a weight may pass its cap: what solvers of mixtures are exact to."""


NOT_DRAWN = -1
"""The bucket of a document that may not be drawn: held out, or empty."""


@dataclass(frozen=True)
class Pool:
    """All documents, 16 bytes each: `tokens` (int32), `bucket` (int32, index into `names`, or NOT_DRAWN) and `key`
    (uint64, `hashing.document_keys`) have one value a document. Those in a bucket have one token at least."""

    tokens: npt.NDArray[np.int32]
    bucket: npt.NDArray[np.int32]
    key: UInt64
    names: tuple[str, ...]

    def sums(self, values: npt.NDArray[Any]) -> list[int]:
        """Sums by bucket of one value a document (exact up to 2^53)."""
        return by_bucket(self.bucket, values, len(self.names))

    def sizes(self) -> list[int]:
        """Tokens by bucket."""
        return self.sums(self.tokens)


@dataclass(frozen=True)
class Cut:
    """The one copy that is cut short so that the mix ends at the budget: `tokens` of `document` are taken."""

    document: int
    tokens: int


def weigh(names: Sequence[str], sizes: Sequence[int], weights: Mapping[str, float] | None) -> list[Fraction]:
    """Shares of the buckets, exact and summing to 1: those given, or those of the pool.

    Raises UsageError for a weight of a bucket that the pool does not have.
    """
    if weights is None:
        shares = [Fraction(size) for size in sizes]
    else:
        for name in weights:
            if name not in names:
                raise UsageError(f"mix.weights: the pool has no bucket {name!r}{nearest(name, tuple(names))}")
        shares = [Fraction(weights.get(name, 0.0)) for name in names]
    total = sum(shares)
    if not total:
        raise UsageError("mix: there is nothing to draw from: no document has a token")
    return [share / total for share in shares]


def targets(
    names: Sequence[str], sizes: Sequence[int], shares: Sequence[Fraction], budget: int, max_repeats: int
) -> list[int]:
    """Tokens to take from each bucket: whole numbers that sum to the budget, none above `max_repeats` times its size.

    Raises UsageError where that cannot be, saying how many tokens there are and which buckets bind.
    """
    exact = [share * budget for share in shares]
    wanted = [int(value) for value in exact]
    by_rest = sorted(range(len(names)), key=lambda index: (wanted[index] - exact[index], names[index]))
    for index in by_rest[: budget - sum(wanted)]:
        wanted[index] += 1
    room = [max_repeats * size - want for size, want in zip(sizes, wanted, strict=True)]
    excess = -sum(value for value in room if value < 0)
    over = max((value - max_repeats * size for value, size in zip(exact, sizes, strict=True)), default=Fraction(0))
    if over > SLACK * budget or excess > sum(
        value for value, share in zip(room, shares, strict=True) if value > 0 < share
    ):
        raise UsageError(_too_small(names, sizes, shares, wanted, budget, max_repeats))
    for index, value in enumerate(room):
        wanted[index] += min(value, 0)
    for index in sorted(range(len(names)), key=lambda index: (-shares[index], names[index])):
        moved = min(excess, max(room[index], 0))
        wanted[index] += moved
        excess -= moved
    return wanted


def _too_small(
    names: Sequence[str],
    sizes: Sequence[int],
    shares: Sequence[Fraction],
    wanted: Sequence[int],
    budget: int,
    max_repeats: int,
) -> str:
    binding = [
        f"{names[index]} (needs {wanted[index]:,}, has {sizes[index]:,})"
        for index in sorted(range(len(names)), key=lambda index: sizes[index] * max_repeats - wanted[index])
        if wanted[index] > sizes[index] * max_repeats
    ]
    possible = min(int(max_repeats * size / share) for size, share in zip(sizes, shares, strict=True) if share)
    listed = ", ".join(binding[:8]) + (f" and {len(binding) - 8} more" if len(binding) > 8 else "")
    return (
        f"the pool is too small for a budget of {budget:,} tokens: it has {sum(sizes):,}, each at most {max_repeats} times. "
        f"Buckets that bind: {listed}. With these weights at most {possible:,} tokens are possible: lower the budget, raise "
        "mix.max_repeats or weigh these buckets less"
    )


def draw(pool: Pool, wanted: Sequence[int]) -> tuple[npt.NDArray[np.int16], Cut | None]:
    """How often each document is taken, and the copy that is cut (it is counted in the first).

    A bucket of which 2.3 times its size is wanted gives every document twice and a seeded choice of them a third time.
    What is left because documents are whole is given to the buckets that lack most; the last document is cut.
    """
    repeats = np.zeros(len(pool.tokens), np.int16)
    order = np.lexsort((pool.key, pool.bucket))
    ends = np.searchsorted(pool.bucket, range(len(pool.names)), side="right", sorter=order)
    lacking = list(wanted)
    segments = []
    for index, end in enumerate(ends):
        members = order[ends[index - 1] if index else np.count_nonzero(pool.bucket == NOT_DRAWN) : end]
        segments.append(members)
        tokens = pool.tokens[members].astype(np.int64)
        size = int(tokens.sum())
        if not size:
            continue
        times, rest = divmod(wanted[index], size)
        repeats[members] = times
        extra = fill(tokens, rest)
        repeats[members[extra]] += 1
        lacking[index] = rest - int(tokens[extra].sum())
    return repeats, _close(pool, segments, repeats, lacking)


def fill(tokens: Ints, room: int) -> Ints:
    """Positions of documents, taken in order as long as they fit: those too long for what is left are passed over."""
    chosen: list[Ints] = []
    left = np.arange(len(tokens))
    while room > 0:
        left = left[tokens[left] <= room]
        if not len(left):
            break
        sums = np.cumsum(tokens[left])
        count = int(np.searchsorted(sums, room, side="right"))
        chosen.append(left[:count])
        room -= int(sums[count - 1])
        left = left[count:]
    return np.concatenate(chosen) if chosen else np.empty(0, np.int64)


def _close(pool: Pool, segments: list[Ints], repeats: npt.NDArray[np.int16], lacking: list[int]) -> Cut | None:
    """Adds documents until nothing is missing (changing `repeats`); gives the copy that must be cut."""
    missing = sum(lacking)
    while missing > 0:
        index = max(range(len(lacking)), key=lambda item: lacking[item])
        members = segments[index]
        spare = members[
            repeats[members] == repeats[members].min()
        ]  # what `fill` passed over: longer than what is lacking
        long = spare[pool.tokens[spare] >= missing]
        document = int(long[0] if len(long) else spare[0])
        size = int(pool.tokens[document])
        repeats[document] += 1
        if size > missing:
            return Cut(document, missing)
        missing -= size
        lacking[index] -= size
    return None


def arrange(
    key: UInt64, repeats: npt.NDArray[np.int16], cut: Cut | None
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int16]]:
    """The documents of the mix in order, and for each copy how many came before it; shapes: one a copy.

    A seeded shuffle in which r copies of a document lie at least about 1/(2r) of the mix apart: copy j is placed at
    (u + j + v)/r around a circle, with u in [0, 1) of the document and v in [0, 1/2) of the copy. The cut copy is last.
    Takes 40 to 50 bytes of memory a copy.
    """
    counts = repeats.copy()
    total = int(counts.sum(dtype=np.int64))
    if cut is not None:
        counts[cut.document] = 0
    places, which, copy = np.empty(total, np.uint64), np.empty(total, np.uint32), np.empty(total, np.int16)
    done = 0
    for times in np.unique(counts[counts > 0]).tolist():
        members = np.flatnonzero(counts == times)
        here = slice(done, done + times * len(members))
        places[here] = _spread(remix(key[members], SHUFFLE), times).ravel()
        which[here] = np.repeat(members, times)
        copy[here] = np.tile(np.arange(times, dtype=np.int16), len(members))
        done = here.stop
    if cut is not None:
        step = SPACE // (total - done)
        places[done:] = [number * step for number in range(total - done)]
        which[done:] = cut.document
        copy[done:] = range(total - done)
    order = np.argsort(places[: total - 1] if cut is not None else places, kind="stable")
    if cut is not None:
        order = np.append(order, total - 1)
    return which[order], copy[order]


def _spread(start: UInt64, times: int) -> UInt64:
    """Places of the copies on the circle of all keys, in rising order; shape (documents, times)."""
    step = SPACE // times
    spots = np.empty((len(start), times), np.uint64)
    with np.errstate(over="ignore"):
        for copy in range(times):
            spots[:, copy] = start // np.uint64(times) + np.uint64(copy * step)
            if times > 1:
                spots[:, copy] += remix(start + np.uint64(copy), JITTER) // np.uint64(2 * times)
    spots.sort(axis=1)
    return spots


def shards(tokens: npt.NDArray[Any], shard_tokens: int, shard_documents: int = 500_000) -> Ints:
    """Where output files begin: positions of their first copies, then the number of copies.

    A file ends with the document that brings it to `shard_tokens`, or about `shard_documents` documents.
    """
    if not len(tokens):
        return np.zeros(1, np.int64)
    ends = np.cumsum(np.maximum(tokens, shard_tokens // shard_documents), dtype=np.int64)
    full = np.arange(shard_tokens, int(ends[-1]), shard_tokens)
    return np.unique(np.concatenate([[0], np.searchsorted(ends, full) + 1, [len(tokens)]])).astype(np.int64)


def by_bucket(bucket: npt.NDArray[np.int32], values: npt.NDArray[Any], count: int) -> list[int]:
    """Sums of values by bucket, without those that are NOT_DRAWN; exact up to 2^53. Counts where values are booleans."""
    sums = np.zeros(count + 1)
    for start in range(0, len(bucket), _BLOCK):
        here = slice(start, start + _BLOCK)
        sums += np.bincount(bucket[here] + 1, weights=values[here], minlength=count + 1)
    return [int(value) for value in sums[1:]]
