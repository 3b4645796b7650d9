"""fastText models: the user's own `.bin` and `.ftz` files.

fastText's C++ reader believes every number in a file, so a damaged or hostile one crashes the process or worse. The whole
structure of a file is therefore checked here, in Python, before the library sees it. Format: fastText 0.9,
`FastText::saveModel` (version 12), `Dictionary::save`, `DenseMatrix::save`, `QuantMatrix::save`.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.classifiers.model import Classifier, Floats, Kind, Output, refuse

MAGIC = struct.pack("<i", 793712314)
MAX_CHARACTERS = 20_000
"""Characters of a text that are looked at."""
_LABEL = "__label__"
_MOST_COUNT = 10**15  # hierarchical softmax builds its tree with this as infinity
_HUFFMAN = 1


class FastText(Classifier):
    """A supervised fastText model: label kind; `load("model.bin#name")` gives one label's probability.

    Newlines count as spaces. A text in which the model knows nothing gets its most frequent label, with score 0.
    """

    kind: Kind = "fasttext"
    output: Output = "label"

    def __init__(self, path: Path, native: Any, fingerprint: str) -> None:
        self.name, self.version, self.fingerprint = path.name, fingerprint[:12], fingerprint
        self._native = native
        self._raw_labels = list(native.get_labels(on_unicode_error="replace"))
        self.labels = tuple(label.removeprefix(_LABEL) for label in self._raw_labels)
        self._columns = {label: column for column, label in enumerate(self._raw_labels)}

    def values(self, texts: pa.Array) -> Floats:
        return self._answers(texts, len(self.labels))

    def predict(self, texts: pa.Array) -> tuple[pa.Array, pa.Array] | pa.Array:
        values = self._answers(texts, 1)
        best = values.argmax(axis=1) if len(values) else np.zeros(0, np.int64)
        scores = values[np.arange(len(best)), best]
        return pa.array(self.labels, pa.string()).take(pa.array(best, pa.int64())), pa.array(scores, pa.float32())

    def _answers(self, texts: pa.Array, most: int) -> Floats:
        """Probabilities of the `most` likely labels of each text; the others are 0."""
        values = np.zeros((len(texts), len(self.labels)), np.float32)
        answers = self._native.predict([_line(text) for text in texts], k=most, on_unicode_error="replace")
        for row, (labels, shares) in enumerate(zip(*answers, strict=True)):
            for label, share in zip(labels, shares, strict=True):
                values[row, self._columns[label]] = min(max(share, 0.0), 1.0)  # fastText adds 1e-5 to each
        return values


def _line(text: pa.Scalar) -> str:
    buffer = text.as_buffer()
    if buffer is None:
        return ""
    head = buffer.slice(0, min(buffer.size, 4 * MAX_CHARACTERS)).to_pybytes().decode("utf-8", "replace")
    return head[:MAX_CHARACTERS].replace("\n", " ")


def load(path: Path) -> FastText:
    """A model from its file; CurateError if it is corrupted, truncated, not supervised or something else."""
    import fasttext

    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check(_Reader(data))
            fingerprint = hashlib.sha256(data).hexdigest()
        return FastText(path, fasttext.load_model(str(path)), fingerprint)
    except (ValueError, struct.error, RuntimeError) as error:
        raise refuse(path, str(error)[:200]) from error


class _Reader:
    """Reads little-endian values off a file, never past its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.size = len(data)
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(f"<{layout}")
        if self.at + size > self.size:
            raise ValueError("it ends too early")
        self.at += size
        return struct.unpack_from(f"<{layout}", self._data, self.at - size)

    def skip(self, size: int) -> None:
        if size < 0 or self.at + size > self.size:
            raise ValueError("it ends too early")
        self.at += size

    def word(self) -> None:
        end = self._data.find(b"\0", self.at, min(self.size, self.at + (1 << 20)))
        if end < 0:
            raise ValueError("its dictionary is damaged")
        self.at = end + 1

    def floats(self, count: int) -> None:
        start = self.at
        self.skip(count * 4)
        for first in range(0, count, 1 << 24):
            part = np.frombuffer(self._data, "<f4", min(count - first, 1 << 24), start + 4 * first)
            finite = bool(np.isfinite(part).all())
            del part  # a view would keep the file mapped
            if not finite:
                raise ValueError("it holds weights that are not finite")


