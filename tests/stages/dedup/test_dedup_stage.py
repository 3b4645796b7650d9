"""The stage from filtered documents to documents, ledger and report."""

from __future__ import annotations

import datetime
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT, LEDGER
from curate.pipeline.errors import Incomplete, UsageError
from curate.pipeline.stage import Context, Done, File, Planning, Shard, Task, load
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import DedupConfig, MinHashConfig
from support import rows, run_stage

STAGE = dedup.STAGE
Page = dict[str, Any]


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(days=number)


def page(id: str, text: str | None, date: int | None = 0, snapshot: str = "s", **more: Any) -> Page:
    when = None if date is None else day(date)
    return {
        "id": id,
        "url": f"https://a.example/{id}",
        "text": text,
        "date": when,
        "snapshot": snapshot,
        "source": "w",
    } | more


def words(seed: int, count: int = 120) -> list[str]:
    chosen = random.Random(seed)
    return ["".join(chosen.choices("abcdefghijklmnop", k=6)) for _ in range(count)]


def text(seed: int, changes: int = 0) -> str:
    """A text of 120 words; with each change one word in its place is another."""
    made = words(seed)
    for change in range(changes):
        made[7 * change] = f"changed{'x' * change}"
    return " ".join(made)


def put(workspace: Workspace, shards: Mapping[str, Sequence[Page]]) -> list[Shard]:
    made = []
    for key, pages in shards.items():
        name = f"filter/docs/{key}.parquet"
        with workspace.create(name) as output:
            pq.write_table(pa.Table.from_pylist(list(pages), schema=DOCUMENT), output)
        made.append(Shard(key, File(name, output.sha256, output.size), len(pages)))
    return made


class Result:
    """What a run left behind."""

    def __init__(self, workspace: Workspace, done: Iterable[Done]) -> None:
        self.workspace = workspace
        self.done = list(done)
        self.kept = [row for task in self.done for row in rows(workspace, task.outputs["docs"].path)]
        self.ledger = [row for task in self.done for row in rows(workspace, task.outputs["ledger"].path)]

    @property
    def removed(self) -> Counter[str]:
        return Counter(row["id"] for row in self.ledger)

    @property
    def kept_ids(self) -> dict[str, str]:
        return {row["id"]: row["kept_id"] for row in self.ledger}

    @property
    def story(self) -> tuple[Any, ...]:
        """Everything that must not depend on shards: who stays with how many copies, who goes, why and for whom."""
        gone = sorted((r["id"], r["reason"], r["kept_id"], r["value"] or 0, r["url"]) for r in self.ledger)
        return sorted((r["id"], r["duplicates"], r["text"] or "", r["url"]) for r in self.kept), gone


def run(folder: Path, shards: Mapping[str, Sequence[Page]], **config: Any) -> Result:
    workspace = Workspace(folder)
    return Result(workspace, run_stage(STAGE, DedupConfig(**config), put(workspace, shards), workspace))


def corpus(seed: int = 0) -> list[Page]:
    """Pages alone, exact copies, near copies, pages of a few words, without words, without a date, with the same id."""
    pages = [page(f"alone{n}", text(n), n) for n in range(15)]
    pages += [page(f"copy{n}-{c}", text(100 + n), c % 3) for n in range(5) for c in range(3)]
    pages += [page(f"near{n}-{c}", text(200 + n, c), 5 - c) for n in range(5) for c in range(3)]
    pages += [page(f"short{n}", "one word" if n % 2 else "word", None) for n in range(6)]
    pages += [page(f"empty{n}", ["", None, "...!"][n % 3], n) for n in range(6)]
    pages += [page("twice", text(300), 3, url=f"https://b.example/{n}") for n in range(3)]
    pages += [page("twice", text(301), 3)]
    random.Random(seed).shuffle(pages)
    return pages


def split(pages: Sequence[Page], count: int, prefix: str = "s/") -> Mapping[str, Sequence[Page]]:
    return {f"{prefix}{n:03d}": pages[n::count] for n in range(count)}


