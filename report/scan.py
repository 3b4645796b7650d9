"""Aggregates over the workspace's Parquet files, read row group by row group: memory does not grow with the data.

Files are read by a few threads and merged in the manifest's order, so the result does not depend on timing.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pipeline.documents import BATCH_ROWS
from curate.pipeline.workspace import Workspace

DISTINCT = 10_000
"""Different values of a text column that are counted apart; any further one counts as `(other)`."""

NUMERIC = ("FLOAT", "DOUBLE", "INT32", "INT64")
"""Parquet physical types of columns that have a range."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Column:
    """What the Parquet footers say of a column: its range, and the model named in its field metadata, if any."""

    low: float = float("inf")
    high: float = float("-inf")
    model: str = ""
    kind: str = ""
    """The Parquet physical type: `DOUBLE`, `INT32`, `BOOLEAN`, `BYTE_ARRAY` …"""

    @property
    def measured(self) -> bool:
        return self.low <= self.high


@dataclass
class Tally:
    """Counts of one pass over some files: numbers by bin, words by value, rows where a number is missing."""

    rows: int = 0
    bins: dict[str, np.ndarray] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    words: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        self.rows += other.rows
        self.missing.update(other.missing)
        for name, counts in other.bins.items():
            self.bins[name] = self.bins[name] + counts if name in self.bins else counts
        for name, counter in other.words.items():
            _add_capped(self.words.setdefault(name, Counter()), counter)


@dataclass
class LedgerTally:
    """Counts of one pass over ledger files, and the rows chosen as examples.

    `outcomes` counts rows by (outcome, reason). `failed` counts rows by rule that failed them, first or not; `alone`
    those that no other rule failed; `limits` the (bound, threshold) pairs a rule was used with.
    """

    rows: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    limits: dict[str, set[tuple[str, float]]] = field(default_factory=lambda: defaultdict(set))
    examples: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, other: LedgerTally) -> None:
        self.rows += other.rows
        for mine, theirs in (
            (self.outcomes, other.outcomes), (self.failed, other.failed), (self.alone, other.alone)
        ):  # fmt: skip
            mine.update(theirs)  # type: ignore[arg-type]
        for rule, limits in other.limits.items():
            self.limits[rule] |= limits
        for key, rows in other.examples.items():
            self.examples[key].extend(rows)


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of every item, computed by a few threads, given in the items' order; few results wait at a time."""
    threads = min(8, os.cpu_count() or 1)
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Future[Result]] = [pool.submit(work, item) for item in islice(source, threads * 2)]
        while waiting:
            result = waiting.pop(0).result()
            waiting.extend(pool.submit(work, item) for item in islice(source, 1))
            yield result


def columns_of(
    workspace: Workspace, paths: Sequence[str], wanted: Callable[[str], bool]
) -> tuple[dict[str, Column], int]:
    """Leaf columns (`edu`, `signals.words`) with their range and model, and the number of rows, from footers alone."""
    found: dict[str, Column] = {}
    total = 0
    for columns, rows in in_order(lambda path: _footer(workspace, path, wanted), paths):
        total += rows
        for name, column in columns.items():
            seen = found.setdefault(name, Column())
            seen.low, seen.high = min(seen.low, column.low), max(seen.high, column.high)
            seen.model, seen.kind = seen.model or column.model, seen.kind or column.kind
    return found, total


def _footer(workspace: Workspace, path: str, wanted: Callable[[str], bool]) -> tuple[dict[str, Column], int]:
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        footer = file.metadata
        names = {name: index for index in range(footer.num_columns) if wanted(name := footer.schema.column(index).path)}
        columns = {
            name: Column(model=_model(file.schema_arrow, name), kind=footer.schema.column(index).physical_type)
            for name, index in names.items()
        }
        numeric = {name: index for name, index in names.items() if columns[name].kind in NUMERIC}
        for group in range(footer.num_row_groups):
            for name, index in numeric.items():
                statistics = footer.row_group(group).column(index).statistics
                if statistics is not None and statistics.has_min_max and isinstance(statistics.min, int | float):
                    column = columns[name]
                    column.low, column.high = min(column.low, statistics.min), max(column.high, statistics.max)
        return columns, footer.num_rows


def _model(schema: pa.Schema, name: str) -> str:
    """What filled a column, as its field's metadata names it: `math (linear, version 2)`; empty where it does not."""
    found = {
        key: value.decode("utf-8", "replace")
        for key, value in (schema.field(name.split(".")[0]).metadata or {}).items()
        if key in (b"classifier", b"kind", b"version", b"model")
    }
    filled = found.get(b"classifier") or found.get(b"model") or ""
    details = [found.get(b"kind", ""), f"version {found[b'version']}" if found.get(b"version") else ""]
    shown = ", ".join(detail for detail in details if detail)
    return f"{filled} ({shown})" if filled and shown else filled


def tally(workspace: Workspace, paths: Sequence[str], numbers: Mapping[str, np.ndarray], words: Sequence[str]) -> Tally:
    """Histograms of number columns over the given edges (values outside count in the end bins) and counts of words."""
    total = Tally(bins={name: np.zeros(len(edges) - 1, np.int64) for name, edges in numbers.items()})
    total.words = {name: Counter() for name in words}
    for part in in_order(lambda path: _tally_file(workspace, path, numbers, words), paths):
        total.add(part)
    return total


