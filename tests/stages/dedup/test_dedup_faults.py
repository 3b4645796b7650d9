"""Killed within every step and started again, dedup leaves the bytes of an undisturbed run."""

from __future__ import annotations

import datetime
import io
import random
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import StageResult, open_runner
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import paragraph_steps
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import DedupConfig
from support import Dying, Inline, KilledError, Noting

CONFIGS = [
    {"verify": "jaccard", "max_cluster": 5},
    {"components": {"in_memory": 1}, "scope": "newest-first"},
    {"paragraphs": {"least_words": 5, "least_chars": 10}, "exact": False, "minhash": {"enabled": False}},
]


def run(place: Workspace, shards: list[Shard], config: dict[str, Any], engine: Any = Inline) -> StageResult:
    recipe = Recipe(RecipeHead(), {"dedup": DedupConfig(**config)})
    with open_runner(place, recipe, engine, open_display(as_json=True, stream=io.StringIO())) as runner:
        return runner.run(dedup.STAGE, shards)


def put(place: Workspace) -> list[Shard]:
    words = ["".join(random.Random(n).choices("abcdefgh", k=6)) for n in range(150)]
    texts = [" ".join(words[n : n + 100]) for n in range(20)] + [" ".join(words[30 * n :][:20]) for n in range(4)] * 3
    footer = "what all pages have below"
    pages = [
        {"id": f"p{n}", "text": f"{text}\n{footer}", "source": "w", "url": f"https://a.example/{n % 28}",
         "date": datetime.datetime(2024, 1, 1 + n % 27, tzinfo=datetime.UTC)}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    shards = []
    for number in range(4):
        key = f"s{number % 2}/{number}"
        with place.create(f"filter/docs/{key}.parquet") as output:
            rows = [page | {"snapshot": key[:2]} for page in pages[number::4]]
            pq.write_table(pa.Table.from_pylist(rows, schema=DOCUMENT), output)
        shards.append(Shard(key, File(f"filter/docs/{key}.parquet", output.sha256, output.size), len(rows)))
    return shards


@pytest.mark.parametrize("config", CONFIGS)
def test_killed_within_every_step_it_completes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    for planning in (dedup, paragraph_steps):
        monkeypatch.setattr(planning, "GROUP_SHARDS", 1)
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    assert not run(whole, put(whole), config).failed
    shards, died = put(killed), set[str]()
    while True:
        before = len(died)
        try:
            result = run(killed, shards, config, lambda: Dying(died))
        except KilledError:
            assert len(died) == before + 1
            continue
        break
    assert not result.failed
    planned = {folder.name for folder in (tmp_path / "whole/dedup/steps").iterdir()} | {"remove"}
    assert died == planned - {"links", "stays", "standings"}
    assert ("verify" in died) == ("verify" in config or "scope" in config)
    asked = ("components", "paragraphs")
    assert [step in died for step in ("join02", "paragraph_owners")] == [name in config for name in asked]
    folders = ("dedup/docs", "dedup/ledger", *(f"dedup/steps/{name}" for name in planned - {"remove"}))

    def data(name: str) -> dict[str, str]:
        found = faults.fingerprint(tmp_path / name, folders)
        return {path: digest for path, digest in found.items() if "/done/" not in path}

    assert data("killed") == data("whole")
    assert result.counts.dropped


CHOSEN = {"choices", "report", "verdicts", "remove"}
CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"memory_mb": 64, "components": {"in_memory": 10**6}}, set()),
    ({"keep": "newest"}, {"members"} | CHOSEN),
    ({"substring": {"least_bytes": 80}}, {"substrings", "remove"}),
    ({"substring": {"least_bytes": 90}}, {"substrings", "remove"}),
    ({"verify": "signature"}, {"members", "verify", "choices", "report"}),  # nothing else stays
    ({"verify_threshold": 0.99}, {"members", "verify", "substrings"} | CHOSEN),
    (
        {"substring": None, "url": True},
        {"urls", "url_copies", "bands", "edges", "components", "members", "verify"} | CHOSEN,
    ),
    ({"keep": "first"}, {"url_copies", "bands", "edges", "components", "members", "verify"} | CHOSEN),
]


def test_another_configuration_runs_what_it_changes_and_no_more(tmp_path: Path) -> None:
    """Each is laid over what was before: another keep rule asks again which page of a URL stays, where URLs count."""
    place = Workspace(tmp_path)
    shards = put(place)
    config: dict[str, Any] = {}
    run(place, shards, config)
    for change, steps in CHANGES:
        ran: list[str] = []
        config |= change
        assert not run(place, shards, config, lambda ran=ran: Noting(ran)).failed
        assert set(ran) == steps, change


@pytest.mark.parametrize(
    ("engine", "workers"),
    [
        ("local", 2),
        pytest.param("local", 7, marks=pytest.mark.slow),
        pytest.param("ray", 2, marks=[pytest.mark.ray, pytest.mark.slow]),
    ],
)
def test_a_worker_killed_in_each_step_changes_no_byte_nor_does_the_number_of_them(
    engine: str, workers: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    assert run(whole, put(whole), {}).counts.dropped
    put(killed)
    steps = ["signatures", "bands", "edges", "components", "remove"]
    address = ["--address", request.getfixturevalue("ray_address")] if engine == "ray" else []
    options = ["--engine", engine, *address, "--workers", str(workers), "--kill-in", *steps]
    code, _, err = faults.run([str(faults.TESTS / "dying_stage.py"), "dedup", str(tmp_path / "killed"), *options])
    assert code == 0, err
    assert {path.name for path in (tmp_path / "killed").glob("killed-*")} == {f"killed-{step}" for step in steps}
    folders = ("dedup/docs", "dedup/ledger")
    assert faults.fingerprint(tmp_path / "killed", folders) == faults.fingerprint(tmp_path / "whole", folders)
