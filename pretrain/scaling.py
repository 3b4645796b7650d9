"""How loss falls with size and data: fits L(N, D) = E + A / N^alpha + B / D^beta to a few runs and predicts a larger one.

N: parameters, all of them; D: training tokens; L: nats a token on validation. The form and the way to fit it are approach 3
of Hoffmann et al. 2022 ("Training compute-optimal large language models", 3.3 and D.2); sums and tolerances as Besiroglu et
al. 2024 ("Chinchilla scaling: a replication attempt") found them needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace, redact

Floats = npt.NDArray[np.float64]

HUBER = 1e-3
"""Where the penalty on log loss turns from squares to absolute values (Hoffmann et al.)."""
LEAST_POINTS = 6
"""One more than the law has numbers."""
LEAST_KINDS = 3
"""Different sizes, and different amounts of tokens, without which the law's parts cannot be told apart."""
COUNTED = {"all": "all", "without-embeddings": "without_embeddings"}

_GRID = [np.arange(0, 26, 5.0)] * 2 + [np.arange(-1, 1.1, 0.5)] + [np.arange(0, 2.1, 0.5)] * 2
_STARTS = 8


@dataclass(frozen=True)
class Point:
    """One run that was trained to the end of its schedule."""

    parameters: float
    tokens: float
    loss: float
    name: str = ""

    @property
    def flops(self) -> float:
        """6 N D, as in Hoffmann et al."""
        return 6.0 * self.parameters * self.tokens


@dataclass(frozen=True)
class Law:
    """L(N, D) = E + A / N^alpha + B / D^beta."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: npt.ArrayLike, tokens: npt.ArrayLike) -> Floats:
        size, data = np.asarray(parameters, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        return np.asarray(self.E + self.A * size**-self.alpha + self.B * data**-self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """(parameters, tokens) of the lowest loss with 6 N D = flops (Hoffmann et al., equation 4).

        (nan, nan) where the law has none: a part of it does not fall.
        """
        if min(self.A, self.B, self.alpha, self.beta) <= 0:
            return math.nan, math.nan
        both = self.alpha + self.beta
        ratio = (self.alpha * self.A / (self.beta * self.B)) ** (1 / both)
        size = ratio * (flops / 6) ** (self.beta / both)
        return size, flops / 6 / size


@dataclass(frozen=True)
class Fit:
    """A law with what is known of its error."""

    law: Law
    points: tuple[Point, ...]
    resampled: tuple[Law, ...]
    """Laws fitted to the same runs with their residuals exchanged at random."""
    residuals: tuple[float, ...]
    """log(measured / fitted) of each point, widened by sqrt(n / (n - 5)) for the five numbers that were fitted to them."""
    left_out: tuple[float | None, ...]
    """predicted / measured - 1 of each point, predicted from all others; None where they are too few or too alike."""
    warnings: tuple[str, ...]

    def predict(self, parameters: float, tokens: float, level: float = 0.9) -> dict[str, float]:
        """`loss` of a run and the interval `low` to `high` in which it lies with this probability.

        The interval has the scatter of runs and the uncertainty of the law's numbers, not that of its form.
        """
        random = np.random.default_rng(0)
        noise = random.choice(np.asarray(self.residuals), len(self.resampled))
        drawn = np.array([float(law.loss(parameters, tokens)) for law in self.resampled]) * np.exp(noise)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        point = Point(parameters, tokens, 0.0)
        return {
            "parameters": parameters, "tokens": tokens, "flops": point.flops,
            "loss": float(self.law.loss(parameters, tokens)), "low": float(low), "high": float(high),
            "times_the_largest_run": point.flops / max(item.flops for item in self.points),
        }  # fmt: skip

    def optimum(self, flops: float, level: float = 0.9) -> dict[str, Any]:
        """`parameters` and `tokens` of the lowest loss for a budget of floating-point operations, with intervals.

        UsageError where the law has no such place.
        """
        size, data = self.law.optimum(flops)
        if not math.isfinite(size):
            why = "; ".join(self.warnings) or "a part of the law does not fall"
            raise UsageError(f"no best size for {flops:.3g} FLOPs can be told: {why}")
        found = np.array([pair for law in self.resampled if math.isfinite((pair := law.optimum(flops))[0])])
        bounds = (
            np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0)
            if len(found)
            else np.array([[size, data]] * 2)
        )
        return {
            "flops": flops, "parameters": size, "tokens": data, "loss": float(self.law.loss(size, data)),
            "parameters_interval": bounds[:, 0].tolist(), "tokens_interval": bounds[:, 1].tolist(),
        }  # fmt: skip

    def intervals(self, level: float = 0.9) -> dict[str, list[float]]:
        """The interval of each of the law's numbers."""
        values = {name: [getattr(law, name) for law in self.resampled] for name in asdict(self.law)}
        return {name: np.quantile(found, [(1 - level) / 2, (1 + level) / 2]).tolist() for name, found in values.items()}

    def to_json(self) -> dict[str, Any]:
        errors = [abs(error) for error in self.left_out if error is not None]
        largest = max(range(len(self.points)), key=lambda number: self.points[number].flops)
        return {
            "schema_version": 1,
            "law": asdict(self.law),
            "intervals": self.intervals(),
            "points": [
                asdict(point) | {"fitted": float(self.law.loss(point.parameters, point.tokens)), "left_out": error}
                for point, error in zip(self.points, self.left_out, strict=True)
            ],
            "leave_one_out": {
                "mean_error": sum(errors) / len(errors) if errors else None,
                "largest_error": max(errors, default=None),
                "largest_run": self.left_out[largest],
            },
            "warnings": list(self.warnings),
        }


