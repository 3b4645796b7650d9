"""What `--input` names, found: files and folders, globs and URLs become a sorted list of inputs with stable keys.

A key is `<snapshot>/<name>`. It depends on the file alone and on what else is called alike, never on the order, on the
machine, or on the signature of a URL.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import stat
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from curate.pipeline.config import digest
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.peek import HEAD_BYTES, sniff_format, warcinfo_snapshot
from curate.pipeline.recipe import InputConfig
from curate.pipeline.workspace import redact

THREADS = 16
"""Files looked into at a time: it is waiting, not work."""
NAME_LENGTH = 150
"""Characters of a snapshot's or a shard's name at most, so that every file made of it fits a file system's 255 bytes."""

FORMATS = {
    **dict.fromkeys((".warc.wet.gz", ".warc.wet", ".warc.gz", ".warc", ".wet.gz", ".wet", ".arc.gz", ".arc"), "warc"),
    **{kind + packed: "jsonl" for kind in (".jsonl", ".ndjson", ".json") for packed in (".gz", ".zst", "")},
    ".parquet": "parquet",
}
"""Format by the end of a file's name; longer ends first."""

_CRAWL = re.compile(r"CC-MAIN-\d{4}-\d{2}(?!\d)")

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Input:
    """A file that comes in.

    `path` opens it, a signature in its query included; `source` is the same without anything secret, for columns and
    messages. `fingerprint` changes when the file does. `size` is its bytes, 0 where a server does not tell.
    """

    key: str
    path: str
    source: str
    format: str
    snapshot: str
    fingerprint: str
    size: int


@dataclass(frozen=True)
class _Found:
    """A file before it has a key. `mark` changes when the content does."""

    path: str
    source: str
    size: int
    mark: str

    @property
    def fingerprint(self) -> str:
        return digest({"source": self.source, "size": self.size, "mark": self.mark})


def find_inputs(patterns: Sequence[str], config: InputConfig, cache: Mapping[str, str] | None = None) -> list[Input]:
    """Every file that the patterns name, sorted by key, each once.

    A pattern is a file, a folder (every WARC, JSONL and Parquet file below it), a glob, or a URL of any of these (an
    https URL is one file). `cache` gives the snapshot by fingerprint of files that were looked into before. Raises
    UsageError for a pattern that names nothing and for a file whose format nothing tells.
    """
    if not patterns or not all(pattern.strip() for pattern in patterns):
        raise UsageError("no input: give --input FILE, FOLDER, GLOB or URL, or input.paths in the recipe")
    files = _distinct([found for group in _in_threads(_expand, patterns) for found in group])
    known = cache or {}
    looked = _in_threads(lambda file: _look_into(file, config, known), files)
    named = [
        Input("", file.path, file.source, kind, clean_name(snapshot, "default"), file.fingerprint, file.size)
        for file, (kind, snapshot) in zip(files, looked, strict=True)
    ]
    keys = _keys(named)
    return sorted((replace(item, key=key) for item, key in zip(named, keys, strict=True)), key=lambda item: item.key)


def clean_name(text: str, otherwise: str) -> str:
    """The text as a file's name: letters, digits, `.`, `_` and `-`, not hidden, not too long; never empty."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip("._-")[:NAME_LENGTH] or otherwise


def format_by_name(name: str) -> str | None:
    """warc, jsonl or parquet by the end of a file's name; None if it says nothing."""
    suffix = _suffix(name)
    return FORMATS[suffix] if suffix else None


def _suffix(name: str) -> str | None:
    lower = name.lower()
    return next((suffix for suffix in FORMATS if lower.endswith(suffix)), None)


def _basename(source: str) -> str:
    path = source
    if "://" in source:
        path = urllib.parse.unquote(source.split("://", 1)[1].partition("/")[2])
    return path.rstrip("/").rpartition("/")[2]


def _in_threads(function: Callable[[Item], Value], items: Sequence[Item]) -> list[Value]:
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        return list(pool.map(function, items))


def _expand(pattern: str) -> list[_Found]:
    if pattern.lower().startswith(("http://", "https://")):
        return [_web(pattern)]
    if "://" in pattern and not pattern.startswith("file://"):
        return _store(pattern)
    return _local(pattern)


def _local(pattern: str) -> list[_Found]:
    path = Path(pattern.removeprefix("file://")).expanduser()
    if path.is_dir():
        found = [_local_file(file) for file in _inside(path)]
        if not found:
            raise UsageError(f"no WARC, WET, JSONL or Parquet file in the folder {pattern}")
        return found
    if path.exists():
        return [_local_file(path)]
    # Not Path.glob, which knows no absolute patterns.
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
    files = {file for match in matches for file in (_inside(match) if match.is_dir() else [match])}
    if not files:
        raise UsageError(f"no input matches {pattern}" if glob.has_magic(pattern) else f"no such input: {pattern}")
    return [_local_file(file) for file in sorted(files)]


