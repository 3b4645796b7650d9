"""`curate what-if`: how the funnel would change with other rules, from what was measured; nothing is run or written."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import ValidationError

from curate.pipeline.documents import read_batches, read_schema
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.markers import read_manifest
from curate.pipeline.workspace import Workspace
from curate.stages.filter.config import LID_176_LANGUAGES, FilterConfig
from curate.stages.filter.decisions import LANGUAGE, Failures, Policy, failures
from curate.stages.filter.languages import CODES, canonical
from curate.stages.filter.registry import NOT_MEASURED, registered, unknown
from curate.stages.filter.work import CHARACTERS, DECIDED_ROWS

FACTS = ("records", "kept_now", "kept_then", "flip_in", "flip_out", "characters_now", "characters_then")
"""What is counted of each language: documents but for the last two, which are characters of the documents kept."""
UNKNOWN = "unknown"
BOUNDS = ("min", "max", "is")
MEASURED = ("counting", "signals", "repeated_lines", "lines", "stop_words", "urls", "pii")
"""Sections of `filter` that change texts or what is measured of them."""
_OLDER = "{} was filtered by an older version: run `curate run filter` again"


@dataclass
class Answer:
    """The funnel as it is and as it would be: FACTS by language, and by rule the documents that fail it, and it alone."""

    settings: list[str]
    """The changes as `curate run filter --set` takes them."""
    languages: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    fails: dict[str, tuple[Counter[str], Counter[str]]] = field(
        default_factory=lambda: {time: (Counter(), Counter()) for time in ("now", "then")}
    )
    """For `now` and `then`: documents that fail a rule, and those that fail no other."""

    @property
    def total(self) -> npt.NDArray[np.int64]:
        return np.sum([np.zeros(len(FACTS), np.int64), *self.languages.values()], axis=0)

    @property
    def rules(self) -> list[str]:
        """Those that drop a document now or then, the commonest first."""
        both = self.fails["now"][0] + self.fails["then"][0]
        return sorted(both, key=lambda rule: (-both[rule], rule))

    def add(self, other: Answer) -> None:
        """Adds another shard's counts."""
        none = np.zeros(len(FACTS), np.int64)
        for code, facts in other.languages.items():
            self.languages[code] = self.languages.get(code, none) + facts
        for time, counters in other.fails.items():
            for mine, theirs in zip(self.fails[time], counters, strict=True):
                mine.update(theirs)

    def to_json(self) -> dict[str, Any]:
        def named(facts: npt.NDArray[np.int64]) -> dict[str, int]:
            return dict(zip(FACTS, facts.tolist(), strict=True))

        ranked = sorted(self.languages, key=lambda code: (-int(self.languages[code][0]), code))
        return {
            "settings": self.settings,
            "total": named(self.total),
            "languages": {code: named(self.languages[code]) for code in ranked},
            "rules": {
                rule: {
                    time: {"fail": fail[rule], "alone": alone[rule]} for time, (fail, alone) in self.fails.items()
                }
                for rule in self.rules
            },
        }  # fmt: skip


def changed(config: FilterConfig, changes: Sequence[str]) -> tuple[FilterConfig, list[str]]:
    """The configuration with changes such as `word_count.min=100`, and the same changes as settings of a recipe.

    Raises UsageError, with the nearest name, for one that names no rule, bound or language, or that makes no sense.
    """
    data = config.model_dump(mode="json")
    settings = []
    for change in changes:
        path, value = _path(change, config)
        written = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True).splitlines()[0]
        settings.append(f"filter.{'.'.join(path)}={written}")
        target = data
        for key in path[:-1]:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
        target[path[-1]] = value
        try:
            config = FilterConfig.model_validate(data)
        except ValidationError as error:
            said = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors())
            raise UsageError(f"{change}: {said}") from None
    return config, settings


def _path(change: str, config: FilterConfig) -> tuple[list[str], Any]:
    """Where in the section `filter` a change goes, and the value there."""
    name, equals, text = change.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(
            f"{change!r}: give RULE=VALUE, as in word_count.min=100, de.word_count.min=80 or word_count=off"
        )
    if keys[0] == "filter":
        keys = keys[1:]
    if keys[0] in ("rules", "rules_by_language"):
        keys = keys[1:]
    value = _value(change, text)
    if keys[:1] == ["language"]:
        return _language(change, keys, value, config)
    if keys and keys[0] in MEASURED:
        raise UsageError(
            f"{change}: {keys[0]} changes texts or what is measured of them, which cannot be told from what was measured "
            f"before: `curate run filter --set filter.{change}` measures again"
        )
    known = registered()
    if keys and keys[0] in known:
        return _rule(change, ["rules"], keys, value)
    code = canonical(keys[0]) if keys else None
    if code in CODES.values() or code in LID_176_LANGUAGES or (keys[1:2] and keys[1] in known):
        if keys[1:] and keys[1] not in known and keys[1] not in NOT_MEASURED:
            raise UsageError(f"{change}: no signal named {keys[1]!r}{nearest(keys[1], tuple(known))}")
        if keys[1:2] and keys[1] in known:
            return _rule(change, ["rules_by_language", str(code)], keys[1:], value)
    for name in keys[:2]:
        if name in NOT_MEASURED:
            raise UsageError(f"{change}: {unknown(name)}")
    names = (*known, "language.threshold", "language.languages")
    raise UsageError(f"{change}: no rule of this name{nearest('.'.join(keys), names)}")


