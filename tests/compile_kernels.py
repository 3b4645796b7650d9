"""Runs a small crawl from one end to the other, so that the kernels are compiled and cached before tests run side by side.

    python tests/compile_kernels.py          # a minute on a fresh checkout, seconds after that

Each process compiles what it does not find in the cache: several at once, and those that a test kills, would do so again.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import small_crawl

CLI = [sys.executable, "-m", "curate.pipeline.cli"]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        inputs, recipe = small_crawl.make_crawl(Path(folder))
        workspace = f"{folder}/w"
        subprocess.run(
            [*CLI, "run", "all", "-r", str(recipe), "-i", f"{inputs}/*.warc.gz", "-w", workspace, "--workers", "1"],
            check=True,
        )
        subprocess.run([*CLI, "mix", "-w", workspace, "--workers", "1"], check=True)


if __name__ == "__main__":
    main()
