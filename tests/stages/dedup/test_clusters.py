"""Links, union-find, the keep rule, and files in parts, against plain Python."""

from __future__ import annotations

import io
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.pipeline.stage import Context, Task
from curate.pipeline.workspace import Workspace
from curate.stages.dedup.clusters import Clusters, first_of_all, firsts, keep_order, links
from curate.stages.dedup.columns import parts_of
from curate.stages.dedup.linking import EDGES, write_components
from curate.stages.partitions import PartWriter, read_part

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 30)), max_size=60, unique=True)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_every_bucket_is_linked_to_its_smallest_document(rows: list[tuple[int, int, int]]) -> None:
    table = np.array(rows, np.int64).reshape(-1, 3)
    smallest, others, heads = links(table[:, 0].astype(np.uint64), table[:, 1].astype(np.uint64), table[:, 2])
    buckets = defaultdict(list)
    for key, check, document in rows:
        buckets[key, check].append(document)
    expected = {(min(bucket), other) for bucket in buckets.values() for other in bucket if other != min(bucket)}
    assert sorted(zip(smallest.tolist(), others.tolist(), strict=True)) == sorted(expected)
    firsts_of_buckets = {(key, check, min(bucket)) for (key, check), bucket in buckets.items()}
    assert sorted(rows[head] for head in heads) == sorted(firsts_of_buckets)
    assert [rows[head][0] for head in heads] == sorted(rows[head][0] for head in heads)


def test_a_bucket_of_many_documents_costs_no_more_links_than_documents() -> None:
    count = 200_000
    smallest, others, heads = links(
        np.full(count, 7, np.uint64), np.zeros(count, np.uint64), np.arange(count)[::-1].copy()
    )
    assert len(others) == count - 1
    assert (smallest == 0).all()
    assert heads.tolist() == [count - 1]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.data())
def test_union_find_gives_connected_components_in_any_order(count: int, data: st.DataObject) -> None:
    pair = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    pairs = data.draw(st.lists(pair, max_size=60))
    expected = list(range(count))
    for _ in range(count):  # labels spread until nothing changes
        for one, other in pairs:
            expected[one] = expected[other] = min(expected[one], expected[other])
    for order in (pairs, data.draw(st.permutations(pairs))):
        clusters = Clusters(count)
        edges = np.array(order, np.int64).reshape(-1, 2)
        half = len(edges) // 2
        clusters.join(edges[:half, 0], edges[:half, 1])
        clusters.join(edges[half:, 1], edges[half:, 0])
        assert clusters.labels().tolist() == expected
        assert clusters.clustered().tolist() == [expected.count(label) > 1 for label in expected]


def test_a_long_chain_is_one_cluster() -> None:
    count = 300_000
    clusters = Clusters(count)
    clusters.join(np.arange(count - 1)[::-1].copy(), np.arange(1, count)[::-1].copy())
    assert (clusters.labels() == 0).all()


def test_links_in_several_files_and_pieces_make_the_clusters_of_a_scope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.stages.partitions.GROUP_ROWS", 50)
    workspace, count = Workspace(tmp_path), 1000
    pairs = np.sort(np.random.default_rng(0).integers(0, count, (700, 2)), axis=1)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    files = []
    for number, some in enumerate(np.array_split(pairs, 3)):
        context = Context(Task("dedup", "edges", "", {}, {"edges": f"{number}.parquet"}), None, 0, workspace)
        with context.create("edges") as output, PartWriter(output, EDGES) as writer:
            writer.write(0, pa.table([some[:, 0], some[:, 1]], schema=EDGES))
        files.append(context.written["edges"])
    groups, ends = [0, 1, 2, 3], [10, 400, 400, count]
    params = {"start": 0, "end": count, "groups": groups, "ends": ends}
    task = Task("dedup", "components", "", {"edges": tuple(files)}, {"components": "c"}, params)
    context = Context(task, None, 0, workspace)
    write_components(context)
    _, found = connected_components(coo_array((np.ones(len(pairs)), pairs.T), shape=(count, count)), directed=False)
    labels = [found.tolist().index(label) for label in found]
    clustered = [page for page in range(count) if labels.count(labels[page]) > 1]
    for group, (start, end) in zip(groups, pairwise([0, *ends]), strict=True):
        with workspace.open("c") as stream:
            rows = [row for piece in read_part(stream, group) for row in piece.to_pylist()]
        assert rows == [{"document": n, "label": labels[n]} for n in clustered if start <= n < end]