def fit(points: Iterable[Point], *, resamples: int = 200, seed: int = 0) -> Fit:
    """The law that these runs follow, with intervals (a bootstrap over residuals) and leave-one-out errors.

    Minimises the Huber loss of log L, the law's logarithm being a log-sum-exp, by BFGS from the best of a grid of starts.
    Raises UsageError, saying what is needed, where the runs are too few or too alike.
    """
    found = tuple(points)
    lacking = missing(found)
    if lacking:
        raise UsageError(f"a scaling law cannot be fitted to {_runs(len(found))}: {lacking}")
    logs = _Logs.of(found)
    best = _solve(logs, _starts(logs))
    fitted = _log_sum_exp(_terms(best, logs.size, logs.data))
    residuals = (logs.loss - fitted) * math.sqrt(len(found) / (len(found) - 5))
    random = np.random.default_rng(seed)
    resampled = []
    for _ in range(resamples):
        drawn = replace(logs, loss=fitted + random.choice(residuals, len(found)))
        resampled.append(_law(_solve(drawn, [best]), logs))
    left_out = tuple(_left_out(found, number, best, logs) for number in range(len(found)))
    law = _law(best, logs)
    return Fit(law, found, tuple(resampled), tuple(residuals.tolist()), left_out, tuple(_warnings(law, found)))


def missing(points: Sequence[Point]) -> str:
    """What a fit to these points lacks, in words; empty where nothing."""
    for point in points:
        if not all(math.isfinite(value) and value > 0 for value in (point.parameters, point.tokens, point.loss)):
            return f"parameters, tokens and loss must be finite and above 0, not {asdict(point)}"
    if len(points) < LEAST_POINTS:
        return f"at least {LEAST_POINTS} are needed, of {LEAST_KINDS} sizes and {LEAST_KINDS} amounts of tokens"
    sizes, tokens = {point.parameters for point in points}, {point.tokens for point in points}
    for kinds, what in ((len(sizes), "sizes"), (len(tokens), "amounts of tokens")):
        if kinds < LEAST_KINDS:
            return f"at least {LEAST_KINDS} different {what} are needed, there are {kinds}"
    logs = _Logs.of(points)
    if abs(np.corrcoef(logs.size, logs.data)[0, 1]) > 0.98:
        return (
            "tokens grow in step with parameters in them, so the two cannot be told apart: "
            "add runs of one size on several amounts of tokens"
        )
    return ""


@dataclass(frozen=True)
class _Logs:
    """Logarithms of the points' parameters and tokens less their means (`middle`), and of their losses."""

    size: Floats
    data: Floats
    loss: Floats
    middle: tuple[float, float]

    @classmethod
    def of(cls, points: Sequence[Point]) -> _Logs:
        table = np.log([[point.parameters, point.tokens, point.loss] for point in points]).T
        size, data = float(table[0].mean()), float(table[1].mean())
        return cls(table[0] - size, table[1] - data, table[2], (size, data))


def _terms(values: Floats, size: Floats, data: Floats) -> Floats:
    """Logarithms of the law's three parts: values (…, 5), size and data (points,) -> (…, points, 3).

    `values`: those parts at the points' geometric means (so that they hardly depend on alpha and beta, and BFGS needs
    a hundred steps and not thousands), alpha, beta; `size` and `data`: logarithms less their means.
    """
    a, b, e, alpha, beta = (values[..., number, None] for number in range(5))
    return np.stack(np.broadcast_arrays(a - alpha * size, b - beta * data, e + 0 * size), axis=-1)


def _huber(difference: Floats) -> Floats:
    """In units of HUBER squared, so that the tolerances of BFGS, made for values about 1, do not end it early."""
    scaled = np.abs(difference) / HUBER
    return np.where(scaled <= 1, scaled**2 / 2, scaled - 0.5)


