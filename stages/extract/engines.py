"""Text out of HTML, by whichever engine: one function in front of them all, and several engines behind one another."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from curate.pipeline.errors import UsageError
from curate.pipeline.stage import load
from curate.stages.extract import charset, limits, page
from curate.stages.extract.charset import Source
from curate.stages.extract.config import DEFAULT_ENGINE, MAX_BYTES, UNION, ExtractConfig, Settings
from curate.stages.extract.payload import cut

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a page says: its main text (empty if there is none), title and declared language, whether the text holds
    mathematics, how sure the engine is of it (0 to 1; None of one that cannot say), and which engine's text it is."""

    text: str
    title: str | None = None
    language: str | None = None
    has_math: bool = False
    confidence: float | None = None
    engine: str = ""


class TooComplex(Exception):
    """A page that no parser is given: `reason` is `too_deep` or `too_many_nodes`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Found:
    """What one engine makes of a page."""

    text: str
    has_math: bool
    engine: str
    title: str | None = None
    confidence: float | None = None


Engine = Callable[[Source, str | None, Settings], Found]


def extract(
    html: bytes | str,
    *,
    url: str | None = None,
    engine: str = DEFAULT_ENGINE,
    output: Literal["text", "markdown"] = "text",
    math: bool = True,
    links: bool = False,
) -> Extraction:
    """Main text, title, declared language, mathematics and confidence of a page, in this process.

    Bytes are decoded by `charset.decode`; a page of more than 8 MiB is cut there. `engine` is a name, `union` or
    `module:function`; `output` what it writes; `math` whether the engine `curate` writes formulas as LaTeX, `links` whether
    it writes the targets of links into Markdown. `curate` takes any bytes and raises nothing. The others build trees, in a
    time that grows with the square of the depth: from them a page with elements nested more than 2,000 deep, or with more
    than 200,000 tags, gets an empty text. Beyond that they have no limits here (the stage has: CPU time, memory, a process
    of their own) and raise what they raise.
    Raises UsageError for an engine that is not there, or one that cannot write that output.
    """
    settings = _settings(engine, output, math, links)
    source = charset.read(cut(html, MAX_BYTES)) if isinstance(html, bytes) else charset.source_of(html, MAX_BYTES)
    try:
        found = find(source, url, settings)
    except TooComplex:
        found = Found("", False, settings.engines[-1])
    title, language = found.title or page.title_of(source.text), page.language_of(source.text)
    return Extraction(found.text, title, language, found.has_math, found.confidence, found.engine)


@functools.cache
def _settings(engine: str, output: str, math: bool, links: bool) -> Settings:
    try:
        return ExtractConfig(engine=engine, output=output, math=math, links=links).settings()  # type: ignore[arg-type]
    except ValidationError as error:
        raise UsageError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def find(source: Source, url: str | None, settings: Settings) -> Found:
    """The main text of a page by the engine, or by the first that finds it: valid Unicode without control characters.

    Raises TooComplex, and what the engine raises; where several may be asked, only if none of them gives a text.
    """
    if settings.cascade is not None:
        return _cascade(source, url, settings, settings.cascade)
    if settings.engine == UNION:
        return _union(source, url, settings)
    return engine_of(settings.engine)(source, url, settings)


def _cascade(source: Source, url: str | None, settings: Settings, threshold: float) -> Found:
    """The first engine's text, or the second's where the first is unsure and the second finds any. The confidence stays the
    first one's."""
    first, second = settings.engines
    found = engine_of(first)(source, url, settings)
    if found.confidence is None or found.confidence >= threshold:
        return found
    try:
        other = engine_of(second)(source, url, settings)
    except MemoryError:
        raise  # depends on what the process did before: another tries again
    except Exception:  # noqa: BLE001 - any engine, any page: there is a text already
        return found
    if not other.text:
        return found
    return Found(other.text, other.has_math, other.engine, found.title or other.title, found.confidence)


