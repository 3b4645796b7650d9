"""URLs as lists compare them; blocklists in the formats that people have; what a recipe says of them."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import string
import tarfile
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import publicsuffixlist
import pytest
from crawl_server import CrawlServer, crawl_server
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.pipeline.errors import CurateError
from curate.pipeline.workspace import redact_text
from curate.stages.urls import lists as url_lists
from curate.stages.urls.blocklists import BELOW, DOMAIN, EXACT, MOST_ENTRIES, PREFIX, Blocklist, Builder, parse
from curate.stages.urls.lists import ListUrl, UrlLists, rules_of
from curate.stages.urls.parts import domains_of, host_of, letters_of, plain_url, split, words_of

OFFICIAL = [
    (given, wanted)
    for given, wanted in re.findall(
        r"^checkPublicSuffix\('([^']+)', (?:null|'([^']+)')\);",
        resources.files(publicsuffixlist).joinpath("test_psl.txt").read_text("utf-8"),
        re.MULTILINE,
    )
    if not given.startswith(".")
]
"""The public suffix list's own cases: a name, and its registered domain or nothing."""


def blocklist(*lines: str) -> Blocklist:
    builder = Builder()
    builder.add_lines("\n".join(lines).encode("utf-8", "surrogatepass"))
    return builder.build()


def covered(lists: Blocklist, *urls: str) -> list[bool]:
    """What both ways of asking say."""
    found = [lists.find(url) is not None for url in urls]
    assert lists.listed(urls).tolist() == found
    return found


# names


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://BÜCHER.example.:80/", ("xn--bcher-kva.example", "", "/")),
        ("https://user:p@www.Foo.com:8080/a?b#c", ("www.foo.com", ":8080", "/a?b")),
        ("http://bad.com@b:x@c.org/", ("c.org", "", "/")),
        ("//x.org:443/z", ("x.org", "", "/z")),
        ("x.org/Z#", ("x.org", "", "/Z")),
        ("http://straße.de", ("xn--strae-oqa.de", "", "")),
        ("http://ex%61mple.com\\evil", ("example.com", "", "\\evil")),
        ("http://[2001:DB8:0::1]:8080/x", ("2001:db8::1", ":8080", "/x")),
        ("\thttp://a.o\nrg/ ", ("a.org", "", "/")),
        ("http://[bad", ("", "", "")),
        ("", ("", "", "")),
        ("http://" + "a." * 200 + "org/", ("", "", "/")),
    ],
)  # fmt: skip
def test_a_url_falls_into_host_port_and_path(url: str, parts: tuple[str, str, str]) -> None:
    assert split(url) == parts and host_of(url) == parts[0]
    assert plain_url(url) == f"{parts[0]}{parts[1]}{parts[2] or '/'}"


@settings(deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"\A(https?:)?(//)?[^/]*[/?#]?.*\Z"))
def test_any_string_is_a_url_of_some_kind(url: str) -> None:
    host, port, rest = split(url)
    assert len(host) <= 253 and domains_of(host)[:1] == ((host,) if host else ())
    assert re.fullmatch(r"(:\d+)?", port) and "#" not in rest
    assert all(word.isalnum() and word.isascii() for word in (*words_of(url), letters_of(url)) if word)
    covered(blocklist("a.com", "a.com/b", "http://a.com/b?c", "*.com", url.replace("\n", "")), url)


@pytest.mark.parametrize(("name", "registered"), OFFICIAL)
def test_the_domains_of_a_host_end_at_the_registered_one(name: str, registered: str) -> None:
    host = host_of(name)
    labels = host.split(".")
    wanted = host_of(registered or name)
    assert domains_of(host) == tuple(".".join(labels[n:]) for n in range(len(labels) - wanted.count(".")))


def test_the_public_suffix_lists_own_cases_are_there() -> None:
    assert len(OFFICIAL) > 60


