"""What `--input` takes, and the keys that inputs get."""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import zstandard
from crawl_server import CrawlServer, Handler, answers, crawl_server
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.errors import UsageError
from curate.pipeline.inputs import Input, clean_name, find_inputs
from curate.pipeline.peek import HEAD_BYTES, sniff_format, unpacked, warcinfo_snapshot
from curate.pipeline.recipe import InputConfig

CONFIG = InputConfig()


def warc(snapshot: str | None = None, *, packed: bool = True, kind: str = "warcinfo") -> bytes:
    """A WARC file of one record."""
    block = b"software: test\r\n" + (f"isPartOf: {snapshot}\r\n".encode() if snapshot else b"")
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Length: {len(block)}\r\n\r\n".encode()
    record = head + block + b"\r\n\r\n"
    return gzip.compress(record, mtime=0) if packed else record


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def keys(found: list[Input]) -> list[str]:
    return [item.key for item in found]


@pytest.fixture
def server() -> Iterator[CrawlServer]:
    with crawl_server() as running:
        yield running


def test_a_folder_gives_every_file_of_a_known_format_below_it_sorted(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "b.warc.gz": warc("CC-MAIN-2025-30"),
            "sub/a.warc.wet.gz": warc("CC-MAIN-2025-26"),
            "c.jsonl.zst": b"",
            "d.parquet": b"",
            "README.txt": b"not an input",
            ".hidden.warc.gz": b"",
            "_sample.json": b"{}",
            "b.warc.gz.part": b"",
            ".git/x.json": b"{}",
        },
    )
    found = find_inputs([str(tmp_path)], CONFIG)
    assert keys(found) == ["CC-MAIN-2025-26/a", "CC-MAIN-2025-30/b", "default/c", "default/d"]
    assert [item.format for item in found] == ["warc", "warc", "jsonl", "parquet"]
    assert [Path(item.path).name for item in found] == ["a.warc.wet.gz", "b.warc.gz", "c.jsonl.zst", "d.parquet"]


def test_a_file_named_by_several_patterns_comes_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"x/a.warc.gz": warc(), "x/b.warc.gz": warc()})
    (tmp_path / "link.warc.gz").symlink_to(tmp_path / "x" / "a.warc.gz")
    monkeypatch.chdir(tmp_path)
    patterns = ["x/*.warc.gz", "./x/a.warc.gz", "x", str(tmp_path / "x/../x/b.warc.gz"), f"file://{tmp_path}/x"]
    assert keys(find_inputs([*patterns, "link.warc.gz"], CONFIG)) == ["default/b", "default/link"]
    assert keys(find_inputs(patterns, CONFIG)) == ["default/a", "default/b"]


