"""Dedup without a run: signatures and copies of texts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from curate.stages.dedup.clusters import Clusters, links
from curate.stages.dedup.members import SHINGLES
from curate.stages.dedup.minhash import HashBits, NgramOf, band_keys, signature_matrix
from curate.stages.dedup.normalise import normalised_batches, text_hashes
from curate.stages.dedup.similarity import shingle_sets
from curate.stages.dedup.verify import Pages, linked

Texts: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str | None]"


def signatures(
    texts: Texts,
    *,
    permutations: int = 112,
    ngram: int = 5,
    seed: int = 1,
    ngram_of: NgramOf = "words",
    hash_bits: HashBits = 32,
) -> np.ndarray[Any, Any]:
    """MinHash signatures of the normalised texts' shingles of `ngram` words (or characters). Shape (texts, permutations).

    uint32, or uint64 with `hash_bits` 64. The share of equal values of two rows estimates the Jaccard similarity of their
    shingle sets. A text without words has ones in all bits everywhere. See `curate.stages.dedup.minhash` for the definition.
    Raises ValueError for settings that are not possible, TypeError for texts that are no strings.
    """
    _check(ngram_of, hash_bits, permutations=permutations, ngram=ngram)
    _check_seed(seed)
    parts = [
        signature_matrix(part, permutations, ngram, seed, ngram_of, hash_bits)
        for part in normalised_batches(_array(texts))
    ]
    return np.concatenate([np.zeros((0, permutations), np.uint32 if hash_bits == 32 else np.uint64), *parts])


def deduplicate(
    texts: Texts,
    *,
    bands: int = 14,
    rows: int = 8,
    verify: float | None = None,
    ngram: int = 5,
    seed: int = 1,
    ngram_of: NgramOf = "words",
    hash_bits: HashBits = 32,
) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each text the index of the one kept: the first of its cluster of exact and near copies. Shape (texts,).

    A text is kept where the result is its own index. Texts without words are never copies. With `verify`, two texts that
    share a band are linked only if the Jaccard similarity of their shingle sets is at least that (of
    texts of more than 4096 shingles, of a sample). Raises ValueError for settings that are not possible, TypeError for
    texts that are no strings.
    """
    _check(ngram_of, hash_bits, bands=bands, rows=rows, ngram=ngram)
    _check_seed(seed)
    if verify is not None and not 0 < verify <= 1:
        raise ValueError(f"verify is a Jaccard similarity above 0 and at most 1, not {verify}")
    array = _array(texts)
    buckets, exact, worded = [np.zeros((0, bands), np.uint64)], [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.bool_)]
    for part in normalised_batches(array):
        buckets.append(band_keys(signature_matrix(part, bands * rows, ngram, seed, ngram_of, hash_bits), bands, rows))
        exact.append(text_hashes(part))
        worded.append(np.diff(part.offsets) > 0)
    documents = np.flatnonzero(np.concatenate(worded))
    hashes = np.concatenate(exact)[documents]
    keys = np.concatenate(buckets)[documents]
    clusters = Clusters(len(array))
    clusters.join(*links(hashes[:, 0], hashes[:, 1], documents)[:2])
    if verify is None:
        clusters.join(*links(keys.T.reshape(-1), np.zeros(keys.size, np.uint64), np.tile(documents, bands))[:2])
    else:
        # copies of a text are linked as they are: the first of them stands for all
        first = clusters.labels()[documents] == documents
        clusters.join(*_verified(array, documents[first], keys[first], verify, ngram, ngram_of))
    return clusters.labels().astype(np.int64)


def _verified(
    texts: pa.Array | pa.ChunkedArray, documents: Any, keys: Any, least: float, ngram: int, of: NgramOf
) -> tuple[Any, Any]:
    """The links among different texts, as the stage verifies them; only texts that share a key are looked at again."""
    one, other, _ = links(
        keys.T.reshape(-1), np.zeros(keys.size, np.uint64), np.tile(np.arange(len(documents)), keys.shape[1])
    )
    shared = np.unique(np.concatenate([one, other]))
    sets = [
        shingle_sets(part, ngram, of).lowest(SHINGLES)
        for part in normalised_batches(texts.take(pa.array(documents[shared])))
    ]
    shingles = np.concatenate([np.zeros(0, np.uint32), *(hashes for hashes, _ in sets)])
    offsets = np.cumsum(np.concatenate([[0], *(np.diff(ends) for _, ends in sets)]))
    pages = Pages(keys[shared], shingles=shingles, offsets=offsets, limits=np.full(len(shared), SHINGLES))
    found = documents[shared]
    return found[linked(pages, least)], found


def _check(ngram_of: str, hash_bits: int, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{' and '.join(counts)} are at least 1, not {name}={value}")
    for name, given, kind in (("ngram_of", ngram_of, NgramOf), ("hash_bits", hash_bits, HashBits)):
        if given not in get_args(kind):
            raise ValueError(f"{name} is {' or '.join(map(repr, get_args(kind)))}, not {given!r}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"seed is from 0 to 2^32 - 1, not {seed}")


def _array(texts: Texts) -> pa.Array | pa.ChunkedArray:
    return texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(list(texts), pa.string())
