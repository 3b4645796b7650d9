"""The exact solve: convex predictions as a programme of exponential cones, solved by Clarabel (arXiv 2405.12762).

    minimise    sum_i w_i scale_i t_i + kl sum_j s_j      (for the worst: τ with constant_i + scale_i t_i <= τ)
    such that   (slope_i·p, 1, t_i) in K,  (-s_j, p_j, prior_j) in K,  sum p = 1,  lower <= p <= upper

with K = {(x, y, z): y exp(x / y) <= z}. The exponents are taken relative to a centre, so that t_i is about 1 where the
solution lies. An interior-point method leaves an error of about 1e-8; `polish` removes it where it can. Where slopes are so
steep that numbers of 1e10 stand beside those of the solution, it is approached in regions in which no exponential changes
by more than a factor of e^3.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import clarabel
import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from curate.mixtures.forms import Convex, Floats
from curate.mixtures.objective import SMALLEST, Certificate, Problem, certify, log_ratio

TOLERANCE = 1e-10
_GOOD = 1e-8
"""A gap, as a share of the objective, from which on more is tried."""
_REACH, _REGIONS = 3.0, 100
"""How far exponents may move in a region, and regions at most."""
_PROGRESS = 1e-9
"""Less than this, as a share of the objective, is no progress from one region to the next."""
_FAR = 50.0
_SMALL = 1e-7
_NEAR = 1e-4
"""A share this near to a bound, as a share of it, that its own condition drives there is taken to be at it."""
_STEPS, _WORSE = 20, 4
"""Newton steps at most, and how many in a row may not be better."""
_LARGEST = 1500
"""Free domains above which a dense Newton step would cost more than it gives."""


Found = tuple[Floats, Certificate]


def minimise(form: Convex, problem: Problem) -> Found:
    """The mixture that solves a convex problem, exactly within the polytope, and its certificate.

    Where no attempt has a small `gap` (predictions are astronomical), the best mixture met, never worse than the natural one
    brought within the bounds: `solver.solve` says so.
    """
    start = problem.polytope.project(problem.prior)
    tried = [polish(form, problem, *_solve(form, problem, start))]
    if not form.exponential or _good(form, problem, tried[0]):
        return tried[0]
    tried.append(polish(form, problem, *_solve(form, problem, _lowest(form, problem))))
    tasks = tried[0][1].tasks
    tried.append((start, certify(problem, start, tasks, form.predict(start), form.gradient(start))))
    centre = _best(form, problem, tried)[0]
    for _ in range(_REGIONS):
        if any(_good(form, problem, found) for found in tried[1:]):
            break
        tried.append(polish(form, problem, *_solve(form, problem, centre, _REACH)))
        before, value = (_value(form, problem, mixture) for mixture in (centre, tried[-1][0]))
        if not value < before - _PROGRESS * max(1.0, abs(value)):
            break
        centre = tried[-1][0]
    return _best(form, problem, tried)


def _value(form: Convex, problem: Problem, mixture: Floats) -> float:
    value = float(problem.value(mixture, form.predict(mixture)))
    return value if value == value else np.inf


def _good(form: Convex, problem: Problem, found: Found) -> bool:
    return found[1].gap <= _GOOD * max(1.0, abs(_value(form, problem, found[0])))


def _best(form: Convex, problem: Problem, tried: list[Found]) -> Found:
    """That of the lowest objective; of equal ones, that of the smallest gap."""
    values = [_value(form, problem, mixture) for mixture, _ in tried]
    most = min(values) + _GOOD * max(1.0, abs(min(values)))
    equal = [found for found, value in zip(tried, values, strict=True) if value <= most]
    return min(equal, key=lambda found: found[1].gap if found[1].gap == found[1].gap else np.inf)


def _lowest(form: Convex, problem: Problem) -> Floats:
    """Where the largest exponent is least: the centre for slopes that make exponentials of the prior astronomical."""
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log(form.scale * problem.importance), -_FAR)
    linear = Convex(np.where(problem.importance > 0, logs, 0.0), form.scale, form.slope, exponential=False)
    nothing = np.zeros_like(problem.offset)
    return _solve(linear, replace(problem, aggregate="worst", kl=0.0, offset=nothing), centre=problem.prior)[0]


def _solve(form: Convex, problem: Problem, centre: Floats, reach: float | None = None) -> tuple[Floats, Floats]:
    """(mixture, multipliers of the tasks) from Clarabel, brought into the polytope; with `reach`, of the mixtures at which no
    exponent of a task is farther than this from its value at the centre."""
    polytope = problem.polytope
    moving = np.flatnonzero(polytope.upper > polytope.lower)
    if not len(moving):
        return polytope.lower, problem.importance / problem.importance.sum()
    programme = _Programme.build(form, problem, centre, moving, reach)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1  # the same bits on any machine
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    size = programme.matrix.shape[1]
    found = clarabel.DefaultSolver(
        sparse.csc_matrix((size, size)), programme.cost, programme.matrix, programme.right, programme.cones, settings
    ).solve()
    shares = np.nan_to_num(np.asarray(found.x[: len(moving)]), nan=0.0)
    mixture = polytope.lower.copy()
    mixture[moving] = np.clip(shares, polytope.lower[moving], polytope.upper[moving])
    if problem.aggregate == "mean":
        return polytope.project(mixture), problem.importance
    tasks = np.zeros(len(problem.importance))
    multipliers = np.nan_to_num(np.asarray(found.z)[programme.worst], nan=0.0) / programme.units
    tasks[programme.tasks] = np.maximum(multipliers, 0.0)
    return polytope.project(mixture), tasks / tasks.sum() if tasks.sum() > 0 else problem.importance / len(
        programme.tasks
    )


@dataclass(frozen=True, eq=False)
class _Programme:
    """minimise cost·x such that right - matrix x lies in the cones. Of x, the first are the shares of the moving domains;
    `tasks` are those that count, `worst` the rows that bound the worst, `units` what each of them is divided by."""

    cost: Floats
    matrix: sparse.csc_matrix
    right: Floats
    cones: list[object]
    tasks: npt.NDArray[np.intp]
    worst: slice
    units: Floats

    @staticmethod
    def build(
        form: Convex, problem: Problem, centre: Floats, moving: npt.NDArray[np.intp], reach: float | None
    ) -> _Programme:
        polytope = problem.polytope
        tasks = np.flatnonzero(problem.importance > 0)
        slope, count, chosen = form.slope[np.ix_(tasks, moving)], len(moving), len(tasks)
        fixed = form.slope[tasks] @ np.where(polytope.upper > polytope.lower, 0.0, polytope.lower)
        curved = chosen if form.exponential else 0
        worst = int(problem.aggregate != "mean")
        first_kl = count + curved
        width = first_kl + (count if problem.kl else 0) + worst
        height = form.scale[tasks] * np.exp(form.slope[tasks] @ centre) if form.exponential else np.ones(chosen)
        unit = max(1.0, float(height.max()))  # of the objective: slopes of 50 make numbers of 1e20
        if worst and reach:  # a task may be high, and far from the worst as it was higher still
            unit = max(1.0, abs(float(problem.aggregated(form.predict(centre)))))
        units = np.maximum(height, unit)
        cost = np.zeros(width)
        cost[first_kl : first_kl + count] = problem.kl / unit
        if worst:
            cost[-1] = 1.0
        elif curved:
            cost[count:first_kl] = problem.importance[tasks] * height / unit
        else:
            cost[:count] = problem.importance[tasks] @ slope
        rows, right = _linear(
            polytope.lower[moving], polytope.upper[moving], 1.0 - float(polytope.lower.sum()), problem.kl, width
        )
        bounded = len(np.concatenate(right))
        if worst:
            values = _place(sparse.diags(height / units), count, width) if curved else _place(slope, 0, width)
            rows.append(values - _place((unit / units)[:, None], width - 1, width))
            right.append((problem.offset - form.constant)[tasks] / units - (0.0 if curved else fixed))
        if reach:
            there = slope @ centre[moving] / reach
            rows.append(_place(np.vstack([slope, -slope]) / reach, 0, width))
            right.append(np.concatenate([there, -there]) + 1.0)
        linear = len(np.concatenate(right)) - 1
        cones: list[object] = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(linear)]
        cones += [clarabel.ExponentialConeT()] * (curved + (count if problem.kl else 0))
        if curved:
            heights = _place(sparse.identity(chosen), count, width)
            rows.append(_interleave([-_place(slope, 0, width), sparse.csr_matrix((chosen, width)), -heights]))
            shift = fixed - form.slope[tasks] @ centre
            right.append(np.stack([shift, np.ones(chosen), np.zeros(chosen)], axis=1).ravel())
        if problem.kl:
            one = sparse.identity(count)
            parts = [_place(one, first_kl, width), -_place(one, 0, width), sparse.csr_matrix((count, width))]
            rows.append(_interleave(parts))
            right.append(np.stack([np.zeros(count), np.zeros(count), problem.prior[moving]], axis=1).ravel())
        matrix = sparse.vstack(rows, format="csc")
        bounds = slice(bounded, bounded + worst * chosen)
        return _Programme(cost, matrix, np.concatenate(right), cones, tasks, bounds, units)


def _linear(lower: Floats, upper: Floats, rest: float, kl: float, width: int) -> tuple[list[Any], list[Floats]]:
    """(rows, right sides) of sum p = rest + sum lower, upper and lower bounds, those left out that others imply."""
    one = sparse.identity(len(lower), format="csr")
    high, low = np.flatnonzero(upper < 1.0), np.flatnonzero((lower > 0) | (kl == 0))
    rows = [_place(np.ones((1, len(lower))), 0, width), _place(one[high], 0, width), _place(-one[low], 0, width)]
    return rows, [np.array([rest + lower.sum()]), upper[high], -lower[low]]


def _place(block: Any, first: int, width: int) -> sparse.csr_matrix:
    """A block of columns, moved to begin at `first` in a matrix of `width` columns."""
    block = sparse.coo_matrix(block)
    return sparse.csr_matrix((block.data, (block.row, block.col + first)), shape=(block.shape[0], width))


def _interleave(parts: list[sparse.csr_matrix]) -> sparse.csr_matrix:
    """Row 0 of each part, then row 1 of each …: one cone after the other."""
    count = parts[0].shape[0]
    order = np.arange(len(parts) * count).reshape(len(parts), count).T.ravel()
    return sparse.vstack(parts, format="csr")[order]


def polish(form: Convex, problem: Problem, mixture: Floats, tasks: Floats) -> tuple[Floats, Certificate]:
    """Newton steps on the KKT conditions of the bounds that hold: the mixture of the smallest residual met, certified.

    A primal-dual active-set method (Hintermüller, Ito & Kunisch 2003): a share that its own condition drives past a bound is
    set to it. With a KL term the steps are in log p, so that shares of 1e-12 come out right as well.
    """
    if problem.kl:
        mixture = _raise_small(problem, mixture, tasks @ form.gradient(mixture))
    here = best = mixture, certify(problem, mixture, tasks, form.predict(mixture), form.gradient(mixture))
    worse = 0
    for _ in range(_STEPS):
        step = _newton(form, problem, *here) if best[1].residual > 1e-15 and worse < _WORSE else None
        if step is None:
            break
        mixture, tasks = step
        here = mixture, certify(problem, mixture, tasks, form.predict(mixture), form.gradient(mixture))
        better = max(here[1].residual, here[1].gap) < max(best[1].residual, best[1].gap)
        worse = 0 if better else worse + 1
        best = here if better else best
    return best


def _raise_small(problem: Problem, mixture: Floats, slope: Floats) -> Floats:
    """The mixture with its smallest shares as their own conditions have them: to Clarabel 0 and 1e-9 are one."""
    own = problem.cheapest(slope, problem.kl)
    return problem.polytope.project(np.where((mixture < _SMALL) & (own < 10 * _SMALL), own, mixture))


def _newton(form: Convex, problem: Problem, mixture: Floats, certificate: Certificate) -> tuple[Floats, Floats] | None:
    """One step: (mixture, multipliers of the tasks), or None where there is nothing to do or too much."""
    polytope, kl, tasks = problem.polytope, problem.kl, certificate.tasks
    gradient = form.gradient(mixture)
    rest = tasks @ gradient + (kl * log_ratio(problem, mixture) + kl if kl else 0.0) + certificate.price
    at_upper = (polytope.upper - mixture <= _NEAR * polytope.upper) & (rest < 0)
    at_lower = (mixture - polytope.lower <= _NEAR * (polytope.lower if kl else polytope.upper)) & (rest > 0)
    start = np.where(at_upper, polytope.upper, np.where(at_lower, polytope.lower, mixture))
    free = np.flatnonzero(~at_upper & ~at_lower & (polytope.upper > polytope.lower))
    start[free] = np.maximum(start[free], SMALLEST if kl else 0.0)
    if not 0 < len(free) <= _LARGEST:
        return None
    worst = problem.aggregate != "mean"
    predicted = form.predict(start) - problem.offset
    top = float(problem.aggregated(form.predict(start)))
    active = np.flatnonzero(tasks > np.maximum(top - predicted, 1e-9)) if worst else np.empty(0, np.intp)
    gradient = form.gradient(start)
    rest = tasks @ gradient + (kl * log_ratio(problem, start) + kl if kl else 0.0) + certificate.price
    root = np.sqrt(start[free]) if kl else np.ones(len(free))
    curvature = (
        (form.slope[:, free] * root).T @ ((gradient[:, free] * root) * tasks[:, None]) if form.exponential else 0.0
    )
    count, extra = len(free), len(active)
    system = np.zeros((count + 1 + extra + bool(extra),) * 2)
    system[:count, :count] = curvature + kl * np.eye(count)
    edges = np.vstack([root, gradient[np.ix_(active, free)] * root])
    system[count : count + 1 + extra, :count], system[:count, count : count + 1 + extra] = edges, edges.T
    right = np.concatenate([-rest[free] * root, [1.0 - start.sum()], np.zeros(extra + bool(extra))])
    if extra:  # f_i = top for the tasks that hold; their multipliers keep their sum
        system[count + 1 : -1, -1] = system[-1, count + 1 : -1] = -1.0
        right[count + 1 : -1] = top - predicted[active]
        right[-1] = tasks[active].sum() - 1.0
    moved = _least(system, right)
    if not kl:  # as far as the shares go: clipped ones would leave the tasks that hold
        room = np.where(moved[:count] > 0, polytope.upper[free] - start[free], start[free] - polytope.lower[free])
        far = np.abs(moved[:count]) > room
        moved *= float((room[far] / np.abs(moved[:count][far])).min(initial=1.0))
    step = moved[:count] * root
    start[free] = start[free] * np.exp(np.clip(step / start[free], -50.0, 50.0)) if kl else start[free] + step
    tasks = tasks.copy()
    if extra:
        tasks = np.where(np.isin(np.arange(len(tasks)), active), tasks, 0.0)
        tasks[active] = np.maximum(tasks[active] + moved[count + 1 : -1], 0.0)
        if not 0 < tasks.sum() < np.inf:
            return None
        tasks /= tasks.sum()
    return polytope.project(np.clip(start, polytope.lower, polytope.upper)), tasks


def _least(system: Floats, right: Floats) -> Floats:
    """The solution of a symmetric system, or that of least squares where it is singular."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", linalg.LinAlgWarning)
        try:
            return np.asarray(linalg.solve(system, right, assume_a="sym"))
        except (linalg.LinAlgError, linalg.LinAlgWarning):
            return np.asarray(linalg.lstsq(system, right, lapack_driver="gelsy", check_finite=False)[0])
