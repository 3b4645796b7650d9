"""One formula's TeX: cleaned, and told from prose."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_TEX = 20_000
"""A longer one, in characters, is not taken for a formula."""

INLINE, DISPLAY, VERBATIM, END = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
"""Unicode noncharacters: what begins a formula in a block's text, what begins characters that are no text, what ends both."""
SENTINELS = re.compile("[\ufdd0-\ufdd3]")

_DOCUMENT = re.compile(r"\\begin\{document\}(.*?)\\end\{document\}", re.DOTALL)
_CDATA = re.compile(r"%?\s*<!\[CDATA\[|%?\s*\]\]>")
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*(?:\n\s*|\Z)")
# Without what it looks back at, a run of spaces would be tried from each of its characters.
_BLANK_LINES = re.compile(r"(?<![ \t])[ \t]*\n\s*")
_BREAK = re.compile(r"<br\s?/?>", re.IGNORECASE)
_BREAK_OR_COMMENT = re.compile(r"<br\s?/?>|<!--.{0,500}?-->", re.IGNORECASE | re.DOTALL)
_MAX_COMMENTS = 50
_ROW_SKIP = re.compile(r"\\\\\[[^\]\\]{0,20}\]\Z")
_DOLLAR = re.compile(r"\\.|\$+", re.DOTALL)
_WRAPPERS = (
    ("$$", "$$", True), ("\\[", "\\]", True), ("\\(", "\\)", False), ("$", "$", False), ("[itex]", "[/itex]", False),
    ("[tex]", "[/tex]", False), ("[latex]", "[/latex]", False), ("[math]", "[/math]", False), ("##", "##", False),
)  # fmt: skip
_WRAPPED = frozenset(opening[0] for opening, _, _ in _WRAPPERS)
_TEX = re.compile(r"\\[A-Za-z]+|[_^=<>+{}]|[\d)]\s?[-*/]\s?[\dA-Za-z(]|[A-Za-z]\s?[-*/]\s?\d")
_SYMBOL = re.compile(
    r"\\?[A-Za-z]\w?'*|-?\d+(?:\.\d+)?|[A-Za-z]\([A-Za-z](?:,\s?[A-Za-z])*\)|\([A-Za-z](?:,\s?[A-Za-z])*\)"
)
_PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}[,.;:]?\s+[A-Za-z]{2,}[,.;:]?\s+[A-Za-z]{2,}")
_COMMAND = re.compile(r"\\[A-Za-z]{2,}")


@dataclass(frozen=True, slots=True)
class Formula:
    """A node of the page whose subtree a formula replaces: its TeX without delimiters; `display`: on a line of its own."""

    node: int
    tex: str
    display: bool


def clean(tex: str) -> str:
    """TeX as it can stand between dollars: no comments, no blank lines, no dollar of its own (`$x$` inside a `\\text` becomes
    `\\(x\\)`), no row break or lone backslash at its end. Empty if nothing is left or it is longer than `MAX_TEX`."""
    return unwrapped(tex)[0]


def unwrapped(tex: str) -> tuple[str, bool | None]:
    """Cleaned TeX, and whether the delimiters that it came in say display (None: it came without)."""
    if not tex or len(tex) > MAX_TEX:
        return "", None
    if not tex.isascii():
        tex = SENTINELS.sub("", tex)
    if "\\begin{document}" in tex:
        inner = _DOCUMENT.search(tex)
        tex = inner[1] if inner else tex
    if "CDATA[" in tex:
        tex = _CDATA.sub("", tex)
    if "<" in tex:
        tex = (_BREAK_OR_COMMENT if tex.count("<!--") <= _MAX_COMMENTS else _BREAK).sub(" ", tex)
    if "%" in tex and "\n" in tex:
        tex = _COMMENT.sub(r"\1", tex)
    tex, display = tex.strip(), None
    for opening, closing, block in _WRAPPERS if tex[:1] in _WRAPPED else ():
        if tex.startswith(opening) and tex.endswith(closing) and len(tex) >= len(opening) + len(closing):
            inside = tex[len(opening) : len(tex) - len(closing)]
            if opening not in inside and closing not in inside and not inside.endswith("\\"):
                tex, display = inside, block
                break
    if "\n" in tex:
        tex = _BLANK_LINES.sub("\n", tex).strip()
    tex = _shortened(tex.strip())
    return (_undollared(tex) if "$" in tex else tex), display


def _shortened(tex: str) -> str:
    """Without white space, row breaks and lone backslashes at the end, which would take the closing dollar for themselves."""
    end = len(tex)
    while end and tex[end - 1] in "\\]":
        if tex[end - 1] == "]":
            skip = _ROW_SKIP.search(tex, max(0, end - 30), end)
            if not skip:
                break
            end = skip.start()
        while end and tex[end - 1] == "\\":
            end -= 1
        while end and tex[end - 1].isspace():
            end -= 1
    return tex[:end]


def _undollared(tex: str) -> str:
    count = sum(match[0][0] == "$" for match in _DOLLAR.finditer(tex))
    seen = 0

    def replaced(match: re.Match[str]) -> str:
        nonlocal seen
        if match[0][0] != "$":
            return match[0]
        seen += 1
        if seen == count and count % 2:
            return "\\$"
        return "\\(" if seen % 2 else "\\)"

    return _DOLLAR.sub(replaced, tex)


def looks_tex(tex: str) -> bool:
    """Whether a string reads as a formula rather than as words: a command, a script, an operator or a symbol alone."""
    tex = tex.strip()
    if not tex or len(tex) > MAX_TEX:
        return False
    if _SYMBOL.fullmatch(tex):
        return True
    return _TEX.search(tex) is not None and (_COMMAND.search(tex) is not None or not _PROSE.search(tex[:2000]))
