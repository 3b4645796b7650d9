"""`curate status`: whether the sums agree, what was verified, what is out of date, and where mix and training stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT, LEDGER, TableWriter
from curate.pipeline.lock import driver_lock
from curate.pipeline.progress import describe, number_of
from curate.pipeline.status import leftovers, mix_is_behind, stage_statuses, stale_stages
from curate.pipeline.tables import extra_lines, status_lines
from curate.pipeline.workspace import Workspace

STAGES = ("extract", "filter", "dedup", "classify")
KEYS = ("S/a", "S/b")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two shards through all stages, three pages each, nothing dropped."""
    place = Workspace(tmp_path / "w")
    for stage, above in zip(STAGES, (None, *STAGES), strict=False):
        run(place, stage, above)
    return place


def run(place: Workspace, stage: str, above: str | None, content: str = "", keys: tuple[str, ...] = KEYS) -> None:
    """Writes what a stage leaves behind: documents, ledger and manifest. Other `content`, another checksum."""
    entries = []
    for key in keys:
        files: dict[str, Any] = {}
        for name, schema, rows in (("docs", DOCUMENT, 3), ("ledger", LEDGER, 0)):
            path = f"{stage}/{name}/{key}.parquet"
            with place.create(path) as output, TableWriter(output, schema) as table:
                table.write_rows([{"id": f"{key}/{row}", "url": f"{stage} {content}"} for row in range(rows)])
            files[name] = {"path": path, "sha256": output.sha256, "bytes": output.size}
        source = {entry["key"]: entry for entry in manifest(place, above)["shards"]} if above else {}
        read = {"docs": source[key]["docs"]["sha256"]} if key in source else {}
        entries.append({"key": key, "rows": 3, "counts": counts(3), "read": read, **files})
    place.write_json(
        f"{stage}/manifest.json",
        {"schema_version": 1, "stage": stage, "shards": entries, "failed": [], "counts": counts(3 * len(keys))},
    )


def counts(number: int) -> dict[str, Any]:
    return {"records": number, "kept": number, "dropped": {}, "quarantined": {}, "ignored": {}, "seconds": {}}


def manifest(place: Workspace, stage: str) -> Any:
    return place.read_json(f"{stage}/manifest.json")


def shown(place: Workspace, *, verify: bool = False) -> str:
    return "\n".join(status_lines(stage_statuses(place, STAGES, verify=verify), None))


def test_sums_that_agree_are_said_to_and_those_that_do_not(workspace: Workspace) -> None:
    assert shown(workspace).count("sums agree") == 4
    changed = manifest(workspace, "dedup")
    changed["shards"][0]["counts"]["kept"] -= 1
    workspace.write_json("dedup/manifest.json", changed)
    assert shown(workspace).count("sums agree") == 2  # classify read more than dedup says it kept
    assert shown(workspace).count("SUMS DO NOT MATCH") == 2


def test_verify_counts_files_and_rows_and_finds_one_that_lost_a_row(workspace: Workspace) -> None:
    assert "verified" not in shown(workspace)
    assert (
        shown(workspace, verify=True).count("sums agree: in = kept + dropped + quarantined; verified: 4 files, 6 rows")
        == 4
    )
    path = workspace.path("filter/docs/S/a.parquet")
    pq.write_table(pq.read_table(path).slice(1), path)
    filtered = stage_statuses(workspace, STAGES, verify=True)[1]
    assert filtered.problems == [
        "filter S/a: filter/docs/S/a.parquet is not the file that was written (its SHA-256 differs)",
        "filter S/a: filter/docs/S/a.parquet has 2 rows, 3 were counted",
    ]
    assert filtered.to_json()["verified"] == {"files": 4, "rows": 5}
    assert "SUMS DO NOT MATCH; verified: 4 files, 5 rows" in shown(workspace, verify=True)


