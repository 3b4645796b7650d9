"""Trains fastText models by the fastText library, on one thread: the same examples and settings give the same bytes."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from curate.classifiers import fasttext_file
from curate.classifiers.fasttext import PREFIX, FastText
from curate.classifiers.model import Examples, Goal, Settings, folds_of, goal
from curate.classifiers.ngrams import prepared
from curate.pipeline.errors import CurateError

OTHER = "other"
MOST_LEVELS = 12


class FastTextSettings(Settings):
    """What a fastText model is trained with; names and meaning are the library's where it has one."""

    dim: int = Field(default=32, ge=1, le=1_000)
    lr: float = Field(default=1.0, gt=0, le=10)
    epoch: int = Field(default=25, ge=1, le=1_000)
    word_ngrams: int = Field(default=2, ge=1, le=10)
    """Word 1…n-grams."""
    min_count: int = Field(default=2, ge=1)
    """A word stands in the training texts at least so many times."""
    bucket: int = Field(default=200_000, ge=1, le=1 << 30)
    """Rows that all n-grams of two words and more, and of characters, share."""
    loss: Literal["softmax", "hs", "ova"] = "softmax"
    minn: int = Field(default=0, ge=0, le=10)
    maxn: int = Field(default=0, ge=0, le=10)
    """Character n-grams from `minn` to `maxn`; 0: none."""
    preparation: Literal["as_is", "words", "words_without_latex"] = "words"
    """What is done to a text first, in training and ever after (`ngrams.PREPARATIONS`); `as_is` only makes line ends spaces."""
    max_bytes: int = Field(default=20_000, ge=1, le=1 << 30)
    """Bytes of a text that are looked at."""
    levels: int = Field(default=6, ge=2, le=MOST_LEVELS)
    """Targets that have more than 12 values are cut into so many levels, as many texts in each; the score is the mean of
    the levels by their probabilities."""
    max_mb: float | None = Field(default=None, gt=0)
    """Quantise the model and prune its dictionary so that the file takes no more million bytes; null: a plain `.bin`."""
    trials: int = Field(default=0, ge=0, le=1_000)
    """Try so many settings first and take the best (`search`)."""


def fit(examples: Examples, settings: FastTextSettings, *, name: str, version: str) -> FastText:
    """Trains a model; CurateError where the examples do not do, or the model cannot be made as small as asked.

    A text of weight 2.3 is taken twice, or, at a chance of .3 by the seed, three times.
    """
    wanted = goal(examples, settings.positive)
    tried: list[dict[str, Any]] = []
    if settings.trials:
        settings, tried = search(examples, settings)
    labels, levels = _labels(wanted, settings.levels)
    about: dict[str, Any] = {
        "name": name, "version": version, "preparation": settings.preparation, "max_bytes": settings.max_bytes,
        "positive": settings.positive, "settings": settings.model_dump(), "tried": tried,
    }  # fmt: skip
    if levels is not None:
        about["scale"] = [min(levels.values()), max(levels.values())]
    with tempfile.TemporaryDirectory(prefix="curate-") as folder:
        texts, file = Path(folder) / "texts", Path(folder) / "model"
        _write_texts(texts, examples, labels, settings)
        _train(texts, file, settings)
        if settings.max_mb is not None:
            room = int(settings.max_mb * 1e6) - len(json.dumps(about)) - 60 * len(set(labels)) - 100
            _quantise(texts, file, settings, room)
        about["labels"] = [_unescaped(label.removeprefix(PREFIX)) for label in fasttext_file.read(file).labels]
        if levels is not None:
            about["levels"] = [levels[label] for label in about["labels"]]
        with file.open("ab") as stream:
            stream.write(fasttext_file.footer(about))
        return FastText(fasttext_file.read(file), file.read_bytes(), name)


