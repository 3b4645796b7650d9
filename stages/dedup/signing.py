"""Step `signatures`: what dedup needs to know of every page of a shard, so that its text is read once."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.pipeline.documents import TableWriter, read_batches, read_schema
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.columns import check_quality_column
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.minhash import band_keys, signature_matrix, sketch
from curate.stages.dedup.normalise import normalised_batches, string_buffers, text_hashes

_READ = ("id", "url", "date", "snapshot", "source", "offset", "text")


def signature_schema(config: DedupConfig) -> pa.Schema:
    """A row for each page, in the order of the shard's rows.

    `empty`: no words after normalisation, never linked. `hash_high`, `hash_low`: the exact hash. `id_hash`: a hash of the id.
    `tie`: a hash of the record as it stands, which decides between two that are otherwise alike. With MinHash, `bands`: the
    band keys, and `sketch`: 8 bits of each value of the signature.
    """
    fields = [
        ("id", pa.string()),
        ("id_hash", pa.uint64()),
        ("date", pa.timestamp("ms", tz="UTC")),
        ("snapshot", pa.string()),
        ("source", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("empty", pa.bool_()),
        ("hash_high", pa.uint64()),
        ("hash_low", pa.uint64()),
        ("tie", pa.uint64()),
    ]
    if config.minhash.enabled:
        fields.append(("bands", pa.list_(pa.uint64(), config.minhash.bands)))
        fields.append(("sketch", pa.binary(config.minhash.permutations)))
    return pa.schema(fields)


def write_signatures(context: Context) -> Counts:
    """Reads the shard's `docs`, writes its `signatures`."""
    config: DedupConfig = context.config
    counts = Counts()
    schema = signature_schema(config)
    docs = context.input("docs")
    if config.keep == "quality":  # `members` would refuse it, when everything has been signed and linked
        with context.open(docs) as stream:
            check_quality_column(read_schema(stream), docs.path, config.quality_column)
    with (
        context.open(docs) as stream,
        context.create("signatures") as output,
        TableWriter(output, schema) as writer,
    ):
        for batch in read_batches(stream, _READ):
            started = time.perf_counter()
            writer.write(sign(batch, config))
            counts.seconds["signatures"] += time.perf_counter() - started
            counts.records += batch.num_rows
            context.progress(batch.num_rows)
    counts.kept = counts.records
    return counts


def sign(batch: pa.RecordBatch, config: DedupConfig) -> pa.Table:
    """The signatures of a batch of documents, by `signature_schema`."""
    text = batch.column("text")
    hashes, bands, sketches, empty = [np.zeros((0, 2), np.uint64)], [], [], [np.zeros(0, np.bool_)]
    minhash = config.minhash
    for part in normalised_batches(text):
        hashes.append(text_hashes(part))
        empty.append(np.diff(part.offsets) == 0)
        if minhash.enabled:
            values = signature_matrix(
                part, minhash.permutations, minhash.ngram, minhash.seed, minhash.ngram_of, minhash.hash_bits
            )
            bands.append(band_keys(values, minhash.bands, minhash.rows))
            sketches.append(sketch(values))
    hashed = np.concatenate(hashes)
    columns: dict[str, Any] = {name: batch.column(name) for name in ("id", "date", "snapshot", "source", "offset")}
    ties = _ties(batch)
    columns |= {
        "id_hash": pa.array(_id_hashes(batch.column("id"), ties), pa.uint64()),
        "length": pc.fill_null(pc.utf8_length(text), 0).cast(pa.int64()),
        "empty": pa.array(np.concatenate(empty)),
        "hash_high": pa.array(hashed[:, 0]),
        "hash_low": pa.array(hashed[:, 1]),
        "tie": pa.array(ties, pa.uint64()),
    }
    if minhash.enabled:
        keys = np.concatenate([np.zeros((0, minhash.bands), np.uint64), *bands])
        columns["bands"] = pa.FixedSizeListArray.from_arrays(pa.array(keys.reshape(-1)), minhash.bands)
        data = np.concatenate([np.zeros((0, minhash.permutations), np.uint8), *sketches])
        kind = pa.binary(minhash.permutations)
        columns["sketch"] = pa.FixedSizeBinaryArray.from_buffers(kind, len(data), [None, pa.py_buffer(data.tobytes())])
    return pa.table(columns)


def _id_hashes(ids: pa.Array, ties: list[int]) -> list[int]:
    """A 64-bit hash of each id; where there is none the record's own, so that these do not fall together."""
    view, ends = _strings(ids)
    hashes = [xxhash.xxh3_64_intdigest(view[start:end]) for start, end in itertools.pairwise(ends)]
    for row in np.flatnonzero(ids.is_null()).tolist():
        hashes[row] = ties[row]
    return hashes


def _ties(batch: pa.RecordBatch) -> list[int]:
    """A 64-bit hash of each record's text, URL, source and offset."""
    strings = [_strings(batch.column(name)) for name in ("text", "url", "source")]
    ties = []
    for row, place in enumerate(batch.column("offset").to_pylist()):
        hashing = xxhash.xxh3_64()
        for view, ends in strings:
            hashing.update(view[ends[row] : ends[row + 1]])
            hashing.update(b"\0")
        hashing.update(b"\0" if place is None else b"%d\0" % place)
        ties.append(hashing.intdigest())
    return ties


def _strings(column: pa.Array) -> tuple[memoryview, list[int]]:
    """The bytes of a column's strings, and where each starts and the last one ends."""
    data, offsets = string_buffers(column)
    return memoryview(data), offsets.tolist()  # type: ignore[arg-type]  # NumPy arrays are buffers
