"""What the mix did to each bucket, and what the solution said of it: for the command line's tables and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from curate.mixtures.domains import counted, domain_names
from curate.mixtures.stage import SUMMARY
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.progress import number_of
from curate.pipeline.tables import grid, printable
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
    rows = [
        [
            bucket.name,
            f"{bucket.natural_tokens:,} {bucket.natural_share:7.2%}",
            f"{bucket.tokens:,} {bucket.share:7.2%}",
            f"{bucket.repeats:.2f}",
            "(at the cap)" if bucket.at_cap else "",
        ]
        for bucket in buckets[:most]
    ]
    lines = grid(("bucket", "in the pool", "in the mix", "repeats", ""), rows, left=(0, 4))
    if len(buckets) > most:
        lines.append(f"and {number_of(len(buckets) - most, 'more bucket')}")
    summary = workspace.read_json(SUMMARY)
    notes = [printable(note) for note in summary.get("notes", [])]
    return [*lines, *notes, *_cut_lines(summary.get("cut_document"))]


@dataclass(frozen=True)
class Part:
    """One domain from the pool to the mix; None where a step has not been made. Shares are fractions of all tokens."""

    name: str
    natural: float | None
    solved: float | None
    share: float | None
    """In the mix."""
    repeats: float | None
    """Copies of an average token of it, in the mix."""
    binding: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explained:
    """A mix, a solution, or both; `solution` is what `solution.json` holds, `cut` the document that ends the mix."""

    parts: tuple[Part, ...]
    solution: Mapping[str, Any] | None
    tokens: int | None
    """Of the mix."""
    cut: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def explain_all(workspace: Workspace, swarm: str = "swarm") -> Explained:
    """The mix by domain beside what was solved for it, the largest of the mix first.

    Raises UsageError where there is neither a mix nor a solution, CurateError where one of the files is none.
    """
    summary, solution = workspace.read_json(SUMMARY), workspace.read_json(f"{swarm}/solution.json")
    if summary is None and solution is None:
        raise UsageError(
            f"{redact(workspace.url)} has neither a mix nor a solution: run `curate mix --budget 10M`, or `curate mix solve`"
        )
    try:
        solved = None if solution is None else _solved(solution)
        mixed = None if summary is None else _mixed(workspace, summary, solved)
        return Explained(
            _parts(solved, mixed),
            solution,
            None if summary is None else sum(row["tokens"] for row in summary["buckets"].values()),
            None if summary is None else summary.get("cut_document"),
            (*_doubts(solution, summary, solved, mixed), *((summary or {}).get("notes") or ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(
            f"{SUMMARY} or {swarm}/solution.json in {redact(workspace.url)} is not what it should be ({error!r}): run the "
            "command that writes it again"
        ) from error


@dataclass(frozen=True)
class _Solved:
    natural: float
    share: float
    binding: tuple[str, ...]


def _solved(solution: Mapping[str, Any]) -> dict[str, _Solved]:
    """Natural and solved shares by domain; a frozen mix is taken apart."""
    frozen = solution["frozen"]
    found: dict[str, _Solved] = {}
    for name, row in solution["domains"].items():
        inside = frozen["weights"] if frozen is not None and name == frozen["name"] else {name: 1.0}
        for domain, part in inside.items():
            found[domain] = _Solved(row["natural"] * part, row["solved"] * part, tuple(row["binding"]))
    return found


def _mixed(
    workspace: Workspace, summary: Mapping[str, Any], solved: Mapping[str, _Solved] | None
) -> dict[str, tuple[int, int]]:
    """(tokens of the pool, of the mix) by domain: buckets are summed to the domains of the solution where they are finer."""
    names = list(summary["buckets"])
    domains = names
    if solved is not None and not set(solved) <= set(names):
        table = counted(workspace)
        for by in _shorter(table.by) if table is not None else ():
            try:
                candidate = domain_names(names, table.by if table is not None else by, by)
            except CurateError:
                break
            if set(solved) <= set(candidate):
                domains = candidate
                break
    found: dict[str, tuple[int, int]] = {}
    for name, domain in zip(names, domains, strict=True):
        pool, mix = found.get(domain, (0, 0))
        row = summary["buckets"][name]
        found[domain] = (pool + row["pool_tokens"], mix + row["tokens"])
    return found


def _shorter(by: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All choices of the columns, in their order, the larger ones first."""
    return [
        tuple(by[place] for place in places)
        for size in range(len(by), 0, -1)
        for places in combinations(range(len(by)), size)
    ]


