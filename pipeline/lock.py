"""One driver a workspace: a lock file with a heartbeat, and a token that fences off the workers of a dead driver."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.pipeline.errors import WorkspaceLocked
from curate.pipeline.workspace import Workspace

LOCK = "lock.json"
BEAT_SECONDS = 5.0
SETTLE_SECONDS = 2.0
"""On an object store, where the last of two writers wins: how long a driver waits before it looks whether that was it."""
STALE_SECONDS = 60.0
"""A lock whose heartbeat is older than this belongs to a driver that is gone."""


@contextlib.contextmanager
def driver_lock(workspace: Workspace) -> Iterator[str]:
    """Holds the workspace for this driver; gives the token that its workers check before they publish a file.

    Raises WorkspaceLocked if another driver is alive. A driver that was killed on this host is recognised at once, one
    on another host after STALE_SECONDS without a heartbeat.
    """
    token = uuid.uuid4().hex
    with _exclusive(workspace, token):
        holder = workspace.read_json(LOCK)
        if holder is not None and _alive(holder):
            host = holder["host"].split(" ")[0]
            raise WorkspaceLocked(
                f"{workspace.url} is in use by process {holder['pid']} on {host}: wait for it, stop it, "
                f"or give another --workspace (a driver that is gone is forgotten after {STALE_SECONDS:.0f} s)"
            )
        mine = {
            "token": token,
            "host": _host(),
            "pid": os.getpid(),
            "started": _start_time(os.getpid()),
        }
        _beat(workspace, mine)
    stop = threading.Event()

    def keep_alive() -> None:
        while not stop.wait(BEAT_SECONDS):
            with contextlib.suppress(
                Exception
            ):  # a full disk or a lost network ends the run elsewhere, not the heartbeat
                if holds(workspace, token):
                    _beat(workspace, mine)

    thread = threading.Thread(target=keep_alive, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield token
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):
            if holds(workspace, token):
                workspace.remove(LOCK)


def holds(workspace: Workspace, token: str) -> bool:
    """True while the driver with this token holds the workspace."""
    holder = workspace.read_json(LOCK)
    return holder is not None and holder.get("token") == token


def current_holder(workspace: Workspace) -> dict[str, Any] | None:
    """The driver that works on the workspace now, or None."""
    holder: dict[str, Any] | None = workspace.read_json(LOCK)
    return holder if holder is not None and _alive(holder) else None


def _beat(workspace: Workspace, lock: dict[str, Any]) -> None:
    workspace.write_json(LOCK, lock | {"heartbeat": time.time()})


def _alive(holder: dict[str, Any]) -> bool:
    if holder["host"] == _host():
        started = _start_time(holder["pid"])
        return started is not None and started == holder["started"]
    return bool(time.time() - holder["heartbeat"] < STALE_SECONDS)


def _host() -> str:
    """This machine, and within it this space of process numbers: two containers may have the same name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{socket.gethostname()} ({boot} {Path('/proc/self/ns/pid').readlink()})"
    except OSError:
        return socket.gethostname()


def _start_time(pid: int) -> str | None:
    """When a process started, as its system tells it (so that a reused pid is not taken for it); None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
    except OSError:
        return None
    import subprocess

    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return shown or None


@contextlib.contextmanager
def _exclusive(workspace: Workspace, token: str) -> Iterator[None]:
    """Lets one process at a time look at the lock and take it; on object stores the token is read back instead."""
    if not workspace.is_local:
        yield
        time.sleep(SETTLE_SECONDS)
        if not holds(workspace, token):
            raise WorkspaceLocked(f"another driver took {workspace.url} at the same moment: try again")
        return
    import fcntl

    path = Path(workspace.path(".lock-guard"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
