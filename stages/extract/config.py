"""The recipe's `extract:` section."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, field_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest

ENGINES = ("trafilatura", "resiliparse")
"""The engines that come with curate; `module:function` names the user's own."""

_OWN_ENGINE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class AdmissionConfig(Strict):
    """Which URLs are let in, decided before a page is parsed. Lists in files have one entry a line; `#` starts a comment."""

    takedown: str | None = Field(default=None, json_schema_extra={"file": True})
    """File of URLs and hosts whose owners want no part in this; a host covers its subdomains."""
    blocked_domains: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files of domains; a domain covers its subdomains."""
    blocked_hosts: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files of host names, matched exactly."""
    blocked_urls: list[str] = Field(default_factory=list, json_schema_extra={"file": True})
    """Files of URLs, matched without scheme and fragment."""
    banned_words: list[str] = Field(default_factory=list)
    """A URL with any of these words is dropped. Its words are what lies between characters other than letters and digits."""
    soft_words: list[str] = Field(default_factory=list)
    """A URL with at least `soft_words_limit` different ones of these words is dropped."""
    soft_words_limit: int = Field(default=2, ge=1, le=100)
    banned_substrings: list[str] = Field(default_factory=list)
    """A URL is dropped if its letters and digits, joined and lower-cased, contain any of these."""

    @field_validator("takedown", "blocked_domains", "blocked_hosts", "blocked_urls")
    @classmethod
    def _files_exist(cls, value: str | list[str] | None) -> str | list[str] | None:
        for name in [value] if isinstance(value, str) else value or []:
            if not Path(name).is_file():
                raise ValueError(f"no such file: {name}")
        return value

    @field_validator("banned_words", "soft_words", "banned_substrings")
    @classmethod
    def _can_match(cls, value: list[str]) -> list[str]:
        for word in value:
            if not re.fullmatch(r"[A-Za-z0-9]+", word):
                raise ValueError(f"{word!r} can never match: only letters and digits of a URL are compared")
        return value


class ExtractConfig(Strict):
    """How documents come out of records, and the limits on a record."""

    engine: str = Field(default="trafilatura", json_schema_extra={"module": True})
    """`trafilatura` (FineWeb's settings), `resiliparse` (main content), or `module:function` of one's own:
    `(html: str, url: str | None) -> str`."""
    max_bytes: int = Field(default=8 << 20, ge=1 << 10, le=1 << 30)
    """A page, after content decoding, or a text longer than this is quarantined as `too_large`."""
    max_depth: int = Field(default=2_000, ge=16, le=1_000_000)
    """A page with elements nested deeper, by a scan of its bytes, is quarantined as `too_deep`."""
    max_nodes: int = Field(default=200_000, ge=100, le=100_000_000)
    """A page with more start tags is quarantined as `too_many_nodes`."""
    cpu_seconds: float = Field(default=30.0, ge=0.1, le=3600)
    """CPU time for one page, after which it is quarantined as `timeout`. It stands behind the limits above."""
    memory_bytes: int = Field(default=2 << 30, ge=512 << 20, le=1 << 40)
    """Address space of the process that extracts."""
    drop_robots: list[str] = Field(default_factory=list)
    """A page that declares any of these directives (`noai`, `noindex` …) in a robots meta tag or header is dropped."""
    admission: AdmissionConfig = Field(default_factory=AdmissionConfig)

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in ENGINES and not _OWN_ENGINE.fullmatch(value):
            raise ValueError(f"no engine named {value!r}{nearest(value, ENGINES)} (or module:function of your own)")
        return value

    @field_validator("drop_robots")
    @classmethod
    def _directives(cls, value: list[str]) -> list[str]:
        for word in value:
            if word != word.strip().lower() or not word or "," in word:
                raise ValueError(f"{word!r} can never match: directives are compared in lower case, one at a time")
        return value
