"""`make bench`: seconds and records a second of every stage on the sample, one worker, beside the bare libraries.

Writes bench/results/pipeline.json. The peers run in the same process order on the same pages: trafilatura alone on the
decoded pages (no reading, no limits, no ledger) and datasketch's MinHash on the texts that were kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pipeline.markers import read_manifest
from curate.pipeline.sample import build_sample, default_cache
from curate.pipeline.workspace import Workspace

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
STAGES = ("extract", "filter", "dedup", "classify")
PEER_PAGES = 200


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    inputs = [str(path) for path in build_sample(default_cache())]
    with tempfile.TemporaryDirectory() as folder:
        help_seconds = min(_seconds([*_curate(), "--help"]) for _ in range(5))
        stages = _stages(inputs, f"{folder}/w")
        peers = _peers(inputs, f"{folder}/w")
    result = {
        "machine": f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, one worker",
        "help_seconds": round(help_seconds, 3),
        "stages": stages,
        "peers": peers,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _curate() -> list[str]:
    return [sys.executable, "-m", "curate.pipeline.cli"]


def _seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _stages(inputs: list[str], workspace: str) -> dict[str, Any]:
    measured = {}
    for stage in STAGES:
        command = [*_curate(), "run", stage, "--workspace", workspace, "--workers", "1", "--recipe", "demo"]
        if stage == "extract":
            for path in inputs:
                command += ["--input", path]
        seconds = _seconds(command)
        manifest = read_manifest(Workspace(workspace), stage)
        assert manifest is not None
        records = manifest["counts"]["records"]
        measured[stage] = {
            "records": records,
            "seconds": round(seconds, 2),
            "records_per_second": round(records / seconds, 1),
            "seconds_by_work": manifest["counts"]["seconds"],
        }
    return measured


def _peers(inputs: list[str], workspace: str) -> dict[str, Any]:
    """Milliseconds a page of trafilatura alone, and of MinHash with 112 permutations by datasketch and by us."""
    import trafilatura
    from datasketch import MinHash
    from warcio.archiveiterator import ArchiveIterator

    from curate.stages.dedup import signatures
    from curate.stages.extract import extract

    pages = []
    with Path(inputs[0]).open("rb") as stream:
        for record in ArchiveIterator(stream):
            if record.rec_type == "response":
                pages.append(record.content_stream().read())
            if len(pages) == PEER_PAGES:
                break
    alone = _per_item(lambda page: trafilatura.extract(page, favor_precision=True, include_comments=False), pages)
    ours = _per_item(lambda page: extract(page), pages)
    files = sorted(Path(workspace).glob("filter/docs/*/*.parquet"))
    texts = pa.concat_tables([pq.read_table(path, columns=["text"]) for path in files]).column("text").combine_chunks()
    signatures(texts)  # compiles, or loads what was compiled
    started = time.perf_counter()
    signatures(texts)
    kernel = (time.perf_counter() - started) / len(texts) * 1000

    def peer(text: str) -> None:
        words = text.lower().split()
        sketch = MinHash(num_perm=112)
        sketch.update_batch([" ".join(words[at : at + 5]).encode() for at in range(max(1, len(words) - 4))])

    datasketch = _per_item(peer, texts.to_pylist())
    return {
        "pages": len(pages),
        "trafilatura_ms": round(alone, 2),
        "curate_extract_ms": round(ours, 2),
        "texts": len(texts),
        "mean_text_bytes": round(float(np.mean([len(text.encode()) for text in texts.to_pylist()]))),
        "datasketch_minhash_ms": round(datasketch, 3),
        "curate_minhash_ms": round(kernel, 3),
    }


def _per_item(function: Any, items: list[Any]) -> float:
    started = time.perf_counter()
    for item in items:
        function(item)
    return (time.perf_counter() - started) / len(items) * 1000


if __name__ == "__main__":
    main()
