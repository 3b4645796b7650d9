"""Web pages to train and measure the extractor on, read from folders of archives, never committed.

    from curate.stages.extract.training import data
    pages = data.load(DATA, CACHE)                   # the shared sets, in DATA as NAME.tar.xz
    pages = data.load(DATA, CACHE, extra=EXTRA)      # and those of `extra.py`, in EXTRA as packages
    for page in data.trainable(pages): ...
    folds = data.folds_of(pages)                     # 0 … 4 a page; a site, and a page that two sets share, in one fold

Archives are unpacked once into CACHE. The sets:

    pages-2026       pages of 2026 with gold text and page type; Apache-2.0
    pages-reader     articles with gold text (of a cleaned HTML); Apache-2.0
    pages-snippets   pages with snippets that must and must not appear; Apache-2.0
    pages-math-code  mathematics, code, tables; no licence stated: measured, never trained on
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from curate.pipeline.errors import UsageError, nearest
from curate.stages.extract import charset, page
from curate.stages.extract.training.plain import text_of

Role = Literal["train", "teacher", "measure"]
"""`train`: has gold or snippets and may be trained on. `teacher`: has neither; another engine's text has to stand in.
`measure`: never trained on."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as fetched, and what is known of its main content.

    `site` is the registered domain, or a name of its own where the address is unknown; `gold` the main text, paragraphs
    apart by blank lines, None where nobody wrote it down; `must` and `must_not` are snippets that the text has to hold, or
    not to.
    `language` (ISO 639-1) is what `language_of` says; None where it cannot be told.
    """

    set: str
    id: str
    url: str | None
    site: str
    page_type: str | None
    html: bytes
    gold: str | None
    must: tuple[str, ...]
    must_not: tuple[str, ...]
    language: str | None
    licence: str
    role: Role

    @property
    def key(self) -> str:
        """Set and id: one name for a page among all sets."""
        return f"{self.set}/{self.id}"


Loader = Callable[[Path], Iterator[Page]]


def load(
    data: Path | str, cache: Path | str, *, sets: Sequence[str] | None = None, extra: Path | str | None = None
) -> list[Page]:
    """The pages of `sets` (all by default), in the sets' order, then by id.

    `data` holds the shared archives, `extra` the packages of `extra.download`; both are unpacked into `cache`. Raises
    UsageError for a set that is not known or whose archive is not there.
    """
    from curate.stages.extract.training import extra as packages

    known = (*SETS, *(packages.SETS if extra is not None else ()))
    for name in sets or ():
        if name not in known:
            raise UsageError(f"no set of pages named {name!r}{nearest(name, known)}")
    pages = []
    for name in known if sets is None else sets:
        if name in SETS:
            loaded = SETS[name](unpack(Path(data), f"{name}.tar.xz", Path(cache)) / name)
        else:
            loaded = packages.SETS[name](Path(str(extra)), Path(cache))
        pages += sorted(loaded, key=lambda found: found.id)
    return pages


def trainable(pages: Iterable[Page]) -> list[Page]:
    """The same pages. Raises UsageError if one of them is for measuring only."""
    pages = list(pages)
    for one in pages:
        if one.role == "measure":
            raise UsageError(f"{one.key} is for measuring only: leave the set {one.set} out of training")
    return pages


# --- folds ------------------------------------------------------------------------------------------------------------


def fold(site: str, folds: int = 5, seed: int = 0) -> int:
    """The part (0 … folds - 1) of a split in which all pages of a site lie: the same in any set, on any machine."""
    digest = hashlib.sha256(f"{seed}\0{site}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % folds


def folds_of(pages: Sequence[Page], folds: int = 5, seed: int = 0) -> list[int]:
    """The fold of each page: its site's, or, where sets share a page under different sites, that of the first site by name.

    Pages of one site are always in one fold. Which fold a site is in changes with the pages given only if a page links it to
    another site.
    """
    parent: dict[str, str] = {one.site: one.site for one in pages}

    def root(site: str) -> str:
        while parent[site] != site:
            parent[site] = site = parent[parent[site]]
        return site

    for first, second, _ in duplicates(pages):
        low, high = sorted((root(first.site), root(second.site)))
        parent[high] = low
    return [fold(root(one.site), folds, seed) for one in pages]


def duplicates(pages: Sequence[Page]) -> list[tuple[Page, Page, str]]:
    """Pages that are, or may be, the same, and why: `address`, `content` (the same bytes) or `title` (a title of four words or
    more, in another set or on the same site). Each page is paired with the first like it."""
    found = []
    seen: dict[tuple[str, str], Page] = {}
    for one in pages:
        text = charset.decode(one.html)[0]
        title = _folded(page.title_of(text) or "")
        keys = [("content", hashlib.sha256(one.html).hexdigest())]
        if one.url and (address := _address(one.url)):
            keys.append(("address", address))
        if len(title.split()) >= 4:
            keys.append(("title", title))
        for kind, value in keys:
            other = seen.setdefault((kind, value), one)
            if other is not one and (kind != "title" or other.set != one.set or other.site == one.site):
                found.append((other, one, kind))
                break
    return found


def _address(url: str) -> str:
    """A URL as far as it tells pages apart: host without www, path without a slash at its end, query."""
    try:
        parts = urlsplit(unarchived(url))
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return ""
    return f"{host}{parts.path.rstrip('/')}?{parts.query}" if host else ""


def _folded(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


# --- addresses and sites ----------------------------------------------------------------------------------------------

_ARCHIVED = re.compile(r"^https?://web\.archive\.org/web/[^/]+/(?=https?:/)(.*)", re.IGNORECASE)


def unarchived(url: str) -> str:
    """The address that a copy in the Internet Archive is of; any other address as it is."""
    found = _ARCHIVED.match(url)
    return re.sub(r"^(https?:)/+", r"\1//", found[1], flags=re.IGNORECASE) if found else url


def site_of(url: str) -> str:
    """The registered domain of a URL or of a name that begins with a host (`laestrella.com.pa-laboral.html`), by the public
    suffix list that comes with trafilatura's `tld`, without the private suffixes: all of wordpress.com is one site. The host
    where it has none; `` without a host."""
    name = unarchived(url.rpartition("::")[2])
    if "//" in name:
        return _registered(name) or (urlsplit(name).hostname or "").removeprefix("www.")
    parts = re.split(r"[.\-/]", name)
    hosts = [".".join(parts[: end + 1]) for end in range(1, len(parts))]
    for shorter, longer in zip(hosts, [*hosts, ""][1:], strict=True):
        if _registered(f"http://{shorter}/"):
            return _registered(
                f"http://{longer}/" if _registered(f"http://{longer}/") == longer else f"http://{shorter}/"
            )
    return ""


@functools.cache
def _registered(url: str) -> str:
    from tld import get_fld  # what courlan, and so trafilatura, reads hosts with

    try:
        return get_fld(url, fail_silently=True) or ""
    except ValueError:
        return ""


def declared_url(source: str) -> str | None:
    """What a page says its address is: `link rel=canonical`, else `og:url`; None where it names no site of its own."""
    from resiliparse.parse.html import HTMLTree

    document: Any = HTMLTree.parse(source).document
    for selector, attribute in (("link[rel=canonical]", "href"), ("meta[property='og:url']", "content")):
        for node in document.query_selector_all(selector):
            url = (node.getattr(attribute) or "").strip()
            if url.startswith(("http://", "https://")) and _registered(url):
                return url
    return None


def _words(text: str) -> list[str]:
    return text.split()


# --- languages --------------------------------------------------------------------------------------------------------


_DETECTED = _words(
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko la lt lv my ne nl no pl pt ro ru sk sl sv th tr uk vi zh"
)
"""What is looked for: without the languages that short texts of their neighbours are taken for (lb, fy, af, gl, br)."""


def language_of(source: str, text: str) -> str | None:
    """ISO 639-1, by resiliparse: that of the text, and of what the page says where the text is short; the declared one where
    that is about as likely, or where there is nothing to tell it by."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.lang import detect_fast

    declared = (page.language_of(source) or "").partition("-")[0] or None
    if len(text) < 500:
        text += "\n" + extract_plain_text(source, main_content=True, preserve_formatting=False)[:3000]
    if sum(char.isalpha() for char in text) < 20:
        return declared
    ranked: Any = detect_fast(text, n_results=5, langs=_DETECTED)
    found = [(name, distance) for name, distance in ranked if distance < 1200]
    if not found or any(name == declared and distance - found[0][1] < 60 for name, distance in found):
        return declared
    return str(found[0][0])


