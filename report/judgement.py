"""The page on how good a classifier is: drawn from the numbers of `classifiers.evaluate.measure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from curate.report.build import render
from curate.report.charts import Histogram, Series, Threshold, histogram, plane
from curate.report.words import clean, count, measured

NAMES = {
    "roc_area": "area under the ROC curve",
    "pr_area": "area under precision and recall",
    "calibration_error": "expected calibration error",
    "brier": "Brier score",
    "accuracy": "accuracy",
    "macro_f1": "F1, mean over labels",
    "accuracy_sure_labels": "accuracy where the label is sure",
    "roc_area_sure_labels": "area under the ROC curve where the label is sure",
    "mean_absolute_error": "mean absolute error",
    "root_mean_square_error": "root mean square error",
    "spearman": "Spearman's rank correlation",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "kept": "share kept",
}
GOALS = {"precision": "precision of at least", "recall": "recall of at least", "kept": "share kept of at most"}
HEADS = {"mean_absolute_error": "mean error, absolute", "mean_error": "mean error, signed", "roc_area": "ROC area",
         "f1": "F1", "pr_area": "PR area", "from": "wanted from"}  # fmt: skip
SITES = 40
"""Sites that the page lists; the JSON has more."""


def page(result: Mapping[str, Any]) -> str:
    """One self-contained HTML file; the same numbers give the same bytes."""
    asked = result["asked"]
    return render(
        "judgement.html.j2",
        {
            "name": clean(result["model"]["name"], 100),
            "lead": _lead(result),
            "warned": bool(result.get("all_sites")),
            "headline": _headline(result),
            "scores": [_spanned(each) for each in result["scores"]],
            "draws": result["bootstrap_draws"],
            "thresholds": [_threshold(each) for each in _thresholds(result)],
            "selective": asked["kind"] == "labels",
            "wanted_from": "" if asked["from"] is None else measured(asked["from"]),
            "charts": [*_charts(result), _reliability(result)],
            "histograms": _histograms(result),
            "confusion": _confusion(result["confusion"]),
            "levels": _table(result["levels"]),
            "labels": _table(result.get("labels", ())),
            "languages": _part("language", result["by_language"]),
            "sites": _part("site", result["by_site"]),
            "facts": _facts(result),
        },
    )


def _lead(result: Mapping[str, Any]) -> str:
    asked = result["asked"]
    said = {
        "binary": f"How well the score tells “{clean(asked['positive'], 80)}” from all other pages",
        "labels": f"How often the label, one of {len(asked['labels'])}, is the page's own",
        "regression": f"How near the score, {measured(asked['scale'][0])} to {measured(asked['scale'][1])}, is to the page's",
    }[asked["kind"]]
    where = "pages of all sites" if result.get("all_sites") else "pages of sites kept out of training"
    return f"{said}, on {where}."


def _headline(result: Mapping[str, Any]) -> list[dict[str, str]]:
    found = [
        {"label": "pages", "value": count(result["pages"]), "note": f"of {count(result['sites'])} sites"},
    ]
    for each in result["scores"][:3]:
        low, high = each["low"], each["high"]
        note = "" if low is None else f"{_short(low)} to {_short(high)}"
        found.append({"label": NAMES.get(each["name"], each["name"]), "value": _short(each["value"]), "note": note})
    return found


def _short(value: float | None) -> str:
    return "–" if value is None else measured(round(value, 3))


def _spanned(each: Mapping[str, Any]) -> dict[str, str]:
    span = "–" if each["low"] is None else f"{measured(each['low'])} to {measured(each['high'])}"
    return {
        "name": NAMES.get(each["name"], each["name"].replace("_", " ")),
        "value": measured(each["value"]),
        "span": span,
    }


def _thresholds(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that were looked for, and that of the tables where it is none of them."""
    own = result["threshold"]
    return [*result["chosen"], *([] if own["threshold"] in [each["threshold"] for each in result["chosen"]] else [own])]


def _threshold(each: Mapping[str, Any]) -> dict[str, Any]:
    goal = f"{GOALS[each['goal']]} {measured(each['target'])}" if each.get("goal") else "tables below"
    values = {row["name"]: _spanned(row) for row in each["gives"]}
    threshold = "none gives it" if each["threshold"] is None else repr(each["threshold"])
    return {"goal": goal, "threshold": threshold, "values": values}


# --- drawn ------------------------------------------------------------------------------------------------------------


def _charts(result: Mapping[str, Any]) -> list[Markup]:
    asked, curves = result["asked"], result["curves"]
    low, high = asked["scale"]
    limit = Threshold(result["threshold"]["threshold"])
    thresholds = curves["thresholds"]

    def over(xs: Sequence[Any], ys: Sequence[Any]) -> tuple[tuple[float, float], ...]:
        return tuple((a, b) for a, b in zip(xs, ys, strict=True) if a is not None and b is not None)

    if asked["kind"] == "labels":
        first = [Series("right labels among those kept", over(thresholds, curves["precision"])),
                 Series("share kept", over(thresholds, curves["kept"]))]  # fmt: skip
        drawn = [
            plane(first, title="By threshold of the label's probability", x_label="threshold", y_label="share", limit=limit),
            plane([Series("", over(curves["kept"], curves["precision"]))], title="Right labels by share kept",
                  x_label="share kept, the surest first", y_label="right"),
        ]  # fmt: skip
    else:
        by_threshold = [Series(NAMES[name], over(thresholds, curves[name])) for name in ("precision", "recall", "f1")]
        area = {each["name"]: each["value"] for each in result["scores"]}
        area |= next(({"roc_area": row["roc_area"], "pr_area": row["pr_area"]} for row in result["levels"]
                      if row["from"] == asked["from"]), {})  # fmt: skip
        drawn = [
            plane(by_threshold, title="By threshold", x_label="score at least", y_label="share", x=(low, high), limit=limit),
            plane([Series("", over(curves["recall"], curves["precision"]))], title="Precision and recall",
                  x_label="recall", y_label="precision", note=f"area {_short(area.get('pr_area'))}"),
            plane([Series("", ((0.0, 0.0), *over(curves["false_rate"], curves["recall"])))], title="ROC", diagonal=True,
                  x_label="other pages kept", y_label="wanted pages kept", note=f"area {_short(area.get('roc_area'))}"),
        ]  # fmt: skip
    return drawn


