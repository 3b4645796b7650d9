"""Numbers of blocks against their definitions in plain Python, and the linear model's rows against its sums."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.content import describe, features, stopwords
from curate.stages.extract.content.segment import cut
from curate.stages.extract.dom import parse, tags

# Of each range that `scan_words` tells apart: ASCII, Latin, Greek, Arabic, Thai, kana, Han, Hangul, punctuation, emoji.
LETTERS = "aZq09éßΩжשعกあ漢字한글"
SIGNS = " \n.,;:!?-_'\"()[]{}|$=<>/\\«»“”…–。、！？"
TEXTS = st.text(alphabet=LETTERS + SIGNS + "Ⅳ→😀", max_size=60)


def described(source: str) -> features.Described:
    tree = parse(source.encode("utf-8", "replace"))
    return features.describe_page(tree, cut(tree))


def counts(source: str) -> dict[str, float]:
    """The counts of a page's only block."""
    page = described(source)
    assert len(page.blocks) == 1
    return dict(zip(describe.COUNTS, page.counts[0].tolist(), strict=True))


def scanned(text: str) -> list[int]:
    data = np.frombuffer(text.encode(), np.uint8)
    found = np.zeros(len(data) + 1, np.uint64)
    return [int(value) for value in found[: describe.scan_words(data, 0, len(data), found, 0)]]


# --- words ------------------------------------------------------------------------------------------------------------

# Letters and digits of ASCII, and characters beyond it but punctuation and symbols; each Han, kana or Hangul alone.
_WIDE = "\u3040-\ud7ff"
_MARKS = "\u0080-\u00bf\u2000-\u203f\u2140-\u2bff\u3000-\u303f\uf000-\uffff"
_UNSPACED = "\u0e00-\u0fff\u1000-\u107f\u1780-\u17ff"
_WORD = re.compile(rf"[{_WIDE}]|[{_UNSPACED}]{{1,4}}|(?:[A-Za-z0-9]|(?![{_WIDE}{_MARKS}{_UNSPACED}])[^\x00-\x7f])+")


@settings(deadline=None)
@given(TEXTS)
def test_words_are_runs_of_letters_and_digits_and_single_wide_characters(text: str) -> None:
    assert scanned(text) == [describe.hash_word(word) for word in _WORD.findall(text)]


def test_words_of_a_sentence_in_two_scripts() -> None:
    assert scanned("Don't PANIC: 42 naïve—people, 東京") == [
        describe.hash_word(word) for word in ("don", "t", "panic", "42", "naïve", "people", "東", "京")
    ]


def test_words_stop_where_there_is_no_room() -> None:
    data = np.frombuffer("one 二 three 四 five six".encode(), np.uint8)
    for room in range(7):
        found = np.zeros(room, np.uint64)
        assert describe.scan_words(data, 0, len(data), found, 0) == min(room, 6)


def test_upper_case_and_lower_case_are_one_word_in_ascii_only() -> None:
    assert scanned("WORD word") == [describe.hash_word("word")] * 2
    assert len(set(scanned("É é"))) == 2


# --- counts -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(
        st.text(alphabet=LETTERS + ".,;!?$€£|{}=_“…—，、。！？؟،।", min_size=1, max_size=12), min_size=1, max_size=12
    )
)
def test_counts_of_plain_text_are_those_of_python(words: list[str]) -> None:
    text = " ".join(words)
    escaped = text.replace("<", "&lt;")
    page = described(f"<p>{escaped}</p>")
    if not len(page.blocks):
        assert not text.strip()
        return
    found = dict(zip(describe.COUNTS, page.counts[0].tolist(), strict=True))
    assert found["chars"] == len(text)
    assert found["words"] == len(_WORD.findall(text))
    assert found["digits"] == len(re.findall(r"[0-9]", text))
    assert found["commas"] == len(re.findall(r"[,;，；、،]", text))
    assert found["sentences"] == len(re.findall(r"[.!?](?=[\s\"]|$)|[。！？؟।]", text))
    assert found["prices"] == len(re.findall(r"[$€£¥]", text))
    assert found["code_marks"] == len(re.findall(r"[{}=<>_\\]", text))
    assert found["newlines"] == found["link_words"] == found["anchors"] == found["bold_words"] == 0
    plain = [word for word in _WORD.findall(text) if word.isascii()]
    assert found["stopwords"] >= sum(word.lower() in stopwords.WORDS for word in plain)


