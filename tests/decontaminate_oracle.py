"""An index of a few items, and the definition of a match in plain Python."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from curate.stages.decontaminate.config import DecontaminateConfig
from curate.stages.decontaminate.index import Index, build
from curate.stages.decontaminate.sets import Item

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def words_of(text: str) -> list[tuple[str, int, int]]:
    """Each word with its characters [start, stop): lower case, without accents, parted by whatever is no letter or digit."""
    found: list[tuple[str, int, int]] = []
    open_ = False
    for place, character in enumerate(text):
        letters = ""
        parts = False
        for letter in unicodedata.normalize("NFD", character.lower().replace("ς", "σ")):
            kind = unicodedata.category(letter)
            if kind == "Nd":
                letters += str(unicodedata.digit(letter))
            elif kind[0] in "PSZ" or kind == "Cc":
                parts = True
            elif kind not in ("Mn", "Cf"):
                letters += letter
        if letters and unicodedata.name(character, "").startswith(UNSPACED):
            found.append((letters, place, place + 1))
            open_ = False
        elif letters:
            word, start, _ = found.pop() if open_ else ("", place, place)
            found.append((word + letters, start, place + 1))
            open_ = True
        elif parts:
            open_ = False
        elif open_:
            word, start, _ = found.pop()
            found.append((word, start, place + 1))
    return found


def grams_of(words: Sequence[str], config: DecontaminateConfig) -> set[tuple[str, ...]]:
    """What is looked for of a text: its n-grams, or all of it where it is shorter, that tell something."""
    size = config.ngram if len(words) >= config.ngram else len(words)
    if size < config.shortest:
        return set()
    found = {tuple(words[place : place + size]) for place in range(len(words) - size + 1)}
    return {gram for gram in found if len({word for word in gram if not word.isdigit()}) >= config.different}


def config_of(**settings: Any) -> DecontaminateConfig:
    return DecontaminateConfig.model_validate({"sets": [{"path": "x.jsonl", "fields": ["q"]}], **settings})


def index_of(items: Sequence[Item], config: DecontaminateConfig) -> Index:
    return Index(build(items, config), config)
