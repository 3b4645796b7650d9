"""The learned model: which blocks of a page are its main content.

A linear model over names, classes and words gives each block a first score; boosted trees over all features give it a
probability; a second set of trees sees the first one's probabilities around it and decides. What is kept maximises the F1
score that the probabilities promise, so `confidence` is that expected F1.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from curate.stages.extract.content import describe, features

FILE = Path(__file__).with_name("model.safetensors")
"""The model that comes with curate; its card is `model.md` beside it."""
FORMAT = 1
LEAST = 0.4
"""No block less likely than this is kept. Blocks of a page are wrong together, which the expected F1 does not know: without
this it would take in whole sidebars of unsure blocks."""
_FILLED = 0.5
"""Words that a block without a word (a line of signs) counts for in the choice."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees, flat. A node's children stand side by side from `left` on (counted from its tree's first node): the
    first for a `feature` not above the `threshold`, the second for one above. A leaf is its own child, below an infinite
    threshold, and has a `value`. `node_at` (trees + 1): where each tree's nodes start. `depth`: the steps to its
    deepest leaf."""

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    value: np.ndarray
    node_at: np.ndarray
    depth: np.ndarray

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """The probability of each row, float32."""
        return _evaluate(matrix, self.feature, self.threshold, self.left, self.value, self.node_at, self.depth)


_AT_ONCE = 256
"""Rows that go through all trees before the next ones, so that they stay in the cache."""


@njit(cache=True)
def _evaluate(matrix: np.ndarray, feature: np.ndarray, threshold: np.ndarray, left: np.ndarray, value: np.ndarray,
              node_at: np.ndarray, depth: np.ndarray) -> np.ndarray:  # fmt: skip
    # Every row takes the same number of steps, so that there is no branch to guess, and four go side by side, so that one does
    # not wait for another's loads; unsigned, so that Numba does not look for negative places. Twice as fast as stopping at the
    # leaf.
    rows = len(matrix)
    sums = np.zeros(rows, np.float32)
    for first in range(0, rows, _AT_ONCE):
        stop = min(rows, first + _AT_ONCE)
        whole = first + (stop - first) // 4 * 4
        for tree in range(len(depth)):
            base, steps = np.uint64(node_at[tree]), depth[tree]
            for row in range(first, whole, 4):
                r0 = np.uint64(row)
                r1, r2, r3 = r0 + np.uint64(1), r0 + np.uint64(2), r0 + np.uint64(3)
                n0 = n1 = n2 = n3 = base
                for _ in range(steps):
                    n0 = base + np.uint64(left[n0]) + np.uint64(matrix[r0, np.uint64(feature[n0])] > threshold[n0])
                    n1 = base + np.uint64(left[n1]) + np.uint64(matrix[r1, np.uint64(feature[n1])] > threshold[n1])
                    n2 = base + np.uint64(left[n2]) + np.uint64(matrix[r2, np.uint64(feature[n2])] > threshold[n2])
                    n3 = base + np.uint64(left[n3]) + np.uint64(matrix[r3, np.uint64(feature[n3])] > threshold[n3])
                sums[r0] += value[n0]
                sums[r1] += value[n1]
                sums[r2] += value[n2]
                sums[r3] += value[n3]
            for row in range(whole, stop):
                r0 = np.uint64(row)
                n0 = base
                for _ in range(steps):
                    n0 = base + np.uint64(left[n0]) + np.uint64(matrix[r0, np.uint64(feature[n0])] > threshold[n0])
                sums[r0] += value[n0]
    return (1 / (1 + np.exp(-sums))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Model:
    """`weights` of the linear model (`describe.SLOTS`), `first` trees over `features.NAMES`, `second` over
    `features.CONTEXT_NAMES` and these. `meta`: what the model file says of itself."""

    weights: np.ndarray
    first: Trees
    second: Trees
    meta: dict[str, str]

    def probabilities(self, page: features.Described) -> np.ndarray:
        """For each block of a page the probability that it is main content, float32."""
        matrix = page.matrix(self.weights)
        return self.second(page.in_context(matrix, self.first(matrix)))


PROSE, FAINT = 12, 0.1
"""A page on which no block reaches `LEAST` still has main content if one has so many words and is so likely."""


@njit(cache=True)
def choose(probabilities: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, float]:
    """The blocks to keep: those above the threshold at which the expected F1 of their words is highest, but none below `LEAST`,
    unless a page of prose would be left with nothing (`PROSE`, `FAINT`); and that F1, 0 if nothing is kept."""
    n = len(probabilities)
    order = np.argsort(-probabilities, kind="mergesort")
    total = 0.0
    prose = False
    for block in range(n):
        total += probabilities[block] * words[block]
        prose |= words[block] >= PROSE and probabilities[block] >= FAINT
    floor = 0.0 if n and prose and probabilities[order[0]] < LEAST else LEAST
    hits = chosen = best = 0.0
    last = -1
    for place in range(n):
        block = order[place]
        if probabilities[block] < floor:
            break
        hits += probabilities[block] * words[block]
        chosen += words[block]
        value = 2 * hits / (chosen + total + 1e-9)
        if value > best:
            best, last = value, place
    keep = np.zeros(n, np.bool_)
    for place in range(last + 1):
        keep[order[place]] = True
    return keep, best


def words_of(page: features.Described) -> np.ndarray:
    """What each block counts for in `choose`: its words."""
    return np.maximum(page.counts[:, describe.COUNTS.index("words")], _FILLED)


def save(path: Path, model: Model) -> None:
    """Writes a model as safetensors; `load` gives the same predictions. The same model is the same bytes."""
    from safetensors.numpy import save as serialised

    arrays = {"weights.scaled": np.round(model.weights / _SCALE).clip(-127, 127).astype(np.int8)}
    for name, trees in (("first", model.first), ("second", model.second)):
        for field in Trees.__dataclass_fields__:
            arrays[f"{name}.{field}"] = np.ascontiguousarray(getattr(trees, field))
    meta = model.meta | {"format": str(FORMAT), "features": json.dumps(features.NAMES + features.CONTEXT_NAMES)}
    raw = serialised(arrays, metadata=meta)
    # What safetensors writes has the metadata in another order each time.
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.dumps(json.loads(raw[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[start:])


_SCALE = np.float32(1 / 32)
"""The linear model's weights are kept as bytes: multiples of this, from -127 to 127 times it."""


def rounded(weights: np.ndarray) -> np.ndarray:
    """Weights as a saved model has them."""
    return (np.round(weights / _SCALE).clip(-127, 127) * _SCALE).astype(np.float32)


@functools.lru_cache(maxsize=8)
def load(path: Path | str = FILE) -> Model:
    """A model from its file. Raises ValueError if it was made for other features than this version's."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        meta = dict(file.metadata() or {})
        if meta.get("format") != str(FORMAT) or json.loads(meta["features"]) != features.NAMES + features.CONTEXT_NAMES:
            raise ValueError(
                f"{path} is a model for other features: train it again (python -m curate.stages.extract.train)"
            )
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    first, second = (
        Trees(**{field: arrays[f"{name}.{field}"] for field in Trees.__dataclass_fields__})
        for name in ("first", "second")
    )
    return Model(arrays["weights.scaled"] * _SCALE, first, second, meta)
