"""Conditional mixing: an earlier mix is frozen and counts as one domain, so that new sources need no new swarm of the old.

OLMo 3 and Olmix (arXiv 2602.12237) mix in rounds: each freezes the proportions of the one before. Runs then vary the share of
the frozen mix against the new domains only. What that assumes: that the best proportions among the old domains do not depend
on the new ones, and do not change with the share that the frozen mix keeps.

What old runs still say: `Condensed.predictor` looks at a model of the real domains along the frozen proportions, exactly, so
a fit to old runs (new domains 0 in them) and new runs (`expand`ed) together serves. As runs of condensed domains (`condense`)
old runs hold only where they mix the old domains as the frozen mix does, and `departure` says how far they do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from curate.mixtures.forms import Convex, Floats, Predictor
from curate.pipeline.errors import UsageError, nearest


@dataclass(frozen=True)
class Frozen:
    """An earlier mix as one virtual domain: `weights` by real domain, >= 0, taken in proportion. A domain with weight 0 is
    part of it all the same: the earlier round left it out."""

    name: str
    weights: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Condensed:
    """Domains after freezing: the free ones in their order, then the frozen mixes (n of m real domains)."""

    domains: tuple[str, ...]
    prior: Floats
    """(n,): of a frozen mix, the sum of its domains'."""
    available: Floats
    """(n,) tokens: of a frozen mix, those in one pass of its scarcest domain, min N_j / q_j."""
    real: tuple[str, ...]
    matrix: Floats
    """(m, n): a column says how a domain is made of the real ones; columns sum to 1."""
    owner: npt.NDArray[np.intp]
    """(m,): the condensed domain, by number, that a real one belongs to."""

    def expand(self, weights: Floats) -> Floats:
        """Weights of the real domains; shapes: (n,) -> (m,), (runs, n) -> (runs, m)."""
        return np.asarray(np.asarray(weights, np.float64) @ self.matrix.T)

    def condense(self, weights: Floats) -> Floats:
        """Weights of the condensed domains: a frozen mix has the sum of its domains'; (m,) -> (n,), (runs, m) -> (runs, n)."""
        member = np.zeros_like(self.matrix)
        member[np.arange(len(self.real)), self.owner] = 1.0
        return np.asarray(np.asarray(weights, np.float64) @ member)

    def departure(self, weights: Floats) -> Floats:
        """Share of each mixture that lies elsewhere than `expand(condense(weights))` says, 0 to 1; (runs, m) -> (runs,)."""
        rows = np.atleast_2d(np.asarray(weights, np.float64))
        return np.asarray(np.abs(rows - self.expand(self.condense(rows))).sum(axis=1) / 2)

    def predictor(self, model: Predictor) -> Predictor:
        """A model of the real domains as one of the condensed domains: convex ones stay so. UsageError for other domains."""
        if model.domains != self.real:
            raise UsageError(
                f"the model weighs {len(model.domains)} domains, not the {len(self.real)} that were condensed"
            )
        return _Seen(model, self)


def condense(domains: Sequence[str], prior: Floats, available: Floats, frozen: Frozen | Sequence[Frozen]) -> Condensed:
    """The domains with one or several earlier mixes frozen; `prior` and `available` (m,) are in the order of `domains`.

    Raises UsageError where a frozen mix names no domain or one that another has, weighs nothing, or its name is taken.
    """
    mixes = [frozen] if isinstance(frozen, Frozen) else list(frozen)
    real = tuple(domains)
    owners = _owners(real, mixes)
    free = [name for name in real if name not in owners]
    names = (*free, *(mix.name for mix in mixes))
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"frozen mix {name!r}: another domain has this name; give the mix one of its own")
    owner = np.array([names.index(owners.get(name, name)) for name in real], np.intp)
    matrix = np.zeros((len(real), len(names)))
    for index, name in enumerate(real):
        matrix[index, owner[index]] = 1.0 if name not in owners else _weight(mixes, owners[name], name)
    matrix = matrix / matrix.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        passes = np.where(matrix > 0, np.asarray(available, np.float64)[:, None] / matrix, np.inf)
    summed = np.zeros(len(names))
    np.add.at(summed, owner, np.asarray(prior, np.float64))
    return Condensed(names, summed, passes.min(axis=0), real, matrix, owner)


def _owners(real: tuple[str, ...], mixes: Sequence[Frozen]) -> dict[str, str]:
    """The frozen mix of each domain that is in one."""
    owners: dict[str, str] = {}
    for mix in mixes:
        for name, weight in mix.weights.items():
            if not 0 <= weight < np.inf:
                raise UsageError(f"frozen mix {mix.name!r}: {name!r} weighs {weight}; weights are numbers >= 0")
            if name not in real:
                if weight == 0:
                    continue
                raise UsageError(f"frozen mix {mix.name!r}: there is no domain {name!r}{nearest(name, real)}")
            if name in owners:
                raise UsageError(f"domain {name!r} is in two frozen mixes, {owners[name]!r} and {mix.name!r}")
            owners[name] = mix.name
        if not sum(mix.weights.values()) > 0:
            raise UsageError(f"frozen mix {mix.name!r} weighs nothing: one domain at least needs a weight above 0")
    return owners


def _weight(mixes: Sequence[Frozen], owner: str, name: str) -> float:
    return next(float(mix.weights[name]) for mix in mixes if mix.name == owner)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A model of real domains, seen from the condensed ones."""

    model: Predictor
    condensed: Condensed

    @property
    def domains(self) -> tuple[str, ...]:
        return self.condensed.domains

    @property
    def tasks(self) -> tuple[str, ...]:
        return self.model.tasks

    @property
    def form(self) -> Convex | None:
        form = self.model.form
        return None if form is None else replace(form, slope=form.slope @ self.condensed.matrix)

    def predict(self, weights: Floats) -> Floats:
        return self.model.predict(self.condensed.expand(weights))

    def gradient(self, mixture: Floats) -> Floats:
        return np.asarray(self.model.gradient(self.condensed.expand(mixture)) @ self.condensed.matrix)

    def resample(self, samples: int, seed: int) -> Iterator[Predictor]:
        return (_Seen(model, self.condensed) for model in self.model.resample(samples, seed))
