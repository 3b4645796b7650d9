"""What the classifiers cost and how good they are: `python bench/classify.py --data DIR [--output FILE]`.

DIR holds `topics.tar.xz`, `pages-math-code.tar.xz` and `quality-labels.tar.xz`. One core. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from curate.classifiers import datasets, load

DEFAULTS = {"quality": "heuristic_prose", "math": "math", "edu": "heuristic_lesson", "topic": "topic"}


def quality(data: Path) -> dict[str, float]:
    """How well the quality heuristic agrees with people's keep / drop judgements, beside the text's length alone."""
    rows = [row for _, text in datasets.members(data, "quality-labels.tar.xz") for row in datasets.json_lines(text)]
    kept = [int(row["label"]) for row in rows]
    scores = load("heuristic_prose").predict(pa.array([row["text"] for row in rows]))
    return {
        "pages": len(rows),
        "roc_area_heuristic_prose": round(roc_auc_score(kept, np.asarray(scores)), 4),
        "roc_area_length": round(roc_auc_score(kept, [len(row["text"]) for row in rows]), 4),
    }


def speed(data: Path) -> dict[str, float]:
    """Pages a second on one core, the best of five passes over pages of 3.2 kB on average."""
    texts = datasets.topics(data).array.slice(0, 5_000)
    found: dict[str, float] = {"kB_a_page": round(texts.nbytes / len(texts) / 1000, 2)}
    for column, name in DEFAULTS.items():
        model = load(name)
        model.predict(texts.slice(0, 1))
        seconds = []
        for _ in range(5):
            started = time.process_time()
            model.predict(texts)
            seconds.append(time.process_time() - started)
        found[f"{column} ({name})"] = round(len(texts) / min(seconds))
    found["all four"] = round(1 / sum(1 / found[f"{column} ({name})"] for column, name in DEFAULTS.items()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "models": {name: json.loads(_about(name).read_text("utf-8"))["scores"] for name in ("topic", "math")},
        "quality": quality(given.data),
        "pages_per_second": speed(given.data),
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if given.output:
        given.output.write_text(text, "utf-8")


def _about(name: str) -> Path:
    from curate import classifiers

    return Path(classifiers.__file__).parent / "models" / f"{name}.json"


if __name__ == "__main__":
    main()
