"""Every form of mathematics in HTML, as its renderer writes it, comes out once as TeX between dollars."""

from __future__ import annotations

from itertools import pairwise

import pytest

from curate.stages.extract import maths
from curate.stages.extract.dom import parse

KATEX = (  # katex 0.16, renderToString
    '<span class="katex-display"><span class="katex"><span class="katex-mathml"><math '
    'xmlns="http://www.w3.org/1998/Math/MathML" '
    'display="block"><semantics><mrow><mfrac><mi>a</mi><mi>b</mi></mfrac></mrow><annotation '
    'encoding="application/x-tex">'
    '\\frac{a}{b}</annotation></semantics></math></span><span class="katex-html" aria-hidden="true"><span class="base">'
    '<span class="strut" style="height:1.7936em;vertical-align:-0.686em;"></span><span class="mord"><span '
    'class="mopen nulldelimiter">'
    '</span><span class="mfrac"><span class="vlist-t vlist-t2"><span class="vlist-r"><span class="vlist" '
    'style="height:1.1076em;">'
    '<span style="top:-2.314em;"><span class="mord"><span class="mord mathnormal">b</span></span></span><span '
    'style="top:-3.677em;">'
    '<span class="mord"><span class="mord mathnormal">a</span></span></span></span><span '
    'class="vlist-s">\u200b</span></span></span>'
    '</span><span class="mclose nulldelimiter"></span></span></span></span></span></span>'
)
KATEX_INLINE = (
    '<span class="katex"><span class="katex-mathml"><math '
    'xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>x</mi>'
    "<mo>&lt;</mo><mi>y</mi></mrow><annotation "
    'encoding="application/x-tex">x&lt;y</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span class="base"><span class="mord mathnormal">x</span><span '
    'class="mrel">&lt;'
    '</span></span><span class="base"><span class="mord mathnormal">y</span></span></span></span>'
)
MATHJAX2 = (  # MathJax 2.7, CommonHTML with assistive MathML, a saved page
    '<span class="MathJax_Preview" style="color: inherit; display: none;"></span><span id="MathJax-Element-1-Frame" '
    'class="mjx-chtml MathJax_CHTML" tabindex="0" data-mathml="&lt;math '
    "xmlns=&quot;http://www.w3.org/1998/Math/MathML&quot;&gt;"
    '&lt;msup&gt;&lt;mi&gt;x&lt;/mi&gt;&lt;mn&gt;2&lt;/mn&gt;&lt;/msup&gt;&lt;/math&gt;" '
    'role="presentation"><span id="MJXc-Node-1" '
    'class="mjx-math" aria-hidden="true"><span class="mjx-msubsup"><span class="mjx-base"><span class="mjx-mi"><span '
    'class="mjx-char MJXc-TeX-math-I">x</span></span></span><span class="mjx-sup"><span class="mjx-mn"><span '
    'class="mjx-char">2'
    '</span></span></span></span></span><span class="MJX_Assistive_MathML" role="presentation"><math '
    'xmlns="http://www.w3.org/1998/Math/MathML"><msup><mi>x</mi><mn>2</mn></msup></math></span></span>'
)
MATHJAX2_DISPLAY = (
    '<span class="MathJax_Preview"></span><div class="MathJax_Display" style="text-align: center;"><span '
    'class="MathJax" '
    'id="MathJax-Element-2-Frame" tabindex="0"><nobr><span class="math"><span class="mi">E</span><span '
    'class="mo">=</span>'
    '</span></nobr></span></div><script type="math/tex; mode=display" id="MathJax-Element-2">E = mc^2</script>'
)
MATHJAX3 = (  # MathJax 3.2, tex-chtml
    '<mjx-container class="MathJax CtxtMenu_Attached_0" jax="CHTML" tabindex="0" style="font-size: 113.1%; '
    'position: relative;" '
    'display="true"><mjx-math display="true" class=" MJX-TEX" aria-hidden="true"><mjx-mfrac><mjx-frac '
    'type="d"><mjx-num>'
    '<mjx-nstrut type="d"></mjx-nstrut><mjx-mi class="mjx-i"><mjx-c class="mjx-c1D44E '
    'TEX-I"></mjx-c></mjx-mi></mjx-num><mjx-dbox>'
    '<mjx-dtable><mjx-line type="d"></mjx-line><mjx-row><mjx-den><mjx-dstrut type="d"></mjx-dstrut><mjx-mi '
    'class="mjx-i">'
    '<mjx-c class="mjx-c1D44F '
    'TEX-I"></mjx-c></mjx-mi></mjx-den></mjx-row></mjx-dtable></mjx-dbox></mjx-frac></mjx-mfrac></mjx-math>'
)
MATHJAX3_ASSISTIVE = (
    '<mjx-assistive-mml unselectable="on" display="block"><math xmlns="http://www.w3.org/1998/Math/MathML" '
    'display="block">'
    "<mfrac><mi>a</mi><mi>b</mi></mfrac></math></mjx-assistive-mml></mjx-container>"
)
MATHJAX3_SVG = (
    '<mjx-container class="MathJax" jax="SVG"><svg style="vertical-align: -0.651ex;" '
    'xmlns="http://www.w3.org/2000/svg" '
    'width="2.282ex" role="img" focusable="false" viewBox="0 -833.9 1008.6 1121.9"><defs><path '
    'id="MJX-1-TEX-I-1D465" d="M52 289Z">'
    '</path></defs><g stroke="currentColor" transform="scale(1,-1)"><g data-mml-node="math"><g data-mml-node="msubsup">'
    '<g data-mml-node="mi"><use data-c="1D465" xlink:href="#MJX-1-TEX-I-1D465"></use></g><g data-mml-node="mn" '
    'transform="translate(605,363) scale(0.707)"><use data-c="32" xlink:href="#MJX-1-TEX-N-32"></use></g><g '
    'data-mml-node="mn" '
    'transform="translate(605,-287.9) scale(0.707)"><use data-c="31" '
    'xlink:href="#MJX-1-TEX-N-31"></use></g></g></g></g></svg>'
    "</mjx-container>"
)
MEDIAWIKI = (
    '<span class="mwe-math-element mwe-math-element-inline"><span class="mwe-math-mathml-inline mwe-math-mathml-a11y" '
    'style="display: none;"><math xmlns="http://www.w3.org/1998/Math/MathML" alttext="{\\displaystyle \\sigma '
    '^{2}}"><semantics>'
    '<mrow class="MJX-TeXAtom-ORD"><mstyle displaystyle="true" scriptlevel="0"><msup><mi>σ</mi><mrow '
    'class="MJX-TeXAtom-ORD"><mn>2'
    '</mn></mrow></msup></mstyle></mrow><annotation encoding="application/x-tex">{\\displaystyle \\sigma '
    "^{2}}</annotation></semantics>"
    "</math></span>"
    '<img src="https://wikimedia.org/api/rest_v1/media/math/render/svg/53a5c55e536acf250c1d3e0f754be5692b843ef5" '
    'class="mwe-math-fallback-image-inline mw-invert skin-invert" aria-hidden="true" style="vertical-align: -0.338ex;" '
    'alt="{\\displaystyle \\sigma ^{2}}"></span>'
)
LATEXML = (  # arXiv HTML5
    '<table id="S1.E1" class="ltx_equation ltx_eqn_table"><tbody><tr class="ltx_equation ltx_eqn_row '
    'ltx_align_baseline"><td '
    'class="ltx_eqn_cell ltx_align_center"><math id="S1.E1.m1" class="ltx_Math" '
    'alttext="f(x)=%&#10;\\sum_{n}a_{n}" display="block">'
    '<semantics><mrow><mi>f</mi><mo stretchy="false">(</mo><mi>x</mi><mo stretchy="false">)</mo></mrow><annotation-xml '
    'encoding="MathML-Content"><apply><csymbol '
    'cd="ambiguous">formulae-sequence</csymbol><ci>f</ci></apply></annotation-xml>'
    '<annotation encoding="application/x-tex">f(x)=%\n\\sum_{n}a_{n}</annotation><annotation '
    'encoding="application/x-llamapun">'
    "italic_f ( italic_x )</annotation></semantics></math></td></tr></tbody></table>"
)
FORMS = {
    "MathJax's source script": ('<p>So <script type="math/tex">x+\\sqrt{1-x^2}</script>.', "So $x+\\sqrt{1-x^2}$."),
    "a display script": ('<script type="math/tex; mode=display">E=mc^2</script>', "$$E=mc^2$$"),
    "kramdown's script": ('<script type="math/tex; mode=display">% <![CDATA[\na & b %]]></script>', "$$a & b$$"),
    "an AsciiMath script": ('<script type="math/asciimath">sum_(i=1)^n i/2</script>', "$\\sum_{i=1}^{n}\\frac{i}{2}$"),
    "a MathML script": (
        '<script type="math/mml"><math><mfrac><mi>a</mi><mn>2</mn></mfrac></math></script>',
        "$\\frac{a}{2}$",
    ),
    "KaTeX display": (f"<p>Thus {KATEX} holds.", "Thus $$\\frac{a}{b}$$ holds."),
    "KaTeX inline": (f"<p>if {KATEX_INLINE} then", "if $x<y$ then"),
    "MathJax 2 beside its script": (
        f'<p>let {MATHJAX2}<script type="math/tex" id="MathJax-Element-1">x^2</script> be',
        "let $x^2$ be",
    ),
    "MathJax 2 without its script": (f"<p>let {MATHJAX2} be", "let $x^{2}$ be"),
    "MathJax 2 drawn, MathML in the attribute only": (
        '<p>let <span class="MathJax_SVG" data-mathml="<math><msqrt><mi>y</mi></msqrt></math>"><svg><path '
        'd="M1"/></svg></span> be',
        "let $\\sqrt{y}$ be",
    ),
    "MathJax 2 display": (f"<p>so {MATHJAX2_DISPLAY} is", "so $$E = mc^2$$ is"),
    "MathJax 2 before it ran": (
        '<p>so <span class="MathJax_Preview">a_1</span><script type="math/tex">a_1</script> is',
        "so $a_1$ is",
    ),
    "MathJax 3 with assistive MathML": (f"<p>a {MATHJAX3}{MATHJAX3_ASSISTIVE} z", "a $$\\frac{a}{b}$$ z"),
    "MathJax 3 drawn in HTML alone": (f"<p>a {MATHJAX3}</mjx-container> z", "a $$\\frac{a}{b}$$ z"),
    "MathJax 3 drawn in SVG alone": (f"<p>a {MATHJAX3_SVG} z", "a $x_{1}^{2}$ z"),
    "MathJax 4": (
        '<p>a <mjx-container class="MathJax" jax="CHTML"><mjx-math data-latex="\\alpha_1"><mjx-mi><mjx-c '
        'class="mjx-c1D6FC">'
        "</mjx-c></mjx-mi></mjx-math></mjx-container> z",
        "a $\\alpha_1$ z",
    ),
    "MediaWiki": (f"<p>by {MEDIAWIKI}, the", "by ${\\displaystyle \\sigma ^{2}}$, the"),
    "MediaWiki, picture alone": (
        '<dl><dd><img class="mwe-math-fallback-image-display" alt="{\\displaystyle a^{2}}" '
        'src="/render/svg/5a"></dd></dl>',
        "$${\\displaystyle a^{2}}$$",
    ),
    "MediaWiki's error": (
        '<strong class="error texerror"><span class="texhtml" dir="ltr">Failed to parse (syntax error): '
        "\\fra{1}{2}</span></strong>",
        "$\\fra{1}{2}$",
    ),
    "LaTeXML": (f"<p>We have</p>{LATEXML}", "We have$$f(x)=\\sum_{n}a_{n}$$"),
    "MathML with alttext only": ('<math alttext="a_{1}\\leq b"><mi>a</mi></math>', "$a_{1}\\leq b$"),
    "alttext in words": ('<math alttext="a over two"><mfrac><mi>a</mi><mn>2</mn></mfrac></math>', "$\\frac{a}{2}$"),
    "MathML with a prefix": (
        "<m:math><m:msub><m:mi>x</m:mi><m:mn>1</m:mn></m:msub></m:math><mml:math><mml:mi>&#x3b1;</mml:mi></mml:math>",
        "$x_{1}$$\\alpha$",
    ),
    "JATS alternatives": (
        "<alternatives><tex-math>\\documentclass{minimal}\\begin{document}$$a^2$$\\end{document}</tex-math>"
        "<mml:math><mml:mi>a"
        "</mml:mi></mml:math></alternatives> then",
        "$$a^2$$ then",
    ),
    "WordPress's picture": (
        "<p>"
        ""
        'a <img src="https://s0.wp.com/latex.php?latex=%5Ckappa+%3E+0&#038;bg=ffffff&#038;fg=545454&#038;s=0&#038;c=20201002" '
        'srcset="https://s0.wp.com/latex.php?latex=%5Ckappa&#038;zoom=4.5 4x" alt="\\kappa &gt; 0" class="latex" /> z',
        "a $\\kappa > 0$ z",
    ),
    "WordPress's picture without words": (
        '<img src="//s0.wp.com/latex.php?latex=a%2Bb+%5Cge+0&bg=ffffff&fg=000&s=0">',
        "$a+b \\ge 0$",
    ),
    "QuickLaTeX": (
        '<img src="https://x.org/wp-content/ql-cache/quicklatex.com-0c_l3.png" class="ql-img-inline-formula '
        'quicklatex-auto-format" '
        'alt="&#120;&#94;&#50;" title="Rendered by QuickLaTeX.com" height="15" width="14"/>',
        "$x^2$",
    ),
    "CodeCogs": (
        '<p>is <img src="https://latex.codecogs.com/svg.latex?\\inline&space;\\dpi{120}&space;a^2" '
        'title="a^2"/> and <img src="http://latex.codecogs.com/gif.latex?%5Cfrac%7B1%7D%7B2%7D+b">',
        "is $a^2$ and $\\frac{1}{2}+b$",
    ),
    "mimeTeX and mathTeX": (
        '<img src="/cgi-bin/mimetex.cgi?z%20\\mapsto%20e^z-1" align="middle"><img '
        'src="https://x.org/mathtex.cgi?\\alpha_1">',
        "$z \\mapsto e^z-1$$\\alpha_1$",
    ),
    "Google Charts": ('<img src="https://chart.googleapis.com/chart?cht=tx&chl=x%5E2+%2B1">', "$x^2 +1$"),
    "Zhihu": (
        '<img src="https://www.zhihu.com/equation?tex=%5Cbeta_1" alt="\\beta_1" eeimg="1"/> <span '
        'class="ztext-math" data-eeimg="1" '
        'data-tex="y^2"></span>',
        "$\\beta_1$ $y^2$",
    ),
    "Art of Problem Solving": (
        '<img src="//latex.artofproblemsolving.com/2/a.png" class="latex" alt="$n^2$"><img class="latexcenter" '
        'alt="\\[n+1\\]">',
        "$n^2$$$n+1$$",
    ),
    "Canvas": (
        '<img class="equation_image" title="\\frac{1}{2}" src="https://x.edu/equation_images/%255Cfrac" '
        'alt="LaTeX: \\frac{1}{2}" '
        'data-equation-content="\\frac{1}{2}">',
        "$\\frac{1}{2}$",
    ),
    "Wiris": (
        '<img class="Wirisformula" role="math" alt="x squared" data-mathml="«math '
        "xmlns=¨http://www.w3.org/1998/Math/MathML¨»«msup»"
        '«mi»x«/mi»«mn»2«/mn»«/msup»«/math»">',
        "$x^{2}$",
    ),
    "StackExchange": (
        '<p>Let <span class="math-container">$x_i$</span> and <span class="math-container">$$\\sum_{i} x_i=0.$$</span>',
        "Let $x_i$ and $$\\sum_{i} x_i=0.$$",
    ),
    "StackExchange after MathJax": (
        '<p>Let <span class="math-container"><span class="MathJax" id="MathJax-Element-1-Frame"><nobr>xi</nobr></span>'
        '<script type="math/tex" id="MathJax-Element-1">x_i</script></span> be',
        "Let $x_i$ be",
    ),
    "math-container without dollars": ('<span class="math-container">n</span>', "$n$"),
    "Jetpack's KaTeX": (
        '<span class="wp-katex-eq" data-display="false">e^{i}</span><span class="wp-katex-eq" '
        'data-display="true">e^{j}</span>',
        "$e^{i}$$$e^{j}$$",
    ),
    "tex with data-expr": ('<span class="tex" data-expr="\\bold{F}_1">F1</span>', "$\\bold{F}_1$"),
    "a mathjax element": ("<mathjax>$\\theta = 1$</mathjax>", "$\\theta = 1$"),
    "pandoc with MathJax": (
        '<span class="math inline">\\(\\alpha^2\\)</span> <span class="math display">\\[a=b\\]</span>',
        "$\\alpha^2$ $$a=b$$",
    ),
    "pandoc with KaTeX": ('<span class="math inline">\\alpha^2</span>', "$\\alpha^2$"),
    "Sphinx": (
        '<div class="math notranslate nohighlight" id="equation-e">\\[e^{x}\\]</div> <span class="math '
        'notranslate">\\(x\\)</span>',
        "$$e^{x}$$ $x$",
    ),
    "MkDocs": ('<div class="arithmatex">\\[ a_1 \\]</div>', "$$a_1$$"),
    "GitHub": ('<math-renderer class="js-inline-math" style="display: inline">$a_1$</math-renderer>', "$a_1$"),
    "GitLab": ('<pre lang="math"><code>a_1 + b</code></pre>', "$$a_1 + b$$"),
    "XenForo": ('<formula id="mathJaxEqu" class="mathJaxEqu">\\vec{F} = m\\vec{a}</formula>', "$\\vec{F} = m\\vec{a}$"),
}


