"""What a training log says beyond the loss: learning rate, validation by group, tasks, speed; swarm and scaling beside it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from curate.pipeline.errors import CurateError
from curate.pipeline.progress import duration, size
from curate.pipeline.workspace import Workspace
from curate.report.charts import Series, line
from curate.report.scaling import scaling_figure
from curate.report.words import clean, count, measured, share

GROUPS = {"buckets": "bucket", "languages": "language"}
"""What validation is divided by, as the log and the result name it, and the head of the column."""
ROWS = 40
TASKS = 12
SWARM = "swarm/runs"
FIT = "scaling/fit.json"
EVALUATION = "pretrain/evaluation.json"
Averaged = Callable[[Sequence[tuple[float, float]]], tuple[tuple[float, float], ...]]
Facts = list[tuple[str, str]]


def read_entries(workspace: Workspace) -> list[dict[str, Any]]:
    """The lines of `pretrain/log.jsonl` that can be read and have a step."""
    return list(_entries(workspace))


def _entries(workspace: Workspace) -> Iterator[dict[str, Any]]:
    if not workspace.exists("pretrain/log.jsonl"):
        return
    with workspace.open("pretrain/log.jsonl") as stream:
        for raw in stream:
            try:
                entry = json.loads(raw)
            except ValueError:
                continue  # the last line of a run that was killed may be cut
            if isinstance(entry, dict) and isinstance(entry.get("step"), int):
                yield entry


def learning_rate(entries: Sequence[dict[str, Any]], averaged: Averaged) -> Markup | None:
    """The learning rate by step; None where the log has none."""
    points = sorted({entry["step"]: float(entry["lr"]) for entry in entries if _number(entry.get("lr"))}.items())
    if not points:
        return None
    series = [Series("learning rate", averaged([(float(step), rate) for step, rate in points]))]
    return line(series, title="Learning rate", x_label="step", y_label="")


def groups(entries: Sequence[dict[str, Any]], result: dict[str, Any]) -> list[dict[str, Any]]:
    """Validation by bucket and by language: the first and the last measured, of the largest groups, worst first."""
    validations = [entry["validation"] for entry in entries if isinstance(entry.get("validation"), dict)]
    final = result.get("validation") if isinstance(result.get("validation"), dict) else None
    validations += [final] if final else []
    found = []
    for kind, head in GROUPS.items():
        measurements = [one[kind] for one in validations if isinstance(one.get(kind), dict) and one[kind]]
        if not measurements:
            continue
        bits = any(_number(_of(scores, "bits_per_byte")) for scores in measurements[-1].values())
        key = "bits_per_byte" if bits else "loss"
        last = {name: scores for name, scores in measurements[-1].items() if _number(_of(scores, key))}
        largest = sorted(last, key=lambda name: (-(_of(last[name], "tokens") or 0), name))[:ROWS]
        rows = [
            {
                "name": clean(name, 80) or "not known",
                "first": measured(_of(measurements[0].get(name), key)),
                "last": measured(_of(last[name], key)),
                "tokens": count(_of(last[name], "tokens")),
            }
            for name in sorted(largest, key=lambda name: (-last[name][key], name))
        ]
        if rows:
            unit = "bits per byte" if bits else "nats a token"
            found.append({"head": head, "unit": unit, "rows": rows, "more": len(last) - len(rows)})
    return found


def tasks(entries: Sequence[dict[str, Any]]) -> list[Markup]:
    """A chart a task: its main score by step, and what guessing gets."""
    curves: dict[str, dict[int, dict[str, Any]]] = {}
    for entry in entries:
        for name, scores in entry["tasks"].items() if isinstance(entry.get("tasks"), dict) else ():
            if isinstance(scores, dict) and _number(scores.get(scores.get("primary"))):
                curves.setdefault(name, {})[entry["step"]] = scores
    found = []
    for name in sorted(curves)[:TASKS]:
        steps = sorted(curves[name])
        last = curves[name][steps[-1]]
        metric = str(last["primary"])
        points = tuple(
            (float(s), float(curves[name][s][metric])) for s in steps if _number(curves[name][s].get(metric))
        )
        series = [Series(clean(metric.replace("_", " "), 60), points, dots=len(points) <= 40)]
        if _number(last.get("chance")) and metric.startswith("accuracy"):
            ends = ((points[0][0], float(last["chance"])), (points[-1][0], float(last["chance"])))
            series.append(Series("chance", ends))
        asked = f", {count(last['questions'])} questions" if _number(last.get("questions")) else ""
        found.append(line(series, title=clean(name, 80) + asked, x_label="step", y_label=metric.replace("_", " ")))
    return found


def speed(entries: Sequence[dict[str, Any]]) -> Facts:
    """Medians over the steps; what the log does not have is left out."""

    def values(name: str) -> list[float]:
        return [float(entry[name]) for entry in entries if _number(entry.get(name))]

    found: Facts = []
    rates, tokens, waits = values("tokens_per_second"), values("tokens"), values("data_wait")
    if rates:
        found.append(("tokens a second", count(statistics.median(rates))))
    if uses := values("mfu"):
        found.append(("model FLOPs utilisation", share(statistics.median(uses), 1)))
    if rates and tokens and len(rates) == len(tokens):
        steps = zip([0.0, *tokens], tokens, rates, strict=False)
        found.append(("time in steps", duration(sum((now - before) / rate for before, now, rate in steps if rate))))
    if waits:
        found.append(("waiting for data", share(statistics.mean(waits), 1)))
    for name, label in (("memory_allocated", "GPU memory, tensors"), ("memory_reserved", "GPU memory, reserved")):
        if most := values(name):
            found.append((label, size(max(most))))
    if resident := values("memory"):
        found.append(("memory, resident", size(max(resident))))
    return found


def swarm(workspace: Workspace) -> Facts:
    """The finished proxy runs in the workspace; empty where there are none."""
    runs = [workspace.read_json(name) for name in workspace.list(SWARM, ".json")]
    losses = [_of(run.get("validation"), "loss") for run in runs if isinstance(run, dict)]
    losses = [loss for loss in losses if _number(loss)]
    if not losses:
        return []
    seconds = [
        value
        for run in runs
        for value in (run["seconds"].values() if isinstance(run, dict) and isinstance(run.get("seconds"), dict) else ())
        if _number(value)
    ]
    found = [
        ("runs", count(len(losses))),
        ("validation loss, best", measured(min(losses))),
        ("validation loss, median", measured(statistics.median(losses))),
        ("validation loss, worst", measured(max(losses))),
    ]
    return [*found, *([("time of all", duration(sum(seconds)))] if seconds else [])]


def evaluation(workspace: Workspace) -> Facts:
    """What `curate evaluate` measured last; empty where it did not."""
    found = workspace.read_json(EVALUATION)
    if not isinstance(found, dict):
        return []
    facts: Facts = [("checkpoint", clean(found.get("checkpoint"), 120))]
    for label, key in (("validation loss", "loss"), ("validation bits per byte", "bits_per_byte")):
        value = _of(found.get("validation"), key)
        facts += [(label, measured(value))] if value is not None else []
    for name, scores in found["tasks"].items() if isinstance(found.get("tasks"), dict) else ():
        metric = str(scores.get("primary")) if isinstance(scores, dict) else ""
        value, chance = _of(scores, metric), _of(scores, "chance")
        guessed = f" (chance {measured(chance)})" if chance is not None and metric.startswith("accuracy") else ""
        if value is not None:
            facts.append((f"{clean(name, 80)}, {clean(metric.replace('_', ' '), 60)}", measured(value) + guessed))
    coded = found["compression"] if isinstance(found.get("compression"), dict) else {}
    for name, label in (("model", "the model"), ("gzip", "gzip"), ("lzma", "LZMA")):
        rate = _of(coded.get(name), "rate")
        facts += [(f"text compressed by {label} to", share(rate, 1))] if rate is not None else []
    return facts


def scaling(workspace: Workspace) -> Markup | None:
    """The fit that `curate scaling` left; None where there is none, CurateError where it is none."""
    facts = workspace.read_json(FIT)
    if facts is None:
        return None
    try:
        return scaling_figure(facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(f"{FIT} is not a fit ({error!r}): run `curate scaling` again") from error


def _of(scores: Any, key: str) -> Any:
    value = scores.get(key) if isinstance(scores, dict) else None
    return value if _number(value) else None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