# one line


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("bad.com", [(DOMAIN, "bad.com")]), ("  BAD.com. ", [(DOMAIN, "bad.com")]), ("ÜBER.de", [(DOMAIN, "xn--ber-goa.de")]),
        ("bad.com # why", [(DOMAIN, "bad.com")]), ("\ufeffbad.com", [(DOMAIN, "bad.com")]), ("a_b.com", [(DOMAIN, "a_b.com")]),
        ("10.1.2.3", [(DOMAIN, "10.1.2.3")]), ("2001:DB8::1", [(DOMAIN, "2001:db8::1")]),
        ("# bad.com", []), ("! bad.com", []), ("; x", []), ("[Adblock Plus 2.0]", []), ("", []), ("   ", []),
        ("localhost", []), ("com", []), ("<html>", []), ("a b c", []), ("bad..com", []), ("\0", []), ("\ud800.com", []),
        # hosts files
        ("0.0.0.0 ads.example.com # comment", [(DOMAIN, "ads.example.com")]),
        ("0.0.0.0\ta.b c.d e", [(DOMAIN, "a.b"), (DOMAIN, "c.d")]), ("127.0.0.1 a.b.com", [(DOMAIN, "a.b.com")]),
        (":: a.b.com", [(DOMAIN, "a.b.com")]), ("127.0.0.1 localhost localhost.localdomain local", []),
        ("::1 ip6-localhost ip6-loopback", []), ("fe80::1%lo0 localhost", []), ("0.0.0.0 0.0.0.0", []),
        ("255.255.255.255 broadcasthost", []), ("192.168.1.7 printer.example.com", []),
        # AdBlock
        ("||ads.example.com^", [(DOMAIN, "ads.example.com")]), ("||ads.example.com", [(DOMAIN, "ads.example.com")]),
        ("||x.com^$third-party", []), ("||x.com/ads/*", []), ("||x*.com^", []), ("@@||x.com^", []), ("x.com##.banner", []),
        ("x.com,y.com#@#.ad", []), ("/banner/*/img^", []),
        # UT1 urls, and URLs as they are
        ("foo.com/~Bar/", [(PREFIX, "foo.com/~bar")]), ("x.com:8080/a?b", [(PREFIX, "x.com:8080/a?b")]),
        ("x.com:8080", [(PREFIX, "x.com:8080")]), ("http://x.com:8080/", [(PREFIX, "x.com:8080")]),
        ("https://x.com/Y?z=1#f", [(EXACT, "x.com/Y?z=1")]), ("https://x.com/", [(DOMAIN, "x.com")]),
        ("http://x.com:80", [(DOMAIN, "x.com")]),
        # all below
        ("*.example.com", [(DOMAIN, "example.com")]), (".example.com", [(DOMAIN, "example.com")]),
        ("*.blogspot.com", [(BELOW, "blogspot.com")]), (".tk", [(BELOW, "tk")]),
    ],
)  # fmt: skip
def test_a_line_is_read_by_its_own_format(line: str, entries: list[tuple[int, str]]) -> None:
    assert parse(line) == entries
    expected = Builder()
    expected.add(entries)
    assert blocklist(line + "\r", "# end").hashes.tolist() == expected.build().hashes.tolist()


# what is covered


def test_a_domain_covers_its_subdomains_and_nothing_else() -> None:
    lists = blocklist("bad.com", "deep.sub.good.org", "1.2.3.4")
    assert covered(lists, "http://bad.com/", "https://a.b.BAD.com:8080/x", "http://notbad.com", "http://com") == [
        True,
        True,
        False,
        False,
    ]
    assert covered(lists, "http://deep.sub.good.org", "http://x.deep.sub.good.org", "http://sub.good.org") == [
        True,
        True,
        False,
    ]
    assert covered(lists, "http://1.2.3.4/", "http://9.1.2.3.4/", "http://2.3.4/") == [True, False, False]
    assert lists.find("https://a.b.BAD.com:8080/x") == (DOMAIN, "bad.com")  # fmt: skip


def test_names_of_this_machine_are_in_no_list_and_an_entry_counts_once() -> None:
    lists = blocklist(
        "127.0.0.1 localhost.localdomain", "localhost", "0.0.0.0 a.com", "||a.com^", "https://A.com/", "b.com"
    )
    assert len(lists) == 2 and covered(lists, "http://localhost.localdomain/", "http://localhost/") == [False, False]


