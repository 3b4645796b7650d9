"""What the recipe's `swarm:` section says: which mixtures are tried, and the small models that try them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from curate.mixtures.config import parse_budget
from curate.pipeline.config import Strict
from curate.pretrain.config import PretrainConfig

SIZE = "olmo2-30m"
TOKENS = 3_000_000_000
"""The proxies of OLMo 3's swarm: 30M parameters on 3B tokens."""


def _tokens(value: object) -> object:
    return None if value is None else parse_budget(value)


class SwarmConfig(Strict):
    """The swarm of small models (proxies), each trained on a mixture of its own, from which mixtures are judged."""

    runs: int | None = Field(default=None, ge=2, le=100_000)
    """Mixtures tried; empty: 3 (m + 1) for m domains (Olmix). A larger number later adds to the runs that there are."""
    replicates: int = Field(default=3, ge=0, le=100)
    """Runs of the natural mixture beside them, each with another seed: how much of a difference is noise."""
    sampling: Literal["natural", "regmix"] = "natural"
    """`natural`: Dirichlet centred on the natural shares (OLMo 3, Olmix); `regmix`: RegMix's, of many strengths."""
    sparse: bool | None = None
    """Mixtures leave domains out altogether. Empty: where topics are weighed, not where sources are (Olmix)."""
    by: list[str] | None = Field(default=None, min_length=1, max_length=8)
    """Columns that make the domains; empty: `mix.by` without the column that `mix.upsample` weighs within each."""
    exclude: list[str] = Field(default_factory=list)
    """Domains that are not weighed: too small to train on, or not wanted."""
    max_repeats: float | None = Field(default=5.0, gt=0)
    """Times that a run goes through what is packed of a domain at most (Olmix's default); mixtures that would go further are
    not tried. Null: any number of times."""
    pool_tokens: Annotated[int | None, BeforeValidator(_tokens)] = Field(default=None, ge=1)
    """Tokens packed of each domain at most, as 100M or 1B; empty: those of one run, the most that a mixture can ask for."""
    proxy: PretrainConfig = Field(default_factory=lambda: PretrainConfig(size=SIZE, tokens=TOKENS))
    """The small model and its run, as in `pretrain` (`eval_tasks` too: each run scores them); where neither steps nor
    tokens are given, 3B tokens. The swarm decides mixtures and seeds."""
    gpus: float = Field(default=1.0, gt=0, le=1, json_schema_extra={"output": False})
    """Of a GPU, what a run holds on a Ray cluster that has some: 0.5 trains two runs on each."""

    @field_validator("proxy", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        given: dict[str, Any] = {"size": SIZE} | value
        if isinstance(given.get("tokens"), str):
            given["tokens"] = parse_budget(given["tokens"])
        if all(given.get(name) is None for name in ("steps", "tokens", "epochs")):
            given["tokens"] = TOKENS
        return given

    @field_validator("proxy")
    @classmethod
    def _fits(cls, proxy: PretrainConfig) -> PretrainConfig:
        if proxy.mixture is not None:
            raise ValueError("mixture: the swarm gives each run its own: leave it out")
        if proxy.seed:
            raise ValueError("seed: the swarm gives the runs theirs, from the recipe's seed: leave it out")
        if proxy.epochs is not None:
            raise ValueError("epochs: runs of mixtures must be equally long: give tokens or steps")
        if proxy.resolved().objective != "causal":
            raise ValueError("objective: mixtures are judged by bits per byte, which only a causal model has")
        return proxy

    @field_validator("by")
    @classmethod
    def _columns(cls, by: list[str] | None) -> list[str] | None:
        if by is not None and len(set(by)) < len(by):
            raise ValueError(f"names a column twice: {', '.join(by)}")
        return by

    @property
    def run_tokens(self) -> int:
        """Tokens that a run trains on, whole steps of them."""
        proxy = self.proxy.resolved()
        step = proxy.batch_size * proxy.sequence_length
        if proxy.steps is not None:
            return proxy.steps * step
        assert proxy.tokens is not None
        return -(-proxy.tokens // step) * step
