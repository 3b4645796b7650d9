"""The second pass of the shuffle, which writes each output file, and the step that sums up what was written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixtures.allocate import Ints
from curate.mixtures.config import MixConfig
from curate.mixtures.decide import FILE
from curate.mixtures.scatter import PLACED, SECTION, joined, runs_of
from curate.mixtures.stage import TOKENIZER
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.documents import BATCH_ROWS, TableWriter, read_batches
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File
from curate.pretrain.tokens import INDEX, TokensJson, token_dtype

_THREADS = 16
"""Sections read side by side where the files are not on a disk."""


def gather(context: Context) -> Counts:
    """Writes one output file: its sections of all that was scattered, in the order of the mix."""
    started = time.perf_counter()
    config: MixConfig = context.config
    with context.open(context.input("tokenizer")) as stream:
        encoder = DocumentTokenizer(stream.read(), config.tokenizer.eos)
    dtype = token_dtype(encoder.vocab_size)
    params = context.task.params
    record = context.read(context.task.inputs["files"][params["part"]], params["number"] * FILE.itemsize, FILE.itemsize)
    (file,) = np.frombuffer(record, FILE)
    rows, data = _sections(context)
    lengths = np.concatenate([batch.column("tokens").to_numpy() for batch in rows]).astype(np.int64)
    runs = runs_of(data, np.concatenate([[0], np.cumsum(lengths)]) * dtype.itemsize)
    order = np.argsort(np.concatenate([batch.column("place").to_numpy() for batch in rows]), kind="stable")
    if len(order) != file["copies"]:
        raise CurateError(f"mix: {context.task.key} has {len(order)} of {file['copies']} documents: this is a bug")
    left = int(file["tokens"]) * dtype.itemsize
    with context.create("tokens") as output:
        for part in joined(runs, order):
            output.write(part[:left])
            left -= min(len(part), left)
    last = None
    if file["cut"]:  # the last copy, of which only so many tokens are taken
        taken = int(lengths[order[-1]] - (lengths.sum() - int(file["tokens"])))
        ids = np.frombuffer(runs[int(order[-1])].as_buffer(), dtype)[:taken]
        last = (taken, encoder.text_bytes(ids))
    with context.create("index") as output, TableWriter(output, INDEX) as table:
        for batch in _index(rows, order, last):
            table.write(batch)
    context.progress(len(order))
    counts = Counts(records=len(order), kept=len(order))
    counts.seconds["gather"] = time.perf_counter() - started
    return counts


def _sections(context: Context) -> tuple[list[pa.RecordBatch], pa.Buffer]:
    """All sections of one output file: the index rows (`PLACED`), and in their order the tokens, side by side in memory."""
    scattered, tables = context.task.inputs["runs"], context.task.inputs["sections"]
    number, line = context.task.params["file"], context.task.params["files"] * SECTION.itemsize
    with ThreadPoolExecutor(1 if context.workspace.is_local else _THREADS) as pool:

        def records(table: File) -> npt.NDArray[Any]:
            places = range(number * SECTION.itemsize, table.size, line)
            return np.frombuffer(b"".join(context.read(table, place, SECTION.itemsize) for place in places), SECTION)

        found = [
            (file, *record)
            for file, each in zip(scattered, pool.map(records, tables), strict=True)
            for record in each[each["tokens"] > 0].tolist()
        ]
        data = np.empty(sum(size for *_, size in found), np.uint8)
        ends = np.cumsum([size for *_, size in found], dtype=np.int64).tolist()

        def read(item: tuple[tuple[File, int, int, int], int]) -> pa.RecordBatch:
            (file, offset, index, size), end = item
            section = context.read(file, offset, index + size)
            data[end - size : end] = np.frombuffer(section, np.uint8, offset=index)
            own = pa.py_buffer(section[:index])  # a copy: the section's tokens are not kept beside the index
            return pa.ipc.read_record_batch(own, PLACED)

        rows = list(pool.map(read, zip(found, ends, strict=True)))
    return rows, pa.py_buffer(data)


def _index(rows: list[pa.RecordBatch], order: Ints, last: tuple[int, int] | None) -> Iterator[pa.RecordBatch]:
    """The index in the order of the mix, in batches; `last`: tokens and bytes of the last copy where it is cut short."""
    table = pa.Table.from_batches(rows, PLACED).combine_chunks()
    start = 0
    for first in range(0, len(order), BATCH_ROWS):
        known = table.take(pa.array(order[first : first + BATCH_ROWS]))
        columns = {name: known.column(name).combine_chunks() for name in PLACED.names}
        tokens, size = (columns[name].to_numpy().copy() for name in ("tokens", "bytes"))
        if last is not None and first + len(tokens) == len(order):
            tokens[-1], size[-1] = last
        ends = start + np.cumsum(tokens, dtype=np.int64)
        columns |= {"start": pa.array(ends - tokens), "tokens": pa.array(tokens), "bytes": pa.array(size)}
        yield pa.RecordBatch.from_arrays([columns[name] for name in INDEX.names], schema=INDEX)
        start = int(ends[-1])


def finish(context: Context) -> Counts:
    """Writes `mix/tokens.json`, after testing that the files hold what was decided."""
    config: MixConfig = context.config
    with context.open(context.input("tokenizer")) as stream:
        data = stream.read()
    encoder = DocumentTokenizer(data, config.tokenizer.eos)
    dtype = token_dtype(encoder.vocab_size)
    with context.open(context.input("summary")) as stream:
        summary = json.loads(stream.read())
    parts: dict[str, dict[str, Any]] = {
        name: {"tokens": 0, "bytes": 0, "documents": 0, "shards": []} for name in ("tokens", "validation")
    }
    for file, index in zip(context.task.inputs["tokens"], context.task.inputs["index"], strict=True):
        folder, name = file.path.removesuffix(".bin").split("/")[-2:]
        documents, size, buckets = _index_sums(context, index)
        tokens = file.size // dtype.itemsize
        part = parts[folder]
        shard = {"name": f"{folder}/{name}", "tokens": tokens, "documents": documents, "sha256": file.fingerprint}
        if config.layout == "by-bucket" and folder == "tokens":
            if len(buckets) != 1:
                raise CurateError(f"mix: {folder}/{name} holds documents of {len(buckets)} buckets: this is a bug")
            shard["bucket"] = buckets.pop()
        part["shards"].append(shard)
        for key, value in (("tokens", tokens), ("bytes", size), ("documents", documents)):
            part[key] += value
    if parts["tokens"]["tokens"] != summary["budget"]:
        raise CurateError(
            f"mix: the files hold {parts['tokens']['tokens']:,} tokens, not the {summary['budget']:,} decided: this is a bug"
        )
    result = {
        "schema_version": 2,
        "dtype": dtype.name,
        "vocab_size": encoder.vocab_size,
        "eos": encoder.eos,
        "tokenizer": {"path": TOKENIZER, "sha256": hashlib.sha256(data).hexdigest()},
        **parts["tokens"],
        "validation": parts["validation"],
        **summary,
    }
    TokensJson.model_validate(result)
    with context.create("summary") as output:
        output.write((json.dumps(result, indent=1, sort_keys=True) + "\n").encode())
    return Counts()


def _index_sums(context: Context, file: File) -> tuple[int, int, set[str]]:
    """Documents, UTF-8 bytes of text and buckets of one output file."""
    documents = size = 0
    buckets: set[str] = set()
    with context.open(file) as stream:
        for batch in read_batches(stream, ["bytes", "bucket"]):
            documents += batch.num_rows
            size += int(batch.column("bytes").to_numpy().sum())
            buckets.update(batch.column("bucket").unique().to_pylist())
    return documents, size, buckets
