"""Which mixtures a swarm tries: decided from exact counts before the first run, and written down.

    <swarm>/design.json     domains with their natural shares and tokens, the runs with their weights and seeds

A later call with more runs adds to them; one that would change anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mixtures.condition import Condensed, Frozen, condense
from curate.mixtures.config import MixConfig
from curate.mixtures.design import design
from curate.mixtures.domains import Counted, Size, domain_names, domain_tokens
from curate.mixtures.swarm_config import SwarmConfig
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.workspace import Workspace, redact

DESIGN = "design.json"
FROZEN = "frozen"
"""The name of an earlier mix among the domains."""
SPARSE = "topic"
"""Topics are weighed sparsely: mixtures leave some out (Olmix, section 4; sources are not)."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SwarmDesign:
    """A swarm's runs, by number: the replicates (natural mixture, seeds of their own) first, then the mixtures tried."""

    domains: tuple[str, ...]
    """What is weighed: buckets of the pool; with an earlier mix frozen, that mix as one of them (`frozen`)."""
    prior: Floats
    """Natural shares, shape (domains,); of a frozen mix that of all its buckets together."""
    available: Floats
    """Tokens that may be drawn, shape (domains,)."""
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    seeds: tuple[int, ...]
    weights: Floats
    """Shape (runs, domains); rows sum to 1."""
    buckets: Mapping[str, Size]
    """What the pool is packed by, and what there is of each."""
    frozen: Mapping[str, float] | None
    """Weights by bucket within the earlier mix; a bucket with 0 is part of it, and left out."""
    facts: Mapping[str, Any]
    """What else the runs depend on (`decide`); runs of another design may not be mixed with these."""

    def mixtures(self) -> list[dict[str, float]]:
        """Each run's mixture of buckets; those without a share are left out."""
        if self.frozen is None:
            names, rows = self.domains, self.weights
        else:
            names = tuple(self.buckets)
            rows = _condensed(self.buckets, self.frozen).expand(self.weights)
        return [{name: float(weight) for name, weight in zip(names, row, strict=True) if weight > 0} for row in rows]

    def to_json(self) -> dict[str, Any]:
        """As `design.json` has it."""
        shares = zip(self.domains, self.prior.tolist(), self.available.tolist(), strict=True)
        runs = zip(self.names, self.kinds, self.seeds, self.weights.tolist(), strict=True)
        return {
            "schema_version": 1,
            "domains": [{"domain": name, "prior": share, "available": tokens} for name, share, tokens in shares],
            "frozen": None if self.frozen is None else {"name": FROZEN, "weights": dict(self.frozen)},
            "buckets": {name: vars(size) for name, size in self.buckets.items()},
            **self.facts,
            "runs": [
                {"run": name, "kind": kind, "seed": seed, "weights": row} for name, kind, seed, row in runs
            ],
        }  # fmt: skip


def decide(
    config: SwarmConfig,
    mix: MixConfig,
    buckets: Mapping[str, Size],
    seed: int,
    frozen: Mapping[str, float] | None = None,
) -> SwarmDesign:
    """The design for a pool that holds so much of each bucket. A larger `config.runs` adds to the runs of a smaller one.

    `frozen` is an earlier mix, by bucket: together its buckets become one domain, in these proportions. All runs but the
    replicates share one seed, so that mixtures differ in nothing else. Raises UsageError where a domain is too small to train
    on or to be measured, naming it.
    """
    weighed = _weighed(config, buckets)
    refuse_small(config, mix, weighed)
    domains, prior, available = tuple(weighed), _shares(weighed), _tokens(weighed)
    pool = _tokens(pooled(config, weighed))
    if frozen is not None:
        frozen = _frozen_of(frozen, weighed)
        condensed = _condensed(weighed, frozen)
        domains, prior, available = condensed.domains, condensed.prior, condensed.available
        pool = _condensed(pooled(config, weighed), frozen).available
    if len(domains) < 2 and frozen is not None:
        raise UsageError(
            "--freeze names every domain that there is, so there is nothing to weigh beside it: its file is to be the weights "
            "of a mix without the new sources"
        )
    if len(domains) < 2:
        raise UsageError(
            f"there is one domain ({domains[0]}), so there is nothing to weigh: name other columns in swarm.by or mix.by"
        )
    by = domain_columns(config, mix)
    sparse = SPARSE in by if config.sparse is None else config.sparse
    tried = design(
        prior, config.runs, sampling=config.sampling, sparse=sparse, seed=seed, domains=domains, available=pool,
        tokens=None if config.max_repeats is None else config.run_tokens, max_repeats=config.max_repeats or 1.0,
    )  # fmt: skip
    copies, count = config.replicates, len(tried)
    facts = {
        "by": by, "bins": {name: mix.bins[name] for name in by if name in mix.bins}, "excluded": sorted(config.exclude),
        "sampling": config.sampling, "sparse": sparse, "seed": seed, "tokens": config.run_tokens,
        "pool_tokens": config.pool_tokens, "max_repeats": config.max_repeats, "proxy": _learning(config),
    }  # fmt: skip
    return SwarmDesign(
        domains=domains,
        prior=prior,
        available=available,
        names=(*(f"replicate-{number:02d}" for number in range(copies)), *(f"design-{number:05d}" for number in range(count))),
        kinds=("replicate",) * copies + ("design",) * count,
        seeds=(*range(seed, seed + copies), *[seed] * count),
        weights=np.concatenate([np.tile(prior, (copies, 1)), tried]),
        buckets=weighed,
        frozen=frozen,
        facts=facts,
    )  # fmt: skip


