"""A small crawl of our own making, for tests from one end to the other without a network: pages, WARCs, a recipe."""

from __future__ import annotations

import io
import random
from pathlib import Path

WORDS = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company", "system",
    "program", "question", "work", "government", "number", "night", "point", "home", "water", "room", "mother",
    "area", "money", "story", "fact", "month", "lot", "right", "study", "book", "eye", "job", "word", "business",
    "issue", "side", "kind", "head", "house", "service", "friend", "father", "power", "hour", "game", "line", "end",
    "member", "law", "car", "city", "community", "name", "president", "team", "minute", "idea", "body", "information",
    "back", "parent", "face", "others", "level", "office", "door", "health", "person", "art", "war", "history",
    "party", "result", "change", "morning", "reason", "research", "girl", "guy", "moment", "air", "teacher", "force",
]  # fmt: skip

RECIPE = """
name: small
extends: multilingual
seed: 5
filter:
  language: null
  rules_by_language: null
mix:
  budget: 3k
  by: [snapshot]
  tokenizer: {vocab_size: 300}
  shard_tokens: 1000
run: {backoff_seconds: 0.05, attempts: 20}
"""


def page(seed: int, sentences: int = 30) -> str:
    """An HTML page of an article; the same seed gives the same page, and a few sentences suffice to be near another."""
    choose = random.Random(seed)
    text = [" ".join(choose.sample(WORDS, 9)).capitalize() + "." for _ in range(sentences)]
    paragraphs = "".join(f"<p>{' '.join(text[start : start + 5])}</p>" for start in range(0, sentences, 5))
    menu = "".join(f"<li><a href='/{word}'>{word}</a></li>" for word in WORDS[:12])
    return (
        f"<!doctype html><html lang='en'><head><title>Page {seed}</title></head><body><nav><ul>{menu}</ul></nav>"
        f"<main><article><h1>About {choose.choice(WORDS)}</h1>{paragraphs}</article></main></body></html>"
    )


def write_warc(path: Path, pages: list[tuple[str, str]], snapshot: str) -> None:
    """A .warc.gz of (URL, HTML) pages with ids that follow from the URL."""
    import uuid

    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with path.open("wb") as stream:
        writer = WARCWriter(stream, gzip=True)
        info = writer.create_warcinfo_record(path.name, {"isPartOf": snapshot})
        writer.write_record(info)
        for url, html in pages:
            http = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.1")
            headers = {
                "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, snapshot + url)}>",
                "WARC-Date": "2025-06-01T00:00:00Z",
            }
            body = io.BytesIO(html.encode())
            writer.write_record(
                writer.create_warc_record(url, "response", payload=body, http_headers=http, warc_headers_dict=headers)
            )


def make_crawl(folder: Path, pages: int = 16) -> tuple[Path, Path]:
    """Two snapshots of two files each, with copies, near-copies and short pages; gives the inputs' folder and the recipe."""
    inputs = folder / "crawl"
    inputs.mkdir(parents=True)
    for number, snapshot in enumerate(("CC-MAIN-2025-26", "CC-MAIN-2025-30")):
        for part in range(2):
            base = 1000 * number + 100 * part
            found = [(f"https://site-{seed % 7}.example/{seed}", page(seed)) for seed in range(base, base + pages)]
            found.append((f"https://copy.example/{part}", page(1000 * number)))
            found.append(
                (f"https://near.example/{part}", page(1000 * number + 1).replace("<p>", "<p>One more word. ", 1))
            )
            found.append((f"https://short.example/{part}", page(base + 50, sentences=1)))
            write_warc(inputs / f"{snapshot}-{part:05d}.warc.gz", found, snapshot)
    recipe = folder / "small.yaml"
    recipe.write_text(RECIPE)
    return inputs, recipe
