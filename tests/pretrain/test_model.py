"""The model against the formulas of the papers, written plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from curate.pretrain.config import SIZES, PretrainConfig
from curate.pretrain.data import Batch
from curate.pretrain.loader import Loaded
from curate.pretrain.loss import IGNORE, Objective, errors_of, linear_cross_entropy, predict, token_nats
from curate.pretrain.model import Linear, ModelShape, RMSNorm, Transformer, rotary_table, rotate
from curate.pretrain.train import forward_backward

SHAPE = ModelShape(vocab_size=61, layers=2, width=32, heads=4, kv_heads=2, ffn=48)


def made(dtype=torch.float32, **changes):
    model = Transformer(ModelShape(**(SHAPE.__dict__ | changes)), dtype)
    model.init_weights(1)
    with torch.no_grad():  # larger weights than at the start: attention and norms then matter to the result
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def plain_llama(model, tokens):
    """The same function in float64 NumPy, one position and head at a time, from the papers' formulas."""
    shape = model.shape
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    d = shape.width // shape.heads
    norm = lambda x, g: x / math.sqrt((x @ x) / len(x) + shape.norm_eps) * g  # noqa: E731

    def turned(vector, position):
        out = np.empty(d)
        for i in range(d // 2):
            angle = position * shape.rope_theta ** (-2 * i / d)
            a, b = vector[i], vector[i + d // 2]
            out[i], out[i + d // 2] = (
                a * math.cos(angle) - b * math.sin(angle),
                b * math.cos(angle) + a * math.sin(angle),
            )
        return out

    xs = [weights["embedding.weight"][token] for token in tokens]
    for layer in range(shape.layers):
        name = f"blocks.{layer}."
        qs, ks, vs = [], [], []
        for position, x in enumerate(xs):
            flat = weights[name + "attention.qkv.weight"] @ norm(x, weights[name + "attention_norm.weight"])
            heads = flat.reshape(-1, d)
            qs.append([turned(head, position) for head in heads[: shape.heads]])
            ks.append([turned(head, position) for head in heads[shape.heads : shape.heads + shape.kv_heads]])
            vs.append(heads[shape.heads + shape.kv_heads :])
        for position in range(len(xs)):
            seen = range(position + 1) if shape.causal else range(len(xs))
            mixed = []
            for head in range(shape.heads):
                group = head // (shape.heads // shape.kv_heads)
                scores = np.array([qs[position][head] @ ks[other][group] / math.sqrt(d) for other in seen])
                chances = np.exp(scores - scores.max())
                chances /= chances.sum()
                mixed.append(sum(c * vs[other][group] for c, other in zip(chances, seen, strict=True)))
            xs[position] = xs[position] + weights[name + "attention.out.weight"] @ np.concatenate(mixed)
        for position, x in enumerate(xs):
            inner = weights[name + "ffn.gate_up.weight"] @ norm(x, weights[name + "ffn_norm.weight"])
            gate, up = inner[: shape.ffn], inner[shape.ffn :]
            xs[position] = x + weights[name + "ffn.down.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    head = weights["embedding.weight"] if shape.tied else weights["head.weight"]
    return np.stack([head @ norm(x, weights["norm.weight"]) for x in xs])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("tied", "kv_heads"), [(True, 2), (False, 4), (True, 1)])
def test_the_logits_are_those_of_the_papers_formulas(causal, tied, kv_heads):
    model = made(causal=causal, tied=tied, kv_heads=kv_heads)
    tokens = np.random.default_rng(0).integers(0, 61, 11)
    expected = plain_llama(model, tokens)
    found = model(torch.from_numpy(tokens)[None])[0].detach().numpy()
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_a_causal_model_does_not_see_the_future_and_a_masked_one_does():
    tokens = torch.randint(0, 61, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 7:] = (changed[0, 7:] + 1) % 61
    causal, both = made(causal=True), made(causal=False)
    assert torch.equal(causal(tokens)[:, :7], causal(changed)[:, :7])
    assert not torch.allclose(causal(tokens)[:, 7], causal(changed)[:, 7])
    assert not torch.allclose(both(tokens)[:, 0], both(changed)[:, 0])


def test_rms_norm_divides_by_the_root_mean_square():
    norm = RMSNorm(3, 1e-6)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    found = norm(torch.tensor([3.0, 0.0, -4.0]))
    root = math.sqrt(25 / 3 + 1e-6)
    assert found.tolist() == pytest.approx([3 / root, 0, -12 / root])


def test_rotary_products_depend_on_the_distance_only():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(16, generator=generator), torch.randn(16, generator=generator)
    cos, sin = rotary_table(50, 16, 10_000.0, torch.device("cpu"))
    turned_q, turned_k = rotate(q.expand(50, 16), cos, sin), rotate(k.expand(50, 16), cos, sin)
    products = turned_q @ turned_k.T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(-distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-4)
    assert products[0, 0].item() == pytest.approx(float(q @ k), abs=1e-5)


def test_activations_in_bfloat16_stay_near_those_in_float32():
    model = made()
    half = made(dtype=torch.bfloat16)
    tokens = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(0))
    exact, rough = model(tokens), half(tokens)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).norm() / exact.norm() < 0.05