def test_a_glob_goes_into_folders_and_takes_files_of_any_name(tmp_path: Path) -> None:
    put(
        tmp_path,
        {"one/a.warc.gz": warc(), "one/deep/b.warc.gz": warc(), "two": warc(), "three.txt": b'{"text": "x"}\n'},
    )
    assert keys(find_inputs([f"{tmp_path}/*"], CONFIG)) == [
        "default/a",
        "default/b",
        "default/three.txt",
        "default/two",
    ]
    assert keys(find_inputs([f"{tmp_path}/**/*.warc.gz"], CONFIG)) == ["default/a", "default/b"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    put(tmp_path, {"a[1].warc.gz": warc(), "a1.warc.gz": warc()})
    assert keys(find_inputs([f"{tmp_path}/a[1].warc.gz"], CONFIG)) == ["default/a_1_"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{tmp}/nothing.warc.gz", "no such input: {tmp}/nothing.warc.gz"),
        ("{tmp}/*.parquet", "no input matches {tmp}/*.parquet"),
        ("{tmp}/empty", "no WARC, WET, JSONL or Parquet file in the folder {tmp}/empty"),
        ("{tmp}/broken.warc.gz", "cannot read {tmp}/broken.warc.gz: no such file or directory"),
        ("{tmp}/bro*", "cannot read {tmp}/broken.warc.gz: no such file or directory"),
        ("{tmp}/pipe.warc", "cannot read {tmp}/pipe.warc: not a regular file"),
        ("{tmp}/strange", "cannot tell the format of {tmp}/strange"),
        ("nosuch://x/y.warc.gz", "cannot open nosuch://x/y.warc.gz"),
        ("memory://nothing/*.warc.gz", "no input matches memory://nothing/*.warc.gz"),
        ("memory://nothing/x.warc.gz", "no such input: memory://nothing/x.warc.gz is not there"),
        (" ", "no input: give --input"),
    ],
)
def test_a_pattern_that_names_nothing_usable_is_refused_in_one_line(tmp_path: Path, pattern: str, message: str) -> None:
    put(tmp_path, {"strange": b"\x00\x01\x02", "good.warc.gz": warc()})
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.warc.gz").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe.warc")
    with pytest.raises(UsageError) as error:
        find_inputs([f"{tmp_path}/good.warc.gz", pattern.format(tmp=tmp_path)], CONFIG)
    assert str(error.value).startswith(message.format(tmp=tmp_path))
    assert "\n" not in str(error.value)


def test_no_pattern_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="no input: give --input"):
        find_inputs([], CONFIG)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.warc", b"not a warc", "warc"),
        ("a.WARC.GZ", b"", "warc"),
        ("a.arc.gz", b"", "warc"),
        ("a.wet", b"", "warc"),
        ("a.json.gz", b"", "jsonl"),
        ("a.ndjson", b"", "jsonl"),
        ("a.parquet", b"", "parquet"),
        ("a", warc(), "warc"),
        ("a.open", warc(packed=False), "warc"),
        ("a.1", b"filedesc://x 0.0.0.0 20080430204825 text/plain 100\n", "warc"),
        ("a.txt", b'\xef\xbb\xbf \n{"text": "hello"}', "jsonl"),
        ("a.gz", gzip.compress(b'{"text": "hello"}'), "jsonl"),
        ("a.zst", zstandard.compress(b'{"text": "hello"}'), "jsonl"),
        ("a.bin", b"PAR1....", "parquet"),
    ],
)
def test_the_format_comes_from_the_name_then_from_the_first_bytes(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    put(tmp_path, {name: content})
    (found,) = find_inputs([str(tmp_path / name)], CONFIG)
    assert found.format == expected


def test_a_given_format_beats_name_and_content(tmp_path: Path) -> None:
    put(tmp_path, {"a.json": warc()})
    (found,) = find_inputs([str(tmp_path)], InputConfig(format="warc"))
    assert (found.format, found.key) == ("warc", "default/a.json".removesuffix(".json"))


def test_the_snapshot_is_the_given_one_then_the_warcinfos_then_the_paths(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "CC-MAIN-2024-10/said.warc.gz": warc("CC-MAIN-2025-30"),
            "CC-MAIN-2024-10/silent.warc.gz": warc(),
            "CC-MAIN-2024-10/rows.jsonl": b"",
            "CC-MAIN-20240220211055-20240221001055-00000.warc.gz": warc(),
        },
    )
    by_name = {item.key.split("/")[1]: item.snapshot for item in find_inputs([str(tmp_path)], CONFIG)}
    assert by_name == {
        "said": "CC-MAIN-2025-30",
        "silent": "CC-MAIN-2024-10",
        "rows": "CC-MAIN-2024-10",
        "CC-MAIN-20240220211055-20240221001055-00000": "default",
    }
    assert {item.snapshot for item in find_inputs([str(tmp_path)], InputConfig(snapshot="mine"))} == {"mine"}


def test_the_innermost_crawl_of_a_path_counts(tmp_path: Path) -> None:
    put(tmp_path, {"CC-MAIN-2023-50/copy of CC-MAIN-2024-10/a.jsonl": b""})
    assert keys(find_inputs([str(tmp_path)], CONFIG)) == ["CC-MAIN-2024-10/a"]


