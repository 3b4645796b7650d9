from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from megatron_reader import read_megatron

from curate.mixtures.megatron import write_index


@given(st.lists(st.lists(st.integers(0, 65_535), max_size=5), max_size=30), st.sampled_from(["uint16", "int32"]))
def test_megatrons_reader_finds_each_document_as_one_sequence(texts: list[list[int]], dtype: str) -> None:
    sink = io.BytesIO()
    write_index(sink, [len(ids) for ids in texts], dtype)
    data = np.array([token for ids in texts for token in ids], dtype).tobytes()
    found, documents, kind = read_megatron(sink.getvalue(), data)
    assert [ids.tolist() for ids in found] == texts
    assert documents == [[number] for number in range(len(texts))]
    assert np.dtype(kind) == dtype


@pytest.mark.parametrize(
    ("lengths", "dtype"), [([1], "uint32"), ([1], "int64"), ([1 << 31], "uint16"), ([-1], "int32")]
)
def test_what_megatron_cannot_hold_is_refused(lengths: list[int], dtype: str) -> None:
    with pytest.raises(ValueError):
        write_index(io.BytesIO(), lengths, dtype)


def test_offsets_do_not_wrap_beyond_two_gigabytes() -> None:
    sink = io.BytesIO()
    write_index(sink, [2**31 - 1] * 3, "int32")
    assert np.frombuffer(sink.getvalue(), np.int64, 3, 34 + 12).tolist() == [0, 4 * (2**31 - 1), 8 * (2**31 - 1)]


def test_megatron_core_itself_reads_it(tmp_path: Path) -> None:
    module = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="needs megatron-core")
    texts = [[1, 2, 0], [5], [7, 65_000, 0]]
    with (tmp_path / "00000.idx").open("wb") as sink:
        write_index(sink, [len(ids) for ids in texts], "uint16")
    (tmp_path / "00000.bin").write_bytes(np.concatenate(texts).astype("<u2").tobytes())
    found = module.IndexedDataset(str(tmp_path / "00000"))
    assert [found[number].tolist() for number in range(len(found))] == texts
