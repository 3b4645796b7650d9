"""A plain perplexity to compare quality models with: a word trigram model, interpolated (Witten and Bell 1991).

CCNet and many after it keep pages whose perplexity under a 5-gram model of Wikipedia is low. This one is smaller, and is
made of pages of reference and explanation; a word that these do not have counts as one of UNSEEN equally likely ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.classifiers.ngrams import ngrams

ORDER = 3
UNSEEN = 1_000_000
MAX_BYTES = 20_000

Grams = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def perplexities(prose: pa.Array, texts: pa.Array) -> Numbers:
    """The perplexity of each text, a word, by a model of `prose`; UNSEEN for a text without a word."""
    counts = _counted([np.concatenate(part) for part in zip(*_aligned(prose), strict=True)])
    found = np.full(len(texts), float(UNSEEN))
    for row, grams in enumerate(_aligned(texts)):
        if len(grams[0]):
            found[row] = np.exp(-np.log(_probabilities(grams, counts)).mean())
    return found


@dataclass(frozen=True)
class Counts:
    """N-grams of one length in order, how often each stands, how many words follow it and how many kinds of them."""

    names: Grams
    times: Numbers
    follow: Numbers
    kinds: Numbers

    def of(self, column: Numbers, grams: Grams) -> Numbers:
        """The column's number for each n-gram; 0 where it was never seen."""
        places = np.searchsorted(self.names, grams).clip(max=len(self.names) - 1)
        found: Numbers = np.where(self.names[places] == grams, column[places], 0.0)
        return found


def _aligned(texts: pa.Array) -> list[list[Grams]]:
    """Of each text the hashes of the 1-, 2- and 3-gram that end at each word; -1 where the text is not yet so long."""
    hashes, edges = ngrams(texts, order=ORDER, max_bytes=MAX_BYTES)
    found = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        total = end - start
        words = next(n for n in range(total + 1) if sum(max(n - length, 0) for length in range(ORDER)) == total)
        grams = []
        for length in range(ORDER):  # all words come first, then all pairs, then all triples
            size = max(words - length, 0)
            grams.append(np.concatenate([np.full(words - size, -1), hashes[start : start + size].astype(np.int64)]))
            start += size
        found.append(grams)
    return found


def _counted(grams: list[Grams]) -> list[Counts]:
    counts = []
    for length in range(ORDER):
        names, times = np.unique(grams[length][grams[length] >= 0], return_counts=True)
        follow, kinds = np.zeros(len(names)), np.zeros(len(names))
        if length + 1 < ORDER:
            longer, places, again = np.unique(grams[length + 1], return_index=True, return_counts=True)
            places, again = places[longer >= 0], again[longer >= 0]  # one place of each longer n-gram
            contexts = np.searchsorted(names, grams[length][places - 1])
            np.add.at(follow, contexts, again)
            np.add.at(kinds, contexts, 1)
        counts.append(Counts(names, times.astype(float), follow, kinds))
    return counts


def _probabilities(grams: list[Grams], counts: list[Counts]) -> Numbers:
    """Of each word after the two before it: by the longer n-grams as far as they were seen, else by the shorter."""
    words = counts[0]
    share = (words.of(words.times, grams[0]) + len(words.names) / UNSEEN) / (words.times.sum() + len(words.names))
    for length in range(1, ORDER):
        before = np.concatenate([[-1], grams[length - 1][:-1]])
        shorter, longer = counts[length - 1], counts[length]
        seen, kinds = shorter.of(shorter.follow, before), shorter.of(shorter.kinds, before)
        times = longer.of(longer.times, grams[length])
        share = np.where(seen > 0, (times + kinds * share) / np.maximum(seen + kinds, 1), share)
    return share