def search(examples: Examples, settings: FastTextSettings) -> tuple[FastTextSettings, list[dict[str, Any]]]:
    """The best of `settings.trials` settings, and what each gave, in the order they were tried.

    Measured on a quarter of the sites, which the trials' models have not seen: the share of right labels, the area under
    the ROC curve of a positive label, or the negative root mean square error of targets. The first trial is the settings
    as given; a third are drawn from wide ranges; the others are steps from the best so far, shorter and shorter. fastText's
    own autotune stops by the clock and splits by line: another load of the machine gives another model, and pages of one
    site stand on both sides.
    """
    held = folds_of([f"trials {group}" for group in examples.grouping], 4) == 0
    seen, unseen = examples.take(~held), examples.take(held)
    if not len(unseen) or not len(seen):
        raise CurateError("trials: too few groups (sites) to keep some out for measuring")
    chance = np.random.default_rng(settings.seed)
    best, most, tried = settings, -math.inf, []
    for trial in range(settings.trials):
        chosen = best if trial == 0 else _drawn(best, chance, trial / settings.trials)
        model = fit(seen, chosen.model_copy(update={"trials": 0, "max_mb": None}), name="trial", version="0")
        value = _measure(model, unseen)
        tried.append({**{key: getattr(chosen, key) for key in _RANGES}, "value": round(value, 6)})
        if value > most:
            best, most = chosen, value
    return best.model_copy(update={"trials": 0}), tried


_RANGES: dict[str, tuple[float, float]] = {
    "lr": (0.05, 2.0),
    "epoch": (3, 60),
    "dim": (8, 128),
    "word_ngrams": (1, 3),
    "min_count": (1, 8),
}


def _drawn(best: FastTextSettings, chance: np.random.Generator, progress: float) -> FastTextSettings:
    """Settings anywhere in the ranges (logarithmic) in the first third of a search; later near the best so far."""
    drawn: dict[str, Any] = {}
    for key, (low, high) in _RANGES.items():
        value = low * (high / low) ** chance.random()
        step = math.exp(chance.normal() * math.log(high / low) / 3 * (1.1 - progress))
        if progress >= 1 / 3:
            value = min(max(getattr(best, key) * step, low), high)
        drawn[key] = round(float(value), 4) if key == "lr" else round(value)
    return best.model_copy(update=drawn)


def _measure(model: FastText, examples: Examples) -> float:
    answer = model.predict(examples.array)
    if isinstance(answer, tuple):
        found = answer[0].to_pylist()
        return float(np.mean([a == b for a, b in zip(found, examples.labels, strict=True)]))
    scores = np.asarray(answer, float)
    if examples.targets:
        return -float(np.sqrt(np.mean((scores - np.array(examples.targets)) ** 2)))
    from scipy.stats import rankdata

    wanted = np.array([label == model.labels[0] for label in examples.labels])
    count = int(wanted.sum())
    if count in (0, len(wanted)):
        raise CurateError("trials: the sites kept out for measuring have one label alone")
    ranks = rankdata(scores)[wanted].sum() - count * (count + 1) / 2
    return float(ranks / (count * (len(wanted) - count)))


def _labels(wanted: Goal, levels: int) -> tuple[list[str], dict[str, float] | None]:
    """The label to learn of each text, and, where numbers are to be learned, the number that each stands for."""
    if wanted.output == "label":
        return [wanted.labels[int(place)] for place in wanted.target], None
    if not wanted.regression:
        (positive,) = wanted.labels
        rest = OTHER if positive != OTHER else f"not {OTHER}"
        return [positive if value else rest for value in wanted.target], None
    values = np.unique(wanted.target)
    if len(values) <= MOST_LEVELS:
        places = np.searchsorted(values, wanted.target)
    else:
        edges = np.unique(np.quantile(wanted.target, np.arange(1, levels) / levels))
        _, places = np.unique(np.searchsorted(edges, wanted.target), return_inverse=True)
        values = np.array([wanted.target[places == place].mean() for place in range(places.max() + 1)])
    return [f"level_{place}" for place in places], {
        f"level_{place}": float(value) for place, value in enumerate(values)
    }


