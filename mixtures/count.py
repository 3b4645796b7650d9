"""The steps that name buckets and count them, after the tokens and apart from them: other buckets tokenise nothing again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixtures.buckets import ALL, bucket_names, check_columns
from curate.mixtures.config import MixConfig
from curate.mixtures.hashing import SPACE, UInt64, fraction
from curate.pipeline.documents import TableWriter, read_batches, read_schema, side_by_side
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context

BUCKETS = pa.schema([("bucket", pa.dictionary(pa.int32(), pa.string()))])
"""One row a document of a shard, in the order of its tokenised index."""
MOST_BUCKETS = 100_000
_MEASURES = ("documents", "tokens", "bytes")
_PARTS = ("all", "held", "lowest")
_INDEX = ["tokens", "bytes", "held"]


def buckets(context: Context) -> Counts:
    """The bucket of every document of one shard, and what each bucket holds there."""
    config: MixConfig = context.config
    started = time.perf_counter()
    tally = Tally(config.validation)
    counts = Counts()
    with context.create("buckets") as output, TableWriter(output, BUCKETS) as table:
        for names, rows in _named(context, config):
            coded = names.dictionary_encode()
            table.write(pa.RecordBatch.from_arrays([coded], schema=BUCKETS))
            tally.add(coded, rows)
            if len(tally.sums) > MOST_BUCKETS:
                raise UsageError(too_many_buckets())
            counts.records += rows.num_rows
            context.progress(rows.num_rows)
    with context.create("counts") as output:
        output.write(json.dumps(tally.to_json(), sort_keys=True).encode())
    counts.kept = counts.records
    counts.seconds["buckets"] = time.perf_counter() - started
    return counts


def _named(context: Context, config: MixConfig) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """Batches of (bucket names, rows of the tokenised index); without columns the documents are not read at all."""
    with context.open(context.input("index")) as index:
        rows = read_batches(index, _INDEX)
        if not config.by:
            yield from ((pa.array([ALL] * batch.num_rows, pa.string()), batch) for batch in rows)
            return
        with context.open(context.input("docs")) as stream:
            check_columns(read_schema(stream), config.by, config.bins)
        done = 0
        with context.open(context.input("docs")) as stream:
            for docs, batch in side_by_side(read_batches(stream, config.by), rows):
                done += docs.num_rows
                yield bucket_names(docs, config.by, config.bins), batch
        for name in ("docs", "index"):
            with context.open(context.input(name)) as stream:
                if _rows(stream) != done:
                    raise CurateError(
                        f"mix: {context.task.key} was tokenised from other documents: remove mix/steps and run again"
                    )


def _rows(stream: Any) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(stream).num_rows)


def too_many_buckets() -> str:
    """What is said where `mix.by` makes more than MOST_BUCKETS buckets."""
    return f"mix.by makes more than {MOST_BUCKETS:,} buckets: name columns with fewer values, or cut them with mix.bins"


class Tally:
    """Sums by bucket over batches of one shard: documents with text, their tokens and bytes; of all, of those held out by
    their share, and of those of the lowest key, which are held out where no key is below the share."""

    def __init__(self, validation: float) -> None:
        self.sums: dict[str, npt.NDArray[np.int64]] = {}
        """Shape (3 parts, 3 measures) a bucket; a bucket of documents without text has zeros."""
        self.empty = 0
        self.lowest = SPACE
        self._below = fraction(validation)

    def add(self, names: pa.DictionaryArray, rows: pa.RecordBatch) -> None:
        """Adds a batch: the bucket of each row, and its `tokens`, `bytes` and `held`."""
        tokens, size, held = (rows.column(name).to_numpy() for name in _INDEX)
        usable = tokens > 0
        self.empty += int(np.count_nonzero(~usable))
        lowest = int(held[usable].min()) if usable.any() else SPACE
        if lowest < self.lowest:
            self.lowest = lowest
            for sums in self.sums.values():
                sums[2] = 0
        parts = (usable, usable & (held <= np.uint64(min(self._below, SPACE - 1))), usable & _is(held, self.lowest))
        code, count = names.indices.to_numpy(), len(names.dictionary)
        found = np.array(
            [
                [
                    np.bincount(code[part], weights=None if values is None else values[part], minlength=count)
                    for values in (None, tokens, size)
                ]
                for part in parts
            ]
        ).astype(np.int64)
        for number, name in enumerate(names.dictionary.to_pylist()):
            self.sums[name] = self.sums.get(name, 0) + found[:, :, number]

    def to_json(self) -> dict[str, Any]:
        """`lowest` key as text (it may be larger than JSON's numbers), `empty` documents, the buckets' sums."""
        return {
            "lowest": str(self.lowest),
            "empty": self.empty,
            "buckets": {
                name: dict(zip(_PARTS, (part.tolist() for part in sums), strict=True))
                for name, sums in self.sums.items()
            },
        }


def _is(held: UInt64, lowest: int) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = held == np.uint64(min(lowest, SPACE - 1))
    return found


def count(context: Context) -> Counts:
    """Writes `mix/buckets.json`: what each bucket holds, exactly.

    `buckets`: by name `documents`, `tokens` and `bytes` (UTF-8, of text) that may be drawn, and `held_out_documents`,
    `held_out_tokens`, `held_out_bytes`, which may not. The same keys at the top are the sums; `empty` are documents without
    text; `by` and `bins` say what the buckets were made of.
    """
    config: MixConfig = context.config
    found = []
    for file in context.task.inputs["counts"]:
        with context.open(file) as stream:
            found.append(json.loads(stream.read()))
        context.progress(1)
    sums = sum_counts(found, config.validation)
    if len(sums) > MOST_BUCKETS:
        raise UsageError(too_many_buckets())
    table = {
        name: dict(
            zip((*_MEASURES, *(f"held_out_{measure}" for measure in _MEASURES)), row.ravel().tolist(), strict=True)
        )
        for name, row in sorted(sums.items())
    }
    totals = {key: sum(row[key] for row in table.values()) for key in next(iter(table.values()), {})}
    result = {
        "schema_version": 1,
        "by": config.by,
        "bins": config.bins,
        "empty": sum(item["empty"] for item in found),
        **totals,
        "buckets": table,
    }
    with context.create("buckets") as output:
        output.write((json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    return Counts()


def sum_counts(shards: list[dict[str, Any]], validation: float) -> dict[str, npt.NDArray[np.int64]]:
    """By bucket what may be drawn and what is held out, shape (2, 3): documents, tokens, bytes; from the shards' tallies.

    Held out are the keys below the share, one id at least; none where nothing else would be left (`decide`).
    """
    sums: dict[str, npt.NDArray[np.int64]] = {}
    lowest = min((int(item["lowest"]) for item in shards), default=SPACE)
    of_lowest = fraction(validation) < lowest
    for item in shards:
        for name, parts in item["buckets"].items():
            held = parts["held"] if not of_lowest else parts["lowest"]
            if not validation or (of_lowest and int(item["lowest"]) != lowest):
                held = [0, 0, 0]
            row = np.array([parts["all"], held], np.int64)
            sums[name] = sums.get(name, np.zeros((2, 3), np.int64)) + row
    if all((row[0] == row[1]).all() for row in sums.values()):
        for row in sums.values():
            row[1] = 0
    for row in sums.values():
        row[0] -= row[1]
    return sums
