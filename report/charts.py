"""Charts as inline SVG and HTML: bars, funnel, histogram, line. No script, no external file, readable without colour.

Every label is escaped here. Colours come from the page's style sheet by class, so light, dark and print share the markup.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from curate.report.words import compact, count, measured, share

WIDTH = 480
"""Units across a small chart; with 12-unit text it stays readable scaled down to a phone's width."""

TOP = 24
"""Units above a chart's drawing area: room for the name of its vertical axis."""


@dataclass(frozen=True)
class Bar:
    """One bar: what it counts, how many, and an optional second line; `code` where the label is a name to be copied."""

    label: str
    value: float
    note: str = ""
    code: bool = False


@dataclass(frozen=True)
class Threshold:
    """A limit on a measured value: what lies on the `fails` side (`below`, `above` or neither) is shaded.

    `label` is written beside it in place of the value (a limit on whole numbers is drawn between two of them).
    """

    value: float
    fails: str = ""
    label: str = ""


@dataclass(frozen=True)
class Histogram:
    """Counts between edges (one more edge than counts), in equal steps or, with `log`, in equal ratios."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    log: bool = False


@dataclass(frozen=True)
class Series:
    """A named line through (x, y) points; with `dots`, each point is marked."""

    name: str
    points: tuple[tuple[float, float], ...]
    dots: bool = False


@dataclass(frozen=True)
class FunnelStep:
    """A stage: records in, kept and quarantined; the rest was dropped."""

    label: str
    records: int
    kept: int
    quarantined: int = 0


@dataclass
class _Plot:
    """The drawing area of one chart, and its scales."""

    width: int
    height: int
    left: int
    to_x: Callable[[float], float]
    to_y: Callable[[float], float]
    bottom: int = 40
    right: int = 12
    parts: list[str] = field(default_factory=list)

    @property
    def floor(self) -> float:
        return self.height - self.bottom

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "tick") -> None:
        self.parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')

    def rule(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, title: str = "") -> None:
        tip = f"<title>{escape(title)}</title>" if title else ""
        size = f'width="{max(width, 0):.2f}" height="{max(height, 0):.2f}"'
        self.parts.append(f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" {size}>{tip}</rect>')

    def axes(
        self, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], x_label: str, y_label: str
    ) -> None:
        for value, label in ys:
            y = self.to_y(value)
            self.rule(self.left, y, self.width - self.right, y, "grid")
            self.text(self.left - 6, y + 4, label, anchor="end")
        for value, label in xs:
            self.text(self.to_x(value), self.floor + 15, label)
        self.rule(self.left, self.floor, self.width - self.right, self.floor, "axis")
        self.text((self.left + self.width - self.right) / 2, self.height - 6, x_label, kind="axis-label")
        self.text(4, 9, y_label, anchor="start", kind="axis-label")

    def figure(self, title: str, described: str, *, code: bool = False) -> Markup:
        return Markup(
            f'<figure class="chart"><figcaption>{_label(title, code)}</figcaption>'
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(f"{title}. {described}")}">'
            f"{''.join(self.parts)}</svg></figure>"
        )


def bars(items: Sequence[Bar], *, head: str, unit: str = "records", whole: float | None = None) -> Markup:
    """A table with a horizontal bar a row, its count and its share of `whole` (default: of all bars together)."""
    total = sum(item.value for item in items) if whole is None else whole
    longest = max((item.value for item in items), default=0) or 1
    rows = "".join(
        f'<tr><th scope="row">{_label(item.label, item.code)}{_note(item.note)}</th>'
        f'<td class="bar">{_strip([("mark", 100 * item.value / longest)])}</td>'
        f'<td class="n">{count(item.value)}</td><td class="n">{share(item.value, total)}</td></tr>'
        for item in items
    )
    return Markup(
        f'<table class="bars"><thead><tr><th scope="col">{escape(head)}</th><th class="bar" aria-hidden="true"></th>'
        f'<th scope="col" class="n">{escape(unit)}</th><th scope="col" class="n">share</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def funnel(steps: Sequence[FunnelStep]) -> Markup:
    """A table with a bar a stage: kept solid, dropped light, quarantined dark, all against the first stage's records."""
    whole = max((step.records for step in steps), default=0) or 1
    rows = []
    for step in steps:
        dropped = step.records - step.kept - step.quarantined
        parts = (("mark", step.kept), ("lost", dropped), ("aside", step.quarantined))
        strip = _strip([(kind, 100 * value / whole) for kind, value in parts if value > 0])
        rows.append(
            f'<tr><th scope="row">{escape(step.label)}</th><td class="bar">{strip}</td>'
            f'<td class="n">{count(step.kept)}</td><td class="n">{share(step.kept, step.records)}</td></tr>'
        )
    return Markup(
        '<table class="bars funnel"><thead><tr><th scope="col">stage</th><th class="bar" aria-hidden="true"></th>'
        '<th scope="col" class="n">kept</th><th scope="col" class="n">of records in</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def histogram(
    data: Histogram,
    *,
    title: str,
    unit: str,
    y_label: str = "documents",
    thresholds: Sequence[Threshold] = (),
    note: str = "",
    code: bool = False,
) -> Markup:
    """Columns over a linear or logarithmic axis, with thresholds as dashed lines and their failing side shaded.

    `code` where the title is a name to be copied.
    """
    edges, counts, log = data.edges, data.counts, data.log
    place: Callable[[float], float] = math.log10 if log else float
    low, high = place(edges[0]), place(edges[-1])
    top = max(counts, default=0) or 1
    left, height = 46, 196
    span, floor = WIDTH - left - 12, height - 40

    def to_x(value: float) -> float:
        value = min(max(value, edges[0]), edges[-1])
        return left + span * (place(value) - low) / ((high - low) or 1)

    ticks = nice_ticks(0, top, 4, whole=True)
    ceiling = max(top, ticks[-1])
    plot = _Plot(WIDTH, height, left, to_x, lambda value: floor - (floor - TOP) * value / ceiling)
    for limit in thresholds:
        start, end = {"below": (edges[0], limit.value), "above": (limit.value, edges[-1])}.get(limit.fails, (0.0, 0.0))
        if end > start:
            plot.box(to_x(start), TOP, to_x(end) - to_x(start), floor - TOP, "fails")
    xs = log_ticks(edges[0], edges[-1]) if log else nice_ticks(edges[0], edges[-1], 6)
    xs = [value for value in xs if edges[0] <= value <= edges[-1]]
    shown = compact if log else measured
    plot.axes([(value, shown(value)) for value in xs], [(value, compact(value)) for value in ticks], unit, y_label)
    for index, value in enumerate(counts):
        if value:
            x, end = to_x(edges[index]), to_x(edges[index + 1])
            y = min(plot.to_y(value), floor - 1.5)  # one record in a million still shows
            tip = f"{measured(edges[index])} to {measured(edges[index + 1])}: {count(value)} {y_label}"
            plot.box(x + 0.4, y, end - x - 0.8, floor - y, "mark", tip)
    for row, limit in enumerate(thresholds):
        x = to_x(limit.value)
        plot.rule(x, TOP - 4, x, floor, "limit")
        before = x > left + 80 if limit.fails == "below" else x > WIDTH - 90
        shift, anchor = (-5, "end") if before else (5, "start")
        plot.text(
            x + shift, TOP + 11 + 14 * row, limit.label or measured(limit.value), anchor=anchor, kind="limit-label"
        )
    peak = max(range(len(counts)), key=counts.__getitem__, default=0)
    described = f"{count(sum(counts))} {y_label} from {measured(edges[0])} to {measured(edges[-1])} {unit}"
    if counts:
        described += f"; most between {measured(edges[peak])} and {measured(edges[peak + 1])}"
    if thresholds:
        described += f"; threshold {', '.join(limit.label or measured(limit.value) for limit in thresholds)}"
    figure = plot.figure(title, described, code=code)
    return _with_note(figure, note) if note else figure


