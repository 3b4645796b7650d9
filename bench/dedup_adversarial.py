"""What an adversary may send to dedup: copies of one page, empty pages, chains of near-copies, ids and hashes that collide.

    python bench/dedup_adversarial.py                                    # 100,000 pages of each kind, then 1,000,000
    python bench/dedup_adversarial.py --only "copies of one page" --pages 100000

The whole stage, from documents to documents and ledger, by its own plan and with its own tasks, one after another in a
process that does nothing else; `steps` are seconds, CPU seconds and MB by step. What stays and what the ledger and the
report say is checked against what was sent. A kind is linear where a page of the many costs no more than 1.3 times a page of
the few.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dedup import Words
from dedup_clusters import largest_mb
from extract import about
from rich.console import Console
from rich.table import Table

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import Context, Done, File, Planning, Shard, load
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import DedupConfig

RESULTS = Path(__file__).parent / "results" / "dedup_adversarial.json"
PAGES_A_SHARD = 50_000
WORDS_A_PAGE = 40
LARGEST = 1000
LINEAR = 1.3
MOST_MB = 2048
DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Found:
    """What the stage left of so many pages."""

    pages: int
    kept: dict[str, int]
    """By id, `duplicates`."""
    dropped: Counter[tuple[str, str | None]]
    """By reason and kept id."""
    report: dict[str, Any]

    @property
    def reasons(self) -> Counter[str]:
        """Pages dropped, by reason."""
        found: Counter[str] = Counter()
        for (reason, _), count in self.dropped.items():
            found[reason] += count
        return found


@dataclass(frozen=True)
class Kind:
    """`pages(words, first, last)` are the ids and texts of the pages first … last - 1, `right(found)` whether that is the
    answer. With `collide` all pages get the same value in these columns of `signatures`."""

    pages: Callable[[Any, int, int], tuple[Any, pa.Array]]
    right: Callable[[Found], bool]
    config: dict[str, Any] = field(default_factory=dict)
    collide: tuple[str, ...] = ()


def _ids(numbers: Any) -> list[str]:
    return [f"p{number:08d}" for number in numbers.tolist()]


def _same(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    text = Words(1).texts(words[None, :WORDS_A_PAGE])[0].as_py()
    return _ids(np.arange(first, last)), pa.array([text] * (last - first))


def _empty(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    return _ids(np.arange(first, last)), pa.array([("", " \n", "...")[number % 3] for number in range(first, last)])


def _one_word(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    return _ids(np.arange(first, last)), pa.array([("yes", "No", "404")[number % 3] for number in range(first, last)])


def _chain(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    """Each page begins a word later: 35 of 37 shingles are those of the page before."""
    windows = np.lib.stride_tricks.sliding_window_view(words[first : last + WORDS_A_PAGE - 1], WORDS_A_PAGE)
    return _ids(np.arange(first, last)), Words(1).texts(windows)


def _different(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    draw = Words(first + 2)
    return _ids(np.arange(first, last)), draw.texts(draw.numbers(last - first, WORDS_A_PAGE))


def _each_id_twice(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    return _ids(np.arange(first, last) // 2), _different(words, first, last)[1]


def _one_id(words: Any, first: int, last: int) -> tuple[Any, pa.Array]:
    return ["the id"] * (last - first), _different(words, first, last)[1]


def _copies(originals: int, reason: str = "exact_duplicate") -> Callable[[Found], bool]:
    def right(found: Found) -> bool:
        sizes = {f"p{n:08d}": len(range(n, found.pages, originals)) for n in range(originals)}
        gone = {(reason, id): size - 1 for id, size in sizes.items()}
        return found.kept == sizes and found.dropped == gone and found.report["removed"] == found.pages - originals

    return right


def _all_stay(found: Found) -> bool:
    return len(found.kept) == found.pages and set(found.kept.values()) == {1} and not found.dropped


def _chained(found: Found) -> bool:
    """In one, or a few in a million where by chance no link goes across, and the report shows it: the largest clusters, with
    pages nothing like the one kept."""
    clusters = found.report["largest"]
    seen = len(clusters) <= 1 + 5 * found.pages / 1e6 and all(one["least_similarity"] < 0.1 for one in clusters)
    return (
        seen
        and found.kept == {one["kept_id"]: one["size"] for one in clusters}
        and sum(found.kept.values()) == found.pages
        and found.reasons == {"near_duplicate": found.pages - len(clusters)}
    )


def _long(found: Found) -> bool:
    """Before verification the chain was in one cluster, or in a few as `_chained` says."""
    report = found.report["verification"]
    return report["clusters"] <= 1 + 5 * found.pages / 1e6 and report["largest"] > max(LARGEST, found.pages / 10)


def _in_pieces(found: Found) -> bool:
    """Stopped: no cluster is larger than it may be."""
    return _long(found) and max(found.kept.values()) <= LARGEST


def _left_alone(found: Found) -> bool:
    return _long(found) and _all_stay(found) and found.report["verification"]["left_alone_texts"] == found.pages


def _taken_apart(found: Found) -> bool:
    return _long(found) and _all_stay(found)


def _half_go(found: Found) -> bool:
    return len(found.kept) == found.pages // 2 and found.reasons == {"duplicate_id": found.pages // 2}


def _one_stays(found: Found) -> bool:
    return list(found.kept) == ["the id"] and found.dropped == {("duplicate_id", "the id"): found.pages - 1}


KINDS = {
    "copies of one page": Kind(_same, _copies(1)),
    "copies of one page, verified": Kind(_same, _copies(1), {"verify": "jaccard", "max_cluster": LARGEST}),
    "empty pages": Kind(_empty, _all_stay),
    "pages of one word": Kind(_one_word, _copies(3)),
    "a chain of near-copies": Kind(_chain, _chained),
    "a chain, max_cluster": Kind(_chain, _in_pieces, {"max_cluster": LARGEST}),
    "a chain, max_cluster, no link weak": Kind(_chain, _left_alone, {"max_cluster": LARGEST, "verify_threshold": 0.5}),
    "a chain, verified": Kind(_chain, _taken_apart, {"verify": "jaccard", "verify_threshold": 0.96}),
    "each id twice": Kind(_each_id_twice, _half_go),
    "one id": Kind(_one_id, _one_stays),
    "hashes that collide": Kind(_different, _all_stay, collide=("id_hash", "hash_high")),
}


def shards(workspace: Workspace, kind: Kind, pages: int) -> Iterator[Shard]:
    """The documents, as the stage before leaves them."""
    words = Words(1).numbers(pages + WORDS_A_PAGE)
    for number, first in enumerate(range(0, pages, PAGES_A_SHARD)):
        last = min(pages, first + PAGES_A_SHARD)
        ids, texts = kind.pages(words, first, last)
        rows = last - first
        columns = {"id": ids, "text": texts, "date": [DAY] * rows, "snapshot": ["s"] * rows}
        columns |= {"source": ["made"] * rows, "offset": np.arange(first, last)}
        given = {name: pa.array(values, DOCUMENT.field(name).type) for name, values in columns.items()}
        arrays = [given.get(one.name, pa.nulls(rows, one.type)) for one in DOCUMENT]
        name = f"filter/docs/s/{number:05d}.parquet"
        with workspace.create(name) as output:
            pq.write_table(pa.table(arrays, schema=DOCUMENT), output)
        yield Shard(f"s/{number:05d}", File(name, output.sha256, output.size), rows)


def alone(folder: str, given: tuple[Shard, ...], name: str) -> dict[str, Any]:
    """What the stage costs, with all that is imported and compiled loaded before."""
    with tempfile.TemporaryDirectory() as warm:
        run_stage(warm, tuple(shards(Workspace(warm), KINDS[name], 100)), name)
    return run_stage(folder, given, name)


def run_stage(folder: str, given: tuple[Shard, ...], name: str) -> dict[str, Any]:
    """Every step of the stage: seconds, CPU seconds, the largest resident memory of the process so far."""
    kind = KINDS[name]
    workspace, config = Workspace(folder), DedupConfig(**kind.config)
    before: dict[str, tuple[Done, ...]] = {}
    steps: dict[str, tuple[float, float, int]] = {}
    for step in dedup.STAGE.steps:
        began, cpu = time.perf_counter(), time.process_time()
        done = []
        for task in step.plan(Planning("dedup", step.name, config, 0, given, before)):
            context = Context(task, config, 0, workspace)
            counts = load(step.run)(context).to_json()
            done.append(Done(task.key, context.written, counts, task.params))
        before[step.name] = tuple(sorted(done, key=lambda item: item.key))
        if done:
            steps[step.name] = (time.perf_counter() - began, time.process_time() - cpu, largest_mb())
        if step.name == "signatures":
            _collide(workspace, before["signatures"], kind.collide)
    seconds, cpu_seconds, mb = zip(*steps.values(), strict=True)
    return {
        "seconds": round(sum(seconds), 2),
        "cpu_seconds": round(sum(cpu_seconds), 2),
        "largest_mb": max(mb),
        "steps": {name: [round(used[0], 2), round(used[1], 2), used[2]] for name, used in steps.items()},
    }


def _collide(workspace: Workspace, signatures: tuple[Done, ...], columns: Sequence[str]) -> None:
    for done in signatures if columns else ():
        path = done.outputs["signatures"].path
        with workspace.open(path) as stream:
            table = pq.read_table(stream)
        for column in columns:
            same = pa.array(np.full(table.num_rows, 7, np.uint64))
            table = table.set_column(table.schema.get_field_index(column), column, same)
        with workspace.create(path) as output:
            pq.write_table(table, output)


def outcome(workspace: Workspace, pages: int) -> Found:
    """What the stage left, read back."""
    kept: dict[str, int] = {}
    dropped: Counter[tuple[str, str | None]] = Counter()
    for number in range(-(-pages // PAGES_A_SHARD)):
        with workspace.open(f"dedup/docs/s/{number:05d}.parquet") as stream:
            docs = pq.read_table(stream, columns=["id", "duplicates"])
        found = dict(zip(docs.column("id").to_pylist(), docs.column("duplicates").to_pylist(), strict=True))
        assert len(found) == docs.num_rows and not found.keys() & kept.keys(), "an id stays twice"
        kept |= found
        with workspace.open(f"dedup/ledger/s/{number:05d}.parquet") as stream:
            ledger = pq.read_table(stream, columns=["reason", "kept_id"])
        for row in ledger.group_by(["reason", "kept_id"]).aggregate([([], "count_all")]).to_pylist():
            dropped[row["reason"], row["kept_id"]] += row["count_all"]
    assert len(kept) + dropped.total() == pages, "pages in are not pages kept and pages dropped"
    report: dict[str, Any] = workspace.read_json("dedup/steps/report/s.json")
    return Found(pages, kept, dropped, report)


def measure(name: str, pages: int, folder: Path | None) -> dict[str, Any]:
    """A kind, so many pages of it: AssertionError where the answer is not the right one."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        workspace = Workspace(place)
        made = tuple(shards(workspace, KINDS[name], pages))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            figures = pool.submit(alone, place, made, name).result()
        found = outcome(workspace, pages)
    assert KINDS[name].right(found), f"{name}: {len(found.kept)} stay, {found.reasons}, {found.report}"
    assert figures["largest_mb"] <= MOST_MB, f"{name}: {figures['largest_mb']} MB"
    return {"pages": pages, "kept": len(found.kept), **figures}


