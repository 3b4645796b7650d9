"""What dedup says to a person: what its parameters find, how many clusters there are, which of them look wrong. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.pipeline.errors import CurateError
from curate.pipeline.progress import number_of
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import DedupConfig

Report = Mapping[str, Any]
"""`dedup/steps/report/<scope>.json`, as `reporting.write_report` writes it."""

LARGE_PAGES, LARGE_SHARE = 1000, 0.01
"""A cluster of so many pages, and of more than this share of its scope, is looked at."""
UNLIKE = 0.5
"""It is reported where a page of it is less similar to the one kept. 14 x 8 finds one pair in twenty at this similarity: such a
page belongs to the cluster through others."""


def opening(config: DedupConfig) -> Iterator[str]:
    """What the parameters find, before any work."""
    minhash = config.minhash
    if not minhash.enabled:
        yield (
            "copies of the same normalised text only"
            if config.exact
            else "neither exact nor near copies are looked for"
        )
        return
    chosen = f"threshold {minhash.threshold:g} chooses " if minhash.threshold is not None else ""
    yield chosen + minhash.curve_text()
    if config.verify:
        by = "the share of equal values" if config.verify == "signature" else "the shingles themselves"
        yield f"links are verified by {by}: taken at a similarity of {config.verified_from:.3g} or more"


def reports(workspace: Workspace, everywhere: bool) -> list[Report]:
    """The figures of each scope of the last run, sorted by name; none where dedup has not come to its end."""
    from curate.pipeline.markers import read_manifest

    manifest = read_manifest(workspace, "dedup")
    if manifest is None or manifest.get("finished") is False:
        return []
    snapshots = {str(entry["key"]).split("/", 1)[0] for entry in manifest["shards"]}
    names = ["global"] if everywhere else sorted(snapshots)
    found = (_read(workspace, f"dedup/steps/report/{name}.json") for name in names)
    return [report for report in found if isinstance(report, dict) and report.get("schema_version") == 1]


def _read(workspace: Workspace, name: str) -> Any:
    try:
        return workspace.read_json(name)
    except CurateError:  # it was damaged: a report is not worth a run
        return None


def cluster_line(found: Sequence[Report]) -> str:
    """How many clusters there are in all scopes, in few words."""
    clusters, pages = (sum(report[name] for report in found) for name in ("clusters", "clustered"))
    if not clusters:
        return "no clusters"
    largest = max((item["size"] for report in found for item in report["largest"]), default=0)
    line = f"{number_of(clusters, 'cluster')} of {pages:,} pages, the largest of {largest:,}"
    too_large, alone = (
        sum((report.get("verification") or {}).get(name, 0) for report in found)
        for name in ("too_large", "left_alone_texts")
    )
    if too_large:
        line += (
            f"; {too_large:,} larger than max_cluster taken apart, {number_of(alone, 'text')} of them not linked at all"
        )
    return line


def statement(workspace: Workspace) -> list[str]:
    """What `curate status` says of dedup: its clusters, and what looks wrong, by the scope that the recipe names."""
    import yaml

    try:
        with workspace.open("recipe.yaml") as stream:
            recipe = yaml.safe_load(stream.read())
    except (FileNotFoundError, yaml.YAMLError):
        return []
    section = (recipe.get("dedup") if isinstance(recipe, dict) else None) or {}
    found = reports(workspace, section.get("scope", "snapshot") != "snapshot")
    return [cluster_line(found), *(f"warning: {line}" for line in warnings(found))] if found else []


def suspicious(report: Report) -> list[Mapping[str, Any]]:
    """The clusters of a scope that chaining may have made: large, with pages that are unlike the one kept."""
    least = max(LARGE_PAGES, LARGE_SHARE * report["documents"])
    return [
        item
        for item in report["largest"]
        if item["size"] >= least and item["least_similarity"] is not None and item["least_similarity"] < UNLIKE
    ]


def warnings(found: Sequence[Report]) -> Iterator[str]:
    """A line for each scope with clusters that look wrong, and what to do."""
    from curate.pipeline.tables import printable

    for report in found:
        clusters = suspicious(report)
        if clusters:
            first, more = clusters[0], len(clusters) - 1
            also = f", and {number_of(more, 'cluster')} more like it" if more else ""
            yield (
                f"{first['size']:,} of {report['documents']:,} pages of {_place(report)} are one cluster, with pages as "
                f"unlike the one kept as {first['least_similarity']:.2f} ({printable(first['kept_id'])}){also}: "
                f"pages linked through others? {_advice(report.get('verification') or {})}"
            )


def _place(report: Report) -> str:
    return "all snapshots" if report["scope"] == "global" else str(report["scope"])


def _advice(verification: Mapping[str, Any]) -> str:
    """What is not in use yet."""
    if verification.get("by") is None:
        return "`--set dedup.verify=jaccard` links only what is alike enough"
    if verification.get("max_cluster") is None:
        return "`--set dedup.max_cluster=1000` takes clusters of more texts apart"
    return "a higher dedup.verify_threshold, or a lower dedup.max_cluster, takes more of them apart"


def closing(workspace: Workspace, config: DedupConfig) -> Iterator[str]:
    """What a run is warned of when dedup is done."""
    for line in warnings(reports(workspace, config.everywhere)):
        yield f"dedup: {line}"
