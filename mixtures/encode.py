"""The steps that read text: a sample for the tokenizer, the tokenizer, the tokens of every document."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.mixtures.buckets import check_columns
from curate.mixtures.config import MixConfig
from curate.mixtures.hashing import SAMPLE, document_keys, fraction, id_keys, remix
from curate.mixtures.tokenizer import DocumentTokenizer, train_tokenizer
from curate.pipeline.documents import TableWriter, read_batches, read_schema
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.pretrain.tokens import token_dtype

SAMPLED = pa.schema([("key", pa.uint64()), ("text", pa.string())])
SAMPLE_CHARACTERS = 1 << 20
"""Of one document in the sample at most: a single book does not make the vocabulary."""
ENCODED = pa.schema(
    [
        ("id", pa.string()),
        ("snapshot", pa.string()),
        ("start", pa.int64()),
        ("tokens", pa.int32()),
        ("bytes", pa.int64()),
        ("language", pa.string()),
        ("key", pa.uint64()),
        ("held", pa.uint64()),
    ]
)
"""What is known of a document once its tokens are written: `start` and `tokens` (with the end-of-text token; 0 for a
document without text) in the file of its shard, UTF-8 `bytes`, `key` for every draw, `held` for the validation split."""
_CHUNK = 1 << 20


def sample(context: Context) -> Counts:
    """Documents of one shard drawn by their keys, on which the tokenizer may be trained."""
    below = fraction(context.task.params["share"])
    counts = Counts()
    with (
        context.open(context.input("docs")) as stream,
        context.create("sample") as output,
        TableWriter(output, SAMPLED) as table,
    ):
        for batch in read_batches(stream, ["id", "snapshot", "text"]):
            keys = remix(document_keys(batch.column("id"), batch.column("snapshot"), context.seed), SAMPLE)
            drawn = np.flatnonzero(keys <= np.uint64(min(below, 2**64 - 1)))
            texts = pc.utf8_slice_codeunits(
                pc.fill_null(batch.column("text").take(pa.array(drawn)), ""), 0, SAMPLE_CHARACTERS
            )
            table.write(pa.RecordBatch.from_arrays([pa.array(keys[drawn]), texts], schema=SAMPLED))
            counts.records += batch.num_rows
            counts.kept += len(drawn)
            context.progress(batch.num_rows)
    counts.dropped["not_sampled"] = counts.records - counts.kept
    return counts


def tokenizer(context: Context) -> Counts:
    """Writes the mix's tokenizer: the given one as it is, or one trained on the sample."""
    config: MixConfig = context.config
    counts = Counts()
    started = time.perf_counter()
    if "given" in context.task.inputs:
        with context.open(context.input("given")) as stream:
            data = stream.read()
        DocumentTokenizer(data, config.tokenizer.eos, str(config.tokenizer.path))
    else:
        last, counts.records = _last_key(context, config.tokenizer.sample_bytes)
        counts.kept = counts.records
        data = train_tokenizer(_texts(context, last), config.tokenizer.vocab_size).encode()
    with context.create("tokenizer") as output:
        output.write(data)
    counts.seconds["tokenizer"] = time.perf_counter() - started
    return counts


def _last_key(context: Context, sample_bytes: int) -> tuple[int, int]:
    """The largest key of the documents that, taken by rising key, hold `sample_bytes`; and their number."""
    keys, sizes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for file in context.task.inputs["samples"]:
        with context.open(file) as stream:
            for batch in read_batches(stream):
                keys.append(batch.column("key").to_numpy())
                sizes.append(pc.binary_length(batch.column("text")).to_numpy().astype(np.int64))
    key = np.concatenate(keys)
    if not len(key):
        raise UsageError("mix: there are no documents to train a tokenizer on")
    order = np.argsort(key, kind="stable")
    sums = np.cumsum(np.concatenate(sizes)[order])
    number = max(int(np.searchsorted(sums, sample_bytes, side="right")), 1)
    return int(key[order[number - 1]]), number


def _texts(context: Context, last: int) -> Iterator[str]:
    for file in context.task.inputs["samples"]:
        with context.open(file) as stream:
            for batch in read_batches(stream):
                yield from (
                    batch.filter(pc.less_equal(batch.column("key"), pa.scalar(last, pa.uint64())))
                    .column("text")
                    .to_pylist()
                )


def tokenize(context: Context) -> Counts:
    """Token ids of every document of one shard, and the index that says where they are."""
    config: MixConfig = context.config
    with context.open(context.input("tokenizer")) as stream:
        encoder = DocumentTokenizer(stream.read(), config.tokenizer.eos)
    with context.open(context.input("docs")) as stream:
        check_columns(read_schema(stream), config.by, config.bins)  # refused now: the buckets are named much later
    dtype = token_dtype(encoder.vocab_size)
    columns = ["id", "snapshot", "text", "language"]
    counts = Counts()
    start = 0
    with (
        context.open(context.input("docs")) as stream,
        context.create("tokens") as tokens,
        context.create("index") as index,
        TableWriter(index, ENCODED) as table,
    ):
        for batch in read_batches(stream, columns):
            began = time.perf_counter()
            sizes = np.zeros(batch.num_rows, np.int64)
            for row, ids in enumerate(_encode(encoder, batch.column("text"))):
                if len(ids) > 1:  # without text there is only the end-of-text token
                    sizes[row] = len(ids)
                    tokens.write(ids.astype(dtype).tobytes())
            table.write(_index(batch, context.seed, start, sizes))
            start += int(sizes.sum())
            counts.records += batch.num_rows
            counts.kept += batch.num_rows
            counts.seconds["tokenize"] += time.perf_counter() - began
            context.progress(batch.num_rows)
    return counts


def _encode(encoder: DocumentTokenizer, texts: pa.Array) -> Iterator[npt.NDArray[np.uint32]]:
    """The ids of each text, about a megabyte of them in memory at a time unless one is larger."""
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    waiting: list[str] = []
    size = 0
    for row, length in enumerate(lengths):
        if waiting and size + length > _CHUNK:
            yield from encoder.encode(waiting)
            waiting, size = [], 0
        waiting.append(texts[row].as_py() or "")
        size += length
    yield from encoder.encode(waiting)


def _index(batch: pa.RecordBatch, seed: int, start: int, sizes: npt.NDArray[np.int64]) -> pa.RecordBatch:
    ids, snapshots = (pc.fill_null(batch.column(name), "") for name in ("id", "snapshot"))
    columns = {
        "id": ids,
        "snapshot": snapshots,
        "start": pa.array(start + np.cumsum(sizes) - sizes),
        "tokens": pa.array(sizes.astype(np.int32)),
        "bytes": pc.fill_null(pc.binary_length(batch.column("text")), 0).cast(pa.int64()),
        "language": _languages(batch),
        "key": pa.array(document_keys(ids, snapshots, seed)),
        "held": pa.array(id_keys(ids, seed)),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=ENCODED)


def _languages(batch: pa.RecordBatch) -> pa.Array:
    """The documents' languages, empty where they are not known."""
    if "language" not in batch.schema.names or pa.types.is_null(batch.schema.field("language").type):
        return pa.array([""] * batch.num_rows, pa.string())
    return pc.fill_null(batch.column("language").cast(pa.string()), "")
