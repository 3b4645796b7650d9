"""What a worker does for the step `decontaminate`: find the pages that hold items of evaluation sets."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import TableWriter, read_batches
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.classify.config import ClassifyConfig
from curate.stages.decontaminate import decide as evaluation
from curate.stages.decontaminate.steps import read_index

MARKS = evaluation.with_fields(pa.schema([("id", pa.string())])).append(pa.field("cut", pa.string())).append(
    pa.field("refused", pa.struct([("share", pa.float32()), ("detail", pa.string())]))
)  # fmt: skip
"""A row a page: what was found in it, the text that is left where some was cut out, and why it goes where it does."""


def mark_shard(context: Context) -> Counts:
    """Looks for items in every page of a shard: table `MARKS`, in the order of its documents."""
    config: ClassifyConfig = context.config
    index = read_index(context)
    assert index is not None and config.decontaminate is not None  # the step has no task then
    counts = Counts()
    with (
        context.open(context.input("docs")) as stream,
        context.create("marks") as sink,
        TableWriter(sink, MARKS) as writer,
    ):
        for batch in read_batches(stream, ["id", "text"]):
            decided = evaluation.decide(batch, index, config.decontaminate)
            writer.write(_marks(batch, decided))
            counts.records += batch.num_rows
            counts.edits += Counter({evaluation.EDIT: decided.cut_chars})
            context.progress(batch.num_rows)
    return counts


def _marks(batch: pa.RecordBatch, decided: evaluation.Decided) -> pa.RecordBatch:
    refused: list[dict[str, object] | None] = [None] * batch.num_rows
    for page in decided.dropped:
        refused[page.row] = {"share": page.share, "detail": page.detail}
    left = decided.batch.column("text")
    same = pc.equal(left, pc.fill_null(batch.column("text"), ""))
    columns = {
        **{name: decided.batch.column(name) for name in ("id", *evaluation.COLUMNS)},
        "cut": pc.if_else(pc.fill_null(same, True), None, left),
        "refused": pa.array(refused, MARKS.field("refused").type),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=MARKS)


def kept_texts(batch: pa.RecordBatch, marks: pa.RecordBatch) -> pa.Array:
    """The texts of documents, without what was cut out of them."""
    return pc.coalesce(marks.column("cut"), batch.column("text").cast(pa.string()))


def dropped_rows(marks: pa.RecordBatch) -> list[int]:
    """The rows of pages that go, in order."""
    found: list[int] = np.flatnonzero(pc.is_valid(marks.column("refused")).to_numpy(zero_copy_only=False)).tolist()
    return found
