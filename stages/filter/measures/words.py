"""Word lists by language, as hash tables that a text is looked up in at once, however long the list.

`WORDS.md` says where the lists are from and under which licence.
"""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curate.stages.filter.measures.characters import characters, lower_case
from curate.stages.text.segment import Int64Array, Segmented

ALLOWED = frozenset({"sm", "グロ", "女の子", "性"})
"""Entries that C4's code takes off every list: parts of common words in languages without spaces."""
WITHOUT_SPACES = frozenset({"ja", "th", "zh"})
"""Languages in which C4's code looks for an entry within words too."""


@dataclass(frozen=True)
class WordTables:
    """A word table a language, one behind another: `keys[bounds[n]:bounds[n + 1]]` is that of language `numbers[…] = n`."""

    numbers: Mapping[str, int]
    keys: npt.NDArray[np.uint64]
    values: npt.NDArray[np.uint8]
    bounds: Int64Array
    heads: npt.NDArray[np.uint8]
    """Per language, which three ASCII characters may begin an entry. Shape: languages, `word_kernels.HEADS`."""
    edged: npt.NDArray[np.uint8]
    """Per language, whether an entry counts only between word boundaries."""

    def choice(self, texts: Segmented, default: str | None) -> Int64Array:
        """The table of each text's language, -1 where there is none; `default` where the language is not known."""
        languages = texts.known.get("language")
        if languages is None:
            return np.full(len(texts), self.numbers.get(default or "", -1), np.int64)
        return np.array([self.numbers.get(one or default or "", -1) for one in languages], np.int64)

    def count(self, texts: Segmented, default: str | None, *, spaced: bool = False, once: bool = False) -> Int64Array:
        """How often entries stand in each text, in lower case.

        `spaced`: between white space, not merely whole words; `once`: no further than the first place of a text.
        """
        from curate.stages.filter.measures import word_kernels

        out = np.zeros(len(texts), np.int64)
        word_kernels.find_entries(
            texts.bytes, texts.documents, characters(), lower_case(), self.choice(texts, default), self.keys,
            self.values, self.bounds, self.heads, self.edged, spaced, once, out,
        )  # fmt: skip
        return out


@functools.cache
def stop_words() -> WordTables:
    """RedPajama v2's stop words."""
    return _tables(_read("stop_words.json"), str)


@functools.cache
def bad_words() -> WordTables:
    """C4's bad words, in lower case."""
    lists = {code: [word for word in words if word not in ALLOWED] for code, words in _read("bad_words.json").items()}
    return _tables(lists, str.lower, unedged=WITHOUT_SPACES)


@functools.cache
def normal_bad_words() -> WordTables:
    """The bad words as they stand in RedPajama v2's normalised text: in lower case and decomposed."""
    return _tables(_read("bad_words.json"), lambda word: unicodedata.normalize("NFD", word.lower()))


def _read(name: str) -> dict[str, list[str]]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text("utf-8"))
    lists: dict[str, list[str]] = content["words"]
    return lists


def _tables(
    lists: Mapping[str, Sequence[str]], form: Callable[[str], str], unedged: frozenset[str] = frozenset()
) -> WordTables:
    from curate.stages.filter.measures import word_kernels

    entries = {code: sorted({form(word) for word in words}) for code, words in lists.items()}
    sizes = [1 << (2 * sum(map(len, words)) + 1).bit_length() for words in entries.values()]
    bounds = np.cumsum([0, *sizes], dtype=np.int64)
    keys, values = np.zeros(bounds[-1], np.uint64), np.zeros(bounds[-1], np.uint8)
    heads = np.zeros((len(entries), word_kernels.HEADS), np.uint8)
    for number, words in enumerate(entries.values()):
        points = np.array([ord(char) for word in words for char in word], np.uint32)
        offsets = np.cumsum([0, *map(len, words)], dtype=np.int64)
        word_kernels.enter_words(points, offsets, keys, bounds[number], bounds[number + 1], values, heads[number])
    edged = np.array([code not in unedged for code in entries], np.uint8)
    return WordTables({code: number for number, code in enumerate(entries)}, keys, values, bounds, heads, edged)
