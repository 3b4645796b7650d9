"""What dedup does, as the recipe's section `dedup:` says it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from curate.pipeline.config import Strict


class MinHashConfig(Strict):
    """Near-duplicates: MinHash signatures of `bands` x `rows` values; equal values of one band link two pages.

    A pair of Jaccard similarity s is linked with probability 1 - (1 - s^rows)^bands. FineWeb's 14 x 8 finds
    56 / 77 / 92 / 98.8 % of the pairs at s = .70 / .75 / .80 / .85; RedPajama v2 publishes 9 x 13, Dolma 3 26 x 11.
    """

    enabled: bool = True
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=256)
    ngram: int = Field(default=5, ge=1, le=64)
    """Words in a shingle; a page of fewer words is one shingle."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Chooses the permutations (FineWeb: 1)."""

    @model_validator(mode="after")
    def _bounded(self) -> MinHashConfig:
        if self.permutations > 1024:
            raise ValueError(f"bands x rows = {self.permutations}: at most 1024 permutations")
        return self

    @property
    def permutations(self) -> int:
        """Values in a signature."""
        return self.bands * self.rows


class DedupConfig(Strict):
    """Which pages are copies of each other, and which one of them stays."""

    exact: bool = True
    """Link pages whose normalised text has the same 128-bit hash."""
    minhash: MinHashConfig = Field(default_factory=MinHashConfig)
    scope: Literal["snapshot", "global"] = "snapshot"
    """Where copies are looked for: within each snapshot, or in all of them together."""
    keep: Literal["first", "longest", "newest"] = "first"
    """Which page of a cluster stays. `first`: the earliest by (date, snapshot, id), pages without a date last;
    `longest`: the one with most characters, then `first`; `newest`: the latest by (date, snapshot), then the first id."""
    memory_mb: int = Field(default=1024, ge=64, le=1 << 20, json_schema_extra={"output": False})
    """Memory of one task, in MiB: decides into how many parts the work is cut, never what is removed. Some thousand
    make a snapshot of hundreds of millions of pages quicker. The step `components` needs 8 bytes a page beside it."""
