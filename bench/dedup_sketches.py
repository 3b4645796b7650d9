"""Which sketch: k permutations against one, circulant ones and fast similarity sketching, in speed, recall and variance.

    python bench/dedup_sketches.py                   # writes bench/results/dedup_sketches.json; a minute

Sets of random 64-bit hashes stand for shingles, so that the sketch alone is measured. A pair has a union of so many shingles
and exactly the similarity named; permutations are those of one seed, as in a run. `recall`: the greatest distance from the
curve 1 - (1 - s^rows)^bands over the steps, in points. `variance`: of the estimate, over J(1 - J) / k, the mean of the steps.
Time is CPU time on one core.

    permutations      (a h + b) mod 2^32: what curate does (`curate.stages.dedup.minhash`)
    prime             (a h + b) mod 2^61 - 1, cut to 32 bits, product exact: what it did before, as datasketch means it
    one_permutation   bins of one hash, empty ones filled by optimal densification (Shrivastava 2017)
    fast_similarity   rounds of bins until none is empty (Dahlgaard, Knudsen, Thorup 2017)
    circulant         one table of 2^16 random values read from k places on (C-MinHash, Li and Li 2022)
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)  # read when NumPy and Numba load

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dedup import STEPS, least
from extract import about
from numba import njit
from rich.console import Console
from rich.table import Table

from curate.stages.dedup.minhash import mix, sign_hashes

RESULTS = Path(__file__).parent / "results" / "dedup_sketches.json"
BANDS, ROWS = 14, 8
K = BANDS * ROWS
UNIONS = (20, 50, 112, 200, 500, 2000)
LENGTHS = (20, 100, 400, 1000)
NONE = np.uint32(0xFFFFFFFF)
STEP = np.uint64(0x9E3779B97F4A7C15)
P, LOW_29, LOW_32 = (np.uint64((1 << bits) - 1) for bits in (61, 29, 32))
_U29, _U32, _U61 = (np.uint64(bits) for bits in (29, 32, 61))

Array = np.ndarray[Any, Any]
Sketch = Callable[[Array, Array], Array]


@njit(nogil=True)
def _prime(hashes, offsets, a_high, a_low, b, out):  # type: ignore[no-untyped-def]
    for text in range(len(offsets) - 1):
        best = np.full(len(b), np.int64(LOW_32))
        for at in range(offsets[text], offsets[text + 1]):
            h = hashes[at] >> _U32
            for j in range(len(b)):
                low, high = h * a_low[j], h * a_high[j]
                value = (low & P) + (low >> _U61) + ((high & LOW_29) << _U32) + (high >> _U29) + b[j]
                value = (value & P) + (value >> _U61)
                if value >= P:
                    value -= P
                best[j] = min(best[j], np.int64(value & LOW_32))
        for j in range(len(b)):
            out[text, j] = np.uint32(best[j])


@njit(nogil=True)
def _into_bins(hashes, start, end, seed, row, full):  # type: ignore[no-untyped-def]
    """Each hash into the bin that its high half names, for the bins that are not full yet; the least low half stays."""
    k = np.uint64(len(row))
    for at in range(start, end):
        h = mix(hashes[at] + seed)
        j = np.int64(((h >> _U32) * k) >> _U32)
        if not full[j]:
            row[j] = min(row[j], np.uint32(h & LOW_32))


@njit(nogil=True)
def _one_permutation(hashes, offsets, out):  # type: ignore[no-untyped-def]
    k = out.shape[1]
    nothing = np.zeros(k, np.bool_)
    for text in range(len(offsets) - 1):
        row = out[text]
        row[:] = NONE
        _into_bins(hashes, offsets[text], offsets[text + 1], np.uint64(0), row, nothing)
        held = row.copy()
        for j in range(k):
            attempt = np.uint64(1)
            while row[j] == NONE:
                row[j] = held[np.int64(((mix(np.uint64(j) * STEP + attempt) >> _U32) * np.uint64(k)) >> _U32)]
                attempt += np.uint64(1)


@njit(nogil=True)
def _fast_similarity(hashes, offsets, out):  # type: ignore[no-untyped-def]
    k = out.shape[1]
    full = np.empty(k, np.bool_)
    for text in range(len(offsets) - 1):
        row = out[text]
        row[:] = NONE
        full[:] = False
        start, end = offsets[text], offsets[text + 1]
        for turn in range(k):
            _into_bins(hashes, start, end, np.uint64(turn) * STEP, row, full)
            full[:] = row != NONE
            if full.all():
                break
        for j in range(k):
            if not full[j]:
                for at in range(start, end):
                    row[j] = min(row[j], np.uint32(mix(hashes[at] + np.uint64(k + j) * STEP) & LOW_32))


@njit(nogil=True)
def _circulant(hashes, offsets, table, out):  # type: ignore[no-untyped-def]
    k = out.shape[1]
    places = np.uint64(len(table) - k)
    for text in range(len(offsets) - 1):
        row = out[text]
        row[:] = NONE
        for at in range(offsets[text], offsets[text + 1]):
            first = np.int64(((hashes[at] >> _U32) * places) >> _U32)
            for j in range(k):
                row[j] = min(row[j], table[first + j])


def sketches() -> dict[str, Sketch]:
    """By name, from hashes and offsets to (sets, K) values."""
    draw = np.random.default_rng(1)
    a, b = draw.integers(1, int(P), size=(2, K), dtype=np.uint64)
    table = draw.integers(0, 1 << 32, (1 << 16) + K, dtype=np.uint32)
    table[-K:] = table[:K]

    def of(kernel: Any, *given: Any) -> Sketch:
        def made(hashes: Array, offsets: Array) -> Array:
            out = np.empty((len(offsets) - 1, K), np.uint32)
            kernel(hashes, offsets, *given, out)
            return out

        return made

    return {
        "permutations": lambda hashes, offsets: sign_hashes(hashes, offsets, K, seed=1),
        "prime": of(_prime, a >> _U32, a & LOW_32, b),
        "one_permutation": of(_one_permutation),
        "fast_similarity": of(_fast_similarity),
        "circulant": of(_circulant, table),
    }


def speed(sketch: Sketch, draw: np.random.Generator) -> dict[str, float]:
    """Nanoseconds a shingle, by the shingles of a set."""
    found = {}
    for length in LENGTHS:
        hashes = draw.integers(0, 1 << 64, 200_000, dtype=np.uint64)
        offsets = np.arange(0, len(hashes) + 1, length)
        found[str(length)] = round(1e9 * least(lambda h=hashes, o=offsets: sketch(h, o), 3) / len(hashes), 2)  # type: ignore[misc]
    return found


def quality(every: dict[str, Sketch], union: int, pairs: int, draw: np.random.Generator) -> dict[str, Any]:
    """By sketch: recall's distance from the curve by step, the variance of the estimate over theory's, its bias in sigmas."""
    found: dict[str, Any] = {name: {"recall": {}, "variance": [], "bias": 0.0} for name in every}
    for step in STEPS:
        common = round(union * step)
        middle = common + (union - common) // 2
        if common == union:
            continue
        true = common / union
        hashes = draw.integers(0, 1 << 64, (pairs, union), dtype=np.uint64)
        sides = (hashes[:, :middle], np.concatenate([hashes[:, :common], hashes[:, middle:]], axis=1))
        for name, sketch in every.items():
            one, other = (sketch(side.reshape(-1), np.arange(pairs + 1) * side.shape[1]) for side in sides)
            equal = one == other
            recall = float(equal.reshape(pairs, BANDS, ROWS).all(axis=2).any(axis=1).mean())
            found[name]["recall"][str(step)] = round(100 * (recall - (1 - (1 - true**ROWS) ** BANDS)), 2)
            estimate, theory = equal.mean(axis=1), true * (1 - true) / K
            found[name]["variance"].append(round(float(estimate.var() / theory), 3))
            sigmas = abs(float(estimate.mean()) - true) / (theory / pairs) ** 0.5
            found[name]["bias"] = round(max(found[name]["bias"], sigmas), 1)
    return found


def run(pairs: int) -> dict[str, Any]:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    draw = np.random.default_rng(3)
    every = sketches()
    return about() | {
        "bands": BANDS,
        "rows": ROWS,
        "ns_a_shingle": {name: speed(sketch, draw) for name, sketch in every.items()},
        "unions": {
            str(union): {"pairs": min(pairs, 6_000_000 // union)}
            | quality(every, union, min(pairs, 6_000_000 // union), draw)
            for union in UNIONS
        },
    }


def show(console: Console, result: dict[str, Any]) -> None:
    """The same as tables on the terminal."""
    table = Table("ns a shingle, sets of", *map(str, LENGTHS), title=f"speed, {K} values")
    for name, found in result["ns_a_shingle"].items():
        table.add_row(name, *(f"{found[str(length)]:.1f}" for length in LENGTHS))
    console.print(table)
    table = Table("furthest from the curve / variance, union of", *map(str, UNIONS), title=f"{BANDS} x {ROWS}")
    for name in result["ns_a_shingle"]:
        cells = []
        for union in UNIONS:
            found = result["unions"][str(union)][name]
            furthest = max(found["recall"].values(), key=abs)
            cells.append(f"{furthest:+.2f} / {np.mean(found['variance']):.2f}")
        table.add_row(name, *cells)
    console.print(table)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000, help="at each step and size; fewer of large sets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    result = run(given.pairs)
    show(Console(width=None if sys.stdout.isatty() else 140), result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