@pytest.mark.parametrize(("page", "expected"), FORMS.values(), ids=FORMS.keys())
def test_a_form_comes_out_once(page, expected, text_of):
    assert maths.marks(page.encode()), "the quick search must not pass it over"
    assert text_of(page) == expected


@pytest.mark.parametrize(
    "page",
    [
        "<p>It cost $5 and not $10, he said.</p>",
        '<script src="app.js">var a = "\\\\(" + $$("x")</script><p>US$ 3.5bn ($1 = €0.9)</p>',
        '<div class="math">Mathematics department: 12 rooms</div><p>$5</p>',
        '<p class="tex">Text in a box</p>',
        '<img class="latex" alt="Rendered by QuickLaTeX.com" src="mattress.png"><img alt="latex gloves" '
        'src="/latex-gloves.jpg">',
        '<div data-math="true" data-tex="0">2 rooms at $30</div>',
        "<p>Match <code>\\(.*\\)</code> at $5 or $6</p>",
        '<script src="/js/MathJax.js"></script><p>From $5 to $10 a month, $99 a year.</p>',
    ],
)
def test_a_page_without_formulas_keeps_its_dollars(page, text_of):
    text = text_of(page)
    assert "\\$" not in text
    assert text == " ".join(text.split()) and not maths.formulas(parse(page.encode()))


