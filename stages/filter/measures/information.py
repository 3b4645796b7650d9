"""How much a text says: how well it compresses, how evenly its words are spread. On the text as extracted."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pyarrow as pa

from curate.stages.filter.registry import signal
from curate.stages.text.segment import Float32Array, Segmented

SHAIB = "Shaib et al. 2024 (arXiv 2403.00553), compression ratio"
SHANNON = "Shannon entropy of the unigram distribution; RedPajama v2 has it over normalised words"


@signal("compression_ratio", unit="bytes a compressed byte", source=SHAIB)
def compression_ratio(texts: Segmented) -> Float32Array:
    """Bytes of the text / bytes of it compressed by gzip (level 6, its default; header included; PyArrow's zlib).

    Prose has about 2, much repetition 10 and more; a text of a few words less than 1; empty text 0.
    """
    compress = _codec().compress
    buffer, ends = pa.py_buffer(texts.bytes), texts.documents.tolist()
    sizes = [compress(buffer.slice(low, high - low)).size for low, high in itertools.pairwise(ends)]
    return (np.diff(texts.documents) / np.array(sizes, np.int64)).astype(np.float32)


@functools.cache
def _codec() -> pa.Codec:
    # 9 takes 5 s for a megabyte of two letters, and gains nothing on prose
    return pa.Codec("gzip", compression_level=6)


@signal("unigram_entropy", unit="nats", source=SHANNON)
def unigram_entropy(texts: Segmented) -> Float32Array:
    """Entropy of the text's words as they stand: - sum of p ln p, p being a word's share of all words; 0 for empty text.

    At most the logarithm of the number of different words. datatrove: of tokens. `rps_doc_unigram_entropy` is that of
    normalised words, which are cut at white space alone.
    """
    from curate.stages.filter.measures import kernels

    words, out = texts.counted, np.zeros(len(texts))
    kernels.entropies(words.first, words.ids, words.distinct, out)
    return out.astype(np.float32)
