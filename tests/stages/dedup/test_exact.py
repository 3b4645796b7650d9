"""Pages of the same URL: one stays, by `keep`, before any text is compared."""

from __future__ import annotations

import datetime
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import File, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import exact, stage
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.stage import STAGE
from support import rows, run_stage

Page = dict[str, Any]
URL = "https://a.example/page"


def text(seed: int, changes: int = 0) -> str:
    """A text of 60 words; with each change one word in its place is another."""
    chosen = random.Random(seed)
    words = ["".join(chosen.choices("abcdefghijklmnop", k=6)) for _ in range(60)]
    words[: 7 * changes : 7] = ["changed"] * changes
    return " ".join(words)


def page(id: str | None, url: str | None, seed: int, day: int | None = 1, **more: Any) -> Page:
    date = None if day is None else datetime.datetime(2024, 1, day, tzinfo=datetime.UTC)
    made = {"id": id, "url": url, "text": text(seed), "date": date, "snapshot": "s", "source": "w", "offset": seed}
    return made | more


def run(folder: Path, shards: Mapping[str, Sequence[Page]], **config: Any) -> tuple[list[Page], list[Page]]:
    """Pages kept, and the ledger by id."""
    place, files = Workspace(folder), []
    for key, pages in shards.items():
        snapshot = {"snapshot": key.split("/")[0]}
        with place.create(f"filter/docs/{key}.parquet") as sink:
            pq.write_table(pa.Table.from_pylist([item | snapshot for item in pages], schema=DOCUMENT), sink)
        files.append(Shard(key, File(f"filter/docs/{key}.parquet", sink.sha256, sink.size), len(pages)))
    done = run_stage(STAGE, DedupConfig.model_validate({"url": True} | config), files, place)
    kept = [row for task in done for row in rows(place, task.outputs["docs"].path)]
    ledger = [row for task in done for row in rows(place, task.outputs["ledger"].path)]
    return kept, sorted(ledger, key=lambda row: (row["id"] or "", row["offset"]))


def gone(ledger: Sequence[Page]) -> list[tuple[Any, ...]]:
    return [(row["id"], row["reason"], row["kept_id"]) for row in ledger]


def test_of_pages_of_one_url_the_first_stays_and_the_ledger_names_it(tmp_path: Path) -> None:
    shards = {"s/a": [page("late", URL, 1, 9), page("other", URL + "2", 2)], "s/b": [page("early", URL, 3, 2)]}
    kept, ledger = run(tmp_path, shards)
    assert {row["id"]: row["duplicates"] for row in kept} == {"early": 2, "other": 1}
    assert gone(ledger) == [("late", "url_duplicate", "early")]
    assert ledger[0]["detail"] == "kept: offset 3 of w"
    assert ledger[0]["value"] is ledger[0]["threshold"] is None


def test_without_url_the_same_urls_stay(tmp_path: Path) -> None:
    kept, ledger = run(tmp_path, {"s/a": [page("a", URL, 1), page("b", URL, 2)]}, url=False)
    assert (len(kept), ledger) == (2, [])


SAME = [
    URL,
    "http://a.example/page",
    "https://A.EXAMPLE:443/page#top",
    "//user@a.example./page",
    " https://a.example/page ",
]
OTHER = [URL + "?q=1", URL + "/", "https://a.example/Page", "https://b.example/page", "https://a.example:8080/page"]


def test_scheme_user_default_port_and_fragment_do_not_tell_urls_apart(tmp_path: Path) -> None:
    pages = [page(f"same{n}", url, n, n + 1) for n, url in enumerate(SAME)]
    pages += [page(f"other{n}", url, 20 + n) for n, url in enumerate(OTHER)]
    _, ledger = run(tmp_path, {"s/a": pages[::2], "s/b": pages[1::2]})
    assert gone(ledger) == [(f"same{n}", "url_duplicate", "same0") for n in range(1, len(SAME))]


def test_pages_without_a_url_are_no_copies_for_it(tmp_path: Path) -> None:
    pages = [page(f"{n}", url, n) for n, url in enumerate([None, None, "", " ", None])]
    assert run(tmp_path, {"s/a": pages})[1] == []


@pytest.mark.parametrize(("keep", "stays"), [("first", "a"), ("newest", "c"), ("longest", "b")])
def test_keep_chooses_among_pages_of_one_url(tmp_path: Path, keep: str, stays: str) -> None:
    pages = [page("a", URL, 1, 1), page("b", URL, 2, 2), page("c", URL, 3, 3), page("d", URL, 4, None)]
    pages[1]["text"] += " and more words than the others have"
    kept, ledger = run(tmp_path, {"s/a": pages}, keep=keep)
    assert [row["id"] for row in kept] == [stays]
    assert {row["kept_id"] for row in ledger} == {stays}


def test_a_page_that_goes_for_its_url_takes_no_other_with_it(tmp_path: Path) -> None:
    """Its text has another copy, which must not go for one that is no more."""
    pages = [page("first", URL, 1, 1), page("again", URL, 2, 2), page("copy", "https://b.example", 2, 3)]
    kept, ledger = run(tmp_path, {"s/a": pages})
    assert sorted(row["id"] for row in kept) == ["copy", "first"]
    assert gone(ledger) == [("again", "url_duplicate", "first")]


