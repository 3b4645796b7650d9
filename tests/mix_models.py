"""Models with known formulas for the solver's tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from curate.mixtures.forms import Convex, Floats


@dataclass(frozen=True, eq=False)
class Known:
    """A model that is its formula. `convex` False hides the formula, `steps` the slope as well."""

    form_: Convex
    convex: bool = True
    steps: bool = False
    noise: float = 0.0

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(f"d{number}" for number in range(self.form_.slope.shape[1]))

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(f"t{number}" for number in range(len(self.form_.constant)))

    @property
    def form(self) -> Convex | None:
        return self.form_ if self.convex else None

    def predict(self, weights: Floats) -> Floats:
        return self.form_.predict(weights)

    def gradient(self, mixture: Floats) -> Floats:
        if self.steps:
            raise NotImplementedError
        return self.form_.gradient(mixture)

    def resample(self, samples: int, seed: int) -> Iterator[Known]:
        for number in range(samples):
            random = np.random.default_rng([seed, number])
            slope = self.form_.slope + self.noise * random.normal(size=self.form_.slope.shape)
            yield replace(self, form_=replace(self.form_, slope=slope))


def log_linear(domains: int, tasks: int, seed: int, *, steepness: float = 1.0, exponential: bool = True) -> Known:
    """A random model with the constants and scales of bits per byte."""
    random = np.random.default_rng([domains, tasks, seed])
    slope = steepness * random.normal(size=(tasks, domains))
    return Known(Convex(random.uniform(0.3, 0.6, tasks), random.uniform(0.2, 0.8, tasks), slope, exponential))


def natural(domains: int, seed: int, spread: float = 1.0) -> Floats:
    """A random prior; `spread` is that of the logarithms of its shares."""
    shares = np.random.default_rng([domains, seed]).lognormal(0.0, spread, domains)
    return shares / shares.sum()
