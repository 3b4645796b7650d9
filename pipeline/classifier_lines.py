"""What `curate classifier` says of a judgement on the terminal: lines of text from the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.pipeline.tables import printable

ROWS = 10
"""Rows of a table that are printed; the page and the JSON have more."""
ERRORS = ("calibration_error", "brier", "mean_absolute_error", "root_mean_square_error")
"""Less of these is better."""


def judgement_lines(result: Mapping[str, Any], notes: Sequence[str]) -> Iterator[str]:
    """What a person reads on the terminal."""
    asked, model = result["asked"], result["model"]
    if result["all_sites"]:
        yield "WARNING: --all-sites: pages that the model was trained on may be among these, and the scores too good"
    yield from notes
    what = {
        "binary": f"{asked['positive']!r} against others",
        "labels": f"one of {len(asked['labels'])} labels",
        "regression": f"a number, {asked['scale'][0]:g} to {asked['scale'][1]:g}",
    }[asked["kind"]]
    name, version = printable(model["name"]), printable(model["version"])
    yield f"{name}, version {version} ({model['kind']}): {printable(what)}"
    yield f"{result['pages']:,} pages of {result['sites']:,} sites" + (
        "" if result["all_sites"] else " kept out of training"
    )
    yield ""
    yield from score_lines(result["scores"])
    for each in [*result["chosen"], *([] if result["chosen"] else [result["threshold"]])]:
        yield ""
        yield from _threshold_lines(each, result)
    if result["levels"]:
        yield ""
        yield from _table(
            result["levels"], ("from", "share", "roc_area", "pr_area", "precision", "recall", "f1", "kept")
        )
    for title, part in (("language", result["by_language"]), ("site, worst first", result["by_site"])):
        if part["rows"]:
            yield ""
            yield from _table(part["rows"][:ROWS], [key for key in part["rows"][0] if key != "false_rate"], title)
    if result.get("labels"):
        yield ""
        rows = sorted(result["labels"], key=lambda row: (row["f1"] is None, row["f1"] or 0, row["label"]))
        columns = ("label", "pages", "given", "precision", "recall", "f1", "roc_area")
        yield from _table(rows[:ROWS], columns, f"label, worst first ({min(ROWS, len(rows))} of {len(rows)})")
    yield ""


def _threshold_lines(each: Mapping[str, Any], result: Mapping[str, Any]) -> Iterator[str]:
    if each.get("goal"):
        said = {"precision": "precision of at least", "recall": "recall of at least", "kept": "share kept of at most"}
        head = f"{said[each['goal']]} {each['target']:g}"
        if each["threshold"] is None:
            best = f"; the highest precision is {cell(each['best'])}" if each["best"] is not None else ""
            yield f"{head}: no threshold gives it{best}"
            return
        yield f"{head}: score >= {each['threshold']!r}"
    else:
        yield f"score >= {each['threshold']!r}:"
    if result["asked"]["kind"] == "labels":
        yield "  of the given label's probability; precision is the share of right labels among those kept"
    yield from (f"  {line}" for line in score_lines(each["gives"]))


def score_lines(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width = max((len(each["name"]) for each in scores), default=0)
    for each in scores:
        span = "" if each["low"] is None else f"  ({cell(each['low'])} to {cell(each['high'])})"
        yield f"{each['name'].replace('_', ' '):{width}}  {cell(each['value'])}{span}"


def _table(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], title: str = "") -> Iterator[str]:
    """Rows in columns: text to the left, numbers to the right."""
    heads = [title if title and not place else key.replace("_", " ") for place, key in enumerate(keys)]
    cells = [[printable(cell(row.get(key)))[:40] for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for line in (heads, *cells):
        yield "  ".join(
            f"{cell:{width}}" if not place else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def distilled_lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"{report['trained_on']:,} pages learned, {report['kept_out']:,} of other sites to measure on"
    yield ""
    yield "student and teacher agree:"
    yield from (f"  {name.replace('_', ' '):20}  {cell(value)}" for name, value in report["agreement"].items())
    yield ""
    rows = []
    if report["gold"]:
        both = report["gold"]["teacher"], report["gold"]["student"]
        rows = [
            {"": name.replace("_", " "), "teacher": both[0][name], "student": both[1][name],
             "lost": None if None in (both[0][name], both[1][name])
             else (both[0][name] - both[1][name]) * (-1 if name in ERRORS else 1)}
            for name in both[0]
            if name in both[1]
        ]  # fmt: skip
    rows.append({"": "pages per second", **report["speed"]})
    title = f"by the {report['gold']['pages']:,} labels of their own" if report["gold"] else "speed"
    yield from _table(rows, ("", "teacher", "student", "lost"), title)
    yield ""
