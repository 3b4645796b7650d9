"""The mix as a run: what runs again and what does not, up to a step, over tokens of another workspace, killed in each step."""

from __future__ import annotations

import io
import json
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pytest
from mix_documents import SMALL, documents, write_shards

from curate.mixtures import scatter, stage
from curate.mixtures.config import MixConfig
from curate.mixtures.hashing import SPACE, id_keys
from curate.mixtures.pool import pool_shards
from curate.mixtures.stage import POOL, STAGE
from curate.pipeline.errors import UsageError
from curate.pipeline.ledger import Counts
from curate.pipeline.markers import read_manifest
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import StageResult, open_runner
from curate.pipeline.stage import Shard, Stage
from curate.pipeline.status import leftovers, mix_is_behind
from curate.pipeline.workspace import Workspace
from curate.pretrain.tokens import TokenSet
from support import Dying, Inline, KilledError, Noting, rows

OWN = {"sample", "tokenizer", "tokenize", "buckets", "count", "allocate", "scatter", "gather", "finish"}
"""The steps of every mix; those of exports follow them."""


def run(
    place: Workspace, shards: list[Shard], config: dict[str, Any], engine: Any = Inline, until: str | None = None,
    made: Stage = STAGE,
) -> StageResult:  # fmt: skip
    recipe = Recipe(RecipeHead(seed=7), {"mix": MixConfig.model_validate(SMALL | config)})
    with open_runner(place, recipe, engine, open_display(as_json=True, stream=io.StringIO())) as runner:
        return runner.run(made, shards, until)


def steps_run(place: Workspace, shards: list[Shard], config: dict[str, Any], until: str | None = None) -> set[str]:
    steps: list[str] = []
    assert not run(place, shards, config, lambda: Noting(steps), until).failed
    return set(steps)


def classified(place: Workspace, shards: int = 3, docs: list[dict[str, Any]] | None = None) -> list[Shard]:
    """The shards of a finished classify, and its manifest."""
    made = write_shards(place, documents(120) if docs is None else docs, shards)
    entries = [
        {
            "key": shard.key,
            "rows": shard.rows,
            "counts": Counts(records=shard.rows, kept=shard.rows).to_json(),
            "read": {},
            "docs": {"path": shard.file.path, "sha256": shard.file.fingerprint, "bytes": shard.file.size},
        }
        for shard in made
    ]
    counts = Counts(records=sum(shard.rows for shard in made), kept=sum(shard.rows for shard in made)).to_json()
    place.write_json("classify/manifest.json", {"finished": True, "failed": [], "shards": entries, "counts": counts})
    return made


def mixed(place: Workspace) -> dict[str, bytes]:
    """What a mix leaves for others, by name."""
    names = [name for name in place.list("mix") if "/steps/" not in name and "/done/" not in name]
    return {name: Path(place.path(name)).read_bytes() for name in names if name != "mix/manifest.json"}


@pytest.mark.parametrize("validation", [0, 0.0001, 0.1])
def test_buckets_are_counted_exactly_and_as_the_mix_counts_them(tmp_path: Path, validation: float) -> None:
    place, docs = Workspace(tmp_path), documents(60)
    docs[5]["text"] = ""
    config = {"by": ["topic", "language"], "validation": validation}
    run(place, write_shards(place, docs, 3), config)
    found = place.read_json("mix/buckets.json")

    tokens = {(row["id"], row["snapshot"]): row["tokens"] for shard in index(place) for row in shard}
    texts = [row for row in docs if row["text"]]
    keys = {row["id"]: int(id_keys(pa.array([row["id"]]), 7)[0]) for row in texts}
    below = max(int(validation * SPACE), min(keys.values())) if validation else -1
    expected: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(next(iter(found["buckets"].values())), 0))
    for row in docs:
        own = expected[f"{row['topic'] or 'unknown'}/{row['language']}"]
        if row["text"]:
            name = "held_out_" if keys[row["id"]] <= below else ""
            own[f"{name}documents"] += 1
            own[f"{name}tokens"] += tokens[row["id"], row["snapshot"]]
            own[f"{name}bytes"] += len(row["text"].encode())
    assert found["buckets"] == expected
    assert found["empty"] == len(docs) - len(texts) > 0
    assert (found["by"], found["tokens"]) == (["topic", "language"], sum(row["tokens"] for row in expected.values()))
    of_mix = place.read_json("mix/tokens.json")["buckets"]
    for name, row in found["buckets"].items():
        assert (row["tokens"], row["documents"]) == (of_mix[name]["pool_tokens"], of_mix[name]["pool_documents"])
        assert row["held_out_tokens"] == of_mix[name]["held_out_tokens"]


