"""The part on the mixture: it shows what the solution holds, names that are markup stay text, broken files are said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_page import Page, read

from curate.mixtures.upsample import fit_curve
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report.mixture import _solution, mixture
from curate.report.rows import short_names

HOSTILE = "<script>alert(1)</script>"


def a_domain(natural: float, solved: float, repeats: float | None, *binding: str) -> dict[str, Any]:
    return {
        "natural": natural, "solved": solved, "low": solved * 0.9, "high": solved * 1.1, "available": 1000,
        "repeats": repeats, "binding": list(binding),
    }  # fmt: skip


def a_task(gain: float, verdict: str) -> dict[str, Any]:
    return {
        "natural": 1.0, "predicted": 1.0 - gain, "gain": gain, "low": gain - 0.01, "high": gain + 0.01, "noise": 0.002,
        "verdict": verdict,
    }  # fmt: skip


def a_solution(**changed: Any) -> dict[str, Any]:
    return {
        "measure": "task", "budget": 2000, "max_repeats": 4.0, "kl": 0.05, "aggregate": "mean", "bootstrap": 50, "runs": 12,
        "replicates": 3, "kind": "gp", "method": "search", "objective": 1.0, "residual": None, "frozen": None,
        "domains": {"science": a_domain(0.25, 0.5, 4.0, "repeats"), HOSTILE: a_domain(0.75, 0.5, None)},
        "tasks": {"task/arc": a_task(0.05, "better"), f"task/{HOSTILE}": a_task(0.001, "within noise")},
        "choice": {"lines": ["gp  .97", HOSTILE]}, "notes": [HOSTILE],
        "held_out": {"measured": [1.0, 1.1], "predicted": [1.01, 1.08], "kinds": ["replicate", "design"], "spearman": 0.9876,
                     "rmse": 0.01},
    } | changed  # fmt: skip


def studied(**changed: Any) -> dict[str, Any]:
    task = {"task": HOSTILE, "ratio": 3.25, "low": 1.0, "high": 9.0, "signal": True}
    return {"thresholds": {"ratio": 2.0}, "tasks": [task, task | {"task": "none", "ratio": None}]} | changed


def figures(page: Any) -> list[str]:
    return [attrs["aria-label"] or "" for tag, attrs in page.elements if tag == "svg" and attrs.get("aria-label")]


def test_long_names_are_cut_where_they_are_alike() -> None:
    paths = [f"/data/crawl/of/some/year/{topic}/2026/part-00000.jsonl" for topic in ("science", "cooking")]
    assert short_names(paths) == ["…/science/…", "…/cooking/…"]
    assert short_names(["a", "b/" + "c" * 30]) == ["a", "…" + "c" * 21]
    assert short_names(["x" * 30, "x" * 30]) == ["…" + "x" * 21] * 2
    assert short_names(["a/b", "a/c"]) == ["a/b", "a/c"]


def test_warnings_of_the_solver_are_shown() -> None:
    found = _solution(a_solution(warnings=["the gap is wide"]))
    assert found["notes"][0] == "Warning: the gap is wide"


def test_a_workspace_without_a_solution_has_no_such_part(synthetic: Any) -> None:
    made = synthetic(shards=1, rows=20)
    made.mix()
    _, page = read(made.workspace)
    assert ("section", {"id": "mixture"}) not in page.elements


def test_a_solution_is_drawn_and_said(synthetic: Any) -> None:
    made = synthetic(shards=1, rows=20)
    made.workspace.write_json("swarm/solution.json", a_solution())
    made.workspace.write_json("swarm/tasks.json", studied())
    html, page = read(made.workspace)
    labels = figures(page)
    titles = (
        "Natural and solved shares",
        "Repeats",
        "Predicted gain by task",
        "Runs held out",
        "Signal to noise by task",
    )
    for title in titles:
        assert any(label.startswith(title) for label in labels), title
    assert "Predicted against the natural mixture: 1 task better, 0 worse, 1 within noise." in page.text
    assert "natural 25.0%, solved 50.0%" in page.text
    assert "4.00 times, at the cap of repeats" in page.text
    assert "1 of 1 domains reach it" in page.text
    assert "Spearman 0.988" in page.text
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5


def test_an_exact_solution_says_its_residual(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    exact = a_solution(kind="log-linear", method="exact", residual=3.2e-11, held_out=None, budget=None)
    place.write_json("swarm/solution.json", exact)
    found = mixture(place)
    assert ("KKT residual", "3.2e-11") in found["facts"]
    assert not any("carries over" in note for note in found["notes"])  # the advice is to use the fit that was used


def test_the_quality_curves_of_a_mix_are_drawn(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    groups = {name: {"share": 0.2, "curve": fit_curve(ratio).to_json()} for name, ratio in (("a", 0.5), ("b", 2.0))}
    asked = {"by": "quality_vigintile", "order": [], "groups": groups | {"c": {"share": 0.0, "curve": None}}}
    place.write_json("mix/tokens.json", {"upsample": asked})
    (label,) = figures(Page(str(mixture(place)["upsampling"])))
    assert label.startswith("Upsampling by quality")
    last = float(fit_curve(2.0)([1.0])[0])
    assert f"b {last:.4g} at 1" in label


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("solution", {}),
        ("solution", a_solution(domains={"a": {"solved": 1.0}})),
        ("solution", [1, 2]),
        ("tasks", {"tasks": [{"task": "a"}]}),
        ("tasks", "words"),
    ],
)
def test_a_file_that_is_none_is_said_with_the_command_that_writes_it(tmp_path: Path, name: str, facts: Any) -> None:
    place = Workspace(tmp_path)
    place.write_json(f"swarm/{name}.json", facts)
    with pytest.raises(
        CurateError, match=f"swarm/{name}.json is not what `curate mix {'solve' if name == 'solution' else name}`"
    ):
        mixture(place)
