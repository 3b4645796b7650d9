"""The stage that scores every page: columns `quality`, `math`, `edu`, `topic` and `topic_score`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from curate.classifiers import Reference, resolve
from curate.pipeline.config import Strict, digest
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.stage import Stage, Step, one_task_a_shard

SCORES: Mapping[str, str] = {
    "quality": "quality, by the model or heuristic named here",
    "math": "probability that the page is mathematics",
    "edu": "educational value, on the scale of the model or heuristic named here (0–5 for what ships)",
}
"""Score columns and what they mean: what a reader finds in the Parquet field's metadata."""
LABELS: Mapping[str, str] = {"topic": "what the page is about"}
COLUMNS = (*SCORES, *LABELS)
KEEPABLE = (*SCORES, *(f"{name}_score" for name in LABELS))


class Bound(Strict):
    """Pages go on whose score is at least `min` and at most `max`."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        given = [value for value in (self.min, self.max) if value is not None]
        if not given or not all(math.isfinite(value) for value in given):
            raise ValueError("give min, max or both, as numbers")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}: no page would be left")
        return self

    def problem(self, low: float, high: float) -> str | None:
        """Why this bound makes no sense on scores from `low` to `high`, or None."""
        values = f"scores lie in {low:g} to {high:g}"
        if (self.min is not None and self.min > high) or (self.max is not None and self.max < low):
            return f"no page would be left: {values}"
        if (self.min is not None and self.min <= low) or (self.max is not None and self.max >= high):
            kind = "min" if self.min is not None and self.min <= low else "max"
            return f"{kind} can never drop a page: {values}; leave it out"
        return None


class ClassifyConfig(Strict):
    """Which classifier fills which column, and which scores a page needs to go on. By default every page goes on.

    A classifier is a name that `curate classifier list` shows, the path of a model file (`.safetensors` that we trained,
    fastText's `.bin` or `.ftz`), either with `#label` for the probability of one label, or null: the column is null then.
    """

    quality: str | None = "heuristic_prose"
    """A score; the default is a formula, not a model, and the column's metadata says so."""
    math: str | None = "math"
    """A probability that the page is mathematics."""
    edu: str | None = "heuristic_lesson"
    """A score of educational value; the default is a formula, not a model, and the column's metadata says so."""
    topic: str | None = "topic"
    """A label, with its probability in `topic_score`."""
    keep: dict[str, Bound] = Field(default_factory=dict)
    """Bounds by column, as in `keep: {edu: {min: 3}}`: a page outside is dropped with the column as its reason."""

    @field_validator("keep", mode="before")
    @classmethod
    def _known_columns(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if name not in KEEPABLE:
                raise ValueError(f"no score column {name!r}{nearest(str(name), KEEPABLE)}")
        return value

    @field_validator(*COLUMNS)
    @classmethod
    def _known_classifier(cls, value: str | None, info: Any) -> str | None:
        if value is None:
            return None
        try:
            reference = resolve(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        check_output(info.field_name, value, reference.output)
        return value

    @model_validator(mode="after")
    def _filled_columns(self) -> Self:
        for name in self.keep:
            if getattr(self, name.removesuffix("_score")) is None:
                raise ValueError(
                    f"keep.{name}: no classifier fills that column ({name.removesuffix('_score')} is null)"
                )
        return self

    @model_validator(mode="after")
    def _bounds_matter(self) -> Self:
        for name, bound in self.keep.items():
            classifier = getattr(self, name.removesuffix("_score"))
            problem = bound.problem(*resolve(classifier).scale)
            if problem:
                raise ValueError(f"keep.{name}: {problem} ({name} is filled by {classifier})")
        return self

    def references(self) -> dict[str, Reference]:
        """The classifiers by the column they fill; columns without one are left out."""
        return {name: resolve(getattr(self, name)) for name in COLUMNS if getattr(self, name) is not None}

    def fingerprint(self, fields: tuple[str, ...] = ()) -> str:
        """SHA-256 (hex) of the fields and of the models: another model under the same name or path is another output."""
        models = {
            name: reference.fingerprint or _content(reference.source) for name, reference in self.references().items()
        }
        return digest([super().fingerprint(fields), models])


def check_output(column: str, classifier: str, output: str) -> None:
    """ValueError if a classifier of that output (`label`, `score`; `` if not known yet) cannot fill the column."""
    if output == "label" and column in SCORES:
        raise ValueError(
            f"{classifier} gives labels, but {column} is a score: give '{classifier}#label' for the probability of one"
        )
    if output == "score" and column in LABELS:
        raise ValueError(f"{classifier} gives a score, but {column} is a label")


def _content(path: str) -> str:
    import hashlib
    from pathlib import Path

    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


STAGE = Stage(
    name="classify",
    version=1,
    config=ClassifyConfig,
    steps=(Step("classify", "curate.stages.classify_work:classify", one_task_a_shard, record_bearing=True),),
    after="dedup",
    disk=1.02,
)
