"""Whether a mix has exactly the tokens that were asked for, and its buckets their shares; and what a pool too small says.

    python bench/mix_budget.py                            # about a minute of one core

Two ways. Allocated: pools of 1k to 200M tokens (few or many buckets, short or long documents, with and without weights and
upsampling), budgets from 1k tokens to the whole pool times the cap, evenly spread in their logarithm and at the edges:
tokens drawn, the most copies of a document, and at 100M tokens and more the largest difference of a bucket's share from the
one asked for. Materialised: a smaller pool written out for some budgets by the steps of the stage, the bytes of the files
counted. Written to bench/results/mix_budget.json; exit status 1 if a budget is missed, or a share by more than .1 % of it.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import argparse
import io
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mix_pools import SEED, Lengths, topics, write_pool

from curate.mixtures.allocate import Pool, draw, targets
from curate.mixtures.config import MixConfig, Upsample
from curate.mixtures.shares import bucket_shares
from curate.mixtures.stage import POOL
from curate.pipeline.engines import Engine, open_engine
from curate.pipeline.errors import UsageError
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import open_runner
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenSet

RESULTS = Path(__file__).parent / "results" / "mix_budget.json"
SHARE = 1e-3
LARGE = 100_000_000
LEAST = 1_000


@dataclass(frozen=True)
class Case:
    """A pool and what is asked of it."""

    name: str
    documents: int
    kinds: int
    lengths: Lengths
    max_repeats: int = 4
    weights: bool = False
    """Shares drawn at random instead of the pool's."""
    ranks: int = 1
    """More than one: `mix.upsample` over so many ranks of quality."""


CASES = (
    Case("1k tokens", 12, 3, Lengths(90, 0.8, 400)),
    Case("2M, 480 buckets", 2_000, 24, Lengths(), 4, ranks=20),
    Case("20M, long documents", 1_500, 5, Lengths(5_000, 1.6, 1_000_000), 7),
    Case("110M, one bucket", 120_000, 1, Lengths()),
    Case("110M, topics", 120_000, 24, Lengths(), 4),
    Case("110M, 480 buckets, weights", 120_000, 480, Lengths(), 4, weights=True),
    Case("110M, upsampled", 120_000, 24, Lengths(), 7, ranks=20),
    Case("200M, weights, upsampled", 220_000, 24, Lengths(), 7, weights=True, ranks=20),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, default=14, help="budgets a pool, beside those at the edges")
    options = parser.parse_args()
    started = time.perf_counter()
    allocated = []
    for case in CASES:
        allocated.append(_allocated(case, options.budgets))
        print(json.dumps(allocated[-1]), flush=True)
    materialised = _materialised()
    print(json.dumps(materialised), flush=True)
    missed = [case for case in allocated if case["missed"]] + [case for case in materialised if not case["exact"]]
    worst = max((case["largest_share_error"] or 0 for case in allocated), default=0)
    result = {
        "seconds": round(time.perf_counter() - started, 1),
        "budgets": sum(case["budgets"] for case in allocated) + len(materialised),
        "exact": not missed,
        "largest_share_error_at_100M": worst,
        "bar": {"exact": True, "largest_share_error_at_100M": SHARE},
        "allocated": allocated,
        "materialised": materialised,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['budgets']} budgets, {len(missed)} pools missed one; shares within {worst:.2e} of the budget")
    raise SystemExit(bool(missed) or worst > SHARE)


def _pool(case: Case) -> Pool:
    random = np.random.default_rng(SEED)
    tokens = case.lengths.draw(random, case.documents)
    bucket = topics(random, case.documents, case.kinds) * case.ranks + random.integers(0, case.ranks, case.documents)
    names = [f"topic-{number // case.ranks:03d}/{number % case.ranks:02d}" for number in range(case.kinds * case.ranks)]
    key = random.integers(0, 2**64, case.documents, dtype=np.uint64)
    return Pool(tokens, bucket.astype(np.int32), key, tuple(names))


