"""Formulas kept: which formulas of a gold Markdown text stand in an extracted text.

Two formulas are the same if they are equal after `canonical`: white space, spacing commands, `\\left` and `\\right`, styles,
alignment marks of tables and braces around one symbol or a script's base say nothing; of two names for one thing one is taken
(`\\ne`, `\\neq`; `\\phi`, `\\varphi`); an accent, `\\stackrel` and `\\overset` with the same sign are one; a trailing
backslash or row break is nothing. A formula of the gold with nothing left counts for nothing, and so does `\\setminus` (the
gold's converter of AsciiMath writes it for a space). Each formula of the text answers for one of the gold (multiset). No
credit for a part of one.
"""

from __future__ import annotations

import re
from collections import Counter

_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<display>(?:[^$\\]|\\.)+?)\$\$|(?<![\\$])\$(?!\s)(?P<inline>(?:[^$\\]|\\.)+?)(?<!\s)\$(?![$\d])"
    r"|(?P<environment>\\begin\{(?P<name>(?:equation|align|gather|multline|eqnarray|flalign|alignat)\*?)\}.*?\\end\{(?P=name)\})",
    re.DOTALL,
)
_SPACING = re.compile(
    r"\\\\|\\[,;:!>\s]|\\(?:quad|qquad|enspace|thinspace|limits|nolimits|displaystyle|textstyle|scriptstyle|scriptscriptstyle|left"
    r"|right|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg|setminus|nonumber|notag)(?![A-Za-z])|\\hspace\{[^}]*\}|~"
)
_LIMITED = re.compile(r"\\(?:left|right)\s*\.")
_SYNONYMS = {
    "ne": "neq", "le": "leq", "ge": "geq", "to": "rightarrow", "gets": "leftarrow", "lvert": "|", "rvert": "|",
    "vert": "|", "mid": "|",
    "lVert": "\\|", "rVert": "\\|", "Vert": "\\|", "dots": "ldots", "dotsc": "ldots", "dotsb": "cdots", "land": "wedge",
    "lor": "vee",
    "lnot": "neg", "implies": "Rightarrow", "iff": "Leftrightarrow", "Longrightarrow": "Rightarrow", "dfrac": "frac",
    "tfrac": "frac",
    "mathbit": "boldsymbol", "bm": "boldsymbol", "mathop": "mathrm", "operatorname": "mathrm", "rm": "mathrm",
    "mathmr": "text",
    "textrm": "text", "hbox": "text", "mbox": "text", "textnormal": "text", "varnothing": "emptyset", "ast": "*",
    "lbrace": "\\{",
    "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "prime": "'", "star": "*", "cdotp": "cdot", "overline": "bar",
    "widehat": "hat",
    "widetilde": "tilde", "overrightarrow": "vec", "varphi": "phi", "varepsilon": "epsilon", "stackrel": "overset",
}  # fmt: skip
_SIGNS = {
    "×": "\\times", "±": "\\pm", "·": "\\cdot", "−": "-", "∗": "*", "≤": "\\leq", "≥": "\\geq", "≠": "\\neq",
    "∞": "\\infty",
    "→": "\\rightarrow", "∈": "\\in", "˙": "\\dot", "…": "\\ldots",
}  # fmt: skip
_ACCENTS = {
    "\\dot": "\\dot", ".": "\\dot", "\\rightarrow": "\\vec", "^": "\\hat", "\\wedge": "\\hat", "~": "\\tilde",
    "\\sim": "\\tilde",
    "¯": "\\bar", "-": "\\bar",
}  # fmt: skip
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{([A-Za-z]+\*?)\}")
_FENCED = {"pmatrix": "()", "bmatrix": "[]", "vmatrix": "||", "cases": "\\{"}
_TABULAR = ("array", "matrix", "aligned", "align", "split", "gathered", "smallmatrix", "alignedat")


def formulas_in(markdown: str) -> list[str]:
    """The formulas of a Markdown text, without delimiters, in their order; those in fenced code are none."""
    matches = _FORMULA.finditer(_FENCE.sub("", markdown))
    return [(match["display"] or match["inline"] or match["environment"] or "").strip() for match in matches]


