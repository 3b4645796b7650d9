"""Bytes of a page to text: any bytes give valid Unicode, without NUL and lone surrogates."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from curate.stages.extract.payload import cut
from curate.stages.extract.records import clean

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = {b".000": "utf-32-le", b"000.": "utf-32-be", b".0.0": "utf-16-le", b"0.0.": "utf-16-be"}
"""Where zeros stand among the first four bytes of ASCII text without a mark."""
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
_OTHERS = {
    "cp949": "cp949", "uhc": "cp949", "johab": "johab", "iso2022_kr": "iso2022_kr", "iso-2022-kr": "iso2022_kr",
    "cp852": "cp852", "ibm852": "cp852", "cp855": "cp855", "ibm855": "cp855", "cp437": "cp437", "cp850": "cp850",
    "mac-cyrillic": "mac_cyrillic", "maccyrillic": "mac_cyrillic", "mac-centraleurope": "mac_latin2",
    "iso8859-1": "cp1252", "iso8859-9": "cp1254", "euc_tw": "big5hkscs",
}  # fmt: skip
"""Charsets that the web's standard does not name, as labels and as the detector calls them. Nothing else of Python's."""
_NOT_ASCII = re.compile(rb"[\x80-\xff\x1b]")
_SHIFTS = (b"\x1b$@", b"\x1b$B", b"\x1b$)", b"\x1b(J", b"\x1b(I")
"""How text in ISO-2022 begins what is not ASCII: all its bytes are below 128, so it is also valid UTF-8."""
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
_SPACES = re.compile(r"[\x0b\x0c\x1c-\x1f\x85]")
_C0 = bytes(code for code in range(32) if code not in b"\t\n") + b"\x7f"
_BLANK_LINES = re.compile(r"(?:[^\S\n]*\n)+")
META_BYTES = 4096
"""How far a declaration in the page is looked for. Browsers stop at 1024; real pages put scripts before it."""
DETECT_BYTES = 1 << 16
_TOLERATED = 0.01


@dataclass(frozen=True, slots=True)
class Source:
    """A page's source as text and the same in UTF-8, and the Python codec that its bytes were decoded with."""

    text: str
    utf8: bytes
    codec: str


def decode(data: bytes, declared: str | None = None) -> tuple[str, str]:
    """The text and the name of the Python codec that it was decoded with.

    A byte order mark decides; then zeros in the places where UTF-16 and UTF-32 have them; then valid UTF-8 does, whatever is
    declared, for no other charset gives it by chance (nor hundreds of its sequences beside a few broken ones); then the
    HTTP header's charset (`declared`), the page's own, and what a detector says of 64 kB from the first byte on that is not
    ASCII; at last cp1252. A declared charset is believed if at most 1 % of the characters do not decode.
    """
    source = read(data, declared)
    return source.text, source.codec


def read(data: bytes, declared: str | None = None) -> Source:
    """The source of a page of bytes, decoded as `decode` says. Costs one strict decoding where the bytes are UTF-8."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _decoded(data[len(mark) :], name)
    if b"\0" in data[:4] and (wide := _WIDE.get(bytes(46 if byte else 48 for byte in data[:4]))):
        return _decoded(data, wide)
    if not _is_shifted(data):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            if _nearly_utf8(data, error.start):
                return _decoded(data, "utf-8")
        else:
            return Source(text, data, "utf-8") if b"\0" not in data else _encoded(clean(text), "utf-8")
    for codec in (codec_of(declared), codec_of(_declared_inside(data))):
        if codec is not None:
            text = data.decode(codec, "replace")
            if text.count("\ufffd") <= _TOLERATED * len(text):
                return _encoded(clean(text), codec)
    return _decoded(data, _detected(data) or "cp1252")


def source_of(text: str, limit: int) -> Source:
    """The source of a page that is text already, cut to so many bytes of UTF-8."""
    source = _encoded(clean(text), "utf-8")
    data = cut(source.utf8, limit)
    return source if len(data) == len(source.utf8) else Source(data.decode("utf-8"), data, "utf-8")


def _decoded(data: bytes, codec: str) -> Source:
    return _encoded(clean(data.decode(codec, "replace")), codec)


def _encoded(text: str, codec: str) -> Source:
    return Source(text, text.encode("utf-8"), codec)


def codec_of(label: str | None) -> str | None:
    """The Python codec of a charset label of the web (WHATWG's, and a few more: never `hex` or `unicode_escape`); None if
    unknown."""
    if not label:
        return None
    from resiliparse.parse.encoding import map_encoding_to_html5

    label = label.strip().lower()
    name = map_encoding_to_html5(label, fallback_utf8=False) or _OTHERS.get(label)
    if name is None:
        return None
    name = _WIDER.get(name, name)
    try:
        return name if codecs.lookup(name) else None
    except LookupError:
        return None


def _declared_inside(data: bytes) -> str | None:
    found = _META.search(data, 0, META_BYTES)
    if found is None:
        return None
    label = found[1].decode("ascii")
    # The declaration could be read as ASCII, so it cannot be true: browsers take it for UTF-8.
    return "utf-8" if label.lower().startswith(("utf-16", "utf-32")) else label


def _is_shifted(data: bytes) -> bool:
    return b"\x1b" in data and data.isascii() and any(mark in data for mark in _SHIFTS)


def _nearly_utf8(data: bytes, first: int) -> bool:
    """True if of the characters that are not ASCII, for 64 kB from a little before the first broken one, 95 % are whole
    UTF-8: a page cut off in a character, or with a comment pasted in from elsewhere."""
    start = max(0, first - DETECT_BYTES // 2)
    sample = data[start : first + DETECT_BYTES // 2].decode("utf-8", "replace")
    others = len(sample) - len(sample.encode("ascii", "ignore"))
    return others - sample.count("\ufffd") >= 0.95 * others


def _detected(data: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    found = _NOT_ASCII.search(data)
    start = max(0, found.start() - 256) if found else 0
    name = detect_encoding(data[start : start + DETECT_BYTES], max_len=DETECT_BYTES, html5_compatible=False)
    return _OTHERS.get(name.lower()) or codec_of(name) if name else None


def tidy(text: str) -> str:
    """The text as valid Unicode without control characters other than tab and newline, without blank lines at its ends."""
    text = clean(text)
    data = text.encode("utf-8")
    if len(data.translate(None, _C0)) != len(data) or b"\xc2" in data:  # 20 times as fast as the patterns below
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        text = _SPACES.sub(" ", _CONTROLS.sub("", text))
    text = text.rstrip()
    blank = _BLANK_LINES.match(text)
    return text[blank.end() :] if blank else text
