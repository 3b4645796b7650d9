"""Dedup without a run: signatures and copies of texts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from curate.stages.dedup.clusters import Clusters, links
from curate.stages.dedup.minhash import band_keys, signature_matrix
from curate.stages.dedup.normalise import normalised_batches, text_hashes

Texts: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str | None]"


def signatures(
    texts: Texts, *, permutations: int = 112, ngram: int = 5, seed: int = 1
) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """MinHash signatures of the normalised texts' shingles of `ngram` words. Shape (texts, permutations).

    The share of equal values of two rows estimates the Jaccard similarity of their shingle sets. A text without words
    has 2^32 - 1 everywhere. See `curate.stages.dedup.minhash` for the definition.
    """
    if permutations < 1 or ngram < 1:
        raise ValueError(f"permutations and ngram are at least 1, not {permutations} and {ngram}")
    parts = [signature_matrix(part, permutations, ngram, seed) for part in normalised_batches(_array(texts))]
    return np.concatenate([np.zeros((0, permutations), np.uint32), *parts])


def deduplicate(
    texts: Texts, *, bands: int = 14, rows: int = 8, ngram: int = 5, seed: int = 1
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each text the index of the one kept: the first of its cluster of exact and near copies. Shape (texts,).

    A text is kept where the result is its own index. Texts without words are never copies.
    """
    if bands < 1 or rows < 1 or ngram < 1:
        raise ValueError(f"bands, rows and ngram are at least 1, not {bands}, {rows} and {ngram}")
    count = 0
    keys, checks, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for part in normalised_batches(_array(texts)):
        worded = np.flatnonzero(np.diff(part.offsets))
        exact = text_hashes(part)[worded]
        bucket = band_keys(signature_matrix(part, bands * rows, ngram, seed), bands, rows)[worded]
        keys += [exact[:, 0], bucket.T.reshape(-1)]
        checks += [exact[:, 1], np.zeros(bucket.size, np.uint64)]
        documents.append(np.tile(worded + count, bands + 1))
        count += len(part)
    clusters = Clusters(count)
    smallest, others, _ = links(np.concatenate(keys), np.concatenate(checks), np.concatenate(documents))
    clusters.join(smallest, others)
    return clusters.labels().astype(np.int64)


def _array(texts: Texts) -> pa.Array | pa.ChunkedArray:
    return texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(list(texts), pa.string())
