"""What the recipe's `mix:` section says: the budget, the tokenizer, the buckets and their weights."""

from __future__ import annotations

import csv
import json
import math
import re
from decimal import Decimal, InvalidOperation
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import UsageError, nearest

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_AMOUNT = re.compile(
    r"([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)(?:e\+?([0-9]{1,2}))?\s*([kmbt]?)(?:\s*tokens?)?", re.IGNORECASE
)
_BYTES = re.compile(r".*[0-9.]\s*([kmgtp]i?b|gi?|bytes?|[kmtp]i)", re.IGNORECASE)
_LARGEST = 10**15
EXPORTS = ("megatron", "jsonl", "parquet", "datasets")
"""What `mix.export` may name."""


def parse_budget(value: object) -> int:
    """Tokens of a budget such as `100k`, `10M`, `1.5B`, `2T`, `250_000`, 1e9 or a whole number.

    k, M, B and T are thousand, million, billion (10^9) and trillion (10^12), in either case. Raises ValueError for
    anything else: an amount in bytes, a part of a token, less than one token, more than 10^15.
    """
    shown = f"budget {value!r}"
    expected = "give tokens, as in 100k, 10M, 1.5B or 2T"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{shown} is not a number of tokens: {expected}")
    text = str(value).strip()
    if _BYTES.fullmatch(text):
        raise ValueError(f"{shown} is an amount of bytes, a budget is in tokens: {expected}")
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown} is not a number of tokens: {expected}")
    digits, exponent, unit = match.groups()
    try:
        amount = Decimal(digits.replace("_", "").replace(",", "")).scaleb(int(exponent or 0)) * _UNITS[unit.lower()]
    except InvalidOperation:
        raise ValueError(f"{shown} is too large: at most 10^15 tokens") from None
    if amount > _LARGEST:
        raise ValueError(f"{shown} is too large: at most 10^15 tokens")
    if amount != amount.to_integral_value() or amount < 1:
        raise ValueError(f"{shown} is not a whole number of tokens, one at least: {expected}")
    return int(amount)


def _budget(value: object) -> object:
    return None if value is None else parse_budget(value)


class TokenizerConfig(Strict):
    """A tokenizer of one's own, or a byte-level BPE trained on a sample of the documents."""

    path: str | None = Field(default=None, json_schema_extra={"file": True})
    """A `tokenizer.json` of the `tokenizers` library (file or URL), copied into the mix; otherwise one is trained."""
    vocab_size: int = Field(default=16_384, ge=257, le=1_000_000)
    """Entries of a trained one: 256 bytes, the end-of-text token, and merges as far as the sample has pairs to merge."""
    sample_bytes: int = Field(default=64_000_000, ge=1_000, le=4_000_000_000)
    """UTF-8 bytes of text to train on at most, from documents drawn by the hash of their ids."""
    eos: str | None = None
    """The end-of-text token of a given tokenizer; otherwise the first known one that it has (`<|endoftext|>`, `</s>` …)."""


class Upsample(Strict):
    """Good documents more often: within each bucket of the other columns, the shares of this column's values follow the
    quality curve of OLMo 3 (`mixtures.upsample`): none below `floor`, then rising."""

    by: str
    """The column of `mix.by` that orders documents from the worst to the best: numbers (`quality_vigintile`), or one that
    `mix.bins` cuts. Null is the worst."""
    most: float = Field(default=7.0, gt=0, le=255)
    """Mean repeats of the best `top` at most; never more than `mix.max_repeats`, which OLMo 3 has at 7 as well."""
    floor: float = Field(default=0.4, ge=0, lt=1)
    """Share of a bucket's tokens, the worst, that is left out; lowered (said so) where too little would be left."""
    top: float = Field(default=0.05, gt=0, le=1)
    """Share of a bucket's tokens, the best, that `most` speaks of."""