def test_every_stage_after_one_that_ran_again_is_out_of_date(workspace: Workspace) -> None:
    assert stale_stages(workspace, STAGES) == []
    run(workspace, "filter", "extract", content="another threshold")
    assert stale_stages(workspace, STAGES) == ["dedup", "classify"]
    assert shown(workspace).count("OUT OF DATE") == 2
    run(workspace, "dedup", "filter", content="of these")
    assert stale_stages(workspace, STAGES) == ["classify"]
    run(workspace, "classify", "dedup")
    assert stale_stages(workspace, STAGES) == []


def test_a_stage_that_ran_again_and_made_the_same_leaves_the_rest_as_it_was(workspace: Workspace) -> None:
    run(workspace, "filter", "extract")
    assert stale_stages(workspace, STAGES) == []


@pytest.mark.parametrize("keys", [("S/a",), ("S/a", "S/b", "S/c")])
def test_inputs_that_went_or_came_make_what_follows_out_of_date(workspace: Workspace, keys: tuple[str, ...]) -> None:
    run(workspace, "extract", None, keys=keys)
    assert stale_stages(workspace, STAGES) == ["filter", "dedup", "classify"]


def mix(place: Workspace) -> None:
    tokens = {"tokens": 90_000, "budget": 100_000, "documents": 1, "validation": {"tokens": 2_000, "shards": []}}
    place.write_json("mix/tokens.json", tokens | {"shards": []})
    place.write_json("mix/manifest.json", {"counts": counts(6)})
    for entry in manifest(place, "classify")["shards"]:
        place.write_json(
            f"mix/steps/tokenize/done/{entry['key']}.json",
            {"read": {"docs": entry["docs"]["sha256"], "tokenizer": "t"}},
        )


def test_the_mix_has_a_line_with_tokens_and_budget(workspace: Workspace) -> None:
    assert extra_lines(workspace) == []
    mix(workspace)
    (line,) = extra_lines(workspace)
    assert line == "mix       90,000 tokens of a budget of 100,000 in 1 document; 2,000 held out for validation"


def test_the_mix_is_out_of_date_when_classify_has_other_documents(workspace: Workspace) -> None:
    mix(workspace)
    assert not mix_is_behind(workspace)
    run(workspace, "classify", "dedup", content="another model")
    assert mix_is_behind(workspace)
    assert extra_lines(workspace)[0].endswith("OUT OF DATE, run `curate mix` again")
    mix(workspace)
    assert not mix_is_behind(workspace)
    run(workspace, "classify", "dedup", content="another model", keys=("S/a",))
    assert mix_is_behind(workspace)


def test_the_mix_is_out_of_date_with_the_stages_before_it(workspace: Workspace) -> None:
    mix(workspace)
    run(workspace, "filter", "extract", content="another threshold")
    assert mix_is_behind(workspace)
    for stage, above in zip(STAGES[2:], STAGES[1:], strict=False):
        run(workspace, stage, above)
    assert not mix_is_behind(workspace)  # the same documents came of it


def test_training_has_a_line_with_step_and_validation_loss_while_it_runs_and_after(workspace: Workspace) -> None:
    log = [
        {"step": 100, "loss": 5.0},
        {"step": 100, "validation": {"loss": 4.25, "bits_per_byte": 1.5}},
        {"step": 1101, "loss": 4.0},
    ]
    cut = '{"step": 1102, "lo'
    workspace.write_bytes("pretrain/log.jsonl", ("\n".join(map(json.dumps, log)) + "\n" + cut).encode())
    assert extra_lines(workspace) == ["pretrain  not finished: step 1,101, validation loss 4.2500, 1.500 bits per byte"]
    workspace.write_json("pretrain/result.json", {"steps": 1200, "validation": {"loss": 3.5, "bits_per_byte": None}})
    assert extra_lines(workspace) == ["pretrain  done: step 1,200, validation loss 3.5000"]