# --- the shared sets --------------------------------------------------------------------------------------------------


def _pages_2026(folder: Path) -> Iterator[Page]:
    for row in json_lines(folder / "gold.jsonl"):
        source = (folder / "pages" / f"{row['id']}.html").read_bytes()
        yield make(
            "pages-2026", row["id"], source, url=row["url"], page_type=row["page_type"], gold=row["text"],
            must=row["with_"], must_not=row["without"],
        )  # fmt: skip


def _pages_reader(folder: Path) -> Iterator[Page]:
    rows = list(json_lines(folder / "gold.jsonl"))
    sources = {row["id"]: (folder / "pages" / f"{row['id']}.html").read_bytes() for row in rows}
    urls = {name: declared_url(charset.decode(source)[0]) for name, source in sources.items()}
    # Pages of one site are numbered: `nytimes-1`, `nytimes-2`; one that tells its address tells it for the others.
    stems = {_stem(name): url for name, url in urls.items() if url}
    for row in rows:
        url = urls[row["id"]]
        near = url or stems.get(_stem(row["id"]))
        yield make(
            "pages-reader", row["id"], sources[row["id"]], url=url, page_type="article", gold=text_of(row["expected_html"]),
            site=site_of(near) if near else f"pages-reader:{_stem(row['id'])}",
        )  # fmt: skip


