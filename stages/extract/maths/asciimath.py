"""AsciiMath as TeX, by the grammar of asciimath.org.

S ::= v | l E r | u S | b S S      I ::= S | S_S | S^S | S_S^S      E ::= I E | I/I
"""

from __future__ import annotations

import re

from curate.stages.extract.maths import symbols

MAX_DEPTH = 60
MAX_CHARS = 5_000
"""A longer one is no formula."""
MAX_ASCIIMATH = 50_000
"""Characters of AsciiMath that are read of one page's elements, and as many of its text: its grammar costs most of all."""

_CONSTANTS = {
    "+": "+", "-": "-", "*": "\\cdot", "**": "\\ast", "***": "\\star", "//": "/", "\\\\": "\\backslash",
    "setminus": "\\setminus",
    "xx": "\\times", "times": "\\times", "|><": "\\ltimes", "><|": "\\rtimes", "|><|": "\\bowtie", "-:": "\\div",
    "div": "\\div",
    "divide": "\\div", "@": "\\circ", "o+": "\\oplus", "ox": "\\otimes", "o.": "\\odot", "sum": "\\sum",
    "prod": "\\prod",
    "^^": "\\wedge", "^^^": "\\bigwedge", "vv": "\\vee", "vvv": "\\bigvee", "nn": "\\cap", "nnn": "\\bigcap",
    "uu": "\\cup",
    "uuu": "\\bigcup", "!=": "\\neq", ":=": ":=", "lt": "<", "<=": "\\leq", "le": "\\leq", "lt=": "\\leq", "gt": ">",
    "mlt": "\\ll", "mgt": "\\gg", ">=": "\\geq", "ge": "\\geq", "gt=": "\\geq", "-<": "\\prec", "-lt": "\\prec",
    ">-": "\\succ",
    "-<=": "\\preceq", ">-=": "\\succeq", "in": "\\in", "!in": "\\notin", "sub": "\\subset", "sup": "\\supset",
    "sube": "\\subseteq", "supe": "\\supseteq", "-=": "\\equiv", "~=": "\\cong", "~~": "\\approx", "~": "\\sim",
    "prop": "\\propto",
    "and": "\\text{ and }", "or": "\\text{ or }", "not": "\\neg", "=>": "\\Rightarrow", "implies": "\\Rightarrow",
    "if": "\\text{ if }", "<=>": "\\Leftrightarrow", "iff": "\\Leftrightarrow", "AA": "\\forall", "EE": "\\exists",
    "_|_": "\\bot",
    "TT": "\\top", "|--": "\\vdash", "|==": "\\models", "int": "\\int", "oint": "\\oint", "del": "\\partial",
    "grad": "\\nabla",
    "+-": "\\pm", "-+": "\\mp", "O/": "\\emptyset", "oo": "\\infty", "aleph": "\\aleph", "...": "\\ldots",
    ":.": "\\therefore",
    ":'": "\\because", "/_": "\\angle", "/_\\": "\\triangle", "'": "'", "\\ ": "\\ ", "frown": "\\frown",
    "quad": "\\quad",
    "qquad": "\\qquad", "cdots": "\\cdots", "vdots": "\\vdots", "ddots": "\\ddots", "ldots": "\\ldots",
    "diamond": "\\diamond",
    "square": "\\square", "|__": "\\lfloor", "__|": "\\rfloor", "|~": "\\lceil", "~|": "\\rceil", "CC": "\\mathbb{C}",
    "NN": "\\mathbb{N}", "QQ": "\\mathbb{Q}", "RR": "\\mathbb{R}", "ZZ": "\\mathbb{Z}", "uarr": "\\uparrow",
    "darr": "\\downarrow",
    "rarr": "\\rightarrow", "->": "\\to", "to": "\\to", ">->": "\\rightarrowtail", "->>": "\\twoheadrightarrow",
    "|->": "\\mapsto", "larr": "\\leftarrow", "harr": "\\leftrightarrow", "rArr": "\\Rightarrow", "lArr": "\\Leftarrow",
    "hArr": "\\Leftrightarrow", "Lim": "\\operatorname{Lim}", "mod": "\\bmod", "lcm": "\\operatorname{lcm}", "dx": "dx",
    "dy": "dy",
    "dz": "dz", "dt": "dt", ",": ",", ";": ";", ":": ":", "!": "!", "?": "?", ".": ".", "=": "=", "<": "<", ">": ">",
    "`": "`",
    "prime": "'", "infty": "\\infty", "cdot": "\\cdot", "star": "\\star", "ast": "\\ast", "circ": "\\circ",
    "oplus": "\\oplus",
    "otimes": "\\otimes", "odot": "\\odot", "wedge": "\\wedge", "vee": "\\vee", "cap": "\\cap", "cup": "\\cup",
    "ne": "\\neq",
    "neg": "\\neg", "leq": "\\leq", "geq": "\\geq", "subset": "\\subset", "supset": "\\supset",
    "subseteq": "\\subseteq",
    "supseteq": "\\supseteq", "equiv": "\\equiv", "cong": "\\cong", "approx": "\\approx", "sim": "\\sim",
    "propto": "\\propto",
    "forall": "\\forall", "exists": "\\exists", "bot": "\\bot", "top": "\\top", "vdash": "\\vdash",
    "models": "\\models",
    "partial": "\\partial", "nabla": "\\nabla", "pm": "\\pm", "mp": "\\mp", "emptyset": "\\emptyset",
    "therefore": "\\therefore",
    "because": "\\because", "angle": "\\angle", "triangle": "\\triangle", "rightarrow": "\\rightarrow",
    "mapsto": "\\mapsto",
    "leftarrow": "\\leftarrow", "Rightarrow": "\\Rightarrow", "Leftarrow": "\\Leftarrow", "uparrow": "\\uparrow",
    "downarrow": "\\downarrow", "leftrightarrow": "\\leftrightarrow", "Leftrightarrow": "\\Leftrightarrow",
    "notin": "\\notin",
    "bigwedge": "\\bigwedge", "bigvee": "\\bigvee", "bigcap": "\\bigcap", "bigcup": "\\bigcup", "ltimes": "\\ltimes",
    "rtimes": "\\rtimes", "bowtie": "\\bowtie", "backslash": "\\backslash", "prec": "\\prec", "succ": "\\succ",
    "preceq": "\\preceq", "succeq": "\\succeq", "ll": "\\ll", "gg": "\\gg", "lfloor": "\\lfloor", "rfloor": "\\rfloor",
    "lceil": "\\lceil", "rceil": "\\rceil",
}  # fmt: skip
_CONSTANTS |= {
    name: "\\" + name
    for name in symbols.words(
        "alpha beta chi delta Delta epsilon varepsilon eta gamma Gamma iota kappa lambda Lambda mu nu omega Omega phi "
        "varphi Phi pi Pi psi Psi rho sigma Sigma tau theta vartheta Theta upsilon xi Xi zeta"
    )
}
_FUNCTIONS = {name: "\\" + name for name in symbols.FUNCTIONS} | {
    name: f"\\operatorname{{{name}}}" for name in ("sech", "csch", "glb", "lub")
}
_FUNCTIONS |= {name: "\\" + name.lower() for name in ("Sin", "Cos", "Tan", "Log", "Ln")}
_LETTER_FUNCTIONS = frozenset("fg")

