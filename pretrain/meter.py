"""What a run measures of itself: losses, gradients, speed; read back from the device every so often and not at each step."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from curate.pipeline.errors import CurateError
from curate.pretrain.log import RunLog
from curate.pretrain.run import Run


class Meter:
    """Gathers what the steps measured, and every so often reads it back, checks, logs and reports it."""

    def __init__(self, run: Run, log: RunLog) -> None:
        self.run = run
        self.log = log
        self.pending: list[tuple[int, float, float]] = []
        self.losses: list[Tensor] = []
        self.begin = time.perf_counter()

    def add(self, step: int, loss: Tensor, norm: Tensor, lr: float, waited: float) -> None:
        self.pending.append((step, lr, waited))
        self.losses += [loss, norm.to(loss.dtype)]

    def restart(self) -> None:
        """Time from here on counts: what went before was not training."""
        self.begin = time.perf_counter()

    def flush(self) -> None:
        """CurateError where a loss or a gradient is not finite, naming the step and the documents of its batch."""
        if not self.pending:
            return
        values = torch.stack(self.losses).tolist()
        seconds = max(time.perf_counter() - self.begin, 1e-9)
        data, config = self.run.data, self.run.config
        a_step = data.batch_size * data.length
        rate = a_step * len(self.pending) / seconds
        wait = sum(waited for _, _, waited in self.pending) / seconds
        for (step, lr, _), loss, norm in zip(self.pending, values[::2], values[1::2], strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._stop(step, loss, norm)
            entry = {"step": step, "tokens": step * a_step, "loss": loss, "grad_norm": norm, "lr": lr}
            self.log.write(entry | {"tokens_per_second": round(rate, 1), "data_wait": round(min(wait, 1.0), 4)})
        if step % config.log_every == 0 or step == self.run.steps:
            line = f"step {step:,}/{self.run.steps:,}: loss {loss:.4f}, lr {lr:.2e}, {rate:,.0f} tokens/s"
            self.run.progress(
                {"event": "step", "line": line, "steps": self.run.steps, "tokens_per_second": rate} | entry
            )
        self.pending, self.losses = [], []
        self.restart()

    def _stop(self, step: int, loss: float, norm: float) -> None:
        documents = self.run.data.documents(step - 1)
        name = "pretrain/stopped.json"
        self.run.workspace.write_json(
            name, {"step": step, "loss": str(loss), "grad_norm": str(norm), "documents": documents}
        )
        shown = ", ".join(documents[:5]) + (
            f" and {len(documents) - 5} more (all in {name})" if len(documents) > 5 else ""
        )
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
        raise CurateError(
            f"step {step}: {what}; documents of its batch: {shown}. Nothing later than {self.run.checkpoint or 'step 0'} "
            "was saved: try a lower pretrain.lr or float32, or look at these documents"
        )
