"""What the filter's signals are, in plain Python straight from the papers: slow, and shares no code with the kernels.

Gopher: Rae et al. 2021, A1.1. C4: Raffel et al. 2020, 2.2. FineWeb: Penedo et al. 2024, 3.6. Shaib et al. 2024. Where a paper
leaves room, the choice is that of datatrove's code, or the one that a docstring states. Counting as datatrove's code does is in
`filter_oracle_datatrove`, RedPajama v2 in `filter_oracle_redpajama`.
"""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np

import curate.stages.filter.measures

WORD_LISTS = Path(curate.stages.filter.measures.__file__).parent
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
UNSPACED_NAMES = (
    "CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR",
    "IDEOGRAPHIC", "VERTICAL IDEOGRAPHIC", "VERTICAL KANA", "HANGZHOU", "MASU", "HENTAIGANA",
)  # fmt: skip
QUOTES = "\"'”’»›」』"
SENTENCE_ENDS = frozenset(
    "!.?։؝؞؟۔܀܁܂߹࠷࠹࠽࠾।॥၊။።፧፨᙮᜵᜶។៕᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟\u1b7d\u1b7e᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼\u2e53\u2e54。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
    "\U00010a56\U00010a57\U00011047\U00011048\U000110be\U000110bf\U000110c0\U000110c1\U00011141\U00011142\U00011143"
)
"""Unicode 15, Sentence_Terminal, without the historic scripts that `HISTORIC_ENDS` lists."""
PHRASES = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip


@functools.cache
def unspaced(char: str) -> bool:
    return unicodedata.category(char) in ("Lo", "Lm", "Nl") and unicodedata.name(char, "").startswith(UNSPACED_NAMES)


@functools.cache
def symbol(char: str) -> bool:
    return unicodedata.category(char)[0] in "PS"


def closer(char: str) -> bool:
    return char in QUOTES or unicodedata.category(char) in ("Pe", "Pf")


def words(text: str) -> list[tuple[str, bool]]:
    """Words, and whether each touches the one before."""
    found = []
    for token in text.split():
        starts = []
        alone = False
        for place, char in enumerate(token):
            if unspaced(char):
                starts.append(place)
                alone = True
            elif not starts or (alone and unicodedata.category(char)[0] != "M"):
                starts.append(place)
                alone = False
        stops = [*starts[1:], len(token)]
        found += [(token[start:stop], start > 0) for start, stop in zip(starts, stops, strict=True)]
    return found


def bare(word: str) -> str:
    """A word without punctuation at its ends."""
    spoken = [place for place, char in enumerate(word) if not symbol(char)]
    return word[spoken[0] : spoken[-1] + 1] if spoken else ""


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n{2,}", text) if part.strip()]


def sentences(text: str) -> list[str]:
    found = []
    for line in lines(text):
        begin = i = 0
        while i < len(line):
            if line[i] not in SENTENCE_ENDS:
                i += 1
                continue
            mark = line[i]
            while i < len(line) and (line[i] in SENTENCE_ENDS or closer(line[i])):
                mark = line[i] if line[i] in SENTENCE_ENDS else mark
                i += 1
            rest = line[i:]
            if rest and not rest[0].isspace():
                ends = mark not in ".!?"
            else:
                after = rest.lstrip()[:1]
                ends = not (mark == "." and after and unicodedata.category(after) == "Ll")
            if ends:
                found.append(line[begin:i])
                begin = i
        found.append(line[begin:])
    return [part.strip() for part in found if any(char.isalpha() or char.isdecimal() for char in part)]


def lower(text: str) -> str:
    return "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


def edited(text: str, *, terminal: bool = False, datatrove: bool = False) -> tuple[str, Counter[str]]:
    """The text after C4's line edits, and the characters that each took."""
    out, behind = "", 0
    removed: Counter[str] = Counter()
    for match in re.finditer(r"[^\n]+", text):
        line = match.group().strip()
        parts = line.split() if datatrove else [word for word, _ in words(line)]
        bare = re.sub(r"\[[0-9]*\]|\[edit\]|\[citation needed\]", "", line)
        if any(len(word) > 1000 for word in parts):
            step = "long_word"
        elif terminal and not finished(bare, datatrove):
            step = "unfinished"
        elif len(parts) < 3:
            step = "few_words"
        elif any(phrase in lower(line) for phrase in PHRASES):
            step = "phrases"
        elif not bare.strip(" "):
            step = "citations"
        else:
            removed["citations"] += len(line) - len(bare)
            if out:
                gap = re.findall(r"\n+", text[behind : match.start()])
                out += "\n\n" if max(map(len, gap)) > 1 else "\n"
            out += bare.strip(" ")
            behind = match.end()
            continue
        removed[step] += len(line)
    return out, removed


def finished(line: str, datatrove: bool) -> bool:
    if datatrove:
        return line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
    line = line.strip(" ")
    return bool(line) and line[-1] in SENTENCE_ENDS | set(QUOTES) and not line.endswith(("...", "…"))


def share(part: float, whole: float) -> np.float32:
    return np.float32(min(part / max(whole, 1), 1))


def repeated(items: list[str]) -> tuple[int, int]:
    seen: set[str] = set()
    count = chars = 0
    for item in items:
        if item in seen:
            count += 1
            chars += len(item)
        seen.add(item)
    return count, chars


