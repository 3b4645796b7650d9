"""Formulas between delimiters: which a page uses, what is a formula, and what a dollar is."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.stages.extract import maths
from curate.stages.extract.dom import parse
from curate.stages.extract.maths import reading

MATHJAX = '<script src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-chtml.js"></script>'
STACK = (  # as StackExchange writes it
    '<script type="text/x-mathjax-config">MathJax.Hub.Config({ tex2jax: { inlineMath: [["$", "$"], '
    '["\\\\\\\\(","\\\\\\\\)"]], '
    'displayMath: [["$$", "$$"], ["\\\\[", "\\\\]"]], processEscapes: true, ignoreClass: "tex2jax_ignore|dno" } '
    "});</script>"
)
KATEX = (  # KaTeX's auto-render, as its page shows it
    "<script>document.addEventListener('DOMContentLoaded', function() { renderMathInElement(document.body, { "
    "delimiters: [\n"
    "{left: '$$', right: '$$', display: true},\n{left: '$', right: '$', display: false},\n"
    "{left: '\\\\(', right: '\\\\)', display: false},\n{left: '@@', right: '@@', display: true}], throwOnError: "
    "false }); });</script>"
)
ASCIIMATH = '<script src="https://cdn.jsdelivr.net/npm/mathjax@2/MathJax.js?config=AM_HTMLorMML"></script>'
VERSION3 = "<script>MathJax = {tex: {inlineMath: {'[+]': [['$', '$']]}}};</script>" + MATHJAX
TEXTS = {
    "MathJax's defaults": (MATHJAX + "<p>a \\(x\\), \\[y\\] and $$z$$", "a $x$, $$y$$ and $$z$$"),
    "a dollar where it is no delimiter": (
        MATHJAX + "<p>for $5 take \\(n+1\\), for $7 all",
        "for \\$5 take $n+1$, for \\$7 all",
    ),
    "a dollar that a page's own settings allow": (STACK + "<p>$x$ at $\\alpha$", "$x$ at $\\alpha$"),
    "settings elsewhere": (MATHJAX + "<p>by $\\alpha_1$ and $x$ but $5 here", "by $\\alpha_1$ and $x$ but \\$5 here"),
    "an escaped dollar": (STACK + "<p>\\$5 for $x$", "\\$5 for $x$"),
    "money beside single dollars": (STACK + "<p>$5 and $10 for $x_1$", "\\$5 and \\$10 for $x_1$"),
    "braces around a delimiter": (STACK + "<p>$a \\text{ for $b$ } c$ d", "$a \\text{ for \\(b\\) } c$ d"),
    "two formulas that touch": (STACK + "<p>$a$$b$", "$a$$b$"),
    "StackExchange's double backslash": (STACK + "<p>\\\\(x\\\\) b", "$x$ b"),
    "KaTeX's settings": (KATEX + "<p>$a$ \\(b\\) @@c@@", "$a$ $b$ $$c$$"),
    "MathJax 3's settings": (VERSION3 + "<p>$a$ and \\(b\\)", "$a$ and $b$"),
    "AsciiMath": (ASCIIMATH + "<p>so `x/2` and `a^2`", "so $\\frac{x}{2}$ and $a^{2}$"),
    "an equation": (
        MATHJAX + "<p>So \\begin{equation} a=b \\end{equation} holds",
        "So $$\\begin{equation} a=b \\end{equation}$$ holds",
    ),
    "aligned equations": (
        MATHJAX + "<p>\\begin{align*} a&amp;=b\\\\ c&amp;=d \\end{align*}",
        "$$\\begin{align*} a&=b\\\\ c&=d \\end{align*}$$",
    ),
    "an environment in delimiters": (
        MATHJAX + "<p>\\[\\begin{align} a \\end{align}\\]",
        "$$\\begin{align} a \\end{align}$$",
    ),
    "an environment inside itself": (
        MATHJAX + "<p>\\begin{array}{c} a \\begin{array}{c} b \\end{array} c \\end{array} d",
        "$$\\begin{array}{c} a \\begin{array}{c} b \\end{array} c \\end{array}$$ d",
    ),
    "an environment of prose": (
        MATHJAX + "<p>\\(x\\) \\begin{proof} by $a\\end{proof}",
        "$x$ \\begin{proof} by \\$a\\end{proof}",
    ),
    "bulletin-board tags": (
        "<p>[tex]a^2[/tex] [itex]b_1[/itex] [LATEX]\\pi[/LATEX] [math]x[/math]",
        "$a^2$ $b_1$ $\\pi$ $x$",
    ),
    "bulletin-board words": (
        "<p>[math] is my best subject, not sports [/math]",
        "[math] is my best subject, not sports [/math]",
    ),
    "WordPress's source": ("<p>the $latex \\alpha_1$ case costs $5", "the $\\alpha_1$ case costs \\$5"),
    "no renderer": ("<p>a \\(x^2\\), \\[\\sum_i i\\] and $$\\alpha$$", "a $x^2$, $$\\sum_i i$$ and $$\\alpha$$"),
    "words in backslashed brackets": (
        "<p>the pattern \\(any of these words here\\) for $5",
        "the pattern \\(any of these words here\\) for $5",
    ),
    "a formula that does not end": (STACK + "<p>$x$ but \\[ y", "$x$ but \\[ y"),
    "code": (STACK + "<p>$x$ in <code>$x$ costs \\$</code>", "$x$ in $x$ costs \\$"),
    "an empty formula": (MATHJAX + "<p>a \\( \\) b \\(x\\)", "a  b $x$"),
    "a row break at the end": (MATHJAX + "<p>\\[a \\\\\\] and \\[b\\\\\\\\[2pt]\\]", "$$a$$ and $$b$$"),
}


@pytest.mark.parametrize(("page", "expected"), TEXTS.values(), ids=TEXTS.keys())
def test_a_text_has_its_formulas_in_dollars(page, expected, text_of):
    assert text_of(page) == expected


def test_settings_in_a_comment_are_none():
    assert reading.configurations("MathJax = {tex: {\n// inlineMath: [['$', '$']],\ntags: 'ams'}}") == []


def test_settings_that_would_take_prose_for_formulas_are_refused():
    assert reading.configurations("MathJax: inlineMath: [['a', 'a'], ['\"', '\"'], ['', '']]") == []


def test_a_formula_that_replaced_a_node_is_not_read_again():
    formula = maths.Formula(1, "a\\(b\\) \\text{$c$} \\\\", True)
    active = maths.Delimiters((maths.Pair("\\(", "\\)", False),), True)
    assert maths.normalise(f"$1 {maths.enclose(formula)} \\(d\\)", active) == "\\$1 $$a\\(b\\) \\text{\\(c\\)}$$ $d$"
    assert maths.normalise(maths.verbatim("$x \\(y\\)"), active) == "$x \\(y\\)"


def test_a_page_that_writes_our_marks_itself_does_no_harm(text_of):
    page = STACK + "<p>$x$ \ufdd0a$b\ufdd3 \ufdd1 \ufdd2 \ufdd3 <math><mtext>\ufdd3</mtext><mi>y</mi></math>"
    text = text_of(page)
    assert not maths.SENTINELS.search(text) and dollars_balance(text)


def test_mathematics_is_told_from_money():
    tree = parse((STACK + "<p>$n$ and").encode())
    found = maths.read(tree)
    assert maths.has_math("so $n$ is", found) and not maths.has_math("so \\$5 is", found)
    assert not maths.has_math("from $5 to $10", maths.read(parse(b"<p>from $5 to $10")))
    assert maths.has_math("so \\frac{1}{2}") and not maths.has_math("so $5")


def dollars_balance(text: str) -> bool:
    """Whether every unescaped dollar has its other one: `$…$` and `$$…$$` one after another, no dollar inside."""
    bare = re.sub(r"\\.", "x", text, flags=re.DOTALL)
    return re.fullmatch(r"(?:[^$]|\$\$[^$]+\$\$|\$[^$]+\$)*", bare) is not None


WORDS = (
    "$ $$ \\( \\) \\[ \\] \\ \\\\ { } \\begin{align} \\end{align} [tex] [/tex] x 5 _ a_1 \\alpha \\$ % ` ## é \\text{"
)
PIECES = st.lists(
    st.sampled_from([*WORDS.split(" "), " ", "\n", "\n\n", "word ", "\ufdd0", "\ufdd1", "\ufdd3"]), max_size=40
)
PAIRS = (
    maths.Pair("$", "$", False),
    maths.Pair("$$", "$$", True),
    maths.Pair("\\(", "\\)", False),
    maths.Pair("##", "##", False),
    maths.Pair("\\[", "\\]", True, cautious=True),
    maths.Pair("[tex]", "[/tex]", False, cautious=True),
    maths.Pair("`", "`", False, asciimath=True),
)


@settings(max_examples=600, deadline=None)
@given(PIECES, st.integers(0, len(PAIRS)))
@example(["$", "x", "\\", "$"], 2)
@example(["\\(", "a", "$", "\\)"], 4)
def test_any_text_comes_out_with_balanced_dollars_and_no_marks(parts, count):
    text = maths.normalise("".join(parts), maths.Delimiters(PAIRS[:count], True))
    assert dollars_balance(text), text
    assert not maths.SENTINELS.search(text)


TAGS = [
    "<p>", "$", "x_1", "</p>", "<math>", "<mi>", "</math>", MATHJAX, STACK, KATEX, "<img class=latex alt='a_1'>", "</span>",
    "<span class='math-container'>", "<code>", "\\(", "\\)", "<script type='math/tex'>", "</script>", "<mjx-container>",
    "<div class=MathJax>", "<annotation encoding=TeX>", "<!--", "-->",
]  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(TAGS), max_size=25))
def test_any_page_is_read(parts):
    page = "".join(parts).encode()
    tree = parse(page)
    found = maths.read(tree)
    spans = sorted((node, int(tree.last[node])) for node in [each.node for each in found.formulas] + found.removed)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))
    assert maths.marks(page) or not (found.formulas or found.delimiters.active)


HOSTILE = {
    "unmatched display dollars": STACK + "<p>$x_1$" + "$$ " * 100_000,
    "unmatched brackets": STACK + "<p>$x_1$" + "\\( " * 100_000,
    "brackets closed once": STACK + "<p>$x_1$" + "\\( " * 100_000 + "\\)",
    "braces in brackets": STACK + "<p>$x_1$" + "\\({" * 100_000 + "\\)",
    "unmatched environments": MATHJAX + "<p>\\(x\\)" + "\\begin{align} " * 40_000,
    "environments closed once": MATHJAX + "<p>\\(x\\)" + "\\begin{align} " * 40_000 + "\\end{align}",
    "backslashes": STACK + "<p>$x_1$" + "\\" * 500_000,
    "our marks": STACK + "<p>$x_1$" + "\ufdd0" * 100_000,
    "tags closed once": "<p>" + "[tex] a " * 60_000 + "[/tex]",
    "settings": "<script>MathJax " + "delimiters:[{" * 40_000 + "</script>",
    "more settings": "<script>MathJax " + "inlineMath:[['$" * 40_000 + "</script>",
    "nested paragraphs": STACK + "<div>$ " * 20_000,
    "an endless alternative text": f'<img class="latex" alt="{chr(92) * 1_000_000}">',
    "an endless attribute": "<math " + "a=b " * 200_000 + ">",
    "a deep formula": "<math>" + "<mrow>" * 100_000 + "x",
    "deep scripts": "<math>" + "<munderover>" * 50_000 + "<mi>x",
    "many fences": "<math>" + "<mo>(</mo>" * 50_000,
    "many formulas": "<math><mi>x</mi></math>" * 40_000,
    "drawn formulas": '<span class="MathJax">' * 30_000,
    "comments in TeX": '<script type="math/tex">' + "%" * 19_000 + "\n</script>",
    "AsciiMath bars": ASCIIMATH + "<p>" + "`(|x,|`" * 5_000,
}


@pytest.mark.parametrize("page", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_page_costs_no_more_than_a_few_seconds(page, text_of):
    text_of("<p>\\(x\\)")  # compiled
    begin = time.process_time()
    text = text_of(page)
    assert time.process_time() - begin < 5  # what is not linear here takes minutes
    assert dollars_balance(text)


def test_reading_in_vain_grows_with_the_text_and_never_faster():
    pair = maths.Pair("\\(", "\\)", False)
    for unit in ("\\( ", "\\({", "\\( x \\) \\( { ", "\\begin{align} "):
        for count in (2_000, 8_000, 32_000):
            text = unit * count + "\\) \\end{align}"
            reader = reading._Reader(text, {"\\(": pair})
            full = reader.patience
            for token in reading._opening_pattern((pair,)).finditer(text):
                reader.piece(token)
            assert full - reader.patience <= 4 * len(text) + 1000 + 2 * reading.MAX_FORMULA, unit
