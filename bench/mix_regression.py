"""`python bench/mix_regression.py DATA`: how well the regressions rank mixtures that they have not seen.

RegMix's own runs (DATA/mixture-runs.tar.xz): 512 fits of 17 domains at 1M parameters; 256 test mixtures at 1M and at 60M.
Spearman for the loss on Pile-CC, and the mean over all 13 losses, by kind and by number of runs (54 and 128: means over
seeded random subsets; `auto` chooses in each). The test mixtures steer nothing: kinds, settings and stops are found on the
training runs. Writes bench/results/mix_regression.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import spearmanr

from curate.mixtures.regression import KINDS, Model, fit
from curate.mixtures.runs import Runs, read_runs

RESULTS = Path(__file__).parent / "results"
TARGET = "loss/the_pile_pile_cc"
SUBSETS = {54: 20, 128: 20, 512: 1}
"""Runs that are fitted to, and how many random choices of them."""
BARS = {512: {"1M": 0.992, "60M": 0.988}, 128: {"1M": 0.98, "60M": 0.975}}
SIZES = ("1M", "60M")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of mixture-runs.tar.xz")
    parser.add_argument("--output", type=Path, default=RESULTS / "mix_regression.json")
    parser.add_argument("--subsets", type=int, help="random choices of runs instead of 20")
    given = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        archive = given.data / "mixture-runs.tar.xz"
        if not archive.is_file():
            parser.error(f"{archive} is not there")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        root = next(Path(folder).rglob("train_mixture_1m.csv")).parent
        train, tests = open_runs(root)
    found = {
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "lightgbm")},
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "bars": {f"{runs} runs": bar for runs, bar in BARS.items()},
        "Pile-CC alone": one_loss(train, tests, given.subsets, console),
        "13 losses, 512 runs": all_losses(train, tests, console),
    }
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(0 if _reached(found, console) else 1)


def open_runs(root: Path) -> tuple[Runs, dict[str, Runs]]:
    """(training runs, test runs by size of the model)."""

    def pair(name: str) -> Runs:
        part, size = name.split("_")
        return read_runs(root / f"{part}_mixture_{size}.csv", root / f"{part}_pile_loss_{size}.csv")

    return pair("train_1m"), {"1M": pair("test_1m"), "60M": pair("test_60m")}


def one_loss(train: Runs, tests: dict[str, Runs], subsets: int | None, console: Console) -> dict[str, Any]:
    """Spearman for TARGET by number of runs, kind and size of the test model."""
    target = train.select(TARGET)
    found = {}
    for runs, choices in SUBSETS.items():
        count = min(choices, subsets or choices)
        scores: dict[str, list[list[float]]] = {}
        chosen, seconds = Counter[str](), []
        for choice in range(count):
            order = np.random.default_rng([runs, choice]).permutation(len(target))[:runs]
            some = target.take(np.sort(order))
            began = time.process_time()
            auto = fit(some.weights, some.losses[:, 0], seed=choice)
            seconds.append(time.process_time() - began)
            chosen[auto.kind] += 1
            for kind in (*KINDS, "auto"):
                model = auto
                if kind not in ("auto", auto.kind):
                    model = fit(some.weights, some.losses[:, 0], kind, seed=choice, validate=False)
                scores.setdefault(kind, []).append([_rank(model, tests[size].select(TARGET)) for size in SIZES])
        table = {
            kind: {
                size: {"mean": round(float(column.mean()), 4), "least": round(float(column.min()), 4)}
                for size, column in zip(SIZES, np.array(rows).T, strict=True)
            }
            for kind, rows in scores.items()
        }
        found[f"{runs} runs"] = {
            "subsets": count, "chosen": dict(chosen), "CPU seconds of auto": round(float(np.mean(seconds)), 2),
            "Spearman": table,
        }  # fmt: skip
        for kind, row in table.items():
            console.print(f"{runs} runs, {kind}: " + ", ".join(f"{size} {row[size]['mean']:.4f}" for size in SIZES))
    return found


def all_losses(train: Runs, tests: dict[str, Runs], console: Console) -> dict[str, Any]:
    """All tasks at once, chosen together: what cross-validation said and what the tests say."""
    began = time.process_time()
    auto = fit(train.weights, train.losses, domains=train.domains, tasks=train.tasks)
    seconds = time.process_time() - began
    for line in auto.report.lines():
        console.print(line)
    by_size = {}
    for size, test in tests.items():
        predicted = auto.predict(test.weights)
        ranks = [_spearman(predicted[:, task], test.losses[:, task]) for task in range(len(train.tasks))]
        by_size[size] = {"mean": round(float(np.mean(ranks)), 4), "by loss": dict(zip(test.tasks, ranks, strict=True))}
    report = auto.report
    spread = auto.spread(tests["1M"].weights)
    covered = None
    if spread is not None:
        off = np.abs(auto.predict(tests["1M"].weights) - tests["1M"].losses)
        covered = round(float((off <= 1.96 * spread).mean()), 4)
    return {
        "chosen": auto.kind, "why": report.why, "CPU seconds of auto": round(seconds, 1),
        "cross-validation": {
            kind: {"Spearman": round(score.spearman.value, 4), "RMSE": round(score.rmse.value, 4)}
            for kind, score in report.kinds.items()
        },
        "Spearman on tests": by_size, "share of 1M tests within 1.96 deviations": covered,
    }  # fmt: skip


def _rank(model: Model, test: Runs) -> float:
    return _spearman(model.predict(test.weights), test.losses[:, 0])


def _spearman(predicted: Any, measured: Any) -> float:
    return round(float(spearmanr(predicted, measured).statistic), 4)


def _reached(found: dict[str, Any], console: Console) -> bool:
    """Whether the chosen fits reach the bars."""
    good = True
    for runs, bar in BARS.items():
        scores = found["Pile-CC alone"][f"{runs} runs"]["Spearman"]["auto"]
        for size, least in bar.items():
            value = scores[size]["mean"]
            good &= value >= least
            console.print(f"{runs} runs, {size}: {value:.4f}, bar {least}{'' if value >= least else ': NOT REACHED'}")
    return good


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(asked, capture_output=True, text=True, check=False, cwd=RESULTS).stdout.strip()


if __name__ == "__main__":
    main()
