"""Fixtures for all folders: one Ray cluster a session, drivers reach it by address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tests run in two processes: threads of BLAS would only wait
os.environ.pop("COLUMNS", None)  # what commands print is as wide as where tests run in one process

settings.register_profile("curate", deadline=None)  # time on a machine that does other work says nothing
settings.load_profile("curate")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed data holds the time it was packed at, and processes side by side must find the same names."""
    return "gzip" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side a process takes a file, whose fixtures it then makes once; all tests on Ray, wherever they stand, share
    one cluster and so a process. These come first, and the way from end to end: they take longest."""
    first = {"ray": 0, "test_end_to_end.py": 1}
    groups = {}
    for item in items:
        on_ray = item.get_closest_marker("ray") is not None or "ray_address" in getattr(item, "fixturenames", ())
        groups[item] = "ray" if on_ray else item.path.relative_to(TESTS).as_posix()
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: first.get(groups[item], 2))


@pytest.fixture(autouse=True, scope="module")
def _no_plugin_stays() -> Iterator[None]:
    """Signals of plugins that a file's tests imported are gone again after it: other tests look at all signals there are."""
    from curate.stages.filter import registry

    before = registry.registered()
    yield
    for name, added in registry.registered().items():
        if name not in before:
            del registry._REGISTERED[name]
            sys.modules.pop(added.function.__module__, None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray cluster of our own with four slots; its workers find the tests' own modules.

    It says that it has two GPUs, so that what asks for them is placed.
    """
    pytest.importorskip("ray")
    port = _free_port()
    environment = os.environ | {"PYTHONPATH": str(TESTS), "RAY_DISABLE_IMPORT_WARNING": "1"}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [
                str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}", "--num-cpus=4",
                "--num-gpus=2", "--include-dashboard=false", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}",
                "--disable-usage-stats", "--object-store-memory=100000000",
            ],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        address = f"127.0.0.1:{port}"
        try:
            _wait_for(address, head)
            yield address
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
            _kill_remains(folder)


def _wait_for(address: str, head: subprocess.Popen[bytes]) -> None:
    """Until the cluster says that it has started: 8 s on an idle machine, more under load."""
    assert head.stdout is not None
    deadline = time.monotonic() + 120
    os.set_blocking(head.stdout.fileno(), False)
    said = b""
    while time.monotonic() < deadline:
        said += head.stdout.read() or b""
        if b"Ray runtime started" in said:
            return
        if head.poll() is not None:
            break
        time.sleep(0.2)
    raise RuntimeError(f"no Ray cluster at {address}: {said.decode(errors='replace')[-2000:]}")


def _kill_remains(folder: str) -> None:
    """Ray's own children leave the process group; they name the session's folder on their command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if folder.encode() in command and int(entry.name) != os.getpid():
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue
