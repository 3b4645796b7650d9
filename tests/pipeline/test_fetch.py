"""`curate fetch` against a server that fails in every way that a server can."""

from __future__ import annotations

import errno
import fcntl
import gzip
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crawl_server import (
    CrawlServer,
    Handler,
    answers,
    changes,
    crawl_server,
    drops,
    ignores_range,
    lies,
    resets,
    sends_a_piece,
)

from curate.pipeline import download as download_room
from curate.pipeline.download import Transfer, as_lines, download
from curate.pipeline.errors import CurateError, DiskFull, UsageError
from curate.pipeline.fetch import fetch, file_urls, list_paths
from curate.pipeline.remote import LONGEST_WAIT, Retry, retry_after

CRAWL = "CC-MAIN-2025-30"
NAME = "CC-MAIN-20250707-00000.warc.gz"
DATA = random.Random(7).randbytes(300_000)


@pytest.fixture
def server() -> Iterator[CrawlServer]:
    with crawl_server() as running:
        running.add_crawl(CRAWL, {NAME: DATA, "b.warc.gz": b"second", "c.warc.gz": b"third"})
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def retry(waits: list[float]) -> Retry:
    return Retry(attempts=4, sleep=waits.append)


def path_of(name: str = NAME) -> str:
    return f"/crawl-data/{CRAWL}/segments/1/warc/{name}"


def get(server: CrawlServer, output: Path, retry: Retry, **options: int) -> list[Path]:
    return fetch(CRAWL, **({"warcs": 1} | options), output=output, base_url=server.url, retry=retry)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.rglob("*") if entry.is_file())


