"""The recipe's section `classify`: columns `quality`, `math`, `edu`, `topic` and `topic_score`, their quantiles, bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.classifiers import Reference, resolve
from curate.pipeline.config import Strict, digest
from curate.pipeline.errors import UsageError, nearest
from curate.stages.decontaminate.config import DecontaminateConfig

SCORES: Mapping[str, str] = {
    "quality": "quality, by the model or heuristic named here",
    "math": "probability that the page is mathematics",
    "edu": "educational value, on the scale of the model or heuristic named here (0–5 for what ships)",
}
"""Score columns and what they mean: what a reader finds in the Parquet field's metadata."""
LABELS: Mapping[str, str] = {"topic": "what the page is about"}
COLUMNS = (*SCORES, *LABELS)
MEASURED = (*SCORES, *(f"{name}_score" for name in LABELS))
"""Columns of numbers."""
PERCENTILE = "percentile"
PARTS: Mapping[int, str] = {4: "quartile", 5: "quintile", 10: "decile", 20: "vigintile"}
"""Into how many parts pages may be cut, and what the part's number is called."""
ROWS = "pages"
TOKENS = "tokens"


class Bound(Strict):
    """Pages go on whose score is at least `min` and at most `max`."""

    min: float | None = None
    max: float | None = None
    min_with_latex: float | None = None
    """In place of `min` for pages in which extract found LaTeX (column `has_math`): OpenWebMath asks less of them."""

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        given = [value for value in (self.min, self.max) if value is not None]
        if not given or not all(math.isfinite(value) for value in given):
            raise ValueError("give min, max or both, as numbers")
        if self.min_with_latex is not None and (self.min is None or not self.min_with_latex < self.min):
            raise ValueError(
                "min_with_latex is below min: what is asked of pages with LaTeX, where min is asked of all others"
            )
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


class QuantileConfig(Strict):
    """Columns `<score>_percentile` and `<score>_vigintile`: where a page stands among all that came into the stage.

    The percentile is the share, in whole percent rounded down, that scores lower: 0 to 99. The part is 1 for the lowest scores
    and `parts` for the highest. Both are exact; equal scores share them.
    """

    within: str | None = "topic"
    """Pages are compared with those of the same value of this column: `topic`, or a string column of the documents, such as
    `language` or `snapshot`; null: with all."""
    by: str = TOKENS
    """What a part holds an equal share of: `tokens` (judged by the text's bytes: the mix counts them later), `pages`, or an
    integer column of the documents, as `signals.word_count`."""
    parts: Literal[4, 5, 10, 20] = 20
    """20 are vigintiles; 4, 5 and 10 give `<score>_quartile`, `_quintile` and `_decile`."""

    @property
    def asks_documents(self) -> bool:
        """Whether columns of the documents are needed, beside the scores."""
        return self.within not in (None, *LABELS) or self.by not in (TOKENS, ROWS)


