"""The function that users import, and several engines behind one another."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from archive import good, http, warc
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.pipeline.errors import UsageError
from curate.stages.extract import charset, engines, extract
from curate.stages.extract.config import ENGINES, ExtractConfig
from curate.stages.extract.engines import Found

PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>A title</title></head><body><nav><a href="/">Home</a>'
    "</nav><article><h1>A title</h1>" + "<p>A sentence of this page that says <b>something</b> of its own, at length.</p>" * 9
    + "<pre><code>if x &lt; 1:\n    y = [x]\n</code></pre><table><tr><td>cell</td><td>\\(a^2\\)</td></tr></table>"
    "<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math></article><script>var a = '</b>';</script></body></html>"
)  # fmt: skip


def there(engine: str) -> str:
    """The engine's name; the test is skipped where it is not built in yet."""
    try:
        engines.engine_of(engine)
    except UsageError:
        pytest.skip(f"no engine {engine}")
    return engine


def mutated(page: bytes) -> st.SearchStrategy[bytes]:
    """The page with a stretch of it cut out, repeated, or replaced, or cut off."""
    place = st.integers(0, len(page))
    pieces = st.sampled_from([b"", b"<", b">", b"</", b"<!--", b"&#x", b"\0", b"\xff\xfe", b"\x1b$B", b"<table>", b"<svg><p>",
                              b"<![CDATA[", b"'", b'"', b"&#0;&#8;&#x85;&#xD800;&#xFFFFFF;", b"<textarea>", b"\r"])  # fmt: skip
    insert = pieces | st.binary(max_size=20)
    return st.builds(
        lambda a, b, put, times, cut: (page[: min(a, b)] + put * times + page[max(a, b) :])[:cut],
        place, place, insert, st.integers(1, 40), st.integers(0, 2 * len(page)),
    )  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("output", ["text", "markdown"])
@given(data=st.binary(max_size=400) | mutated(PAGE.encode()) | mutated(PAGE.encode("utf-16")))
@settings(deadline=None, max_examples=60)
def test_any_bytes_give_valid_text_without_control_characters(engine: str, output: Any, data: bytes) -> None:
    if engine == "resiliparse" and output == "markdown":
        return
    found = extract(data, engine=there(engine), output=output)
    for text in (found.text, found.title or ""):
        text.encode("utf-8")
        assert not {char for char in text if unicodedata.category(char) == "Cc"} - {"\n", "\t"}
    assert found.text == found.text.rstrip() and not found.text.startswith("\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_page_gives_its_text_title_and_language(engine: str) -> None:
    found = extract(PAGE, url="https://example.org/a", engine=there(engine))
    assert "something of its own" in found.text and "Home" not in found.text and "var a" not in found.text
    assert (found.title, found.language, found.engine) == ("A title", "en", engine)
    assert (found.confidence is not None) == (engine == "curate")
    assert found == extract(PAGE.encode("utf-16"), url="https://example.org/a", engine=engine)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "resiliparse"])
def test_markdown_is_written_by_the_engines_that_can(engine: str) -> None:
    text = extract(PAGE, engine=there(engine), output="markdown").text
    assert "**something**" in text and "```" in text


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("page", [b"<div>" * 100_000 + b"deep", b"<b>x</b>" * 300_000])
def test_a_page_that_parsers_choke_on_is_answered_at_once(engine: str, page: bytes) -> None:
    found = extract(page, engine=there(engine))
    assert found.text == "" or engine == "curate"


def test_a_page_beyond_the_limit_is_cut_in_the_public_function_too() -> None:
    page = "<p>" + "word " * 2_000_000
    for html in (page, page.encode()):
        text = extract(html, engine="resiliparse").text
        assert text.count("word") == (8 << 20) // 5


