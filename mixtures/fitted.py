"""What every kind of regression has in common: one fit a task, on the runs in which the task was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from curate.mixtures.forms import Convex, Floats
from curate.pipeline.errors import UsageError

Rows = npt.NDArray[np.intp]


class Fitted(Protocol):
    """One kind of regression, fitted to k tasks of mixtures of m domains."""

    @property
    def kind(self) -> str: ...

    @property
    def form(self) -> Convex | None:
        """The formula where there is a convex one."""

    def predict(self, weights: Floats) -> Floats:
        """(n, m) -> (n, k)."""

    def gradient(self, mixture: Floats) -> Floats:
        """(m,) -> (k, m); raises NotImplementedError where predictions are steps."""

    def spread(self, weights: Floats) -> Floats | None:
        """Standard deviation of what one new run would show, (n, m) -> (n, k); None where the kind does not know it."""

    def again(self, weights: Floats, losses: Floats) -> Fitted:
        """The same kind with the same settings (penalties, length scales, trees), fitted to other runs."""

    def to_json(self) -> dict[str, Any]:
        """What `read` of its module needs, beside the runs, to have it back."""


def groups(losses: Floats) -> Iterator[tuple[Rows, Rows]]:
    """(runs, tasks) of all tasks that were measured in the same runs; shapes (r,) and (t,)."""
    measured = np.isfinite(losses)
    patterns, which = np.unique(measured, axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, number]), np.flatnonzero(which.ravel() == number)


def scale_of(values: Floats) -> Floats:
    """Standard deviations of columns, 1 where a column is constant: what a column is divided by."""
    found = np.asarray(values.std(axis=0))
    flat = found <= 1e-12 * np.maximum(1.0, np.abs(values).max(axis=0, initial=0.0))
    return np.where(flat, 1.0, found)


def numbers(given: Mapping[str, Any], key: str, shape: tuple[int, ...], *, missing: bool = False) -> Floats:
    """An array of a JSON object; UsageError where it is not there, of another shape, or holds anything but finite numbers
    (`missing`: null stands for a number that was not measured)."""
    if key not in given:
        raise UsageError(f"model: {key!r} is missing: this is no regression that `to_json` wrote")
    try:
        values = np.array(given[key], np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"model: {key!r} is no array of numbers of shape {shape}") from None
    if values.size == 0 and 0 in shape:
        values = values.reshape(shape)
    if values.shape != shape:
        raise UsageError(f"model: {key!r} has shape {values.shape}, not {shape}")
    if np.isinf(values).any() or (not missing and np.isnan(values).any()):
        raise UsageError(f"model: {key!r} holds numbers that are not finite")
    return values