def line(series: Sequence[Series], *, title: str, x_label: str, y_label: str, note: str = "") -> Markup:
    """One or more lines over common axes; above them the note, or the legend with each one's name and last value."""
    points = [point for item in series for point in item.points if math.isfinite(point[1])]
    if not points:
        return Markup("")
    left, width, height = 46, 600, 270
    ys = nice_ticks(min(y for _, y in points), max(y for _, y in points), 5)
    xs = nice_ticks(min(x for x, _ in points), max(x for x, _ in points), 7)
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(ys[0], *(y for _, y in points)), max(ys[-1], *(y for _, y in points))
    floor = height - 40
    plot = _Plot(
        width,
        height,
        left,
        lambda value: left + (width - left - 12) * (value - low_x) / ((high_x - low_x) or 1),
        lambda value: floor - (floor - TOP) * (value - low_y) / ((high_y - low_y) or 1),
    )
    inside = [value for value in xs if low_x <= value <= high_x]
    plot.axes([(x, compact(x)) for x in inside], [(y, measured(y)) for y in ys], x_label, y_label)
    for index, item in enumerate(series):
        drawn = [(plot.to_x(x), plot.to_y(y)) for x, y in item.points if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        plot.parts.append(f'<polyline class="line line-{index % 3}" points="{path}"/>')
        if item.dots or len(drawn) == 1:
            plot.parts.extend(
                f'<circle class="dot dot-{index % 3}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"/>' for x, y in drawn
            )
    ends = "; ".join(
        f"{item.name} {measured(item.points[-1][1])} at {count(item.points[-1][0])}" for item in series if item.points
    )
    legend = "".join(
        f'<span class="key key-{index % 3}">{escape(item.name)} <b>{measured(item.points[-1][1])}</b></span>'
        for index, item in enumerate(series)
        if item.points
    )
    return _with_note(plot.figure(title, ends), note or Markup(legend))


def plane(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x: tuple[float, float] = (0.0, 1.0),
    y: tuple[float, float] = (0.0, 1.0),
    diagonal: bool = False,
    limit: Threshold | None = None,
    sizes: Sequence[float] = (),
    note: str = "",
) -> Markup:
    """One to three lines in a plane of given bounds, with a diagonal to compare with, a threshold of x, a legend of names.

    `sizes` are what the dots of a series stand for: their areas.
    """
    left, height = 46, 320
    span, floor = WIDTH - left - 12, height - 40
    plot = _Plot(
        WIDTH,
        height,
        left,
        lambda value: left + span * (min(max(value, x[0]), x[1]) - x[0]) / ((x[1] - x[0]) or 1),
        lambda value: floor - (floor - TOP) * (min(max(value, y[0]), y[1]) - y[0]) / ((y[1] - y[0]) or 1),
    )
    inside = [[value for value in nice_ticks(*bounds, 5) if bounds[0] <= value <= bounds[1]] for bounds in (x, y)]
    plot.axes([(v, measured(v)) for v in inside[0]], [(v, measured(v)) for v in inside[1]], x_label, y_label)
    if diagonal:
        plot.rule(plot.to_x(x[0]), plot.to_y(y[0]), plot.to_x(x[1]), plot.to_y(y[1]), "axis")
    for index, item in enumerate(series):
        drawn = [(plot.to_x(a), plot.to_y(b)) for a, b in item.points if math.isfinite(b)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in drawn)
        plot.parts.append(f'<polyline class="line line-{index % 3}" points="{path}"/>')
        if item.dots or len(drawn) == 1:
            areas = sizes if len(sizes) == len(drawn) else [1.0] * len(drawn)
            radii = [2 + 5 * math.sqrt(area / max(areas)) for area in areas] if sizes else [3.2] * len(drawn)
            plot.parts.extend(
                f'<circle class="dot dot-{index % 3}" cx="{a:.1f}" cy="{b:.1f}" r="{radius:.1f}"/>'
                for (a, b), radius in zip(drawn, radii, strict=True)
            )
    if limit is not None:
        place = plot.to_x(limit.value)
        plot.rule(place, TOP - 4, place, floor, "limit")
        before = place > WIDTH - 90
        label = limit.label or measured(limit.value)
        plot.text(
            place + (-5 if before else 5), floor - 8, label, anchor="end" if before else "start", kind="limit-label"
        )
    figure = plot.figure(title, note or f"{y_label} over {x_label}")
    keys = [f'<span class="key key-{index % 3}">{escape(item.name)}</span>' for index, item in enumerate(series)]
    legend = "".join(keys) if len(series) > 1 else ""
    return _with_note(figure, Markup("{}{}").format(Markup(legend), note)) if legend or note else figure


def nice_ticks(low: float, high: float, wanted: int, *, whole: bool = False) -> list[float]:
    """About `wanted` round numbers (1, 2 or 5 times a power of ten apart) that cover low to high."""
    if not high > low:
        high = low + 1
    raw = (high - low) / max(wanted, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    if whole:
        step = max(step, 1.0)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between low and high; with 2 and 5 times them where there would be fewer than three."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            return ticks
    return ticks


def _strip(parts: Sequence[tuple[str, float]]) -> str:
    """A bar 100 units long, stretched to its table cell."""
    start, drawn = 0.0, []
    for kind, width in parts:
        drawn.append(f'<rect class="{kind}" x="{start:.2f}" y="0" width="{max(width, 0.4):.2f}" height="10"/>')
        start += width
    return f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'


def _label(label: str, code: bool) -> Markup:
    """A label as text, or as a name that stands in recipes and ledgers just so."""
    return Markup("<code>{}</code>").format(label) if code else escape(label)


def _note(note: str) -> str:
    return f'<span class="note">{escape(note)}</span>' if note else ""


def _with_note(figure: Markup, note: str | Markup) -> Markup:
    return Markup(figure.replace("</figcaption>", Markup('</figcaption><p class="note">{}</p>').format(note), 1))
