"""Where a page holds formulas: every form that renderers leave in HTML, each with its TeX."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from itertools import islice

import numpy as np

from curate.stages.extract.dom import Tree, parse
from curate.stages.extract.dom.tags import ID, TEXT
from curate.stages.extract.maths import asciimath, elements, mathml, scan
from curate.stages.extract.maths.asciimath import MAX_ASCIIMATH
from curate.stages.extract.maths.formula import MAX_TEX, Formula, looks_tex, unwrapped
from curate.stages.extract.maths.pictures import picture
from curate.stages.extract.maths.symbols import words

MAX_HITS = 200_000
"""Marks beyond so many are not looked at."""
MAX_CANDIDATES = 60_000
"""Elements with a mark beyond so many are not looked at."""
MAX_CONVERTED = 80_000
"""What is spent on converting the MathML of one page: one for a node, one for every ten bytes; a formula beyond comes from its
annotation or alternative text alone. A page of 1,000 formulas without either spends 40,000."""
MAX_READ = 4_000_000
"""What is spent on one page's elements that may be formulas: the bytes of their start tags and of the content that is read, and
`EACH` for every one of them. What stands beyond is taken as text. A page of 2,000 formulas spends 1,000,000."""
EACH, EACH_REFERENCE, EACH_TREE = 250, 8, 1_000
"""What is spent on an element, on each character of its start tag that may begin an attribute, a value or a reference, and
on MathML that stands in an attribute."""
MAX_EXTENT = 20 * MAX_TEX
"""Bytes of an element's content that are looked at: what holds more is no formula."""

_RENDERER_MARKS = (
    b"MathJax", b"mathjax", b"Mathjax", b"tex2jax", b"katex", b"KaTeX", b"asciimath", b"AsciiMath", b"ASCIIMath",
    b"renderMath", b"inlineMath", b"displayMath",
)  # fmt: skip
"""Bytes of which one stands in every script that sets a renderer of formulas up, or in its start tag."""
_ELEMENT_MARKS = (
    b"<math", b"<MATH", b"<m:math", b"<mml:math", b"<mjx-", b"math/tex", b"math/asciimath", b"math/mml", b"text/tex",
    b"application/x-tex", b"math-container", b"math-tex", b"math-inline", b"math-display", b"math-block", b"math-render",
    b"math-jax", b"language-math", b"ztext-math", b'"math"', b'"math ', b' math"', b"'math'", b"=math>", b"=math ",
    b'"tex"', b'"tex ', b' tex"', b"'tex'", b"=tex>", b"=tex ", b"<tex>", b"<tex-math", b"<formula", b"<la-tex",
    b"<latex", b'"latex', b' latex"', b"'latex", b"=latex", b"/latex", b"latex.php", b"latex.", b"latexcenter", b"latex-",
    b"codecogs", b"tex.cgi", b"texerror", b"eeimg", b"data-tex", b"data-expr", b"data-latex", b"data-math",
    b"data-formula", b"data-equation", b"equation_image", b"mwe-math", b"/math/render", b"/equation?tex", b"chl=",
    b"/render/math", b"arithmatex", b"ql-img-", b"Wirisformula", b"upmath.me", b"s2cms.ru",
)  # fmt: skip
"""Bytes of which one stands in the start tag of every element that is a formula."""
_TEXT_MARKS = (
    b"$$", b"\\(", b"\\[", b"\\begin{", b"[tex]", b"[itex]", b"[latex]", b"[math]", b"[imath]", b"[ilatex]", b"[TEX]",
    b"[ITEX]",
    b"[LATEX]", b"[MATH]", b"[IMATH]", b"[ILATEX]", b"$latex",
)  # fmt: skip
_SOUGHT = scan.needles(_RENDERER_MARKS + _ELEMENT_MARKS + _TEXT_MARKS)
_FIRST_TEXT_MARK = len(_RENDERER_MARKS) + len(_ELEMENT_MARKS)

