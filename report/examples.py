"""Single records to look at: dropped ones by reason, quarantined ones, kept ones; their text made safe to show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from curate.pipeline.documents import QUANTILES, SCORES
from curate.pipeline.workspace import Workspace, redact
from curate.report.facts import StageFacts, spread
from curate.report.scan import documents_at
from curate.report.words import clean, link, measured

KEPT = 6
"""Kept documents shown."""
REASONS = 14
"""Reasons of which dropped records are shown, the commonest first."""


def page(row: dict[str, Any]) -> dict[str, Any]:
    """A document's or a ledger row's own text, made safe to show; `link` is its URL where a browser may follow it."""
    source = row.get("source")
    return row | {
        "id": clean(row.get("id"), 200),
        "url": clean(row.get("url"), 300),
        "link": link(row.get("url")),
        "title": clean(row.get("title"), 160),
        "source": clean(redact(source) if isinstance(source, str) else source, 200),
        "detail": clean(row.get("detail"), 300),
    }


def dropped_examples(stages: Sequence[StageFacts], number: int = REASONS) -> list[dict[str, Any]]:
    """For the commonest reasons of all stages: their example rows, each with every rule that it failed."""
    ranked = sorted(
        (
            (stage, reason, total)
            for stage in stages
            for (outcome, reason), total in stage.ledger.outcomes.items()
            if outcome == "dropped"
        ),
        key=lambda item: (-item[2], item[0].name, item[1]),
    )
    found = []
    for stage, reason, total in ranked[:number]:
        rows = []
        for row in stage.ledger.examples.get(("dropped", reason), []):
            also = [
                f"{clean(rule['rule'], 80)} {measured(rule['value'])} ({rule['bound']} {measured(rule['threshold'])})"
                for rule in (row["failed"] or [])[1:4]
            ]
            rows.append(page(row) | {"kept_id": clean(row["kept_id"], 200), "also": "; ".join(also)})
        found.append(
            {
                "stage": stage.name,
                "reason": clean(reason, 80),
                "total": total,
                "rows": rows,
                "valued": any(row["value"] is not None for row in rows),
                "twins": any(row["kept_id"] for row in rows),
                "noted": any(row["detail"] or row["also"] for row in rows),
            }
        )
    return found


def quarantined(stages: Sequence[StageFacts]) -> dict[str, Any]:
    """Records set aside: how many for which reason, and where they stand in the input."""
    counted: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for stage in stages:
        for (outcome, reason), total in sorted(stage.ledger.outcomes.items()):
            if outcome == "quarantined":
                examples = stage.ledger.examples.get((outcome, reason), [])
                counted.append(
                    {"stage": stage.name, "reason": clean(reason, 80), "total": total, "shown": len(examples)}
                )
                rows.extend(page(row) | {"stage": stage.name, "reason": clean(reason, 80)} for row in examples)
    return {"counts": counted, "rows": rows}


def kept_examples(workspace: Workspace, stage: StageFacts, seed: int) -> list[dict[str, Any]]:
    """A few documents drawn evenly from all that were kept, with the beginning of their text."""
    sizes = {shard["docs"]["path"]: int(shard["counts"]["kept"]) for shard in stage.shards}
    chosen = spread(random.Random(f"{seed}/kept"), sizes, KEPT)
    numbers = [name for score in SCORES for name in (score, *(f"{score}_{part}" for part in QUANTILES))]
    wanted = ("id", "url", "snapshot", "title", "text", "language", "topic", *numbers, "duplicates")
    found = []
    for path, rows in chosen.items():
        for row in documents_at(workspace, path, rows, wanted):
            scores = [(key.replace("_", " "), row[key]) for key in numbers if row.get(key) is not None]
            facts = [
                clean(row.get("language"), 20),
                clean(row.get("topic"), 80),
                *(f"{key} {measured(value)}" for key, value in scores),
            ]
            if (row.get("duplicates") or 1) > 1:
                facts.append(f"{row['duplicates']:,} copies seen")
            found.append(
                page(row) | {"text": clean(row.get("text"), 500, lines=True), "facts": [fact for fact in facts if fact]}
            )
    return found
