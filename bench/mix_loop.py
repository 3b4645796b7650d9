"""The whole loop on real text: a swarm of small proxies, a fit, a solved mixture, and what it is worth at a larger size.

    make bench-mix-loop DATA=FOLDER                       # the folder that holds corpus.tar.xz and topics.tar.xz
    python bench/mix_loop.py FOLDER --sets corpus         # again with the same --work: what was trained already is kept

Two sets: `corpus` (five files, a domain each) and `topics` (web pages by the topic that `classify` gives them). Each goes the
tool's own way, command by command: run all, mix buckets, mix swarm, mix tasks, mix solve, mix --budget with the solved weights
and once more as the pool is, and `curate ablate` on the two with three seeds at a larger size. The result is printed and kept
whatever it is: bench/results/mix_loop.json. One thread a process.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch

RESULTS = Path(__file__).parent / "results" / "mix_loop.json"
RECIPE = """
name: loop
description: Text as it is, small models
mix: {{by: [{by}], validation: 0.04, tokenizer: {{vocab_size: 2048, sample_bytes: 16000000}}}}
swarm:
  replicates: 4
  proxy: {{{proxy}, tokens: {tokens}, {common}}}
pretrain: {{{larger}, {common}}}
"""
COMMON = (
    "sequence_length: 128, batch_size: 16, optimizer: muon, device: cpu, dtype: float32, eval_every: 0, "
    "eval_tokens: 150000, sample_tokens: 0, log_every: 50"
)
PROXY = "size: tiny, layers: 2, width: 64, heads: 2, ffn: 192, lr: 0.01"
LARGER = "size: tiny, lr: 0.01"
SETS: dict[str, dict[str, Any]] = {
    "corpus": {"by": "source", "proxy_tokens": 400_000},
    "topics": {"by": "topic", "proxy_tokens": 250_000},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of corpus.tar.xz and topics.tar.xz")
    parser.add_argument("--work", type=Path, default=Path("build/mix-loop"), help="what is made on the way")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument("--tokens", type=int, default=1_000_000, help="of the larger runs [1,000,000]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    kept = json.loads(asked.output.read_text()) if asked.output.exists() else {}
    sets = kept.get("sets", {})
    for name in asked.sets:
        sets[name] = loop(name, asked)
        print(json.dumps(sets[name], indent=1), flush=True)
        machine = (
            f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, one thread, PyTorch {torch.__version__}"
        )
        asked.output.write_text(json.dumps({"machine": machine, "sets": sets}, indent=1) + "\n")


def loop(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """One set, from its text to the comparison."""
    settings, work = SETS[name], asked.work.resolve() / name
    work.mkdir(parents=True, exist_ok=True)
    files = unpack(asked.data, name, work / "data")
    recipe = work / "loop.yaml"
    tokens = settings["proxy_tokens"]
    recipe.write_text(RECIPE.format(by=settings["by"], proxy=PROXY, larger=LARGER, tokens=tokens, common=COMMON))
    solved, natural = work / "solved", work / "natural"

    def run(*arguments: str, place: Path = solved) -> None:
        curate([*arguments, "--workspace", str(place)], folder=files[0].parent)

    inputs = [argument for path in files for argument in ("--input", path.name)]
    run("run", "all", "--workers", "2", "--recipe", str(recipe), *inputs)
    if not natural.exists():
        shutil.copytree(solved, natural, copy_function=os.link, ignore=shutil.ignore_patterns("mix", "swarm", "lock*"))
    recipe_again = ("--recipe", str(recipe))
    run("mix", "buckets", *recipe_again)
    run("mix", "swarm", *recipe_again)
    run("mix", "tasks")
    budget = str(asked.tokens)
    run("mix", "solve", "--budget", budget, "--measure", "bits_per_byte")
    solution = json.loads((solved / "swarm" / "solution.json").read_text())
    weights = str(solved / "swarm" / "weights.json")
    run("mix", *recipe_again, "--budget", budget, "--weights", weights)
    run("mix", *recipe_again, "--budget", budget, place=natural)
    curate(
        ["ablate", str(natural), str(solved), "--seeds", str(asked.seeds), *recipe_again, "--into", str(work / "ablation")],
        folder=work,
    )  # fmt: skip
    ablation = json.loads((work / "ablation" / "ablation" / "ablation.json").read_text())
    return summary(solution, ablation)


def summary(solution: dict[str, Any], ablation: dict[str, Any]) -> dict[str, Any]:
    """What was solved and predicted at the proxies' size, and what was measured at the larger one, by domain.

    `objective`: bits per byte, mean over the domains, which is what was solved for: `natural` and `solved` by seed, `gain` with
    its 95 % interval (Welch, over seeds).
    """
    (pair,) = ablation["pairs"]
    rows = {row["name"]: row for row in pair["comparisons"] if row["family"].startswith("bucket")}
    domains = {}
    for name, shares in solution["domains"].items():
        row, task = rows[name], solution["tasks"][f"bits_per_byte/{name}"]
        domains[Path(name).stem] = {
            "natural_share": shares["natural"], "solved_share": shares["solved"], "interval": [shares["low"], shares["high"]],
            "predicted_gain": task["gain"], "predicted_interval": [task["low"], task["high"]],
            "natural": row["first"], "solved": row["second"], "measured_gain": -row["difference"], "verdict": row["verdict"],
        }  # fmt: skip
    sides = [np.mean([row[side] for row in domains.values()], axis=0) for side in ("natural", "solved")]
    between = scipy.stats.ttest_ind(*sides, equal_var=False).confidence_interval()
    whole = next(row for row in pair["comparisons"] if row["family"] == "held-out text")
    chosen = solution["choice"]["kinds"][solution["kind"]]
    return {
        "runs": solution["runs"], "replicates": solution["replicates"], "kind": solution["kind"],
        "spearman": chosen["spearman"], "rmse": chosen["rmse"], "budget": solution["budget"],
        "parameters": ablation["parameters"], "tokens": ablation["tokens"], "seeds": len(ablation["seeds"]),
        "objective": {
            "natural": sides[0].tolist(), "solved": sides[1].tolist(), "gain": float(sides[0].mean() - sides[1].mean()),
            "interval": [float(between.low), float(between.high)],
            "predicted_gain": float(np.mean([row["predicted_gain"] for row in domains.values()])),
        },
        "held_out_text_as_the_pool_is": {"natural": whole["first"], "solved": whole["second"]},
        "domains": domains,
    }  # fmt: skip


def unpack(data: Path, name: str, folder: Path) -> list[Path]:
    """The set's JSONL files."""
    if not folder.exists():
        with tarfile.open(data / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
    return sorted(folder.rglob("*.jsonl"))


def curate(arguments: list[str], folder: Path) -> None:
    """A command of the tool, its own lines shown; an error ends the bench."""
    print("$ curate", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "curate.pipeline.cli", *arguments], check=True, cwd=folder)


if __name__ == "__main__":
    main()
