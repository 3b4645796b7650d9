"""The chart of a scaling law: loss over tokens, a line a size; measured runs are dots, a prediction has its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from curate.report.charts import TOP, _Plot, log_ticks, nice_ticks
from curate.report.words import compact, measured

_WIDTH, _HEIGHT, _LEFT = 600, 320, 46
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.grid{stroke:#ddd}.axis{stroke:#222}"
    ".line{fill:none;stroke-width:1.8}.line-0{stroke:#1f6fb2}.line-1{stroke:#c2571a;stroke-dasharray:6 3}"
    ".line-2{stroke:#3c8c3c;stroke-dasharray:2 3}.dot-0{fill:#1f6fb2}.dot-1{fill:#c2571a}.dot-2{fill:#3c8c3c}"
    ".limit{stroke:#222;stroke-width:1.5}"
)


def scaling_figure(facts: Mapping[str, Any]) -> Markup:
    """The chart of `scaling/fit.json` as a figure for the report."""
    return _plot(facts).figure("Loss by size and tokens", _described(facts))


def scaling_svg(facts: Mapping[str, Any]) -> str:
    """The same as a file that stands alone."""
    figure = str(scaling_figure(facts))
    drawing = figure[figure.index("<svg") : figure.index("</svg>") + len("</svg>")]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
    style = f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>'
    opening, rest = drawing.removeprefix("<svg ").split(">", 1)
    return f"{head}{opening}>{style}{rest}\n"


def _plot(facts: Mapping[str, Any]) -> _Plot:
    law, points, predictions = facts["law"], facts["points"], facts.get("predictions", [])
    sizes = sorted({point["parameters"] for point in [*points, *predictions]})
    tokens = [point["tokens"] for point in [*points, *predictions]]
    low_x, high_x = min(tokens) / 1.3, max(tokens) * 1.3
    losses = [point["loss"] for point in points] + [item[key] for item in predictions for key in ("low", "high")]
    ys = nice_ticks(min(losses), max(losses), 5)
    floor, span = _HEIGHT - 40, _WIDTH - _LEFT - 70
    plot = _Plot(
        _WIDTH,
        _HEIGHT,
        _LEFT,
        lambda value: _LEFT + span * math.log(value / low_x) / math.log(high_x / low_x),
        lambda value: floor - (floor - TOP) * (min(max(value, ys[0]), ys[-1]) - ys[0]) / ((ys[-1] - ys[0]) or 1),
        right=70,
    )
    plot.axes([(x, compact(x)) for x in log_ticks(low_x, high_x)], [(y, measured(y)) for y in ys], "tokens", "loss")
    steps = [low_x * (high_x / low_x) ** (step / 60) for step in range(61)]
    for index, size in enumerate(sizes):
        curve = [(x, law["E"] + law["A"] * size ** -law["alpha"] + law["B"] * x ** -law["beta"]) for x in steps]
        inside = [(x, y) for x, y in curve if ys[0] <= y <= ys[-1]]
        path = " ".join(f"{plot.to_x(x):.1f},{plot.to_y(y):.1f}" for x, y in inside)
        plot.parts.append(f'<polyline class="line line-{index % 3}" points="{path}"/>')
        if inside:
            plot.text(plot.to_x(inside[-1][0]) + 4, plot.to_y(inside[-1][1]) + 4, compact(size), anchor="start")
        for point in points:
            if point["parameters"] == size:
                _dot(plot, point["tokens"], point["loss"], index, 3.2)
        for item in predictions:
            if item["parameters"] == size:
                x = plot.to_x(item["tokens"])
                plot.rule(x, plot.to_y(item["low"]), x, plot.to_y(item["high"]), "limit")
                _dot(plot, item["tokens"], item["loss"], index, 4.5)
    return plot


def _dot(plot: _Plot, x: float, y: float, index: int, radius: float) -> None:
    place = f'cx="{plot.to_x(x):.1f}" cy="{plot.to_y(y):.1f}" r="{radius}"'
    plot.parts.append(f'<circle class="dot dot-{index % 3}" {place}/>')


def _described(facts: Mapping[str, Any]) -> str:
    law, points = facts["law"], facts["points"]
    told = [
        f"{len(points)} runs follow {law['E']:.3g} + {law['A']:.3g} / N^{law['alpha']:.3f} "
        f"+ {law['B']:.3g} / D^{law['beta']:.3f}"
    ]
    predictions: Sequence[Mapping[str, Any]] = facts.get("predictions", [])
    told += [
        f"{compact(item['parameters'])} parameters on {compact(item['tokens'])} tokens: {item['loss']:.3f}, "
        f"{item['low']:.3f} to {item['high']:.3f}"
        for item in predictions
    ]
    return "; ".join(told)