def top_gram(tokens: list[tuple[str, bool]], n: int) -> int:
    grams = [tuple(word for word, _ in tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    if not grams:
        return 0
    (best, times), *_ = Counter(grams).most_common(1)
    first = grams.index(best)
    gaps = sum(not glued for _, glued in tokens[first + 1 : first + n])
    return times * (sum(map(len, best)) + gaps)


def repeated_grams(tokens: list[tuple[str, bool]], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    chars = i = 0
    while i + n <= len(tokens):
        gram = tuple(word for word, _ in tokens[i : i + n])
        if gram in seen:
            chars += sum(map(len, gram))
            i += n
        else:
            seen.add(gram)
            i += 1
    return chars


def gopher(text: str, stops: Collection[str]) -> dict[str, float]:
    tokens = words(text)
    plain = [word for word, _ in tokens]
    spoken = [word for word in plain if not all(symbol(char) for char in word)]
    found: dict[str, float] = {}
    for name, items in (("paragraph", paragraphs(text)), ("line", lines(text))):
        count, chars = repeated(items)
        found[f"duplicate_{name}_fraction"] = share(count, len(items))
        found[f"duplicate_{name}_char_fraction"] = share(chars, len(text))
    for n in (2, 3, 4):
        found[f"top_{n}_gram_char_fraction"] = share(top_gram(tokens, n), len(text))
    for n in range(5, 11):
        found[f"duplicate_{n}_gram_char_fraction"] = share(repeated_grams(tokens, n), len(text))
    rows = lines(text)
    found["word_count"] = len(spoken)
    found["mean_word_length"] = np.float32(sum(map(len, spoken)) / max(len(spoken), 1))
    found["hash_to_word_ratio"] = np.float32(text.count("#") / max(len(plain), 1))
    found["ellipsis_to_word_ratio"] = np.float32((text.count("...") + text.count("…")) / max(len(plain), 1))
    found["bullet_line_fraction"] = share(sum(row.startswith(("•", "-")) for row in rows), len(rows))
    found["ellipsis_line_fraction"] = share(sum(row.endswith(("...", "…")) for row in rows), len(rows))
    found["alphabetic_word_fraction"] = share(sum(any(c.isalpha() for c in word) for word in plain), len(plain))
    found["stop_word_count"] = len({bare(word).lower() for word in plain} & {word.lower() for word in stops})
    return found


def c4_and_fineweb(text: str, terminal: bool = False) -> dict[str, float]:
    after, removed = edited(text, terminal=terminal)
    rows = lines(after)
    ends = sum(row[-1] in SENTENCE_ENDS | set(QUOTES) for row in rows)
    return {
        "lorem_ipsum": int("lorem ipsum" in lower(after)),
        "curly_bracket": int("{" in after),
        "sentence_count": len(sentences(after)),
        "removed_lines": len(lines(text)) - len(rows),
        "removed_chars": len(text) - len(after),
        **removed_by_step(removed),
        "terminal_punctuation_line_fraction": share(ends, len(rows)),
        "short_line_fraction": share(sum(len(row) <= 30 for row in rows), len(rows)),
        "edited_duplicate_line_char_fraction": share(repeated(rows)[1], len(after.replace("\n", ""))),
        "newline_to_word_ratio": np.float32(max(len(rows) - 1, 0) / max(len(words(after)), 1)),
    }


def removed_by_step(removed: Counter[str]) -> dict[str, float]:
    steps = ("repeated", "long_word", "unfinished", "few_words", "phrases", "citations")
    return {f"removed_{step}_chars": removed[step] for step in steps}


@functools.cache
def bad_word_pattern(language: str) -> re.Pattern[str] | None:
    """As C4's code makes it of a language's list; entries in lower case."""
    lists = json.loads((WORD_LISTS / "bad_words.json").read_text("utf-8"))["words"]
    entries = {word.lower() for word in lists.get(language, ()) if word not in ("sm", "グロ", "女の子", "性")}
    if not entries:
        return None
    either = "|".join(map(re.escape, entries))
    return re.compile(either if language in ("ja", "th", "zh") else rf"(?:\W|^)({either})(?:\W|$)")


def bad_words(text: str, language: str | None) -> int:
    pattern = bad_word_pattern(language or "en")
    return int(pattern is not None and pattern.search(text.lower()) is not None)


def entropy(items: list[str]) -> np.float32:
    return np.float32(sum(-n / len(items) * math.log(n / len(items)) for n in Counter(items).values()))


def compression(text: str) -> float:
    """Near enough: another build of zlib may find other matches."""
    packer = zlib.compressobj(6, wbits=31)
    data = text.encode()
    return len(data) / len(packer.compress(data) + packer.flush())


def measure(text: str, language: str | None = None, stops: Collection[str] = STOP_WORDS) -> dict[str, float]:
    """Every signal but RedPajama's, personal addresses and URLs."""
    return {
        **gopher(text, stops),
        **c4_and_fineweb(text),
        "bad_words": bad_words(edited(text)[0], language),
        "unigram_entropy": entropy([word for word, _ in words(text)]),
        "compression_ratio": compression(text),
    }
