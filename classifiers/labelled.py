"""Texts, labelled or not, from JSONL (plain, gzip, zstd) and Parquet files, by columns that are named.

    columns = Columns(text="text", label="topic", url="url")
    data = read_examples(["labels/*.jsonl.zst"], columns)
    data.examples            # what `kinds.fit` takes; the sites kept out are marked
    data.tally.lines()       # what was left out, and why

No column is guessed: one that is not there is an error that names the nearest. Rows are read in the order of the files' names.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import IO, Any, Literal, TypeVar

from curate.classifiers.datasets import KEPT_OUT_FOLD
from curate.classifiers.model import Examples, fold, site
from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.lines import lines

Target = Literal["labels", "regression"]
Part = Literal["all", "train", "kept_out"]
Item = TypeVar("Item")

MOST_CHARACTERS = 1 << 20
"""Characters of a text that are read: no classifier looks further."""
MOST_TEXT = 4 << 30
"""Characters of all texts together that are held in memory to train on."""
SAMPLE_ROWS = 1_000
"""Rows of a JSONL file after which a column that none of them has is an error."""
BATCH = 512
BATCH_CHARACTERS = 8 << 20
_BATCH_ROWS = 256
_NAMES = 100


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None: not looked for. `a.b` is the field b within a.

    `group` says what a split keeps together in place of the URL's site. `optional` names fields of this class whose column
    may be missing from a file; any other that a file does not have is an error.
    """

    text: str = "text"
    label: str | None = None
    url: str | None = None
    group: str | None = None
    language: str | None = None
    id: str | None = None
    weight: str | None = None
    confidence: str | None = None
    optional: frozenset[str] = frozenset()

    def named(self) -> dict[str, str]:
        """Field and column of those that are looked for."""
        return {each.name: name for each in fields(self) if isinstance(name := getattr(self, each.name), str)}


@dataclass
class Tally:
    """What came of the rows that were read."""

    rows: int = 0
    used: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that were not used, by reason."""
    noted: Counter[str] = field(default_factory=Counter)
    """Rows that were used, with what is to be known of them."""
    missing: set[str] = field(default_factory=set)
    """Optional columns that a file does not have."""

    def lines(self) -> list[str]:
        """For a person: one line each."""
        found = [f"{count:,} of {self.rows:,} rows left out: {why}" for why, count in sorted(self.left_out.items())]
        found += [f"{count:,} rows: {what}" for what, count in sorted(self.noted.items())]
        return found + [f"no column {name!r} in some or all of the files" for name in sorted(self.missing)]

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "used": self.used, "left_out": dict(sorted(self.left_out.items())),
            "noted": dict(sorted(self.noted.items())), "missing_columns": sorted(self.missing),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as it stands in a file: values by field of `Columns`, or what is wrong with it."""

    source: str
    number: int
    values: dict[str, Any]
    problem: str | None = None


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


def raw_rows(patterns: Sequence[str], columns: Columns, tally: Tally) -> Iterator[Raw]:
    """Every row of the files, those that cannot be read included, with their problem."""
    from curate.pipeline.inputs import find_inputs
    from curate.pipeline.recipe import InputConfig
    from curate.pipeline.stage import File, open_file
    from curate.pipeline.workspace import Workspace

    here = Workspace(".")
    for file in find_inputs(patterns, InputConfig(snapshot="labelled")):
        if file.format == "warc":
            raise UsageError(
                f"{file.source}: texts come as JSONL or Parquet; `curate run extract` makes them of a WARC"
            )
        read = _jsonl if file.format == "jsonl" else _parquet
        with open_file(here, File(file.path, file.fingerprint, file.size, external=True)) as stream:
            for row in read(stream, file.source, columns, tally):
                tally.rows += 1
                yield row


