"""A language model behind an OpenAI-compatible endpoint (vLLM, llama.cpp, a hosted one): one question, one answer.

Whatever may go well at another try is tried again, with growing pauses, as the server wishes (Retry-After). The key comes
from an environment variable and goes into one header: never into a message, a file or a journal.
"""

from __future__ import annotations

import ipaddress
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import urllib3

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.remote import TRY_AGAIN, Interrupted, Retry, retry_after, retrying
from curate.pipeline.tables import printable
from curate.pipeline.workspace import redact

LARGEST_REPLY = 4 << 20
"""Bytes of a reply at most, decompressed."""
LONGEST_ANSWER = 100_000
"""Characters of an answer that are kept."""
TEMPLATE_TOKENS = 256
"""Tokens that a chat template adds to a message at most, for the upper bound."""
RETRY_TEMPERATURE = 0.7
"""Temperature of a second attempt at least: at 0 the same malformed answer would come again."""


class Refused(Exception):
    """The server will not answer this one question (too long, say)."""


class Unanswered(Exception):
    """The server did not answer in all tries; it may do so later."""


class Stopped(Exception):
    """The run is ending: no more waiting."""


@dataclass(frozen=True)
class Reply:
    """An answer, what it cost in tokens, and the score where the model gives it as a number (an expected value)."""

    text: str
    tokens_in: int
    tokens_out: int
    value: float | None = None


@dataclass(frozen=True)
class Question:
    """What is asked: the messages' texts, the most tokens of the answer, and the words before the score."""

    message: str
    system: str = ""
    max_tokens: int = 256
    cue: str = ""

    @property
    def most_tokens_in(self) -> int:
        """An upper bound: a token is at least a byte."""
        size = len(self.message.encode("utf-8", "replace")) + len(self.system.encode("utf-8", "replace"))
        return size + TEMPLATE_TOKENS


