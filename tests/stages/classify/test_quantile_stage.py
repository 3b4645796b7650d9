"""Percentiles and vigintiles as the stage classify gives them: over many shards, by tokens, killed at any step."""

from __future__ import annotations

import io
import json
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.classifiers import load
from curate.mixtures.buckets import bucket_names, check_columns
from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.engines import Engine
from curate.pipeline.errors import UsageError
from curate.pipeline.progress import open_display
from curate.pipeline.recipe import Recipe, RecipeHead
from curate.pipeline.runner import StageResult, open_runner
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.classify import STAGE, ClassifyConfig, quantile_steps
from support import Dying, Inline, KilledError, Noting, rows, run_stage

SUBJECTS = (
    "Preheat the oven, mix the flour, butter and sugar, bake the cookies and serve with chopped garlic.",
    "The striker scored twice as the team won the league match, and the coach praised his players.",
)
WORDS = (
    "| Home Login it was over the garden and then. We found that, because 12 34 of them (again) stood there.\n".split(
        " "
    )
)
BASE: dict[str, Any] = {"math": None, "edu": None}
SCHEMA = DOCUMENT.append(pa.field("signals", pa.struct([("words", pa.int32())])))


def pages(count: int) -> list[dict[str, Any]]:
    """Two subjects, prose of every sort and length, some pages twice."""
    draw = random.Random(3)
    made = []
    for number in range(count):
        text = SUBJECTS[number % 2] + " " + " ".join(draw.choices(WORDS, k=draw.choice([5, 50, 200])))
        text = made[-2]["text"] if number > 2 and number % 10 == 0 else text
        language = ["en", "de", None][number % 3]
        made.append({"id": f"p{number}", "text": text, "language": language, "signals": {"words": len(text.split())}})
    return made


def put(place: Workspace, shards: int = 6, count: int = 240) -> list[Shard]:
    found = []
    for number in range(shards):
        key = f"s{number % 2}/{number}"
        rows = [page | {"snapshot": key[:2], "source": "w"} for page in pages(count)[number::shards]]
        with place.create(f"dedup/docs/{key}.parquet") as output, TableWriter(output, SCHEMA) as writer:
            writer.write_rows(rows)
        found.append(Shard(key, File(f"dedup/docs/{key}.parquet", output.sha256, output.size), len(rows)))
    return found


def classified(folder: Path, shards: int = 6, count: int = 240, **config: Any) -> list[dict[str, Any]]:
    place = Workspace(folder)
    done = run_stage(STAGE, ClassifyConfig.model_validate({**BASE, **config}), put(place, shards, count), place)
    return [row for item in done for row in rows(place, item.outputs["docs"].path)]


def expected(
    found: list[dict[str, Any]],
    parts: int,
    group: Callable[[dict[str, Any]], Any],
    weight: Callable[[dict[str, Any]], int],
) -> dict[str, int]:
    """How many of n equal parts of its group's weight lie below each page, by the definition."""
    groups = defaultdict(list)
    for row in found:
        groups[group(row)].append(row)
    return {
        row["id"]: parts
        * sum(weight(other) for other in own if other["quality"] < row["quality"])
        // sum(map(weight, own))
        for own in groups.values()
        for row in own
    }


def size(row: dict[str, Any]) -> int:
    return len(row["text"].encode())


def test_vigintiles_and_percentiles_are_those_of_the_definition_over_all_shards(tmp_path: Path) -> None:
    found = classified(tmp_path, quantiles={"quality": {}})
    assert {row["topic"] for row in found} >= {"food_and_dining", "sports_and_fitness"}
    below = expected(found, 20, lambda row: row["topic"], size)
    assert {row["id"]: row["quality_vigintile"] - 1 for row in found} == below
    assert {row["quality_vigintile"] for row in found} == set(range(1, 21))
    percents = expected(found, 100, lambda row: row["topic"], size)
    assert {row["id"]: row["quality_percentile"] for row in found} == percents
    assert len({row["quality"] for row in found}) < len(found)  # equal scores are among them


