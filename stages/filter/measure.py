"""Signals of a batch of texts, measured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.pipeline.errors import CurateError, UsageError
from curate.stages.filter.config import LinesConfig
from curate.stages.filter.languages import canonical
from curate.stages.filter.languages import stop_words as listed
from curate.stages.filter.registry import Counting, Signal, select
from curate.stages.text.edits import edit_lines
from curate.stages.text.segment import Segmented, Texts, segment

DEFAULT_LINES = LinesConfig()


@dataclass(frozen=True)
class Measurements:
    """What was measured of a batch, and the texts that it was measured on."""

    table: pa.RecordBatch
    """One row a text, one column a signal."""
    extracted: Segmented
    edited: Segmented
    """The texts after line edits; the same object as `extracted` if there were none to be made."""
    strings: pa.Array | None
    """The edited texts as Arrow strings; None if there were no edits to be made."""


def signals(
    texts: Texts,
    names: Sequence[str] | None = None,
    counting: Counting = "paper",
    *,
    lines: LinesConfig | None = DEFAULT_LINES,
    languages: Sequence[str | None] | None = None,
    urls: Sequence[str | None] | None = None,
) -> pa.RecordBatch:
    """The signals of these names, or all, of an Arrow array (or a list) of strings: one row a text, one column a signal.

    Columns are float32, or int32 for counts and for true and false. `counting` is `paper` (as the papers say) or `datatrove`
    (as its code does). `lines` are the edits that make the edited text, which some signals measure (`registry.Signal.text`).
    `languages` and `urls` are those of the texts, for the signals that ask for them. Every text has a value, no value is
    NaN. Raises UsageError for an unknown name or counting, and where the lengths differ.
    """
    if isinstance(texts, str) or isinstance(names, str):
        raise TypeError("texts and names are lists (or Arrow arrays) of strings, not a string")
    known = {
        "language": None if languages is None else [canonical(label) for label in languages],
        "url": urls,
    }
    return measure(texts, select(names), lines=lines, counting=counting, known=known).table


def measure(
    texts: Texts,
    wanted: Sequence[Signal],
    *,
    lines: LinesConfig | None,
    counting: Counting = "paper",
    known: Mapping[str, Any] | None = None,
    stop_words: Mapping[str, Sequence[str]] | None = None,
    repeated: Callable[[Segmented], npt.NDArray[np.bool_]] | None = None,
) -> Measurements:
    """The wanted signals of a batch, and the texts after line edits.

    `known` is what else is known of the texts, one value a row (`Segmented.known`); None for all is not known. `stop_words` are
    the recipe's own, by language. `repeated` says which of a batch's lines stand elsewhere in the snapshot too.
    """
    if counting not in ("paper", "datatrove"):
        raise UsageError(f"counting: {counting!r} is neither 'paper' nor 'datatrove'")
    given = {key: values for key, values in (known or {}).items() if values is not None}
    given["stop_words"] = [listed(one, stop_words or {}) for one in given.get("language", (None,) * len(texts))]
    extracted = segment(texts, known=given, counting=counting)
    for key, values in given.items():
        if len(values) != len(extracted):
            raise UsageError(f"{len(values)} values of {key!r} for {len(extracted)} texts: give one each")
    edited, strings = extracted, None
    if lines is not None or repeated is not None:
        gone = None if repeated is None else repeated(extracted)
        edited, strings = edit_lines(extracted, repeated=gone, **_edits(lines))
    columns = [_column(signal, edited if signal.text == "edited" else extracted) for signal in wanted]
    schema = pa.schema([(signal.name, signal.type) for signal in wanted])
    return Measurements(pa.RecordBatch.from_arrays(columns, schema=schema), extracted, edited, strings)


def _edits(lines: LinesConfig | None) -> dict[str, Any]:
    """Arguments of `edit_lines`; without a configuration none but repeated lines go."""
    if lines is None:
        return {"citations": False, "longest_word": None, "fewest_words": 0, "phrases": (), "terminal": False}
    return lines.model_dump()


def _column(signal: Signal, texts: Segmented) -> pa.Array:
    try:
        values = np.asarray(signal.function(texts))
    except Exception as error:
        error.add_note(f"in the signal {signal.name!r}")
        raise
    if values.shape != (len(texts),):
        raise CurateError(
            f"signal {signal.name!r} gave values of shape {values.shape} for {len(texts)} texts: give one each"
        )
    if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
        raise CurateError(
            f"signal {signal.name!r} gave a value that is no finite number; define it for every text, empty too"
        )
    stored, limits = (np.float32, np.finfo(np.float32)) if signal.kind == "float" else (np.int32, np.iinfo(np.int32))
    low, high = max(signal.low, float(limits.min)), min(signal.high, float(limits.max))
    for value in (values.min(), values.max()) if len(values) else ():
        # compared as they are stored, in which 0.7 is a little less than 0.7
        if not limits.min <= value <= limits.max or not stored(low) <= stored(value) <= stored(high):
            raise CurateError(
                f"signal {signal.name!r} gave {value:g}, which is not in {low:g} to {high:g}, as it was registered: give "
                "low= or high= there, or another unit= or kind="
            )
    return pa.array(values.astype(stored), signal.type)
