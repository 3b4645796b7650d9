"""What the mix did to each bucket: for the command line's table and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curate.mixtures.stage import SUMMARY
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace, redact


@dataclass(frozen=True)
class Bucket:
    """One bucket before and after. Shares are fractions of all tokens, `repeats` the copies of an average token of it."""

    name: str
    natural_tokens: int
    natural_share: float
    weight: float
    """The share asked for."""
    tokens: int
    share: float
    repeats: float
    most_repeats: int
    """Copies of the document that is in the mix most often."""
    natural_documents: int
    documents: int
    """Different documents in the mix."""
    at_cap: bool
    """Every document is in as often as `max_repeats` allows."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain(workspace: Workspace) -> list[Bucket]:
    """The buckets of a finished mix, the largest of the mix first; UsageError where there is no mix."""
    summary = workspace.read_json(SUMMARY)
    if summary is None:
        raise UsageError(f"{redact(workspace.url)} has no {SUMMARY}: run `curate mix` first")
    found = [_bucket(name, values) for name, values in summary["buckets"].items()]
    return sorted(found, key=lambda bucket: (-bucket.tokens, -bucket.natural_tokens, bucket.name))


def _bucket(name: str, values: Mapping[str, Any]) -> Bucket:
    natural = values["pool_tokens"]
    return Bucket(
        name=name,
        natural_tokens=natural,
        natural_share=values["pool_share"],
        weight=values["weight"],
        tokens=values["tokens"],
        share=values["share"],
        repeats=values["tokens"] / natural if natural else 0.0,
        most_repeats=values["most_repeats"],
        natural_documents=values["pool_documents"],
        documents=values["documents"],
        at_cap=values["at_cap"],
    )


def explain_lines(workspace: Workspace, most: int = 20) -> list[str]:
    """A table for a terminal, a line a bucket, and a line on how the mix ends."""
    buckets = explain(workspace)
    shown = buckets[:most]
    width = max([len("bucket"), *(min(len(bucket.name), 40) for bucket in shown)])
    lines = [f"{'bucket':<{width}}  {'in the pool':>24}  {'in the mix':>24}  repeats"]
    for bucket in shown:
        before = f"{bucket.natural_tokens:,} {bucket.natural_share:7.2%}"
        after = f"{bucket.tokens:,} {bucket.share:7.2%}"
        cap = "  (at the cap)" if bucket.at_cap else ""
        lines.append(f"{_printable(bucket.name):<{width}}  {before:>24}  {after:>24}  {bucket.repeats:7.2f}{cap}")
    if len(buckets) > most:
        lines.append(f"and {len(buckets) - most} more buckets")
    summary = workspace.read_json(SUMMARY)
    cut = summary.get("cut_document")
    if cut:
        lines.append(
            f"the last document is cut at the budget: {cut['tokens']:,} of {cut['whole']:,} tokens of {_printable(cut['id'])}"
        )
    return lines


def _printable(name: str) -> str:
    """Bucket names and ids come from pages: control characters never reach a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:40]
