"""What a model is fine-tuned on: rows of (input, output) or (text, label), as tokens, in batches bounded by tokens.

    rows = read_rows(["train.jsonl"], {"input": "question", "output": "answer"}, Rejected())
    examples = [encode_output(row, template, encode, eos, length, rejected) for row in rows]

Every row of a file is used, cut to length and said so, or left out with its reason and its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from curate.classifiers.labelled import label_text
from curate.classifiers.rows import Columns, Tally, clean, raw_rows
from curate.pipeline.errors import CurateError, UsageError
from curate.pretrain.data import Batch, Batches, Int64, key, permute
from curate.pretrain.loss import IGNORE

SHOWN = 3
"""Places named with each reason; all of them stand in the list that a run writes."""
GROUP = 16
"""Batches' worth of rows that are sorted by length together, so that little is filled up."""
ROUND = 8
"""Rows are filled up to a multiple of this."""

INPUT, OUTPUT = "{input}", "{output}"
TEMPLATE = f"{INPUT}\n{OUTPUT}"
SEPARATOR = "\n\n"
"""Between few-shot examples."""


@dataclass(frozen=True)
class Template:
    """How an input and an output become one text: `{input}` and then `{output}` each stand in it once, `\\n` is a new line."""

    text: str = TEMPLATE

    @classmethod
    def of(cls, text: str) -> Template:
        """From what a user wrote; UsageError where a part is missing or stands twice."""
        plain = text.replace("\\n", "\n")
        if plain.count(INPUT) != 1 or plain.count(OUTPUT) != 1 or plain.index(OUTPUT) < plain.index(INPUT):
            raise UsageError(f"template {text!r}: it must hold {INPUT} once, and {OUTPUT} once after it")
        return cls(plain)

    def before(self, value: str) -> str:
        """What stands before the output. Blanks at its end belong to the output, as tokenizers have it."""
        return self._before().rstrip(" ").replace(INPUT, value)

    def answer(self, output: str) -> str:
        """The output with the blanks before and what stands after it."""
        before = self._before()
        return before[len(before.rstrip(" ")) :] + output + self.text.partition(OUTPUT)[2]

    def output(self, written: str) -> str:
        """The output alone, of what was written after `before`: without what `answer` puts around it."""
        before = self._before()
        blanks, after = before[len(before.rstrip(" ")) :], self.text.partition(OUTPUT)[2]
        return written.removeprefix(blanks).removesuffix(after)

    def whole(self, value: str, output: str) -> str:
        return self.before(value) + self.answer(output)

    def prompt(self, value: str, shots: Sequence[tuple[str, str]] = ()) -> str:
        """Examples with their outputs, then the input whose output is asked for."""
        return "".join(self.whole(*shot) + SEPARATOR for shot in shots) + self.before(value)

    def _before(self) -> str:
        return self.text.partition(OUTPUT)[0]


@dataclass
class Rejected:
    """What was not used of the rows, or not all of it: how many by reason, and where they stand."""

    rows: int = 0
    used: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Places (`file:line`) of rows that are not used, by reason."""
    cut: dict[str, list[str]] = field(default_factory=dict)
    """Places of rows of which a part is used, by what was done."""

    def leave_out(self, reason: str, place: str) -> None:
        self.left_out.setdefault(reason, []).append(place)

    def shorten(self, what: str, place: str) -> None:
        self.cut.setdefault(what, []).append(place)

    def lines(self) -> list[str]:
        """For a person, one line a reason."""
        found = [f"{self.rows:,} rows, {self.used:,} used"]
        for reasons, verb in ((self.left_out, "left out: "), (self.cut, "")):
            for reason, places in sorted(reasons.items()):
                more = f" and {len(places) - SHOWN:,} more" if len(places) > SHOWN else ""
                found.append(f"{len(places):,} {verb}{reason} ({', '.join(places[:SHOWN])}{more})")
        return found

    def counts(self) -> dict[str, Any]:
        """For machines: rows = used + all of left_out."""
        return {
            "rows": self.rows,
            "used": self.used,
            "left_out": {reason: len(places) for reason, places in sorted(self.left_out.items())},
            "cut": {what: len(places) for what, places in sorted(self.cut.items())},
        }


@dataclass(frozen=True)
class Row:
    """A row's values by role, and where it stands."""

    place: str
    values: dict[str, str]


