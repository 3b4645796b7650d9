"""The Ray engine: Ray Core tasks with a bounded window, declared memory, recycled workers and our own retries.

What needs GPUs runs on a pool of actors instead, each of which holds its own, with the models on it, from call to call: the
process of a task that has ended would keep models on a GPU that Ray has given to another.

Not Ray Data: its checkpoints load every row id and its shuffles do not survive a node. Documents never pass through
the object store: a task gets paths and returns a marker.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.pipeline.engines import Progress
from curate.pipeline.engines.local import ONE_THREAD, Throttle, usable_cores
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.stage import Task
from curate.pipeline.work import Call, Outcome, execute

POLL_SECONDS = 1.0
NODES_SECONDS = 30.0


class _Tally:
    """An actor that adds up the records of running tasks by key, for the driver's display."""

    def __init__(self) -> None:
        self._records: Counter[str] = Counter()

    def add(self, key: str, records: int) -> None:
        self._records[key] += records

    def take(self) -> dict[str, int]:
        records, self._records = self._records, Counter()
        return dict(records)


def _run(call: Call, tally: Any) -> Outcome:
    import pyarrow as pa

    if not call.task.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # not every version of Ray hides the GPUs that it did not give
    pa.set_cpu_count(1)
    report = Throttle(lambda records: tally.add.remote(call.task.key, records))
    outcome = execute(call, report.add)
    report.flush()
    return outcome


class _GpuWorker:
    """An actor that holds what it was made with: a share of a GPU, and memory."""

    def run(self, call: Call, tally: Any) -> Outcome:
        return _run(call, tally)


@dataclass
class _Hired:
    """A `_GpuWorker` as the driver sees it."""

    actor: Any
    shape: tuple[float, int]
    """GPUs and bytes of memory that it holds."""
    calls: int = 0


