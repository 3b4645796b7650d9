"""The part on the mixture: what the swarm measured, what was solved for, what of it is more than noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from curate.mixtures.solution_lines import BINDING, CARRY_OVER, UNITS, choice_lines, gain_sentence
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report.charts import Series, line
from curate.report.rows import Mark, cloud, rows
from curate.report.words import clean, count, measured, share

SWARM = "swarm"
"""The folder whose solution is shown: the default of `curate mix solve`."""
ROWS = 30
"""Domains and tasks that are drawn, the largest and, of gains, the extremes."""
CURVES = 3


def mixture(workspace: Workspace) -> dict[str, Any]:
    """The section's facts and charts, of those files that are there; empty where none is.

    Raises CurateError where one of them is not what it should be.
    """
    solution, tasks = (workspace.read_json(f"{SWARM}/{name}.json") for name in ("solution", "tasks"))
    curve = _guarded("mix/tokens.json", "curate mix", upsampling, workspace)
    found: dict[str, Any] = {}
    if solution is not None:
        found |= _guarded(f"{SWARM}/solution.json", "curate mix solve", _solution, solution)
    if tasks is not None:
        found |= _guarded(f"{SWARM}/tasks.json", "curate mix tasks", _tasks, tasks)
    if curve is not None:
        found["upsampling"] = curve
    empty: dict[str, Any] = {
        "facts": [],
        "lines": [],
        "notes": [],
        "charts": [],
        "signal": None,
        "upsampling": None,
        "sentence": "",
    }
    return empty | found if found else {}


def _guarded(name: str, command: str, make: Any, given: Any) -> Any:
    try:
        return make(given)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CurateError(f"{name} is not what `{command}` writes ({error!r}): run it again") from error


def _solution(facts: Mapping[str, Any]) -> dict[str, Any]:
    held = facts["held_out"]
    listed = [
        ("runs", count(facts["runs"])),
        ("of them replicates", count(facts["replicates"])),
        ("judged by", clean(UNITS.get(facts["measure"], facts["measure"]), 60)),
        ("regression", clean(facts["kind"], 40)),
        ("solved", "exactly" if facts["method"] == "exact" else "by search"),
    ]
    if facts["residual"] is not None:
        listed.append(("KKT residual", f"{facts['residual']:.1e}"))
    if facts["budget"] is not None:
        listed.append(("budget, tokens", count(facts["budget"])))
    listed.append(("repeats of a domain at most", measured(facts["max_repeats"])))
    listed.append(("price of leaving the natural mixture", measured(facts["kl"])))
    if held is not None:
        listed.append(("ranks of held-out runs, Spearman", measured(round(held["spearman"], 4))))
    charts = [shares(facts), repeats(facts), gains(facts), predictions(facts)]
    return {
        "facts": listed,
        "lines": [clean(item, 300, lines=True) for item in choice_lines(facts["choice"])],
        "notes": [
            *(f"Warning: {clean(warning, 400)}" for warning in facts.get("warnings", [])),
            *(clean(note, 400) for note in facts["notes"]),
            *([CARRY_OVER.replace("`", "")] if facts["kind"] != "log-linear" else []),
        ],
        "charts": [chart for chart in charts if chart],
        "sentence": gain_sentence(facts),
    }


def shares(facts: Mapping[str, Any]) -> Markup:
    """Natural against solved shares, a row a domain, with the interval of the solved one."""
    domains = facts["domains"]
    ranked = sorted(domains, key=lambda name: (-domains[name]["solved"], -domains[name]["natural"], name))
    marks = [
        Mark(
            clean(name, 200), row["solved"], row["natural"], row["low"], row["high"],
            tip=f"natural {share(row['natural'], 1)}, solved {share(row['solved'], 1)}",
        )
        for name, row in ((name, domains[name]) for name in ranked[:ROWS])
    ]  # fmt: skip
    more = f"{len(ranked) - ROWS:,} smaller ones are not drawn." if len(ranked) > ROWS else ""
    whiskers = (
        " The line is the interval of 95 % of the bootstrap." if any(mark.low is not None for mark in marks) else ""
    )
    return rows(
        marks, title="Natural and solved shares", unit="share of the tokens", keys=("solved", "natural"), percent=True,
        note=(more + whiskers).strip(),
    )  # fmt: skip


def repeats(facts: Mapping[str, Any]) -> Markup:
    """Repeats of each domain's tokens at the budget, and the cap."""
    known = {name: row for name, row in facts["domains"].items() if row["repeats"] is not None}
    ranked = sorted(known, key=lambda name: (-known[name]["repeats"], name))[:ROWS]
    marks = [
        Mark(
            clean(name, 200), known[name]["repeats"], bar=True, soft="repeats" not in known[name]["binding"],
            tip=f"{known[name]['repeats']:.2f} times"
            + "".join(f", {BINDING.get(item, clean(item, 40))}" for item in known[name]["binding"]),
        )
        for name in ranked
    ]  # fmt: skip
    at = sum(not mark.soft for mark in marks)
    note = f"The dashed line is the cap; {count(at)} of {count(len(known))} domains reach it." if marks else ""
    return rows(marks, title="Repeats", unit="times that a token is in the mix", limit=facts["max_repeats"], note=note)


