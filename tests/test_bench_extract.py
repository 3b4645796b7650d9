"""bench/extract.py on small made-up sets: the numbers are those of the definition, each page meets the right model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from curate.pipeline.errors import UsageError
from curate.stages.extract.training import data, metric

BENCH = Path(__file__).parents[1] / "bench"
PROSE = "The {0} of the village keeps its {0} in the old tower, where every visitor may look at it. " * 4


@pytest.fixture(autouse=True)
def bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def page(identity: str, **given: Any) -> data.Page:
    settings: dict[str, Any] = {"url": f"https://{identity}.example/", "language": "en"} | given
    return data.make("pages-2026", identity, settings.pop("html", b"<p>x</p>"), **settings)


def judges() -> ModuleType:
    import judges

    return judges


def extractors() -> ModuleType:
    import extractors

    return extractors


def test_f1_is_the_mean_over_pages_by_type_and_over_all() -> None:
    pages = [page("a", page_type="forum", gold="one two three four five"), page("b", page_type="article", gold="six")]
    pages.append(page("c", page_type="article", gold="seven eight"))
    texts = {
        "good": ["one two three four five", "six", "seven eight"],
        "bad": ["one two three four", "", "seven eight"],
    }
    judged = judges().judge_gold(pages, texts, "good")
    assert {group: (found["pages"], found["f1"]) for group, found in judged.items()} == {
        "all": (3, {"good": 1.0, "bad": pytest.approx((2 / 3 + 0 + 1) / 3, abs=1e-4)}),
        "article": (2, {"good": 1.0, "bad": 0.5}),
        "forum": (1, {"good": 1.0, "bad": pytest.approx(2 / 3, abs=1e-4)}),
    }
    assert judged["article"]["against"]["bad"]["mean"] == 0.5
    assert "good" not in judged["article"]["against"]


def test_snippets_are_judged_by_language_and_small_languages_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges(), "MIN_LANGUAGE_PAGES", 2)
    pages = [
        page(str(n), language=code, must=["yes"], must_not=["no"]) for n, code in enumerate(("de", "de", "fr", "es"))
    ]
    judged = judges().judge_snippets(pages, {"engine": ["yes", "yes no", "", "no"]}, "engine")
    assert {group: found["pages"] for group, found in judged.items()} == {"all": 4, "de": 2, "others": 2}
    assert (judged["de"]["precision"]["engine"], judged["de"]["recall"]["engine"]) == (
        pytest.approx(2 / 3, abs=1e-4),
        1.0,
    )
    assert judged["others"]["f1"]["engine"] == 0.0


def test_kept_code_and_rows_are_shares_of_all_in_the_gold() -> None:
    golds = [metric.Structure(["a\n b", "c"], []), metric.Structure(["d"], [["x", "y"]])]
    judged = judges().judge_structure(golds, {"engine": ["a\n b\nc", "x | y"]})
    assert judged["code"] == {"count": 3, "pages": 2, "engine": pytest.approx(2 / 3, abs=1e-4)}
    assert judged["rows"] == {"count": 1, "pages": 1, "engine": 1.0}


def test_kept_formulas_are_a_share_of_all_in_the_gold() -> None:
    pages = [page("a", gold="Both $x^2$ and $$y$$"), page("b", gold="none"), page("c", gold="$z$")]
    judged = judges().judge_formulas(pages, {"engine": ["$x^2$", "$w$", "$z$"]})
    assert judged == {"count": 3, "pages": 2, "engine": pytest.approx(2 / 3, abs=1e-4)}


def test_engines_take_turns_and_one_that_raises_has_found_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def toy(name: str) -> Any:
        def engine(source: Any, url: str | None) -> str:
            asked.append(name)
            if name == "b":
                raise RecursionError
            return f"{name} {source.text}"

        return engine

    module = extractors()
    monkeypatch.setattr(module, "PEERS", {name: ("numpy", lambda name=name: toy(name)) for name in "abc"})
    pages = [page("one"), page("two"), page("three")]
    runs = module.run(pages, ["a", "b", "c"], None, [0, 0, 0], None)
    assert "".join(asked[6:]) == "abc" + "bca" + "cab"  # two pages warm the engines up
    assert runs.texts == {"a": ["a <p>x</p>"] * 3, "b": [""] * 3, "c": ["c <p>x</p>"] * 3}
    assert runs.errors["b"] == {"RecursionError": 3}
    assert all(len(seconds) == 3 for seconds in runs.seconds.values())


def test_texts_of_peers_come_from_the_cache_where_only_accuracy_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = extractors()
    for said in ("first", "second"):
        monkeypatch.setattr(module, "PEERS", {"peer": ("numpy", lambda said=said: lambda source, url: said)})
        cached = module.run([page("one")], ["peer"], None, [0], tmp_path)
        fresh = module.run([page("one")], ["peer"], None, [0], None)
        assert (cached.texts["peer"], fresh.texts["peer"]) == (["first"], [said])


def test_a_page_is_judged_by_the_model_of_its_fold_and_one_never_trained_on_by_the_shipped_one() -> None:
    module = extractors()
    models = [{"curate": lambda source, url, fold=fold: f"fold {fold}"} for fold in range(5)]
    curate = module.Curate({"curate": lambda source, url: "shipped"}, models)
    assert curate.of("curate", page("a"), 3)(None, None) == "fold 3"
    assert curate.of("curate", page("a", role="measure"), 3)(None, None) == "shipped"
    assert module.Curate(curate.shipped).of("curate", page("a"), 3)(None, None) == "shipped"


def test_folds_are_those_that_the_training_wrote(tmp_path: Path) -> None:
    module = extractors()
    pages = [page("a"), page("b")]
    (tmp_path / "folds.json").write_text(json.dumps({"pages-2026/a": 4}))
    assert module.folds_of(pages, tmp_path) == [4, data.fold(pages[1].site)]
    assert module.folds_of(pages, None) == data.folds_of(pages)


def test_fold_models_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "fold0.npz").touch()
    (tmp_path / "fold0.md").touch()
    assert extractors()._fold_model(tmp_path, 0) == tmp_path / "fold0.npz"
    with pytest.raises(UsageError, match=r"fold1\.\*"):
        extractors()._fold_model(tmp_path, 1)


def test_an_engine_that_is_not_built_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.stages.extract import content

    monkeypatch.delattr(content, "extract_page", raising=False)
    with pytest.raises(UsageError, match="extract_page"):
        extractors().curate_engine(None)


def test_times_are_milliseconds_and_shares_of_the_reference() -> None:
    found = judges().times({"trafilatura": [0.010, 0.030], "other": [0.001, 0.003]})
    assert found["other"] == {
        "mean_ms": 2.0,
        "median_ms": 2.0,
        "p99_ms": pytest.approx(2.98),
        "max_ms": 3.0,
        "of_trafilatura": 0.1,
    }


def test_hostile_pages_are_what_their_names_say() -> None:
    import hostile_pages

    assert hostile_pages.page("100,000 nested div").count("<div>") == 100_000
    assert hostile_pages.page("a table of 200,000 rows").count("<tr>") == 200_000
    sizes = {name: len(hostile_pages.page(name)) for name in hostile_pages.PAGES}
    assert all(250_000 < size < 30_000_000 for size in sizes.values()), sizes
    assert all(sizes[name] > 9_000_000 for name in sizes if "10 MB" in name)


def test_an_engine_meets_a_hostile_page_in_a_process_of_its_own() -> None:
    import hostile_pages

    (found,) = hostile_pages.run_all("resiliparse", [], ["1,000,000 dollar signs"])
    assert 0 < found["cpu_seconds"] < hostile_pages.CPU_SECONDS
    assert found["kB"] >= 2_000 and found["added_mb"] >= 0 and found["characters"] > 0


def test_an_engine_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit holds for C code too: resiliparse, given one CPU second for the page that takes it longest."""
    program = (
        "import hostile_pages; hostile_pages.CPU_SECONDS = 1\n"
        "def endless(source, url):\n    while len(source.utf8) > 1000: pass\n    return ''\n"
        "hostile_pages.run_one(endless, '1,000,000 times </p>')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=BENCH, capture_output=True, timeout=60, check=False)
    assert done.returncode in (-24, -9)


def archive(folder: Path, name: str, rows: list[dict[str, Any]], pages: dict[str, str]) -> None:
    with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as tar:
        files = {f"{name}/gold.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}
        files |= {f"{name}/pages/{identity}.html": html for identity, html in pages.items()}
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))


