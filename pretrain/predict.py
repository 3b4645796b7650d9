"""A fine-tuned classifier applied: a line out for every row in, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch

from curate.classifiers.rows import Columns, Raw, Tally, clean, raw_rows
from curate.pipeline.errors import UsageError
from curate.pretrain.classifier import Classifier, chances
from curate.pretrain.examples import Example, Rejected, collate, encode_text
from curate.pretrain.trained import Trained

READ = 1024
"""Rows that are read, and sorted by length, together."""
ROWS = 64
TOKENS = 16_384
"""Of a batch at most."""


def predict_rows(
    trained: Trained, files: Sequence[str], columns: Columns, rejected: Rejected, every: bool = False
) -> Iterator[dict[str, Any]]:
    """`id` (or `row`, the place, where there is none), `label`, `score` (its chance) and, with `every`, the `scores` of all.

    A row without text has neither, and a `problem`. UsageError where the model is no classifier.
    """
    if not isinstance(trained.model, Classifier):
        raise UsageError(
            f"{trained.checkpoint.name} is no classifier: make one with `curate finetune --label COLUMN --name NAME …`"
        )
    labels = trained.finetune["labels"]
    length = trained.finetune["length"]
    rows = raw_rows(files, columns, Tally())
    while chunk := list(islice(rows, READ)):
        rejected.rows += len(chunk)
        found = [_row(raw, rejected) for raw in chunk]
        texts = [(number, text) for number, (_, text) in enumerate(found) if text is not None]
        rejected.used += len(texts)
        examples = []
        for number, text in texts:
            place = f"{chunk[number].source.rpartition('/')[2]}:{chunk[number].number}"
            ids = encode_text(text, place, trained.encode, trained.eos, length, rejected)
            examples.append(Example(place, ids, label=number))
        for number, scores in label_chances(trained, examples):
            best = max(range(len(labels)), key=scores.__getitem__)
            found[number][0].update(label=labels[best], score=scores[best])
            if every:
                found[number][0]["scores"] = dict(zip(labels, scores, strict=True))
        yield from (line for line, _ in found)


def label_chances(trained: Trained, examples: Iterable[Example]) -> Iterator[tuple[int, list[float]]]:
    """(the number that an example has as its label, chances of the labels), in batches of like length."""
    assert isinstance(trained.model, Classifier)
    device = trained.model.embedding.weight.device
    waiting: list[Example] = []
    ordered = sorted(examples, key=lambda example: len(example.ids))
    for place, example in enumerate(ordered):
        waiting.append(example)
        following = len(ordered[place + 1].ids) if place + 1 < len(ordered) else 0
        if following and len(waiting) < ROWS and following * (len(waiting) + 1) <= TOKENS:
            continue
        batch = collate(waiting, "labels", trained.eos)
        assert batch.positions is not None
        lengths = torch.from_numpy(batch.positions[:, 0]).to(device)
        found = chances(trained.model, torch.from_numpy(batch.inputs).to(device), lengths).tolist()
        yield from ((each.label, scores) for each, scores in zip(waiting, found, strict=True))
        waiting = []


def _row(raw: Raw, rejected: Rejected) -> tuple[dict[str, Any], str | None]:
    """The line so far, and the text if there is one."""
    place = f"{raw.source.rpartition('/')[2]}:{raw.number}"
    name = raw.values.get("id")
    line: dict[str, Any] = {"row": place} if name is None else {"id": name}
    text = raw.values.get("text")
    problem = raw.problem or (None if isinstance(text, str) and text.strip() else "no text")
    if problem is not None:
        rejected.leave_out(problem, place)
        return line | {"label": None, "score": None, "problem": problem}, None
    return line, clean(str(text))
