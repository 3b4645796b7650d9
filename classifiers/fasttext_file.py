"""fastText's files (`.bin`, `.ftz`), read into plain arrays; nothing in a file is believed before it is checked.

fastText's own C++ reader believes every number in a file, so a damaged or hostile one crashes the process or worse: it
never sees a file of a user's. Format: fastText 0.9.2, versions 11 and 12 (`FastText::loadModel`, `Args::load`,
`Dictionary::load`, `DenseMatrix::load`, `QuantMatrix::load`): header, dictionary, input matrix, output matrix, little-endian.

Models that we train end in a footer that fastText does not read: JSON (name, version, how texts are prepared …), its length
as 4 bytes, and `FOOTER`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

MAGIC = struct.pack("<i", 793712314)
FOOTER = b"curate/1"
VERSIONS = (11, 12)
SUPERVISED = 3
LOSSES = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
CENTROIDS = 256
LONGEST = 30
"""Longer n-grams are no setting that anybody chose, and make every prediction slow."""
MOST_LABELS = 1 << 20
MOST_WIDTH = 10_000
MOST_ENTRIES = 30_000_000
"""Words and labels of a dictionary: fastText's own limit (`Dictionary::MAX_VOCAB_SIZE`)."""
MOST_UNPACKED = 4 << 30
"""Bytes that a quantised matrix may take unpacked: its file can be a thousandth of that."""
MOST_COUNT = 10**15
"""A larger count is one that fastText's Huffman tree takes for a free place."""
MAX_FOOTER = 1 << 24
_CHUNK = 1 << 24

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


class Malformed(ValueError):
    """What is wrong with the file."""


@dataclass(frozen=True)
class Quantiser:
    """A product quantiser: a vector is cut into parts of `part` numbers (the last is the rest), each one of 256."""

    centroids: Floats
    part: int
    parts: int


@dataclass(frozen=True)
class Matrix:
    """Rows of numbers, plain (`dense`), or quantised: a code a part of a row, and the row's norm where `norms`."""

    rows: int
    width: int
    dense: Floats | None = None
    codes: Codes | None = None
    quantiser: Quantiser | None = None
    norms: Codes | None = None
    norm_quantiser: Quantiser | None = None


@dataclass(frozen=True)
class Parts:
    """A supervised model as it stands in its file."""

    width: int
    word_ngrams: int
    loss: str
    buckets: int
    shortest: int
    longest: int
    words: list[bytes]
    labels: list[str]
    """As in the file, so with `__label__` in front."""
    label_counts: list[int]
    pruned: npt.NDArray[np.int32] | None
    """What is left of the n-grams' rows, pairs of (bucket, row); None where all are."""
    input: Matrix
    output: Matrix
    fingerprint: str
    """The file's SHA-256 (hex)."""
    footer: dict[str, Any] = field(default_factory=dict)


def read(path: Path) -> Parts:
    """A model from its file. Malformed for a file that is none, or not whole; OSError for one that cannot be read."""
    with path.open("rb") as stream:
        reader = _Reader(stream, path.stat().st_size)
        return _model(reader)