@pytest.mark.parametrize("suffix", ["co.uk", "blogspot.com", "github.io"])
def test_a_public_suffix_covers_what_is_below_it_only_where_the_list_says_so(suffix: str) -> None:
    below = f"http://someone.{suffix}/"
    for line in (suffix, f"||{suffix}^", f"0.0.0.0 {suffix}", f"https://{suffix}/"):
        assert covered(blocklist(line), f"http://{suffix}/x", below) == [True, False]
    assert covered(blocklist(f"*.{suffix}"), f"http://{suffix}/x", below, "http://other.org") == [True, True, False]


def test_a_path_covers_what_is_below_it_and_a_url_itself() -> None:
    lists = blocklist("foo.com/~Bar/", "foo.com/a?x=1", "q.org:8080", "https://y.net/P?q")
    assert covered(lists, "http://foo.com/~bar", "https://WWW.foo.com/~BAR/x", "http://foo.com/~bar?y") == [True] * 3
    assert covered(lists, "http://foo.com/~barn", "http://foo.com/x/~bar", "http://foo.com/") == [False] * 3
    assert covered(lists, "http://foo.com/a?x=1", "http://foo.com/a?x=1&y", "http://foo.com/a?x=12") == [
        True,
        True,
        False,
    ]
    assert covered(lists, "http://q.org:8080/any", "http://q.org/any") == [True, False]
    assert covered(lists, "http://y.net/P?q#f", "http://y.net/p?q", "http://y.net/P?q&r") == [True, False, False]
    assert lists.find("https://www.foo.com/~Bar/x") == (PREFIX, "foo.com/~Bar")


SUFFIXES = publicsuffixlist.PublicSuffixList()
LABEL = st.sampled_from(["a", "b", "www", "x-1"])
HOST = st.builds(lambda labels, top: ".".join([*labels, top]), st.lists(LABEL, min_size=1, max_size=4),
                 st.sampled_from(["com", "co.uk", "blogspot.com", "de"]))  # fmt: skip
PATH = st.lists(st.sampled_from(["/a", "/B", "?a", "&c", "/", "a"]), max_size=5).map(
    lambda parts: "".join(["/", *parts]) if parts else ""
)


@settings(deadline=None)
@given(st.lists(st.tuples(HOST, PATH), max_size=6), HOST, PATH)
def test_the_hashes_say_what_the_definition_says(entries: list[tuple[str, str]], host: str, path: str) -> None:
    """A domain or a path prefix covers a URL as plain comparison of strings has it."""

    def covers(name: str, start: str) -> bool:
        within = host == name or (host.endswith(f".{name}") and not SUFFIXES.is_public(name))
        start, full = start.rstrip("/?&").lower(), path.lower()
        return within and full.startswith(start) and full[len(start) : len(start) + 1] in ("", "/", "?", "&")

    lists = blocklist(*(name + start for name, start in entries))
    assert covered(lists, f"http://{host}{path}") == [any(covers(*entry) for entry in entries)]


@pytest.mark.parametrize("url", [
    "http://x.com/" + "/" * 1_000_000, "http://" + "a." * 500_000 + "com/", "http://" + "ü" * 1_000_000, "a" * 1_000_000,
    "http://x.com/" + "?&/" * 300_000 + "ü", "http://" + "@" * 1_000_000, "[" * 1_000_000, "a:" * 500_000, "%61" * 300_000,
    "http://x.com/" + "\0\n" * 300_000,
])  # fmt: skip
def test_a_url_of_a_megabyte_takes_no_longer_than_its_length(url: str) -> None:
    deep = blocklist("x.com" + "/a" * 1_000, "*.tk", "https://x.com/y", "z.com", url.replace("\n", ""))
    rules = url_lists.UrlRules(deep, frozenset({"aa"}), frozenset({"bb"}), ("ab" * 50, "zz"))
    began = time.process_time()
    covered(deep, url)
    rules.banned_words(url), rules.soft_words(url), rules.banned_substrings(url)
    assert time.process_time() - began < 3


def test_words_are_what_lies_between_other_characters_and_substrings_cross_them() -> None:
    rules = rules_of(UrlLists(banned_words=["Casino"], soft_words=["free", "win"], banned_substrings=["XXX", "yy"]))
    assert rules.banned_words("http://z.org/CASINO-1") == ["casino"] and not rules.banned_words("http://z.org/casinos")
    assert rules.soft_words("http://free.org/win/free") == ["free", "win"]
    assert rules.banned_substrings("http://z.org/a-x.x/X-y") == ["xxx"]


