"""Decisions: which documents of a table of signals fail which rules, for whole columns at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.pipeline.documents import FAILED_RULE, LEDGER
from curate.pipeline.errors import UsageError, nearest
from curate.pipeline.ledger import DROPPED, FailedRule
from curate.stages.filter.languages import canonical, is_wanted
from curate.stages.filter.rules import Rule, laid_over, parse

if TYPE_CHECKING:
    from curate.stages.filter.config import FilterConfig

LANGUAGE, LANGUAGE_SCORE = "language", "language_score"
"""Columns of the table of measures, and reasons of the language step: another language than those wanted; a score below
the threshold."""

Table: TypeAlias = pa.RecordBatch | pa.Table


@dataclass(frozen=True)
class Policy:
    """What a document must be to be kept: its language, and the rules for that language in their order."""

    rules: Mapping[str, Rule]
    by_language: Mapping[str, Mapping[str, Rule]] = field(default_factory=dict)
    """All rules of the languages that have some of their own, by canonical code."""
    languages: frozenset[str] | None = None
    """Those wanted, as `languages.is_wanted` understands them; None: all."""
    threshold: float | None = None
    """The least score of the language; None: the language is not asked."""

    @classmethod
    def of(cls, config: FilterConfig) -> Policy:
        """That of a recipe."""
        by_language = {code: _active(laid_over(config.rules, own)) for code, own in config.rules_by_language.items()}
        if config.language is None:
            return cls(_active(config.rules), by_language)
        wanted = config.language.languages
        languages = None if wanted == "all" else frozenset(wanted)
        return cls(_active(config.rules), by_language, languages, config.language.threshold)

    @property
    def signals(self) -> list[str]:
        """The signals that the rules ask for, each once."""
        return list(dict.fromkeys(name for rules in (self.rules, *self.by_language.values()) for name in rules))

    @property
    def columns(self) -> list[str]:
        """The columns of the table of measures that decide."""
        asked = [LANGUAGE] if self.by_language or self.threshold is not None else []
        return [*asked, *([LANGUAGE_SCORE] if self.threshold is not None else []), *self.signals]

    def to_json(self) -> dict[str, Any]:
        """All that decisions depend on; lists keep the order of the rules."""
        plain = {code: _listed(rules) for code, rules in sorted(self.by_language.items())}
        languages = None if self.languages is None else sorted(self.languages)
        return {
            "rules": _listed(self.rules), "by_language": plain, "languages": languages, "threshold": self.threshold
        }  # fmt: skip


def _active(rules: Mapping[str, Rule | None]) -> dict[str, Rule]:
    return {name: rule for name, rule in rules.items() if rule is not None}


def _listed(rules: Mapping[str, Rule]) -> list[list[Any]]:
    return [[name, rule.bounds()] for name, rule in rules.items()]


@dataclass(frozen=True)
class Clause:
    """One bound of a rule; `threshold` is None for the language itself."""

    rule: str
    bound: str
    threshold: float | None


@dataclass(frozen=True)
class Failures:
    """What every document of a table failed: those of row r are number `first[r]` to `first[r + 1]`, in the order of the rules.

    `clause` is a number in `clauses`, `value` what was measured, a float32 as its shortest decimal.
    """

    clauses: Sequence[Clause]
    first: npt.NDArray[np.int64]
    clause: npt.NDArray[np.int32]
    value: npt.NDArray[np.float64]

    @property
    def keep(self) -> npt.NDArray[np.bool_]:
        """The documents that failed nothing."""
        return np.asarray(self.first[1:] == self.first[:-1])

    @property
    def reasons(self) -> Counter[str]:
        """Documents dropped by the rule that they failed first."""
        firsts = self.clause[self.first[:-1][~self.keep]]
        return self._by_rule(firsts)

    def _by_rule(self, clauses: npt.NDArray[np.int32]) -> Counter[str]:
        found: Counter[str] = Counter()
        for clause, number in zip(self.clauses, np.bincount(clauses, minlength=len(self.clauses)), strict=True):
            found[clause.rule] += int(number)
        return +found

    @property
    def rules(self) -> tuple[Counter[str], Counter[str]]:
        """By rule, the documents that fail it, and those that fail it and no other."""
        names = {name: number for number, name in enumerate(dict.fromkeys(clause.rule for clause in self.clauses))}
        numbers = np.array([names[clause.rule] for clause in self.clauses], np.int32)
        rows = np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))
        rule = numbers[self.clause] if len(self.clause) else self.clause
        # a document never fails two bounds of one rule, so an entry is a rule
        alone = np.diff(self.first)[rows] == 1
        failed, only = (np.bincount(found, minlength=len(names)).tolist() for found in (rule, rule[alone]))
        return +Counter(dict(zip(names, failed, strict=True))), +Counter(dict(zip(names, only, strict=True)))

    def lists(self) -> list[tuple[FailedRule, ...]]:
        """The failed rules of each document."""
        made = [
            FailedRule(self.clauses[number].rule, value, self.clauses[number].bound, self.clauses[number].threshold)
            for number, value in zip(self.clause.tolist(), self.value.tolist(), strict=True)
        ]
        first = self.first.tolist()
        return [tuple(made[start:stop]) for start, stop in pairwise(first)]


def decide(
    table: Table,
    rules: Mapping[str, Any],
    *,
    by_language: Mapping[str, Mapping[str, Any]] | None = None,
    languages: Sequence[str | None] | None = None,
) -> tuple[npt.NDArray[np.bool_], list[tuple[FailedRule, ...]]]:
    """Which documents of a table of signals pass every rule, and for each document the rules that it failed, in their order.

    `rules` are `Rule`s or plain values such as `{"word_count": {"min": 50}}`. `by_language` are rules that lie over them for
    the documents of one language, `languages` the documents' languages (labels of any model, or None), else the table's
    column `language`. Bounds are compared at the column's own precision. Raises UsageError for a rule that makes no sense, or
    whose signal the table lacks or has no number for.
    """
    base = parse(rules)
    over = {canonical(code) or code: own for code, own in (by_language or {}).items()}
    policy = Policy(_active(base), {code: _active(parse(own, over=base)) for code, own in over.items()})
    if languages is not None:
        if len(languages) != table.num_rows:
            raise UsageError(f"{len(languages)} languages for {table.num_rows} documents: give one each")
        table = pa.table({name: table.column(name) for name in table.schema.names if name != LANGUAGE})
        table = table.append_column(LANGUAGE, pa.array(languages, pa.string()))
    found = failures(table, policy)
    return found.keep, found.lists()


def failures(table: Table, policy: Policy) -> Failures:
    """All that the documents of a table of measures fail. UsageError where the table lacks a column that the rules need."""
    size = table.num_rows
    clauses: list[Clause] = []
    failing: list[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]] = []
    columns = {name: _values(table, name) for name in policy.columns if name != LANGUAGE}

    def ask(clause: Clause, rows: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> None:
        clauses.append(clause)
        failing.append((rows, values))

    labels = _labels(table) if LANGUAGE in policy.columns else None
    if labels is not None and policy.threshold is not None:
        score = columns[LANGUAGE_SCORE]
        if policy.languages is not None:
            rows = np.flatnonzero(~_wanted(labels, policy.languages))
            ask(Clause(LANGUAGE, "is", None), rows, score[rows])
        rows = np.flatnonzero(_fails(score, "min", policy.threshold))
        ask(Clause(LANGUAGE_SCORE, "min", policy.threshold), rows, score[rows])
    for rules, of_group in _groups(labels, policy, size):
        for name, rule in rules.items():
            values = columns[name] if of_group is None else columns[name][of_group]
            for bound, threshold in rule.bounds():
                rows = np.flatnonzero(_fails(values, bound, threshold))
                ask(Clause(name, bound, float(threshold)), rows if of_group is None else of_group[rows], values[rows])
    return _gathered(size, clauses, failing)


def _groups(
    labels: pa.DictionaryArray | None, policy: Policy, size: int
) -> list[tuple[Mapping[str, Rule], npt.NDArray[np.int64] | None]]:
    """Rules and the rows that they hold for; None: all rows."""
    if labels is None or not policy.by_language:
        return [(policy.rules, None)]
    own = list(policy.by_language)
    numbers = [own.index(code) if (code := canonical(label)) in own else len(own) for label in _names(labels)]
    group = np.array([*numbers, len(own)])[_codes(labels)]
    rules = [*policy.by_language.values(), policy.rules]
    return [(rules[number], np.flatnonzero(group == number)) for number in np.unique(group).tolist()]


def _gathered(
    size: int, clauses: Sequence[Clause], failing: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]
) -> Failures:
    first = np.zeros(size + 1, np.int64)
    for rows, _ in failing:
        first[rows + 1] += 1
    np.cumsum(first, out=first)
    place = first[:-1].copy()
    clause = np.empty(first[-1], np.int32)
    value = np.empty(first[-1], np.float64)
    for number, (rows, values) in enumerate(failing):
        at = place[rows]
        clause[at] = number
        value[at] = _decimals(values)
        place[rows] += 1
    return Failures(clauses, first, clause, value)


def _values(table: Table, name: str) -> npt.NDArray[Any]:
    if table.schema.get_field_index(name) < 0:
        raise UsageError(f"rules: {name}: the table has no such column{nearest(name, tuple(table.schema.names))}")
    column = table.column(name)
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise UsageError(f"rules: {name}: the table's column holds no numbers ({kind})")
    if column.null_count:
        raise UsageError(f"rules: {name}: {column.null_count} documents have no value, and would pass unasked")
    values: npt.NDArray[Any] = (
        column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    )
    return values


def _labels(table: Table) -> pa.DictionaryArray:
    if table.schema.get_field_index(LANGUAGE) < 0:
        raise UsageError("rules by language: give languages=, one a document, or a table with a column 'language'")
    column = table.column(LANGUAGE)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return column.dictionary_encode()


def _names(labels: pa.DictionaryArray) -> list[str]:
    names: list[str] = labels.dictionary.to_pylist()
    return names


def _codes(labels: pa.DictionaryArray) -> npt.NDArray[np.int64]:
    """Each document's number in `_names`; -1 where the language is not known."""
    return np.asarray(pc.fill_null(labels.indices, -1)).astype(np.int64)