_RENDERED = frozenset(
    words(
        "MathJax MathJax_Display MathJax_SVG MathJax_SVG_Display MathJax_CHTML MathJax_MathML MathJax_PHTML "
        "MathJax_PlainSource MJXc-display mjx-chtml MathJax_Preview"
    )
)
_WRAPPERS = _RENDERED | frozenset(
    words("MJX_Assistive_MathML katex katex-mathml katex-display katex-block katex-inline mwe-math-element")
)
_WRAPPER_NAMES = frozenset({"mjx-container", "mjx-assistive-mml", "alternatives"})
_CONTAINERS = frozenset(
    words(
        "math-container wp-katex-eq wp-block-katex-display-block katex-eq arithmatex texerror katex-error mathjax-tex math-tex "
        "math-inline math-display math-block language-math latex-formula tex2jax_process math-render mathjax-process "
        "math-jax"
    )
)
_CONTAINER_NAMES = frozenset(words("mathjax tex-math tex formula math-renderer latex katex la-tex"))
_DATA = (
    "data-expr",
    "data-tex",
    "data-latex",
    "data-math",
    "data-katex",
    "data-formula",
    "data-equation",
    "data-tex-source",
)
_TEX_ENCODINGS = frozenset(words("application/x-tex application/x-latex text/tex text/latex tex latex x-tex x-latex"))
_FAILED = re.compile(r"(?<!\s)\s*Failed to parse(?:[^:]{0,300}\):)?", re.IGNORECASE)
_SCRIPTED = re.compile(r"[\\_^]")
_WIRIS = str.maketrans({"«": "<", "»": ">", "¨": '"', "§": "&", "`": "'"})
_CLASS = re.compile(rb"""\sclass\s*=\s*(?:"([^"]{0,1000})"|'([^']{0,1000})'|([^\s>"']{1,1000}))""", re.IGNORECASE)
_PLAIN_BELOW = frozenset({"br", "wbr", "", "nobr"})


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at a page gives: its formulas, the nodes that only repeat one, the scripts and addresses that may configure a
    renderer, and whether its text holds marks of formulas."""

    formulas: list[Formula]
    removed: list[int]
    configuring: list[int]
    in_text: bool


def marks(source: bytes) -> bool:
    """Whether a page may hold mathematics in any form: one fast search over its bytes. False is certain, True is not."""
    return len(scan.find(source, _SOUGHT, 1)[0]) > 0


def look(tree: Tree) -> Found:
    """All formulas of a page that stand in nodes of their own, in document order, none inside another."""
    positions, numbers = scan.find(tree.source, _SOUGHT, MAX_HITS)
    if not len(positions):
        return Found([], [], [], False)
    nodes = _nodes_at(tree, positions)
    inside = nodes >= 0
    nodes, numbers = nodes[inside], numbers[inside]
    is_text = tree.tag[nodes] == TEXT
    of_renderer = numbers < len(_RENDERER_MARKS)
    above = tree.tag[tree.parent[nodes]]
    raw = is_text & ((above == ID["script"]) | (above == ID["style"]))
    in_text = bool((is_text & ~raw & (numbers >= _FIRST_TEXT_MARK)).any())
    configuring = np.unique(np.where(raw, tree.parent[nodes], nodes)[of_renderer & (raw | ~is_text)]).tolist()
    candidates = np.unique(nodes[~is_text & (numbers < _FIRST_TEXT_MARK)]).tolist()
    search = _Search(tree, candidates[:MAX_CANDIDATES])
    search.run()
    return Found(search.formulas, search.removed, configuring, in_text)


def _nodes_at(tree: Tree, positions: np.ndarray) -> np.ndarray:
    """For each position the node whose start tag or characters it stands in, else -1."""
    nodes = np.searchsorted(tree.start, positions, side="right") - 1
    nodes = np.maximum(nodes, 0)
    for _ in range(4):  # elements that the page does not spell out start where the next one does
        outside = (
            (tree.stop[nodes] <= positions) & (nodes > 0) & (tree.start[nodes] == tree.start[np.maximum(nodes - 1, 0)])
        )
        if not outside.any():
            break
        nodes = np.where(outside, nodes - 1, nodes)
    return np.where((tree.start[nodes] <= positions) & (positions < tree.stop[nodes]) & (nodes > 0), nodes, -1)


def classes_of(tree: Tree, node: int) -> frozenset[str]:
    """An element's classes."""
    found = _CLASS.search(tree.source[int(tree.start[node]) : min(int(tree.stop[node]), int(tree.start[node]) + 4000)])
    return (
        frozenset((found[1] or found[2] or found[3] or b"").decode("utf-8", "replace").split())
        if found
        else frozenset()
    )