def test_the_first_files_of_a_crawl_arrive_under_their_names(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    found = get(server, tmp_path, retry, warcs=2)
    assert found == [tmp_path / CRAWL / NAME, tmp_path / CRAWL / "b.warc.gz"]
    assert [path.read_bytes() for path in found] == [DATA, b"second"]
    assert names(tmp_path) == [NAME, "b.warc.gz"]


def test_a_start_chooses_later_files(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    assert [path.name for path in get(server, tmp_path, retry, warcs=9, start=1)] == ["b.warc.gz", "c.warc.gz"]


def test_the_list_is_given_in_the_crawls_own_order_and_as_urls(server: CrawlServer) -> None:
    paths = list_paths(CRAWL, base_url=server.url)
    assert [path.rpartition("/")[2] for path in paths] == [NAME, "b.warc.gz", "c.warc.gz"]
    assert file_urls(paths, "s3://commoncrawl")[0] == f"s3://commoncrawl{path_of()}"


def test_wet_files_are_another_list(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.add_crawl(CRAWL, {"a.warc.wet.gz": b"text"}, kind="wet")
    (found,) = fetch(CRAWL, warcs=1, kind="wet", output=tmp_path, base_url=server.url, retry=retry)
    assert found.read_bytes() == b"text"


def test_a_dropped_connection_is_gone_on_with_where_it_ended(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.faults[path_of()] = [drops(100_000), drops(50_000)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA
    asked = server.requests(NAME)
    assert [headers.get("Range") for headers in asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert asked[1]["If-Range"].startswith('"')


def test_a_reset_connection_is_tried_again(
    server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float]
) -> None:
    server.faults[path_of()] = [resets, resets]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA
    assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2


def test_retry_after_is_honoured(server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float]) -> None:
    server.faults[path_of()] = [answers(503, Retry_After="7"), answers(429, Retry_After="3"), answers(500)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA
    assert waits[:2] == [7, 3]
    assert 2 <= waits[2] <= 4


def test_no_server_can_make_us_wait_for_days(
    server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float]
) -> None:
    server.faults[path_of()] = [answers(503, Retry_After="999999")]
    get(server, tmp_path, retry)
    assert waits == [LONGEST_WAIT]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("120", 120),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 20),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("1e9", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_as_in_rfc_9110(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, now=100.0) == seconds


def test_a_server_that_ignores_ranges_is_read_from_the_beginning(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    server.faults[path_of()] = [drops(100_000), ignores_range()]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA


def test_a_server_that_always_drops_and_ignores_ranges_is_given_up(
    server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float]
) -> None:
    server.files[path_of()] = DATA * 10
    server.faults[path_of()] = [ignores_range(only=2_000_000) for _ in range(20)]
    with pytest.raises(CurateError, match=r"dropped after 2,000,000 of 3,000,000 bytes"):
        get(server, tmp_path, retry)
    assert len(waits) < 8
    assert names(tmp_path) == [f".{NAME}.part.json", f"{NAME}.part"]


def test_tries_are_counted_anew_while_the_file_grows(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.files[path_of()] = DATA * 40
    server.faults[path_of()] = [drops(1_200_000) for _ in range(9)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA * 40


def test_a_file_that_changes_between_two_tries_is_never_mixed(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    other = random.Random(8).randbytes(250_000)
    server.faults[path_of()] = [drops(100_000), changes(other)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == other


@pytest.mark.parametrize("length", [len(DATA), len(DATA) - 7])
def test_a_changed_file_is_seen_even_if_the_server_ignores_if_range(
    server: CrawlServer, tmp_path: Path, retry: Retry, length: int
) -> None:
    other = random.Random(8).randbytes(length)

    def changes_but_sends_the_range(handler: Handler, path: str) -> bool:
        del handler.headers["If-Range"]
        return changes(other)(handler, path)

    server.faults[path_of()] = [drops(100_000), changes_but_sends_the_range]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == other


def test_a_server_that_sends_only_pieces_is_asked_for_the_rest(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    server.faults[path_of()] = [drops(100_000), sends_a_piece(50_000)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA
    assert server.requests(NAME)[-1]["Range"] == "bytes=150000-"


def test_a_server_without_entity_tags_is_read_from_the_beginning(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    server.marks = False
    server.faults[path_of()] = [drops(100_000)]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA
    assert [headers.get("Range") for headers in server.requests(NAME)] == [None, None]


def test_a_length_that_is_never_reached_is_an_error_and_no_file(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    server.faults[path_of()] = [lies(len(DATA) + 5)] + [answers(416, Content_Range=f"bytes */{len(DATA) + 5}")] * 9
    with pytest.raises(CurateError, match="tries got no further"):
        get(server, tmp_path, retry)
    assert not (tmp_path / CRAWL / NAME).exists()


def test_a_file_without_a_known_length_or_end_is_refused(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    def endless(handler: Handler, path: str) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome bytes")
        handler.close_connection = True
        return True

    server.faults[path_of()] = [endless]
    with pytest.raises(CurateError, match="does not say how long"):
        get(server, tmp_path, retry)
    assert not (tmp_path / CRAWL / NAME).exists()


def test_a_chunked_answer_has_a_known_end(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    def chunked(end: bytes) -> Callable[[Handler, str], bool]:
        def fault(handler: Handler, path: str) -> bool:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n" + end)
            handler.close_connection = True
            return True

        return fault

    server.faults[path_of()] = [chunked(b"4\r\nso"), chunked(b"0\r\n\r\n")]
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == b"some"


def test_an_empty_file_is_a_file(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.files[path_of()] = b""
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == b""


def test_a_missing_file_is_said_at_once(server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float]) -> None:
    del server.files[path_of()]
    with pytest.raises(CurateError, match=r"is not there \(the server answered 404\)"):
        get(server, tmp_path, retry)
    assert waits == []


def test_a_second_call_gets_nothing_again(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    get(server, tmp_path, retry)
    get(server, tmp_path, retry)
    assert len(server.requests(NAME)) == 1


def test_a_file_that_was_cut_short_under_its_final_name_is_fetched_anew(
    server: CrawlServer, tmp_path: Path, retry: Retry
) -> None:
    (found,) = get(server, tmp_path, retry)
    found.write_bytes(DATA[:-1])
    get(server, tmp_path, retry)
    assert found.read_bytes() == DATA


def test_a_later_process_goes_on_from_the_part_that_is_there(server: CrawlServer, tmp_path: Path) -> None:
    server.faults[path_of()] = [drops(200_000)]
    with pytest.raises(CurateError, match="run again later"):
        get(server, tmp_path, Retry(attempts=1))
    assert (tmp_path / CRAWL / f"{NAME}.part").read_bytes() == DATA[:200_000]
    (found,) = get(server, tmp_path, Retry(attempts=1))
    assert found.read_bytes() == DATA
    assert server.requests(NAME)[-1]["Range"] == "bytes=200000-"
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("note", [None, b"", b"[1]", b'{"mark": 3, "total": "x"}', b"\xff"])
def test_a_part_that_nothing_vouches_for_is_thrown_away(
    server: CrawlServer, tmp_path: Path, retry: Retry, note: bytes | None
) -> None:
    folder = tmp_path / CRAWL
    folder.mkdir()
    (folder / f"{NAME}.part").write_bytes(b"garbage")
    if note is not None:
        (folder / f".{NAME}.part.json").write_bytes(note)
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA


def test_a_part_that_is_whole_already_only_needs_its_name(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.faults[path_of()] = [drops(200_000)]
    with pytest.raises(CurateError):
        get(server, tmp_path, Retry(attempts=1))
    (tmp_path / CRAWL / f"{NAME}.part").write_bytes(DATA)
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA


def test_a_part_longer_than_the_file_is_thrown_away(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.faults[path_of()] = [drops(200_000)]
    with pytest.raises(CurateError):
        get(server, tmp_path, Retry(attempts=1))
    (tmp_path / CRAWL / f"{NAME}.part").write_bytes(DATA + b"more")
    (found,) = get(server, tmp_path, retry)
    assert found.read_bytes() == DATA


def test_two_processes_never_write_one_part(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    (tmp_path / CRAWL).mkdir()
    with (tmp_path / CRAWL / f"{NAME}.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(CurateError, match="another process"):
            get(server, tmp_path, retry)


def test_a_full_disk_stops_at_once(
    server: CrawlServer, tmp_path: Path, retry: Retry, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download_room.Part, "write", full)
    with pytest.raises(DiskFull, match="no space left"):
        get(server, tmp_path, retry)
    assert waits == []


@pytest.mark.parametrize(
    "line",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "crawl-data/../../x.warc.gz",
        "a/..",
        "a//b.warc.gz",
        "a/b.warc.gz?x=1",
        "https://elsewhere.invalid/x.warc.gz",
        "a\\..\\b",
        "a/.hidden",
        "a/%2e%2e/b",
        "a/b\x00.gz",
        "a/-rf",
        "a/" + "b" * 300,
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(
    server: CrawlServer, tmp_path: Path, retry: Retry, line: str
) -> None:
    server.files[f"/crawl-data/{CRAWL}/warc.paths.gz"] = gzip.compress(f"a/b.warc.gz\n{line}\n".encode())
    with pytest.raises(CurateError, match="line 2: not a plain path"):
        get(server, tmp_path / "out", retry)
    assert names(tmp_path) == []


def test_two_listed_files_of_one_name_are_refused(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.files[f"/crawl-data/{CRAWL}/warc.paths.gz"] = gzip.compress(b"a/x.warc.gz\nb/x.warc.gz\n")
    with pytest.raises(CurateError, match=r"two files alike: x\.warc\.gz"):
        get(server, tmp_path, retry, warcs=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"<html>hello", "not a gzip"), (gzip.compress(b"a/b.warc.gz\n" * 99)[:-9], "in the middle")],
)
def test_a_list_that_is_none_is_said(
    server: CrawlServer, tmp_path: Path, retry: Retry, content: bytes, message: str
) -> None:
    server.files[f"/crawl-data/{CRAWL}/warc.paths.gz"] = content
    with pytest.raises(CurateError, match=message):
        get(server, tmp_path, retry)


def test_a_list_that_unpacks_without_end_is_refused(
    server: CrawlServer, tmp_path: Path, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.pipeline.fetch.LIST_PATHS", 10)
    server.files[f"/crawl-data/{CRAWL}/warc.paths.gz"] = gzip.compress(b"\0" * 10_000_000)
    with pytest.raises(CurateError, match="too long"):
        get(server, tmp_path, retry)


@pytest.mark.parametrize(
    ("crawl", "options", "message"),
    [
        ("CC-MAIN-1999-01", {}, "no crawl 'CC-MAIN-1999-01' with warc files"),
        ("../x", {}, "not the name of a crawl"),
        (CRAWL, {"kind": "wat"}, "no files of kind 'wat'"),
        (CRAWL, {"warcs": 0}, "at least 1"),
        (CRAWL, {"start": 3}, "has 3 warc files: there is none from number 3 on"),
    ],
)
def test_bad_usage_is_one_clear_line(
    server: CrawlServer, tmp_path: Path, retry: Retry, crawl: str, options: dict[str, object], message: str
) -> None:
    arguments = {"warcs": 1, "output": tmp_path, "base_url": server.url, "retry": retry} | options
    with pytest.raises(UsageError) as error:
        fetch(crawl, **arguments)  # type: ignore[arg-type]
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_no_message_holds_a_query_or_a_password(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.files["/x.warc.gz"] = DATA
    server.faults["/x.warc.gz"] = [resets] * 2 + [answers(503)] * 2
    notes: list[Transfer] = []
    url = server.url.replace("://", "://me:hush@") + "x.warc.gz?signature=hush"
    with pytest.raises(CurateError) as error:
        download(url, tmp_path / "x.warc.gz", retry=retry, progress=notes.append)
    assert "x.warc.gz" in str(error.value)
    assert "hush" not in f"{error.value} {notes}"


def test_a_server_that_is_not_there_is_said_in_one_line(tmp_path: Path, retry: Retry) -> None:
    with crawl_server() as gone:
        url = gone.url
    with pytest.raises(CurateError, match="cannot connect") as error:
        fetch(CRAWL, warcs=1, output=tmp_path, base_url=url, retry=retry)
    assert "\n" not in str(error.value)


def test_progress_tells_bytes_and_why_it_waits(server: CrawlServer, tmp_path: Path, retry: Retry) -> None:
    server.faults[path_of()] = [drops(100_000)]
    seen: list[Transfer] = []
    fetch(CRAWL, warcs=1, output=tmp_path, base_url=server.url, retry=retry, progress=seen.append)
    assert seen[-1] == Transfer(NAME, len(DATA), len(DATA))
    (note,) = [transfer for transfer in seen if transfer.note]
    assert (note.received, note.total) == (100_000, len(DATA))
    assert note.note.startswith("the connection was dropped after 100,000 of 300,000 bytes; trying again in ")


def test_progress_as_lines_says_each_tenth_once_and_every_note() -> None:
    lines: list[str] = []
    show = as_lines(lines.append)
    for received in range(0, 100_000_001, 1_000_000):
        show(Transfer("a.warc.gz", received, 100_000_000))
    assert len(lines) == 10
    assert lines[0] == "a.warc.gz: 10.0 of 100.0 MB"
    show(Transfer("a.warc.gz", 5_000_000, None, "the connection was dropped; trying again in 2 s"))
    assert lines[-1] == "a.warc.gz: 5.0 MB, the connection was dropped; trying again in 2 s"
