"""The steps that move tokens: gathering each output file from all shards, and summing up what was written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.mixtures.allocate import Ints
from curate.mixtures.config import MixConfig
from curate.mixtures.decide import COPY, FILE
from curate.mixtures.stage import TOKENIZER
from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.documents import read_batches
from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context, File
from curate.pretrain.tokens import TokensJson, TokenWriter, token_dtype


def pack(context: Context) -> Counts:
    """Gathers the documents of one output file from all shards, in the order of the mix."""
    started = time.perf_counter()
    config: MixConfig = context.config
    with context.open(context.input("tokenizer")) as stream:
        encoder = DocumentTokenizer(stream.read(), config.tokenizer.eos)
    dtype = token_dtype(encoder.vocab_size)
    with context.open(context.task.inputs["files"][context.task.params["part"]]) as stream:
        file = np.frombuffer(stream.read(), FILE)[context.task.params["number"]]
    with context.open(context.input("order")) as stream:
        stream.seek(int(file["first"]) * COPY.itemsize)
        order = np.frombuffer(stream.read(int(file["copies"]) * COPY.itemsize), COPY)
    ids, documents = _gather(context, order, dtype)
    ends = np.cumsum(order["tokens"], dtype=np.int64)
    with context.create("tokens") as tokens, context.create("index") as index:
        writer = TokenWriter(tokens, index, dtype)
        for position, (end, copy) in enumerate(zip(ends.tolist(), order.tolist(), strict=True)):
            own = ids[end - copy[2] : end]
            document = documents[position]
            if file["cut"] and position == len(order) - 1:
                document = document | {"bytes": encoder.text_bytes(own)}
            writer.add(own, repeat=copy[3], **document)
        writer.close()
    context.progress(len(order))
    counts = Counts(records=len(order), kept=len(order))
    counts.seconds["pack"] = time.perf_counter() - started
    return counts


def _gather(
    context: Context, order: npt.NDArray[Any], dtype: np.dtype[Any]
) -> tuple[npt.NDArray[Any], list[dict[str, Any]]]:
    """The token ids of these copies one after another, and each copy's id, snapshot, bucket, language and bytes.

    Shards are read one at a time, each from its beginning to its end.
    """
    lengths = order["tokens"].astype(np.int64)
    ids = np.empty(int(lengths.sum()), dtype)
    begins = np.cumsum(lengths) - lengths
    documents: list[dict[str, Any]] = [{}] * len(order)
    by_place = np.lexsort((order["row"], order["source"]))
    sources, first = np.unique(order["source"][by_place], return_index=True)
    for source, places in zip(sources, np.split(by_place, first[1:]), strict=True):
        wanted = order["row"][places].astype(np.int64)
        with (
            context.open(context.task.inputs["index"][source]) as index,
            context.open(context.task.inputs["tokens"][source]) as tokens,
        ):
            for place, row in zip(places.tolist(), _rows(index, wanted), strict=True):
                start = row.pop("start")
                documents[place] = row
                ids[begins[place] : begins[place] + lengths[place]] = _read(tokens, start, int(lengths[place]), dtype)
    return ids, documents


def _rows(stream: IO[bytes], wanted: Ints) -> Iterator[dict[str, Any]]:
    """These rows of an index (rising, possibly twice)."""
    first = done = 0
    for batch in read_batches(stream, ["id", "snapshot", "bucket", "start", "bytes", "language"]):
        upto = int(np.searchsorted(wanted, first + batch.num_rows))
        yield from batch.take(pa.array(wanted[done:upto] - first)).to_pylist()
        first, done = first + batch.num_rows, upto


def _read(stream: IO[bytes], start: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """So many tokens from a place of a token file."""
    stream.seek(start * dtype.itemsize)
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise CurateError("mix/steps/tokenize holds fewer tokens than its index says: remove mix/steps and run again")
    return np.frombuffer(data, dtype)


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
