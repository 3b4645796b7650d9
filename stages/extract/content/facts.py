"""What a page says of itself beside its text: title, description, the kinds and texts of its linked data (JSON-LD)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.stages.extract.dom import Tree, tags

MAX_LINKED = 400_000
"""Linked data beyond so many bytes a page is not read."""

LEAST_BODY = 500
"""Characters of an `articleBody` below which it may be a summary."""

_KINDS = {
    "article": (
        "article",
        "newsarticle",
        "blogposting",
        "reportagenewsarticle",
        "techarticle",
        "scholarlyarticle",
        "report",
    ),
    "product": ("product", "productgroup", "offer", "individualproduct", "vehicle", "book"),
    "discussion": ("discussionforumposting", "qapage", "question", "comment", "answer"),
    "recipe": ("recipe",),
    "list": ("itemlist", "collectionpage", "searchresultspage", "offercatalog"),
    "service": ("service", "localbusiness", "professionalservice", "softwareapplication", "organization", "faqpage"),
}
FLAGS = [f"is_{kind}" for kind in _KINDS] + ["og_article", "og_product", "has_body"]
"""What `Facts.flags` holds: linked data of a kind, Open Graph's types, a text of the page in the linked data."""
_KIND_OF = {name: place for place, names in enumerate(_KINDS.values()) for name in names}
_TEXTS = ("articleBody", "text", "description", "reviewBody", "recipeInstructions", "recipeIngredient", "name")
_TITLE, _META, _SCRIPT, _SVG = (tags.ID[name] for name in ("title", "meta", "script", "svg"))


@dataclass(frozen=True, slots=True)
class Facts:
    """`title`: as the page gives it, the site's name with it; the longer of the title element and Open Graph's.
    `linked_text`: texts of the linked data, joined by newlines. `body`: the longest of these, if more than 500 characters.
    `flags`: float32, in the order of `FLAGS`."""

    title: str
    description: str
    linked_text: str
    body: str
    flags: np.ndarray


def facts(tree: Tree) -> Facts:
    """Title, description and linked data of a page; empty where there are none or they are broken."""
    flags = np.zeros(len(FLAGS), np.float32)
    title = og_title = description = ""
    for node in [each for each in np.flatnonzero(tree.tag == _TITLE)[:9] if tree.tag[tree.parent[each]] != _SVG][:1]:
        title = " ".join(tree.text(int(node))[:2000].split())
    for node in np.flatnonzero(tree.tag == _META)[:300]:
        tag = tree.source[tree.start[node] : tree.stop[node]].lower()
        if b"description" not in tag and b"og:t" not in tag:
            continue
        attributes = tree.attributes(int(node))
        name = (attributes.get("property") or attributes.get("name") or "").lower()
        content = attributes.get("content", "")[:2000]
        if name == "og:type":
            flags[-3] = content.lower() == "article"
            flags[-2] = content.lower().startswith("product") or content.lower() == "og:product"
        elif name == "og:title":
            og_title = content
        elif name in ("description", "og:description") and len(content) > len(description):
            description = content
    texts: list[str] = []
    body = [""]
    read = 0
    for node in np.flatnonzero(tree.tag == _SCRIPT)[:400]:
        if b"ld+json" not in tree.source[tree.start[node] : tree.stop[node]] or tree.last[node] == node + 1:
            continue
        raw = tree.source[tree.start[node + 1] : tree.stop[node + 1]]
        read += len(raw)
        if read > MAX_LINKED:
            break
        try:
            data = json.loads(raw.strip().removeprefix(b"<!--").removesuffix(b"-->"), strict=False)
        except (ValueError, RecursionError):
            continue
        _walk(data, texts, body, flags)
    linked = "\n".join(texts)
    flags[-1] = len(body[0]) > LEAST_BODY
    return Facts(
        og_title if len(og_title) > len(title) or not title else title,
        description,
        linked,
        body[0] if flags[-1] else "",
        flags,
    )


def _walk(data: Any, texts: list[str], body: list[str], flags: np.ndarray) -> None:
    pending = [(data, 0)]
    seen = 0
    while pending and seen < 5000:
        value, depth = pending.pop()
        seen += 1
        if isinstance(value, list):
            pending.extend((each, depth) for each in reversed(value[:500]))
        elif isinstance(value, dict):
            kinds = value.get("@type")
            for kind in kinds if isinstance(kinds, list) else [kinds]:
                place = _KIND_OF.get(kind.lower()) if isinstance(kind, str) else None
                if place is not None:
                    flags[place] = 1
            for name, inner in value.items():
                if name in _TEXTS:
                    for text in inner[:500] if isinstance(inner, list) else [inner]:
                        if isinstance(text, str) and len(text) > 2:
                            texts.append(text[:100_000])
                            if name == "articleBody" and len(text) > len(body[0]):
                                body[0] = text[:MAX_LINKED]
                if isinstance(inner, (dict, list)) and depth < 12:
                    pending.append((inner, depth + 1))
