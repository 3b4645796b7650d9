"""What scores a document: load a classifier by name or path and ask it, or train one.

    from curate.classifiers import Examples, fit, load
    labels, scores = load("topic").predict(texts)      # label kinds: strings and their probabilities
    scores = load("math").predict(texts)               # score kinds: numbers alone
    fit("linear", Examples(texts, labels, sites), name="mine", version="1").save("mine.safetensors")

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
    from curate.classifiers.kinds import fit
    from curate.classifiers.model import Classifier, Examples

__all__ = ["Examples", "Reference", "card", "fit", "list_models", "load", "names", "resolve"]

HEURISTICS = {
    "heuristic_lesson": (
        "1",
        (0.0, 5.0),
        "0–5, how much an English text looks like teaching material: a formula, no model",
    ),
    "heuristic_prose": ("1", (0.0, 1.0), "0–1, how much a text looks like written prose: a formula, no model"),
}
"""Version, range and description of each; a change of what one gives comes with a new version."""


def __getattr__(name: str) -> Any:
    """What training takes, imported when it is asked for."""
    if name == "fit":
        from curate.classifiers.kinds import fit

        return fit
    if name == "Examples":
        from curate.classifiers.model import Examples

        return Examples
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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


def load(name_or_path: str | Path, device: Device = "auto", encoder: str | Path | None = None) -> Classifier:
    """A classifier, ready to predict; loaded once a process.

    `device` is for models on a sentence encoder that torch can run: `cpu`, `cuda`, or `auto` for a GPU where there is one;
    all others run on the processor. `encoder` is that encoder's folder; None: a package's, or the folder beside the model's
    file that has the encoder's name. UsageError for an unknown name, a missing file, an encoder for a model that stands on
    none, or `cuda` where such a model finds no GPU; CurateError for a file that is corrupted, truncated or no model.
    """
    reference = resolve(str(name_or_path))
    folder = None if encoder is None else str(encoder)
    if reference.kind == "file":
        state = Path(reference.source).stat()
        return _load(reference, device, folder, state.st_mtime_ns, state.st_size)
    if folder is not None:
        raise _no_encoder(reference.source)
    return _load(reference, device, None)


@cache
def _load(reference: Reference, device: Device, encoder: str | None, *state: int) -> Classifier:
    from curate.classifiers import model

    if reference.kind == "heuristic":
        from curate.classifiers.heuristics import Heuristic

        return Heuristic(reference.source, reference.version, reference.fingerprint, reference.scale)
    loaded = (
        _load_shipped(reference) if reference.kind != "file" else _load_file(Path(reference.source), device, encoder)
    )
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


def _load_file(path: Path, device: Device = "auto", encoder: str | None = None) -> Classifier:
    from curate.classifiers import embedding, fasttext, fasttext_file, linear, model

    try:
        with path.open("rb") as stream:
            head = stream.read(9)
    except OSError as error:
        raise CurateError(f"cannot read model {path}: {error.strerror}") from error
    plain = head[:4] == fasttext_file.MAGIC
    if not plain and head[8:9] != b"{":
        raise model.refuse(path, "neither safetensors nor fastText")
    if not plain and embedding.is_one(path):
        return embedding.load(path, device=device, encoder=encoder)
    if encoder is not None:
        raise _no_encoder(str(path))
    return fasttext.load(path) if plain else linear.load(path)


def _no_encoder(source: str) -> UsageError:
    return UsageError(f"{source} stands on no sentence encoder: leave --encoder out")


@cache
def _shipped() -> dict[str, dict[str, Any]]:
    found = {}
    for entry in resources.files("curate.classifiers.models").iterdir():
        if entry.name.endswith(".json"):
            found[entry.name.removesuffix(".json")] = json.loads(entry.read_text("utf-8"))
    return found
