"""safetensors files, one tensor at a time: memory for one tensor, also where the whole is spread over processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor

from curate.pipeline.workspace import Workspace
from curate.pretrain.parallel import ALONE, Ranks, full

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_tensors(
    workspace: Workspace, name: str, tensors: Mapping[str, Tensor], ranks: Ranks = ALONE
) -> dict[str, object]:
    """Writes a file that the first process has room for one tensor of; gives its `bytes` and `sha256`, to all processes.

    The bytes are those of safetensors' own writer. All processes call this with the same names; tensors that are spread over
    them (DTensor) are gathered one by one. Raises DiskFull where there is no space (Elsewhere in the other processes).
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    gathered = (full(tensors[key].detach()) for key in order)

    def write() -> dict[str, object]:
        try:
            with workspace.create(name) as output:
                output.write(_header({key: tensors[key] for key in order}))
                for value in gathered:
                    output.write(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        finally:
            exhaust()  # the other processes wait for this one in each gathering
        return {"bytes": output.size, "sha256": output.sha256}

    def exhaust() -> None:
        deque(gathered, maxlen=0)

    return ranks.on_first(write, meanwhile=exhaust)


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """The length of the JSON, and the JSON itself, filled up with spaces to a multiple of eight bytes."""
    facts, offset = {}, 0
    for name, value in tensors.items():
        size = value.numel() * value.element_size()
        facts[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(facts, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_tensors(
    path: str | os.PathLike[str], ranks: Ranks = ALONE, device: torch.device | None = None
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file on the disk of the first process, one by one, to all processes: on `device`, where there are
    several, else on the CPU."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(safe_open(path, "pt")) if ranks.first else None
        if ranks.world == 1:
            assert file is not None
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                yield name, file.get_tensor(name)
            return
        names = ranks.broadcast(list(file.keys()) if file is not None else [])
        for name in names:
            value = file.get_tensor(name) if file is not None else None
            shape, dtype = ranks.broadcast(
                (value.shape, value.dtype) if value is not None else (torch.Size(), torch.uint8)
            )
            value = value.to(device) if value is not None else torch.empty(shape, dtype=dtype, device=device)
            dist.broadcast(value, 0)
            yield name, value
