"""Which mixtures a swarm tries: seeded, sparse or dense, no two alike, every domain in some of them.

Sources: RegMix (arXiv 2407.01492; `mixture_config/synthesize_mixture.py` of sail-sg/regmix) and OLMo 3 / Olmix (arXiv
2602.12237; `olmix/generate/synthesize_mixture.py` of allenai/olmix). Pure functions over arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curate.pipeline.errors import UsageError

Floats = npt.NDArray[np.float64]

STRENGTHS = (0.1, 5.0)
"""Concentrations of the Dirichlet, RegMix's and Olmix's: few domains carry a mixture."""
DENSE_STRENGTHS = (1.0, 20.0)
"""Those of Olmix's configurations in which no domain may be zero."""
STEPS = 15
"""Concentrations tried between the two, at equal ratios; each mixture takes one of them."""
REGMIX_MINIMUM, NATURAL_MINIMUM = 2e-4, 2e-3
"""Weights below are dropped (100 samples of 2,048 tokens in a run of a billion for RegMix's; Olmix's default)."""
REGMIX_TEMPERATURE, REGMIX_USAGE = 0.5, 15.0
"""RegMix's exponent of the prior, and the largest multiple of its natural share that a domain may have.

These and STRENGTHS are what its script and paper say; the 512 runs that it published are distributed as with the exponent 0.1
and strengths from 1 to 5 (Kolmogorov-Smirnov distance at most .05 in every domain, against .33).
"""
NEAR = 0.01
"""Mixtures nearer than this (Euclidean) are one and the same: Olmix's threshold."""
REPEATS = 5.0
"""Times that a proxy run may pass through a domain's tokens at most: Olmix's default."""
COVER = 3
"""Runs that every domain must be in, as far as there are so many rounds of runs."""
_TRIES = 10_000
_LEAST = 1e-6


@dataclass(frozen=True)
class _Rules:
    """What a mixture must be, resolved for a prior; arrays are (domains,)."""

    centre: Floats
    """The mean of the Dirichlet."""
    strengths: Floats
    base: Floats
    """Shares that every mixture has in any case (dense), before the Dirichlet has its part."""
    minimum: float
    """Smaller weights are dropped (sparse), or do not count as having a domain in a mixture (dense: beyond its base)."""
    sparse: bool
    usage: Floats
    """Upper bounds before small weights are dropped: RegMix's."""
    room: Floats
    """Upper bounds of the mixture: tokens of the pool."""
    tolerance: float
    least: int
    cover: int


def default_count(domains: int) -> int:
    """Runs that a swarm over so many domains needs: 3 (m + 1) (Olmix)."""
    return 3 * (domains + 1)


def design(
    prior: npt.ArrayLike,
    count: int | None = None,
    *,
    sampling: Literal["natural", "regmix"] = "natural",
    sparse: bool = True,
    seed: int = 0,
    domains: Sequence[str] | None = None,
    strength: tuple[float, float] | None = None,
    temperature: float | None = None,
    minimum: float | None = None,
    tolerance: float = NEAR,
    available: npt.ArrayLike | None = None,
    tokens: int | None = None,
    max_repeats: float = REPEATS,
    least: int = 1,
    cover: int = COVER,
) -> Floats:
    """Mixtures to train; shape (count, domains), rows sum to 1. `count` None: `default_count`.

    `prior` (domains,): the natural distribution, on any scale, all above 0.
    "natural": Dirichlet(s · prior); s is one of 15 concentrations. Sparse (topics): weights below `minimum` are dropped.
    Dense (sources): every domain has min(`minimum`, prior/2) at least, and the mean of the mixtures is the prior exactly.
    "regmix": Dirichlet(s · prior^.5 / sum), thrown away where a weight is above min(15 prior, 1); small weights dropped.
    `strength`: the least and the largest s; `temperature`: the exponent of the prior (1 for "natural", .5 for "regmix").

    Thrown away and drawn again are also mixtures nearer than `tolerance` to an earlier one, of fewer than `least` domains,
    and, with `available` (tokens by domain of the pool that runs draw from) and `tokens` (of a run), those that pass more
    than `max_repeats` times through a domain. Every m runs hold each domain at least once until it was in `cover` runs: where
    none of those that are due comes by itself, one of them is put in, with a weight spread evenly in its logarithm (what
    the Dirichlet gives a domain of small prior when it gives it anything).

    Row i depends on the seed, its number and the rows before: a larger design begins with the smaller. Raises UsageError
    where there are no such mixtures, saying which rule throws them away, and where a domain would be in no run.
    """
    natural = np.asarray(prior, np.float64)
    names = list(domains) if domains is not None else [f"domain {number}" for number in range(natural.size)]
    natural = _prior(natural, names)
    rules = _rules(natural, sampling, sparse, strength, temperature, minimum, tolerance, least, cover)
    if available is not None and tokens is not None:
        room = np.minimum(max_repeats * np.asarray(available, np.float64) / tokens, 1.0)
        rules = replace(rules, room=room)
    _possible(rules, names, tokens, max_repeats)
    count = default_count(len(natural)) if count is None else count
    if count < 1:
        raise UsageError(f"swarm: a design of {count} runs is none")
    found = np.empty((count, len(natural)))
    for number in range(count):
        found[number] = _row(rules, found[:number], seed, count, names)
    never = [names[index] for index in np.flatnonzero(~np.any(found > 0, axis=0))]
    if never:
        raise UsageError(
            f"swarm: {count} runs never have {', '.join(never[:8])}{' …' if len(never) > 8 else ''}: nothing could be learned "
            f"about {'them' if len(never) > 1 else 'it'}; make it {len(natural)} runs at least (advised: "
            f"{default_count(len(natural))}) or join small domains"
        )
    return found