def _union(source: Source, url: str | None, settings: Settings) -> Found:
    """The text of the first engine that gives enough words, else the first that is not empty."""
    best: Found | None = None
    wrong: Exception | None = None
    for name in settings.engines:
        try:
            found = engine_of(name)(source, url, settings)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - any engine, any page: the next one may find it
            wrong = error
            continue
        if _has_words(found.text, settings.least_words):
            return found
        if best is None or (found.text and not best.text):
            best = found
    if wrong is not None and (best is None or not best.text):
        raise wrong
    assert best is not None
    return best


def _has_words(text: str, least: int) -> bool:
    words = _WORD.finditer(text)
    return all(next(words, None) is not None for _ in range(least))


def prepare(settings: Settings) -> None:
    """Loads every engine that may be asked, and has each do what it does only once. Raises UsageError where that fails."""
    sample = charset.read(b"<html><body><p>Warm up.</p></body></html>")
    limits.measure(sample.utf8, settings.max_depth)
    for name in settings.engines:
        engine = engine_of(name)
        if name == "curate":
            load("curate.stages.extract.content:warm")()
        if ":" not in name:
            engine(sample, None, settings)


@functools.cache
def engine_of(name: str) -> Engine:
    """The engine of a name, or one's own by `module:function`. Raises UsageError where that cannot be loaded."""
    if name == "curate":
        return _curate()
    if name == "trafilatura":
        return _tree_engine(name, _trafilatura())
    if name == "resiliparse":
        return _tree_engine(name, _resiliparse())
    own: Callable[[str, str | None], str] = load(name)
    return _tree_engine(name, lambda source, url, output: own(source, url))


def _curate() -> Engine:
    """Our own, which takes any bytes in linear time: it needs no limit on depth or nodes."""
    extract_page = load("curate.stages.extract.content:extract_page")
    try:
        load("curate.stages.extract.content:load_model")()
    except (OSError, ValueError) as error:
        raise UsageError(f"engine curate has no model: {error}") from error

    def engine(source: Source, url: str | None, settings: Settings) -> Found:
        markdown = settings.output == "markdown"
        content = extract_page(source.utf8, url, markdown=markdown, math=settings.math, links=settings.links)
        title = charset.tidy(content.title).strip() or None if content.title else None
        return Found(charset.tidy(content.text), bool(content.has_math), "curate", title, float(content.confidence))

    return engine


def _tree_engine(name: str, text_of: Callable[[str, str | None, str], str]) -> Engine:
    """An engine that builds a tree by a parser of which we know nothing good: it is shown no page over the limits."""

    def engine(source: Source, url: str | None, settings: Settings) -> Found:
        tags, depth = limits.measure(source.utf8, settings.max_depth)
        if depth > settings.max_depth:
            raise TooComplex("too_deep", f"elements nested more than {settings.max_depth} deep")
        if tags > settings.max_nodes:
            raise TooComplex("too_many_nodes", f"{tags} start tags, {settings.max_nodes} allowed")
        text = text_of(source.text, url, settings.output)
        if not isinstance(text, str):
            raise TypeError(f"engine {name} gave a {type(text).__name__}, not a str")
        text = charset.tidy(text).strip()
        return Found(text, page.has_math(text), name)

    return engine


def _trafilatura() -> Callable[[str, str | None, str], str]:
    """FineWeb's settings (datatrove): favour precision, no comments, no images, repeated segments once. Lines are
    paragraphs; list items begin with `- `.

    Trafilatura's own memory of segments spans all pages that a process has seen, so a page's text would depend on the
    pages before it; here each page has its own.
    """
    import logging

    import trafilatura
    from trafilatura.deduplication import LRUCache

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

    def text_of(source: str, url: str | None, output: str) -> str:
        text = trafilatura.extract(
            source,
            url=url,
            favor_precision=True,
            include_comments=False,
            include_images=False,
            output_format="markdown" if output == "markdown" else "txt",
            deduplicate=LRUCache(maxsize=4096),
        )
        return text or ""

    return text_of


def _resiliparse() -> Callable[[str, str | None, str], str]:
    """Main content with formatting kept, no comments, no alternative texts, no forms (DCLM's settings without comments)."""
    from resiliparse.extract.html2text import extract_plain_text

    def text_of(source: str, url: str | None, output: str) -> str:
        text: str = extract_plain_text(
            source,
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
        return text

    return text_of
