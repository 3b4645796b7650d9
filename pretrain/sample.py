"""What a model writes: a seeded continuation, or the words that a masked model puts in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from curate.pretrain.data import Masking, corrupted
from curate.pretrain.loss import IGNORE
from curate.pretrain.model import Transformer
from curate.pretrain.tokens import TokenSet


@torch.no_grad()
def generate(
    model: Transformer, prompt: list[int], *, count: int, length: int, eos: int, seed: int, temperature: float = 0.8
) -> list[int]:
    """Up to `count` ids after the prompt, which follows an end-of-text token; ends before the next end-of-text token.

    Sees the last `length` tokens. Draws on the CPU, so the same seed gives the same text wherever the logits are equal.
    """
    random = torch.Generator().manual_seed(seed)
    ids = [eos, *prompt]
    device = model.embedding.weight.device
    for _ in range(count):
        window = torch.tensor([ids[-length:]], device=device)
        hidden = model.hidden(window)[:, -1]
        logits = (hidden @ model.head_weight.to(hidden.dtype).T)[0].float().cpu()
        if temperature:
            chances = torch.softmax(logits / temperature, dim=-1)
            chosen = int(torch.multinomial(chances, 1, generator=random))
        else:
            chosen = int(logits.argmax())
        if chosen == eos:
            break
        ids.append(chosen)
    return ids[1 + len(prompt) :]


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
        written = generate(model, start, count=count, length=length, eos=tokens.eos, seed=seed, temperature=temperature)
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
