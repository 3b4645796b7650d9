"""Validation numbers against sums done by hand, and what a sample is."""

from __future__ import annotations

import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mixes import byte_tokenizer, text_mix, write_mix

from curate.pipeline.workspace import Workspace
from curate.pretrain.data import Masking
from curate.pretrain.evaluate import Held, causal_rows, evaluate
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.sample import fill, generate, text_sample
from curate.pretrain.tokens import TokenSet


class Bigram(torch.nn.Module):
    """A language model that one can reckon with: the chance of a token depends on the one before it, by a table."""

    def __init__(self, chances):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(chances), 1)
        self.head_weight = torch.tensor(chances, dtype=torch.float64).log().float().T
        self.shape = ModelShape(len(chances), layers=0, width=2, heads=1, kv_heads=1, ffn=1)
        self.dtype = torch.float32

    def hidden(self, tokens):
        return torch.nn.functional.one_hot(tokens, self.head_weight.size(0)).float()

    def trunk(self, tokens, cos, sin, mask, memory):
        return self.hidden(tokens)

    def rotation(self, length, device):
        return torch.ones(length, 1), torch.zeros(length, 1)

    def forward(self, tokens):
        return self.hidden(tokens) @ self.head_weight.T


CHANCES = [[0.5, 0.25, 0.25], [0.125, 0.5, 0.375], [0.0625, 0.1875, 0.75]]
"""Of the next token (column) after each token (row); 0 ends a document."""


def held(folder, documents, limit=1000):
    workspace = Workspace(folder)
    write_mix(workspace, [([1, 0], 1, "")], documents, vocab_size=3, eos=0)
    return Held(TokenSet(workspace, "validation"), limit)


@pytest.mark.parametrize(("length", "rows"), [(2, 1), (3, 2), (100, 4)])
def test_bits_per_byte_are_the_bits_of_the_text_tokens_over_their_bytes(tmp_path, length, rows):
    # Two documents: 1 2 end (5 bytes), and 1 1, cut by the budget so that nothing ends it (4 bytes).
    scores = evaluate(
        Bigram(CHANCES),
        held(tmp_path, [([1, 2, 0], 5, "a"), ([1, 1], 4, "b")]),
        length=length,
        rows=rows,
        masking=None,
        seed=0,
    )
    # After the end: P(1|end) = 1/4; P(2|1) = 3/8; P(end|2) = 1/16; P(1|end) = 1/4; P(1|1) = 1/2.
    a, end, b = 2 - math.log2(3 / 8), 4, 2 + 1
    assert scores["bits_per_byte"] == pytest.approx((a + b) / 9, rel=1e-6)
    assert scores["loss"] == pytest.approx((a + end + b) * math.log(2) / 5, rel=1e-6)
    assert (scores["tokens"], scores["bytes"]) == (5, 9)
    assert scores["buckets"]["a"]["bits_per_byte"] == pytest.approx(a / 5, rel=1e-6)
    assert scores["buckets"]["a"]["loss"] == pytest.approx((a + end) * math.log(2) / 3, rel=1e-6)
    assert scores["buckets"]["b"]["bits_per_byte"] == pytest.approx(b / 4, rel=1e-6)


def test_bits_per_byte_by_language_count_the_documents_of_each(tmp_path):
    documents = [([1, 2, 0], 5, "a", "de"), ([1, 1, 0], 4, "a", "en"), ([2, 0], 3, "b", "de"), ([1, 0], 2, "b", "")]
    scores = evaluate(Bigram(CHANCES), held(tmp_path, documents), length=4, rows=2, masking=None, seed=0)
    # P(1|end) = 1/4, P(2|1) = 3/8; P(2|end) = 1/4. P(1|end) = 1/4, P(1|1) = 1/2.
    german, english, unknown = 2 - math.log2(3 / 8) + 2, 2 + 1, 2
    assert {name: each["bytes"] for name, each in scores["languages"].items()} == {"": 2, "de": 8, "en": 4}
    assert scores["languages"]["de"]["bits_per_byte"] == pytest.approx(german / 8, rel=1e-6)
    assert scores["languages"]["en"]["bits_per_byte"] == pytest.approx(english / 4, rel=1e-6)
    assert scores["languages"][""]["bits_per_byte"] == pytest.approx(unknown / 2, rel=1e-6)
    assert scores["snapshots"]["S"]["bits_per_byte"] == scores["bits_per_byte"]
    assert sum(each["tokens"] for each in scores["languages"].values()) == scores["tokens"] == 10


def test_a_mix_from_before_languages_is_evaluated_without_them(tmp_path):
    found = held(tmp_path, [([1, 2, 0], 5, "a", "de")])
    path = tmp_path / "mix/validation/00000.idx.parquet"
    pq.write_table(pq.read_table(path).drop_columns("language"), path)
    older = Held(TokenSet(Workspace(tmp_path), "validation"), 1000)
    scores = evaluate(Bigram(CHANCES), older, length=4, rows=2, masking=None, seed=0)
    assert scores["languages"] == {}
    assert scores == evaluate(Bigram(CHANCES), found, length=4, rows=2, masking=None, seed=0) | {"languages": {}}
    assert [item.language for item in older.set.documents_in([0], 1)] == [""]