def test_a_known_file_is_not_looked_into_again(tmp_path: Path) -> None:
    put(tmp_path, {"a.warc.gz": warc("CC-MAIN-2025-30")})
    (first,) = find_inputs([str(tmp_path)], CONFIG)
    (second,) = find_inputs([str(tmp_path)], CONFIG, {first.fingerprint: "known"})
    assert second.snapshot == "known"


def test_the_fingerprint_changes_with_the_file_and_only_with_it(tmp_path: Path) -> None:
    path = put(tmp_path, {"a.warc.gz": warc(), "b.warc.gz": warc()}) / "a.warc.gz"
    os.utime(path, ns=(1, 1))
    os.utime(tmp_path / "b.warc.gz", ns=(1, 1))
    first, other = find_inputs([str(tmp_path)], CONFIG)
    assert find_inputs([str(path)], CONFIG) == [first]
    assert other.fingerprint != first.fingerprint
    os.utime(path, ns=(2, 2))
    assert find_inputs([str(path)], CONFIG)[0].fingerprint != first.fingerprint
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(1, 1))
    assert find_inputs([str(path)], CONFIG)[0].fingerprint != first.fingerprint


def test_inputs_of_one_name_are_told_apart_whatever_the_order(tmp_path: Path) -> None:
    put(tmp_path, {"x/a.warc.gz": warc(), "y/A.warc.gz": warc(), "z/a.jsonl": b"", "z/b.jsonl": b""})
    patterns = [str(tmp_path / "x"), str(tmp_path / "y"), str(tmp_path / "z")]
    found = find_inputs(patterns, CONFIG)
    assert find_inputs(patterns[::-1], CONFIG) == found
    assert len({item.key.lower() for item in found}) == 4
    assert keys(found)[-1] == "default/b"
    assert all(len(key) == len("default/a-") + 8 for key in keys(found)[:-1])


def test_files_of_one_name_in_two_snapshots_keep_it(tmp_path: Path) -> None:
    put(tmp_path, {"x/a.warc.gz": warc("CC-MAIN-2025-26"), "y/a.warc.gz": warc("CC-MAIN-2025-30")})
    assert keys(find_inputs([str(tmp_path)], CONFIG)) == ["CC-MAIN-2025-26/a", "CC-MAIN-2025-30/a"]


def test_a_name_that_looks_like_a_told_apart_one_stays_unique(tmp_path: Path) -> None:
    put(tmp_path, {"x/a.warc.gz": warc(), "y/a.warc.gz": warc()})
    taken = keys(find_inputs([str(tmp_path)], CONFIG))[0].removeprefix("default/")
    put(tmp_path, {f"z/{taken}.warc.gz": warc()})
    assert len(set(keys(find_inputs([str(tmp_path)], CONFIG)))) == 3


def test_names_that_are_not_utf8_are_told_apart_and_readable(tmp_path: Path) -> None:
    for code in (b"\xfe", b"\xff"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/a" + code + b".warc.gz")).write_bytes(warc())
    found = find_inputs([str(tmp_path)], CONFIG)
    assert len(set(keys(found))) == 2
    assert all(Path(item.path).exists() and item.source.encode() for item in found)


@pytest.mark.parametrize("said", ["../../etc", "..", ".", "a/b", "", "x" * 500, "\u202e\u0000", "CC MAIN"])
def test_a_hostile_ispartof_stays_one_plain_folder(tmp_path: Path, said: str) -> None:
    put(tmp_path, {"a.warc.gz": warc(said)})
    (found,) = find_inputs([str(tmp_path)], CONFIG)
    snapshot, name = found.key.split("/")
    assert name == "a"
    assert snapshot == found.snapshot == clean_name(snapshot, "default")
    assert len(snapshot) <= 150


@given(st.text())
def test_a_cleaned_name_is_a_plain_visible_file_name(text: str) -> None:
    name = clean_name(text, "otherwise")
    assert 0 < len(name) <= 150
    assert name[0] not in ".-_"
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
    assert clean_name(name, "x") == name


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"WARC/1.0\r\n", b"PAR1"])
)
def test_any_first_bytes_are_looked_into_without_an_error(data: bytes, start: bytes) -> None:
    warcinfo_snapshot(start + data)
    sniff_format(start + data)


