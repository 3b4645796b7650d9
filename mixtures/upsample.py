"""Good pages more often: the quality curve of OLMo 3, and the shares of buckets (group x quality) that follow from it.

Source: OLMo 3 report (arXiv 2512.13961), appendix A.2.4. Quality x in [0, 1] is the percentile of a page by tokens; a page is
repeated f(x) = C (x - a)^p e^(λ (x - a)) times for x >= a, and left out below. Pure functions over arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError

Floats = npt.NDArray[np.float64]

FLOOR, TOP, MOST = 0.4, 0.05, 7.0
"""OLMo 3's constants: the share of tokens left out (a), the best share (b) and its mean repeats at most (M)."""
POWERS = np.linspace(0.01, 2.0, 20)
"""The exponents p that the reference solver tries; the largest feasible one is kept."""
STEEPEST = 2.0
"""The largest λ that the reference solver tries."""
_ORDERS = np.arange(32.0)  # of the exponential series: 2^32 / 32! < 1e-25
_FACTORIALS = np.concatenate([[1.0], np.cumprod(_ORDERS[1:])])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)
_EXACT = 1e-12


@dataclass(frozen=True)
class Curve:
    """How often a page is repeated by its quality percentile: `scale` (x - `a`)^`p` e^(`rate` (x - `a`)) from `a` on."""

    ratio: float
    """Tokens wanted / tokens there are: the integral over [0, 1]."""
    a: float
    """Quality below which nothing is taken."""
    p: float
    rate: float
    """λ: how much steeper than a power it rises."""
    scale: float
    """C."""
    b: float
    most: float
    """The mean over the best `b` is at most this."""
    asked: float
    """The `a` that was asked for: higher than `a` where that cannot give so many tokens."""

    @property
    def lowered(self) -> bool:
        """Whether `a` had to be lowered."""
        return self.a < self.asked

    @property
    def top(self) -> float:
        """Mean repeats of the best `b`."""
        return float(self.rates([1 - self.b, 1.0])[0])

    def __call__(self, quality: npt.ArrayLike) -> Floats:
        """Repeats at percentiles in [0, 1]; the same shape."""
        above = np.clip(np.asarray(quality, np.float64) - self.a, 0, None)
        values: Floats = np.where(above > 0, self.scale * above**self.p * np.exp(self.rate * above), 0.0)
        return values

    def rates(self, edges: npt.ArrayLike) -> Floats:
        """Mean repeats of the buckets between percentiles by tokens; shape (edges - 1,), rising.

        Edges must not fall and lie in [0, 1]; a bucket of no width has the value at its edge. Weighted by the widths of
        buckets that cover [0, 1], the rates have `ratio` as their mean. Raises UsageError for other edges.
        """
        at = np.asarray(edges, np.float64)
        if at.ndim != 1 or len(at) < 2 or not (np.all(np.diff(at) >= 0) and at[0] >= 0 and at[-1] <= 1 + _EXACT):
            raise UsageError("edges of quality buckets must be percentiles in [0, 1] that do not fall, two at least")
        low, high = np.clip(at[:-1] - self.a, 0, None), np.clip(at[1:] - self.a, 0, None)
        width = np.diff(at)
        safe = np.where(width > 0, width, 1.0)
        apart = (_integral(self.p, self.rate, high) - _integral(self.p, self.rate, low)) / safe
        # Where both ends are near each other their difference would lose digits; the curve is smooth there.
        points = (low + high)[:, None] / 2 + (high - low)[:, None] / 2 * _NODES
        near = (points**self.p * np.exp(self.rate * points)) @ _WEIGHTS / 2
        means: Floats = self.scale * np.where(low > high / 2, near, np.where(width > 0, apart, 0.0))
        return means

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def _integral(p: float, rate: float, end: npt.ArrayLike) -> Floats:
    """The integral of u^p e^(rate u) over [0, end], by the series of the incomplete gamma function: all terms positive."""
    at = np.asarray(end, np.float64)
    terms = (rate * at[..., None]) ** _ORDERS / _FACTORIALS / (p + 1 + _ORDERS)
    integral: Floats = at ** (p + 1) * terms.sum(-1)
    return integral


def _top(ratio: float, a: float, p: float, rate: float, b: float) -> float:
    """Mean repeats of the best `b`, of a curve whose integral is `ratio`."""
    whole, below = _integral(p, rate, [1 - a, max(1 - a - b, 0.0)])
    return float(ratio * (1 - below / whole) / b)


def largest_ratio(a: float = FLOOR, *, b: float = TOP, most: float = MOST) -> float:
    """The largest tokens wanted / tokens there are that a curve can give without lowering `a`; a little below most (1 - a)."""
    return most / _top(1.0, a, float(POWERS[0]), 0.0, b)


