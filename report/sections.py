"""The parts on records and documents: each function reads what it needs and gives plain values and charts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from curate.pipeline.documents import QUANTILES, SCORES
from curate.pipeline.markers import measured_path
from curate.pipeline.workspace import Workspace
from curate.report.charts import Bar, Histogram, Threshold, bars, histogram
from curate.report.facts import StageFacts
from curate.report.scan import Column, Tally, columns_of, tally
from curate.report.words import clean, count, measured, share

BARS = 25
"""Bars of a chart at most; the rest is one bar."""
LANGUAGES = 12
RULES = 8
"""Rules that get a histogram, those that failed most first."""
PARTS = tuple(f"{score}_{part}" for score in (*SCORES, "topic_score") for part in QUANTILES if part != "percentile")
"""Columns of whole numbers that say in which of some equal parts a page stands."""
WORDS = ("language", "topic")
LENGTH = "signals.word_count"
"""The signal that says how long a text is; without it, the texts' characters are counted."""


def bar_chart(
    counted: Counter[str], *, head: str, unit: str = "documents", empty: str = "(none)", code: bool = False
) -> Markup:
    """Bars of a counter, most first; what comes after the first BARS is added up."""
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    items = [Bar(clean(label, 60) or empty, value, code=code and bool(label)) for label, value in ranked[:BARS]]
    if len(ranked) > BARS:
        items.append(Bar(f"{len(ranked) - BARS:,} others", sum(value for _, value in ranked[BARS:])))
    return bars(items, head=head, unit=unit)


def reasons(stages: Sequence[StageFacts]) -> list[dict[str, Any]]:
    """A part a stage that dropped anything: its bar chart, against all records that came into the stage."""
    parts = []
    for stage in stages:
        dropped = Counter({reason: n for (outcome, reason), n in stage.ledger.outcomes.items() if outcome == "dropped"})
        if not dropped:
            continue
        ranked = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
        items = [Bar(clean(reason, 80), value, code=True) for reason, value in ranked[:BARS]]
        if len(ranked) > BARS:
            items.append(Bar(f"{len(ranked) - BARS} other reasons", sum(value for _, value in ranked[BARS:])))
        chart = bars(items, head="reason", unit="records", whole=stage.counts.records)
        parts.append(
            {"stage": stage.name, "records": stage.counts.records, "dropped": sum(dropped.values()), "chart": chart}
        )
    return parts


def rules(workspace: Workspace, stages: Sequence[StageFacts]) -> dict[str, Any]:
    """Rules that failed, with how often, how often alone, and their histograms where the signal was written down."""
    rows, charts = [], []
    for stage in stages:
        ledger = stage.ledger
        ranked = sorted(ledger.failed, key=lambda rule: (-ledger.failed[rule], rule))
        for rule in ranked:
            limits = sorted(ledger.limits[rule])
            rows.append(
                {
                    "stage": stage.name,
                    "name": clean(rule, 80),
                    "limits": limits_in_words(limits),
                    "failed": ledger.failed[rule],
                    "alone": ledger.alone[rule],
                    "share": share(ledger.failed[rule], stage.counts.records),
                }
            )
        charts += _rule_charts(workspace, stage, ranked) if ranked else []
    return {"rows": rows, "charts": charts}


