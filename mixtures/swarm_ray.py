"""A swarm on Ray: an actor a GPU (or a core, where there are none), each with one model that it trains again and again.

The driver gives out one run at a time; what a run leaves is its file in the workspace, so that nothing but names travels.
An actor that dies is replaced, and its run goes to another.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from curate.pipeline.engines.local import ONE_THREAD
from curate.pipeline.engines.ray import connect
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig

POLL_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""Without an actor at work: then it is said what is waited for."""

Job = tuple[int, PretrainConfig, str]
"""A run's number, configuration, and the file of its row."""


class _Proxy:
    """An actor: one `Trainer`, reused for all its runs."""

    def __init__(self, workspace: str, on_gpu: bool) -> None:
        if not on_gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # not every version of Ray hides the GPUs that it did not give
        import torch

        if not on_gpu:
            torch.set_num_threads(1)
        self._workspace = Workspace(workspace)
        self._trainer: Any = None
        self._quiet = contextlib.ExitStack()

    def ready(self) -> int:
        return os.getpid()

    def train(self, given: dict[str, Any], file: str) -> None:
        """Trains one run, unless its file is there, and writes its file."""
        from curate.pretrain.swarm import Trainer
        from curate.pretrain.train import no_garbage_collection

        if self._workspace.exists(file):
            return
        began = time.perf_counter()
        config = PretrainConfig.model_validate(given).resolved()
        if self._trainer is None or not self._trainer.fits(config):
            self._quiet.close()
            self._trainer = None
            self._trainer = Trainer(self._workspace, config)
            self._quiet.enter_context(no_garbage_collection())
        self._workspace.write_json(file, self._trainer.train(config, began))


def train_on_ray(
    workspace: Workspace,
    jobs: Sequence[Job],
    *,
    gpus: float,
    attempts: int,
    workers: int | None,
    address: str | None,
    progress: Callable[[dict[str, Any]], None],
    finished: Callable[[int], None],
) -> None:
    """Trains each job's run on the cluster at `address` (None: a private instance), and tells `finished` its number.

    `gpus`: of a GPU that an actor holds where the cluster has some and the runs may use them. `workers`: actors at most. A run
    whose actor dies is tried `attempts` times. Raises UsageError where no node has room, and CurateError for what a run raises
    and, after the others are done, for runs that were given up.
    """
    ray = connect(workers, address, dict(ONE_THREAD))
    try:
        options, room = _room(ray, jobs[0][1], gpus)
        place = workspace.root if workspace.is_local else workspace.url
        remote = ray.remote(max_restarts=0, max_task_retries=0, **options)(_Proxy)
        crew = _Crew(ray, lambda: remote.remote(place, "num_gpus" in options), attempts, progress)
        crew.run(jobs, min(room, workers or room, len(jobs)), finished)
    finally:
        ray.shutdown()


def _room(ray: Any, config: PretrainConfig, gpus: float) -> tuple[dict[str, Any], int]:
    """(what an actor asks for, how many actors the cluster has room for)."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    most = max((node.get("GPU", 0) for node in nodes), default=0)
    if config.device == "cpu" or (config.device == "auto" and not most):
        cores = sum(int(node["CPU"]) for node in nodes)
        if not cores:
            raise UsageError("no node of the Ray cluster has a core for a run")
        return {"num_cpus": 1}, cores
    if gpus > most:
        raise UsageError(
            f"a run needs {gpus:g} GPU, but no node of the Ray cluster has more than {most:g}: set swarm.proxy.device=cpu, "
            "swarm.gpus lower, or add a node that has it"
        )
    # a billionth less, as three times .333 is not quite one
    room = sum(min(int(node.get("GPU", 0) // (gpus - 1e-9)), int(node["CPU"])) for node in nodes)
    return {"num_cpus": 1, "num_gpus": gpus}, room


class _Crew:
    """The actors: those that start, those that are free, those at work."""

    def __init__(
        self, ray: Any, hire: Callable[[], Any], attempts: int, progress: Callable[[dict[str, Any]], None]
    ) -> None:
        self._ray = ray
        self._make = hire
        self._attempts = attempts
        self._progress = progress
        self._starting: dict[Any, Any] = {}
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, Job]] = {}
        self._tried: Counter[int] = Counter()
        self._stillborn = 0

    def run(self, jobs: Sequence[Job], actors: int, finished: Callable[[int], None]) -> None:
        """Gives out the jobs until all are done or given up."""
        waiting, given_up = deque(jobs), dict[int, str]()
        for _ in range(actors):
            self._hire()
        idle_since = time.monotonic()
        while waiting or self._busy:
            while waiting and self._free:
                self._give(self._free.pop(), waiting.popleft())
            if self._busy:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > PATIENCE_SECONDS:
                idle_since = float("inf")
                self._progress({"event": "note", "line": "swarm: waiting for room on the Ray cluster"})
            events = [*self._starting, *self._busy]
            for reference in self._ray.wait(events, num_returns=1, timeout=POLL_SECONDS)[0]:
                if reference in self._starting:
                    self._started(reference)
                    continue
                actor, job = self._busy.pop(reference)
                lost = self._lost(reference)
                if lost is None:
                    self._free.append(actor)
                    finished(job[0])
                    continue
                self._replace(actor)
                if self._tried[job[0]] < self._attempts:
                    waiting.append(job)
                    self._progress({"event": "note", "line": f"swarm: a worker died ({lost}): its run goes to another"})
                else:
                    given_up[job[0]] = lost
        if given_up:
            told = "; ".join(f"run {number + 1}: {error}" for number, error in sorted(given_up.items()))
            raise CurateError(
                f"{len(given_up)} runs were given up after {self._attempts} attempts each: {told}. The same command again "
                "tries them once more"
            )

    def _hire(self) -> None:
        actor = self._make()
        self._starting[actor.ready.remote()] = actor

    def _give(self, actor: Any, job: Job) -> None:
        number, config, file = job
        self._tried[number] += 1
        self._busy[actor.train.remote(config.model_dump(), file)] = actor, job

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        error = self._lost(reference)
        if error is None:
            self._free.append(actor)
            return
        self._stillborn += 1
        if self._stillborn >= self._attempts:
            raise CurateError(f"workers of the swarm do not start: {error}")
        self._replace(actor)

    def _replace(self, actor: Any) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)  # it may only be out of reach
        self._hire()

    def _lost(self, reference: Any) -> str | None:
        """Why the actor is gone; None where its call has ended well. Raises what the call raised, but for a GPU's failure."""
        errors = self._ray.exceptions
        try:
            self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if "CUDA error" in str(cause):
                return _first_line(cause)
            if isinstance(cause, CurateError):
                raise type(cause)(str(cause)) from None
            raise CurateError(f"a run of the swarm failed: {str(error).strip()[-2000:]}") from None
        except errors.RayError as error:
            return _first_line(error)
        return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
