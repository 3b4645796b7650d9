"""Clusters: what verification loses, union-find over 100M pages from disk, and what an adversary may send.

    python bench/dedup_clusters.py loss
    python bench/dedup_clusters.py scale --pages 100000000 --links 300000000
    python bench/dedup_clusters.py blocks --pages 10000000 --links 30000000 --in-memory 2000000
    python bench/dedup_clusters.py adversarial --pages 1000000

Each prints JSON; seconds and the largest resident memory are those of a process that does nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import Context, Done, File, Planning, Shard, Task, load
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import ComponentsConfig, DedupConfig
from curate.stages.dedup.linking import EDGES, EDGES_AS
from curate.stages.partitions import PartWriter

LINKS_A_FILE = 5_000_000
PAGES_A_SHARD = 50_000
THRESHOLDS = (0.72, 0.8)
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
        "jaccard": Pages(keys, None, shingles, offsets, np.full(len(sets), 4096)),
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


def write_links(workspace: Workspace, pages: int, links: int, blocks: list[int]) -> list[File]:
    """Files as the step `edges` leaves them: clusters of 4 pages on average anywhere among the pages, each page linked to
    the cluster's first about three times, rows sorted by page within a file."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(-(-links // LINKS_A_FILE)):
        documents = rng.integers(0, pages, min(LINKS_A_FILE, links - number * LINKS_A_FILE))
        first = _mixed(_mixed(documents.astype(np.uint64)) % np.uint64(pages // 4)) % np.uint64(pages)
        pairs = np.sort(np.column_stack([first.astype(np.int64), documents]), axis=1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        pairs = pairs[np.argsort(pairs[:, 1])]
        context = Context(Task("dedup", "edges", "", {}, {"edges": f"links/{number:05d}.parquet"}), None, 0, workspace)
        with context.create("edges") as output, PartWriter(output, EDGES, **EDGES_AS) as writer:
            held = np.searchsorted(blocks, pairs[:, 1], side="right") - 1
            writer.scatter(pa.table([pairs[:, 0], pairs[:, 1]], schema=EDGES), held)
        made.append(context.written["edges"])
    return made


def _mixed(values: Any) -> Any:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def components(folder: str, pages: int, links: int, in_memory: int) -> dict[str, Any]:
    """Makes the links, then finds the clusters in processes of their own."""
    workspace = Workspace(folder)
    config = DedupConfig(components=ComponentsConfig(in_memory=in_memory))
    count = -(-pages // PAGES_A_SHARD)
    rows = [pages * (n + 1) // count - pages * n // count for n in range(count)]
    signed = tuple(Done(f"s/{n:07d}", {}, {"records": pages, "kept": pages}, {}) for n, pages in enumerate(rows))
    before: dict[str, tuple[Done, ...]] = {"signatures": signed}
    (scope,) = dedup.scopes(Planning("dedup", "bands", config, 0, (), before))
    files = write_links(workspace, pages, links, [block.start for block in scope.blocks])
    nothing = {"records": 0, "kept": 0}
    empty = Context(Task("dedup", "bands", "", {}, {"links": "links/none.parquet"}), None, 0, workspace)
    with empty.create("links") as output, PartWriter(output, EDGES, **EDGES_AS):
        pass
    before["bands"] = tuple(Done(group.key, {"links": empty.written["links"]}, nothing, {}) for group in scope.groups)
    parts = [f"s/{part:05d}" for part in range(scope.key_parts)]
    before["edges"] = tuple(Done(key, {"edges": file}, nothing, {}) for key, file in zip(parts, files, strict=False))
    if len(before["edges"]) < len(parts):
        before["edges"] += tuple(
            Done(key, {"edges": empty.written["links"]}, nothing, {}) for key in parts[len(files) :]
        )
    assert len(files) <= len(parts), "more files than parts: raise LINKS_A_FILE"
    found: dict[str, Any] = {"pages": pages, "links": links, "blocks": len(scope.blocks), "tasks": 0, "steps": {}}
    used: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    steps = [step for step in dedup.STAGE.steps if step.name.startswith(("components", "join", "spread", "stars"))]
    for step in steps:
        done = []
        for task in step.plan(Planning("dedup", step.name, config, 0, (), before)):
            counts, written, seconds, memory = _alone(folder, step.run, task)
            done.append(Done(task.key, written, counts, task.params))
            used[step.name][0] += seconds
            used[step.name][1] = max(used[step.name][1], memory)
            found["tasks"] += 1
        before[step.name] = tuple(done)
    found["steps"] = {name: {"seconds": round(s, 1), "largest_mb": round(m)} for name, (s, m) in used.items()}
    found["seconds"] = round(sum(seconds for seconds, _ in used.values()), 1)
    found["largest_mb"] = round(max(memory for _, memory in used.values()))
    found["bytes_on_disk"] = sum(file.size for file in files)
    found["components"] = [done.outputs["components"].fingerprint for done in before["components"] or before["stars"]]
    return found


def _alone(folder: str, run: str, task: Task) -> tuple[dict[str, Any], dict[str, File], float, float]:
    """A task in a process of its own: counts, files, seconds and MB."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measured, folder, run, task).result()


def _measured(folder: str, run: str, task: Task) -> tuple[dict[str, Any], dict[str, File], float, float]:
    function = load(run)
    context = Context(task, None, 0, Workspace(folder))
    started = time.perf_counter()
    counts = function(context).to_json()
    return counts, context.written, time.perf_counter() - started, _largest_mb()


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORDS = [f"word{number:03d}" for number in range(1000)]


def hostile(kind: str, pages: int) -> Iterator[tuple[str, str]]:
    """(id, text) of so many pages."""
    rng = np.random.default_rng(0)
    long = rng.integers(0, 1000, pages + 40)
    page = " ".join(WORDS[word] for word in long[:100])
    for number in range(pages):
        if kind == "copies of one page":
            yield f"p{number:08d}", page
        elif kind == "empty pages":
            yield f"p{number:08d}", ""
        elif kind == "pages of one word":
            yield f"p{number:08d}", WORDS[number % 3]
        elif kind == "a chain of near-copies":
            yield f"p{number:08d}", " ".join(WORDS[word] for word in long[number : number + 40])
        else:  # each id twice
            yield f"p{number // 2:08d}", f"{number} {page[:60]}"


HOSTILE = ("copies of one page", "empty pages", "pages of one word", "a chain of near-copies", "ids that come twice")


def adversarial(kind: str, pages: int, config: DedupConfig) -> dict[str, Any]:
    """The whole stage over such pages, here: seconds by step, pages kept, the largest resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        shards = list(_shards(workspace, kind, pages))
        before: dict[str, tuple[Done, ...]] = {}
        seconds: dict[str, float] = {}
        for step in dedup.STAGE.steps:
            done = []
            started = time.perf_counter()
            for task in step.plan(Planning("dedup", step.name, config, 0, tuple(shards), before)):
                context = Context(task, config, 0, workspace)
                done.append(Done(task.key, context.written, load(step.run)(context).to_json(), task.params))
            before[step.name] = tuple(sorted(done, key=lambda item: item.key))
            if done:
                seconds[step.name] = round(time.perf_counter() - started, 2)
        kept = sum(done.counts["kept"] for done in before["remove"])
    return {
        "pages": pages,
        "kept": kept,
        "seconds": round(sum(seconds.values()), 1),
        "largest_mb": round(_largest_mb()),
        "steps": seconds,
    }


def _shards(workspace: Workspace, kind: str, pages: int) -> Iterator[Shard]:
    rows = hostile(kind, pages)
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    for number, start in enumerate(range(0, pages, PAGES_A_SHARD)):
        ids, texts = zip(*(next(rows) for _ in range(min(PAGES_A_SHARD, pages - start))), strict=True)
        columns = {"id": ids, "text": texts, "date": [day] * len(ids), "snapshot": ["s"] * len(ids)}
        table = pa.table(
            [pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(len(ids), field.type)
             for field in DOCUMENT],
            schema=DOCUMENT,
        )  # fmt: skip
        name = f"filter/docs/s/{number:05d}.parquet"
        with workspace.create(name) as output:
            pq.write_table(table, output)
        yield Shard(f"s/{number:05d}", File(name, output.sha256, output.size), len(ids))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["loss", "scale", "blocks", "adversarial"])
    parser.add_argument("--pages", type=int)
    parser.add_argument("--links", type=int)
    parser.add_argument("--in-memory", type=int, default=2_000_000)
    parser.add_argument("--kind", choices=HOSTILE, help="adversarial: one of them, in this process")
    parser.add_argument("--set", default="{}", help="adversarial: the section `dedup:` as JSON")
    parser.add_argument("--folder", help="where the links lie meanwhile (100M pages, 300M links: 3 GB)")
    given = parser.parse_args()
    if given.what == "loss":
        found: Any = [loss(threshold, seed=1) for threshold in THRESHOLDS]
    elif given.what == "adversarial" and given.kind:
        found = adversarial(given.kind, given.pages or 1_000_000, DedupConfig.model_validate_json(given.set))
    elif given.what == "adversarial":
        found = {}
        for kind in HOSTILE:
            command = [*sys.argv, "--kind", kind]
            made = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, check=True)
            found[kind] = json.loads(made.stdout)
    else:
        pages = given.pages or (100_000_000 if given.what == "scale" else 10_000_000)
        most = given.in_memory if given.what == "blocks" else 1 << 40
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            found = components(folder, pages, given.links or 3 * pages, most)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