def batches(items: Iterable[Item], characters: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items together, of bounded number and size: for a classifier."""
    held: list[Item] = []
    size = 0
    for item in items:
        held.append(item)
        size += characters(item)
        if len(held) == BATCH or size > BATCH_CHARACTERS:
            yield held
            held, size = [], 0
    if held:
        yield held


def clean(text: str) -> str:
    """The text as valid Unicode, of bounded length: a lone surrogate is U+FFFD."""
    text = text[:MOST_CHARACTERS]
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text_of(value: Any) -> str | None:
    """A value as a short text (an id, a URL, a language); None where it is none."""
    if isinstance(value, bool) or value is None:
        return None
    return clean(str(value)[:8_000]).strip() or None if isinstance(value, str | int) else None


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
    label = _label(values.get("label")) if target == "labels" else _number(values.get("label"))
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


def _label(value: Any) -> str | None:
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


# --- files ------------------------------------------------------------------------------------------------------------


def _jsonl(stream: IO[bytes], source: str, columns: Columns, tally: Tally) -> Iterator[Raw]:
    unseen, names, objects = dict(columns.named()), set[str](), 0
    for number, line in lines(stream, source):
        found, problem = _object(line)
        values = {}
        for role, name in columns.named().items():
            there, value = _at(found, name)
            if there:
                values[role] = value
                unseen.pop(role, None)
        if not problem:
            objects += 1
            names.update(islice((name for name in found if name.isprintable()), max(0, _NAMES - len(names))))
        if objects == SAMPLE_ROWS:
            _check(unseen, names, f"in the first {objects:,} rows of {source}", columns, tally)
        yield Raw(source, number, values, problem)
    if objects:
        _check(unseen, names, f"in any row of {source}", columns, tally)


def _object(line: bytes | None) -> tuple[dict[str, Any], str | None]:
    """A line's object, and what is wrong with it."""
    if line is None:
        return {}, "a line too long to be read"
    try:
        found = json.loads(line.decode("utf-8", "replace").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return {}, "a line that is no JSON"
    return (found, None) if isinstance(found, dict) else ({}, "a line that is no JSON object")


def _at(found: Any, name: str) -> tuple[bool, Any]:
    """Whether there is such a field, and its value; `a.b` is looked for within a where nothing is called so."""
    if not isinstance(found, dict):
        return False, None
    if name in found:
        return True, found[name]
    first, dot, rest = name.partition(".")
    return _at(found.get(first), rest) if dot else (False, None)


def _check(unseen: dict[str, str], names: set[str], where: str, columns: Columns, tally: Tally) -> None:
    """UsageError if a column is needed and none of the rows has it."""
    for role, name in list(unseen.items()):
        if role not in columns.optional:
            raise UsageError(f"--{role}: no column {name!r} {where}{nearest(name, names)}")
        tally.missing.add(name)


def _parquet(stream: IO[bytes], source: str, columns: Columns, tally: Tally) -> Iterator[Raw]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(stream) as file:
            present = set(file.schema_arrow.names)
            tops = {role: _top(file.schema_arrow, name) for role, name in columns.named().items()}
            unseen = {role: name for role, name in columns.named().items() if tops[role] is None}
            _check(unseen, present, f"in {source}", columns, tally)
            wanted = sorted({top for top in tops.values() if top is not None})
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted):
                held = {name: _values(batch.column(name)) for name in wanted}
                for place in range(batch.num_rows):
                    number += 1
                    row = {name: values[place] for name, values in held.items()}
                    found = {role: _at(row, name) for role, name in columns.named().items() if role not in unseen}
                    yield Raw(source, number, {role: value for role, (there, value) in found.items() if there})
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        why = str(error).split("\n")[0][:200] or type(error).__name__
        raise CurateError(f"{source}: cannot be read as Parquet after row {number}: {why}") from error


def _top(schema: Any, name: str) -> str | None:
    """The column that holds a name or, for `a.b`, the field within; None where there is none."""
    import pyarrow as pa

    if name in schema.names:
        return name
    parts = name.split(".")
    if len(parts) < 2 or parts[0] not in schema.names:
        return None
    kind = schema.field(parts[0]).type
    for part in parts[1:]:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return parts[0]


def _values(column: Any) -> list[Any]:
    """A column as Python has it; text in any bytes."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in column.to_pylist()]
