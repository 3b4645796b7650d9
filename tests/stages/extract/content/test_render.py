"""Chosen blocks as text and as Markdown: markup as real sites write it, and any markup at all."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract import maths
from curate.stages.extract.content.render import render
from curate.stages.extract.content.segment import Blocks, cut
from curate.stages.extract.dom import Tree, parse
from curate.stages.extract.training import metric


def page(source: str) -> tuple[Tree, Blocks]:
    tree = parse(source.encode("utf-8", "replace"))
    return tree, cut(tree)


def text(source: str, **given: Any) -> str:
    tree, blocks = page(source)
    return render(tree, blocks, np.ones(len(blocks), bool), **given)


def markdown(source: str, **given: Any) -> str:
    return text(source, markdown=True, **given)


# --- paragraphs, lists, definitions -----------------------------------------------------------------------------------


def test_paragraphs_and_headings_stand_apart_and_a_line_break_stays_inside_its_paragraph() -> None:
    assert text("<h2>One</h2><p>two<br>three <b>four</b></p><div>five</div>") == "One\n\ntwo\nthree four\n\nfive"


def test_a_block_that_was_not_chosen_is_left_out() -> None:
    tree, blocks = page("<p>a</p><p>b</p><p>c</p>")
    assert render(tree, blocks, np.array([True, False, True])) == "a\n\nc"
    assert render(tree, blocks, np.zeros(3, bool)) == ""


def test_items_stand_on_lines_of_their_own_and_inner_lists_are_indented() -> None:
    source = "<p>x</p><ul><li>one<ul><li>in<li>in two</ul><li>two</ul><p>y</p>"
    assert text(source) == "x\n\n- one\n  - in\n  - in two\n- two\n\ny"
    assert markdown(source) == text(source)


def test_items_are_numbered_as_html_counts_them() -> None:
    assert text("<ol start=3><li>a<li>b<li value='9'>c<li>d</ol>") == "3. a\n4. b\n9. c\n10. d"
    assert text("<ol reversed><li>a<li>b<li>c</ol>") == "3. a\n2. b\n1. c"
    assert text('<ol reversed start="-1"><li>a<li>b</ol>') == "-1. a\n-2. b"


def test_a_number_counts_items_that_were_not_chosen() -> None:
    tree, blocks = page("<ol><li>a<li>b<li>c</ol>")
    assert render(tree, blocks, np.array([True, False, True])) == "1. a\n3. c"


def test_an_item_that_has_its_number_in_its_text_gets_no_second_one() -> None:
    assert text("<ol><li>1. a<li>2) b<li>2024. c</ol>") == "1. a\n2) b\n3. 2024. c"


def test_two_lists_in_a_row_stay_two_in_markdown() -> None:
    assert markdown("<ul><li>a</ul><ul><li>b</ul>") == "- a\n\n* b"
    assert markdown("<ol><li>a</ol><ol><li>b</ol>") == "1. a\n\n1) b"


def test_an_item_of_several_blocks_has_one_mark() -> None:
    source = "<ol><li><p>a</p><p>b</p><li>c</ol>"
    assert text(source) == "1. a\n  b\n2. c"
    assert markdown(source) == "1. a\n\n   b\n2. c"


def test_comments_and_cards_in_a_list_are_no_items() -> None:
    source = "<ol class=commentlist><li><header>Ann</header><p>Hello</p></li><li><h3>Card</h3><p>Text</p></li></ol>"
    assert text(source) == "Ann\n\nHello\n\nCard\n\nText"
    assert text(f"<ol><li>{'<p>x</p>' * 20}</ol>") == "\n\n".join("x" * 20)


def test_a_definition_stands_below_its_term() -> None:
    assert text("<dl><dt>a<dd>b<dd>c<dt>d<dd>e</dl>") == "a\nb\nc\n\nd\ne"


def test_a_quotation_is_marked_in_markdown_only() -> None:
    source = "<blockquote><p>a</p><p>b</p><ul><li>c</ul></blockquote><p>d</p>"
    assert text(source) == "a\n\nb\n\n- c\n\nd"
    assert markdown(source) == "> a\n>\n> b\n>\n> - c\n\nd"


# --- tables -----------------------------------------------------------------------------------------------------------

WIKITABLE = """<table class="wikitable"><tbody><tr><th>Country</th><th>Area<br>(km2)</th><th>Note</th></tr>
<tr><td><span class="flagicon"></span><a href="/wiki/Chad">Chad</a></td><td></td><td>a | b</td></tr>
<tr><td>Peru</td><td><ul><li>land 1</li><li>water 2</li></ul></td><td></td></tr></tbody></table>"""


def test_a_table_is_a_line_a_row_and_keeps_its_empty_cells() -> None:
    assert text(WIKITABLE) == "Country | Area (km2) | Note\nChad |  | a | b\nPeru | land 1 water 2 |"


def test_a_table_in_markdown_has_a_head_and_escaped_pipes() -> None:
    assert markdown(WIKITABLE).split("\n") == [
        "| Country | Area (km2) | Note |", "| --- | --- | --- |", "| Chad |  | a \\| b |", "| Peru | land 1 water 2 |  |",
    ]  # fmt: skip


def test_cells_that_reach_over_others_leave_these_empty() -> None:
    source = "<table><tr><th colspan=2>a<th>b<tr><td rowspan=2>c<td>d<td>e<tr><td>f<td>g</table>"
    lines = ["| a |  | b |", "| --- | --- | --- |", "| c | d | e |", "|  | f | g |"]
    assert markdown(source).split("\n") == lines


def test_a_table_that_lays_out_the_page_is_no_table() -> None:
    source = "<table><tr><td><h1>Head</h1><p>one</p><p>two</p></td><td><ul><li>a<li>b</ul></td></tr></table>"
    assert text(source) == "Head\n\none\n\ntwo\n\n- a\n- b"
    cards = "<td><h3>A</h3><p>x</p></td>" * 2
    assert text(f"<table><tr>{cards}</tr><tr>{cards}</tr></table>") == "\n\n".join(["A\n\nx"] * 4)


def test_a_listing_beside_a_note_is_no_cell() -> None:
    assert text("<table><tr><td><pre>a\n  b</pre><td>note</table>") == "a\n  b\n\nnote"


# --- listings ---------------------------------------------------------------------------------------------------------

CODE = "def f(x):\n    if x:\n\treturn 1\n\n    return `$2`"
_ESCAPED = html.escape(CODE, quote=False)
_LINES = _ESCAPED.split("\n")
_SPANS = _ESCAPED.replace("def", '<span class="k">def</span>').replace("return", '<span class="k">return</span>')


def _numbers(template: str) -> str:
    return "".join(template.format(n) for n in range(1, 6))


LISTINGS = {
    "pre": ("", f"<pre>\n{_ESCAPED}\n</pre>"),
    "Sphinx": (
        "python",
        f'<div class="highlight-python notranslate"><div class="highlight"><pre><span></span>{_SPANS}\n</pre></div></div>',
    ),
    "Sphinx with line numbers": (
        "",
        '<div class="highlight-default notranslate"><table class="highlighttable"><tr>'
        '<td class="linenos"><div class="linenodiv">'
        f'<pre>{_numbers("<span class=normal>{}</span>" + chr(10))}</pre></div></td><td class="code"><div><pre>{_SPANS}\n</pre>'
        "</div></td></tr></table></div>",
    ),
    "Pygments, numbers in the line": (
        "",
        "<pre>" + "\n".join(f'<span class="lineno">{n} </span>{line}' for n, line in enumerate(_LINES, 1)) + "</pre>",
    ),
    "GitHub, in a readme": (
        "python",
        f'<div class="highlight highlight-source-python notranslate" dir="auto"><pre>{_SPANS}</pre>'
        '<div class="zeroclipboard-container"><clipboard-copy aria-label="Copy"></clipboard-copy></div></div>',
    ),
    "GitHub, a file": (
        "",
        '<table class="highlight tab-size js-file-line-container"><tbody>\n'
        + "".join(
            f'<tr>\n<td id="L{n}" class="blob-num js-line-number" data-line-number="{n}"></td>\n'
            f'<td id="LC{n}" class="blob-code blob-code-inner js-file-line">{line or chr(10)}</td>\n</tr>\n'
            for n, line in enumerate(_LINES, 1)
        )
        + "</tbody></table>",
    ),
    "MDN": (
        "python",
        f'<div class="code-example"><pre class="brush: python notranslate"><code>{_ESCAPED}\n</code></pre></div>',
    ),
    "Stack Overflow": (
        "py",
        f'<pre class="lang-py s-code-block"><code class="hljs language-python">{_SPANS}\n</code></pre>',
    ),
    "WordPress with Prism": (
        "python",
        f'<pre class="wp-block-code language-python line-numbers"><code class="language-python">{_SPANS}'
        '<span aria-hidden="true" class="line-numbers-rows"><span></span><span></span></span></code></pre>',
    ),
    "Jekyll with Rouge": (
        "python",
        '<div class="language-python highlighter-rouge"><div class="highlight"><pre class="highlight"><code>'
        '<table class="rouge-table"><tbody><tr><td class="rouge-gutter gl"><pre class="lineno">'
        f'{_numbers("{}" + chr(10))}</pre></td><td class="rouge-code"><pre>{_SPANS}\n</pre></td></tr>'
        "</tbody></table></code></pre>"
        "</div></div>",
    ),
    "Hugo with Chroma": (
        "python",
        '<div class="highlight"><div class="chroma"><table class="lntable"><tr><td class="lntd"><pre class=chroma><code>'
        f'{_numbers("<span class=lnt>{}" + chr(10) + "</span>")}</code></pre></td><td class="lntd"><pre class="chroma">'
        '<code class="language-python" data-lang="python">'
        + "".join(f'<span class="line"><span class="cl">{line}\n</span></span>' for line in _LINES)
        + "</code></pre></td></tr></table></div></div>",
    ),
    "highlight.js with line numbers": (
        "python",
        '<pre><code class="hljs python"><table class="hljs-ln">'
        + "".join(
            f'<tr><td class="hljs-ln-line hljs-ln-numbers"><div class="hljs-ln-n" data-line-number="{n}"></div></td>'
            f'<td class="hljs-ln-line hljs-ln-code">{line or chr(10)}</td></tr>'
            for n, line in enumerate(_LINES, 1)
        )
        + "</table></code></pre>",
    ),
    "lines of one element each": (
        "",
        "<pre><code>" + "".join(f'<span class="line">{line or "<br>"}</span>' for line in _LINES[:3]) + "</code></pre>",
    ),
    "prettify": (
        "",
        '<pre class="prettyprint linenums"><ol class="linenums">'
        + "".join(f'<li class="L{n}">{line or chr(10)}</li>' for n, line in enumerate(_LINES))
        + "</ol></pre>",
    ),
    "a copy button": ("", f'<pre><button class="copy-btn">Copy</button><code>{_ESCAPED}</code></pre>'),
    "Twilio": (
        "python",
        '<pre data-lang="python"><div style="min-width:fit-content">'
        + "".join(
            f'<div class="css-a"><style>.b{{opacity:0.5}}</style><span class="css-b">{n}</span><div>{line}\n</div></div>'
            for n, line in enumerate(_LINES, 1)
        )
        + "</div></pre>",
    ),
    "expressive-code": (
        "py",
        '<pre data-language="py"><code>'
        + "".join(
            f'<div class="ec-line"><div class="gutter"><div class="ln">{n}</div></div>'
            f'<div class="code">{line or chr(10)}</div></div>'
            for n, line in enumerate(_LINES, 1)
        )
        + "</code></pre>",
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_keeps_its_lines_and_indentation_and_loses_its_line_numbers(name: str) -> None:
    language, source = LISTINGS[name]
    wanted = "\n".join(CODE.split("\n")[:3]) if name == "lines of one element each" else CODE
    source = f"<p>before</p>{source}<p>after</p>"
    assert text(source) == f"before\n\n{wanted}\n\nafter"
    assert markdown(source) == f"before\n\n```{language}\n{wanted}\n```\n\nafter"


def test_listings_of_no_break_spaces_and_line_breaks_keep_their_indentation() -> None:
    assert (
        text("<p>x</p><code>SELECT<br />\n&nbsp;a,<br />\n&nbsp;&nbsp;b<br><br>FROM  t</code>")
        == "x\n\nSELECT\n a,\n  b\n\nFROM t"
    )
    lines = (
        '<div class="syntaxhighlighter"><table><tr><td class="gutter"><div class="line">1</div><div class="line">2</div></td>'
        '<td class="code"><div class="container"><div class="line"><code>if</code> <code>(x)</code></div>'
        '<div class="line"><code>&nbsp;&nbsp;&nbsp;&nbsp;</code><code>y();</code></div></div></td></tr></table></div>'
    )
    assert text(lines) == "if (x)\n    y();"


def test_a_sentence_with_code_is_no_listing() -> None:
    source = "<p>Use <code>a\n  b</code> or <code>c</code>.</p><p><code>only</code></p>"
    assert text(source) == "Use a b or c.\n\nonly"
    assert markdown(source) == "Use `a b` or `c`.\n\n`only`"


def test_an_element_left_open_makes_no_listing_of_the_page() -> None:
    assert text("<p>a <code>b<p>one<p>two<br>three") == "a b\n\none\n\ntwo\nthree"
    assert text("<div><code>a<p>one  two<br>three<p>four</div>") == "a\n\none two\nthree\n\nfour"


def test_code_elements_one_after_the_other_are_lines() -> None:
    assert text("<pre><code>a</code><code>  b</code></pre>") == "a\n  b"


def test_numbers_in_a_cell_named_gutter_are_dropped_and_words_are_not() -> None:
    assert text('<table><tr><td class="gutter">see 1</td><td>a</td></tr></table>') == "see 1 | a"


def test_numbers_that_are_part_of_the_code_stay() -> None:
    assert text("<pre><div><b>1</b>, a</div><div><b>3</b>, b</div></pre>") == "1, a\n3, b"
    assert text('<pre><span class="lineno">x1</span> <span class="mi">1</span>\n2</pre>') == "x1 1\n2"


def test_a_fence_is_longer_than_the_backticks_inside() -> None:
    assert markdown("<pre>a\n````\nb</pre>") == "`````\na\n````\nb\n`````"
    assert markdown("<p><code>a `b`</code></p>") == "`` a `b` ``"


# --- inside a paragraph -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("<p>a <b>bold </b>and<i> it</i>.</p>", "a **bold** and *it*."),
        ("<p><b><i>both</i></b> <strong>a</strong><em>b</em></p>", "***both*** **a**b"),
        ("<p>x<b>(y)</b>z</p>", "x(y)z"),
        ("<p>x<b>(y)</b> z<b>y</b></p>", "x(y) z**y**"),
        ("<p><b>\\</b> <b><i>1</i></b> end</p>", "**\\\\** ***1*** end"),
        ("<h3><b>Title</b> of #</h3>", "### Title of \\#"),
        ("<p>a <code>b*c</code> d</p>", "a `b*c` d"),
        ("<p># a<br>1. b<br>- c<br>&gt; d<br>--- <br>===</p>", "\\# a  \n1\\. b  \n\\- c  \n\\> d  \n\\---  \n\\==="),
        ("<p>2 * 3, *x*, a_b, _c_, [d](e), [1], `f`, \\g, \\*, &lt;b&gt;, 1 &lt; 2, &amp;amp; &amp; ~~</p>",
         "2 * 3, \\*x\\*, a_b, \\_c\\_, [d\\](e), [1], \\`f\\`, \\g, \\\\\\*, \\<b>, 1 < 2, \\&amp; & \\~~"),
    ],
)  # fmt: skip
def test_markdown_says_what_the_page_says(source: str, wanted: str) -> None:
    assert markdown(source) == wanted


def test_links_are_written_if_wanted_and_only_harmless_ones() -> None:
    source = (
        '<p>a <a href="https://e.org/x_(y) z?a=1&amp;b=2">on <b>e</b> [1]</a>, <a href="/r">r</a>, '
        '<a href=" java\tscript:alert(1)">j</a>'
        ', <a href="data:text/html,x">d</a>, <a href="#f">f</a>, <a href="mailto:a@e.org">m</a></p>'
    )
    wanted = "a [on **e** \\[1\\]](https://e.org/x_%28y%29%20z?a=1&b=2), [r](/r), j, d, f, [m](mailto:a@e.org)"
    assert markdown(source, links=True) == wanted
    assert markdown(source) == "a on **e** [1], r, j, d, f, m"


# --- mathematics ------------------------------------------------------------------------------------------------------

MATHS = (
    '<script src="https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-chtml.js"></script>'
    "<p>Let \\(a_i * b_i * c\\) cost $5 in <code>$HOME \\(x\\)</code> <b>now</b>.</p><pre>echo $url \\(y\\)</pre>"
)


def test_formulas_are_not_escaped_and_code_is_not_read_as_formulas() -> None:
    tree = parse(MATHS.encode())
    found = maths.read(tree)
    blocks = cut(tree, {each.node: maths.enclose(each).encode() for each in found.formulas}, found.removed)
    keep = np.ones(len(blocks), bool)

    def said(source: str) -> str:
        return maths.normalise(source, found.delimiters)

    assert render(tree, blocks, keep, block_text=said) == (
        "Let $a_i * b_i * c$ cost \\$5 in $HOME \\(x\\) now.\n\necho $url \\(y\\)"
    )
    assert render(tree, blocks, keep, markdown=True, block_text=said) == (
        "Let $a_i * b_i * c$ cost \\$5 in `$HOME \\(x\\)` **now**.\n\n```\necho $url \\(y\\)\n```"
    )


def test_a_formula_may_reach_over_elements() -> None:
    assert markdown("<p>x $*a_{_b}$ *</p>", block_text=str) == "x $*a_{_b}$ \\*"
    assert markdown("<p>x $a_<i>i</i> + b_j$ <i>y_</i></p>", block_text=str) == "x $a_i + b_j$ *y\\_*"


def test_marks_of_formulas_are_dropped_where_nothing_reads_them() -> None:
    tree = parse("<p>aé <i>x</i></p><pre>é<i>y</i></pre>".encode())
    marked = maths.enclose(maths.Formula(0, "x", False)).encode()
    blocks = cut(tree, {node: marked for node in range(len(tree)) if tree.name(node) == "i"})
    for written in (False, True):
        assert not re.search("[\ufdd0-\ufdef]", render(tree, blocks, np.ones(len(blocks), bool), markdown=written))


# --- any page ---------------------------------------------------------------------------------------------------------

_TAGS = (
    "p div h1 h3 ul ol li dl dt dd table tr td th thead tbody pre code span b i em strong a blockquote br hr section header "
    "form button sup figure caption details summary xmp"
).split()
_CLASSES = ["", "", "", "line", "gutter", "blob-code", "lineno", "copy", "highlight-c", "cm-line"]
_token = st.one_of(
    st.builds(lambda name, kind: f'<{name} class="{kind}">', st.sampled_from(_TAGS), st.sampled_from(_CLASSES)),
    st.builds("</{}>".format, st.sampled_from(_TAGS)),
    st.sampled_from([" ", "\n", "&nbsp;", "<br>", "<br><br>", "\n  ", "\t"]),
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]).map(" {} ".format),
)
soups = st.lists(_token, max_size=60).map("".join)


@settings(max_examples=400, deadline=None)
@given(soups, st.integers(0, 2**32))
def test_the_text_of_any_page_is_the_words_of_its_chosen_blocks_in_order(source: str, seed: int) -> None:
    tree, blocks = page(source)
    keep = np.random.default_rng(seed).random(len(blocks)) < 0.7
    wanted = [word for block in np.flatnonzero(keep) for word in re.findall("[a-z]+", blocks.string(int(block)))]
    for found in (
        render(tree, blocks, keep),
        render(tree, blocks, keep, block_text=str),
        re.sub(
            r"^(?:[>\s]|[-*]\s|\d+[.)]\s)*```.*$", "", render(tree, blocks, keep, markdown=True), flags=re.MULTILINE
        ),
    ):
        assert re.findall("[a-z]+", found) == wanted


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=80), soups, st.booleans())
def test_any_text_gives_valid_unicode_without_nul_and_noncharacters(strange: str, soup: str, escaped: bool) -> None:
    source = soup + (html.escape(strange) if escaped else strange) + soup
    for found in (text(source), markdown(source, links=True), markdown(source, block_text=str)):
        found.encode()
        assert not re.search("[\0\ufdd0-\ufdef]", found)


_word = st.text(alphabet="ab1*_`[]()<>#+-.|~&!=:\\ ", min_size=1, max_size=12).filter(str.strip)
_style = st.sampled_from(
    ["{}", "{}", "<b>{}</b>", "<i>{}</i>", "<b><i>{}</i></b>", '<a href="/x">{}</a>', "<code>{}</code>"]
)
_inline = st.lists(st.tuples(_style, _word), min_size=1, max_size=4).map(
    lambda found: " ".join(style.format(html.escape(word)) for style, word in found) + " end"
)
_paragraph = _inline.map("<p>{}</p>".format)
_row = st.lists(_inline, min_size=2, max_size=2).map(
    lambda cells: "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
)
_leaf = st.one_of(
    _paragraph,
    _inline.map("<h2>{}</h2>".format),
    st.lists(_row, min_size=2, max_size=2).map(lambda rows: f"<table>{''.join(rows)}</table>"),
    st.lists(_word, min_size=2, max_size=3).map(
        lambda lines: f"<pre>{html.escape(chr(10).join(['x', *lines, 'x']))}</pre>"
    ),
)


def _listed(items: list[list[str]], ordered: bool, start: int) -> str:
    body = "".join("<li>" + "".join(item) + "</li>" for item in items)
    return f'<ol start="{start}">{body}</ol>' if ordered else f"<ul>{body}</ul>"


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    body = st.lists(inner, max_size=2)
    item = st.builds(lambda first, rest: [first, *(each for each in rest if "<h2" not in each)], _paragraph, body)
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda found: f"<blockquote>{''.join(found)}</blockquote>"),
        st.builds(_listed, st.lists(item, min_size=1, max_size=3), st.booleans(), st.integers(0, 12)),
    )


def structure(source: str) -> list[tuple[str, str]]:
    """The leaves of a page by the parser of lxml: where each stands, and its characters."""
    from lxml import html as parser  # type: ignore[import-untyped]

    names = {"th": "td", "strong": "b", "em": "i"}
    found = []
    for leaf in parser.document_fromstring(f"<body>{source}</body>").iter("p", "h2", "pre", "td", "th", "li"):
        path = [names.get(each.tag, each.tag) for each in reversed([leaf, *leaf.iterancestors()])]
        path = [each for each in path[2:] if each not in ("tbody", "thead", "p", "code")]
        if leaf.tag == "li" and leaf.find("p") is not None:
            continue
        blocks = "self::ul or self::ol or self::blockquote or self::table or self::pre"
        own = "".join(leaf.xpath(f"text() | *[not({blocks})]//text()"))
        found.append(("/".join(path), own.rstrip() if leaf.tag == "pre" else " ".join(own.split())))
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(st.recursive(_leaf, _nested, max_leaves=4), min_size=1, max_size=3), st.booleans())
def test_a_markdown_parser_reads_the_page_back(parts: list[str], links: bool) -> None:
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").enable("strikethrough")
    source = "<p>between</p>".join(parts)
    written = markdown(source, links=links)
    assert structure(reader.render(written)) == structure(source), written


# --- speed and gold ---------------------------------------------------------------------------------------------------


def test_code_and_rows_of_a_page_are_found_by_the_measure_of_what_is_kept() -> None:
    source = f"<ul><li>Do this:{LISTINGS['Jekyll with Rouge'][1]}</ul><blockquote>{LISTINGS['MDN'][1]}</blockquote>{WIKITABLE}"
    for found in (text(source), markdown(source)):
        assert metric.code_kept([CODE], found) == [True]
        assert metric.tables_kept([["Chad", "a | b"], ["Peru", "land 1 water 2"]], found) == [True, True]


def test_deep_nesting_and_many_blocks_are_written() -> None:
    assert text("<ul><li>" * 400 + "x") == "- x"
    assert text("<blockquote>" * 400 + "<p>x") == "x"
    assert markdown("<table><tr><td>" * 200 + "x").strip("> ") == "x"
    assert len(text("<p>x</p>" * 20_000)) == 3 * 20_000 - 2


@pytest.mark.timeout(60)
def test_long_runs_of_special_characters_take_no_longer_than_other_text() -> None:
    for strange in ("| ", "|-", "- ", "$ ", "[", "`", "*a_ ", "\\", "&amp;#", "1"):
        assert len(markdown(f"<p>{strange * 200_000}<br>{strange * 100_000}x", block_text=str)) > 200_000
