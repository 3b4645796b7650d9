"""Shares of the buckets out of what the recipe says: the pool's own, weights, or weights of groups spread by quality."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from curate.mixtures.allocate import weigh
from curate.mixtures.buckets import ALL, UNKNOWN, bin_names
from curate.mixtures.config import MixConfig, Upsample
from curate.mixtures.upsample import spread
from curate.pipeline.errors import UsageError


def bucket_shares(
    config: MixConfig,
    names: Sequence[str],
    sizes: Sequence[int],
    weights: Mapping[str, float] | None,
    budget: int,
) -> tuple[list[Fraction], dict[str, Any]]:
    """(shares of the buckets `names`, exact and summing to 1; what `tokens.json` says of how they came about).

    `sizes`: tokens by bucket that may be drawn. Without `mix.upsample` the shares are `weights`, or the pool's. With it
    `weights` are of groups (`split_bucket`), or the pool's, and within a group `upsample.spread` decides; the second value
    then has `upsample` (a curve a group) and `notes` (sentences: groups that were capped, floors that were lowered). Raises
    UsageError where a weight names no bucket, a value of the column is no number, or the pool is too small.
    """
    if config.upsample is None:
        return weigh(names, sizes, weights), {}
    upsample = config.upsample
    split = [split_bucket(name, config.by, upsample.by) for name in names]
    groups = sorted({group for group, _ in split})
    values = sorted({value for _, value in split}, key=ranking(config, upsample.by))
    table = np.zeros((len(groups), len(values)), np.int64)
    row, column = ({name: number for number, name in enumerate(each)} for each in (groups, values))
    places = [(row[group], column[value]) for group, value in split]
    for place, size in zip(places, sizes, strict=True):
        table[place] = size
    found = spread(
        [float(share) for share in _group_shares(groups, table.sum(axis=1).tolist(), weights, names, upsample)],
        table,
        budget,
        max_repeats=config.max_repeats,
        most=upsample.most,
        a=upsample.floor,
        b=upsample.top,
        names=groups,
    )
    shares = [Fraction(float(found.shares[place])) for place in places]
    total = sum(shares)
    facts = {
        name: {"share": float(share), "curve": None if curve is None else curve.to_json()}
        for name, share, curve in zip(groups, found.groups, found.curves, strict=True)
    }
    said = {"by": upsample.by, "order": values, "groups": facts}
    return [share / total for share in shares], {"upsample": said, "notes": list(found.notes)}


def _group_shares(
    groups: Sequence[str],
    sizes: Sequence[int],
    weights: Mapping[str, float] | None,
    names: Sequence[str],
    upsample: Upsample,
) -> list[Fraction]:
    for name in weights or ():
        if name in names and name not in groups:
            raise UsageError(
                f"mix.weights names the bucket {name!r}, but mix.upsample spreads over {upsample.by} by itself: weigh the "
                f"buckets without that column ({', '.join(groups[:4])}{', …' if len(groups) > 4 else ''})"
            )
    return weigh(groups, sizes, weights)


def split_bucket(name: str, by: Sequence[str], column: str) -> tuple[str, str]:
    """(the bucket's name without this column of `by`, the column's value in it); `all` where no other column is left."""
    if len(by) == 1:
        return ALL, name
    values = name.split("/")
    value = values.pop(list(by).index(column))
    return "/".join(values), value


def ranking(config: MixConfig, column: str) -> Any:
    """A sorting key that puts the column's values from the worst to the best: by their number, those of `mix.bins` by their
    bin; unknown quality is the worst. Raises UsageError for a value that is no number."""
    bins = {name.replace("/", "|"): rank for rank, name in enumerate(bin_names(config.bins.get(column, [])))}

    def key(value: str) -> float:
        if value == UNKNOWN:
            return -math.inf
        if value in bins:
            return bins[value]
        try:
            return float(value)
        except ValueError:
            raise UsageError(
                f"mix.upsample.by: {column} has the value {value!r}, which is no number: name a column that orders documents "
                "by quality, or cut one with mix.bins"
            ) from None

    return key
