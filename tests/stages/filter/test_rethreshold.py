"""Another threshold: the decision is made again from what was measured, and only what changed is written."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import faults
import pyarrow.parquet as pq
import pytest

from curate.pipeline import session
from curate.pipeline.errors import Incomplete
from curate.pipeline.ledger import Counts
from curate.pipeline.progress import JsonDisplay
from curate.pipeline.stage import Context
from curate.pipeline.workspace import Workspace
from curate.stages.filter import registry, work
from support import Inline

CLI = ["-m", "curate.pipeline.cli"]
FILTERED = ("filter/docs", "filter/ledger", "filter/measures")
RECIPE = """
filter:
  language: null
  lines: {citations: true, fewest_words: 3}
  rules: {word_count: {min: 40, max: 400}, mean_word_length: {max: 9}}
  pii: {emails: true}
run: {backoff_seconds: 0.05}
"""
PLUGIN = '''
"""Ends a worker, or its driver, once, in the middle of a task of the step that `fault.json` names."""
import json, os, signal
from pathlib import Path
from curate.stages.filter import registry, work

HERE = Path(__file__).parent

def wrapped(step, function):
    def run(context):
        progress = context.progress
        def faulty(records):
            progress(records)
            flag = HERE / f"{step}.fault"
            try:
                target = flag.read_text()
                flag.unlink()
            except FileNotFoundError:
                return
            if target == "driver":
                os.kill(os.getppid(), signal.SIGKILL)
            os._exit(9)
        context.progress = faulty
        return function(context)
    return run

for step in ("measure", "decide", "select"):
    function = getattr(work, f"{step}_shard")
    if not hasattr(function, "faulty"):
        made = wrapped(step, function)
        made.faulty = True
        setattr(work, f"{step}_shard", made)
'''


def text(number: int, words: int) -> str:
    """So many words, with an address, a citation mark and a line that is too short."""
    line = f"Number {number} tells about a river[{number % 20}] that flows past the mill near the old town."
    body = " ".join(f"word{n % 7}" for n in range(max(words - 22, 0)))
    return f"{line}\nToo short.\nWrite to person{number}@corp{number}.com about it.\n{body} at its end."


def documents(shard: str, sizes: list[int]) -> list[dict[str, str]]:
    return [
        {"id": f"{shard}{n}", "url": f"https://{shard}.example/{n}", "text": text(n, size)}
        for n, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, extracted and filtered; words from 25 to 500 in one, around 200 in the other."""
    folder = tmp_path_factory.mktemp("rethreshold")
    (folder / "faulty.py").write_text(PLUGIN)
    (folder / "recipe.yaml").write_text(RECIPE)
    for shard, sizes in (("a", [25 + 5 * n for n in range(96)]), ("b", [190 + n for n in range(30)])):
        rows = documents(shard, sizes)
        (folder / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "faulty.yaml").write_text("plugins: [faulty]\n" + RECIPE)
    run(folder, "w", "extract", inputs=[str(folder / "a.jsonl"), str(folder / "b.jsonl")])
    shutil.copytree(folder / "w", folder / "extracted")
    run(folder, "w", "filter")
    return folder


def run(
    home: Path, name: str, stage: str, *settings: str, recipe: str = "recipe.yaml", said: io.StringIO | None = None,
    **inputs: Any,
) -> dict[str, int]:  # fmt: skip
    """Runs a stage to its end, here; tasks and how many of them were done before. Events go to `said`."""
    place, said = Workspace(home / name), said or io.StringIO()
    resolved = session.workspace_recipe(place, str(home / recipe), settings, **inputs)
    session.run_stages([stage], place, resolved, Inline, JsonDisplay(said))
    (event,) = faults.events(said.getvalue(), "stage_finished")
    return {"tasks": event["tasks"], "reused": event["reused"]}


def command(home: Path, name: str, workers: int) -> list[str]:
    """The filter as a command, with a plugin that has faults."""
    recipe, place = str(home / "faulty.yaml"), str(home / name)
    return [*CLI, "run", "filter", "--recipe", recipe, "--workspace", place, "--workers", str(workers)]


def copied(home: Path, name: str, source: str = "w") -> str:
    shutil.copytree(home / source, home / name)
    return name


def written(home: Path, name: str, *folders: str) -> dict[str, int]:
    """When each file was written."""
    files = [path for folder in folders for path in sorted((home / name / folder).rglob("*")) if path.is_file()]
    assert files
    return {str(path.relative_to(home / name)): path.stat().st_mtime_ns for path in files}


