"""Charts with a row a name, and clouds of points: for shares, gains and what is predicted. As `charts`, plain SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from curate.report.charts import TOP, _Plot, _with_note, nice_ticks
from curate.report.words import measured

WIDTH, LEFT, STEP, BOTTOM = 480, 172, 20, 40
LONGEST = 22
"""Characters of a name that fit beside its row; the whole name stands in the row's tooltip."""


@dataclass(frozen=True)
class Mark:
    """What stands in one row: a dot at `value`, a ring at `before`, a line from `low` to `high`; `bar` instead of the dot.

    `soft` rows are drawn paler: nothing is said of them.
    """

    name: str
    value: float | None
    before: float | None = None
    low: float | None = None
    high: float | None = None
    bar: bool = False
    soft: bool = False
    tip: str = ""


def rows(
    items: Sequence[Mark], *, title: str, unit: str, keys: Sequence[str] = (), limit: float | None = None, note: str = "",
    percent: bool = False,
) -> Markup:  # fmt: skip
    """A row a mark, over a common axis that includes 0; `limit` is a dashed line across all; `keys` name dot and ring."""
    values = [value for item in items for value in (item.value, item.before, item.low, item.high) if value is not None]
    if not values:
        return Markup("")
    values += [0.0] + ([limit] if limit is not None else [])
    ticks = nice_ticks(min(values), max(values), 6)
    low, high = ticks[0], ticks[-1]
    height = TOP + STEP * len(items) + BOTTOM
    plot = _Plot(
        WIDTH,
        height,
        LEFT,
        lambda value: LEFT + (WIDTH - LEFT - 14) * (value - low) / (high - low),
        lambda row: TOP + STEP * (row + 0.5),
        right=14,
    )
    shown = [(tick, f"{tick:.3g}" if not percent else f"{100 * tick:.3g}%") for tick in ticks]
    for tick, _ in shown:
        plot.rule(plot.to_x(tick), TOP, plot.to_x(tick), plot.floor, "axis" if tick == 0 else "grid")
    plot.axes(shown, [], unit, "")
    for number, (item, name) in enumerate(zip(items, short_names([item.name for item in items]), strict=True)):
        _row(plot, plot.to_y(number), item, name)
    if limit is not None:
        plot.rule(plot.to_x(limit), TOP - 4, plot.to_x(limit), plot.floor, "limit")
    described = "; ".join(f"{item.name} {item.tip or measured(item.value)}" for item in items[:12])
    figure = plot.figure(title, described)
    legend = Markup("").join(
        Markup('<span class="key dot-key-{}">{}</span>').format(number, key) for number, key in enumerate(keys)
    )
    return _with_note(figure, Markup("{}{}").format(legend, note)) if keys or note else figure


def short_names(names: Sequence[str]) -> list[str]:
    """Names of at most LONGEST characters. Where some are too long, the folders that all share, before and behind, give way
    first (the paths of sources differ in the middle); then the beginning."""
    found = list(names)
    if len(set(names)) > 1 and any(len(name) > LONGEST for name in names):
        parts = [name.split("/") for name in names]
        least = min(map(len, parts)) - 1
        head = _shared(parts, range(least))
        tail = _shared(parts, range(-1, head - least - 1, -1))
        found = [
            "…/" * (head > 0) + "/".join(part[head : len(part) - tail]) + "/…" * (tail > 0) for part in parts
        ]  # fmt: skip
    return [name if len(name) <= LONGEST else "…" + name[1 - LONGEST :] for name in found]


def _shared(parts: Sequence[Sequence[str]], places: Sequence[int]) -> int:
    """At how many of these places, from the first on, all have the same part."""
    differing = (number for number, place in enumerate(places) if len({part[place] for part in parts}) > 1)
    return next(differing, len(places))


def _row(plot: _Plot, y: float, item: Mark, name: str) -> None:
    plot.parts.append(f"<g><title>{escape(item.name)}{escape(': ' + item.tip if item.tip else '')}</title>")
    plot.text(LEFT - 8, y + 4, name, anchor="end")
    if item.bar and item.value is not None:
        start, end = sorted((plot.to_x(0.0), plot.to_x(item.value)))
        plot.box(start, y - 5, max(end - start, 1.0), 10, "lost" if item.soft else "mark")
    if item.low is not None and item.high is not None:
        plot.rule(plot.to_x(item.low), y, plot.to_x(item.high), y, "whisker")
    if item.before is not None:
        plot.parts.append(f'<circle class="dot dot-1" cx="{plot.to_x(item.before):.1f}" cy="{y:.1f}" r="4"/>')
    if not item.bar and item.value is not None:
        kind = "dot-2" if item.soft else "dot-0"
        plot.parts.append(f'<circle class="dot {kind}" cx="{plot.to_x(item.value):.1f}" cy="{y:.1f}" r="4.4"/>')
    plot.parts.append("</g>")


def cloud(
    points: Sequence[tuple[float, float, bool]], *, title: str, x_label: str, y_label: str, note: str = ""
) -> Markup:
    """Points (x, y) of one unit beside the line on which both are alike; those with a True are drawn as rings."""
    points = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not points:
        return Markup("")
    ticks = nice_ticks(min(min(x, y) for x, y, _ in points), max(max(x, y) for x, y, _ in points), 5)
    low, high, left, size = ticks[0], ticks[-1], 52, 428
    plot = _Plot(
        size + left,
        size,
        left,
        lambda value: left + (size - 14) * (value - low) / (high - low),
        lambda value: size - 40 - (size - 40 - TOP) * (value - low) / (high - low),
        right=14,
    )
    names = [(tick, measured(tick)) for tick in ticks]
    plot.axes(names, names, x_label, y_label)
    plot.rule(plot.to_x(low), plot.to_y(low), plot.to_x(high), plot.to_y(high), "axis")
    for x, y, ring in points:
        kind, radius = ("dot-1", 4.0) if ring else ("dot-0", 3.2)
        plot.parts.append(f'<circle class="dot {kind}" cx="{plot.to_x(x):.1f}" cy="{plot.to_y(y):.1f}" r="{radius}"/>')
    figure = plot.figure(title, f"{len(points)} points, {x_label} against {y_label}")
    return _with_note(figure, note) if note else figure
