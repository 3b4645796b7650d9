"""What the manifests say of each stage, what its ledger says, and whether the two agree."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from curate.pipeline.errors import CurateError
from curate.pipeline.ledger import Counts
from curate.pipeline.workspace import Workspace, redact
from curate.report.scan import LedgerTally, columns_of, read_ledger

STAGES = ("extract", "filter", "dedup", "classify")
"""The stages that a record passes, in order."""

EXAMPLES = 5
"""Dropped records shown for a reason."""
QUARANTINE_ROWS = 50
"""Quarantined records listed for a stage and reason."""


@dataclass
class StageFacts:
    """One stage: its shards as the manifest lists them, its counts, its ledger, every sum that does not agree."""

    name: str
    shards: list[dict[str, Any]]
    failed: list[dict[str, str]]
    counts: Counts
    ledger: LedgerTally = field(default_factory=LedgerTally)
    problems: list[str] = field(default_factory=list)
    behind: bool = False
    """Whether an earlier stage has run again since."""

    @property
    def docs(self) -> list[str]:
        return [shard["docs"]["path"] for shard in self.shards]

    @property
    def dropped(self) -> int:
        return sum(self.counts.dropped.values())

    @property
    def quarantined(self) -> int:
        return sum(self.counts.quarantined.values())


def read_stages(workspace: Workspace) -> list[StageFacts]:
    """The stages that are there, in order; their ledgers are not read yet. CurateError where there is none."""
    stages = []
    for name in STAGES:
        manifest = workspace.read_json(f"{name}/manifest.json")
        if manifest is not None:
            stages.append(_stage(name, manifest, workspace))
    if not stages:
        raise CurateError(
            f"nothing to report in {redact(workspace.url)}: no stage has run there; "
            f"start with `curate run all --workspace {redact(workspace.url)} --input …`"
        )
    return stages


def _stage(name: str, manifest: Any, workspace: Workspace) -> StageFacts:
    try:
        version = manifest["schema_version"]
        if version != 1:
            raise CurateError(
                f"{name}/manifest.json in {redact(workspace.url)} has schema version {version}; this version reads 1"
            )
        shards = sorted(manifest["shards"], key=lambda shard: str(shard["key"]))
        failed = sorted(manifest.get("failed", []), key=lambda shard: str(shard["key"]))
        facts = StageFacts(name, shards, failed, Counts.from_json(manifest["counts"]))
        summed = sum((Counts.from_json(shard["counts"]) for shard in shards), Counts())
        _ = [shard["docs"]["path"] + shard["ledger"]["path"] for shard in shards]
    except (KeyError, TypeError) as error:
        raise CurateError(
            f"{name}/manifest.json in {redact(workspace.url)} is not a manifest ({error!r}): run `curate run {name}` again"
        ) from error
    for part in ("records", "kept", "dropped", "quarantined"):
        if getattr(summed, part) != getattr(facts.counts, part):
            facts.problems.append(f"{part}: the shards' counts do not add up to the stage's")
    if not facts.counts.balanced():
        facts.problems.append(f"{facts.counts.records:,} records came in, {facts.counts.accounted:,} are accounted for")
    return facts


def check_between(stages: Sequence[StageFacts]) -> None:
    """Notes stages that are behind the one before (which ran again since), and sums between stages that do not agree."""
    for before, stage in pairwise(stages):
        above = {shard["key"]: shard for shard in before.shards}
        failed = {item["key"] for item in stage.failed}
        stage.behind = before.behind or bool(set(above) - failed - {shard["key"] for shard in stage.shards})
        for shard in stage.shards:
            source = above.get(shard["key"])
            read = shard.get("read", {}).get("docs")
            if source is None or (read is not None and read != source["docs"]["sha256"]):
                stage.behind = True
            elif source["counts"]["kept"] != shard["counts"]["records"]:
                stage.problems.append(
                    f"shard {shard['key']}: took in {shard['counts']['records']:,} records, "
                    f"{before.name} kept {source['counts']['kept']:,}"
                )


def read_ledgers(workspace: Workspace, stages: Sequence[StageFacts], seed: int = 0) -> None:
    """Reads every stage's ledger once, with its examples, and notes where it disagrees with the manifest."""
    for stage in stages:
        chosen = _examples(stage, seed)
        stage.ledger = read_ledger(
            workspace, [(shard["ledger"]["path"], chosen.get(shard["key"], {})) for shard in stage.shards]
        )
        for outcome, counted in (("dropped", stage.counts.dropped), ("quarantined", stage.counts.quarantined)):
            written = Counter({reason: n for (kind, reason), n in stage.ledger.outcomes.items() if kind == outcome})
            for reason in sorted(set(counted) | set(written)):
                if counted[reason] != written[reason]:
                    stage.problems.append(
                        f"{outcome} as {reason}: the ledger has {written[reason]:,} rows, the manifest says {counted[reason]:,}"
                    )
        _, rows = columns_of(workspace, stage.docs, lambda name: False)
        if rows != stage.counts.kept:
            stage.problems.append(f"kept: the documents have {rows:,} rows, the manifest says {stage.counts.kept:,}")


def _examples(stage: StageFacts, seed: int) -> dict[str, dict[tuple[str, str], frozenset[int]]]:
    """Which ledger rows of which shard to show: for each reason a few, drawn evenly by the seed from all of its rows."""
    chosen: dict[str, dict[tuple[str, str], frozenset[int]]] = defaultdict(dict)
    for outcome, counted, number in (
        ("dropped", stage.counts.dropped, EXAMPLES),
        ("quarantined", stage.counts.quarantined, QUARANTINE_ROWS),
    ):
        for reason, total in counted.items():
            draw = random.Random(f"{seed}/{stage.name}/{outcome}/{reason}")
            sizes = {shard["key"]: shard["counts"][outcome].get(reason, 0) for shard in stage.shards}
            for key, rows in spread(draw, sizes, min(number, total)).items():
                chosen[key][outcome, reason] = frozenset(rows)
    return chosen


def spread(draw: random.Random, sizes: Mapping[str, int], number: int) -> dict[str, list[int]]:
    """`number` different rows drawn from all, as row numbers within each of the parts of the given sizes."""
    total = sum(sizes.values())
    rows = sorted(draw.sample(range(total), min(number, total)))
    found: dict[str, list[int]] = {}
    first = 0
    for key, size in sizes.items():
        inside = [row - first for row in rows if first <= row < first + size]
        if inside:
            found[key] = inside
        first += size
    return found


def by_snapshot(stages: Sequence[StageFacts]) -> list[dict[str, Any]]:
    """A row a snapshot: shards, records that came in, records that each stage kept."""
    rows: dict[str, dict[str, Any]] = {}
    for index, stage in enumerate(stages):
        for shard in stage.shards:
            name = shard["key"].split("/", 1)[0]
            row = rows.setdefault(name, {"name": name, "shards": 0, "records": 0, "kept": Counter()})
            row["kept"][stage.name] += shard["counts"]["kept"]
            if index == 0:
                row["shards"] += 1
                row["records"] += shard["counts"]["records"]
    return [rows[name] for name in sorted(rows)]