def test_counts_of_a_sentence() -> None:
    found = counts('<p>In 1984, Winston bought the diary; it cost $2.50. "Why?" he asked | nobody …')
    assert found["words"] == 14
    assert found["stopwords"] == len("in the it he".split())
    assert (found["commas"], found["sentences"], found["terminal"]) == (2, 2, 0)
    assert (found["years"], found["prices"], found["upper_start"]) == (1, 1, 1)
    assert found["capitals"] == len("In Winston Why".split())
    assert found["longest_word"] == len("Winston")
    assert found["symbols"] == 1  # the bar


def test_typographic_marks_are_no_letters_of_words() -> None:
    found = counts("<p>“Why not?” — he said…then «went» ‘home’ •")
    assert found["capitals"] == 1
    assert found["longest_word"] == 4
    assert found["symbols"] == 3  # guillemets and the bullet
    assert (found["sentences"], found["terminal"]) == (0, 0)  # the question mark stands before a quote of another kind


@pytest.mark.parametrize(
    ("text", "terminal"),
    [
        ("End.", 1),
        ("End!)", 1),
        ('End?"', 1),
        ("List:", 0.5),
        ("終わり。", 1),
        ("終わり！", 1),
        ("“End.”", 1),
        ("نهاية؟", 1),
        ("Menu", 0),
        ("あ", 0),
        (")", 0),
    ],
)
def test_a_line_that_ends_as_sentences_do_is_terminal(text: str, terminal: float) -> None:
    assert counts(f"<p>{text}")["terminal"] == terminal


@pytest.mark.parametrize(
    ("text", "years"),
    [("1999 and 2026", 2), ("12026, 202, 1850 or 20261", 0), ("(2020) to 2021.", 2), ("1066 and 2900", 0)],
)
def test_years_are_numbers_of_four_digits(text: str, years: int) -> None:
    assert counts(f"<p>{text} x")["years"] == years
    assert counts(f"<p>{text}")["years"] == years


def test_half_the_characters_in_a_link_are_half_the_words() -> None:
    found = counts("<p><a href=/x>aaaa bbbb </a><b>cccc dddd</b>")
    assert found["words"] == 4
    assert found["link_words"] == pytest.approx(4 * 9 / 19, abs=4 / 19)  # the space between belongs to neither for sure
    assert found["bold_words"] == pytest.approx(9 / 19, abs=1 / 19)
    assert found["anchors"] == 1


def test_a_block_all_in_links_has_as_many_link_words_as_words() -> None:
    found = counts("<p><a href=/1>one two</a><a href=/2>three</a><a href=/3>four five</a>")
    assert found["link_words"] == pytest.approx(found["words"], rel=0.2)
    assert found["link_words"] <= found["words"]
    assert found["anchors"] == 3


def test_line_breaks_count_in_a_listing() -> None:
    assert counts("<pre>\nif (a) {\n  b = c;\n}\n</pre>")["newlines"] == 2
    assert counts("<p>one<br>two")["newlines"] == 1


def test_the_words_of_a_block_are_those_between_its_two_ends() -> None:
    page = described("<p>One two</p><p>–</p><p>three</p>")
    assert page.word_at.tolist() == [0, 2, 2, 3]
    assert page.words.tolist() == [describe.hash_word(word) for word in ("one", "two", "three")]


# --- elements ---------------------------------------------------------------------------------------------------------


def contexts(source: str) -> set[str]:
    """What the page's only block stands in."""
    page = described(source)
    (block,) = page.blocks.blocks
    inner = page.tree.parent[page.blocks.pieces[block[3], 0]]
    bits = int(page.context[block[0]] | page.context[inner])
    return {name for place, name in enumerate(describe.CONTEXTS) if bits >> place & 1}


@pytest.mark.parametrize(
    "name", "article main nav header footer aside form figure section details dialog blockquote address".split()
)
def test_what_stands_in_an_element_knows_it(name: str) -> None:
    assert contexts(f"<{name}><div><p>text</p></div></{name}>") == {name}
    assert contexts(f"<{name}></{name}><div><p>text</p></div>") == set()


