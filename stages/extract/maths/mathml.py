"""Presentation MathML as TeX (W3C MathML Core and MathML 3, chapter 3)."""

from __future__ import annotations

import re
import unicodedata

from curate.stages.extract.maths import symbols
from curate.stages.extract.maths.elements import LAYOUT, MAX_DEPTH, TOKENS, Element
from curate.stages.extract.maths.notation import (
    CLOSING,
    OPENING,
    accented,
    characters,
    fenced,
    function,
    grouped,
    joined,
    limits,
    paired,
)

_SPACES = re.compile(r"[ \t\r\n\f]+")
_LENGTH = re.compile(r"\s*(-?[0-9.]{1,10})\s*(em|ex|px|pt|mu|cm|mm|in)?")
_NAMED_SPACE = {
    "veryverythinmathspace": 1 / 18, "verythinmathspace": 2 / 18, "thinmathspace": 3 / 18, "mediummathspace": 4 / 18,
    "thickmathspace": 5 / 18, "verythickmathspace": 6 / 18, "veryverythickmathspace": 7 / 18,
}  # fmt: skip
_EM = {"em": 1.0, "ex": 0.43, "px": 1 / 16, "pt": 1 / 12, "mu": 1 / 18, "cm": 2.4, "mm": 0.24, "in": 6.0, None: 0.0}
_DEGREE = "\\circ"
_EITHER = frozenset("|‖∥∣")
_MATRICES = {("(", ")"): "pmatrix", ("[", "]"): "bmatrix", ("{", "}"): "Bmatrix", ("|", "|"): "vmatrix", ("∣", "∣"): "vmatrix",
             ("‖", "‖"): "Vmatrix", ("∥", "∥"): "Vmatrix"}  # fmt: skip
_OPERATORS = {":=": ":=", "mod": "\\bmod", "<=": "\\leq", ">=": "\\geq", "!=": "\\neq", "->": "\\to", "||": "\\|",
    "...": "\\ldots",
              "|": "|", "{": "\\{", "}": "\\}"}  # fmt: skip
_ARROWS = {"\\to": "\\xrightarrow", "\\longrightarrow": "\\xrightarrow", "\\leftarrow": "\\xleftarrow",
           "\\longleftarrow": "\\xleftarrow"}  # fmt: skip
_NOTATIONS = {"box": "boxed", "roundedbox": "boxed", "updiagonalstrike": "cancel", "downdiagonalstrike": "bcancel",
              "radical": "sqrt", "top": "overline", "bottom": "underline", "actuarial": "overline",
              "horizontalstrike": "cancel"}  # fmt: skip


def to_tex(element: Element, display: bool = False) -> str:
    """An element as TeX, without delimiters; empty where there is nothing to print."""
    return _Writer(display).row(element.children, 0).lstrip()


