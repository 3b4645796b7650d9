"""Files at a URL, read over a network that fails: https through requests, everything else through fsspec.

Nothing here retries by itself but `retrying`; what may be tried again is raised as Interrupted, the rest as CurateError.
No message holds a query string or a password, nor the text of a library's error, which often repeats the URL.
"""

from __future__ import annotations

import datetime
import email.utils
import functools
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import requests
import urllib3

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import redact

CHUNK = 1 << 18
"""Bytes read at a time: what a dropped connection can lose."""
STORE_BLOCK = 8 << 20
"""Bytes a request to an object store."""
TIMEOUT = (15, 60)
"""Seconds to connect, and between two reads."""
LONGEST_WAIT = 600.0
"""Seconds waited at most, whatever Retry-After says."""
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524, 529})
STORE_MARKS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "content_md5",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)
"""Where file systems keep what changes when a file does."""

Result = TypeVar("Result")


class Missing(CurateError):
    """There is no such file, or it may not be read."""


class Interrupted(Exception):
    """Something that may go well at another try. `wait` is the server's wish in seconds; `advanced`: it got further."""

    def __init__(self, message: str, wait: float | None = None, advanced: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.advanced = advanced


@dataclass(frozen=True)
class Retry:
    """How often to try, and how long to wait: `backoff` seconds, doubled each time up to `longest`, with jitter.

    `attempts` counts tries in a row that got no further.
    """

    attempts: int = 8
    backoff: float = 1.0
    longest: float = 60.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Remote:
    """What a server says of a file: bytes (None: it does not say) and a mark that changes when the file does."""

    size: int | None
    mark: str | None


@dataclass(frozen=True)
class Body:
    """A file's bytes from `start` on. `total` is the whole file's length.

    `framed`: the end of `chunks` is known to be the end of the file even without a total.
    """

    start: int
    total: int | None
    mark: str | None
    chunks: Iterator[bytes]
    close: Callable[[], None]
    framed: bool = True


class Source(Protocol):
    """A file at a URL."""

    def describe(self) -> Remote:
        """Length and mark. Raises Missing or Interrupted."""

    def open(self, offset: int, mark: str | None, end: int | None = None) -> Body:
        """The bytes from `offset` on (to `end`, as a wish) if the file still has that mark; from 0 otherwise."""


def source(url: str) -> Source:
    """The file at a URL. Raises UsageError where nothing here can open such a URL."""
    return Web(url) if is_web(url) else Store(url)


def is_web(url: str) -> bool:
    return url.lower().startswith(("http://", "https://"))


def retrying(
    action: Callable[[], Result], name: str, retry: Retry, note: Callable[[str], None] = lambda text: None
) -> Result:
    """What the action gives, tried again while it is Interrupted; CurateError when that is enough."""
    failures = 0
    while True:
        try:
            return action()
        except Interrupted as error:
            failures = 1 if error.advanced else failures + 1
            if failures >= retry.attempts:
                raise CurateError(f"{name}: {error} ({failures} tries got no further; run again later)") from error
            wait = min(retry.longest, retry.backoff * 2 ** (failures - 1)) * (0.5 + random.random() / 2)
            wait = min(LONGEST_WAIT, max(wait, error.wait or 0.0))
            note(f"{error}; trying again in {wait:.0f} s")
            retry.sleep(wait)


def read_start(url: str, limit: int, retry: Retry, note: Callable[[str], None] = lambda text: None) -> bytes:
    """The first `limit` bytes of a file, or all of it if it is shorter. Raises Missing or CurateError."""
    file = source(url)

    def action() -> bytes:
        body = file.open(0, None, limit)
        try:
            data = bytearray()
            for chunk in body.chunks:
                data += chunk
                if len(data) >= limit:
                    break
        finally:
            body.close()
        if len(data) < limit and body.total is not None and len(data) < min(limit, body.total):
            raise Interrupted(f"ended after {len(data):,} of {body.total:,} bytes")
        return bytes(data[:limit])

    return retrying(action, redact(url), retry, note)


class Web:
    """A file at an http or https URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = redact(url)

    def describe(self) -> Remote:
        response = self._request("HEAD", {})
        if response.status_code in (400, 403, 405, 501):
            # A URL signed for GET refuses HEAD, and some servers know none.
            response = self._request("GET", {"Range": "bytes=0-0"})
        with response:
            if response.status_code == 416 and _content_range(response)[1] == 0:
                return Remote(0, _mark(response))
            self._check(response, (200, 206))
            if response.status_code == 206:
                return Remote(_content_range(response)[1], _mark(response))
            return Remote(_length(response), _mark(response))

    def open(self, offset: int, mark: str | None, end: int | None = None) -> Body:
        headers = {}
        if offset and mark:
            headers = {"Range": f"bytes={offset}-", "If-Range": mark}
        elif end is not None:
            headers = {"Range": f"bytes=0-{max(end, 1) - 1}"}
        response = self._request("GET", headers)
        try:
            return self._body(response, offset if mark else 0, mark)
        except BaseException:
            response.close()
            raise

    def _body(self, response: requests.Response, offset: int, mark: str | None) -> Body:
        if response.status_code == 416:
            total = _content_range(response)[1]
            if total is not None and total == offset and (mark is None or _mark(response) in (None, mark)):
                return Body(offset, total, mark, iter(()), response.close)
            raise Changed(f"{self.name} is not the file it was: starting over")
        self._check(response, (200, 206))
        start, total = 0, _length(response)
        if response.status_code == 206:
            start, total = _content_range(response)
            if start != offset or (mark is not None and _mark(response) not in (None, mark)):
                raise Changed("the file changed on the server: starting over")
        framed = total is not None or response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        return Body(start, total, _mark(response), self._chunks(response), response.close, framed)

    def _request(self, method: str, headers: dict[str, str]) -> requests.Response:
        try:
            # Without `identity` a server may compress on the fly: then neither length nor range means the file's bytes.
            return requests.request(
                method,
                self.url,
                headers={"Accept-Encoding": "identity", "User-Agent": "curate-web"} | headers,
                stream=True,
                timeout=TIMEOUT,
                allow_redirects=True,
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
            raise UsageError(f"not a URL: {self.name}") from None
        except requests.exceptions.TooManyRedirects:
            raise Missing(f"{self.name} redirects in a circle") from None
        except requests.exceptions.SSLError:
            raise CurateError(
                f"{self.name}: the server's certificate is not trusted (REQUESTS_CA_BUNDLE names your own)"
            ) from None
        except requests.exceptions.Timeout:
            raise Interrupted("the server does not answer") from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError):
            raise Interrupted("cannot connect") from None

    def _check(self, response: requests.Response, wanted: tuple[int, ...]) -> None:
        status = response.status_code
        if status in wanted:
            return
        if status in TRY_AGAIN:
            raise Interrupted(f"the server answered {status}", retry_after(response.headers.get("Retry-After")))
        if status in (404, 410):
            raise Missing(f"{self.name} is not there (the server answered {status})")
        if status in (401, 403):
            raise Missing(f"{self.name} may not be read (the server answered {status})")
        raise CurateError(f"{self.name}: the server answered {status}")

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(CHUNK, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError:
            raise Interrupted("the server stopped sending") from None
        except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError):
            raise Interrupted("the connection was dropped") from None


class Changed(Interrupted):
    """What was received belongs to another version of the file."""


class Store:
    """A file in anything that fsspec opens: s3, gs, memory, file …"""

    def __init__(self, url: str) -> None:
        import fsspec

        self.name = redact(url)
        try:
            self._fs, self._path = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise UsageError(f"cannot open {self.name}: {error}") from None
        except ValueError:
            raise UsageError(f"cannot open {self.name}: no such protocol") from None

    def describe(self) -> Remote:
        return described(self._call(self._fs.info, self._path))

    def open(self, offset: int, mark: str | None, end: int | None = None) -> Body:
        found = self.describe()
        if found.size is None:
            raise CurateError(f"{self.name} is not a file")
        if mark is not None and mark != found.mark:
            offset = 0
        start = offset if mark is not None and offset <= found.size else 0
        return Body(start, found.size, found.mark, self._blocks(start, found, end), lambda: None)

    def find(self, magic: bool, keep: Callable[[str], bool]) -> dict[str, Mapping[str, Any]]:
        """What fsspec says, by URL, of the file, of the glob's matches, or of the folder's files.

        `keep` chooses among those by their path within the folder.
        """
        if magic:
            found = self._call(self._fs.glob, self._path, detail=True)
        elif self._call(self._fs.isdir, self._path):
            found = self._call(self._fs.find, self._path, detail=True)
            found = {path: info for path, info in found.items() if keep(path[len(self._path) :].lstrip("/"))}
        else:
            found = {self._path: self._call(self._fs.info, self._path)}
        return {self._fs.unstrip_protocol(path): info for path, info in found.items()}

    def _blocks(self, start: int, found: Remote, end: int | None) -> Iterator[bytes]:
        size = found.size or 0
        stop = size if end is None else min(end, size)
        for first in range(start, stop, STORE_BLOCK):
            last = min(first + STORE_BLOCK, stop)
            data = self._call(self._fs.cat_file, self._path, start=first, end=last)
            if len(data) != last - first:
                raise Interrupted(f"got {len(data):,} of {last - first:,} bytes")
            yield bytes(data)
        if end is None and self.describe() != found:
            raise Changed("the file changed on the server: starting over")

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except (FileNotFoundError, IsADirectoryError):
            raise Missing(f"{self.name} is not there") from None
        except PermissionError:
            raise Missing(f"{self.name} may not be read") from None
        except _store_errors() as error:
            if "Credentials" in type(error).__name__:
                raise UsageError(f"{self.name}: no credentials for this store were found") from None
            raise Interrupted(f"the store failed ({type(error).__name__})") from None


def described(info: Mapping[str, Any]) -> Remote:
    """Length and mark from what fsspec says of a file."""
    size = info.get("size")
    mark = next((info[key] for key in STORE_MARKS if info.get(key) is not None), None)
    if isinstance(mark, datetime.datetime):
        mark = mark.timestamp()  # the same file system gives one or the other, depending on the call
    return Remote(
        int(size) if size is not None and info.get("type") != "directory" else None, None if mark is None else str(mark)
    )


@functools.cache
def _store_errors() -> tuple[type[Exception], ...]:
    """What file systems raise when the network fails; botocore's errors and aiohttp's are not OSErrors."""
    kinds: list[type[Exception]] = [OSError, EOFError]
    for module, name in (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError")):
        try:
            kinds.append(getattr(__import__(module, fromlist=[name]), name))
        except ImportError:
            continue
    return tuple(kinds)


def retry_after(value: str | None, now: float | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (a number or an HTTP date); None if there is none that makes sense."""
    if value is None:
        return None
    if re.fullmatch(r"\s*\d{1,9}\s*", value, re.ASCII):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - (time.time() if now is None else now))
    except (TypeError, ValueError, OverflowError):
        return None


def _length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if re.fullmatch(r"\d{1,18}", value, re.ASCII) else None


def _content_range(response: requests.Response) -> tuple[int, int | None]:
    """First byte and total length of a Content-Range; (-1, None) where it is missing or broken."""
    match = re.fullmatch(
        r"\s*bytes\s+(?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)\s*", response.headers.get("Content-Range", ""), re.ASCII
    )
    if match is None:
        return -1, None
    first, total = match.groups()
    return (int(first) if first else -1), (None if total == "*" else int(total))


def _mark(response: requests.Response) -> str | None:
    """A strong entity tag, else the time of the last change: what If-Range accepts (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "").strip()
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")
