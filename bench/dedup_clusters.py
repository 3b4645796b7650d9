"""Clusters: what verification loses, union-find from disk over 10M and 100M pages, and rounds over files for 10M.

    python bench/dedup_clusters.py                                    # writes bench/results/dedup_clusters.json
    python bench/dedup_clusters.py --only scale --pages 1000000 10000000

Links are made, three a page, and lie on disk as the step `edges` leaves them: by the larger page, or shuffled, which is
harder. Each task runs by itself in a process of its own, which says its seconds, its CPU seconds and the most memory that it
held. Every page's cluster is compared with the one planted. `blocks`: a fifth of the pages at a time, and links in files.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from extract import about
from rich.console import Console
from rich.table import Table

from curate.pipeline.stage import Context, Done, File, Planning, Task, load
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import ComponentsConfig, DedupConfig
from curate.stages.dedup.linking import EDGES, EDGES_AS
from curate.stages.partitions import PartWriter

RESULTS = Path(__file__).parent / "results" / "dedup_clusters.json"
PAGES_A_SHARD = 50_000
LINKS_A_PAGE = 3
THRESHOLDS = (0.72, 0.8)
PARTS = ("loss", "scale", "blocks")
MOST = 10_000
"""Representatives: more than any bucket here has pages."""


def loss(threshold: float, seed: int) -> dict[str, Any]:
    """Pages removed by verified linking, by representatives a bucket, against all pairs of each bucket compared.

    1,000 clusters of 2 to 50 pages: each page of a cluster has 500 shingles, a share of them from the cluster's own 500 such
    that two pages have an expected similarity of threshold - .03 … threshold + .07.
    """
    from curate.stages.dedup.minhash import band_keys, sign_hashes, sketch
    from curate.stages.dedup.verify import Pages, linked

    rng = np.random.default_rng(seed)
    sets, cluster = [], []
    for number in range(1000):
        aim = rng.uniform(threshold - 0.03, threshold + 0.07)
        share = np.sqrt(2 * aim / (1 + aim))  # two pages share (share^2) of their shingles
        own = rng.integers(0, 2**64, 500, dtype=np.uint64)
        for _ in range(rng.integers(2, 51)):
            other = rng.integers(0, 2**64, 500, dtype=np.uint64)
            sets.append(np.sort(np.where(rng.random(500) < share, own, other)))
            cluster.append(number)
    offsets = np.arange(len(sets) + 1) * 500
    hashes = np.concatenate(sets)
    signed = sign_hashes(hashes, offsets, 112, 1)
    keys = band_keys(signed, 14, 8)
    shingles = np.concatenate([np.sort((one >> np.uint64(32)).astype(np.uint32)) for one in sets])
    pages = {
        "jaccard": Pages(keys, None, shingles, np.column_stack([offsets[:-1], offsets[1:]]), np.full(len(sets), 4096)),
        "signature": Pages(keys, sketch(signed)),
    }
    every = _all_pairs(np.array(cluster), keys, hashes, offsets, threshold)
    found: dict[str, Any] = {
        "pages": len(sets),
        "threshold": threshold,
        "removed, not verified": _removed(linked(pages["jaccard"], 0.0, 1)),
        "removed, all pairs of a bucket compared": every,
    }
    for name, given in pages.items():
        removed = {most: _removed(linked(given, threshold, most)) for most in (1, 2, 4, 8, 16, MOST)}
        found[f"lost by {name}, by representatives"] = {most: round(1 - n / every, 5) for most, n in removed.items()}
    return found


def _all_pairs(cluster: Any, keys: Any, hashes: Any, offsets: Any, threshold: float) -> int:
    """Pages removed where every two pages that share a key are compared."""
    from curate.stages.dedup.clusters import Clusters
    from curate.stages.dedup.similarity import ShingleSets, jaccard

    starts = np.flatnonzero(np.diff(cluster, prepend=-1))
    pairs = []
    for start, size in zip(starts, np.diff(np.append(starts, len(cluster))), strict=True):
        one, other = np.triu_indices(size, 1)
        shared = (keys[start + one] == keys[start + other]).any(axis=1)
        pairs.append(np.column_stack([start + one[shared], start + other[shared]]))
    one, other = np.concatenate(pairs).T
    sets = ShingleSets(hashes, offsets)
    alike = jaccard(sets, one, sets, other) >= threshold
    clusters = Clusters(len(cluster))
    clusters.join(one[alike], other[alike])
    return _removed(clusters.labels())


def _removed(labels: Any) -> int:
    return int((labels != np.arange(len(labels))).sum())


@dataclass(frozen=True)
class Graph:
    """Clusters whose answer is known. Pages lie in a random order: place i holds `page[i]`; a cluster is the places from
    `first[i]` on. `labels`: by page, the smallest page of its cluster."""

    page: Any
    first: Any
    labels: Any


def planted(pages: int, seed: int = 0) -> Graph:
    """Clusters of sizes by Zipf's law (exponent 2): six in ten are one page alone; two have a hundredth of all pages each."""
    rng = np.random.default_rng(seed)
    most = max(2, pages // 100)
    sizes, total = [np.array([most, most])], 2 * most
    while total < pages:
        some = np.minimum(rng.zipf(2.0, 1_000_000), most)
        sizes.append(some)
        total += int(some.sum())
    starts = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    starts = np.append(starts[starts < pages], pages)
    first = np.repeat(starts[:-1].astype(np.int32), np.diff(starts))
    page = rng.permutation(np.arange(pages, dtype=np.int32))
    labels = np.empty(pages, np.int32)
    labels[page] = np.repeat(np.minimum.reduceat(page, starts[:-1]), np.diff(starts))
    return Graph(page, first, labels)


def some_links(graph: Graph, links: int, number: int, files: int) -> Any:
    """The links of a file, smaller page first: one for each page that is not its cluster's first place, spread over the
    files at random, and others drawn from the clusters until there are as many as asked.

    A quarter of the clusters are paths, each page linked to the one before: the largest is. Of the others half of the links
    lead to the first place, half to any place before. Shape (links, 2).
    """
    pages = len(graph.page)
    rng = np.random.default_rng([1, number])
    wanted = links * (number + 1) // files - links * number // files
    step = int(pages * 0.6180339887) | 1  # a walk over all places that never comes near where it was
    while math.gcd(step, pages) > 1:
        step += 2
    places = np.arange(pages * number // files, pages * (number + 1) // files) * step % pages
    places = places[places != graph.first[places]]
    assert len(places) <= wanted, "fewer links than pages with copies"
    drawn = [places]
    while (missing := wanted - sum(map(len, drawn))) > 0:
        more = rng.integers(0, pages, missing + missing // 4)
        drawn.append(more[more != graph.first[more]][:missing])
    at = np.concatenate(drawn)
    first = graph.first[at].astype(np.int64)
    before = first + (rng.random(len(at)) * (at - first)).astype(np.int64)
    star = rng.random(len(at)) < 0.5
    star[: len(places)] = False  # with them alone a cluster hangs together
    other = np.where(first % 4 == 0, at - 1, np.where(star, first, before))
    pairs = np.sort(np.column_stack([graph.page[at], graph.page[other]]).astype(np.int64), axis=1)
    return pairs[rng.permutation(len(pairs))]


def write_links(
    workspace: Workspace, graph: Graph, links: int, files: int, blocks: list[int], order: str
) -> list[File]:
    """Files as the step `edges` leaves them, in its order, by the larger page, or shuffled."""

    def write(number: int) -> File:
        pairs = some_links(graph, links, number, files)
        if order == "sorted":
            pairs = pairs[np.argsort(pairs[:, 1])]
        context = Context(Task("dedup", "edges", "", {}, {"edges": f"links/{number:05d}.parquet"}), None, 0, workspace)
        with context.create("edges") as output, PartWriter(output, EDGES, **EDGES_AS) as writer:
            held = np.searchsorted(blocks, pairs[:, 1], side="right") - 1
            writer.scatter(pa.table([pairs[:, 0], pairs[:, 1]], schema=EDGES), held)
        return context.written["edges"]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(write, range(files)))


def components(folder: str, pages: int, links: int, in_memory: int, order: str) -> dict[str, Any]:
    """Makes the links, finds the clusters by the stage's own plan, each task in a process of its own, and compares them
    with those planted."""
    workspace = Workspace(folder)
    config = DedupConfig(components=ComponentsConfig(in_memory=in_memory))
    count = -(-pages // PAGES_A_SHARD)
    rows = [pages * (n + 1) // count - pages * n // count for n in range(count)]
    signed = tuple(Done(f"s/{n:07d}", {}, {"records": pages, "kept": pages}, {}) for n, pages in enumerate(rows))
    before: dict[str, tuple[Done, ...]] = {"signatures": signed}
    (scope,) = dedup.scopes(Planning("dedup", "bands", config, 0, (), before))
    graph = planted(pages)
    files = write_links(workspace, graph, links, scope.key_parts, [block.start for block in scope.blocks], order)
    nothing = {"records": 0, "kept": 0}
    # pages lie anywhere, so links within a group are few: all of them stand in `edges`
    empty = Context(Task("dedup", "bands", "", {}, {"links": "links/none.parquet"}), None, 0, workspace)
    with empty.create("links") as output, PartWriter(output, EDGES, **EDGES_AS):
        pass
    before["bands"] = tuple(Done(group.key, {"links": empty.written["links"]}, nothing, {}) for group in scope.groups)
    before["edges"] = tuple(Done(f"s/{part:05d}", {"edges": file}, nothing, {}) for part, file in enumerate(files))
    used: dict[str, list[Spent]] = defaultdict(list)
    steps = [step for step in dedup.STAGE.steps if step.name.startswith(("components", "join", "spread", "stars"))]
    for step in steps:
        done = []
        for task in step.plan(Planning("dedup", step.name, config, 0, (), before)):
            counts, written, spent = _alone(folder, step.run, task)
            done.append(Done(task.key, written, counts, task.params))
            used[step.name].append(spent)
        before[step.name] = tuple(done)
    wrong = _wrong(workspace, graph.labels, before["components"] or before["stars"])
    assert not wrong, f"{wrong} pages are not in the cluster that was planted"
    every = [spent for name in used for spent in used[name]]
    seconds = sum(spent.seconds for spent in every)
    return {
        "pages": pages,
        "links": links,
        "order": order,
        "files": len(files),
        "mb_on_disk": sum(file.size for file in files) >> 20,
        "pages_in_clusters": int(np.count_nonzero(graph.first != np.arange(pages)))
        + len(np.unique(graph.first[graph.first != np.arange(pages)])),
        "blocks": len(scope.blocks),
        "rounds": sum(name.startswith("join") for name, found in used.items() if found),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(sum(spent.cpu for spent in every), 1),
        "us_a_page": round(1e6 * seconds / pages, 4),
        "cpu_us_a_page": round(1e6 * sum(spent.cpu for spent in every) / pages, 4),
        "largest_mb": max(spent.mb for spent in every),
    }


def _wrong(workspace: Workspace, labels: Any, parts: tuple[Done, ...]) -> int:
    """Pages whose label is not the one planted, missing or there twice."""
    found = np.arange(len(labels), dtype=np.int32)
    seen = np.zeros(len(labels), np.bool_)
    twice = 0
    for done in parts:
        with workspace.open(done.outputs["components"].path) as stream, pq.ParquetFile(stream) as file:
            for group in range(file.num_row_groups):
                piece = file.read_row_group(group)
                members = piece.column("document").to_numpy()
                twice += int(seen[members].sum())
                seen[members] = True
                found[members] = piece.column("label").to_numpy()
    sizes = np.bincount(labels, minlength=len(labels))
    return twice + int(np.count_nonzero((found != labels) | (seen != (sizes[labels] > 1))))


@dataclass(frozen=True)
class Spent:
    """What a task took: `cpu` is user and system time of all its threads, `mb` the most that was resident."""

    seconds: float
    cpu: float
    mb: int


def _alone(folder: str, run: str, task: Task) -> tuple[dict[str, Any], dict[str, File], Spent]:
    """A task in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, folder, run, task).result()


def _measured(folder: str, run: str, task: Task) -> tuple[dict[str, Any], dict[str, File], Spent]:
    function = load(run)
    context = Context(task, None, 0, Workspace(folder))
    began, cpu = time.perf_counter(), time.process_time()
    counts = function(context).to_json()
    return counts, context.written, Spent(time.perf_counter() - began, time.process_time() - cpu, largest_mb())


def largest_mb() -> int:
    """The most that was resident of this process.

    Not `getrusage` where there is better: on Linux a new process begins with the figure of the one that started it.
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10


def growth(few: dict[str, Any], many: dict[str, Any]) -> dict[str, float]:
    """How much longer a page of many takes than one of few."""
    return {name: round(many[name] / few[name] - 1, 3) for name in ("us_a_page", "cpu_us_a_page")}


def run(given: argparse.Namespace) -> dict[str, Any]:
    wanted = given.only or PARTS
    result: dict[str, Any] = json.loads(given.out.read_text("utf-8")) if given.out.exists() else {}
    result |= about()

    def found(pages: int, in_memory: int, order: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            one = components(folder, pages, LINKS_A_PAGE * pages, in_memory, order)
        print(json.dumps(one), file=sys.stderr, flush=True)
        return one

    few, many = given.pages
    if "loss" in wanted:
        result["loss"] = [loss(threshold, seed=1) for threshold in THRESHOLDS]
    if "scale" in wanted:
        found(100_000, 1 << 40, "shuffled")  # compiles
        runs = [found(few, 1 << 40, "sorted"), found(few, 1 << 40, "shuffled"), found(many, 1 << 40, "shuffled")]
        result["scale"] = {"runs": runs, "growth": growth(runs[1], runs[2])}
    if "blocks" in wanted:
        found(100_000, 30_000, "shuffled")
        result["blocks"] = found(few, few // 5, "shuffled")
    return result


def show(console: Console, result: dict[str, Any]) -> None:
    """The same as tables on the terminal."""
    table = Table(
        "pages", "links", "rows", "blocks", "rounds", "s", "CPU s", "us a page", "MB", "pages in clusters",
        title="clusters, from links on disk",
    )  # fmt: skip
    runs = [*result.get("scale", {}).get("runs", []), *([result["blocks"]] if "blocks" in result else [])]
    for one in runs:
        table.add_row(
            f"{one['pages']:,}", f"{one['links']:,}", one["order"], str(one["blocks"]), str(one["rounds"]),
            f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}", f"{one['us_a_page']:.2f}", f"{one['largest_mb']:,}",
            f"{one['pages_in_clusters']:,}",
        )  # fmt: skip
    console.print(table)
    if "scale" in result:
        grown = result["scale"]["growth"]
        console.print(f"a page of the many: {grown['us_a_page']:+.0%} time, {grown['cpu_us_a_page']:+.0%} CPU time")
    for one in result.get("loss", []):
        table = Table("representatives", *map(str, one["lost by jaccard, by representatives"]), title="removals lost")
        for by in ("jaccard", "signature"):
            lost = one[f"lost by {by}, by representatives"]
            table.add_row(f"{by} >= {one['threshold']}", *(f"{100 * share:.2f} %" for share in lost.values()))
        console.print(table)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--pages", type=int, nargs=2, default=(10_000_000, 100_000_000), metavar=("FEW", "MANY"))
    parser.add_argument("--folder", type=Path, help="where the links lie meanwhile: 2 GB")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    result = run(given)
    show(Console(width=None if sys.stdout.isatty() else 140), result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
