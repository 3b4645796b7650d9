"""Reads a dataset as Megatron-LM's `_IndexReader` and `IndexedDataset.__getitem__` do, written plainly.

Source: Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import numpy.typing as npt

CODES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}


def read_megatron(index: bytes, data: bytes) -> tuple[list[npt.NDArray[np.int64]], list[list[int]], type]:
    """(ids of each sequence, sequences of each document, type) of a dataset's `.idx` and `.bin`."""
    assert index[:9] == b"MMIDIDX\x00\x00"
    assert struct.unpack("<Q", index[9:17]) == (1,)
    dtype = CODES[index[17]]
    sequences, borders = struct.unpack("<QQ", index[18:34])
    lengths = np.frombuffer(index, np.int32, sequences, 34)
    pointers = np.frombuffer(index, np.int64, sequences, 34 + lengths.nbytes)
    documents = np.frombuffer(index, np.int64, borders, 34 + lengths.nbytes + pointers.nbytes)
    assert len(index) == 34 + lengths.nbytes + pointers.nbytes + documents.nbytes
    assert documents[0] == 0 and documents[-1] == sequences
    ids = [
        np.frombuffer(data, dtype, length, pointer).astype(np.int64)
        for length, pointer in zip(lengths, pointers, strict=True)
    ]
    return ids, [list(range(begin, end)) for begin, end in pairwise(documents)], dtype
