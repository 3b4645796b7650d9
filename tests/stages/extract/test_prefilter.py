"""OpenWebMath's prefilter: pages without mathematics go, most of them before they are parsed."""

from __future__ import annotations

from typing import Any

import pytest
from archive import http, warc
from hypothesis import given
from hypothesis import strategies as st

from curate.stages.extract import page

WORDS = "Plain words about gardens and ships. "
MARKS = ("MathJax", "mathjax", "<math", "math-container", "katex.min.css", "latex.php", "codecogs", "tex.cgi")


def html(head: str = "", body: str = WORDS) -> bytes:
    return f"<html><head><title>T</title>{head}</head><body><article><p>{body}</p></article></body></html>".encode()


PAGES = {
    "mark": html("<script src='https://cdn.example.org/MathJax.js'></script>"),
    "command": html("", f"{WORDS} so \\frac{{a}}{{b}} holds"),
    "long": html("<script>x = '\\nabla of something'</script>", WORDS * 20),
    "short": html("<script>x = '\\nabla of something'</script>"),
    "plain": html("", WORDS * 20),
    "path": html("", "The folder C:\\Users\\me is empty. "),
}


def archive() -> bytes:
    return b"".join(warc(name, http(body)) for name, body in PAGES.items())


def test_pages_without_mathematics_are_dropped_and_accounted_for(shelf: Any) -> None:
    found = shelf.extract(archive(), prefilter="openwebmath")
    assert found.kept == ["mark", "command", "long"]
    assert found.lost == [("no_math", "short"), ("no_math", "plain"), ("no_math", "path")]
    assert [row["detail"] for row in found.ledger] == [
        "no LaTeX in a short text", "no mark of formulas and no TeX command in the source", "no LaTeX in a short text",
    ]  # fmt: skip


def test_without_the_prefilter_every_page_goes_on(shelf: Any) -> None:
    assert len(shelf.extract(archive()).kept) == len(PAGES)


@pytest.mark.parametrize(("charset", "said"), [("utf-16", ""), ("utf-16-le", "utf-16le"), ("utf-32", "utf-32")])
def test_a_page_in_wide_characters_is_judged_by_what_it_says(shelf: Any, charset: str, said: str) -> None:
    data = PAGES["command"].decode().encode(charset)
    found = shelf.extract(
        warc("a", http(data, Content_Type=f"text/html; charset={said}" if said else "text/html")),
        prefilter="openwebmath",
    )
    assert not [row for row in found.ledger if row["reason"] == "no_math"]


@given(
    st.lists(
        st.sampled_from([*MARKS, 'class="tex"', "class='tex'", "\\fr", "\\sum", "\\", "a", "Math", " ", "é"]),
        max_size=8,
    )
)
def test_no_page_that_the_published_filter_lets_pass_is_dropped_unparsed(parts: list[str]) -> None:
    source = "".join(parts).encode()
    text = "then \\sum holds"
    if page.math_prefilter(source, text):
        assert page.may_hold_math(source)
