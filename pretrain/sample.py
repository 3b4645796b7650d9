"""What a model writes: seeded continuations of prompts, or the words that a masked model puts in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from curate.pretrain.data import Masking, corrupted, key
from curate.pretrain.loss import IGNORE
from curate.pretrain.model import KeyValues, Transformer
from curate.pretrain.tokens import TokenSet


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the model's chances."""

    temperature: float = 0.8
    """The logits are divided by it; 0: the likeliest token each time."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have at least this chance (Holtzman et al. 2020)."""

    def choose(self, logits: Tensor, random: torch.Generator) -> int:
        """An id, from the logits (vocabulary,) of one position, on the CPU."""
        if not self.temperature:
            return int(logits.argmax())
        values, ids = logits.float().div(self.temperature).sort(descending=True, stable=True)
        if self.top_k:
            values = values[: self.top_k]
        chances = torch.softmax(values, dim=-1)
        # A token belongs to them if those before it fall short of the bound: there is always one.
        chances[chances.cumsum(dim=-1) - chances >= self.top_p] = 0.0
        return int(ids[torch.multinomial(chances, 1, generator=random)])


class Reader:
    """Rows of ids being read by a causal model, which keeps what it computed of them: a token more costs one token's work.

    Where a row has reached `length` tokens, the last half is read again as a text of its own: the model always sees at
    least the last `length // 2` tokens and at most `length`, at positions that it knows from training.
    """

    def __init__(self, model: Transformer, length: int) -> None:
        self.model = model
        self.length = max(2, length)
        self._device = model.embedding.weight.device
        self._rows: list[list[int]] = []
        self._memory: list[KeyValues] = []
        self._used = 0
        self._blank = torch.empty(0)

    def read(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Reads rows of at least one id each, of which the last `length` count; logits (rows, vocabulary) of what follows."""
        self._rows = [list(row[-self.length :]) for row in rows]
        longest = max(map(len, self._rows))
        blank = [longest - len(row) for row in self._rows]
        tokens = torch.tensor([[0] * missing + row for missing, row in zip(blank, self._rows, strict=True)])
        self._blank = torch.tensor(blank, device=self._device)[:, None]
        model, self._used = self.model, 0
        self._memory = [
            KeyValues(model.shape, len(rows), self.length, model.dtype, self._device) for _ in range(model.shape.layers)
        ]
        return self._advance(tokens.to(self._device))

    def add(self, ids: Sequence[int]) -> Tensor:
        """One id more in each row; logits (rows, vocabulary) of what follows."""
        rows = [[*row, token] for row, token in zip(self._rows, ids, strict=True)]
        if self._used == self.length:
            return self.read([row[-(self.length // 2) :] if len(row) > self.length else row for row in rows])
        self._rows = rows
        return self._advance(torch.tensor(ids, device=self._device)[:, None])

    def _advance(self, tokens: Tensor) -> Tensor:
        """Rows are filled up on the left, where nothing looks; each counts its positions from its own first token."""
        begin, self._used = self._used, self._used + tokens.size(1)
        place = torch.arange(self._used, device=self._device)
        now = place[begin:, None]
        seen = (place >= self._blank[:, :, None]) & (place <= now)
        mask = (seen | (place == now))[:, None]  # what is filled up sees itself, for a softmax over nothing is NaN
        positions = (place[begin:] - self._blank).clamp(min=0)
        cos, sin = (table[positions][:, None] for table in self.model.rotation(self.length, self._device))
        hidden = self.model.trunk(tokens, cos, sin, mask, self._memory)[:, -1]
        return F.linear(hidden, self.model.head_weight.to(hidden.dtype)).float()


@torch.no_grad()
def continuations(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    count: int,
    length: int,
    eos: int,
    vocab_size: int | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    ends: Callable[[int, list[int]], bool] | None = None,
    heard: Callable[[int, int], None] | None = None,
    first: int = 0,
) -> list[list[int]]:
    """Up to `count` ids after each prompt, which follows an end-of-text token; ends before the next end-of-text token.

    Ids of `vocab_size` and beyond are never drawn: the rows of the embedding that were added for a GPU's sake. `ends`
    (number of the prompt, its ids so far) may end one earlier; `heard` (number, id) is called with every id as it comes.
    Each prompt has random numbers of its own, drawn on the CPU from the seed and its number, the first being `first`: the
    text is the same in whatever company, where the logits are.
    """
    how = sampling or Sampling()
    randoms = [_random(seed, first + number) for number in range(len(prompts))]
    found: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts))) if count else set()
    if not open_rows:
        return found
    reader = Reader(model, length)
    logits = reader.read([[eos, *prompt] for prompt in prompts])
    while True:
        known = logits[:, :vocab_size].cpu()
        chosen = [eos] * len(prompts)
        for number in sorted(open_rows):
            chosen[number] = token = how.choose(known[number], randoms[number])
            if token == eos:
                open_rows.remove(number)
                continue
            found[number].append(token)
            if heard is not None:
                heard(number, token)
            if len(found[number]) == count or (ends is not None and ends(number, found[number])):
                open_rows.remove(number)
        if not open_rows:
            return found
        logits = reader.add(chosen)


def _random(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(key("sample", seed, number)[0]) & (2**63 - 1))


def generate(
    model: Transformer,
    prompt: list[int],
    *,
    count: int,
    length: int,
    eos: int,
    seed: int,
    temperature: float = 0.8,
    vocab_size: int | None = None,
) -> list[int]:
    """The continuation of one prompt (`continuations`)."""
    return continuations(
        model, [prompt], count=count, length=length, eos=eos, vocab_size=vocab_size, seed=seed,
        sampling=Sampling(temperature),
    )[0]  # fmt: skip


@torch.no_grad()
def fill(model: Transformer, ids: list[int], masking: Masking, seed: int) -> tuple[list[int], list[int]]:
    """(what a masked model saw, what it made of it): the corrupted ids, and the same with its likeliest ids put in."""
    batch = corrupted(np.asarray([ids], dtype=np.int64), masking, [0], seed)
    assert batch.positions is not None
    logits = model(torch.from_numpy(batch.inputs).to(model.embedding.weight.device))[0]
    seen = batch.inputs[0].tolist()
    filled = list(seen)
    for position, target in zip(batch.positions[0], batch.targets[0], strict=True):
        if target != IGNORE:
            filled[position] = int(logits[position, : masking.vocab_size].argmax())
    return seen, filled


@torch.no_grad()
def guesses(
    model: Transformer, ids: list[int], mask: int, vocab_size: int, count: int = 5
) -> list[list[tuple[int, float]]]:
    """What a masked model takes each `mask` in `ids` for: its likeliest ids with their chances, the likeliest first."""
    logits = model(torch.tensor([ids], device=model.embedding.weight.device))[0, :, :vocab_size].float().cpu()
    found = []
    for position in (place for place, token in enumerate(ids) if token == mask):
        logits[position, mask:][:1] = -torch.inf
        best = torch.softmax(logits[position], dim=-1).topk(min(count, vocab_size))
        found.append([(int(token), float(chance)) for chance, token in zip(*best, strict=True)])
    return found


def text_sample(
    model: Transformer,
    tokenizer: Any,
    tokens: TokenSet,
    *,
    prompt: str,
    count: int,
    length: int,
    seed: int,
    temperature: float,
    masking: Masking | None,
) -> dict[str, str]:
    """A sample as text: {prompt, text} of a causal model, {masked, text} of a masked one; empty where `count` is 0.

    `tokenizer` is a `tokenizers.Tokenizer`. A masked model fills in the beginning of `tokens`.
    """
    if not count:
        return {}
    if masking is None:
        start = tokenizer.encode(prompt, add_special_tokens=False).ids if prompt else []
        written = generate(
            model, start, count=count, length=length, eos=tokens.eos, seed=seed, temperature=temperature,
            vocab_size=tokens.vocab_size,
        )  # fmt: skip
        return {"prompt": prompt, "text": tokenizer.decode(start + written, skip_special_tokens=False)}
    ids = tokens.window(0, min(count, length, tokens.tokens)).astype(np.int64).tolist()
    seen, filled = fill(model, ids, masking, seed)
    return {
        "masked": _with_masks(tokenizer, seen, masking.mask),
        "text": tokenizer.decode(filled, skip_special_tokens=False),
    }


def _with_masks(tokenizer: Any, ids: list[int], mask: int) -> str:
    """Decodes what lies between the masks, which the tokenizer may not know."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == mask:
            parts.append([])
        else:
            parts[-1].append(token)
    return "[MASK]".join(tokenizer.decode(part, skip_special_tokens=False) for part in parts)
