"""What a page declares about itself, read off its source by patterns: title, language, robots, licence, mathematics.

Every pattern is linear in the page: no nested repeats, bounded gaps.
"""

from __future__ import annotations

import html
import re

from curate.stages.extract.charset import tidy
from curate.stages.extract.marks import Marks

_TITLE = re.compile(r"<title\b[^>]{0,300}>([^<]{0,2000})", re.IGNORECASE)
_HTML = re.compile(r"<html\b([^>]{0,2000})>", re.IGNORECASE)
_META = re.compile(r"<meta\b([^>]{0,4000})>", re.IGNORECASE)
_LINK = re.compile(r"<(?:a|link)\b([^>]{0,4000})>", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"([^\s\"'<>/=]{1,60})\s{0,20}=\s{0,20}(?:\"([^\"]{0,2000})\"|'([^']{0,2000})'|([^\s\"'>]{1,2000}))"
)
_COMMONS = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8}){0,4}")
_ROBOTS_NAMES = frozenset({"robots", "googlebot", "ccbot"})
_VALUED = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")
_AGENT = re.compile(r"([a-z0-9_-]{1,60}):\s*([a-z].*)")
HEAD_CHARS = 1 << 18
"""Where title, language and meta tags are looked for: the page's first so many characters."""

_MATH_MARKS = Marks(
    b"MathJax", b"mathjax", b"<math", b"math-container", b"katex.min.css", b"latex.php", b"codecogs", b"tex.cgi",
    b'class="tex"', b"class='tex'",
)  # fmt: skip
_MATH_COMMAND_SOURCE = re.compile(rb"\\[a-z]{2,}")
_COMMANDS = (
    "alpha approx bar begin beta binom boldsymbol cap cdot cdots chi circ cos cup delta Delta displaystyle dfrac dot dots end "
    "epsilon equiv eta exists exp forall frac gamma Gamma geq hat hbar implies in infty int kappa lambda Lambda langle ldots "
    "left leq lim ln log mapsto mathbb mathbf mathcal mathfrak mathrm mu nabla neq nu oint omega Omega operatorname otimes "
    "overline partial phi Phi pi pm prime prod propto psi Psi quad rangle rho right rightarrow setminus sigma Sigma sim sin "
    "sqrt subset subseteq sum tan tau text textbf tfrac theta Theta times to tilde underline varepsilon varphi vec wedge "
    "xi zeta"
)
_LATEX = re.compile(rf"\\(?:{'|'.join(_COMMANDS.split())})(?![A-Za-z])")
_DELIMITED = re.compile(
    r"\$\$[^$]{1,2000}\$\$|\\\([^\n]{1,2000}?\\\)|\\\[.{1,2000}?\\\]|\\begin\{[a-z]{1,20}\*?\}", re.DOTALL
)


def title_of(source: str) -> str | None:
    """The `<title>`, entities resolved, spaces joined, at most 500 characters; None if there is none."""
    found = _TITLE.search(source, 0, HEAD_CHARS)
    title = " ".join(tidy(html.unescape(found[1])).split())[:500] if found else ""
    return title or None


def language_of(source: str, header: str | None = None) -> str | None:
    """The declared language as a lower-case tag, `de` or `pt-br`: `<html lang>`, else the Content-Language header's first."""
    found = _HTML.search(source, 0, HEAD_CHARS)
    attributes = _attributes(found[1]) if found else {}
    for given in (attributes.get("lang"), attributes.get("xml:lang"), (header or "").partition(",")[0]):
        if given and _LANGUAGE.fullmatch(given.strip()):
            return given.strip().lower().replace("_", "-")
    return None


def robots_of(source: str, header: str | None = None) -> str | None:
    """Robots directives of the meta tags and the X-Robots-Tag header, lower-case, each once, in their order, comma-separated.

    A directive for another robot than Google's or Common Crawl's keeps its name: `otherbot:noindex`.
    """
    given = [header or ""]
    for tag in _META.finditer(source, 0, HEAD_CHARS):
        attributes = _attributes(tag[1])
        name = attributes.get("name", "").strip().lower()
        if name in _ROBOTS_NAMES:
            given.append(attributes.get("content", ""))
        elif name == "tdm-reservation" and attributes.get("content", "").strip() == "1":
            given.append(name)
    directives: dict[str, None] = {}
    for part in ",".join(given).lower().split(","):
        directive = " ".join(part.split())
        agent = _AGENT.fullmatch(directive)
        if agent and agent[1] not in _VALUED:
            directive = agent[2] if agent[1] in _ROBOTS_NAMES else f"{agent[1]}:{agent[2]}"
        if directive:
            directives[directive[:100]] = None
    return ",".join(list(directives)[:50]) or None


def license_of(source: str) -> str | None:
    """The target of the first `rel=license` link, else of the first link to a Creative Commons licence; None without."""
    commons = None
    for tag in _LINK.finditer(source):
        if "license" not in tag[1].lower() and not _COMMONS.search(tag[1]):
            continue
        attributes = _attributes(tag[1])
        target = html.unescape(attributes.get("href", "")).strip()[:500]
        if target and "license" in attributes.get("rel", "").lower().split():
            return target
        if commons is None and _COMMONS.search(target):
            commons = target
    return commons


def _attributes(tag: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, double, single, bare in _ATTRIBUTE.findall(tag):
        found.setdefault(name.lower(), double or single or bare)
    return found


def has_math(text: str) -> bool:
    """True if an extracted text holds LaTeX: a common command (`\\frac`, `\\sum`, `\\alpha` …), a `\\begin{…}`, or a formula
    between `\\( \\)`, `\\[ \\]` or `$$ $$`."""
    if "\\" in text and _LATEX.search(text):
        return True
    return ("\\" in text or "$$" in text) and any(_is_formula(match[0]) for match in _DELIMITED.finditer(text))


def _is_formula(found: str) -> bool:
    """`$$` is also how people write of money: between two of them stands a formula only with an operator or a command."""
    return not found.startswith("$$") or re.search(r"[\\^_=<>+*/]", found[2:-2]) is not None


def may_hold_math(page: bytes, charset: str | None = None) -> bool:
    """False only for a page that `math_prefilter` is false of whatever its text: a look at the bytes alone.

    A page in UTF-16 or UTF-32 may hold anything: its bytes say nothing before they are decoded.
    """
    wide = (charset or "").lower().startswith(("utf-16", "utf16", "utf-32", "utf32", "unicode", "ucs"))
    wide = wide or b"\0" in page[:4096]  # or by a byte-order mark alone
    return wide or _MATH_MARKS.within(page) or _MATH_COMMAND_SOURCE.search(page) is not None


def math_prefilter(page: bytes, text: str) -> bool:
    """OpenWebMath's prefilter on the HTML (Paster et al. 2023, section 3.1), rules (a) and (b): a mark of a formula renderer,
    or a TeX command in the source and one of the common LaTeX commands in the extracted text."""
    if _MATH_MARKS.within(page):
        return True
    return "\\" in text and _LATEX.search(text) is not None and _MATH_COMMAND_SOURCE.search(page) is not None