@pytest.mark.parametrize(
    ("config", "group", "weight"),
    [
        ({"within": None, "by": "pages"}, lambda row: 0, lambda row: 1),
        ({"within": "language"}, lambda row: row["language"], size),
        (
            {"within": "snapshot", "by": "signals.words"},
            lambda row: row["snapshot"],
            lambda row: row["signals"]["words"],
        ),
    ],
)
def test_pages_are_compared_within_and_counted_by_what_the_recipe_names(
    tmp_path: Path, config: dict[str, Any], group: Callable[[Any], Any], weight: Callable[[Any], int]
) -> None:
    found = classified(tmp_path, quantiles={"quality": {**config, "parts": 10}}, topic=None)
    assert {row["id"]: row["quality_decile"] - 1 for row in found} == expected(found, 10, group, weight)


def test_other_shards_and_other_groups_of_them_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def numbers(name: str, shards: int) -> dict[str, Any]:
        found = classified(tmp_path / name, shards, quantiles={"quality": {}})
        return {row["id"]: (row["quality_percentile"], row["quality_vigintile"]) for row in found}

    one = numbers("one", 1)
    assert numbers("many", 11) == one
    monkeypatch.setattr(quantile_steps, "GROUP_SHARDS", 4)
    assert numbers("groups", 11) == one
    assert len(Workspace(tmp_path / "groups").list("classify/steps/spread3")) == 3


def test_a_page_below_a_vigintile_is_dropped_with_it_as_reason(tmp_path: Path) -> None:
    found = classified(tmp_path / "all", quantiles={"quality": {}})
    config = {"quantiles": {"quality": {}}, "keep": {"quality_vigintile": {"min": 16}}}
    kept = classified(tmp_path / "some", **config)
    best = [row["id"] for row in found if row["quality_vigintile"] >= 16]
    assert [row["id"] for row in kept] == best
    dropped = [row for name in Workspace(tmp_path / "some").list("classify/ledger")
               for row in rows(Workspace(tmp_path / "some"), name)]  # fmt: skip
    parts = {row["id"]: row["quality_vigintile"] for row in found}
    assert {row["id"]: row["value"] for row in dropped} == {name: parts[name] for name in parts if name not in best}
    assert {(row["reason"], row["threshold"]) for row in dropped} == {("quality_vigintile", 16)}


def test_the_columns_say_what_they_mean(tmp_path: Path) -> None:
    classified(tmp_path, quantiles={"quality": {"parts": 4}})
    schema = pq.read_schema(tmp_path / "classify/docs/s0/0.parquet")
    assert schema.names[-2:] == ["quality_percentile", "quality_quartile"]
    about = {key.decode(): value.decode() for key, value in schema.field("quality_quartile").metadata.items()}
    assert "1 (lowest) to 4" in about["meaning"]
    assert (about["of"], about["within"], about["by"], about["parts"]) == ("quality", "topic", "tokens", "4")
    assert json.loads(schema.metadata[b"curate.quantiles"]) == {
        "quality": {"within": "topic", "by": "tokens", "parts": 4}
    }
    assert "curate.quantiles" not in str(pq.read_schema(tmp_path / "dedup/docs/s0/0.parquet").metadata)


def test_topic_and_vigintile_make_the_buckets_of_a_mix(tmp_path: Path) -> None:
    classified(tmp_path, quantiles={"quality": {}})
    table = pq.read_table(tmp_path / "classify/docs/s0/0.parquet")
    by = ["topic", "quality_vigintile"]
    check_columns(table.schema, by, {})
    names = [name for batch in table.to_batches() for name in bucket_names(batch, by, {}).to_pylist()]
    assert names == [f"{row['topic']}/{row['quality_vigintile']}" for row in table.to_pylist()]
    halves = {"quality_vigintile": [11.0]}
    check_columns(table.schema, by, halves)
    names = [name for batch in table.to_batches() for name in bucket_names(batch, by, halves).to_pylist()]
    assert set(names) == {f"{topic}/{half}" for topic in set(table["topic"].to_pylist()) for half in ("<11", ">=11")}


