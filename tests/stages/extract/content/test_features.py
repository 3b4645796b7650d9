"""The features of blocks: the right number in the right column, by plain Python over the tree."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract.content import describe, features
from curate.stages.extract.content.segment import cut
from curate.stages.extract.dom import parse, tags

NO_WEIGHTS = np.zeros(describe.SLOTS, np.float32)
SENTENCE = "The harbour was closed at noon, because the wind had turned and no pilot would go out to the ships. "


class Page:
    """A page's features by name, and its tree."""

    def __init__(self, source: str, weights: np.ndarray = NO_WEIGHTS) -> None:
        self.tree = parse(source.encode("utf-8", "replace"))
        self.blocks = cut(self.tree)
        self.described = features.describe_page(self.tree, self.blocks)
        self.matrix = self.described.matrix(weights)
        self.words = [len(self._words(block)) for block in range(len(self.blocks))]

    def _words(self, block: int) -> np.ndarray:
        return self.described.words[self.described.word_at[block] : self.described.word_at[block + 1]]

    def column(self, name: str) -> list[float]:
        return [float(value) for value in self.matrix[:, features.NAMES.index(name)]]

    def block(self, start: str) -> int:
        """The number of the block whose text starts so."""
        (found,) = (at for at in range(len(self.blocks)) if self.blocks.string(at).startswith(start))
        return found

    def __getitem__(self, key: tuple[str, str]) -> float:
        """A feature by the start of a block's text and the feature's name."""
        return self.column(key[1])[self.block(key[0])]

    def home(self, block: int) -> int:
        return int(self.blocks.blocks[block, 0])

    def up(self, node: int) -> int:
        """The next block-level element above one."""
        return int(self.blocks.home[self.tree.parent[node]]) if node > 0 else 0

    def within(self, node: int) -> list[int]:
        """The blocks in an element."""
        return [block for block in range(len(self.blocks)) if node <= self.home(block) < self.tree.last[node]]


ARTICLE = (
    "<html><head><title>A closed harbour</title><body><nav><ul><li><a href=/>Home page</a><li><a href=/n>News</a></ul></nav>"
    f"<main><h1>A closed harbour</h1><p>{SENTENCE * 2}</p><p>{SENTENCE}<a href=/more>Read more</a></p><h2>Why</h2>"
    f"<p>{SENTENCE * 3}</p></main><footer><p>Copyright 2026</p><p>Home page</p></footer>"
)
PARTS = [
    "<div class=card>", "</div>", "<p>", "</p>", "<h1>Head</h1>", "<ul><li>", "<li>", "</ul>", "<table><tr><td>a<td>b</table>",
    "<a href=/x>link</a>", SENTENCE, SENTENCE * 3, "word ", "漢字。", "– ", "<article>", "</article>",
    "<title>word head</title>",
    "<pre>x\ny</pre>", "<br>", "<span>", "</span>", "<section>", "</section>", "<svg><p>", "<template>t", "<select><option>o",
    "<math><mi>x", '<script type="application/ld+json">{"@type":"Article","articleBody":"word word"}</script>', "<tr>",
    "</table>",
    "<main>", "</body>", "<frameset>", "&nbsp;", "<td>", "<b>bold</b>", "<form><label>l</label><button>b</button></form>",
]  # fmt: skip


