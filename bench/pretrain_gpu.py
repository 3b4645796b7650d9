"""Training speed on one GPU, by `curate.pretrain.train` itself: tokens a second, MFU, memory, data wait.

    make bench-gpu                                        # every part; on a machine without a GPU it says so and ends
    python bench/pretrain_gpu.py --parts targets-1024 attention chunks      # some of them: each takes minutes

Needs PyTorch for CUDA and curate's other dependencies; the checkout need not be installed. Every row is a fresh model on random
tokens, compiled; the median of the readings after the warm-up counts. A row that does not fit says so and the others go on.
Rows go into bench/results/pretrain_gpu.json under the device's name, a part's rows replacing its earlier ones.
"""

from __future__ import annotations

import argparse
import gc
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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "typings"))  # `curate`, where it is not installed
sys.path.insert(0, str(ROOT / "tests" / "pretrain"))

from curate.pipeline.errors import CurateError  # noqa: E402
from curate.pipeline.workspace import Workspace  # noqa: E402
from curate.pretrain.config import PretrainConfig  # noqa: E402
from curate.pretrain.log import RunLog, read_log  # noqa: E402
from curate.pretrain.run import Run  # noqa: E402
from curate.pretrain.train import train  # noqa: E402

RESULTS = ROOT / "bench" / "results" / "pretrain_gpu.json"
TOKENS = 20_000_000
TARGETS = {
    ("124M", 1024): 510e3, ("350M", 1024): 195e3, ("1.3B", 1024): 60e3, ("60M", 1024): 1.3e6, ("30M", 1024): 1.9e6,
    ("124M", 2048): 470e3, ("350M", 2048): 180e3, ("1.3B", 2048): 56e3, ("60M", 2048): 1.2e6, ("30M", 2048): 1.7e6,
}  # fmt: skip
"""Tokens a second to reach on one H100, by size and sequence length."""
VOCABULARY = {"30M": 32_768, "60M": 32_768}
PASS = {"30M": 65_536, "60M": 65_536, "124M": 65_536, "350M": 32_768, "1.3B": 16_384}
"""Tokens in a forward pass."""
PASSES = {"30M": 1, "60M": 2}
"""Passes in a step: 4 where nothing is said."""
READINGS, STEPS, WARM = 10, 4, 4
"""Readings of STEPS steps each, of which the first WARM do not count: compiling and the choice of kernels fall in them."""

Adapt = Callable[[Run], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench-gpu: PyTorch finds no CUDA device here: nothing was measured and nothing written")
        return
    name = torch.cuda.get_device_name()
    found = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    for part in asked.parts:
        begin = time.perf_counter()
        rows = PARTS[part]()
        about = {
            "pytorch": torch.__version__,
            "cuda": torch.version.cuda,
            "seconds": round(time.perf_counter() - begin),
        }
        found.setdefault(name, {})[part] = about | {"rows": rows}
        asked.output.write_text(json.dumps(found, indent=1) + "\n")


def measure(
    size: str, length: int, *, adapt: Adapt = lambda run: None, label: str = "", **settings: Any
) -> dict[str, Any]:
    """One row: the speed of a size at a sequence length, with settings of `PretrainConfig` that differ."""
    rows = max(1, PASS[size] // length)
    config = {
        "size": size, "sequence_length": length, "micro_batch": rows, "batch_size": rows * PASSES.get(size, 4),
        "steps": READINGS * STEPS, "log_every": STEPS, "eval_every": 0, "checkpoint_every": 10**9, "spike": 0, "device": "cuda",
    } | settings  # fmt: skip
    row: dict[str, Any] = {"size": size, "length": length, "label": label} | settings
    with tempfile.TemporaryDirectory() as folder:
        place = Workspace(folder)
        write_tokens(place, VOCABULARY.get(size, 50_304))
        torch.cuda.reset_peak_memory_stats()
        try:
            run = Run.open(place, PretrainConfig(**config), lambda event: None)
            run.save = lambda log: None  # type: ignore[method-assign]  # the disk is not what is measured
            adapt(run)
            with RunLog(place, 0) as log:
                train(run, log)
            row |= _read(place)
        except (torch.OutOfMemoryError, CurateError, RuntimeError) as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:200].partition(chr(10))[0]}"
    run = None  # type: ignore[assignment]
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    print(json.dumps(row), flush=True)
    return row


