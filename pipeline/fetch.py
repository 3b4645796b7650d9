"""`curate fetch`: the first files of a Common Crawl snapshot, whole, in a folder."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from curate.pipeline.download import Progress, Transfer, download, silent
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.remote import Missing, Retry, read_start
from curate.pipeline.workspace import redact

BASE_URL = "https://data.commoncrawl.org/"
KINDS = ("warc", "wet")
LIST_BYTES = 64 << 20
"""Bytes of a list at most, packed; a crawl's is about 200 kB."""
LIST_PATHS = 5_000_000
"""Paths in a list at most; a crawl has about 100,000."""

_PART = r"[A-Za-z0-9_=+][A-Za-z0-9._=+-]*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")


def list_paths(
    crawl: str, *, kind: str = "warc", base_url: str = BASE_URL, retry: Retry | None = None, progress: Progress = silent
) -> list[str]:
    """The paths of a crawl's files, relative to `base_url`, in the crawl's own order.

    Raises UsageError for a name that cannot be a crawl or is none, CurateError for a list that cannot be read.
    """
    if not _PATH.fullmatch(crawl):
        raise UsageError(f"not the name of a crawl: {crawl!r} (give one such as CC-MAIN-2025-30)")
    if kind not in KINDS:
        raise UsageError(f"no files of kind {kind!r}; valid: {', '.join(KINDS)}")
    url = _join(base_url, f"crawl-data/{crawl}/{kind}.paths.gz")
    try:
        packed = read_start(
            url, LIST_BYTES + 1, retry or Retry(), lambda text: progress(Transfer(f"{kind}.paths.gz", 0, None, text))
        )
    except Missing as error:
        raise UsageError(f"no crawl {crawl!r} with {kind} files at {redact(base_url)}: {error}") from None
    if len(packed) > LIST_BYTES:
        raise CurateError(f"{redact(url)} is longer than {LIST_BYTES:,} bytes: not a list of paths")
    return _parse_list(packed, redact(url))


def fetch(
    crawl: str,
    *,
    warcs: int,
    output: Path,
    kind: str = "warc",
    base_url: str = BASE_URL,
    start: int = 0,
    attempts: int = 8,
    progress: Progress = silent,
    retry: Retry | None = None,
) -> list[Path]:
    """Downloads `warcs` files of a crawl from number `start` on into `<output>/<crawl>/`; gives their paths.

    What is there already is left, what is there in part is gone on with. `attempts` is how many tries in a row may get no
    further; `retry` sets the waits as well. Raises UsageError or CurateError.
    """
    if warcs < 1 or start < 0:
        raise UsageError("give a number of files of at least 1 and a start of at least 0")
    retry = retry or Retry(attempts=attempts)
    paths = list_paths(crawl, kind=kind, base_url=base_url, retry=retry, progress=progress)
    chosen = paths[start : start + warcs]
    if not chosen:
        raise UsageError(f"{crawl} has {len(paths):,} {kind} files: there is none from number {start} on")
    names = [path.rpartition("/")[2] for path in chosen]
    if len(set(names)) < len(names):
        raise CurateError(f"the list of {crawl} names two files alike: {_first_twice(names)}")
    folder = output / crawl
    return [
        download(_join(base_url, path), folder / name, retry=retry, progress=progress)
        for path, name in zip(chosen, names, strict=True)
    ]


def file_urls(paths: Sequence[str], base_url: str = BASE_URL) -> list[str]:
    """The URLs of listed paths: what `--input` takes to read them without a download."""
    return [_join(base_url, path) for path in paths]


def _parse_list(packed: bytes, name: str) -> list[str]:
    """The paths of a gzipped list. Each becomes a file's name here: anything but a plain relative path is refused."""
    unpack = zlib.decompressobj(31)
    try:
        text = unpack.decompress(packed, LIST_PATHS * 200)
    except zlib.error:
        raise CurateError(f"{name} is not a gzip file: is the base URL right?") from None
    if not unpack.eof:
        raise CurateError(f"{name} ends in the middle or is too long")
    paths = [line for line in text.decode("utf-8", "replace").splitlines() if line]
    if len(paths) > LIST_PATHS:
        raise CurateError(f"{name} names more than {LIST_PATHS:,} files")
    for number, path in enumerate(paths, 1):
        if len(path) > 1000 or not _PATH.fullmatch(path) or len(path.rpartition("/")[2]) > 200:
            raise CurateError(f"{name}, line {number}: not a plain path: {path[:100]!r}")
    return paths


def _join(base_url: str, path: str) -> str:
    return f"{base_url.rstrip('/')}/{path}"


def _first_twice(names: list[str]) -> str:
    return next(name for number, name in enumerate(names) if name in names[:number])
