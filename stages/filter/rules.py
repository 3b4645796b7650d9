"""Rules: thresholds on signals, typed, checked against the signals that exist, applied to whole columns."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, Field, StrictBool, TypeAdapter, ValidationError, model_serializer, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from curate.pipeline.config import Strict
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.ledger import FailedRule
from curate.stages.filter.registry import Signal, registered

Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Rule(Strict):
    """What a signal's value must be for a document to be kept; a value exactly at a bound is kept."""

    min: Bound | None = None
    """The least value."""
    max: Bound | None = None
    """The greatest value."""
    is_: StrictBool | None = Field(default=None, alias="is")
    """The value of a signal that is true or false."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise ValueError(
                "a rule is written as {min: …}, {max: …}, {min: …, max: …} or {is: true or false}; null switches it off"
            )
        for key in value:
            if key not in ("min", "max", "is"):
                raise ValueError(f"unknown key {key!r}{nearest(str(key), ('min', 'max', 'is'))}")
        return value

    @model_serializer
    def _plain(self) -> dict[str, Any]:
        return dict(self.bounds())

    def bounds(self) -> list[tuple[str, float]]:
        """The bounds that are given, as (`min`, `max` or `is`, number)."""
        given = (("min", self.min), ("max", self.max), ("is", self.is_))
        return [(name, value) for name, value in given if value is not None]

    def problem(self, signal: Signal) -> str | None:
        """Why this rule on this signal makes no sense, or None."""
        if not self.bounds():
            return "the rule is empty: give min, max or is (null switches a rule off)"
        if signal.kind == "bool" or self.is_ is not None:
            if signal.kind != "bool":
                return f"{signal.name} is a number ({signal.unit}): give min or max, not is"
            if self.min is not None or self.max is not None:
                return f"{signal.name} is true or false: give is, not min or max"
            return None
        if self.min is not None and self.max is not None and self.min > self.max:
            return f"min {self.min:g} is above max {self.max:g}: no document could pass"
        values = f"{signal.name} ({signal.unit}) lies in {signal.low:g} to {signal.high:g}"
        if math.isinf(signal.high):
            values = f"{signal.name} ({signal.unit}) is {signal.low:g} or more"
        if (self.min is not None and self.min > signal.high) or (self.max is not None and self.max < signal.low):
            return f"no document could pass: {values}"
        if (self.min is not None and self.min <= signal.low) or (self.max is not None and self.max >= signal.high):
            bound = "min" if self.min is not None and self.min <= signal.low else "max"
            return f"{bound} can never drop a document: {values} (null switches a rule off)"
        return None


def _known(name: str) -> str:
    signals = registered()
    if name not in signals:
        raise ValueError(f"no signal of this name{nearest(name, tuple(signals))}")
    return name


def _sensible(rules: dict[str, Rule | None]) -> dict[str, Rule | None]:
    signals = registered()
    errors: list[InitErrorDetails] = []
    for name, rule in rules.items():
        problem = rule.problem(signals[name]) if rule is not None else None
        if problem:
            kind = PydanticCustomError("rule", "{problem}", {"problem": problem})
            errors.append(InitErrorDetails(type=kind, loc=(name,), input=None))
    if errors:  # so that each error names the rule's own key
        raise ValidationError.from_exception_data("rules", errors)
    return rules


Rules = Annotated[dict[Annotated[str, AfterValidator(_known)], Rule | None], AfterValidator(_sensible)]
"""Rules by signal, in the order in which they are asked; None is a rule switched off."""


@functools.cache
def _adapter() -> TypeAdapter[dict[str, Rule | None]]:
    return TypeAdapter(Rules)


def parse(rules: Mapping[str, Any]) -> dict[str, Rule]:
    """Rules from plain values as a recipe has them. Raises UsageError that names the rule."""
    try:
        parsed: dict[str, Rule | None] = _adapter().validate_python(dict(rules))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UsageError(f"rules: {key}: {first['msg'].removeprefix('Value error, ')}") from None
    return {name: rule for name, rule in parsed.items() if rule is not None}


def decide(
    table: pa.RecordBatch | pa.Table, rules: Mapping[str, Any]
) -> tuple[npt.NDArray[np.bool_], list[tuple[FailedRule, ...]]]:
    """Which documents of a table of signals pass every rule, and for each document the rules that it failed, in their order.

    `rules` are `Rule`s or plain values such as `{"word_count": {"min": 50}}`. Bounds are compared at the column's own
    precision. Raises UsageError for a rule that makes no sense, or whose signal the table lacks.
    """
    size = table.num_rows
    keep = np.ones(size, np.bool_)
    failed: list[list[FailedRule]] = [[] for _ in range(size)]
    for name, rule in parse(rules).items():
        if table.schema.get_field_index(name) < 0:
            raise UsageError(f"rules: {name}: the table has no such column{nearest(name, tuple(table.schema.names))}")
        column = table.column(name)
        values = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
        for bound, threshold in rule.bounds():
            failing = np.flatnonzero(_fails(values, bound, threshold))
            keep[failing] = False
            for row, value in zip(failing.tolist(), _numbers(values[failing]), strict=True):
                failed[row].append(FailedRule(name, value, bound, float(threshold)))
    return keep, [tuple(rules) for rules in failed]


def _fails(values: npt.NDArray[Any], bound: str, threshold: float) -> npt.NDArray[np.bool_]:
    """A float32 column meets the threshold rounded to float32, so that a fraction of exactly .2 is not above .2."""
    limit = np.float32(threshold) if values.dtype == np.float32 else np.float64(threshold)
    if bound == "min":
        return np.asarray(values < limit)
    if bound == "max":
        return np.asarray(values > limit)
    return np.asarray((values != 0) != bool(threshold))


def _numbers(values: npt.NDArray[Any]) -> Sequence[float]:
    """Values as Python floats, a float32 by its shortest decimal: .3, not .30000001192092896."""
    if values.dtype == np.float32:
        return [float(str(value)) for value in values]
    return values.astype(np.float64).tolist()
