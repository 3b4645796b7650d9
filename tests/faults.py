"""Starting, watching and killing real drivers and workers, and comparing what they leave behind."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def start(command: Sequence[str]) -> subprocess.Popen[str]:
    """A driver in a process of its own, its output captured."""
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(TESTS), "CURATE_RAY_CODE": "image"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(driver: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    """Waits for a driver: exit status, standard output, standard error."""
    out, err = driver.communicate(timeout=timeout)
    return driver.returncode, out, err


def run(command: Sequence[str]) -> tuple[int, str, str]:
    """Runs a driver to its end."""
    return finish(start(command))


def events(output: str, kind: str) -> list[dict[str, Any]]:
    """The JSON events of that kind in a driver's output."""
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [event for event in found if event["event"] == kind]


def children(pid: int) -> list[int]:
    """The living child processes of a process."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []


def ray_workers(*stages: str) -> list[int]:
    """Ray worker processes that run a task of these stages now: Ray titles them `ray::<stage>/<step>/<key>`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(tuple(f"ray::{stage}/".encode() for stage in stages)):
                found.append(int(entry.name))
    return found


def wait_until(condition: Callable[[], Any], timeout: float = 60) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def kill(pid: int) -> bool:
    """kill -9; False if it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def fingerprint(workspace: Path, folders: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file below some folders of a workspace, by name; a left-over temporary file does not count."""
    return {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted((workspace / folder).rglob("*"))
        if path.is_file() and not path.name.endswith(".tmp")
    }
