"""Labelled texts come in as they stand; what cannot be used is counted; a site lies on one side of the split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from curate.classifiers.labelled import read_examples, read_rows
from curate.classifiers.model import fold, site
from curate.classifiers.rows import MOST_CHARACTERS, Columns, Tally, raw_rows
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.lines import lines

PLAIN = Columns(label="label", url="url")
PAGES = [
    {"text": f"page {number}", "label": "ab"[number % 2], "url": f"http://www.site{number % 20}.com/{number}"}
    for number in range(100)
]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_every_format_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"data{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(PAGES), path)
    else:
        data = Path(jsonl(tmp_path / "plain.jsonl", PAGES)).read_bytes()
        packed = {".jsonl.gz": gzip.compress, ".jsonl.zst": zstandard.compress}.get(ending, bytes)(data)
        path.write_bytes(packed)
    found = read_examples([str(path)], PLAIN)
    assert found.examples.texts == [row["text"] for row in PAGES]
    assert found.examples.labels == [row["label"] for row in PAGES]
    assert found.examples.groups == [site(row["url"]) for row in PAGES]
    assert found.tally.to_json() == {"rows": 100, "used": 100, "left_out": {}, "noted": {}, "missing_columns": []}


def test_a_site_lies_on_one_side_of_the_split(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", PAGES)
    sides = {
        part: {row.group for row in read_rows([file], PLAIN, Tally(), part=part)} for part in ("train", "kept_out")
    }
    assert sides["train"] and sides["kept_out"]
    assert not sides["train"] & sides["kept_out"]
    assert sides["train"] | sides["kept_out"] == {f"site{number}.com" for number in range(20)}
    assert {fold(name) for name in sides["kept_out"]} == {4}
    marked = read_examples([file], PLAIN).examples
    assert {group for group, out in zip(marked.groups, marked.kept_out, strict=True) if out} == sides["kept_out"]


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path: Path) -> None:
    good = {"text": "t", "label": "l", "url": "http://a.com/"}
    file = jsonl(
        tmp_path / "a.jsonl",
        [good, "{broken", "[1]", '"text"', "", {**good, "text": None}, {**good, "text": "  "}, {**good, "text": 7},
         {**good, "label": None}, {"text": "t", "url": ""}, {**good, "label": ["l"]}, {**good, "url": None}],
    )  # fmt: skip
    tally = Tally()
    assert len(list(read_rows([file], PLAIN, tally))) == 2
    assert tally.to_json() == {
        "rows": 11, "used": 2,
        "left_out": {"a line that is no JSON": 1, "a line that is no JSON object": 2, "no label": 3, "no text": 3},
        "noted": {"without a site: one group together": 1}, "missing_columns": [],
    }  # fmt: skip
    assert tally.rows == tally.used + sum(tally.left_out.values())


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_missing_column_is_an_error_that_names_the_nearest(tmp_path: Path, ending: str) -> None:
    rows, path = [{"text": "t", "lable": "l", "url": "http://a.com/"}], tmp_path / f"a{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        jsonl(path, rows)
    with pytest.raises(UsageError, match=r"--label: no column 'label' .*did you mean 'lable'"):
        read_examples([str(path)], PLAIN)


def test_an_optional_column_that_is_missing_is_said(tmp_path: Path) -> None:
    columns = Columns(label="label", url="url", language="language", optional=frozenset({"language"}))
    found = read_examples([jsonl(tmp_path / "a.jsonl", PAGES)], columns)
    assert found.tally.missing == {"language"}
    assert found.tally.lines() == ["no column 'language' in some or all of the files"]


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_column_within_a_column_is_named_with_a_dot(tmp_path: Path, ending: str) -> None:
    rows, path = [{"text": "t", "meta": {"topic": "l", "url": "http://a.com"}}], tmp_path / f"a{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        jsonl(path, rows)
    found = read_examples([str(path)], Columns(label="meta.topic", url="meta.url"))
    assert (found.examples.labels, found.examples.groups) == (["l"], ["a.com"])


def test_labels_are_text_and_numbers_are_numbers(tmp_path: Path) -> None:
    values = [True, 3, 3.0, 2.5, " x ", "4", float("nan"), float("inf"), 10**400]
    rows = [{"text": "t", "label": value, "url": "http://a.com"} for value in values]
    file = jsonl(tmp_path / "a.jsonl", rows)
    labels = [row.label for row in read_rows([file], PLAIN, Tally())]
    assert labels[:6] == ["true", "3", "3", "2.5", "x", "4"]
    assert len(labels) == 7  # a whole number of 400 digits is a label, if a strange one
    numbers = [row.label for row in read_rows([file], PLAIN, Tally(), target="regression")]
    assert numbers == [1.0, 3.0, 3.0, 2.5, 4.0]


def test_hostile_bytes_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'{"text": "bad \xff\xfe byte", "label": "l", "url": "http://a.com"}\n'
        b'{"text": "lone \\ud800 surrogate", "label": "l", "url": "http://[broken"}\n'
        b'{"text": "'
        + b"x" * (MOST_CHARACTERS + 9)
        + b'", "label": "l", "url": "http://a.com"}\n'
        + b"[" * 100_000
        + b"\n\0\n"
    )
    tally = Tally()
    texts = [row.text for row in read_rows([str(file)], PLAIN, tally)]
    assert texts[:2] == ["bad \ufffd\ufffd byte", "lone \ufffd surrogate"]
    assert len(texts[2]) == MOST_CHARACTERS
    pa.array(texts)
    assert tally.left_out == {"a line that is no JSON": 2}
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"a\xff")]
    )
    table = pa.table({"text": column, "label": ["l"], "url": ["http://a.com"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_examples([str(tmp_path / "a.parquet")], PLAIN).examples.texts == ["a\ufffd"]


@given(st.binary(max_size=200))
def test_any_bytes_give_rows_or_one_clear_error(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.jsonl", "a.parquet"):
            path = Path(folder, name)
            path.write_bytes(data)
            try:
                for row in raw_rows([str(path)], Columns(optional=frozenset({"text"})), Tally()):
                    assert row.problem is None or not row.values
            except CurateError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_file_that_is_cut_off_is_an_error(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(pack("".join(json.dumps(row) + "\n" for row in PAGES).encode())[:-20])
    with pytest.raises(CurateError, match=r"a\.jsonl\.gz: cannot be decompressed .*cut off"):
        read_examples([str(path)], PLAIN)


def test_a_line_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.pipeline.lines.MOST_LINE_BYTES", 100)
    path = tmp_path / "a"
    path.write_bytes(b"a\n" + b"x" * 5_000_000 + b"\nb\n" + b"y" * 101)
    with path.open("rb") as stream:
        assert list(lines(stream, "a")) == [(1, b"a\n"), (2, None), (3, b"b\n"), (4, None)]


def test_a_sample_is_drawn_evenly_and_by_the_seed(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", PAGES)

    def drawn(seed: int) -> list[int]:
        return [int(text.split()[1]) for text in read_examples([file], PLAIN, sample=10, seed=seed).examples.texts]

    assert drawn(1) == drawn(1) == sorted(drawn(1))
    often = [0] * 100
    for seed in range(300):
        for number in drawn(seed):
            often[number] += 1
    assert len(drawn(2)) == 10 and drawn(1) != drawn(2)
    halves = sum(often[:50]), sum(often[50:])
    assert sum(halves) == 3000 and abs(halves[0] - halves[1]) < 250
    assert min(often) > 5


def test_weights_and_confidence_come_along_and_bad_ones_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "w": value, "c": 0.5} for row, value in zip(PAGES, [2, 0, "1.5", -1, None], strict=False)]
    columns = Columns(label="label", url="url", weight="w", confidence="c")
    found = read_examples([jsonl(tmp_path / "a.jsonl", rows)], columns)
    assert found.examples.weights == [2.0, 0.0, 1.5]
    assert found.examples.confidence == [0.5] * 3
    assert found.tally.left_out == {"no weight of 0 or more": 2}


def test_a_warc_is_no_labelled_data(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(b"")
    with pytest.raises(UsageError, match="JSONL or Parquet"):
        read_examples([str(tmp_path / "a.warc.gz")], PLAIN)


def test_a_split_needs_to_know_the_sites() -> None:
    with pytest.raises(UsageError, match="--url"):
        list(read_rows(["a.jsonl"], Columns(label="label"), Tally()))
