"""Labelled texts to train and measure the shipped models on, read from a folder of archives (`--data`), never committed.

An example has a text, a label, a group (site, book file or problem set: what a split keeps together) and whether it is
kept out of training for good.
"""

from __future__ import annotations

import html
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.classifiers import weak
from curate.classifiers.model import Examples, fold, site
from curate.pipeline.errors import UsageError

KEPT_OUT_FOLD = 4
"""Sites in this part of five are never trained on (`model.fold`)."""

COMMAND = re.compile(
    r"\\(?:frac|dfrac|tfrac|sqrt|sum|prod|int|iint|oint|lim|log|ln|sin|cos|tan|exp|max|min|sup|inf|det|gcd|binom|alpha|beta|gamma|delta"
    r"|epsilon|varepsilon|zeta|eta|theta|lambda|mu|nu|xi|pi|rho|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi"
    r"|Omega|partial|nabla|infty|leq?|geq?|neq?|equiv|approx|sim|cong|pm|mp|times|cdot|div|circ|oplus|otimes|in|notin|subset|subseteq|cup"
    r"|cap|emptyset|forall|exists|neg|wedge|vee|to|rightarrow|Rightarrow|leftarrow|longrightarrow|mapsto|ldots|cdots|dots|vdots|mathbb"
    r"|mathbf|mathrm|mathcal|mathfrak|mathit|boldsymbol|hat|bar|vec|tilde|overline|underline|overrightarrow|left|right|angle|triangle"
    r"|quad|text|operatorname|begin\{(?:equation|align|array|cases|[pbv]?matrix))(?![a-zA-Z])"
)
"""A common LaTeX command of mathematics: the weak label of OpenWebMath's MathScore (arXiv 2310.06786)."""