def _rule_charts(workspace: Workspace, stage: StageFacts, ranked: Sequence[str]) -> list[Markup]:
    paths = measures_of(workspace, stage)
    by_leaf: dict[str, str] = {}
    columns, _ = columns_of(workspace, paths, lambda path: path.split(".")[-1] in ranked)
    for path, column in columns.items():
        leaf = path.split(".")[-1]
        if column.measured and any(bound != "is" for bound, _ in stage.ledger.limits[leaf]):
            by_leaf[path.split(".")[-1]] = path
    chosen = [rule for rule in ranked if rule in by_leaf][:RULES]
    limits = {rule: sorted(stage.ledger.limits[rule]) for rule in chosen}
    scales = {rule: scale(columns[by_leaf[rule]], [value for _, value in limits[rule]]) for rule in chosen}
    counted = tally(workspace, paths, {by_leaf[rule]: scales[rule][0] for rule in chosen}, ())
    charts = []
    for rule in chosen:
        edges, log = scales[rule]
        path = by_leaf[rule]
        whole = columns[path].kind in ("INT32", "INT64")
        missing = counted.missing[path]
        notes = [f"{count(missing)} of {count(counted.rows)} records have no value"] if missing else []
        outer = outermost(limits[rule])
        if stage.name == "classify" and [bound for bound, _ in outer].count("min") > 1:
            notes.append("the lower one is asked of pages with LaTeX")
        elif len(outer) < len(limits[rule]):
            notes.append(f"thresholds by language: {limits_in_words(limits[rule])}; the outermost are drawn")
        charts.append(
            histogram(
                Histogram(tuple(edges.tolist()), tuple(counted.bins[path].tolist()), log),
                title=clean(rule, 80),
                code=True,
                unit="measured value",
                y_label="records",
                thresholds=[_threshold(bound, value, whole) for bound, value in outer],
                note="; ".join(notes),
            )
        )
    return charts


def _threshold(bound: str, value: float, whole: bool) -> Threshold:
    """A limit as it is drawn; one on whole numbers lies between two of them, so that a column is on one side of it."""
    if bound == "is":
        return Threshold(0.5, "below" if value else "above", limit(bound, value))
    fails = {"min": "below", "max": "above"}[bound]
    shift = 0.0 if not whole else -0.5 if bound == "min" else 0.5
    return Threshold(value + shift, fails, limit(bound, value))


def limit(bound: str, value: float) -> str:
    """A limit in words: `min 50`, `is false`."""
    return f"is {'true' if value else 'false'}" if bound == "is" else f"{bound} {measured(value)}"


def outermost(limits: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Of each bound the least and the greatest value: what rules by language leave to be drawn."""
    by_bound = {bound: [value for other, value in limits if other == bound] for bound, _ in limits}
    return [(bound, value) for bound, values in by_bound.items() for value in sorted({min(values), max(values)})]


def limits_in_words(limits: Sequence[tuple[str, float]]) -> str:
    """Limits in few words: `min 3, max 10`, and where languages differ `min 36 to 100`."""
    found: dict[str, str] = {}
    for bound, value in sorted(outermost(limits), key=lambda item: (item[0] != "min", item)):
        found[bound] = f"{found[bound]} to {measured(value)}" if bound in found else limit(bound, value)
    return ", ".join(found.values())


def scale(column: Column, limits: Sequence[float] = ()) -> tuple[np.ndarray, bool]:
    """Edges of a histogram that shows a column's bulk and its limits: (edges, whether they are logarithmic)."""
    low, high = min([column.low, *limits]), max([column.high, *limits])
    if column.kind in ("INT32", "INT64") and high - low <= 60:
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + 1.0, 1.0), False
    if low >= 0 and high <= 1:
        return np.linspace(0, 1, 41), False
    if low >= 0 and high <= 5 and not limits:
        return np.linspace(0, 5, 41), False
    positive = [limit for limit in limits if limit > 0]
    if low >= 0 and high > (8 * max(positive) if positive else 2000):
        start = min([max(column.low, 1.0), *(limit / 10 for limit in positive)])
        edges = np.geomspace(start, max(high, start * 10) * 1.0001, 49)
        if column.kind in ("INT32", "INT64"):  # edges between whole numbers: no column is empty for lack of one
            edges = np.unique(np.maximum(np.floor(edges) + 0.5, 0.5))
        return edges, True
    return np.linspace(low, high if high > low else low + 1, 41), False