class _Writer:
    """Writes one formula; each method gives the TeX of one kind of element."""

    def __init__(self, display: bool) -> None:
        self.display = display

    def write(self, element: Element, depth: int) -> str:
        if element.name in TOKENS:
            return getattr(self, "_" + element.name)(element)
        if element.name == "tex":
            return element.text
        write = getattr(self, "_" + element.name, None) if element.name in LAYOUT else None
        return write(element, depth + 1) if write else self.row(element.children, depth + 1)

    def row(self, children: list[Element], depth: int) -> str:
        """Elements in sequence; fences around a matrix make it one, and are stretched where what they hold is tall."""
        children = [_single(each) for each in children]
        if len(children) == 1 and children[0].name == "mrow":
            return self.row(children[0].children, depth)
        pairs = _pairs(children)
        parts: list[list[str]] = [[]]
        closers: list[tuple[int, int]] = []
        i = 0
        while i < len(children):
            element = children[i]
            if closers and closers[-1][0] == i:
                inside = joined(parts.pop())
                begin = closers.pop()[1]
                parts[-1].append(fenced(_mark(children[begin]), inside, _mark(element)))
            elif i in pairs and len(closers) < MAX_DEPTH:
                whole = self._enclosed(children, i, pairs[i], depth)
                if whole:
                    parts[-1].append(whole)
                    i = pairs[i]
                else:
                    closers.append((pairs[i], i))
                    parts.append([])
            elif (
                _mark(element) == "{"
                and i + 1 < len(children)
                and _table_of(children[i + 1]) is not None
                and i + 2 >= len(children)
            ):
                table = _table_of(children[i + 1])
                assert table is not None
                parts[-1].append(self.table(table, "cases", depth))
                i += 1
            elif element.name == "mi" and i + 1 < len(children) and children[i + 1].text.strip() == "\u2061":
                parts[-1].append(self._mi(element, is_function=True))
            else:
                parts[-1].append(self.write(element, depth))
            i += 1
        while len(parts) > 1:
            rest = parts.pop()
            parts[-1].extend(rest)
        return joined(parts[0])

    def _enclosed(self, children: list[Element], begin: int, end: int, depth: int) -> str | None:
        """What stands between two fences, when it is a matrix or a binomial; else None."""
        if end != begin + 2:
            return None
        inner, opening, closing = children[begin + 1], _mark(children[begin]), _mark(children[end])
        table = _table_of(inner)
        if table is not None and (opening, closing) in _MATRICES:
            return self.table(table, _MATRICES[opening, closing], depth)
        while inner.name in ("mrow", "mstyle") and len(inner.children) == 1:
            inner = inner.children[0]
        if inner.name == "mfrac" and (opening, closing) == ("(", ")") and _no_line(inner) and len(inner.children) == 2:
            top, bottom = (self.write(each, depth + 1) for each in inner.children)
            return f"\\binom{{{top}}}{{{bottom}}}"
        return None

    def _mi(self, element: Element, depth: int = 0, is_function: bool = False) -> str:
        words = _words(element)
        variant = element.attributes.get("mathvariant", "").strip().lower()
        if words in symbols.FUNCTIONS and variant in ("", "normal"):
            return "\\" + words
        if words == "∣":
            return "|"  # KaTeX's vertical bar
        named = len(words) > 1 or (is_function and variant == "normal")
        if named and words.isascii() and words.isalnum() and variant in ("", "normal"):
            return ("\\operatorname{" if is_function else "\\mathrm{") + words + "}"
        return self._variant(words, variant)

    def _mn(self, element: Element) -> str:
        return self._variant(_words(element), element.attributes.get("mathvariant", "").strip().lower())

    def _mo(self, element: Element) -> str:
        words = _words(element)
        if not words:
            return characters(element.text.strip(" \t\r\n\f"))
        if words in symbols.FUNCTIONS:
            return "\\" + words
        if words in _OPERATORS:
            return _OPERATORS[words]
        if len(words) > 1 and words.isascii() and words.isalpha():
            return f"\\operatorname{{{words}}}"
        variant = element.attributes.get("mathvariant", "").strip().lower()
        return self._variant(words, variant if words.isalpha() else "")

    def _mtext(self, element: Element) -> str:
        words = _SPACES.sub(" ", element.text).strip(" ").replace("\u00a0", " ")
        return characters(words) if words and not words.strip() else symbols.text(words) if words else ""

    def _ms(self, element: Element) -> str:
        quote = element.attributes.get("lquote", '"'), element.attributes.get("rquote", '"')
        return symbols.text(quote[0] + _SPACES.sub(" ", element.text).strip() + quote[1])

    def _variant(self, words: str, variant: str) -> str:
        tex = characters(words)
        style = symbols.VARIANTS.get(variant, "")
        if (
            not tex
            or not style
            or tex.startswith(("\\math", "\\bold"))
            or (style == "mathrm" and not words[:1].isalpha())
        ):
            return tex
        if "\\" in tex:
            style = "boldsymbol" if variant.startswith("bold") else ""
        elif style == "mathit" and len(tex) == 1:
            style = ""
        return f"\\{style}{{{tex}}}" if style else tex

    def _msub(self, element: Element, depth: int) -> str:
        return self._scripts(element, depth, "_")

    def _msup(self, element: Element, depth: int) -> str:
        return self._scripts(element, depth, "^")

    def _msubsup(self, element: Element, depth: int) -> str:
        return self._scripts(element, depth, "_^")

    def _scripts(self, element: Element, depth: int, marks: str) -> str:
        parts = [self.write(each, depth) for each in element.children]
        base = parts[0] if parts else ""
        out = base if base in symbols.LIMITS or function(base) else grouped(base) if base else "{}"
        for mark, script in zip(marks, parts[1:], strict=False):
            if mark == "^" and script and not script.strip("'"):
                out += script
            elif script:
                out += f"{mark}{{{_DEGREE if script == f'^{{{_DEGREE}}}' else script}}}"
        return out + joined(["", *parts[len(marks) + 1 :]])

    def _mover(self, element: Element, depth: int) -> str:
        if len(element.children) < 2:
            return self.row(element.children, depth)
        base, over = self.write(element.children[0], depth), element.children[1]
        accent = None if base in symbols.LIMITS else accented(base, _plain(over))
        if accent:
            return accent
        script = self.write(over, depth)
        if base in symbols.LIMITS or base.startswith("\\overbrace{"):
            return f"{base}^{{{script}}}" if script else base
        arrow = _ARROWS.get(base)
        return f"{arrow}{{{script}}}" if arrow else f"\\overset{{{script}}}{{{base}}}"

    def _munder(self, element: Element, depth: int) -> str:
        if len(element.children) < 2:
            return self.row(element.children, depth)
        base, under = self.write(element.children[0], depth), element.children[1]
        name = None if base in symbols.LIMITS else symbols.UNDER_ACCENTS.get(_plain(under))
        if name:
            return f"\\{name}{{{base}}}"
        script = self.write(under, depth)
        if base in symbols.LIMITS or base.startswith("\\underbrace{") or function(base):
            return f"{limits(base)}_{{{script}}}"
        arrow = _ARROWS.get(base)
        return f"{arrow}[{script}]{{}}" if arrow else f"\\underset{{{script}}}{{{base}}}"

    def _munderover(self, element: Element, depth: int) -> str:
        if len(element.children) < 3:
            return self._munder(element, depth)
        base, under, over = element.children[:3]
        tex = self.write(base, depth)
        if tex in symbols.LIMITS or function(tex):
            scripts = self.write(under, depth), self.write(over, depth)
            return limits(tex) + "".join(f"{mark}{{{each}}}" for mark, each in zip("_^", scripts, strict=True) if each)
        arrow = _ARROWS.get(tex)
        if arrow:
            return f"{arrow}[{self.write(under, depth)}]{{{self.write(over, depth)}}}"
        lower = self._munder(Element("munder", {}, [Element("tex", text=tex), under]), depth)
        return self._mover(Element("mover", {}, [Element("tex", text=lower), over]), depth)

    def _mfrac(self, element: Element, depth: int) -> str:
        if len(element.children) < 2:
            return self.row(element.children, depth)
        top, bottom = (self.write(each, depth) for each in element.children[:2])
        if _no_line(element):
            return f"\\genfrac{{}}{{}}{{0pt}}{{}}{{{top}}}{{{bottom}}}"
        if element.attributes.get("bevelled") == "true":
            return f"{grouped(top)}/{grouped(bottom)}"
        return f"\\frac{{{top}}}{{{bottom}}}"

    def _msqrt(self, element: Element, depth: int) -> str:
        return f"\\sqrt{{{self.row(element.children, depth)}}}"

    def _mroot(self, element: Element, depth: int) -> str:
        if len(element.children) < 2:
            return self._msqrt(element, depth)
        base, index = (self.write(each, depth) for each in element.children[:2])
        return f"\\sqrt[{'{' + index + '}' if ']' in index else index}]{{{base}}}"

    def _mfenced(self, element: Element, depth: int) -> str:
        opening, closing = element.attributes.get("open", "(").strip(), element.attributes.get("close", ")").strip()
        given = [c for c in element.attributes.get("separators", ",") if not c.isspace()]
        children = [_single(each) for each in element.children]
        if len(children) == 1:
            table = _table_of(children[0])
            if table is not None and (opening, closing) in _MATRICES:
                return self.table(table, _MATRICES[opening, closing], depth)
            if table is not None and (opening, closing) == ("{", ""):
                return self.table(table, "cases", depth)
            if children[0].name == "mfrac" and (opening, closing) == ("(", ")") and _no_line(children[0]):
                return (
                    self._enclosed([Element("mo", text="("), children[0], Element("mo", text=")")], 0, 2, depth) or ""
                )
        parts: list[str] = []
        for number, child in enumerate(children):
            if number and given:
                parts.append(characters(given[min(number - 1, len(given) - 1)]))
            parts.append(self.write(child, depth))
        return fenced(opening, joined(parts), closing)

    def _mtable(self, element: Element, depth: int) -> str:
        return self.table(element, "", depth)

    def table(self, element: Element, environment: str, depth: int) -> str:
        """A table's rows in an environment; without a name, `aligned` for equations below each other, else `matrix`."""
        rows: list[list[str]] = []
        for row in element.children:
            if row.name in ("mtr", "mlabeledtr"):
                cells = row.children[row.name == "mlabeledtr" :]
                rows.append([self.row(each.children if each.name == "mtd" else [each], depth + 1) for each in cells])
            elif row.name != "mspace":
                rows.append([self.row(row.children, depth + 1) if row.name == "mtd" else self.write(row, depth + 1)])
        rows = _without_empty_columns(rows)
        if not rows:
            return ""
        width = max(len(row) for row in rows)
        aligned = element.attributes.get("columnalign", "").split()[:2] in (["right", "left"], ["right"])
        if not environment and (aligned or (self.display and depth <= 3 and width <= 2 and len(rows) > 1)):
            environment = "aligned"
        body = " \\\\ ".join(" & ".join(row) for row in rows)
        return f"\\begin{{{environment or 'matrix'}}} {body} \\end{{{environment or 'matrix'}}}"

    def _menclose(self, element: Element, depth: int) -> str:
        inside, notation = self.row(element.children, depth), element.attributes.get("notation", "longdiv").split()
        for name in notation:
            command = _NOTATIONS.get(name)
            inside = f"\\{command}{{{inside}}}" if command else inside
        return inside

    def _mphantom(self, element: Element, depth: int) -> str:
        inside = self.row(element.children, depth)
        return f"\\phantom{{{inside}}}" if inside else ""

    def _mspace(self, element: Element, depth: int) -> str:
        if element.attributes.get("linebreak") == "newline":
            return joined(["\\\\ ", self.row(element.children, depth)])
        return joined([_space(element.attributes.get("width", "0")), self.row(element.children, depth)])

    def _semantics(self, element: Element, depth: int) -> str:
        return self.row(element.children[:1], depth)

    def _maction(self, element: Element, depth: int) -> str:
        return self.row(element.children[:1], depth)

    def _mmultiscripts(self, element: Element, depth: int) -> str:
        flat = _unnested(element.children)
        names = [each.name for each in flat]
        split = names.index("mprescripts") if "mprescripts" in names else len(flat)
        base = self.write(flat[0], depth) if flat and split else ""
        after = [self.write(each, depth) for each in flat[1:split]]
        before = [self.write(each, depth) for each in flat[split + 1 :]]
        return joined([paired("{}", before) if before else "", paired(grouped(base) if base else "{}", after)])

    def _mtr(self, element: Element, depth: int) -> str:
        return self.table(Element("mtable", {}, [element]), "", depth)


