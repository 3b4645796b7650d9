"""The parts on what came of it: the mix that was written, the model that was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report import training as log
from curate.report.charts import Bar, Series, bars, line
from curate.report.words import clean, count, measured, share

BUCKETS = 30
"""Buckets of the mix that are shown, the largest first; the rest is one bar."""
POINTS = 400
"""Points of a loss curve at most: more steps are averaged."""

Points = list[tuple[float, float]]


def mix(workspace: Workspace) -> dict[str, Any]:
    """What `mix/tokens.json` says: sizes, buckets as bars; empty where there is no mix."""
    data = workspace.read_json("mix/tokens.json")
    if data is None:
        return {}
    try:
        return _mix(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(
            f"mix/tokens.json is not a description of a mix ({error!r}): run `curate mix` again"
        ) from error


def _mix(data: dict[str, Any]) -> dict[str, Any]:
    tokens, size, held_out = int(data["tokens"]), int(data["bytes"]), data["validation"]
    facts = [
        ("tokens", count(tokens)),
        ("documents", count(data["documents"])),
        ("bytes of text", count(size)),
        ("bytes a token", measured(round(size / tokens, 3)) if tokens else "–"),
        ("vocabulary", count(data["vocab_size"])),
        ("stored as", clean(data["dtype"], 20)),
        ("held out for validation", f"{count(held_out['tokens'])} tokens in {count(held_out['documents'])} documents"),
    ]
    if data.get("max_repeats") is not None:
        facts.append(("repeats of a document at most", measured(float(data["max_repeats"]))))
    buckets = {key: value for key, value in data["buckets"].items() if value["tokens"]}
    ranked = sorted(buckets, key=lambda key: (-buckets[key]["tokens"], key))
    items = [
        Bar(clean(key, 80), buckets[key]["tokens"], _bucket_note(buckets[key]), code=True) for key in ranked[:BUCKETS]
    ]
    if rest := ranked[BUCKETS:]:
        items.append(Bar(f"{len(rest):,} other buckets", sum(buckets[key]["tokens"] for key in rest)))
    return {"tokens": tokens, "facts": facts, "chart": bars(items, head="bucket", unit="tokens", whole=tokens)}


def _bucket_note(bucket: dict[str, Any]) -> str:
    parts = [f"{count(bucket['documents'])} document{'s' if bucket['documents'] != 1 else ''}"]
    if bucket.get("pool_share") is not None:
        parts.append(f"{share(bucket['pool_share'], 1)} of pool")
    if (bucket.get("most_repeats") or 1) > 1:
        parts.append(f"up to {count(bucket['most_repeats'])}×")
    return " · ".join(parts)


def training(workspace: Workspace) -> dict[str, Any]:
    """The loss curves of `pretrain/log.jsonl` and the facts and sample of `pretrain/result.json`; empty without either."""
    result = workspace.read_json("pretrain/result.json")
    result = result if isinstance(result, dict) else {}
    train, held_out = curves(workspace)
    if not train and not result:
        return {}
    series = [Series("training", averaged(train))] if train else []
    if held_out:
        series.append(Series("validation", tuple(held_out), dots=len(held_out) <= 40))
    chart = line(series, title="Loss", x_label="step", y_label="nats a token") if series else None
    entries = log.read_entries(workspace)
    validation = result.get("validation")
    bits = validation.get("bits_per_byte") if isinstance(validation, dict) else None
    return {
        "chart": chart,
        "learning_rate": log.learning_rate(entries, averaged),
        "facts": _facts(result),
        "speed": log.speed(entries),
        "groups": log.groups(entries, result),
        "tasks": log.tasks(entries),
        "evaluation": log.evaluation(workspace),
        "swarm": log.swarm(workspace),
        "scaling": log.scaling(workspace),
        "sample": _sample(result.get("sample")),
        "finished": bool(result),
        "bits": bits,
    }


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers of a finished run that are there, in reading order."""
    found = []
    for label, *path in (
        ("model", "config", "size"),
        ("objective", "config", "objective"),
        ("parameters", "parameters", "all"),
        ("parameters without embeddings", "parameters", "without_embeddings"),
        ("steps", "steps"),
        ("tokens seen", "tokens"),
        ("epochs", "epochs"),
        ("training loss, first step", "first_train_loss"),
        ("training loss, end", "train_loss"),
        ("validation loss", "validation", "loss"),
        ("validation bits per byte", "validation", "bits_per_byte"),
        ("validation tokens", "validation", "tokens"),
        ("checkpoint", "checkpoint"),
    ):
        value: Any = result
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str):
            found.append((label, clean(value, 120)))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((label, measured(value)))
    return found


def _sample(given: Any) -> dict[str, str]:
    """What the model wrote: `text`, which begins with `prompt`; for a masked objective `masked` is what it was given."""
    if not isinstance(given, dict) or not given.get("text"):
        return {}
    return {
        "prompt": clean(given.get("prompt"), 200),
        "masked": clean(given.get("masked"), 3000, lines=True),
        "text": clean(given["text"], 3000, lines=True),
    }


def curves(workspace: Workspace) -> tuple[Points, Points]:
    """Training and validation loss in nats by step; where a step was logged twice, its last line counts."""
    train: dict[float, float] = {}
    held_out: dict[float, float] = {}
    for entry in log.read_entries(workspace):
        validation = entry.get("validation")
        scored = validation.get("loss") if isinstance(validation, dict) else None
        for loss, points in ((entry.get("loss"), train), (scored, held_out)):
            if isinstance(loss, int | float):
                points[entry["step"]] = float(loss)
    return sorted(train.items()), sorted(held_out.items())


def averaged(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """At most POINTS points: means over equal runs of steps."""
    if len(points) <= POINTS:
        return tuple(points)
    parts = np.array_split(np.array(points), POINTS)
    return tuple((float(part[-1, 0]), float(part[:, 1].mean())) for part in parts)