def _histograms(result: Mapping[str, Any]) -> list[Markup]:
    """Scores of the wanted pages and of the others."""
    asked, drawn = result["asked"], []
    limit = Threshold(result["threshold"]["threshold"])
    edges = tuple(result["histogram"]["edges"])
    names = {"labels": ("Right labels", "Wrong labels")}.get(asked["kind"], ("Wanted pages", "Other pages"))
    for name, key in zip(names, ("wanted", "others"), strict=True):
        counts = tuple(round(value) for value in result["histogram"][key])
        unit = "probability of the label given" if asked["kind"] == "labels" else "score"
        drawn.append(histogram(Histogram(edges, counts), title=name, unit=unit, y_label="pages", thresholds=[limit]))
    return drawn


def _reliability(result: Mapping[str, Any]) -> Markup:
    """Mean outcome over mean score, bin by bin; on the diagonal a score means what it says."""
    asked = result["asked"]
    bins = [each for each in result["reliability"] if each["score"] is not None]
    points = tuple((each["score"], each["outcome"]) for each in bins)
    sizes = [each["weight"] for each in bins]
    error = next((each["value"] for each in result["scores"] if each["name"] == "calibration_error"), None)
    if asked["kind"] == "regression":
        low = min([asked["scale"][0], *(each["outcome"] for each in bins)])
        high = max([asked["scale"][1], *(each["outcome"] for each in bins)])
        return plane([Series("", points, dots=True)], title="What a score means", x_label="mean score", y_label="mean number",
                     x=(low, high), y=(low, high), diagonal=True, sizes=sizes)  # fmt: skip
    note = f"expected calibration error {_short(error)}" if asked["probability"] else "the score is not a probability"
    outcome = "right" if asked["kind"] == "labels" else "share wanted"
    return plane([Series("", points, dots=True)], title="Calibration", x_label="mean score of a bin", y_label=outcome,
                 x=tuple(asked["scale"]), diagonal=bool(asked["probability"]), sizes=sizes, note=note)  # fmt: skip


def _confusion(matrix: Mapping[str, Any]) -> Markup:
    """A table whose cells are as dark as their share of the row; columns by number where there are many."""
    columns, many = matrix["columns"], len(matrix["columns"]) > 4
    heads = "".join(
        f'<th scope="col" title="{escape(clean(name, 80))}">{number if many else escape(clean(name, 80))}</th>'
        for number, name in enumerate(columns, 1)
    )
    body = []
    for number, (name, values) in enumerate(zip(matrix["rows"], matrix["counts"], strict=True), 1):
        whole = sum(values) or 1
        cells = "".join(
            f'<td{" class=right" if name == column else ""} style="background:color-mix(in srgb, var(--accent) '
            f'{round(70 * value / whole)}%, transparent)">{count(value) if value else ""}</td>'
            for column, value in zip(columns, values, strict=True)
        )
        label = f"{number} {clean(name, 80)}" if many and name in columns else clean(name, 80)
        body.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    return Markup(
        f'<table class="confusion"><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Heads and cells of rows that have the same keys."""
    if not rows:
        return {}
    keys = list(rows[0])
    heads = [HEADS.get(key, key.replace("_", " ")) for key in keys]
    cells = [[_cell(row[key]) for key in keys] for row in rows]
    return {"heads": heads, "rows": cells}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return clean(value, 100)
    if isinstance(value, int):
        return count(value)
    return "–" if value is None else measured(round(value, 4))


def _part(name: str, part: Mapping[str, Any]) -> dict[str, Any]:
    rows = [{name: row["name"], **{key: row[key] for key in row if key != "name"}} for row in part["rows"][:SITES]]
    rest = len(part["rows"]) - len(rows) + part["more"]
    return {"rows": [], **_table(rows), "rest": rest, "few": part["too_few_pages"], "least": part["least"]}


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    model, data = result["model"], result.get("data") or {}
    found = [
        ("kind", clean(model["kind"], 40)),
        ("version", clean(model["version"], 80)),
        ("fingerprint", clean(model["fingerprint"], 80)),
        ("labels", clean(", ".join(model["labels"]), 2_000) or "none: a number"),
        ("scale", f"{measured(model['scale'][0])} to {measured(model['scale'][1])}"),
        *(("data", clean(name, 300)) for name in result.get("files", ())),
    ]
    if data:
        found.append(("rows read", count(data["rows"])))
        found += [("left out", f"{count(number)}: {clean(why, 200)}") for why, number in data["left_out"].items()]
        found += [("of these", f"{count(number)} {clean(what, 200)}") for what, number in data["noted"].items()]
        found += [("no column", clean(name, 100)) for name in data["missing_columns"]]
    return found