def _words(element: Element) -> str:
    """A token's characters, composed, without space around; `lim sup` with any space is one word."""
    words = unicodedata.normalize("NFC", _SPACES.sub(" ", element.text).strip())
    return "".join(words.split()) if words.startswith("lim") else words


def _single(element: Element) -> Element:
    """A row of one element is that element."""
    for _ in range(MAX_DEPTH):
        if element.name in ("mrow", "mstyle", "mpadded", "mjx-texatom", "semantics") and len(element.children) == 1:
            element = element.children[0]
        else:
            break
    return element


def _plain(element: Element) -> str:
    element = _single(element)
    return _SPACES.sub("", element.text) if element.name in ("mo", "mi", "mtext", "mn") else ""


def _mark(element: Element) -> str:
    return element.text.strip() if element.name == "mo" else ""


def _table_of(element: Element) -> Element | None:
    element = _single(element)
    return element if element.name == "mtable" else None


def _pairs(children: list[Element]) -> dict[int, int]:
    """For each opening fence of a row the place of its closing one."""
    found: dict[int, int] = {}
    waiting: list[tuple[int, str]] = []
    for i, element in enumerate(children):
        mark = _mark(element)
        if not mark:
            continue
        form = element.attributes.get("form", "")
        if mark in _EITHER:
            if waiting and waiting[-1][1] == mark and form != "prefix":
                found[waiting.pop()[0]] = i
            elif (
                form == "prefix"
                or element.attributes.get("fence") == "true"
                or element.attributes.get("stretchy") == "true"
                or i == 0
            ):
                waiting.append((i, mark))
        elif mark in OPENING:
            waiting.append((i, mark))
        elif mark in CLOSING and waiting:
            while waiting and waiting[-1][1] in _EITHER:
                waiting.pop()
            if waiting:
                found[waiting.pop()[0]] = i
    return found


