"""The mixtures that may be chosen: shares that sum to 1, each between a floor and what its tokens and its cap allow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from curate.mixtures.forms import Floats
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.progress import number_of

SLACK = 1e-9
"""How far floors and caps may miss a sum of 1 and still be taken as meant: rounding of what the user wrote."""
_NOTHING = 800.0
"""exp(-800) is 0: the share of a domain of weight 0, raised only where all others are at their upper bounds."""


@dataclass(frozen=True, eq=False)
class Polytope:
    """Shares p with sum 1 and `lower` <= p <= `upper`; shapes: (domains,). `capped` says where `upper` is the user's cap
    and not what the tokens allow; `absent` where a domain has no tokens or no prior share, so that its share is 0."""

    domains: tuple[str, ...]
    lower: Floats
    upper: Floats
    capped: npt.NDArray[np.bool_]
    absent: npt.NDArray[np.bool_]

    def project(self, weights: Floats) -> Floats:
        """The mixtures p that minimise KL(p ‖ weights): proportions are kept between bounds. Shapes as given."""
        with np.errstate(divide="ignore"):
            return tilt(np.log(np.maximum(weights, 0.0)), self.lower, self.upper)

    def contains(self, weights: Floats, slack: float = SLACK) -> bool:
        """Whether a mixture keeps all constraints to within `slack`."""
        within = (weights >= self.lower - slack) & (weights <= self.upper + slack)
        return bool(within.all()) and abs(float(weights.sum()) - 1.0) <= slack


def tilt(logs: Floats, lower: Floats, upper: Floats) -> Floats:
    """p = clip(exp(logs + θ), lower, upper) with the θ that makes p sum to 1; shapes: (domains,) or (n, domains).

    It is the p within the bounds that minimises KL(p ‖ exp(logs)). The sums of `lower` and `upper` must enclose 1.
    """
    rows = np.array(logs, np.float64, ndmin=2)
    usable = (upper > 0) & np.isfinite(rows)
    rows -= rows.max(axis=1, keepdims=True, initial=-1e300, where=usable)
    lowest = rows.min(axis=1, keepdims=True, initial=0.0, where=usable)
    rows = np.where(upper > 0, np.where(np.isfinite(rows), rows, lowest - _NOTHING), -np.inf)
    low = np.full(len(rows), math.log(max(1.0 - float(lower.sum()), 1e-300) / rows.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        high = (np.log(upper) - rows).max(axis=1, initial=0.0, where=upper > 0)
    theta = np.clip(-np.log(np.exp(rows).sum(axis=1)), low, high)
    result = np.empty_like(rows)
    left = np.arange(len(rows))
    for step in range(200):
        shares = np.clip(np.exp(np.minimum(rows[left] + theta[left, None], 1.0)), lower, upper)
        sums = shares.sum(axis=1)
        result[left] = shares
        low[left] = np.where(sums < 1.0, theta[left], low[left])
        high[left] = np.where(sums < 1.0, high[left], theta[left])
        going = (np.abs(sums - 1.0) > 1e-15) & (high[left] - low[left] > 1e-15 * np.maximum(1.0, np.abs(high[left])))
        left = left[going]
        if not len(left):
            break
        newton, middle = theta[left] + _growth(shares[going], lower, upper), (low[left] + high[left]) / 2
        outside = ~((newton > low[left]) & (newton < high[left])) | (step % 3 == 2)
        theta[left] = np.where(outside, middle, newton)
    return _settle(result, lower, upper).reshape(np.shape(logs))


def _growth(shares: Floats, lower: Floats, upper: Floats) -> Floats:
    """The log of what shares between their bounds must be multiplied with for all to sum to 1; one a row, 0 if none can."""
    free = np.where((shares > lower) & (shares < upper), shares, 0.0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        growth = np.log((1.0 - (shares.sum(axis=1) - free)) / free)
    return np.where(np.isfinite(growth), growth, 0.0)


def _settle(shares: Floats, lower: Floats, upper: Floats) -> Floats:
    """Takes the rounding out of sums: what is missing goes to the largest share with room for it; changes `shares`."""
    every = np.arange(len(shares))
    for _ in range(3):
        missing = 1.0 - shares.sum(axis=1)
        room = np.where(missing[:, None] > 0, upper - shares, shares - lower)
        most = np.where(room >= np.abs(missing)[:, None], shares, room - 2.0).argmax(axis=1)
        moved = np.minimum(np.abs(missing), room[every, most])
        shares[every, most] += np.copysign(moved, missing)
    return shares


def polytope(
    domains: Sequence[str],
    prior: Floats,
    available: Floats,
    budget: float,
    max_repeats: float,
    floors: Mapping[str, float] | None = None,
    caps: Mapping[str, float] | None = None,
) -> Polytope:
    """The mixtures of `budget` tokens that repeat no token more than `max_repeats` times on average of its domain.

    Upper bounds are min(cap, max_repeats * available / budget) (Olmix, arXiv 2602.12237), and 0 where a domain has no tokens
    or the prior gives it nothing. Raises UsageError where there are none, saying what is possible and what binds.
    """
    names = tuple(domains)
    floor, cap = _shares("floors", floors, names, 0.0), _shares("caps", caps, names, 1.0)
    absent = (available <= 0) | (prior <= 0)
    supply = max_repeats * available / budget
    upper = np.where(absent, 0.0, np.minimum(np.minimum(cap, supply), 1.0))
    low = float(floor.sum())
    if low > 1.0 + SLACK:
        raise UsageError(f"mixture: the floors sum to {low:.6g}, more than 1: lower {_most(names, floor)}")
    for index in np.flatnonzero(floor > upper + SLACK):
        raise UsageError(
            _floor_too_high(names[index], floor[index], cap[index], available[index], prior[index], supply[index])
        )
    if float(upper.sum()) < 1.0 - SLACK:
        raise UsageError(_too_small(names, available, np.where(absent, 0.0, cap), absent, budget, max_repeats))
    floor = np.minimum(floor, upper)
    floor, upper = floor / max(low, 1.0), upper * max(1.0, 1.0 / float(upper.sum()))
    return Polytope(names, floor, upper, (cap < supply) & ~absent, absent)


def _shares(what: str, given: Mapping[str, float] | None, names: tuple[str, ...], default: float) -> Floats:
    values = np.full(len(names), default)
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"mixture: {what} are a mapping of domain to share")
    for name, share in (given or {}).items():
        if name not in names:
            raise UsageError(f"mixture: {what} names {name!r}, which is no domain{nearest(name, names)}")
        if not 0.0 <= share <= 1.0:
            raise UsageError(f"mixture: {what}: {name!r} has {share!r}; a share lies between 0 and 1")
        values[names.index(name)] = share
    return values


def _floor_too_high(name: str, floor: float, cap: float, available: float, prior: float, supply: float) -> str:
    begin = f"mixture: the floor of {name!r} is {floor:.6g}, but "
    if available <= 0:
        return begin + "it has no tokens: leave the floor out"
    if prior <= 0:
        return begin + "its prior share is 0, and such a domain is left out: give it a prior share"
    if cap < floor:
        return begin + f"its cap is {cap:.6g}: lower the floor or raise the cap"
    return begin + (
        f"its {available:,.0f} tokens allow {supply:.6g} of this budget: lower the floor or the budget, or raise max_repeats"
    )


def _too_small(
    names: tuple[str, ...], available: Floats, cap: Floats, absent: npt.NDArray[np.bool_], budget: float, repeats: float
) -> str:
    usable = np.where(absent, 0.0, available)
    if cap.sum() < 1.0 - SLACK:
        left_out = f" ({_without(absent)})" if absent.any() else ""
        lowest = ", ".join([names[index] for index in np.argsort(cap, kind="stable") if not absent[index]][:5])
        return f"mixture: the caps sum to {cap.sum():.6g}, less than 1{left_out}: raise some of {lowest}"
    possible = _largest_budget(usable, cap, repeats)
    binding = [index for index in np.argsort(-usable, kind="stable") if cap[index] * budget < repeats * usable[index]]
    text = (
        f"the pool is too small for a budget of {budget:,.0f} tokens: its domains have {usable.sum():,.0f} tokens, each of "
        f"which may be taken {repeats:g} times"
    )
    if binding:
        listed = ", ".join(f"{names[index]} (at most {cap[index]:.4g})" for index in binding[:8])
        text += f"; caps that bind: {listed}" + (f" and {len(binding) - 8} more" if len(binding) > 8 else "")
    if absent.any():
        text += f"; {_without(absent)}"
    raise_caps = "raise max_repeats" + (" or these caps" if binding else "")
    return f"{text}. At most {possible:,.0f} tokens are possible: lower the budget or {raise_caps}"


def _without(absent: npt.NDArray[np.bool_]) -> str:
    return f"without tokens or a prior share, and left out: {number_of(int(absent.sum()), 'domain')}"


def _largest_budget(usable: Floats, cap: Floats, repeats: float) -> int:
    """The largest budget B with sum of min(cap * B, repeats * usable) >= B."""
    low, high = 0.0, repeats * float(usable.sum())
    for _ in range(100):
        middle = (low + high) / 2
        fits = np.minimum(cap * middle, repeats * usable).sum() >= middle * (1.0 - 1e-12)
        low, high = (middle, high) if fits else (low, middle)
    return int(low * (1.0 + 1e-12))


def _most(names: tuple[str, ...], values: Floats, most: int = 5) -> str:
    """The domains of the highest values, for a message."""
    order = [index for index in np.argsort(-values, kind="stable") if values[index] != 0][:most]
    return ", ".join(f"{names[index]} ({abs(values[index]):.4g})" for index in order)