# --- any page ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join), st.integers(0, 5))
def test_the_features_of_any_page_are_finite_numbers(source: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    page = Page(source, draw.normal(size=describe.SLOTS).astype(np.float32))
    assert page.matrix.shape == (len(page.blocks), len(features.NAMES))
    assert page.matrix.dtype == np.float32
    assert np.isfinite(page.matrix).all()
    for first in (draw.random(len(page.blocks)), np.zeros(len(page.blocks)), np.ones(len(page.blocks))):
        found = page.described.in_context(page.matrix, first.astype(np.float32))
        assert found.shape == (len(page.blocks), len(features.CONTEXT_NAMES) + len(features.NAMES))
        assert np.isfinite(found).all()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_the_features_of_noise_are_finite_numbers(source: bytes) -> None:
    assert np.isfinite(Page(source.decode("utf-8", "replace")).matrix).all()


def test_the_same_page_has_the_same_features() -> None:
    assert np.array_equal(Page(ARTICLE).matrix, Page(ARTICLE).matrix)


def test_every_feature_has_one_name() -> None:
    assert len(set(features.NAMES)) == len(features.NAMES)
    assert len({*features.CONTEXT_NAMES, *features.NAMES}) == len(features.CONTEXT_NAMES) + len(features.NAMES)


# --- of the block itself ----------------------------------------------------------------------------------------------


def test_the_scores_are_those_of_the_linear_model() -> None:
    weights = np.random.default_rng(3).normal(size=describe.SLOTS).astype(np.float32)
    page = Page(ARTICLE, weights)
    ends, rows = page.described.linear_rows()
    sums = [float(weights[rows[a:b]].sum()) for a, b in pairwise(ends)]
    for at, bucket in enumerate(describe.BUCKETS):
        np.testing.assert_allclose(page.column(f"score_{bucket}"), sums[at :: len(describe.BUCKETS)], atol=1e-4)
    own, parent, grandparent, above = (np.array(page.column(f"score_{name}")) for name in describe.BUCKETS[:4])
    np.testing.assert_allclose(page.column("path"), own + parent + grandparent + above, atol=1e-4)


def test_counts_become_shares_of_words_or_characters() -> None:
    page = Page(f"<p>{SENTENCE}<a href=/x>{SENTENCE}</a></p>")
    assert page.column("words") == page.words == [40]
    assert page.column("log_words") == pytest.approx([math.log(41)])
    assert page.column("link_density") == pytest.approx([0.5], abs=0.01)
    assert page.column("commas_per_word") == pytest.approx([2 / 40])
    assert page.column("words_per_sentence") == pytest.approx([40 / 3])
    assert page.column("chars_per_word") == pytest.approx([len((SENTENCE * 2).strip()) / 40])
    assert page.column("anchors") == [1]


def test_the_kind_of_the_element_is_a_number() -> None:
    page = Page(ARTICLE)
    assert page["A closed", "kind"] == features.KINDS.index("h1")
    assert page["News", "kind"] == features.KINDS.index("li")
    assert page["News", "inner_kind"] == features.KINDS.index("a")
    assert page["Copyright", "kind"] == page["Copyright", "inner_kind"] == features.KINDS.index("p")
    assert Page("<x-card>t")["t", "inner_kind"] == len(features.KINDS)


def test_what_a_block_stands_in_has_a_column_each() -> None:
    page = Page(ARTICLE)
    expected = {"nav", "list", "link"}
    for name in describe.CONTEXTS[:-1]:
        assert page["News", f"in_{name}"] == (name in expected)
        assert page["Copyright", f"in_{name}"] == (name == "footer")


# --- places -----------------------------------------------------------------------------------------------------------


def test_places_are_counted_in_blocks_and_in_words() -> None:
    page = Page(ARTICLE)
    n, total = len(page.blocks), sum(page.words)
    assert page.column("place") == pytest.approx([block / n for block in range(n)])
    assert page.column("place_words") == pytest.approx([sum(page.words[:block]) / total for block in range(n)])
    h1 = page.block("A closed")
    assert page.column("after_h1") == [block - h1 for block in range(n)]
    assert page.column("after_title") == [block - h1 for block in range(n)]
    assert Page("<p>a<p>b").column("after_h1") == [-1000, -1000]


def test_the_words_of_the_title_are_found_in_the_block_that_holds_them() -> None:
    page = Page(ARTICLE)
    assert page["A closed", "title_words"] == 1
    assert page["A closed", "title_share"] == 1
    assert page["Copyright", "title_words"] == 0
    body = page.block("Why") + 1  # "harbour" and "closed", of 60 words in three sentences of 20
    assert page.column("title_words")[body] == pytest.approx(page.words[body] and (2 + 2 + 2) / 60, abs=0.02)


def test_the_heading_above_is_known_by_its_distance_and_its_kind() -> None:
    page = Page(ARTICLE)
    last = page.block("Why") + 1
    assert page.column("heading_distance")[last] == 1
    assert page.column("heading_kind")[last] == features.KINDS.index("h2")
    assert page.column("words_since_heading")[last] == 0
    assert page.column("heading_distance")[0] == 1000
    assert page.column("heading_kind")[0] == page.column("words_since_heading")[0] == -1
    copyright_ = page.block("Copyright")
    assert page.column("words_since_heading")[copyright_] == pytest.approx(math.log(1 + page.words[last]))


def test_copies_of_a_text_are_counted() -> None:
    page = Page(ARTICLE)
    twice = [block for block in range(len(page.blocks)) if page.blocks.string(block) == "Home page"]
    assert len(twice) == 2
    assert [page.column("copies")[block] for block in twice] == [2, 2]
    assert [page.column("first_of_text")[block] for block in twice] == [1, 0]
    assert page["Copyright", "copies"] == 1


def test_neighbours_are_those_before_and_after() -> None:
    page = Page(ARTICLE)
    n = len(page.blocks)
    for side, step in (("prev", -1), ("next", 1), ("prev2", -2), ("next2", 2)):
        for name in ("log_words", "link_density", "kind", "terminal"):
            own, found = page.column(name), page.column(f"{side}_{name}")
            assert found == [own[at + step] if 0 <= at + step < n else -1 for at in range(n)]
        homes = [page.up(page.home(at)) for at in range(n)]
        assert page.column(f"{side}_same_home") == [
            homes[at] == homes[at + step] if 0 <= at + step < n else -1 for at in range(n)
        ]


# --- containers -------------------------------------------------------------------------------------------------------


def containers(page: Page, block: int) -> dict[str, int]:
    node = page.home(block)
    found = {"container": node, "section": int(page.described.section[node])}
    for level in (1, 2, 3):
        node = page.up(node)
        found[f"level_{level}"] = node
    return found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join))