def _without_empty_columns(rows: list[list[str]]) -> list[list[str]]:
    """A table without the columns at its ends that hold nothing, which renderers add for equation numbers."""
    while rows and any(rows) and all(not row or not row[0] for row in rows) and max(map(len, rows)) > 1:
        rows = [row[1:] for row in rows]
    rows = [list(row) for row in rows]
    for row in rows:
        while len(row) > 1 and not row[-1]:
            row.pop()
    return rows


def _no_line(element: Element) -> bool:
    thickness = element.attributes.get("linethickness", "")
    return thickness.strip()[:1] == "0" and not thickness.strip("0. pxtem%")


def _space(width: str) -> str:
    found = _LENGTH.match(width)
    em = float((found[1].count(".") < 2 and found[1].strip("-.") and found[1]) or 0) * _EM[found[2]] if found else 0.0
    em = _NAMED_SPACE.get(width.strip(), em)
    if em >= 1.9:
        return "\\qquad"
    if em >= 0.9:
        return "\\quad"
    return "\\;" if em >= 0.25 else "\\," if em >= 0.1 else "\\!" if em <= -0.1 else ""


def _unnested(children: list[Element]) -> list[Element]:
    """`<none/>` and `<mprescripts/>` read as open tags hold what should stand beside them."""
    flat: list[Element] = []
    stack = list(reversed(children))
    while stack:
        element = stack.pop()
        flat.append(element)
        if element.name in ("none", "mprescripts") and element.children:
            stack.extend(reversed(element.children))
            flat[-1] = Element(element.name)
    return flat