class _Search:
    """One page's walk over the elements that bear a mark."""

    def __init__(self, tree: Tree, candidates: list[int]) -> None:
        self.tree, self.candidates = tree, candidates
        self.names = [tree.name(node) for node in candidates]
        pairs = list(zip(candidates, self.names, strict=True))
        self.maths = [node for node, name in pairs if name.rpartition(":")[2] == "math"]
        scripts = [node for node, name in pairs if name == "script" and self.script_type(node)]
        self.sources = sorted(self.maths + scripts)
        self.formulas: list[Formula] = []
        self.removed: list[int] = []
        self.budget, self.left = MAX_CONVERTED, MAX_READ
        self.asciimath = MAX_ASCIIMATH
        self.classes: dict[int, frozenset[str]] = {}

    def run(self) -> None:
        """Fills `formulas` and `removed`; what stands inside either is passed over."""
        end = 0
        for node, name in zip(self.candidates, self.names, strict=True):
            if node < end:
                continue
            if not self.may_read(self.weight(node)):
                break
            found = self.formula(node, name)
            if found is None:
                continue
            if found.tex:
                while self.formulas and self.formulas[-1].node >= found.node:
                    self.formulas.pop()
                while self.removed and self.removed[-1] >= found.node:
                    self.removed.pop()
                self.formulas.append(found)
            else:
                self.removed.append(found.node)
            end = int(self.tree.last[found.node])

    def may_read(self, cost: int) -> bool:
        """Spends from what may be read on this page; False if it is used up."""
        self.left -= cost
        return self.left > 0

    def weight(self, node: int) -> int:
        """What reading an element's start tag costs."""
        start, stop = int(self.tree.start[node]), int(self.tree.stop[node])
        parts = _parts(self.tree.source[start:stop]) if stop - start > 500 else 0
        return EACH + stop - start + EACH_REFERENCE * parts

    def content(self, node: int) -> str | None:
        """The text below a node; None if there is too much of it, or too much was read."""
        extent = int(self.tree.close[node] - self.tree.stop[node])
        return self.tree.text(node) if extent <= MAX_EXTENT and self.may_read(extent) else None

    def may_convert(self, node: int) -> bool:
        """Spends what converting the MathML below a node costs; False if too little is left."""
        tree = self.tree
        cost = int(tree.last[node]) - node + int(tree.close[node] - tree.start[node]) // 10
        if self.budget < cost:
            return False
        self.budget -= cost
        return True

    def classes_of(self, node: int) -> frozenset[str]:
        """An element's classes, read once."""
        found = self.classes.get(node)
        if found is None:
            found = self.classes[node] = classes_of(self.tree, node)
        return found

    def formula(self, node: int, name: str) -> Formula | None:
        """The formula that an element is; with empty TeX if it only repeats one; None if it is neither."""
        tree, local = self.tree, name.rpartition(":")[2]
        if local == "math":
            tex, display = self.mathml(node)
            return self.wrapped(node, tex, display) if tex else None
        if name == "script":
            given = self.script(node)
            return Formula(node, given[0], given[1]) if given and given[0] else None
        if name == "img":
            attributes = tree.attributes(node)
            found = picture(attributes, self.classes_of(node)) or self.wiris(attributes)
            return self.wrapped(node, *found) if found else None
        if name in ("a", "link", "meta", "style", "html", "body", "head", "input", "form", "svg", "path", "use"):
            return None
        if name == "mjx-container":
            return self.container_of_mathjax(node)
        classes = self.classes_of(node)
        if classes & _RENDERED:
            return self.rendered(node, classes)
        return self.element(node, name, classes)

    def holds_source(self, node: int) -> bool:
        at = bisect_left(self.sources, node + 1)
        return at < len(self.sources) and self.sources[at] < self.tree.last[node]

    def script_type(self, node: int) -> str:
        """A script's type if it is one of mathematics, else empty."""
        kind = self.tree.attributes(node).get("type", "").lower().replace(" ", "")
        return kind if kind.startswith(("math/", "text/asciimath", "text/tex", "application/x-tex")) else ""

    def script(self, node: int) -> tuple[str, bool] | None:
        """The TeX of a script of a mathematical type."""
        kind = self.script_type(node)
        if not kind:
            return None
        source = self.content(node)
        display = "mode=display" in kind
        if source is None or len(source) > 10 * MAX_TEX:
            return None
        if "mml" in kind:
            return self.from_markup(source)[0], display
        if "asciimath" in kind:
            return self.from_asciimath(source), display
        return unwrapped(source)[0], display

    def from_asciimath(self, source: str) -> str:
        self.asciimath -= len(source)
        return unwrapped(asciimath.to_tex(source))[0] if self.asciimath > 0 else ""

    def mathml(self, node: int) -> tuple[str, bool]:
        """The TeX of a `math` element: its annotation, else its alternative text, else its MathML converted."""
        tree, attributes = self.tree, self.tree.attributes(node)
        display = attributes.get("display", "").lower() == "block" or attributes.get("mode", "").lower() == "display"
        given = attributes.get("data-latex", "") or self.annotation(node)
        if not given:
            given = attributes.get("alttext", "")
            given = given if looks_tex(given) else ""
        tex, wrapped = unwrapped(given)
        if tex:
            return tex, display or bool(wrapped)
        if not self.may_convert(node):
            return "", display
        return unwrapped(mathml.to_tex(elements.read(tree, node), display))[0], display

    def annotation(self, node: int) -> str:
        """The TeX annotation of a `math` element."""
        tree = self.tree
        for child in islice(tree.children(node), 20):
            if tree.name(child).rpartition(":")[2] != "semantics":
                continue
            for below in islice(tree.children(child), 20):
                if tree.name(below).rpartition(":")[2] == "annotation":
                    encoding = tree.attributes(below).get("encoding", "").strip().lower()
                    if encoding in _TEX_ENCODINGS:
                        return self.content(below) or ""
            break
        return ""

    def wrapped(self, node: int, tex: str, display: bool) -> Formula:
        """The formula at the outermost element around its node that stands for it alone."""
        tree, top = self.tree, node
        is_math = tree.name(node) != "img"
        for _ in range(6):
            above = int(tree.parent[top])
            if above <= 0:
                break
            classes = self.classes_of(above)
            name = tree.name(above)
            known = (
                name in _WRAPPER_NAMES or classes & _WRAPPERS or any(each.startswith("mwe-math") for each in classes)
            )
            mediawiki = any(each.startswith("mwe-math") for each in classes)
            if not known or (not is_math and not mediawiki) or (name != "alternatives" and not self.alone(above, top)):
                break
            if name == "mjx-container":
                display = display or tree.attributes(above).get("display") == "true"
            display = display or bool(
                classes & {"katex-display", "MathJax_Display", "MathJax_SVG_Display", "MJXc-display"}
            )
            display = display or any(each.startswith("mwe-math") and "display" in each for each in classes)
            top = above
        return Formula(top, tex, display)

    def alone(self, above: int, below: int) -> bool:
        """Whether all `math` elements below one node are below the other."""
        first, last = bisect_left(self.maths, above), bisect_left(self.maths, int(self.tree.last[above]))
        return all(below <= each < self.tree.last[below] for each in self.maths[first : min(last, first + 3)])

    def rendered(self, node: int, classes: frozenset[str]) -> Formula | None:
        """What MathJax 2 drew: a repetition if its script follows; else its MathML, from the element's attribute."""
        if self.script_follows(node):
            return Formula(node, "", False)
        attributes = self.tree.attributes(node)
        if self.holds_source(node) or "data-mathml" not in attributes:
            return None
        given = attributes["data-mathml"]
        if len(given) > 10 * MAX_TEX:
            return None
        tex, display = self.from_markup(given)
        return self.wrapped(node, tex, display) if tex else None

    def script_follows(self, node: int) -> bool:
        tree = self.tree
        end, sibling = int(tree.last[tree.parent[node]]), int(tree.last[node])
        for _ in range(6):
            if sibling >= end:
                return False
            name = tree.name(sibling)
            if name == "script":
                at = bisect_left(self.sources, sibling)
                return at < len(self.sources) and self.sources[at] == sibling
            if name and not self.classes_of(sibling) & _RENDERED:
                return False
            if not name and tree.text(sibling).strip():
                return False
            sibling = int(tree.last[sibling])
        return False

    def from_markup(self, markup: str) -> tuple[str, bool]:
        """The TeX of MathML given as a string."""
        if not self.may_read(EACH_TREE + len(markup)):
            return "", False
        inner = parse(markup.encode("utf-8", "replace"))
        top = next(
            (each for each in range(1, min(len(inner.tag), 20)) if inner.name(each).rpartition(":")[2] == "math"), 0
        )
        self.budget -= len(inner.tag) + len(markup) // 10
        if not top or self.budget < 0:
            return "", False
        return _Search(inner, [top]).mathml(top)

    def wiris(self, attributes: dict[str, str]) -> tuple[str, bool] | None:
        given = attributes.get("data-mathml", "")
        if not given or len(given) > 10 * MAX_TEX:
            return None
        tex, display = self.from_markup(given.translate(_WIRIS) if "«" in given else given)
        return (tex, display) if tex else None

    def container_of_mathjax(self, node: int) -> Formula | None:
        """What MathJax 3 and 4 drew without MathML beside it: from the TeX that version 4 leaves, else from its glyphs."""
        if self.holds_source(node):
            return None
        tree = self.tree
        display = tree.attributes(node).get("display") == "true"
        below = range(node, min(node + 8, int(tree.last[node])))
        if not self.may_read(int(tree.stop[below[-1]] - tree.start[node])):
            return None
        for inner in below:
            given = tree.attributes(inner).get("data-latex", "")
            tex = unwrapped(given)[0]
            if tex:
                return Formula(node, tex, display)
        if not self.may_convert(node):
            return None
        tex = unwrapped(mathml.to_tex(elements.read_glyphs(tree, node), display))[0]
        return Formula(node, tex, display) if tex else None

    def element(self, node: int, name: str, classes: frozenset[str]) -> Formula | None:
        """An element that holds TeX in an attribute or as its text."""
        attributes = self.tree.attributes(node)
        display = _is_display(name, attributes, classes)
        for key in _DATA:
            tex, wrapped = unwrapped(attributes.get(key, ""))
            if (
                tex
                and looks_tex(tex)
                and (_SCRIPTED.search(tex) or any("math" in each or "tex" in each for each in classes))
            ):
                return self.wrapped(node, tex, display or bool(wrapped))
        known = (
            bool(classes & _CONTAINERS)
            or name in _CONTAINER_NAMES
            or (name == "pre" and attributes.get("lang") == "math")
        )
        loose = "math" in classes or "tex" in classes or "latex" in classes
        if not (known or loose) or self.holds_source(node) or not self.only_text(node):
            return None
        text = self.content(node)
        if text is None or len(text) > MAX_TEX:
            return None
        text = _FAILED.sub("", text, count=1) if "texerror" in classes else text
        if "asciimath" in classes:
            return Formula(node, self.from_asciimath(text.strip(" `")), display)
        tex, wrapped = unwrapped(text)
        if wrapped is None and _several(text):
            return None
        if not tex or (wrapped is None and not looks_tex(tex) and not classes & {"math-container", "wp-katex-eq"}):
            return None
        if loose and not known and wrapped is None and not (_SCRIPTED.search(tex) or len(tex) <= 3):
            return None
        return self.wrapped(node, tex, display if wrapped is None else wrapped)

    def only_text(self, node: int) -> bool:
        """Whether an element holds nothing but text, line breaks and elements of code."""
        tree = self.tree
        below = range(node + 1, min(int(tree.last[node]), node + 40))
        return all(
            tree.name(each) in _PLAIN_BELOW or tree.name(each) == "code" or "texhtml" in self.classes_of(each)
            for each in below
        )


def _parts(tag: bytes) -> int:
    """At least as many as a start tag has attributes and character references."""
    return len(tag) - len(tag.translate(None, b" \t\r\n\f/=&"))


def _several(text: str) -> bool:
    """Whether a text holds delimiters of its own, which the text's own rules then read."""
    return "\\(" in text or "\\[" in text or text.count("$") > 1


def _is_display(name: str, attributes: dict[str, str], classes: frozenset[str]) -> bool:
    if attributes.get("display", attributes.get("data-display", attributes.get("data-katex-display", ""))).lower() in (
        "true",
        "block",
    ):
        return True
    if classes & {"inline", "math-inline", "js-inline-math"}:
        return False
    if classes & {
        "display",
        "math-display",
        "math-block",
        "js-display-math",
        "katex-display",
        "wp-block-katex-display-block",
    }:
        return True
    return name in ("div", "pre", "disp-formula") and not classes & {"math-container"}
