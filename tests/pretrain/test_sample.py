"""Reading token by token gives what the plain forward gives; what is drawn keeps to what was asked."""

from __future__ import annotations

import pytest
import torch
from small_models import write_checkpoint

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.sample import Reader, Sampling, continuations, generate, guesses
from curate.pretrain.trained import find_checkpoint, open_trained
from curate.pretrain.write import Writing, fill_masks, write

EOS = 0


def model(vocab_size: int = 40, kv_heads: int = 2) -> Transformer:
    found = Transformer(ModelShape(vocab_size, layers=2, width=16, heads=4, kv_heads=kv_heads, ffn=24))
    found.init_weights(1)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8.0)
    return found


def plain(network: Transformer, row: list[int]) -> torch.Tensor:
    return network(torch.tensor([row]))[0, -1]


@torch.no_grad()
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_reading_with_keys_and_values_kept_gives_the_logits_of_the_plain_forward(kv_heads):
    network, reader = model(kv_heads=kv_heads), None
    rows = [[1, 2, 3, 4, 5], [7], [9, 8] * 6]
    reader = Reader(network, 16)
    logits = reader.read(rows)
    for step in range(5):
        for row, found in zip(rows, logits, strict=True):
            torch.testing.assert_close(found, plain(network, row), rtol=0, atol=1e-5)
        if step == 4:
            break
        following = [(3 * step + number) % 40 for number in range(3)]
        rows = [[*row, token] for row, token in zip(rows, following, strict=True)]
        logits = reader.add(following)


@torch.no_grad()
def test_a_text_longer_than_the_window_is_seen_from_its_last_half_on_and_the_others_whole():
    network = model()
    reader = Reader(network, 8)
    long, short = list(range(1, 9)), [3, 4]
    reader.read([long, short])
    logits = reader.add([11, 12])
    torch.testing.assert_close(logits[0], plain(network, [*long, 11][-4:]), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits[1], plain(network, [3, 4, 12]), rtol=0, atol=1e-5)
    logits = reader.read([list(range(20))])
    torch.testing.assert_close(logits[0], plain(network, list(range(12, 20))), rtol=0, atol=1e-5)


def test_a_prompt_is_continued_alike_in_any_company_also_beyond_the_window():
    network = model()
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10]]
    asked = {"count": 40, "length": 8, "eos": EOS, "seed": 3}
    together = continuations(network, prompts, **asked)
    for number, prompt in enumerate(prompts):
        assert continuations(network, [prompt], first=number, **asked) == [together[number]]
    assert generate(network, [1, 2, 3], **asked) == together[0]
    assert continuations(network, prompts, **(asked | {"seed": 4})) != together


def test_ids_beyond_the_vocabulary_are_never_drawn_even_if_they_are_the_likeliest():
    network = model()
    with torch.no_grad():
        network.embedding.weight[33:] = 50 * network.norm.weight.sign()
        network.embedding.weight[33:, ::2] *= -1
    asked = {"count": 60, "length": 16, "eos": EOS, "seed": 0}
    free = continuations(network, [[1]], **asked)[0]
    bound = [token for temperature in (0.0, 1.0, 5.0)
             for token in continuations(network, [[1]], vocab_size=33, sampling=Sampling(temperature), **asked)[0]]  # fmt: skip
    assert max(free) >= 33 > max(bound)


LOGITS = torch.tensor([1.0, 4.0, 2.0, 3.0, 0.0])


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(0.0), {1}),
        (Sampling(1.0, top_k=2), {1, 3}),
        (Sampling(1.0, top_p=0.6), {1}),  # chances .64, .24, .09, .03, .01
        (Sampling(1.0, top_p=0.7), {1, 3}),
        (Sampling(1.0, top_k=3, top_p=0.99), {1, 3, 2}),
        (Sampling(9.0), {0, 1, 2, 3, 4}),
    ],
)
def test_only_tokens_that_are_likely_enough_are_drawn(sampling, allowed):
    random = torch.Generator().manual_seed(0)
    assert {sampling.choose(LOGITS, random) for _ in range(400)} == allowed


