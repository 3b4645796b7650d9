"""The token format: what `curate mix` writes and the trainer reads.

In the workspace (and the same two files a shard below `mix/validation/`):

    mix/tokens.json                     what there is: sizes, checksums, tokenizer, buckets (`TokensJson`)
    mix/tokens/<shard>.bin              token ids, little-endian uint16 (vocabulary <= 65,536) or uint32
    mix/tokens/<shard>.idx.parquet      one row a document, in the same order (`INDEX`)

Documents follow one another, each ended by the end-of-text token; the last one may be cut short by the budget. Shards
follow each other without a gap: token `n` of the set is token `n - tokens of the shards before` of its shard. In a mix
packed by bucket each training shard holds one bucket and names it. This module needs NumPy and Arrow only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from curate.pipeline.config import digest
from curate.pipeline.documents import BATCH_ROWS, TableWriter, read_batches
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Output, Workspace, redact

MANIFEST = "mix/tokens.json"

INDEX = pa.schema(
    [
        ("id", pa.string()),
        ("snapshot", pa.string()),
        ("start", pa.int64()),
        ("tokens", pa.int32()),
        ("bytes", pa.int64()),
        ("bucket", pa.string()),
        ("repeat", pa.int32()),
        ("language", pa.string()),
    ]
)
"""One row a document. `start`: offset in tokens within the shard. `tokens`: with its end-of-text token. `bytes`: UTF-8
bytes of the text that these tokens stand for (the end-of-text token stands for none). `repeat`: 0 the first time the
document is in the mix, 1 the second, and so on. `language`: of the document, empty where it is not known; mixes of schema
version 1 have no such column."""

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class ShardJson(BaseModel):
    """One shard in `tokens.json`; `name` is relative to `mix/`, without extension, as in `tokens/00000`."""

    name: str = Field(pattern=r"^(tokens|validation)/[A-Za-z0-9][A-Za-z0-9._-]*$")
    tokens: int = Field(ge=0)
    documents: int = Field(ge=0)
    sha256: str
    """Of the `.bin` file."""
    bucket: str | None = None
    """Of all its documents, where the mix is packed by bucket."""


class PartJson(BaseModel):
    """The sums of one part of the mix (training or validation)."""

    tokens: int = Field(ge=0)
    bytes: int = Field(ge=0)
    documents: int = Field(ge=0)
    shards: list[ShardJson]


class TokenizerJson(BaseModel):
    """The tokenizer that made the ids: a `tokenizers` JSON file in the workspace."""

    path: str
    sha256: str


class TokensJson(PartJson):
    """`mix/tokens.json`; keys that are not named here are left to whoever wrote them."""

    schema_version: int = 2
    """2: the index has languages."""
    dtype: str = Field(pattern="^uint(16|32)$")
    vocab_size: int = Field(ge=2)
    eos: int = Field(ge=0)
    tokenizer: TokenizerJson
    validation: PartJson


class Sink(Protocol):
    """A binary file being written: an `Output`, an open file, a BytesIO."""

    def write(self, data: Any, /) -> int: ...


class Document(BaseModel):
    """One row of the index; `start` counts from the beginning of the whole set, not of the shard."""

    id: str
    snapshot: str
    bucket: str
    repeat: int
    start: int
    tokens: int
    bytes: int
    language: str = ""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Little-endian uint16 for vocabularies of up to 65,536 entries, else uint32."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class TokenWriter:
    """Writes one shard: token ids into `tokens`, the index into `index`.

    The sinks stay open after `close`, which must be called inside their own blocks:

        with workspace.create("mix/tokens/00000.bin") as ids, workspace.create("mix/tokens/00000.idx.parquet") as index:
            writer = TokenWriter(ids, index, "uint16")
            writer.add(encoded, id=…, snapshot=…, bytes=len(text.encode()), bucket="science/19", repeat=0)
            writer.close()
        entry = writer.entry("tokens/00000", ids.sha256)
    """

    def __init__(self, tokens: Sink, index: Output | IO[bytes], dtype: str | np.dtype[Any]) -> None:
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in (np.dtype("<u2"), np.dtype("<u4")):
            raise ValueError(f"tokens are uint16 or uint32, not {self.dtype}")
        self.tokens = 0
        self.bytes = 0
        self.documents = 0
        self._sink = tokens
        self._table = TableWriter(index, INDEX)
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        tokens: npt.ArrayLike,
        *,
        id: str,
        snapshot: str,
        bytes: int,
        bucket: str = "",
        repeat: int = 0,
        language: str = "",
    ) -> None:
        """Appends a document: its ids, the end-of-text token among them (unless the budget cuts it short).

        Raises ValueError where there are no tokens or an id does not fit the type.
        """
        ids = np.asarray(tokens)
        if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
            raise ValueError(f"document {id}: tokens must be one row of integers with at least one, not {ids!r}")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high > np.iinfo(self.dtype).max:
            raise ValueError(f"document {id}: token {low if low < 0 else high} does not fit {self.dtype.name}")
        self._sink.write(np.ascontiguousarray(ids, dtype=self.dtype).tobytes())
        self._rows.append(
            {
                "id": id,
                "snapshot": snapshot,
                "start": self.tokens,
                "tokens": ids.size,
                "bytes": bytes,
                "bucket": bucket,
                "repeat": repeat,
                "language": language,
            }
        )
        self.tokens += ids.size
        self.bytes += bytes
        self.documents += 1
        if len(self._rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._table.write_rows(self._rows)
        self._rows = []

    def close(self) -> None:
        """Writes the end of the index."""
        self._flush()
        self._table.close()

    def entry(self, name: str, sha256: str, bucket: str | None = None) -> dict[str, Any]:
        """This shard's entry in `tokens.json`; `sha256` is that of the token file, `bucket` that of every document."""
        shard = ShardJson(name=name, tokens=self.tokens, documents=self.documents, sha256=sha256, bucket=bucket)
        return shard.model_dump(exclude_none=True)


