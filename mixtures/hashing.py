"""Numbers that look random and depend on nothing but the seed and a document's own name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

UInt64 = npt.NDArray[np.uint64]
SPACE = 1 << 64

SAMPLE, HOLD_OUT, SHUFFLE, JITTER, HELD_ORDER = range(1, 6)
"""Purposes: each draws its own independent numbers from the same keys."""


def document_keys(ids: pa.Array, snapshots: pa.Array, seed: int) -> UInt64:
    """One number a document: the xxh3 hash of (snapshot, id). Shape: one a row."""
    import xxhash

    digest = xxhash.xxh3_64_intdigest
    names = zip(snapshots.to_pylist(), ids.to_pylist(), strict=True)
    seed %= SPACE
    return np.array([digest(f"{snapshot or ''}\0{name or ''}".encode(), seed) for snapshot, name in names], np.uint64)


def id_keys(ids: pa.Array, seed: int) -> UInt64:
    """One number a document by its id alone: the same page in two snapshots has the same. Shape: one a row."""
    import xxhash

    seed %= SPACE
    return np.array([xxhash.xxh3_64_intdigest((name or "").encode(), seed) for name in ids.to_pylist()], np.uint64)


def remix(keys: UInt64, purpose: int) -> UInt64:
    """Fresh numbers out of keys, independent for each purpose: SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64(purpose * 0x9E3779B97F4A7C15 % SPACE)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: UInt64 = mixed ^ (mixed >> np.uint64(31))
    return result


def fraction(share: float) -> int:
    """The number below which this share of all keys lies."""
    return min(int(share * SPACE), SPACE)
