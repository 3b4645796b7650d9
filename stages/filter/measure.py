"""Signals of a batch of texts, measured once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curate.pipeline.errors import CurateError
from curate.stages.filter.config import LinesConfig
from curate.stages.filter.registry import Signal, select
from curate.stages.text.edits import edit_lines
from curate.stages.text.segment import Segmented, Texts, segment

DEFAULT_LINES = LinesConfig()


def signals(
    texts: Texts, names: Sequence[str] | None = None, *, lines: LinesConfig | None = DEFAULT_LINES
) -> pa.RecordBatch:
    """The signals of these names, or all, of an Arrow array (or a list) of strings: one row a text, one column a signal.

    Columns are float32, or int32 for counts and for true and false. `lines` are the edits that make the edited text, which
    some signals measure (`registry.Signal.text`). Every text has a value, no value is NaN. Raises UsageError for
    an unknown name.
    """
    return measure(texts, select(names), lines)[0]


def measure(
    texts: Texts, wanted: Sequence[Signal], lines: LinesConfig | None
) -> tuple[pa.RecordBatch, pa.Array | None]:
    """Signals of a batch, and the texts after line edits (None if there are none to be made)."""
    extracted = segment(texts)
    edited, array = extracted, None
    if lines is not None:
        edited, array = edit_lines(
            extracted,
            citations=lines.citations,
            longest_word=lines.longest_word,
            fewest_words=lines.fewest_words,
            phrases=lines.phrases,
            terminal=lines.terminal,
        )
    columns = [_column(signal, edited if signal.text == "edited" else extracted) for signal in wanted]
    schema = pa.schema([(signal.name, signal.type) for signal in wanted])
    return pa.RecordBatch.from_arrays(columns, schema=schema), array


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
    return pa.array(values.astype(np.float32 if signal.kind == "float" else np.int32), signal.type)
