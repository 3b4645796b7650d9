"""How often an ablation calls mixes without a difference different, and what so few runs can show: no model is trained.

Simulated are families of three tasks whose runs differ by their seed, by their questions and by both together, graded and
right-or-wrong, at 2, 3 and 5 seeds. Beside it the table of `needed`. JSON: bench/results/ablation_noise.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from curate.mixtures.ablate import Measure, compare, holm, needed

RESULTS = Path(__file__).parent / "results" / "ablation_noise.json"
TRIALS, TASKS, QUESTIONS, LEVEL = 400, 3, 60, 0.05
SEEDS = (2, 3, 5, 10)
NOISES = ((0.0, 0.4), (0.1, 0.4), (0.3, 0.1))
"""Standard deviations of a run, and of a run on a question, beside 1 of the questions."""


def false_alarms(seeds: int, runs: float, crossed: float, binary: bool) -> float:
    """The share of trials in which any task of two equal mixes has a verdict but `within noise`."""
    random, alarms = np.random.default_rng([seeds, int(100 * runs), int(100 * crossed), binary]), 0
    for _ in range(TRIALS):
        family = []
        for task in range(TASKS):
            shape = (2, seeds, QUESTIONS)
            sides = (
                random.normal(size=QUESTIONS) + random.normal(0, runs, (2, seeds, 1)) + random.normal(0, crossed, shape)
            )
            first, second = (sides > 0).astype(np.float64) if binary else sides
            family.append(compare(Measure(str(task), "tasks"), first, second, level=LEVEL))
        alarms += min(holm([item.p for item in family])) <= LEVEL
    return alarms / TRIALS


def main() -> None:
    began, alarms = time.perf_counter(), []
    for seeds in SEEDS[:3]:
        for runs, crossed in NOISES:
            for binary in (False, True):
                share = false_alarms(seeds, runs, crossed, binary)
                alarms.append({"seeds": seeds, "runs": runs, "crossed": crossed, "binary": binary, "share": share})
                print(f"{seeds} seeds, noise {runs:g} and {crossed:g}, {'binary' if binary else 'graded'}: {share:.2%}")
    table = [{"seeds": n, "one": round(needed(n, 1, LEVEL), 2), "eight": round(needed(n, 8, LEVEL), 2)} for n in SEEDS]
    for row in table:
        print(
            f"{row['seeds']:>2} seeds: {row['one']:.2f} standard deviations of a run, {row['eight']:.2f} with eight tasks"
        )
    facts = {"trials": TRIALS, "tasks": TASKS, "questions": QUESTIONS, "level": LEVEL, "false_alarms": alarms}
    RESULTS.write_text(
        json.dumps(facts | {"needed": table, "seconds": round(time.perf_counter() - began, 1)}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
