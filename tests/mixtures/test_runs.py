"""Tables of runs: Parquet, CSV, RegMix's pair of files."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.mixtures.runs import Runs, read_runs, write_runs
from curate.pipeline.errors import UsageError
from curate.pipeline.workspace import Workspace

RUNS = Runs(
    ("web", "code/py"),
    np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]),
    ("loss/web", "loss/code/py", "task/arc", "accuracy/arc"),
    np.array([[3.0, 2.0, 1.5, 0.3], [2.5, np.nan, 1.25, 0.4], [2.75, 2.5, np.nan, np.nan]]),
    ("a", "b", "prior-0"),
    ("design", "design", "replicate"),
    (0, 0, 7),
)


def same(one: Runs, other: Runs) -> bool:
    names = ("domains", "tasks", "names", "kinds", "seeds")
    return (
        all(getattr(one, name) == getattr(other, name) for name in names)
        and np.allclose(one.weights, other.weights, atol=1e-15)
        and np.array_equal(one.losses, other.losses, equal_nan=True)
    )


def test_runs_come_back_as_they_were_written(tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    with work.create("swarm/results.parquet") as output:
        write_runs(output, RUNS, tokens=[5, 5, 5], diverged=[None, None, None])
    assert same(read_runs(tmp_path / "swarm" / "results.parquet"), RUNS)
    with work.open("swarm/results.parquet") as stream:
        assert same(read_runs(stream), RUNS)
    table = pq.read_table(tmp_path / "swarm" / "results.parquet")
    assert table.column_names[:5] == ["run", "kind", "seed", "tokens", "diverged"]
    assert table.column("loss/code/py").null_count == 1


def test_equal_runs_are_equal_bytes() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    write_runs(first, RUNS)
    write_runs(second, RUNS)
    assert first.getvalue() == second.getvalue()


def test_csv_with_the_same_header_reads_alike(tmp_path: Path) -> None:
    header = "run,kind,seed,weight/web,weight/code/py,loss/web,loss/code/py,task/arc,accuracy/arc"
    rows = ["a,design,0,.25,.75,3,2,1.5,.3", "b,design,0,1,0,2.5,,1.25,.4", "prior-0,replicate,7,.5,.5,2.75,2.5,,"]
    (tmp_path / "runs.csv").write_text("\ufeff" + "\r\n".join([header, *rows, ""]))
    assert same(read_runs(tmp_path / "runs.csv"), RUNS)


def test_a_table_needs_no_more_than_shares_and_losses(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("weight/a,weight/b,loss/a\n.5,.5,1\n")
    runs = read_runs(tmp_path / "runs.csv")
    assert (runs.names, runs.kinds, runs.seeds) == (("0",), ("design",), (0,))


def test_regmixs_two_files_are_joined_by_index(tmp_path: Path) -> None:
    (tmp_path / "mixture.csv").write_text("index,train_arxiv,train_web\n1,0.3,0.699\n2,1,0\n")
    (tmp_path / "loss.csv").write_text("index,metric/arxiv_val_loss,metric/web_val_loss\n2,4,5\n1,2,3\n")
    runs = read_runs(tmp_path / "mixture.csv", tmp_path / "loss.csv")
    assert runs.domains == ("arxiv", "web") and runs.tasks == ("loss/arxiv", "loss/web")
    assert runs.names == ("1", "2")
    np.testing.assert_array_equal(runs.losses, [[2, 3], [4, 5]])
    np.testing.assert_allclose(runs.weights.sum(axis=1), 1)


def test_a_run_that_diverged_measured_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("diverged,weight/a,loss/a\n17,1,inf\n,1,2\nFalse,1,3\n0,1,4\nTrue,1,5\n")
    losses = read_runs(tmp_path / "runs.csv").losses[:, 0]
    np.testing.assert_array_equal(losses, [np.nan, 2, 3, 4, np.nan])


def test_measures_and_kinds_are_chosen_by_name() -> None:
    assert RUNS.select("loss").tasks == ("loss/web", "loss/code/py")
    assert RUNS.select("task/arc").losses.shape == (3, 1)
    assert RUNS.where("replicate").names == ("prior-0",)
    with pytest.raises(UsageError, match="did you mean 'task'"):
        RUNS.select("tasks")
    with pytest.raises(UsageError, match="did you mean 'replicate'"):
        RUNS.where("replicates")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no runs"),
        ("run,weight/a,loss/a\n", "no runs"),
        ("a,b\n1,2\n", "no column weight/<domain>"),
        ("weight/a\n1\n", "no column of losses.*second file"),
        ("weight/a,weight/b,loss/a\n.5,.4,1\n", r"shares of run 0 sum to 0\.9"),
        ("weight/a,weight/b,loss/a\n1.5,-.5,1\n", "negative"),
        ("run,weight/a,loss/a\nx,,1\n", "run x has shares that are empty"),
        ("run,weight/a,loss/a\nx,1,many\n", "column loss/a, run x: 'many' is no number"),
        ("run,weight/a,loss/a\nx,1,inf\n", "loss/a of run x is infinite"),
        ("weight/a,loss/a\n1,2,3\n", "line 2: 3 cells, the header has 2"),
        ("weight/a,weight/a,loss/a\n1,2,3\n", "two columns of one name"),
        ("kind,weight/a,loss/a\nother,1,3\n", "'other' is not design or replicate"),
    ],
)
def test_what_is_amiss_is_said(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UsageError, match=told):
        read_runs(tmp_path / "runs.csv")


@pytest.mark.parametrize(
    ("mixture", "loss", "told"),
    [
        ("index,train_a\n1,1\n", "run,metric/a_val_loss\n1,2\n", "no column `index` or `run` in common"),
        ("index,train_a\n1,1\n", "index,metric/a_val_loss\n3,2\n", "has no row with index 1"),
        ("index,train_a\n1,1\n1,1\n", "index,metric/a_val_loss\n1,2\n", "index has a value twice"),
    ],
)
def test_files_that_do_not_fit_together_are_errors(tmp_path: Path, mixture: str, loss: str, told: str) -> None:
    (tmp_path / "mixture.csv").write_text(mixture)
    (tmp_path / "loss.csv").write_text(loss)
    with pytest.raises(UsageError, match=told):
        read_runs(tmp_path / "mixture.csv", tmp_path / "loss.csv")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_runs(tmp_path / "none.csv")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.binary(max_size=60).map(lambda data: b"PAR1" + data), st.text().map(str.encode)
    )
)
def test_bytes_that_are_no_table_are_an_error(data: bytes) -> None:
    with pytest.raises(UsageError):
        read_runs(io.BytesIO(data))


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=8), st.integers(0, 10_000))
def test_damaged_parquet_is_an_error_or_runs(data: bytes, place: int) -> None:
    output = io.BytesIO()
    write_runs(output, RUNS)
    whole = bytearray(output.getvalue())
    place = 4 + place % (len(whole) - 4)
    whole[place : place + len(data)] = data
    with contextlib.suppress(UsageError):
        read_runs(io.BytesIO(bytes(whole)))
