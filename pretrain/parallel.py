"""Several processes that train one model: each computes its rows of every batch, DDP or FSDP2 adds up the gradients.

torchrun or Ray Train starts them; a process that neither started trains alone and torch.distributed is not touched.
Gradients and losses are sums over the processes of what each divides by the predictions of the whole step, and the batch is
a function of (seed, step): so the number of processes changes results by rounding alone, and a run may go on with another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from curate.pipeline.errors import CurateError, UsageError
from curate.pretrain.config import Training
from curate.pretrain.loss import Objective
from curate.pretrain.model import Transformer

FSDP_FROM = 1_000_000_000
"""Parameters from which `parallel: auto` shards the model."""

PATIENCE = timedelta(hours=24)
"""How long processes wait for what the first alone does, such as validation; one that died is noticed at once."""

T = TypeVar("T")


class Elsewhere(CurateError):
    """The first process met an error, which it reports itself; the others end with the same exit status."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Lost(CurateError):
    """Another process of the run is gone."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those that train one model."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Its number among those on this machine."""
    control: Any = None
    """A group for small messages between CPUs, apart from that of the gradients."""

    @property
    def first(self) -> bool:
        """This process writes, reports and validates."""
        return self.rank == 0

    def device(self, wanted: torch.device) -> torch.device:
        """The device of this process; UsageError where the machine has fewer GPUs than processes."""
        if wanted.type != "cuda" or self.world == 1:
            return wanted
        if self.local >= torch.cuda.device_count():
            raise UsageError(
                f"process {self.local} of this machine has no GPU, there are {torch.cuda.device_count()}: start no more "
                "processes than GPUs (torchrun --nproc-per-node), or set pretrain.device=cpu"
            )
        return torch.device("cuda", self.local)

    def rows(self, count: int) -> slice:
        """Which of `count` rows are this process's; UsageError where there are fewer rows than processes."""
        if count < self.world:
            raise UsageError(
                f"{self.world} processes cannot share batches of {count} sequences: raise pretrain.batch_size, or start fewer"
            )
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, the same on each; `value` itself is overwritten."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.world > 1:
            dist.barrier(self.control)

    def broadcast(self, value: T) -> T:
        """What the first process gave, a small value that can be pickled."""
        if self.world == 1:
            return value
        carried: list[Any] = [value]
        dist.broadcast_object_list(carried, src=0, group=self.control)
        found: T = carried[0]
        return found

    def on_first(self, function: Callable[[], T], meanwhile: Callable[[], object] | None = None) -> T:
        """What `function` gives in the first process, to all of them; the others call `meanwhile` before they wait for it.

        Raises in the first process what `function` raises, and Elsewhere in the others.
        """
        if self.world == 1:
            return function()
        if self.first:
            try:
                value = function()
            except Exception as error:
                code = error.exit_code if isinstance(error, CurateError) else 1
                self._say(None, (str(error) or type(error).__name__, code))
                raise
            self._say(value, None)
            return value
        if meanwhile is not None:
            meanwhile()
        found, failed = self._say(None, None)
        if failed is not None:
            raise Elsewhere(*failed)
        result: T = found
        return result

    def _say(self, value: Any, failed: tuple[str, int] | None) -> tuple[Any, tuple[str, int] | None]:
        return self.broadcast((value, failed))


ALONE = Ranks()


class Agreement:
    """The largest of the numbers that the processes say, one call late where there are several: so nobody waits for it."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._asked: tuple[Any, Tensor] | None = None

    def __call__(self, number: int) -> int:
        if self._ranks.world == 1:
            return number
        before = self._asked
        said = torch.tensor(number)
        work = dist.all_reduce(said, op=dist.ReduceOp.MAX, group=self._ranks.control, async_op=True)
        self._asked = work, said
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])


@contextmanager
def open_ranks(device: str = "auto") -> Iterator[Ranks]:
    """The place that torchrun's environment, or Ray Train's process group, gives this process; ALONE without either.

    `device` as in `PretrainConfig`. Raises CurateError where the processes do not find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1")) if {"RANK", "MASTER_ADDR"} <= os.environ.keys() else 1
    given = dist.is_available() and dist.is_initialized()
    if (dist.get_world_size() if given else world) == 1:
        yield ALONE
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if not given:
        try:
            dist.init_process_group("nccl" if on_gpu else "gloo")
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '?')}"
            raise CurateError(
                f"the {world} processes of this run do not find each other at {where}: {error}"
            ) from error
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu and given:
        local = torch.cuda.current_device()  # Ray Train has chosen it
    elif on_gpu and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    ranks = Ranks(dist.get_rank(), dist.get_world_size(), local, control)
    with noticing_loss(ranks):
        yield ranks
        ranks.barrier()
    if not given:
        dist.destroy_process_group()


