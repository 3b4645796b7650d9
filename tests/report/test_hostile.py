"""Nothing that a web page says becomes markup of the report."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.pipeline.documents import DOCUMENT
from curate.report import words
from curate.report.build import build_report
from curate.report.charts import Bar, FunnelStep, Histogram, Series, Threshold, bars, funnel, histogram, line

HOSTILE = (
    "<script>alert(1)</script>",
    "</script></style></title><script>alert(2)</script>",
    '" onmouseover="alert(3)" x=\'',
    "' autofocus onfocus=alert(4) '",
    "<img src=x onerror=alert(5)>",
    "<svg/onload=alert(6)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(7)",
    "java\nscript:alert(8)",
    "data:text/html,<script>alert(9)</script>",
    'http://example.org/"><script>alert(10)</script>',
    "https://user:secret@example.org/",
    "https://example.org/\u202egpj.exe",
    "\x00\x07\x1b[31m\x9b2J\ufeff",
    "--><!--<script>",
    "&lt;script&gt; &#x3c;script&#x3e;",
    "مرحبا \u202eבעולם\u2066",
    "x" * 1_000_000,
)


class Strict(HTMLParser):
    """Notes every element and attribute that could run or load something."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in (
            "script",
            "img",
            "iframe",
            "object",
            "embed",
            "link",
            "base",
            "form",
            "input",
            "image",
            "foreignobject",
        ):
            self.wrong.append(tag)
        for key, value in attrs:
            if key.startswith("on") or key in ("src", "srcdoc", "style", "action", "formaction", "xlink:href"):
                self.wrong.append(f"{tag} {key}")
            if key == "href" and not (value or "").startswith("#"):
                self.links.append(value or "")
                if dict(attrs).get("rel") != "noopener noreferrer nofollow":
                    self.wrong.append(f"link without rel: {value}")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(html: str) -> Strict:
    page = Strict(html)
    assert page.wrong == []
    for link in page.links:
        parts = urlsplit(link)
        assert parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    return page


def poison(found: dict[str, Any], text: str) -> dict[str, Any]:
    return found | dict.fromkeys(("url", "title", "text", "source", "language", "topic", "id"), text)


@pytest.fixture
def poisoned(synthetic: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace of which every text of every record is hostile, and so are the reasons of plugins and the mix."""
    module = synthetic(stages=(), rows=0).__class__.__module__
    import sys

    generator = sys.modules[module]
    original = generator.page

    def page(snapshot: str, shard: int, row: int) -> dict[str, Any]:
        return poison(original(snapshot, shard, row), HOSTILE[row % len(HOSTILE)])

    monkeypatch.setattr(generator, "page", page)
    monkeypatch.setattr(generator, "RULES", (("word_count", "min", 400.0), ("<b>stop</b>", "max", 0.0)))
    monkeypatch.setattr(generator, "failed_rules", lambda found: [
        generator.FailedRule("<script>rule</script>", 1.0, "max", 0.5)
    ] if found["draw"] < 0.5 else [])  # fmt: skip
    made = synthetic(shards=1, rows=120)
    made.recipe('name: "<script>alert(0)</script>"\ndescription: "\\" onload=alert(1)"\n')
    made.mix()
    data = made.workspace.read_json("mix/tokens.json")
    data["buckets"]["<script>bucket</script>"] = {"tokens": 10**6, "share": 0.9, "documents": 3}
    made.workspace.write_json("mix/tokens.json", data)
    made.pretrain(50)
    result = made.workspace.read_json("pretrain/result.json")
    result["sample"] = {"prompt": "</bdi><script>", "text": "<script>alert('sample')</script>"}
    made.workspace.write_json("pretrain/result.json", result)
    manifest = made.manifest("classify")
    manifest["failed"] = [{"key": "x/<script>", "error": "</td><script>alert(1)</script>"}]
    made.workspace.write_json("classify/manifest.json", manifest)
    return made


def test_hostile_pages_stay_text(poisoned: Any) -> None:
    with poisoned.workspace.open(build_report(poisoned.workspace)) as stream:
        html = stream.read().decode()
    page = check(html)
    text = "".join(page.text)
    assert "<script>alert(1)</script>" in text  # shown, as text
    assert "<script>bucket</script>" in text
    assert "<script>alert('sample')</script>" in text
    assert "{{ 7 * 7 }}" in text and "49{%" not in text
    assert not set(html) & {"\x00", "\x07", "\x1b", "\x9b", "\ufeff", "\u202e", "\u2066"}
    assert len(html) < 2_000_000  # texts of 1 MB are cut


def test_text_that_is_not_utf8_is_shown_repaired(synthetic: Any) -> None:
    made = synthetic(stages=("extract",), rows=30)
    shard = made.manifest("extract")["shards"][0]
    with made.workspace.open(shard["docs"]["path"]) as stream:
        import pyarrow.parquet as pq

        table = pq.read_table(stream)
    broken = pa.array([b"caf\xe9 <b>\xff"] * table.num_rows, pa.binary()).view(pa.string())
    for name in ("url", "title", "text", "language"):
        table = table.set_column(table.schema.get_field_index(name), name, broken)
    with made.workspace.create(shard["docs"]["path"]) as output:
        pq.write_table(table.cast(DOCUMENT), output)
    with made.workspace.open(build_report(made.workspace)) as stream:
        page = check(stream.read().decode())
    assert "caf\ufffd <b>\ufffd" in "".join(page.text)


@given(st.text(max_size=400))
def test_cleaned_text_holds_no_control_character_and_is_no_longer_than_asked(text: str) -> None:
    shown = words.clean(text, 100)
    assert len(shown) <= 101
    assert not any(
        ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in shown
    )
    shown.encode()


@given(st.text(alphabet="htps:/.@\\ \"'<>javcript\x00\u202eexample", max_size=40))
def test_a_link_is_http_with_a_host_and_no_user_or_it_is_none(text: str) -> None:
    link = words.link(text)
    assert link is None or (link == text and urlsplit(link).scheme in ("http", "https") and urlsplit(link).hostname)
    assert link is None or "@" not in urlsplit(link).netloc


@pytest.mark.parametrize("url", ["http://example.org/a?b=c&d=e", "https://example.org/", "https://例え.jp/ページ"])
def test_ordinary_urls_are_links(url: str) -> None:
    assert words.link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        " https://example.org",
        "//example.org",
        "https://",
        "ftp://example.org/",
        "https://[bad/",
        None,
    ],
)
def test_other_urls_are_not(url: Any) -> None:
    assert words.link(url) is None


@given(st.text(min_size=1, max_size=60))
def test_charts_escape_every_label(label: str) -> None:
    hostile = words.clean(f"</title></svg><script>{label}\"'>")
    data = Histogram((0.0, 0.5, 1.0), (3, 4))
    for chart in (
        bars([Bar(hostile, 3, hostile)], head=hostile, unit=hostile),
        funnel([FunnelStep(hostile, 10, 6, 1)]),
        histogram(
            data,
            title=hostile,
            unit=hostile,
            y_label=hostile,
            thresholds=[Threshold(0.3, "below", hostile)],
            note=hostile,
        ),
        line([Series(hostile, ((1, 2), (2, 3)))], title=hostile, x_label=hostile, y_label=hostile),
    ):
        assert "<script" not in chart
        assert hostile in "".join(check(str(chart)).text)
