"""Runs `curate pretrain` again and again, each time in a process of its own that is killed at a given moment.

    killed_often.py '{"folder": [settings, [["step", 9], ["file", 8], …]], …}'

PyTorch is loaded once and every process forked from there. A process kills itself (SIGKILL) at its n-th step or as it begins
its n-th file; the last one of each folder is left in peace. Prints {folder: [[event, count, exit status, checkpoints], …]}.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import torch
import torch._dynamo

from curate.pipeline.cli import main
from curate.pipeline.workspace import Workspace
from curate.pretrain import checkpoint, meter, train  # noqa: F401 (loaded here, once)


def kill_at(kind: str, count: int) -> None:
    left = {"count": count}

    def counting(function):
        def counted(*given, **named):
            left["count"] -= 1
            if not left["count"]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return counted

    if kind == "step":
        train.step = counting(train.step)
    elif kind == "file":
        Workspace.create = counting(Workspace.create)


def run(folder: str, settings: dict[str, object], kind: str, count: int) -> int:
    """The exit status of one process, or minus the signal that killed it."""
    pid = os.fork()
    if not pid:
        os.dup2(2, 1)  # standard output is for the result
        torch.set_num_threads(1)
        kill_at(kind, count)
        given = [f"--set=pretrain.{name}={json.dumps(value)}" for name, value in settings.items()]
        try:
            main(["pretrain", "-w", folder, *given], standalone_mode=True)
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


found = {}
for folder, (settings, kills) in json.loads(sys.argv[1]).items():
    found[folder] = []
    for kind, count in [*kills, ["", 0]]:
        code = run(folder, settings, kind, count)
        found[folder].append([kind, count, code, checkpoint.list_checkpoints(Workspace(folder))])
print(json.dumps(found))
