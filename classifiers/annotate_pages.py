"""The pages that `curate annotate` asks about: rows of JSONL and Parquet, all of them or a sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from curate.classifiers.annotate import Page, content_id, draw
from curate.classifiers.rows import Columns, Tally, clean, raw_rows, text_of


class Pages:
    """The pages to ask about, read anew for each pass; a sample is held in memory."""

    def __init__(
        self, patterns: Sequence[str], text: str | None, url: str | None, id: str | None, sample: int | None, seed: int
    ) -> None:
        self._patterns = patterns
        optional = frozenset(name for name, given in (("url", url), ("id", id)) if not given)
        self._columns = Columns(text=text or "text", url=url or "url", id=id or "id", optional=optional)
        self.tally = Tally()
        self._drawn: list[Page] | None = None
        if sample is not None:
            self._drawn = draw(self._read(self.tally), sample, seed)
            self.count, self.characters = len(self._drawn), sum(len(page.text) for page in self._drawn)
        else:
            self.count = self.characters = 0
            for page in self._read(self.tally):
                self.count, self.characters = self.count + 1, self.characters + len(page.text)

    def __iter__(self) -> Iterator[Page]:
        return iter(self._drawn) if self._drawn is not None else self._read(Tally())

    def _read(self, tally: Tally) -> Iterator[Page]:
        for raw in raw_rows(self._patterns, self._columns, tally):
            text = raw.values.get("text")
            if raw.problem is not None or not isinstance(text, str) or not text.strip():
                tally.left_out[raw.problem or "no text"] += 1
                continue
            text = clean(text)
            tally.used += 1
            yield Page(text_of(raw.values.get("id")) or content_id(text), text_of(raw.values.get("url")), text)
