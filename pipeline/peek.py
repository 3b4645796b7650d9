"""What the first bytes of a file say: its format, and the crawl that a WARC file belongs to. Any bytes are tolerated."""

from __future__ import annotations

import io
import re
import zlib

HEAD_BYTES = 1 << 16
"""Bytes of a file that are looked at."""
UNPACKED_BYTES = 1 << 17
"""Bytes unpacked of them at most."""

_ZSTD = b"\x28\xb5\x2f\xfd"
_FIELD = re.compile(rb"^([A-Za-z-]+)[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE)


def sniff_format(head: bytes) -> str | None:
    """warc, jsonl or parquet by a file's first bytes, packed or not; None if they are none of these."""
    if head.startswith(b"PAR1"):
        return "parquet"
    text = unpacked(head).removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"WARC/", b"filedesc:")):
        return "warc"
    return "jsonl" if text.startswith(b"{") else None


def warcinfo_snapshot(head: bytes) -> str | None:
    """`isPartOf` of the warcinfo record that a WARC file begins with, or None."""
    text = unpacked(head).lstrip()
    if not text.startswith(b"WARC/"):
        return None
    end = re.search(rb"\r?\n\r?\n", text)
    if end is None:
        return None
    headers = _fields(text[: end.start()])
    if headers.get(b"warc-type", b"").lower() != b"warcinfo":
        return None
    length = headers.get(b"content-length", b"")
    if not re.fullmatch(rb"\d{1,9}", length):
        return None
    value = _fields(text[end.end() : end.end() + int(length)]).get(b"ispartof", b"").strip()
    return value.decode("utf-8", "replace") or None


def unpacked(head: bytes) -> bytes:
    """The beginning of what a gzip or zstd file holds, as far as it goes; other bytes as they are."""
    if head.startswith(b"\x1f\x8b"):
        try:
            return zlib.decompressobj(31).decompress(head, UNPACKED_BYTES)
        except zlib.error:
            return b""
    if head.startswith(_ZSTD):
        import zstandard

        data = bytearray()
        try:
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(head)) as reader:
                while len(data) < UNPACKED_BYTES and (piece := reader.read(1 << 14)):
                    data += piece
        except zstandard.ZstdError:
            return bytes(data)
        return bytes(data)
    return head


def _fields(block: bytes) -> dict[bytes, bytes]:
    """`Name: value` lines, names in lower case; the first of a name counts."""
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(block):
        fields.setdefault(name.lower(), value.strip())
    return fields
