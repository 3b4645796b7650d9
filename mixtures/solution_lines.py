"""A solution as lines for a person: which fit and how good, the shares, what is gained and what is noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.pipeline.progress import number_of
from curate.pipeline.tables import grid, printable

SHOWN = 40
"""Domains and tasks in a table; `solution.json` has them all."""
POOR = 0.5
"""Spearman correlation on runs left out, below which a fit says little."""
CARRY_OVER = (
    "log-linear is the fit that carries over to larger models best (RegMix's runs, 1M to 1B parameters): for a mix that "
    "trains a much larger model, compare `--kind log-linear` and trust the shares on which both agree"
)
NARROW = (
    "intervals of gains hold the noise of runs and the fit's error on runs left out; those of shares the noise alone: they are "
    "too narrow where runs are few"
)
UNITS = {"loss": "nats a token", "bits_per_byte": "bits per byte", "task": "bits per byte of the gold answer"}
BINDING = {
    "repeats": "at the cap of repeats", "cap": "at its cap", "floor": "at its floor", "zero": "left out",
}  # fmt: skip


def solution_lines(facts: Mapping[str, Any]) -> list[str]:
    """What `curate mix solve` prints of `solution.json`."""
    return [
        *_fit_lines(facts),
        "",
        *domain_lines(facts),
        "",
        *gain_lines(facts),
        "",
        *_proof_lines(facts),
        *(f"warning: {printable(line)}" for line in facts.get("warnings", [])),
        *(f"note: {printable(note)}" for note in facts["notes"]),
    ]


def _fit_lines(facts: Mapping[str, Any]) -> list[str]:
    runs = number_of(facts["runs"], "run")
    lines = [
        f"{runs} ({number_of(facts['replicates'], 'replicate')} of the natural mixture), "
        f"{number_of(len(facts['tasks']), 'task')} by {UNITS.get(facts['measure'], facts['measure'])}"
    ]
    lines += choice_lines(facts["choice"])
    held = facts["held_out"]
    line = f"fit: {facts['kind']}"
    if held is not None:
        line += (
            f"; runs held out of it are ranked with a Spearman correlation of {held['spearman']:.3f}, the mean over "
        )
        line += f"tasks is off by {held['rmse']:.4f}"
    lines.append(line)
    if held is not None and held["spearman"] < POOR:
        lines.append(
            "note: it hardly ranks runs that it has not seen: do not trust the shares; train more runs, or longer ones"
        )
    if facts["kind"] != "log-linear" and not any("log-linear is advised" in line for line in lines):
        lines.append(f"advice: {CARRY_OVER}")
    return lines


def choice_lines(choice: Any) -> list[str]:
    """The regressions that were compared, and why one was chosen."""
    return [printable(line) for line in choice.get("lines", [])] if isinstance(choice, dict) else []


def domain_lines(facts: Mapping[str, Any]) -> list[str]:
    """The table domain, natural share, solved share with its interval, repeats, what binds; the largest share first."""
    domains = facts["domains"]
    ranked = sorted(domains, key=lambda name: (-domains[name]["solved"], -domains[name]["natural"], name))
    rows = []
    for name in ranked[:SHOWN]:
        row = domains[name]
        between = "" if row["low"] is None else f"{row['low']:.2%} to {row['high']:.2%}"
        repeats = "-" if row["repeats"] is None else f"{row['repeats']:.2f}"
        bound = ", ".join(BINDING.get(item, item) for item in row["binding"])
        rows.append([name, f"{row['natural']:.2%}", f"{row['solved']:.2%}", between, repeats, bound])
    lines = grid(("domain", "natural", "solved", "95 % interval", "repeats", ""), rows, left=(0, 5))
    if len(ranked) > SHOWN:
        lines.append(f"and {number_of(len(ranked) - SHOWN, 'more domain')}")
    return lines


def gain_lines(facts: Mapping[str, Any]) -> list[str]:
    """The table of predicted gains, the largest first, and how many of them are more than noise."""
    tasks = facts["tasks"]
    ranked = sorted(tasks, key=lambda name: (-tasks[name]["gain"], name))
    rows = []
    for name in ranked if len(ranked) <= SHOWN else [*ranked[: SHOWN // 2], *ranked[-SHOWN // 2 :]]:
        row = tasks[name]
        between = "" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"
        noise = "" if row["noise"] is None else f"{row['noise']:.4f}"
        cells = [name, f"{row['natural']:.4f}", f"{row['predicted']:.4f}", f"{row['gain']:+.4f}", between, noise]
        rows.append([*cells, row["verdict"]])
    heads = ("task", "natural", "solved", "gain", "95 % interval", "noise of a run", "")
    lines = grid(heads, rows, left=(0, 6))
    if len(ranked) > SHOWN:
        lines.append(f"and {number_of(len(ranked) - len(rows), 'more task')} in between")
    return [*lines, gain_sentence(facts), *([NARROW] if facts["bootstrap"] else [])]


def gain_sentence(facts: Mapping[str, Any]) -> str:
    """How many tasks gain, lose, or do neither beyond the noise."""
    verdicts = [row["verdict"] for row in facts["tasks"].values()]
    if "not known" in verdicts:
        return "whether these gains are more than noise is not known: there are neither replicates nor intervals"
    better, worse = verdicts.count("better"), verdicts.count("worse")
    rest = len(verdicts) - better - worse
    said = [f"{number_of(better, 'task')} better", f"{worse} worse", f"{rest} within noise"]
    if not facts["replicates"]:
        said.append("(by the intervals of the fit alone: there are no replicates)")
    elif not facts["bootstrap"]:
        said.append("(by the noise of replicates alone: there are no intervals)")
    return "predicted against the natural mixture: " + ", ".join(said[:3]) + " ".join(["", *said[3:]])


def _proof_lines(facts: Mapping[str, Any]) -> list[str]:
    if facts["method"] == "exact":
        line = f"solved exactly: objective {facts['objective']:.6f}, KKT residual {facts['residual']:.1e}"
        if facts.get("gap") is not None:
            line += f", at most {facts['gap']:.1e} above the lowest there is"
    else:
        line = f"solved by search, for {facts['kind']} is not convex: objective {facts['objective']:.6f}"
    budget = f"{facts['budget']:,} tokens" if facts["budget"] is not None else "a budget that exhausts nothing"
    price = f", KL to the natural mixture at {facts['kl']:g}" if facts["kl"] else ""
    return [line, f"for {budget}, repeats at most {facts['max_repeats']:g}, {facts['aggregate']} over tasks{price}"]