def test_containers_hold_the_words_of_their_blocks(source: str) -> None:
    page = Page(source)
    counts = {name: page.described.counts[:, at] for at, name in enumerate(describe.COUNTS)}
    total = max(1.0, sum(page.words))
    for block in range(len(page.blocks)):
        for level, node in containers(page, block).items():
            inside = page.within(node)
            words = sum(page.words[each] for each in inside)
            long = [
                each for each in inside if page.words[each] >= 15 and counts["link_words"][each] < page.words[each] / 2
            ]
            headings = [each for each in inside if tags.FLAGS[page.tree.tag[page.home(each)]] & tags.BITS["HEADING"]]
            expected = {
                "log_words": math.log(1 + words),
                "link_density": sum(counts["link_words"][each] for each in inside) / max(1, words),
                "words_per_block": words / max(1, len(inside)),
                "long_share": sum(page.words[each] for each in long) / max(1, words),
                "page_share": words / total,
                "headings": len(headings),
                "commas": sum(counts["commas"][each] for each in inside) / max(1, words),
            }
            for name, value in expected.items():
                assert page.column(f"{level}_{name}")[block] == pytest.approx(value, rel=1e-5, abs=1e-5), (level, name)


def test_the_smallest_element_with_most_of_the_prose_is_found() -> None:
    page = Page(ARTICLE)
    assert [page.column("mass95_inside")[page.block(start)] for start in ("News", "A closed", "Copyright")] == [0, 1, 0]
    last = page.block("Why") + 1
    assert (
        page.column("mass50_inside")[last] == 1
    )  # 60 of the 122 words are in one paragraph: its own element is no half
    assert page["Copyright", "mass95_up"] == 2  # p, footer; from body down to main
    assert page["Copyright", "mass95_down"] == 1
    assert page["A closed", "mass95_up"] == 1
    assert page["A closed", "mass95_down"] == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join), st.sampled_from([50, 80, 95]))