def peek(path: Path) -> dict[str, Any]:
    """The footer of a file, of which no more is read; empty where there is none."""
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            stream.seek(max(size - len(FOOTER) - 4, 0))
            end = stream.read()
            if end[4:] != FOOTER:
                return {}
            length = int.from_bytes(end[:4], "little")
            if length > min(size, MAX_FOOTER):
                return {}
            stream.seek(max(size - len(end) - length, 0))
            found = json.loads(stream.read(length))
            return found if isinstance(found, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def footer(about: dict[str, Any]) -> bytes:
    """The bytes to write behind a model."""
    data = json.dumps(about, sort_keys=True).encode()
    return data + struct.pack("<I", len(data)) + FOOTER


class _Reader:
    """Values one after another off a file, never past its end; all of it goes into the fingerprint."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream = stream
        self.left = size
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        if size < 0 or size > self.left:
            raise Malformed("it ends too early")
        data = self._stream.read(size)
        if len(data) != size:
            raise Malformed("it ends too early")
        self.left -= size
        self.digest.update(data)
        return data

    def take(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self.read(struct.calcsize(f"<{layout}")))

    def flag(self) -> bool:
        (value,) = self.take("B")
        if value > 1:
            raise Malformed("one of its switches is neither on nor off")
        return bool(value)

    def array(self, kind: type[np.generic], count: int) -> npt.NDArray[Any]:
        """So many values; finite ones where they are floats."""
        item = np.dtype(kind).itemsize
        if count < 0 or count * item > self.left:
            raise Malformed("it ends too early")
        values = np.empty(count, np.dtype(kind).newbyteorder("<"))
        for first in range(0, count, _CHUNK):
            part = values[first : first + _CHUNK]
            part[:] = np.frombuffer(self.read(part.nbytes), part.dtype)
            if np.issubdtype(kind, np.floating) and not np.isfinite(part).all():
                raise Malformed("it holds weights that are not finite")
        return values

    def entries(self, count: int) -> list[tuple[bytes, int, int]]:
        """The dictionary's entries: word, count, kind."""
        found: list[tuple[bytes, int, int]] = []
        rest = b""
        while len(found) < count:
            # Read in pieces: an entry is a word, a zero and nine bytes.
            piece = self._stream.read(min(_CHUNK, self.left - len(rest)))
            if not piece:
                raise Malformed("it ends within its dictionary")
            rest += piece
            at = 0
            while len(found) < count:
                stop = rest.find(b"\0", at)
                if stop < 0 or stop + 10 > len(rest):
                    break
                found.append((rest[at:stop], *struct.unpack_from("<qb", rest, stop + 1)))
                at = stop + 10
            self.digest.update(rest[:at])
            self.left -= at
            rest = rest[at:]
            if len(rest) > 2 * _CHUNK:
                raise Malformed("a word of its dictionary does not end")
        self._stream.seek(-len(rest), 1)
        return found


def _model(reader: _Reader) -> Parts:
    if reader.left < 8 or reader.read(4) != MAGIC:
        raise Malformed("it is no fastText model")
    (version,) = reader.take("i")
    if version not in VERSIONS:
        raise Malformed(f"version {version} of fastText's format is not known ({' and '.join(map(str, VERSIONS))} are)")
    width, _, _, _, _, grams, loss, kind, buckets, shortest, longest, _, _ = reader.take("12id")
    if kind != SUPERVISED or loss not in LOSSES:
        raise Malformed("it is no supervised fastText model")
    if version == 11:
        longest = 0  # as fastText does: supervised models of that version used no characters
    in_range = 1 <= width <= MOST_WIDTH and 1 <= grams <= LONGEST and 0 <= buckets < 1 << 31
    if not in_range or not (0 <= shortest <= LONGEST and 0 <= longest <= LONGEST):
        raise Malformed("its settings are out of range")
    words, labels, counts, pruned = _dictionary(reader)
    used = longest > 0 or grams > 1
    if buckets == 0 and (used or (pruned is not None and len(pruned))):
        raise Malformed("it uses n-grams, but has no room for them")
    if LOSSES[loss] == "hs" and len(labels) < 2:
        raise Malformed("it has too few labels for its loss")
    quantised = reader.flag()
    if pruned is not None and not quantised:
        raise Malformed("its dictionary is pruned, but its matrix is not quantised")
    rows = len(words) + (buckets if pruned is None else len(pruned))
    if rows >= 1 << 31:  # kernels number rows with 32 bits
        raise Malformed("its matrix has too many rows")
    inputs = _matrix(reader, quantised, rows, width)
    outputs = _matrix(reader, reader.flag() and quantised, len(labels), width)
    about = _read_footer(reader) if reader.left else {}
    return Parts(
        width, grams, LOSSES[loss], buckets, shortest, longest, words, labels, counts, pruned, inputs, outputs,
        reader.digest.hexdigest(), about,
    )  # fmt: skip


def _dictionary(reader: _Reader) -> tuple[list[bytes], list[str], list[int], npt.NDArray[np.int32] | None]:
    size, words, labels, _, pruned = reader.take("iiiqq")
    if words < 0 or not 1 <= labels <= MOST_LABELS or size != words + labels or pruned < -1 or size > MOST_ENTRIES:
        raise Malformed("the sizes of its dictionary do not agree")
    if size * 10 > reader.left:
        raise Malformed("it ends within its dictionary")
    entries = reader.entries(size)
    for place, (_, count, kind) in enumerate(entries):
        if kind != (place >= words) or not 0 <= count < MOST_COUNT:
            raise Malformed(f"entry {place} of its dictionary is damaged")
    names = [word.decode("utf-8", "replace") for word, _, _ in entries[words:]]
    if len(set(names)) != len(names):
        raise Malformed("it has a label twice")
    left = None
    if pruned >= 0:
        left = reader.array(np.int32, 2 * pruned).reshape(-1, 2)
        if len(left) and not (left[:, 1].min() >= 0 and left[:, 1].max() < pruned):
            raise Malformed("its dictionary points past its end")
    return [word for word, _, _ in entries[:words]], names, [count for _, count, _ in entries[words:]], left


def _matrix(reader: _Reader, quantised: bool, rows: int, width: int) -> Matrix:
    norm = reader.flag() if quantised else False
    if reader.take("qq") != (rows, width):
        raise Malformed("its matrices do not fit its dictionary")
    if not quantised:
        return Matrix(rows, width, dense=reader.array(np.float32, rows * width).reshape(rows, width))
    (size,) = reader.take("i")
    codes = reader.array(np.uint8, size)
    quantiser = _quantiser(reader, width)
    if size != rows * quantiser.parts:
        raise Malformed("its codes do not fit its matrices")
    codes = codes.reshape(rows, quantiser.parts)
    if not norm:
        return Matrix(rows, width, codes=codes, quantiser=quantiser)
    norms = reader.array(np.uint8, rows)
    return Matrix(rows, width, codes=codes, quantiser=quantiser, norms=norms, norm_quantiser=_quantiser(reader, 1))


def _quantiser(reader: _Reader, width: int) -> Quantiser:
    found, parts, part, last = reader.take("4i")
    if found != width or part < 1 or parts != -(-width // part) or last != (width % part or part):
        raise Malformed("its quantiser does not fit its matrices")
    return Quantiser(reader.array(np.float32, width * CENTROIDS), part, parts)


def _read_footer(reader: _Reader) -> dict[str, Any]:
    if not len(FOOTER) + 4 <= reader.left <= MAX_FOOTER:
        raise Malformed("something follows its end")
    data = reader.read(reader.left)
    length = int.from_bytes(data[-len(FOOTER) - 4 : -len(FOOTER)], "little")
    if data[-len(FOOTER) :] != FOOTER or length != len(data) - len(FOOTER) - 4:
        raise Malformed("something follows its end")
    try:
        about = json.loads(data[:length])
    except (ValueError, RecursionError):
        raise Malformed("its footer is damaged") from None
    if not isinstance(about, dict):
        raise Malformed("its footer is damaged")
    return about
