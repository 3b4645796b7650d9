"""Charsets, declarations, limits, admission, JSONL and Parquet, configuration."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive import good, http, page, warc
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.pipeline.errors import UsageError
from curate.stages.extract import charset, extract
from curate.stages.extract import page as declared
from curate.stages.extract.config import AdmissionConfig, ExtractConfig
from curate.stages.extract.limits import measure
from curate.stages.extract.marks import Marks


@given(st.binary(max_size=300), st.none() | st.text(max_size=20))
def test_any_bytes_give_valid_text(data: bytes, label: str | None) -> None:
    text, codec = charset.decode(data, label)
    assert text.encode("utf-8").decode("utf-8") == text and "\0" not in text and codec


@given(st.text(max_size=200).filter(lambda text: "\0" not in text and not text.startswith("\ufeff")))
def test_utf8_is_read_back_whatever_is_declared(text: str) -> None:
    assert charset.decode(text.encode(), "iso-8859-1")[0] == text


@pytest.mark.parametrize(
    ("text", "codec", "label"),
    [
        ("Привет, мир", "cp1251", "windows-1251"),
        ("日本語の文", "shift_jis", "x-sjis"),
        ("naïve “quotes”", "cp1252", "latin1"),
    ],
)
def test_a_declared_charset_is_believed_in_header_and_meta(text: str, codec: str, label: str) -> None:
    assert charset.decode(text.encode(codec), label)[0] == text
    assert text in charset.decode(f'<meta charset="{label}">{text}'.encode(codec))[0]


@pytest.mark.parametrize(
    ("text", "codec", "mark"),
    [
        ("<html><p>é€😀", "utf-8", b"\xef\xbb\xbf"), ("<html><p>é€", "utf-16-le", b"\xff\xfe"),
        ("<html><p>é€", "utf-16-be", b"\xfe\xff"), ("<html><p>é€", "utf-32-le", b"\xff\xfe\0\0"),
        ("<html><p>é€", "utf-16-le", b""), ("<html><p>é€", "utf-32-be", b""),
    ],
)  # fmt: skip
def test_a_byte_order_mark_or_the_place_of_zeros_beats_what_is_declared(text: str, codec: str, mark: bytes) -> None:
    assert charset.decode(mark + text.encode(codec), "windows-1251")[0] == text


def test_a_page_in_utf8_with_a_few_broken_characters_is_utf8_whatever_is_declared() -> None:
    text = "<p>" + "l’été déjà là " * 50 + "é"
    cut_off = text.encode()[:-1]
    pasted = text.encode() + b"caf\xe9 " + text.encode()
    assert charset.decode(cut_off, "iso-8859-1")[0] == text[:-1] + "\ufffd"
    assert charset.decode(pasted)[0] == f"{text}caf\ufffd {text}"


def test_undeclared_charsets_are_detected_behind_a_long_ascii_head() -> None:
    head = "<html><script>" + "var x = 1;\n" * 10_000 + "</script>"
    for text, codec in (
        ("Если вы читаете это, значит, всё хорошо. " * 9, "cp1251"),
        ("이 페이지는 한국어로 쓰여 있습니다. " * 9, "cp949"),
        ("このページは日本語で書かれています。" * 9, "iso2022_jp"),
    ):  # fmt: skip
        assert charset.decode((head + text).encode(codec))[0] == head + text


def test_most_real_files_of_fifty_charsets_are_read_right_without_a_declaration() -> None:
    """The folder's name is the charset; a file counts as right where 99 % of the characters are."""
    import tarfile

    from support import shared_data

    names = {"MacCyrillic": "mac_cyrillic", "MacRoman": "mac_roman", "IBM855": "cp855", "IBM866": "cp866", "TIS-620": "cp874",
             "SHIFT_JIS": "cp932", "GB2312": "gb18030", "Big5": "big5hkscs", "EUC-KR": "cp949", "iso-8859-1": "cp1252",
             "iso-8859-9": "cp1254"}  # fmt: skip
    right = files = 0
    with tarfile.open(shared_data("languages-charsets.tar.xz")) as tar:
        for member in tar:
            folder, place, name = Path(member.name).parts[-3:] if member.name.count("/") > 2 else ("", "", "")
            if folder != "charset" or not member.isfile() or place == "EUC-TW" or not name:
                continue
            stream = tar.extractfile(member)
            assert stream is not None
            data = stream.read()
            parts = place.split("-")
            label = "-".join(parts[:3]) if parts[0] == "iso" and parts[1] == "8859" else place
            label = "-".join(parts[:2]) if parts[0] == "windows" else label
            expected = data.decode(names.get(label, label), "replace").lstrip("\ufeff")
            found = charset.decode(data)[0].lstrip("\ufeff")
            files += 1
            same = sum(a == b for a, b in zip(found, expected, strict=False))
            right += abs(len(found) - len(expected)) <= 0.01 * len(expected) + 1 and same >= 0.99 * len(expected)
    assert files > 400 and right >= 0.98 * files


