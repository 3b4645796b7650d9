"""The tree against Lexbor, a whole HTML5 parser: where text ends up, on tag soup and real pages; and what every tree keeps."""

from __future__ import annotations

import random
import sys
import tarfile

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from curate.stages.extract.dom import Tree, build, parse, tags, tree
from support import shared_data

Runs = list[tuple[str, tuple[str, ...]]]
IMPLIED = {"html", "head", "body", "tbody", "colgroup"}
"""Elements that parsers add where a page leaves them out; ours does not."""
FORMATTING = {name for name in tags.NAMES if tags.FLAGS[tags.ID[name]] & tags.BITS["FORMATTING"]}


def runs(texts: list[tuple[str, tuple[str, ...]]], ignored: set[str]) -> Runs:
    """Text without white space, and the names of the elements around it; neighbours within the same ones joined."""
    joined: Runs = []
    for text, around in texts:
        names = tuple(name for name in around if name not in ignored)
        letters = "".join(text.replace("\0", "").replace("\ufffd", "").split())
        if not letters or "template" in names:
            continue
        if joined and joined[-1][1] == names:
            joined[-1] = (joined[-1][0] + letters, names)
        else:
            joined.append((letters, names))
    return joined


def lexbor(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every text of a page and the elements around it, as Lexbor sees them."""
    found = []
    root = LexborHTMLParser(page).root
    waiting: list[tuple[object, tuple[str, ...]]] = [(root, ())]
    while waiting:
        node, around = waiting.pop()
        if node.is_text_node:  # type: ignore[attr-defined]
            found.append((node.text_content or "", around))  # type: ignore[attr-defined]
            continue
        children, child = [], node.first_child  # type: ignore[attr-defined]
        while child is not None:
            children.append((child, (*around, node.tag.lower())))  # type: ignore[attr-defined]
            child = child.next
        waiting += reversed(children)
    return found


def ours(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """The same of our tree."""
    made = parse(page.encode())
    found = []
    around: list[tuple[str, ...]] = [()] * len(made)
    for node in range(1, len(made)):
        above = around[made.parent[node]]
        if made.tag[node] == tags.TEXT:
            found.append((made.text(node), above))
        else:
            around[node] = (*above, made.name(node))
    return found


def outline(page: str) -> list[tuple[str, str]]:
    """Text and the elements around it as a path, of our tree."""
    return [(text, "/".join(names)) for text, names in runs(ours(page), set())]


SAME = {
    "implied ends of p": "<p>a<p>b<div>c</div>d<p>e<ul><li>f</ul>g",
    "p ends at a heading and a table": "<!doctype html><p>a<h2>b</h2>c<p>d<table><tr><td>e</table>f",
    "p stays open in a button": "<p>a<button>b<p>c</button>d",
    "implied ends of li": "<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e",
    "li ends through div, not through section": "<ul><li><div>a<li>b<section>c<li>d</ul>",
    "implied ends of dt and dd": "<dl><dt>a<dd>b<dt>c<dd>d<p>e<dt>f</dl>g",
    "implied ends of cells and rows": "<table><tr><td>a<td>b<tr><th>c<td>d</table>e",
    "sections of a table": "<table><thead><tr><th>a<tbody><tr><td>b<tfoot><tr><td>c</table>d",
    "a row that is not written": "<table><td>a<td>b</table><table><tbody><td>c</table>",
    "a caption ends at a row": "<table><caption>a<tr><td>b</table>",
    "a table in a cell": "<table><tr><td>a<table><tr><td>b</table>c<td>d</table>e",
    "a table right in a table ends it": "<table><tr><td>a</td></tr><table><tr><td>b</table>c",
    "a cell in a div of a row": "<table><tr><td>a</td></tr><tr><td><div>b<td>c<tr><td>d</table>",
    "cells without a table": "a<td>b</td><tr>c<caption>d</caption>e",
    "end tags of another table": "<table><tr><td>a<table><tr></td><td>b</tr></table>c</td><td>d</table>",
    "options": "<select><option>a<option>b<optgroup label=x><option>c</select>d",
    "a field ends a select": "<select><option>a<input>b<select><option>c<select>d",
    "headings": "<h1>a<h2>b</h3>c</h1>d",
    "unclosed links": "<p><a href=1>a<a href=2>b</a>c</p>d",
    "a link in a link over a block": "<a href=1>a<div>b<a href=2>c</a>d</div>e",
    "a form ends alone": "<form><div>a</form>b</div>c",
    "a form in a form": "<form><div>a<form>b</form>c</div>d",
    "ruby": "<ruby>a<rp>(<rt>b<rp>)</ruby>c<ruby>d<rb>e<rtc>f<rt>g<rb>h</ruby>",
    "end tags that end nothing": "<div>a</span></p>b</li></section>c</div>d</div>e",
    "an end tag does not pass a cell": "<div><table><tr><td>a</div>b</table>c",
    "an end tag that ended nothing ends the next": "a</span><span>b</span>c</x-y></x-y><x-y>d</x-y>e",
    "a page that ends within an end tag": "<p>a<style>b</style",
    "br as an end tag": "a</br>b<p>c</p></br>d",
    "void elements": "a<br>b<img src=x>c<input>d<hr>e<wbr>f<area></area>g",
    "image is img": "a<image src=x>b",
    "a slash closes nothing in HTML": "<div/>a<p/>b<span/>c",
    "unknown elements": "<x-card>a<y-part>b</x-card>c</y-part>d",
    "upper case": "<DIV>a<P>b</p><Script><B></SCRIPT>c</div>d",
    "body and html again": "<html><body>a</body>b</html>c<body class=x>d<html>e",
    "text ends the head": "<head><title>t</title>a<p>b",
    "noscript in the head": "<head><noscript><link>a</noscript><p>b",
    "svg": "a<svg><g>b<circle/>c<path>d</path></g></svg>e",
    "html in svg ends it": "<svg><g>a<div>b</div>c<p><svg><g>d</p>e",
    "foreignObject holds html": "<svg><foreignObject><p>a<p>b<div>c</svg></div></foreignObject></svg>d",
    "title and desc in svg": "<svg><title>a<b>b</b></title><desc><p>c<p>d</p></desc></svg>e",
    "style in svg is markup": "<svg><style>a<g>b</g></style></svg>c",
    "math": "a<math><mi>x</mi><mo>=</mo><mfrac><mn>1</mn><mi>y</mi></mfrac></math>b",
    "html in mtext": "<math><mtext><p>a<p>b</p></mtext><mi>c</mi></math>d",
    "annotations": "<math><semantics><mi>x</mi><annotation encoding=x-tex>x<y</annotation></semantics></math>a",
    "annotation in html": "<math><annotation-xml encoding=text/html><p>a<p>b</p></annotation-xml></math>c",
    "annotation in MathML": "<math><annotation-xml encoding=MathML-Content><plus/><ci>a</ci></annotation-xml></math>c",
    "CDATA in svg": "<svg><text><![CDATA[a<b>&amp;]]>c</text></svg>d",
    "CDATA that does not end": "<svg><![CDATA[a<b>",
    "CDATA in html is a comment": "a<![CDATA[b>c]]>d",
    "scripts": "<script>a<b>'</scrip'</script>b<style>c<d></style>e<textarea><p>f</textarea>g",
    "an end tag of a script with attributes": "<script>a</script x='>'>b",
    "a script in a script": "<script>a<!--<script>b</script>c--></script>d",
    "a comment in a script": "<script>a<!-- b --></script>c<script><!-- </script>d",
    "a title with markup": "<title>a<b>c &amp; d</title>e",
    "plaintext": "a<plaintext>b<p>&amp;</plaintext>c",
    "iframes": "<iframe>a<b></iframe>b<noembed><p>c</noembed>d<xmp><p>&amp;</xmp>e",
    "comments": "a<!--b-->c<!-->d<!--->e<!---->f<!-- -- >g-->h<!--i--!>j<!----!>k",
    "bogus comments": "a<!b>c<?d>e</ f>g</>h</3>i<!DOCTYPE x>j<!->k",
    "a comment that does not end": "a<!-- b <p>c",
    "less-than signs": "a < b <3 <= <\u00e9 <<b>c</b>",
    "attributes": "<p a='>'>a<p b=\">\">b<p c=x/>c<p d = '<b>' e>d<p f=g\"h>e<p =i>f<p 'j'>g<p k=''l=''>h",
    "a quote that does not end": "a<p title='b>c<p>d",
    "a tag that does not end": "a<p title=b",
    "a tag in a tag": "<div <p>a</p>b</div>c",
    "references": "&amp;&lt;&gt;&quot;&nbsp;&copy;&Aacute;&hellip;&notin;&ngE;",
    "references without a semicolon": "&amp &notit; &copy2026 &ltp &Aacutex &para&sect&unknown &hellip &am",
    "numbers": "&#65;&#x42;&#X43;&#67x&#128;&#150;&#x9f;&#0;&#xD800;&#x110000;&#99999999999;&#x1F600;&#;&#x;&#xg;",
    "ampersands": "a & b && &; &&amp; AT&T &#",
    "null bytes": "a\0b<p>\0c</p>\0",
    "white space in tags": "<p\n\tid=x\f>a</p\n>b<\np>c",
    "a dialog": "<dialog><p>a</dialog>b",
    "nobr, font and b over blocks": "<font><b>a<p>b</b>c</font>d</p>e",
    "misnested formatting": "<b>a<i>b</b>c</i>d",
    "a block in a formatting element": "<b>a<div>b</b>c</div>d",
}


@pytest.mark.parametrize("page", SAME.values(), ids=SAME)
def test_text_stands_where_lexbor_puts_it(page: str) -> None:
    ignored = IMPLIED | FORMATTING
    assert runs(ours(page), ignored) == runs(lexbor(page), ignored)


def test_formatting_elements_reach_as_far_as_their_own_tags_say() -> None:
    assert outline("<b>a<i>b</i>c</b>d<a href=x>e</a>f") == [
        ("a", "b"),
        ("b", "b/i"),
        ("c", "b"),
        ("d", ""),
        ("e", "a"),
        ("f", ""),
    ]


def test_text_written_between_a_table_and_its_cells_is_kept_there() -> None:
    assert outline("<table>a<tr>b<td>c</td>d</table>e") == [
        ("a", "table"), ("b", "table/tr"), ("c", "table/tr/td"), ("d", "table/tr"), ("e", ""),
    ]  # fmt: skip


def test_a_script_whose_comment_never_ends_does_not_swallow_the_page() -> None:
    assert outline("<script><!--<script></script>a<p>b")[1:] == [("a", ""), ("b", "p")]


def test_svg_that_is_not_closed_properly_does_not_swallow_the_page() -> None:
    assert outline("<svg><foreignObject><div>a</svg><p>b") == [("a", "svg/foreignobject/div"), ("b", "p")]


def test_a_noscript_with_unbalanced_content_ends_at_its_end_tag() -> None:
    assert outline("<body><noscript><div></noscript>a") == [("a", "body")]


def test_text_in_a_template_is_below_it_and_a_declared_shadow_root_is_marked() -> None:
    made = parse(b"<div><template shadowrootmode=open><p>a<td>b</template>c</div><template>d</template>")
    shadow, plain = np.flatnonzero(made.tag == tags.ID["template"])
    assert made.text(shadow) == "ab" and made.text(plain) == "d" and made.text(0) == "abcd"
    assert made.marks[shadow] & build.SHADOW and not made.marks[plain] & build.SHADOW


ATTRIBUTES = [
    "<p id=a class='b c' title=\"d>e\" hidden data-x = y>",
    "<P ID=a id=b Id=c>",
    "<p a='' b=\"\" c= d=e/ f>",
    "<p a=\"&lt;&amp;&copy; &copy &copy=1 &copy2 &notit; &not; &amp;lt; &#65 &#x80;\">",
    "<p href='?a=1&lang=de&lt=2&amp;reg=3&para' a=&quot;>",
    "<p =a b==c d'e \"f g=h'i\">",
    "<p/a/b=c/ d>",
    "<p\na\n=\n'b\nc'\fd=\u00a0e>",
    "<p a=\u00e9 \u00e9=b \u00c9=c title=\U0001f600>",
]  # fmt: skip


@pytest.mark.parametrize("page", ATTRIBUTES)
def test_attributes_are_those_that_lexbor_reads(page: str) -> None:
    made = parse((page + "x").encode())
    found = LexborHTMLParser(page + "x").css_first("p")
    assert found is not None
    assert made.attributes(1) == {name: value or "" for name, value in found.attributes.items()}


def test_marks_say_what_is_hidden_what_links_and_which_link_a_node_stands_in() -> None:
    made = parse(
        b"<p hidden>a<p style='color:red; Display : NONE'>b<p style=visibility:hidden>c<p style=display:block>d"
        b"<p aria-hidden=true>e<p aria-hidden=false>f<a name=x>g</a><a href=y>h<b>i</b></a>j"
    )
    marks = {made.text(node): int(made.marks[node]) for node in range(1, len(made)) if made.name(node) in ("p", "a")}
    assert [marks[key] for key in "abcd"] == [build.HIDDEN, build.HIDDEN, build.HIDDEN, 0]
    assert (marks["e"], marks["fghij"], marks["g"], marks["hi"]) == (build.ARIA_HIDDEN, 0, 0, build.HREF)
    link = next(node for node in range(len(made)) if made.marks[node] & build.HREF)
    texts = {made.text(node): int(made.anchor[node]) for node in range(len(made)) if made.tag[node] == tags.TEXT}
    assert [texts[key] for key in "ghij"] == [-1, link, link, -1]


def test_spans_are_the_values_of_class_id_and_role() -> None:
    made = parse(b"<div CLASS='a b' id=c role=\"main\" class=d><p itemprop=text><p>")
    values = [[made.source[a:b] for a, b in made.spans[node].reshape(3, 2)] for node in (1, 2, 3)]
    assert values == [[b"a b", b"c", b"main"], [b"", b"", b"text"], [b"", b"", b""]]


def test_children_and_text_follow_the_order_of_the_page() -> None:
    made = parse(b"<div>a<p>b <b>&lt;c</b></p>\n<!-- x -->d<script>e&lt;</script></div>")
    assert [made.name(child) or made.text(child) for child in made.children(1)] == ["a", "p", "\n", "d", "script"]
    assert made.text(1) == "ab <c\nde&lt;"


def check(made: Tree, source: bytes) -> None:
    """What is true of every tree."""
    count = len(made)
    nodes = np.arange(count)
    assert count >= 1 and made.parent[0] == -1 and made.last[0] == count
    above = made.parent[1:]
    assert (above >= 0).all() and (above < nodes[1:]).all() and (made.tag[above] != tags.TEXT).all()
    assert (made.last > nodes).all() and (made.last[1:] <= made.last[above]).all()
    assert (made.last[made.tag == tags.TEXT] == nodes[made.tag == tags.TEXT] + 1).all()
    assert (made.start >= 0).all() and (made.start <= made.stop).all() and (made.stop <= len(source)).all()
    # In the order of the page, and nothing of it twice.
    assert (made.stop[:-1] <= made.start[1:]).all()
    inside = made.stop <= made.close
    assert inside.all() and (made.close <= len(source)).all()
    depth = np.zeros(count, np.int64)
    for node in range(1, count):
        depth[node] = depth[made.parent[node]] + 1
    assert depth.max() <= build.DEPTH
    elements = made.tag != tags.TEXT
    spans = made.spans[elements].reshape(-1, 3, 2)
    assert (spans[:, :, 0] <= spans[:, :, 1]).all()
    for node in range(1, count):
        assert 0 <= made.tag[node] < len(tags.NAMES)
        if made.tag[node] == tags.TEXT:
            assert made.text(node) is not None
        else:
            name = made.name(node)
            written = source[made.start[node] : made.stop[node]]
            unwritten = name == "tr" and not written
            assert unwritten or (written.startswith(b"<") and written.endswith(b">"))
            assert all(isinstance(value, str) for value in made.attributes(node).values())
            assert -1 <= made.anchor[node] < node


PIECES = [
    *(f"<{name}>" for name in tags.NAMES[2:]),
    *(f"</{name}>" for name in tags.NAMES[2:]),
    *"text &amp; &lt &#x41; & < > </ <! <!-- --> --!> <![CDATA[ ]]> <? /> ' \" = <x-y> </x-y> <svg/> <math><mi> <!-->".split(),
    *["<a href=x>", "<p class='a' id=b>", '<p title="', "<p style='display:none'>", "<template shadowrootmode=open>"],
    *["<script><!--<script>", " ", "\n", "\0", "\u00e9", "\u00a0", "\U0001f600"],
]


@given(st.binary(max_size=300))
@example(b"")
@example(b"<")
@example(b"</")
@example(b"<p title='")
def test_any_bytes_make_a_tree(data: bytes) -> None:
    source = data.decode("utf-8", "replace").encode()
    check(parse(source), source)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_tag_soup_makes_a_tree(page: str) -> None:
    check(parse(page.encode()), page.encode())


# Where our tree differs on purpose: tables (text between cells), frames, scripts that never end, what a select may hold,
# sections in svg; and templates, whose text Lexbor keeps apart.
APART = "table tbody thead tfoot tr td th caption colgroup col frame frameset noframes script select option optgroup keygen svg"
APART += " math template head html body noscript plaintext svg/ math><mi"
SOUP = [
    piece
    for piece in PIECES
    if piece.strip("</>") not in APART.split() and not piece.startswith(("<template", "<script"))
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(SOUP), max_size=40).map("".join))
def test_the_letters_of_tag_soup_are_those_of_lexbor_in_its_order(page: str) -> None:
    page = "<!doctype html><body>" + page
    mine, theirs = runs(ours(page), set()), runs(lexbor(page), set())
    assert "".join(text for text, _ in mine) == "".join(text for text, _ in theirs)


FLOODS = {
    "nested elements": ("", "<div>"),
    "nested tables": ("", "<table><tr><td>"),
    "formatting that is never closed": ("", "<b><p>"),
    "misnested formatting": ("", "<b><p>x</b></p>"),
    "links that are never closed": ("", "<a href=x>y"),
    "end tags": ("", "</p>"),
    "end tags below a deep stack": ("<b><object>" + "<span>" * 600, "</b></i></x-y>"),
    "items below a deep stack": ("<ul><li>" + "<span>" * 600, "<li>"),
    "attributes": ("<p ", "a=b "),
    "comments": ("", "<!--"),
    "scripts that never end": ("", "<script>"),
    "escaped scripts that never end": ("", "<script><!--<script></script>"),
    "CDATA": ("<svg>", "<![CDATA["),
    "svg": ("", "<svg><g><p>"),
    "options": ("", "<select><option>"),
    "ampersands": ("<p>", "&"),
    "less-than signs": ("", "<"),
    "line breaks in a listing": ("<pre>x", "<br>"),
}


@pytest.mark.parametrize(("before", "piece"), FLOODS.values(), ids=FLOODS)
def test_a_flood_of_one_thing_is_read_in_one_pass_and_stays_shallow(before: str, piece: str) -> None:
    source = (before + piece * 20_000).encode()
    made = parse(source)
    # Nodes are bounded by what is written, so that no content can make the tree larger than the page.
    assert len(made) <= 3 * source.count(b"<") + 4
    depth = np.zeros(len(made), np.int64)
    for node, above in enumerate(made.parent[1:].tolist(), 1):
        depth[node] = depth[above] + 1
    assert depth.max() <= build.DEPTH
    assert (made.last[1:] <= made.last[made.parent[1:]]).all()


def test_what_follows_the_first_nodes_of_a_huge_page_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_NODES", 100)
    source = b"<p>x" * 1000
    made = parse(source)
    assert len(made) == 100
    check(made, source)


def _sample(archive: str, count: int) -> list[tuple[str, str]]:
    """Pages of an archive of the shared data, the same ones each time."""
    with tarfile.open(shared_data(archive)) as pack:
        members = [member for member in pack if member.isfile() and member.name.endswith(".html")]
        members.sort(key=lambda member: member.name)
        chosen = {member.name for member in random.Random(0).sample(members, min(count, len(members)))}
    pages = []
    with tarfile.open(shared_data(archive)) as pack:
        for member in pack:
            if member.name in chosen:
                data = pack.extractfile(member)
                assert data is not None
                pages.append((member.name, data.read().decode("utf-8", "replace")))
    return pages


@pytest.mark.parametrize("archive", ["pages-2026.tar.xz", "pages-snippets.tar.xz"])
def test_real_pages_have_lexbors_text_and_nearly_all_of_it_in_the_same_elements(archive: str) -> None:
    ignored = IMPLIED | FORMATTING
    pages = _sample(archive, 60)
    moved = []
    for name, page in pages:
        mine, theirs = runs(ours(page), ignored), runs(lexbor(page), ignored)
        assert "".join(text for text, _ in mine) == "".join(text for text, _ in theirs), name
        if mine != theirs:
            moved.append(name)
    # Copies of formatting elements (WHATWG's adoption agency) move text between blocks on about one page in 300.
    assert len(moved) <= 2, moved


def test_names_with_the_same_start_are_told_apart() -> None:
    assert sys.maxsize > 2**32
    numbers = [build.number_of(np.uint64(tags.pack(name)), tags.KEYS, tags.NUMBERS) for name in tags.NAMES[2:]]
    assert numbers == list(range(2, len(tags.NAMES)))
    others = ["x", "div2", "di", "strongx", "annotation", "foreignobjec", "a-b", "blockquot", "blockquotee"]
    found = {name: int(build.number_of(np.uint64(tags.pack(name)), tags.KEYS, tags.NUMBERS)) for name in others}
    assert found == {name: tags.ID.get(name, 0) for name in others}
