"""WARC records as bytes, and a run of the stage with what it wrote."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

from curate.pipeline.stage import Done, File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.extract.config import ExtractConfig
from curate.stages.extract.stage import STAGE
from support import rows, run_stage

OWN = "hostile_engines:misbehave"


def page(text: str = "A page with a sentence of its own.") -> bytes:
    return f"<html><body><article><p>{text}</p></article></body></html>".encode()


def http(body: bytes, status: str = "200 OK", mime: str | None = "text/html; charset=utf-8", **headers: str) -> bytes:
    fields = ({"Content-Type": mime} if mime else {}) | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


def warc(name: str, block: bytes, kind: str = "response", length: object = None, **headers: str) -> bytes:
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{name}>",
        "WARC-Date": "2024-03-01T10:20:30Z",
        "WARC-Target-URI": f"http://example.org/{name}",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "text/plain",
    } | {key.replace("_", "-"): value for key, value in headers.items()}
    lines = "".join(f"{key}: {value}\r\n" for key, value in fields.items() if value)
    shown = len(block) if length is None else length
    return f"WARC/1.0\r\n{lines}Content-Length: {shown}\r\n\r\n".encode() + block + b"\r\n\r\n"


def good(name: str, text: str = "") -> bytes:
    return warc(name, http(page(f"{text} This is page {name}.")))


def members(*records: bytes) -> list[bytes]:
    return [gzip.compress(record, mtime=0) for record in records]


class Result:
    """What a run wrote about one file."""

    def __init__(self, workspace: Workspace, done: Done) -> None:
        self.counts = done.counts
        self.done = done
        self.documents: list[dict[str, Any]] = rows(workspace, done.outputs["docs"].path)
        self.ledger: list[dict[str, Any]] = rows(workspace, done.outputs["ledger"].path)
        self.index: list[dict[str, Any]] = rows(workspace, done.outputs["index"].path)

    @property
    def kept(self) -> list[str]:
        return [row["id"] for row in self.documents]

    @property
    def lost(self) -> list[tuple[str, str | None]]:
        """Reason and id of every record that did not go on."""
        return [(row["reason"], row["id"]) for row in self.ledger]

    @property
    def bytes(self) -> dict[str, str]:
        return {name: file.fingerprint for name, file in self.done.outputs.items()}


class Shelf:
    """A folder of input files and the workspace that they are extracted to."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder

    def extract(
        self, data: bytes, name: str = "crawl.warc", params: dict[str, Any] | None = None, **config: Any
    ) -> Result:
        path = self.folder / name
        path.write_bytes(data)
        return self.extract_file(path, params, **config)

    def extract_file(self, path: Path, params: dict[str, Any] | None = None, **config: Any) -> Result:
        settings = ExtractConfig(**({"engine": "resiliparse"} | config))
        file = File(str(path), "fingerprint", path.stat().st_size, external=True)
        (done,) = run_stage(
            STAGE, settings, [Shard(f"CC-MAIN-2024-10/{path.name}", file, params=params or {})], self.workspace
        )
        return Result(self.workspace, done)
