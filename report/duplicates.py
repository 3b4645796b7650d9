"""The part on duplicates: what the parameters find, how many clusters there are, the largest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml
from markupsafe import Markup
from pydantic import ValidationError

from curate.pipeline.workspace import Workspace
from curate.report.charts import Bar, Series, bars, line
from curate.report.examples import page
from curate.report.facts import StageFacts
from curate.report.scan import columns_of, documents_at, largest, tally
from curate.report.words import clean, count, measured, share
from curate.stages.dedup.config import DedupConfig, MinHashConfig, probability
from curate.stages.dedup.findings import Report, opening, reports, suspicious, warnings

SIZES = (1, 2, 3, 4, 5, 6, 11, 21, 51, 101, 1001)
"""Where each class of cluster sizes begins."""
LARGEST = 10
"""Clusters shown."""
SCOPES = 50
"""Scopes shown, those from which most was removed first."""


def duplicates(workspace: Workspace, stage: StageFacts, recipe: str) -> dict[str, Any]:
    """What dedup did, by its documents and its reports; `recipe` is the workspace's as YAML. Empty where nothing was kept.

    Without the reports of the clusters, as of a run that is not finished, what the documents say is there.
    """
    columns, _ = columns_of(workspace, stage.docs, lambda path: path == "duplicates")
    if "duplicates" not in columns or not columns["duplicates"].measured:
        return {}
    config = _config(recipe)
    found = reports(workspace, config.everywhere) if config else []
    ranked = sorted(found, key=lambda report: (-report["removed"], report["scope"]))
    return {
        "chart": _sizes(workspace, stage),
        "largest": _largest(workspace, stage, found),
        "warnings": [clean(text, 500) for text in warnings(found)],
        "said": _said(config) if config else [],
        "curve": _curve(config.minhash) if config and config.minhash.enabled else None,
        "facts": _facts(stage, found),
        "scopes": [_scope(report) for report in ranked[:SCOPES]],
        "more_scopes": max(0, len(ranked) - SCOPES),
        "verified": any("verification" in report for report in found),
    }


def _config(recipe: str) -> DedupConfig | None:
    try:
        data = yaml.safe_load(recipe)
        return DedupConfig.model_validate((data.get("dedup") if isinstance(data, dict) else None) or {})
    except (yaml.YAMLError, ValidationError):
        return None


def _said(config: DedupConfig) -> list[str]:
    """What a run is told when it begins; the curve is drawn."""
    said = [clean(text, 400) for text in opening(config)]
    return said[1:] if config.minhash.enabled else said


def _facts(stage: StageFacts, found: Sequence[Report]) -> list[tuple[str, str]]:
    """What came in, what went for which reason, and the clusters."""
    counts = stage.counts
    facts = [
        ("pages in", count(counts.records)),
        ("kept", f"{count(counts.kept)} ({share(counts.kept, counts.records)})"),
        *(
            (clean(reason, 80), f"{count(number)} ({share(number, counts.records)})")
            for reason, number in sorted(counts.dropped.items(), key=lambda item: (-item[1], item[0]))
        ),
    ]
    if found:
        clusters, pages = (sum(report[name] for report in found) for name in ("clusters", "clustered"))
        facts += [("clusters", count(clusters)), ("pages in clusters", count(pages))]
    facts += [
        (f"characters taken out ({clean(kind, 60)})", count(number)) for kind, number in sorted(counts.edits.items())
    ]
    return facts


def _scope(report: Report) -> dict[str, Any]:
    first = report["largest"][0] if report["largest"] else {"size": 0, "least_similarity": None}
    return {
        "name": clean(report["scope"], 80),
        "pages": report["documents"],
        "clusters": report["clusters"],
        "clustered": report["clustered"],
        "removed": report["removed"],
        "share": share(report["removed"], report["documents"]),
        "largest": first["size"],
        "least": _similarity(first["least_similarity"]),
        "odd": bool(suspicious(report)),
        "verification": _verification(report.get("verification")),
    }


def _similarity(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _verification(said: Mapping[str, Any] | None) -> str:
    """What was compared and what came of it, in few words."""
    if not said or "texts" not in said:
        return "–"
    parts = [f"{count(said['texts'])} texts compared, the largest cluster of links had {count(said['largest'])}"]
    if said.get("threshold") is not None:
        parts.append(f"taken from {measured(said['threshold'])}")
    if said.get("too_large"):
        parts.append(f"{count(said['too_large'])} over max_cluster, {count(said['left_alone_texts'])} texts left alone")
    return "; ".join(parts)


def _curve(minhash: MinHashConfig) -> Markup:
    chosen = f"threshold {minhash.threshold:g}: " if minhash.threshold is not None else ""
    points = tuple((s / 100, probability(s / 100, minhash.bands, minhash.rows)) for s in range(40, 101))
    return line(
        [Series("found", points)],
        title="Pairs that these parameters find",
        x_label="Jaccard similarity of two pages",
        y_label="share of pairs found",
        note=f"{chosen}{minhash.bands} bands × {minhash.rows} rows, shingles of {minhash.ngram} {minhash.ngram_of}",
    )


def _sizes(workspace: Workspace, stage: StageFacts) -> Markup:
    """Pages kept by the size of their cluster."""
    edges = np.array([*SIZES, 2**31], float)
    counted = tally(workspace, stage.docs, {"duplicates": edges}, ()).bins["duplicates"].tolist()
    ends = [*(start - 1 for start in SIZES[1:]), None]
    items = [Bar(_class(first, last), n) for first, last, n in zip(SIZES, ends, counted, strict=True) if n]
    return bars(items, head="pages in the cluster", unit="clusters")


def _class(first: int, last: int | None) -> str:
    if first == 1:
        return "1 (no duplicate)"
    if last is None:
        return f"{first:,} or more"
    return f"{first:,}" if last == first else f"{first:,} – {last:,}"


def _largest(workspace: Workspace, stage: StageFacts, found: Sequence[Report]) -> list[dict[str, Any]]:
    """The largest clusters with the page that stays, and how unlike it the others are at most, where that is known."""
    least = {
        (report["scope"], item["kept_id"], item["size"]): item["least_similarity"]
        for report in found
        for item in report["largest"]
    }
    top = []
    for size, path, row in largest(workspace, stage.docs, "duplicates", LARGEST):
        if size > 1:
            (document,) = documents_at(workspace, path, [row], ("id", "url", "snapshot", "title"))
            keys = ((scope, document.get("id"), int(size)) for scope in (document.get("snapshot"), "global"))
            similarity = next((least[key] for key in keys if key in least), None)
            top.append({"size": int(size), "least": _similarity(similarity), **page(document)})
    return top
