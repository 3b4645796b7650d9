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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.model import ModelShape, Transformer

FOLDER = "pretrain/checkpoints"
MARKER = "state.json"


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
) -> str:
    """Writes a checkpoint and gives its folder's name; killed at any moment, the ones before are still good."""
    name = f"{FOLDER}/{step:08d}"
    workspace.remove(f"{name}/{MARKER}")
    weights = {key: value.detach().contiguous().cpu() for key, value in model.state_dict().items()}
    moments = {key: value.detach().contiguous().cpu() for key, value in _moments(model, optimizers).items()}
    files = {}
    for file, data in (
        ("model.safetensors", save(weights)),
        ("optimizer.safetensors", save(moments)),
        ("tokenizer.json", tokenizer),
    ):
        with workspace.create(f"{name}/{file}") as output:
            output.write(data)
        files[file] = {"bytes": output.size, "sha256": output.sha256}
    workspace.write_json(f"{name}/{MARKER}", {"schema_version": 1, "step": step, "files": files} | state)
    return name


def list_checkpoints(workspace: Workspace) -> list[str]:
    """Folders of the complete checkpoints, oldest step first."""
    names = [name.rpartition("/") for name in workspace.list(FOLDER, MARKER)]
    return [folder for folder, _, file in names if file == MARKER and folder.count("/") == 2]


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
    model.load_state_dict(load(_verified(workspace, checkpoint, "model.safetensors")))


def load_optimizers(
    workspace: Workspace, checkpoint: Checkpoint, model: Transformer, optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Puts a checkpoint's moments into the optimisers; CurateError where the file is damaged."""
    moments: dict[str, dict[str, Tensor]] = {}
    for name, value in load(_verified(workspace, checkpoint, "optimizer.safetensors")).items():
        parameter, _, moment = name.rpartition(".")
        moments.setdefault(parameter, {})[moment] = value
    for optimizer in optimizers:
        names = enumerate(_names(model, optimizer))
        state = {number: moments[name] for number, name in names if name in moments}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_model(workspace: Workspace, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model of a checkpoint, on the CPU."""
    model = Transformer(ModelShape(**checkpoint.state["model"]), dtype)
    load_weights(workspace, checkpoint, model)
    return model


def prune_checkpoints(workspace: Workspace, keep: int) -> None:
    """Removes all but the newest complete checkpoints, and whatever is left of older ones; a marker goes first."""
    complete = list_checkpoints(workspace)
    kept = complete[-keep:]
    for name in complete[: -len(kept)] if kept else []:
        workspace.remove(f"{name}/{MARKER}")
    for file in workspace.list(FOLDER):
        if kept and file.rpartition("/")[0] < kept[0]:
            workspace.remove(file)
            if workspace.is_local:
                with contextlib.suppress(OSError):  # not empty yet: the folder goes with its last file
                    Path(workspace.path(file)).parent.rmdir()


def refuse_other_run(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    """UsageError that names what differs, unless a run with this state may go on from the checkpoint."""
    differences = []
    for section in ("config", "model", "data"):
        then, now = checkpoint.state.get(section, {}), state[section]
        for name in sorted(then.keys() | now.keys()):
            if then.get(name) != now.get(name):
                label = {"config": f"pretrain.{name}", "model": f"the model's {name}", "data": f"the mix's {name}"}[
                    section
                ]
                differences.append(f"{label} was {then.get(name)}, now {now.get(name)}")
    if differences:
        raise UsageError(
            f"{checkpoint.name} belongs to another run: {'; '.join(differences)}. "
            "Give the same settings to go on, or begin anew with --restart, which removes the checkpoints"
        )


def _verified(workspace: Workspace, checkpoint: Checkpoint, file: str) -> bytes:
    name = f"{checkpoint.name}/{file}"
    try:
        with workspace.open(name) as stream:
            data = stream.read()
    except FileNotFoundError:
        raise CurateError(f"{name} is missing") from None
    if hashlib.sha256(data).hexdigest() != checkpoint.state["files"][file]["sha256"]:
        raise CurateError(f"{name} is damaged: its checksum is not the one in {MARKER}")
    return data


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
