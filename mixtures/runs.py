"""Runs: mixtures that proxies were trained on and the losses they had. One table a swarm, flat, for any tool.

    run, kind, seed, tokens, parameters, seconds, diverged      (only `run` must be there)
    weight/<domain>           share of the domain; the shares of a run sum to 1
    loss/<domain>             nats a token          bits_per_byte/<domain>
    task/<task>               bits per byte of the gold answer          accuracy/<task>

Parquet, or CSV with the same header. RegMix's pair of CSV files loads too: `train_<domain>` shares in one and `metric/<x>`
losses in the other, joined by `index`.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.mixtures.forms import Floats
from curate.pipeline.errors import UsageError, nearest

KINDS = ("design", "replicate")
"""A mixture that was designed; or one mixture (the prior) once more under another seed, for the noise of a run."""
MEASURES = ("loss", "bits_per_byte", "task", "accuracy")
"""What the name of a column of losses begins with."""
ROUNDING = 0.01
"""How far the shares of a run may be from summing to 1 where they were rounded; they are divided by their sum."""
_WEIGHT, _REGMIX_WEIGHT, _REGMIX_LOSS, _REGMIX_END = "weight/", "train_", "metric/", "_val_loss"
Source = str | os.PathLike[str] | IO[bytes]
_Columns = dict[str, list[Any]]


@dataclass(frozen=True, eq=False)
class Runs:
    """Shapes: `weights` (runs, domains), whose rows sum to 1; `losses` (runs, tasks), NaN where not measured; `names`,
    `kinds` (of KINDS) and `seeds` one a run. `tasks` are full names of columns, such as `loss/news`."""

    domains: tuple[str, ...]
    weights: Floats
    tasks: tuple[str, ...]
    losses: Floats
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        shapes = (count, len(self.domains)), (count, len(self.tasks))
        if (self.weights.shape, self.losses.shape) != shapes or not len(self.kinds) == len(self.seeds) == count:
            raise ValueError(
                f"runs: shapes {self.weights.shape} and {self.losses.shape} of {count} runs are not {shapes}"
            )

    def __len__(self) -> int:
        return len(self.names)

    def select(self, measure: str) -> Runs:
        """The same runs with the tasks of one measure (`loss`, `bits_per_byte`, `task` …), or one task by its full name.

        Raises UsageError where there is none.
        """
        kept = [place for place, name in enumerate(self.tasks) if name == measure or name.startswith(f"{measure}/")]
        if not kept:
            there = {name.partition("/")[0] for name in self.tasks}
            raise UsageError(f"runs: nothing is called {measure!r}{nearest(measure, there)}")
        return self.measuring(kept)

    def measuring(self, places: Sequence[int] | npt.NDArray[np.intp]) -> Runs:
        """The same runs with some of the tasks, by place."""
        tasks = tuple(self.tasks[place] for place in places)
        return replace(self, tasks=tasks, losses=self.losses[:, places])

    def where(self, kind: str) -> Runs:
        """The runs of one kind, of KINDS; there may be none."""
        if kind not in KINDS:
            raise UsageError(f"runs: no kind of run is called {kind!r}{nearest(kind, KINDS)}")
        return self.take(np.flatnonzero(np.array(self.kinds, object) == kind))

    def take(self, rows: Sequence[int] | npt.NDArray[np.intp]) -> Runs:
        """Some of the runs, by place."""
        places = np.asarray(rows, np.intp)

        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[place] for place in places.tolist())

        return Runs(
            self.domains, self.weights[places], self.tasks, self.losses[places],
            some(self.names), some(self.kinds), some(self.seeds),
        )  # fmt: skip


def write_runs(output: Any, runs: Runs, **extra: Sequence[Any]) -> None:
    """Writes a Parquet table to a path or a file open for writing (`Workspace.create`); `extra` columns have a value a run.

    Equal runs give equal bytes.
    """
    columns: dict[str, Any] = {
        "run": pa.array(runs.names, pa.string()),
        "kind": pa.array(runs.kinds, pa.string()),
        "seed": pa.array(runs.seeds, pa.int64()),
    }
    for name, values in extra.items():
        if len(values) != len(runs):
            raise ValueError(f"column {name!r} has {len(values)} values for {len(runs)} runs")
        columns[name] = pa.array(values)
    shares = {f"{_WEIGHT}{name}": runs.weights[:, place] for place, name in enumerate(runs.domains)}
    losses = {name: runs.losses[:, place] for place, name in enumerate(runs.tasks)}
    for name, numbers in (shares | losses).items():
        columns[name] = pa.array(numbers, pa.float64(), from_pandas=True)  # NaN becomes null
    pq.write_table(pa.table(columns), output, compression="zstd")


def read_runs(source: Source, losses: Source | None = None) -> Runs:
    """Runs from Parquet or CSV, by path or from a file open for reading; `losses`: RegMix's second file, where there are two.

    Empty cells were not measured, nor was anything of a run whose `diverged` says yes. Names, kinds and seeds that are not
    there become the number of the row, `design` and 0. Raises UsageError, with the column and the run, for anything amiss.
    """
    where = _shown(source)
    columns = _read(source)
    if losses is not None:
        columns = _joined(columns, where, _read(losses), _shown(losses))
    columns = {_common(name): values for name, values in columns.items()}
    count = len(next(iter(columns.values()), []))
    if not count:
        raise UsageError(f"{where} has no runs")
    shares = [name for name in columns if name.startswith(_WEIGHT)]
    if not shares:
        raise UsageError(
            f"{where} has no column {_WEIGHT}<domain> (nor RegMix's {_REGMIX_WEIGHT}<domain>): these are no runs"
        )
    tasks = [name for name in columns if name.partition("/")[0] in (*MEASURES, _REGMIX_LOSS[:-1]) and "/" in name]
    if not tasks:
        hint = "" if losses is not None else "; where they are in a second file, give it as well"
        raise UsageError(f"{where} has no column of losses: loss/…, bits_per_byte/…, task/… or accuracy/…{hint}")
    names = tuple(map(str, columns.get("run") or columns.get("index") or range(count)))
    kinds = tuple(str(kind or KINDS[0]) for kind in columns.get("kind", [KINDS[0]] * count))
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"{where}: column kind: {kind!r} is not {' or '.join(KINDS)}")
    seeds = _numbers(columns, ["seed"], names, where)[:, 0] if "seed" in columns else np.zeros(count)
    measured = _numbers(columns, tasks, names, where)
    measured[[_yes(value) for value in columns.get("diverged", [None] * count)]] = np.nan
    if np.isinf(measured).any():
        run, task = np.argwhere(np.isinf(measured))[0]
        raise UsageError(f"{where}: {tasks[task]} of run {names[run]} is infinite: leave the cell empty")
    return Runs(
        tuple(name.removeprefix(_WEIGHT) for name in shares), _shares(_numbers(columns, shares, names, where), names, where),
        tuple(tasks), measured, names, kinds, tuple(int(seed) for seed in np.nan_to_num(seeds).tolist()),
    )  # fmt: skip


def _shares(weights: Floats, names: Sequence[str], where: str) -> Floats:
    """Rows divided by their sums."""
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)).all(axis=1))
    if len(bad):
        raise UsageError(
            f"{where}: run {names[bad[0]]} has shares that are empty, negative or infinite ({len(bad)} such runs)"
        )
    sums = weights.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1) > ROUNDING)
    if len(off):
        raise UsageError(
            f"{where}: the shares of run {names[off[0]]} sum to {sums[off[0]]:.4g}, not 1 ({len(off)} such runs)"
        )
    return weights / sums[:, None]


def _common(name: str) -> str:
    """RegMix's name of a column as ours: `train_x` -> `weight/x`, `metric/x_val_loss` -> `loss/x`."""
    if name.startswith(_REGMIX_WEIGHT):
        return _WEIGHT + name.removeprefix(_REGMIX_WEIGHT)
    if name.startswith(_REGMIX_LOSS) and name.endswith(_REGMIX_END):
        return "loss/" + name.removeprefix(_REGMIX_LOSS).removesuffix(_REGMIX_END)
    return name