def test_no_smaller_element_holds_that_share_of_the_prose(source: str, share: int) -> None:
    page = Page(source)
    if not len(page.blocks):
        return
    links = page.described.counts[:, describe.COUNTS.index("link_words")]
    prose = [words if words >= 15 and link < words / 2 else 0 for words, link in zip(page.words, links, strict=True)]
    prose = prose if any(prose) else page.words
    goal = share / 100 * sum(prose)
    inside = [block for block, value in enumerate(page.column(f"mass{share}_inside")) if value]
    found = sum(prose[block] for block in inside)
    assert found >= goal - 1e-6
    for block in range(len(page.blocks)):
        node = page.home(block)
        while node > 0:
            words = sum(prose[each] for each in page.within(node))
            assert words < goal or words >= found
            node = page.up(node)


def readability(page: Page) -> dict[int, float]:
    """Readability's scores, from its definition: a paragraph gives its parent one point, one for each comma, and up to three
    for its length; half of that to the next element, a third of a half to the one after and so on; times what is no link."""
    counts = {name: page.described.counts[:, at].tolist() for at, name in enumerate(describe.COUNTS)}
    scores: dict[int, float] = {}
    for block in range(len(page.blocks)):
        if counts["chars"][block] < 25 or not page.words[block]:
            continue
        points = 1 + counts["commas"][block] + min(counts["chars"][block] / 100, 3)
        points *= 1 - counts["link_words"][block] / page.words[block]
        node = page.home(block)
        if page.tree.name(node) not in ("div", "td"):
            node = page.up(node)
        for level in range(6):
            scores[node] = scores.get(node, 0) + points / (1 if level == 0 else 2 if level == 1 else 3 * level)
            if node == 0:
                break
            node = page.up(node)
    links = counts["link_words"]
    found = {}
    for node, value in scores.items():
        inside = page.within(node)
        found[node] = value * (1 - sum(links[at] for at in inside) / max(1, sum(page.words[at] for at in inside)))
    return found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join))
def test_the_top_candidate_is_readabilitys(source: str) -> None:
    page = Page(source)
    scores = {node: value for node, value in readability(page).items() if node > 0}
    best = max(scores.values(), default=0.0)
    assert page.column("top_score") == pytest.approx([math.log(1 + max(0.0, best))] * len(page.blocks), abs=1e-3)
    tops = [node for node, value in scores.items() if value > best - 1e-4]
    if len(tops) == 1 and best > 0:
        inside = page.within(tops[0])
        assert page.column("top_inside") == [block in inside for block in range(len(page.blocks))]
        share = sum(page.words[block] for block in inside) / max(1, sum(page.words))
        assert page.column("top_share") == pytest.approx([share] * len(page.blocks), abs=1e-5)


def test_steps_to_the_top_candidate_go_up_and_down_the_tree() -> None:
    page = Page(ARTICLE)
    assert page["A closed", "top_inside"] == 1
    assert (page["A closed", "top_up"], page["A closed", "top_down"]) == (1, 0)
    assert (page["News", "top_up"], page["News", "top_down"]) == (3, 1)
    assert page["A closed", "chain_score"] == pytest.approx(1)
    assert page["News", "chain_score"] < 1


# --- look-alikes ------------------------------------------------------------------------------------------------------


def test_blocks_that_look_alike_are_counted_together() -> None:
    cards = "".join(f"<div class='card-{at}'><h3>Card {at}</h3><p>{'word ' * (at + 1)}</p></div>" for at in range(4))
    page = Page(f"<section>{cards}<div class=other><p>lonely words</p></div></section>")
    words = np.array([1, 2, 3, 4])
    first = page.block("Card 0") + 1
    assert page.column("look1_count")[first] == pytest.approx(math.log(1 + 5))  # every p
    assert page.column("look2_count")[first] == pytest.approx(math.log(1 + 4))  # those in a card
    assert page.column("look2_words")[first] == pytest.approx(words.mean())
    assert page.column("look2_spread")[first] == pytest.approx(words.std() / (1 + words.mean()))
    assert page.column("look2_share")[first] == pytest.approx(words.sum() / sum(page.words))
    assert page["lonely", "look2_count"] == pytest.approx(math.log(2))
    assert page["lonely", "look3_count"] == pytest.approx(math.log(2))


