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
Counting = Literal["paper", "datatrove"]
Function = TypeVar("Function", bound=Callable[..., Any])

BUILT_IN = ("url", "gopher", "c4", "fineweb", "pii", "information", "redpajama")
"""Modules of `curate.stages.filter.measures`: those of FineWeb's steps in their order, then the rest; the columns' order."""

RESERVED = frozenset({"id", "language", "language_score", "characters", "pii"})
"""Names that the table of measures, or the language step, uses."""

_NO_MODEL = "needs RedPajama's {}, which nobody ships with a licence to use it here"

NOT_MEASURED: Mapping[str, str] = {
    "ccnet_perplexity": _NO_MODEL.format("KenLM and SentencePiece models of each language's Wikipedia"),
    "ccnet_bucket": _NO_MODEL.format("KenLM models and the limits of their perplexity by language"),
    **{
        f"rps_doc_{domain}_importance{suffix}": _NO_MODEL.format("counts of hashed 1- and 2-grams (DSIR)")
        for domain in ("books", "openwebtext", "wikipedia")
        for suffix in ("", "_length_correction")
    },
    **{
        f"rps_doc_ml_{model}_score": _NO_MODEL.format("fastText classifiers")
        for model in ("wikiref", "palm", "wikipedia")
    },
}
"""Signals of RedPajama v2 that are not measured, and why: they need trained models, where all others need the text alone."""


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
            raise UsageError(unknown(name))
    return list(known.values()) if names is None else [known[name] for name in names]


def unknown(name: str) -> str:
    """What to tell a user who asks for a signal that there is not: why it is not measured, or the nearest name."""
    if name in NOT_MEASURED:
        return f"signal {name!r} is not measured: it {NOT_MEASURED[name]}"
    return f"no signal named {name!r}{nearest(name, tuple(registered()))}"


def catalogue(names: Sequence[str] | None = None) -> list[dict[str, str]]:
    """A row a signal, as text: name, unit, type, text measured, range, source, definition (one paragraph, no line breaks)."""
    return [
        {
            "name": one.name,
            "unit": one.unit,
            "type": one.kind,
            "text": one.text,
            "range": f"{one.low:g} to {one.high:g}" if math.isfinite(one.high) else f"{one.low:g} and more",
            "source": one.source,
            "definition": " ".join(one.definition.split()),
        }
        for one in select(names)
    ]


@functools.cache
def _load_built_in() -> None:
    for module in BUILT_IN:
        importlib.import_module(f"curate.stages.filter.measures.{module}")


def _place(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
