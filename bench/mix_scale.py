"""A billion tokens materialised: tokens a second by step, and the memory of all processes together.

    python bench/mix_scale.py                             # 1B tokens out of a synthetic pool of 1.2B, 2 workers
    python bench/mix_scale.py --tokens 50M --folder /data

The pool (bench/mix_pools.py) is written first and not counted; what is measured is everything that `curate mix` does after
tokenising: buckets, count, allocation, the two passes of the shuffle, the summary. Memory is the sum of the resident sets of
the driver and its workers, looked at every tenth of a second: pages that they share count more than once, so it is an upper
bound. Written to bench/results/mix_scale.json; exit status 1 above 4 GB.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import argparse
import io
import json
import platform
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from mix_pools import SEED, write_pool

from curate.mixtures.config import MixConfig, parse_budget
from curate.mixtures.stage import POOL
from curate.pipeline.engines import Engine, open_engine
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import open_runner
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import read_tokens_json

RESULTS = Path(__file__).parent / "results" / "mix_scale.json"
MOST = 4 * 10**9
MEAN_TOKENS = 900
STEPS = ("tokenizer", "buckets", "count", "allocate", "scatter", "gather", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="1B", help="tokens to materialise; the pool has 1.2 times as many")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shards", type=int, default=48, help="shards of the pool")
    parser.add_argument(
        "--folder", help="where the files go, 10 bytes a token for the time of the run [the temporary folder]"
    )
    options = parser.parse_args()
    budget = parse_budget(options.tokens)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        started = time.perf_counter()
        shards = write_pool(Path(folder) / "pool", int(1.2 * budget / MEAN_TOKENS), options.shards)
        written = time.perf_counter() - started
        measured = _measure(Path(folder) / "mix", shards, budget, options.workers)
    result = {
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "pool": {"tokens": sum(shard.params["tokens"].size for shard in shards) // 2, "shards": options.shards},
        "workers": options.workers,
        "seconds_to_make_the_pool": round(written, 1),
        **measured,
    }
    print(json.dumps(result, indent=1))
    if budget >= 10**9:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(measured["peak_bytes"] > MOST)


def _measure(folder: Path, shards: list[Any], budget: int, workers: int) -> dict[str, Any]:
    config = MixConfig(budget=budget, by=["topic", "quality_vigintile"], max_repeats=4)
    recipe = Recipe(RecipeHead(seed=SEED), {"mix": config})
    place = Workspace(folder)
    seconds: dict[str, float] = {}
    display = open_display(as_json=True, stream=io.StringIO())
    peaks = {}

    def engine() -> Engine:
        return open_engine("local", workers=workers, address=None, tasks_per_worker=1000)

    with _Memory() as memory, open_runner(place, recipe, engine, display) as runner:
        for step in STEPS:
            memory.peak = 0
            started = time.perf_counter()
            result = runner.run(POOL, shards, step)
            if result.failed:
                raise SystemExit(str(result.failed))
            seconds[step or "finish"] = time.perf_counter() - started
            peaks[step or "finish"] = memory.peak
            print(f"{step or 'finish'}: {seconds[step or 'finish']:.1f} s, {memory.peak / 1e9:.2f} GB", flush=True)
    facts = read_tokens_json(place)
    if facts.tokens != budget:
        raise SystemExit(f"{facts.tokens:,} tokens, not {budget:,}")
    total = sum(seconds.values())
    return {
        "tokens": facts.tokens,
        "documents": facts.documents,
        "files": len(facts.shards),
        "seconds": {step: round(value, 1) for step, value in seconds.items()} | {"all": round(total, 1)},
        "tokens_per_second": {step: round(budget / value) for step, value in seconds.items()}
        | {"all": round(budget / total)},
        "peak_bytes": max(peaks.values()),
        "peak_bytes_by_step": peaks,
        "largest_process_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


class _Memory:
    """The largest sum of the resident sets of this process and all below it, since `peak` was last set to 0."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            self.peak = max(self.peak, _resident(os.getpid()))


def _resident(root: int) -> int:
    """Resident bytes of a process and of all below it (Linux)."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            sizes[number] = int((folder / "statm").read_text().split()[1]) * resource.getpagesize()
        except OSError:
            continue  # it has just ended
    own = {root}
    for number in sorted(parents):  # a child may have a smaller number only where numbers have come round
        if parents[number] in own:
            own.add(number)
    return sum(sizes[number] for number in own if number in sizes)


if __name__ == "__main__":
    main()
