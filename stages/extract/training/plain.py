"""Plain text of HTML that holds main content and nothing else: gold out of cleaned pages and of known main elements."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_APART = "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form h1"
_APART += " h2 h3 h4 h5 h6 header hr main nav ol p pre section summary table ul"
_LINES = "br li option tr"
_SILENT = "script style noscript template svg head title object iframe select textarea button"
_PARAGRAPH, _LINE = "\uf8f0", "\uf8f1"
_BOUNDS = dict.fromkeys(_APART.split(), _PARAGRAPH) | dict.fromkeys(_LINES.split(), _LINE) | {"td": " ", "th": " "}
_SKIPPED = frozenset(_SILENT.split())
_KEPT = {ord("\n"): "\uf8f2", ord(" "): "\uf8f3", ord("\t"): "\uf8f4", ord("\r"): None}
_WRITTEN = {ord("\uf8f2"): "\n", ord("\uf8f3"): " ", ord("\uf8f4"): "\t"}


class _Text(HTMLParser):
    """Collects text: a private character for a paragraph's bounds, one for a line's, and one for each white space of `pre`."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent = 0
        self.preformatted = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._bound(tag, +1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._bound(tag, 0)

    def handle_endtag(self, tag: str) -> None:
        self._bound(tag, -1)

    def _bound(self, tag: str, step: int) -> None:
        if tag in _SKIPPED:
            self.silent = max(0, self.silent + step)
        if tag == "pre":
            self.preformatted = max(0, self.preformatted + step)
        bound = _BOUNDS.get(tag, "")
        if step >= 0 or bound == _PARAGRAPH:  # an item or a row ends where the next one begins
            self.parts.append(bound)

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(data.translate(_KEPT) if self.preformatted else data)


def text_of(clean: str) -> str:
    """The text of HTML that holds main content only: paragraphs apart by blank lines, list items and table rows by line breaks,
    `pre` as written."""
    parser = _Text()
    parser.feed(clean)
    parser.close()
    paragraphs = []
    for block in "".join(parser.parts).split(_PARAGRAPH):
        lines = [line.strip(" ") for line in re.sub(r"[^\S\xa0]+", " ", block).split(_LINE)]
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip("\n")).translate(_WRITTEN).strip("\n")
        if text.strip():
            paragraphs.append(text)
    return "\n\n".join(paragraphs)
