"""The classifiers measured: how good those that ship are, beside fastText and plain baselines, and what they cost.

    make bench-classify                                 # CURATE_DATA names the folder of the archives
    python bench/classify.py DATA --vectors FILE.npy    # keeps what the teacher's encoder made, a quarter of an hour's work
    python bench/classify.py DATA --quick               # without the teacher: its numbers stay as they were

Topics, mathematics and education are judged on sites (and books) that no model was trained on, quality on pages that people
judged. Time is CPU time on one core, the least of several passes, over pages of 3 kB on average. The teacher needs an
encoder's packages and is left out where they are not installed.
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)  # read when NumPy and Numba load

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import perplexity
import pyarrow as pa
import topic_teacher
from extract import about
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from curate import classifiers
from curate.classifiers import datasets, encoders, kinds, load, train
from curate.classifiers.heuristics import heuristic_prose
from curate.pipeline.errors import CurateError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

RESULTS = Path(__file__).parent / "results" / "classify.json"
MODELS = Path(classifiers.__file__).parent / "models"
COLUMNS = ("quality", "math", "edu", "topic")
PAGES = 5_000
PASSES = 5
UNTUNED = {"dim": 100, "epoch": 25}
TUNED = {"dim": 64, "lr": 1.0, "epoch": 40, "word_ngrams": 1, "min_count": 2, "loss": "ova"}
"""Found by hand on the sites that are trained on."""
ENCODED = 100
"""Pages that are encoded to measure the speed."""

BARS: dict[str, tuple[str, float]] = {
    "topic, sites kept out": ("models.topic.accuracy", 0.72),
    "topic, sure labels": ("models.topic.accuracy_sure_labels", 0.82),
    "topic teacher, sites kept out": ("teacher.accuracy", 0.77),
    "topic teacher, sure labels": ("teacher.accuracy_sure_labels", 0.87),
    "math, ROC area": ("models.math.roc_area", 0.97),
    "quality, people's judgement": ("quality.quality", 0.70),
    "quality above perplexity": ("quality.above_perplexity", 0.0),
    "quality above length": ("quality.above_length", 0.0),
    "fastText kind / library": ("speed.fasttext_to_library", 0.9),
    "classify stage, pages/s": ("speed.stage_pages_per_second", 1_000),
}
"""What the number is in the JSON, and the least that it should be."""


# --- how good ---------------------------------------------------------------------------------------------------------


def models(data: Path) -> dict[str, dict[str, float]]:
    """The bytes and scores of each model that ships: of topic and math on what was kept out, measured here and now; the
    rest, which takes models that have not seen a part of the data, as it was when they were trained."""
    found = {}
    for name in COLUMNS:
        state = json.loads((MODELS / f"{name}.json").read_text("utf-8"))
        found[name] = {"bytes": (MODELS / f"{name}.safetensors").stat().st_size, **state["scores"]}
    found["topic"] |= train.accuracy(load("topic"), datasets.topics(data).part(kept_out=True))
    found["math"] |= train.detection(load("math"), datasets.mathematics(data).part(kept_out=True))
    return found


def quality(data: Path) -> dict[str, float]:
    """Area under the ROC curve of people's keep against drop: the model, the formula and plain baselines."""
    judged = datasets.human_quality(data)
    kept = np.array(judged.labels) == "keep"
    prose = datasets.quality(data).part(kept_out=False)
    reference = prose.take(np.array(prose.targets) > 0.5)
    judges: dict[str, Any] = {
        "quality": load("quality").values(judged.array),
        "heuristic_prose": heuristic_prose(judged.array),
        "length": [len(text) for text in judged.texts],
        "perplexity": -perplexity.perplexities(reference.array, judged.array),
        "edu": load("edu").values(judged.array),
    }
    found = {name: round(float(roc_auc_score(kept, values)), 4) for name, values in judges.items()}
    for name in ("perplexity", "length"):
        found[f"above_{name}"] = round(found["quality"] - found[name], 4)
    return {"pages": len(judged), **found}


def fasttext_topics(data: Path, console: Console) -> dict[str, dict[str, float]]:
    """fastText on the same topics and the same split: its own settings, and better ones."""
    examples = datasets.topics(data)
    kept_out = examples.part(kept_out=True)
    sure = np.array(kept_out.confidence) >= 0.9
    found = {}
    for name, settings in {"untuned": UNTUNED, "tuned": TUNED}.items():
        started = time.process_time()
        model = kinds.fit("fasttext", examples.part(kept_out=False), settings, name="topic", version="0")
        labels, _ = model.predict(kept_out.array)
        right = np.array([a == b for a, b in zip(labels.to_pylist(), kept_out.labels, strict=True)])
        found[name] = {
            "accuracy": round(float(right.mean()), 4),
            "accuracy_sure_labels": round(float(right[sure].mean()), 4),
            "seconds": round(time.process_time() - started, 1),
        }
        console.print(f"fastText, {name}: {found[name]}")
    return found


def teacher(data: Path, console: Console, vectors: Path | None) -> dict[str, Any]:
    """The slow teacher of the topics and its student, or why it was left out."""
    try:
        topic_teacher.encode(["a text"])
    except CurateError as error:
        return {"left_out": str(error)}
    return topic_teacher.measure(data, console, vectors)


# --- what it costs ----------------------------------------------------------------------------------------------------


def least(work: Callable[[], Any], passes: int = PASSES, clock: Callable[[], float] = time.process_time) -> float:
    """Seconds of CPU, or of another clock, the least of several passes."""
    seconds = []
    for _ in range(passes):
        started = clock()
        work()
        seconds.append(clock() - started)
    return min(seconds)


