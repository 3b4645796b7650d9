"""`python bench/swarm.py`: runs an hour of a swarm in one process against a process a run, on one device.

Writes bench/results/swarm.json (`--gpu`: swarm_gpu.json, with the device's name). The mix is made of random tokens, packed by
bucket: speed does not depend on what they say. Both sides train the same configurations with the same code (`run_many`); only
the process differs, so checkpoints, which a swarm does not write, count for neither. `--processes K`: K swarms at a time on
the device, each with its part of the runs. `--graphs`: CUDA graphs through torch.compile. On a GPU begin with

    python bench/swarm.py --gpu
    python bench/swarm.py --gpu --processes 2 --graphs
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenWriter

RESULTS = Path(__file__).parent / "results"
BUCKETS = ("code", "forum", "news", "science")
EOS = 0
GPU = [
    {"name": "30M x 140M tokens", "config": {"size": "30M", "tokens": 140_000_000, "batch_size": 64}, "runs": 4},
    {"name": "30M x 30M tokens", "config": {"size": "30M", "tokens": 30_000_000, "batch_size": 64}, "runs": 8},
]
CPU = [
    {"name": "tiny x 20k tokens", "config": {"size": "tiny", "tokens": 20_480}, "runs": 6},
    {"name": "tiny x 20k tokens, compiled", "config": {"size": "tiny", "tokens": 20_480, "compile": "on"}, "runs": 6},
    {"name": "tiny x 200k tokens", "config": {"size": "tiny", "tokens": 204_800}, "runs": 4},
]
COMMON = {"eval_every": 0, "eval_tokens": 65_536, "log_every": 50}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="proxies of 30M parameters, on a GPU")
    parser.add_argument("--processes", type=int, default=1, help="swarms at a time on the device")
    parser.add_argument("--graphs", action="store_true", help="CUDA graphs (torch.compile's, needs a GPU)")
    parser.add_argument("--worker", nargs=2, metavar=("WORKSPACE", "CONFIGS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        _work(*options.worker, graphs=options.graphs)
        return
    if options.graphs and not options.gpu:
        parser.error("--graphs goes with --gpu")
    if options.gpu:
        import torch

        if not torch.cuda.is_available():
            parser.error("--gpu: this PyTorch finds no GPU")
    measured = []
    for case in GPU if options.gpu else CPU:
        with tempfile.TemporaryDirectory() as folder:
            measured.append(_case(folder, case, options))
        print(json.dumps(measured[-1]), flush=True)
    name = "swarm_gpu" if options.gpu else "swarm"
    if options.processes > 1 or options.graphs:
        name += f"_{options.processes}" + ("_graphs" if options.graphs else "")
    result = {
        "machine": _machine(options.gpu),
        "processes": options.processes,
        "graphs": options.graphs,
        "cases": measured,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def _case(folder: str, case: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Wall seconds of all runs both ways, the second way with what the first left in torch.compile's cache on disk."""
    vocab_size = 32_768 if options.gpu else 4_096
    _write_mix(Workspace(folder), min(int(case["config"]["tokens"]), 40_000_000), vocab_size)
    random = np.random.default_rng(0)
    configs = [
        case["config"]
        | COMMON
        | {"mixture": dict(zip(BUCKETS, random.dirichlet(np.ones(4)).tolist(), strict=True)), "seed": number}
        for number in range(case["runs"])
    ]
    _timed(folder, [configs[:1]], options.graphs)  # compiles into the cache on disk, reads the tokens into memory
    used = _processor_seconds()
    alone = sum(_timed(folder, [[config]], options.graphs)[0] for config in configs)
    used_alone = _processor_seconds() - used
    parts = [configs[number :: options.processes] for number in range(options.processes)]
    together, rows = _timed(folder, parts, options.graphs)
    used_together = _processor_seconds() - used - used_alone
    return {
        "name": case["name"],
        "runs": len(configs),
        "process_a_run": {"seconds": round(alone, 1), "runs_per_hour": round(3600 * len(configs) / alone, 1)},
        "swarm": {
            "seconds": round(together, 1),
            "runs_per_hour": round(3600 * len(configs) / together, 1),
            "first_run_start_seconds": round(rows[0]["seconds"]["start"], 2),
            "other_runs_start_seconds": round(max(row["seconds"]["start"] for row in rows[options.processes :]), 2),
            "train_seconds_a_run": round(sum(row["seconds"]["train"] for row in rows) / len(rows), 2),
        },
        "times_the_runs_an_hour": round(alone / together, 2),
        "processor_seconds": {"process_a_run": round(used_alone, 1), "swarm": round(used_together, 1)},
        "times_by_processor_seconds": round(used_alone / used_together, 2),
    }


