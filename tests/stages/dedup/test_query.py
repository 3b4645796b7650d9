"""What `curate dedup query` says of texts, against a run that this test makes; it writes nothing."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner
from dedup_runs import run_dedup

from curate.pipeline import commands_dedup
from curate.pipeline.commands_dedup import dedup
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.query import near_copies
from support import rows

Page = dict[str, Any]


def text(seed: int, changes: int = 0) -> str:
    """A text of 120 words; with each change one word in its place is another."""
    chosen = random.Random(seed)
    words = ["".join(chosen.choices("abcdefghijklmnop", k=6)) for _ in range(120)]
    for change in range(changes):
        words[7 * change] = f"changed{'x' * change}"
    return " ".join(words)


def page(id: str, text: str | None, day: int | None = 1, **more: Any) -> Page:
    date = None if day is None else datetime.datetime(2024, 1, day, tzinfo=datetime.UTC)
    made = {"id": id, "url": f"https://a.example/{id}", "text": text, "date": date, "snapshot": "s", "source": "w"}
    return made | {"offset": int.from_bytes(id.encode()) % 2**40} | more


def put(place: Workspace, shards: Mapping[str, Sequence[Page]], **config: Any) -> DedupConfig:
    """A finished run of dedup on these pages."""
    section = DedupConfig(**config)
    run_dedup(place, shards, section)
    return section


SHARDS = {
    "s/a": [page("first", text(1), 1), page("alone", text(3), 1), page("empty", "", 1), page("short", "one word", 2)],
    "s/b": [page("near", text(1, 1), 2), page("copy", text(1).upper() + "!", 3), page("nobody", None, 1)],
    "s/c": [page("far", text(1, 4), 4), *(page(f"other{n}", text(100 + n), n + 1) for n in range(8))],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    found = Workspace(tmp_path_factory.mktemp("query") / "w")
    put(found, SHARDS)
    return found


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(one: str, other: str) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def test_a_text_finds_its_copies_the_most_similar_first_whether_they_stayed_or_went(place: Workspace) -> None:
    (answer,) = near_copies(place, DedupConfig(), [("mine", text(1))])
    assert answer.id == "mine" and answer.found == len(answer.matches)
    assert [match.id for match in answer.matches][:3] == ["first", "copy", "near"]
    assert [(match.exact, match.kept, match.reason, match.kept_id) for match in answer.matches[:3]] == [
        (True, True, None, None),
        (True, False, "exact_duplicate", "first"),
        (False, False, "near_duplicate", "first"),
    ]
    assert [match.url for match in answer.matches[:2]] == ["https://a.example/first", "https://a.example/copy"]
    assert answer.matches[0].similarity == 1
    assert answer.matches[2].similarity == pytest.approx(jaccard(text(1), text(1, 1)), abs=0.07)


def test_a_text_that_is_in_no_page_finds_nothing(place: Workspace) -> None:
    (answer,) = near_copies(place, DedupConfig(), [(None, text(999))])
    assert (answer.found, answer.matches) == (0, [])


def test_texts_without_words_find_nothing_not_even_pages_without_words(place: Workspace) -> None:
    assert [answer.found for answer in near_copies(place, DedupConfig(), [(None, ""), (None, "?!")])] == [0, 0]


def test_a_text_of_fewer_words_than_a_shingle_finds_its_equal(place: Workspace) -> None:
    (answer,) = near_copies(place, DedupConfig(), [(None, "One WORD!")])
    assert [match.id for match in answer.matches] == ["short"]


def test_every_text_has_its_own_answer_in_its_place(place: Workspace) -> None:
    asked = [(str(n), text(100 + n)) for n in (5, 0, 999, 5, 3)]
    answers = near_copies(place, DedupConfig(), asked)
    assert [answer.number for answer in answers] == [0, 1, 2, 3, 4]
    assert [[match.id for match in answer.matches] for answer in answers] == [
        ["other5"], ["other0"], [], ["other5"], ["other3"]
    ]  # fmt: skip


def test_of_many_pages_alike_the_first_by_date_are_named_and_all_are_counted(tmp_path: Path) -> None:
    pages = [page(f"{n:03d}", text(1), None if n % 10 == 0 else n % 28 + 1) for n in range(100)]
    random.Random(1).shuffle(pages)
    config = put(Workspace(tmp_path), {f"s/{n}": pages[n::3] for n in range(3)})
    (answer,) = near_copies(Workspace(tmp_path), config, [(None, text(1))], top=5)
    dated = sorted((row["date"], row["id"]) for row in pages if row["date"])
    assert answer.found == 100
    assert [match.id for match in answer.matches] == [id for _, id in dated[:5]]


def test_pages_below_the_similarity_asked_for_are_not_named(place: Workspace) -> None:
    (answer,) = near_copies(place, DedupConfig(), [(None, text(1))], least=0.995)
    assert {match.id for match in answer.matches} == {"first", "copy"}


def test_the_runs_own_parameters_are_used(tmp_path: Path) -> None:
    config = put(Workspace(tmp_path), {"s/a": SHARDS["s/b"]}, minhash={"bands": 5, "rows": 3, "ngram": 2, "seed": 7})
    (answer,) = near_copies(Workspace(tmp_path), config, [(None, text(1, 1))])
    assert [match.id for match in answer.matches if match.exact] == ["near"]
    assert [match.id for match in answer.matches if not match.exact] == ["copy"]


def test_without_minhash_equal_texts_are_found(tmp_path: Path) -> None:
    config = put(Workspace(tmp_path), {"s/a": SHARDS["s/b"]}, minhash={"enabled": False})
    (answer,) = near_copies(Workspace(tmp_path), config, [(None, text(1))])
    assert [match.id for match in answer.matches] == ["copy"]


@pytest.mark.parametrize("change", [{"bands": 9, "rows": 13}, {"seed": 2}, {"ngram": 3}, {"bands": 28, "rows": 4}])
def test_a_recipe_that_has_changed_since_is_refused(place: Workspace, change: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="has changed since dedup ran"):
        near_copies(place, DedupConfig.model_validate({"minhash": change}), [(None, "x")])


def test_a_changed_keep_rule_is_not_refused(place: Workspace) -> None:
    (answer,) = near_copies(place, DedupConfig(keep="longest"), [(None, text(3))])
    assert [match.id for match in answer.matches] == ["alone"]


def test_pages_without_an_id_are_found(tmp_path: Path) -> None:
    config = put(Workspace(tmp_path), {"s/a": [page("x", text(1), n + 1, offset=n) | {"id": None} for n in range(3)]})
    (answer,) = near_copies(Workspace(tmp_path), config, [(None, text(1))])
    assert [(match.id, match.kept) for match in answer.matches] == [(None, True), (None, False), (None, False)]


def test_a_workspace_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dedup has not run"):
        near_copies(Workspace(tmp_path), DedupConfig(), [(None, "x")])


def test_signatures_that_are_gone_are_an_error_not_an_empty_answer(tmp_path: Path) -> None:
    config = put(Workspace(tmp_path), SHARDS)
    (tmp_path / "dedup/steps/signatures/s/b.parquet").unlink()
    with pytest.raises(CurateError, match="signatures of 1 of 3 shards are gone"):
        near_copies(Workspace(tmp_path), config, [(None, text(1))])


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def ask(place: Workspace, file: Path, *options: str) -> Any:
    done = CliRunner().invoke(dedup, ["query", str(file), "--workspace", place.url, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "txt"])
def test_the_command_reads_each_kind_of_file_and_writes_nothing(place: Workspace, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"asked.{kind}"
    if kind == "jsonl":
        file.write_text(json.dumps({"id": "mine", "text": text(1)}) + "\n{broken\n" + json.dumps({"text": text(999)}))
    elif kind == "parquet":
        pq.write_table(pa.table({"text": [text(1), text(999)], "id": ["mine", "b"]}), file)
    else:
        file.write_text(text(1))
    before = {entry: entry.stat().st_mtime_ns for entry in Path(place.root).rglob("*")}
    said = ask(place, file)
    assert {entry: entry.stat().st_mtime_ns for entry in Path(place.root).rglob("*")} == before
    assert "exact_duplicate of first" in said and "https://a.example/near" in said
    assert ("nothing alike" in said) == (kind != "txt")
    assert ("skipped: record 1: bad_json" in said) == (kind == "jsonl")


REFUSED = {
    "noise": (random.Random(1).randbytes(3000), "binary, or not UTF-8"),
    "wide.txt": ("wide".encode("utf-16"), "binary, or not UTF-8"),
    "short.gz": (gzip.compress(b"some text" * 100)[:-20], "cannot be unpacked"),
    "crawl.warc": (b"WARC/1.0\r\n\r\n", "is warc: give JSONL"),
    "list.json": (b'[{"text": "a"}]', "give a JSON object a line"),
    "pretty.json": (b'{\n "text": "a"\n}\n', "holds no text: record 0: bad_json"),
    "named.jsonl": (b'{"body": "a"}\n', "no column 'text'"),
    "nothing.txt": (b"", "holds no text"),
    "blank.jsonl": (b"\n \n", "holds no text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_holds_no_text_is_refused_in_one_line_that_says_why(
    place: Workspace, tmp_path: Path, name: str
) -> None:
    content, why = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    done = CliRunner().invoke(dedup, ["query", str(tmp_path / name), "--workspace", place.url])
    assert done.exit_code == 2
    assert why in done.output and name in done.output and done.output.count("\n") == 1


@pytest.mark.parametrize("packed", ["jsonl.gz", "jsonl.zst", "txt.gz", "txt.zst"])
def test_packed_files_are_read_as_they_are(place: Workspace, tmp_path: Path, packed: str) -> None:
    content = (json.dumps({"text": text(1)}) if packed.startswith("jsonl") else text(1)).encode()
    (tmp_path / f"a.{packed}").write_bytes(gzip.compress(content) if packed.endswith("gz") else zstd(content))
    assert "near_duplicate of first" in ask(place, tmp_path / f"a.{packed}")


def test_standard_input_is_read_like_a_file(place: Workspace) -> None:
    for content in (text(1), json.dumps({"text": text(1)})):
        done = CliRunner().invoke(dedup, ["query", "-", "--workspace", place.url], input=content)
        assert "near_duplicate of first" in done.output


def test_a_pipe_may_hold_parquet_which_begins_at_its_end(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": [text(1)]}), buffer)
    end, start = os.pipe()
    os.write(start, buffer.getvalue())
    os.close(start)
    with os.fdopen(end) as pipe:
        monkeypatch.setattr(sys, "stdin", pipe)
        dedup.main(["query", "-", "--workspace", place.url], standalone_mode=False)
    assert "near_duplicate of first" in capsys.readouterr().out


def test_the_column_of_the_text_may_be_named(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"body": text(1)}))
    assert "near_duplicate of first" in ask(place, tmp_path / "a.jsonl", "--column", "body")


def test_a_text_that_begins_like_json_is_one_text_where_its_name_says_so(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{" + text(1) + "}")
    assert "exact_duplicate of first" in ask(place, tmp_path / "a.txt")


def test_what_comes_from_pages_and_files_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[31m\x07\u202e\x9b2J"
    config = {"s/a": [page("kept" + hostile, text(1)), page("b" + hostile, text(1), 2, url=f"https://x/{hostile}\r\n")]}
    put(Workspace(tmp_path / "w"), config)
    asked = [{"id": "mine" + hostile, "text": hostile + text(1)}, {"text": hostile}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, asked)) + f'\n{{"{hostile}')
    said = ask(Workspace(tmp_path / "w"), tmp_path / "a.jsonl")
    assert "kept" in said and all(line.isprintable() for line in said.splitlines())
    assert len(said.splitlines()) == len(said.split("\n")) - 1


def test_records_that_cannot_be_read_are_counted_and_the_first_are_named(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text(1)}) + "\n{broken" * 100)
    lines = ask(place, tmp_path / "a.jsonl").splitlines()
    named = [line for line in lines if line.startswith("skipped: ")]
    assert len(named) == 21 and named[-1] == "skipped: 80 more"


def test_a_line_without_end_is_skipped_and_what_follows_is_asked(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_dedup, "LONGEST", 1 << 10)
    lines = ['{"text": "' + "x" * (2 << 20), json.dumps({"text": text(1)[:900]}), json.dumps({"text": "long " * 1000})]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    said = ask(place, tmp_path / "a.jsonl")
    assert "skipped: record 0: too_large" in said
    assert "note: text 1: its first " in said


def test_a_text_without_words_is_said_to_have_none(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": " ?! "}\n{"text": "other words"}')
    lines = ask(place, tmp_path / "a.jsonl").splitlines()
    assert "no words: never a copy" in lines[0] and "nothing alike" in lines[1]


def test_planted_near_copies_are_named_with_their_similarity(place: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text(1))
    row = next(line.split() for line in ask(place, tmp_path / "a.txt").splitlines() if "a.example/near" in line)
    assert float(row[0]) == pytest.approx(jaccard(text(1), text(1, 1)), abs=0.07)
    assert row[1:] == ["near_duplicate", "of", "first", "near", "2024-01-02", "s", "https://a.example/near"]


def test_a_run_that_has_not_come_to_its_end_is_refused(tmp_path: Path) -> None:
    put(Workspace(tmp_path), {"s/a": [page("a", text(1))]})
    manifest = tmp_path / "dedup/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"finished": False}))
    (tmp_path / "a.txt").write_text(text(1))
    done = CliRunner().invoke(dedup, ["query", str(tmp_path / "a.txt"), "--workspace", str(tmp_path)])
    assert done.exit_code == 2 and "did not come to its end" in done.output


def test_that_the_filter_has_run_again_since_is_said(tmp_path: Path) -> None:
    put(Workspace(tmp_path), {"s/a": [page("a", text(1))]})
    entry = json.loads((tmp_path / "dedup/manifest.json").read_text())["shards"][0]
    entry["docs"] = {"sha256": "another"}
    manifest = {"shards": [entry], "failed": [], "counts": entry["counts"]}
    (tmp_path / "filter/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "a.txt").write_text(text(1))
    assert "has run again since" in ask(Workspace(tmp_path), tmp_path / "a.txt")


@pytest.mark.parametrize(
    "config", [{"scope": "newest-first"}, {"url": True}, {"substring": {"least_bytes": 200, "least_chars": 0}}]
)
def test_runs_of_every_kind_can_be_asked(tmp_path: Path, config: dict[str, Any]) -> None:
    newer = [page("newer", text(1, 1), 9, snapshot="t"), page("other", text(50) + " " + text(3), 9, snapshot="t")]
    section = put(Workspace(tmp_path), SHARDS | {"t/a": newer}, **config)
    (answer,) = near_copies(Workspace(tmp_path), section, [(None, text(1))])
    kept = {match.id for match in answer.matches if match.kept}
    assert kept == ({"newer"} if config.get("scope") else {"first", "newer"})
    assert {"first", "copy", "near", "newer"} <= {match.id for match in answer.matches}


def test_with_json_the_command_gives_what_the_library_gives(
    place: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asked.txt"
    file.write_text(text(1))
    ask(place, file, "--json", "--top", "2", "--similarity", "0.9")
    facts = json.loads(capfd.readouterr().out)
    expected = near_copies(place, DedupConfig(), [(None, text(1))], top=2, least=0.9)
    assert facts["queries"] == [asdict(answer) for answer in expected]
    assert len(facts["queries"][0]["matches"]) == 2
    assert rows(place, "dedup/docs/s/a.parquet")
