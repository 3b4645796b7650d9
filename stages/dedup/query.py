"""Near copies of given texts in a finished run, found by the signatures that it left. Writes nothing.

A page of the run is found if it shares a band, or the hash of its normalised text, with a text that is asked for: so it is
found as the run itself would link the two, with probability 1 - (1 - s^rows)^bands at similarity s, whether it stayed or
went. Every signature of the run is read once, 8 bytes a band and 16 more a page, a row group at a time; no text is.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.documents import DOCUMENT, read_batches
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.markers import read_manifest, read_markers, to_done
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.columns import fixed_bytes, key_matrix
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.minhash import estimate
from curate.stages.dedup.signing import sign
from curate.stages.dedup.stage import STAGE

TOP = 10
"""Pages named for a text, if not told otherwise."""
LEAST = 0.5
"""Estimated similarity from which on a page is named, if not told otherwise."""

_HASHES = ("hash_high", "hash_low")
_IDENTITY = ("id", "snapshot", "source", "offset")
_SIGNED = ("hash_high", "bands", "sketch")


@dataclass(frozen=True)
class Match:
    """A page of the run that is like a text asked for.

    `similarity` is the estimated Jaccard similarity of their shingles, 1 where the normalised texts are the same (`exact`).
    `reason` and `kept_id` are those of the ledger where dedup dropped the page.
    """

    id: str | None
    url: str | None
    date: str | None
    snapshot: str | None
    similarity: float
    exact: bool
    kept: bool
    reason: str | None
    kept_id: str | None


@dataclass(frozen=True)
class Answer:
    """What was found for text `number` (from 0). `found` counts all pages alike, `matches` are the first of them, the most
    similar first, then by (date, snapshot, id). `empty`: a text without words, which is never a copy."""

    number: int
    id: str | None
    empty: bool
    found: int
    matches: list[Match]


@dataclass
class Asked:
    """The texts asked for: their signatures, and for each key the texts that have it."""

    ids: list[str | None]
    empty: Any
    """Whether each has no words."""
    hashes: Any
    """Shape (texts, 2)."""
    sketches: Any | None
    keys: Any
    """Ascending, band keys and the upper half of exact hashes; those of a text without words are left out."""
    texts: Any
    """For each key its text."""
    _heads: Any = field(init=False)

    def __post_init__(self) -> None:
        self._heads = np.zeros(1 << 16, np.bool_)
        self._heads[(self.keys >> np.uint64(48)).astype(np.int64)] = True

    def __len__(self) -> int:
        return len(self.ids)

    def pairs(self, keys: Any) -> tuple[Any, Any]:
        """(row, text) for the rows that share a key with a text, each pair once. `keys` has shape (rows, keys a row)."""
        rows, columns = np.nonzero(self._heads[(keys >> np.uint64(48)).astype(np.int64)])
        wanted = keys[rows, columns]
        first = np.searchsorted(self.keys, wanted, side="left")
        many = np.searchsorted(self.keys, wanted, side="right") - first
        rows = np.repeat(rows, many)
        place = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
        found = np.unique(np.stack([rows, self.texts[np.repeat(first, many) + place]], axis=1), axis=0)
        return found[:, 0], found[:, 1]


@dataclass(frozen=True)
class Hit:
    """A page found, before anything but its signature was looked at."""

    similarity: float
    date: datetime.datetime | None
    snapshot: str | None
    id: str | None
    source: str | None
    offset: int | None
    exact: bool
    shard: str

    @property
    def rank(self) -> tuple[Any, ...]:
        """By this the pages of a text are sorted; nulls come last."""
        order = (self.date, self.snapshot, self.id, self.source, self.offset)
        return (-self.similarity, *((value is None, "" if value is None else value) for value in order))

    @property
    def key(self) -> tuple[Any, ...]:
        return self.id, self.snapshot, self.source, self.offset


def near_copies(
    workspace: Workspace,
    config: DedupConfig,
    texts: Iterable[tuple[str | None, str]],
    *,
    top: int = TOP,
    least: float = LEAST,
) -> list[Answer]:
    """The pages of a finished run of dedup that are like the texts, given as (id or None, text), in their order.

    `config` is the section `dedup` that the run had. Raises UsageError where nothing has run, or with other parameters.
    """
    manifest = read_manifest(workspace, STAGE.name)
    if manifest is None or not manifest["shards"]:
        raise UsageError(f"dedup has not run in {workspace.url}: `curate run dedup` first")
    if manifest.get("finished") is False:
        raise UsageError(f"dedup did not come to its end in {workspace.url}: run it again first")
    entries = {entry["key"]: entry for entry in manifest["shards"]}
    files = _signature_files(workspace, sorted(entries))
    _same_parameters(workspace, config, entries, files)
    asked = ask(texts, config)
    found: list[list[Hit]] = [[] for _ in range(len(asked))]
    counts = np.zeros(len(asked), np.int64)

    def look(key: str) -> tuple[dict[int, list[Hit]], dict[int, int]]:
        return _look(workspace, key, files[key], asked, config, top, least)

    with ThreadPoolExecutor(4 if workspace.is_local else 32) as pool:
        for hits, many in pool.map(look, sorted(files)):
            for text, more in hits.items():
                found[text] = sorted([*found[text], *more], key=lambda hit: hit.rank)[:top]
                counts[text] += many[text]
    pages = _pages(workspace, entries, [hit for hits in found for hit in hits])
    return [
        Answer(
            number,
            asked.ids[number],
            bool(asked.empty[number]),
            int(counts[number]),
            [_match(hit, pages) for hit in hits],
        )
        for number, hits in enumerate(found)
    ]


def ask(texts: Iterable[tuple[str | None, str]], config: DedupConfig) -> Asked:
    """Signs texts as the run signed its pages."""
    ids: list[str | None] = []
    signed = [sign(_batch([]), _for_texts(config))]
    waiting: list[str] = []
    size = 0
    for identity, text in texts:
        ids.append(identity)
        waiting.append(text)
        size += len(text)
        if size > _SIGNED_CHARACTERS:
            signed.append(sign(_batch(waiting), _for_texts(config)))
            waiting, size = [], 0
    table = pa.concat_tables([*signed, sign(_batch(waiting), _for_texts(config))])
    hashes = np.stack([table.column(name).to_numpy() for name in _HASHES], axis=1).astype(np.uint64)
    empty = table.column("empty").to_numpy()
    worded = np.flatnonzero(~empty)
    keys = _keys(table, config)[worded]
    order = np.argsort(keys.reshape(-1), kind="stable")
    sketches = fixed_bytes(table.column("sketch"), config.minhash.permutations) if config.minhash.enabled else None
    return Asked(ids, empty, hashes, sketches, keys.reshape(-1)[order], np.repeat(worded, keys.shape[1])[order])


_SIGNED_CHARACTERS = 8 << 20


def _for_texts(config: DedupConfig) -> DedupConfig:
    """A text that is asked for has no quality and the like: which page would stay is not the question."""
    return config.model_copy(update={"keep": "first"})


def _batch(texts: Sequence[str]) -> pa.RecordBatch:
    columns = [pa.array(texts, pa.string()) if name == "text" else pa.nulls(len(texts), DOCUMENT.field(name).type)
               for name in DOCUMENT.names]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=DOCUMENT)


def _keys(table: pa.Table, config: DedupConfig) -> Any:
    """The upper half of each page's exact hash and its band keys, a row a page."""
    exact = table.column("hash_high").to_numpy().reshape(-1, 1)
    if not config.minhash.enabled:
        return exact
    return np.concatenate([exact, key_matrix(table.column("bands"), config.minhash.bands)], axis=1)


