from __future__ import annotations

import unicodedata

import filter_oracle as oracle
import numpy as np
import pyarrow as pa
import pytest
from filter_texts import mixed, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.text import Segmented, Spans, segment
from curate.stages.text import unicode as classes


def parts(batch: Segmented, spans: Spans) -> list[list[str]]:
    """The strings that spans stand for, a list a document."""
    cut = [bytes(batch.bytes[a:b]).decode() for a, b in zip(spans.start, spans.stop, strict=True)]
    return [cut[a:b] for a, b in zip(spans.first[:-1], spans.first[1:], strict=True)]


@given(st.lists(texts, max_size=4))
@settings(max_examples=300, deadline=None)
def test_lines_paragraphs_and_words_are_those_of_the_plain_definition(batch):
    cut = segment(batch)
    assert parts(cut, cut.lines) == [oracle.lines(text) for text in batch]
    assert parts(cut, cut.paragraphs) == [oracle.paragraphs(text) for text in batch]
    assert parts(cut, cut.words) == [[word for word, _ in oracle.words(text)] for text in batch]
    assert cut.chars.tolist() == [len(text) for text in batch]
    assert cut.words.chars.tolist() == [len(word) for text in batch for word, _ in oracle.words(text)]
    assert list(cut) == batch


@given(st.lists(mixed, max_size=4))
@settings(max_examples=300, deadline=None)
def test_sentences_are_those_of_the_plain_definition(batch):
    cut = segment(batch)
    assert parts(cut, cut.sentences) == [oracle.sentences(text) for text in batch]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("He said “go.” She went.", ["He said “go.”", "She went."]),
        ("See e.g. this one, at 3.14 m.", ["See e.g. this one, at 3.14 m."]),
        ("A heading\nA line.", ["A heading", "A line."]),
        ("你好。再见！谁", ["你好。", "再见！", "谁"]),
        ("क्या? हाँ। ठीक", ["क्या?", "हाँ।", "ठीक"]),
        ("... !!! ---", []),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text, sentences):
    cut = segment([text])
    assert parts(cut, cut.sentences) == [sentences]


def test_scripts_without_spaces_are_cut_at_each_letter_with_its_marks():
    cut = segment(["ที่ไหน 你好world。 ひらがな 12月"])
    assert parts(cut, cut.words) == [["ที่", "ไ", "ห", "น", "你", "好", "world。", "ひ", "ら", "が", "な", "12", "月"]]


def test_every_code_point_of_the_unspaced_scripts_is_in_the_table_and_no_other():
    table = classes.classes()
    wrong = [
        hex(point)
        for point in range(classes.CODE_POINTS)
        if not 0xD800 <= point < 0xE000 and oracle.unspaced(chr(point)) != bool(table[point] & classes.UNSPACED)
    ]
    assert wrong == []


@given(st.characters(exclude_categories=["Cs"]))
def test_classes_are_those_of_unicode(char):
    bits = int(classes.classes()[ord(char)])
    assert bool(bits & classes.LETTER) == char.isalpha()
    assert bool(bits & classes.DIGIT) == char.isdecimal()
    assert bool(bits & classes.SPACE) == char.isspace()
    assert bool(bits & classes.SYMBOL) == (unicodedata.category(char)[0] in "PS")
    assert bool(bits & classes.PLAIN) == (not bits & classes.SYMBOL)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_slices_nulls_and_chunks_of_any_string_array_are_read_right(kind):
    array = pa.array(["skip me", "a b", None, "", "c\nd"], kind)
    assert list(segment(array.slice(1, 3))) == ["a b", "", ""]
    cut = segment(pa.chunked_array([array.slice(4), array.slice(0, 2)]))
    assert parts(cut, cut.words) == [["c", "d"], ["skip", "me"], ["a", "b"]]
    assert segment(pa.array([], kind)).words.count.tolist() == []


