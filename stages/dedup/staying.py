"""The pages of a shard that stay after `verdicts`, for what is then asked of them alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import BATCH_ROWS, read_batches
from curate.pipeline.stage import Context, File
from curate.stages.partitions import read_part


def staying(
    context: Context, docs: File, verdicts: File, position: int, columns: Sequence[str], rows: int = BATCH_ROWS
) -> Iterator[tuple[pa.RecordBatch, Any]]:
    """Batches of the pages that stay, and the numbers of their rows; `position` is the shard's part of `verdicts`."""
    goes = _dropped(context, verdicts, position)
    first = 0
    with context.open(docs) as stream:
        for batch in read_batches(stream, columns, rows):
            stays = np.ones(batch.num_rows, np.bool_)
            start, end = np.searchsorted(goes, [first, first + batch.num_rows]).tolist()
            stays[goes[start:end] - first] = False
            yield batch.filter(pa.array(stays)), first + np.flatnonzero(stays)
            first += batch.num_rows


def _dropped(context: Context, verdicts: File, position: int) -> Any:
    """The rows of a shard that go as copies, ascending."""
    rows = [np.zeros(0, np.int64)]
    with context.open(verdicts) as stream:
        pieces = read_part(stream, position, ("row", "kept"))
        rows += [piece.column("row").filter(pc.invert(piece.column("kept"))).to_numpy() for piece in pieces]
    return np.sort(np.concatenate(rows))