def _signature_files(workspace: Workspace, keys: Sequence[str]) -> dict[str, str]:
    """Where the signatures of each shard stand; CurateError where some are gone."""
    signatures = next(step for step in STAGE.steps if step.name == "signatures")
    markers = read_markers(workspace, STAGE, signatures)
    missing = [key for key in keys if key not in markers]
    if missing:
        raise CurateError(
            f"the signatures of {len(missing)} of {len(keys)} shards are gone from {workspace.url} ({missing[0]}): "
            "`curate run dedup` makes them again"
        )
    return {key: to_done(markers[key]).outputs["signatures"].path for key in keys}


def _same_parameters(
    workspace: Workspace, config: DedupConfig, entries: Mapping[str, Any], files: Mapping[str, str]
) -> None:
    """UsageError where signing a page that stayed does not give the signature that the run gave it."""
    key = next((key for key in sorted(files) if entries[key]["rows"]), None)
    if key is None:
        return
    with workspace.open(entries[key]["docs"]["path"]) as stream:
        batch = next(read_batches(stream, DOCUMENT.names, 1))
    again = sign(batch, _for_texts(config))
    wanted = tuple(batch.column(name)[0].as_py() for name in _IDENTITY)
    with workspace.open(files[key]) as stream, pq.ParquetFile(stream) as file:
        names = [name for name in _SIGNED if name in file.schema_arrow.names]
        same = names == [name for name in _SIGNED if name in again.column_names]
    if same:
        (found, *_) = _rows(workspace, files[key], {wanted}, (*_IDENTITY, *names))
        # what is cut out of a page changes its hashes: then only the kind of the signature tells
        edited = found["hash_high"] != again.column("hash_high")[0].as_py()
        signed = {name: again.column(name)[0].as_py() for name in names}
        same = all(found[name] == value or (edited and len(found[name]) == len(value)) for name, value in signed.items()
                   if name not in _HASHES)  # fmt: skip
    if not same:
        raise UsageError(
            f"the recipe's section dedup has changed since dedup ran in {workspace.url}: `curate run dedup` first"
        )