def test_the_command_measures_an_archive_and_writes_json(tmp_path: Path) -> None:
    rows, pages = [], {}
    for at, word in enumerate(("clock", "painting", "river", "bell", "wheel", "lantern")):
        text = PROSE.format(word)
        url = f"https://{word}.example/{at}"
        kind = "article" if at % 2 else "product"
        rows.append(
            {"id": f"{at}", "url": url, "page_type": kind, "text": text, "with_": [], "without": [], "title": ""}
        )
        menu = "".join(f"<li><a href='/{n}'>Menu entry {n}</a></li>" for n in range(20))
        pages[f"{at}"] = f"<html><body><ul>{menu}</ul><article><h1>{word}</h1><p>{text}</p></article></body></html>"
    archive(tmp_path, "pages-2026", rows, pages)
    out = tmp_path / "results" / "extract.json"
    command = [
        sys.executable,
        str(BENCH / "extract.py"),
        str(tmp_path),
        "--sets",
        "pages-2026",
        "--no-worst",
        "--limit",
        "4",
    ]
    options = ["--engines", "trafilatura,resiliparse", "--cache", str(tmp_path / "cache"), "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "trafilatura" in done.stdout and "product" in done.stdout
    result = json.loads(out.read_text("utf-8"))
    assert {"machine", "python", "versions", "date", "commit"} <= result.keys()
    (found,) = result["sets"].values()
    assert found["pages"] == found["gold"]["all"]["pages"] == 4
    assert found["gold"]["all"]["f1"]["resiliparse"] > 0.9
    assert found["time"]["trafilatura"]["of_trafilatura"] == 1.0 and found["time"]["resiliparse"]["mean_ms"] > 0
    assert found["errors"] == {}


def test_an_archive_that_is_missing_is_said_in_a_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCH / "extract.py"),
        str(tmp_path),
        "--engines",
        "trafilatura",
        "--cache",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == f"bench/extract.py: no pages-2026.tar.xz in {tmp_path}"