def fit_curve(ratio: float, *, a: float = FLOOR, b: float = TOP, most: float = MOST) -> Curve:
    """The steepest curve that gives `ratio` times the tokens there are and repeats the best `b` at most `most` times.

    As the reference solver: the largest p of POWERS for which it is possible, with the largest λ in [0, 2]. Where no p is
    (ratio > `largest_ratio`), `a` is lowered as little as makes the flattest p possible; where even a = 0 does not do, p
    goes below POWERS, to 0 (all alike) at ratio = most. Raises UsageError where ratio > most: no curve can give it.
    """
    if not (0 <= a < 1 and 0 < b <= 1 and most > 0 and math.isfinite(most)):
        raise UsageError(
            f"upsampling: floor {a}, top {b} and most {most}: floor in [0, 1), top in (0, 1], most above 0"
        )
    if not (math.isfinite(ratio) and ratio >= 0):
        raise UsageError(f"upsampling: {ratio} times the tokens there are cannot be wanted")
    if ratio > most * (1 + _EXACT):
        raise UsageError(
            f"upsampling: {ratio:.3f} times the tokens there are is wanted, but at most {most:g} times is possible even with "
            "every page alike: weigh it less, lower the budget or raise `most`"
        )

    def feasible(a: float, p: float, rate: float) -> bool:
        return _top(ratio, a, p, rate, b) <= most * (1 + _EXACT)

    asked, flattest = a, float(POWERS[0])
    if not feasible(a, flattest, 0.0):
        a = _largest(0.0, a, lambda value: feasible(value, flattest, 0.0))
    powers = [float(p) for p in POWERS if feasible(a, float(p), 0.0)]
    p = max(powers) if powers else _largest(0.0, flattest, lambda value: feasible(a, value, 0.0))
    rate = _largest(0.0, STEEPEST, lambda value: feasible(a, p, value))
    scale = ratio / float(_integral(p, rate, 1 - a))
    return Curve(ratio=ratio, a=a, p=p, rate=rate, scale=scale, b=b, most=most, asked=asked)


