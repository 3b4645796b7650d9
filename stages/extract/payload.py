"""The body of an HTTP response as the browser would see it: header split off, chunks joined, content decoded."""

from __future__ import annotations

import re
import zlib

from curate.stages.extract.warc import parse_header

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?!\d)")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r?\n")
_SNIFF = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*(?:<!--|(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html|head|script|iframe|h1|div|font"
    rb"|table|a|style|title|b|body|br|p)[\s>])",
    re.IGNORECASE,
)
"""The patterns by which browsers take bytes for HTML (WHATWG MIME Sniffing, section 7.1), and XHTML's declaration."""
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class BadPayload(ValueError):
    """A body that cannot be read: `reason` for the ledger, the message for its detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def split_http(block: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields by lower-case name, body. Raises BadPayload (`bad_http`) where there is no status line."""
    status = _STATUS.match(block)
    if status is None:
        raise BadPayload("bad_http", f"begins with {block[:24]!r}, no status line")
    end = _HEADER_END.search(block)
    if end is None:
        return int(status[1]), parse_header(block), b""
    return int(status[1]), parse_header(block[: end.start()]), block[end.end() :]


def body_of(headers: dict[str, str], body: bytes, limit: int) -> tuple[bytes, bool]:
    """The body with transfer and content encodings undone, its first `limit` bytes; and whether it was cut to them.

    No more than a little over the limit is ever decoded, whatever the body would expand to. Crawlers often store the body
    decoded and keep the header, so a body that does not look encoded is taken as it is. Raises BadPayload (`bad_encoding`).
    """
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = join_chunks(body)
    codings = [coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")]
    if len(codings) > 8:
        raise BadPayload("bad_encoding", f"{len(codings)} content codings")
    over = False
    for coding in reversed(codings):
        body = _decoded(coding.removeprefix("x-"), body, limit)
        over = over or len(body) > limit
        body = cut(body, limit)
    return body, over


def cut(data: bytes, limit: int) -> bytes:
    """The first `limit` bytes, or up to three fewer, so that no character of UTF-8 is cut."""
    if len(data) <= limit:
        return data
    for end in range(limit, max(0, limit - 4), -1):
        if data[end] & 0xC0 != 0x80:  # a character begins behind this place
            return data[:end]
    return data[:limit]


def join_chunks(body: bytes) -> bytes:
    """Chunked transfer coding undone, up to where it is cut off; a body that is not in chunks as it is."""
    parts: list[bytes] = []
    position = 0
    while (chunk := _CHUNK.match(body, position)) is not None:
        size = int(chunk[1], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[chunk.end() : chunk.end() + size])
        position = chunk.end() + size
        if position >= len(body):
            return b"".join(parts)
        position += (
            2 if body[position : position + 2] == b"\r\n" else 1 if body[position : position + 1] == b"\n" else 0
        )
    return b"".join(parts) if len(parts) > 1 else body


def _decoded(coding: str, body: bytes, limit: int) -> bytes:
    """The body with one coding undone: all of it, or more than `limit` bytes of it."""
    try:
        if coding == "gzip":
            return _inflate(body, 31, limit) if body.startswith(b"\x1f\x8b") else body
        if coding == "deflate":
            return _deflate(body, limit)
        if coding == "br":
            return _brotli(body, limit)
        if coding == "zstd":
            return _zstd(body, limit) if body.startswith(b"\x28\xb5\x2f\xfd") else body
    except zlib.error as error:
        raise BadPayload("bad_encoding", f"{coding}: {str(error).rpartition(': ')[2]}") from None
    if coding in ("", "identity", "none", "utf-8") or not _BINARY.search(body[:1024]):
        return body
    raise BadPayload("bad_encoding", f"content coding {coding[:40]!r} is not known")


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    """Everything that decodes, also where the body is cut off; raises zlib.error where it is damaged."""
    return zlib.decompressobj(window).decompress(body, limit + 1)


def _deflate(body: bytes, limit: int) -> bytes:
    """With the zlib wrapper, as the standard says, or bare, as some servers send it."""
    try:
        return _inflate(body, 15, limit)
    except zlib.error:
        if _looks_like_text(body):
            return body
        return _inflate(body, -15, limit)


def _brotli(body: bytes, limit: int) -> bytes:
    import brotli

    decoder = brotli.Decompressor()
    parts = []
    size = 0
    data = body
    try:
        while True:
            out = decoder.process(data, output_buffer_limit=1 << 20)
            data = b""
            size += len(out)
            parts.append(out)
            if size > limit or decoder.is_finished() or decoder.can_accept_more_data():
                return b"".join(parts)
    except brotli.error as error:
        if _looks_like_text(body):
            return body
        raise BadPayload("bad_encoding", f"br: {error}") from None


def _zstd(body: bytes, limit: int) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(body) as reader:
            return bytes(reader.read(limit + 1))
    except zstandard.ZstdError as error:
        raise BadPayload("bad_encoding", f"zstd: {error}") from None


def _looks_like_text(body: bytes) -> bool:
    return b"<" in body[:1024] and not _BINARY.search(body[:1024])


def mime_of(identified: str | None, declared: str | None, body: bytes) -> str:
    """The MIME type in lower case: what the crawler identified, else what the server declared, else what the bytes say.

    `application/octet-stream` and an unreadable type are no declaration.
    """
    for given in (identified, declared):
        kind = (given or "").partition(";")[0].strip().lower()
        if kind == "application/octet-stream" and body and _SNIFF.match(body):
            return "text/html"
        if re.fullmatch(r"[\w!#$&^.+-]{1,80}/[\w!#$&^.+-]{1,80}", kind):
            return kind
    return "text/html" if _SNIFF.match(body) else "application/octet-stream"
