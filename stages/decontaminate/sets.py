"""Evaluation sets, read as items: the texts of one question each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from curate.pipeline.errors import CurateError, UsageError, nearest
from curate.pipeline.lines import MOST_LINE_BYTES, lines
from curate.stages.decontaminate.config import EvaluationSet


@dataclass(frozen=True)
class Item:
    """A question of an evaluation set. N-grams are taken from each of its texts, never across two."""

    set: str
    id: str
    texts: tuple[str, ...]


def read_jsonl(stream: IO[bytes], source: str, wanted: EvaluationSet) -> Iterator[Item]:
    """The items of a JSONL file, plain, gzip or zstd.

    Raises CurateError, with file and line, for what is no JSON object or holds none of the fields; UsageError for a field
    that no line has.
    """
    missing = set(wanted.fields)
    names: set[str] = set()
    for number, line in lines(stream, source):
        fields = parse(line, f"{source}, line {number}")
        texts = {name: texts_of(value_at(fields, name)) for name in wanted.fields}
        missing -= {name for name in missing if texts[name]}
        if missing and len(names) < 100:
            names |= set(fields)
        given = value_at(fields, wanted.id) if wanted.id else None
        if wanted.id and not isinstance(given, str | int):
            raise CurateError(f"{source}, line {number}: no id in the field {wanted.id!r}")
        yield Item(
            wanted.title, str(number if given is None else given), tuple(text for name in texts for text in texts[name])
        )
    if missing and names:
        name = min(missing)
        raise UsageError(f"{source}: no line has text in a field {name!r}{nearest(name, names)}")


def parse(line: bytes | None, where: str) -> dict[str, Any]:
    """A JSON object; CurateError that names the place for anything else, a line too long to be read included."""
    if line is None:
        raise CurateError(f"{where}: longer than {MOST_LINE_BYTES >> 20} MiB")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CurateError(f"{where}: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise CurateError(f"{where}: a JSON {type(found).__name__}, not an object")
    return found


def value_at(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field, or of one within (`doc.question`); None where it is not there."""
    value: Any = fields.get(name)
    if value is None and "." in name:
        first, _, rest = name.partition(".")
        inner = fields.get(first)
        value = value_at(inner, rest) if isinstance(inner, dict) else None
    return value


def texts_of(value: Any) -> list[str]:
    """The strings of a value: itself, or those of a list; numbers and objects are none."""
    found: Iterable[Any] = value if isinstance(value, list) else [value]
    return [text for text in found if isinstance(text, str) and text.strip()]