_UNARY = {
    "sqrt": "\\sqrt{{{}}}", "hat": "\\hat{{{}}}", "bar": "\\overline{{{}}}", "overline": "\\overline{{{}}}",
    "vec": "\\vec{{{}}}",
    "tilde": "\\tilde{{{}}}", "dot": "\\dot{{{}}}", "ddot": "\\ddot{{{}}}", "ul": "\\underline{{{}}}",
    "underline": "\\underline{{{}}}", "ubrace": "\\underbrace{{{}}}", "underbrace": "\\underbrace{{{}}}",
    "obrace": "\\overbrace{{{}}}", "overbrace": "\\overbrace{{{}}}", "overarc": "\\overparen{{{}}}",
    "cancel": "\\cancel{{{}}}",
    "bb": "\\mathbf{{{}}}", "mathbf": "\\mathbf{{{}}}", "sf": "\\mathsf{{{}}}", "mathsf": "\\mathsf{{{}}}",
    "bbb": "\\mathbb{{{}}}",
    "mathbb": "\\mathbb{{{}}}", "cc": "\\mathcal{{{}}}", "mathcal": "\\mathcal{{{}}}", "tt": "\\mathtt{{{}}}",
    "mathtt": "\\mathtt{{{}}}", "fr": "\\mathfrak{{{}}}", "mathfrak": "\\mathfrak{{{}}}", "abs": "\\left|{}\\right|",
    "Abs": "\\left|{}\\right|", "floor": "\\left\\lfloor {}\\right\\rfloor", "ceil": "\\left\\lceil {}\\right\\rceil",
    "norm": "\\left\\|{}\\right\\|",
}  # fmt: skip
_BINARY = {
    "frac": "\\frac{{{0}}}{{{1}}}", "root": "\\sqrt[{0}]{{{1}}}", "stackrel": "\\overset{{{0}}}{{{1}}}",
    "overset": "\\overset{{{0}}}{{{1}}}", "underset": "\\underset{{{0}}}{{{1}}}", "color": "{{\\color{{{0}}}{1}}}",
    "id": "{1}", "class": "{1}",
}  # fmt: skip
_TEXTS = frozenset({"text", "mbox"})
_OPEN = {"(": "(", "[": "[", "{": "\\{", "(:": "\\langle", "<<": "\\langle", "langle": "\\langle", "{:": "."}
_CLOSE = {")": ")", "]": "]", "}": "\\}", ":)": "\\rangle", ">>": "\\rangle", "rangle": "\\rangle", ":}": "."}
_MATRICES = {("(", ")"): "pmatrix", ("[", "]"): "bmatrix", ("{", "}"): "Bmatrix", ("|", "|"): "vmatrix", ("{", ":}"): "cases",
             ("{:", ":}"): "matrix"}  # fmt: skip