def by_snapshot(pages: Sequence[Page], count: int) -> Mapping[str, Sequence[Page]]:
    names = sorted({item["snapshot"] for item in pages})
    found = [split([item for item in pages if item["snapshot"] == name], count, f"{name}/") for name in names]
    return {key: held for shards in found for key, held in shards.items()}


def test_of_exact_copies_the_first_stays_and_the_ledger_names_it(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        {
            "s/b": [page("late", "The same text, for 3 pages.", 9), page("other", text(1), 2)],
            "s/a": [page("later", "the SAME text for 17 pages", None), page("early", "Thé same text for 0 pages!", 1)],
        },
    )
    assert {row["id"]: row["duplicates"] for row in result.kept} == {"early": 3, "other": 1}
    assert result.kept_ids == {"late": "early", "later": "early"}
    assert {row["reason"] for row in result.ledger} == {"exact_duplicate"}
    assert {row["stage"] for row in result.ledger} == {"dedup"}
    assert sum((Counter(task.counts["dropped"]) for task in result.done), Counter()) == {"exact_duplicate": 2}


def test_of_near_copies_the_ledger_tells_the_estimated_similarity_and_no_rule(tmp_path: Path) -> None:
    result = run(tmp_path, {"s/a": [page("b", text(1, 1), 2), page("a", text(1), 1), page("c", text(2), 0)]})
    (gone,) = result.ledger
    assert (gone["id"], gone["kept_id"], gone["reason"]) == ("b", "a", "near_duplicate")
    sets = [{tuple(w[i : i + 5]) for i in range(116)} for w in (text(1).split(), text(1, 1).split())]
    true = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
    assert gone["value"] == pytest.approx(true, abs=0.06)
    assert gone["threshold"] is gone["failed"] is None


