"""MathML as TeX, each element after its definition in MathML 3, chapter 3; the TeX is written by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract import maths
from curate.stages.extract.dom import parse
from curate.stages.extract.maths import elements, mathml


def tex_of(inside: str, attributes: str = "") -> str:
    tree = parse(f"<math{attributes}>{inside}</math>".encode())
    formulas = maths.formulas(tree)
    assert len(formulas) <= 1
    return formulas[0].tex if formulas else ""


def fence(inside: str, opening: str = "(", closing: str = ")") -> str:
    return f"<mrow><mo>{opening}</mo>{inside}<mo>{closing}</mo></mrow>"


ROWS = "<mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr>"
X, Y, TWO = "<mi>x</mi>", "<mi>y</mi>", "<mn>2</mn>"
CASES = {
    "tokens": (f"{X}<mo>=</mo>{TWO}", "x=2"),
    "a greek letter before a latin one": ("<mi>α</mi><mi>x</mi>", "\\alpha x"),
    "character references": ("<mi>&#x3c0;</mi><mo>&le;</mo><mo>&InvisibleTimes;</mo><mn>4</mn>", "\\pi\\leq4"),
    "operators": ("<mi>a</mi><mo>≠</mo><mi>b</mi><mo>∈</mo><mi>ℝ</mi>", "a\\neq b\\in\\mathbb{R}"),
    "a minus sign": ("<mo>−</mo><mn>3.5</mn>", "-3.5"),
    "a function": ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi>", "\\sin x"),
    "a function of no fixed name": ("<mi>Var</mi><mo>&#x2061;</mo><mi>x</mi>", "\\operatorname{Var}x"),
    "a word": ("<mi>total</mi>", "\\mathrm{total}"),
    "mathematical alphabets": (
        "<mi>𝔸</mi><mi>𝐱</mi><mi>𝒫</mi><mi>𝔤</mi><mi>𝑦</mi>",
        "\\mathbb{A}\\mathbf{x}\\mathcal{P}\\mathfrak{g}y",
    ),
    "mathvariant": ('<mi mathvariant="bold">v</mi><mi mathvariant="normal">d</mi>', "\\mathbf{v}\\mathrm{d}"),
    "bold greek": ('<mi mathvariant="bold">β</mi>', "\\boldsymbol{\\beta}"),
    "text": (f"{X}<mtext>&nbsp;if 5% &amp; more_</mtext>", "x\\text{ if 5\\% \\& more\\_}"),
    "a string": ("<ms>ab</ms>", '\\text{"ab"}'),
    "spaces": (f'{X}<mspace width="1em"/>{Y}<mspace width="0.1667em"/>{X}', "x\\quad y\\,x"),
    "superscript": (f"<msup>{X}{TWO}</msup>", "x^{2}"),
    "subscript": (f"<msub>{X}<mrow><mi>i</mi><mo>+</mo><mn>1</mn></mrow></msub>", "x_{i+1}"),
    "both scripts": (f"<msubsup>{X}<mi>i</mi>{TWO}</msubsup>", "x_{i}^{2}"),
    "a prime": ("<msup><mi>f</mi><mo>′</mo></msup>", "f'"),
    "degrees": ("<msup><mn>90</mn><mo>°</mo></msup>", "90^{\\circ}"),
    "a script on a script": (f"<msup><msup>{X}{TWO}</msup><mn>3</mn></msup>", "{x^{2}}^{3}"),
    "a script on fences": (f"<msup>{fence(X + '<mo>+</mo>' + Y)}{TWO}</msup>", "(x+y)^{2}"),
    "an empty base": ("<msub><mrow></mrow><mi>a</mi></msub><mi>X</mi>", "{}_{a}X"),
    "a sum": (
        "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
        "\\sum_{i=1}^{n}i",
    ),
    "a limit": ("<munder><mi>lim</mi><mrow><mi>h</mi><mo>→</mo><mn>0</mn></mrow></munder>", "\\lim_{h\\to0}"),
    "a limit of no fixed name": ("<munder><mi>argmax</mi><mi>x</mi></munder>", "\\underset{x}{\\mathrm{argmax}}"),
    "a hat": (f"<mover>{X}<mo>^</mo></mover>", "\\hat{x}"),
    "a wide hat": (f'<mover accent="true"><mrow>{X}{Y}</mrow><mo>^</mo></mover>', "\\widehat{xy}"),
    "a bar": (f"<mover>{X}<mo>¯</mo></mover>", "\\bar{x}"),
    "a line over more": (f"<mover><mrow>{X}{Y}</mrow><mo>¯</mo></mover>", "\\overline{xy}"),
    "vectors": ('<mover><mi mathvariant="bold">v</mi><mo>→</mo></mover>', "\\vec{\\mathbf{v}}"),
    "dots above": (f"<mover>{X}<mo>˙</mo></mover><mover>{X}<mo>¨</mo></mover>", "\\dot{x}\\ddot{x}"),
    "a line below": (f"<munder>{X}<mo>_</mo></munder>", "\\underline{x}"),
    "a brace below": (f"<munder><munder>{X}<mo>⏟</mo></munder><mi>n</mi></munder>", "\\underbrace{x}_{n}"),
    "a sign on a relation": ("<mover><mo>=</mo><mtext>def</mtext></mover>", "\\overset{\\text{def}}{=}"),
    "an arrow with words": ("<mover><mo>→</mo><mi>f</mi></mover>", "\\xrightarrow{f}"),
    "a fraction": (f"<mfrac><mrow>{X}<mo>+</mo><mn>1</mn></mrow>{TWO}</mfrac>", "\\frac{x+1}{2}"),
    "a bevelled fraction": (f'<mfrac bevelled="true">{X}{TWO}</mfrac>', "x/2"),
    "a binomial": (fence('<mfrac linethickness="0"><mi>n</mi><mi>k</mi></mfrac>'), "\\binom{n}{k}"),
    "roots": (f"<msqrt>{X}<mo>+</mo>{Y}</msqrt><mroot>{X}<mn>3</mn></mroot>", "\\sqrt{x+y}\\sqrt[3]{x}"),
    "mfenced": (f'<mfenced open="[" close=")">{X}{Y}</mfenced>', "[x,y)"),
    "mfenced with separators": (f'<mfenced separators=";|">{X}{Y}{TWO}</mfenced>', "(x;y|2)"),
    "tall fences": (fence(f"<mfrac>{X}{Y}</mfrac>"), "\\left(\\frac{x}{y}\\right)"),
    "absolute value": (f"<mo>|</mo><mfrac>{X}{Y}</mfrac><mo>|</mo>", "\\left|\\frac{x}{y}\\right|"),
    "a set": (fence(X, "{", "}"), "\\{x\\}"),
    "brackets that nothing closes": (f"<mo>(</mo><mfrac>{X}{Y}</mfrac>", "(\\frac{x}{y}"),
    "a matrix": (fence(f"<mtable>{ROWS}</mtable>"), "\\begin{pmatrix} a & b \\\\ 0 & 1 \\end{pmatrix}"),
    "a determinant": (fence(f"<mtable>{ROWS}</mtable>", "|", "|"), "\\begin{vmatrix} a & b \\\\ 0 & 1 \\end{vmatrix}"),
    "a matrix in mfenced": (
        f'<mfenced open="[" close="]"><mtable>{ROWS}</mtable></mfenced>',
        "\\begin{bmatrix} a & b \\\\ 0 & 1 \\end{bmatrix}",
    ),
    "cases": (f"<mo>{{</mo><mtable>{ROWS}</mtable>", "\\begin{cases} a & b \\\\ 0 & 1 \\end{cases}"),
    "a bare table": (f"<mtable>{ROWS}</mtable>", "\\begin{matrix} a & b \\\\ 0 & 1 \\end{matrix}"),
    "aligned equations": (
        f'<mtable columnalign="right left">{ROWS}</mtable>',
        "\\begin{aligned} a & b \\\\ 0 & 1 \\end{aligned}",
    ),
    "a box": (f'<menclose notation="box">{X}</menclose>', "\\boxed{x}"),
    "a phantom": (f"<mphantom>{X}</mphantom>", "\\phantom{x}"),
    "styles": (f'<mstyle displaystyle="true"><mpadded width="0">{X}</mpadded></mstyle>', "x"),
    "prescripts": (
        "<mmultiscripts><mi>C</mi><none/><mn>2</mn><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>",
        "{}_{6}^{14}C^{2}",
    ),
    "semantics": (
        f"<semantics>{X}<annotation-xml><ci>z</ci></annotation-xml><annotation>z</annotation></semantics>",
        "x",
    ),
    "an annotation in TeX": (
        f'<semantics>{X}<annotation encoding="application/x-tex">\\xi_1</annotation></semantics>',
        "\\xi_1",
    ),
    "comments and text between": (f"{X}<!-- c --> <mo>=</mo>\n {Y}", "x=y"),
    "unknown elements": (f"<mfoo>{X}</mfoo>{Y}", "xy"),
    "too few arguments": (
        f"<mfrac>{X}</mfrac><msup>{Y}</msup><mroot></mroot><munderover><mo>∑</mo></munderover>",
        "xy\\sqrt{}\\sum",
    ),
    "nothing": ("", ""),
    "a dollar": ("<mi>$</mi><mn>5</mn>", "\\$5"),
}


@pytest.mark.parametrize(("inside", "expected"), CASES.values(), ids=CASES.keys())
def test_an_element_is_written_as_tex_defines_it(inside, expected):
    assert tex_of(inside) == expected


def test_equations_below_each_other_are_aligned_where_they_are_displayed():
    assert tex_of(f"<mtable>{ROWS}</mtable>", ' display="block"').startswith("\\begin{aligned}")


def test_elements_nested_beyond_the_depth_come_out_as_their_text():
    deep = "<mrow><msup>" * 5000 + "<mi>q</mi><mn>7</mn>"
    tree = parse(f"<math>{deep}</math>".encode())
    assert "q" in mathml.to_tex(elements.read(tree, 1))


def test_what_is_read_grows_with_the_page_and_never_faster():
    for unit in (
        "<mi>x</mi>",
        "<munderover><mi>a</mi>",
        "<mrow><mo>(</mo>",
        "<mo>|</mo>",
        "<mover>",
        "<mmultiscripts><mprescripts/>",
    ):
        sizes = []
        for count in (200, 400, 800):
            written = []
            writer = mathml._Writer(False)
            write = writer.write
            writer.write = lambda element, depth, write=write, written=written: (
                written.append(1),
                write(element, depth),
            )[1]  # type: ignore[method-assign]
            tree = parse(("<math>" + unit * count).encode())
            writer.row(elements.read(tree, 1).children, 0)
            sizes.append(len(written))
        assert sizes[2] <= 4 * sizes[0] + 400, unit


NAMES = (
    "mi mn mo mtext mrow msup msub msubsup mover munder munderover mfrac msqrt mroot mfenced mtable mtr mtd "
    "menclose mspace "
    "mmultiscripts mprescripts none semantics annotation mstyle mphantom math"
)
TAGS = st.sampled_from(NAMES.split())
TOKENS = st.text(alphabet="xα∑(){}|[]$\\^_&#%~=−→𝔸\u2061 ", max_size=4)
TREES = st.recursive(
    st.builds(lambda tag, text: f"<{tag}>{text.replace('&', '&amp;')}</{tag}>", TAGS, TOKENS),
    lambda below: st.builds(lambda tag, inside: f"<{tag}>{''.join(inside)}</{tag}>", TAGS, st.lists(below, max_size=5)),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(TREES, st.booleans())
def test_any_mathml_gives_tex_with_balanced_braces_and_no_dollar(inside, closed):
    tree = parse(f"<math>{inside}{'</math>' if closed else ''}".encode())
    for formula in maths.formulas(tree):
        bare = formula.tex.replace("\\\\", "").replace("\\{", "").replace("\\}", "").replace("\\$", "")
        depths = [bare[:i].count("{") - bare[:i].count("}") for i in range(len(bare) + 1)]
        if "annotation" not in inside:
            assert min(depths) >= 0 and depths[-1] == 0, formula.tex
        assert "$" not in bare and not bare.endswith("\\")
        assert bare.count("\\left") - bare.count("\\leftarrow") >= 0
