"""What a mixture is solved over: the domains, their natural shares, the tokens there are, an earlier mix that stays."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.mixtures.config import parse_budget
from curate.mixtures.domains import Counted, domain_tokens, tokens_of
from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.workspace import Workspace, redact

Floats = npt.NDArray[np.float64]
DESIGN = "design.json"


@dataclass(frozen=True, eq=False)
class Ground:
    """Domains in the order of the runs' columns; shapes: (domains,)."""

    domains: tuple[str, ...]
    prior: Floats
    """Natural shares, which sum to 1."""
    available: Floats
    """Tokens that may be drawn; infinite where nothing is known."""
    frozen: tuple[str, Mapping[str, float]] | None = None
    """The domain that is an earlier mix, and the shares of its domains within it."""
    by: tuple[str, ...] | None = None
    """The columns that make the domains, where a workspace made them."""
    table: Counted | None = None
    """The workspace's buckets, where they were counted."""
    notes: tuple[str, ...] = ()
    """What had to be assumed."""

    def expand(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Shares of the domains as such of real ones: the frozen mix is taken apart."""
        if self.frozen is None:
            return dict(weights)
        name, inside = self.frozen
        found = {domain: weight for domain, weight in weights.items() if domain != name}
        for domain, share in inside.items():
            found[domain] = found.get(domain, 0.0) + weights.get(name, 0.0) * share
        return found


def of_workspace(
    workspace: Workspace, swarm: Workspace, domains: Sequence[str], table: Counted | None
) -> Ground | None:
    """What the swarm's `design.json` says of its domains, with the tokens that the workspace has now; None without one.

    Raises CurateError where the file is no design, UsageError where its domains are not those of the runs.
    """
    data = swarm.read_json(DESIGN)
    if data is None:
        return None
    try:
        rows = {str(row["domain"]): row for row in data["domains"]}
        by = tuple(data["by"])
        frozen = data.get("frozen")
        inside = (
            None if frozen is None else (str(frozen["name"]), {str(k): float(v) for k, v in frozen["weights"].items()})
        )
        prior = {name: float(row["prior"]) for name, row in rows.items()}
        known = {name: float(row["available"]) for name, row in rows.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CurateError(f"{redact(swarm.url)}/{DESIGN} is no design of a swarm ({error!r})") from error
    for name in domains:
        if name not in rows:
            raise UsageError(
                f"the runs weigh {name!r}, which {redact(swarm.url)}/{DESIGN} does not have{nearest(name, tuple(rows))}"
            )
    notes = []
    if table is not None:
        known |= _counted_now(table, by, [name for name in domains if name in known], inside)
    else:
        notes.append(
            f"tokens as they were when the swarm was designed: `curate mix buckets -w {redact(workspace.url)}`"
        )
    return Ground(
        tuple(domains),
        _shares([prior[name] for name in domains]),
        np.array([known[name] for name in domains], np.float64),
        inside,
        by,
        table,
        tuple(notes),
    )


def _counted_now(
    table: Counted, by: Sequence[str], domains: Sequence[str], frozen: tuple[str, Mapping[str, float]] | None
) -> dict[str, float]:
    """Tokens by domain as counted last; a frozen mix has as many as its scarcest part allows."""
    tokens = domain_tokens(table, by)
    found = {name: float(tokens_of(tokens, name)) for name in domains if frozen is None or name != frozen[0]}
    if frozen is not None:
        name, inside = frozen
        found[name] = min(tokens_of(tokens, part) / share for part, share in inside.items() if share > 0)
    return found


def of_files(
    domains: Sequence[str], runs_mean: Floats, available: str | None, prior: str | None, table: Counted | None
) -> Ground:
    """For runs from elsewhere: tokens from a file or from a workspace's buckets, natural shares from a file or from these
    tokens; without either nothing is scarce, and the mean of the runs' mixtures stands for the natural one, which is said."""
    notes, buckets = [], None
    tokens = np.full(len(domains), np.inf)
    if available is not None:
        tokens = _aligned(read_amounts(available, "--available"), domains, "--available", available)
    elif table is not None:
        counted = {name: float(value) for name, value in domain_tokens(table).items()}
        missing = [name for name in domains if name not in counted]
        if not missing:
            tokens, buckets = np.array([counted[name] for name in domains]), table
        else:
            notes.append(
                f"the workspace has no bucket {missing[0]!r}{nearest(missing[0], tuple(counted))}: its tokens are not looked at"
            )
    if prior is not None:
        shares = _shares(_aligned(read_amounts(prior, "--prior"), domains, "--prior", prior))
    elif np.isfinite(tokens).all():
        shares = _shares(tokens)
    else:
        shares = _shares(runs_mean)
        notes.append("natural shares are not known: the mean of the runs' mixtures stands for them (--prior FILE)")
    if not np.isfinite(tokens).all():
        notes.append("tokens are not known: nothing is scarce (--available FILE)")
    by = buckets.by if buckets is not None else None
    return Ground(tuple(domains), shares, tokens, None, by, buckets, tuple(notes))


def _aligned(amounts: Mapping[str, float], domains: Sequence[str], option: str, path: str) -> Floats:
    for name in domains:
        if name not in amounts:
            raise UsageError(f"{option} {path} has no domain {name!r}{nearest(name, tuple(amounts))}")
    return np.array([amounts[name] for name in domains], np.float64)


def _shares(values: Sequence[float] | Floats) -> Floats:
    found = np.asarray(values, np.float64)
    if not found.sum() > 0:
        raise UsageError("no domain has a token: there is nothing to mix")
    shares: Floats = found / found.sum()
    return shares


def read_amounts(path: str, option: str) -> dict[str, float]:
    """Numbers by domain from CSV (`domain,number` a line, a first line of words is skipped) or from a JSON mapping.

    A number may be written as 10M or 1.5B. Raises UsageError, naming the line, for anything else.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: cannot read {path}: {error}") from None
    found: dict[str, float] = {}
    for place, name, value in _amount_rows(text, path, option):
        if name in found:
            raise UsageError(f"{option} {place}: {name!r} is given twice")
        found[name] = _amount(value, f"{option} {place}")
    return found


def _amount_rows(text: str, path: str, option: str) -> list[tuple[str, str, Any]]:
    if path.lower().endswith(".json"):
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{option}: {path} is not valid JSON: {error}") from None
        if not isinstance(data, dict):
            raise UsageError(f"{option}: {path} must be a mapping of domain to number")
        return [(path, str(name), value) for name, value in data.items()]
    rows = []
    for number, row in enumerate(csv.reader(StringIO(text)), 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2:
            raise UsageError(f"{option} {path}:{number}: a line is domain,number")
        if number == 1 and row[1].strip()[:1].isalpha():
            continue
        rows.append((f"{path}:{number}", row[0].strip(), row[1].strip()))
    return rows


def _amount(value: Any, place: str) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError):
        try:
            number = float(parse_budget(value))
        except ValueError:
            number = float("nan")
    if not (np.isfinite(number) and number >= 0):
        raise UsageError(f"{place}: {value!r} is not a number of at least 0")
    return number