# files


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("blacklists/porn/domains")
        link.type, link.linkname = tarfile.SYMTYPE, "../elsewhere"
        archive.addfile(link)
    return packed.getvalue()


UT1 = {
    "blacklists/adult/domains": b"bad.com\n10.0.0.9\n", "blacklists/adult/urls": b"ok.com/~bad\n",
    "blacklists/adult/expressions": b"(sex|xxx).*\n", "blacklists/press/domains": b"news.org\n",
    "blacklists/README": b"see.example.net\n",
}  # fmt: skip


@pytest.mark.parametrize("packed", ["folder", "w:gz", "w:xz", "w"])
def test_ut1_is_read_as_it_comes_and_by_category(tmp_path: Path, packed: str) -> None:
    place = tmp_path / "lists"
    if packed == "folder":
        for name, data in UT1.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        (place / "blacklists" / "porn").symlink_to("adult")
    else:
        place.write_bytes(tar_of(UT1, packed))
    urls = ["http://bad.com", "http://10.0.0.9/", "http://ok.com/~bad/x", "http://news.org", "http://see.example.net"]
    for categories, wanted in (([], [1, 1, 1, 1, 0]), (["adult"], [1, 1, 1, 0, 0]), (["press"], [0, 0, 0, 1, 0])):
        lists = rules_of(UrlLists(blocklists=[str(place)], categories=categories)).blocklist
        assert lists.listed(urls).tolist() == [bool(value) for value in wanted]
    with pytest.raises((CurateError, ValidationError), match="categories gambling"):
        rules_of(UrlLists(blocklists=[str(place)], categories=["gambling"]))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_list_is_read_whatever_it_is_packed_in_and_however_long_its_lines(tmp_path: Path, pack: Any) -> None:
    names = [
        f"{a}{b}{c}.example{n}.com"
        for n in range(20)
        for a in string.ascii_lowercase
        for b in "0123456789"
        for c in "abcdef"
    ]
    lines = [*names[:9], "z.org/" * 500_000, *names[9:], "last.org"]
    (tmp_path / "list").write_bytes(pack("\n".join(lines).encode()))
    lists = rules_of(UrlLists(blocklists=[str(tmp_path / "list")])).blocklist
    assert lists.listed([f"http://{name}/" for name in (*names, "last.org")]).all()
    assert len(lists) == len(names) + 1 and lists.hashes.nbytes == 8 * len(lists)


def test_a_list_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    cases = {
        "page": (b"<html><body>Not found</body></html>\n", "holds no domain and no URL"),
        "empty": (b"# nothing\n", "holds no domain and no URL"),
        "cut.gz": (gzip.compress(b"bad.com\n" * 1000)[:-9], "is damaged"),
        "cut.xz": (lzma.compress(b"bad.com\n" * 1000)[:-9], "is damaged"),
        "cut.tar": (tar_of(UT1, "w")[:700], "is damaged|holds no"),
    }
    for name, (data, said) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CurateError, match=f"{name}.*({said})"):
            rules_of(UrlLists(blocklists=[str(tmp_path / name)]))
    with pytest.raises(ValidationError, match="no such file: /none"):
        UrlLists(blocklists=["/none"])


def test_a_list_that_unpacks_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_lists, "MOST_BYTES", 1 << 20)
    bombs = {"a.gz": gzip.compress(b"bad.com\n" * (1 << 20)), "a.xz": lzma.compress(b"\n" * (9 << 20)),
             "a.tgz": tar_of({"x/usage": b"\0" * (3 << 20), "x/domains": b"bad.com\n"})}  # fmt: skip
    for name, data in bombs.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CurateError, match=f"{name} is longer than 1,048,576 bytes when unpacked"):
            rules_of(UrlLists(blocklists=[str(tmp_path / name)]))


def test_more_entries_than_the_memory_allows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ENTRIES * 8 <= 256 << 20
    monkeypatch.setattr("curate.stages.urls.blocklists.MOST_ENTRIES", 2)
    with pytest.raises(CurateError, match="more than 2 entries"):
        blocklist("a.com", "b.com", "c.com")