def test_an_empty_crawl_has_empty_columns(tmp_path: Path) -> None:
    assert classified(tmp_path, 1, 0, quantiles={"quality": {}}) == []
    assert pq.read_schema(tmp_path / "classify/docs/s0/0.parquet").field("quality_vigintile").type == pa.int8()


# --- steps: what runs again, and what is left by those that were killed ------------------------------------------------


def run(place: Workspace, shards: list[Shard], config: dict[str, Any], engine: Callable[[], Engine]) -> StageResult:
    recipe = Recipe(RecipeHead(), {"classify": ClassifyConfig.model_validate({**BASE, **config})})
    with open_runner(place, recipe, engine, open_display(as_json=True, stream=io.StringIO())) as runner:
        return runner.run(STAGE, shards)


def test_another_threshold_or_quantile_scores_no_page_again(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    shards = put(place, 3, 30)

    def steps(**config: Any) -> set[str]:
        ran: list[str] = []
        assert not run(place, shards, config, lambda: Noting(ran)).failed
        return set(ran)

    quantiles = {step.name for step in quantile_steps.STEPS}
    assert steps() == {"score", "select"}
    assert steps(keep={"quality": {"min": 0.3}}) == {"select"}
    assert steps(quantiles={"quality": {}}) == {*quantiles, "select"}
    assert steps(quantiles={"quality": {}}, keep={"quality_percentile": {"min": 50}}) == {"select"}
    assert steps(quantiles={"quality": {"parts": 10}}) == {*quantiles, "select"}
    assert steps(quantiles={"quality": {"parts": 10}}) == set()
    assert "score" in steps(quality="math")


def test_killed_within_every_step_it_completes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantile_steps, "GROUP_SHARDS", 2)
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"q": SUBJECTS[0]}) + "\n")
    config = {
        "decontaminate": {"sets": [{"path": str(questions), "fields": ["q"]}], "action": "cut", "least_chars": 20},
        "quantiles": {"quality": {}},
        "keep": {"quality_vigintile": {"min": 4}},
    }
    whole, killed = Workspace(tmp_path / "whole"), Workspace(tmp_path / "killed")
    assert not run(whole, put(whole, 3, 30), config, Inline).failed
    shards, died = put(killed, 3, 30), set[str]()
    while True:
        before = len(died)
        try:
            result = run(killed, shards, config, lambda: Dying(died))
        except KilledError:
            assert len(died) == before + 1
            continue
        break
    assert not result.failed
    assert died == {step.name for step in STAGE.steps}
    folders = ["classify/docs", "classify/ledger", "classify/scores", *(f"classify/steps/{name}" for name in died)]
    found = {
        name: {
            path: digest
            for path, digest in faults.fingerprint(tmp_path / name, folders).items()
            if "/done/" not in path
        }
        for name in ("whole", "killed")
    }
    assert found["killed"] == found["whole"]
    assert result.counts.dropped


def test_pages_of_which_something_is_cut_are_scored_as_they_are_kept(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"q": SUBJECTS[0]}) + "\n")
    sets = [{"path": str(questions), "fields": ["q"]}]
    found = classified(tmp_path / "w", decontaminate={"sets": sets, "action": "cut", "least_chars": 20})
    assert not any(SUBJECTS[0] in row["text"] for row in found)
    assert any(row["contaminated_by"] for row in found)
    texts = pa.array([row["text"] for row in found])
    assert [row["quality"] for row in found] == load("quality").predict(texts).to_pylist()
    place = Workspace(tmp_path / "w")
    sizes = {row["id"]: row["bytes"] for name in place.list("classify/scores") for row in rows(place, name)}
    assert all(sizes[row["id"]] == size(row) for row in found)


