from __future__ import annotations

import filter_oracle as oracle
import numpy as np
import pyarrow as pa
import pytest
from filter_texts import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.errors import UsageError
from curate.stages.filter import signals
from curate.stages.filter.registry import registered

SENTENCE = "The cat sat on the mat and looked out of the window with great care."
PAGE = "\n".join(f"{SENTENCE[:-1]} number {n}, which is a thing that people have to see." for n in range(10))
"""A page that no rule of FineWeb but the one on repeated 5-grams would drop."""


def check(batch):
    table = signals(batch)
    for row, text in zip(table.to_pylist(), batch, strict=True):
        for name, value in oracle.measure(text).items():
            assert np.float32(row[name]) == np.float32(value), (name, text)


@given(st.lists(texts, min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_every_signal_is_what_the_papers_define(batch):
    check(batch)


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
    ],
    ids=lambda text: repr(text[:12]),
)
def test_every_signal_is_defined_at_the_edges(text):
    check([text])


@given(st.lists(texts, max_size=4))
@settings(max_examples=100, deadline=None)
def test_no_value_is_nan_or_outside_its_declared_range(batch):
    table = signals(batch)
    for name, declared in registered().items():
        values = table.column(name).to_numpy()
        assert np.isfinite(values).all()
        assert (values >= declared.low).all(), name
        assert (values <= declared.high).all(), name


def test_empty_text_and_null_measure_0_everywhere():
    rows = signals(pa.array(["", None])).to_pylist()
    assert set(rows[0].values()) == {0}
    assert rows[0] == rows[1]


def test_a_document_measures_the_same_alone_and_among_others():
    together = signals([PAGE, "", SENTENCE * 3]).to_pylist()
    assert together == [signals([text]).to_pylist()[0] for text in (PAGE, "", SENTENCE * 3)]


def test_chosen_signals_come_in_the_order_asked_and_with_their_types():
    table = signals([PAGE], ["word_count", "mean_word_length"])
    assert table.schema == pa.schema([("word_count", pa.int32()), ("mean_word_length", pa.float32())])


def test_an_unknown_signal_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'word_count'"):
        signals([PAGE], ["word_cuont"])


def test_c4_and_fineweb_measure_the_text_after_line_edits_and_gopher_the_text_before():
    text = f"{PAGE}\nlorem ipsum\nenable javascript {{ now }}"
    after, before = signals([text]).to_pylist()[0], signals([text], lines=None).to_pylist()[0]
    assert (after["lorem_ipsum"], before["lorem_ipsum"]) == (0, 1)
    assert (after["curly_bracket"], before["curly_bracket"]) == (0, 1)
    assert (after["removed_lines"], before["removed_lines"]) == (2, 0)
    assert after["removed_chars"] == len(text) - len(PAGE)
    assert after["word_count"] == before["word_count"]


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
    ],
)  # fmt: skip
def test_worked_by_hand(name, text, value):
    assert signals([text], [name]).column(0).to_pylist() == [np.float32(value)]
