"""Megatron-LM's index beside each token file: `mix/tokens/00000` and its like are then datasets of Megatron-LM as they lie.

Format: Megatron-LM, `megatron/core/datasets/indexed_dataset.py`. A dataset is `<prefix>.bin`, the ids of all sequences one
after another, and `<prefix>.idx`, where they begin. Our `.bin` is just that, so nothing is written twice.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.pipeline.documents import read_batches
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.stage import Context
from curate.pretrain.tokens import Sink, TokensJson

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
CODES = {np.dtype("<u2"): 8, np.dtype("<i4"): 4}
"""Megatron-LM's numbers of the types of ids; it has no uint32."""
_HEADER = struct.Struct("<9sQBQQ")


def write_index(sink: Sink, lengths: npt.ArrayLike, dtype: str | np.dtype[Any]) -> None:
    """Writes the `.idx` of a `.bin` whose documents have these many ids each, every document being one sequence.

    `dtype` is uint16 or int32. Layout, little-endian, nothing between: 9 bytes of magic, the version (8 bytes), the type's
    code (1), the numbers of sequences and of borders (8 each), ids a sequence (int32), bytes before each (int64), sequences
    before each document and after the last (int64). Raises ValueError for another type and for a length that is not one.
    """
    ids = np.dtype(dtype).newbyteorder("<")
    if ids not in CODES:
        raise ValueError(f"Megatron-LM's ids are uint16 or int32 here, not {ids}")
    sizes = np.asarray(lengths, dtype=np.int64).reshape(-1)
    if sizes.size and (int(sizes.min()) < 0 or int(sizes.max()) > np.iinfo(np.int32).max):
        raise ValueError(f"a document has {int(sizes.min())} to {int(sizes.max())} ids: lengths are of 32 bits")
    sink.write(_HEADER.pack(MAGIC, VERSION, CODES[ids], len(sizes), len(sizes) + 1))
    sink.write(sizes.astype("<i4").tobytes())
    sink.write(((np.cumsum(sizes) - sizes) * ids.itemsize).astype("<i8").tobytes())
    sink.write(np.arange(len(sizes) + 1, dtype="<i8").tobytes())


def index(context: Context) -> Counts:
    """The `.idx` of one output file of the mix, from its own index."""
    with context.open(context.input("mix")) as stream:
        mix = TokensJson.model_validate_json(stream.read())
    if mix.vocab_size > 1 << 31:
        raise UsageError(f"mix.export: Megatron-LM's ids end at 2^31, the vocabulary has {mix.vocab_size:,} entries")
    with context.open(context.input("index")) as stream:
        batches = [batch.column("tokens").to_numpy() for batch in read_batches(stream, ["tokens"])]
    lengths = np.concatenate([np.empty(0, np.int32), *batches])
    tokens = context.input("tokens")
    width = np.dtype(mix.dtype).itemsize
    if int(lengths.sum(dtype=np.int64)) * width != tokens.size:
        raise CurateError(f"{tokens.path} and its index do not agree: run `curate mix` again")
    with context.create("idx") as output:
        write_index(output, lengths, "uint16" if width == 2 else "int32")
    return Counts(records=len(lengths), kept=len(lengths))
