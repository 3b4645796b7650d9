"""A training run: what it needs of the mix, its model, and how far it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace, redact
from curate.pretrain import checkpoint as checkpoints
from curate.pretrain.config import PretrainConfig, Training
from curate.pretrain.data import Batches, Masking
from curate.pretrain.evaluate import Held
from curate.pretrain.log import RunLog
from curate.pretrain.loss import Objective
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import make_optimizers
from curate.pretrain.tokens import TokenSet

MASK_NAMES = ("[MASK]", "<mask>", "<|mask|>")

Progress = Callable[[dict[str, Any]], None]


@dataclass
class Run:
    """Everything that the training loop works on."""

    workspace: Workspace
    config: Training
    progress: Progress
    device: torch.device
    data: Batches
    held: Held | None
    tokenizer: bytes
    masking: Masking | None
    model: Transformer
    objective: Objective
    """The model with its loss; compiled, where the configuration says so."""
    optimizers: list[torch.optim.Optimizer]
    steps: int
    """Optimiser steps in the whole run."""
    state: dict[str, Any]
    """What a checkpoint says beside the step: config, model, data."""
    step: int = 0
    """Optimiser steps done."""
    checkpoint: str | None = None
    """The newest checkpoint."""
    held_scores: dict[str, Any] = field(default_factory=dict)
    """The last validation."""

    @classmethod
    def open(cls, workspace: Workspace, asked: PretrainConfig, progress: Progress) -> Run:
        """Reads what is needed of the mix and builds the model with its first weights."""
        config = asked.resolved()
        device = _device(config)
        tokens = TokenSet(workspace)
        tokenizer = _read_tokenizer(workspace, tokens)
        masking = _masking(config, tokens, tokenizer)
        data = Batches(
            tokens, length=config.sequence_length, batch_size=config.batch_size, seed=config.seed, masking=masking
        )
        validation = TokenSet(workspace, "validation")
        held = Held(validation, config.eval_tokens) if validation.tokens else None
        vocab_size = tokens.vocab_size if masking is None else max(tokens.vocab_size, masking.mask + 1)
        model = Transformer(ModelShape.of(config, vocab_size), _dtype(config, device), fp8=config.dtype == "fp8")
        model.init_weights(config.seed)
        model.to(device)
        identity = {"sha256": tokens.sha256, "tokens": tokens.tokens}
        state = {"config": config.learning(), "model": asdict(model.shape), "data": identity}
        compiled = config.compile == "on" or (config.compile == "auto" and device.type == "cuda")
        objective = Objective(model, config.z_loss, config.loss_chunk, compiled)
        return cls(
            workspace, config, progress, device, data, held, tokenizer, masking,
            model, objective, make_optimizers(model, config, compiled), count_steps(config, data), state,
        )  # fmt: skip

    def resume(self) -> None:
        """Takes up the newest checkpoint that can be read, if there is one; refuses one of another run."""
        for name in reversed(checkpoints.list_checkpoints(self.workspace)):
            try:
                found = checkpoints.read_checkpoint(self.workspace, name)
                checkpoints.refuse_other_run(found, self.state)
                checkpoints.load_weights(self.workspace, found, self.model)
                checkpoints.load_optimizers(self.workspace, found, self.model, self.optimizers)
            except UsageError:
                raise
            except CurateError as error:
                self.progress({"event": "warning", "line": f"{error}: trying the checkpoint before it"})
                continue
            self.step, self.checkpoint = found.step, name
            return

    @property
    def epochs(self) -> float:
        """How often the whole run goes through the mix."""
        return self.steps * self.data.batch_size / self.data.windows

    def remove(self) -> None:
        """Removes what an earlier run left; its checkpoints' markers first, so that no half of one can be taken up."""
        for name in self.workspace.list("pretrain/checkpoints", checkpoints.MARKER):
            self.workspace.remove(name)
        for name in self.workspace.list("pretrain"):
            self.workspace.remove(name)

    def save(self, log: RunLog) -> None:
        """Writes a checkpoint of this step, the log up to it first, and removes the oldest."""
        log.sync()
        self.checkpoint = checkpoints.save_checkpoint(
            self.workspace, self.step, self.model, self.optimizers, self.state, self.tokenizer
        )
        checkpoints.prune_checkpoints(self.workspace, self.config.keep)
        self.progress({"event": "checkpoint", "line": f"checkpoint {self.checkpoint}", "path": self.checkpoint})


def count_steps(config: Training, data: Batches) -> int:
    """Optimiser steps of a resolved configuration on this data, at least one."""
    if config.steps is not None:
        return config.steps
    if config.tokens is not None:
        return -(-config.tokens // (data.batch_size * data.length))
    assert config.epochs is not None
    return max(1, round(config.epochs * data.windows / data.batch_size))


def _device(config: Training) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "pretrain.device is cuda, but this PyTorch finds no GPU: use auto or cpu, or install its CUDA build"
        )
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _dtype(config: Training, device: torch.device) -> torch.dtype:
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.float32 if config.dtype == "float32" else torch.bfloat16


def _read_tokenizer(workspace: Workspace, tokens: TokenSet) -> bytes:
    wanted = tokens.json.tokenizer
    try:
        with workspace.open(wanted.path) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise CurateError(f"{wanted.path} is missing from {redact(workspace.url)}: run `curate mix` again") from None
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise CurateError(f"{wanted.path} is not the tokenizer that made the tokens: run `curate mix` again")
    return data


def _masking(config: Training, tokens: TokenSet, tokenizer: bytes) -> Masking | None:
    """How a masked run corrupts its input. A tokenizer without a mask token gets one id more, after its last."""
    if config.objective == "causal":
        return None
    added = {
        item["content"]: item["id"] for item in json.loads(tokenizer).get("added_tokens", []) if item.get("special")
    }
    mask = next((added[name] for name in MASK_NAMES if name in added), tokens.vocab_size)
    special = tuple(sorted({*added.values(), tokens.eos, mask}))
    return Masking(mask, tokens.vocab_size, special, config.mask_fraction)