def _parts(solved: Mapping[str, _Solved] | None, mixed: Mapping[str, tuple[int, int]] | None) -> tuple[Part, ...]:
    pool, whole = (sum(row[place] for row in (mixed or {}).values()) for place in (0, 1))
    found = []
    for name in {**(solved or {}), **(mixed or {})}:
        answer = (solved or {}).get(name)
        have, taken = (mixed or {}).get(name, (0, 0))
        found.append(
            Part(
                name,
                natural=have / pool if mixed is not None and pool else answer.natural if answer else None,
                solved=None if solved is None else answer.share if answer else 0.0,
                share=None if mixed is None else taken / whole if whole else 0.0,
                repeats=None if mixed is None else taken / have if have else 0.0,
                binding=answer.binding if answer else (),
            )
        )
    return tuple(sorted(found, key=lambda part: (-(part.share or 0.0), -(part.solved or 0.0), part.name)))


_CLOSE = 0.002
"""Shares of the mix within this of the solved ones are those: documents are whole."""


def _doubts(
    solution: Mapping[str, Any] | None,
    summary: Mapping[str, Any] | None,
    solved: Mapping[str, _Solved] | None,
    mixed: Mapping[str, tuple[int, int]] | None,
) -> tuple[str, ...]:
    """Where the mix is not the solution's."""
    if solution is None or summary is None or solved is None or mixed is None:
        return ()
    notes = []
    tokens = sum(row[1] for row in mixed.values()) or 1
    apart = [
        name
        for name in {**solved, **mixed}
        if abs(mixed.get(name, (0, 0))[1] / tokens - (solved[name].share if name in solved else 0.0)) > _CLOSE
    ]
    if apart:
        notes.append(
            f"the mix is not of the solved weights: {len(apart)} shares differ (`curate mix --weights …/weights.json`)"
        )
    if solution["budget"] is not None and solution["budget"] != summary["budget"]:
        notes.append(f"solved for {solution['budget']:,} tokens, the mix has {summary['budget']:,}")
    return tuple(notes)


def part_lines(found: Explained, most: int = 40) -> list[str]:
    """The table domain, natural, solved, in the mix, repeats, what binds; then the gains, the doubts and the cut document."""
    from curate.mixtures.solution_lines import BINDING, gain_lines

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            part.name,
            cell(part.natural, ".2%"),
            cell(part.solved, ".2%"),
            cell(part.share, ".2%"),
            cell(part.repeats, ".2f"),
            ", ".join(BINDING.get(item, item) for item in part.binding),
        ]
        for part in found.parts[:most]
    ]
    lines = grid(("domain", "natural", "solved", "in the mix", "repeats", ""), rows, left=(0, 5))
    if len(found.parts) > most:
        lines.append(f"and {len(found.parts) - most} more")
    if found.solution is not None:
        lines += ["", *gain_lines(found.solution)]
    lines += [f"note: {printable(note)}" for note in found.notes]
    return lines + _cut_lines(found.cut)


def _cut_lines(cut: Mapping[str, Any] | None) -> list[str]:
    if not cut:
        return []
    name = printable(cut["id"])
    return [f"the last document is cut at the budget: {cut['tokens']:,} of {cut['whole']:,} tokens of {name}"]
