"""What the section `dedup:` says of texts that lose what other pages have; off by default."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curate.pipeline.config import Strict


class SubstringConfig(Strict):
    """Repeats across pages: of every stretch that several pages of a partition have one copy stays, the earliest page's.

    Among the pages that stay, after all other steps. See `curate.stages.dedup.substring` for the definition (Dolma 3's third
    stage). Earliest is by (date, snapshot, id), pages without a date last.
    """

    least_bytes: int = Field(default=500, ge=1)
    """Bytes of UTF-8 that are a repeat at least."""
    bridge: float = Field(default=0.8, gt=0, le=1)
    """What lies between two repeats goes with them where at least this share of the whole is repeated; 1: never."""
    least_chars: int = Field(default=100, ge=0)
    """A page of which fewer characters are left goes (`substring_duplicate`), unless it keeps a copy for another page."""
    partition_mb: int = Field(default=64, ge=1, le=1900)
    """Text that is compared, in MiB: consecutive shards of a scope, cut where it is full. More finds more. A task needs 16
    times as much memory."""


class ParagraphConfig(Strict):
    """Repeats by the line or the sentence: of all paragraphs of a scope that are the same one stays, the earliest page's.

    Among the pages that stay, after all other steps. See `curate.stages.dedup.paragraphs` for the definition. Earliest is by
    (date, snapshot, id), pages without a date last.
    """

    unit: Literal["line", "sentence"] = "line"
    span: int = Field(default=1, ge=1, le=16)
    """Consecutive units that are compared together: C4 takes 3 sentences."""
    least_words: int = Field(default=10, ge=1)
    """What has fewer words is never compared: menus, bullets (10: FineWeb's experiment on lines). With `span` all its units
    together."""
    within_pages: bool = True
    """A paragraph that comes again in its own page goes there too, as in C4, Dolma and datatrove. False: it stays."""
    least_chars: int = Field(default=100, ge=0)
    """A page of which fewer characters are left goes (`paragraph_duplicate`), unless it keeps a copy for another page."""