def _check(reader: _Reader) -> None:
    """Raises ValueError unless the file is, to its last byte, a supervised model whose numbers fit together."""
    magic, version = reader.take("4si")
    if magic != MAGIC or version != 12:
        raise ValueError("not a fastText model of version 12")
    width, _, _, _, _, grams, loss, model, buckets, shortest, longest, _, _ = reader.take("12id")
    if model != 3 or not 1 <= loss <= 4:
        raise ValueError("not a supervised fastText model")
    if not (
        1 <= width <= 10_000
        and 1 <= grams <= 20
        and 0 <= shortest <= 100
        and 0 <= longest <= 100
        and 0 <= buckets < 1 << 31
    ):
        raise ValueError("its settings are out of range")
    if buckets == 0 and (grams > 1 or longest > 0):
        raise ValueError("its settings are out of range")
    words, labels, pruned = _check_dictionary(reader, loss)
    rows = words + (len(pruned) if pruned is not None else buckets)
    if pruned is not None and (len(pruned) and (pruned.min() < 0 or pruned.max() >= len(pruned))):
        raise ValueError("its dictionary is damaged")
    (quantised,) = reader.take("B")
    _check_matrix(reader, bool(quantised), rows, width)
    (output_quantised,) = reader.take("B")
    _check_matrix(reader, bool(quantised and output_quantised), labels, width)
    if quantised > 1 or output_quantised > 1 or reader.at != reader.size:
        raise ValueError("something follows its end")


def _check_dictionary(reader: _Reader, loss: int) -> tuple[int, int, np.ndarray[Any, Any] | None]:
    size, words, labels, _, pruned = reader.take("iiiqq")
    if size < 0 or words < 0 or labels < 1 or words + labels != size or pruned < -1:
        raise ValueError("its dictionary is damaged")
    for entry in range(size):
        reader.word()
        count, kind = reader.take("qb")
        if kind != (entry >= words) or not 0 <= count < _MOST_COUNT:
            raise ValueError("its dictionary is damaged")
    if loss == _HUFFMAN and labels < 2:
        raise ValueError("its dictionary is damaged")
    if pruned == -1:
        return words, labels, None
    start = reader.at
    reader.skip(pruned * 8)
    pairs = np.frombuffer(reader._data[start : reader.at], "<i4").reshape(-1, 2)
    return words, labels, pairs[:, 1]


def _check_matrix(reader: _Reader, quantised: bool, rows: int, width: int) -> None:
    if not quantised:
        if reader.take("qq") != (rows, width):
            raise ValueError("its matrices do not fit its dictionary")
        reader.floats(rows * width)
        return
    normed, found, columns, codes = reader.take("Bqqi")
    if normed > 1 or (found, columns) != (rows, width):
        raise ValueError("its matrices do not fit its dictionary")
    reader.skip(codes)
    part = _check_quantiser(reader, width)
    if codes != rows * math.ceil(width / part):
        raise ValueError("its codes do not fit its matrices")
    if normed:
        reader.skip(rows)
        _check_quantiser(reader, 1)


def _check_quantiser(reader: _Reader, width: int) -> int:
    """The size of a subvector of a product quantiser for vectors of that width."""
    found, parts, part, last = reader.take("4i")
    if found != width or part < 1 or parts != math.ceil(width / part) or last != (width % part or part):
        raise ValueError("its quantiser does not fit its matrices")
    reader.floats(width * 256)
    return part
