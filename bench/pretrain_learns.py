"""Does it learn, and does Muon learn faster than AdamW: validation bits per byte by domain, at equal steps on equal data.

    make bench-learns DATA=FOLDER                        # the folder that holds corpus.tar.xz (JSONL: domain, source, text)
    python bench/pretrain_learns.py FOLDER --steps 800   # again with the same --work: what was trained already is kept

The corpus goes the tool's own way (`curate run all`, `curate mix` with a bucket a domain). Each optimiser gets a learning rate
of its own: the best of a grid after a short run with the first seed, the grid being extended where its edge is best. Then every
seed trains both, with the same batches in the same order. One thread. Writes bench/results/pretrain_learns.json and .svg.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import argparse
import json
import lzma
import math
import statistics
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.evaluate import Held
from curate.pretrain.log import read_log
from curate.pretrain.tokens import TokenSet
from curate.pretrain.train import pretrain
from curate.report.charts import Series, line

RESULTS = Path(__file__).parent / "results" / "pretrain_learns.json"
RECIPE = """
name: learns
description: The corpus as it is, a bucket a domain
mix: {by: [source], validation: 0.03, tokenizer: {vocab_size: 2048, sample_bytes: 16000000}}
"""
MODEL: dict[str, Any] = {
    "size": "tiny", "sequence_length": 128, "batch_size": 16, "device": "cpu", "dtype": "float32", "sample_tokens": 0,
    "log_every": 50, "checkpoint_every": 200, "keep": 1,
}  # fmt: skip
OPTIMIZERS = ("adamw", "muon")
GRID = (2e-3, 5e-3, 1.2e-2)
RATIO = 2.5
EXTENSIONS = 2
"""Learning rates beyond the grid that are tried at most, where the edge was best."""
STYLE = """<style>svg{background:#fff;font:12px sans-serif}.line{fill:none;stroke-width:1.6}.grid{stroke:#ddd}.axis{stroke:#555}
.line-0{stroke:#b5542c}.line-1{stroke:#1f6f8b}.line-2{stroke:#777}.dot-0{fill:#b5542c}.dot-1{fill:#1f6f8b}.dot-2{fill:#777}
.tick,.axis-label{fill:#333}</style>"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of corpus.tar.xz")
    parser.add_argument(
        "--work", type=Path, default=Path("build/learns"), help="what is made on the way [build/learns]"
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--tune-steps", type=int, default=250)
    parser.add_argument("--eval-tokens", type=int, default=130_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    mix = corpus(asked.data, asked.work.resolve())
    runs = Runs(asked.work.resolve(), mix, asked.eval_tokens)
    tuned = {name: tune(runs, name, asked.tune_steps) for name in OPTIMIZERS}
    finals = [
        runs.train(name, tuned[name]["lr"], asked.steps, seed, asked.steps // 10)
        for seed in range(asked.seeds)
        for name in OPTIMIZERS
    ]
    result = {
        "machine": f"{torch.backends.cpu.get_cpu_capability()}, one thread, PyTorch {torch.__version__}",
        "model": MODEL | {"vocabulary": 2048},
        "tokens_a_step": MODEL["batch_size"] * MODEL["sequence_length"],
        "baselines": baselines(mix, asked.eval_tokens),
        "tuning": tuned,
        "runs": finals,
        "summary": summary(finals),
    }
    asked.output.write_text(json.dumps(result, indent=1) + "\n")
    asked.output.with_suffix(".svg").write_text(picture(finals))
    print(json.dumps(result["summary"] | {"baselines": result["baselines"]}, indent=1))


def corpus(data: Path, work: Path) -> Workspace:
    """The workspace with the mix of the corpus, made unless it is there."""
    place = work / "mix"
    if not (place / "mix" / "tokens.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        with tarfile.open(data / "corpus.tar.xz") as archive:
            archive.extractall(work, filter="data")
        (work / "learns.yaml").write_text(RECIPE)
        folder = next(work.rglob("*.jsonl")).parent
        files = [argument for path in sorted(folder.glob("*.jsonl")) for argument in ("--input", path.name)]
        for command in (
            ["run", "all", "--workers", "1", "--recipe", str(work / "learns.yaml"), *files],
            ["mix", "--workers", "1"],
        ):
            program = [sys.executable, "-m", "curate.pipeline.cli", *command, "--workspace", str(place)]
            subprocess.run(program, check=True, cwd=folder)
    return Workspace(str(place))


class Runs:
    """Trains in a workspace of its own for each setting; a run that was stopped goes on, a finished one is not repeated."""

    def __init__(self, work: Path, mix: Workspace, eval_tokens: int) -> None:
        self.work = work
        self.mix = Path(mix.path("mix"))
        self.eval_tokens = eval_tokens

    def train(self, optimizer: str, lr: float, steps: int, seed: int, every: int) -> dict[str, Any]:
        """One run and its curve: bits per byte in all and by domain after every `every` steps."""
        place = self.work / "runs" / f"{optimizer}-{lr:g}-{steps}-{seed}"
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "mix").exists():
            (place / "mix").symlink_to(self.mix)
        settings = MODEL | {"optimizer": optimizer, "lr": lr, "steps": steps, "seed": seed, "eval_every": every}
        config = PretrainConfig(**settings, eval_tokens=self.eval_tokens)
        workspace, begin = Workspace(str(place)), time.perf_counter()
        result = pretrain(workspace, config, progress=lambda event: None)
        entries = [entry for entry in read_log(workspace) if "validation" in entry]
        curve = [{"step": entry["step"], **_bits(entry["validation"])} for entry in entries]
        last = curve[-1]["bits_per_byte"]
        print(f"{place.name}: {last:.4f} bits per byte, {time.perf_counter() - begin:.0f} s", flush=True)
        return {
            "optimizer": optimizer, "lr": lr, "steps": steps, "seed": seed, "bits_per_byte": last,
            "first_train_loss": result["first_train_loss"], "train_loss": result["train_loss"], "curve": curve,
        }  # fmt: skip


def _bits(validation: dict[str, Any]) -> dict[str, Any]:
    domains = {Path(name).stem: round(found["bits_per_byte"], 4) for name, found in validation["buckets"].items()}
    return {"bits_per_byte": round(validation["bits_per_byte"], 4), "domains": domains}


def tune(runs: Runs, optimizer: str, steps: int) -> dict[str, Any]:
    """The learning rate that is best after `steps`, and what each gave."""
    tried = {lr: runs.train(optimizer, lr, steps, 0, 0)["bits_per_byte"] for lr in GRID}
    for _ in range(EXTENSIONS):
        best = min(tried, key=lambda lr: tried[lr])
        if min(tried) < best < max(tried):
            break
        beyond = float(f"{best * RATIO if best == max(tried) else best / RATIO:.2g}")
        tried[beyond] = runs.train(optimizer, beyond, steps, 0, 0)["bits_per_byte"]
    best = min(tried, key=lambda lr: tried[lr])
    return {"lr": best, "steps": steps, "bits_per_byte": {f"{lr:g}": tried[lr] for lr in sorted(tried)}}


def baselines(mix: Workspace, limit: int) -> dict[str, float]:
    """Bits per byte of the same validation text without a model: by how common a token is in training, and by xz whole."""
    from tokenizers import Tokenizer

    training, validation = TokenSet(mix), TokenSet(mix, "validation")
    held = Held(validation, limit)
    ids = held.ids()
    text = ids[~held.ends_document(ids)]
    counts = np.bincount(training.window(0, training.tokens), minlength=training.vocab_size) + 1.0
    nats = -np.log(counts / counts.sum())[text].sum()
    size = int(held.bytes.sum())
    written = Tokenizer.from_file(mix.path("mix/tokenizer.json")).decode(text.tolist())
    packed = lzma.compress(written.encode(), preset=9 | lzma.PRESET_EXTREME)
    uniform = len(text) * math.log2(training.vocab_size) / size
    return {
        "validation_tokens": len(ids),
        "validation_bytes": size,
        "uniform": round(uniform, 4),
        "token_frequencies": round(float(nats) / math.log(2) / size, 4),
        "xz": round(8 * len(packed) / size, 4),
    }


def summary(finals: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; the steps after which Muon is where AdamW ends, by straight lines between validations."""
    found: dict[str, Any] = {}
    for name in OPTIMIZERS:
        own = [run for run in finals if run["optimizer"] == name]
        found[name] = {
            "lr": own[0]["lr"],
            "bits_per_byte": [run["bits_per_byte"] for run in own],
            "mean": round(statistics.mean(run["bits_per_byte"] for run in own), 4),
            "domains": {
                domain: round(statistics.mean(run["curve"][-1]["domains"][domain] for run in own), 4)
                for domain in own[0]["curve"][-1]["domains"]
            },
        }
    reached = []
    for run in (run for run in finals if run["optimizer"] == "muon"):
        other = next(one for one in finals if one["optimizer"] == "adamw" and one["seed"] == run["seed"])
        reached.append(_step_at(run["curve"], other["bits_per_byte"]))
    steps = finals[0]["steps"]
    return found | {
        "steps": steps,
        "muon_below_adamw_by": round(found["adamw"]["mean"] - found["muon"]["mean"], 4),
        "muon_reaches_adamws_end_after": reached,
        "steps_saved_factor": round(steps / statistics.mean(reached), 2) if all(reached) else None,
        "falls_at_every_validation": all(
            before["bits_per_byte"] > after["bits_per_byte"]
            for run in finals
            for before, after in pairwise(run["curve"])
        ),
    }


def _step_at(curve: list[dict[str, Any]], wanted: float) -> int | None:
    for before, after in pairwise(curve):
        if after["bits_per_byte"] <= wanted:
            share = (before["bits_per_byte"] - wanted) / (before["bits_per_byte"] - after["bits_per_byte"])
            return round(before["step"] + max(share, 0.0) * (after["step"] - before["step"]))
    return None


def picture(finals: list[dict[str, Any]]) -> str:
    """The curves of the first seed as an SVG: validation bits per byte by step."""
    series = [
        Series(name, tuple((point["step"], point["bits_per_byte"]) for point in run["curve"]), dots=True)
        for name in OPTIMIZERS
        for run in finals
        if run["optimizer"] == name and run["seed"] == 0
    ]
    names = f"{OPTIMIZERS[0]} (brown), {OPTIMIZERS[1]} (blue)"
    page = str(line(series, title="Validation", x_label=f"step: {names}", y_label="bits per byte"))
    drawn = page[page.index("<svg") : page.index("</svg>")]
    head, _, rest = drawn.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{rest}</svg>\n'


if __name__ == "__main__":
    main()