def _largest(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """The largest value in [low, high] for which a condition holds that holds up to some value; `low` where it never does."""
    if holds(high):
        return high
    for _ in range(100):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Spread:
    """Shares of every bucket (group x quality)."""

    shares: Floats
    """(groups, ranks), of the budget: they sum to 1."""
    repeats: Floats
    """(groups, ranks): tokens to take / tokens there are; 0 where there are none. None above `max_repeats`."""
    groups: Floats
    """(groups,): shares of the groups, as asked except where `notes` say that one was capped."""
    curves: tuple[Curve | None, ...]
    """One a group; None where nothing is taken of it."""
    notes: tuple[str, ...]
    """What was changed: groups that were capped, curves whose floor was lowered, buckets cut to `max_repeats`."""

    def to_json(self) -> dict[str, Any]:
        return {
            "shares": self.shares.tolist(),
            "repeats": self.repeats.tolist(),
            "groups": self.groups.tolist(),
            "curves": [curve and curve.to_json() for curve in self.curves],
            "notes": list(self.notes),
        }


def spread(
    weights: npt.ArrayLike,
    sizes: npt.ArrayLike,
    budget: int,
    *,
    max_repeats: float,
    most: float = MOST,
    a: float = FLOOR,
    b: float = TOP,
    names: Sequence[str] | None = None,
    overfull: Literal["cap", "error"] = "cap",
) -> Spread:
    """Shares of all buckets from shares of groups: within a group, by the quality curve.

    `weights` (groups,): shares of the groups, on any scale. `sizes` (groups, ranks): tokens there are, ranks from the worst
    quality to the best (pages of unknown quality belong to the worst). `budget`: tokens. A group's curve has the mean that
    its share asks for; its best `b` is repeated at most min(`most`, `max_repeats`) times, and so is the whole group. A group
    whose share asks for more is cut to that and the rest goes to the others by their shares ("cap"), or is an error. Raises
    UsageError where all groups with a share together have too few tokens, saying how many there are.
    """
    sizes = np.asarray(sizes, np.float64)
    wanted = np.asarray(weights, np.float64)
    _check(wanted, sizes, budget, max_repeats)
    labels = list(names) if names is not None else [f"group {number}" for number in range(len(wanted))]
    asked = wanted / wanted.sum()
    cap = min(most, max_repeats)
    room = cap * sizes.sum(axis=1) / budget
    groups = _fill(asked, room, budget, cap, labels, overfull)
    notes = [
        f"{labels[number]}: its share is capped at {groups[number]:.4%} (asked: {asked[number]:.4%}): it has "
        f"{sizes[number].sum():,.0f} tokens, each at most {cap:g} times; the rest goes to the other groups"
        for number in np.flatnonzero(asked > groups * (1 + 1e-6))
    ]
    repeats = np.zeros_like(sizes)
    curves: list[Curve | None] = []
    for number, share in enumerate(groups):
        if share <= 0:
            curves.append(None)
            continue
        total = sizes[number].sum()
        curve = fit_curve(min(share * budget / total, cap), a=a, b=b, most=cap)
        curves.append(curve)
        repeats[number], said = _rates(curve, sizes[number] / total, max_repeats)
        notes += [f"{labels[number]}: {line}" for line in said]
    return Spread(repeats * sizes / budget, repeats, groups, tuple(curves), tuple(notes))


def _check(weights: Floats, sizes: Floats, budget: int, max_repeats: float) -> None:
    if weights.ndim != 1 or sizes.ndim != 2 or len(sizes) != len(weights):
        raise UsageError(f"upsampling: weights of {weights.shape} groups, tokens of {sizes.shape} (groups, ranks)")
    if not (np.all(np.isfinite(weights)) and np.all(weights >= 0) and weights.sum() > 0):
        raise UsageError("upsampling: weights of groups must be numbers of at least 0, one above 0")
    if not (np.all(np.isfinite(sizes)) and np.all(sizes >= 0)):
        raise UsageError("upsampling: tokens of buckets must be numbers of at least 0")
    if budget < 1 or max_repeats <= 0:
        raise UsageError(f"upsampling: a budget of {budget} tokens at most {max_repeats} times each is nothing")


def _fill(
    asked: Floats, room: Floats, budget: int, cap: float, names: list[str], overfull: Literal["cap", "error"]
) -> Floats:
    """The shares, none above its room: what does not fit goes to the other groups by their shares."""
    over = np.flatnonzero(asked > room * (1 + 1e-6))
    possible = float(room[asked > 0].sum())
    if len(over) and (overfull == "error" or possible < 1 - _EXACT):
        listed = ", ".join(
            f"{names[number]} (needs {asked[number] * budget:,.0f}, has {room[number] * budget / cap:,.0f})"
            for number in over[np.argsort(room[over] - asked[over], kind="stable")][:8]
        )
        raise UsageError(
            f"the pool is too small for a budget of {budget:,} tokens: the groups that are weighed have "
            f"{possible * budget / cap:,.0f}, each at most {cap:g} times. Groups that bind: {listed}. Lower the budget, raise "
            "mix.max_repeats and mix.upsample.most, or weigh these groups less"
        )
    shares = asked.copy()
    full = np.zeros(len(asked), bool)
    while np.any(above := shares > room):
        full |= above
        shares[full] = np.minimum(shares, room)[full]
        open_ = ~full & (asked > 0)
        if not np.any(open_):
            break
        shares[open_] = asked[open_] * ((1 - shares[full].sum()) / asked[open_].sum())
    return shares


def _rates(curve: Curve, widths: Floats, max_repeats: float) -> tuple[Floats, list[str]]:
    """Repeats of the buckets of a group, none above the cap, with the curve's mean; and what was changed."""
    rates = curve.rates(np.minimum(np.concatenate([[0.0], np.cumsum(widths)]), 1.0))
    rates = np.where(widths > 0, rates, 0.0)
    notes = []
    if curve.lowered:
        notes.append(
            f"{curve.ratio:.3f} times its tokens are wanted, but with a floor of {curve.asked:g} at most "
            f"{largest_ratio(curve.asked, b=curve.b, most=curve.most):.3f} times is possible: the floor is {curve.a:.3f}"
        )
    if rates.max() > max_repeats:
        over = int(np.count_nonzero(rates > max_repeats * (1 + 1e-6)))
        if over:
            notes.append(
                f"{over} bucket{'s' * (over > 1)} of the best quality cut to {max_repeats:g} repeats, others raised"
            )
        rates = _cut(rates, widths, curve.ratio, max_repeats)
    return rates, notes


def _cut(rates: Floats, widths: Floats, mean: float, cap: float) -> Floats:
    """min(cap, s · rates) with the s that keeps the mean: still rising."""
    full = np.zeros(len(rates), bool)
    for number in np.argsort(-rates, kind="stable").tolist():
        left = ~full & (rates > 0)
        weight = float(rates[left] @ widths[left])
        scaled = (mean - cap * widths[full].sum()) / weight if weight > 0 else 0.0
        if rates[number] * scaled <= cap:
            break
        full[number] = True
    cut: Floats = np.where(full, cap, np.minimum(rates * max(scaled, 0.0), cap))
    return cut