def test_what_edits_took_out_is_added_up_and_shown(workspace: Workspace) -> None:
    changed = manifest(workspace, "filter")
    for entry, edits in zip(changed["shards"], ({"few_words": 1200, "citations": 3}, {"few_words": 34}), strict=True):
        entry["counts"]["edits"] = edits
    changed["counts"]["edits"] = {"few_words": 1234, "citations": 3}
    workspace.write_json("filter/manifest.json", changed)
    assert "characters taken out of texts: few_words 1,234, citations 3" in shown(workspace)
    assert stage_statuses(workspace, STAGES)[1].to_json()["edits"] == {"citations": 3, "few_words": 1234}


def step(place: Workspace, stage: str, name: str, key: str, read: str) -> list[str]:
    """A finished task of an earlier step: its marker and its file."""
    path, marker = f"{stage}/steps/{name}/{key}.parquet", f"{stage}/steps/{name}/done/{key}.json"
    place.write_bytes(path, b"x")
    place.write_json(marker, {"key": key, "read": {read: "0"}, "outputs": {"out": {"path": path}}})
    return [marker, path]


def test_clean_finds_what_earlier_steps_made_of_inputs_that_are_gone(workspace: Workspace) -> None:
    step(workspace, "filter", "decide", "S/a", "docs")
    step(workspace, "dedup", "bands", "S/00000", "signatures")  # a group's, not a shard's
    mix(workspace)
    workspace.write_json(
        "mix/manifest.json", {"shards": [{"key": "mix", "summary": {"path": "mix/tokens.json"}}], "failed": []}
    )
    step(workspace, "mix", "tokenize", "S/a", "docs")
    assert leftovers(workspace, [*STAGES, "mix"]) == []
    gone = step(workspace, "filter", "decide", "S/gone", "docs")
    assert leftovers(workspace, [*STAGES, "mix"]) == sorted(gone)


def test_clean_leaves_what_a_swarm_at_work_below_is_writing(workspace: Workspace) -> None:
    names = [f"{folder}/part/.x.parquet.0123456789ab.tmp" for folder in ("filter", "swarm")]
    for name in names:
        Path(workspace.path(name)).parent.mkdir(parents=True, exist_ok=True)
        Path(workspace.path(name)).touch()
    assert leftovers(workspace, STAGES) == names
    with driver_lock(Workspace(f"{workspace.url}/swarm")):
        assert leftovers(workspace, STAGES) == names[:1]


def test_clean_finds_the_files_of_a_step_that_the_recipe_has_no_more(workspace: Workspace) -> None:
    files = step(workspace, "filter", "line_hashes", "S/a", "docs")
    step(workspace, "filter", "decide", "S/a", "docs")
    assert leftovers(workspace, STAGES) == []  # of an older version, which did not say which steps there are
    workspace.write_json("filter/manifest.json", manifest(workspace, "filter") | {"steps": ["measure", "decide"]})
    assert leftovers(workspace, STAGES) == sorted(files)


def test_clean_finds_the_error_of_a_step_that_has_succeeded_since(workspace: Workspace) -> None:
    workspace.write_json("filter/steps/measure/failed/S/gone.json", {})
    workspace.write_json("filter/steps/measure/failed/S/b.json", {})
    workspace.write_bytes("filter/steps/decide/failed/a.parquet", b"")  # of a snapshot with this name
    failed = {"failed": [{"key": "S/b", "error": "broken"}]}
    workspace.write_json("filter/manifest.json", manifest(workspace, "filter") | failed)
    assert leftovers(workspace, STAGES) == ["filter/steps/measure/failed/S/gone.json"]


def test_clean_leaves_alone_what_an_unfinished_stage_has_done(workspace: Workspace) -> None:
    step(workspace, "filter", "decide", "S/new", "docs")
    workspace.write_json("filter/done/S/new.json", {})
    workspace.write_json("filter/manifest.json", manifest(workspace, "filter") | {"finished": False})
    assert leftovers(workspace, STAGES) == []


def test_one_is_not_many() -> None:
    assert [number_of(number, "shard") for number in (0, 1, 2000)] == ["0 shards", "1 shard", "2,000 shards"]
    facts = {"stage": "extract", "shards": 1, "disk_estimate": 10, "disk_free": None}
    assert describe("stage_started", facts).startswith("extract: 1 shard, ")