@pytest.mark.parametrize(
    ("role", "context"),
    [
        ("main", "main"), ("navigation", "nav"), ("banner", "header"), ("contentinfo", "footer"), ("complementary", "aside"),
        ("article", "article"), ("alertdialog", "dialog"), ("search", "form"), ("BUTTON", "button"), ("tablist", "nav"),
        ("main extra", "main"),
    ],
)  # fmt: skip
def test_a_role_says_the_same_as_the_element(role: str, context: str) -> None:
    assert contexts(f'<div role="{role}"><p>text</p></div>') == {context}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<ul><li>text</ul>", {"list"}), ("<dl><dt>text</dl>", {"list"}), ("<table><tr><td>text</table>", {"table"}),
        ("<pre>text</pre>", {"pre"}), ("<div hidden><p>text</div>", {"hidden"}),
        ('<div style="color: red; display:none"><p>text</div>', {"hidden"}),
        ('<div aria-hidden="true"><p>text</div>', {"aria_hidden"}), ("<p><a href=/x>text</a>", {"link"}),
        ("<p><a name=x>text</a>", set()), ("<div role=presentation><p>text</div>", set()),
    ],
)  # fmt: skip
def test_lists_tables_listings_links_and_hidden_elements_are_known(source: str, found: set[str]) -> None:
    assert contexts(source) == found


def test_depth_section_and_places_are_those_of_the_tree() -> None:
    source = b"<main id=m><div>a<b>x</b><p>b</div><section>c<nav><p>d</p></nav><p>e</p></section></main>"
    tree = parse(source)
    page = features.describe_page(tree, cut(tree))
    sections = set("article main nav header footer aside section dialog".split())
    for node in range(1, len(tree)):
        if tree.tag[node] == tags.TEXT:
            continue
        path = [node]
        while path[-1] > 0:
            path.append(int(tree.parent[path[-1]]))
        assert page.depth[node] == len(path) - 1
        assert page.section[node] == next((each for each in path if tree.name(each) in sections), 0)
        elements = [child for child in tree.children(int(tree.parent[node])) if tree.tag[child] != tags.TEXT]
        assert page.order[node] == elements.index(node)
        assert page.children[tree.parent[node]] == len(elements)


def test_classes_that_differ_in_digits_look_alike() -> None:
    page = described('<div class="row-1"><p>a</div><div class="row-22"><p>b</div><div class="col-1"><p>c</div>')
    assert page.look[0].tolist() == [0, 0, 0]
    assert page.look[1].tolist() == [0, 0, 1]


# --- the linear model -------------------------------------------------------------------------------------------------

SOUP = st.lists(
    st.sampled_from([
        "<div class='card card-title mainContent'>", "</div>", "<p>", "<p id=p-12>", "<h2>Head line here</h2>", "<ul><li>",
        "</ul>", "<b>Bold words</b>", "<a href=/x class=navLink>Go there</a>", "some plain words, and more of them ",
        "<table><tr><td>cell<td>cell</table>", "<article role=main itemprop=articleBody>", "</article>", "漢字かな", "–",
        "<br>",
        "<nav class=''>", "</nav>", "<span class='a b c d e f g h i j k l m n o p q r s t'>", "</span>", "<pre>x = 1\ny</pre>",
    ]),
    max_size=40,
).map("".join)  # fmt: skip


@settings(deadline=None)
@given(SOUP, st.integers(0, 1000))
def test_scores_are_the_sums_of_the_weights_of_the_rows(source: str, seed: int) -> None:
    page = described(source)
    weights = np.random.default_rng(seed).normal(size=describe.SLOTS).astype(np.float32)
    ends, rows = page.linear_rows()
    expected = [float(weights[rows[first:stop]].astype(np.float64).sum()) for first, stop in pairwise(ends)]
    tree, blocks = page.tree, page.blocks
    found = describe.linear_scores(
        tree.data, tree.tag, tree.parent, tree.spans, blocks.pieces, blocks.blocks, page.words, page.word_at, page.heading,
        weights,
    )  # fmt: skip
    assert found.shape == (len(blocks), len(describe.BUCKETS))
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-3)


def buckets(source: str, block: int = 0) -> dict[str, Counter[int]]:
    """The slots of one block by part."""
    ends, rows = described(source).linear_rows()
    first = block * len(describe.BUCKETS)
    spans = zip(ends[first:], ends[first + 1 :], strict=False)
    return {name: Counter(rows[a:b].tolist()) for name, (a, b) in zip(describe.BUCKETS, spans, strict=False)}


def test_a_class_of_several_words_counts_whole_and_in_its_parts() -> None:
    whole, first, second = (
        buckets(f'<div class="{name}"><p>x')["parent"] for name in ("main-content", "main", "content")
    )
    assert (whole & first).total() == (whole & second).total() == 2  # the name of the element, and the part
    assert whole.total() == 4
    assert buckets('<div class="mainContent"><p>x')["parent"] & first == whole & first
    assert buckets('<div class="MAIN-content7"><p>x')["parent"] == whole


