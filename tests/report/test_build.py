"""The report as a user gets it: its numbers are the ledger's, it is whole without the network, it says what is missing."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pyarrow.parquet as pq
import pytest
from report_page import read, whole

from curate.pipeline.documents import LEDGER, TableWriter
from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import Workspace
from curate.report.build import build_report


def ledger_rows(workspace: Workspace, stage: str) -> list[dict[str, Any]]:
    found = []
    for name in workspace.list(f"{stage}/ledger", ".parquet"):
        with workspace.open(name) as stream:
            found += pq.read_table(stream).to_pylist()
    return found


def test_an_empty_workspace_is_refused_with_the_command_to_run_first(tmp_path: Any) -> None:
    with pytest.raises(CurateError, match="curate run all"):
        build_report(Workspace(tmp_path))
    assert not (tmp_path / "report").exists()


def test_the_funnel_shows_the_records_of_every_stage(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    before = 2 * 2 * 150
    for stage in ("extract", "filter", "dedup", "classify"):
        kept = sum(len(found) for found in made.made[stage].values())
        gone = Counter(row["outcome"] for row in ledger_rows(made.workspace, stage))
        cells = page.stage(stage)
        assert [whole(cell) for cell in cells[1:5]] == [before, kept, gone["dropped"], gone["quarantined"]]
        assert "agree" in cells[7]
        before = kept
    assert "Every record is accounted for" in page.text


def test_drop_reasons_are_counted_as_in_the_ledger(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    for stage in ("extract", "filter", "dedup"):
        reasons = Counter(row["reason"] for row in ledger_rows(made.workspace, stage) if row["outcome"] == "dropped")
        assert reasons
        for reason, number in reasons.items():
            shown = [row for row in page.rows if row and row[0] == reason and row[1] == ""]
            assert whole(shown[0][2]) == number


def test_rules_are_counted_as_failed_and_as_failed_alone(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    failed: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    for row in ledger_rows(made.workspace, "filter"):
        names = [rule["rule"] for rule in row["failed"]]
        failed.update(names)
        alone.update(names if len(names) == 1 else [])
    assert any(failed[name] > alone[name] for name in failed)
    for rule in failed:
        cells = page.row(rule, "filter")
        assert (whole(cells[3]), whole(cells[5])) == (failed[rule], alone[rule])


def test_histograms_of_rules_hold_every_record_that_was_measured(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    measured = sum(len(found) for found in made.made["extract"].values())
    labels = [attrs["aria-label"] or "" for tag, attrs in page.elements if tag == "svg" and "aria-label" in attrs]
    (words,) = [label for label in labels if label.startswith("word_count.")]
    assert f"{measured:,} records" in words
    assert "threshold min 50" in words


def test_languages_are_those_measured_and_topics_those_of_the_documents_kept(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    kept = [item for found in made.made["classify"].values() for item in found]
    measured = [item for found in made.made["extract"].values() for item in found]
    english, left = (sum(item["language"] == "en" for item in items) for items in (measured, kept))
    health = sum(item["topic"] == "health" for item in kept)
    (cells,) = [row for row in page.rows if row and row[0].startswith("en") and row[0].endswith(" kept")]
    assert cells[0] == f"en{100 * left / english:.1f}% kept"
    assert whole(cells[2]) == english
    assert cells[3] == f"{100 * english / len(measured):.1f}%"
    assert whole(page.row("health")[2]) == health


def test_each_score_names_what_filled_its_column(synthetic: Any) -> None:
    _, page = read(synthetic().workspace)
    for model in (
        "quality (linear, version 1)", "math (linear, version 1)", "heuristic_lesson (heuristic, version 1)",
        "topic (linear, version 2)",
    ):  # fmt: skip
        assert f"filled by {model}" in page.text


def test_a_rule_that_is_true_or_false_is_named_so(synthetic: Any) -> None:
    _, page = read(synthetic().workspace)
    assert page.row("lorem_ipsum", "filter")[2] == "is false"


def test_clusters_are_counted_by_size_and_the_largest_comes_first(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    sizes = [item["duplicates"] for found in made.made["dedup"].values() for item in found]
    assert whole(page.row("1 (no duplicate)")[2]) == sizes.count(1)
    assert whole(page.row("2")[2]) == sizes.count(2)
    heads = [index for index, row in enumerate(page.rows) if row[:3] == ["pages", "least similarity", "page kept"]]
    assert whole(page.rows[heads[0] + 1][0]) == max(sizes)


def test_examples_are_real_ledger_rows_with_their_measured_value(synthetic: Any) -> None:
    made = synthetic()
    _, page = read(made.workspace)
    by_id = {row["id"]: row for row in ledger_rows(made.workspace, "filter") if row["reason"] == "stop_words"}
    shown = [row for row in page.rows if row and row[-1] in by_id]
    assert len(shown) == 5
    for cells in shown:
        assert cells[0].strip() == by_id[cells[-1]]["url"]
        assert float(cells[1]) == by_id[cells[-1]]["value"]
        assert float(cells[2]) == 2


def test_the_mix_and_the_training_run_are_shown(synthetic: Any) -> None:
    made = synthetic(rows=60)
    made.mix()
    made.pretrain()
    _, page = read(made.workspace)
    tokens = made.workspace.read_json("mix/tokens.json")["tokens"]
    assert f"tokens in the mix{tokens:,}" in page.text
    assert "validation bits per byte1.388" in page.text
    assert "The harbour was quiet, and the bridge opened at nine for the boats" in page.text
    loss = next(
        attrs["aria-label"] for tag, attrs in page.elements if (attrs.get("aria-label") or "").startswith("Loss.")
    )
    assert loss is not None
    assert "training" in loss and "validation" in loss


def test_training_is_shown_by_bucket_task_and_speed(synthetic: Any) -> None:
    made = synthetic(rows=60)
    made.mix()
    made.pretrain()
    made.swarm()
    _, page = read(made.workspace)
    assert page.row("food_and_dining/3")[1:] == ["2.4", "1.6", "2,500"]
    assert page.row("en")[2:] == ["1.3", "5,000"]
    described = [attrs["aria-label"] or "" for _, attrs in page.elements if attrs.get("aria-label")]
    assert any(text.startswith("Learning rate. learning rate 0.003 at 900") for text in described)
    assert any(text.startswith("piqa/rc_0shot, 1,838 questions. accuracy 0.6 at 900; chance 0.5") for text in described)
    for said in ("tokens a second9,000", "utilisation41.2%", "waiting for data0.2%", "tensors12.0 GB"):
        assert said in page.text, said
    assert "runs2" in page.text and "validation loss, best3.25" in page.text and "time of all2 min 0 s" in page.text


def test_what_evaluate_measured_is_shown(synthetic: Any) -> None:
    made = synthetic(rows=60)
    made.pretrain()
    task = {"accuracy": 0.625, "primary": "accuracy", "chance": 0.5}
    found = {
        "checkpoint": "pretrain/checkpoints/00000400", "validation": {"loss": 3.125, "bits_per_byte": 1.25},
        "tasks": {"arc_easy/rc_5shot": task, "odd": 3}, "compression": {"model": {"rate": 0.25}, "gzip": {"rate": 0.5}},
    }  # fmt: skip
    made.workspace.write_json("pretrain/evaluation.json", found)
    _, page = read(made.workspace)
    for said in ("checkpointpretrain/checkpoints/00000400", "validation loss3.125", "validation bits per byte1.25",
                 "arc_easy/rc_5shot, accuracy0.625 (chance 0.5)", "the model to25.0%", "by gzip to50.0%"):  # fmt: skip
        assert said in page.text, said


def test_a_log_without_speed_or_groups_is_shown_all_the_same(synthetic: Any) -> None:
    made = synthetic(rows=60)
    made.workspace.write_bytes(
        "pretrain/log.jsonl", b'{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0, "tasks": {"x": 3}}\n'
    )
    _, page = read(made.workspace)
    assert "Training" in page.text and "Validation by" not in page.text and "Proxy runs" not in page.text


def test_what_is_not_there_yet_is_left_out_with_the_command_that_makes_it(synthetic: Any) -> None:
    _, page = read(synthetic(stages=("extract",)).workspace)
    for command in ("curate run all", "curate run dedup", "curate run classify", "curate mix", "curate pretrain"):
        assert command in page.text
    assert "kept after extract" in page.text


def test_failed_shards_are_listed_with_their_errors(synthetic: Any) -> None:
    made = synthetic()
    manifest = made.manifest("filter")
    manifest["failed"] = [{"key": "CC-MAIN-2024-10/warc-00009", "error": "worker died <b>three</b> times"}]
    manifest["complete"] = False
    made.workspace.write_json("filter/manifest.json", manifest)
    _, page = read(made.workspace)
    assert "1 shard failed" in page.text
    assert page.row("filter", "CC-MAIN-2024-10/warc-00009")[2] == "worker died <b>three</b> times"
    assert "Every record is accounted for" not in page.text


def test_a_ledger_that_lost_a_row_is_called_out(synthetic: Any) -> None:
    made = synthetic()
    name = made.manifest("filter")["shards"][0]["ledger"]["path"]
    with made.workspace.open(name) as stream:
        rows = pq.read_table(stream)
    with made.workspace.create(name) as output, TableWriter(output, LEDGER) as table:
        table.write(rows.slice(1))
    _, page = read(made.workspace)
    assert "1 sum does not agree" in page.text
    assert "differ" in page.stage("filter")[7]


def test_a_stage_behind_the_one_before_is_said_to_be_so_and_is_no_error_of_sums(synthetic: Any) -> None:
    made = synthetic()
    manifest = made.manifest("filter")
    manifest["shards"][0]["docs"]["sha256"] = "0" * 64
    made.workspace.write_json("filter/manifest.json", manifest)
    _, page = read(made.workspace)
    assert "Out of date: dedup, classify" in page.text
    assert "curate run dedup, curate run classify bring them up to date" in page.text
    assert "not agree" not in page.text and "Every record is accounted for" not in page.text


def test_a_stage_that_saw_other_records_than_were_kept_is_called_out(synthetic: Any) -> None:
    made = synthetic()
    dedup = made.manifest("dedup")
    dedup["shards"][0]["counts"]["records"] += 1
    made.workspace.write_json("dedup/manifest.json", dedup)
    _, page = read(made.workspace)
    assert "differ" in page.stage("dedup")[7]


def test_a_file_that_is_gone_or_damaged_is_one_clear_error(synthetic: Any) -> None:
    made = synthetic()
    name = made.manifest("classify")["shards"][0]["docs"]["path"]
    made.workspace.write_bytes(name, b"PAR1 not a table")
    with pytest.raises(CurateError, match="run the stage that writes it again"):
        build_report(made.workspace)
    made.workspace.remove(name)
    with pytest.raises(CurateError, match=re.escape(name)):
        build_report(made.workspace)


def test_a_manifest_of_another_version_or_shape_is_refused(synthetic: Any) -> None:
    made = synthetic(stages=("extract",))
    manifest = made.manifest("extract")
    made.workspace.write_json("extract/manifest.json", manifest | {"schema_version": 2})
    with pytest.raises(CurateError, match="schema version 2"):
        build_report(made.workspace)
    del manifest["counts"]
    made.workspace.write_json("extract/manifest.json", manifest)
    with pytest.raises(CurateError, match="is not a manifest"):
        build_report(made.workspace)


def test_the_file_loads_nothing_and_runs_nothing(synthetic: Any) -> None:
    made = synthetic()
    made.mix()
    made.pretrain()
    html, page = read(made.workspace)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "audio",
        "video",
        "source",
        "use",
    }
    assert not any("src" in attrs or "srcset" in attrs for _, attrs in page.elements)
    assert "url(" not in html and "@import" not in html
    policy = next(
        attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'")


def test_the_same_workspace_gives_the_same_bytes(synthetic: Any) -> None:
    made = synthetic()
    assert read(made.workspace)[0] == read(made.workspace)[0]


def test_a_workspace_that_is_not_local_is_reported_all_the_same(synthetic: Any) -> None:
    made = synthetic(rows=40)
    remote = Workspace(f"memory://{made.workspace.root}")
    for name in made.workspace.list("."):
        with made.workspace.open(name) as stream:
            remote.write_bytes(name.removeprefix("./"), stream.read())
    assert read(remote)[0] == read(made.workspace)[0]


def test_records_that_all_failed_leave_a_report_without_documents(synthetic: Any) -> None:
    _, page = read(synthetic(rows=0).workspace)
    assert "No document was kept" in page.text
    assert page.stage("extract")[1] == "0"


def test_the_recipe_is_shown_without_the_secrets_of_its_urls(synthetic: Any) -> None:
    made = synthetic(stages=("extract",), rows=5)
    made.recipe("name: mine\ninput:\n  paths: ['https://me:pass@example.org/a.warc.gz?Signature=abcdef&x=1']\n")
    html, page = read(made.workspace)
    assert "https://example.org/a.warc.gz" in page.text
    assert "Signature" not in html and "pass@" not in html


def test_time_is_the_tasks_own_total_and_not_counted_twice(synthetic: Any) -> None:
    _, page = read(synthetic(rows=20).workspace)
    (cells,) = [row for row in page.rows if row[0] == "extract" and row[-1] == "work 5.0, read 2.0"]
    assert cells[1:3] == ["8.0", "10"]  # 4 shards of 2 s, 80 records