@given(st.data())
def test_a_damaged_warcinfo_gives_the_snapshot_or_a_piece_or_nothing(data: st.DataObject) -> None:
    whole = warc("CC-MAIN-2025-30")
    cut = data.draw(st.integers(0, len(whole)))
    snapshot = warcinfo_snapshot(whole[:cut])
    assert snapshot is None or "CC-MAIN-2025-30".startswith(snapshot)


def test_first_bytes_that_unpack_without_end_stay_small() -> None:
    for bomb in (zlib.compress(b"\0" * 20_000_000, wbits=31), zstandard.compress(b"\0" * 20_000_000)):
        assert len(unpacked(bomb[:HEAD_BYTES])) <= 1 << 18


@pytest.mark.parametrize(
    ("content", "snapshot"),
    [
        (b"\r\n" + warc("A", packed=False), "A"),
        (warc("A", packed=False).replace(b"\r\n", b"\n"), "A"),
        (warc("A", packed=False).replace(b"WARC-Type", b"warc-type").replace(b"isPartOf", b"IsPartOf"), "A"),
        (warc("A", kind="response"), None),
        (warc("A", packed=False).replace(b"Content-Length: 29", b"Content-Length: 3"), None),
        (warc("A", packed=False).replace(b"Content-Length", b"X"), None),
        (gzip.compress(b"not a WARC isPartOf: A"), None),
        (b"isPartOf: A", None),
        (b"", None),
    ],
)
def test_the_snapshot_is_read_from_the_first_record_alone(content: bytes, snapshot: str | None) -> None:
    assert warcinfo_snapshot(content) == snapshot


def test_a_web_address_is_one_input_whose_signature_stays_secret(server: CrawlServer) -> None:
    server.files["/crawl/a b.warc.gz"] = warc("CC-MAIN-2025-30")
    server.files["/crawl/a%20b.warc.gz"] = warc("CC-MAIN-2025-30")
    url = f"{server.url}crawl/a%20b.warc.gz?X-Amz-Signature=hush"
    (found,) = find_inputs([url], CONFIG)
    assert (found.key, found.path, found.format) == ("CC-MAIN-2025-30/a_b", url, "warc")
    assert found.source == f"{server.url}crawl/a%20b.warc.gz"
    assert found.size == len(warc("CC-MAIN-2025-30"))
    (again,) = find_inputs([url.replace("hush", "anew")], CONFIG)
    assert (again.key, again.fingerprint) == (found.key, found.fingerprint)


def test_a_web_address_that_refuses_head_is_asked_for_a_byte(
    server: CrawlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "do_HEAD", lambda self: self.answer(403, b""))
    server.files["/a.warc.gz"] = warc()
    server.files["/empty.warc.gz"] = b""
    found = find_inputs([f"{server.url}a.warc.gz", f"{server.url}empty.warc.gz"], CONFIG)
    assert [item.size for item in found] == [len(warc()), 0]


def test_a_web_address_changes_its_fingerprint_with_the_file(server: CrawlServer) -> None:
    server.files["/a.warc.gz"] = warc("A")
    (before,) = find_inputs([f"{server.url}a.warc.gz"], CONFIG)
    server.files["/a.warc.gz"] = warc("B")
    (after,) = find_inputs([f"{server.url}a.warc.gz"], CONFIG)
    assert before.fingerprint != after.fingerprint
    assert before.size == after.size


