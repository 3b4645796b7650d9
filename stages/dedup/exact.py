"""Steps `urls` and `url_copies`: pages of the same URL, of which one stays. (Equal texts are keys among others: `linking`.)

Two URLs are the same if they are after `curate.stages.urls.parts.plain_url`: without scheme, user, default port and
fragment, the host in lower case; query strings count. Pages without a URL are never copies for it. Pages that go for their
id are not asked. Which page stays says `keep` (of `quality`: `first`), before any text is compared: so a page that goes
here neither stays for others nor takes them with it.

Memory: 16 bytes a page of the scope, some 90 a page that goes, and `memory_mb` for the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from curate.pipeline.documents import TableWriter, read_batches
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.stages.dedup.clusters import keep_order, order_columns
from curate.stages.dedup.columns import lookup
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.exact_steps import URLS
from curate.stages.dedup.ids import (
    BYTES_A_CANDIDATE,
    BYTES_A_HASH,
    SHADOWS,
    compact,
    passes,
    repeats,
    shadows_of,
    write_shadows,
)
from curate.stages.partitions import read_part
from curate.stages.urls.parts import plain_url

SAME_URL = "url_duplicate"

PLAIN = pa.schema([("row", pa.int64()), ("hash", pa.uint64()), ("url", pa.string())])
"""The pages of a shard that have a URL: the number of the row, the URL made comparable and its 64-bit hash."""


def write_urls(context: Context) -> Counts:
    """Reads the shard's `docs`, writes the URLs of its pages."""
    counts = Counts()
    with (
        context.open(context.input("docs")) as stream,
        context.create(URLS) as output,
        TableWriter(output, PLAIN) as writer,
    ):
        for batch in read_batches(stream, ("url",)):
            started = time.perf_counter()
            given = batch.column("url").to_pylist()
            rows = [row for row, url in enumerate(given) if url and url.strip()]
            urls = [plain_url(given[row]) for row in rows]
            hashes = [xxhash.xxh3_64_intdigest(url.encode("utf-8", "surrogatepass")) for url in urls]
            numbers = pa.array(np.array(rows, np.int64) + counts.records)
            writer.write(pa.table([numbers, pa.array(hashes, pa.uint64()), pa.array(urls, pa.string())], schema=PLAIN))
            counts.seconds["urls"] += time.perf_counter() - started
            counts.records += batch.num_rows
            context.progress(batch.num_rows)
    counts.kept = counts.records
    return counts


def write_copies(context: Context) -> Counts:
    """The pages of a scope that go for their id or their URL, a part for each group, by number."""
    config: DedupConfig = context.config
    memory = config.memory_mb << 20
    groups: list[list[int]] = context.task.params["rows"]
    starts = np.cumsum([0, *chain.from_iterable(groups)])
    shadows = pa.concat_tables([SHADOWS.empty_table(), *_shadows(context, len(groups))])
    hashes, documents = _hashes(context, starts, np.sort(shadows.column("document").to_numpy()))
    counts = Counts(records=len(hashes), kept=len(hashes))
    started = time.perf_counter()
    repeated, often = repeats(hashes, memory // BYTES_A_HASH)
    found = [compact(shadows)]
    for first, last in passes(often, memory // BYTES_A_CANDIDATE):
        pages = _candidates(context, starts, hashes, documents, repeated[first:last], config)
        found.append(compact(copies(pages, config)))
    counts.seconds["compare"] += time.perf_counter() - started
    gone = redirected(pa.concat_tables(found).unify_dictionaries().sort_by("document"))
    write_shadows(context, gone, starts[np.cumsum([0, *map(len, groups)])], range(len(groups)))
    return counts


def redirected(gone: pa.Table) -> pa.Table:
    """By SHADOWS, from those sorted by number: a page that goes for one of the same id which goes for its URL has in its
    place the page of that URL that stays."""
    numbers = gone.column("document").to_numpy()
    stays = gone.column("stays").to_numpy()
    places, through = lookup(numbers, stays)
    index = pa.array(np.where(through, places, np.arange(len(numbers))))
    for name in ("stays", "kept_id"):
        gone = gone.set_column(SHADOWS.get_field_index(name), name, gone.column(name).take(index))
    return gone.set_column(SHADOWS.get_field_index("through"), "through", pa.array(through))


def copies(pages: pa.Table, config: DedupConfig) -> pa.Table:
    """By SHADOWS: every page but the one that stays of each URL, for that one."""
    keep = "first" if config.keep == "quality" else config.keep
    order = [("url", "ascending"), *keep_order(keep, config.scope), ("document", "ascending")]
    rows = pc.sort_indices(pages, sort_keys=order)
    urls = pages.column("url").take(rows)
    again = np.zeros(len(rows), np.bool_)
    if len(rows) > 1:
        again[1:] = pc.equal(urls[1:], urls[:-1]).to_numpy()
    first = np.maximum.accumulate(np.where(again, 0, np.arange(len(rows))))[again]
    numbers = rows.to_numpy()
    stays = pages.take(pa.array(numbers[first]))
    return shadows_of(pages.column("document").take(pa.array(numbers[again])), SAME_URL, stays, stays.column("id"))


def _shadows(context: Context, groups: int) -> Iterator[pa.Table]:
    """The pages that go for their id."""
    for file in context.task.inputs["ids"]:
        with context.open(file) as stream:
            for group in range(groups):
                yield from read_part(stream, group)


def _hashes(context: Context, starts: Any, shadows: Any) -> tuple[Any, Any]:
    """Hash and number of every page with a URL that does not go for its id (`shadows`, ascending); ascending by number."""
    hashes, documents = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for file, start in zip(context.task.inputs[URLS], starts[:-1].tolist(), strict=True):
        with context.open(file) as stream:
            table = pq.read_table(stream, columns=["row", "hash"], use_threads=False)
        numbers = table.column("row").to_numpy() + start
        stays = np.searchsorted(shadows, numbers, side="left") == np.searchsorted(shadows, numbers, side="right")
        hashes.append(table.column("hash").to_numpy()[stays])
        documents.append(numbers[stays])
        context.progress(len(numbers))
    return np.concatenate(hashes), np.concatenate(documents)


def _candidates(
    context: Context, starts: Any, hashes: Any, documents: Any, wanted: Any, config: DedupConfig
) -> pa.Table:
    """The pages whose URL has one of these hashes (ascending), with what chooses among them; opens only their shards."""
    numbers = documents[lookup(wanted, hashes)[1]]
    keep = "first" if config.keep == "quality" else config.keep
    columns = [*dict.fromkeys([*order_columns(keep), "source", "offset"])]
    found = []
    limits = np.searchsorted(numbers, starts)
    for shard in np.flatnonzero(np.diff(limits)).tolist():
        here = numbers[limits[shard] : limits[shard + 1]]
        with context.open(context.task.inputs[URLS][shard]) as stream:
            urls = pq.read_table(stream, columns=["row", "url"], use_threads=False)
        with context.open(context.task.inputs["signatures"][shard]) as stream:
            signed = pq.read_table(stream, columns=columns, use_threads=False)
        rows = here - starts[shard]
        which = pa.array(np.searchsorted(urls.column("row").to_numpy(), rows))
        page = signed.take(pa.array(rows)).append_column("document", pa.array(here))
        found.append(page.append_column("url", urls.column("url").take(which)))
    return pa.concat_tables(found)