_TALL = re.compile(r"\\(?:frac|sum|prod|int|oint|big|begin|sqrt|over|under)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_BRACKET = re.compile(r"\s*([(\[{])")
_SPACE = re.compile(r"\s+")
_CONTROL_WORD = re.compile(r"\\[A-Za-z]+\Z")
_ATOM = re.compile(r"\\?[A-Za-z]+|.|\\operatorname\{\w+\}|\d+(?:\.\d+)?|\\mathbb\{.\}")
_NAMES = {*_CONSTANTS, *_FUNCTIONS, *_UNARY, *_BINARY, *_TEXTS, *_OPEN, *_CLOSE, "|", "_", "^", "/", "||"}
_BY_FIRST = {
    first: re.compile("|".join(re.escape(name) for name in sorted(_NAMES, key=len, reverse=True) if name[0] == first))
    for first in sorted({name[0] for name in _NAMES})
}

Token = tuple[str, str]
"""(kind, text): kind is `name` of a listed symbol, `number`, `letter`, `text` or `space`."""


def to_tex(source: str) -> str:
    """AsciiMath as TeX without delimiters. Never raises: what is no AsciiMath comes out as its characters; empty beyond
    `MAX_CHARS`."""
    if len(source) > MAX_CHARS:
        return ""
    parser = _Parser(_tokens(source))
    parts: list[str] = []
    while not parser.done():
        parts.append(parser.expression(0))
        if not parser.done():
            stray = parser.take()[1]
            parts.append(_CLOSE.get(stray, stray).replace(".", "") if stray in _CLOSE else _character(stray))
    return _join(parts).strip()


def _tokens(source: str) -> list[Token]:
    tokens: list[Token] = []
    i = 0
    while i < len(source):
        character = source[i]
        space = _SPACE.match(source, i)
        number = _NUMBER.match(source, i)
        if space:
            i = space.end()
        elif character == '"':
            end = source.find('"', i + 1)
            end = end if end > 0 else len(source)
            tokens.append(("text", source[i + 1 : end]))
            i = end + 1
        elif number:
            tokens.append(("number", number[0]))
            i = number.end()
        else:
            # A backslash before a name is accepted, as LaTeX habits want it.
            begin = i + (character == "\\" and source[i + 1 : i + 2].isalpha())
            named = _BY_FIRST[source[begin]].match(source, begin) if source[begin] in _BY_FIRST else None
            name = named[0] if named else ""
            bracket = _BRACKET.match(source, begin + len(name)) if name in _TEXTS else None
            if bracket:
                end = source.find({"(": ")", "[": "]", "{": "}"}[bracket[1]], bracket.end())
                end = end if end > 0 else len(source)
                tokens.append(("text", source[bracket.end() : end]))
                i = end + 1
            elif name and name not in _TEXTS:
                tokens.append(("name", name))
                i = begin + len(name)
            else:
                tokens.append(("letter", source[begin]))
                i = begin + 1
    return tokens


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0
        self.ends, self.commas, self.bars = _matched(tokens)

    def done(self) -> bool:
        return self.at >= len(self.tokens)

    def peek(self) -> str:
        """The next symbol's name; empty for numbers, letters, text and at the end."""
        return self.tokens[self.at][1] if not self.done() and self.tokens[self.at][0] == "name" else ""

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def expression(self, depth: int, stop: str = "") -> str:
        """E: intermediate expressions up to a closing bracket or `stop`."""
        parts: list[str] = []
        while not self.done() and self.peek() not in _CLOSE and not (stop and self.peek() == stop):
            begin = self.at
            part = self.intermediate(depth)
            if self.peek() == "/":
                self.take()
                below = "" if self.done() or self.peek() in _CLOSE else self.intermediate(depth)
                part = f"\\frac{{{_bare(part)}}}{{{_bare(below)}}}"
            parts.append(part)
            if self.at == begin:
                break
        return _join(parts)

    def intermediate(self, depth: int) -> str:
        """I: a simple expression with its scripts."""
        base = self.simple(depth)
        out = base if self.peek() not in ("_", "^") or _single(base) else _base(base)
        for mark in ("_", "^"):
            if self.peek() == mark:
                self.take()
                script = "" if self.done() or self.peek() in _CLOSE else self.signed(depth)
                out += f"{mark}{{{script}}}"
        return out

    def signed(self, depth: int) -> str:
        """A script; a minus sign at its front belongs to it."""
        if self.peek() != "-":
            return _bare(self.simple(depth))
        self.take()
        return "-" + ("" if self.done() or self.peek() in _CLOSE else _bare(self.simple(depth)))

    def simple(self, depth: int) -> str:
        """S: a constant, a bracketed expression, or an operator with its arguments."""
        if self.done():
            return ""
        kind, word = self.take()
        if kind == "number":
            return word
        if kind == "text":
            return symbols.text(word)
        if kind == "letter":
            return _character(word)
        if depth >= MAX_DEPTH:
            return _CONSTANTS.get(word) or _FUNCTIONS.get(word) or _OPEN.get(word, _character(word[0])).replace(".", "")
        if word in _OPEN:
            return self.bracket(word, depth)
        if word in ("|", "||"):
            return self.bar(word, depth)
        if word in _UNARY:
            argument = _bare(self.simple(depth + 1))
            return _UNARY[word].format(argument)
        if word in _BINARY:
            first = _bare(self.simple(depth + 1))
            return _BINARY[word].format(first, _bare(self.simple(depth + 1)))
        if word in _FUNCTIONS:
            return _FUNCTIONS[word]
        return _CONSTANTS.get(word) or _character(word[0])

    def bracket(self, opening: str, depth: int) -> str:
        begin = self.at
        matrix = self.matrix(opening, depth)
        if matrix:
            return matrix
        self.at = begin
        inside = self.expression(depth + 1)
        if self.done() or self.peek() not in _CLOSE:
            return _join(["" if opening == "{:" else _OPEN[opening], inside])
        return _Fenced(_OPEN[opening], inside, _CLOSE[self.take()[1]])

    def bar(self, opening: str, depth: int) -> str:
        """`|x|`; a bar that nothing closes is a bar."""
        begin = self.at
        matrix = self.matrix(opening, depth)
        if matrix:
            return matrix
        self.at = begin
        name = "|" if opening == "|" else "\\|"
        if begin - 1 not in self.bars:
            return "\\mid" if opening == "|" else name
        inside = self.expression(depth + 1, stop=opening)
        if self.peek() == opening and inside:
            self.take()
            return _Fenced(name, inside, name)
        return _join([name, inside])

    def matrix(self, opening: str, depth: int) -> str:
        """Bracketed rows of equal length, separated by commas; empty if that is not what follows."""
        rows: list[list[str]] = []
        row_opening = self.peek()
        if row_opening not in ("(", "[") or not self._rows_follow(opening):
            return ""
        while self.peek() == row_opening:
            self.take()
            cells: list[str] = []
            while not self.done() and self.peek() not in _CLOSE:
                cells.append(self._cell(depth + 2))
                if self.peek() == ",":
                    self.take()
                    if self.peek() in _CLOSE:
                        cells.append("")
            if self.done():
                return ""
            self.take()
            rows.append(cells)
            if self.peek() == ",":
                self.take()
        closing = self.peek()
        self.take()
        environment = _MATRICES.get((opening, closing))
        body = " \\\\ ".join(" & ".join(cells) for cells in rows)
        if environment:
            return f"\\begin{{{environment}}} {body} \\end{{{environment}}}"
        left, right = _OPEN.get(opening, opening), _CLOSE.get(closing, closing)
        return f"\\left{left}\\begin{{matrix}} {body} \\end{{matrix}}\\right{right}"

    def _rows_follow(self, opening: str) -> bool:
        """Whether rows `(…),(…)` of as many cells each stand here, and then the bracket that closes the matrix."""
        at, rows = self.at, []
        row = self.tokens[at][1]
        while at in self.ends and self.tokens[at][1] == row:
            rows.append(self.commas[at])
            at = self.ends[at] + 1
            word = self.tokens[at][1] if at < len(self.tokens) and self.tokens[at][0] == "name" else ""
            if word in _CLOSE or (opening == "|" and word == "|"):
                return len(set(rows)) == 1 and (len(rows) > 1 or rows[0] > 0)
            if word != ",":
                return False
            at += 1
        return False

    def _cell(self, depth: int) -> str:
        return "" if self.peek() == "," else self.expression(depth, stop=",")


class _Fenced(str):
    """An expression in brackets, which a fraction, a root or a script takes off."""

    inside: str

    def __new__(cls, opening: str, inside: str, closing: str) -> _Fenced:
        if opening == closing == ".":
            whole = inside
        elif _TALL.search(inside) or "." in (opening, closing):
            whole = _join(["\\left" + opening, inside, "\\right" + closing])
        else:
            whole = _join([opening, inside, closing])
        made = super().__new__(cls, whole)
        made.inside = inside
        made.round = opening in ("(", "[", "\\{", ".") and closing in (")", "]", "\\}", ".")
        return made

    round: bool


def _bare(tex: str) -> str:
    return tex.inside if isinstance(tex, _Fenced) and tex.round else tex


def _single(tex: str) -> bool:
    return _ATOM.fullmatch(tex) is not None


def _base(tex: str) -> str:
    simple = isinstance(tex, _Fenced) or tex.startswith(("\\underbrace", "\\overbrace")) or not tex
    return (tex or "{}") if simple else "{" + tex + "}"


def _character(word: str) -> str:
    return symbols.COMMANDS.get(word, word)


def _join(parts: list[str]) -> str:
    out = ""
    pieces: list[str] = []
    for part in parts:
        if part and _CONTROL_WORD.search(out[-40:]) and part[0].isalpha():
            pieces.append(" ")
        if part:
            pieces.append(part)
            out = part
    return "".join(pieces)


def _matched(tokens: list[Token]) -> tuple[dict[int, int], dict[int, int], set[int]]:
    """For each opening bracket its closing one and the commas right inside; the bars that a later one at their level closes."""
    ends: dict[int, int] = {}
    commas: dict[int, int] = {}
    bars: set[int] = set()
    waiting: list[int] = []
    last_bar: list[dict[str, int]] = [{}]
    for i, (kind, word) in enumerate(tokens):
        if kind != "name":
            continue
        if word in _OPEN:
            waiting.append(i)
            commas[i] = 0
            last_bar.append({})
        elif word in _CLOSE:
            if waiting:
                ends[waiting.pop()] = i
                last_bar.pop()
        elif word == "," and waiting:
            commas[waiting[-1]] += 1
        elif word in ("|", "||"):
            if word in last_bar[-1]:
                bars.add(last_bar[-1][word])
            last_bar[-1][word] = i
    return ends, commas, bars