class RayEngine:
    """Tasks on a Ray cluster at `address` (`auto`, `host:port`, `ray://…`), or on a private instance on this machine.

    `workers` bounds the tasks that run at a time; None means what the cluster has.
    """

    name = "ray"

    def __init__(self, workers: int | None, address: str | None, tasks_per_worker: int) -> None:
        ray = connect(workers, address, dict(ONE_THREAD))
        self._ray = ray
        self._limit = workers
        self._pending: dict[Any, Call] = {}
        self._last_poll = 0.0
        self._nodes: list[dict[str, float]] = []
        self._looked = float("-inf")
        self._tasks_per_worker = tasks_per_worker
        self._for_gpus: deque[Call] = deque()
        self._busy: dict[Any, _Hired] = {}
        self._idle: list[_Hired] = []
        self._remote = ray.remote(max_retries=0, retry_exceptions=False, max_calls=tasks_per_worker, num_cpus=1)(_run)
        self._gpu_worker = ray.remote(max_restarts=0, max_task_retries=0, num_cpus=1)(_GpuWorker)
        self._tally: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Tally).remote()

    @property
    def capacity(self) -> int:
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return min(self._limit, cores) if self._limit else 2 * cores

    def submit(self, call: Call) -> None:
        if call.task.gpus:
            self._for_gpus.append(call)
            self._feed()
            return
        self._dismiss_idle()
        task = self._remote.options(memory=self._memory(call.task), name=_name(call.task))
        self._pending[task.remote(call, self._tally)] = call

    def _feed(self) -> None:
        """Gives calls that need GPUs to the actors that are free, and makes actors as long as there are GPUs for them."""
        while self._for_gpus:
            task = self._for_gpus[0].task
            shape = (task.gpus, self._memory(task))
            if not self._idle or self._idle[-1].shape != shape:
                self._dismiss_idle()
                if len(self._busy) >= self._room(task):
                    return
                options = {"num_gpus": task.gpus, "memory": shape[1]}
                self._idle.append(_Hired(self._gpu_worker.options(**options).remote(), shape))
            call, worker = self._for_gpus.popleft(), self._idle.pop()
            reference = worker.actor.run.options(name=_name(task)).remote(call, self._tally)
            self._pending[reference], self._busy[reference] = call, worker

    def _room(self, task: Task) -> int:
        """Actors that the cluster has GPUs and cores for; UsageError where it has none for a single one."""
        nodes = [(node.get("GPU", 0), int(node["CPU"])) for node in self._alive() if node.get("CPU", 0) >= 1]
        most = max((gpus for gpus, _ in nodes), default=0)
        if task.gpus > most:
            raise UsageError(
                f"a worker of {task.stage}/{task.step} needs {task.gpus:g} GPU, "
                f"but no node of the Ray cluster has more than {most:g}: "
                f"set {task.stage}.device to cpu, or add a node that has it"
            )
        # a billionth less, as three times .333 is not quite one
        room = sum(min(int(gpus // (task.gpus - 1e-9)), cores) for gpus, cores in nodes)
        return min(self._limit or room, room)

    def _settled(self, worker: _Hired) -> None:
        """The actor has ended a call: it is free, or has had as many as a worker may."""
        worker.calls += 1
        if worker.calls < self._tasks_per_worker:
            self._idle.append(worker)
        else:
            self._dismiss(worker)

    def _dismiss_idle(self) -> None:
        while self._idle:
            self._dismiss(self._idle.pop())

    def _dismiss(self, worker: _Hired) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)

    def _memory(self, task: Task) -> int:
        """Bytes to ask for: more than any node has (of those with the GPUs that it needs) would wait for ever."""
        nodes = [node.get("memory", 0) for node in self._alive() if node.get("GPU", 0) >= task.gpus]
        return min(task.memory, int(max(nodes, default=0)) or 1 << 62)

    def _alive(self) -> list[dict[str, float]]:
        """What each node offers."""
        if time.monotonic() - self._looked > NODES_SECONDS:
            self._nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._looked = time.monotonic()
        return self._nodes

    def wait(self, timeout: float) -> list[Outcome | Progress]:
        if not self._pending:
            time.sleep(timeout)
            return []
        ready, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout)
        events: list[Outcome | Progress] = []
        for reference in ready:
            call, worker = self._pending.pop(reference), self._busy.pop(reference, None)
            try:
                events.append(self._ray.get(reference))
                if worker is not None:
                    self._settled(worker)
            except self._ray.exceptions.RayError as error:
                if worker is not None:
                    self._dismiss(worker)  # it may only be out of reach
                first = (str(error).strip() or type(error).__name__).splitlines()[0]
                events.append(Outcome(call, kind="died", error=f"its worker died ({type(error).__name__}: {first})"))
        self._feed()
        if time.monotonic() - self._last_poll > POLL_SECONDS:
            self._last_poll = time.monotonic()
            with contextlib.suppress(self._ray.exceptions.RayError):
                taken = self._ray.get(self._tally.take.remote(), timeout=5)
                events += [Progress(key, records) for key, records in taken.items()]
        return events

    def close(self) -> None:
        self._for_gpus.clear()
        self._dismiss_idle()
        for worker in self._busy.values():
            self._dismiss(worker)
        for reference in self._pending.keys() - self._busy.keys():
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(reference, force=True)
        self._pending.clear()
        self._busy.clear()
        self._ray.shutdown()


def connect(workers: int | None, address: str | None, environment: dict[str, str]) -> Any:
    """The `ray` module, connected to the cluster at `address`, or to a private instance on this machine with room for
    `workers`; its workers have our code and these environment variables. CurateError where there is no Ray to reach."""
    _authenticate(address)
    try:
        import ray
    except ImportError as error:
        raise CurateError("--engine ray needs Ray: pip install 'curate-web[ray]'") from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if address is None:
        options |= {"num_cpus": workers or usable_cores(), "include_dashboard": False, "_temp_dir": _short_temp()}
    else:
        options |= {"address": address}
    options["runtime_env"] = {"env_vars": environment} | _code(address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise CurateError(f"cannot reach Ray at {address or 'a private instance'}: {error}") from error
    return ray


def _name(task: Task) -> str:
    return f"{task.stage}/{task.step}/{task.key}"


def _authenticate(address: str | None) -> None:
    """Shows the cluster our token where the user has one: Ray does so by itself for clusters that it starts, no others.

    Read once, when Ray is imported. A cluster without authentication takes no notice of a token.
    """
    token = Path.home() / ".ray" / "auth_token"
    has_one = token.exists() or "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    if address is not None and has_one:
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _short_temp() -> str:
    """Ray's sockets live under its temporary folder, and a Unix socket's path is short."""
    folder = Path(tempfile.gettempdir())
    return str(folder / "ray") if len(str(folder)) < 40 else "/tmp/ray"


def _code(address: str | None) -> dict[str, Any]:
    """How workers on other nodes get this code: a wheel made from an editable checkout, else from their image.

    `CURATE_RAY_CODE` names a wheel to send, or is `image` where every node has curate installed.
    """
    given = os.environ.get("CURATE_RAY_CODE")
    if address is None or given == "image":
        return {}
    if given:
        return {"py_modules": [given]}
    source = Path(__file__).resolve().parents[2]
    if not (source / "pyproject.toml").exists():
        return {}  # installed from a wheel: the cluster's image has it too, or the Ray job brought it
    return {"py_modules": [str(build_wheel(source))]}


def build_wheel(source: Path) -> Path:
    """A wheel of the checkout, built by pip in a temporary folder that lasts as long as this process.

    From a copy of the packages alone: what an earlier build left in the checkout would get into the wheel.
    """
    folder = Path(tempfile.mkdtemp(prefix="curate-wheel-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = folder / "source"
    copy.mkdir()
    for room in sorted(path.name for path in source.iterdir() if (path / "__init__.py").exists()):
        shutil.copytree(source / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(source / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(copy)]
    if importlib.util.find_spec("setuptools") is not None:
        command.append("--no-build-isolation")  # no index is asked
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise CurateError(f"cannot build a wheel of {source} to send to the cluster: {done.stderr.strip()[-500:]}")
    return wheels[0]