@dataclass(frozen=True)
class Example:
    """A row as tokens. Of outputs, `begin` is the first id that is to be predicted; of labels, `label` is the class."""

    place: str
    ids: Int64
    begin: int = 0
    label: int = 0


@dataclass(frozen=True)
class _PairColumns(Columns):
    """Columns of two texts; `text` is the first of them once more."""

    input: str = "input"
    output: str = "output"


def read_rows(files: Sequence[str], columns: Mapping[str, str], rejected: Rejected) -> Iterator[Row]:
    """The rows whose values are all there: `columns` names those of input and output, or of text and label.

    UsageError for a file or a column that is not there; rows that are malformed or empty are counted in `rejected`.
    """
    if "output" in columns:
        asked: Columns = _PairColumns(columns["input"], input=columns["input"], output=columns["output"])
        asked = replace(asked, optional=frozenset({"text"}))
    else:
        asked = Columns(text=columns["text"], label=columns["label"])
    for raw in raw_rows(files, asked, Tally()):
        rejected.rows += 1
        place = f"{raw.source.rpartition('/')[2]}:{raw.number}"
        values = {role: _text(role, raw.values.get(role)) for role in columns}
        missing = next((role for role, value in values.items() if value is None), None)
        if raw.problem is not None or missing is not None:
            rejected.leave_out(raw.problem or f"no {missing}", place)
            continue
        rejected.used += 1
        yield Row(place, {role: value for role, value in values.items() if value is not None})


