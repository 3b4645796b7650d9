"""The held-out text of several mixes, without what any of them trains on, in the ids of any of their tokenizers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.mixtures.tokenizer import DocumentTokenizer
from curate.pipeline.config import digest
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.data import Int64
from curate.pretrain.evaluate import Documents
from curate.pretrain.run import read_tokenizer
from curate.pretrain.tokens import TokenSet, read_index


@dataclass(frozen=True, eq=False)
class Side:
    """A workspace whose mix is compared with others."""

    name: str
    """What tables call it."""
    workspace: Workspace
    tokens: TokenSet
    """Of training."""
    tokenizer: bytes
    """Its JSON."""

    @property
    def vocabulary(self) -> tuple[str, int]:
        """Equal where ids mean the same: SHA-256 of the tokenizer, and the id that ends a text."""
        return self.tokens.json.tokenizer.sha256, self.tokens.eos

    @cached_property
    def codec(self) -> DocumentTokenizer:
        from tokenizers import Tokenizer

        name = Tokenizer.from_str(self.tokenizer.decode()).id_to_token(self.tokens.eos)
        return DocumentTokenizer(self.tokenizer, name, f"{self.name}/mix/tokenizer.json")


def open_sides(workspaces: Sequence[Workspace]) -> list[Side]:
    """The workspaces in their order, named by their folders, or by number where folders are called alike.

    Raises UsageError for less than two, for one named twice, and where one has no mix.
    """
    if len(workspaces) < 2:
        raise UsageError("an ablation compares two workspaces or more: curate ablate A B")
    urls = [workspace.url.rstrip("/") for workspace in workspaces]
    twice = next((url for number, url in enumerate(urls) if url in urls[:number]), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice: an ablation compares different workspaces")
    names = [url.rpartition("/")[2] or url for url in urls]
    if len(set(names)) < len(names):
        names = [f"{number}:{name}" for number, name in enumerate(names, 1)]
    found = []
    for name, workspace in zip(names, workspaces, strict=True):
        tokens = TokenSet(workspace)
        found.append(Side(name, workspace, tokens, read_tokenizer(workspace, tokens)))
    return found


@dataclass(frozen=True, eq=False)
class HeldText:
    """Held-out documents of one mix that no side trains on, in its own ids."""

    side: Side
    ids: tuple[Int64, ...] = field(repr=False)
    """Of each document, the end-of-text token last."""
    bytes: Int64
    """UTF-8 bytes of each."""
    buckets: tuple[str, ...]
    documents: int
    """Held-out documents that the mix has, read or not."""
    leaked: dict[str, int]
    """Of these, how many each other side trains on: they are left out."""
    unreadable: int
    """Of those read, how many are left out as their ids do not give their text back, which other tokenizers need."""

    @cached_property
    def digest(self) -> str:
        """Equal where the documents are."""
        each = [hashlib.sha256(ids.tobytes()).hexdigest() for ids in self.ids]
        return digest([self.side.vocabulary, each, self.bytes.tolist(), self.buckets])

    def read_by(self, side: Side) -> Encoded:
        """The same documents for a model of this side: the text encoded anew where its tokenizer is another."""
        if side.vocabulary == self.side.vocabulary:
            return Encoded(self.ids, self.bytes, side.tokens.eos)
        texts = [self.side.codec.decode(ids) for ids in self.ids]
        return Encoded([row.astype(np.int64) for row in side.codec.encode(texts)], self.bytes, side.tokens.eos)


class Encoded(Documents):
    """Documents given by their ids."""

    def __init__(self, ids: Sequence[Int64], sizes: Int64, eos: int) -> None:
        self.eos = eos
        self.bytes = sizes
        self.ends = np.cumsum([len(row) for row in ids], dtype=np.int64)
        self.tokens = int(self.ends[-1])
        self._ids = np.concatenate(ids)

    def ids(self) -> Int64:
        return self._ids


def held_texts(sides: Sequence[Side], limit: int) -> list[HeldText]:
    """What each mix holds out and none trains on, in its order, up to about `limit` tokens of it. A mix that holds nothing
    out has no text; where all of it leaks, its `ids` are empty.

    Documents are told by their ids alone, as the hold-out is: a page of two crawls is one. Every index is read once, a
    batch at a time.
    """
    held = [TokenSet(side.workspace, "validation") for side in sides]
    asked = pa.chunked_array([_column(each) for each in held], pa.string()).unique()
    trained = [_among(side.tokens, asked) for side in sides]
    everywhere = pa.chunked_array(trained, pa.string()).combine_chunks()
    decode = len({side.vocabulary for side in sides}) > 1
    found = []
    for side, tokens in zip(sides, held, strict=True):
        leaked = {
            other.name: pc.sum(pc.is_in(_column(tokens), value_set=ids)).as_py() or 0
            for other, ids in zip(sides, trained, strict=True)
        }
        rows = list(_documents(tokens, everywhere, limit))
        kept = [row for row in rows if not decode or _gives_back(side, row.ids, row.bytes)]
        if tokens.documents:
            sizes = np.array([row.bytes for row in kept], dtype=np.int64)
            ids, buckets = tuple(row.ids for row in kept), tuple(row.bucket for row in kept)
            found.append(HeldText(side, ids, sizes, buckets, tokens.documents, leaked, len(rows) - len(kept)))
    return found


class _Document(NamedTuple):
    ids: Int64
    bytes: int
    bucket: str


def _column(tokens: TokenSet) -> pa.Array:
    """All ids of documents of a set."""
    return pa.chunked_array([batch.column("id") for batch in tokens.index(["id"])], pa.string()).combine_chunks()


def _among(tokens: TokenSet, asked: pa.Array) -> pa.Array:
    """Those of the ids that a set holds, each once."""
    found = pa.array([], pa.string())
    for batch in tokens.index(["id"]):
        ids = batch.column("id")
        here = ids.filter(pc.is_in(ids, value_set=asked))
        if len(here):
            found = pa.concat_arrays([found, here]).unique()
    return found


def _documents(tokens: TokenSet, left_out: pa.Array, limit: int) -> Iterator[_Document]:
    """The documents that have text and are not left out."""
    begin = total = 0
    for batch in read_index(tokens.workspace, tokens.shards, ["id", "tokens", "bytes", "bucket"]):
        out = pc.is_in(batch.column("id"), value_set=left_out).to_pylist()
        columns = (batch.column(name).to_pylist() for name in ("tokens", "bytes", "bucket"))
        for leaves, count, size, bucket in zip(out, *columns, strict=True):
            if total >= limit:
                return
            if not leaves and size:
                yield _Document(tokens.window(begin, count).astype(np.int64), size, bucket or "")
                total += count
            begin += count


def _gives_back(side: Side, ids: Int64, size: int) -> bool:
    return len(side.codec.decode(ids).encode("utf-8", "replace")) == size


def facts(texts: Sequence[HeldText]) -> list[dict[str, Any]]:
    """What was measured on, for the result."""
    return [
        {
            "workspace": text.side.name,
            "held_out": text.documents,
            "documents": len(text.ids),
            "tokens": sum(map(len, text.ids)),
            "bytes": int(text.bytes.sum()),
            "leaked": text.leaked,
            "unreadable": text.unreadable,
        }
        for text in texts
    ]