def test_what_cannot_be_is_refused_with_the_reason() -> None:
    for arguments, said in (
        (
            {"engine": "resiliparse", "output": "markdown"},
            "engine resiliparse cannot write markdown: curate, trafilatura",
        ),
        ({"engine": "reziliparse"}, "did you mean 'resiliparse'"),
        ({"engine": "no_such_module:f"}, "cannot load no_such_module:f"),
    ):
        with pytest.raises(UsageError, match=said):
            extract(PAGE, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"engine": "trafilatura", "cascade": 0.5}, "cascade asks trafilatura where curate is unsure"),
        ({"engine": "union", "cascade": 0.5}, "cascade"),
        ({"engine": "curate", "cascade": 1.5}, "less than or equal to 1"),
        ({"engine": "curate", "union": {"least_words": 3}}, "but engine is curate"),
        ({"engine": "union", "output": "markdown"}, "resiliparse cannot write markdown"),
        ({"engine": "a:b", "output": "markdown"}, "a:b cannot write markdown"),
        ({"links": True}, "set output to markdown"),
        (
            {"engine": "trafilatura", "output": "markdown", "links": True},
            "links are written into the Markdown of engine curate",
        ),
        ({"engine": "union", "union": {"engines": ["curate"]}}, "at least 2"),
        ({"engine": "union", "union": {"engines": ["curate", "curate"]}}, "named twice"),
        ({"engine": "union", "union": {"engines": ["curate", "union"]}}, "no engine named 'union'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExtractConfig(**wrong)


def test_engines_that_can_write_markdown_may_be_united_for_it() -> None:
    config = ExtractConfig(engine="union", output="markdown", union={"engines": ["curate", "trafilatura"]})  # type: ignore[arg-type]
    assert config.engines == ("curate", "trafilatura")


def fake(name: str, text: str | Exception, confidence: float | None = None) -> Any:
    def engine(source: Any, url: Any, settings: Any) -> Found:
        if isinstance(text, Exception):
            raise text
        return Found(text, False, name, None, confidence)

    return engine


def asked(monkeypatch: pytest.MonkeyPatch, fakes: dict[str, Any], **config: Any) -> Found:
    monkeypatch.setattr(engines, "engine_of", fakes.__getitem__)
    return engines.find(charset.read(b""), None, ExtractConfig(**config).settings())


@pytest.mark.parametrize(
    ("confidence", "second", "expected"),
    [
        (0.4, "theirs", ("theirs", "trafilatura", 0.4)),
        (0.5, "theirs", ("ours", "curate", 0.5)),
        (0.4, "", ("ours", "curate", 0.4)),
        (0.4, ValueError("a page"), ("ours", "curate", 0.4)),
    ],
)
def test_the_cascade_asks_trafilatura_below_its_threshold(
    monkeypatch: pytest.MonkeyPatch, confidence: float, second: Any, expected: tuple[str, str, float]
) -> None:
    fakes = {"curate": fake("curate", "ours", confidence), "trafilatura": fake("trafilatura", second)}
    found = asked(monkeypatch, fakes, engine="curate", cascade=0.5)
    assert (found.text, found.engine, found.confidence) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["one two three", "a b c d", "x"], "curate"),
        (["one two", "a b c d", "x y z"], "trafilatura"),
        ([ValueError(), "a b", "x y z"], "resiliparse"),
        (["", "a b", "x"], "trafilatura"),
        (["one", "a b", "x"], "curate"),
        (["", ValueError(), "x"], "resiliparse"),
    ],
)
def test_the_union_takes_the_first_text_of_enough_words_else_the_first_at_all(
    monkeypatch: pytest.MonkeyPatch, texts: list[Any], expected: str
) -> None:
    fakes = {name: fake(name, text) for name, text in zip(ENGINES, texts, strict=True)}
    # Several engines on every page
    assert asked(monkeypatch, fakes, engine="union", union={"least_words": 3}).engine == expected


def test_the_union_says_what_went_wrong_where_no_engine_has_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = {"curate": fake("curate", ""), "trafilatura": fake("t", KeyError("k")), "resiliparse": fake("r", "")}
    with pytest.raises(KeyError):
        asked(monkeypatch, fakes, engine="union")


def test_every_document_names_the_engine_whose_text_it_is(shelf: Any) -> None:
    union = {"engines": ["hostile_engines:only_long", "resiliparse"], "least_words": 3}
    long = warc("b", http(b"<p>" + b"long page " * 50))
    result = shelf.extract(good("a") + long, engine="union", union=union)
    assert [(row["id"], row["engine"]) for row in result.documents] == [
        ("a", "resiliparse"),
        ("b", "hostile_engines:only_long"),
    ]
    assert [row["confidence"] for row in result.documents] == [None, None]


@pytest.mark.parametrize(
    ("text", "tidied"),
    [
        ("a\0b\x08c", "a\ufffdbc"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\x0cb\x85c\x1fd\x9be", "a b c de"),
        (" \n\t\n    indented\n  ", "    indented"),
        ("\ud83d\ude00 \ud800", "\U0001f600 \ufffd"),
        ("\xa0caf\xe9\tx", "\xa0caf\xe9\tx"),
        (" \n ", ""),
    ],
)
def test_text_is_tidied_without_losing_indentation(text: str, tidied: str) -> None:
    assert charset.tidy(text) == tidied


def test_markdown_holds_the_targets_of_links_where_that_is_asked_for() -> None:
    words = "The harbour was rebuilt after the storm, as the council had promised in the spring of that year. "
    page = f'<article><h1>Harbour</h1><p>{words * 3}<a href="https://example.org/plan">The plan</a> is public.</p></article>'
    assert "[The plan](https://example.org/plan)" in extract(page, output="markdown", links=True).text
    assert "example.org" not in extract(page, output="markdown").text
    assert "The plan is public." in extract(page, output="markdown").text