def test_weights_begin_as_the_seed_says():
    model, same, other = (Transformer(SHAPE) for _ in range(3))
    model.init_weights(5)
    same.init_weights(5)
    other.init_weights(6)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert not torch.equal(model.embedding.weight, other.embedding.weight)
    assert model.embedding.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.blocks[0].ffn.down.weight.std().item() == pytest.approx(0.02 / 2, rel=0.1)


def plain(hidden, weight, targets, z_loss=0.0):
    """(objective, nats) by torch's own cross-entropy, with the logits whole."""
    logits = hidden @ weight.T
    counted = targets != IGNORE
    nats = torch.nn.functional.cross_entropy(logits[counted], targets[counted], reduction="sum")
    return nats + z_loss * logits[counted].logsumexp(-1).square().sum(), nats


def test_cross_entropy_is_the_negative_logarithm_of_the_chance_of_the_target():
    weight = torch.eye(3)
    hidden = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    targets = torch.tensor([0, 2, IGNORE])
    assert token_nats(hidden, weight, targets, chunk=2).tolist() == pytest.approx([math.log(2), math.log(3), 0.0])
    objective, nats = linear_cross_entropy(hidden, weight, targets, z_loss=0.1)
    assert nats.item() == pytest.approx(math.log(6))
    assert objective.item() == pytest.approx(math.log(6) + 0.1 * math.log(4) ** 2 + 0.1 * math.log(3) ** 2)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_the_gradient_of_the_chunked_loss_is_the_true_one_in_float64(chunk, z_loss):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(11, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.tensor([0, 10, IGNORE, 3, 3, IGNORE, 5])

    def objective(h, w):
        return linear_cross_entropy(h, w, targets, z_loss, chunk)[0]

    assert torch.autograd.gradcheck(objective, (hidden, weight))
    ours, theirs = linear_cross_entropy(hidden, weight, targets, z_loss, chunk), plain(hidden, weight, targets, z_loss)
    assert [value.item() for value in ours] == pytest.approx([value.item() for value in theirs], rel=1e-12)
    for a, b in zip(
        torch.autograd.grad(3 * ours[0], (hidden, weight)),
        torch.autograd.grad(3 * theirs[0], (hidden, weight)),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_errors_are_the_plain_ones(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 50, generator=generator).to(dtype)
    targets = torch.tensor([0, 49, IGNORE, 3, 3, IGNORE, 5, 7, 8], dtype=torch.int32)
    compiled = torch.compile(errors_of, dynamic=False)(logits.clone(), targets, 0.01)
    for ours, plain_ones in zip(compiled, errors_of(logits.clone(), targets, 0.01), strict=True):
        assert torch.allclose(ours, plain_ones, rtol=1e-5, atol=1e-6)


def test_the_logits_never_exist_whole():
    sizes = []

    def errors(logits, targets, z_loss):
        sizes.append(logits.shape)
        return errors_of(logits, targets, z_loss)

    hidden, targets = torch.randn(10, 4, requires_grad=True), torch.randint(0, 6, (10,))
    linear_cross_entropy(hidden, torch.randn(6, 4), targets, chunk=4, errors=errors)[0].backward()
    assert sizes == [(4, 6), (4, 6), (2, 6)]


def test_products_in_8_bits_stay_near_those_in_float32_forward_and_backward():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 16, 64, generator=generator).requires_grad_()
    exact, low = Linear(64, 48), Linear(64, 48, fp8=True)
    for layer in (exact, low):
        layer.weight.data = torch.randn(48, 64, generator=torch.Generator().manual_seed(2)) / 8
    found = []
    for layer, dtype in ((exact, torch.float32), (low, torch.bfloat16)):
        y = layer(x.to(dtype))
        gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
        found.append([y, *torch.autograd.grad(y, (x, layer.weight), gradient)])
    for a, b in zip(*found, strict=True):
        # Three bits of mantissa round by .026 of a number (root mean square), two bits by .051: together .058 of a product.
        assert (a - b.float()).norm() / a.norm() < 0.08
    assert not Linear(60, 48, fp8=True).fp8
    odd = x[:, :15].reshape(-1, 64)
    assert torch.equal(low(odd), torch.nn.functional.linear(odd, low.weight))


def test_masked_predictions_are_those_of_the_whole_sequence_at_the_positions():
    model = made(causal=False)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 61, (3, 10), generator=generator)
    positions, targets = torch.tensor([[1, 4], [0, 9], [2, 0]]), torch.tensor([[7, 8], [9, 10], [11, IGNORE]])
    nats = predict(model, inputs, targets, positions)
    chances = torch.log_softmax(model(inputs), dim=-1)
    for row in range(3):
        for column in range(2):
            target = targets[row, column].item()
            expected = 0.0 if target == IGNORE else -chances[row, positions[row, column], target].item()
            assert nats[row, column].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_does_not_depend_on_how_a_batch_is_divided(masked):
    random = np.random.default_rng(0)
    shape = (6, 3) if masked else (6, 10)
    targets = random.integers(0, 61, shape)
    targets[0] = IGNORE  # the passes then predict unequal numbers of tokens
    targets[1, 1:] = IGNORE
    positions = random.integers(0, 10, shape) if masked else None
    batch = Loaded.of(Batch(random.integers(0, 61, (6, 10)), targets, positions), torch.device("cpu"))
    found = []
    for micro_batch in (None, 1, 2, 3, 4):
        model = made(causal=not masked)
        loss = forward_backward(Objective(model, z_loss=1e-3), batch, micro_batch)
        found.append([loss, *(parameter.grad for parameter in model.parameters())])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_loss_of_a_batch_is_the_mean_over_what_it_predicts():
    model = made()
    random = np.random.default_rng(0)
    targets = random.integers(0, 61, (2, 10))
    targets[1, 3:] = IGNORE
    batch = Batch(random.integers(0, 61, (2, 10)), targets)
    logits = model(torch.from_numpy(batch.inputs)).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).flatten(), ignore_index=IGNORE)
    loaded = Loaded.of(batch, torch.device("cpu"))
    assert forward_backward(Objective(model), loaded, 1).item() == pytest.approx(expected.item(), rel=1e-5)


