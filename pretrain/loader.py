"""Batches on their way to the device: made and copied while it works on the one before."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from curate.pretrain.data import Batch, Int64
from curate.pretrain.loss import IGNORE
from curate.pretrain.run import Run


@dataclass(frozen=True)
class Loaded:
    """A batch on the device (`data.Batch`); `predicted`: targets that count in the whole of the step, at least 1."""

    inputs: Tensor
    targets: Tensor
    positions: Tensor | None
    predicted: int

    @classmethod
    def of(cls, batch: Batch, device: torch.device, predicted: int | None = None) -> Loaded:
        """Copies to the device without waiting for it: 32 bits an id, from pinned memory.

        `predicted`: where the batch is a part of the step's, that of the whole.
        """

        def moved(array: Int64) -> Tensor:
            tensor = torch.from_numpy(array.astype(np.int32))
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor

        positions = None if batch.positions is None else moved(batch.positions)
        predicted = batch.predicted if predicted is None else predicted
        return cls(moved(batch.inputs), moved(batch.targets), positions, max(1, predicted))


class Loader:
    """The batches from a run's step on, each made in a thread while the device works on the one before."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._step = run.step
        self._thread = ThreadPoolExecutor(1, "loader", self._begin)
        self._ahead = self._thread.submit(self._load, self._step)

    def next(self) -> tuple[Loaded, float]:
        """The next batch, and the seconds for which it was waited."""
        begin = time.perf_counter()
        batch = self._ahead.result()
        waited = time.perf_counter() - begin
        self._step += 1
        self._ahead = self._thread.submit(self._load, self._step)
        return batch, waited

    def _begin(self) -> None:
        """A new thread begins on the first GPU, whichever this process has."""
        if self._run.device.index is not None:
            torch.cuda.set_device(self._run.device)

    def _load(self, step: int) -> Loaded:
        data, ranks = self._run.data, self._run.ranks
        if ranks.world == 1:
            return Loaded.of(data.batch(step), self._run.device)
        mine = data.batch(step, ranks.rows(data.batch_size))
        rows = -(-data.batch_size // ranks.world)
        return Loaded.of(filled(mine, rows), self._run.device, data.predicted(step))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)


def filled(batch: Batch, rows: int) -> Batch:
    """A batch with rows added in which nothing is predicted: processes whose rows differ in number run the same passes."""
    missing = rows - len(batch.inputs)
    if not missing:
        return batch
    inputs, targets = (np.concatenate([part, part[:1].repeat(missing, 0)]) for part in (batch.inputs, batch.targets))
    targets[-missing:] = IGNORE
    positions = None if batch.positions is None else np.pad(batch.positions, ((0, missing), (0, 0)))
    return Batch(inputs, targets, positions)
