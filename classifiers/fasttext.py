"""fastText models: our own and the user's `.bin` and `.ftz` files, read and applied without fastText's C++ code."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.classifiers import fasttext_file, fasttext_kernels, tensor_file
from curate.classifiers.fasttext_file import Malformed, Matrix, Parts
from curate.classifiers.model import Classifier, Floats, Kind, Output, refuse, write
from curate.classifiers.ngrams import PREPARATIONS, utf8_views
from curate.pipeline.errors import CurateError

PREFIX = "__label__"
MAX_BYTES = 1 << 20
"""Bytes of a text that a model from elsewhere looks at."""
MAX_DENSE = 1 << 27
"""A quantised matrix that takes no more bytes is unpacked when it is loaded: that is faster."""
_NONE = np.zeros((0, 0), np.float32)


class FastText(Classifier):
    """A supervised fastText model: label kind, or score kind where it was trained for one label or for numbers.

    Without further word from the model, newlines count as spaces and a text is taken as it is: the answers are then the
    fastText library's own. A text in which the model knows nothing gets the first label with score 0; from a model of
    numbers, the mean of what it learned.
    """

    kind: Kind = "fasttext"

    def __init__(self, parts: Parts, file: Path | bytes, name: str) -> None:
        about = _checked(parts)
        self.fingerprint = parts.fingerprint
        self.name, self.version = about.get("name", name), about.get("version", parts.fingerprint[:12])
        self.labels = tuple(about.get("labels") or [label.removeprefix(PREFIX) for label in parts.labels])
        self.output: Output = "label"
        self._positive: int | None = None
        self._levels: npt.NDArray[np.float64] | None = None
        if about.get("positive") is not None:
            self._positive = self.labels.index(about["positive"])
            self.output, self.labels = "score", (about["positive"],)
        elif "levels" in about:
            self._levels = np.array(about["levels"], float)
            self.output, self.labels = "score", ()
            self.scale = (float(self._levels.min()), float(self._levels.max()))
        self.about = about
        self._file, self._parts = file, parts
        self._preparation = PREPARATIONS.index(about.get("preparation", "as_is"))
        self._max_bytes = int(about.get("max_bytes", MAX_BYTES))
        self._arrays = _arrays(parts)
        self._columns = np.ascontiguousarray(_unpacked(parts.output).T)
        self._tree = _tree(parts.label_counts) if parts.loss == "hs" else None

    def _probabilities(self, texts: pa.Array) -> Floats:
        """The library's probability of each label of the file, shape texts x labels; all 0 where it knows nothing.

        As the library gives them: the exponential of log(p + 1e-5), which may be more than 1.
        """
        data, starts, ends = utf8_views(texts)
        parts = self._parts
        hidden = np.zeros((len(starts), parts.width), np.float32)
        known = np.zeros(len(starts), np.int64)
        fasttext_kernels.hidden_layers(
            data, starts, ends, self._preparation, self._max_bytes, *self._arrays, hidden, known
        )
        sums = np.zeros((len(starts), self._columns.shape[1]), np.float32)
        fasttext_kernels.products(hidden, self._columns, sums)
        if not np.isfinite(sums).all():
            raise refuse(self.name, "its weights are too large to add up")
        shares = self._shares(sums)
        shares[known == 0] = 0
        return shares

    def _shares(self, sums: Floats) -> Floats:
        if self._tree is not None:
            logs = np.empty((len(sums), len(self._parts.labels)), np.float32)
            fasttext_kernels.descend(sums, *self._tree, logs)
            grown: Floats = np.exp(logs)
            return grown
        if self._parts.loss == "softmax":
            shares = np.exp(sums - sums.max(axis=1, keepdims=True))
            shares /= shares.sum(axis=1, keepdims=True)
        else:
            shares = _sigmoid(sums)
        shares += np.float32(1e-5)
        return shares

    def values(self, texts: pa.Array) -> Floats:
        shares = self._probabilities(texts)
        if self._levels is not None:
            weights = shares.astype(np.float64)
            weights[weights.sum(axis=1) == 0] = self._parts.label_counts
            mean = (weights * self._levels).sum(axis=1) / weights.sum(axis=1)
            return np.asarray(mean.clip(*self.scale), np.float32)
        shares = np.minimum(shares, np.float32(1))
        return shares if self._positive is None else np.ascontiguousarray(shares[:, self._positive])

    def predict(self, texts: pa.Array) -> tuple[pa.Array, pa.Array] | pa.Array:
        if self.output == "score":
            return super().predict(texts)
        shares = self._probabilities(texts)
        best = self.best(shares)
        scores = np.minimum(shares[np.arange(len(best)), best], np.float32(1))
        return pa.array(self.labels, pa.string()).take(pa.array(best)), pa.array(scores, pa.float32())

    def best(self, values: Floats) -> npt.NDArray[np.int64]:
        """Of equal labels the last, as the library gives it; the first for a text without any known word."""
        found: npt.NDArray[np.int64] = values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)
        found[~values.any(axis=1)] = 0
        return found

    def save(self, path: Path | str) -> None:
        data = self._file
        if isinstance(data, Path):
            try:
                data = data.read_bytes()
            except OSError as error:
                raise CurateError(f"cannot read model {self._file!s}: {error.strerror}") from error
            if hashlib.sha256(data).hexdigest() != self.fingerprint:
                raise CurateError(f"{self._file!s} is no longer the file that was loaded")
        write(path, data)


def load(path: Path) -> FastText:
    """A model from its file; CurateError if it is corrupted, truncated, not supervised or something else."""
    try:
        return FastText(fasttext_file.read(path), path, path.name)
    except (Malformed, MemoryError) as error:
        raise refuse(path, str(error)[:200] or "it is larger than the memory") from error
    except OSError as error:
        raise CurateError(f"cannot read model {path}: {error.strerror}") from error


def _checked(parts: Parts) -> dict[str, Any]:
    """The footer; Malformed if it does not fit the model."""
    about = parts.footer
    if not about:
        return {}
    labels, levels, size = about.get("labels"), about.get("levels"), about.get("max_bytes")
    if (
        not all(isinstance(about.get(key), str) and about[key] for key in ("name", "version"))
        or about.get("preparation") not in PREPARATIONS
        or not (isinstance(labels, list) and all(isinstance(label, str) for label in labels))
        or not len(set(labels)) == len(labels) == len(parts.labels)
        or about.get("positive") not in (None, *labels)
        or type(size) is not int
        or not 1 <= size <= 1 << 30
    ):
        raise Malformed("its footer is damaged")
    if "levels" in about and (
        not isinstance(levels, list)
        or len(levels) != len(labels)
        or not all(isinstance(level, int | float) and abs(level) <= tensor_file.GREATEST_SCORE for level in levels)
        or min(levels) == max(levels)
        or not any(parts.label_counts)
    ):
        raise Malformed("its footer is damaged")
    return about


def _arrays(parts: Parts) -> tuple[Any, ...]:
    """What the kernel needs of a model, in its order."""
    entries = [*parts.words, *(label.encode() for label in parts.labels)]
    edges = np.zeros(len(entries) + 1, np.int64)
    np.cumsum([len(entry) for entry in entries], out=edges[1:])
    words = np.frombuffer(b"".join(entries) or b"\0", np.uint8)
    table = np.zeros((1 << (2 * len(entries)).bit_length(), 2), np.uint32)
    fasttext_kernels.fill_words(words, edges, table)
    kept = np.zeros((0, 2), np.uint32)
    if parts.pruned is not None:
        kept = np.zeros((1 << (2 * len(parts.pruned) + 1).bit_length(), 2), np.uint32)
        fasttext_kernels.fill_buckets(parts.pruned, kept)
    matrix = parts.input
    sizes = np.ones(len(parts.words), np.int32)
    dense, codes, centroids, part, norms = (
        _NONE,
        np.zeros((0, 0), np.uint8),
        np.zeros(0, np.float32),
        1,
        np.zeros(0, np.float32),
    )
    # Words of models with characters stand for their characters' rows, too: such a matrix is always unpacked.
    if matrix.dense is not None or matrix.rows * matrix.width * 4 <= MAX_DENSE or parts.longest > 0:
        dense = _unpacked(matrix)
    else:
        assert matrix.codes is not None and matrix.quantiser is not None
        codes, centroids, part = matrix.codes, matrix.quantiser.centroids, matrix.quantiser.part
        norms = _norms(matrix)
    if parts.longest > 0:
        last = parts.words.index(b"</s>") if b"</s>" in parts.words else -1
        room = (max(map(len, parts.words), default=0) + 2) * parts.longest
        fasttext_kernels.add_characters(
            words,
            edges,
            last,
            parts.shortest,
            parts.longest,
            parts.buckets,
            kept,
            dense,
            sizes,
            np.empty(room, np.int32),
        )
    return (
        words, edges, table, parts.word_ngrams, parts.shortest, parts.longest, parts.buckets, kept, sizes, dense, codes,
        centroids, part, norms,
    )  # fmt: skip


def _norms(matrix: Matrix) -> Floats:
    """Each row's norm; empty where rows have none of their own."""
    if matrix.norms is None or matrix.norm_quantiser is None:
        return np.zeros(0, np.float32)
    return matrix.norm_quantiser.centroids[matrix.norms]