def _inside(folder: Path) -> Iterator[Path]:
    """Files of a known format below a folder; hidden ones, and `_`-names by the convention of Hadoop, are none."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(names):
            if not name.startswith((".", "_")) and _suffix(name):
                yield Path(root, name)


def _local_file(file: Path) -> _Found:
    path = os.path.abspath(file)  # noqa: PTH100 - not resolve(): a link keeps its own name
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot read {file}: not a regular file (a worker must be able to open it again)")
        if not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from None
    source = os.fsencode(path).decode("utf-8", "replace")
    return _Found(path, source, status.st_size, f"{status.st_mtime_ns}")


def _web(url: str) -> _Found:
    from curate.pipeline.remote import Missing, Retry, retrying, source

    try:
        found = retrying(source(url).describe, redact(url), Retry(attempts=4))
    except Missing as error:
        raise UsageError(f"no such input: {error}") from None
    return _Found(url, redact(url), found.size or 0, found.mark or "")


def _store(pattern: str) -> list[_Found]:
    """Files in anything that fsspec opens; a glob or a folder there gives many."""
    from curate.pipeline.remote import Missing, Retry, Store, described, retrying

    store = Store(pattern)
    name = redact(pattern)

    def action() -> list[_Found]:
        details = store.find(glob.has_magic(pattern), _visible)
        described_files = [(path, described(info)) for path, info in sorted(details.items())]
        return [
            _Found(path, redact(path), remote.size, remote.mark or "")
            for path, remote in described_files
            if remote.size is not None
        ]

    try:
        found = retrying(action, name, Retry(attempts=4))
    except Missing as error:
        raise UsageError(f"no such input: {error}") from None
    if not found:
        raise UsageError(f"no input matches {name}")
    return found


def _visible(path: str) -> bool:
    """As in `_inside`: no part of a path within a folder is hidden, and the format is known."""
    return not any(part.startswith((".", "_")) for part in path.split("/")) and _suffix(path) is not None


def _distinct(files: Sequence[_Found]) -> list[_Found]:
    """Each file once. Two URLs that differ only in what is redacted are one file if the server says so, else refused."""
    kept: dict[str, _Found] = {}
    for file in sorted(files, key=lambda item: (item.source, item.path)):
        name = file.source if "://" in file.source else os.path.realpath(file.path)
        other = kept.setdefault(name, file)
        if other.path != file.path and other.fingerprint != file.fingerprint and "://" in file.source:
            raise UsageError(
                f"two inputs differ only in their query strings, so nothing could name them: {file.source}"
            )
    return list(kept.values())


def _look_into(file: _Found, config: InputConfig, cache: Mapping[str, str]) -> tuple[str, str]:
    """Format and snapshot of a file, from its name where that is enough."""
    kind = config.format or format_by_name(_basename(file.source))
    snapshot = config.snapshot or cache.get(file.fingerprint)
    if kind and (snapshot or kind != "warc"):
        return kind, snapshot or _snapshot_by_path(file.source)
    head = _head(file)
    kind = kind or sniff_format(head)
    if kind is None:
        raise UsageError(
            f"cannot tell the format of {file.source}: give --set input.format=warc, jsonl or parquet, or leave it out"
        )
    if snapshot is None and kind == "warc":
        snapshot = warcinfo_snapshot(head)
    return kind, snapshot or _snapshot_by_path(file.source)


def _snapshot_by_path(source: str) -> str:
    crawls = _CRAWL.findall(source)
    return crawls[-1] if crawls else "default"


def _head(file: _Found) -> bytes:
    """The first bytes of a file. A file that cannot be read is an error: a guess would put it under another key."""
    if "://" not in file.source:
        try:
            with Path(file.path).open("rb") as stream:
                return stream.read(HEAD_BYTES)
        except OSError as error:
            raise UsageError(f"cannot read {file.source}: {(error.strerror or str(error)).lower()}") from None
    from curate.pipeline.remote import Retry, read_start

    try:
        return read_start(file.path, HEAD_BYTES, Retry(attempts=4))
    except CurateError as error:
        raise UsageError(f"cannot read input: {error}") from None


def _keys(items: Sequence[Input]) -> list[str]:
    """A key for each input, all different even where a file system ignores case.

    Those that would be alike all get a piece of their source's hash, so that none depends on the others' order.
    """
    names = [_shard_name(item.source) for item in items]
    hashes = [hashlib.sha256(_identity(item)).hexdigest() for item in items]
    digits = [0] * len(items)
    while True:
        keys = [
            f"{item.snapshot}/{name}-{code[:size]}" if size else f"{item.snapshot}/{name}"
            for item, name, code, size in zip(items, names, hashes, digits, strict=True)
        ]
        often = Counter(key.casefold() for key in keys)
        alike = [place for place, key in enumerate(keys) if often[key.casefold()] > 1]
        if not alike:
            return keys
        for place in alike:
            digits[place] += 8


def _identity(item: Input) -> bytes:
    """What tells two inputs apart: a URL without its secrets, a local path byte by byte (it need not be UTF-8)."""
    return item.source.encode() if "://" in item.source else os.fsencode(item.path)


def _shard_name(source: str) -> str:
    name = _basename(source)
    suffix = _suffix(name)
    return clean_name(name[: -len(suffix)] if suffix else name, "shard")