_UNSEEN = re.compile(rb"(?<![^\s\0])(?:__label__[^\s\0]*|</s>(?![^\s\0]).*)", re.DOTALL)
"""What a model never sees of a text: a token that looks like a label, and all from the token that ends a line."""


def _write_texts(path: Path, examples: Examples, labels: list[str], settings: FastTextSettings) -> None:
    """fastText's input: a text a line, its label in front; in an order that the seed gives."""
    with path.open("wb") as stream:
        for row in _order(examples.weighting, settings.seed):
            text = _UNSEEN.sub(b" ", prepared(examples.texts[row], settings.preparation, settings.max_bytes))
            stream.write(f"{PREFIX}{_escaped(labels[row])} ".encode() + text.replace(b"\n", b" ") + b"\n")


def _order(weights: npt.NDArray[np.float64], seed: int) -> Iterator[int]:
    chance = np.random.default_rng(seed)
    times = np.floor(weights + chance.random(len(weights))).astype(np.int64)
    rows = np.repeat(np.arange(len(weights)), times)
    chance.shuffle(rows)
    yield from rows.tolist()


def _escaped(label: str) -> str:
    return re.sub(r"[\s\0%]", lambda found: "".join(f"%{byte:02x}" for byte in found[0].encode()), label)


def _unescaped(label: str) -> str:
    from urllib.parse import unquote

    return unquote(label)


def _train(texts: Path, file: Path, settings: FastTextSettings) -> None:
    """Writes the plain model."""
    import fasttext

    try:
        model = fasttext.train_supervised(
            str(texts), dim=settings.dim, lr=settings.lr, epoch=settings.epoch, wordNgrams=settings.word_ngrams,
            minCount=settings.min_count, bucket=settings.bucket, loss=settings.loss, minn=settings.minn, maxn=settings.maxn,
            seed=settings.seed, thread=1, verbose=0,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        raise CurateError(f"fastText cannot learn from these examples: {error}") from error
    model.save_model(str(file))


def _quantise(texts: Path, file: Path, settings: FastTextSettings, room: int) -> None:
    """Makes the model in the file one of at most `room` bytes, with as many rows as go into that, and trains these again."""
    import fasttext

    kept = _rows_that_fit(fasttext_file.read(file), room)
    if kept < fasttext_file.CENTROIDS:
        raise CurateError(f"max_mb: {settings.max_mb:g} MB are too few for a model of {settings.dim} numbers a word")
    model = fasttext.load_model(str(file))  # a file of our own
    try:
        # The binding itself: the library's method takes verbose=0 for "as in the model", which prints.
        model.f.quantize(str(texts), False, kept, True, settings.epoch, settings.lr, 1, 0, 2, True)
    except (ValueError, RuntimeError) as error:
        raise CurateError(f"max_mb: fastText cannot quantise this model: {error}") from error
    model.save_model(str(file))
    if file.stat().st_size > room:
        raise CurateError(f"max_mb: the model takes {file.stat().st_size:,} bytes, not {room:,}")


def _rows_that_fit(parts: fasttext_file.Parts, room: int) -> int:
    """How many rows of the input matrix, those of the greatest norm first, make a quantised file of at most `room` bytes."""
    assert parts.input.dense is not None
    words, width = len(parts.words), parts.width
    head = 8 + 56 + 28 + 2 + 21 + 16 + 1024 * width + 16 + 1024 + 16 + 4 * len(parts.labels) * width
    head += sum(len(label.encode()) + 10 for label in parts.labels)
    norms = np.linalg.norm(parts.input.dense, axis=1)
    if b"</s>" in parts.words:
        norms[parts.words.index(b"</s>")] = np.inf  # fastText always keeps it
    costs = np.full(len(norms), 8)
    costs[:words] = [len(word) + 10 for word in parts.words]
    costs += -(-width // 2) + 1
    return int(np.searchsorted(np.cumsum(costs[np.argsort(-norms, kind="stable")]), room - head, side="right"))
