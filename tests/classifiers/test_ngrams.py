"""Tokens, n-grams and the removal of LaTeX, against the definitions in the module's docstring."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.classifiers.ngrams import find_slot, ngrams, slots, without_latex

LETTERS = st.text(st.characters(codec="utf-8"), max_size=60)


def hashes(*texts: str, order: int = 1, max_bytes: int = 10_000) -> list[list[int]]:
    found, edges = ngrams(pa.array(texts, pa.string()), order=order, max_bytes=max_bytes)
    return [found[edges[row] : edges[row + 1]].tolist() for row in range(len(texts))]


def words(text: str) -> list[str]:
    """The docstring's definition, in Python, character by character."""
    found, word = [], ""
    for character in text:
        code = ord(character)
        alone = 0x3040 <= code <= 0x9FFF or 0x2200 <= code <= 0x22FF or code >= 0x10000
        separates = (
            (code < 0x80 and not character.isalnum())
            or 0x80 <= code <= 0xBF
            or 0x2000 <= code <= 0x21FF
            or 0x2300 <= code <= 0x303F
            or 0xF000 <= code <= 0xFFFF
        )
        if alone or separates:
            found += [word] if word else []
            word = ""
            if alone:
                found.append(character)
            continue
        lower = "A" <= character <= "Z" or (0xC0 <= code <= 0xDE and code != 0xD7)
        word += "0" if character in "0123456789" and code < 0x80 else chr(code + 32) if lower else character
    return found + ([word] if word else [])


def test_a_text_has_the_tokens_of_the_definition() -> None:
    assert hashes("Über-Größe 42, don't!") == hashes("über größe 00 don t")
    assert len(hashes("数学 is ∑∫ 😀")[0]) == 6


@settings(max_examples=300, deadline=None)
@given(LETTERS)
def test_any_text_has_as_many_tokens_as_the_definition_says_and_equal_ones_where_it_says(text: str) -> None:
    expected = words(text)
    found = hashes(text)[0]
    assert len(found) == len(expected)
    assert len(set(found)) == len(set(expected))


def test_the_n_grams_of_three_words_are_three_words_two_pairs_and_one_triple() -> None:
    found = hashes("a b c", order=3)[0]
    assert len(found) == 6
    assert found[:3] == [hashes(word)[0][0] for word in "abc"]
    assert found[3] == hashes("a b", order=2)[0][2]
    assert found[3] != hashes("b a", order=2)[0][2]


def test_only_the_first_bytes_are_looked_at() -> None:
    assert hashes("one two three", max_bytes=7) == hashes("one two")


def test_slices_nulls_and_large_strings_are_read_like_plain_texts() -> None:
    texts = pa.array(["skip", "one two", None, "", "three"], pa.large_string()).slice(1)
    found, edges = ngrams(texts, order=1, max_bytes=100)
    assert np.diff(edges).tolist() == [2, 0, 0, 1]
    assert found.tolist() == hashes("one two three")[0]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=5), st.booleans())
def test_no_bytes_make_it_fail(texts: list[bytes], strip: bool) -> None:
    array = pa.array(texts, pa.binary()).cast(pa.binary()).view(pa.string())
    _, edges = ngrams(array, order=2, max_bytes=50, strip_latex=strip)
    assert len(edges) == len(texts) + 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (r"Let $x^2+1$ be", "Let be"),
        (r"so \(a+b\) and \[ c \] hold", "so and hold"),
        (r"$$\int_0^1 x$$ is half", "is half"),
        (r"\begin{align*} a &= b \end{align*} follows", "follows"),
        (r"by \ref{thm:main} and \cite[p. 2]{knuth} we", "by and we"),
        (r"\section*{Open sets}", "{Open sets}"),
        (r"\emph{not} $5 and $10 or US$20", "{not} $5 and $10 or US$20"),
        (r"costs $5", "costs $5"),
        ("an $unclosed formula", "an $unclosed formula"),
    ],
)
def test_latex_is_taken_out_and_the_prose_around_it_stays(text: str, left: str) -> None:
    assert re.sub(r"\s+", " ", without_latex(text)).strip() == left


@settings(max_examples=100, deadline=None)
@given(LETTERS)
def test_a_text_without_backslash_and_dollar_is_left_as_it_is(text: str) -> None:
    text = text.replace("\\", "").replace("$", "")
    assert without_latex(text) == text


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="\\$a{}[]()e\n 1", max_size=200))
def test_taking_latex_out_never_adds_anything(text: str) -> None:
    assert len(without_latex(text)) <= len(text)


def test_every_listed_hash_is_found_in_its_place_and_no_other() -> None:
    listed = np.unique(np.random.default_rng(0).integers(0, 1 << 32, 5_000, dtype=np.uint64).astype(np.uint32))
    table = slots(listed)
    assert [find_slot(value, listed, table) for value in listed] == list(range(len(listed)))
    assert find_slot(np.uint32(12345), listed, table) == -1 or 12345 in listed
