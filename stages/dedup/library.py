"""Dedup without a run: signatures and copies of texts in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from curate.stages.dedup.clusters import Clusters, links
from curate.stages.dedup.members import SHINGLES
from curate.stages.dedup.minhash import HashBits, NgramOf, band_keys, signature_matrix
from curate.stages.dedup.normalise import Normalised, normalised_batches, text_hashes
from curate.stages.dedup.similarity import shingle_sets
from curate.stages.dedup.verify import Pages, linked

Texts: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str | None]"
"""Strings of Arrow, whatever their layout, or of Python; a null is a text without words."""


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
    shingle sets, without bias and with variance J(1 - J) / permutations. A text of fewer words is one shingle; a text without
    words, or a null, has ones in all bits everywhere. `seed`, 0 to 2^32 - 1, chooses the permutations: only signatures of one
    seed are comparable. See `curate.stages.dedup.minhash` for the definition, `curate.stages.dedup.normalise` for what is made
    of a text before. Raises ValueError for settings that are not possible, TypeError for texts that are no strings.
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

    A text is kept where the result is its own index. Two texts are linked where they are the same after normalisation or share
    one of `bands` bands of `rows` signature values, with probability 1 - (1 - J^rows)^bands; a cluster is what links join, so
    two of its texts may be less alike than any two that are linked. Texts without words, and nulls, are never copies. With
    `verify`, texts that share a band are linked only if the Jaccard similarity of their shingle sets is at least that (of
    texts of more than 4096 shingles, of a sample: error .006). It is the answer of the stage `dedup` with
    `keep: first`, and `verify: jaccard`, to pages in this order. Time is linear but for sorts, however often a text is copied;
    memory is about 1.5 kB a text at most beside the texts. Raises ValueError for settings that are not possible, TypeError
    for texts that are no strings.
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
    # copies of a text have its keys: the first of them stands for all
    first = clusters.labels()[documents] == documents
    documents, keys = documents[first], keys[first]
    one, other, _ = links(keys.T.reshape(-1), np.zeros(keys.size, np.uint64), np.tile(documents, bands))
    if verify is not None:
        shared = np.unique(np.concatenate([one, other]))
        keys = keys[np.searchsorted(documents, shared)]
        one, other = _verified(array, shared, keys, verify, ngram, ngram_of), shared
    clusters.join(one, other)
    return clusters.labels().astype(np.int64)


def _verified(
    texts: pa.Array | pa.ChunkedArray, documents: Any, keys: Any, least: float, ngram: int, of: NgramOf
) -> Any:
    """Of different texts that share keys the first of each one's cluster, as the stage verifies them."""
    sets = [shingle_sets(part, ngram, of).lowest(SHINGLES) for part in _normalised(texts, documents)]
    shingles = np.concatenate([np.zeros(0, np.uint32), *(hashes for hashes, _ in sets)])
    offsets = np.cumsum(np.concatenate([[0], *(np.diff(ends) for _, ends in sets)]))
    pages = Pages(
        keys,
        shingles=shingles,
        spans=np.column_stack([offsets[:-1], offsets[1:]]),
        limits=np.full(len(documents), SHINGLES),
    )
    return documents[linked(pages, least)]


def _normalised(texts: pa.Array | pa.ChunkedArray, rows: Any) -> Iterator[Normalised]:
    """Some of the texts, ascending, each chunk by itself: together they may be more than one array of strings holds."""
    first = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        start, end = np.searchsorted(rows, [first, first + len(chunk)])
        yield from normalised_batches(chunk.take(pa.array(rows[start:end] - first)))
        first += len(chunk)


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
    if isinstance(texts, str | bytes):
        raise TypeError("texts are several, in a list or an Arrow array, not one string")
    if not isinstance(texts, pa.Array | pa.ChunkedArray):
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str | None):
                raise TypeError(f"texts are strings or None, not {type(text).__name__}")
        return pa.array(texts, pa.large_string())
    kind = texts.type.value_type if pa.types.is_dictionary(texts.type) else texts.type
    if kind != texts.type or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return texts.cast(pa.large_string())  # the others are read as they lie, or refused there
    return texts
