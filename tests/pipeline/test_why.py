"""`curate why` as a user reads it: each record once, a line a stage, what was decided with its value and threshold."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import faults
import pyarrow.parquet as pq
import pytest
import small_crawl

from curate.pipeline.tables import WIDTH, story_lines
from curate.pipeline.why import why
from curate.pipeline.workspace import Workspace
from curate.report.build import build_report
from curate.report.facts import read_ledgers, read_stages
from curate.report.sections import rules
from curate.stages.filter.registry import registered

STAGES = ("extract", "filter", "dedup", "classify")
CLI = ["-m", "curate.pipeline.cli"]
RECIPE = """
filter:
  language: null
  rules: {mean_word_length: {max: 10}, word_count: {min: 20}}
mix: {budget: 900, by: [snapshot], tokenizer: {vocab_size: 300}}
"""


MAIL = "Write to jane@corp.com today.\n"


def text(seed: int) -> str:
    return small_crawl.page(seed).split("</h1>")[1].split("</article>")[0].replace("<p>", "").replace("</p>", "\n")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good pages, a copy, a page that fails two rules, two with an address; everything up to the mix."""
    folder = tmp_path_factory.mktemp("why")
    pages = [{"id": f"good-{seed}", "url": f"https://good.example/{seed}", "text": text(seed)} for seed in range(4)]
    pages += [{"id": "copy", "url": "https://copy.example/", "text": text(0)}]
    pages += [{"id": "bad", "url": "https://bad.example/", "text": "Incomprehensibilities counterrevolutionaries."}]
    pages += [{"id": "mail", "url": "https://mail.example/", "text": MAIL + text(9)}]
    pages += [{"id": "short", "url": "https://short.example/", "text": MAIL}]
    (folder / "in.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    (folder / "recipe.yaml").write_text(RECIPE)
    options = ["--workspace", str(folder / "w"), "--recipe", str(folder / "recipe.yaml"), "--workers", "1"]
    for command in (["run", "all", "--input", str(folder / "in.jsonl"), *options], ["mix", *options]):
        code, _, err = faults.run([*CLI, *command])
        assert code == 0, err
    return folder / "w"


def told(workspace: Path, wanted: str) -> list[str]:
    code, out, err = faults.run([*CLI, "why", wanted, "--workspace", str(workspace)])
    assert code == 0, err
    return out.splitlines()


def after(lines: list[str], begin: str) -> list[str]:
    """The lines from the one that begins so on, the next stage's excluded."""
    first = next(index for index, line in enumerate(lines) if line.strip().startswith(begin))
    rest = next((n for n, line in enumerate(lines[first + 1 :], first + 1) if line[:3].strip()), len(lines))
    return lines[first:rest]


def test_a_record_is_named_once_and_has_one_entry_a_stage(workspace: Path) -> None:
    mixed = pq.read_table(workspace / "mix/manifest.parquet").to_pylist()
    number = next(row["id"] for row in mixed if row["id"].startswith("good-")).removeprefix("good-")
    lines = told(workspace, f"https://good.example/{number}")
    assert lines[0] == f"good-{number}  https://good.example/{number}"
    assert sum(f"good-{number}" in line for line in lines) == 1
    assert [line.split()[0] for line in lines if line.split()[1:2] == ["kept"]] == [*STAGES, "mix"]
    assert all(len(line) <= WIDTH for line in lines)


def test_lines_are_no_wider_than_the_terminal(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for shown in (told(workspace, "bad"), faults.run([*CLI, "signals", "bad_words"])[1].splitlines()):
        assert 70 < max(map(len, shown)) <= 80


def test_failed_rules_come_first_with_bound_and_threshold_and_the_other_signals_are_folded(workspace: Path) -> None:
    lines = after(told(workspace, "bad"), "filter")
    assert lines[0].split(maxsplit=2)[1:] == ["DROPPED", "mean_word_length 22, max 10"]
    assert lines[1].strip() == "word_count 2, min 20"
    assert lines[2].strip().startswith("also measured: ")
    assert not any(" word_count" in line or " mean_word_length" in line for line in lines[2:])
    assert any("top_2_gram_char_fraction" in line for line in lines[2:])
    assert len(lines) < 14
    (found,) = [
        chapter["record"] for chapter in why(Workspace(workspace), "bad", STAGES) if chapter["stage"] == "filter"
    ]
    assert found["characters"] > 0 and set(found["signals"]) == set(registered())


@pytest.mark.parametrize(("wanted", "outcome"), [("mail", "kept"), ("short", "DROPPED")])
def test_an_address_is_named_by_its_kind_and_place_and_never_itself(workspace: Path, wanted: str, outcome: str) -> None:
    lines = after(told(workspace, wanted), "filter")
    assert lines[0].split()[1] == outcome
    assert any(line.endswith(" found at characters: email 9–22") for line in lines)
    _, out, _ = faults.run([*CLI, "why", wanted, "--workspace", str(workspace), "--json"])
    record = json.loads(out)["story"][1]["record"]
    assert record["spans"] == [{"kind": "email", "start": 9, "stop": 22}]
    assert "jane@corp.com" not in out
    assert MAIL[9:22] == "jane@corp.com"


def test_signals_stand_at_filter_only_and_scores_at_classify(workspace: Path) -> None:
    lines = told(workspace, "good-1")
    assert sum(" mean_word_length" in line for line in lines) == 1
    (scores,) = [line for line in lines if line.strip().startswith("classify")]
    record = why(Workspace(workspace), "good-1", STAGES)[3]["record"]
    assert f"topic {record['topic']} ({record['topic_score']:.4g})" in scores


def test_a_copy_names_the_page_kept_with_its_url(workspace: Path) -> None:
    stories = {wanted: why(Workspace(workspace), wanted, STAGES) for wanted in ("copy", "good-0")}
    (gone,) = [wanted for wanted, story in stories.items() if story[-1]["outcome"] == "dropped"]
    (kept,) = set(stories) - {gone}
    url = {"copy": "https://copy.example/", "good-0": "https://good.example/0"}[kept]
    lines = after(told(workspace, gone), "dedup")
    assert "exact_duplicate" in lines[0]
    assert lines[1].split() == ["page", "kept:", kept, url]
    assert "stands for 1 copy more" in after(told(workspace, kept), "dedup")[0]


def test_the_mix_says_how_often_and_how_much(workspace: Path) -> None:
    rows = pq.read_table(workspace / "mix/manifest.parquet").to_pylist()
    assert {row["split"] for row in rows} == {"train", "validation"}
    for row in rows:
        said = " ".join(line.strip() for line in after(told(workspace, row["id"]), "mix"))
        assert f"bucket {row['bucket']}, " in said
        assert ("held out for validation" in said) == (row["split"] == "validation")
        assert f"{row['tokens']:,} tokens each time" in said
        assert (f"the last {row['cut']:,} left out" in said) == bool(row["cut"])


@pytest.fixture(scope="module")
def from_another(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that filters the pages of the other, through dedup."""
    here = tmp_path_factory.mktemp("another") / "w"
    recipe = workspace.parent / "recipe.yaml"
    for stage, *source in (("filter", "--from", str(workspace)), ("dedup",)):
        code, _, err = faults.run([*CLI, "run", stage, *source, "--workspace", str(here), "--recipe", str(recipe)])
        assert code == 0, err
    return here


@pytest.mark.parametrize("wanted", ["bad", "https://bad.example/", "copy", "good-0", "good-2"])
def test_a_workspace_that_filters_anothers_pages_tells_the_same(
    workspace: Path, from_another: Path, wanted: str
) -> None:
    there = [chapter for chapter in why(Workspace(workspace), wanted, STAGES) if chapter["stage"] in STAGES[1:3]]
    here = why(Workspace(from_another), wanted, STAGES)
    assert here == there
    assert here


def test_a_record_that_two_files_hold_is_told_of_place_by_place() -> None:
    def chapter(stage: str, outcome: str, offset: int, **more: object) -> dict[str, object]:
        place = {"id": "twice", "snapshot": "S", "source": "a.warc.gz", "offset": offset}
        return {"stage": stage, "outcome": outcome, "shard": "S/a", "record": place | more}

    lines = story_lines(
        [
            chapter("extract", "kept", 7),
            chapter("extract", "dropped", 9, reason="duplicate_id", detail="kept: offset 7 of a.warc.gz"),
            chapter("filter", "kept", 7),
            {
                "stage": "mix",
                "outcome": "kept",
                "shard": "m",
                "record": {"id": "twice", "snapshot": "S", "bucket": "b"},
            },
        ]
    )
    first, second = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert [line.split()[0] for line in first[3:]] == ["extract", "filter", "mix"]
    assert second[-1].split(maxsplit=2)[1:] == ["DROPPED", "duplicate_id: kept: offset 7 of a.warc.gz"]


def test_a_page_cannot_rewrite_the_terminal() -> None:
    record = {
        "id": "x\x1b[2J",
        "url": "https://a/\r\n",
        "title": "\x1b]0;owned\x07",
        "detail": "\x9b1A",
        "reason": "r\x08",
    }
    text = "\n".join(story_lines([{"stage": "extract", "outcome": "dropped", "shard": "S/\x1b", "record": record}]))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count("\n") == 3


def test_an_unwanted_language_is_named_with_its_score() -> None:
    rule = {"rule": "language", "value": 0.91, "bound": "is", "threshold": None}
    record = {"id": "x", "reason": "language", "failed": [rule], "language": "fr", "signals": {"word_count": 3}}
    lines = story_lines([{"stage": "filter", "outcome": "dropped", "shard": "S/a", "record": record}])
    assert lines[2].split(maxsplit=2)[2] == "language fr (0.91) is not one that is wanted"


@pytest.fixture(scope="module")
def scored(workspace: Path) -> Path:
    """The same, with parts of a score as columns, half of them refused, and an evaluation item looked for."""
    place = workspace.parent / "scored"
    shutil.copytree(workspace, place)
    (workspace.parent / "set.jsonl").write_text(json.dumps({"q": text(2)}) + "\n")
    settings = [
        "quantiles={edu: {within: null, by: pages, parts: 4}}", "keep={edu_quartile: {min: 2}}",
        f"decontaminate={{sets: [{{path: {workspace.parent}/set.jsonl, fields: [q]}}], action: mark}}",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", f"classify.{setting}")]
    code, _, err = faults.run([*CLI, "run", "classify", "--workspace", str(place), "--workers", "1", *options])
    assert code == 0, err
    return place


def classify_record(place: Path, wanted: str) -> dict[str, Any]:
    (found,) = [found for found in why(Workspace(place), wanted, STAGES) if found["stage"] == "classify"]
    record: dict[str, Any] = found["record"]
    return record


def ids(place: Path, table: str) -> list[str]:
    return [
        row
        for path in sorted((place / "classify" / table).rglob("*.parquet"))
        for row in pq.read_table(path)["id"].to_pylist()
    ]


def test_a_page_kept_tells_where_its_scores_stand(scored: Path) -> None:
    for wanted in ids(scored, "docs"):
        record = classify_record(scored, wanted)
        (line,) = [line for line in told(scored, wanted) if " edu " in line]
        said = f"(percentile {record['edu_percentile']}, quartile {record['edu_quartile']})"
        assert said in line and record["edu_quartile"] >= 2


def test_a_page_that_classify_dropped_tells_the_scores_that_it_had(scored: Path) -> None:
    dropped = ids(scored, "ledger")
    assert dropped == ["good-3", "mail"]
    for wanted in dropped:
        lines = after(told(scored, wanted), "classify")
        assert lines[0].split(maxsplit=2)[1:] == ["DROPPED", "edu_quartile 1, min 2"]
        record = classify_record(scored, wanted)
        assert f"quality {record['quality']:.4g}, math {record['math']:.4g}, edu {record['edu']:.4g}" in lines[1]


def test_a_marked_page_tells_the_item_that_it_holds_and_where(scored: Path) -> None:
    lines = after(told(scored, "good-2"), "classify")
    assert any("holds 1 of the n-grams of set:1" in line for line in lines)
    assert any(line.strip().startswith("found at characters: set ") for line in lines)


def test_the_report_shows_parts_and_what_the_dropped_pages_scored(scored: Path) -> None:
    html = (scored / build_report(Workspace(scored))).read_text()
    assert "Edu quartile" in html and "edu percentile" in html
    place = scored.parent / "bounded"
    shutil.copytree(scored, place)
    command = [
        "run",
        "classify",
        "--workspace",
        str(place),
        "--workers",
        "1",
        "--set",
        "classify.keep={edu: {min: 0.3}}",
    ]
    code, _, err = faults.run([*CLI, *command])
    assert code == 0, err
    facts = read_stages(Workspace(place))
    read_ledgers(Workspace(place), facts)
    chart = str(rules(Workspace(place), facts[-1:])["charts"][0])
    assert "min 0.3" in chart and sum(map(int, re.findall(r": (\d+) records", chart))) == 5  # three of them dropped