@given(st.lists(st.sampled_from([b"MathJax", b"<math", b"tex.cgi", b"<mat", b"athJax", b"x", b"\xff"]), max_size=40))
@settings(deadline=None)
def test_marks_are_found_where_python_finds_them(parts: list[bytes]) -> None:
    page = b"".join(parts)
    strings = (b"MathJax", b"<math", b"tex.cgi")
    assert Marks(*strings).within(page) == any(string in page for string in strings)


@pytest.mark.parametrize("label", ["hex", "unicode_escape", "zlib", "rot13", "utf-7", "punycode", "idna", "\0"])
def test_python_codecs_that_are_no_charset_are_never_used(label: str) -> None:
    assert charset.codec_of(label) is None


def test_nesting_counts_what_a_parser_would_keep_open() -> None:
    assert measure(b"<div><br><p>a<p>b<span></span></div>", 100) == (5, 2)
    assert measure(b"<div></x>" * 50, 100)[1] == 50  # an end tag of nothing open closes nothing
    assert measure(b"<span><div></span>" * 50, 1000)[1] == 100  # nor does one behind a block
    assert measure(b"<script><div><div></script><!-- <b><b> --><i title='<u><u>'>", 100) == (2, 1)
    assert measure(b"<div>" * 500, 100)[1] == 101


@given(st.binary(max_size=200))
def test_any_bytes_are_measured(data: bytes) -> None:
    tags, depth = measure(b"<a" + data, 10)
    assert 0 <= depth <= 11 and tags >= 0


def test_mathematics_is_told_from_money_and_paths() -> None:
    assert declared.has_math(r"so \frac{a}{b} holds") and declared.has_math("then $$x^2 = 1$$ follows")
    assert not declared.has_math("it cost $$ and more $$ then") and not declared.has_math(r"C:\Users\me")
    assert declared.math_prefilter(b"<script src=MathJax.js>", "") and not declared.math_prefilter(b"<p>\\frac", "none")


def test_extract_runs_in_this_process() -> None:
    found = extract(
        b"<html lang=fr><title>T</title><body><article><p>Une phrase.</p></article></body></html>", engine="resiliparse"
    )
    assert (found.text, found.title, found.language) == ("Une phrase.", "T", "fr")


def test_a_page_gives_the_same_text_whatever_pages_came_before_it() -> None:
    """Trafilatura's own memory of repeated segments spans a process; the same segment is seen here many times."""
    html = page("A sentence that is long enough to be remembered, " * 8)
    texts = {extract(html, engine="trafilatura").text for _ in range(8)}
    assert len(texts) == 1 and "remembered" in texts.pop()


