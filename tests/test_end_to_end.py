"""The whole way by the command line, on both engines: the same bytes undisturbed, killed, and with more workers."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import faults
import pytest
import small_crawl
from crawl_server import CrawlServer, drops
from crawl_server import crawl_server as serve_crawl

OUTPUT = (
    *(f"{stage}/{part}" for stage in ("extract", "filter", "dedup", "classify") for part in ("docs", "ledger")),
    "extract/index", "filter/measures", "classify/scores", "mix/tokens", "mix/validation",
)  # fmt: skip
STAGES = ("extract", "filter", "dedup", "classify", "mix")
CLI = ["-m", "curate.pipeline.cli"]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return small_crawl.make_crawl(tmp_path_factory.mktemp("crawl"))


def run_all(crawl: tuple[Path, Path], workspace: Path, *options: str) -> list[str]:
    inputs, recipe = crawl
    command = [
        *CLI,
        "run",
        "all",
        "--recipe",
        str(recipe),
        "--input",
        f"{inputs}/*.warc.gz",
        "--workspace",
        str(workspace),
    ]
    return [*command, *options]


def mix(workspace: Path, *options: str) -> list[str]:
    return [*CLI, "mix", "--workspace", str(workspace), *options]


def bytes_of(workspace: Path) -> dict[str, str]:
    found = faults.fingerprint(workspace, OUTPUT)
    for name in ("mix/tokens.json", "mix/manifest.parquet", "mix/tokenizer.json"):
        found |= {name: (workspace / name).read_bytes().hex()}
    assert len(found) > 30
    return found


@pytest.fixture
def server() -> Iterator[CrawlServer]:
    with serve_crawl() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(crawl: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("undisturbed") / "w"
    for command in (run_all(crawl, workspace, "--workers", "1"), mix(workspace, "--workers", "1")):
        code, _, err = faults.run(command)
        assert code == 0, err
    return workspace


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "local":
        return ["--engine", "local"]
    return ["--engine", "ray", "--address", request.getfixturevalue("ray_address")]


@pytest.mark.parametrize(
    "engine",
    ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])],  # killed on Ray, below, is the proof
    indirect=True,
)
def test_one_worker_and_four_give_the_same_docs_ledger_and_mix(
    crawl: tuple[Path, Path], undisturbed: Path, engine: list[str], tmp_path: Path
) -> None:
    for command in (
        run_all(crawl, tmp_path / "w", "--workers", "4", *engine),
        mix(tmp_path / "w", "--workers", "4", *engine),
    ):
        code, _, err = faults.run(command)
        assert code == 0, err
    assert bytes_of(tmp_path / "w") == bytes_of(undisturbed)


def test_every_record_is_accounted_for_and_the_copies_name_the_page_kept(undisturbed: Path) -> None:
    code, out, err = faults.run([*CLI, "status", "--workspace", str(undisturbed), "--verify", "--json"])
    assert code == 0, err
    stages = {stage["stage"]: stage for stage in json.loads(out)["stages"]}
    assert stages["extract"]["records"] == 4 * 19
    for stage in stages.values():
        assert stage["records"] == stage["kept"] + sum(stage["dropped"].values()) + sum(stage["quarantined"].values())
    assert stages["dedup"]["dropped"]["exact_duplicate"] >= 4  # in each snapshot two copies and a page in both files


def kill_until_done(command: list[str], targets: Sequence[str], engine: list[str], choose: random.Random) -> int:
    """Runs a command to its end, killing `targets` in turn at random moments; gives how often it hit."""
    killed = 0
    while True:
        driver = faults.start(command)
        while driver.poll() is None and killed < len(targets):
            time.sleep(choose.uniform(0.1, 1.0))
            workers = faults.ray_workers(*STAGES) if "ray" in engine else faults.children(driver.pid)
            if targets[killed] == "driver" and workers:
                killed += faults.kill(driver.pid)
            elif workers:
                killed += faults.kill(choose.choice(workers))
        code, _, err = faults.finish(driver, timeout=280)
        if code == 0:
            return killed
        assert code == -9, err


@pytest.mark.timeout(600)
def test_killed_at_random_moments_the_same_commands_give_the_same_bytes(
    crawl: tuple[Path, Path], undisturbed: Path, engine: list[str], tmp_path: Path
) -> None:
    choose = random.Random(1)
    targets = ("worker", "driver", "worker")
    assert kill_until_done(run_all(crawl, tmp_path / "w", "--workers", "2", *engine), targets, engine, choose) >= 2
    kill_until_done(mix(tmp_path / "w", *engine), ("driver",), engine, choose)
    assert bytes_of(tmp_path / "w") == bytes_of(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", ["worker", "driver"])
def test_killed_ten_times_the_same_commands_give_the_same_bytes(
    crawl: tuple[Path, Path], undisturbed: Path, engine: list[str], target: str, tmp_path: Path
) -> None:
    choose = random.Random(2)
    kill_until_done(run_all(crawl, tmp_path / "w", "--workers", "2", *engine), [target] * 10, engine, choose)
    kill_until_done(mix(tmp_path / "w", *engine), [target] * 3, engine, choose)
    assert bytes_of(tmp_path / "w") == bytes_of(undisturbed)


def test_another_filter_threshold_leaves_extract_alone(
    crawl: tuple[Path, Path], undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "w")
    before = (
        (tmp_path / "w/extract/manifest.json").stat().st_mtime_ns,
        faults.fingerprint(tmp_path / "w", ["extract/done"]),
    )
    code, out, err = faults.run(run_all(crawl, tmp_path / "w", "--set", "filter.rules.word_count.min=260", "--json"))
    assert code == 0, err
    reused = {event["stage"]: event["reused"] for event in faults.events(out, "stage_finished")}
    assert reused["extract"] == 4
    assert reused["filter"] == 8  # all was measured, and no page flips: the decisions alone were made again
    code, _, err = faults.run(
        [*CLI, "run", "filter", "-w", str(tmp_path / "w"), "--set", "filter.rules.word_count.min=5000"]
    )
    assert code == 0, err
    code, _, err = faults.run(mix(tmp_path / "w"))  # it would be made of the documents of another filter
    assert code == 2
    assert "out of date" in err
    assert faults.fingerprint(tmp_path / "w", ["extract/done"]) == before[1]


def test_why_tells_the_story_with_value_and_threshold(undisturbed: Path) -> None:
    code, out, _ = faults.run([*CLI, "why", "https://short.example/0", "--workspace", str(undisturbed)])
    assert code == 0
    assert "DROPPED" in out
    code, out, _ = faults.run([*CLI, "why", "https://copy.example/1", "--workspace", str(undisturbed), "--json"])
    last = json.loads(out)["story"][-1]
    assert last["outcome"] == "kept" or last["record"]["kept_id"]
    code, _, err = faults.run([*CLI, "why", "https://nowhere.example/", "--workspace", str(undisturbed)])
    assert code == 2
    assert err.startswith("error: no record with id or URL")


def test_a_tampered_count_is_found_by_status(undisturbed: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(undisturbed, tmp_path / "w")
    path = tmp_path / "w/filter/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["counts"]["kept"] -= 1
    path.write_text(json.dumps(manifest))
    code, _, err = faults.run([*CLI, "status", "--workspace", str(tmp_path / "w")])
    assert code == 1
    assert "sums do not match" in err
    assert "records in" in err


def test_a_file_that_was_changed_on_disk_is_found_by_verify(undisturbed: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(undisturbed, tmp_path / "w")
    first, second = sorted((tmp_path / "w/dedup/ledger").rglob("*.parquet"))[:2]
    second.write_bytes(first.read_bytes())
    assert faults.run([*CLI, "status", "--workspace", str(tmp_path / "w")])[0] == 0
    code, _, err = faults.run([*CLI, "status", "--workspace", str(tmp_path / "w"), "--verify"])
    assert code == 1
    assert "SHA-256 differs" in err


def test_input_by_url_survives_a_server_that_drops_connections_and_shows_no_signature(
    crawl: tuple[Path, Path], undisturbed: Path, server: CrawlServer, tmp_path: Path
) -> None:
    inputs, recipe = crawl
    urls = []
    for path in sorted(inputs.iterdir()):
        name = f"/crawl/{path.name}"
        server.files[name] = path.read_bytes()
        server.faults[name] = [drops(1000), drops(500)]  # the first is what planning looks at
        urls += ["--input", f"{server.url}crawl/{path.name}?signature=SECRET"]
    command = [*CLI, "run", "extract", "--recipe", str(recipe), "--workspace", str(tmp_path / "w"), *urls]
    code, out, err = faults.run(command)
    assert code == 0, err
    assert len(list((tmp_path / "w/extract/docs").rglob("*.parquet"))) == 4
    kept = json.loads((tmp_path / "w/extract/manifest.json").read_text())["counts"]["kept"]
    assert kept == json.loads((undisturbed / "extract/manifest.json").read_text())["counts"]["kept"]
    assert "SECRET" not in out + err
    for path in (tmp_path / "w").rglob("*"):
        assert not path.is_file() or b"SECRET" not in path.read_bytes(), path


def test_clean_removes_what_is_left_over_and_nothing_else(undisturbed: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(undisturbed, tmp_path / "w")
    left = tmp_path / "w/extract/docs/CC-MAIN-2025-26/.x.parquet.0123456789ab.tmp"
    gone = tmp_path / "w/filter/docs/CC-MAIN-2025-26/of-an-input-that-is-gone.parquet"
    left.write_bytes(b"half")
    gone.write_bytes(b"old")
    code, out, err = faults.run([*CLI, "clean", "--workspace", str(tmp_path / "w"), "--json"])
    assert code == 0, err
    assert len(json.loads(out)["removed"]) == 2
    assert bytes_of(tmp_path / "w") == bytes_of(undisturbed)


def test_the_mix_holds_exactly_the_budget(undisturbed: Path) -> None:
    facts = json.loads((undisturbed / "mix/tokens.json").read_text())
    assert facts["tokens"] == 3000
    assert sum((undisturbed / "mix" / f"{shard['name']}.bin").stat().st_size for shard in facts["shards"]) == 3000 * 2


def test_it_trains_and_reports_on_what_was_mixed(undisturbed: Path, tmp_path: Path) -> None:
    import shutil

    workspace = tmp_path / "w"
    shutil.copytree(undisturbed, workspace)
    tiny = [
        f"--set=pretrain.{key}"
        for key in ("steps=6", "width=32", "heads=2", "ffn=64", "layers=1", "sequence_length=32")
    ]
    code, out, err = faults.run([*CLI, "pretrain", "--workspace", str(workspace), *tiny])
    assert code == 0, err
    assert "bits per byte" in out
    code, out, err = faults.run([*CLI, "report", "--workspace", str(workspace)])
    assert code == 0, err
    html = (workspace / "report/index.html").read_text()
    assert "exact_duplicate" in html or "exact duplicate" in html
