"""A web server on this machine that serves a crawl's tree and fails on demand, for tests of what reads over a network."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class CrawlServer(ThreadingHTTPServer):
    """Files by path, what was asked for, and a script of faults by path: each GET of that path uses up one.

    A fault is a function of (handler, path); one that gives True has answered, otherwise the file is served as usual.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Callable[[Any, str], bool]]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.marks = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def add_crawl(self, crawl: str, files: dict[str, bytes], kind: str = "warc") -> list[str]:
        """Serves the files of a crawl and the list that names them; gives the listed paths."""
        paths = [f"crawl-data/{crawl}/segments/1/{kind}/{name}" for name in files]
        self.files["/" + f"crawl-data/{crawl}/{kind}.paths.gz"] = gzip.compress(
            "".join(f"{p}\n" for p in paths).encode()
        )
        self.files |= {"/" + path: data for path, data in zip(paths, files.values(), strict=True)}
        return paths

    def requests(self, name: str, method: str = "GET") -> list[dict[str, str]]:
        """Headers of every request for a path that ends so, in order."""
        return [headers for verb, path, headers in self.asked if verb == method and path.endswith(name)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CrawlServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(("GET", path, dict(self.headers)))
        script = self.server.faults.get(path)
        if script and script.pop(0)(self, path):
            return
        self.serve(path)

    def do_HEAD(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(("HEAD", path, dict(self.headers)))
        data = self.server.files.get(path)
        self.answer(
            404 if data is None else 200, b"", {"Content-Length": str(len(data or b""))} | self.marks(data or b"")
        )

    def serve(self, path: str, *, ranges: bool = True, only: int | None = None, length: int | None = None) -> None:
        """The file, or the range of it that was asked for: only the first `only` bytes of it, under a false `length`."""
        data = self.server.files.get(path)
        if data is None:
            return self.answer(404, b"")
        headers = self.marks(data)
        status, body = 200, data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match and ranges and self.headers.get("If-Range", headers.get("ETag")) == headers.get("ETag"):
            first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
            if first >= len(data):
                return self.answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            status, body = 206, data[first : last + 1]
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        headers["Content-Length"] = str(len(body) if length is None else length)
        self.answer(status, body if only is None else body[:only], headers, drop=only is not None or length is not None)

    def marks(self, data: bytes) -> dict[str, str]:
        return {"ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'} if self.server.marks else {}

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, drop: bool = False) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if drop:
            self.wfile.flush()
            self.close_connection = True

    def reset(self) -> None:
        """Ends the connection the rude way, with a TCP reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def drops(after: int) -> Callable[[Handler, str], bool]:
    """The connection ends after so many bytes of the body."""

    def fault(handler: Handler, path: str) -> bool:
        handler.serve(path, only=after)
        return True

    return fault


def answers(status: int, **headers: str) -> Callable[[Handler, str], bool]:
    """Another status, with headers (`Retry_After="7"`)."""

    def fault(handler: Handler, path: str) -> bool:
        handler.answer(status, b"no", {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return fault


def ignores_range(only: int | None = None) -> Callable[[Handler, str], bool]:
    """200 with the whole file (or its first bytes), whatever was asked for."""

    def fault(handler: Handler, path: str) -> bool:
        handler.serve(path, ranges=False, only=only)
        return True

    return fault


def sends_a_piece(size: int) -> Callable[[Handler, str], bool]:
    """206 with fewer bytes than were asked for, which a server may do."""

    def fault(handler: Handler, path: str) -> bool:
        data = handler.server.files[path]
        first = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))
        piece = data[first : first + size]
        where = {"Content-Range": f"bytes {first}-{first + len(piece) - 1}/{len(data)}"}
        handler.answer(206, piece, handler.marks(data) | where)
        return True

    return fault


def lies(length: int) -> Callable[[Handler, str], bool]:
    """A Content-Length that is not true."""

    def fault(handler: Handler, path: str) -> bool:
        handler.serve(path, length=length)
        return True

    return fault


def changes(data: bytes) -> Callable[[Handler, str], bool]:
    """The file becomes another one, which is then served."""

    def fault(handler: Handler, path: str) -> bool:
        handler.server.files[path] = data
        return False

    return fault


def resets(handler: Handler, path: str) -> bool:
    """No answer at all."""
    handler.reset()
    return True


@contextlib.contextmanager
def crawl_server() -> Iterator[CrawlServer]:
    """A running server, on a free port of the loopback interface."""
    server = CrawlServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