def _starts(points: _Logs) -> list[Floats]:
    """The grid of Hoffmann et al. (D.2); of its 4,500 places those where the objective is lowest."""
    grid = np.stack(np.meshgrid(*_GRID, indexing="ij"), axis=-1).reshape(-1, 5)
    grid[:, 0] -= grid[:, 3] * points.middle[0]
    grid[:, 1] -= grid[:, 4] * points.middle[1]
    value = _huber(_log_sum_exp(_terms(grid, points.size, points.data)) - points.loss).sum(axis=-1)
    return list(grid[np.argsort(value, kind="stable")[:_STARTS]])


def _log_sum_exp(terms: Floats) -> Floats:
    top = terms.max(axis=-1)
    return np.asarray(top + np.log(np.exp(terms - top[..., None]).sum(axis=-1)))


def _solve(points: _Logs, starts: Sequence[Floats]) -> Floats:
    """The values (`_terms`) of the lowest objective found."""
    from scipy.optimize import minimize

    def objective(values: Floats) -> tuple[float, Floats]:
        terms = _terms(values, points.size, points.data)
        law = _log_sum_exp(terms)
        difference = law - points.loss
        parts = np.exp(terms - law[:, None]) * (np.clip(difference / HUBER, -1, 1) / HUBER)[:, None]
        gradient = np.array([*parts.sum(axis=0), -points.size @ parts[:, 0], -points.data @ parts[:, 1]])
        return float(_huber(difference).sum()), gradient

    # Not L-BFGS: with five unknowns full memory costs nothing, goes lower, and wakes no threads of BLAS.
    found = [
        minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-4, "maxiter": 500}) for start in starts
    ]
    return np.asarray(min(found, key=lambda result: float(result.fun)).x)


def _law(values: Floats, points: _Logs) -> Law:
    a, b, e, alpha, beta = (float(value) for value in values)
    size, data = points.middle
    top = 700.0  # e^710 is no number
    A, B = math.exp(min(a + alpha * size, top)), math.exp(min(b + beta * data, top))
    return Law(math.exp(min(e, top)), A, B, alpha, beta)


def _left_out(points: Sequence[Point], number: int, best: Floats, logs: _Logs) -> float | None:
    rest = [point for place, point in enumerate(points) if place != number]
    if missing(rest):
        return None
    here = _Logs.of(rest)
    start = best.copy()
    start[:2] += start[3:] * (np.array(logs.middle) - np.array(here.middle))
    law = _law(_solve(here, [start, *_starts(here)[:2]]), here)
    own = points[number]
    return float(law.loss(own.parameters, own.tokens)) / own.loss - 1


def _warnings(law: Law, points: Sequence[Point]) -> Iterable[str]:
    for name, what in (("alpha", "size"), ("beta", "tokens")):
        if not 0 < getattr(law, name) < 3:
            yield f"{name} = {getattr(law, name):.3g}: these runs do not show how loss falls with {what}; add others"
    if 0.01 * min(point.loss for point in points) > law.E:
        yield "E is not determined by these runs, it went to 0: add larger ones, on more tokens"
    if len(points) < 9:
        yield f"{_runs(len(points))} leave little to judge the errors by: 9 (three sizes on three amounts of tokens) are better"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def point_of(result: Mapping[str, Any], name: str, counted: str = "all") -> Point:
    """The point of a finished run: of `pretrain/result.json`, or a row of `swarm.run_many`.

    `counted`: a key of COUNTED. UsageError where nothing was held out to measure the loss on.
    """
    loss = (result.get("validation") or {}).get("loss")
    if loss is None:
        raise UsageError(f"{name} has no validation loss: make its mix with a validation part (mix.validation)")
    return Point(float(result["parameters"][COUNTED[counted]]), float(result["tokens"]), float(loss), name)


def read_points(source: str, counted: str = "all") -> list[Point]:
    """Points from a workspace with a finished `curate pretrain`, or from a file of JSON lines {parameters, tokens, loss}."""
    if Path(source).is_file():
        return _read_lines(Path(source))
    result = Workspace(source).read_json("pretrain/result.json")
    if result is None:
        raise UsageError(
            f"{redact(source)} is neither a file of points nor a workspace with a finished `curate pretrain`"
        )
    return [point_of(result, redact(source), counted)]


def _read_lines(path: Path) -> list[Point]:
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            size, data, loss = (float(row[key]) for key in ("parameters", "tokens", "loss"))
            found.append(Point(size, data, loss, str(row.get("name", ""))))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f'{path}:{number}: a point is {{"parameters": N, "tokens": D, "loss": L}}, in numbers ({error!r})'
            ) from None
    return found
