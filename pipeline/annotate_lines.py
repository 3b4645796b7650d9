"""What `curate annotate` says on the terminal: what a run will take, what it took, what came of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.classifiers.annotate import Annotation
    from curate.classifiers.annotate_pages import Pages

CHARACTERS_A_TOKEN = 4.0
"""For the estimate before a run; what is spent is counted by the server's own numbers."""
MOST_SHOWN = 30
"""Different labels whose numbers are shown, at most."""


def estimate(run: Annotation, source: Pages) -> str:
    """What the whole will take in tokens and money, roughly: before it begins."""
    head = run.prompt.head
    each = min(source.characters / max(source.count, 1), head.max_characters) + len(run.prompt.body)
    tokens_in = int(source.count * each / CHARACTERS_A_TOKEN)
    most_out = source.count * head.max_tokens
    cost = ""
    if run.budget.price_in or run.budget.price_out:
        least, most = (run.budget.money(tokens_in, out) for out in (0, most_out))
        cost = f", {least:,.2f} to {most:,.2f} by the prices given"
    held = f"; {len(run.journal):,} answers are there already" if len(run.journal) else ""
    return f"annotate: {source.count:,} pages, about {tokens_in:,} tokens in, at most {most_out:,} out{cost}{held}"


def spent(run: Annotation) -> dict[str, Any]:
    """Tokens of all answers in the journal, and their cost where prices are given."""
    tokens_in, tokens_out = run.journal.tokens_in, run.journal.tokens_out
    facts: dict[str, Any] = {"tokens_in": tokens_in, "tokens_out": tokens_out}
    if run.budget.price_in or run.budget.price_out:
        facts["cost"] = round(run.budget.money(tokens_in, tokens_out), 6)
    return facts


def spent_line(run: Annotation) -> str:
    """The same in words."""
    found = spent(run)
    cost = f", cost {found['cost']:,.4f}" if "cost" in found else ""
    return f"{found['tokens_in']:,} + {found['tokens_out']:,} tokens{cost}"


def summary_lines(run: Annotation, source: Pages, summary: Mapping[str, Any], path: Path) -> Iterator[str]:
    """How many pages have which label, and how many have none, and why."""
    yield f"{path}: {summary['labelled']:,} of {source.count:,} pages labelled; {spent_line(run)} in all"
    if 0 < len(summary["found"]) <= MOST_SHOWN:
        yield "  " + ", ".join(f"{name}: {count:,}" for name, count in summary["found"].items())
    for name, count in summary["problems"].items():
        reason = summary["reasons"].get(name)
        yield f"  without a label: {count:,} {name}" + (f" (the first: {reason})" if reason else "")
    yield from (f"  {line}" for line in source.tally.lines())


def next_step(run: Annotation, path: Path) -> str:
    """The command that learns from the labels."""
    kind = "--target regression --label score " if run.label == "score" else ""
    return f"next: curate classifier train linear --data {shlex.quote(str(path))} {kind}--output model.safetensors"