def gains(facts: Mapping[str, Any]) -> Markup:
    """What each task is predicted to gain against the natural mixture; pale where it is within the noise."""
    tasks = facts["tasks"]
    ranked = sorted(tasks, key=lambda name: (-tasks[name]["gain"], name))
    drawn = ranked if len(ranked) <= ROWS else [*ranked[: ROWS // 2], *ranked[-ROWS // 2 :]]
    marks = [
        Mark(
            clean(name, 200), row["gain"], None, row["low"], row["high"], soft=row["verdict"] not in ("better", "worse"),
            tip=f"{row['gain']:+.4f}, {clean(row['verdict'], 40)}",
        )
        for name, row in ((name, tasks[name]) for name in drawn)
    ]  # fmt: skip
    unit = clean(UNITS.get(facts["measure"], facts["measure"]), 60)
    note = "Right of 0 is better than the natural mixture; grey dots are within the noise."
    if len(drawn) < len(ranked):
        note += f" {len(ranked) - len(drawn):,} in between are not drawn."
    return rows(marks, title="Predicted gain by task", unit=unit, note=note)


def predictions(facts: Mapping[str, Any]) -> Markup:
    """Each run as measured and as a fit to other runs predicts it."""
    held = facts["held_out"]
    if held is None:
        return Markup("")
    points = [
        (float(x), float(y), kind == "replicate")
        for x, y, kind in zip(held["measured"], held["predicted"], held["kinds"], strict=True)
    ]
    unit = clean(UNITS.get(facts["measure"], facts["measure"]), 60)
    return cloud(
        points, title="Runs held out of the fit", x_label=f"measured, {unit}", y_label="predicted",
        note=f"Mean over tasks; rings are replicates of the natural mixture. Spearman {held['spearman']:.3f}.",
    )  # fmt: skip


def _tasks(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The signal-to-noise of each task across the swarm."""
    known = [task for task in facts["tasks"] if task["ratio"] is not None]
    ranked = sorted(known, key=lambda task: (-task["ratio"], task["task"]))[:ROWS]
    marks = [
        Mark(
            clean(task["task"], 200), task["ratio"], None, task["low"], task["high"], bar=True, soft=not task["signal"],
            tip=f"{task['ratio']:.1f}",
        )
        for task in ranked
    ]  # fmt: skip
    note = "Spread across mixtures / spread of one mixture across seeds; right of the dashed line it is signal."
    limit = float(facts["thresholds"]["ratio"])
    figure = rows(marks, title="Signal to noise by task", unit="signal / noise", limit=limit, note=note)
    return {"signal": figure or None}


def upsampling(workspace: Workspace) -> Markup | None:
    """Repeats by quality in the mix as it was written, of up to CURVES domains; None where `mix.upsample` asks for none."""
    summary = workspace.read_json("mix/tokens.json")
    asked = summary.get("upsample") if isinstance(summary, dict) else None
    curves = {name: row["curve"] for name, row in asked["groups"].items() if row["curve"]} if asked else {}
    return _curves(curves) if curves else None


def _curves(curves: Mapping[str, Any]) -> Markup | None:
    """The domains of the most, the middle and the fewest repeats."""
    from curate.mixtures.upsample import Curve

    ranked = sorted(curves, key=lambda name: (-curves[name]["ratio"], name))
    chosen = ranked if len(ranked) <= CURVES else [ranked[0], ranked[len(ranked) // 2], ranked[-1]]
    series = []
    for name in chosen:
        curve = Curve(**curves[name])
        places = [step / 200 for step in range(201)]
        series.append(Series(clean(name, 40), tuple(zip(places, curve(places).tolist(), strict=True))))
    return line(series, title="Upsampling by quality", x_label="quality percentile", y_label="repeats") or None