_CHINESE = re.compile(r"[\u4e00-\u9fff]{2}")
_FORMULA = "\ue000"
_FORMULAE = re.compile(r"<(m:math|alignmath|latex|tikz)\b.*?</\1>", re.DOTALL)
_HEAD = re.compile(r"<metadata\b.*?</metadata>|<!--.*?-->|<\?.*?\?>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_PROBLEM_FIELDS = ("problem", "question", "content", "passage", "solution", "steps", "answer")
_KEPT_OUT_BOOKS = ("linear-algebra", "minerva_math")


def members(data: Path, archive: str) -> Iterator[tuple[str, str]]:
    """(path, text) of every file of an archive, sorted by path."""
    path = data / archive
    if not path.is_file():
        raise UsageError(f"no {archive} in {data}: give the folder that holds it with --data")
    with tarfile.open(path) as tar:
        found = {entry.name: stream.read() for entry in tar if (stream := tar.extractfile(entry)) is not None}
    for name in sorted(found):
        yield name, found[name].decode("utf-8", "replace")


def json_lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        if line.strip():
            yield json.loads(line)


def web_pages(data: Path) -> list[dict[str, Any]]:
    """Web pages, as many of each of 24 topics and 24 formats: url, text, topic, format, and the confidence of both."""
    return [row for name, text in members(data, "topics.tar.xz") if name.endswith(".jsonl") for row in json_lines(text)]


def topics(data: Path) -> Examples:
    """Web pages labelled with one of 24 topics, by site."""
    examples = Examples()
    for row in web_pages(data):
        _add_page(examples, row, row["topic"], float(row["topic_confidence"]))
    return examples


def quality(data: Path) -> Examples:
    """Web pages with a target, 0–1: how far a page is reference or explanation, by its format, and written prose.

    The target is the format's grade (`weak.QUALITY`) times the text's `heuristic_prose`.
    """
    from curate.classifiers.heuristics import heuristic_prose

    pages, examples = web_pages(data), Examples()
    prose = heuristic_prose(pa.array([row["text"] for row in pages]))
    for row, share in zip(pages, prose, strict=True):
        sure = float(row["format_confidence"])
        _add_page(examples, row, weak.QUALITY[row["format"]] * float(share), sure, weight=sure)
    return examples


def education(data: Path) -> Examples:
    """Web pages with a target, 0–5: how much a page of that format and topic teaches (`weak.TEACHES`, `weak.TAUGHT`).

    A page counts in training as the square root of what its format counts on the web.
    """
    pages, examples = web_pages(data), Examples()
    shares = np.sqrt(on_the_web(pages))
    for row, share in zip(pages, shares / shares.mean(), strict=True):
        target = 5 * weak.TEACHES[row["format"]] * weak.TAUGHT[row["topic"]]
        _add_page(
            examples, row, target, min(float(row["format_confidence"]), float(row["topic_confidence"])), float(share)
        )
    return examples


def on_the_web(pages: list[dict[str, Any]]) -> npt.NDArray[np.float64]:
    """What each page stands for in a sample of the web, as shares that add up to one: by its format (`weak.WEB_TOKENS`)."""
    formats = np.array([row["format"] for row in pages])
    length = np.array([len(row["text"]) for row in pages])
    shares = np.zeros(len(pages))
    for name, tokens in weak.WEB_TOKENS.items():
        if (formats == name).any():
            shares[formats == name] = tokens / length[formats == name].sum()
    return shares / shares.sum()


def _add_page(
    examples: Examples, row: dict[str, Any], label: str | float, confidence: float, weight: float = 1.0
) -> None:
    group = site(row["url"])
    examples.add(row["text"], label, group, fold(group) == KEPT_OUT_FOLD, confidence, weight)


def textbooks(data: Path) -> Examples:
    """Pieces of three textbooks without their formulas, each labelled with its book."""
    examples = Examples()
    for name, text in members(data, "math-edu.tar.xz"):
        book = name.split("/")[-2]
        if book in ("calculus", "linear-algebra", "philosophy"):
            for piece in pieces(_without_markup(text).replace(_FORMULA, " "), name, most=2):
                if len(piece) > 250:
                    examples.add(piece, book, name, kept_out=True)
    return examples


def human_quality(data: Path) -> Examples:
    """Pages that people judged, `keep` or `drop`: to measure with, never trained on."""
    examples = Examples()
    for name, text in members(data, "quality-labels.tar.xz"):
        if name.endswith(".jsonl"):
            for row in json_lines(text):
                examples.add(row["text"], "keep" if int(row["label"]) else "drop", kept_out=True)
    return examples


def mathematics(data: Path) -> Examples:
    """`math` for texts that hold a common LaTeX command (or MathML), `other` for texts that hold none and are no mathematics.

    Mathematics without LaTeX (most school word problems) is neither and left out; so is Chinese, of which there is nothing
    but mathematics. Half of the mathematical texts that are trained on go on with some of another page, so that a site's
    chrome and chat do not count against mathematics. Kept out of training: a fifth of the web sites, novels and code
    files, and two whole sources of mathematics (a linear algebra textbook, a problem set).
    """
    others, examples = Examples(), Examples()
    for group, text in _other(data):
        if not COMMAND.search(text) and _FORMULA not in text:
            others.add(text, "other", group, fold(group) == KEPT_OUT_FOLD)
    chance, chatter = random.Random(0), others.part(False).texts
    for collection, group, text in _mathematical(data):
        if not (COMMAND.search(text) or _FORMULA in text) or _CHINESE.search(text):
            continue
        kept_out = collection in _KEPT_OUT_BOOKS
        text = text.replace(_FORMULA, " ")
        if not kept_out and chance.random() < 0.5:
            text += "\n\n" + chance.choice(chatter)[: int(len(text) * 1.5 * chance.random())]
        examples.add(text, "math", group, kept_out)
    for row in others.rows():
        examples.add(*row)
    return examples


def word_problems(data: Path) -> list[str]:
    """School word problems, which hold no LaTeX: never trained on."""
    return [
        row["question"]
        for name, text in members(data, "math-edu.tar.xz")
        if name.endswith("gsm8k/test.jsonl")
        for row in json_lines(text)
    ]


def _without_markup(text: str) -> str:
    """A textbook's XML as text, `_FORMULA` where one stood."""
    text = _FORMULAE.sub(_FORMULA, _HEAD.sub(" ", text))
    return re.sub(r"[ \t]+", " ", html.unescape(_TAG.sub(" ", text)))


def _mathematical(data: Path) -> Iterator[tuple[str, str, str]]:
    """(collection, group, text) of mathematical sources."""
    for name, text in members(data, "math-edu.tar.xz"):
        collection = name.split("/")[-2]
        if collection in ("calculus", "linear-algebra"):
            for piece in pieces(_without_markup(text), name, most=12):
                yield collection, name, piece
        elif "/problems/" in name and name.endswith(".jsonl"):
            rows = [
                "\n".join(str(row[key]) for key in _PROBLEM_FIELDS if row.get(key) not in (None, "None"))
                for row in json_lines(text)
            ]
            # One page of exercises holds several problems; single ones, too short to say much, come as well.
            for number in range(0, len(rows), 4):
                yield collection, f"{name}/{number // 40}", "\n\n".join(rows[number : number + 1 + number // 4 % 4])
    for name, text in members(data, "corpus.tar.xz"):
        if name.endswith("math-tex.jsonl"):
            for row in json_lines(text):
                for piece in pieces(row["text"], row["source"] + row["text"][:40], most=3):
                    yield "tex", f"tex/{row['source']}", piece


def _other(data: Path) -> Iterator[tuple[str, str]]:
    """(group, text) of sources that are not mathematics unless they hold LaTeX."""
    for text, group in zip((pages := topics(data)).texts, pages.groups, strict=True):
        yield group, text
    for name, text in members(data, "corpus.tar.xz"):
        if not name.endswith("math-tex.jsonl"):
            for row in json_lines(text):
                for piece in pieces(row["text"], row["source"] + row["text"][:40], most=1):
                    yield f"{row['domain']}/{row['source']}", piece
    for name, text in members(data, "math-edu.tar.xz"):
        if "/philosophy/" in name:
            for piece in pieces(_without_markup(text), name, most=4):
                yield f"philosophy/{name}", piece


def pieces(text: str, key: str, most: int) -> Iterator[str]:
    """Up to `most` cuts of page length (300 to 6,000 characters), at spaces; the same key gives the same cuts."""
    chance = random.Random(key)
    for _ in range(most):
        size = int(300 * 20 ** chance.random())
        start = chance.randrange(max(len(text) - size, 1))
        start = text.find(" ", start) + 1 if start else 0
        yield text[start : start + size].rsplit(" ", 1)[0]
        if len(text) <= size:
            return


def math_pages(data: Path) -> Examples:
    """Real web pages with mathematics (`math`) and with code, tables or pictures (`other`): never trained on."""
    examples = Examples()
    for name, text in members(data, "pages-math-code.tar.xz"):
        if name.endswith(".jsonl"):
            for row in json_lines(text):
                if len(row["content"].strip()) >= 20:  # a few come without text
                    examples.add(
                        row["content"], "math" if "/math_" in name else "other", site(row["url"]), kept_out=True
                    )
    return examples
