"""Formulas written in a page's text between delimiters: which delimiters the page says it uses, and their reading."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

import numpy as np

from curate.stages.extract.dom import Tree
from curate.stages.extract.dom.tags import ID, TEXT
from curate.stages.extract.maths import asciimath
from curate.stages.extract.maths.asciimath import MAX_ASCIIMATH
from curate.stages.extract.maths.forms import Found
from curate.stages.extract.maths.formula import DISPLAY, END, INLINE, SENTINELS, VERBATIM, clean, looks_tex, unwrapped
from curate.stages.extract.maths.symbols import words

MAX_FORMULA = 10_000
"""Characters between two delimiters."""
MAX_CONFIGURATION, MAX_CONFIGURATIONS = 200_000, 1_000_000
"""Characters that are read for delimiters: of a script, and of all scripts together."""
EACH_SCRIPT = 1_000
"""What a script counts for besides its characters."""
MAX_KEYS, MAX_PAIRS = 20, 20
"""Settings that are read in one script, and delimiters that a page may set."""
MAX_WORK = 300_000
"""What is spent on reading one page's text: one for each token, `EACH` for each formula and one for every 16 of its characters.
What stands beyond is taken as it is, its dollars escaped. A page of 2,000 formulas spends 50,000."""
EACH = 12
MAX_VAIN = 1_000_000
"""Characters of one page that are looked through for closing delimiters that do not come."""
MAX_TRIED = 400_000
"""Characters of one page that are read to know whether its text holds any formula."""

ENVIRONMENTS = frozenset(
    words(
        "equation align gather multline eqnarray flalign alignat displaymath math aligned gathered alignedat split array "
        "matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases dcases rcases CD subarray empheq dmath multlined"
    )
)

_KEY = re.compile(
    r"""\b(inlineMath|displayMath|delimiters)["']?\s{0,20}[:=]\s{0,20}(?:\{\s{0,20}["']\[[+-]\]["']\s{0,20}:\s{0,20})?\["""
)
_STRING = r"""(?:"((?:[^"\\\n]|\\.){1,40})"|'((?:[^'\\\n]|\\.){1,40})'|`((?:[^`\\\n]|\\.){1,40})`)"""
_PAIR = re.compile(rf"\[\s{{0,50}}{_STRING}\s{{0,50}},\s{{0,50}}{_STRING}\s{{0,50}},?\s{{0,50}}\]")
_OBJECT = re.compile(r"\{([^{}]{0,300})\}")
_SIDE = re.compile(
    r"""["']?\b(left|right|display)\b["']?\s{0,20}:\s{0,20}(?:"((?:[^"\\\n]|\\.){1,40})"|'((?:[^'\\\n]|\\.){1,40})'|(true|false|!0|!1))"""
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_ASCIIMATH = re.compile(
    r"ASCIIMathML|asciimath2jax|input/asciimath|config=[^\"'&]{0,40}\bAM_|AM_(?:HTMLorMML|CHTML|SVG)", re.IGNORECASE
)
_LOADED = re.compile(r"mathjax|katex|renderMathInElement|inlineMath|tex2jax|latexit|asciimathml", re.IGNORECASE)
_VERBATIM = frozenset(words("script style pre code textarea kbd samp xmp title noscript math svg annotation"))
_AMOUNT = re.compile(r"\s*\d[\d,.]*\s?(?:[kKmMbB]|bn|mn)?(?:\s+\Z|[\s,.;:!?)/-].*?[A-Za-z]{2})", re.DOTALL)
_BARE_AMOUNT = re.compile(r"\s*\d[\d,.]*\s?(?:[kKmMbB]|bn|mn)?\s+\Z")
_OF_FORMULAS, _TWO_LETTERS = re.compile(r"[\\^_{}=<>]"), re.compile("[A-Za-z]{2}")


@dataclass(frozen=True, slots=True)
class Pair:
    """An opening and a closing delimiter. `cautious`: what stands between must read as a formula."""

    opening: str
    closing: str
    display: bool
    cautious: bool = False
    asciimath: bool = False


@dataclass(frozen=True, slots=True)
class Delimiters:
    """How a page writes formulas in its text. `active`: it holds any formula, so that its literal dollars are escaped."""

    pairs: tuple[Pair, ...] = ()
    active: bool = False
    removed: tuple[int, ...] = field(default=(), compare=False)


def read(tree: Tree, found: Found) -> Delimiters:
    """The delimiters of a page: those that its scripts configure, else the defaults of the renderer that it loads; without
    either, `\\(…\\)`, `\\[…\\]`, `$$…$$` and bulletin-board tags around what reads as a formula."""
    configured: list[Pair] = []
    loaded, ascii_loaded = False, False
    left = MAX_CONFIGURATIONS
    for node in _of_scripts(tree, found.configuring):
        if left <= 0:
            break
        source = tree.source[int(tree.start[node]) : int(tree.stop[node])].decode("utf-8", "replace")[:2000]
        if tree.name(node) == "script":
            source += tree.text(node)[:MAX_CONFIGURATION]
        left -= len(source) + EACH_SCRIPT
        if tree.name(node) in ("script", "link", "math-renderer") and _LOADED.search(source):
            loaded = True
            ascii_loaded = ascii_loaded or _ASCIIMATH.search(source) is not None
            if tree.name(node) == "script":
                configured += configurations(source)
    pairs = _complete(list(dict.fromkeys(configured))[:MAX_PAIRS], loaded, ascii_loaded)
    if found.formulas:
        return Delimiters(pairs, True)
    if not (found.in_text or configured or ascii_loaded or loaded):
        return Delimiters(pairs, False)
    return Delimiters(pairs, _any_formula(tree, pairs))


def _of_scripts(tree: Tree, nodes: list[int]) -> list[int]:
    """The scripts, links and elements of no known name among nodes."""
    given = np.array(nodes, np.int64)
    found: list[int] = given[np.isin(tree.tag[given], (ID["script"], ID["link"], 0))].tolist()
    return found


def configurations(script: str) -> list[Pair]:
    """The delimiters that a script sets: `inlineMath` and `displayMath` of MathJax, `delimiters` of KaTeX and AsciiMath."""
    pairs: list[Pair] = []
    for key in islice(_KEY.finditer(script), MAX_KEYS):
        line = script[max(script.rfind("\n", 0, key.start()), key.start() - 200) + 1 : key.start()]
        if "//" in line.replace("://", ""):
            continue
        body = _array(script, key.end() - 1)
        before = script[max(0, key.start() - 150) : key.start()].lower()
        if key[1] == "delimiters" and _OBJECT.search(body):
            for each in _OBJECT.finditer(body):
                sides = {side[1]: side[2] or side[3] or side[4] for side in _SIDE.finditer(each[1])}
                if "left" in sides and "right" in sides:
                    pairs.append(
                        Pair(
                            _unquoted(sides["left"]), _unquoted(sides["right"]), sides.get("display") in ("true", "!0")
                        )
                    )
        else:
            is_ascii = key[1] == "delimiters"
            if is_ascii and "ascii" not in before:
                continue
            for pair in _PAIR.finditer(body):
                opening, closing = _unquoted(pair[1] or pair[2] or pair[3]), _unquoted(pair[4] or pair[5] or pair[6])
                pairs.append(Pair(opening, closing, key[1] == "displayMath", asciimath=is_ascii))
    return [pair for pair in pairs if _possible(pair)]


def _array(script: str, begin: int) -> str:
    """A JavaScript array literal, its brackets matched; at most 3,000 characters."""
    depth, quote, i = 0, "", begin
    while i < min(len(script), begin + 3000):
        character = script[i]
        if quote:
            if character == "\\":
                i += 1
            elif character == quote:
                quote = ""
        elif character in "\"'`":
            quote = character
        elif character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth == 0:
                return script[begin : i + 1]
        i += 1
    return script[begin : begin + 3000]


def _unquoted(literal: str) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[1] or found[2]:
            return chr(int(found[1] or found[2], 16))
        return {"n": "\n", "t": "\t"}.get(found[3], found[3])

    return _ESCAPE.sub(replaced, literal)


def _possible(pair: Pair) -> bool:
    """Not what would make formulas of half the page: a letter, a quotation mark, one bracket."""
    sides = (pair.opening.strip(), pair.closing.strip())
    return all(
        side and not SENTINELS.search(side) and not (side.isalnum() and len(side) < 2) and side not in _IMPOSSIBLE
        for side in sides
    )


def _complete(configured: list[Pair], loaded: bool, ascii_loaded: bool) -> tuple[Pair, ...]:
    """The page's pairs, each opening once: as configured, then the renderers' defaults, then what any page may use."""
    sure = loaded or bool(configured)
    defaults = [
        Pair("$$", "$$", True, not sure),
        Pair("\\[", "\\]", True, not sure),
        Pair("\\(", "\\)", False, not sure),
    ]
    if ascii_loaded and not any(pair.asciimath for pair in configured):
        defaults.append(Pair("`", "`", False, asciimath=True))
    if sure:
        defaults.append(Pair("$", "$", False, cautious=True))
    defaults += [
        Pair(f"[{name}]", f"[/{name}]", False, True) for name in ("itex", "imath", "ilatex", "latex", "tex", "math")
    ]
    defaults += [
        Pair(f"[{name.upper()}]", f"[/{name.upper()}]", False, True)
        for name in ("itex", "imath", "ilatex", "latex", "tex", "math")
    ]
    defaults.append(Pair("$latex ", "$", False, True))
    pairs: dict[str, Pair] = {}
    for pair in configured + defaults:
        pairs.setdefault(pair.opening, pair)
    return tuple(sorted(pairs.values(), key=lambda pair: -len(pair.opening)))


def _any_formula(tree: Tree, pairs: tuple[Pair, ...]) -> bool:
    """Whether any text outside scripts and code holds a delimited formula."""
    texts = np.flatnonzero(tree.tag == TEXT)
    starts = tree.start[texts]
    tried: set[int] = set()
    left = MAX_TRIED
    work = _Work()
    for opening in (*(pair.opening for pair in pairs), "\\begin{"):
        wanted, at = opening.encode(), -1
        for _ in range(500):
            at = tree.source.find(wanted, at + 1)
            if at < 0:
                break
            place = int(np.searchsorted(starts, at, side="right")) - 1
            node = int(texts[place]) if place >= 0 else -1
            if node < 0 or at >= tree.stop[node]:
                continue
            above = int(tree.parent[node])
            above = above if tree.last[above] - above < 100 else node
            if above in tried:
                continue
            tried.add(above)
            if _in_code(tree, above):
                continue
            text = tree.text(above)[:100_000]
            left -= len(text)
            if any(formula is not None for _, formula in _pieces(text, _openings(pairs), work)):
                return True
            if left <= 0 or work.left <= 0:
                return False
    return False


def _in_code(tree: Tree, node: int) -> bool:
    for _ in range(4):
        if node <= 0:
            return False
        if tree.name(node) in _VERBATIM:
            return True
        node = int(tree.parent[node])
    return False


def normalise(text: str, delimiters: Delimiters) -> str:
    """A block's text with every formula once, as `$…$`, or `$$…$$` where it is set on a line of its own, and all other dollars
    as `\\$`.

    Formulas that replaced nodes stand in the text as `enclose` wrote them and pass as they are, as what `verbatim` wrote does.
    Delimited formulas lose their delimiters; an environment stays whole inside its dollars: `$$\\begin{align}…\\end{align}$$`.
    A page without any formula (`delimiters.active` is false) keeps its text as it is.
    """
    return normaliser(delimiters)(text)


def normaliser(delimiters: Delimiters) -> Callable[[str], str]:
    """`normalise` for all blocks of a page in turn, which share what may be spent on it."""
    if not delimiters.active:
        return lambda text: SENTINELS.sub("", text)
    openings, work = _openings(delimiters.pairs), _Work()

    def normalised(text: str) -> str:
        if work.left > 0 and not openings.pattern.search(text):
            work.left -= openings.unusual * len(text) // 100
            return text
        out: list[str] = []
        for piece, display in _pieces(text, openings, work):
            mark = "" if display is None else "$$" if display else "$"
            if out and (mark or piece.startswith("\\$")) and _lone_backslash(out[-1]):
                out.append(" ")  # it would take the dollar for itself
            if piece:
                out.append(f"{mark}{piece}{mark}")
        return "".join(out)

    return normalised


def _lone_backslash(text: str) -> bool:
    return text.endswith("\\") and (len(text) - len(text.rstrip("\\"))) % 2 == 1


@dataclass(slots=True)
class _Work:
    """What may still be spent on a page's text (`MAX_WORK`, `MAX_VAIN`, `MAX_ASCIIMATH`)."""

    left: int = MAX_WORK
    vain: int = MAX_VAIN
    asciimath: int = MAX_ASCIIMATH


@dataclass(frozen=True, slots=True)
class _Openings:
    """What may begin a formula: a pattern of all, the pairs by their opening delimiters, how many of these are a page's own."""

    pattern: re.Pattern[str]
    pairs: dict[str, Pair]
    unusual: int


@lru_cache(maxsize=256)
def _openings(pairs: tuple[Pair, ...]) -> _Openings:
    unusual = len({pair.opening for pair in pairs} - {pair.opening for pair in _complete([], True, True)})
    return _Openings(_opening_pattern(pairs), {pair.opening: pair for pair in pairs}, unusual)


def _pieces(text: str, openings: _Openings, work: _Work) -> Iterator[tuple[str, bool | None]]:
    """A text as plain pieces (None), their dollars escaped, and formulas (their TeX; whether they are displayed)."""
    reader = _Reader(text, openings.pairs, work)
    search = openings.pattern.search
    # Many openings are tried at each character.
    work.left -= openings.unusual * len(text) // 100
    begin = at = 0
    while token := search(text, at):
        if work.left <= 0:
            break
        work.left -= 1
        found = reader.piece(token)
        at = token.end()
        if found is None:
            continue
        if token.start() > begin:
            yield text[begin : token.start()], None
        piece, display, at = found
        if piece:
            yield piece, display
        begin = at
    if begin < len(text) and work.left > 0:
        yield text[begin:], None
    elif begin < len(text):
        yield from _unread(text[begin:])


_ENCLOSED = re.compile(f"([{INLINE}-{VERBATIM}])([^{INLINE}-{END}]*){END}")


def _unread(text: str) -> Iterator[tuple[str, bool | None]]:
    """A text as `_pieces` gives it, its delimiters not read: in a few passes, whatever it holds."""
    parts = [text] if text.isascii() else _ENCLOSED.split(text)
    for place in range(0, len(parts), 3):
        plain = parts[place] if text.isascii() else SENTINELS.sub("", parts[place])
        plain = plain.replace("\\$", "\\ $").replace("$", "\\$")
        yield plain, None
        if place + 1 < len(parts):
            mark, inside = parts[place + 1 : place + 3]
            yield (inside, None) if mark == VERBATIM else (clean(inside), mark == DISPLAY)


class _Reader:
    """One text, what its openings begin, and how much more may be read in vain: a text full of openings that nothing closes
    costs a few passes over it, not one each."""

    def __init__(self, text: str, openers: dict[str, Pair], work: _Work | None = None) -> None:
        self.text, self.openers, self.work = text, openers, work or _Work()
        self.patience = min(4 * len(text) + 1000, self.work.vain)
        self.lasts: dict[str, int] = {}

    def piece(self, token: re.Match[str]) -> tuple[str, bool | None, int] | None:
        """What stands at an opening, whether it is displayed (None: no formula) and where it ends; None for plain text."""
        word, start, end = token[0], token.start(), token.end()
        if INLINE <= word[0] <= END:
            return self.enclosed(word, end)
        if token["environment"]:
            close = self.environment_end(start, token["environment"])
            self.work.left -= EACH + (close - start) // 16
            return (clean(self.text[start:close]), True, close) if close > 0 else None
        if word in self.openers:
            found = self.delimited(end, self.openers[word])
            if found:
                return found
        if "$" in word and not (word[0] == "\\" and len(word) == 2):
            return word.replace("$", "\\$"), None, end
        return None

    def enclosed(self, mark: str, begin: int) -> tuple[str, bool | None, int]:
        """What `enclose` or `verbatim` wrote; a stray mark is dropped."""
        close = self.text.find(END, begin) if mark != END and self.last(END) >= begin else -1
        if close < 0:
            return "", None, begin
        inside = self.text[begin:close]
        if mark == VERBATIM:
            return SENTINELS.sub("", inside), None, close + 1
        return clean(inside), mark == DISPLAY, close + 1

    def delimited(self, begin: int, pair: Pair) -> tuple[str, bool, int] | None:
        """The formula that ends with a pair's closing delimiter, None if there is none."""
        if self.last(pair.closing) < begin or self.patience <= 0:
            return None
        close = self.closing(begin, pair.closing)
        if close > 0:
            inside, end = self.text[begin:close], close + len(pair.closing)
            self.work.left -= EACH + len(inside) // 16
            if pair.asciimath:
                self.work.asciimath -= len(inside)
                if self.work.asciimath < 0:
                    return None
            tex = _formula(inside, self.text[end : end + 1], pair)
            if tex or _empty(inside, pair):
                return tex, pair.display, end
        self.give_up((close if close > 0 else min(len(self.text), begin + MAX_FORMULA)) - begin)
        return None

    def give_up(self, characters: int) -> None:
        """Notes that so many characters were read in vain."""
        self.patience -= characters
        self.work.vain -= characters

    def last(self, mark: str) -> int:
        """Where a mark stands last."""
        if mark not in self.lasts:
            self.lasts[mark] = self.text.rfind(mark)
        return self.lasts[mark]

    def closing(self, begin: int, closing: str) -> int:
        """Where the closing delimiter stands outside of braces; -1 if it does not follow within `MAX_FORMULA` characters."""
        limit = min(len(self.text), begin + MAX_FORMULA)
        if self.text.find(closing, begin, limit) < 0:
            return -1
        depth = 0
        for token in _closing_pattern(closing).finditer(self.text, begin, limit):
            word = token[0]
            if token["close"] and depth <= 0:
                return token.start()
            if word == "{":
                depth += 1
            elif word == "}":
                depth -= 1
            elif INLINE <= word[0] <= END:
                return -1
        return -1

    def environment_end(self, begin: int, name: str) -> int:
        """Where the environment that begins here ends, -1 for an environment that is no formula or does not end."""
        star = "*" if self.text.startswith("*", begin + len("\\begin{") + len(name)) else ""
        whole = f"{{{name}{star}}}"
        opening, closing, limit = "\\begin" + whole, "\\end" + whole, min(len(self.text), begin + 2 * MAX_FORMULA)
        if name not in ENVIRONMENTS or self.last(closing) < begin or self.patience <= 0:
            return -1
        depth, at = 0, begin
        for _ in range(50):
            next_open, next_close = self.text.find(opening, at, limit), self.text.find(closing, at, limit)
            if next_close < 0:
                break
            if 0 <= next_open < next_close:
                depth, at = depth + 1, next_open + len(opening)
                continue
            depth, at = depth - 1, next_close + len(closing)
            if depth <= 0:
                return -1 if SENTINELS.search(self.text, begin, at) else at
        self.give_up(limit - begin)
        return -1


def _opening_pattern(pairs: tuple[Pair, ...]) -> re.Pattern[str]:
    # All that begin with one character stand together, so that few are tried at each.
    heads: dict[str, list[str]] = {}
    for pair in sorted(pairs, key=lambda pair: -len(pair.opening)):
        heads.setdefault(pair.opening[0], []).append(re.escape(pair.opening[1:]))
    openings = "".join(f"{re.escape(head)}(?:{'|'.join(rest)})|" for head, rest in heads.items())
    environment = r"\\begin\{(?P<environment>[A-Za-z]{1,12})\*?\}"
    return re.compile(f"[{INLINE}-{END}]|{openings}{environment}|\\\\[^{INLINE}-{END}]|\\$", re.DOTALL)


@lru_cache(maxsize=256)
def _closing_pattern(closing: str) -> re.Pattern[str]:
    return re.compile(f"(?P<close>{re.escape(closing)})|\\\\[^{INLINE}-{END}]|[{{}}]|[{INLINE}-{END}]", re.DOTALL)


def _empty(inside: str, pair: Pair) -> bool:
    """Whether two delimiters hold nothing but space, as authors use them for layout."""
    return not pair.cautious and pair.closing != "$" and not clean(inside.replace("\\ ", " "))


def _formula(inside: str, after: str, pair: Pair) -> str:
    """The TeX between two delimiters, empty if it is no formula."""
    if not inside.strip():
        return ""
    if pair.asciimath:
        return clean(asciimath.to_tex(inside)) if "\n\n" not in inside else ""
    if pair.closing == "$" and (after.isdigit() or "\n\n" in inside or is_money(inside)):
        return ""
    tex = unwrapped(inside)[0]
    if pair.cautious and not looks_tex(tex):
        return ""
    return "" if pair.cautious and pair.closing == "$" and not _STRONG.search(tex) else tex


def is_money(inside: str) -> bool:
    """Whether what stands after a dollar is an amount alone or one with words after it."""
    if not inside.lstrip()[:1].isdigit() or _OF_FORMULAS.search(inside):
        return False
    return (_AMOUNT if _TWO_LETTERS.search(inside) else _BARE_AMOUNT).match(inside) is not None


_STRONG = re.compile(r"\\[A-Za-z]{2,}|[_^]|\A\\?[A-Za-z]\Z|\A[A-Za-z]\s?[=<>]")
_IMPOSSIBLE = frozenset(
    {"'", '"', "(", ")", "[", "]", "{", "}", "<", ">", ",", ".", ":", ";", "-", "/", "*", "#", "_", "\\"}
)


def enclose(tex: str, display: bool) -> str:
    """A formula as it stands in a block's text until `normalise`."""
    return f"{DISPLAY if display else INLINE}{tex}{END}"


def verbatim(text: str) -> str:
    """Characters of code in a block's text, which `normalise` leaves alone."""
    return f"{VERBATIM}{SENTINELS.sub('', text)}{END}"