def _read(place: Workspace) -> dict[str, Any]:
    """Medians of the readings after the warm-up."""
    last = [entry for entry in read_log(place) if "loss" in entry and entry["step"] % STEPS == 0][WARM:]

    def middle(name: str) -> float:
        return statistics.median(entry[name] for entry in last)

    row: dict[str, Any] = {"tokens_per_second": round(middle("tokens_per_second")), "data_wait": middle("data_wait")}
    if "mfu" in last[0]:
        row["mfu"] = middle("mfu")
    return row | {"memory_gb": round(last[-1]["memory_allocated"] / 1e9, 1)}


def write_tokens(place: Workspace, vocab: int) -> None:
    """A mix of random ids, without validation."""
    from mixes import write_mix

    ids = np.random.default_rng(0).integers(0, vocab - 1, TOKENS)
    documents = [(part, 4 * len(part), "all") for part in np.split(ids, 2_000)]
    write_mix(place, documents, shards=1, vocab_size=vocab, eos=vocab - 1)


def targets(length: int) -> list[dict[str, Any]]:
    """Every size at one sequence length, with what it should reach."""
    rows = []
    for (size, own), least in TARGETS.items():
        if own == length:
            row = measure(size, length) | {"target": least}
            rows.append(row | {"reached": row.get("tokens_per_second", 0) >= least})
    return rows


def attention() -> list[dict[str, Any]]:
    """cuDNN's kernel, Flash's and the default order, at 124M."""
    kernels = ("auto", "cudnn", "flash")
    return [measure("124M", length, attention=kernel) for length in (1024, 2048) for kernel in kernels]


def chunks() -> list[dict[str, Any]]:
    """The head's chunk: memory against speed."""
    return [measure(size, 1024, loss_chunk=chunk) for size in ("30M", "124M") for chunk in (2048, 8192, 32_768, 65_536)]


def graphs() -> list[dict[str, Any]]:
    """CUDA graphs of the trunk at 30M, at 65,536 and 16,384 tokens a step, beside the same without them."""

    def graphed(run: Run) -> None:
        compiled: Any = torch.compile(run.model.trunk, mode="reduce-overhead", dynamic=False, fullgraph=True)

        def trunk(*arguments: Any) -> Any:
            torch.compiler.cudagraph_mark_step_begin()
            return compiled(*arguments)

        run.objective.trunk = trunk  # type: ignore[assignment]

    rows = []
    for sequences in (64, 16):
        shape: dict[str, Any] = {"batch_size": sequences, "micro_batch": sequences}
        rows += [measure("30M", 1024, **shape), measure("30M", 1024, adapt=graphed, label="CUDA graphs", **shape)]
    return rows


def fp8() -> list[dict[str, Any]]:
    """fp8 beside bfloat16: said to help from a width of 1,024."""
    pairs = (("124M", 1024), ("350M", 1024), ("1.3B", 2048))
    return [measure(size, length, dtype=dtype) for size, length in pairs for dtype in ("bfloat16", "fp8")]


def compiled() -> list[dict[str, Any]]:
    """torch.compile on and off."""
    return [measure(size, 1024, compile=value) for size in ("30M", "124M") for value in ("on", "off")]


def optimizers() -> list[dict[str, Any]]:
    """What Muon costs a step, at a step of the usual size."""
    return [measure("124M", 1024, optimizer=name, batch_size=64 * 8, micro_batch=64) for name in ("adamw", "muon")]


PARTS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "targets-1024": lambda: targets(1024),
    "targets-2048": lambda: targets(2048),
    "attention": attention,
    "chunks": chunks,
    "graphs": graphs,
    "fp8": fp8,
    "compile": compiled,
    "optimizers": optimizers,
}
"""By name; every row also has the data wait."""

if __name__ == "__main__":
    main()
