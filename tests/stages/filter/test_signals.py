from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence

import filter_oracle as papers
import filter_oracle_datatrove as datatrove
import filter_oracle_redpajama as redpajama
import numpy as np
import pyarrow as pa
import pytest
from filter_texts import languages, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import UsageError
from curate.stages.filter import signals
from curate.stages.filter.config import LinesConfig
from curate.stages.filter.languages import stop_words
from curate.stages.filter.measure import measure
from curate.stages.filter.registry import registered, select
from curate.stages.text import segment
from support import shared_data

SENTENCE = "The cat sat on the mat and looked out of the window with great care."
PAGE = "\n".join(f"{SENTENCE[:-1]} number {n}, which is a thing that people have to see." for n in range(10))
"""A page that no rule of FineWeb but the one on repeated 5-grams would drop."""

COUNTINGS = ("paper", "datatrove")
ROUNDED = {
    "unigram_entropy",
    "rps_doc_unigram_entropy",
    "rps_lines_numerical_chars_fraction",
    "rps_lines_uppercase_letter_fraction",
}
"""Sums of fractions, which depend in the last digit on the order."""
ELSEWHERE = ("pii_", "url_", "ccnet_language_score", "rps_doc_ut1_blacklist")
"""Signals that no text alone decides, or that have tests of their own."""


def tokenize(text: str) -> list[str]:
    """The words of counting `datatrove`, which the tests of `curate.stages.text` compare to spaCy's."""
    cut = segment([text])
    spans = zip(cut.tokens.start, cut.tokens.stop, strict=True)
    return [cut.bytes[start:stop].tobytes().decode() for start, stop in spans]


def expected(text: str, language: str | None, counting: str) -> dict[str, float]:
    stops = stop_words(language, {})
    if counting == "paper":
        found = papers.measure(text, language, stops)
    else:
        found = datatrove.measure(text, tokenize, language, stops)
    edited, _ = papers.edited(text, datatrove=counting == "datatrove")
    return found | redpajama.measure(text, language, edited)


def same(name: str, value: float, wanted: float) -> bool:
    if name == "compression_ratio":
        return value == pytest.approx(wanted, rel=0.05)
    if name in ROUNDED:
        return value == pytest.approx(float(wanted), rel=1e-6, abs=1e-6)
    return np.float32(value) == np.float32(wanted)


def check(batch: Sequence[str], labels: Sequence[str | None], counting: str) -> None:
    table = signals(batch, None, counting, languages=labels)
    for row, text, label in zip(table.to_pylist(), batch, labels, strict=True):
        for name, value in expected(text, label, counting).items():
            assert same(name, row[name], value), (name, row[name], value, text)


def labelled(most: int, least: int = 0) -> st.SearchStrategy[tuple[tuple[str, ...], tuple[str | None, ...]]]:
    """Texts, and a language for each."""
    pairs = st.lists(st.tuples(texts, languages), min_size=least, max_size=most)
    return pairs.map(lambda found: tuple(zip(*found, strict=True)) or ((), ()))


@pytest.mark.parametrize("counting", COUNTINGS)
@given(batch=labelled(2, 1))
@settings(max_examples=400, deadline=None)
def test_every_signal_is_what_the_papers_and_the_published_code_define(counting, batch):
    check(*batch, counting)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("counting", COUNTINGS)
@given(batch=labelled(5, 5))
@settings(max_examples=2000, deadline=None)
def test_every_signal_is_what_is_defined_on_ten_thousand_texts(counting, batch):
    check(*batch, counting)


