"""Gradient-boosted trees, as RegMix (Liu et al. 2024) fits them; but never stopped by looking at the test mixtures.

Needs LightGBM: pip install 'curate-web[mix]'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.mixtures.fitted import numbers, scale_of
from curate.mixtures.forms import Floats
from curate.pipeline.errors import CurateError, UsageError

MOST_TREES, RATE, PATIENCE = 1000, 0.01, 3
"""RegMix's settings: LGBMRegressor(n_estimators=1000, learning_rate=.01), stopped after 3 rounds without a gain."""
HELD_OUT = 0.2
"""Part of the runs that decides when to stop; then the trees are grown again, as many, on all runs."""
TOO_LARGE = 5_000_000
"""Runs x domains x tasks from which trees take no part in a choice: they would take hours (1,440 runs of 480 domains: a minute
a task and fold). They are still fitted where asked for."""
MISSING = "trees need LightGBM: pip install 'curate-web[mix]'"


@dataclass(frozen=True, eq=False)
class Trees:
    """One ensemble a task, as LightGBM writes it; `count` (k,) trees each, for losses less `middle` (k,) over `scale` (k,)."""

    ensembles: tuple[str, ...]
    count: tuple[int, ...]
    middle: Floats
    scale: Floats
    boosters: tuple[Any, ...]
    seed: int

    kind = "trees"
    form = None

    def predict(self, weights: Floats) -> Floats:
        found = [booster.predict(weights, num_threads=1) for booster in self.boosters]
        return self.middle + self.scale * np.column_stack(found)

    def gradient(self, mixture: Floats) -> Floats:
        raise NotImplementedError("trees predict steps, which have no gradient")

    def spread(self, weights: Floats) -> None:
        return None

    def again(self, weights: Floats, losses: Floats) -> Trees:
        return fit_trees(weights, losses, seed=self.seed, count=self.count)

    def to_json(self) -> dict[str, Any]:
        return {
            "ensembles": list(self.ensembles), "count": list(self.count), "middle": self.middle.tolist(),
            "scale": self.scale.tolist(), "seed": self.seed,
        }  # fmt: skip


def available() -> bool:
    """Whether LightGBM is installed."""
    try:
        import lightgbm  # noqa: F401
    except (ImportError, OSError):  # OSError: its library needs libgomp
        return False
    return True


def fit_trees(weights: Floats, losses: Floats, *, seed: int = 0, count: tuple[int, ...] | None = None) -> Trees:
    """Fits (n, m) mixtures to (n, k) losses, NaN where not measured.

    `count`: trees a task; where it is None that is found on a seeded HELD_OUT of the runs. Raises CurateError where
    LightGBM is not installed.
    """
    lightgbm = _lightgbm()
    boosters, middles, scales, counts = [], [], [], []
    for task in range(losses.shape[1]):
        runs = np.flatnonzero(np.isfinite(losses[:, task]))
        x, y = weights[runs], losses[runs, task]
        middle, scale = float(y.mean()), float(scale_of(y))
        z = (y - middle) / scale
        settings = _settings(seed, len(runs))
        trees = _count(lightgbm, settings, x, z, seed) if count is None else count[task]
        boosters.append(lightgbm.train(settings, lightgbm.Dataset(x, z), trees))
        middles.append(middle)
        scales.append(scale)
        counts.append(trees)
    texts = tuple(booster.model_to_string() for booster in boosters)
    return Trees(texts, tuple(counts), np.array(middles), np.array(scales), tuple(boosters), seed)


def read_trees(given: Mapping[str, Any], tasks: int, domains: int) -> Trees:
    """`Trees` from `to_json`; UsageError where they are damaged, CurateError where LightGBM is not installed."""
    lightgbm = _lightgbm()
    texts, count, seed = given.get("ensembles"), given.get("count"), given.get("seed")
    if (
        not isinstance(texts, list) or not isinstance(count, list) or not len(texts) == len(count) == tasks
        or not all(isinstance(text, str) for text in texts)
        or not all(isinstance(each, int) and each > 0 for each in count) or not isinstance(seed, int)
    ):  # fmt: skip
        raise UsageError(f"model: 'ensembles', 'count' and 'seed' do not describe the trees of {tasks} tasks")
    boosters = []
    for text in texts:
        try:
            booster = lightgbm.Booster(model_str=text)
        except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
            raise UsageError(f"model: an ensemble of trees is damaged: {error}") from None
        if booster.num_feature() != domains:
            raise UsageError(f"model: the trees know {booster.num_feature()} domains, not {domains}")
        boosters.append(booster)
    middle, scale = numbers(given, "middle", (tasks,)), numbers(given, "scale", (tasks,))
    return Trees(tuple(texts), tuple(count), middle, scale, tuple(boosters), seed)


def _settings(seed: int, runs: int) -> dict[str, Any]:
    """LGBMRegressor's defaults but for the rate, and for the smallest leaf (20 runs) where there are fewer than 200 runs:
    with 30 no tree could branch. One thread, so that the same seed gives the same trees."""
    return {
        "min_data_in_leaf": min(20, max(2, runs // 10)),
        "objective": "regression", "metric": "l2", "learning_rate": RATE, "seed": seed, "num_threads": 1,
        "deterministic": True, "force_row_wise": True, "verbosity": -1,
    }  # fmt: skip


def _count(lightgbm: Any, settings: dict[str, Any], x: Floats, z: Floats, seed: int) -> int:
    order = np.random.default_rng(seed).permutation(len(x))
    held = order[: max(1, round(HELD_OUT * len(x)))]
    seen = np.setdiff1d(order, held)
    stopped = lightgbm.train(
        settings, lightgbm.Dataset(x[seen], z[seen]), MOST_TREES, valid_sets=[lightgbm.Dataset(x[held], z[held])],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )  # fmt: skip
    return max(1, int(stopped.best_iteration or stopped.num_trees()))


def _lightgbm() -> Any:
    if not available():
        raise CurateError(MISSING)
    import lightgbm

    return lightgbm
