"""What a run measures of itself: losses, gradients, speed; read back from the device every so often and not at each step."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from curate.pipeline.progress import duration, size
from curate.pretrain.examples import ExampleBatches
from curate.pretrain.guard import Guard
from curate.pretrain.hardware import Peak, device_peak, memory
from curate.pretrain.log import RunLog
from curate.pretrain.run import Run

MEASURED = ("tokens_per_second", "data_wait", "mfu", "memory", "memory_allocated", "memory_reserved")
"""What a line of the log says of the machine; all else in it depends on the configuration and the data alone.

Tokens a second and `mfu` (model FLOPs utilisation, of all GPUs together) hold for the steps since the losses were read back
before, without validation and saving; `data_wait` is the share of that time in which the loop waited for a batch. Memory:
`hardware.memory`."""


def flops_a_token(run: Run) -> float:
    """`ModelShape.flops_per_token` of what a run computes: with a masked objective the head runs on some positions only."""
    length, shape = run.data.length, run.model.shape
    unused = 0.0 if run.masking is None else 1.0 - run.masking.chosen(length) / length
    return shape.flops_per_token(length) - 6.0 * unused * shape.vocab_size * shape.width


class Meter:
    """Gathers what the steps measured, and every so often reads it back, checks, logs and reports it."""

    def __init__(self, run: Run, log: RunLog) -> None:
        self.run = run
        self.log = log
        self.guard = Guard(run)
        self.pending: list[tuple[int, float, float]] = []
        self.losses: list[Tensor] = []
        self.begin = time.perf_counter()
        varied = isinstance(run.data, ExampleBatches)
        self.peak = Peak(None, "rows differ in length") if varied else device_peak(run.device, run.config.dtype)
        self._since: tuple[int, float] | None = None
        if self.peak.flops is None and run.device.type == "cuda":
            run.progress({"event": "note", "line": f"no model FLOPs utilisation (MFU) is given: {self.peak.why}"})

    def add(self, step: int, loss: Tensor, norm: Tensor, lr: float, waited: float) -> None:
        self.pending.append((step, lr, waited))
        self.losses += [loss, norm.to(loss.dtype)]

    def restart(self) -> None:
        """Time from here on counts: what went before was not training."""
        self.begin = time.perf_counter()

    def flush(self) -> None:
        """CurateError where a loss or a gradient is not finite, or a spike, naming the documents of the step's batch."""
        if not self.pending:
            return
        values = torch.stack(self.losses).tolist()
        seconds = max(time.perf_counter() - self.begin, 1e-9)
        a_step = self.run.data.batch_size * self.run.data.length
        speed = self._speed(seconds)
        for (step, lr, _), loss, norm in zip(self.pending, values[::2], values[1::2], strict=True):
            self.guard.check(step, loss, norm)
            entry = {"step": step, "tokens": step * a_step, "loss": loss, "grad_norm": norm, "lr": lr}
            self.log.write(entry | speed)
        if step % self.run.config.log_every == 0 or step == self.run.steps:
            self._report(entry | speed, seconds)
        self.pending, self.losses = [], []
        self.restart()

    def _speed(self, seconds: float) -> dict[str, float]:
        """MEASURED of the steps that are pending and took so long."""
        data = self.run.data
        rate = data.batch_size * data.length * len(self.pending) / seconds
        wait = sum(waited for _, _, waited in self.pending) / seconds
        found: dict[str, float] = {"tokens_per_second": round(rate, 1), "data_wait": round(min(wait, 1.0), 4)}
        if self.peak.flops is not None:
            found["mfu"] = round(rate * flops_a_token(self.run) / (self.peak.flops * self.run.ranks.world), 4)
        return found | memory(self.run.device)

    def _report(self, entry: dict[str, float], seconds: float) -> None:
        run, step = self.run, int(entry["step"])
        left = (run.steps - step) * self._seconds_a_step(step, seconds / len(self.pending))
        line = f"step {step:,}/{run.steps:,}: loss {entry['loss']:.4f}, lr {entry['lr']:.2e}, {speed_words(entry)}"
        if step < run.steps:
            line += f", {duration(left)} left"
        run.progress({"event": "step", "line": line, "steps": run.steps, "seconds_left": round(left, 1)} | entry)

    def _seconds_a_step(self, step: int, lately: float) -> float:
        """Of all that was done since the first report: validation and checkpoints count, start-up and compiling do not."""
        now = time.perf_counter()
        if self._since is None or step <= self._since[0]:
            self._since = (step, now)
            return lately
        return (now - self._since[1]) / (step - self._since[0])


def speed_words(entry: Mapping[str, float]) -> str:
    """MEASURED for a person: `12,300 tokens/s, MFU 41.2 %, data wait 0.3 %, 1.2 GB`."""
    parts = [f"{entry['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in entry:
        parts.append(f"MFU {entry['mfu']:.1%}".replace("%", " %"))
    if entry["data_wait"] >= 0.001:
        parts.append(f"data wait {entry['data_wait']:.1%}".replace("%", " %"))
    bytes_used = entry.get("memory_allocated", entry.get("memory"))
    if bytes_used is not None:
        parts.append(size(bytes_used))
    return ", ".join(parts)
