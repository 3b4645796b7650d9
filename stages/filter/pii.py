"""Personal addresses: e-mail and public IPv4 addresses, found and masked as FineWeb does.

A mask is chosen from a fixed set by the address's own hash, so that the same input gives the same bytes and one
address the same mask throughout a page.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from zlib import crc32

EMAIL_MASKS = ("email@example.com", "firstname.lastname@example.org")
"""datatrove `PIIFormatter`, as FineWeb used it."""
IP_MASKS = ("22.214.171.124", "126.96.36.199", "188.8.131.52", "184.108.40.206", "220.127.116.11", "18.104.22.168")
"""datatrove `PIIFormatter`: addresses that did not answer."""

Finder = Callable[[str], list[tuple[int, int]]]
"""Gives the spans (positions in the string) of what it finds, in order, without overlaps."""

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+/=?^_`{|}~.-")
_LOCAL_MOST = 64
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z][A-Za-z0-9-]{0,61}[A-Za-z0-9](?![\w@])"
)
_DOMAIN_MOST = 256
_NO_DOMAINS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "css", "js", "html", "pdf", "mp4", "webm"})
"""Endings of file names such as `logo@2x.png`."""

_IP = re.compile(r"(?<![\w.-])(?<![A-Za-z]/)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w@]|[.-][0-9])")
_VERSION = re.compile(
    r"(?:\b(?:versions?|ver|v|release|rev|revision|build|firmware|driver|update|patch|section|chapter|clause|article|§)"
    r"[.:#]?\s{0,3}|§\s{0,3})\Z",
    re.IGNORECASE,
)
_SECTION_MOST = 40


def find_emails(text: str) -> list[tuple[int, int]]:
    """Spans of e-mail addresses: up to 64 ASCII characters, `@`, a domain whose last label is no file's ending.

    Time is linear in the text, whatever it holds.
    """
    found: list[tuple[int, int]] = []
    at = text.find("@")
    while at >= 0:
        behind = found[-1][1] if found else 0
        start = at
        while start > behind and at - start < _LOCAL_MOST and text[start - 1] in _LOCAL:
            start -= 1
        while start < at and not text[start].isalnum():
            start += 1
        domain = _DOMAIN.match(text, at + 1, at + 1 + _DOMAIN_MOST)
        plain = start < at and text[at - 1] != "." and ".." not in text[start:at]
        if domain and plain and domain.group().rpartition(".")[2].lower() not in _NO_DOMAINS:
            found.append((start, domain.end()))
            at = domain.end() - 1
        at = text.find("@", at + 1)
    return found


def find_ips(text: str) -> list[tuple[int, int]]:
    """Spans of public IPv4 addresses.

    Not: private, reserved, multicast or documentation addresses; numbers behind a word such as "version" or a name and a
    slash (`Chrome/1.2.3.4`); the numbers that a heading begins with (`4.2.1.3 Results`, each at most 40).
    """
    return [match.span() for match in _IP.finditer(text) if _is_public(match.group()) and not _is_number(text, match)]


def mask(text: str, find: Finder, masks: Sequence[str]) -> str:
    """The text with every find replaced by one of the masks."""
    parts, behind = [], 0
    for start, stop in find(text):
        chosen = masks[crc32(text[start:stop].lower().encode()) % len(masks)]
        parts += [text[behind:start], chosen]
        behind = stop
    return "".join([*parts, text[behind:]])


def _is_public(address: str) -> bool:
    try:
        number = ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return number.is_global and not number.is_multicast and not number.is_reserved


def _is_number(text: str, match: re.Match[str]) -> bool:
    """True for the number of a version or a section."""
    start, stop = match.span()
    if _VERSION.search(text, max(0, start - 24), start):
        return True
    heads = start == 0 or text[start - 1] == "\n"
    small = all(int(part) <= _SECTION_MOST for part in match.group().split("."))
    return heads and small and re.match(r"[ \t]+[^\W\d_]", text[stop : stop + 8]) is not None
