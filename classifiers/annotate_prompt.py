"""Prompts that ask a language model for a label: files with a head that says how the answer is read.

    ---
    name: edu
    answer: 'Educational score:\\s*([0-5])'      # the last match counts; its one group is the answer
    scale: [0, 5]                               # or labels: [a, b, c]
    ---
    Judge the page {url}. {text} End with "Educational score: N".

A page is data. Its text stands between two lines that nobody can write in advance, since they hold a hash of the text, and
what chat templates would take for the end of a turn is broken up; a page's words may still sway the model.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from curate.pipeline.config import Strict, digest
from curate.pipeline.errors import UsageError, nearest

URL_CHARACTERS = 300
LARGEST_FILE = 1 << 20
_HEAD = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*\n(.*)\Z", re.DOTALL | re.MULTILINE)
_PLACE = re.compile(r"\{(text|url)\}")
_BRACES = re.compile(r"\{([a-z_]{1,20})\}")
_TURNS = re.compile(
    r"<(?=[|｜])|(?<=[|｜])>|<(?=/?s>|/?(?:start|end)_of_turn>|[bB][oO][sS]>|[eE][oO][sS]>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+)\])|<<(?=/?SYS>>)"
)
"""Where special tokens of chat templates begin or end: servers read them in a message's text as well."""


class Head(Strict):
    """The head of a prompt's file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,49}$")
    about: str = ""
    answer: str
    """Regular expression with one group. Its last match in the model's answer counts."""
    scale: tuple[float, float] | None = None
    """Least and greatest score; an answer outside counts as malformed."""
    labels: tuple[str, ...] = ()
    """The labels, where the answer is no number; case and spaces do not count."""
    max_characters: int = Field(default=12_000, ge=100, le=1_000_000)
    """Characters of the text that the model sees."""
    max_tokens: int = Field(default=256, ge=1, le=32_768)
    """Tokens of the answer."""
    cue: str = ""
    """What stands before the score in the answer: an embedded model is asked for the score at once, after these words."""
    system: str = ""
    """A system message."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, ready to be filled in. `fingerprint` is the SHA-256 (hex) of all of it."""

    head: Head
    body: str
    fingerprint: str
    _pattern: re.Pattern[str] = field(repr=False)
    _labels: Mapping[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        return self.head.name

    def limited(self, characters: int) -> Prompt:
        """The same prompt for a model that sees at most so many characters of a text."""
        if characters >= self.head.max_characters:
            return self
        head = self.head.model_copy(update={"max_characters": characters})
        return replace(self, head=head, fingerprint=digest([head.model_dump(), self.body]))

    def cut(self, text: str) -> str:
        """The part of a text that the model sees."""
        return text[: self.head.max_characters]

    def message(self, text: str, url: str | None = None) -> str:
        """The prompt with a page filled in, once and as data: braces in the page mean nothing."""
        shown = harmless(self.cut(text))
        mark = hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        filled = {
            "text": f"[page {mark} begins]\n{shown}\n[page {mark} ends]",
            "url": harmless("".join(each for each in url or "" if each.isprintable())[:URL_CHARACTERS]) or "(unknown)",
        }
        return _PLACE.sub(lambda place: filled[place.group(1)], self.body)

    def read(self, answer: str) -> float | str | None:
        """The score or the label in an answer; None where there is none of that form, or none on the scale."""
        found = None
        for match in self._pattern.finditer(answer):
            found = match.group(1)
        if found is None:
            return None
        if self._labels:
            return self._labels.get(_folded(found))
        try:
            score = float(found)
        except ValueError:
            return None
        low, high = self.head.scale or (0.0, 0.0)
        return score if low <= score <= high else None


def harmless(text: str) -> str:
    """The text with a space in every special token of a chat template, so that it is none."""
    return _TURNS.sub(lambda match: match.group() + " " if match.group() != ">" else " >", text)


def shipped() -> dict[str, str]:
    """Shipped prompts: name and one line on each."""
    folder = resources.files("curate.classifiers") / "prompts"
    names = sorted(entry.name.removesuffix(".md") for entry in folder.iterdir() if entry.name.endswith(".md"))
    return {name: load_prompt(name).head.about for name in names}


@functools.cache
def load_prompt(name_or_path: str) -> Prompt:
    """A shipped prompt by its name, or the prompt in a file; UsageError says what is wrong with it, and where."""
    path = Path(name_or_path)
    if re.fullmatch(r"[a-z_]+", name_or_path):
        entry = resources.files("curate.classifiers") / "prompts" / f"{name_or_path}.md"
        if entry.is_file():
            return parse(entry.read_text("utf-8"), name_or_path)
    if not path.is_file():
        raise UsageError(
            f"no prompt {name_or_path!r}: no such file, and no name{nearest(name_or_path, set(shipped()))}"
        )
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UsageError(f"{path}: over 1 MiB is no prompt")
        return parse(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the prompt {path}: {error}") from None


def parse(text: str, where: str) -> Prompt:
    """The prompt that a file's text describes; UsageError names `where` and what is wrong."""
    parts = _HEAD.match(text.replace("\r\n", "\n").removeprefix("\ufeff"))
    if parts is None:
        raise UsageError(f"{where}: no head: a prompt begins with a line `---`, then YAML, then `---` again")
    head, body = _head(parts.group(1), where), parts.group(2).strip()
    try:
        pattern = re.compile(head.answer)
    except re.error as error:
        raise UsageError(f"{where}: answer: no regular expression: {error}") from None
    if pattern.groups != 1:
        raise UsageError(f"{where}: answer: needs one group, (…), around the score or label; it has {pattern.groups}")
    if (head.scale is None) == (not head.labels):
        raise UsageError(f"{where}: give scale: [least, greatest] or labels: [a, b, …], one of the two")
    if head.scale is not None and not head.scale[0] < head.scale[1]:
        raise UsageError(f"{where}: scale: the least score comes first")
    labels = {_folded(label): label for label in head.labels}
    if len(labels) != len(head.labels) or any(not label.strip() for label in head.labels):
        raise UsageError(f"{where}: labels: two are alike, or one is empty")
    places = [match.group(1) for match in _PLACE.finditer(body)]
    if "text" not in places:
        others = {match.group(1) for match in _BRACES.finditer(body)}
        found = f" (found: {', '.join(sorted(f'{{{name}}}' for name in others))})" if others else ""
        raise UsageError(f"{where}: nowhere {{text}}, which is where the page goes{found}")
    return Prompt(head, body, digest([head.model_dump(), body]), pattern, labels)


def _head(text: str, where: str) -> Head:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{where}: the head is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{where}: the head is no list of `key: value`")
    for key in found:
        if key not in Head.model_fields:
            raise UsageError(f"{where}: no key {key!r} in a head{nearest(str(key), tuple(Head.model_fields))}")
    try:
        return Head(**found)
    except ValidationError as error:
        first: Any = error.errors()[0]
        raise UsageError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _folded(label: str) -> str:
    return re.sub(r"[\s_-]+", "_", label.strip()).casefold()
