"""Which items of an index stand in texts, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.decontaminate import kernels
from curate.stages.decontaminate.index import Index, Int64Array, word_folding
from curate.stages.text import unicode
from curate.stages.text.segment import segment

_ROOM = 1 << 12


@dataclass(frozen=True)
class Matches:
    """A row for each text and item of which it holds an n-gram, by text, the greatest share first.

    `grams`: different n-grams of the item that stand in the text. `share`: theirs of the weight of all that the item has.
    """

    text: Int64Array
    item: Int64Array
    grams: Int64Array
    share: npt.NDArray[np.float64]
    hits: Hits

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True)
class Hits:
    """A row for each n-gram found and item that has it, by text and place: bytes `start` to before `stop` of the text."""

    text: Int64Array
    item: Int64Array
    start: Int64Array
    stop: Int64Array

    def of(self, text: int, items: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Item, start and stop of the hits of a text for some items, in the order of their places."""
        low, high = np.searchsorted(self.text, [text, text + 1])
        rows = np.arange(low, high)[np.isin(self.item[low:high], items)]
        return self.item[rows], self.start[rows], self.stop[rows]


def find(texts: pa.Array, index: Index) -> Matches:
    """What of the index stands in texts (strings, null as empty)."""
    batch = segment(texts)
    text, start, stop, row = _hits(batch.bytes, batch.documents, index)
    first = np.searchsorted(index.keys, index.keys[row], side="left")
    having = np.searchsorted(index.keys, index.keys[row], side="right") - first
    # a row an item that has the n-gram
    each = np.repeat(np.arange(len(row)), having)
    within = np.arange(len(each)) - np.repeat(np.cumsum(having) - having, having)
    posting = first[each] + within
    item = index.owners[posting].astype(np.int64)
    order = np.lexsort((item, stop[each], start[each], text[each]))
    hits = Hits(text[each][order], item[order], start[each][order], stop[each][order])
    return _counted(text[each], item, posting, having[each], index, hits)


def merged(start: Int64Array, stop: Int64Array) -> list[tuple[int, int]]:
    """Spans, ascending by start, as the fewest that cover the same; those that touch are one."""
    found: list[tuple[int, int]] = []
    for low, high in zip(start.tolist(), stop.tolist(), strict=True):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _hits(
    data: npt.NDArray[np.uint8], documents: Int64Array, index: Index
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Text, bytes from the text's start, and first row in the index of each n-gram that is there."""
    size = len(documents) - 1
    longest = kernels.most_words(int(np.diff(documents).max(initial=0)))
    words, begin, end = np.empty(longest, np.uint64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    tables, grams = word_folding(), np.empty(longest, np.uint64)
    parts = []
    done, room = 0, _ROOM
    while done < size:
        text, start, stop, row = (np.empty(room, np.int64) for _ in range(4))
        before = done
        done, count = kernels.find(
            data, documents, done, unicode.classes(), tables.table, tables.starts, tables.letters, index.ngram, index.shortest,
            index.keys, index.shift, index.buckets, index.bits, index.heads, words, begin, end, grams, text, start,
            stop, row,
        )  # fmt: skip
        parts.append([column[:count] for column in (text, start, stop, row)])
        room = room if done > before else 4 * room
    text, start, stop, row = (
        np.concatenate([np.zeros(0, np.int64), *(part[column] for part in parts)]) for column in range(4)
    )
    return text, start - documents[text], stop - documents[text], row


def _counted(
    text: Int64Array, item: Int64Array, posting: Int64Array, having: Int64Array, index: Index, hits: Hits
) -> Matches:
    order = np.lexsort((posting, item, text))
    text, item, posting, having = text[order], item[order], posting[order], having[order]
    fresh = np.ones(len(text), np.bool_)  # an n-gram counts once, however often it stands there
    fresh[1:] = (text[1:] != text[:-1]) | (posting[1:] != posting[:-1])  # a posting is one of one item
    text, item, having = text[fresh], item[fresh], having[fresh]
    new = np.ones(len(text), np.bool_)
    new[1:] = (text[1:] != text[:-1]) | (item[1:] != item[:-1])
    starts = np.flatnonzero(new)
    grams = np.diff(np.append(starts, len(text)))
    weights = np.add.reduceat(index.weights(having), starts) if len(starts) else np.zeros(0)
    text, item = text[starts], item[starts]
    share = np.minimum(weights / index.items["weight"][item], 1.0) if len(item) else np.zeros(0)
    best = np.lexsort((item, -grams, -share, text))
    return Matches(text[best], item[best], grams[best], share[best], hits)
