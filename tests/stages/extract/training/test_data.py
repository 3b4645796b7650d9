"""Sets of pages: what is loaded, what a split keeps together, what is refused."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.errors import UsageError
from curate.stages.extract.training import data, extra, plain, teacher
from support import shared_data

SENTENCE = "The harbour was closed at noon because the wind had turned and no pilot would go out to the ships. "


def page(identity: str = "1", *, name: str = "toy", source: bytes = b"", **known: Any) -> data.Page:
    return data.make(name, identity, source or f"<p>{identity}</p>".encode(), url=known.pop("url", None), **known)


def archive(folder: Path, name: str, files: dict[str, str]) -> Path:
    path = folder / name
    with tarfile.open(path, "w:xz") as tar:
        for member, text in files.items():
            info = tarfile.TarInfo(member)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return path


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- splits -----------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), min_size=1), st.integers(2, 7), st.integers(0, 3)
)
def test_a_site_is_in_one_fold_whatever_the_set(drawn: list[tuple[str, int]], folds: int, seed: int) -> None:
    pages = [page(str(at), name=name, site=f"site{site}.org") for at, (name, site) in enumerate(drawn)]
    found = data.folds_of(pages, folds, seed)
    assert all(0 <= fold < folds for fold in found)
    assert len({(one.site, fold) for one, fold in zip(pages, found, strict=True)}) == len({one.site for one in pages})


def test_the_fold_of_a_site_does_not_depend_on_the_pages_around_it() -> None:
    pages = [page(str(number), site=f"site{number}.org") for number in range(40)]
    alone = [data.folds_of([one])[0] for one in pages]
    assert data.folds_of(pages) == alone == [data.fold(one.site) for one in pages]
    assert len(set(alone)) == 5


def test_another_seed_gives_another_split() -> None:
    sites = [f"site{number}.org" for number in range(40)]
    assert [data.fold(site, seed=1) for site in sites] != [data.fold(site, seed=2) for site in sites]


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        ({"url": "https://www.one.org/a/?x=1"}, {"url": "http://one.org/a?x=1"}, "address"),
        ({"url": "http://one.org/a"}, {"url": "https://web.archive.org/web/2014id_/http://one.org/a/"}, "address"),
        ({"source": b"<p>the very same bytes"}, {"source": b"<p>the very same bytes"}, "content"),
        ({"source": b"<title>How to go to sea</title>1"}, {"source": b"<title>how to go to  sea!</title>2"}, "title"),
    ],
)
def test_a_page_that_two_sets_share_is_in_one_fold(first: dict[str, Any], second: dict[str, Any], why: str) -> None:
    sites = [f"site{number}.org" for number in range(40)]
    other = next(site for site in sites if data.fold(site) != data.fold(sites[0]))
    pages = [page("1", name="one", site=sites[0], **first), page("2", name="two", site=other, **second)]
    assert data.duplicates(pages) == [(pages[0], pages[1], why)]
    assert len(set(data.folds_of(pages))) == 1


def test_pages_of_a_set_with_the_same_title_on_two_sites_are_no_duplicates() -> None:
    title = b"<title>Please log in to go on</title>"
    pages = [page("1", site="one.org", source=title + b"1"), page("2", site="two.org", source=title + b"2")]
    assert data.duplicates(pages) == []


def test_pages_for_measuring_cannot_be_trained_on() -> None:
    with pytest.raises(UsageError, match="toy/2 is for measuring only"):
        data.trainable([page("1"), page("2", role="measure")])
    assert len(data.trainable([page("1"), page("2", role="teacher")])) == 2


# --- sites and languages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "site"),
    [
        ("https://www.bbc.co.uk/news", "bbc.co.uk"),
        ("https://a.b.example.com:8080/x?y", "example.com"),
        ("http://kulinariaathome.wordpress.com/2012/", "wordpress.com"),
        ("https://web.archive.org/web/20110101000000/http://www.zeit.de/a", "zeit.de"),
        ("https://web.archive.org/web/20110101000000/http:/www.zeit.de/a", "zeit.de"),
        ("hard::laestrella.com.pa-laboral.html", "laestrella.com.pa"),
        ("hard::jamaicaobserver.com-attacks.html", "jamaicaobserver.com"),
        ("hard::blog.python.org.html", "python.org"),
        ("http://192.168.7.1/index.html", "192.168.7.1"),
        ("nothing", ""),
    ],
)
def test_the_site_is_the_registered_domain(url: str, site: str) -> None:
    assert data.site_of(url) == site


def test_a_page_without_an_address_is_a_site_of_its_own() -> None:
    assert {page("1").site, page("2").site} == {"toy:1", "toy:2"}


def test_the_language_is_that_of_the_text_where_the_page_declares_another() -> None:
    german = "Der Hafen wurde am Mittag geschlossen, weil der Wind gedreht hatte und kein Lotse zu den Schiffen fahren wollte. "
    assert data.language_of('<html lang="en-US">', german * 8) == "de"
    assert data.language_of('<html lang="en-US">', SENTENCE * 8) == "en"
    danish = "Havnen blev lukket ved middagstid, fordi vinden havde vendt, og ingen lods ville sejle ud til skibene. "
    assert data.language_of('<html lang="no">', danish * 8) == "no"  # too near to overrule the page
    assert data.language_of('<html lang="de">', danish * 8) == "da"
    assert data.language_of('<html lang="pt-BR">', "") == "pt"
    assert data.language_of("<html>", "") is None


def test_a_page_tells_its_address_by_its_canonical_link_then_by_og_url() -> None:
    graph = '<meta property="og:url" content="https://two.org/b?x=1&amp;y=2">'
    assert data.declared_url(f'<link rel="canonical" href="https://one.org/a">{graph}') == "https://one.org/a"
    assert data.declared_url(f'<link rel="canonical" href="/a">{graph}') == "https://two.org/b?x=1&y=2"
    assert data.declared_url('<link rel="canonical" href="http://fakehost/a">') is None


# --- archives ---------------------------------------------------------------------------------------------------------


def test_an_archive_that_leads_out_of_its_folder_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    archive(tmp_path, "evil.tar.xz", {"../evil.txt": "here I am"})
    with pytest.raises(tarfile.FilterError):
        data.unpack(tmp_path, "evil.tar.xz", tmp_path / "cache")
    assert not (tmp_path / "evil.txt").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_is_unpacked_once_and_again_when_it_changed(tmp_path: Path) -> None:
    archive(tmp_path, "a.tar.xz", {"a/x": "one"})
    folder = data.unpack(tmp_path, "a.tar.xz", tmp_path / "cache")
    (folder / "a" / "mark").write_text("kept")
    assert (data.unpack(tmp_path, "a.tar.xz", tmp_path / "cache") / "a" / "mark").exists()
    archive(tmp_path, "a.tar.xz", {"a/x": "another text, and a longer one"})
    assert (data.unpack(tmp_path, "a.tar.xz", tmp_path / "cache") / "a" / "x").read_text().startswith("another")


def test_a_missing_archive_and_an_unknown_set_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no pages-2026\.tar\.xz in"):
        data.load(tmp_path, tmp_path / "cache", sets=["pages-2026"])
    with pytest.raises(UsageError, match="did you mean 'pages-reader'"):
        data.load(tmp_path, tmp_path / "cache", sets=["pages-readers"])
    with pytest.raises(UsageError, match=r"no newspaper4k.* in"):
        data.load(tmp_path, tmp_path / "cache", sets=["newspaper4k"], extra=tmp_path)


# --- sets -------------------------------------------------------------------------------------------------------------


def test_gold_snippets_type_and_bytes_come_from_the_archive_as_they_are(tmp_path: Path) -> None:
    row = {
        "id": "07",
        "url": "https://a.one.org/x",
        "page_type": "forum",
        "text": "A\n\nB",
        "with_": ["A"],
        "without": ["C"],
    }
    files = {"pages-2026/gold.jsonl": lines(row), "pages-2026/pages/07.html": "<p>A<p>B\r\n"}
    archive(tmp_path, "pages-2026.tar.xz", files)
    (found,) = data.load(tmp_path, tmp_path / "cache", sets=["pages-2026"])
    assert found.html == b"<p>A<p>B\r\n"
    assert (found.key, found.site, found.page_type, found.gold) == ("pages-2026/07", "one.org", "forum", "A\n\nB")
    assert (found.must, found.must_not, found.role) == (("A",), ("C",), "train")


def test_reader_pages_of_one_site_share_it_though_one_of_them_alone_tells_the_address(tmp_path: Path) -> None:
    rows = [{"id": name, "expected_html": "<p>a</p><p>b</p>"} for name in ("nytimes-1", "nytimes-2", "unknown")]
    files = {f"pages-reader/pages/{row['id']}.html": f"<p>{row['id']}" for row in rows}
    files["pages-reader/pages/nytimes-2.html"] = '<link rel="canonical" href="https://www.nytimes.com/x">'
    archive(tmp_path, "pages-reader.tar.xz", {"pages-reader/gold.jsonl": lines(*rows), **files})
    found = data.load(tmp_path, tmp_path / "cache", sets=["pages-reader"])
    assert [one.site for one in found] == ["nytimes.com", "nytimes.com", "pages-reader:unknown"]
    assert [one.url for one in found] == [None, "https://www.nytimes.com/x", None]
    assert {one.gold for one in found} == {"a\n\nb"}


@pytest.mark.slow
def test_the_shared_sets_are_whole(tmp_path: Path) -> None:
    folder = shared_data("pages-snippets.tar.xz").parent
    pages = data.load(folder, tmp_path)
    counts = {name: sum(one.set == name for one in pages) for name in data.SETS}
    assert counts == {"pages-2026": 490, "pages-reader": 130, "pages-snippets": 990, "pages-math-code": 27}
    assert len({one.key for one in pages}) == len(pages)
    assert all(one.gold for one in pages if one.set in ("pages-2026", "pages-reader"))
    assert all(one.must or one.must_not for one in pages if one.set == "pages-snippets")
    assert {one.role for one in pages if one.set == "pages-math-code"} == {"measure"}
    assert not any(one.site.startswith(one.set) for one in pages if one.set != "pages-reader")
    sizes = [data.folds_of(pages).count(fold) for fold in range(5)]
    assert min(sizes) > 0.7 * len(pages) / 5


# --- text of clean HTML -----------------------------------------------------------------------------------------------


def test_paragraphs_are_apart_by_blank_lines_items_and_rows_by_line_breaks() -> None:
    clean = "<div><h1>Tide &amp; time</h1><p>One\n <b>bold</b>word</p><ul><li>a</li><li>b</li></ul>x<br>y"
    clean += "<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table><script>no</script></div>"
    assert plain.text_of(clean) == "Tide & time\n\nOne boldword\n\na\nb\n\nx\ny\n\n1 2\n3"


def test_code_keeps_its_line_breaks_blank_lines_tabs_and_indentation() -> None:
    assert (
        plain.text_of("<p>a</p><pre>\nif x:\n    y()\n\n\n\tz()\n</pre><p>b</p>")
        == "a\n\nif x:\n    y()\n\n\n\tz()\n\nb"
    )


@given(st.text(st.sampled_from("<>/ap&;br pre\n\t x\xa0"), max_size=60))
def test_any_markup_gives_a_text_without_its_helper_characters(markup: str) -> None:
    text = plain.text_of(markup)
    assert text == text.strip("\n")
    assert not any("\ue000" <= char <= "\uf8ff" for char in text)


# --- further packages -------------------------------------------------------------------------------------------------


def test_a_manuals_text_is_that_of_its_main_elements_without_navigation() -> None:
    manual = extra.Manual("x", "one.org", "MIT", ("h1", "[role=main]"), (".headerlink", "nav"))
    source = "<nav>Home</nav><h1>Sea</h1><div role=main><p>Salt<a class=headerlink>#</a></p><nav>Next</nav></div>"
    assert extra.main_text(source, manual) == "Sea\n\nSalt"


def declaring(body: str, shown: str, **known: Any) -> data.Page:
    script = json.dumps({"@graph": [{"@type": "NewsArticle", "articleBody": body}]})
    source = f'<script type="application/ld+json">{script}</script><nav>Menu</nav><article><p>{shown}</p></article>'
    return page(source=source.encode(), **known)


def test_a_declared_text_is_gold_if_the_page_shows_it_and_its_snippets_agree() -> None:
    text = SENTENCE * 8
    assert extra.declared_gold(declaring(text, text, must=["closed at noon"], must_not=["Menu"])) == text.strip()
    (filled,) = extra.with_declared_gold([declaring(text, text)])
    assert filled.gold == text.strip()


@pytest.mark.parametrize(
    "refused",
    [
        declaring(SENTENCE, SENTENCE),
        declaring(SENTENCE * 8, "Please turn on your scripts."),
        declaring(SENTENCE * 8, SENTENCE * 8, must=["of this there is nothing"]),
        declaring(SENTENCE * 8, SENTENCE * 8, must_not=["closed at noon"]),
        page(source=b'<script type="application/ld+json">{"articleBody": </script>'),
    ],
    ids=["short", "not shown", "a snippet missing", "a snippet leaked", "not JSON"],
)
def test_a_declared_text_that_cannot_be_trusted_is_none(refused: data.Page) -> None:
    assert extra.declared_gold(refused) is None


def test_gold_that_somebody_wrote_is_not_replaced() -> None:
    written = declaring(SENTENCE * 8, SENTENCE * 8, gold="written")
    assert extra.with_declared_gold([written]) == [written]


# --- teachers ---------------------------------------------------------------------------------------------------------


def test_a_stopped_teacher_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def engine(source: str) -> str:
        asked.append(source)
        return source.removeprefix("<p>").removesuffix("</p>") + "\u2028."

    monkeypatch.setattr(teacher, "ENGINES", {"toy-engine": engine})
    pages = [page("1"), page("2"), page("3", name="other")]
    teacher.teach(pages[:2], tmp_path, ["toy-engine"])
    path = tmp_path / "toy.jsonl"
    path.write_text(path.read_text("utf-8")[:-10], "utf-8")  # killed while it wrote the second line
    assert teacher.read(tmp_path) == {("toy/1", "toy-engine"): "1\u2028."}
    asked.clear()
    teacher.teach(pages, tmp_path, ["toy-engine"])
    assert asked == ["<p>2</p>", "<p>3</p>"]
    assert teacher.read(tmp_path) == {(one.key, "toy-engine"): f"{one.id}\u2028." for one in pages}


def test_gold_is_doubtful_where_no_engine_comes_near_it() -> None:
    told = page("1", gold=SENTENCE * 3)
    near = {("toy/1", "trafilatura"): "", ("toy/1", "resiliparse"): SENTENCE * 3}
    assert teacher.doubtful([told], near) == []
    assert teacher.doubtful([told], {**near, ("toy/1", "resiliparse"): "Menu"}) == [told]
    assert teacher.doubtful([page("1"), page("2", gold="x")], near) == []


def test_gold_is_grounded_as_far_as_the_page_shows_it_in_noscript_too() -> None:
    other = "A summary in words that nobody on this page has ever used, made by somebody who was not there at all."
    source = f"<body><nav>Menu</nav><noscript><p>{SENTENCE}</p></noscript><script>'{other}'</script>".encode()
    assert teacher.grounded(page("1", source=source, gold=SENTENCE)) == 1
    assert teacher.grounded(page("1", source=source, gold=other)) == 0
    assert teacher.grounded(page("1", source=source)) == 1
