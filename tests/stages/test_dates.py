"""The date of a page, through every stage that has documents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.classify import STAGE as CLASSIFY
from curate.stages.dedup.stage import STAGE as DEDUP
from curate.stages.extract.stage import STAGE as EXTRACT
from curate.stages.filter.stage import STAGE as FILTER
from support import rows, run_stage

WHEN = "2025-06-17T08:09:10Z"
DATE = datetime(2025, 6, 17, 8, 9, 10, tzinfo=UTC)
TEXT = "The harbour lay still in the morning, and the boats of the night came home with their lamps still burning."
HTML = f"<html><body><article><p>{TEXT}</p></article></body></html>"


def warc() -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + HTML.encode()
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:a>\r\nWARC-Target-URI: https://a.example/\r\n"
        f"WARC-Date: {WHEN}\r\nContent-Type: application/http\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "data"), [("a.warc", warc()), ("a.jsonl", json.dumps({"id": "a", "text": TEXT, "date": WHEN}).encode())]
)
def test_the_date_of_a_page_comes_through_every_stage_unchanged(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    workspace = Workspace(tmp_path / "w")
    shard = Shard("crawl/a", File(str(tmp_path / name), "fingerprint", len(data), external=True))
    settings = {"extract": {"engine": "resiliparse"}, "filter": {"language": None, "lines": {}}}
    for stage in (EXTRACT, FILTER, DEDUP, CLASSIFY):
        config = stage.config.model_validate(settings.get(stage.name, {}))
        (done,) = run_stage(stage, config, [shard], workspace)
        docs = done.outputs["docs"]
        (row,) = rows(workspace, docs.path)
        assert row["date"] == DATE, stage.name
        with workspace.open(docs.path) as stream:
            assert pq.read_schema(stream).field("date").type == DOCUMENT.field("date").type
        shard = Shard("crawl/a", docs, 1)
