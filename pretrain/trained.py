"""A checkpoint opened for use: its model, its tokenizer, and what its ids mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.workspace import Workspace, redact
from curate.pretrain import checkpoint as checkpoints
from curate.pretrain.checkpoint import Checkpoint
from curate.pretrain.config import Training
from curate.pretrain.model import ModelShape, Transformer

FINETUNED = "pretrain/finetune"
"""Folder of the fine-tuning runs, each in a folder of its own name and laid out like a pretraining run."""

MASK = "[MASK]"
"""What stands for a hidden token in a prompt, whatever the tokenizer calls it."""


@dataclass(frozen=True)
class Trained:
    """A model that can be used."""

    checkpoint: Checkpoint
    config: Training
    model: Transformer
    """In evaluation mode; a `classifier.Classifier` where `task` is labels."""
    tokenizer: Any
    """A `tokenizers.Tokenizer`; its JSON is `tokenizer_json`."""
    tokenizer_json: bytes
    vocab_size: int
    """Ids that the tokenizer gives: rows of the embedding beyond them stand for nothing, except `mask`."""
    eos: int
    mask: int | None
    """The id that hides a token, of a masked model."""

    @property
    def finetune(self) -> dict[str, Any]:
        """How it was fine-tuned: `task` (outputs or labels), `template`, `labels` …; empty if it was not."""
        return dict(self.checkpoint.state.get("finetune", {}))

    @property
    def task(self) -> str | None:
        found = self.finetune.get("task")
        return None if found is None else str(found)

    @property
    def length(self) -> int:
        """Tokens in a sequence, as trained."""
        return self.config.sequence_length

    def compute_as_trained(self) -> None:
        """From here on a GPU computes in bfloat16, as in training, unless that was in float32; the weights stay float32."""
        if self.model.embedding.weight.is_cuda and self.config.dtype != "float32":
            self.model.dtype = torch.bfloat16

    def encode(self, text: str) -> list[int]:
        """Ids of a text as the mix encodes it: special tokens in it are plain text, nothing is added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))


def open_trained(workspace: Workspace, name: str | None = None, device: str = "cpu") -> Trained:
    """The model of a checkpoint (`find_checkpoint`) on a device, in float32; auto: a GPU if there is one.

    Raises UsageError where there is no such checkpoint or device, CurateError where it is damaged.
    """
    from tokenizers import Tokenizer

    found = checkpoints.read_checkpoint(workspace, find_checkpoint(workspace, name))
    vocabulary = found.state.get("vocabulary")
    if vocabulary is None:
        raise CurateError(f"{found.name} does not say which id ends a text: train it with this version of curate")
    data = checkpoints.load_tokenizer(workspace, found)
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    if "labels" in found.state.get("finetune", {}):
        from curate.pretrain.classifier import Classifier

        model: Transformer = Classifier(ModelShape(**found.state["model"]), len(found.state["finetune"]["labels"]))
        checkpoints.load_weights(workspace, found, model)
    else:
        model = checkpoints.load_model(workspace, found)
    model.to(_device(device)).eval()
    config = Training.model_validate(found.state["config"])
    return Trained(
        found, config, model, tokenizer, data, vocabulary["size"], vocabulary["eos"], vocabulary["mask"]
    )  # fmt: skip


def find_checkpoint(workspace: Workspace, name: str | None = None) -> str:
    """The folder of a checkpoint: None is the newest of pretraining, else its folder, its step, or the name of a
    fine-tuning run (its newest) with, if need be, `/step`. Raises UsageError that says what there is."""
    everything = checkpoints.list_checkpoints(workspace)
    if name is None:
        if not everything:
            raise UsageError(f"{redact(workspace.url)} has no checkpoint: run `curate pretrain` first")
        return everything[-1]
    wanted = name.strip("/")
    run, _, step = wanted.rpartition("/") if wanted.rpartition("/")[2].isdigit() else (wanted, "", "")
    if run.startswith("pretrain/"):
        run = run.removesuffix("/checkpoints")
        folder = f"{run}/checkpoints"
    else:
        folder = f"{FINETUNED}/{run}/checkpoints" if run else checkpoints.FOLDER
    listed = checkpoints.list_checkpoints(workspace, folder)
    match = [found for found in listed if not step or found.rpartition("/")[2].lstrip("0") == step.lstrip("0")]
    if match:
        return match[-1]
    tuned = finetuned_names(workspace)
    known = [*(found.rpartition("/")[2] for found in (listed or everything)), *tuned]
    raise UsageError(f"no checkpoint {name!r} in {redact(workspace.url)}{nearest(name, tuple(known))}")


def finetuned_names(workspace: Workspace) -> list[str]:
    """Names of the fine-tuning runs that have a checkpoint."""
    markers = workspace.list(FINETUNED, checkpoints.MARKER)
    return sorted({name.split("/")[2] for name in markers if name.count("/") == 5})


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda, but this PyTorch finds no GPU: use auto or cpu, or install its CUDA build")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