def _timed(folder: str, parts: list[list[dict[str, Any]]], graphs: bool) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds until a process a part is done with its runs, all at a time; and the runs' rows."""
    shutil.rmtree(Path(folder, "swarm"), ignore_errors=True)
    commands = [
        [sys.executable, __file__, "--worker", folder, json.dumps(part), *(["--graphs"] if graphs else [])]
        for part in parts
    ]
    began = time.perf_counter()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) for command in commands]
    outputs = [process.communicate()[0] for process in running]
    seconds = time.perf_counter() - began
    if any(process.returncode for process in running):
        raise SystemExit("a run failed")
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    longest = max(map(len, found))
    return seconds, [rows[place] for place in range(longest) for rows in found if place < len(rows)]


def _processor_seconds() -> float:
    """Of all processes that have ended: what other work on the machine hardly changes, while wall time doubles with it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _work(folder: str, configs: str, *, graphs: bool) -> None:
    if graphs:
        import torch._inductor.config

        torch._inductor.config.triton.cudagraphs = True
    from curate.pretrain.config import PretrainConfig
    from curate.pretrain.swarm import run_many

    rows = run_many(
        Workspace(folder),
        [PretrainConfig.model_validate(config) for config in json.loads(configs)],
        progress=lambda event: None,
    )
    print(json.dumps([{"seconds": row["seconds"], "train_loss": row["train_loss"]} for row in rows]))


def _write_mix(workspace: Workspace, tokens: int, vocab_size: int) -> None:
    from tokenizers import Tokenizer, models

    data = Tokenizer(models.BPE({f"<{number}>": number for number in range(vocab_size)}, [])).to_str().encode()
    workspace.write_bytes("mix/tokenizer.json", data)
    random = np.random.default_rng(0)
    parts: dict[str, dict[str, Any]] = {}
    for name, size in (("tokens", tokens), ("validation", 65_536)):
        part: dict[str, Any] = {"tokens": 0, "bytes": 0, "documents": 0, "shards": []}
        for number, bucket in enumerate(BUCKETS):
            shard = f"{name}/{number:05d}"
            with workspace.create(f"mix/{shard}.bin") as ids, workspace.create(f"mix/{shard}.idx.parquet") as index:
                writer = TokenWriter(ids, index, "uint16")
                for place in range(max(1, size // len(BUCKETS) // 4096)):
                    drawn = random.integers(1, vocab_size, 4096)
                    drawn[-1] = EOS
                    writer.add(drawn, id=f"{bucket}-{place}", snapshot="S", bytes=4 * 4095, bucket=bucket)
                writer.close()
            part["shards"].append(writer.entry(shard, ids.sha256, bucket if name == "tokens" else None))
            for key in ("tokens", "bytes", "documents"):
                part[key] += getattr(writer, key)
        parts[name] = part
    facts = {
        "schema_version": 1, "dtype": "uint16", "vocab_size": vocab_size, "eos": EOS,
        "tokenizer": {"path": "mix/tokenizer.json", "sha256": hashlib.sha256(data).hexdigest()},
        **parts["tokens"], "validation": parts["validation"],
    }  # fmt: skip
    workspace.write_json("mix/tokens.json", facts)


def _machine(gpu: bool) -> str:
    import torch

    device = torch.cuda.get_device_name() if gpu else f"{platform.machine()}, {torch.get_num_threads()} threads"
    return f"{device}, PyTorch {torch.__version__}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