def _look(
    workspace: Workspace, key: str, path: str, asked: Asked, config: DedupConfig, top: int, least: float
) -> tuple[dict[int, list[Hit]], dict[int, int]]:
    """The best pages of a shard for each text, and how many there are."""
    best: dict[int, list[Hit]] = defaultdict(list)
    many: dict[int, int] = defaultdict(int)
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        there = file.schema_arrow.names
        keyed = [name for name in (*_HASHES, "bands") if name in there]
        shown = [name for name in (*_IDENTITY, "date", "sketch") if name in there]
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=[*keyed, "empty"], use_threads=False)
            rows, texts = asked.pairs(_keys(table, config))
            worded = ~table.column("empty").to_numpy()[rows]
            rows, texts = rows[worded], texts[worded]
            if not len(rows):
                continue
            hashes = np.stack([table.column(name).to_numpy()[rows] for name in _HASHES], axis=1)
            exact = (hashes == asked.hashes[texts]).all(axis=1)
            pages = file.read_row_group(group, columns=shown, use_threads=False).take(pa.array(rows))
            similarity = np.where(exact, 1.0, _similarity(pages, texts, asked, config))
            alike = np.flatnonzero(exact | (similarity >= least))
            facts = pages.take(pa.array(alike)).select([*_IDENTITY, "date"]).to_pylist()
            for place, page in zip(alike.tolist(), facts, strict=True):
                text = int(texts[place])
                many[text] += 1
                best[text].append(Hit(float(similarity[place]), exact=bool(exact[place]), shard=key, **page))
                if len(best[text]) > 4 * top:
                    best[text] = sorted(best[text], key=lambda hit: hit.rank)[:top]
    return best, many


def _similarity(pages: pa.Table, texts: Any, asked: Asked, config: DedupConfig) -> Any:
    if asked.sketches is None:
        return np.zeros(len(texts))
    return estimate(fixed_bytes(pages.column("sketch"), config.minhash.permutations), asked.sketches[texts])


def _pages(
    workspace: Workspace, entries: Mapping[str, Any], hits: Sequence[Hit]
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What dedup left of these pages, by shard and key: rows of its documents and of its ledger."""
    wanted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for hit in hits:
        wanted[hit.shard].add(hit.key)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for shard, keys in wanted.items():
        for name, more in (("ledger", ("reason", "kept_id")), ("docs", ())):
            for row in _rows(workspace, entries[shard][name]["path"], keys, (*_IDENTITY, "url", *more)):
                found[(shard, *(row[column] for column in _IDENTITY))] = row
    return found


def _rows(
    workspace: Workspace, path: str, keys: set[tuple[Any, ...]], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Rows with these keys; the ids are read first, the rest of matching row groups only."""
    ids = pa.array({key[0] for key in keys}, pa.string())
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        for group in range(file.num_row_groups):
            column = file.read_row_group(group, columns=["id"], use_threads=False).column("id")
            rows = pc.indices_nonzero(pc.is_in(column, value_set=ids))
            if len(rows):
                table = file.read_row_group(group, columns=list(columns), use_threads=False).take(rows)
                yield from (row for row in table.to_pylist() if tuple(row[name] for name in _IDENTITY) in keys)


def _match(hit: Hit, pages: Mapping[tuple[Any, ...], dict[str, Any]]) -> Match:
    page = pages.get((hit.shard, *hit.key), {})
    date = None if hit.date is None else hit.date.isoformat()
    reason = page.get("reason")
    return Match(
        hit.id, page.get("url"), date, hit.snapshot, round(hit.similarity, 4), hit.exact, bool(page) and reason is None, reason,
        page.get("kept_id"),
    )  # fmt: skip