def _prior(prior: Floats, names: list[str]) -> Floats:
    if prior.ndim != 1 or len(prior) != len(names):
        raise UsageError(f"swarm: a prior of shape {prior.shape} for {len(names)} domains")
    if len(prior) < 2:
        raise UsageError("swarm: one domain has nothing to be weighed against: split by another column (swarm.by)")
    for name, share in zip(names, prior, strict=True):
        if not (np.isfinite(share) and share > 0):
            raise UsageError(f"swarm: domain {name!r} has a natural share of {share}: leave it out")
    result: Floats = prior / prior.sum()
    return result


def _rules(
    prior: Floats,
    sampling: str,
    sparse: bool,
    strength: tuple[float, float] | None,
    temperature: float | None,
    minimum: float | None,
    tolerance: float,
    least: int,
    cover: int,
) -> _Rules:
    if sampling not in ("natural", "regmix"):
        raise UsageError(f"swarm.sampling: {sampling!r} is neither 'natural' nor 'regmix'")
    regmix = sampling == "regmix"
    low, high = strength or (STRENGTHS if sparse or regmix else DENSE_STRENGTHS)
    if not (0 < low <= high < np.inf):
        raise UsageError(f"swarm: strengths from {low} to {high}: give two numbers above 0 that do not fall")
    if minimum is None:
        minimum = REGMIX_MINIMUM if regmix else NATURAL_MINIMUM
    if not 0 <= minimum < 1 / len(prior):
        raise UsageError(
            f"swarm: a smallest weight of {minimum} does not fit {len(prior)} domains: below {1 / len(prior):.2g}"
        )
    temperature = (REGMIX_TEMPERATURE if regmix else 1.0) if temperature is None else temperature
    if not 0 <= temperature < np.inf:
        raise UsageError(f"swarm: a temperature of {temperature}: give the exponent of the prior, 0 (all alike) to 1")
    ones = np.ones_like(prior)
    middle = prior**temperature
    middle = middle / middle.sum()
    base = np.zeros_like(prior) if sparse or regmix else np.minimum(minimum, middle / 2)
    centre = middle - base
    return _Rules(
        centre=centre / centre.sum(),
        strengths=np.geomspace(low, high, STEPS),
        base=base,
        minimum=max(minimum, _LEAST),
        sparse=sparse or regmix,
        usage=np.minimum(REGMIX_USAGE * prior, 1.0) if regmix else ones,
        room=ones,
        tolerance=tolerance,
        least=least,
        cover=cover,
    )


def _possible(rules: _Rules, names: list[str], tokens: int | None, max_repeats: float) -> None:
    if rules.room.shape != rules.centre.shape:
        raise UsageError(f"swarm: tokens of {rules.room.size} domains are given, mixtures have {rules.centre.size}")
    where = f" in a run of {tokens:,} tokens, each at most {max_repeats:g} times" if tokens else ""
    bound = np.minimum(rules.usage, rules.room)
    if rules.room.sum() < 1:
        raise UsageError(
            f"swarm: the pool fills {rules.room.sum():.0%} of a run{where}: enlarge it (swarm.pool_tokens) or shorten the runs"
        )
    for name, share, base in zip(names, bound, rules.base, strict=True):
        if share <= base + rules.minimum:
            raise UsageError(
                f"swarm: domain {name!r} can be {share:.3%} of a mixture{where}, no more than the smallest weight "
                f"({base + rules.minimum:.3%}): join it to another domain, enlarge the pool or shorten the runs"
            )
    if not 1 <= rules.least <= len(names):
        raise UsageError(f"swarm: mixtures of at least {rules.least} domains out of {len(names)}")


