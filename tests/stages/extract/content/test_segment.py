"""Blocks: where a browser begins a new line, and character references decoded as Lexbor and the `html` module do."""

from __future__ import annotations

import html.entities
import random
import tarfile
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from curate.stages.extract.content import segment
from curate.stages.extract.content.segment import Blocks, cut
from curate.stages.extract.dom import parse, tags
from support import shared_data


def blocks(page: str) -> list[str]:
    """The text of each block."""
    made = cut(parse(page.encode()))
    return [made.string(block) for block in range(len(made))]


def visible(text: str) -> str:
    """Text without white space and what nobody sees: soft hyphens, zero-width spaces, control and non-characters."""
    dropped = "\u00ad\u200b\u2060\ufeff"
    letters = (letter for letter in text if letter not in dropped and not 0xFDD0 <= ord(letter) < 0xFDF0)
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Cc" and not letter.isspace())


def read(page: str) -> str:
    """What is visible in the pieces of a page, in order."""
    made = cut(parse(page.encode()))
    return visible("".join(made.text[first:stop].tobytes().decode() for _, first, stop, _ in made.pieces.tolist()))


def drawn(page: str) -> str:
    """The same by Lexbor."""
    body = LexborHTMLParser(page).body
    assert body is not None
    return visible(body.text(deep=True))


REFERENCES = "".join(f"&{name}.{html.unescape('&' + name)}." for name in sorted(html.entities.html5))


@pytest.mark.parametrize(
    "text",
    [
        REFERENCES,
        "&amp &notit; &notin &copy2026 &ltp &Aacutex &para&sect&unknown; &hellip &am &ampamp; &amp;lt; &;",
        "".join(f"&#{number};&#x{number:X}." for number in range(1, 0x180)),
        "&#65 &#x42 &#X43; &#67x &#0; &#xD800; &#xDFFF; &#x110000; &#99999999999999999999; &#xFFFFFFFFFF;",
        "&#; &#x; &#xg; &#",
        "&#x1F600; &#128512; &#x1f469;&#x200d;&#x1f4bb; \U0001f600 caf\u00e9 \u6570\u5b66 \u0645\u0631 &amp\u00e9;",
        "a < b > c & d && e &",
    ],
)
def test_references_are_decoded_as_lexbor_does(text: str) -> None:
    page = f"<!doctype html><body><p>{text}</p>"
    assert read(page) == drawn(page)


@pytest.mark.parametrize("name", ["lt", "amp", "copy", "reg", "yen", "para", "middot", "frac12", "Atilde"])
def test_an_old_name_needs_no_semicolon(name: str) -> None:
    letter = html.unescape(f"&{name};")
    assert blocks(f"<p>1 &{name} 2 &{name}x &{name};") == [f"1 {letter} 2 {letter}x {letter}"]


PIECES = [
    *"<p> </p> <div> </div> <b> </b> <br> <span> </span> <ul> <li> </li> </ul> <h2> </h2> <blockquote> </blockquote>".split(),
    *"<hr> <sup> </sup> </a> word a &nbsp; &amp; &lt &shy; &#8203; &nGt; &#x1F600; &#150; &#129; & &# &am ; 1".split(),
    *[
        "<a href=x>",
        "<img src=x>",
        "<!-- c -->",
        " ",
        "\n",
        "\t",
        "\u00e9",
        "\u00a0",
        "\u00ad",
        "\u200b",
        "\u6570",
        "\U0001f600",
    ],
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
@example("&" * 50)
@example("&nGt;" * 50)
def test_no_letter_is_lost_added_or_moved(soup: str) -> None:
    page = f"<!doctype html><body>{soup}"
    assert read(page) == drawn(page)


def consistent(made: Blocks, count: int) -> None:
    """What is true of the blocks of any page of `count` nodes."""
    length = len(made.text)
    made.text.tobytes().decode()
    stops = 0
    for house, first, stop, low, high in made.blocks.tolist():
        assert stops <= first < stop <= length and 0 <= house < count and 0 <= low < high <= len(made.pieces)
        stops = stop
    ends = 0
    for node, first, stop, _ in made.pieces.tolist():
        assert ends <= first <= stop <= length and 0 < node < count
        ends = stop
    assert len(made.before) == count + 1 and made.before[0] == 0 and made.before[-1] == len(made)
    assert (made.before[1:] >= made.before[:-1]).all()


SOUP = [
    *PIECES,
    *(f"<{name}>" for name in tags.NAMES[2:]),
    *(f"</{name}>" for name in tags.NAMES[2:]),
    "\0",
    "<pre>\n",
    "<",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(SOUP), max_size=60).map("".join))
@example("<pre>x" + "<br>" * 500)
@example("<pre>" + "<br>" * 500 + "x" + "<span></span>" * 50)
def test_blocks_of_any_page_are_in_order_and_hold_text(page: str) -> None:
    tree = parse(page.encode())
    consistent(cut(tree), len(tree))


@given(st.binary(max_size=300))
def test_any_bytes_are_cut(data: bytes) -> None:
    tree = parse(data.decode("utf-8", "replace").encode())
    consistent(cut(tree), len(tree))