class MixConfig(Strict):
    """What goes into the mix: how many tokens, of which buckets, how often a document at most."""

    budget: Annotated[int | None, BeforeValidator(_budget)] = Field(default=None)
    """Tokens to write, exactly: `100k`, `10M`, `1.5B`, `2T` or a number. Null: as many as the pool has (after the
    validation split), which without `weights` is every document once."""
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    by: list[str] = Field(default=["topic"], max_length=8)
    """Columns that make the buckets, their values joined with `/` (`science/en`); null is `unknown`. Empty: one bucket,
    `all`. A field of a struct is named with a dot (`signals.word_count`)."""
    bins: dict[str, list[float]] = Field(default_factory=dict)
    """Edges that cut a numeric column of `by`: `quality: [0.3, 0.7]` makes `<0.3`, `0.3-0.7` and `>=0.7`."""
    weights: str | dict[str, float] | None = Field(default=None, json_schema_extra={"file": True})
    """Shares of the buckets (any scale: they are divided by their sum), here or in a YAML, JSON or CSV file (`bucket,weight`);
    a bucket that is not named gets nothing. Null: as in the pool."""
    upsample: Upsample | None = None
    """Spreads each weight over the values of one column by quality: `weights` are then of the buckets without that column."""
    max_repeats: int = Field(default=4, ge=1, le=255)
    """Times that a document may be in the mix at most."""
    validation: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the documents held out of training, by the hash of their ids; one at least, unless 0."""
    validation_tokens: int = Field(default=10_000_000, ge=1)
    """Tokens of held-out documents written at most; all stay out of training."""
    shard_tokens: int = Field(default=100_000_000, ge=1_000, le=2_000_000_000)
    """Tokens in an output file, to within a document; a worker holds one such file in memory."""
    layout: Literal["shuffled", "by-bucket"] = "shuffled"
    """How training documents lie in the output files: all shuffled, or shuffled within files that hold one bucket each, of
    which `curate pretrain` makes any mixture (`pretrain.mixture`) without packing again."""
    export: list[Literal["megatron", "jsonl", "parquet", "datasets"]] = Field(default_factory=list)
    """What else the mix is written as: `megatron` (Megatron-LM's index beside the token files), `jsonl` and `parquet` (texts
    in the order of the mix), `datasets` (the Parquet files with a card, for Hugging Face `datasets`)."""

    @field_validator("by")
    @classmethod
    def _columns(cls, by: list[str]) -> list[str]:
        for name in by:
            if not name or name in ("text", "id"):
                raise ValueError(
                    f"{name!r} makes no buckets: name a column such as topic, language, source or snapshot"
                )
        if len(set(by)) < len(by):
            raise ValueError(f"names a column twice: {', '.join(by)}")
        return by

    @field_validator("export", mode="before")
    @classmethod
    def _export(cls, export: Any) -> Any:
        if not isinstance(export, list | tuple | str):
            return export
        names = [export] if isinstance(export, str) else export
        for name in names:
            if name not in EXPORTS:
                raise ValueError(f"cannot write {name!r}{nearest(str(name), EXPORTS)}")
        return sorted(set(names))

    @field_validator("weights")
    @classmethod
    def _weights(cls, weights: str | dict[str, float] | None) -> str | dict[str, float] | None:
        if isinstance(weights, dict):
            check_weights(weights, "weights")
        elif weights is not None and Path(weights).is_file():
            read_weights(weights)
        return weights

    @model_validator(mode="after")
    def _bins(self) -> MixConfig:
        if self.upsample is not None and self.upsample.by not in self.by:
            raise ValueError(
                f"upsample.by: {self.upsample.by!r} is not among the columns of `by` ({', '.join(self.by)}): add it there"
            )
        for name, edges in self.bins.items():
            if name not in self.by:
                raise ValueError(f"bins: {name!r} is not among the columns of `by` ({', '.join(self.by)})")
            if not edges or not all(math.isfinite(edge) for edge in edges) or any(a >= b for a, b in pairwise(edges)):
                raise ValueError(f"bins: the edges of {name!r} must be finite and rise: {edges}")
            if len({f"{edge:g}" for edge in edges}) < len(edges):  # as bins are named
                raise ValueError(
                    f"bins: edges of {name!r} are the same in six digits, of which bins are named: {edges}"
                )
        return self


def read_weights(path: str) -> dict[str, float]:
    """Weights by bucket from a YAML, JSON or CSV file.

    YAML and JSON hold a mapping, CSV two columns (`bucket,weight`; a first line of just these words is skipped). Raises
    UsageError where the file cannot be read and ValueError where what it says is not a set of weights.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"mix.weights: cannot read {path}: {error}") from None
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return check_weights(_csv_weights(text, path), path)
    try:
        data = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not valid {'JSON' if suffix == '.json' else 'YAML'}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: weights are a mapping of bucket to number")
    return check_weights({str(name): value for name, value in data.items()}, path)


def _csv_weights(text: str, path: str) -> dict[str, Any]:
    weights: dict[str, Any] = {}
    for number, row in enumerate(csv.reader(StringIO(text)), 1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["bucket", "weight"]):
            continue
        if len(row) != 2:
            raise ValueError(f"{path}:{number}: a line is bucket,weight")
        name = row[0].strip()
        if name in weights:
            raise ValueError(f"{path}:{number}: bucket {name!r} is given twice")
        try:
            weights[name] = float(row[1])
        except ValueError:
            raise ValueError(f"{path}:{number}: {row[1]!r} is not a number") from None
    return weights


def check_weights(weights: dict[str, Any], where: str) -> dict[str, float]:
    """The weights as numbers; ValueError unless all are finite, none is negative and one is above zero."""
    for name, value in weights.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ValueError(f"{where}: the weight of {name!r} must be a number of at least 0, not {value!r}")
    if not any(weights.values()):
        raise ValueError(f"{where}: no bucket has a weight above 0")
    return {name: float(value) for name, value in weights.items()}