def _row(rules: _Rules, before: Floats, seed: int, count: int, names: list[str]) -> Floats:
    """The mixture that follows those before."""
    number, size = len(before), len(rules.centre)
    random = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number], np.uint64)))
    due = _due(rules, before)
    must = len(due) >= size - number % size
    rejected: Counter[str] = Counter()
    for _ in range(_TRIES):
        drawn = random.dirichlet(rules.centre * rules.strengths[random.integers(STEPS)])
        if must and not np.any(_present(rules, drawn)[due]):
            drawn = _put_in(rules, drawn, int(due[random.integers(len(due))]), random)
        if np.any(drawn > rules.usage):
            rejected["a weight above 15 times its natural share"] += 1
            continue
        kept = np.where(drawn < rules.minimum, 0.0, drawn) if rules.sparse else drawn
        mixture = rules.base + (1 - rules.base.sum()) * kept / kept.sum()
        if np.any(mixture > rules.room):
            rejected["more tokens of a domain than the pool has (swarm.pool_tokens)"] += 1
        elif np.count_nonzero(mixture) < rules.least:
            rejected[f"fewer than {rules.least} domains"] += 1
        elif number and np.sqrt(((before - mixture) ** 2).sum(axis=1).min()) < rules.tolerance:
            rejected[f"nearer than {rules.tolerance:g} to another mixture"] += 1
        else:
            row: Floats = mixture
            return row
    why = "; ".join(f"{rule}: {times:,}" for rule, times in rejected.most_common())
    raise UsageError(
        f"swarm: no mixture for run {number + 1} of {count} among {_TRIES:,} draws ({why}). Ask for fewer runs, or "
        "for mixtures nearer to the natural one (a larger strength)"
    )


def _present(rules: _Rules, drawn: Floats) -> npt.NDArray[np.bool_]:
    """Which domains a draw of the Dirichlet gives a weight that counts."""
    present: npt.NDArray[np.bool_] = drawn * (1 - rules.base.sum()) >= rules.minimum
    return present


def _due(rules: _Rules, before: Floats) -> npt.NDArray[np.intp]:
    """Domains that were in fewer runs than rounds of m runs have begun."""
    size = len(rules.centre)
    runs = np.count_nonzero(before - rules.base >= rules.minimum * (1 - 1e-9), axis=0)
    return np.flatnonzero(runs < min(len(before) // size + 1, rules.cover))


def _put_in(rules: _Rules, drawn: Floats, index: int, random: np.random.Generator) -> Floats:
    """The mixture with a domain put in, at a weight between the smallest and the largest it may have."""
    free = 1 - float(rules.base.sum())
    low, high = rules.minimum / free, float(min(rules.usage[index], (rules.room[index] - rules.base[index]) / free))
    weight = low * (high / low) ** random.random()
    rest = drawn.copy()
    rest[index] = 0
    if not rest.sum() > 0:
        rest = rules.centre.copy()
        rest[index] = 0
    mixture: Floats = rest / rest.sum() * (1 - weight)
    mixture[index] = weight
    return mixture


@dataclass(frozen=True)
class Identified:
    """Whether runs can tell the domains apart."""

    runs: int
    domains: tuple[str, ...]
    sampled: tuple[int, ...]
    """Runs that hold each domain."""
    rank: int
    """Of the matrix of weights; all domains are told apart where it is their number (weights sum to 1: no constant beside)."""
    condition: float
    """Largest / smallest singular value of the weights, columns scaled to length 1; above 30 domains are hard to tell apart
    (Belsley, Kuh and Welsch 1980). Infinite where the rank is too low."""
    weakest: str
    """The domain of which the runs tell least: largest variance of its effect, in units of its own weights."""

    @property
    def all(self) -> bool:
        return self.rank == len(self.domains)

    def to_json(self) -> dict[str, Any]:
        finite = bool(np.isfinite(self.condition))
        return {**asdict(self), "condition": self.condition if finite else None, "all": self.all}

    def lines(self) -> list[str]:
        fewest = min(zip(self.sampled, self.domains, strict=True))
        lines = [f"{self.runs} mixtures of {len(self.domains)} domains; fewest runs: {fewest[1]} ({fewest[0]})"]
        if self.all:
            hard = " (above 30: hard to tell apart; more runs help)" if self.condition > 30 else ""
            lines.append(f"condition number {self.condition:.1f}{hard}; weakest: {self.weakest}")
        else:
            lines.append(
                f"they tell {self.rank} of {len(self.domains)} domains apart: a fit rests on its regularisation"
            )
        return lines


def identify(weights: npt.ArrayLike, domains: Sequence[str] | None = None) -> Identified:
    """How well runs with these weights (runs, domains) can tell the effects of the domains apart."""
    given = np.asarray(weights, np.float64)
    if given.ndim != 2 or not given.size:
        raise UsageError(f"swarm: weights of shape {given.shape} are not (runs, domains)")
    names = tuple(domains) if domains is not None else tuple(f"domain {number}" for number in range(given.shape[1]))
    lengths = np.sqrt((given**2).sum(axis=0))
    scaled = given / np.where(lengths > 0, lengths, 1.0)
    _, values, right = np.linalg.svd(scaled, full_matrices=False)
    rank = int(np.count_nonzero(values > values[0] * max(given.shape) * np.finfo(float).eps))
    if rank == len(names):
        weakest = int((((right.T / values) ** 2).sum(axis=1)).argmax())
    else:
        weakest = int(lengths.argmin())
    return Identified(
        runs=len(given),
        domains=names,
        sampled=tuple(np.count_nonzero(given, axis=0).tolist()),
        rank=rank,
        condition=float(values[0] / values[-1]) if rank == len(names) else float("inf"),
        weakest=names[weakest],
    )
