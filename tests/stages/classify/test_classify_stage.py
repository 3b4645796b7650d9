"""The stage classify, end to end on synthetic documents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curate.classifiers import list_models, load
from curate.classifiers.kinds import fit
from curate.classifiers.model import Examples
from curate.pipeline.documents import DOCUMENT, TableWriter, read_schema
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.recipe import load_recipe
from curate.pipeline.stage import Done, File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.classify import STAGE, ClassifyConfig
from support import rows, run_stage

TEXTS = [
    "Preheat the oven. Mix the flour, butter and sugar, then bake the cookies for ten minutes and serve with chopped garlic.",
    "Suppose every bounded linear operator is compact. By the theorem the sequence converges, so the map is continuous.",
    "The striker scored twice as the team won the league match, and the coach praised his players.",
    "Home | Login | Cart",
    "",
    None,
    "\\" * 10_000 + "$" * 10_000,
    "word " * 200_000,
]
SCHEMA = DOCUMENT.append(pa.field("duplicates", pa.int32())).with_metadata({"made by": "a test"})
DOCS, LEDGER = "classify/docs/crawl/a.parquet", "classify/ledger/crawl/a.parquet"


def shard(workspace: Workspace, texts: Iterable[str | None] = TEXTS, schema: pa.Schema = SCHEMA) -> Shard:
    name = "dedup/docs/crawl/a.parquet"
    documents = [
        {"id": f"page-{row}", "url": f"http://example.org/{row}", "snapshot": "crawl", "source": "a.warc.gz", "offset": row,
         "text": text, "duplicates": row}
        for row, text in enumerate(texts)
    ]  # fmt: skip
    with workspace.create(name) as output, TableWriter(output, schema) as writer:
        writer.write_rows(documents)
    return Shard("crawl/a", File(name, output.sha256, output.size), len(documents))


def run(folder: Path, texts: Iterable[str | None] = TEXTS, **config: Any) -> tuple[Workspace, Done]:
    workspace = Workspace(folder)
    (done,) = run_stage(STAGE, ClassifyConfig.model_validate(config), [shard(workspace, texts)], workspace)
    return workspace, done


def field(workspace: Workspace, name: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = pq.read_schema(workspace.path(DOCS)).field(name).metadata
    return found


def test_every_document_goes_on_with_all_columns_filled(tmp_path: Path) -> None:
    workspace, done = run(tmp_path)
    found = rows(workspace, DOCS)
    assert done.counts["records"] == done.counts["kept"] == len(TEXTS)
    assert rows(workspace, LEDGER) == []
    assert [row["text"] for row in found] == TEXTS
    assert [row["duplicates"] for row in found] == list(range(len(TEXTS)))
    for row in found:
        assert 0 <= row["quality"] <= 1
        assert 0 <= row["math"] <= 1
        assert 0 <= row["edu"] <= 5
        assert 0 < row["topic_score"] <= 1
        assert isinstance(row["topic"], str)
    assert (found[0]["topic"], found[2]["topic"]) == ("food_and_dining", "sports_and_fitness")
    assert found[1]["math"] > 0.8 > 0.2 > found[0]["math"]


def test_the_columns_are_what_the_classifiers_give_alone(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path)
    table = pq.read_table(workspace.path(DOCS))
    texts = pa.array(TEXTS, pa.string())
    labels, scores = load("topic").predict(texts)
    assert table["topic"].combine_chunks().equals(labels)
    assert table["topic_score"].combine_chunks().equals(scores)
    for name in ("quality", "math", "edu"):
        assert table[name].combine_chunks().equals(load(name).predict(texts))


def test_types_are_float32_and_string_and_other_columns_pass_unchanged(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path)
    schema = pq.read_schema(workspace.path(DOCS))
    assert schema.names == [*SCHEMA.names, "quality", "math", "edu", "topic", "topic_score"]
    with workspace.open("dedup/docs/crawl/a.parquet") as stream:
        before = read_schema(stream)
    assert [schema.field(name).type for name in schema.names[:-5]] == before.types
    assert {name: str(schema.field(name).type) for name in schema.names[-5:]} == {
        "quality": "float", "math": "float", "edu": "float", "topic": "string", "topic_score": "float",
    }  # fmt: skip


def test_a_column_says_which_model_filled_it_and_a_heuristic_says_that_it_is_one(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path, edu="heuristic_lesson")
    assert field(workspace, "edu")[b"classifier"] == b"heuristic_lesson"
    assert field(workspace, "edu")[b"kind"] == b"heuristic"
    assert b"no model" in field(workspace, "edu")[b"meaning"]
    assert field(workspace, "quality")[b"classifier"] == b"quality"
    assert field(workspace, "quality")[b"kind"] == field(workspace, "math")[b"kind"] == b"linear"
    assert field(workspace, "topic_score")[b"fingerprint"].decode() == load("topic").fingerprint
    metadata = pq.read_schema(workspace.path(DOCS)).metadata
    about = json.loads(metadata[b"curate.classifiers"])
    assert about["math"] == {
        "classifier": "math",
        "kind": "linear",
        "version": "1",
        "fingerprint": load("math").fingerprint,
    }
    assert metadata[b"made by"] == b"a test"


def test_a_column_without_a_classifier_is_null_and_says_so(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path, edu=None, topic=None)
    assert {row["edu"] for row in rows(workspace, DOCS)} == {None}
    assert {(row["topic"], row["topic_score"]) for row in rows(workspace, DOCS)} == {(None, None)}
    assert field(workspace, "edu")[b"classifier"] == b"none"
    assert json.loads(pq.read_schema(workspace.path(DOCS)).metadata[b"curate.classifiers"])["edu"] is None


def test_a_page_outside_the_bounds_is_dropped_with_value_and_threshold(tmp_path: Path) -> None:
    everything = {row["id"]: row for row in rows(run(tmp_path / "all")[0], DOCS)}
    workspace, done = run(tmp_path / "some", keep={"math": {"max": 0.5}, "quality": {"min": 0.4}})
    kept, dropped = rows(workspace, DOCS), rows(workspace, LEDGER)
    assert [row["id"] for row in kept] == [
        name for name, row in everything.items() if row["math"] <= 0.5 and row["quality"] >= 0.4
    ]
    assert {row["id"] for row in kept} | {row["id"] for row in dropped} == set(everything)
    proof = next(row for row in dropped if row["id"] == "page-1")
    assert (proof["stage"], proof["outcome"], proof["reason"], proof["threshold"]) == (
        "classify",
        "dropped",
        "math",
        0.5,
    )
    assert proof["value"] == everything["page-1"]["math"]
    menu = next(row for row in dropped if row["id"] == "page-3")
    assert (menu["url"], menu["source"], menu["offset"]) == ("http://example.org/3", "a.warc.gz", 3)
    assert menu["failed"] == [{"rule": "quality", "value": menu["value"], "bound": "min", "threshold": 0.4}]
    assert done.counts["dropped"] == {
        reason: sum(row["reason"] == reason for row in dropped) for reason in ("math", "quality")
    }


def test_a_page_that_fails_two_bounds_names_both(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path, TEXTS[3:4], keep={"quality": {"min": 0.9}, "edu": {"min": 3}})
    (row,) = rows(workspace, LEDGER)
    assert [failed["rule"] for failed in row["failed"]] == ["edu", "quality"]
    assert row["reason"] == "edu"


def test_less_is_asked_of_pages_with_latex(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    name = "dedup/docs/crawl/a.parquet"
    scores = dict(zip(TEXTS[:4], load("math").predict(pa.array(TEXTS[:4])).to_pylist(), strict=True))
    (lowest, least), (middle, low), *_, (_, high) = sorted(scores.items(), key=lambda item: item[1])
    assert least < low < high
    pages = [(middle, True), (middle, False), (middle, None), (lowest, True)]
    with workspace.create(name) as output, TableWriter(output, DOCUMENT) as writer:
        writer.write_rows(
            [{"id": str(row), "text": text, "has_math": latex} for row, (text, latex) in enumerate(pages)]
        )
    config = ClassifyConfig.model_validate({"keep": {"math": {"min": (low + high) / 2, "min_with_latex": low}}})
    run_stage(STAGE, config, [Shard("crawl/a", File(name, output.sha256, output.size), len(pages))], workspace)
    assert [page["id"] for page in rows(workspace, DOCS)] == ["0"]
    found = [(row["id"], row["threshold"]) for row in rows(workspace, LEDGER)]
    assert found == [("1", (low + high) / 2), ("2", (low + high) / 2), ("3", low)]


def test_a_page_on_the_bound_stays(tmp_path: Path) -> None:
    stored = rows(run(tmp_path / "all", TEXTS[:1])[0], DOCS)[0]["math"]
    short = float(np.format_float_positional(np.float32(stored), unique=True))
    for bound in ({"min": short}, {"max": short}, {"min": stored, "max": stored}):
        assert run(tmp_path / "one", TEXTS[:1], keep={"math": bound})[1].counts["kept"] == 1


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    many = [f"{text} {number}" for number in range(400) for text in TEXTS[:4]]
    first, again = (run(tmp_path / name, many, keep={"quality": {"min": 0.4}}) for name in ("first", "again"))
    assert first[1].outputs == again[1].outputs
    assert len(rows(first[0], DOCS)) + len(rows(first[0], LEDGER)) == len(many)


def test_an_empty_shard_and_a_second_run_over_classified_documents_work(tmp_path: Path) -> None:
    workspace, done = run(tmp_path, [])
    assert done.counts["records"] == 0
    assert pq.read_schema(workspace.path(DOCS)).field("topic").type == pa.string()
    scored = SCHEMA.append(pa.field("math", pa.float64())).append(pa.field("topic", pa.int32()))
    run_stage(STAGE, ClassifyConfig(), [shard(workspace, TEXTS, scored)], workspace)
    assert pq.read_schema(workspace.path(DOCS)).names.count("math") == 1
    assert rows(workspace, DOCS)[0]["topic"] == "food_and_dining"


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [("good prose of reference " if row % 2 else "bad spam casino bonus ") * 3 + str(row) for row in range(60)]
    labels = ["good" if row % 2 else "bad" for row in range(60)]
    sites = [f"{row % 20}.org" for row in range(60)]
    path = tmp_path_factory.mktemp("own") / "mine.safetensors"
    fit("linear", Examples(texts, labels, sites), name="mine", version="7").save(path)
    return path


def test_a_model_of_ones_own_fills_a_score_by_one_of_its_labels(tmp_path: Path, own_model: Path) -> None:
    workspace, _ = run(tmp_path, ["good reference", "casino spam"], quality=f"{own_model}#good")
    good, bad = (row["quality"] for row in rows(workspace, DOCS))
    assert good > 0.5 > bad
    about = field(workspace, "quality")
    assert (about[b"classifier"], about[b"version"], about[b"kind"]) == (b"mine#good", b"7", b"linear")
    assert b"no model" not in about[b"meaning"]


def test_labels_cannot_fill_a_score_nor_a_score_a_label(tmp_path: Path, own_model: Path) -> None:
    with pytest.raises(ValidationError, match="topic gives labels, but edu is a score"):
        ClassifyConfig(edu="topic")
    with pytest.raises(ValidationError, match="math gives a score, but topic is a label"):
        ClassifyConfig(topic="math")
    with pytest.raises(CurateError, match=r"classify\.quality: .*mine\.safetensors gives labels"):
        run(tmp_path, quality=str(own_model))


def test_a_damaged_model_stops_the_task_with_one_clear_line(tmp_path: Path, own_model: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(own_model.read_bytes()[:-100])
    with pytest.raises(CurateError, match=r"cut\.safetensors is no usable model"):
        run(tmp_path, topic=str(tmp_path / "cut.safetensors"))


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("classify: {topic: topics}", "classify.topic: no classifier named 'topics'; did you mean 'topic'?"),
        ("classify: {keep: {edo: {min: 3}}}", "no score column 'edo'; did you mean 'edu'?"),
        ("classify: {keep: {edu: {mim: 3}}}", "unknown key; did you mean 'min'?"),
        ("classify: {keep: {edu: {min: high}}}", "keep.edu.min"),
        ("classify: {keep: {edu: {}}}", "give min, max or both"),
        ("classify: {keep: {edu: {min: .nan}}}", "give min, max or both"),
        ("classify: {keep: {edu: {min: 3, max: 2}}}", "no page would be left"),
        ("classify: {keep: {edu: {min: 9}}}", "keep.edu: no page would be left: scores lie in 0 to 5"),
        ("classify: {keep: {edu: {max: -1}}}", "keep.edu: no page would be left"),
        ("classify: {keep: {math: {min: 2}}}", "keep.math: no page would be left: scores lie in 0 to 1"),
        (
            "classify: {quality: heuristic_lesson, keep: {quality: {min: 6}}}",
            "0 to 5 (quality is filled by heuristic_lesson)",
        ),
        ("classify: {edu: 'topic#health', keep: {edu: {min: 3}}}", "no page would be left: scores lie in 0 to 1"),
        ("classify: {keep: {topic_score: {min: 1.5}}}", "keep.topic_score: no page would be left"),
        ("classify: {keep: {math: {min: 0}}}", "keep.math: min can never drop a page"),
        ("classify: {keep: {edu: {min: 1, max: 5}}}", "keep.edu: max can never drop a page"),
        ("classify: {edu: null, keep: {edu: {min: 3}}}", "no classifier fills that column"),
        ("classify: {quality: /nowhere/model.bin}", "no model file /nowhere/model.bin"),
        (
            "classify: {quantiles: {quality: {part: 10}}}",
            "classify.quantiles.quality.part: unknown key; did you mean 'parts'?",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_before_any_work(tmp_path: Path, yaml: str, message: str) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml)
    with pytest.raises(UsageError) as caught:
        load_recipe(str(tmp_path / "recipe.yaml"), {"classify": ClassifyConfig})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "keep", [{"edu": {"min": 5}}, {"math": {"min": 1}}, {"math": {"max": 0}}, {"edu": {"min": 1.5}}]
)
def test_a_bound_that_some_score_can_meet_is_accepted(keep: dict[str, Any]) -> None:
    assert set(ClassifyConfig(keep=keep).keep) == set(keep)


def test_the_shipped_classifiers_stay_within_the_range_that_bounds_are_checked_against() -> None:
    for reference in list_models():
        answer = load(reference.source).predict(pa.array(TEXTS))
        scores = np.asarray(answer[1] if isinstance(answer, tuple) else answer)
        assert (reference.scale[0] <= scores).all() and (scores <= reference.scale[1]).all(), reference.source


def test_another_model_under_the_same_path_is_another_output(tmp_path: Path, own_model: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(own_model.read_bytes())
    config = ClassifyConfig(quality=f"{path}#good")
    before = config.fingerprint()
    assert before == ClassifyConfig(quality=f"{path}#good").fingerprint()
    path.write_bytes(own_model.read_bytes() + b"\0")
    assert config.fingerprint() != before
    assert ClassifyConfig(keep={"edu": {"min": 1}}).fingerprint() != ClassifyConfig().fingerprint()  # type: ignore[dict-item]
