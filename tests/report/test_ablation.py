"""The part on an ablation: what was found is drawn, names that are markup stay text, broken files are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_page import read

from curate.mixtures.ablate import ACCURACY, BUCKETS, RESULT, TASKS, Measure, compare, judge
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report.ablation import ablation

HOSTILE = "<script>alert(1)</script>"


def a_result(**changed: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    asked = [
        (Measure("arc", TASKS), -0.5), (Measure(HOSTILE, TASKS), 0.0), (Measure("arc", ACCURACY, True), 0.4),
        *((Measure(f"bucket {n}", BUCKETS), 0.01 * n) for n in range(40)),
    ]  # fmt: skip
    compared = [
        compare(measure, random.normal(1, 0.01, (3, 9)), random.normal(1 + shift, 0.01, (3, 9)))
        for measure, shift in asked
    ]
    return {
        "level": 0.05, "seeds": [0, 1, 2], "tokens": 1000, "parameters": {"all": 30_000_000}, "notes": [HOSTILE],
        "workspaces": [{"name": "base"}, {"name": HOSTILE}],
        "pairs": [{"first": "base", "second": HOSTILE, "comparisons": [item.to_json() for item in judge(compared)]}],
    } | changed  # fmt: skip


def test_an_ablation_is_drawn_and_said(synthetic: Any) -> None:
    made = synthetic(shards=1, rows=20)
    made.workspace.write_json(RESULT, a_result())
    html, page = read(made.workspace)
    labels = [attrs["aria-label"] or "" for tag, attrs in page.elements if tag == "svg" and attrs.get("aria-label")]
    (tasks,) = (label for label in labels if "bits per byte of tasks' right answers" in label)
    assert tasks.startswith(f"{HOSTILE} against base")
    assert "better" in tasks
    assert "within noise" in tasks
    assert "of 40 the 30 largest" in page.text
    assert HOSTILE not in html


def test_a_workspace_without_an_ablation_has_no_such_part(tmp_path: Path) -> None:
    assert ablation(Workspace(tmp_path)) == {}


@pytest.mark.parametrize("facts", [[], {}, a_result(pairs=[{"first": "a"}]), a_result(level="x")])
def test_a_file_that_is_none_is_said_with_the_command_that_writes_it(tmp_path: Path, facts: Any) -> None:
    Workspace(tmp_path).write_json(RESULT, facts)
    with pytest.raises(CurateError, match=r"ablation\.json is not what `curate ablate` writes"):
        ablation(Workspace(tmp_path))