def domain_columns(config: SwarmConfig, mix: MixConfig) -> list[str]:
    """The columns that make the domains."""
    if config.by is not None:
        return list(config.by)
    return [name for name in mix.by if mix.upsample is None or name != mix.upsample.by]


def by_domain(
    weights: Mapping[str, float], table: Counted | None, mix: MixConfig, by: Sequence[str]
) -> dict[str, float]:
    """An earlier mix's weights by domain, where they name finer buckets of the mix (`table`); as they are otherwise."""
    kept = [name for name in mix.by if mix.upsample is None or name != mix.upsample.by]
    fine = set() if table is None else set(domain_tokens(table, kept))
    if kept == list(by) or table is None or not all(name in fine for name, weight in weights.items() if weight > 0):
        return dict(weights)
    found: dict[str, float] = {}
    for domain, weight in zip(domain_names(list(weights), kept, by), weights.values(), strict=True):
        found[domain] = found.get(domain, 0.0) + weight
    return found


def pool_sizes(config: SwarmConfig, buckets: Mapping[str, Size]) -> dict[str, int]:
    """Tokens of each bucket to pack: no run reads more of one than it has tokens, once through."""
    most = config.pool_tokens or config.run_tokens
    return {name: min(size.tokens, most) for name, size in buckets.items()}


def keep_design(swarm: Workspace, found: SwarmDesign) -> None:
    """Writes `design.json`; UsageError where the one that is there is not of the same swarm, or of a part of it."""
    new, old = found.to_json(), swarm.read_json(DESIGN)
    if old is not None:
        differing = [key for key in new if key != "runs" and old.get(key) != new[key]]
        if differing:
            raise UsageError(
                f"{redact(swarm.url)} holds a swarm of another design ({', '.join(differing)} differ): its runs cannot be "
                f"compared with these. Give --swarm another name, or remove {redact(swarm.url)}/{DESIGN} to begin anew"
            )
    if new != old:
        swarm.write_json(DESIGN, new)


def refuse_small(config: SwarmConfig, mix: MixConfig, buckets: Mapping[str, Size]) -> None:
    """UsageError where a domain cannot be trained on or measured, naming all such domains."""
    window = config.proxy.resolved().sequence_length + 1
    short = [f"{name} ({size.tokens:,})" for name, size in pooled(config, buckets).items() if size.tokens < window]
    unmeasured = [name for name, size in buckets.items() if not size.held_out]
    leave = "leave them out with swarm.exclude, or name fewer columns in swarm.by"
    if mix.validation == 0:
        raise UsageError(
            "mixtures are judged by the loss on held-out text of every domain, but mix.validation is 0: set it to 0.02, say"
        )
    if short:
        raise UsageError(
            f"too few tokens to train on, less than one sequence of {window - 1}: {listed(short)}. {leave[0].upper()}"
            f"{leave[1:]}, or set swarm.proxy.sequence_length lower"
        )
    if unmeasured:
        raise UsageError(
            f"no document is held out of {listed(unmeasured)}: the loss there cannot be measured. Raise mix.validation "
            f"(it is {mix.validation:g}), {leave}"
        )


def pooled(config: SwarmConfig, buckets: Mapping[str, Size]) -> dict[str, Size]:
    """The buckets, with the tokens that are packed of each."""
    sizes = pool_sizes(config, buckets)
    return {name: Size(size.documents, sizes[name], size.bytes, size.held_out) for name, size in buckets.items()}


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _weighed(config: SwarmConfig, buckets: Mapping[str, Size]) -> dict[str, Size]:
    for name in config.exclude:
        if name not in buckets:
            raise UsageError(f"swarm.exclude: there is no domain {name!r}{nearest(name, tuple(buckets))}")
    found = {name: buckets[name] for name in sorted(buckets) if name not in config.exclude}
    if not found:
        raise UsageError("there are no domains to weigh" + (": swarm.exclude names all" if buckets else ""))
    return found


def _frozen_of(given: Mapping[str, float], buckets: Mapping[str, Size]) -> dict[str, float]:
    """The earlier mix's weights, summing to 1. A domain that it names with 0 stays left out."""
    for name, weight in given.items():
        if weight > 0 and name not in buckets:
            raise UsageError(f"--freeze: there is no domain {name!r}{nearest(name, tuple(buckets))}")
    if FROZEN in buckets:
        raise UsageError(f"--freeze makes a domain {FROZEN!r}, and the pool has one of that name: rename it")
    total = sum(given.values())
    return {name: weight / total for name, weight in sorted(given.items()) if name in buckets}


def _condensed(buckets: Mapping[str, Size], frozen: Mapping[str, float]) -> Condensed:
    return condense(tuple(buckets), _shares(buckets), _tokens(buckets), Frozen(FROZEN, frozen))


def _tokens(buckets: Mapping[str, Size]) -> Floats:
    return np.array([size.tokens for size in buckets.values()], np.float64)


def _shares(buckets: Mapping[str, Size]) -> Floats:
    tokens = _tokens(buckets)
    found: Floats = tokens / max(tokens.sum(), 1.0)
    return found


def _learning(config: SwarmConfig) -> dict[str, Any]:
    """What of the proxies' configuration changes their results."""
    proxy = config.proxy.resolved()
    learning = {name: value for name, value in proxy.learning().items() if value is not None and name not in ("seed",)}
    return learning | {
        "eval_tokens": proxy.eval_tokens, "eval_tasks": proxy.eval_tasks,
        "eval_tasks_questions": proxy.eval_tasks_questions,
    }  # fmt: skip