def _stem(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def _pages_snippets(folder: Path) -> Iterator[Page]:
    for row in json_lines(folder / "gold.jsonl"):
        source = (folder / "pages" / f"{row['id']}.html").read_bytes()
        url = row["url"] if "//" in row["url"] else declared_url(charset.decode(source)[0])
        yield make(
            "pages-snippets", row["id"], source, url=url, site=site_of(row["url"]) or None,
            must=row["with_"], must_not=row["without"],
        )  # fmt: skip


def _pages_math_code(folder: Path) -> Iterator[Page]:
    for path in sorted((folder / "gold").glob("*.jsonl")):
        (row,) = json_lines(path)
        source = (folder / "pages" / f"{path.stem}.html").read_bytes()
        gold = row["content"].strip("\u200b \n") or text_of(row["main_html"]) or None
        yield make(
            "pages-math-code", path.stem, source, url=row["url"], page_type=path.stem.partition("_")[0], gold=gold,
            licence="none stated", role="measure",
        )  # fmt: skip


SETS: dict[str, Loader] = {
    "pages-2026": _pages_2026,
    "pages-reader": _pages_reader,
    "pages-snippets": _pages_snippets,
    "pages-math-code": _pages_math_code,
}


def make(
    name: str,
    identity: str,
    source: bytes,
    *,
    url: str | None,
    site: str | None = None,
    page_type: str | None = None,
    gold: str | None = None,
    must: Iterable[str] = (),
    must_not: Iterable[str] = (),
    language: str | None = None,
    licence: str = "Apache-2.0",
    role: Role = "train",
) -> Page:
    """A page of a set: site and language found out where they are not given."""
    assert role in get_args(Role)
    must = tuple(must)
    site = site or (site_of(url) if url else "") or f"{name}:{identity}"
    language = language or language_of(charset.decode(source)[0], gold or "\n".join(must))
    return Page(name, identity, url, site, page_type, source, gold, must, tuple(must_not), language, licence, role)


# --- files ------------------------------------------------------------------------------------------------------------


def unpack(folder: Path, archive: str, cache: Path) -> Path:
    """The folder in `cache` with the content of a tar archive of `folder`, unpacked once. Links and names that lead out of it
    are refused (tarfile's `data` filter); a half-unpacked archive is never seen."""
    path = folder / archive
    if not path.is_file():
        raise UsageError(f"no {archive} in {folder}")
    done = cache / f"{archive}-{path.stat().st_size}"
    if not done.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f"{archive}.", dir=cache))
        try:
            with tarfile.open(path) as tar:
                tar.extractall(part, filter="data")
            settle(part, done)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return done


def settle(part: Path, done: Path) -> None:
    """Gives an unpacked folder its name; that of another process, if it was there first, stays."""
    try:
        part.rename(done)
    except OSError:
        if not done.is_dir():
            raise


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)
