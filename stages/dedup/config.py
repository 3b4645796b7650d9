"""What dedup does, as the recipe's section `dedup:` says it."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from curate.pipeline.config import Strict
from curate.stages.dedup.edit_config import ParagraphConfig, SubstringConfig

PRESETS: dict[str, tuple[int, int]] = {"fineweb": (14, 8), "redpajama": (9, 13), "dolma3": (26, 11)}
"""Published bands x rows."""
MOST_PERMUTATIONS = 1024
CURVE = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""The similarities at which a run says what its parameters find."""


class MinHashConfig(Strict):
    """Near-duplicates: MinHash signatures of `bands` x `rows` values; equal values of one band link two pages.

    A pair of Jaccard similarity s is linked with probability 1 - (1 - s^rows)^bands. FineWeb's 14 x 8, the default, finds
    56 / 77 / 92 / 98.8 % of the pairs at s = .70 / .75 / .80 / .85. Given are `bands` and `rows`, or a `preset`, or a
    `threshold`; two of these are refused unless they say the same, as the resolved recipe does.
    """

    enabled: bool = True
    threshold: float | None = Field(default=None, gt=0.0, lt=1.0)
    """The similarity from which on pairs are meant to be found, and that `verify` asks for. Chooses bands x rows within
    `permutations` as datasketch does: the least sum of what is found below it and missed above it, all similarities taken
    as equally likely."""
    preset: Literal["fineweb", "redpajama", "dolma3"] | None = Field(default=None, json_schema_extra={"output": False})
    """Published bands x rows: 14 x 8, 9 x 13, 26 x 11. Shingles stay as `ngram` says (published: 5, 13 and 5 words)."""
    bands: int = Field(default=14, ge=1, le=256)
    rows: int = Field(default=8, ge=1, le=256)
    permutations: int = Field(default=112, ge=1, le=MOST_PERMUTATIONS, json_schema_extra={"output": False})
    """With `threshold` alone: how many values a signature may have. It has bands x rows of them, and so says the resolved
    recipe."""
    ngram: int = Field(default=5, ge=1, le=64)
    """Words in a shingle, or characters; a page of fewer is one shingle."""
    ngram_of: Literal["words", "characters"] = "words"
    hash_bits: Literal[32, 64] = 32
    """Bits of a hash. With 32, two different shingles are taken for one once in 4 billion times."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """Chooses the permutations (FineWeb: 1)."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        chosen = ("threshold", "preset", "bands", "rows", "permutations")
        return {key: value for key, value in data.items() if value is not None or key not in chosen}

    @model_validator(mode="after")
    def _resolved(self) -> MinHashConfig:
        bands, rows = self._intended()
        if bands * rows > MOST_PERMUTATIONS:
            raise ValueError(f"bands x rows = {bands * rows}: at most {MOST_PERMUTATIONS} permutations")
        given = self.model_fields_set
        for name, value, chosen in (("bands", self.bands, bands), ("rows", self.rows, rows)):
            if name in given and value != chosen:
                other = "preset" if self.preset is not None else "threshold"
                raise ValueError(
                    f"{name}: {value} and {other}: {getattr(self, other)} (which is {bands} bands x {rows} rows): give one or "
                    f"the other (null takes a key out of a recipe that has it)"
                )
        if "permutations" in given and self.threshold is None and self.permutations != bands * rows:
            raise ValueError(
                f"permutations: {self.permutations}, but bands x rows is {bands * rows}: it goes with threshold alone"
            )
        for name, chosen in (("bands", bands), ("rows", rows), ("permutations", bands * rows)):
            object.__setattr__(self, name, chosen)  # instances are frozen for all others
        return self

    @model_serializer(mode="wrap")
    def _as_read(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = dump(self)
        if self.threshold is None:
            del values["permutations"]  # follows from the others, and would be in the way of changing one of them
        return values

    def _intended(self) -> tuple[int, int]:
        if self.threshold is None:
            return PRESETS[self.preset] if self.preset is not None else (self.bands, self.rows)
        if self.preset is not None:
            raise ValueError(f"threshold: {self.threshold} and preset: {self.preset}: give one or the other")
        return choose(self.threshold, self.permutations)

    def curve(self) -> dict[float, float]:
        """By similarity, the probability that a pair is found."""
        return {s: probability(s, self.bands, self.rows) for s in CURVE}

    def curve_text(self) -> str:
        """The same as one line, for the log."""
        points = ", ".join(f"{s:.2f}: {100 * p:.1f} %" for s, p in self.curve().items())
        return f"{self.bands} bands x {self.rows} rows; pairs found by Jaccard similarity: {points}"


def probability(similarity: float, bands: int, rows: int) -> float:
    """That a pair of this Jaccard similarity shares a band: 1 - (1 - s^rows)^bands."""
    return 1.0 - (1.0 - similarity**rows) ** bands


@functools.cache
def choose(threshold: float, permutations: int) -> tuple[int, int]:
    """(bands, rows) of at most so many permutations with the least error around a threshold.

    The error is two areas: the pairs found below the threshold and those missed above it, similarities taken as equally
    likely: datasketch's rule with equal weights, and its order where two are equal, fewer bands first.
    """
    best, least = (1, 1), math.inf
    for bands in range(1, min(permutations, 256) + 1):
        for rows in range(1, min(permutations // bands, 256) + 1):
            error = _area(0.0, threshold, bands, rows)
            if error < least:
                error += 1.0 - threshold - _area(threshold, 1.0, bands, rows)
            if error < least:
                best, least = (bands, rows), error
    return best


_POINTS = 200


def _area(start: float, end: float, bands: int, rows: int) -> float:
    """Under the curve, by the midpoint rule."""
    step = (end - start) / _POINTS
    return step * math.fsum(probability(start + (i + 0.5) * step, bands, rows) for i in range(_POINTS))


class ComponentsConfig(Strict):
    """How clusters are made of links. Changes the way, never the clusters."""

    in_memory: int = Field(default=500_000_000, ge=1)
    """Pages whose union-find one task holds, 5 bytes each (9 beyond 2^31 pages). A scope of more is cut into blocks of so
    many, and their links are contracted in rounds over files: 12 bytes a page of a block (16)."""


class DedupConfig(Strict):
    """Which pages are copies of each other, and which one of them stays."""

    exact: bool = True
    """Link pages whose normalised text has the same 128-bit hash."""
    minhash: MinHashConfig = Field(default_factory=MinHashConfig)
    scope: Literal["snapshot", "global", "newest-first"] = "snapshot"
    """Where copies are looked for: within each snapshot, or in all of them together. `newest-first`: in all of them, each
    snapshot within itself and against newer ones (by name, as CC-MAIN-2024-51 > CC-MAIN-2024-10), so that no page goes for an
    older one, nor because of one. The page that stays is of the newest snapshot in its cluster, of these the one that `keep`
    chooses."""
    keep: Literal["first", "longest", "newest", "quality"] = "first"
    """Which page of a cluster stays. `first`: the earliest by (date, snapshot, id), pages without a date last;
    `longest`: the one with most characters, then `first`; `newest`: the latest by (date, snapshot), then the first id;
    `quality`: the one with the highest value of `quality_column`, then `first`; pages without a value last."""
    quality_column: str = Field(default="quality", min_length=1)
    """The number that `keep: quality` goes by: a column of the documents that come in, or a field of a struct with a dot
    (`signals.word_count`). A run without it is refused."""
    verify: Literal["signature", "jaccard"] | None = None
    """Compare two pages of a bucket before they are linked: by the share of equal values in their signatures, or by the
    shingles themselves (exact up to 4096 shingles, from the 4096 with the lowest hashes beyond: error .006). Null: links
    are taken as they come. What is linked through others stays together: a page may be less like the one kept (the ledger
    says how much) than like the one that it is linked to."""
    verify_threshold: float | None = Field(default=None, gt=0.0, le=1.0)
    """Jaccard similarity from which on two pages of a bucket are linked. Null: that of `minhash`; where
    it says none, (1 / bands)^(1 / rows), near which its curve is steepest (14 x 8: .719)."""
    max_cluster: int | None = Field(default=None, ge=2)
    """Clusters of more different texts are not taken as they are: their links are verified at a threshold half-way to 1,
    and in what is then still larger only pages of the same text are copies. The report counts both."""
    components: ComponentsConfig = Field(default_factory=ComponentsConfig, json_schema_extra={"output": False})
    url: bool = False
    """Of pages with the same URL (without scheme, user, default port and fragment) one stays, by `keep` (of `quality`: the
    first), before texts are compared."""
    substring: SubstringConfig | None = None
    """Take out of the pages that stay the stretches that earlier ones have; null: leave them."""
    paragraphs: ParagraphConfig | None = None
    """Take out of the pages that stay the lines, or spans of sentences, that earlier ones have; null: leave them. One of this
    and `substring`."""
    memory_mb: int = Field(default=1024, ge=64, le=1 << 20, json_schema_extra={"output": False})
    """Memory of one task, in MiB: decides into how many parts the work is cut, never what is removed. Some thousand
    make a snapshot of hundreds of millions of pages quicker. The step `components` needs 5 bytes a page beside it."""

    @model_validator(mode="after")
    def _verifiable(self) -> DedupConfig:
        if (self.verify or self.max_cluster) and not self.minhash.enabled:
            raise ValueError(
                "verify and max_cluster compare MinHash signatures: set minhash.enabled, or leave them out"
            )
        return self

    @model_validator(mode="after")
    def _edited_once(self) -> DedupConfig:
        if self.paragraphs is not None and self.substring is not None:
            raise ValueError(
                "paragraphs and substring both take repeats out of the same texts: give one of them (null takes the other out "
                "of a recipe that has it)"
            )
        return self

    @property
    def everywhere(self) -> bool:
        """Whether copies are looked for in all snapshots together."""
        return self.scope != "snapshot"

    @property
    def verifies(self) -> bool:
        """Whether links are looked at again before pages are chosen."""
        apart = self.scope == "newest-first" and self.minhash.enabled
        return apart or self.verify is not None or self.max_cluster is not None

    @property
    def verified_from(self) -> float:
        """The similarity from which on `verify` links two pages."""
        if self.verify_threshold is not None:
            return self.verify_threshold
        intended: float | None = getattr(self.minhash, "threshold", None)
        return float((1 / self.minhash.bands) ** (1 / self.minhash.rows)) if intended is None else intended

    @property
    def strict_from(self) -> float:
        """The similarity asked for within clusters of more than `max_cluster` texts."""
        return (1 + self.verified_from) / 2