def test_urls_are_refused_for_the_stated_reason_and_item(shelf: Any, tmp_path: Path) -> None:
    lists = {
        "takedown": "\ufeff# note\nhttps://gone.org/  # by letter\nkept.org/secret\t# by mail\n",
        "domains": "bad.com\n",
        "hosts": "www.x.net\n",
        "urls": "y.net/p\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    admission = AdmissionConfig(
        takedown=str(tmp_path / "takedown"),
        blocked_domains=[str(tmp_path / "domains")], blocked_hosts=[str(tmp_path / "hosts")],
        blocked_urls=[str(tmp_path / "urls")], banned_words=["casino"], soft_words=["free", "win"], banned_substrings=["xxx"],
    )  # fmt: skip
    cases = {
        "http://a.gone.org/x": ("takedown", "gone.org"), "https://kept.org/secret#a": ("takedown", "kept.org/secret"),
        "http://kept.org/other": None, "http://sub.BAD.com/": ("url_domain", "bad.com"), "http://notbad.com/": None,
        "http://www.x.net/": ("url_host", "www.x.net"), "http://x.net/": None, "https://y.net/p": ("url_listed", "y.net/p"),
        "http://z.org/Casino-1": ("url_word", "casino"), "http://z.org/casinos": None, "http://z.org/free": None,
        "http://z.org/free/win": ("url_soft_words", "free,win"), "http://z.org/a-x-x-x": ("url_substring", "xxx"),
        "http://[bad": None,
    }  # fmt: skip
    data = b"".join(warc(str(n), http(page(str(n))), WARC_Target_URI=url) for n, url in enumerate(cases))
    result = shelf.extract(data, admission=admission)
    found = {row["url"]: (row["reason"], row["detail"]) for row in result.ledger}
    assert found == {url: why for url, why in cases.items() if why}