def test_columns_of_the_stage_before_pass_through_and_duplicates_is_int32(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (shard,) = put(workspace, {"s/a": [page("a", text(1)), page("b", text(1)), page("c", text(2))]})
    with workspace.open(shard.file.path) as stream:
        table = pq.read_table(stream)
    signals = pa.array([{"words": float(n)} for n in range(3)], pa.struct([("words", pa.float32())]))
    with workspace.create(shard.file.path) as output:
        pq.write_table(table.append_column("signals", signals), output)
    (done,) = run_stage(STAGE, DedupConfig(), [shard], workspace)
    with workspace.open(done.outputs["docs"].path) as stream:
        kept = pq.read_table(stream)
    assert kept.column_names == [*DOCUMENT.names, "signals", "duplicates"]
    assert kept.schema.field("duplicates").type == pa.int32()
    assert (
        kept.drop_columns("duplicates").to_pylist() == table.append_column("signals", signals).take([0, 2]).to_pylist()
    )
    with workspace.open(done.outputs["ledger"].path) as stream:
        assert pq.read_schema(stream).names == LEDGER.names


@pytest.mark.parametrize("config", [{}, {"minhash": {"enabled": False}}, {"exact": False}, {"keep": "newest"}])
def test_the_result_depends_neither_on_the_number_nor_on_the_order_of_shards_and_rows(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    stories = []
    for number, (seed, count) in enumerate([(0, 1), (1, 7), (2, 40)]):
        stories.append(run(tmp_path / str(number), split(corpus(seed), count), **config).story)
    assert all(story == stories[0] for story in stories)
    assert stories[0][1]


@pytest.mark.parametrize(
    ("shards_a_group", "bytes_a_key", "bytes_a_page", "last"),
    [
        (2, 1, 1 << 20, {"bands": 4, "edges": 0, "members": 4, "choices": 0, "verdicts": 4}),
        (99, 1 << 20, 8 << 20, {"bands": 8, "edges": 14, "members": 8, "choices": 7, "verdicts": 8}),
    ],
)
def test_the_result_does_not_depend_on_how_the_work_is_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shards_a_group: int,
    bytes_a_key: int,
    bytes_a_page: int,
    last: dict[str, int],
) -> None:
    shards = split(corpus(), 9)
    whole = run(tmp_path / "whole", shards)
    monkeypatch.setattr(dedup, "GROUP_SHARDS", shards_a_group)
    monkeypatch.setattr(dedup, "BYTES_A_KEY", bytes_a_key)
    monkeypatch.setattr(dedup, "BYTES_A_PAGE", bytes_a_page)
    cut = run(tmp_path / "cut", shards, memory_mb=64)
    found = {step: cut.workspace.list(f"dedup/steps/{step}/s")[-1] for step in last}
    assert found == {step: f"dedup/steps/{step}/s/{number:05d}.parquet" for step, number in last.items()}
    for one, other in zip(whole.done, cut.done, strict=True):
        assert {name: file.fingerprint for name, file in one.outputs.items()} == {
            name: file.fingerprint for name, file in other.outputs.items()
        }
    report = "dedup/steps/report/s.json"
    assert whole.workspace.read_json(report) == cut.workspace.read_json(report)


def test_clusters_agree_with_all_pairs_compared_by_definition(tmp_path: Path) -> None:
    result = run(tmp_path, split(corpus(), 3))
    pages = list({item["id"]: item for item in corpus()}.values())  # of an id one page takes part, for all
    often = Counter(item["id"] for item in corpus())

    def shingles(value: str | None) -> frozenset[tuple[str, ...]]:
        found = re.findall(r"\w+", (value or "").lower())
        return frozenset(tuple(found[i : i + 5]) for i in range(max(1, len(found) - 4))) if found else frozenset()

    sets = [shingles(item["text"]) for item in pages]
    labels = list(range(len(pages)))
    for i, one in enumerate(sets):
        for j, other in enumerate(sets[:i]):
            if one and other and len(one & other) / len(one | other) > 0.8:
                old, new = labels[i], labels[j]
                labels = [new if label == old else label for label in labels]
    expected: Counter[tuple[str, int]] = Counter()
    for label in set(labels):
        members = [pages[i] for i in range(len(pages)) if labels[i] == label]
        first = min(members, key=lambda item: (item["date"] is None, item["date"] or day(0), item["id"]))
        expected[first["id"], sum(often[item["id"]] for item in members)] += 1
    assert Counter((row["id"], row["duplicates"]) for row in result.kept) == expected


@pytest.mark.parametrize(("keep", "expected"), [("first", "a"), ("longest", "b"), ("newest", "c")])
def test_the_keep_rule_chooses_the_page(tmp_path: Path, keep: str, expected: str) -> None:
    pages = [
        page("a", text(1), 1),
        page("b", text(1) + " ......", 2),
        page("c", text(1), 3),
        page("d", text(1), None),
    ]
    result = run(tmp_path, split(pages, 2), keep=keep)
    assert [row["id"] for row in result.kept] == [expected]


def test_copies_are_looked_for_within_the_snapshot_or_everywhere(tmp_path: Path) -> None:
    shards = {
        "s1/a": [page("new", text(1), 2, "s1"), page("copy", text(1), 3, "s1")],
        "s2/a": [page("old", text(1), 1, "s2")],
    }
    within = run(tmp_path / "within", shards)
    assert {row["id"]: row["duplicates"] for row in within.kept} == {"new": 2, "old": 1}
    everywhere = run(tmp_path / "everywhere", shards, scope="global")
    assert {row["id"]: row["duplicates"] for row in everywhere.kept} == {"old": 3}
    assert everywhere.kept_ids == {"new": "old", "copy": "old"}


def test_pages_without_words_are_never_linked(tmp_path: Path) -> None:
    result = run(tmp_path, split([page(f"p{n}", ["", None, " ", "?!"][n % 4]) for n in range(40)], 3))
    assert len(result.kept) == 40
    assert {row["duplicates"] for row in result.kept} == {1}


def test_pages_of_one_word_are_copies_only_of_the_same_word(tmp_path: Path) -> None:
    result = run(tmp_path, split([page(f"p{n:02d}", ["yes", "no", "Yes!"][n % 3]) for n in range(30)], 4))
    assert {row["id"]: row["duplicates"] for row in result.kept} == {"p00": 20, "p01": 10}


def test_many_copies_of_one_page_leave_one(tmp_path: Path) -> None:
    pages = [page(f"p{n:04d}", text(1), 2500 - n) for n in range(2500)]
    result = run(tmp_path, split(pages, 3), memory_mb=64)
    assert [(row["id"], row["duplicates"]) for row in result.kept] == [("p2499", 2500)]
    assert set(result.kept_ids.values()) == {"p2499"}
    folders = ("links", "edges")
    links = [
        row
        for name in folders
        for file in result.workspace.list(f"dedup/steps/{name}")
        for row in rows(result.workspace, file)
    ]
    assert len(links) == 2499
    # of the copies in a group one goes on: the shuffle has a row a key, not a row a copy
    assert len(rows(result.workspace, "dedup/steps/bands/s/00000.parquet")) == 15


def test_a_chain_of_near_copies_is_one_cluster(tmp_path: Path) -> None:
    result = run(tmp_path, split(chain(), 5))
    assert [(row["id"], row["duplicates"]) for row in result.kept] == [("p000", 200)]
    ends = {row["id"]: row["value"] for row in result.ledger}
    (said,) = result.workspace.read_json("dedup/steps/report/s.json")["largest"]
    assert said["least_similarity"] == pytest.approx(min(ends.values()), abs=1e-4)
    assert ends["p001"] > 0.9
    assert ends["p199"] < 0.05  # the ledger tells that this one was linked through others only


def test_of_the_same_id_in_several_shards_one_stays_whatever_its_text_and_the_ledger_has_the_others(
    tmp_path: Path,
) -> None:
    stories = []
    for number, order in enumerate([(0, 1, 2), (2, 1, 0), (1, 2, 0)]):
        pages = [
            page("id", text(1), url="https://a.example/1"),
            page("id", text(1), url="https://a.example/2"),
            page("id", text(2)),
        ]
        result = run(tmp_path / str(number), {f"s/{place}": [pages[n]] for place, n in enumerate(order)})
        stories.append(result.story)
        assert [row["duplicates"] for row in result.kept] == [3]
        assert [(row["reason"], row["kept_id"]) for row in result.ledger] == [("duplicate_id", "id")] * 2
    assert stories[0] == stories[1] == stories[2]


def test_empty_shards_and_no_shards_at_all_are_fine(tmp_path: Path) -> None:
    result = run(tmp_path / "one", {"s/a": [], "s/b": [page("x", text(1))], "t/a": []})
    assert [(row["id"], row["duplicates"]) for row in result.kept] == [("x", 1)]
    assert len(result.done) == 3
    workspace = Workspace(tmp_path / "none")
    assert run_stage(STAGE, DedupConfig(), [], workspace) == []
    assert workspace.list("dedup") == []


@pytest.mark.parametrize(
    ("config", "removed"),
    [
        ({"exact": False, "minhash": MinHashConfig(enabled=False)}, set()),
        ({"minhash": MinHashConfig(enabled=False)}, {"exact"}),
        ({"exact": False}, {"exact", "near"}),
        ({"minhash": MinHashConfig(bands=1, rows=112)}, {"exact"}),
    ],
)
def test_exact_and_near_copies_are_switched_on_their_own(
    tmp_path: Path, config: dict[str, Any], removed: set[str]
) -> None:
    pages = [page("a", text(1), 0), page("exact", text(1), 1), page("near", text(1, 2), 2)]
    result = run(tmp_path, split(pages, 2), **config)
    assert set(result.removed) == removed
    expected = "exact_duplicate" if config.get("exact", True) else "near_duplicate"
    assert [row["reason"] for row in result.ledger if row["id"] == "exact"] == [expected] * ("exact" in removed)


def test_texts_that_agree_in_half_of_the_exact_hash_are_not_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.stages.dedup import signing

    def half(texts: Any) -> Any:
        full = original(texts)
        full[:, 0] = 7
        return full

    original = signing.text_hashes
    monkeypatch.setattr(signing, "text_hashes", half)
    pages = [page(f"p{n}", text(n // 2), n) for n in range(20)]
    result = run(tmp_path, split(pages, 3), minhash=MinHashConfig(enabled=False))
    assert result.kept_ids == {f"p{n + 1}": f"p{n}" for n in range(0, 20, 2)}


def test_the_report_counts_clusters_by_size_and_names_the_largest(tmp_path: Path) -> None:
    sizes = {1: 1, 2: 2, 3: 2, 4: 5, 5: 3}
    pages = [page(f"p{n}-{c}", text(n), c) for n, size in sizes.items() for c in range(size)]
    result = run(tmp_path, split(pages, 3))
    report = result.workspace.read_json("dedup/steps/report/s.json")
    assert (report["documents"], report["clusters"], report["clustered"], report["removed"]) == (13, 4, 12, 8)
    assert report["sizes"] == [
        {"from": 2, "to": 3, "clusters": 3, "documents": 7},
        {"from": 4, "to": 7, "clusters": 1, "documents": 5},
    ]
    assert report["largest"] == [
        {"kept_id": "p4-0", "size": 5, "least_similarity": 1.0},
        {"kept_id": "p5-0", "size": 3, "least_similarity": 1.0},
        {"kept_id": "p2-0", "size": 2, "least_similarity": 1.0},
        {"kept_id": "p3-0", "size": 2, "least_similarity": 1.0},
    ]


def finish(workspace: Workspace, planning: Planning, tasks: Iterable[Task]) -> tuple[Done, ...]:
    step = next(step for step in STAGE.steps if step.name == planning.step)
    done = []
    for task in tasks:
        context = Context(task, planning.config, 0, workspace)
        counts = load(step.run)(context)
        done.append(Done(task.key, context.written, counts.to_json(), task.params))
    return tuple(done)


@pytest.mark.parametrize(
    ("failed", "after", "names"), [("ids", "bands", r"ids.*\(s\)"), ("edges", "components", r"edges.*s/00000")]
)
def test_a_failed_task_between_stops_the_stage_instead_of_overlooking_copies(
    tmp_path: Path, failed: str, after: str, names: str
) -> None:
    workspace = Workspace(tmp_path)
    shards = tuple(put(workspace, split(corpus(), 2)))
    before: dict[str, tuple[Done, ...]] = {}
    for step in STAGE.steps:
        planning = Planning("dedup", step.name, DedupConfig(), 0, shards, before)
        if step.name == after:
            break
        before[step.name] = () if step.name == failed else finish(workspace, planning, step.plan(planning))
    with pytest.raises(Incomplete, match=names):
        step.plan(planning)


def test_a_shard_whose_signatures_failed_is_left_out_and_the_others_go_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    shards = put(workspace, split(corpus(), 3))
    damaged = Shard("s/999", File("filter/docs/s/999.parquet", "0" * 64), 1)
    planning = Planning("dedup", "signatures", DedupConfig(), 0, (*shards, damaged), {})
    tasks = dedup.plan_signatures(planning)
    assert [task.key for task in tasks] == ["s/000", "s/001", "s/002", "s/999"]
    before = {"signatures": finish(workspace, planning, tasks[:3])}
    planning = Planning("dedup", "ids", DedupConfig(), 0, planning.shards, before)
    before["ids"] = finish(workspace, planning, dedup.plan_ids(planning))
    (task,) = dedup.plan_bands(Planning("dedup", "bands", DedupConfig(), 0, planning.shards, before))
    assert len(task.inputs["signatures"]) == 3


def chain(count: int = 200) -> list[Page]:
    """Each page has lost the first word of the one before and won one at the end."""
    long = words(5, count + 200)
    return [page(f"p{n:03d}", " ".join(long[n : n + 120]), n) for n in range(count)]


def true_jaccard(one: str, other: str) -> float:
    sets = [{tuple(w[i : i + 5]) for i in range(max(1, len(w) - 4))} for w in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("verify", ["signature", "jaccard"])
def test_verified_links_are_of_pages_that_are_alike(tmp_path: Path, verify: str) -> None:
    # pages with 0, 3 ... 12 of 120 words changed: some pairs lie below .8, all share a bucket with some other
    pages = [page(f"p{n}-{c}", text(n, 3 * c), c) for n in range(12) for c in range(5)]
    texts = {item["id"]: item["text"] for item in pages}
    loose = run(tmp_path / "loose", split(pages, 3))
    result = run(tmp_path / "verified", split(pages, 3), verify=verify, verify_threshold=0.8)
    assert len(result.ledger) < len(loose.ledger)
    slack = 0.0 if verify == "jaccard" else 0.12
    for row in result.ledger:  # each page that goes is alike to some page of its cluster
        cluster = [id for id, kept in result.kept_ids.items() if kept == row["kept_id"]] + [row["kept_id"]]
        alike = max(true_jaccard(texts[row["id"]], texts[id]) for id in cluster if id != row["id"])
        assert alike >= 0.8 - slack
    assert result.workspace.read_json("dedup/steps/report/s.json")["verification"]["threshold"] == 0.8


@pytest.mark.parametrize(
    ("minhash", "count"),
    [
        ({"bands": 40, "rows": 1}, 6000),  # more shingles than are compared
        ({"bands": 40, "rows": 1, "hash_bits": 64}, 300),
        ({"bands": 40, "rows": 1, "ngram_of": "characters", "ngram": 9}, 300),
        ({"bands": 1, "rows": 1}, 300),
    ],
)
def test_whatever_a_shingle_is_pages_go_by_the_true_similarity_of_their_texts(
    tmp_path: Path, minhash: dict[str, Any], count: int
) -> None:
    long = words(4, 2 * count)
    texts = [" ".join(long[start : start + count]) for start in (0, count // 20, count // 4)]  # .90, .60 like the first
    pages = [page(f"p{n}", made, n) for n, made in enumerate(texts)]
    result = run(tmp_path, split(pages, 3), minhash=minhash, verify="jaccard", verify_threshold=0.8)
    found = {"p1": "p0"} if minhash["bands"] > 1 else result.kept_ids
    assert result.kept_ids == found
    assert set(found.items()) <= {("p1", "p0")}


@pytest.mark.parametrize(
    "config",
    [{"verify": "jaccard"}, {"verify": "signature"}, {"max_cluster": 3}, {"scope": "newest-first", "keep": "longest"}],
)
def test_verified_clusters_depend_neither_on_shards_nor_on_how_the_work_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]
) -> None:
    pages = [
        *corpus(),
        *chain(40),
        *(page(f"v{n}-{c}", text(400 + n, 4 * c), 6 - c) for n in range(6) for c in range(5)),
    ]
    if "scope" in config:
        for number, item in enumerate(pages):
            item["snapshot"] = f"s{number % 3}"
    whole = run(tmp_path / "whole", by_snapshot(pages, 2), **config)
    random.Random(3).shuffle(pages)
    monkeypatch.setattr(dedup, "GROUP_SHARDS", 2)
    monkeypatch.setattr(dedup, "BYTES_A_PAGE", 4 << 20)
    cut = run(tmp_path / "cut", by_snapshot(pages, 9), memory_mb=64, **config)
    scope = "global" if "scope" in config else "s"
    assert cut.workspace.list(f"dedup/steps/verify/{scope}")[-1] != f"dedup/steps/verify/{scope}/00000.parquet"
    assert cut.story == whole.story
    reports = [made.workspace.read_json(f"dedup/steps/report/{scope}.json") for made in (whole, cut)]
    assert reports[0] == reports[1]


def test_a_chain_that_is_too_large_is_not_collapsed_but_copies_of_a_text_are(tmp_path: Path) -> None:
    copies = [page(f"c{n:03d}", text(9), n) for n in range(50)]
    result = run(tmp_path, split([*chain(), *copies], 3), max_cluster=20)
    assert {row["id"]: row["duplicates"] for row in result.kept if row["id"].startswith("c")} == {"c000": 50}
    assert all(row["duplicates"] <= 20 for row in result.kept if row["id"].startswith("p"))
    said = result.workspace.read_json("dedup/steps/report/s.json")["verification"]
    assert (said["largest"], said["too_large"], said["too_large_texts"]) == (200, 1, 200)
    assert (said["left_alone"], said["left_alone_texts"]) == (1, 200)
    assert len(result.kept) == 201


@pytest.mark.parametrize("pages_a_block", [1, 60])
def test_the_clusters_are_the_same_however_many_pages_a_task_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages_a_block: int
) -> None:
    pages = [*corpus(), *chain()]
    whole = run(tmp_path / "whole", split(pages, 9))
    monkeypatch.setattr(dedup, "GROUP_SHARDS", 1)
    cut = run(tmp_path / "cut", split(pages, 9), components={"in_memory": pages_a_block})
    assert cut.workspace.list("dedup/steps/join02")
    assert cut.workspace.list("dedup/steps/components") == []
    for one, other in zip(whole.done, cut.done, strict=True):
        assert {name: file.fingerprint for name, file in one.outputs.items()} == {
            name: file.fingerprint for name, file in other.outputs.items()
        }


def test_newest_first_keeps_the_copy_of_the_newest_snapshot(tmp_path: Path) -> None:
    shards = {
        "s1/a": [page("old", text(1), 9, "s1"), page("alone", text(2), 9, "s1")],
        "s2/a": [page("late", text(1), 5, "s2"), page("early", text(1), 3, "s2")],
    }
    result = run(tmp_path, shards, scope="newest-first")
    assert {row["id"]: row["duplicates"] for row in result.kept} == {"alone": 1, "early": 3}
    assert result.kept_ids == {"old": "early", "late": "early"}
    newest = run(tmp_path / "newest", shards, scope="newest-first", keep="newest")
    assert newest.kept_ids == {"old": "late", "early": "late"}


@pytest.mark.parametrize("config", [{}, {"verify": "jaccard", "verify_threshold": 0.7}, {"max_cluster": 5}])
def test_newest_first_an_older_page_takes_no_newer_one_away(tmp_path: Path, config: dict[str, Any]) -> None:
    """Two pages of the newest snapshot are like an older one, and not like each other; one older still is like that one."""
    long = words(8, 200)
    spans = {"s3": [("a", 0), ("b", 48)], "s2": [("between", 24), ("own", 400)], "s1": [("oldest", 23)]}
    shards = {
        f"{snapshot}/a": [
            page(id, text(start) if start == 400 else " ".join(long[start : start + 150]), 1, snapshot)
            for id, start in pages
        ]
        for snapshot, pages in spans.items()
    }
    assert true_jaccard(*(shards["s3/a"][n]["text"] for n in (0, 1))) < 0.51
    bands = {"bands": 40, "rows": 8}  # finds .95 of the pairs at .71, .12 at .51
    everywhere = run(tmp_path / "global", shards, scope="global", minhash=bands, **config)
    assert len(everywhere.kept) == 2
    result = run(tmp_path / "newest", shards, scope="newest-first", minhash=bands, **config)
    assert {row["id"]: row["duplicates"] for row in result.kept} == {"a": 3, "b": 1, "own": 1}
    assert result.kept_ids == {"between": "a", "oldest": "a"}
    assert ("verification" in result.workspace.read_json("dedup/steps/report/global.json")) == bool(config)


def with_numbers(workspace: Workspace, shard: Shard, column: str, values: list[float | None]) -> Shard:
    with workspace.open(shard.file.path) as stream:
        table = pq.read_table(stream)
    name, _, inner = column.partition(".")
    array = pa.array(values, pa.float32())
    made = pa.StructArray.from_arrays([array], names=[inner]) if inner else array
    if name in table.column_names:
        table = table.drop_columns(name)
    with workspace.create(shard.file.path) as output:
        pq.write_table(table.append_column(name, made), output)
    return Shard(shard.key, File(shard.file.path, output.sha256, output.size), shard.rows)


@pytest.mark.parametrize("column", ["quality", "signals.fluency"])
def test_the_page_of_the_highest_quality_stays(tmp_path: Path, column: str) -> None:
    workspace = Workspace(tmp_path)
    pages = [page(id, text(1), n) for n, id in enumerate("abcd")]
    (shard,) = put(workspace, {"s/a": pages})
    shard = with_numbers(workspace, shard, column, [0.1, None, 0.9, 0.9])
    done = run_stage(STAGE, DedupConfig(keep="quality", quality_column=column), [shard], workspace)
    assert [row["id"] for row in Result(workspace, done).kept] == ["c"]


@pytest.mark.parametrize("column", ["grade", "url", "url.x"])
def test_a_quality_that_the_documents_do_not_have_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(UsageError, match=f"'{column}'.*quality_column"):
        run(tmp_path, {"s/a": [page("a", text(1)), page("b", text(1))]}, keep="quality", quality_column=column)
