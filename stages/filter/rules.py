"""Rules: thresholds on signals, typed, checked against the signals that exist."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, TypeAdapter, ValidationError, model_serializer, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from curate.pipeline.config import Strict
from curate.pipeline.errors import UsageError, nearest
from curate.stages.filter.registry import NOT_MEASURED, Signal, registered

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
        """What was given; a bound of null lies over another rule's, and must come back as null."""
        given = (("min", "min"), ("max", "max"), ("is", "is_"))
        return {name: getattr(self, attribute) for name, attribute in given if attribute in self.model_fields_set}

    def over(self, below: Rule) -> Rule:
        """This rule's bounds, and where it says nothing of one, that of the rule below."""
        return Rule.model_validate({**below.model_dump(), **self.model_dump()})

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
    if name in NOT_MEASURED:
        raise ValueError(f"is not measured: it {NOT_MEASURED[name]}")
    if name not in signals:
        raise ValueError(f"no signal of this name{nearest(name, tuple(signals))}")
    return name


def sensible(rules: dict[str, Rule | None]) -> dict[str, Rule | None]:
    """The rules as they are; ValidationError that names each one that makes no sense."""
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


Overlay = dict[Annotated[str, AfterValidator(_known)], Rule | None]
"""Rules by signal that lie over others (`laid_over`), and need not make sense alone."""

Rules = Annotated[Overlay, AfterValidator(sensible)]
"""Rules by signal, in the order in which they are asked; None is a rule switched off."""


@functools.cache
def _adapter() -> TypeAdapter[dict[str, Rule | None]]:
    return TypeAdapter(Rules)


@functools.cache
def _overlay_adapter() -> TypeAdapter[dict[str, Rule | None]]:
    return TypeAdapter(Overlay)


def parse(rules: Mapping[str, Any], over: Mapping[str, Rule | None] | None = None) -> dict[str, Rule | None]:
    """Rules from plain values as a recipe has them, laid over others if these are given. UsageError names the rule."""
    try:
        if over is None:
            return _adapter().validate_python(dict(rules))
        return sensible(laid_over(over, _overlay_adapter().validate_python(dict(rules))))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise UsageError(f"rules: {key}: {first['msg'].removeprefix('Value error, ')}") from None


def laid_over(below: Mapping[str, Rule | None], above: Mapping[str, Rule | None]) -> dict[str, Rule | None]:
    """Rules with others laid over them: a bound of `above` takes the place of the one below, null that of the whole rule.

    The order is that of `below`, with what it lacks at the end.
    """
    merged = dict(below)
    for name, rule in above.items():
        base = merged.get(name)
        merged[name] = rule if rule is None or base is None else rule.over(base)
    return merged