def _joined(first: _Columns, where: str, second: _Columns, where_second: str) -> _Columns:
    """Columns of both, rows joined by `index` or `run`."""
    key = next((name for name in ("index", "run") if name in first and name in second), None)
    if key is None:
        raise UsageError(f"{where} and {where_second} have no column `index` or `run` in common: rows cannot be joined")
    places = {str(value): place for place, value in enumerate(second[key])}
    for values, file in ((first[key], where), (second[key], where_second)):
        if len(set(map(str, values))) < len(values):
            raise UsageError(f"{file}: column {key} has a value twice")
    if missing := [str(value) for value in first[key] if str(value) not in places]:
        raise UsageError(f"{where_second} has no row with {key} {missing[0]} ({len(missing)} such runs of {where})")
    order = [places[str(value)] for value in first[key]]
    return first | {name: [values[place] for place in order] for name, values in second.items() if name not in first}


def _numbers(columns: Mapping[str, Sequence[Any]], names: Sequence[str], runs: Sequence[str], where: str) -> Floats:
    """Columns as numbers, NaN where a cell is empty; shape (runs, names)."""
    found = np.full((len(runs), len(names)), np.nan)
    for place, name in enumerate(names):
        for row, value in enumerate(columns[name]):
            if value is None or value == "":
                continue
            try:
                found[row, place] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"{where}: column {name}, run {runs[row]}: {value!r} is no number") from None
    return found


def _yes(value: Any) -> bool:
    return str(value).strip().lower() not in ("", "none", "nan", "false", "0", "0.0", "no")


def _read(source: Source) -> _Columns:
    """Columns by name, in order; Parquet is known by its first bytes."""
    where = _shown(source)
    try:
        data = Path(source).read_bytes() if isinstance(source, str | os.PathLike) else source.read()
    except OSError as error:
        raise UsageError(f"cannot read {where}: {error.strerror or error}") from None
    if data[:4] != b"PAR1":
        return _read_csv(data, where)
    try:
        table = pq.read_table(pa.BufferReader(data))
        names = table.column_names
        columns = {name: table.column(place).to_pylist() for place, name in enumerate(names)}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{where} is no Parquet that can be read: {error}") from None
    if len(columns) < len(names):
        raise UsageError(f"{where} has two columns of one name")
    return columns


def _read_csv(data: bytes, where: str) -> _Columns:
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        header = [name.strip() for name in next(rows, [])]
        if len(set(header)) < len(header):
            raise UsageError(f"{where} has two columns of one name")
        cells = []
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise UsageError(f"{where}, line {rows.line_num}: {len(row)} cells, the header has {len(header)}")
            cells.append([cell.strip() for cell in row])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{where} is neither Parquet nor CSV: {error}") from None
    return {name: [row[place] for row in cells] for place, name in enumerate(header)}


def _shown(source: Source) -> str:
    return (
        os.fspath(source) if isinstance(source, str | os.PathLike) else str(getattr(source, "name", "the file of runs"))
    )
