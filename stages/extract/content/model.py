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
LEAST = 0.45
"""No block less likely than this is kept. Blocks of a page are wrong together, which the expected F1 does not know: without
this it would take in whole sidebars of unsure blocks."""
_FILLED = 0.5
"""Words that a block without a word (a line of signs) counts for in the choice."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees, flat: an inner node's `feature`, `threshold` (left if <=) and children; a child below 0 is leaf
    `-child - 1`.

    `node_at` and `leaf_at` (trees + 1): where each tree's inner nodes and leaves start. Children and leaves count from there.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    leaf: np.ndarray
    node_at: np.ndarray
    leaf_at: np.ndarray

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """The probability of each row, float32."""
        return _evaluate(
            matrix, self.feature, self.threshold, self.left, self.right, self.leaf, self.node_at, self.leaf_at
        )  # fmt: skip


@njit(cache=True)
def _evaluate(matrix: np.ndarray, feature: np.ndarray, threshold: np.ndarray, left: np.ndarray, right: np.ndarray,
              leaf: np.ndarray, node_at: np.ndarray, leaf_at: np.ndarray) -> np.ndarray:  # fmt: skip
    rows = len(matrix)
    sums = np.zeros(rows, np.float32)
    for tree in range(len(node_at) - 1):
        base, leaves = node_at[tree], leaf_at[tree]
        if node_at[tree + 1] == base:
            sums += leaf[leaves]
            continue
        for row in range(rows):
            node = 0
            while node >= 0:
                place = base + node
                node = left[place] if matrix[row, feature[place]] <= threshold[place] else right[place]
            sums[row] += leaf[leaves - node - 1]
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


@njit(cache=True)
def choose(probabilities: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, float]:
    """The blocks to keep: those above the threshold at which the expected F1 of their words is highest, but none less
    likely than `LEAST`; and that F1."""
    n = len(probabilities)
    order = np.argsort(-probabilities, kind="mergesort")
    total = 0.0
    for block in range(n):
        total += probabilities[block] * words[block]
    hits = chosen = best = 0.0
    last = -1
    for place in range(n):
        block = order[place]
        if probabilities[block] < LEAST:
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
    """Writes a model as safetensors; `load` gives the same predictions."""
    from safetensors.numpy import save_file

    arrays = {"weights.scaled": np.round(model.weights / _SCALE).clip(-127, 127).astype(np.int8)}
    for name, trees in (("first", model.first), ("second", model.second)):
        for field in Trees.__dataclass_fields__:
            arrays[f"{name}.{field}"] = np.ascontiguousarray(getattr(trees, field))
    meta = model.meta | {"format": str(FORMAT), "features": json.dumps(features.NAMES + features.CONTEXT_NAMES)}
    save_file(arrays, path, metadata=meta)


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
