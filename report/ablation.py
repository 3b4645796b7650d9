"""The part on an ablation: of each mix against the first, the difference by task and by held-out text, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from curate.mixtures.ablate import ACCURACY, BUCKETS, RESULT, TASKS, TEXTS, WITHIN_NOISE
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report.rows import Mark, rows
from curate.report.words import clean, count

ROWS = 30
"""Measures of one family that are drawn: those whose difference is largest, in their order."""
_HEADS = {
    TASKS: ("bits per byte of tasks' right answers", "bits per byte, less is better"),
    ACCURACY: ("accuracy of tasks", "accuracy, more is better"),
    TEXTS: ("bits per byte of held-out text", "bits per byte, less is better"),
    BUCKETS: ("bits per byte of held-out text by bucket", "bits per byte, less is better"),
}


def ablation(workspace: Workspace) -> dict[str, Any]:
    """The section's facts, charts and notes from `ablation/ablation.json`; empty without it.

    Raises CurateError where it is not what it should be.
    """
    facts = workspace.read_json(RESULT)
    if facts is None:
        return {}
    try:
        listed = [
            ("mixes compared", clean(", ".join(side["name"] for side in facts["workspaces"]), 200)),
            ("parameters of the model", count(facts["parameters"]["all"])),
            ("tokens of a run", count(facts["tokens"])),
            ("seeds", count(len(facts["seeds"]))),
            ("false alarms, by family", f"{100 * facts['level']:g} %"),
        ]
        charts = [_chart(pair, family, facts["level"]) for pair in facts["pairs"] for family in _HEADS]
        notes = [clean(note, 600) for note in facts["notes"]]
        return {"facts": listed, "charts": [chart for chart in charts if chart], "notes": notes}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(f"{RESULT} is not what `curate ablate` writes ({error!r}): run it again") from error


def _chart(pair: Mapping[str, Any], family: str, level: float) -> Markup:
    own = [item for item in pair["comparisons"] if item["family"] == family]
    largest = sorted(own, key=lambda item: -abs(item["difference"]))[:ROWS]
    marks = [
        Mark(
            clean(item["name"], 200),
            item["difference"],
            low=item["low"],
            high=item["high"],
            soft=item["verdict"] == WITHIN_NOISE,
            tip=f"{item['difference']:+.4f}, {item['verdict']}",
        )
        for item in own
        if any(item is one for one in largest)
    ]
    title, unit = _HEADS[family]
    more = f"; of {len(own)} the {ROWS} largest" if len(own) > ROWS else ""
    note = f"Difference with its {100 * (1 - level):g} % interval{more}. Pale: within noise, after Holm's correction."
    who = f"{clean(pair['second'], 60)} against {clean(pair['first'], 60)}"
    return rows(marks, title=f"{who}: {title}", unit=unit, note=note)