def test_another_content_of_a_file_is_another_run_and_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "lists" / "adult" / "domains"
    path.parent.mkdir(parents=True)
    path.write_text("one.com\n")
    config = UrlLists(blocklists=[str(tmp_path / "lists")])
    before = config.fingerprint()
    assert rules_of(config).blocklist.find("http://one.com")
    path.write_text("another.com\n")
    assert UrlLists(blocklists=[str(tmp_path / "lists")]).fingerprint() != before
    assert not rules_of(config).blocklist.find("http://one.com")


# lists behind a URL


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CrawlServer]:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("curate.pipeline.remote.time.sleep", lambda seconds: None)
    with crawl_server() as running:
        running.files["/adult.tar.gz"] = tar_of(UT1)
        yield running


def test_a_list_behind_a_url_is_fetched_once_and_pinned_to_what_came(server: CrawlServer) -> None:
    url = f"{server.url}adult.tar.gz?token=secret"
    config = UrlLists(blocklists=[url], categories=["adult"])
    (item,) = config.blocklists
    assert isinstance(item, ListUrl) and item.url == url and len(item.sha256) == 64
    assert rules_of(config).blocklist.listed(["http://bad.com", "http://news.org"]).tolist() == [True, False]
    server.files["/adult.tar.gz"] = tar_of({"adult/domains": b"other.com\n"})
    again = UrlLists(blocklists=[url], categories=["adult"])
    assert again == config and again.fingerprint() == config.fingerprint()
    assert len(server.requests("adult.tar.gz")) == 1


def test_the_recipe_of_the_workspace_means_the_same_list_though_its_url_lost_a_token(server: CrawlServer) -> None:
    config = UrlLists(blocklists=[f"{server.url}adult.tar.gz?token=secret"])
    written = redact_text(config.model_dump_json())
    assert "secret" not in written
    assert UrlLists.model_validate_json(written).fingerprint() == config.fingerprint()


def test_a_pinned_list_is_the_one_that_was_pinned_or_an_error(server: CrawlServer, tmp_path: Path) -> None:
    first = UrlLists(blocklists=[f"{server.url}adult.tar.gz"])
    written = UrlLists.model_validate(first.model_dump(mode="json"))
    assert written == first and written.fingerprint() == first.fingerprint()
    for file in (tmp_path / "cache" / "lists").iterdir():
        file.unlink()  # another machine
    assert rules_of(written).blocklist.find("http://bad.com")
    for file in (tmp_path / "cache" / "lists").iterdir():
        file.unlink()
    url_lists._held.clear()
    server.files["/adult.tar.gz"] = tar_of({"adult/domains": b"other.com\n"})
    with pytest.raises(CurateError, match="is not the list that it was"):
        rules_of(written)
    assert UrlLists(blocklists=[f"{server.url}adult.tar.gz"]).fingerprint() != first.fingerprint()


def test_a_damaged_copy_in_the_cache_is_fetched_again(server: CrawlServer, tmp_path: Path) -> None:
    config = UrlLists(blocklists=[f"{server.url}adult.tar.gz"])
    (item,) = config.blocklists
    assert isinstance(item, ListUrl)
    (tmp_path / "cache" / "lists" / item.sha256).write_bytes(b"half")
    assert rules_of(config).blocklist.find("http://bad.com")


def test_a_list_that_cannot_be_fetched_is_one_clear_error_without_its_query(
    server: CrawlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match="is not there") as missing:
        UrlLists(blocklists=[f"{server.url}none?token=secret"])
    monkeypatch.setattr(url_lists, "MOST_FETCHED", 10)
    with pytest.raises(ValidationError, match="longer than 10 bytes") as long:
        UrlLists(blocklists=[f"{server.url}adult.tar.gz?token=secret"])
    assert "secret" not in missing.value.errors()[0]["msg"] + long.value.errors()[0]["msg"]


def test_nothing_is_fetched_because_a_page_has_a_url(server: CrawlServer) -> None:
    rules = rules_of(UrlLists(blocklists=[f"{server.url}adult.tar.gz"]))
    asked = len(server.asked)
    rules.blocklist.find(f"{server.url}adult.tar.gz")
    assert len(server.asked) == asked
