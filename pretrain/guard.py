"""What stops a run: a loss or a gradient that is not finite, or a loss far above those before; the documents are named."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import NoReturn

from curate.pipeline.errors import CurateError
from curate.pretrain.log import read_log
from curate.pretrain.run import Run

WINDOW, FEWEST = 100, 50
"""Steps whose losses a loss is compared with, and how many must be known."""
MARGIN = 1.0
"""Nats by which a spike lies above the median at least: losses that hardly vary are no reason to stop."""
NORMAL = 1.4826
"""Times the median absolute deviation: the standard deviation, were the losses normal (Rousseeuw and Croux 1993)."""


class Guard:
    """Looks at each step's loss and gradient in turn; knows those before from the log, so that resuming changes nothing."""

    def __init__(self, run: Run) -> None:
        self.run = run
        known = read_log(run.workspace, f"{run.folder}/log.jsonl") if run.step and run.config.spike else []
        losses = [entry["loss"] for entry in known if "loss" in entry and entry["step"] <= run.step]
        self.recent = deque(losses[-WINDOW:], WINDOW)

    def check(self, step: int, loss: float, norm: float) -> None:
        """CurateError naming the documents of the step's batch where it is not finite or a spike (`PretrainConfig.spike`)."""
        if not math.isfinite(loss):
            self._stop(step, loss, norm, f"the loss is {loss}", "try a lower pretrain.lr or float32")
        if not math.isfinite(norm):
            self._stop(step, loss, norm, f"the gradient's norm is {norm}", "try a lower pretrain.lr or float32")
        if self._is_spike(loss):
            usual = f"{statistics.median(self.recent):.3f} in the {len(self.recent)} steps before"
            what = f"the loss is {loss:.3f}, against {usual}: a spike"
            self._stop(step, loss, norm, what, "try a lower pretrain.lr, or pretrain.spike=0 to go on all the same")
        self.recent.append(loss)

    def _is_spike(self, loss: float) -> bool:
        if not self.run.config.spike or len(self.recent) < FEWEST:
            return False
        median = statistics.median(self.recent)
        deviation = NORMAL * statistics.median(abs(other - median) for other in self.recent)
        return loss > median + max(MARGIN, self.run.config.spike * deviation)

    def _stop(self, step: int, loss: float, norm: float, what: str, advice: str) -> NoReturn:
        documents = self.run.data.documents(step - 1)
        name = f"{self.run.folder}/stopped.json"
        self.run.workspace.write_json(
            name, {"step": step, "loss": str(loss), "grad_norm": str(norm), "documents": documents}
        )
        shown = ", ".join(documents[:5])
        if len(documents) > 5:
            shown += f" and {len(documents) - 5} more (all in {name})"
        raise CurateError(
            f"step {step}: {what}; documents of its batch: {shown}. Nothing later than {self.run.checkpoint or 'step 0'} "
            f"was saved: {advice}, or look at these documents"
        )