class ClassifyConfig(Strict):
    """Which classifier fills which column, and which scores a page needs to go on. By default every page goes on.

    A classifier is a name that `curate classifier list` shows, the path of a model file (`.safetensors` that we trained,
    fastText's `.bin` or `.ftz`), either with `#label` for the probability of one label, or null: the column is null then.
    """

    quality: str | None = "quality"
    """A score: how far the page reads like reference or explanation rather than like the rest of the web."""
    math: str | None = "math"
    """A probability that the page is mathematics."""
    edu: str | None = "edu"
    """A score of educational value."""
    topic: str | None = "topic"
    """A label, with its probability in `topic_score`."""
    quantiles: dict[str, QuantileConfig] = Field(default_factory=dict)
    """Scores whose percentiles and vigintiles become columns, as in `quantiles: {quality: {within: topic}}`."""
    keep: dict[str, Bound] = Field(default_factory=dict)
    """Bounds by column, as in `keep: {edu: {min: 3}}` or `{quality_vigintile: {min: 16}}`: a page outside is dropped with the
    column as its reason."""
    decontaminate: DecontaminateConfig | None = None
    """Evaluation sets whose items no page may hold; null: none."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", json_schema_extra={"output": False})
    """Where models on a sentence encoder run (all others run on the processor): `cuda` is a GPU or an error, `auto` a GPU where
    the worker has one. Scores of a GPU and of a processor differ by rounding; what is finished is not scored again."""
    gpus: float | None = Field(default=None, gt=0, le=1, json_schema_extra={"output": False})
    """What of a GPU a worker on Ray holds while it scores: with 0.25 four share one. Null: a whole one where `device` is
    `cuda`, else none. The local engine's workers share the machine's first."""

    @field_validator("quantiles", mode="before")
    @classmethod
    def _known_scores(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if name not in MEASURED:
                raise ValueError(f"no score column {name!r}{nearest(str(name), MEASURED)}")
        return value

    @field_validator("keep", mode="before")
    @classmethod
    def _known_columns(cls, value: Any, info: Any) -> Any:
        quantiles = quantile_columns(info.data.get("quantiles", {}))
        for name in value if isinstance(value, dict) else ():
            score, _, part = str(name).rpartition("_")
            if name not in quantiles and score in MEASURED and part in (PERCENTILE, *PARTS.values()):
                wanted = next((f"{{parts: {count}}}" for count, title in PARTS.items() if title == part), "{}")
                raise ValueError(f"{name} is not there: ask for it with quantiles: {{{score}: {wanted}}}")
            if name not in MEASURED and name not in quantiles:
                raise ValueError(f"no score column {name!r}{nearest(str(name), (*MEASURED, *quantiles))}")
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
        quantiles = quantile_columns(self.quantiles)
        for name in self.keep:
            score = quantiles[name][0] if name in quantiles else name
            if self.classifier_of(score) is None:
                raise ValueError(f"keep.{name}: no classifier fills that column ({_filled_by(score)} is null)")
        for name, quantile in self.quantiles.items():
            if self.classifier_of(name) is None:
                raise ValueError(f"quantiles.{name}: no classifier fills that column ({_filled_by(name)} is null)")
            if quantile.within in LABELS and getattr(self, str(quantile.within)) is None:
                raise ValueError(
                    f"quantiles.{name}.within: no classifier fills that column ({quantile.within} is null)"
                )
        return self

    @model_validator(mode="after")
    def _bounds_matter(self) -> Self:
        quantiles = quantile_columns(self.quantiles)
        for name, bound in self.keep.items():
            if name in quantiles:
                count = quantiles[name][1]
                problem, by = bound.problem(*((0, 99) if count == 100 else (1, count))), ""
            else:
                classifier = self.classifier_of(name)
                assert classifier is not None  # refused above
                problem, by = bound.problem(*resolve(classifier).scale), f" ({name} is filled by {classifier})"
            if problem:
                raise ValueError(f"keep.{name}: {problem}{by}")
        return self

    @model_validator(mode="after")
    def _gpu_is_used(self) -> Self:
        if self.device == "cpu" and self.gpus is not None:
            raise ValueError("gpus: device is cpu, which needs none: leave one of them out")
        if self._wants_gpu and not any(reference.gpu for reference in self.references().values()):
            key = "device: it is cuda" if self.device == "cuda" else "gpus: they are asked for"
            raise ValueError(
                f"{key}, but no classifier here can run on a GPU: only embedding models do, on another encoder than minilm-int8"
            )
        return self

    @property
    def _wants_gpu(self) -> bool:
        return self.device == "cuda" or self.gpus is not None

    @property
    def worker_gpus(self) -> float:
        """GPUs that a worker of a cluster holds while it scores."""
        return (self.gpus or 1.0) if self._wants_gpu else 0.0

    def classifier_of(self, column: str) -> str | None:
        """What fills a column of numbers."""
        found: str | None = getattr(self, _filled_by(column))
        return found

    @property
    def asks_documents(self) -> bool:
        """Whether quantiles need columns of the documents, beside the scores."""
        return any(quantile.asks_documents for quantile in self.quantiles.values())

    def references(self) -> dict[str, Reference]:
        """The classifiers by the column they fill; columns without one are left out."""
        return {name: resolve(getattr(self, name)) for name in COLUMNS if getattr(self, name) is not None}

    def fingerprint(self, fields: tuple[str, ...] = ()) -> str:
        """SHA-256 (hex) of the fields and of the models that they name: another one under the same path is another output."""
        models = {
            name: reference.fingerprint or _content(reference.source)
            for name, reference in self.references().items()
            if not fields or name in fields
        }
        return digest([super().fingerprint(fields), models])


def quantile_columns(quantiles: Mapping[str, QuantileConfig]) -> dict[str, tuple[str, int]]:
    """The columns that quantiles make, in order: of which score, and into how many parts it is cut."""
    found = {}
    for name, quantile in quantiles.items():
        found[f"{name}_{PERCENTILE}"] = (name, 100)
        found[f"{name}_{PARTS[quantile.parts]}"] = (name, quantile.parts)
    return found


def _filled_by(column: str) -> str:
    """The field that names the classifier of a column of numbers."""
    return column if column in SCORES else column.removesuffix("_score")


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