def test_the_quick_search_passes_over_what_holds_no_mathematics():
    assert not maths.marks(
        b"<p>next text, latest maths lesson, $5 and (a) [b]</p><style>.x{transform:translateX(1px)}</style>"
    )
    assert not maths.marks(b"") and not maths.marks(b"$")


def test_formulas_stand_in_document_order_and_none_inside_another():
    tree = parse(f"<p>{KATEX}{MATHJAX2_DISPLAY}{MEDIAWIKI}<span class='math-container'>$x$</span>".encode())
    found = maths.read(tree)
    nodes = sorted([formula.node for formula in found.formulas] + found.removed)
    assert [formula.node for formula in found.formulas] == sorted(formula.node for formula in found.formulas)
    assert all(tree.last[one] <= two for one, two in pairwise(nodes))
    assert [formula.tex for formula in found.formulas] == [
        "\\frac{a}{b}",
        "E = mc^2",
        "{\\displaystyle \\sigma ^{2}}",
        "x",
    ]
    assert maths.removed(tree) == found.removed and maths.formulas(tree) == found.formulas


def test_one_wrapper_around_many_formulas_stays(text_of):
    page = '<div class="MathJax"><p>Let <math><mi>a</mi></math> and <math><mi>b</mi></math> be</p></div>'
    assert text_of(page) == "Let $a$ and $b$ be"


def test_a_formula_longer_than_any_is_left_as_it_is():
    page = f'<img class="latex" alt="{"x" * 1_000_000}">'
    assert maths.formulas(parse(page.encode())) == []
