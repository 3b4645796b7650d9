"""A training run: what it needs of the mix, its model, and how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace, redact
from curate.pretrain import checkpoint as checkpoints
from curate.pretrain.config import PretrainConfig, Training
from curate.pretrain.data import Batches, Masking, count_steps, open_data
from curate.pretrain.evaluate import Held
from curate.pretrain.log import RunLog
from curate.pretrain.loss import Objective
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.optim import make_optimizers
from curate.pretrain.parallel import ALONE, Ranks, shards, whole_model, wrap
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
    objective: nn.Module
    """The model with its loss (`Objective`), as it is called in training: compiled and distributed, if they are asked for."""
    optimizers: list[torch.optim.Optimizer]
    steps: int
    """Optimiser steps in the whole run."""
    state: dict[str, Any]
    """What a checkpoint says beside the step: config, model, data."""
    ranks: Ranks = ALONE
    """This process among those that train the model."""
    step: int = 0
    """Optimiser steps done."""
    checkpoint: str | None = None
    """The newest checkpoint."""
    held_scores: dict[str, Any] = field(default_factory=dict)
    """The last validation."""
    folder: str = "pretrain"
    """Where in the workspace the run keeps its log, checkpoints and result."""
    scorer: Callable[[], dict[str, Any]] | None = None
    """Validation of a run whose held-out rows are not documents of the mix (`held`): gives `loss`, `bits_per_byte`, more."""

    @classmethod
    def open(cls, workspace: Workspace, asked: PretrainConfig, progress: Progress, ranks: Ranks = ALONE) -> Run:
        """Reads what is needed of the mix and builds the model with its first weights."""
        config = asked.resolved()
        device = ranks.device(_device(config))
        ranks.rows(config.batch_size)  # refused at once if there are not enough
        tokens = TokenSet(workspace)
        tokenizer = read_tokenizer(workspace, tokens)
        masking = masking_of(config, tokens, tokenizer)
        data = open_data(config, tokens, masking)
        validation = TokenSet(workspace, "validation")
        held = Held(validation, config.eval_tokens) if validation.tokens else None
        vocab_size = tokens.vocab_size if masking is None else max(tokens.vocab_size, masking.mask + 1)
        model = Transformer(ModelShape.of(config, vocab_size), _dtype(config, device), fp8=config.dtype == "fp8")
        model.init_weights(config.seed)
        model.to(device)
        identity = {"sha256": tokens.sha256, "tokens": tokens.tokens}
        vocabulary = {"size": tokens.vocab_size, "eos": tokens.eos, "mask": masking.mask if masking else None}
        state = {
            "config": config.learning(), "model": asdict(model.shape), "data": identity, "vocabulary": vocabulary,
        }  # fmt: skip
        compiled = config.compile == "on" or (config.compile == "auto" and device.type == "cuda")
        objective = wrap(Objective(model, config.z_loss, config.loss_chunk, compiled), config, ranks, compiled)
        return cls(
            workspace, config, progress, device, data, held, tokenizer, masking,
            model, objective, make_optimizers(model, config, compiled), count_steps(config, data.windows), state,
            ranks=ranks,
        )  # fmt: skip

    def resume(self) -> None:
        """Takes up the newest checkpoint that can be read, if there is one; refuses one of another run.

        The first process reads it for all of them. What it takes does not depend on how far the run is: no data is read.
        """
        with contextlib.ExitStack() as files:
            found = self.ranks.on_first(lambda: self._newest(files))
            if found is None:
                return
            checkpoint, weights, moments = found
            checkpoints.put_weights(weights, self.model, self.ranks)
            checkpoints.put_moments(moments, self.model, self.optimizers, self.ranks)
            self.step, self.checkpoint = checkpoint.step, checkpoint.name

    def _newest(self, files: contextlib.ExitStack) -> tuple[checkpoints.Checkpoint, Path, Path] | None:
        """The newest checkpoint that is whole, with its files."""
        for name in reversed(checkpoints.list_checkpoints(self.workspace, self.checkpoints)):
            try:
                found = checkpoints.read_checkpoint(self.workspace, name)
                checkpoints.refuse_other_run(found, self.state)
                weights = files.enter_context(checkpoints.verified(self.workspace, found, checkpoints.WEIGHTS))
                moments = files.enter_context(checkpoints.verified(self.workspace, found, checkpoints.MOMENTS))
            except UsageError:
                raise
            except CurateError as error:
                self.progress({"event": "warning", "line": f"{error}: trying the checkpoint before it"})
                continue
            return found, weights, moments
        return None

    @property
    def checkpoints(self) -> str:
        """The folder of the checkpoints."""
        return f"{self.folder}/checkpoints"

    @property
    def rows_a_pass(self) -> int:
        """Sequences in a forward pass at most (`Training.rows_a_pass`)."""
        return self.config.rows_a_pass(self.device.type == "cuda")

    @property
    def validates(self) -> bool:
        """There is something held out to score."""
        return self.held is not None or self.scorer is not None

    @property
    def epochs(self) -> float:
        """How often the whole run goes through the mix."""
        return self.steps * self.data.batch_size / self.data.windows

    def remove(self) -> None:
        """Removes what an earlier run left (`remove`)."""
        remove(self.workspace, self.folder)

    def save(self, log: RunLog | None) -> None:
        """Writes a checkpoint of this step, the log (of the first process) up to it first, and removes the oldest."""
        if log is not None:
            log.sync()
        self.checkpoint = checkpoints.save_checkpoint(
            self.workspace,
            self.step,
            self.model,
            self.optimizers,
            self.state,
            self.tokenizer,
            self.checkpoints,
            self.ranks,
        )
        if self.ranks.first:
            checkpoints.prune_checkpoints(self.workspace, self.config.keep, self.checkpoints)
        self.progress({"event": "checkpoint", "line": f"checkpoint {self.checkpoint}", "path": self.checkpoint})

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within it `model` of the first process is whole and can be called by it alone: for validation and samples."""
        if self.ranks.world == 1 or not shards(self.config, self.model, self.ranks):
            yield
            return
        spread = self.model
        self.model = whole_model(spread, self.config.dtype == "fp8", self.ranks) or spread
        try:
            yield
        finally:
            self.model = spread