def documents(workspace: Workspace, stages: Sequence[StageFacts]) -> dict[str, Any]:
    """Languages, lengths, scores and topics of what the last stage kept; empty where it kept nothing."""
    stage = stages[-1]
    columns, total = columns_of(workspace, stage.docs, lambda path: path in (*SCORES, *PARTS, *WORDS, LENGTH, "text"))
    if not total:
        return {}
    scores = [score for score in (*SCORES, *PARTS) if score in columns and columns[score].measured]
    words = [word for word in WORDS if word in columns]
    length = LENGTH if LENGTH in columns and columns[LENGTH].measured else "text"
    scales = {score: scale(columns[score]) for score in scores} | {length: (np.geomspace(1, 1e8, 129), True)}
    numbers = {path: edges for path, (edges, _) in scales.items() if path in columns}
    counted = tally(workspace, stage.docs, numbers, words)
    found = {
        "stage": stage.name,
        "total": total,
        "languages": languages(workspace, stages, counted.words.get("language", Counter())),
        "lengths": None,
        "scores": [_score(score, columns[score], scales[score], counted) for score in scores],
        "topics": None,
        "topic_model": clean(columns["topic"].model, 120) if "topic" in columns else "",
    }
    if length in numbers:
        unit = "words" if "word" in length else "characters"
        data = trimmed(scales[length][0], counted.bins[length])
        found["lengths"] = histogram(data, title="Length of a document", unit=unit)
    if any(counted.words.get("topic", {})):
        found["topics"] = bar_chart(counted.words["topic"], head="topic", empty="none", code=True)
    return found


def _score(score: str, column: Column, scale: tuple[np.ndarray, bool], counted: Tally) -> Markup:
    edges, log = scale
    data = Histogram(tuple(edges.tolist()), tuple(counted.bins[score].tolist()), log)
    if score in PARTS:
        title, unit = score.replace("_", " ").capitalize(), "1: lowest"
        missing = counted.missing[score]
        return histogram(
            data, title=title, unit=unit, note=f"{count(missing)} documents without one" if missing else ""
        )
    return histogram(data, title=score.capitalize(), unit="score", note=_filled_by(column, counted.missing[score]))


def languages(workspace: Workspace, stages: Sequence[StageFacts], kept: Counter[str]) -> Markup:
    """Bars of every record that filter measured, each with how many were kept; without filter, of those kept alone."""
    measures = [path for stage in stages if stage.name == "filter" for path in measures_of(workspace, stage)]
    columns, _ = columns_of(workspace, measures, lambda path: path == "language")
    counted = tally(workspace, measures, {}, ("language",)).words["language"] if "language" in columns else Counter()
    if not any(counted):  # filter did not look at languages
        return bar_chart(kept, head="language, as declared", empty="not known")
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    items = [Bar(clean(word, 60) or "not known", n, f"{share(kept[word], n)} kept") for word, n in ranked[:LANGUAGES]]
    if rest := ranked[LANGUAGES:]:
        left = share(sum(kept[word] for word, _ in rest), sum(n for _, n in rest))
        items.append(Bar(f"{len(rest):,} others", sum(n for _, n in rest), f"{left} kept"))
    return bars(items, head="language, as measured", unit="records")


def measures_of(workspace: Workspace, stage: StageFacts) -> list[str]:
    """The tables of what a stage measured of every record: filter's signals, classify's scores."""
    named = [measured_path(stage.name, shard) for shard in stage.shards]
    return [path for path in named if path is not None and workspace.exists(path)]


def _filled_by(column: Column, missing: int) -> str:
    filled = (
        f"filled by {clean(column.model, 120)}" if column.model else "the file does not name what filled this column"
    )
    return f"{filled}; {count(missing)} documents without a score" if missing else filled


def trimmed(edges: np.ndarray, counts: np.ndarray) -> Histogram:
    """A logarithmic histogram without the empty bins at its two ends."""
    there = np.flatnonzero(counts)
    first, last = (max(there[0] - 1, 0), min(there[-1] + 2, len(counts))) if len(there) else (0, len(counts))
    return Histogram(tuple(edges[first : last + 1].tolist()), tuple(counts[first:last].tolist()), log=True)
