"""How far a model compresses text: held-out text really coded with its chances, and decoded again.

As in "Language Modeling Is Compression" (Delétang et al. 2024): the text is cut into chunks of 2,048 bytes, each coded on its
own, beside gzip and LZMA on the same chunks. The model's weights are not counted; what they weigh is said.
"""

from __future__ import annotations

import gzip
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from curate.pipeline.errors import CurateError, UsageError
from curate.pretrain.evaluate import Held
from curate.pretrain.model import Transformer
from curate.pretrain.rangecoder import Decoder, Encoder, Frequencies, cumulative
from curate.pretrain.sample import Reader

CHUNK_BYTES = 2048
BETWEEN = "\n\n"
"""What stands between two documents in the text that is cut."""
_TOGETHER = 16
"""Chunks coded in step."""
_SHARED_FROM = 30_000_000
"""Parameters from which a step is worth several threads."""

Choose = Callable[[int, Frequencies], int]


def compression(
    model: Transformer, tokenizer: Any, held: Held, *, chunks: int, length: int, vocab_size: int
) -> dict[str, Any]:
    """Bytes and rate (coded / plain) of `model`, `gzip` and `lzma` on chunks spread evenly over the held-out text.

    `tokenizer` is a `tokenizers.Tokenizer`. `whole`: gzip and LZMA on all these chunks in one piece, which they are made for.
    Each chunk is decoded again and compared. Raises UsageError for a masked model and a tokenizer that does not give its text
    back, and CurateError where what was decoded is not what was coded.
    """
    if not model.shape.causal:
        raise UsageError("compression: a masked model gives no chances to the next token")
    pieces = _spread(list(chunked(_text(tokenizer, held), CHUNK_BYTES)), chunks)
    if not pieces:
        raise UsageError("compression: there is no held-out text: set mix.validation and run `curate mix` again")
    rows = [_encoded(tokenizer, piece) for piece in pieces]
    codec = Codec(model, held.set.eos, length, vocab_size)
    coded: list[bytes] = []
    began = time.perf_counter()
    model.eval()
    for begin in range(0, len(rows), _TOGETHER):
        part = slice(begin, begin + _TOGETHER)
        codes = codec.encode(rows[part])
        for number, (ids, piece) in enumerate(zip(codec.decode(codes), pieces[part], strict=True)):
            if _decoded(tokenizer, ids).encode() != piece.encode():
                raise CurateError(f"compression: chunk {begin + number} was not decoded to what was encoded")
        coded += codes
    model.train()
    seconds = time.perf_counter() - began
    plain = [piece.encode() for piece in pieces]
    size = sum(map(len, plain))
    result = {
        "chunk_bytes": CHUNK_BYTES, "chunks": len(pieces), "bytes": size, "tokens": sum(map(len, rows)),
        "parameters": model.count_parameters()["all"], "seconds": round(seconds, 3),
        "model": _rate(sum(map(len, coded)), size),
        "gzip": _rate(sum(len(_gzip(piece)) for piece in plain), size),
        "lzma": _rate(sum(len(_lzma(piece)) for piece in plain), size),
    }  # fmt: skip
    joined = b"".join(plain)
    return result | {"whole": {"gzip": _rate(len(_gzip(joined)), size), "lzma": _rate(len(_lzma(joined)), size)}}


class Codec:
    """Rows of token ids to bytes and back, with a model's chances for the next token.

    Each row begins anew and is ended by an end-of-text token, which is coded too. Encoder and decoder make the same
    calls of the model, token by token, on tensors of the same shapes with the same values: so they see the same bits,
    on one machine, which is all that is asked.
    """

    def __init__(self, model: Transformer, eos: int, length: int, vocab_size: int) -> None:
        self.model = model
        self.eos = eos
        self.length = length
        self.vocab_size = vocab_size

    def encode(self, rows: Sequence[Sequence[int]]) -> list[bytes]:
        """The bytes of each row; ValueError for one with an end-of-text token in it."""
        if any(self.eos in row for row in rows):
            raise ValueError("the end-of-text token ends a row: it cannot stand in one")
        encoders = [Encoder() for _ in rows]
        waiting = [iter([*row, self.eos]) for row in rows]

        def choose(row: int, starts: Frequencies) -> int:
            token = next(waiting[row])
            encoders[row].encode(int(starts[token]), int(starts[token + 1]))
            return token

        self._walk(len(rows), choose)
        return [encoder.finish() for encoder in encoders]

    def decode(self, codes: Sequence[bytes]) -> list[list[int]]:
        """The rows that these bytes stand for; asked for as many at a time as were encoded together."""
        decoders = [Decoder(code) for code in codes]
        rows: list[list[int]] = [[] for _ in codes]

        def choose(row: int, starts: Frequencies) -> int:
            token = decoders[row].decode(starts)
            if token != self.eos:
                rows[row].append(token)
            return token

        self._walk(len(codes), choose)
        return rows

    @torch.no_grad()
    def _walk(self, count: int, choose: Choose) -> None:
        """Asks for the next token of every row that has not ended, step by step; rows that have are fed end-of-text."""
        with _few_threads(self.model):
            self._steps(count, choose)

    def _steps(self, count: int, choose: Choose) -> None:
        reader = Reader(self.model, self.length)
        logits, going = reader.read([[self.eos]] * count), list(range(count))
        while True:
            chances = torch.softmax(logits[:, : self.vocab_size].double().cpu(), dim=-1).numpy()
            starts = cumulative(chances)
            tokens = [self.eos] * count
            for row in going:
                tokens[row] = choose(row, starts[row])
            going = [row for row in going if tokens[row] != self.eos]
            if not going:
                return
            logits = reader.add(tokens)


@contextmanager
def _few_threads(model: Transformer) -> Iterator[None]:
    """One thread for a small model on a CPU: a step is too short to be shared, and threads that wait for each other spin."""
    before = torch.get_num_threads()
    small = model.embedding.weight.device.type == "cpu" and model.count_parameters()["all"] < _SHARED_FROM
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def chunked(text: str, size: int) -> Iterator[str]:
    """The text in pieces of at most `size` UTF-8 bytes, as long as whole characters allow."""
    data = text.encode()
    begin = 0
    while begin < len(data):
        end = min(begin + size, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[begin:end].decode()
        begin = end


def _text(tokenizer: Any, held: Held) -> str:
    ids = held.ids()
    keep = ~held.ends_document(ids)
    begins = np.concatenate([[0], held.ends])[:-1]
    return BETWEEN.join(
        _decoded(tokenizer, ids[begin:end][keep[begin:end]].tolist())
        for begin, end in zip(begins, held.ends, strict=True)
    )


def _spread(pieces: list[str], wanted: int) -> list[str]:
    """So many of the pieces, at equal distances."""
    count = min(wanted, len(pieces))
    return [pieces[number * len(pieces) // count] for number in range(count)]


def _encoded(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    if _decoded(tokenizer, ids) != text:
        raise UsageError(
            "compression: the tokenizer does not give back the text that it is given (it normalises it, say): only a "
            "tokenizer that loses nothing can code text, such as the one that `curate mix` trains"
        )
    return ids


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


def _lzma(data: bytes) -> bytes:
    """With the 13-byte header of the `.lzma` format: that of `.xz` would add 50 bytes to each chunk."""
    return lzma.compress(data, format=lzma.FORMAT_ALONE, preset=9)


def _rate(coded: int, size: int) -> dict[str, float]:
    return {"bytes": coded, "rate": coded / size, "bits_per_byte": 8 * coded / size}
