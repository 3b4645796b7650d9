"""Numbers and hostile text as a person reads them: thousands separators, shares, control characters made harmless."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any
from urllib.parse import urlsplit

# Bidirectional overrides and isolates reorder the text around them; tag characters and byte-order marks hide text.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_KEPT_FORMATS = frozenset("\u200c\u200d\u00ad")  # joiners of Indic and Arabic script, soft hyphen
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def clean(value: Any, limit: int = 300, *, lines: bool = False) -> str:
    """Text from outside, cut to `limit` characters, every control, format or unassigned character shown as U+FFFD.

    Bytes that are not UTF-8 become U+FFFD as well. Without `lines`, white space becomes single spaces.
    """
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    cut = len(text) > limit
    text = text[: limit * 2]
    text = text.replace("\r\n", "\n").replace("\r", "\n") if lines else " ".join(text.split())
    safe = "".join(_visible(character) for character in text[:limit])
    return safe.rstrip() + "…" if cut or len(text) > limit else safe


def _visible(character: str) -> str:
    if character in "\n\t" or character in _KEPT_FORMATS:
        return character
    return "\ufffd" if unicodedata.category(character) in _UNSAFE_CATEGORIES else character


def link(value: Any) -> str | None:
    """The URL if a browser may be sent there (http or https, a host, no user name, no control character), else None."""
    if (
        not isinstance(value, str)
        or len(value) > 2000
        or not value.isprintable()
        or any(c in value for c in " \"'<>\\`")
    ):
        return None
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        return None
    return value if parts.scheme in ("http", "https") and host and "@" not in parts.netloc else None


def without_secrets(text: str) -> str:
    """The text with the user, password and query string of every URL in it removed."""
    from curate.pipeline.workspace import redact

    return _URL.sub(lambda match: redact(match.group()), text)


def count(value: float | None) -> str:
    """A whole number with thousands separators: `1,234,567`."""
    return "–" if value is None else f"{round(value):,}"


def compact(value: float) -> str:
    """A number in few characters, for axes: `950`, `9,999`, `12.3k`, `1.2M`, `45B`, `7.1T`."""
    if abs(value) < 10_000:
        return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:.3g}"
    for unit, letter in ((1e3, "k"), (1e6, "M"), (1e9, "B")):
        if abs(value) < unit * 999.5:
            return f"{value / unit:.3g}{letter}"
    return f"{value / 1e12:,.3g}T"


def share(part: float, whole: float) -> str:
    """A percentage with one decimal: `12.3%`; `<0.1%` for what is there but tiny; a dash where there is no whole."""
    if whole <= 0:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "<0.1%"
    if 99.95 <= percent < 100:
        return ">99.9%"
    return f"{percent:.1f}%"


def measured(value: float | None) -> str:
    """A measured value or a threshold, to four significant digits, without an exponent where it can be read without."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}" if abs(value) < 1e15 else f"{value:.3e}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.4g}"
