"""Exact quantiles by group and weight over more scores than fit into memory.

The boundaries of n parts are the n - 1 least scores at or below which lies at least 1/n, 2/n … of a group's weight: numpy's
`inverted_cdf`. A score's part is the number of boundaries below it, plus one: equal scores are always in the same part, and no
part but the last is left short by more than the weight of one score.

Found by radix selection on the 32 bits of a score: histograms of the upper 16 bits, then of 8 more in the few buckets that hold
a boundary, then of the last 8. Each is a sum of integers, so that any cut of the data into files, in any order, gives the same
boundaries; none has more rows than groups x boundaries x 256 after the first.

    wanted = None
    for level in range(LEVELS):
        wanted = narrow(merged(spread(…, level, wanted) for every piece of the data), parts, level, wanted)
    Boundaries(wanted).below(…)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

UInt32 = npt.NDArray[np.uint32]
Int64 = npt.NDArray[np.int64]

_SHIFTS = (16, 8, 0)
LEVELS = len(_SHIFTS)
"""Passes over the data."""
HISTOGRAM = pa.schema(
    [("column", pa.string()), ("group", pa.string()), ("bucket", pa.uint32()), ("weight", pa.int64())]
)
"""The weight of the scores of a column and a group whose keys begin with `bucket`."""
WANTED = pa.schema(
    [
        ("column", pa.string()), ("group", pa.string()), ("parts", pa.int16()), ("number", pa.int16()),
        ("bucket", pa.uint32()), ("left", pa.int64()), ("score", pa.float32()),
    ]
)  # fmt: skip
"""The bucket that holds boundary `number` (1 … parts - 1), and the weight within it up to the boundary. After the last level
`bucket` is the boundary itself, as a key, and `score` what it stands for (null before)."""
_MOST_ROWS = 1 << 20
"""Rows of histograms that are gathered before they are summed."""


def keys_of(scores: npt.NDArray[np.float32]) -> UInt32:
    """Numbers in the order of the scores; equal scores, 0 and -0 too, have equal keys. Scores are not NaN."""
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)
    negative = (bits >> np.uint32(31)).astype(np.bool_)
    keys: UInt32 = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    return keys


def scores_of(keys: UInt32) -> npt.NDArray[np.float32]:
    """The scores that have these keys."""
    positive = (keys >> np.uint32(31)).astype(np.bool_)
    bits = np.where(positive, keys & np.uint32((1 << 31) - 1), ~keys)
    return bits.astype(np.uint32).view(np.float32)


def spread(
    column: str, groups: pa.Array, scores: npt.NDArray[np.float32], weights: Int64, level: int, wanted: pa.Table | None
) -> pa.Table:
    """HISTOGRAM of one score a row, of the buckets that matter at this level; NaN counts nowhere.

    `groups` are strings without nulls, `weights` integers of at least 1. `wanted` is what `narrow` gave of the level before.
    """
    there = np.flatnonzero(~np.isnan(scores))
    keys, weights, groups = keys_of(scores[there]), weights[there], groups.take(pa.array(there))
    if wanted is not None:
        wanted = wanted.filter(pc.equal(wanted["column"], column))
        names = pc.unique(wanted["group"].combine_chunks())
        held = _codes(wanted["group"].combine_chunks(), names, wanted["bucket"].to_numpy())
        found = np.isin(_codes(groups, names, keys >> np.uint32(_SHIFTS[level - 1])), held)
        keys, weights, groups = keys[found], weights[found], groups.filter(pa.array(found))
    table = pa.table(
        [
            pa.array([column] * len(keys), pa.string()), groups.cast(pa.string()),
            pa.array(keys >> np.uint32(_SHIFTS[level])), pa.array(weights, pa.int64()),
        ],
        schema=HISTOGRAM,
    )  # fmt: skip
    return _summed([table])


def _codes(groups: pa.Array, names: pa.Array, buckets: UInt32) -> npt.NDArray[np.uint64]:
    """One number for group and bucket; groups that are not among the names share one that no name has."""
    places = pc.fill_null(pc.index_in(groups, names), len(names)).to_numpy(zero_copy_only=False)
    codes: npt.NDArray[np.uint64] = (places.astype(np.uint64) << np.uint64(32)) | buckets.astype(np.uint64)
    return codes


def merged(histograms: Iterable[pa.Table]) -> pa.Table:
    """The sum of histograms, sorted: the same whatever their order."""
    pending: list[pa.Table] = []
    rows = 0
    for histogram in histograms:
        pending.append(histogram)
        rows += histogram.num_rows
        if rows > _MOST_ROWS and len(pending) > 1:
            pending = [_summed(pending)]
            rows = 0
    return _summed(pending).sort_by([(name, "ascending") for name in ("column", "group", "bucket")])


def _summed(histograms: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables([HISTOGRAM.empty_table(), *histograms])
    summed = table.group_by(["column", "group", "bucket"], use_threads=False).aggregate([("weight", "sum")])
    return summed.rename_columns({"weight_sum": "weight"}).select(HISTOGRAM.names).cast(HISTOGRAM)


def narrow(histogram: pa.Table, parts: Mapping[str, Sequence[int]], level: int, wanted: pa.Table | None) -> pa.Table:
    """WANTED: the bucket of this level that holds each boundary.

    `histogram` is the merged one of all data; `parts` says for each column into how many parts it is cut, once or more often.
    """
    rows: list[dict[str, object]] = []
    all_buckets, weights = (histogram[name].to_numpy() for name in ("bucket", "weight"))
    before = _by_group(wanted)
    for column, group, start, stop in _runs(histogram):
        buckets, sums = all_buckets[start:stop], np.cumsum(weights[start:stop])
        if wanted is None:
            total = int(sums[-1])
            targets = [
                {"parts": count, "number": number, "reach": -(-number * total // count)}
                for count in parts[column]
                for number in range(1, count)
            ]
        else:
            targets = _reaches(before[column, group], buckets, sums)
        for target in targets:
            place = int(np.searchsorted(sums, target["reach"]))
            earlier = int(sums[place - 1]) if place else 0
            rows.append(
                {
                    "column": column, "group": group, "parts": target["parts"], "number": target["number"],
                    "bucket": int(buckets[place]), "left": target["reach"] - earlier,
                }
            )  # fmt: skip
    found = pa.Table.from_pylist(rows, schema=WANTED)
    if level == LEVELS - 1:
        scores = pa.array(scores_of(found["bucket"].to_numpy()), pa.float32())
        found = found.set_column(WANTED.get_field_index("score"), WANTED.field("score"), scores)
    return found


def _runs(histogram: pa.Table) -> Iterator[tuple[str, str, int, int]]:
    """Column, group, first row and the row after the last of each group of a sorted histogram."""
    held = [histogram[name].combine_chunks().dictionary_encode() for name in ("column", "group")]
    places = np.stack([values.indices.to_numpy() for values in held])
    changes = np.flatnonzero(np.any(places[:, 1:] != places[:, :-1], axis=0)) + 1
    ends = [0, *changes.tolist(), histogram.num_rows] if histogram.num_rows else []
    for start, stop in pairwise(ends):
        column, group = (values[start].as_py() for values in held)
        yield column, group, start, stop


def _by_group(wanted: pa.Table | None) -> dict[tuple[str, str], list[dict[str, int]]]:
    found: dict[tuple[str, str], list[dict[str, int]]] = {}
    for row in () if wanted is None else wanted.to_pylist():
        found.setdefault((row["column"], row["group"]), []).append(row)
    return found


def _reaches(wanted: Sequence[Mapping[str, int]], buckets: UInt32, sums: Int64) -> list[dict[str, int]]:
    """How far into the sums of a group's finer buckets each boundary lies: past all of the wanted buckets below its own."""
    parents = buckets >> np.uint32(8)
    found = []
    for row in wanted:
        first = int(np.searchsorted(parents, row["bucket"]))
        earlier = int(sums[first - 1]) if first else 0
        found.append({"parts": row["parts"], "number": row["number"], "reach": earlier + row["left"]})
    return found


class Boundaries:
    """The boundaries that the last `narrow` gave, ready to look scores up."""

    def __init__(self, table: pa.Table) -> None:
        found: dict[tuple[str, int, str], list[int]] = {}
        for row in table.sort_by("number").to_pylist():
            found.setdefault((row["column"], row["parts"], row["group"]), []).append(row["bucket"])
        self._keys = {name: np.array(keys, np.uint32) for name, keys in found.items()}

    def below(self, column: str, parts: int, groups: pa.Array, scores: npt.NDArray[np.float32]) -> pa.Array:
        """How many of the parts' boundaries lie below each score, from 0 to parts - 1 (int8); null for NaN.

        KeyError for a group that was not there when the boundaries were found.
        """
        found = np.zeros(len(scores), np.int8)
        there = ~np.isnan(scores)
        names = groups.dictionary_encode()
        places = names.indices.to_numpy(zero_copy_only=False)
        for place, group in enumerate(names.dictionary.to_pylist()):
            rows = np.flatnonzero((places == place) & there)
            if len(rows):
                bounds = self._keys[column, parts, group]
                found[rows] = np.searchsorted(bounds, keys_of(scores[rows]))
        return pa.array(found, pa.int8(), mask=~there)
