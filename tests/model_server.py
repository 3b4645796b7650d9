"""A language model's endpoint on this machine: counts what it is asked and answered, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", dict[str, Any]], bool]
"""Gives True where it has answered (or hung up), False where the question is answered as usual."""

PAGE = re.compile(r"\[page [0-9a-f]{16} begins\]\n(.*)\n\[page [0-9a-f]{16} ends\]", re.DOTALL)


class ModelServer(ThreadingHTTPServer):
    """Answers with `score` of the page's text; `faults` are used up one a request, whoever asks.

    `asked` and `answered` count by the page's text; `held` blocks every request while it is set, before the answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[Fault] = []
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        self.answer: Callable[[str, dict[str, Any]], str] = lambda text, body: f"So. Educational score: {len(text) % 6}"
        self.answer_first: int | None = None
        """So many are answered; the others wait for `let_go`."""
        self.let_go = threading.Event()
        self.mutex = threading.Lock()
        self.usage: dict[str, Any] | None = {"prompt_tokens": 100, "completion_tokens": 10}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def get_request(self) -> Any:
        self.connections += 1
        return super().get_request()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # a reply in one packet: two would wait for each other
    server: ModelServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = body["messages"][-1]["content"]
        found = PAGE.search(message)
        text = found.group(1) if found else message
        with self.server.mutex:
            self.server.asked[text] += 1
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
            fault = self.server.faults.pop(0) if self.server.faults else None
            waits = self.server.answer_first is not None and self.server.answered.total() >= self.server.answer_first
            if not waits and fault is None:
                self.server.answered[text] += 1
        if self.path != "/v1/chat/completions":
            self.reply(404, {"error": {"message": "no such path"}})
        elif waits:
            self.server.let_go.wait(30)
            self.close_connection = True
        elif fault is None or not fault(self, body):
            self.complete(self.server.answer(text, body))

    def complete(self, content: Any) -> None:
        """A chat completion."""
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        found: dict[str, Any] = {"object": "chat.completion", "choices": [choice]}
        if self.server.usage is not None:
            found["usage"] = self.server.usage
        self.reply(200, found)

    def reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, header in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, header)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(data)

    def hang_up(self) -> None:
        """Ends the connection with a reset, in the middle of whatever."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test reads what was asked from the server."""


def status(code: int, headers: dict[str, str] | None = None, message: str = "no") -> Fault:
    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.reply(code, {"error": {"message": message}}, headers)
        return True

    return fault


def raw(data: bytes, code: int = 200) -> Fault:
    """A reply that holds these bytes."""

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        handler.reply(code, data)
        return True

    return fault


def drop(handler: Handler, body: dict[str, Any]) -> bool:
    handler.hang_up()
    return True


@contextlib.contextmanager
def model_server() -> Iterator[ModelServer]:
    server = ModelServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.let_go.set()
        server.shutdown()
        server.server_close()
