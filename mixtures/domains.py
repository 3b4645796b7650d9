"""Domains: the buckets that a swarm weighs, made of the finer buckets that `curate mix buckets` counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.workspace import Workspace, redact

BUCKETS = "mix/buckets.json"


@dataclass(frozen=True)
class Size:
    """What of a bucket may be drawn (documents, tokens, UTF-8 bytes of text), and the tokens held out of training."""

    documents: int
    tokens: int
    bytes: int
    held_out: int


@dataclass(frozen=True)
class Counted:
    """The table of `mix/buckets.json`: columns that make the buckets (`by`), and what each bucket holds."""

    by: tuple[str, ...]
    buckets: Mapping[str, Size]


def counted(workspace: Workspace) -> Counted | None:
    """The buckets of a workspace as they were counted last; None where they were not.

    Raises CurateError where the file is no such table.
    """
    data = workspace.read_json(BUCKETS)
    if data is None:
        return None
    try:
        return Counted(tuple(data["by"]), {str(name): _size(row) for name, row in data["buckets"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(
            f"{BUCKETS} in {redact(workspace.url)} is no table of buckets ({error!r}): run `curate mix buckets` again"
        ) from error


def _size(row: Mapping[str, Any]) -> Size:
    return Size(int(row["documents"]), int(row["tokens"]), int(row["bytes"]), int(row["held_out_tokens"]))


def domain_names(buckets: Sequence[str], columns: Sequence[str], by: Sequence[str]) -> list[str]:
    """The domain of each bucket: of its values of `columns`, those of `by`, joined in that order.

    Raises UsageError for a column that made no buckets.
    """
    for name in by:
        if name not in columns:
            raise UsageError(f"{name!r} did not make the buckets{nearest(name, tuple(columns))}: add it to mix.by")
    if tuple(by) == tuple(columns):
        return list(buckets)
    places = [list(columns).index(name) for name in by]
    found = []
    for bucket in buckets:
        values = bucket.split("/") if len(columns) > 1 else [bucket]
        if len(values) != len(columns):
            raise CurateError(f"bucket {bucket!r} has not one value for each of {', '.join(columns)}")
        found.append("/".join(values[place] for place in places) or "all")
    return found


def domain_tokens(table: Counted, by: Sequence[str] | None = None) -> dict[str, int]:
    """Tokens that may be drawn, by domain; every bucket is one where `by` is None."""
    names = list(table.buckets)
    domains = names if by is None else domain_names(names, table.by, by)
    tokens: dict[str, int] = {}
    for name, domain in zip(names, domains, strict=True):
        tokens[domain] = tokens.get(domain, 0) + table.buckets[name].tokens
    return tokens


def tokens_of(tokens: Mapping[str, int], domain: str) -> int:
    """Tokens of a domain; 0 where there is none. A `/` within a value is a `|` where the buckets are of several columns."""
    return tokens.get(domain, tokens.get(domain.replace("/", "|"), 0))


def spread(
    weights: Mapping[str, float], table: Counted, by: Sequence[str], without: str | None = None
) -> dict[str, float]:
    """Weights of domains as weights of the mix's buckets: within a domain as in the pool.

    `without` is the column that an upsampling curve weighs: buckets that differ in it only are one. Raises UsageError for a
    weight of a domain that the pool does not have.
    """
    kept = [name for name in table.by if name != without]
    coarse = domain_tokens(table, kept)
    domains = dict(zip(coarse, domain_names(list(coarse), kept, by), strict=True))
    sums: dict[str, int] = {}
    for bucket, domain in domains.items():
        sums[domain] = sums.get(domain, 0) + coarse[bucket]
    for name, weight in weights.items():
        if weight > 0 and not tokens_of(sums, name):
            raise UsageError(f"the pool has no tokens of {name!r}{nearest(name, tuple(sums))}")
    weights = {name if name in sums else name.replace("/", "|"): weight for name, weight in weights.items()}
    return {
        bucket: weights[domain] * coarse[bucket] / sums[domain]
        for bucket, domain in domains.items()
        if weights.get(domain, 0.0) > 0
    }
