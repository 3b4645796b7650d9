"""What an ablation found: comparisons by measure, notes on how far they can be trusted, lines for a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from curate.mixtures.ablate import (
    ACCURACY,
    BUCKETS,
    POWER,
    RESULT,
    TASKS,
    TEXTS,
    WITHIN_NOISE,
    Comparison,
    Floats,
    Measure,
    compare,
    judge,
    needed,
)
from curate.mixtures.ablate_runs import values
from curate.mixtures.ablate_texts import HeldText, Side, facts
from curate.pipeline.errors import CurateError
from curate.pipeline.tables import grid, printable, printable_lines
from curate.pipeline.workspace import redact
from curate.pretrain.config import Training

MOST_BUCKETS = 20
"""Lines shown of the buckets: those of the most documents."""
_UNLIKE_PASSES = 1.5
_SEEDS = 5
"""With fewer runs a side it is said how little they show."""

Rows = Sequence[Sequence[Mapping[str, Any]]]


def compare_runs(
    sides: Sequence[Side], configs: Sequence[Training], texts: Sequence[HeldText], rows: Rows, *, level: float = 0.05
) -> dict[str, Any]:
    """The result: every side against the first, by each measure. `rows`: of each side, as of `ablate_runs.run_all`.

    Raises CurateError where fewer than two runs of a side came to their end.
    """
    good = [[row for row in own if row["diverged"] is None] for own in rows]
    for side, own in zip(sides, good, strict=True):
        if len(own) < 2:
            raise CurateError(
                f"{side.name}: {len(configs) - len(own)} of {len(configs)} runs diverged: give a lower learning rate "
                f"(--set pretrain.lr={configs[0].lr / 2:g}), or more --seeds"
            )
    found: list[tuple[int, Comparison]] = []
    for number in range(1, len(sides)):
        for measure, name, metric, weights, chosen in _measures(texts, good[0][0]):
            first, second = (_scores(own, f"{name}{metric}", chosen) for own in (good[0], good[number]))
            found.append((number, compare(measure, first, second, weights, level=level)))
    judged = judge([item for _, item in found])
    pairs = [
        {
            "first": sides[0].name,
            "second": sides[number].name,
            "comparisons": [
                item.to_json() for (own, _), item in zip(found, judged, strict=True) if own == number
            ],
        }
        for number in range(1, len(sides))
    ]  # fmt: skip
    notes = [*_notes(sides, configs, texts, rows), *_floor_notes(sides, good)]
    return {
        "schema_version": 1,
        "level": level,
        "power": POWER,
        "seeds": [config.seed for config in configs],
        "config": configs[0].learning(),
        "tokens": rows[0][0]["tokens"],
        "parameters": rows[0][0]["parameters"],
        "workspaces": [_facts(side, own) for side, own in zip(sides, rows, strict=True)],
        "texts": facts(texts),
        "pairs": pairs,
        "tasks": {side.name: [row["tasks"] for row in own] for side, own in zip(sides, good, strict=True)},
        "notes": notes,
    }


def _facts(side: Side, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tokens = side.tokens
    return {
        "name": side.name,
        "mix_tokens": tokens.tokens,
        "mix_sha256": tokens.sha256,
        "bytes_per_token": tokens.bytes / max(tokens.tokens, 1),
        "tokenizer": side.vocabulary[0],
        "passes": rows[0]["passes"],
        "train_loss": [row["train_loss"] for row in rows],
        "diverged": [row["seed"] for row in rows if row["diverged"] is not None],
    }


def _scores(rows: Sequence[Mapping[str, Any]], name: str, chosen: np.ndarray[Any, Any] | None) -> Floats:
    found = values(rows, name)
    return found if chosen is None else found[:, chosen]


_Asked = tuple[Measure, str, str, Floats | None, "np.ndarray[Any, Any] | None"]


def _measures(texts: Sequence[HeldText], row: Mapping[str, Any]) -> Iterator[_Asked]:
    """Each measure with its name among a row's scores, the weights of its items and which of them it takes."""
    for name, scores in row["tasks"].items():
        yield Measure(name, TASKS), f"task {name}", " bits_per_byte", None, None
        if scores["primary"].startswith("accuracy"):
            yield Measure(name, ACCURACY, True), f"task {name}", f" {scores['primary']}", None, None
    usable = {text.digest: text for text in texts if text.ids}
    alone = len(usable) == 1
    for text in usable.values():
        weights = text.bytes.astype(np.float64)
        yield Measure("of all" if alone else f"of {text.side.name}", TEXTS), f"text {text.digest}", "", weights, None
        own = np.array(text.buckets)
        for bucket in sorted(set(text.buckets)) if len(set(text.buckets)) > 1 else ():
            here = own == bucket
            name = bucket if alone else f"{text.side.name}: {bucket}"
            yield Measure(name, BUCKETS), f"text {text.digest}", "", weights[here], here


