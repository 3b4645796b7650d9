"""What a page says of itself: title, description, linked data, however it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.content import facts
from curate.stages.extract.dom import parse

LONG = "The harbour was closed at noon because the wind had turned. " * 10
assert len(LONG) > 500


def of(source: str | bytes) -> facts.Facts:
    return facts.facts(parse(source.encode() if isinstance(source, str) else source))


def linked(data: Any, before: str = "", after: str = "") -> facts.Facts:
    """The facts of a page with linked data."""
    text = data if isinstance(data, str) else json.dumps(data)
    return of(f'<script type="application/ld+json">{before}{text}{after}</script>')


def flags(found: facts.Facts) -> set[str]:
    return {name for name, value in zip(facts.FLAGS, found.flags.tolist(), strict=True) if value}


# --- title and description --------------------------------------------------------------------------------------------


def test_a_page_that_says_nothing_has_empty_facts() -> None:
    found = of("<p>text</p>")
    assert (found.title, found.description, found.linked_text, found.body, flags(found)) == ("", "", "", "", set())


def test_the_title_is_decoded_and_its_white_space_joined() -> None:
    assert of("<title>\n  Salt &amp;\n Pepper </title><title>another").title == "Salt & Pepper"


@pytest.mark.parametrize(
    ("title", "other", "found"),
    [
        ("Short", "A longer title", "A longer title"),
        ("A longer title", "Short", "A longer title"),
        ("", "Only", "Only"),
    ],
)
def test_of_two_titles_the_longer_one_is_taken(title: str, other: str, found: str) -> None:
    head = f"<title>{title}</title>" if title else ""
    assert of(f'{head}<meta property="og:title" content="{other}">').title == found


def test_the_title_of_a_picture_is_not_the_pages() -> None:
    assert of("<svg><title>Icon</title></svg><title>The page</title>").title == "The page"


def test_names_of_meta_elements_are_read_in_any_case() -> None:
    assert of('<META NAME="DESCRIPTION" CONTENT="words">').description == "words"


def test_of_two_descriptions_the_longer_one_is_taken() -> None:
    both = '<meta name="description" content="short"><meta property="og:description" content="rather longer">'
    assert of(both).description == "rather longer"
    assert of('<meta name="Description" content="a &quot;b&quot;">').description == 'a "b"'


@pytest.mark.parametrize(
    ("kind", "flag"),
    [("article", {"og_article"}), ("Article", {"og_article"}), ("product", {"og_product"}), ("og:product", {"og_product"}),
     ("product.item", {"og_product"}), ("website", set())],
)  # fmt: skip
def test_open_graph_says_what_kind_of_page_it_is(kind: str, flag: set[str]) -> None:
    assert flags(of(f'<meta property="og:type" content="{kind}">')) == flag


# --- linked data ------------------------------------------------------------------------------------------------------

ARTICLE = {"@context": "https://schema.org", "@type": "NewsArticle", "articleBody": LONG, "headline": "Wind"}


@pytest.mark.parametrize(
    "data",
    [
        ARTICLE,
        [ARTICLE],
        [[ARTICLE]],
        {"@context": "https://schema.org", "@graph": [{"@type": "WebSite"}, ARTICLE]},
        {"@type": "WebPage", "mainEntity": {"@type": "WebPageElement", "hasPart": [ARTICLE]}},
        ARTICLE | {"@type": ["Thing", "newsarticle"]},
    ],
    ids=["alone", "array", "array of arrays", "graph", "inside others", "several types"],
)
def test_an_article_is_found_wherever_it_stands(data: Any) -> None:
    found = linked(data)
    assert flags(found) == {"is_article", "has_body"}
    assert found.body == LONG
    assert LONG in found.linked_text


@pytest.mark.parametrize(("before", "after"), [("<!--", "-->"), ("\n<!--\n", "\n-->\n"), ("\n\t", "  ")])
def test_a_comment_around_linked_data_is_no_part_of_it(before: str, after: str) -> None:
    assert linked(ARTICLE, before, after).body == LONG


def test_line_breaks_inside_strings_are_taken_though_the_standard_forbids_them() -> None:
    assert linked(f'{{"@type": "Article", "articleBody": "one\n{LONG}"}}').body == f"one\n{LONG}"


@pytest.mark.parametrize(
    ("kind", "flag"),
    [("Product", "is_product"), ("QAPage", "is_discussion"), ("Recipe", "is_recipe"), ("ItemList", "is_list"),
     ("LocalBusiness", "is_service"), ("BlogPosting", "is_article")],
)  # fmt: skip
def test_the_kind_of_linked_data_is_a_flag(kind: str, flag: str) -> None:
    assert flags(linked({"@type": kind})) == {flag}


def test_strings_in_lists_are_texts_too() -> None:
    found = linked(
        {"@type": "Recipe", "recipeIngredient": ["two eggs", "flour"], "recipeInstructions": [{"text": "Mix them."}]}
    )
    assert set(found.linked_text.split("\n")) == {"two eggs", "flour", "Mix them."}


def test_only_an_article_has_a_body() -> None:
    """A product's description or a comment is no main text to put in the place of the page's own."""
    assert linked({"@type": "Product", "description": LONG}).body == ""
    assert linked({"@type": "Comment", "text": LONG}).body == ""
    assert linked({"articleBody": LONG, "description": LONG * 2}).body == LONG


def test_a_short_text_is_no_body() -> None:
    found = linked({"@type": "Article", "articleBody": "Too short for a body."})
    assert (found.body, found.linked_text) == ("", "Too short for a body.")


def test_texts_of_several_scripts_are_joined() -> None:
    script = '<script type="application/ld+json">{}</script>'
    source = script.format('{"description": "first"}') + script.format("{broken") + script.format('{"name": "second"}')
    assert of(source).linked_text == "first\nsecond"


@pytest.mark.parametrize(
    "data",
    [
        "", "{", "[" * 10_000, "[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "null", "3", '"text"', "NaN",
        "1" * 10_000, '{"@type": 3, "articleBody": [1, null]}', '{"@type": {"a": "b"}}', '{"name": "\\ud800"}', "\x00\x00{}",
        "// <![CDATA[\n{}\n// ]]>",
    ],
    ids=lambda data: data[:12],
)  # fmt: skip
def test_broken_or_deep_linked_data_is_passed_over(data: str) -> None:
    found = linked(data)
    assert found.body == ""
    assert well_formed(found)


def well_formed(found: facts.Facts) -> bool:
    return found.flags.shape == (len(facts.FLAGS),) and set(found.flags.tolist()) <= {0.0, 1.0}


def test_huge_linked_data_is_not_read() -> None:
    huge = json.dumps([{"@type": "Article", "articleBody": LONG}] * 1000)
    assert len(huge) > facts.MAX_LINKED
    assert flags(linked(huge)) == set()


def test_what_stands_before_huge_linked_data_is_read() -> None:
    script = '<script type="application/ld+json">{}</script>'
    source = script.format(json.dumps(ARTICLE)) + script.format('{"name": "' + "x" * facts.MAX_LINKED + '"}')
    assert of(source).body == LONG


def test_data_with_very_many_parts_is_read_in_bounded_time() -> None:
    found = linked([{"@type": "Article", "name": f"name {at}"} for at in range(9000)])
    assert 0 < len(found.linked_text.split("\n")) <= 5000


def test_other_scripts_are_no_linked_data() -> None:
    assert of(f"<script>{json.dumps(ARTICLE)}</script>").linked_text == ""
    assert of('<script type="application/ld+json"></script>').linked_text == ""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["@type", "@graph", "name", "text", "articleBody", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, st.binary(max_size=20))
def test_any_data_gives_facts(data: Any, noise: bytes) -> None:
    script = b'<script type="application/ld+json">' + json.dumps(data).encode("utf-8", "surrogatepass") + b"</script>"
    found = of(script + noise.decode("utf-8", "replace").encode() + script)
    assert well_formed(found)
    assert isinstance(found.linked_text, str)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<title>", "</title>", "<meta name=description content='", "'>", '<meta property="og:title"',
       " content=x>", "<script type=application/ld+json>", "</script>", '{"name":', '"a"}', "<!--", "-->", "&amp;",
       "\x00", "é"]),
       max_size=20))  # fmt: skip
def test_any_head_gives_facts(parts: list[str]) -> None:
    assert well_formed(of("".join(parts)))
