"""A workspace on an object store (a local S3 of moto's): the same bytes, the same resume, the same refusal."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest

from curate.pipeline.workspace import Workspace

DATA = ("cut/docs", "cut/ledger", "count/docs", "count/ledger")
DRIVER = str(faults.TESTS / "toy_driver.py")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    store = s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
    store.mkdir("curate-runs")
    yield "s3://curate-runs/w"
    server.stop()


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    folder.mkdir()
    choose = random.Random(7)
    for shard in range(3):
        lines = [" ".join(choose.choices(["a", "b", "c", "d"], k=5)) for _ in range(30)]
        (folder / f"part-{shard}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_a_run_on_an_object_store_gives_the_bytes_of_a_local_one_and_resumes(
    bucket: str, inputs: Path, tmp_path: Path
) -> None:
    code, _, err = faults.run([DRIVER, bucket, str(inputs)])
    assert code == 0, err
    code, _, err = faults.run([DRIVER, str(tmp_path / "w"), str(inputs)])
    assert code == 0, err
    remote, local = Workspace(bucket), Workspace(tmp_path / "w")
    names = [name for folder in DATA for name in local.list(folder)]
    assert names == [name for folder in DATA for name in remote.list(folder)]
    assert len(names) == 12
    for name in names:
        with remote.open(name) as ours, local.open(name) as theirs:
            assert ours.read() == theirs.read(), name

    code, out, err = faults.run([DRIVER, bucket, str(inputs)])
    assert code == 0, err
    assert all(event["reused"] == event["tasks"] for event in faults.events(out, "stage_finished"))
