"""The trainer's configuration: sizes, objective, optimiser, schedule. Light: imports neither torch nor NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest


@dataclass(frozen=True)
class Size:
    """A preset: the shape of the model, and the run that suits it where the recipe says nothing."""

    layers: int
    width: int
    heads: int
    ffn: int
    """Inner width of SwiGLU, 2/3 * 4 * width to the nearest multiple of 64."""
    sequence_length: int
    batch_size: int
    """Sequences a step."""
    lr: float
    epochs: float


SIZES = {
    "tiny": Size(layers=4, width=128, heads=4, ffn=320, sequence_length=128, batch_size=8, lr=3e-3, epochs=2),
    "10M": Size(layers=7, width=256, heads=4, ffn=704, sequence_length=512, batch_size=32, lr=2e-3, epochs=1),
    "30M": Size(layers=10, width=384, heads=6, ffn=1024, sequence_length=1024, batch_size=64, lr=1.5e-3, epochs=1),
    "60M": Size(layers=14, width=512, heads=8, ffn=1344, sequence_length=1024, batch_size=128, lr=1e-3, epochs=1),
    "124M": Size(layers=12, width=768, heads=12, ffn=2048, sequence_length=1024, batch_size=480, lr=6e-4, epochs=1),
}
"""The embedding is tied to the head and counted once. Parameters without it, and with it at a vocabulary of:

| size | layers | width | heads | ffn | in blocks | in all | at a vocabulary of |
|---|---|---|---|---|---|---|---|
| tiny | 4 | 128 | 4 | 320 | 0.8M | 1.8M | 8,192 |
| 10M | 7 | 256 | 4 | 704 | 5.6M | 9.8M | 16,384 |
| 30M | 10 | 384 | 6 | 1,024 | 17.7M | 30.3M | 32,768 |
| 60M | 14 | 512 | 8 | 1,344 | 43.6M | 60.4M | 32,768 |
| 124M | 12 | 768 | 12 | 2,048 | 85.0M | 123.6M | 50,257 |

124M has GPT-2's shape and nanoGPT's batch (491,520 tokens a step) and learning rate.
"""

OPERATIONAL: dict[str, Any] = {"output": False}
"""For fields that do not change what is learnt: a run may be resumed with another value."""


class PretrainConfig(Strict):
    """How a model is trained on a mix. A field left empty takes the value of the size preset (`SIZES`)."""

    size: str = "tiny"
    """Preset: tiny, 10M, 30M, 60M or 124M; the fields below change single values of it."""
    layers: int | None = Field(default=None, ge=1, le=1000)
    width: int | None = Field(default=None, ge=8, le=65536)
    heads: int | None = Field(default=None, ge=1, le=1024)
    kv_heads: int | None = Field(default=None, ge=1, le=1024)
    """Heads of keys and values (grouped-query attention); as many as `heads` where empty."""
    ffn: int | None = Field(default=None, ge=8, le=1 << 20)
    """Inner width of SwiGLU."""
    tied: bool = True
    """The head is the embedding, transposed."""
    rope_theta: float = Field(default=10_000.0, gt=1)

    objective: Literal["causal", "masked"] = "causal"
    """`causal` predicts the next token (GPT, Llama); `masked` sees both sides and predicts hidden tokens (BERT)."""
    mask_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Of the tokens, how many are to be predicted: of these 80 % are hidden, 10 % exchanged at random, 10 % left."""

    sequence_length: int | None = Field(default=None, ge=2, le=1 << 20)
    """Tokens in a sequence."""
    batch_size: int | None = Field(default=None, ge=1)
    """Sequences in an optimiser step."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Sequences in a forward pass; gradients are summed over a step's passes. All at once where empty."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps. Give at most one of steps, tokens and epochs."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on, rounded up to a whole step."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the mix, rounded to whole steps."""

    optimizer: Literal["adamw"] = "adamw"
    lr: float | None = Field(default=None, gt=0, le=1)
    """Highest learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """On matrices only: never on the norms' gains."""
    schedule: Literal["cosine", "linear", "wsd"] = "cosine"
    """After the warm-up: cosine or linear down to `min_lr`, or warm-up, stable, decay (WSD: flat, then linear)."""
    warmup: int | None = Field(default=None, ge=0)
    """Steps of linear warm-up; a tenth of the run, at most 2,000, where empty."""
    min_lr: float = Field(default=0.1, ge=0, le=1)
    """Where the schedule ends, as a fraction of `lr`."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """Part of the steps in which WSD decays."""
    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: not clipped."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log-normaliser in the objective (PaLM: 1e-4); never part of the losses reported."""

    seed: int = Field(default=0, ge=0)
    """Of the weights, the order of the data, the masks and the sample."""
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", json_schema_extra=OPERATIONAL)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of activations; weights and optimiser are float32. `auto`: bfloat16 on a GPU, float32 on a CPU."""

    log_every: int = Field(default=10, ge=1, json_schema_extra=OPERATIONAL)
    """Steps between progress lines, when losses are read back from the device; the log has every step."""
    eval_every: int = Field(default=100, ge=0, json_schema_extra=OPERATIONAL)
    """Steps between validations; 0: at the end only."""
    eval_tokens: int = Field(default=1 << 20, ge=1, json_schema_extra=OPERATIONAL)
    """Validation reads whole documents from the beginning, up to about so many tokens."""
    checkpoint_every: int = Field(default=100, ge=1, json_schema_extra=OPERATIONAL)
    """Steps between checkpoints; there is always one at the end."""
    keep: int = Field(default=2, ge=1, json_schema_extra=OPERATIONAL)
    """Newest checkpoints kept."""
    sample_prompt: str = Field(default="", json_schema_extra=OPERATIONAL)
    """What the text sample at the end begins with; empty: the beginning of a document."""
    sample_tokens: int = Field(default=100, ge=0, le=10_000, json_schema_extra=OPERATIONAL)
    temperature: float = Field(default=0.8, ge=0, le=10, json_schema_extra=OPERATIONAL)
    """Of the text sample; 0: the likeliest token each time."""

    @field_validator("size")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in SIZES:
            raise ValueError(f"unknown size {value!r}{nearest(value, tuple(SIZES))}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}, not both")
        preset = SIZES[self.size]
        width, heads = self.width or preset.width, self.heads or preset.heads
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} must be an even multiple of heads {heads}")
        if heads % (self.kv_heads or heads):
            raise ValueError(f"heads {heads} must be a multiple of kv_heads {self.kv_heads}")
        return self

    def resolved(self) -> PretrainConfig:
        """The same with every value that the preset decides filled in; `steps` and `warmup` still depend on the mix."""
        preset = SIZES[self.size]
        names = ("layers", "width", "heads", "ffn", "sequence_length", "batch_size", "lr")
        filled: dict[str, Any] = {name: getattr(preset, name) for name in names if getattr(self, name) is None}
        if self.kv_heads is None:
            filled["kv_heads"] = self.heads or preset.heads
        if self.steps is None and self.tokens is None and self.epochs is None:
            filled["epochs"] = preset.epochs
        if self.micro_batch is None:
            filled["micro_batch"] = self.batch_size or preset.batch_size
        return self.model_copy(update=filled)

    def learning(self) -> dict[str, Any]:
        """The fields that change what is learnt: a run may only be resumed with the same ones."""
        fields = type(self).model_fields
        return {name: getattr(self, name) for name in fields if fields[name].json_schema_extra != OPERATIONAL}
