"""A page's mathematics as LaTeX, each formula once.

    found = maths.read(tree)                 # nothing to do unless maths.marks(source)
    found.formulas                           # nodes whose subtree `maths.enclose(formula)` stands for in the block's text
    found.removed                            # nodes that repeat a formula: no text
    text = maths.normalise(text, found.delimiters)   # last, on each block's text but code blocks

Between the second step and the last, a replaced formula stands in the text between two noncharacters (U+FDD0 to U+FDD3),
so that its dollars, backslashes and braces are not read again. Inline code goes through `verbatim` for the same reason.
`normalise` then turns these and the delimited formulas of the text into `$…$` and `$$…$$`, and escapes the literal dollars of a
page that has any formula. A page's own characters of that kind are dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice

from curate.stages.extract import page
from curate.stages.extract.dom import Tree
from curate.stages.extract.maths import forms as _forms
from curate.stages.extract.maths import reading as _reading
from curate.stages.extract.maths.forms import marks
from curate.stages.extract.maths.formula import SENTINELS, Formula
from curate.stages.extract.maths.reading import Delimiters, Pair, normalise, normaliser, verbatim


@dataclass(frozen=True, slots=True)
class Mathematics:
    """A page's formulas in nodes of their own, the nodes that repeat one, and how its text writes formulas."""

    formulas: list[Formula]
    removed: list[int]
    delimiters: Delimiters


def read(tree: Tree) -> Mathematics:
    """All that a page tells of its mathematics. Linear in the page; never raises for any tree."""
    found = _forms.look(tree)
    return Mathematics(found.formulas, found.removed, _reading.read(tree, found))


def formulas(tree: Tree) -> list[Formula]:
    """The nodes whose subtree a formula replaces, in document order, none inside another."""
    return _forms.look(tree).formulas


def removed(tree: Tree) -> list[int]:
    """The nodes that only repeat a formula, in document order; none is inside another or inside a formula's node."""
    return _forms.look(tree).removed


def delimiters(tree: Tree) -> Delimiters:
    """How a page writes formulas in its text."""
    return _reading.read(tree, _forms.look(tree))


def enclose(formula: Formula) -> str:
    """A formula as it stands in a block's text until `normalise`."""
    return _reading.enclose(formula.tex, formula.display)


def has_math(text: str, found: Mathematics | None = None) -> bool:
    """Whether an extracted text holds a formula: LaTeX, or unescaped dollars on a page that `found` says has formulas."""
    if found is not None and found.delimiters.active and "$" in text.replace("\\\\", "").replace("\\$", ""):
        return True
    return page.has_math(text[: _reach(text)])


MAX_OPENINGS, MAX_BACKSLASHES = 500, 200_000
"""How far a text is looked at for formulas: each opening delimiter that nothing closes costs 2,000 characters, each backslash a
hundred commands."""
_OPENING = re.compile(r"\\[(\[]")


def _reach(text: str) -> int:
    """Where a text's opening delimiter or backslash beyond so many stands, else its length."""
    reach = len(text)
    if text.count("\\") > MAX_BACKSLASHES:
        reach = next(islice(re.finditer(r"\\", text), MAX_BACKSLASHES, None)).start()
    if text.count("\\(", 0, reach) + text.count("\\[", 0, reach) > MAX_OPENINGS:
        reach = next(islice(_OPENING.finditer(text), MAX_OPENINGS, None)).start()
    return reach


__all__ = [
    "SENTINELS", "Delimiters", "Formula", "Mathematics", "Pair", "delimiters", "enclose", "formulas", "has_math", "marks",
    "normalise", "normaliser", "read", "removed", "verbatim",
]  # fmt: skip
