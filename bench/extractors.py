"""The engines that bench/extract.py compares, and how they are run: in turns on each page, in this process, on one core."""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.pipeline.errors import UsageError
from curate.pipeline.stage import load
from curate.stages.extract import charset
from curate.stages.extract.charset import Source
from curate.stages.extract.training import data

Engine = Callable[[Source, str | None], str]
FOLDS = 5


CASCADE = "curate+"
"""A name such as `curate+0.6` is curate with trafilatura asked where confidence is lower."""


MARKDOWN = "curate, Markdown"
"""The engine `curate` writing Markdown: on the hostile pages, where that costs more."""


def curate_engine(model: Path | None, cascade: float = 0.0, markdown: bool = False) -> Engine:
    """Our engine with a given model file, or with the one that ships; below a confidence of `cascade` trafilatura's text is
    taken if it has one. Raises UsageError where there is no model."""
    extract_page = load("curate.stages.extract.content:extract_page")
    load("curate.stages.extract.content:warm")()
    loaded = load("curate.stages.extract.content:load_model")(model) if model else None
    second = _trafilatura()

    def engine(source: Source, url: str | None) -> str:
        found = extract_page(source.utf8, url, markdown=markdown, model=loaded)
        return (second(source, url) or found.text) if found.confidence < cascade else found.text

    return engine


def _trafilatura(**settings: Any) -> Engine:
    """The library as it comes: `trafilatura.extract(page)`, comments kept. Settings change that."""
    import trafilatura

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    return lambda source, url: trafilatura.extract(source.text, **settings) or ""


def _fineweb() -> Engine:
    """trafilatura as FineWeb runs it (datatrove), with a memory of repeated segments of its own for each page."""
    from trafilatura.deduplication import LRUCache

    def engine(source: Source, url: str | None) -> str:
        memory = LRUCache(maxsize=4096)
        return _trafilatura(favor_precision=True, include_comments=False, include_images=False, deduplicate=memory)(
            source, url
        )

    return engine


def _resiliparse() -> Engine:
    """DCLM's settings, without comments and post meta, which makes it more accurate."""
    from resiliparse.extract.html2text import extract_plain_text

    return lambda source, url: extract_plain_text(
        source.text,
        preserve_formatting=True,
        main_content=True,
        list_bullets=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,
        post_meta=False,
    )


PEERS: dict[str, tuple[str, Callable[[], Engine]]] = {
    "trafilatura": ("trafilatura", _trafilatura),
    "trafilatura-fast": ("trafilatura", lambda: _trafilatura(fast=True)),
    "trafilatura-fineweb": ("trafilatura", _fineweb),
    "resiliparse": ("resiliparse", _resiliparse),
}
"""Distribution, and the engine, by name."""


@dataclass(frozen=True)
class Curate:
    """curate's engine for a page: that of its fold for pages that may be trained on, else the shipped one."""

    shipped: dict[str, Engine]
    by_fold: Sequence[dict[str, Engine]] = ()

    def of(self, name: str, page: data.Page, fold: int) -> Engine:
        return (self.by_fold[fold] if self.by_fold and page.role != "measure" else self.shipped)[name]


def is_curate(name: str) -> bool:
    """True for `curate` and its cascades."""
    return name == "curate" or name.startswith(CASCADE)


def load_curate(folds: Path | None, names: Sequence[str]) -> Curate:
    """Those of `names` that are ours. `folds`: a folder with `fold0.*` … `fold4.*`, one model file for all pages, or None for
    the shipped model."""

    def engines(model: Path | None) -> dict[str, Engine]:
        return {name: curate_engine(model, float(name.partition("+")[2] or 0)) for name in names if is_curate(name)}

    if folds is None or folds.is_file():
        return Curate(engines(folds))
    return Curate(engines(None), [engines(_fold_model(folds, fold)) for fold in range(FOLDS)])


def _fold_model(folder: Path, fold: int) -> Path:
    found = sorted(path for path in folder.glob(f"fold{fold}.*") if path.suffix not in (".md", ".json"))
    if len(found) != 1:
        raise UsageError(f"one file named fold{fold}.* has to be in {folder}, not {len(found)}")
    return found[0]


def folds_of(pages: Sequence[data.Page], folder: Path | None) -> list[int]:
    """The fold of each page: as the training wrote it into `folds.json` (page key -> fold), else by `data.folds_of`."""
    listed = folder / "folds.json" if folder and folder.is_dir() else None
    if listed is None or not listed.is_file():
        return data.folds_of(pages)
    known: dict[str, int] = json.loads(listed.read_text("utf-8"))
    # A page that the training never saw can be judged by any model; by its site's fold, as if it had been seen.
    return [known.get(page.key, data.fold(page.site)) for page in pages]


# --- running ----------------------------------------------------------------------------------------------------------


@dataclass
class Runs:
    """Texts and CPU seconds by engine, one a page, in the pages' order; engines' exceptions by type."""

    texts: dict[str, list[str]]
    seconds: dict[str, list[float]]
    errors: dict[str, Counter[str]]


def run(
    pages: Sequence[data.Page], names: Sequence[str], curate: Curate | None, folds: Sequence[int], cache: Path | None
) -> Runs:
    """Every engine on every page. With a `cache`, texts of peers come from it where they can, and times mean nothing."""
    peers = {name: PEERS[name][1]() for name in names if not is_curate(name)}
    runs = Runs({name: [] for name in names}, {name: [] for name in names}, {name: Counter() for name in names})
    for page, fold in list(zip(pages, folds, strict=True))[:2]:
        for name in names:
            _timed(_engine(name, page, fold, peers, curate), charset.read(page.html), page.url)
    gc.collect()
    gc.freeze()
    for at, (page, fold) in enumerate(zip(pages, folds, strict=True)):
        source = charset.read(page.html)
        for name in _rotated(names, at):
            engine = _engine(name, page, fold, peers, curate)
            kept = cache / f"{name}-{version(PEERS[name][0])}" / _hash(source) if cache and name in PEERS else None
            if kept and kept.is_file():
                text, seconds, error = kept.read_text("utf-8"), 0.0, None
            else:
                gc.collect()
                text, seconds, error = _timed(engine, source, page.url)
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(charset.clean(text), "utf-8")
            runs.texts[name].append(text)
            runs.seconds[name].append(seconds)
            if error:
                runs.errors[name][error] += 1
    gc.unfreeze()
    return runs


def _engine(name: str, page: data.Page, fold: int, peers: dict[str, Engine], curate: Curate | None) -> Engine:
    if not is_curate(name):
        return peers[name]
    assert curate is not None
    return curate.of(name, page, fold)


def _timed(engine: Engine, source: Source, url: str | None) -> tuple[str, float, str | None]:
    started = time.process_time()
    try:
        text, error = engine(source, url), None
    except Exception as raised:  # noqa: BLE001 - an engine that raises has found nothing
        text, error = "", type(raised).__name__
    return text, time.process_time() - started, error


def _rotated(names: Sequence[str], by: int) -> list[str]:
    by %= len(names)
    return [*names[by:], *names[:by]]


def _hash(source: Source) -> str:
    return hashlib.sha256(source.utf8).hexdigest()[:32]


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
