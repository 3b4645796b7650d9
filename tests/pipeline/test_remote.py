"""Object stores, through fsspec: what fetch and inputs need of them."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curate.pipeline import remote
from curate.pipeline.errors import CurateError, UsageError
from curate.pipeline.fetch import fetch
from curate.pipeline.inputs import find_inputs
from curate.pipeline.recipe import InputConfig
from curate.pipeline.remote import Missing, Retry, described, read_start, retrying

CRAWL = "CC-MAIN-2025-30"
DATA = random.Random(9).randbytes(1_000_000)


@pytest.fixture
def retry() -> Retry:
    return Retry(attempts=4, sleep=lambda seconds: None)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(remote, "STORE_BLOCK", 100_000)
    memory = fsspec.filesystem("memory")
    path = f"crawl-data/{CRAWL}/segments/1/warc/a.warc.gz"
    memory.pipe_file(f"/crawl/{path}", DATA)
    memory.pipe_file(f"/crawl/crawl-data/{CRAWL}/warc.paths.gz", gzip.compress(path.encode()))
    yield memory
    memory.rm("/crawl", recursive=True)


def get(output: Path, retry: Retry) -> list[Path]:
    return fetch(CRAWL, warcs=1, output=output, base_url="memory://crawl", retry=retry)


def test_a_crawl_is_fetched_from_a_store(store: Any, tmp_path: Path, retry: Retry) -> None:
    (found,) = get(tmp_path, retry)
    assert found == tmp_path / CRAWL / "a.warc.gz"
    assert found.read_bytes() == DATA


def test_a_store_that_fails_is_gone_on_with_where_it_ended(
    store: Any, tmp_path: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = MemoryFileSystem.cat_file

    def unsteady(self: Any, path: str, start: int = 0, end: int | None = None, **options: Any) -> bytes:
        if path.endswith("a.warc.gz"):
            asked.append(start)
            if len(asked) in (3, 6):
                raise ConnectionResetError("hush")
            if len(asked) == 8:
                return real(self, path, start, end)[:-1]
        return real(self, path, start, end)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", unsteady)
    (found,) = get(tmp_path, retry)
    assert found.read_bytes() == DATA
    assert asked[:5] == [0, 100_000, 200_000, 200_000, 300_000]
    assert asked.count(0) == 1


def test_a_file_that_changes_in_a_store_is_never_mixed(
    store: Any, tmp_path: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = random.Random(10).randbytes(len(DATA))
    real = MemoryFileSystem.cat_file
    left = [5]

    def changing(self: Any, path: str, start: int = 0, end: int | None = None, **options: Any) -> bytes:
        left[0] -= 1
        if left[0] == 0:
            self.pipe_file(path.replace("warc.paths.gz", "segments/1/warc/a.warc.gz"), other)
        return real(self, path, start, end)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", changing)
    (found,) = get(tmp_path, retry)
    assert found.read_bytes() == other


def test_a_store_that_keeps_failing_is_given_up_in_one_line_without_its_words(
    store: Any, tmp_path: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Any, path: str, **options: Any) -> bytes:
        raise OSError("https://hush?signature=hush")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", broken)
    with pytest.raises(CurateError, match=r"the store failed \(OSError\)") as error:
        get(tmp_path, retry)
    assert "hush" not in str(error.value)


def test_a_store_without_the_crawl_says_so(store: Any, tmp_path: Path, retry: Retry) -> None:
    with pytest.raises(UsageError, match="no crawl 'CC-MAIN-2025-26' with warc files at memory://crawl"):
        fetch("CC-MAIN-2025-26", warcs=1, output=tmp_path, base_url="memory://crawl", retry=retry)


def test_only_the_beginning_of_a_file_is_read(store: Any, retry: Retry) -> None:
    url = f"memory://crawl/crawl-data/{CRAWL}/segments/1/warc/a.warc.gz"
    assert read_start(url, 10, retry) == DATA[:10]
    assert read_start(url, 10**9, retry) == DATA
    with pytest.raises(Missing):
        read_start(url + "x", 10, retry)


def test_the_entity_tag_marks_a_file_before_its_times_do() -> None:
    assert described({"size": 3, "ETag": '"x"', "LastModified": "y"}).mark == '"x"'
    assert described({"size": 3, "type": "directory"}).size is None
    assert described({"size": 0}) == remote.Remote(0, None)


def test_waits_double_up_to_the_longest() -> None:
    waits: list[float] = []

    def fails() -> None:
        raise remote.Interrupted("no")

    with pytest.raises(CurateError, match="x: no"):
        retrying(fails, "x", Retry(attempts=7, backoff=1, longest=8, sleep=waits.append))
    assert len(waits) == 6
    for wait, most in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
        assert most / 2 <= wait <= most


def test_an_address_of_an_unknown_kind_is_bad_usage() -> None:
    with pytest.raises(UsageError, match="no such protocol"):
        read_start("nosuch://x?hush", 1, Retry())


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """An S3 of this machine's own."""
    server_room = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    server = server_room.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(fsspec.config.conf)
    fsspec.config.conf["s3"] = {"key": "x", "secret": "x", "endpoint_url": f"http://{host}:{port}"}
    store = fsspec.filesystem("s3")
    store.mkdir("crawl")
    yield store
    fsspec.config.conf.clear()
    fsspec.config.conf.update(before)
    server.stop()


def test_s3_is_fetched_from_and_listed(s3: Any, tmp_path: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STORE_BLOCK", 300_000)
    path = f"crawl-data/{CRAWL}/segments/1/warc/a.warc.gz"
    s3.pipe_file(f"crawl/{path}", DATA)
    s3.pipe_file(f"crawl/crawl-data/{CRAWL}/warc.paths.gz", gzip.compress(path.encode()))
    (found,) = fetch(CRAWL, warcs=1, output=tmp_path, base_url="s3://crawl", retry=retry)
    assert found.read_bytes() == DATA
    urls = [
        f"s3://crawl/crawl-data/{CRAWL}/segments",
        f"s3://crawl/crawl-data/{CRAWL}/segments/*/warc/*.gz",
        f"s3://crawl/{path}",
    ]
    inputs = [find_inputs([url], InputConfig()) for url in urls]
    assert inputs[0] == inputs[1] == inputs[2]
    assert [(item.key, item.path) for item in inputs[0]] == [(f"{CRAWL}/a", f"s3://crawl/{path}")]


def test_s3_without_the_file_says_so(s3: Any) -> None:
    with pytest.raises(UsageError, match=r"no such input: s3://crawl/none\.warc\.gz is not there"):
        find_inputs(["s3://crawl/none.warc.gz"], InputConfig())
