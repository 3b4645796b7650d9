"""Clusters found in rounds over files are the connected components that SciPy finds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from curate.pipeline.errors import Incomplete
from curate.pipeline.stage import Context, Done, Planning, Task, load
from curate.pipeline.workspace import Workspace
from curate.stages.dedup import stage as dedup
from curate.stages.dedup.config import DedupConfig
from curate.stages.dedup.linking import EDGES
from curate.stages.partitions import PartWriter

CONTRACTION = [step for step in dedup.STAGE.steps if step.name.startswith(("join", "spread", "stars"))]
NOTHING = {"records": 0, "kept": 0}


def components(folder: Path, shards: list[int], pairs: list[tuple[int, int]], in_memory: int) -> tuple[list[int], int]:
    """By page the smallest of its cluster, and the rounds that it took; `shards` are the pages of each."""
    workspace = Workspace(folder)
    config = DedupConfig(components={"in_memory": in_memory})
    signed = tuple(Done(f"s/{n}", {}, {"records": count, "kept": count}, {}) for n, count in enumerate(shards))
    before: dict[str, tuple[Done, ...]] = {"signatures": signed}

    def planning(step: str) -> Planning:
        return Planning("dedup", step, config, 0, (), before)

    (scope,) = dedup.scopes(planning("bands"))
    edges = np.sort(np.array(pairs, np.int64).reshape(-1, 2), axis=1)
    edges = edges[edges[:, 0] < edges[:, 1]]
    starts = [block.start for block in scope.blocks]
    made = []
    for name in [*(f"links{group.number}" for group in scope.groups), "edges"]:
        its = edges if name == "edges" else edges[:0]
        task = Task("dedup", "edges", name, {}, {name: f"{name}.parquet"})
        context = Context(task, config, 0, workspace)
        with context.create(name) as output, PartWriter(output, EDGES) as writer:
            blocks = np.searchsorted(starts, its[:, 1], side="right") - 1
            writer.scatter(pa.table([its[:, 0], its[:, 1]], schema=EDGES), blocks)
        made.append(context.written[name])
    before["bands"] = tuple(
        Done(group.key, {"links": file}, NOTHING, {}) for group, file in zip(scope.groups, made, strict=False)
    )
    before["edges"] = (Done("s/00000", {"edges": made[-1]}, NOTHING, {}),)
    rounds = 0
    for step in CONTRACTION:
        done = []
        for task in step.plan(planning(step.name)):
            context = Context(task, config, 0, workspace)
            done.append(Done(task.key, context.written, load(step.run)(context).to_json(), task.params))
        before[step.name] = tuple(done)
        rounds += bool(done) and step.name.startswith("join")
    labels = list(range(sum(shards)))
    listed = []
    for block in before["stars"]:
        with workspace.open(block.outputs["components"].path) as stream:
            for row in pq.read_table(stream).to_pylist():
                labels[row["document"]] = row["label"]
                listed.append(row["document"])
    assert sorted(set(listed)) == sorted(listed) == [n for n in range(len(labels)) if labels.count(labels[n]) > 1]
    return labels, rounds


def of_scipy(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    _, found = connected_components(coo_array((np.ones(len(one)), (one, other)), shape=(count, count)), directed=False)
    return [found.tolist().index(label) for label in found]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.data())
def test_rounds_over_files_find_connected_components(shards: list[int], data: st.DataObject) -> None:
    count = sum(shards)
    page = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(page, page), max_size=2 * count))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(dedup, "GROUP_SHARDS", 1)
        patch.setattr("curate.stages.dedup.contraction._AT_A_TIME", data.draw(st.integers(1, 5)))
        patch.setattr("curate.stages.partitions.GROUP_ROWS", data.draw(st.integers(1, 5)))
        in_memory = data.draw(st.integers(1, count - 1))
        assert components(Path(folder), shards, pairs, in_memory)[0] == of_scipy(count, pairs)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        # each block links all of its own pages to the smallest
        ([(1, 2), (2, 3), (1, 2), (1, 12), (11, 12), (10, 11), (24, 25), (23, 25)], 1),
        # the last block alone knows that 0 and 10 are linked, the one before that 1 and 10 are
        ([(1, 10), (0, 20), (10, 20)], 3),
    ],
)
def test_rounds_end_when_every_page_is_linked_to_one_that_is_the_smallest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[int, int]], expected: int
) -> None:
    monkeypatch.setattr(dedup, "GROUP_SHARDS", 1)
    assert components(tmp_path, [10, 10, 10], pairs, 10) == (of_scipy(30, pairs), expected)


@pytest.mark.parametrize("order", ["as they are", "shuffled", "from both ends"])
def test_a_long_path_takes_few_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    monkeypatch.setattr(dedup, "GROUP_SHARDS", 1)
    pages = np.arange(600)
    if order == "shuffled":
        np.random.default_rng(0).shuffle(pages)
    elif order == "from both ends":
        pages = np.column_stack([pages[:300], pages[:299:-1]]).reshape(-1)
    pairs = list(zip(pages[:-1].tolist(), pages[1:].tolist(), strict=True))
    labels, rounds = components(tmp_path, [50] * 12, pairs, 50)
    assert labels == [0] * 600
    assert rounds <= 8


def test_too_many_rounds_are_an_error_that_says_what_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "GROUP_SHARDS", 1)
    monkeypatch.setattr(dedup, "ROUNDS", 2)
    pages = np.random.default_rng(0).permutation(60)
    pairs = list(zip(pages[:-1].tolist(), pages[1:].tolist(), strict=True))
    with pytest.raises(Incomplete, match=r"components\.in_memory"):
        components(tmp_path, [5] * 12, pairs, 5)
