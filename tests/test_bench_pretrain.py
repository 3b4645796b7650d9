"""bench/pretrain_plain.py, the peer: the same model, so equal weights have equal losses and gradients."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from curate.pretrain.config import PretrainConfig
from curate.pretrain.loss import Objective
from curate.pretrain.model import ModelShape, Transformer

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import pretrain_plain

    return pretrain_plain


def test_the_peer_computes_the_same_loss_and_gradient(plain: ModuleType) -> None:
    config = PretrainConfig(layers=2, width=32, heads=4, ffn=64).resolved()
    model = Transformer(ModelShape.of(config, 100))
    model.init_weights(0)
    peer = plain.PlainModel(model.shape)
    peer.take(model)
    tokens = torch.randint(100, (3, 17), generator=torch.Generator().manual_seed(0))
    objective, nats = Objective(model)(tokens[:, :-1], tokens[:, 1:])
    loss = peer(tokens[:, :-1], tokens[:, 1:])
    assert loss.item() == pytest.approx(nats.item() / 48, rel=1e-5)
    (objective / 48).backward()
    loss.backward()
    torch.testing.assert_close(peer.embedding.weight.grad, model.embedding.weight.grad, rtol=1e-4, atol=1e-6)
    ours = model.blocks[0].attention.qkv.weight.grad
    theirs = torch.cat([part.weight.grad for part in (peer.blocks[0].q, peer.blocks[0].k, peer.blocks[0].v)])
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-6)


def test_without_a_gpu_the_gpu_bench_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import pretrain_gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["pretrain_gpu.py", "--output", str(tmp_path / "x.json")])
    pretrain_gpu.main()
    assert "no CUDA device" in capsys.readouterr().out
    assert not (tmp_path / "x.json").exists()
