"""What bench/extract.py makes of the engines' texts: accuracy by page type and language, structure kept, times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import formulas
import numpy as np

from curate.stages.extract.training import data, metric

REFERENCE = "trafilatura"
MIN_LANGUAGE_PAGES = 30


def judge_gold(pages: Sequence[data.Page], texts: dict[str, list[str]], base: str) -> dict[str, Any]:
    """F1 by page type and over all, for pages with gold text, and how `base` compares with each other engine."""
    gold = [metric.shingles(page.gold or "") for page in pages]
    scores = {name: [metric.score(a, b) for a, b in zip(gold, found, strict=True)] for name, found in texts.items()}
    groups = _groups([page.page_type or "unknown" for page in pages])
    return {
        group: {
            "pages": len(members),
            "f1": {name: round(float(np.mean([score[at].f1 for at in members])), 4) for name, score in scores.items()},
            "precision": {
                name: round(float(np.mean([score[at].precision for at in members])), 4)
                for name, score in scores.items()
            },
            "recall": {
                name: round(float(np.mean([score[at].recall for at in members])), 4) for name, score in scores.items()
            },
            "against": _against(base, {name: [score[at].f1 for at in members] for name, score in scores.items()}),
        }
        for group, members in groups.items()
    }


def judge_snippets(pages: Sequence[data.Page], texts: dict[str, list[str]], base: str) -> dict[str, Any]:
    """Snippets by language; languages of few pages together. `against` compares the shares of right answers a page."""
    counts = {
        name: [metric.snippets(text, page.must, page.must_not) for page, text in zip(pages, found, strict=True)]
        for name, found in texts.items()
    }
    spoken = Counter(page.language or "unknown" for page in pages)
    labels = [page.language or "unknown" for page in pages]
    groups = _groups([label if spoken[label] >= MIN_LANGUAGE_PAGES else "others" for label in labels])
    judged: dict[str, Any] = {}
    for group, members in groups.items():
        scores = {name: metric.snippet_score(found[at] for at in members) for name, found in counts.items()}
        judged[group] = {
            "pages": len(members),
            "f1": {name: round(score.f1, 4) for name, score in scores.items()},
            "precision": {name: round(score.precision, 4) for name, score in scores.items()},
            "recall": {name: round(score.recall, 4) for name, score in scores.items()},
            "against": _against(base, {name: [_right(found[at]) for at in members] for name, found in counts.items()}),
        }
    return judged


def _right(counts: metric.Snippets) -> float:
    asked = counts.must + counts.must_not
    return (counts.found + counts.must_not - counts.leaked) / asked if asked else 1.0


def _groups(labels: Sequence[str]) -> dict[str, list[int]]:
    """All pages, then each group by size."""
    groups = {"all": list(range(len(labels)))}
    for label, size in Counter(labels).most_common():
        if size < len(labels):
            groups[label] = [at for at, each in enumerate(labels) if each == label]
    return groups


def _against(base: str, scores: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 4) for key, value in metric.paired_bootstrap(scores[base], found)._asdict().items()}
        for name, found in scores.items()
        if name != base
    }


def judge_structure(golds: Sequence[metric.Structure], texts: dict[str, list[str]]) -> dict[str, Any]:
    """Code blocks and table rows of the gold that stand in the texts: how many there are, and the share kept by engine."""
    judged: dict[str, Any] = {}
    for kind, judge in (("code", metric.code_kept), ("rows", metric.tables_kept)):
        of_page: list[Sequence[Any]] = [getattr(gold, kind) for gold in golds]
        total = sum(map(len, of_page))
        if total:
            judged[kind] = {"count": total, "pages": sum(map(bool, of_page))} | {
                name: round(sum(sum(judge(gold, text)) for gold, text in zip(of_page, found, strict=True)) / total, 4)
                for name, found in texts.items()
            }
    return judged


def structures(name: str, pages: Sequence[data.Page], folder: Path, cache: Path) -> list[metric.Structure] | None:
    """The gold code and tables of a set's pages; None for a set whose gold is plain text."""
    if name == "pages-math-code":
        inside = data.unpack(folder, f"{name}.tar.xz", cache) / name
        rows = {page.id: next(data.json_lines(inside / "gold" / f"{page.id}.jsonl")) for page in pages}
        return [metric.structure_of_blocks(rows[page.id]["content_list"]) for page in pages]
    if name == "pages-reader":
        inside = data.unpack(folder, f"{name}.tar.xz", cache) / name
        rows = {row["id"]: row for row in data.json_lines(inside / "gold.jsonl")}
        return [metric.structure_of_html(rows[page.id]["expected_html"]) for page in pages]
    return None


def judge_formulas(pages: Sequence[data.Page], texts: dict[str, list[str]]) -> dict[str, Any]:
    """Formulas of the gold's Markdown that stand in the texts: how many there are, and the share kept by engine."""
    judged = {
        name: [formulas.kept(page.gold or "", text) for page, text in zip(pages, found, strict=True)]
        for name, found in texts.items()
    }
    totals = [total for _, total in next(iter(judged.values()))]
    shares = {name: sum(found for found, _ in counts) / max(1, sum(totals)) for name, counts in judged.items()}
    return {"count": sum(totals), "pages": sum(map(bool, totals))} | {
        name: round(share, 4) for name, share in shares.items()
    }


def times(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """CPU milliseconds a page, and how many times the reference's mean that is."""
    reference = float(np.mean(seconds[REFERENCE])) if REFERENCE in seconds else None
    found = {}
    for name, values in seconds.items():
        mean, ms = float(np.mean(values)), np.array(values) * 1000
        found[name] = {
            "mean_ms": round(mean * 1000, 3),
            "median_ms": round(float(np.median(ms)), 3),
            "p99_ms": round(float(np.percentile(ms, 99)), 3),
            "max_ms": round(float(ms.max()), 3),
            f"of_{REFERENCE}": round(mean / reference, 4) if reference else None,
        }
    return found
