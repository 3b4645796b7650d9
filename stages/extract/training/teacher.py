"""What other engines make of pages: texts to learn from where nobody wrote gold down, and to doubt gold by.

    python -m curate.stages.extract.training.teacher DATA CACHE [--extra EXTRA] [--sets NAME …] [--out FOLDER]

Writes OUT/SET.jsonl (CACHE/teacher by default), one line a page and engine: set, id, engine, text. Lines that are there stay: a
run that was stopped goes on. trafilatura takes 20 to 60 ms a page.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from curate.stages.extract import charset
from curate.stages.extract.training import data, metric
from curate.stages.extract.training.data import Page

DOUBTED = 0.3

Texts = dict[tuple[str, str], str]
"""(page key, engine) to text."""


def trafilatura_text(source: str) -> str:
    """trafilatura with its default settings, without comments."""
    import trafilatura

    return trafilatura.extract(source, include_comments=False) or ""


def resiliparse_text(source: str) -> str:
    """resiliparse's main content without comments and post meta."""
    from resiliparse.extract.html2text import extract_plain_text

    text: str = extract_plain_text(
        source, preserve_formatting=True, main_content=True, list_bullets=True, alt_texts=False, links=False,
        form_fields=False, noscript=False, comments=False, post_meta=False,
    )  # fmt: skip
    return text


ENGINES: dict[str, Callable[[str], str]] = {"trafilatura": trafilatura_text, "resiliparse": resiliparse_text}


def teach(pages: Sequence[Page], folder: Path, engines: Iterable[str] = tuple(ENGINES)) -> None:
    """Writes the engines' texts of the pages that `folder` does not have yet."""
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    known = read(folder)
    for name in dict.fromkeys(page.set for page in pages):
        path = folder / f"{name}.jsonl"
        if path.exists() and not (written := path.read_bytes()).endswith(b"\n"):
            path.write_bytes(written[: written.rfind(b"\n") + 1])  # a run was killed in the middle of a line
        with path.open("a", encoding="utf-8") as stream:
            for page in pages:
                missing = [engine for engine in engines if (page.key, engine) not in known]
                if page.set != name or not missing:
                    continue
                source = charset.decode(page.html)[0]
                for engine in missing:
                    row = {
                        "set": name,
                        "id": page.id,
                        "engine": engine,
                        "text": charset.clean(ENGINES[engine](source)).strip(),
                    }
                    stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read(folder: Path) -> Texts:
    """Every text that `teach` wrote into a folder; a line cut short at a file's end is left out."""
    texts = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text("utf-8").split("\n")[:-1]:  # what follows the last line break is empty or cut short
            row = json.loads(line)
            texts[f"{row['set']}/{row['id']}", row["engine"]] = row["text"]
    return texts


def doubtful(pages: Iterable[Page], texts: Texts) -> list[Page]:
    """Pages whose gold no engine comes near (F1 below .3 for each of them): cut short, or of something else on the page."""
    found = []
    for page in pages:
        known = [texts[page.key, engine] for engine in ENGINES if (page.key, engine) in texts]
        if page.gold is not None and known and max(metric.f1(page.gold, text) for text in known) < DOUBTED:
            found.append(page)
    return found


def grounded(page: Page) -> float:
    """The share of the gold's word 4-grams that stand in the text that the page shows, from 0 to 1; 1 without gold.

    Low where the gold is a summary in other words, or of content that only scripts put there: nothing to learn from.
    """
    from resiliparse.extract.html2text import extract_plain_text

    if page.gold is None:
        return 1.0
    shown = extract_plain_text(
        charset.decode(page.html)[0], main_content=False, preserve_formatting=True, noscript=True
    )
    return metric.score(page.gold, shown).recall


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m curate.stages.extract.training.teacher", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--extra", type=Path)
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pages = data.load(given.data, given.cache, sets=given.sets, extra=given.extra)
    teach(pages, given.out or given.cache / "teacher")


if __name__ == "__main__":
    main()
