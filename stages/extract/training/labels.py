"""Which blocks of a page are main content, told from its gold text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")
WIDTH = 4


def label(blocks: Sequence[str], gold: str) -> np.ndarray:
    """For each block the share of its word 4-grams that stand in the gold text, each as often as it stands there: float32, 0–1.

    A block of fewer than four words counts as kept if its words stand in the gold text in a row, near where the blocks around
    it stand. Blocks without a word are given the label of the block before them.
    """
    words = _WORD.findall(gold)
    shingles = Counter(zip(*(words[offset:] for offset in range(WIDTH)), strict=False))
    places: dict[str, list[int]] = {}
    for place, word in enumerate(words):
        places.setdefault(word, []).append(place)
    where: dict[tuple[str, ...], int] = {}
    for place in range(len(words) - WIDTH + 1):
        where.setdefault(tuple(words[place : place + WIDTH]), place)
    tokens = [_WORD.findall(block) for block in blocks]
    labels = np.zeros(len(blocks), np.float32)
    position = np.full(len(blocks), -1.0)
    for index, found in enumerate(tokens):
        grams = list(zip(*(found[offset:] for offset in range(WIDTH)), strict=False))
        if not grams:
            continue
        hits = []
        for gram in grams:
            if shingles.get(gram, 0) > 0:
                shingles[gram] -= 1
                hits.append(where[gram])
        labels[index] = len(hits) / len(grams)
        if len(hits) >= 0.5 * len(grams):
            position[index] = float(np.median(hits))
    known = np.flatnonzero(position >= 0)
    for index, found in enumerate(tokens):
        if len(found) >= WIDTH:
            continue
        if not found:
            labels[index] = labels[index - 1] if index else 0
            continue
        after = int(np.searchsorted(known, index))
        low = position[known[after - 1]] if after > 0 else -1.0
        high = position[known[after]] if after < len(known) else -1.0
        # Its own neighbours stand within a few lines of it, in the page and in the gold text.
        near_low = after > 0 and index - known[after - 1] <= 12
        near_high = after < len(known) and known[after] - index <= 12
        for place in places.get(found[0], ()):
            if words[place : place + len(found)] != found:
                continue
            fits_low = near_low and low < place < low + 120
            fits_high = near_high and high - 120 < place <= high
            if (fits_low and (fits_high or not near_high or high < low)) or (fits_high and not near_low):
                labels[index] = 1.0
                break
    return labels