def test_numbers_are_refused_as_texts():
    with pytest.raises(TypeError, match="int64"):
        segment(pa.array([1, 2]))


broken = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from(["a", " ", "\n", "[1]", "字", "é.", "😀"]).flatmap(
            lambda text: st.integers(1, 4).map(lambda size: text.encode()[:size])
        ),
        st.sampled_from([b"\xed\xa0\x80", b"\xe0\x80\x8a", b"\xf4\x90\x80\x80", b"\xe3", b"\xf0\x9f"]),
    ),
    max_size=20,
).map(b"".join)
"""Bytes with sequences cut short, surrogates, code points written too long."""


@given(st.lists(broken, min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_each_byte_that_is_no_utf8_is_one_replacement_character(blobs):
    offsets = np.cumsum([0, *map(len, blobs)], dtype=np.int32)
    array = pa.StringArray.from_buffers(len(blobs), pa.py_buffer(offsets), pa.py_buffer(b"".join(blobs)))
    cut = segment(array)
    escaped = [blob.decode("utf-8", "surrogateescape") for blob in blobs]
    clean = segment(["".join("\ufffd" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text) for text in escaped])
    assert cut.chars.tolist() == clean.chars.tolist()
    for spans, same in (
        (cut.lines, clean.lines), (cut.paragraphs, clean.paragraphs), (cut.sentences, clean.sentences),
        (cut.words, clean.words), (cut.tokens, clean.tokens), (cut.normal.words, clean.normal.words),
    ):  # fmt: skip
        assert spans.first.tolist() == same.first.tolist()
        assert spans.chars.tolist() == same.chars.tolist()
        assert spans.bits.tolist() == same.bits.tolist()
    assert all(isinstance(text, str) for text in cut)


def test_a_batch_is_freed_when_nothing_asks_for_it_any_more():
    import gc
    import weakref

    gc.disable()  # a batch in a cycle would wait for the collector, which many megabytes of arrays do not wake
    try:
        cut = segment(["one two"])
        watched = weakref.ref(cut), weakref.ref(cut.normal), weakref.ref(cut.words)
        assert cut.before is cut
        assert cut.once(len) == 1
        del cut
        assert [one() for one in watched] == [None] * 3
    finally:
        gc.enable()


def test_a_line_of_a_megabyte_and_a_text_of_one_word_are_cut():
    cut = segment(["x" * (1 << 20), "y " * (1 << 19)])
    assert cut.words.count.tolist() == [1, 1 << 19]
    assert cut.words.chars.max() == 1 << 20


@given(
    st.lists(texts, max_size=4),
    st.sampled_from(["\n", "#", "...", "…", "{", "}", "@", "a", "[1]", "ipsum", "lorem ipsum"]),
)
@settings(max_examples=300, deadline=None)
def test_strings_are_counted_as_python_counts_them(batch, needle):
    assert segment(batch).occurrences(needle).tolist() == [text.count(needle) for text in batch]
    expected = [oracle.lower(text).count(needle) for text in batch]
    assert segment(batch).occurrences(needle, ignore_case=True).tolist() == expected


def test_full_stops_in_a_row_are_ellipses_three_at_a_time():
    assert segment(["..", "....", "a......b.", ". . ."]).occurrences("...").tolist() == [0, 1, 2, 0]


@given(st.lists(st.one_of(texts, st.text("aAbBéÉßẞİKΣς .,", max_size=30)), min_size=1, max_size=4), st.data())
@settings(max_examples=300, deadline=None)
def test_words_of_a_list_are_found_in_either_case_and_between_punctuation(batch, data):
    lists = [("the", "and", "HAVE", "The"), ("école", "ß", "a", "k", "слово"), ()]
    choice = data.draw(st.lists(st.integers(0, 2), min_size=len(batch), max_size=len(batch)))
    expected = [
        len({lower(oracle.bare(word)) for word, _ in oracle.words(text)} & set(map(lower, lists[number])))
        for text, number in zip(batch, choice, strict=True)
    ]
    assert segment(batch).distinct_words(lists, np.array(choice)).tolist() == expected


def lower(text: str) -> str:
    return "".join(char.lower()[0] for char in text)


def test_counting_as_datatrove_words_of_a_list_are_tokens_as_they_stand():
    assert segment(["(The end, that is.)"]).distinct_words([("the", "that", "end")]).tolist() == [3]
    assert segment(["(The end, that is.)"], counting="datatrove").distinct_words([("the", "that", "end")]).tolist() == [
        2
    ]


def test_a_choice_of_a_list_that_is_not_there_is_refused():
    for choice in ([1], [-1], [0, 0]):
        with pytest.raises(ValueError, match="choice"):
            segment(["a"]).distinct_words([("a",)], np.array(choice))


def test_what_several_signals_share_is_computed_once():
    calls = []
    cut = segment(["a", "b"], known={"language": ["en", None]})
    assert cut.once(lambda texts: calls.append(texts) or len(texts)) == 2
    once = calls.append
    assert cut.once(once) is cut.once(once) is None
    assert calls == [cut, cut]
    assert cut.known["language"] == ["en", None]


def test_a_kernel_is_compiled_anew_where_what_it_calls_has_changed(tmp_path):
    import shutil
    import subprocess
    import sys
    from pathlib import Path

    import curate.stages.text as room

    copy = tmp_path / "room"
    shutil.copytree(Path(room.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.glob("*.py"):
        path.write_text(path.read_text().replace("curate.stages.text", "room"))
    code = (
        "import numpy as np, room.find as find;"
        "print(find.hash_word(np.frombuffer(b'ab', np.uint8), 0, 2, np.arange(9, dtype=np.int32)))"
    )

    def run() -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout

    before = run()
    kernels = copy / "kernels.py"
    kernels.write_text(kernels.read_text().replace("return b, 1", "return b + 1, 1"))
    assert run() != before


def test_a_kernel_of_another_room_is_compiled_anew_where_a_room_that_it_calls_has_changed(monkeypatch):
    from pathlib import Path

    import curate.stages.filter.repeat_kernels as repeats
    from curate.stages.text import kernels

    before = kernels.stamp.__wrapped__(repeats.__name__)
    for name in ("repeat_kernels.py", "folding.py", "kernels.py"):
        changed = lambda path, name=name: b"changed" if path.name == name else path.open("rb").read()  # noqa: E731
        monkeypatch.setattr(Path, "read_bytes", changed)
        assert kernels.stamp.__wrapped__(repeats.__name__) != before


def test_the_kernels_are_not_loaded_by_importing_the_room():
    import subprocess
    import sys

    code = "import sys, curate.stages.text, curate.stages.filter.stage, curate.stages.filter; print('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    "text", ["a b c d e f g h i j k l ", "你好世界", "a\n\nb\n", "a. b! c? ", "((((a", "가각간", "\ufdfa\u0390"]
)
def test_many_texts_of_more_parts_than_usual_are_cut_as_each_alone(text):
    batch = [text * times for times in (40, 1, 0, 200, 40, 40, 40, 40)] * 8
    cut = segment(batch)
    for row in (3, 7, 60, 63):
        alone = segment([batch[row]])
        for whole, single in (
            (cut.words, alone.words), (cut.lines, alone.lines), (cut.paragraphs, alone.paragraphs),
            (cut.sentences, alone.sentences), (cut.tokens, alone.tokens), (cut.normal.words, alone.normal.words),
        ):  # fmt: skip
            low, high = whole.first[row], whole.first[row + 1]
            assert whole.hashes[low:high].tolist() == single.hashes.tolist()
            assert whole.chars[low:high].tolist() == single.chars.tolist()
        assert cut.normal[row] == alone.normal[0]
        assert cut.chars[row] == len(batch[row])