def index(place: Workspace) -> list[list[dict[str, Any]]]:
    """The tokenised index of each shard."""
    return [rows(place, name) for name in place.list("mix/steps/tokenize", ".parquet")]


def test_other_buckets_tokenise_nothing_again(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = classified(place)
    assert steps_run(place, shards, {"budget": "10k"}) >= OWN
    again = steps_run(place, shards, {"budget": "10k", "by": ["language"]})
    assert again & OWN == {"buckets", "count", "allocate", "scatter", "gather", "finish"}
    assert "allocate" in steps_run(place, shards, {"budget": "11k", "by": ["language"]})
    assert steps_run(place, shards, {"budget": "11k", "by": ["language"]}) == set()


def test_up_to_a_step_nothing_is_published_and_nothing_is_left_unfinished(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = classified(place)
    assert steps_run(place, shards, {}, "count") == {"sample", "tokenizer", "tokenize", "buckets", "count"}
    assert read_manifest(place, "mix") is None and not place.exists("mix/tokens.json")
    assert place.read_json("mix/buckets.json")["documents"] > 0
    assert "tokenize" not in steps_run(place, shards, {"budget": "10k"})
    before = mixed(place)
    assert steps_run(place, shards, {"budget": "10k", "by": ["language"]}, "count") == {"buckets", "count"}
    assert read_manifest(place, "mix")["finished"] and not mix_is_behind(place)  # type: ignore[index]
    assert {name: data for name, data in mixed(place).items() if name != "mix/buckets.json"} == {
        name: data for name, data in before.items() if name != "mix/buckets.json"
    }
    with pytest.raises(ValueError, match="no-such-step"):
        run(place, shards, {}, until="no-such-step")


def test_a_mix_is_out_of_date_once_other_tokens_were_counted(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    run(place, classified(place), {"budget": "10k"})
    assert not mix_is_behind(place)
    docs = documents(120)
    docs[3]["text"] += " and more"
    shards = classified(place, docs=docs)
    run(place, shards, {"budget": "10k"}, until="count")
    assert mix_is_behind(place)
    run(place, shards, {"budget": "10k"})
    assert not mix_is_behind(place)


@pytest.mark.parametrize("layout", ["shuffled", "by-bucket"])
def test_over_tokens_of_another_workspace_the_mix_is_the_same_and_nothing_is_tokenised(
    tmp_path: Path, layout: str
) -> None:
    own, other = Workspace(tmp_path / "w"), Workspace(tmp_path / "w" / "swarm")
    shards = classified(own)
    run(own, shards, {}, until="count")
    config = {"budget": "20k", "layout": layout, "by": ["language"]}
    steps: list[str] = []
    assert run(other, pool_shards(own), config, lambda: Noting(steps), made=POOL).published
    assert not {"sample", "tokenize"} & set(steps)
    assert TokenSet(other).tokens == 20_000
    run(own, shards, config)
    theirs, ours = mixed(other), mixed(own)
    assert theirs == {name: data for name, data in ours.items() if not name.startswith("mix/swarm")}


def test_tokens_of_other_documents_are_no_pool(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = classified(place)
    with pytest.raises(UsageError, match=r"no tokens yet: run `curate mix buckets` first"):
        pool_shards(place)
    run(place, shards, {}, until="tokenize")
    assert [shard.key for shard in pool_shards(place)] == [shard.key for shard in shards]
    classified(place, docs=documents(121))
    with pytest.raises(UsageError, match=r"other documents or another tokenizer: run `curate mix buckets`"):
        pool_shards(place)


def test_killed_in_each_step_the_mix_is_the_same(tmp_path: Path, small_pieces: None) -> None:
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    config = {"budget": "30k"}
    run(whole, classified(whole), config)
    died: set[str] = set()
    shards = classified(killed)
    while not died >= OWN:
        with pytest.raises(KilledError):
            run(killed, shards, config, lambda: Dying(died))
    assert not run(killed, shards, config).failed
    assert died >= OWN
    assert mixed(killed) == mixed(whole)


def test_the_disk_announced_grows_with_the_budget_up_to_the_cap_and_with_the_exports(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = classified(place)

    def announced(**config: Any) -> int:
        sink = io.StringIO()
        recipe = Recipe(RecipeHead(), {"mix": MixConfig.model_validate(SMALL | config)})
        with open_runner(place, recipe, Inline, open_display(as_json=True, stream=sink)) as runner:
            runner.run(STAGE, shards, "tokenizer")
        return int(next(json.loads(line) for line in sink.getvalue().splitlines())["disk_estimate"])

    once, whole = announced(), sum(shard.file.size for shard in shards)
    assert whole < once < 10 * whole
    assert announced(budget="1") < once < announced(budget="1B") == announced(budget="2B")
    assert announced(export=["megatron"]) == once < announced(export=["jsonl"]) < announced(export=["jsonl", "parquet"])


def test_clean_finds_what_a_larger_mix_left_and_no_trainer_sees_it(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = write_shards(place, documents(60), 2)
    run(place, shards, {"budget": "20k", "export": ["megatron"]})
    large = set(place.list("mix/tokens"))
    run(place, shards, {"budget": "8k", "export": ["megatron"]})
    tokens = TokenSet(place)
    named = {f"mix/{shard.name}{suffix}" for shard in tokens.shards for suffix in (".bin", ".idx", ".idx.parquet")}
    stale = {name for name in large - named if not name.endswith(".idx")}  # indices went at once
    assert tokens.tokens == 8_000 and len(stale) >= 4
    assert set(leftovers(place, ["mix"])) == stale
    for name in stale:
        place.remove(name)
    assert not run(place, shards, {"budget": "20k", "export": ["megatron"]}).failed
    assert set(place.list("mix/tokens")) == large


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups, blocks and reads so small that even a small mix has many of each."""
    monkeypatch.setattr(stage, "GROUP_BYTES", 20_000)
    monkeypatch.setattr(scatter, "BLOCK_BYTES", 7_000)
    monkeypatch.setattr(scatter, "PIECE_BYTES", 2_000)
    monkeypatch.setattr(scatter, "_GAP", 300)


def test_the_size_of_groups_blocks_and_reads_changes_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    config = {"budget": "90k", "max_repeats": 5, "shard_tokens": 9_000}
    one, many = Workspace(tmp_path / "one"), Workspace(tmp_path / "many")
    run(one, classified(one, 5), config)
    request.getfixturevalue("small_pieces")
    run(many, classified(many, 5), config)
    assert len(many.list("mix/steps/scatter", ".runs")) > 3 > len(one.list("mix/steps/scatter", ".runs"))
    sizes = [many.size(name) for name in many.list("mix/steps/scatter", ".sections")]
    files = len(many.list("mix/tokens", ".bin")) + len(many.list("mix/validation", ".bin"))
    assert max(sizes) > files * scatter.SECTION.itemsize  # several blocks
    assert mixed(many) == mixed(one)


def test_a_document_that_is_not_needed_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain: Callable[..., Any] = scatter._read

    def counting(stream: Any, begins: Any, ends: Any) -> Any:
        read.append(int(ends[-1] - begins[0]))
        return plain(stream, begins, ends)

    monkeypatch.setattr(scatter, "_read", counting)
    monkeypatch.setattr(scatter, "_GAP", 0)
    place = Workspace(tmp_path)
    run(place, classified(place), {"budget": 2_000, "validation_tokens": 1})
    whole = sum(place.size(name) for name in place.list("mix/steps/tokenize", ".bin"))
    assert 4_000 <= sum(read) < whole / 3


FAULTY: dict[str, Any] = {"budget": "30k", "export": ["megatron", "jsonl"], "by": ["language"], "max_repeats": 6}


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_drivers_and_workers_killed_in_the_shuffle_leave_the_bytes_of_an_undisturbed_run(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    place = Workspace(whole)
    recipe = Recipe(RecipeHead(), {"mix": MixConfig.model_validate(SMALL | FAULTY)})
    with open_runner(place, recipe, Inline, open_display(as_json=True, stream=io.StringIO())) as runner:
        assert not runner.run(STAGE, write_shards(place, documents(120), 3)).failed
    write_shards(Workspace(killed), documents(120), 3)
    address = ["--address", request.getfixturevalue("ray_address")] if engine == "ray" else []
    command = [str(faults.TESTS / "dying_stage.py"), "mix", str(killed), "--config", json.dumps(SMALL | FAULTY)]
    steps = ["scatter", "gather", "scatter-texts", "texts"]
    if engine == "local":
        code, _, err = faults.run([*command, "--workers", "1", "--kill-driver-in", "scatter"])
        assert code == -signal.SIGKILL and (killed / "killed-scatter").exists(), err
        steps = ["gather", "texts"]
    code, _, err = faults.run([*command, "--engine", engine, *address, "--workers", "3", "--kill-in", *steps])
    assert code == 0, err
    assert {path.name for path in killed.glob("killed-*")} == {f"killed-{step}" for step in {*steps, "scatter"}}

    def data(folder: Path) -> dict[str, str]:
        found = faults.fingerprint(folder, ["mix"])
        return {name: digest for name, digest in found.items() if "/done/" not in name and name != "mix/manifest.json"}

    assert data(killed) == data(whole)
