"""Scores for the texts of JSONL and Parquet files: a row out for every row in, in their order.

A row out holds where it stood (`source`, `row`), `id` and `url` where the rows have them, `label` (label kinds), `score`,
with `probabilities` those of all labels, and `problem`. A text that is null, missing or empty is scored as the empty text
and said to be `no text`; a line that cannot be read gets no score.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from curate.classifiers.model import Classifier
from curate.classifiers.rows import Raw, Tally, batches, clean, text_of

NO_TEXT = "no text"


def schema(model: Classifier, probabilities: bool = False) -> pa.Schema:
    """The columns that come out."""
    fields = [("source", pa.string()), ("row", pa.int64()), ("id", pa.string()), ("url", pa.string())]
    if model.output == "label":
        fields.append(("label", pa.string()))
    fields.append(("score", pa.float32()))
    if probabilities and model.output == "label":
        fields += [(f"probability_{label}", pa.float32()) for label in model.labels]
    return pa.schema([*fields, ("problem", pa.string())])


def score(
    model: Classifier, rows: Iterable[Raw], tally: Tally, probabilities: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """Batches of rows for JSON or Parquet; `tally` counts what has a problem."""
    for batch in batches(rows, lambda raw: len(raw.values["text"]) if _has_text(raw) else 0):
        answers = _answers(model, [row for row in batch if row.problem is None], probabilities)
        done = []
        for raw in batch:
            about = {"source": raw.source, "row": raw.number, "id": text_of(raw.values.get("id")),
                     "url": text_of(raw.values.get("url"))}  # fmt: skip
            if raw.problem is not None:
                tally.left_out[raw.problem] += 1
                done.append(about | {"problem": raw.problem})
                continue
            problem = None if _has_text(raw) else NO_TEXT
            if problem:
                tally.noted["no text: scored as empty"] += 1
            tally.used += 1
            done.append(about | next(answers) | {"problem": problem})
        yield done


def write_jsonl(stream: IO[str], names: list[str], rows: Iterable[list[dict[str, Any]]]) -> None:
    """A line a row, in ASCII, its fields in the schema's order; those without a value are left out."""
    for batch in rows:
        for row in batch:
            kept = {name: row[name] for name in names if row.get(name) is not None}
            stream.write(json.dumps(kept) + "\n")


def write(path: Path, columns: pa.Schema, rows: Iterable[list[dict[str, Any]]]) -> None:
    """A file of scores, Parquet or JSONL (gzip, zstd) by its name; it is there when it is whole."""
    from curate.pipeline.documents import TableWriter
    from curate.pipeline.workspace import Workspace

    with Workspace(str(path.parent)).create(path.name) as output:
        if path.suffix == ".parquet":
            with TableWriter(output, columns) as writer:
                for batch in rows:
                    writer.write_rows(batch)
            return
        with _packed(output, path.suffix) as packed, io.TextIOWrapper(packed, "utf-8", newline="\n") as text:
            write_jsonl(text, columns.names, rows)


def _packed(output: Any, suffix: str) -> Any:
    """A writer that compresses by the name's end; closing it ends the last frame and leaves the output open."""
    import zstandard

    if suffix == ".gz":
        return gzip.GzipFile(fileobj=output, mode="wb", mtime=0, filename="")
    if suffix == ".zst":
        return zstandard.ZstdCompressor(level=3).stream_writer(output, closefd=False)
    return io.BufferedWriter(_Through(output))


class _Through(io.RawIOBase):
    """An output as the io module wants it."""

    def __init__(self, output: Any) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return int(self._output.write(data))


def _has_text(raw: Raw) -> bool:
    text = raw.values.get("text")
    return isinstance(text, str) and bool(text)


def _answers(model: Classifier, rows: list[Raw], probabilities: bool) -> Iterator[dict[str, Any]]:
    texts = pa.array([clean(row.values["text"]) if _has_text(row) else "" for row in rows], pa.large_string())
    values = model.values(texts)
    given = model.best(values).tolist() if model.output == "label" else [0] * len(values)
    for each, best in zip(values, given, strict=True):
        if model.output == "score":
            yield {"score": float(str(each))}  # the fewest digits that say the same float32
            continue
        found: dict[str, Any] = {"label": model.labels[best], "score": float(str(each[best]))}
        if probabilities:
            found |= {
                f"probability_{label}": float(str(value)) for label, value in zip(model.labels, each, strict=True)
            }
        yield found
