"""Resume never takes for done what is not: other settings in between, files that are gone, stages that failed."""

from __future__ import annotations

import json
import random
from pathlib import Path

import faults
import pytest

DATA = ("cut/docs", "cut/ledger", "count/docs", "count/ledger")
DRIVER = str(faults.TESTS / "toy_driver.py")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    choose = random.Random(3)
    for shard in range(3):
        lines = [" ".join(choose.choices(["a", "b", "c", "d"], k=5)) for _ in range(30)]
        (folder / f"part-{shard}.txt").write_text("\n".join(lines) + "\n")
    return folder


def drive(workspace: Path, inputs: Path, *options: str) -> list[str]:
    return [DRIVER, str(workspace), str(inputs), *options]


def undisturbed(tmp_path: Path, inputs: Path) -> dict[str, str]:
    code, _, err = faults.run(drive(tmp_path / "undisturbed", inputs))
    assert code == 0, err
    return faults.fingerprint(tmp_path / "undisturbed", DATA)


def test_a_run_killed_under_other_settings_leaves_nothing_that_the_first_ones_reuse(
    tmp_path: Path, inputs: Path
) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    before = (tmp_path / "w/cut/ledger/s/part-0.parquet").read_bytes()
    (tmp_path / "toy.json").write_text(json.dumps({"s/part-1": {"sleep": 1}, "s/part-2": {"sleep": 1}}))
    driver = faults.start(drive(tmp_path / "w", inputs, "--every", "2"))
    faults.wait_until(lambda: (tmp_path / "w/cut/ledger/s/part-0.parquet").read_bytes() != before)
    faults.kill(driver.pid)
    faults.finish(driver)
    (tmp_path / "toy.json").unlink()
    code, _, err = faults.run(drive(tmp_path / "w", inputs))
    assert code == 0, err
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_marker_whose_file_is_not_there_whole_counts_for_nothing(tmp_path: Path, inputs: Path, damage: str) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    path = tmp_path / "w/cut/docs/s/part-1.parquet"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-10])
    code, _, err = faults.run(drive(tmp_path / "w", inputs))
    assert code == 0, err
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


def test_a_damaged_marker_runs_its_task_again(tmp_path: Path, inputs: Path) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    (tmp_path / "w/cut/done/s/part-1.json").write_bytes(b"")
    code, out, err = faults.run(drive(tmp_path / "w", inputs))
    assert code == 0, err
    assert faults.events(out, "stage_finished")[0]["reused"] == 2


def test_a_stage_that_failed_as_a_whole_is_not_taken_for_its_last_good_run(tmp_path: Path, inputs: Path) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    (tmp_path / "toy.json").write_text(json.dumps({"*": {"raise_at": 3}}))
    code, _, err = faults.run(drive(tmp_path / "w", inputs, "--every", "2", "--attempts", "1"))
    assert code != 0
    assert "cut" in err
    manifest = json.loads((tmp_path / "w/cut/manifest.json").read_text())
    assert manifest["finished"] is False


def test_a_driver_that_lost_its_workspace_stops_and_writes_nothing_more(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "toy.json").write_text(json.dumps({"*": {"sleep": 0.3}}))
    driver = faults.start(drive(tmp_path / "w", inputs))
    lock = tmp_path / "w/lock.json"
    faults.wait_until(lambda: lock.exists() and len(faults.children(driver.pid)) == 2)
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"token": "another", "host": "elsewhere"}))
    code, _, err = faults.finish(driver)
    assert code == 3
    assert "taken" in err
    assert faults.fingerprint(tmp_path / "w", ["cut/docs", "cut/done"]) == {}
    assert json.loads(lock.read_text())["token"] == "another"