@pytest.mark.parametrize("counting", COUNTINGS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n",
        "\n\n\n",
        "\x00",
        "word",
        "one line without end",
        "...",
        "#",
        "-",
        "{",
        "a " * 3000,
        "字" * 500,
        "x" * (1 << 20),
        "a\n\nb\n\n ",
        "\na\n",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_every_signal_is_defined_at_the_edges(text, counting):
    check([text], ["en"], counting)


def judged_pages() -> list[str]:
    with tarfile.open(shared_data("quality-labels.tar.xz")) as pack:
        lines = pack.extractfile("quality-labels/labels.jsonl").read().splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("counting", COUNTINGS)
def test_every_signal_is_what_is_defined_on_real_pages(counting):
    pages = judged_pages()[::8]
    check(pages, ["en"] * len(pages), counting)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("counting", COUNTINGS)
def test_every_signal_is_what_is_defined_on_every_page_of_the_sample(counting):
    with tarfile.open(shared_data("pages-2026.tar.xz")) as pack:
        gold = pack.extractfile("pages-2026/gold.jsonl").read().splitlines()
    pages = judged_pages() + [json.loads(line)["text"] for line in gold]
    check(pages, ["en"] * len(pages), counting)


def test_the_oracles_leave_no_signal_out():
    covered = set(expected(PAGE, "en", "paper"))
    assert [name for name in registered() if name not in covered and not name.startswith(ELSEWHERE)] == []


@pytest.mark.parametrize("counting", COUNTINGS)
@given(batch=labelled(3))
@settings(max_examples=100, deadline=None)
def test_no_value_is_nan_or_outside_its_declared_range(counting, batch):
    table = signals(batch[0], None, counting, languages=batch[1])
    for name, declared in registered().items():
        values = table.column(name).to_numpy()
        assert np.isfinite(values).all()
        assert (values >= declared.low).all(), name
        assert (values <= declared.high).all(), name


@pytest.mark.parametrize("counting", COUNTINGS)
def test_empty_text_and_null_measure_0_everywhere(counting):
    rows = signals(pa.array(["", None]), None, counting).to_pylist()
    assert set(rows[0].values()) == {0}
    assert rows[0] == rows[1]


@pytest.mark.parametrize("counting", COUNTINGS)
def test_a_document_measures_the_same_alone_and_among_others(counting):
    batch = [PAGE, "", SENTENCE * 3, "\n"]
    together = signals(batch, None, counting).to_pylist()
    assert together == [signals([text], None, counting).to_pylist()[0] for text in batch]


def test_a_slice_of_an_arrow_array_measures_as_the_texts_themselves():
    array = pa.array(["left out", PAGE, SENTENCE, "left out"])
    assert signals(array.slice(1, 2)).equals(signals([PAGE, SENTENCE]))


def test_chosen_signals_come_in_the_order_asked_and_with_their_types():
    table = signals([PAGE], ["word_count", "mean_word_length"])
    assert table.schema == pa.schema([("word_count", pa.int32()), ("mean_word_length", pa.float32())])


def test_an_unknown_signal_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'word_count'"):
        signals([PAGE], ["word_cuont"])


def test_an_unknown_counting_is_refused():
    with pytest.raises(UsageError, match="'papers' is neither 'paper' nor 'datatrove'"):
        signals([PAGE], counting="papers")


def test_languages_of_another_length_are_refused():
    with pytest.raises(UsageError, match="2 values of 'language' for 1 texts"):
        signals([PAGE], languages=["en", "de"])


def test_c4_and_fineweb_measure_the_text_after_line_edits_and_gopher_the_text_before():
    text = f"{PAGE}\nlorem ipsum\nenable javascript {{ now }}"
    after, before = signals([text]).to_pylist()[0], signals([text], lines=None).to_pylist()[0]
    assert (after["lorem_ipsum"], before["lorem_ipsum"]) == (0, 1)
    assert (after["curly_bracket"], before["curly_bracket"]) == (0, 1)
    assert (after["removed_lines"], before["removed_lines"]) == (2, 0)
    assert after["removed_chars"] == len(text) - len(PAGE)
    assert (after["removed_few_words_chars"], after["removed_phrases_chars"]) == (11, 25)
    assert (after["ccnet_length"], after["ccnet_original_length"]) == (len(PAGE), len(text))
    assert after["word_count"] == before["word_count"]


@given(texts)
@settings(max_examples=100, deadline=None)
def test_fineweb_on_a_text_without_line_edits_counts_every_newline_where_datatrove_does(text):
    row = signals([text], None, "datatrove", lines=None).to_pylist()[0]
    for name, value in datatrove.unedited_fineweb(text, tokenize).items():
        assert same(name, row[name], value), name


@pytest.mark.parametrize("counting", COUNTINGS)
@given(text=texts)
@settings(max_examples=100, deadline=None)
def test_lines_that_must_end_in_a_mark_are_dropped_as_c4_does(counting, text):
    row = signals([text], None, counting, lines=LinesConfig(terminal=True)).to_pylist()[0]
    if counting == "paper":
        wanted = papers.c4_and_fineweb(text, terminal=True)
    else:
        wanted = datatrove.c4_and_fineweb(text, tokenize, terminal=True)
    for name, value in wanted.items():
        assert same(name, row[name], value), name


def test_repeated_lines_go_even_without_other_edits():
    text = f"{SENTENCE}\nHome\n{SENTENCE} Again."
    row = measure([text], select(None), lines=None, repeated=lambda texts: np.array([True, False, True]))
    assert list(row.edited) == ["Home"]
    assert row.table.column("removed_repeated_chars").to_pylist() == [2 * len(SENTENCE) + 7]


def test_what_the_stage_knows_of_a_document_is_what_its_signals_say():
    known = {"language": ["de", None], "language_score": np.float32([0.5, 1]), "url_listed": [True, False]}
    names = ["stop_word_count", "ccnet_language_score", "rps_doc_ut1_blacklist"]
    batch = ["Aa und bb", "the cat"]
    table = measure(batch, select(names), lines=None, known=known, stop_words={"de": ["aa", "bb", "cc"]}).table
    assert table.to_pydict() == {
        "stop_word_count": [2, 1],
        "ccnet_language_score": [0.5, 1.0],
        "rps_doc_ut1_blacklist": [1, 0],
    }


@pytest.mark.parametrize(
    ("name", "text", "paper", "datatrove"),
    [
        ("word_count", "Wait, don't (stop)!", 3, 4),
        ("stop_word_count", "The end, of THE of.", 2, 1),
        ("mean_word_length", "one, two", 3.5, 3.0),
        ("duplicate_line_fraction", "a\na \nb", 1 / 3, 0.0),
        ("duplicate_line_fraction", "\na\nb\n", 0.0, 1 / 4),
        ("top_2_gram_char_fraction", "a,b c a,b c d", 10 / 13, 6 / 13),
        ("ellipsis_line_fraction", "a...\n\n\nb", 1 / 2, 1 / 4),
        ("alphabetic_word_fraction", "(a) b!", 1.0, 2 / 5),
        ("terminal_punctuation_line_fraction", "He said “one two.”\nThree four five.", 1.0, 0.5),
        ("sentence_count", "He said “no.” and left.", 1, 2),
    ],
)  # fmt: skip
def test_what_the_two_countings_count_differently(name, text, paper, datatrove):
    values = [signals([text], [name], counting).column(0).to_pylist() for counting in COUNTINGS]
    assert values == [[np.float32(paper)], [np.float32(datatrove)]]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("duplicate_line_fraction", "a\nb\na\na", 2 / 4),
        ("duplicate_line_char_fraction", "aa\nb\naa", 2 / 7),
        ("duplicate_paragraph_fraction", "a b\n\nc\n\na b", 1 / 3),
        ("duplicate_paragraph_char_fraction", "a b\n\nc\n\na b", 3 / 11),
        ("top_2_gram_char_fraction", "a b c a b d", 2 * 3 / 11),
        ("top_3_gram_char_fraction", "a b c x a b c", 2 * 5 / 13),
        ("top_4_gram_char_fraction", "a b c d", 1.0),
        ("duplicate_5_gram_char_fraction", "a b c d e a b c d e", 5 / 19),
        ("duplicate_10_gram_char_fraction", " ".join("abcdefghij" * 2), 10 / 39),
        ("word_count", "one, two -- three! ...", 3),
        ("mean_word_length", "one two2 three ???", 4.0),
        ("hash_to_word_ratio", "#a #b c d", 0.5),
        ("ellipsis_to_word_ratio", "so… it goes...", 2 / 3),
        ("bullet_line_fraction", "• a\n- b\nc\nd", 0.5),
        ("ellipsis_line_fraction", "a...\nb…\nc\nd", 0.5),
        ("alphabetic_word_fraction", "a 1 2 слово", 0.5),
        ("stop_word_count", "The (end), of the story; and THE rest", 3),
        ("sentence_count", "One is here. Two is here! And a third", 3),
        ("terminal_punctuation_line_fraction", "One line is here.\nAnother line is there", 0.5),
        ("short_line_fraction", "Thirty characters are in here.\n" + SENTENCE, 0.5),
        ("newline_to_word_ratio", "one two three\nfour five six", 1 / 6),
        ("unigram_entropy", "a b a b", np.log(2)),
        ("rps_doc_curly_bracket", "{a} b", 2 / 5),
        ("rps_doc_frac_all_caps_words", "NASA is at A1, OK?", 3 / 7),
        ("rps_doc_frac_no_alph_words", "on 12.5 ago", 3 / 5),
        ("rps_doc_frac_unique_words", "The the THE; cat", 1 / 2),
        ("rps_doc_stop_word_fraction", "the cat, The", 1 / 4),
        ("rps_doc_num_sentences", "One. Two?! Three... 4", 4),
        ("rps_doc_frac_chars_top_2gram", "on it, on IT, on it", 3 * 4 / 12),
        ("rps_doc_frac_chars_top_3gram", "a b c d", 0.0),
        ("rps_doc_frac_chars_dupe_5grams", "a b c d e f a b c d e", 10 / 11),
        ("rps_doc_symbol_to_word_ratio", "#one two...", 2 / 4),
        ("rps_doc_lorem_ipsum", "Lorem, ipsum", 1 / 11),
        ("rps_lines_num_words", "one two\n\nthree", 1.0),
        ("rps_lines_javascript_counts", "JavaScript, javascript\nJava-Script", 3),
        ("rps_lines_start_with_bulletpoint", "• a\n- b\n ■ c\n\n", 1 / 2),
        ("rps_lines_uppercase_letter_fraction", "AB\ncd", 1 / 3),
        ("rps_lines_numerical_chars_fraction", "a 1!\n\n12", (1 / 3 + 1) / 3),
        ("rps_lines_ending_with_terminal_punctution_mark", "One.\n“Two”\nThree:", 2 / 3),
        ("ccnet_nlines", "a\n\nb\n", 3),
    ],
)  # fmt: skip
def test_worked_by_hand(name, text, value):
    assert signals([text], [name], lines=None).column(0).to_pylist() == [np.float32(value)]