def test_siblings_are_the_elements_beside() -> None:
    page = Page("<ul><li>one</li> text <li>two<li>three</ul>")
    assert page["one", "siblings"] == page["three", "siblings"] == 3
    assert [page[name, "sibling_place"] for name in ("one", "two", "three")] == [0, 1, 2]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_described_in_every_row() -> None:
    page = Page(ARTICLE)
    n, total = len(page.blocks), sum(page.words)
    links = page.described.counts[:, describe.COUNTS.index("link_words")].sum()
    paragraphs = sum(words for at, words in enumerate(page.words) if page.tree.name(page.home(at)) == "p")
    expected = {
        "page_words": math.log(1 + total), "page_blocks": math.log(1 + n), "page_link_density": links / total,
        "page_paragraph_share": paragraphs / total, "page_articles": 0, "page_main": 1,
        "page_bytes": math.log(1 + len(ARTICLE.encode())), "page_long_blocks": 3, "page_wide": 0, "page_is_article": 0,
    }  # fmt: skip
    for name, value in expected.items():
        assert page.column(name) == pytest.approx([value] * n), name


def test_linked_data_and_description_are_found_in_the_text() -> None:
    page = Page(
        '<script type="application/ld+json">{"@type": "Article", "articleBody": "one two three four five six"}</script>'
        '<meta name=description content="Seven eight nine ten"><p>One two three four</p><p>seven eight '
        "nine</p><p>other words</p>"
    )
    assert page.column("linked_data") == [1, 0, 0]
    assert page.column("description") == [0, 1, 0]
    assert page.column("page_is_article") == [1, 1, 1]


# --- what the second trees see ----------------------------------------------------------------------------------------


def in_context(page: Page, first: list[float]) -> dict[str, list[float]]:
    """`Described.in_context` from its definition, in plain Python."""
    n, words = len(page.blocks), page.words
    kept = [probability * count for probability, count in zip(first, words, strict=True)]
    total = max(sum(kept), 1e-6)
    sure = [at for at in range(n) if first[at] > 0.7 and words[at] >= 8]
    found: dict[str, list[float]] = {name: [] for name in features.CONTEXT_NAMES}

    def put(name: str, value: Any) -> None:
        found[name].append(float(value))

    for at in range(n):
        put("first", first[at])
        for offset in (-3, -2, -1, 1, 2, 3):
            put(f"near_{offset}", first[at + offset] if 0 <= at + offset < n else -1)
        for span in (5, 10, 20):
            others = [each for each in range(max(0, at - span), min(n, at + span + 1)) if each != at]
            put(f"around_{span}", sum(kept[each] for each in others) / max(1, sum(words[each] for each in others)))
        put("before", sum(kept[:at]) / total)
        put("kept_words", sum(kept))
        put("kept_share", sum(kept) / max(1, sum(words)))
        node = page.home(at)
        for level in range(6):
            inside = page.within(node)
            others = [each for each in inside if each != at]
            put(f"above_{level}_mean", sum(kept[each] for each in inside) / max(1, sum(words[each] for each in inside)))
            put(f"above_{level}_share", sum(kept[each] for each in inside) / total)
            put(f"above_{level}_others", np.mean([first[each] for each in others]) if others else -1)
            node = page.up(node)
        put("sure_before", min((at - each for each in sure if each < at), default=500))
        put("sure_after", min((each - at for each in sure if each > at), default=500))
        for level in range(3):
            look = page.described.look[level]
            alike = [each for each in range(n) if look[each] == look[at]]
            weights = [max(1, words[each]) for each in alike]
            put(f"alike_{level + 1}", np.average([first[each] for each in alike], weights=weights))
        put("highest", max(first))
    return found


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(PARTS), max_size=25).map("".join), st.integers(0, 1000))
def test_probabilities_around_a_block_are_those_of_plain_python(source: str, seed: int) -> None:
    page = Page(source)
    first = np.random.default_rng(seed).random(len(page.blocks)).astype(np.float32)
    found = page.described.in_context(page.matrix, first)
    expected = in_context(page, [float(value) for value in first])
    for column, name in enumerate(features.CONTEXT_NAMES):
        np.testing.assert_allclose(found[:, column], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert np.array_equal(found[:, len(features.CONTEXT_NAMES) :], page.matrix)
