"""Training on a CPU, side by side with a plain PyTorch loop of the same model (bench/pretrain_plain.py).

    make bench-pretrain
    python bench/pretrain.py --sizes tiny 10M --threads 1 --profile     # also prints where the time of both goes

Both train on the same tokens with the same shapes, type, batch and threads, in one process, taking turns; the first turn
warms up. What is judged is the median over the turns of our tokens a second over theirs in the turn beside it: at least 1. The
same ratio of CPU seconds, of all threads, is less disturbed by what else the machine does.
Writes bench/results/pretrain.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pretrain_plain import PlainLoop

from curate.pipeline.workspace import Workspace
from curate.pretrain.config import SIZES, PretrainConfig
from curate.pretrain.loader import Loader
from curate.pretrain.run import Run
from curate.pretrain.train import step

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "pretrain"))

RESULTS = Path(__file__).parent / "results" / "pretrain.json"
SHAPES = {"tiny": (8192, 16, 8), "10M": (16_384, 4, 3), "30M": (32_768, 2, 2)}
"""By size: vocabulary, sequences a step, steps a turn."""
TOKENS = 400_000
BAR = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    rows = []
    for size in asked.sizes:
        for threads in asked.threads:
            torch.set_num_threads(threads)
            row = side_by_side(size, threads, asked.turns, asked.profile)
            rows.append(row)
            print(json.dumps(row), flush=True)
    result = {
        "machine": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "pytorch": torch.__version__,
        "bar": BAR,
        "reached": all(row["ratio"] >= BAR for row in rows),
        "rows": rows,
    }
    asked.output.write_text(json.dumps(result, indent=1) + "\n")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def side_by_side(size: str, threads: int, turns: int, profiled: bool) -> dict[str, Any]:
    """Tokens a second of both loops and their ratio, medians over the turns."""
    vocab, batch, steps = SHAPES[size]
    length = SIZES[size].sequence_length
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(folder)
        write_tokens(place, vocab)
        config = PretrainConfig(
            size=size, batch_size=batch, micro_batch=batch, steps=10_000, device="cpu", dtype="float32", warmup=10
        )
        run = Run.open(place, config, lambda event: None)
        plain = PlainLoop(run.model.shape, f"{folder}/mix/tokens/00000.bin", length=length, rows=batch)
        plain.model.take(run.model)
        with Loader(run) as loader:
            kinds: dict[str, Callable[[], Any]] = {"plain": plain.step, "curate": lambda: step(run, loader.next()[0])}
            seconds: dict[str, list[float]] = {name: [] for name in kinds}
            work: dict[str, list[float]] = {name: [] for name in kinds}
            for turn in range(turns + 1):
                for name in kinds if turn % 2 else reversed(kinds):
                    begin, used = time.perf_counter(), time.process_time()
                    for _ in range(steps):
                        kinds[name]()
                    if turn:
                        seconds[name].append(time.perf_counter() - begin)
                        work[name].append(time.process_time() - used)
            if profiled:
                for name, function in kinds.items():
                    profile(name, function)
    tokens = steps * batch * length

    def ratio(measured: dict[str, list[float]]) -> float:
        pairs = zip(measured["plain"], measured["curate"], strict=True)
        return round(statistics.median(theirs / ours for theirs, ours in pairs), 3)

    return {
        "size": size, "threads": threads, "tokens_a_step": batch * length, "vocabulary": vocab,
        "plain_tokens_per_second": round(tokens / statistics.median(seconds["plain"])),
        "curate_tokens_per_second": round(tokens / statistics.median(seconds["curate"])),
        "ratio": ratio(seconds), "cpu_seconds_ratio": ratio(work),
    }  # fmt: skip


def write_tokens(place: Workspace, vocab: int) -> None:
    """A mix of random ids, the small ones common as words are."""
    from mixes import write_mix

    random = np.random.default_rng(0)
    ids = np.minimum(random.zipf(1.2, TOKENS), vocab - 2).astype(np.int64)
    write_mix(
        place, [(part, 4 * len(part), "all") for part in np.split(ids, 40)], shards=1, vocab_size=vocab, eos=vocab - 1
    )


def profile(name: str, function: Callable[[], Any]) -> None:
    """Prints the operators that take longest."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(3):
            function()
    print(
        f"\n{name}\n{found.key_averages().table(sort_by='self_cpu_time_total', row_limit=22, max_name_column_width=40)}"
    )


if __name__ == "__main__":
    main()