def test_decontaminated_within_bounds_and_ranked_at_once_every_page_is_told_of_once(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"q": SUBJECTS[0]}) + "\n")
    sections: dict[str, Any] = {"quantiles": {"quality": {"within": None}}, "keep": {"quality_vigintile": {"min": 8}}}
    evaluated = {"decontaminate": {"sets": [{"path": str(questions), "fields": ["q"]}]}}
    outcomes = {}
    for name, config in (("with", {**sections, **evaluated}), ("without", sections)):
        place = Workspace(tmp_path / name)
        shards = put(place)
        done = run_stage(STAGE, ClassifyConfig.model_validate({**BASE, **config}), shards, place)
        told = outcomes[name] = {}
        for shard, item in zip(shards, done, strict=True):
            docs, ledger = (rows(place, item.outputs[part].path) for part in ("docs", "ledger"))
            assert item.counts["records"] == shard.rows == len(docs) + len(ledger)
            assert item.counts["records"] == item.counts["kept"] + sum(item.counts["dropped"].values())
            told |= {row["id"]: row["quality_vigintile"] for row in docs} | {row["id"]: row["reason"] for row in ledger}
        assert sorted(told) == sorted(page["id"] for page in pages(240))
    asked = {page["id"] for page in pages(240) if SUBJECTS[0] in page["text"]}
    assert {name for name, outcome in outcomes["with"].items() if outcome == "contaminated"} == asked
    for name in set(outcomes["with"]) - asked:  # no page's rank moves because others are evaluation items
        assert outcomes["with"][name] == outcomes["without"][name]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantiles": {"qualty": {}}}, "no score column 'qualty'; did you mean 'quality'?"),
        ({"quantiles": {"topic": {}}}, "no score column 'topic'; did you mean 'topic_score'?"),
        ({"quantiles": {"quality": {"parts": 7}}}, "4, 5, 10 or 20"),
        ({"quantiles": {"edu": {}}, "edu": None}, "quantiles.edu: no classifier fills that column (edu is null)"),
        ({"quantiles": {"quality": {}}, "topic": None}, "quantiles.quality.within: no classifier fills that column"),
        ({"keep": {"quality_vigintile": {"min": 3}}}, "ask for it with quantiles: {quality: {parts: 20}}"),
        ({"keep": {"topic_score_percentile": {"min": 3}}}, "ask for it with quantiles: {topic_score: {}}"),
        (
            {"quantiles": {"quality": {}}, "keep": {"quality_vigintle": {"min": 3}}},
            "no score column 'quality_vigintle'; did you mean 'quality_vigintile'?",
        ),
        ({"quantiles": {"quality": {}}, "keep": {"quality_vigintile": {"min": 21}}}, "would be left: scores lie in 1 to 20"),
        ({"quantiles": {"quality": {}}, "keep": {"quality_percentile": {"min": 0}}}, "min can never drop a page"),
    ],
)  # fmt: skip
def test_quantiles_that_cannot_be_are_refused_before_any_work(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ClassifyConfig.model_validate(config)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"within": "langage"}, r"quantiles\.quality\.within: .* no column 'langage'; did you mean 'language'"),
        ({"within": "offset"}, r"quantiles\.quality\.within: column 'offset' \(int64\) holds no strings"),
        (
            {"by": "signals.word"},
            r"quantiles\.quality\.by: .* no column 'signals\.word'; did you mean 'signals\.words'",
        ),
        ({"by": "url"}, r"quantiles\.quality\.by: column 'url' \(string\) holds no whole numbers"),
    ],
)
def test_columns_that_the_documents_do_not_have_are_refused_before_scoring(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        classified(tmp_path, 1, 3, quantiles={"quality": config})
    assert not Workspace(tmp_path).list("classify/scores")


def test_a_column_of_too_many_values_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.stages.classify.spreading.MOST_GROUPS", 20)
    with pytest.raises(UsageError, match=r"within: column 'id' has more than 20 values"):
        classified(tmp_path, 1, 30, quantiles={"quality": {"within": "id"}})
