"""Whole pages through the model that comes with curate: what a reader of the page would call its text."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.stages.extract import content, extract
from curate.stages.extract.content import Content, extract_page
from curate.stages.extract.content import model as models
from curate.stages.extract.training import metric
from support import shared_data

ROOT = Path(__file__).parents[4]
PARAGRAPHS = [
    "The harbour was closed at noon on Tuesday because the wind had turned, and no pilot would go out to the forty ships that "
    "lay waiting before the bar, some of them since the weekend.",
    "“We have not seen a swell like this since the winter of 1987,” said the harbour master, Anna Lind, who has kept "
    "the port's "
    "log for twenty-two years. “Nobody should be out there.”",
    "By the evening the storm had passed to the east. The first tankers were brought in shortly before midnight, and the port "
    "expects to be back to its usual traffic by the end of the week.",
    "The closure is the third this year. Shipping companies have asked the city to lengthen the breakwater, a project that was "
    "shelved in 2019 when its cost had doubled.",
]
HEAD = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{}</title></head><body>'
MENU = (
    '<a class="skip-link" href="#main">Skip to content</a><header class="site-header"><div class="logo"><a '
    'href="/">Coast Daily</a>'
    '</div><nav class="main-nav"><ul><li><a href="/news">News</a></li><li><a href="/sport">Sport</a></li><li><a '
    'href="/weather">'
    'Weather</a></li><li><a href="/login">Sign in</a></li></ul></nav></header>'
)  # fmt: skip
COOKIES = (
    '<div id="cookie-banner" class="cookie-consent" role="dialog"><p>We use cookies to improve your experience on our '
    'site and to '
    'show you relevant advertising. By clicking accept you agree to our use of cookies.</p><button>Accept all</button>'
    '<button>Manage preferences</button></div>'
)  # fmt: skip
RELATED = (
    '<aside class="related"><h3>Related articles</h3><ul><li><a href="/1">Ten things to do on a rainy weekend at the '
    'coast</a></li>'
    '<li><a href="/2">Fishermen ask for help after the poorest season in years</a></li><li><a href="/3">Why the lighthouse was '
    'painted blue</a></li></ul></aside>'
)  # fmt: skip
FOOTER = (
    '<footer class="site-footer"><ul><li><a href="/privacy">Privacy policy</a></li><li><a href="/terms">Terms of '
    "use</a></li></ul>"
    "<p>© 2026 Coast Daily. All rights reserved.</p></footer></body></html>"
)
ARTICLE = (
    HEAD.format("Storm closes the harbour | Coast Daily") + COOKIES + MENU
    + '<main id="main"><article class="post"><h1>Storm closes the harbour</h1>'
    + "".join(f"<p>{each}</p>" for each in PARAGRAPHS) + "</article>" + RELATED + "</main>" + FOOTER
)  # fmt: skip
OUTSIDE = [
    "Skip to content", "Coast Daily", "Sport", "Sign in", "cookies", "Accept all", "Related articles", "rainy weekend",
    "lighthouse",
    "Privacy policy", "All rights reserved",
]  # fmt: skip


def page(source: str, **known: bool) -> Content:
    return extract_page(source.encode(), **known)


# --- what is found ----------------------------------------------------------------------------------------------------


def test_of_an_article_its_heading_and_its_paragraphs_are_the_text() -> None:
    found = page(ARTICLE)
    assert found.text.split("\n\n") == ["Storm closes the harbour", *PARAGRAPHS]
    assert found.title == "Storm closes the harbour | Coast Daily"
    assert found.confidence > 0.8
    assert not found.has_math


def test_the_same_article_in_elements_that_mean_nothing_is_found_by_its_classes_and_words() -> None:
    plain = ARTICLE
    for name in ("main", "article", "nav", "header", "footer", "aside"):
        plain = plain.replace(f"<{name}", "<div").replace(f"</{name}>", "</div>")
    text = page(plain).text
    assert all(paragraph in text for paragraph in PARAGRAPHS)
    assert not [each for each in OUTSIDE if each in text]


def test_an_article_in_chinese_is_found() -> None:
    lines = [
        "由于风向突变，港口于星期二中午关闭，没有领航员愿意驶向在沙洲前等待的四十艘船只。",
        "港务长表示，自从一九八七年冬天以来，他们从未见过这样的巨浪，谁也不应该在这种天气出海。",
        "到了晚上，风暴向东移去，第一批油轮在午夜前不久被引入港内，预计本周末将恢复正常。",
    ]
    source = (
        HEAD.format("港口因风暴关闭") + "<nav><ul><li><a href=/>首页</a><li><a "
        "href=/n>新闻</a></ul></nav><article><h1>港口因风暴关闭</h1>"
        + "".join(f"<p>{line}</p>" for line in lines) + "</article><footer><p>版权所有</p></footer>"
    )  # fmt: skip
    text = page(source).text
    assert all(line in text for line in lines)
    assert "首页" not in text and "版权所有" not in text


def test_of_a_forum_thread_question_and_answers_are_the_text() -> None:
    posts = [
        "I have been trying to restore an old brass ship's clock that my grandfather left me, but it stops after ten "
        "minutes. Has "
        "anybody here seen this before? I cleaned it already.",
        "That sounds like a tired mainspring to me. Take it out, measure its height and length, and order a new one; mine cost "
        "about twelve pounds and took an hour to fit.",
        "Agreed with the above. Before you buy anything check the pivots under a loupe, though: dried oil in the "
        "pivot holes does "
        "exactly the same, and it costs nothing to clean them again.",
    ]
    thread = "".join(
        f'<div class="post" id="p{at}"><div class="post-author"><a href="/u/{at}">user{at}</a></div><div class="post-body">'
        f'<p>{text}</p></div><div class="post-actions"><a href="/r">Reply</a> <a href="/q">Quote</a> <a '
        f'href="/f">Report</a></div></div>'
        for at, text in enumerate(posts)
    )
    source = HEAD.format("Ship's clock stops after ten minutes - Clock forum") + MENU + (
        f'<div class="breadcrumbs"><a href="/">Forum</a> » <a href="/c">Clocks</a></div><div '
        f'class="thread"><h1>Ship\'s clock stops '
        f"after ten minutes</h1>{thread}</div>" + FOOTER
    )  # fmt: skip
    text = page(source).text
    assert all(post in text for post in posts)
    assert not [each for each in ("Sign in", "Privacy policy", "All rights reserved") if each in text]


DOCS = (
    HEAD.format("Reading files — Toolkit documentation") + '<nav class="sidebar toctree"><ul><li><a '
    'href="/install">Installation</a>'
    '</li><li><a href="/quick">Quick start</a></li><li><a href="/api">API reference</a></li></ul></nav><div class="document" '
    'role="main"><h1>Reading files</h1><p>The function <code>open_table</code> reads a table from a path and gives it as an '
    "iterator over rows. Nothing is read before the first row is asked for.</p><pre><code>from toolkit import open_table\n\n"
    'for row in open_table("harbour.csv"):\n    print(row["ship"])\n</code></pre><p>If the file cannot be read, '
    "<code>TableError</code> is raised; its message names the line and the "
    "column.</p><h2>Options</h2><ul><li><code>header</code>: "
    "whether the first line names the columns.</li><li><code>encoding</code>: how characters are written, UTF-8 unless told "
    'otherwise.</li></ul></div><div class="footer">Built with Docmaker 3.1. <a href="/src">Show source</a></div></body></html>'
)  # fmt: skip


def test_of_a_documentation_page_text_and_code_are_the_text_line_by_line() -> None:
    text = page(DOCS).text
    assert 'for row in open_table("harbour.csv"):\n    print(row["ship"])' in text
    assert "Nothing is read before the first row is asked for." in text
    assert "its message names the line and the column" in text
    assert not [each for each in ("Installation", "Quick start", "Show source") if each in text]


def test_as_markdown_headings_lists_and_code_are_marked() -> None:
    text = page(DOCS, markdown=True).text
    assert text.startswith("# Reading files\n")
    assert "```\nfrom toolkit import open_table\n" in text
    assert "\n## Options\n" in text


def test_formulas_of_an_article_are_latex_unless_told_otherwise() -> None:
    formula = "<math><mi>a</mi><mo>+</mo><mi>b</mi></math>"
    source = ARTICLE.replace("By the evening", f"With {formula} ships, by the evening")
    found = page(source)
    assert found.has_math
    assert "With $a + b$ ships" in found.text or "With $a+b$ ships" in found.text
    assert not page(source, math=False).has_math


# --- where there is nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        "",
        "<html><head><title>Nothing</title></head><body></body></html>",
        HEAD.format("Coast Daily") + MENU + FOOTER,
        HEAD.format("Log in - Coast Daily") + MENU
        + "<form class=login action=/login><label>User name</label><input name=u><label>"
        "Password</label><input type=password><button>Log in</button><a href=/lost>Forgot your password?</a></form>" + FOOTER,
        HEAD.format("x") + "<script>document.write('all of it')</script><noscript>Please enable JavaScript.</noscript>",
    ],
    ids=["no bytes", "no body", "menu only", "login form", "script only"],
)  # fmt: skip
def test_a_page_without_main_content_has_an_empty_text(source: str) -> None:
    found = page(source)
    assert found.text == ""
    assert found.confidence < 0.6


def test_a_page_that_a_script_draws_has_the_text_of_its_linked_data() -> None:
    body = "\n\n".join(PARAGRAPHS)
    data = json.dumps(
        {"@context": "https://schema.org", "@type": "NewsArticle", "headline": "Storm", "articleBody": body}
    )
    source = HEAD.format("Storm closes the harbour").replace(
        "</head>", f'<script type="application/ld+json">{data}</script></head>'
    )
    found = page(source + '<div id="root"></div>' + MENU + FOOTER)
    assert found.text == body
    assert found.title == "Storm closes the harbour"
    assert 0 < found.confidence < 1


def test_a_chinese_page_that_a_script_draws_has_the_text_of_its_linked_data() -> None:
    body = "\n".join(["由于风向突变，港口于星期二中午关闭，没有领航员愿意驶向在沙洲前等待的四十艘船只。"] * 20)
    script = f'<script type="application/ld+json">{json.dumps({"@type": "Article", "articleBody": body})}</script>'
    found = page(f'{script}<div id="root"></div><nav><a href="/">首页</a></nav>')
    assert found.text.replace("\n\n", "\n") == body


def test_signs_of_markup_in_a_plain_text_of_linked_data_are_kept() -> None:
    body = "Where a < b and b > c, AT&amp;T writes a <= c.\n" * 20
    script = f'<script type="application/ld+json">{json.dumps({"@type": "Article", "articleBody": body})}</script>'
    assert page(script).text.startswith("Where a < b and b > c, AT")


def test_linked_data_does_not_replace_an_article_that_is_on_the_page() -> None:
    data = json.dumps({"@type": "NewsArticle", "articleBody": "\n\n".join(PARAGRAPHS)})
    script = f'<script type="application/ld+json">{data}</script></head>'
    assert page(ARTICLE.replace("</head>", script)).text == page(ARTICLE).text


# --- any page ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from([
            *PARAGRAPHS[:1], "<p>", "</p>", "<div>", "</div>", "<table>", "<tr>", "<td>", "<ul><li>", "</ul>",
            "<math>", "</math>",
            "<mi>x", "\\(", "\\)", "$$", "<pre>", "</pre>", "<h1>", "<svg>", "<script>", "</script>", "<!--",
            "<a href=/>", "&#x",
            "<template>", "<title>", "\ufdd0", "<select>", "<script type=application/ld+json>", '{"articleBody":"',
            '"}', "\x00",
        ]),
        max_size=30,
    ).map("".join),
    st.booleans(),
)  # fmt: skip
def test_any_page_has_a_text_and_a_confidence(source: str, markdown: bool) -> None:
    found = page(source, markdown=markdown)
    assert 0 <= found.confidence <= 1
    found.text.encode("utf-8")
    assert page(source, markdown=markdown) == found


def test_a_broken_text_in_linked_data_does_no_harm() -> None:
    data = '{"@type": "Article", "articleBody": "' + "half \\ud83d a pair " * 60 + '"}'
    found = page(f'<script type="application/ld+json">{data}</script>')
    found.text.encode("utf-8")
    assert "half" in found.text


@pytest.mark.parametrize(
    "unit",
    ["<p>x", "<div>", "<p>words of a line, and more</p>", "<ul><li><a href=/>x</a>", "<table><tr><td>x", "<b>x",
    "<title>", "</p>",
     '<script type="application/ld+json">{"name": "x"}</script>', '<meta name="description" content="x">', "<h2>x</h2><p>y"],
)  # fmt: skip
def test_eight_megabytes_of_tags_take_seconds(unit: str) -> None:
    page(unit * 10)  # compiles
    source = (unit * ((8 << 20) // len(unit))).encode()
    started = time.process_time()
    extract_page(source)
    assert time.process_time() - started < 20


# --- the front --------------------------------------------------------------------------------------------------------


def test_the_engine_curate_gives_what_the_page_gives() -> None:
    found = extract(ARTICLE.encode("cp1252"), engine="curate")  # the page says UTF-8; its quotes are not
    assert found.engine == "curate"
    assert PARAGRAPHS[0] in found.text
    found = extract(ARTICLE.encode(), engine="curate")
    content = page(ARTICLE)
    assert (found.text, found.title, found.confidence) == (content.text, content.title, content.confidence)
    assert found.language == "en"


def test_an_address_changes_nothing() -> None:
    assert extract(ARTICLE, engine="curate", url="https://example.org/article") == extract(ARTICLE, engine="curate")


def test_sample_articles_of_2026_are_read_better_than_by_trafilatura(tmp_path: Path) -> None:
    """A sanity check only: the model that comes with curate was trained on these pages too."""
    import trafilatura

    gold, sources = {}, {}
    with tarfile.open(shared_data("pages-2026.tar.xz")) as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if name == "gold.jsonl":
                stream = tar.extractfile(member)
                assert stream is not None
                rows = [json.loads(line) for line in stream]
                gold = {row["id"]: row["text"] for row in rows if row["page_type"] == "article"}
            elif name.endswith(".html") and len(sources) < 400:
                stream = tar.extractfile(member)
                assert stream is not None
                sources[name.removesuffix(".html")] = stream.read()
    sample = sorted(gold.keys() & sources.keys())[:40]
    assert len(sample) == 40
    ours = [metric.f1(gold[name], extract(sources[name], engine="curate").text) for name in sample]
    theirs = [
        metric.f1(
            gold[name], trafilatura.extract(sources[name].decode("utf-8", "replace"), include_comments=False) or ""
        )
        for name in sample
    ]
    assert sum(ours) / 40 > max(0.85, sum(theirs) / 40)


# --- what is installed ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_wheel_holds_the_model_and_its_card(tmp_path: Path) -> None:
    """Built of a copy: a folder `build` that is there would lend it files."""
    shutil.copytree(
        ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".*", "build", "demo", "*.egg-info", "__pycache__")
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path),
         str(tmp_path / "copy")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        room = "curate/stages/extract/content/"
        assert files.read(room + "model.safetensors") == models.FILE.read_bytes()
        assert files.read(room + "model.md") == models.FILE.with_suffix(".md").read_bytes()


def test_the_card_says_what_the_model_was_trained_on() -> None:
    card = models.FILE.with_suffix(".md").read_text("utf-8")
    assert "pages-2026" in card
    assert "licence" in card.lower()
    assert f"from {models.load().meta['pages']} pages" in card


def test_a_formula_between_two_kept_paragraphs_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "<p>The energy of a body at rest is known to every pupil, and it is written in one short line of symbols.</p>"
    )
    formula = (
        "<dl><dd><math display=block><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup></math></dd></dl>"
    )
    source = f"<article>{formula}{words}{formula}{words}<p>Log in</p>{formula}</article>".encode()
    prose = np.array([False, True, False, True, False, False])
    monkeypatch.setattr(content, "choose", lambda probabilities, words: (prose.copy(), 1.0))
    text = extract_page(source).text
    assert "symbols.\n\n$$E=mc^{2}$$\n\nThe energy" in text
    assert text.endswith("symbols.")