@contextmanager
def noticing_loss(ranks: Ranks) -> Iterator[None]:
    """Raises Lost where a message to another process fails; with one process, nothing."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if ranks.world == 1 or not (isinstance(error, dist.DistError) or "gloo" in said or "NCCL" in said):
            raise
        raise Lost(
            f"process {ranks.rank} of {ranks.world}: another process of this run is gone, see what it said. "
            f"The same command again goes on from the newest checkpoint ({said.splitlines()[0][:200]})"
        ) from error


def shards(config: Training, model: Transformer, ranks: Ranks) -> bool:
    """True if the model is to be spread over the processes (FSDP2), rather than held whole by each (DDP)."""
    if ranks.world == 1:
        return False
    return config.parallel == "fsdp" or (config.parallel == "auto" and model.count_parameters()["all"] >= FSDP_FROM)


def wrap(objective: Objective, config: Training, ranks: Ranks, compiled: bool = False) -> nn.Module:
    """The objective as it is called in training; its gradients are summed over the processes, in float32.

    DDP holds the model whole. FSDP2 shards the parameters of `objective.model` in place, so optimisers are to be made after
    this: blocks first, then the rest; weights travel in float32, for they are cast where they are used. With FSDP2,
    torch.compile sees one block at a time. Alone, the objective itself.
    """
    if ranks.world == 1:
        return objective
    if shards(config, objective.model, ranks):
        return _sharded(objective, compiled)
    device = objective.model.embedding.weight.device
    wrapped = nn.parallel.DistributedDataParallel(
        objective,
        device_ids=[device.index] if device.type == "cuda" else None,
        gradient_as_bucket_view=True,
    )
    # DDP's own hook divides by the number of processes. A lambda, because DDP wants no annotations that are strings.
    wrapped.register_comm_hook(
        None,
        lambda state, bucket: (
            dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])
        ),
    )
    return wrapped


def _sharded(objective: Objective, compiled: bool) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not hasattr(FSDPModule, "set_force_sum_reduction_for_comms"):
        raise UsageError(
            f"PyTorch {torch.__version__} is too old to shard a model: use 2.9 or later, or pretrain.parallel=ddp"
        )
    model = objective.model
    mesh = init_device_mesh(model.embedding.weight.device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    objective.trunk = model.trunk  # not compiled as a whole: FSDP2 gathers a block's weights between two graphs
    for block in model.blocks:
        if compiled:
            block.forward = torch.compile(block.forward, dynamic=False, fullgraph=True)
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(objective, mesh=mesh, mp_policy=policy)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return objective


@contextmanager
def synchronised(objective: nn.Module, last: bool) -> Iterator[None]:
    """A pass within a step: gradients travel with the `last` one only."""
    if hasattr(objective, "no_sync") and not last:  # DDP
        with objective.no_sync():
            yield
        return
    if hasattr(objective, "set_requires_gradient_sync"):  # FSDP2
        objective.set_requires_gradient_sync(last)
    yield


def full(value: Tensor) -> Tensor:
    """The whole of a tensor that is spread over the processes, all of which must ask for it; another tensor as it is."""
    found: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return found


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor that is spread over the processes, sharing its memory; another tensor as it is."""
    found: Tensor = value.to_local() if hasattr(value, "to_local") else value
    return found


def spread_like(whole: Tensor, pattern: Tensor) -> Tensor:
    """`whole`, which every process has, spread over them as `pattern` is; itself where `pattern` is not spread."""
    if not hasattr(pattern, "placements"):
        return whole
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * pattern.device_mesh.ndim
    spread = DTensor.from_local(whole, pattern.device_mesh, everywhere, run_check=False)
    found: Tensor = spread.redistribute(placements=pattern.placements)
    return found


@torch.no_grad()
def whole_model(model: Transformer, fp8: bool, ranks: Ranks) -> Transformer | None:
    """A model with all the weights of one that is spread over the processes, in the first of them; None in the others."""
    found = None
    if ranks.first:
        found = Transformer(model.shape, model.dtype, fp8).to(model.embedding.weight.device)
    for name, parameter in model.named_parameters():
        value = full(parameter)
        if found is not None:
            found.get_parameter(name).copy_(value)
    return found
