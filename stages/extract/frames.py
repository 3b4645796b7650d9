"""Messages between a worker and its extraction process: a JSON header and bytes, each with its length before it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

LENGTHS = struct.Struct("<II")
LARGEST = 1 << 30


class BadFrame(Exception):
    """What came is no message: the other side is not to be trusted any more."""


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