def _tally_file(workspace: Workspace, path: str, numbers: Mapping[str, np.ndarray], words: Sequence[str]) -> Tally:
    result = Tally()
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[*numbers, *words]):
            part = Tally(rows=batch.num_rows)
            for name, edges in numbers.items():
                values = _numbers(_leaf(batch, name))
                there = values[~np.isnan(values)]
                part.missing[name] = len(values) - len(there)
                place = np.searchsorted(edges, there, side="right") - 1
                part.bins[name] = np.bincount(place.clip(0, len(edges) - 2), minlength=len(edges) - 1)
            for name in words:
                part.words[name] = _words(_leaf(batch, name))
            result.add(part)
    return result


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    top, _, rest = name.partition(".")
    column = batch.column(top)
    return pc.struct_field(column, rest.split(".")) if rest else column


def _numbers(column: pa.Array) -> np.ndarray:
    """Doubles, NaN where missing; texts count as their length in characters."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = pc.utf8_length(column)
    values: np.ndarray = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values


def _words(column: pa.Array) -> Counter[str]:
    counted: Counter[str] = Counter()
    for item in pc.value_counts(column.cast(pa.binary())):
        value = item["values"].as_py()
        counted["" if value is None else value[:80].decode("utf-8", "replace")] += item["counts"].as_py()
    return counted


def _add_capped(total: Counter[str], part: Counter[str]) -> None:
    for value, number in part.items():
        total[value if value in total or len(total) < DISTINCT else "(other)"] += number


EXAMPLE_COLUMNS = (
    "id",
    "url",
    "source",
    "offset",
    "reason",
    "outcome",
    "value",
    "threshold",
    "kept_id",
    "detail",
    "failed",
)


def read_ledger(
    workspace: Workspace, shards: Sequence[tuple[str, Mapping[tuple[str, str], frozenset[int]]]]
) -> LedgerTally:  # fmt: skip
    """Tallies ledger files; each comes with the examples to take: for (outcome, reason), which of its rows, from 0."""
    total = LedgerTally()
    for part in in_order(lambda shard: _read_ledger_file(workspace, *shard), shards):
        total.add(part)
    return total


def _read_ledger_file(workspace: Workspace, path: str, wanted: Mapping[tuple[str, str], frozenset[int]]) -> LedgerTally:
    result = LedgerTally()
    chosen: dict[int, list[int]] = defaultdict(list)
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        for group in range(file.metadata.num_row_groups):
            rows = file.read_row_group(group, columns=["outcome", "reason", "failed"])
            outcomes, reasons = rows.column("outcome").to_pylist(), rows.column("reason").to_pylist()
            for index, key in enumerate(zip(outcomes, reasons, strict=True)):
                if result.outcomes[key] in wanted.get(key, ()):
                    chosen[group].append(index)
                result.outcomes[key] += 1
            result.rows += rows.num_rows
            _count_rules(result, rows.column("failed").combine_chunks())
        for group, indices in chosen.items():
            taken = file.read_row_group(group, columns=list(EXAMPLE_COLUMNS)).take(indices)
            for row in plain_rows(taken):
                result.examples[row["outcome"], row["reason"]].append(row)
    return result


def _count_rules(result: LedgerTally, failed: pa.ListArray) -> None:
    if pa.types.is_null(failed.type) or failed.null_count == len(failed):
        return
    lengths = pc.fill_null(pc.list_value_length(failed), 0)
    of_row = pc.take(lengths, pc.list_parent_indices(failed)).to_numpy()
    rules = failed.flatten()
    table = pa.table(
        {name: rules.field(name) for name in ("rule", "bound", "threshold")} | {"alone": pa.array(of_row == 1)}
    )
    grouped = table.group_by(["rule", "bound", "threshold"]).aggregate([([], "count_all"), ("alone", "sum")])
    for row in grouped.to_pylist():
        result.failed[row["rule"]] += row["count_all"]
        result.alone[row["rule"]] += row["alone_sum"]
        if row["threshold"] is not None:
            result.limits[row["rule"]].add((row["bound"], row["threshold"]))


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as dictionaries, with text that is not UTF-8 repaired instead of refused."""
    columns = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_string(column.type):
            raw = column.cast(pa.binary()).to_pylist()
            columns[name] = [None if value is None else value.decode("utf-8", "replace") for value in raw]
        else:
            columns[name] = column.to_pylist()
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def documents_at(workspace: Workspace, path: str, rows: Iterable[int], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Some documents of a file by row number; only their row groups are read."""
    found: list[dict[str, Any]] = []
    wanted = sorted(set(rows))
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        names = [name for name in columns if name in file.schema_arrow.names]
        first = 0
        for group in range(file.metadata.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            inside = [row - first for row in wanted if first <= row < first + size]
            if inside:
                found.extend(plain_rows(file.read_row_group(group, columns=names).take(inside)))
            first += size
    return found


def largest(workspace: Workspace, paths: Sequence[str], column: str, number: int) -> list[tuple[float, str, int]]:
    """The rows with the largest values of a column: (value, file, row number), largest first, ties by file and row."""
    best: list[tuple[float, str, int]] = []
    for part in in_order(lambda path: _largest_in_file(workspace, path, column, number), paths):
        best = sorted([*best, *part], key=lambda item: (-item[0], item[1], item[2]))[:number]
    return best


def _largest_in_file(workspace: Workspace, path: str, column: str, number: int) -> list[tuple[float, str, int]]:
    best: list[tuple[float, str, int]] = []
    first = 0
    with workspace.open(path) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[column]):
            values = np.nan_to_num(_numbers(batch.column(0)), nan=-np.inf)
            top = np.argsort(-values, kind="stable")[:number]
            best = sorted(
                [*best, *((float(values[row]), path, first + int(row)) for row in top)],
                key=lambda item: (-item[0], item[2]),
            )
            best = best[:number]
            first += batch.num_rows
    return best