def _text(role: str, value: Any) -> str | None:
    """A value as text; None where there is none."""
    if role == "label":
        return label_text(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return clean(value) if isinstance(value, str) and value.strip() else None


def encode_output(
    row: Row, template: Template, encode: Callable[[str], list[int]], eos: int, length: int, rejected: Rejected
) -> Example:
    """End-of-text token, input, output, end-of-text token: at most `length` + 1 ids.

    Of what is too long, the beginning of the input goes first, then the end of the output.
    """
    before = encode(template.before(row.values["input"]))
    after = [*encode(template.answer(row.values["output"])), eos]
    if len(after) > length:
        after = after[:length]
        rejected.shorten(f"cut: the output is longer than {length - 1:,} tokens", row.place)
        before = []
    elif len(before) + len(after) > length:
        before = before[len(before) + len(after) - length :]
        rejected.shorten(f"cut at the input's beginning: longer than {length:,} tokens", row.place)
    return Example(row.place, np.array([eos, *before, *after], dtype=np.int64), begin=1 + len(before))


def encode_text(
    text: str, place: str, encode: Callable[[str], list[int]], eos: int, length: int, rejected: Rejected
) -> Int64:
    """End-of-text token and text: at most `length` ids, its end cut."""
    ids = encode(text)
    if len(ids) >= length:
        ids = ids[: length - 1]
        rejected.shorten(f"cut at the end: longer than {length - 1:,} tokens", place)
    return np.array([eos, *ids], dtype=np.int64)


def split(keys: Sequence[str], fraction: float, seed: int) -> list[bool]:
    """True for what is held out: about `fraction` of the distinct keys, equal keys on one side, whatever their order."""
    distinct = sorted(set(keys), key=lambda text: hashlib.sha256(f"{seed} {text}".encode()).digest())
    count = min(max(1, round(fraction * len(distinct))), len(distinct) - 1) if fraction else 0
    held = set(distinct[: max(0, count)])
    return [text in held for text in keys]


class ExampleBatches(Batches):
    """Batches of examples, each a function of (seed, step).

    An epoch visits every example once. Examples of like length stand together and are filled up on the right with `pad`;
    a batch has at most `batch_size` of them and `batch_tokens` tokens, with what is filled up, but at least one example.
    """

    def __init__(
        self, examples: Sequence[Example], *, task: str, seed: int, pad: int, batch_size: int, batch_tokens: int
    ) -> None:
        if not examples:
            raise CurateError("there are no rows to learn from")
        self.examples = list(examples)
        self.task = task
        self.seed = seed
        self.pad = pad
        self._most, self._most_tokens = batch_size, batch_tokens
        self._sizes = np.array([len(example.ids) for example in self.examples])
        self._plans: dict[int, list[Int64]] = {}
        self._ends: list[int] = []
        self.masking = None
        # What a step has on average: rates and sums in the log are made of it.
        plan = self._plan(0)
        self.batch_size, self.length = 1, max(1, round(float(self._sizes.sum()) / len(plan)))
        self.windows = len(plan)

    def steps(self, epochs: int) -> int:
        """Batches of the first epochs."""
        while len(self._ends) < epochs:
            self._ends.append((self._ends or [0])[-1] + len(self._plan(len(self._ends))))
        return self._ends[epochs - 1]

    def chosen(self, step: int) -> Int64:
        """Numbers of the examples in a step's batch."""
        epoch = 0
        while self.steps(epoch + 1) <= step:
            epoch += 1
        return self._plan(epoch)[step - (self.steps(epoch) if epoch else 0)]

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step: for labels, targets are the labels and positions the lengths, both (batch, 1)."""
        return collate([self.examples[number] for number in self.chosen(step)[rows]], self.task, self.pad)

    def documents(self, step: int) -> list[str]:
        """Where the rows of a step's batch stand."""
        return [self.examples[number].place for number in self.chosen(step)]

    def starts(self, step: int) -> Int64:
        raise NotImplementedError("examples are no windows of a token set")

    def _plan(self, epoch: int) -> list[Int64]:
        found = self._plans.get(epoch)
        if found is None:
            for old in sorted(self._plans)[:-2]:
                self._plans.pop(old, None)
            count = len(self.examples)
            order = permute(np.arange(count), count, key("examples", self.seed, epoch))
            size = GROUP * self._most
            groups = [order[begin : begin + size] for begin in range(0, count, size)]
            packs = [
                pack for group in groups for pack in self._packs(group[np.argsort(self._sizes[group], kind="stable")])
            ]
            shuffled = permute(np.arange(len(packs)), len(packs), key("batches", self.seed, epoch))
            found = self._plans[epoch] = [packs[number] for number in shuffled]
        return found

    def _packs(self, order: Int64) -> Iterator[Int64]:
        """Cuts a group, sorted by length, into batches within the bounds."""
        begin = 0
        for end in range(1, len(order) + 1):
            full = end == len(order) or end - begin == self._most
            if full or (end + 1 - begin) * _filled(int(self._sizes[order[end]])) > self._most_tokens:
                yield order[begin:end]
                begin = end


def _filled(size: int) -> int:
    return -(-size // ROUND) * ROUND


def collate(examples: Sequence[Example], task: str, pad: int) -> Batch:
    """Examples as one batch, filled up on the right (see `ExampleBatches.batch`)."""
    taken = [example.ids[:-1] if task == "outputs" else example.ids for example in examples]
    inputs = np.full((len(taken), _filled(max(map(len, taken)))), pad, dtype=np.int64)
    for row, ids in enumerate(taken):
        inputs[row, : len(ids)] = ids
    if task == "labels":
        lengths = np.array([[len(ids)] for ids in taken], dtype=np.int64)
        return Batch(inputs, np.array([[example.label] for example in examples], dtype=np.int64), lengths)
    targets = np.full(inputs.shape, IGNORE, dtype=np.int64)
    for row, example in enumerate(examples):
        targets[row, example.begin - 1 : len(example.ids) - 1] = example.ids[example.begin :]
    return Batch(inputs, targets)