def speed(data: Path, console: Console) -> dict[str, Any]:
    """Pages a second on one core: each model, the stage with all four, fastText beside its library, an encoder."""
    texts = datasets.topics(data).array.slice(0, PAGES)
    found: dict[str, Any] = {"pages": len(texts), "kB_a_page": round(texts.nbytes / len(texts) / 1000, 2)}
    for name in (*COLUMNS, "heuristic_prose", "heuristic_lesson"):
        model = load(name)
        model.predict(texts.slice(0, 1))
        found[name] = round(len(texts) / least(lambda model=model: model.predict(texts)))
    with tempfile.TemporaryDirectory() as folder:
        found["stage_pages_per_second"] = round(len(texts) / _stage(Path(folder), texts))
        found |= _fasttext_speed(data, texts, Path(folder))
    console.print(found)
    found["embedding"] = _embedding_speed(texts.slice(0, ENCODED))
    return found


def _stage(folder: Path, texts: pa.Array) -> float:
    """Seconds of CPU of the stage classify, as a run does it: reads a shard of documents, scores and writes them."""
    from curate.pipeline.documents import DOCUMENT, TableWriter
    from curate.pipeline.stage import File, Shard
    from curate.pipeline.workspace import Workspace
    from curate.stages.classify import STAGE
    from support import run_stage

    workspace, name = Workspace(folder / "w"), "dedup/docs/crawl/a.parquet"
    rows = [
        {"id": f"page-{row}", "url": f"http://example.org/{row}", "snapshot": "crawl", "source": "a", "offset": row,
         "text": text, "duplicates": 1}
        for row, text in enumerate(texts.to_pylist())
    ]  # fmt: skip
    schema = DOCUMENT.append(pa.field("duplicates", pa.int32()))
    with workspace.create(name) as output, TableWriter(output, schema) as writer:
        writer.write_rows(rows)
    config = STAGE.config.model_validate({"quality": "quality", "math": "math", "edu": "edu", "topic": "topic"})
    shard = Shard("crawl/a", File(name, output.sha256, output.size), len(rows))
    return least(lambda: run_stage(STAGE, config, [shard], workspace))


def _fasttext_speed(data: Path, texts: pa.Array, folder: Path) -> dict[str, float]:
    """Our fastText kind against the library's own loop, the same model (word pairs) over the same texts."""
    import fasttext

    examples = datasets.topics(data).part(kept_out=False)
    settings = {"preparation": "as_is", "epoch": 1, "max_bytes": 1 << 20}
    kinds.fit("fasttext", examples, settings, name="speed", version="0").save(folder / "speed.bin")
    ours, library = load(str(folder / "speed.bin")), fasttext.load_model(str(folder / "speed.bin"))
    lines = [text.replace("\n", " ") for text in texts.to_pylist()]
    ours.predict(texts.slice(0, 1))

    def loop() -> None:
        for line in lines:
            library.predict(line)

    speeds = {
        "fasttext_kind": len(texts) / least(lambda: ours.predict(texts)),
        "fasttext_library": len(texts) / least(loop),
    }
    ratio = speeds["fasttext_kind"] / speeds["fasttext_library"]
    return {**{name: round(value) for name, value in speeds.items()}, "fasttext_to_library": round(ratio, 2)}


def _embedding_speed(texts: pa.Array) -> dict[str, Any]:
    """Pages a second of the embedding kind's encoders on one core, or on the GPU where there is one."""
    pages, found = texts.to_pylist(), {}
    for name in encoders.NAMES:
        on_gpu = encoders.gpu() and name != "minilm-int8"  # whose 8 bits onnxruntime computes on the processor
        try:
            topic_teacher.encode(pages[:1], name)
        except CurateError as error:
            found[name] = {"left_out": str(error)}
            continue
        seconds = least(
            lambda name=name: topic_teacher.encode(pages, name), 2, time.perf_counter if on_gpu else time.process_time
        )
        found[name] = {
            "pages": len(pages),
            "tokens": topic_teacher.MAX_TOKENS,
            "on": "GPU" if on_gpu else "one core",
            "pages_per_second": round(len(pages) / seconds, 1),
        }
    return found


# --- shown ------------------------------------------------------------------------------------------------------------


def reached(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Each bar with what was measured; those of parts that were left out are left out."""
    rows = []
    for name, (place, bar) in BARS.items():
        value: Any = result
        for key in place.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            rows.append({"what": name, "measured": value, "bar": bar, "reached": value >= bar})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with the archives of labelled texts")
    parser.add_argument("--quick", action="store_true", help="do not train the slow teacher of the topics")
    parser.add_argument("--vectors", type=Path, help="file that keeps the encoder's vectors for another run, *.npy")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    console = Console()
    before = json.loads(given.output.read_text("utf-8")) if given.output.is_file() else {}
    try:
        result: dict[str, Any] = {
            "about": about(),
            "models": models(given.data),
            "quality": quality(given.data),
            "fasttext_topics": fasttext_topics(given.data, console),
            "speed": speed(given.data, console),
            "teacher": before.get("teacher") if given.quick else teacher(given.data, console, given.vectors),
        }
    except CurateError as error:
        console.print(str(error))
        return error.exit_code
    result["bars"] = reached(result)
    given.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")
    table = Table("what", "measured", "bar", "")
    for row in result["bars"]:
        table.add_row(row["what"], f"{row['measured']:g}", f"{row['bar']:g}", "" if row["reached"] else "missed")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
