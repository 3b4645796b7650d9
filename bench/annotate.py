"""How good the embedded annotator's labels are, beside what people and page formats say, and how slow it is.

    python bench/annotate.py DATA                      # CURATE_DATA names the folder of the archives as well
    python bench/annotate.py DATA --texts 200 --journal FILE     # may be stopped; goes on where it stopped

No setting of the annotator was chosen on these texts: pages that people judged, and web pages of sites that no model of ours
was trained on. Needs the extra `annotate` and scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from extract import about
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from curate.classifiers import datasets, load
from curate.classifiers.annotate import Annotation, Page, content_id, draw
from curate.classifiers.annotate_embedded import Embedded
from curate.classifiers.annotate_journal import Journal
from curate.classifiers.annotate_prompt import Prompt, load_prompt
from curate.classifiers.heuristics import heuristic_lesson, heuristic_prose
from curate.classifiers.model import fold, site
from curate.classifiers.weak import TAUGHT, TEACHES

RESULTS = Path(__file__).parent / "results" / "annotate.json"
TEXTS = 100
SURE = 0.8
RESAMPLES = 1_000
TEACHING = 0.5
"""A format that teaches: knowledge article, academic writing, tutorial, nonfiction, question and answer, FAQ, documentation."""

Floats = npt.NDArray[np.float64]


Set = tuple[list[Page], Floats, Floats]
"""Pages, how good each is, and whether it counts as good."""


def human(data: Path, count: int) -> Set:
    """Pages and whether people would keep them."""
    judged = datasets.human_quality(data)
    kept = {content_id(text): float(label == "keep") for text, label in zip(judged.texts, judged.labels, strict=True)}
    pages = draw([Page(content_id(text), None, text) for text in judged.texts], count, 0)
    truth = np.array([kept[page.id] for page in pages])
    return pages, truth, truth


def formats(data: Path, count: int) -> Set:
    """Web pages of sites kept out: how much a page of that format and topic teaches, 0 to 5, by a table of ours (`weak`), and
    whether its format is one that teaches."""
    rows = {
        content_id(row["text"]): row
        for row in datasets.web_pages(data)
        if fold(site(row["url"])) == datasets.KEPT_OUT_FOLD
        and min(row["topic_confidence"], row["format_confidence"]) > SURE
    }
    pages = draw([Page(key, row["url"], row["text"]) for key, row in rows.items()], count, 0)
    chosen = [rows[page.id] for page in pages]
    truth = np.array([5 * TEACHES[row["format"]] * TAUGHT[row["topic"]] for row in chosen])
    return pages, truth, np.array([float(TEACHES[row["format"]] >= TEACHING) for row in chosen])


def interval(measure: Callable[[Floats, Floats], float], truth: Floats, values: Floats) -> list[float]:
    """The measure, and the middle 95 % of it over resampled pages."""
    chance = np.random.default_rng(0)
    found: list[float] = []
    while len(found) < RESAMPLES:
        rows = chance.integers(0, len(truth), len(truth))
        if len(set(truth[rows])) > 1:
            found.append(measure(truth[rows], values[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return [round(float(each), 3) for each in (measure(truth, values), low, high)]


def roc(truth: Floats, values: Floats) -> float:
    return float(roc_auc_score(truth, values))


def rank(truth: Floats, values: Floats) -> float:
    return float(spearmanr(truth, values).statistic)


def scores(model: Embedded, prompt: Prompt, pages: list[Page], path: Path) -> tuple[Floats, dict[str, float]]:
    """The embedded model's scores, and what they took in this run."""
    with Journal(path) as journal:
        run = Annotation(prompt, model, journal)
        before, started, clock = journal.tokens_in, time.process_time(), time.monotonic()
        standing = run.ask(pages, lambda standing: print(f"\r{standing.done} of {len(pages)}", end="", flush=True))
        print()
        seconds, wall, tokens = time.process_time() - started, time.monotonic() - clock, journal.tokens_in - before
        values = np.array([row["score"] for row in run.rows(pages)], float)
    took = {"asked": standing.answers, "tokens": tokens, "cpu_seconds": round(seconds, 1), "seconds": round(wall, 1)}
    return values, took


def beside(pages: list[Page]) -> dict[str, Floats]:
    """What costs nothing, over the same texts whole: a page's length, the formulae, the models that ship."""
    texts = pa.array([page.text for page in pages])
    return {
        "length": np.array([len(page.text) for page in pages], float),
        "heuristic_lesson": np.asarray(heuristic_lesson(texts), float),
        "heuristic_prose": np.asarray(heuristic_prose(texts), float),
        "quality": load("quality").values(texts).astype(float),
        "edu": load("edu").values(texts).astype(float),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(os.environ.get("CURATE_DATA", "../shared/data")))
    parser.add_argument("--texts", type=int, default=TEXTS, help="of each set")
    parser.add_argument("--prompt", default="edu_short")
    parser.add_argument("--journal", type=Path, default=Path("annotate-bench.journal"))
    arguments = parser.parse_args()
    prompt = load_prompt(arguments.prompt)
    model = Embedded(threads=1)
    found: dict[str, Any] = {"machine": about(), "model": model.model, "prompt": prompt.name}
    found["characters"] = prompt.head.max_characters
    took = []
    sets = {"people": human(arguments.data, arguments.texts), "formats": formats(arguments.data, arguments.texts)}
    for name, (pages, truth, yes) in sets.items():
        values, cost = scores(model, prompt, pages, arguments.journal)
        took.append(cost)
        found[name] = {"pages": len(pages), "yes": int(yes.sum()), "mean": round(float(values.mean()), 3)}
        found[name]["deviation"] = round(float(values.std()), 3)
        judges = {"embedded": values, **beside(pages)}
        found[name]["roc_area"] = {judge: interval(roc, yes, each) for judge, each in judges.items()}
        found[name]["spearman"] = {judge: interval(rank, truth, each) for judge, each in judges.items()}
    if tokens := sum(each["tokens"] for each in took):
        found["speed"] = {
            "pages": sum(each["asked"] for each in took), "tokens": tokens,
            "tokens_per_cpu_second": round(tokens / sum(each["cpu_seconds"] for each in took), 1),
        }  # fmt: skip
    elif RESULTS.exists():  # nothing was asked anew: the speed is that of the run that asked
        found["speed"] = json.loads(RESULTS.read_text("utf-8")).get("speed")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