def kept(home: Path, name: str) -> dict[str, str]:
    return {
        row["id"]: row["text"]
        for path in (home / name / "filter/docs").rglob("*.parquet")
        for row in pq.read_table(path, columns=["id", "text"]).to_pylist()
    }


def test_another_threshold_gives_what_a_fresh_run_gives_and_measures_nothing(home: Path) -> None:
    change = ("filter.rules.word_count.min=100", "filter.rules.word_count.max=450")
    name = copied(home, "again")
    before = written(home, name, "filter/measures", "filter/steps/measure")
    first = kept(home, name)
    assert run(home, name, "filter", *change) == {"tasks": 6, "reused": 2 + 1}  # both measured, one selected before
    assert written(home, name, "filter/measures", "filter/steps/measure") == before
    fresh = copied(home, "fresh", "extracted")
    run(home, fresh, "filter", *change)
    assert faults.fingerprint(home / name, FILTERED) == faults.fingerprint(home / fresh, FILTERED)
    second = kept(home, name)
    assert set(first) - set(second)
    assert set(second) - set(first)


def test_a_page_that_flips_to_kept_has_its_text_from_extract_edited_and_masked(home: Path) -> None:
    name = copied(home, "flips")
    first = kept(home, name)
    run(home, name, "filter", "filter.rules.word_count.min=30")
    second = kept(home, name)
    (new,) = [second[identity] for identity in sorted(set(second) - set(first))][:1]
    assert "river that flows" in new  # without its citation mark
    assert "Too short." not in new
    assert "@corp" not in new
    assert "example." in new
    run(home, name, "filter", "filter.rules.word_count.min=40")
    assert kept(home, name) == first


def test_only_shards_whose_kept_rows_changed_are_written_again(home: Path) -> None:
    name = copied(home, "partly")
    before = written(home, name, "filter/docs", "filter/done")
    ledgers = written(home, name, "filter/ledger")
    run(home, name, "filter", "filter.rules.word_count.min=60")  # b has none so short
    after = written(home, name, "filter/docs", "filter/done")
    assert {path for path in after if after[path] != before[path]} == {
        "filter/docs/default/a.parquet", "filter/done/default/a.json"
    }  # fmt: skip
    assert all(written(home, name, "filter/ledger")[path] > when for path, when in ledgers.items())


def test_a_threshold_that_changes_no_decision_changes_the_ledger_alone(home: Path) -> None:
    name = copied(home, "same")
    docs, ledger = (faults.fingerprint(home / name, [folder]) for folder in ("filter/docs", "filter/ledger"))
    result = run(home, name, "filter", "filter.rules.word_count.min=39.5")
    assert result == {"tasks": 6, "reused": 4}
    assert faults.fingerprint(home / name, ["filter/docs"]) == docs
    assert faults.fingerprint(home / name, ["filter/ledger"]) != ledger


def test_the_order_of_the_rules_is_that_of_the_reasons_after_a_change_too(home: Path) -> None:
    name = copied(home, "order")
    recipe = home / "order.yaml"
    recipe.write_text(RECIPE.replace("{word_count: {min: 40, max: 400}, mean_word_length: {max: 9}}",
                                     "{mean_word_length: {max: 4}, word_count: {min: 40, max: 400}}"))  # fmt: skip
    run(home, name, "filter", recipe=recipe.name)
    reasons = json.loads((home / name / "filter/manifest.json").read_text())["counts"]["dropped"]
    recipe.write_text(RECIPE.replace("mean_word_length: {max: 9}", "mean_word_length: {max: 4}"))
    run(home, name, "filter", recipe=recipe.name)
    assert json.loads((home / name / "filter/manifest.json").read_text())["counts"]["dropped"] != reasons


def test_a_plugin_of_the_recipe_before_is_not_measured_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.registered()
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))
    monkeypatch.syspath_prepend(home)
    (home / "own_signal.py").write_text(
        "from curate.stages.filter import signal\n\n\n@signal('own_number', unit='ones', source='ours')\n"
        "def own_number(texts):\n    return [1.0] * len(texts)\n"
    )
    (home / "plugged.yaml").write_text("plugins: [own_signal]\n" + RECIPE)
    name = copied(home, "plugged", "extracted")
    run(home, name, "filter", recipe="plugged.yaml")
    assert "own_number" in pq.read_schema(home / name / "filter/measures/default/a.parquet").names
    del registry._REGISTERED["own_number"], sys.modules["own_signal"]  # another process
    run(home, name, "filter")
    assert faults.fingerprint(home / name, FILTERED) == faults.fingerprint(home / "w", FILTERED)


