"""Text from a checkpoint: prompts continued, with examples or without, or the masks in them filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.pipeline.errors import UsageError
from curate.pretrain.sample import Sampling, continuations, guesses
from curate.pretrain.trained import MASK, Trained

BROKEN = "\ufffd"
"""What a decoder gives for bytes that are no whole character yet."""


@dataclass(frozen=True)
class Writing:
    """How prompts are continued."""

    count: int = 200
    """Tokens at most."""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    batch: int = 16
    """Prompts continued together."""


def write(
    trained: Trained, prompts: Sequence[str], how: Writing, heard: Callable[[int, str], None] | None = None
) -> list[dict[str, Any]]:
    """Of each prompt: `prompt`, `text`, `tokens`, why it ended (`finish` is end, stop or count), and `unseen`: tokens at the
    beginning of the prompt that are too many for the model to read.

    `heard` (number of the prompt, new text) is called as the text comes. The end-of-text token stands before each prompt;
    special tokens in it are read as such. Raises UsageError where the model does not continue texts.
    """
    model = trained.model
    if trained.task == "labels":
        raise UsageError(f"{trained.checkpoint.name} is a classifier and writes nothing: use `curate predict`")
    if not model.shape.causal:
        raise UsageError(
            f"a masked model does not continue a text: write {MASK} in the prompt where words are to be put in"
        )
    found: list[dict[str, Any]] = []
    for begin in range(0, len(prompts), how.batch):
        part = prompts[begin : begin + how.batch]
        texts = [_Text(trained, how.stop, heard, begin + number) for number in range(len(part))]
        read = [_ids(trained, prompt) for prompt in part]
        ids = continuations(
            model,
            read,
            count=how.count, length=trained.length, eos=trained.eos, vocab_size=trained.vocab_size, seed=how.seed,
            sampling=how.sampling, ends=lambda number, ids, texts=texts: texts[number].add(ids), first=begin,
        )  # fmt: skip
        for prompt, seen, text, row in zip(part, read, texts, ids, strict=True):
            finish = "stop" if text.stopped else ("count" if len(row) == how.count else "end")
            facts = {"prompt": prompt, "text": text.close(row), "tokens": len(row), "finish": finish}
            found.append(facts | {"unseen": max(0, len(seen) - trained.length)})
    return found


def fill_masks(trained: Trained, prompt: str, top: int = 5) -> dict[str, Any]:
    """What a masked model puts in for each [MASK]: `prompt`, `text` with the likeliest, `masks` with the `top` likeliest.

    Raises UsageError where there is nothing to fill or more text than the model reads.
    """
    assert trained.mask is not None
    parts = [_ids(trained, part) for part in prompt.split(MASK)]
    if len(parts) < 2:
        raise UsageError(f"a masked model fills in words: write {MASK} in the prompt where they are to stand")
    ids = list(parts[0])
    for part in parts[1:]:
        ids += [trained.mask, *part]
    if len(ids) > trained.length:
        raise UsageError(f"the prompt has {len(ids):,} tokens, the model reads {trained.length:,}: give less text")
    masks = guesses(trained.model, ids, trained.mask, trained.vocab_size, top)
    chosen = iter(masks)
    text = trained.decode([next(chosen)[0][0] if token == trained.mask else token for token in ids])
    shown = [[{"token": trained.decode([token]), "score": chance} for token, chance in mask] for mask in masks]
    return {"prompt": prompt, "text": text, "masks": shown}


def _ids(trained: Trained, prompt: str) -> list[int]:
    tokenizer = trained.tokenizer
    tokenizer.encode_special_tokens = False
    try:
        return list(tokenizer.encode(prompt, add_special_tokens=False).ids)
    finally:
        tokenizer.encode_special_tokens = True


class _Text:
    """The text of ids as they come: given on when its characters are whole and can be no part of a stop any more."""

    def __init__(
        self, trained: Trained, stops: Sequence[str], heard: Callable[[int, str], None] | None, number: int
    ) -> None:
        self._trained, self._stops, self._heard, self._number = trained, tuple(stops), heard, number
        self._given = 0
        self.stopped = False

    def add(self, ids: list[int]) -> bool:
        """True if the text has come to a stop."""
        if not self._stops and self._heard is None:
            return False
        text = self._trained.decode(ids)
        ends = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        self.stopped = bool(ends)
        whole = min(ends) if ends else len(text.rstrip(BROKEN)) - self._waiting(text.rstrip(BROKEN))
        self._give(text, whole)
        return self.stopped

    def close(self, ids: list[int]) -> str:
        """The whole text, of which the rest is given on."""
        text = self._trained.decode(ids)
        ends = [place for place in (text.find(stop) for stop in self._stops) if place >= 0]
        text = text[: min(ends)] if ends else text
        self._give(text, len(text))
        return text

    def _waiting(self, text: str) -> int:
        """Characters at the end with which a stop may begin."""
        sizes = (size for stop in self._stops for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size]))
        return max(sizes, default=0)

    def _give(self, text: str, end: int) -> None:
        if end > self._given:
            if self._heard is not None:
                self._heard(self._number, text[self._given : end])
            self._given = end
