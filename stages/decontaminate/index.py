"""The n-grams of evaluation sets as sorted files, built once by a step and mapped into memory by every task.

A key is a 64-bit hash: against 10^7 n-grams, 10^12 words of pages give about half a false match.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.pipeline.errors import CurateError
from curate.pipeline.stage import File
from curate.pipeline.workspace import Workspace
from curate.stages.decontaminate import kernels
from curate.stages.decontaminate.config import DecontaminateConfig
from curate.stages.decontaminate.sets import Item
from curate.stages.folding import Folding, folding
from curate.stages.text import unicode

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

GRAMS = pa.schema([("hash", pa.uint64()), ("item", pa.int32())])
"""A row an n-gram and item that has it, sorted by both. A text shorter than an n-gram is one row."""
HEADS = pa.schema([("hash", pa.uint64())])
"""The first `shortest` words of the texts that are shorter than an n-gram."""
ITEMS = pa.schema([("set", pa.string()), ("id", pa.string()), ("grams", pa.int32()), ("weight", pa.float64())])
"""A row an item: how many n-grams it has in the index, and their weights together."""
FILES = ("grams", "heads", "items")

_BATCH_CHARS = 4 << 20
_BITS_A_KEY = 16
"""Of the table that says which keys may be there: one key in sixteen that is not there passes it."""
_KEYS_A_BUCKET = 4


@dataclass(frozen=True)
class Tables:
    """An index as it is written: by GRAMS, HEADS and ITEMS."""

    grams: pa.Table
    heads: pa.Table
    items: pa.Table

    def write(self, create: Callable[[str], AbstractContextManager[Any]]) -> None:
        """Writes each table to the output of its name, so that it can be mapped."""
        for name in FILES:
            table = getattr(self, name).combine_chunks()
            with create(name) as output, pa.ipc.new_file(output, table.schema) as writer:
                writer.write_table(table)


def build(items: Iterable[Item], config: DecontaminateConfig) -> Tables:
    """The index of items; equal items of a set count once. Raises CurateError where nothing is left to look for."""
    sets: list[str] = []
    ids: list[str] = []
    found: list[tuple[UInt64Array, Int64Array]] = []
    heads = [np.zeros(0, np.uint64)]
    for batch in _batches(_distinct(items)):
        owners = np.repeat(np.arange(len(ids), len(ids) + len(batch)), [len(item.texts) for item in batch])
        keys, rows, first = _grams_of([text for item in batch for text in item.texts], config)
        found.append((keys, owners[rows]))
        heads.append(first)
        sets += [item.set for item in batch]
        ids += [item.id for item in batch]
    keys = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in found)])
    owners = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in found)])
    order = np.lexsort((owners, keys))
    keys, owners = keys[order], owners[order]
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])
    keys, owners = keys[fresh], owners[fresh]
    having = _run_lengths(keys)
    kept = having <= config.most_items
    keys, owners, having = keys[kept], owners[kept], having[kept]
    if not len(keys):
        raise CurateError(
            f"classify.decontaminate: no field of {len(ids)} items has {config.shortest} words: nothing to look for"
        )
    weights = np.ones(len(keys)) if config.weight == "equal" else np.log1p(len(ids) / having)
    items_table = pa.table(
        [
            pa.array(sets, pa.string()),
            pa.array(ids, pa.string()),
            np.bincount(owners, minlength=len(ids)).astype(np.int32),
            np.bincount(owners, weights, minlength=len(ids)),
        ],
        schema=ITEMS,
    )
    grams = pa.table([keys, owners.astype(np.int32)], schema=GRAMS)
    return Tables(grams, pa.table([np.unique(np.concatenate(heads))], schema=HEADS), items_table)


class Index:
    """An index in memory, or mapped into it; what stands beside the rows takes about 5 bytes a key."""

    def __init__(self, tables: Tables, config: DecontaminateConfig) -> None:
        self.ngram, self.shortest = config.ngram, config.shortest
        self.keys = _column(tables.grams, "hash")
        self.owners = _column(tables.grams, "item")
        self.items = tables.items.to_pydict() | {
            name: _column(tables.items, name) for name in ("grams", "weight")
        }  # names as lists
        self._idf = config.weight == "idf"
        size = len(self.keys)
        buckets = 1 << max(1, (size // _KEYS_A_BUCKET).bit_length())
        self.shift = 64 - (buckets.bit_length() - 1)
        self.buckets = np.empty(buckets + 1, np.int64)
        kernels.bucket_starts(self.keys, self.shift, self.buckets)
        self.bits = _bits(self.keys)
        self.heads = _bits(_column(tables.heads, "hash"))

    def weights(self, having: Int64Array) -> npt.NDArray[np.float64]:
        """What n-grams count that so many items have."""
        if not self._idf:
            return np.ones(len(having))
        weights: npt.NDArray[np.float64] = np.log1p(len(self.items["id"]) / having)
        return weights


def open_index(workspace: Workspace, files: tuple[File, ...], config: DecontaminateConfig) -> Index:
    """The index in files `grams`, `heads` and `items` of a workspace, mapped where the disk is local; kept by the process."""
    return _opened(workspace.url, files, config.model_dump_json(), type(config))


@functools.lru_cache(maxsize=2)
def _opened(url: str, files: tuple[File, ...], config: str, kind: type[DecontaminateConfig]) -> Index:
    workspace = Workspace(url)
    tables = []
    for file, schema in zip(files, (GRAMS, HEADS, ITEMS), strict=True):
        try:
            if workspace.is_local:
                source = pa.memory_map(workspace.path(file.path))
            else:
                with workspace.open(file.path) as stream:
                    source = pa.BufferReader(stream.read())
            table = pa.ipc.open_file(source).read_all()
        except pa.ArrowException as error:
            raise CurateError(f"{file.path} is damaged ({error}): remove it and run again") from None
        if table.schema != schema:
            raise CurateError(f"{file.path} is not what it should be: remove it and run again")
        tables.append(table)
    return Index(Tables(*tables), kind.model_validate_json(config))


@functools.cache
def word_folding() -> Folding:
    """What characters become in words: lower case, without accents, digits as ASCII; the rest parts words."""
    return folding(fold)


def fold(character: str) -> str:
    """What one character becomes: letters; a space, which parts words, for punctuation, symbols and white space; or nothing."""
    out = []
    # the lower case of a capital sigma depends on its place in the word: one form for both
    for letter in unicodedata.normalize("NFD", character.lower().replace("ς", "σ")):
        kind = unicodedata.category(letter)
        if kind == "Nd":
            out.append(str(unicodedata.digit(letter)))
        elif letter.isspace() or kind[0] in "PSZ" or kind in ("Cc", "Cs"):
            out.append(" ")
        elif kind not in ("Mn", "Cf"):
            out.append(letter)
    return "".join(out)


def _distinct(items: Iterable[Item]) -> Iterator[Item]:
    seen: set[bytes] = set()
    for item in items:
        texts = "\0".join((item.set, *item.texts)).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(texts, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield item


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += sum(map(len, item.texts))
        if held >= _BATCH_CHARS:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _grams_of(texts: list[str], config: DecontaminateConfig) -> tuple[UInt64Array, Int64Array, UInt64Array]:
    """Keys of the n-grams of texts, the text of each, and the first words of texts that are shorter."""
    encoded = [text.encode("utf-8", "replace") for text in texts]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    documents = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    longest = kernels.most_words(int(np.diff(documents).max(initial=0)))
    tables = word_folding()
    words, begin, end = np.empty(longest, np.uint64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    keys, owners = np.empty(len(data) + 1, np.uint64), np.empty(len(data) + 1, np.int32)
    heads = np.empty(len(texts), np.uint64)
    count, short = kernels.list_grams(
        data, documents, unicode.classes(), tables.table, tables.starts, tables.letters, config.ngram, config.shortest,
        config.different, words, begin, end, keys, owners, heads,
    )  # fmt: skip
    return keys[:count], owners[:count].astype(np.int64), heads[:short]


def _run_lengths(keys: UInt64Array) -> Int64Array:
    """For each of the sorted keys how many are equal to it."""
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(keys)))
    return np.repeat(lengths, lengths)


def _bits(keys: UInt64Array) -> UInt64Array:
    words = 1 << max(4, (len(keys) * _BITS_A_KEY // 64).bit_length())
    bits = np.zeros(words, np.uint64)
    kernels.mark(keys, bits)
    return bits


def _column(table: pa.Table, name: str) -> Any:
    column = table.column(name)
    return (column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()).to_numpy()
