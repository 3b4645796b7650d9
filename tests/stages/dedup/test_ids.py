"""The same id twice in a snapshot: one page stays, the others are in the ledger and take no part in what follows."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.pipeline.documents import DOCUMENT
from curate.pipeline.stage import Done, File, Planning, Shard
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import ids, signing
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import DedupConfig, MinHashConfig
from support import rows, run_stage

Page = dict[str, Any]
TEXTS = ("a page of five words", "another page", "the third page", "")
START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def own(number: int) -> str:
    """A text of twelve words that no other number has; digits would count as equal."""
    return " ".join("".join(random.Random(f"{number} {word}").choices("abcdefgh", k=8)) for word in range(12))


def page(name: str, id: str | None, text: str, date: int | None = 0, source: str = "w", offset: int | None = 0) -> Page:
    """`name` is the URL: what tells pages of one id apart here."""
    when = None if date is None else START + datetime.timedelta(days=date)
    return {"url": name, "id": id, "text": text, "date": when, "source": source, "offset": offset}


def run(folder: Path, shards: Mapping[str, Sequence[Page]], **config: Any) -> list[Done]:
    workspace = Workspace(folder)
    made = []
    for key, pages in shards.items():
        name = f"filter/docs/{key}.parquet"
        snapshot = {"snapshot": key.split("/")[0]}
        with workspace.create(name) as output:
            pq.write_table(pa.Table.from_pylist([item | snapshot for item in pages], schema=DOCUMENT), output)
        made.append(Shard(key, File(name, output.sha256, output.size), len(pages)))
    settled = {"minhash": MinHashConfig(enabled=False)} | config
    return run_stage(dedup.STAGE, DedupConfig(**settled), made, workspace)


def story(
    folder: Path, done: Sequence[Done]
) -> tuple[dict[tuple[str, str], int], dict[tuple[str, str], tuple[str, str]]]:
    """By (snapshot, url): the cluster size of those kept, (reason, kept id) of the others."""
    workspace = Workspace(folder)
    kept, gone = {}, {}
    for task in done:
        for row in rows(workspace, task.outputs["docs"].path):
            kept[row["snapshot"], row["url"]] = row["duplicates"]
        for row in rows(workspace, task.outputs["ledger"].path):
            gone[row["snapshot"], row["url"]] = (row["reason"], row["kept_id"])
    return kept, gone


def ledger(folder: Path, done: Sequence[Done]) -> list[dict[str, Any]]:
    return [row for task in done for row in rows(Workspace(folder), task.outputs["ledger"].path)]


def by_definition(pages: Mapping[str, Sequence[Page]], scope: str) -> tuple[Any, Any]:
    """What `story` must be for the pages of each snapshot: every page compared with every other of its id, then of its text.
    The page that stays stands for all that went for it, whatever for, and each names it."""
    kept, gone = {}, {}
    alike = defaultdict(list)
    went: dict[tuple[str, str], list[str]] = {}
    for snapshot, members in pages.items():
        of_id = defaultdict(list)
        for item in members:
            of_id[item["id"] if item["id"] is not None else item["url"]].append(item)
        for same in of_id.values():
            digest = {item["url"]: hashlib.blake2b(item["text"].encode(), digest_size=16).digest() for item in same}
            first, *others = sorted(
                same,
                key=lambda p: (p["date"] is None, p["date"] or START, digest[p["url"]], p["source"], p["offset"]),
            )
            went[snapshot, first["url"]] = [other["url"] for other in others]
            if first["text"]:
                alike[snapshot if scope == "snapshot" else "", first["text"]].append((snapshot, first))
            else:
                alike[snapshot, first["url"], "alone"].append((snapshot, first))
    for cluster in alike.values():
        (snapshot, first), *rest = sorted(
            cluster, key=lambda pair: (pair[1]["date"] is None, pair[1]["date"] or START, pair[0], pair[1]["id"])
        )
        kept[snapshot, first["url"]] = sum(1 + len(went[where, item["url"]]) for where, item in cluster)
        for where, other in rest:
            gone[where, other["url"]] = ("exact_duplicate", first["id"])
        for where, item in cluster:
            gone |= {(where, url): ("duplicate_id", first["id"]) for url in went[where, item["url"]]}
    return kept, gone


def shuffled(pages: Mapping[str, Sequence[Page]], shards: int, choose: random.Random) -> dict[str, list[Page]]:
    made: dict[str, list[Page]] = {}
    for snapshot, members in pages.items():
        names = [f"{snapshot}/{choose.randrange(10**6):06d}" for _ in range(shards)]
        made |= {name: [] for name in names}
        for item in choose.sample(list(members), len(members)):
            made[choose.choice(names)].append(item)
    return made


@st.composite
def snapshots(draw: st.DrawFn) -> dict[str, list[Page]]:
    def pages(snapshot: str, count: int) -> list[Page]:
        return [
            page(
                f"{snapshot}{number}",
                draw(st.sampled_from(["x", "y", "z", "é", "", f"own{number}"])),
                draw(st.sampled_from(TEXTS)),
                draw(st.sampled_from([None, 0, 1])),
                draw(st.sampled_from(["v", "w"])),
                number,
            )
            for number in draw(st.permutations(range(count)))
        ]

    return {name: pages(name, draw(st.integers(0, 12))) for name in ("s", "t")}


@settings(max_examples=8, deadline=None)
@given(
    pages=snapshots(), scope=st.sampled_from(["snapshot", "global"]), shards=st.integers(1, 6), seed=st.integers(0, 99)
)
def test_what_goes_and_what_stays_agrees_with_the_definition_however_pages_lie_in_shards(
    pages: dict[str, list[Page]], scope: str, shards: int, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "GROUP_SHARDS", 1 + seed % 4)
        done = run(Path(name), shuffled(pages, shards, random.Random(seed)), scope=scope)
        assert story(Path(name), done) == by_definition(pages, scope)


def twice() -> dict[str, list[Page]]:
    """300 pages: 60 ids stand two to four times."""
    choose = random.Random(3)
    made = [page(f"p{n}", f"id{n}", own(n), n % 5, "w", n) for n in range(140)]
    made += [page(f"q{n}", f"id{n % 60}", own(n % 70), n % 3, "v", n) for n in range(160)]
    choose.shuffle(made)
    return {"s": made}


def test_the_ledger_tells_id_reason_and_where_the_page_kept_stands(tmp_path: Path) -> None:
    shards = {
        "s/a": [page("late", "x", "one text", 2, "crawl-a", 5), page("undated", "x", "no date", None, "crawl-a", 7)],
        "s/b": [page("early", "x", "another text", 1, "crawl-b", 12)],
    }
    done = run(tmp_path, shards)
    assert story(tmp_path, done)[0] == {("s", "early"): 3}
    found = ledger(tmp_path, done)
    assert [(row["url"], row["source"], row["offset"]) for row in found] == [
        ("late", "crawl-a", 5),
        ("undated", "crawl-a", 7),
    ]
    for row in found:
        assert (row["id"], row["kept_id"], row["reason"], row["stage"]) == ("x", "x", "duplicate_id", "dedup")
        assert row["detail"] == "kept: offset 12 of crawl-b"
        assert row["value"] is None and row["failed"] is None
    assert [task.counts["dropped"] for task in done] == [{"duplicate_id": 2}, {}]


@pytest.mark.parametrize("minhash", [MinHashConfig(enabled=False), MinHashConfig(bands=112, rows=1)])
def test_a_page_that_goes_for_its_id_neither_links_others_nor_is_kept_for_them(
    tmp_path: Path, minhash: MinHashConfig
) -> None:
    near = own(1) + " end" * minhash.enabled
    pages = [
        page("stays", "x", "nobody else says this", 0),
        page("goes", "x", own(1), 1),  # the first of its text
        page("copied", "y", near, 2),
    ]
    done = run(tmp_path, {f"s/{n}": [item] for n, item in enumerate(pages)}, minhash=minhash)
    assert story(tmp_path, done) == ({("s", "stays"): 2, ("s", "copied"): 1}, {("s", "goes"): ("duplicate_id", "x")})
    pages[0]["id"] = "z"
    done = run(tmp_path / "other", {f"s/{n}": [item] for n, item in enumerate(pages)}, minhash=minhash)
    assert story(tmp_path / "other", done)[0] == {("s", "stays"): 1, ("s", "goes"): 2}


def test_the_same_id_in_two_snapshots_is_two_documents_also_where_copies_are_looked_for_everywhere(
    tmp_path: Path,
) -> None:
    shards = {
        "s/a": [page("1", "x", "one text")],
        "t/a": [page("2", "x", "another text"), page("3", "x", "a third", 1)],
    }
    for scope in ("snapshot", "global"):
        done = run(tmp_path / scope, shards, scope=scope)
        assert story(tmp_path / scope, done) == (
            {("s", "1"): 1, ("t", "2"): 2},
            {("t", "3"): ("duplicate_id", "x")},
        )


def test_equal_hashes_of_different_ids_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shuffled(twice(), 5, random.Random(0))
    expected = story(tmp_path / "true", run(tmp_path / "true", shards))
    assert expected == by_definition(twice(), "snapshot")
    for count in (1, 7):
        monkeypatch.setattr(
            signing,
            "_id_hashes",
            lambda ids, ties, count=count: [(len(str(id)) + ord(str(id)[-1])) % count for id in ids],
        )
        assert story(tmp_path / str(count), run(tmp_path / str(count), shards)) == expected


def test_where_the_page_of_an_id_goes_too_the_ledger_names_the_one_that_stays_for_both(tmp_path: Path) -> None:
    pages = [
        page("first", "a", own(1), 0),
        page("copy", "b", own(1), 1, offset=5),
        page("same id", "b", own(2), 2),
        page("alone", "c", own(3), 0, offset=7),
        page("again", "c", own(4), 1),
        page("twin", "d", own(3), 1),
    ]
    for number, order in enumerate(itertools.islice(itertools.permutations(range(6)), 0, 720, 151)):
        folder = tmp_path / str(number)
        done = run(folder, {f"s/{place}": [pages[n]] for place, n in enumerate(order)})
        assert story(folder, done) == (
            {("s", "first"): 3, ("s", "alone"): 3},
            {
                ("s", "twin"): ("exact_duplicate", "c"),
                ("s", "copy"): ("exact_duplicate", "a"),
                ("s", "same id"): ("duplicate_id", "a"),
                ("s", "again"): ("duplicate_id", "c"),
            },
        )
        details = {row["url"]: row["detail"] for row in ledger(folder, done)}
        assert details["same id"] == "a copy itself: offset 5 of w"
        assert details["again"] == "kept: offset 7 of w"


def test_pages_without_an_id_all_stay(tmp_path: Path) -> None:
    pages = [page(f"p{n}", None, own(n)) for n in range(4)] + [page(f"e{n}", "", own(9 + n), n) for n in range(2)]
    done = run(tmp_path, {"s/a": pages[::2], "s/b": pages[1::2]})
    kept, gone = story(tmp_path, done)
    assert kept == {("s", name): 1 for name in ("p0", "p1", "p2", "p3")} | {("s", "e0"): 2}
    assert gone == {("s", "e1"): ("duplicate_id", "")}


def test_a_record_that_came_in_twice_as_it_stands_stays_once(tmp_path: Path) -> None:
    pages = [page(f"p{n}", f"id{n}", own(n), None, "w", None) for n in range(30)]
    done = run(tmp_path, {"s/a": pages, "s/b": pages})
    kept, _ = story(tmp_path, done)
    assert len(kept) == 30 and sum(task.counts["kept"] for task in done) == 30
    assert Counter(row["detail"] for row in ledger(tmp_path, done)) == {"kept: w": 30}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_of_pages_of_one_id_date_and_text_the_first_by_source_and_offset_stays(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    pages = [
        page("later", "x", own(1), 0, "v", 9),
        page("first", "x", own(1), 0, "v", 8),
        page("other", "x", own(1), 0, "w", 1),
    ]
    done = run(tmp_path, {f"s/{place}": [pages[n]] for place, n in enumerate(order)})
    assert story(tmp_path, done)[0] == {("s", "first"): 3}


def test_little_memory_makes_more_passes_and_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = shuffled(twice(), 6, random.Random(1))
    whole = run(tmp_path / "whole", shards)
    passes = []

    def counted(context: Any, hashes: Any, ends: Any, wanted: Any) -> pa.Table:
        found = candidates(context, hashes, ends, wanted)
        passes.append(found.num_rows)
        return found

    candidates = ids._candidates
    monkeypatch.setattr(ids, "_candidates", counted)
    monkeypatch.setattr(ids, "BYTES_A_HASH", 2 << 20)
    monkeypatch.setattr(ids, "BYTES_A_CANDIDATE", 4 << 20)
    cut = run(tmp_path / "cut", shards, memory_mb=64)
    assert len(passes) > 10 and max(passes) <= 16
    assert [task.outputs["docs"].fingerprint for task in whole] == [task.outputs["docs"].fingerprint for task in cut]
    assert [task.outputs["ledger"].fingerprint for task in whole] == [
        task.outputs["ledger"].fingerprint for task in cut
    ]


def test_only_shards_that_hold_a_repeated_id_are_read_beyond_the_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []
    original = pq.read_table
    monkeypatch.setattr(
        ids.pq,
        "read_table",
        lambda *a, **named: read.append(tuple(named.get("columns") or ())) or original(*a, **named),
    )
    shards = {f"s/{n}": [page(f"p{n}", "x" if n in (2, 5) else f"id{n}", own(n), n)] for n in range(8)}
    done = run(tmp_path, shards)
    assert read.count(("id_hash",)) == 8
    assert sum("id_hash" in columns and "id" in columns for columns in read) == 2
    assert story(tmp_path, done)[1] == {("s", "p5"): ("duplicate_id", "x")}


EDGES = st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])


@given(values=st.lists(EDGES | st.integers(0, 2**64 - 1), max_size=40), at_a_time=st.integers(1, 50))
def test_repeats_gives_each_value_that_stands_more_than_once_and_how_often(values: list[int], at_a_time: int) -> None:
    hashes = np.array(values, np.uint64)
    repeated, often = ids.repeats(hashes, at_a_time)
    expected = sorted((value, count) for value, count in Counter(values).items() if count > 1)
    assert list(zip(repeated.tolist(), often.tolist(), strict=True)) == expected
    assert hashes.tolist() == values


def test_the_task_of_a_snapshot_states_its_memory_and_numbers_pages_as_the_scope_does() -> None:
    def done(key: str, records: int) -> Done:
        return Done(key, {"signatures": File(key, "f")}, {"records": records}, {})

    signatures = tuple(done(f"{snapshot}/{n}", 10 + n) for snapshot in ("t", "s") for n in range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedup, "GROUP_SHARDS", 2)
        config = DedupConfig(scope="global", memory_mb=100)
        tasks = dedup.plan_ids(Planning("dedup", "ids", config, 0, (), {"signatures": signatures}))
    assert [(task.key, task.params) for task in tasks] == [
        ("s", {"base": 0, "rows": [10, 11, 12], "groups": [0, 0, 1]}),
        ("t", {"base": 33, "rows": [10, 11, 12], "groups": [1, 2, 2]}),
    ]
    assert [task.memory for task in tasks] == [(100 << 20) + 24 * 33] * 2
    assert list(itertools.chain.from_iterable(task.outputs.values() for task in tasks)) == [
        "dedup/steps/ids/s.parquet",
        "dedup/steps/stays/s.parquet",
        "dedup/steps/ids/t.parquet",
        "dedup/steps/stays/t.parquet",
    ]
