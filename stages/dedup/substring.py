"""Repeats across documents: stretches of bytes that an earlier document of a partition has, taken out of the later ones.

A window is `least_bytes` bytes of a text. It goes from every text but the first that has it, in the order (date, snapshot,
id), nulls last; what goes of a text is every byte of such windows. So one copy of everything stays: where the first text
that has a window loses bytes of it, these stand in a still earlier text. Repeats within one text stay.

Two stretches of a text that go are bridged, so that what lies between them goes too, where at least `bridge` of the whole
is repeated (from the left, each with the span so far), unless what lies between is a copy that another text relies upon.
Cuts are moved inwards to the next character. Source: Dolma 3's third stage (OLMo 3 report, arXiv 2512.13961) after Lee et
al. 2022 (arXiv 2107.06499), who take every copy, also within one text, and bridge nothing.

By suffix array (libdivsufsort), exact, within a partition: texts in two partitions are never compared. Memory: 10 bytes a
byte of text and what the texts themselves take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.stages.dedup import substring_kernels as kernels

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cuts:
    """What goes of texts: bytes [start, stop) of text `text`, ascending; pieces that touch are one span.

    `keeper` is the text that has a copy, -1 for what is bridged. `relied[d]` is true where another text relies on a copy in
    text d: that text must stay.
    """

    text: Int64s
    start: Int64s
    stop: Int64s
    keeper: Int64s
    relied: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.text)


def find_repeats(texts: pa.Array, *, least_bytes: int = 500, bridge: float = 0.8) -> Cuts:
    """What goes of texts, the first of which keep their copies. At most 2^31 - 1 bytes with one more for each text.

    `texts` are strings, null as empty. Raises ValueError where they are too long, or for limits that make no sense.
    """
    if least_bytes < 1 or not 0 < bridge <= 1:
        raise ValueError(f"least_bytes is at least 1 and bridge in (0, 1], not {least_bytes} and {bridge}")
    relied = np.zeros(len(texts), np.bool_)
    found, rows = np.zeros((0, 3), np.int64), np.zeros(0, np.int64)
    starts = rows
    if len(texts) > 1:
        data, starts, stops = _joined(texts)
        if len(data) > np.iinfo(np.int32).max:
            raise ValueError(f"{len(data)} bytes of text in a partition: at most {np.iinfo(np.int32).max}")
        marks, keepers = _windows(data, starts, stops, least_bytes)
        limits = (least_bytes, bridge, marks, keepers)
        most = kernels.all_pieces(data, starts, stops, *limits, found, rows, relied)  # no room: counts
        found, rows = np.empty((most, 3), np.int64), np.empty(most, np.int64)
        kernels.all_pieces(data, starts, stops, *limits, found, rows, relied)
    whole = found[:, 0] < found[:, 1]  # a piece within one character is none
    rows, found = rows[whole], found[whole]
    return Cuts(rows, found[:, 0] - starts[rows], found[:, 1] - starts[rows], found[:, 2], relied)


def cut(text: bytes, starts: Int64s, stops: Int64s) -> bytes:
    """A text without these stretches, ascending and apart."""
    kept, at = [], 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        kept.append(text[at:start])
        at = stop
    return b"".join([*kept, text[at:]])


def _joined(texts: pa.Array) -> tuple[Any, Int64s, Int64s]:
    """All bytes with 0xFF behind each text, and where each starts and stops."""
    from curate.stages.dedup.normalise import string_buffers

    data, offsets = string_buffers(texts)
    stops = offsets[1:] - offsets[0] + np.arange(len(texts))
    starts = offsets[:-1] - offsets[0] + np.arange(len(texts))
    out = np.full(int(offsets[-1] - offsets[0]) + len(texts), 0xFF, np.uint8)
    inside = np.ones(len(out), np.bool_)
    inside[stops] = False
    out[inside] = data[offsets[0] : offsets[-1]]
    return out, starts, stops


def _windows(data: Any, starts: Int64s, stops: Int64s, least: int) -> tuple[Any, Any]:
    """For each position its marks, and the first text that has its window where that is an earlier one."""
    from pydivsufsort import divsufsort

    suffixes = divsufsort(data)
    room = np.empty(len(data), np.int32)
    marks = np.zeros(len(data), np.uint8)
    kernels.mark_same(data, suffixes, least, room, marks)
    kernels.find_keepers(suffixes, starts, stops, least, marks, room)
    return marks, room