def compared(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """A kind in all sizes: AssertionError where it is not linear."""
    sizes = [measure(name, pages, given.folder) for pages in given.pages]
    few, many = sizes[0], sizes[-1]
    growth = many["cpu_seconds"] / many["pages"] / (few["cpu_seconds"] / few["pages"])
    print(name, json.dumps(sizes), file=sys.stderr, flush=True)
    assert growth <= LINEAR, f"{name}: a page of {many['pages']} costs {growth:.2f} times a page of {few['pages']}"
    return {"config": KINDS[name].config, "sizes": sizes, "cpu_a_page_times": round(growth, 2)}


def run(given: argparse.Namespace) -> dict[str, Any]:
    measure("copies of one page, verified", 1000, given.folder)  # compiles
    wanted = given.only or list(KINDS)
    with ThreadPoolExecutor(given.jobs) as pool:
        found = list(pool.map(lambda name: compared(name, given), wanted))
    return about() | {"jobs": given.jobs, "kinds": dict(zip(wanted, found, strict=True))}


def show(console: Console, result: dict[str, Any]) -> None:
    """The same as a table on the terminal."""
    table = Table("", "pages", "kept", "s", "CPU s", "MB", "CPU a page, times", title="dedup, adversarial")
    for name, kind in result["kinds"].items():
        for size in kind["sizes"]:
            last = size is kind["sizes"][-1]
            table.add_row(
                name if last else "", f"{size['pages']:,}", f"{size['kept']:,}", f"{size['seconds']:.1f}",
                f"{size['cpu_seconds']:.1f}", f"{size['largest_mb']:,}", str(kind["cpu_a_page_times"]) if last else "",
            )  # fmt: skip
    console.print(table)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=KINDS)
    parser.add_argument("--pages", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--jobs", type=int, default=2, help="kinds at a time")
    parser.add_argument("--folder", type=Path, help="where the pages lie meanwhile: 1 GB for each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    result = run(given)
    show(Console(width=None if sys.stdout.isatty() else 140), result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
