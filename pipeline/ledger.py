"""The ledger: what became of every record, and the sums that prove that none was lost."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from curate.pipeline.documents import LEDGER, TableWriter
from curate.pipeline.stage import Context

DROPPED = "dropped"
QUARANTINED = "quarantined"


@dataclass
class Counts:
    """What one task, stage or run did with its records.

    `records` counts what came in, `kept` what went on, `dropped` and `quarantined` the rest by reason; `ignored` counts
    what is no record (WARC `request`, `metadata`, `warcinfo`) by kind; `cut` records that were longer than a limit, whatever
    became of them; `edits` characters that edits took out of texts, by the kind of edit; `seconds` is CPU or wall time by
    step of the work.
    """

    records: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def accounted(self) -> int:
        return self.kept + sum(self.dropped.values()) + sum(self.quarantined.values())

    def balanced(self) -> bool:
        """records in = kept + dropped + quarantined."""
        return self.records == self.accounted

    def with_work_of(self, other: Counts) -> Counts:
        """These records, with the edits and the seconds of another step of the work on them added."""
        return replace(self, edits=self.edits + other.edits, seconds=_add(self.seconds, other.seconds))

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.records + other.records,
            self.kept + other.kept,
            self.dropped + other.dropped,
            self.quarantined + other.quarantined,
            self.ignored + other.ignored,
            self.cut + other.cut,
            self.edits + other.edits,
            _add(self.seconds, other.seconds),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "quarantined": dict(sorted(self.quarantined.items())),
            "ignored": dict(sorted(self.ignored.items())),
            **({"cut": self.cut} if self.cut else {}),
            **({"edits": dict(sorted(self.edits.items()))} if self.edits else {}),
            "seconds": {name: round(value, 4) for name, value in sorted(self.seconds.items())},
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Counts:
        return cls(
            value["records"],
            value["kept"],
            dropped=Counter(value["dropped"]),
            quarantined=Counter(value["quarantined"]),
            ignored=Counter(value["ignored"]),
            cut=value.get("cut", 0),
            edits=Counter(value.get("edits", {})),
            seconds=_add(value["seconds"], {}),
        )


def _add(first: Mapping[str, float], second: Mapping[str, float]) -> defaultdict[str, float]:
    total: defaultdict[str, float] = defaultdict(float, first)
    for name, value in second.items():
        total[name] += value
    return total


@dataclass(frozen=True)
class FailedRule:
    """A rule that a document failed: `bound` is `min`, `max` or `is`."""

    rule: str
    value: float | None
    bound: str
    threshold: float | None

    def to_json(self) -> dict[str, Any]:
        return {"rule": self.rule, "value": self.value, "bound": self.bound, "threshold": self.threshold}


class ShardWriter:
    """Writes what a record-bearing task keeps (output `docs`) and what it does not (output `ledger`), counting both.

    The task counts its records in by itself, in `counts.records`: the two ways of counting check each other.
    """

    def __init__(self, stage: str, documents: TableWriter, ledger: TableWriter) -> None:
        self.counts = Counts()
        self._stage = stage
        self._documents = documents
        self._ledger = ledger

    def keep(self, batch: pa.RecordBatch) -> None:
        """Writes documents that go on."""
        self._documents.write(batch)
        self.counts.kept += batch.num_rows

    def drop(
        self,
        record: dict[str, Any],
        reason: str,
        *,
        failed: Sequence[FailedRule] = (),
        value: float | None = None,
        kept_id: str | None = None,
        detail: str | None = None,
        spans: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Drops one record; `record` gives id, url, snapshot, source and offset.

        The first of `failed` gives the row's value and threshold; `value` is what was measured where no rule decided. `spans`
        say what stands where in its text, by SPAN.
        """
        self._write(record, DROPPED, reason, failed, kept_id, detail, value, spans)
        self.counts.dropped[reason] += 1

    def quarantine(self, record: dict[str, Any], reason: str, detail: str | None = None) -> None:
        """Sets one record aside that could not be read or processed."""
        self._write(record, QUARANTINED, reason, (), None, detail)
        self.counts.quarantined[reason] += 1

    def _write(
        self,
        record: dict[str, Any],
        outcome: str,
        reason: str,
        failed: Sequence[FailedRule],
        kept_id: str | None,
        detail: str | None,
        value: float | None = None,
        spans: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        first = failed[0] if failed else None
        row = {name: record.get(name) for name in ("id", "url", "snapshot", "source", "offset")}
        row |= {
            "stage": self._stage,
            "outcome": outcome,
            "reason": reason,
            "value": first.value if first else value,
            "threshold": first.threshold if first else None,
            "kept_id": kept_id,
            "detail": detail[:1000] if detail else None,
            "failed": [rule.to_json() for rule in failed] or None,
            "spans": list(spans) or None,
        }
        self._ledger.write_rows([row])


@contextlib.contextmanager
def shard_writer(context: Context, schema: pa.Schema) -> Iterator[ShardWriter]:
    """The two outputs `docs` and `ledger` of the task at hand; `schema` is that of the documents kept."""
    with (
        context.create("docs") as docs,
        context.create("ledger") as ledger,
        TableWriter(docs, schema) as documents,
        TableWriter(ledger, LEDGER) as rows,
    ):
        yield ShardWriter(context.task.stage, documents, rows)


def record_keys(batch: pa.RecordBatch, rows: Iterable[int]) -> Iterator[dict[str, Any]]:
    """id, url, snapshot, source and offset of some rows of a batch, for `ShardWriter.drop`."""
    columns = {name: batch.column(name) for name in ("id", "url", "snapshot", "source", "offset")}
    for row in rows:
        yield {name: column[row].as_py() for name, column in columns.items()}
