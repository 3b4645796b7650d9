"""Classifiers on a frozen sentence encoder: a linear or logistic head on the text's vector (FineWeb-Edu's shape).

On disk the head alone, a few kilobytes of safetensors. Its header names the encoder and the SHA-256 of its files, and a model
is not loaded with another. It never says where the encoder lies: a file from elsewhere opens no path of its own choice.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from curate.classifiers import encoders, tensor_file
from curate.classifiers.model import (
    Classifier,
    Examples,
    Floats,
    Goal,
    Kind,
    Output,
    Settings,
    finite,
    goal,
    read_settings,
    sigmoid,
    softmax,
    write,
)
from curate.classifiers.ngrams import as_strings
from curate.pipeline.errors import CurateError

FORMAT = "curate.embedding/1"
_TENSORS: dict[str, tuple[type[np.generic], int]] = {"weights": (np.float32, 2), "bias": (np.float32, 1)}


class EmbeddingSettings(Settings):
    """What an embedding model is made of and trained with."""

    encoder: str = "minilm-int8"
    """A name (`encoders.NAMES`) or the path of a Hugging Face folder."""
    max_tokens: int = Field(default=256, ge=2, le=8_192)
    """What lies beyond is cut off."""
    pooling: Literal["mean", "cls"] | None = None
    """The mean of the tokens' vectors, or the first token's; null: as the encoder's folder says, else the mean."""
    cost: float = Field(default=0.1, gt=0)
    """C of the logistic regression that learns labels."""
    ridge: float = Field(default=1.0, gt=0)
    """Penalty of the ridge regression that learns targets."""


class Embedding(Classifier):
    """An encoder and a head. A score is the probability of one label, or an estimate on the scale of the targets."""

    kind: Kind = "embedding"

    def __init__(
        self, about: dict[str, Any], tensors: tensor_file.Tensors, encoder: encoders.Encoder, fingerprint: str
    ) -> None:
        self.about, self._tensors, self._encoder, self.fingerprint = about, tensors, encoder, fingerprint
        self.name, self.version = about["name"], about["version"]
        self.labels = tuple(about["labels"])
        self.output: Output = "label" if len(self.labels) > 1 else "score"
        self.scale = tensor_file.check_scale(about)

    def values(self, texts: pa.Array) -> Floats:
        return self.apply(self.encode(texts))

    def encode(self, texts: pa.Array) -> Floats:
        """The texts' vectors, for whoever has several heads on one encoder."""
        return self._encoder.encode(_strings(texts))

    def apply(self, vectors: Floats) -> Floats:
        """What `values` gives, from the texts' vectors."""
        weights = self._tensors["weights"].astype(np.float64)
        # A text at a time: how a matrix product is rounded depends on how many there are.
        rows = [vector.astype(np.float64) @ weights for vector in vectors]
        margins = (np.stack(rows) if rows else np.zeros((0, weights.shape[1]))) + self._tensors["bias"]
        margins = finite(margins, self.name)
        if self.output == "label":
            return softmax(margins)
        return sigmoid(margins[:, 0]) if self.labels else margins[:, 0].clip(*self.scale).astype(np.float32)

    def save(self, path: Path | str) -> None:
        write(path, tensor_file.pack(self.about, self._tensors))


def load(
    path: Path | str, data: bytes | None = None, device: encoders.Device = "auto", encoder: str | None = None
) -> Embedding:
    """A model from its file, with its encoder on that device.

    `encoder` is a name or a folder; None: the name that the model gives, or the folder of that name beside the model's file.
    CurateError for a file that is corrupted, truncated or something else, an encoder that is not there (it says which package
    has it), or another than the model was trained with.
    """
    about, tensors, data = tensor_file.unpack(path, data, _check)
    named = about["encoder"]
    opened = encoders.open_encoder(
        encoder or _own(named["name"], Path(path)), named["max_tokens"], named["pooling"], named["fingerprint"], device
    )
    if opened.files.config["hidden_size"] != len(tensors["weights"]):
        raise CurateError(f"{path}: its weights do not fit the encoder {named['name']}")
    return Embedding(about, tensors, opened, hashlib.sha256(data).hexdigest())


def is_one(path: Path) -> bool:
    """Whether a file says that it is a model of this kind, of any version."""
    return str(tensor_file.peek(path).get("format", "")).startswith(FORMAT.partition("/")[0] + "/")


def find_encoder(path: Path) -> encoders.Files:
    """The encoder that `load` would open for a model; CurateError where it would not find it, or find another."""
    about, _, _ = tensor_file.unpack(path, None, _check)
    named = about["encoder"]
    found = encoders.find(_own(named["name"], path))
    encoders.check_fingerprint(found, named["fingerprint"])
    return found


