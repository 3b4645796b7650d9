"""The inside of a paragraph as Markdown (CommonMark 0.31 with GitHub's tables): escapes, emphasis, code, links.

Styles travel as noncharacters in the text, which no page can bring along, through whatever is done to the text in between.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from curate.stages.extract.content.layout import CODE_STYLE, EMPHASIS, STRONG

_STYLE, _LINK, _UNLINK, _HELD = 0xFDE0, "\ufde8", "\ufde9", "\ufdea"
_MARK = re.compile("[\ufde0-\ufdea]")
# What a pattern begins with, before all else: most characters are none of these.
_TOKEN = re.compile(
    "(?=[$\\\\\ufde0-\ufdea])(?:"
    r"(?P<escaped>\\[$\\])|(?P<math>\$\$(?:\\.|[^\\$]|\$(?!\$))*\$\$|\$(?:\\.|[^\\$])+\$)|(?P<mark>["
    + "\ufde0-\ufdea]))",
    re.DOTALL,
)
_SPECIAL = re.compile(r"[\\`*_\]<&~]")
_ALWAYS = r"\\(?=[!-/:-@\[-`{-~\n]|\Z)|`|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w{1,32};)|~(?=~)"
# The places before which a backslash goes. They have no length: a substitution that repeats what it found takes longer.
_ESCAPE = re.compile(rf"(?=[\\`*_\]<&~])(?={_ALWAYS}|(?<! )\*|\*(?! )|\](?=[(\[:]))")
_ESCAPE_STYLED = re.compile(rf"(?=[\\`*_\]<&~])(?={_ALWAYS}|\*|\](?=[(\[:]))")
_ESCAPE_IN_LINK = re.compile(rf"(?=[\\`*_\[\]<&~])(?={_ALWAYS}|\*|[\[\]])")
_BACKSLASH = r"\\"
_FORMULA = re.compile(r"(\$\$[^$]*\$\$|\$[^$]+\$)")
_LINE_START = re.compile(
    r"^(?:#{1,6}(?=[ \t]|$)|>|[-+*](?=[ \t]|$)|=+(?=[ \t]*$)|-(?=[- \t]*$)|~~~|[|:](?=[|: \t]*+-[-|: \t]*+$)"
    r"|(?P<number>\d{1,9})[.)](?=[ \t]|$))",
    re.MULTILINE,
)
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_IN_ADDRESS = str.maketrans({c: f"%{ord(c):02X}" for c in ' ()<>\\|"`'})
_MARKERS = {STRONG: "**", EMPHASIS: "*", STRONG | EMPHASIS: "***"}


@dataclass(slots=True)
class Marked:
    """A paragraph's text with its styles as noncharacters; the code and the addresses that stand behind them, in order."""

    text: str
    codes: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


def mark(spans: Iterable[tuple[str, str, int, str]]) -> Marked:
    """The text of spans: what stands before each (white space or nothing), its characters, its style, its link's address."""
    merged: list[tuple[list[str], int, str]] = []
    for gap, text, style, address in spans:
        if merged and (style, address) == merged[-1][1:]:
            # One text is made of them later: to add to it again and again is quadratic.
            merged[-1][0].extend((gap, text))
            continue
        if gap and merged:
            same = merged[-1][2] == address
            merged.append(([gap], merged[-1][1] & style & ~CODE_STYLE, address if same else ""))
        merged.append(([text], style, address))
    out: list[str] = []
    found = Marked("")
    style, address = 0, ""
    for texts, next_style, next_address in merged:
        if next_address != address:
            if address:
                out.append(_UNLINK)
            if next_address:
                out.append(_LINK)
                found.addresses.append(next_address)
            address = next_address
        if next_style & ~CODE_STYLE != style:
            style = next_style & ~CODE_STYLE
            out.append(chr(_STYLE + style))
        if next_style & CODE_STYLE:
            out.append(_HELD)
            found.codes.append("".join(texts))
        else:
            out += texts
    if address:
        out.append(_UNLINK)
    found.text = "".join(out)
    return found


def plain(marked: Marked) -> str:
    """The text without its styles, code in its place."""
    if marked.text.isascii():
        return marked.text
    codes = iter(marked.codes)
    return _MARK.sub(lambda found: next(codes, "") if found[0] == _HELD else "", marked.text)


@dataclass(slots=True)
class _Run:
    """Characters of one style, escaped."""

    style: int
    link: int
    text: str


def inline(marked: Marked, formulas: bool) -> str:
    """A paragraph as Markdown, its line breaks as they are. `formulas`: `$…$` in the text is TeX, `\\$` a dollar."""
    text = marked.text
    formulas = formulas and ("$" in text or "\\\\" in text)
    if not formulas and not marked.codes and (text.isascii() or not _MARK.search(text)):
        return _lines(_ESCAPE.sub(_BACKSLASH, text)) if _SPECIAL.search(text) else _lines(text)
    runs = list(_runs(marked, formulas))
    out: list[str] = []
    before = ""
    index = 0
    while index < len(runs):
        end = index + 1
        while end < len(runs) and runs[end].link == runs[index].link:
            end += 1
        group = runs[index:end]
        after = runs[end].text[:1] if end < len(runs) else ""
        if group[0].link >= 0:
            content = _emphasised(group, "[", "]")
            bare = content.strip()
            if bare:
                left = content[: len(content) - len(content.lstrip())]
                right = content[len(content.rstrip()) :]
                # An exclamation mark would make a picture of it.
                if before == "!" and not left:
                    out[-1] = out[-1][:-1] + "\\!"
                content = f"{left}[{_closed(bare)}]({marked.addresses[group[0].link]}){right}"
        else:
            content = _emphasised(group, before, after)
        if content:
            out.append(content)
            before = content[-1]
        index = end
    return _lines("".join(out).strip())