def _value(change: str, text: str) -> Any:
    if text.strip().lower() in ("off", "null", "none"):
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"{change}: {text!r} is no number, no list, and neither true, false nor off") from None


def _language(change: str, keys: list[str], value: Any, config: FilterConfig) -> tuple[list[str], Any]:
    if config.language is None:
        raise UsageError(f"{change}: the recipe measures no language (filter.language is null)")
    if keys[1:] == ["languages"]:
        wanted = [part.strip() for part in value.split(",")] if isinstance(value, str) and value != "all" else value
        return keys, wanted
    if keys[1:] != ["threshold"]:
        name = ".".join(keys)
        raise UsageError(f"{change}: no such threshold{nearest(name, ('language.threshold', 'language.languages'))}")
    return keys, value


def _rule(change: str, above: list[str], keys: list[str], value: Any) -> tuple[list[str], Any]:
    """A rule, as `word_count.min` with a number or null, `word_count` with null, `lorem_ipsum` with true or false."""
    name, *bound = keys
    if not bound:
        if value is None:
            return [*above, name], None
        if registered()[name].kind != "bool":
            raise UsageError(f"{change}: say which bound: {name}.min={value}, {name}.max={value}, or {name}=off")
        bound = ["is"]
    if len(bound) > 1 or bound[0] not in BOUNDS:
        raise UsageError(f"{change}: unknown key {'.'.join(bound)!r}{nearest(bound[0], BOUNDS)}")
    return [*above, name, *bound], value


def what_if(workspace: Workspace, config: FilterConfig, changes: Sequence[str]) -> Answer:
    """How the funnel of the filter would change, by language and by rule, from the measures of every shard.

    `config` is what the filter ran with. Reads the columns that decide, batch by batch, and writes nothing. Raises
    UsageError where the filter has not finished, and where a rule asks for a signal that was not measured.
    """
    then, settings = changed(config, changes)
    policies = (Policy.of(config), Policy.of(then))
    paths = measures_of(workspace)
    _check_measured(workspace, paths, policies)
    answer = Answer(settings)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1) if workspace.is_local else 16) as pool:
        for part in pool.map(lambda path: _shard(workspace, path, policies), paths):
            answer.add(part)
    return answer


def measures_of(workspace: Workspace) -> list[str]:
    """The tables of measures of the filter's current shards."""
    manifest = read_manifest(workspace, "filter")
    if manifest is None or manifest.get("finished") is False:
        state = "no finished filter stage" if manifest is None else "a filter stage that has not finished"
        raise UsageError(f"{workspace.url} has {state}: run `curate run filter` first")
    if any("measures" not in entry for entry in manifest["shards"]):
        raise UsageError(_OLDER.format(workspace.url))
    return [entry["measures"]["path"] for entry in manifest["shards"]]


def _check_measured(workspace: Workspace, paths: Sequence[str], policies: Sequence[Policy]) -> None:
    if not paths:
        return
    with workspace.open(paths[0]) as stream:
        there = read_schema(stream).names
    if CHARACTERS not in there:
        raise UsageError(_OLDER.format(workspace.url))
    for name in dict.fromkeys(name for policy in policies for name in policy.columns):
        if name not in there:
            raise UsageError(
                f"{name} was not measured in {workspace.url} (filter.signals names what is): "
                "`curate run filter` with a rule on it measures it"
            )


def _shard(workspace: Workspace, path: str, policies: tuple[Policy, Policy]) -> Answer:
    columns = [LANGUAGE, CHARACTERS, *(name for policy in policies for name in policy.columns)]
    answer = Answer([])
    with workspace.open(path) as stream:
        for batch in read_batches(stream, list(dict.fromkeys(columns)), DECIDED_ROWS):
            found = tuple(failures(batch, policy) for policy in policies)
            fails = {time: each.rules for time, each in zip(("now", "then"), found, strict=True)}
            answer.add(Answer([], _by_language(batch, found), fails))
    return answer


def _by_language(batch: pa.RecordBatch, found: Sequence[Failures]) -> dict[str, npt.NDArray[np.int64]]:
    """FACTS of each language of a batch."""
    labels = batch.column(LANGUAGE).dictionary_encode()
    codes = [canonical(label) or UNKNOWN for label in labels.dictionary.to_pylist()] + [UNKNOWN]
    names = list(dict.fromkeys(codes))
    of_label = np.array([names.index(code) for code in codes])
    group = of_label[np.asarray(pc.fill_null(labels.indices, -1))]
    now, then = (each.keep for each in found)
    characters = batch.column(CHARACTERS).to_numpy()
    facts = np.zeros((len(names), len(FACTS)), np.int64)
    masks = (np.ones(len(group), np.bool_), now, then, ~now & then, now & ~then)
    for place, mask in enumerate(masks):
        facts[:, place] = np.bincount(group[mask], minlength=len(names))
    for place, mask in enumerate((now, then), len(masks)):
        facts[:, place] = np.bincount(group[mask], weights=characters[mask], minlength=len(names))
    return {name: facts[number] for number, name in enumerate(names) if facts[number, 0]}
