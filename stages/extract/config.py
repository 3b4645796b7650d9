"""The recipe's `extract:` section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest
from curate.stages.urls.lists import UrlLists

ENGINES = ("curate", "trafilatura", "resiliparse")
"""The engines that come with curate; `module:function` names the user's own, and UNION several at once."""
UNION = "union"
DEFAULT_ENGINE = "curate"
MAX_BYTES, MAX_DEPTH, MAX_NODES = 8 << 20, 2_000, 200_000
"""The limits on a page where nobody says otherwise: 8 MiB, elements nested so deep, so many start tags."""
OUTPUTS = {"curate": ("text", "markdown"), "trafilatura": ("text", "markdown"), "resiliparse": ("text",)}
"""What each engine can write; one of the user's own gives its text as it is."""

_OWN_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _check_engine(name: str, valid: tuple[str, ...] = ENGINES) -> None:
    if name not in valid and not _OWN_ENGINE.fullmatch(name):
        raise ValueError(f"no engine named {name!r}{nearest(name, valid)} (or module:function of your own)")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an engine sees of the configuration.

    `engine` is `union` where `engines` are asked one after another until one gives `least_words`; with `cascade` the second
    of `engines` is asked where the first is less confident than that.
    """

    engine: str
    engines: tuple[str, ...]
    output: str = "text"
    math: bool = True
    links: bool = False
    cascade: float | None = None
    least_words: int = 50
    max_depth: int = MAX_DEPTH
    max_nodes: int = MAX_NODES


class AdmissionConfig(UrlLists):
    """Which URLs are let in, decided before a page is parsed: those on a list, or with banned words, are not."""

    takedown: str | None = Field(default=None, json_schema_extra={"file": True})
    """File of URLs and hosts whose owners want no part in this, one a line; a host covers everything below it."""
    blocked_domains: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files as `blocklists` has them."""
    blocked_hosts: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files of host names, one a line, matched exactly; `#` starts a comment."""
    blocked_urls: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files of URLs, one a line, matched without scheme and fragment."""
    soft_words_limit: int = Field(default=2, ge=1, le=100)
    """A URL with at least so many different soft words is dropped."""

    @field_validator("takedown", "blocked_domains", "blocked_hosts", "blocked_urls")
    @classmethod
    def _files_exist(cls, value: str | list[str] | None) -> str | list[str] | None:
        for name in [value] if isinstance(value, str) else value or []:
            if not Path(name).is_file():
                raise ValueError(f"no such file: {name}")
        return value


class UnionConfig(Strict):
    """Several engines on every page: the first in order that finds the page gives its text."""

    engines: list[str] = Field(default_factory=lambda: list(ENGINES), min_length=2)
    """The engines, in the order in which they are asked. The next is asked only where those before it found nothing."""
    least_words: int = Field(default=50, ge=1, le=100_000)
    """A text of so many words counts as finding the page: the least that Gopher's rules keep (Rae et al. 2021, A1.1).
    Where no engine gives so many, the first text that is not empty is taken."""

    @field_validator("engines")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        for name in value:
            _check_engine(name)
            if value.count(name) > 1:
                raise ValueError(f"{name!r} is named twice")
        return value


class ExtractConfig(Strict):
    """How documents come out of records, and the limits on a record."""

    engine: str = Field(default=DEFAULT_ENGINE, json_schema_extra={"module": True})
    """`curate`, `trafilatura` (FineWeb's settings), `resiliparse` (main content), `union` (several, see `union`), or
    `module:function` of one's own: `(html: str, url: str | None) -> str`."""
    output: Literal["text", "markdown"] = "text"
    """Plain text, or Markdown (engines `curate` and `trafilatura`)."""
    math: bool = True
    """Whether the engine `curate` writes formulas as LaTeX; the others know none."""
    links: bool = False
    """Whether the engine `curate` writes the targets of links into Markdown."""
    cascade: float | None = Field(default=None, gt=0, le=1)
    """With the engine `curate`: on a page of which it is less confident than this, trafilatura is asked, and its text taken
    where it has any. null: never."""
    union: UnionConfig | None = None
    """With the engine `union`: which engines, and what counts as finding a page."""
    max_bytes: int = Field(default=MAX_BYTES, ge=1 << 10, le=1 << 30)
    """A page, after content decoding, or a text longer than this is cut, and its column `truncated` says `max_bytes`."""
    max_depth: int = Field(default=MAX_DEPTH, ge=16, le=1_000_000)
    """A page with elements nested deeper, by a scan of its bytes, is quarantined as `too_deep`: parsers that build trees take
    minutes on it. The engine `curate` does not, and knows no such limit."""
    max_nodes: int = Field(default=MAX_NODES, ge=100, le=100_000_000)
    """A page with more start tags is quarantined as `too_many_nodes`, by any engine but `curate`."""
    cpu_seconds: float = Field(default=30.0, ge=0.1, le=3600)
    """CPU time for one page, after which it is quarantined as `timeout`. It stands behind the limits above."""
    memory_bytes: int = Field(default=2 << 30, ge=512 << 20, le=1 << 40)
    """Address space of the process that extracts."""
    prefilter: Literal["openwebmath"] | None = None
    """`openwebmath`: pages without mathematics are dropped as `no_math`, many before they are parsed (Paster et al. 2023, 3.1).
    A page goes on with a mark of a formula renderer, or with a TeX command in its source and in its text a common LaTeX command
    or more than 500 characters; whether such a long text is mathematics, a bound on `math` decides in classify. The published
    filter asks its classifier also of pages without any TeX command, and parses them all for it."""
    drop_robots: list[str] = Field(default_factory=list)
    """A page that declares any of these directives (`noai`, `noindex` …) in a robots meta tag or header is dropped."""
    admission: AdmissionConfig = Field(default_factory=AdmissionConfig)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value != UNION:
            _check_engine(value, (*ENGINES, UNION))
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """What one setting asks for, the engine must be able to do."""
        if self.cascade is not None and self.engine != "curate":
            raise ValueError(
                f"cascade asks trafilatura where curate is unsure: it goes with engine curate, not {self.engine}"
            )
        if self.union is not None and self.engine != UNION:
            raise ValueError(f"union says which engines engine: union asks, but engine is {self.engine}")
        if self.links and (self.output != "markdown" or self.engine != "curate" or self.cascade is not None):
            raise ValueError(
                "links are written into the Markdown of engine curate: set output to markdown, without cascade"
            )
        for name in self.engines:
            if self.output not in OUTPUTS.get(name, ("text",)):
                able = ", ".join(engine for engine, outputs in OUTPUTS.items() if self.output in outputs)
                raise ValueError(f"engine {name} cannot write {self.output}: {able} can")
        return self

    def settings(self) -> Settings:
        """The part that an engine sees."""
        least = (self.union or UnionConfig()).least_words
        return Settings(
            self.engine,
            self.engines,
            self.output,
            self.math,
            self.links,
            self.cascade,
            least,
            self.max_depth,
            self.max_nodes,
        )

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that may be asked for a page, in order."""
        if self.engine == UNION:
            return tuple((self.union or UnionConfig()).engines)
        return (self.engine, "trafilatura") if self.cascade is not None else (self.engine,)

    @field_validator("drop_robots")
    @classmethod
    def _directives(cls, value: list[str]) -> list[str]:
        for word in value:
            if word != word.strip().lower() or not word or "," in word:
                raise ValueError(f"{word!r} can never match: directives are compared in lower case, one at a time")
        return value