def specials(text: str) -> int:
    """How much there is in a text for `inline` to look at."""
    return sum(map(text.count, "\\`*_]<&~$")) + 3 * text.count("\n")


def escaped(marked: Marked, formulas: bool) -> str:
    """A paragraph as Markdown on one line, without styles, all that may have a meaning escaped: in a few passes, whatever it
    holds."""
    text = plain(marked).replace("\n", " ")
    if not formulas or "$" not in text:
        return _lines(_all_escaped(text))
    # A backslash and a dollar that are escaped already stand aside as noncharacters.
    text = text.replace("\\\\", "\ufdeb").replace("\\$", "\ufdec")
    parts = _FORMULA.split(text)
    parts[::2] = map(_all_escaped, parts[::2])
    return _lines("".join(parts).replace("\ufdeb", "\\\\").replace("\ufdec", "\\$"))


def _all_escaped(text: str) -> str:
    for character in "\\`*_]<&~":
        text = text.replace(character, "\\" + character)
    return text


def _runs(marked: Marked, formulas: bool) -> Iterator[_Run]:
    codes = iter(marked.codes)
    style, link, links = 0, -1, -1
    parts: list[str] = []
    at = 0
    text = marked.text

    def ordinary(piece: str) -> str:
        if link < 0 and not _SPECIAL.search(piece):
            return piece
        return (_ESCAPE_IN_LINK if link >= 0 else _ESCAPE_STYLED if style else _ESCAPE).sub(_BACKSLASH, piece)

    for token in (_TOKEN if formulas else _MARK).finditer(text):
        if token.start() > at:
            parts.append(ordinary(text[at : token.start()]))
        at = token.end()
        word = token[0]
        if word[0] == "$":
            held = _MARK.sub(lambda found: next(codes, "") if found[0] == _HELD else "", word)
            parts.append(" ".join(held.split("\n")))
            continue
        if word[0] == "\\":
            # An escaped dollar stays one; a backslash is one.
            parts.append(word if word[1] == "$" else "\\\\")
            continue
        if word == _HELD:
            parts.append(code_span(next(codes, "")))
            continue
        if parts:
            yield _Run(style, link, "".join(parts))
            parts = []
        if word == _LINK:
            links += 1
            link = links
        elif word == _UNLINK:
            link = -1
        else:
            style = ord(word) - _STYLE
    if at < len(text):
        parts.append(ordinary(text[at:]))
    if parts:
        yield _Run(style, link, "".join(parts))


def _emphasised(runs: list[_Run], before: str, after: str) -> str:
    """Runs between two characters, emphasis set where CommonMark reads it as such, left out where it would not."""
    out: list[str] = []
    for index, run in enumerate(runs):
        core = run.text.strip()
        if not run.style or not core:
            out.append(run.text)
            before = run.text[-1:] or before
            continue
        left = run.text[: len(run.text) - len(run.text.lstrip())]
        right = run.text[len(run.text.rstrip()) :]
        previous = left[-1:] or before
        following = right[:1] or (runs[index + 1].text[:1] if index + 1 < len(runs) else after)
        opens = previous != "*" and (core[0].isalnum() or _is_edge(previous))
        closes = following != "*" and (core[-1].isalnum() or _is_edge(following))
        marker = _MARKERS[run.style] if opens and closes else ""
        text = f"{left}{marker}{_closed(core) if marker else core}{marker}{right}"
        out.append(text)
        before = text[-1]
    return "".join(out)


def _closed(text: str) -> str:
    """A text that takes no backslash from, nor gives one to, the mark that comes after it."""
    return text + "\\" if (len(text) - len(text.rstrip("\\"))) % 2 else text


def _is_edge(character: str) -> bool:
    return not character or character.isspace() or unicodedata.category(character)[0] in "PS"


def code_span(text: str) -> str:
    """Inline code, its fence longer than any run of backticks inside."""
    text = " ".join(text.split("\n")).strip()
    if not text:
        return ""
    fence = "`" * (_longest(text) + 1)
    pad = " " if text[0] == "`" or text[-1] == "`" else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def fence(text: str) -> str:
    """Backticks that can stand around a listing: three or more, more than any run inside."""
    return "`" * max(3, _longest(text) + 1)


def _longest(text: str) -> int:
    most = 0
    while "`" * (2 * most + 1) in text:
        most = 2 * most + 1
    step = most + 1
    while step > 1:
        step //= 2
        if "`" * (most + step) in text:
            most += step
    return most


def _lines(text: str) -> str:
    """No line begins as a heading, a quotation, a list item, a rule, a fence or a table's rule would."""
    return _LINE_START.sub(_escaped_start, text)


def _escaped_start(found: re.Match[str]) -> str:
    if found["number"]:
        return f"{found['number']}\\{found[0][-1]}"
    return "\\" + found[0]


def address(href: str) -> str:
    """A link's target as Markdown writes it; empty for one that is not http, https, mailto or relative, or only a fragment."""
    bare = href.strip()
    if not bare.isprintable():
        bare = "".join(character for character in bare if character.isprintable())
    scheme = _SCHEME.match(bare)
    if not bare or bare[0] == "#" or (scheme and scheme[1].lower() not in ("http", "https", "mailto")):
        return ""
    return bare.translate(_IN_ADDRESS)
