"""`curate classifier`: from labelled pages to a model that is judged, applied and distilled, by the command line alone."""

from __future__ import annotations

import gzip
import io
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner, Result
from small_encoder import write_encoder

from curate.classifiers import load, tensor_file
from curate.classifiers.model import fold, site
from curate.pipeline.cli import main
from curate.pipeline.errors import CurateError
from curate.stages.classify.config import ClassifyConfig
from curate.stages.classify.scoring import check

WORDS = {
    "food": "bake oven butter garlic sugar flour cookies dinner salt".split(),
    "sport": "match league striker goal coach team season win".split(),
    "code": "function compiler git class pointer debug python loop".split(),
}
COMMON = "the a of and to in is it for on with as at by this that from are was be".split()


def pages(labels: tuple[str, ...], count: int = 400, seed: int = 1) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    found = []
    for number in range(count):
        topic = chance.choice(labels)
        label = topic if chance.random() < 0.9 else chance.choice(labels)
        words = [chance.choice(WORDS[topic] if chance.random() < 0.15 else COMMON) for _ in range(40)]
        found.append(
            {"id": f"p{number}", "text": " ".join(words), "label": label, "url": f"https://www.site{number % 40}.com/{number}",
             "language": "de" if number % 3 else "en", "grade": sum(word in WORDS["code"] for word in words)}
        )  # fmt: skip
    return found


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def curate(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["classifier", *map(str, arguments)], catch_exceptions=False)


def done(*arguments: Any) -> dict[str, Any]:
    """What a command says with --json, which goes past whatever stands in for standard output."""
    with patch("sys.__stdout__", io.StringIO()) as said:
        result = curate(*arguments, "--json")
    assert result.exit_code == 0, result.output + said.getvalue()
    (line,) = said.getvalue().splitlines()
    return json.loads(line)


def answers(model: Path | str, texts: list[str]) -> Any:
    """What a model says: labels, or scores."""
    found = load(str(model)).predict(pa.array(texts))
    return found[0].to_pylist() if isinstance(found, tuple) else np.array(found)