def _unpacked(matrix: Matrix) -> Floats:
    """A matrix as plain numbers."""
    if matrix.dense is not None:
        return matrix.dense
    assert matrix.codes is not None and matrix.quantiser is not None
    if matrix.rows * matrix.width * 4 > fasttext_file.MOST_UNPACKED:
        raise Malformed(f"its matrix would take {matrix.rows * matrix.width * 4:,} bytes of memory")
    out = np.empty((matrix.rows, matrix.width), np.float32)
    part = matrix.quantiser.part
    for number in range(matrix.quantiser.parts):
        first, size = number * part, min(part, matrix.width - number * part)
        centroids = matrix.quantiser.centroids[first * 256 : (first + size) * 256].reshape(256, size)
        out[:, first : first + size] = centroids[matrix.codes[:, number]]
    norms = _norms(matrix)
    return out * norms[:, None] if len(norms) else out


def _sigmoid(sums: Floats) -> Floats:
    """fastText's: a table of 513 values from -8 to 8."""
    points = (np.arange(513, dtype=np.float32) * 16 / 512 - 8).astype(np.float32)
    table = (1.0 / (1.0 + np.exp(-points).astype(np.float64))).astype(np.float32)
    places = ((sums.clip(-8, 8) + np.float32(8)) * np.float32(512) / np.float32(8) / np.float32(2)).astype(np.int64)
    shares: Floats = table[places]
    shares[sums < -8], shares[sums > 8] = 0, 1
    return shares


def _tree(counts: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The Huffman tree of the labels: left and right child of each inner node; fastText's, ties and all."""
    labels = len(counts)
    weights = [*counts, *[10**15] * (labels - 1)]
    left, right = np.zeros(labels - 1, np.int32), np.zeros(labels - 1, np.int32)
    leaf, node = labels - 1, labels
    for inner in range(labels - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        left[inner], right[inner] = pair
        weights[labels + inner] = weights[pair[0]] + weights[pair[1]]
    return left, right
