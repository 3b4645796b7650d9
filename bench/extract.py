"""Every extraction engine over the same pages in one run: accuracy, structure kept, time, worst pages.

    make bench-extract                                          # CURATE_DATA names the folder of the archives
    python bench/extract.py DATA --folds DIR                    # curate's models of five folds, as the training writes them
    python bench/extract.py DATA --engines trafilatura,resiliparse --sets pages-2026 --limit 50 --no-worst

Accuracy is F1 of word 4-grams, the mean over pages; snippets count as in trafilatura's evaluation. A page that curate may
have been trained on is judged by the fold model whose training left its site out. Time is CPU time on one core: the engines
take turns on each page, in rotating order, all given the decoded page. With --no-times the texts of the other engines
come from a cache, and no time is reported.
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1"
)  # read when NumPy and Numba load

import argparse
import datetime
import json
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import extractors
import hostile_pages
import judges
from extractors import PEERS, version
from rich.console import Console
from rich.table import Table

from curate.pipeline.errors import UsageError
from curate.pipeline.sample import default_cache
from curate.stages.extract.training import data

RESULTS = Path(__file__).parent / "results" / "extract.json"
SIGNIFICANT = 0.05
MIN_PAGES = 10
"""Of fewer pages no difference is called significant."""


# --- report -----------------------------------------------------------------------------------------------------------


def print_set(console: Console, name: str, found: dict[str, Any], names: Sequence[str], base: str) -> None:
    for kind, title in (("gold", "F1 of word 4-grams"), ("snippets", "snippets: F1 (precision / recall)")):
        if kind in found:
            _print_scores(console, f"{name}: {title}", found[kind], names, base, kind == "snippets")
    shares = {kind: found[kind] for kind in ("code", "rows", "formulas") if found.get(kind)}
    if shares:
        table = Table("engine", title=f"{name}: kept of the gold's")
        for kind, share in shares.items():
            table.add_column(f"{kind} ({share['count']} on {share['pages']} pages)", justify="right")
        for engine in names:
            table.add_row(engine, *(_number(share[engine]) for share in shares.values()))
        console.print(table)
    if "time" in found:
        table = Table("engine", title=f"{name}: CPU ms a page, one core ({found['kB_a_page']} kB a page)")
        columns = ("mean_ms", "median_ms", "p99_ms", "max_ms", f"of_{judges.REFERENCE}")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="right")
        for engine in names:
            table.add_row(engine, *(str(found["time"][engine][column]) for column in columns))
        console.print(table)


def _print_scores(
    console: Console, title: str, groups: dict[str, Any], names: Sequence[str], base: str, detailed: bool
) -> None:
    caption = f"> or <: above or below {base}, p < {SIGNIFICANT} (paired bootstrap over pages)"
    table = Table("engine", title=title, caption=caption)
    for group, judged in groups.items():
        table.add_column(f"{group}\n{judged['pages']}", justify="right")
    for engine in names:
        cells = []
        for judged in groups.values():
            cell = _number(judged["f1"][engine])
            if detailed:
                cell += f"\n{_number(judged['precision'][engine])}/{_number(judged['recall'][engine])}"
            against = judged["against"].get(engine)
            if against and against["p"] < SIGNIFICANT and judged["pages"] >= MIN_PAGES:
                cell = ("<" if against["mean"] > 0 else ">") + cell
            cells.append(cell)
        table.add_row(engine, *cells)
    console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0") if value < 1 else f"{value:.2f}"


def print_worst(console: Console, worst: dict[str, list[dict[str, Any]]]) -> None:
    table = Table("page", title=f"worst pages: CPU s, MB added at the peak (limit {hostile_pages.CPU_SECONDS} s)")
    for name in worst:
        table.add_column(name, justify="right")
    for at, first in enumerate(next(iter(worst.values()))):
        table.add_row(first["page"], *(_worst_cell(found[at]) for found in worst.values()))
    console.print(table)


def _worst_cell(found: dict[str, Any]) -> str:
    if found["cpu_seconds"] is None:
        return str(found["error"])
    nothing = "" if found["characters"] else "  " + found.get("error", "no text")
    return f"{found['cpu_seconds']:.2f}  {found['added_mb']}{nothing}"


def about() -> dict[str, Any]:
    """Machine, versions, date, commit."""
    versions = {name: version(name) for name in ("curate-web", "trafilatura", "resiliparse", "lxml", "numba", "numpy")}
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _git("rev-parse", "--short", "HEAD")
        + ("+" if _git("status", "--porcelain", "--untracked-files=no") else ""),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


# --- command line -----------------------------------------------------------------------------------------------------


def measure(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The whole measurement as one dictionary; prints each set as it is done."""
    names = given.engines
    base = "curate" if "curate" in names else names[0]
    # The split by site is made over all sets, as the training made it; without it the other sets need not be there.
    wanted = None if given.folds and given.folds.is_dir() else given.sets
    loaded = data.load(given.data, given.cache / "pages", sets=wanted, extra=given.extra)
    folds = dict(zip([page.key for page in loaded], extractors.folds_of(loaded, given.folds), strict=True))
    ours = [name for name in names if extractors.is_curate(name)]
    curate = extractors.load_curate(given.folds, ours) if ours else None
    result: dict[str, Any] = about() | {
        "engines": {name: f"{(d := PEERS[name][0] if name in PEERS else 'curate-web')} {version(d)}" for name in names},
        "compared": base,
        "curate_model": "five folds by site" if curate and curate.by_fold else str(given.folds or "shipped"),
        "sets": {},
    }
    by_set: dict[str, list[data.Page]] = defaultdict(list)
    for page in loaded:
        if page.gold is not None or page.must or page.must_not:
            by_set[page.set].append(page)
    for name, members in by_set.items():
        if given.sets and name not in given.sets:
            continue
        pages = members[:: max(1, len(members) // given.limit)][: given.limit] if given.limit else members
        cache = given.cache / "bench-extract" if given.no_times else None
        runs = extractors.run(pages, names, curate, [folds[page.key] for page in pages], cache)
        found: dict[str, Any] = {
            "pages": len(pages),
            "kB_a_page": round(sum(len(page.html) for page in pages) / len(pages) / 1000),
        }
        if all(page.gold is not None for page in pages):
            found["gold"] = judges.judge_gold(pages, runs.texts, base)
        if any(page.must or page.must_not for page in pages) and "gold" not in found:
            found["snippets"] = judges.judge_snippets(pages, runs.texts, base)
        golds = judges.structures(name, pages, given.data, given.cache / "pages")
        if golds is not None:
            found |= judges.judge_structure(golds, runs.texts)
        if name == "pages-math-code":
            found["formulas"] = judges.judge_formulas(pages, runs.texts)
        if not given.no_times:
            found["time"] = judges.times(runs.seconds)
        found["errors"] = {name: dict(errors) for name, errors in runs.errors.items() if errors}
        result["sets"][name] = found
        print_set(console, name, found, names, base)
    if not given.no_worst:
        alone = [name for name in names if not name.startswith(extractors.CASCADE)]
        if "curate" in alone:
            alone.insert(alone.index("curate") + 1, extractors.MARKDOWN)
        result["worst"] = {name: hostile_pages.run_all(name, _model_option(name, given)) for name in alone}
        print_worst(console, result["worst"])
    return result


def _model_option(engine: str, given: argparse.Namespace) -> list[str]:
    ours = engine in ("curate", extractors.MARKDOWN)
    return ["--model", str(given.folds)] if ours and given.folds and given.folds.is_file() else []


def one(arguments: Sequence[str]) -> None:
    """`--one ENGINE PAGE [--model FILE]`: one engine on one hostile page; JSON on the last line."""
    name, page, *rest = arguments
    model = Path(rest[1]) if rest[:1] == ["--model"] else None
    if name in PEERS:
        engine = PEERS[name][1]()
    else:
        engine = extractors.curate_engine(model, markdown=name == extractors.MARKDOWN)
    print(json.dumps(hostile_pages.run_one(engine, page)), flush=True)


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--one"]:
        return one(arguments[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder with the archives of pages")
    parser.add_argument("--extra", type=Path, help="a folder with the packages of further gold pages")
    parser.add_argument(
        "--engines", default=",".join(["curate", "curate+0.6", *PEERS]), type=lambda given: given.split(",")
    )
    parser.add_argument("--folds", type=Path, help="a folder of five fold models, or one model file")
    parser.add_argument("--sets", type=lambda given: given.split(","), help="only these sets")
    parser.add_argument("--limit", type=int, help="so many pages of each set, spread over it")
    parser.add_argument("--no-times", action="store_true", help="texts of the other engines from the cache; no times")
    parser.add_argument("--no-worst", action="store_true", help="without the hostile pages")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if unknown := {name for name in given.engines if name not in PEERS and not extractors.is_curate(name)}:
        parser.error(f"no engine {', '.join(sorted(unknown))}; there are curate, {', '.join(PEERS)}")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    try:
        result = measure(given, Console(width=None if sys.stdout.isatty() else 160))
    except UsageError as error:
        sys.exit(f"bench/extract.py: {error}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