def _allocated(case: Case, count: int) -> dict[str, Any]:
    pool = _pool(case)
    sizes = pool.sizes()
    upsample = Upsample(by="quality", most=case.max_repeats) if case.ranks > 1 else None
    config = MixConfig(by=["topic", "quality"], upsample=upsample, max_repeats=case.max_repeats)
    weights = _weights(case, pool, sizes) if case.weights else None
    most = _largest(config, pool, sizes, weights)
    budgets = {int(value) for value in np.geomspace(min(LEAST, most), most, count)} | {most, most - 1, sum(sizes)}
    budgets |= {LARGE} if most > LARGE else set()
    missed, errors, seconds = [], [0.0], 0.0
    for budget in sorted(value for value in budgets if 0 < value <= most):
        began = time.perf_counter()
        shares, _ = bucket_shares(config, pool.names, sizes, weights, budget)
        repeats, cut = draw(pool, targets(pool.names, sizes, shares, budget, case.max_repeats))
        seconds = max(seconds, time.perf_counter() - began)
        taken = np.array(pool.sums(pool.tokens * repeats.astype(np.int64)))
        if cut is not None:
            taken[pool.bucket[cut.document]] -= int(pool.tokens[cut.document]) - cut.tokens
        if taken.sum() != budget or repeats.max() > case.max_repeats:
            missed.append(budget)
        if budget >= LARGE:
            errors.append(float(np.abs(taken / budget - np.array([float(share) for share in shares])).max()))
    return {
        "pool": case.name,
        "tokens": sum(sizes),
        "buckets": len(sizes),
        "largest_budget": most,
        "budgets": len(budgets),
        "missed": missed,
        "largest_share_error": max(errors) if most >= LARGE else None,
        "slowest_seconds": round(seconds, 2),
        "one_more": _refused(config, pool, sizes, weights, most + 1 + most // 1000),
    }


def _weights(case: Case, pool: Pool, sizes: list[int]) -> dict[str, float]:
    """The pool's shares of the topics, each times or divided by up to three."""
    random = np.random.default_rng(SEED + 1)
    totals: dict[str, float] = {}
    for name, size in zip(pool.names, sizes, strict=True):
        label = name.split("/")[0] if case.ranks > 1 else name
        totals[label] = totals.get(label, 0) + size
    return {name: total * float(np.exp(random.uniform(-1, 1))) for name, total in totals.items()}


def _largest(config: MixConfig, pool: Pool, sizes: list[int], weights: dict[str, float] | None) -> int:
    """The largest budget that is possible: with the pool's shares all of it times the cap, else found by halving."""
    low, high = 1, config.max_repeats * sum(sizes)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _refused(config, pool, sizes, weights, middle) is None else (low, middle - 1)
    return low


def _refused(
    config: MixConfig, pool: Pool, sizes: list[int], weights: dict[str, float] | None, budget: int
) -> str | None:
    """What is said of a budget that is too large."""
    try:
        shares, _ = bucket_shares(config, pool.names, sizes, weights, budget)
        targets(pool.names, sizes, shares, budget, config.max_repeats)
    except UsageError as error:
        return str(error)
    return None


def _materialised() -> list[dict[str, Any]]:
    """Budgets written out and counted in the files."""
    found = []

    def engine() -> Engine:
        return open_engine("local", workers=1, address=None, tasks_per_worker=1000)

    with tempfile.TemporaryDirectory() as folder:
        shards = write_pool(Path(folder) / "pool", 4_000, 4)
        place = Workspace(Path(folder) / "mix")
        for budget in (1_000, 31_623, 1_000_000, None, 12_345_678):
            config = MixConfig(budget=budget, by=["topic", "quality_vigintile"], shard_tokens=2_000_000)
            recipe = Recipe(RecipeHead(seed=SEED), {"mix": config})
            with open_runner(place, recipe, engine, open_display(as_json=True, stream=io.StringIO())) as runner:
                runner.run(POOL, shards)
            facts = TokenSet(place)
            size = sum(Path(place.path(f"mix/{shard.name}.bin")).stat().st_size for shard in facts.shards)
            asked = budget or place.read_json("mix/buckets.json")["tokens"]
            found.append({"budget": budget, "tokens": size // 2, "exact": size == 2 * asked})
    return found


if __name__ == "__main__":
    main()