def test_tokens_are_drawn_as_often_as_the_model_says():
    random = torch.Generator().manual_seed(0)
    drawn = [Sampling(2.0).choose(LOGITS, random) for _ in range(4000)]
    wanted = torch.softmax(LOGITS / 2, dim=-1)
    found = torch.bincount(torch.tensor(drawn), minlength=5) / 4000
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.03)


# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("w"))
    write_checkpoint(workspace)
    return open_trained(workspace)


def test_what_is_heard_piece_by_piece_is_the_text_and_has_no_broken_characters(trained):
    heard: dict[int, list[str]] = {0: [], 1: []}
    found = write(trained, ["a", "the sea"], Writing(count=60), lambda number, text: heard[number].append(text))
    assert [facts["prompt"] for facts in found] == ["a", "the sea"]
    for number, facts in enumerate(found):
        assert "".join(heard[number]) == facts["text"]
        assert len(heard[number]) > 1


@pytest.mark.parametrize("place", [0, 3, 9, 14])
@pytest.mark.parametrize("size", [1, 3])
def test_a_text_ends_before_its_first_stop_and_nothing_of_it_is_heard(trained, place, size):
    whole = write(trained, ["x"], Writing(count=20))[0]["text"]
    stop = whole[place : place + size]
    heard: list[str] = []
    facts = write(trained, ["x"], Writing(count=20, stop=("never", stop)), lambda _, text: heard.append(text))[0]
    assert facts["text"] == whole.partition(stop)[0] == "".join(heard)
    assert facts["finish"] == "stop"


def test_a_masked_model_is_asked_for_masks_and_fills_in_only_tokens_of_text(tmp_path):
    workspace = Workspace(tmp_path)
    network = write_checkpoint(workspace, objective="masked")
    masked = open_trained(workspace)
    with pytest.raises(UsageError, match=r"write \[MASK\] in the prompt where words are to be put in"):
        write(masked, ["the sea"], Writing())
    with pytest.raises(UsageError, match=r"write \[MASK\]"):
        fill_masks(masked, "the sea")
    with pytest.raises(UsageError, match="the model reads 64"):
        fill_masks(masked, "[MASK]" + "a" * 64)
    found = fill_masks(masked, "the [MASK] a [MASK].", top=3)
    assert [len(mask) for mask in found["masks"]] == [3, 3]
    assert found["text"].startswith("the ")
    ids = [*masked.encode("the "), 257, *masked.encode(" a "), 257, *masked.encode(".")]
    logits = network(torch.tensor([ids]))[0, 4, :257].detach()
    best = guesses(network, ids, 257, 257, 1)[0][0]
    assert best[0] == int(logits.argmax())
    assert best[1] == pytest.approx(float(torch.softmax(logits, -1).max()), abs=1e-6)


def test_a_checkpoint_is_found_by_step_by_run_and_by_folder(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(UsageError, match="has no checkpoint: run `curate pretrain` first"):
        find_checkpoint(workspace)
    for step in (7, 100):
        write_checkpoint(workspace, step=step)
    write_checkpoint(workspace, step=3, folder="pretrain/finetune/qa/checkpoints")
    newest, tuned = "pretrain/checkpoints/00000100", "pretrain/finetune/qa/checkpoints/00000003"
    assert find_checkpoint(workspace) == newest
    for name in ("100", "00000100", newest, newest + "/"):
        assert find_checkpoint(workspace, name) == newest
    for name in ("qa", "qa/3", "pretrain/finetune/qa", tuned):
        assert find_checkpoint(workspace, name) == tuned
    with pytest.raises(UsageError, match=r"no checkpoint 'qq'.*did you mean 'qa'"):
        find_checkpoint(workspace, "qq")
    with pytest.raises(UsageError, match="no checkpoint '8'"):
        find_checkpoint(workspace, "8")
