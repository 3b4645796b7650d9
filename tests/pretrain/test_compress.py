"""The range coder against arbitrary chances, the coded size against the model's cross-entropy, and the way back."""

from __future__ import annotations

import gzip
import lzma
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mixes import byte_tokenizer, text_mix, write_mix

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain import compress
from curate.pretrain.compress import Codec, chunked, compression
from curate.pretrain.evaluate import Held
from curate.pretrain.loss import predict
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.rangecoder import TOTAL, Decoder, Encoder, cumulative
from curate.pretrain.tokens import TokenSet


def model_of(seed=0, scale=1.0, **shape):
    """A small model with chances far from uniform where `scale` is large."""
    made = {"vocab_size": 320, "layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "ffn": 24} | shape
    model = Transformer(ModelShape(**made))
    model.init_weights(seed)
    with torch.no_grad():
        model.embedding.weight.mul_(scale)
    return model


def coded(starts, symbols):
    encoder = Encoder()
    for row, symbol in zip(starts, symbols, strict=True):
        encoder.encode(int(row[symbol]), int(row[symbol + 1]))
    return encoder.finish()


@st.composite
def messages(draw):
    """Symbols, each with chances of its own: even ones, nearly certain ones, impossible ones."""
    count = draw(st.integers(2, 12))
    weight = st.sampled_from([0.0, 1e-300, 1e-12, 1e-3, 0.5, 1.0, 1e6]) | st.floats(0, 1)
    rows = draw(st.lists(st.lists(weight, min_size=count, max_size=count).filter(any), max_size=60))
    symbols = [draw(st.integers(0, count - 1)) for _ in rows]
    return [np.asarray(row) / np.sum(row) for row in rows], symbols


@given(messages())
@example(([np.array([1.0, 0.0])] * 50, [1] * 50))
@example(([np.array([1.0, 0.0])] * 50, [0] * 50))
@example(([np.array([0.0, 1.0]), np.array([0.5, 0.5])] * 30, [1, 1] * 30))
def test_any_symbols_with_any_chances_come_back_and_cost_what_their_chances_say(message):
    chances, symbols = message
    starts = [cumulative(row[None])[0] for row in chances]
    data = coded(starts, symbols)
    decoder = Decoder(data)
    assert [decoder.decode(row) for row in starts] == symbols
    sizes = [row[symbol + 1] - row[symbol] for row, symbol in zip(starts, symbols, strict=True)]
    assert 8 * len(data) <= sum(32 - math.log2(size) for size in sizes) + 8 + 1e-6 * len(symbols)


@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
def test_frequencies_are_whole_positive_and_near_the_chances(seed, symbols):
    chances = np.random.default_rng(seed).dirichlet(np.full(symbols, 0.05), size=3)
    starts = cumulative(chances)
    sizes = np.diff(starts, axis=1)
    assert (starts[:, 0] == 0).all() and (starts[:, -1] == TOTAL).all() and (sizes >= 1).all()
    assert np.abs(sizes / TOTAL - chances).max() <= 2 * symbols / TOTAL


def test_a_carry_runs_through_bytes_that_are_already_written():
    certain = [(0, 1), (TOTAL - 1, TOTAL), (1, TOTAL), (TOTAL // 2, TOTAL)]
    random = np.random.default_rng(0)
    for _ in range(200):
        chosen = [certain[k] for k in random.integers(0, 4, 40)]
        encoder = Encoder()
        for start, end in chosen:
            encoder.encode(start, end)
        decoder = Decoder(encoder.finish())
        for start, end in chosen:
            edges = np.array(sorted({0, start, end, TOTAL}))
            assert decoder.decode(edges) == edges.tolist().index(start)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_rows_are_decoded_as_they_were_and_take_the_model_s_cross_entropy(scale):
    model = model_of(scale=scale)
    random = np.random.default_rng(0)
    rows = [random.integers(0, 319, size).tolist() for size in (60, 1, 0, 33)]
    codec = Codec(model, eos=319, length=64, vocab_size=320)
    codes = codec.encode(rows)
    assert codec.decode(codes) == rows
    for row, code in zip(rows, codes, strict=True):
        bits = predict(model, torch.tensor([[319, *row]]), torch.tensor([[*row, 319]])).sum().item() / math.log(2)
        assert bits - 1e-3 * bits - 1 <= 8 * len(code) <= bits * 1.001 + 9


def test_ids_beyond_the_vocabulary_get_no_part_of_the_code():
    model = model_of()
    rows = [[5, 6, 7] * 20]
    narrow = Codec(model, 9, 64, vocab_size=10)
    codes = narrow.encode(rows)
    assert narrow.decode(codes) == rows
    assert len(codes[0]) == pytest.approx(61 * math.log2(10) / 8, rel=0.1)
    with pytest.raises(ValueError, match="cannot stand in one"):
        narrow.encode([[5, 9]])


@given(st.text(max_size=60), st.integers(4, 12))
def test_chunks_hold_whole_characters_and_are_the_text(text, size):
    pieces = list(chunked(text, size))
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= size for piece in pieces)
    assert all(len(piece.encode()) > size - 4 for piece in pieces[:-1])


def held(folder):
    workspace = Workspace(folder)
    text_mix(workspace, held_out=12)
    return Held(TokenSet(workspace, "validation"), 10_000)


def test_the_sizes_are_those_of_the_coded_chunks_beside_gzip_and_lzma(tmp_path, monkeypatch):
    monkeypatch.setattr(compress, "CHUNK_BYTES", 150)
    found = compression(model_of(), byte_tokenizer(), held(tmp_path), chunks=3, length=32, vocab_size=257)
    assert (found["chunks"], found["bytes"], found["tokens"]) == (3, 450, 450)
    assert found["model"]["bits_per_byte"] == pytest.approx(math.log2(257), rel=0.02)  # nothing was learnt
    text = compress._text(byte_tokenizer(), held(tmp_path / "again")).encode()
    begins = [150 * (number * -(-len(text) // 150) // 3) for number in range(3)]
    chunks = [text[begin : begin + 150] for begin in begins]
    assert found["gzip"]["bytes"] == sum(len(gzip.compress(chunk, 9)) for chunk in chunks)
    assert found["lzma"]["bytes"] == sum(len(lzma.compress(chunk, lzma.FORMAT_ALONE, preset=9)) for chunk in chunks)
    assert found["whole"]["gzip"]["bytes"] == len(gzip.compress(b"".join(chunks), 9))


def test_what_is_decoded_wrongly_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(compress, "CHUNK_BYTES", 30)
    walk = Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda self, codes: [row[:-1] for row in walk(self, codes)])
    with pytest.raises(CurateError, match="chunk 0 was not decoded"):
        compression(model_of(), byte_tokenizer(), held(tmp_path), chunks=1, length=32, vocab_size=257)


def test_a_tokenizer_that_loses_text_and_a_masked_model_are_refused(tmp_path):
    from tokenizers import normalizers

    tokenizer = byte_tokenizer()
    tokenizer.normalizer = normalizers.Replace("sea", "land")
    with pytest.raises(UsageError, match="does not give back"):
        compression(model_of(), tokenizer, held(tmp_path), chunks=4, length=32, vocab_size=257)
    with pytest.raises(UsageError, match="masked"):
        compression(model_of(causal=False), tokenizer, held(tmp_path / "b"), chunks=1, length=32, vocab_size=257)
    empty = Workspace(tmp_path / "c")
    write_mix(empty, [([1, 256], 1, "")])
    nothing = Held(TokenSet(empty, "validation"), 10)
    with pytest.raises(UsageError, match="no held-out text"):
        compression(model_of(), tokenizer, nothing, chunks=1, length=32, vocab_size=257)


@settings(max_examples=10, deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_back_through_tokenizer_model_and_coder(text):
    tokenizer = byte_tokenizer()
    tokenizer.encode_special_tokens = True
    codec = Codec(model_of(scale=5.0), 256, 16, 257)
    rows = [tokenizer.encode(text, add_special_tokens=False).ids]
    assert tokenizer.decode(codec.decode(codec.encode(rows))[0]) == text