def remove(workspace: Workspace, folder: str = "pretrain") -> None:
    """Removes what an earlier run left; its checkpoints' markers first, so that no half of one can be taken up.

    What was fine-tuned from it stays.
    """
    for name in workspace.list(f"{folder}/checkpoints", checkpoints.MARKER):
        workspace.remove(name)
    for name in workspace.list(folder):
        if not name.startswith(f"{folder}/finetune/"):
            workspace.remove(name)


def _device(config: Training) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "pretrain.device is cuda, but this PyTorch finds no GPU: use auto or cpu, or install its CUDA build"
        )
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _dtype(config: Training, device: torch.device) -> torch.dtype:
    if config.dtype == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no 8-bit products: set pretrain.dtype=bfloat16")
    if config.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.float32 if config.dtype == "float32" else torch.bfloat16


def read_tokenizer(workspace: Workspace, tokens: TokenSet) -> bytes:
    """The JSON of the tokenizer that made the tokens; CurateError where it is gone or another one."""
    wanted = tokens.json.tokenizer
    try:
        with workspace.open(wanted.path) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise CurateError(f"{wanted.path} is missing from {redact(workspace.url)}: run `curate mix` again") from None
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise CurateError(f"{wanted.path} is not the tokenizer that made the tokens: run `curate mix` again")
    return data


def masking_of(config: Training, tokens: TokenSet, tokenizer: bytes) -> Masking | None:
    """How a masked run corrupts its input. A tokenizer without a mask token gets one id more, after its last."""
    if config.objective == "causal":
        return None
    added = {
        item["content"]: item["id"] for item in json.loads(tokenizer).get("added_tokens", []) if item.get("special")
    }
    mask = next((added[name] for name in MASK_NAMES if name in added), tokens.vocab_size)
    special = tuple(sorted({*added.values(), tokens.eos, mask}))
    return Masking(mask, tokens.vocab_size, special, config.mask_fraction)