def test_blocklists_refuse_a_page_before_it_is_parsed_with_what_matched(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("0.0.0.0 ads.example.com # c\n127.0.0.1 localhost\nblogspot.com\n*.tk\n")
    (tmp_path / "urls").write_text("ok.com/~Bad\nhttps://ok.com/One?q\n")
    admission = AdmissionConfig(blocklists=[str(tmp_path / "hosts"), str(tmp_path / "urls")], soft_words=["a", "b"])
    cases = {
        "http://x.ads.example.com/": ("url_domain", "ads.example.com"), "http://example.com/": None,
        "http://me.blogspot.com/": None, "http://shop.cheap.tk/": ("url_domain", "tk"), "http://localhost/": None,
        "http://www.ok.com/~bad/x": ("url_listed", "ok.com/~bad"), "http://ok.com/One?q": ("url_listed", "ok.com/One?q"),
        "http://ok.com/a": None, "http://ok.com/b/a": ("url_soft_words", "a,b"),
    }  # fmt: skip
    broken = b"<html>" * 100_000  # would be quarantined if it were parsed
    data = b"".join(
        warc(str(n), http(broken if why else page()), WARC_Target_URI=url) for n, (url, why) in enumerate(cases.items())
    )
    result = shelf.extract(data, admission=admission, engine="trafilatura")
    found = {row["url"]: (row["reason"], row["detail"]) for row in result.ledger}
    assert found == {url: why for url, why in cases.items() if why}


def test_a_takedown_covers_all_below_it_even_where_anyone_may_register(shelf: Any, tmp_path: Path) -> None:
    (tmp_path / "takedown").write_text("\ufeffgov.uk\nhttp://one.org/page#here\n", "utf-8")
    urls = ["http://www.ons.gov.uk/x", "http://gov.uk", "http://one.org/page#x", "http://one.org/pages"]
    data = b"".join(warc(str(n), http(page()), WARC_Target_URI=url) for n, url in enumerate(urls))
    result = shelf.extract(data, admission=AdmissionConfig(takedown=str(tmp_path / "takedown")))
    assert [row["detail"] for row in result.ledger] == ["gov.uk", "gov.uk", "one.org/page"]


def test_a_page_that_declares_a_dropped_directive_is_dropped(shelf: Any) -> None:
    data = warc("x", http(page(), X_Robots_Tag="ccbot: none")) + good("a")
    result = shelf.extract(data, drop_robots=["noindex"])
    assert (result.kept, result.lost) == (["a"], [("robots", "x")])


def test_json_lines_are_read_by_their_columns_and_bad_ones_quarantined(shelf: Any) -> None:
    columns = {"text": "body", "html": None, "id": "key", "url": "link", "date": "when"}
    lines = [
        json.dumps({"key": 7, "body": "One \ud800\0.", "link": "http://a/", "when": "2024-01-02"}),
        "{broken", "[]", "", json.dumps({"key": "n", "body": 5}), json.dumps({"key": "e", "body": " "}),
        json.dumps({"body": "Two."}),
    ]  # fmt: skip
    result = shelf.extract("\n".join(lines).encode(), "in.jsonl", {"format": "jsonl", "columns": columns})
    assert [row["text"] for row in result.documents] == ["One \ufffd\ufffd.", "Two."]
    assert [row["offset"] for row in result.documents] == [0, 6] and result.kept[0] == "7"
    assert result.lost == [("bad_json", None), ("bad_row", None), ("bad_row", "n"), ("no_text", "e")]


@pytest.mark.parametrize("role", ["text", "html"])
@pytest.mark.parametrize("count", [1, 32, 5_000])
def test_json_lines_without_the_named_column_are_refused_as_parquet_is(shelf: Any, role: str, count: int) -> None:
    data = b"".join(b'{"id": %d, "contents": "Some text.", "\\u001b[2J": 1}\n' % number for number in range(count))
    columns = {role: "content"}
    with pytest.raises(UsageError) as caught:
        shelf.extract(data, "in.jsonl", {"columns": columns})
    said = str(caught.value)
    assert said.startswith(f"input.{role}: no column 'content' ") and said.endswith("; did you mean 'contents'?")
    assert "in.jsonl" in said and said.isprintable()


def test_a_json_line_with_the_column_among_the_first_thousand_keeps_the_file(shelf: Any) -> None:
    lines = [b'{"id": "x%d"}' % number for number in range(999)] + [b"[]", b"{broken", b'{"id": "a", "text": "One."}']
    result = shelf.extract(b"\n".join(lines + lines[:-1]), "in.jsonl")
    assert result.kept == ["a"]
    assert Counter(reason for reason, _ in result.lost) == {"bad_row": 2 * 1000, "bad_json": 2}


def test_parquet_is_read_and_a_damaged_file_is_one_row(shelf: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["One.", None]}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    result = shelf.extract(data, "in.parquet")
    assert (result.kept, result.lost) == (["a"], [("bad_row", "b")])
    assert shelf.extract(data[:-9], "cut.parquet").lost == [("corrupt_parquet", None)]
    with pytest.raises(UsageError, match=r"input\.text: no column 'txt' in the file; did you mean 'text'"):
        shelf.extract(data, "in.parquet", {"columns": {"text": "txt"}})


@pytest.mark.parametrize("wrong", [{"engine": "trafilature"}, {"drop_robots": ["NoAI"]}, {"admission": {"takedown": "/none"}},
                                   {"admission": {"banned_words": ["two words"]}}, {"max_byte": 1}])  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExtractConfig(**wrong)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("2024-03-01T10:20:30Z", 1709288430), ("2024-03-01T12:20:30.5+02:00", 1709288430), ("2024-03-01", 1709251200),
        (1709288430, 1709288430), ("2024-13-01", None), ("soon", None), (float("inf"), None), (-1e18, None), (True, None),
        ("0001-01-01T00:00:00+14:00", None), ("9999-12-31T23:59:59-12:00", None),
    ],
)  # fmt: skip
def test_dates_are_read_or_null(shelf: Any, given: object, seconds: int | None) -> None:
    """And written as that moment: the column's unit is the schema's business."""
    result = shelf.extract(json.dumps({"text": "A text.", "date": given}).encode(), "in.jsonl")
    (row,) = result.documents
    assert (row["date"] and int(row["date"].timestamp())) == seconds
