"""The signals that are known: functions registered by name, ours and a user's.

    @signal("exclamation_fraction", unit="fraction of characters", source="ours")
    def exclamation_fraction(texts):
        return [text.count("!") / max(len(text), 1) for text in texts]

A module with such functions, named in the recipe's `plugins:`, is all it takes.
"""

from __future__ import annotations

import functools
import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pyarrow as pa

from curate.pipeline.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy.typing as npt

    from curate.stages.text import Segmented

    Measure = Callable[[Segmented], npt.NDArray[Any] | Sequence[float]]

Kind = Literal["float", "int", "bool"]
Function = TypeVar("Function", bound=Callable[..., Any])

BUILT_IN = ("gopher", "c4", "fineweb", "pii")
"""Modules of `curate.stages.filter.measures`, in the order of FineWeb's steps, which is that of the columns."""

RESERVED = frozenset({"id", "language", "language_score"})
"""Names that the table of measures, or the language step, uses."""


@dataclass(frozen=True)
class Signal:
    """A number that every document has.

    `text` says which text it measures: as `extracted`, or `edited` by the line edits. Values lie in [low, high]; a `bool`
    is stored as int32 0 or 1, an `int` as int32, a `float` as float32.
    """

    name: str
    unit: str
    source: str
    text: Literal["extracted", "edited"]
    kind: Kind
    low: float
    high: float
    function: Measure

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of its column."""
        return pa.float32() if self.kind == "float" else pa.int32()

    @property
    def definition(self) -> str:
        """What the function's docstring says."""
        return (self.function.__doc__ or "").strip()


_REGISTERED: dict[str, Signal] = {}


def signal(
    name: str,
    *,
    unit: str,
    source: str,
    text: Literal["extracted", "edited"] = "extracted",
    kind: Kind = "float",
    low: float = 0.0,
    high: float | None = None,
) -> Callable[[Function], Function]:
    """Registers a function over a batch of segmented texts, which gives one finite number a document.

    `low` and `high` bound the values, so that a rule that cannot match is refused; without `high`, 1 where the unit is a
    `fraction of …` or `kind` is bool, and none otherwise. Raises UsageError for a name that is taken or not a plain one.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in RESERVED:
        raise UsageError(
            f"signal {name!r}: a name is made of a-z, 0-9 and _, and is none of {', '.join(sorted(RESERVED))}"
        )
    if high is None:
        high = 1.0 if unit.startswith("fraction") or kind == "bool" else math.inf

    def register(function: Function) -> Function:
        if not function.__module__.startswith("curate.stages.filter.measures."):
            _load_built_in()
        taken = _REGISTERED.get(name)
        if taken is not None and _place(taken.function) != _place(function):
            raise UsageError(f"signal {name!r} is registered twice: {_place(taken.function)} and {_place(function)}")
        _REGISTERED[name] = Signal(name, unit, source, text, kind, low, high, function)
        return function

    return register


def registered() -> Mapping[str, Signal]:
    """Every signal by name, ours first, then the plugins' in the order in which they were imported."""
    _load_built_in()
    return dict(_REGISTERED)


def select(names: Sequence[str] | None) -> list[Signal]:
    """The signals of these names, or all; UsageError for one that nothing computes."""
    known = registered()
    for name in names or ():
        if name not in known:
            raise UsageError(f"no signal named {name!r}{nearest(name, tuple(known))}")
    return list(known.values()) if names is None else [known[name] for name in names]


@functools.cache
def _load_built_in() -> None:
    for module in BUILT_IN:
        importlib.import_module(f"curate.stages.filter.measures.{module}")


def _place(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
