"""Pages made to cost the engine `curate` more than they are worth: what is spent has bounds, and no text is lost by them."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.stages.extract import content, maths
from curate.stages.extract.content import chosen, markdown, render
from curate.stages.extract.content.segment import cut
from curate.stages.extract.dom import parse
from curate.stages.extract.maths import forms, reading

LOADED = "<script src=MathJax.js></script>"
OLD_MONEY = re.compile(
    r"\s*\d[\d,.]*\s?(?:[kKmMbB]|bn|mn)?(?:\s+\Z|[\s,.;:!?)/-]+[^\\^_{}=<>]*[A-Za-z]{2,}[^\\^_{}=<>]*\Z)"
)


def written(page: str, *, as_markdown: bool, links: bool = False) -> str:
    """All blocks of a page as the engine writes them, whatever the model thinks of them."""
    described, found = content.described(page.encode())
    keep = np.ones(len(described.blocks), np.bool_)
    text = maths.normaliser(found.delimiters) if found and found.delimiters.active else None
    return render.render(described.tree, described.blocks, keep, markdown=as_markdown, links=links, block_text=text)


FLOODS = {
    "specials": "*_`",
    "open delimiters": "\\(",
    "dollars": "$",
    "formulas": "$x_1$ ",
    "code": "<code>`` `</code>",
    "bold": "<b>x</b>",
    "MathML": "<math><mi>x</mi></math>",
    "unclosed MathML": "<math><mfrac><mn>1</mn>",
}


@pytest.mark.parametrize("as_markdown", [False, True], ids=["text", "Markdown"])
@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_time_grows_with_the_page_and_never_with_its_square(flood: str, as_markdown: bool) -> None:
    def seconds(size: int) -> float:
        page = f"{LOADED}<p>{flood * (size // len(flood))}"
        started = time.process_time()
        maths.has_math(written(page, as_markdown=as_markdown))
        return time.process_time() - started

    seconds(10_000)
    # Four times the page may cost ten times as much, and half a second for whatever else the machine does; what goes with the
    # square, or looks 2,000 characters ahead from each, costs far more.
    assert seconds(400_000) < 10 * seconds(100_000) + 0.5


def test_formulas_beyond_the_bound_stay_in_the_text() -> None:
    page = f"{LOADED}<p>" + "<math><mi>x</mi></math> " * 40_000
    found = maths.read(parse(page.encode()))
    assert 1_000 < len(found.formulas) <= forms.MAX_READ // forms.EACH
    assert written(page, as_markdown=False).count("x") == 40_000


def test_a_page_of_thousands_of_formulas_is_read_whole() -> None:
    tex = "{\\displaystyle a_{n}+b}"
    one = (
        '<span class="mwe-math-element"><span class="mwe-math-mathml-inline" style="display: none;">'
        '<math alttext="TEX"><semantics>'
        "<mrow><msub><mi>a</mi><mi>n</mi></msub><mo>+</mo><mi>b</mi></mrow>"
        '<annotation encoding="application/x-tex">TEX</annotation></semantics></math></span>'
        '<img src="https://wikimedia.org/api/rest_v1/media/math/render/svg/0a1b2c" '
        'class="mwe-math-fallback-image-inline" alt="TEX">'
        "</span> and so on. "
    ).replace("TEX", tex)
    text = written(f"<p>{one * 40}" * 100, as_markdown=True)
    assert text.count("$") == 2 * 4_000


def test_mathml_without_annotations_is_converted_on_a_page_of_a_thousand_formulas() -> None:
    one = "<math><mi>a</mi><mo>+</mo><mfrac><mi>b</mi><mn>2</mn></mfrac><mo>=</mo><msup><mi>c</mi><mn>2</mn></msup></math> "
    assert written(f"<p>{one * 1_000}", as_markdown=False).count("\\frac{b}{2}") == 1_000


def test_a_text_of_thousands_of_delimited_formulas_is_read_whole() -> None:
    text = written(f"{LOADED}<p>" + "Let \\(x_{1} + \\frac{1}{2}\\) cost $5. " * 5_000, as_markdown=False)
    assert text.count("$x_{1} + \\frac{1}{2}$") == text.count("\\$5") == 5_000


def test_dollars_beyond_the_bound_are_dollars() -> None:
    text = written(f"{LOADED}<p>" + "$x_1$ " * 60_000, as_markdown=False)
    assert text.count("x_1") == 60_000
    assert text.startswith("$x_1$ $x_1$") and text.endswith("\\$x_1\\$ \\$x_1\\$")
    assert len(re.findall(r"(?<!\\)\$", text)) <= 2 * reading.MAX_WORK / reading.EACH


@given(st.text(alphabet="0123456789,. kmbnKMB;:!?)/-a\n\\_=", max_size=14).map(lambda rest: "5" + rest))
def test_an_amount_of_money_is_what_its_pattern_says(inside: str) -> None:
    assert reading.is_money(inside) == bool(OLD_MONEY.match(inside))


def test_reading_an_amount_takes_a_time_that_grows_with_its_length() -> None:
    def seconds(size: int) -> float:
        started = time.process_time()
        assert [reading.is_money(each) for each in ("5" + ", " * size + "ab " * size + "_x", "5" + "," * size)] == [
            False,
            False,
        ]
        return time.process_time() - started

    assert seconds(40_000) < 10 * seconds(10_000) + 0.3


@pytest.mark.parametrize("before", ["", f"{LOADED}<p>$x_1$"], ids=["without formulas", "with a formula"])
def test_specials_beyond_the_bound_are_escaped_one_and_all(before: str) -> None:
    text = written(f"{before}<p>" + "*_`" * 200_000, as_markdown=True).removeprefix("$x_1$").strip()
    assert re.fullmatch(r"(?:\\\*\\_\\`)+", text)
    assert text.count("*") == 200_000


def test_what_is_beyond_the_bound_has_no_formula_broken() -> None:
    text = written(f"{LOADED}<p>$x_1$ " + "a_b* \\\\ " * 200_000 + "</p><p>Then $y_2 * z$.", as_markdown=True)
    assert text.startswith("$x_1$ a\\_b\\* \\\\ a")
    assert text.rstrip().endswith("Then $y_2 * z$.")


@pytest.mark.parametrize("as_markdown", [False, True], ids=["text", "Markdown"])
def test_styles_beyond_the_bound_are_lost_and_words_are_not(as_markdown: bool) -> None:
    one = "<p><b>bold</b> and <code>code</code>"
    text = written(f"{LOADED}<p>$x_1$" + one * (chosen.MAX_COMPOSED // 2), as_markdown=as_markdown)
    assert text.count("bold") == text.count("code") == chosen.MAX_COMPOSED // 2
    if as_markdown:
        assert 1_000 < text.count("**bold** and `code`") <= chosen.MAX_COMPOSED // 3


@pytest.mark.parametrize(
    "rows",
    [
        "<tr>" + "<td>" * 20_000 + "<td>wide" + "<tr><td>x<td>y" * 10_000,
        "<tr>" + "<td colspan=50 rowspan=500>x" * 500 + "<tr><td>x<td>y" * 10_000,
        "<tr><td rowspan=500>x<td colspan=50>y" * 10_000,
        ("<tr>" + "<td colspan=50>x" * 300) * 100,
    ],
    ids=["one wide row", "cells over many", "both", "wide cells"],
)
def test_a_table_is_not_filled_up_without_end(rows: str) -> None:
    text = written(f"<table>{rows}</table>", as_markdown=True)
    assert text.count("x") >= 500
    assert len(text) < 3 * len(rows) + 8 * markdown.MAX_CELLS


def test_a_long_table_is_whole() -> None:
    row = "<tr><td>one<td><b>two</b><td colspan=2>three</tr>"
    lines = written(f"<table>{row * 5_000}</table>", as_markdown=True).splitlines()
    assert set(lines) == {"| one | **two** | three |  |", "| --- | --- | --- | --- |"}
    assert len(lines) == 5_001


def test_a_listing_deep_in_lists_is_not_indented_without_end() -> None:
    page = "<ol start=100000000><li>a" * 10 + "<pre>" + "y\n" * 100_000
    assert len(written(page, as_markdown=True)) < len(page) + markdown.MAX_INDENT


def test_a_listing_in_a_list_has_its_empty_lines_empty() -> None:
    text = written("<ul><li><p>a</p><pre>x\n\n\n\n  y\n\nz</pre></ul>", as_markdown=True)
    assert text.endswith("  ```\n  x\n\n\n\n    y\n\n  z\n  ```")


def test_the_address_of_a_link_around_everything_is_not_written_without_end() -> None:
    page = f"<a href=/{'a' * 20_000}>" + "<p>word</p>" * 2_000
    text = written(page, as_markdown=True, links=True)
    assert text.count("word") == 2_000
    assert len(text) < len(page) + markdown.MAX_ADDRESSES + 20_000


@pytest.mark.parametrize(("ticks", "fence"), [(0, 3), (1, 3), (2, 3), (3, 4), (4, 5), (7, 8), (1_000_000, 1_000_001)])
def test_the_fence_of_a_listing_is_longer_than_what_it_holds(ticks: int, fence: int) -> None:
    tree = parse(f"<pre>a {'`' * ticks} b</pre>".encode())
    blocks = cut(tree)
    text = render.render(tree, blocks, np.ones(len(blocks), np.bool_), markdown=True)
    assert text.split("\n")[0] == "`" * fence


def test_a_text_without_end_of_openings_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr(maths.page, "has_math", lambda text: looked.append(len(text)) or False)
    maths.has_math("\\(" * 1_000_000)
    maths.has_math("\\x" * 1_000_000)
    maths.has_math("words " * 1_000_000)
    assert looked == [2 * maths.MAX_OPENINGS, 2 * maths.MAX_BACKSLASHES, 6_000_000]