def test_pages_of_one_id_go_first_and_keep_their_reason(tmp_path: Path) -> None:
    """Of the two pages `x` the later goes for its id; the one that stays is the first of its URL."""
    pages = [page("x", URL, 1, 1), page("x", "https://b.example", 2, 2), page("y", "https://b.example", 3, 3)]
    pages += [page("z", URL, 4, 4)]
    kept, ledger = run(tmp_path, {"s/a": pages[:2], "s/b": pages[2:]})
    assert sorted(row["id"] for row in kept) == ["x", "y"]
    assert gone(ledger) == [("x", "duplicate_id", "x"), ("z", "url_duplicate", "x")]


def test_what_goes_for_a_page_that_goes_itself_names_the_one_that_stays_which_counts_it(tmp_path: Path) -> None:
    """`w` goes for the id of `x`, which goes for the URL of `y`, which is a copy of `z`: all of them for `z`."""
    pages = [page("z", "https://z.example", 1, 1), page("y", URL, 1, 2), page("x", URL, 2, 3)]
    pages += [page("x", "https://w.example", 3, 4, offset=33), page("u", "https://u.example", 4, 1)]
    pages += [page("v", "https://u.example", 5, 2), page("v", "https://v.example", 6, 3, offset=66)]
    for shards in ({"s/a": pages}, {f"s/{n}": [item] for n, item in enumerate(pages)}):
        kept, ledger = run(tmp_path / str(len(shards)), shards)
        assert {row["id"]: row["duplicates"] for row in kept} == {"z": 4, "u": 3}
        assert sorted((row["offset"], *gone([row])[0], row["detail"]) for row in ledger) == [
            (1, "y", "exact_duplicate", "z", "one of 4 copies"),
            (2, "x", "url_duplicate", "z", "a copy itself: offset 1 of w"),
            (5, "v", "url_duplicate", "u", "kept: offset 4 of w"),
            (33, "x", "duplicate_id", "z", "a copy itself: offset 2 of w"),
            (66, "v", "duplicate_id", "u", "a copy itself: offset 5 of w"),
        ]


@pytest.mark.parametrize("verify", [None, "jaccard"])
def test_every_page_is_counted_by_one_that_stays_and_named_by_all_that_went_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: str | None
) -> None:
    monkeypatch.setattr(stage, "BYTES_A_PAGE", 8 << 20)  # parts of eight pages, groups of as many
    pages = corpus(0, ids=60, urls=60, texts=20)
    kept, ledger = run(tmp_path, {f"s/{n}": pages[n::9] for n in range(9)}, memory_mb=64, verify=verify)
    assert any(row["detail"].startswith("a copy itself") for row in ledger)
    assert {row["reason"] for row in ledger} == {"duplicate_id", "url_duplicate", "exact_duplicate"}
    assert {row["id"]: row["duplicates"] - 1 for row in kept if row["duplicates"] > 1} == Counter(
        row["kept_id"] for row in ledger
    )


def test_urls_are_compared_within_the_scope(tmp_path: Path) -> None:
    shards = {"2024-10/a": [page("old", URL, 1, 1)], "2024-20/a": [page("new", URL, 2, 2)]}
    assert run(tmp_path / "snapshot", shards)[1] == []
    assert gone(run(tmp_path / "global", shards, scope="global")[1]) == [("new", "url_duplicate", "old")]
    newest = run(tmp_path / "newest", shards, scope="newest-first")[1]
    assert gone(newest) == [("old", "url_duplicate", "new")]


def test_a_page_kept_without_an_id_is_named_by_its_place(tmp_path: Path) -> None:
    _, ledger = run(tmp_path, {"s/a": [page(None, URL, 1, 1), page("b", URL, 2, 2)]})
    assert gone(ledger) == [("b", "url_duplicate", None)]
    assert ledger[0]["detail"] == "kept: offset 1 of w"


def corpus(seed: int, ids: int = 30, urls: int = 20, texts: int = 50) -> list[Page]:
    """60 pages of so many ids, URLs and texts."""
    chosen = random.Random(7)
    pages = [
        page(f"id{chosen.randrange(ids)}", f"https://x.example/{chosen.randrange(urls)}", chosen.randrange(texts),
             chosen.choice([1, 2, None]),
             offset=n)
        for n in range(60)
    ]  # fmt: skip
    random.Random(seed).shuffle(pages)
    return pages


def test_the_answer_does_not_depend_on_shards_order_or_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stories = []
    for number, count in enumerate([1, 2, 7]):
        pages = corpus(number)
        if number == 2:
            monkeypatch.setattr(exact, "BYTES_A_CANDIDATE", 32 << 20)  # two candidates at a time
            monkeypatch.setattr(stage, "BYTES_A_KEY", 8 << 20)  # a group a shard
        kept, ledger = run(tmp_path / str(number), {f"s/{n}": pages[n::count] for n in range(count)}, memory_mb=64)
        stories.append(
            (sorted((row["id"], row["offset"], row["duplicates"]) for row in kept), sorted(map(str, gone(ledger))))
        )
    assert stories[0] == stories[1] == stories[2]
    assert len(set(stories[0][1])) > 20
