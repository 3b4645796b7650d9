"""Speed, utilisation, memory and time left, as logged and as shown."""

from __future__ import annotations

import pytest
import torch
from mixes import text_mix

from curate.pipeline.workspace import Workspace
from curate.pretrain import meter as meters
from curate.pretrain.config import PretrainConfig
from curate.pretrain.hardware import PEAKS, Peak, device_peak, memory, peak_of
from curate.pretrain.log import RunLog, read_log
from curate.pretrain.meter import MEASURED, Meter, flops_a_token, speed_words
from curate.pretrain.run import Run

SMALL = {
    "layers": 2, "width": 32, "heads": 2, "ffn": 64, "sequence_length": 32, "batch_size": 4, "steps": 100, "log_every": 2,
    "device": "cpu",
}  # fmt: skip


# As `torch.cuda.get_device_name` has them; peaks as in NVIDIA's data sheets, without sparsity.
@pytest.mark.parametrize(
    ("name", "bfloat16", "fp8"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12, 1978.9e12),
        ("NVIDIA H100 PCIe", 756e12, 1513e12),
        ("NVIDIA H100 NVL", 835.5e12, 1671e12),
        ("NVIDIA H800 PCIe", 756e12, 1513e12),
        ("NVIDIA H200", 989.4e12, 1978.9e12),
        ("NVIDIA GH200 480GB", 989.4e12, 1978.9e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 312e12),
        ("NVIDIA A10G", 70e12, 70e12),
        ("NVIDIA A10", 125e12, 125e12),
        ("NVIDIA L40S", 362e12, 733e12),
        ("NVIDIA L4", 121e12, 242e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12, 330.3e12),
        ("NVIDIA RTX 6000 Ada Generation", 364.2e12, 728.5e12),
        ("NVIDIA B200", 2250e12, 4500e12),
    ],
)
def test_the_peak_is_that_of_the_device(name, bfloat16, fp8):
    assert peak_of(name, "bfloat16") == Peak(bfloat16)
    assert peak_of(name, "fp8") == Peak(fp8)


@pytest.mark.parametrize(
    ("name", "dtype", "why"),
    [
        ("NVIDIA GeForce GTX 1060", "bfloat16", "not known"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", "not known"),
        ("NVIDIA GeForce RTX 3090 Ti", "bfloat16", "not known"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bfloat16", "part of a GPU"),
        ("NVIDIA H100 80GB HBM3", "float32", "float32"),
    ],
)
def test_where_no_peak_is_known_it_is_said_why(name, dtype, why):
    found = peak_of(name, dtype)
    assert found.flops is None
    assert why in found.why


def test_no_name_hides_one_that_comes_after_it():
    for part, (wide, narrow) in PEAKS.items():
        assert peak_of(f"NVIDIA {part}", "bfloat16").flops == wide
        assert narrow is None or narrow > wide


def test_a_cpu_has_memory_and_no_utilisation():
    cpu = torch.device("cpu")
    assert device_peak(cpu, "auto").flops is None
    assert memory(cpu)["memory"] > 50_000_000


@pytest.fixture
def run(tmp_path):
    place = Workspace(tmp_path / "w")
    text_mix(place)
    seen = []
    made = Run.open(place, PretrainConfig(**SMALL), seen.append)
    made.seen = seen
    return made


def filled(run, monkeypatch, seconds, *, peak=None):
    """A meter over two steps of which each took `seconds`, with a clock that stands still between calls."""
    now = [100.0]
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now[0])
    log = RunLog(run.workspace, 0)
    meter = Meter(run, log)
    if peak is not None:
        meter.peak = Peak(peak)
    for step in (1, 2, 3, 4):
        now[0] += seconds
        meter.add(step, torch.tensor(2.0), torch.tensor(1.0), 1e-3, seconds / 4)
        if step % 2 == 0:
            meter.flush()
    return read_log(run.workspace)


def test_tokens_a_second_wait_utilisation_and_time_left_follow_from_the_clock(run, monkeypatch):
    entries = filled(run, monkeypatch, 0.5, peak=1e9)
    rate = 4 * 32 / 0.5
    assert entries[-1]["tokens_per_second"] == pytest.approx(rate)
    assert entries[-1]["data_wait"] == pytest.approx(0.25)
    assert entries[-1]["mfu"] == pytest.approx(rate * flops_a_token(run) / 1e9, abs=1e-4)
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    assert run.seen[-1]["seconds_left"] == pytest.approx((100 - 4) * 0.5)
    assert run.seen[-1]["line"].endswith("48 s left")


def test_without_a_peak_there_is_no_utilisation(run, monkeypatch):
    assert all("mfu" not in entry for entry in filled(run, monkeypatch, 0.5))


def test_all_that_depends_on_the_machine_is_named(run, monkeypatch):
    entry = filled(run, monkeypatch, 0.5, peak=1e9)[-1]
    assert set(entry) - set(MEASURED) == {"step", "tokens", "loss", "grad_norm", "lr"}


def test_flops_are_six_a_parameter_of_the_products_and_attention(run):
    # PaLM's 6 N + 12 layers * heads * head width * length, N without norms and with the head (tied to the embedding).
    products = sum(p.numel() for p in run.model.parameters() if p.ndim == 2)
    assert flops_a_token(run) == 6 * products + 12 * 2 * 32 * 32


def test_a_masked_run_counts_the_head_where_it_is_used(tmp_path):
    place = Workspace(tmp_path / "w")
    text_mix(place)
    masked = Run.open(place, PretrainConfig(**SMALL, objective="masked", mask_fraction=0.25), lambda event: None)
    whole = masked.model.shape.flops_per_token(32)
    assert whole - flops_a_token(masked) == 6 * 0.75 * masked.model.shape.vocab_size * 32


def test_the_words_say_what_there_is():
    assert speed_words({"tokens_per_second": 1234.5, "data_wait": 0.0}) == "1,234 tokens/s"
    entry = {"tokens_per_second": 5e5, "data_wait": 0.003, "mfu": 0.412, "memory_allocated": 12_300_000_000}
    assert speed_words(entry) == "500,000 tokens/s, MFU 41.2 %, data wait 0.3 %, 12.3 GB"