def test_class_and_id_are_told_apart_whole_but_not_in_parts() -> None:
    by_class, by_id = (buckets(f'<div {name}="main-content"><p>x')["parent"] for name in ("class", "id"))
    assert (by_class & by_id).total() == 3


def test_the_path_is_read_by_level() -> None:
    source = "<html><body><article><section><div><p>x"
    levels = [buckets(source)[name].total() for name in ("own", "parent", "grandparent", "above")]
    assert levels == [1, 1, 1, 3]  # body and html stand above the article
    assert buckets("<div><div><p>x")["parent"] != buckets("<div><div><p>x")["grandparent"]


def test_the_first_words_and_the_last_are_read() -> None:
    words = [f"w{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(60)]
    long = buckets("<p>" + " ".join(words))["words"]
    assert long == buckets("<p>" + " ".join(words[:24] + words[-6:]))["words"]
    assert long.total() == 30


def test_the_heading_before_is_read_by_its_words() -> None:
    source = "<h2>Related articles</h2><p>One</p><p>Two</p>"
    assert buckets(source)["heading"].total() == 0
    assert buckets(source, 1)["heading"] == buckets(source, 2)["heading"]
    assert buckets(source, 1)["heading"].total() == 2


# --- headings, groups, coverage ---------------------------------------------------------------------------------------


def test_the_heading_before_a_block_is_a_heading_or_a_short_bold_line() -> None:
    page = described(
        "<p>a</p><h3>b</h3><p>c</p><p><b>Bold line</b></p><p>d</p><p><b>A long line all in bold is prose that shouts "
        "at us</b></p><p>e"
    )
    assert page.heading.tolist() == [-1, -1, 1, 1, 3, 3, 3]


@settings(deadline=None)
@given(st.lists(st.integers(0, 12) | st.sampled_from([2**64 - 1, 2**63, 2**32, 1 << 33]), max_size=60))
def test_groups_are_numbered_as_they_appear(values: list[int]) -> None:
    number, firsts = describe.group(np.array(values, np.uint64))
    seen = list(dict.fromkeys(values))
    assert number.tolist() == [seen.index(value) for value in values]
    assert firsts.tolist() == [values.index(value) for value in seen]


WORDS = st.lists(st.integers(1, 6), max_size=12)


@settings(deadline=None)
@given(st.lists(WORDS, max_size=5), WORDS, st.integers(1, 3))
def test_coverage_is_the_share_of_a_blocks_ngrams_in_another_text(
    blocks: list[list[int]], other: list[int], size: int
) -> None:
    word_at = np.concatenate([[0], np.cumsum([len(block) for block in blocks], dtype=np.int64)]).astype(np.int64)
    flat = np.array([word for block in blocks for word in block], np.uint64)
    found = describe.coverage(flat, word_at, np.array(other, np.uint64), size)

    def ngrams(words: list[int], width: int) -> list[tuple[int, ...]]:
        return [tuple(words[at : at + width]) for at in range(len(words) - width + 1)]

    expected = []
    for block in blocks:
        width = min(size, len(block))
        known = set(ngrams(other, width)) if len(other) >= size else set()
        expected.append(np.mean([gram in known for gram in ngrams(block, width)]) if block else 0.0)
    # The table of n-grams is of hashes: two may share a place, so that more seems covered, seldom (below), never less.
    assert found.shape == (len(expected),)
    assert all(share - 1e-6 <= value <= 1 for value, share in zip(found.tolist(), expected, strict=True))


@pytest.mark.parametrize("length", [10, 100, 2_000, 60_000])
def test_coverage_of_a_text_of_other_words_is_next_to_none(length: int) -> None:
    """Of as many words as an article in a page's linked data may have."""
    draw = np.random.default_rng(1)
    words, other = (draw.integers(1, 2**63, size, np.uint64) for size in (2000, length))
    assert describe.coverage(words, np.array([0, 2000]), other, 3)[0] < 0.15
    assert describe.coverage(other, np.array([0, length]), other, 3)[0] == 1


@pytest.mark.parametrize("text", ["ภาษาไทย", "ພາສາລາວ", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "abcภาษาdef ไทย"])
def test_scripts_without_spaces_have_a_word_every_four_characters(text: str) -> None:
    assert scanned(text) == [describe.hash_word(word) for word in _WORD.findall(text)]
    assert len(scanned(text)) >= len(text) / 4
