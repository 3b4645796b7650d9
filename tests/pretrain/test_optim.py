"""Settings, groups, schedules: what the recipe says is what is done."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from curate.pretrain.config import SIZES, PretrainConfig
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import BertAdam, Muon, learning_rate, make_optimizers, orthogonalise


def rates(steps=100, **changes):
    config = PretrainConfig(lr=1.0, min_lr=0.1, **changes).resolved()
    return [learning_rate(step, steps, config) for step in range(steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_every_schedule_climbs_to_the_top_and_ends_at_the_minimum(schedule):
    found = rates(schedule=schedule, warmup=10)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[-1] == pytest.approx(0.1)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(found[9:]))


def test_the_schedules_have_their_shapes_in_the_middle():
    # Half of the 90 steps after the warm-up are done in step 54 (45 of them).
    assert rates(schedule="cosine", warmup=10)[54] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert rates(schedule="cosine", warmup=10)[39] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 3)) / 2)
    assert rates(schedule="linear", warmup=10)[39] == pytest.approx(1 - 0.9 / 3)
    flat = rates(schedule="wsd", warmup=10, decay=0.2)
    assert flat[10:80] == [1.0] * 70
    assert flat[89] == pytest.approx(0.55)


@pytest.mark.parametrize("steps", [1, 2, 3, 11])
@pytest.mark.parametrize("warmup", [None, 0, 5])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_shortest_runs_have_a_positive_rate_at_every_step(steps, warmup, schedule):
    assert all(0 < rate <= 1 for rate in rates(steps, schedule=schedule, warmup=warmup))


def test_an_adamw_step_is_that_of_the_paper_with_decay_on_matrices_only():
    config = PretrainConfig(lr=0.01, weight_decay=0.1, beta1=0.9, beta2=0.95, eps=1e-8).resolved()
    model = Transformer(ModelShape(vocab_size=7, layers=1, width=8, heads=2, kv_heads=2, ffn=8))
    model.init_weights(0)
    optimizer = make_optimizers(model, config)[0]
    expected = {name: value.detach().double().clone() for name, value in model.named_parameters()}
    moments = {name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in expected.items()}
    generator = torch.Generator().manual_seed(0)
    for step in (1, 2, 3):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            g, (m, v) = parameter.grad.double(), moments[name]
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.95).add_(0.05 * g * g)
            decayed = expected[name] * (1 - 0.01 * 0.1) if "norm" not in name else expected[name]
            expected[name] = decayed - 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-8)
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.double(), expected[name], atol=1e-6), name


def stepped(make, steps=4):
    """The weights after some steps of an optimiser with the same random gradients."""
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((6, 4), (4, 6), (6, 4), (5, 5))
    ]
    optimizer = make(weights)
    for _ in range(steps):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return weights


def test_muon_is_torchs_muon_with_all_matrices_of_a_shape_at_once():
    ours = stepped(lambda found: Muon([(w, [len(w)]) for w in found], lr=0.02, momentum=0.9, weight_decay=0.1))
    theirs = stepped(
        lambda found: torch.optim.Muon(
            found, lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw", eps=1e-7
        )
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=5e-4)  # both in bfloat16, and the products' order differs


def test_muon_moves_the_parts_of_a_merged_matrix_as_if_they_were_apart():
    def merged(found):
        weight = torch.nn.Parameter(torch.cat([found[0].detach(), found[2].detach()]))
        other = Muon([(weight, [6, 6])], lr=0.02, dtype=torch.float32)

        class Together:
            def step(self):
                weight.grad = torch.cat([found[0].grad, found[2].grad])
                other.step()
                found[0].data, found[2].data = weight.detach().split(6)

        return Together()

    ours = stepped(merged)
    theirs = stepped(lambda found: Muon([(w, [len(w)]) for w in found], lr=0.02, dtype=torch.float32))
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)
    assert torch.allclose(ours[2], theirs[2], atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_orthogonalising_brings_every_singular_value_near_1_and_keeps_the_directions(shape):
    matrix = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrix)
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.5
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.mT @ found @ v.mT
    assert (inside - torch.diag_embed(inside.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-4


def test_berts_adam_has_no_bias_correction_and_decays_apart_from_the_moments():
    ours = stepped(
        lambda found: BertAdam([{"params": found, "weight_decay": 0.01}], lr=0.1, betas=(0.9, 0.999), eps=1e-6)
    )

    def by_hand(found):
        m, v = [torch.zeros_like(w) for w in found], [torch.zeros_like(w) for w in found]

        class Written:
            def step(self):
                for place, w in enumerate(found):
                    m[place] = 0.9 * m[place] + 0.1 * w.grad
                    v[place] = 0.999 * v[place] + 0.001 * w.grad**2
                    w.data = w.data - 0.1 * (m[place] / (v[place].sqrt() + 1e-6) + 0.01 * w.data)

        return Written()

    for a, b in zip(ours, stepped(by_hand), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


def test_muon_has_the_blocks_matrices_and_adamw_all_else():
    model = Transformer(ModelShape(vocab_size=8, layers=2, width=8, heads=2, kv_heads=1, ffn=16, tied=False))
    adamw, muon = make_optimizers(model, PretrainConfig(optimizer="muon").resolved())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    of_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert of_muon == {name for name in names.values() if "blocks" in name and "norm" not in name}
    of_adamw = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert of_adamw == set(names.values()) - of_muon
    decayed = {names[id(p)] for group in adamw.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {"embedding.weight", "head.weight"}


@pytest.mark.parametrize("size", SIZES)
def test_every_preset_has_the_parameters_that_its_table_says(size):
    table = {"tiny": (0.8, 1.8, 8192), "10M": (5.6, 9.8, 16384), "30M": (17.7, 30.3, 32768)}
    table |= {"60M": (43.6, 60.4, 32768), "124M": (85.0, 123.6, 50257), "gpt2": (85.0, 123.6, 50257)}
    table |= {"350M": (303.6, 355.1, 50257), "1.3B": (1214.4, 1317.4, 50257), "bert": (85.0, 108.4, 30522)}
    table |= {"llama": (973.1, 1235.8, 128_256), "olmo2-30m": (4.2, 55.6, 100_352)}
    within, all_of_it, vocab_size = table[size]
    with torch.device("meta"):
        model = Transformer(ModelShape.of(PretrainConfig(size=size).resolved(), vocab_size))
    counts = model.count_parameters()
    assert round(counts["without_embeddings"] / 1e6, 1) == within
    assert round(counts["all"] / 1e6, 1) == all_of_it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "31M"}, "did you mean '30M'"),
        ({"steps": 5, "epochs": 2}, "one of steps and epochs"),
        ({"width": 100, "heads": 3}, "multiple of heads"),
        ({"heads": 4, "kv_heads": 3}, "multiple of kv_heads"),
        ({"dtype": "fp8", "sequence_length": 1000}, "multiple of 16"),
        ({"lr": 0}, "greater than 0"),
        ({"learning_rate": 0.1}, "Extra inputs"),
        ({"objective": "mlm"}, "causal"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        PretrainConfig(**settings)


def test_a_field_overrides_its_preset_and_leaves_the_others():
    config = PretrainConfig(size="30M", layers=3).resolved()
    assert (config.layers, config.width, config.heads, config.kv_heads) == (3, 384, 6, 6)
    assert config.resolved() == config


def test_a_preset_may_decide_the_objective_and_the_optimiser_and_the_recipe_overrules_it():
    bert = PretrainConfig(size="bert").resolved()
    assert (bert.objective, bert.optimizer, bert.beta2, bert.weight_decay) == ("masked", "adam", 0.999, 0.01)
    assert (bert.schedule, bert.min_lr, bert.warmup) == ("linear", 0.0, 10_000)
    ours = PretrainConfig(size="bert", optimizer="muon", schedule="cosine", warmup=5).resolved()
    assert (ours.optimizer, ours.schedule, ours.warmup, ours.objective) == ("muon", "cosine", 5, "masked")
    again = PretrainConfig.model_validate(ours.model_dump()).resolved()
    assert again == ours


@pytest.mark.parametrize("size", SIZES)
def test_a_pass_fits_a_gpu_of_80_gb_with_all_else_that_is_in_it(size):
    config = PretrainConfig(size=size).resolved()
    rows = config.rows_a_pass(on_gpu=True)
    shape = ModelShape.of(config, 128_256 if size in ("llama", "olmo2-30m") else 50_257)
    parameters = shape.block_parameters + shape.vocab_size * shape.width * (1 if shape.tied else 2)
    a_block = 16 * shape.width + 6 * shape.ffn  # with as many heads of keys as of queries: the most
    kept = rows * config.sequence_length * shape.layers * a_block
    logits = config.loss_chunk * shape.vocab_size * (2 + 4 + 2)
    assert kept + parameters * (4 + 4 + 8 + 2) + logits + 2 * 4 * shape.vocab_size * shape.width < 75e9
    assert 16_384 <= rows * config.sequence_length <= 65_536 or rows == config.batch_size
    assert config.rows_a_pass(on_gpu=False) <= rows


def test_a_pass_is_the_size_asked_for_and_never_more_than_the_batch():
    assert PretrainConfig(size="tiny", micro_batch=3).resolved().rows_a_pass(on_gpu=True) == 3
    assert PretrainConfig(size="tiny", micro_batch=99).resolved().rows_a_pass(on_gpu=True) == 8
    assert PretrainConfig(size="1.3B", sequence_length=1 << 20).resolved().rows_a_pass(on_gpu=True) == 1


def test_what_does_not_change_the_learning_stays_out_of_the_fingerprint():
    config = PretrainConfig()
    assert config.fingerprint() == PretrainConfig(keep=5, checkpoint_every=7, device="cpu").fingerprint()
    assert config.fingerprint() != PretrainConfig(lr=0.5).fingerprint()
    assert "keep" not in config.learning()
    assert "lr" in config.learning()
