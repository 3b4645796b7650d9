"""Rows of JSONL (plain, gzip, zstd) and Parquet files, by columns that are named; a bad row says what is wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import IO, Any, TypeVar

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.lines import lines

Item = TypeVar("Item")

MOST_CHARACTERS = 1 << 20
"""Characters of a text that are read: no classifier looks further."""
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
        found = [
            f"{count:,} of {self.rows:,} rows left out: {why}" for why, count in sorted(self.left_out.items()) if count
        ]
        found += [f"{count:,} rows: {what}" for what, count in sorted(self.noted.items())]
        return found + [f"no column {name!r} in some or all of the files" for name in sorted(self.missing)]

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows, "used": self.used,
            "left_out": {why: count for why, count in sorted(self.left_out.items()) if count},
            "noted": dict(sorted(self.noted.items())), "missing_columns": sorted(self.missing),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as it stands in a file: values by field of `Columns`, or what is wrong with it."""

    source: str
    number: int
    values: dict[str, Any]
    problem: str | None = None


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


# --- files -----------------------------------------------------------------------------------------------------------


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
