"""Text out of HTML, by whichever engine: one function in front of them all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from curate.pipeline.stage import load
from curate.stages.extract import charset, page


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a page says: its main text (empty if there is none), title and declared language."""

    text: str
    title: str | None = None
    language: str | None = None


Engine = Callable[[str, str | None], str]


def extract(html: bytes | str, *, url: str | None = None, engine: str = "trafilatura") -> Extraction:
    """Main text, title and declared language of a page, in this process and without limits: for trusted or small input.

    `engine` is a name or `module:function`. Bytes are decoded by `charset.decode`. Raises what the engine raises.
    """
    source = charset.decode(html)[0] if isinstance(html, bytes) else charset.clean(html)
    return Extraction(main_text(source, url, engine), page.title_of(source), page.language_of(source))


def main_text(source: str, url: str | None, engine: str) -> str:
    """The main text by an engine: valid Unicode, no space at its ends."""
    text = engine_of(engine)(source, url)
    if not isinstance(text, str):
        raise TypeError(f"engine {engine} gave a {type(text).__name__}, not a str")
    return charset.clean(text).strip()


@functools.cache
def engine_of(name: str) -> Engine:
    """The engine of a name, or one's own by `module:function`. Raises UsageError where that cannot be loaded."""
    if name == "trafilatura":
        return _trafilatura()
    if name == "resiliparse":
        return _resiliparse()
    engine: Engine = load(name)
    return engine


def _trafilatura() -> Engine:
    """FineWeb's settings (datatrove): favour precision, no comments, no images, repeated segments once. Lines are
    paragraphs; list items begin with `- `.

    Trafilatura's own memory of segments spans all pages that a process has seen, so a page's text would depend on the
    pages before it; here each page has its own.
    """
    import logging

    import trafilatura
    from trafilatura.deduplication import LRUCache

    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)

    def engine(source: str, url: str | None) -> str:
        text = trafilatura.extract(
            source,
            url=url,
            favor_precision=True,
            include_comments=False,
            include_images=False,
            deduplicate=LRUCache(maxsize=4096),
        )
        return text or ""

    return engine


def _resiliparse() -> Engine:
    """Main content with formatting kept, no comments, no alternative texts, no forms (DCLM's settings without comments)."""
    from resiliparse.extract.html2text import extract_plain_text

    def engine(source: str, url: str | None) -> str:
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

    return engine
