"""Files appear under their final name only when whole, locally and on object stores; secrets never appear."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import faults
import pyarrow.parquet as pq
import pytest

from curate.pipeline.documents import DOCUMENT, TableWriter, read_batches
from curate.pipeline.errors import WorkspaceLocked
from curate.pipeline.lock import driver_lock, holds
from curate.pipeline.workspace import Workspace, redact, redact_text


@pytest.fixture(params=["local", "memory"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w" if request.param == "local" else f"memory://{tmp_path.name}")


def test_a_file_appears_only_when_it_is_whole(workspace: Workspace) -> None:
    with workspace.create("a/b.bin") as output:
        output.write(b"x" * 1000)
        assert not workspace.exists("a/b.bin")
        assert workspace.list("a") == []
    assert workspace.list("a") == ["a/b.bin"]
    assert output.size == workspace.size("a/b.bin") == 1000
    assert output.sha256 == hashlib.sha256(b"x" * 1000).hexdigest()


def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(workspace: Workspace) -> None:
    workspace.write_bytes("a", b"old")
    with pytest.raises(ValueError, match="stop"), workspace.create("a") as output:
        output.write(b"new")
        raise ValueError("stop")
    with workspace.open("a") as stream:
        assert stream.read() == b"old"
    assert workspace.temporaries() == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "a\0b"])
def test_a_name_that_leads_out_of_the_workspace_is_refused(workspace: Workspace, name: str) -> None:
    with pytest.raises(ValueError, match="not a name inside"):
        workspace.path(name)


def test_a_parquet_file_interrupted_by_an_error_never_appears(workspace: Workspace) -> None:
    with pytest.raises(RuntimeError), workspace.create("t.parquet") as sink, TableWriter(sink, DOCUMENT) as table:
        table.write_rows([{"id": str(number), "text": "x" * 100} for number in range(3000)])
        raise RuntimeError
    assert workspace.list("") == [] or not workspace.exists("t.parquet")


def test_rows_come_back_in_order_in_bounded_batches(workspace: Workspace) -> None:
    with workspace.create("t.parquet") as sink, TableWriter(sink, DOCUMENT) as table:
        for start in range(0, 5000, 700):
            table.write_rows([{"id": str(number)} for number in range(start, min(start + 700, 5000))])
    with workspace.open("t.parquet") as stream:
        batches = list(read_batches(stream, ["id"]))
    assert max(batch.num_rows for batch in batches) <= 1000
    assert [value for batch in batches for value in batch.column("id").to_pylist()] == [str(n) for n in range(5000)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host/a.gz?X-Amz-Signature=abc#x", "https://host/a.gz"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("/local/path?x", "/local/path?x"),
        ("https://host?token=1", "https://host"),
    ],
)
def test_credentials_and_query_strings_are_taken_out(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_a_message_with_a_signed_url_shows_no_secret() -> None:
    said = redact_text("403, message='Forbidden', url='https://me:pw@host/a.warc.gz?sig=SECRET' (try again)")
    assert said == "403, message='Forbidden', url='https://host/a.warc.gz' (try again)"


def test_a_second_driver_is_refused_while_the_first_holds_the_lock(workspace: Workspace) -> None:
    with driver_lock(workspace) as token:
        assert holds(workspace, token)
        with pytest.raises(WorkspaceLocked, match="in use by process"), driver_lock(workspace):
            pass
        assert holds(workspace, token)
    with driver_lock(workspace) as other:
        assert other != token
        assert not holds(workspace, token)


def test_the_lock_of_a_killed_driver_is_taken_over_at_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    code = (
        "import sys, time; from curate.pipeline.lock import driver_lock; from curate.pipeline.workspace import Workspace\n"
        "with driver_lock(Workspace(sys.argv[1])):\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    faults.wait_until(lambda: (tmp_path / "lock.json").exists())
    with pytest.raises(WorkspaceLocked), driver_lock(workspace):
        pass
    process.kill()
    process.wait()
    with driver_lock(workspace) as token:
        assert holds(workspace, token)


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def test_a_full_disk_stops_the_run_with_a_clear_error_and_no_half_file(engine: str, tmp_path: Path) -> None:
    """On Ray with a private instance, for a cluster that is there already would not see the small disk."""
    mount = tmp_path / "small"
    mount.mkdir()
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for shard in range(4):  # incompressible, so that the output is as large as the input
        words = "\n".join(hashlib.sha256(f"{shard} {line}".encode()).hexdigest() for line in range(20_000))
        (inputs / f"part-{shard}.txt").write_text(words + "\n")
    script = (
        f"mount -t tmpfs -o size=1500k tmpfs {mount} || exit 77\n"
        f"PYTHONPATH={faults.TESTS} {faults.sys.executable} {faults.TESTS}/toy_driver.py {mount}/w {inputs} --engine {engine}\n"
        f"code=$?\ncp -r {mount}/w {tmp_path}/after\nexit $code"
    )
    for flags in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        done = subprocess.run(["unshare", *flags, "sh", "-c", script], capture_output=True, text=True, check=False)
        if done.returncode == 4:
            break
    else:
        if "unshare" in done.stderr or done.returncode == 77:
            pytest.skip("cannot mount a small disk here: needs root or user namespaces")
    assert done.returncode == 4, done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    finished = [path for path in (tmp_path / "after").rglob("*.parquet") if not path.name.startswith(".")]
    for path in finished:  # what stands under a final name is whole
        assert pq.read_table(path).num_rows > 0
    assert len(finished) < 8
