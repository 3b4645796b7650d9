from __future__ import annotations

import filter_oracle as oracle
import pytest
from filter_texts import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.text import segment
from curate.stages.text.edits import edit_lines


def edit(batch, **changes):
    options = {
        "citations": True, "longest_word": 1000, "fewest_words": 3, "phrases": oracle.PHRASES, "terminal": False
    } | changes  # fmt: skip
    edited, array = edit_lines(segment(batch), **options)
    assert list(edited) == array.to_pylist()
    return array.to_pylist()


@pytest.mark.parametrize("terminal", [False, True])
@given(batch=st.lists(texts, max_size=4))
@settings(max_examples=200, deadline=None)
def test_edited_texts_are_those_of_the_plain_definition(terminal, batch):
    assert edit(batch, terminal=terminal) == [oracle.edited(text, terminal) for text in batch]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("too short", "two words"),
        ("Please enable JavaScript in your browser.", "javascript"),
        ("By going on you accept our Privacy Policy now.", "policy phrase"),
        ("This site uses cookies for all it does.", "policy phrase"),
        ("here is " + "x" * 1001 + " a long word", "long word"),
        ("[1] [2]", "nothing but citation marks"),
    ],
)
def test_a_line_is_dropped_and_its_neighbours_stay(line, why):
    assert edit([f"Keep this first line.\n{line}\nKeep this last line."]) == [
        "Keep this first line.\nKeep this last line."
    ], why


def test_citation_marks_go_and_other_brackets_stay():
    assert edit(["So it was[1] said [edit] here [citation needed].\nSee [the list] of [a1] things [23]"]) == [
        "So it was said  here .\nSee [the list] of [a1] things"
    ]


def test_paragraphs_stay_apart_even_where_lines_between_them_go():
    assert edit(["One line is here.\n\nshort\nAnother line is here.\nAnd a third one."]) == [
        "One line is here.\n\nAnother line is here.\nAnd a third one."
    ]


def test_with_the_terminal_rule_a_line_ends_in_a_mark_or_goes():
    assert edit(
        ["This line has an end.\nThis one has none\nThis one trails off...\nCited it is.[3]"], terminal=True
    ) == ["This line has an end.\nCited it is."]


def test_every_edit_can_be_switched_off():
    text = "one\n\n  two [1]\njavascript " + "x" * 2000
    assert edit([text], citations=False, longest_word=None, fewest_words=0, phrases=[]) == [
        text.replace("  two", "two")
    ]