def _notes(sides: Sequence[Side], configs: Sequence[Training], texts: Sequence[HeldText], rows: Rows) -> Iterator[str]:
    """What stands between the numbers and a conclusion, for people."""
    seeds = len(configs)
    if seeds < _SEEDS:
        few, more = ((needed(count), needed(count, 8)) for count in (seeds, _SEEDS))
        yield (
            f"{seeds} runs a side show only a difference of {few[0]:.1f} standard deviations of a run, {few[1]:.1f} where "
            f"eight tasks share the level ({_SEEDS} runs: {more[0]:.1f} and {more[1]:.1f}): `within noise` is no proof that "
            f"nothing differs (--seeds {_SEEDS})"
        )
    for side, own in zip(sides, rows, strict=True):
        gone = [str(row["seed"]) for row in own if row["diverged"] is not None]
        if gone:
            yield f"{side.name}: seed {', '.join(gone)} diverged and is left out of every number"
    turns = [own[0]["passes"] for own in rows]
    if max(turns) > 1 and max(turns) > _UNLIKE_PASSES * min(turns):
        told = ", ".join(f"{side.name} {turn:.2f} times" for side, turn in zip(sides, turns, strict=True))
        yield f"the runs go through the mixes unequally often ({told}): part of a difference may be that of repeats"
    if len({side.tokens.sha256 for side in sides}) < len(sides):
        yield "two of the mixes are the same tokens in the same order: their runs are the same"
    if len({side.vocabulary for side in sides}) > 1:
        told = ", ".join(f"{side.name} {side.tokens.bytes / side.tokens.tokens:.2f}" for side in sides)
        first, others = sides[0], [side for side in sides[1:] if side.vocabulary != sides[0].vocabulary]
        path = f"{redact(first.workspace.url)}/mix/tokenizer.json"
        yield (
            f"the tokenizers differ (bytes a token: {told}): bits per byte stay comparable, but equal tokens are unequal text, "
            f"and the tokenizer is compared as well. For one tokenizer: curate mix -w {redact(others[0].workspace.url)} "
            f"--set mix.tokenizer.path={path}"
        )
    yield from _text_notes(sides, texts)


def _text_notes(sides: Sequence[Side], texts: Sequence[HeldText]) -> Iterator[str]:
    for side in sides:
        if side.name not in {text.side.name for text in texts}:
            yield f"{side.name} holds no text out (mix.validation): nothing is measured on it"
    for text in texts:
        gone = {name: count for name, count in text.leaked.items() if count}
        told = ", ".join(f"{name} trains on {count:,}" for name, count in gone.items())
        if gone:
            line = f"{text.side.name} holds {text.documents:,} documents out, of which {told}: they are left out"
            if text.ids:
                line += f", and what is left is no fair sample of {text.side.name}, but what the others lack"
            yield f"{line}. Mixes of one seed and one mix.validation hold the same documents out (--set seed=…)"
        if text.unreadable:
            yield f"{text.side.name}: {text.unreadable:,} held-out documents are not given back by its tokenizer: left out"


def _floor_notes(sides: Sequence[Side], good: Rows) -> Iterator[str]:
    """Accuracies that are guesses on every side."""
    guessed = []
    for name, first in good[0][0]["tasks"].items():
        metric = first["primary"]
        if not metric.startswith("accuracy") or first["chance"] is None:
            continue
        error = first["stderr"][metric] or 0.0
        means = [statistics.fmean(row["tasks"][name][metric] for row in own) for own in good]
        if max(means) < first["chance"] + 2 * error:
            guessed.append(name)
    if guessed:
        yield f"at this size no side does better than guessing in {', '.join(guessed)}: look at bits per byte"


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """The result for people: a table a pair, then notes."""
    runs, size = len(result["seeds"]), result["parameters"]["all"]
    lines = []
    for pair in result["pairs"]:
        first, second = pair["first"], pair["second"]
        lines += [
            "",
            f"{second} against {first}: {size:,} parameters, {result['tokens']:,} tokens, {runs} seeds",
        ]
        interval = f"difference [{100 * (1 - result['level']):g} % interval]"
        heads = ("", first, second, interval, "p (Holm)", "verdict")
        for family, unit in (
            (TASKS, "bits per byte of the right answer, less is better"), (ACCURACY, "more is better"),
            (TEXTS, "bits per byte, less is better"), (BUCKETS, "bits per byte of held-out text, less is better"),
        ):  # fmt: skip
            own = [item for item in pair["comparisons"] if item["family"] == family]
            if own:
                lines += ["", f"{family}: {unit}", *_table(own, heads)]
        lines += [_summary(pair)]
    return [printable(line) for line in lines] + [f"note: {printable_lines(note)}" for note in result["notes"]]


def _table(own: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> list[str]:
    shown = own
    if own[0]["family"] == BUCKETS:
        shown = sorted(own, key=lambda item: -item["items"])[:MOST_BUCKETS]
    rows = [
        [
            item["name"],
            _spread(item["first"]),
            _spread(item["second"]),
            f"{item['difference']:+.4f} [{item['low']:+.4f}, {item['high']:+.4f}]",
            f"{item['p_holm']:.3f}",
            item["verdict"] + (f" (seen from {item['detectable']:.4f})" if item["verdict"] == WITHIN_NOISE else ""),
        ]
        for item in shown
    ]
    more = [f"… and {len(own) - len(shown)} more in {RESULT}"] if len(own) > len(shown) else []
    return grid(heads, rows, left=(0, 5)) + more


def _spread(runs: Sequence[float]) -> str:
    return f"{statistics.fmean(runs):.4f}±{statistics.stdev(runs):.4f}"


def _summary(pair: Mapping[str, Any]) -> str:
    told = []
    for family in (TASKS, ACCURACY, TEXTS, BUCKETS):
        verdicts = [item["verdict"] for item in pair["comparisons"] if item["family"] == family]
        if verdicts:
            counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)]
            told.append(f"{family}: {', '.join(counts)}")
    return f"{pair['second']} is, of {'; '.join(told)}"
