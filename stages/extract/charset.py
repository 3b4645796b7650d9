"""Bytes of a page to text: any bytes give valid Unicode, without NUL and lone surrogates."""

from __future__ import annotations

import codecs
import re

from curate.stages.extract.records import clean

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(
    rb"<(?:meta\b[^>]{0,500}?charset|\?xml\b[^>]{0,200}?encoding)\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE
)
_WIDER = {
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
}
"""What browsers decode under these names: supersets that real pages use."""
META_BYTES = 4096
"""How far a declaration in the page is looked for. Browsers stop at 1024; real pages put scripts before it."""
DETECT_BYTES = 1 << 16
_TOLERATED = 0.01


def decode(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """The text and the name of the Python codec that it was decoded with.

    A byte order mark decides; then valid UTF-8 does, whatever is declared, for no other charset gives it by chance; then the
    HTTP header's charset (`declared`), the page's own, and what a detector says of the first 64 kB; at last cp1252.
    A declared charset is believed if at most 1 % of the characters do not decode.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return clean(data[len(mark) :].decode(name, "replace")), name
    names = [codec for codec in (codec_of(declared), codec_of(_declared_inside(data))) if codec]
    if not any(name == "iso2022_jp" for name in names):
        try:
            return clean(data.decode("utf-8")), "utf-8"
        except UnicodeDecodeError:
            pass
    for name in names:
        text = data.decode(name, "replace")
        if text.count("\ufffd") <= _TOLERATED * len(text):
            return clean(text), name
    name = _detected(data) or "cp1252"
    return clean(data.decode(name, "replace")), name


def codec_of(label: str | None) -> str | None:
    """The Python codec of a charset label of the web (WHATWG's only: never `hex` or `unicode_escape`); None if unknown."""
    if not label:
        return None
    from resiliparse.parse.encoding import map_encoding_to_html5

    name = map_encoding_to_html5(label.strip().lower(), fallback_utf8=False)
    if name is None:
        return None
    name = _WIDER.get(name, name)
    try:
        return name if codecs.lookup(name) else None
    except LookupError:
        return None


def _declared_inside(data: bytes) -> str | None:
    found = _META.search(data[:META_BYTES])
    if found is None:
        return None
    label = found[1].decode("ascii")
    # The declaration could be read as ASCII, so it cannot be true: browsers take it for UTF-8.
    return "utf-8" if label.lower().startswith("utf-16") else label


def _detected(data: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    return codec_of(detect_encoding(data[:DETECT_BYTES], max_len=DETECT_BYTES))