def refused(*arguments: Any) -> str:
    result = curate(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of three topics, and a model of each kind of answer trained on them."""
    folder = tmp_path_factory.mktemp("classifier")
    data = written(folder / "pages.jsonl", pages(tuple(WORDS)))
    assert (
        curate("train", "linear", "--data", data, "-o", folder / "topic.safetensors", "--license", "CC0").exit_code == 0
    )
    two = written(folder / "two.jsonl", pages(("code", "food"), 300))
    train = ("train", "linear", "--data", two, "-o", folder / "code.safetensors", "--positive", "code")
    assert curate(*train).exit_code == 0
    train = ("train", "linear", "--data", data, "-o", folder / "grade.safetensors", "--label", "grade")
    assert curate(*train, "--target", "regression").exit_code == 0
    return folder


# --- train ------------------------------------------------------------------------------------------------------------


def test_a_model_is_trained_and_described(place: Path) -> None:
    texts = ["bake the cookies in the oven", "debug the python loop"]
    assert answers(place / "topic.safetensors", texts) == ["food", "code"]
    card = (place / "topic.md").read_text()
    for part in (
        "# topic",
        "kind `linear`",
        "3 labels",
        "pages.jsonl",
        "400 rows",
        "CC0",
        "`accuracy`",
        "fold(site) == 4",
    ):
        assert part in card
    facts = json.loads((place / "topic.json").read_text())
    assert facts["sha256"] == load(str(place / "topic.safetensors")).fingerprint
    assert facts["scores"]["texts_kept_out"] == sum(fold(site(row["url"])) == 4 for row in pages(tuple(WORDS)))


@pytest.mark.parametrize("kind", ["linear", "fasttext"])
def test_the_same_data_gives_the_same_bytes(tmp_path: Path, place: Path, kind: str) -> None:
    ending = {"linear": ".safetensors", "fasttext": ".bin"}[kind]
    fewer = ["--set", "bucket=100", "--set", "epoch=2"] if kind == "fasttext" else []
    for name in ("a", "b"):
        done("train", kind, "-d", place / "two.jsonl", "-o", tmp_path / (name + ending), "--name", "same", *fewer)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_pages_of_the_sites_kept_out_do_not_change_the_model(tmp_path: Path) -> None:
    rows = pages(("code", "food"), 200)
    for name in ("a", "b"):
        done("train", "linear", "-d", written(tmp_path / f"{name}.jsonl", rows), "-o", tmp_path / f"{name}.safetensors",
             "--name", "same")  # fmt: skip
        for row in rows:
            if fold(site(row["url"])) == 4:
                row["text"], row["label"] = "bake " * 9, "code"
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_quantised_model_is_as_small_as_asked(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "small.ftz"
    extra = ("--set", "dim=8", "--set", "bucket=5000", "--set", "epoch=2", "--max-mb", "0.05")
    done("train", "fasttext", "-d", place / "pages.jsonl", "-o", path, *extra)
    assert path.stat().st_size <= 50_000
    assert set(load(str(path)).labels) == set(WORDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("liner", "-o", "m.safetensors"), "did you mean 'linear'"),
        (("linear", "-o", "m.bin"), "a linear model is a .safetensors file"),
        (("fasttext", "-o", "m.ftz"), "a quantised model (--max-mb) is .ftz"),
        (("linear", "-o", "m.safetensors", "--set", "ordr=2"), "did you mean 'order'"),
        (("linear", "-o", "m.safetensors", "--set", "order"), "give key=value"),
        (("linear", "-o", "m.safetensors", "--set", "order=many"), "order:"),
        (("linear", "-o", "m.safetensors", "--max-mb", "1"), "--max-mb goes with fasttext"),
        (("linear", "-o", "m.safetensors", "--autotune"), "--autotune goes with fasttext"),
        (("linear", "-o", "m.safetensors", "--positive", "fod"), "did you mean 'food'"),
        (("linear", "-o", "m.safetensors", "--label", "topic"), "no column 'topic'"),
        (("linear", "-o", "m.safetensors", "--target", "regression"), "no labelled text"),
        (("linear", "-o", "nowhere/m.safetensors"), "there is no folder nowhere"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(place: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("train", *arguments, "--data", place / "pages.jsonl")


def test_one_label_alone_cannot_be_learned(tmp_path: Path) -> None:
    data = written(tmp_path / "a.jsonl", [row | {"label": "all"} for row in pages(tuple(WORDS), 60)])
    assert "one label, 'all'" in refused("train", "linear", "-d", data, "-o", tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_is_made_even_where_the_sites_kept_out_cannot_judge_it(tmp_path: Path) -> None:
    rows = [row for row in pages(("code", "food"), 200) if fold(site(row["url"])) != 4]
    data = written(tmp_path / "a.jsonl", rows)
    result = curate("train", "linear", "-d", data, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 0 and "cannot judge it: no page to judge on" in result.stderr
    assert "nothing to judge on was kept out" in (tmp_path / "m.md").read_text()


def test_the_card_tells_every_setting_that_was_used(place: Path) -> None:
    card = (place / "topic.md").read_text()
    assert "`order`: `1`" in card and "`cost`: `0.5`" in card


@pytest.mark.parametrize("ending", [".md", ".json"])
def test_a_card_never_takes_the_place_of_another_file(tmp_path: Path, place: Path, ending: str) -> None:
    (tmp_path / f"notes{ending}").write_text("mine")
    said = refused("train", "linear", "-d", place / "two.jsonl", "-o", tmp_path / "notes.safetensors")
    assert f"notes{ending} is there already" in said
    assert [each.name for each in tmp_path.iterdir()] == [f"notes{ending}"]
    (tmp_path / f"notes{ending}").unlink()
    for _ in range(2):  # a model's own card is written anew with it
        done("train", "linear", "-d", place / "two.jsonl", "-o", tmp_path / "notes.safetensors")


# --- evaluate ---------------------------------------------------------------------------------------------------------


def judged(place: Path, model: str, *more: Any, data: str = "pages.jsonl") -> dict[str, Any]:
    return done("evaluate", place / model, "--data", place / data, "-o", place / "out.html", "--bootstrap", 20, *more)


def unseen(place: Path, data: str = "pages.jsonl") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (place / data).read_text().splitlines()]
    return [row for row in rows if fold(site(row["url"])) == 4]


def value(result: dict[str, Any], name: str) -> float:
    return next(each["value"] for each in result["scores"] if each["name"] == name)


def test_labels_are_judged_on_sites_kept_out(place: Path) -> None:
    result, rows = judged(place, "topic.safetensors"), unseen(place)
    given = answers(place / "topic.safetensors", [row["text"] for row in rows])
    right = np.mean([label == row["label"] for label, row in zip(given, rows, strict=True)])
    assert value(result, "accuracy") == pytest.approx(right)
    assert (result["pages"], result["all_sites"]) == (len(rows), False)
    assert result["confusion"]["columns"] == ["code", "food", "sport"]
    assert sum(map(sum, result["confusion"]["counts"])) == len(rows)
    assert {row["name"] for row in result["by_language"]["rows"]} == {"de", "en"}
    shown = [row["accuracy"] for row in result["by_site"]["rows"]]
    assert shown == sorted(shown)
    page = (place / "out.html").read_text()
    assert "<svg" in page and "Calibration" in page and "<script" not in page


@pytest.mark.parametrize("data", ["pages.jsonl", "two.jsonl"])
def test_thresholds_are_found_by_target(place: Path, data: str) -> None:
    model = "topic.safetensors#code" if data == "pages.jsonl" else "code.safetensors"
    result = judged(place, model, "--precision", 0.9, "--recall", 0.8, "--kept", 0.1, data=data)
    rows = unseen(place, data)
    scores = answers(place / model, [row["text"] for row in rows])
    wanted = np.array([row["label"] == "code" for row in rows])
    for each in result["chosen"]:
        kept = scores >= each["threshold"]
        gives = {row["name"]: row["value"] for row in each["gives"]}
        assert gives["kept"] == pytest.approx(kept.mean())
        assert gives["recall"] == pytest.approx((kept & wanted).sum() / wanted.sum())
        reached = gives[each["goal"]]
        assert reached <= 0.1 if each["goal"] == "kept" else reached >= each["target"]
    assert [each["goal"] for each in result["chosen"]] == ["precision", "recall", "kept"]


def test_a_regression_is_judged_by_distance_and_as_a_filter(place: Path) -> None:
    result, rows = judged(place, "grade.safetensors", "--label", "grade", "--from", 3), unseen(place)
    scores = answers(place / "grade.safetensors", [row["text"] for row in rows]).astype(float)
    assert value(result, "mean_absolute_error") == pytest.approx(np.abs(scores - [row["grade"] for row in rows]).mean())
    (level,) = result["levels"]
    assert level["from"] == 3
    assert level["share"] == pytest.approx(np.mean([row["grade"] >= 3 for row in rows]))
    assert level["kept"] == pytest.approx(np.mean(scores >= 3))


def test_the_intervals_hold_the_value(place: Path) -> None:
    for each in judged(place, "code.safetensors", data="two.jsonl")["scores"]:
        assert each["low"] <= each["value"] <= each["high"] or each["name"] == "calibration_error"


def test_all_sites_are_judged_only_with_a_warning(place: Path) -> None:
    arguments = (
        "evaluate",
        place / "topic.safetensors",
        "-d",
        place / "pages.jsonl",
        "-o",
        place / "all.html",
        "--bootstrap",
        0,
    )
    result = curate(*arguments, "--all-sites")
    assert "400 pages" in result.stdout and "WARNING" in result.stdout
    assert "those that the model was trained on may be among them" in (place / "all.html").read_text()
    assert "WARNING" not in curate(*arguments).stdout


def test_pages_of_no_site_are_judged_with_all_sites_alone(tmp_path: Path, place: Path) -> None:
    rows = [{"text": row["text"], "label": row["label"]} for row in pages(tuple(WORDS))]
    arguments = ("evaluate", place / "topic.safetensors", "-d", written(tmp_path / "a.jsonl", rows))
    assert "--url: no column 'url'" in refused(*arguments)
    found = done(*arguments, "--all-sites", "-o", tmp_path / "out.json")
    assert found["pages"] == 400 and value(found, "accuracy") > 0.8


def test_a_heuristic_is_judged_by_a_label_of_the_data(place: Path) -> None:
    output = place / "prose.json"
    found = done("evaluate", "heuristic_prose", "-d", place / "pages.jsonl", "--positive", "code", "-o", output)
    assert 0 <= value(found, "roc_area") <= 1
    assert json.loads(output.read_text())["pages"] == found["pages"]


@pytest.mark.parametrize(
    ("model", "more", "said"),
    [
        ("topci", (), "no classifier named 'topci'; did you mean 'topic'"),
        ("pages.jsonl", (), "no usable model"),
        ("topic.safetensors", ("--positive", "foot"), "no label 'foot'; did you mean 'food'"),
        ("topic.safetensors", ("--label", "grade"), "the model knows none of the pages' labels"),
        ("topic.safetensors", ("--from", "1"), "--from goes with numbers"),
        ("code.safetensors", ("--label", "language"), "no page has the label 'code'"),
        ("topic.safetensors", ("-o", "page.pdf"), ".html"),
        ("topic.safetensors", ("--label", "nothing"), "no column 'nothing'"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    place: Path, model: str, more: tuple[str, ...], said: str
) -> None:
    name = place / model if "." in model else model
    assert said in refused("evaluate", name, "-d", place / "pages.jsonl", *more)


def test_pages_without_a_site_kept_out_cannot_judge(tmp_path: Path, place: Path) -> None:
    rows = [row for row in pages(tuple(WORDS)) if fold(site(row["url"])) != 4]
    said = refused("evaluate", place / "topic.safetensors", "-d", written(tmp_path / "a.jsonl", rows))
    assert "no page to judge on" in said and "of the other sites" in said


# --- score ------------------------------------------------------------------------------------------------------------

MESSY = [
    '{"id": "a", "text": "bake the cookies", "url": "http://a.com"}',
    "{broken",
    '{"id": "b", "text": null}',
    '{"id": 7, "text": ""}',
    '{"text": "debug the loop \\ud800"}',
]


def unpacked(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    return [json.loads(line) for line in data.decode().splitlines()]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_every_row_gets_a_row_in_every_format(tmp_path: Path, place: Path, ending: str) -> None:
    (tmp_path / "in.jsonl").write_text("\n".join(MESSY))
    model, out = load(str(place / "topic.safetensors")), tmp_path / f"out{ending}"
    facts = done("score", place / "topic.safetensors", tmp_path / "in.jsonl", "-o", out, "--probabilities")
    rows = unpacked(out)
    assert (facts["rows"], facts["scored"], len(rows)) == (5, 4, 5)
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row.get("id") for row in rows] == ["a", None, "b", "7", None]
    assert [row.get("problem") for row in rows] == [None, "a line that is no JSON", "no text", "no text", None]
    labels, scores = model.predict(pa.array(["bake the cookies", "", "", "debug the loop \ufffd"]))
    read = [row for row in rows if row.get("score") is not None]
    assert [row["label"] for row in read] == labels.to_pylist()
    assert [np.float32(row["score"]) for row in read] == [np.float32(score) for score in scores.to_pylist()]
    assert sum(read[0][f"probability_{label}"] for label in model.labels) == pytest.approx(1)


def test_scores_are_printed_where_no_file_is_named(tmp_path: Path, place: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n".join(MESSY))
    result = curate("score", place / "code.safetensors", tmp_path / "in.jsonl")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == 5 and "label" not in rows[0] and 0 <= rows[0]["score"] <= 1
    assert "5 rows, 4 scored" in result.stderr


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path, place: Path) -> None:
    data = written(tmp_path / "in.jsonl", [{"text": "bake"}] * 5_000)
    command = (
        f"{shlex.quote(sys.executable)} -m curate.pipeline.cli classifier score {place / 'topic.safetensors'} {data}"
    )
    found = subprocess.run(f"{command} | head -1", shell=True, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["label"] == "food"
    assert found.stderr == ""


def test_a_score_needs_a_column_of_text(tmp_path: Path, place: Path) -> None:
    data = written(tmp_path / "a.jsonl", [{"content": "x"}])
    assert "--text: no column 'text'" in refused(
        "score", place / "topic.safetensors", data, "-o", tmp_path / "o.parquet"
    )
    assert not (tmp_path / "o.parquet").exists()
    assert "scores are written as" in refused("score", place / "topic.safetensors", data, "-o", tmp_path / "o.csv")
    found = done("score", place / "topic.safetensors", data, "--text", "content", "-o", tmp_path / "o.parquet")
    assert found["scored"] == 1


# --- distil, list, show -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("teacher", "agreement"), [("topic", "same_label"), ("code", "spearman")])
def test_a_student_learns_from_a_teacher_and_the_loss_is_shown(
    tmp_path: Path, place: Path, teacher: str, agreement: str
) -> None:
    path = tmp_path / "student.bin"
    report = done(
        "distil", "--teacher", place / f"{teacher}.safetensors", "--student-kind", "fasttext", "-d", place / "pages.jsonl",
        "--label", "label", "-o", path, "--set", "bucket=1000", "--set", "word_ngrams=1", "--set", "epoch=30",
    )["distilled"]  # fmt: skip
    kept_out = len(unseen(place))
    assert (report["pages"], report["kept_out"], report["trained_on"]) == (400, kept_out, 400 - kept_out)
    assert report["agreement"][agreement] > 0.7
    assert set(report["gold"]["teacher"]) >= set(report["gold"]["student"])
    assert report["speed"]["student"] > 0
    rows = unseen(place)
    if teacher == "topic":
        both = [answers(each, [row["text"] for row in rows])
                for each in (place / "topic.safetensors", path)]  # fmt: skip
        assert report["agreement"]["same_label"] == pytest.approx(np.mean(np.array(both[0]) == np.array(both[1])))
        right = np.mean([label == row["label"] for label, row in zip(both[1], rows, strict=True)])
        assert report["gold"]["student"]["accuracy"] == pytest.approx(right)
    assert "Distilled from" in path.with_suffix(".md").read_text()


def test_a_student_needs_no_labels(tmp_path: Path, place: Path) -> None:
    rows = [{"text": row["text"], "url": row["url"]} for row in pages(tuple(WORDS), 200)]
    data = written(tmp_path / "a.jsonl", rows)
    report = done("distil", "--teacher", place / "topic.safetensors", "--student-kind", "linear", "-d", data,
                  "-o", tmp_path / "s.safetensors")["distilled"]  # fmt: skip
    assert report["gold"] is None and report["agreement"]["same_label"] > 0.8


def test_a_student_of_one_site_is_refused_before_the_teacher_works(tmp_path: Path, place: Path) -> None:
    data = written(tmp_path / "a.jsonl", [row | {"url": "http://one.com"} for row in pages(tuple(WORDS), 50)])
    said = refused("distil", "--teacher", place / "topic.safetensors", "--student-kind", "linear", "-d", data,
                   "-o", tmp_path / "s.safetensors")  # fmt: skip
    assert "give pages of more sites" in said


def test_what_ships_is_listed_and_ones_own_is_shown(place: Path) -> None:
    assert {"topic", "math", "heuristic_prose"} <= {row["source"] for row in done("list")["classifiers"]}
    assert curate("show", "topic").stdout.startswith("# topic")
    assert "pages.jsonl" in curate("show", place / "topic.safetensors").stdout
    (place / "bare.safetensors").write_bytes((place / "topic.safetensors").read_bytes())
    assert "labels: code, food, sport" in curate("show", place / "bare.safetensors").stdout


def test_a_model_on_an_encoder_is_used_where_the_encoder_is_named(tmp_path: Path, place: Path) -> None:
    folder, path = write_encoder(tmp_path / "encoders" / "tiny"), tmp_path / "m.safetensors"
    trained = curate("train", "embedding", "-d", place / "two.jsonl", "-o", path, "--set", f"encoder={folder}",
                     "--set", "max_tokens=16")  # fmt: skip
    assert trained.exit_code == 0
    (after,) = (line for line in trained.stdout.splitlines() if line.startswith("next: "))
    assert after.endswith(f"--encoder {folder}")
    assert curate(*shlex.split(after)[3:], "-o", tmp_path / "e.html").exit_code == 0
    written(tmp_path / "in.jsonl", [{"text": "oven"}])
    assert "needs the encoder 'tiny'" in refused("score", path, tmp_path / "in.jsonl")
    assert curate("score", path, tmp_path / "in.jsonl", "--encoder", folder).exit_code == 0
    assert "leave --encoder out" in refused("score", "topic", tmp_path / "in.jsonl", "--encoder", folder)
    with pytest.raises(CurateError, match="needs the encoder 'tiny'"):
        check(ClassifyConfig(edu=f"{path}#food"))  # said before a run's first stage
    (tmp_path / "tiny").symlink_to(write_encoder(tmp_path / "other" / "tiny", seed=1))
    with pytest.raises(CurateError, match="is not the one that the model was trained with"):
        check(ClassifyConfig(edu=f"{path}#food"))
    (tmp_path / "tiny").unlink()
    (tmp_path / "tiny").symlink_to(folder)
    check(ClassifyConfig(edu=f"{path}#food"))
    path.with_suffix(".md").unlink()
    assert "- encoder: tiny, SHA-256 " in curate("show", path).stdout  # which needs no encoder


def test_nothing_that_a_model_file_says_can_rewrite_the_terminal(tmp_path: Path, place: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((place / "topic.safetensors").read_bytes())
    path.with_suffix(".md").write_text("# a card\n\n\x1b]0;title\x07\x1b[2Jgone\n")
    said = curate("show", path).stdout
    assert "\x1b" not in said and "\x07" not in said
    assert said.startswith("# a card\n\n") and "gone" in said
    model = load(str(place / "topic.safetensors"))
    about = model.meta | {"name": "x\x1b[2J", "labels": ["\x1b[1m", "b", "c"]}
    path.write_bytes(tensor_file.pack(about, model._tensors))
    path.with_suffix(".md").unlink()
    for command in (("show", path), ("evaluate", path, "-d", place / "pages.jsonl", "--positive", "none"),
                    ("evaluate", path, "-d", place / "pages.jsonl", "-o", tmp_path / "e.json")):  # fmt: skip
        assert "\x1b" not in curate(*command).output


def test_the_commands_import_nothing_heavy() -> None:
    heavy = "{'numpy', 'numba', 'pyarrow', 'sklearn', 'yaml'}"
    code = f"import sys, curate.pipeline.commands_classifier; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