def describe(path: Path) -> str:
    """What a model says of itself, in Markdown; its encoder need not be there."""
    about, _, data = tensor_file.unpack(path, None, _check)
    labels, encoder = about["labels"], about["encoder"]
    low, high = tensor_file.check_scale(about)
    lines = [
        f"# {about['name']}", "", "- kind: embedding", f"- version: {about['version']}",
        f"- gives: {'label' if len(labels) > 1 else 'score'}", f"- labels: {', '.join(labels) or 'none: a number'}",
        f"- scale: {low:g} to {high:g}", f"- SHA-256: {hashlib.sha256(data).hexdigest()}",
        f"- encoder: {encoder['name']}, SHA-256 {encoder['fingerprint']}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _own(name: str, path: Path) -> str:
    """The encoder that a model names: one of a package, or a folder beside its file, and no other path."""
    if name in encoders.NAMES:
        return name
    if not (path.parent / name).is_dir():
        raise CurateError(
            f"{path} needs the encoder {name!r}: put its folder, or a link to it, beside the model under that name, or say "
            "where it is (--encoder, or load(…, encoder=…))"
        )
    return str(path.parent / name)


def _check(about: dict[str, Any], tensors: tensor_file.Tensors) -> None:
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']!r}: this version reads {FORMAT!r}")
    tensor_file.check_arrays(tensors, _TENSORS)
    width = len(tensors["bias"])
    if not len(tensors["weights"]) or tensors["weights"].shape[1] != width or not width:
        raise ValueError("its arrays do not fit together")
    if about["labels"] or width != 1:  # without a label it learned numbers
        tensor_file.check_labels(about, width)
    tensor_file.check_scale(about)
    tensor_file.check_name(about)
    read_settings(EmbeddingSettings, about["settings"])
    encoder = about["encoder"]
    if (
        not all(isinstance(encoder[key], str) and encoder[key] for key in ("name", "fingerprint"))
        or not encoders.is_name(encoder["name"])
        or encoder["pooling"] not in encoders.POOLINGS
        or type(encoder["max_tokens"]) is not int
        or not 2 <= encoder["max_tokens"] <= 8_192
    ):
        raise ValueError("its header does not name an encoder")


def fit(examples: Examples, settings: EmbeddingSettings, *, name: str, version: str) -> Embedding:
    """Trains a head on the encoder's vectors; labels need scikit-learn."""
    wanted = goal(examples, settings.positive)
    files = encoders.find(settings.encoder)
    pooling = settings.pooling or encoders.default_pooling(files)
    encoder = encoders.open_encoder(settings.encoder, settings.max_tokens, pooling, files.fingerprint)
    vectors = encoder.encode(examples.texts)
    weights, bias = _head(vectors, wanted, examples.weighting, settings)
    tensors = {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}
    called = encoders.name_of(settings.encoder)
    if not encoders.is_name(called):
        raise CurateError(
            f"encoder {settings.encoder!r}: a model cannot name a folder {called!r}; give its path to the end"
        )
    about = {
        "format": FORMAT, "name": name, "version": version, "labels": list(wanted.labels), "scale": list(wanted.scale),
        "settings": settings.model_dump() | {"encoder": called}, "encoder": {"name": called,
        "fingerprint": files.fingerprint, "max_tokens": settings.max_tokens, "pooling": pooling},
    }  # fmt: skip
    return Embedding(about, tensors, encoder, hashlib.sha256(tensor_file.pack(about, tensors)).hexdigest())


def _head(
    vectors: Floats, wanted: Goal, weights: npt.NDArray[np.float64], settings: EmbeddingSettings
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Weights (width x labels) and bias."""
    # Vectors of unit length have numbers of about 1 / sqrt(width): brought to about 1, the penalties mean what they say.
    grown = np.sqrt(vectors.shape[1]) * vectors.astype(np.float64)
    if wanted.regression:
        share = weights / weights.sum()
        means, mean = share @ grown, float(share @ wanted.target)
        centred = grown - means
        matrix = (centred * weights[:, None]).T @ centred + settings.ridge * np.eye(grown.shape[1])
        solved = np.linalg.solve(matrix, centred.T @ (weights * (wanted.target - mean)))[:, None]
        bias = np.array([mean - means @ solved[:, 0]])
    else:
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError as error:
            raise CurateError("training needs scikit-learn: pip install scikit-learn") from error
        machine = LogisticRegression(C=settings.cost, max_iter=2_000, random_state=settings.seed)
        machine.fit(grown, wanted.target, sample_weight=weights)
        solved, bias = machine.coef_.T, machine.intercept_
        if wanted.output == "label" and solved.shape[1] == 1:  # two labels have one row: the second's margin
            solved, bias = np.hstack([np.zeros_like(solved), solved]), np.concatenate([[0.0], bias])
    return solved * np.sqrt(vectors.shape[1]), bias


def _strings(texts: pa.Array) -> list[str]:
    """The texts as Python has them; null is empty, and what is no UTF-8 is replaced."""
    buffers = (text.as_buffer() for text in as_strings(texts))
    return ["" if buffer is None else buffer.to_pybytes().decode("utf-8", "replace") for buffer in buffers]
