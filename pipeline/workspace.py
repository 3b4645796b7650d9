"""The folder or URL that a run reads and writes: names, atomic files, checksums.

A file appears under its final name only when whole. On a local disk it is written to an attempt-unique temporary
name beside it, synced and renamed; elsewhere it is written to a local temporary file and put in one go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from curate.pipeline.errors import CurateError, DiskFull, UsageError, is_disk_full

TEMPORARY = re.compile(r"^\..+\.[0-9a-f]{12}\.tmp$")
"""Names of files that were being written: left over only by a killed process."""


class Output:
    """A binary file being written: counts and hashes (SHA-256) what passes. Seeking is not possible."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        self._stream.write(view)
        self._hash.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._stream.flush()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Does nothing: the file ends when `Workspace.create` does, so a library that closes it early cannot publish it."""

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class Workspace:
    """Files below one root, named by paths relative to it with forward slashes.

    `url` is a folder or anything that fsspec opens (`s3://bucket/prefix`, `gs://…`, `memory://…`).
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url).rstrip("/") or "/"
        self.is_local = "://" not in self.url or self.url.startswith("file://")
        if self.is_local:
            self.root = str(Path(self.url.removeprefix("file://")).expanduser().absolute())
            self._fs: Any = None
        else:
            import fsspec

            try:
                self._fs, self.root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                raise UsageError(f"cannot open workspace {redact(self.url)}: {error}") from error

    def __repr__(self) -> str:
        return f"Workspace({redact(self.url)!r})"

    def path(self, name: str) -> str:
        """The full path or key of a file, without the protocol."""
        _check_name(name)
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return Path(self.path(name)).exists() if self.is_local else bool(self._fs.exists(self.path(name)))

    def open(self, name: str) -> IO[bytes]:
        """A finished file, opened for reading; FileNotFoundError if it is not there."""
        if self.is_local:
            return Path(self.path(name)).open("rb")
        stream: IO[bytes] = self._fs.open(self.path(name), "rb")
        return stream

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """Bytes `start` to `start + size` of a finished file, fewer where it ends before: one request to an object store."""
        if self.is_local:
            with self.open(name) as stream:
                stream.seek(start)
                return stream.read(size)
        data: bytes = self._fs.cat_file(self.path(name), start=start, end=start + size)
        return data

    def size(self, name: str) -> int:
        """Bytes of a finished file."""
        return Path(self.path(name)).stat().st_size if self.is_local else int(self._fs.size(self.path(name)))

    def read_json(self, name: str) -> Any:
        """A JSON file's value, or None if there is no such file; CurateError where it is no JSON."""
        try:
            with self.open(name) as stream:
                return json.loads(stream.read())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CurateError(f"{name} in {redact(self.url)} is damaged ({error}): remove it and run again") from None

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[Output]:
        """A new file that appears under `name`, whole, when the block ends without an error, and not at all otherwise.

        Raises DiskFull where there is no space.
        """
        final = self.path(name)
        try:
            if self.is_local:
                with _create_local(Path(final)) as output:
                    yield output
            else:
                with tempfile.NamedTemporaryFile(prefix="curate-") as local:
                    output = Output(local.file)
                    yield output
                    local.flush()
                    self._fs.put_file(local.name, final)
        except OSError as error:
            if is_disk_full(error) and not isinstance(error, DiskFull):
                raise DiskFull(
                    f"no space left while writing {name} in {redact(self.url)}: free some, then run again"
                ) from error
            raise

    def write_bytes(self, name: str, data: bytes) -> None:
        with self.create(name) as output:
            output.write(data)

    def write_json(self, name: str, value: Any) -> None:
        self.write_bytes(name, (json.dumps(value, indent=1, sort_keys=True, default=str) + "\n").encode())

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """Names (relative to the root, sorted) of all finished files below a folder."""
        if self.is_local:
            base = Path(self.path(folder))
            names = [
                f"{folder}/{entry.relative_to(base).as_posix()}"
                for entry in base.rglob("*")
                if entry.is_file() and entry.name.endswith(suffix) and not TEMPORARY.match(entry.name)
            ]
        else:
            try:
                found = self._fs.find(self.path(folder))
            except FileNotFoundError:
                found = []
            names = [entry[len(self.root) :].lstrip("/") for entry in found if entry.endswith(suffix)]
        return sorted(names)

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all finished files below a folder, by name: one listing on an object store."""
        if self.is_local:
            return {name: self.size(name) for name in self.list(folder)}
        try:
            found = self._fs.find(self.path(folder), detail=True)
        except FileNotFoundError:
            return {}
        return {name[len(self.root) :].lstrip("/"): int(entry["size"]) for name, entry in found.items()}

    def temporaries(self) -> Sequence[str]:
        """Left-over temporary files (local workspaces only: elsewhere none are made)."""
        if not self.is_local:
            return []
        base = Path(self.root)
        return sorted(
            entry.relative_to(base).as_posix() for entry in base.rglob(".*.tmp") if TEMPORARY.match(entry.name)
        )

    def remove(self, name: str) -> None:
        """Removes a file; not an error if it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            if self.is_local:
                Path(self.path(name)).unlink()
            else:
                self._fs.rm_file(self.path(name))


@contextlib.contextmanager
def _create_local(final: Path) -> Iterator[Output]:
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name[:200]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("wb") as stream:
            output = Output(stream)
            yield output
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(final)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _check_name(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"not a name inside the workspace: {name!r}")


_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\]]+", re.IGNORECASE)


def redact_text(text: str) -> str:
    """A message with every URL in it redacted: what a library says of a failure may hold the URL that was signed."""
    return _URL.sub(lambda match: redact(match.group()), text)


def redact(url: str) -> str:
    """The URL without user, password and query string (signed URLs carry their secret there); paths pass unchanged."""
    if "://" not in url:
        return url
    scheme, rest = url.split("://", 1)
    rest = rest.split("?", 1)[0].split("#", 1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
