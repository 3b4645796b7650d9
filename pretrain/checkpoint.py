"""Checkpoints: weights, optimiser and state, from which a run goes on exactly as if it had not stopped.

    pretrain/checkpoints/<step>/model.safetensors
                                optimizer.safetensors
                                tokenizer.json
                                state.json           written last: without it the checkpoint does not exist

`state.json` holds the step, the configuration, the shape of the model, the identity of the data and the checksums of the
other files. There is no random state to keep: every random number of a run is a function of (seed, step).
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.model import ModelShape, Transformer
from curate.pretrain.parallel import ALONE, Ranks, local, spread_like
from curate.pretrain.tensors import read_tensors, write_tensors

FOLDER = "pretrain/checkpoints"
MARKER = "state.json"
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: `name` is its folder in the workspace, `step` the optimiser steps that were done."""

    name: str
    step: int
    state: dict[str, Any]


def save_checkpoint(
    workspace: Workspace,
    step: int,
    model: Transformer,
    optimizers: Sequence[torch.optim.Optimizer],
    state: dict[str, Any],
    tokenizer: bytes,
    folder: str = FOLDER,
    ranks: Ranks = ALONE,
) -> str:
    """Writes a checkpoint and gives its folder's name; killed at any moment, the ones before are still good.

    All processes call it and the first one writes: whole tensors, whatever spreads the model over the processes, so that any
    number of them goes on from it.
    """
    name = f"{folder}/{step:08d}"
    ranks.on_first(lambda: workspace.remove(f"{name}/{MARKER}"))
    files = {
        WEIGHTS: write_tensors(workspace, f"{name}/{WEIGHTS}", model.state_dict(), ranks),
        MOMENTS: write_tensors(workspace, f"{name}/{MOMENTS}", _moments(model, optimizers), ranks),
    }

    def finish() -> None:
        with workspace.create(f"{name}/tokenizer.json") as output:
            output.write(tokenizer)
        files["tokenizer.json"] = {"bytes": output.size, "sha256": output.sha256}
        workspace.write_json(f"{name}/{MARKER}", {"schema_version": 1, "step": step, "files": files} | state)

    ranks.on_first(finish)
    return name


def list_checkpoints(workspace: Workspace, folder: str = FOLDER) -> list[str]:
    """Folders of the complete checkpoints, oldest step first."""
    names = [name.rpartition("/") for name in workspace.list(folder, MARKER)]
    return [found for found, _, file in names if file == MARKER and found.rpartition("/")[0] == folder]


def read_checkpoint(workspace: Workspace, name: str) -> Checkpoint:
    """A checkpoint's state; CurateError where it cannot be read."""
    try:
        state = workspace.read_json(f"{name}/{MARKER}")
    except ValueError as error:
        raise CurateError(f"{name}/{MARKER} is not valid JSON: {error}") from None
    if not isinstance(state, dict) or state.get("schema_version") != 1:
        raise CurateError(f"{name}/{MARKER} is not a checkpoint that this program reads")
    return Checkpoint(name, state["step"], state)


def load_weights(workspace: Workspace, checkpoint: Checkpoint, model: Transformer) -> None:
    """Puts a checkpoint's weights into the model; CurateError where the file is damaged."""
    with verified(workspace, checkpoint, WEIGHTS) as path:
        put_weights(path, model)


@torch.no_grad()
def put_weights(path: Path, model: Transformer, ranks: Ranks = ALONE) -> None:
    """Puts the weights of a file that the first process has into the model of every process."""
    parameters = dict(model.named_parameters())
    for name, value in read_tensors(path, ranks, model.embedding.weight.device):
        if name not in parameters:
            raise CurateError(f"{path}: the model has no weight {name!r}")
        mine = parameters.pop(name)
        local(mine).copy_(local(spread_like(value, mine)))
    if parameters:
        raise CurateError(f"{path} lacks {', '.join(parameters)}")


