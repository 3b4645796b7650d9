"""The extract task: one input file to documents, ledger and index."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.ledger import DROPPED, Counts, ShardWriter, shard_writer
from curate.pipeline.recipe import InputConfig
from curate.pipeline.stage import Context
from curate.stages.extract import page
from curate.stages.extract.admission import Admission, admission_of
from curate.stages.extract.config import ExtractConfig
from curate.stages.extract.guarded import Extracted, Failure, Guard, Limits, guard_for
from curate.stages.extract.index import IndexBuilder
from curate.stages.extract.readers import read_records
from curate.stages.extract.records import CUT, Ignored, Item, Page, Rejected, clean
from curate.stages.extract.timeouts import Timeouts

BATCH_BYTES = 16 << 20
BATCH_ITEMS = 64
COLUMNS = ("text", "html", "id", "url", "date")
NO_MATH = "no_math"
LONG_TEXT = 500
"""Characters of a text that OpenWebMath asks its classifier of, where nothing else speaks for mathematics."""
Outcome = Extracted | Failure | Rejected


def run(context: Context) -> Counts:
    """Reads the task's `input`, writes `docs`, `ledger` and `index`. Every record is in one of the first two.

    Params: `format`, `snapshot`, `source` (the file's name for people), and for JSONL and Parquet `columns`.
    """
    params, config, file = context.task.params, context.config, context.input("input")
    columns = dict(params.get("columns") or {})
    defaults = InputConfig()
    columns = {name: columns.get(name, getattr(defaults, name)) for name in COLUMNS}
    index = IndexBuilder()
    with context.open(file) as stream, shard_writer(context, DOCUMENT) as writer:
        shard = _Shard(context, config, writer, index)
        items = read_records(stream, params["format"], params["source"], file.size, config.max_bytes, columns)
        begun = time.perf_counter()
        for batch in _batches(items):
            writer.counts.seconds["read"] += time.perf_counter() - begun
            shard.process(batch)
            context.progress(sum(not isinstance(item, Ignored) for item in batch))
            begun = time.perf_counter()
        writer.counts.seconds["read"] += time.perf_counter() - begun
    index.write(context)
    return writer.counts


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Up to BATCH_ITEMS items and BATCH_BYTES of pages, or one page that is larger alone."""
    batch: list[Item] = []
    size = 0
    for item in items:
        weight = len(item.body) if isinstance(item, Page) else 0
        if batch and (len(batch) >= BATCH_ITEMS or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch


class _Shard:
    """What stays from batch to batch: ids seen, lists, the writer."""

    def __init__(self, context: Context, config: ExtractConfig, writer: ShardWriter, index: IndexBuilder) -> None:
        self._config = config
        self._writer = writer
        self._index = index
        self._source = str(context.task.params["source"])
        self._snapshot = str(context.task.params["snapshot"])
        self._admission: Admission = admission_of(config.admission)
        self._timeouts = Timeouts(context)
        self._guard: Guard = guard_for(Limits(config.settings(), config.cpu_seconds, config.memory_bytes))
        self._seen: set[bytes] = set()

    def process(self, batch: list[Item]) -> None:
        """Decides every item of a batch and writes it, in the file's order."""
        outcomes: dict[int, Outcome] = {}
        waiting: list[tuple[int, Page]] = []
        begun = time.perf_counter()
        for place, item in enumerate(batch):
            if isinstance(item, Ignored):
                self._writer.counts.ignored[item.kind] += 1
            elif isinstance(item, Rejected):
                outcomes[place] = item
            elif (known := self._before_parsing(item)) is not None:
                outcomes[place] = known
            elif item.markup:
                waiting.append((place, item))
            else:
                outcomes[place] = _plain_text(item)
        parsing = time.perf_counter()
        for (place, item), outcome in zip(waiting, self._guard.extract([item for _, item in waiting]), strict=True):
            if isinstance(outcome, Failure) and outcome.reason in ("timeout", "stalled"):
                self._timeouts.add(item.number, outcome)
            outcomes[place] = outcome
        writing = time.perf_counter()
        self._write([(item, outcomes[place]) for place, item in enumerate(batch) if not isinstance(item, Ignored)])
        seconds = self._writer.counts.seconds
        seconds["admission"] += parsing - begun
        seconds["extract"] += writing - parsing
        seconds["write"] += time.perf_counter() - writing

    def _before_parsing(self, item: Page) -> Rejected | Failure | None:
        """Why a page is not parsed; None where it is."""
        digest = hashlib.blake2b(item.id.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            return _dropped(item, "duplicate_id", None)
        self._seen.add(digest)
        refusal = self._admission.refusal(item.url)
        if refusal is not None:
            return _dropped(item, *refusal)
        if self._config.prefilter and item.markup and not page.may_hold_math(item.body, item.charset):
            return _dropped(item, NO_MATH, "no mark of formulas and no TeX command in the source")
        return self._timeouts.get(item.number) if item.markup else None

    def _write(self, decided: list[tuple[Page | Rejected, Outcome]]) -> None:
        documents: list[dict[str, Any]] = []
        for item, outcome in decided:
            self._writer.counts.records += 1
            self._writer.counts.cut += isinstance(item, Page) and item.truncated == CUT
            self._index.add(item.id, item.url)
            key = {
                "id": item.id,
                "url": item.url,
                "snapshot": self._snapshot,
                "source": self._source,
                "offset": item.offset,
            }
            if isinstance(outcome, Rejected):
                detail = clean(outcome.detail) if outcome.detail else None
                if outcome.outcome == DROPPED:
                    self._writer.drop(key, outcome.reason, detail=detail)
                else:
                    self._writer.quarantine(key, outcome.reason, detail)
            elif isinstance(outcome, Failure):
                self._writer.quarantine(key, outcome.reason, clean(outcome.detail))
            elif not outcome.text:
                self._writer.drop(key, "no_text")
            elif self._config.prefilter and not (outcome.math_prefilter or len(outcome.text) > LONG_TEXT):
                self._writer.drop(key, NO_MATH, detail="no LaTeX in a short text")
            elif refused := _refused(outcome.robots, self._config.drop_robots):
                self._writer.drop(key, "robots", detail=refused)
            elif isinstance(item, Page):
                documents.append(key | self._document(item, outcome))
        if documents:
            self._writer.keep(pa.RecordBatch.from_pylist(documents, schema=DOCUMENT))

    def _document(self, item: Page, found: Extracted) -> dict[str, Any]:
        return {
            "date": None if item.date is None else datetime.fromtimestamp(item.date, UTC),  # whatever the column's unit
            "title": found.title,
            "text": found.text,
            "language": found.language,
            "language_score": None,
            "has_math": found.has_math,
            "math_prefilter": found.math_prefilter,
            "truncated": item.truncated,
            "robots": found.robots,
            "license": found.license,
            "engine": found.engine,
            "confidence": found.confidence,
        }


def _dropped(item: Page, reason: str, detail: str | None) -> Rejected:
    return Rejected(item.number, item.offset, item.id, item.url, DROPPED, reason, detail)


def _plain_text(item: Page) -> Extracted:
    """A text that came in as text: no engine, nothing declared."""
    text = clean(item.body.decode("utf-8", "replace")).strip()
    return Extracted(text, None, None, None, None, page.has_math(text), page.math_prefilter(item.body, text))


def _refused(robots: str | None, directives: list[str]) -> str | None:
    """The first of the page's directives that the configuration drops; `none` stands for noindex and nofollow."""
    given = set(robots.split(",")) if robots else set()
    if "none" in given:
        given |= {"noindex", "nofollow"}
    return next((directive for directive in directives if directive in given), None)
