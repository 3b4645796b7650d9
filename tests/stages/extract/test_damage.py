"""Damaged WARC files: every other record comes through, and the ledger has one row for each bad stretch."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from archive import good, http, members, page, warc
from hypothesis import given
from hypothesis import strategies as st

from curate.stages.extract.warc import Damage, RawRecord, read_warc

NAMES = ["a", "b", "c", "d"]
PLAIN = [good(name) for name in NAMES]
PACKED = members(*PLAIN)


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def long_page(name: str, size: int = 30_000) -> bytes:
    return warc(name, http(page(noise(size).hex())))


def test_a_whole_file_gives_every_record_with_its_offset(shelf: Any) -> None:
    for data, parts in ((b"".join(PLAIN), PLAIN), (b"".join(PACKED), PACKED)):
        result = shelf.extract(data)
        assert result.kept == NAMES and not result.lost
        assert [row["offset"] for row in result.documents] == [sum(map(len, parts[:n])) for n in range(4)]


def test_many_records_in_one_gzip_member_come_through(shelf: Any) -> None:
    assert shelf.extract(gzip.compress(b"".join(PLAIN))).kept == NAMES


def test_members_cut_at_any_place_are_read_on(shelf: Any) -> None:
    data = b"".join(PLAIN)
    assert shelf.extract(b"".join(members(*(data[n : n + 100] for n in range(0, len(data), 100))))).kept == NAMES


def test_zstd_files_come_through(shelf: Any) -> None:
    assert shelf.extract(b"".join(zstandard.compress(record) for record in PLAIN), "crawl.warc.zst").kept == NAMES


def test_a_truncated_gzip_file_loses_its_last_record_alone(shelf: Any) -> None:
    result = shelf.extract(b"".join(PACKED)[:-40], "crawl.warc.gz")
    assert result.kept == ["a", "b", "c"]
    assert result.lost == [("truncated_file", "d")]
    assert result.ledger[0]["offset"] == sum(map(len, PACKED[:3]))
    assert result.ledger[0]["outcome"] == "quarantined"


def test_a_truncated_plain_file_loses_its_last_record_alone(shelf: Any) -> None:
    result = shelf.extract(b"".join(PLAIN)[:-40])
    assert (result.kept, result.lost) == (["a", "b", "c"], [("truncated_file", "d")])


def test_a_member_cut_off_in_the_middle_of_a_file_loses_one_record(shelf: Any) -> None:
    result = shelf.extract(PACKED[0] + PACKED[1][:-60] + PACKED[2] + PACKED[3])
    assert (result.kept, result.lost) == (["a", "c", "d"], [("corrupt_gzip", "b")])


@pytest.mark.parametrize("where", ["before", "between", "after"])
def test_garbage_between_members_is_one_row_with_its_place(shelf: Any, where: str) -> None:
    place = {"before": 0, "between": 2, "after": 4}[where]
    result = shelf.extract(b"".join([*PACKED[:place], noise(5000), *PACKED[place:]]), "crawl.warc.gz")
    assert (result.kept, result.lost) == (NAMES, [("garbage", None)])
    assert result.ledger[0]["offset"] == sum(map(len, PACKED[:place]))


def test_a_member_of_garbage_is_one_row(shelf: Any) -> None:
    result = shelf.extract(b"".join([*PACKED[:2], gzip.compress(noise(5000)), *PACKED[2:]]))
    assert (result.kept, result.lost) == (NAMES, [("garbage", None)])


def test_a_flipped_byte_in_a_member_loses_that_record_alone(shelf: Any) -> None:
    bad = bytearray(members(long_page("b"))[0])
    bad[len(bad) // 2] ^= 0x55
    result = shelf.extract(b"".join([PACKED[0], bytes(bad), *PACKED[2:]]))
    assert (result.kept, result.lost) == (["a", "c", "d"], [("corrupt_gzip", "b")])


@pytest.mark.parametrize("length", [60, 100_000, 10**14, 10**15, -5, "1e3", "", "9" * 5000, "0x20"])
@pytest.mark.parametrize("packing", ["plain", "members", "one member"])
def test_a_wrong_content_length_loses_that_record_alone(shelf: Any, length: object, packing: str) -> None:
    records = [PLAIN[0], warc("b", http(page(noise(500).hex())), length=length), *PLAIN[2:]]
    data = {
        "plain": b"".join(records),
        "members": b"".join(members(*records)),
        "one member": gzip.compress(b"".join(records)),
    }
    result = shelf.extract(data[packing])
    reason = "wrong_length" if isinstance(length, int) and 0 < length < 10**15 else "bad_header"
    assert (result.kept, result.lost) == (["a", "c", "d"], [(reason, "b")])


@pytest.mark.parametrize("packing", ["plain", "members", "one member"])
def test_a_length_over_the_limit_that_is_wrong_loses_that_record_alone(shelf: Any, packing: str) -> None:
    """The reader passes over what it may not hold, finds no record behind it, and reads that stretch again."""
    filler = [long_page(str(n), 40_000) for n in range(4)]
    records = [PLAIN[0], warc("b", http(page()), length=120_000), PLAIN[2], *filler, PLAIN[3]]
    data = {
        "plain": b"".join(records),
        "members": b"".join(members(*records)),
        "one member": gzip.compress(b"".join(records)),
    }
    result = shelf.extract(data[packing], max_bytes=1024)
    assert (result.kept, result.lost) == (["a", "c", "0", "1", "2", "3", "d"], [("wrong_length", "b")])
    assert result.counts["cut"] == 4


def test_a_header_cut_off_by_the_next_record_loses_one_record(shelf: Any) -> None:
    result = shelf.extract(PLAIN[0] + PLAIN[1][:80] + PLAIN[2] + PLAIN[3])
    assert result.kept == ["a", "c", "d"]
    assert [row["reason"] for row in result.ledger] == ["bad_header"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("crawl.warc", b""),
        ("crawl.warc", b"\r\n" * 10),
        ("crawl.warc.gz", b""),
        ("crawl.warc.gz", b"\0" * 100),
        ("crawl.warc.gz", gzip.compress(b"")),
        ("crawl.warc.gz", gzip.compress(b"") * 3),
        ("crawl.warc.zst", zstandard.compress(b"")),
        ("in.jsonl", b""),
        ("in.jsonl", b"\n \n"),
        ("in.jsonl.gz", b""),
        ("in.jsonl.gz", gzip.compress(b"")),
    ],
    ids=lambda given: given if isinstance(given, str) else str(len(given)),
)
def test_an_empty_file_is_one_quarantined_row(shelf: Any, name: str, data: bytes) -> None:
    result = shelf.extract(data, name)
    (row,) = result.ledger
    assert (row["outcome"], row["reason"], row["offset"], row["id"]) == ("quarantined", "empty_file", 0, None)
    assert row["source"].endswith(name) and (not data or f" {len(data)} bytes" in row["detail"])
    assert result.counts["records"] == 1 and not result.documents


def test_a_file_of_records_that_are_about_others_is_not_empty(shelf: Any) -> None:
    result = shelf.extract(warc("w", b"k: v", kind="warcinfo"))
    assert result.counts["records"] == 0 and not result.ledger


@pytest.mark.parametrize(
    ("name", "data", "shown"),
    [
        ("junk.warc", b"hello", b"hello"),
        ("junk.warc", b"a longer text that is no archive", b"a longer text th"),
        ("junk.warc.gz", b"hello", b"hello"),
        ("junk.warc.gz", gzip.compress(b"hello"), b"hello"),
        ("junk.warc.zst", zstandard.compress(b"hello"), b"hello"),
    ],
    ids=lambda given: given if isinstance(given, str) else str(len(given)),
)
def test_of_a_foreign_file_the_ledger_shows_how_it_begins_and_no_more(
    shelf: Any, name: str, data: bytes, shown: bytes
) -> None:
    (row,) = shelf.extract(data, name).ledger
    assert row["reason"] == "not_a_warc"
    assert row["detail"].split("; ")[0] == f"begins with {shown!r}"


@pytest.mark.parametrize(
    "data", [b"hello", noise(300_000), b"\x1f\x8b", b"\x1f\x8b\x08" + noise(100), b"\0" * 10_000 + b"x"]
)
@pytest.mark.parametrize("name", ["crawl.warc", "crawl.warc.gz"])
def test_a_file_that_is_no_warc_is_one_quarantined_row(shelf: Any, data: bytes, name: str) -> None:
    result = shelf.extract(data, name)
    assert (result.counts["records"], len(result.ledger), result.ledger[0]["outcome"]) == (1, 1, "quarantined")


def test_a_file_without_a_record_says_what_it_begins_with(shelf: Any) -> None:
    result = shelf.extract(b"PK\x03\x04 a zip file, really")
    assert result.lost == [("not_a_warc", None)]
    assert "PK" in result.ledger[0]["detail"]


def test_an_arc_file_is_refused_with_a_way_out(shelf: Any) -> None:
    data = b"filedesc://x.arc 0.0.0.0 20060329 text/plain 77\n1 0 test\n" * 50
    for packed in (data, gzip.compress(data)):
        result = shelf.extract(packed, "crawl.arc.gz")
        assert result.lost == [("arc_file", None)] and "warcio" in result.ledger[0]["detail"]


def test_a_record_of_200_mb_passes_in_bounded_memory(shelf: Any) -> None:
    size = 200 << 20
    path = shelf.folder / "big.warc.gz"
    with path.open("wb") as file:
        file.write(PACKED[0])
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
            head = http(b"<html><body>")
            packed.write(warc("big", b"", length=len(head) + size)[:-4] + head)
            for _ in range(size >> 20):
                packed.write(b"<p>all alike</p>" * (1 << 16))
            packed.write(b"\r\n\r\n")
        file.write(PACKED[2])
    result = shelf.extract_file(path, max_bytes=1 << 20)
    assert (result.kept, result.lost) == (["a", "big", "c"], [])
    assert [row["truncated"] for row in result.documents] == [None, "max_bytes", None]
    assert result.documents[1]["text"].count("all alike") == ((1 << 20) - 12) // 16
    assert _peak_growth(path) < 64 << 20


def _peak_growth(path: Path) -> int:
    """Bytes by which a process of its own grows while it reads the file. Not by tracemalloc: its `stop` races with Arrow's
    threads in CPython 3.11 and takes the whole process down."""
    script = (
        "import resource, sys, pathlib\n"
        "from curate.stages.extract.readers import read_records\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "path = pathlib.Path(sys.argv[1]); before = peak()\n"
        "with path.open('rb') as stream:\n"
        "    for _ in read_records(stream, 'warc', path.name, path.stat().st_size, 8 << 20, {}): pass\n"
        "print(peak() - before)\n"
    )
    grown = int(subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True).stdout)
    return grown if sys.platform == "darwin" else grown << 10


@pytest.mark.parametrize(
    "header",
    [
        "X" * 100_000 + ": y",
        "no colon at all",
        ": no name",
        "Content-Length: 7",
        "WARC-Type: request",
        "X-Evil: \x00\x01\x7f \udcff".encode("utf-8", "surrogatepass").decode("latin-1"),
        " a continuation of nothing",
    ],
)
def test_evil_headers_harm_no_other_record(shelf: Any, header: str) -> None:
    evil = PLAIN[1].replace(b"WARC-Date", header.encode("latin-1") + b"\r\nWARC-Date", 1)
    result = shelf.extract(PLAIN[0] + evil + PLAIN[2])
    assert {"a", "c"} <= set(result.kept)
    assert result.counts["records"] == 3


def test_an_id_with_control_characters_or_of_any_length_is_made_safe(shelf: Any) -> None:
    names = ["x" * 5000, "a\x1b[31mred", "two words"]
    result = shelf.extract(b"".join(warc(name, http(page(name[:20]))) for name in names))
    assert len(set(result.kept)) == 3
    assert all(name.isprintable() and len(name) <= 500 for name in result.kept)


@given(st.data())
def test_no_damage_costs_a_record_that_it_does_not_touch(data: st.DataObject) -> None:
    """Bytes of one member replaced, removed or put in: the records before and after it are read, whatever they are."""
    records = [warc(str(n), http(page(noise(50 * n).hex()))) for n in range(5)]
    parts = members(*records)
    victim = data.draw(st.integers(0, 4))
    start = data.draw(st.integers(0, len(parts[victim]) - 1))
    end = data.draw(st.integers(start, len(parts[victim])))
    parts[victim] = parts[victim][:start] + data.draw(st.binary(max_size=40)) + parts[victim][end:]
    whole = b"".join(parts)
    found = list(read_warc(io.BytesIO(whole), "x.warc.gz", len(whole), 1 << 20))
    names = [item.headers["warc-record-id"][10:-1] for item in found if isinstance(item, RawRecord)]
    assert [name for name in names if name != str(victim)] == [str(n) for n in range(5) if n != victim]
    assert [item.number for item in found] == list(range(len(found)))


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 300))
def test_any_bytes_are_read_to_their_end(insert: bytes, place: int, removed: int) -> None:
    data = b"".join(PLAIN)
    data = data[:place] + insert + data[place + removed :]
    for limit in (50, 1 << 20):
        found = list(read_warc(io.BytesIO(data), "x.warc", len(data), limit))
        assert all(isinstance(item, RawRecord | Damage) for item in found)
        assert all(0 <= item.offset <= len(data) for item in found)


def test_the_zoo_of_real_archives_gives_at_least_what_fastwarc_reads(tmp_path: Path) -> None:
    """FastWARC is the oracle, for the records that it reads whole in files that it reads to their end."""
    import tarfile

    from fastwarc import ArchiveIterator

    from support import shared_data

    names = 0
    with tarfile.open(shared_data("warc-zoo.tar.xz")) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if (
                stream is None
                or not member.name.endswith((".warc", ".warc.gz", ".wet.gz", ".wat.gz"))
                or member.size > 1 << 20
            ):
                continue
            data = stream.read()
            oracle = []
            try:
                oracle += [
                    record.record_id
                    for record in ArchiveIterator(io.BytesIO(data), parse_http=False)
                    if len(record.reader.read()) == record.content_length
                ]
            except OSError:
                continue
            found = list(read_warc(io.BytesIO(data), member.name, len(data), 8 << 20))
            ours = [item.headers.get("warc-record-id") for item in found]
            assert set(oracle) - {None} <= set(ours), member.name
            names += 1
    assert names > 50