def page(
    label: int, id: str, date: int | None, length: int = 1, snapshot: str = "s", tie: int = 0
) -> dict[str, object]:
    return {
        "label": label, "id": id, "date": date, "length": length, "snapshot": snapshot,
        "hash_high": 0, "hash_low": 0, "tie": tie,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "expected"),
    [("first", ["b", "x"]), ("longest", ["c", "x"]), ("newest", ["c", "x"])],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_kept_page_is_chosen_by_date_snapshot_and_id(keep: str, expected: list[str], reverse: bool) -> None:
    pages = [
        page(4, "d", 2, 5),
        page(4, "b", 2, 5),
        page(4, "c", 3, 9),
        page(4, "z", 3, 9, "r" if keep != "newest" else "q") | {"id": "zz", "length": 8},
        page(4, "a", None, 5),
        page(9, "x", None),
        page(9, "y", None),
    ]
    table = pa.Table.from_pylist(pages[::-1] if reverse else pages)
    assert firsts(table, keep_order(keep)).column("id").to_pylist() == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40), st.data())
def test_pages_that_come_in_pieces_are_chosen_as_if_they_came_at_once(
    pages: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    table = pa.Table.from_pylist([page(label, str(id), date) for label, date, id in pages])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pages)), max_size=5)))
    pieces = [table[start:end] for start, end in pairwise([0, *cuts, len(pages)])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.stages.dedup.clusters._WAITING_ROWS", data.draw(st.integers(0, 10)))
        found = first_of_all(iter(pieces), table[:0], keep_order("first"))
    expected = [
        min((date, str(id)) for its, date, id in pages if its == label) for label in sorted({p[0] for p in pages})
    ]
    assert list(zip(found.column("date").to_pylist(), found.column("id").to_pylist(), strict=True)) == expected


def test_earlier_snapshots_come_first_and_newest_takes_the_later() -> None:
    table = pa.Table.from_pylist([page(0, "a", 1, snapshot="2024"), page(0, "b", 1, snapshot="2023")])
    assert {keep: firsts(table, keep_order(keep)).column("id").to_pylist() for keep in ("first", "longest", "newest")} == {
        "first": ["b"], "longest": ["b"], "newest": ["a"],
    }  # fmt: skip


def test_the_same_id_twice_is_decided_by_content() -> None:
    pages = [page(0, "a", 1, tie=2**63 + 5), page(0, "a", 1, tie=3)]
    schema = pa.Table.from_pylist(pages[1:]).schema
    schema = schema.set(schema.get_field_index("tie"), pa.field("tie", pa.uint64()))
    for order in (pages, pages[::-1]):
        assert firsts(pa.Table.from_pylist(order, schema=schema), keep_order("first")).column("tie").to_pylist() == [3]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40))
def test_a_part_reads_back_its_rows_in_order(parts: list[int]) -> None:
    sink = io.BytesIO()
    schema = pa.schema([("row", pa.int64())])
    with PartWriter(sink, schema) as writer:
        writer.scatter(pa.table([np.arange(len(parts))], schema=schema), np.array(parts, np.int64))
    for part in range(7):
        found = [row for piece in read_part(sink, part) for row in piece.column("row").to_pylist()]
        assert found == [row for row, its in enumerate(parts) if its == part]


def test_large_parts_are_read_in_pieces_and_must_be_written_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.stages.partitions.GROUP_ROWS", 10)
    sink = io.BytesIO()
    schema = pa.schema([("row", pa.int64())])
    rows = pa.table([np.arange(25)], schema=schema)
    with PartWriter(sink, schema) as writer:
        writer.write(3, rows)
        writer.write(3, rows.slice(0, 1))
        writer.write(5, rows)
        with pytest.raises(ValueError, match="one go"):
            writer.write(3, rows)
    assert [piece.num_rows for piece in read_part(sink, 3)] == [10, 10, 5, 1]
    assert [piece.num_rows for piece in read_part(sink, 5)] == [10, 10, 5]


def test_clusters_of_neighbours_in_pairs_fill_all_parts_alike() -> None:
    sizes = np.bincount(parts_of(np.arange(0, 200_000, 2), 7), minlength=7)
    assert len(sizes) == 7 and sizes.min() > 0.9 * sizes.max()