def test_repetition_compresses_and_a_few_words_do_not():
    few, prose, repeated = signals(["A few words.", PAGE, "again " * 500], ["compression_ratio"]).column(0).to_pylist()
    assert few < 1 < prose < 10 < repeated


def test_a_bad_word_counts_whole_and_within_words_only_where_words_have_no_spaces():
    lists = json.loads((papers.WORD_LISTS / "bad_words.json").read_text("utf-8"))["words"]
    english, chinese = lists["en"][10], next(word for word in lists["zh"] if len(word) > 1)
    batch = [f"so {english.upper()}!", f"xx{english}xx", f"很{chinese}很", f"so {english}", f"\u0130{english}"]
    table = signals(batch, ["bad_words"], lines=None, languages=["en", "en", "zh", "sw", None])
    assert table.column(0).to_pylist() == [1, 0, 1, 0, papers.bad_words(batch[4], "en")] == [1, 0, 1, 0, 1]


def test_a_long_word_list_costs_no_more_than_a_short_one():
    numbers = {code: len(words) for code, words in redpajama.listed("bad_words.json").items()}
    assert numbers["en"] > 400
    text = " ".join(f"word{n}" for n in range(20_000))
    assert signals([text], ["bad_words", "rps_doc_ldnoobw_words"], lines=None).to_pylist()[0]["bad_words"] == 0