class Endpoint:
    """A model at a URL (`http://host:port/v1`). Safe for threads; each keeps a connection of its own.

    `stop` ends every wait between tries. `timeout` is seconds for one whole answer. `extra` is sent with every request.
    """

    def __init__(
        self, url: str, model: str, *, key: str = "", temperature: float = 0.0, seed: int = 0, timeout: float = 120.0,
        extra: Mapping[str, Any] | None = None, retry: Retry | None = None, stop: threading.Event | None = None,
    ) -> None:  # fmt: skip
        self.url = f"{check_url(url).rstrip('/').removesuffix('/chat/completions')}/chat/completions"
        self.model = model
        self.settings: dict[str, Any] = {"temperature": temperature, "seed": seed, **(extra or {})}
        self.stop = stop or threading.Event()
        self._key, self._timeout = key, timeout
        given = retry or Retry(attempts=6)
        self._retry = Retry(given.attempts, given.backoff, given.longest, self._wait)
        self._here = threading.local()

    def ask(self, question: Question, attempt: int = 0) -> Reply:
        """The model's answer; another attempt at the same question has another seed.

        Refused, Unanswered or Stopped where there is none; CurateError where no other question would be answered either.
        """
        try:
            return retrying(lambda: self._ask(question, attempt), redact(self.url), self._retry)
        except CurateError as error:
            if isinstance(error.__cause__, Interrupted):
                raise Unanswered(str(error.__cause__)) from error
            raise

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped

    def _ask(self, question: Question, attempt: int) -> Reply:
        if self.stop.is_set():
            raise Stopped
        messages = [{"role": "system", "content": question.system}] if question.system else []
        messages.append({"role": "user", "content": question.message})
        body = {"model": self.model, "messages": messages, "max_tokens": question.max_tokens, **self.settings}
        if attempt:
            body["seed"] = self.settings["seed"] + attempt
            body["temperature"] = max(RETRY_TEMPERATURE, self.settings["temperature"])
        status, headers, data = self._post(body)
        if status == 200:
            try:
                return _reply(data, question)
            except _NoCompletion:
                raise Interrupted(f"the server's reply is no chat completion{self._said(data)}") from None
        self._refuse(status, headers, data)
        raise AssertionError

    def _refuse(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        name = redact(self.url)
        if status in TRY_AGAIN:
            raise Interrupted(f"the server answered {status}", retry_after(headers.get("Retry-After")))
        said = self._said(data)
        if status in (400, 413, 422):
            raise Refused(f"the server answered {status}{said}")
        if status in (401, 403):
            raise CurateError(f"{name}: not allowed (the server answered {status}): is the right key in --key-env?")
        if status in (404, 405):
            path = urllib.parse.urlsplit(self.url).path
            hint = "; most endpoints end in /v1" if path == "/chat/completions" else ""
            raise CurateError(
                f"{name}: no such endpoint or model {self.model!r} (the server answered {status}{said}){hint}"
            )
        if 300 <= status < 400:
            raise CurateError(f"{name} answers with a redirect ({status}): give the address that it leads to")
        raise CurateError(f"{name}: the server answered {status}{said}")

    def _said(self, data: bytes) -> str:
        """The message of an error, on one line and without the key, should the server repeat it."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return ""
        text = None
        for place in ("error", "message", "detail"):  # OpenAI, llama.cpp, vLLM; vLLM before 0.10; FastAPI
            if isinstance(found, dict) and not isinstance(text, str):
                text = found.get(place)
                text = text.get("message") if isinstance(text, dict) else text
        if not isinstance(text, str) or not text:
            return ""
        return f": {printable(text.replace(self._key, '***') if self._key else text)[:200]}"

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and bytes of the server's reply."""
        end = time.monotonic() + self._timeout
        try:
            with self._session().post(
                self.url,
                json=body,
                stream=True,
                allow_redirects=False,
                timeout=(min(15.0, self._timeout), self._timeout),
            ) as response:
                data = bytearray()
                for chunk in _arriving(response):
                    data += chunk
                    if len(data) > LARGEST_REPLY:
                        raise Interrupted(f"a reply of over {LARGEST_REPLY >> 20} MiB")
                    if time.monotonic() > end:
                        raise Interrupted(f"no whole answer in {self._timeout:.0f} s")
                return response.status_code, response.headers, bytes(data)
        except requests.exceptions.SSLError:
            raise CurateError(
                f"{redact(self.url)}: the server's certificate is not trusted (REQUESTS_CA_BUNDLE names your own)"
            ) from None
        except requests.exceptions.Timeout:
            raise Interrupted(f"no answer in {self._timeout:.0f} s") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, UnicodeError):
            raise UsageError(f"--endpoint: not a URL: {redact(self.url)}") from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError):
            raise Interrupted("cannot connect, or the connection was dropped") from None

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._here, "session", None)
        if session is None:
            session = requests.Session()
            session.headers["User-Agent"] = "curate-web"
            session.auth = self._authorise  # always one of our own: without it, requests would send what ~/.netrc holds
            self._here.session = session
        return session

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _arriving(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives: requests' own iterator waits for a full block, however slowly the bytes come."""
    if not hasattr(response.raw, "read1"):  # urllib3 before 2
        yield from response.iter_content(1 << 8)
        return
    while chunk := response.raw.read1(1 << 16, decode_content=True):
        yield chunk


def check_url(url: str) -> str:
    """The URL of an endpoint; UsageError where it is none, or holds a password or a query."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urllib.parse.SplitResult("", "", "", "", "")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"--endpoint {redact(url)}: give http://host:port/v1 or https://…")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError(f"--endpoint {redact(url)}: no password or query in it; the key comes from --key-env")
    return url.strip()


def in_the_clear(url: str) -> bool:
    """Whether a key would cross a network unencrypted."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def read_key(variable: str | None) -> str:
    """The key in an environment variable; UsageError where there is none, or no key in it."""
    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(f"--key-env {variable}: no such environment variable, or it is empty")
    if not (key.isascii() and key.isprintable()):
        raise UsageError(
            f"--key-env {variable}: it holds no key: there are spaces or signs in it that no header may hold"
        )
    return key


class _NoCompletion(Exception):
    """A reply of another form."""


def _reply(data: bytes, question: Question) -> Reply:
    """The answer in a chat completion: what follows a model's thoughts, where the server tells them apart."""
    try:
        found = json.loads(data)
        content = found["choices"][0]["message"]["content"]
        usage = found.get("usage") or {}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise _NoCompletion from None
    if content is None:
        content = ""
    if isinstance(content, list):  # in parts, as some servers give it
        content = "".join(str(part["text"]) for part in content if isinstance(part, dict) and part.get("text"))
    if not isinstance(content, str) or not isinstance(usage, dict):
        raise _NoCompletion
    text = content[:LONGEST_ANSWER]
    # where the server does not say what it counted, the most that it can have been
    tokens_in = _count(usage.get("prompt_tokens"), question.most_tokens_in)
    tokens_out = _count(usage.get("completion_tokens"), question.max_tokens)
    return Reply(text, tokens_in, tokens_out)


def _count(value: Any, otherwise: int) -> int:
    return value if type(value) is int and 0 <= value < 1 << 40 else otherwise
