"""The journal: every answer comes back, and a file that was cut anywhere loses its last line at most."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.classifiers.annotate_journal import Answer, Journal, decode, encode, to_answer
from curate.pipeline.errors import CurateError, WorkspaceLocked

answers = st.builds(
    Answer,
    key=st.text(alphabet="0123456789abcdef", min_size=1, max_size=4),
    attempt=st.integers(0, 20),
    text=st.text(alphabet=st.characters(codec=None), max_size=60),
    tokens_in=st.integers(0, 1 << 40),
    tokens_out=st.integers(0, 1 << 40),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)


@given(answers)
def test_an_answer_comes_back_as_it_was(answer: Answer) -> None:
    line = encode(vars(answer))
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    fields = decode(line)
    assert fields is not None and to_answer(fields) == answer


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reader(line: bytes) -> None:
    assert decode(line) is None or isinstance(decode(line), dict)


@given(answers, st.data())
def test_a_line_with_one_byte_changed_is_no_line(answer: Answer, data: st.DataObject) -> None:
    line = bytearray(encode(vars(answer)))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(line)) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(answers, max_size=6), st.data())
def test_a_journal_cut_at_any_byte_keeps_the_answers_before_the_cut_and_goes_on(
    given_answers: list[Answer], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        ends = []
        with Journal(path) as journal:
            for answer in given_answers:
                journal.append(answer)
                ends.append(path.stat().st_size)
        cut = data.draw(st.integers(0, path.stat().st_size))
        path.write_bytes(path.read_bytes()[:cut])
        kept = [answer for answer, end in zip(given_answers, ends, strict=True) if end <= cut]
        more = Answer("more", 0, "text", 1, 1)
        with Journal(path) as journal:
            journal.append(more)
        with Journal(path) as journal:
            assert (len(journal), journal.damaged) == (len(kept) + 1, 0)
            assert journal.tokens_in == sum(answer.tokens_in for answer in kept) + 1
            for key in {answer.key for answer in kept}:
                assert journal.answers(key) == [answer for answer in kept if answer.key == key]
            assert journal.answers("more") == [more]


def test_damage_in_the_middle_costs_that_line_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path) as journal:
        for number in range(3):
            journal.append(Answer(f"{number:x}", 0, "x", 1, 1))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"x"', b'"y"'), lines[3]]))
    with Journal(path) as journal:
        assert (journal.damaged, len(journal)) == (1, 2)
        assert journal.answers("1") == []
        assert [answer.text for answer in journal.answers("2")] == ["x"]


def test_an_answer_longer_than_a_block_comes_back(tmp_path: Path) -> None:
    long = Answer("a", 0, "é" * 50_000, 1, 1)
    with Journal(tmp_path / "journal") as journal:
        journal.append(long)
        journal.append(Answer("b", 0, "", 1, 1))
        assert journal.answers("a") == [long]


@pytest.mark.parametrize("content", [b"id,url\n1,2\n", b"\0" * 100, b'{"text": "a"}\n', b"PAR1"])
def test_another_kind_of_file_is_refused_and_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_bytes(content)
    with pytest.raises(CurateError, match="no journal"):
        Journal(path)
    assert path.read_bytes() == content


def test_two_processes_cannot_have_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal"), pytest.raises(WorkspaceLocked, match="another process"):
        Journal(tmp_path / "journal")