def canonical(tex: str) -> str:
    """A formula in the form in which two are compared."""
    tex = _ENVIRONMENT.sub(_environment, _LIMITED.sub("", tex)).replace("&", "").replace("\\hline", "")
    tex = re.sub(r"\\begin\{tabular\}\{[clr|\s]*\}", r"\\begin{tabular}", tex)
    tex = tex.replace("\\genfrac{}{}{0}{}", "\\binom").replace("\\genfrac{}{}{0pt}{}", "\\binom")
    tokens = [
        _SIGNS.get(token, token)
        for token in _TOKEN.findall(_SPACING.sub(lambda found: found[0] if found[0] == "\\\\" else " ", tex))
        if not token.isspace()
    ]
    tokens = [_synonym(token) for token in tokens]
    tree = _read(iter(tokens))
    text = _written(tree)
    text = re.sub(r"\((\\binom(?:\{[^{}]*\}|[^{}]){2})\)", r"\1", text)
    while text.endswith("\\") and not text.endswith(("\\{", "\\}")):
        text = text[:-1]
    return text


def kept(gold: str, text: str) -> tuple[int, int]:
    """(formulas of the gold that the text holds, formulas of the gold)."""
    wanted = Counter(filter(None, map(canonical, formulas_in(gold))))
    held = Counter(map(canonical, formulas_in(text)))
    return sum(min(count, held[each]) for each, count in wanted.items()), sum(wanted.values())


def missed(gold: str, text: str) -> list[str]:
    """The formulas of the gold that the text lacks, as compared."""
    wanted = Counter(filter(None, map(canonical, formulas_in(gold))))
    return sorted((wanted - Counter(map(canonical, formulas_in(text)))).elements())


def _environment(match: re.Match[str]) -> str:
    name, begins = match[1], match[0].startswith("\\begin")
    bare = name.rstrip("*")
    if bare in _FENCED:
        sides = _FENCED[bare]
        side = (sides if bare == "cases" else sides[0]) if begins else ("" if bare == "cases" else sides[1])
        return side + "\\begin{tabular}" if begins else "\\end{tabular}" + side
    if bare in _TABULAR:
        return "\\begin{tabular}" if begins else "\\end{tabular}"
    return match[0]


def _synonym(token: str) -> str:
    name = _SYNONYMS.get(token[1:]) if token.startswith("\\") else None
    return token if name is None else name if not name.isalpha() else "\\" + name


def _read(tokens: object) -> list[object]:
    """Tokens as nested lists, one for each pair of braces."""
    top: list[object] = []
    open_lists = [top]
    for token in tokens:  # type: ignore[attr-defined]
        if token == "{":
            group: list[object] = []
            open_lists[-1].append(group)
            open_lists.append(group)
        elif token == "}":
            if len(open_lists) > 1:
                open_lists.pop()
        else:
            open_lists[-1].append(token)
    return top


_ARGUMENTS = {"\\frac": 2, "\\sqrt": 1, "\\binom": 2, "\\overset": 2, "\\underset": 2, "\\text": 1, "\\mathbb": 1,
    "\\mathbf": 1,
              "\\mathcal": 1, "\\bar": 1, "\\hat": 1, "\\vec": 1, "\\tilde": 1, "\\dot": 1, "\\boldsymbol": 1,
              "\\mathfrak": 1,
              "\\begin": 1, "\\end": 1, "\\underline": 1}  # fmt: skip


def _written(items: list[object]) -> str:
    """Groups that are no argument are unfolded; an argument always stands in braces."""
    out: list[str] = []
    i = 0
    while i < len(items):
        item = items[i]
        i += 1
        if isinstance(item, list):
            out.append(_written(item))
            continue
        word = str(item)
        if word == "\\mathrm" and i < len(items):
            inside = items[i]
            out.append(_written(inside) if isinstance(inside, list) else str(inside))
            i += 1
        elif word in ("_", "^") and i < len(items):
            inside = items[i]
            script = _written(inside) if isinstance(inside, list) else str(inside)
            out.append(script if word == "^" and script and not script.strip("'") else f"{word}{{{script}}}")
            i += 1
        elif word in _ARGUMENTS:
            if word == "\\sqrt" and i < len(items) and items[i] == "[":
                close = items.index("]", i) if "]" in items[i:] else len(items) - 1
                word += "[" + _written(items[i + 1 : close]) + "]"
                i = close + 1
            given = items[i : i + _ARGUMENTS[word.partition("[")[0]]]
            i += len(given)
            arguments = [_written(each) if isinstance(each, list) else str(each) for each in given]
            if word == "\\overset" and len(arguments) == 2 and arguments[0] in _ACCENTS:
                word, arguments = _ACCENTS[arguments[0]], arguments[1:]
            out.append(word + "".join(f"{{{each}}}" for each in arguments))
        else:
            out.append(word)
    return "".join(out)
