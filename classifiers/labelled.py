"""Texts, labelled or not, from JSONL (plain, gzip, zstd) and Parquet files, by columns that are named.

    columns = Columns(text="text", label="topic", url="url")
    data = read_examples(["labels/*.jsonl.zst"], columns)
    data.examples            # what `kinds.fit` takes; the sites kept out are marked
    data.tally.lines()       # what was left out, and why

No column is guessed: one that is not there is an error that names the nearest. Rows are read in the order of the files' names.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.model import Examples, fold, site
from curate.classifiers.rows import MOST_CHARACTERS, Columns, Raw, Tally, clean, raw_rows, text_of
from curate.pipeline.errors import CurateError, UsageError

Target = Literal["labels", "regression"]
Part = Literal["all", "train", "kept_out"]

MOST_TEXT = 4 << 30
"""Characters of all texts together that are held in memory to train on."""


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled text. `label` is a string, or a number for a regression."""

    text: str
    label: str | float
    group: str
    language: str
    weight: float
    confidence: float

    @property
    def kept_out(self) -> bool:
        return fold(self.group) == KEPT_OUT_FOLD


@dataclass
class Labelled:
    """Examples to learn from, and what was left out."""

    examples: Examples
    tally: Tally


# --- what a user of this module asks for ------------------------------------------------------------------------------


def read_examples(
    patterns: Sequence[str], columns: Columns, *, target: Target = "labels", part: Part = "all",
    sample: int | None = None, seed: int = 0,
) -> Labelled:  # fmt: skip
    """The labelled texts of the files, all of them in memory; those of the sites kept out are marked so.

    `sample`: so many of them, drawn evenly. UsageError for a missing file or column; CurateError for files that cannot be read,
    that hold no labelled text, or more than 4 GB of text.
    """
    tally, examples, size = Tally(), Examples(), 0
    for row in read_rows(patterns, columns, tally, target=target, part=part, sample=sample, seed=seed):
        size += len(row.text)
        if size > MOST_TEXT:
            raise CurateError(f"over {MOST_TEXT >> 30} GB of text to train on: take a part of it, with --sample N")
        examples.add(row.text, row.label, row.group, row.kept_out, row.confidence, row.weight)
    if not len(examples):
        raise CurateError("no labelled text: " + ("; ".join(tally.lines()) or "the files hold no rows"))
    return Labelled(examples, tally)


def read_rows(
    patterns: Sequence[str], columns: Columns, tally: Tally, *, target: Target = "labels", part: Part = "all",
    sample: int | None = None, seed: int = 0, need_label: bool = True,
) -> Iterator[Row]:  # fmt: skip
    """The labelled texts one by one; `tally` is counted on. Without `need_label` a text may have none: it is "" or NaN."""
    if columns.url is None and columns.group is None:
        raise UsageError("the split needs a column of URLs (--url) or of what it keeps together (--group)")
    rows = _chosen(_labelled(raw_rows(patterns, columns, tally), columns, tally, target, need_label), part, tally)
    if sample is not None:
        drawn = _drawn(rows, sample, seed)
        tally.left_out["not in the sample"] += tally.used - len(drawn)
        tally.used, rows = len(drawn), iter(drawn)
    yield from rows


# --- what a row means -------------------------------------------------------------------------------------------------


def _labelled(raws: Iterable[Raw], columns: Columns, tally: Tally, target: Target, need_label: bool) -> Iterator[Row]:
    for raw in raws:
        why, row = _row(raw, columns, target, need_label)
        if row is None:
            tally.left_out[why] += 1
            continue
        if not row.group:
            tally.noted["without a site: one group together"] += 1
        if len(row.text) == MOST_CHARACTERS:
            tally.noted[f"cut to {MOST_CHARACTERS:,} characters"] += 1
        tally.used += 1
        yield row


def _row(raw: Raw, columns: Columns, target: Target, need_label: bool) -> tuple[str, Row | None]:
    """A reason, or a row."""
    values = raw.values
    if raw.problem is not None:
        return raw.problem, None
    text = values.get("text")
    if not isinstance(text, str) or not text.strip():
        return "no text", None
    label = label_text(values.get("label")) if target == "labels" else _number(values.get("label"))
    if label is None:
        if need_label:
            return "no label" if target == "labels" else "no label that is a number", None
        label = "" if target == "labels" else math.nan
    weight, confidence = 1.0, 1.0
    if columns.weight is not None and "weight" in values:
        found = _number(values["weight"])
        if found is None or found < 0:
            return "no weight of 0 or more", None
        weight = found
    if columns.confidence is not None and "confidence" in values:
        found = _number(values["confidence"])
        if found is None or not 0 <= found <= 1:
            return "no confidence from 0 to 1", None
        confidence = found
    group = text_of(values.get("group")) if columns.group is not None else site(text_of(values.get("url")) or "")
    return "", Row(clean(text), label, group or "", text_of(values.get("language")) or "", weight, confidence)


def label_text(value: Any) -> str | None:
    """A label as text: a whole number without its `.0`, a truth value as JSON has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    return text_of(value)


def _number(value: Any) -> float | None:
    if not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _chosen(rows: Iterable[Row], part: Part, tally: Tally) -> Iterator[Row]:
    """The rows of one side of the split."""
    for row in rows:
        if part == "all" or row.kept_out == (part == "kept_out"):
            yield row
        else:
            tally.used -= 1
            tally.left_out["of the other sites" if part == "kept_out" else "of the sites kept out"] += 1


def _drawn(rows: Iterator[Row], count: int, seed: int) -> list[Row]:
    """`count` of the rows, each as likely as any, in their order; Vitter's algorithm R."""
    chance = random.Random(seed)
    held = list(enumerate(islice(rows, count)))
    for number, row in enumerate(rows, count):
        place = chance.randrange(number + 1)
        if place < count:
            held[place] = (number, row)
    return [row for _, row in sorted(held, key=lambda each: each[0])]
