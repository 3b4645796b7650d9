"""What becomes of pages that hold items of evaluation sets: dropped, cut, or marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import SPAN, with_column, with_field
from curate.stages.decontaminate import kernels
from curate.stages.decontaminate.config import DecontaminateConfig
from curate.stages.decontaminate.index import Index, Int64Array
from curate.stages.decontaminate.matching import Matches, find, merged

REASON = "contaminated"
EDIT = "contamination"
"""In the counts of edits: characters cut out of pages that stay."""
COLUMNS = {
    "contamination": (pa.float32(), "greatest share of an evaluation item's n-grams that the page holds; 0: none"),
    "contaminated_by": (pa.string(), "set and id of that item"),
    "contaminated_spans": (pa.list_(SPAN), "where the page held what the recipe refuses, before it was cut"),
}
MOST_SPANS = 1000
"""Spans told of a page at most, the first ones."""


@dataclass(frozen=True)
class Dropped:
    """A page that goes: its row, the greatest share, what is said of it, and where in its text the items stand."""

    row: int
    share: float
    detail: str
    spans: list[dict[str, Any]]


@dataclass(frozen=True)
class Decided:
    """`batch` has every row that came in, with the columns of `COLUMNS` and texts cut; `kept` says which of them go on."""

    batch: pa.RecordBatch
    kept: npt.NDArray[np.bool_]
    dropped: list[Dropped] = field(default_factory=list)
    cut_chars: int = 0


def with_fields(schema: pa.Schema) -> pa.Schema:
    """The documents' schema with `COLUMNS`; what each means stands in its metadata."""
    for name, (kind, meaning) in COLUMNS.items():
        schema = with_field(schema, name, kind)
        place = schema.get_field_index(name)
        schema = schema.set(place, schema.field(place).with_metadata({"meaning": meaning}))
    return schema


def decide(batch: pa.RecordBatch, index: Index, config: DecontaminateConfig) -> Decided:
    """Looks for items in the column `text` of a batch of documents and acts as the configuration says."""
    texts = pc.fill_null(batch.column("text"), "")
    found = find(texts, index)
    size = batch.num_rows
    shares, by = np.zeros(size, np.float32), np.full(size, -1, np.int64)
    rows, first = np.unique(found.text, return_index=True)  # of each text the item with the greatest share
    shares[rows], by[rows] = found.share[first], found.item[first]
    refused = _refused(found, index, config)
    spans: dict[int, list[dict[str, Any]]] = {}
    changed: dict[int, str] = {}
    dropped: list[Dropped] = []
    cut_chars = 0
    for row in np.unique(found.text[refused]).tolist():
        items = np.flatnonzero(refused & (found.text == row))
        text = texts[row].as_py()
        places = _places(row, text.encode(), found.item[items], found, index)
        spans[row] = _spans(places)
        left = text
        if config.action == "cut":
            left = _cut(text, places, config)
        if config.action == "drop" or not left:
            dropped.append(Dropped(row, float(found.share[items[0]]), _detail(items, found, index), spans[row]))
        elif config.action == "cut":
            changed[row] = left
            cut_chars += len(text) - len(left)
    kept = np.ones(size, np.bool_)
    kept[[page.row for page in dropped]] = False
    names = [f"{index.items['set'][item]}:{index.items['id'][item]}" if item >= 0 else None for item in by.tolist()]
    batch = with_column(batch, "contamination", pa.array(shares))
    batch = with_column(batch, "contaminated_by", pa.array(names, pa.string()))
    batch = with_column(batch, "contaminated_spans", pa.array([spans.get(row) for row in range(size)], pa.list_(SPAN)))
    if changed:
        mask = np.zeros(size, np.bool_)
        mask[list(changed)] = True
        values = pa.array([changed[row] for row in sorted(changed)], texts.type)
        batch = with_column(batch, "text", pc.replace_with_mask(texts, pa.array(mask), values))
    return Decided(batch, kept, dropped, cut_chars)


def _refused(found: Matches, index: Index, config: DecontaminateConfig) -> npt.NDArray[np.bool_]:
    """True for each text and item that the configuration calls contaminated."""
    enough = np.minimum(config.min_matches, index.items["grams"][found.item]) if len(found) else np.zeros(0)
    # a share computed as a sum of weights may miss the bound by the last bit
    refused: npt.NDArray[np.bool_] = (found.grams >= enough) & (found.share >= config.min_share - 1e-9)
    return refused


def _places(
    row: int, text: bytes, items: Int64Array, found: Matches, index: Index
) -> list[tuple[str, list[tuple[int, int]]]]:
    """For each set the stretches of characters where its items stand, merged, in order."""
    item, start, stop = found.hits.of(row, items)
    ends = np.unique(np.concatenate([start, stop]))
    points = np.empty(len(ends), np.int64)
    kernels.count_points(np.frombuffer(text, np.uint8), 0, ends, points)
    start, stop = points[np.searchsorted(ends, start)], points[np.searchsorted(ends, stop)]
    names = np.array([index.items["set"][number] for number in item.tolist()])
    return [(name, merged(start[names == name], stop[names == name])) for name in sorted(set(names.tolist()))]


def _spans(places: list[tuple[str, list[tuple[int, int]]]]) -> list[dict[str, Any]]:
    """By SPAN, in the order of the text; `kind` is the set."""
    spans = [{"kind": name, "start": low, "stop": high} for name, found in places for low, high in found]
    return sorted(spans, key=lambda span: (span["start"], span["stop"], span["kind"]))[:MOST_SPANS]


def _cut(text: str, places: list[tuple[str, list[tuple[int, int]]]], config: DecontaminateConfig) -> str:
    """What is left of a text, its pieces as paragraphs; empty if nothing is, or if it would be cut too often."""
    spans = sorted(span for _, found in places for span in found)
    wide = np.array([(max(low - config.around, 0), min(high + config.around, len(text))) for low, high in spans])
    cuts = merged(wide[:, 0], wide[:, 1])
    if len(cuts) > config.most_cuts:
        return ""
    ends = [0, *(place for cut in cuts for place in cut), len(text)]
    pieces = [text[low:high].strip() for low, high in zip(ends[::2], ends[1::2], strict=True)]
    return "\n\n".join(piece for piece in pieces if len(piece) >= config.least_chars)


def _detail(items: Int64Array, found: Matches, index: Index) -> str:
    """The worst item, in words, and how many more there are."""
    best = items[0]
    item = int(found.item[best])
    known = index.items
    said = f"{known['set'][item]} item {known['id'][item]}: {found.grams[best]} of its {known['grams'][item]} n-grams"
    return said + (f"; and {len(items) - 1} more" if len(items) > 1 else "")
