"""The HTML report as several tests read it: elements, texts and tables."""

from __future__ import annotations

from html.parser import HTMLParser

from curate.pipeline.workspace import Workspace
from curate.report.build import build_report


class Page(HTMLParser):
    """Every element with its attributes, every text, and the tables as rows of cell texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._cell = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data

    def row(self, *first: str) -> list[str]:
        """The first table row that begins with these cells."""
        return next(row for row in self.rows if tuple(row[: len(first)]) == first)

    def stage(self, name: str) -> list[str]:
        """The row of the table of sums."""
        return next(row for row in self.rows if row[0] == name and len(row) == 8)


def read(workspace: Workspace) -> tuple[str, Page]:
    with workspace.open(build_report(workspace)) as stream:
        html = stream.read().decode()
    return html, Page(html)


def whole(cell: str) -> int:
    return int(cell.replace(",", ""))