def test_parameters_are_counted_with_and_without_the_embedding():
    # Attention 32 * (4 + 2 * 2) * 8 + 32 * 32, feed-forward 3 * 32 * 48, norms 2 * 32, a layer; the last norm 32.
    blocks = 2 * (32 * 64 + 32 * 32 + 3 * 32 * 48 + 2 * 32) + 32
    assert made().count_parameters() == {"all": blocks + 61 * 32, "without_embeddings": blocks}
    assert made(tied=False).count_parameters() == {"all": blocks + 2 * 61 * 32, "without_embeddings": blocks}


@pytest.mark.parametrize("size", [name for name in SIZES if name not in ("1.3B", "llama")])
def test_the_blocks_parameters_and_the_operations_of_a_token_follow_from_the_shape(size):
    shape = ModelShape.of(PretrainConfig(size=size).resolved(), 50_257)
    assert shape.vocab_size == 50_304
    with torch.device("meta"):
        model = Transformer(shape)
    products = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embedding" not in name)
    products += shape.vocab_size * shape.width if shape.tied else 0
    assert shape.flops_per_token(1024) == 6 * products + 12 * shape.layers * shape.width * 1024
    outside = sum(p.numel() for name, p in model.named_parameters() if name.startswith(("embedding", "head")))
    assert shape.block_parameters == sum(p.numel() for p in model.parameters()) - outside
