"""AsciiMath as TeX, after the syntax page of asciimath.org."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.maths import asciimath

CASES = {
    "x=(-b +- sqrt(b^2 - 4ac))/(2a)": "x=\\frac{-b\\pm\\sqrt{b^{2}-4ac}}{2a}",
    "sum_(i=1)^n i^3=((n(n+1))/2)^2": "\\sum_{i=1}^{n}i^{3}=\\left(\\frac{n(n+1)}{2}\\right)^{2}",
    "int_-1^1 sqrt(1-x^2)dx = pi/2": "\\int_{-1}^{1}\\sqrt{1-x^{2}}dx=\\frac{\\pi}{2}",
    "[[a,b],[c,d]]((n),(k))": "\\begin{bmatrix} a & b \\\\ c & d \\end{bmatrix}\\begin{pmatrix} n \\\\ k \\end{pmatrix}",
    "x/x={(1,if x!=0),(text{undefined},if x=0):}": (
        "\\frac{x}{x}=\\begin{cases} 1 & \\text{ if }x\\neq0 \\\\ \\text{undefined} & \\text{ if }x=0 \\end{cases}"
    ),
    "abs(x)": "\\left|x\\right|",
    "|x|": "|x|",
    "floor(x/y)": "\\left\\lfloor \\frac{x}{y}\\right\\rfloor",
    "root(3)(x)": "\\sqrt[3]{x}",
    "hat(ab) bb(x) bbb(R)": "\\hat{ab}\\mathbf{x}\\mathbb{R}",
    "AA x in CC": "\\forall x\\in\\mathbb{C}",
    "f'(x) = dy/dx": "f'(x)=\\frac{dy}{dx}",
    "p^32": "p^{32}",
    "x_2^3": "x_{2}^{3}",
    "lim_(h->0) (f(x+h)-f(x))/h": "\\lim_{h\\to0}\\frac{f(x+h)-f(x)}{h}",
    "a//b": "a/b",
    "alpha beta": "\\alpha\\beta",
    "alpha x": "\\alpha x",
    'sin = "opp"/"hyp"': "\\sin=\\frac{\\text{opp}}{\\text{hyp}}",
    "\\sqrt(x)": "\\sqrt{x}",
    "stackrel(def)(=)": "\\overset{def}{=}",
    "underbrace(1+2)_(n)": "\\underbrace{1+2}_{n}",
    "(a,b]": "(a,b]",
    "(": "(",
    "": "",
}


@pytest.mark.parametrize(("source", "expected"), CASES.items())
def test_an_expression_is_written_as_tex(source, expected):
    assert asciimath.to_tex(source) == expected


def test_what_is_too_long_for_a_formula_is_none():
    assert asciimath.to_tex("x" * (asciimath.MAX_CHARS + 1)) == ""


WORDS = '( ) [ ] { } {: :} | , / _ ^ x 12 sqrt frac text( " alpha \\ $ if bb stackrel -'


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*WORDS.split(" "), " "]), max_size=60))
def test_any_source_gives_tex_with_balanced_braces(parts):
    tex = asciimath.to_tex("".join(parts))
    bare = tex.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}")
    assert bare.count("\\left") == bare.count("\\right")


def test_no_nesting_is_too_deep():
    for unit in ("(", "sqrt", "{", "x^(", "|", "((1,2),(3,4", "x/"):
        assert isinstance(asciimath.to_tex(unit * (asciimath.MAX_CHARS // len(unit))), str)
