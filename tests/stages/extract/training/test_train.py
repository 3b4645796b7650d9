"""The command that trains the model, on a few small archives laid out as the shared ones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from small_pages import small_page

from curate.pipeline.errors import UsageError
from curate.stages.extract import train
from curate.stages.extract.content import extract_page
from curate.stages.extract.content import model as models
from curate.stages.extract.training import data, fit, metric


def archive(folder: Path, name: str, files: dict[str, bytes]) -> None:
    with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as tar:
        for member, content in files.items():
            info = tarfile.TarInfo(f"{name}/{member}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def put(folder: Path, name: str, numbers: range) -> None:
    """An archive of a set with the small pages of these numbers."""
    rows, files = [], {}
    for number in numbers:
        source, gold = small_page(number)
        heading, *paragraphs = gold.split("\n\n")
        url = f"https://site{number % 10}.org/{number}"
        row = {"id": f"{number:04}", "url": url}
        if name == "pages-2026":
            row |= {"text": gold, "page_type": "article", "with_": [], "without": []}
        elif name == "pages-reader":
            source = source.replace(b"<head>", f'<head><link rel=canonical href="{url}">'.encode())
            row |= {"expected_html": f"<h1>{heading}</h1>" + "".join(f"<p>{each}</p>" for each in paragraphs)}
        else:
            row |= {"with_": [paragraphs[0][:60]], "without": ["Subscribe", "Privacy policy"]}
        rows.append(json.dumps(row))
        files[f"pages/{number:04}.html"] = source
    archive(folder, name, files | {"gold.jsonl": "\n".join(rows).encode()})


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("lightgbm")
    monkeypatch.setattr(fit, "ROUNDS", (10, 6))
    monkeypatch.setattr(
        fit, "PARAMETERS", fit.PARAMETERS | {"min_data_in_leaf": 5, "learning_rate": 0.3, "feature_fraction": 1.0}
    )
    folder = tmp_path / "data"
    folder.mkdir()
    put(folder, "pages-2026", range(0, 25))
    put(folder, "pages-reader", range(30, 45))
    put(folder, "pages-snippets", range(50, 60))
    return folder


def run(archives: Path, out: Path) -> None:
    train.main([
        str(archives), "--cache", str(archives.parent / "cache"), "--out", str(out / "model.safetensors"), "--folds-out",
        str(out / "folds"),
    ])  # fmt: skip


def test_training_writes_a_model_its_card_and_the_models_of_the_folds(
    archives: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    out.mkdir()
    again.mkdir()
    run(archives, out)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        *(f"folds/fold{fold}.safetensors" for fold in range(5)), "folds/folds.json", "model.md", "model.safetensors",
    ]  # fmt: skip

    # Each page's fold is that of its site in every set: what a fold's model is measured on it has not seen.
    folds = json.loads((out / "folds" / "folds.json").read_text())
    assert len(folds) == 50
    assert all(fold == data.fold(f"site{int(key[-4:]) % 10}.org") for key, fold in folds.items())

    model = models.load(out / "model.safetensors")
    assert model.meta["pages"] == "50"
    source, gold = small_page(77)
    assert metric.f1(gold, extract_page(source, model=model).text) > 0.9

    card = (out / "model.md").read_text()
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert "| pages-2026 | 25 | " in printed
    assert "| pages-snippets (snippets) | 10 | " in printed
    assert all(line in card for line in table)
    assert "| pages-2026 | 25 | 25 | Apache-2.0 |" in card
    assert "| pages-snippets | 10 | 0 | Apache-2.0 |" in card

    run(archives, again)
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in names if name != "model.md")


def test_an_archive_that_is_missing_is_named(archives: Path, tmp_path: Path) -> None:
    (archives / "pages-reader.tar.xz").unlink()
    with pytest.raises(UsageError, match=r"no pages-reader\.tar\.xz in "):
        run(archives, tmp_path)


def test_scores_are_those_of_gold_by_set_and_type_and_of_snippets_by_language() -> None:
    model = models.load()
    source, gold = small_page(3)
    known = {"url": None, "language": "en"}
    pages = [
        data.make("pages-2026", "1", source, gold=gold, page_type="article", **known),  # type: ignore[arg-type]
        data.make("pages-reader", "1", source, gold="nothing of the sort at all", **known),  # type: ignore[arg-type]
        data.make("pages-snippets", "1", source, must=[gold[-40:]], must_not=["never written"], **known),  # type: ignore[arg-type]
        data.make("debian-docs", "1", source, gold=gold, **known),  # type: ignore[arg-type]
    ]
    found = train.scores(pages, model)
    assert set(found) == {
        "pages-2026", "pages-2026, article", "pages-reader", "pages-snippets (snippets)", "pages-snippets (snippets), en",
    }  # fmt: skip
    assert found["pages-2026"] == found["pages-2026, article"] == [metric.f1(gold, extract_page(source).text)]
    assert found["pages-reader"] == [0]


def test_the_table_leaves_out_parts_of_few_pages() -> None:
    found = {"b": [0.5, 1.0], "a": [1.0], "a, article": [1.0] * 19, "a, forum": [0.5] * 20}
    assert train.table(found)[2:] == ["| a | 1 | 1.000 |", "| a, forum | 20 | 0.500 |", "| b | 2 | 0.750 |"]