def test_other_masks_touch_neither_measures_nor_decisions(home: Path) -> None:
    name = copied(home, "masks")
    assert run(home, name, "filter", "filter.pii.emails=false") == {"tasks": 6, "reused": 4}
    assert any("@corp" in found for found in kept(home, name).values())


def test_other_line_edits_measure_again(home: Path) -> None:
    name = copied(home, "edits")
    assert run(home, name, "filter", "filter.lines.fewest_words=0")["reused"] == 0
    assert any("Too short." in found for found in kept(home, name).values())


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ("filter.rules_by_language=null", ""),
        ("filter.pii.phones=true", "select"),
        ("filter.rules.stop_word_count={min: 1}", "decide"),
        ("filter.signals=[sentence_count]", "measure decide select"),
        ("filter.urls={banned_words: [casino]}", "measure"),
        ("filter.counting=datatrove", "measure decide select"),
        ("filter.lines=null", "measure decide select"),
        (
            "filter.repeated_lines={keep: none}",
            "line_hashes line_groups line_totals line_repeats measure decide select",
        ),
    ],
)
def test_a_change_runs_the_steps_that_read_it(home: Path, change: str, steps: str) -> None:
    name = copied(home, f"change-{re.sub('[^a-z]+', '-', change)}")
    before = written(home, name, "filter/steps", "filter/done")
    run(home, name, "filter", change)
    after = written(home, name, "filter/steps", "filter/done")
    markers = {path for path in after if path.endswith(".json") and after[path] != before.get(path)}
    assert {path.split("/")[2] if "steps" in path else "select" for path in markers} == set(steps.split())


@pytest.mark.parametrize("step", ["measure", "select"])
def test_a_shard_that_fails_is_named_and_not_counted_and_the_next_run_makes_it_whole(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = copied(home, f"failed-{step}", "extracted")
    whole = getattr(work, f"{step}_shard")

    def broken(context: Context) -> Counts:
        if context.task.key == "default/a":
            raise ValueError("broken here")
        return whole(context)

    monkeypatch.setattr(work, f"{step}_shard", broken)
    with pytest.raises(Incomplete, match="filter default/a: ValueError: broken here"):
        run(home, name, "filter", "run.attempts=1")
    manifest = json.loads((home / name / "filter/manifest.json").read_text())
    assert [entry["key"] for entry in manifest["shards"]] == ["default/b"]
    assert manifest["counts"]["records"] == 30
    monkeypatch.undo()
    run(home, name, "filter")
    assert faults.fingerprint(home / name, FILTERED) == faults.fingerprint(home / "w", FILTERED)


def test_where_nothing_could_be_selected_nothing_is_said_to_be_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = copied(home, "none-selected", "extracted")
    monkeypatch.setattr(work, "select_shard", None)
    said = io.StringIO()
    with pytest.raises(Incomplete):
        run(home, name, "filter", "run.attempts=1", said=said)
    (event,) = faults.events(said.getvalue(), "stage_finished")
    assert (event["counts"]["kept"], event["failed"]) == (0, 2)


@pytest.mark.parametrize("step", ["measure", "decide", "select"])
def test_a_driver_and_then_a_worker_killed_within_a_step_lose_nothing(
    home: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    name = copied(home, f"killed-{step}", "extracted")
    (home / f"{step}.fault").write_text("driver")
    assert faults.run(command(home, name, workers=1))[0] == -9
    manifest = json.loads((home / name / "filter/manifest.json").read_text())
    assert manifest["finished"] is False
    done = written(home, name, "filter/steps/measure/done") if step != "measure" else {}
    (home / f"{step}.fault").write_text("worker")
    code, _, err = faults.run(command(home, name, workers=2))
    assert code == 0, err
    assert not (home / f"{step}.fault").exists()
    assert not done or written(home, name, "filter/steps/measure/done") == done  # what was measured stayed
    assert faults.fingerprint(home / name, FILTERED) == faults.fingerprint(home / "w", FILTERED)


def test_the_sums_agree_files_are_verified_and_edits_are_counted(home: Path) -> None:
    code, out, err = faults.run([*CLI, "status", "--workspace", str(home / "w"), "--verify", "--json"])
    assert code == 0, err
    found = {stage["stage"]: stage for stage in json.loads(out)["stages"]}["filter"]
    assert found["verified"]["files"] == 6
    assert found["records"] == found["kept"] + sum(found["dropped"].values()) == 126
    assert found["edits"]["few_words"] >= 126 * len("Too short.")
    assert found["edits"]["citations"] == sum(len(f"[{n % 20}]") for shard in (96, 30) for n in range(shard))
    code, out, _ = faults.run([*CLI, "status", "--workspace", str(home / "w")])
    assert "characters taken out of texts: " in out
