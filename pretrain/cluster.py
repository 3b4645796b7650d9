"""Training on a Ray cluster: Ray Train starts the processes, a GPU each, and starts them again where one is lost.

The checkpoints are our own, in the workspace, which every node must reach. After a loss the processes that can still be had
(at least one) go on from the newest of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from curate.pipeline.engines.ray import connect
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.pretrain.config import PretrainConfig
from curate.pretrain.parallel import Elsewhere, Lost, open_ranks
from curate.pretrain.run import Progress, remove
from curate.pretrain.train import RESULT, pretrain

MAX_FAILURES = 8
"""Losses of a process after which the run is given up; nodes that the cluster takes away are not counted."""
POLL_SECONDS = 0.5
RESIZE_SECONDS = 600.0
"""How often Ray looks whether a run that lost processes can have them again."""


class _Board:
    """An actor between the first process and the driver: events one way, a signal the other."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._signal = 0
        self._failure: tuple[str, int] | None = None

    def put(self, event: dict[str, Any]) -> int:
        """Takes an event, and gives the number of the signal that the driver received, or 0."""
        self._events.append(event)
        return self._signal

    def take(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def stop(self, number: int) -> None:
        self._signal = number

    def fail(self, message: str, exit_code: int) -> None:
        self._failure = message, exit_code

    def failure(self) -> tuple[str, int] | None:
        return self._failure


def pretrain_on_ray(
    workspace: Workspace,
    config: PretrainConfig,
    *,
    progress: Progress,
    address: str | None = None,
    workers: int | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """`pretrain` in processes of a Ray cluster at `address` (None: a private instance on this machine).

    `workers`: processes; by default one a GPU of the cluster, or, without GPUs, one a node with all its cores. Raises what
    `pretrain` raises, and CurateError where Ray gives up.
    """
    for name in ("RAY_CHDIR_TO_TRIAL_DIR", "RAY_TRAIN_ENABLE_STATE_TRACKING"):
        os.environ.setdefault(name, "0")
    ray = connect(workers, address, {})
    try:
        from ray import train
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise CurateError(f"training on a Ray cluster needs Ray Train: pip install 'ray[train]' ({error})") from error
    try:
        board = ray.remote(num_cpus=0)(_Board).remote()
        if restart:
            remove(workspace)
        scaling = train.ScalingConfig(**_resources(ray, config, workers))
        place = workspace.root if workspace.is_local else workspace.url
        job = {"workspace": place, "config": config.model_dump(), "board": board}
        job["cores"] = int(scaling.resources_per_worker["CPU"])
        with tempfile.TemporaryDirectory(prefix="curate-train-", ignore_cleanup_errors=True) as folder:
            trainer = TorchTrainer(
                _work,
                train_loop_config=job,
                scaling_config=scaling,
                run_config=train.RunConfig(
                    storage_path=folder, failure_config=train.FailureConfig(max_failures=MAX_FAILURES)
                ),
            )
            _watch(ray, trainer, board, progress)
    finally:
        ray.shutdown()
    result: dict[str, Any] | None = workspace.read_json(RESULT)
    if result is None:
        raise CurateError(
            f"Ray Train ended, but {RESULT} is not in the workspace: can every node of the cluster reach it?"
        )
    return result


def _resources(ray: Any, config: PretrainConfig, workers: int | None) -> dict[str, Any]:
    """How many processes, and what each is given: `ScalingConfig`'s arguments."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    on_gpu = config.device == "cuda" or (config.device == "auto" and gpus > 0)
    if on_gpu and gpus < (workers or 1):
        raise UsageError(f"the Ray cluster has {gpus} GPUs: give --workers {gpus}, or set pretrain.device=cpu")
    count = workers or (gpus if on_gpu else len(nodes))
    cores = sum(int(node["CPU"]) for node in nodes)
    if count > cores:
        raise UsageError(f"the Ray cluster has {cores} cores: give --workers {cores} or less")
    count = min(count, config.resolved().batch_size)
    each = 1 if on_gpu else max(1, min(int(min(node["CPU"] for node in nodes)), cores // count))
    resources = {"CPU": each, "GPU": 1} if on_gpu else {"CPU": each}
    found: dict[str, Any] = {"num_workers": count, "use_gpu": on_gpu, "resources_per_worker": resources}
    from ray.train import ScalingConfig

    if count > 1 and hasattr(ScalingConfig, "elasticity_enabled"):
        found |= {"num_workers": (1, count), "elastic_resize_monitor_interval_s": RESIZE_SECONDS}
    return found


def _work(job: dict[str, Any]) -> None:
    """What each process does. Ray Train begins again where one is lost; any other error has the driver end the run."""
    import ray
    import torch

    board = job["board"]
    if ray.get(board.failure.remote()) is not None:
        return
    if not torch.cuda.is_available():
        torch.set_num_threads(job["cores"])
    asked: list[int] = []

    def show(event: dict[str, Any]) -> None:
        number = ray.get(board.put.remote(event))
        if number and not asked:
            asked.append(number)

    config = PretrainConfig.model_validate(job["config"])
    try:
        with open_ranks(config.device) as ranks:
            pretrain(Workspace(job["workspace"]), config, progress=show, ranks=ranks, asked=asked)
    except (Lost, Elsewhere):
        raise
    except CurateError as error:
        ray.get(board.fail.remote(str(error), error.exit_code))
        raise
    except Exception as error:
        if "CUDA error" not in str(error):  # a GPU that fails is left to Ray Train, too
            ray.get(board.fail.remote("".join(traceback.format_exception(error)).strip(), 1))
        raise


def _watch(ray: Any, trainer: Any, board: Any, progress: Progress) -> None:
    """Runs the trainer to its end; shows events as they come, and passes the first SIGTERM or SIGINT on."""
    failed: list[Exception] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 (told by the main thread)
            failed.append(error)

    def show() -> None:
        for event in ray.get(board.take.remote()):
            progress(event)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    with _passing_on(ray, board):
        thread.start()
        failure = None
        while thread.is_alive() and failure is None:
            thread.join(POLL_SECONDS)
            show()
            failure = ray.get(board.failure.remote())
        show()
    if failure is not None:
        raise Elsewhere(*failure)
    if failed:
        said = str(failed[0]).strip() or type(failed[0]).__name__
        raise CurateError(
            f"Ray Train gave up: {said[-2000:]}. The same command again goes on from the newest checkpoint"
        )


@contextlib.contextmanager
def _passing_on(ray: Any, board: Any) -> Iterator[None]:
    """Has the first process save and stop at SIGTERM or SIGINT; a second one ends the driver at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        board.stop.remote(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