def read_tokens_json(workspace: Workspace) -> TokensJson:
    """What `curate mix` wrote; UsageError where there is none, or where it contradicts itself."""
    data = workspace.read_json(MANIFEST)
    if data is None:
        raise UsageError(f"{redact(workspace.url)} has no {MANIFEST}: run `curate mix` first")
    try:
        found = TokensJson.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{MANIFEST}: {key}: {first['msg']}: run `curate mix` again") from None
    if found.schema_version not in (1, 2):
        raise UsageError(
            f"{MANIFEST} has schema version {found.schema_version}, this program reads 1 and 2: run `curate mix` again"
        )
    if np.dtype(found.dtype).newbyteorder("<") != token_dtype(found.vocab_size) and found.dtype == "uint16":
        raise UsageError(
            f"{MANIFEST}: a vocabulary of {found.vocab_size} does not fit {found.dtype}: run `curate mix` again"
        )
    for name, part in (("tokens", found), ("validation", found.validation)):
        for key in ("tokens", "documents"):
            summed = sum(getattr(shard, key) for shard in part.shards)
            if summed != getattr(part, key):
                raise UsageError(
                    f"{MANIFEST}: the shards of {name} hold {summed} {key}, the total says {getattr(part, key)}"
                )
    return found


def read_index(
    workspace: Workspace, shards: Sequence[ShardJson], columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The index of these shards in order, batch by batch; `start` counts within each shard, as in the files.

    A column that the mix does not have, being older, is left out.
    """
    for shard in shards:
        with workspace.open(f"mix/{shard.name}.idx.parquet") as stream:
            yield from read_batches(stream, columns)


class TokenSet:
    """The tokens of one part of a mix, memory-mapped, as if they were one array.

    `name` is `tokens` or `validation`. Files of a workspace that is not local are copied once into `cache` (by default
    a folder of the user's cache directory, named by content), their checksums tested. Raises UsageError where the mix
    is not there and CurateError where a file's size or checksum is not what `tokens.json` says.
    """

    def __init__(self, workspace: Workspace, name: str = "tokens", cache: str | os.PathLike[str] | None = None) -> None:
        if name not in ("tokens", "validation"):
            raise ValueError(f"a mix has tokens and validation, not {name!r}")
        self.workspace = workspace
        self.name = name
        self.json = read_tokens_json(workspace)
        part: PartJson = self.json if name == "tokens" else self.json.validation
        self.shards = part.shards
        self.tokens = part.tokens
        """All tokens of the set."""
        self.bytes = part.bytes
        """UTF-8 bytes of the text they stand for."""
        self.documents = part.documents
        self.vocab_size = self.json.vocab_size
        self.eos = self.json.eos
        self.dtype = np.dtype(self.json.dtype).newbyteorder("<")
        self._ends = np.cumsum([shard.tokens for shard in self.shards], dtype=np.int64)
        self._arrays = [self._map(shard, cache) for shard in self.shards]

    def __len__(self) -> int:
        return self.tokens

    @property
    def sha256(self) -> str:
        """Identity of the ids and their order, wherever the files lie."""
        shards = [[shard.tokens, shard.sha256] for shard in self.shards]
        return digest({"dtype": self.json.dtype, "vocab_size": self.vocab_size, "eos": self.eos, "shards": shards})

    def buckets(self) -> dict[str, list[tuple[int, int]]]:
        """Where each bucket's tokens lie, as ranges (first, after the last) of the set, in order.

        Shards of one bucket that follow each other make one range. Raises UsageError, saying what to do, where a shard
        holds several buckets.
        """
        found: dict[str, list[tuple[int, int]]] = {}
        for number, shard in enumerate(self.shards):
            if shard.bucket is None:
                raise UsageError(
                    f"mix/{shard.name} does not say which bucket it holds: this mix is not packed by bucket. Make one that is "
                    "with `curate mix --set mix.layout=by-bucket`"
                )
            begin, end = self._begin(number), int(self._ends[number])
            ranges = found.setdefault(shard.bucket, [])
            if ranges and ranges[-1][1] == begin:
                begin = ranges.pop()[0]
            if end > begin:
                ranges.append((begin, end))
        return found

    def window(self, start: int, length: int) -> Tokens:
        """Ids `start` to `start + length`, across shard borders; a copy in the file's type, shape (length,).

        Raises IndexError outside the set: there is no wrapping and no padding.
        """
        if start < 0 or length < 0 or start + length > self.tokens:
            raise IndexError(f"tokens {start} to {start + length} of {self.tokens}")
        found: Tokens = np.empty(length, dtype=self.dtype)
        done = 0
        shard = int(np.searchsorted(self._ends, start, side="right"))
        while done < length:
            offset = start + done - self._begin(shard)
            piece = self._arrays[shard][offset : offset + length - done]
            found[done : done + len(piece)] = piece
            done += len(piece)
            shard += 1
        return found

    def documents_in(self, starts: npt.ArrayLike, length: int) -> Iterator[Document]:
        """The documents that have a token in any of the windows `starts` to `starts + length`, in order, each once.

        Reads the index of the shards concerned once: seconds for millions of documents.
        """
        windows = np.sort(np.asarray(starts, dtype=np.int64).reshape(-1))
        for number, shard in enumerate(self.shards):
            begin = self._begin(number)
            near = windows[(windows < begin + shard.tokens) & (windows + length > begin)] - begin
            if not near.size:
                continue
            for batch in read_index(self.workspace, [shard]):
                first = batch.column("start").to_numpy()
                end = first + batch.column("tokens").to_numpy()
                last = np.searchsorted(near, end, side="left") - 1
                # Windows are equally long, so of those that begin before a document's end the last one reaches furthest.
                for row in np.flatnonzero((last >= 0) & (near[last] + length > first)):
                    found = batch.slice(int(row), 1).to_pylist()[0]
                    yield Document.model_validate(found | {"start": found["start"] + begin})

    def document_at(self, offset: int) -> Document:
        """The document whose ids hold token `offset` of the set; IndexError outside it."""
        if not 0 <= offset < self.tokens:
            raise IndexError(f"token {offset} of {self.tokens}")
        for document in self.documents_in([offset], 1):
            return document
        raise CurateError(f"the index of {self.name} is shorter than its tokens: run `curate mix` again")

    def index(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The index of the set in order, batch by batch (`read_index`)."""
        return read_index(self.workspace, self.shards, columns)

    def _begin(self, shard: int) -> int:
        return int(self._ends[shard]) - self.shards[shard].tokens

    def _map(self, shard: ShardJson, cache: str | os.PathLike[str] | None) -> Tokens:
        name = f"mix/{shard.name}.bin"
        size = shard.tokens * self.dtype.itemsize
        try:
            path = Path(self.workspace.path(name)) if self.workspace.is_local else self._fetch(name, shard, size, cache)
            found = path.stat().st_size
        except FileNotFoundError:
            raise CurateError(f"{name} is missing from {self.workspace!r}: run `curate mix` again") from None
        if found != size:
            raise CurateError(
                f"{name} has {found} bytes, {MANIFEST} says {size} ({shard.tokens} tokens): run `curate mix` again"
            )
        if not size:
            return np.empty(0, dtype=self.dtype)
        mapped: Tokens = np.memmap(path, dtype=self.dtype, mode="r", shape=(shard.tokens,))
        return mapped

    def _fetch(self, name: str, shard: ShardJson, size: int, cache: str | os.PathLike[str] | None) -> Path:
        """A local copy of a remote file, kept by content; an incomplete copy never has the final name."""
        folder = Path(cache) if cache is not None else _cache_folder()
        final = folder / f"{shard.sha256}.bin"
        if final.exists() and final.stat().st_size == size:
            return final
        folder.mkdir(parents=True, exist_ok=True)
        with self.workspace.open(name) as remote, tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp") as local:
            shutil.copyfileobj(remote, local, 1 << 20)
            local.flush()
            local.seek(0)
            found = hashlib.file_digest(local, "sha256").hexdigest()
            if found != shard.sha256:
                raise CurateError(f"{name}: SHA-256 is {found}, {MANIFEST} says {shard.sha256}: run `curate mix` again")
            copy = final.with_name(f".{Path(local.name).name}.link")
            os.link(local.name, copy)
            copy.replace(final)
        return final


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "curate" / "tokens"
