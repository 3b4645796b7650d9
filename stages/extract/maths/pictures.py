"""The TeX of pictures of formulas, from their alternative text or the address that draws them."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

from curate.stages.extract.maths.formula import MAX_TEX, looks_tex, unwrapped
from curate.stages.extract.maths.symbols import words

# Where a service takes the formula in its address: what stands before it, and whether `+` means a space.
_SERVICES = (
    (re.compile(r"codecogs\.com/(?:eqnedit\.php\?latex=|[^?]{0,60}\?)"), False),
    (re.compile(r"(?:mimetex|mathtex|textex|tex)\.cgi\?(?:formdata=)?"), False),
    (re.compile(r"latex\.php\?(?:[^#]{0,200}&)?latex="), True),
    (re.compile(r"/equation\?tex="), True),
    (re.compile(r"chart\.(?:apis\.google|googleapis)\.com/chart\?(?:[^#]{0,200}&)?chl="), True),
    (re.compile(r"/render/math\?(?:[^#]{0,100}&)?math="), True),
    (re.compile(r"latex\.numberempire\.com/render\?|math\.(?:now\.sh|vercel\.app)/?\?(?:from|inline|block)="), False),
    (re.compile(r"(?:i\.upmath\.me|tex\.s2cms\.ru)/(?:svg|png)/"), False),
)
_PARAMETERS = re.compile(r"&(?:bg|fg|s|c|zoom|cht|chf|chs|chco|mode|color|inline|size)=.*\Z", re.DOTALL)
_OPTIONS = re.compile(
    r"(?:\s|\\dpi\s?\{\d+\}|\\(?:inline|bg_\w+|fn_\w+|tiny|small|large|Large|LARGE|huge|normalsize)(?![A-Za-z])"
    r"|\\bg\s?\{\w+\}|\\fg\s?\{\w+\}|\\bg\s\w+)*"
)
_SPOKEN = re.compile(r"(?<!\s)\s*LaTeX:\s*")
_NO_FORMULA = re.compile(r"(?:Rendered by|Image|LaTeX|TeX|Math|Formula|Equation)\b[^\\^_=]*\Z", re.IGNORECASE)
_CLASSES = frozenset(
    words("latex tex latexcenter mathtex tex-image latex-image math-image equation_image ztext-math teximg latex_img")
)
_SOURCES = ("src", "data-src", "data-lazy-src", "data-original", "data-actualsrc")


def picture(attributes: dict[str, str], classes: frozenset[str]) -> tuple[str, bool] | None:
    """A picture's (TeX, display), None if it is of no formula."""
    address = next(
        (
            attributes[name]
            for name in _SOURCES
            if "tex" in attributes.get(name, "") or "math" in attributes.get(name, "")
        ),
        "",
    )
    address = address or next(
        (
            attributes[name]
            for name in _SOURCES
            if "cogs" in attributes.get(name, "") or "chl=" in attributes.get(name, "")
        ),
        "",
    )
    display = any("display" in each for each in classes) or "latexcenter" in classes
    for given in (
        attributes.get("data-equation-content"),
        attributes.get("data-formula"),
        attributes.get("data-tex"),
        attributes.get("data-latex"),
    ):
        if given:
            return _result(unquote(given) if given.startswith("%") else given, display)
    alt = _SPOKEN.sub("", attributes.get("alt", ""), count=1)
    if _of_formula(attributes, classes):
        if alt.strip() and not _NO_FORMULA.match(alt.strip()):
            return _result(alt, display)
        return _from_address(address, display)
    found = _from_address(address, display)
    if found is None and "math/render" in address and looks_tex(alt):
        return _result(alt, display)
    return found


def _of_formula(attributes: dict[str, str], classes: frozenset[str]) -> bool:
    return bool(
        classes & _CLASSES
        or "eeimg" in attributes
        or any(each.startswith(("mwe-math-fallback-image", "ql-img-", "wp-latex")) for each in classes)
    )


def _from_address(address: str, display: bool) -> tuple[str, bool] | None:
    if len(address) > 3 * MAX_TEX:
        return None
    for service, plus in _SERVICES:
        found = service.search(address[:400])
        if found:
            given = _PARAMETERS.sub("", address[found.end() :])
            return _result((unquote_plus if plus else unquote)(given), display)
    return None


def _result(tex: str, display: bool) -> tuple[str, bool] | None:
    tex = tex.replace("&space;", " ")
    options = _OPTIONS.match(tex)
    tex, wrapped = unwrapped(tex[options.end() :] if options else tex)
    if wrapped is None and tex.startswith("\\displaystyle") and display:
        tex = tex.removeprefix("\\displaystyle").lstrip()
    return (tex, display if wrapped is None else wrapped or display) if tex else None