def test_a_web_address_that_is_not_there_is_refused_without_its_signature(server: CrawlServer) -> None:
    with pytest.raises(UsageError, match="404") as error:
        find_inputs([f"{server.url}a.warc.gz?signature=hush"], CONFIG)
    assert "hush" not in str(error.value)


def test_only_the_first_bytes_of_a_web_address_are_read(server: CrawlServer) -> None:
    server.files["/big.warc.gz"] = warc("CC-MAIN-2025-30") + bytes(1_000_000)
    find_inputs([f"{server.url}big.warc.gz"], CONFIG)
    assert [headers["Range"] for headers in server.requests("big.warc.gz")] == [f"bytes=0-{HEAD_BYTES - 1}"]


def test_a_look_that_fails_once_does_not_change_the_key(server: CrawlServer) -> None:
    server.files["/a.warc.gz"] = warc("CC-MAIN-2025-30")
    server.faults["/a.warc.gz"] = [answers(503, Retry_After="0")]
    assert keys(find_inputs([f"{server.url}a.warc.gz"], CONFIG)) == ["CC-MAIN-2025-30/a"]


def test_addresses_that_differ_only_in_what_is_secret_are_one_file_or_refused(
    server: CrawlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/a.warc.gz"] = warc()
    url = f"{server.url}a.warc.gz"
    assert len(find_inputs([f"{url}?s=1", f"{url}?s=2"], CONFIG)) == 1
    sizes = iter((10, 20))
    monkeypatch.setattr(Handler, "do_HEAD", lambda self: self.answer(200, b"", {"Content-Length": str(next(sizes))}))
    with pytest.raises(UsageError, match="differ only in their query strings"):
        find_inputs([f"{url}?id=1", f"{url}?id=2"], CONFIG)


def test_stores_are_globbed_and_walked_like_folders() -> None:
    store = fsspec.filesystem("memory")
    for name in ("x/a.warc.gz", "x/deep/b.warc.gz", "x/_c.json", "x/README", "x/d.jsonl", "x/.tmp/e.jsonl"):
        store.pipe_file(f"/_inputs/{name}", warc("CC-MAIN-2025-30"))
    try:
        found = find_inputs(["memory://_inputs/x"], CONFIG)
        assert keys(found) == ["CC-MAIN-2025-30/a", "CC-MAIN-2025-30/b", "default/d"]
        assert keys(find_inputs(["memory://_inputs/x/*.warc.gz"], CONFIG)) == ["CC-MAIN-2025-30/a"]
        assert keys(find_inputs(["memory://_inputs/x/**/*.warc.gz", "memory://_inputs/x/a.warc.gz"], CONFIG)) == [
            "CC-MAIN-2025-30/a",
            "CC-MAIN-2025-30/b",
        ]
        assert found[0].size == len(warc("CC-MAIN-2025-30"))
        with fsspec.open(found[0].path, "rb") as stream:
            assert stream.read() == warc("CC-MAIN-2025-30")
        store.pipe_file("/_inputs/x/a.warc.gz", warc("CC-MAIN-2025-26"))
        assert find_inputs(["memory://_inputs/x"], CONFIG)[0].fingerprint != found[0].fingerprint
    finally:
        store.rm("/_inputs", recursive=True)


def test_many_files_are_found_in_any_order_of_threads(tmp_path: Path) -> None:
    names = [f"part-{number:03}.warc.gz" for number in range(60)]
    put(tmp_path, {name: warc(f"S{number % 3}") for number, name in enumerate(names)})
    shuffled = [str(tmp_path / name) for name in names]
    random.Random(3).shuffle(shuffled)
    assert find_inputs(shuffled, CONFIG) == find_inputs([str(tmp_path)], CONFIG)
    assert json.dumps(keys(find_inputs(shuffled, CONFIG))) == json.dumps(sorted(keys(find_inputs(shuffled, CONFIG))))
