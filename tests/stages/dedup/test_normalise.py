"""The compiled normalisation against its definition in plain Python."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate.stages.dedup.normalise import normalise, normalised_batches, text_hashes


def normalised(*texts: str | None) -> list[str]:
    return [
        batch[index].decode()
        for batch in normalised_batches(pa.array(texts, pa.string()))
        for index in range(len(batch))
    ]


def definition(text: str) -> str:
    """FineWeb's steps one after another, with Unicode's categories for its list of punctuation."""
    text = "".join(character.lower() for character in text).replace("ς", "σ")
    text = unicodedata.normalize("NFD", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf"))
    text = re.sub(r"\d+([.,،٫⎖⎗⎘]\d+)?", "0", text)
    text = "".join(" " if unicodedata.category(c)[0] in "PZ" or c in "$+<=>^`|~´∶━►～" else c for c in text)
    text = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return re.sub(" +", " ", text).strip(" ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello,  World!\n\tAgain", "hello world again"),
        ("In 2024 there were 1,234.5 of 7", "in 0 there were 0 0 of 0"),
        ("3.14 1.2.3 5. 6,x v2.0b 12 .5", "0 0 0 0 0 x v0b 0 0"),
        ("Café naïve ÅNGSTRÖM", "cafe naive angstrom"),
        ("cafe\u0301", "cafe"),
        ("don't — “quote” …", "don t quote"),
        ("co\u00adoperate zero\u200bwidth \ufeffmark", "cooperate zerowidth mark"),
        ("٣٤٥ १२", "0 0"),
        ("٣٫٥ 1٫2 ١.٢ 1.\u030132", "0 0 0 0"),
        ("a´b ━►", "a b"),
        ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
        ("日本語、テスト。", "日本語 テスト"),
        ("...!?", ""),
        ("\x00\x1f\x7f\x85", ""),
        ("", ""),
    ],
)
def test_text_is_normalised_as_fineweb_does(text: str, expected: str) -> None:
    assert normalised(text) == [expected]


# letters whose decompositions interact with their neighbours' (reordered marks) would test Unicode, not us
TEXT = st.text(st.characters(codec="utf-8", max_codepoint=0xE01FF), max_size=60)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXT, max_size=5))
@example(["ΐ\u0345ﬁ한국어𝟙𝟚x²½Ǆİ", "\u0e33 \u2028a\u3000b\U000e0101"])
def test_the_kernel_is_the_definition_on_any_text(texts: list[str]) -> None:
    assert normalised(*texts) == [definition(text) for text in texts]


@settings(max_examples=300, deadline=None)
@given(st.text("12٣०a -.,٫،⎖\u0301\u00ad", max_size=16))
def test_a_number_is_one_zero_with_one_decimal_part_at_most(text: str) -> None:
    assert normalised(text) == [definition(text)]


# as datatrove 0.10 lists it (utils/text.py, PUNCTUATION), without control characters
FINEWEBS = "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
UNITS = [
    *FINEWEBS.replace("１", ""), *" \n\t\u00a0", *"0123456789٣१", "1.5", "2,5", *"aZéßÅñ", "e\u0301", *"ΑΩάσж Й",
    *"ابجकतากあカ漢字한국𐐀😀½²™€",
]  # fmt: skip


def simplified(text: str) -> str:
    """datatrove's `simplify_text` with FineWeb's settings, step by step; then runs of spaces once more."""
    text = re.sub(r"\d+([.,،٫⎖⎗⎘]{1}\d+)?", "0", text.lower())
    listed = FINEWEBS + "".join(chr(n) for a, b in ((0, 9), (11, 13), (13, 32), (127, 160)) for n in range(a, b))
    text = re.sub(r"\s+", " ", text.translate(str.maketrans(listed, " " * len(listed))).strip())
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return " ".join(text.replace("ς", "σ").split())


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(UNITS), max_size=40).map("".join))
def test_it_is_what_datatrove_makes_of_texts_in_many_scripts(text: str) -> None:
    assert normalised(text) == [simplified(text)]


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        ("‘quote’ a・b ¿qué?", "quote a b que", "‘quote a・b ¿que"),
        ("co\u00adop", "coop", "co\u00adop"),
        ("1\u0301.5", "0", "0 0"),
        ("１", "0", "0"),
    ],
)
def test_where_it_differs_from_datatrove(text: str, ours: str, theirs: str) -> None:
    assert (normalised(text)[0], simplified(text)) == (ours, theirs)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
@example([b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff"])
def test_bytes_that_are_no_utf8_give_valid_text_and_stay_within_their_own_text(texts: list[bytes]) -> None:
    data = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.cumsum([0, *map(len, texts)])
    together = normalise(data, offsets)
    for index, text in enumerate(texts):
        alone = normalise(np.frombuffer(text, np.uint8), np.array([0, len(text)]))
        assert together[index] == alone[0]
        alone[0].decode("utf-8")


def test_null_texts_are_empty_and_slices_and_chunks_are_read_where_they_lie() -> None:
    array = pa.array(["zero", "One", None, "Two", "three"])
    chunked = pa.chunked_array([array.slice(1, 3), array.slice(4), pa.array([], pa.string())])
    assert [batch[i].decode() for batch in normalised_batches(chunked) for i in range(len(batch))] == [
        "one", "", "two", "three",
    ]  # fmt: skip
    large = pa.array(["A", "B"], pa.large_string())
    assert [batch[i].decode() for batch in normalised_batches(large) for i in range(len(batch))] == ["a", "b"]


def test_texts_are_cut_into_bounded_batches_without_changing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {'x' * (n % 7)}" for n in range(50)]
    whole = normalised(*texts)
    monkeypatch.setattr("curate.stages.dedup.normalise.NORMALISED_BYTES", 20)
    batches = list(normalised_batches(pa.array(texts)))
    assert len(batches) > 10
    assert [batch[i].decode() for batch in batches for i in range(len(batch))] == whole


def test_the_longest_growth_fits() -> None:
    text = "각" * 1000 + "ΐ" * 1000 + "Ⱥ" * 1000
    assert normalised(text) == [definition(text)]


def test_the_hash_is_blake2b_of_the_normalised_text() -> None:
    (batch,) = normalised_batches(pa.array(["One, two", "ONE TWO!", "three"]))
    hashes = text_hashes(batch)
    high, low = (int(value) for value in hashes[0])
    assert (high << 64 | low).to_bytes(16, "big") == hashlib.blake2b(b"one two", digest_size=16).digest()
    assert (hashes[0] == hashes[1]).all()
    assert (hashes[0] != hashes[2]).all()


def test_anything_but_strings_is_refused() -> None:
    with pytest.raises(TypeError, match="strings"):
        list(normalised_batches(pa.array([1, 2])))
