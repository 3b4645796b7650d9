"""What scores a document: load a classifier by name or path and ask it.

    from curate.classifiers import load
    labels, scores = load("topic").predict(texts)      # label kinds: strings and their probabilities
    scores = load("math").predict(texts)               # score kinds: numbers alone

Names are shipped models (`models/`, each with a card) and heuristics; a path is a model file of one's own (`.safetensors`
that `kinds.fit` made, or fastText's `.bin` / `.ftz`). `name#label` is the probability of one label of a label classifier.
This module is light: nothing is imported or read before it is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.pipeline.errors import CurateError, UsageError, nearest

if TYPE_CHECKING:
    from curate.classifiers.encoders import Device
    from curate.classifiers.model import Classifier

__all__ = ["Reference", "card", "list_models", "load", "names", "resolve"]

HEURISTICS = {
    "heuristic_lesson": (
        "1",
        (0.0, 5.0),
        "0–5, how much an English text looks like teaching material: a formula, no model",
    ),
    "heuristic_prose": ("1", (0.0, 1.0), "0–1, how much a text looks like written prose: a formula, no model"),
}
"""Version, range and description of each; a change of what one gives comes with a new version."""


@dataclass(frozen=True)
class Reference:
    """What is known of a classifier before it is loaded; of a file of one's own only `source` and `label`."""

    source: str
    label: str
    kind: str
    output: str = ""
    version: str = ""
    fingerprint: str = ""
    description: str = ""
    scale: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest score: 0 and 1 for probabilities."""
    gpu: bool = False
    """Whether it can run on a GPU."""


def names() -> tuple[str, ...]:
    """Names that `load` knows: shipped models and heuristics, sorted."""
    return tuple(sorted([*HEURISTICS, *_shipped()]))


def list_models() -> list[Reference]:
    """What `load` knows by name, with kind, output (`label` or `score`), version and one line of description."""
    return [resolve(name) for name in names()]


def card(name: str) -> str:
    """A model's card (Markdown): data, licence, date, command, scores; for a heuristic its definition."""
    reference = resolve(name)
    if reference.kind == "heuristic":
        import inspect

        from curate.classifiers.heuristics import FUNCTIONS

        return f"# {reference.source}, version {reference.version}\n\n{inspect.getdoc(FUNCTIONS[reference.source])}\n"
    if reference.source not in _shipped():
        raise UsageError(
            f"{reference.source} is a file of your own: only shipped classifiers have a card ({', '.join(names())})"
        )
    return (resources.files("curate.classifiers.models") / f"{reference.source}.md").read_text("utf-8")


def resolve(name_or_path: str) -> Reference:
    """What a name or a path stands for, without loading it; UsageError with the nearest name where there is no such thing."""
    source, _, label = name_or_path.partition("#")
    if source in HEURISTICS:
        version, scale, description = HEURISTICS[source]
        if label:
            raise UsageError(f"{source} gives a score, no labels: leave out '#{label}'")
        fingerprint = hashlib.sha256(f"{source} {version}".encode()).hexdigest()
        return Reference(source, "", "heuristic", "score", version, fingerprint, description, scale)
    shipped = _shipped().get(source)
    if shipped is not None:
        if label and label not in shipped["labels"]:
            raise UsageError(f"classifier {source!r} has no label {label!r}{nearest(label, tuple(shipped['labels']))}")
        output = "score" if label else shipped["output"]
        low, high = (0.0, 1.0) if label else shipped.get("scale", (0.0, 1.0))
        return Reference(
            source,
            label,
            shipped["kind"],
            output,
            shipped["version"],
            shipped["sha256"],
            shipped["description"],
            (low, high),
        )
    if Path(source).is_file():
        return _of_file(source, label)
    looks_like_path = "/" in source or source.endswith((".safetensors", ".bin", ".ftz"))
    if looks_like_path:
        raise UsageError(f"no model file {source}")
    raise UsageError(f"no classifier named {source!r}{nearest(source, names())}")


def _of_file(path: str, label: str) -> Reference:
    """What a file says of itself in its header or footer; nothing where it says nothing, which `load` will complain of."""
    from curate.classifiers import fasttext_file, tensor_file

    about = tensor_file.peek(Path(path)) or fasttext_file.peek(Path(path))
    try:
        numbers = len(about.get("labels") or ()) < 2 or "levels" in about or about.get("positive") is not None
        score = bool(about) and numbers
        scale = tensor_file.check_scale(about)
    except (TypeError, ValueError):
        return Reference(path, label, "file")
    output = "score" if label or score else ""
    return Reference(path, label, "file", output, scale=(0.0, 1.0) if label else scale, gpu=_runs_on_gpu(about))


def _runs_on_gpu(about: Mapping[str, Any]) -> bool:
    """Whether a header is that of a model on an encoder that torch can run: the 8-bit one runs on the processor alone."""
    encoder = about.get("encoder")
    return isinstance(encoder, dict) and encoder.get("name") != "minilm-int8"


def load(name_or_path: str, device: Device = "auto") -> Classifier:
    """A classifier, ready to predict; loaded once a process.

    `device` is for models on a sentence encoder that torch can run: `cpu`, `cuda`, or `auto` for a GPU where there is one;
    all others run on the processor. UsageError for an unknown name, a missing file, or `cuda` where such a model finds no
    GPU; CurateError for a file that is corrupted, truncated or no model.
    """
    reference = resolve(name_or_path)
    if reference.kind == "file":
        state = Path(reference.source).stat()
        return _load(reference, device, state.st_mtime_ns, state.st_size)
    return _load(reference, device)


@cache
def _load(reference: Reference, device: Device, *state: int) -> Classifier:
    from curate.classifiers import model

    if reference.kind == "heuristic":
        from curate.classifiers.heuristics import Heuristic

        return Heuristic(reference.source, reference.version, reference.fingerprint, reference.scale)
    loaded = _load_shipped(reference) if reference.kind != "file" else _load_file(Path(reference.source), device)
    return model.ProbabilityOf(loaded, reference.label) if reference.label else loaded


def _load_shipped(reference: Reference) -> Classifier:
    name = _shipped()[reference.source].get("file", f"{reference.source}.safetensors")
    with resources.as_file(resources.files("curate.classifiers.models") / name) as path:
        loaded = _load_file(path)
    if loaded.fingerprint != reference.fingerprint:
        raise CurateError(
            f"{name} is not the file that was shipped (its SHA-256 is another): install the package again"
        )
    return loaded


def _load_file(path: Path, device: Device = "auto") -> Classifier:
    from curate.classifiers import embedding, fasttext, fasttext_file, linear, model, tensor_file

    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise CurateError(f"cannot read model {path}: {error.strerror}") from error
    if head[:4] == fasttext_file.MAGIC:
        return fasttext.load(path)
    if head[8:9] == b"{":
        embedded = str(tensor_file.peek(path).get("format", "")).startswith("curate.embedding/")
        return embedding.load(path, device=device) if embedded else linear.load(path)
    raise model.refuse(path, "neither safetensors nor fastText")


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    found = {}
    for entry in resources.files("curate.classifiers.models").iterdir():
        if entry.name.endswith(".json"):
            found[entry.name.removesuffix(".json")] = json.loads(entry.read_text("utf-8"))
    return found
