"""What a run, `curate status` and the recipe's printing say of dedup: what is found, what was found, what looks wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dedup_runs import run_dedup

from curate.pipeline.cli import main
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.findings import cluster_line, opening, reports, warnings
from curate.stages.dedup.stage import STAGE


def report(**facts: Any) -> dict[str, Any]:
    """As the step writes it: one cluster of half the scope's 4,000 pages, with a page that is unlike the one kept."""
    cluster = {"kept_id": "k", "size": facts.pop("size", 2000), "least_similarity": facts.pop("least", 0.1)}
    made = {"schema_version": 1, "scope": "s", "documents": 4000, "clusters": 1, "clustered": cluster["size"]}
    return made | {"largest": [cluster], **facts}


def run(place: Workspace, config: DedupConfig, *, as_json: bool) -> str:
    """A run of dedup over two copies of a text and another, in this process; gives what its display shows."""
    pages = [{"id": str(n), "text": "a text of some words that are the same" if n else "another"} for n in range(3)]
    return run_dedup(place, {"s/a": pages}, config, as_json=as_json)


def curve(bands: int, rows: int) -> str:
    return f"0.80: {100 * (1 - (1 - 0.8**rows) ** bands):.1f} %"


def test_a_run_says_once_what_its_parameters_find_before_it_begins(tmp_path: Path) -> None:
    lines = run(Workspace(tmp_path), DedupConfig(), as_json=False).splitlines()
    assert lines[1].startswith("dedup: 14 bands x 8 rows; pairs found") and curve(14, 8) in lines[1]
    assert sum("bands x" in line for line in lines) == 1


def test_machines_are_told_the_same(tmp_path: Path) -> None:
    events = [json.loads(line) for line in run(Workspace(tmp_path), DedupConfig(), as_json=True).splitlines()]
    (note,) = [event for event in events if event["event"] == "note"]
    assert note["stage"] == "dedup" and curve(14, 8) in note["message"]
    assert [event["event"] for event in events if event["event"] != "progress"][:2] == ["stage_started", "note"]


def test_the_end_of_a_run_says_what_went_for_which_reason(tmp_path: Path) -> None:
    assert "kept 2 of 3 records (dropped: exact_duplicate 1)" in run(Workspace(tmp_path), DedupConfig(), as_json=False)


def test_what_a_threshold_chose_and_what_verification_asks_are_said() -> None:
    config = DedupConfig.model_validate({"minhash": {"threshold": 0.8}, "verify": "jaccard"})
    bands, rows = config.minhash.bands, config.minhash.rows
    first, second = opening(config)
    assert first.startswith(f"threshold 0.8 chooses {bands} bands x {rows} rows") and curve(bands, rows) in first
    assert "at a similarity of 0.8 or more" in second


@pytest.mark.parametrize(("exact", "said"), [(True, "same normalised text only"), (False, "neither exact nor near")])
def test_without_minhash_no_curve_is_claimed(exact: bool, said: str) -> None:
    (line,) = opening(DedupConfig.model_validate({"exact": exact, "minhash": {"enabled": False}}))
    assert said in line


def test_a_recipe_is_shown_with_what_its_parameters_find_and_is_still_a_recipe(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["recipes", "show", "standard", "--set", "dedup.minhash.bands=26"])
    last = done.output.splitlines()[-1]
    assert last.startswith("# dedup: 26 bands x 8 rows") and curve(26, 8) in last
    (tmp_path / "r.yaml").write_text(done.output)
    again = CliRunner().invoke(main, ["recipes", "show", str(tmp_path / "r.yaml"), "--resolved"])
    assert again.output == done.output


def test_a_quality_column_that_is_not_there_is_refused_before_any_page_is_signed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none named 'confidnce'.*did you mean 'confidence'"):
        run(Workspace(tmp_path), DedupConfig(keep="quality", quality_column="confidnce"), as_json=True)
    assert not list(tmp_path.glob("dedup/steps/signatures/**/*.parquet"))


def test_status_says_how_many_clusters_there_are(tmp_path: Path) -> None:
    run(Workspace(tmp_path), DedupConfig(), as_json=False)
    done = CliRunner().invoke(main, ["status", "--workspace", str(tmp_path)])
    assert "1 cluster of 2 pages, the largest of 2" in done.output and "warning" not in done.output


def test_a_large_cluster_of_unlike_pages_is_warned_of_at_the_end_and_in_status(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    run(place, DedupConfig(), as_json=False)
    place.write_json("dedup/steps/report/s.json", report())
    done = CliRunner().invoke(main, ["status", "--workspace", str(tmp_path)])
    assert "warning: 2,000 of 4,000 pages of s are one cluster" in done.output and "dedup.verify=jaccard" in done.output
    (said,) = STAGE.warnings(place, DedupConfig())
    assert said.startswith("dedup: 2,000 of 4,000 pages of s are one cluster")


def test_the_warning_of_a_run_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.stages.dedup.findings.LARGE_PAGES", 2)
    monkeypatch.setattr("curate.stages.dedup.findings.UNLIKE", 1.1)
    events = [json.loads(line) for line in run(Workspace(tmp_path), DedupConfig(), as_json=True).splitlines()]
    assert events[-1]["event"] == "warning" and events[-1]["message"].startswith("warning: dedup: 2 of 3 pages of s")


@pytest.mark.parametrize(
    "facts", [{"size": 999}, {"documents": 200_001}, {"least": 0.5}, {"least": None}, {"least": 1.0}]
)
def test_small_clusters_and_those_of_pages_alike_are_not_warned_of(facts: dict[str, Any]) -> None:
    assert list(warnings([report()])) and not list(warnings([report(**facts)]))


def test_the_advice_is_what_the_run_does_not_do_yet() -> None:
    verified = report(verification={"by": "jaccard", "max_cluster": None})
    bounded = report(verification={"by": "jaccard", "max_cluster": 9})
    assert ["verify=jaccard" in line for line in warnings([report(), verified])] == [True, False]
    assert ["max_cluster=1000" in line for line in warnings([verified, bounded])] == [True, False]
    assert ["higher dedup.verify_threshold" in line for line in warnings([verified, bounded])] == [False, True]


def test_an_id_from_a_page_cannot_write_to_the_terminal() -> None:
    hostile = report()
    hostile["largest"][0]["kept_id"] = "\x1b[2J\n\u202e"
    (line,) = warnings([hostile])
    assert line.isprintable()


def test_what_max_cluster_took_apart_is_said() -> None:
    figures = {"too_large": 2, "left_alone_texts": 700}
    line = cluster_line([report(verification=figures), report()])
    assert "2 clusters of 4,000 pages" in line and "2 larger than max_cluster taken apart, 700 texts" in line


def test_reports_of_an_earlier_scope_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    run(place, DedupConfig(), as_json=False)
    assert [found["scope"] for found in reports(place, False)] == ["s"] and reports(place, True) == []


@pytest.mark.parametrize("content", [b"{broken", b"[]", b'{"schema_version": 2}'])
def test_a_damaged_report_is_passed_over(tmp_path: Path, content: bytes) -> None:
    place = Workspace(tmp_path)
    run(place, DedupConfig(), as_json=False)
    place.write_bytes("dedup/steps/report/s.json", content)
    assert reports(place, False) == []
    assert CliRunner().invoke(main, ["status", "--workspace", str(tmp_path)]).exit_code == 0