def _wanted(labels: pa.DictionaryArray, languages: frozenset[str]) -> npt.NDArray[np.bool_]:
    named = [is_wanted(label, languages) for label in _names(labels)]
    return np.array([*named, False])[_codes(labels)]


def _fails(values: npt.NDArray[Any], bound: str, threshold: float) -> npt.NDArray[np.bool_]:
    """A float32 column meets the threshold rounded to float32, so that a fraction of exactly .2 is not above .2."""
    limit = np.float32(threshold) if values.dtype == np.float32 else np.float64(threshold)
    if bound == "min":
        return np.asarray(values < limit)
    if bound == "max":
        return np.asarray(values > limit)
    return np.asarray((values != 0) != bool(threshold))


def _decimals(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Values as float64, a float32 by its shortest decimal: .3, not .30000001192092896."""
    if values.dtype == np.float32:
        return np.asarray(pa.array(values).cast(pa.string()).cast(pa.float64()))
    return values.astype(np.float64)


def ledger_rows(stage: str, keys: pa.Table, table: Table, found: Failures) -> pa.Table:
    """The ledger rows of the documents that failed something; `keys` gives id, url, snapshot, source and offset of all.

    `table` gives the language, and the spans of addresses in the column `pii`, where it has them.
    """
    dropped = np.flatnonzero(~found.keep)
    rows = pa.array(dropped)
    taken = {name: column.take(rows) for name, column in zip(keys.schema.names, keys.columns, strict=True)}
    thresholds = pa.array([clause.threshold for clause in found.clauses], pa.float64())
    names = pa.array([clause.rule for clause in found.clauses], pa.string())
    bounds = pa.array([clause.bound for clause in found.clauses], pa.string())
    clause, first = pa.array(found.clause), found.first[:-1][dropped]
    failed = pa.StructArray.from_arrays(
        [names.take(clause), pa.array(found.value), bounds.take(clause), thresholds.take(clause)],
        fields=list(FAILED_RULE),
    )
    leading = pa.array(found.clause[first])
    reason = names.take(leading)
    size = len(dropped)
    detail = pa.nulls(size, pa.string())
    if LANGUAGE in table.schema.names:
        label = pc.fill_null(table.column(LANGUAGE).take(rows), "None")
        asked = pc.is_in(reason, pa.array([LANGUAGE, LANGUAGE_SCORE]))
        detail = pc.if_else(asked, pc.binary_join_element_wise("language", label, " "), pa.scalar(None, pa.string()))
    spans = pa.nulls(size, LEDGER.field("spans").type)
    if "pii" in table.schema.names:
        spans = table.column("pii").take(rows)
        spans = pc.if_else(pc.greater(pc.list_value_length(spans), 0), spans, pa.scalar(None, spans.type))
    columns = taken | {
        "stage": pa.repeat(stage, size),
        "outcome": pa.repeat(DROPPED, size),
        "reason": reason,
        "value": pa.array(found.value[first]),
        "threshold": thresholds.take(leading),
        "kept_id": pa.nulls(size, pa.string()),
        "detail": detail,
        "failed": pa.ListArray.from_arrays(pa.array([*first, found.first[-1]], pa.int32()), failed),
        "spans": spans,
    }
    return pa.table([columns[name] for name in LEDGER.names], names=LEDGER.names)
