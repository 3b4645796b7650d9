"""The measure of extraction: 4-grams against a plain definition, snippets, bootstrap, code and tables kept."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.stages.extract.training import metric

texts = st.lists(st.sampled_from(["a", "b", "c", "Haus", "naïve", "数学", "-", "\n", "x_1"]), max_size=30).map(" ".join)


def plain_f1(gold: str, text: str) -> float:
    """The definition in the issue, word for word: tuples in a Counter."""

    def grams(source: str) -> Counter[tuple[str, ...]]:
        words = re.findall(r"\w+", source)
        size = min(4, len(words))
        return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1)) if words else Counter()

    a, b = grams(gold), grams(text)
    if not a or not b:
        return float(not a and not b)
    shared = (a & b).total()
    return 0.0 if not shared else 2 / (b.total() / shared + a.total() / shared)


@given(texts, texts)
def test_f1_is_that_of_a_counter_of_word_tuples(gold: str, text: str) -> None:
    assert metric.f1(gold, text) == pytest.approx(plain_f1(gold, text))


@given(texts, texts)
def test_f1_is_symmetric_and_the_same_for_counted_gold(gold: str, text: str) -> None:
    assert metric.f1(gold, text) == metric.f1(text, gold) == metric.f1(metric.shingles(gold), text)


def test_f1_counts_repeats_as_often_as_both_sides_have_them() -> None:
    once, twice = "one two three four", "one two three four one two three four"
    # 5 shingles on one side, 1 on the other, 1 shared
    assert metric.score(once, twice) == (1 / 5, 1.0, pytest.approx(1 / 3))


def test_short_and_empty_texts() -> None:
    assert metric.f1("", " - ") == 1.0
    assert metric.f1("", "word") == metric.f1("word", "") == 0.0
    assert metric.f1("two words", "two, words!") == 1.0
    assert metric.f1("two words", "two words more") == 0.0


def test_words_are_unicode_and_keep_their_case() -> None:
    assert metric.tokens("Häuser, 数学 x_1 3.5") == ["Häuser", "数学", "x_1", "3", "5"]
    assert metric.f1("One two three four", "one two three four") == 0.0


def test_snippets_are_found_over_line_breaks_and_no_break_spaces() -> None:
    found = metric.snippets(
        "A first\n\nline,\xa0and  more. Menu", ["first line, and", "absent", " "], ["Menu", "footer"]
    )
    assert found == metric.Snippets(found=1, must=2, leaked=1, must_not=2)


def test_snippet_scores_pool_the_snippets_of_all_pages() -> None:
    pages = [metric.Snippets(3, 4, 1, 2), metric.Snippets(0, 0, 0, 5), metric.Snippets(1, 2, 0, 0)]
    # 4 true positives, 2 false negatives, 1 false positive
    assert metric.snippet_score(pages) == (pytest.approx(4 / 5), pytest.approx(4 / 6), pytest.approx(8 / 11))
    assert metric.snippet_score([]) == (0.0, 0.0, 0.0)


def test_bootstrap_interval_agrees_with_the_normal_one() -> None:
    rng = np.random.default_rng(7)
    a = rng.normal(0.5, 0.1, 400)
    b = a - rng.normal(0.02, 0.1, 400)
    found = metric.paired_bootstrap(a.tolist(), b.tolist())
    half = 1.96 * (a - b).std() / 20
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.low, found.high) == (
        pytest.approx(found.mean - half, abs=half / 10),
        pytest.approx(found.mean + half, abs=half / 10),
    )


def test_bootstrap_p_tells_equal_engines_from_different_ones() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 200)
    equal = noise - noise.mean()
    assert metric.paired_bootstrap(equal.tolist(), [0.0] * 200).p > 0.5
    assert metric.paired_bootstrap((equal + 0.1).tolist(), [0.0] * 200).p < 0.001
    assert metric.paired_bootstrap([0.5] * 9, [0.5] * 9).p == 1.0


def test_bootstrap_repeats_itself_and_refuses_unequal_lists() -> None:
    a, b = [0.1, 0.9, 0.4], [0.2, 0.5, 0.4]
    assert metric.paired_bootstrap(a, b) == metric.paired_bootstrap(a, b)
    with pytest.raises(ValueError, match="equally long"):
        metric.paired_bootstrap(a, b[:2])
    with pytest.raises(ValueError, match="equally long"):
        metric.paired_bootstrap([], [])


PYTHON = "def f(x):\n    if x:\n        return 1\n\n    return 2"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"Before.\n\n{PYTHON}\n\nAfter.", True),
        (f"```python\n{PYTHON}\n```", True),
        ("- item:\n\n" + "\n".join("  " + line for line in PYTHON.split("\n")), True),
        ("> " + PYTHON.replace("\n", "\n> "), True),
        (PYTHON.replace("    ", "\xa0\xa0\xa0\xa0").replace("\n", "  \n"), True),
        (PYTHON.replace("\n\n", "\n\n\n"), True),
        (PYTHON.replace("\n\n", "\n"), False),
        (PYTHON.replace("\n    ", "\n"), False),
        (PYTHON.replace("\n", "\n\n"), False),
        (" ".join(PYTHON.split()), False),
        (f"Code: {PYTHON}", False),
        (PYTHON.removesuffix("\n    return 2"), False),
        (f"def f(x):\n    pass\n{PYTHON}", True),
        ("", False),
    ],
)
def test_code_is_kept_only_with_its_lines_and_indentation(text: str, kept: bool) -> None:
    assert metric.code_kept([PYTHON], text) == [kept]


def test_a_gold_block_may_be_indented_as_a_whole() -> None:
    assert metric.code_kept(["\n    a {\n      b\n    }\n"], "a {\n  b\n}") == [True]


def test_code_of_one_line_needs_a_line_of_its_own_or_backticks() -> None:
    assert metric.code_kept(["$ make"], "Run:\n  $ make\n") == [True]
    assert metric.code_kept(["$ make"], "`$ make`") == [True]
    assert metric.code_kept(["$ make"], "Run $ make now") == [False]
    assert metric.code_kept(["`b` is"], "`b` is") == [True]
    assert metric.code_kept([">>> 1 + 1"], ">>> 1 + 1") == [True]
    assert metric.code_kept([">>> 1 + 1"], "1 + 1") == [False]


def test_rows_are_kept_where_one_line_holds_their_cells_in_order() -> None:
    rows = [["Name", "", "Mean value"], ["Poisson", r"{\displaystyle \lambda }"], ["b", "a"], ["a|b", "$5"]]
    text = "Name | Mean\u200b  value\nPoisson | $\\lambda$\na b\na\\|b | \\$5"
    assert metric.tables_kept(rows[:3], text) == [True, True, False]
    assert metric.tables_kept([["Name", "Mean value"]], "Name\nMean value") == [False]
    assert metric.tables_kept([["Name", "Mean value"]], "") == [False]


def test_a_cell_is_not_found_twice_in_the_same_place() -> None:
    assert metric.tables_kept([["-", "-"]], "only -") == [False]
    assert metric.tables_kept([["-", "-"]], "two - | -") == [True]


def test_gold_blocks_give_code_and_rows_without_quotations() -> None:
    blocks = [
        {"type": "code", "content": {"code_content": "x = 1", "by": "tag_pre_code"}},
        {"type": "code", "content": {"code_content": "someone wrote", "by": "classname"}},
        {"type": "table", "content": {"html": "<table><tr><td>a&lt;br&gt;b</td><td>c &amp; d</td></tr></table>"}},
        {"type": "paragraph", "content": [{"c": "text"}]},
    ]
    assert metric.structure_of_blocks([blocks]) == metric.Structure(["x = 1"], [["a b", "c & d"]])
    assert metric.structure_of_blocks([[]]) == metric.Structure([], [])


def test_gold_html_gives_preformatted_text_and_data_rows() -> None:
    page = """<pre>a<br>  b\n  c</pre><pre>d<p>e<br/>  f</p></pre><pre> </pre><table>
    <tr><th>Year</th><th>Hits <span style="display: none">0001</span></th><td></td></tr><tr><td>one cell</td></tr>
    <tr><td>layout</td><td><table><tr><td>in</td><td>ner</td></tr></table></td></tr><tr><td>x</td><td>LONG</td></tr></table>"""
    found = metric.structure_of_html(page.replace("LONG", "long " * 100))
    assert found == metric.Structure(["a\n  b\n  c", "d\n\ne\n  f"], [["Year", "Hits"], ["in", "ner"]])
    assert metric.structure_of_html(" ") == metric.Structure([], [])
