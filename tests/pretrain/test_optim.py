"""Settings, groups, schedules: what the recipe says is what is done."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from curate.pretrain.config import SIZES, PretrainConfig
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import learning_rate, make_optimizer


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
    optimizer = make_optimizer(model, config)
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


@pytest.mark.parametrize("size", SIZES)
def test_every_preset_has_the_parameters_that_its_table_says(size):
    table = {"tiny": (0.8, 1.8, 8192), "10M": (5.6, 9.8, 16384), "30M": (17.7, 30.3, 32768)}
    table |= {"60M": (43.6, 60.4, 32768), "124M": (85.0, 123.6, 50257)}
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


def test_what_does_not_change_the_learning_stays_out_of_the_fingerprint():
    config = PretrainConfig()
    assert config.fingerprint() == PretrainConfig(keep=5, checkpoint_every=7, device="cpu").fingerprint()
    assert config.fingerprint() != PretrainConfig(lr=0.5).fingerprint()
    assert "keep" not in config.learning()
    assert "lr" in config.learning()