def test_a_listing_has_room_for_every_line_break_however_little_text_it_holds() -> None:
    # Each `<br>` is a character that no text node brings.
    assert blocks("<pre>x" + "<br>" * 100_000 + "y</pre>") == ["x" + "\n" * 100_000 + "y"]


def test_a_formula_longer_than_its_page_finds_room() -> None:
    tree = parse(b"<p>a<i>x</i>b<i>y</i>")
    nodes = [node for node in range(len(tree)) if tree.name(node) == "i"]
    made = cut(tree, dict.fromkeys(nodes, b"z" * 5000))
    assert made.string(0).count("z") == 10_000 and made.string(0).replace("z", "").split() == ["ab"]


def test_nodes_that_are_removed_leave_no_text() -> None:
    tree = parse(b"<div>a<b>c</b></div><p>d<p>e")
    nodes = [node for node in range(len(tree)) if tree.name(node) in ("b", "p") and tree.text(node) in ("c", "d")]
    made = cut(tree, None, nodes)
    assert [made.string(block) for block in range(len(made))] == ["a", "e"]


def test_blocks_begin_where_a_browser_begins_a_line() -> None:
    assert blocks("<h1>a</h1>b<p>c <b>d</b>\n e<p>f<ul><li>g<li>h <i>i</i></ul>j<div>k<div>l</div>m</div>") == [
        "a", "b", "c d e", "f", "g", "h i", "j", "k", "l", "m",
    ]  # fmt: skip


def test_white_space_is_one_space_or_none_at_the_edges() -> None:
    assert blocks("<p> \n a  <b> b</b> &nbsp; c\t</p>\n<p>\u00a0</p> <p>&#32;</p>") == ["a b c"]


def test_one_line_break_stays_in_its_block_and_two_divide_it() -> None:
    assert blocks("<p>a<br>b<br><br>c") == ["a\nb", "c"]


def test_a_listing_keeps_its_lines_and_indentation_but_not_the_first_newline() -> None:
    assert blocks("<pre>\n  if x &lt; 1:\n\n\treturn  <b>y</b></pre>") == ["  if x < 1:\n\n\treturn  y"]


def test_an_xmp_listing_shows_references_as_they_are_written() -> None:
    assert blocks("<xmp><b>&lt;x&gt;</b></xmp>a &lt; b") == ["<b>&lt;x&gt;</b>", "a < b"]


def test_plain_cells_of_a_row_are_one_block() -> None:
    assert blocks("<table><tr><th>a<th>b<tr><td>1<td>2</table>") == ["a | b", "1 | 2"]


def test_the_cells_of_a_row_that_is_not_written_out_are_one_block() -> None:
    assert blocks("<table><td>1<td>2</table>") == ["1 | 2"]


@pytest.mark.parametrize(
    "name",
    ["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "select", "svg", "object", "video"],
)
def test_what_is_no_text_of_the_page_is_left_out(name: str) -> None:
    assert blocks(f"<body><p>a</p><{name}>b</{name}><p>c") == ["a", "c"]


def test_a_template_is_left_out_and_a_declared_shadow_root_is_read() -> None:
    assert blocks(
        "<p>a</p><template><p>b</p></template><div><template shadowrootmode=open><p>c</p></template></div>"
    ) == ["a", "c"]


def test_the_first_blocks_of_a_huge_page_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "MAX_BLOCKS", 10)
    assert blocks("<p>x" * 100) == ["x"] * 10


def test_before_counts_the_blocks_of_an_element() -> None:
    tree = parse(b"<div><p>a<p>b</div><div>c</div>")
    made = cut(tree)
    inside = {
        tree.text(node): (int(made.before[node]), int(made.before[tree.last[node]])) for node in range(1, len(tree))
    }
    assert inside["ab"] == (0, 2) and inside["c"] == (2, 3)


@pytest.mark.parametrize("archive", ["pages-2026.tar.xz", "pages-snippets.tar.xz"])
def test_real_pages_have_lexbors_letters(archive: str) -> None:
    names = [name for name in tags.NAMES[2:] if tags.FLAGS[tags.ID[name]] & tags.BITS["SKIP"]]
    drop = [name for name in names if name != "head"] + ["template"]
    with tarfile.open(shared_data(archive)) as pack:
        members = [member for member in pack if member.isfile() and member.name.endswith(".html")]
        members.sort(key=lambda member: member.name)
        chosen = {member.name for member in random.Random(1).sample(members, 25)}
    with tarfile.open(shared_data(archive)) as pack:
        for member in pack:
            if member.name in chosen:
                data = pack.extractfile(member)
                assert data is not None
                page = data.read().decode("utf-8", "replace")
                body = LexborHTMLParser(page)
                body.strip_tags(drop)
                theirs = visible(body.body.text(deep=True)) if body.body else ""
                tree = parse(page.encode())
                made = cut(tree)
                consistent(made, len(tree))
                mine = visible("".join(made.text[a:b].tobytes().decode() for _, a, b, _ in made.pieces.tolist()))
                assert len(mine) <= len(theirs), member.name
                # Line numbers and buttons beside listings are left out by `cut`.
                assert len(mine) >= 0.98 * len(theirs), (member.name, len(mine), len(theirs))