@pytest.mark.parametrize("masking", [None, Masking(mask=3, vocab_size=3, special=(0, 3), fraction=0.3)])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_all_batches_have_one_shape_and_rows_do_not_change_the_scores(tmp_path, masking, rows):
    found = held(tmp_path, [([1, 2] * 20 + [0], 60, "a"), ([2] * 35 + [0], 40, "b")])
    shapes = set()

    class Watched(Transformer):
        def hidden(self, tokens):
            shapes.add(tuple(tokens.shape))
            return super().hidden(tokens)

    model = Watched(ModelShape(vocab_size=4, layers=1, width=8, heads=2, kv_heads=2, ffn=8, causal=masking is None))
    model.init_weights(0)
    scores = evaluate(model, found, length=10, rows=rows, masking=masking, seed=1)
    assert shapes == {(min(rows, 8 if masking is None else 7), 10)}
    one = evaluate(model, found, length=10, rows=1, masking=masking, seed=1)
    assert scores["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert scores["tokens"] == one["tokens"] == (77 if masking is None else 7 * 3)


@given(size=st.integers(1, 40), length=st.integers(2, 9), rows=st.integers(1, 4))
def test_every_token_is_predicted_exactly_once_from_the_one_before(size, length, rows):
    ids = np.arange(1, size + 1)
    predicted = []
    for offsets, batch in causal_rows(ids, 0, length, rows):
        assert batch.inputs.shape == batch.targets.shape == offsets.shape
        real = batch.targets >= 0
        assert np.array_equal(batch.targets[real] - 1, batch.inputs[real])
        assert np.array_equal(ids[offsets[real]], batch.targets[real])
        predicted += batch.targets[real].tolist()
    assert predicted == ids.tolist()


def test_a_limit_takes_whole_documents_and_their_bytes_only(tmp_path):
    documents = [([1, 2, 0], 5, "a"), ([1, 1, 0], 7, "b"), ([2, 2, 0], 9, "c")]
    found = held(tmp_path, documents, limit=4)
    assert (found.tokens, found.bytes.tolist(), found.groups["buckets"][0]) == (6, [5, 7], ["a", "b"])


def test_a_masked_model_is_scored_on_the_same_masks_each_time_and_has_no_bits_per_byte(tmp_path):
    found = held(tmp_path, [([1, 2] * 20 + [0], 60, "a"), ([2] * 30 + [0], 40, "b")])
    masking = Masking(mask=3, vocab_size=3, special=(0, 3), fraction=0.3)
    model = Transformer(ModelShape(vocab_size=4, layers=1, width=8, heads=2, kv_heads=2, ffn=8, causal=False))
    model.init_weights(0)
    scores = [evaluate(model, found, length=10, rows=2, masking=masking, seed=1) for _ in range(2)]
    assert scores[0] == scores[1]
    assert scores[0]["bits_per_byte"] is None
    assert scores[0]["tokens"] == 7 * 3
    assert scores[0]["loss"] == pytest.approx(math.log(4), abs=0.15)


def test_greedy_text_follows_the_likeliest_token_and_a_seed_repeats_a_drawn_one():
    always = [[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]
    assert generate(Bigram(always), [], count=9, length=4, eos=0, seed=0, temperature=0) == [1, 2]
    assert generate(Bigram(always), [1], count=9, length=4, eos=0, seed=0, temperature=0) == [2]
    endless = [[0.02, 0.49, 0.49], [0.0001, 0.5, 0.4999], [0.0001, 0.5, 0.4999]]
    drawn = [generate(Bigram(endless), [1], count=30, length=4, eos=0, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == {1, 2}


def test_a_masked_sample_puts_ids_in_where_something_was_hidden_only(tmp_path):
    model = Transformer(ModelShape(vocab_size=258, layers=1, width=8, heads=2, kv_heads=2, ffn=8, causal=False))
    model.init_weights(0)
    masking = Masking(mask=257, vocab_size=257, special=(256, 257))
    ids = list(range(97, 117))
    seen, filled = fill(model, ids, masking, seed=0)
    changed = [place for place in range(20) if seen[place] != ids[place]]
    assert 1 <= len(changed) <= 3
    assert sum(a != b for a, b in zip(filled, ids, strict=True)) <= 3
    assert 257 not in filled
    workspace = Workspace(tmp_path)
    text_mix(workspace)
    tokens = TokenSet(workspace)
    shared = {"prompt": "", "count": 40, "length": 32, "seed": 0, "temperature": 1.0}
    sample = text_sample(model, byte_tokenizer(), tokens, masking=masking, **shared)
    assert sample["masked"].count("[MASK]") >= 1
    assert "[MASK]" not in sample["text"]
