"""What becomes of the records of a sound file: pages, drops with their reason, and what is no record."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from datetime import UTC, datetime
from typing import Any

import brotli
import pytest
import zstandard
from archive import good, http, page, warc
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.why import index_key
from curate.stages.extract.payload import BadPayload, body_of, join_chunks, mime_of

BODY = page("Some text that is served encoded.")


def bare_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


ENCODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "Deflate": bare_deflate(BODY),
    "br": brotli.compress(BODY),
    "zstd": zstandard.compress(BODY),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
    "identity": BODY,
}


def test_a_page_becomes_a_document_with_its_columns(shelf: Any) -> None:
    html = (
        b'<html lang="de-AT"><head><title>Caf&eacute;  &amp; Co</title><meta name="robots" content="NoAI, noindex">'
        b'</head><body><p>Ein Satz.</p><a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC</a></body></html>'
    )
    headers = {"WARC-Truncated": "length"}
    (row,) = shelf.extract(warc("a", http(html, X_Robots_Tag="noarchive"), **headers)).documents
    assert row["id"] == "a" and row["url"] == "http://example.org/a" and row["snapshot"] == "CC-MAIN-2024-10"
    assert row["date"] == datetime(2024, 3, 1, 10, 20, 30, tzinfo=UTC)
    assert row["title"] == "Café & Co" and row["language"] == "de-at" and row["language_score"] is None
    assert row["robots"] == "noarchive,noai,noindex" and row["truncated"] == "length"
    assert row["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert row["engine"] == "resiliparse" and row["has_math"] is False and "Ein Satz." in row["text"]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (warc("x", b"", kind="revisit"), "revisit", None),
        (warc("x", http(page(), status="404 Not Found")), "status", "404"),
        (warc("x", http(page(), status="301")), "status", "301"),
        (warc("x", http(b"%PDF-1.7", mime="application/pdf")), "mime", "application/pdf"),
        (warc("x", http(page()), WARC_Identified_Payload_Type="text/plain"), "mime", "text/plain"),
        (warc("x", http(b"\x89PNG\r\n", mime=None)), "mime", "application/octet-stream"),
        (warc("x", b"data", kind="resource"), "record_type", "resource"),
        (warc("x", b"20240301\nexample.org", Content_Type="text/dns"), "mime", "text/dns"),
        (warc("x", http(b"<html><body></body></html>")), "no_text", None),
    ],
)
def test_what_is_no_page_is_dropped_with_its_reason(shelf: Any, record: bytes, reason: str, detail: str | None) -> None:
    result = shelf.extract(good("a") + record + good("b"))
    assert (result.kept, result.lost) == (["a", "b"], [(reason, "x")])
    assert (result.ledger[0]["outcome"], result.ledger[0]["detail"]) == ("dropped", detail)


def test_records_about_other_records_are_counted_without_a_row(shelf: Any) -> None:
    data = b"".join(warc(kind, b"k: v", kind=kind) for kind in ("warcinfo", "request", "metadata", "request"))
    result = shelf.extract(data + good("a"))
    assert result.counts["ignored"] == {"metadata": 1, "request": 2, "warcinfo": 1}
    assert result.counts["records"] == 1 and not result.ledger


def test_a_response_without_a_status_line_is_quarantined(shelf: Any) -> None:
    assert shelf.extract(warc("x", b"no http here")).lost == [("bad_http", "x")]


def test_text_of_a_wet_file_passes_through(shelf: Any) -> None:
    result = shelf.extract(warc("a", "Größe \\frac{1}{2}\n".encode(), kind="conversion"), "x.warc.wet.gz")
    (row,) = result.documents
    assert row["text"] == "Größe \\frac{1}{2}" and row["engine"] is None and row["has_math"] is True


def test_the_second_record_of_an_id_is_dropped(shelf: Any) -> None:
    result = shelf.extract(good("a") + good("a", "Another text.") + good("b"))
    assert (result.kept, result.lost) == (["a", "b"], [("duplicate_id", "a")])


def test_a_record_without_an_id_gets_one_from_its_content(shelf: Any) -> None:
    data = b"".join(warc(name, http(page(name)), WARC_Record_ID="") for name in "ab")
    once, again = shelf.extract(data), shelf.extract(gzip.compress(data), "other.warc.gz")
    assert len(set(once.kept)) == 2 and once.kept == again.kept


@pytest.mark.parametrize("coding", ENCODED)
@pytest.mark.parametrize("chunked", [False, True])
def test_content_codings_are_undone(shelf: Any, coding: str, chunked: bool) -> None:
    body = ENCODED[coding]
    headers = {"Content_Encoding": coding}
    if chunked:
        headers["Transfer_Encoding"] = "chunked"
        body = b"5;x=y\r\n" + body[:5] + b"\r\n" + f"{len(body) - 5:x}\r\n".encode() + body[5:] + b"\r\n0\r\n\r\n"
    (row,) = shelf.extract(warc("a", http(body, **headers))).documents
    assert "served encoded" in row["text"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_was_stored_decoded_is_taken_as_it_is(shelf: Any, coding: str) -> None:
    assert shelf.extract(warc("a", http(BODY, Content_Encoding=coding, Transfer_Encoding="chunked"))).kept == ["a"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_decompression_bomb_is_decoded_to_the_limit_and_no_further(shelf: Any, coding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstandard.compress}[coding]
    bomb = pack(b"<p>" + b"a" * (60 << 20))
    tracemalloc.start()
    body, over = body_of({"content-encoding": coding}, bomb, 1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(body), over) == (1 << 20, True) and peak < 10 << 20
    result = shelf.extract(warc("x", http(bomb, Content_Encoding=coding)) + good("a"), max_bytes=1 << 20)
    assert (result.kept, result.lost, result.counts["cut"]) == (["x", "a"], [], 1)
    assert result.documents[0]["text"] == "a" * ((1 << 20) - 3) and result.documents[0]["truncated"] == "max_bytes"


@pytest.mark.parametrize("limit", range(1024, 1032))
def test_what_is_cut_is_not_cut_inside_a_character(shelf: Any, limit: int) -> None:
    text = "a" * 1020 + "\u00e9\u20ac\U0001f600" * 3
    whole = next(n for n in range(len(text), 0, -1) if len(text[:n].encode()) <= limit)
    wet = warc("wet", text.encode(), kind="conversion", WARC_Truncated="length")
    row = shelf.extract(wet, max_bytes=limit).documents[0]
    assert (row["text"], row["truncated"]) == (text[:whole], "max_bytes")
    row = shelf.extract(json.dumps({"id": "x", "text": text}).encode(), "in.jsonl", max_bytes=limit).documents[0]
    assert (row["text"], row["truncated"]) == (text[:whole], "max_bytes")
    html = warc("page", http(text.encode(), mime="text/html"))  # whose charset nobody declares
    row = shelf.extract(html, max_bytes=limit).documents[0]
    assert (row["text"], row["truncated"]) == (text[:whole], "max_bytes")


def test_what_the_crawler_cut_keeps_its_word_for_it(shelf: Any) -> None:
    result = shelf.extract(warc("a", http(page()), WARC_Truncated="length"))
    assert result.documents[0]["truncated"] == "length" and "cut" not in result.counts


def test_a_damaged_coding_is_quarantined(shelf: Any) -> None:
    body = gzip.compress(page("x" * 500))[:10] + b"\xff" * 40  # a block of the type that deflate reserves
    assert shelf.extract(warc("x", http(body, Content_Encoding="gzip"))).lost == [("bad_encoding", "x")]


def test_a_coding_that_is_cut_off_gives_what_there_is() -> None:
    body, over = body_of({"content-encoding": "gzip"}, gzip.compress(BODY)[:-20], 1000)
    assert BODY.startswith(body) and not over


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "zstd", "x", ""]), st.booleans())
def test_any_body_decodes_or_is_refused_with_a_reason(body: bytes, coding: str, chunked: bool) -> None:
    headers = {"content-encoding": coding, "transfer-encoding": "chunked" if chunked else ""}
    for magic in (b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"):
        try:
            assert len(body_of(headers, magic + body, 500)[0]) <= 500
        except BadPayload as error:
            assert error.reason == "bad_encoding"


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8))
def test_chunks_join_to_what_was_sent(parts: list[bytes]) -> None:
    sent = b"".join(f"{len(part):X}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
    assert join_chunks(sent) == b"".join(parts)


@pytest.mark.parametrize(
    ("identified", "declared", "body", "expected"),
    [
        ("application/xhtml+xml", "text/plain", b"", "application/xhtml+xml"),
        (None, "Text/HTML; charset=x", b"", "text/html"),
        (None, None, b" \n<!DOCTYPE HTML><p>", "text/html"),
        (None, "application/octet-stream", b"<html >", "text/html"),
        (None, "nonsense", b"<html >", "text/html"),
        (None, None, b"GIF89a", "application/octet-stream"),
        (None, "text/plain", b"<html>", "text/plain"),
    ],
)
def test_the_mime_type_is_identified_then_declared_then_sniffed(
    identified: str | None, declared: str | None, body: bytes, expected: str
) -> None:
    assert mime_of(identified, declared, body) == expected


def test_a_page_nested_100_000_deep_is_quarantined_before_parsing(shelf: Any) -> None:
    deep = warc("deep", http(b"<div>" * 100_000 + b"x"))
    result = shelf.extract(good("a") + deep + good("b"), cpu_seconds=5)
    assert (result.kept, result.lost) == (["a", "b"], [("too_deep", "deep")])


def test_pages_over_the_limits_are_quarantined(shelf: Any) -> None:
    wide = warc("wide", http(b"<b>x</b>" * 500))
    result = shelf.extract(wide + good("a"), max_nodes=400)
    assert (result.kept, result.lost) == (["a"], [("too_many_nodes", "wide")])


def test_a_large_file_of_another_type_is_dropped_for_its_type(shelf: Any) -> None:
    video = warc("v", http(b"\0" * 300_000, mime="video/mp4"))
    assert shelf.extract(video + good("a"), max_bytes=1024).lost == [("mime", "v")]


def test_the_index_holds_every_id_and_url_sorted_kept_or_not(shelf: Any) -> None:
    result = shelf.extract(good("a") + warc("b", http(page(), status="404")))
    expected = [("id", "a"), ("id", "b"), ("url", "http://example.org/a"), ("url", "http://example.org/b")]
    assert [(row["key"], row["kind"]) for row in result.index] == sorted(
        (index_key(name), kind) for kind, name in expected
    )


def test_the_same_input_gives_the_same_bytes(shelf: Any) -> None:
    data = b"".join(good(str(n), "Text of a page. " * n) for n in range(20)) + b"junk"
    assert shelf.extract(data).bytes == shelf.extract(data).bytes
