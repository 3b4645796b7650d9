"""What a worker and its extraction process say to each other.

Pages lie in memory that both see: a pipe carries 64 kB at a time, a page has 200, and both sides would wait for each other.
The pipe to the process says only where a batch's headers stand in that memory; they say where its pages do. Answers are
small and come back through a pipe, each a JSON header and bytes with their lengths before them.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

BATCH = struct.Struct("<QQ")
LENGTHS = struct.Struct("<II")
LARGEST = 1 << 30
_UNIT = 1 << 20
_KEPT = 32 << 20


class BadFrame(Exception):
    """What came is no message: the other side is not to be trusted any more."""


class Area:
    """Memory shared with one other process by its file descriptor. It has no name: the kernel frees it when both are gone,
    however they end."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("curate-pages")
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())
        self._map: mmap.mmap | None = None

    def put(self, headers: Sequence[dict[str, Any]], bodies: Sequence[bytes]) -> bytes:
        """Lays down a batch; gives the message that says where it is."""
        begin = sum(map(len, bodies))
        head = json.dumps([header | {"size": len(body)} for header, body in zip(headers, bodies, strict=True)]).encode()
        area = self._of_size(begin + len(head))
        area.seek(0)
        for part in (*bodies, head):
            area.write(part)
        return BATCH.pack(begin, len(head))

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        os.close(self.descriptor)

    def _of_size(self, needed: int) -> mmap.mmap:
        """The memory, grown where it is too small, and shrunk where one large page had made it so."""
        size = -(-needed // _UNIT) * _UNIT
        if self._map is None or len(self._map) < size or len(self._map) > max(size, _KEPT):
            if self._map is not None:
                self._map.close()
                self._map = None
            os.ftruncate(self.descriptor, size)
            self._map = mmap.mmap(self.descriptor, size)
        return self._map


class AreaView:
    """The other side of an Area: reads only."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map: mmap.mmap | None = None

    def get(self, message: bytes) -> tuple[list[dict[str, Any]], Callable[[int, int], bytes]]:
        """The headers of the batch that a message names, and the function that gives the bytes from a place, so many."""
        begin, length = BATCH.unpack(message)
        size = os.fstat(self._descriptor).st_size
        if self._map is None or len(self._map) != size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._descriptor, size, prot=mmap.PROT_READ)
        area = self._map
        return json.loads(area[begin : begin + length]), lambda start, count: area[start : start + count]


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One message as bytes."""
    data = json.dumps(header).encode()
    return LENGTHS.pack(len(data), len(body)) + data + body


def read(take: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """One message, by a function that gives exactly so many bytes. Raises BadFrame, and what the function raises."""
    first, second = LENGTHS.unpack(take(LENGTHS.size))
    if first > LARGEST or second > LARGEST:
        raise BadFrame("a message over the limit")
    try:
        header = json.loads(take(first))
    except ValueError as error:
        raise BadFrame(str(error)) from None
    if not isinstance(header, dict):
        raise BadFrame("the header is no object")
    return header, take(second)