def put_moments(
    path: Path, model: Transformer, optimizers: Sequence[torch.optim.Optimizer], ranks: Ranks = ALONE
) -> None:
    """Puts the moments of a file that the first process has into the optimisers of every process."""
    parameters = dict(model.named_parameters())
    moments: dict[str, dict[str, Tensor]] = {}
    for name, value in read_tensors(path, ranks, model.embedding.weight.device):
        parameter, _, moment = name.rpartition(".")
        like = parameters.get(parameter)
        spread = value if like is None or like.shape != value.shape else spread_like(value, like)
        moments.setdefault(parameter, {})[moment] = spread
    for optimizer in optimizers:
        names = enumerate(_names(model, optimizer))
        state = {number: moments[name] for number, name in names if name in moments}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_model(workspace: Workspace, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a checkpoint, on the CPU."""
    model = Transformer(ModelShape(**checkpoint.state["model"]), dtype)
    load_weights(workspace, checkpoint, model)
    return model


def load_tokenizer(workspace: Workspace, checkpoint: Checkpoint) -> bytes:
    """The tokenizer of a checkpoint, as JSON of the `tokenizers` library; CurateError where the file is damaged."""
    with verified(workspace, checkpoint, "tokenizer.json") as path:
        return path.read_bytes()


def prune_checkpoints(workspace: Workspace, keep: int, folder: str = FOLDER) -> None:
    """Removes all but the newest complete checkpoints, and whatever is left of older ones; a marker goes first."""
    complete = list_checkpoints(workspace, folder)
    kept = complete[-keep:]
    for name in complete[: -len(kept)] if kept else []:
        workspace.remove(f"{name}/{MARKER}")
    for file in workspace.list(folder):
        if kept and file.rpartition("/")[0] < kept[0]:
            workspace.remove(file)
            if workspace.is_local:
                with contextlib.suppress(OSError):  # not empty yet: the folder goes with its last file
                    Path(workspace.path(file)).parent.rmdir()


def refuse_other_run(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    """UsageError that names what differs, unless a run with this state may go on from the checkpoint."""
    differences = []
    labels = {"config": "pretrain.", "model": "the model's ", "data": "the mix's ", "finetune": "finetune's "}
    for section, label in labels.items():
        then, now = checkpoint.state.get(section, {}), state.get(section, {})
        differences += [
            f"{label}{name} was {then.get(name)}, now {now.get(name)}"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
    if differences:
        raise UsageError(
            f"{checkpoint.name} belongs to another run: {'; '.join(differences)}. "
            "Give the same settings to go on, or begin anew with --restart, which removes the checkpoints"
        )


@contextlib.contextmanager
def verified(workspace: Workspace, checkpoint: Checkpoint, file: str) -> Iterator[Path]:
    """A file of a checkpoint on this machine's disk; CurateError where it is missing or damaged.

    One of a workspace that is not local is copied to a temporary file, as long as the block lasts.
    """
    name = f"{checkpoint.name}/{file}"
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(workspace.open(name))
        except FileNotFoundError:
            raise CurateError(f"{name} is missing") from None
        copy = None if workspace.is_local else stack.enter_context(tempfile.NamedTemporaryFile(prefix="curate-"))
        while part := source.read(1 << 24):
            digest.update(part)
            if copy is not None:
                copy.write(part)
        if digest.hexdigest() != checkpoint.state["files"][file]["sha256"]:
            raise CurateError(f"{name} is damaged: its checksum is not the one in {MARKER}")
        if copy is not None:
            copy.flush()
        yield Path(workspace.path(name) if copy is None else copy.name)


def _names(model: Transformer, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the optimiser's order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _moments(model: Transformer, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for optimizer in optimizers:
        names = _names(model, optimizer)
        for number, moments in optimizer.state_dict()["state"].items():
            found |= {f"{names[number]}.{moment}": value for moment, value in moments.items()}
    return found
