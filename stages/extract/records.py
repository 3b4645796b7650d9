"""What the records of an input file are, whatever its format: pages to extract, texts to pass on, rows for the ledger."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curate.pipeline.ledger import DROPPED, QUARANTINED
from curate.stages.extract.payload import HTML_TYPES, BadPayload, body_of, cut, mime_of, split_http
from curate.stages.extract.warc import Damage, RawRecord

IGNORED = frozenset({"request", "metadata", "warcinfo"})
ID_LIMIT = 500
URL_LIMIT = 8_000
CUT = "max_bytes"
"""What `truncated` says of a page or text that was cut to `max_bytes`, whatever the crawler had cut before."""
_YEAR_10000 = 253_402_300_800
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d+)?)?)?\s*(Z|[+-]\d\d:?\d\d)?\s*")


@dataclass(frozen=True, slots=True)
class Page:
    """A record that can become a document. `body` is HTML where `markup`, else text in UTF-8. `number` is the record's
    place in the file, `offset` its byte (its row for JSONL and Parquet), `date` in seconds since 1970; `truncated`
    is CUT where the body was cut to the limit, else what WARC-Truncated says; the rest is what the HTTP header declares."""

    number: int
    offset: int
    id: str
    url: str | None
    date: int | None
    body: bytes
    markup: bool
    charset: str | None = None
    language: str | None = None
    robots: str | None = None
    truncated: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record for the ledger."""

    number: int
    offset: int
    id: str | None
    url: str | None
    outcome: str
    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Ignored:
    """A WARC record that is about another record."""

    kind: str


Item = Page | Rejected | Ignored


def from_damage(damage: Damage) -> Rejected:
    identity, url = _identity(damage.headers)
    return Rejected(damage.number, damage.offset, identity, url, QUARANTINED, damage.reason, damage.detail)


def from_warc(record: RawRecord, max_bytes: int) -> Item:
    """A WARC record as a page, a ledger row or nothing of its own."""
    headers = record.headers
    kind = headers.get("warc-type", "").strip().lower()
    if kind in IGNORED:
        return Ignored(kind)
    identity, url = _identity(headers)
    identity = identity or content_id(url, record.block)

    def rejected(outcome: str, reason: str, detail: str | None = None) -> Rejected:
        return Rejected(record.number, record.offset, identity, url, outcome, reason, detail)

    if kind == "revisit":
        return rejected(DROPPED, "revisit")
    truncated = clean(headers.get("warc-truncated", ""))[:100] or None
    date = seconds_of(headers.get("warc-date"))
    over = record.length > len(record.block)
    if kind == "conversion":
        mime = headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
        if mime != "text/plain":
            return rejected(DROPPED, "mime", clean(mime)[:200])
        over = over or record.length > max_bytes
        text = cut(record.block, max_bytes)
        return Page(
            record.number, record.offset, identity, url, date, text, False, truncated=CUT if over else truncated
        )
    if kind != "response":
        return rejected(DROPPED, "record_type", clean(kind)[:200] or "none declared")
    declared = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not record.block.startswith(b"HTTP/") and declared and declared != "application/http":
        return rejected(DROPPED, "mime", clean(declared)[:200])  # `dns:` and `ftp:` responses
    try:
        status, http, body = split_http(record.block)
        if status != 200:
            return rejected(DROPPED, "status", str(status))
        encoded = bool(http.get("content-encoding"))
        mime = mime_of(
            headers.get("warc-identified-payload-type"), http.get("content-type"), b"" if encoded else body[:2048]
        )
        if mime not in HTML_TYPES and not (encoded and mime == "application/octet-stream"):
            return rejected(DROPPED, "mime", mime)
        body, cut_here = body_of(http, body, max_bytes)
    except BadPayload as error:
        return rejected(QUARANTINED, error.reason, str(error))
    if encoded and mime not in HTML_TYPES and mime_of(None, None, body[:2048]) not in HTML_TYPES:
        return rejected(DROPPED, "mime", mime)
    return Page(
        record.number,
        record.offset,
        identity,
        url,
        date,
        body,
        True,
        charset=_charset(http.get("content-type", "")),
        language=http.get("content-language"),
        robots=_robots(http),
        truncated=CUT if over or cut_here else truncated,
    )


def _identity(headers: dict[str, str]) -> tuple[str | None, str | None]:
    identity = headers.get("warc-record-id", "").strip().removeprefix("<").removesuffix(">").removeprefix("urn:uuid:")
    url = headers.get("warc-target-uri", "").strip().removeprefix("<").removesuffix(">")
    return short_id(identity), clean(url)[:URL_LIMIT] or None


def short_id(identity: str) -> str | None:
    """An id that is safe to print and to key by: one too long, or with control characters, by its hash; None if empty."""
    if not identity:
        return None
    if len(identity) > ID_LIMIT or not identity.isprintable():
        return hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return identity


def content_id(url: str | None, body: bytes) -> str:
    """The id of a record that has none: 32 hex digits of its URL and content."""
    return hashlib.blake2b((url or "").encode("utf-8", "surrogatepass") + b"\0" + body, digest_size=16).hexdigest()


def clean(text: str) -> str:
    """The text as valid Unicode: a surrogate pair is one character, a lone surrogate and NUL are U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _charset(content_type: str) -> str | None:
    found = re.search(r"charset\s*=\s*[\"']?\s*([^\s\"';]{1,40})", content_type, re.IGNORECASE)
    return found[1] if found else None


def _robots(http: dict[str, str]) -> str | None:
    declared = http.get("x-robots-tag", "")
    if http.get("tdm-reservation", "").strip() == "1":
        declared += ",tdm-reservation"
    return declared or None


def seconds_of(value: Any) -> int | None:
    """A date as seconds since 1970: ISO 8601 text (UTC unless it says otherwise), a number, a datetime; else None."""
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return int(value.timestamp())
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value) if math.isfinite(value) and 0 <= value < _YEAR_10000 else None
    found = _DATE.fullmatch(str(value).strip()[:64])
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    zone = found[7] or "Z"
    shift = 0 if zone == "Z" else int(zone[:3]) * 60 + int(zone[0] + zone[-2:])
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(moment.timestamp()) - shift * 60
    return seconds if -_YEAR_10000 // 5 < seconds < _YEAR_10000 else None
