"""A crawl of bad files on both engines: each bad one is in the ledger, and every other record comes through."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import faults
import pytest
import small_crawl

from curate.pipeline.workspace import Workspace
from support import rows

CLI = ["-m", "curate.pipeline.cli"]
GOOD = 4
"""Good pages in each file that has any."""


def record(number: int, body: bytes, length: int | None = None) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>\r\n"
        f"WARC-Target-URI: https://site.example/{number}\r\nWARC-Date: 2025-06-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http) if length is None else length}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def good(base: int) -> list[bytes]:
    return [record(base + number, small_crawl.page(base + number).encode()) for number in range(GOOD)]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    pack = gzip.compress
    whole = b"".join(pack(item) for item in good(100))
    last = pack(record(199, small_crawl.page(199).encode()))
    files = {
        "truncated.warc.gz": whole + last[: len(last) // 2],
        "wrong-length.warc": b"".join([*good(200)[:2], record(299, b"<p>short</p>", length=5000), *good(200)[2:]]),
        "garbage-member.warc.gz": b"".join(map(pack, good(300)[:2])) + b"\x1f\x8b\x08\x00" + b"\xff" * 500
        + b"".join(map(pack, good(300)[2:])),
        "empty.warc.gz": b"",
        "no-warc.warc.gz": pack(b"This is a letter, not an archive.\n" * 100),
        "huge-record.warc.gz": b"".join(map(pack, good(400))) + pack(record(499, b"<p>" + b"a" * 200_000_000), 1),
        "nested.warc.gz": b"".join(map(pack, good(500))) + pack(record(599, b"<div>" * 100_000 + b"deep")),
    }  # fmt: skip
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(params=["local", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.slow])])
def engine(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "local":
        return ["--engine", "local"]
    return ["--engine", "ray", "--address", request.getfixturevalue("ray_address")]


@pytest.mark.timeout(600)
def test_bad_files_cost_themselves_alone_and_the_run_is_complete(
    crawl: Path, engine: list[str], tmp_path: Path
) -> None:
    workspace = tmp_path / "w"
    command = [*CLI, "run", "extract", "--input", str(crawl), "--snapshot", "s", "--workspace", str(workspace), *engine]
    command += ["--set", "extract.engine=resiliparse"]  # which builds trees, so nesting is limited
    code, _, err = faults.run(command)
    assert code == 0, err
    found = Workspace(workspace)
    manifest = found.read_json("extract/manifest.json")
    assert [shard["key"] for shard in manifest["shards"]] == sorted(
        f"s/{path.name.split('.')[0]}" for path in crawl.iterdir()
    )
    kept = {name: len(rows(found, f"extract/docs/s/{name}.parquet")) for name in ("truncated", "garbage-member")}
    assert kept == {"truncated": GOOD, "garbage-member": GOOD}
    huge = rows(found, "extract/docs/s/huge-record.parquet")
    assert [row["truncated"] for row in huge] == [None] * GOOD + ["max_bytes"]
    for name, reason in {
        "truncated": "truncated_file",
        "wrong-length": "wrong_length",
        "no-warc": "not_a_warc",
        "nested": "too_deep",
    }.items():
        ledger = rows(found, f"extract/ledger/s/{name}.parquet")
        assert [(row["outcome"], row["reason"]) for row in ledger] == [("quarantined", reason)]
        assert len(rows(found, f"extract/docs/s/{name}.parquet")) == (0 if name == "no-warc" else GOOD)
    (garbage,) = rows(found, "extract/ledger/s/garbage-member.parquet")
    assert garbage["outcome"] == "quarantined"
    assert garbage["offset"] > 0
    assert rows(found, "extract/docs/s/empty.parquet") == []
    (empty,) = rows(found, "extract/ledger/s/empty.parquet")
    assert (empty["outcome"], empty["reason"], empty["offset"]) == ("quarantined", "empty_file", 0)
    code, out, err = faults.run([*CLI, "status", "--workspace", str(workspace), "--verify", "--json"])
    assert code == 0, err
    (stage,) = json.loads(out)["stages"]
    assert (stage["kept"], stage["cut"]) == (5 * GOOD + 1, 1)
    assert sum(stage["quarantined"].values()) == 6
