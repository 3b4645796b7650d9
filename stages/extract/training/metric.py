"""How good an extracted text is: word 4-grams against gold text, snippets, and what became of code blocks and tables.

A tie between engines is judged by `paired_bootstrap` over pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 4
MAX_CELL_CHARS = 300
"""A longer cell is layout: a table row is a record of short values."""
_WORD = re.compile(r"\w+")
_INVISIBLE = {0xA0: " ", 0xAD: None, 0x200B: None, 0x200C: None, 0x200D: None, 0x2060: None, 0xFEFF: None}
_MIX = np.uint64(0x9E3779B97F4A7C15)


def tokens(text: str) -> list[str]:
    r"""The words of a text: runs of `\w`, case kept."""
    return _WORD.findall(text)


@dataclass(frozen=True, slots=True)
class Shingles:
    """A multiset of word 4-grams as sorted 64-bit hashes with counts; valid within one process (string hashes are seeded)."""

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]
    total: int


def shingles(text: str) -> Shingles:
    """Word 4-grams of a text with their counts; a text of one to three words is one shingle, an empty one has none."""
    words = tokens(text)
    size = min(SHINGLE_WORDS, len(words))
    if size == 0:
        return Shingles(np.empty(0, np.uint64), np.empty(0, np.int64), 0)
    hashes = np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)
    total = len(words) - size + 1
    # The size is the seed, so that a short text's only shingle never equals a 4-gram.
    mixed = np.full(total, size, np.uint64)
    for offset in range(size):
        mixed = (mixed ^ hashes[offset : offset + total]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    keys, counts = np.unique(mixed, return_counts=True)
    return Shingles(keys, counts.astype(np.int64, copy=False), total)


class Score(NamedTuple):
    """Fractions from 0 to 1."""

    precision: float
    recall: float
    f1: float


def score(gold: str | Shingles, text: str | Shingles) -> Score:
    """Precision, recall and F1 of word 4-grams, multiset overlap. Both empty: all 1; one of them empty: all 0."""
    a = shingles(gold) if isinstance(gold, str) else gold
    b = shingles(text) if isinstance(text, str) else text
    if a.total == 0 or b.total == 0:
        return Score(1.0, 1.0, 1.0) if a.total == b.total else Score(0.0, 0.0, 0.0)
    if len(a.keys) > len(b.keys):
        shared = _overlap(b, a)
    else:
        shared = _overlap(a, b)
    return Score(shared / b.total, shared / a.total, 2 * shared / (a.total + b.total))


def f1(gold: str | Shingles, text: str | Shingles) -> float:
    """F1 of word 4-grams, from 0 to 1 (see `score`). Pass `shingles(gold)` where one gold text meets many texts."""
    return score(gold, text).f1


def _overlap(small: Shingles, large: Shingles) -> int:
    at = np.searchsorted(large.keys, small.keys)
    at[at == len(large.keys)] = 0
    both = large.keys[at] == small.keys
    return int(np.minimum(small.counts[both], large.counts[at[both]]).sum())


class Snippets(NamedTuple):
    """How many snippets that must appear were found, and how many that must not appear leaked."""

    found: int
    must: int
    leaked: int
    must_not: int


def snippets(text: str, must: Iterable[str], must_not: Iterable[str]) -> Snippets:
    """Snippets contained in a text, any white space on both sides read as one space. Empty snippets do not count."""
    flat = _flat(text)
    wanted = [flat_snippet for flat_snippet in map(_flat, must) if flat_snippet]
    unwanted = [flat_snippet for flat_snippet in map(_flat, must_not) if flat_snippet]
    return Snippets(
        sum(snippet in flat for snippet in wanted),
        len(wanted),
        sum(snippet in flat for snippet in unwanted),
        len(unwanted),
    )


def snippet_score(pages: Iterable[Snippets]) -> Score:
    """Precision, recall and F1 over all snippets of many pages, as trafilatura's evaluation counts them.

    Found = true positive, missing = false negative, leaked = false positive. A quotient over nothing is 0.
    """
    counts = list(pages)
    found = sum(page.found for page in counts)
    must = sum(page.must for page in counts)
    leaked = sum(page.leaked for page in counts)
    return Score(
        found / (found + leaked) if found + leaked else 0.0,
        found / must if must else 0.0,
        2 * found / (found + leaked + must) if found + leaked + must else 0.0,
    )


def _flat(text: str) -> str:
    return " ".join(text.split())


class Difference(NamedTuple):
    """Mean of a - b, its 95 % interval, and the two-sided p of the two being equal."""

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(a: Sequence[float], b: Sequence[float], n: int = 10_000, seed: int = 0) -> Difference:
    """Mean difference a - b over pages, by resampling the pages `n` times. Raises ValueError for none or unequal numbers.

    p is twice the smaller share of resamples on either side of 0 (Efron and Tibshirani 1993), never under 2 / (n + 1).
    """
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64) if len(a) == len(b) else np.empty(0)
    if not len(difference):
        raise ValueError(f"a paired bootstrap needs two equally long lists of scores, not {len(a)} and {len(b)}")
    rng = np.random.default_rng(seed)
    means = np.empty(n)
    for start in range(0, n, 500):
        rows = min(500, n - start)
        means[start : start + rows] = difference[rng.integers(0, len(difference), (rows, len(difference)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    side = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return Difference(float(difference.mean()), float(low), float(high), min(1.0, 2 * (side + 1) / (n + 1)))


_BEFORE = " \t>"
"""What may stand before every line of a block: indentation, marks of a quotation."""


def code_kept(blocks: Iterable[str], text: str) -> list[bool]:
    """Whether each gold code block stands in the text, line breaks and indentation exactly.

    Its lines must be consecutive lines of the text, all behind one prefix of white space or `>` (a block inside a list or
    a quotation is moved as a whole). Trailing white space and characters without width do not count, a no-break space is a
    space, and several blank lines are as one. A block of one line may stand between backticks.
    """
    lines = _code_lines(text)
    places: dict[str, list[int]] = {}
    for at, line in enumerate(lines):
        for key in {line.lstrip(_BEFORE), line.strip(_BEFORE + "`")}:
            places.setdefault(key, []).append(at)
    return [_stands(_dedented(_code_lines(block)), lines, places) for block in blocks]


def _stands(block: list[str], lines: list[str], places: Mapping[str, list[int]]) -> bool:
    if not block:
        return True
    first = places.get(block[0].lstrip(_BEFORE), [])
    if len(block) == 1 and any(lines[at].strip() in (f"`{block[0]}`", f"`` {block[0]} ``") for at in first):
        return True
    return any(_stands_at(at, block, lines) for at in first)


def _stands_at(at: int, block: list[str], lines: list[str]) -> bool:
    if not lines[at].endswith(block[0]):
        return False
    prefix = lines[at][: len(lines[at]) - len(block[0])]
    there = lines[at : at + len(block)]
    return len(there) == len(block) and all(
        line == prefix + wanted if wanted else not line.strip(_BEFORE)
        for line, wanted in zip(there, block, strict=True)
    )


def _code_lines(text: str) -> list[str]:
    """Lines without trailing white space, runs of blank ones as one, none at the ends."""
    kept: list[str] = []
    for line in text.translate(_INVISIBLE).splitlines():
        bare = line.rstrip()
        if bare or (kept and kept[-1]):
            kept.append(bare)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _dedented(lines: list[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    return [line[margin:] for line in lines]


def tables_kept(rows: Iterable[Sequence[str]], text: str) -> list[bool]:
    r"""Whether each gold table row stands in the text: all of its non-empty cells in one line, in order.

    Cells are compared by their words and punctuation marks. White space, dollar signs, backslashes before `|` and TeX's
    `{\displaystyle …}` around a formula do not count.
    """
    lines = [_cell(line) for line in text.splitlines() if line.strip()]
    whole = "\n".join(lines)
    kept = []
    for row in rows:
        cells = [cell for cell in map(_cell, row) if cell.strip()]
        # Most rows that are missing have a cell that stands nowhere, which one search tells.
        kept.append(all(cell in whole for cell in cells) and any(_in_order(cells, line) for line in lines))
    return kept


def _in_order(cells: list[str], line: str) -> bool:
    at = 0
    for cell in cells:
        at = line.find(cell, at)
        if at < 0:
            return False
        at += len(cell) - 1  # the space after one cell is the space before the next
    return True


_FORMULA = re.compile(r"\s*\{\s*\\displaystyle\b(.*)\}\s*", re.DOTALL)
_MARK = re.compile(r"\w+|[^\w\s$]")


def _cell(text: str) -> str:
    """Words and marks between single spaces, one at each end."""
    formula = _FORMULA.fullmatch(text)
    bare = (
        (formula[1] if formula else text)
        .translate(_INVISIBLE)
        .replace("\\|", "|")
        .replace("\\$", "$")
        .replace("\\displaystyle", " ")
    )
    return f" {' '.join(_MARK.findall(bare))} "


class Structure(NamedTuple):
    """Code blocks and table rows of a gold text."""

    code: list[str]
    rows: list[list[str]]


def structure_of_blocks(content_list: Iterable[Iterable[Mapping[str, Any]]]) -> Structure:
    """Code and table rows of a gold page given as typed blocks (`content_list` of pages-math-code).

    Code found by `classname` alone is left out: that gold's maker took quotations of forums for code.
    """
    code: list[str] = []
    rows: list[list[str]] = []
    for block in (block for page in content_list for block in page):
        content = block.get("content")
        if not isinstance(content, Mapping):
            continue
        source = content.get("code_content")
        if (
            block.get("type") == "code"
            and content.get("by") != "classname"
            and isinstance(source, str)
            and source.strip()
        ):
            code.append(source)
        elif "table" in str(block.get("type")):
            # Line breaks inside cells are escaped once too often there.
            rows += structure_of_html(re.sub(r"&lt;br\s*/?&gt;", " ", str(content.get("html", "")))).rows
    return Structure(code, rows)


def structure_of_html(html: str) -> Structure:
    """Code (`pre`) and table rows of a gold page given as HTML.

    A row counts if it has two or more cells with text, none longer than MAX_CELL_CHARS, and no table inside: the rest is
    layout. What is hidden by `display: none` is not part of a cell.
    """
    from lxml import html as parser  # type: ignore[import-untyped]

    if not html.strip():
        return Structure([], [])
    tree = parser.document_fromstring(f"<div>{html}</div>")
    for hidden in tree.xpath("//script | //style | //*[contains(translate(@style, ' ', ''), 'display:none')]"):
        hidden.drop_tree()
    for line_break in tree.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "").removeprefix("\n")
    for inside in tree.xpath("//pre//p"):
        # A cleaner's paragraph in place of two line breaks.
        inside.text = "\n\n" + (inside.text or "")
    code = [pre.text_content() for pre in tree.iter("pre") if pre.find(".//table") is None]
    return Structure([source for source in code if source.strip()], list(_rows(tree)))


def _rows(tree: Any) -> Iterator[list[str]]:
    for row in tree.iter("tr"):
        if row.find(".//table") is not None:
            continue
        cells = [cell.text_content().strip() for cell in row if cell.tag in ("td", "th")]
        filled = [cell for cell in cells if cell]
        if len(filled) > 1 and max(map(len, filled)) <= MAX_CELL_CHARS:
            yield filled
