"""The run contract, on both engines, with real processes: resume, retry, kill, refuse, account."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import faults
import pytest

FOLDERS = ("cut/docs", "cut/ledger", "count/docs", "count/ledger", "count/steps/words", "count/steps/total")
DATA = tuple(folder for folder in FOLDERS if "steps" not in folder)
DRIVER = str(faults.TESTS / "toy_driver.py")


# On Ray with the long ones: test_end_to_end kills drivers and workers of a Ray run in every run of the tests.
@pytest.fixture(params=["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def engine(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "local":
        return ["--engine", "local"]
    return ["--engine", "ray", "--address", request.getfixturevalue("ray_address")]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    choose = random.Random(7)
    for shard in range(6):
        lines = [" ".join(choose.choices(["a", "b", "c", "d", "e", "f", "g"], k=5)) for _ in range(40 + shard)]
        (folder / f"part-{shard}.txt").write_text("\n".join(lines) + "\n")
    return folder


def drive(workspace: Path, inputs: Path, *options: str) -> list[str]:
    return [DRIVER, str(workspace), str(inputs), *options]


def undisturbed(tmp_path: Path, inputs: Path, *options: str) -> dict[str, str]:
    code, _, err = faults.run(drive(tmp_path / "undisturbed", inputs, "--workers", "1", *options))
    assert code == 0, err
    return faults.fingerprint(tmp_path / "undisturbed", DATA)


def test_one_worker_and_four_give_the_same_bytes(engine: list[str], tmp_path: Path, inputs: Path) -> None:
    code, _, err = faults.run(drive(tmp_path / "w", inputs, "--workers", "4", *engine))
    assert code == 0, err
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


def test_the_same_command_again_runs_nothing(tmp_path: Path, inputs: Path) -> None:
    command = drive(tmp_path / "w", inputs)
    assert faults.run(command)[0] == 0
    code, out, _ = faults.run(command)
    assert code == 0
    assert [(event["tasks"], event["reused"]) for event in faults.events(out, "stage_finished")] == [(6, 6), (13, 13)]


def test_a_changed_threshold_runs_its_stage_and_not_the_one_before(tmp_path: Path, inputs: Path) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    code, out, _ = faults.run(drive(tmp_path / "w", inputs, "--least", "200"))
    assert code == 0
    cut, count = faults.events(out, "stage_finished")
    assert cut["reused"] == cut["tasks"]
    assert count["reused"] == 0
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs, "--least", "200")


def test_a_changed_input_file_runs_its_own_shard_again(tmp_path: Path, inputs: Path) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    with (inputs / "part-3.txt").open("a") as stream:
        stream.write("one more line\nand another\n")
    code, out, _ = faults.run(drive(tmp_path / "w", inputs))
    assert code == 0
    assert faults.events(out, "stage_finished")[0]["reused"] == 5
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


def test_an_input_that_is_gone_leaves_nothing_in_the_next_stage(tmp_path: Path, inputs: Path) -> None:
    assert faults.run(drive(tmp_path / "w", inputs))[0] == 0
    (inputs / "part-5.txt").unlink()
    code, _, err = faults.run(drive(tmp_path / "w", inputs))
    assert code == 0, err
    manifest = json.loads((tmp_path / "w" / "count" / "manifest.json").read_text())
    assert [shard["key"] for shard in manifest["shards"]] == [f"s/part-{number}" for number in range(5)]
    assert manifest["counts"]["records"] == sum(shard["rows"] for shard in json.loads(
        (tmp_path / "w" / "cut" / "manifest.json").read_text())["shards"])  # fmt: skip


def kill_at_random(engine: list[str], tmp_path: Path, inputs: Path, kills: int, target: str, seed: int) -> None:
    choose = random.Random(seed)
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"*": {"sleep": 0.004}}))
    command = drive(tmp_path / "w", inputs, "--workers", "4", "--attempts", "20", *engine)
    killed = 0
    while killed < kills:
        driver = faults.start(command)
        while driver.poll() is None and killed < kills:
            time.sleep(choose.uniform(0.05, 0.5))
            workers = faults.ray_workers("cut", "count") if "ray" in engine else faults.children(driver.pid)
            if target == "driver" and workers:
                assert faults.kill(driver.pid)
                killed += 1
            elif target == "worker" and workers:
                killed += faults.kill(choose.choice(workers))
        code, _, err = faults.finish(driver)
        assert code == (-9 if target == "driver" and driver.returncode == -9 else 0), err
        if code == 0 and killed < kills:  # it was through before enough were killed: disturb a fresh run
            command[1] = str(tmp_path / f"w{killed}")
    code, _, err = faults.run(command)
    assert code == 0, err
    assert faults.fingerprint(Path(command[1]), DATA) == undisturbed(tmp_path, inputs)


@pytest.mark.parametrize("target", ["worker", "driver"])
def test_killed_at_random_moments_it_completes_with_the_same_bytes(
    engine: list[str], target: str, tmp_path: Path, inputs: Path
) -> None:
    kill_at_random(engine, tmp_path, inputs, kills=3, target=target, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ["worker", "driver"])
def test_killed_ten_times_at_random_moments_it_completes_with_the_same_bytes(
    engine: list[str], target: str, tmp_path: Path, inputs: Path
) -> None:
    kill_at_random(engine, tmp_path, inputs, kills=10, target=target, seed=11)


def test_workers_die_with_a_killed_driver(tmp_path: Path, inputs: Path) -> None:
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"*": {"sleep": 0.5}}))
    driver = faults.start(drive(tmp_path / "w", inputs))
    faults.wait_until(lambda: len(faults.children(driver.pid)) == 2)
    workers = faults.children(driver.pid)
    faults.kill(driver.pid)
    faults.finish(driver)
    faults.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), timeout=10)


def test_a_second_driver_on_the_same_workspace_is_refused(engine: list[str], tmp_path: Path, inputs: Path) -> None:
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"*": {"sleep": 0.02 if "ray" in engine else 0.01}}))
    first = faults.start(drive(tmp_path / "w", inputs, *engine))
    faults.wait_until(lambda: (tmp_path / "w" / "lock.json").exists())
    code, _, err = faults.run(drive(tmp_path / "w", inputs, *engine))
    assert code == 3
    assert "in use by process" in err
    assert "Traceback" not in err
    code, _, err = faults.finish(first)
    assert code == 0, err
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


def test_a_task_that_keeps_failing_is_given_up_and_the_rest_goes_on(
    engine: list[str], tmp_path: Path, inputs: Path
) -> None:
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"s/part-2": {"raise_at": 5}, "s/part-4": {"die_at": 7}}))
    code, out, err = faults.run(drive(tmp_path / "w", inputs, *engine))
    assert code == 1
    assert "s/part-2: ValueError: bad line 5" in err
    assert "s/part-4: its worker died" in err
    assert {event["attempt"] for event in faults.events(out, "failed")} == {3}
    manifest = json.loads((tmp_path / "w" / "count" / "manifest.json").read_text())
    assert len(manifest["shards"]) == 4
    assert not (tmp_path / "w" / "cut" / "docs" / "s" / "part-2.parquet").exists()

    plan.write_text("{}")  # mended: the next run tries them again
    code, _, err = faults.run(drive(tmp_path / "w", inputs, *engine))
    assert code == 0, err
    assert not list((tmp_path / "w" / "cut" / "failed").rglob("*.json"))
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


def test_a_record_that_a_stage_loses_is_an_error(tmp_path: Path, inputs: Path) -> None:
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"s/part-1": {"lose_at": 4}}))
    code, _, err = faults.run(drive(tmp_path / "w", inputs))
    assert code == 1
    assert "records do not add up in cut s/part-1: 41 in, 40 accounted for" in err


def test_a_crash_leaves_no_file_under_a_final_name(tmp_path: Path, inputs: Path) -> None:
    plan = tmp_path / "toy.json"
    plan.write_text(json.dumps({"*": {"die_at": 30}}))
    code, _, _ = faults.run(drive(tmp_path / "w", inputs, "--attempts", "1"))
    assert code == 1
    assert faults.fingerprint(tmp_path / "w", ["cut/docs", "cut/ledger", "cut/done"]) == {}


# --- GPUs, which the tests' cluster only says that it has ---------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("gpus", "most"), [(1, 2), (0.5, 4)])
def test_a_step_on_gpus_runs_on_workers_that_each_keep_theirs(
    gpus: float, most: int, ray_address: str, tmp_path: Path, inputs: Path
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "toy.json").write_text(json.dumps({"*": {"seen": str(seen), "sleep": 0.01}}))
    on_ray = ["--engine", "ray", "--address", ray_address, "--workers", "4"]
    code, _, err = faults.run(drive(tmp_path / "w", inputs, *on_ray, "--gpus", str(gpus)))
    assert code == 0, err
    held = [tuple(line.split()) for line in seen.read_text().splitlines()]
    assert len(held) == 6
    assert 1 < len({worker for worker, _ in held}) <= most
    assert len({worker for worker, _ in held}) == len(set(held))  # none has changed its GPU
    assert {gpu for _, gpu in held} == {"0", "1"}
    (tmp_path / "toy.json").unlink()
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_on_a_gpu_that_dies_is_replaced(ray_address: str, tmp_path: Path, inputs: Path) -> None:
    plan = {"s/part-2": {"die_at": 7}}
    (tmp_path / "toy.json").write_text(json.dumps(plan))
    on_ray = ["--engine", "ray", "--address", ray_address, "--workers", "1", "--gpus", "1", "--attempts", "2"]
    code, out, err = faults.run(drive(tmp_path / "w", inputs, *on_ray))
    assert code == 1
    (failed,) = faults.events(out, "failed")
    assert failed["key"] == "s/part-2"
    assert "its worker died" in failed["error"]
    (tmp_path / "toy.json").unlink()
    code, _, err = faults.run(drive(tmp_path / "w", inputs, *on_ray))
    assert code == 0, err
    assert faults.fingerprint(tmp_path / "w", DATA) == undisturbed(tmp_path, inputs)


@pytest.mark.ray
def test_more_gpus_than_any_node_has_are_refused_and_not_waited_for(
    ray_address: str, tmp_path: Path, inputs: Path
) -> None:
    on_ray = ["--engine", "ray", "--address", ray_address, "--gpus", "3"]
    code, _, err = faults.run(drive(tmp_path / "w", inputs, *on_ray))
    assert code == 2
    assert "a worker of cut/cut needs 3 GPU, but no node of the Ray cluster has more than 2" in err
    assert len(err.strip().splitlines()) == 1
